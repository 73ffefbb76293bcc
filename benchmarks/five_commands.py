"""The README's five commands on CIFAR-10 as people have it: PNG files in a folder per class, and a checkpoint.

    python benchmarks/five_commands.py          # some ten minutes of two cores

The folder ``images`` has the training images of CIFAR-10, the folder ``test`` all 10,000 test images, which choose
nothing; the checkpoint is MXNet's own export of the shipped ResNet-18. Each command is a process of its own; what is
measured is the processor time of all its threads, MXNet's import and the reading of the files included, and the wall
time, which says little where others compute on the machine.
"""
import json
import os
import re
import resource
import shlex
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import click

import gluon_compress as gc  # before mxnet: see gluon_compress/runtime
import recording
from gluon_compress.tables import format_table
from PIL import Image

ROOT = Path(__file__).resolve().parent.parent
NAMES = ("airplane", "automobile", "bird", "cat", "deer", "dog", "frog", "horse", "ship", "truck")
NETWORK = "resnet18_cifar10"


def commands_of_readme():
    """The five commands, a line each, as lists of words."""
    text = (ROOT / "README.md").read_text()
    block = next(block for block in re.findall(r"```\n(.*?)```", text, re.DOTALL) if "gluon-compress prune" in block)
    lines = block.replace("\\\n", " ").splitlines()
    return [shlex.split(line) for line in lines if line.startswith("gluon-compress ")]


def write_images(folder, dataset):
    for number, (image, label) in enumerate(zip(dataset.images, dataset.labels, strict=True)):
        file = folder / NAMES[label] / f"{number:05d}.png"
        file.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(image).save(file)


def prepare(folder, photos, tests):
    """What the user has: two folders of images, and the files of a network."""
    train, test = gc.datasets.cifar10()
    write_images(folder / "images", train.subset(slice(0, photos)))
    write_images(folder / "test", test.subset(slice(0, tests)))
    net = gc.params.load(NETWORK)
    net.hybridize()
    net(next(iter(test.batches(2)))[0])
    net.export(str(folder / "model"))


def run(words, folder):
    """What a command printed with ``--json``, and its (processor, wall) time in seconds."""
    started, before = time.perf_counter(), resource.getrusage(resource.RUSAGE_CHILDREN)
    done = subprocess.run([sys.executable, "-m", "gluon_compress", *words[1:], "--json"], cwd=folder, text=True,
                          capture_output=True, env={**os.environ, "PYTHONPATH": str(ROOT)})
    if done.returncode:
        raise click.ClickException(f"{shlex.join(words)}\n{done.stderr}")
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    processor = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
    return json.loads(done.stdout), (processor, time.perf_counter() - started)


@click.command(help=__doc__.split("\n")[0])
@click.option("--images", "photos", default=50_000, show_default=True, help="Training images.")
@click.option("--tests", default=10_000, show_default=True, help="Test images.")
def main(photos, tests):
    machine, commands = recording.describe_machine(), commands_of_readme()
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        prepare(folder, photos, tests)
        results = [run(words, folder) for words in commands]
        sizes = {file.name: file.stat().st_size for file in sorted(folder.iterdir()) if file.is_file()}
    printed, times = zip(*results)
    accuracies = {result["network"]: result["accuracy"] for result in printed[-1]["results"]}
    content = {"commands": [shlex.join(words) for words in commands], "bytes": sizes,
               "processor seconds": [processor for processor, _ in times], "wall seconds": [wall for _, wall in times],
               "test accuracy": accuracies, "macs": {when: printed[0][when]["macs"] for when in ("before", "after")},
               "photos": photos, "tests": tests, "machine": machine}
    text = table(content)
    click.echo(f"{text}\nMade: {recording.write_result(recording.RESULTS / 'five_commands.json', content, text)}")


def table(content):
    times = zip(content["processor seconds"], content["wall seconds"], content["commands"])
    steps = [(f"{processor:.0f} s", f"{wall:.0f} s", command) for processor, wall, command in times]
    sizes = {**content["bytes"], "model": content["bytes"]["model-0000.params"]}
    accuracies = content["test accuracy"]
    rows = [(name, f"{100 * accuracy:.2f} %", f"{sizes[name]:,}") for name, accuracy in accuracies.items()]
    macs = content["macs"]
    return "\n\n".join([
        format_table(("processor", "wall", "command"), steps),
        format_table(("network", "test accuracy", "bytes"), rows),
        f"MACs per image: {macs['before']:,} -> {macs['after']:,}; report.html: {sizes['report.html']:,} bytes\n"
        f"({NETWORK}, {content['photos']:,} PNG files to train on, {content['tests']:,} to test on; "
        f"{content['machine']['cpu']}, {content['machine']['cores']} cores, load "
        f"before {content['machine']['load before']})"])


if __name__ == "__main__":
    main()
