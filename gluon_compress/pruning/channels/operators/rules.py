"""The table of rules, and what they share.

A rule ``(node, inputs, tracker) -> outputs`` gets the :class:`Labels` of each input (None where channels cannot
be told apart) and returns those of the outputs. It tells the tracker what the removal of a channel demands
here. A rule that is not sure pins the channels: they stay, and the plan gives the reason.
"""


RULES = {}


def rule(*operators):
    """Register the decorated function for these operators."""
    def register(function):
        RULES.update(dict.fromkeys(operators, function))
        return function
    return register


def unknown_operator(node, inputs, tracker):
    """No rule: all that it reads stays."""
    return stop(node, inputs, tracker, "no rule for this operator")


def stop(node, inputs, tracker, why):
    """All channels that the node reads stay, for the reason ``why``, and so do the parameters."""
    reason = f"read by {node.operator} ({node.name}): {why}"
    for labels, (source, _) in zip(inputs, node.inputs):
        tracker.pin(labels, reason)
        if source.parameter is not None:
            tracker.fix(source.parameter, f"{source.parameter} is {reason}")
    return [None] * len(node.shapes)


def only_on(axis, node, labels, tracker):
    """``labels`` when they run along ``axis``; otherwise their channels stay, and None."""
    if labels is not None and labels.axis != axis:
        tracker.pin(labels, f"read by {node.operator} ({node.name}) with its channels on axis {labels.axis}")
        return None
    return labels


def axis_of(node, default):
    """The operator's ``axis``, counted from the front of its input."""
    axis = node.get("axis", default)
    return axis % (len(node.shapes[0]) if node.operator == "expand_dims" else len(node.input_shape(0)))
