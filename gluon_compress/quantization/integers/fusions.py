"""What a layer on integers takes along in one operator, and what between two layers passes integers on.

    convolution -> addition of a shortcut -> ReLU or leaky ReLU      one operator
    convolution -> PReLU with a slope for each channel               two or three: see onednn_emitter.py
    convolution of groups, not depthwise -> ReLU                     two: see onednn_emitter.py
    dense layer -> ReLU                                              one operator
"""
from __future__ import annotations

import math
from collections.abc import Collection, Mapping
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from ...network.nodes import Entry, Node, Shape, consumers, in_order

MOST_PRODUCTS = 2304  # in the extra passes of a PReLU's convolution; with more, fp32 and conversions are faster


@dataclass(frozen=True)
class Leaky:
    """max(x, 0) + slope * min(x, 0).

    Attributes
    ----------
    slope : float, float32 array (channels,) or None
        None where it is learned, until :meth:`with_values` sets it.
    parameter : (Node, int) or None
        The slope, where it is learned.
    """

    slope: Any = None
    parameter: Entry | None = None

    @property
    def by_channel(self) -> bool:
        return np.ndim(self.slope) > 0 if self.parameter is None else math.prod(_shape(self.parameter)) > 1

    def with_values(self, values: Mapping[str, np.ndarray]) -> Leaky:
        """The same, with the slope taken from the parameters, {structural name: array}."""
        if self.parameter is None:
            return self
        slope = np.asarray(values[str(self.parameter[0].parameter)], np.float32).ravel()
        return replace(self, slope=slope if self.by_channel else float(slope[0]))

    @property
    def passes(self) -> int:
        """How often the convolution runs."""
        return 1 + (int(np.any(self.slope < 0)) + int(np.any(self.slope > 0)) if self.by_channel else 0)


@dataclass
class Fusion:
    """A layer and what is computed with it.

    Attributes
    ----------
    layer : Node
    data : (Node, int)
        What the layer reads.
    end : (Node, int)
        What comes out: of the layer, the addition or the activation.
    summand : (Node, int) or None
        What is added to the layer's output.
    relu : bool
    ceiling : float or None
        Where a ReLU6 or the like cuts.
    leaky : Leaky or None
    shifted : Fusion or None
        The fusion that computes the summand, where the summand is signed and the sum is not.
    """

    layer: Node
    data: Entry
    end: Entry
    summand: Entry | None = None
    relu: bool = False
    ceiling: float | None = None
    shifted: Fusion | None = None
    leaky: Leaky | None = None

    @property
    def activated(self) -> bool:
        return self.relu or self.leaky is not None

    @property
    def inside(self) -> set[Node]:
        """The nodes before the end."""
        addition = self.end[0].inputs[0][0] if self.activated else self.end[0]
        return {self.layer} | ({addition} if self.summand else set()) - {self.end[0]}


def leaky_activations(outputs: list[Entry]) -> dict[Node, Leaky]:
    """{node: Leaky} of the leaky ReLUs and PReLUs in a graph."""
    found = {}
    for node in in_order(outputs):
        if node.slope_kind == "leaky":
            found[node] = Leaky(float(node.get("slope")))
        elif node.slope_kind == "prelu" and "slope" in node.parameters:
            found[node] = Leaky(parameter=node.entry("slope"))
    return found


def worth_while(leaky: Leaky, layer: Node) -> bool:
    """Whether a layer's extra passes for this activation cost less than computing the activation in fp32 after it."""
    return not is_convolution(layer) or (
        (leaky.passes - 1) * math.prod(_shape(layer.read("weight"))[1:]) <= MOST_PRODUCTS)


def _shape(entry: Entry) -> Shape:
    node, output = entry
    return node.shapes[output]


def find_fusions(outputs: list[Entry], chosen: Collection[str], leaky: Mapping[Node, Leaky] | None = None,
                 with_leaky: Collection[str] | None = None) -> dict[Entry, Fusion]:
    """{end of the fusion: Fusion} for the layer nodes of ``chosen``, a set of names.

    ``leaky``, {node: Leaky}, holds the activations that may be fused into convolutions; only those
    named in the set ``with_leaky`` are (by default all).
    """
    search = _Search(outputs, chosen, leaky or {}, with_leaky)
    for node in search.order:
        if node.meaning.adds:
            search.take_sum(node)
        else:
            search.take_activation(node)
    return search.fusions


class _Search:
    """Fusions that grow during a pass through the graph, each from a layer to the operators fused into it.

    Attributes
    ----------
    order : list of Node
        Each after its inputs.
    fusions : dict
        {end: Fusion}, as found so far.
    """

    def __init__(self, outputs: list[Entry], chosen: Collection[str], leaky: Mapping[Node, Leaky],
                 with_leaky: Collection[str] | None) -> None:
        self.order = in_order(outputs)
        self.fusions = {(node, 0): Fusion(node, node.inputs[0], (node, 0)) for node in self.order
                        if node.operator != "null" and node.name in chosen}
        self._place = {node: index for index, node in enumerate(self.order)}
        self._readers, self._heads, self._chosen = consumers(outputs), set(outputs), chosen
        self._leaky, self._with_leaky = leaky, with_leaky

    def take_sum(self, node: Node) -> None:
        """Fuse an addition into the later of the convolutions that it adds, where integers gain by it."""
        hosts = [entry for entry in node.inputs if self._can_take_sum(entry, node)]
        if not hosts or not _adds_alike(node):
            return
        host = max(hosts, key=lambda entry: self._place[entry[0]])
        summand = next(entry for entry in node.inputs if entry != host)
        reader = self._only_reader((node, 0))
        if reader is not None and reader.is_relu:
            if not _unsigned(summand, self.fusions):
                if summand not in hosts:
                    return
                self.fusions[host].shifted = self.fusions[summand]
        elif self._leaky_of(reader, replace(self.fusions[host], summand=summand)) is None and not wanted(
                (node, 0), self._readers, self._chosen):
            return
        self.fusions[host].summand = summand
        self._extend(self.fusions[host], node)

    def take_activation(self, node: Node) -> None:
        """Fuse an activation into the layer before it, if nothing else reads that layer's output."""
        fusion = self.fusions.get(node.inputs[0]) if node.inputs else None
        if fusion is None or self._only_reader(fusion.end) is not node:
            return
        if node.is_relu and not fusion.activated:
            fusion.relu, fusion.ceiling = True, None if node.ceiling == math.inf else node.ceiling
        elif (leaky := self._leaky_of(node, fusion)) is not None:
            fusion.leaky = leaky
        else:
            return
        self._extend(fusion, node)

    def _extend(self, fusion: Fusion, node: Node) -> None:
        del self.fusions[fusion.end]
        fusion.end = (node, 0)
        self.fusions[fusion.end] = fusion

    def _can_take_sum(self, entry: Entry, node: Node) -> bool:
        fusion = self.fusions.get(entry)
        return fusion is not None and is_convolution(fusion.layer) and not is_grouped(fusion.layer) and (
            not fusion.activated and self._only_reader(entry) is node)

    def _only_reader(self, entry: Entry) -> Node | None:
        readers = self._readers.get(entry, [])
        return readers[0] if len(readers) == 1 and entry not in self._heads else None

    def _leaky_of(self, node: Node | None, fusion: Fusion) -> Leaky | None:
        """The :class:`Leaky` of an activation that can be fused with ``fusion``, else None."""
        activation = self._leaky.get(node) if node else None
        fits = (activation is not None and is_convolution(fusion.layer) and not is_grouped(fusion.layer)
                and not fusion.activated
                and (self._with_leaky is None or fusion.layer.name in self._with_leaky)
                and not (activation.by_channel and fusion.summand))
        return activation if fits else None


def _adds_alike(node: Node) -> bool:
    """Whether an addition is of two different tensors that have one shape with any number of samples."""
    return node.inputs[0] != node.inputs[1] and node.input_shape(0) == node.input_shape(1) and (
        _same_samples(*node.inputs))


def _same_samples(one: Entry, other: Entry) -> bool:
    """Whether two tensors of equal shape have that with any number of samples: both come from the same inputs."""
    def inputs(entry: Entry) -> set[Node]:
        return {node for node in in_order([entry]) if node.operator == "null" and node.parameter is None}
    return inputs(one) == inputs(other) != set()


def _unsigned(entry: Entry, fusions: Mapping[Entry, Fusion]) -> bool:
    """Whether a tensor cannot have negative values."""
    node = entry[0]
    if entry in fusions:
        return fusions[entry].relu
    return node.is_relu or node.passes_integers and all(_unsigned(source, fusions) for source in node.inputs)


def wanted(entry: Entry, readers: Mapping[Entry, list[Node]], chosen: Collection[str]) -> bool:
    """Whether a layer of ``chosen`` reads this tensor, directly or after what passes integers on."""
    stack = [entry]
    while stack:
        for reader in readers.get(stack.pop(), []):
            if reader.name in chosen:
                return True
            if reader.passes_integers:
                stack.append((reader, 0))
    return False


def is_convolution(node: Node) -> bool:
    """Whether a layer is a convolution on integers; the other ones are dense."""
    return node.meaning.integer_form == "convolution"


def is_grouped(layer: Node) -> bool:
    """Whether a convolution has groups, other than those of a depthwise one: its weight has one scale."""
    return layer.groups > 1 and layer.groups != layer.get("num_filter")


def over_last_axis(layer: Node) -> bool:
    """Whether a dense layer keeps all axes but the last: ``flatten=False``, on more than two."""
    return not layer.get("flatten") and len(layer.input_shape(0)) > 2


def is_maximum(node: Node) -> bool:
    """Whether it is a pooling whose results are some of the numbers that it reads."""
    return node.meaning.integer_form == "pooling" and node.get("pool_type") == "max"
