"""Several inputs: combined element by element, concatenated, or multiplied."""
from __future__ import annotations

from math import prod

import numpy as np

from ....network.nodes import Node
from ..tracking import STAYS, Labels, Tracker
from .table import Inputs, Outputs, only_on, rule, stop


@rule("elemwise_add", "elemwise_sub", "elemwise_mul", "elemwise_div", "_grad_add", "add_n", "broadcast_add",
      "broadcast_sub", "broadcast_mul", "broadcast_div", "broadcast_maximum", "broadcast_minimum", "broadcast_power",
      "broadcast_mod", "broadcast_hypot", "broadcast_equal", "broadcast_not_equal", "broadcast_greater",
      "broadcast_greater_equal", "broadcast_lesser", "broadcast_lesser_equal", "broadcast_logical_and",
      "broadcast_logical_or", "broadcast_logical_xor", "_maximum", "_minimum", "_power", "_mod", "_hypot", "_equal",
      "_not_equal", "_greater", "_greater_equal", "_lesser", "_lesser_equal", "_logical_and", "_logical_or",
      "_logical_xor", "where", "broadcast_like")
def _elementwise(node: Node, inputs: Inputs, tracker: Tracker) -> Outputs:
    if all(labels is None for labels in inputs):
        return [None]
    shapes = [node.input_shape(index) for index in range(len(inputs))]
    if node.get("lhs_axes") is not None or node.get("rhs_axes") is not None:  # broadcast_like
        return _broadcast_axes(node, inputs, tracker)
    if node.operator == "where" and len(shapes[0]) < len(node.shapes[0]) and prod(shapes[0]) > 1:
        return stop(node, inputs, tracker, "its condition has fewer axes than what it chooses from")
    behind = _from_behind(node, inputs)
    full = [labels for labels, shape in zip(behind, shapes) if labels is not None
            and shape[labels.axis - len(node.shapes[0])] == node.shapes[0][labels.axis]]
    if not full:
        return stop(node, inputs, tracker, "a single channel for many")
    return [_aligned(node, behind, min(full, key=tracker.are_copies), tracker)]


def _from_behind(node: Node, inputs: Inputs) -> Inputs:
    """The labels, on the axes of the output: the last axis of an input with fewer axes is that of the output."""
    missing = [len(node.shapes[0]) - len(node.input_shape(index)) for index in range(len(inputs))]
    return [labels and Labels(labels.axis + number, labels.ids) for labels, number in zip(inputs, missing)]


def _broadcast_axes(node: Node, inputs: Inputs, tracker: Tracker) -> Outputs:
    """The first input, with some axes as long as in the second, of which only these lengths are read."""
    for labels, name, index in zip(inputs, ("lhs_axes", "rhs_axes"), (0, 1)):
        dimensions = len(node.input_shape(index))
        if labels is not None and labels.axis in {axis % dimensions for axis in node.get(name) or ()}:
            return stop(node, inputs, tracker, "it takes the length of one axis from another")
    return [inputs[0]]


def _aligned(node: Node, inputs: Inputs, result: Labels, tracker: Tracker) -> Labels | None:
    """``result``, the labels of an output that each input meets position by position, or by broadcasting.

    All labels are on the axes of the output.
    """
    axis, size = result.axis, node.shapes[0][result.axis]
    reason = f"read by {node.operator} ({node.name}) together with channels that stay"
    for index, (labels, (source, _)) in enumerate(zip(inputs, node.inputs)):
        shape = node.input_shape(index)
        own_axis = axis - len(node.shapes[0]) + len(shape)
        here = shape[own_axis] if own_axis >= 0 else 1
        if labels is not None and labels.axis == axis and here == size:
            tracker.same(result.ids, labels.ids, reason)
            continue
        tracker.pin(labels, f"read by {node.operator} ({node.name}) with channels on axis {axis} of another input")
        if source.parameter is not None and not source.constant and here == size:
            tracker.assign(node, index, own_axis, result.ids)
        elif here != 1:
            tracker.pin(result, reason)
    return result


@rule("Concat", "_rnn_param_concat")
def _concat(node: Node, inputs: Inputs, tracker: Tracker) -> Outputs:
    axis = node.get("dim", 1) % len(node.shapes[0])
    labelled = [labels for labels in inputs if labels is not None]
    if not labelled:
        return [None]
    if all(labels.axis != axis for labels in labelled):  # the channels of all inputs meet position by position
        return [_aligned(node, inputs, labelled[0], tracker)]
    return side_by_side(axis, node, inputs, tracker)


def side_by_side(axis: int, node: Node, inputs: Inputs, tracker: Tracker) -> Outputs:
    """The channels of all inputs, concatenated along ``axis``."""
    if all(labels is None for labels in inputs):
        return [None]
    parts = []
    for index, labels in enumerate(inputs):
        labels = only_on(axis, node, labels, tracker)
        parts.append(np.full(node.input_shape(index)[axis], STAYS) if labels is None else labels.ids)
    return [Labels(axis, np.concatenate(parts))]


def together(node: Node, inputs: Inputs, tracker: Tracker) -> Outputs:
    """The channels of all inputs on the same axis: they go together, or stay where one has none there."""
    labelled = [labels for labels in inputs if labels is not None]
    if not labelled:
        return [None]
    for labels in inputs:
        if labels is None or labels.axis != labelled[0].axis:
            return stop(node, inputs, tracker, "together with channels that stay")
        tracker.same(labelled[0].ids, labels.ids,
                     f"read by {node.operator} ({node.name}) together with channels that stay")
    return [labelled[0]]


@rule("stack")
def _stack(node: Node, inputs: Inputs, tracker: Tracker) -> Outputs:
    labels, new_axis = together(node, inputs, tracker)[0], node.get("axis", 0) % len(node.shapes[0])
    return [labels and Labels(labels.axis + (new_axis <= labels.axis), labels.ids)]


@rule("batch_dot", "_linalg_gemm2")
def _batch_dot(node: Node, inputs: Inputs, tracker: Tracker) -> Outputs:
    """(..., M, K) times (..., K, N), either transposed on request; all axes before these two are batches."""
    first, second = inputs
    last = len(node.shapes[0]) - 1
    if node.get("axis", -2) != -2:
        return stop(node, inputs, tracker, "its matrices lie along other axes than the last two")
    inner_first = last - bool(node.get("transpose_a", False))
    inner_second = last - 1 + bool(node.get("transpose_b", False))
    contracted = [labels is not None and labels.axis == inner
                  for labels, inner in ((first, inner_first), (second, inner_second))]
    batched = [labels is not None and labels.axis < last - 1 for labels in inputs]
    if first is not None and second is not None and (all(contracted) or all(batched) and first.axis == second.axis):
        tracker.same(first.ids, second.ids, f"multiplied by channels that stay in {node.operator} ({node.name})")
        return [first if all(batched) else None]
    if any(contracted) or any(batched):
        return stop(node, inputs, tracker, "multiplied by what has no such channels")
    if first is not None and second is not None:
        tracker.pin(second, f"read by {node.operator} ({node.name}), whose output has other channels already")
    if first is not None:
        return [Labels(last - 1, first.ids)]
    return [second and Labels(last, second.ids)]
