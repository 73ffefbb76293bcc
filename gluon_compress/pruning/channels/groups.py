"""Which channels can go, and what goes with each: read off the network's graph.

Removing output channel ``c`` of a layer removes row ``c`` of its weight and bias, entry ``c`` of every
BatchNorm on the way, the input channel of each layer that reads it, and the channels of other layers that it is
added to or multiplied with. All this together is a *unit*; a *group* has the units that the same layers make,
among which a ratio chooses.
"""
from __future__ import annotations

from collections.abc import Collection, Mapping
from copy import copy
from dataclasses import dataclass, replace
from math import prod

import numpy as np
from mxnet.gluon import HybridBlock

from ...network.checks import check_floats
from ...network.graph import Graph
from ...network.layer import layer_name
from ...network.nodes import Node, consumers, in_order
from ...network.numbers import Origin, Origins, Place
from ...network.resizing import resizable_parameters
from ...network.values import parameters
from .rules import RULES, unknown_operator
from .tracking import Labels, Producer, Tracker

Key = tuple[str, ...]  # the layers of a group, by which it is known
Axis = tuple[str, int]  # structural name of a parameter, and which of its axes


@dataclass
class Group:
    """Units that the same layers make together.

    Attributes
    ----------
    name : str
        Of the first of its layers.
    layers : list of str
    units : ndarray
        The units, as classes of labels, in the order of the first layer's channels.
    channels : list of int
        How many channels a unit has in each of the layers (what divides all of them, where units differ).
    """

    name: str
    layers: list[str]
    units: np.ndarray
    channels: list[int]

    @property
    def key(self) -> tuple[str, ...]:
        """What distinguishes groups: two may begin with the same layer."""
        return tuple(self.layers)


class Dependencies:
    """Which channels of a network depend on each other.

    Attributes
    ----------
    groups : list of Group
        With at least two units each, in the order of the graph; after :meth:`without`, with what is left of them.
    left_out : dict
        {layer name: why none of its channels can go}.
    channels : dict
        {layer name: the unit of each output channel} of every layer.
    producers : dict
        {layer name: Producer}.
    entries : dict
        {(structural parameter name, axis): the unit of each position on that axis}.
    scales : list of (str, ndarray)
        BatchNorm's gammas with the unit of each entry.
    positions : dict
        {structural name of a parameter of positions: (its values, the unit of each channel that they count)}.
    counts : dict
        {number in the graph: the unit of each position that it counts}.
    sizes : dict
        {where such a number can be changed: units, as many as it says}.
    """

    def __init__(self, graph: Graph, net: HybridBlock) -> None:
        check_floats(net)
        tracker = track(graph, net)
        roots, stay = tracker.classes()
        self._labels = len(roots)
        self._graph = graph
        self.entries = {key: roots[ids] for key, ids in tracker.entries.items()}
        self._group_counts = {weight: roots[ids] for weight, ids in tracker.group_counts.items()}
        self.scales = [(name, roots[ids]) for name, ids in tracker.scales]
        self.positions = {name: (values, roots[ids]) for name, (values, ids) in tracker.positions.items()}
        self.counts = {place: roots[ids] for place, ids in tracker.counting.counts.items()}
        self.sizes = {origin: roots[ids] for origin, ids in tracker.counting.sizes.items()}
        self.producers: dict[str, Producer] = {}
        self.channels: dict[str, np.ndarray] = {}
        for producer in tracker.producers:
            self.producers.setdefault(layer_name(producer.weight), producer)
            self.channels.setdefault(layer_name(producer.weight), roots[producer.ids])
        self.groups = self._groups(stay)
        free = {layer for group in self.groups for layer in group.layers}
        self.left_out = {name: stay.get(int(units[0]), "all its channels would have to go together")
                          for name, units in self.channels.items() if name not in free}
        self.partly = {name: next(stay[unit] for unit in units.tolist() if unit in stay)
                       for name, units in self.channels.items()
                       if name in free and any(unit in stay for unit in units.tolist())}
        self._name_other_weights(tracker)
        self._macs = self._countable()

    def _name_other_weights(self, tracker: Tracker) -> None:
        """Weights of layers that make no channels by our rules, an LSTM's for example."""
        indexed = {parameter for parameter, _ in self.entries}
        for node in self._graph.nodes:
            if node.parameter is not None and not node.constant and len(node.shapes[0]) > 1 \
                    and node.parameter not in indexed:
                reason = tracker.why_fixed(node.parameter) or "operators without a rule read it"
                self.left_out.setdefault(layer_name(node.parameter), reason)

    def _groups(self, stay: Mapping[int, str]) -> list[Group]:
        makers: dict[int, list[str]] = {}  # unit: the layers that make it
        for name, units in self.channels.items():
            for unit in dict.fromkeys(units.tolist()):
                if unit not in stay:
                    makers.setdefault(unit, []).append(name)
        found: dict[tuple[str, ...], list[int]] = {}
        for unit, layers in makers.items():
            found.setdefault(tuple(layers), []).append(unit)
        return [Group(layers[0], list(layers), np.array(units),
                      [self._channels_of_one(layer, units) for layer in layers])
                for layers, units in found.items() if len(units) > 1]

    def _channels_of_one(self, layer: str, units: list[int]) -> int:
        channels = self.channels[layer]
        _, counts = np.unique(channels[np.isin(channels, units)], return_counts=True)
        return int(np.gcd.reduce(counts))

    def without(self, removed: Collection[int]) -> Dependencies:
        """The same of the network that lost the units ``removed``, with the same names for what is left.

        Read off that network's own graph, other layers might go together: a grouped convolution that has one group
        left looks like any other.
        """
        gone = self._flags(removed)

        def left(units: np.ndarray) -> np.ndarray:
            return units[~gone[units]]
        smaller = copy(self)
        smaller.groups = [replace(group, units=left(group.units)) for group in self.groups]
        smaller.channels = {name: left(units) for name, units in self.channels.items()}
        smaller.entries = {key: left(units) for key, units in self.entries.items()}
        smaller.scales = [(name, left(units)) for name, units in self.scales]
        smaller.positions = {name: (self._recounted(name, gone), left(units))
                             for name, (_, units) in self.positions.items()}
        smaller.counts = {place: left(units) for place, units in self.counts.items()}
        smaller.sizes = {origin: left(units) for origin, units in self.sizes.items()}
        smaller._group_counts = {weight: left(units) for weight, units in self._group_counts.items()}
        smaller._macs = [(macs * prod(self._share_left(key, gone) for key in keys), keys) for macs, keys in self._macs]
        return smaller

    def slices(self, removed: Collection[int]) -> list[dict]:
        """What the parameters keep without the units ``removed``: [{"parameter", "axis", "before", "kept"}]."""
        gone = self._flags(removed)
        cuts = []
        for (parameter, axis), units in self.entries.items():
            if gone[units].any():
                cuts.append({"parameter": parameter, "axis": axis, "before": len(units),
                             "kept": np.flatnonzero(~gone[units]).tolist()})
        return cuts

    def group_counts(self, removed: Collection[int]) -> dict[str, int]:
        """{structural weight name: number of groups left} of the grouped convolutions that lose whole groups."""
        gone = self._flags(removed)
        return {weight: int((~gone[units]).sum()) for weight, units in self._group_counts.items() if gone[units].any()}

    def new_numbers(self, removed: Collection[int]) -> dict[Place, int]:
        """{number in the graph: what it becomes without the units ``removed``} of those that change."""
        gone = self._flags(removed)
        return {place: int((~gone[units]).sum()) for place, units in self.counts.items() if gone[units].any()}

    def new_sizes(self, removed: Collection[int]) -> dict[Origin, tuple[int, int]]:
        """{where numbers can be changed: (as they are, as they become)} of those that change."""
        gone = self._flags(removed)
        return {origin: (len(units), int((~gone[units]).sum())) for origin, units in self.sizes.items()
                if gone[units].any()}

    def new_positions(self, removed: Collection[int]) -> dict[str, list]:
        """{structural name: list of its new values} of the parameters of positions that change."""
        gone = self._flags(removed)
        return {name: self._recounted(name, gone).tolist() for name, (_, units) in self.positions.items()
                if gone[units].any()}

    def _recounted(self, name: str, gone: np.ndarray) -> np.ndarray:
        """The positions that a parameter keeps, counted among the channels that are left."""
        values, units = self.positions[name]
        kept = values[~gone[self.entries[name, 0]]]
        return (np.cumsum(~gone[units]) - 1)[kept]

    def macs(self, removed: Collection[int] = ()) -> float:
        """Multiply-accumulates for the example without the units ``removed``."""
        gone = self._flags(removed)
        left = {key: self._share_left(key, gone) for key in self.entries}
        return sum(macs * prod(left[key] for key in keys) for macs, keys in self._macs)

    def _share_left(self, key: Axis, gone: np.ndarray) -> float:
        return 1 - gone[self.entries[key]].mean()

    def _countable(self) -> list[tuple[float, list[Axis]]]:
        """[(MACs, [keys of entries that they are proportional to])] of each weight of each operator.

        MACs = pixels * prod(weight.shape), see network/operators.py: they shrink with each axis of the weight.
        """
        found: list[tuple[float, list[Axis]]] = []
        for node in self._graph.nodes:
            if node.macs is not None:
                weights = {str(source.parameter): prod(source.shapes[0]) for source in _weights_of(node)}
                for weight, size in weights.items():
                    keys = [(weight, axis) for axis in (0, 1) if (weight, axis) in self.entries]
                    found.append((node.macs * size / sum(weights.values()), keys))
                if not weights:
                    found.append((node.macs, []))
        return found

    def _flags(self, removed: Collection[int]) -> np.ndarray:
        flags = np.zeros(self._labels, bool)
        flags[list(removed)] = True
        return flags


def _weights_of(node: Node) -> list[Node]:
    """The parameters of two axes or more that an operator multiplies with, also where they are put together first."""
    entry = node.entry("weight") or node.entry("parameters")
    return [] if entry is None else [source for source in in_order([entry])
                                     if source.parameter is not None and len(source.shapes[0]) > 1]


def track(graph: Graph, net: HybridBlock) -> Tracker:
    """Follow all channels through ``graph``, of ``net``, by the rules in rules/; returns the :class:`Tracker`."""
    tracker = Tracker(resizable_parameters(net), parameters(net), Origins(graph, net), consumers(graph.outputs), RULES)
    labels: dict[int, list[Labels | None]] = {}
    for node in graph.nodes:
        if node.operator == "null":
            labels[id(node)] = [None]
            continue
        inputs = [labels[id(source)][output] for source, output in node.inputs]
        outputs = RULES.get(node.operator, unknown_operator)(node, inputs, tracker)
        labels[id(node)] = outputs + [None] * (len(node.shapes) - len(outputs))
    for node in graph.nodes:
        tracker.fix_rest(node)
    tracker.counting.settle()
    for node, output in graph.outputs:
        tracker.pin(labels[id(node)][output], "its channels are the network's output")
        if node.parameter is not None:
            tracker.fix(node.parameter, "it is an output of the network")
    return tracker
