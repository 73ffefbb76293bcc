"""Networks without training and without labels: bytes and accuracy of ours, rounded by rate, beside nncodec's.

    python3 -m venv /tmp/coders && /tmp/coders/bin/pip install nncodec==2.1.3       # is built from source
    python benchmarks/rate.py --others /tmp/coders/bin/python --only lenet_mnist    # without --only all: two hours
    python benchmarks/rate.py --draws --only lenet_mnist     # other calibration images, the network on integers
    python benchmarks/rate.py --table-only

Ours: ``quantize_weights(net, rate=, calibration_data=)`` at each of RATES, from CALIBRATION training images, changed as
in training, without their labels, saved and loaded. nncodec: ``encode`` and ``decode`` of the network's parameters at
each of STEPS (``qp``), all other settings its defaults. Bytes are those of the whole file; ours holds the graph too.

What is chosen of each: the smallest file that loses at most ALLOWED on HELD_OUT other training images, changed as in
training, and so do all larger files. Test images choose nothing. (The networks were trained on all training images;
there are no others.) Two rules say what is lost. *Without labels*: where the file names another class than the
original, the probability that the original gives its own class, less the one it gives the other; the mean of that over
all images is the accuracy that the original would expect to lose. *By labels*: the accuracy itself, where 0.1 points
are five images, and an image that the original has learned by heart counts against any change. Seconds are processor
time, the least of three calls, under load.

``--draws`` rounds again at the rate that was chosen without labels, with other DRAWS of calibration images and random
directions, which tells how much chance there is in it, and with the first ones on integers: the int8 network of
``quantize(rate=)``, whose file it is.

A point that is measured stands in ``results/rate/<network>.json`` at once, so that a killed run goes on;
``results/rate.txt`` is the table, ``rate.png`` the curves, by ``rate_figure.py``.
"""
from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import click

import gluon_compress as gc  # before mxnet: see gluon_compress/runtime
import mxnet as mx
import numpy as np
from gluon_compress.checkpoint import packed_file
from gluon_compress.datasets import compose, cutout, random_crop, random_flip
from gluon_compress.network.values import parameters
from gluon_compress.quantization import RateRounding
from gluon_compress.tables import format_table
from rate_figure import draw
from rate_points import ALLOWED, CALIBRATION, FIRST, FOLDER, HELD_OUT, NNCODEC, OURS, RULES, SEED, Measurement
from recording import RESULTS, write_json, write_text

OTHERS = Path(__file__).with_name("rate_nncodec.py")
NETWORKS = {"lenet_300_100_mnist": "LeNet-300-100", "lenet5_caffe_mnist": "LeNet-5 Caffe", "lenet_mnist": "LeNet",
            "simple_cnn_mnist": "SimpleCNN", "alexnet_cifar10": "AlexNet, CIFAR-10",
            "resnet18_cifar10": "ResNet-18, CIFAR-10"}
RATES = {"cifar10": (0.002, 0.0014, 0.0017, 0.0019, 0.0018, 0.0032, 0.0026, 0.005, 0.01, 0.0008, 0.02, 0.0023, 0.0021,
                     0.04, 0.0004),
         "mnist": (0.005, 0.002, 0.01, 0.02, 0.001, 0.04, 0.0004, 0.1, 0.0032, 0.007, 0.06, 0.2, 0.00015, 0.012, 0.014,
                   0.017, 0.025, 0.03, 0.05, 0.08, 0.13, 0.16)}
STEPS = {"cifar10": (-24, -28, -20, -26, -22, -18, -30, -16, -32, -34, -38),
         "mnist": (-24, -28, -20, -26, -22, -18, -30, -16)}
CIFAR = compose(random_crop(4), random_flip, cutout(8))  # what each was trained with, as params/train.py says
AUGMENTATIONS = {"lenet_300_100_mnist": random_crop(1), "lenet5_caffe_mnist": random_crop(2),
                 "lenet_mnist": random_crop(2), "simple_cnn_mnist": random_crop(1), "alexnet_cifar10": CIFAR,
                 "resnet18_cifar10": CIFAR}
DRAWS, REPEATS = (1, 2), 3


class Images:
    """What a network is calibrated with, what chooses, and what judges."""

    def __init__(self, name: str, draw: int = 0) -> None:
        """Other draws calibrate with other images, of those that are not held out."""
        size = gc.params.manifest()[name]["input_shape"][-1]
        train, self.test = gc.datasets.mnist() if "mnist" in name else gc.datasets.cifar10()
        self.resized = {} if size in (28, 32) else {"size": size}
        order = np.random.default_rng(SEED).permutation(len(train))
        held_out = np.s_[FIRST:FIRST + HELD_OUT[name.rpartition("_")[2]]]
        others = np.delete(order, held_out)
        self.held_out = train.subset(np.sort(order[held_out]))
        self.for_calibration = train.subset(np.sort(others[CALIBRATION * draw:CALIBRATION * (draw + 1)]))
        self.augment = AUGMENTATIONS[name]
        self.original: np.ndarray | None = None  # probabilities of the first network that is judged

    @property
    def calibration(self) -> Any:
        """Batches of them, the same at each time."""
        return list(self._moved(self.for_calibration, 50))

    def _moved(self, images: Any, size: int) -> Any:
        """Batches of images, each time moved in the same way, if they are gone through at once."""
        np.random.seed(SEED)
        mx.random.seed(SEED)
        return images.batches(size, augment=self.augment, **self.resized)

    def accuracies(self, net: Any) -> dict[str, float]:
        probabilities, labels = self.answers(net)
        if self.original is None:
            self.original = probabilities
        images, before, now = np.arange(len(labels)), self.original.argmax(axis=1), probabilities.argmax(axis=1)
        return {"held-out accuracy": float((now == labels).mean()),
                "held-out expected loss": float((self.original[images, before] - self.original[images, now]).mean()),
                "test accuracy": gc.training.evaluate(net, self.test.batches(100, **self.resized))}

    def answers(self, net: Any) -> tuple[np.ndarray, np.ndarray]:
        """(probabilities, labels) of the held-out images."""
        net.hybridize(static_alloc=True, static_shape=True)
        batches = self._moved(self.held_out, 100)
        found = [(mx.nd.softmax(net(inputs)).asnumpy(), labels.asnumpy()) for inputs, labels in batches]
        probabilities, labels = (np.concatenate(parts) for parts in zip(*found))
        return probabilities, labels


def by_ours(name: str, images: Images, left: list[float]) -> Iterator[dict[str, Any]]:
    net = gc.params.load(name)
    begin = time.process_time()
    rounding = RateRounding(net, images.calibration, progress=False)
    prepared = time.process_time() - begin
    example = next(iter(images.test.batches(1, **images.resized)))[0]
    for rate in left:
        begin = time.process_time()
        scales = rounding.round(rate)
        rounded = time.process_time() - begin
        with tempfile.TemporaryDirectory() as folder:
            path = Path(folder, "net.gcz")
            size = gc.save(path, net, scales, example=example)
            (tensors, header), reading = measured(packed_file.read, path, packed_file.NAME)
            _, writing = measured(packed_file.packed, tensors, header)
            yield {"coder": OURS, "setting": rate, "bytes": size, "encoding": writing, "decoding": reading,
                   "calibrating": prepared, "rounding": rounded, **images.accuracies(gc.load(path))}


def draws(name: str) -> None:
    """The chosen file of other draws, and of the network on integers."""
    measurement = Measurement(name)
    chosen = measurement.chosen(OURS)
    if chosen is None:
        raise click.ClickException(f"{name}: no file of ours loses as little as is allowed")
    rate, found = chosen["setting"], []
    for number in DRAWS:
        images, net = Images(name, number), gc.params.load(name)
        images.accuracies(net)
        scales = RateRounding(net, images.calibration, seed=number, progress=False).round(rate)
        found.append({"draw": number, **of_file(net, scales, images)})
    images = Images(name)
    integers = gc.quantization.quantize(gc.params.load(name), images.calibration, rate=rate, progress=False)
    images.accuracies(gc.params.load(name))
    found.append({"draw": "integers", **of_file(integers, None, images)})
    measurement.read()
    measurement.found["draws"] = {"rate": rate, "points": found}
    write_json(measurement.path, measurement.found)


def of_file(net: Any, scales: Any, images: Images) -> dict[str, Any]:
    """Size and accuracies of a network once it is saved and loaded."""
    example = next(iter(images.test.batches(1, **images.resized)))[0]
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, "net.gcz")
        size = gc.save(path, net, scales, example=example) if scales else gc.save(path, net)
        return {"bytes": size, **images.accuracies(gc.load(path))}


def by_nncodec(name: str, images: Images, left: list[float], python: str) -> Iterator[dict[str, Any]]:
    net = gc.params.load(name)
    own = parameters(net)
    with tempfile.TemporaryDirectory() as folder:
        given, back = Path(folder, "given.npz"), Path(folder, "back.npz")
        np.savez(given, **{key: parameter.data().asnumpy() for key, parameter in own.items()})
        command = [python, str(OTHERS), str(given), str(back), *map(str, left)]
        with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL,
                              text=True, bufsize=1, cwd=folder) as process:
            for said in process.stdout or ():
                with np.load(back) as arrays:
                    gc.network.restore_snapshot(net, {key: arrays[key].reshape(own[key].shape) for key in own})
                print(file=process.stdin, flush=True)
                yield {"coder": NNCODEC, **json.loads(said), **images.accuracies(net)}
        if process.returncode:
            raise click.ClickException(f"{' '.join(command)} ended with {process.returncode}")


def measured(function: Callable[..., Any], *arguments: Any) -> tuple[Any, float]:
    """What the function returns, and the least processor time that it takes."""
    seconds = []
    for _ in range(REPEATS):
        begin = time.process_time()
        result = function(*arguments)
        seconds.append(time.process_time() - begin)
    return result, min(seconds)


def measure(name: str, python: str, coders: tuple[str, ...]) -> None:
    """All points of these coders that are not there yet."""
    measurement, images = Measurement(name), Images(name)
    net, dataset = gc.params.load(name), name.rpartition("_")[2]
    weights = sum(parameter.data().size for parameter in parameters(net).values())
    original = {"bytes": os.path.getsize(gc.params.path(name)), "weights": weights, **images.accuracies(net)}
    measurement.read()
    measurement.found["original"] = original
    write_json(measurement.path, measurement.found)
    ours, theirs = ([each for each in settings if coder in coders and not measurement.has(coder, each)]
                    for coder, settings in ((OURS, RATES[dataset]), (NNCODEC, STEPS[dataset])))
    points_of_both = (by_ours(name, images, ours) if ours else (),
                      by_nncodec(name, images, theirs, python) if theirs else ())
    for points in points_of_both:
        for point in points:
            measurement.add(point)
            click.echo(f"{name} {point['coder']} {point['setting']}: {point['bytes']:,} bytes, "
                       f"{point['held-out accuracy']:.4f} held out, {point['test accuracy']:.4f} test")


# ---- what is shown

def table(measurements: list[Measurement], rule: str) -> str:
    rows = []
    for measurement in measurements:
        original, ours = measurement.found["original"], measurement.chosen(OURS, rule)
        theirs = measurement.chosen(NNCODEC, rule)
        less = f"{100 * (1 - ours['bytes'] / theirs['bytes']):.0f} %" if ours and theirs else ""
        rows.append((NETWORKS[measurement.name], f"{original['bytes']:,}", f"{100 * original['test accuracy']:.2f}",
                     *_cells(theirs, original, "qp {}"), *_cells(ours, original, "rate {}"), less))
    heads = ("network", ".params", "test %", "nncodec", "bytes", "times", "test %", "ours", "bytes", "times", "test %",
             "less than nncodec")
    return format_table(heads, rows)


def _cells(point: dict[str, Any] | None, original: dict[str, Any], setting: str) -> tuple[str, str, str, str]:
    if point is None:
        return "none", "", "", ""
    return (setting.format(point["setting"]), f"{point['bytes']:,}", f"{original['bytes'] / point['bytes']:.1f}",
            f"{100 * point['test accuracy']:.2f}")


def spread(measurements: list[Measurement]) -> str:
    """What chance there is in the calibration, and the same rate on integers."""
    rows = []
    for measurement in measurements:
        drawn, chosen = measurement.found.get("draws"), measurement.chosen(OURS)
        if drawn and chosen and drawn["rate"] == chosen["setting"]:
            *others, integers = drawn["points"]
            sizes, accuracies = ([each[key] for each in (chosen, *others)] for key in ("bytes", "test accuracy"))
            rows.append((NETWORKS[measurement.name], chosen["setting"], f"{np.mean(sizes):,.0f}",
                         f"{min(sizes):,} to {max(sizes):,}", f"{100 * np.mean(accuracies):.2f}",
                         f"{100 * min(accuracies):.2f} to {100 * max(accuracies):.2f}", f"{integers['bytes']:,}",
                         f"{100 * integers['test accuracy']:.2f}"))
    return format_table(("network", "rate", "bytes", "lowest to highest", "test %", "lowest to highest",
                         "on integers: bytes", "test %"), rows)


def speeds(measurements: list[Measurement]) -> str:
    """Of what was chosen, in MB of fp32 in a second."""
    rows = []
    for measurement in measurements:
        size = 4e-6 * measurement.found["original"]["weights"]
        found = [measurement.chosen(coder) for coder in (OURS, NNCODEC)]
        if found[0] is not None:
            rows.append((NETWORKS[measurement.name], *(f"{size / point[way]:.0f}" if point else "" for way in (
                "encoding", "decoding") for point in found),
                         *(f"{found[0][step]:.0f}" for step in ("calibrating", "rounding"))))
    heads = ("network", "encoding: ours", "nncodec", "decoding: ours", "nncodec", "gradients, s", "rounding, s")
    return format_table(heads, rows)


def curves(measurements: list[Measurement]) -> str:
    rows = []
    for measurement in measurements:
        for coder in (OURS, NNCODEC):
            for point in measurement.points(coder):
                marks = ", ".join(said for rule, said in RULES.items() if point == measurement.chosen(coder, rule))
                rows.append((NETWORKS[measurement.name], coder, point["setting"], f"{point['bytes']:,}",
                             f"{measurement.found['original']['bytes'] / point['bytes']:.1f}",
                             f"{100 * point['held-out expected loss']:.3f}", f"{100 * point['held-out accuracy']:.2f}",
                             f"{100 * point['test accuracy']:.2f}", marks))
    heads = ("network", "coder", "rate, qp", "bytes", "times", "expected loss", "held-out %", "test %", "chosen")
    return format_table(heads, rows)


@click.command(help=__doc__.split("\n")[0])
@click.option("--others", default=sys.executable, help="A Python with nncodec.")
@click.option("--only", multiple=True, type=click.Choice(list(NETWORKS)), help="These networks.")
@click.option("--coder", multiple=True, type=click.Choice([OURS, NNCODEC]), help="This one.")
@click.option("--draws", "drawing", is_flag=True, help="Other draws of calibration images at the chosen rates.")
@click.option("--table-only", is_flag=True, help="Write tables and picture of what is measured.")
def main(others: str, only: tuple[str, ...], coder: tuple[str, ...], drawing: bool, table_only: bool) -> None:
    for name in () if table_only else only or NETWORKS:
        if drawing:
            draws(name)
        else:
            measure(name, others, coder or (OURS, NNCODEC))
    measurements = [Measurement(name) for name in NETWORKS if (FOLDER / f"{name}.json").exists()]
    tables = "\n\n".join(f"Chosen {said}:\n\n{table(measurements, rule)}" for rule, said in RULES.items())
    text = (f"{tables}\n\n(loss allowed on held-out training images: {100 * ALLOWED:.1f} "
            f"points; times: smaller than .params)\n\nThree draws of calibration images:\n\n{spread(measurements)}\n\n"
            f"{speeds(measurements)}\n\n(MB of fp32 a second of processor time)"
            f"\n\n{curves(measurements)}\n\n(expected loss, in points: see rate.py)")
    write_text(RESULTS / "rate.txt", text)
    draw(measurements, NETWORKS, RESULTS / "rate.png")
    click.echo(text)


if __name__ == "__main__":
    main()
