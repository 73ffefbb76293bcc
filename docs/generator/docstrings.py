"""The docstrings of the package as Markdown: roles of Sphinx become links, literal blocks and examples become code."""
import ast
import re
from pathlib import Path

from griffe import Extension

PACKAGE = Path(__file__).resolve().parents[2] / "gluon_compress"
ROLE = re.compile(r":(?:func|class|mod|meth|attr|data|exc):`(~?)([^`<]+?)(?: <([\w.]+)>)?`")
SECTION = re.compile(r"(?m)^(?:Parameters|Returns|Raises|Attributes|Yields)\n-+\n")
ITEM = re.compile(r"(?m)^\*{0,2}\w+(?:, \*{0,2}\w+)* : .+")
EXAMPLE = re.compile(r"(?m)^( *)>>> .*\n(?:\1(?:>>>|\.\.\.).*\n?)*")


def rooms():
    """{"gluon_compress.pruning": its public names} for the package and each of its rooms that users call."""
    public = _all_of(PACKAGE / "__init__.py")
    folders = [name for name in public if (PACKAGE / name / "__init__.py").is_file()]
    return {PACKAGE.name: public} | {f"{PACKAGE.name}.{name}": _all_of(PACKAGE / name / "__init__.py")
                                     for name in folders}


def _all_of(file):
    """What a module says in ``__all__``, in alphabetical order."""
    for node in ast.parse(file.read_text(encoding="utf-8")).body:
        if isinstance(node, ast.Assign) and ast.unparse(node.targets[0]) == "__all__":
            return sorted(ast.literal_eval(node.value), key=str.lower)
    raise ValueError(f"{file} has no __all__")


def targets():
    """{short and full name: full name} of what the reference has; of two short names that of the package counts."""
    known, found = rooms(), {}
    for room in reversed(known):  # the package itself comes last
        full = [f"{room}.{name}" for name in known[room] if f"{room}.{name}" not in known]
        found |= {name.rpartition(".")[2]: name for name in full} | {name: name for name in full}
    return found


def sections_last(text):
    """A docstring whose prose and examples after a section stand before the first one.

    Sections of NumPy's style end where another begins, so what follows the last one would belong to it.
    """
    heads = [*SECTION.finditer(text)]
    if not heads:
        return text
    prose, sections = [text[:heads[0].start()].rstrip()], []
    for head, after in zip(heads, [*(head.start() for head in heads[1:]), len(text)]):
        paragraphs = text[head.end():after].rstrip().split("\n\n")
        last = next((number for number, paragraph in enumerate(paragraphs) if not _is_item(paragraph, number)),
                    len(paragraphs))
        sections.append(head[0] + "\n\n".join(paragraphs[:last]))
        prose += paragraphs[last:]
    return "\n\n".join([*prose, *sections])


def _is_item(paragraph, number):
    """Whether a paragraph of a section belongs to it: the first, what is indented, and what begins like an item."""
    first, *others = paragraph.split("\n")
    return number == 0 or first.startswith(" ") or ITEM.fullmatch(first) or bool(others) and others[0].startswith("  ")


def as_markdown(text, known):
    """A docstring in Markdown."""
    def reference(role):
        short, text, target = role.groups()
        name, shown = target or text, f"`{text.rpartition('.')[2] if short else text}`"
        return f"[{shown}][{known[name]}]" if name in known else shown
    text = ITEM.sub(lambda item: ROLE.sub(r"\2", item[0]).replace("``", ""), sections_last(text))  # no Markdown there
    text = ROLE.sub(reference, text)
    text = re.sub(r"(?m)^ *::\n", "", text)
    text = re.sub(r"(?m)::$", ":", text)
    text = text.replace("``", "`")
    return EXAMPLE.sub(lambda example: "\n```pycon\n" + re.sub(rf"(?m)^{example[1]}", "", example[0]).rstrip()
                       + "\n```\n", text)


class Docstrings(Extension):
    """Changes the docstring of each object of the package once it is loaded."""

    def __init__(self):
        self._known = targets()

    def on_instance(self, *, obj, **_):
        if obj.docstring is not None:
            obj.docstring.value = as_markdown(obj.docstring.value, self._known)
