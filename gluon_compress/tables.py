"""Text on a terminal: tables for records and reports, and progress bars."""
from __future__ import annotations

import io
import re
import sys
from collections.abc import Iterable, Sequence
from typing import Any

from tqdm import tqdm

NUMBER = re.compile(r"[-+]?([\d,]*\.?\d+(e[-+]?\d+)?|inf|nan)(%|x| ?[kMGT]?B| [kMGT])?")  # 1,024 3.5% 2x 36.9 kB


def progress_bar(iterable: Iterable[Any] | None = None, show: bool = True, **options: Any) -> tqdm:
    """A ``tqdm`` bar that goes away when it is done.

    There is none without ``show``, or where standard error is neither a terminal nor a notebook: in a file, each
    state of a bar would stay as a line. The command line's standard error has a method ``announce``, which gets a line
    now and then instead.
    """
    watched = sys.stderr.isatty() or type(sys.stderr).__module__.startswith("ipykernel")
    if show and not watched and hasattr(sys.stderr, "announce"):
        return Announced(iterable, file=io.StringIO(), leave=False, **options)
    return tqdm(iterable, disable=not (show and watched), leave=False, **options)


class Announced(tqdm):
    """A bar that nobody watches, in words."""

    def display(self, msg: str | None = None, pos: int | None = None) -> None:
        if msg is None:  # else the bar goes away
            done = f": {self.n / self.total:.0%}" if self.total else ""
            getattr(sys.stderr, "announce", print)(f"{self.desc.removesuffix(': ')}{done}")


def format_table(header: Sequence[Any], rows: Sequence[Sequence[Any]]) -> str:
    """Aligned columns; numbers to the right, text to the left. ``rows`` hold strings or numbers."""
    cells = [[str(cell) for cell in row] for row in (header, *rows)]
    widths = [max(len(row[column]) for row in cells) for column in range(len(header))]
    numeric = [all(_is_number(row[column]) for row in cells[1:]) and len(rows) > 0 for column in range(len(header))]

    def line(row: list[str]) -> str:
        return "  ".join(cell.rjust(width) if right else cell.ljust(width)
                         for cell, width, right in zip(row, widths, numeric)).rstrip()
    return "\n".join([line(cells[0]), "  ".join("-" * width for width in widths), *map(line, cells[1:])])


def _is_number(text: str) -> bool:
    return text in ("", "-") or NUMBER.fullmatch(text) is not None
