"""Parameters that Gluon saved, into a network that the user has: by structural names, or by Gluon's full names."""
from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from os import PathLike

import mxnet as mx
import numpy as np
from mxnet.gluon import HybridBlock, Parameter

from ...arguments import listed
from ...errors import CheckpointError
from ...network.resizing import capture, put_back
from ...network.values import has_values, known_shape, leave_store, parameters, take_values, walk
from .params_file import without_prefixes


def load_parameters(path: str | PathLike[str], arrays: dict[str, np.ndarray], net: HybridBlock,
                    ctx: mx.Context | None) -> None:
    """Give a network the parameters of a file, which may name them in any of the ways of Gluon and Module.

    Raises ``CheckpointError``, which names all parameters that are extra, missing or of another shape; ``net`` is then
    as it was.
    """
    arrays = without_prefixes(arrays)
    named = _best_names(net, arrays)
    values = _checked(path, net, named, arrays)
    for parameter in values:
        if has_values(parameter):
            leave_store(parameter)
    before = capture(net)
    try:
        for parameter, value in values.items():
            take_values(parameter, value, ctx)
    except BaseException:
        put_back(net, before)
        raise


def _best_names(net: HybridBlock, arrays: Mapping[str, np.ndarray]) -> dict[str, Parameter]:
    """{name: parameter} of the kind of names that most of the file has.

    ``conv.0.weight`` (``save_parameters``); ``net0_conv0_weight`` (``export``); ``conv0_weight``, without the
    network's prefix (``save_params``); or with the prefix of another copy of the network (``net7_conv0_weight``).
    """
    structural = {name: parameter for name, parameter, _ in walk(net)}
    full = {parameter.name: parameter for parameter in structural.values()}
    short = {name.removeprefix(net.prefix): parameter for name, parameter in full.items()}
    prefixes = Counter(name[:-len(end)] for name in arrays for end in short if name.endswith(end))
    kinds = [structural, full, short, *({prefix + name: parameter for name, parameter in short.items()}
                                        for prefix, _ in prefixes.most_common(3))]
    return max(kinds, key=lambda kind: len(kind.keys() & arrays.keys()))


def _checked(path: str | PathLike[str], net: HybridBlock, named: Mapping[str, Parameter],
             arrays: Mapping[str, np.ndarray]) -> dict[Parameter, np.ndarray]:
    """{parameter: value}, when all is as it should be. A shared parameter needs one of its names only."""
    values = {named[name]: value for name, value in arrays.items() if name in named}
    structural = {parameter: name for name, parameter in reversed(parameters(net).items())}
    wrong = {"the file has, and the network not": sorted(arrays.keys() - named.keys()),
             "the network has, and the file not": [structural[parameter] for parameter in parameters(net).values()
                                                   if parameter not in values],
             "differ": [f"{name} of shape {value.shape} and type {value.dtype}, in the network "
                        f"{known_shape(named[name])} and {np.dtype(named[name].dtype)}"
                        for name, value in arrays.items() if name in named and not _fits(named[name], value)]}
    if any(wrong.values()):
        said = "; ".join(f"{what}: {listed(names)}" for what, names in wrong.items() if names)
        raise CheckpointError(f"{path} does not fit the network. Parameters that {said}")
    return {parameter: value.astype(parameter.dtype, copy=False) for parameter, value in values.items()}


def _fits(parameter: Parameter, value: np.ndarray) -> bool:
    shape = known_shape(parameter)
    alike = shape is None or len(shape) == value.ndim and all(a in (0, -1, b) for a, b in zip(shape, value.shape))
    return alike and np.can_cast(value.dtype, parameter.dtype, "same_kind")
