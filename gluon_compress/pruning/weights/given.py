"""What a user gives for single layers: dictionaries by the names of layers or parameters, and arrays."""
from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

import mxnet as mx
import numpy as np

from ...arguments import unknown
from ...network.layer import Layer, hint_about


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
            raise unknown(f"{argument} names", name, accepted, "layer or parameter", hint_about(name, layers))
        if accepted[name] in renamed:
            raise ValueError(f"{argument} names {accepted[name]} twice, as a layer and as a parameter")
        renamed[accepted[name]] = value
    return renamed


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
