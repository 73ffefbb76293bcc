"""A network on integers in ONNX's QuantizeLinear and DequantizeLinear, around layers that are in fp32 on paper.

Engines look for these patterns and run what is between on integers:

    codes -> DequantizeLinear -> layer -> QuantizeLinear -> codes       one operator on integers, with its ReLU

Which patterns they find was measured on ONNX Runtime 1.32 and OpenVINO 2026.4; see benchmarks/int8_onnx.py.

**Codes** are uint8, and signed ones have the zero point 128. ONNX Runtime runs a layer on integers only if what it
reads and what it writes are of one type. No ReLU is written where codes begin at zero: they end there anyway.

**Strides** of 1x1 kernels are written as a pooling of 1x1 windows before the layer. OpenVINO moves such strides to
before the DequantizeLinear itself, and then no longer recognizes the pattern around it (ResNet-50: 85 ms instead of
74).

**Before additions and leaky activations** there is one rounding more than in our kernels, since ONNX Runtime runs a
layer on integers only if its own output is rounded. The range is that of calibration, where the record has it, and
never larger than what the sum can use: where the codes of sum and summand end, so do those of the layer.

**Biases** are int32 of the scale s_w * s_x. Where that would be too small for a bias, as in a channel whose weights are
zero, the scale of its weights grows. Dense layers without a bias get one of a single unit, in one channel. OpenVINO
2026.4, which drops a bias of zeros, computes numbers that have nothing to do with the network where shapes are fixed
and such a layer reads what another one on integers wrote.
"""
from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import numpy as np

from ...network.nodes import Entry, Node, plain, variable, written
from ..arithmetic.ranges import Range
from .emitter import Codes, CodesEmitter, Integers, activation
from .fusions import Leaky, is_convolution, over_last_axis
from .narrow import NarrowEmitter

UNSIGNED, MIDDLE = 255, 128  # the highest code, and that of zero where there is a sign
LARGEST_BIAS = 2.0 ** 30  # in units of its scale: sums of 32 bits have room beside it
LARGEST_INT4 = 7
STEEPEST = 4.0  # how many times its own threshold a leaky activation is assumed to read at most, below zero


class QdqEmitter(CodesEmitter):
    """QuantizeLinear and DequantizeLinear, beside MXNet's operators in fp32.

    Parameters
    ----------
    codes, biases : dict
        As of :class:`CodesEmitter`.
    before : dict
        {layer name: the largest magnitude of its own output}, of layers that an addition or a leaky activation follows;
        where it is not known, it is bounded by what follows.
    weight_type : dtype
        int8, or one of 4 bits where the codes have no more.
    """

    def __init__(self, codes: Codes, biases: dict[str, np.ndarray], before: Mapping[str, float] | None = None,
                 weight_type: Any = np.int8) -> None:
        super().__init__(codes, biases)
        self._before, self._weight_type = dict(before or {}), weight_type
        self._offsets: dict[str, float] = {}
        self._scales: dict[Entry, list[Entry]] = {}  # of codes: their scale and zero point
        self._values_of: dict[Entry, Entry] = {}
        self._places: dict[tuple[Entry, tuple[int, ...]], Integers] = {}

    def shift(self, shortcut: Node, layer: Node, offset: float) -> None:
        super().shift(shortcut, layer, offset)
        for node, change in ((shortcut, offset), (layer, -offset)):
            self._offsets[node.name] = self._offsets.get(node.name, 0.0) + change

    def quantize(self, name: str, entry: Entry, limits: Range) -> Integers:
        zero = MIDDLE if limits.signed else 0
        codes = self._quantized(name, entry, limits.scale, zero)
        low, high = (code + zero for code in limits.codes)
        if (low, high) == (0, UNSIGNED):
            return Integers(codes, limits)
        cut = plain(f"{name}_cut", "clip", codes, a_min=low, a_max=high)
        self._scales[cut] = self._scales[codes]
        return Integers(cut, limits)

    def dequantize(self, name: str, integers: Integers) -> Entry:
        return written("DequantizeLinear", name, integers.entry, *self._scales[integers.entry]), 0

    def convolution(self, layer: Node, data: Integers, limits: Range, relu: bool = False,
                    summand: Integers | None = None, leaky: Leaky | None = None) -> Integers:
        name, output = layer.name, self._layer(layer, data)
        if summand is not None:
            output = self._rounded(name, output, _useful(limits, summand.range))
            output = written("elemwise_add", f"{name}_sum", output, self._read(summand)), 0
        if leaky is not None:
            if summand is None:
                output = self._rounded(name, output, (-STEEPEST * limits.threshold, limits.threshold))
            if leaky.by_channel:
                leaky = replace(leaky, parameter=self._constant(f"{name}.slope", leaky.slope, np.float32))
            output = activation(f"{name}_activation", output, leaky=leaky)
        return self.quantize(f"{name}_codes", output, limits)

    def dense(self, layer: Node, data: Integers, limits: Range | None = None, relu: bool = False) -> Integers | Entry:
        if not over_last_axis(layer) and len(layer.input_shape(0)) > 2:
            data = self.flatten(Node(f"{layer.name}_flat", "Flatten"), data)
        output = self._layer(layer, data)
        if limits is None:
            return activation(f"{layer.name}_activation", output, relu)
        return self.quantize(f"{layer.name}_codes", output, limits)

    def pooling(self, pool: Node, data: Integers) -> Integers:
        return self._same(data.range, plain(pool.name, pool.operator, self._read(data), **pool.attributes))

    def flatten(self, flatten: Node, data: Integers) -> Integers:
        return self._same(data.range, plain(flatten.name, "Flatten", self._read(data)))

    def concat(self, concat: Node, parts: list[Integers]) -> Integers:
        node = written("Concat", concat.name, *map(self._read, parts), **concat.attributes)
        return self._same(parts[0].range, (node, 0))

    def _same(self, limits: Range, entry: Entry) -> Integers:
        """Integers of what only moves the values that integers of this range stand for, or averages them."""
        zero = MIDDLE if limits.signed else 0
        return Integers(self._quantized(f"{entry[0].name}_codes", entry, limits.scale, zero), limits)

    def _layer(self, layer: Node, data: Integers) -> Entry:
        """The layer in fp32, of codes that are made fp32 just before it."""
        name = layer.name
        layer, data = self._without_stride(layer, data)
        codes, scale, unit = self._room_for_bias(name, data.range)
        inputs = [self._read(data), self._of_channels(f"{name}.weight", codes.astype(self._weight_type), scale)]
        bias = self._bias(layer, unit)
        if bias is not None:
            inputs.append(self._of_channels(f"{name}.bias", bias, unit))
        return written(layer.operator, name, *inputs, **{**layer.attributes, "no_bias": str(bias is None)}), 0

    def _bias(self, layer: Node, unit: np.ndarray) -> np.ndarray | None:
        if layer.name in self.biases:
            return np.rint(self.biases[layer.name] / unit).astype(np.int32)
        return None if is_convolution(layer) else np.eye(1, len(unit), dtype=np.int32)[0]

    def _without_stride(self, layer: Node, data: Integers) -> tuple[Node, Integers]:
        """A layer of 1x1 kernels that reads every second place, as one that reads all of those; see above."""
        stride = layer.get("stride") or (1,)
        if math.prod(stride) == 1 or math.prod(layer.get("kernel")) > 1 or any(layer.get("pad") or ()):
            return layer, data
        if (data.entry, stride) not in self._places:
            places = Node(f"{layer.name}_places", "Pooling", {"kernel": "(1, 1)", "stride": str(stride),
                                                              "pool_type": "max"})
            self._places[data.entry, stride] = self.pooling(places, data)
        attributes = {**layer.attributes, "stride": str((1,) * len(stride))}
        return replace(layer, attributes=attributes), self._places[data.entry, stride]

    def _room_for_bias(self, name: str, limits: Range) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """``(codes, their scales, scales of the bias)``, with scales for which the bias is an int32."""
        codes, scale = self.codes[name]
        unit = (scale * np.float32(limits.scale)).astype(np.float32)
        if name in self.biases:
            growth = np.abs(self.biases[name].astype(np.float64)) / (unit.astype(np.float64) * LARGEST_BIAS)
            if (growth > 1).any():
                growth = np.maximum(growth, 1).astype(np.float32)
                codes = np.rint(codes / growth.reshape(-1, *[1] * (codes.ndim - 1)))
                scale, unit = scale * growth, unit * growth
        return codes, scale, unit

    def _rounded(self, name: str, output: Entry, useful: tuple[float, float]) -> Entry:
        """A layer's own output, rounded before what follows it; nothing beyond ``useful`` makes a difference there."""
        low, high = useful
        if name in self._before:
            middle = self._offsets.get(name, 0.0)
            low, high = max(low, middle - self._before[name]), min(high, middle + self._before[name])
        low, high = min(low, 0.0), max(high, 0.0)
        scale = (high - low) / UNSIGNED or 1.0
        codes = self._quantized(f"{name}_before", output, scale, int(np.rint(-low / scale)))
        return written("DequantizeLinear", f"{name}_before_read", codes, *self._scales[codes]), 0

    def _read(self, integers: Integers) -> Entry:
        """The values, once for all readers."""
        if integers.entry not in self._values_of:
            self._values_of[integers.entry] = self.dequantize(f"{integers.entry[0].name}_read", integers)
        return self._values_of[integers.entry]

    def _quantized(self, name: str, entry: Entry, scale: float, zero: int) -> Entry:
        scales = [self._constant(f"{name}.scale", scale, np.float32),
                  self._constant(f"{name}.zero_point", zero, np.uint8)]
        codes = written("QuantizeLinear", name, entry, *scales), 0
        self._scales[codes] = scales
        return codes

    def _of_channels(self, name: str, codes: np.ndarray, scale: np.ndarray) -> Entry:
        """What stored codes stand for, with a scale for each index of their first axis."""
        parts = [self._constant(name, codes, codes.dtype), self._constant(f"{name}.scale", scale, np.float32),
                 self._constant(f"{name}.zero_point", np.zeros(len(scale)), codes.dtype)]
        return written("DequantizeLinear", f"{name}_read", *parts, axis=0), 0

    def _constant(self, name: str, value: Any, dtype: Any) -> Entry:
        self.values[name] = np.atleast_1d(np.asarray(value).astype(dtype))
        return variable(name, self.values[name].shape), 0


class NarrowQdqEmitter(NarrowEmitter, QdqEmitter):
    """With weights for which no sum of two products is cut where these are added in 16 bits: see narrow.py."""


def _useful(limits: Range, summand: Range) -> tuple[float, float]:
    """The values of a layer's output beyond which its sum with any value of ``summand`` is cut at ``limits``."""
    low = -limits.threshold if limits.signed else 0.0
    return low - summand.threshold, limits.threshold + (summand.threshold if summand.signed else 0.0)
