"""How a network is written down to be trained as the integers that it will be.

Codes are computed as in the simulated network, but by operators that have gradients, from weights,
biases and thresholds that are parameters:

    x / s, clipped to [low, high]  ->  c  ->  code = (c + 1.5 * 2**23) - 1.5 * 2**23

In the forward pass float32 rounds that sum to an integer, in the backward pass its derivative is 1: the
straight-through estimator of Bengio et al., "Estimating or Propagating Gradients Through Stochastic Neurons", 2013, in
two operators. For a value x^ = s * code it follows that

    dx^ / dx = 1 inside the range, 0 outside
    dx^ / dT = round(c) / q - c / q inside the range (what is lost by rounding), 1 above it, -2**(b - 1) / q below

for s = T / q: Esser et al., "Learned Step Size Quantization", 2019, section 2.1. The scale of a weight of 8 bits is
max|w| / q of its channel as it is now, and takes no gradient: the kernels support no other. With fewer bits it
is clip * max|w| / q, where ``clip`` is learned, too.
"""
from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from ...network.nodes import Entry, Node, Shape, written
from ..arithmetic.ranges import Range
from .emitter import Integers, half_to_even
from .fusions import Leaky, is_convolution, is_grouped
from .onednn import OUTWARD, ZERO_SCALE, weight_codes, weight_grid
from .simulated_emitter import FloatEmitter

SMALLEST_THRESHOLD, SMALLEST_CLIP = 1e-12, 1e-3
EPSILON = 1e-3  # BatchNorm's; 1 - EPSILON + EPSILON is 1 in float32


@dataclass(frozen=True)
class LearnedRange(Range):
    """A :class:`Range` whose threshold is the parameter ``name``; ``threshold`` is its initial value."""

    name: str = ""


@dataclass(frozen=True)
class Threshold:
    """A threshold's initial value, and what bounds it and its gradient.

    Attributes
    ----------
    value : float
    features : int
        Number of values in the tensor of one sample.
    ceiling : float or None
        It has no effect above this.
    """

    value: float
    features: int
    ceiling: float | None = None

    def effective(self, value: float) -> float:
        """The threshold that a parameter of this ``value`` stands for."""
        value = max(abs(value), SMALLEST_THRESHOLD)
        return value if self.ceiling is None else min(value, self.ceiling)


class TrainingEmitter(FloatEmitter):
    """Fake quantization. Tensors are codes, in fp32.

    Parameters
    ----------
    thresholds : dict
        {name of a threshold: Threshold}.
    clips : dict
        {name of a weight's clip: float32 array (channels,)}, of fewer than 8 bits.
    bits : int
        Bits of the weights.
    """

    def __init__(self, thresholds: dict[str, Threshold], clips: dict[str, np.ndarray], bits: int) -> None:
        super().__init__()
        self.thresholds, self.clips, self.bits = thresholds, clips, bits
        self.offsets: dict[str, Entry] = {}
        self.constants: dict[str, Entry] = {}
        self._added: dict[str, list[tuple[float, Entry]]] = {}
        self._made: dict[Any, Any] = {}

    def shift(self, shortcut: Node, layer: Node, offset: float) -> None:
        """The number is a parameter, too, though not a trained one, so that it is saved and loaded with the others."""
        entry = self.parameter(f"{shortcut.name}.offset", [offset])
        self.offsets[threshold_name(shortcut)] = entry
        self._added.setdefault(shortcut.name, []).append((1.0, entry))
        self._added.setdefault(layer.name, []).append((-1.0, entry))

    def convolution(self, layer: Node, data: Integers, limits: Range, relu: bool = False,
                    summand: Integers | None = None, leaky: Leaky | None = None) -> Integers:
        output = self._layer(layer, data, self._per_unit(limits))
        if summand is not None:
            name = f"{layer.name}_summand"
            factor = _node("broadcast_mul", f"{name}_factor", self._per_unit(limits), self._scale(summand.range))
            output = _node("elemwise_add", f"{layer.name}_sum", output,
                           self._times(name, summand.entry, factor, layer.shapes[0]))
        if leaky is not None:
            name = f"{layer.name}_leaky"
            output = (_node("LeakyReLU", name, output, leaky.parameter, act_type="prelu") if leaky.parameter else
                      _node("LeakyReLU", name, output, act_type="leaky", slope=repr(float(leaky.slope))))
        return self._rounded(layer.name, output, limits)  # unsigned codes are the ReLU

    def dense(self, layer: Node, data: Integers, limits: Range | None = None, relu: bool = False) -> Integers | Entry:
        output = self._layer(layer, data, None if limits is None else self._per_unit(limits))
        if limits is not None:
            return self._rounded(layer.name, output, limits)
        return _node("relu", f"{layer.name}_relu", output) if relu else output

    def _layer(self, layer: Node, data: Integers, per_unit: Entry | None) -> Entry:
        """The layer's sum, ``per_unit`` (or 1) to the unit, not yet rounded."""
        name = layer.name
        codes, weight_scale = self._weight(layer)
        weight_scale = _node("Reshape", f"{name}_weight_scale_row", weight_scale, shape=(-1,))
        unit = _node("broadcast_mul", f"{name}_unit", weight_scale, self._scale(data.range))
        inputs, bias = [data.entry, codes], self._bias(layer)
        if bias is not None:
            bias = _node("broadcast_div", f"{name}_bias_scaled", bias, unit)
            inputs.append(half_to_even(f"{name}_bias", bias))
        output = _node(layer.operator, name, *inputs, **{**layer.attributes, "no_bias": bias is None})
        if per_unit is not None:
            unit = _node("broadcast_mul", f"{name}_multiplier", unit, per_unit)
        return self._times(f"{name}_scaled", output, unit, layer.shapes[0] if is_convolution(layer) else ())

    def _times(self, name: str, entry: Entry, factor: Entry, shape: Shape | None = None) -> Entry:
        """A tensor times one number, or one for each channel, that has a gradient.

        The channels are on axis 1 of four, else on the last axis. With four axes, this is a BatchNorm of mean 0 and
        deviation 1: oneDNN computes its gradient in a tenth of the time that broadcast_mul takes.
        """
        shape = shape or entry[0].shapes[entry[1]]
        if len(shape) != 4:
            return _node("broadcast_mul", name, entry, factor)
        channels = shape[1]
        ones = _node("_ones", f"ones{channels}", shape=(channels,))
        gamma = _node("broadcast_mul", f"{name}_gamma", ones, factor)
        statistics = [self._constant(f"scaling{channels}.running_mean", np.zeros(channels)),
                      self._constant(f"scaling{channels}.running_var", np.full(channels, 1 - np.float32(EPSILON)))]
        nothing = _node("zeros_like", f"{name}_beta", gamma)
        return written("BatchNorm", name, entry, gamma, nothing, *statistics, outputs=3, eps=EPSILON, fix_gamma=False,
                       use_global_stats=True), 0

    def _constant(self, name: str, value: Any) -> Entry:
        """A parameter that is not trained, shared by all its readers."""
        if name not in self.constants:
            self.constants[name] = self.parameter(name, value)
        return self.constants[name]

    def _weight(self, layer: Node) -> tuple[Entry, Entry]:
        """``(codes, scale)`` of a layer's weight, the same for all layers that share it."""
        weight = layer.read("weight")
        name = weight[0].name
        if name not in self._made:
            first = 0 if self.bits == 8 and is_grouped(layer) else 1  # the axes of a weight with one scale
            axes = tuple(range(first, len(weight[0].shapes[0])))
            steps, low, high = weight_grid(self.bits)
            largest = _node("max", f"{name}_largest", _node("abs", f"{name}_abs", weight), axis=axes, keepdims=True)
            zero = _node("_equal_scalar", f"{name}_zero", largest, scalar=0.0)
            scale = _node("elemwise_add", f"{name}_scale",
                          _node("_mul_scalar", f"{name}_zero_scale", zero, scalar=repr(float(ZERO_SCALE))),
                          _node("_div_scalar", f"{name}_step", largest, scalar=float(steps)))
            scale = _node("BlockGrad", f"{name}_scale_fixed", scale)
            if self.bits < 8:
                scale = _node("elemwise_mul", f"{name}_scale_clipped", scale, self._clip(name, weight[0].shapes[0]))
            scaled = _node("broadcast_div", f"{name}_scaled", weight, scale)
            if self.bits < 8:
                codes = half_to_even(f"{name}_codes", _node("clip", f"{name}_clipped", scaled, a_min=low, a_max=high))
            else:
                scaled = _node("_mul_scalar", f"{name}_outward", scaled, scalar=OUTWARD)
                codes = _cut(name, half_to_even(f"{name}_codes", scaled), low, high)
            self._made[name] = codes, scale
        return self._made[name]

    def _clip(self, weight: str, shape: Shape) -> Entry:
        """The share of its largest weight at which each channel is cut, in [SMALLEST_CLIP, 1]."""
        name = clip_name(weight)
        learned = self.parameter(name, self.clips[name])
        factor = 1 / np.sqrt(np.prod(shape[1:]) * weight_grid(self.bits)[2])
        value = _node("abs", f"{name}_abs", _with_gradient_times(name, learned, factor))
        value = _node("_maximum_scalar", f"{name}_positive", value, scalar=SMALLEST_CLIP)
        value = _node("_minimum_scalar", f"{name}_limited", value, scalar=1.0)
        return _node("Reshape", f"{name}_column", value, shape=(-1,) + (1,) * (len(shape) - 1))

    def _bias(self, layer: Node) -> Entry | None:
        """The bias, and what was added for shifted shortcuts; None without either."""
        bias = layer.entry("bias")
        for number, (sign, offset) in enumerate(self._added.get(layer.name, [])):
            change = _node("_mul_scalar", f"{layer.name}_change{number}", offset, scalar=sign)
            bias = change if bias is None else _node("broadcast_add", f"{layer.name}_shifted{number}", bias, change)
        return bias

    def _threshold(self, limits: Any) -> Entry:
        """The threshold of a range, positive, shape (1,); its gradient makes the same change as an LSQ step.

        LSQ scales the gradient of s by g = 1 / sqrt(N q), for N values. For T = q s, the same steps of plain SGD need
        q**2 g.
        """
        key = limits.name, limits.signed
        if key not in self._made:
            name = f"{limits.name}_{'signed' if limits.signed else 'unsigned'}"
            learned = self.thresholds[limits.name]
            if limits.name not in self._made:
                self._made[limits.name] = self.parameter(limits.name, [learned.value])
            parameter = self._made[limits.name]
            factor = gradient_scale(limits.codes[1], learned.features)
            value = _node("abs", f"{name}_abs", _with_gradient_times(name, parameter, factor))
            value = _node("_maximum_scalar", f"{name}_positive", value, scalar=SMALLEST_THRESHOLD)
            if learned.ceiling is not None:
                value = _node("_minimum_scalar", f"{name}_limited", value, scalar=float(learned.ceiling))
            if limits.name in self.offsets:
                value = _node("elemwise_add", f"{name}_shifted", value, self.offsets[limits.name])
            self._made[key] = value
        return self._made[key]

    def _scale(self, limits: Any) -> Entry:
        return self._once("_div_scalar", "scale", limits)

    def _per_unit(self, limits: Any) -> Entry:
        return self._once("_rdiv_scalar", "per_unit", limits)

    def _once(self, operator: str, what: str, limits: Any) -> Entry:
        key = limits.name, limits.signed, what
        if key not in self._made:
            threshold = self._threshold(limits)
            self._made[key] = _node(operator, f"{threshold[0].name}_{what}", threshold,
                                    scalar=float(limits.codes[1]))
        return self._made[key]


def threshold_name(layer: Node) -> str:
    """The name of the threshold of what a layer's fusion writes."""
    return f"{layer.name}.output_threshold"


def clip_name(weight: str) -> str:
    """The name of the parameter that cuts a weight."""
    return f"{weight}_clip"


def initial_clip(weight: np.ndarray, scale: np.ndarray, bits: int) -> np.ndarray:
    """The clip, (channels,), with which a weight has this ``scale``."""
    largest = _largest(weight)
    steps, *_ = weight_grid(bits)
    return np.where(largest > 0, scale * steps / np.where(largest > 0, largest, 1), 1).clip(SMALLEST_CLIP, 1)


def codes_and_scales(weight: np.ndarray, clip: np.ndarray | None, bits: int,
                     one_scale: bool = False) -> tuple[np.ndarray, np.ndarray]:
    """What :meth:`TrainingEmitter._weight` computes, as arrays; ``clip`` is None with 8 bits."""
    if bits == 8:
        return weight_codes(weight, one_scale=one_scale)
    assert clip is not None, "weights of fewer than 8 bits are clipped"
    steps, low, high = weight_grid(bits)
    step = _largest(weight) / np.float32(steps)
    scale = np.where(step > 0, step, ZERO_SCALE) * np.abs(clip).clip(SMALLEST_CLIP, 1).astype(np.float32)
    codes = np.rint(weight / scale.reshape(-1, *[1] * (weight.ndim - 1)))
    return codes.clip(low, high).astype(np.int8), scale


def _largest(weight: np.ndarray) -> np.ndarray:
    return np.abs(weight).reshape(len(weight), -1).max(axis=1)


def gradient_scale(largest: int, features: int) -> float:
    """The factor by which the gradient of a threshold is multiplied."""
    return float(largest ** 2 / np.sqrt(largest * features))


def _with_gradient_times(name: str, entry: Entry, factor: float) -> Entry:
    """The same number, with a gradient ``factor`` times as large: x + (y - stop_gradient(y)), y = (factor - 1) x."""
    more = _node("_mul_scalar", f"{name}_more", entry, scalar=factor - 1)
    nothing = _node("elemwise_sub", f"{name}_nothing", more, _node("BlockGrad", f"{name}_fixed", more))
    return _node("elemwise_add", f"{name}_whole", entry, nothing)


def _cut(name: str, entry: Entry, low: int, high: int) -> Entry:
    """Clipped to [low, high], with the gradient of what was not: x + stop_gradient(clip(x) - x)."""
    clipped = _node("clip", f"{name}_clipped", entry, a_min=low, a_max=high)
    change = _node("BlockGrad", f"{name}_change", _node("elemwise_sub", f"{name}_difference", clipped, entry))
    return _node("elemwise_add", f"{name}_cut", entry, change)


def _node(operator: str, name: str, *inputs: Entry, **attributes: Any) -> Entry:
    return written(operator, name, *inputs, **attributes), 0
