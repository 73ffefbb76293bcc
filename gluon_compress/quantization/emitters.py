"""How an int8 network is written down: with oneDNN's integer operators, or with the same arithmetic in fp32.

A tensor of integers is symmetric around zero, or begins there:

    signed    codes in [-128, 127], scale = threshold / 127
    unsigned  codes in [0, 255],    scale = threshold / 255

(or so with fewer bits, which only the fp32 one knows).

A layer multiplies codes, adds its bias in units of their scales, and rounds once:

    code_out = round((sum(code_w * code_x) + round(bias / (s_w * s_x))) * s_w * s_x / s_out)

Integers up to 2**24 are exact in fp32, so that the simulated network computes what the real one does, anywhere; only
values half-way between two codes may be rounded to the other one.

A PReLU has a slope a for each channel, and kernels know one for all. The layer runs two or three times on the same
codes, with scales of its own, and adds to what came before:

    max(x, 0)        then -STEEP min(|a| x / STEEP, 0) where a < 0        then STEEP min(a x / STEEP, 0) where a > 0

in which what is divided by STEEP rounds to 0 on the other side. Only one of the three is not 0, so that it is rounded
once. Two passes cost less than fp32 between two conversions (64 channels of 56x56, batch 8, depthwise: 4.4 ms against
24.8), unless each sums up very many products.

Jacob et al., "Quantization and Training of Neural Networks for Efficient Integer-Arithmetic-Only Inference", 2018,
section 2.2.
"""
from dataclasses import dataclass, replace

import numpy as np

from ..graph import Node
from .fusions import Leaky
from .inference_graph import variable
from .onednn import SIGNED_LEVELS, ZERO_SCALE, threshold_for, weight_for
from .ranges import Range

LARGE_DENSE = 2 ** 18  # weights; with fewer the time does not matter
ROUNDING = 1.5 * 2 ** 23  # float32 numbers of this size are integers
STEEP = 2.0 ** 20
NO_SLOPE = 1e-20  # makes a ReLU whose codes are signed: they round to 0 below it


@dataclass(frozen=True)
class Integers:
    """A tensor of integers: what a node outputs, and what its codes mean.

    Attributes
    ----------
    entry : (Node, int)
    range : Range
    ends : Node or None
        Whose outputs 1 and 2 are the ends of the range, when it is not the same node.
    """

    entry: tuple
    range: Range
    ends: Node = None


class Emitter:
    """What both emitters share.

    Parameters
    ----------
    codes : dict
        {layer name: (int8 codes, float32 scale of each output channel)}.
    biases : dict
        {layer name: float32 array}, of the layers that have one.

    Attributes
    ----------
    values : dict
        {parameter node name: float32 array} of the layers written so far.
    """

    def __init__(self, codes, biases):
        self.codes, self.biases, self.values = codes, biases, {}

    def parameter(self, name, value):
        """An entry that holds ``value``."""
        self.values[name] = np.asarray(value, dtype=np.float32)
        return variable(name, self.values[name].shape), 0

    def shift(self, shortcut, layer, offset):
        """Add a number to what the layer node ``shortcut`` computes, and take it from what ``layer`` does."""
        for node, change in ((shortcut, np.float32(offset)), (layer, -np.float32(offset))):
            self.biases[node.name] = self.biases.get(node.name, np.zeros(node.shapes[0][1], np.float32)) + change


class Int8Emitter(Emitter):
    """oneDNN's operators, which carry the two ends of the range along as outputs 1 and 2.

    Large dense layers run as 1x1 convolutions over an image of one column, whose height is the batch: MXNet's integer
    dense layer leaves the weights in rows, which oneDNN's matrix product packs anew in every pass, while a convolution
    packs them once (4096 x 4096, batch 8, two cores with VNNI: 0.26 ms against 1.62 ms).
    """

    def __init__(self, codes, biases):
        super().__init__(codes, biases)
        self._columns = {}

    def quantize(self, name, entry, limits):
        node = Node(name, "_contrib_quantize_v2", {"out_type": "auto", **_calibrated(limits)}, [()] * 3,
                    inputs=[entry])
        return Integers((node, 0), limits)

    def dequantize(self, name, integers):
        return Node(name, "_contrib_dequantize", {}, [()], inputs=_with_ends(integers)), 0

    def convolution(self, layer, data, limits, relu=False, summand=None, leaky=None, added=None):
        """``summand`` is added before the activation, ``added`` behind it."""
        if leaky is not None and leaky.by_channel:
            return self._prelu(layer, data, limits, leaky.slope)
        inputs, output = self._layer(layer, data)
        attributes = {"quantized": "true", **_calibrated(limits)}
        if summand is not None:
            inputs.append(summand.entry)
            attributes["with_sum"] = "true"
            output = (Node("sum", "elemwise_add", {}, [()], inputs=[output, *_placeholders(1, "summand")]), 0)
        if relu or leaky is not None:
            attributes["with_act" if summand is None else "with_postsum_act"] = "true"
            output = _relu("relu", output) if leaky is None else _leaky("relu", output, leaky.slope)
        if added is not None:
            inputs.append(added.entry)
            attributes["with_sum"] = "true"
            output = (Node("sum", "elemwise_add", {}, [()], inputs=[output, *_placeholders(1, "added")]), 0)
        inputs += _with_ends(data)[1:] + [end for part in (summand, added) if part for end in _with_ends(part)[1:]]
        node = Node(layer.name, "_sg_mkldnn_conv", attributes, [()] * 3, inputs=inputs, subgraph=[output])
        return Integers((node, 0), limits)

    def _prelu(self, layer, data, limits, slope):
        """The layer and its PReLU, of ``slope`` for each channel: see above."""
        passes = [(np.ones_like(slope), NO_SLOPE)]
        passes += [(np.maximum(sign * slope, 0) / STEEP, sign * STEEP) for sign in (-1, 1) if (sign * slope > 0).any()]
        codes, scale = self.codes[layer.name]
        bias, result = self.biases.get(layer.name), None
        for number, (factor, steepness) in enumerate(passes):
            name = layer.name if number == len(passes) - 1 else f"{layer.name}.pass{number}"
            self.codes[name] = codes, np.maximum(scale * factor, ZERO_SCALE)
            if bias is not None:
                self.biases[name] = bias * factor
            result = self.convolution(replace(layer, name=name), data, limits, leaky=Leaky(steepness), added=result)
        return result

    def dense(self, layer, data, limits=None, relu=False):
        """Without ``limits`` the result is an fp32 entry."""
        if limits is not None and self.runs_as_convolution(layer, data):
            return self._dense_of_columns(layer, data, limits, relu)
        inputs, output = self._layer(layer, data)
        attributes = {"quantized": "true", "channel_wise_quantize": "true",
                      **({"enable_float_output": "true"} if limits is None else _calibrated(limits))}
        if relu:
            attributes["with_eltwise"] = "true"
            output = _relu("relu", output)
        node = Node(layer.name, "_sg_mkldnn_fully_connected", attributes, [()] * (1 if limits is None else 3),
                    inputs=[*inputs, *_with_ends(data)[1:]], subgraph=[output])
        return (node, 0) if limits is None else Integers((node, 0), limits)

    def runs_as_convolution(self, layer, data):
        return self.codes[layer.name][0].size >= LARGE_DENSE

    def _dense_of_columns(self, layer, data, limits, relu):
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

    def _as_columns(self, name, data):
        if data.entry not in self._columns:
            columns = plain(f"{name}_flat", "Flatten", data.entry)
            columns = plain(f"{name}_columns", "transpose", columns, axes=(1, 0))
            self._columns[data.entry] = plain(f"{name}_image", "Reshape", columns, shape=(-4, 1, -1, -4, -1, 1))
        return self._columns[data.entry]

    def _layer(self, layer, data):
        """``(inputs of the fused operator, the layer in its subgraph)``."""
        inputs = [data.entry, self.parameter(f"{layer.name}.weight", weight_for(*self.codes[layer.name]))]
        if layer.name in self.biases:
            inputs.append(self.parameter(f"{layer.name}.bias", self.biases[layer.name]))
        attributes = {**layer.attributes, "no_bias": str(layer.name not in self.biases)}
        return inputs, (Node("layer", layer.operator, attributes, [()], inputs=_placeholders(len(inputs))), 0)

    def pooling(self, pool, data):
        node = Node(pool.name, "_contrib_quantized_pooling", pool.attributes, [()] * 3, inputs=_with_ends(data))
        return Integers((node, 0), data.range)

    def flatten(self, flatten, data):
        node = Node(flatten.name, "_contrib_quantized_flatten", {}, [()] * 3, inputs=_with_ends(data))
        return Integers((node, 0), data.range)

    def concat(self, concat, parts):
        """Parts of one range: their codes are copied."""
        ends = [end for part in parts for end in _with_ends(part)[1:]]
        node = Node(concat.name, "_contrib_quantized_concat",
                    {"num_args": str(len(parts)), "dim": concat.attributes.get("dim", "1")}, [()] * 3,
                    inputs=[*(part.entry for part in parts), *ends])
        return Integers((node, 0), parts[0].range)


class SimulatedEmitter(Emitter):
    """Ordinary fp32 operators on codes."""

    def quantize(self, name, entry, limits):
        return self._rounded(name, self._times(f"{name}_scaled", entry, limits.per_unit), limits)

    def dequantize(self, name, integers):
        return self._times(name, integers.entry, integers.range.scale)

    def convolution(self, layer, data, limits, relu=False, summand=None, leaky=None):
        output = self._layer(layer, data, limits.per_unit)
        if summand is not None:
            added = self._times(f"{layer.name}_summand", summand.entry,
                                limits.per_unit / summand.range.per_unit)
            output = Node(f"{layer.name}_sum", "elemwise_add", {}, [()], inputs=[output, added]), 0
        name = f"{layer.name}_relu"
        if leaky is not None:
            slope = self.parameter(f"{layer.name}.slope", leaky.slope) if leaky.by_channel else leaky.slope
            output = _leaky(name, output, slope)
        return self._rounded(layer.name, _relu(name, output) if relu else output, limits)

    def dense(self, layer, data, limits=None, relu=False):
        output = self._layer(layer, data, np.float32(1) if limits is None else limits.per_unit)
        output = _relu(f"{layer.name}_relu", output) if relu else output
        return output if limits is None else self._rounded(layer.name, output, limits)

    def pooling(self, pool, data):
        node = Node(pool.name, pool.operator, pool.attributes, [()], inputs=[data.entry])
        if pool.get("pool_type", "max") == "max":
            return Integers((node, 0), data.range)
        return self._rounded(pool.name, (node, 0), data.range)

    def flatten(self, flatten, data):
        return Integers((Node(flatten.name, "Flatten", {}, [()], inputs=[data.entry]), 0), data.range)

    def concat(self, concat, parts):
        node = Node(concat.name, "Concat", concat.attributes, [()], inputs=[part.entry for part in parts])
        return Integers((node, 0), parts[0].range)

    def _layer(self, layer, data, per_unit):
        """The layer's sum, ``per_unit`` to the unit, not yet rounded."""
        name, (codes, scale) = layer.name, self.codes[layer.name]
        output = Node(name, layer.operator, {**layer.attributes, "no_bias": "True"}, [()],
                      inputs=[data.entry, self.parameter(f"{name}.weight", codes)]), 0
        weight_per_unit = np.float32(SIGNED_LEVELS) / (scale * np.float32(SIGNED_LEVELS))  # in the kernels' order
        shape = (1, -1) + (1, 1) * (layer.operator == "Convolution")
        if name in self.biases:
            bias = np.rint(self.biases[name] * (weight_per_unit * data.range.per_unit)).reshape(shape)
            output = Node(f"{name}_biased", "broadcast_add", {}, [()],
                          inputs=[output, self.parameter(f"{name}.bias", bias)]), 0
        multiplier = (per_unit / data.range.per_unit / weight_per_unit).reshape(shape)
        return Node(f"{name}_scaled", "broadcast_mul", {}, [()],
                    inputs=[output, self.parameter(f"{name}.multiplier", multiplier)]), 0

    def _rounded(self, name, entry, limits):
        low, high = limits.codes
        clipped = Node(f"{name}_clipped", "clip", {"a_min": str(low), "a_max": str(high)}, [()], inputs=[entry]), 0
        return Integers(half_to_even(f"{name}_codes", clipped), limits)

    @staticmethod
    def _times(name, entry, factor):
        return Node(name, "_mul_scalar", {"scalar": repr(float(factor))}, [()], inputs=[entry]), 0


def half_to_even(name, entry):
    """Numbers below 2**22 rounded to integers as the kernels round them; MXNet's rint takes 2.5 and 3.5 down."""
    for step, operator in (("up", "_plus_scalar"), ("rounded", "_minus_scalar")):
        entry = Node(f"{name}_{step}", operator, {"scalar": repr(ROUNDING)}, [()], inputs=[entry]), 0
    return entry


def _calibrated(limits):
    threshold = float(threshold_for(limits.scale, limits.signed))
    return {"min_calib_range": repr(-threshold if limits.signed else 0.0), "max_calib_range": repr(threshold)}


def _with_ends(integers):
    """The codes, the lower and the upper end, as the quantized operators want them."""
    ends = ends_of(integers)
    return [integers.entry, (ends, 1), (ends, 2)]


def ends_of(integers):
    return integers.ends or integers.entry[0]


def plain(name, operator, entry, **attributes):
    """An operator that moves numbers of any type."""
    return Node(name, operator, {key: str(value) for key, value in attributes.items()}, [()], inputs=[entry]), 0


def _placeholders(number, name="input"):
    return [(variable(f"{name}{index}", ()), 0) for index in range(number)]


def _relu(name, entry):
    return Node(name, "Activation", {"act_type": "relu"}, [()], inputs=[entry]), 0


def _leaky(name, entry, slope):
    """With one slope, or an entry of one for each channel."""
    if isinstance(slope, tuple):
        return Node(name, "LeakyReLU", {"act_type": "prelu"}, [()], inputs=[entry, slope]), 0
    return Node(name, "LeakyReLU", {"act_type": "leaky", "slope": repr(float(slope))}, [()], inputs=[entry]), 0
