"""The record of structured pruning: which channels were removed, and how to remove them from another copy."""
from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict
from typing import Any

import numpy as np
from mxnet.gluon import HybridBlock, Parameter

from ...errors import RecordError
from ...files.schema import REASONS, fields, integer, list_of, mapping, text
from ...network.checks import check_hybrid
from ...network.layer import layer_name
from ...network.numbers import Origin, number_at
from ...network.resizing import resize
from ...network.values import has_values, known_shape, parameters, value_of
from ...records import Record
from ...tables import format_table

_SIZE = integer(1, 2**31 - 1)
_KEPT = list_of(integer(0, 2**31 - 1), least=1)
_POSITIONS = list_of(integer(0, 2**31 - 1), least=1)

class ChannelPlan(Record, in_files="plan"):
    """Which channels a network lost: plain data that can be applied to a fresh copy of the original.

    Attributes
    ----------
    layers : dict
        {layer name: {"before": channels, "kept": sorted list of the channels kept}}.
    slices : list of dict
        One per parameter and axis: {"parameter", "axis", "before", "kept"}, ``kept`` being indices on that axis.
    left_out : dict
        {layer name: why all or some of its channels stay}.
    groups : dict
        {structural weight name: number of groups now} of the grouped convolutions that lost whole groups.
    positions : dict
        {structural name: new values} of the parameters with which ``take`` reorders channels.
    sizes : dict
        {:class:`~gluon_compress.network.numbers.Origin`: (before, after)} of numbers that count channels and are
        attributes of blocks, or of operators of a SymbolBlock.
    rounding : str or None
        What the numbers of channels were rounded to, where :func:`prune_channels` chose that itself; not saved.
    """

    title = "record of a channel plan, or the plan is damaged"
    schema = fields({
        "layers": mapping(fields({"before": _SIZE, "kept": _KEPT})),
        "slices": list_of(fields({"parameter": text(), "axis": integer(0, 31), "before": _SIZE, "kept": _KEPT})),
        "left_out": REASONS, "groups": mapping(_SIZE)},
        optional={"positions": mapping(_POSITIONS), "sizes": list_of(fields(
            {"block": text(), "attribute": text(), "before": _SIZE, "after": _SIZE},
            optional={"node": text(), "position": integer(0, 31)}))})
    resizes = True
    rounding: str | None = None

    def __init__(self, layers: dict[str, dict[str, Any]], slices: list[dict[str, Any]], left_out: dict[str, str],
                 groups: Mapping[str, int] | None = None, positions: Mapping[str, list[int]] | None = None,
                 sizes: Mapping[Origin, tuple[int, int]] | None = None) -> None:
        self.layers, self.slices, self.left_out = layers, slices, left_out
        self.groups, self.positions, self.sizes = dict(groups or {}), dict(positions or {}), dict(sizes or {})

    def apply(self, net: HybridBlock) -> HybridBlock:
        """Remove the same channels from ``net``, initialized or not, and return it.

        A trainer made earlier does not know the new shapes: make a new one. If you delete the slices of a layer that
        reads the channels, the plan still applies, and the next forward pass fails.

        Raises ``RecordError`` when the plan belongs to another network; ``net`` is then unchanged.
        """
        check_hybrid(net)
        named = parameters(net)
        self._check_slices(named)
        self._check_groups_and_positions(named)
        self._check_sizes(net)
        values: dict[str, np.ndarray] = {}
        for cut in self.slices:
            name, parameter = cut["parameter"], named[cut["parameter"]]
            if has_values(parameter):
                value = values[name] if name in values else value_of(parameter)
                values[name] = value.take(cut["kept"], axis=cut["axis"])
        for name, positions in self.positions.items():
            if has_values(named[name]):
                values[name] = np.array(positions, named[name].list_data()[0].dtype)
        resize(net, self.shapes(named), values, self.groups,
               {origin: after for origin, (_, after) in self.sizes.items()})
        return net

    def _check_slices(self, named: Mapping[str, Parameter]) -> None:
        try:
            for cut in self.slices:
                _check_slice(cut, named)
            self._check_whole(named)
        except (AttributeError, KeyError, TypeError, ValueError) as error:
            raise RecordError(f"the plan is damaged: {error!r}") from error
        if len({(cut["parameter"], cut["axis"]) for cut in self.slices}) < len(self.slices):
            raise RecordError("the plan is damaged: it cuts an axis of a parameter twice")

    def _check_groups_and_positions(self, named: Mapping[str, Parameter]) -> None:
        shapes = self.shapes(named)
        for name in {**self.groups, **self.positions}.keys() & named.keys() - shapes.keys():
            shapes[name] = known_shape(named[name]) or (0,)
        for name, count in self.groups.items():
            if name not in named or not isinstance(count, int) or count < 1:
                raise RecordError(f"the plan is damaged, or belongs to another network: it gives {name} {count} groups")
            if shapes[name][0] % count:
                raise RecordError(f"the plan is damaged: the channels of {name} do not divide into {count} groups")
        for name, positions in self.positions.items():
            if shapes.get(name) != (len(positions),):
                raise RecordError(f"the plan is damaged, or belongs to another network: it gives {name} "
                                  f"{len(positions)} positions")

    def _check_sizes(self, net: HybridBlock) -> None:
        for origin, (before, after) in self.sizes.items():
            number = number_at(net, origin)
            if number != before or not 0 < after <= before:
                raise RecordError(f"the plan is damaged, or belongs to another network: it makes {before} {after} in "
                                  f"{origin.attribute} of {origin.node or origin.block or 'the network'}, "
                                  f"which is {number}")

    def _check_whole(self, named: Mapping[str, Parameter]) -> None:
        """Raise ``RecordError`` when a layer loses channels that its weight or bias would keep."""
        cut = {piece["parameter"]: piece for piece in self.slices}
        for layer, channels in self.layers.items():
            if len(channels["kept"]) == channels["before"]:
                continue
            own = [name for name in named if layer_name(name) == layer or name in (f"{layer}.bias", f"{layer}_bias")]
            for name in own:  # in a SymbolBlock the bias may be that of another layer with the same weight
                shape = known_shape(named[name]) or ()
                if name not in cut and (name.endswith("weight") or channels["before"] in shape):
                    raise RecordError(f"the plan is damaged: layer {layer} loses channels, and {name} would keep them")

    def shapes(self, named: Mapping[str, Parameter]) -> dict[str, tuple[int, ...]]:
        """{structural name: new shape} of the parameters that the plan cuts; ``named`` are all of the network's."""
        shapes: dict[str, tuple[int, ...]] = {}
        for cut in self.slices:
            shape = list(shapes.get(cut["parameter"]) or known_shape(named[cut["parameter"]]) or ())
            shape[cut["axis"]] = len(cut["kept"])
            shapes[cut["parameter"]] = tuple(shape)
        return shapes

    def check(self, net: HybridBlock) -> None:
        """Raise ``RecordError`` unless ``net`` has the sizes that the plan leaves."""
        named = parameters(net)
        for cut in self.slices:
            shape = (known_shape(named[cut["parameter"]]) if cut["parameter"] in named else None) or ()
            if shape[cut["axis"]:cut["axis"] + 1] != (len(cut["kept"]),):
                raise RecordError(f"the plan was not applied to this network, or channels were removed again since: "
                                  f"it leaves {len(cut['kept'])} on axis {cut['axis']} of {cut['parameter']}, "
                                  f"whose shape is {shape or 'unknown here'}")

    def summary(self) -> str:
        """A table: layer, channels before and after, and the reason where nothing was removed."""
        rows: list[tuple[Any, ...]] = [(name, layer["before"], len(layer["kept"]), self._note(name, layer))
                for name, layer in self.layers.items()]
        rows += [(name, "", "", f"left out: {reason}") for name, reason in self.left_out.items()
                 if name not in self.layers]
        table = format_table(("layer", "before", "after", "note"), rows)
        return table if self.rounding is None else f"{table}\n{self.rounding}"

    def _note(self, name: str, layer: dict[str, Any]) -> str:
        some = "some stay" if len(layer["kept"]) < layer["before"] else "all stay"
        return f"{some}: {self.left_out[name]}" if name in self.left_out else ""

    def combined(self, other: ChannelPlan) -> ChannelPlan:
        """One plan for this one and then ``other``, made on the network that this one left."""
        slices = {(cut["parameter"], cut["axis"]): cut for cut in self.slices}
        for cut in other.slices:
            key = cut["parameter"], cut["axis"]
            slices[key] = _after(slices[key], cut) if key in slices else cut
        layers = dict(self.layers)
        for name, layer in other.layers.items():
            layers[name] = _after(layers[name], layer) if name in layers else layer
        left_out = {name: reason for name, reason in self.left_out.items() if name not in other.layers}
        left_out.update({name: reason for name, reason in other.left_out.items()
                         if name in other.layers or name not in self.layers})
        plan = ChannelPlan(layers, list(slices.values()), left_out, {**self.groups, **other.groups},
                           {**self.positions, **other.positions},
                           {**self.sizes, **{origin: (self.sizes[origin][0] if origin in self.sizes else before, after)
                                             for origin, (before, after) in other.sizes.items()}})
        plan.rounding = self.rounding or other.rounding
        return plan

    def to_dict(self) -> dict[str, Any]:
        """JSON-serializable."""
        record = {"layers": self.layers, "slices": self.slices, "left_out": self.left_out, "groups": self.groups}
        if self.positions:  # earlier files have no such entry
            record["positions"] = self.positions
        if self.sizes:
            record["sizes"] = [{**{name: value for name, value in asdict(origin).items() if value is not None},
                                "before": before, "after": after} for origin, (before, after) in self.sizes.items()]
        return record

    @classmethod
    def of_checked(cls, record: dict[str, Any]) -> ChannelPlan:
        sizes = {Origin(size["block"], size.get("node"), size["attribute"], size.get("position")):
                 (size["before"], size["after"]) for size in record.get("sizes", ())}
        return cls(**{**record, "sizes": sizes})

    def new_shapes(self, shapes: Mapping[str, Any]) -> dict[str, Any]:
        """The shapes after :meth:`apply`; an axis from which the channels are already gone stays as it is."""
        found = {name: list(shape or ()) for name, shape in shapes.items()}
        for cut in self.slices:
            if found[cut["parameter"]][cut["axis"]] == cut["before"]:
                found[cut["parameter"]][cut["axis"]] = len(cut["kept"])
        return found

    def resize(self, net: HybridBlock) -> None:
        self.apply(net)


def _after(first: dict[str, Any], second: dict[str, Any]) -> dict[str, Any]:
    """``first``, then ``second`` of what it kept."""
    if len(first["kept"]) != second["before"]:
        raise RecordError(f"the second plan expects {second['before']} channels where the first leaves "
                          f"{len(first['kept'])}: it was not made on the network that the first one left")
    return {**first, "kept": [first["kept"][index] for index in second["kept"]]}


def _check_slice(cut: dict[str, Any], named: Mapping[str, Parameter]) -> None:
    name, axis, before, kept = cut["parameter"], cut["axis"], cut["before"], np.asarray(cut["kept"])
    if name not in named:
        raise RecordError(f"the plan belongs to another network: there is no parameter {name} here")
    shape = known_shape(named[name])
    whole = kept.ndim == 1 and kept.dtype.kind == "i" and all(isinstance(value, int) for value in (axis, before))
    if not whole or axis < 0 or not kept.size or kept[0] < 0 or kept[-1] >= before or (np.diff(kept) <= 0).any():
        raise RecordError(f"the plan is damaged: what it keeps of {name} is not a sorted list of indices "
                          f"below {before}")
    if shape is None:
        raise RecordError(f"the plan cannot be applied yet: the shape of {name} is not known; give the SymbolBlock "
                          f"its parameters first")
    if axis >= len(shape) or shape[axis] not in (0, -1, before):
        raise RecordError(f"the plan belongs to another network, or was applied already: {name} has shape {shape}, "
                          f"the plan expects {before} on axis {axis}")
