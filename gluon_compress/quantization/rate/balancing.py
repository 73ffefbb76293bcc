"""Channels between two layers, made larger or smaller so that an error of a step costs alike in all of them.

All weights of a row have the same step, although errors of some inputs cost far more than those of others. Where a
layer reads what another one puts out, through functions with f(s x) = s f(x) alone, the first one's rows, which have
steps of their own, take over what the inputs differ by (as in cross-layer equalization, Nagel et al., 2019, section
4.1, which does so with ranges):

    W2 f(W1 x + b1) = (W2 S) f(S^-1 W1 x + S^-1 b1)        s_i = sqrt(cost of an error of the weights that read x_i)

That saves 1/2 log2(mean cost / geometric mean of the costs) bits a weight of the second layer where steps are short,
and the network still computes the same.
"""
from __future__ import annotations

import numpy as np

from ...coding.rounding import Factor
from ..equalization import Pair, rescale
from ..integers.inference_graph import InferenceGraph
from .curvature import Curvature

__all__ = ["balance"]


def balance(pairs: list[Pair], inference: InferenceGraph, values: dict[str, np.ndarray],
            curvatures: dict[str, Curvature], factors: dict[str, tuple[Factor, Factor]]) -> None:
    """Rescale the channels of each pair in ``values``, and what ``curvatures`` and ``factors`` say of both layers."""
    for pair in pairs:
        first, second = pair.first.name, pair.second.name
        of_rows, of_inputs = factors[second]
        scale = like_costs(of_inputs.cost, pair.channels)
        rescale(pair, scale, inference, values)
        factors[second] = of_rows, of_inputs.in_units(1 / scale.repeat(len(of_inputs.cost) // pair.channels))
        curvatures[second] = with_inputs_divided(curvatures[second], scale)
        of_rows, of_inputs = factors[first]
        factors[first] = of_rows.in_units(scale), of_inputs
        curvatures[first] = Curvature(curvatures[first].moments, curvatures[first].of_outputs * np.outer(scale, scale))


def like_costs(cost: np.ndarray, channels: int) -> np.ndarray:
    """s of the formula above, (channels,), of geometric mean 1; ``cost`` (inputs,) has the places of each together."""
    logarithms = np.log(np.maximum(cost.astype(np.float64), np.finfo(np.float32).tiny))
    of_channels = logarithms.reshape(channels, -1).mean(axis=1)
    return np.exp((of_channels - of_channels.mean()) / 2)


def with_inputs_divided(curvature: Curvature, scale: np.ndarray) -> Curvature:
    """Of the layer whose inputs are divided by ``scale`` (channels,), and its weights multiplied; not the bias."""
    inputs = np.append(scale.repeat((len(curvature.moments) - 1) // len(scale)), 1)
    return Curvature(curvature.moments / np.outer(inputs, inputs), curvature.of_outputs)
