"""MXNet's import in three quarters of its time: without SciPy's statistics, and without looking for garbage.

The statistics are imported when MXNet reads them, which it hardly ever does. Python's garbage collector, which looks
through all objects again and again while thousands of functions are made, waits until they are there.
"""
from __future__ import annotations

import gc
import importlib
import importlib.util
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

STATISTICS = "scipy.stats"
# {module of MXNet: its name for them}: one method of its quantization, and its own tests
READERS = {"mxnet.contrib.quantization": "stats", "mxnet.test_utils": "ss"}


class Late:
    """A module that is imported when something of it is read."""

    def __init__(self, name: str) -> None:
        self._name = name

    def __getattr__(self, attribute: str) -> Any:
        return getattr(importlib.import_module(self._name), attribute)


@contextmanager
def no_garbage_collected() -> Iterator[None]:
    """Within, Python does not look for cycles of objects that nobody needs."""
    collected = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if collected:
            gc.enable()


@contextmanager
def late_statistics() -> Iterator[None]:
    """Within, MXNet is imported as if SciPy had no statistics; afterwards it finds them."""
    if STATISTICS in sys.modules or "mxnet" in sys.modules or importlib.util.find_spec("scipy") is None:
        yield
        return
    sys.modules[STATISTICS] = None  # type: ignore[assignment]  # as Python says that there is no such module
    try:
        yield
    finally:
        del sys.modules[STATISTICS]
        for module, name in READERS.items():
            if module in sys.modules:
                setattr(sys.modules[module], name, Late(STATISTICS))
