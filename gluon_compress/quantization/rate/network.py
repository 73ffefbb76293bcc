"""The weights of a whole network, rounded so that the file is small: one price of a bit for all layers."""
from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np
from mxnet.gluon import HybridBlock

from ...arguments import check_choice, check_flag, check_integer, check_number
from ...errors import NetworkError
from ...network.blocks import block_of, tensors_of
from ...network.graph import Graph
from ...network.layer import select_layers
from ...network.nodes import Node
from ...network.values import restore_snapshot, snapshot
from ...tables import progress_bar
from ..arithmetic.arrays import dequantize_array
from ..calibration.observing import input_batches
from ..integers.inference_graph import InferenceGraph, fold_scales, simplify
from ..scales import Scales
from .curvature import OUTPUTS, curvatures, what_counts
from .reconstruction import FEWEST, reconstructed
from .rounding import best_shift, factors_of, rounded

SHIFT_BITS = 10  # of the largest bias of a layer
MEASURED = 256  # samples on which roundings are compared
COARSE = (1.4, 3.0, 8.0)
ALONE, ALONE_COARSE = 1e-3, 3.0  # the price, in the rounder's unit, at which each layer is rounded alone
MOST_WRONG = 32.0  # that a curvature is believed to be
FACTOR = 2 ** 0.25  # between prices of a bit
LEAST_ENERGY, MOST_ENERGY = 1e-30, 1e30  # of the outputs
FAR, NEAR, MOST = 4, (2, 1), 16  # how far the next price is that is tried, then around the best, and the last one


class RateRounding:
    """Rounds the weights of convolutions and dense layers to what costs least in error and bits, at any rate.

    What all rates have in common is found out once: what layers read, and the gradients of the outputs. So a whole
    curve, or a search for the rate that an accuracy allows, takes far less than as many calls:

        rounding = RateRounding(net, data)
        for rate in (1e-3, 3e-3, 1e-2):
            scales = rounding.round(rate)
            print(rate, checkpoint.coded_size(net, scales), evaluate(net, held_out))

    As :func:`quantize_weights` with 8 bits, but with one scale for a layer and few different codes, which the file
    holds in less than two bits each. No label is used and nothing is trained: it takes inputs, the gradients of the
    outputs, and a minute or two for a million weights. BatchNorms go into the layers before them first, and biases make
    up for the mean error.

    Parameters
    ----------
    net : HybridBlock
        Nothing changes until ``round`` is called.
    calibration_data : iterable of batches
        Some thousand samples of the training data; labels are not looked at. A network that has learned them by heart
        is surer of them than of others: change them as in training. Those beyond the first 256, if they are 128 at
        least, tell how a layer makes up for the layers before it.
    select, exclude : name, kind, class or function of layers, or several of these
        Which layers to round, by default all that can be, and which not.
    seed : int
        Of the random directions in which gradients are taken.
    progress : bool
        Show a progress bar on standard error.
    outputs : "logits" or "values"
        What the network puts out: scores of classes ``(samples, classes)``, of which only differences count, or
        numbers that count as they are, as of a regression. Outputs of other shapes always count as they are.

    Raises ``ValueError``, ``TypeError`` and ``NetworkError`` as :func:`quantize_weights`, and where no layer is left.
    """

    def __init__(self, net: HybridBlock, calibration_data: Iterable[Any], select: Any = None, exclude: Any = (),
                 seed: int = 0, progress: bool = True, outputs: str = "logits") -> None:
        check_integer("seed", seed, minimum=0)
        check_flag("progress", progress)
        check_choice("outputs", outputs, OUTPUTS)
        chosen, left_out = select_layers(net, select, exclude, ("Conv2D", "Dense"))
        for layer in chosen:
            layer.value()  # raises where weights are not finite
        batches = list(input_batches(calibration_data, net))
        graph, before = Graph(net, batches[0]), snapshot(net)
        inference = simplify(graph)
        values = fold_scales(inference, before)
        self.net, self.left_out = net, left_out
        names = self._names(inference, chosen)
        self.others = _of_other_layers(inference, before, names)
        self.rounder = Rounder(inference, values, names, batches, seed, progress, outputs)

    def round(self, rate: float) -> Scales:
        """Round the weights that the network had at the beginning, whatever it has now, and put them into it.

        ``rate`` is what a bit for each weight is worth: the square error of the outputs, as a share of their own
        square. 1e-4 to 1 are of use. Layers that are left out are named in the record with the reason. Other
        parameters, too, are as they were at the beginning, but for biases and BatchNorms that were folded.
        """
        check_number("rate", rate, above=0)
        best = self.rounder.best(rate)
        restore_snapshot(self.net, {**best.values, **self.others})
        return Scales(best.scales, dict(self.left_out))

    def _names(self, inference: InferenceGraph, chosen: list[Any]) -> list[str]:
        """Those of the chosen layers that can be rounded; the others are left out."""
        names = []
        for layer in chosen:
            reason = obstacle(inference, layer.parameter_name)
            if reason:
                self.left_out[layer.name] = reason
            else:
                names.append(next(name for name, weight in inference.weights.items() if weight == layer.parameter_name))
        if not names:
            raise ValueError("no layer can be rounded: " +
                             "; ".join(f"{name}: {why}" for name, why in self.left_out.items()))
        return names


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

    def __init__(self, inference: InferenceGraph, values: dict[str, np.ndarray], names: list[str],
                 batches: list[Any], seed: int, progress: bool, outputs: str) -> None:
        self.inference, self.values, self.progress = inference, values, progress
        self.names = [name for name in inference.layers if name in names]  # in the order in which they run
        self.found, energy = curvatures(inference, values, names, batches, seed, progress, outputs)
        check_energy(energy, outputs)
        self.kind_of_outputs = outputs
        self.batches, self.rest = divided(batches)
        self.samples = samples_in(self.batches)
        self.count = sum(values[inference.weights[name]].size for name in names)
        self.outputs = self._outputs(values)
        self.energy = sum(float(np.square(output).sum()) for output in self.outputs)
        self.factors = {name: factors_of(self.found[name]) for name in names}
        self.unit = self.energy / self.samples / self.count
        self.underestimated = {name: self._underestimated(name) for name in progress_bar(
            names, progress, desc="layers alone", unit="layer")}
        self.measured: dict[tuple[float, int], tuple[float, float]] = {}  # error and bits

    def best(self, rate: float) -> Rounded:
        """The least of ``error + rate bits`` over COARSE and prices, which go down or up while that helps.

        Prices are powers of FACTOR whatever the rate, and what was measured at one rate is known at the next. What is
        best is rounded once more with layers that make up for those before them, from other samples than those that
        errors are measured on, and whichever costs less is taken.
        """
        kept: dict[float, Rounded] = {}

        def cost(coarse: float, power: int) -> float:
            if (coarse, power) not in self.measured:
                found = self.rounded(self.unit / coarse ** 2 * FACTOR ** power, coarse)
                self.measured[coarse, power] = found.error, found.bits
                least = found.error + rate * found.bits
                if not kept or least < min(kept):
                    kept.clear()
                    kept[least] = found
            error, bits = self.measured[coarse, power]
            return error + rate * bits

        start, moved, tried = round(np.log(rate) / np.log(FACTOR)), 0, set()
        for coarse in COARSE:
            for step in (-FAR, FAR):
                while abs(moved + step) <= MOST and cost(coarse, start + moved + step) < cost(coarse, start + moved):
                    moved += step
            tried.add((coarse, start + moved))
        coarse, power = min(tried, key=lambda choice: cost(*choice))
        for step in NEAR:
            power = min((power - step, power, power + step), key=partial(cost, coarse))
        price = self.unit / coarse ** 2 * FACTOR ** power
        found = [kept[cost(coarse, power)] if cost(coarse, power) in kept else self.rounded(price, coarse)]
        if self.rest:
            found.append(self.rounded(price, coarse, reconstruct=True))
        return min(found, key=lambda each: each.error + rate * each.bits)

    def rounded(self, price: float, coarse: float, reconstruct: bool = False) -> Rounded:
        """All layers rounded at one price of a bit, in the unit of the outputs' square.

        With ``reconstruct`` each makes up for those before it first.
        """
        values, scales, size = dict(self.values), {}, 0
        for place, name in enumerate(progress_bar(self.names, self.progress and reconstruct, desc="layers after each "
                                                  "other", unit="layer")):
            if reconstruct and place:
                values.update(reconstructed(self.inference, name, self.values, values, self.rest))
            scale, bytes_ = self._round(name, values, price / self.underestimated[name], coarse)
            scales[self.inference.weights[name]] = {"bits": 8, "axis": None, "scale": scale}
            size += bytes_
        return Rounded(values, scales, self._error(values) / self.energy, 8 * size / self.count)

    def _round(self, name: str, values: dict[str, np.ndarray], price: float, coarse: float) -> tuple[np.float32, int]:
        """Round a layer in ``values``, where its bias makes up for what it can. Returns the scale and the bytes."""
        weight, shift = self.inference.weights[name], self.inference.shifts.get(name)
        codes, scale, size = rounded(values[weight], self.found[name], self.factors[name], price, coarse)
        new = dequantize_array(codes, scale, None)
        if shift is not None:
            error = values[weight].astype(np.float64) - new
            values[shift] = short(values[shift] + best_shift(error, self.found[name]))
        values[weight] = new
        return scale, size

    def _underestimated(self, name: str) -> float:
        """What a layer that is rounded alone costs at the outputs, over what its curvature says."""
        weight, values = self.inference.weights[name], dict(self.values)
        self._round(name, values, ALONE / ALONE_COARSE ** 2 * self.unit, ALONE_COARSE)
        expected = self.found[name].error(self.values[weight].astype(np.float64) - values[weight]) * self.samples
        measured = self._error(values)
        return min(max(measured / expected, 1 / MOST_WRONG), MOST_WRONG) if expected > 0 < measured else 1.0

    def _error(self, values: dict[str, np.ndarray]) -> float:
        """The outputs' square error."""
        return sum(float(np.square(output - other).sum()) for output, other in zip(self.outputs, self._outputs(values)))

    def _outputs(self, values: dict[str, np.ndarray]) -> list[np.ndarray]:
        """What counts of them, in double precision, as squares of small numbers are none in single."""
        net = block_of(self.inference.outputs, self.inference.inputs, dict(values))
        return [what_counts(output.astype(np.float64), self.kind_of_outputs)
                for inputs in self.batches for output in tensors_of(net, inputs)]


def _of_other_layers(inference: InferenceGraph, values: dict[str, np.ndarray],
                     names: list[str]) -> dict[str, np.ndarray]:
    """What the layers that are not rounded, and the BatchNorms after them, had before these were folded."""
    rounded_ones = {inference.weights[name] for name in names}
    return {parameter: values[parameter] for norm, layer in inference.folded.items()
            if layer.parameters["weight"] not in rounded_ones
            for parameter in (*norm.parameters.values(), *layer.parameters.values())}


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


def check_energy(energy: float, outputs: str) -> None:
    """Raise ``NetworkError`` where the outputs have no size that an error could be compared with in single precision.
    """
    if not LEAST_ENERGY < energy < MOST_ENERGY:
        all_alike = outputs == "logits" and energy == 0
        what = ("do not differ from each other" if all_alike else "are all 0" if energy == 0 else
                "are not finite, or too large or too small,")
        remedy = ", or outputs='values', where what they have in common counts" if all_alike else ""
        raise NetworkError(f"the network's outputs {what} on the calibration data: their mean square is {energy}, of "
                           f"which errors are to be a share; accepted: {LEAST_ENERGY} to {MOST_ENERGY}{remedy}")


def short(shift: np.ndarray) -> np.ndarray:
    """Multiples of a power of two, SHIFT_BITS below the largest: half of their bytes are zero."""
    largest = np.abs(shift).max(initial=0)
    if not largest:
        return shift.astype(np.float32)
    unit = 2.0 ** (np.ceil(np.log2(largest)) - SHIFT_BITS)
    return (np.rint(shift / unit) * unit).astype(np.float32)


def obstacle(inference: InferenceGraph, weight: str) -> str | None:
    """Why the layer of this weight cannot be rounded in this way; None where it can."""
    nodes: list[Node] = [inference.layers[name] for name, other in inference.weights.items() if other == weight]
    if not nodes:
        return "its output does not reach the network's, or something else reads its weight"
    if len(nodes) > 1:
        return "it is called several times"
    node, = nodes
    if node.groups > 1:
        return "it has groups"
    if node.kind == "Dense" and len(node.shapes[0]) > 2:
        return "it is a dense layer along the last axis of several"
    return None
