"""Layers, which hold the weights: their names and kinds, and which of them a user selects."""
from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from mxnet.gluon import Block, HybridBlock, Parameter, SymbolBlock

from ..arguments import shown, unknown
from ..errors import NetworkError
from .checks import check_floats, check_ready
from .nodes import nodes_of
from .values import layer_name, parameters, value_of, walk

CONVOLUTIONS = ("Conv1D", "Conv2D", "Conv3D", "Conv1DTranspose", "Conv2DTranspose", "Conv3DTranspose")
SELECTIONS = "the name of a layer, a kind or class of layers, a function of a Layer"


@dataclass(frozen=True)
class Layer:
    """A layer with a weight, that is, a parameter of at least two dimensions.

    Attributes
    ----------
    name : str
        Structural name, ``conv.0``.
    kind : str
        Gluon's name of the layer type, ``Conv2D`` or ``Dense``, for a class derived from it too; for your own
        layers, the name of the class.
    parameter_name : str
        Structural name of the weight, ``conv.0.weight``.
    weight : gluon.Parameter
    block : HybridBlock
        Owner of the weight; for a layer of a SymbolBlock the whole SymbolBlock.
    layout : str or None
        The layout of a convolution's input, ``NCHW`` or ``NHWC``.
    root : HybridBlock
        The network.
    """

    name: str
    kind: str
    parameter_name: str
    weight: Parameter
    block: HybridBlock
    layout: str | None = None
    root: HybridBlock | None = field(default=None, repr=False, compare=False)

    def value(self) -> np.ndarray:
        """The weight as a NumPy array; ``NetworkError`` naming the layer when it holds NaN or infinity."""
        value = value_of(self.weight)
        if not np.isfinite(value).all():
            bad = value[~np.isfinite(value)]
            raise NetworkError(f"layer {self.name}: {bad.size} of {value.size} weights are not finite "
                               f"(the first is {bad[0]}); train or load the network again")
        return value


Item = str | type | Callable[[Layer], Any]
Which = Item | Iterable[Item] | None  # what ``select`` and ``exclude`` accept


def layers(net: HybridBlock) -> list[Layer]:
    """All layers of a ready network, in the order in which they were added; shared weights count once."""
    check_ready(net)
    kinds: dict[str, tuple[str, str | None]] = {}
    weighted = []
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
        weighted.append(Layer(layer_name(name), kind, name, parameter, block, layout, net))
    return weighted


def select_layers(net: HybridBlock, select: Which = None, exclude: Which = (),
                  default: Sequence[str] | None = None) -> tuple[list[Layer], dict[str, str]]:
    """Split the layers of ``net`` into those that a technique takes and those that it leaves out.

    Parameters
    ----------
    net : HybridBlock
    select : str, class, function, or an iterable of these, optional
        A layer's name, ``"conv.0"``; a kind of layer by its name, ``"Dense"``, or class, ``nn.Dense``; a function
        that is true for the layers wanted, ``lambda layer: layer.weight.shape[0] > 64``. Of several,
        each selects what it matches.
    exclude : the same
        Which of the selected layers to leave out.
    default : tuple of str, optional
        The kinds that are selected where ``select`` is None; by default all.

    Returns
    -------
    chosen : list of Layer
    left_out : dict
        {layer name: why it was left out}.

    Raises
    ------
    TypeError
        For anything else.
    ValueError
        For a name, kind or class that matches nothing, and when no layer is left.
    NetworkError
        For a network on integers.
    """
    check_floats(net)
    return choose_layers(layers(net), select, exclude, default)


def choose_layers(candidates: list[Layer], select: Which = None, exclude: Which = (),
                  default: Sequence[str] | None = None) -> tuple[list[Layer], dict[str, str]]:
    """:func:`select_layers` among these layers."""
    selected, excluded = _names(candidates, select, exclude, default)
    reason = "not in the default selection" if select is None else "not selected"
    left_out = {layer.name: f"{layer.kind}, {'excluded' if layer.name in excluded else reason}"
                for layer in candidates if layer.name not in selected - excluded}
    return [layer for layer in candidates if layer.name not in left_out], left_out


def selected_and_excluded(net: HybridBlock, select: Which, exclude: Which) -> tuple[set[str], set[str]]:
    """``(selected names, excluded names)``, for objects that know layers by name; empty without layers."""
    candidates = layers(net)
    return _names(candidates, select, exclude) if candidates else (set(), set())


def _names(candidates: list[Layer], select: Which, exclude: Which,
           default: Sequence[str] | None = None) -> tuple[set[str], set[str]]:
    if select is None:
        selected = {layer.name for layer in candidates if default is None or layer.kind in default}
    else:
        selected = matching_names("select", select, candidates)
    excluded = matching_names("exclude", exclude, candidates)
    if not selected - excluded:
        present = ", ".join(f"{layer.name} ({layer.kind})" for layer in candidates) or (
            "none that this takes, such as a convolution or a dense layer")
        if selected:
            raise ValueError(f"exclude={_told(exclude)} leaves no layer of those selected; the network has {present}")
        what = "there is no layer to change" if select is None else f"select={_told(select)} matches no layer"
        raise ValueError(f"{what}; the network has {present}")
    return selected, excluded


def matching_names(argument: str, wanted: Which, candidates: list[Layer]) -> set[str]:
    """The names of the layers that a selection matches; ``argument`` is ``select`` or ``exclude``."""
    if wanted is None:
        return set()
    if isinstance(wanted, (str, Block)) or callable(wanted):  # a class can be called
        wanted = [wanted]
    if not isinstance(wanted, Iterable) or isinstance(wanted, Mapping):  # of which only the keys would count
        raise TypeError(f"{argument} is {shown(wanted)}; accepted: {SELECTIONS}, or a list of these")
    return set().union(*(_matching_one(argument, item, candidates) for item in wanted))


def _matching_one(argument: str, item: Item, candidates: list[Layer]) -> set[str]:
    if isinstance(item, str):
        matched = {layer.name for layer in candidates if item in (layer.name, layer.kind)}
    elif isinstance(item, type):
        matched = {layer.name for layer in candidates if isinstance(layer.block, item) or layer.kind == item.__name__}
    elif callable(item) and not isinstance(item, Block):
        return {layer.name for layer in candidates if _says_yes(argument, item, layer)}
    else:
        raise TypeError(f"{argument} names {shown(item)}; accepted: {SELECTIONS}")
    if not matched:
        known = dict.fromkeys([layer.name for layer in candidates] + [layer.kind for layer in candidates])
        raise unknown(f"{argument} names", getattr(item, "__name__", item), known, "layer or kind of layer",
                      hint_about(item, candidates) if isinstance(item, str) else "")
    return matched


def hint_about(name: str, candidates: Sequence[Layer]) -> str:
    """What a name is that is not a layer's, as the end of a message; "" where nothing is known of it."""
    names = [layer.name for layer in candidates]
    owner = next((name.removesuffix(ending) for ending in (".weight", "_weight", ".bias", "_bias")
                  if name.endswith(ending) and name.removesuffix(ending) in names), None)
    if owner is not None:
        return f"that is a parameter; accepted: {owner!r}, its layer"
    inside = [layer for layer in names if layer.startswith(f"{name}.")]
    if inside:
        some = " and ".join(inside[:2]) if len(inside) < 3 else f"{inside[0]} to {inside[-1]}"
        return (f"that is a block with {len(inside)} layers in it, {some}; accepted: their names, or "
                f"lambda layer: layer.name.startswith('{name}.')")
    kind = next((_kind_at(layer.root, name) for layer in candidates if layer.root is not None), None)
    return "" if kind is None else f"{name!r} is a {kind}, which has no weight of two axes or more: it is no layer here"


def _kind_at(root: Block, name: str) -> str | None:
    """The class of the block with that structural name."""
    block: Any = root
    for step in name.split("."):
        block = getattr(block, "_children", {}).get(step)
    return None if block is None else type(block).__name__


def _says_yes(argument: str, function: Callable, layer: Layer) -> bool:
    answer = function(layer)
    if not isinstance(answer, (bool, np.bool_)):  # a text or a method, which are true, are mistakes
        raise TypeError(f"{argument} is a function that gives {shown(answer)} for layer {layer.name}; accepted: True "
                        f"or False")
    return bool(answer)


def _told(selection: Any) -> str:
    """A selection for messages: as it was given, except for an iterable that is used up by now."""
    return repr(selection) if isinstance(selection, (str, list, tuple, set, type(None))) else shown(selection)


def _gluon_kind(cls: type) -> str:
    """Name of the class of ``gluon.nn`` that ``cls`` is or derives from, else its own."""
    ours = (base.__name__ for base in cls.__mro__ if base.__module__.startswith("mxnet.gluon.nn."))
    return next(ours, cls.__name__)


def _symbol_kinds(block: SymbolBlock) -> dict[str, tuple[str, str | None]]:
    """{parameter name: (Gluon's kind of layer, layout)} of a SymbolBlock, read off its graph."""
    kinds = {}
    for node in nodes_of(block._cached_graph[1])[0]:
        if node.kind is not None and node.weight is not None:
            kinds[node.weight.name] = node.kind, node.get("layout")
    return kinds
