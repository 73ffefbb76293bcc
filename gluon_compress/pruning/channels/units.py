"""From what a layer's channels are worth to what the units of a group are worth."""
from __future__ import annotations

from collections.abc import Iterable

import numpy as np
from mxnet.gluon import Parameter

from ...errors import NetworkError
from ...network.values import value_of
from .groups import Dependencies


def finite_value(layer: str, parameter: Parameter) -> np.ndarray:
    """The values of a parameter; ``NetworkError`` naming the layer when it holds NaN or infinity."""
    value = value_of(parameter)
    if not np.isfinite(value.sum()) and not np.isfinite(value).all():  # the sum is finite almost always, and faster
        raise NetworkError(f"layer {layer} has weights that are not finite; train or load the network again")
    return value


def channels_first(layer: str, dependencies: Dependencies, weight: np.ndarray) -> np.ndarray:
    """The weight of a layer with its output channels on axis 0."""
    if dependencies.producers[layer].node.meaning.weight_channels == 0:
        return weight
    groups = len(dependencies.channels[layer]) // weight.shape[1]
    split = weight.reshape(groups, -1, *weight.shape[1:]).swapaxes(1, 2)
    return split.reshape(-1, *split.shape[2:])  # (groups * in, out, ...) -> (groups * out, in, ...)


def per_unit(values: np.ndarray, channels: np.ndarray, units: np.ndarray) -> np.ndarray:
    """Mean of ``values``, one per channel, over the channels of each unit; ``channels`` has each channel's unit."""
    order = np.argsort(units)
    position = order[np.searchsorted(units, channels, sorter=order).clip(max=len(units) - 1)]
    belongs = units[position] == channels
    count = np.bincount(position[belongs], minlength=len(units))
    return np.bincount(position[belongs], weights=values[belongs], minlength=len(units)) / count


def mean_of_relative(rows: Iterable[np.ndarray]) -> np.ndarray:
    """Mean of the rows, each first divided by the mean of its own magnitudes."""
    return np.mean([row / (np.abs(row).mean() or 1.0) for row in rows], axis=0)
