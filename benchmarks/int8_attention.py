"""A BERT-base on integers: how fast beside fp32 and ONNX Runtime, how near to fp32 and to its simulation.

    python3 -m venv /tmp/runtimes
    /tmp/runtimes/bin/pip install onnxruntime==1.31.1 onnx==1.16.2 ml_dtypes
    python benchmarks/int8_attention.py --runtimes /tmp/runtimes/bin/python     # about six minutes on two quiet cores

Twelve layers of 768 units and 12 heads, sequences of 128 tokens, random weights as BERT is initialized with; the same
in all columns, with two threads each:

    MXNet fp32            ``hybridize()`` with static memory; attention by batch_dot. interleaved: by MXNet's products
                          of queries, keys and values beside each other, as in gluonnlp; fused: with oneDNN's operators
    ours int8             ``gluon_compress.quantization.quantize``: dense layers on integers, attention in fp32
    ONNX Runtime          the same network in ONNX's operators; int8 dynamic: ``quantize_dynamic``; int8 static:
                          calibrated, QDQ. Both with int8 weights per channel

Each is a process of its own, as in int8_speed.py, and computes in turn with the others. Then the signal-to-noise ratio
of each of our integer layers against fp32 is measured, and the output of the network against its simulation in fp32.
Results: ``results/int8_attention.json`` and ``.txt``.
"""
import subprocess
import sys
import tempfile
from contextlib import ExitStack
from pathlib import Path

import click

import gluon_compress as gc  # before mxnet: see gluon_compress/runtime
import int8_attention_systems as bert
import numpy as np
from gluon_compress.tables import format_table
from int8_speed import System, interpreter, measure, versions
from int8_speed_systems import CALIBRATION_BATCHES, THREADS
from recording import RESULTS, cpu_name, write_result

PROCESS = Path(bert.__file__)
BATCHES = (1, 8)


def prepare(folder, runtimes):
    for python, what in ((sys.executable, "prepare"), (runtimes, "prepare ONNX")):
        if python:
            subprocess.run([python, "-W", "ignore", PROCESS, what, folder], check=True, stdout=subprocess.DEVNULL)


def speeds(folder, runtimes):
    """{batch: {system: times and error}}."""
    with ExitStack() as stack:
        systems = {name: stack.enter_context(System(name, folder, runtimes, script=PROCESS)) for name in bert.SYSTEMS
                   if interpreter(name, runtimes)}
        return {str(batch): measure(systems, batch) for batch in BATCHES}


def accuracy(folder, interleaved):
    """The noise of each integer layer, and how far the outputs are from fp32 and from the simulation."""
    mx, net = bert.network(folder, interleaved)
    batches = [mx.nd.array(part, dtype="int32") for part in np.split(bert.tokens(folder), CALIBRATION_BATCHES)]
    int8, simulated = (gc.quantization.quantize(net, batches, method="minmax", simulate=simulate, progress=False)
                       for simulate in (False, True))
    outputs, expected, same = (network(batches[0]).asnumpy() for network in (int8, net, simulated))
    ratios = {name: layer["snr"] for name, layer in int8.record.layers.items()}
    return {"decibels": ratios, "layers": len(ratios), "in fp32": int8.record.left_out,
            "error to fp32": float(np.linalg.norm(outputs - expected) / np.linalg.norm(expected)),
            "cosine to fp32": float((outputs * expected).sum() / np.linalg.norm(outputs) / np.linalg.norm(expected)),
            "error to simulation": float(np.linalg.norm(outputs - same) / np.linalg.norm(same))}


def table(result):
    rows = []
    for name in bert.SYSTEMS:
        entries = [row[name] for row in result["rows"].values() if name in row]
        fastest = [min(entry["median_ms"] for system, entry in row.items() if system.startswith("MXNet"))
                   for row in result["rows"].values()]
        if entries:
            times = [f"{entry['median_ms']:.1f} ({entry['lower_quartile_ms']:.1f} to {entry['upper_quartile_ms']:.1f})"
                     for entry in entries]
            ratios = [f"{best / entry['median_ms']:.2f}x" for best, entry in zip(fastest, entries)]
            rows.append((name, *times, *ratios, f"{100 * entries[-1]['error']:.2g} %"))
    titles = [f"batch {batch}, ms" for batch in BATCHES] + [f"batch {batch}" for batch in BATCHES]
    return format_table(("sequence of 128", *titles, "off fp32"), rows)


def accuracy_lines(result):
    lines = []
    for name, found in result["accuracy"].items():
        decibels = list(found["decibels"].values())
        lines.append(f"{name}: {found['layers']} layers on integers, {min(decibels):.1f} to {max(decibels):.1f} dB; "
                     f"output {100 * found['error to fp32']:.2g} % off fp32 (cosine {found['cosine to fp32']:.5f}), "
                     f"{100 * found['error to simulation']:.2g} % off its simulation; in fp32: "
                     f"{', '.join(found['in fp32'])}")
    return "\n".join(lines)


def text_of(result):
    conditions = result["conditions"]
    return (f"{table(result)}\n(times as fast as the fastest of MXNet's fp32. {conditions['cpu']}, "
            f"{conditions['cores']} cores, {THREADS} threads, random weights; medians, quartiles of passes in turn.\n"
            f"{', '.join(f'{name} {version}' for name, version in conditions['versions'].items())})\n\n"
            f"{accuracy_lines(result)}\n")


@click.command(help=__doc__.split("\n")[0])
@click.option("--runtimes", metavar="PYTHON", help="An interpreter with onnxruntime and onnx.")
def main(runtimes):
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary)
        prepare(folder, runtimes)
        result = {"rows": speeds(folder, runtimes),
                  "accuracy": {name: accuracy(folder, name == "interleaved") for name in ("batch_dot", "interleaved")},
                  "conditions": {"cpu": cpu_name(), "cores": gc.runtime.status().cores, "threads": THREADS,
                                 "versions": versions(runtimes, ("onnxruntime",))}}
    text = text_of(result)
    click.echo(f"{text}Made: {write_result(RESULTS / 'int8_attention.json', result, text)}")


if __name__ == "__main__":
    main()
