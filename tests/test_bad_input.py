"""Mistakes that people make: each is refused with a sentence that names what is wrong, and nothing is changed.

The table: :data:`FUNCTIONS` has, for each public function, a call that works and of which kind its arguments are;
:data:`MISTAKES` has, for each kind, what people give instead, and what the message then names. A public name that
stands neither there nor in :data:`NOTHING_TO_GET_WRONG` fails the last test.
"""
import importlib
import inspect
import re

import gluon_compress as gc
import mxnet as mx
import numpy as np
import pytest
from gluon_compress import batches, datasets, distillation, export, kernels, models, pruning, quantization, training
from gluon_compress.arguments import check_flag
from gluon_compress.errors import GluonCompressError
from mxnet.gluon import Block, HybridBlock, nn
from networks import identical

NAN = float("nan")


@pytest.mark.parametrize("value", ["no", "False", None, 0, 1, [], np.array([True])])
def test_a_flag_is_true_or_false(value):
    with pytest.raises(TypeError, match="correct is .*; accepted: True or False"):
        check_flag("correct", value)


@pytest.mark.parametrize("value", [True, False, np.True_, np.bool_(False)])
def test_numpy_flags_are_flags(value):
    check_flag("correct", value)


class Tiny(HybridBlock):
    """Images (batch, 3, 6, 6), two classes."""

    def __init__(self):
        super().__init__()
        with self.name_scope():
            self.conv = nn.Conv2D(4, 3)
            self.norm = nn.BatchNorm()
            self.head = nn.Dense(2)

    def hybrid_forward(self, F, x):
        return self.head(F.relu(self.norm(self.conv(x))))


class Shape(Tiny):
    def hybrid_forward(self, F, x):
        return super().hybrid_forward(F, x.reshape((x.shape[0], 3, 6, 6)))


class Plain(Block):
    def forward(self, x):
        return x


def tiny(kind=Tiny, seed=0):
    mx.random.seed(seed)
    net = kind()
    net.initialize(mx.init.Xavier())
    with mx.autograd.pause():
        net(EXAMPLE)
    return net


def fresh():
    net = Tiny()
    net.initialize()
    return net


def with_value(value):
    net = tiny()
    net.conv.weight.data()[0] = value
    return net


EXAMPLE = mx.nd.random.normal(shape=(4, 3, 6, 6))
LABELS = mx.nd.array([0, 1, 1, 0])
DATA = [(EXAMPLE, LABELS)]
NHWC, PIXELS = mx.nd.ones((4, 6, 6, 3)), mx.nd.ones((4, 3, 6, 6), dtype="uint8")


def labelled(labels):
    return [(EXAMPLE, mx.nd.array(labels))]


# kind of argument: (what the message names, {what it is: how to make it}); {name} is the argument
NETS = {"None": lambda: None, "text": lambda: "net", "number": lambda: 3, "class": lambda: Tiny, "Block": Plain,
        "function": lambda: lambda x: x, "uninitialized": Tiny}
WHOLE_NETS = {**NETS, "deferred": fresh}
NOT_FINITE = {"NaN": lambda: with_value(NAN), "infinite": lambda: with_value(np.inf)}
NET_WORDS = r"net|parameter|layer|teacher|student|conv\.weight"
DATA_WORDS = "data|batch|a label|does not fit the network"
EXAMPLES = {"None": None, "text": "x", "number": 3, "empty": (), "a list of text": ["x"], "channels last": NHWC,
            "one image": mx.nd.ones((3, 6, 6)), "no samples": EXAMPLE[0:0], "other channels": mx.nd.ones((4, 5, 6, 6)),
            "text array": np.array(["x"]), "two inputs": (EXAMPLE, EXAMPLE), "data": DATA}
INPUTS = {"None": None, "number": 3, "text": "text", "bytes": b"x", "an array": EXAMPLE, "a NumPy array": np.ones(3),
          "no batches": [], "a used up generator": lambda: iter(()), "numbers": [3], "nothing": [()],
          "text inside": ["x"],
          "None inside": [None], "channels last": [(NHWC, LABELS)], "pixels": [(PIXELS, LABELS)],
          "NumPy pixels": [(np.ones((4, 3, 6, 6), np.uint8), LABELS)], "NaN": [(EXAMPLE * NAN, LABELS)],
          "infinite": [(EXAMPLE * np.inf, LABELS)], "one image": [(mx.nd.ones((3, 6, 6)), LABELS)],
          "other channels": [(mx.nd.ones((4, 5, 6, 6)), LABELS)], "no samples": [(EXAMPLE[0:0], LABELS[0:0])],
          "text array": [(np.array(["x"]), LABELS)], "a network": tiny, "a dict": {"data": EXAMPLE}}
LABELLED = {**INPUTS, "without label": [EXAMPLE], "a pair too short": [(EXAMPLE,)],
            "two labels": [(EXAMPLE, LABELS, LABELS)], "label too large": labelled([0, 1, 2, 0]),
            "label negative": labelled([0, -1, 0, 0]),
            "label fraction": labelled([0, 0.5, 1, 0]), "label NaN": labelled([0, NAN, 1, 0]),
            "too few labels": labelled([0, 1]), "one-hot": labelled(np.eye(4)[:, :2]),
            "text labels": [(EXAMPLE, "abcd")],
            "no label": [(EXAMPLE, None)], "2**40": labelled([2 ** 40, 0, 0, 0])}
PATHS = {"None": None, "empty": "", "number": 3, "list": ["x"], "NUL": "a\0b", "folder": "."}
NUMBERS = {"text": "0.5", "None inside": [None], "list": [0.5], "NaN": NAN, "infinite": np.inf, "bool": True,
           "array": np.ones(2), "complex": 1j}
INTEGERS = {**NUMBERS, "fraction": 2.5, "negative": -1, "whole float": 2.0}
CHOICES = {"unknown": "nope", "number": 17, "list": ["l1"], "bool": True, "empty": ""}
FUNCTION_VALUES = {"text": "cosine", "number": 3, "list": [1]}
SCHEDULES = {**FUNCTION_VALUES, "gives -1": lambda: lambda progress: -1, "gives NaN": lambda: lambda progress: NAN,
             "gives text": lambda: lambda progress: "1", "gives None": lambda: lambda progress: None}
MISTAKES = {
    "any net": (NET_WORDS, NETS), "net": (NET_WORDS, {**WHOLE_NETS, "x.shape": lambda: tiny(Shape)}),
    "whole net": (NET_WORDS, WHOLE_NETS), "finite net": (NET_WORDS, {**WHOLE_NETS, **NOT_FINITE}),
    "trained net": (NET_WORDS, {**NETS, **NOT_FINITE}),
    "example": ("example|network", EXAMPLES), "data": (DATA_WORDS, LABELLED),
    "inputs": (DATA_WORDS, INPUTS), "optional inputs": (DATA_WORDS, {k: v for k, v in LABELLED.items() if k != "None"}),
    "path": ("{name}", PATHS), "optional path": ("{name}|path", {k: v for k, v in PATHS.items() if k != "None"}),
    "flag": ("{name}", {"no": "no", "None": None, "1": 1, "0": 0, "list": []}),
    "integer": ("{name}", {**INTEGERS, "None": None}), "optional integer": ("{name}", INTEGERS),
    "positive": ("{name}", {**INTEGERS, "None": None, "zero": 0}),
    "optional positive": ("{name}", {**INTEGERS, "zero": 0}),
    "share": ("{name}", {**NUMBERS, "negative": -0.1, "too large": 1.5}),
    "number": ("{name}", {**NUMBERS, "negative": -0.1}),
    "choice": ("{name}", CHOICES), "function": ("{name}", FUNCTION_VALUES), "schedule": ("schedule", SCHEDULES),
    "names": ("{name}|layer", {"number": 3, "unknown": ["nope"], "numbers": [3]}),
    "select": ("select", {"unknown": "nope", "number": 3, "list": ["conv", "nope"], "class": lambda: nn.Embedding}),
    "loss": ("loss|labels", {**FUNCTION_VALUES, "of numbers": mx.gluon.loss.L2Loss,
                             "a mean": lambda: lambda *a: mx.gluon.loss.SoftmaxCrossEntropyLoss()(*a).mean(),
                             "a number": lambda: lambda *a: 1.0}),
    "targets": ("targets", {**FUNCTION_VALUES, "an array": lambda: lambda x, y: y, "None": lambda: lambda x, y: None}),
    "trainer": ("trainer|optimizer", {"text": "sgd", "number": 3, "of another network": lambda: mx.gluon.Trainer(
        tiny().collect_params(), "sgd")}),
    "masks": ("masks|{name}", {"None": None, "text": "x", "dict": {}, "number": 3}),
    "optimizer": ("optimizer", {"None": None, "unknown": "sgdd", "number": 3, "class": mx.optimizer.SGD}),
    "settings": ("optimizer_params|learning_rate|momentum|wd", {
        "NaN": {"learning_rate": NAN}, "text": {"learning_rate": "x"}, "negative": {"learning_rate": -1}, "number": 0.1,
        "unknown": {"learning_rat": 0.1}, "momentum": {"momentum": "x"}, "wd": {"wd": NAN}}),
    "channels": (r"{name}",
                 {"None": None, "text": "x", "NaN": (NAN,) * 3, "negative": (-1,) * 3, "of 255": (127.5,) * 3,
                             "one": (0.5,), "number": 0.5, "texts": ("a", "b", "c")}),
    "images": ("images", {"None": None, "text": "x", "floats": np.ones((4, 6, 6, 3)),
                          "one": np.ones((6, 6, 3), np.uint8),
                          "negative": np.full((4, 6, 6, 3), -1), "256": np.full((4, 6, 6, 3), 256), "empty": []}),
    "labels": ("labels", {"None": None, "2**40": [0, 1, 1, 2 ** 40], "-1": [0, 1, 1, -1], "NaN": [0, 1, 1, NAN],
                          "fraction": [0, 1, 1, 0.5], "text": list("abcd"), "too few": [0, 1],
                          "infinite": [0, 1, 1, np.inf]}),
    "features": ("features|layer", {"text": "conv", "empty": [], "names": ["conv"], "number": 3}),
    "shapes": ("accepted", {"text": "x", "number": 3, "NumPy": np.ones((4, 2), np.float32), "rows": mx.nd.ones((3, 2)),
                            "one class": mx.nd.ones((4, 1))}),
}

FIT = {"net": "trained net", "train_data": "data", "epochs": "positive", "trainer": "trainer", "schedule": "schedule",
       "loss": "loss", "targets": "targets", "validation_data": "optional inputs", "seed": "integer",
       "state_path": "optional path", "progress": "flag"}
CHANNELS = {"net": "net", "example": "example", "ratio": "share", "criterion": "choice", "ignore": "names",
            "scope": "choice", "over": "choice", "max_ratio": "share", "round_to": "optional positive",
            "seed": "integer",
            "progress": "flag"}
MAGNITUDE = {"net": "finite net", "scope": "choice", "select": "select"}
CALIBRATION = {"net": "finite net", "calibration_data": "inputs", "bits": "integer", "method": "choice",
               "exclude": "names",
               "batches": "optional positive", "percentile": "number", "progress": "flag"}
QUIET = {"progress": False}


def masks_of(net):
    return pruning.prune_magnitude(net, 0.5)


def taylor(net, example, data, loss=None):
    return pruning.prune_channels(net, example, 0.5, "taylor", data=data, loss=loss)


def macs(net, example, macs):
    return pruning.prune_channels(net, example, macs=macs)


def latency(net, example, latency):
    return pruning.prune_channels(net, example, latency=latency, progress=False)


def in_steps(**arguments):
    return list(pruning.prune_channels_in_steps(**arguments))


def trainer_of(net, masks, optimizer, optimizer_params):
    return pruning.MaskedTrainer(net, masks, optimizer, optimizer_params)


def loss_of(student_logits, labels, teacher_logits):
    return distillation.DistillationLoss()(student_logits, labels, teacher_logits)


# name: (function, arguments of a call that works, {argument: kind of its mistakes})
FUNCTIONS = {
    "training.fit": (training.fit, {"net": tiny, "train_data": DATA, "epochs": 1, **QUIET}, FIT),
    "training.evaluate": (training.evaluate, {"net": tiny, "data": DATA}, {"net": "trained net", "data": "data"}),
    "training.one_cycle": (training.one_cycle, {"progress": 0.5}, {}),
    "distillation.distill": (
        distillation.distill,
        {"student": tiny, "teacher": lambda: tiny(seed=1), "train_data": DATA, "epochs": 1, **QUIET},
        {"student": "trained net", "teacher": "finite net", "train_data": "data", "epochs": "positive",
         "temperature": "number", "hard_weight": "share", "label_smoothing": "share", "features": "features",
         "schedule": "schedule", "trainer": "trainer", "seed": "integer", "progress": "flag", "cache": "optional path",
         "state_path": "optional path"}),
    "distillation.cache_logits": (
        distillation.cache_logits,
        {"teacher": tiny, "data": DATA, "path": "logits", **QUIET},
        {"teacher": "finite net", "data": "inputs", "path": "path", "progress": "flag"}),
    "distillation.DistillationLoss": (
        distillation.DistillationLoss, {}, {"temperature": "number", "hard_weight": "share", "label_smoothing": "share",
                                            "sparse_label": "flag", "teacher_weights": "share"}),
    "distillation.DistillationLoss()": (
        loss_of, {"student_logits": mx.nd.ones((4, 2)), "labels": LABELS, "teacher_logits": mx.nd.ones((4, 2))},
        {"student_logits": "shapes", "labels": "shapes", "teacher_logits": "shapes"}),
    "distillation.FeatureLoss": (
        distillation.FeatureLoss, {"student_layer": "conv", "teacher_layer": "conv"},
        {"kind": "choice", "weight": "number"}),
    "distillation.FeatureMatcher": (
        distillation.FeatureMatcher,
        {"student": tiny, "teacher": lambda: tiny(seed=1), "features": [distillation.FeatureLoss("conv", "conv")],
         "example": EXAMPLE},
        {"student": "any net", "teacher": "finite net", "features": "features", "example": "example"}),
    "pruning.prune_threshold": (pruning.prune_threshold, {"net": tiny, "threshold": 0.01, "select": None},
                                {"net": "finite net", "threshold": "number", "select": "select"}),
    "pruning.prune_magnitude": (pruning.prune_magnitude, {"net": tiny, "sparsity": 0.5},
                                {**MAGNITUDE, "sparsity": "share", "norm": "choice"}),
    "pruning.prune_random": (pruning.prune_random, {"net": tiny, "amount": 0.5},
                             {**MAGNITUDE, "net": "whole net", "amount": "share", "seed": "integer"}),
    "pruning.prune_custom": (pruning.prune_custom, {"net": tiny, "kept": {"conv": np.ones((4, 3, 3, 3))}},
                             {"net": "whole net", "kept": "masks"}),
    "pruning.prune_n_m": (pruning.prune_n_m, {"net": tiny, "n": 1, "m": 3, "select": "conv"},
                          {"net": "finite net", "n": "positive", "m": "positive", "select": "select"}),
    "pruning.prune_channels": (pruning.prune_channels, {"net": tiny, "example": EXAMPLE, "ratio": 0.5}, CHANNELS),
    "pruning.prune_channels(macs)": (macs, {"net": tiny, "example": EXAMPLE, "macs": 0.5}, {"macs": "share"}),
    "pruning.prune_channels(latency)": (latency, {"net": tiny, "example": EXAMPLE, "latency": 1e6},
                                        {"latency": "number"}),
    "pruning.prune_channels(taylor)": (taylor, {"net": tiny, "example": EXAMPLE, "data": DATA},
                                       {"data": "data", "loss": "function"}),
    "pruning.prune_channels_in_steps": (
        in_steps, {"net": tiny, "example": EXAMPLE, "ratio": 0.5, "steps": 2},
        {**CHANNELS, "steps": "positive", "schedule": "schedule"}),
    "pruning.reestimate_batch_norm": (
        pruning.reestimate_batch_norm, {"net": tiny, "data": DATA, **QUIET},
        {"net": "whole net", "data": "inputs", "batches": "optional positive", "progress": "flag"}),
    "pruning.sensitivity": (
        pruning.sensitivity, {"net": tiny, "evaluate": lambda: lambda net: 1.0, "fractions": [0.5], **QUIET},
        {"net": "finite net", "evaluate": "function", "kind": "choice", "criterion": "choice", "progress": "flag",
         "state_path": "optional path"}),
    "pruning.GradualPruner": (
        pruning.GradualPruner, {"net": tiny, "final_sparsity": 0.5, "steps": 10},
        {**MAGNITUDE, "final_sparsity": "share", "steps": "positive", "schedule": "schedule", "begin": "integer",
         "frequency": "optional positive", "initial_sparsity": "share"}),
    "pruning.MaskedTrainer": (
        trainer_of, {"net": tiny, "masks": lambda: pruning.Masks({}), "optimizer": "sgd", "optimizer_params": {}},
        {"net": "whole net", "masks": "masks", "optimizer": "optimizer", "optimizer_params": "settings"}),
    "pruning.ChannelPenalty": (
        pruning.ChannelPenalty, {"net": tiny, "example": EXAMPLE, "strength": 1e-4},
        {"net": "net", "example": "example", "strength": "number", "kind": "choice"}),
    "quantization.quantize": (
        quantization.quantize, {"net": tiny, "calibration_data": DATA, "simulate": True, **QUIET},
        {**CALIBRATION, "clip": "choice", "correct_bias": "flag", "equalize": "flag", "simulate": "flag"}),
    "quantization.prepare_qat": (
        quantization.prepare_qat, {"net": tiny, "calibration_data": DATA, **QUIET}, CALIBRATION),
    "quantization.quantize_weights": (
        quantization.quantize_weights, {"net": tiny},
        {"net": "finite net", "bits": "integer", "per_channel": "flag", "select": "select", "clip": "choice"}),
    "quantization.fold_batch_norm": (quantization.fold_batch_norm, {"net": tiny, "example": EXAMPLE},
                                     {"net": "finite net", "example": "example"}),
    "quantization.quantize_array": (quantization.quantize_array, {"x": np.ones(3)},
                                    {"bits": "integer", "clip": "choice"}),
    "quantization.RangeObserver": (quantization.RangeObserver, {}, {"method": "choice", "bits": "integer"}),
    "report": (gc.report, {"net": tiny, "example": EXAMPLE},
               {"net": "net", "example": "example", "path": "optional path", "latency": "flag", "repeats": "positive",
                "warmup": "integer"}),
    "measure_latency": (gc.measure_latency, {"net": tiny, "example": EXAMPLE, "repeats": 1},
                        {"net": "net", "example": "example", "repeats": "positive", "warmup": "integer"}),
    "kernels.kernels_of": (kernels.kernels_of, {"net": tiny, "example": EXAMPLE, **QUIET},
                           {"net": "net", "example": "example", "progress": "flag"}),
    "save": (gc.save, {"path": "net.gcz", "net": tiny, "example": EXAMPLE},
             {"path": "path", "net": "whole net"}),
    "load": (gc.load, {"path": "missing.gcz"}, {"path": "path", "net": "any net", "simulate": "flag"}),
    "export.to_symbol": (export.to_symbol, {"net": tiny, "path_prefix": "net", "example": EXAMPLE},
                         {"net": "net", "example": "example", "epoch": "integer"}),
    "export.to_onnx": (export.to_onnx, {"net": tiny, "path": "net.onnx", "example": EXAMPLE},
                       {"net": "net", "path": "path", "example": "example", "verify": "flag"}),
    "datasets.ImageDataset": (
        datasets.ImageDataset, {"images": np.zeros((4, 6, 6, 3), np.uint8), "labels": [0, 1, 1, 0], "mean": (0.5,) * 3,
                                "std": (0.5,) * 3},
        {"images": "images", "labels": "labels", "mean": "channels", "std": "channels"}),
    "batches.Shard": (batches.Shard, {"count": 10, "batch_size": 4},
                      {"count": "positive", "batch_size": "positive", "shuffle": "flag", "rank": "integer",
                       "workers": "positive"}),
    "models.ResNet": (models.ResNet, {"classes": 2, "width": 4}, {"depth": "choice", "thumbnail": "flag"}),
}
# mistakes that are none: {(function, argument): {which}}
FINE = {("load", "net"): {"None", "uninitialized"}, ("export.to_symbol", "example"): {"None"},
        ("distillation.DistillationLoss", "teacher_weights"): {"list"},
        ("distillation.DistillationLoss()", "labels"): {"one class"}}
NOTHING_TO_GET_WRONG = {
    "errors": {"CheckpointError", "DownloadError", "GluonCompressError", "NetworkError", "RecordError", "WorkerError"},
    "records, which functions make": {"ChannelPlan", "Masks", "Sensitivity", "FoldedNorms", "Int8Network", "QatNetwork",
                                      "QuantizationRecord", "Scales", "CachedLogits", "History"},
    "functions of one number": {"constant", "cosine", "cubic", "linear", "one_shot"},
    "arithmetic with a table of its own in test_arrays.py": {"dequantize_array"},
    "Gluon blocks, whose layers check": {"AlexNet", "LeNet", "LeNet300100", "LeNet5Caffe", "SimpleCNN", "SmallConvNet"},
}


def made(value):
    """What stands in the tables; a function there makes it anew."""
    classes = (Tiny, Plain, mx.gluon.loss.L2Loss)
    return value() if inspect.isfunction(value) or any(value is each for each in classes) else value


def rows():
    for name, (_, _, kinds) in FUNCTIONS.items():
        for argument, kind in kinds.items():
            for mistake in MISTAKES[kind][1]:
                if mistake not in FINE.get((name, argument), ()):
                    yield pytest.param(name, argument, mistake, id=f"{name}-{argument}-{mistake}")


@pytest.mark.parametrize("name", FUNCTIONS)
def test_the_calls_without_mistake_work(name, tmp_path, monkeypatch):
    function, good, _ = FUNCTIONS[name]
    monkeypatch.chdir(tmp_path)
    if name == "load":
        gc.save("missing.gcz", tiny(), example=EXAMPLE)
    if name != "kernels.kernels_of":  # a process of its own, which test_kernels.py runs
        function(**{key: made(value) for key, value in good.items()})


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize(("name", "argument", "mistake"), rows())
def test_a_mistake_is_told_in_a_sentence_and_changes_nothing(name, argument, mistake, tmp_path, monkeypatch):
    function, good, kinds = FUNCTIONS[name]
    words, mistakes = MISTAKES[kinds[argument]]
    monkeypatch.chdir(tmp_path)
    arguments = {**{key: made(value) for key, value in good.items()}, argument: made(mistakes[mistake])}
    nets = [value for value in arguments.values() if isinstance(value, HybridBlock)]
    before = [known_values(net) for net in nets]
    with pytest.raises((TypeError, ValueError, OSError, GluonCompressError)) as raised:
        function(**arguments)
    message = str(raised.value)
    assert re.search(words.format(name=argument), message), message
    assert len(message) < 500 and not re.search(r"src/|Stack trace|\.cc:|0x[0-9a-f]{6}", message), message
    assert all(identical(there, known_values(net)) for there, net in zip(before, nets))
    assert list(tmp_path.iterdir()) == []


def known_values(net):
    return {name: parameter.list_data()[0].asnumpy() for name, parameter in net._collect_params_with_prefix().items()
            if parameter._data is not None}


def test_every_public_name_has_rows():
    covered = {re.sub(r"\(.*", "", name).rpartition(".")[2] for name in FUNCTIONS}
    covered |= set().union(*NOTHING_TO_GET_WRONG.values())
    for module in ("gluon_compress", *(f"gluon_compress.{part}" for part in (
            "pruning", "quantization", "distillation", "training", "models"))):
        module = importlib.import_module(module)
        names = {name for name in module.__all__ if not inspect.ismodule(getattr(module, name))}
        assert names <= covered, f"{sorted(names - covered)} of {module.__name__} has no rows"
