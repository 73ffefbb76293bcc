"""Cross-layer equalization: the network computes the same, and its integers more."""
import gluon_compress as gc  # noqa: F401 - before mxnet

import mxnet as mx  # noqa: I001
import numpy as np
import pytest
from gluon_compress.models import AlexNet, LeNet, ResNet
from gluon_compress.quantization import quantize
from gluon_compress.network.blocks import block_of
from gluon_compress.quantization.equalization import EXPONENTS, find_pairs
from gluon_compress.quantization.quantizer import Quantizer
from mxnet.gluon import nn
from mxnet.gluon.model_zoo import vision
from networks import Net, NormNet, SharedWeights, build, identical, values

CHANNELS = 8


def chain(middle=None, second=None):
    """Two convolutions with something between them, and a dense layer."""
    middle = middle or (lambda F, x: F.relu(x))
    return Net(lambda net, F, x: net.dense(F.relu(net.second(middle(F, net.first(x))))),
               first=nn.Conv2D(CHANNELS, 3), second=second or nn.Conv2D(6, 3), dense=nn.Dense(4))


def uneven(net, factors):
    """The same network with channel i of ``first`` multiplied by factor i, and divided again in ``second``."""
    for parameter in net.first.weight, net.first.bias:
        value = parameter.data()
        parameter.set_data(value * mx.nd.array(factors).reshape((-1, *[1] * (value.ndim - 1))))
    shape = (-1, 1, 1, 1) if net.second.weight.shape[1] == 1 else (1, -1, 1, 1)
    net.second.weight.set_data(net.second.weight.data() / mx.nd.array(factors).reshape(shape))


def quantizer_of(net, example):
    return Quantizer(net, [example], None)


def equalized(net, example):
    """``(parameters before, Quantizer with channels rescaled)``."""
    quantizer = quantizer_of(net, example)
    return dict(quantizer.values), quantizer.equalized(progress=False)


def pairs_of(net, example):
    quantizer = quantizer_of(net, example)
    return [(pair.first.name, pair.second.name) for pair in find_pairs(quantizer.graph, quantizer.inference)]


@pytest.mark.parametrize("network, shape, count", [
    (LeNet, (8, 1, 28, 28), 3), (lambda: AlexNet(10, 32), (2, 3, 67, 67), 7), (NormNet, (16, 3, 8, 8), 1),
    (lambda: ResNet(18, 10, thumbnail=True, width=8), (8, 3, 16, 16), 8),
    (lambda: vision.mobilenet0_25(classes=5), (4, 3, 32, 32), 27)])
def test_the_network_computes_the_same(network, shape, count):
    net, example = build(network, shape)
    before = values(net)
    weights, quantizer = equalized(net, example)
    assert len(quantizer.notes) == count
    pairs = sum(note.startswith("equalized") for note in quantizer.notes)
    same = block_of(quantizer.inference.outputs, quantizer.inference.inputs, quantizer.values)
    expected = net(example).asnumpy()
    np.testing.assert_allclose(same(example).asnumpy(), expected, rtol=1e-3, atol=1e-4 * np.abs(expected).max())
    changed = [name for name, value in quantizer.values.items() if not np.array_equal(value, weights[name])]
    assert len(changed) >= pairs > 0
    assert identical(before, values(net))


@pytest.mark.parametrize("second", ["dense", "depthwise"])
def test_uneven_channels_are_evened_out(second):
    """Channels a thousand times apart leave one scale for all of them nothing of the small ones."""
    layer = nn.Conv2D(6, 3) if second == "dense" else nn.Conv2D(CHANNELS, 3, groups=CHANNELS)
    net, example = build(chain, (32, 3, 10, 10), second=layer)
    expected = net(example)
    uneven(net, 10.0 ** np.linspace(-1.5, 1.5, CHANNELS))
    np.testing.assert_allclose(net(example).asnumpy(), expected.asnumpy(), rtol=1e-3, atol=1e-3)
    errors = {}
    for equalize in (False, True):
        int8 = quantize(net, [example], equalize=equalize, progress=False)
        errors[equalize] = np.linalg.norm((int8(example) - expected).asnumpy()) / np.linalg.norm(expected.asnumpy())
    assert errors[True] < 0.03 < 3 * errors[True] < errors[False]
    assert "equalized: first -> second" in str(int8.record)


def test_factors_are_a_power_of_the_formula():
    net, example = build(chain, (16, 3, 10, 10))
    uneven(net, np.linspace(0.1, 3, CHANNELS))
    before, quantizer = equalized(net, example)
    found = before["first.weight"][:, 0, 0, 0] / quantizer.values["first.weight"][:, 0, 0, 0]
    largest = mx.nd.relu(net.first(example)).asnumpy().max(axis=(0, 2, 3))
    weight = np.abs(before["second.weight"])
    shares = [max(weight[o, i].max() / weight[o].max() for o in range(6)) for i in range(CHANNELS)]
    formula = np.sqrt(largest / shares)
    formula /= np.exp(np.log(formula).mean())
    assert min(np.abs(np.log(found) - exponent * np.log(formula)).max() for exponent in EXPONENTS) < 1e-3
    np.testing.assert_allclose(before["first.bias"] / quantizer.values["first.bias"], found, rtol=1e-4)


def test_channels_that_are_never_used_keep_their_scale():
    net, example = build(chain, (16, 3, 10, 10))
    uneven(net, np.linspace(0.1, 3, CHANNELS))
    weight, bias = net.first.weight.data(), net.first.bias.data()
    weight[3], bias[3] = 0, -1
    net.first.weight.set_data(weight)
    net.first.bias.set_data(bias)
    _, quantizer = equalized(net, example)
    assert quantizer.values["first.bias"][3] == -1
    assert all(np.isfinite(value).all() for value in quantizer.values.values())


def test_behind_a_relu6_small_channels_grow_and_nothing_is_cut():
    """Up to what is seen in calibration the network computes the same; the largest channel keeps its scale."""
    layer = nn.Conv2D(CHANNELS, 3, groups=CHANNELS)
    net, example = build(chain, (16, 3, 10, 10), middle=lambda F, x: F.clip(x, 0, 6), second=layer)
    net.first.weight.set_data(net.first.weight.data() / 4)
    uneven(net, np.geomspace(0.02, 1, CHANNELS))
    expected = net(example).asnumpy()
    before, quantizer = equalized(net, example)
    factor = before["first.weight"][:, 0, 0, 0] / quantizer.values["first.weight"][:, 0, 0, 0]
    largest = net.first(example).asnumpy().max(axis=(0, 2, 3))
    assert factor.max() == pytest.approx(1) and factor.min() < 0.3 and (largest / factor < 6.001).all()
    same = block_of(quantizer.inference.outputs, quantizer.inference.inputs, quantizer.values)
    np.testing.assert_allclose(same(example).asnumpy(), expected, atol=1e-4 * np.abs(expected).max())
    errors = [np.linalg.norm(quantize(net, [example], equalize=equalize, progress=False)(example).asnumpy() - expected)
              for equalize in (False, True)]
    assert errors[1] < 0.7 * errors[0]


def test_pairs_without_a_gain_are_named_and_stay():
    """All channels alike: nothing can be won."""
    net, example = build(chain, (16, 3, 10, 10))
    for layer in net.first, net.second, net.dense:
        layer.weight.set_data(mx.nd.ones_like(layer.weight.data()))
        layer.bias.set_data(mx.nd.ones_like(layer.bias.data()))
    record = quantize(net, [example], equalize=True, progress=False).record
    assert any(note.startswith("not equalized") and note.endswith("first -> second") for note in record.notes)


@pytest.mark.parametrize("seed", range(6))
def test_outputs_on_the_calibration_data_are_never_further_off(seed):
    net, example = build(chain, (16, 3, 10, 10), seed)
    expected = net(example).asnumpy()
    networks = [quantize(net, [example], equalize=equalize, progress=False) for equalize in (False, True)]
    errors = [np.linalg.norm(network(example).asnumpy() - expected) for network in networks]
    kept = any(note.startswith("equalized:") for note in networks[1].record.notes)
    assert errors[1] < errors[0] if kept else errors[1] == errors[0]
    assert kept or any(note.startswith(("equalization was tried and not kept", "not equalized"))
                       for note in networks[1].record.notes)


def test_networks_with_depthwise_convolutions_are_equalized_by_default():
    net, example = build(chain, (16, 3, 10, 10), second=nn.Conv2D(CHANNELS, 3, groups=CHANNELS))
    uneven(net, 10.0 ** np.linspace(-1.5, 1.5, CHANNELS))
    assert any("equalized" in note for note in quantize(net, [example], progress=False).record.notes)
    assert not quantize(net, [example], equalize=False, progress=False).record.notes
    dense, example = build(chain, (16, 3, 10, 10))
    assert not quantize(dense, [example], progress=False).record.notes


@pytest.mark.parametrize("middle, possible", [
    (lambda F, x: x, True), (lambda F, x: F.LeakyReLU(x, act_type="leaky", slope=0.3), True),
    (lambda F, x: F.Pooling(F.relu(x), kernel=(2, 2), pool_type="avg"), True),
    (lambda F, x: F.UpSampling(x, scale=2, sample_type="nearest") * 0.25, True), (lambda F, x: F.relu(x) * -1, False),
    (lambda F, x: F.contrib.BilinearResize2D(x / 4, height=5, width=5), True),
    (lambda F, x: F.clip(x, 0, 6), True), (lambda F, x: F.clip(x, -6, 6), False), (lambda F, x: F.sigmoid(x), False),
    (lambda F, x: F.relu(x) + F.relu(x) * 0.5, False), (lambda F, x: F.LeakyReLU(x, act_type="elu"), False)])
def test_what_lies_between_decides(middle, possible):
    net, example = build(chain, (4, 3, 10, 10), middle=middle)
    pairs = pairs_of(net, example)
    assert (("first", "second") in pairs) is possible and ("second", "dense") in pairs


@pytest.mark.parametrize("middle", [lambda F, x: F.clip(x, 0, 6) * 0.5, lambda F, x: F.clip(x * 8, 0, 6) / 0.25,
                                    lambda F, x: F.UpSampling(F.clip(x / 4, 0, 6), scale=2, sample_type="nearest") * 3])
def test_scaling_around_a_relu6_moves_its_ceiling_and_nothing_is_cut(middle):
    net, example = build(chain, (16, 3, 10, 10), middle=middle)
    uneven(net, np.geomspace(0.02, 1, CHANNELS))
    net.second.weight.set_data(net.second.weight.data() * mx.nd.array(np.geomspace(1, 0.02, CHANNELS)).reshape(
        (1, -1, 1, 1)))  # so that the small channels are to grow as far as they may
    expected = net(example).asnumpy()
    before, quantizer = equalized(net, example)
    assert not np.array_equal(before["first.weight"], quantizer.values["first.weight"])
    same = block_of(quantizer.inference.outputs, quantizer.inference.inputs, quantizer.values)
    np.testing.assert_allclose(same(example).asnumpy(), expected, atol=1e-4 * np.abs(expected).max())


def test_layers_that_are_used_twice_or_read_elsewhere_stay():
    assert pairs_of(*build(SharedWeights)) == []
    net, example = build(Net, (4, 6), function=lambda net, F, x: (net.b(net.a(x)), net.a(x)), a=nn.Dense(5),
                         b=nn.Dense(3))
    assert pairs_of(net, example) == []
    net, example = build(Net, (4, 6), function=lambda net, F, x: _with_output(net, F, x), a=nn.Dense(5), b=nn.Dense(3))
    assert pairs_of(net, example) == []


def _with_output(net, F, x):
    hidden = F.relu(net.a(x))
    return net.b(hidden), hidden
