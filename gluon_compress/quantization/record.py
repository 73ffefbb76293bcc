"""What quantization did to each layer: plain data."""
from __future__ import annotations

import math
from dataclasses import dataclass, field
from typing import Any

from ..arguments import check_choice
from ..files.schema import (
    REASONS,
    boolean,
    choice,
    either,
    fields,
    integer,
    list_of,
    mapping,
    maybe,
    number,
    pair,
    text,
)
from ..records import Record
from ..tables import format_table
from .arithmetic.ranges import Range

_RANGE = pair(number(above=0), boolean)
_LAYER = fields({"input": _RANGE, "output": _RANGE, "summand": maybe(_RANGE), "lowest": number(),
                 "snr": maybe(either(choice(math.inf, -math.inf), number()))},
                {"activation": choice("leaky", "prelu"), "before": number(above=0)})
_ISLAND = fields({"operator": text(), "reason": text(10_000)}, {"share": number(0, 1)})
ENDS = ("input", "output", "summand")
NARROWER = ("this processor adds two products in 16 bits: weights are narrower here where sums would be cut; files "
            "keep 8 bits")


@dataclass(repr=False)
class QuantizationRecord(Record):
    """What became of every layer, and what a network on integers needs besides the weights.

    Attributes
    ----------
    layers : dict
        {layer name: {"input": [threshold, signed], "output": [threshold, signed], "summand": [threshold, signed] or
        None, "lowest": smallest value of the output, "snr": dB or None}} of the layers that run on integers.
        Thresholds are in units of the tensors; "output" includes the addition and the activation that follow
        the layer; "snr" is the power of that output over the power of the error. Where the layer also computes a
        leaky ReLU or a PReLU, "activation" is "leaky" or "prelu". "before" is the threshold of the layer's own output
        where an addition or such an activation follows; only ONNX needs it, and older files do not have it.
    left_out : dict
        {layer name: why it stays in fp32}.
    bits : int
    calibration : str
        How thresholds were chosen, and from how many samples.
    baseline_accuracy, accuracy : float or None
        Those of the fp32 network and of the quantized one, where a bound on the loss made ``quantize`` measure them.
    processor : dict
        {layer name: what differs on this processor} for the network that has this record; not in files.
    islands : dict
        {name: {"operator": MXNet's name, "reason": why it does not run on integers}} of the operators that compute in
        fp32 between integer layers; with "share", their share of the time of a forward pass, once
        :func:`gluon_compress.measuring.measure_islands` has measured it.
    islands_share, islands_measured : float and str, or None
        Their total share, including the conversions around them, and what it was measured on.
    """

    title = "record of a quantization"
    schema = fields({"layers": mapping(_LAYER), "left_out": REASONS},
                    {"bits": integer(2, 8), "calibration": text(10_000), "baseline_accuracy": maybe(number()),
                     "accuracy": maybe(number()), "notes": list_of(text(10_000)), "islands": mapping(_ISLAND),
                     "islands_share": maybe(number(0, 1)), "islands_measured": maybe(text(10_000))})

    layers: dict[str, dict[str, Any]]
    left_out: dict[str, str]
    bits: int = 8
    calibration: str = ""
    baseline_accuracy: float | None = None
    accuracy: float | None = None
    notes: list[str] = field(default_factory=list)
    processor: dict[str, str] = field(default_factory=dict, compare=False)
    islands: dict[str, dict[str, Any]] = field(default_factory=dict)
    islands_share: float | None = None
    islands_measured: str | None = None

    def range(self, layer: str, what: str) -> Range:
        """The :class:`Range` of a layer's "input", "output" or "summand"; ``ValueError`` where there is none."""
        check_choice("layer", layer, tuple(self.layers))
        check_choice("what", what, tuple(end for end in ENDS if self.layers[layer][end] is not None))
        threshold, signed = self.layers[layer][what]
        return Range(threshold, signed, self.bits)

    def summary(self) -> str:
        """A table of the layers: what each runs on, the thresholds of input and output, signal-to-noise ratio, reason.

        Below it, the operators that compute in fp32 between integer layers.
        """
        rows = [(name, f"int{self.bits}", _ends(layer["input"]), _ends(layer["output"]),
                 "" if layer["snr"] is None else f"{layer['snr']:.1f} dB", self.processor.get(name, ""))
                for name, layer in self.layers.items()]
        rows += [(name, "fp32", "", "", "", reason) for name, reason in self.left_out.items()]
        lines = [format_table(("layer", "runs on", "input", "output", "SNR", "note"), rows),
                 *self._islands(), f"calibration: {self.calibration}", *self.notes]
        if self.processor:
            lines.append(NARROWER)
        if self.accuracy is not None:
            lines.append(f"accuracy {self.accuracy:.4f}, of the fp32 network {self.baseline_accuracy:.4f}")
        return "\n".join(lines)

    def _islands(self) -> list[str]:
        """Lines about fp32 between integer layers."""
        if not self.islands:
            return ["between integer layers nothing computes in fp32"] if self.layers else []
        head = "in fp32 between integer layers"
        if self.islands_share is not None:
            head += f", {100 * self.islands_share:.0f} % of the time with the conversions ({self.islands_measured})"
        rows = [(name, island["operator"], "" if "share" not in island else f"{100 * island['share']:.1f} %",
                 island["reason"]) for name, island in self.islands.items()]
        return [f"{head}:", format_table(("operator", "kind", "time", "why"), rows)]

    def to_dict(self) -> dict[str, Any]:
        """JSON-serializable."""
        return {"layers": self.layers, "left_out": self.left_out, "bits": self.bits, "calibration": self.calibration,
                "baseline_accuracy": self.baseline_accuracy, "accuracy": self.accuracy, "notes": self.notes,
                "islands": self.islands, "islands_share": self.islands_share,
                "islands_measured": self.islands_measured}


def _ends(limits: list[Any]) -> str:
    threshold, signed = limits
    return f"{-threshold if signed else 0:.4g} to {threshold:.4g}"
