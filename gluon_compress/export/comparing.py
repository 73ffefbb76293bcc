"""Whether two forms of a network compute the same."""
from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import mxnet as mx
import numpy as np
from mxnet import autograd
from mxnet.gluon import HybridBlock

from ..errors import NetworkError
from ..network.blocks import GraphBlock, give_values, tensors_of
from ..network.graph import Graph
from ..network.misfits import shorten
from ..network.nodes import Node, edited


def check_close(expected: np.ndarray, found: np.ndarray, what: str, tolerance: float | None = None) -> None:
    """Within a thousandth of the largest output: rounding differs, and single values may be near zero."""
    if tolerance is None:
        tolerance = 1e-2 if expected.dtype == np.float16 else 1e-3
    if expected.shape != found.shape:
        raise NetworkError(f"{what} gives an output of shape {found.shape}, the network {expected.shape}")
    if not np.isfinite(expected).all():
        raise NetworkError("an output of the network is not finite on this example, so the file cannot be checked; "
                           "look for NaN in the example and the weights")
    if not np.isfinite(found).all():
        raise NetworkError(f"{what} gives values that are not finite where the network gives numbers; look for NaN, "
                           f"infinity and a negative running_var in the weights and the example (MXNet's relu makes 0 "
                           f"of NaN, other engines do not)")
    scale = np.abs(expected).max()
    difference = np.abs(expected.astype(np.float64) - found).max()
    if not difference <= tolerance * scale + 1e-6:  # also when it is NaN
        raise NetworkError(f"{what} computes something else than the network: an output differs by "
                           f"{difference:.3g}, where the largest is {scale:.3g}")


def runnable(graph: Graph, inputs: Sequence[mx.nd.NDArray], values: Mapping[str, np.ndarray] | None = None,
             dtype: Any = None, symbol: mx.sym.Symbol | None = None) -> GraphBlock:
    """The graph as a network of its own on the CPU, apart from the network and its compiled form.

    ``values`` replace parameters of these names; ``dtype`` replaces the type of the inputs and parameters that have
    floating-point numbers; ``symbol`` is another graph of the same inputs and parameters.
    """
    def own(array: Any) -> Any:
        return array.dtype if dtype is None or np.dtype(array.dtype).kind != "f" else dtype
    symbol = graph.symbol if symbol is None else symbol
    if dtype is not None:
        symbol = edited(symbol, _forget_type)
    block = GraphBlock(symbol, [mx.sym.var(name, dtype=own(value)) for name, value in zip(graph.inputs, inputs)])
    for name, value in graph.values().items():
        array = (values or {}).get(name, value.asnumpy())
        give_values(block.params[name], array.astype(own(array)), mx.cpu())
    return block


def _forget_type(node: Node) -> None:
    node.attributes.pop("__dtype__", None)


def run_graph(graph: Graph, inputs: Sequence[mx.nd.NDArray], symbol: mx.sym.Symbol | None = None) -> list[np.ndarray]:
    """Outputs of the graph as NumPy arrays; ``symbol`` is another graph that is run instead."""
    return run_block(runnable(graph, inputs, symbol=symbol), inputs)


def run_block(block: HybridBlock, inputs: Sequence[mx.nd.NDArray]) -> list[np.ndarray]:
    """Outputs of a network in inference as NumPy arrays; ``NetworkError`` where it cannot run on the CPU."""
    try:
        with autograd.pause(train_mode=False):
            return tensors_of(block, [value.as_in_context(mx.cpu()) for value in inputs])
    except mx.MXNetError as error:
        raise NetworkError(f"the network cannot be run on the CPU, so the file cannot be checked: "
                           f"{shorten(error)}") from error


def check_inputs_used(graph: Graph) -> None:
    """``NetworkError`` for inputs that change no output: a file would not have them."""
    unused = [name for name in graph.inputs if name not in graph.symbol.list_inputs()]
    if unused:
        raise NetworkError(f"input {', '.join(unused)} does not reach an output, so it cannot be exported")
