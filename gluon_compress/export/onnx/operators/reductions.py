"""Reductions, sorting, and picking by index."""
from __future__ import annotations

import numpy as np

from ....network.nodes import Node
from ..lengths import Samples
from ..table import Unsupported, writes
from ..writer import Writer

KINDS = {"mean": "Mean", "sum": "Sum", "prod": "Prod", "max": "Max", "min": "Min", "nansum": "Sum", "nanprod": "Prod",
         "_npi_mean": "Mean", "_np_sum": "Sum", "_np_prod": "Prod", "_np_max": "Max", "_np_min": "Min"}


def axes_of(node: Node, axes: int) -> list[int]:
    """The axes over which it reduces, from the front."""
    axis = node.get("axes") if node.operator == "moments" else node.get("axis")
    named = [axis] if isinstance(axis, int) else list(axis or ())
    chosen = sorted({each % axes for each in named})
    if node.get("exclude"):
        return [each for each in range(axes) if each not in chosen]
    return chosen or list(range(axes))


@writes(*KINDS)
def reduction(node: Node, write: Writer) -> str:
    data, tensor = write.data(node), write.tensor(node)
    if node.get("initial") is not None:
        raise Unsupported("with a value to begin with")
    if node.operator.startswith("nan"):
        neutral = write.constant(0 if node.operator == "nansum" else 1, tensor.dtype)
        data = write("Where", write("IsNaN", data), neutral, data)
    if write.made(node).dtype != tensor.dtype:
        data = write.cast(data, write.made(node).dtype)
    return _kept(node, write, write.reduce(KINDS[node.operator], data, axes_of(node, len(tensor.lengths)),
                                           bool(node.get("keepdims"))))


def _kept(node: Node, write: Writer, made: str) -> str:
    """Of all numbers MXNet's classic interface makes one of one axis."""
    axes = len(write.tensor(node).lengths)
    everything = len(axes_of(node, axes)) == axes and not node.get("keepdims")
    return write.unsqueeze(made, 0) if everything and len(write.made(node).lengths) == 1 else made


@writes("norm", "_npi_norm")
def norm(node: Node, write: Writer) -> str:
    order, data, axes = node.get("ord", 2), write.data(node), axes_of(node, len(write.tensor(node).lengths))
    if order not in (1, 2) or node.get("out_dtype") is not None or node.operator == "_npi_norm" and (
            node.get("flag", 0) > 1 or len(axes) > 1):
        raise Unsupported(f"of order {order} and type {node.get('out_dtype')}")
    return _kept(node, write, write.reduce(f"L{order}", data, axes, bool(node.get("keepdims"))))


@writes("moments")
def moments(node: Node, write: Writer) -> list[str]:
    """Mean and variance."""
    data, axes = write.data(node), axes_of(node, len(write.tensor(node).lengths))
    keep = bool(node.get("keepdims"))
    distance = write("Sub", data, write.reduce("Mean", data, axes))
    return [_kept(node, write, write.reduce("Mean", each, axes, keep))
            for each in (data, write("Mul", distance, distance))]


@writes("_npi_var", "_npi_std")
def variance(node: Node, write: Writer) -> str:
    data, axes = write.data(node), axes_of(node, len(write.tensor(node).lengths))
    if node.get("ddof", 0):
        raise Unsupported("with ddof")
    distance = write("Sub", data, write.reduce("Mean", data, axes))
    made = write.reduce("Mean", write("Mul", distance, distance), axes, bool(node.get("keepdims")))
    return made if node.operator == "_npi_var" else write("Sqrt", made)


@writes("argmax", "argmin", "argmax_channel", "_npi_argmax", "_npi_argmin")
def argmax(node: Node, write: Writer) -> str:
    """The first of equal ones, as a number of the type that MXNet makes."""
    data, lengths = write.data(node), write.tensor(node).lengths
    kind = "ArgMin" if node.operator.endswith("argmin") else "ArgMax"
    axis = 1 if node.operator == "argmax_channel" else node.get("axis")
    keep = int(bool(node.get("keepdims")))
    if axis is None:
        data, axis = write("Reshape", data, write.integers(-1)), 0
        keep = len(write.made(node).lengths)
        if keep > 1:
            raise Unsupported("of all axes with keepdims")
    found = write(kind, data, axis=axis % len(lengths) if len(lengths) else 0, keepdims=keep)
    return found if write.made(node).dtype == np.int64 else write.cast(found, write.made(node).dtype)


@writes("sort", "argsort", "topk")
def topk(node: Node, write: Writer) -> str | list[str]:
    """The largest or smallest numbers of an axis, in order; of sort and argsort all of them."""
    data, tensor = write.data(node), write.tensor(node)
    axis = node.get("axis", -1)
    lengths = list(tensor.lengths)
    if axis is None:
        data, lengths, axis = write("Reshape", data, write.integers(-1)), list(write.made(node).lengths), 0
    axis %= len(lengths)
    of_topk = node.operator == "topk"
    count = lengths[axis] if not of_topk or node.get("k", 1) < 1 else node.get("k", 1)
    ascending = node.get("is_ascend", not of_topk)
    values, indices = write("TopK", data, write.lengths([count]), outputs=2, axis=axis, largest=int(not ascending))
    kind = {"sort": "value", "argsort": "indices"}.get(node.operator, node.get("ret_typ", "indices"))
    if kind == "value":
        return values
    if kind == "mask":
        return _mask(node, write, indices, axis)
    dtype = write.made(node, 1 if kind == "both" else 0).dtype
    indices = indices if dtype == np.int64 else write.cast(indices, dtype)
    return [values, indices] if kind == "both" else indices


def _mask(node: Node, write: Writer, indices: str, axis: int) -> str:
    """1 at the indices, else 0."""
    made = write.made(node)
    lengths = [node.get("k", 1) if index == axis else length for index, length in enumerate(made.lengths)]
    ones = write.expand(write.constant(1, made.dtype), lengths)
    return write("ScatterElements", write.filled(made, 0), indices, ones, axis=axis)


@writes("cumsum", "_np_cumsum")
def cumsum(node: Node, write: Writer) -> str:
    data, axis = write.data(node), node.get("axis")
    if write.made(node).dtype != write.tensor(node).dtype:
        data = write.cast(data, write.made(node).dtype)
    if axis is None:
        data, axis = write("Reshape", data, write.integers(-1)), 0
    return write("CumSum", data, write.constant(axis % len(write.made(node).lengths), np.int64))


@writes("pick", "batch_take")
def pick(node: Node, write: Writer) -> str:
    """One number of each row, by index."""
    data, tensor = write.data(node), write.tensor(node)
    axis = 1 if node.operator == "batch_take" else node.get("axis", -1)
    axes = len(tensor.lengths)
    if axis is None or isinstance(tensor.lengths[axis % axes], Samples):
        raise Unsupported("along the batch")
    axis %= axes
    indices = limited(node, write, write.name(node.inputs[1]), tensor.shape[axis], node.get("mode", "clip"))
    kept = len(write.tensor(node, 1).lengths) == axes
    found = write("GatherElements", data, indices if kept else write.unsqueeze(indices, axis), axis=axis)
    return found if node.get("keepdims") else write.squeeze(found, axis)


@writes("take", "_npi_take")
def take(node: Node, write: Writer) -> str:
    data, tensor, axis = write.data(node), write.tensor(node), node.get("axis", 0)
    if axis is None:
        data, axis, length = write("Reshape", data, write.integers(-1)), 0, int(np.prod(tensor.shape))
    else:
        axis %= len(tensor.lengths)
        length = tensor.shape[axis]
    if any(isinstance(each, Samples) for each in tensor.lengths[axis:axis + 1]) and node.get("mode", "clip") != "raise":
        raise Unsupported("along the batch")
    return write("Gather", data, limited(node, write, write.name(node.inputs[1]), length, node.get("mode", "clip"),
                                         write.value(node, 1)), axis=axis)


def limited(node: Node, write: Writer, indices: str, length: int, mode: str, value: np.ndarray | None = None) -> str:
    """Indices within a length: those beyond it are the last one, or begin anew."""
    if value is not None and ((value >= 0) & (value < length)).all():
        return write.constant(value, np.int64)
    indices = write.indices(indices)
    if mode == "wrap":
        return write("Mod", indices, write.constant(length, np.int64))
    if mode == "raise":
        return indices
    return write("Clip", indices, write.constant(0, np.int64), write.constant(length - 1, np.int64))


@writes("gather_nd")
def gather_nd(node: Node, write: Writer) -> str:
    """MXNet's indices have the axis that counts the axes first, ONNX's last."""
    axes = len(write.tensor(node, 1).lengths)
    return write("GatherND", write.data(node),
                 write.transpose(write.indices(write.name(node.inputs[1])), *range(1, axes), 0))


@writes("scatter_nd")
def scatter_nd(node: Node, write: Writer) -> str:
    axes = len(write.tensor(node, 1).lengths)
    indices = write.transpose(write.indices(write.name(node.inputs[1])), *range(1, axes), 0)
    return write("ScatterND", write.filled(write.made(node), 0), indices, write.data(node))


@writes("one_hot", "_npx_one_hot")
def one_hot(node: Node, write: Writer) -> str:
    """A row of zeros for an index out of range, as no number of a row equals it."""
    places = write.constant(np.arange(node.get("depth")), np.int64)
    indices = write.unsqueeze(write.indices(write.data(node)), len(write.tensor(node).lengths))
    values = [write.like(node, node.get(name, default)) for name, default in (("on_value", 1), ("off_value", 0))]
    return write("Where", write("Equal", indices, places), *values)
