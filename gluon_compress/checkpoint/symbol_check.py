"""Graphs from files: checked node by node before MXNet reads them; their shapes come after that, in ``shape_check.py``.

MXNet trusts the JSON of a graph. A link to an output that is not there ends the process, and so do some operators with
attributes that no network would give them. So it gets only what :func:`checked_content` made: known operators with
known attributes, in order, with as many inputs as each takes, joined by links that exist.
"""
from __future__ import annotations

import functools
import json
from collections.abc import Mapping
from typing import Any

import mxnet as mx

from ..files.schema import Malformed, anything, fields, integer, list_of, mapping, pair, parse, text
from ..network.misfits import shorten
from ..network.registry import symbol_of_operator
from .allowed_operators import HIDDEN, canonical_names, check_attributes
from .onednn_faults import kept_from_onednn
from .sampling import check_sampling

MOST_NODES = 50_000
LONGEST_SYMBOL = 1 << 25         # characters of its JSON
FIRST_WITH_WHOLE_INPUTS = 10000  # MXNet 1.0.0; older files leave BatchNorm's statistics to the reader
LARGEST = 2**31 - 1

_TEXTS = mapping(text(LONGEST_SYMBOL), most=1000)
_LINKS = list_of(list_of(integer(0, LARGEST), least=2, most=3))
_NODE = fields({"op": text(), "name": text(), "inputs": _LINKS},
               {"attrs": _TEXTS, "attr": _TEXTS, "param": _TEXTS, "backward_source_id": integer(-1, LARGEST),
                "control_deps": list_of(anything, most=0)})
_SYMBOL = fields({"nodes": list_of(_NODE, least=1, most=MOST_NODES), "heads": _LINKS},
                 {"arg_nodes": list_of(integer(0, LARGEST)), "node_row_ptr": list_of(integer(0, LARGEST)),
                  "attrs": mapping(pair(text(), anything))})


def symbol_of_text(content: str) -> mx.sym.Symbol:
    """The ``mx.sym.Symbol`` of a graph's JSON; :class:`Malformed` when it is not what :func:`checked_content` takes."""
    checked = checked_content(content)
    try:
        return mx.sym.load_json(json.dumps(checked, ensure_ascii=False))  # MXNet reads UTF-8 and no escapes of it
    except mx.MXNetError as error:
        raise Malformed(f"MXNet cannot read the graph: {first_line(error)}") from error


def checked_content(content: Any) -> dict[str, Any]:
    """The graph of a JSON text like ``symbol.json``, as a dict that holds only what was checked.

    Raises :class:`Malformed` naming the node for: invalid JSON; operators that are not allowed; attributes that are
    unknown, of the wrong kind or out of bounds; too many or too few inputs; nodes out of order; and links to nodes or
    outputs that do not exist.
    """
    text(LONGEST_SYMBOL)(content, "the graph")
    content = parse(content, "the graph")
    check_form(content)
    version = version_of(content.get("attrs", {}))
    nodes: list[dict[str, Any]] = []
    outputs: list[int] = []
    names: set[str] = set()
    for index, node in enumerate(content["nodes"]):
        if node["op"] == "null" and node["name"] in names:
            raise Malformed(f"two inputs of the graph are named {node['name']!r}")
        names.add(node["name"])
        checked, count = _checked_node(node, index, nodes, outputs, version)
        nodes.append(checked)
        outputs.append(count)
    heads = [_checked_link(link, outputs, f"head {number}") for number, link in enumerate(content["heads"])]
    if not heads:
        raise Malformed("the graph has no outputs")
    nodes, heads = kept_from_onednn(nodes, heads)
    return {"nodes": nodes, "heads": heads, "node_row_ptr": list(range(len(nodes) + 1)),
            "arg_nodes": [index for index, node in enumerate(nodes) if node["op"] == "null"],
            "attrs": {"mxnet_version": ["int", version]}}


def check_form(content: Any) -> None:
    """Raise :class:`Malformed` unless parsed JSON has the form of a graph; what its nodes are is not looked at."""
    _SYMBOL(content, "the graph")


def version_of(attributes: Mapping[str, Any]) -> int:
    """The version of MXNet that wrote the graph, such as 10901; 0 where its attributes do not say."""
    kind, version = attributes.get("mxnet_version", ["int", 0])
    if kind != "int" or type(version) is not int or not 0 <= version <= 20000:
        raise Malformed(f"the graph's mxnet_version is {kind} {str(version)[:100]}; accepted: int 0 to 20000")
    return version


def _checked_node(node: dict[str, Any], index: int, nodes: list[dict[str, Any]], outputs: list[int],
                  version: int) -> tuple[dict[str, Any], int]:
    """``(node, number of its outputs)``; ``nodes`` and their ``outputs`` come before it."""
    operator, where = node["op"], f"node {index}, {node['op']} {node['name']!r}"
    attributes = {**node.get("param", {}), **node.get("attr", {}), **node.get("attrs", {})}
    inputs = [_checked_link(link, outputs, where) for link in node["inputs"]]
    checked = {"op": operator, "name": node["name"], "inputs": inputs}
    if attributes:
        checked["attrs"] = attributes
    if operator == "null":
        if inputs:
            raise Malformed(f"{where} is an input of the graph and reads {len(inputs)} tensors itself")
        check_attributes("null", attributes, where)
        return checked, 1
    if operator not in canonical_names():
        raise Malformed(f"{where}: no file may use this operator")
    operator = canonical_names()[operator]
    check_attributes(operator, attributes, where)
    count, state, made = _signature(node["op"], settings_of(attributes))
    fewest = count if version >= FIRST_WITH_WHOLE_INPUTS else count - len(state)
    if not fewest <= len(inputs) <= count:
        raise Malformed(f"{where} reads {len(inputs)} tensors; accepted: {count}")
    check_sampling(checked, nodes, where)
    for position in state:
        if position < len(inputs) and nodes[inputs[position][0]]["op"] != "null":
            raise Malformed(f"{where} changes what another operator computes")
    return checked, made


def _checked_link(link: list[int], outputs: list[int], where: str) -> list[int]:
    node, output, *version = link
    if node >= len(outputs):
        raise Malformed(f"{where} reads node {node}, which does not come before it")
    if output >= outputs[node]:
        raise Malformed(f"{where} reads output {output} of node {node}, which has {outputs[node]}")
    return [node, output, *version]


def settings_of(attributes: Mapping[str, str]) -> tuple[tuple[str, str], ...]:
    """The attributes that the operator itself reads, sorted."""
    return tuple(sorted((name, value) for name, value in attributes.items() if not HIDDEN.fullmatch(name)))


@functools.lru_cache(10_000)
def _signature(operator: str, attributes: tuple[tuple[str, str], ...]) -> tuple[int, list[int], int]:
    """(number of inputs, which of them it changes, number of outputs) of an operator with these attributes."""
    symbol = lone_symbol(operator, attributes)
    inputs, state = symbol.list_inputs(), set(symbol.list_auxiliary_states())
    return len(inputs), [index for index, name in enumerate(inputs) if name in state], len(symbol.list_outputs())


def lone_symbol(operator: str, attributes: tuple[tuple[str, str], ...]) -> mx.sym.Symbol:
    """A Symbol of this operator alone; :class:`Malformed` when MXNet refuses the attributes."""
    try:
        return symbol_of_operator(operator, attributes)
    except mx.MXNetError as error:
        raise Malformed(f"MXNet refuses {operator} with {dict(attributes)}: {first_line(error)}") from error


def first_line(error: BaseException) -> str:
    return shorten(error)[:300] or type(error).__name__
