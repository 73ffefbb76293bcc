"""What a student handed in: the functions and answers of a notebook or script, read without running the rest of it.

Only definitions are executed: imports, functions, classes, and assignments without a call, such as an answer. What a
notebook trains, prints or plots is not. A cell that cannot be parsed, or a definition that fails, is a fault of the
names that it would have defined, and of no others.
"""
import ast
import json
import linecache
import re
from typing import NamedTuple

DEFINITIONS = (ast.Import, ast.ImportFrom, ast.FunctionDef, ast.ClassDef)
RUNNING = (ast.Call, ast.Await, ast.Yield, ast.YieldFrom, ast.ListComp, ast.SetComp, ast.DictComp, ast.GeneratorExp)
NAMES = re.compile(r"(?m)^(?:def|class) (\w+)|^(\w+) *=(?!=)")
MAGIC = re.compile(r"(?m)^[ \t]*(?:[%!?].*|[\w.]+\?\??[ \t]*)$")  # also np.clip?, which shows the help


class Fault(NamedTuple):
    """Why a name is not there: a sentence of messages.yaml and what is filled in."""

    sentence: str
    values: dict


def cells_of(path):
    """The code cells of a notebook (.ipynb) or of a percent-format script (.py)."""
    text = path.read_text(encoding="utf-8")
    if path.suffix == ".py":
        parts = re.split(r"(?m)^(?=# %%)", text)
        return [part for part in parts if not part.startswith("# %% [markdown]")]
    cells = json.loads(text)["cells"]
    return ["".join(cell["source"]) for cell in cells if cell["cell_type"] == "code"]


def definitions(code):
    """The statements of a cell that only define something."""
    found = []
    for statement in ast.parse(code).body:
        assigns = isinstance(statement, ast.Assign) and all(
            isinstance(target, ast.Name) for target in statement.targets) and (
            isinstance(statement.value, ast.Lambda) or not any(
                isinstance(node, RUNNING) for node in ast.walk(statement.value)))
        if isinstance(statement, DEFINITIONS) or assigns:
            found.append(statement)
    return found


def names_of(statement):
    """The names that a statement defines."""
    if isinstance(statement, ast.Assign):
        return [target.id for target in statement.targets]
    if isinstance(statement, (ast.Import, ast.ImportFrom)):
        return [(alias.asname or alias.name).split(".")[0] for alias in statement.names]
    return [statement.name]


def load(path):
    """``({name: value}, {name: Fault})`` of a submission. Runs code of its author: call it behind the fence."""
    namespace, faults = {"__name__": "submission"}, {}
    for number, code in enumerate(cells_of(path)):
        code, file = MAGIC.sub("", code), f"<cell {number}>"
        linecache.cache[file] = len(code), None, code.splitlines(keepends=True), file  # for the lines of errors
        try:
            statements = definitions(code)
        except (SyntaxError, ValueError) as error:
            fault = Fault("syntax", {"message": getattr(error, "msg", str(error)), "line": getattr(error, "lineno", 0),
                                     "text": (getattr(error, "text", "") or "").strip()[:80]})
            faults.update((name, fault) for pair in NAMES.findall(code) for name in pair if name)
            continue
        for statement in statements:
            run(statement, file, namespace, faults)
    return namespace, faults


def run(statement, file, namespace, faults):
    """Execute one definition; a later one of the same name counts."""
    names = names_of(statement)
    try:
        exec(compile(ast.Module([statement], []), file, "exec"), namespace)
    except Exception as error:
        for name in names:
            namespace.pop(name, None)
        if not isinstance(statement, ast.Assign):  # of something that the notebook has computed, and we have not
            fault = Fault("not_loaded", {"error": type(error).__name__, "message": str(error)[:200], "name": names[0]})
            faults.update((name, fault) for name in names)
    else:
        for name in names:
            faults.pop(name, None)
