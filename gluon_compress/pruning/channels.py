"""Structured pruning: whole channels removed, so that the network really has smaller layers.

Removing output channel ``c`` of a layer removes row ``c`` of its weight and bias, entry ``c`` of every
BatchNorm on the way, and input channel ``c`` of each layer that reads it (the columns
``c * m ... c * m + m - 1`` of a dense layer behind a flattening of ``m`` pixels per channel).
"""
from dataclasses import dataclass, field

import mxnet as mx
import numpy as np
from mxnet.gluon import SymbolBlock, nn

from ..arguments import check_choice, check_number
from ..errors import NetworkError, RecordError
from ..network import _walk, check_hybrid, layer_name, parameters
from ..tables import format_table
from .graph import read_graph

# Operators that compute each channel of their output from the same channel of their input.
CHANNELWISE = {"Activation", "LeakyReLU", "Pooling", "Dropout", "relu", "sigmoid", "tanh", "clip", "identity",
               "_copy"}
FLATTENING = {"Flatten", "flatten"}
READERS = CHANNELWISE | FLATTENING | {"Convolution", "FullyConnected", "BatchNorm"}
CRITERIA = {"l1": 1, "l2": 2}


@dataclass
class Group:
    """A layer whose channels can go, and all slices of parameters that go with a channel.

    ``slices`` holds (structural parameter name, axis, entries per channel).
    """

    name: str
    weight: str
    channels: int
    slices: list = field(default_factory=list)


class ChannelPlan:
    """Which channels a network lost: plain data, can be applied to a fresh copy of the original.

    Attributes
    ----------
    layers : dict
        {layer name: {"before": channels, "kept": sorted list of the channels kept}}.
    slices : list of dict
        One per parameter and axis: {"parameter", "axis", "before", "kept"}, ``kept`` being indices on that axis.
    untouched : dict
        {layer name: why its channels stay}.
    """

    def __init__(self, layers, slices, untouched):
        self.layers, self.slices, self.untouched = layers, slices, untouched

    def apply(self, net):
        """Remove the same channels from ``net``, initialized or not, and return it.

        A trainer made before does not know the new shapes: make a new one.

        Raises ``RecordError`` when the plan is of another network; ``net`` is then unchanged.
        """
        check_hybrid(net)
        _check_resizable(net)
        named = parameters(net)
        for cut in self.slices:
            _check_slice(cut, named)
        data = {}
        for cut in self.slices:
            parameter = named[cut["parameter"]]
            if parameter._data is not None:
                values = data.get(cut["parameter"], parameter.list_data()[0].asnumpy())
                data[cut["parameter"]] = values.take(cut["kept"], axis=cut["axis"])
        for cut in self.slices:
            _resize_parameter(named[cut["parameter"]], cut["axis"], len(cut["kept"]))
        for name, values in data.items():
            parameter = named[name]
            parameter._init_impl(mx.nd.array(values, dtype=values.dtype), parameter.list_ctx())
        _resize_layers(net)
        net.apply(lambda block: block._clear_cached_op())
        return net

    def check_applied(self, net):
        """Raise ``RecordError`` unless ``net`` has the sizes that the plan leaves."""
        named = parameters(net)
        for cut in self.slices:
            shape = named[cut["parameter"]].shape if cut["parameter"] in named else ()
            if shape[cut["axis"]:cut["axis"] + 1] != (len(cut["kept"]),):
                raise RecordError(f"the plan was not applied to this network, or channels were removed again since: "
                                  f"it leaves {len(cut['kept'])} on axis {cut['axis']} of {cut['parameter']}, "
                                  f"whose shape is {shape or 'unknown here'}")

    def summary(self):
        """A table: layer, channels before and after, and the reason where nothing was removed."""
        rows = [(name, layer["before"], len(layer["kept"]), "") for name, layer in self.layers.items()]
        rows += [(name, "", "", f"untouched: {reason}") for name, reason in self.untouched.items()]
        return format_table(("layer", "before", "after", "note"), rows)

    __str__ = summary

    def to_dict(self):
        """JSON-serializable."""
        return {"layers": self.layers, "slices": self.slices, "untouched": self.untouched}

    @classmethod
    def from_dict(cls, record):
        """The inverse of :meth:`to_dict`."""
        return cls(record["layers"], record["slices"], record["untouched"])


def prune_channels(net, example, ratio, criterion="l1", ignore=()):
    """Remove the least important output channels of convolutions and hidden dense layers.

    A channel goes where all that reads it is known: activations, pooling, BatchNorm, flattening, then
    ungrouped convolutions and dense layers. Other layers keep their channels and are named in the plan
    with the reason, and so is the layer that makes the network's output.

    Parameters
    ----------
    net : HybridBlock
        Changed in place. Its parameters stay the same objects, with new shapes: make a new Trainer.
    example : NDArray
        A batch of the network's input; only its shape matters.
    ratio : float or dict
        Fraction of channels to remove from each layer, in [0, 1), rounded to whole channels; or
        {layer name: fraction}, which leaves all others alone.
    criterion : "l1" or "l2"
        Channels are ranked by that norm of their own weights, without bias.
    ignore : iterable of str
        Names of layers that keep their channels.

    Returns
    -------
    ChannelPlan

    Raises
    ------
    ValueError
        For a ratio out of range or that would empty a layer, names that match nothing, an example that
        does not fit, and when nothing in the network can be pruned.

    Li et al., "Pruning Filters for Efficient ConvNets", 2017, section 3.1.
    """
    check_choice("criterion", criterion, tuple(CRITERIA))
    _check_resizable(net)
    ignore = (ignore,) if isinstance(ignore, str) else tuple(ignore)
    groups, untouched = _find_groups(read_graph(net, example), _resizable_weights(net))
    ratios = _ratios_per_layer(ratio, groups, untouched, ignore)
    named = parameters(net)
    layers, slices = {}, []
    for group in groups:
        if group.name not in ratios:
            untouched[group.name] = "ignored" if group.name in ignore else "not in ratio"
            continue
        removed = round(ratios[group.name] * group.channels)
        if removed == group.channels:
            raise ValueError(f"ratio={ratios[group.name]} would remove all {group.channels} channels of layer "
                             f"{group.name}; accepted there: less than {(group.channels - 0.5) / group.channels:.3f}")
        importance = channel_importance(named[group.weight].list_data()[0].asnumpy(), criterion, group.name)
        kept = np.sort(np.argsort(importance, kind="stable")[removed:])
        layers[group.name] = {"before": group.channels, "kept": kept.tolist()}
        for parameter, axis, entries in group.slices:
            positions = (kept[:, None] * entries + np.arange(entries)).ravel()
            slices.append({"parameter": parameter, "axis": axis, "before": group.channels * entries,
                           "kept": positions.tolist()})
    plan = ChannelPlan(layers, slices, untouched)
    plan.apply(net)
    return plan


def channel_importance(weight, criterion, name="weight"):
    """``sum |w|**p`` to the power ``1/p`` over each output channel, ``weight`` being (out, in, ...)."""
    if not np.isfinite(weight).all():
        raise NetworkError(f"layer {name} has weights that are not finite; train or load the network again")
    order = CRITERIA[criterion]
    rows = np.abs(weight.reshape(len(weight), -1).astype(np.float64))
    return (rows ** order).sum(axis=1) ** (1 / order)


def _check_resizable(net):
    if isinstance(net, SymbolBlock):
        raise TypeError("net is a SymbolBlock, whose layer sizes are fixed in its graph; accepted: the "
                        "HybridBlock it was exported from")


def _resizable_weights(net):
    """Weights of the layers whose number of channels :func:`_resize_layers` can set."""
    return {name for name, _, block in _walk(net)
            if name.rpartition(".")[2] == "weight" and isinstance(block, (nn.Dense, nn.conv_layers._Conv))}


def _find_groups(nodes, resizable):
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


def _ratios_per_layer(ratio, groups, untouched, ignore):
    """{layer name: ratio} of the layers to prune, all checked."""
    names = {group.name for group in groups}
    for name in ignore:
        if name not in names and name not in untouched:
            raise ValueError(f"ignore names {name!r}, but there is no such layer; there are "
                             f"{', '.join([*names, *untouched])}")
    ratios = ratio if isinstance(ratio, dict) else {name: ratio for name in names}
    for name, value in ratios.items():
        if name not in names:
            raise ValueError(f"ratio names {name!r}: {untouched.get(name, 'there is no such layer')}; "
                             f"accepted: {', '.join(sorted(names))}")
        check_number(f"ratio of {name}" if isinstance(ratio, dict) else "ratio", value, minimum=0, below=1)
    return {name: value for name, value in ratios.items() if name not in ignore}


def _check_slice(cut, named):
    name, axis = cut["parameter"], cut["axis"]
    if name not in named:
        raise RecordError(f"the plan is of another network: there is no parameter {name} here")
    shape = named[name].shape
    kept = np.asarray(cut["kept"])
    if kept.size == 0 or kept[0] < 0 or kept[-1] >= cut["before"] or (np.diff(kept) <= 0).any():
        raise RecordError(f"the plan is damaged: what it keeps of {name} is no sorted list of indices below "
                          f"{cut['before']}")
    if shape is None or axis >= len(shape) or shape[axis] not in (0, -1, cut["before"]):
        raise RecordError(f"the plan is of another network, or was applied already: {name} has shape {shape}, "
                          f"the plan expects {cut['before']} on axis {axis}")


def _resize_parameter(parameter, axis, size):
    parameter._shape = tuple(size if i == axis else old for i, old in enumerate(parameter._shape))
    parameter._var = None  # the symbol in which Gluon keeps the shape, made again when needed


def _resize_layers(net):
    """Make the layers' own numbers of channels agree with their parameters."""
    for name, parameter, block in _walk(net):
        if name.rpartition(".")[2] != "weight":
            continue
        if isinstance(block, nn.Dense):
            block._units, block._in_units = parameter.shape
        elif isinstance(block, nn.conv_layers._Conv) and block._op_name == "Convolution":
            block._channels = block._kwargs["num_filter"] = parameter.shape[0]
            block._in_channels = parameter.shape[1] * block._kwargs["num_group"]
