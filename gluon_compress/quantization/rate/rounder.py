"""All layers rounded at one price of a bit, and the price and the length of the steps that cost least."""
from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import numpy as np

from ...errors import NetworkError
from ...network.blocks import block_of, tensors_of
from ...network.graph import Graph
from ...tables import progress_bar
from ..arithmetic.arrays import dequantize_array
from ..equalization import find_pairs
from ..integers.inference_graph import InferenceGraph
from .balancing import balance
from .curvature import curvatures, what_counts
from .reconstruction import FEWEST, reconstructed
from .rounding import best_shift, factors_of, rounded, saved_by_own_steps

__all__ = ["Rounded", "Rounder", "divided", "samples_in", "short"]

SHIFT_BITS = 10  # of the largest bias of a layer
MEASURED = 256  # samples on which roundings are compared
COARSE = (1.4, 3.0, 8.0)
WORTH = 24  # bits for each scale that rows of own steps must save: twice what it takes, as long steps save less
ALONE, ALONE_COARSE = 1e-3, 3.0  # the price, in the rounder's unit, at which each layer is rounded alone
MOST_WRONG = 32.0  # that a curvature is believed to be
LEAST_ENERGY, MOST_ENERGY = 1e-30, 1e30  # of the outputs
MOST = 4  # octaves between the rate and the price that is tried last
BETWEEN = 16  # prices from one to the next octave


@dataclass
class Rounded:
    """Values of all parameters, the scales of those that were rounded, and what that costs.

    ``error`` is the square error of the outputs as a share of their square, ``bits`` those of a weight.
    """

    values: dict[str, np.ndarray]
    scales: dict[str, dict[str, Any]]
    error: float
    bits: float


class Rounder:
    """Rounds the same layers again and again, and measures what comes of it on some of the inputs.

    The model does not see that weights rounded towards zero make all outputs smaller together. How much of that is
    worth it differs from network to network, so it is measured: LeNet-300-100 wants ``coarse`` = 1.4, ResNet-18 wants
    8. Nor does it see what lies between a layer and the outputs but for small changes: the last convolution of
    ResNet-18, rounded alone, costs five times what the curvature says. So each layer is, once, and bits of one that
    costs more than it should are cheaper in the same measure.
    """

    def __init__(self, graph: Graph, inference: InferenceGraph, values: dict[str, np.ndarray], names: list[str],
                 batches: list[Any], seed: int, progress: bool, outputs: str, per_channel: bool = True) -> None:
        self.inference, self.values, self.progress = inference, dict(values), progress
        self.names = [name for name in inference.layers if name in names]  # in the order in which they run
        self.curvatures, energy = curvatures(inference, values, names, batches, seed, progress, outputs)
        check_energy(energy, outputs, "the calibration data")
        self.kind_of_outputs = outputs
        self.batches, self.rest = divided(batches)
        self.samples = samples_in(self.batches)
        self.count = sum(values[inference.weights[name]].size for name in names)
        self.wanted = self._outputs(values)
        self.energy = sum(float(np.square(output).sum()) for output in self.wanted)
        check_energy(self.energy / self.samples, outputs, f"the first {self.samples} calibration samples")
        self.factors = {name: factors_of(self.curvatures[name]) for name in names}
        self.unit = self.energy / self.samples / self.count
        self.of_own_steps = self._of_own_steps(graph) if per_channel else set()
        self.underestimated = {name: self._underestimated(name) for name in progress_bar(
            names, progress, desc="layers alone", unit="layer")}
        self.measured: dict[tuple[float, int], tuple[float, float]] = {}  # error and bits

    def best(self, rate: float) -> Rounded:
        """The least of ``error + rate bits`` over COARSE and prices.

        Prices that are powers of two, which all rates share, are tried up and down while that helps. The best one is
        between those around the least: what one rounding costs differs by a few percent from that of the next price by
        chance, which would make a file of a higher rate larger than that of a lower one. At that price layers that
        make up for those before them are rounded, too, from other samples than those that errors are measured on, and
        whichever costs less is taken.
        """
        def cost(coarse: float, power: int) -> float:
            if (coarse, power) not in self.measured:
                found = self.at_price(self._price(coarse, power), coarse)
                self.measured[coarse, power] = found.error, found.bits
            error, bits = self.measured[coarse, power]
            return error + rate * bits

        start, moved, tried = round(np.log2(rate)), 0, []
        for coarse in COARSE:
            for step in (-1, 1):
                while abs(moved + step) <= MOST and cost(coarse, start + moved + step) < cost(coarse, start + moved):
                    moved += step
            tried.append((coarse, start + moved))
        coarse, power = min(tried, key=lambda choice: cost(*choice))
        around = {each: self.measured[coarse, each] for each in (power - 1, power, power + 1)
                  if abs(each - start) <= MOST}
        price = self._price(coarse, least_between(around, rate))
        found = [self.at_price(price, coarse)]
        if self.rest:
            found.append(self.at_price(price, coarse, reconstruct=True))
        return min(found, key=lambda each: each.error + rate * each.bits)

    def _price(self, coarse: float, power: float) -> float:
        return self.unit / coarse ** 2 * 2.0 ** power

    def _price_alone(self) -> float:
        return ALONE / ALONE_COARSE ** 2 * self.unit

    def at_price(self, price: float, coarse: float, reconstruct: bool = False) -> Rounded:
        """All layers rounded at one price of a bit, in the unit of the outputs' square.

        With ``reconstruct`` each makes up for those before it first.
        """
        values, scales, size = dict(self.values), {}, 0
        for place, name in enumerate(progress_bar(self.names, self.progress and reconstruct, desc="layers after each "
                                                  "other", unit="layer")):
            if reconstruct and place:
                values.update(reconstructed(self.inference, name, self.values, values, self.rest))
            scale, bytes_ = self._round(name, values, price / self.underestimated[name], coarse)
            scales[self.inference.weights[name]] = {"bits": 8, "axis": 0 if scale.ndim else None, "scale": scale}
            size += bytes_
        return Rounded(values, scales, self._error(values) / self.energy, 8 * size / self.count)

    def _round(self, name: str, values: dict[str, np.ndarray], price: float, coarse: float) -> tuple[np.ndarray, int]:
        """Round a layer in ``values``, where its bias makes up for what it can. Returns the scales and the bytes."""
        weight, shift = self.inference.weights[name], self.inference.shifts.get(name)
        codes, scale, size = rounded(values[weight], self.curvatures[name], self.factors[name], price, coarse,
                                     name in self.of_own_steps)
        new = dequantize_array(codes, scale, 0 if scale.ndim else None)
        if shift is not None:
            error = values[weight].astype(np.float64) - new
            values[shift] = short(values[shift] + best_shift(error, self.curvatures[name]))
        values[weight] = new
        return scale, size

    def _of_own_steps(self, graph: Graph) -> set[str]:
        """The layers whose rows have steps of their own, once channels are balanced for that; none where it is no use.
        """
        saved = {name: saved_by_own_steps(self.values[self.inference.weights[name]], self.factors[name],
                                          self._price_alone(), ALONE_COARSE) for name in self.names}
        rows = {name: len(self.curvatures[name].of_outputs) for name in self.names}
        if sum(saved.values()) < WORTH * sum(rows.values()):
            return set()
        pairs = [pair for pair in find_pairs(graph, self.inference) if pair.ceiling == math.inf
                 and {pair.first.name, pair.second.name} <= set(self.names)]
        balance(pairs, self.inference, self.values, self.curvatures, self.factors)
        return {pair.first.name for pair in pairs} | {name for name in self.names if saved[name] > WORTH * rows[name]}

    def _underestimated(self, name: str) -> float:
        """What a layer that is rounded alone costs at the outputs, over what its curvature says."""
        weight, values = self.inference.weights[name], dict(self.values)
        self._round(name, values, self._price_alone(), ALONE_COARSE)
        expected = self.curvatures[name].error(self.values[weight].astype(np.float64) - values[weight]) * self.samples
        measured = self._error(values)
        return min(max(measured / expected, 1 / MOST_WRONG), MOST_WRONG) if expected > 0 < measured else 1.0

    def _error(self, values: dict[str, np.ndarray]) -> float:
        """The outputs' square error."""
        return sum(float(np.square(output - other).sum()) for output, other in zip(self.wanted, self._outputs(values)))

    def _outputs(self, values: dict[str, np.ndarray]) -> list[np.ndarray]:
        """What counts of them, in double precision, as squares of small numbers are none in single."""
        net = block_of(self.inference.outputs, self.inference.inputs, dict(values))
        return [what_counts(output.astype(np.float64), self.kind_of_outputs)
                for inputs in self.batches for output in tensors_of(net, inputs)]


def least_between(around: dict[int, tuple[float, float]], rate: float) -> float:
    """Where ``error + rate bits`` is least, with parabolas through log error and bits: {power: (error, bits)}."""
    powers, (errors, bits) = list(around), zip(*around.values())
    fine = np.linspace(powers[0], powers[-1], 1 + BETWEEN * (powers[-1] - powers[0]))
    logarithms, bits = (np.polyval(np.polyfit(powers, values, len(powers) - 1), fine)
                        for values in (np.log2(np.maximum(errors, np.finfo(float).tiny)), bits))
    return float(fine[np.argmin(2 ** logarithms + rate * bits)])


def divided(batches: list[Any]) -> tuple[list[Any], list[Any]]:
    """Batches to measure on, of MEASURED samples or some more, and others to reconstruct from, if they are enough.

    A batch that has enough for both is cut.
    """
    count = next((count for count in range(len(batches)) if samples_in(batches[:count]) >= MEASURED), len(batches))
    measured, rest = batches[:count], batches[count:]
    more = samples_in(measured) - MEASURED
    if more >= FEWEST:
        *measured, last = measured
        kept = len(last[0]) - more
        measured, rest = [*measured, tuple(part[:kept] for part in last)], [tuple(part[kept:] for part in last), *rest]
    return measured, rest if samples_in(rest) >= FEWEST else []


def samples_in(batches: list[Any]) -> int:
    return sum(len(inputs[0]) for inputs in batches)


def check_energy(energy: float, outputs: str, where: str) -> None:
    """Raise ``NetworkError`` where outputs of this mean square have no size that errors could be compared with."""
    if not LEAST_ENERGY < energy < MOST_ENERGY:
        all_alike = outputs == "logits" and energy == 0
        what = ("do not differ from each other" if all_alike else "are all 0" if energy == 0 else
                "are not finite, or too large or too small,")
        remedy = ", or outputs='values', where what they have in common counts" if all_alike else ""
        raise NetworkError(f"the network's outputs {what} on {where}: their mean square is {energy}, of "
                           f"which errors are to be a share; accepted: {LEAST_ENERGY} to {MOST_ENERGY}{remedy}")


def short(shift: np.ndarray) -> np.ndarray:
    """Multiples of a power of two, SHIFT_BITS below the largest: half of their bytes are zero."""
    largest = np.abs(shift).max(initial=0)
    if not largest:
        return shift.astype(np.float32)
    unit = 2.0 ** (np.ceil(np.log2(largest)) - SHIFT_BITS)
    return (np.rint(shift / unit) * unit).astype(np.float32)
