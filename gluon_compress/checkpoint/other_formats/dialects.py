"""Graphs in JSON as MXNet has written them since 0.8: read as linked nodes, and written as one that can be checked.

    0.8         attributes of the operator in ``param``, the user's in ``attr``; links of two numbers; BatchNorm's
                statistics left to the reader; ``backward_source_id``
    0.9 - 0.12  all attributes in ``attr``; links of three numbers; ``mxnet_version`` since 0.9
    since 1.0   all attributes in ``attrs``

MXNet itself brings old graphs up to date (inputs that are missing, attributes under old names) when it knows their
version, so that is kept. Operators are checked only when the graph is written again: what is taken out before, such as
losses, never reaches MXNet.
"""
from __future__ import annotations

import json
from dataclasses import dataclass
from typing import Any

import mxnet as mx

from ...files.schema import Malformed, parse, text
from ...network.nodes import Entry, Node, content_of, in_order
from ..allowed_operators import HIDDEN
from ..symbol_check import LONGEST_SYMBOL, check_form, symbol_of_text, version_of

MOST_OUTPUTS, MOST_HEADS = 10_000, 10_000  # of a node, and of the graph
FLOAT16, FLOAT32 = {"dtype": "float16", "__dtype__": "2"}, {"dtype": "float32", "__dtype__": "0"}
CASTS = ("Cast", "cast", "amp_cast")


@dataclass
class ForeignGraph:
    """A graph that was read.

    The entries that it puts out, the version of MXNet that wrote it (0 before 0.9), and the names of all its nodes.
    """

    outputs: list[Entry]
    version: int
    names: set[str]

    def symbol(self) -> mx.sym.Symbol:
        """The ``mx.sym.Symbol``, once all was checked; raises :class:`Malformed` as ``checked_content`` does."""
        content = content_of(self.outputs)
        content["attrs"]["mxnet_version"] = ["int", self.version]
        return symbol_of_text(json.dumps(content, ensure_ascii=False))


def read_graph(content: str | bytes) -> ForeignGraph:
    """The graph of the text of a ``symbol.json``; :class:`Malformed` when it has another form.

    Every link leads to a node before it. Whether the operators exist, and have so many outputs, is not known yet.
    """
    if isinstance(content, bytes):
        try:
            content = content.decode("utf-8-sig")
        except UnicodeDecodeError as error:
            raise Malformed(f"the graph is no text: {error}") from error
    text(LONGEST_SYMBOL)(content, "the graph")
    parsed = parse(content, "the graph")
    _refuse_bodies(parsed)
    check_form(parsed)
    nodes: list[Node] = []
    for index, entry in enumerate(parsed["nodes"]):
        where = f"node {index}, {entry['op']} {entry['name']!r}"
        node = Node(entry["name"], entry["op"], _attributes(entry))
        node.inputs = [_linked(link, nodes, where) for link in entry["inputs"]]
        nodes.append(node)
    outputs = [_linked(link, nodes, f"output {number}") for number, link in enumerate(parsed["heads"])]
    if not 0 < len(outputs) <= MOST_HEADS:
        raise Malformed(f"the graph has {len(outputs)} outputs; accepted: 1 to {MOST_HEADS}")
    return ForeignGraph(outputs, version_of(parsed.get("attrs", {})), {node.name for node in nodes})


def in_float32(outputs: list[Entry]) -> list[Entry]:
    """The same graph computing in float32 where it computed in float16, for which MXNet has no kernels on the CPU.

    Casts between the two are gone; the nodes are changed. A graph without float16 stays as it is.
    """
    nodes = in_order(outputs)
    if not any(node.attributes.get(name) == value for node in nodes for name, value in FLOAT16.items()):
        return outputs
    instead: dict[Node, Entry] = {}
    for node in nodes:
        node.inputs = [instead.get(source, (source, output)) for source, output in node.inputs]
        for name, value in FLOAT16.items():
            if node.attributes.get(name) == value:
                node.attributes[name] = FLOAT32[name]
        if node.operator in CASTS and node.attributes.get("dtype", "float32") == "float32" and node.inputs:
            instead[node] = node.inputs[0]
    return [instead.get(node, (node, output)) for node, output in outputs]


def _attributes(entry: dict[str, Any]) -> dict[str, str]:
    """A node's attributes; those of an input without what MXNet copies there from the operator that first reads it."""
    attributes = {**entry.get("param", {}), **entry.get("attr", {}), **entry.get("attrs", {})}
    if entry["op"] != "null":
        return attributes
    return {name: value for name, value in attributes.items() if HIDDEN.fullmatch(name)}


def _linked(link: list[int], nodes: list[Node], where: str) -> Entry:
    if link[0] >= len(nodes):
        raise Malformed(f"{where} reads node {link[0]}, which does not come before it")
    if link[1] >= MOST_OUTPUTS:
        raise Malformed(f"{where} reads output {link[1]} of a node; accepted: below {MOST_OUTPUTS}")
    return nodes[link[0]], link[1]


def _refuse_bodies(parsed: Any) -> None:
    """Loops and branches have graphs of their own, which are not checked; say so instead of naming the JSON's key."""
    nodes = parsed.get("nodes") if isinstance(parsed, dict) else None
    for node in nodes if isinstance(nodes, list) else ():
        if isinstance(node, dict) and node.get("subgraphs"):
            raise Malformed(f"{str(node.get('name'))[:100]!r} is a {str(node.get('op'))[:100]}, which has a graph of "
                            f"its own: no file may use loops, branches or fused operators")


def is_graph(parsed: Any) -> bool:
    """Whether parsed JSON is meant to be a graph of MXNet."""
    return isinstance(parsed, dict) and {"nodes", "heads", "arg_nodes"} <= parsed.keys()
