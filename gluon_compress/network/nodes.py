"""The operators of a graph as linked nodes: read from a Symbol, followed, edited, and written as a Symbol again."""
from __future__ import annotations

import ast
import json
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from math import prod
from typing import Any

import mxnet as mx
import numpy as np

from .interface import interface_of_array
from .operators import OPERATORS, UNKNOWN, Operator
from .values import layer_name

MXNET_VERSION = 10901  # in the JSON of a graph


@dataclass(eq=False)
class Node:
    """One operator, input or parameter of a graph.

    Attributes
    ----------
    name : str
    operator : str
        MXNet's name (``Convolution``); "null" for inputs and parameters.
    attributes : dict
        MXNet's strings by name; :meth:`get` gives their values.
    shapes : list of tuple
        The shape of each output, for the example; ``()`` where it is not known.
    parameter : str or None
        Structural name, when the node is a parameter of the network.
    constant : bool
        Whether that is a ``gluon.Constant``.
    inputs : list of (Node, int)
        What it reads: each a node and the number of one of its outputs.
    subgraphs : list of list of (Node, int)
        Graphs of its own, each given by its outputs: the body of a loop, or what oneDNN computes in one operator.
    """

    name: str
    operator: str
    attributes: dict[str, str] = field(default_factory=dict)
    shapes: list[tuple[int, ...]] = field(default_factory=lambda: [()])
    parameter: str | None = None
    constant: bool = False
    inputs: list[Entry] = field(default_factory=list, repr=False)
    subgraphs: list[list[Entry]] = field(default_factory=list, repr=False)

    def get(self, attribute: str, default: Any = None) -> Any:
        """Value of an attribute: a number, bool, tuple or None where the text is one ("[1]" too), else the text.

        An attribute that is not written has the value from the table of operators, or else ``default``.
        """
        text = self.attributes.get(attribute)
        if text is None:
            return self.meaning.defaults.get(attribute, default)
        try:
            value = ast.literal_eval(text.capitalize() if text in ("true", "false") else text)
        except (ValueError, SyntaxError):
            return text
        return tuple(value) if isinstance(value, list) else value

    def input_shape(self, index: int) -> tuple[int, ...]:
        """Shape of the tensor that it reads at that position."""
        source, output = self.inputs[index]
        return source.shapes[output]

    def index(self, role: str) -> int | None:
        """Which of its inputs is its "weight", "bias", ...; None where it reads no such thing."""
        index = self.meaning.inputs.index(role) if role in self.meaning.inputs else len(self.inputs)
        return index if index < len(self.inputs) else None

    def entry(self, role: str) -> Entry | None:
        """What it reads in that role; None where it reads no such thing."""
        index = self.index(role)
        return None if index is None else self.inputs[index]

    def read(self, role: str) -> Entry:
        """As :meth:`entry`, for a role in which it does read something."""
        entry = self.entry(role)
        assert entry is not None, f"{self.name}, a {self.operator}, reads no {role}"
        return entry

    @property
    def parameters(self) -> dict[str, str]:
        """{role: structural name} of what it reads in a role that is a parameter of the network."""
        return {role: source.parameter for role, (source, _) in zip(self.meaning.inputs, self.inputs)
                if source.parameter is not None}

    def _source(self, role: str) -> Node | None:
        entry = self.entry(role)
        return entry and entry[0]

    @property
    def meaning(self) -> Operator:
        """What the table says of its operator."""
        return OPERATORS.get(self.operator, UNKNOWN)

    @property
    def weight(self) -> Node | None:
        """The node that makes the weight of a layer, usually a parameter."""
        return self._source("weight")

    @property
    def bias(self) -> Node | None:
        return self._source("bias")

    @property
    def gamma(self) -> Node | None:
        return self._source("gamma")

    @property
    def beta(self) -> Node | None:
        return self._source("beta")

    @property
    def mean(self) -> Node | None:
        """The running mean of a BatchNorm."""
        return self._source("mean")

    @property
    def variance(self) -> Node | None:
        """The running variance of a BatchNorm."""
        return self._source("variance")

    @property
    def layer(self) -> str | None:
        """Structural name of the layer, whose weight is a parameter of the network; None for all other nodes."""
        weight = self.parameters.get("weight")
        return None if weight is None else layer_name(weight)

    @property
    def kind(self) -> str | None:
        """Gluon's name of the kind of layer: "Conv2D", "Dense", ...; None for all other nodes."""
        return self.meaning.kind and self.meaning.kind.format(np.size(self.get("kernel", ())))

    @property
    def groups(self) -> int:
        """The number of groups of a convolution; 1 for all other nodes."""
        return self.get("num_group", 1)

    @property
    def channel_axis(self) -> int:
        """The axis of the channels of what it reads and makes, from the front; for operators that have one."""
        axis = self.meaning.channel_axis(self)
        assert axis is not None, f"the table does not say which axis of {self.operator} has its channels"
        return axis

    @property
    def macs(self) -> int | None:
        """Multiply-accumulates for the whole batch of the example; None where they are not counted."""
        if self.meaning.macs_per is None:
            return self.meaning.macs(self)
        tensor = self.input_shape(0) if self.meaning.macs_per == "input" else self.shapes[0]
        weight, output = self.read("weight")
        return prod(tensor) * prod(weight.shapes[output][1:])

    @property
    def is_identity(self) -> bool:
        """Whether it does nothing in inference."""
        return self.meaning.is_identity(self)

    @property
    def is_homogeneous(self) -> bool:
        """Whether f(s x) = s f(x), channel by channel, for s > 0."""
        return self.meaning.is_homogeneous(self)

    @property
    def gain(self) -> float:
        """How much larger than x a homogeneous f(x) can be."""
        return self.meaning.gain(self)

    @property
    def is_relu(self) -> bool:
        return self.ceiling is not None

    @property
    def ceiling(self) -> float | None:
        """The value at which a ReLU cuts off, infinity where it does not; None for all other nodes."""
        return self.meaning.ceiling(self)

    @property
    def slope_kind(self) -> str | None:
        """Whether a leaky ReLU has its slope as a number ("leaky") or parameter ("prelu"); None for other nodes."""
        return self.meaning.slope_kind(self)

    @property
    def integer_obstacle(self) -> str | None:
        """Why it cannot run on integers; None where nothing is in the way, if there are kernels for its operator."""
        return self.meaning.integer_obstacle(self)

    @property
    def passes_integers(self) -> bool:
        """Pooling over small windows, flattening, concatenation along the channels: it needs no range of its own."""
        return self.kind is None and self.meaning.integer_form is not None and self.integer_obstacle is None

    @property
    def is_fused(self) -> bool:
        """Whether it is one of oneDNN's operators, which compute several others at once."""
        return self.operator.startswith("_sg_mkldnn")

    @property
    def computes_codes(self) -> bool:
        """Whether it computes with integers that stand for real numbers, as oneDNN's quantized operators do."""
        return "quantized" in self.operator or self.get("quantized") in (True, 1)

    @property
    def settings(self) -> dict[str, str]:
        """The attributes that the operator reads, without Gluon's own, such as ``__profiler_scope__``."""
        return {name: value for name, value in self.attributes.items() if not name.startswith("__")}


Entry = tuple[Node, int]  # one output of a node
Shape = tuple[int, ...]


def written(operator: str, name: str, /, *inputs: Entry, outputs: Any = 1, **attributes: Any) -> Node:
    """A new node, which reads the entries ``inputs``."""
    return Node(name, operator, {key: str(value) for key, value in attributes.items()}, [()] * outputs,
                inputs=list(inputs))


def plain(name: str, operator: str, entry: Entry, /, **attributes: Any) -> Entry:
    """What an operator makes of an entry: an entry."""
    return written(operator, name, entry, **attributes), 0


def variable(name: str, shape: Iterable[int]) -> Node:
    """A node for a parameter; ``shape`` is empty where it is not known."""
    shape = tuple(shape)
    return Node(name, "null", {"__shape__": str(shape)} if shape else {}, [shape], parameter=name)


def consumers(outputs: list[Entry]) -> dict[Entry, list[Node]]:
    """{(node, output): [nodes that read it]} of the graph that ends in ``outputs``; a node once per reading."""
    readers: dict[Entry, list[Node]] = {}
    for node in in_order(outputs):
        for source in node.inputs:
            readers.setdefault(source, []).append(node)
    return readers


def in_order(outputs: list[Entry]) -> list[Node]:
    """The nodes that ``outputs`` depend on, each after its inputs."""
    ordered, seen = [], set()
    stack = [(node, False) for node, _ in reversed(outputs)]
    while stack:
        node, ready = stack.pop()
        if ready:
            ordered.append(node)
        elif id(node) not in seen:
            seen.add(id(node))
            stack.append((node, True))
            stack.extend((source, False) for source, _ in reversed(node.inputs) if id(source) not in seen)
    return ordered


def nodes_of(symbol: mx.sym.Symbol, amp_casts: bool = False) -> tuple[list[Node], list[Entry]]:
    """``(nodes, outputs)`` of a Symbol: its nodes, each after its inputs, and the entries that it puts out.

    The casts of mixed precision are left out by default.
    """
    return _linked(_content(symbol, amp_casts))


def symbol_of(outputs: list[Entry]) -> mx.sym.Symbol:
    """The ``mx.sym.Symbol`` of the nodes that ``outputs`` depend on."""
    return mx.sym.load_json(_text(content_of(outputs)))


def edited(symbol: mx.sym.Symbol, edit: Callable[[Node], None], amp_casts: bool = False) -> mx.sym.Symbol:
    """A copy of a Symbol after ``edit(node)`` was called for each node; it may change the name and the attributes."""
    return interface_of_array(symbol).own(mx.sym.load_json(edited_text(symbol, edit, amp_casts)))


def edited_text(symbol: mx.sym.Symbol, edit: Callable[[Node], None], amp_casts: bool = False) -> str:
    """The JSON of :func:`edited`. All else stays as it is, but for counts that grow whenever a network is traced."""
    content = _content(symbol, amp_casts)
    for node, entry in zip(_linked(content)[0], content["nodes"]):
        edit(node)
        entry["name"] = node.name
        if node.attributes:
            entry["attrs"] = node.attributes
        else:
            entry.pop("attrs", None)
    return _text(content)


def content_of(outputs: list[Entry]) -> dict:
    """What :func:`symbol_of` loads, as MXNet writes it to JSON."""
    nodes = in_order(outputs)
    index = {id(node): number for number, node in enumerate(nodes)}
    entries: list[dict] = []
    for node in nodes:
        entry: dict[str, Any] = {"op": node.operator, "name": node.name, "attrs": dict(node.attributes),
                 "inputs": [[index[id(source)], output, 0] for source, output in node.inputs]}
        if node.subgraphs:
            entry["subgraphs"] = [content_of(inner) for inner in node.subgraphs]
        entries.append(entry)
    return {"nodes": entries, "arg_nodes": [number for number, node in enumerate(nodes) if node.operator == "null"],
            "node_row_ptr": list(range(len(nodes) + 1)),
            "heads": [[index[id(node)], output, 0] for node, output in outputs],
            "attrs": {"mxnet_version": ["int", MXNET_VERSION]}}


def _text(content: dict) -> str:
    """JSON in UTF-8: MXNet does not read ``json.dumps``'s escapes of letters that are not ASCII."""
    return json.dumps(content, ensure_ascii=False)


def _content(symbol: mx.sym.Symbol, amp_casts: bool) -> dict:
    content = json.loads(symbol.tojson(remove_amp_cast=not amp_casts))
    _forget_counts(content)
    return content


def _forget_counts(content: dict) -> None:
    """Set to 0 the third number of each link: how many operators, in all traces so far, change that variable.

    It is that of BatchNorm's statistics. Nothing computes with it, and the files of one network would differ by it.
    """
    for node in content["nodes"]:
        node["inputs"] = [[source, output, 0] for source, output, *_ in node["inputs"]]
        for inner in node.get("subgraphs", ()):
            _forget_counts(inner)
    content["heads"] = [[source, output, 0] for source, output, *_ in content["heads"]]


def _linked(content: dict) -> tuple[list[Node], list[Entry]]:
    nodes: list[Node] = []
    for entry in content["nodes"]:
        node = Node(entry["name"], entry["op"], entry.get("attrs", {}))
        node.inputs = [(nodes[index], output) for index, output, *_ in entry["inputs"]]
        node.subgraphs = [_linked(inner)[1] for inner in entry.get("subgraphs", ())]
        nodes.append(node)
    return nodes, [(nodes[index], output) for index, output, *_ in content["heads"]]
