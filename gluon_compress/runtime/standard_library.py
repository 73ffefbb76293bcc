"""What Python removed from its standard library and MXNet 1.9.1 and gluoncv 0.10.5 still import: ``distutils``.

``tests/test_surroundings.py`` reads the imports in their source and finds no other.
"""
from __future__ import annotations

import importlib.util


def restore_distutils() -> str:
    """Let setuptools stand in for ``distutils``, which Python 3.12 removed; return the one that is imported."""
    found = importlib.util.find_spec("distutils")
    if found is None:  # an installation of setuptools without its hook at Python's start
        _import_setuptools()
        found = importlib.util.find_spec("distutils")
    origin = found.origin if found is not None else None
    return "setuptools' copy" if "setuptools" in (origin or "") else "Python's own"


def _import_setuptools() -> None:
    """Setuptools puts its own copy in place of ``distutils`` when it is imported."""
    try:
        import setuptools  # noqa: F401
    except ImportError:
        raise ImportError("MXNet 1.9.1 imports distutils, which Python 3.12 removed; setuptools, which has a copy, is "
                          "not installed; accepted: pip install setuptools") from None
