"""Run the tutorials, keep what they print and measure, and publish it.

    python benchmarks/course.py                # the long version of all: most of an hour on two cores
    python benchmarks/course.py 01 05          # those; each tutorial's results are kept as it ends
    python benchmarks/course.py --quick        # the README's first command, for the times it states
    python benchmarks/course.py --avx2         # the seconds of the quick version without AVX-512, and nothing else
    python benchmarks/course.py --times        # only the ms again, from the files that the long runs made
    python benchmarks/course.py --bytes        # only the bytes: those files are loaded, and written as save does today

The results are ``results/<tutorial>.json`` (every accuracy of every seed, the seconds of the run, and of all cores),
``results/<tutorial>.txt`` (the output as it was printed), ``results/machine.json``, and the same of the quick version
in ``results/quick``. Times are worth something on a quiet machine only.
"""
import json
import os
import resource
import subprocess
import sys
import time

import click

import gluon_compress as gc  # before mxnet
import mxnet as mx
from publish import ROOT, publish
from recording import RESULTS, describe_machine, write_json, write_text

ONLY_AVX2 = {"ONEDNN_MAX_CPU_ISA": "AVX2", "DNNL_MAX_CPU_ISA": "AVX2"}  # the newer and the older name


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
    write_text(results / f"{tutorial.stem}.txt", "".join(lines))
    write_json(results / f"{tutorial.stem}.json", measured)


def seconds_with_avx2(tutorial):
    """How long the quick version takes where oneDNN, which computes nearly all of it, may use AVX2 alone."""
    began = time.perf_counter()
    subprocess.run([sys.executable, str(tutorial)], cwd=tutorial.parent, env={**os.environ, **ONLY_AVX2}, check=True)
    return round(time.perf_counter() - began, 1)


def cpu_seconds():
    """Of the processes that have ended: what a run took of the cores, also beside other jobs."""
    usage = resource.getrusage(resource.RUSAGE_CHILDREN)
    return usage.ru_utime + usage.ru_stime


def measure_again(tutorial, what):
    """Replace the ms or the bytes of a tutorial's results; its networks are what its run left in ``tutorials/output``.
    """
    sys.path.insert(0, str(tutorial.parent))
    import course  # the tutorials'
    file = RESULTS / f"{tutorial.stem}.json"
    measured = json.loads(file.read_text())
    if what == "times":
        course.measure_times(measured["rows"], mx.nd.random.normal(shape=tuple(measured["example_shape"])), rounds=20)
        measured.update(threads=gc.runtime.status().threads, machine=describe_machine())
    else:
        for row in measured["rows"]:
            if row["file"].endswith(".gcz"):
                row["bytes"] = written_again(course.OUTPUT / row["file"], row["simulated"])
    write_json(file, measured)
    table = f"{course.table(measured['rows'])}\n{course.conditions(measured)}"
    text = file.with_suffix(".txt")
    write_text(text, with_last_table(text.read_text(), table))
    click.echo(f"{tutorial.stem}\n{table}")


def with_last_table(printed, table):
    """What a tutorial printed, with another last table and the line of its conditions; reports before it stay."""
    begin = printed.rindex("\nnetwork  ") + 1
    end = printed.index("\nMade in ", begin)
    return printed[:begin] + table + printed[end:]


def written_again(path, simulated):
    """Write the network of a compressed file over it; return the bytes it has now."""
    net = gc.load(path, simulate=True) if simulated else gc.load(path)
    if isinstance(net, gc.quantization.IntegerNetwork):
        return gc.save(path, net)
    return gc.save(path, net, *gc.checkpoint.records(path).values())


@click.command(help=__doc__.split("\n")[0])
@click.argument("numbers", nargs=-1)
@click.option("--quick", is_flag=True, help="The version of the README's first command.")
@click.option("--avx2", is_flag=True, help="Only the seconds of that, without AVX-512.")
@click.option("--times", "again", flag_value="times", help="Only measure the ms again.")
@click.option("--bytes", "again", flag_value="bytes", help="Only measure the bytes again.")
def main(numbers, quick, avx2, again):
    tutorials = sorted((ROOT / "tutorials").glob("[0-9][0-9]_*.py"))
    unknown = set(numbers) - {tutorial.name[:2] for tutorial in tutorials}
    if unknown:
        raise click.BadParameter(f"there is no tutorial {', '.join(sorted(unknown))}")
    seconds = {}
    for tutorial in tutorials:
        if numbers and tutorial.name[:2] not in numbers:
            continue
        if avx2:
            seconds[tutorial.stem] = seconds_with_avx2(tutorial)
        elif again:
            measure_again(tutorial, again)
        elif quick:
            run(tutorial, RESULTS / "quick", [])
        else:
            run(tutorial, RESULTS, ["--long"])
    if avx2:
        path = RESULTS / "quick_avx2.json"
        earlier = json.loads(path.read_text())["seconds"] if numbers else {}
        write_json(path, {"seconds": {**earlier, **seconds}, "machine": describe_machine()})
    elif not quick and again != "bytes":
        write_json(RESULTS / "machine.json", describe_machine())
    publish()


if __name__ == "__main__":
    main()
