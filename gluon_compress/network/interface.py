"""MXNet's two interfaces: the classic one, ``mx.nd``, and the one like NumPy, ``mx.np`` under ``npx.set_np()``.

A network belongs for good to the one in which it was initialized, as its parameters' arrays show, and computes only
while the process is in that interface's mode. No other module knows of the modes.
"""
from __future__ import annotations

import functools
import re
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager, nullcontext
from dataclasses import dataclass
from typing import Any

import mxnet as mx

from .inputs import flat

NUMPY_OPERATOR = r'"op": "_np[ix]?_'  # in the JSON of a graph, also in the body of a loop


@dataclass(frozen=True)
class Interface:
    """One of the two."""

    is_numpy: bool

    @contextmanager
    def active(self) -> Iterator[None]:
        """The process is in this interface's mode within the ``with`` block, afterwards in the one that it was in."""
        with ExitStack() as stack:
            if self.is_numpy:  # MXNet takes NumPy's arrays only together with NumPy's shapes
                stack.enter_context(mx.util.np_shape(True))
                stack.enter_context(mx.util.np_array(True))
            elif mx.util.is_np_array():
                stack.enter_context(mx.util.np_array(False))
                stack.enter_context(mx.util.np_shape(False))
            yield

    def own(self, value: Any) -> Any:
        """An array or Symbol in this interface; of lists and tuples, each in them. Anything else stays as it is.

        The arrays share their memory, and autograd follows from the one to the other.
        """
        if isinstance(value, (tuple, list)):
            return (list if isinstance(value, list) else tuple)(map(self.own, value))
        if not isinstance(value, (mx.nd.NDArray, mx.sym.Symbol)) or is_numpy(value) == self.is_numpy:
            return value
        return value.as_np_ndarray() if self.is_numpy else value.as_nd_ndarray()

    def array(self, value: Any, context: mx.Context | None = None, dtype: Any = None) -> mx.nd.NDArray:
        """A new array with the values, and by default the type, of a NumPy array."""
        # not mx.nd.array, which asks SciPy about sparse arrays and warns
        return self.own(mx.nd.ndarray.array(value, context, value.dtype if dtype is None else dtype))


CLASSIC, NUMPY = Interface(False), Interface(True)


def is_numpy(value: Any) -> bool:
    """Whether a value is an array or a Symbol of the NumPy interface."""
    return isinstance(value, (mx.np.ndarray, mx.sym.np._Symbol))


def interface_of_array(array: Any) -> Interface:
    """The interface of an array or Symbol; the classic one for anything else."""
    return NUMPY if is_numpy(array) else CLASSIC


def active_interface() -> Interface:
    """The interface whose mode the process is in."""
    return NUMPY if mx.util.is_np_array() else CLASSIC


# Graphs. Ours are Symbols of the classic interface, also where they hold operators of the other one.

def has_numpy_operators(symbol: mx.sym.Symbol) -> bool:
    """Whether a graph has operators of the NumPy interface, which compute only with NumPy's shapes."""
    return re.search(NUMPY_OPERATOR, symbol.tojson()) is not None


def in_classic(function: Callable, values: Sequence[Any], numpy_shapes: bool = False) -> Any:
    """``function(*values)``, computed in the classic interface; the result belongs to that of the first array."""
    needs_change = numpy_shapes or mx.util.is_np_array()  # otherwise small networks need not wait for it
    with classic_graph(numpy_shapes) if needs_change else nullcontext():
        result = function(*CLASSIC.own(values))
    return interface_of_array(next(iter(flat(values)), None)).own(result)


def in_both_interfaces(hybrid_forward: Callable) -> Callable:
    """Let a ``hybrid_forward`` that is written with classic operators compute under ``npx.set_np()``, too."""
    @functools.wraps(hybrid_forward)
    def forward(block: Any, F: Any, *inputs: Any, **parameters: Any) -> Any:
        needs_classic = mx.util.is_np_array() and F in (mx.nd, mx.sym)  # and not operators of the caller's own
        return hybrid_forward(block, _ClassicOperators(F) if needs_classic else F, *inputs, **parameters)
    return forward


class _ClassicOperators:
    """The operators of ``F``; they take and give arrays of either interface."""

    def __init__(self, F: Any) -> None:
        self._F = F

    def __getattr__(self, name: str) -> Callable:
        operator = getattr(self._F, name)
        return lambda *arrays, **attributes: in_classic(functools.partial(operator, **attributes), arrays)


@contextmanager
def classic_graph(numpy_shapes: bool) -> Iterator[None]:
    """MXNet computes a classic graph within the ``with`` block, with NumPy's shapes: ``()`` is that of a scalar."""
    with CLASSIC.active(), mx.util.np_shape(numpy_shapes or has_numpy_shapes()):
        yield


def has_numpy_shapes() -> bool:
    """Whether MXNet computes with NumPy's shapes now."""
    return bool(mx.util.is_np_shape())


def is_known(shape: tuple[int, ...] | None) -> bool:
    """Whether MXNet has found a shape, as its inference gives it within :func:`classic_graph`."""
    if shape is None:
        return False
    return -1 not in shape if has_numpy_shapes() else bool(shape) and 0 not in shape
