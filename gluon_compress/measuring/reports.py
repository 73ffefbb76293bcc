"""One table of what a network costs: per layer, in total, on disk, in time, and against what it was before."""
from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from mxnet.gluon import HybridBlock

from ..arguments import check_flag, check_integer
from ..files.paths import check_path
from ..network.inputs import example_inputs
from ..network.latency import Timing, measure_latency
from ..tables import format_table
from .costs import LayerCost, layer_costs

HEADER = ("layer", "kind", "output", "parameters", "nonzeros", "sparsity", "MACs", "bytes")


@dataclass(frozen=True)
class Report:
    """What :func:`report` found. ``str()`` is a table; ``to_dict()`` goes to JSON.

    Attributes
    ----------
    layers : list of LayerCost
    not_counted : dict
        {operator: how many of them}: those whose MACs are taken as 0.
    input_shapes : list of tuple
        The shapes of the example's inputs, batch first.
    file_name, file_bytes : str and int, or None
        A file on disk, and how long it is: indices, codebooks and headers included.
    timing : Timing or None
    baseline : Report or None
        The network before.
    """

    layers: list[LayerCost]
    not_counted: dict[str, int]
    input_shapes: list[tuple[int, ...]]
    file_name: str | None = None
    file_bytes: int | None = None
    timing: Timing | None = None
    baseline: Report | None = field(default=None, repr=False)

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
        return 1 - self.nonzeros / self.parameters if self.parameters else 0.0

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

    def quantities(self) -> dict[str, Any]:
        """{quantity: number}, by which two reports are compared; None for what was not asked for."""
        return {"parameters": self.parameters, "nonzeros": self.nonzeros, "MACs per sample": self.macs,
                "bytes": self.bytes, "file bytes": self.file_bytes,
                "median ms": self.timing and self.timing.median}

    def comparison(self) -> dict[str, dict]:
        """{what: {before, after, ratio}} against the baseline, ratio = before / after; {} without one."""
        if self.baseline is None:
            return {}
        before = self.baseline.quantities()
        return {name: {"before": before[name], "after": after,
                       "ratio": before[name] / after if before[name] is not None and after else None}
                for name, after in self.quantities().items() if before[name] is not None or after is not None}

    def to_dict(self) -> dict:
        return {
            "layers": [{**asdict(layer), "sparsity": layer.sparsity,
                        "output_shape": layer.output_shape and list(layer.output_shape)} for layer in self.layers],
            "total": {**self.quantities(), "sparsity": self.sparsity},
            "not_counted": dict(self.not_counted),
            "input_shapes": [list(shape) for shape in self.input_shapes],
            "file_name": self.file_name,
            "timing": self.timing and self.timing.to_dict(),
            "comparison": self.comparison(),
            "baseline": self.baseline and self.baseline.to_dict(),
        }

    def to_markdown(self) -> str:
        """The same tables and notes in Markdown."""
        tables = [_markdown(HEADER, self._rows())]
        if self.baseline is not None:
            tables.append(_markdown(("", "before", "after", "ratio"), self._comparison_rows()))
        return "\n\n".join([*tables, "\n".join(f"- {note}" for note in self._notes())])

    def __str__(self) -> str:
        tables = [format_table(HEADER, self._rows())]
        if self.baseline is not None:
            tables.append(format_table(("", "before", "after", "ratio"), self._comparison_rows()))
        return "\n\n".join([*tables, "\n".join(self._notes())])

    def _rows(self) -> list[tuple[str, ...]]:
        rows = [(layer.name, layer.kind, _shape(layer.output_shape), *_cells(layer)) for layer in self.layers]
        return [*rows, ("total", "", "", *_cells(self))]

    def _comparison_rows(self) -> list[tuple[str, ...]]:
        return [(name, _number(values["before"]), _number(values["after"]),
                 "-" if values["ratio"] is None else f"{values['ratio']:.2f}x")
                for name, values in self.comparison().items()]

    def _notes(self) -> list[str]:
        shapes = ", ".join(map(_shape, self.input_shapes))
        notes = [f"For input {shapes}. MACs per sample, dense: products with pruned weights count."]
        if self.bytes != self.fp32_bytes:
            notes.append("Bytes: integer weights count as codes and scales, every other value as four bytes.")
        if self.not_counted:
            listed = ", ".join(f"{operator} ({count})" for operator, count in self.not_counted.items())
            notes.append(f"Not counted as MACs: {listed}.")
        untrained = self.fp32_bytes // 4 - self.parameters
        if untrained:
            notes.append(f"In the bytes, but not in the parameters: {untrained:,} running statistics or constants.")
        for label, report in (("Before", self.baseline), ("After" if self.baseline else "", self)):
            prefix = f"{label}: " if label else ""
            if report is not None and report.file_bytes is not None:
                notes.append(f"{prefix}file {report.file_name}, {report.file_bytes:,} bytes.")
            if report is not None and report.timing is not None:
                notes.append(f"{prefix}forward pass: {report.timing}.")
        return notes


def report(net: HybridBlock, example: Any, baseline: HybridBlock | Report | None = None, path: str | Path | None = None,
           latency: bool = False, repeats: int = 30, warmup: int = 5) -> Report:
    """Count what ``net`` costs on ``example`` and return a :class:`Report`; the network stays as it is.

    ::

        print(report(net, example))
        print(report(pruned, example, baseline=net, path="pruned.gcz", latency=True))

    Parameters
    ----------
    net : HybridBlock
        Initialized, with known shapes; a SymbolBlock is one too.
    example : NDArray, or tuple of NDArray for a network of several inputs
        A batch ``(batch, ...)``; MACs are per sample of it.
    baseline : HybridBlock or Report, optional
        The network before, on the same example. For its file size as well, give
        ``report(before, example, path=...)``.
    path : str or Path, optional
        A file of the network: its length on disk is reported.
    latency : bool
        Time the forward pass too (and the baseline's, when it is given as a network): see
        :func:`measure_latency`, which takes ``repeats`` and ``warmup``.

    Raises
    ------
    TypeError
        When ``net`` is not a HybridBlock, or ``example`` not an NDArray.
    NetworkError
        When the network is not initialized, has shapes still to be inferred, or cannot be traced.
    ValueError
        When the example's shape does not fit.
    FileNotFoundError
        When there is no file at ``path``.
    """
    check_flag("latency", latency)
    check_integer("repeats", repeats, minimum=1)
    check_integer("warmup", warmup, minimum=0)
    layers, not_counted = layer_costs(net, example)
    file_bytes = None
    if path is not None:
        check_path("path", path)
        file_bytes = Path(path).stat().st_size
    if baseline is not None and not isinstance(baseline, Report):
        baseline = report(baseline, example, latency=latency, repeats=repeats, warmup=warmup)
    timing = measure_latency(net, example, repeats, warmup) if latency else None
    return Report(layers, not_counted, [value.shape for value in example_inputs(example)],
                  None if path is None else Path(path).name, file_bytes, timing, baseline)


def _cells(costs: LayerCost | Report) -> tuple[str, ...]:
    return (_number(costs.parameters), _number(costs.nonzeros), f"{100 * costs.sparsity:.1f}%",
            _number(costs.macs), _number(costs.bytes))


def _number(value: float | None) -> str:
    if value is None:
        return "-"
    return f"{value:,}" if isinstance(value, int) else f"{value:,.3f}"


def _shape(shape: tuple[int, ...] | None) -> str:
    return "-" if shape is None else "x".join(map(str, shape))


def _markdown(header: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    lines = [header, ["---"] * len(header), *rows]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)
