"""Leaky ReLUs, PReLUs and signed pooling on integers: the kernels, their simulation and QAT, against NumPy and fp32."""
import gluon_compress as gc  # before mxnet

import mxnet as mx  # noqa: I001
import numpy as np
import pytest
from gluon_compress.errors import RecordError
from gluon_compress.network.graph import Graph
from gluon_compress.network.nodes import Node, variable
from gluon_compress.quantization import IntegerNetwork, QuantizationRecord, prepare_qat, quantize
from gluon_compress.quantization.integers.fusions import Leaky
from gluon_compress.quantization.integers.onednn import saturates
from gluon_compress.quantization.integers.onednn_emitter import Int8Emitter
from gluon_compress.quantization.quantized import Quantized
from gluon_compress.quantization.arithmetic.ranges import Range
from gluon_compress.quantization.integers.simulated_emitter import SimulatedEmitter
from mxnet import autograd, gluon
from mxnet.gluon import nn
from networks import Net, build, exported
from test_integer_kernels import SCALE_ADDED, SCALE_IN, codes_here, codes_of, data, emitter_for

EMITTERS = pytest.mark.parametrize("emitter_class", [Int8Emitter, SimulatedEmitter])
MOVING = {"expand_dims", "squeeze", "Flatten", "slice_axis", "zeros_like", "Concat"}  # if sums saturate


def slopes(net, name, values):
    """Give a PReLU one slope for each channel."""
    getattr(net, name).alpha.set_data(mx.nd.array(values))


def leaky_net(pool="max"):
    """A user's network: BatchNorm and LeakyReLU behind each convolution, pooling behind that."""
    def f(net, F, x):
        x = net.first_pool(F.LeakyReLU(net.first_norm(net.first(x)), act_type="leaky", slope=0.1))
        y = F.LeakyReLU(net.second_norm(net.second(x)), act_type="leaky", slope=0.2)
        y = F.LeakyReLU(net.third(y) + x, act_type="leaky", slope=0.3)
        return net.head(net.second_pool(net.last(y)))
    pooling = {"max": nn.MaxPool2D, "avg": nn.AvgPool2D}[pool]
    return Net(f, first=nn.Conv2D(8, 3), first_norm=nn.BatchNorm(), first_pool=pooling(2),
               second=nn.Conv2D(8, 3, padding=1), second_norm=nn.BatchNorm(), third=nn.Conv2D(8, 3, padding=1),
               last=nn.Conv2D(6, 3), second_pool=pooling(2), head=nn.Dense(4))


def prelu_net():
    """As in MobileFaceNet: 3x3, depthwise and 1x1 convolutions with a PReLU behind each, and a linear shortcut."""
    def f(net, F, x):
        x = net.stem_prelu(net.stem_norm(net.stem(x)))
        y = net.wide_prelu(net.wide_norm(net.wide(x)))
        y = net.deep_prelu(net.deep_norm(net.deep(y)))
        return net.head(net.narrow_norm(net.narrow(y)) + x)
    norms = {f"{name}_norm": nn.BatchNorm() for name in ("stem", "wide", "deep", "narrow")}
    return Net(f, stem=nn.Conv2D(6, 3), wide=nn.Conv2D(12, 1), deep=nn.Conv2D(12, 3, padding=1, groups=12),
               narrow=nn.Conv2D(6, 1), head=nn.Dense(4), stem_prelu=nn.PReLU(in_channels=6),
               wide_prelu=nn.PReLU(in_channels=12), deep_prelu=nn.PReLU(in_channels=12), **norms)


def built(make, seed=0):
    net, example = build(make, (8, 3, 14, 14), seed)
    rng = np.random.default_rng(seed)
    for name in ("stem_prelu", "wide_prelu", "deep_prelu"):
        if hasattr(net, name):
            count = getattr(net, name).alpha.shape[0]
            steep = [2.5] if name == "deep_prelu" else []
            slopes(net, name, np.concatenate([[-0.3, 0, 1], steep, rng.uniform(0, 0.5, count - 3 - len(steep))]))
    return net, example


NETWORKS = {"leaky, max": leaky_net, "leaky, average": lambda: leaky_net("avg"), "prelu": prelu_net}
ALL = pytest.mark.parametrize("make", NETWORKS.values(), ids=NETWORKS)


def operators(net, example):
    return [node.operator for node in Graph(net, example).nodes if node.operator != "null"]


def convolved(rng, layer, scale_in):
    """``(codes and values of the input, codes and scale of the weight, bias, layer node, fp32 result)``."""
    channels, groups, kernel = layer
    limits = Range(scale_in * 127, True)
    x, values = data(rng, (2, channels[0], 7, 7), limits)
    weight = rng.integers(-128, 128, size=(channels[1], channels[0] // groups, kernel, kernel)).astype(np.int8)
    weight[:, 0, 0, 0] = np.where(np.arange(channels[1]) % 3, 127, -128)  # the largest of each channel
    scale = rng.uniform(0.5, 1.5, channels[1]).astype(np.float32) / 400
    bias = rng.normal(size=channels[1]).astype(np.float32)
    padding = kernel // 2
    attributes = {"kernel": (kernel, kernel), "pad": (padding, padding), "num_filter": channels[1],
                  "num_group": groups, "no_bias": True}
    used, unit = codes_here(weight, scale, halved=True)
    sums = mx.nd.Convolution(mx.nd.array(x, dtype="float64"), mx.nd.array(used, dtype="float64"),
                             **attributes).asnumpy()
    unit = (unit.astype(np.float64) * limits.scale)[None, :, None, None]
    real = (sums + np.rint(bias[None, :, None, None] / unit)) * unit
    written = {name: str(value) for name, value in {**attributes, "no_bias": False}.items()}
    node = Node("layer", "Convolution", written, [real.shape], inputs=[(Node("data", "null", {}, [x.shape]), 0)])
    return limits, values, weight, scale, bias, node, real


def assert_codes(found, expected):
    assert np.abs(found - expected).max() <= 1 and (found != expected).mean() < 4e-3  # ties, rounded in float32
    assert len(np.unique(expected)) > 50


@EMITTERS
@pytest.mark.parametrize("slope", [0.25, 0.01, 1.5, -0.5])
@pytest.mark.parametrize("with_sum", [False, True])
def test_leaky_relu_behind_a_convolution(emitter_class, slope, with_sum):
    rng = np.random.default_rng(0)
    limits, values, weight, scale, bias, layer, real = convolved(rng, ((8, 24), 1, 3), SCALE_IN)
    added = Range(SCALE_ADDED * 127, True)
    summand, added_values = data(rng, real.shape, added)
    real = real + summand * added.scale if with_sum else real
    real = np.where(real > 0, real, slope * real)
    limits_out = Range(float(np.abs(real).max() * 0.8), True)  # some are cut off
    emitter = emitter_for(emitter_class, layer, weight, scale, {"layer": bias})
    read, other = (emitter.quantize(f"{name}_codes", (variable(name, ()), 0), of)
                   for name, of in (("x", limits), ("s", added)))
    result = emitter.convolution(layer, read, limits_out, False, other if with_sum else None, Leaky(slope))
    found = codes_of(emitter, result, {}, {"x": values, "s": added_values} if with_sum else {"x": values})
    assert_codes(found, np.clip(np.rint(real / limits_out.scale), -128, 127))


@EMITTERS
@pytest.mark.parametrize("low, high", [(-3, 4), (0.1, 1), (-1, -0.1), (0, 0)])
@pytest.mark.parametrize("layer", [((8, 24), 1, 3), ((16, 16), 16, 3), ((8, 16), 1, 1)])
def test_prelu_behind_a_convolution_is_rounded_once(emitter_class, layer, low, high):
    """Its two or three convolutions of the same codes have no more than one code that is not 0."""
    rng = np.random.default_rng(1)
    limits, values, weight, scale, bias, node, real = convolved(rng, layer, SCALE_IN)
    slope = np.append(rng.uniform(low, high, layer[0][1] - 2), [low, high]).astype(np.float32)
    real = np.where(real > 0, real, slope[None, :, None, None].astype(np.float64) * real)
    limits_out = Range(float(np.abs(real).max() * 0.9), True)
    emitter = emitter_for(emitter_class, node, weight, scale, {"layer": bias})
    read = emitter.quantize("x_codes", (variable("x", ()), 0), limits)
    found = codes_of(emitter, emitter.convolution(node, read, limits_out, leaky=Leaky(slope)), {}, {"x": values})
    assert_codes(found, np.clip(np.rint(real / limits_out.scale), -128, 127))
    if emitter_class is Int8Emitter:
        assert len([name for name in emitter.values if name.endswith("weight")]) == 1 + (low < 0) + (high > 0)


@ALL
def test_integer_networks_are_their_simulation_and_near_fp32(make):
    net, example = built(make)
    int8, simulated = (quantize(net, [example], simulate=simulate, progress=False) for simulate in (False, True))
    expected, found = net(example).asnumpy(), int8(example).asnumpy()
    assert np.linalg.norm(found - expected) < 0.05 * np.linalg.norm(expected)
    assert np.linalg.norm(found - simulated(example).asnumpy()) < 1e-3 * np.linalg.norm(expected)
    assert all(layer["snr"] > 25 for layer in int8.record.layers.values())


@ALL
def test_nothing_in_fp32_lies_between_the_layers(make):
    net, example = built(make)
    found = operators(quantize(net, [example], progress=False), example)
    assert set(found) <= {"_contrib_quantize_v2", "_sg_mkldnn_conv", "_contrib_quantized_pooling",
                          "_contrib_quantized_flatten", "_sg_mkldnn_fully_connected", *(MOVING if saturates() else ())}
    assert found.count("_contrib_quantize_v2") == 1


@ALL
def test_saved_networks_compute_the_same(make, tmp_path):
    net, example = built(make)
    int8 = quantize(net, [example], progress=False)
    gc.save(tmp_path / "net.gcz", int8)
    assert np.array_equal(gc.load(tmp_path / "net.gcz")(example).asnumpy(), int8(example).asnumpy())


@ALL
@pytest.mark.parametrize("bits", [8, 4])
def test_qat_begins_with_what_quantize_makes_and_converts_to_what_it_learned(make, bits):
    net, example = built(make)
    qat = prepare_qat(net, [example], bits=bits, progress=False)
    ptq = quantize(net, [example], bits=bits, correct_bias=False, simulate=True, progress=False)
    largest = np.abs(ptq(example).asnumpy()).max()
    before = qat(example).asnumpy()
    if bits == 8 and not saturates():  # scales are computed in the graph and in NumPy
        assert np.linalg.norm(before - ptq(example).asnumpy()) < 0.02 * np.linalg.norm(before)
    trainer = gluon.Trainer(qat.collect_params(), "adam", {"learning_rate": 0.003})
    for _ in range(4):
        with autograd.record():
            loss = (qat(example) - 1).square().mean()
        loss.backward()
        trainer.step(1)
    trained = qat(example).asnumpy()
    assert np.abs(trained - before).max() > 0.01 * largest
    assert all(parameter.grad().asnumpy().any() for name, parameter in qat.collect_params().items() if "alpha" in name)
    converted = qat.convert(simulate=True)(example).asnumpy()
    exact = 0.02 if bits == 8 and not saturates() else 0.1
    assert np.linalg.norm(converted - trained) < exact * np.linalg.norm(trained)


def test_prelu_behind_a_convolution_of_many_products_stays_fp32():
    """That would run three times."""
    net, example = build(Net, (2, 200, 5, 5), function=lambda net, F, x: net.head(net.act(net.conv(x))),
                         conv=nn.Conv2D(8, 3), act=nn.PReLU(in_channels=8), head=nn.Dense(3))
    slopes(net, "act", np.linspace(-1, 1, 8))
    int8 = quantize(net, [example], progress=False)
    ((name, island),) = int8.record.islands.items()
    assert island["operator"] == "LeakyReLU" and "more than once" in island["reason"]
    assert "activation" not in int8.record.layers["conv"]


def test_a_prelu_of_one_slope_is_a_leaky_relu():
    net, example = build(Net, (4, 3, 8, 8), function=lambda net, F, x: net.head(net.act(net.conv(x))),
                         conv=nn.Conv2D(5, 3), act=nn.PReLU(), head=nn.Dense(3))
    int8 = quantize(net, [example], progress=False)
    assert operators(int8, example).count("_sg_mkldnn_conv") == 1 and "LeakyReLU" not in operators(int8, example)
    assert int8.record.layers["conv"]["activation"] == "prelu"


def test_symbol_blocks_keep_their_activations_on_integers(tmp_path):
    net, example = built(prelu_net)
    block = exported(net, example, tmp_path)
    assert np.array_equal(quantize(block, [example], progress=False)(example).asnumpy(),
                          quantize(net, [example], progress=False)(example).asnumpy())


def made_again(int8, record):
    """The network that a file with this record stands for."""
    records = {"quantization": record, "scales": int8.scales}
    return IntegerNetwork(Quantized.from_tensors(int8.graph, int8.quantized.tensors(), records))


def test_records_without_activations_are_lowered_as_they_were_made():
    """A file from before knows the ranges of the convolutions alone: their activations stay fp32."""
    net, example = built(prelu_net)
    int8 = quantize(net, [example], progress=False)
    record = int8.record.to_dict()
    for layer in record["layers"].values():
        layer.pop("activation", None)
    old = made_again(int8, QuantizationRecord.from_dict(record))
    assert operators(old, example).count("LeakyReLU") == 3


@pytest.mark.parametrize("activation", ["relu", 3, True])
def test_records_of_other_activations_are_refused(activation):
    net, example = built(leaky_net)
    record = quantize(net, [example], progress=False).record.to_dict()
    record["layers"]["first"]["activation"] = activation
    with pytest.raises(RecordError, match=r"first'\].activation"):
        QuantizationRecord.from_dict(record)


def test_records_of_activations_that_are_not_there_are_refused():
    net, example = built(leaky_net)
    int8 = quantize(net, [example], progress=False)
    int8.record.layers["last"]["activation"] = "leaky"
    with pytest.raises(RecordError, match="last is another layer"):
        made_again(int8, int8.record)
