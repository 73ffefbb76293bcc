"""Peak memory of fp32 and int8 inference, and of quantizing, with ResNet-50.

    python benchmarks/int8_memory.py

Each in a process of its own: the largest resident size that Linux reports for it, beside that of a process that has
only imported MXNet. Batches of 8 images of 224x224; calibration with 32 images, which stay in memory meanwhile. The
table is ``results/int8_memory.txt``.
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

RESULTS = recording.RESULTS / "int8_memory.json"
SHAPE, PASSES, CALIBRATION_BATCHES = (8, 3, 224, 224), 5, 4
TASKS = ("import alone", "fp32 inference", "int8 inference", "quantizing")
MEBIBYTE = 2 ** 20


def network():
    net = vision.resnet50_v1()
    net.initialize(mx.init.MSRAPrelu())
    net(mx.nd.zeros((1, *SHAPE[1:])))
    return net


def images():
    return mx.nd.random.uniform(shape=SHAPE)


def work(task, folder):
    """What one of the processes does."""
    if task == "fp32 inference":
        net = network()
        net.load_parameters(str(folder / "net.params"))
        net.hybridize(static_alloc=True, static_shape=True)
    elif task == "int8 inference":
        net = gc.load(folder / "net.gcz")
    elif task == "quantizing":
        net = network()
        net.load_parameters(str(folder / "net.params"))
        gc.quantization.quantize(net, [images() for _ in range(CALIBRATION_BATCHES)], progress=False)
    if task.endswith("inference"):
        for _ in range(PASSES):
            net(images()).wait_to_read()


def peak(task, folder):
    """Bytes of the largest resident size of a process that does it."""
    command = [sys.executable, "-W", "ignore", __file__, "--task", task, "--folder", str(folder)]
    output = subprocess.run(command, check=True, capture_output=True, text=True).stdout
    return int(output.splitlines()[-1])


def peak_of_this_process():
    """Bytes; not getrusage's, which a process inherits from the one that started it."""
    line = next(line for line in Path("/proc/self/status").read_text().splitlines() if line.startswith("VmHWM"))
    return int(line.split()[1]) * 1024


@click.command(help=__doc__.split("\n")[0])
@click.option("--task", type=click.Choice(TASKS), hidden=True)
@click.option("--folder", type=click.Path(path_type=Path), hidden=True)
def main(task, folder):
    if task:
        work(task, folder)
        click.echo(peak_of_this_process())
        return
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        net = network()
        net.save_parameters(str(folder / "net.params"))
        gc.save(folder / "net.gcz", gc.quantization.quantize(net, [images()], method="minmax", progress=False))
        peaks = {task: peak(task, folder) for task in TASKS}
    text = format_table(("ResNet-50, batch 8", "peak MiB", "above the import"), [
        (task, f"{peaks[task] / MEBIBYTE:.0f}", f"{(peaks[task] - peaks['import alone']) / MEBIBYTE:.0f}")
        for task in TASKS]) + f"\n(largest resident size, {gc.runtime.status().threads} threads)\n"
    file = recording.write_result(RESULTS, peaks, text)
    click.echo(f"{text}Made: {RESULTS}, {file}")


if __name__ == "__main__":
    main()
