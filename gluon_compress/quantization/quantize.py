"""Post-training quantization: from a trained fp32 network and a few hundred inputs to one that runs on integers."""
import copy
import itertools
from functools import partial

import numpy as np

from ..arguments import check_choice, check_flag, check_integer, check_number
from ..errors import NetworkError
from ..graph import Graph, in_order
from ..network import check_ready, layer_name, snapshot
from ..symbol_graph import input_names
from . import onednn
from .accuracy import keep_accuracy
from .arrays import dequantize_array
from .calibration import METHODS, RangeObserver
from .clipping import CLIPS
from .emitters import Int8Emitter, SimulatedEmitter
from .equalization import equalize_layers
from .inference_graph import LAYERS, fold_scales, has_own_parameters, simplify
from .int8_network import Int8Network, lower
from .lowering import ADDITIONS, find_fusions, leaky_activations, obstacle, worth_while
from .observing import block_of, input_batches, key, observe, parts
from .record import QuantizationRecord
from .weights import Scales

COMPARED = 4  # batches on which equalization must have been worth it
CONTROL_FLOW = ("_foreach", "_while_loop", "_cond")
KINDS = {"Convolution": "Conv{}D", "Deconvolution": "Conv{}DTranspose", "FullyConnected": "Dense",
         "Embedding": "Embedding"}


def quantize(net, calibration_data, method="mse", exclude=(), bits=8, clip=None, percentile=99.99, batches=None,
             correct_bias=True, equalize=None, evaluate=None, max_accuracy_drop=None, simulate=False, progress=True):
    """An :class:`Int8Network` that computes what ``net`` computes, on integers.

    ``net`` is not changed. Convolutions and dense layers get integer weights, one scale per output channel, with the
    scale of the BatchNorm behind them; activations one scale per tensor, found on the calibration data. What lies
    between them runs on integers too where nothing is lost by it; the record names every layer that stays fp32 and
    why.

    >>> int8 = quantize(net, calibration_data)
    >>> print(int8.record)
    >>> save("small.gcz", int8)

    Parameters
    ----------
    net : HybridBlock
        A SymbolBlock is one. Trained, in fp32. Inputs with a default value are left at it; several outputs come back
        as one list.
    calibration_data : iterable of batches
        A DataLoader or a list; see :mod:`gluon_compress.data` for what a batch may be. Some hundred
        samples of the training data, prepared as for inference. They are kept in memory meanwhile.
        An input that never is negative here is taken for one that never will be.
    method : "minmax", "percentile", "entropy" or "mse"
        How the threshold of an activation is chosen; see :class:`RangeObserver`.
    exclude : iterable of str
        Layers that stay fp32: their names, or kinds of layers such as "Dense".
    bits : int
        2 to 8, of weights and activations. The integer kernels know 8 only; others need ``simulate=True``.
    clip : "max", "percentile" or "mse", optional
        How the scale of a weight is chosen; see :func:`quantize_array`. By default "mse" for 2 bits, else "max".
    percentile : float
        For ``method="percentile"``.
    batches : int, optional
        Use at most as many batches.
    correct_bias : bool
        Take the mean error that the rounded weights make in each output channel out of its bias (Nagel et al.,
        "Data-Free Quantization Through Weight Equalization and Bias Correction", 2019, section 4.2). Layers without
        bias and without BatchNorm have nothing to correct.
    equalize : bool, optional
        First bring the channels of each tensor between two layers to like ranges; see equalization.py. By default for
        networks with depthwise convolutions, which need it most. Pairs of layers where less noise is not expected, and
        the whole where the outputs on the calibration data come no closer to those in fp32, stay as they are. The
        record says which.
    evaluate : callable, optional
        ``evaluate(net)`` returns the accuracy, higher is better. For ``max_accuracy_drop``.
    max_accuracy_drop : float, optional
        Keep as few layers in fp32 as it takes to lose at most this much, against ``evaluate(net)``. Take held-out
        data, not the test set.
    simulate : bool
        Run the same integer arithmetic in fp32, anywhere.
    progress : bool
        Show progress bars on standard error.

    Raises
    ------
    TypeError, ValueError
        For data, names or numbers that are not as above, and when nothing is left to quantize.
    NetworkError
        When the network cannot be traced, is quantized already, or int8 networks cannot run here.
    """
    check_settings(method, bits, batches)
    clip = default_clip(bits) if clip is None else clip
    check_choice("clip", clip, CLIPS)
    for name, value in (("correct_bias", correct_bias), ("equalize", False if equalize is None else equalize),
                        ("simulate", simulate), ("progress", progress)):
        check_flag(name, value)
    new_observer = partial(RangeObserver, method, percentile, bits)
    new_observer()  # does it accept these?
    if (max_accuracy_drop is None) != (evaluate is None):
        raise TypeError("max_accuracy_drop and evaluate go together; one of them is missing")
    if evaluate is not None and not callable(evaluate):
        raise TypeError(f"evaluate is {evaluate!r}; accepted: a callable")
    if max_accuracy_drop is not None:
        check_number("max_accuracy_drop", max_accuracy_drop, minimum=0)
    check_fp32(net)
    if not simulate:
        onednn.check_available(bits)
    quantizer = Quantizer(net, calibration_data, batches)
    excluded = quantizer.excluded(exclude)
    quantizer.calibrate(new_observer, progress)

    def quantized(excluded, quantizer=quantizer):
        record, scales, codes, rest = quantizer.quantized(excluded, bits, clip, correct_bias)
        record.calibration = f"{method}, {quantizer.seen.samples} samples"
        record.notes += quantizer.notes
        quantizer.measure_noise(record, scales, codes, rest, SimulatedEmitter if simulate else Int8Emitter)
        return Int8Network(quantizer.graph, codes, scales, rest, record, simulate)
    result = None
    if equalize or equalize is None and quantizer.has_depthwise():
        quantizer, result = with_equalization(quantizer, partial(quantized, excluded), new_observer, progress)
    if evaluate is None:
        return result or quantized(excluded)
    return keep_accuracy(net, partial(quantized, quantizer=quantizer), excluded, quantizer.possible,
                         quantizer.batches[0], evaluate, max_accuracy_drop, progress)


def with_equalization(quantizer, quantized, new_observer, progress):
    """``(Quantizer, Int8Network)`` with channels rescaled, or as they are where that is no gain.

    ``quantized(quantizer=...)`` makes the network.
    """
    plain, other = quantized(quantizer=quantizer), quantizer.equalized(progress)
    if other is None:
        plain.record.notes += quantizer.notes
        return quantizer, plain
    other.calibrate(new_observer, progress)
    result = quantized(quantizer=other)
    before, after = (quantizer.output_error(network) for network in (plain, result))
    if after < before:
        return other, result
    quantizer.notes = [f"equalization was tried and not kept: with it the outputs are {100 * after:.3g} % of their "
                       f"norm off, without {100 * before:.3g} %"]
    plain.record.notes += quantizer.notes
    return quantizer, plain


def check_settings(method, bits, batches):
    """Raise ``TypeError`` or ``ValueError`` for what neither :func:`quantize` nor :func:`prepare_qat` accepts."""
    check_choice("method", method, METHODS)
    check_integer("bits", bits, 2, 8)
    if batches is not None:
        check_integer("batches", batches, minimum=1)


def default_clip(bits):
    """What kept more accuracy of ResNet-18 and AlexNet: with 3 bits and more the largest weights count most."""
    return "mse" if bits == 2 else "max"


def check_fp32(net):
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
    """

    def __init__(self, net, data, most_batches):
        self.batches = list(itertools.islice(input_batches(data, net), most_batches))
        self.graph = Graph(net, self.batches[0])
        for name in set(input_names(net, len(self.batches[0]))) - self.graph.input_shapes.keys():
            raise NetworkError(f"the network's outputs do not depend on its input {name}; quantize one without it")
        for node in self.graph.nodes:
            if node.operator in CONTROL_FLOW:
                raise NetworkError(f"the network has {node.name}, a {node.operator}, whose body cannot be quantized; "
                                   f"quantize the parts before and behind it")
        self.values = fold_scales(self.graph, snapshot(net))
        for name, value in self.values.items():
            if not np.isfinite(value).all():
                raise NetworkError(f"parameter {name} is not finite, or would not be with the scale of the BatchNorm "
                                   f"behind its layer")
        self.notes = []
        self._simplify()
        readers = {source.parameter: node.operator for node in self.graph.nodes if node.operator not in LAYERS
                   for source, _ in node.inputs}
        self.left_out = {}
        for name, node in self.layers.items():
            reader = readers.get(self.inference.weights[name])
            reason = obstacle(node) or reader and f"{reader} reads its weight, too"
            if reason:
                self.left_out[name] = reason
        self.possible = [name for name in self.layers if name not in self.left_out]
        for node in self.graph.producers():
            name = layer_name(node.inputs[1][0].parameter)
            if name not in self.layers:
                self.left_out[name] = ("its bias is not a parameter of the network" if not has_own_parameters(node) else
                                       f"{_kind(node)}: there is no integer kernel for it")

    def excluded(self, exclude):
        """The layers that the user's names and kinds stand for; ``ValueError`` for one that matches nothing."""
        if isinstance(exclude, str) or not hasattr(exclude, "__iter__"):
            raise TypeError(f"exclude is {exclude!r}; accepted: a list of names")
        kinds = {layer_name(node.inputs[1][0].parameter): _kind(node) for node in self.graph.producers()}
        found = set()
        for wanted in exclude:
            matched = {name for name, kind in kinds.items() if wanted in (name, kind)}
            if not matched:
                raise ValueError(f"exclude names {wanted!r}, but there is no such layer or kind of layer; there are "
                                 f"{', '.join(f'{name} ({kind})' for name, kind in kinds.items())}")
            found |= {name for name in self.layers
                      if layer_name(self.inference.weights[name]) in matched} | matched - self.layers.keys()
        return found

    def has_depthwise(self):
        return any(node.get("num_group", 1) > 1 for node in self.layers.values())

    def equalized(self, progress):
        """A Quantizer of the network with channels rescaled, or None where no pair of layers gains by it."""
        other = copy.copy(self)
        other.values, changed, left = equalize_layers(self.graph, self.inference, self.values, self.batches, progress)
        notes = [f"{what}: {pair.first.name} -> {pair.second.name}" for what, pairs in (
            ("equalized", changed), ("not equalized, as less noise is not to be expected", left)) for pair in pairs]
        if not changed:
            self.notes = notes
            return None
        other.notes = notes
        other._simplify()
        return other

    def output_error(self, net):
        """How far a network's outputs are off those in fp32, as a share of their norm; on up to COMPARED batches."""
        inference = self.inference
        fp32 = block_of(inference.outputs, inference.inputs, inference.values)
        norms = np.zeros((len(inference.outputs), 2))
        for inputs in self.batches[:COMPARED]:
            for index, (expected, found) in enumerate(zip(_tensors(fp32, inputs), _tensors(net, inputs))):
                norms[index] += [np.square(found - expected, dtype=np.float64).sum(),
                                 np.square(expected, dtype=np.float64).sum()]
        return float(np.sqrt(norms[:, 0] / np.maximum(norms[:, 1], np.finfo(float).tiny)).mean())

    def _simplify(self):
        self.inference = simplify(self.graph, self.values)
        self.layers = {node.name: node for node in in_order(self.inference.outputs)
                       if node.name in self.inference.weights}

    def fusions(self, chosen):
        """:func:`find_fusions` of these layers, with the activations that integers can have."""
        leaky = leaky_activations(self.inference.outputs, self.inference.values)
        return find_fusions(self.inference.outputs, set(chosen), {
            node: activation for node, activation in leaky.items() if worth_while(activation, node.inputs[0][0])})

    def calibrate(self, new_observer, progress):
        """Observe every tensor that may become integers, whichever layers are left out later."""
        entries = [(node, 0) for node in self.layers.values()] + [node.inputs[0] for node in self.layers.values()]
        for node in in_order(self.inference.outputs):
            if node.operator in ADDITIONS:
                entries += [*node.inputs, (node, 0)]
        entries += self.fusions(self.possible)
        if not self.possible:
            reasons = "; ".join(f"{name}: {reason}" for name, reason in self.left_out.items())
            raise ValueError(f"no layer of this network can run on integers: {reasons or 'it has none'}")
        self.seen = observe(self.inference, list(self.layers.values()), list(dict.fromkeys(entries)), self.batches,
                            new_observer, progress)

    def quantized(self, excluded, bits, clip, correct_bias):
        """``(QuantizationRecord, Scales, {weight: codes}, {other parameter: array})`` with these layers left out."""
        chosen = [name for name in self.possible if name not in excluded]
        if not chosen:
            raise ValueError("exclude leaves no layer to quantize")
        left_out = {**self.left_out, **{name: "excluded" for name in self.layers if name in excluded}}
        weights = {name: onednn.weight_codes(self.values[name], bits, clip)
                   for name in map(self.inference.weights.get, chosen)}
        rest = {name: value for name, value in self.values.items() if name not in weights}
        if correct_bias:
            for name in chosen:
                shift = self.inference.shifts.get(name)
                if shift is not None:
                    rest[shift] = rest[shift] + self._mean_error(name, *weights[self.inference.weights[name]])
        fusions = {fusion.layer.name: fusion for fusion in self.fusions(chosen).values()}
        record = QuantizationRecord({name: self._ranges(fusions[name]) for name in chosen}, left_out, bits)
        scales = Scales({name: {"bits": bits, "axis": 0, "scale": scale} for name, (_, scale) in weights.items()},
                        left_out)
        return record, scales, {name: codes for name, (codes, _) in weights.items()}, rest

    def measure_noise(self, record, scales, codes, rest, emitter):
        """Fill in the signal-to-noise ratios of the record, on the first batch."""
        lowering = lower(self.graph, codes, scales, rest, record, emitter)
        lowering.outputs()
        names = list(record.layers)
        ends = {fusion.layer.name: end for end, fusion in self.fusions(names).items()}
        ends = [ends[name] for name in names]
        fp32 = block_of(ends, self.inference.inputs, self.inference.values)
        rounded = block_of([lowering.end(name) for name in names], self.inference.inputs, lowering.values())
        shifts = {fusion.shifted.layer.name for fusion in lowering.fusions.values() if fusion.shifted}
        power, noise = np.zeros(len(names)), np.zeros(len(names))
        for part in parts(self.batches[0], ends):
            for index, (signal, value) in enumerate(zip(_tensors(fp32, part), _tensors(rounded, part))):
                if names[index] in shifts:  # its output has a constant added, which the addition takes away again
                    value = value + (signal.mean() - value.mean())
                power[index] += np.square(signal, dtype=np.float64).sum()
                noise[index] += np.square(signal - value, dtype=np.float64).sum()
        for name, ratio in zip(names, map(_decibels, power, noise)):
            record.layers[name]["snr"] = round(ratio, 2)

    def _mean_error(self, name, codes, scale):
        """E[(W - W_quantized) x] of each output channel."""
        weight = self.values[self.inference.weights[name]].astype(np.float64)
        error = weight - dequantize_array(codes, scale, 0)
        mean = self.seen.means[name]
        if error.ndim == 2:
            return (error @ mean).astype(np.float32)
        error = error.sum(axis=tuple(range(2, error.ndim)))  # (out, in / groups)
        groups = self.layers[name].get("num_group", 1)
        of_group = mean.reshape(groups, 1, -1).repeat(len(error) // groups, axis=1).reshape(error.shape)
        return (error * of_group).sum(axis=1).astype(np.float32)

    def _ranges(self, fusion):
        def limits(entry, signed):
            return [_short(self.seen.threshold(entry, signed)), signed]
        found = {"input": limits(fusion.data, self.seen.observers[key(fusion.data)].signed),
                 "output": limits(fusion.end, not fusion.relu),
                 "summand": None if fusion.summand is None else limits(fusion.summand, True),
                 "lowest": _short(self.seen.observers[key(fusion.end)].minimum), "snr": None}
        if fusion.leaky is not None:
            found["activation"] = "leaky" if fusion.leaky.parameter is None else "prelu"
        return found


def _short(value):
    """As precise as float32, and short in a file."""
    return float(f"{value:.8g}")


def _kind(node):
    return KINDS[node.operator].format(len(node.get("kernel", ())))


def _tensors(net, inputs):
    tensors = net(*inputs)
    return [tensor.asnumpy() for tensor in (tensors if isinstance(tensors, (list, tuple)) else [tensors])]


def _decibels(power, noise):
    """10 log10(power / noise); at most 200."""
    return float(min(200.0, 10 * np.log10(power / noise))) if noise > 0 and power > 0 else 200.0
