"""Weights that a network puts together from its parameters, moving their elements only.

gluonnlp's BERT, for one, has the weights of queries, keys and values as three parameters, which it interleaves, head by
head, before it multiplies with them.
"""
from __future__ import annotations

import mxnet as mx
import numpy as np
from mxnet.gluon import SymbolBlock

from ...network.nodes import Entry, Node, in_order, symbol_of

MOST = 1 << 24  # elements: float32 holds their numbers


class Moved:
    """A tensor that consists of the elements of some parameters, each of them once.

    Attributes
    ----------
    nodes : list of Node
        The operators that move them, each after its inputs; empty when it is no such tensor.
    """

    def __init__(self, entry: Entry) -> None:
        nodes = in_order([entry])
        self._sources = [node for node in nodes if node.operator == "null"]
        self.nodes = [node for node in nodes if node.operator != "null"]
        known = all(node.parameter is not None and not node.constant for node in self._sources)
        if not known or not all(node.meaning.moves for node in self.nodes) or not self._number(entry):
            self.nodes = []

    @property
    def parameters(self) -> list[str]:
        """Structural names."""
        return [str(node.parameter) for node in self._sources] if self.nodes else []

    def _number(self, entry: Entry) -> bool:
        """Find out which element goes where; False unless each goes to one place."""
        sizes = [int(np.prod(node.shapes[0])) for node in self._sources]
        self._ends = np.cumsum(sizes)
        if self._ends[-1] > MOST:
            return False
        numbers = [mx.nd.arange(end - size, end).reshape(node.shapes[0])
                   for node, size, end in zip(self._sources, sizes, self._ends)]
        block = SymbolBlock(symbol_of([entry]), [mx.sym.var(node.name) for node in self._sources])
        self._elements = block(*numbers).asnumpy().astype(np.int64)
        return self._elements.size == self._ends[-1]

    def along(self, axis: int) -> dict[str, tuple[int, np.ndarray]]:
        """{parameter: (its axis, the position on ``axis`` of each of its positions there)}; empty without one."""
        rows = _rows(self._elements, axis)
        where = np.empty(rows.size, np.int64)
        where[rows.ravel()] = np.repeat(np.arange(len(rows)), rows.shape[1])
        found = {}
        for node, end in zip(self._sources, self._ends):
            positions = where[end - int(np.prod(node.shapes[0])):end].reshape(node.shapes[0])
            axes = [own for own in range(positions.ndim) if _only_along(positions, own)]
            if not axes:
                return {}
            found[str(node.parameter)] = axes[0], _rows(positions, axes[0])[:, 0]
        return found

    def readers(self, parameter: str) -> list[tuple[Node, int]]:
        """(operator, which of its inputs) that read a parameter."""
        return [(node, index) for node in self.nodes for index, (source, _) in enumerate(node.inputs)
                if source.parameter == parameter]


def _rows(array: np.ndarray, axis: int) -> np.ndarray:
    """What lies at each position of an axis."""
    return np.moveaxis(array, axis, 0).reshape(array.shape[axis], -1)


def _only_along(positions: np.ndarray, axis: int) -> bool:
    """Whether they differ along that axis, and nowhere else."""
    rows = _rows(positions, axis)
    return len(rows) > 1 and bool((rows == rows[:, :1]).all())
