"""The table of rules, and what they share.

A rule ``(node, inputs, tracker) -> outputs`` gets the :class:`Labels` of each input (None where channels cannot
be told apart) and returns those of the outputs. It tells the tracker what the removal of a channel demands
here. A rule that cannot be sure pins the channels: they stay, and the plan gives the reason.
"""
from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from ....network.nodes import Node
from ..tracking import Labels, Tracker

Inputs = Sequence[Labels | None]
Outputs = list[Labels | None]
Rule = Callable[[Node, Inputs, Tracker], Outputs]

RULES: dict[str, Rule] = {}


def rule(*operators: str) -> Callable[[Rule], Rule]:
    """Register the decorated function for these operators."""
    def register(function: Rule) -> Rule:
        RULES.update(dict.fromkeys(operators, function))
        return function
    return register


def unknown_operator(node: Node, inputs: Inputs, tracker: Tracker) -> Outputs:
    """There is no rule: everything that it reads stays."""
    return stop(node, inputs, tracker, "no rule for this operator")


def stop(node: Node, inputs: Inputs, tracker: Tracker, why: str) -> Outputs:
    """All channels that the node reads stay, for the reason ``why``, and so do the parameters."""
    reason = f"read by {node.operator} ({node.name}): {why}"
    for labels, (source, _) in zip(inputs, node.inputs):
        tracker.pin(labels, reason)
        if source.parameter is not None:
            tracker.fix(source.parameter, f"{source.parameter} is {reason}")
    return [None] * len(node.shapes)


def only_on(axis: int, node: Node, labels: Labels | None, tracker: Tracker) -> Labels | None:
    """``labels`` when they run along ``axis``; otherwise None, and their channels stay."""
    if labels is not None and labels.axis != axis:
        tracker.pin(labels, f"read by {node.operator} ({node.name}) with its channels on axis {labels.axis}")
        return None
    return labels


def beside(data: Labels | None, axis: int, node: Node, index: int, inputs: Inputs, tracker: Tracker) -> None:
    """Input ``index`` has ``data``'s channels along ``axis`` too: they go together, or stay where it has none."""
    other, reason = inputs[index], f"read by {node.operator} ({node.name}) together with lengths that stay"
    if data is not None and other is not None and other.axis == axis:
        tracker.same(data.ids, other.ids, reason)
    else:
        tracker.pin(data, reason)
        tracker.pin(other, f"read by {node.operator} ({node.name}) as lengths")


def axis_of(node: Node, default: Any) -> int:
    """The operator's ``axis``, counted from the front of its input."""
    axis = node.get("axis", default)
    return axis % (len(node.shapes[0]) if node.operator == "expand_dims" else len(node.input_shape(0)))
