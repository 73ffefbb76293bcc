"""Criteria: how weights and channels are ranked before the least important go.

Each pruning takes one as ``criterion``: an object of these classes, or its name where it needs no data. A criterion of
channels gives every output channel of a layer a number. Channels that go together (see channels/groups.py) get the mean
over their layers, after each layer's numbers are divided by their mean; with ``over="first"``, the first layer's.
"""
from __future__ import annotations

from collections.abc import Callable, Iterable
from contextlib import closing
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from mxnet.gluon import HybridBlock, Parameter

from ..arguments import check_choice, check_integer, shown
from ..errors import NetworkError
from ..network.data import check_data, check_repeatable
from ..network.layer import Layer
from ..network.values import parameters
from .channels.gradients import gradients_of_batches
from .channels.groups import Dependencies, Group, Key
from .channels.units import channels_first, finite_value, mean_of_relative, per_unit

Ranking = tuple[dict[Key, np.ndarray], dict[Key, str]]  # the importance of each unit of a group; why a group has none


def l1(w: np.ndarray) -> np.ndarray:
    """``sum |w|``: Li et al., "Pruning Filters for Efficient ConvNets", 2017, section 3.1."""
    return np.abs(w.reshape(len(w), -1)).sum(axis=1, dtype=np.float64)


def l2(w: np.ndarray) -> np.ndarray:
    """``sqrt(sum w**2)``."""
    return np.sqrt((_rows(w) ** 2).sum(axis=1))


def fpgm(w: np.ndarray) -> np.ndarray:
    """``sum_j ||w_c - w_j||``, small near the geometric median: He et al., "FPGM", CVPR 2019, section 3.3, eq. 6."""
    rows = _rows(w)
    squares = (rows ** 2).sum(axis=1)
    distances = squares[:, None] + squares[None, :] - 2 * rows @ rows.T  # ||a||^2 + ||b||^2 - 2 a.b
    np.fill_diagonal(distances, 0)
    return np.sqrt(np.maximum(distances, 0)).sum(axis=1)


OVER = ("group", "first")
FORMULAS: dict[str, Callable[[np.ndarray], np.ndarray]] = {"l1": l1, "l2": l2, "fpgm": fpgm}


class Criterion:
    """What ranks: the base of all criteria."""

    def of_channels(self, net: HybridBlock, dependencies: Dependencies) -> Ranking:
        """``({group key: importance of each unit}, {group key: why it has none})``."""
        raise NotImplementedError

    def of_weights(self, net: HybridBlock, layers: list[Layer]) -> dict[str, np.ndarray]:
        """{parameter name: importance of each weight} of these layers of a network."""
        raise ValueError(f"criterion is {self}, which ranks channels; accepted for single weights: 'l1', 'l2', "
                         f"'random', Random(seed), a dict {{layer name: array}} or a function of a layer")

    def check_repeatable(self) -> None:
        """Raise ``TypeError`` when the criterion can rank only once."""

    def functions(self) -> dict[str, Callable[..., Any]]:
        """{argument: the user's function}."""
        return {}

    def settings(self) -> dict[str, Any]:
        """What a record and a saved state say about the criterion, as JSON."""
        raise NotImplementedError


@dataclass(frozen=True)
class WeightCriterion(Criterion):
    """Ranks channels by their weights alone.

    Parameters
    ----------
    formula : "l1", "l2", "fpgm" or function
        The L1 or L2 norm of a channel's weights, without bias; the sum of its distances from the others; or a function
        from a layer's weight as a NumPy array, output channels first, to one number per channel.
    over : "group" or "first"
        Channels that go together are ranked over all the layers that make them, or by the first.
    """

    formula: str | Callable[[np.ndarray], Any]
    over: str = "group"

    def __post_init__(self) -> None:
        if not callable(self.formula):
            check_choice("formula", self.formula, tuple(FORMULAS))
        check_choice("over", self.over, OVER)

    def of_channels(self, net: HybridBlock, dependencies: Dependencies) -> Ranking:
        named, channels = parameters(net), dependencies.channels
        of_layer = {layer: self._of_layer(layer, dependencies, named[dependencies.producers[layer].weight])
                    for layer in _ranked_layers(dependencies, self.over)}
        return {group.key: mean_of_relative([per_unit(of_layer[layer], channels[layer], group.units)
                                             for layer in _ranked_by(group, self.over)])
                for group in dependencies.groups}, {}

    def _of_layer(self, layer: str, dependencies: Dependencies, parameter: Parameter) -> np.ndarray:
        weight = channels_first(layer, dependencies, finite_value(layer, parameter))
        function = FORMULAS[self.formula] if isinstance(self.formula, str) else self.formula
        values = np.asarray(function(weight), np.float64)
        if values.shape != (len(weight),) or not np.isfinite(values).all():
            what = "numbers that are not finite" if values.shape == (len(weight),) else f"shape {values.shape}"
            raise ValueError(f"criterion gives {what} for layer {layer}; accepted: {len(weight)} finite numbers, "
                             f"one per output channel")
        return values

    def of_weights(self, net: HybridBlock, layers: list[Layer]) -> dict[str, np.ndarray]:
        if self.formula not in ("l1", "l2"):  # both put single weights in the order of |w|
            return super().of_weights(net, layers)
        return {layer.parameter_name: np.abs(layer.value()) for layer in layers}

    def functions(self) -> dict[str, Callable[..., Any]]:
        return {} if isinstance(self.formula, str) else {"criterion": self.formula}

    def settings(self) -> dict[str, Any]:
        return {"criterion": function_name(self.formula), "over": self.over}


@dataclass(frozen=True)
class BatchNormScale(Criterion):
    """Ranks channels by ``|gamma|`` of the BatchNorms after them: Liu et al., "Network Slimming", ICCV 2017, section 3.

    Layers without such a BatchNorm keep their channels. ``over`` is that of :class:`WeightCriterion`.
    """

    over: str = "group"

    def __post_init__(self) -> None:
        check_choice("over", self.over, OVER)

    def of_channels(self, net: HybridBlock, dependencies: Dependencies) -> Ranking:
        named = parameters(net)
        importance, missing = {}, {}
        for group in dependencies.groups:
            scales = [per_unit(np.abs(finite_value(name, named[name]).astype(np.float64)), units, group.units)
                      for name, units in dependencies.scales if np.isin(group.units, units).all()]
            if scales:
                importance[group.key] = mean_of_relative(scales[:None if self.over == "group" else 1])
            else:
                missing[group.key] = "no BatchNorm with a scale after it"
        return importance, missing

    def settings(self) -> dict[str, Any]:
        return {"criterion": "bn_scale", "over": self.over}


@dataclass(frozen=True)
class Taylor(Criterion):
    """Ranks channels by ``(sum g * w)**2``, averaged over batches, ``g`` being the gradient of a loss.

    This is the change of the loss, to first order, when the weights that make a channel become zero in all layers that
    make it together: Molchanov et al., "Importance Estimation for Neural Network Pruning", CVPR 2019, eq. 8. The
    network computes as in inference. Its stored gradients do not change.

    >>> prune_channels(net, example, 0.5, Taylor(train_data))

    Parameters
    ----------
    data : iterable of (input, label) batches
        ``input`` is a tuple where the network has several. Each ranking goes through it: once in
        :func:`prune_channels`, at each step or measurement in the others, which therefore refuse a generator.
    loss : callable, optional
        ``loss(output, label)``; by default the cross entropy of logits.
    over : "group" or "first"
        As for :class:`WeightCriterion`.
    """

    data: Iterable[Any] = field(repr=False)
    loss: Callable[..., Any] | None = None
    over: str = "group"

    def __post_init__(self) -> None:
        check_data(self.data, "data")
        if self.loss is not None and not callable(self.loss):
            raise TypeError(f"loss is {shown(self.loss)}; accepted: a function loss(output, label), or None")
        check_choice("over", self.over, OVER)

    def of_channels(self, net: HybridBlock, dependencies: Dependencies) -> Ranking:
        named = parameters(net)
        weights = {layer: named[dependencies.producers[layer].weight]
                   for layer in _ranked_layers(dependencies, self.over)}
        totals: dict[Key, Any] = {group.key: 0.0 for group in dependencies.groups}
        with closing(gradients_of_batches(net, list(weights.values()), self.data, self.loss)) as batches:
            for gradients in batches:
                changes = {layer: _change(layer, dependencies, weight, gradient)
                           for (layer, weight), gradient in zip(weights.items(), gradients)}
                for group in dependencies.groups:
                    totals[group.key] += sum(per_unit(changes[layer], dependencies.channels[layer], group.units)
                                             for layer in _ranked_by(group, self.over)) ** 2
        return {key: mean_of_relative([total]) for key, total in totals.items()}, {}

    def check_repeatable(self) -> None:
        check_repeatable(self.data, "data")

    def functions(self) -> dict[str, Callable[..., Any]]:
        return {} if self.loss is None else {"loss": self.loss}

    def settings(self) -> dict[str, Any]:
        return {"criterion": "taylor", "over": self.over, "loss": self.loss and function_name(self.loss)}


@dataclass(frozen=True)
class Random(Criterion):
    """Ranks by chance: any other criterion must beat it. The same ``seed``, at least 0, gives the same ranking."""

    seed: int = 0

    def __post_init__(self) -> None:
        check_integer("seed", self.seed, minimum=0)

    def of_channels(self, net: HybridBlock, dependencies: Dependencies) -> Ranking:
        generator = np.random.default_rng(self.seed)
        return {group.key: generator.random(len(group.units)) for group in dependencies.groups}, {}

    def of_weights(self, net: HybridBlock, layers: list[Layer]) -> dict[str, np.ndarray]:
        generator = np.random.default_rng(self.seed)
        return {layer.parameter_name: generator.random(layer.value().shape) for layer in layers}

    def settings(self) -> dict[str, Any]:
        return {"criterion": "random", "seed": self.seed}


NAMED: dict[str, Criterion] = {**{name: WeightCriterion(name) for name in FORMULAS}, "bn_scale": BatchNormScale(),
                               "random": Random()}


def named_criterion(criterion: Any) -> Criterion:
    """The criterion with this name; ``ValueError`` for an unknown one, and for one that needs data."""
    if isinstance(criterion, str) and criterion.lower() == "taylor":
        raise ValueError("criterion is 'taylor', which needs data; accepted: Taylor(data, loss)")
    if not isinstance(criterion, str) or criterion not in NAMED:
        raise ValueError(f"criterion is {shown(criterion)}; accepted: {', '.join(map(repr, NAMED))}, "
                         f"Taylor(data, loss), another object of these classes, or a function")
    return NAMED[criterion]


def channel_criterion(criterion: Any) -> Criterion:
    """The criterion that a user means for channels: an object, a name, or a function from a weight to its channels."""
    if isinstance(criterion, Criterion):
        return criterion
    if isinstance(criterion, type):
        raise TypeError(f"criterion is the class {criterion.__name__}; accepted: an object of it, a name or a function")
    return WeightCriterion(criterion) if callable(criterion) else named_criterion(criterion)


def function_name(function: Any) -> str:
    """The name itself, or that of a function, or of the class of an object that can be called."""
    return function if isinstance(function, str) else getattr(function, "__qualname__", type(function).__qualname__)


def _ranked_by(group: Group, over: str) -> list[str]:
    return group.layers if over == "group" else group.layers[:1]


def _ranked_layers(dependencies: Dependencies, over: str) -> list[str]:
    return sorted({layer for group in dependencies.groups for layer in _ranked_by(group, over)})


def _change(layer: str, dependencies: Dependencies, weight: Parameter, gradient: Any) -> np.ndarray:
    """``sum g * w`` of each output channel."""
    product = gradient.asnumpy() * finite_value(layer, weight)
    change = _rows(channels_first(layer, dependencies, product)).sum(axis=1)
    if not np.isfinite(change).all():
        raise NetworkError(f"layer {layer}: the gradients are not finite; look for NaN in weights and data")
    return change


def _rows(w: np.ndarray) -> np.ndarray:
    return w.reshape(len(w), -1).astype(np.float64)
