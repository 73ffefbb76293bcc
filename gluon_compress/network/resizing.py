"""Giving a network's layers new sizes in place, and putting the old ones back.

A Gluon layer knows its number of channels three times: in its parameters' shapes, in attributes that its
operator is called with (``num_filter``), and in those that it prints. A SymbolBlock has them in its graph.
"""
from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import mxnet as mx
import numpy as np
from mxnet.gluon import Block, HybridBlock, SymbolBlock, Trainer, nn

from ..errors import NetworkError
from .ctrl_c import undisturbed
from .nodes import Node, edited
from .numbers import Origin, change_numbers
from .operators import OPERATORS
from .trainer import check_shapes
from .values import has_begun, interface_of_parameter, parameters, walk

SIZES = ("_units", "_in_units", "_channels", "_in_channels", "_num_groups", "_kwargs", "_cached_graph")
EMPTY: Mapping[Origin, int] = {}
RESIZABLE = ((nn.Dense, "weight"), (nn.conv_layers._Conv, "weight"), (nn.Embedding, "weight"), (nn.GroupNorm, "gamma"))


def resizable_parameters(net: HybridBlock) -> set[str]:
    """Structural names of the weights, and of GroupNorm's gammas, whose owners can all take new sizes."""
    owners: dict[int, list[tuple[str, Block]]] = {}
    for name, parameter, block in walk(net):
        owners.setdefault(id(parameter), []).append((name.rpartition(".")[2], block))
    return {name for name, parameter in parameters(net).items()
            if all(_can_be_told(role, block) for role, block in owners[id(parameter)])}


def _can_be_told(role: str, block: Block) -> bool:
    """Whether the operator takes its sizes from attributes of ``block``, not from a user's hybrid_forward."""
    return isinstance(block, SymbolBlock) or any(
        role == name and isinstance(block, layer) and type(block).hybrid_forward is layer.hybrid_forward
        for layer, name in RESIZABLE)


def resize(net: HybridBlock, shapes: Mapping[str, tuple[int, ...]], values: Mapping[str, np.ndarray],
           groups: Mapping[str, int], numbers: Mapping[Origin, int] = EMPTY) -> None:
    """Give parameters new shapes and values, and update their layers.

    Parameters
    ----------
    shapes, values : dict
        {structural name: new shape}, {structural name: NumPy array} where the network has values.
    groups : dict
        {structural name of a weight: number of groups} where that changes.
    numbers : dict
        {origin: new number}, see numbers.py.

    Everything must have been checked before. If MXNet fails half-way, the network is as it was.
    """
    state = capture(net)
    try:
        named = parameters(net)
        for name, shape in shapes.items():
            named[name]._shape = tuple(shape)
            named[name]._var = None  # the symbol in which Gluon keeps the shape; it is made again when needed
        for name, value in values.items():
            interface = interface_of_parameter(named[name])
            with interface.active():  # in which Gluon makes the gradients
                named[name]._init_impl(interface.array(value), named[name].list_ctx())
        _tell_layers(net, shapes, groups)
        change_numbers(net, numbers)
        net.apply(lambda block: block._clear_cached_op())
    except BaseException:  # after Ctrl-C, too, the network is as it was
        put_back(net, state)
        raise
    for trainer in {id(named[name]._trainer): named[name]._trainer for name in shapes}.values():
        if isinstance(trainer, Trainer) and has_begun(trainer):
            _check_at_next_step(trainer)


def _check_at_next_step(trainer: Trainer) -> None:
    """Let a trainer that was made earlier say what is wrong, where MXNet would only report differing numbers."""
    def update(ignore_stale_grad: bool = False) -> Any:
        try:
            check_shapes(trainer)
        except ValueError as error:
            raise NetworkError(str(error)) from None
        del trainer._update  # its shapes are those of before
        return trainer._update(ignore_stale_grad)
    trainer._update = update


def resized_symbol(symbol: mx.sym.Symbol, shapes: Mapping[str, tuple[int, ...]],
                   groups: Mapping[str, int]) -> mx.sym.Symbol:
    """A copy of ``symbol`` for parameters of new shapes: ``shapes`` and ``groups`` go by the names in the graph."""
    def edit(node: Node) -> None:
        if node.operator == "null":
            if node.name in shapes:
                node.attributes.pop("__shape__", None)
            return
        weight = _name_of_weight(node)
        if weight is not None and weight in shapes:
            sizes = node.meaning.sizes(shapes[weight], groups.get(weight, node.groups))
            node.attributes.update({name: str(value) for name, value in sizes.items()})
    return edited(symbol, edit, amp_casts=True)


def _name_of_weight(node: Node) -> str | None:
    """Name of the weight of a layer, or its gamma, before the casts of mixed precision; None where it has neither."""
    source = node.weight or node.gamma
    while source is not None and source.operator == "amp_cast":
        source, _ = source.inputs[0]
    return None if source is None else source.name


def capture(net: HybridBlock) -> tuple[list, list]:
    """All that :func:`resize` changes, for :func:`put_back`; no array is copied."""
    blocks: list[Block] = []
    net.apply(blocks.append)
    sizes = [{name: dict(value) if name == "_kwargs" else value for name, value in vars(block).items()
              if name in SIZES or type(value) in (int, tuple)} for block in blocks]  # it may be a number of heads
    return ([(p, p._shape, p._data, p._grad) for p in parameters(net).values()], list(zip(blocks, sizes)))


@undisturbed()
def put_back(net: HybridBlock, state: tuple[list, list]) -> None:
    """Undo what happened to the sizes and arrays of ``net`` since ``state = capture(net)``."""
    arrays, blocks = state
    for parameter, shape, data, grad in arrays:
        parameter._shape, parameter._data, parameter._grad, parameter._var = shape, data, grad, None
    net.apply(lambda block: block._clear_cached_op())
    for block, sizes in blocks:
        for name, value in sizes.items():
            if name == "_kwargs":
                block._kwargs.clear()
                block._kwargs.update(value)
            elif name != "_cached_graph" or isinstance(block, SymbolBlock):
                setattr(block, name, value)


@contextmanager
def put_back_afterwards(net: HybridBlock) -> Iterator[HybridBlock]:
    """Channels may be removed from ``net`` within the ``with`` block; after the block, ``net`` has them again."""
    state = capture(net)
    try:
        yield net
    finally:
        try:
            mx.nd.waitall()  # what still runs, runs on the arrays of now
        finally:
            put_back(net, state)


def _tell_layers(net: HybridBlock, shapes: Mapping[str, tuple[int, ...]], groups: Mapping[str, int]) -> None:
    graph_names = {name: parameter.name for name, parameter in parameters(net).items()}
    by_graph_name = {graph_names[name]: tuple(shape) for name, shape in shapes.items()}
    groups_by_graph_name = {graph_names[name]: count for name, count in groups.items()}
    seen = set()
    for name, parameter, block in walk(net):
        if isinstance(block, SymbolBlock):
            if id(block) not in seen:
                seen.add(id(block))
                inputs, symbol = block._cached_graph
                block._cached_graph = inputs, resized_symbol(symbol, by_graph_name, groups_by_graph_name)
        elif parameter.name in by_graph_name:
            _tell_layer(block, name.rpartition(".")[2], by_graph_name[parameter.name],
                        groups_by_graph_name.get(parameter.name))


def _tell_layer(block: Block, role: str, shape: tuple[int, ...], groups: int | None) -> None:
    if isinstance(block, nn.Dense) and role == "weight":
        block._units, block._in_units = shape
    elif isinstance(block, nn.conv_layers._Conv) and role == "weight":
        groups = groups or block._kwargs["num_group"]
        operator = OPERATORS[block._op_name.capitalize()]  # in MXNet's NumPy interface its name is in lower case
        block._kwargs.update(operator.sizes(shape, groups))
        block._channels = block._kwargs["num_filter"]
        block._in_channels = shape[0] if operator.weight_channels == 1 else shape[1] * groups
    elif isinstance(block, nn.Embedding) and role == "weight":
        block._kwargs.update(OPERATORS["Embedding"].sizes(shape, 1))
    elif isinstance(block, nn.GroupNorm) and role == "gamma":
        block._num_groups = shape[0]
        block._kwargs["num_groups"] = block._num_groups
