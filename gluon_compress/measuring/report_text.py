"""A report in the terminal and in Markdown: its tables and the notes below them."""
from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING, NamedTuple

from ..tables import format_table
from .comparison import side_by_side
from .units import NOTHING, dimensions, exact, milliseconds, percent, short, times

if TYPE_CHECKING:
    from .costs import LayerCost
    from .reports import Report


class Table(NamedTuple):
    """A table of texts; each row has as many cells as the header."""

    header: Sequence[str]
    rows: Sequence[Sequence[str]]


def tables(report: Report) -> str:
    """All tables and notes for a terminal, in which a page of 100 columns shows them."""
    return "\n\n".join([*(format_table(*table) for table in _tables(report)), "\n".join(notes(report))])


def markdown(report: Report) -> str:
    """The same tables and notes in Markdown."""
    found = [_markdown(table) for table in _tables(report)]
    return "\n\n".join([*found, "\n".join(f"- {note}" for note in notes(report))])


def _tables(report: Report) -> list[Table]:
    others = list(report.compared_with.values())
    found = []
    if report.layers:
        pair = len(others) == 1 and bool(others[0].layers)
        found.append(_pairs_of_layers(others[0], report) if pair else _layers(report))
    if len(others) == 1:
        found.append(_before_and_after(report))
    if len(others) != 1 or not (report.layers and others[0].layers):
        found += [_networks(report)] if others or not report.layers else []
    return found


def _layers(report: Report) -> Table:
    """A row per layer of one network, and the total."""
    timed = report.times_measured is not None
    header = ("layer", "kind", "output", "parameters", "zeros", "MACs", "bytes", "entropy", *(["ms"] if timed else []))
    rows = [(layer.name, layer.kind, dimensions(layer.output_shape and layer.output_shape[1:]),
             *_cells(layer, timed)) for layer in report.layers]
    rows += [(f"({operator})", "", "", *[""] * 5, milliseconds(ms)) for operator, ms in report.other_times.items()]
    return Table(header, [*rows, ("total", "", "", *_cells(report, timed))])


def _cells(costs: LayerCost | Report, timed: bool) -> tuple[str, ...]:
    return (exact(costs.parameters), percent(costs.sparsity), short(costs.macs), short(costs.bytes, "B"),
            short(costs.entropy_bytes, "B"), *([milliseconds(costs.milliseconds)] if timed else []))


def _pairs_of_layers(before: Report, after: Report) -> Table:
    """A row per layer of either of two networks: what it was, and what it is where that differs."""
    rows = side_by_side([before, after])
    columns = {"channels": [[exact(value) for value in row.values("channels")] for row in rows],
               "zeros": [[percent(value) for value in row.values("sparsity")] for row in rows],
               "MACs": [[short(value) for value in row.values("macs")] for row in rows],
               "bytes": [[short(value, "B") for value in row.values("bytes")] for row in rows]}
    totals = {"channels": ["", ""], "zeros": [percent(each.sparsity) for each in (before, after)],
              "MACs": [short(each.macs) for each in (before, after)],
              "bytes": [short(each.bytes, "B") for each in (before, after)]}
    if before.times_measured or after.times_measured:
        columns["ms"] = [[milliseconds(value) for value in row.values("milliseconds")] for row in rows]
        totals["ms"] = [milliseconds(each.milliseconds) for each in (before, after)]
    cells = [_arrows([*pairs, totals[name]]) for name, pairs in columns.items()]
    header = [name.rjust(len(column[0])) for name, column in zip(columns, cells)]
    return Table(("layer", *header), list(zip([*(row.name for row in rows), "total"], *cells)))


def _arrows(pairs: Sequence[Sequence[str]]) -> list[str]:
    """"a → b" for each pair, or "b" where both are the same; the right ends stand under each other."""
    before, after = (max(len(pair[which]) for pair in pairs) for which in (0, 1))
    return [new.rjust(before + 3 + after) if old == new else f"{old.rjust(before)} → {new.rjust(after)}"
            for old, new in pairs]


def _before_and_after(report: Report) -> Table:
    rows = []
    for what, values in report.comparison().items():
        ratio = times(values["ratio"])
        if what == "accuracy":
            known = values["before"] is not None and values["after"] is not None
            ratio = points(values["after"] - values["before"]) if known else NOTHING
            rows.append((what, *("-" if values[when] is None else f"{values[when]:.4f}" for when in
                                 ("before", "after")), ratio))
        else:
            rows.append((what, exact(_whole(values["before"])), exact(_whole(values["after"])), ratio))
    before = next(iter(report.compared_with))
    return Table(("", before, report.name, "ratio"), rows)


def points(difference: float) -> str:
    """A difference of two accuracies in percentage points."""
    return f"{100 * difference:+.2f} points"


def _whole(value: float | None) -> float | None:
    """Bytes of an entropy are no whole number; a table does not care."""
    return round(value) if isinstance(value, float) and value > 1000 else value


def _networks(report: Report) -> Table:
    """A row per network."""
    header = ("network", "parameters", "zeros", "MACs", "bytes", "entropy", "file", "ms", "accuracy")
    rows = []
    for name, each in report.networks.items():
        counted = (short(each.parameters), percent(each.sparsity), short(each.macs), short(each.bytes, "B"),
                   short(each.entropy_bytes, "B")) if each.layers else (NOTHING,) * 5
        rows.append((name, *counted, short(each.file_bytes, "B"),
                     NOTHING if each.timing is None else milliseconds(each.timing.median),
                     NOTHING if each.accuracy is None else f"{each.accuracy:.4f}"))
    kept = [column for column in range(len(header)) if any(row[column] != NOTHING for row in rows)]
    return Table([header[column] for column in kept], [[row[column] for column in kept] for row in rows])


def notes(report: Report) -> list[str]:
    """What one has to know to read the numbers."""
    shapes = ", ".join(map(dimensions, report.input_shapes))
    found = [f"For input {shapes}. MACs per sample, dense: products with pruned weights count."]
    if report.layers:
        found.append("Entropy: what an entropy coder of order zero could make of the values; file formats add to it.")
    everything = report.networks.values()
    if any(each.bytes != each.fp32_bytes for each in everything):
        found.append("Bytes: integer weights count as codes and scales, every other value as four bytes.")
    if report.not_counted:
        listed = ", ".join(f"{operator} ({count})" for operator, count in report.not_counted.items())
        found.append(f"Not counted as MACs: {listed}.")
    untrained = report.fp32_bytes // 4 - report.parameters
    if untrained:
        found.append(f"In the bytes, but not in the parameters: {untrained:,} running statistics or constants.")
    return [*found, *measured(report)]


def measured(report: Report) -> Iterable[str]:
    """What was measured of each network, and how."""
    for name, each in report.networks.items():
        prefix = f"{name}: " if report.compared_with else ""
        if not each.layers:
            why = f"{each.engine} runs it as a whole" if each.engine else "none are known"
            yield f"{prefix}no layers, parameters and MACs are counted: {why}."
        if each.file_bytes is not None:
            yield f"{prefix}file {each.file_name}, {each.file_bytes:,} bytes."
        if each.timing is not None:
            yield f"{prefix}forward pass: {each.timing}."
        if each.times_measured is not None:
            yield f"{prefix}times per layer: {each.times_measured}."
        if each.accuracy is not None:
            yield f"{prefix}top-1 accuracy {each.accuracy:.4f} on {each.measured_on}."


def _markdown(table: Table) -> str:
    lines = [table.header, ["---"] * len(table.header), *table.rows]
    return "\n".join(f"| {' | '.join(cell.strip() for cell in line)} |" for line in lines)
