"""Cross-layer equalization: channels of one tensor brought to like ranges, before they share a scale.

Where only a ReLU, pooling or the like lies between two layers, the first layer can make a channel smaller and the
second can make it larger again; the network still computes the same (Nagel et al., "Data-Free Quantization Through
Weight Equalization and Bias Correction", 2019, section 4.1):

    W2 f(W1 x + b1) = (W2 S) f(S^-1 W1 x + S^-1 b1)        for f(s x) = s f(x), S diagonal and positive

Each of the first layer's channels has its own scale, so it loses nothing. The tensor between the layers, which has one
scale, is weighed against the second layer's weights (Xiao et al., "SmoothQuant", 2023, equation 4, with alpha = 1/2):

    s_i = sqrt(max|x_i| / max_o(|W2[o, i]| / max_j|W2[o, j]|))

A depthwise second layer also has a scale for each channel: s_i = max|x_i| then makes all channels' ranges equal, at
no cost.

After a ReLU6, channels can only be made larger, up to its ceiling. Whatever exceeds the largest value that a channel
was seen to have is then cut, as a threshold cuts it.

Equalization is meant to reduce noise. Each pair gets the s**a, with a = 0, 1/4, ..., 1, for which the least noise is
expected at the second layer's output, with 8 bits each,

    sum_i n_i |W2[:, i]|**2 + sum_o m_o sum_i E[x_i**2] / s_i**2

    n_i = (s_i T / 255)**2 / 12 with T = max_i max|x_i| / s_i        m_o = (max_i |W2[o, i]| s_i / 127.5)**2 / 12

and stays as it is where that is a = 0.
"""
from __future__ import annotations

import math
from collections import Counter
from dataclasses import dataclass
from typing import Any

import numpy as np

from ..network.graph import Graph
from ..network.nodes import Node, consumers, in_order
from .calibration.observing import key, observe
from .integers.fusions import is_grouped
from .integers.inference_graph import InferenceGraph

EXPONENTS = (0, 0.25, 0.5, 0.75, 1)
LEAST_GAIN = 0.99  # a change must leave less than this share of the noise


@dataclass(frozen=True)
class Pair:
    """Two layers between which channels can be scaled; ``channels`` of them, which are cut at ``ceiling``."""

    first: Node
    second: Node
    channels: int
    ceiling: float = math.inf

    @property
    def depthwise(self) -> bool:
        return self.second.groups > 1


class ChannelStatistics:
    """The largest |x| and the mean square of each channel, axis 1, of all arrays observed; shapes (channels,)."""

    def __init__(self) -> None:
        self.largest, self.mean_square, self._count = 0.0, 0.0, 0

    def observe(self, array: np.ndarray) -> None:
        others = (0, *range(2, array.ndim))
        self.largest = np.maximum(self.largest, np.abs(array).max(axis=others))
        count = array.size // array.shape[1]
        self._count += count
        mean_square = np.square(array, dtype=np.float64).mean(axis=others)
        self.mean_square += (mean_square - self.mean_square) * count / self._count


def equalize_layers(graph: Graph, inference: InferenceGraph, values: dict[str, np.ndarray], batches: list[Any],
                    progress: bool) -> tuple[dict[str, np.ndarray], list[Pair], list[Pair]]:
    """``(values, changed, left)``: the parameters with channels rescaled, the pairs rescaled, the pairs left.

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
        return values, [], []
    seen = observe(inference, values, [], [pair.second.inputs[0] for pair in pairs], batches, ChannelStatistics,
                   progress)
    values, changed, left = dict(values), [], []
    for pair in pairs:
        statistics = seen.observers[key(pair.second.inputs[0])]
        largest = statistics.largest.reshape(pair.channels, -1).max(axis=1)
        mean_square = statistics.mean_square.reshape(pair.channels, -1).mean(axis=1)
        factor = least_noise(pair, largest, mean_square, values[inference.weights[pair.second.name]])
        if factor is None:
            left.append(pair)
        else:
            rescale(pair, factor, inference, values)
            changed.append(pair)
    return values, changed, left


def find_pairs(graph: Graph, inference: InferenceGraph) -> list[Pair]:
    """The :class:`Pair`\\ s of layers that integers could run on, each used once, as are their parameters."""
    uses = Counter(source.parameter for node in graph.nodes for source, _ in node.inputs if source.parameter)
    fixed = {node.parameter for node in graph.nodes if node.constant}
    readers, heads = consumers(inference.outputs), set(inference.outputs)

    def free(node: Node, *parameters: str | None) -> bool:
        fits = node.name in inference.weights and node.integer_obstacle is None and node.channel_axis == 1
        return fits and not is_grouped(node) and all(name is None or uses[name] == 1 and name not in fixed
                                                     for name in parameters)

    pairs = []
    for second in in_order(inference.outputs):
        if not free(second, inference.weights.get(second.name)):
            continue
        entry, ceiling, gain = second.inputs[0], math.inf, 1.0
        while len(readers[entry]) == 1 and entry not in heads and (entry[0].is_homogeneous or entry[0].is_relu):
            ceiling = min(ceiling, gain * (entry[0].ceiling or math.inf))
            gain *= entry[0].gain
            entry = entry[0].inputs[0]
        first = entry[0]
        if len(readers[entry]) == 1 and entry not in heads and free(
                first, inference.weights.get(first.name), inference.biases.get(first.name)):
            pairs.append(Pair(first, second, first.shapes[0][1], ceiling))
    return pairs


def least_noise(pair: Pair, largest: np.ndarray, mean_square: np.ndarray, weight: np.ndarray) -> np.ndarray | None:
    """s with the least noise that is expected, (channels,), or None where that is no change.

    Parameters
    ----------
    pair : Pair
    largest, mean_square : array (channels,)
        max|x_i| and E[x_i**2].
    weight : array
        Of the second layer: (out, in, height, width), (channels, 1, height, width) or (out, in).
    """
    weight = np.abs(weight.astype(np.float64))
    rows = weight.reshape(pair.channels, 1, -1) if pair.depthwise else weight.reshape(len(weight), pair.channels, -1)
    full = factors(pair, largest, rows)
    tried = [limited(pair, full ** exponent, largest) for exponent in EXPONENTS]
    noises = [noise(pair, factor, largest, mean_square, rows) for factor in tried]
    best = int(np.argmin(noises))
    return tried[best] if noises[best] < LEAST_GAIN * noises[0] else None


def factors(pair: Pair, largest: np.ndarray, rows: np.ndarray) -> np.ndarray:
    """s of the formulas above, of geometric mean 1 over the channels that are used at all; 1 for the others.

    ``rows`` are the second layer's absolute weights, (out, in, places), or (in, 1, places) of a depthwise one.
    """
    largest = largest.astype(np.float64)
    if pair.depthwise:
        balance, used = largest, largest > 0
    else:
        ends = rows.max(axis=2)
        shares = (ends / np.maximum(ends.max(axis=1, keepdims=True), np.finfo(float).tiny)).max(axis=0)
        used = (largest > 0) & (shares > 0)
        balance = np.sqrt(largest / np.where(used, shares, 1))
    result = np.ones(pair.channels)
    if used.any():
        result[used] = balance[used] / np.exp(np.log(balance[used]).mean())
    return result


def limited(pair: Pair, factor: np.ndarray, largest: np.ndarray) -> np.ndarray:
    """s limited so that no channel grows beyond the ceiling or shrinks: after a ReLU6 that could not be undone."""
    if pair.ceiling == math.inf:
        return factor
    return np.clip(factor / factor.max(), np.minimum(largest / pair.ceiling, 1), 1)


def noise(pair: Pair, factor: np.ndarray, largest: np.ndarray, mean_square: np.ndarray, rows: np.ndarray) -> float:
    """The noise expected at the second layer's output with channels divided by ``factor``: see above."""
    step = (largest / factor).max() / 255
    activations = (factor * step) ** 2 / 12
    if pair.depthwise:
        return (activations * np.square(rows).sum(axis=(1, 2))).sum()
    steps = (rows.max(axis=2) * factor).max(axis=1) / 127.5
    return ((activations * np.square(rows).sum(axis=2)).sum()
            + (np.square(steps) / 12).sum() * (mean_square / factor ** 2).sum() * rows.shape[2])


def rescale(pair: Pair, factor: np.ndarray, inference: InferenceGraph, values: dict[str, np.ndarray]) -> None:
    """Divide the first layer's channels by ``factor``, and multiply the second layer's weights for them by it."""
    weight = inference.weights[pair.first.name]
    values[weight] = _times(values[weight], 1 / factor.reshape(-1, *[1] * (values[weight].ndim - 1)))
    shift = inference.biases.get(pair.first.name)
    if shift is not None:
        values[shift] = _times(values[shift], 1 / factor)
    weight = inference.weights[pair.second.name]
    inputs = factor.repeat(values[weight].shape[0 if pair.depthwise else 1] // pair.channels)
    shape = (-1, 1, 1, 1) if pair.depthwise else (1, -1) + (1,) * (values[weight].ndim - 2)
    values[weight] = _times(values[weight], inputs.reshape(shape))


def _times(value: np.ndarray, factor: np.ndarray) -> np.ndarray:
    return (value * factor).astype(np.float32)
