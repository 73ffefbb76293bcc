"""Tables of a page: sorted by a click on a column's head."""
from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple
from xml.etree.ElementTree import Element

from ..units import NOTHING
from .elements import Child, breakable, element

LONG = 32  # letters; longer texts are broken into lines


class Cell(NamedTuple):
    """What a cell shows, by what it is sorted, what a pointer over it shows, how red it is, in [0, 1]."""

    text: str
    value: Any = None
    hint: str | None = None
    heat: float | None = None


class Column(NamedTuple):
    """A column of a table; ``group`` is the head that it shares with its neighbours, ``total`` its last row."""

    head: str
    cells: Sequence[Cell]
    group: str | None = None
    total: str | None = None
    number: bool = True


def table(label: str, columns: Sequence[Column]) -> Element:
    """A table that scrolls by itself where it is too wide; the first column names the rows."""
    grouped = any(column.group for column in columns)
    heads = [element("tr", *_lower_heads(columns, grouped))]
    if grouped:
        heads.insert(0, element("tr", *_upper_heads(columns)))
    rows = [element("tr", *(_cell(column, number, index) for index, column in enumerate(columns)))
            for number in range(len(columns[0].cells))]
    foot = None
    if any(column.total is not None for column in columns):
        totals = [element("td" if index else "th", column.total or "", class_=_style(column))
                  for index, column in enumerate(columns)]
        foot = element("tfoot", element("tr", *totals))
    longest = max((len(cell.text) for cell in columns[0].cells), default=0)
    made = element("table", element("thead", *heads), element("tbody", *rows), foot, aria_label=label,
                   style=f"--longest:{longest}")
    return element("div", made, class_="wide", tabindex=0, role="region", aria_label=label)


def _upper_heads(columns: Sequence[Column]) -> list[Element]:
    """One head for neighbours of the same group; columns without a group reach down to the second line."""
    found = []
    for index, column in enumerate(columns):
        if column.group is None:
            found.append(_head(column, index, rowspan=2))
        elif not index or columns[index - 1].group != column.group:
            width = sum(other.group == column.group for other in columns)
            found.append(element("th", column.group, colspan=width, scope="colgroup", class_="group"))
    return found


def _lower_heads(columns: Sequence[Column], grouped: bool) -> list[Element]:
    return [_head(column, index) for index, column in enumerate(columns) if column.group is not None or not grouped]


def _head(column: Column, index: int, rowspan: int | None = None) -> Element:
    button = element("button", column.head, element("span", class_="arrow", aria_hidden="true"), type="button",
                     title="sort by this column")
    return element("th", button, scope="col", rowspan=rowspan, data_column=index, aria_sort="none",
                   class_=_style(column))


def _cell(column: Column, row: int, index: int) -> Element:
    cell = column.cells[row]
    sorted_by = cell.value if cell.value is not None else NOTHING if column.number else cell.text
    attributes: dict[str, Any] = {
        "data_value": sorted_by, "title": cell.hint, "class_": _style(column),
        "style": None if cell.heat is None else f"--heat:{100 * min(max(cell.heat, 0), 1):.0f}%"}
    if not index:
        return element("th", *breakable(cell.text), scope="row", **attributes)
    if len(cell.text) > LONG:
        attributes["class_"] = "long"
    return element("td", cell.text, **attributes)


def _style(column: Column) -> str | None:
    return "number" if column.number else None


def note(*children: Child) -> Element:
    """A paragraph in the small type of explanations."""
    return element("p", *children, class_="note")
