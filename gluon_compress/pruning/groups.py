"""Which channels can go, and what goes with each: read off the network's graph.

Removing output channel ``c`` of a layer removes row ``c`` of its weight and bias, entry ``c`` of every
BatchNorm on the way, and input channel ``c`` of each layer that reads it (the columns
``c * m ... c * m + m - 1`` of a dense layer behind a flattening of ``m`` pixels per channel).
"""
from dataclasses import dataclass, field

import numpy as np

from ..network import layer_name

# Operators that compute each channel of their output from the same channel of their input.
CHANNELWISE = {"Activation", "LeakyReLU", "Pooling", "Dropout", "relu", "sigmoid", "tanh", "clip", "identity",
               "_copy"}
FLATTENING = {"Flatten", "flatten"}
READERS = CHANNELWISE | FLATTENING | {"Convolution", "FullyConnected", "BatchNorm"}


@dataclass
class Group:
    """A layer whose channels can go, and all slices of parameters that go with a channel.

    ``slices`` holds (structural parameter name, axis, entries per channel).
    """

    name: str
    weight: str
    channels: int
    slices: list = field(default_factory=list)


def find_groups(nodes, resizable):
    """(groups that can lose channels, {layer name: why not}) of a graph."""
    groups, untouched = [], {}
    shared = _shared_parameters(nodes)
    for node in nodes:
        if node.operator not in ("Convolution", "FullyConnected", "Deconvolution"):
            continue
        weight = node.inputs[1].parameter
        if weight is None:
            continue  # a weight that is computed, or an input: not a layer of ours
        name = layer_name(weight)
        try:
            if weight not in resizable:
                raise _CannotPrune("its number of channels is set by a hybrid_forward of yours")
            groups.append(_group(node, name, weight, shared))
        except _CannotPrune as reason:
            untouched[name] = str(reason)
    if not groups:
        raise ValueError(f"no layer of this network can lose channels: "
                         f"{'; '.join(f'{name}: {reason}' for name, reason in untouched.items()) or 'it has none'}")
    return groups, untouched


class _CannotPrune(Exception):
    """Why a layer keeps its channels."""


def _shared_parameters(nodes):
    return {node.parameter for node in nodes if node.parameter and len(node.consumers) > 1}


def _group(node, name, weight, shared):
    """The group of the channels that ``node`` makes, or ``_CannotPrune``."""
    if node.operator == "Deconvolution" or int(node.attributes.get("num_group", 1)) > 1:
        raise _CannotPrune("transposed and grouped convolutions are not handled yet")
    if node.attributes.get("layout", "None") not in ("None", "NCW", "NCHW", "NCDHW"):
        raise _CannotPrune(f"layout {node.attributes['layout']} is not handled yet")
    if node.operator == "FullyConnected" and not _flattens(node):
        raise _CannotPrune(f"a dense layer on input {node.inputs[0].shape}, with flatten=False, is not handled yet")
    group = Group(name, weight, node.shape[1])
    group.slices = [(source.parameter, 0, 1) for source in node.inputs[1:]]
    _follow(node, group, 1)
    for parameter, _, _ in group.slices:
        if parameter is None or parameter in shared:
            raise _CannotPrune(f"{parameter or 'a computed parameter'} is used in several places")
    return group


def _follow(node, group, entries):
    """Add what the readers of ``node`` lose; each channel is ``entries`` neighbours on axis 1 of its output."""
    if node.is_output:
        raise _CannotPrune("its channels are the network's output")
    for reader in node.consumers:
        if reader.operator not in READERS:
            raise _CannotPrune(f"read by {reader.operator} ({reader.name}), which is not handled yet")
        if reader.inputs[0] is not node or node in reader.inputs[1:]:
            raise _CannotPrune(f"read by {reader.operator} ({reader.name}) other than as its data")
        if reader.operator == "Convolution" and int(reader.attributes.get("num_group", 1)) == 1 and entries == 1:
            group.slices.append((reader.inputs[1].parameter, 1, 1))
        elif reader.operator == "FullyConnected" and _flattens(reader):
            pixels = int(np.prod(node.shape[2:]))
            group.slices.append((reader.inputs[1].parameter, 1, entries * pixels))
        elif reader.operator == "BatchNorm" and reader.attributes.get("axis", "1") == "1":
            group.slices += [(source.parameter, 0, entries) for source in reader.inputs[1:]]
            _follow(reader, group, entries)
        elif reader.operator == "LeakyReLU" and len(reader.inputs) > 1:
            raise _CannotPrune(f"read by PReLU ({reader.name}), which is not handled yet")
        elif reader.operator in CHANNELWISE:
            _follow(reader, group, entries)
        elif reader.operator in FLATTENING:
            _follow(reader, group, entries * int(np.prod(node.shape[2:])))
        else:
            raise _CannotPrune(f"read by {reader.operator} ({reader.name}) in a way that is not handled yet")


def _flattens(node):
    return node.attributes.get("flatten", "True") in ("True", "1") or len(node.inputs[0].shape) == 2
