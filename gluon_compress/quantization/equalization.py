"""Cross-layer equalization: channels of one tensor brought to like ranges, before they share a scale.

Between two layers with nothing but a ReLU, pooling or the like, a channel can be made smaller by the first layer and
larger again by the second, and the network computes the same (Nagel et al., "Data-Free Quantization Through Weight
Equalization and Bias Correction", 2019, section 4.1):

    W2 f(W1 x + b1) = (W2 S) f(S^-1 W1 x + S^-1 b1)        for f(s x) = s f(x), S diagonal and positive

The first layer's channels have a scale each, so it loses nothing. What is weighed up is the tensor between the layers,
of one scale, against the second layer's weights (Xiao et al., "SmoothQuant", 2023, equation 4, with alpha = 1/2):

    s_i = sqrt(max|x_i| / max_o(|W2[o, i]| / max_j|W2[o, j]|))

A depthwise second layer has a scale for each channel, too: s_i = max|x_i| then makes all channels' ranges equal, at
no cost.
"""
from collections import Counter
from dataclasses import dataclass

import numpy as np

from ..graph import Node, consumers, in_order
from .lowering import obstacle
from .observing import key, observe

HOMOGENEOUS = ("relu", "Pooling", "Flatten", "_contrib_AdaptiveAvgPooling2D")


@dataclass(frozen=True)
class Pair:
    """Two layers between which channels can be scaled; ``channels`` of them."""

    first: Node
    second: Node
    channels: int


class ChannelMaximum:
    """The largest |x| of each channel, axis 1, of all arrays observed; shape (channels,)."""

    def __init__(self):
        self.largest = 0.0

    def observe(self, array):
        self.largest = np.maximum(self.largest, np.abs(array).max(axis=(0, *range(2, array.ndim))))


def equalize_layers(graph, inference, values, batches, progress):
    """``(values, pairs)``: the parameters with channels rescaled, and between which layers.

    Parameters
    ----------
    graph : Graph
    inference : InferenceGraph
        Of ``graph``, with BatchNorm's scales in the weights.
    values : dict
        {structural name: float32 array}.
    batches : list of tuple of NDArray
        To see the ranges of the channels on.
    progress : bool
    """
    pairs = find_pairs(graph, inference)
    if not pairs:
        return values, []
    seen = observe(inference, [], [pair.second.inputs[0] for pair in pairs], batches, ChannelMaximum, progress)
    values = dict(values)
    for pair in pairs:
        largest = seen.observers[key(pair.second.inputs[0])].largest.reshape(pair.channels, -1).max(axis=1)
        _rescale(pair, factors(pair, largest, values[inference.weights[pair.second.name]]), inference, values)
    return values, pairs


def find_pairs(graph, inference):
    """The :class:`Pair`\\ s of layers that integers could run on, each used once, as are their parameters."""
    uses = Counter(source.parameter for node in graph.nodes for source, _ in node.inputs if source.parameter)
    fixed = {node.parameter for node in graph.nodes if node.constant}
    readers, heads = consumers(inference.outputs), set(inference.outputs)

    def free(node, *parameters):
        return (node.name in inference.weights and obstacle(node) is None and len(node.shapes[0]) in (2, 4)
                and all(name is None or uses[name] == 1 and name not in fixed for name in parameters))

    pairs = []
    for second in in_order(inference.outputs):
        if not free(second, inference.weights.get(second.name)):
            continue
        entry = second.inputs[0]
        while len(readers[entry]) == 1 and entry not in heads and _homogeneous(entry[0]):
            entry = entry[0].inputs[0]
        first = entry[0]
        if len(readers[entry]) == 1 and entry not in heads and free(
                first, inference.weights.get(first.name), inference.biases.get(first.name)):
            pairs.append(Pair(first, second, first.shapes[0][1]))
    return pairs


def _homogeneous(node):
    """Whether f(s x) = s f(x), channel by channel, for s > 0."""
    return (node.operator in HOMOGENEOUS or node.operator == "Activation" and node.get("act_type") == "relu"
            or node.operator == "LeakyReLU" and node.get("act_type", "leaky") in ("leaky", "prelu"))


def factors(pair, largest, weight):
    """s, of geometric mean 1 over the channels that are used at all; 1 for the others.

    Parameters
    ----------
    pair : Pair
    largest : array (channels,)
        max|x_i|.
    weight : array
        Of the second layer: (out, in, height, width), (channels, 1, height, width) or (out, in).
    """
    largest = largest.astype(np.float64)
    if pair.second.get("num_group", 1) > 1:
        balance, used = largest, largest > 0
    else:
        rows = np.abs(weight.astype(np.float64)).reshape(len(weight), pair.channels, -1).max(axis=2)
        shares = (rows / np.maximum(rows.max(axis=1, keepdims=True), np.finfo(float).tiny)).max(axis=0)
        used = (largest > 0) & (shares > 0)
        balance = np.sqrt(largest / np.where(used, shares, 1))
    result = np.ones(pair.channels)
    if used.any():
        result[used] = balance[used] / np.exp(np.log(balance[used]).mean())
    return result


def _rescale(pair, factor, inference, values):
    """Divide the first layer's channels by ``factor``, and multiply what the second makes of them."""
    weight = inference.weights[pair.first.name]
    values[weight] = _times(values[weight], 1 / factor.reshape(-1, *[1] * (values[weight].ndim - 1)))
    shift = inference.biases.get(pair.first.name)
    if shift is not None:
        values[shift] = _times(values[shift], 1 / factor)
    weight = inference.weights[pair.second.name]
    inputs = factor.repeat(values[weight].shape[0 if pair.second.get("num_group", 1) > 1 else 1] // pair.channels)
    shape = (-1, 1, 1, 1) if pair.second.get("num_group", 1) > 1 else (1, -1) + (1,) * (values[weight].ndim - 2)
    values[weight] = _times(values[weight], inputs.reshape(shape))


def _times(value, factor):
    return (value * factor).astype(np.float32)
