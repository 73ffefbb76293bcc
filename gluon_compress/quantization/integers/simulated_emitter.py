"""An integer network in ordinary fp32 operators on codes: the same arithmetic, anywhere.

Integers up to 2**24 are exact in fp32, so the simulated network computes what the real one does; only values half-way
between two codes may be rounded to the other one.
"""
from __future__ import annotations

from abc import abstractmethod
from dataclasses import replace
from typing import Any

import numpy as np

from ...network.nodes import Entry, Node, Shape, plain, written
from ..arithmetic.ranges import Range
from .emitter import CodesEmitter, Emitter, Integers, activation, half_to_even
from .fusions import Leaky, is_convolution
from .onednn import SIGNED_LEVELS


class FloatEmitter(Emitter):
    """What is common to emitters that write down codes in fp32; a scale is a number here, or an entry."""

    @abstractmethod
    def _scale(self, limits: Range) -> Any:
        """What a code of a range is worth."""

    @abstractmethod
    def _per_unit(self, limits: Range) -> Any:
        """Codes of a range per unit of the values."""

    @abstractmethod
    def _times(self, name: str, entry: Entry, factor: Any, shape: Shape | None = None) -> Entry:
        """An entry times a scale; of ``shape``, by default as the entry's node knows it."""

    def quantize(self, name: str, entry: Entry, limits: Range) -> Integers:
        return self._rounded(name, self._times(f"{name}_scaled", entry, self._per_unit(limits)), limits)

    def dequantize(self, name: str, integers: Integers) -> Entry:
        return self._times(name, integers.entry, self._scale(integers.range))

    def pooling(self, pool: Node, data: Integers) -> Integers:
        pooled = plain(pool.name, pool.operator, data.entry, **pool.attributes)
        if pool.get("pool_type") == "max":
            return Integers(pooled, data.range)
        return self._rounded(pool.name, pooled, data.range)

    def flatten(self, flatten: Node, data: Integers) -> Integers:
        return Integers(plain(flatten.name, "Flatten", data.entry), data.range)

    def concat(self, concat: Node, parts: list[Integers]) -> Integers:
        node = written("Concat", concat.name, *(part.entry for part in parts), **concat.attributes)
        return Integers((node, 0), parts[0].range)

    def _rounded(self, name: str, entry: Entry, limits: Range) -> Integers:
        low, high = limits.codes
        clipped = plain(f"{name}_clipped", "clip", entry, a_min=low, a_max=high)
        return Integers(half_to_even(f"{name}_codes", clipped), limits)


class SimulatedEmitter(CodesEmitter, FloatEmitter):
    """Finished codes, and scales as numbers, with the kernels' rounding."""

    def convolution(self, layer: Node, data: Integers, limits: Range, relu: bool = False,
                    summand: Integers | None = None, leaky: Leaky | None = None) -> Integers:
        output = self._layer(layer, data, limits.per_unit)
        if summand is not None:
            added = self._times(f"{layer.name}_summand", summand.entry,
                                limits.per_unit / summand.range.per_unit)
            output = written("elemwise_add", f"{layer.name}_sum", output, added), 0
        if leaky is not None and leaky.by_channel:
            leaky = replace(leaky, parameter=self.parameter(f"{layer.name}.slope", leaky.slope))
        return self._rounded(layer.name, activation(f"{layer.name}_relu", output, relu, leaky), limits)

    def dense(self, layer: Node, data: Integers, limits: Range | None = None, relu: bool = False) -> Integers | Entry:
        output = self._layer(layer, data, np.float32(1) if limits is None else limits.per_unit)
        output = activation(f"{layer.name}_relu", output, relu)
        return output if limits is None else self._rounded(layer.name, output, limits)

    def _layer(self, layer: Node, data: Integers, per_unit: Any) -> Entry:
        """The layer's sum, ``per_unit`` to the unit, not yet rounded."""
        name, (codes, scale) = layer.name, self.codes[layer.name]
        output = written(layer.operator, name, data.entry, self.parameter(f"{name}.weight", codes),
                         **{**layer.attributes, "no_bias": True}), 0
        weight_per_unit = np.float32(SIGNED_LEVELS) / (scale * np.float32(SIGNED_LEVELS))  # in the kernels' order
        shape = (1, -1, 1, 1) if is_convolution(layer) else (1,) * (len(layer.shapes[0]) - 1) + (-1,)
        if name in self.biases:
            bias = np.rint(self.biases[name] * (weight_per_unit * data.range.per_unit)).reshape(shape)
            output = written("broadcast_add", f"{name}_biased", output, self.parameter(f"{name}.bias", bias)), 0
        multiplier = (per_unit / data.range.per_unit / weight_per_unit).reshape(shape)
        return written("broadcast_mul", f"{name}_scaled", output, self.parameter(f"{name}.multiplier", multiplier)), 0

    def _scale(self, limits: Range) -> Any:
        return limits.scale

    def _per_unit(self, limits: Range) -> Any:
        return limits.per_unit

    def _times(self, name: str, entry: Entry, factor: Any, shape: Shape | None = None) -> Entry:
        return plain(name, "_mul_scalar", entry, scalar=repr(float(factor)))
