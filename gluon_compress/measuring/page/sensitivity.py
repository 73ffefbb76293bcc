"""Curves of a sensitivity measurement: the error on a log axis, the layers that lose most in colour, all in a table."""
from __future__ import annotations

from typing import TYPE_CHECKING
from xml.etree.ElementTree import Element

from ..comparison import are_accuracies
from ..units import percent
from .elements import element
from .figures import figure
from .svg import Axis, Plot
from .tables import Cell, Column, table

if TYPE_CHECKING:
    from ...pruning import Sensitivity

COLOURED = 6  # curves; the rest is grey, and can be read in the table


def sensitivity_section(sensitivity: Sensitivity) -> list[Element]:
    """The figure and the table of a measurement; nothing without curves."""
    if not sensitivity.curves:
        return []
    return [element("div", _figure(sensitivity), _table(sensitivity), class_="grid")]


def ranked(sensitivity: Sensitivity) -> list[str]:
    """The names of the curves, the layer that loses most first: by the mean accuracy of its points."""
    return sorted(sensitivity.curves, key=lambda name: _mean(sensitivity.curves[name]))


def _mean(curve: dict[float, float]) -> float:
    return sum(curve.values()) / len(curve) if curve else float("inf")


def _what(sensitivity: Sensitivity) -> str:
    return "weights of a layer set to zero" if sensitivity.kind == "weights" else "channels of a layer removed"


def _figure(sensitivity: Sensitivity) -> Element:
    order = ranked(sensitivity)
    worst, best = order[0], order[-1]
    title = f"Sensitivity: {worst} can spare least" + (f", {best} most" if best != worst else "")
    curves = {name: _points(sensitivity, name) for name in order}
    marks = sorted({fraction for curve in curves.values() for fraction, _ in curve})
    x = Axis(0, marks[-1] if marks and marks[-1] else 1, _what(sensitivity), lambda value: f"{100 * value:g}%",
             marks=marks if len(marks) < 9 else ())
    y = _upright(sensitivity, [height for curve in curves.values() for _, height in curve])
    plot = Plot(x, y)
    if sensitivity.baseline is not None:
        height = max(_height(sensitivity, sensitivity.baseline), y.low)
        plot.line([(x.low, height), (x.high, height)], "baseline", "the network as it is")
    coloured = order[:COLOURED]
    for name in reversed(order):  # the most sensitive on top
        kind = f"n{coloured.index(name) + 1}" if name in coloured else "other"
        plot.line([(fraction, max(height, y.low)) for fraction, height in curves[name]], kind, name)
    than = "higher" if are_accuracies(sensitivity) else "lower"
    return figure(title, plot.svg(title), _legend(coloured, len(order) - len(coloured)),
                  text="Each curve is of one layer, or of several whose channels go together, pruned alone and not "
                       f"trained afterwards: the {than}, the more it loses.")


def _legend(coloured: list[str], others: int) -> Element:
    listed = [(f"n{index}", name) for index, name in enumerate(coloured, 1)]
    listed += [("other", f"{others} others")] if others else []
    listed.append(("baseline", "the network as it is"))
    return element("ul", *(element("li", element("span", class_=f"swatch {kind}"), name) for kind, name in listed),
                   class_="legend")


def _points(sensitivity: Sensitivity, name: str) -> list[tuple[float, float]]:
    start = {} if sensitivity.baseline is None else {0.0: sensitivity.baseline}
    return [(fraction, _height(sensitivity, value))
            for fraction, value in sorted({**start, **sensitivity.curves[name]}.items())]


def _height(sensitivity: Sensitivity, value: float) -> float:
    """An error, or what was measured where that is no accuracy."""
    return 1 - value if are_accuracies(sensitivity) else value


def _upright(sensitivity: Sensitivity, heights: list[float]) -> Axis:
    """Errors on a log axis, one of zero at half of the smallest other; other quantities on a linear one."""
    if are_accuracies(sensitivity):
        floor = min((height for height in heights if height > 0), default=0.02) / (2 if min(heights) <= 0 else 1)
        return Axis(floor / 1.15, max([*heights, floor]) * 1.15, "error (1 − accuracy)",
                    lambda value: f"{100 * value:.3g}%", log=True)
    room = 0.05 * (max(heights) - min(heights)) or 1.0
    return Axis(min(heights) - room, max(heights) + room, "what was measured", lambda value: f"{value:.4g}")


def _written(sensitivity: Sensitivity, value: float) -> str:
    return percent(value) if are_accuracies(sensitivity) else f"{value:.4g}"


def _table(sensitivity: Sensitivity) -> Element:
    names = list(sensitivity.curves)
    start = sensitivity.baseline
    best = max((value for curve in sensitivity.curves.values() for value in curve.values()), default=1.0)
    best = best if start is None else start
    lost = [max(best - accuracy, 0) for curve in sensitivity.curves.values() for accuracy in curve.values()]
    most = max(lost, default=0) or 1
    columns = [Column("layer", [Cell(name, name) for name in names], number=False)]
    if start is not None:
        columns.append(Column("0%", [Cell(_written(sensitivity, start), start) for _ in names]))
    for fraction in sensitivity.fractions:
        cells = [Cell("-") if fraction not in curve else
                 Cell(_written(sensitivity, curve[fraction]), curve[fraction], heat=(best - curve[fraction]) / most)
                 for curve in sensitivity.curves.values()]
        columns.append(Column(f"{100 * fraction:g}%", cells))
    together = [", ".join(layer for layer in sensitivity.layers.get(name, []) if layer != name) for name in names]
    if any(together):
        columns.append(Column("together with", [Cell(text) for text in together], number=False))
    label = f"{'Accuracy' if are_accuracies(sensitivity) else 'Measured'} with so many {_what(sensitivity)}"
    return element("div", element("h3", label), table(label, columns))
