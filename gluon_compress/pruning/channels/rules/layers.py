"""Layers with parameters: convolutions, dense layers, embeddings, normalization, PReLU."""
from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from ....network.nodes import Node
from ..tracking import Labels, Tracker
from .table import Inputs, Outputs, only_on, rule, stop


@rule("Convolution", "Deconvolution")
def _convolution(node: Node, inputs: Inputs, tracker: Tracker) -> Outputs:
    """The weight is (out, in / groups, ...), or (out, ..., in); that of a transposed one is (in, out / groups, ...)."""
    data_axis, out_axis = node.channel_axis, node.meaning.weight_channels
    in_axis = data_axis if out_axis == 0 else 0
    data = only_on(data_axis, node, inputs[0], tracker)
    channels = node.shapes[0][data_axis]
    if node.groups == 1:
        if data is not None:
            tracker.assign(node, "weight", in_axis, data.ids)
        out = _new_channels(node, tracker, channels, {"weight": out_axis, "bias": 0})
    elif "weight" not in node.parameters or data_axis != 1:
        why = "its weight is computed" if data_axis == 1 else "it has groups and channels on the last axis"
        return stop(node, inputs, tracker, why)
    else:
        out = _grouped(node, data, tracker, channels, out_axis)
    return [out and Labels(data_axis, out.ids)]


def _grouped(node: Node, data: Labels | None, tracker: Tracker, channels: int, out_axis: int) -> Labels | None:
    """A grouped convolution loses whole groups, or the same channels of each, whichever is the finer choice."""
    inputs, groups = node.input_shape(0)[1], node.groups
    whole = _new_channels(node, tracker, channels, {"bias": 0})
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
        tracker.assign(node, "weight", 1, (read if out_axis == 0 else made)[0])
    else:  # whole groups: all that a group reads and makes is removed together
        for column in (*read.T, *made.T):
            tracker.same(read[:, 0], column, reason)
        tracker.count_groups(node, read[:, 0])
        tracker.group_counts[node.parameters["weight"]] = read[:, 0]
    tracker.assign(node, "weight", 0, (made if out_axis == 0 else read).ravel())
    return whole


@rule("FullyConnected")
def _dense(node: Node, inputs: Inputs, tracker: Tracker) -> Outputs:
    shape, data = node.input_shape(0), inputs[0]
    flatten = node.get("flatten") or len(shape) == 2
    if data is not None and flatten:
        # (N, d1, C, d3) is read as (N, d1 * C * d3): which column belongs to which channel
        data = only_on(data.axis if data.axis else -1, node, data, tracker)
        if data is not None:
            before, after = int(np.prod(shape[1:data.axis])), int(np.prod(shape[data.axis + 1:]))
            tracker.assign(node, "weight", 1, np.tile(np.repeat(data.ids, after), before))
    elif data is not None:
        data = only_on(len(shape) - 1, node, data, tracker)
        if data is not None:
            tracker.assign(node, "weight", 1, data.ids)
    out = _new_channels(node, tracker, node.shapes[0][-1], {"weight": 0, "bias": 0})
    return [out and Labels(1 if flatten else len(shape) - 1, out.ids)]


@rule("Embedding")
def _embedding(node: Node, inputs: Inputs, tracker: Tracker) -> Outputs:
    tracker.pin(inputs[0], f"read by Embedding ({node.name}) as indices")
    out = _new_channels(node, tracker, node.shapes[0][-1], {"weight": 1})
    return [out and Labels(len(node.shapes[0]) - 1, out.ids)]


def _new_channels(node: Node, tracker: Tracker, count: int, indexed: Mapping[str, int]) -> Labels | None:
    """Labels of the channels that a layer makes; they index its weight and bias. None when they are not ours."""
    weights = tracker.weights(node)
    if not weights:
        return None
    labels = Labels(0, tracker.new(count))
    for role, axis in indexed.items():
        tracker.assign(node, role, axis, labels.ids)
    for weight in weights:
        tracker.made(node, tracker.entries.get((weight, node.meaning.weight_channels), labels.ids), weight)
    number_follows = weights == [node.parameters.get("weight")] and weights[0] in tracker.resizable
    if not number_follows and not tracker.can_count(node, node.meaning.numbers[0]):
        tracker.pin(labels, "its number of channels is set in a hybrid_forward, where it cannot be changed")
    elif not number_follows:
        tracker.count(node, node.meaning.numbers[0], None, labels.ids)
    elif count == 1:
        tracker.pin(labels, "it has one channel")
    return labels


@rule("BatchNorm", "_contrib_SyncBatchNorm", "_contrib_BatchNormWithReLU")
def _batch_norm(node: Node, inputs: Inputs, tracker: Tracker) -> Outputs:
    data = only_on(node.channel_axis, node, inputs[0], tracker)
    if data is not None:
        for role in ("gamma", "beta", "mean", "variance"):
            tracker.assign(node, role, 0, data.ids)
        if not node.get("fix_gamma") and "gamma" in node.parameters:
            tracker.scales.append((node.parameters["gamma"], data.ids))
    return [data]


@rule("InstanceNorm")
def _instance_norm(node: Node, inputs: Inputs, tracker: Tracker) -> Outputs:
    data = only_on(1, node, inputs[0], tracker)
    if data is not None:
        for role in ("gamma", "beta"):
            tracker.assign(node, role, 0, data.ids)
    return [data]


@rule("LayerNorm")
def _layer_norm(node: Node, inputs: Inputs, tracker: Tracker) -> Outputs:
    data = inputs[0]
    if data is not None and data.axis == node.channel_axis:
        return stop(node, inputs, tracker, "it takes the mean and variance over the channels")
    return [data]


@rule("GroupNorm")
def _group_norm(node: Node, inputs: Inputs, tracker: Tracker) -> Outputs:
    """Whole groups are removed, so that those that stay are normalized as before."""
    data = only_on(1, node, inputs[0], tracker)
    if data is None:
        return [None]
    groups = node.get("num_groups")
    read = data.ids.reshape(groups, -1)
    for column in read.T:
        tracker.same(read[:, 0], column, f"in one group of GroupNorm ({node.name}) with channels that stay")
    for role in ("gamma", "beta"):  # MXNet has one of each per group
        tracker.assign(node, role, 0, read[:, 0])
    tracker.count_groups(node, read[:, 0])
    return [data]


@rule("LeakyReLU")
def _leaky_relu(node: Node, inputs: Inputs, tracker: Tracker) -> Outputs:
    data = inputs[0]
    if len(node.inputs) > 1 and data is not None:  # PReLU
        if node.input_shape(1) == (1,):
            return [data]
        data = only_on(1, node, data, tracker)
        if data is not None:
            tracker.assign(node, "slope", 0, data.ids)
    return [data]


@rule("L2Normalization")
def _l2_normalization(node: Node, inputs: Inputs, tracker: Tracker) -> Outputs:
    """It divides by the norm of each channel or of all together; removed channels add nothing to it."""
    if node.get("mode", "instance") == "spatial":
        return [only_on(1, node, inputs[0], tracker)]
    return [inputs[0]]
