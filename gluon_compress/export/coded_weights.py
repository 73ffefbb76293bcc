"""Weights that leave as integer codes and scales."""
from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from mxnet.gluon import HybridBlock

from ..arguments import check_choice, shown
from ..network.graph import Graph
from ..network.layer import select_layers
from ..network.nodes import Entry, Node, variable, written
from ..network.values import parameters, value_of
from ..quantization import dequantize_array, quantize_array
from ..quantization.weights import QUANTIZABLE, output_axis
from ..records import Record

BITS = {"int8": 8, "int4": 4}
FOUR_BITS, FOUR_BITS_FROM = 4, 21  # codes of no more bits are stored in four from that opset on


@dataclass(frozen=True)
class Coded:
    """A weight that is ``codes * scale``, with one scale, or one for each index of an axis."""

    codes: np.ndarray
    scale: np.ndarray
    axis: int | None
    bits: int
    dtype: np.dtype

    @property
    def decoded(self) -> np.ndarray:
        """The weight again."""
        return dequantize_array(self.codes, self.scale, self.axis).astype(self.dtype)


class CodedWeights:
    """The weights of a network that leave as codes: {structural parameter name: :class:`Coded`}."""

    def __init__(self, weights: Mapping[str, Coded]) -> None:
        self._weights = dict(weights)

    def in_graph(self, graph: Graph, values: dict[str, np.ndarray], opset: int) -> list[Entry]:
        """The outputs of the graph, whose nodes read codes through ``DequantizeLinear``; the codes go to ``values``."""
        changed: dict[Node, Entry] = {}
        for node in graph.nodes:
            coded = self._weights.get(node.parameter or "")
            if coded is not None:
                changed[node] = _dequantized(node, coded, values, opset)
        for node in graph.nodes:
            node.inputs = [changed.get(source, (source, output)) for source, output in node.inputs]
        return [changed.get(node, (node, output)) for node, output in graph.outputs]

    def decoded(self, graph: Graph) -> dict[str, np.ndarray]:
        """{name in the graph: what the codes stand for}."""
        return {name: self._weights[own].decoded for name, own in graph.parameter_names.items()
                if own in self._weights}

    def summary(self) -> dict[str, Any]:
        """JSON-serializable: how many bits, and along which axis there are scales."""
        return {name: {"bits": coded.bits, "axis": coded.axis} for name, coded in self._weights.items()}


def _dequantized(node: Node, coded: Coded, values: dict[str, np.ndarray], opset: int) -> Entry:
    codes = coded.codes.astype(type_of_codes(coded.bits, opset))
    parts = {"codes": codes, "scale": coded.scale.astype(coded.dtype), "zero": np.zeros(coded.scale.shape, codes.dtype)}
    nodes = {part: variable(f"{node.name}_{part}", array.shape) for part, array in parts.items()}
    values.update((nodes[part].name, array) for part, array in parts.items())
    axis = {} if coded.axis is None else {"axis": coded.axis}
    return written("DequantizeLinear", node.name, *((each, 0) for each in nodes.values()), **axis), 0


def type_of_codes(bits: int, opset: int) -> Any:
    """The narrowest type in which ONNX stores codes of so many bits: int8, or ``ml_dtypes.int4``."""
    if bits > FOUR_BITS or opset < FOUR_BITS_FROM:
        return np.int8
    import ml_dtypes  # which onnx needs, too
    return ml_dtypes.int4


def records_of(weights: Any) -> list[Record]:
    """The records that an argument ``weights`` holds; else ``TypeError``."""
    if weights is None or isinstance(weights, str):
        return []
    several = weights.values() if isinstance(weights, Mapping) else weights if isinstance(weights, Collection) else None
    records = [weights] if several is None else list(several)
    for record in records:
        if not isinstance(record, Record):
            raise TypeError(f"weights is {shown(weights)}; accepted: a record such as Scales, several of them, 'int8', "
                            f"'int4' or None")
    return records


def coded_weights(net: HybridBlock, weights: str | Sequence[Record]) -> CodedWeights:
    """What ``weights`` says of the network: a name of :data:`BITS`, or records of what its weights are."""
    if isinstance(weights, str):
        check_choice("weights", weights, BITS)
        return CodedWeights(_rounded(net, BITS[weights]))
    found: dict[str, Coded] = {}
    named = parameters(net)
    for record in weights:
        record.check(net)
        for name, form in record.forms().items():
            values = value_of(named[name])
            # Parameters of one axis, as a RateTrainer rounds them, leave as numbers: BatchNorm takes no codes, engines
            # fold it and biases into layers, and they are few.
            if form.stores_codes and set(form.tensors()) == {"scale"} and values.ndim > 1:
                found[name] = Coded(form.encode(values), form.tensors()["scale"], form.layout()["axis"], form.bits,
                                    values.dtype)
    return CodedWeights(found)


def _rounded(net: HybridBlock, bits: int) -> dict[str, Coded]:
    """The weights of layers with a scale for each output channel."""
    found: dict[str, Coded] = {}
    for layer in select_layers(net, None, (), QUANTIZABLE)[0]:
        values, axis = layer.value(), output_axis(layer.kind)
        codes, scale = quantize_array(values, bits, axis)
        found[layer.parameter_name] = Coded(codes, np.asarray(scale), axis, bits, values.dtype)
    return found
