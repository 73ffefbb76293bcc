"""What every technique asks of a network: is it usable, which layers hold weights, which are meant.

Layers and parameters go by their **structural names**, the ones ``save_parameters`` writes
(``conv.0``, ``conv.0.weight``). Gluon's other names (``lenet0_conv0_weight``) count instances, so a
record made with them would not fit a fresh copy of the network.
"""
import difflib
import json
from collections.abc import Mapping
from contextlib import contextmanager
from dataclasses import dataclass

import mxnet as mx
import numpy as np
from mxnet.gluon import Block, HybridBlock, Parameter, SymbolBlock

from .arguments import shown
from .errors import NetworkError

__all__ = ["Layer", "layer_name", "layers", "parameters", "restore_snapshot", "select_layers", "snapshot"]

CONVOLUTIONS = ("Conv1D", "Conv2D", "Conv3D", "Conv1DTranspose", "Conv2DTranspose", "Conv3DTranspose")


@dataclass(frozen=True)
class Layer:
    """A layer with a weight, that is a parameter of at least two dimensions.

    Attributes
    ----------
    name : str
        Structural name, ``conv.0``.
    kind : str
        Gluon's name of the layer type, ``Conv2D`` or ``Dense``, for a class derived from it too; for a layer
        of yours its class name.
    parameter_name : str
        Structural name of the weight, ``conv.0.weight``.
    weight : gluon.Parameter
    block : HybridBlock
        Owner of the weight; for a layer of a SymbolBlock the whole SymbolBlock.
    layout : str or None
        That of a convolution's input, ``NCHW`` or ``NHWC``.
    """

    name: str
    kind: str
    parameter_name: str
    weight: Parameter
    block: HybridBlock
    layout: str = None

    def value(self):
        """The weight as a NumPy array; ``NetworkError`` naming the layer when it holds NaN or infinity."""
        value = self.weight.list_data()[0].asnumpy()
        if not np.isfinite(value).all():
            bad = value[~np.isfinite(value)]
            raise NetworkError(f"layer {self.name}: {bad.size} of {value.size} weights are not finite "
                               f"(the first is {bad[0]}); train or load the network again")
        return value


def parameters(net):
    """{structural name: Parameter} of every parameter; a shared one under its first name only.

    ``TypeError`` for what is no Block.
    """
    if not isinstance(net, Block):
        raise TypeError(f"net is {shown(net)}; accepted: a gluon.HybridBlock")
    found, seen = {}, set()
    for name, parameter, _ in walk(net):
        if id(parameter) not in seen:
            seen.add(id(parameter))
            found[name] = parameter
    return found


def check_hybrid(net):
    """Raise ``TypeError`` unless ``net`` is a HybridBlock (a SymbolBlock is one)."""
    if not isinstance(net, HybridBlock):
        raise TypeError(f"net is a {type(net).__name__}; accepted: a gluon.HybridBlock "
                        f"(nn.HybridSequential instead of nn.Sequential, hybrid_forward instead of forward)")


def check_initialized(net):
    """Raise ``NetworkError`` naming the first parameter that was never initialized."""
    for name, parameter in parameters(net).items():
        if parameter._data is None and not parameter._deferred_init:
            raise NetworkError(f"parameter {name} is not initialized: call net.initialize() "
                               f"or net.load_parameters(...) first")


def check_finite_parameters(net):
    """Raise ``NetworkError`` naming the first parameter with NaN or infinity, which a ReLU behind it would hide."""
    for name, parameter in parameters(net).items():
        if parameter._data is not None:
            value = parameter.list_data()[0].asnumpy()
            if value.dtype.kind == "f" and not np.isfinite(value).all():
                raise NetworkError(f"parameter {name} has values that are NaN or infinite; train or load the network "
                                   f"again")


@contextmanager
def undone_on_error(net):
    """After an error, parameters that had no data before have none again: their shapes came from the wrong input."""
    before = [(parameter, parameter._shape, parameter._deferred_init) for parameter in parameters(net).values()
              if parameter._data is None]
    try:
        yield
    except Exception:
        for parameter, shape, deferred in before:
            parameter._shape, parameter._deferred_init = shape, deferred
            parameter._data = parameter._grad = parameter._var = None
        if before:
            net.apply(lambda block: block._clear_cached_op() if isinstance(block, HybridBlock) else None)
        raise


def check_context(ctx):
    """None or an ``mx.Context`` of a device there is; else ``TypeError`` or ``ValueError``."""
    if ctx is None:
        return
    if not isinstance(ctx, mx.Context):
        raise TypeError(f"ctx is {ctx!r}; accepted: an mx.Context such as mx.cpu(), or None")
    try:
        mx.nd.zeros(1, ctx).wait_to_read()
    except mx.MXNetError as error:
        raise ValueError(f"ctx is {ctx}, a device that cannot be used here") from error


def check_ready(net):
    """A HybridBlock whose parameters all hold data; else ``TypeError`` or ``NetworkError``."""
    mx.nd.waitall()  # oneDNN may be laying weights out anew inside a forward pass that still runs
    check_hybrid(net)
    check_initialized(net)
    for name, parameter in parameters(net).items():
        if parameter._data is None:
            raise NetworkError(f"parameter {name} has no data yet, its shape follows from the first input: "
                               f"run net(example) once")


def layers(net):
    """All :class:`Layer` of a ready network, in the order in which they were added; shared weights once."""
    check_ready(net)
    kinds = {}
    found = []
    named = parameters(net)
    owners = {name: block for name, _, block in walk(net)}
    for name, parameter in named.items():
        if parameter.list_data()[0].ndim < 2:  # parameter.shape is None after SymbolBlock.imports
            continue
        block = owners[name]
        if isinstance(block, SymbolBlock):
            kinds = kinds or _symbol_kinds(block)
            kind, layout = kinds.get(parameter.name, ("SymbolBlock", None))
        else:
            kind, layout = _gluon_kind(type(block)), getattr(block, "_kwargs", {}).get("layout")
        found.append(Layer(layer_name(name), kind, name, parameter, block, layout))
    return found


def layer_name(parameter_name):
    """``conv.0`` of ``conv.0.weight``; ``conv0`` of a SymbolBlock's ``conv0_weight``."""
    return parameter_name.removesuffix(".weight").removesuffix("_weight")


def select_layers(net, select, default):
    """Split the layers of ``net`` into ``(chosen, left_out)``.

    Parameters
    ----------
    net : HybridBlock
    select : None, layer class, name, function, or a list of classes or names
        None takes the layers whose kind is in ``default``; a class such as ``nn.Dense`` all layers of that
        type; a name such as ``"conv.0"`` that layer; a function every layer for which
        ``select(layer)`` is true.
    default : tuple of str
        Kinds.

    Returns
    -------
    chosen : list of Layer
    left_out : dict
        {layer name: why it was left out}.

    Raises
    ------
    ValueError
        For a name or a selection that matches nothing.
    """
    every = layers(net)
    if select is None:
        chosen = [layer for layer in every if layer.kind in default]
        reason = "not in the default selection"
    else:
        chosen = _matching(every, select)
        reason = "not selected"
    if not chosen:
        raise ValueError(f"select={select!r} matches no layer; the network has "
                         f"{', '.join(f'{layer.name} ({layer.kind})' for layer in every) or 'no weights'}")
    taken = {layer.name for layer in chosen}
    return chosen, {layer.name: f"{layer.kind}, {reason}" for layer in every if layer.name not in taken}


def known_shape(parameter):
    """Its shape, with 0 or -1 for unknown sizes; None when nothing is known."""
    # parameter.shape is None after SymbolBlock.imports
    return parameter.shape if parameter._data is None else parameter.list_data()[0].shape


def snapshot(net):
    """A copy of all parameters that hold data: {structural name: NumPy array}."""
    return {name: parameter.list_data()[0].asnumpy() for name, parameter in parameters(net).items()
            if parameter._data is not None}


def restore_snapshot(net, values):
    """Set the parameters of a :func:`snapshot`.

    Raises ``TypeError`` and ``ValueError`` for what is none, or one of another network; ``net`` is then unchanged.
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
    for name, value in values.items():
        set_values(own[name], value)


def set_values(parameter, value):
    """``parameter.set_data`` of an array, which fails on weights that oneDNN has laid out anew.

    A trainer that updates on a key-value store begins anew there. Raises ``NetworkError`` when servers hold the
    parameter.
    """
    if parameter._data is None:
        parameter.set_data(mx.nd.array(value, dtype=value.dtype))  # kept until the parameter knows its shape
    else:
        leave_store(parameter)
        write_values(parameter, value)


def write_values(parameter, value):
    """Write an array into those of the parameter, and not into the copy that a key-value store may hold."""
    for array in parameter.list_data():
        # not array[:] = value, which MXNet refuses for an array in one of oneDNN's layouts
        mx.nd.identity(mx.nd.array(value, array.context, array.dtype), out=array)


def leave_store(parameter):
    """Let a trainer whose key-value store holds a copy of the parameter make a new one at its next step."""
    trainer = parameter._trainer
    if trainer is None or not trainer._kv_initialized or not trainer._update_on_kvstore:
        return
    if trainer._distributed:
        raise NetworkError(f"parameter {parameter.name} is on servers, which cannot be told: change it before the "
                           f"first step, or prune with MaskedTrainer and a GradualPruner or replace_masks")
    trainer._reset_kvstore()


def walk(block, prefix=""):
    """(structural name, parameter, owner) of ``block`` and all its children."""
    for name, parameter in block._reg_params.items():
        yield prefix + name, parameter, block
    for name, child in block._children.items():
        yield from walk(child, f"{prefix}{name}.")


def _gluon_kind(cls):
    """Name of the class of ``gluon.nn`` that ``cls`` is or derives from, else its own."""
    ours = (base.__name__ for base in cls.__mro__ if base.__module__.startswith("mxnet.gluon.nn."))
    return next(ours, cls.__name__)


def _matching(every, select):
    if callable(select) and not isinstance(select, (type, Block)):
        return [layer for layer in every if select(layer)]
    if not isinstance(select, (list, tuple, set)):
        select = [select]
    names = [layer.name for layer in every]
    matched = set()
    for item in select:
        if isinstance(item, type):
            matched |= {layer.name for layer in every
                        if isinstance(layer.block, item) or layer.kind == item.__name__}
        elif item in names:
            matched.add(item)
        else:
            close = difflib.get_close_matches(str(item), names)
            hint = f"did you mean {' or '.join(close)}?" if close else f"there are {', '.join(names)}"
            raise ValueError(f"select names {item!r}, but there is no such layer: {hint}")
    return [layer for layer in every if layer.name in matched]


def _symbol_kinds(block):
    """{parameter name: (Gluon's kind of layer, layout)} of a SymbolBlock, read off its graph."""
    nodes = json.loads(block._cached_graph[1].tojson())["nodes"]
    kinds = {}
    for node in nodes:
        attributes = node.get("attrs", {})
        if node["op"] == "FullyConnected":
            kind = "Dense"
        elif node["op"] in ("Convolution", "Deconvolution"):
            dimensions = attributes["kernel"].count(",") + (not attributes["kernel"].endswith(",)"))
            kind = f"Conv{dimensions}D{'Transpose' if node['op'] == 'Deconvolution' else ''}"
        elif node["op"] == "Embedding":
            kind = "Embedding"
        else:
            continue
        layout = attributes.get("layout", "None")
        kinds[nodes[node["inputs"][1][0]]["name"]] = kind, None if layout == "None" else layout
    return kinds
