"""The networks of way_out.py: dense, and with half the multiply-accumulates; fp32 and on integers; for each runtime.

    python benchmarks/way_out_networks.py resnet18_cifar FOLDER     # trains: about half an hour of two cores; resumable

:func:`prepare` fills a folder with what the processes of way_out_systems.py run. Both forms of the ResNet-18 on
CIFAR-10 get the same training on 45,000 images, from the shipped parameters; the epoch that is best on the other 5,000
training images stays. ResNet-50 and MobileNet-v2 have random weights: there is no accuracy to keep.
"""
import json
import sys
from pathlib import Path

import gluon_compress as gc  # before mxnet: see gluon_compress/runtime
import mxnet as mx
import numpy as np
from gluon_compress.datasets import compose, random_crop, random_flip
from mxnet import autograd, gluon
from mxnet.gluon.model_zoo import vision
from recording import write_json

TRAINED = {"resnet18_cifar": "resnet18_cifar10"}
RANDOM = {"resnet50": "resnet50_v1", "mobilenet_v2": "mobilenetv2_1.0"}
FORMS = ("dense", "pruned")
MACS, ROUND_TO = 0.5, 16             # of the pruned form: at most half; multiples of what int8 kernels do at a time
EPOCHS, LEARNING_RATE, WEIGHT_DECAY, BATCH = 2, 0.02, 5e-4, 128
TRAINING_IMAGES = 45_000             # of 50,000; the others choose the epoch
CALIBRATION_IMAGES, CALIBRATION_BATCH = {"resnet18_cifar": 512, "resnet50": 32, "mobilenet_v2": 32}, 8
SEED = 1


def prepare(name, folder):
    """Everything that the processes need; what is there already stays."""
    folder.mkdir(parents=True, exist_ok=True)
    if not (folder / "images.npy").exists():
        np.save(folder / "images.npy", calibration_images(name))
    batches = [mx.nd.array(batch) for batch in calibration(folder)]
    for form in FORMS:
        net = gc.load(network_file(name, form, folder))
        if not (folder / f"{form}.onnx").exists():
            write_json(folder / f"{form}.json", {"macs": gc.report(net, batches[0][:1]).macs})
            gc.export.write_checkpoint(net, folder / form, batches[0])
            gc.export.to_onnx(net, folder / f"{form}.onnx", batches[0])
        int8_file = folder / f"{form}_int8.gcz"
        if not int8_file.exists():
            gc.save(int8_file, gc.quantization.quantize(net, batches, progress=False))
        if not int8_file.with_suffix(".onnx").exists():
            gc.export.to_onnx(gc.load(int8_file), int8_file.with_suffix(".onnx"), batches[0])


def macs(folder):
    """{form: multiply-accumulates of an image}."""
    return {form: json.loads((folder / f"{form}.json").read_text())["macs"] for form in FORMS}


def calibration_images(name):
    """(images, 3, size, size): training images, or random pixels where the weights are random."""
    count = CALIBRATION_IMAGES[name]
    if name in RANDOM:
        return np.random.default_rng(0).normal(size=(count, 3, 224, 224)).astype(np.float32)
    train, _ = gc.datasets.cifar10()
    images, _ = next(iter(train.subset(slice(0, count)).batches(count)))
    return images.asnumpy()


def calibration(folder):
    images = np.load(folder / "images.npy")
    return np.split(images, len(images) // CALIBRATION_BATCH)


def network_file(name, form, folder):
    """Where a form of a network lies; made when it is not there."""
    path = Path(folder) / f"{form}.gcz"
    if not path.exists():
        net = trained_network(name, form, path.parent) if name in TRAINED else random_network(name, form, path.parent)
        gc.save(path, net)
    return path


def prune(net, example):
    """Half the multiply-accumulates, the same share of every layer."""
    return gc.pruning.prune_channels(net, example, macs=MACS, round_to=ROUND_TO)


def trained_network(name, form, folder):
    """The shipped network, or what pruning leaves of it, with some further training."""
    train, _ = gc.datasets.cifar10()
    images, held_out = train.subset(slice(0, TRAINING_IMAGES)), train.subset(slice(TRAINING_IMAGES, len(train)))
    net = gc.params.load(TRAINED[name])
    if form == "pruned":
        prune(net, mx.nd.zeros((1, 3, 32, 32)))
    net.hybridize(static_alloc=True, static_shape=True)
    if form == "pruned":
        gc.pruning.reestimate_batch_norm(net, images.batches(BATCH), batches=20)
    trainer = gluon.Trainer(net.collect_params(), "nag", {
        "learning_rate": LEARNING_RATE, "momentum": 0.9, "wd": WEIGHT_DECAY})
    gc.training.fit(net, images.batches(BATCH, shuffle=True, augment=compose(random_crop(4), random_flip)), EPOCHS,
                    trainer, gc.training.one_cycle, validation_data=held_out.batches(500), seed=SEED,
                    state_path=folder / f"{form}.state")
    return net


def random_network(name, form, folder):
    """Random weights, and BatchNorm statistics that fit them."""
    mx.random.seed(0)
    np.random.seed(0)
    net = vision.get_model(RANDOM[name])
    net.initialize(mx.init.Xavier(rnd_type="gaussian", factor_type="in", magnitude=2))  # He et al., 2015
    batches = [mx.nd.array(batch) for batch in calibration(folder)]
    net(batches[0])
    if form == "pruned":
        prune(net, batches[0])
    for batch in batches * 6:  # momentum 0.9: 24 batches bring the statistics to 92 % of their way
        with autograd.train_mode():
            net(batch).wait_to_read()
    return net


if __name__ == "__main__":
    for form in sys.argv[3:] or FORMS:
        print(f"Made: {network_file(sys.argv[1], form, sys.argv[2])}")
