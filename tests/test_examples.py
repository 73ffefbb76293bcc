"""The examples in docstrings: each runs, line by line, with what a user has beside them."""
import doctest
import importlib
import inspect
import pkgutil
import re
import tarfile
from pathlib import Path

import gluon_compress as gc  # before mxnet

import mxnet as mx  # noqa: I001
import numpy as np
import pytest
from gluon_compress import (
    checkpoint, coding, datasets, distillation, measuring, models, pruning, quantization, training, workers)
from gluon_compress.measuring import kernels
from mxnet import autograd, gluon
from mxnet.gluon import HybridBlock, nn
from mxnet.gluon.data import DataLoader
from PIL import Image

PARSER = doctest.DocTestParser()
BATCH = 8


class Layers(HybridBlock):
    """Has what the examples name: conv.0, features.3, features.4, layer3, layer4, output."""

    def __init__(self, **kwargs):
        super().__init__(**kwargs)
        with self.name_scope():
            self.conv, self.features = nn.HybridSequential(), nn.HybridSequential()
            self.conv.add(nn.Conv2D(16, 3, strides=2, activation="relu"), nn.BatchNorm())
            self.features.add(nn.Conv2D(16, 3, padding=1), *(nn.Activation("relu") for _ in range(4)))
            self.layer3, self.layer4 = nn.Activation("relu"), nn.Activation("relu")
            self.output = nn.Dense(3)

    def hybrid_forward(self, F, x):
        return self.output(self.layer4(self.layer3(self.features(self.conv(x)))))


def made(example):
    net = Layers()
    net.initialize(mx.init.Xavier())
    net(example)
    return net


def names():
    """What the examples take for granted: the package's functions, and what a user has."""
    example, labels = mx.nd.random.normal(shape=(BATCH, 3, 8, 8)), mx.nd.array(np.arange(BATCH) % 3)
    net, batches = made(example), [(example, labels)]
    dataset = datasets.ImageDataset(np.random.randint(0, 255, (2 * BATCH, 8, 8, 3)), np.arange(2 * BATCH) % 3,
                                    (0.5,) * 3, (0.25,) * 3)
    public = (gc, checkpoint, coding, datasets, distillation, measuring, models, pruning, quantization, training,
              workers)
    return {
        **{name: getattr(module, name) for module in public for name in module.__all__}, "kernels": kernels,
        "gc": gc, "mx": mx, "np": np, "gluon": gluon, "nn": nn, "autograd": autograd, "DataLoader": DataLoader,
        "kernels_of": kernels.kernels_of, "net": net, "fresh_net": made(example), "original": made(example),
        "student": made(example), "teacher": made(example), "first": made(example), "second": made(example),
        "MyNetwork": Layers, "example": example, "inputs": example, "images": example, "x": example, "labels": labels,
        "train": dataset, "dataset": dataset, "batch_size": BATCH, "rank": 0, "workers": 1,
        **dict.fromkeys(("data", "train_data", "training_data", "validation_data", "test_data"), batches),
        "held_out": 2 * batches, "calibration_data": [example]}


# {a word in an example: what else it takes for granted, made of the rest}
ASKED = {
    "masks": lambda space: pruning.prune_magnitude(space["net"], 0.5),
    "scales": lambda space: quantization.quantize_weights(space["net"]),
    "codebooks": lambda space: coding.share_weights(space["net"], bits=3),
    "int8": lambda space: quantization.quantize(space["net"], [space["example"]], progress=False),
    "weight": lambda space: space["net"].conv[0].weight.data().asnumpy(),
    "trainer": lambda space: gluon.Trainer(space["net"].collect_params(), "sgd", {"learning_rate": 0.01}),
    "loss": lambda space: distillation.DistillationLoss(),
    "distillation_loss": lambda space: distillation.DistillationLoss(),
    "loss_function": lambda space: gluon.loss.SoftmaxCrossEntropyLoss(),
    "teacher_logits": lambda space: space["teacher"](space["example"]),
    "onnx": lambda space: gc.export.to_onnx(space["net"], "resnet18.onnx", space["example"], verify=False),
    "fine_tune": lambda space: lambda net: training.fit(net, space["data"], 1, progress=False),
    "save": lambda space: gc.save, "load": lambda space: gc.load, "describe": lambda space: checkpoint.describe}


def files(net, example):
    """What lies in the working directory, as the examples call it."""
    gc.export.write_checkpoint(net, "model", example)
    Path("model-0000.params").rename("model-0012.params")
    with tarfile.open("model.tar.gz", "w:gz") as archive:
        archive.add("model-symbol.json", "model_algo_1-symbol.json")
        archive.add("model-0012.params", "model_algo_1-0000.params")
    Path("insightface").mkdir()
    features = mx.sym.FullyConnected(mx.sym.var("data"), num_hidden=4, name="fc1")
    mx.model.save_checkpoint("insightface/model", 0, mx.sym.softmax(features, name="softmax"), {
        "fc1_weight": mx.nd.ones((4, 5)), "fc1_bias": mx.nd.ones(4)}, {})
    net.save_parameters("net.params")
    for number in range(20):
        path = Path("photos", "ab"[number % 2], f"{number}.png")
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.new("RGB", (16, 16), (number, 0, 0)).save(path)


def documented():
    """The docstring of all that has an example, in every module of the package but the two that are programs."""
    modules = {found.name for found in pkgutil.walk_packages(gc.__path__, "gluon_compress.")}
    modules.discard("gluon_compress.coding._coder")  # a library in C, which Python cannot import
    programs = {name for name in modules if name.endswith((".__main__", ".workers.script"))}
    for module_name in ["gluon_compress", *sorted(modules - programs)]:
        module = importlib.import_module(module_name)
        things = [(module_name, module)]
        for name, value in vars(module).items():
            if getattr(value, "__module__", None) == module_name:
                things.append((f"{module_name}.{name}", value))
                things += [(f"{module_name}.{name}.{method}", function) for method, function in vars(value).items()
                           ] if inspect.isclass(value) else []
        for name, value in things:
            text = inspect.getdoc(value) if callable(value) or inspect.ismodule(value) else None
            if text and ">>> " in text:
                yield pytest.param(text, id=name.removeprefix("gluon_compress."))


@pytest.mark.parametrize("text", list(documented()))
def test_it_runs(text, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    space = names()
    words = set(re.findall(r"\w+", text)) - set(re.findall(r">>> (\w+) =", text))
    space.update({word: make(space) for word, make in ASKED.items() if word in words})
    if re.search(r"\b(load|describe|image_folder)\(", text):
        files(space["net"], space["example"])
    examples = PARSER.get_examples(text)
    assert examples  # each of which must run to its end
    for example in examples:
        exec(example.source, space)
