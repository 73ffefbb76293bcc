"""The operators of a network and who reads them, for following what passes through it and for rewriting it."""
import ast
import json
from dataclasses import dataclass, field

import mxnet as mx
from mxnet.gluon import Constant

from .inputs import example_inputs
from .tracing import trace
from .values import parameters

MXNET_VERSION = 10901  # in the JSON of a graph
PRODUCERS = ("Convolution", "Deconvolution", "FullyConnected", "Embedding")


@dataclass(eq=False)
class Node:
    """One operator, input or parameter of the graph.

    Attributes
    ----------
    operator : str
        MXNet's name (``Convolution``); "null" for inputs and parameters.
    attributes : dict
        MXNet's strings by name; :meth:`get` gives their values.
    inputs : list of (Node, int)
        What it reads: a node and which of its outputs.
    shapes : list of tuple
        Of its outputs, for the example.
    parameter : str or None
        Structural name, when the node is a parameter of the network.
    constant : bool
        Whether that is a ``gluon.Constant``.
    subgraph : list of (Node, int)
        What oneDNN computes in one go, for its fused operators.
    """

    name: str
    operator: str
    attributes: dict
    shapes: list
    parameter: str = None
    constant: bool = False
    inputs: list = field(default_factory=list, repr=False)
    subgraph: list = field(default_factory=list, repr=False)

    def get(self, attribute, default=None):
        """Value of an attribute: a number, bool, tuple or None where the text is one, else the text."""
        text = self.attributes.get(attribute)
        if text is None:
            return default
        try:
            return ast.literal_eval(text)
        except (ValueError, SyntaxError):
            return text

    def input_shape(self, index):
        """Shape of the tensor that it reads there."""
        source, output = self.inputs[index]
        return source.shapes[output]


class Graph:
    """The graph of ``net`` on ``example``, with the names in ``named``, {name: Parameter}, by default structural ones.

    Attributes
    ----------
    nodes : list of Node
        Inputs before their consumers.
    outputs : list of (Node, int)
        What the network returns.
    symbol : mx.sym.Symbol
    input_shapes : dict
        {input name: shape}.
    parameter_names : dict
        {name in the graph: structural name}.

    Raises ``NetworkError`` when the network cannot be traced, ``ValueError`` when the example does not fit.
    """

    def __init__(self, net, example, named=None):
        inputs = example_inputs(example)
        self._read(net, inputs, [value.shape for value in inputs], named)

    @classmethod
    def of_shapes(cls, net, input_shapes, named=None):
        """The same for inputs of these shapes, of which no example is at hand."""
        graph = cls.__new__(cls)
        graph._read(net, len(input_shapes), input_shapes, named)
        return graph

    def _read(self, net, inputs, input_shapes, named):
        graph = trace(net, inputs)
        shapes = graph.shapes(input_shapes)
        named = parameters(net) if named is None else named
        structural = {id(parameter): name for name, parameter in named.items()}
        self.symbol = graph.symbol
        read = graph.symbol.list_inputs()  # an input that nothing reads is not among them
        self.input_shapes = {name: shape for name, shape in zip(graph.inputs, input_shapes) if name in read}
        self.parameter_names = {name: structural[id(parameter)] for name, parameter in graph.parameters.items()}
        content = graph.content()
        self.nodes = []
        for entry in content["nodes"]:
            parameter = self.parameter_names.get(entry["name"])
            node = Node(entry["name"], entry["op"], entry.get("attrs", {}), shapes[entry["name"]], parameter,
                        parameter is not None and isinstance(graph.parameters[entry["name"]], Constant))
            node.inputs = [(self.nodes[index], output) for index, output, *_ in entry["inputs"]]
            self.nodes.append(node)
        self.outputs = [(self.nodes[index], output) for index, output, *_ in content["heads"]]

    def producers(self):
        """The nodes that make channels with a weight of the network: convolutions, dense layers, embeddings."""
        return [node for node in self.nodes
                if node.operator in PRODUCERS and node.inputs[1][0].parameter is not None]


def consumers(outputs):
    """{(node, output): [nodes that read it]} of the graph that ends in ``outputs``; a node once for each reading."""
    found = {}
    for node in in_order(outputs):
        for source in node.inputs:
            found.setdefault(source, []).append(node)
    return found


def in_order(outputs):
    """The nodes that ``outputs``, a list of (Node, int), depend on, each after its inputs."""
    ordered, stack, seen = [], [(node, False) for node, _ in reversed(outputs)], set()
    while stack:
        node, ready = stack.pop()
        if ready:
            ordered.append(node)
        elif id(node) not in seen:
            seen.add(id(node))
            stack.append((node, True))
            stack.extend((source, False) for source, _ in reversed(node.inputs) if id(source) not in seen)
    return ordered


def symbol_of(outputs):
    """The ``mx.sym.Symbol`` of rewritten nodes."""
    return mx.sym.load_json(json.dumps(content_of(outputs)))


def content_of(outputs):
    """What :func:`symbol_of` loads, as MXNet writes it to JSON."""
    nodes = in_order(outputs)
    index = {id(node): number for number, node in enumerate(nodes)}
    entries = []
    for node in nodes:
        entry = {"op": node.operator, "name": node.name, "attrs": dict(node.attributes),
                 "inputs": [[index[id(source)], output, 0] for source, output in node.inputs]}
        if node.subgraph:
            entry["subgraphs"] = [content_of(node.subgraph)]
        entries.append(entry)
    return {"nodes": entries, "arg_nodes": [number for number, node in enumerate(nodes) if node.operator == "null"],
            "node_row_ptr": list(range(len(nodes) + 1)),
            "heads": [[index[id(node)], output, 0] for node, output in outputs],
            "attrs": {"mxnet_version": ["int", MXNET_VERSION]}}
