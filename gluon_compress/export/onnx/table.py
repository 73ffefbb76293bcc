"""The table of operators: {MXNet's name: the function that writes it as ONNX}; the folder ``operators`` fills it."""
from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING

from ...network.nodes import Node

if TYPE_CHECKING:
    from .writer import Writer

# gives the name of its output in the ONNX graph, or those of its outputs
WriteOperator = Callable[[Node, "Writer"], "str | list[str]"]
TABLE: dict[str, WriteOperator] = {}


class Unsupported(Exception):
    """ONNX has no operator for what a node computes; the message says why."""


def writes(*operators: str) -> Callable[[WriteOperator], WriteOperator]:
    """Enter a function as that which writes these operators."""
    def register(function: WriteOperator) -> WriteOperator:
        TABLE.update(dict.fromkeys(operators, function))
        return function
    return register


def listed(found: Mapping[str, Sequence[str]]) -> str:
    """{what: names of nodes} as text."""
    return "; ".join(f"{what} (in {', '.join(names[:5])}{f' and {len(names) - 5} more' if len(names) > 5 else ''})"
                     for what, names in found.items())
