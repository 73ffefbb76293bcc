"""The graph of a network in a compressed file: how it is written, and what is built of it."""
from __future__ import annotations

import warnings
from collections.abc import Mapping
from typing import Any

import mxnet as mx
import numpy as np
from mxnet.gluon import HybridBlock

from ..errors import NetworkError
from ..files.schema import SHAPE, Malformed, choice, either, fields, list_of, mapping, text
from ..network.blocks import give_values, number_of_inputs
from ..network.graph import Graph
from ..network.inputs import example_inputs
from ..network.nodes import Node, edited_text
from .codec import TYPES, Layout, Tensors, all_parts, decode
from .loaded_network import LoadedNetwork
from .shape_check import check_shapes, check_types
from .symbol_check import LONGEST_SYMBOL, checked_content, symbol_of_text

MOST_INPUTS = 1000

STORED_GRAPH = either(
    fields({"missing": text(1_000_000)}),
    fields({"symbol": text(LONGEST_SYMBOL), "inputs": list_of(text(), least=1, most=MOST_INPUTS),
            "dtype": choice(*TYPES)}, {"names": mapping(text()), "shapes": mapping(SHAPE)}))


def graph_of_network(net: HybridBlock, example: Any) -> dict[str, Any]:
    """The network's symbol and the names of its parameters in it, or the reason why it cannot be stored.

    If it cannot, the caller of :func:`save` is warned.
    """
    inputs = number_of_inputs(net) if example is None else example_inputs(example)
    try:
        graph = Graph(net, inputs)
        checked_content(graph.symbol.tojson())  # or load would refuse it
    except (NetworkError, Malformed) as error:
        warnings.warn(f"the file holds no graph, so that load will need the network: {error}", stacklevel=4)
        return {"missing": str(error)}
    return {"symbol": graph.symbol.tojson(), "inputs": graph.inputs,
            "dtype": next((np.dtype(parameter.dtype).name for parameter in graph.parameters.values()), "float32"),
            "names": graph.parameter_names}


def graph_of_original(graph: Graph) -> dict[str, Any]:
    """What a file keeps of a :class:`Graph`: structural names, but no parameter shapes, which the layouts hold.

    :func:`original_graph` is the inverse.
    """
    def edit(node: Node) -> None:
        if node.operator == "null":
            node.attributes, node.name = {}, graph.parameter_names.get(node.name, node.name)
    return {"symbol": edited_text(graph.symbol, edit), "inputs": list(graph.input_shapes), "dtype": "float32",
            "shapes": graph.input_shapes}


def original_graph(stored: dict[str, Any], layouts: Mapping[str, Layout], tensors: Tensors) -> Graph:
    """The :class:`Graph` of the original network; its values are not kept in memory."""
    if stored.get("shapes", {}).keys() != set(stored["inputs"]):
        raise Malformed("the graph has inputs without a shape")
    block = symbol_block(stored, layouts, tensors, mx.cpu(), trainable=False)
    try:  # not structural names: a SymbolBlock's lack the prefix common to all of its parameters
        graph = Graph(block, len(stored["inputs"]), named=dict(block.collect_params().items()))
    except NetworkError as error:
        raise Malformed(str(error)) from error
    graph.infer_shapes(tuple(stored["shapes"][name]) for name in stored["inputs"])
    return graph


def symbol_block(stored: dict[str, Any], layouts: Mapping[str, Layout], tensors: Tensors, ctx: mx.Context,
                 trainable: bool = True) -> LoadedNetwork:
    """A SymbolBlock of the graph in the file; names, shapes and types of its parameters are checked first.

    The values of the parameters are taken out of ``tensors``. Their structural names are those in the file.
    """
    symbol = symbol_of_text(stored["symbol"])
    names = {name: stored["names"].get(name) if "names" in stored else name
             for name in symbol.list_inputs() if name not in stored["inputs"]}
    for name, parameter in names.items():
        if parameter not in layouts:
            raise Malformed(f"the graph reads {name!r}, which is neither one of its inputs nor a parameter in the file")
    if len(set(names.values())) < len(names):
        raise Malformed("two parameters of the graph are one parameter in the file")
    check_shapes(symbol, {**stored.get("shapes", {}),
                          **{name: layouts[parameter]["shape"] for name, parameter in names.items()}})
    check_types(symbol, {**dict.fromkeys(stored["inputs"], stored["dtype"]),
                         **{name: layouts[parameter]["dtype"] for name, parameter in names.items()}})
    net = LoadedNetwork(symbol, [mx.sym.var(name, dtype=stored["dtype"]) for name in stored["inputs"]])
    for name, parameter in net.collect_params().items():
        with net.interface.active():
            give_values(parameter, take(names[name], layouts, tensors), ctx, trainable)
    if "names" in stored:
        net.give_structural_names(names)  # those of the network that was saved, which its records have
    return net


def take(name: str, layouts: Mapping[str, Layout], tensors: Tensors) -> np.ndarray:
    """The values of a parameter; its tensors are removed from ``tensors``, so that their memory can be reused."""
    value = decode(name, layouts[name], tensors)
    for part in all_parts():
        tensors.pop(f"{name}/{part}", None)
    return value
