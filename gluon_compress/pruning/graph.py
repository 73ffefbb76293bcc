"""The operators of a network and who reads them, for following channels through it."""
from dataclasses import dataclass, field

from ..network import parameters
from ..symbol_graph import example_inputs, trace


@dataclass
class Node:
    """One operator, input or parameter of the graph.

    Attributes
    ----------
    operator : str
        MXNet's name (``Convolution``); "null" for inputs and parameters.
    inputs, consumers : list of Node
        What it reads, and the operators that read an output of it.
    shape : tuple
        Of its first output, for the example.
    parameter : str or None
        Structural name, when the node is a parameter of the network.
    """

    name: str
    operator: str
    attributes: dict
    shape: tuple
    parameter: str = None
    is_output: bool = False
    inputs: list = field(default_factory=list, repr=False)
    consumers: list = field(default_factory=list, repr=False)


def read_graph(net, example):
    """The graph of ``net`` on ``example`` as a list of :class:`Node`, inputs before their consumers.

    Raises ``NetworkError`` when the network cannot be traced, ``ValueError`` when the example does not fit.
    """
    inputs = example_inputs(example)
    graph = trace(net, len(inputs))
    shapes = graph.shapes([value.shape for value in inputs])
    structural = {id(parameter): name for name, parameter in parameters(net).items()}
    names = {name: structural[id(parameter)] for name, parameter in graph.parameters.items()}
    entries = graph.nodes()
    nodes = [Node(entry["name"], entry["op"], entry.get("attrs", {}), shapes[entry["name"]][0],
                  names.get(entry["name"])) for entry in entries]
    for node, entry in zip(nodes, entries):
        node.inputs = [nodes[index] for index, *_ in entry["inputs"]]
        for source in node.inputs:
            source.consumers.append(node)
    for index in graph.output_nodes():
        nodes[index].is_output = True
    return nodes
