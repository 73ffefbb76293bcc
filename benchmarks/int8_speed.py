"""Images per second of six networks at 224x224: MXNet, our int8, ONNX Runtime and OpenVINO, fp32 and int8.

    python3 -m venv /tmp/runtimes
    /tmp/runtimes/bin/pip install onnxruntime==1.31.1 openvino==2026.4.1 nncf==3.4.0 onnx==1.16.2 ml_dtypes
    python benchmarks/int8_speed.py --runtimes /tmp/runtimes/bin/python    # about forty minutes on two quiet cores
    python benchmarks/int8_speed.py --runtimes ... --only vgg16     # did not fit into 23 GB beside other programs
    python benchmarks/int8_speed.py --runtimes ... --isa AVX2       # as on an older processor; also AVX512_CORE

ONNX Runtime and OpenVINO live in an environment of their own, since they want NumPy 2 and MXNet does not; without
``--runtimes`` their columns stay empty. All of them get the same weights, random, and the same images:

    MXNet as installed    no gluon_compress in the process: default threads, ``hybridize()``
    MXNet fp32            two threads, static memory; fused: with oneDNN's fused operators as well
    ours int8             ``gluon_compress.quantization.quantize``; also with MXNET_ENGINE_TYPE=NaiveEngine, where the
                          calling thread computes: libgomp's threads sleep at every barrier once the process has more
                          of them than cores, as with the threads of MXNet's default engine
    ONNX Runtime          the ONNX file of ``gluon_compress.export.to_onnx``; int8 static, QDQ, per channel
    OpenVINO              the same file; fp32 held to fp32, int8 by NNCF's post-training quantization; one stream

Each is a process of its own. In every round each computes for a fraction of a second, in turn, so that all see the same
machine; medians and quartiles over all passes. Rows that the results file has already are not measured again.
Results: ``results/int8_speed.json`` and ``.txt``; with ``--isa`` ``int8_speed_avx2.json`` and so on. That hides
instructions from oneDNN, on which MXNet and OpenVINO compute; ONNX Runtime's own kernels cannot be told, and use all
that the processor has: its columns are no measurement of an older one.
"""
import functools
import json
import os
import subprocess
import sys
import tempfile
from contextlib import ExitStack, suppress
from itertools import product
from pathlib import Path

import click

import gluon_compress as gc  # before mxnet: see gluon_compress/runtime
import numpy as np
from gluon_compress.tables import format_table
from int8_speed_systems import SYSTEMS, THREADS, quartiles
from recording import RESULTS, cpu_name, write_result

PROCESS = Path(__file__).with_name("int8_speed_systems.py")
NETWORKS = {"resnet50": "resnet50_v1", "resnet18": "resnet18_v1", "alexnet": "alexnet",
            "mobilenet_v2": "mobilenetv2_1.0", "squeezenet": "squeezenet1.0", "vgg16": "vgg16"}
SIZE, BATCHES = 224, (1, 8, 32)
ROUNDS, SECONDS = 5, 0.3
VARIABLES = ("OMP_NUM_THREADS", "MXNET_OMP_MAX_THREADS", "DNNL_PRIMITIVE_CACHE_CAPACITY")  # that the import sets
ISA_VARIABLES = ("DNNL_MAX_CPU_ISA", "ONEDNN_MAX_CPU_ISA")  # of MXNet's oneDNN, and of OpenVINO's
ISAS = ("SSE41", "AVX2", "AVX512_CORE", "AVX512_CORE_VNNI")


def interpreter(system, runtimes):
    return runtimes if system.startswith(("ONNX", "OpenVINO")) else sys.executable


def environment(system, isa=None):
    """Two threads for all, but nothing at all for MXNet as installed; MXNet's naive engine where it is asked for."""
    clean = {key: value for key, value in os.environ.items() if key not in (*VARIABLES, *ISA_VARIABLES)}
    clean.update(dict.fromkeys(ISA_VARIABLES, isa) if isa else {})
    if system.startswith("MXNet as installed"):
        return clean
    engine = {"MXNET_ENGINE_TYPE": "NaiveEngine"} if system.endswith("naive engine") else {}
    return {**clean, "OMP_NUM_THREADS": str(THREADS), **engine}


class System:
    """A process that computes when it is asked to, and waits otherwise."""

    def __init__(self, name, folder, runtimes, isa=None, script=PROCESS):
        self.log = open(folder / f"{name}.log", "w")
        self.process = subprocess.Popen([interpreter(name, runtimes), "-W", "ignore", script, name, folder], text=True,
                                        stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=self.log,
                                        env=environment(name, isa))

    def __enter__(self):
        return self

    def __exit__(self, *_):
        with suppress(BrokenPipeError):
            self.process.stdin.close()
        self.process.wait()
        self.log.close()

    def compute(self, batch, seconds):
        """({milliseconds of each pass}, outputs of the first image)."""
        with suppress(BrokenPipeError):  # it has ended: no answer
            self.process.stdin.write(f"{batch} {seconds}\n")
            self.process.stdin.flush()
        line = self.process.stdout.readline()
        if not line:
            raise click.ClickException(f"the process ended; the end of {self.log.name}:\n"
                                       f"{Path(self.log.name).read_text()[-2000:]}")
        answer = json.loads(line)
        return answer["ms"], np.array(answer["outputs"])


def measure(systems, batch):
    """{system: median, quartiles, images per second, difference from fp32 as a share of its deviation}."""
    outputs = {name: system.compute(batch, 0)[1] for name, system in systems.items()}
    times = {name: [] for name in systems}
    for _ in range(ROUNDS):
        for name, system in systems.items():
            times[name] += system.compute(batch, SECONDS)[0]
    expected = outputs["MXNet fp32"]
    result = {}
    for name, milliseconds in times.items():
        error = float(np.sqrt(np.mean((outputs[name] - expected) ** 2)) / expected.std())
        result[name] = {**quartiles(milliseconds), "error": error}
        result[name]["images_per_second"] = 1e3 * batch / result[name]["median_ms"]
    return result


def measure_network(name, batches, runtimes, work, save, isa=None):
    folder = Path(work) / name
    folder.mkdir(parents=True, exist_ok=True)
    if not (folder / "zoo_name").exists():
        subprocess.run([sys.executable, "-W", "ignore", PROCESS, "prepare", NETWORKS[name], str(SIZE), folder],
                       check=True, stdout=subprocess.DEVNULL)
    with ExitStack() as stack:
        systems = {system: stack.enter_context(System(system, folder, runtimes, isa)) for system in SYSTEMS
                   if interpreter(system, runtimes)}
        for batch in batches:
            row = measure(systems, batch)
            save(batch, row)
            click.echo(f"{name}, batch {batch}: " + ", ".join(
                f"{system} {entry['images_per_second']:.1f}" for system, entry in row.items()) + " img/s")


def table(rows):
    """Images per second, then ours by each of the others."""
    def speed(row, system):
        return f"{row[system]['images_per_second']:.1f}" if system in row else "-"

    def ratio(row, system):
        both = system in row and "ours int8" in row
        return f"{row[system]['median_ms'] / row['ours int8']['median_ms']:.2f}x" if both else "-"
    keys = [f"{name}, batch {batch}" for name, batch in product(NETWORKS, BATCHES)]
    found = [(key, rows[key]) for key in keys if key in rows]
    others = [system for system in SYSTEMS if system != "ours int8"]
    return (format_table(("img/s", *SYSTEMS), [(key, *(speed(row, system) for system in SYSTEMS))
                                              for key, row in found])
            + "\n\n" + format_table(("ours int8, times as fast as", *others),
                                    [(key, *(ratio(row, system) for system in others)) for key, row in found]) + "\n")


def versions(runtimes, names=("onnxruntime", "openvino", "nncf")):
    found = {"mxnet": gc.runtime.status().mxnet}
    if runtimes:
        code = f"from importlib.metadata import version; print(*(version(name) for name in {names}))"
        answer = subprocess.run([runtimes, "-c", code], check=True, capture_output=True, text=True).stdout
        found.update(zip(names, answer.split()))
    return found


def write_tables(file, result):
    conditions = result["conditions"]
    capped = f", oneDNN limited to {conditions['isa']}" if conditions.get("isa") else ""
    text = (f"{table(result['rows'])}\n({conditions['cpu']}{capped}, {conditions['cores']} cores, {THREADS} threads, "
            f"{SIZE}x{SIZE}, random weights; medians of passes in turn.\n"
            f"{', '.join(f'{name} {version}' for name, version in conditions['versions'].items())})\n")
    if any(len(row) < len(SYSTEMS) for row in result["rows"].values()):
        text += "Columns with - were not measured: no --runtimes PYTHON with ONNX Runtime and OpenVINO was given.\n"
    write_result(file, result, text)
    return text


def engine_options(names, batches):
    """The options of a script that measures these networks, in batches of these sizes, in other engines, too."""
    options = [
        click.option("--runtimes", metavar="PYTHON", help="An interpreter with onnxruntime, openvino, nncf."),
        click.option("--only", type=click.Choice(sorted(names)), multiple=True, help="These networks."),
        click.option("--batch", "batches", type=click.IntRange(1, max(batches)), multiple=True, default=batches,
                     show_default=True),
        click.option("--again", is_flag=True, help="Measure again what is there.")]
    return lambda function: functools.reduce(lambda made, option: option(made), reversed(options), function)


@click.command(help=__doc__.split("\n")[0])
@engine_options(NETWORKS, BATCHES)
@click.option("--isa", type=click.Choice(ISAS), help="Hide newer instructions than these from oneDNN.")
@click.option("--work", type=click.Path(file_okay=False), help="Keep the files of the networks here.")
def main(runtimes, only, batches, again, isa, work):
    file = RESULTS / (f"int8_speed_{isa.lower()}.json" if isa else "int8_speed.json")
    result = json.loads(file.read_text()) if file.exists() else {"rows": {}}
    result["conditions"] = {"cpu": cpu_name(), "cores": gc.runtime.status().cores, "threads": THREADS,
                            "isa": isa,
                            "versions": {**result.get("conditions", {}).get("versions", {}), **versions(runtimes)}}
    with tempfile.TemporaryDirectory() as temporary:
        for name in only or NETWORKS:
            missing = [batch for batch in batches if again or f"{name}, batch {batch}" not in result["rows"]]

            def save(batch, row, name=name):
                result["rows"][f"{name}, batch {batch}"] = row
                write_tables(file, result)
            if missing:
                measure_network(name, missing, runtimes, work or temporary, save, isa)
    click.echo(f"{write_tables(file, result)}Made: {file} and {file.with_suffix('.txt').name}")


if __name__ == "__main__":
    main()
