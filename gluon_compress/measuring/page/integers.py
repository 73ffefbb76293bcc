"""What of a network runs on integers and what does not and why, with ranges and signal-to-noise ratios."""
from __future__ import annotations

import math
from typing import TYPE_CHECKING
from xml.etree.ElementTree import Element

from ..units import percent
from .elements import element
from .figures import Bar, Row, bars, figure
from .tables import Cell, Column, note, table

if TYPE_CHECKING:
    from ...quantization import QuantizationRecord
    from ..reports import Report


def integers_section(report: Report, index: int) -> list[Element]:
    """Figures and tables of a network with a record of its quantization; ``index`` is its colour."""
    record = report.quantization
    if record is None or not (record.layers or record.left_out):
        return []
    return [element("div", _noise(report, record, index), _layers(record), class_="grid"), *_islands(record)]


def _noise(report: Report, record: QuantizationRecord, index: int) -> Element:
    on_integers = {name.partition("_again")[0] for name in record.layers}
    macs = sum(layer.macs for layer in report.layers if layer.name in on_integers)
    every = len(record.layers) + len(record.left_out)
    title = f"{len(record.layers)} of {every} layers run on {record.bits}-bit integers"
    if report.macs:
        title += f", {percent(macs / report.macs, 0)} of the multiplications"
    noises = {name: layer["snr"] for name, layer in record.layers.items() if layer["snr"] is not None}
    if noises:
        noisiest = min(noises, key=lambda name: noises[name])
        title += f"; {noisiest} is the noisiest, {noises[noisiest]:.1f} dB"
    rows: list[Row] = []
    for name, layer in record.layers.items():
        snr = layer["snr"]
        known = snr is not None and math.isfinite(snr)
        text = "not measured" if snr is None else f"{snr:.1f} dB"
        rows.append((name, [Bar(index, snr if known else 0.0, text)], None))
    rows += [(name, [], f"fp32: {reason}") for name, reason in record.left_out.items()]
    return figure(title, bars(rows, title), class_="tall",
                  text="Bars: signal-to-noise ratio of the layer's output in decibels; 10 dB less is ten times the "
                       "power of the error.")


def _layers(record: QuantizationRecord) -> Element:
    rows = [(name, f"int{record.bits}", layer["input"], layer["output"], layer["snr"], record.processor.get(name, ""))
            for name, layer in record.layers.items()]
    rows += [(name, "fp32", None, None, None, reason) for name, reason in record.left_out.items()]
    columns = [Column("layer", [Cell(row[0], row[0]) for row in rows], number=False),
               Column("runs on", [Cell(row[1], row[1]) for row in rows], number=False),
               Column("input", [_range(row[2]) for row in rows]), Column("output", [_range(row[3]) for row in rows]),
               Column("SNR", [Cell("-") if row[4] is None else Cell(f"{row[4]:.1f} dB", row[4]) for row in rows]),
               Column("note", [Cell(row[5]) for row in rows], number=False)]
    return element("div", element("h3", "Ranges of the layers' inputs and outputs"),
                   note(f"Calibration: {record.calibration}."), table("Layers on integers and their ranges", columns))


def _range(limits: list | None) -> Cell:
    if limits is None:
        return Cell("-")
    threshold, signed = limits
    return Cell(f"{-threshold if signed else 0:.4g} to {threshold:.4g}", threshold)


def _islands(record: QuantizationRecord) -> list[Element]:
    """Operators in fp32 between layers on integers."""
    if not record.islands:
        return [note("Between the layers on integers nothing computes in fp32.")] if record.layers else []
    names, islands = list(record.islands), list(record.islands.values())
    columns = [Column("operator", [Cell(name, name) for name in names], number=False),
               Column("kind", [Cell(island["operator"]) for island in islands], number=False)]
    if any("share" in island for island in islands):
        columns.append(Column("share of the time", [
            Cell(percent(island.get("share")), island.get("share")) for island in islands]))
    columns.append(Column("why", [Cell(island["reason"]) for island in islands], number=False))
    title = f"{len(names)} operator{'s' * (len(names) > 1)} in fp32 between layers on integers"
    measured = "" if record.islands_share is None else (
        f" They take {percent(record.islands_share, 0)} of the time, {record.islands_measured}.")
    return [element("div", element("h3", title), note(f"Each converts what it reads, and back.{measured}"),
                    table(title, columns))]
