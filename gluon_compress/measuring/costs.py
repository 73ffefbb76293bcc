"""What each layer of a network costs: parameters, nonzeros, multiply-accumulates (MACs), bytes."""
import re
from collections import Counter, defaultdict
from dataclasses import dataclass, replace
from math import prod

import numpy as np
from mxnet.gluon import Constant, SymbolBlock

from ..network.graph import Graph
from ..network.inputs import example_inputs
from ..network.values import parameters

# Operators whose MACs are counted. Each element of the named tensor meets every weight of one slice
# weight[i, ...] once, so that MACs = size of the tensor * prod(weight.shape[1:]):
#   Convolution     weight (C_out, C_in / groups, *kernel), per element of the output
#   Deconvolution   weight (C_in, C_out / groups, *kernel), per element of the input
#   FullyConnected  weight (units, in_units),               per element of the output
# Products with the zeros of a padding count, as is usual; so do those with pruned weights.
COUNTED = {"Convolution": "output", "Deconvolution": "input", "FullyConnected": "output",
           "_sg_mkldnn_conv": "output", "_sg_mkldnn_fully_connected": "output"}  # the last two of int8 networks
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
        Of the values as they are where weights are integers: codes, their scales, and four for every other value.
    """

    name: str
    kind: str
    output_shape: tuple
    parameters: int
    nonzeros: int
    macs: int
    fp32_bytes: int
    integer_bytes: int = None

    @property
    def bytes(self):
        """Of the values as they are."""
        return self.fp32_bytes if self.integer_bytes is None else self.integer_bytes

    @property
    def sparsity(self):
        """Share of zeros among the parameters, in [0, 1]."""
        return 1 - self.nonzeros / self.parameters if self.parameters else 0.0


def layer_costs(net, example):
    """``(layers, not_counted)``: a list of :class:`LayerCost`, and {operator: how many} without a MAC count.

    A weight that is used twice counts its MACs twice and its parameters once, under its first name.
    """
    if hasattr(net, "counted"):  # an IntegerNetwork, whose own graph depends on the processor
        return _integer_costs(net, example)
    inputs = example_inputs(example)
    graph = Graph(net, inputs)
    members = _members(net)
    layer_of = {parameter.name: layer for layer, its in members.items() for parameter in its}
    uses, not_counted = _uses(graph.nodes, layer_of, batch=inputs[0].shape[0])
    auxiliary = graph.auxiliary()
    names = dict.fromkeys([*members, *uses])  # a weight that is computed from the input has no members
    return [_row(name, members.get(name, []), uses[name], auxiliary) for name in names], not_counted


def _integer_costs(net, example):
    """Of an IntegerNetwork: its layers, each with what it takes as codes, scales and a bias in fp32."""
    network, owners, saved = net.counted()
    rows, not_counted = layer_costs(network, example)
    kept = {}
    for row in rows:
        owner = owners.get(row.name, row.name)
        if owner in kept:  # the same weights, called again
            first = kept[owner]
            kept[owner] = replace(first, kind=f"{first.kind} + {row.kind}", macs=first.macs + row.macs)
        else:
            kept[owner] = row
    return [replace(row, integer_bytes=row.fp32_bytes - saved[name]) if name in saved else row
            for name, row in kept.items()], not_counted


def _members(net):
    """{layer name: its parameters}, in the order in which they were added."""
    underscored = set()  # names of parameters whose structural name is conv0_weight rather than conv0.weight

    def collect(block):
        if isinstance(block, SymbolBlock):
            underscored.update(block.collect_params())
    net.apply(collect)
    members = defaultdict(list)
    for name, parameter in parameters(net).items():
        if parameter.name in underscored and "." not in name:
            layer = re.sub(r"_((running|moving)_)?[a-z]+$", "", name)
        else:
            layer = name.rpartition(".")[0]
        members[layer or WHOLE].append(parameter)
    return members


def _uses(nodes, layer_of, batch):
    """{layer: [(operator, output shape, MACs per sample)]}, and {operator: how many} that are not counted."""
    uses, not_counted = defaultdict(list), Counter()
    for node in nodes:
        if node.operator == "null":
            continue
        macs = {layer_of[source.name]: 0 for source, _ in node.inputs if source.name in layer_of}
        if node.operator in COUNTED:
            owner = layer_of.get(_first_parameter(node.inputs[1][0], layer_of), node.name)
            whole = _macs(node)
            macs[owner] = whole // batch if whole % batch == 0 else whole / batch
        else:
            not_counted[node.operator] += 1
        for layer, value in macs.items():
            uses[layer].append((node.operator, node.shapes[0], value))
    return uses, dict(sorted(not_counted.items()))


def _macs(node):
    """MACs of one operator for the whole batch."""
    tensor = node.input_shape(0) if COUNTED[node.operator] == "input" else node.shapes[0]
    return prod(tensor) * prod(node.input_shape(1)[1:])


def _first_parameter(node, known):
    """Name of the parameter that a weight is, or is computed from (a fake quantization, a mask); else None."""
    if node.name in known:
        return node.name
    found = (_first_parameter(source, known) for source, _ in node.inputs)
    return next((name for name in found if name is not None), None)


def _row(name, members, uses, auxiliary):
    # the arrays, because a parameter that SymbolBlock.imports read does not know its own shape
    arrays = {parameter: parameter.list_data()[0] for parameter in members}
    trained = [array for parameter, array in arrays.items()
               if parameter.name not in auxiliary and not isinstance(parameter, Constant)]
    counted = [use for use in uses if use[0] in COUNTED]
    kinds = Counter(operator for operator, _, _ in uses)
    kind = " + ".join(operator if count == 1 else f"{operator} x{count}" for operator, count in kinds.items())
    return LayerCost(
        name=name,
        kind=kind or "unused",
        output_shape=tuple((counted or uses)[0][1]) if uses else None,
        parameters=sum(array.size for array in trained),
        nonzeros=sum(int(np.count_nonzero(array.asnumpy())) for array in trained),
        macs=sum(macs for _, _, macs in uses),
        fp32_bytes=FP32_BYTES * sum(array.size for array in arrays.values()))
