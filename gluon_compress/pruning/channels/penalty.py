"""Sparse training: a penalty that makes whole channels small before they are removed.

>>> penalty = ChannelPenalty(net, example, strength=1e-4)
>>> with autograd.record():
...     loss = loss_function(net(inputs), labels)
>>> loss.backward()
>>> penalty.add_gradients(batch_size)       # before the step of any Trainer, with its batch size
>>> trainer.step(batch_size)
"""
from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import mxnet as mx
import numpy as np
from mxnet.gluon import HybridBlock, Parameter

from ...arguments import check_choice, check_number
from ...errors import NetworkError
from ...network.graph import Graph
from ...network.interface import CLASSIC
from ...network.layer import Which, selected_and_excluded
from ...network.values import parameters
from .chosen_groups import choose_groups
from .groups import Dependencies, Group

TINY = 1e-12  # below this norm a channel is not pulled any further: its direction is noise


@dataclass(frozen=True)
class _Member:
    """A parameter whose positions on ``axis`` belong to units; ``units[p]`` is -1 where none is pulled."""

    name: str
    parameter: Parameter
    axis: int
    units: np.ndarray


class ChannelPenalty:
    """``strength * sum_u ||v_u||``, a term of the loss that pulls whole channels to zero.

    Parameters
    ----------
    net : HybridBlock
    example : NDArray or tuple of NDArray
        A batch of the network's input; only its shape matters.
    strength : float
        Factor in the loss per sample, at least 0. Usual: 1e-5 to 1e-3.
    kind : "bn_scale" or "group_lasso"
        "bn_scale": each ``v_u`` is one gamma of a BatchNorm after prunable channels, the norm its absolute value,
        for ``prune_channels(..., criterion="bn_scale")``; Liu et al., "Learning Efficient Convolutional Networks
        through Network Slimming", ICCV 2017, eq. 1.
        "group_lasso": ``v_u`` are all the weights of unit ``u``, in the layers that make its channels and those that
        read them; Wen et al., "Learning Structured Sparsity in Deep Neural Networks", NeurIPS 2016, section
        3.1, over the groups of Fang et al., "DepGraph", CVPR 2023.
    select, exclude : name, kind, class or function of layers, or several of these
        Whose channels to pull, as for :func:`prune_channels`.

    Attributes
    ----------
    left_out : dict
        {layer name: why its channels are not pulled}.

    Raises ``ValueError`` when there is nothing to pull, ``NetworkError`` for a frozen parameter among them. Make a
    new one after channels have been removed.
    """

    def __init__(self, net: HybridBlock, example: Any, strength: float, kind: str = "bn_scale", select: Which = None,
                 exclude: Which = ()) -> None:
        check_number("strength", strength, minimum=0)
        check_choice("kind", kind, ("bn_scale", "group_lasso"))
        self.strength, self.kind = strength, kind
        dependencies = Dependencies(Graph(net, example), net)
        self.left_out = dict(dependencies.left_out)
        names = selected_and_excluded(net, select, exclude)
        groups = dependencies.groups and choose_groups(dependencies.groups, *names, self.left_out)
        terms = _scale_terms if kind == "bn_scale" else _lasso_terms
        self._terms = terms(parameters(net), dependencies, groups)
        if not self._terms:
            raise ValueError(f"kind={kind!r} finds nothing to pull in this network: no prunable channels"
                             f"{' with a BatchNorm after them' if kind == 'bn_scale' else ''}")
        for member in (member for term in self._terms for member in term):
            if member.parameter.grad_req == "null":
                raise NetworkError(f"{member.name} is frozen (grad_req is 'null'), so the penalty cannot pull it")

    def value(self) -> float:
        """The penalty as it is now, ``strength`` included; ``NetworkError`` after channels were removed."""
        self._check_shapes()
        return self.strength * sum(float(np.sqrt(_squares(term)).sum()) for term in self._terms)

    def add_gradients(self, batch_size: int) -> None:
        """Add ``batch_size * strength * v_u / ||v_u||`` to the gradients, on all devices.

        Call it between ``backward`` and ``trainer.step(batch_size)``, which divides by ``batch_size``. Raises
        ``NetworkError`` after channels were removed.
        """
        check_number("batch_size", batch_size, minimum=1)
        self._check_shapes()
        for term in self._terms:
            norms = np.sqrt(_squares(term))
            factors = np.where(norms > TINY, batch_size * self.strength / np.maximum(norms, TINY), 0)
            factors = np.append(factors, 0)  # for the units[p] that are -1
            for member in term:
                shape = [1] * member.parameter.list_data()[0].ndim
                shape[member.axis] = -1
                along = factors[member.units].reshape(shape)
                parameter = member.parameter
                for weight, gradient in zip(*map(CLASSIC.own, (parameter.list_data(), parameter.list_grad()))):
                    gradient += weight * mx.nd.array(along, weight.context, weight.dtype)

    def _check_shapes(self) -> None:
        for member in (member for term in self._terms for member in term):
            shape = member.parameter.list_data()[0].shape
            if shape[member.axis] != len(member.units):
                raise NetworkError(f"{member.name} has shape {shape} now, and had {len(member.units)} on axis "
                                   f"{member.axis} when this ChannelPenalty was made: make a new one")


def _squares(term: list[_Member]) -> np.ndarray:
    """``||v_u||**2`` of each unit of a term."""
    count = max(int(member.units.max()) for member in term) + 1
    total = np.zeros(count)
    for member in term:
        weight = CLASSIC.own(member.parameter.list_data()[0])
        other = tuple(axis for axis in range(weight.ndim) if axis != member.axis)
        squares = (weight.astype("float64") ** 2)
        squares = (squares.sum(axis=other) if other else squares).asnumpy()
        pulled = member.units >= 0
        total += np.bincount(member.units[pulled], weights=squares[pulled], minlength=count)
    return total


def _scale_terms(named: dict[str, Parameter], dependencies: Dependencies,
                 groups: list[Group]) -> list[list[_Member]]:
    """One term per gamma, whose prunable entries are units of their own."""
    terms = []
    prunable = np.concatenate([group.units for group in groups] or [np.array([])])
    for name in dict.fromkeys(name for name, _ in dependencies.scales):
        pulled = np.isin(dependencies.entries[name, 0], prunable)
        if pulled.any():
            terms.append([_Member(name, named[name], 0, np.where(pulled, np.cumsum(pulled) - 1, -1))])
    return terms


def _lasso_terms(named: dict[str, Parameter], dependencies: Dependencies,
                 groups: list[Group]) -> list[list[_Member]]:
    """One term per group: the weights that its units index."""
    terms = []
    for group in groups:
        number = {unit: index for index, unit in enumerate(group.units.tolist())}
        terms.append([_Member(name, named[name], axis, np.array([number.get(unit, -1) for unit in units.tolist()]))
                      for (name, axis), units in dependencies.entries.items()
                      if len(named[name].list_data()[0].shape) > 1 and np.isin(units, group.units).any()])
    return terms
