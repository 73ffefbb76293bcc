"""The SHA-256 of what a network computes, by which a file recognizes the network it belongs to."""
from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Sequence

from mxnet.gluon import HybridBlock

from ..errors import NetworkError
from ..files.digests import add_array
from .data import input_counts
from .graph import Graph
from .nodes import in_order
from .values import parameters, value_of


def digest_of(net: HybridBlock) -> str:
    """SHA-256 of what a network computes: its operators, how they are joined, and its parameters.

    Names are not part of it, as Gluon numbers them from network to network. Raises ``NetworkError`` for a network that
    is not initialized or cannot be traced.
    """
    number, _ = input_counts(net)
    try:
        graph = Graph(net, number)
    except NetworkError:
        if number == 1:
            raise
        return _digest_without_graph(net)  # an input may be a list, of a length that only a batch tells
    digest = hashlib.sha256(json.dumps(_description(graph.nodes, graph.outputs), sort_keys=True).encode())
    for name, parameter in sorted((graph.parameter_names[name], parameter)
                                  for name, parameter in graph.parameters.items()):
        add_array(digest, name, value_of(parameter))
    return digest.hexdigest()


def _digest_without_graph(net: HybridBlock) -> str:
    digest = hashlib.sha256(repr(net).encode())
    for name, parameter in sorted(parameters(net).items()):
        add_array(digest, name, value_of(parameter))
    return digest.hexdigest()


def _description(nodes: Sequence, outputs: Iterable) -> list:
    """A graph as JSON: what each node computes of which others, and which are put out; the same for the body of a loop.

    Names of operators are not in it.
    """
    index = {node: number for number, node in enumerate(nodes)}

    def numbered(entries: Iterable) -> list:
        return [[index[node], output] for node, output in entries]
    return [[[node.operator, node.parameter, numbered(node.inputs), node.settings,
              [_description(in_order(inner), inner) for inner in node.subgraphs] or None] for node in nodes],
            numbered(outputs)]
