"""The operator of LSTM, GRU and simple recurrent layers, several at once and in both directions; sequences."""
from __future__ import annotations

import numpy as np

from ....network.nodes import Node
from ..tracking import Labels, Tracker
from .table import Inputs, Outputs, beside, only_on, rule, stop

GATES = {"rnn_relu": 1, "rnn_tanh": 1, "lstm": 4, "gru": 3}


@rule("RNN")
def _recurrent(node: Node, inputs: Inputs, tracker: Tracker) -> Outputs:
    """All its layers and directions have as many hidden units: unit i is removed from each of them.

    Input (T, N, C), states (layers * directions, N, H), output (T, N, directions * H). A unit has a row for each gate
    in the weights (gates * H, C) of the inputs and (gates * H, H) of the states, and a column in the latter and in the
    weights of the next layer.
    """
    directions, gates = 1 + node.get("bidirectional"), GATES[node.get("mode")]
    weights, biases = _parameters(node, node.get("num_layers") * directions)
    if not weights:
        return stop(node, inputs, tracker, "its parameters are one vector")
    if node.get("projection_size") is not None:
        return stop(node, inputs, tracker, "its states are projected")
    data = only_on(2, node, inputs[0], tracker)
    hidden = tracker.new(node.get("state_size"))
    rows, outputs = np.tile(hidden, gates), np.tile(hidden, directions)
    for layer, (of_inputs, of_states) in enumerate(weights):
        read = outputs if layer >= directions else None if data is None else data.ids
        _assign(of_inputs, rows, read, node, tracker)
        _assign(of_states, rows, hidden, node, tracker)
    for vector in biases:
        tracker.assign(vector, 0, 0, rows)
    tracker.count(node, "state_size", None, hidden)
    _begin(node, inputs, hidden, tracker)
    states: Outputs = [Labels(2, hidden)] * (len(node.shapes) - 1)
    return [Labels(2, outputs), *states]


def _parameters(node: Node, layers: int) -> tuple[list[tuple[Node, Node]], list[Node]]:
    """The nodes that flatten its parameters: (weights of the inputs, of the states) of each layer; biases."""
    concatenated = node.inputs[1][0]
    flat = [source for source, _ in concatenated.inputs]
    if concatenated.operator != "_rnn_param_concat" or len(flat) != 4 * layers or not all(map(_is_flat, flat)):
        return [], []
    return list(zip(flat[:2 * layers:2], flat[1:2 * layers:2])), flat[2 * layers:]


def _is_flat(node: Node) -> bool:
    return node.operator == "Reshape" and node.get("shape") in (-1, (-1,)) and node.inputs[0][0].parameter is not None


def _assign(flat: Node, rows: np.ndarray, columns: np.ndarray | None, node: Node, tracker: Tracker) -> None:
    tracker.assign(flat, 0, 0, rows)
    if columns is not None:
        tracker.assign(flat, 0, 1, columns)
    tracker.made(node, rows, flat.inputs[0][0].parameter)


def _begin(node: Node, inputs: Inputs, hidden: np.ndarray, tracker: Tracker) -> None:
    """The initial states, and the lengths of the sequences."""
    for index, role in enumerate(node.meaning.inputs[:len(inputs)]):
        if role not in ("state", "state_cell") or node.get("mode") != "lstm" and role == "state_cell":
            if index > 1:
                tracker.pin(inputs[index], f"read by RNN ({node.name}) as lengths")
        else:
            _begin_with(node, index, only_on(2, node, inputs[index], tracker), hidden, tracker)


def _begin_with(node: Node, index: int, labels: Labels | None, hidden: np.ndarray, tracker: Tracker) -> None:
    source, _ = node.inputs[index]
    if labels is not None:
        tracker.same(hidden, labels.ids, f"the state that RNN ({node.name}) begins with stays")
    elif source.parameter is not None:
        tracker.assign(node, index, 2, hidden)
    else:
        tracker.pin(Labels(0, hidden), f"the state that RNN ({node.name}) begins with ({source.name}) stays")


@rule("SequenceMask", "SequenceReverse", "SequenceLast")
def _sequence(node: Node, inputs: Inputs, tracker: Tracker) -> Outputs:
    """Sequences of a batch, (T, N, ...) or (N, T, ...), and their lengths (N,)."""
    data, time = inputs[0], node.get("axis", 0)
    if data is not None and data.axis == time:
        return stop(node, inputs, tracker, "it runs over the channels")
    if len(inputs) > 1 and (data is None or data.axis == 1 - time):
        beside(data, 0, node, 1, inputs, tracker)
    elif len(inputs) > 1:
        tracker.pin(inputs[1], f"read by {node.operator} ({node.name}) as lengths")
    return [data and Labels(data.axis - (node.operator == "SequenceLast" and data.axis > time), data.ids)]
