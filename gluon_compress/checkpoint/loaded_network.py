"""The network of a graph that came in a file."""
from __future__ import annotations

import math
from typing import Any

import mxnet as mx

from ..files.schema import Malformed
from ..network.blocks import GraphBlock, inputs_and_symbol
from ..network.nodes import nodes_of
from ..network.values import has_values
from .shape_check import check_shapes

# All tensors of a forward pass together may have this many numbers, and as many times those of inputs and parameters:
# ResNet-50 has 200 times those of an image.
MOST_NUMBERS, MOST_TIMES = 1 << 28, 1000
REMEMBERED = 100  # shapes


class LoadedNetwork(GraphBlock):
    """A SymbolBlock that infers the shapes that new input shapes lead to before it computes.

    A small file could otherwise use up all memory in the first forward pass, by padding or repeating its input.
    Calls raise ``ValueError`` for inputs whose shapes do not fit the graph, or grow too large in it.
    """

    def __init__(self, outputs: mx.sym.Symbol, inputs: list[mx.sym.Symbol], found: Any = None) -> None:
        super().__init__(outputs, inputs)
        self.found = found  # what the file was, for networks of other formats than ours
        self._unfused = outputs  # the graph before MXNet fuses operators in it, whose shapes are known
        # (symbol, shapes of inputs) that passed
        self._fitting: list[tuple[mx.sym.Symbol, list[tuple[int, ...]]]] = []

    def __repr__(self) -> str:
        text = super().__repr__()
        return text if self.found is None else f"{text}\n{self.found.line()}"

    def hybridize(self, *args: Any, **kwargs: Any) -> None:
        """As a SymbolBlock's; ``optimize_for`` calls it."""
        self._unfused = self._unfused_now()
        super().hybridize(*args, **kwargs)

    def forward(self, x: Any, *args: Any) -> Any:
        """As a SymbolBlock's."""
        if isinstance(x, mx.nd.NDArray):
            self._check((x, *args))
        return super().forward(x, *args)

    def _check(self, values: tuple[Any, ...]) -> None:
        inputs, symbol = inputs_and_symbol(self)
        shapes = [value.shape for value in values if isinstance(value, mx.nd.NDArray)]
        if len(shapes) != len(inputs) or any(symbol is one and shapes == other for one, other in self._fitting):
            return  # the SymbolBlock itself reports too few or too many inputs
        known = {parameter.name: parameter.list_data()[0].shape for parameter in self.collect_params().values()
                 if has_values(parameter)}
        known.update(zip((each.name for each in inputs), shapes))
        try:
            check_shapes(self._unfused_now(), known, MOST_NUMBERS + MOST_TIMES * sum(map(math.prod, known.values())))
        except Malformed as error:
            given = ", ".join(map(str, shapes))
            raise ValueError(f"inputs of shape {given} do not fit the network: {error}") from error
        self._fitting = [*self._fitting[1 - REMEMBERED:], (symbol, shapes)]

    def _unfused_now(self) -> mx.sym.Symbol:
        """The graph as it is, or as it was before MXNet fused operators."""
        symbol = inputs_and_symbol(self)[1]
        return self._unfused if any(node.is_fused for node in nodes_of(symbol)[0]) else symbol
