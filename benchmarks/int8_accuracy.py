"""Accuracy of the shipped networks on integers, and with fewer bits.

    python benchmarks/int8_accuracy.py                # about three hours on two cores; resumable
    python benchmarks/int8_accuracy.py --only resnet18_cifar10

Eight bits after training on the integer kernels: means over three draws of calibration images, for each way to
calibrate. Beside it the agreement with the fp32 network, image by image, and what the article's formula does to the
same network. Then weights alone, weights and activations (simulated), and these after quantization-aware training, in 8
to 2 bits, beside the fp32 network with the same extra training. All test images; none of them chose anything.
Each measurement goes into ``results/int8_accuracy.json``, the tables into ``.txt``.
"""
import json
from itertools import product

import click

import gluon_compress as gc  # before mxnet: see gluon_compress/runtime
import mxnet as mx
import numpy as np
import recording
from gluon_compress.datasets import compose, random_crop, random_flip
from gluon_compress.network import parameters
from gluon_compress.quantization import fold_batch_norm, prepare_qat, quantize, quantize_weights
from gluon_compress.tables import format_table
from mxnet import gluon
from tqdm import tqdm

RESULTS = recording.RESULTS / "int8_accuracy.json"
STATES = RESULTS.with_name("int8_accuracy_states")
NETWORKS = ("lenet_mnist", "alexnet_cifar10", "resnet18_cifar10")
METHODS = ("mse", "minmax", "percentile", "entropy")  # the first is quantize's default
BITS = (8, 6, 5, 4, 3, 2)
DRAWS, CALIBRATION_IMAGES, BATCH = 3, 512, 100
# Quantization-aware training, of all layers, from the shipped weights; the same for the fp32 network beside it.
TRAINING_IMAGES, TRAINING_BATCH, LEARNING_RATE = 25000, 64, 1e-4
EPOCHS = {"lenet_mnist": 4, "alexnet_cifar10": 1, "resnet18_cifar10": 1}
AUGMENTATION = compose(random_crop(4), random_flip)  # of CIFAR-10


def load(name):
    """``(net, training set, test batches, arguments of batches())``, ready to run."""
    size = gc.params.manifest()[name]["input_shape"][-1]
    train, test = gc.datasets.mnist() if "mnist" in name else gc.datasets.cifar10()
    net = gc.params.load(name)
    net.hybridize(static_alloc=True, static_shape=True)
    resized = {} if size in (28, 32) else {"size": size}
    return net, train, test.batches(BATCH, **resized), resized


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


def calibration_images(train, draw, resized):
    images = np.random.default_rng(draw).choice(len(train), CALIBRATION_IMAGES, replace=False)
    return train.subset(np.sort(images)).batches(64, **resized)


def train_on(name, net, train, resized, key):
    """The same extra training for a network as it is and with its rounding."""
    augment = None if "mnist" in name else AUGMENTATION
    data = train.subset(slice(0, TRAINING_IMAGES)).batches(TRAINING_BATCH, shuffle=True, augment=augment, **resized)
    net.hybridize(static_alloc=True, static_shape=True)
    trainer = gluon.Trainer(net.collect_params(), "adam", {"learning_rate": LEARNING_RATE})
    gc.training.fit(net, data, EPOCHS[name], trainer, state_path=STATES / f"{key.replace(' ', '-')}.state")


def measure(key, name, what, bits=8, options=None, draw=0):
    """``{"accuracy", "agreement"}`` of one variant of a shipped network; ``options`` of the quantization."""
    net, train, test, resized = load(name)
    truth, fp32 = labels(test), classes(net, test)
    if what in ("int8", "full"):
        net = quantize(net, calibration_images(train, draw, resized), bits=bits, simulate=what == "full",
                       progress=False, **(options or {}))
    elif what == "weights":
        fold_batch_norm(net, next(iter(test))[0])
        quantize_weights(net, bits, **(options or {}))
    elif what == "article":
        article_quantization(net)
    elif what == "trained":
        train_on(name, net, train, resized, key)
    elif what == "qat":
        qat = prepare_qat(net, calibration_images(train, draw, resized), bits=bits, progress=False)
        train_on(name, qat, train, resized, key)
        net = qat.convert(simulate=bits < 8)
    found = classes(net, test)
    return {"accuracy": float((found == truth).mean()), "agreement": float((found == fp32).mean())}


def jobs(name):
    """{key: arguments of measure} of all measurements of a network, the long ones last."""
    found = {f"{name} fp32": (name, "fp32"), f"{name} article": (name, "article")}
    for method, draw in product(METHODS, range(DRAWS)):
        found[f"{name} int8 {method} draw {draw}"] = name, "int8", 8, {"method": method}, draw
    for title, what, options in (("weights", "weights", {}), ("clipped", "weights", {"clip": "mse"}),
                                 ("full", "full", {}), ("equalized", "full", {"equalize": True})):
        found.update({f"{name} {title} {bits} bits": (name, what, bits, options) for bits in BITS})
    found[f"{name} trained"] = (name, "trained")
    found.update({f"{name} qat {bits} bits": (name, "qat", bits) for bits in BITS})
    return found


def eight_bits(results, name):
    """A row for each way to calibrate."""
    fp32 = 100 * results[f"{name} fp32"]["accuracy"]
    for method in METHODS:
        draws = [results[f"{name} int8 {method} draw {draw}"] for draw in range(DRAWS)]
        accuracies = [100 * row["accuracy"] for row in draws]
        yield (name, method, f"{fp32:.2f}", f"{np.mean(accuracies):.2f} ({min(accuracies):.2f} to "
               f"{max(accuracies):.2f})", f"{np.mean(accuracies) - fp32:+.2f}",
               f"{100 * np.mean([row['agreement'] for row in draws]):.2f} %")
    article = results[f"{name} article"]
    yield (name, "article's formula", f"{fp32:.2f}", f"{100 * article['accuracy']:.2f}",
           f"{100 * article['accuracy'] - fp32:+.2f}", f"{100 * article['agreement']:.2f} %")


def fewer_bits(results, name):
    titles = {"weights": "weights alone", "clipped": "weights alone, clip='mse'",
              "full": "weights and activations", "equalized": "the same, equalize=True",
              "qat": "trained with the rounding"}
    for what, title in titles.items():
        yield (name, title, *(f"{100 * results[f'{name} {what} {bits} bits']['accuracy']:.2f}"
                              if f"{name} {what} {bits} bits" in results else "-" for bits in BITS))
    trained = results.get(f"{name} trained")
    yield (name, "fp32, the same training", f"{100 * trained['accuracy']:.2f}" if trained else "-",
           *[""] * (len(BITS) - 1))


def tables(results):
    done = [name for name in NETWORKS if f"{name} equalized 2 bits" in results]
    epochs = ", ".join(f"{name} {epochs}" for name, epochs in EPOCHS.items())
    return "\n".join((
        format_table(("network", "calibration", "fp32 %", "int8 %", "points", "agreement with fp32"),
                     [row for name in done for row in eight_bits(results, name)]),
        f"(integer kernels; mean, lowest and highest of {DRAWS} draws of {CALIBRATION_IMAGES} training images; "
        f"10,000 test images; {METHODS[0]} is the default)", "",
        format_table(("network", "test accuracy in %", *(f"{bits} bits" for bits in BITS)),
                     [row for name in done for row in fewer_bits(results, name)]),
        "(one scale per output channel; activations, one scale per tensor, simulated; all layers, the first and the "
        "last as well;\n"
        f"{METHODS[0]}, draw 0. Training: Adam, {LEARNING_RATE:g} with a cosine, batches of {TRAINING_BATCH}, "
        f"{TRAINING_IMAGES:,} images, one seed,\nepochs: {epochs})"))


@click.command(help=__doc__.split("\n")[0])
@click.option("--only", type=click.Choice(NETWORKS), multiple=True, default=NETWORKS)
def main(only):
    STATES.mkdir(parents=True, exist_ok=True)
    todo = {key: arguments for name in only for key, arguments in jobs(name).items()}
    results = json.loads(RESULTS.read_text()) if RESULTS.exists() else {}
    for key, arguments in tqdm(todo.items(), unit="measurement"):
        if key not in results:
            results[key] = measure(key, *arguments)
            recording.write_json(RESULTS, results)
    text = tables(results) + "\n"
    file = RESULTS.with_suffix(".txt")
    recording.write_text(file, text)
    click.echo(f"{text}Made: {RESULTS}, {file}")


if __name__ == "__main__":
    main()
