"""What quantization made of a network: made once, and read by all that comes after it."""
from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from ..errors import RecordError
from ..network.graph import Graph
from ..network.nodes import Entry
from ..records import NetworkRecord, Record
from .arithmetic.arrays import dequantize_array
from .arithmetic.ranges import Range
from .integers.fusions import Fusion, find_fusions, leaky_activations
from .integers.inference_graph import InferenceGraph, simplify
from .integers.integer_network import IntegerNetwork
from .record import QuantizationRecord
from .scales import Scales


@dataclass(frozen=True, repr=False)
class Quantized(NetworkRecord, in_files="quantization"):
    """A network with integer weights, and what each layer computes on integers.

    Its readers are the measurement of noise, :class:`IntegerNetwork`, ``save``, and :class:`QatNetwork`, which makes
    another from it after training. It does not depend on the processor.

    Attributes
    ----------
    graph : Graph
        Of the original network.
    inference : InferenceGraph
        Of ``graph``.
    fusions : dict
        {(Node, int): Fusion} of the layers of the record, in ``inference``; see :func:`find_fusions`.
    record : QuantizationRecord
    scales : Scales
        Those of the weights.
    codes : dict
        {structural name of a weight: int8 array}.
    rest : dict
        {structural name: float32 array} of all other parameters. BatchNorm's scales are in the codes.
    """

    title = QuantizationRecord.title
    schema = QuantizationRecord.schema

    graph: Graph
    inference: InferenceGraph
    fusions: dict[Entry, Fusion]
    record: QuantizationRecord
    scales: Scales
    codes: dict[str, np.ndarray]
    rest: dict[str, np.ndarray]

    @classmethod
    def of_weights(cls, graph: Graph, inference: InferenceGraph, fusions: dict[Entry, Fusion],
                   record: QuantizationRecord, weights: Mapping[str, tuple[np.ndarray, np.ndarray]],
                   values: Mapping[str, np.ndarray]) -> Quantized:
        """Of ``weights``, {structural name: (codes, scale of each output channel)}, and the rest of ``values``."""
        scales = Scales({name: {"bits": record.bits, "axis": 0, "scale": scale}
                         for name, (_, scale) in weights.items()}, record.left_out)
        return cls(graph, inference, fusions, record, scales, {name: codes for name, (codes, _) in weights.items()},
                   {name: value for name, value in values.items() if name not in weights})

    def with_weights(self, record: QuantizationRecord, weights: Mapping[str, tuple[np.ndarray, np.ndarray]],
                     values: Mapping[str, np.ndarray]) -> Quantized:
        """The same layers with another record of them and other parameters, as of :meth:`of_weights`."""
        return self.of_weights(self.graph, self.inference, self.fusions, record, weights, values)

    @property
    def left_out(self) -> dict[str, str]:  # type: ignore[override]  # an attribute of records that are no part of it
        """That of ``record``."""
        return self.record.left_out

    def summary(self) -> str:
        """That of ``record``."""
        return self.record.summary()

    def to_dict(self) -> dict[str, Any]:
        """That of ``record``: what a file keeps beside the tensors."""
        return self.record.to_dict()

    @classmethod
    def from_dict(cls, record: Any) -> QuantizationRecord:
        """What :meth:`to_dict` gives back without the network: ``record``."""
        return QuantizationRecord.from_dict(record)

    def beside(self) -> tuple[Record, ...]:
        """The scales."""
        return (self.scales,)

    def tensors(self) -> dict[str, np.ndarray]:
        """{structural name: array} of all parameters, codes of those that have scales: what a file keeps."""
        return {**self.rest, **self.codes}

    @classmethod
    def from_tensors(cls, graph: Graph, tensors: dict[str, np.ndarray], records: Mapping[str, Any]) -> Quantized:
        """The inverse of :meth:`tensors`; ``RecordError`` where the parts do not fit together."""
        if "scales" not in records:
            raise RecordError("a network on integers has no scales")
        record, scales = records["quantization"], records["scales"]
        codes = {name: tensors[name] for name in scales.weights}
        rest = {name: value for name, value in tensors.items() if name not in codes}
        inference = simplify(graph)
        missing = record.layers.keys() - inference.layers.keys()
        if missing:
            raise RecordError(f"the record of the quantization belongs to another network: there is no layer "
                              f"{sorted(missing)[0]} here")
        fusions = find_fusions(inference.outputs, set(record.layers), leaky_activations(inference.outputs),
                               {name for name, layer in record.layers.items() if layer.get("activation")})
        for fusion in fusions.values():
            _check_fits(fusion, record.layers[fusion.layer.name])
        if not inference.fits(rest):
            raise RecordError("the record of the quantization belongs to another network: a BatchNorm's scale is not "
                              "in the weights here")
        return cls(graph, inference, fusions, record, scales, codes, rest)

    def ranges(self) -> dict[Entry, Range]:
        """{(Node, int): Range} of what the fusions read and write."""
        found: dict[Entry, Range] = {}
        for fusion in self.fusions.values():
            name = fusion.layer.name
            found[fusion.data], found[fusion.end] = (self.record.range(name, what) for what in ("input", "output"))
            if fusion.summand is not None:
                found.setdefault(fusion.summand, self.record.range(name, "summand"))
        return found

    def network(self, simulate: bool = False) -> IntegerNetwork:
        """The :class:`IntegerNetwork`."""
        return IntegerNetwork(self, simulate)

    def fp32_value(self, name: str) -> np.ndarray:
        """float32 array: a parameter of the original network, with the weights as they were rounded."""
        if name not in self.codes:
            return self.rest[name]
        weight = self.scales.weights[name]
        return dequantize_array(self.codes[name], weight["scale"], weight["axis"])

    def fp32_values(self) -> dict[str, np.ndarray]:
        """{structural name: float32 array} of all of them."""
        return {name: self.fp32_value(name) for name in (*self.rest, *self.codes)}


def _check_fits(fusion: Fusion, layer: dict[str, Any]) -> None:
    """Raise ``RecordError`` unless the record's entry ``layer`` was made from such a fusion."""
    if (fusion.layer.integer_obstacle or (fusion.summand is None) != (layer["summand"] is None)
            or (fusion.leaky is None) != (layer.get("activation") is None)):
        raise RecordError(f"the record of the quantization belongs to another network: {fusion.layer.name} is another "
                          f"layer here")
