"""Where oneDNN would end the process: graphs from files are written so that MXNet computes these places itself.

It happens on the output of a convolution or pooling, whose channels lie in blocks of 8 or 16.
"""
from __future__ import annotations

from typing import Any

from .allowed_operators import canonical_names, entries

IN_BLOCKS = ("Convolution", "Deconvolution", "Pooling")
UNBLOCKED = ("null", "FullyConnected", "Flatten", "Reshape", "transpose", "dot", "batch_dot", "mean")
BOUNDS = ("begin", "end", "step")
Nodes = list[dict[str, Any]]  # as the JSON of a graph has them
Links = list[list[int]]


def kept_from_onednn(nodes: Nodes, heads: Links) -> tuple[Nodes, Links]:
    """``(nodes, heads)`` that compute the same as a checked graph; oneDNN leaves their softmaxes and slices alone."""
    result: Nodes = []
    place: list[int] = []  # where each node's outputs are now
    for node, blocked in zip(nodes, _lie_in_blocks(nodes)):
        node["inputs"] = _moved(node["inputs"], place)
        operator = canonical_names().get(node["op"])
        if blocked and operator in ("softmax", "log_softmax"):
            _set_temperature(node)
        if blocked and operator == "slice":
            node = _without_channels(node, result)
        place.append(len(result))
        result.append(node)
    return result, _moved(heads, place)


def _lie_in_blocks(nodes: Nodes) -> list[bool]:
    """For each node, whether the channels of what it makes may lie in blocks."""
    blocked: list[bool] = []
    for node in nodes:
        operator = canonical_names().get(node["op"])
        blocked.append(operator in IN_BLOCKS or operator not in UNBLOCKED
                       and any(blocked[link[0]] for link in node["inputs"]))
    return blocked


def _moved(links: Links, place: list[int]) -> Links:
    return [[place[node], *rest] for node, *rest in links]


def _set_temperature(node: dict[str, Any]) -> None:
    """Give a softmax over the width of images a temperature of 1, with which MXNet computes it itself on AVX-512."""
    attributes = node.setdefault("attrs", {})
    if attributes.get("temperature", "None") == "None" and attributes.get("axis", "-1") in ("-1", "2", "3"):
        attributes["temperature"] = "1.0"


def _without_channels(node: dict[str, Any], before: Nodes) -> dict[str, Any]:
    """A ``slice`` of channels, which need not be whole blocks, as a ``slice_axis``.

    If it slices other axes, too, a ``slice`` of these is put at the end of ``before`` and read.
    """
    attributes = dict(node.get("attrs", {}))
    bounds = {name: entries(attributes.pop(name, "()"), name) for name in BOUNDS}
    begin, end, step = (values[1] if len(values) > 1 else None for values in bounds.values())
    if (begin, end) == (None, None) or step not in (None, 1):  # oneDNN has no kernel for steps
        return node
    others = {name: [*values[:1], None, *values[2:]] for name, values in bounds.items() if values}
    inputs = node["inputs"]
    if any(value is not None for values in others.values() for value in values):
        texts = {name: f"({', '.join(map(str, values))})" for name, values in others.items()}
        before.append({"op": node["op"], "name": f"{node['name']}_others", "inputs": inputs,
                       "attrs": {**texts, **attributes}})
        inputs = [[len(before) - 1, 0, 0]]
    return {"op": "slice_axis", "name": node["name"], "inputs": inputs,
            "attrs": {"axis": "1", "begin": str(begin or 0), "end": str(end), **attributes}}
