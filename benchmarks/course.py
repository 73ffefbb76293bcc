"""Run the tutorials, keep what they print and measure, and publish it.

    python benchmarks/course.py                # the long version of all: most of an hour on two cores
    python benchmarks/course.py 01 05          # those; each tutorial's results are kept as it ends
    python benchmarks/course.py --quick        # the README's first command, for the times it states
    python benchmarks/course.py --times        # only the ms again, from the files that the long runs made

The results are ``results/<tutorial>.json`` (every accuracy of every seed, the seconds of the run, and of all cores),
``results/<tutorial>.txt`` (the output as it was printed), ``results/machine.json``, and the same of the quick version
in ``results/quick``. Times are worth something on a quiet machine only.
"""
import json
import os
import platform
import resource
import subprocess
import sys
import time
from pathlib import Path

import click

import gluon_compress as gc
import mxnet as mx
import numpy as np
from gluon_compress.files.writing import write_atomically
from publish import RESULTS, ROOT, publish



def write(path, text):
    path.parent.mkdir(exist_ok=True)
    write_atomically(path, lambda temporary: temporary.write_text(text))


def run(tutorial, results, arguments):
    """Run one tutorial, echo its output, and put what it printed and measured into the folder ``results``."""
    began, began_cpu = time.perf_counter(), cpu_seconds()
    process = subprocess.Popen([sys.executable, str(tutorial), *arguments], cwd=tutorial.parent,
                               stdout=subprocess.PIPE, text=True)
    lines = []
    for line in process.stdout:
        print(line, end="", flush=True)
        lines.append(line.replace(f"{ROOT}{os.sep}", ""))
    if process.wait():
        raise click.ClickException(f"{tutorial.name} failed; its results are as they were")
    measured = json.loads((tutorial.parent / "output" / f"{tutorial.stem}.json").read_text())
    measured.update(seconds=round(time.perf_counter() - began, 1), cpu_seconds=round(cpu_seconds() - began_cpu, 1),
                    machine=describe_machine())
    write(results / f"{tutorial.stem}.txt", "".join(lines))
    write(results / f"{tutorial.stem}.json", json.dumps(measured, indent=2) + "\n")


def cpu_seconds():
    """Of the processes that have ended: what a run took of the cores, also beside other jobs."""
    usage = resource.getrusage(resource.RUSAGE_CHILDREN)
    return usage.ru_utime + usage.ru_stime


def time_again(tutorial):
    """Replace the ms of one tutorial's results; the networks are those that its run left in ``tutorials/output``."""
    sys.path.insert(0, str(tutorial.parent))
    import course  # the tutorials'
    file = RESULTS / f"{tutorial.stem}.json"
    measured = json.loads(file.read_text())
    example = mx.nd.random.normal(shape=tuple(measured["example_shape"]))
    course.measure_times(measured["rows"], example, rounds=20)
    write(file, json.dumps(measured, indent=2) + "\n")
    printed = file.with_suffix(".txt").read_text()
    begin, end = printed.index("\nnetwork  ") + 1, printed.index("\n(", printed.index("\nnetwork  "))
    write(file.with_suffix(".txt"), printed[:begin] + course.table(measured["rows"]) + printed[end:])
    click.echo(f"{tutorial.stem}\n{course.table(measured['rows'])}")


def describe_machine():
    return {"cpu": cpu_name(), "cores": os.cpu_count(), "load before": round(os.getloadavg()[2], 1),
            "system": platform.platform(), "python": platform.python_version(), "mxnet": mx.__version__,
            "numpy": np.__version__, "runtime": gc.runtime.status().to_dict()}


def cpu_name():
    """The model and the widest integer instructions it has."""
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
        name, flags = (next(line.split(":", 1)[1].strip() for line in lines if line.startswith(start))
                       for start in ("model name", "flags"))
    except (OSError, StopIteration):
        return platform.processor()
    widest = [flag for flag in ("amx_int8", "avx512_vnni", "avx_vnni", "avx2") if flag in flags.split()][:1]
    return f"{name} ({', '.join(widest)})"


@click.command(help=__doc__.split("\n")[0])
@click.argument("numbers", nargs=-1)
@click.option("--quick", is_flag=True, help="The version of the README's first command.")
@click.option("--times", is_flag=True, help="Only measure the ms again.")
def main(numbers, quick, times):
    tutorials = sorted((ROOT / "tutorials").glob("[0-9][0-9]_*.py"))
    unknown = set(numbers) - {tutorial.name[:2] for tutorial in tutorials}
    if unknown:
        raise click.BadParameter(f"there is no tutorial {', '.join(sorted(unknown))}")
    for tutorial in tutorials:
        if numbers and tutorial.name[:2] not in numbers:
            continue
        if times:
            time_again(tutorial)
        elif quick:
            run(tutorial, RESULTS / "quick", [])
        else:
            run(tutorial, RESULTS, ["--long"])
    if not quick:
        write(RESULTS / "machine.json", json.dumps(describe_machine(), indent=2) + "\n")
    publish()


if __name__ == "__main__":
    main()
