"""Recurrent layers: MXNet's RNN holds several, in one vector of parameters."""
from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from ....network.nodes import Node
from ..table import Unsupported, writes
from ..writer import Writer

# {mode: (ONNX's operator, the order in which it has MXNet's gates)}; LSTM: input, forget, cell, output; GRU: reset,
# update, new
MODES = {"lstm": ("LSTM", [0, 3, 1, 2]), "gru": ("GRU", [1, 0, 2]), "rnn_tanh": ("RNN", [0]), "rnn_relu": ("RNN", [0])}
FURTHER = {"GRU": {"linear_before_reset": 1}}  # as in cuDNN
ACTIVATIONS = {"rnn_relu": "Relu", "rnn_tanh": "Tanh"}


@writes("RNN")
def rnn(node: Node, write: Writer) -> str | list[str]:
    """Layer after layer; what both directions make lies side by side."""
    if node.get("projection_size") or node.get("use_sequence_length") or node.get("lstm_state_clip_min") is not None:
        raise Unsupported("with projections, lengths or clipped states")
    operator, _ = MODES[node.get("mode")]
    both = 2 if node.get("bidirectional") else 1
    data, states = write.data(node), [write.name(entry) for entry in node.inputs[2:]]
    found: list[list[str]] = [[] for _ in states]
    steps, samples, _ = write.tensor(node).lengths
    width = both * node.get("state_size")
    activations = [ACTIVATIONS[node.get("mode")]] * both if operator == "RNN" else None
    for layer, (weights, recurrence, biases) in enumerate(_layers(node, write)):
        begin = both * layer
        own = [write.slice(state, 0, begin, begin + both) for state in states]
        made, *last = write(operator, data, *map(write.constant, (weights, recurrence, biases)), "", *own,
                            outputs=1 + len(states), hidden_size=node.get("state_size"), activations=activations,
                            direction="bidirectional" if both == 2 else "forward", **FURTHER.get(operator, {}))
        data = write.transpose(made, 0, 2, 1, 3)  # from (steps, directions, samples, size)
        data = write.reshape(data, (steps, samples, both, node.get("state_size")), (steps, samples, width))
        for each, state in zip(found, last):
            each.append(state)
    if not node.get("state_outputs"):
        return data
    return [data, *(each[0] if len(each) == 1 else write("Concat", *each, axis=0) for each in found)]


def _layers(node: Node, write: Writer) -> Iterator[tuple[np.ndarray, np.ndarray, np.ndarray]]:
    """``(weights, recurrent weights, biases)`` of each layer, each of both directions.

    MXNet's vector has the weights of all layers and directions, of the input and then of the state, then the biases.
    """
    mode, size, both = node.get("mode"), node.get("state_size"), 2 if node.get("bidirectional") else 1
    order, layers = MODES[mode][1], node.get("num_layers")
    vector = write.known(node, 1).astype(write.tensor(node).dtype)
    rows, position = len(order) * size, 0

    def take(*shape: int) -> np.ndarray:
        nonlocal position
        begin, position = position, position + int(np.prod(shape))
        gates = vector[begin:position].reshape(len(order), size, *shape[1:])
        return gates[order].reshape(shape)
    inputs = [write.tensor(node).shape[2]] + [both * size] * (layers - 1)
    weights = [[(take(rows, width), take(rows, size)) for _ in range(both)] for width in inputs]
    for layer in weights:
        biases = [np.concatenate([take(rows), take(rows)]) for _ in range(both)]
        yield np.stack([first for first, _ in layer]), np.stack([second for _, second in layer]), np.stack(biases)
