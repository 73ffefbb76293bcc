"""The record of structured pruning: which channels went, and how to take them out of another copy."""
import mxnet as mx
import numpy as np
from mxnet.gluon import SymbolBlock, nn

from ..errors import RecordError
from ..network import walk, check_hybrid, parameters
from ..tables import format_table


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
        check_resizable(net)
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

    __str__ = __repr__ = summary

    def __or__(self, other):
        """One plan for this one and then ``other``, made on the network that this one left."""
        if not isinstance(other, ChannelPlan):
            return NotImplemented
        slices = {(cut["parameter"], cut["axis"]): cut for cut in self.slices}
        for cut in other.slices:
            key = cut["parameter"], cut["axis"]
            slices[key] = _after(slices[key], cut) if key in slices else cut
        layers = dict(self.layers)
        for name, layer in other.layers.items():
            layers[name] = _after(layers[name], layer) if name in layers else layer
        untouched = {name: reason for name, reason in {**self.untouched, **other.untouched}.items()
                     if name not in layers}
        return ChannelPlan(layers, list(slices.values()), untouched)

    def to_dict(self):
        """JSON-serializable."""
        return {"layers": self.layers, "slices": self.slices, "untouched": self.untouched}

    @classmethod
    def from_dict(cls, record):
        """The inverse of :meth:`to_dict`."""
        return cls(record["layers"], record["slices"], record["untouched"])


def _after(first, second):
    """``first``, then ``second`` of what it kept."""
    if len(first["kept"]) != second["before"]:
        raise RecordError(f"the second plan expects {second['before']} channels where the first leaves "
                          f"{len(first['kept'])}: it was not made on the network that the first one left")
    return {**first, "kept": [first["kept"][index] for index in second["kept"]]}


def check_resizable(net):
    """Raise ``TypeError`` for a SymbolBlock."""
    if isinstance(net, SymbolBlock):
        raise TypeError("net is a SymbolBlock, whose layer sizes are fixed in its graph; accepted: the "
                        "HybridBlock it was exported from")


def resizable_weights(net):
    """Weights of the layers whose number of channels :func:`_resize_layers` can set."""
    return {name for name, _, block in walk(net)
            if name.rpartition(".")[2] == "weight" and isinstance(block, (nn.Dense, nn.conv_layers._Conv))}


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
    for name, parameter, block in walk(net):
        if name.rpartition(".")[2] != "weight":
            continue
        if isinstance(block, nn.Dense):
            block._units, block._in_units = parameter.shape
        elif isinstance(block, nn.conv_layers._Conv) and block._op_name == "Convolution":
            block._channels = block._kwargs["num_filter"] = parameter.shape[0]
            block._in_channels = parameter.shape[1] * block._kwargs["num_group"]
