"""An int8 network in oneDNN's integer operators, which carry the two ends of the range along as outputs 1 and 2.

A PReLU has a slope a for each channel, but kernels support only one for all. The layer runs two or three times on the
same codes, with different scales, and adds to what came before:

    max(x, 0)        then -STEEP min(|a| x / STEEP, 0) where a < 0        then STEEP min(a x / STEEP, 0) where a > 0

in which what is divided by STEEP rounds to 0 on the other side. Only one of the three is not 0, so it is rounded
only once. Two passes cost less than fp32 between two conversions (64 channels of 56x56, batch 8, depthwise: 4.4 ms
against 24.8), unless each sums up very many products.

Of a convolution with groups MXNet scales the weights of group g as if they were those of channel g. So its weight has
one scale, and the kernel puts out sums of 32 bits, for which MXNet does not ask for scales by channel; a second
operator makes codes of them (32 groups of 8 channels of 28x28, batch 8, with VNNI: 2.0 ms; fp32 between two
conversions: 5.2 ms; a convolution without groups, whose other weights are zero: 16 ms).
"""
from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np

from ...network.nodes import Entry, Node, plain, variable, written
from ..arithmetic.ranges import Range
from .emitter import Codes, CodesEmitter, Integers, activation, ends_of
from .fusions import Leaky, is_grouped, over_last_axis
from .onednn import ZERO_SCALE, threshold_for, weight_for

LARGE_DENSE = 2 ** 18  # weights; with fewer the time does not matter
STEEP = 2.0 ** 20
LARGEST_SUM = 2.0 ** 31  # of 32 bits; ranges of sums end there
NO_SLOPE = 1e-20  # makes a ReLU whose codes are signed: they round to 0 below it


class Int8Emitter(CodesEmitter):
    """oneDNN's operators.

    Large dense layers run as 1x1 convolutions over an image of one column, whose height is the batch: MXNet's integer
    dense layer leaves the weights in rows, which oneDNN's matrix product packs anew in every pass, while a convolution
    packs them once (4096 x 4096, batch 8, two cores with VNNI: 0.26 ms against 1.62 ms). Layers over the last of
    several axes do not: with a row for each place of a sequence, packing costs little, and turning rows into columns
    more (768 x 3072, 128 rows: 1.7 ms against 2.5 ms).
    """

    def __init__(self, codes: Codes, biases: dict[str, np.ndarray]) -> None:
        super().__init__(codes, biases)
        self._columns: dict[Entry | str, Entry] = {}

    def quantize(self, name: str, entry: Entry, limits: Range) -> Integers:
        node = written("_contrib_quantize_v2", name, entry, outputs=3, out_type="auto", **_calibrated(limits))
        return Integers((node, 0), limits)

    def dequantize(self, name: str, integers: Integers) -> Entry:
        return written("_contrib_dequantize", name, *_with_ends(integers)), 0

    def convolution(self, layer: Node, data: Integers, limits: Range, relu: bool = False,
                    summand: Integers | None = None, leaky: Leaky | None = None,
                    added: Integers | None = None) -> Integers:
        """``summand`` is added before the activation, ``added`` after it."""
        if leaky is not None and leaky.by_channel:
            return self._prelu(layer, data, limits, leaky.slope)
        if is_grouped(layer):
            return self._grouped(layer, data, limits)
        inputs, output = self._layer(layer, data)
        attributes = {"quantized": "true", **_calibrated(limits)}
        if summand is not None:
            inputs.append(summand.entry)
            attributes["with_sum"] = "true"
            output = written("elemwise_add", "sum", output, *_placeholders(1, "summand")), 0
        if relu or leaky is not None:
            attributes["with_act" if summand is None else "with_postsum_act"] = "true"
            output = activation("relu", output, leaky is None, leaky)
        if added is not None:
            inputs.append(added.entry)
            attributes["with_sum"] = "true"
            output = written("elemwise_add", "sum", output, *_placeholders(1, "added")), 0
        inputs += _with_ends(data)[1:] + [end for part in (summand, added) if part for end in _with_ends(part)[1:]]
        node = written("_sg_mkldnn_conv", layer.name, *inputs, outputs=3, **attributes)
        node.subgraphs = [[output]]
        return Integers((node, 0), limits)

    def _grouped(self, layer: Node, data: Integers, limits: Range) -> Integers:
        """The layer's sums, and then their codes, of which unsigned ones are a ReLU: see above."""
        inputs, output = self._layer(layer, data)
        sums = written("_sg_mkldnn_conv", layer.name, *inputs, *_with_ends(data)[1:], outputs=3, quantized="true")
        sums.subgraphs = [[output]]
        unit = self.codes[layer.name][1][:1] * np.float32(data.range.scale)
        levels = threshold_for(1, limits.signed) / limits.codes[1]  # to the operator the end is codes[1] codes away
        end = unit * np.float32(LARGEST_SUM * levels)
        ends = [self.parameter(f"{layer.name}.sums_{name}", value) for name, value in (("low", -end), ("high", end))]
        node = written("_contrib_requantize", f"{layer.name}_codes", (sums, 0), *ends, outputs=3,
                       out_type="int8" if limits.signed else "uint8", **_calibrated(limits))
        return Integers((node, 0), limits)

    def _prelu(self, layer: Node, data: Integers, limits: Range, slope: np.ndarray) -> Integers:
        """The layer and its PReLU, with a ``slope`` for each channel: see above."""
        passes = [(np.ones_like(slope), NO_SLOPE)]
        passes += [(np.maximum(sign * slope, 0) / STEEP, sign * STEEP) for sign in (-1, 1) if (sign * slope > 0).any()]
        codes, scale = self.codes[layer.name]
        bias = self.biases.get(layer.name)
        result: Any = None
        for number, (factor, steepness) in enumerate(passes):
            name = layer.name if number == len(passes) - 1 else f"{layer.name}.pass{number}"
            self.codes[name] = codes, np.maximum(scale * factor, ZERO_SCALE)
            if bias is not None:
                self.biases[name] = bias * factor
            result = self.convolution(replace(layer, name=name), data, limits, leaky=Leaky(steepness), added=result)
        return result

    def dense(self, layer: Node, data: Integers, limits: Range | None = None, relu: bool = False) -> Integers | Entry:
        if limits is not None and self.runs_as_convolution(layer, data):
            return self._dense_of_columns(layer, data, limits, relu)
        inputs, output = self._layer(layer, data)
        attributes = {"quantized": "true", "channel_wise_quantize": "true",
                      **({"enable_float_output": "true"} if limits is None else _calibrated(limits))}
        if relu:
            attributes["with_eltwise"] = "true"
            output = activation("relu", output, relu)
        node = written("_sg_mkldnn_fully_connected", layer.name, *inputs, *_with_ends(data)[1:],
                       outputs=1 if limits is None else 3, **attributes)
        node.subgraphs = [[output]]
        return (node, 0) if limits is None else Integers((node, 0), limits)

    def runs_as_convolution(self, layer: Node, data: Integers) -> bool:
        return self.codes[layer.name][0].size >= LARGE_DENSE and not over_last_axis(layer)

    def _dense_of_columns(self, layer: Node, data: Integers, limits: Range, relu: bool) -> Integers:
        """As a convolution over (1, features, batch, 1); consecutive ones pass that on."""
        codes, scale = self.codes[layer.name]
        self.codes[layer.name] = codes.reshape(*codes.shape, 1, 1), scale
        attributes = {"num_filter": str(len(codes)), "kernel": "(1, 1)"}
        convolution = replace(layer, operator="Convolution", attributes=attributes)
        data = replace(data, entry=self._as_columns(layer.name, data), ends=ends_of(data))
        columns = self.convolution(convolution, data, limits, relu)
        rows = plain(f"{layer.name}_matrix", "Reshape", columns.entry, shape=(-3, -3))
        rows = plain(f"{layer.name}_rows", "transpose", rows, axes=(1, 0))
        self._columns[rows] = columns.entry
        return Integers(rows, limits, ends_of(columns))

    def _as_columns(self, name: str, data: Integers) -> Entry:
        if data.entry not in self._columns:
            columns = plain(f"{name}_flat", "Flatten", data.entry)
            columns = plain(f"{name}_columns", "transpose", columns, axes=(1, 0))
            self._columns[data.entry] = plain(f"{name}_image", "Reshape", columns, shape=(-4, 1, -1, -4, -1, 1))
        return self._columns[data.entry]

    def _layer(self, layer: Node, data: Integers) -> tuple[list[Entry], Entry]:
        """``(inputs of the fused operator, the layer in its subgraph)``."""
        inputs = [data.entry, self.parameter(f"{layer.name}.weight", weight_for(*self.codes[layer.name]))]
        if layer.name in self.biases:
            inputs.append(self.parameter(f"{layer.name}.bias", self.biases[layer.name]))
        attributes = {**layer.attributes, "no_bias": str(layer.name not in self.biases)}
        return inputs, (written(layer.operator, "layer", *_placeholders(len(inputs)), **attributes), 0)

    def pooling(self, pool: Node, data: Integers) -> Integers:
        node = written("_contrib_quantized_pooling", pool.name, *_with_ends(data), outputs=3, **pool.attributes)
        return Integers((node, 0), data.range)

    def flatten(self, flatten: Node, data: Integers) -> Integers:
        node = written("_contrib_quantized_flatten", flatten.name, *_with_ends(data), outputs=3)
        return Integers((node, 0), data.range)

    def concat(self, concat: Node, parts: list[Integers]) -> Integers:
        ends = [end for part in parts for end in _with_ends(part)[1:]]
        node = written("_contrib_quantized_concat", concat.name, *(part.entry for part in parts), *ends, outputs=3,
                       num_args=len(parts), dim=concat.attributes.get("dim", "1"))
        return Integers((node, 0), parts[0].range)


def _calibrated(limits: Range) -> dict[str, str]:
    threshold = float(threshold_for(limits.scale, limits.signed))
    return {"min_calib_range": repr(-threshold if limits.signed else 0.0), "max_calib_range": repr(threshold)}


def _with_ends(integers: Integers) -> list[Entry]:
    """The codes, the lower and the upper end, as the quantized operators want them."""
    ends = ends_of(integers)
    return [integers.entry, (ends, 1), (ends, 2)]


def _placeholders(number: int, name: str = "input") -> list[Entry]:
    return [(variable(f"{name}{index}", ()), 0) for index in range(number)]
