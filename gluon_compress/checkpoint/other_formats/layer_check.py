"""Whether parameters are those of the layers that read them, as far as this is known without an input.

MXNet infers shapes forwards and stops at the first layer whose input is not known, so that a graph and the parameters
of another network go together for it until the first forward pass.
"""
from __future__ import annotations

from collections.abc import Mapping

import mxnet as mx

from ...files.schema import Malformed
from ...network.nodes import Node, nodes_of

Shape = tuple[int, ...]


def check_layers(symbol: mx.sym.Symbol, shapes: Mapping[str, Shape]) -> None:
    """Raise :class:`Malformed` naming the first layer whose weight or bias has another shape than its attributes say.

    ``shapes`` are those of the parameters, by name.
    """
    for node in nodes_of(symbol)[0]:
        weight = node.weight
        if weight is not None and weight.name in shapes:
            _check_weight(node, weight.name, shapes[weight.name])
            bias = node.bias
            if bias is not None and bias.name in shapes:
                _check_bias(node, bias.name, shapes)


def _check_weight(node: Node, name: str, shape: Shape) -> None:
    kernel = node.get("kernel", ())
    least = 2 + len(kernel) if isinstance(kernel, tuple) else 2
    if len(shape) != least:
        _refuse(node, name, shape, f"{least} dimensions")
    for attribute, size in node.meaning.sizes(shape, node.groups).items():
        if node.get(attribute, size) != size:
            _refuse(node, name, shape, f"{attribute} {node.get(attribute)}")
    window = shape[1:-1] if str(node.get("layout")).endswith("C") else shape[2:]
    if kernel and tuple(window) != tuple(kernel):
        _refuse(node, name, shape, f"kernel {kernel}")


def _check_bias(node: Node, name: str, shapes: Mapping[str, Shape]) -> None:
    units = next((node.get(attribute) for attribute in ("num_filter", "num_hidden") if attribute in node.attributes),
                 None)
    if units is not None and shapes[name] != (units,):
        _refuse(node, name, shapes[name], f"{units} units")


def _refuse(node: Node, name: str, shape: Shape, expected: str) -> None:
    raise Malformed(f"parameter {name} has shape {shape}, and the graph a {node.operator} {node.name!r} of {expected}: "
                    f"they do not belong together")
