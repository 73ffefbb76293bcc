"""The network as inference sees it: BatchNorm inside the layer before it, and nothing that does nothing.

    gamma * (W x + b - mean) / sqrt(var + eps) + beta = (alpha W) x + (alpha (b - mean) + beta)
    with alpha = gamma / sqrt(var + eps)

Jacob et al., "Quantization and Training of Neural Networks for Efficient Integer-Arithmetic-Only Inference", 2018,
section 3.2.
"""
from collections import Counter
from dataclasses import dataclass, field

import numpy as np

from ..graph import Node
from ..network import layer_name
from .folding import batch_norm_pairs, folded, scale_and_shift

LAYERS = ("Convolution", "FullyConnected")
IDENTITIES = ("_copy", "BlockGrad")


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
        ``biases`` without those of layers that are called several times, and those that something else reads, too.
    """

    outputs: list
    inputs: list
    values: dict = field(default_factory=dict)
    weights: dict = field(default_factory=dict)
    biases: dict = field(default_factory=dict)
    shifts: dict = field(default_factory=dict)


def fold_scales(graph, values):
    """``values``, {structural name: array}, with the scales of BatchNorms in the weights before them.

    A folded BatchNorm is left with beta alone, which takes the layer's bias in: gamma = 1, running_mean = 0,
    running_var = 1 - eps, bias = 0. The network computes the same.
    """
    values = dict(values)
    for norm, layer in batch_norm_pairs(graph)[0].items():
        values.update(folded(norm, layer, values))
        beta, mean = norm.inputs[2][0].parameter, norm.inputs[3][0].parameter
        values[beta] = values[beta] - values[mean]
        values[mean] = np.zeros_like(values[mean])
        for bias, _ in layer.inputs[2:]:
            values[beta] = values[beta] + values[bias.parameter]
            values[bias.parameter] = np.zeros_like(values[bias.parameter])
    return values


def simplify(graph, values):
    """The :class:`InferenceGraph` of a Graph whose parameters have these ``values``, {structural name: array}."""
    pairs = {norm: layer for norm, layer in batch_norm_pairs(graph)[0].items() if layer.operator in LAYERS
             and norm.operator != "_contrib_BatchNormWithReLU"}  # which goes on to a ReLU
    result = InferenceGraph([], [])
    layer_nodes = set(pairs.values())
    taken = {name for node in graph.producers() for name in (layer_name(node.inputs[1][0].parameter),)}
    taken |= {node.parameter for node in graph.nodes if node.parameter is not None}
    names = {}
    moved = {}
    for node in graph.nodes:
        if node in layer_nodes:
            continue  # comes with its BatchNorm
        if node.operator in IDENTITIES or node.operator == "Dropout" and node.get("mode") != "always":
            moved[node, 0] = moved[node.inputs[0]]
        elif node in pairs:
            moved[node, 0] = (_layer(result, pairs[node], moved[pairs[node].inputs[0]], values, names, node), 0)
        elif node.operator in LAYERS and has_own_parameters(node):
            moved[node, 0] = (_layer(result, node, moved[node.inputs[0]], values, names), 0)
        else:
            copy = Node(node.parameter or _other_than(node.name, taken), node.operator, node.attributes, node.shapes,
                        node.parameter, inputs=[moved[source] for source in node.inputs])
            if node.parameter is not None:
                result.values[node.parameter] = values[node.parameter]
            elif node.operator == "null":
                result.inputs.append(copy.name)
            moved.update({(node, output): (copy, output) for output in range(len(node.shapes))})
    result.outputs = [moved[output] for output in graph.outputs]
    result.inputs.sort(key=[_other_than(name, taken) for name in graph.input_shapes].index)
    readings = Counter(source.parameter for node in graph.nodes for source, _ in node.inputs)
    result.shifts = {name: shift for name, shift in result.shifts.items() if readings[shift] == 1}
    return result


def has_own_parameters(layer):
    """Whether weight and bias are parameters of the network, not computed and not its inputs."""
    return all(source.parameter is not None for source, _ in layer.inputs[1:])


def _other_than(name, taken):
    """A name for an operator or an input that no layer and no parameter has."""
    while name in taken:
        name += "_"
    return name


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
    shapes = node.shapes if batch_norm is None else batch_norm.shapes[:1]
    result.weights[name] = weight_name
    result.values[f"{name}.weight"] = weight.astype(np.float32, copy=False)
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
