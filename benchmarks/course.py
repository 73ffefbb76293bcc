"""Run the long version of the tutorials, keep what they print and measure, and put the table into the README.

    python benchmarks/course.py                # all: about twenty minutes on two cores
    python benchmarks/course.py 01 05          # those
    python benchmarks/course.py --table-only   # only rewrite the README's tables from benchmarks/results

The results are ``results/<tutorial>.json`` (every accuracy of every seed), ``results/<tutorial>.txt`` (the
output as it was printed) and ``results/machine.json``.
"""
import json
import os
import platform
import re
import shutil
import subprocess
import sys
from pathlib import Path

import click

import gluon_compress as gc
import mxnet as mx
import numpy as np
from gluon_compress.files import write_atomically

ROOT = Path(__file__).resolve().parent.parent
RESULTS = ROOT / "benchmarks" / "results"
README = ROOT / "README.md"
BEGIN, END = "<!-- results: begin -->\n", "<!-- results: end -->\n"


def run(tutorial):
    """Run one tutorial, echo its output, and put what it printed and measured into results/."""
    process = subprocess.Popen([sys.executable, str(tutorial), "--long"], cwd=tutorial.parent,
                               stdout=subprocess.PIPE, text=True)
    lines = []
    for line in process.stdout:
        print(line, end="", flush=True)
        lines.append(line.replace(f"{ROOT}{os.sep}", ""))
    if process.wait():
        raise click.ClickException(f"{tutorial.name} failed; its results are as they were")
    measured = tutorial.parent / "output" / f"{tutorial.stem}.json"
    write_atomically(RESULTS / f"{tutorial.stem}.txt", lambda path: path.write_text("".join(lines)))
    write_atomically(RESULTS / measured.name, lambda path: shutil.copyfile(measured, path))


def describe_machine():
    machine = {"cpu": cpu_name(), "cores": os.cpu_count(), "system": platform.platform(),
               "python": platform.python_version(), "mxnet": mx.__version__, "numpy": np.__version__,
               "runtime": gc.runtime.status().to_dict()}
    write_atomically(RESULTS / "machine.json", lambda path: path.write_text(json.dumps(machine, indent=2) + "\n"))


def cpu_name():
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
        return next(line.split(":", 1)[1].strip() for line in lines if line.startswith("model name"))
    except (OSError, StopIteration):
        return platform.processor()


def results_table():
    """The README's table, in Markdown, from the files in results/."""
    lines = ["| tutorial | network | test accuracy | file bytes | MACs | ms per batch |", "|---|---|---|---|---|---|"]
    for file in sorted(RESULTS.glob("[0-9]*.json")):
        result = json.loads(file.read_text())
        for row in result["rows"]:
            title = result["tutorial"] if row is result["rows"][0] else ""
            values = [100 * value for value in row["accuracies"]]
            accuracy = f"{np.mean(values):.2f} %"
            if len(values) > 1:
                accuracy += f" ({min(values):.2f} to {max(values):.2f}, {len(values)} seeds)"
            lines.append(f"| {title} | {row['network']} | {accuracy} | {row['bytes']:,} | {row['macs']:,} | "
                         f"{row['milliseconds']:.1f} |")
    machine = json.loads((RESULTS / "machine.json").read_text())
    lines += ["", f"{machine['cpu']}, {machine['runtime']['threads']} threads, Python {machine['python']}, "
                  f"MXNet {machine['mxnet']}, NumPy {machine['numpy']}; forward passes in fp32 (tutorial 7 on "
                  f"integers too), batches of 500 "
                  f"(MNIST), 100 (AlexNet) and 200 (ResNet)."]
    return "\n".join(lines) + "\n"


def readme_with(table):
    """The README with ``table``, and with what the other benchmarks printed between their own marks."""
    text = README.read_text()
    text = text[:text.index(BEGIN) + len(BEGIN)] + table + text[text.index(END):]
    return re.sub(r"(<!-- (\w+\.txt): begin -->\n).*?(<!-- \2: end -->\n)", lambda found: (
        f"{found[1]}```\n{(RESULTS / found[2]).read_text().strip()}\n```\n{found[3]}"), text, flags=re.DOTALL)


@click.command(help=__doc__.split("\n")[0])
@click.argument("numbers", nargs=-1)
@click.option("--table-only", is_flag=True, help="Only rewrite the README's tables.")
def main(numbers, table_only):
    tutorials = sorted((ROOT / "tutorials").glob("[0-9][0-9]_*.py"))
    unknown = set(numbers) - {tutorial.name[:2] for tutorial in tutorials}
    if unknown:
        raise click.BadParameter(f"there is no tutorial {', '.join(sorted(unknown))}")
    if not table_only:
        for tutorial in tutorials:
            if not numbers or tutorial.name[:2] in numbers:
                run(tutorial)
        describe_machine()
    text = readme_with(results_table())
    write_atomically(README, lambda path: path.write_text(text))
    click.echo(f"Made: {RESULTS} and the table in {README}")


if __name__ == "__main__":
    main()
