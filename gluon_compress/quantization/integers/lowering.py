"""From an fp32 graph and the ranges of its tensors to one of integers.

Convolutions and dense layers read and write integers; what follows can be fused into them: see fusions.py. Pooling,
flattening and concatenation between such layers pass integers on. Everything else stays fp32, with a conversion at
each border: islands.py names it. Tensors after a ReLU are unsigned, which gives them twice the resolution.

**Shortcuts.** The integer convolution adds only a shortcut of the same kind as its output: with a signed shortcut under
a ReLU, MXNet 1.9.1 cuts the unsigned result at 127, half of its range. Such a shortcut may come from a convolution of
its own (He et al., 2015, option B). A constant is then added to that convolution's bias, to make its output positive,
and subtracted from the sum: exact, and with 255 levels instead of 127.
"""
from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import numpy as np

from ...network.nodes import Entry, Node, consumers, in_order
from ..arithmetic.ranges import Range
from .emitter import Emitter, Integers
from .fusions import Fusion, Leaky, is_convolution, is_maximum, wanted

if TYPE_CHECKING:
    from ..quantized import Quantized


def align_ranges(outputs: list[Entry], fusions: Mapping[Entry, Fusion], ranges: dict[Entry, Range],
                 chosen: Collection[str]) -> None:
    """Give all parts of a concatenation the largest of their ranges, so that their codes can lie side by side.

    If only some parts are signed, or their ceilings differ, they keep their ranges: that concatenation is fp32.
    """
    readers = consumers(outputs)
    for node in in_order(outputs):
        if node.meaning.integer_form == "concat" and node.passes_integers and wanted((node, 0), readers, chosen):
            ends = [end for entry in node.inputs for end in _sources(entry)]
            if all(end in fusions for end in ends) and len({(fusions[end].relu, fusions[end].ceiling)
                                                            for end in ends}) == 1:
                largest = max((_limits(fusions[end], fusions[end].relu, ranges) for end in ends),
                              key=lambda limits: limits.threshold)
                ranges.update(dict.fromkeys(ends, largest))


def _sources(entry: Entry) -> list[Entry]:
    """The tensors whose codes arrive at ``entry`` unchanged."""
    if not entry[0].passes_integers:
        return [entry]
    return [end for source in entry[0].inputs for end in _sources(source)]


def _limits(fusion: Fusion, relu: bool, ranges: Mapping[Entry, Range]) -> Range:
    """The range of what a fusion writes, with or without a ReLU."""
    threshold = ranges[fusion.end].threshold
    return replace(ranges[fusion.end], signed=not relu,
                   threshold=threshold if fusion.ceiling is None else min(threshold, fusion.ceiling))


class Lowering:
    """Makes the integer graph.

    Parameters
    ----------
    quantized : Quantized
    ranges : dict
        {(Node, int): Range} of what its fusions read and write.
    emitter : Emitter
        Knows the weights of the layers that run on integers; it is told where shortcuts are shifted.

    Attributes
    ----------
    outputs : list of (Node, int)
        The outputs of the integer graph; their results are fp32.
    ranges : dict
        As given, but aligned where they meet in a concatenation, and moved for shifted shortcuts.
    fp32 : set of Node
        Operators of the inference graph that stay in fp32.
    converted : list of Node
        Nodes whose integers go through fp32 to become signed or unsigned.
    """

    def __init__(self, quantized: Quantized, ranges: Mapping[Entry, Range], emitter: Emitter) -> None:
        self.quantized, self.graph, self.fusions = quantized, quantized.inference, quantized.fusions
        self.emitter = emitter
        self.chosen = quantized.record.layers.keys()
        self.ranges = dict(ranges)
        self.readers = consumers(self.graph.outputs)
        self.shifted: set[Entry] = set()  # the ends of shortcuts whose outputs are positive now
        self.real: dict[Entry, Entry] = {}
        self.integers: dict[Entry, Integers] = {}
        self.parameters: dict[Node, str] = {}  # {node: structural name} of those that fp32 operators read
        self.fp32: set[Node] = set()
        self.converted: list[Node] = []
        self.outputs = self._lower()

    def _lower(self) -> list[Entry]:
        align_ranges(self.graph.outputs, self.fusions, self.ranges, self.chosen)
        for fusion in self.fusions.values():
            if fusion.shifted:
                self._shift(fusion)
        inside = set().union(*(fusion.inside for fusion in self.fusions.values()))
        for node in in_order(self.graph.outputs):
            if (node, 0) in self.fusions:
                self._fused(self.fusions[node, 0])
            elif node not in inside:
                self._single(node)
        outputs = [self.in_fp32(entry) for entry in self.graph.outputs]
        for node in self.parameters:
            while node.name in self.emitter.values:  # of a layer on integers; this one is read in fp32
                node.name += "_"
        return outputs

    def values(self, outputs: list[Entry]) -> dict[str, np.ndarray]:
        """{parameter node name: array} of the nodes that ``outputs`` depend on."""
        fp32 = {node.name: self.quantized.fp32_value(self.parameters[node]) for node in in_order(outputs)
                if node in self.parameters}
        return {**fp32, **self.emitter.values}

    def _shift(self, fusion: Fusion) -> None:
        """relu(a + b) = relu((a - c) + (b + c)), with c so that b + c is positive."""
        shortcut = fusion.shifted
        assert shortcut is not None  # the caller has checked
        offset = max(0.0, -self.quantized.record.layers[shortcut.layer.name]["lowest"])
        self.emitter.shift(shortcut.layer, fusion.layer, offset)
        limits = self.ranges[shortcut.end]
        self.ranges[shortcut.end] = replace(limits, threshold=limits.threshold + offset, signed=False)
        self.shifted.add(shortcut.end)

    def _single(self, node: Node) -> None:
        if node.operator == "null":
            self.real[node, 0] = replace(node), 0
            if node.parameter is not None:
                self.parameters[self.real[node, 0][0]] = node.parameter
            return
        if node.passes_integers and (is_maximum(node) or wanted((node, 0), self.readers, self.chosen)):
            parts = [self.integers.get(entry) for entry in node.inputs]
            if not any(parts) and is_maximum(node) and (node, 0) in self.ranges:
                # the code of a maximum is the maximum of codes
                parts = [self.emitter.quantize(f"{node.name}_quantize", self.in_fp32(node.inputs[0]),
                                               self.ranges[node, 0])]
            whole = [part for part in parts if part is not None]
            if len(whole) == len(parts) and len({part.range for part in whole}) == 1:
                self.integers[node, 0] = self._passed_on(node, whole)
                return
        self.fp32.add(node)
        copy = Node(node.name, node.operator, node.attributes, node.shapes, node.parameter,
                    inputs=[self.in_fp32(entry) for entry in node.inputs])
        self.real.update({(node, output): (copy, output) for output in range(len(node.shapes))})

    def _passed_on(self, node: Node, parts: list[Integers]) -> Integers:
        if node.meaning.integer_form == "concat":
            return self.emitter.concat(node, parts)
        return getattr(self.emitter, str(node.meaning.integer_form))(node, parts[0])

    def _fused(self, fusion: Fusion) -> None:
        relu = fusion.relu or fusion.end in self.shifted
        data, limits, layer = self._integers(fusion.data), _limits(fusion, relu, self.ranges), self._layer(fusion)
        if is_convolution(layer):
            summand = None if fusion.summand is None else self._summand(fusion.summand, limits)
            result: Any = self.emitter.convolution(layer, data, limits, relu, summand, self._leaky(fusion))
        elif wanted(fusion.end, self.readers, self.chosen):
            result = self.emitter.dense(layer, data, limits, relu)
        else:
            self.real[fusion.end] = self._capped(fusion, self.emitter.dense(layer, data, None, relu))
            return
        self.integers[fusion.end] = result

    def _layer(self, fusion: Fusion) -> Node:
        """The layer node with the parameters of the graph that is made."""
        data, *parameters = fusion.layer.inputs
        return replace(fusion.layer, inputs=[data, *map(self.in_fp32, parameters)])

    def _leaky(self, fusion: Fusion) -> Leaky | None:
        """The activation with its current slope, and with that as a parameter of the graph that is made."""
        leaky = fusion.leaky
        if leaky is None or leaky.parameter is None:
            return leaky
        return replace(leaky.with_values(self.quantized.rest), parameter=self.in_fp32(leaky.parameter))

    @staticmethod
    def _capped(fusion: Fusion, entry: Any) -> Entry:
        """An fp32 tensor, cut at the ceiling of a ReLU6 or the like; for integers their range does that."""
        if fusion.ceiling is None:
            return entry
        ends = {"a_min": "0", "a_max": repr(float(fusion.ceiling))}
        return Node(f"{fusion.layer.name}_ceiling", "clip", ends, [()], inputs=[entry]), 0

    def _summand(self, summand: Entry, limits: Range) -> Integers:
        integers = self._integers(summand)
        if integers.range.signed == limits.signed:
            return integers
        self.converted.append(summand[0])
        name = f"{summand[0].name}_{'signed' if limits.signed else 'unsigned'}"
        return self.emitter.quantize(name, self.in_fp32(summand), replace(integers.range, signed=limits.signed))

    def in_fp32(self, entry: Entry) -> Entry:
        """The entry that holds ``entry`` of the inference graph in fp32, dequantized where necessary."""
        if entry not in self.real:
            self.real[entry] = self.emitter.dequantize(f"{entry[0].name}_dequantize", self.integers[entry])
        return self.real[entry]

    def _integers(self, entry: Entry) -> Integers:
        if entry not in self.integers:
            self.integers[entry] = self.emitter.quantize(f"{entry[0].name}_quantize", self.real[entry],
                                                         self.ranges[entry])
        return self.integers[entry]
