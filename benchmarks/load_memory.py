"""Peak memory of loading compressed networks: how many times the network, for each kind of file.

    python benchmarks/load_memory.py

Gluon's ResNet-50 and VGG-16 with random weights, saved as they are, with masks, and with codes of 8 and 4 bits;
ResNet-50 on integers too. Each file is loaded in a process of its own: the largest resident size that Linux reports
while ``gc.load`` runs, less the size before, beside the bytes of the network's parameters in fp32. A network into
which a file is loaded was initialized before. The table is ``results/load_memory.txt``.
"""
import subprocess
import sys
import tempfile
from pathlib import Path

import click

import gluon_compress as gc  # before mxnet: see gluon_compress/runtime
import mxnet as mx
import recording
from gluon_compress.tables import format_table
from mxnet.gluon.model_zoo import vision

RESULTS = recording.RESULTS / "load_memory.json"
FILES = ("as it is", "masks", "8 bits", "masks, 4 bits", "int8")
WAYS = ("without a network", "into a network")
MEBIBYTE = 2 ** 20


def network(model):
    net = vision.get_model(model)
    net.initialize(mx.init.MSRAPrelu())
    net(mx.nd.zeros((1, 3, 224, 224)))
    return net


def save(model, path, what):
    """Write a file of this kind; return the bytes of the network's parameters."""
    net = network(model)
    if what == "int8":
        gc.save(path, gc.quantization.quantize(net, [mx.nd.random.uniform(shape=(2, 3, 224, 224))], progress=False))
    else:
        records = [gc.pruning.prune_magnitude(net, 0.5)] if "masks" in what else []
        records += [gc.quantization.quantize_weights(net, bits=int(what.split()[-2]))] if "bits" in what else []
        gc.save(path, net, *records)
    return sum(parameter.data().size * 4 for parameter in net.collect_params().values())


def peak_of_loading(model, path, way):
    """Bytes that this process grows by at most while it loads."""
    net = network(model) if way == "into a network" else None
    mx.nd.waitall()
    before = status("VmRSS")
    Path("/proc/self/clear_refs").write_text("5")  # the peak begins anew
    net = gc.load(path, net)
    mx.nd.waitall()
    return status("VmHWM") - before


def status(name):
    """A number of bytes that Linux knows of this process."""
    return int(Path("/proc/self/status").read_text().partition(f"{name}:")[2].split()[0]) << 10


def in_process(*arguments):
    """What this script prints for a task, in a process of its own."""
    command = [sys.executable, "-W", "ignore", __file__, *map(str, arguments)]
    return int(subprocess.run(command, check=True, capture_output=True, text=True).stdout)


def measure(model, what, folder):
    """A row of the result."""
    path = folder / "net.gcz"
    size = in_process("--save", model, what, path)
    row = {"network": model, "file": what, "parameters": size, "file bytes": path.stat().st_size}
    for way in WAYS if what != "int8" else WAYS[:1]:
        row[way] = in_process("--load", model, way, path)
    return row


def table(rows):
    lines = [[row["network"], row["file"], *(f"{row[name] / MEBIBYTE:.0f}" for name in ("parameters", "file bytes")),
              *(f"{row[way] / MEBIBYTE:.0f} ({row[way] / row['parameters']:.2f}x)" if way in row else "-"
                for way in WAYS)] for row in rows]
    return format_table(["network", "file", "parameters, MiB", "file, MiB", *WAYS], lines)


@click.command()
@click.option("--save", "to_save", nargs=3, hidden=True)
@click.option("--load", "to_load", nargs=3, hidden=True)
def main(to_save, to_load):
    """Measure what gc.load takes for each network and file."""
    if to_save:
        model, what, path = to_save
        return click.echo(save(model, path, what))
    if to_load:
        model, way, path = to_load
        return click.echo(peak_of_loading(model, path, way))
    with tempfile.TemporaryDirectory() as folder:
        rows = [measure(model, what, Path(folder)) for model in ("resnet50_v1", "vgg16") for what in FILES
                if (model, what) != ("vgg16", "int8")]
    click.echo(table(rows))
    content = {"rows": rows, "machine": recording.describe_machine()}
    recording.write_result(RESULTS, content, table(rows))


if __name__ == "__main__":
    main()
