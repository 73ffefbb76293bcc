"""The curves of a sensitivity measurement, and the ratios that follow from them."""
from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from ...arguments import check_number
from ...errors import RecordError
from ...files.schema import REASONS, choice, fields, list_of, mapping, maybe, number, pair, text
from ...records import Record
from ...tables import format_table

CURVES = mapping(list_of(pair(number(0, 1), number())))  # {name: [[fraction, accuracy], ...]}
ROUNDING = 1e-9  # in floating point 0.9 - 0.89 is more than 0.01


@dataclass(repr=False)
class Sensitivity(Record):
    """The curves of :func:`measure_sensitivity`: plain data.

    Attributes
    ----------
    kind : "weights" or "channels"
    criterion : str
    fractions : list of float
        What was removed from each layer, ascending.
    layers : dict
        {name of a curve: the layers it was measured on}: one layer, which gives the curve its name, or several whose
        channels go together, of which the first gives the name.
    left_out : dict
        {layer name: why it was not measured}.
    baseline : float or None
        Accuracy of the network as it is; None before it was measured.
    curves : dict
        {name: {fraction: accuracy}}, fractions ascending, without those that would leave a layer empty.

    >>> curves = measure_sensitivity(net, lambda net: evaluate(net, validation_data), example, kind="channels")
    >>> prune_channels(net, example, ratio=curves.ratios(max_drop=0.01))
    """

    title = "record of a sensitivity measurement"
    schema = fields({"kind": choice("weights", "channels"), "criterion": text(), "fractions": list_of(number(0, 1)),
                     "layers": mapping(list_of(text())), "left_out": REASONS, "baseline": maybe(number()),
                     "curves": CURVES})

    kind: str
    criterion: str
    fractions: list[float]
    layers: dict[str, list[str]]
    left_out: dict[str, str]
    baseline: float | None = None
    curves: dict[str, dict[float, float]] = field(default_factory=dict)

    def ratios(self, max_drop: float) -> dict[str, float]:
        """{layer name: the largest fraction measured at which this layer alone costs at most ``max_drop``}.

        A curve is read from the left up to the first point beyond the budget: a good point after a bad one is
        luck. Nothing is interpolated: measure finer fractions for finer ratios. A layer for which even the smallest
        fraction costs too much gets 0.0. The result names all layers of a curve.

        Pass it to :func:`prune_channels` as ``ratio``, or to :func:`prune_magnitude` as ``sparsity``.

        ``max_drop`` holds for each layer alone. A network in which all layers lose their ratio loses more accuracy than
        that: train it afterwards.

        Parameters
        ----------
        max_drop : float
            At least 0, in units of the accuracy: 0.01 is one point of an accuracy in [0, 1].
        """
        check_number("max_drop", max_drop, minimum=0)
        if self.baseline is None:
            raise RecordError("the record has no baseline, the accuracy of the network as it is: measure it again")
        found = {}
        for name, curve in self.curves.items():
            bearable = 0.0
            for fraction, accuracy in sorted(curve.items()):
                if self.baseline - accuracy > max_drop + ROUNDING:
                    break
                bearable = fraction
            found.update(dict.fromkeys(self.layers[name], bearable))
        return found

    def summary(self) -> str:
        """A table: the accuracy of each curve at each fraction, "-" where the layer would be empty."""
        rows = []
        for name, curve in self.curves.items():
            coupled = [layer for layer in self.layers[name] if layer != name]
            rows.append((name, "-" if self.baseline is None else f"{self.baseline:.4f}",
                         *(f"{curve[fraction]:.4f}" if fraction in curve else "-" for fraction in self.fractions),
                         f"with {', '.join(coupled)}" if coupled else ""))
        empty = [""] * (len(self.fractions) + 1)
        rows += [(name, *empty, f"left out: {reason}") for name, reason in self.left_out.items()]
        return format_table(("layer", "0", *(f"{fraction:g}" for fraction in self.fractions), "note"), rows)

    def to_dict(self) -> dict[str, Any]:
        """JSON-serializable."""
        return {"kind": self.kind, "criterion": self.criterion, "fractions": self.fractions, "layers": self.layers,
                "left_out": self.left_out, "baseline": self.baseline, "curves": self.curves_as_pairs()}

    def curves_as_pairs(self) -> dict[str, list[list[float]]]:
        """{name: [[fraction, accuracy], ...]}, as JSON has no numbers for keys."""
        return {name: [list(pair) for pair in curve.items()] for name, curve in self.curves.items()}

    @classmethod
    def of_checked(cls, record: dict[str, Any]) -> Sensitivity:
        for name in record["curves"].keys() - record["layers"].keys():
            raise ValueError(f"it has a curve {name!r}, and does not say of which layers")
        return cls(**{**record, "curves": {name: dict(pairs) for name, pairs in record["curves"].items()}})
