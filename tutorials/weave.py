"""Weave the course's notebooks and pages in English and Chinese, and say which Chinese is not that of the English.

    python tutorials/weave.py                  # into tutorials/woven/en and tutorials/woven/zh
    python tutorials/weave.py --run            # the same with outputs and figures: runs the quick versions once
    python tutorials/weave.py --check          # writes nothing; status 1 when something is stale, missing or surplus

The scripts are what is edited, with their English prose; the Chinese is in the files <name>.zh.md beside them, see
translations.py, and that of comments and docstrings in remarks.zh.yaml; all else of the code is the same. Of each lab
there is a notebook to fill in, one with the solutions, and the teacher's page. ``python docs/make_site.py`` makes a
site of all. Needs the extra ``notebooks``.
"""
import os
import re
import sys
from pathlib import Path

import click
import jupytext
import nbformat
from nbformat.v4 import new_code_cell, new_markdown_cell, new_notebook

import remarks
from outputs import figures_of, outputs_of, text_of
from translations import (
    FOLDER,
    chinese_blocks,
    chinese_file,
    complaints,
    how_to_sources,
    lab_sources,
    sources,
    translated,
    tutorial_sources,
)
from wording import TERMINOLOGY, differences, without_english, wrong_words

NOTES = {"stale": "*（英文原文已修改，这段译文可能不是最新的。）*", "missing": "*（这段还没有中文。）*"}
LANGUAGES = ("en", "zh")
WORDS = {"en": str, "zh": remarks.in_chinese}
FIGURE = {"en": "Figure", "zh": "图"}
FOR = {"en": "for", "zh": "用于"}
# a line that ends between two Chinese characters: in a page the break would become a space
BROKEN_LINE = re.compile("(?<=[\u3000-\u9fff\uff00-\uffef])\n *(?=[\u4e00-\u9fff\uff08\u300a\u201c])")
# what a student is to write; inside of a function, or an answer on its own; or code of an article, to be mended
SOLUTION = re.compile(r"(?ms)^([ \t]*)(?:# article\n((?:[ \t]*#[^\n]*\n)*?)[ \t]*)?# solution\n(.*?)"
                      r"^[ \t]*# end of solution(?:\n|\Z)")
ANSWER = re.compile(r"(\w+) = .*\n")


def in_chinese(english):
    """A function from an English cell to what a Chinese reader gets: its block, or the English, and why."""
    blocks = {}

    def chinese(cell):
        pair = blocks[cell]
        text = BROKEN_LINE.sub("", pair.block.text) if pair.block else cell
        return text if pair.state == "current" else f"{NOTES[pair.state]}\n\n{text}"
    blocks.update((pair.english, pair) for pair in english if pair.english is not None)
    return chinese


def relinked(text, suffix):
    """Links to tutorials lead to what was woven of them, those to pages to the page in the same language."""
    text = re.sub(r"\]\(((?:\.\./)?\d\d_\w+)(?:\.py|\.zh\.md)", rf"](\1{suffix}", text)
    return re.sub(r"\]\((\w+)\.zh\.md", r"](\1.md", text)


def to_fill_in(code):
    """The code of a lab with ``...``, or with what an article has, in place of the solutions."""
    def left_out(solution):
        indent, article, text = solution.groups()
        if article:
            return re.sub(r"(?m)^([ \t]*)# ?", r"\1", article)
        answer = ANSWER.fullmatch(text)
        return f"{answer[1]} = ...\n" if answer else f"{indent}...\n"
    return SOLUTION.sub(left_out, code)


def solved(code):
    """The code of a lab with its solutions, without the marks."""
    return SOLUTION.sub(lambda solution: solution[3], code)


def in_lab(language):
    """What a lab's notebook begins with: the language of its checks."""
    return f"import os\nos.environ[\"LAB_LANGUAGE\"] = {language!r}\n"


def notebook_of(source, language, folder, code_of=str, begins="", outputs=()):
    """A tutorial or lab as a notebook that runs where it lies: ``folder``; with the outputs of its code cells, if any.
    """
    chinese = in_chinese(translated(source))
    cells = []
    for cell in jupytext.read(source).cells:
        if cell.cell_type == "markdown":
            text = chinese(cell.source) if language == "zh" else cell.source
            cells.append(new_markdown_cell(relinked(text, ".ipynb")))
        else:
            cells.append(new_code_cell(WORDS[language](code_of(cell.source))))
    path = os.path.relpath(source.parent, folder)
    first = next(cell for cell in cells if cell.cell_type == "code")
    module = "course.py" if source.parent == FOLDER else "lab.py"
    first.source = f"{begins}import sys\nsys.path.insert(0, {path!r})  # {FOR[language]} {module}\n\n{first.source}"
    for cell, found in zip((cell for cell in cells if cell.cell_type == "code"), outputs):
        cell.outputs = found
    for number, cell in enumerate(cells):
        cell["id"] = f"{source.stem[:2]}-{number}"  # the same in every run
    return new_notebook(cells=cells, metadata={
        "kernelspec": {"name": "python3", "display_name": "Python 3", "language": "python"},
        "language_info": {"name": "python"}})


def page_of(source, language, code_of=str, outputs=(), figures=None):
    """A tutorial or lab as a page of Markdown; its figures are written into ``figures``, a folder beside the page."""
    chinese = in_chinese(translated(source))
    parts, remaining = [], iter(outputs)
    for cell in jupytext.read(source).cells:
        if cell.cell_type == "markdown":
            parts.append(relinked(chinese(cell.source) if language == "zh" else cell.source, ".md"))
            continue
        if cell.source.strip():
            parts.append(f"```python\n{WORDS[language](code_of(cell.source)).strip()}\n```")
        found = next(remaining, [])
        parts += [f"```text\n{text}\n```" for text in [text_of(found)] if text]
        for image in figures_of(found):
            file = figures / f"{source.stem}-{len(parts)}.png"
            file.parent.mkdir(parents=True, exist_ok=True)
            file.write_bytes(image)
            parts.append(f"![{FIGURE[language]}]({figures.name}/{file.name})")
    return "\n\n".join(parts) + "\n"


def write(path, text):
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text, encoding="utf-8")


def run_tutorials():
    """{tutorial: the outputs of its code cells}: each is run once, in a kernel, unless it was since its code changed.
    """
    return {source: outputs_of(source, lambda folder, source=source: notebook_of(source, "en", folder))
            for source in tutorial_sources()}


def weave(output, outputs):
    """Write the notebooks and pages of both languages, and say how many there are."""
    tutorials, page = tutorial_sources(), FOLDER / "ERRATA.md"
    for language in LANGUAGES:
        folder = output / language
        for source in tutorials:
            found = outputs.get(source, ())
            write(folder / f"{source.stem}.md", page_of(source, language, str, found, folder / "figures"))
            notebook = notebook_of(source, language, folder, outputs=found)
            write(folder / f"{source.stem}.ipynb", nbformat.writes(notebook) + "\n")
        write(folder / page.name, page.read_text(encoding="utf-8") if language == "en" else chinese_page(page))
        write(folder / TERMINOLOGY.name, TERMINOLOGY.read_text(encoding="utf-8"))
        for source in lab_sources():
            weave_lab(source, language, folder / "labs")
    click.echo(f"Made in {output}: {len(tutorials)} notebooks and {len(tutorials) + 2} pages in each of "
               f"{len(LANGUAGES)} languages; in labs/ the notebooks of the labs, to fill in and solved, and the "
               f"teacher's pages")


def weave_lab(source, language, folder):
    """Write the two notebooks of a lab, or its page for teachers."""
    if source.suffix == ".md":
        page = source.read_text(encoding="utf-8") if language == "en" else chinese_page(source)
        return write(folder / source.name, page)
    for kind, code_of in (("", to_fill_in), (".solution", solved)):
        notebook = notebook_of(source, language, folder, code_of, in_lab(language))
        write(folder / f"{source.stem}{kind}.ipynb", nbformat.writes(notebook) + "\n")


def chinese_page(source):
    """A page that is no tutorial, in Chinese, where a cell has none in English."""
    found = translated(source)
    chinese = in_chinese(found)
    return "\n\n".join(relinked(chinese(pair.english), ".md") for pair in found if pair.english is not None) + "\n"


def faults(source):
    """All that is wrong with the Chinese of a tutorial or page, a line each."""
    lines, path = complaints(source), chinese_file(source)
    for pair in translated(source):
        if pair.english is not None and pair.block is not None:
            lines += [f"{path.name}:{pair.block.line}: {what}" for what in differences(pair.english, pair.block.text)]
    for block in chinese_blocks(path):
        lines += [f"{path.name}:{block.line}: {what}" for what in wrong_words(block.text)]
    everything = "\n\n".join(block.text for block in chinese_blocks(path))
    return lines + [f"{path.name}: {what}" for what in without_english(everything)]


def remarks_faults():
    """All that is wrong with the Chinese of the comments and docstrings in the code, a line each."""
    scripts = [*tutorial_sources(), *(source for source in lab_sources() if source.suffix == ".py")]
    return remarks.complaints(solved(cell.source) for source in scripts for cell in jupytext.read(source).cells
                              if cell.cell_type == "code")


@click.command(help=__doc__.split("\n")[0])
@click.option("--check", is_flag=True, help="Write nothing; end with status 1 when the Chinese is not in order.")
@click.option("--run", is_flag=True, help="Run the tutorials' quick versions first, for their outputs and figures.")
@click.option("--output", type=click.Path(path_type=Path), default=FOLDER / "woven", help="Folder for what is made.")
def main(check, run, output):
    lines = [line for source in [*sources(), *lab_sources(), *how_to_sources()] for line in faults(source)]
    lines += remarks_faults()
    for line in lines:
        click.echo(line)
    if not check:
        weave(output.resolve(), run_tutorials() if run else {})
    sys.exit(1 if check and lines else 0)


if __name__ == "__main__":
    main()
