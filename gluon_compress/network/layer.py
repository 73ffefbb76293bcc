"""Layers: what holds weights, how it is called, and which of them a user means."""
import difflib
from dataclasses import dataclass

import numpy as np
from mxnet.gluon import Block, HybridBlock, Parameter, SymbolBlock

from ..errors import NetworkError
from .checks import check_ready
from .nodes import nodes_of
from .values import parameters, walk

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
    kinds = {}
    for node in nodes_of(block._cached_graph[1])[0]:
        if node.operator == "FullyConnected":
            kind = "Dense"
        elif node.operator in ("Convolution", "Deconvolution"):
            kind = f"Conv{np.size(node.get('kernel'))}D{'Transpose' if node.operator == 'Deconvolution' else ''}"
        elif node.operator == "Embedding":
            kind = "Embedding"
        else:
            continue
        kinds[node.inputs[1][0].name] = kind, node.get("layout")
    return kinds
