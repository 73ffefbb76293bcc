"""Run the tutorials, keep what they print and measure, and put the table of the long version into the README.

    python benchmarks/course.py                # the long version of all: most of an hour on two cores
    python benchmarks/course.py 01 05          # those; each tutorial's results are kept as it ends
    python benchmarks/course.py --quick        # the README's first command, for the times it states
    python benchmarks/course.py --times        # only the ms again, from the files that the long runs made
    python benchmarks/course.py --table-only   # only rewrite the README's tables from benchmarks/results

The results are ``results/<tutorial>.json`` (every accuracy of every seed, the seconds of the run, and of all cores),
``results/<tutorial>.txt`` (the output as it was printed), ``results/machine.json``, and the same of the quick version
in ``results/quick``. Times are worth something on a quiet machine only.
"""
import json
import os
import platform
import re
import resource
import subprocess
import sys
import time
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
TIMES = re.compile(r"(?<=<!-- times: begin -->).*?(?=<!-- times: end -->)", re.DOTALL)


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


def results_table():
    """The README's table, in Markdown, from the files in results/."""
    lines = ["| tutorial | network | test accuracy | file bytes | MACs | ms per batch (quartiles) |",
             "|---|---|---|---|---|---|"]
    for result in recorded(RESULTS):
        for row in result["rows"]:
            title = result["tutorial"] if row is result["rows"][0] else ""
            values = [100 * value for value in row["accuracies"]]
            accuracy = f"{np.mean(values):.2f} %"
            if len(values) > 1:
                accuracy += f" ({min(values):.2f} to {max(values):.2f}, {len(values)} seeds)"
            lines.append(f"| {title} | {row['network']} | {accuracy} | {row['bytes']:,} | {row['macs']:,} | "
                         f"{milliseconds_text(row)} |")
    machine = json.loads((RESULTS / "machine.json").read_text())
    lines += ["", f"{machine['cpu']}, {machine['runtime']['threads']} threads, Python {machine['python']}, "
                  f"MXNet {machine['mxnet']}, NumPy {machine['numpy']}. A forward pass is of 500 images (MNIST) or 100 "
                  f"(CIFAR-10), in fp32 but for the rows on integers; the networks of a tutorial take turns."]
    older = [result["tutorial"][:2] for result in recorded(RESULTS) if "numbers" not in result]
    if older:
        lines += ["", f"**Older rows**: those of tutorials {', '.join(older)} were measured on 22 November 2026, "
                      f"before the tutorials and the file format changed. Their times are of one run, tutorials 03 and "
                      f"06 with batches of 200, and their rows of 8-bit weights are of the last seed."]
    return "\n".join(lines) + "\n"


def milliseconds_text(row):
    """The median, with the quartiles unless the result is older than they are."""
    spread = " ({:.1f} to {:.1f})".format(*row["quartiles"]) if "quartiles" in row else ""
    return f"{row['milliseconds']:.1f}{spread}"


def recorded(folder):
    """The results of all tutorials in a folder, in their order."""
    return [json.loads(file.read_text()) for file in sorted(folder.glob("[0-9]*.json"))]


def times_text():
    """How long the first command runs, and its long version where all of it is measured, in whole minutes."""
    quick, long = ([result.get("seconds") for result in recorded(folder)] for folder in (RESULTS / "quick", RESULTS))
    further = "" if None in long else f", with `--long` {sum(long) / 60:.0f}"
    return f"{sum(quick) / 60:.0f} minutes on two cores{further}"


def readme_with(table):
    """The README with ``table``, and with what the other benchmarks printed between their own marks."""
    text = README.read_text()
    text = text[:text.index(BEGIN) + len(BEGIN)] + table + text[text.index(END):]
    text = TIMES.sub(times_text(), text)
    return re.sub(r"(<!-- (\w+\.txt): begin -->\n).*?(<!-- \2: end -->\n)", lambda found: (
        f"{found[1]}```\n{(RESULTS / found[2]).read_text().strip()}\n```\n{found[3]}"), text, flags=re.DOTALL)


@click.command(help=__doc__.split("\n")[0])
@click.argument("numbers", nargs=-1)
@click.option("--quick", is_flag=True, help="The version of the README's first command.")
@click.option("--times", is_flag=True, help="Only measure the ms again.")
@click.option("--table-only", is_flag=True, help="Only rewrite the README's tables.")
def main(numbers, quick, times, table_only):
    tutorials = sorted((ROOT / "tutorials").glob("[0-9][0-9]_*.py"))
    unknown = set(numbers) - {tutorial.name[:2] for tutorial in tutorials}
    if unknown:
        raise click.BadParameter(f"there is no tutorial {', '.join(sorted(unknown))}")
    for tutorial in tutorials:
        if table_only or numbers and tutorial.name[:2] not in numbers:
            continue
        if times:
            time_again(tutorial)
        elif quick:
            run(tutorial, RESULTS / "quick", [])
        else:
            run(tutorial, RESULTS, ["--long"])
    if not table_only and not quick:
        write(RESULTS / "machine.json", json.dumps(describe_machine(), indent=2) + "\n")
    write(README, readme_with(results_table()))
    click.echo(f"Made: {RESULTS} and the table in {README}")


if __name__ == "__main__":
    main()
