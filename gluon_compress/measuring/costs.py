"""What each layer of a network costs: parameters, nonzeros, multiply-accumulates (MACs), bytes."""
from __future__ import annotations

import math
import re
from collections import Counter, defaultdict
from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
from mxnet.gluon import Block, Constant, HybridBlock, Parameter, SymbolBlock

from ..network.data import input_counts
from ..network.graph import Graph
from ..network.inputs import example_inputs
from ..network.nodes import Node
from ..network.values import parameters, value_of
from .weight_values import Histogram, bits_of_codes, bits_of_numbers, histogram

FP32_BYTES = 4
WHOLE = "(net)"  # the row of parameters that belong to no child


class Codes(NamedTuple):
    """A parameter on integers: its codes, how many scales belong to them, and the bits that a file gives each code."""

    values: np.ndarray
    scales: int
    bits: int

    @property
    def bytes(self) -> int:
        """Of the codes, packed, and of the scales in fp32."""
        return math.ceil(self.values.size * self.bits / 8) + FP32_BYTES * self.scales


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
    channels : int or None
        How many the output has: filters of a convolution, units of a dense layer, else the size of axis 1.
    entropy_bytes : float
        What an entropy coder of order zero could make of all its values, each parameter by itself: ``n * H / 8`` for
        integer codes and four bytes for each scale, see :func:`.weight_values.bits_of_codes`; for other values see
        :func:`.weight_values.bits_of_numbers`.
    weights : Histogram or None
        Of its trained parameters of two and more axes.
    milliseconds : float or None
        Its share of a forward pass, where that was asked for: of the operators that read its parameters.
    """

    name: str
    kind: str
    output_shape: tuple[int, ...] | None
    parameters: int
    nonzeros: int
    macs: float  # an int where the batch divides it
    fp32_bytes: int
    integer_bytes: int | None = None
    channels: int | None = None
    entropy_bytes: float = 0.0
    weights: Histogram | None = None
    milliseconds: float | None = None

    @property
    def bytes(self) -> int:
        """How many bytes the values take as they are."""
        return self.fp32_bytes if self.integer_bytes is None else self.integer_bytes

    @property
    def sparsity(self) -> float:
        """Share of zeros among the parameters, in [0, 1]."""
        return share_of_zeros(self.nonzeros, self.parameters)


def share_of_zeros(nonzeros: int, parameters: int) -> float:
    """In [0, 1]; 0 where there are no parameters."""
    return 1 - nonzeros / parameters if parameters else 0.0


class NetworkCosts(NamedTuple):
    """What :func:`layer_costs` finds.

    Attributes
    ----------
    layers : list of LayerCost
    not_counted : dict
        {operator: how many of them}: those whose MACs are taken as 0.
    owners : dict
        {name of a node of the graph: the layer whose parameters it reads}.
    """

    layers: list[LayerCost]
    not_counted: dict[str, int]
    owners: dict[str, str]


@dataclass(frozen=True)
class LayerSize:
    """What is known of a layer without an input; see :class:`LayerCost`."""

    name: str
    kind: str
    parameters: int
    bytes: int


def layer_sizes(net: HybridBlock) -> tuple[list[LayerSize], dict[str, int]]:
    """What each layer holds, and {operator: how many there are}, where the shape of the input is not known."""
    codes = _own_codes(net)
    net, known = net.counted() if hasattr(net, "counted") else (net, {})
    graph = Graph(net, input_counts(net)[0])
    layer_of = {**_layers_of_parameters(net), **known}
    readers: dict[str, list[Node]] = defaultdict(list)
    for node in graph.nodes:
        for layer in {layer_of[source.name]: 0 for source, _ in node.inputs if source.name in layer_of}:
            readers[layer].append(node)
    auxiliary, rows = graph.auxiliary(), []
    for name, members in _members(net, layer_of).items():
        trained = _trained(members, auxiliary)
        rows.append(LayerSize(name, _kind(readers[name]), sum(array.size for array in trained.values()),
                              sum(_bytes(_arrays(members), codes))))
    return rows, dict(Counter(node.operator for node in graph.nodes if node.operator != "null"))


def layer_costs(net: HybridBlock, example: Any, codes: Mapping[str, Codes] | None = None) -> NetworkCosts:
    """What each layer costs; ``codes``, {structural name: Codes}, are those of weights in fp32 that were quantized.

    A weight that is used twice counts its MACs twice and its parameters once, under its first name.
    """
    inputs = example_inputs(example)
    codes = {**_own_codes(net), **(codes or {})}
    if hasattr(net, "counted"):  # an IntegerNetwork, whose own graph depends on the processor
        net, known = net.counted()
    else:
        known = {}
    graph = Graph(net, inputs)
    layer_of = {**_layers_of_parameters(net), **known}
    members = _members(net, layer_of)
    uses, not_counted = _uses(graph.nodes, layer_of, batch=inputs[0].shape[0])
    names = dict.fromkeys([*members, *uses])  # a weight that is computed from the input has no members
    auxiliary = graph.auxiliary()
    rows = [_row(name, members[name], uses[name], auxiliary, codes) for name in names]
    return NetworkCosts(rows, not_counted, {node.name: name for name, found in uses.items() for node, _ in found})


def _own_codes(net: HybridBlock) -> dict[str, Codes]:
    """Those of an IntegerNetwork."""
    if not hasattr(net, "counted"):
        return {}
    return {name: Codes(codes, net.scales.weights[name]["scale"].size, net.record.bits)
            for name, codes in net.codes.items()}


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


def _members(net: HybridBlock, layer_of: Mapping[str, str]) -> dict[str, dict[str, Parameter]]:
    """{layer: {structural name: its parameter}}."""
    members: dict[str, dict[str, Parameter]] = defaultdict(dict)
    for name, parameter in parameters(net).items():
        members[layer_of[parameter.name]][name] = parameter
    return members


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


def _kind(nodes: Iterable[Node]) -> str:
    kinds = Counter(node.operator for node in nodes)
    listed = (operator if count == 1 else f"{operator} x{count}" for operator, count in kinds.items())
    return " + ".join(listed) or "unused"


def _arrays(members: Mapping[str, Parameter]) -> dict[str, np.ndarray]:
    """The values, because a parameter that SymbolBlock.imports read does not know its own shape."""
    return {known_as: value_of(parameter) for known_as, parameter in members.items()}


def _trained(members: Mapping[str, Parameter], auxiliary: Collection[str]) -> dict[str, np.ndarray]:
    return _arrays({known_as: parameter for known_as, parameter in members.items()
                    if parameter.name not in auxiliary and not isinstance(parameter, Constant)})


def _bytes(arrays: Mapping[str, np.ndarray], codes: Mapping[str, Codes]) -> list[int]:
    """Of each array as it is: codes and scales, or four for each value."""
    return [codes[known_as].bytes if known_as in codes else FP32_BYTES * array.size
            for known_as, array in arrays.items()]


def _row(name: str, members: Mapping[str, Parameter], uses: list[tuple[Node, int]], auxiliary: Collection[str],
         codes: Mapping[str, Codes]) -> LayerCost:
    arrays, trained = _arrays(members), list(_trained(members, auxiliary).values())
    nodes = [node for node, _ in uses]
    first = next((node for node in nodes if node.macs is not None), next(iter(nodes), None))
    return LayerCost(
        name=name,
        kind=_kind(nodes),
        output_shape=None if first is None else tuple(first.shapes[0]),
        parameters=sum(array.size for array in trained),
        nonzeros=sum(int(np.count_nonzero(array)) for array in trained),
        macs=sum(macs for _, macs in uses),
        fp32_bytes=FP32_BYTES * sum(array.size for array in arrays.values()),
        integer_bytes=sum(_bytes(arrays, codes)) if set(arrays) & set(codes) else None,
        channels=None if first is None else _channels(first),
        entropy_bytes=sum(_bits(array, codes.get(known_as)) for known_as, array in arrays.items()) / 8,
        weights=histogram(array for array in trained if array.ndim > 1))


def _bits(values: np.ndarray, codes: Codes | None) -> float:
    if codes is None:
        return bits_of_numbers(values)
    return bits_of_codes(codes.values) + 8 * FP32_BYTES * codes.scales


def _channels(node: Node) -> int | None:
    count = node.get("num_filter") or node.get("num_hidden")
    if isinstance(count, int):
        return count
    return node.shapes[0][1] if len(node.shapes[0]) > 1 else None
