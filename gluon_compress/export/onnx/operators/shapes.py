"""What moves elements, or picks some."""
from __future__ import annotations

from ....network.nodes import Node
from ..table import writes
from ..writer import Writer


@writes("Flatten")
def flatten(node: Node, write: Writer) -> str:
    return write("Flatten", *write.inputs(node), axis=1)


@writes("Concat", "_rnn_param_concat")
def concat(node: Node, write: Writer) -> str:
    return write("Concat", *write.inputs(node), axis=node.get("dim"))
