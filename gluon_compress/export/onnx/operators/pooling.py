"""Pooling over windows."""
from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np

from ....network.nodes import Node
from ..lengths import Length, Samples
from ..table import Unsupported, writes
from ..writer import Writer

GLOBAL = {"max": "GlobalMaxPool", "avg": "GlobalAveragePool"}


@writes("Pooling")
def pooling(node: Node, write: Writer) -> str:
    data, lengths = write.data(node), write.tensor(node).lengths
    layout, axes = node.get("layout") or "NC", len(lengths)
    if not layout.startswith("NC"):
        first = (0, axes - 1, *range(1, axes - 1))
        data, lengths = write("Transpose", data, perm=first), [lengths[axis] for axis in first]
    whole = node.get("global_pool") or _one_window(node, write, lengths[2:])
    made = _global(node, write, data, axes) if whole else _windows(node, write, data, lengths[2:])
    return made if layout.startswith("NC") else write("Transpose", made, perm=(0, *range(2, axes), 1))


def _one_window(node: Node, write: Writer, lengths: Sequence[Length]) -> bool:
    """Whether the only window is all of the plane: engines have a faster kernel for it than for a large window."""
    made = write.made(node).lengths
    outputs = made[2:] if (node.get("layout") or "NC").startswith("NC") else made[1:-1]
    return (tuple(node.get("kernel")) == tuple(lengths) and not any(node.get("pad") or ())
            and all(length == 1 for length in outputs))


def _global(node: Node, write: Writer, data: str, axes: int) -> str:
    kind = node.get("pool_type")
    if kind in GLOBAL:
        return write(GLOBAL[kind], data)
    power = _power(node)
    return _root(write, write.reduce("Sum", _raised(write, data, power), range(2, axes)), power)


def _windows(node: Node, write: Writer, data: str, lengths: Sequence[Length]) -> str:
    kernel, kind = node.get("kernel"), node.get("pool_type")
    stride = node.get("stride") or (1,) * len(kernel)
    pad = node.get("pad") or (0,) * len(kernel)
    # windows that begin before the end and reach beyond it, which ONNX's ceil_mode takes for others
    beyond = [_beyond(*each) for each in zip(lengths, write.made(node).lengths[2:], kernel, stride, pad)]
    ends = [begin + more for begin, more in zip(pad, beyond)]
    if kind == "max":
        if any(end >= window for end, window in zip(ends, kernel)):
            lowest = float(np.finfo(write.made(node).dtype).min)  # what MXNet gives where there is no pixel
            data, pad, ends = write.pad(data, pad, ends, lowest), (0,) * len(pad), (0,) * len(pad)
        return write("MaxPool", data, kernel_shape=kernel, strides=stride, pads=(*pad, *ends))
    if kind == "avg":
        return _average(node, write, data, pad, beyond)
    power = _power(node)
    data = write.pad(_raised(write, data, power), pad, ends, 0)
    mean = write("AveragePool", data, kernel_shape=kernel, strides=stride)
    return _root(write, write("Mul", mean, write.constant(math.prod(kernel), write.made(node).dtype)), power)


def _beyond(length: Length, made: Length, window: int, step: int, pad: int) -> int:
    if isinstance(length, Samples) or isinstance(made, Samples):
        raise Unsupported("along the batch")
    return max(0, (made - 1) * step + window - length - 2 * pad)


def _average(node: Node, write: Writer, data: str, pad: Sequence[int], beyond: Sequence[int]) -> str:
    """What lies beyond the padding never counts, the padding by default."""
    kernel, counts = node.get("kernel"), node.get("count_include_pad") in (None, True)
    ends = [begin + more for begin, more in zip(pad, beyond)]
    if any(more >= window for more, window in zip(beyond, kernel)):
        raise Unsupported("with windows that see no pixel")
    if counts and any(pad) and (any(beyond) or any(end >= window for end, window in zip(pad, kernel))):
        data, pad, ends, counts = write.pad(data, pad, pad, 0), (0,) * len(pad), beyond, False
    counts = counts and not any(beyond)
    return write("AveragePool", data, kernel_shape=kernel, strides=node.get("stride") or (1,) * len(kernel),
                 pads=(*pad, *ends), count_include_pad=int(counts))


def _power(node: Node) -> int:
    return node.get("p_value") if node.get("pool_type") == "lp" else 1


def _raised(write: Writer, data: str, power: int) -> str:
    """x^p, with its sign."""
    for factor in [data] * (power - 1):
        data = write("Mul", data, factor)
    return data


def _root(write: Writer, data: str, power: int) -> str:
    if power == 1:
        return data
    if power == 2:
        return write("Sqrt", data)
    third = write("Pow", write("Abs", data), write.constant(1 / 3, np.float32))
    return write("Mul", write("Sign", data), third)
