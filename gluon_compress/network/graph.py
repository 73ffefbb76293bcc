"""The graph of a network: its operators, its inputs, the parameters it reads, the shapes in between."""
from __future__ import annotations

import re
import threading
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import suppress
from typing import Any

import mxnet as mx
import numpy as np
from mxnet.gluon import Constant, HybridBlock, Parameter, ParameterDict, SymbolBlock
from mxnet.gluon.block import _flatten
from mxnet.ndarray.ndarray import _DTYPE_NP_TO_MX

from ..errors import NetworkError
from .blocks import GraphBlock, composed
from .checks import check_ready
from .engine_network import EngineNetwork
from .inputs import example_inputs, flat, map_arrays
from .interface import CLASSIC, classic_graph, has_numpy_operators, is_known
from .misfits import called, misfit, reason_of, remedy_of_error, remedy_of_shapes, shorten
from .nodes import Node, edited, nodes_of, symbol_of
from .numpy_operators import FORMS, classic_form
from .values import parameters

LONGEST_ERROR = 450
TRACING = threading.RLock()  # a network keeps the scope of the names that Gluon gives in itself while it is traced
Shape = tuple[int, ...]


class Graph:
    """The graph of a ready network, which stays as it is.

    Attributes
    ----------
    symbol : mx.sym.Symbol
        Every operator has a name of its own, even where the network calls one layer twice. It belongs to the classic
        interface of MXNet, whichever the network belongs to.
    inputs : list of str
        ``data``, or ``data0``, ``data1``, ... as ``HybridBlock.export`` names them; a SymbolBlock's own.
    parameters : dict
        {name in the graph: gluon.Parameter} of the parameters that the graph reads.
    parameter_names : dict
        {name in the graph: structural name} of the same.
    nodes : list of Node
        Inputs before their consumers.
    outputs : list of (Node, int)
        What the network returns.
    input_shapes : dict
        {input name: shape} of those that the graph reads; empty until there is an example, as are the nodes' shapes.
    """

    def __init__(self, net: HybridBlock, inputs: Any = 1, further: Callable | None = None,
                 named: Mapping[str, Parameter] | None = None) -> None:
        """
        Parameters
        ----------
        net : HybridBlock
        inputs : int or example
            How many arrays the network is called with, or an example of them; see :func:`example_inputs`.
        further : callable, optional
            ``further(output)`` is called with the network's output, one Symbol for all of it, and gives the list of
            Symbols that the graph puts out after it.
        named : dict, optional
            {name: Parameter} of the names that the nodes have, by default structural ones.

        Raises
        ------
        TypeError
            When ``net`` is not a HybridBlock.
        NetworkError
            When it is not initialized, or cannot be called with Symbols.
        ValueError
            When the example does not fit the network.
        """
        example = None if isinstance(inputs, int) else example_inputs(inputs)
        check_ready(net)
        arrays = (None,) * inputs if example is None else example.nested
        self.inputs = input_names(net, len(flat(arrays)))
        self._arrays = arrays
        self._traced = symbol = self.trace(net)
        if further is not None:
            symbol = mx.sym.Group([symbol, *CLASSIC.own(further(symbol))])
        own = parameters(net)
        known = _by_gluon_name(own)
        self.parameters = {name: known[name] for name in symbol.list_inputs() if name in known}
        structural = {id(parameter): name for name, parameter in (own if named is None else named).items()}
        self.parameter_names = {name: structural[id(parameter)] for name, parameter in self.parameters.items()}
        self.symbol = _tidy(symbol, self.parameters)
        self._numpy_shapes = has_numpy_operators(self.symbol)
        self.nodes, self.outputs = nodes_of(self.symbol)
        for node in self.nodes:
            node.parameter = self.parameter_names.get(node.name)
            node.constant = isinstance(self.parameters.get(node.name), Constant)
        self.input_shapes: dict[str, Shape] = {}
        if example is not None:
            self.infer_shapes([value.shape for value in example])
            if any(node.operator in FORMS for node in self.nodes):
                self._write_classic(example)

    def trace(self, net: HybridBlock) -> mx.sym.Symbol:
        """What ``net`` computes of the same inputs as it is now, as Gluon names it; ``NetworkError`` if it cannot."""
        with TRACING:
            return _called(net, self.inputs, self._arrays)

    def nodes_as_traced(self) -> list[Node]:
        """The nodes of the first :meth:`trace`, as they were then, but by the names that they have now."""
        nodes, _ = nodes_of(self._traced)
        for node, now in zip(nodes, self.nodes):
            node.name = now.name
        return nodes

    def infer_shapes(self, input_shapes: Iterable[Shape]) -> None:
        """Set the shapes that the nodes have with such inputs; ``ValueError`` when these do not fit."""
        input_shapes = list(input_shapes)
        internals = self.symbol.get_internals()
        shapes: dict[str, list[Shape]] = {}
        for output, shape in zip(internals, self._infer(internals, input_shapes)):
            shapes.setdefault(output.name, []).append(shape)
        for node in self.nodes:
            node.shapes = shapes[node.name]
        read = set(self.symbol.list_inputs())  # an input that nothing reads is not among them
        self.input_shapes = {name: shape for name, shape in zip(self.inputs, input_shapes) if name in read}

    def output_shapes(self, input_shapes: Iterable[Shape]) -> list[Shape]:
        """Shape of each output of the network; ``ValueError`` when these inputs do not fit it."""
        return self._infer(self.symbol, list(input_shapes))

    def check_types(self, inputs: Iterable[mx.nd.NDArray], what: str) -> None:
        """Raise ``ValueError`` for inputs of types that an operator does not take, such as raw pixels of 8 bits."""
        try:
            self._infer_types(self.symbol, inputs)
        except mx.MXNetError as error:
            raise misfit(inputs, what, error) from None

    def producers(self) -> list[Node]:
        """The nodes that make channels with a weight of the network: convolutions, dense layers, embeddings."""
        return [node for node in self.nodes if node.kind is not None and node.layer is not None]

    def auxiliary(self) -> set[str]:
        """Names in the graph of the parameters that operators change by themselves: BatchNorm's statistics."""
        return set(self.symbol.list_auxiliary_states())

    def block(self, symbol: mx.sym.Symbol) -> GraphBlock:
        """A network of ``symbol``, another graph of the same inputs, with the network's own parameters."""
        shared = ParameterDict("")
        shared._params.update({parameter.name: parameter for parameter in self.parameters.values()})
        dtype = next((parameter.dtype for parameter in self.parameters.values()), np.float32)
        return GraphBlock(symbol, [mx.sym.var(name, dtype=dtype) for name in self.inputs], shared)

    def values(self) -> dict[str, mx.nd.NDArray]:
        """{name in the graph: NDArray on the CPU}, copies of the parameters."""
        return {name: CLASSIC.own(parameter.list_data()[0].copyto(mx.cpu()))
                for name, parameter in self.parameters.items()}

    def _write_classic(self, inputs: Sequence[mx.nd.NDArray]) -> None:
        """Write operators of MXNet's NumPy interface as classic ones, where these compute the same."""
        shapes = [value.shape for value in inputs]
        with suppress(ValueError):  # of one more sample, so that what has length one has it with other batches, too
            self.infer_shapes([(shape[0] + 1, *shape[1:]) for shape in shapes])
        internals = self.symbol.get_internals()
        types: dict[str, list] = {}
        for output, dtype in zip(internals, self._infer_types(internals, inputs)):
            types.setdefault(output.name, []).append(dtype)
        for node in self.nodes:
            form = classic_form(node, [*(types[source.name][output] for source, output in node.inputs),
                                       *types[node.name]])
            if form is not None:
                node.operator, attributes = form
                node.attributes = {name: str(value) for name, value in attributes.items()}
        self.symbol = symbol_of(self.outputs)
        self._numpy_shapes = has_numpy_operators(self.symbol)
        self.infer_shapes(shapes)

    def _infer_types(self, symbol: mx.sym.Symbol, inputs: Iterable[mx.nd.NDArray]) -> list:
        types = {name: parameter.list_data()[0].dtype for name, parameter in self.parameters.items()}
        types.update((name, value.dtype) for name, value in zip(self.inputs, inputs))
        known = set(symbol.list_inputs())
        with classic_graph(self._numpy_shapes):
            _, outputs, _ = symbol.infer_type_partial(**{name: types[name] for name in types if name in known})
        return outputs or []

    def _infer(self, symbol: mx.sym.Symbol, input_shapes: list[Shape]) -> list[Shape]:
        shapes = {name: parameter.list_data()[0].shape for name, parameter in self.parameters.items()}
        shapes.update(zip(self.inputs, input_shapes))
        known = set(symbol.list_inputs())
        text = ", ".join(map(str, input_shapes))
        try:
            with classic_graph(self._numpy_shapes):
                # the partial call, as infer_shape() prints all arguments before it raises
                _, outputs, _ = symbol.infer_shape_partial(**{name: shapes[name] for name in shapes if name in known})
                found = outputs is not None and all(map(is_known, outputs))
        except mx.MXNetError as error:
            raise ValueError(f"an example of shape {text} does not fit the network{remedy_of_shapes(input_shapes)}: "
                             f"{shorten(error)}"[:LONGEST_ERROR]) from None
        if not found:
            raise ValueError(f"the shapes inside the network do not follow from an example of shape {text}")
        return outputs


def input_names(net: HybridBlock | EngineNetwork, number: int) -> list[str]:
    """Names of so many inputs of a network in its graph: its own, if it has any, else "data", or "data0", "data1"..."""
    if isinstance(net, EngineNetwork):
        return [tensor.name for tensor in net.inputs]
    if not isinstance(net, SymbolBlock):
        return ["data"] if number == 1 else [f"data{index}" for index in range(number)]
    names = [symbol.name for symbol in net._cached_graph[0]]
    if len(names) != number:
        raise ValueError(f"the SymbolBlock has {len(names)} inputs ({', '.join(names)}), the example {number}")
    return names


def _called(net: HybridBlock, names: list[str], arrays: object) -> mx.sym.Symbol:
    """The Symbol of all outputs of a network that is called with variables of these names, nested as ``arrays`` are."""
    symbols = map(mx.sym.var, names)
    if isinstance(net, SymbolBlock) and type(net).forward is SymbolBlock.forward:
        return composed(net, symbols)  # Gluon cannot if it is of the NumPy interface
    try:
        outputs, _ = _flatten(called(net, map_arrays(lambda _: next(symbols), arrays)), "output")
    except Exception as error:  # whatever the user's hybrid_forward raises
        several = "" if remedy_of_error(error) else " (a network of several inputs wants a tuple of examples)"
        raise NetworkError(f"the network cannot be traced with {len(names)} symbolic input(s): {reason_of(error)}"
                           f"{several}") from error
    outputs = CLASSIC.own(outputs)
    return outputs[0] if len(outputs) == 1 else mx.sym.Group(outputs)


def _by_gluon_name(named: Mapping[str, Parameter]) -> dict[str, Parameter]:
    known: dict[str, Parameter] = {}
    for name, parameter in named.items():
        if known.setdefault(parameter.name, parameter) is not parameter:
            raise NetworkError(f"parameter {name} shares Gluon's name {parameter.name} with another one: "
                               f"make one of the two blocks with another prefix")
    return known


def _tidy(symbol: mx.sym.Symbol, used: Mapping[str, Parameter]) -> mx.sym.Symbol:
    """Give every operator its own name, and every parameter the shape and type it has now.

    A layer that is called twice makes two operators of one name; a parameter that was pruned or cast may
    keep those of its first trace.
    """
    taken, numpy_shapes = set(symbol.list_inputs()), has_numpy_operators(symbol)

    def edit(node: Node) -> None:
        if node.operator != "null":
            node.name = _free_name(node.name, taken)
            taken.add(node.name)
            if numpy_shapes and node.operator == "_zeros":  # a first state, with 0 for the size of a batch yet unknown
                node.attributes["shape"] = re.sub(r"\b0\b", "-1", node.attributes["shape"])
        elif node.name in used:
            parameter = used[node.name]
            node.attributes["__shape__"] = str(parameter.list_data()[0].shape)
            node.attributes["__dtype__"] = str(_DTYPE_NP_TO_MX[np.dtype(parameter.dtype).type])
    return edited(symbol, edit)


def _free_name(name: str, taken: set[str]) -> str:
    free, number = name, 1
    while free in taken:
        free, number = f"{name}_again{number}", number + 1
    return free
