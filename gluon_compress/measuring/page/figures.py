"""Figures of a page: each has a title that says what to see, and is left out where its numbers are not known."""
from __future__ import annotations

from collections.abc import Callable, Collection, Sequence
from typing import TYPE_CHECKING, NamedTuple
from xml.etree.ElementTree import Element

from ..comparison import side_by_side
from ..units import milliseconds, percent, short, tick
from .elements import Child, breakable, element
from .svg import Axis, Plot

if TYPE_CHECKING:
    from ..reports import Report

STYLES = 10  # of networks in the style sheet, n0 to n9
LABELLED = 4  # dots at most have their names beside them; of more there is a legend


def style(index: int) -> str:
    """The class of the network of that number."""
    return f"n{index % STYLES}"


def figure(title: str, *content: Child, text: str | None = None, class_: str | None = None) -> Element:
    """A figure with its title above and, where there is one, an explanation below."""
    explanation = None if text is None else element("p", text, class_="note")
    return element("figure", element("figcaption", title), *content, explanation, class_=class_)


def legend(report: Report, shown: Collection[str]) -> Element | None:
    """The colours of the networks that are ``shown``; nothing where there is one network alone."""
    if len(report.networks) < 2:
        return None
    return element("ul", *(element("li", element("span", class_=f"swatch {style(index)}"), name)
                           for index, name in enumerate(report.networks) if name in shown), class_="legend")


class Bar(NamedTuple):
    """A bar of the network with that number."""

    network: int
    value: float
    text: str


Row = tuple[str, Sequence[Bar], str | None]  # name, bars of the networks, remark in place of bars


def bars(rows: Sequence[Row], label: str) -> Element:
    """Bars that lie, in rows."""
    largest = max((bar.value for _, values, _ in rows for bar in values), default=0) or 1
    found = []
    for name, values, remark in rows:
        drawn = [element("span", _bar(bar.network, bar.value / largest), element("span", bar.text, class_="value"),
                         class_="track") for bar in values]
        found.append(element("li", element("span", *breakable(name), class_="name"),
                             element("span", *drawn, remark, class_="tracks" if remark is None else "tracks remark")))
    return element("ul", *found, class_="bars", aria_label=label)


def _bar(index: int, share: float) -> Element:
    return element("span", class_=f"bar {style(index)}", style=f"--share:{max(share, 0):.3f}")


def size_by_layer(report: Report) -> Element | None:
    """Bytes of each layer with multiplications, and of all others together."""
    networks = counted(report)
    rows = side_by_side(networks.values())
    if not rows:
        return None
    main = [row for row in rows if any(row.values("macs"))] or rows
    rest = [row for row in rows if row not in main]
    drawn: list[Row] = [(row.name, _bars(report, row.values("bytes"), _bytes), None) for row in main]
    if rest:
        sums = [sum(value or 0 for value in column) for column in zip(*(row.values("bytes") for row in rest))]
        drawn.append((f"{len(rest)} layers without multiplications", _bars(report, sums, _bytes), None))
    title = _title_of_sizes(list(networks.values()))
    return figure(title, legend(report, networks), bars(drawn, title), class_="tall",
                  text="Bytes of the values as they are: four for each, or integer codes and their scales.")


def counted(report: Report) -> dict[str, Report]:
    """{name: Report} of the networks whose layers are known."""
    return {name: each for name, each in report.networks.items() if each.layers}


def _bars(report: Report, values: Sequence[float | None], write: Callable[[float], str]) -> list[Bar]:
    """A bar for each of the networks whose layers are known, but for values that are None."""
    numbers = [number for number, each in enumerate(report.networks.values()) if each.layers]
    return [Bar(number, value, write(value)) for number, value in zip(numbers, values) if value is not None]


def _bytes(value: float) -> str:
    return short(value, "B")


def _title_of_sizes(networks: Sequence[Report]) -> str:
    before, after = networks[0], networks[-1]
    largest = max(after.layers, key=lambda layer: layer.bytes)
    share = percent(largest.bytes / after.bytes if after.bytes else 0, 0)
    left = f" that are left of {short(before.bytes, 'B')}" if before.bytes > after.bytes else ""
    return f"Size by layer: {largest.name} has {share} of the {short(after.bytes, 'B')}{left}"


def zeros_by_layer(report: Report) -> Element | None:
    """The share of zeros in each layer; nothing where hardly a weight is zero."""
    networks = counted(report)
    if all(each.sparsity < 0.02 for each in networks.values()):
        return None
    rows = [row for row in side_by_side(networks.values()) if any(row.values("macs"))]
    last = list(networks)[-1]
    title = f"Zeros: {percent(networks[last].sparsity, 0)} of the parameters of {last}"
    drawn = [(row.name, _bars(report, row.values("sparsity"), percent), None) for row in rows]
    return figure(title, legend(report, networks), bars(drawn, title), class_="tall",
                  text="Share of each layer's parameters that are exactly zero.")


def time_of_networks(report: Report) -> Element | None:
    """Median times of a forward pass as bars; nothing for one network alone."""
    timed = {name: each.timing for name, each in report.networks.items() if each.timing}
    if len(timed) < 2:
        return None
    fastest = min(timed, key=lambda name: timed[name].median)
    slowest = max(timed, key=lambda name: timed[name].median)
    rows = [(name, [Bar(number, each.timing.median, f"{milliseconds(each.timing.median)} ms")], None)
            for number, (name, each) in enumerate(report.networks.items()) if each.timing]
    title = (f"Time: {fastest} is {timed[slowest].median / timed[fastest].median:.2f} times as fast as {slowest}")
    return figure(title, bars(rows, title), text=f"Median milliseconds of a forward pass, batch "
                  f"{timed[fastest].batch}; the notes at the end say how each was measured.")


def accuracy_against_size(report: Report) -> Element | None:
    """A dot per network; nothing for one alone."""
    networks = list(report.networks.items())
    in_files = all(each.file_bytes is not None for _, each in networks if each.accuracy is not None)
    found = [(index, name, float((each.file_bytes if in_files else each.bytes) or 0), each.accuracy)
             for index, (name, each) in enumerate(networks)
             if each.accuracy is not None and (in_files or each.layers)]
    if len(found) < 2:
        return None
    (_, first, size, accuracy), (_, last, new_size, new_accuracy) = found[0], found[-1]
    title = (f"Accuracy against size: {last} has {short(new_size, 'B')} and {percent(new_accuracy)}, {first} "
             f"{short(size, 'B')} and {percent(accuracy)}")
    x = _axis([each[2] for each in found], "bytes of the file" if in_files else "bytes of the values",
              lambda value: tick(value, "B"), log=True)
    y = _axis([each[3] for each in found], "top-1 accuracy", lambda value: f"{100 * value:.4g}%", least=0.02)
    return figure(title, *_dots(report, found, x, y, title), text="Up and to the left is better.")


def accuracy_against_time(report: Report) -> Element | None:
    """A dot per network; nothing for one alone."""
    found = [(index, name, each.timing.median, each.accuracy) for index, (name, each) in
             enumerate(report.networks.items()) if each.timing is not None and each.accuracy is not None]
    if len(found) < 2:
        return None
    best = max(found, key=lambda each: (each[3], -each[2]))
    fastest = min(found, key=lambda each: each[2])
    title = f"Accuracy against time: none is more accurate than {best[1]}, none faster than {fastest[1]}"
    x = _axis([0, *(each[2] for each in found)], "milliseconds per batch", tick)
    y = _axis([each[3] for each in found], "top-1 accuracy", lambda value: f"{100 * value:.4g}%", least=0.02)
    return figure(title, *_dots(report, found, x, y, title), text="Up and to the left is better.")


def time_against_macs(report: Report) -> Element | None:
    """A dot per network; nothing for one alone."""
    found = [(index, name, each.macs, each.timing.median) for index, (name, each) in
             enumerate(report.networks.items()) if each.timing is not None and each.layers]
    if len(found) < 2:
        return None
    (_, first, macs, time), (_, last, new_macs, new_time) = found[0], found[-1]
    title = (f"Time against multiplications: {last} has {percent(new_macs / macs if macs else 1, 0)} of those of "
             f"{first} and takes {percent(new_time / time, 0)} of its time")
    x = _axis([0, *(each[2] for each in found)], "multiply-accumulates per sample", tick)
    y = _axis([0, *(each[3] for each in found)], "milliseconds per batch", tick)
    return figure(title, *_dots(report, found, x, y, title), text="On a straight line from zero, time follows the "
                  "multiplications; a network below that line computes faster kinds of them.")


def time_of_layers(report: Report) -> Element | None:
    """Each layer's time against its multiplications, both on a log axis."""
    found = [(index, layer.name, layer.macs, layer.milliseconds)
             for index, each in enumerate(report.networks.values()) for layer in each.layers
             if layer.milliseconds and layer.macs]
    if len(found) < 2:
        return None
    _, slowest, _, longest = max((each for each in found if each[0] == found[-1][0]), key=lambda each: each[3])
    title = f"Time of each layer: {slowest} takes longest, {milliseconds(longest)} ms"
    x = _axis([each[2] for each in found], "multiply-accumulates per sample", tick, log=True)
    y = _axis([each[3] for each in found], "milliseconds per batch", tick, log=True)
    plot = Plot(x, y)
    for index, name, macs, time in found:
        plot.dot(macs, time, style(index), f"{name}: {short(macs)} multiply-accumulates, {milliseconds(time)} ms", 3.5)
    timed = [name for name, each in report.networks.items() if each.milliseconds]
    return figure(title, legend(report, timed), plot.svg(title),
                  text="Dots that lie higher than others of the same number of multiplications are slow for what they "
                       "compute. A pointer over a dot shows its name.")


def _dots(report: Report, found: Sequence[tuple[int, str, float, float]], x: Axis, y: Axis,
          title: str) -> list[Element | None]:
    """A dot for each (number of the network, name, x, y), with the names."""
    plot = Plot(x, y)
    for index, name, across, up in found:
        plot.dot(across, up, style(index), f"{name}: {x.write(across)}, {y.write(up)}", 6)
    if len(found) > LABELLED:
        return [plot.svg(title), legend(report, [name for _, name, _, _ in found])]
    plot.label_dots([(across, up, name) for _, name, across, up in found])
    return [plot.svg(title)]


def _axis(values: Sequence[float], label: str, write: Callable[[float], str], log: bool = False,
          least: float = 0.0) -> Axis:
    """An axis with room around ``values``; a logarithmic one only where they are far apart and above zero."""
    low, high = min(values), max(values)
    if log and low > 0 and high / low > 3:
        room = (high / low) ** 0.12
        return Axis(low / room, high * room, label, write, log=True)
    room = 0.12 * max(high - low, least, abs(high) * 1e-3) or 1.0
    return Axis(0.0 if low == 0 else low - room, high + room, label, write)
