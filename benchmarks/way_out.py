"""The way out in one picture: dense, pruned, int8, pruned and int8; in MXNet, ONNX Runtime and OpenVINO.

    python3 -m venv /tmp/runtimes
    /tmp/runtimes/bin/pip install onnxruntime==1.31.1 openvino==2026.4.1 nncf==3.4.0 onnx ml_dtypes
    python benchmarks/way_out.py --runtimes /tmp/runtimes/bin/python --files     # trains; makes files; accuracies
    python benchmarks/way_out.py --runtimes /tmp/runtimes/bin/python             # times: ten quiet minutes

Three networks: the shipped ResNet-18 on CIFAR-10 with a little further training, which its pruned form gets, too;
ResNet-50 and MobileNet-v2 at 224x224 with random weights. The pruned form has half the multiply-accumulates (MACs): the
same share of all layers goes, and multiples of 16 channels stay. Each form in fp32 and on integers, in

    MXNet as installed         no gluon_compress in the process: ``hybridize()``, its own ``quantize_net_v2``, and as
                               many threads as it takes by itself
    MXNet with gluon_compress  fp32 with oneDNN's fused operators; int8 by ``gluon_compress.quantization.quantize``
    ONNX Runtime, OpenVINO     the files that ``gluon_compress.export.to_onnx`` writes of the same networks
    OpenVINO with NNCF         the fp32 file, quantized by NNCF with the same images

Two threads each, all but the first. Each system is a process of its own. In every round each computes for a fraction of
a second, in turn, in an order that is drawn anew; medians and quartiles over all passes. What is in the results file is
not measured again. Results: ``results/way_out.json``, ``.txt`` and ``.png``.
"""
import json
import os
import random
import subprocess
from contextlib import ExitStack
from pathlib import Path

import click

import gluon_compress as gc  # before mxnet: see gluon_compress/runtime
import mxnet as mx
import numpy as np
import way_out_networks as networks
import way_out_systems as systems
from gluon_compress.tables import format_table
from int8_speed import System, engine_options, versions
from int8_speed_systems import THREADS, quartiles
from recording import RESULTS, cpu_name, write_json, write_text
from way_out_figure import draw

FILE = RESULTS / "way_out.json"
WORK = RESULTS / "way_out_networks"
SCRIPT = Path(systems.__file__)
NETWORKS = {"resnet18_cifar": "ResNet-18, CIFAR-10", "resnet50": "ResNet-50, 224x224",
            "mobilenet_v2": "MobileNet-v2, 224x224"}
BATCHES = (8, 1)
ROUNDS, SECONDS = 7, 0.25
OURS, THEIRS = "OpenVINO, pruned int8", "OpenVINO with NNCF, dense int8"


def started(folder, runtimes, stack):
    """{system: its process}, which end with the stack."""
    return {name: stack.enter_context(System(name, folder, runtimes, script=SCRIPT)) for name in systems.SYSTEMS}


def measure_times(running, batch):
    """{system: medians and quartiles in milliseconds for a batch, and the median of each round}."""
    for system in running.values():
        system.compute(batch, 0)
    rounds = {name: [] for name in running}
    order = list(running)
    for number in range(ROUNDS):
        random.Random(number).shuffle(order)
        for name in order:
            rounds[name].append(running[name].compute(batch, SECONDS)[0])
    return {name: summary(passes) for name, passes in rounds.items()}


def summary(rounds):
    return {**quartiles(np.concatenate(rounds)), "round_medians_ms": [float(np.median(passes)) for passes in rounds]}


def measure_accuracy(folder, system):
    """On the test images, each looked at once by each system."""
    runtime, form = system.split(", ")
    form, _, precision = form.partition(" ")
    if runtime.startswith("MXNet"):
        net = gc.load(folder / f"{form}.gcz")
        if precision == "int8" and runtime == "MXNet as installed":
            net = systems.mxnets_integers(mx, net, folder)
        elif precision == "int8":
            net = gc.load(folder / f"{form}_int8.gcz")
    elif runtime == "OpenVINO with NNCF":
        net = gc.export.engine(folder / f"{form}_nncf.xml", "openvino")
    else:
        net = gc.export.engine(systems.onnx_file(folder, form, precision),
                               "openvino" if runtime == "OpenVINO" else "onnxruntime")
    _, test = gc.datasets.cifar10()
    return gc.training.evaluate(net, test.batches(100))


def make_files(name, folder, runtimes):
    """The files of a network, those of NNCF in its interpreter; then the accuracies."""
    networks.prepare(name, folder)
    keep(name, "macs", networks.macs(folder))
    code = "import sys, way_out_systems as systems; systems.nncf_file(systems.Path(sys.argv[1]), sys.argv[2])"
    for form in networks.FORMS:
        subprocess.run([runtimes, "-W", "ignore", "-c", code, str(folder), form], check=True, cwd=SCRIPT.parent,
                       stdout=subprocess.DEVNULL)
    for system in systems.SYSTEMS if name in networks.TRAINED else ():
        known = read()["networks"][name].get("accuracy", {})
        if system not in known:
            same = system.replace("with gluon_compress", "as installed")  # in fp32, one network in one library
            accuracy = known.get(same) if "int8" not in system else None
            accuracy = measure_accuracy(folder, system) if accuracy is None else accuracy
            click.echo(f"{name}, {system}: {accuracy:.4f}")
            keep(name, "accuracy", {system: accuracy})


def make_times(name, folder, batches, runtimes):
    with ExitStack() as stack:
        running = started(folder, runtimes, stack)
        for batch in batches:
            times = measure_times(running, batch)
            result = keep(name, "times", {str(batch): times}, {
                "cpu": cpu_name(), "cores": gc.runtime.status().cores, "threads": THREADS,
                "versions": versions(runtimes), "load": round(os.getloadavg()[0], 1)})
            click.echo(headline(name, result["networks"][name]).splitlines()[-1])


def read():
    return json.loads(FILE.read_text()) if FILE.exists() else {"networks": {}}


def keep(name, what, found, conditions=None):
    """Add what was found to the results file, which another run may have changed meanwhile; return all of it."""
    result = read()
    result["networks"].setdefault(name, {"times": {}}).setdefault(what, {}).update(found)
    if conditions is not None:
        result["conditions"] = conditions
    write_json(FILE, result)
    return result


def table(name, result):
    """Rows of systems: MACs, accuracy, times, and how many times as fast as NNCF's dense int8 in OpenVINO."""
    def cells(system):
        form = system.split(", ")[1]
        accuracy = result.get("accuracy", {}).get(system)
        return (system, f"{result['macs'][form.split()[0]] / 1e6:,.0f}",
                *(() if "accuracy" not in result else ("-" if accuracy is None else f"{100 * accuracy:.2f}",)),
                *(cell for batch in BATCHES for cell in time_cells(result["times"].get(str(batch)), system)))
    header = (NETWORKS[name], "million MACs", *(("accuracy %",) if "accuracy" in result else ()),
              *(title for batch in BATCHES for title in (f"ms, batch {batch}", "times as fast")))
    return format_table(header, [cells(system) for system in systems.SYSTEMS])


def time_cells(times, system):
    if not times:
        return "-", "-"
    row = times[system]
    return ("{median_ms:.2f} ({lower_quartile_ms:.2f} to {upper_quartile_ms:.2f})".format(**row),
            f"{times[THEIRS]['median_ms'] / row['median_ms']:.2f}")


def headline(name, result):
    """Ours, pruned and on integers, beside NNCF's dense integers: both in OpenVINO, round by round."""
    lines = []
    for batch, times in result["times"].items():
        ratios = np.divide(times[THEIRS]["round_medians_ms"], times[OURS]["round_medians_ms"])
        fewer = result["macs"]["dense"] / result["macs"]["pruned"]
        lines.append(f"{NETWORKS[name]}, batch {batch}: {fewer:.2f} times fewer MACs and int8 by gluon_compress are "
                     f"{times[THEIRS]['median_ms'] / times[OURS]['median_ms']:.2f} times as fast in OpenVINO as NNCF's "
                     f"dense int8 ({ratios.min():.2f} to {ratios.max():.2f} in {len(ratios)} rounds)")
    return "\n".join(lines)


def write(result):
    """Table and figure of the networks that have times."""
    measured = {name: entry for name, entry in result["networks"].items() if entry.get("times")}
    if not measured:
        return ""
    conditions = result["conditions"]
    load = f"Load at the end {conditions['load']:g}. " if "load" in conditions else ""
    text = "\n\n".join([*(table(name, measured[name]) for name in NETWORKS if name in measured),
                        "\n".join(headline(name, measured[name]) for name in NETWORKS if name in measured)])
    text += (f"\n(times as fast: as {THEIRS}. {conditions['cpu']}, {conditions['cores']} cores, {THREADS} threads, but "
             f"MXNet as installed with its own default;\n"
             f"medians and quartiles of passes in {ROUNDS} rounds, all systems in turn. Random weights but for "
             f"CIFAR-10, whose networks,\ndense and pruned, had {networks.EPOCHS} further epochs; 10,000 test images, "
             f"which chose nothing.\n"
             f"{load}"
             f"{', '.join(f'{name} {version}' for name, version in conditions['versions'].items())})\n")
    write_text(FILE.with_suffix(".txt"), text)
    draw(measured, NETWORKS, FILE.with_suffix(".png"))
    return text


@click.command(help=__doc__.split("\n")[0])
@engine_options(NETWORKS, BATCHES)
@click.option("--files", is_flag=True, help="Make the networks and files, and measure accuracies; no times.")
@click.option("--figure", is_flag=True, help="Only write the table and the figure anew.")
@click.option("--work", type=click.Path(file_okay=False, path_type=Path), default=WORK, help="The networks' files.")
def main(runtimes, only, batches, files, again, figure, work):
    if not figure and not runtimes:
        raise click.UsageError("--runtimes is needed, unless --figure is given")
    for name in () if figure else only or NETWORKS:
        there = read()["networks"].get(name, {}).get("times", {})
        wanted = [batch for batch in batches if again or str(batch) not in there]
        if files:
            make_files(name, work / name, runtimes)
        elif wanted:
            make_times(name, work / name, wanted, runtimes)
    click.echo(write(read()))


if __name__ == "__main__":
    main()
