"""The network as inference sees it: BatchNorm inside the layer before it, and nothing that does nothing.

    gamma * (W x + b - mean) / sqrt(var + eps) + beta = (alpha W) x + (alpha (b - mean) + beta)
    with alpha = gamma / sqrt(var + eps)

Jacob et al., "Quantization and Training of Neural Networks for Efficient Integer-Arithmetic-Only Inference", 2018,
section 3.2.
"""
from dataclasses import dataclass, field

import numpy as np

from ..graph import Node, consumers
from ..network import layer_name

LAYERS = ("Convolution", "FullyConnected")
BATCH_NORMS = ("BatchNorm", "_contrib_SyncBatchNorm")
IDENTITIES = ("Dropout", "_copy", "BlockGrad")
SAME = 1e-6  # a factor this close to 1 is 1 but for rounding: the codes of a weight must not change by it


@dataclass
class InferenceGraph:
    """What :func:`simplify` makes.

    Attributes
    ----------
    outputs : list of (Node, int)
        Convolutions and dense layers are named after the layer of the network.
    inputs : list of str
        Names of the network's inputs.
    values : dict
        {name of a parameter node: float32 array}.
    weights : dict
        {name of a layer's node: structural name of its weight in the network}.
    biases : dict
        {name of a layer's node: structural name of what shifts its output}: its bias, or beta of the BatchNorm behind
        it; missing where there is none.
    shifts : dict
        ``biases`` without the layers that are called several times.
    """

    outputs: list
    inputs: list
    values: dict = field(default_factory=dict)
    weights: dict = field(default_factory=dict)
    biases: dict = field(default_factory=dict)
    shifts: dict = field(default_factory=dict)


def batch_norm_pairs(graph):
    """``({BatchNorm node: layer node before it}, {BatchNorm node: why it cannot go into a layer})`` of a Graph."""
    readers, pairs, reasons = consumers(graph.outputs), {}, {}
    calls = {}
    for node in graph.nodes:
        for source, _ in node.inputs[1:]:
            if source.parameter is not None:
                calls[source.parameter] = calls.get(source.parameter, 0) + 1
    for node in graph.nodes:
        if node.operator not in BATCH_NORMS:
            continue
        layer, output = node.inputs[0]
        if layer.operator not in LAYERS or layer.inputs[1][0].parameter is None:
            reasons[node] = f"no layer right before it, but {layer.operator}"
        elif len(readers[layer, output]) > 1 or (layer, output) in graph.outputs:
            reasons[node] = f"the output of {layer_name(layer.inputs[1][0].parameter)} is read by others too"
        elif node.get("axis", 1) % len(layer.shapes[0]) != _channel_axis(layer):
            reasons[node] = "it normalizes over another axis than that of the channels"
        elif any(calls[source.parameter] > 1 for source, _ in (*layer.inputs[1:], *node.inputs[1:])):
            reasons[node] = "it or the layer before it is called several times"
        else:
            pairs[node] = layer
    return pairs, reasons


def _channel_axis(layer):
    if layer.operator == "FullyConnected":
        return len(layer.shapes[0]) - 1
    return (layer.get("layout") or "NC").index("C")


def scale_and_shift(node, values):
    """``(alpha, beta - alpha * mean)`` of a BatchNorm in inference, in double precision."""
    gamma, beta, mean, variance = (values[source.parameter].astype(np.float64) for source, _ in node.inputs[1:5])
    if node.get("fix_gamma", True):
        gamma = np.ones_like(gamma)
    alpha = gamma / np.sqrt(variance + node.get("eps", 1e-3))
    alpha = np.where(np.abs(alpha - 1) < SAME, 1.0, alpha)
    return alpha, beta - alpha * mean


def fold_scales(graph, values):
    """``values``, {structural name: array}, with the scales of BatchNorms in the weights before them.

    A folded BatchNorm is left with beta alone, which takes the layer's bias in: gamma = 1, running_mean = 0,
    running_var = 1 - eps, bias = 0. The network computes the same.
    """
    values = dict(values)
    for norm, layer in batch_norm_pairs(graph)[0].items():
        alpha, shift = scale_and_shift(norm, values)
        weight, *bias = (source.parameter for source, _ in layer.inputs[1:])
        gamma, beta, mean, variance = (source.parameter for source, _ in norm.inputs[1:])
        new = {weight: values[weight].astype(np.float64) * alpha.reshape(-1, *[1] * (values[weight].ndim - 1)),
               gamma: np.ones_like(alpha), beta: shift, mean: np.zeros_like(alpha),
               variance: np.full_like(alpha, 1 - norm.get("eps", 1e-3))}
        if bias:
            new[beta] = shift + alpha * values[bias[0]]
            new[bias[0]] = np.zeros_like(alpha)
        values.update({name: value.astype(np.float32) for name, value in new.items()})
    return values


def simplify(graph, values):
    """The :class:`InferenceGraph` of a Graph whose parameters have these ``values``, {structural name: array}."""
    pairs, _ = batch_norm_pairs(graph)
    result = InferenceGraph([], list(graph.input_shapes))
    layer_nodes = set(pairs.values())
    names = {}
    moved = {}
    for node in graph.nodes:
        if node in layer_nodes:
            continue  # comes with its BatchNorm
        if node.operator in IDENTITIES:
            moved[node, 0] = moved[node.inputs[0]]
        elif node in pairs:
            moved[node, 0] = (_layer(result, pairs[node], moved[pairs[node].inputs[0]], values, names, node), 0)
        elif node.operator in LAYERS and node.inputs[1][0].parameter is not None:
            moved[node, 0] = (_layer(result, node, moved[node.inputs[0]], values, names), 0)
        else:
            copy = Node(node.name, node.operator, node.attributes, node.shapes, node.parameter,
                        inputs=[moved[source] for source in node.inputs])
            if node.parameter is not None:
                copy.name = node.parameter
                result.values[node.parameter] = values[node.parameter]
            moved.update({(node, output): (copy, output) for output in range(len(node.shapes))})
    result.outputs = [moved[output] for output in graph.outputs]
    return result


def _layer(result, node, data, values, names, batch_norm=None):
    """A new node for a layer, with its own weight and bias, the BatchNorm behind it included."""
    weight_name = node.inputs[1][0].parameter
    name = layer_name(weight_name)
    number = names[name] = names.get(name, 0) + 1
    name = name if number == 1 else f"{name}_again{number - 1}"
    weight = values[weight_name]
    bias_name = node.inputs[2][0].parameter if len(node.inputs) > 2 else None
    bias = None if bias_name is None else values[bias_name]
    shift_name = bias_name
    if batch_norm is not None:
        alpha, shift = scale_and_shift(batch_norm, values)
        if (alpha != 1).any():
            weight = weight.astype(np.float64) * alpha.reshape(-1, *[1] * (weight.ndim - 1))
        bias = alpha * (0 if bias is None else bias) + shift
        shift_name = batch_norm.inputs[2][0].parameter
    shapes = batch_norm.shapes[:1] if batch_norm is not None else node.shapes
    result.weights[name] = weight_name
    result.values[f"{name}.weight"] = weight.astype(np.float32)
    inputs = [data, (variable(f"{name}.weight", weight.shape), 0)]
    if bias is not None:
        result.values[f"{name}.bias"] = bias.astype(np.float32)
        inputs.append((variable(f"{name}.bias", bias.shape), 0))
        result.biases[name] = shift_name
        if number == 1:
            result.shifts[name] = shift_name
    if number > 1:
        result.shifts.pop(layer_name(weight_name), None)  # shared: a shift for one call would be one for all
    attributes = {**node.attributes, "no_bias": str(bias is None)}
    return Node(name, node.operator, attributes, shapes, inputs=inputs)


def variable(name, shape):
    """A node for a parameter."""
    return Node(name, "null", {"__shape__": str(tuple(shape))} if shape else {}, [tuple(shape)], parameter=name)
