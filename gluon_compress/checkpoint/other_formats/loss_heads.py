"""What a Module was trained with and nobody deploys: losses at the end of the graph, and the labels that they read.

    SoftmaxOutput               softmax of its data, over the axis that it says, or the data (the logits)
    LogisticRegressionOutput    sigmoid of its data, or the data
    LinearRegressionOutput, MAERegressionOutput, SVMOutput, MakeLoss    the data as they are

An output that still depends on a label afterwards is a loss, or the label itself, and is left out. Of a detector, the
detections are kept, which the training graph of an SSD puts out as well.
"""
from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass, field

from ...arguments import listed, nearest
from ...errors import CheckpointError
from ...files.schema import Malformed
from ...network.nodes import Entry, Node, in_order, written

SOFTMAX = ("SoftmaxOutput", "Softmax")  # the second is the name of the first until 0.7
IDENTITY = ("LinearRegressionOutput", "MAERegressionOutput", "SVMOutput", "MakeLoss", "make_loss",
            "IdentityAttachKLSparseReg")
HEADS = (*SOFTMAX, *IDENTITY, "LogisticRegressionOutput")
# Which input of an operator is a label.
LABELS = {**dict.fromkeys((*SOFTMAX, "LinearRegressionOutput", "MAERegressionOutput", "LogisticRegressionOutput",
                           "SVMOutput", "softmax_cross_entropy", "CTCLoss", "ctc_loss", "_contrib_CTCLoss",
                           "_contrib_ctc_loss", "_contrib_MultiBoxTarget"), 1)}
DETECTION = ("_contrib_MultiBoxDetection", "_contrib_box_nms", "_contrib_box_non_maximum_suppression")
PROBABILITIES = ("softmax", "SoftmaxActivation", "sigmoid")  # what logits become at the end of a graph
COPIES = ("_copy", "identity", "BlockGrad", "stop_gradient", "Cast", "cast")  # of it, as the user's own losses need
FLAT = ("FullyConnected", "Flatten", "flatten")              # what makes a row for each sample
LONGEST_CHAIN = 50  # of operators that keep a shape, one after another
MOST_NAMED = 12     # labels in one reason
SAME_SHAPE = ("Activation", "BatchNorm", "Dropout", "LeakyReLU", "relu", "sigmoid", "tanh", "_copy", "identity",
              "BlockGrad", "Cast", "cast", "_mul_scalar", "_plus_scalar", "_minus_scalar", "_div_scalar", "clip",
              "L2Normalization", "softmax", "SoftmaxActivation")


@dataclass
class Stripped:
    """The outputs that are left; ``replaced``, {name of a loss: what stands for it}; ``left_out``, {name: why}."""

    outputs: list[Entry]
    replaced: dict[str, str] = field(default_factory=dict)
    left_out: dict[str, str] = field(default_factory=dict)


def without_losses(outputs: list[Entry], known: Collection[str], head: str, chosen: bool = False) -> Stripped:
    """A network's outputs without losses and labels; its nodes are changed.

    ``known`` are the names that are not labels, whatever they look like: parameters, and inputs that the user names.
    ``head`` is "softmax" or "logits"; ``chosen`` says that the user wants just these outputs. Raises
    :class:`Malformed` when every output is a loss.
    """
    labels = _labels(outputs, known)
    replaced: dict[str, str] = {}
    stripped = Stripped(_replace(outputs, replaced), replaced)
    kept, trained = [], _reached_from(labels, stripped.outputs)
    for before, output in zip(outputs, stripped.outputs):
        if output[0] in trained:
            stripped.left_out[output_name(before)] = f"it depends on the label {listed(trained[output[0]])}"
        else:
            kept.append(output)
    if not kept:
        raise Malformed(f"every output of the graph ({listed(stripped.left_out)}) is a loss that depends on a label "
                        f"({listed(sorted(node.name for node in labels))}); accepted: outputs=, names of what it "
                        f"computes before the loss, or inputs=, names with those that are no labels")
    if not chosen:
        kept = _detections(kept, outputs, stripped.left_out)
    stripped.outputs = [_logits(output, replaced) for output in kept] if head == "logits" else kept
    for name in [name for name in replaced if f"{name}_output" in stripped.left_out]:
        del replaced[name]
    return stripped


def outputs_named(names: Sequence[str], outputs: list[Entry]) -> list[Entry]:
    """What a graph puts out or computes in between under these names, with or without ``_output``.

    Raises ``CheckpointError`` for a name that it does not have.
    """
    nodes = [node for node in in_order(outputs) if node.operator != "null"]
    found = {**{node.name: (node, 0) for node in nodes}, **{output_name((node, 0)): (node, 0) for node in nodes},
             **{output_name(output): output for output in outputs}}
    for name in names:
        if name not in found:
            raise CheckpointError(f"outputs has {name!r}, which the graph does not compute; {nearest(name, found)}")
    return [found[name] for name in names]


def output_name(output: Entry) -> str:
    """As MXNet names it: ``fc1_output``, or ``fc1_output1`` for the second of several; an input's own name."""
    node, number = output
    return node.name if node.operator == "null" else f"{node.name}_output{number or ''}"


def _labels(outputs: list[Entry], known: Collection[str]) -> set[Node]:
    """Inputs of the graph that a loss reads as a label, or that are named so, as Module's must be."""
    found = set()
    for node in in_order(outputs):
        if node.operator == "null" and node.name.rstrip("0123456789").endswith("label"):
            found.add(node)
        position = LABELS.get(node.operator)
        if position is not None and position < len(node.inputs):
            found.add(node.inputs[position][0])
    return {node for node in found if node.operator == "null" and node.name not in known}


def _reached_from(sources: Collection[Node], outputs: list[Entry]) -> dict[Node, list[str]]:
    """{node: names of the ``sources`` that it depends on, or is} of all nodes for which there are any."""
    found: dict[Node, list[str]] = {}
    for node in in_order(outputs):
        names = {name for source, _ in node.inputs for name in found.get(source, ())[:MOST_NAMED]}
        if node in sources:
            names.add(node.name)
        if names:
            found[node] = sorted(names)
    return found


def _replace(outputs: list[Entry], replaced: dict[str, str]) -> list[Entry]:
    """Put what they compute in inference in place of all losses, wherever in the graph they are."""
    instead: dict[Node, Entry] = {}

    def current(entry: Entry) -> Entry:
        return instead.get(entry[0], entry)
    for node in in_order(outputs):
        node.inputs = [current(entry) for entry in node.inputs]
        if node.operator in HEADS:
            if not node.inputs:
                raise Malformed(f"{node.operator} {node.name!r} reads nothing; accepted: its data")
            instead[node], replaced[node.name] = _in_inference(node)
    return [current(output) for output in outputs]


def _in_inference(node: Node) -> tuple[Entry, str]:
    data = node.inputs[0]
    if node.operator in SOFTMAX:
        return _softmax(node, data), f"softmax instead of {node.operator}"
    if node.operator == "LogisticRegressionOutput":
        return (written("sigmoid", node.name, data), 0), f"sigmoid instead of {node.operator}"
    return data, f"what {node.operator} reads"


def _softmax(node: Node, data: Entry) -> Entry:
    """Over axis 1 with ``multi_output``, over the last with ``preserve_shape``, else over all but the first as one."""
    if node.get("multi_output", False) in (True, 1):
        return written("softmax", node.name, data, axis=1), 0
    if node.get("preserve_shape", False) in (True, 1) or _is_flat(data):
        return written("softmax", node.name, data, axis=-1), 0
    rows = written("Reshape", f"{node.name}_rows", data, shape="(0, -1)"), 0
    probabilities = written("softmax", f"{node.name}_softmax", rows, axis=-1), 0
    return written("reshape_like", node.name, probabilities, data), 0


def _is_flat(entry: Entry) -> bool:
    """Whether it surely has two dimensions."""
    node = entry[0]
    for _ in range(LONGEST_CHAIN):
        if node.operator not in SAME_SHAPE or not node.inputs:
            break
        node = node.inputs[0][0]
    return node.operator in FLAT and node.get("flatten", True) in (True, 1)


def _detections(kept: list[Entry], outputs: list[Entry], left_out: dict[str, str]) -> list[Entry]:
    """Of a detector, only the outputs that are detections."""
    detecting = _reached_from({node for node in in_order(kept) if node.operator in DETECTION}, kept)
    found = [output for output in kept if output[0] in detecting]
    if found:
        left_out.update((output_name(output), "the network is a detector, and it is none of the detections")
                        for output in kept if output not in found)
        return found
    if any(node.operator == "_contrib_MultiBoxTarget" for node in in_order(outputs)):
        raise Malformed("the graph trains a detector (MultiBoxTarget) and has no MultiBoxDetection, so that nothing in "
                        "it says what is detected; accepted: the graph for deployment, or outputs= with names")
    return kept


def _logits(output: Entry, replaced: dict[str, str]) -> Entry:
    """What a softmax or a sigmoid at the end reads; other outputs as they are."""
    node, _ = output
    while node.operator in COPIES:
        node = node.inputs[0][0]
    if node.operator == "reshape_like" and node.name in replaced:
        replaced[node.name] = "the logits that it reads"
        return node.inputs[1]
    if node.operator in PROBABILITIES:
        replaced[node.name] = f"the logits, without {node.operator}"
        return node.inputs[0]
    return output
