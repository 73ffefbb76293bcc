"""The pages of the site, from what is in the repository: README, tutorials, labs, how-to, docstrings, errata, results.

A page in Chinese lies beside the English one, as ``<name>.zh.md``; where there is none, the site shows the English one.
"""
import os
import subprocess
import sys
from pathlib import Path

import nbformat
import weave
from docstrings import rooms
from links import ROOT, Links
from translations import FOLDER, chinese_file, how_to_sources, lab_sources, translated, tutorial_sources

SECTIONS = {"start": ("Start", "开始"), "course": ("The course", "课程"), "labs": ("Labs", "实验"),
            "how_to": ("How-to", "操作指南"), "reference": ("Reference", "参考"), "more": ("More", "更多")}
FIRST = ("gc.md", "own_loop.md", "symbol_file.md", "int8.md", "small_files.md", "onnx.md")  # the others follow by name
INTRODUCTIONS = {
    "course": ("Each tutorial is a script, which you can also open as a notebook. What you see here is its quick "
               "version, with what it printed and drew.",
               "每个教程都是一个脚本，也可以作为 notebook 打开。这里显示的是快速版本，"
               "以及它打印和画出的内容。"),
    "labs": ("Three labs of 90 minutes. Each cell that you fill in is checked, and the check says what is wrong. For "
             "each lab there is a notebook, and a page for the teacher.",
             "三个实验，每个 90 分钟。你填写的每个单元格都会被检查，检查会说明错在哪里。"
             "每个实验有一个 notebook，还有一页给教师。"),
    "how_to": ("One task on each page, for networks and training loops of your own.",
               "每页一项任务，面向你自己的网络和训练循环。"),
    "reference": ("All public names, from the docstrings. `gc` is `gluon_compress`.",
                  "所有公开的名称，内容取自 docstring（英文）。`gc` 就是 `gluon_compress`。")}
NOTEBOOK = ("[Notebook]({}) (run it in `{}` of a checkout)", "[Notebook]({})（请放在检出目录的 `{}` 里运行）")


def write_pages(folder, outputs):
    """Write all pages and what they show into ``folder``; ``outputs`` are {tutorial: outputs of its code cells}."""
    links = Links(addresses(), folder)
    write_tutorials(folder, outputs, links)
    write_labs(folder, links)
    for source in [ROOT / "README.md", FOLDER / "ERRATA.md", FOLDER / "TERMINOLOGY.md", *how_to_sources(),
                   ROOT / "benchmarks" / "README.md", ROOT / "CONTRIBUTING.md"]:
        write_page(folder, source, links)
    write_reference(folder / "reference")
    for section in INTRODUCTIONS:
        write_index(folder, section)
    style = folder / "assets" / "site.css"
    style.parent.mkdir(parents=True)
    style.write_text((Path(__file__).parent / "site.css").read_text())


def addresses():
    """{file of the repository: page of the site}; a tutorial's page that is woven counts as the tutorial."""
    found = {"README.md": "index.md", "tutorials/ERRATA.md": "errata.md", "tutorials/TERMINOLOGY.md": "terminology.md",
             "benchmarks/README.md": "results.md", "CONTRIBUTING.md": "contributing.md",
             "tutorials/labs": "labs/index.md"}
    for source in tutorial_sources():
        found |= {f"tutorials/{source.stem}{end}": f"course/{source.stem}.md" for end in (".py", ".md")}
    for source in lab_sources():
        found |= {f"tutorials/labs/{source.stem}{end}": _lab_page(source) for end in (source.suffix, ".md")}
    return found | {path_in_repository(source): f"how_to/{source.name}" for source in how_to_sources()}


def path_in_repository(source):
    return source.relative_to(ROOT).as_posix()


def _lab_page(source):
    return f"labs/{source.stem.replace('.teacher', '_teacher')}.md"


def page_file(folder, page, language):
    return folder / (page if language == "en" else page.removesuffix(".md") + ".zh.md")


def write_tutorials(folder, outputs, links):
    for source in tutorial_sources():
        found, page = outputs.get(source, ()), f"course/{source.stem}.md"
        for language in weave.LANGUAGES:
            text = weave.page_of(source, language, str, found, folder / "course" / "figures")
            text = text.replace("\n```text\n", "\n``` {.text .output}\n")  # what cells printed; see site.css
            place = FOLDER / "woven" / language
            notebook = weave.notebook_of(source, language, place, outputs=found)
            text = with_notebook(text, folder, f"course/notebooks/{language}/{source.stem}.ipynb", notebook, place)
            weave.write(page_file(folder, page, language), links.rewritten(text, path_in_repository(source), page))


def write_labs(folder, links):
    for source in lab_sources():
        if source.suffix == ".md":
            write_page(folder, source, links)
            continue
        page = _lab_page(source)
        for language in weave.LANGUAGES:
            place = FOLDER / "woven" / language / "labs"
            notebook = weave.notebook_of(source, language, place, weave.to_fill_in, weave.in_lab(language))
            text = with_notebook(weave.page_of(source, language, weave.to_fill_in), folder,
                                 f"labs/notebooks/{language}/{source.stem}.ipynb", notebook, place)
            weave.write(page_file(folder, page, language), links.rewritten(text, path_in_repository(source), page))


def with_notebook(text, folder, name, notebook, place):
    """The page with a link to its notebook, below its title."""
    weave.write(folder / name, nbformat.writes(notebook) + "\n")
    language = name.split("/")[2]
    line = NOTEBOOK[language == "zh"].format(name.partition("/")[2], path_in_repository(place))
    title, rest = text.split("\n", 1)
    return f"{title}\n\n{line}\n{rest}"


def write_page(folder, source, links):
    """A page that is written by hand, and its Chinese, if there is any."""
    name = path_in_repository(source)
    page = addresses()[name]
    weave.write(page_file(folder, page, "en"), links.rewritten(source.read_text(encoding="utf-8"), name, page))
    chinese = chinese_file(source)
    if chinese.exists():
        text = weave.chinese_page(source) if translated(source)[0].block else chinese.read_text(encoding="utf-8")
        weave.write(page_file(folder, page, "zh"), links.rewritten(text, path_in_repository(chinese), page))


def write_reference(folder):
    """A page for each room of the package, which mkdocstrings fills, and one for the command line."""
    known = rooms()
    for room, names in known.items():
        title = room.replace("gluon_compress", "gc", 1)
        members = [name for name in names if f"{room}.{name}" not in known]
        page = f"# `{title}`\n\n::: {room}\n    options:\n      members: {members}\n"
        weave.write(folder / f"{title}.md", page)
    weave.write(folder / "command_line.md", command_line())


def command_line():
    """What ``--help`` says of each command, without MXNet."""
    code = ("import sys; sys.argv[0] = 'gluon-compress'\n"
            "from gluon_compress.cli.group import COMMANDS, main\n"
            "for words in ([], *([name] for name in COMMANDS)):\n"
            "    print('\\0' + ' '.join(['gluon-compress', *words]), flush=True)\n"
            "    main([*words, '--help'], standalone_mode=False)")
    printed = subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True,
                             env={**os.environ, "PYTHONPATH": str(ROOT), "COLUMNS": "100"}).stdout
    parts = ["# The command line", "`gluon-compress COMMAND --help` prints this."]
    for command, text in (page.split("\n", 1) for page in printed.split("\0")[1:]):
        parts.append(f"## `{command}`\n\n```text\n{text.strip()}\n```")
    return "\n\n".join(parts) + "\n"


def write_index(folder, section):
    """The page that a section begins with: each of its pages with the paragraph after its title."""
    for number, language in enumerate(weave.LANGUAGES):
        parts = [f"# {SECTIONS[section][number]}", INTRODUCTIONS[section][number]]
        for page in pages_of(folder, section):
            file = page_file(folder, page, language)
            title, *paragraphs = (file if file.exists() else folder / page).read_text(encoding="utf-8").split("\n\n")
            parts.append(f"## [{title.lstrip('# ')}]({page.partition('/')[2]})")
            parts += [text for text in paragraphs[1 if section in ("course", "labs") else 0:][:1]
                      if section != "reference"]
        weave.write(page_file(folder, f"{section}/index.md", language), "\n\n".join(parts) + "\n")


def pages_of(folder, section):
    """The English pages of a section, in their order."""
    names = [file.name for file in (folder / section).glob("*.md") if not file.name.endswith((".zh.md", "index.md"))]
    order = [name for name in FIRST if name in names]
    return [f"{section}/{name}" for name in (*order, *sorted(set(names) - set(order)))]


def navigation(folder):
    """What mkdocs calls nav: pages have the titles that they begin with, in their language."""
    found = [{SECTIONS["start"][0]: "index.md"}]
    for section in INTRODUCTIONS:
        found.append({SECTIONS[section][0]: [f"{section}/index.md", *pages_of(folder, section)]})
    return [*found, {SECTIONS["more"][0]: ["errata.md", "terminology.md", "results.md", "contributing.md"]}]


def section_titles():
    """{English: Chinese}."""
    return dict(SECTIONS.values())
