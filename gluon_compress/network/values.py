"""The parameters of a network by structural names (``conv.0.weight``), their values, and copies to go back to."""
from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

import mxnet as mx
import numpy as np
from mxnet import autograd
from mxnet.gluon import Block, HybridBlock, Parameter, SymbolBlock

from ..arguments import shown
from ..errors import NetworkError
from .ctrl_c import undisturbed
from .interface import CLASSIC, NUMPY, Interface, active_interface, interface_of_array, is_numpy


def parameters(net: Any) -> dict[str, Parameter]:
    """{structural name: Parameter} of every parameter; a shared one under its first name only.

    Raises ``TypeError`` for anything that is not a Block.
    """
    if not isinstance(net, Block):
        raise TypeError(f"net is {shown(net)}; accepted: a gluon.HybridBlock")
    found, seen = {}, set()
    for name, parameter, _ in walk(net):
        if id(parameter) not in seen:
            seen.add(id(parameter))
            found[name] = parameter
    return found


def interface_of(net: Block) -> Interface:
    """MXNet's interface that a network belongs to; the active one while no parameter holds data.

    It is that of the first layer. A SymbolBlock counts where there are no layers: it has a graph of either interface,
    and arrays of either.
    """
    of_graph = None
    for _, parameter, block in walk(net):
        if not isinstance(block, SymbolBlock) and has_values(parameter):
            return interface_of_parameter(parameter)
        if isinstance(block, SymbolBlock) and of_graph is None:
            of_graph = NUMPY if is_numpy(block._cached_graph[1]) else interface_of_parameter(parameter)
    return of_graph or active_interface()


def check_one_interface(net: Block) -> None:
    """Raise ``NetworkError`` when some layers belong to one interface of MXNet and some to the other."""
    names: dict[Interface, str] = {}
    for name, parameter, block in walk(net):
        if not isinstance(block, SymbolBlock) and has_values(parameter):
            names.setdefault(interface_of_parameter(parameter), name)
    if len(names) > 1:
        raise NetworkError(f"parameter {names[NUMPY]} is an mx.np array and {names[CLASSIC]} an mx.nd array; accepted: "
                           f"a network that is initialized all under npx.set_np(), or all without it")


def interface_of_parameter(parameter: Parameter) -> Interface:
    """The interface of a parameter's arrays; the active one while it holds no data."""
    return interface_of_array(parameter.list_data()[0]) if has_values(parameter) else active_interface()


def initialize_in(interface: Interface, net: HybridBlock, initializer: Any, context: mx.Context) -> None:
    """``net.initialize(initializer, context)`` of known shapes, with the same numbers in both interfaces."""
    with CLASSIC.active():  # MXNet's generators give each interface other numbers
        net.initialize(initializer, ctx=context)
    with interface.active():
        for parameter in parameters(net).values():
            parameter._init_impl(interface.own(parameter.data()), [context])


def layer_name(parameter_name: str) -> str:
    """``conv.0`` of ``conv.0.weight``; ``conv0`` of a SymbolBlock's ``conv0_weight``."""
    return parameter_name.removesuffix(".weight").removesuffix("_weight")


def known_shape(parameter: Parameter) -> tuple[int, ...] | None:
    """Its shape, with 0 or -1 for unknown sizes; None when nothing is known."""
    # parameter.shape is None after SymbolBlock.imports
    return parameter.shape if parameter._data is None else parameter.list_data()[0].shape


def has_values(parameter: Parameter) -> bool:
    """Whether a parameter is initialized and knows its shape."""
    return parameter._data is not None


def take_values(parameter: Parameter, value: np.ndarray, context: mx.Context | None = None) -> None:
    """Give a parameter its values, initialized or not, on ``context`` when given, else where it is or the CPU."""
    waits = parameter._deferred_init  # until it knows its shape
    if context is not None and (has_values(parameter) or waits):
        parameter.reset_ctx(context)
    if has_values(parameter):
        set_values(parameter, value)
    else:
        interface = active_interface()
        parameter._load_init(interface.array(value, dtype=parameter.dtype), None if waits else context or mx.cpu())


def value_of(parameter: Parameter) -> np.ndarray:
    """A copy of its values on its first device.

    ``parameter.data().asnumpy()`` may end in a segmentation fault: the first forward pass to train after one that was
    not, or the other way round, lays the weights of convolutions and dense layers out anew once it runs, in the same
    memory, and MXNet 1.9.1 reads them meanwhile. It makes copies in turn with all that runs.
    """
    with autograd.pause():  # a copy would be on the tape
        return parameter.list_data()[0].copy().asnumpy()


def snapshot(net: HybridBlock) -> dict[str, np.ndarray]:
    """A copy of all parameters that hold data: {structural name: NumPy array}."""
    return {name: value_of(parameter) for name, parameter in parameters(net).items()
            if parameter._data is not None}


def restore_snapshot(net: HybridBlock, values: Any) -> None:
    """Set the parameters of a :func:`snapshot`.

    Raises ``TypeError`` or ``ValueError`` for anything but a snapshot of this network; ``net`` is then unchanged, as it
    is after Ctrl-C.
    """
    own = parameters(net)
    if not isinstance(values, Mapping):
        raise TypeError(f"values is {shown(values)}; accepted: what snapshot(net) returned")
    for name, value in values.items():
        shape = known_shape(own[name]) if name in own else None
        if not isinstance(value, np.ndarray) or shape is not None and shape != value.shape:
            raise ValueError(f"values[{name!r}] is {shown(value)}, and the parameter has shape {shape}; accepted: what "
                             f"snapshot(net) returned")
        if name not in own:
            raise ValueError(f"values has {name!r}, and the network no such parameter; accepted: what snapshot(net) "
                             f"returned")
    before = {name: value_of(own[name]) for name in values if own[name]._data is not None}
    try:
        for name, value in values.items():
            set_values(own[name], value)
    except BaseException:  # Ctrl-C, too: not half of one network and half of another
        with undisturbed():
            for name, value in before.items():
                write_values(own[name], value)
        raise


def set_values(parameter: Parameter, value: np.ndarray) -> None:
    """``parameter.set_data`` of an array, which fails on weights that oneDNN has laid out anew.

    A trainer that updates on a key-value store starts afresh there. Raises ``NetworkError`` when servers hold the
    parameter.
    """
    if parameter._data is None:
        parameter.set_data(active_interface().array(value))  # kept until the parameter knows its shape
    else:
        leave_store(parameter)
        write_values(parameter, value)


def set_values_and_shape(parameter: Parameter, value: np.ndarray) -> None:
    """:func:`set_values`, at once also for a parameter that waits for a first forward pass to know its shape."""
    set_values(parameter, value)
    parameter._finish_deferred_init()


def write_values(parameter: Parameter, value: np.ndarray) -> None:
    """Write an array into the parameter's own arrays, but not into the copy that a key-value store may hold."""
    with autograd.pause():  # MXNet refuses to write into arrays on its tape
        for array in parameter.list_data():
            # not array[:] = value, which MXNet refuses for an array in one of oneDNN's layouts
            mx.nd.identity(mx.nd.array(value, array.context, array.dtype), out=CLASSIC.own(array))


def leave_store(parameter: Parameter) -> None:
    """Let a trainer whose key-value store holds a copy of the parameter make a new one at its next step."""
    trainer = parameter._trainer
    if not has_begun(trainer) or not trainer._update_on_kvstore:
        return
    if trainer._distributed:
        raise NetworkError(f"parameter {parameter.name} is on servers, which cannot be told: change it before the "
                           f"first step, or prune with MaskedTrainer and a GradualPruner or replace_masks")
    trainer._reset_kvstore()


def has_begun(trainer: Any) -> bool:
    """Whether a trainer, or None, has made its key-value store; one whose making failed half-way never does."""
    return getattr(trainer, "_kv_initialized", False)


def walk(block: Block, prefix: str = "") -> Iterator[tuple[str, Parameter, Block]]:
    """(structural name, parameter, owner) of ``block`` and all its children."""
    for name, parameter in block._reg_params.items():
        yield prefix + name, parameter, block
    for name, child in block._children.items():
        yield from walk(child, f"{prefix}{name}.")
