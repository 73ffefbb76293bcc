"""What a network costs: per layer, in total, on disk, in time; beside other networks; as JSON."""
from __future__ import annotations

import json
import warnings
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from ..arguments import check_known, check_text
from ..errors import RecordError
from ..files.paths import check_path, check_target
from ..files.schema import Malformed, anything, fields, integer, list_of, mapping, maybe, number, parse, text
from ..files.writing import write_text
from ..network.latency import Timing
from ..pruning import Sensitivity
from ..quantization import QuantizationRecord
from ..records import Record
from .comparison import ratios
from .costs import LayerCost, share_of_zeros
from .report_text import markdown, tables
from .weight_values import Histogram

COUNT, MILLISECONDS = integer(0, 1 << 62), number(0)
_HISTOGRAM = fields({"exponent": integer(-1100, 1100), "first": integer(-64, 64), "counts": list_of(COUNT, most=64),
                     "zeros": COUNT})
_LAYER = fields({"name": text(), "kind": text(10_000), "output_shape": maybe(list_of(COUNT, most=32)),
                 "parameters": COUNT, "nonzeros": COUNT, "macs": number(0), "fp32_bytes": COUNT,
                 "integer_bytes": maybe(COUNT), "channels": maybe(COUNT), "entropy_bytes": number(0),
                 "weights": maybe(_HISTOGRAM), "milliseconds": maybe(MILLISECONDS)}, {"sparsity": number()})
_TIMING = fields({"median": MILLISECONDS, "lower_quartile": MILLISECONDS, "upper_quartile": MILLISECONDS,
                  "batch": COUNT, "threads": maybe(COUNT), "repeats": COUNT, "precision": text(), "execution": text()})


@dataclass(frozen=True, repr=False)
class Report(Record):
    """What :func:`report` found. ``str()`` is a table, ``to_dict()`` goes to JSON, ``write_html(path)`` makes a page.

    Attributes
    ----------
    layers : list of LayerCost
        Empty for a network without layers that count, and for one that another engine runs: of that only file,
        time and accuracy are known.
    not_counted : dict
        {operator: how many of them}: those whose MACs are taken as 0.
    input_shapes : list of tuple
        The shapes of the example's inputs, batch first.
    name : str
        What tables and figures call the network.
    file_name, file_bytes : str and int, or None
        A file on disk, and how long it is: indices, codebooks and headers included.
    timing : Timing or None
    accuracy, samples, data_name : float, int and str, or None
        Top-1 accuracy in [0, 1], on how many samples, and of which data.
    other_times : dict
        {operator: milliseconds} of the operators that belong to no layer, where times per layer were asked for.
    times_measured : str or None
        How times per layer were measured.
    quantization : QuantizationRecord or None
    sensitivities : list of Sensitivity
    left_out : dict
        {layer name: what left it alone, and why}, of all other records.
    engine : str or None
        The engine that runs the network as a whole, for one that ``export.engine`` gave.
    compared_with : dict
        {name: Report} of the networks beside which this one stands.
    """

    title = "report"
    schema = fields(
        {"layers": list_of(_LAYER), "not_counted": mapping(COUNT), "input_shapes": list_of(list_of(COUNT, most=32))},
        {"name": text(), "file_name": maybe(text()), "file_bytes": maybe(COUNT), "timing": maybe(_TIMING),
         "accuracy": maybe(number(0, 1)), "samples": maybe(COUNT), "data_name": maybe(text()),
         "other_times": mapping(MILLISECONDS), "times_measured": maybe(text(10_000)),
         "quantization": maybe(anything), "sensitivities": list_of(anything), "left_out": mapping(text(10_000)),
         "engine": maybe(text()), "compared_with": mapping(anything), "total": anything, "comparison": anything})

    layers: list[LayerCost]
    not_counted: dict[str, int]
    input_shapes: list[tuple[int, ...]]
    name: str = "network"
    file_name: str | None = None
    file_bytes: int | None = None
    timing: Timing | None = None
    accuracy: float | None = None
    samples: int | None = None
    data_name: str | None = None
    other_times: dict[str, float] = field(default_factory=dict)
    times_measured: str | None = None
    quantization: QuantizationRecord | None = None
    sensitivities: list[Sensitivity] = field(default_factory=list)
    left_out: dict[str, str] = field(default_factory=dict)
    engine: str | None = None
    compared_with: dict[str, Report] = field(default_factory=dict)

    @property
    def parameters(self) -> int:
        """Trained values, frozen ones included; running statistics and constants are not."""
        return sum(layer.parameters for layer in self.layers)

    @property
    def nonzeros(self) -> int:
        return sum(layer.nonzeros for layer in self.layers)

    @property
    def sparsity(self) -> float:
        """Share of zeros among the parameters, in [0, 1]."""
        return share_of_zeros(self.nonzeros, self.parameters)

    @property
    def macs(self) -> float:
        """Multiply-accumulates per sample of the batch, dense: products with zeros count."""
        return sum(layer.macs for layer in self.layers)

    @property
    def fp32_bytes(self) -> int:
        """Four bytes for each value, running statistics and constants included; no file needs to be that long."""
        return sum(layer.fp32_bytes for layer in self.layers)

    @property
    def bytes(self) -> int:
        """The bytes of the values as they are: as :attr:`fp32_bytes`, but weights on integers are codes and scales."""
        return sum(layer.bytes for layer in self.layers)

    @property
    def entropy_bytes(self) -> float:
        """What an entropy coder of order zero could make of the values: see :class:`LayerCost`."""
        return sum(layer.entropy_bytes for layer in self.layers)

    @property
    def measured_on(self) -> str:
        """On what the accuracy was measured: "10,000 samples of CIFAR-10"."""
        return f"{self.samples or 0:,} samples" + (f" of {self.data_name}" if self.data_name else "")

    @property
    def milliseconds(self) -> float | None:
        """Of all operators of a forward pass, where times per layer were asked for; these run one after the other."""
        if self.times_measured is None:
            return None
        return sum(layer.milliseconds or 0 for layer in self.layers) + sum(self.other_times.values())

    @property
    def baseline(self) -> Report | None:
        """The first network of ``compared_with``, by its old name."""
        warnings.warn("Report.baseline is now Report.compared_with, {name: Report}", DeprecationWarning, stacklevel=2)
        return next(iter(self.compared_with.values()), None)

    @property
    def networks(self) -> dict[str, Report]:
        """{name: Report} of the networks that it is compared with, and of itself, last."""
        return {**self.compared_with, self.name: self}

    def quantities(self) -> dict[str, Any]:
        """{quantity: number}, by which two reports are compared; None for what is not known or was not asked for."""
        known = bool(self.layers)
        counted = {"parameters": self.parameters, "nonzeros": self.nonzeros, "MACs per sample": self.macs,
                   "bytes": self.bytes, "entropy bytes": self.entropy_bytes}
        return {**{what: value if known else None for what, value in counted.items()}, "file bytes": self.file_bytes,
                "median ms": None if self.timing is None else self.timing.median, "accuracy": self.accuracy}

    def comparison(self, name: str | None = None) -> dict[str, dict]:
        """{what: {before, after, ratio}} against a network of ``compared_with``, the first by default.

        The ratio is before / after, None for an accuracy. {} where there is nothing to compare with.
        """
        if not self.compared_with:
            return {}
        if name is not None:
            check_text("name", name)
            check_known("name is", name, self.compared_with, "network in compared_with")
        before = self.compared_with[name or next(iter(self.compared_with))]
        return ratios(before.quantities(), self.quantities())

    def to_dict(self) -> dict[str, Any]:
        """JSON-serializable; with "total" and "comparison", which follow from the rest."""
        return {
            "name": self.name,
            "layers": [{**asdict(layer), "sparsity": layer.sparsity,
                        "output_shape": layer.output_shape and list(layer.output_shape)} for layer in self.layers],
            "total": {**self.quantities(), "fp32 bytes": self.fp32_bytes, "sparsity": self.sparsity},
            "not_counted": dict(self.not_counted),
            "input_shapes": [list(shape) for shape in self.input_shapes],
            "file_name": self.file_name,
            "file_bytes": self.file_bytes,
            "timing": self.timing and self.timing.to_dict(),
            "accuracy": self.accuracy,
            "samples": self.samples,
            "data_name": self.data_name,
            "other_times": dict(self.other_times),
            "times_measured": self.times_measured,
            "quantization": self.quantization and self.quantization.to_dict(),
            "sensitivities": [each.to_dict() for each in self.sensitivities],
            "left_out": dict(self.left_out),
            "comparison": self.comparison(),
            "compared_with": {name: other.to_dict() for name, other in self.compared_with.items()},
        }

    @classmethod
    def of_checked(cls, record: dict[str, Any]) -> Report:
        """The report of JSON that ``schema`` has accepted."""
        rest = {name: value for name, value in record.items() if name not in ("total", "comparison")}
        quantization, timing = rest.get("quantization"), rest.get("timing")
        return cls(**{
            **rest,
            "layers": [_layer_of(layer) for layer in rest["layers"]],
            "input_shapes": [tuple(shape) for shape in rest["input_shapes"]],
            "timing": None if timing is None else Timing(**timing),
            "quantization": None if quantization is None else QuantizationRecord.from_dict(quantization),
            "sensitivities": [Sensitivity.from_dict(each) for each in rest.get("sensitivities", [])],
            "compared_with": {name: cls._beside(other) for name, other in rest.get("compared_with", {}).items()}})

    @classmethod
    def _beside(cls, record: Any) -> Report:
        """One that stands beside another has none beside itself, so that files do not go deeper and deeper."""
        if isinstance(record, dict) and record.get("compared_with"):
            raise ValueError("a report in compared_with is compared with others itself")
        return cls.from_dict(record)

    def write_json(self, path: str | Path) -> Path:
        """Write :meth:`to_dict` as a file in one step, and return its path: :meth:`read_json` reads it."""
        check_target("path", path)
        write_text(path, json.dumps(self.to_dict(), indent=1))
        return Path(path)

    @classmethod
    def read_json(cls, path: str | Path) -> Report:
        """The report in a file, to compare with; ``RecordError`` for any other file."""
        check_path("path", path)
        try:
            return cls.from_dict(parse(Path(path).read_text(encoding="utf-8"), str(path)))
        except (Malformed, UnicodeDecodeError) as error:
            raise RecordError(f"{path} is not a report: {error}") from error

    def write_html(self, path: str | Path, title: str | None = None) -> Path:
        """Write the report as one HTML page that needs no other file and no network, and return its path.

        Parameters
        ----------
        path : str or Path
            An older file is replaced only by the complete new one.
        title : str, optional
            By default the names of the networks.
        """
        from .page.document import page  # not needed for a table
        check_target("path", path)
        write_text(path, page(self, title))
        return Path(path)

    def to_markdown(self) -> str:
        """The tables and notes of ``str()`` in Markdown."""
        return markdown(self)

    def summary(self) -> str:
        """Tables and notes for a terminal."""
        return tables(self)


def _layer_of(layer: Mapping[str, Any]) -> LayerCost:
    rest = {name: value for name, value in layer.items() if name != "sparsity"}
    shape, weights = rest["output_shape"], rest["weights"]
    return LayerCost(**{**rest, "output_shape": None if shape is None else tuple(shape),
                        "weights": None if weights is None else Histogram(**weights)})
