"""What each layer of a network costs: parameters, nonzeros, multiply-accumulates (MACs), bytes."""
from __future__ import annotations

import re
from collections import Counter, defaultdict
from collections.abc import Collection, Iterable
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from mxnet.gluon import Block, Constant, HybridBlock, Parameter, SymbolBlock

from ..network.graph import Graph
from ..network.inputs import example_inputs
from ..network.nodes import Node
from ..network.values import parameters

FP32_BYTES = 4
WHOLE = "(net)"  # the row of parameters that belong to no child


@dataclass(frozen=True)
class LayerCost:
    """One row of a report.

    Attributes
    ----------
    name : str
        Structural name, ``conv.0``; in a SymbolBlock what its parameters' names have in common; ``(net)``
        for the network's own parameters.
    kind : str
        MXNet's operators that read its parameters, ``Convolution``, ``FullyConnected x2``, or ``unused``.
    output_shape : tuple or None
        For the example; of the first call when there are several.
    parameters : int
        Values that are trained, frozen ones included; running statistics and constants are not.
    nonzeros : int
        How many of them are not zero.
    macs : int or float
        Multiply-accumulates per sample of the batch; 0 where they are not counted.
    fp32_bytes : int
        Four for every value, running statistics and constants included.
    integer_bytes : int or None
        Bytes of the values as they are, where weights are integers: codes, their scales, four for every other value.
    """

    name: str
    kind: str
    output_shape: tuple[int, ...] | None
    parameters: int
    nonzeros: int
    macs: float  # an int where the batch divides it
    fp32_bytes: int
    integer_bytes: int | None = None

    @property
    def bytes(self) -> int:
        """How many bytes the values take as they are."""
        return self.fp32_bytes if self.integer_bytes is None else self.integer_bytes

    @property
    def sparsity(self) -> float:
        """Share of zeros among the parameters, in [0, 1]."""
        return 1 - self.nonzeros / self.parameters if self.parameters else 0.0


def layer_costs(net: HybridBlock, example: Any) -> tuple[list[LayerCost], dict[str, int]]:
    """``(layers, not_counted)``: a list of :class:`LayerCost`, and {operator: how many} without a MAC count.

    A weight that is used twice counts its MACs twice and its parameters once, under its first name.
    """
    inputs = example_inputs(example)
    if hasattr(net, "counted"):  # an IntegerNetwork, whose own graph depends on the processor
        net, known, saved = net.counted()
    else:
        known, saved = {}, {}
    graph = Graph(net, inputs)
    layer_of = {**_layers_of_parameters(net), **known}
    members = defaultdict(list)
    for parameter in parameters(net).values():
        members[layer_of[parameter.name]].append(parameter)
    uses, not_counted = _uses(graph.nodes, layer_of, batch=inputs[0].shape[0])
    names = dict.fromkeys([*members, *uses])  # a weight that is computed from the input has no members
    auxiliary = graph.auxiliary()
    rows = [_row(name, members[name], uses[name], auxiliary) for name in names]
    return [replace(row, integer_bytes=row.fp32_bytes - saved[row.name]) if row.name in saved else row
            for row in rows], not_counted


def _layers_of_parameters(net: HybridBlock) -> dict[str, str]:
    """{name of a parameter in the graph: the layer that it belongs to}."""
    underscored = set()  # names of parameters whose structural name is conv0_weight rather than conv0.weight

    def collect(block: Block) -> None:
        if isinstance(block, SymbolBlock):
            underscored.update(block.collect_params())
    net.apply(collect)
    layer_of = {}
    for name, parameter in parameters(net).items():
        if parameter.name in underscored and "." not in name:
            layer = re.sub(r"_((running|moving)_)?[a-z]+$", "", name)
        else:
            layer = name.rpartition(".")[0]
        layer_of[parameter.name] = layer or WHOLE
    return layer_of


def _uses(nodes: Iterable[Node], layer_of: dict[str, str], batch: int) -> tuple[dict[str, list], dict[str, int]]:
    """{layer: [(node, MACs per sample)]} of what reads its parameters, and {operator: how many} that do not count."""
    uses: dict[str, list] = defaultdict(list)
    not_counted: Counter[str] = Counter()
    for node in nodes:
        if node.operator == "null":
            continue
        macs: dict[str, float] = {layer_of[source.name]: 0 for source, _ in node.inputs if source.name in layer_of}
        if node.macs is None:
            not_counted[node.operator] += 1
        else:
            multiplied = node.entry("weight") or node.entry("parameters")
            weight = None if multiplied is None else _first_parameter(multiplied[0], layer_of)
            owner = node.name if weight is None else layer_of[weight]
            macs[owner] = node.macs // batch if node.macs % batch == 0 else node.macs / batch
        for layer, value in macs.items():
            uses[layer].append((node, value))
    return uses, dict(sorted(not_counted.items()))


def _first_parameter(node: Node, known: Collection[str]) -> str | None:
    """Name of the parameter that a weight is, or is computed from (a fake quantization, a mask); else None."""
    if node.name in known:
        return node.name
    found = (_first_parameter(source, known) for source, _ in node.inputs)
    return next((name for name in found if name is not None), None)


def _row(name: str, members: list[Parameter], uses: list[tuple[Node, int]], auxiliary: Collection[str]) -> LayerCost:
    # the arrays, because a parameter that SymbolBlock.imports read does not know its own shape
    arrays = {parameter: parameter.list_data()[0] for parameter in members}
    trained = [array for parameter, array in arrays.items()
               if parameter.name not in auxiliary and not isinstance(parameter, Constant)]
    nodes = [node for node, _ in uses]
    first = next((node for node in nodes if node.macs is not None), next(iter(nodes), None))
    kinds = Counter(node.operator for node in nodes)
    kind = " + ".join(operator if count == 1 else f"{operator} x{count}" for operator, count in kinds.items())
    return LayerCost(
        name=name,
        kind=kind or "unused",
        output_shape=None if first is None else tuple(first.shapes[0]),
        parameters=sum(array.size for array in trained),
        nonzeros=sum(int(np.count_nonzero(array.asnumpy())) for array in trained),
        macs=sum(macs for _, macs in uses),
        fp32_bytes=FP32_BYTES * sum(array.size for array in arrays.values()))
