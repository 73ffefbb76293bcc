"""What moves elements, repeats them, or leaves some out."""
from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from ....network.nodes import Node
from ..lengths import Length, Samples
from ..table import Unsupported, writes
from ..writer import Writer


@writes("Flatten")
def flatten(node: Node, write: Writer) -> str:
    return write("Flatten", write.data(node), axis=1)


@writes("Reshape", "reshape_like", "_np_reshape", "_npx_reshape", "_npx_reshape_like")
def reshape(node: Node, write: Writer) -> str:
    """Whatever codes MXNet's operator has: its lengths are known."""
    return write.reshape(write.data(node), write.tensor(node).lengths, write.made(node).lengths)


@writes("expand_dims", "_npi_expand_dims")
def expand_dims(node: Node, write: Writer) -> str:
    return write.unsqueeze(write.data(node), node.get("axis") % len(write.made(node).lengths))


@writes("squeeze", "_np_squeeze")
def squeeze(node: Node, write: Writer) -> str:
    axis, shape = node.get("axis"), write.tensor(node).lengths
    axes = [axis] if isinstance(axis, int) else list(axis or ())
    if len(axes) == 0:
        axes = [index for index, length in enumerate(shape) if length == 1]
    if len(axes) == len(shape) and len(write.made(node).lengths) == 1:
        axes = axes[1:]  # MXNet's classic interface leaves one axis
    return write.squeeze(write.data(node), *(each % len(shape) for each in axes))


@writes("transpose", "_np_transpose")
def transpose(node: Node, write: Writer) -> str:
    axes = len(write.tensor(node).lengths)
    order = node.get("axes") or tuple(reversed(range(axes)))
    return write.transpose(write.data(node), *(axis % axes for axis in order))


@writes("SwapAxis", "_npi_swapaxes")
def swap_axis(node: Node, write: Writer) -> str:
    order = list(range(len(write.tensor(node).lengths)))
    first, second = node.get("dim1", 0), node.get("dim2", 0)
    order[first], order[second] = order[second], order[first]
    return write.transpose(write.data(node), *order)


@writes("Concat", "_rnn_param_concat", "_npi_concatenate")
def concat(node: Node, write: Writer) -> str:
    axis = node.get("axis", 0) if node.operator == "_npi_concatenate" else node.get("dim", 1)
    if axis is None:
        raise Unsupported("of flattened tensors")
    return write("Concat", *write.inputs(node), axis=axis)


@writes("stack", "_npi_stack")
def stack(node: Node, write: Writer) -> str:
    axis = node.get("axis", 0) % len(write.made(node).lengths)
    return write("Concat", *(write.unsqueeze(name, axis) for name in write.inputs(node)), axis=axis)


@writes("SliceChannel")
def slice_channel(node: Node, write: Writer) -> str | list[str]:
    """In equal parts along an axis, which may then go."""
    lengths, parts = write.tensor(node).lengths, node.get("num_outputs")
    axis = node.get("axis", 1) % len(lengths)
    found = write.split(write.data(node), axis, parts, lengths[axis])
    if node.get("squeeze_axis"):
        found = [write.squeeze(part, axis) for part in found]
    return found if parts > 1 else found[0]


@writes("_split_v2", "_npi_split")
def split(node: Node, write: Writer) -> str | list[str]:
    lengths, parts = write.tensor(node).lengths, node.get("sections", 0)
    axis = node.get("axis", 1) % len(lengths)
    if parts:
        found = write.split(write.data(node), axis, parts, lengths[axis])
    else:
        begins = [*node.get("indices")]
        ends = [*begins[1:], None]
        found = [write.slice(write.data(node), axis, begin, end) for begin, end in zip(begins, ends)]
    if node.get("squeeze_axis"):
        found = [write.squeeze(part, axis) for part in found]
    return found if len(found) > 1 else found[0]


@writes("slice_axis")
def slice_axis(node: Node, write: Writer) -> str:
    axis = node.get("axis") % len(write.tensor(node).lengths)
    return write.slice(write.data(node), axis, node.get("begin"), node.get("end"))


@writes("slice", "_npi_slice")
def slice_all(node: Node, write: Writer) -> str:
    data = write.data(node)
    begins, ends, steps = (_entries(node.get(name)) for name in ("begin", "end", "step"))
    for axis in range(max(map(len, (begins, ends, steps)))):
        begin, end, step = (each[axis] if axis < len(each) else None for each in (begins, ends, steps))
        if begin is not None or end is not None or step not in (None, 1):
            data = write.slice(data, axis, begin, end, step or 1)
    return data


def _entries(value: object) -> tuple:
    return value if isinstance(value, tuple) else () if value is None else (value,)


@writes("slice_like")
def slice_like(node: Node, write: Writer) -> str:
    """As long as another tensor along some axes."""
    return _cut(node, write, [0] * len(write.tensor(node).lengths))


@writes("Crop")
def crop(node: Node, write: Writer) -> str:
    """Height and width of another tensor or of ``h_w``, from the middle or from an offset on."""
    before, after = write.tensor(node).shape, write.made(node).shape
    offset = node.get("offset") or (0, 0)
    if node.get("center_crop"):
        offset = [(long - short) // 2 for long, short in zip(before[2:], after[2:])]
    return _cut(node, write, [0, 0, *offset])


def _cut(node: Node, write: Writer, begins: Sequence[int]) -> str:
    data, made = write.data(node), write.made(node).lengths
    for axis, (before, after, begin) in enumerate(zip(write.tensor(node).lengths, made, begins)):
        if before == after:
            continue
        if isinstance(after, Samples):
            end = write.lengths([Samples(after.factor, after.offset + begin)])
            data = write("Slice", data, write.integers(begin), end, write.integers(axis))
        else:
            data = write.slice(data, axis, begin, begin + after)
    return data


@writes("reverse", "_npi_flip")
def reverse(node: Node, write: Writer) -> str:
    data, axis = write.data(node), node.get("axis")
    axes = range(len(write.tensor(node).lengths)) if axis is None else [axis] if isinstance(axis, int) else axis
    for each in axes:
        data = write.slice(data, each, step=-1)
    return data


@writes("tile", "_npi_tile")
def tile(node: Node, write: Writer) -> str:
    repetitions = _entries(node.get("reps"))
    axes = len(write.tensor(node).lengths)
    data = write.unsqueeze(write.data(node), *range(len(repetitions) - axes))
    return write("Tile", data, write.integers(*(1,) * (axes - len(repetitions)), *repetitions))


@writes("repeat", "_np_repeat")
def repeat(node: Node, write: Writer) -> str:
    """Each element so many times, one after the other: tiled along a new axis after its own."""
    data, lengths, axis = write.data(node), list(write.tensor(node).lengths), node.get("axis")
    made, times = write.made(node).lengths, node.get("repeats")
    if axis is None:
        data, axis = write("Reshape", data, write.integers(-1)), 0
        lengths = [made[0]]
    axis %= len(lengths)
    tiled = write("Tile", write.unsqueeze(data, axis + 1),
                  write.integers(*[1] * (axis + 1), times, *[1] * (len(lengths) - axis - 1)))
    longer: list[Length] = [*lengths[:axis + 1], times, *lengths[axis + 1:]]
    return write.reshape(tiled, longer, made)


@writes("broadcast_to", "broadcast_axis", "broadcast_like", "_npi_broadcast_to")
def broadcast(node: Node, write: Writer) -> str:
    return write.expand(write.data(node), write.made(node).lengths)


@writes("depth_to_space")
def depth_to_space(node: Node, write: Writer) -> str:
    return write("DepthToSpace", write.data(node), blocksize=node.get("block_size"))


@writes("space_to_depth")
def space_to_depth(node: Node, write: Writer) -> str:
    return write("SpaceToDepth", write.data(node), blocksize=node.get("block_size"))


PADDINGS = {"constant": "constant", "edge": "edge", "reflect": "reflect"}


@writes("Pad")
def pad(node: Node, write: Writer) -> str:
    """MXNet has begin and end of each axis side by side, ONNX all begins first."""
    width = node.get("pad_width")
    mode = PADDINGS[node.get("mode")]
    value = [write.like(node, float(node.get("constant_value", 0)))] if mode == "constant" else []
    return write("Pad", write.data(node), write.integers(*width[::2], *width[1::2]), *value, mode=mode)


@writes("_npi_pad")
def numpy_pad(node: Node, write: Writer) -> str:
    width, mode = np.asarray(node.get("pad_width")), node.get("mode", "constant")
    if mode not in PADDINGS or node.get("reflect_type", "even") != "even":
        raise Unsupported(f"of mode {mode}")
    value = [write.like(node, float(node.get("constant_value", 0)))] if mode == "constant" else []
    return write("Pad", write.data(node), write.integers(*width.T.ravel().tolist()), *value, mode=mode)


@writes("_arange", "_npi_arange")
def arange(node: Node, write: Writer) -> str:
    """Only one whose length is found out from others comes here; all others are constants."""
    raise Unsupported("whose length follows the batch")


@writes("_contrib_arange_like")
def arange_like(node: Node, write: Writer) -> str:
    """start + step * (index // repeat), as many as there are numbers in a tensor, or along an axis of it."""
    made = write.made(node)
    start, step, times = float(node.get("start", 0)), float(node.get("step", 1)), node.get("repeat", 1)
    if not any(isinstance(length, Samples) for length in made.lengths):
        numbers = np.arange(np.prod(made.shape)) // times * step + start
        return write.constant(numbers.reshape(made.shape), made.dtype)
    if times != 1 or node.get("axis") is None and len(made.lengths) > 1:
        raise Unsupported("of a tensor that follows the batch")
    count = write.squeeze(write.lengths(made.lengths), 0)
    numbers = write.cast(write("Range", write.constant(0, np.int64), count, write.constant(1, np.int64)), made.dtype)
    return write.affine(numbers, step, start, made.dtype)


def places_within(node: Node, write: Writer, axis: int, role: int = 1) -> str:
    """Truth values of (steps, samples, 1, ...) or (samples, steps, 1, ...): whether a step is within the length."""
    tensor = write.tensor(node)
    axes = len(tensor.lengths)
    if isinstance(tensor.lengths[axis], Samples):
        raise Unsupported("along the batch")
    steps = np.arange(tensor.shape[axis]).reshape([-1 if each == axis else 1 for each in range(axes)])
    lengths = write.name(node.inputs[role])
    return write("Less", write.constant(steps, write.tensor(node, role).dtype),
                 write.unsqueeze(lengths, *(each for each in range(axes) if each != 1 - axis)))


@writes("SequenceMask")
def sequence_mask(node: Node, write: Writer) -> str:
    if not node.get("use_sequence_length"):
        return write.data(node)
    return write("Where", places_within(node, write, node.get("axis", 0)), write.data(node),
                 write.like(node, float(node.get("value", 0))))


@writes("SequenceLast")
def sequence_last(node: Node, write: Writer) -> str:
    axis = node.get("axis", 0)
    if not node.get("use_sequence_length"):
        return write.squeeze(write.slice(write.data(node), axis, -1), axis)
    data = write.data(node) if axis == 1 else write.transpose(
        write.data(node), 1, 0, *range(2, len(write.tensor(node).lengths)))
    last = write("Sub", write.indices(write.name(node.inputs[1])), write.constant(1, np.int64))
    return write("GatherND", data, write.unsqueeze(last, 1), batch_dims=1)


@writes("SequenceReverse")
def sequence_reverse(node: Node, write: Writer) -> str:
    if not node.get("use_sequence_length"):
        return write.slice(write.data(node), 0, step=-1)
    return write("ReverseSequence", write.data(node), write.indices(write.name(node.inputs[1])), time_axis=0,
                 batch_axis=1)
