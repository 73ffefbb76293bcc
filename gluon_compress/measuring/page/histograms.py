"""Histograms of weights: of all together, and of each layer; counts on a log axis, zeros apart."""
from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING
from xml.etree.ElementTree import Element

from ..comparison import side_by_side
from ..units import percent, tick
from ..weight_values import Histogram, together
from .elements import breakable, element
from .figures import figure, legend, style
from .svg import HEIGHT, LEFT, Axis, Plot, step_path

if TYPE_CHECKING:
    from ..reports import Report

FLOOR = 0.5  # of counts on a log axis, where the smallest count is 1
ZEROS = 34  # the width in which zeros stand, left of the other values
SMALL_WIDTH, SMALL_HEIGHT = 180, 84


def weights_of_networks(report: Report) -> Element | None:
    """One plot of all weights of each network."""
    found = {}
    for index, (name, each) in enumerate(report.networks.items()):
        whole = together([layer.weights for layer in each.layers if layer.weights is not None])
        if whole is not None:
            found[name] = (index, whole)
    if not found:
        return None
    shares = ", ".join(f"{percent(whole.zeros / whole.total)} in {name}" if len(found) > 1 else
                       percent(whole.zeros / whole.total) for name, (_, whole) in found.items() if whole.total)
    title = f"All weights: zeros are {shares}"
    text = "How many weights lie in each bin, on a log axis. Exact zeros stand apart, left of the line."
    if any(each.quantization for each in report.networks.values()):
        text += " Weights on integers have BatchNorm's scale in them."
    return figure(title, legend(report, found), _plot(found, title), text=text)


def _plot(found: Mapping[str, tuple[int, Histogram]], title: str) -> Element:
    alike = _alike([each for _, each in found.values()])
    limit = _limit(alike)
    x = Axis(-limit, limit, "value of the weight", lambda value: f"{value:.3g}", start=LEFT + ZEROS + 14)
    most = max(max([*each.counts, each.zeros], default=1) for each in alike)
    y = Axis(FLOOR, max(2.0, 1.6 * most), "weights", tick, log=True)
    plot = Plot(x, y)
    width = ZEROS / len(alike)
    for number, ((name, (index, _)), each) in enumerate(zip(found.items(), alike)):
        plot.steps(_edges(each), [max(count, FLOOR) for count in each.counts], style(index))
        if each.zeros:
            left = LEFT + 2 + number * width
            plot.bar(left, left + width - 1, each.zeros, style(index),
                     f"{name}: {each.zeros:,} zeros, {percent(each.zeros / each.total)}")
    plot.text((LEFT + 2 + ZEROS / 2, HEIGHT - 27), "zeros", anchor="middle")
    plot.drawn.append(element("line", x1=x.start - 6, x2=x.start - 6, y1=plot.y.start, y2=plot.y.end, class_="axis"))
    plot.drawn.append(element("line", x1=LEFT, x2=x.start, y1=plot.y.start, y2=plot.y.start, class_="axis"))
    return plot.svg(title)


def weights_of_layers(report: Report) -> Element | None:
    """A small plot for each layer, of the first network and the last."""
    networks = list(report.networks.items())
    chosen = networks if len(networks) < 3 else [networks[0], networks[-1]]
    rows = [(row.name, [(networks.index(network), weights) for network, weights in zip(chosen, row.values("weights"))
                        if weights is not None]) for row in side_by_side(each for _, each in chosen)]
    rows = [(name, found) for name, found in rows if found]
    if not rows:
        return None
    plots = [element("div", _small(name, found), element("p", *breakable(name), class_="name"), class_="small")
             for name, found in rows]
    text = "Counts on a log axis, each plot on its own scale; the bars on the left are zeros."
    if len(chosen) < len(networks):
        text += f" Of {chosen[0][0]} and {chosen[-1][0]}."
    return element("details", element("summary", f"Weights of each of the {len(rows)} layers"),
                   element("p", text, class_="note"), element("div", *plots, class_="smalls"))


def _small(name: str, found: Sequence[tuple[int, Histogram]]) -> Element:
    """A plot without axes, but with its limits."""
    alike, floor = _alike([each for _, each in found]), SMALL_HEIGHT - 14
    limit, most = _limit(alike), max(max([*each.counts, each.zeros], default=1) for each in alike)

    def across(value: float) -> float:
        return 24 + (SMALL_WIDTH - 26) * (value + limit) / (2 * limit)

    def up(count: float) -> float:
        return floor - (floor - 4) * math.log(max(count, FLOOR) / FLOOR) / math.log(max(most, 2) / FLOOR)
    drawn = []
    for number, ((index, _), each) in enumerate(zip(found, alike)):
        if each.counts:
            drawn.append(element("path", class_=f"steps {style(index)}", d=step_path(
                [across(edge) for edge in _edges(each)], [up(count) for count in each.counts], floor)))
        width = 16 / len(found)
        if each.zeros:
            drawn.append(element("rect", x=f"{2 + number * width:.1f}", y=f"{up(each.zeros):.1f}",
                                 width=f"{width - 1:.1f}", height=f"{floor - up(each.zeros):.1f}",
                                 class_=f"bar {style(index)}"))
    shares = ", ".join(percent(each.zeros / each.total) for each in alike if each.total)
    label = f"weights of {name}, from {-limit:.3g} to {limit:.3g}; zeros {shares}"
    return element("svg", element("title", label), *drawn,
                   element("line", x1=0, x2=SMALL_WIDTH, y1=floor, y2=floor, class_="axis"),
                   element("text", f"{-limit:.3g}", x=24, y=SMALL_HEIGHT - 2),
                   element("text", f"{limit:.3g}", x=SMALL_WIDTH, y=SMALL_HEIGHT - 2, text_anchor="end"),
                   viewBox=f"0 0 {SMALL_WIDTH} {SMALL_HEIGHT}", class_="tiny", role="img", aria_label=label,
                   xmlns="http://www.w3.org/2000/svg")


def _alike(histograms: Sequence[Histogram]) -> list[Histogram]:
    """The same histograms in bins of one width."""
    exponent = max(each.exponent for each in histograms)
    return [each.coarser(exponent) for each in histograms]


def _limit(histograms: Sequence[Histogram]) -> float:
    """The largest value that any bin reaches, up or down."""
    return max([max(abs(each.first), abs(each.first + len(each.counts))) * each.width
                for each in histograms if each.counts], default=1.0)


def _edges(each: Histogram) -> list[float]:
    return [(each.first + index) * each.width for index in range(len(each.counts) + 1)]
