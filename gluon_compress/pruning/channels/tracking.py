"""Which channel each position of each tensor belongs to, followed through the network's graph.

Every output channel of every layer gets a number of its own, its label. A tensor whose channels can be told
apart has labels along one axis; position ``p`` of that axis goes when the channel ``ids[p]`` goes, and
positions labelled ``STAYS`` never do. Operators carry labels on, say which of them must go together
(``same``: an addition), which parameters lose entries with them (``assign``: a BatchNorm), and which must stay
(``pin``: the network's output). The rules are in rules/; what follows from them is in groups.py.

Fang et al., "DepGraph: Towards Any Structural Pruning", CVPR 2023, sections 3.2 and 3.3, calls what must go
together a group; there the rules are per pair of layers, here per operator of the graph.
"""
from __future__ import annotations

from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass

import numpy as np
from mxnet.gluon import Parameter

from ...network.nodes import Entry, Node
from ...network.numbers import Origins, Place
from .counting import Counting
from .moved import Moved

STAYS = 0


@dataclass(frozen=True)
class Labels:
    """The channels along ``axis`` of a tensor: ``ids`` has one label for each of its positions."""

    axis: int
    ids: np.ndarray


@dataclass(frozen=True)
class Producer:
    """A layer that makes channels: its operator, the structural name of its weight, its labels."""

    node: Node
    weight: str
    ids: np.ndarray


class Tracker:
    """Labels, what is known about them, and the parameters that they index.

    Attributes
    ----------
    entries : dict
        {(structural parameter name, axis): labels of the positions on that axis}.
    producers : list of Producer
        The layers that make channels, in the order of the graph.
    group_counts : dict
        {structural weight name: one label per group} of grouped convolutions that lose whole groups.
    scales : list of (str, ndarray)
        BatchNorm's gammas by name, with their labels.
    positions : dict
        {structural parameter name: (its values, labels of the channels that they count)}.
    counting : Counting
        What the numbers in the graph count.
    """

    def __init__(self, resizable: Collection[str], parameters: Mapping[str, Parameter], origins: Origins,
                 readers: Mapping[Entry, list[Node]], rules: Mapping[str, Callable]) -> None:
        self.resizable = resizable    # weights whose owner can be told its new number of channels
        self.readers = readers        # {(node, output): the nodes that read it}
        self.counting = Counting(origins, self)
        self._rules = rules
        self._moved: dict[tuple[int, int], Moved] = {}
        self.parameters = parameters  # {structural name: Parameter}
        self.entries: dict[tuple[str, int], np.ndarray] = {}
        self.producers: list[Producer] = []
        self.group_counts: dict[str, np.ndarray] = {}
        self.scales: list[tuple[str, np.ndarray]] = []
        self.positions: dict[str, tuple[np.ndarray, np.ndarray]] = {}
        self._parent = [STAYS]
        self._copies: set[int] = set()
        self._reasons: dict[int, str] = {}  # label: why it stays
        # (parameter, axis): why that axis keeps its length; all axes when it is None
        self._fixed: dict[tuple[str, int | None], str] = {}
        self._indexed: set[tuple[str, int, int]] = set()  # (node name, index of an input, axis) of what was assigned

    def new(self, count: int) -> np.ndarray:
        """Labels for ``count`` new channels."""
        first = len(self._parent)
        self._parent.extend(range(first, first + count))
        return np.arange(first, first + count)

    def same(self, first: np.ndarray, second: np.ndarray, reason: str) -> None:
        """The channels ``first[i]`` and ``second[i]`` go together; one beside a ``STAYS`` stays, for ``reason``."""
        for a, b in zip(first.tolist(), second.tolist()):
            if a == b:
                continue
            if a == STAYS or b == STAYS:
                self._reasons.setdefault(a or b, reason)
            else:
                a, b = self._root(a), self._root(b)
                self._parent[max(a, b)] = min(a, b)

    def pin(self, labels: Labels | None, reason: str) -> None:
        """These channels stay: ``labels`` is a :class:`Labels` or None, ``reason`` a text for the plan."""
        if labels is not None:
            self.pin_ids(labels.ids, reason)

    def pin_ids(self, ids: np.ndarray, reason: str) -> None:
        """These channels stay."""
        for label in ids.tolist():
            self._reasons.setdefault(label, reason)

    def assign(self, node: Node, which: str | int, axis: int, ids: np.ndarray, reason: str | None = None) -> None:
        """Entry ``p`` on ``axis`` of a parameter that ``node`` reads goes with ``ids[p]``.

        ``which`` is its role, "weight", "bias", ..., or its number among the inputs; nothing happens where the node has
        no input of that role. Where the input is neither a parameter of the network nor put together from some, the
        channels stay.
        """
        index = node.index(which) if isinstance(which, str) else which
        if index is None:
            return
        source = node.inputs[index][0]
        if source.parameter is None and self._assign_moved(node.inputs[index], axis, ids):
            return
        if source.parameter is None or source.constant:
            self.pin(Labels(axis, ids), reason or f"{node.operator} ({node.name}) reads them with a computed or "
                                                  f"constant parameter ({source.name})")
            return
        self._indexed.add((node.name, index, axis))
        known = self.entries.setdefault((source.parameter, axis), ids)
        if known is not ids:
            self.same(known, ids, f"{source.parameter} is also used where channels stay")

    def _assign_moved(self, entry: Entry, axis: int, ids: np.ndarray) -> bool:
        """As :meth:`assign`, to the parameters that an entry is put together from; False where it is not."""
        moved = self.moved(entry)
        found = moved.along(axis) if moved.nodes else {}
        labels: dict[int, list[Labels | None]] = {}
        for parameter, (own_axis, positions) in found.items():
            for node, index in moved.readers(parameter):
                labels[id(node.inputs[index][0])] = [Labels(own_axis, ids[positions])]
                self.assign(node, index, own_axis, ids[positions])
        if not found:
            return False
        for node in moved.nodes:  # which part of a split axis shrinks, which numbers count it
            labels[id(node)] = self._rules[node.operator](node, [labels[id(source)][output]
                                                                 for source, output in node.inputs], self)
        made = labels[id(entry[0])][entry[1]]
        if made is not None and made.axis == axis:
            self.same(ids, made.ids, f"{entry[0].name} is put together from parameters that stay")
        else:
            self.pin_ids(ids, f"{entry[0].name} is put together from parameters in another order")
        return True

    def moved(self, entry: Entry) -> Moved:
        """How an entry is put together from parameters."""
        key = id(entry[0]), entry[1]
        if key not in self._moved:
            self._moved[key] = Moved(entry)
        return self._moved[key]

    def weights(self, node: Node) -> list[str]:
        """The parameters of which the weight of ``node`` consists."""
        entry = node.entry("weight")
        if entry is None or entry[0].constant:
            return []
        return self.moved(entry).parameters if entry[0].parameter is None else [entry[0].parameter]

    def made(self, node: Node, ids: np.ndarray, weight: str | None = None) -> None:
        """``node``, a layer with a weight of the network, makes these channels."""
        self.producers.append(Producer(node, weight or node.parameters["weight"], ids))

    def copies(self, count: int) -> Labels:
        """Labels for positions that all hold the same, on axis 0: any number of them can go, beside other channels."""
        ids = self.new(count)
        self._copies.update(ids.tolist())
        return Labels(0, ids)

    def are_copies(self, labels: Labels) -> bool:
        """Whether no layer makes these channels."""
        return int(labels.ids[0]) in self._copies

    def count_groups(self, node: Node, ids: np.ndarray) -> None:
        """``node`` loses a group with each of these channels, so its layer must take another number of groups."""
        sized = node.parameters.get("weight", node.parameters.get("gamma"))
        if sized not in self.resizable:
            self.pin(Labels(0, ids), f"read by {node.operator} ({node.name}), whose number of groups cannot be changed")

    def can_count(self, node: Node, attribute: str, position: int | None = None) -> bool:
        """Whether that number in an attribute of ``node`` can be changed."""
        return self.counting.can_count(Place(node.name, attribute, position))

    def count(self, node: Node, attribute: str, position: int | None, ids: np.ndarray) -> None:
        """That number in an attribute of ``node`` counts these channels, and becomes smaller with them.

        They stay where that number cannot be changed.
        """
        self.counting.count(node, Place(node.name, attribute, position), ids)

    def count_positions(self, node: Node, index: int, positions: np.ndarray, ids: np.ndarray) -> None:
        """The parameter that ``node`` reads as input ``index`` holds ``positions`` among the channels ``ids``."""
        parameter = str(node.inputs[index][0].parameter)
        _, known = self.positions.setdefault(parameter, (positions, ids))
        self.same(known, ids, f"{parameter} also counts channels that stay")

    def fix(self, parameter: str, reason: str, axis: int | None = None) -> None:
        """A parameter that keeps its shape, or its length on ``axis``, and so do all channels that index it."""
        self._fixed.setdefault((parameter, axis), reason)

    def fix_rest(self, node: Node) -> None:
        """Parameters that ``node`` reads keep their length on the axes that it assigned no channels to.

        This is called after all rules: a layer that is called twice, or whose weight another operator reads too,
        loses only channels that every reader can do without.
        """
        for index, (source, _) in enumerate(node.inputs):
            if source.parameter is not None:
                for axis in range(len(source.shapes[0])):
                    if (node.name, index, axis) not in self._indexed:
                        self.fix(source.parameter, f"{source.parameter} is also read by {node.operator} "
                                                   f"({node.name}), where it keeps its length", axis)

    def why_fixed(self, parameter: str) -> str | None:
        """The first reason why the parameter keeps its shape, or None."""
        return next((reason for (name, _), reason in self._fixed.items() if name == parameter), None)

    def classes(self) -> tuple[np.ndarray, dict[int, str]]:
        """(array: root of each label, {root: why its channels stay})."""
        for (parameter, axis), ids in self.entries.items():
            for key in ((parameter, axis), (parameter, None)):
                if key in self._fixed:
                    self.pin(Labels(axis, ids), self._fixed[key])
        roots = self.roots()
        stay: dict[int, str] = {}
        for label, reason in self._reasons.items():
            stay.setdefault(int(roots[label]), reason)
        stay[STAYS] = "always there"
        return roots, stay

    def roots(self) -> np.ndarray:
        """The root of each label, in the present state."""
        roots = np.array(self._parent)
        while (roots[roots] != roots).any():
            roots = roots[roots]
        return roots

    def _root(self, label: int) -> int:
        parent = self._parent
        while parent[label] != label:
            parent[label] = parent[parent[label]]
            label = parent[label]
        return label
