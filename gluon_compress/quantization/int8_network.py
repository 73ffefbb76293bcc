"""The network that runs on integers."""
import math

import mxnet as mx
import numpy as np
from mxnet.gluon import SymbolBlock

from ..arguments import shown
from ..errors import RecordError
from ..export import symbol_paths
from ..graph import symbol_of
from ..symbol_graph import misfit
from . import onednn
from .arrays import dequantize_array
from .emitters import Int8Emitter, SimulatedEmitter
from .inference_graph import simplify
from .islands import find_islands
from .lowering import Lowering, find_fusions, leaky_activations, obstacle
from .narrow import check_places, fitting, most_rows, notes
from .observing import block_of, set_constants


class Int8Network(SymbolBlock):
    """A network on oneDNN's integer kernels, for inference: what :func:`quantize` returns.

    On processors without VNNI or AMX it computes with narrower weights, so that no sum saturates: see narrow.py. The
    record's summary names the layers.

    Call it like the original, fp32 in and fp32 out. It is hybridized. ``gluon_compress.save`` writes it, ``load``
    reads it.

    Attributes
    ----------
    record : QuantizationRecord
        ``print(net.record)``.
    scales : Scales
        Of the weights.
    simulated : bool
        True where the same arithmetic runs in fp32.
    codes : dict
        {structural name of a weight in the original network: int8 array}.
    rest : dict
        {structural name: float32 array} of all other parameters of the original network. BatchNorm's scales are in
        the codes.
    graph : Graph
        Of the original network.
    """

    def __init__(self, graph, codes, scales, rest, record, simulate=False):
        if not simulate:
            onednn.check_available(record.bits)
        lowering = lower(graph, codes, scales, rest, record, SimulatedEmitter if simulate else Int8Emitter)
        super().__init__(symbol_of(lowering.outputs()),
                         [mx.sym.var(name, dtype="float32") for name in lowering.graph.inputs])
        record.processor = notes(lowering.emitter)
        self._most_rows = most_rows(lowering.emitter, graph)
        self._pointwise, self._checked = getattr(lowering.emitter, "pointwise", ()), set()
        record.islands = _islands(lowering, record)
        values = lowering.values()
        del lowering  # so that set_constants can let go of each value
        set_constants(self, values)
        self.record, self.scales, self.simulated = record, scales, simulate
        self.codes, self.rest, self.graph = codes, rest, graph
        self.hybridize(static_alloc=True, static_shape=True)

    def forward(self, x, *args):
        """As the original. Integers are refused: the kernels would take them for codes."""
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

    def _check_places(self, inputs):
        shapes = tuple(value.shape for value in inputs if isinstance(value, mx.nd.NDArray))
        if self._pointwise and len(shapes) == len(inputs) and shapes not in self._checked:
            names, symbol = self._cached_graph
            check_places(symbol, self._pointwise, dict(zip((name.name for name in names), shapes)))
            self._checked.add(shapes)

    def export(self, path, epoch=0, remove_amp_cast=True):
        """MXNet's own two files, a symbol and parameters, as ``HybridBlock.export`` writes them.

        MXNet's integer kernels take weights in fp32 and make the codes by themselves, so that the parameters take as
        many bytes as the fp32 network's. ``gluon_compress.save`` writes the codes: a quarter.
        """
        symbol_paths("path", path, epoch)  # checks them
        return super().export(path, epoch, remove_amp_cast)

    def fp32_values(self):
        """{structural name: float32 array} of the original network, with the weights as they were rounded."""
        layers = self.scales.layers
        return {**self.rest, **{name: dequantize_array(code, layers[name]["scale"], layers[name]["axis"])
                                for name, code in self.codes.items()}}

    def counted(self):
        """``(network in fp32 of the same layers, {name of a call: layer}, {layer: saved bytes})``: for reports.

        BatchNorms are in the layers, as they are here; a layer that is called again has another name for that. Codes of
        so many bits and their scales take the place of four bytes for each weight.
        """
        inference = simplify(self.graph, self.fp32_values())
        owners = {}
        for name, weight in inference.weights.items():
            owners.setdefault(weight, name)
        saved = {owners[weight]: 4 * (codes.size - self.scales.layers[weight]["scale"].size)
                 - math.ceil(codes.size * self.record.bits / 8) for weight, codes in self.codes.items()}
        return (block_of(inference.outputs, inference.inputs, inference.values),
                {name: owners[weight] for name, weight in inference.weights.items()}, saved)

    def summary(self):
        """The table of :class:`QuantizationRecord`."""
        return self.record.summary()

    def __repr__(self):
        record = self.record
        parts = [f"{_count(record.layers, 'layer')} on {record.bits}-bit integers{', simulated' * self.simulated}",
                 record.left_out and f"{_count(record.left_out, 'layer')} in fp32",
                 record.islands and f"{_count(record.islands, 'operator')} in fp32 between integer layers",
                 f"calibration: {record.calibration}"]
        return f"Int8Network({'; '.join(filter(None, parts))})"


def _count(things, name):
    return f"{len(things)} {name}{'s' * (len(things) != 1)}"


def _islands(lowering, record):
    """What lies in fp32 between integer layers, with what was measured of it."""
    found = find_islands(lowering, record.left_out)
    for name, island in record.islands.items():
        if "share" in island and found.get(name, {}).get("operator") == island["operator"]:
            found[name]["share"] = island["share"]
    return found


def lower(graph, codes, scales, rest, record, emitter_class, saturates=None):
    """The :class:`Lowering` of a Graph with these parameters; ``RecordError`` when the record does not fit it.

    For a processor on which sums saturate or do not, by default for this one.
    """
    unread = {name: np.broadcast_to(np.float32(0), code.shape) for name, code in codes.items()}  # the emitter has codes
    inference = simplify(graph, {**rest, **unread})
    fusions, ranges, lowest = plan(inference, record)
    saturates = onednn.saturates() if saturates is None else saturates
    emitter = fitting(emitter_class, [fusion.layer for fusion in fusions.values()], saturates and record.bits == 8)(
        {name: (codes[inference.weights[name]], scales.layers[inference.weights[name]]["scale"])
         for name in record.layers},
        {name: inference.values[f"{name}.bias"] for name in record.layers if f"{name}.bias" in inference.values})
    return Lowering(inference, fusions, ranges, lowest, emitter)


def plan(inference, record):
    """``(fusions, ranges, lowest)`` of a record, for :class:`Lowering`; ``RecordError`` when it does not fit."""
    missing = record.layers.keys() - inference.weights.keys()
    if missing:
        raise RecordError(f"the record of the quantization is of another network: there is no layer "
                          f"{sorted(missing)[0]} here")
    fusions = find_fusions(inference.outputs, set(record.layers),
                           leaky_activations(inference.outputs, inference.values),
                           {name for name, layer in record.layers.items() if layer.get("activation")})
    ranges, lowest = {}, {}
    for fusion in fusions.values():
        name = fusion.layer.name
        if (obstacle(fusion.layer) or (fusion.summand is None) != (record.layers[name]["summand"] is None)
                or (fusion.leaky is None) != (record.layers[name].get("activation") is None)):
            raise RecordError(f"the record of the quantization is of another network: {name} is another layer here")
        ranges[fusion.data], ranges[fusion.end] = record.range(name, "input"), record.range(name, "output")
        lowest[fusion.end] = record.layers[name]["lowest"]
        if fusion.summand is not None:
            ranges.setdefault(fusion.summand, record.range(name, "summand"))
    return fusions, ranges, lowest
