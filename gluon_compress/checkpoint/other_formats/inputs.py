"""Which of the variables of a graph are inputs, which are parameters that are missing."""
from __future__ import annotations

import functools
import re
from collections.abc import Collection, Sequence

import mxnet as mx

from ...arguments import listed
from ...errors import CheckpointError
from ...files.schema import Malformed
from ...network.nodes import nodes_of
from ...network.registry import description_of

# As MXNet's operators call what they read as parameters, and the ends of names that Module takes for parameters.
ROLES = ("weight", "bias", "gamma", "beta", "moving_mean", "moving_var", "running_mean", "running_var", "parameters")
ENDS = ("_weight", "_bias", "_gamma", "_beta")


def inputs_of(symbol: mx.sym.Symbol, known: Collection[str], given: Sequence[str] | None) -> list[str]:
    """The names of a graph's inputs, in the order in which the network takes them.

    ``known`` are the parameters that the file has, ``given`` what the user says the inputs are. Without that, they are
    the other variables that no operator reads as its weight, bias, ...; those that are numbered go by their numbers.

    Raises
    ------
    CheckpointError
        When ``given`` has a name that the graph does not read.
    Malformed
        Naming all parameters that the graph reads and the file lacks.
    """
    variables = [name for name in symbol.list_inputs() if name not in known]
    if given is not None:
        for name in given:
            if name not in symbol.list_inputs():
                raise CheckpointError(f"inputs has {name!r}, which the network does not read; accepted: names among "
                                 f"{listed(variables or symbol.list_inputs())}")
        inputs = list(given)
    else:
        as_parameters = _read_as_parameters(symbol)
        inputs = _numbered([name for name in variables if name not in as_parameters and not name.endswith(ENDS)])
    missing = [name for name in variables if name not in inputs]
    if missing:
        raise Malformed(f"the graph reads {listed(missing)}, which the parameters do not have (inputs are "
                        f"{listed(inputs) or 'none'}; inputs= says which are)")
    if not inputs:
        raise Malformed("the graph reads parameters only; accepted: a network with inputs")
    return inputs


def _read_as_parameters(symbol: mx.sym.Symbol) -> set[str]:
    """Names of the variables that an operator reads in the role of a parameter."""
    found = set(symbol.list_auxiliary_states())
    for node in nodes_of(symbol)[0]:
        if node.operator == "null":
            continue
        for role, (source, _) in zip(_roles(node.operator), node.inputs):
            if source.operator == "null" and role in ROLES:
                found.add(source.name)
    return found


@functools.cache
def _roles(operator: str) -> list[str]:
    """What an operator calls the tensors that it reads."""
    return [name for name, kind in description_of(operator)[1].items() if "NDArray" in kind]


def _numbered(names: list[str]) -> list[str]:
    """In the order of their numbers, if they differ in these alone, as ``data0``, ``data1`` of a Gluon export."""
    parts = [re.fullmatch(r"(.*?)(\d+)", name) for name in names]
    if all(parts) and len({part[1] for part in parts if part}) == 1:
        return sorted(names, key=lambda name: int(name[len(parts[0][1]):]))  # type: ignore[index]
    return names
