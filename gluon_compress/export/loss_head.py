"""The loss with which Module trains a network on, put at the end of its graph."""
from __future__ import annotations

from ..arguments import check_choice
from ..errors import NetworkError
from ..network.nodes import Entry, Node, in_order, written

# {operator: what in the network it stands for, or None where it reads the output as it is}
LOSSES: dict[str, tuple[str, ...]] = {
    "SoftmaxOutput": ("softmax", "SoftmaxActivation"), "LogisticRegressionOutput": ("sigmoid",),
    "LinearRegressionOutput": (), "MAERegressionOutput": (), "SVMOutput": ()}
NAME = "softmax"  # with which Module calls the label softmax_label, unless it is told otherwise


def check_loss_head(loss_head: object) -> None:
    """``None``, or an operator of :data:`LOSSES`; else ``ValueError``."""
    if loss_head is not None:
        check_choice("loss_head", loss_head, LOSSES)


def with_loss(outputs: list[Entry], loss_head: str) -> tuple[Entry, Entry]:
    """``(the loss, what it reads)``: a softmax or sigmoid at the end goes, as the loss computes it itself.

    The loss has the name of what it stands for, or "softmax"; its label is called ``<name>_label``. Raises
    ``NetworkError`` for a network of several outputs, each of which would need a loss of its own.
    """
    if len(outputs) != 1:
        raise NetworkError(f"the network has {len(outputs)} outputs; accepted: one, for loss_head={loss_head!r}")
    taken = {node.name for node in in_order(outputs)}
    node, data, attributes = _replaced(outputs[0], loss_head)
    name = NAME if node is None or node.name not in taken else node.name
    while node is None and (name in taken or f"{name}_label" in taken):
        name += "_loss"
    return (written(loss_head, name, data, (Node(f"{name}_label", "null"), 0), **attributes), 0), data


def _replaced(output: Entry, loss_head: str) -> tuple[Node | None, Entry, dict[str, bool]]:
    """``(the node that the loss stands for, what that reads, attributes with which the loss computes the same)``."""
    node = output[0]
    if node.operator == "reshape_like" and node.inputs[0][0].operator in LOSSES[loss_head]:
        return node, node.inputs[1], {}  # a softmax over all numbers of a sample, however they lie
    if node.operator not in LOSSES[loss_head]:
        return None, output, {}
    if loss_head != "SoftmaxOutput":
        return node, node.inputs[0], {}
    channels = node.get("axis", -1) == 1 or node.get("mode") == "channel"
    return node, node.inputs[0], {"multi_output" if channels else "preserve_shape": True}
