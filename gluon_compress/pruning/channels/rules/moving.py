"""Elements that only move: reshape, transpose, split, slice, tile, pad."""
from __future__ import annotations

from collections.abc import Iterator

import mxnet as mx
import numpy as np

from ....network.nodes import Node
from ....network.numbers import Place, positions, set_numbers
from ....network.values import value_of
from ..tracking import STAYS, Labels, Tracker
from .table import Inputs, Outputs, axis_of, only_on, rule, stop


BEFORE_PRODUCTS = ("Reshape", "transpose", "SwapAxis", "expand_dims", "_mul_scalar", "_div_scalar", "_copy", "Dropout",
                   "_contrib_div_sqrt_dim", "Concat", "stack")


@rule("Flatten", "Reshape")
def _reshape(node: Node, inputs: Inputs, tracker: Tracker) -> Outputs:
    """The axis of the channels may be merged with others or split; one part of a split axis can shrink.

    That is the part whose length no attribute has; of attention's (heads, channels of each head) it is the heads.
    """
    data = inputs[0]
    if data is None:
        return [None]
    ways = [(axis, rows, attributes) for axis, rows in _moved(data, node.input_shape(0), node.shapes[0])
            for attributes in _shrinking(node, data.axis, axis, rows[0], tracker)]
    heads_first = len(ways) > 1 and _ends_in_products(node, tracker)
    for axis, rows, numbers in ways if heads_first else sorted(ways, key=lambda way: len(way[2])):
        labels = _along(axis, rows, node, tracker)
        for position in numbers:
            tracker.count(node, node.meaning.numbers[0], position, labels.ids)
        return [labels]
    return stop(node, inputs, tracker, f"to the fixed shape {node.attributes.get('shape')}")


@rule("reshape_like")
def _reshape_like(node: Node, inputs: Inputs, tracker: Tracker) -> Outputs:
    data, like = inputs
    if data is None or like is None:
        return stop(node, inputs, tracker, "to the shape of another tensor whose channels stay")
    for axis, rows in _moved(data, node.input_shape(0), node.shapes[0]):
        if axis == like.axis and node.shapes[0] == node.input_shape(1):
            tracker.same(rows[0], like.ids, f"laid like channels that stay by reshape_like ({node.name})")
            return [_along(axis, rows, node, tracker)]
    return stop(node, inputs, tracker, "to the shape of another tensor")


def _moved(data: Labels, shape: tuple[int, ...], target: tuple[int, ...]) -> Iterator[tuple[int, np.ndarray]]:
    """(axis, labels along it in each row) of the axes of ``target`` to which a reshape moves labels."""
    if data.axis and shape[0] == target[0]:
        shape, target = (1, *shape[1:]), (1, *target[1:])  # nothing is mixed with the batch
    along_axis = [-1 if axis == data.axis else 1 for axis in range(len(shape))]
    moved = np.broadcast_to(data.ids.reshape(along_axis), shape).reshape(target)
    for axis in range(len(target)):
        if (moved != moved.take([0], axis)).any():
            yield axis, np.moveaxis(moved, axis, -1).reshape(-1, target[axis])


def _along(axis: int, rows: np.ndarray, node: Node, tracker: Tracker) -> Labels:
    """:class:`Labels` of a tensor whose rows lose the same positions."""
    for row in {row.tobytes(): row for row in rows}.values():  # once each; np.unique turns Ctrl-C into a TypeError
        tracker.same(rows[0], row, f"laid beside channels that stay by {node.operator} ({node.name})")
    return Labels(axis, rows[0])


def _shrinking(node: Node, axis: int, target_axis: int, ids: np.ndarray,
               tracker: Tracker) -> Iterator[list[int | None]]:
    """Ways in which an input without the first channel becomes an output without it.

    Each is a list of the positions of the numbers that change in the operator's attribute: none, or one.
    """
    size = int((ids != ids[0]).sum())  # of the target axis without that channel
    shape, target = list(node.input_shape(0)), list(node.shapes[0])
    smaller, rest = divmod(shape[axis] * size, target[target_axis])
    if not smaller or rest:
        return
    before = target[target_axis]
    shape[axis], target[target_axis] = smaller, size
    if _reshapes(node, shape, target, {}):
        yield []
        return
    for attribute in node.meaning.numbers:
        for position, number in positions(node, attribute):
            if number == before and tracker.can_count(node, attribute, position) and \
                    _reshapes(node, shape, target, {Place(node.name, attribute, position): size}):
                yield [position]
                return


def _reshapes(node: Node, shape: list[int], target: list[int], numbers: dict[Place, int]) -> bool:
    """Whether MXNet reshapes ``shape`` to ``target`` by the node's attributes with these numbers in them."""
    other = Node(node.name, node.operator, node.settings)
    set_numbers(other, numbers)
    operator = getattr(mx.sym, node.operator)(mx.sym.var("data"), **other.attributes)
    try:
        return operator.infer_shape_partial(data=tuple(shape))[1] == [tuple(target)]
    except mx.MXNetError:
        return False


def _ends_in_products(node: Node, tracker: Tracker) -> bool:
    """Whether batch_dot reads what it makes, after nothing but moves and scaling: the heads of attention."""
    pending = [node]
    while pending:
        moved = pending.pop(), 0
        for reader in tracker.readers.get(moved, ()):
            if reader.operator in ("batch_dot", "_linalg_gemm2") or \
                    reader.operator.startswith("_contrib_interleaved_matmul"):
                return True
            if reader.operator in BEFORE_PRODUCTS or \
                    reader.operator == "FullyConnected" and moved in reader.inputs[1:]:  # it is its weight
                pending.append(reader)
    return False


@rule("transpose")
def _transpose(node: Node, inputs: Inputs, tracker: Tracker) -> Outputs:
    axes = node.get("axes") or tuple(reversed(range(len(node.shapes[0]))))
    return [inputs[0] and Labels(axes.index(inputs[0].axis), inputs[0].ids)]


@rule("SwapAxis")
def _swap_axis(node: Node, inputs: Inputs, tracker: Tracker) -> Outputs:
    first, second = node.get("dim1", 0), node.get("dim2", 0)
    dimensions = len(node.shapes[0])
    swapped = {first % dimensions: second % dimensions, second % dimensions: first % dimensions}
    return [inputs[0] and Labels(swapped.get(inputs[0].axis, inputs[0].axis), inputs[0].ids)]


@rule("expand_dims")
def _expand_dims(node: Node, inputs: Inputs, tracker: Tracker) -> Outputs:
    axis = axis_of(node, 0)
    return [inputs[0] and Labels(inputs[0].axis + (axis <= inputs[0].axis), inputs[0].ids)]


@rule("squeeze")
def _squeeze(node: Node, inputs: Inputs, tracker: Tracker) -> Outputs:
    data, shape = inputs[0], node.input_shape(0)
    axes = node.get("axis")
    if axes is None:  # a layer with a single channel left would lose that axis
        return stop(node, inputs, tracker, "it drops all axes of length one")
    axes = {axis % len(shape) for axis in ([axes] if isinstance(axes, int) else axes)}
    if data is not None and data.axis in axes:
        return stop(node, inputs, tracker, "which takes its only channel as an axis to drop")
    return [data and Labels(data.axis - sum(axis < data.axis for axis in axes), data.ids)]


@rule("SliceChannel")
def _split(node: Node, inputs: Inputs, tracker: Tracker) -> Outputs:
    """Equal parts: channel i of each is removed together with channel i of the others."""
    data, parts = inputs[0], node.get("num_outputs")
    axis, squeeze = axis_of(node, 1), node.get("squeeze_axis", False)
    if data is None:
        return [None] * parts
    if data.axis != axis:
        return [Labels(data.axis - (squeeze and axis < data.axis), data.ids)] * parts
    if squeeze:
        return stop(node, inputs, tracker, "it drops the axis of the channels")
    rows = data.ids.reshape(parts, -1)
    for row in rows[1:]:
        tracker.same(rows[0], row, f"split beside channels that stay by {node.operator} ({node.name})")
    return [Labels(axis, row) for row in rows]


@rule("slice_axis")
def _slice_axis(node: Node, inputs: Inputs, tracker: Tracker) -> Outputs:
    data, axis = inputs[0], axis_of(node, 0)
    if data is None or data.axis != axis:
        return [data]
    return _cut(data, node.get("begin"), node.get("end"), None, node, inputs, tracker)


@rule("slice")
def _slice(node: Node, inputs: Inputs, tracker: Tracker) -> Outputs:
    data = inputs[0]
    if data is None:
        return [None]
    begin, end, step = (dict(enumerate(node.get(name) or ())).get(data.axis) for name in ("begin", "end", "step"))
    if step not in (None, 1):
        return stop(node, inputs, tracker, "it takes channels by their number")
    return _cut(data, begin, end, data.axis, node, inputs, tracker)


def _cut(data: Labels, begin: int | None, end: int | None, position: int | None, node: Node, inputs: Inputs,
         tracker: Tracker) -> Outputs:
    """The channels from ``begin`` to ``end``: numbers that count those before them."""
    for attribute, number in (("begin", begin), ("end", end)):
        if number and (number < 0 or not tracker.can_count(node, attribute, position)):
            return stop(node, inputs, tracker, "it takes channels by their number")
    for attribute, number in (("begin", begin), ("end", end)):
        if number:
            tracker.count(node, attribute, position, data.ids[:number])
    return [Labels(data.axis, data.ids[begin:end])]


@rule("take")
def _take(node: Node, inputs: Inputs, tracker: Tracker) -> Outputs:
    """It puts channels in another order, by a parameter of the network that holds their positions (CondenseNet)."""
    data, indices = inputs
    axis = axis_of(node, 0)
    if data is None or indices is not None:
        return stop(node, inputs, tracker, "by computed positions")
    if data.axis != axis:
        return [Labels(data.axis + (axis < data.axis) * (len(node.input_shape(1)) - 1), data.ids)]
    source = node.inputs[1][0]
    if source.parameter is None or source.constant or len(source.shapes[0]) != 1:
        return stop(node, inputs, tracker, "it takes channels by their number")
    values = value_of(tracker.parameters[source.parameter])
    positions = values.astype(int)
    if (positions != values).any() or positions.min() < 0 or positions.max() >= len(data.ids):
        return stop(node, inputs, tracker, f"{source.parameter} holds numbers that are no positions of channels")
    taken = Labels(axis, data.ids[positions])
    tracker.assign(node, 1, 0, taken.ids)
    tracker.count_positions(node, 1, positions, data.ids)
    return [taken]


@rule("slice_like")
def _slice_like(node: Node, inputs: Inputs, tracker: Tracker) -> Outputs:
    data, like = inputs
    dimensions = len(node.shapes[0])
    axes = {axis % dimensions for axis in node.get("axes") or range(dimensions)}
    if all(labels is None or labels.axis not in axes for labels in (data, like)):
        return [data]
    if data is not None and like is not None and data.axis == like.axis and len(data.ids) == len(like.ids):
        tracker.same(data.ids, like.ids, f"cut by slice_like ({node.name}) like channels that stay")
        return [data]
    return stop(node, inputs, tracker, "it takes as many channels as another tensor has")


@rule("broadcast_to", "broadcast_axis")
def _broadcast(node: Node, inputs: Inputs, tracker: Tracker) -> Outputs:
    data = inputs[0]
    if data is None:
        return [_copied(node, tracker)]
    if node.operator == "broadcast_to" and node.get("shape")[data.axis]:
        if tracker.can_count(node, "shape", data.axis) and node.shapes[0][data.axis] == len(data.ids):
            tracker.count(node, "shape", data.axis, data.ids)
            return [data]
        return stop(node, inputs, tracker, f"to the fixed shape {node.attributes['shape']}")
    if node.shapes[0][data.axis] != len(data.ids):
        return stop(node, inputs, tracker, "a single channel for many")
    return [data]


def _copied(node: Node, tracker: Tracker) -> Labels | None:
    """The first axis along which it repeats one value for as many positions as an attribute says."""
    shape, (attribute,) = node.input_shape(0), node.meaning.numbers
    axes = np.atleast_1d(node.get("axis")).tolist() if node.operator == "broadcast_axis" else range(len(shape))
    for (position, _), axis in zip(positions(node, attribute), axes):
        axis %= len(shape)
        if shape[axis] < node.shapes[0][axis] and tracker.can_count(node, attribute, position):
            labels = tracker.copies(node.shapes[0][axis])
            tracker.count(node, attribute, position, labels.ids)
            return Labels(axis, labels.ids)
    return None


@rule("_zeros", "_ones")
def _constant(node: Node, inputs: Inputs, tracker: Tracker) -> Outputs:
    """One axis whose length can be changed: that of the hidden units in a recurrent layer's first state."""
    by_channel = (reader.channel_axis for reader in tracker.readers.get((node, 0), ()) if reader.kind is not None)
    dimensions = len(node.shapes[0])
    axes = list(by_channel) or [1] if dimensions > 3 else reversed(range(dimensions))
    for axis in axes:
        if tracker.can_count(node, "shape", axis):
            labels = tracker.copies(node.shapes[0][axis])
            tracker.count(node, "shape", axis, labels.ids)
            return [Labels(axis, labels.ids)]
    return [None]


@rule("tile", "repeat")
def _tile(node: Node, inputs: Inputs, tracker: Tracker) -> Outputs:
    data, shape = inputs[0], node.input_shape(0)
    if data is None:
        return [_repeated(node, tracker)]
    if node.operator == "repeat":
        if node.get("axis") is None:
            return stop(node, inputs, tracker, "flattened")
        times = node.get("repeats") if node.get("axis") % len(shape) == data.axis else 1
        return [Labels(data.axis, np.repeat(data.ids, times))]
    times = node.shapes[0][len(node.shapes[0]) - len(shape) + data.axis] // shape[data.axis]
    return [Labels(len(node.shapes[0]) - len(shape) + data.axis, np.tile(data.ids, times))]


def _repeated(node: Node, tracker: Tracker) -> Labels | None:
    """Repeated along an axis, as often as an attribute says: the lengths of a batch's sentences, for all heads."""
    if node.operator != "repeat" or node.get("axis") is None or not tracker.can_count(node, "repeats"):
        return None
    axis = axis_of(node, 0)
    copies = tracker.copies(node.get("repeats")).ids
    tracker.count(node, "repeats", None, copies)
    return Labels(axis, np.tile(copies, node.input_shape(0)[axis]))


@rule("reverse")
def _reverse(node: Node, inputs: Inputs, tracker: Tracker) -> Outputs:
    data, axes = inputs[0], node.get("axis")
    axes = {axis % len(node.shapes[0]) for axis in ([axes] if isinstance(axes, int) else axes)}
    return [data and Labels(data.axis, data.ids[::-1] if data.axis in axes else data.ids)]


@rule("depth_to_space")
def _depth_to_space(node: Node, inputs: Inputs, tracker: Tracker) -> Outputs:
    """(N, b * b * C, H, W) to (N, C, b * H, b * W): b * b channels become the pixels of one."""
    data = only_on(1, node, inputs[0], tracker)
    if data is None:
        return [None]
    rows = data.ids.reshape(node.get("block_size") ** 2, -1)
    for row in rows[1:]:
        tracker.same(rows[0], row, f"read by depth_to_space ({node.name}) together with channels that stay")
    return [Labels(1, rows[0])]


@rule("space_to_depth")
def _space_to_depth(node: Node, inputs: Inputs, tracker: Tracker) -> Outputs:
    data = only_on(1, node, inputs[0], tracker)
    return [data and Labels(1, np.tile(data.ids, node.get("block_size") ** 2))]


@rule("Pad")
def _pad(node: Node, inputs: Inputs, tracker: Tracker) -> Outputs:
    data = inputs[0]
    if data is None:
        return [None]
    before, after = np.ravel(node.get("pad_width"))[2 * data.axis:2 * data.axis + 2]
    if (before or after) and node.get("mode") != "constant":
        return stop(node, inputs, tracker, "it repeats channels by their number")
    return [Labels(data.axis, np.pad(data.ids, (before, after), constant_values=STAYS))]


@rule("shape_array", "size_array")
def _shape_array(node: Node, inputs: Inputs, tracker: Tracker) -> Outputs:
    return stop(node, inputs, tracker, "it reads the number of channels")
