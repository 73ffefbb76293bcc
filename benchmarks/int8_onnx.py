"""Our int8 ONNX beside NNCF's int8 in OpenVINO and ONNX Runtime's own: speed, and the operators that run on integers.

    python3 -m venv /tmp/runtimes
    /tmp/runtimes/bin/pip install onnxruntime==1.31.1 openvino==2026.4.1 nncf==3.4.0 onnx==1.16.2 ml_dtypes
    python benchmarks/int8_onnx.py --runtimes /tmp/runtimes/bin/python --work /tmp/networks --prepare
    python benchmarks/int8_onnx.py --runtimes /tmp/runtimes/bin/python --work /tmp/networks    # on a quiet machine

Six networks of Gluon's model zoo with random weights, 224x224, batch 8, two threads. All int8 files are made from the
same weights with the same 32 images:

    ours                 ``quantize(method="minmax")``, then ``to_onnx``: one file for both engines
    NNCF                 ``nncf.quantize`` of the fp32 ONNX file, as it comes, in OpenVINO
    ONNX Runtime's own   ``quantize_static``, weights per channel in int8, activations in uint8; QDQ and QOperator

``--prepare`` makes the files and measures nothing. Files of one engine take turns in one process; medians of all
passes. The operators are those of the graph that the engine runs: OpenVINO's runtime model, ONNX Runtime's optimized
graph. Results: ``results/int8_onnx.json`` and ``.txt``.
"""
import json
import subprocess
import sys
from pathlib import Path

import click

import gluon_compress as gc  # before mxnet: see gluon_compress/runtime
import mxnet as mx
import numpy as np
from gluon_compress.tables import format_table
from int8_onnx_engines import BATCH, FILES, OURS
from int8_speed import NETWORKS, SIZE, environment, versions
from int8_speed_systems import THREADS, calibration, prepare, zoo_network
from recording import RESULTS, cpu_name, write_result

PROCESS = Path(__file__).with_name("int8_onnx_engines.py")
FILE = RESULTS / "int8_onnx.json"


def make_files(name, folder, runtimes):
    """The fp32 ONNX file, ours, and in the other interpreter those of the two quantizers."""
    folder.mkdir(parents=True, exist_ok=True)
    if not (folder / "zoo_name").exists():
        prepare(NETWORKS[name], SIZE, folder)
    batches = [mx.nd.array(batch) for batch in calibration(folder)]
    net = zoo_network(folder)[1]
    np.save(folder / "outputs.npy", net(batches[0]).asnumpy())
    int8 = gc.quantization.quantize(net, batches, method="minmax", progress=False)
    gc.export.to_onnx(int8, folder / OURS, batches[0][:1])
    run(runtimes, "references", folder)
    click.echo(f"{name}: files made")


def run(runtimes, task, folder):
    """What the other interpreter prints."""
    done = subprocess.run([runtimes, "-W", "ignore", PROCESS, task, folder], text=True, capture_output=True,
                          env=environment("OpenVINO"))
    if done.returncode:
        raise click.ClickException(f"{task} of {folder.name} ended with {done.returncode}:\n{done.stderr[-2000:]}")
    return done.stdout


def table(rows):
    lines = []
    for name, engines in rows.items():
        for engine, files in engines.items():
            best = min(entry["median_ms"] for file, entry in files.items() if file != "ours")
            for file, entry in files.items():
                ratio = f"{best / entry['median_ms']:.2f}x" if file == "ours" else ""
                speed = f"{1e3 * BATCH / entry['median_ms']:.0f}"
                lines.append((name, engine, file, f"{entry['median_ms']:.1f}", speed, ratio,
                              *(entry["classes"].get(key, 0) for key in CLASSES), f"{100 * entry['error']:.1f} %"))
    return format_table(("network", "engine", "int8 file", "ms", "img/s", "ours", "layers int", "layers float",
                         "others int", "others float", "conversions", "error"), lines)


CLASSES = ("layers on integers", "layers in floats", "others on integers", "others in floats", "conversions")


def write_tables(result):
    conditions = result["conditions"]
    text = (f"{table(result['rows'])}\n\n({conditions['cpu']}, {conditions['cores']} cores, {THREADS} threads, batch "
            f"{BATCH}, {SIZE}x{SIZE}, random weights; medians of passes in turn in one process.\n"
            f"{', '.join(f'{name} {version}' for name, version in conditions['versions'].items())}.\n"
            f"ours: speed against the fastest other int8 file in that engine; operators of the graph that it runs,\n"
            f"without reshapes; error: root mean square of the difference from fp32, by the outputs' deviation)\n")
    write_result(FILE, result, text)
    return text


@click.command(help=__doc__.split("\n")[0])
@click.option("--runtimes", metavar="PYTHON", required=True, help="An interpreter with onnxruntime, openvino, nncf.")
@click.option("--work", type=click.Path(file_okay=False, path_type=Path), required=True, help="Where the files are.")
@click.option("--only", type=click.Choice(sorted(NETWORKS)), multiple=True, help="These networks.")
@click.option("--prepare", "only_prepare", is_flag=True, help="Make the files only.")
def main(runtimes, work, only, only_prepare):
    result = json.loads(FILE.read_text()) if FILE.exists() else {"rows": {}}
    for name in only or NETWORKS:
        wanted = [work / name / file for files in FILES.values() for file in files.values()]
        if only_prepare or not all(map(Path.exists, wanted)):
            make_files(name, work / name, runtimes)
        if not only_prepare:
            result["rows"][name] = json.loads(run(runtimes, "measure", work / name).splitlines()[-1])
            result["conditions"] = {"cpu": cpu_name(), "cores": gc.runtime.status().cores, "threads": THREADS,
                                    "batch": BATCH, "versions": versions(runtimes)}
            write_tables(result)
            click.echo(f"{name}: measured")
    if not only_prepare:
        click.echo(write_tables(result))


if __name__ == "__main__":
    sys.exit(main())
