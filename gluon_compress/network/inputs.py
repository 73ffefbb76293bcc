"""Example inputs of a network: arrays, tuples of arrays, lists in tuples."""
from __future__ import annotations

from collections.abc import Callable
from typing import Any

import mxnet as mx
import numpy as np

from ..arguments import shown


class ExampleInputs(tuple):
    """The arrays of an example as a flat list; ``nested`` has them in the form that the network is called with."""

    nested: Any

    def __new__(cls, nested: Any) -> ExampleInputs:
        self = super().__new__(cls, flat(nested))
        self.nested = nested
        return self


def example_inputs(example: Any) -> ExampleInputs:
    """``example`` as :class:`ExampleInputs`; else ``TypeError`` or ``ValueError``.

    It is an NDArray or ``mx.np`` array, a tuple of them for several inputs, lists in it for inputs that are lists, or
    an ``mx.io.DataBatch``. NumPy arrays become NDArrays.
    """
    if isinstance(example, ExampleInputs):
        return example
    if isinstance(example, mx.io.DataBatch):
        example = tuple(example.data)
    inputs = map_arrays(_as_array, tuple(example) if isinstance(example, (tuple, list)) else (example,))
    wrong = [value for value in flat(inputs) if not isinstance(value, mx.nd.NDArray)]
    if wrong or not flat(inputs):
        nested = isinstance(example, (tuple, list))
        found = f"{'holds' if nested else 'is'} {shown(wrong[0])}" if wrong else "is empty"
        raise TypeError(f"example {found}; accepted: an NDArray batch of the network's input, or a tuple of them for "
                        f"several inputs")
    for value in flat(inputs):
        if value.ndim == 0 or 0 in value.shape:
            raise ValueError(f"example has shape {value.shape}; accepted: a batch of at least one sample")
    return ExampleInputs(inputs)


def _as_array(value: Any) -> Any:
    if isinstance(value, np.ndarray) and value.dtype.kind in "iuf":
        small = value.dtype.itemsize == 1 and value.dtype.kind in "iu"
        return mx.nd.array(value, dtype=value.dtype if small else np.float32)
    return value


def flat(inputs: Any) -> list:
    """The arrays in nested lists and tuples, as a flat list."""
    if not isinstance(inputs, (tuple, list)):
        return [inputs]
    return [array for each in inputs for array in flat(each)]


def map_arrays(function: Callable[[Any], Any], inputs: Any) -> Any:
    """The same nested lists and tuples, with ``function`` applied to each array."""
    if isinstance(inputs, (tuple, list)):
        return (list if isinstance(inputs, list) else tuple)(map_arrays(function, each) for each in inputs)
    return function(inputs)
