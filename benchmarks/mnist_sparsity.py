"""LeNet and SimpleCNN on MNIST: test accuracy against sparsity, before and after fine-tuning, five seeds.

    python benchmarks/mnist_sparsity.py              # all: about forty minutes on one core; resumable
    python benchmarks/mnist_sparsity.py --table-only # only write table and chart again from what is measured

Beside the pruned networks stand the unpruned one given the same extra epochs, and the small one trained from
scratch for as many: the same masks, with the surviving weights drawn anew (Liu et al., "Rethinking the Value of
Network Pruning", 2019, section 3). Everything below is fixed in advance; the test images choose nothing.

The results are ``results/mnist_sparsity.json`` (every accuracy; written after each training, so that a killed run
goes on), ``.txt`` (the table) and ``.png`` (means over the seeds).
"""
import json
from itertools import product

import click

import gluon_compress as gc  # before mxnet: see gluon_compress/runtime
import mxnet as mx
import numpy as np
import recording
from gluon_compress.measuring.plots import plot_curves
from gluon_compress.tables import format_table
from tqdm import tqdm

RESULTS = recording.RESULTS / "mnist_sparsity.json"
NETWORKS = {"lenet_mnist": "LeNet", "simple_cnn_mnist": "SimpleCNN"}
SPARSITIES = (0.5, 0.7, 0.8, 0.9, 0.95, 0.98, 0.99)
SEEDS = (1, 2, 3, 4, 5)
SCOPE = "global"  # one threshold for all layers; at these sparsities it leaves weights in each layer of both networks
IMAGES, EPOCHS, BATCH = 10_000, 2, 128
OPTIMIZER = ("nag", {"learning_rate": 0.02, "momentum": 0.9, "wd": 1e-4})
AS_TRAINED, UNPRUNED = "as trained", "unpruned, same extra training"
PRUNED, FINE_TUNED, FROM_SCRATCH = "pruned, not fine-tuned", "pruned, fine-tuned", "same masks, from scratch"
CONDITIONS = {"scope": SCOPE, "images": IMAGES, "epochs": EPOCHS, "batch": BATCH, "optimizer": list(OPTIMIZER)}


def every_cell():
    """All (network, way, sparsity, seed) to measure; None where a way has no sparsity or no seed."""
    for network in NETWORKS:
        yield network, AS_TRAINED, None, None
        yield from product([network], [UNPRUNED], [None], SEEDS)
        for sparsity in SPARSITIES:
            yield network, PRUNED, sparsity, None
            yield from product([network], [FINE_TUNED, FROM_SCRATCH], [sparsity], SEEDS)


def measure(train, test, network, way, sparsity, seed):
    """Test accuracy of one cell."""
    net = gc.params.load(network)
    if way in (PRUNED, FINE_TUNED, FROM_SCRATCH):
        masks = gc.pruning.prune_magnitude(net, sparsity, scope=SCOPE)
    if way == FROM_SCRATCH:
        start_again(net, masks, seed)
    if way == UNPRUNED:
        trainer = mx.gluon.Trainer(net.collect_params(), *OPTIMIZER)
    elif way in (FINE_TUNED, FROM_SCRATCH):
        trainer = gc.pruning.MaskedTrainer(net, masks, *OPTIMIZER)
    if seed is not None:
        gc.training.fit(net, train.batches(BATCH, shuffle=True), EPOCHS, trainer, seed=seed, progress=False)
    return gc.training.evaluate(net, test)


def start_again(net, masks, seed):
    """Fresh weights where the masks keep them, scaled to what is left of each layer (as Liu et al. do).

    He et al. 2015: variance 2 / fan-in, here the mean fan-in that the mask leaves.
    """
    mx.random.seed(seed)
    net.initialize(mx.init.MSRAPrelu("in", slope=0), force_reinit=True)
    masks.apply(net)
    parameters = net._collect_params_with_prefix()
    for name, kept in masks.kept.items():
        parameters[name].set_data(parameters[name].data() / np.sqrt(kept.mean()))


def read_results():
    """{cell: accuracy} of the cells measured so far, under the same conditions and from the same trained weights."""
    if not RESULTS.exists():
        return {}
    found = json.loads(RESULTS.read_text())
    if found["conditions"] != conditions():
        raise click.ClickException(f"{RESULTS} was measured under other conditions: move it away to measure anew")
    return {(row["network"], row["way"], row["sparsity"], row["seed"]): row["accuracy"] for row in found["cells"]}


def write_results(accuracies):
    rows = [{"network": network, "way": way, "sparsity": sparsity, "seed": seed,
             "accuracy": accuracies[network, way, sparsity, seed]}
            for network, way, sparsity, seed in every_cell() if (network, way, sparsity, seed) in accuracies]
    recording.write_json(RESULTS, {"conditions": conditions(), "cells": rows})


def conditions():
    manifest = gc.params.manifest()
    return {**CONDITIONS, "parameters_sha256": {name: manifest[name]["sha256"] for name in NETWORKS}}


def values(accuracies, network, way, sparsity=None):
    """The accuracies of all seeds."""
    return [accuracies[cell] for cell in every_cell() if cell[:3] == (network, way, sparsity)]


def spread(numbers):
    if len(numbers) == 1:
        return f"{numbers[0]:.4f}"
    return f"{np.mean(numbers):.4f} ({min(numbers):.4f} to {max(numbers):.4f})"


def weights_left(network):
    """{sparsity: (weights left in the whole network, and in the layer with the fewest)}."""
    left = {}
    for sparsity in SPARSITIES:
        masks = gc.pruning.prune_magnitude(gc.params.load(network), sparsity, scope=SCOPE)
        counts = {name.removesuffix(".weight"): int(kept.sum()) for name, kept in masks.kept.items()}
        fewest = min(counts, key=counts.get)
        left[sparsity] = f"{sum(counts.values()):,}", f"{counts[fewest]} ({fewest})"
    return left


def table(accuracies):
    lines = []
    for network, title in NETWORKS.items():
        left, entry = weights_left(network), gc.params.manifest()[network]
        lines += [f"{title} on MNIST: test accuracy; mean (lowest to highest) of {len(SEEDS)} seeds",
                  f"as trained ({entry['epochs']} epochs on 60,000 images): "
                  f"{spread(values(accuracies, network, AS_TRAINED))}",
                  f"{UNPRUNED}: {spread(values(accuracies, network, UNPRUNED))}", "",
                  format_table(("sparsity", "weights left", "fewest in a layer", PRUNED, FINE_TUNED, FROM_SCRATCH), [
                      (f"{sparsity:.0%}", *left[sparsity], *(spread(values(accuracies, network, way, sparsity))
                       for way in (PRUNED, FINE_TUNED, FROM_SCRATCH))) for sparsity in SPARSITIES]), ""]
    settings = ", ".join(f"{name} {value}" for name, value in OPTIMIZER[1].items())
    return "\n".join([
        *lines, f"Weights of all layers pruned by magnitude, in one shot, with one threshold for the network "
        f"(scope {SCOPE!r}); biases stay.",
        f"Extra training: {EPOCHS} epochs on the first {IMAGES:,} training images, which the network was trained on "
        f"before; batches of {BATCH}, {OPTIMIZER[0]}, {settings}, learning rate to zero along a cosine.",
        f"From scratch: the same {EPOCHS} epochs and no others, so not the training that the pruned network inherits; "
        f"He initialization for the fan-in left.",
        "The test images chose nothing.", ""])


def draw(accuracies):
    curves = {}
    for network, title in NETWORKS.items():
        for way in (PRUNED, FINE_TUNED, FROM_SCRATCH):
            curves[f"{title}, {way}"] = [(sparsity, 1 - np.mean(values(accuracies, network, way, sparsity)))
                                         for sparsity in SPARSITIES]
        extra = 1 - np.mean(values(accuracies, network, UNPRUNED))
        curves[f"{title}, {UNPRUNED}"] = [(SPARSITIES[0], extra), (SPARSITIES[-1], extra)]
    plot_curves(curves, RESULTS.with_suffix(".png"), xlabel="sparsity", ylabel="test error (1 - accuracy)",
                title=f"MNIST, mean of {len(SEEDS)} seeds", log=True)


@click.command(help=__doc__.split("\n")[0])
@click.option("--table-only", is_flag=True, help="Only write the table and the chart from what is measured.")
def main(table_only):
    accuracies = read_results()
    missing = [cell for cell in every_cell() if cell not in accuracies]
    if missing and table_only:
        raise click.ClickException(f"{len(missing)} of {len(list(every_cell()))} accuracies are missing in {RESULTS}")
    if missing:
        train, test = gc.datasets.mnist()
        train, test = train.subset(slice(0, IMAGES)), test.batches(500)
    for cell in tqdm(missing, unit="network"):
        accuracies[cell] = measure(train, test, *cell)
        write_results(accuracies)
    text = table(accuracies)
    recording.write_text(RESULTS.with_suffix(".txt"), text)
    draw(accuracies)
    click.echo(text)
    click.echo(f"Made: {RESULTS}, .txt and .png")


if __name__ == "__main__":
    main()
