"""Accuracy of the shipped networks on integers, and with fewer bits.

    python benchmarks/int8_accuracy.py                # some minutes on two cores; resumable
    python benchmarks/int8_accuracy.py --only resnet18_cifar10

Eight bits after training on the integer kernels: means over three draws of calibration images. Beside it the
agreement with the fp32 network, image by image, and what the article's formula does to the same network. Then weights
alone, and weights and activations (simulated), in 8 to 2 bits. All test images; none of them chose anything.
Each measurement goes into ``results/int8_accuracy.json``, the tables into ``.txt``.
"""
import json
from pathlib import Path

import click

import gluon_compress as gc  # before mxnet: see gluon_compress/runtime.py
import mxnet as mx
import numpy as np
from gluon_compress.download import write_atomically
from gluon_compress.network import parameters
from gluon_compress.tables import format_table
from tqdm import tqdm

RESULTS = Path(__file__).resolve().parent / "results" / "int8_accuracy.json"
NETWORKS = ("lenet_mnist", "alexnet_cifar10", "resnet18_cifar10")
DRAWS, CALIBRATION_IMAGES, BATCH = 3, 512, 100
METHOD = "entropy"  # quantize's default
BITS = (8, 6, 5, 4, 3, 2)


def load(name):
    """``(net, training images, test batches)``, ready to run."""
    size = gc.params.manifest()[name]["input_shape"][-1]
    train, test = gc.datasets.mnist() if "mnist" in name else gc.datasets.cifar10()
    net = gc.params.load(name)
    net.hybridize(static_alloc=True, static_shape=True)
    resized = {} if size in (28, 32) else {"size": size}
    return net, lambda images: train.subset(images).batches(64, **resized), test.batches(BATCH, **resized)


def classes(net, test):
    return np.concatenate([net(images).asnumpy().argmax(axis=1) for images, _ in test])


def labels(test):
    return np.concatenate([label.asnumpy() for _, label in test])


def article_quantization(net, num_bits=8):
    """The first article's formula, which forgets the scale."""
    for parameter in parameters(net).values():
        value = parameter.data()
        levels = 2 ** num_bits - 1
        parameter.set_data(mx.nd.round(value * (levels / mx.nd.max(mx.nd.abs(value)))) / levels)


def measure(name, what, draw=0, bits=8):
    """``{"accuracy", "agreement"}`` of one variant of a shipped network."""
    net, batches, test = load(name)
    truth, fp32 = labels(test), classes(net, test)
    if what in ("int8", "full"):
        images = np.random.default_rng(draw).choice(50000, CALIBRATION_IMAGES, replace=False)
        net = gc.quantization.quantize(net, batches(np.sort(images)), method=METHOD, bits=bits,
                                       simulate=what == "full", progress=False)
    elif what == "weights":
        gc.quantization.fold_batch_norm(net, next(iter(test))[0])
        gc.quantization.quantize_weights(net, bits)
    elif what == "article":
        article_quantization(net)
    found = classes(net, test)
    return {"accuracy": float((found == truth).mean()), "agreement": float((found == fp32).mean())}


def jobs(name):
    """{key: arguments of measure} of all measurements of a network."""
    found = {f"{name} fp32": (name, "fp32"), f"{name} article": (name, "article")}
    found.update({f"{name} int8 draw {draw}": (name, "int8", draw) for draw in range(DRAWS)})
    for what in ("weights", "full"):
        found.update({f"{name} {what} {bits} bits": (name, what, 0, bits) for bits in BITS})
    return found


def tables(results):
    eight, fewer = [], []
    for name in NETWORKS:
        if any(key not in results for key in jobs(name)):
            continue
        draws = [results[f"{name} int8 draw {draw}"] for draw in range(DRAWS)]
        accuracies = [100 * row["accuracy"] for row in draws]
        fp32 = 100 * results[f"{name} fp32"]["accuracy"]
        eight.append((name, f"{fp32:.2f} %", f"{np.mean(accuracies):.2f} % ({min(accuracies):.2f} to "
                      f"{max(accuracies):.2f})", f"{np.mean(accuracies) - fp32:+.2f}",
                      f"{100 * np.mean([row['agreement'] for row in draws]):.2f} %",
                      f"{100 * results[f'{name} article']['accuracy']:.2f} %"))
        for what, title in (("weights", "weights alone"), ("full", "weights and activations")):
            fewer.append((name, title, *(f"{100 * results[f'{name} {what} {bits} bits']['accuracy']:.2f}"
                                         for bits in BITS)))
    return "\n".join((
        format_table(("network", "fp32", "int8", "points", "agreement with fp32", "article's formula"), eight),
        f"(integer kernels, method={METHOD!r}; mean, lowest and highest of {DRAWS} draws of {CALIBRATION_IMAGES} "
        f"training images; 10,000 test images)", "",
        format_table(("network", "test accuracy in %", *(f"{bits} bits" for bits in BITS)), fewer),
        "(after training, nothing fine-tuned; one scale per output channel; activations simulated, one scale per "
        "tensor)"))


@click.command(help=__doc__.split("\n")[0])
@click.option("--only", type=click.Choice(NETWORKS), multiple=True, default=NETWORKS)
def main(only):
    results = json.loads(RESULTS.read_text()) if RESULTS.exists() else {}
    todo = {key: arguments for name in only for key, arguments in jobs(name).items() if key not in results}
    for key, arguments in tqdm(todo.items(), unit="measurement"):
        results[key] = measure(*arguments)
        write_atomically(RESULTS, lambda path: path.write_text(json.dumps(results, indent=1) + "\n"))
    text = tables(results) + "\n"
    file = RESULTS.with_suffix(".txt")
    write_atomically(file, lambda path: path.write_text(text))
    click.echo(f"{text}Made: {RESULTS}, {file}")


if __name__ == "__main__":
    main()
