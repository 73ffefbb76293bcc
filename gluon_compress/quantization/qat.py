"""Quantization-aware training: a network that is trained with the rounding that its integers will have.

Jacob et al., "Quantization and Training of Neural Networks for Efficient Integer-Arithmetic-Only Inference", 2018,
section 3, with thresholds that are learned: Choi et al., "PACT: Parameterized Clipping Activation for Quantized Neural
Networks", 2018; Esser et al., "Learned Step Size Quantization", 2019.
"""
from __future__ import annotations

import copy
from collections.abc import Iterable
from typing import Any, cast

import mxnet as mx
import numpy as np
from mxnet.gluon import HybridBlock

from ..arguments import check_flag
from ..errors import NetworkError
from ..network.blocks import GraphBlock
from ..network.checks import check_ready
from ..network.graph import Graph
from ..network.layer import Which
from ..network.nodes import Entry, in_order, symbol_of
from ..network.values import take_values, value_of
from .calibration.range_observer import RangeObserver
from .integers.integer_network import IntegerNetwork
from .integers.lowering import Lowering
from .integers.training_emitter import (
    LearnedRange,
    Threshold,
    TrainingEmitter,
    clip_name,
    codes_and_scales,
    initial_clip,
    threshold_name,
)
from .quantized import Quantized
from .quantizer import Quantizer, check_fp32, check_settings, default_clip
from .record import QuantizationRecord


def prepare_qat(net: HybridBlock, calibration_data: Iterable[Any], bits: int = 8, select: Which = None,
                exclude: Which = (), method: str = "mse", percentile: float = 99.99, batches: int | None = None,
                progress: bool = True) -> QatNetwork:
    """A :class:`QatNetwork` that begins with the weights of ``net`` and is to be trained.

    ``net`` is not changed. The forward pass rounds what :func:`quantize` would run on integers, at the same places;
    the backward pass treats it as if it were not rounded. See training_emitter.py.

    >>> qat = prepare_qat(net, calibration_data, bits=4)
    >>> trainer = gluon.Trainer(qat.collect_params(), "adam", {"learning_rate": 1e-4})
    >>> fit(qat, train_data, trainer=trainer, epochs=2)                 # or any loop of yours
    >>> int4 = qat.convert(simulate=True)

    BatchNorm is folded into the layer before it and trained as that layer's bias (in BatchNorm's beta); its
    statistics, and those of a BatchNorm that cannot be folded, stay as they are. Dropout is left out. Train the fp32
    network first: QAT then takes few epochs, at about a hundredth to a tenth of the learning rate.

    Parameters
    ----------
    net : HybridBlock
        Trained, in fp32; may be a SymbolBlock.
    calibration_data : iterable of batches
        For the initial thresholds, as for :func:`quantize`.
    bits : int
        2 to 8, of weights and activations. With other than 8, networks can be converted only with ``simulate=True``.
    select, exclude : name, kind, class or function of layers, or several of these
        Which layers are rounded, by default all that can be, and which stay in fp32 and are trained in it:
        ``exclude=["features.0", "Dense"]``; see :func:`~gluon_compress.network.select_layers`.
    method : "minmax", "percentile", "entropy" or "mse"
        How the first threshold of an activation is chosen; see :class:`RangeObserver`.
    percentile : float
        For ``method="percentile"``.
    batches : int, optional
        Use at most this many batches.
    progress : bool
        Show progress bars on standard error.

    Raises
    ------
    TypeError, ValueError
        For data, names or numbers other than described above, and when nothing is left to quantize.
    NetworkError
        When the network cannot be traced, or is quantized already.
    """
    check_settings(method, bits, batches)
    check_flag("progress", progress)
    check_fp32(net)
    quantizer = Quantizer(net, calibration_data, batches)
    quantizer.choose(net, select, exclude)
    quantizer.calibrate(lambda: RangeObserver(method, percentile, bits), progress)
    quantized = quantizer.quantized(bits, default_clip(bits), correct_bias=False)
    quantized.record.calibration = f"{method}, {quantizer.seen.samples} samples, then trained"
    return QatNetwork(quantized, quantizer.values)


class QatNetwork(GraphBlock):
    """A network to be trained as integers: what :func:`prepare_qat` returns.

    A HybridBlock like any other, fp32 in and fp32 out, with these parameters:

    - weights and biases under the structural names of the original network; where a BatchNorm follows a layer,
      the layer's bias has the name of BatchNorm's beta;
    - ``<weight>_clip`` for each weight of fewer than 8 bits, of shape (channels,), without weight decay: the share of
      the channel's largest weight beyond which weights are cut, at most 1;
    - one threshold for each tensor of integers, ``<layer>.output_threshold`` or ``<layer>.input_threshold``, of shape
      (1,), without weight decay. Its sign means nothing. Tensors that meet in a concatenation share one;
    - ``<layer>.offset`` of some shortcuts, which is not trained: see lowering.py;
    - ``scaling<channels>.running_mean`` and ``running_var``, which are constants: see training_emitter.py.

    ``save_parameters`` and ``load_parameters`` keep all of these, for a network prepared with the same arguments.

    Attributes
    ----------
    record : QuantizationRecord
        Of the preparation: which layers are rounded, and the initial thresholds.
    graph : Graph
        Of the original network.
    """

    def __init__(self, quantized: Quantized, values: dict[str, np.ndarray]) -> None:
        lowering = _lowering(quantized, _clips(quantized, values))
        _freeze_statistics(lowering.outputs)
        super().__init__(symbol_of(lowering.outputs),
                         [mx.sym.var(name, dtype="float32") for name in quantized.inference.inputs])
        self._quantized, self._values, self._lowering = quantized, values, lowering
        self._initialize()

    def _initialize(self) -> None:
        emitter = cast(TrainingEmitter, self._lowering.emitter)
        values = {**self._values, **emitter.values}
        fixed = {node.parameter for node in self.graph.nodes if node.constant}
        fixed |= {offset.name for offset, _ in emitter.offsets.values()} | emitter.constants.keys()
        fixed |= {statistic.parameter for node in self.graph.nodes if node.meaning.keeps_statistics
                  for statistic in (node.mean, node.variance) if statistic is not None}
        for name, parameter in self.collect_params().items():
            parameter.grad_req = "null" if name in fixed else "write"
            if name in emitter.thresholds or name in emitter.clips:
                parameter.wd_mult = 0.0
            with self.interface.active():
                take_values(parameter, values[name], mx.cpu())

    @property
    def record(self) -> QuantizationRecord:
        return self._quantized.record

    @property
    def graph(self) -> Graph:
        return self._quantized.graph

    def convert(self, simulate: bool = False) -> IntegerNetwork:
        """The :class:`IntegerNetwork` that computes what this network does now, in inference.

        Parameters
        ----------
        simulate : bool
            Run the integer arithmetic in fp32, on any machine and with any number of bits.

        Raises ``NetworkError`` where integer networks cannot run, and when a parameter is not finite.
        """
        check_flag("simulate", simulate)
        check_ready(self)
        trained = {name: value_of(parameter) for name, parameter in self.collect_params().items()}
        for name, value in trained.items():
            if not np.isfinite(value).all():
                raise NetworkError(f"parameter {name} is not finite; lower the learning rate, or load a state from "
                                   f"before")
        record = self._trained_record(trained)
        values = {name: trained.get(name, value) for name, value in self._values.items()}
        of_one_scale = self._quantized.inference.of_one_scale
        weights = {name: codes_and_scales(values[name], trained.get(clip_name(name)), record.bits, name in of_one_scale)
                   for name in values if name in self._quantized.codes}
        return IntegerNetwork(self._quantized.with_weights(record, weights, values), simulate)

    def _trained_record(self, trained: dict[str, np.ndarray]) -> QuantizationRecord:
        """The record, with thresholds as they are now."""
        record = copy.deepcopy(self.record)
        emitter = cast(TrainingEmitter, self._lowering.emitter)
        for fusion in self._lowering.fusions.values():
            layer = record.layers[fusion.layer.name]
            for what, entry in (("input", fusion.data), ("output", fusion.end), ("summand", fusion.summand)):
                name = entry and cast(LearnedRange, self._lowering.ranges[entry]).name
                if name in trained:
                    layer[what][0] = emitter.thresholds[name].effective(float(trained[name][0]))
            if fusion.shifted:
                offset = emitter.offsets[threshold_name(fusion.shifted.layer)][0].name
                record.layers[fusion.shifted.layer.name]["lowest"] = -float(trained[offset][0])
        return record

    def summary(self) -> str:
        """The table of :class:`QuantizationRecord`."""
        return self.record.summary()


def _clips(quantized: Quantized, values: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
    """{name of a weight's clip: its initial value}, for fewer than 8 bits."""
    bits = quantized.record.bits
    return {} if bits == 8 else {clip_name(name): initial_clip(values[name], layer["scale"], bits)
                                 for name, layer in quantized.scales.weights.items()}


def _lowering(quantized: Quantized, clips: dict[str, np.ndarray]) -> Lowering:
    fusions, ranges = quantized.fusions, quantized.ranges()
    names: dict[Entry, str] = {}
    for fusion in fusions.values():
        names.setdefault(fusion.data, f"{fusion.layer.name}.input_threshold")
        if fusion.summand is not None:
            names.setdefault(fusion.summand, f"{fusion.layer.name}.summand_threshold")
    names.update({end: threshold_name(fusion.layer) for end, fusion in fusions.items()})
    thresholds = {}
    for entry, limits in ranges.items():
        node, output = entry
        ceiling = fusions[entry].ceiling if entry in fusions else None
        thresholds[names[entry]] = Threshold(limits.threshold, int(np.prod(node.shapes[output][1:])), ceiling)
        ranges[entry] = LearnedRange(limits.threshold, limits.signed, limits.bits, names[entry])
    return Lowering(quantized, ranges, TrainingEmitter(thresholds, clips, quantized.record.bits))


def _freeze_statistics(outputs: list[Entry]) -> None:
    """Make BatchNorms compute in training what they compute in inference."""
    for node in in_order(outputs):
        if node.meaning.keeps_statistics:
            node.attributes = {**node.attributes, **node.meaning.as_in_inference}
