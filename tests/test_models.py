"""The articles' networks have the articles' shapes, parameters and costs."""
import json

import numpy as np
import pytest
from gluon_compress import models

import mxnet as mx
from mxnet.gluon import SymbolBlock
from mxnet.gluon.model_zoo import vision


def parameters_and_macs(net, shape):
    """Trained parameters, and multiplications of convolutions and dense layers, read off the graph."""
    symbol = net(mx.sym.var("data"))
    arguments, _, _ = symbol.infer_shape(data=(1, *shape))
    sizes = dict(zip(symbol.list_arguments(), arguments, strict=True))
    internals = symbol.get_internals()
    _, outputs, _ = internals.infer_shape(data=(1, *shape))
    output_shapes = dict(zip(internals.list_outputs(), outputs, strict=True))
    nodes = json.loads(symbol.tojson())["nodes"]
    macs = 0
    for node in nodes:
        if node["op"] in ("Convolution", "FullyConnected"):
            weight = sizes[nodes[node["inputs"][1][0]]["name"]]
            positions = np.prod(output_shapes[f"{node['name']}_output"][2:], dtype=int)
            macs += int(np.prod(weight)) * int(positions)
    return sum(int(np.prod(size)) for name, size in sizes.items() if name != "data"), macs


def conv(in_channels, out_channels, kernel, side, bias=True):
    """(parameters, MACs) of a convolution that puts out ``side`` x ``side``."""
    weights = in_channels * out_channels * kernel * kernel
    return weights + bias * out_channels, weights * side * side


def dense(in_units, units):
    return in_units * units + units, in_units * units


def norm(channels):
    return 2 * channels, 0  # scale and shift; the running statistics are not trained


def total(*layers):
    return tuple(map(sum, zip(*layers, strict=True)))


def basic_stage(in_channels, channels, side, blocks):
    layers = []
    for block in range(blocks):
        first = in_channels if block == 0 else channels
        layers += [conv(first, channels, 3, side, False), norm(channels),
                   conv(channels, channels, 3, side, False), norm(channels)]
        if first != channels:
            layers += [conv(first, channels, 1, side, False), norm(channels)]
    return total(*layers)


def bottleneck_stage(in_channels, channels, side, blocks):
    """He et al.'s v1: the stride is in the first 1x1 convolution, so all of the block runs at ``side``."""
    layers, middle = [], channels // 4
    for block in range(blocks):
        first = in_channels if block == 0 else channels
        layers += [conv(first, middle, 1, side, False), norm(middle), conv(middle, middle, 3, side, False),
                   norm(middle), conv(middle, channels, 1, side, False), norm(channels)]
        if block == 0:
            layers += [conv(first, channels, 1, side, False), norm(channels)]
    return total(*layers)


ALEXNET = [conv(3, 96, 11, 54), conv(96, 256, 5, 26), conv(256, 384, 3, 12), conv(384, 384, 3, 12),
           conv(384, 256, 3, 12), dense(256 * 5 * 5, 4096), dense(4096, 4096), dense(4096, 1000)]
RESNET_STEM = [conv(3, 64, 7, 112, False), norm(64)]
COSTS = [
    ("LeNet", {}, (1, 28, 28), total(
        conv(1, 20, 5, 24), conv(20, 50, 3, 10), dense(1250, 128), dense(128, 10)), 170_988),
    ("SimpleCNN", {}, (1, 28, 28), total(
        conv(1, 10, 5, 24), conv(10, 20, 5, 8), dense(320, 50), dense(50, 10)), 21_840),
    ("LeNet300100", {}, (1, 28, 28), total(dense(784, 300), dense(300, 100), dense(100, 10)), 266_610),
    ("LeNet5Caffe", {}, (1, 28, 28), total(
        conv(1, 20, 5, 24), conv(20, 50, 5, 8), dense(800, 500), dense(500, 10)), 431_080),
    ("AlexNet", {}, (3, 224, 224), total(*ALEXNET), None),
    ("AlexNet", {"classes": 10, "hidden_units": 64}, (3, 67, 67), total(
        conv(3, 96, 11, 15), conv(96, 256, 5, 7), conv(256, 384, 3, 3), conv(384, 384, 3, 3),
        conv(384, 256, 3, 3), dense(256, 64), dense(64, 64), dense(64, 10)), None),
    ("SmallConvNet", {"classes": 10}, (3, 32, 32), total(
        conv(3, 32, 3, 32), norm(32), dense(32 * 16 * 16, 10)), 82_890),
    ("ResNet", {"depth": 18}, (3, 224, 224), total(
        *RESNET_STEM, basic_stage(64, 64, 56, 2), basic_stage(64, 128, 28, 2), basic_stage(128, 256, 14, 2),
        basic_stage(256, 512, 7, 2), dense(512, 1000)), 11_689_512),
    ("ResNet", {"depth": 34}, (3, 224, 224), total(
        *RESNET_STEM, basic_stage(64, 64, 56, 3), basic_stage(64, 128, 28, 4), basic_stage(128, 256, 14, 6),
        basic_stage(256, 512, 7, 3), dense(512, 1000)), 21_797_672),
    ("ResNet", {"depth": 50}, (3, 224, 224), total(
        *RESNET_STEM, bottleneck_stage(64, 256, 56, 3), bottleneck_stage(256, 512, 28, 4),
        bottleneck_stage(512, 1024, 14, 6), bottleneck_stage(1024, 2048, 7, 3), dense(2048, 1000)),
     25_557_032),
    ("ResNet", {"depth": 18, "classes": 10, "thumbnail": True, "width": 32}, (3, 32, 32), total(
        conv(3, 32, 3, 32, False), norm(32), basic_stage(32, 32, 32, 2), basic_stage(32, 64, 16, 2),
        basic_stage(64, 128, 8, 2), basic_stage(128, 256, 4, 2), dense(256, 10)), None),
]
SMALL = [  # small enough to run: (class, arguments, input shape)
    ("LeNet", {}, (1, 28, 28)), ("SimpleCNN", {}, (1, 28, 28)), ("LeNet300100", {}, (1, 28, 28)),
    ("LeNet300100", {"classes": 7}, (784,)), ("LeNet5Caffe", {}, (1, 28, 28)),
    ("AlexNet", {"classes": 10, "hidden_units": 32}, (3, 67, 67)),
    ("SmallConvNet", {"classes": 10}, (3, 32, 32)),
    ("ResNet", {"depth": 18, "classes": 10, "thumbnail": True, "width": 4}, (3, 32, 32)),
    ("ResNet", {"depth": 34, "classes": 10, "width": 4}, (3, 64, 64)),
    ("ResNet", {"depth": 50, "classes": 10, "thumbnail": True, "width": 4}, (3, 32, 32))]


def build(name, arguments, seed=0):
    mx.random.seed(seed)
    net = getattr(models, name)(**arguments)
    net.initialize(mx.init.Xavier())
    return net


def example(shape, batch=2):
    return mx.nd.array(np.random.RandomState(0).standard_normal((batch, *shape)))


@pytest.mark.parametrize("name, arguments, shape, expected, documented", COSTS)
def test_parameters_and_macs_by_hand(name, arguments, shape, expected, documented):
    found = parameters_and_macs(getattr(models, name)(**arguments), shape)
    assert found == expected
    if documented is not None:
        assert found[0] == documented
        assert f"{documented:,}" in getattr(models, name).__doc__


def test_nine_tenths_of_alexnet_are_dense():
    parameters, _ = zip(*ALEXNET, strict=True)
    assert 0.9 < sum(parameters[5:]) / sum(parameters) < 0.95


@pytest.mark.parametrize("name, arguments, shape", SMALL)
def test_output_is_a_row_of_logits_per_sample(name, arguments, shape):
    output = build(name, arguments)(example(shape, batch=3))
    assert output.shape == (3, arguments.get("classes", 10))
    assert (output.asnumpy() < 0).any() and np.isfinite(output.asnumpy()).all()


@pytest.mark.parametrize("name, arguments, shape", SMALL)
def test_exported_and_imported_it_computes_the_same(tmp_path, name, arguments, shape):
    net, inputs = build(name, arguments), example(shape)
    expected = net(inputs).asnumpy()
    net.hybridize()
    np.testing.assert_allclose(net(inputs).asnumpy(), expected, rtol=1e-4, atol=1e-5)
    prefix = str(tmp_path / "net")
    net.export(prefix)
    imported = SymbolBlock.imports(f"{prefix}-symbol.json", ["data"], f"{prefix}-0000.params")
    np.testing.assert_allclose(imported(inputs).asnumpy(), expected, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("depth, theirs", [(18, vision.resnet18_v1), (34, vision.resnet34_v1)])
def test_resnet_computes_what_gluons_own_does(depth, theirs):
    theirs, ours = theirs(classes=10), models.ResNet(depth, classes=10)
    theirs.initialize(mx.init.Xavier())
    ours.initialize()
    inputs = example((3, 64, 64))
    theirs(inputs), ours(inputs)  # the shapes are known from now on
    random = np.random.RandomState(1)
    pairs = zip(theirs.collect_params().values(), ours.collect_params().values(), strict=True)
    for source, target in pairs:  # both list a block's shortcut after its body
        kind = source.name.split("_")[-1]
        assert source.shape == target.shape and kind == target.name.split("_")[-1]
        values = source.data().asnumpy()
        if kind in ("gamma", "var"):
            values = random.uniform(0.5, 1.5, values.shape)
        elif kind in ("beta", "mean"):
            values = random.normal(0, 0.1, values.shape)
        source.set_data(mx.nd.array(values))
        target.set_data(mx.nd.array(values))
    expected = theirs(inputs).asnumpy()
    tolerance = 1e-4 * np.abs(expected).max()
    np.testing.assert_allclose(ours(inputs).asnumpy(), expected, rtol=1e-3, atol=tolerance)


@pytest.mark.parametrize("name, attributes", [
    ("LeNet", ["conv", "dense"]), ("SimpleCNN", ["conv1", "conv2", "fc1", "fc2"]),
    ("AlexNet", ["features", "dense"]),
    ("ResNet", ["features", "output"]), ("SmallConvNet", ["features", "output"]),
    ("LeNet5Caffe", ["features", "output"]), ("LeNet300100", ["features", "output"])])
def test_attributes_carry_the_articles_names(name, attributes):
    net = getattr(models, name)()
    assert list(net._children) == attributes
    assert {parameter.split(".")[0] for parameter in net._collect_params_with_prefix()} == set(attributes)


def test_two_instances_have_the_same_structural_names(tmp_path):
    first, second = build("LeNet", {}), build("LeNet", {}, seed=1)
    inputs = example((1, 28, 28))
    first(inputs)
    first.save_parameters(str(tmp_path / "lenet.params"))
    second.load_parameters(str(tmp_path / "lenet.params"))
    np.testing.assert_array_equal(second(inputs).asnumpy(), first(inputs).asnumpy())


@pytest.mark.parametrize("depth", [0, 20, 101, "18", None])
def test_unknown_depth_is_refused(depth):
    with pytest.raises(ValueError, match="depth is .*; accepted: 18, 34, 50"):
        models.ResNet(depth=depth)
