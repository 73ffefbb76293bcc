"""The parts of a page, from the numbers at its head to the notes at its end."""
from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any
from xml.etree.ElementTree import Element

from ..comparison import all_equal, side_by_side
from ..report_text import notes, points
from ..units import NOTHING, dimensions, exact, milliseconds, percent, short
from . import figures, histograms
from .elements import Child, element
from .integers import integers_section
from .sensitivity import sensitivity_section
from .tables import Cell, Column, note, table

if TYPE_CHECKING:
    from ..reports import Report

# quantities of a report, what cards and tables call them, and how they are written
CARDS: list[tuple[str, str, str, Callable[[Any], str]]] = [
    ("file bytes", "Size of the file", "file", lambda value: short(value, "B")),
    ("bytes", "Size of all values", "values", lambda value: short(value, "B")),
    ("parameters", "Parameters", "parameters", short),
    ("MACs per sample", "Multiply-accumulates", "MACs", short),
    ("median ms", "Time of a batch", "time", lambda value: f"{milliseconds(value)} ms"),
    ("accuracy", "Top-1 accuracy", "accuracy", lambda value: f"{100 * value:.2f}%")]
OF_LAYERS: list[tuple[str, str, Callable[[Any], str]]] = [  # attributes of a LayerCost
    ("channels", "channels", exact), ("sparsity", "zeros", percent),
    ("bytes", "bytes", lambda value: short(value, "B")),
    ("entropy_bytes", "entropy", lambda value: short(value, "B")), ("macs", "MACs", short),
    ("milliseconds", "ms", milliseconds), ("parameters", "parameters", exact)]


def sections(report: Report) -> list[Element]:
    """All sections that have something to show."""
    curves = [(name, each) for name, network in report.networks.items() for each in network.sensitivities]
    integers = [(index, name, network) for index, (name, network) in enumerate(report.networks.items())
                if network.quantization]
    found: list[tuple[str, str, Sequence[Element | None]]] = [
        ("overview", "At a glance", [_cards(report)]),
        ("networks", "Networks", [_networks(report), _grid(
            figures.accuracy_against_size(report), figures.accuracy_against_time(report),
            figures.time_against_macs(report), figures.time_of_networks(report))]),
        ("layers", "Layers", [_grid(figures.size_by_layer(report), figures.time_of_layers(report)), _layers(report)]),
        ("weights", "Weights", [_grid(histograms.weights_of_networks(report), figures.zeros_by_layer(report)),
                                histograms.weights_of_layers(report)]),
        *((f"sensitivity-{number}", "What each layer can spare" + (f": {name}" if len(curves) > 1 else ""),
           sensitivity_section(each)) for number, (name, each) in enumerate(curves)),
        *((f"integers-{index}", "On integers" + (f": {name}" if len(report.networks) > 1 else ""),
           integers_section(network, index)) for index, name, network in integers),
        ("left-out", "What techniques left alone", [_left_out(report)]),
        ("notes", "Notes", [element("ul", *(element("li", line) for line in notes(report)), class_="notes")])]
    return [element("section", element("h2", title), *content, id=name) for name, title, content in found
            if any(each is not None for each in content)]


def _grid(*found: Element | None) -> Element | None:
    drawn = [each for each in found if each is not None]
    return element("div", *drawn, class_="grid") if drawn else None


def _cards(report: Report) -> Element:
    """The most important numbers, each against the first network."""
    after = report.quantities()
    first, before = next(((name, each.quantities()) for name, each in report.compared_with.items()), ("", {}))
    cards = []
    for what, title, _, write in CARDS:
        if after[what] is None:
            continue
        old = before.get(what)
        shown: list[Child] = [element("dt", title), element("dd", write(after[what]), class_="now")]
        if what == "accuracy":
            shown.append(element("dd", f"on {report.measured_on}", class_="was"))
        if old is not None:
            shown.append(element("dd", f"{first}: {write(old)}", class_="was"))
            worse = after[what] < old if what == "accuracy" else after[what] > old
            shown.append(element("dd", _change(what, old, after[what]), class_="change worse" if worse else "change"))
        cards.append(element("div", *shown, class_="card"))
    return element("dl", *cards, class_="cards")


def _change(what: str, before: float, after: float) -> str:
    if what == "accuracy":
        return points(after - before)
    if before == after or not before or not after:
        return "unchanged" if before == after else NOTHING
    more, less = ("slower", "faster") if what == "median ms" else ("more", "fewer")
    if "bytes" in what:
        more, less = "larger", "smaller"
    ratio = before / after
    return f"{ratio:.2f}x {less}" if ratio > 1 else f"{1 / ratio:.2f}x {more}"


def _networks(report: Report) -> Element | None:
    """A table with a row per network; nothing for one alone, whose numbers the cards have."""
    everything = report.networks
    if len(everything) < 2:
        return None
    quantities = [each.quantities() for each in everything.values()]
    shown = [*CARDS, ("entropy bytes", "", "entropy", lambda value: short(value, "B"))]
    columns = [Column("network", [Cell(name, name) for name in everything], number=False),
               Column("zeros", [Cell(percent(each.sparsity), each.sparsity) if each.layers else Cell(NOTHING)
                                for each in everything.values()])]
    for what, _, title, write in shown:
        cells = [Cell(NOTHING) if each[what] is None else Cell(write(each[what]), each[what], _hint(what, network))
                 for each, network in zip(quantities, everything.values())]
        if any(cell.value is not None for cell in cells):
            columns.append(Column(title, cells))
    if any(each.timing for each in everything.values()):
        ran = ["" if each.timing is None else f"{each.timing.precision}, {each.timing.execution}"
               for each in everything.values()]
        columns.append(Column("runs as", [Cell(text) for text in ran], number=False))
    return table("Networks", columns)


def _hint(what: str, network: Report) -> str:
    return f"on {network.measured_on}" if what == "accuracy" else exact(network.quantities()[what])


def _layers(report: Report) -> Element | None:
    """A row per layer; a column for each quantity, or one per network where these differ."""
    networks = figures.counted(report)
    rows = side_by_side(networks.values())
    if not rows:
        return None
    last = [next(cost for cost in reversed(row.costs) if cost is not None) for row in rows]
    columns = [Column("layer", [Cell(row.name) for row in rows], total="total", number=False),
               Column("kind", [Cell(cost.kind) for cost in last], number=False),
               Column("output", [Cell(dimensions(cost.output_shape and cost.output_shape[1:])) for cost in last],
                      number=False)]
    for attribute, title, write in OF_LAYERS:
        values = [row.values(attribute) for row in rows]
        if all(value is None for row in values for value in row):
            continue
        columns += _columns(attribute, title, write, values, networks)
    gone = [name for index, name in enumerate(networks) if any(row.costs[index] is None for row in rows)]
    remark = f"-: {', '.join(gone)} has no such layer; BatchNorm becomes part of a layer on integers." if gone else None
    return element("div", element("h3", "Every layer"), table("Every layer", columns), note(remark) if remark else None)


def _columns(attribute: str, title: str, write: Callable[[Any], str], values: Sequence[Sequence[Any]],
             networks: dict[str, Report]) -> list[Column]:
    """One column where all networks agree, else one for each."""
    same = all(all_equal(row) for row in values)
    shown = list(networks.items())[-1:] if same else list(networks.items())
    first = len(networks) - len(shown)
    found = []
    for number, (name, each) in enumerate(shown, first):
        cells = [Cell(NOTHING if row[number] is None else write(row[number]), row[number],
                      None if row[number] is None else exact(row[number])) for row in values]
        whole = getattr(each, attribute, None)
        total = "" if attribute == "channels" else NOTHING if whole is None else write(whole)
        alone = len(shown) == 1
        found.append(Column(title if alone else name, cells, None if alone else title, total))
    return found


def _left_out(report: Report) -> Element | None:
    rows = [(name, layer, reason) for name, each in report.networks.items() for layer, reason in each.left_out.items()]
    if not rows:
        return None
    names = [Column("network", [Cell(row[0]) for row in rows], number=False)] if len(report.networks) > 1 else []
    return table("What techniques left alone", [
        Column("layer", [Cell(row[1]) for row in rows], number=False), *names,
        Column("why", [Cell(row[2]) for row in rows], number=False)])
