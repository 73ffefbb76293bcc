"""What each MXNet operator does to the channels that pass through it: one rule per kind of operator.

A rule ``(node, inputs, tracker) -> outputs`` gets the :class:`Labels` of each input (None where channels cannot
be told apart) and returns those of the outputs. It tells the tracker what the removal of a channel demands
here. A rule that is not sure pins the channels: they stay, and the plan gives the reason.
"""
from math import prod

import mxnet as mx
import numpy as np

from .labels import STAYS, Labels

RULES = {}


def rule(*operators):
    """Register the decorated function for these operators."""
    def register(function):
        RULES.update(dict.fromkeys(operators, function))
        return function
    return register


def unknown_operator(node, inputs, tracker):
    """No rule: all that it reads stays."""
    return _stop(node, inputs, tracker, "no rule for this operator")


def _stop(node, inputs, tracker, why):
    reason = f"read by {node.operator} ({node.name}): {why}"
    for labels, (source, _) in zip(inputs, node.inputs):
        tracker.pin(labels, reason)
        if source.parameter is not None:
            tracker.fix(source.parameter, f"{source.parameter} is {reason}")
    return [None] * len(node.shapes)


# Layers that make channels ----------------------------------------------------------------------------------------

@rule("Convolution")
def _convolution(node, inputs, tracker):
    layout = node.get("layout") or "NC"
    return _weighted_layer(node, inputs, tracker, data_axis=layout.index("C"), out_axis=0, in_axis=layout.index("C"))


@rule("Deconvolution")
def _deconvolution(node, inputs, tracker):
    layout = node.get("layout") or "NC"
    return _weighted_layer(node, inputs, tracker, data_axis=layout.index("C"), out_axis=1, in_axis=0)


def _weighted_layer(node, inputs, tracker, data_axis, out_axis, in_axis):
    """A convolution: weight (out, in / groups, ...); transposed (in, out / groups, ...)."""
    data = _only_on(data_axis, node, inputs[0], tracker)
    groups, channels = node.get("num_group", 1), node.shapes[0][data_axis]
    if groups == 1:
        if data is not None:
            tracker.assign(node, 1, in_axis, data.ids)
        out = _new_channels(node, tracker, channels, [(1, out_axis), (2, 0)])
    elif node.inputs[1][0].parameter is None or data_axis != 1:
        why = "its weight is computed" if data_axis == 1 else "it has groups and channels on the last axis"
        return _stop(node, inputs, tracker, why)
    else:
        out = _grouped(node, data, tracker, groups, channels, out_axis)
    return [out and Labels(data_axis, out.ids)]


def _grouped(node, data, tracker, groups, channels, out_axis):
    """A grouped convolution loses whole groups, or the same channels of each, whichever is finer."""
    inputs = node.input_shape(0)[1]
    whole = _new_channels(node, tracker, channels, [(2, 0)])
    if whole is None or data is None:
        tracker.pin(data, f"read by {node.operator} ({node.name}), whose own channels stay")
        tracker.pin(whole, f"a grouped {node.operator} of an input whose channels stay")
        return whole
    read, made = data.ids.reshape(groups, -1), whole.ids.reshape(groups, -1)
    reason = f"in one group of {node.operator} ({node.name}) with channels that stay"
    if inputs // groups >= groups:  # the same channels of each group
        for rows in (read, made):
            for row in rows[1:]:
                tracker.same(rows[0], row, reason)
        tracker.assign(node, 1, 1, (read if out_axis == 0 else made)[0])
    else:  # whole groups: all that a group reads and makes goes together
        for column in (*read.T, *made.T):
            tracker.same(read[:, 0], column, reason)
        tracker.count_groups(node, read[:, 0])
        tracker.group_counts[node.inputs[1][0].parameter] = read[:, 0]
    tracker.assign(node, 1, 0, (made if out_axis == 0 else read).ravel())
    return whole


@rule("FullyConnected")
def _dense(node, inputs, tracker):
    shape, data = node.input_shape(0), inputs[0]
    flatten = node.get("flatten", True) or len(shape) == 2
    if data is not None and flatten:
        # (N, d1, C, d3) is read as (N, d1 * C * d3): which column belongs to which channel
        data = _only_on(data.axis if data.axis else -1, node, data, tracker)
        if data is not None:
            before, behind = int(np.prod(shape[1:data.axis])), int(np.prod(shape[data.axis + 1:]))
            tracker.assign(node, 1, 1, np.tile(np.repeat(data.ids, behind), before))
    elif data is not None:
        data = _only_on(len(shape) - 1, node, data, tracker)
        if data is not None:
            tracker.assign(node, 1, 1, data.ids)
    out = _new_channels(node, tracker, node.shapes[0][-1], [(1, 0), (2, 0)])
    return [out and Labels(1 if flatten else len(shape) - 1, out.ids)]


@rule("Embedding")
def _embedding(node, inputs, tracker):
    tracker.pin(inputs[0], f"read by Embedding ({node.name}) as indices")
    out = _new_channels(node, tracker, node.shapes[0][-1], [(1, 1)])
    return [out and Labels(len(node.shapes[0]) - 1, out.ids)]


def _new_channels(node, tracker, count, indexed):
    """Labels of the channels that a layer makes, which index its weight and bias; None when they are not ours."""
    weight = node.inputs[1][0].parameter
    if weight is None:
        return None
    labels = Labels(0, tracker.new(count))
    for index, axis in indexed:
        if index < len(node.inputs):
            tracker.assign(node, index, axis, labels.ids)
    tracker.made(node, labels.ids)
    if weight not in tracker.resizable:
        tracker.pin(labels, "its number of channels is set in a hybrid_forward, where it cannot be changed")
    elif count == 1:
        tracker.pin(labels, "it has one channel")
    return labels


def _only_on(axis, node, labels, tracker):
    """``labels`` when they run along ``axis``; otherwise their channels stay, and None."""
    if labels is not None and labels.axis != axis:
        tracker.pin(labels, f"read by {node.operator} ({node.name}) with its channels on axis {labels.axis}")
        return None
    return labels


# Normalization ----------------------------------------------------------------------------------------------------

@rule("BatchNorm", "_contrib_SyncBatchNorm", "_contrib_BatchNormWithReLU")
def _batch_norm(node, inputs, tracker):
    data = _only_on(_axis(node, 1), node, inputs[0], tracker)
    if data is not None:
        for index in range(1, len(node.inputs)):  # gamma, beta, running mean and variance
            tracker.assign(node, index, 0, data.ids)
        gamma = node.inputs[1][0]
        if not node.get("fix_gamma", True) and gamma.parameter is not None:
            tracker.scales.append((gamma.parameter, data.ids))
    return [data]


@rule("InstanceNorm")
def _instance_norm(node, inputs, tracker):
    data = _only_on(1, node, inputs[0], tracker)
    if data is not None:
        for index in (1, 2):
            tracker.assign(node, index, 0, data.ids)
    return [data]


@rule("LayerNorm")
def _layer_norm(node, inputs, tracker):
    """Over the channels: mean and variance become those of the kept ones."""
    data = inputs[0]
    if data is not None and data.axis == _axis(node, -1):
        for index in (1, 2):
            tracker.assign(node, index, 0, data.ids)
    return [data]


@rule("GroupNorm")
def _group_norm(node, inputs, tracker):
    """Whole groups go, so that those that stay are normalized as before."""
    data = _only_on(1, node, inputs[0], tracker)
    if data is None:
        return [None]
    groups = node.get("num_groups", 1)
    read = data.ids.reshape(groups, -1)
    for column in read.T:
        tracker.same(read[:, 0], column, f"in one group of GroupNorm ({node.name}) with channels that stay")
    for index in (1, 2):  # MXNet has one gamma and one beta per group
        tracker.assign(node, index, 0, read[:, 0])
    tracker.count_groups(node, read[:, 0])
    return [data]


@rule("LeakyReLU")
def _leaky_relu(node, inputs, tracker):
    data = inputs[0]
    if len(node.inputs) > 1 and data is not None:  # PReLU
        if node.input_shape(1) == (1,):
            return [data]
        data = _only_on(1, node, data, tracker)
        if data is not None:
            tracker.assign(node, 1, 0, data.ids)
    return [data]


@rule("L2Normalization")
def _l2_normalization(node, inputs, tracker):
    """By the norm of each channel, or of all together, to which what is removed adds nothing."""
    if node.get("mode", "instance") == "spatial":
        return [_only_on(1, node, inputs[0], tracker)]
    return [inputs[0]]


# One input, channel by channel ------------------------------------------------------------------------------------

@rule("Activation", "relu", "sigmoid", "tanh", "softsign", "hard_sigmoid", "clip", "_copy", "Dropout", "BlockGrad",
      "Cast", "abs", "sign", "negative", "exp", "expm1", "log", "log1p", "log2", "log10", "sqrt", "rsqrt",
      "cbrt", "rcbrt", "square", "reciprocal", "erf", "erfinv", "floor", "ceil", "round", "rint", "fix", "trunc",
      "sin", "cos", "tan", "arcsin", "arccos", "arctan", "sinh", "cosh", "arcsinh", "arccosh", "arctanh", "degrees",
      "radians", "gamma", "gammaln", "logical_not", "smooth_l1", "_plus_scalar", "_minus_scalar", "_rminus_scalar",
      "_mul_scalar", "_div_scalar", "_rdiv_scalar", "_power_scalar", "_rpower_scalar", "_maximum_scalar",
      "_minimum_scalar", "_mod_scalar", "_equal_scalar", "_not_equal_scalar", "_greater_scalar",
      "_greater_equal_scalar", "_lesser_scalar", "_lesser_equal_scalar", "zeros_like", "ones_like", "make_loss",
      "MakeLoss")
def _unary(node, inputs, tracker):
    return [inputs[0]]


@rule("_contrib_div_sqrt_dim")
def _div_sqrt_dim(node, inputs, tracker):
    if inputs[0] is not None and inputs[0].axis == len(node.shapes[0]) - 1:
        return _stop(node, inputs, tracker, "it divides by the number of channels")
    return [inputs[0]]


@rule("Crop")
def _crop(node, inputs, tracker):
    """Of the pixels, to the size of a second input."""
    if len(inputs) > 1:
        tracker.pin(inputs[1] if inputs[1] is not None and inputs[1].axis > 1 else None, "its size is read")
    return [_only_on(1, node, inputs[0], tracker)]


@rule("Pooling", "_contrib_AdaptiveAvgPooling2D", "UpSampling", "_contrib_BilinearResize2D")
def _spatial(node, inputs, tracker):
    """Over the pixels of each channel."""
    layout = node.get("layout") or "NC"
    if node.operator == "UpSampling" and len(inputs) > 1:
        return _stop(node, inputs, tracker, "with several inputs")
    if len(inputs) > 1:  # BilinearResize2D takes the size of a second input
        tracker.pin(inputs[1] if inputs[1] is not None and inputs[1].axis > 1 else None, "its size is read")
    return [_only_on(layout.index("C"), node, inputs[0], tracker)]


@rule("ROIPooling", "_contrib_ROIAlign")
def _regions(node, inputs, tracker):
    if node.get("position_sensitive", False):
        return _stop(node, inputs, tracker, "each part of a region reads other channels")
    for labels in inputs[1:]:
        tracker.pin(labels, f"read by {node.operator} ({node.name}) as regions")
    return [_only_on(1, node, inputs[0], tracker)]


@rule("softmax", "log_softmax", "softmin")
def _softmax(node, inputs, tracker):
    if inputs[0] is not None and inputs[0].axis == _axis(node, -1):
        return _stop(node, inputs, tracker, "it normalizes over the channels")
    for labels in inputs[1:]:
        tracker.pin(labels, f"read by {node.operator} ({node.name}) as lengths")
    return [inputs[0]]


@rule("sum", "mean", "max", "min", "prod", "nansum", "norm", "argmax", "argmin")
def _reduction(node, inputs, tracker):
    data = inputs[0]
    if data is None:
        return [None]
    dimensions = len(node.input_shape(0))
    axes = node.get("axis")
    axes = range(dimensions) if axes in (None, ()) else (axes,) if isinstance(axes, int) else axes
    axes = {axis % dimensions for axis in axes}
    if node.get("exclude", False):
        axes = set(range(dimensions)) - axes
    if data.axis in axes:
        if node.operator == "sum":  # what is removed adds nothing: as if it were zero
            return [None]
        return _stop(node, inputs, tracker, "it reduces over the channels")
    keep = node.get("keepdims", False)
    return [Labels(data.axis - (0 if keep else sum(axis < data.axis for axis in axes)), data.ids)]


# Several inputs, element by element -------------------------------------------------------------------------------

@rule("elemwise_add", "elemwise_sub", "elemwise_mul", "elemwise_div", "_grad_add", "add_n", "broadcast_add",
      "broadcast_sub", "broadcast_mul", "broadcast_div", "broadcast_maximum", "broadcast_minimum", "broadcast_power",
      "broadcast_mod", "broadcast_hypot", "broadcast_equal", "broadcast_not_equal", "broadcast_greater",
      "broadcast_greater_equal", "broadcast_lesser", "broadcast_lesser_equal", "broadcast_logical_and",
      "broadcast_logical_or", "broadcast_logical_xor", "_maximum", "_minimum", "_power", "_mod", "_hypot", "_equal",
      "_not_equal", "_greater", "_greater_equal", "_lesser", "_lesser_equal", "where", "broadcast_like")
def _elementwise(node, inputs, tracker):
    if all(labels is None for labels in inputs):
        return [None]
    shapes = [node.input_shape(index) for index in range(len(inputs))]
    if any(len(shape) != len(node.shapes[0]) and prod(shape) > 1 for shape in shapes):
        return _stop(node, inputs, tracker, "its inputs have different numbers of axes")
    if node.get("lhs_axes") is not None or node.get("rhs_axes") is not None:  # broadcast_like
        return _stop(node, inputs, tracker, "it takes the length of one axis from another")
    full = [labels for index, labels in enumerate(inputs) if labels is not None
            and len(shapes[index]) == len(node.shapes[0])
            and shapes[index][labels.axis] == node.shapes[0][labels.axis]]
    if not full:
        return _stop(node, inputs, tracker, "a single channel for many")
    return [_aligned(node, inputs, full[0], tracker)]


def _aligned(node, inputs, result, tracker):
    """``result``, the labels of an output that each input meets position by position, or by broadcasting."""
    axis, size = result.axis, node.shapes[0][result.axis]
    reason = f"read by {node.operator} ({node.name}) together with channels that stay"
    for index, (labels, (source, _)) in enumerate(zip(inputs, node.inputs)):
        shape = node.input_shape(index)
        here = shape[axis] if len(shape) == len(node.shapes[0]) else 1  # a single element, for all
        if labels is not None and labels.axis == axis and here == size:
            tracker.same(result.ids, labels.ids, reason)
            continue
        tracker.pin(labels, f"read by {node.operator} ({node.name}) with channels on axis {axis} of another input")
        if source.parameter is not None and not source.constant and here == size:
            tracker.assign(node, index, axis, result.ids)
        elif here != 1:
            tracker.pin(result, reason)
    return result


@rule("Concat", "_rnn_param_concat")
def _concat(node, inputs, tracker):
    axis = node.get("dim", 1) % len(node.shapes[0])
    labelled = [labels for labels in inputs if labels is not None]
    if not labelled:
        return [None]
    if all(labels.axis != axis for labels in labelled):  # the channels of all inputs meet position by position
        return [_aligned(node, inputs, labelled[0], tracker)]
    parts = []
    for index, labels in enumerate(inputs):
        labels = _only_on(axis, node, labels, tracker)
        parts.append(np.full(node.input_shape(index)[axis], STAYS) if labels is None else labels.ids)
    return [Labels(axis, np.concatenate(parts))]


@rule("stack")
def _stack(node, inputs, tracker):
    labelled = [labels for labels in inputs if labels is not None]
    if not labelled:
        return [None]
    new_axis = node.get("axis", 0) % len(node.shapes[0])
    axis = labelled[0].axis
    for labels in inputs:
        if labels is None or labels.axis != axis:
            return _stop(node, inputs, tracker, "together with channels that stay")
        tracker.same(labelled[0].ids, labels.ids, f"read by stack ({node.name}) together with channels that stay")
    return [Labels(axis + (new_axis <= axis), labelled[0].ids)]


@rule("batch_dot")
def _batch_dot(node, inputs, tracker):
    """(B, M, K) times (B, K, N), either transposed on request."""
    first, second = inputs
    if any(len(node.input_shape(index)) != 3 for index in (0, 1)):
        return _stop(node, inputs, tracker, "of more than three axes")
    rows, inner_first = (2, 1) if node.get("transpose_a", False) else (1, 2)
    inner_second, columns = (2, 1) if node.get("transpose_b", False) else (1, 2)
    contracted = [labels is not None and labels.axis == inner
                  for labels, inner in ((first, inner_first), (second, inner_second))]
    batched = [labels is not None and labels.axis == 0 for labels in inputs]
    if all(contracted) or all(batched):
        tracker.same(first.ids, second.ids, f"multiplied by channels that stay in batch_dot ({node.name})")
        return [Labels(0, first.ids) if all(batched) else None]
    if any(contracted) or any(batched):
        return _stop(node, inputs, tracker, "multiplied by what has no such channels")
    if first is not None and second is not None:
        tracker.pin(second, f"read by batch_dot ({node.name}), whose output has other channels already")
    if first is not None:
        return [Labels(1, first.ids)]
    return [second and Labels(2, second.ids)]


# Moving elements --------------------------------------------------------------------------------------------------

@rule("Flatten", "Reshape")
def _reshape(node, inputs, tracker):
    """The axis of the channels may be merged with others or split; of a split axis one part can shrink."""
    data = inputs[0]
    if data is None:
        return [None]
    for axis, rows in _moved(data, node.input_shape(0), node.shapes[0]):
        if _shrinks(node, data.axis, axis, rows[0]):
            return [_along(axis, rows, node, tracker)]
    return _stop(node, inputs, tracker, f"to the fixed shape {node.attributes.get('shape')}")


@rule("reshape_like")
def _reshape_like(node, inputs, tracker):
    data, like = inputs
    if data is None or like is None:
        return _stop(node, inputs, tracker, "to the shape of another tensor whose channels stay")
    for axis, rows in _moved(data, node.input_shape(0), node.shapes[0]):
        if axis == like.axis and node.shapes[0] == node.input_shape(1):
            tracker.same(rows[0], like.ids, f"laid like channels that stay by reshape_like ({node.name})")
            return [_along(axis, rows, node, tracker)]
    return _stop(node, inputs, tracker, "to the shape of another tensor")


def _moved(data, shape, target):
    """(axis, labels along it in each row) of the axes of ``target`` to which a reshape moves labels."""
    if data.axis and shape[0] == target[0]:
        shape, target = (1, *shape[1:]), (1, *target[1:])  # nothing is mixed with the batch
    along_axis = [-1 if axis == data.axis else 1 for axis in range(len(shape))]
    moved = np.broadcast_to(data.ids.reshape(along_axis), shape).reshape(target)
    for axis in range(len(target)):
        if (moved != moved.take([0], axis)).any():
            yield axis, np.moveaxis(moved, axis, -1).reshape(-1, target[axis])


def _along(axis, rows, node, tracker):
    """:class:`Labels` of a tensor whose rows lose the same positions."""
    for row in np.unique(rows, axis=0):
        tracker.same(rows[0], row, f"laid beside channels that stay by {node.operator} ({node.name})")
    return Labels(axis, rows[0])


def _shrinks(node, axis, target_axis, ids):
    """Whether MXNet reshapes an input without the first channel to an output without it, by the same attributes."""
    size = int((ids != ids[0]).sum())  # of the target axis without that channel
    shape, target = list(node.input_shape(0)), list(node.shapes[0])
    smaller, rest = divmod(shape[axis] * size, target[target_axis])
    if not smaller or rest:
        return False
    shape[axis], target[target_axis] = smaller, size
    attributes = {name: value for name, value in node.attributes.items() if not name.startswith("__")}
    operator = getattr(mx.sym, node.operator)(mx.sym.var("data"), **attributes)
    try:
        return operator.infer_shape_partial(data=tuple(shape))[1] == [tuple(target)]
    except mx.MXNetError:
        return False


@rule("transpose")
def _transpose(node, inputs, tracker):
    axes = node.get("axes") or tuple(reversed(range(len(node.shapes[0]))))
    return [inputs[0] and Labels(axes.index(inputs[0].axis), inputs[0].ids)]


@rule("SwapAxis")
def _swap_axis(node, inputs, tracker):
    first, second = node.get("dim1", 0), node.get("dim2", 0)
    dimensions = len(node.shapes[0])
    swapped = {first % dimensions: second % dimensions, second % dimensions: first % dimensions}
    return [inputs[0] and Labels(swapped.get(inputs[0].axis, inputs[0].axis), inputs[0].ids)]


@rule("expand_dims")
def _expand_dims(node, inputs, tracker):
    axis = _axis(node, 0)
    return [inputs[0] and Labels(inputs[0].axis + (axis <= inputs[0].axis), inputs[0].ids)]


@rule("squeeze")
def _squeeze(node, inputs, tracker):
    data, shape = inputs[0], node.input_shape(0)
    axes = node.get("axis")
    if axes is None:  # a layer with a single channel left would lose that axis
        return _stop(node, inputs, tracker, "it drops all axes of length one")
    axes = {axis % len(shape) for axis in ([axes] if isinstance(axes, int) else axes)}
    if data is not None and data.axis in axes:
        return _stop(node, inputs, tracker, "which takes its only channel as an axis to drop")
    return [data and Labels(data.axis - sum(axis < data.axis for axis in axes), data.ids)]


@rule("SliceChannel")
def _split(node, inputs, tracker):
    """Equal parts: channel i of each goes together with channel i of the others."""
    data, parts = inputs[0], node.get("num_outputs")
    axis, squeeze = _axis(node, 1), node.get("squeeze_axis", False)
    if data is None:
        return [None] * parts
    if data.axis != axis:
        return [Labels(data.axis - (squeeze and axis < data.axis), data.ids)] * parts
    if squeeze:
        return _stop(node, inputs, tracker, "it drops the axis of the channels")
    rows = data.ids.reshape(parts, -1)
    for row in rows[1:]:
        tracker.same(rows[0], row, f"split beside channels that stay by {node.operator} ({node.name})")
    return [Labels(axis, row) for row in rows]


@rule("slice_axis")
def _slice_axis(node, inputs, tracker):
    data, axis = inputs[0], _axis(node, 0)
    if data is not None and data.axis == axis and (node.get("begin"), node.get("end")) != (0, None):
        return _stop(node, inputs, tracker, "it takes channels by their number")
    return [data]


@rule("slice")
def _slice(node, inputs, tracker):
    data = inputs[0]
    if data is not None:
        here = [(node.get(name) or ())[data.axis:data.axis + 1] for name in ("begin", "end", "step")]
        if any(value not in ((), (None,), all_of_them) for value, all_of_them in zip(here, ((0,), (None,), (1,)))):
            return _stop(node, inputs, tracker, "it takes channels by their number")
    return [data]


@rule("slice_like")
def _slice_like(node, inputs, tracker):
    data, like = inputs
    dimensions = len(node.shapes[0])
    axes = {axis % dimensions for axis in node.get("axes") or range(dimensions)}
    if all(labels is None or labels.axis not in axes for labels in (data, like)):
        return [data]
    if data is not None and like is not None and data.axis == like.axis and len(data.ids) == len(like.ids):
        tracker.same(data.ids, like.ids, f"cut by slice_like ({node.name}) like channels that stay")
        return [data]
    return _stop(node, inputs, tracker, "it takes as many channels as another tensor has")


@rule("broadcast_to", "broadcast_axis")
def _broadcast(node, inputs, tracker):
    data = inputs[0]
    if data is not None and node.operator == "broadcast_to" and node.get("shape")[data.axis]:
        return _stop(node, inputs, tracker, f"to the fixed shape {node.attributes['shape']}")
    if data is not None and node.shapes[0][data.axis] != len(data.ids):
        return _stop(node, inputs, tracker, "a single channel for many")
    return [data]


@rule("tile", "repeat")
def _tile(node, inputs, tracker):
    data, shape = inputs[0], node.input_shape(0)
    if data is None:
        return [None]
    if node.operator == "repeat":
        if node.get("axis") is None:
            return _stop(node, inputs, tracker, "flattened")
        times = node.get("repeats") if node.get("axis") % len(shape) == data.axis else 1
        return [Labels(data.axis, np.repeat(data.ids, times))]
    times = node.shapes[0][len(node.shapes[0]) - len(shape) + data.axis] // shape[data.axis]
    return [Labels(len(node.shapes[0]) - len(shape) + data.axis, np.tile(data.ids, times))]


@rule("reverse")
def _reverse(node, inputs, tracker):
    data, axes = inputs[0], node.get("axis")
    axes = {axis % len(node.shapes[0]) for axis in ([axes] if isinstance(axes, int) else axes)}
    return [data and Labels(data.axis, data.ids[::-1] if data.axis in axes else data.ids)]


@rule("depth_to_space")
def _depth_to_space(node, inputs, tracker):
    """(N, b * b * C, H, W) to (N, C, b * H, b * W): b * b channels become the pixels of one."""
    data = _only_on(1, node, inputs[0], tracker)
    if data is None:
        return [None]
    rows = data.ids.reshape(node.get("block_size") ** 2, -1)
    for row in rows[1:]:
        tracker.same(rows[0], row, f"read by depth_to_space ({node.name}) together with channels that stay")
    return [Labels(1, rows[0])]


@rule("space_to_depth")
def _space_to_depth(node, inputs, tracker):
    data = _only_on(1, node, inputs[0], tracker)
    return [data and Labels(1, np.tile(data.ids, node.get("block_size") ** 2))]


@rule("Pad")
def _pad(node, inputs, tracker):
    data = inputs[0]
    if data is None:
        return [None]
    before, behind = node.get("pad_width")[2 * data.axis:2 * data.axis + 2]
    if (before or behind) and node.get("mode") != "constant":
        return _stop(node, inputs, tracker, "it repeats channels by their number")
    return [Labels(data.axis, np.pad(data.ids, (before, behind), constant_values=STAYS))]


@rule("shape_array", "size_array")
def _shape_array(node, inputs, tracker):
    return _stop(node, inputs, tracker, "it reads the number of channels")


def _axis(node, default):
    """The operator's ``axis``, counted from the front of its input."""
    axis = node.get("axis", default)
    return axis % (len(node.shapes[0]) if node.operator == "expand_dims" else len(node.input_shape(0)))
