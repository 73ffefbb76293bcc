"""A network on integers in ONNX's QuantizeLinear and DequantizeLinear, between which layers compute in fp32 on paper.

Engines look for patterns of these and run them on integers. What ONNX Runtime 1.32 and OpenVINO 2026.4 fuse:

    codes -> DequantizeLinear -> layer -> QuantizeLinear -> codes        the layer, its ReLU and its rounding

**Codes.** All tensors of integers are uint8; signed ones have the zero point 128. ONNX Runtime fuses a layer only if
the types of what it reads and what it writes are one, and has its fastest kernels for uint8. A ReLU is not written:
codes of the zero point 0 end there.

**Sums.** oneDNN's kernels add a shortcut before they round. ONNX Runtime has no such kernel: there the layer's own
output is rounded, too, before it is added. Its range is what the sum can use of it: see :func:`_term`.

**Biases** are int32 of the scale s_w * s_x. Where that would be too small for a bias, as in channels whose weights are
zero, the weights' scale grows.
"""
from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np

from ...network.nodes import Entry, Node, plain, variable, written
from ..arithmetic.ranges import Range
from .emitter import Codes, CodesEmitter, Integers, activation
from .fusions import Leaky, is_convolution, over_last_axis

LARGEST_BIAS = 2.0 ** 30


class QdqEmitter(CodesEmitter):
    SPLIT = True
    KEEP_RELU = False
    SIGNED = "uint8"
    TERM = "asym"
    SHARE = False

    def __init__(self, codes: Codes, biases: dict[str, np.ndarray]) -> None:
        super().__init__(codes, biases)
        self._reads: dict[Entry, int] = {}

    def constant(self, name: str, value: Any, dtype: Any) -> Entry:
        self.values[name] = np.asarray(value, dtype=dtype)
        return variable(name, self.values[name].shape), 0

    def quantize(self, name: str, entry: Entry, limits: Range) -> Integers:
        dtype = self.SIGNED if limits.signed else "uint8"
        zero = 128 if limits.signed and dtype == "uint8" else 0
        node = written("QuantizeLinear", name, entry, self.constant(f"{name}.scale", limits.scale, np.float32),
                       self.constant(f"{name}.zero_point", zero, dtype))
        return Integers((node, 0), limits)

    def dequantize(self, name: str, integers: Integers) -> Entry:
        node = integers.entry[0]
        return written("DequantizeLinear", name, integers.entry, *node.inputs[1:]), 0

    def _read(self, integers: Integers) -> Entry:
        """One DequantizeLinear for each reader: engines take it into that."""
        number = self._reads[integers.entry] = self._reads.get(integers.entry, 0) + 1
        if self.SHARE and number > 1:
            return self._shared[integers.entry]
        result = self.dequantize(f"{integers.entry[0].name}_read{number}", integers)
        if self.SHARE:
            self._shared = getattr(self, "_shared", {})
            self._shared[integers.entry] = result
        return result

    def convolution(self, layer: Node, data: Integers, limits: Range, relu: bool = False,
                    summand: Integers | None = None, leaky: Leaky | None = None) -> Integers:
        output = self._layer(layer, self._read(data), data.range)
        name = layer.name
        if summand is not None:
            if self.SPLIT:
                output = self._split(f"{name}_term", output, summand.range, limits)
            output = written("elemwise_add", f"{name}_sum", output, self._read(summand)), 0
        if leaky is not None and leaky.by_channel:
            leaky = replace(leaky, parameter=self.constant(f"{name}.slope", leaky.slope, np.float32))
        output = activation(f"{name}_activation", output, relu and self.KEEP_RELU, leaky)
        return self.quantize(f"{name}_codes", output, limits)

    def _split(self, name, output, summand, limits):
        low = -(summand.threshold + (limits.threshold if limits.signed else 0))
        high = limits.threshold + (summand.threshold if summand.signed else 0)
        scale = (high - low) / 255
        zero = int(np.rint(-low / scale))
        if self.TERM == "sym":
            scale, zero = max(-low, high) / 127, 128
        q = written("QuantizeLinear", name, output, self.constant(f"{name}.scale", scale, np.float32),
                       self.constant(f"{name}.zero_point", zero, "uint8"))
        return written("DequantizeLinear", f"{name}_read", (q, 0), *q.inputs[1:]), 0

    def dense(self, layer: Node, data: Integers, limits: Range | None = None, relu: bool = False) -> Integers | Entry:
        if not over_last_axis(layer) and len(layer.input_shape(0)) > 2:
            data = self.flatten(Node(f"{layer.name}_flat", "Flatten"), data)
        output = self._layer(layer, self._read(data), data.range)
        output = activation(f"{layer.name}_activation", output, relu and (self.KEEP_RELU or limits is None))
        return output if limits is None else self.quantize(f"{layer.name}_codes", output, limits)

    def _layer(self, layer: Node, data: Entry, limits: Range) -> Entry:
        name, (codes, scale) = layer.name, self.codes[layer.name]
        unit = scale.astype(np.float64) * np.float32(limits.scale)
        if name in self.biases:
            growth = np.maximum(1, np.abs(self.biases[name]) / (unit * LARGEST_BIAS))
            shape = (-1, *[1] * (codes.ndim - 1))
            codes = np.rint(codes / growth.reshape(shape)).astype(np.int8)
            scale, unit = (scale * growth).astype(np.float32), unit * growth
        inputs = [data, self._stored(f"{name}.weight", codes, scale, np.int8)]
        if name in self.biases:
            inputs.append(self._stored(f"{name}.bias", np.rint(self.biases[name] / unit), unit, np.int32))
        return written(layer.operator, name, *inputs,
                       **{**layer.attributes, "no_bias": len(inputs) == 2}), 0

    def _stored(self, name: str, codes: np.ndarray, scale: np.ndarray, dtype: Any) -> Entry:
        parts = [self.constant(name, codes, dtype), self.constant(f"{name}.scale", scale, np.float32),
                 self.constant(f"{name}.zero_point", np.zeros(len(scale)), dtype)]
        return written("DequantizeLinear", f"{name}_read", *parts, axis=0), 0

    def _again(self, name: str, entry: Entry, limits: Range) -> Integers:
        return self.quantize(f"{name}_codes", entry, limits)

    def pooling(self, pool: Node, data: Integers) -> Integers:
        return self._again(pool.name, plain(pool.name, pool.operator, self._read(data), **pool.attributes), data.range)

    def flatten(self, flatten: Node, data: Integers) -> Integers:
        return self._again(flatten.name, plain(flatten.name, "Flatten", self._read(data)), data.range)

    def concat(self, concat: Node, parts: list[Integers]) -> Integers:
        node = written("Concat", concat.name, *map(self._read, parts), **concat.attributes)
        return self._again(concat.name, (node, 0), parts[0].range)
