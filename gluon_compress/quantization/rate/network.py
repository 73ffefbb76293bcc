"""The weights of a whole network, rounded so that the file is small."""
from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import numpy as np
from mxnet.gluon import HybridBlock

from ...arguments import check_choice, check_flag, check_integer, check_number
from ...errors import NetworkError
from ...network.checks import check_finite_parameters
from ...network.graph import Graph
from ...network.layer import select_layers
from ...network.nodes import Node
from ...network.values import known_shape, parameters, restore_snapshot, snapshot
from ..calibration.observing import input_batches
from ..integers.inference_graph import InferenceGraph, fold_scales, simplify
from ..scales import Scales
from .curvature import OUTPUTS
from .rounder import Rounder

__all__ = ["RateRounding", "check_rate", "obstacle"]

LEAST_RATE, MOST_RATE = 1e-9, 1e3


def check_rate(rate: Any) -> float:
    """As a float; ``ValueError`` or ``TypeError`` out of range."""
    check_number("rate", rate, minimum=LEAST_RATE, maximum=MOST_RATE)
    return float(rate)


class RateRounding:
    """Rounds the weights of convolutions and dense layers to what costs least in error and bits, at any rate.

    What all rates have in common is found out once: what layers read, and the gradients of the outputs. So a whole
    curve, or a search for the rate that an accuracy allows, takes far less than as many calls:

        rounding = RateRounding(net, data)
        for rate in (1e-3, 3e-3, 1e-2):
            scales = rounding.round(rate)
            print(rate, checkpoint.coded_size(net, scales), evaluate(net, held_out))

    As :func:`quantize_weights` with 8 bits, but with few different codes, which the file holds in less than two bits
    each. Channels between two layers become larger or smaller where that saves bits and the network computes the same.
    No label is used and nothing is trained: it takes inputs, the gradients of the outputs, and a minute or two for a
    million weights. BatchNorms go into the layers before them first, and biases make up for the mean error.

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
    per_channel : bool
        One scale for each output channel where these save more than they take, or one for each layer. With the latter
        channels stay as large as they are, files are larger by up to a fifth, and a
        :class:`~gluon_compress.coding.RateTrainer` can go on from the codes.

    Raises ``ValueError``, ``TypeError`` and ``NetworkError`` as :func:`quantize_weights`, and where no layer is left.
    """

    def __init__(self, net: HybridBlock, calibration_data: Iterable[Any], select: Any = None, exclude: Any = (),
                 seed: int = 0, progress: bool = True, outputs: str = "logits", per_channel: bool = True) -> None:
        check_integer("seed", seed, minimum=0)
        check_flag("progress", progress)
        check_flag("per_channel", per_channel)
        check_choice("outputs", outputs, OUTPUTS)
        chosen, left_out = select_layers(net, select, exclude, ("Conv2D", "Dense"))
        for layer in chosen:
            layer.value()  # raises where weights are not finite
        check_finite_parameters(net)  # biases, too
        batches = list(input_batches(calibration_data, net))
        graph, before = Graph(net, batches[0]), snapshot(net)
        inference = simplify(graph)
        values = fold_scales(inference, before)
        self.net, self.left_out = net, left_out
        names = self._names(inference, chosen)
        self.others = _of_other_layers(inference, before, names)
        self.rounder = Rounder(graph, inference, values, names, batches, seed, progress, outputs, per_channel)

    def round(self, rate: float) -> Scales:
        """Round the weights that the network had at the beginning, whatever it has now, and put them into it.

        ``rate`` is what a bit for each weight is worth: the square error of the outputs, as a share of their own
        square. 1e-9 to 1000 are accepted, 1e-4 to 1 are of use. Layers that are left out are named in the record with
        the reason. Other parameters, too, are as they were at the beginning, but for biases and BatchNorms that were
        folded.
        """
        rate = check_rate(rate)
        self._check_shapes()
        best = self.rounder.best(rate)
        restore_snapshot(self.net, {**best.values, **self.others})
        return Scales(best.scales, dict(self.left_out))

    def _check_shapes(self) -> None:
        """Raise ``NetworkError`` for a network that lost channels since."""
        own = parameters(self.net)
        for name, value in {**self.rounder.values, **self.others}.items():
            shape = known_shape(own[name]) if name in own else None
            if shape != value.shape:
                raise NetworkError(f"{name} has shape {shape}, and had {value.shape} when this RateRounding was made; "
                                   f"accepted: the network with the shapes it had then, or a new RateRounding")

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


def _of_other_layers(inference: InferenceGraph, values: dict[str, np.ndarray],
                     names: list[str]) -> dict[str, np.ndarray]:
    """What the layers that are not rounded, and the BatchNorms after them, had before these were folded."""
    rounded_ones = {inference.weights[name] for name in names}
    return {parameter: values[parameter] for norm, layer in inference.folded.items()
            if layer.parameters["weight"] not in rounded_ones
            for parameter in (*norm.parameters.values(), *layer.parameters.values())}


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
