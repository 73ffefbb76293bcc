"""Structured pruning: whole channels removed, so that the network really has smaller layers."""
from collections.abc import Iterable

import numpy as np

from ..arguments import check_choice, check_number
from ..errors import NetworkError
from ..network import parameters
from .graph import read_graph
from .groups import find_groups
from .plan import ChannelPlan, check_resizable, resizable_weights

CRITERIA = {"l1": 1, "l2": 2}  # the order of the norm


def prune_channels(net, example, ratio, criterion="l1", ignore=()):
    """Remove the least important output channels of convolutions and hidden dense layers.

    A channel goes where all that reads it is known: activations, pooling, BatchNorm, flattening, then
    ungrouped convolutions and dense layers. Other layers keep their channels and are named in the plan
    with the reason, and so is the layer that makes the network's output.

    Parameters
    ----------
    net : HybridBlock
        Changed in place. Its parameters stay the same objects, with new shapes: make a new Trainer, and give
        the outermost block, or hybridize the outer one again, since a hybridized block keeps its graph.
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
    check_resizable(net)
    if not isinstance(ignore, Iterable):
        raise TypeError(f"ignore is {ignore!r}; accepted: a list of layer names")
    ignore = (ignore,) if isinstance(ignore, str) else tuple(ignore)
    groups, untouched = find_groups(read_graph(net, example), resizable_weights(net))
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


def _ratios_per_layer(ratio, groups, untouched, ignore):
    """{layer name: ratio} of the layers to prune, all checked."""
    names = {group.name for group in groups}
    for name in ignore:
        if name not in names and name not in untouched:
            raise ValueError(f"ignore names {name!r}, but there is no such layer; there are "
                             f"{', '.join([*names, *untouched])}")
    if isinstance(ratio, dict) and (not ratio or set(ratio) & set(ignore)):
        raise ValueError(f"ratio is {ratio} and ignore {list(ignore)}; accepted: at least one layer in ratio, "
                         f"none in both")
    ratios = ratio if isinstance(ratio, dict) else {name: ratio for name in names}
    for name, value in ratios.items():
        if name not in names:
            raise ValueError(f"ratio names {name!r}: {untouched.get(name, 'there is no such layer')}; "
                             f"accepted: {', '.join(sorted(names))}")
        check_number(f"ratio of {name}" if isinstance(ratio, dict) else "ratio", value, minimum=0, below=1)
    return {name: value for name, value in ratios.items() if name not in ignore}
