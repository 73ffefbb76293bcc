"""Grade a folder of submissions of a lab: a table, and all verdicts as JSON.

    python tutorials/labs/grade.py 1 submissions --json grades.json

``submissions`` has a folder for each student, and in it one notebook (.ipynb) or script (.py), and the .gcz file. The
functions of a submission run in a process of their own, with bounds of time and memory; its file is loaded by
``gc.load``, which executes nothing. The same submissions get the same points on every machine: times do not count.
"""
import json
import os
import select
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import NamedTuple

import gluon_compress as gc  # noqa: F401  (before mxnet)

import click  # noqa: I001
from gluon_compress.cli.options import Number
from gluon_compress.files.writing import write_atomically
from gluon_compress.tables import format_table

import submissions
from checking import BAR_POINTS, LANGUAGES, sentence, tasks_of
from lab import BARS, bar_verdict

FOLDER = Path(__file__).resolve().parent
STARTING_SECONDS = 120  # to import MXNet on a busy machine
FILE_SECONDS = 300
ENDING_SECONDS = 2  # for a process that has said all it has to say


class Limits(NamedTuple):
    """What a submission may take: seconds for one task, gigabytes."""

    seconds: float
    gigabytes: float


LIMITS = Limits(20, 2)


class Child:
    """A process that grades, and what it says, line by line."""

    def __init__(self, *arguments):
        reading, writing = os.pipe()
        self.folder = tempfile.TemporaryDirectory(prefix="grading-")
        environment = {**os.environ, "OMP_NUM_THREADS": "1", "PYTHONDONTWRITEBYTECODE": "1"}
        self.process = subprocess.Popen(
            [sys.executable, str(FOLDER / "grade_child.py"), str(writing), *map(str, arguments)], pass_fds=[writing],
            cwd=self.folder.name, env=environment, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL, start_new_session=True)
        os.close(writing)
        self.pipe, self.rest = reading, b""

    def line(self, seconds):
        """What it says next, as a dictionary; None at its end; ``TimeoutError`` after ``seconds`` of silence."""
        while b"\n" not in self.rest:
            if not select.select([self.pipe], [], [], seconds)[0]:
                raise TimeoutError
            piece = os.read(self.pipe, 65536)
            if not piece:
                return None
            self.rest += piece
        text, self.rest = self.rest.split(b"\n", 1)
        try:
            said = json.loads(text)
        except ValueError:
            return None  # somebody else wrote into the pipe
        return said if isinstance(said, dict) else None

    def end(self):
        """End it, whatever it does, and return its status, or "killed" where it would not end by itself."""
        try:
            status = self.process.wait(ENDING_SECONDS)  # its pipe is closed a moment before it has ended
        except subprocess.TimeoutExpired:
            status = None
            self.process.kill()
            self.process.wait()
        os.close(self.pipe)
        self.folder.cleanup()
        return "killed" if status is None else status


def verdicts(lab, notebook, language, limits):
    """{task: {"right", "name", "sentence"}}; after a task that ends the process the next ones get a new one."""
    found, left = {}, list(tasks_of(lab))
    while left:
        child = Child("functions", notebook, lab, language, limits.gigabytes, *left)
        current, failure = left[0], None
        try:
            said = child.line(STARTING_SECONDS)
            while said is not None and left:
                if "ends" in said:
                    found[left.pop(0)] = {key: said[key] for key in ("right", "name", "sentence")}
                current = left[0] if left else None
                said = child.line(limits.seconds) if left else None
        except TimeoutError:
            failure = "timeout"
        status = child.end()
        if current is not None:
            name = failure or "ended"
            found[current] = {"right": False, "name": name, "sentence": sentence(
                name, language, seconds=f"{limits.seconds:g}", status=status)}
            left.remove(current)
    return found


def measured_file(lab, path, language, limits, held_out):
    """The verdict on a file, with its bytes and accuracies where it could be measured."""
    child = Child("file", path, held_out, limits.gigabytes)
    try:
        said = child.line(STARTING_SECONDS) and child.line(FILE_SECONDS)
    except TimeoutError:
        said = {"error": "TimeoutError", "message": f"{FILE_SECONDS} s"}
    status = child.end()
    said = said or {"error": "ended", "message": str(status)}
    if "error" in said:
        return {"right": False, "name": "bad_file", "sentence": sentence("bad_file", language, **{
            key: said[key] for key in ("error", "message")})}
    numbers = {key: said[key] for key in ("bytes", "accuracy", "bits", "test_accuracy")}
    found = bar_verdict(lab, numbers["bytes"], numbers["accuracy"], numbers["bits"], in_language=language)
    return {**found._asdict(), **numbers}


def absent(name, folder, language):
    """The verdict where a file is missing, or where there are several."""
    found = ", ".join(sorted(path.name for path in folder.iterdir())) or "-"
    return {"right": False, "name": name, "sentence": sentence(name, language, found=found)}


def fault_of(notebook, language):
    """The verdict on a notebook whose cells cannot be found; None where they can. Nothing is executed."""
    try:
        submissions.cells_of(notebook)
    except Exception as error:  # damaged files fail in many ways
        return {"right": False, "name": "unreadable", "sentence": sentence(
            "unreadable", language, error=type(error).__name__, message=str(error)[:200])}
    return None


def the_one(folder, *suffixes):
    """The file of a kind that was handed in: the only one, else None."""
    files = [path for path in sorted(folder.iterdir()) if path.suffix in suffixes and path.is_file()]
    return files[0] if len(files) == 1 else None


def grade(lab, folder, language="en", limits=LIMITS, held_out=5000):
    """All about one submission: its points, and the verdict on every task and on the file."""
    notebook, tasks = the_one(folder, ".ipynb", ".py"), tasks_of(lab)
    unreadable = absent("no_notebook", folder, language) if notebook is None else fault_of(notebook, language)
    if unreadable:
        found = dict.fromkeys(tasks, unreadable)
    else:
        found = verdicts(lab, notebook.resolve(), language, limits)
    for number, task in tasks.items():
        found[number] = {**found[number], "points": task.points if found[number]["right"] else 0, "of": task.points}
    path = the_one(folder, ".gcz")
    bar = absent("no_file", folder, language) if path is None else measured_file(
        lab, path.resolve(), language, limits, held_out)
    bar.update(points=BAR_POINTS if bar["right"] else 0, of=BAR_POINTS)
    everything = [*found.values(), bar]
    points, of = (sum(row[what] for row in everything) for what in ("points", "of"))
    return {"submission": folder.name, "points": points, "of": of,
            "tasks": {number: found[number] for number in tasks}, "bar": bar}


def table(lab, grades):
    """A row for each submission: points by task, its file, all points."""
    header = ["submission", *tasks_of(lab), "bytes", "held out", "test", "bar", "points"]
    rows = []
    for one in grades:
        bar, size = one["bar"], "---"
        if "bytes" in bar:
            size = f"{bar['bytes']:,}", f"{bar['accuracy']:.2%}", f"{bar['test_accuracy']:.2%}"
        rows.append([one["submission"], *(row["points"] for row in one["tasks"].values()), *size, bar["points"],
                     f"{one['points']} of {one['of']}"])
    return format_table(header, rows)


@click.command(help=__doc__.split("\n")[0])
@click.argument("lab", type=click.Choice([str(number) for number in BARS]))
@click.argument("folder", type=click.Path(exists=True, file_okay=False, path_type=Path))
@click.option("--json", "path", type=click.Path(dir_okay=False, path_type=Path), help="File for all verdicts.")
@click.option("--language", type=click.Choice(LANGUAGES), default="en", help="Language of the sentences.")
@click.option("--seconds", type=Number(1), default=20, help="Seconds for one task.", show_default=True)
@click.option("--memory", type=Number(0.1), default=2, help="Gigabytes for a submission.", show_default=True)
@click.option("--images", "held_out", type=click.IntRange(1, 5000), default=5000, show_default=True,
              help="Held-out images on which the files are measured.")
@click.option("--sentences", is_flag=True, help="Print what was said to every answer that is not right.")
def main(lab, folder, path, language, seconds, memory, held_out, sentences):
    folders = sorted(child for child in folder.iterdir() if child.is_dir() and not child.name.startswith("."))
    if not folders:
        raise click.UsageError(f"{folder} holds no folders; one for each student is expected")
    grades = []
    for child in folders:
        if sys.stderr.isatty():
            click.echo(f"{len(grades) + 1} of {len(folders)}: {child.name}", err=True)
        grades.append(grade(int(lab), child, language, Limits(seconds, memory), held_out))
    if path:
        text = json.dumps({"lab": int(lab), "held_out_images": held_out, "submissions": grades}, indent=2,
                          ensure_ascii=False)
        write_atomically(path, lambda path: path.write_text(text + "\n", encoding="utf-8"))
    click.echo(table(int(lab), grades))
    for one in grades if sentences else []:
        for number, row in [*one["tasks"].items(), ("bar", one["bar"])]:
            if not row["right"]:
                click.echo(f"{one['submission']} {number}: {row['sentence']}")


if __name__ == "__main__":
    main()
