"""Chinese prose beside the English: which block stands for which English cell, and whether it still does.

The English prose is in the scripts, in ERRATA.md, in the how-to pages and in the README. Beside ``<name>.py`` or
``<name>.md`` lies ``<name>.zh.md`` with a block for each English cell, under a line with the digest of the cell that it
was written for:

    <!-- en: 3f2a91c0d1 -->

When the English changes, so does its digest, and the block is *stale* until somebody has read both again. A cell
without a block is *missing*, a block without a cell *surplus*.
"""
import hashlib
import re
from difflib import SequenceMatcher
from itertools import zip_longest
from pathlib import Path
from typing import NamedTuple

import jupytext

FOLDER = Path(__file__).resolve().parent
MARK = re.compile(r"^<!-- en: (\S+) -->\n", re.MULTILINE)
HEADING = re.compile(r"(?m)^#+ (.+)")
GENERATED = re.compile(r"(<!-- ([\w.]+): begin -->).*?(<!-- \2: end -->)", re.DOTALL)  # benchmarks/publish.py fills it


class Block(NamedTuple):
    """A piece of Chinese prose, the digest of the English that it was written for, and the line of its mark."""

    digest: str
    text: str
    line: int


class Pair(NamedTuple):
    """An English cell and the Chinese block that stands for it; one of them is None when the other has no partner."""

    english: str | None
    block: Block | None

    @property
    def state(self):
        if self.block is None:
            return "missing"
        if self.english is None:
            return "surplus"
        return "current" if self.block.digest == digest(self.english) else "stale"

    @property
    def title(self):
        """The first heading of the cell, or its first words."""
        text = self.english if self.english is not None else self.block.text
        heading = HEADING.search(text)
        return heading.group(1) if heading else " ".join(text.split())[:60]


def tutorial_sources():
    """The scripts of the tutorials."""
    return sorted(FOLDER.glob("[0-9][0-9]_*.py"))


def sources():
    """What is translated: the tutorials, the page of errata, and the README."""
    return [*tutorial_sources(), FOLDER / "ERRATA.md", FOLDER.parent / "README.md"]


def lab_sources():
    """The scripts of the labs, and their pages for teachers, which are translated in the same way."""
    return [*sorted((FOLDER / "labs").glob("lab[0-9]_*.py")), *sorted((FOLDER / "labs").glob("*.teacher.md"))]


def how_to_sources():
    """The how-to pages, which are translated in the same way."""
    return [path for path in sorted((FOLDER.parent / "docs" / "how_to").glob("*.md")) if not path.stem.endswith(".zh")]


def chinese_file(source):
    """Where the Chinese of a tutorial or page is."""
    return source.with_suffix(".zh.md")


def digest(english):
    """Ten hexadecimal digits that change when the words of a cell do.

    Where its lines break does not matter, nor what benchmarks/publish.py writes into it: it fills both languages.
    """
    words = GENERATED.sub(r"\1\3", english).split()
    return hashlib.sha256(" ".join(words).encode()).hexdigest()[:10]


def english_cells(source):
    """The Markdown cells of a tutorial, or the head, the sections and the entries of a page."""
    if source.suffix == ".py":
        return [cell.source for cell in jupytext.read(source).cells if cell.cell_type == "markdown"]
    return [part.strip() for part in re.split(r"(?m)^(?=##+ )", source.read_text(encoding="utf-8"))]


def chinese_blocks(path):
    """The blocks of a Chinese file in their order; none when there is no such file."""
    if not path.exists():
        return []
    text = path.read_text(encoding="utf-8")
    before, *parts = MARK.split(text)
    if before.strip():
        raise ValueError(f"{path.name} begins with text under no mark; accepted: a line <!-- en: DIGEST --> first")
    lines = [text.count("\n", 0, mark.start()) + 1 for mark in MARK.finditer(text)]
    return [Block(mark, part.strip(), line) for mark, part, line in zip(parts[::2], parts[1::2], lines)]


def pairs(english, blocks):
    """Cells and blocks side by side, in the order of the page.

    What has the same digest belongs together. Of the rest the first cell and the first block between two such pairs
    belong together, and so on: the cell was rewritten since.
    """
    matcher = SequenceMatcher(None, [digest(cell) for cell in english], [block.digest for block in blocks], False)
    found = []
    for _, first, last, first_block, last_block in matcher.get_opcodes():
        found += [Pair(cell, block)
                  for cell, block in zip_longest(english[first:last], blocks[first_block:last_block])]
    return found


def translated(source):
    """The pairs of a tutorial or page."""
    return pairs(english_cells(source), chinese_blocks(chinese_file(source)))


def complaints(source):
    """One line for each cell that is not current: where, what, and the mark that it would have."""
    lines, path, line = [], chinese_file(source), 1
    for pair in translated(source):
        line = pair.block.line if pair.block else line
        if pair.state == "surplus":
            lines.append(f"{path.name}:{line}: surplus: {pair.title}")
        elif pair.state != "current":
            lines.append(f"{path.name}:{line}: {pair.state}: {pair.title}; <!-- en: {digest(pair.english)} -->")
    return lines
