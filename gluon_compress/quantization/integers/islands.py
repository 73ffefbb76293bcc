"""What computes in fp32 between integer layers: which operators, why, and what share of the time they take.

Each costs twice: its own fp32 arithmetic, on four times the bytes, and a conversion on each side.
"""
from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

from ...network.nodes import Node, in_order
from .fusions import Leaky, is_convolution

if TYPE_CHECKING:
    from .lowering import Lowering


def find_islands(lowering: Lowering, left_out: Mapping[str, str]) -> dict[str, dict[str, str]]:
    """{name: {"operator": MXNet's name, "reason": why it is fp32}} of a :class:`Lowering`.

    ``left_out``, {layer name: reason}, is that of the record.
    """
    order = in_order(lowering.graph.outputs)
    integer = set().union(*({end[0], *fusion.inside} for end, fusion in lowering.fusions.items()))
    middle = between(order, integer)
    found = {node.name: {"operator": node.operator, "reason": _reason(node, left_out)}
             for node in order if node in lowering.fp32 and node in middle}
    for node in lowering.converted:
        found.setdefault(node.name, {"operator": "_contrib_dequantize, _contrib_quantize_v2", "reason":
                         "its codes are unsigned, and the sum it goes into is signed"})
    return found


def between(order: list[Node], integer: set[Node]) -> set[Node]:
    """The nodes that depend on one node of ``integer`` and on which another of them depends."""
    after: set[Node] = set()
    before: set[Node] = set()
    for node in order:
        if any(source in integer or source in after for source, _ in node.inputs):
            after.add(node)
    for node in reversed(order):
        if node in integer or node in before:
            before.update(source for source, _ in node.inputs)
    return after & before


def _reason(node: Node, left_out: Mapping[str, str]) -> str:
    if node.name in left_out:
        return left_out[node.name]
    if node.slope_kind is not None:
        return _why_leaky(node)
    if node.meaning.keeps_statistics:
        return "it does not follow a convolution or dense layer of its own that could take it along"
    if node.meaning.adds:
        return "no convolution before it can take it along"
    if node.is_relu:
        return "it follows no convolution or dense layer of its own"
    if node.meaning.integer_form == "concat":
        return "its parts have ranges of different kinds, or it is not along the channels"
    if node.passes_integers:
        return "what it reads is fp32"
    return node.integer_obstacle or "there is no integer kernel for it"


def _why_leaky(node: Node) -> str:
    if node.slope_kind == "prelu":
        if "slope" not in node.parameters:
            return "its slopes are no parameter of the network"
        before, _ = node.inputs[0]
        by_channel = Leaky(parameter=node.entry("slope")).by_channel
        if by_channel and before.meaning.adds:
            return "after an addition the kernels know only one slope for all channels"
        if by_channel and is_convolution(before):
            return "its convolution would have to run more than once, and sums up too many products for that"
    return "it follows no convolution of its own"
