"""What people give instead of what is asked for, by kind of argument: the tables of test_bad_input.py."""
import gluon_compress  # before mxnet  # noqa: F401

import mxnet as mx  # noqa: I001
import numpy as np
from mxnet.gluon import Block, HybridBlock, nn

NAN = float("nan")


class Tiny(HybridBlock):
    """Images (batch, 3, 6, 6), two classes. Shapes that are ``known`` spare each of 3,000 networks a forward pass."""

    def __init__(self, known=True):
        super().__init__()
        with self.name_scope():
            self.conv = nn.Conv2D(4, 3, in_channels=3 * known)
            self.norm = nn.BatchNorm(in_channels=4 * known)
            self.head = nn.Dense(2, in_units=64 * known)

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
    return net


def fresh():
    net = Tiny(known=False)
    net.initialize()
    return net


def with_value(value):
    net = tiny()
    net.conv.weight.data()[0] = value
    return net


EXAMPLE = mx.nd.array(np.random.default_rng(0).normal(size=(4, 3, 6, 6)))
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
LAYERS = {"unknown": "nope", "number": 3, "list": ["conv", "nope"], "class": lambda: nn.Embedding, "numbers": [3],
          "kind": "Conv1D", "block": lambda: tiny().conv, "bool": True}
MISTAKES = {
    "any net": (NET_WORDS, NETS), "net": (NET_WORDS, {**WHOLE_NETS, "x.shape": lambda: tiny(Shape)}),
    "whole net": (NET_WORDS, WHOLE_NETS), "finite net": (NET_WORDS, {**WHOLE_NETS, **NOT_FINITE}),
    "trained net": (NET_WORDS, {**NETS, **NOT_FINITE}),
    "example": ("example|network", EXAMPLES), "data": (DATA_WORDS, LABELLED),
    "inputs": (DATA_WORDS, INPUTS), "optional inputs": (DATA_WORDS, {k: v for k, v in LABELLED.items() if k != "None"}),
    "optional inputs of data": (DATA_WORDS, {k: v for k, v in INPUTS.items() if k != "None"}),
    "stages of a compression": ("stages", {"text": "rounded", "number": 3, "empty": [], "texts": ["rounded"],
                                           "function": lambda: len, "None inside": [None]}),
    "name of an optimizer": ("optimizer", {"None": None, "unknown": "sgdd", "number": 3,
                                           "object": lambda: mx.optimizer.SGD()}),
    "optional number": ("{name}", {**NUMBERS, "negative": -0.1, "zero": 0.0}),
    "path": ("{name}", PATHS), "optional path": ("{name}|path", {k: v for k, v in PATHS.items() if k != "None"}),
    "any file": ("{name}|network", PATHS),
    "opset": ("{name}", {**INTEGERS, "12": 12, "of the year 2100": 1000}),
    "weights of a file": ("weights|record|Scales", {"unknown": "int3", "narrow": "narrow", "number": 8, "net": tiny,
                                                    "a list": [3], "path": "net.gcz"}),
    "optional names": ("{name}", {"text": "data", "number": 3, "empty": [], "numbers": [1], "twice": ["a", "a"]}),
    "flag": ("{name}", {"no": "no", "None": None, "1": 1, "0": 0, "list": []}),
    "integer": ("{name}", {**INTEGERS, "None": None}), "optional integer": ("{name}", INTEGERS),
    "positive": ("{name}", {**INTEGERS, "None": None, "zero": 0}),
    "optional positive": ("{name}", {**INTEGERS, "zero": 0}),
    "share": ("{name}", {**NUMBERS, "negative": -0.1, "too large": 1.5}),
    "number": ("{name}", {**NUMBERS, "negative": -0.1}),
    "choice": ("{name}", CHOICES), "function": ("{name}", FUNCTION_VALUES), "schedule": ("schedule", SCHEDULES),
    "select": ("select", {**LAYERS, "none": lambda: lambda layer: False}),
    "exclude": ("exclude", {**LAYERS, "all": lambda: lambda layer: True}),
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
    "optional channels": (r"{name}", {"text": "x", "NaN": (NAN,) * 3, "negative": (-1,) * 3, "of 255": (127.5,) * 3,
                                      "one": (0.5,), "number": 0.5, "texts": ("a", "b", "c")}),
    "names": ("{name}", {"text": "cat", "number": 3, "numbers": [1], "bytes": [b"cat"], "None": None}),
    "optional names of classes": ("{name}|nope", {"number": 3, "numbers": [1], "empty": "", "missing": "nope.txt",
                                             "another": ["dog"], "folder": "."}),
    "reasons of files": ("{name}", {"text": "x", "number": 3, "list": ["x"]}),
    "path of data": ("{name}|nope|No such|directory", {**{k: v for k, v in PATHS.items() if k != "folder"},
                                                       "missing": "nope"}),
    "size of images": ("{name}", {"text": "224", "zero": 0, "negative": -1, "fraction": 0.5, "bool": True, "three":
                                  (1, 2, 3), "texts": ("1", "2"), "huge": 10 ** 6, "NaN": NAN, "empty": ()}),
    "images": ("images", {"None": None, "text": "x", "floats": np.ones((4, 6, 6, 3)),
                          "one": np.ones((6, 6, 3), np.uint8),
                          "negative": np.full((4, 6, 6, 3), -1), "256": np.full((4, 6, 6, 3), 256), "empty": []}),
    "labels": ("labels", {"None": None, "2**40": [0, 1, 1, 2 ** 40], "-1": [0, 1, 1, -1], "NaN": [0, 1, 1, NAN],
                          "fraction": [0, 1, 1, 0.5], "text": list("abcd"), "too few": [0, 1],
                          "infinite": [0, 1, 1, np.inf]}),
    "features": ("features|layer", {"text": "conv", "empty": [], "names": ["conv"], "number": 3}),
    "context": ("ctx", {"text": "cpu", "number": 0, "list": [mx.cpu()], "no such device": lambda: mx.gpu(7)}),
    "compared": (f"compared_with|{NET_WORDS}", {
        **{name: value for name, value in NETS.items() if name != "None"}, "empty": {}, "numbers for names": {3: tiny},
        "text inside": {"a": "x"}, "None inside": {"a": None}}),
    "optional data": (DATA_WORDS, {name: value for name, value in LABELLED.items() if name != "None"}),
    "records": ("records", {"None": None, "text": "x", "number": 3, "texts": ["x"], "dict": {"a": 1},
                            "a network": tiny}),
    "optional example": ("example|network", {name: value for name, value in EXAMPLES.items() if name != "None"}),
    "layer": ("{name}", {"None": None, "number": 3, "list": ["conv"]}),
    "weights": ("teacher_weights", {"text": "x", "number": 3, "negative": [-1], "empty": [], "too many": [1, 1],
                                    "NaN": [NAN], "zero": [0], "texts": ["a"]}),
    "optional masks": ("masks", {"text": "x", "dict": {}, "number": 3, "a network": tiny}),
    "reasons": ("left_out", {"text": "x", "number": 3, "list": ["conv"]}),
    "iterable": ("data", {"None": None, "number": 3, "text": "text", "bytes": b"x", "an array": EXAMPLE, "a dict": {}}),
    "importance": ("criterion", {"text": "x", "number": 3, "empty": {}, "unknown": {"nope": np.ones(3)},
                                  "another shape": {"conv": np.ones(3)}, "text inside": {"conv": "x"},
                                  "NaN": {"conv": np.full((4, 3, 3, 3), NAN)}, "gives None": lambda: lambda layer: None,
                                  "gives text": lambda: lambda layer: "x"}),
    "fractions": ("fraction", {"None": None, "text": "x", "number": 0.5, "empty": [], "NaN": [NAN], "too large": [1.5],
                               "texts": ["a"], "negative": [-0.1]}),
    "evaluate": ("evaluate", {"text": "x", "number": 3, "gives text": lambda: lambda net: "x",
                              "gives NaN": lambda: lambda net: NAN, "gives None": lambda: lambda net: None}),
    "details": ("run_details", {"not JSON": {"a": {1}}, "arrays": {"a": np.ones(2)}, "function": lambda: len}),
    "kept": ("kept", {"None": None, "text": "x", "number": 3, "list": ["x"], "texts": {"a": "x"},
                      "None inside": {"a": None}, "numbers for names": {3: np.ones(3)},
                      "ragged": {"a": [[1], [1, 2]]}}),
    "block": (NET_WORDS, {name: value for name, value in NETS.items() if name not in ("Block", "uninitialized")}),
    "any plan net": (NET_WORDS, {name: value for name, value in NETS.items() if name != "uninitialized"}),
    "stages": ("stages", {"None": None, "text": "x", "list": [np.ones(3)], "empty": {}, "texts": {"a": "b"},
                          "None inside": {"a": None}, "zeros": {"a": np.zeros(3)}, "NaN": {"a": np.full(3, NAN)},
                          "not shared": {"a": np.arange(9999)}, "numbers for names": {3: np.ones(3)},
                          "a network": tiny, "no numbers": {"a": np.ones(0)}}),
    "optional weights": ("original", {"text": "x", "zeros": np.zeros(3), "NaN": np.full(3, NAN), "dict": {"a": 1}}),
    "clusters": ("{name}", {**INTEGERS, "zero": 0, "too many": 300, "empty": {}, "unknown": {"nope": 4},
                            "text inside": {"conv": "4"}, "None inside of it": {"conv": None}}),
    "values": ("values|parameter", {"None": None, "text": "x", "number": 3, "list": [1],
                                    "unknown": {"nope": np.ones(4)}, "text inside": {"conv.bias": "x"},
                                    "another shape": {"conv.bias": np.ones(3)}}),
    "input": ("input|network", {"None": None, "text": "x", "number": 3, "NumPy": np.ones((4, 3, 6, 6)),
                                "pixels": PIXELS, "channels last": NHWC, "list": [EXAMPLE]}),
    "prefix": ("path", {"None": None, "empty": "", "number": 3, "list": ["x"]}),
    "codes": ("codes", {"None": None, "text": "x", "fractions": [0.5], "ragged": [[1], [1, 2]]}),
    "scale": ("scale", {"None": None, "text": "x", "NaN": NAN, "several": [1.0, 2.0]}),
    "Gluon trainer": ("trainer", {"None": None, "text": "sgd", "number": 3, "class": lambda: mx.gluon.Trainer}),
    "record": ("record|{name}", {"None": None, "text": "x", "number": 3, "list": [], "dict": {},
                                    "of others": {"a": 1}}),
    "picture": ("path", {**PATHS, "no .png": "chart.jpg", "no ending": "chart"}),
    "optional text": ("{name}", {"number": 3, "list": ["x"], "bytes": b"x", "array": np.ones(2)}),
    "text": ("{name}", {"None": None, "number": 3, "list": ["x"], "bytes": b"x", "array": np.ones(2)}),
    "optional flag": ("{name}", {"no": "no", "1": 1, "0": 0, "list": []}),
    "bars": ("values", {"None": None, "empty": {}, "text": "x", "list": [1, 2], "number": 3, "texts": {"a": "b"},
                        "NaN": {"a": NAN}, "None inside": {"a": None}, "infinite": {"a": np.inf}, "bool": {"a": True},
                        "numbers for names": {3: 1.0}, "arrays": {"a": np.ones(2)}, "a network": tiny}),
    "curves": ("curves", {"None": None, "empty": {}, "text": "x", "list": [(0, 1)], "number": 3, "no points": {"a": []},
                          "None inside": {"a": None}, "numbers": {"a": [1, 2]}, "text inside": {"a": "xy"},
                          "triples": {"a": [(1, 2, 3)]}, "NaN": {"a": [(0, NAN)]}, "texts": {"a": [("0", "1")]},
                          "numbers for names": {3: [(0, 1)]}}),
    "plotted": ("{name}", {"None": None, "text": "x", "number": 3, "dict": {}, "a network": tiny}),
    "folder": ("{name}", {"number": 3, "empty": "", "list": ["x"], "bytes": b"x", "NUL": "a\0b", "bool": True}),
    "url": ("url|address", {"None": None, "number": 3, "empty": "", "bytes": b"https://a/b", "no address": "x", "ftp":
                            "ftp://a/b", "file": "file:///etc/hostname", "no host": "https:///b", "list": ["https://a/b"],
                            "odd": "https://[/b"}),
    "optional address": ("base_url", {"number": 3, "bytes": b"https://a", "list": ["https://a"], "no address": "x",
                                      "empty": ""}),
    "digest": ("sha256", {"text": "x", "number": 3, "short": "0" * 63, "bytes": b"0" * 64, "no digits": "g" * 64}),
    "seconds": ("{name}", {**NUMBERS, "None": None, "negative": -1, "zero": 0}),
    "name": ("name", {"None": None, "number": 3, "unknown": "nope", "empty": "", "list": ["lenet_mnist"],
                      "folder": "../x", "class": mx.gluon.nn.Dense}),
    "contexts": ("ctx", {"text": "cpu", "number": 0, "empty": [], "None inside": [None], "text inside": ["cpu"],
                         "no such device": lambda: mx.gpu(7)}),
    "indices": ("indices", {"None": None, "text": "x", "fractions": [0.5], "out of range": [9], "names": ["a"],
                            "a pair": (0, 1), "too many flags": np.ones(5, bool), "rows": [[0, 1]], "number": 1}),
    "augmentation": ("augment", {"text": "flip", "number": 3, "gives None": lambda: lambda images: None,
                                 "gives floats": lambda: lambda images: images / 255,
                                 "gives fewer": lambda: lambda images: images[:1], "gives 256": lambda: lambda images:
                                 images.astype(int) + 256, "gives one": lambda: lambda images: images[0]}),
    "data set": ("dataset", {"None": None, "text": "x", "list": [], "array": np.ones((4, 6, 6, 3), np.uint8),
                             "Gluon's": lambda: mx.gluon.data.ArrayDataset(np.ones((4, 3)), np.ones(4))}),
    "augmentations": ("augment", {"None": [None], "text": ["flip"], "number": [3], "a list": [[]]}),
    "pixels": ("images", {"None": None, "text": "x", "floats": np.ones((4, 6, 6, 3)),
                          "one": np.ones((6, 6, 3), np.uint8), "NDArray": mx.nd.ones((4, 6, 6, 3)), "list": [1]}),
    "numbers": ("{name}|activation", {"None": None, "text": "x", "texts": ["a"], "NaN": [NAN], "infinite": [np.inf],
                                      "empty": [], "complex": [1j], "1e300": [1e300], "ragged": [[1], [1, 2]],
                                      "NaN in an NDArray": mx.nd.array([NAN])}),
    "axis": ("axis", {"text": "x", "fraction": 0.5, "too large": 1, "too small": -2, "bool": True, "list": [0]}),
    "percentile": ("percentile", {**NUMBERS, "None": None, "zero": 0, "too large": 101, "negative": -1}),
    "batch size": ("batch_size", {**NUMBERS, "None": None, "zero": 0, "negative": -1}),
    "optional mapping": ("{name}", {"text": "x", "number": 3, "list": ["x"]}),
    "rate": ("{name}", {**NUMBERS, "negative": -0.1, "zero": 0, "too small": 1e-10, "too large": 1e4}),
    "drop": ("{name}", {**NUMBERS, "None": None, "negative": -0.1}),
    "optional share": ("{name}", {**NUMBERS, "negative": -0.1, "too large": 1.5}),
    "names of layers": ("layer|{name}", {"None": None, "unknown": "nope", "number": 3, "list": ["conv"]}),
    "int8 net": ("net", {"None": None, "text": "x", "fp32": tiny, "class": lambda: Tiny}),
    "bytes": ("{name}", {"None": None, "text": "x", "number": 3, "list": [1]}),
    "sum": ("{name}", {"None": None, "text": "x", "texts": ["a"], "complex": [1j], "ragged": [[1], [1, 2]]}),
    "parameters": ("parameters", {"None": None, "number": 3, "text": "x", "numbers": [3], "a network": tiny,
                                  "uninitialized": lambda: list(Tiny().collect_params().values())}),
    "description": ("description", {"None": None, "text": "x", "set": {1}, "not JSON": {"a": {1}}, "list": [1]}),
    "array": ("{name}", {"None": None, "number": 3, "text": "x", "NumPy": np.ones(3), "empty": []}),
    "count": ("{name}", {"text": "x", "zero": "0", "negative": "-1", "fraction": "1.5", "empty": ""}),
    "port": ("port", {"text": "x", "zero": "0", "negative": "-1", "large": "65536", "without hosts": "9999"}),
    "hosts": ("hosts", {"missing": "nope.txt", "folder": ".", "empty": ""}),
    "command": ("{name}", {"missing": "no-such-command", "empty": "", "quote": "'", "spaces": " "}),
    "script": ("SCRIPT|script|command", {"none": [], "missing": ["nope.py"], "folder": ["."], "empty": [""]}),
    "shapes": ("accepted", {"text": "x", "number": 3, "NumPy": np.ones((4, 2), np.float32), "rows": mx.nd.ones((3, 2)),
                            "one class": mx.nd.ones((4, 1))}),
}
