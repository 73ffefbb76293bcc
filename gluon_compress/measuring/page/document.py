"""The whole page: a head with style and script in it, a header, the sections, a footer."""
from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from ...arguments import check_text
from ..units import dimensions
from .elements import element, markup
from .sections import sections

if TYPE_CHECKING:
    from ..reports import Report

HERE = Path(__file__).parent
POLICY = "default-src 'none'; style-src 'unsafe-inline'; script-src 'unsafe-inline'; img-src data:"  # loads nothing


def page(report: Report, title: str | None = None) -> str:
    """The HTML of a report; ``title`` is by default the names of the networks."""
    if title is not None:
        check_text("title", title)
    names = list(report.networks)
    title = title or f"Report: {' and '.join(filter(None, [', '.join(names[:-1]), names[-1]]))}"
    shown = sections(report)
    head = element(
        "head", element("meta", charset="utf-8"),
        element("meta", http_equiv="Content-Security-Policy", content=POLICY),
        element("meta", name="viewport", content="width=device-width, initial-scale=1"),
        element("meta", name="color-scheme", content="light dark"), element("title", title),
        element("link", rel="icon", href="data:,"), element("style", (HERE / "page.css").read_text(encoding="utf-8")))
    links = [element("a", section.findtext("h2"), href=f"#{section.get('id')}") for section in shown]
    header = element(
        "header", element("h1", title), element("button", "Light or dark", type="button", id="theme"),
        element("p", f"For input {', '.join(map(dimensions, report.input_shapes))}, batch first.", class_="note"),
        element("nav", *links, aria_label="Sections"))
    body = element("body", header, element("main", *shown, class_="alone" if len(names) == 1 else None),
                   element("footer", element("p", "Made by gluon_compress. Tables sort by a click on a head.")),
                   element("script", (HERE / "page.js").read_text(encoding="utf-8")))
    return "<!DOCTYPE html>\n" + markup(element("html", head, body, lang="en")) + "\n"
