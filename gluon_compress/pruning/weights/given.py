"""What a user gives for single layers: dictionaries by the names of layers or parameters, and arrays."""
from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

import mxnet as mx
import numpy as np
from mxnet.gluon import HybridBlock

from ...arguments import unknown
from ...network.layer import Layer, Which, hint_about, layers, matching_names


def by_parameter_name(argument: str, given: Mapping[str, Any], layers: list[Layer],
                      parameter_names: Iterable[str] = ()) -> dict[str, Any]:
    """``given`` with the names of layers replaced by those of their weights; ``ValueError`` for an unknown name.

    Parameters
    ----------
    argument : str
        The name of ``given``, for messages.
    given : dict
        {name of a layer or parameter: anything}.
    layers : list of Layer
        Those that can be named, as can their weights.
    parameter_names : iterable of str
        Which other parameters can be named.
    """
    accepted = {layer.name: layer.parameter_name for layer in layers}
    accepted.update({layer.parameter_name: layer.parameter_name for layer in layers})
    accepted.update({name: name for name in parameter_names})
    renamed: dict[str, Any] = {}
    for name, value in given.items():
        if name not in accepted:
            hint = hint_about(name, layers) if isinstance(name, str) else ""
            raise unknown(f"{argument} names", name, accepted, "layer or parameter", hint)
        if accepted[name] in renamed:
            raise ValueError(f"{argument} names {accepted[name]} twice, as a layer and as a parameter")
        renamed[accepted[name]] = value
    return renamed


def of_single_layers(argument: str, given: Mapping[str, Any], net: HybridBlock,
                     exclude: Which) -> tuple[dict[str, Any], list[Layer], dict[str, str]]:
    """``({parameter name: value}, chosen, left_out)`` of what is given layer by layer, which chooses these layers.

    ``ValueError`` for an empty dict, an unknown name, and a layer that ``exclude`` names as well.
    """
    candidates = layers(net)
    given = by_parameter_name(argument, given, candidates)
    if not given:
        raise ValueError(f"{argument} is an empty dict; accepted: at least one layer")
    excluded = matching_names("exclude", exclude, candidates)
    chosen = [layer for layer in candidates if layer.parameter_name in given]
    if both := [layer.name for layer in chosen if layer.name in excluded]:
        raise ValueError(f"{argument} and exclude both name {', '.join(both)}; accepted: a layer in one of them")
    return given, chosen, {
        layer.name: f"{layer.kind}, {'excluded' if layer.name in excluded else f'not in {argument}'}"
        for layer in candidates if layer.parameter_name not in given}


def finite_array(argument: str, name: str, value: Any, shape: tuple[int, ...]) -> np.ndarray:
    """A finite NumPy array of ``shape``; ``TypeError`` or ``ValueError`` otherwise."""
    try:
        array = np.asarray(value.asnumpy() if isinstance(value, mx.nd.NDArray) else value, dtype=np.float64)
    except (TypeError, ValueError) as error:
        raise TypeError(f"{argument}[{name!r}] is {value!r}; accepted: an array of numbers") from error
    if array.shape != shape:
        raise ValueError(f"{argument}[{name!r}] has shape {array.shape}; accepted: {shape}, the parameter's")
    if not np.isfinite(array).all():
        raise ValueError(f"{argument}[{name!r}] has a value that is not finite: {array[~np.isfinite(array)][0]}")
    return array
