"""Structured pruning of the networks of two model zoos, each with random weights and a small input."""
import inspect
import json
import re
from pathlib import Path

import gluon_compress  # noqa: F401

import mxnet as mx  # noqa: I001
import numpy as np
import pytest
from gluon_compress.pruning import prune_channels
from gluoncv.model_zoo import get_model
from mxnet.gluon.model_zoo import vision
from networks import assert_close, exported, randomize, zero_removed

RECORDED = Path(__file__).resolve().parent.parent / "benchmarks" / "results" / "zoo_channels.json"
SMALL = {"resnet": 32, "vgg": 32, "mobilenet": 32, "alexnet": 64, "densenet": 224, "squeezenet": 224,
         "inceptionv3": 299}
# Every kind of block; further networks of the zoo have more of the same blocks, or other widths.
NETWORKS = """
    resnet18_v1 resnet50_v1 resnet18_v2 resnet50_v2 vgg11 vgg11_bn alexnet densenet121 squeezenet1.0 squeezenet1.1
    inceptionv3 mobilenet0.25 mobilenetv2_0.25""".split()
MORE = """
    resnet34_v1 resnet101_v1 resnet152_v1 resnet34_v2 resnet101_v2 resnet152_v2 vgg13 vgg16 vgg19 vgg13_bn vgg16_bn
    vgg19_bn densenet161 densenet169 densenet201 mobilenet1.0 mobilenet0.75 mobilenet0.5 mobilenetv2_1.0
    mobilenetv2_0.75 mobilenetv2_0.5""".split()
GLUONCV = {  # name: (input size, arguments, layers that keep all their channels)
    "resnext50_32x4d": (32, {"classes": 10}, "output"),
    "se_resnext50_32x4d": (32, {"classes": 10}, "output"),
    "mobilenetv3_small": (32, {"classes": 10}, "output"),
    "cifar_resnet20_v1": (32, {}, "output"),
    "resnest50": (32, {"classes": 10}, "fc layer"),
    "fcn_resnet50_voc": (32, {"pretrained_base": False}, "head.block.4 auxlayer.block.4"),
    "yolo3_mobilenet1.0_voc": (32, {"pretrained_base": False}, "yolo_outputs"),
    "center_net_resnet18_v1b_voc": (32, {"pretrained_base": False}, "heads"),
    "simple_pose_resnet18_v1b": (32, {"pretrained_base": False}, "final_layer"),
}


def build(make, name, size, batch=1, **arguments):
    """(net, example): weights that keep the size of what passes through, random biases, scales and statistics."""
    mx.random.seed(0)
    net = make(name, pretrained=False, **arguments)
    net.collect_params().setattr("grad_req", "null")
    net.initialize(mx.init.Xavier(magnitude=6))
    example = mx.nd.random.normal(shape=(batch, 3, size, size))
    net(example)
    randomize(net)
    return net, example


def copy_with(values, make, name, **arguments):
    """The same network with these parameters."""
    net = make(name, pretrained=False, **arguments)
    parameters = net._collect_params_with_prefix()
    assert parameters.keys() == values.keys()
    for key, value in values.items():
        parameters[key].grad_req = "null"
        parameters[key].shape = value.shape
        parameters[key].initialize(mx.init.Constant(value), force_reinit=True)  # gluoncv did it already
    return net


def copies(net):
    """{structural name: copy} of all parameters."""
    return {name: parameter.data().copy() for name, parameter in net._collect_params_with_prefix().items()}


def flat(outputs):
    """All NDArrays in nested lists and tuples of outputs."""
    return [outputs] if isinstance(outputs, mx.nd.NDArray) else [array for part in outputs for array in flat(part)]


def test_the_lists_are_the_model_zoo_and_all_of_it_was_pruned_once():
    """By benchmarks/zoo_channels.py, which takes hours."""
    known = sorted(re.findall(r"'([\w.]+)': \w+,?", inspect.getsource(vision.get_model)))
    assert known == sorted(NETWORKS + MORE)
    rows = json.loads(RECORDED.read_text())["rows"]
    assert all(rows[f"gluon/{name}"]["agrees"] for name in known)


@pytest.mark.parametrize("name", NETWORKS)
def test_model_zoo(name):
    size = next(size for family, size in SMALL.items() if name.startswith(family))
    net, example = build(vision.get_model, name, size, classes=10)
    original = copy_with(copies(net), vision.get_model, name, classes=10)
    before = net(example)
    plan = prune_channels(net, example, 0.4, round_to=1)
    output = {"squeezenet": "output.0", "mobilenetv2": "output.0"}.get(name.split("_")[0].rstrip("01."), "output")
    assert plan.left_out == {output: "its channels are the network's output"}
    for layer, layout in plan.layers.items():
        assert len(layout["kept"]) == layout["before"] - round(0.4 * layout["before"]) or "densenet" in name, layer
    zero_removed(original, plan)
    assert_close(net(example), original(example))
    assert not np.allclose(before.asnumpy(), net(example).asnumpy(), rtol=1e-2)


@pytest.mark.parametrize("name", ["resnet18_v2", "mobilenetv2_0.25", "squeezenet1.1", "densenet121"])
def test_model_zoo_exported(name, tmp_path):
    """The SymbolBlock loses the same channels as the network that it was exported from."""
    size = next(size for family, size in SMALL.items() if name.startswith(family))
    net, example = build(vision.get_model, name, size, classes=10)
    block = exported(net, example, tmp_path)
    plan, of_block = (prune_channels(each, example, macs=0.5, round_to=1) for each in (net, block))
    assert [layer["kept"] for layer in plan.layers.values()] == [layer["kept"] for layer in of_block.layers.values()]
    assert_close(block(example), net(example))


@pytest.mark.parametrize("name", GLUONCV)
def test_gluoncv(name):
    size, arguments, stays = GLUONCV[name]
    net, example = build(get_model, name, size, **arguments)
    original = copy_with(copies(net), get_model, name, **arguments)
    plan = prune_channels(net, example, 0.5, round_to=1)
    assert all(layer.startswith(tuple(stays.split())) for layer in plan.left_out), plan.left_out
    zero_removed(original, plan)
    assert_close(flat(net(example)), flat(original(example)))
