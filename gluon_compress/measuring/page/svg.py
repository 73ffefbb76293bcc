"""Plots drawn as SVG: axes with ticks, lines, steps and dots. Colours are those of the page's style sheet."""
from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from xml.etree.ElementTree import Element

from .elements import Child, element

WIDTH, HEIGHT = 440, 280  # small, so that a phone shows the text of a plot hardly smaller than other text
LEFT, RIGHT, TOP, BOTTOM = 58, 14, 26, 44
LETTER, LINE = 7.5, 15  # width of a letter in a plot's labels, about, and from line to line
Point = tuple[float, float]


@dataclass(frozen=True)
class Axis:
    """From values to places in a plot.

    Attributes
    ----------
    low, high : float
        What it shows.
    label : str
        With the unit.
    write : function
        A tick's value as text.
    log : bool
    start, end : float
        Where ``low`` and ``high`` lie.
    marks : list of float, optional
        Where ticks are; by default round numbers.
    """

    low: float
    high: float
    label: str
    write: Callable[[float], str]
    log: bool = False
    start: float = LEFT
    end: float = WIDTH - RIGHT
    marks: Sequence[float] = ()

    def at(self, value: float) -> float:
        """The place of a value in the plot."""
        low, high, value = (math.log10(each) if self.log else each for each in (self.low, self.high, value))
        return self.start + (self.end - self.start) * (value - low) / ((high - low) or 1)

    def ticks(self) -> list[float]:
        """The values that are written at the axis."""
        if self.marks:
            return list(self.marks)
        return logarithmic_ticks(self.low, self.high) if self.log else linear_ticks(self.low, self.high)

    def upright(self, top: float = TOP, bottom: float = HEIGHT - BOTTOM) -> Axis:
        """The same values from bottom to top."""
        return Axis(self.low, self.high, self.label, self.write, self.log, bottom, top)


def linear_ticks(low: float, high: float, most: int = 6) -> list[float]:
    """Multiples of 1, 2 or 5 times a power of ten in [low, high]."""
    span = (high - low) or 1.0
    power = 10.0 ** math.floor(math.log10(span / most))
    step = next(power * digit for digit in (1, 2, 5, 10) if span / (power * digit) <= most)
    first, last = math.ceil(low / step - 1e-9), math.floor(high / step + 1e-9)
    return [number * step for number in range(first, last + 1)]


def logarithmic_ticks(low: float, high: float, most: int = 7) -> list[float]:
    """Powers of ten in [low, high], with multiples of them where they are few."""
    decades = range(math.floor(math.log10(low)), math.ceil(math.log10(high)) + 1)
    for digits in ((1, 2, 3, 4, 5, 6, 8), (1, 2, 5), (1, 3), (1,)):
        found = [digit * 10.0 ** decade for decade in decades for digit in digits]
        found = [value for value in found if low * (1 - 1e-9) <= value <= high * (1 + 1e-9)]
        if len(found) <= most:
            return found
    return found[::math.ceil(len(found) / most)]


class Plot:
    """A plot that grows by what is drawn on it."""

    def __init__(self, x: Axis, y: Axis) -> None:
        self.x, self.y = x, y.upright()
        self.drawn: list[Element] = []

    def line(self, points: Sequence[Point], style: str, title: str | None = None) -> None:
        """A line through (x, y) values; ``style`` is its class in the style sheet, ``title`` what a pointer shows."""
        places = " ".join(f"{_short(self.x.at(x))},{_short(self.y.at(y))}" for x, y in points)
        self.drawn.append(element("polyline", _title(title), points=places, class_=f"line {style}"))

    def dot(self, x: float, y: float, style: str, title: str | None = None, radius: float = 4) -> None:
        """A dot at the values x and y."""
        self.drawn.append(element("circle", _title(title), cx=_short(self.x.at(x)), cy=_short(self.y.at(y)), r=radius,
                                  class_=f"dot {style}"))

    def bar(self, left: float, right: float, y: float, style: str, title: str | None = None) -> None:
        """From the lower end of the plot to ``y``; left and right are places."""
        top = self.y.at(y)
        self.drawn.append(element("rect", _title(title), x=_short(left), y=_short(top), width=_short(right - left),
                                  height=_short(self.y.start - top), class_=f"bar {style}"))

    def steps(self, edges: Sequence[float], heights: Sequence[float], style: str) -> None:
        """An outline of bars: ``heights[i]`` between ``edges[i]`` and ``edges[i + 1]``."""
        self.drawn.append(element("path", d=step_path([self.x.at(edge) for edge in edges],
                                                      [self.y.at(height) for height in heights], self.y.start),
                                  class_=f"steps {style}"))

    def text(self, place: Point, text: str, style: str = "", anchor: str = "start") -> None:
        """Text at a place, not at values; ``anchor`` says which part of it is there: start, middle or end."""
        self.drawn.append(element("text", text, x=_short(place[0]), y=_short(place[1]), class_=style or None,
                                  text_anchor=anchor))

    def label_dots(self, dots: Sequence[tuple[float, float, str]]) -> None:
        """Write each (x, y, name) beside its dot, none over another."""
        taken: list[tuple[float, float, float]] = []  # left and right end, and the line on which it stands
        for x, y, name in sorted(dots, key=lambda dot: self.y.at(dot[1])):
            dot, length = self.x.at(x), LETTER * len(name) + 8
            right = dot + length <= WIDTH
            ends = (dot, dot + length) if right else (dot - length, dot)
            line = self._free_line(self.y.at(y) + 4, ends, taken)
            taken.append((*ends, line))
            self.text((dot + (8 if right else -8), line), name, "name", "start" if right else "end")

    def _free_line(self, wanted: float, ends: Point, taken: Sequence[tuple[float, float, float]]) -> float:
        """The place nearest to ``wanted``, and above the axis, at which text between ``ends`` covers no other."""
        others = [other for start, end, other in taken if start < ends[1] and ends[0] < end]
        places = [wanted, *(other + step for other in others for step in (-LINE, LINE))]
        free = [place for place in places if place < self.y.start and
                all(abs(place - other) >= LINE - 0.01 for other in others)]
        return min(free, key=lambda place: abs(place - wanted), default=wanted)

    def svg(self, label: str) -> Element:
        """The whole plot; ``label`` is what a screen reader says of it."""
        return element("svg", element("title", label), *self._frame(), *self.drawn, viewBox=f"0 0 {WIDTH} {HEIGHT}",
                       role="img", aria_label=label, xmlns="http://www.w3.org/2000/svg")

    def _frame(self) -> list[Element]:
        x, y = self.x, self.y
        found = []
        for value in y.ticks():
            place = _short(y.at(value))
            found += [element("line", x1=LEFT, x2=x.end, y1=place, y2=place, class_="grid"),
                      element("text", y.write(value), x=LEFT - 6, y=_short(y.at(value) + 4), text_anchor="end")]
        for value in x.ticks():
            place = _short(x.at(value))
            found += [element("line", x1=place, x2=place, y1=y.start, y2=_short(y.start + 4), class_="tick"),
                      element("text", x.write(value), x=place, y=_short(y.start + 17), text_anchor="middle")]
        return [*found,
                element("line", x1=x.start, x2=x.end, y1=y.start, y2=y.start, class_="axis"),
                element("text", x.label, x=_short((x.start + x.end) / 2), y=HEIGHT - 8, text_anchor="middle",
                        class_="label"),
                element("text", y.label, x=4, y=13, class_="label")]


def step_path(edges: Sequence[float], tops: Sequence[float], floor: float) -> str:
    """The outline of bars in places: up, along and down; bars of no height lie on the floor."""
    moves = [f"M{_short(edges[0])} {_short(floor)}"]
    for right, top in zip(edges[1:], tops):
        moves.append(f"V{_short(top)}H{_short(right)}")
    return "".join([*moves, f"V{_short(floor)}Z"])


def _title(text: str | None) -> Child:
    return None if text is None else element("title", text)


def _short(value: float) -> str:
    return f"{value:.1f}".rstrip("0").rstrip(".")
