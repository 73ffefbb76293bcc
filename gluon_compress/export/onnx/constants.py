"""What a graph computes of its parameters alone, which is the same for all data: MXNet computes it once."""
from __future__ import annotations

from collections.abc import Mapping

import mxnet as mx
import numpy as np

from ...network.interface import CLASSIC, classic_graph, has_numpy_operators
from ...network.nodes import Entry, Node, symbol_of
from .lengths import CODES, Graph, Samples

FILLED = ("_zeros", "_ones", "_full", "_npi_zeros", "_npi_ones", "_npi_full")  # with 0 for a length to be found out
RANDOM = ("_random_", "_sample_", "_npi_uniform", "_npi_normal", "Dropout", "sample_", "random_")


class Constants:
    """The values of parameters and of what follows from them alone."""

    def __init__(self, graph: Graph, values: Mapping[str, np.ndarray]) -> None:
        self._values, self._graph = values, graph
        self._computed: dict[Entry, np.ndarray] = {}
        self._nodes: set[Node] = set()
        for node in graph.nodes:
            if node.operator != "null" and self._is_constant(node):
                self._nodes.add(node)
        self._compute()

    def has(self, node: Node) -> bool:
        """Whether an operator's outputs are constants."""
        return node in self._nodes

    def value(self, entry: Entry) -> np.ndarray | None:
        if entry[0].operator == "null":
            return self._values.get(entry[0].name)
        return self._computed.get(entry)

    def _is_constant(self, node: Node) -> bool:
        if node.operator in CODES or node.subgraphs or node.operator.startswith(RANDOM):
            return False
        if node.operator in FILLED and any(length < 1 for length in _lengths_of(node)):
            return False
        if any(isinstance(length, Samples) for length in self._graph.tensor((node, 0)).lengths):
            return False
        return all(source in self._nodes or source.operator == "null" and source.name in self._values
                   for source, _ in node.inputs)

    def _compute(self) -> None:
        read = {entry: None for node in self._graph.nodes if node not in self._nodes for entry in node.inputs}
        read.update(dict.fromkeys(self._graph.outputs))
        wanted = [entry for entry in read if entry[0] in self._nodes]
        if not wanted:
            return
        symbol = symbol_of(wanted)
        with classic_graph(has_numpy_operators(symbol)):
            given, auxiliary = ({name: CLASSIC.array(self._values[name]) for name in names}
                                for names in (symbol.list_arguments(), symbol.list_auxiliary_states()))
            found = symbol.bind(mx.cpu(), given, grad_req="null", aux_states=auxiliary).forward(is_train=False)
            self._computed = {entry: value.asnumpy() for entry, value in zip(wanted, found)}


def _lengths_of(node: Node) -> tuple[int, ...]:
    shape = node.get("shape", ())
    return (shape,) if isinstance(shape, int) else tuple(shape or ())
