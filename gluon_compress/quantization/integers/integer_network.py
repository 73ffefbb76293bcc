"""The network that runs on integers."""
from __future__ import annotations

from collections.abc import Collection
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import mxnet as mx
import numpy as np
from mxnet.gluon import SymbolBlock

from ...arguments import shown
from ...files.paths import symbol_paths
from ...network.blocks import GraphBlock, block_of, inputs_and_symbol, set_constants
from ...network.graph import Graph
from ...network.misfits import misfit
from ...network.nodes import symbol_of
from . import onednn
from .emitter import Codes
from .islands import find_islands
from .lowering import Lowering
from .narrow import notes
from .narrow_emitter import check_places, fitting, most_rows
from .onednn_emitter import Int8Emitter
from .qdq_emitter import NarrowQdqEmitter, QdqEmitter
from .simulated_emitter import SimulatedEmitter

if TYPE_CHECKING:
    from ..quantized import Quantized
    from ..record import QuantizationRecord
    from ..scales import Scales


class IntegerNetwork(GraphBlock):
    """A network on oneDNN's integer kernels, for inference: what :func:`quantize` returns.

    On processors without VNNI or AMX it computes with narrower weights, so that no sum saturates: see narrow.py. The
    record's summary names the layers.

    Call it like the original, fp32 in and fp32 out. It is hybridized. ``gluon_compress.save`` writes it, and ``load``
    reads it.

    Attributes
    ----------
    quantized : Quantized
        What it was made from, with a record of its own; the following are parts of it.
    record : QuantizationRecord
        ``print(net.record)``.
    scales : Scales
        Of the weights.
    codes : dict
        {structural name of a weight in the original network: int8 array}.
    rest : dict
        {structural name: float32 array} of all other parameters of the original network.
    graph : Graph
        Of the original network.
    simulated : bool
        True where the same arithmetic runs in fp32.
    """

    def __init__(self, quantized: Quantized, simulate: bool = False, lowering: Lowering | None = None) -> None:
        """``lowering`` is the result of :func:`lower` for both, if already made; the values are taken out of it."""
        if not simulate:
            onednn.check_available(quantized.record.bits)
        lowering = lowering or lower(quantized, simulate)
        super().__init__(symbol_of(lowering.outputs),
                         [mx.sym.var(name, dtype="float32") for name in quantized.inference.inputs])
        own = replace(quantized.record, processor=notes(lowering.emitter), islands=_islands(lowering, quantized.record))
        self.quantized, self.simulated = replace(quantized, record=own), simulate  # others may be made of the same one
        self._most_rows = most_rows(lowering.emitter, self.graph)
        self._pointwise, self._checked = getattr(lowering.emitter, "pointwise", ()), set[Any]()
        values = lowering.values(lowering.outputs)
        lowering.emitter.values.clear()  # so that set_constants can let go of each value
        set_constants(self, values)
        self.hybridize(static_alloc=True, static_shape=True)

    @property
    def stored_as(self) -> Quantized:
        """What :func:`gluon_compress.save` keeps of it."""
        return self.quantized

    @property
    def record(self) -> QuantizationRecord:
        return self.quantized.record

    @property
    def scales(self) -> Scales:
        return self.quantized.scales

    @property
    def codes(self) -> dict[str, np.ndarray]:
        return self.quantized.codes

    @property
    def rest(self) -> dict[str, np.ndarray]:
        return self.quantized.rest

    @property
    def graph(self) -> Graph:
        return self.quantized.graph

    def forward(self, x: Any, *args: Any) -> Any:
        """As the original. Integers are refused: the kernels would take them for codes.

        No integer stands for NaN: where fp32 would put out NaN, an input with NaN or infinity gives finite numbers.
        Look for them beforehand, as :func:`~gluon_compress.training.evaluate` does; here that would cost each call.
        """
        if not isinstance(x, (mx.nd.NDArray, mx.sym.Symbol)):
            raise TypeError(f"the input is {shown(x)}; accepted: an NDArray, a batch")
        for value in (x, *args):
            if isinstance(value, mx.nd.NDArray) and value.dtype in (np.uint8, np.int8):
                raise TypeError(f"an input is of type {np.dtype(value.dtype)}; accepted: what the fp32 network takes, "
                                f"prepared in the same way")
            if isinstance(value, mx.nd.NDArray) and value.ndim == 4 and value.shape[2] > self._most_rows:
                raise ValueError(f"an input has {value.shape[2]} rows; accepted on this processor: {self._most_rows}")
        try:
            self._check_places([x, *args])
            return super().forward(x, *args)
        except mx.MXNetError as error:
            raise misfit((x, *args), "the input", error) from None

    def _check_places(self, inputs: list) -> None:
        shapes = tuple(value.shape for value in inputs if isinstance(value, mx.nd.NDArray))
        if self._pointwise and len(shapes) == len(inputs) and shapes not in self._checked:
            names, symbol = inputs_and_symbol(self)
            check_places(symbol, self._pointwise, dict(zip((name.name for name in names), shapes)))
            self._checked.add(shapes)

    def export(self, path: str, epoch: int = 0, remove_amp_cast: bool = True) -> Any:
        """MXNet's own two files, a symbol and parameters, as ``HybridBlock.export`` writes them.

        MXNet's integer kernels take weights in fp32 and make the codes themselves, so the parameters take as many bytes
        as the fp32 network's. ``gluon_compress.save`` writes the codes, which take about a fifth of fp32.
        """
        symbol_paths("path", path, epoch)  # checks them
        return super().export(path, epoch, remove_amp_cast)

    def fp32_values(self) -> dict[str, np.ndarray]:
        """{structural name: float32 array} of the original network, with the weights as they were rounded."""
        return self.quantized.fp32_values()

    def counted(self) -> tuple[SymbolBlock, dict[str, str]]:
        """``(network in fp32 of the same layers, {parameter: layer})``: for reports.

        BatchNorms are part of the layers, as they are here: a beta that shifts a layer's output belongs to that layer.
        """
        inference = self.quantized.inference
        owners: dict[str, str] = {}
        for name, weight in inference.weights.items():  # a layer that is called again has another name for that
            owners.setdefault(weight, name)
        for name, bias in inference.biases.items():
            owners.setdefault(bias, owners[inference.weights[name]])
        return block_of(inference.outputs, inference.inputs, self.fp32_values()), owners

    def summary(self) -> str:
        """The table of :class:`QuantizationRecord`."""
        return self.record.summary()

    def __repr__(self) -> str:
        record = self.record
        parts = [f"{_count(record.layers, 'layer')} on {record.bits}-bit integers{', simulated' * self.simulated}"]
        if record.left_out:
            parts.append(f"{_count(record.left_out, 'layer')} in fp32")
        if record.islands:
            parts.append(f"{_count(record.islands, 'operator')} in fp32 between integer layers")
        return f"IntegerNetwork({'; '.join([*parts, f'calibration: {record.calibration}'])})"


def _count(things: Collection, name: str) -> str:
    return f"{len(things)} {name}{'s' * (len(things) != 1)}"


def _islands(lowering: Lowering, record: QuantizationRecord) -> dict[str, dict]:
    """What computes in fp32 between integer layers, with what was measured of it."""
    islands = find_islands(lowering, record.left_out)
    for name, before in record.islands.items():
        if "share" in before and islands.get(name, {}).get("operator") == before["operator"]:
            islands[name]["share"] = before["share"]
    return islands


def lower(quantized: Quantized, simulate: bool) -> Lowering:
    """The :class:`Lowering` to the integer kernels of this processor, or to their arithmetic in fp32."""
    emitter = fitting(SimulatedEmitter if simulate else Int8Emitter, [fusion.layer for fusion in
                      quantized.fusions.values()], onednn.saturates() and quantized.record.bits == 8)
    return Lowering(quantized, quantized.ranges(), emitter(*_codes_and_biases(quantized)))


def lower_to_qdq(quantized: Quantized, weight_type: Any = np.int8, narrow: bool = False) -> Lowering:
    """The :class:`Lowering` to ONNX's QuantizeLinear and DequantizeLinear; see qdq_emitter.py.

    ``narrow`` gives weights for processors that add two products in 16 bits, whichever this one is.
    """
    before = {name: layer["before"] for name, layer in quantized.record.layers.items() if "before" in layer}
    emitter = (NarrowQdqEmitter if narrow else QdqEmitter)(*_codes_and_biases(quantized), before, weight_type)
    return Lowering(quantized, quantized.ranges(), emitter)


def _codes_and_biases(quantized: Quantized) -> tuple[Codes, dict[str, np.ndarray]]:
    """``({layer name: (codes, scales)}, {layer name: bias})`` of the layers on integers."""
    scales, biases = quantized.scales.weights, quantized.inference.biases
    layers = {name: quantized.inference.weights[name] for name in quantized.record.layers}
    return ({name: (quantized.codes[weight], scales[weight]["scale"]) for name, weight in layers.items()},
            {name: quantized.rest[biases[name]] for name in layers if name in biases})
