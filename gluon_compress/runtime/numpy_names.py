"""Names that NumPy removed and that MXNet 1.9.1 or gluoncv 0.10.5 still read, put back where they are missing.

Names that they read on import would make the import fail, the others a call: gluoncv's Faster R-CNN reads
``numpy.float``, ``mx.np.pad`` reads ``numpy.compat``. ``tests/test_surroundings.py`` reads their source and finds no
other.
"""
from __future__ import annotations

import types
import warnings
from collections.abc import Callable
from typing import Any

import numpy

FINANCIAL = ("mirr", "npv", "pmt", "ppmt", "pv", "rate")


def restore_names(module: Any = numpy) -> tuple[str, ...]:
    """Put the names back that ``module`` lacks; return them, sorted."""
    missing = [name for name in REMOVED if not _has(module, name)]
    for name in missing:
        setattr(module, name, REMOVED[name])
    return tuple(sorted(missing))


def _has(module: Any, name: str) -> bool:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # NumPy 1.20 to 1.23 still has some, with a warning
        return hasattr(module, name)


def _in1d(ar1: Any, ar2: Any, assume_unique: bool = False, invert: bool = False, **options: Any) -> Any:
    return numpy.isin(numpy.ravel(ar1), ar2, assume_unique=assume_unique, invert=invert, **options)


def _msort(a: Any) -> numpy.ndarray:
    return numpy.sort(a, axis=0)


def _under_its_old_name(function: Callable[..., Any]) -> Callable[..., Any]:
    """A new function, as MXNet's table from NumPy's functions to its own needs one entry for each name."""
    def renamed(*arguments: Any, **options: Any) -> Any:
        return function(*arguments, **options)
    renamed.__doc__ = function.__doc__
    return renamed


def _financial(name: str) -> Callable[..., Any]:
    """What NumPy 1.20 to 1.26 has in place of its financial functions."""
    def removed(*_: Any, **__: Any) -> Any:
        raise RuntimeError(f"numpy.{name} left NumPy in version 1.20; accepted: numpy_financial.{name}")
    return removed


# name: what NumPy had under it while it had it; but ``bool`` was Python's own, which MXNet would not find in its tables
# of types, as ``numpy.bool_`` stands there.
REMOVED = {
    # removed in NumPy 1.24
    "bool": numpy.bool_, "float": float, "int": int,
    # removed in NumPy 2
    "Inf": numpy.inf, "NAN": numpy.nan, "NaN": numpy.nan, "NINF": -numpy.inf, "NZERO": -0.0, "PINF": numpy.inf,
    "PZERO": 0.0,
    "alltrue": _under_its_old_name(numpy.all), "msort": _msort, "product": _under_its_old_name(numpy.prod),
    "round_": _under_its_old_name(numpy.round), "sometrue": _under_its_old_name(numpy.any),
    "compat": types.SimpleNamespace(basestring=str),
    **{name: _financial(name) for name in FINANCIAL},
    # removed in NumPy 2.4
    "in1d": _in1d,
    "trapz": _under_its_old_name(getattr(numpy, "trapezoid" if hasattr(numpy, "trapezoid") else "trapz")),
}
