"""Train the parameters that are shipped in this folder, and write them into manifest.json.

    python params/train.py                      # all of them: about three and a half hours on one core
    python params/train.py lenet_mnist          # one

Each network is trained on the whole training set with a schedule fixed in advance; the test set is
used once, at the end, to state the accuracy. A killed run goes on from its last epoch.
"""
import json
import platform
import time
from dataclasses import dataclass, field
from pathlib import Path

import click

import gluon_compress as gc  # before mxnet: see gluon_compress/runtime
import mxnet as mx
from gluon_compress.datasets import compose, cutout, random_crop, random_flip
from gluon_compress.files.locks import sha256_of
from gluon_compress.files.writing import write_atomically
from mxnet import gluon, init

FOLDER = Path(__file__).resolve().parent
MANIFEST = FOLDER / "manifest.json"
CIFAR_AUGMENTATION = compose(random_crop(4), random_flip, cutout(8))


@dataclass(frozen=True)
class Recipe:
    """How one network is trained: Nesterov SGD, momentum 0.9, weight decay on everything."""

    network: str                # class in gluon_compress.models
    dataset: str                # function in gluon_compress.datasets
    epochs: int
    learning_rate: float
    augment: object
    arguments: dict = field(default_factory=dict)
    schedule: object = gc.training.cosine
    size: int = None
    batch_size: int = 128
    weight_decay: float = 5e-4
    seed: int = 1


RECIPES = {
    "lenet_mnist": Recipe("LeNet", "mnist", 20, 0.05, random_crop(2)),
    "simple_cnn_mnist": Recipe("SimpleCNN", "mnist", 30, 0.05, random_crop(1), weight_decay=1e-4),
    "lenet_300_100_mnist": Recipe("LeNet300100", "mnist", 30, 0.05, random_crop(1), weight_decay=1e-4),
    "lenet5_caffe_mnist": Recipe("LeNet5Caffe", "mnist", 15, 0.01, random_crop(2), schedule=gc.training.one_cycle),
    "alexnet_cifar10": Recipe("AlexNet", "cifar10", 30, 0.02, CIFAR_AUGMENTATION, size=67,
                              arguments={"classes": 10, "hidden_units": 1024}, schedule=gc.training.one_cycle),
    "resnet18_cifar10": Recipe("ResNet", "cifar10", 18, 0.2, CIFAR_AUGMENTATION,
                               arguments={"depth": 18, "classes": 10, "thumbnail": True, "width": 32},
                               schedule=gc.training.one_cycle),
}


def train(name, recipe):
    """Train one network; write its parameters and its entry in the manifest."""
    train_set, test_set = getattr(gc.datasets, recipe.dataset)()
    net = getattr(gc.models, recipe.network)(**recipe.arguments)
    mx.random.seed(recipe.seed)
    net.initialize(init.MSRAPrelu("in", slope=0))  # He et al. 2015: variance 2 / fan-in before a ReLU
    net.hybridize(static_alloc=True, static_shape=True)
    test_batches = test_set.batches(500, size=recipe.size)
    net(next(iter(test_batches))[0])
    trainer = gluon.Trainer(net.collect_params(), "nag", {
        "learning_rate": recipe.learning_rate, "momentum": 0.9, "wd": recipe.weight_decay})
    started = time.time()
    history = gc.training.fit(
        net, train_set.batches(recipe.batch_size, shuffle=True, augment=recipe.augment, size=recipe.size),
        recipe.epochs, trainer, recipe.schedule, seed=recipe.seed, state_path=FOLDER / f"{name}.state")
    accuracy = gc.training.evaluate(net, test_batches)
    path = FOLDER / f"{name}.params"
    write_atomically(path, lambda temporary: net.save_parameters(str(temporary)))
    write_manifest_entry(name, {
        "network": recipe.network, "arguments": recipe.arguments,
        "input_shape": list(next(iter(test_batches))[0].shape[1:]),
        "dataset": recipe.dataset, "test_accuracy": accuracy, "bytes": path.stat().st_size,
        "sha256": sha256_of(path), "licence": "Apache-2.0",
        "script": "params/train.py", "seed": recipe.seed, "epochs": recipe.epochs,
        "batch_size": recipe.batch_size, "learning_rate": recipe.learning_rate,
        "weight_decay": recipe.weight_decay, "seconds": round(sum(e["seconds"] for e in history.epochs)),
        "versions": {"python": platform.python_version(), "mxnet": mx.__version__},
        "threads": gc.runtime.status().threads,
    })
    (FOLDER / f"{name}.state").unlink()
    click.echo(f"{history}\n{name}: test accuracy {accuracy:.4f}, {time.time() - started:.0f} s -> {path}")


def write_manifest_entry(name, entry):
    manifest = json.loads(MANIFEST.read_text()) if MANIFEST.exists() else {}
    manifest[name] = entry
    text = json.dumps(manifest, indent=2, sort_keys=True) + "\n"
    write_atomically(MANIFEST, lambda temporary: temporary.write_text(text))


@click.command(help=__doc__.split("\n")[0])
@click.argument("names", nargs=-1, type=click.Choice(sorted(RECIPES)))
def main(names):
    for name in names or RECIPES:
        train(name, RECIPES[name])


if __name__ == "__main__":
    main()
