"""What the code of the course says in words, its comments and docstrings: in Chinese for Chinese notebooks and pages.

The Chinese is in ``remarks.zh.yaml``, for all tutorials and labs. Only words change; the code does the same.
"""
import ast
import functools
import io
import re
import tokenize
from pathlib import Path
from typing import NamedTuple

import yaml

from wording import differences, wrong_words

FILE = Path(__file__).resolve().parent / "remarks.zh.yaml"
WORD = re.compile("[A-Za-z]{2,}")


class Remark(NamedTuple):
    """Words in code: from (row, column) to (row, column), rows from 0, and what stands before them in each line."""

    text: str
    begin: tuple
    end: tuple
    before: str


@functools.cache
def known():
    """{English: Chinese}."""
    return {entry["en"]: entry["zh"] for entry in yaml.safe_load(FILE.read_text(encoding="utf-8"))}


def remarks(code):
    """All comments and docstrings of a piece of code that have at least two words, in their order.

    Lines of comment that follow each other are one.
    """
    found = [_docstring(node) for node in ast.walk(ast.parse(code))
             if isinstance(node, (ast.FunctionDef, ast.ClassDef)) and ast.get_docstring(node)]
    for token in tokenize.generate_tokens(io.StringIO(code).readline):
        if token.type != tokenize.COMMENT:
            continue
        alone, (row, column) = not token.line[:token.start[1]].strip(), token.start
        remark = Remark(token.string.lstrip("# "), (row - 1, column), (row - 1, token.end[1]), "# ")
        last = found[-1] if found else None
        if alone and last and last.before == "# " and last.end[0] == row - 2 and last.begin[1] == column:
            found[-1] = last._replace(text=f"{last.text} {remark.text}", end=remark.end)
        else:
            found.append(remark)
    return sorted((remark for remark in found if len(WORD.findall(remark.text)) > 1), key=lambda remark: remark.begin)


def _docstring(node):
    string = node.body[0].value
    quotes = 3
    return Remark(" ".join(ast.get_docstring(node).split()), (string.lineno - 1, string.col_offset + quotes),
                  (string.end_lineno - 1, string.end_col_offset - quotes), "")


def in_chinese(code):
    """The code with its remarks in Chinese, where there is any."""
    lines, chinese = code.split("\n"), known()
    for remark in reversed(remarks(code)):
        if remark.text in chinese:
            (row, column), (last, end) = remark.begin, remark.end
            text = f"\n{' ' * column}".join(f"{remark.before}{line}" for line in chinese[remark.text].split("\n"))
            lines[row:last + 1] = [lines[row][:column] + text + lines[last][end:]]
    return "\n".join(lines)


def complaints(pieces):
    """One line for each remark of some pieces of code without Chinese, for each Chinese one that stands for none, and
    for each that says something else.
    """
    chinese, there = known(), dict.fromkeys(remark.text for code in pieces for remark in remarks(code))
    lines = [f"missing: {text}" for text in there if text not in chinese]
    lines += [f"surplus: {text}" for text in chinese if text not in there]
    for english, text in chinese.items():
        lines += [f"{what}: {text}" for what in [*differences(english, text), *wrong_words(text)]]
    return [f"{FILE.name}: {line}" for line in lines]
