"""Operators that draw random numbers, and the one that does not end for some parameters of its distribution.

MXNet draws gamma variates by rejection (Marsaglia & Tsang, 2000), in a loop that never ends for a shape parameter that
is negative, infinite or NaN. Forecasting networks draw them for Student's t and the negative binomial. So a graph from
a file may draw them only of a parameter that is guarded: replaced by 1 where it is not in (0, 1e30).
"""
from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from ..files.schema import Malformed
from ..network.nodes import Entry, in_order, written

GAMMA = ("_sample_gamma", "sample_gamma")
LARGEST = "1e30"


def guard_sampling(outputs: list[Entry]) -> None:
    """Put a guard before each operator of a graph that needs one."""
    for node in in_order(outputs):
        if node.operator in GAMMA and node.inputs:
            node.inputs[0] = _guarded(f"{node.name}_guard", node.inputs[0])


def _guarded(name: str, entry: Entry) -> Entry:
    above = written("_greater_scalar", f"{name}_above", entry, scalar="0.0"), 0
    below = written("_lesser_scalar", f"{name}_below", entry, scalar=LARGEST), 0
    within = written("elemwise_mul", f"{name}_within", above, below), 0
    one = written("ones_like", f"{name}_one", entry), 0
    return written("where", name, within, entry, one), 0


def check_sampling(node: Mapping[str, Any], nodes: Sequence[Mapping[str, Any]], where: str) -> None:
    """Raise :class:`Malformed` for a node of a graph's JSON that draws of a parameter without a guard.

    ``nodes`` are those before it.
    """
    if node["op"] in GAMMA and not _is_guarded(node["inputs"][0], nodes):
        raise Malformed(f"{where} may draw for ever: accepted: only of a parameter that is replaced where it is not "
                        f"positive and finite")


def _is_guarded(link: Sequence[int], nodes: Sequence[Mapping[str, Any]]) -> bool:
    chosen = nodes[link[0]]
    if chosen["op"] != "where":
        return False
    condition, value, other = chosen["inputs"]
    within = nodes[condition[0]]
    if within["op"] != "elemwise_mul" or nodes[other[0]]["op"] != "ones_like":
        return False
    bounds = {nodes[bound[0]]["op"]: nodes[bound[0]] for bound in within["inputs"]}
    return bounds.keys() == {"_greater_scalar", "_lesser_scalar"} \
        and all(bound["inputs"][0][:2] == value[:2] for bound in bounds.values()) \
        and float(bounds["_greater_scalar"]["attrs"]["scalar"]) >= 0 \
        and float(bounds["_lesser_scalar"]["attrs"]["scalar"]) <= float(LARGEST)
