"""The network as inference sees it: BatchNorm inside the layer before it, and nothing that does nothing.

    gamma * (W x + b - mean) / sqrt(var + eps) + beta = (alpha W) x + (alpha (b - mean) + beta)
    with alpha = gamma / sqrt(var + eps)

Jacob et al., "Quantization and Training of Neural Networks for Efficient Integer-Arithmetic-Only Inference", 2018,
section 3.2.
"""
from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Mapping
from dataclasses import dataclass, field
from functools import cached_property

import numpy as np

from ...network.graph import Graph
from ...network.nodes import Entry, Node
from ...network.norms import scale_and_shift
from ...network.values import layer_name
from ..folding import batch_norm_pairs, folded
from .fusions import is_grouped


@dataclass(frozen=True)
class InferenceGraph:
    """What :func:`simplify` makes: operators and parameters, without the parameters' values.

    Attributes
    ----------
    outputs : list of (Node, int)
        A parameter is one node, named by its structural name, however many nodes read it.
    inputs : list of str
        Names of the network's inputs.
    layers : dict
        {name: node} of convolutions and dense layers, which are named after the layer of the network; a layer that is
        called again has another name for that. They read the data, the weight, and what shifts their output, if
        anything does: the bias, or beta of the BatchNorm after them.
    shifts : dict
        ``biases`` without those of layers that are called several times, and without those that anything else reads.
    norms : dict
        {BatchNorm node: layer node} of the network, for BatchNorms that became part of the layers.
    folded : dict
        The same, including BatchNorms that only give their scale to the layer before them.
    """

    outputs: list
    inputs: list
    layers: dict = field(default_factory=dict)
    shifts: dict = field(default_factory=dict)
    norms: dict = field(default_factory=dict)
    folded: dict = field(default_factory=dict)

    @cached_property
    def weights(self) -> dict[str, str]:
        """{name of a layer: structural name of its weight}."""
        return {name: node.parameters["weight"] for name, node in self.layers.items()}

    @cached_property
    def biases(self) -> dict[str, str]:
        """{name of a layer: structural name of what shifts its output}; missing where there is none."""
        return {name: node.parameters["bias"] for name, node in self.layers.items() if node.bias}

    @cached_property
    def of_one_scale(self) -> set[str]:
        """Structural names of weights of 8 bits that have one scale, not one for each output channel."""
        return {self.weights[name] for name, node in self.layers.items() if is_grouped(node)}

    def fits(self, values: Mapping[str, np.ndarray]) -> bool:
        """Whether BatchNorms are folded in ``values``, {structural name: array}, as :func:`fold_scales` does it."""
        return all((scale_and_shift(norm, values)[0] == 1).all() and not values[norm.parameters["mean"]].any()
                   and not (layer.bias and values[layer.parameters["bias"]].any())
                   for norm, layer in self.norms.items())


def fold_scales(inference: InferenceGraph, values: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
    """``values``, {structural name: array}, with the scales of BatchNorms in the weights before them.

    A folded BatchNorm is left with beta alone, which takes the layer's bias in: gamma = 1, running_mean = 0,
    running_var = 1 - eps, bias = 0. The network computes the same.
    """
    values = dict(values)
    for norm, layer in inference.folded.items():
        values.update(folded(norm, layer, values))
        beta, mean = norm.parameters["beta"], norm.parameters["mean"]
        values[beta] = values[beta] - values[mean]
        values[mean] = np.zeros_like(values[mean])
        if layer.bias:
            bias = layer.parameters["bias"]
            values[beta] = values[beta] + values[bias]
            values[bias] = np.zeros_like(values[bias])
    return values


def simplify(graph: Graph) -> InferenceGraph:
    """The :class:`InferenceGraph` of a Graph; it computes the same with the values of :func:`fold_scales`."""
    all_pairs, _ = batch_norm_pairs(graph)
    pairs = {norm: layer for norm, layer in all_pairs.items()
             if runs_on_integers(layer) and not norm.meaning.ends_in_relu}
    taken = {node.layer for node in graph.producers()}
    taken |= {node.parameter for node in graph.nodes if node.parameter is not None}
    layer_nodes, inputs = set(pairs.values()), []
    layers: dict[str, Node] = {}
    moved: dict[Entry, Entry] = {}
    for node in graph.nodes:
        if node in layer_nodes:
            continue  # comes with its BatchNorm
        if node.is_identity:
            moved[node, 0] = moved[node.inputs[0]]
        elif node in pairs or runs_on_integers(node) and has_own_parameters(node):
            moved[node, 0] = (_layer(pairs.get(node, node), moved, layers, node if node in pairs else None), 0)
        else:
            copy = Node(node.parameter or _other_than(node.name, taken), node.operator, node.attributes, node.shapes,
                        node.parameter, inputs=[moved[source] for source in node.inputs])
            if node.operator == "null" and node.parameter is None:
                inputs.append(copy.name)
            moved.update({(node, output): (copy, output) for output in range(len(node.shapes))})
    inputs.sort(key=[_other_than(name, taken) for name in graph.input_shapes].index)
    return InferenceGraph([moved[output] for output in graph.outputs], inputs, layers, _shifts(graph, layers), pairs,
                          all_pairs)


def _shifts(graph: Graph, layers: dict[str, Node]) -> dict[str, str]:
    """{layer: what shifts only its output}: a shift for one call of a layer would be one for all."""
    calls = Counter(node.entry("weight") for node in layers.values())
    readings = Counter(source.parameter for node in graph.nodes for source, _ in node.inputs)
    return {name: node.parameters["bias"] for name, node in layers.items()
            if node.bias and calls[node.entry("weight")] == 1 and readings[node.parameters["bias"]] == 1}


def runs_on_integers(node: Node) -> bool:
    """Whether it is a layer of a kind for which there are integer kernels."""
    return node.kind is not None and node.meaning.integer_form is not None


def has_own_parameters(layer: Node) -> bool:
    """Whether weight and bias are parameters of the network, neither computed nor inputs."""
    return all(source.parameter is not None for source in (layer.weight, layer.bias) if source is not None)


def _other_than(name: str, taken: Collection[str | None]) -> str:
    """A name for an operator or an input that no layer and no parameter has."""
    while name in taken:
        name += "_"
    return name


def _layer(layer: Node, moved: Mapping[Entry, Entry], layers: dict[str, Node], batch_norm: Node | None) -> Node:
    """A new node for a layer, named after its weight, shifted by beta of the BatchNorm after it, if there is one."""
    name = first = layer_name(layer.parameters["weight"])
    again = 0
    while name in layers:
        again += 1
        name = f"{first}_again{again}"
    read = [layer.inputs[0], layer.entry("weight"),
            layer.entry("bias") if batch_norm is None else batch_norm.entry("beta")]
    known = [moved[source] for source in read if source is not None]
    layers[name] = Node(name, layer.operator, {**layer.attributes, "no_bias": str(len(known) == 2)},
                        layer.shapes if batch_norm is None else batch_norm.shapes[:1], inputs=known)
    return layers[name]
