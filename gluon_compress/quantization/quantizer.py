"""From a trained fp32 network and some of its inputs to integer weights and the ranges of all tensors."""
from __future__ import annotations

import copy
import itertools
from collections.abc import Callable, Iterable, Mapping
from dataclasses import replace
from typing import Any

import numpy as np
from mxnet.gluon import HybridBlock

from ..arguments import check_choice, check_integer
from ..errors import NetworkError
from ..network.blocks import block_of, tensors_of
from ..network.checks import check_ready
from ..network.graph import Graph, input_names
from ..network.layer import Which, choose_layers, layer_name, layers
from ..network.nodes import Entry, Node, in_order
from ..network.values import snapshot
from .arithmetic.arrays import dequantize_array
from .calibration.observing import input_batches, key, observe
from .calibration.range_observer import METHODS, RangeObserver
from .equalization import equalize_layers
from .integers import onednn
from .integers.fusions import Fusion, find_fusions, is_grouped, leaky_activations, worth_while
from .integers.inference_graph import fold_scales, has_own_parameters, runs_on_integers, simplify
from .quantized import Quantized
from .rate.network import obstacle
from .rate.rounder import Rounder, short
from .record import QuantizationRecord

COMPARED = 4  # batches on which equalization must prove worthwhile


def check_settings(method: str, bits: int, batches: int | None) -> None:
    """Raise ``TypeError`` or ``ValueError`` for what neither :func:`quantize` nor :func:`prepare_qat` accepts."""
    check_choice("method", method, tuple(METHODS))
    check_integer("bits", bits, 2, 8)
    if batches is not None:
        check_integer("batches", batches, minimum=1)


def default_clip(bits: int) -> str:
    """What kept more accuracy for ResNet-18 and AlexNet: with 3 bits or more, the largest weights count most."""
    return "mse" if bits == 2 else "max"


def check_fp32(net: HybridBlock) -> None:
    """Raise ``TypeError`` or ``NetworkError`` for what cannot be quantized, or is quantized already."""
    if isinstance(getattr(net, "record", None), QuantizationRecord):
        raise NetworkError("the network is quantized already; quantize the fp32 network that it was made from")
    check_ready(net)


class Quantizer:
    """A network, BatchNorm's scales in its weights, and what calibration saw of it.

    Attributes
    ----------
    graph : Graph
    values : dict
        {structural name: float32 array}.
    inference : InferenceGraph
    layers : dict
        {layer name: node}; a layer that is called again has another name for that.
    left_out : dict
        {layer name: why it cannot run on integers}.
    possible : list of str
        The other layers.
    not_wanted : dict
        {layer name: why it stays fp32 although it could run on integers}; see :meth:`choose`.
    """

    def __init__(self, net: HybridBlock, data: Iterable[Any], most_batches: int | None) -> None:
        self.batches = list(itertools.islice(input_batches(data, net), most_batches))
        self.graph = Graph(net, self.batches[0])
        for name in set(input_names(net, len(self.batches[0]))) - self.graph.input_shapes.keys():
            raise NetworkError(f"the network's outputs do not depend on its input {name}; quantize one without it")
        for node in self.graph.nodes:
            if node.meaning.has_body:
                raise NetworkError(f"the network has {node.name}, a {node.operator}, whose body cannot be quantized; "
                                   f"quantize the parts before and after it")
        self.inference = simplify(self.graph)
        self.values = fold_scales(self.inference, snapshot(net))
        for name, value in self.values.items():
            if not np.isfinite(value).all():
                raise NetworkError(f"parameter {name} is not finite, or would not be with the scale of the BatchNorm "
                                   f"after its layer")
        self.notes: list[str] = []
        self.short = False  # whether biases take few bits
        self._fusions: dict[frozenset[str], dict[Entry, Fusion]] = {}
        self.layers = self.inference.layers
        readers = {source.parameter: node.operator for node in self.graph.nodes if not runs_on_integers(node)
                   for source, _ in node.inputs}
        self.left_out: dict[str, str] = {}
        self.not_wanted: dict[str, str] = {}
        for name, node in self.layers.items():
            reader = readers.get(self.inference.weights[name])
            reason = node.integer_obstacle or reader and f"{reader} reads its weight, too"
            if reason:
                self.left_out[name] = reason
        self.possible = [name for name in self.layers if name not in self.left_out]
        for node in self.graph.producers():
            if node.layer not in self.layers:
                self.left_out[str(node.layer)] = (f"{node.kind}: there is no integer kernel for it"
                                             if has_own_parameters(node) else
                                             "its bias is not a parameter of the network")
        self.left_out.update((recurrent_name(node), str(node.integer_obstacle)) for node in self.graph.nodes
                             if node.meaning.recurrent)

    def choose(self, net: HybridBlock, select: Which, exclude: Which) -> None:
        """Note the layers that the user does not select, or excludes; they stay fp32. See :func:`select_layers`."""
        kinds = {node.layer: str(node.kind) for node in self.graph.producers()}
        candidates = [replace(layer, kind=kinds[layer.name]) for layer in layers(net) if layer.name in kinds]
        _, left_out = choose_layers(candidates, select, exclude)
        of_nodes = {name: layer_name(weight) for name, weight in self.inference.weights.items()}
        self.not_wanted = {name: left_out[layer] for name, layer in of_nodes.items() if layer in left_out}

    def has_depthwise(self) -> bool:
        return any(node.groups > 1 and not is_grouped(node) for node in self.layers.values())

    def round_by_rate(self, rate: float, progress: bool, outputs: str) -> None:
        """Round the weights of the layers that are wanted to what costs least in error and bits; see RateRounding."""
        wanted = [name for name in self.possible if name not in self.not_wanted]
        obstacles = {name: obstacle(self.inference, self.inference.weights[name]) for name in wanted}
        names = [name for name, reason in obstacles.items() if reason is None]
        if not names:
            reasons = "; ".join(f"{name}: {why}" for name, why in {**self.left_out, **obstacles}.items())
            raise ValueError(f"no layer that runs on integers can be rounded by rate: {reasons}")
        rounder = Rounder(self.graph, self.inference, self.values, names, self.batches, 0, progress, outputs)
        self.values = rounder.best(rate).values
        self.short = True

    def equalized(self, progress: bool) -> Quantizer | None:
        """A Quantizer for the network with channels rescaled, or None where no pair of layers gains from it."""
        other = copy.copy(self)
        other.values, changed, left = equalize_layers(self.graph, self.inference, self.values, self.batches, progress)
        notes = [f"{what}: {pair.first.name} -> {pair.second.name}" for what, pairs in (
            ("equalized", changed), ("not equalized, as no less noise is expected", left)) for pair in pairs]
        if not changed:
            self.notes = notes
            return None
        other.notes = notes
        return other

    def output_error(self, net: HybridBlock) -> float:
        """How far a network's outputs differ from those in fp32: a share of their norm, on up to COMPARED batches."""
        inference = self.inference
        fp32 = block_of(inference.outputs, inference.inputs, self.values)
        norms = np.zeros((len(inference.outputs), 2))
        for inputs in self.batches[:COMPARED]:
            for index, (expected, output) in enumerate(zip(tensors_of(fp32, inputs), tensors_of(net, inputs))):
                norms[index] += [np.square(output - expected, dtype=np.float64).sum(),
                                 np.square(expected, dtype=np.float64).sum()]
        return float(np.sqrt(norms[:, 0] / np.maximum(norms[:, 1], np.finfo(float).tiny)).mean())

    def fusions(self, chosen: Iterable[str]) -> dict[Entry, Fusion]:
        """:func:`find_fusions` for these layers, with the activations that integers can have; searched for once."""
        chosen = frozenset(chosen)
        if chosen not in self._fusions:
            leaky = {node: activation.with_values(self.values)
                     for node, activation in leaky_activations(self.inference.outputs).items()}
            self._fusions[chosen] = find_fusions(self.inference.outputs, chosen, {
                node: activation for node, activation in leaky.items() if worth_while(activation, node.inputs[0][0])})
        return self._fusions[chosen]

    def calibrate(self, new_observer: Callable[[], RangeObserver], progress: bool) -> None:
        """Observe every tensor that may become integers, whichever layers are left out later."""
        entries = [(node, 0) for node in self.layers.values()] + [node.inputs[0] for node in self.layers.values()]
        for node in in_order(self.inference.outputs):
            if node.meaning.adds:
                entries += [*node.inputs, (node, 0)]
        entries += self.fusions(self.possible)
        if not self.possible:
            reasons = "; ".join(f"{name}: {reason}" for name, reason in self.left_out.items())
            raise ValueError(f"no layer of this network can run on integers: {reasons or 'it has none'}")
        self.seen = observe(self.inference, self.values, list(self.layers.values()), list(dict.fromkeys(entries)),
                            self.batches, new_observer, progress)

    def quantized(self, bits: int, clip: str, correct_bias: bool,
                  in_fp32: Mapping[str, str] | None = None) -> Quantized:
        """The :class:`Quantized`, with these layers in fp32, {name: reason}, besides those that the user left out."""
        not_wanted = {**self.not_wanted, **(in_fp32 or {})}
        chosen = [name for name in self.possible if name not in not_wanted]
        if not chosen:
            raise ValueError("select and exclude leave no layer that can be quantized")
        left_out = {**self.left_out, **not_wanted}
        names = [self.inference.weights[name] for name in chosen]
        weights = {name: onednn.weight_codes(self.values[name], bits, clip, name in self.inference.of_one_scale)
                   for name in names}
        rest = {name: value for name, value in self.values.items() if name not in weights}
        if correct_bias:
            for name in chosen:
                shift = self.inference.shifts.get(name)
                if shift is not None:
                    rest[shift] = rest[shift] + self._mean_error(name, *weights[self.inference.weights[name]])
                    rest[shift] = short(rest[shift]) if self.short else rest[shift]
        fusions = self.fusions(chosen)
        of_layers = {fusion.layer.name: fusion for fusion in fusions.values()}
        record = QuantizationRecord({name: self._ranges(of_layers[name]) for name in chosen}, left_out, int(bits),
                                    notes=list(self.notes))
        return Quantized.of_weights(self.graph, self.inference, fusions, record, weights, rest)

    def _mean_error(self, name: str, codes: np.ndarray, scale: np.ndarray) -> np.ndarray:
        """E[(W - W_quantized) x] of each output channel."""
        weight = self.values[self.inference.weights[name]].astype(np.float64)
        error = weight - dequantize_array(codes, scale, 0)
        mean = self.seen.means[name]
        if error.ndim == 2:
            return (error @ mean).astype(np.float32)
        error = error.sum(axis=tuple(range(2, error.ndim)))  # (out, in / groups)
        groups = self.layers[name].groups
        of_group = mean.reshape(groups, 1, -1).repeat(len(error) // groups, axis=1).reshape(error.shape)
        return (error * of_group).sum(axis=1).astype(np.float32)

    def _ranges(self, fusion: Fusion) -> dict[str, Any]:
        def limits(entry: Entry, signed: bool) -> list[Any]:
            return [_short(self.seen.threshold(entry, signed)), signed]
        ranges: dict[str, Any] = {
            "input": limits(fusion.data, self.seen.observers[key(fusion.data)].signed),
            "output": limits(fusion.end, not fusion.relu),
            "summand": None if fusion.summand is None else limits(fusion.summand, True),
            "lowest": _short(self.seen.observers[key(fusion.end)].minimum), "snr": None}
        if fusion.leaky is not None:
            ranges["activation"] = "leaky" if fusion.leaky.parameter is None else "prelu"
        if fusion.summand is not None or fusion.leaky is not None:
            ranges["before"] = _short(self.seen.threshold((fusion.layer, 0), True))
        return ranges


def recurrent_name(node: Node) -> str:
    """Structural name of a recurrent layer, or that of its node where its weights are no parameters of one layer."""
    of_parameters = [source.parameter for source in in_order([node.read("parameters")]) if source.parameter]
    names = {name.rpartition(".")[0] for name in of_parameters}
    return names.pop() or node.name if len(names) == 1 else node.name


def _short(value: float) -> float:
    """A number as precise as float32 that is short in a file."""
    return float(f"{value:.8g}")
