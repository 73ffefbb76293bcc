"""Element by element: activations, arithmetic, comparisons."""
from __future__ import annotations

from ....network.nodes import Node
from ..table import Unsupported, writes
from ..writer import Writer

ACTIVATIONS = {"relu": "Relu", "sigmoid": "Sigmoid", "tanh": "Tanh", "softrelu": "Softplus", "softsign": "Softsign"}


@writes("Activation")
def activation(node: Node, write: Writer) -> str:
    kind = node.get("act_type")
    if kind not in ACTIVATIONS:
        raise Unsupported(f"of act_type {kind}")
    return write(ACTIVATIONS[kind], *write.inputs(node))


@writes("relu")
def relu(node: Node, write: Writer) -> str:
    return write("Relu", *write.inputs(node))


@writes("elemwise_add", "broadcast_add", "_plus")
def add(node: Node, write: Writer) -> str:
    return write("Add", *write.inputs(node))


@writes("clip")
def clip(node: Node, write: Writer) -> str:
    dtype = write.made(node).dtype
    limits = [write.constant(float(node.get(name)), dtype) for name in ("a_min", "a_max")]
    return write("Clip", *write.inputs(node), *limits)
