"""What the cells of the tutorials print and draw: each is run once, in a Jupyter kernel, for both languages.

What came out is kept in ``woven/outputs`` until code changes: the tutorial's own, or that which all tutorials share.
The library's code is not looked at; remove the folder to run all again.
"""
import base64
import hashlib
import json
import os

import click
import nbformat
from translations import FOLDER

KEPT = FOLDER / "woven" / "outputs"
SHARED = ("course.py", "figures.py")


def outputs_of(source, notebook_in):
    """A list with the outputs of each code cell, as nbformat has them.

    ``notebook_in(folder)`` makes the notebook that is run, as one that lies in that folder.
    """
    notebook = notebook_in(FOLDER)
    digest, file = _digest(notebook), KEPT / f"{source.stem}.json"
    kept = json.loads(file.read_text(encoding="utf-8")) if file.exists() else {}
    if kept.get("digest") != digest:
        click.echo(f"running {source.name}")
        kept = {"digest": digest, "outputs": run(notebook, FOLDER)}
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(json.dumps(kept, indent=1) + "\n", encoding="utf-8")
    return [[nbformat.from_dict(output) for output in cell] for cell in kept["outputs"]]


def run(notebook, folder):
    """Run a notebook in ``folder`` and return the outputs of its code cells; an error in a cell is raised.

    Lines of MXNet's C++ and warnings go to stderr, which is left out: they are of the machine, not of the tutorial.
    """
    from nbclient import NotebookClient
    NotebookClient(notebook, timeout=None, kernel_name="python3", coalesce_streams=True,
                   extra_arguments=["--IPKernelApp.log_level=ERROR"],
                   resources={"metadata": {"path": str(folder)}}).execute()
    return [[_without_folders(output) for output in cell.outputs if output.get("name") != "stderr"]
            for cell in notebook.cells if cell.cell_type == "code"]


def text_of(outputs):
    """What the cell printed, and the values that it showed, as text."""
    texts = [output["text"] if output["output_type"] == "stream" else output["data"].get("text/plain", "")
             for output in outputs if "image/png" not in output.get("data", {})]
    return "\n".join(text.rstrip("\n") for text in texts if text.strip())


def figures_of(outputs):
    """The figures of a cell, as bytes of PNG."""
    return [base64.b64decode(output["data"]["image/png"]) for output in outputs
            if "image/png" in output.get("data", {})]


def _digest(notebook):
    """Of the code that is run."""
    code = [cell.source for cell in notebook.cells if cell.cell_type == "code"]
    shared = [(FOLDER / name).read_text(encoding="utf-8") for name in SHARED]
    return hashlib.sha256(json.dumps([*code, *shared]).encode()).hexdigest()


def _without_folders(output):
    """The output without the name of the folder that this checkout is in."""
    if "text" in output:
        output["text"] = output["text"].replace(f"{FOLDER.parent}{os.sep}", "")
    return output
