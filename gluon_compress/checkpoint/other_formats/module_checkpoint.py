"""Checkpoints of Module, and of Gluon's ``export``: a graph in JSON and its parameters.

    prefix-symbol.json, prefix-0000.params, prefix-0001.params, ...
"""
from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import mxnet as mx
import numpy as np
from mxnet.gluon import HybridBlock

from ...arguments import check_choice, shown
from ...errors import CheckpointError
from ...files.schema import Malformed
from ...network.blocks import give_values
from ..loaded_network import LoadedNetwork
from ..sampling import guard_sampling
from ..shape_check import check_shapes, check_types
from ..symbol_check import first_line
from .dialects import ForeignGraph, in_float32, read_graph
from .found import Found
from .inputs import inputs_of
from .layer_check import check_layers
from .loss_heads import Stripped, output_name, outputs_named, without_losses
from .params_file import TYPES, without_prefixes

GRAPH_BYTES = 1 << 27
HEADS = ("softmax", "logits")
NAME = re.compile(r"(?P<prefix>.+)-(?P<epoch>\d{4,6})\.params", re.DOTALL)


@dataclass(frozen=True)
class Wanted:
    """What the user wants of a graph: :func:`~gluon_compress.load` describes it."""

    inputs: Sequence[str] | None = None
    outputs: Sequence[str] | None = None
    head: str = "softmax"
    float16: bool = False  # whether a graph that computes in it may go on doing so


@dataclass
class Opened:
    """A network that was read and checked, and is not built yet: its symbol, {name: value}, {input: type}."""

    found: Found
    symbol: mx.sym.Symbol
    values: dict[str, np.ndarray]
    types: dict[str, str]

    def network(self, ctx: mx.Context) -> LoadedNetwork:
        """Build it; the values are taken out."""
        net = LoadedNetwork(self.symbol, [mx.sym.var(name, dtype=self.types[name]) for name in self.found.inputs],
                            self.found)
        attributes = self.symbol.attr_dict()
        for name, parameter in net.collect_params().items():
            with net.interface.active():
                give_values(parameter, self.values.pop(name), ctx)
            _keep_multipliers(parameter, attributes.get(name, {}))
        return net


@dataclass
class OpenedBlock:
    """A network of a class that a library has, which ``network(ctx)`` makes."""

    found: Found
    network: Callable[[mx.Context], HybridBlock]


def _keep_multipliers(parameter: mx.gluon.Parameter, attributes: Mapping[str, str]) -> None:
    """How fast it learns beside others, which a Module reads off the graph and a Trainer off the parameter."""
    parameter.lr_mult = float(attributes.get("__lr_mult__", parameter.lr_mult))
    parameter.wd_mult = float(attributes.get("__wd_mult__", parameter.wd_mult))


# ---- where the files are

def epochs_of(prefix: Path) -> dict[int, Path]:
    """{epoch: file} of the parameters that lie at a prefix."""
    found = {}
    for path in sorted(prefix.parent.iterdir()) if prefix.parent.is_dir() else ():
        match = NAME.fullmatch(path.name)
        if match and match["prefix"] == prefix.name and path.is_file():
            found[int(match["epoch"])] = path
    return found


def at_prefix(prefix: Path, epoch: int | None) -> tuple[Path, Path, dict[int, Path]]:
    """``(graph, parameters, all epochs)`` of the checkpoint of that epoch, by default the last.

    Raises ``CheckpointError`` naming the epochs that are there.
    """
    epochs = epochs_of(prefix)
    graph = prefix.with_name(f"{prefix.name}-symbol.json")
    if not epochs:
        raise CheckpointError(f"{graph} has no parameters beside it; accepted: {prefix}-0000.params, or with another "
                              f"epoch")
    chosen = max(epochs) if epoch is None else epoch
    if chosen not in epochs:
        raise CheckpointError(f"{prefix} has no parameters of epoch {epoch}; accepted: {', '.join(map(str, epochs))}")
    return graph, epochs[chosen], epochs


# ---- what they hold

def open_graph(graph: Path, parameters: Path, arrays: dict[str, np.ndarray], wanted: Wanted, **about: Any) -> Opened:
    """A graph and its parameters, everything checked; ``about`` is what :class:`Found` says besides.

    Raises :class:`Malformed`, and ``CheckpointError`` for names in ``wanted`` that the graph does not have.
    """
    if graph.stat().st_size > GRAPH_BYTES:
        raise Malformed(f"the graph has {graph.stat().st_size} bytes; accepted: at most {GRAPH_BYTES}")
    read, values = read_graph(graph.read_bytes()), without_prefixes(arrays)
    stripped = _for_inference(read, values, wanted)
    symbol = read.symbol()
    inputs = inputs_of(symbol, values, wanted.inputs)
    unread = values.keys() - read.names - {*symbol.list_inputs()}
    left_out = {**stripped.left_out, **dict.fromkeys(sorted(unread), Found.UNREAD)}
    values, types = _fitting(symbol, inputs, values)
    found = Found(files=(graph.name, parameters.name), inputs=tuple(inputs), replaced=stripped.replaced,
                  outputs=tuple(map(output_name, read.outputs)), left_out=left_out,
                  parameters=sum(value.size for value in values.values()), **about)
    return Opened(found, symbol, values, types)


def _for_inference(read: ForeignGraph, values: Mapping[str, np.ndarray], wanted: Wanted) -> Stripped:
    """Leave in a graph what the user wants of it, without losses and labels."""
    if wanted.outputs is not None:
        read.outputs = outputs_named(wanted.outputs, read.outputs)
    stripped = without_losses(read.outputs, {*values, *(wanted.inputs or ())}, wanted.head, wanted.outputs is not None)
    read.outputs = stripped.outputs if wanted.float16 else in_float32(stripped.outputs)
    guard_sampling(read.outputs)
    return stripped


def _fitting(symbol: mx.sym.Symbol, inputs: Sequence[str],
             values: Mapping[str, np.ndarray]) -> tuple[dict[str, np.ndarray], dict[str, str]]:
    """``({parameter: value in the type that the graph computes with}, {input: type})``, shapes and types checked."""
    values = {name: values[name] for name in symbol.list_inputs() if name not in inputs}
    shapes = {name: value.shape for name, value in values.items()}
    check_layers(symbol, shapes)
    check_shapes(symbol, shapes)
    types = _types(symbol, inputs, values)
    values = {name: _cast(name, value, types[name]) for name, value in values.items()}
    check_types(symbol, types)
    return values, {name: types[name] for name in inputs}


def _types(symbol: mx.sym.Symbol, inputs: Sequence[str], values: Mapping[str, np.ndarray]) -> dict[str, str]:
    """The type of each variable, as Module finds it: what the graph says, and for other inputs float32.

    Where the graph says that parameters are of another type, as Gluon's export of a network of float16 does, inputs
    are of that type.
    """
    stored = {value.dtype.name: None for value in values.values() if value.dtype.kind == "f"}
    said = {name: kind for name, kind in ((name, _said_type(symbol, name)) for name in inputs) if kind}
    failure: Malformed | None = None
    for kind in {"float32": None, **stored}:
        try:
            found = _inferred(symbol, {**dict.fromkeys(inputs, kind), **said})
        except Malformed as error:
            failure = failure or error
        else:
            return {**{name: value.dtype.name for name, value in values.items()}, **dict.fromkeys(inputs, kind),
                    **said, **found}
    raise failure or Malformed("the types do not go together")


def _said_type(symbol: mx.sym.Symbol, name: str) -> str | None:
    number = symbol.attr_dict().get(name, {}).get("__dtype__")
    return TYPES.get(int(number)) if number is not None else None


def _inferred(symbol: mx.sym.Symbol, given: Mapping[str, str]) -> dict[str, str]:
    """{variable: type} as far as they follow from those that are given; :class:`Malformed` where they contradict."""
    try:
        arguments, _, auxiliary = symbol.infer_type_partial(**given)
    except (mx.MXNetError, ValueError, TypeError) as error:
        raise Malformed(f"the types do not go together: {first_line(error)}") from error
    kinds = zip((*symbol.list_arguments(), *symbol.list_auxiliary_states()), (*(arguments or ()), *(auxiliary or ())))
    return {name: np.dtype(kind).name for name, kind in kinds if kind is not None}


def _cast(name: str, value: np.ndarray, kind: str) -> np.ndarray:
    """A value in the type that the graph computes with: parameters are often stored as float16 for that of float32."""
    if value.dtype == kind:
        return value
    if not np.can_cast(value.dtype, kind, "same_kind"):
        raise Malformed(f"parameter {name} is of type {value.dtype}, and the graph reads it as {kind}")
    return value.astype(kind)


def check_wanted(inputs: Any, outputs: Any, head: Any, ctx: mx.Context | None = None) -> Wanted:
    """The arguments of the user, checked."""
    for argument, names in (("inputs", inputs), ("outputs", outputs)):
        if names is not None and (isinstance(names, str) or not isinstance(names, Sequence) or not names
                                  or not all(isinstance(name, str) for name in names)
                                  or len(set(names)) != len(names)):
            raise TypeError(f"{argument} is {shown(names)}; accepted: a list of different names, or None")
    check_choice("head", head, HEADS)
    return Wanted(inputs, outputs, head, ctx is not None and ctx.device_type == "gpu")
