"""HTML and SVG elements as a tree, so that names of layers and networks are escaped wherever they stand."""
from __future__ import annotations

import re
from collections.abc import Iterable
from typing import Any
from xml.etree.ElementTree import Element, tostring

Child = Element | str | None
UNSEEN = {code: None for code in (*range(9), 11, 12, *range(14, 32), 127)}  # control characters, which HTML has not


def element(tag: str, *children: Child, **attributes: Any) -> Element:
    """``element("td", "3", class_="number", data_value=3)`` is ``<td class="number" data-value="3">3</td>``.

    Children and attributes that are None are left out.
    """
    made = Element(tag, {name.rstrip("_").replace("_", "-") if name != "viewBox" else name: _text(value)
                         for name, value in attributes.items() if value is not None})
    return extended(made, children)


def extended(parent: Element, children: Iterable[Child]) -> Element:
    """``parent`` with ``children`` after those that it has."""
    for child in children:
        if isinstance(child, Element):
            parent.append(child)
        elif child is not None and len(parent):
            parent[-1].tail = (parent[-1].tail or "") + _text(child)
        elif child is not None:
            parent.text = (parent.text or "") + _text(child)
    return parent


def breakable(name: str) -> list[Child]:
    """A name in which a line may break after a dot or an underscore."""
    found: list[Child] = []
    for part in re.findall(r"[^._/]*[._/]*", name):
        found += [part, element("wbr")] if part else []
    return found[:-1]


def markup(tree: Element) -> str:
    """The HTML of a tree."""
    return tostring(tree, encoding="unicode", method="html")


def _text(value: Any) -> str:
    return str(value).encode(errors="replace").decode().translate(UNSEEN)
