"""What MXNet's integer kernels compute, code by code, against NumPy in integers and double precision."""

import gluon_compress  # noqa: F401

import mxnet as mx  # noqa: I001
import numpy as np
import pytest
from gluon_compress.network.nodes import Node, in_order, nodes_of, symbol_of, variable
from gluon_compress.quantization import quantize
from gluon_compress.network.blocks import block_of
from gluon_compress.quantization.integers.narrow import halved_codes, narrow_codes
from gluon_compress.quantization.integers.narrow_emitter import fitting
from gluon_compress.quantization.integers.onednn import loses_five, saturates, threshold_for, weight_codes, weight_for
from gluon_compress.quantization.integers.onednn_emitter import Int8Emitter
from gluon_compress.quantization.arithmetic.ranges import Range
from gluon_compress.quantization.integers.simulated_emitter import SimulatedEmitter
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from mxnet.gluon import nn

EMITTERS = pytest.mark.parametrize("emitter_class", [Int8Emitter, SimulatedEmitter])
SCALE_IN, SCALE_ADDED = 0.011, 0.023


def codes_of(emitter, integers, values, inputs):
    """The codes that an integer tensor holds, read through dequantization."""
    head = emitter.dequantize("end", integers)
    out = block_of([head], list(inputs), {**values, **emitter.values})(*inputs.values()).asnumpy()
    found = out / integers.range.scale
    assert np.abs(found - np.rint(found)).max() < 1e-3
    return np.rint(found)


def codes_here(weight, scale, halved, depthwise=False):
    """Codes and scales that a layer has on this processor."""
    if not saturates() or depthwise and not halved:
        return weight, scale
    return (halved_codes if halved else narrow_codes)(weight, scale)


def emitter_for(emitter_class, layer, weight, scale, biases=None):
    return fitting(emitter_class, [layer], saturates())({"layer": (weight, scale)}, biases or {})


def rounded(real, limits, relu):
    low, high = limits.codes
    return np.clip(np.rint((np.maximum(real, 0) if relu else real) / limits.scale), low, high)


def data(rng, shape, limits):
    """Integers over the whole range, as fp32 multiples of the scale."""
    codes = rng.integers(limits.codes[0], limits.codes[1] + 1, size=shape)
    return codes, mx.nd.array(codes * limits.scale)


@EMITTERS
@pytest.mark.parametrize("signed", [False, True])
@pytest.mark.parametrize("relu", [False, True])
@pytest.mark.parametrize("bias", [False, True])
@pytest.mark.parametrize("channels, groups, kernel", [
    ((16, 24), 1, 3), ((3, 16), 1, 7), ((16, 16), 16, 3), ((8, 5), 1, 1), ((16, 16), 4, 3), ((24, 32), 2, 1)])
def test_convolutions(emitter_class, signed, relu, bias, channels, groups, kernel):
    rng = np.random.default_rng(kernel + 2 * relu + 4 * bias)
    limits = Range(SCALE_IN * (127 if signed else 255), signed)
    x, values = data(rng, (2, channels[0], 9, 9), limits)
    weight = rng.integers(-128, 128, size=(channels[1], channels[0] // groups, kernel, kernel)).astype(np.int8)
    weight[:, 0, 0, 0] = 127
    weight[::3] = -np.abs(weight[::3])
    weight[::3, 0, 0, 0] = -128  # the largest code of some channels
    weight[1] = 0
    one_scale = groups not in (1, channels[1])
    scale = rng.uniform(0.5, 1.5, 1 if one_scale else channels[1]).astype(np.float32) / 400
    if one_scale:
        weight[4:] //= 3  # a channel's largest code may be any
        scale = scale.repeat(channels[1])
    shift = rng.normal(size=channels[1]).astype(np.float32)
    attributes = {"kernel": f"({kernel}, {kernel})", "pad": f"({kernel // 2}, {kernel // 2})", "num_filter":
                  str(channels[1]), "num_group": str(groups), "no_bias": str(not bias)}
    used, unit = (weight, scale) if one_scale else codes_here(weight, scale, signed, groups > 1)
    sums = mx.nd.Convolution(mx.nd.array(x, dtype="float64"), mx.nd.array(used, dtype="float64"), no_bias=True,
                             kernel=(kernel, kernel), pad=(kernel // 2, kernel // 2), num_filter=channels[1],
                             num_group=groups).asnumpy()
    unit = (unit.astype(np.float64) * limits.scale)[None, :, None, None]
    real = (sums + (np.rint(shift[None, :, None, None] / unit) if bias else 0)) * unit
    limits_out = Range(float((real if relu else np.abs(real)).max() * 0.8), not relu)  # some are cut off
    layer = Node("layer", "Convolution", attributes, [(2, channels[1], 9, 9)])
    emitter = emitter_for(emitter_class, layer, weight, scale, {"layer": shift} if bias else {})
    read = emitter.quantize("data_codes", (variable("data", ()), 0), limits)
    found = codes_of(emitter, emitter.convolution(layer, read, limits_out, relu), {}, {"data": values})
    expected = rounded(real, limits_out, relu)
    assert np.abs(found - expected).max() <= 1 and (found != expected).mean() < 2e-3  # ties, rounded in float32
    assert np.isin(expected, limits_out.codes).any() and len(np.unique(expected)) > 50


def worst_weights(rng, shape):
    """Codes whose products add up to the most: all at one end, both ends in turn, and ends at random."""
    weight = rng.choice([-128, 127], size=shape).astype(np.int8)
    weight[::3] = 127
    weight[1::6] = -128
    weight[2::6, ::2] = 127
    weight[2::6, 1::2] = -128
    return weight


@pytest.mark.parametrize("signed", [False, True])
@pytest.mark.parametrize("channels, groups, kernel, stride, dilate, size", [
    ((64, 64), 1, 3, 1, 1, 9), ((3, 64), 1, 7, 2, 1, 15), ((1, 20), 1, 5, 1, 1, 9), ((24, 7), 1, 3, 1, 2, 9),
    ((64, 48), 1, 1, 2, 1, 6), ((33, 16), 1, 1, 1, 1, 6), ((32, 32), 32, 3, 1, 1, 9), ((8, 8), 1, 3, 1, 1, 4)])
@pytest.mark.parametrize("deep", [False, True])
def test_no_sum_is_cut(signed, channels, groups, kernel, stride, dilate, size, deep):
    """The largest inputs there are, and the worst weights: MXNet's kernels against NumPy's integers, code by code."""
    rng = np.random.default_rng(kernel)
    limits, pad = Range(127.0 if signed else 255.0, signed), kernel // 2 * dilate
    weight = worst_weights(rng, (channels[1], channels[0] // groups, kernel, kernel))
    x = rng.choice([limits.codes[0], limits.codes[1], limits.codes[1]], size=(2, channels[0], size, size))
    x[0] = limits.codes[1]
    scale = np.full(channels[1], 1 / 127, np.float32)
    used, unit = codes_here(weight, scale, signed, groups > 1)
    window = {"kernel": (kernel, kernel), "pad": (pad, pad), "stride": (stride, stride), "dilate": (dilate, dilate),
              "num_filter": channels[1], "num_group": groups, "no_bias": True}
    real = unit.astype(np.float64)[:, None, None] * mx.nd.Convolution(
        mx.nd.array(x, dtype="float64"), mx.nd.array(used, dtype="float64"), **window).asnumpy()
    limits_out = Range(float(np.abs(real).max()), True)
    layer = Node("layer", "Convolution", {name: str(value) for name, value in window.items()}, [real.shape],
                 inputs=[(Node("data", "null", {}, [x.shape]), 0)])
    others = [] if deep else [Node("other", "Convolution", {"num_group": "2"}, [()])]  # a depthwise one: no depth
    emitter = fitting(Int8Emitter, [layer, *others], saturates())({"layer": (weight, scale)}, {})
    read = emitter.quantize("data_codes", (variable("data", ()), 0), limits)
    found = codes_of(emitter, emitter.convolution(layer, read, limits_out), {}, {"data": mx.nd.array(x)})
    expected = rounded(real, limits_out, relu=False)
    assert np.abs(found - expected).max() <= 1 and (found != expected).mean() < 1e-2  # ties


@pytest.mark.parametrize("signed", [False, True])
@pytest.mark.parametrize("deep", [False, True])
@pytest.mark.parametrize("shape", [(1, 5), (5, 1)])
@pytest.mark.parametrize("narrow", [False, True])
def test_pointwise_convolutions_over_five_places(signed, deep, shape, narrow):
    """oneDNN 2.4.4 computes something else with AVX-512 alone, from 128 channels on."""
    rng = np.random.default_rng(0)
    limits = Range(127.0 if signed else 255.0, signed)
    weight = worst_weights(rng, (256, 16, 1, 1))
    if not narrow:  # no two products to add: codes stay as they are
        weight[:, np.arange(16) != 3] = 0
    x = rng.integers(limits.codes[0], limits.codes[1] + 1, size=(3, 16, *shape))
    scale = np.full(256, 1 / 127, np.float32)
    used, unit = codes_here(weight, scale, signed)
    real = np.einsum("oi,bihw->bohw", used[:, :, 0, 0].astype(np.float64), x) * unit[:, None, None]
    limits_out = Range(1.013 * float(np.abs(real).max()), True)
    layer = Node("layer", "Convolution", {"kernel": "(1, 1)", "num_filter": "256", "no_bias": "True"}, [real.shape],
                 inputs=[(Node("data", "null", {}, [x.shape]), 0)])
    others = [] if deep else [Node("other", "Convolution", {"num_group": "2"}, [()])]
    emitter = fitting(Int8Emitter, [layer, *others], saturates())({"layer": (weight, scale)}, {})
    read = emitter.quantize("data_codes", (variable("data", ()), 0), limits)
    found = codes_of(emitter, emitter.convolution(layer, read, limits_out), {}, {"data": mx.nd.array(x)})
    expected = rounded(real, limits_out, relu=False)
    assert np.abs(found - expected).max() <= 1 and (found != expected).mean() < 1e-2  # ties


def test_five_places_are_refused_where_they_came_later():
    """A network without depth, whose signed 1x1 convolution has more places in the example, or what it should be."""
    rng, net = np.random.default_rng(0), nn.HybridSequential()
    net.add(nn.Conv2D(16, 3, padding=1, groups=16, in_channels=16), nn.Conv2D(256, 1, in_channels=16),
            nn.Conv2D(4, 1, in_channels=256))
    net.initialize(mx.init.Xavier())
    images = mx.nd.array(rng.normal(size=(4, 16, 4, 4)))
    int8 = quantize(net, [images], progress=False)
    assert int8(images).shape == (4, 4, 4, 4)
    five = mx.nd.array(rng.normal(size=(2, 16, 1, 5)))
    if not loses_five():
        expected = net(five).asnumpy()
        assert np.abs(int8(five).asnumpy() - expected).max() < 0.1 * np.abs(expected).max()
        return
    with pytest.raises(ValueError, match="has 5 places, 1 x 5, with inputs of shapes .*accepted: other sizes"):
        int8(five)
    made_for_it = quantize(net, [five], progress=False)
    expected = net(five).asnumpy()
    assert np.abs(made_for_it(five).asnumpy() - expected).max() < 0.1 * np.abs(expected).max()


@pytest.mark.parametrize("signed", [False, True])
@pytest.mark.parametrize("batch", [1, 5])
@pytest.mark.parametrize("places, units, features, fp32_output", [
    ((), 10, 64, True), ((), 10, 33, True), ((), 7, 2, True), ((), 10, 64, False), ((), 520, 511, False),
    ((), 512, 512, False), ((3,), 10, 33, True), ((3,), 512, 512, False)])
def test_no_sum_of_a_dense_layer_is_cut(signed, batch, places, units, features, fp32_output):
    rng = np.random.default_rng(units)
    limits = Range(127.0 if signed else 255.0, signed)
    weight, x = worst_weights(rng, (units, features)), np.full((batch, *places, features), limits.codes[1])
    x[1:] = rng.choice([limits.codes[0], limits.codes[1]], size=x[1:].shape)
    scale = np.full(units, 1 / 127, np.float32)
    used, unit = codes_here(weight, scale, halved=False)
    real = x @ used.T.astype(np.int64) * unit.astype(np.float64)
    layer = Node("layer", "FullyConnected", {"num_hidden": str(units), "no_bias": "True", "flatten": str(not places)},
                 [real.shape], inputs=[(Node("data", "null", {}, [x.shape]), 0)])
    emitter = emitter_for(Int8Emitter, layer, weight, scale)
    read = emitter.quantize("data_codes", (variable("data", ()), 0), limits)
    if fp32_output:
        found = block_of([emitter.dense(layer, read)], ["data"], emitter.values)(mx.nd.array(x)).asnumpy()
        np.testing.assert_allclose(found, real, rtol=1e-5, atol=1e-5 * np.abs(real).max())
    else:
        limits_out = Range(float(np.abs(real).max()), True)
        found = codes_of(emitter, emitter.dense(layer, read, limits_out), {}, {"data": mx.nd.array(x)})
        expected = rounded(real, limits_out, relu=False)
        assert np.abs(found - expected).max() <= 1 and (found != expected).mean() < 1e-2


@settings(max_examples=200)
@given(codes=st.integers(1, 9).flatmap(lambda inputs: arrays(np.int8, (3, inputs, 2), elements=st.integers(-128, 127))))
def test_narrow_codes_fit_in_16_bits(codes):
    scale = np.float32([0.5, 1, 2])
    narrowed, wider = narrow_codes(codes, scale)
    pairs = np.pad(narrowed.astype(int), ((0, 0), (0, codes.shape[1] % 2), (0, 0)))
    for inputs in (0, 255), (255, 0), (255, 255):  # the vertices of what a pair of inputs can be
        sums = pairs[:, ::2] * inputs[0] + pairs[:, 1::2] * inputs[1]
        assert -2 ** 15 <= sums.min() and sums.max() < 2 ** 15
    assert (wider >= scale).all() and (wider <= 2 * scale).all()
    error = np.abs(narrowed * wider[:, None, None] - codes * scale[:, None, None])
    assert (error <= 1.001 * wider[:, None, None]).all()  # at most a step, as some are rounded to the other side
    unchanged = wider == scale
    np.testing.assert_array_equal(narrowed[unchanged], codes[unchanged])


@EMITTERS
@pytest.mark.parametrize("relu", [False, True])
def test_sums(emitter_class, relu):
    """The summand is of the kind of the result: signed, or unsigned under a ReLU."""
    rng = np.random.default_rng(relu)
    limits, added = Range(SCALE_IN * 255, False), Range(SCALE_ADDED * (255 if relu else 127), not relu)
    x, values = data(rng, (2, 8, 6, 6), limits)
    s, summand = data(rng, (2, 12, 6, 6), added)
    weight = rng.integers(-128, 128, size=(12, 8, 3, 3)).astype(np.int8)
    weight[:, 0, 0, 0] = 127
    scale = rng.uniform(0.5, 1.5, 12).astype(np.float32) / 400
    used, unit = codes_here(weight, scale, halved=False)
    sums = mx.nd.Convolution(mx.nd.array(x, dtype="float64"), mx.nd.array(used, dtype="float64"), no_bias=True,
                             kernel=(3, 3), pad=(1, 1), num_filter=12).asnumpy()
    real = sums * (unit.astype(np.float64) * limits.scale)[None, :, None, None] + s * added.scale
    limits_out = Range(float(np.abs(real).max()), not relu)
    layer = Node("layer", "Convolution", {"kernel": "(3, 3)", "pad": "(1, 1)", "num_filter": "12", "no_bias": "True"},
                 [(2, 12, 6, 6)])
    emitter = emitter_for(emitter_class, layer, weight, scale)
    integers = emitter.convolution(layer, emitter.quantize("x_codes", (variable("x", ()), 0), limits), limits_out, relu,
                                   emitter.quantize("s_codes", (variable("s", ()), 0), added))
    found = codes_of(emitter, integers, {}, {"x": values, "s": summand})
    expected = rounded(real, limits_out, relu)
    assert np.abs(found - expected).max() <= 1 and (found != expected).mean() < 2e-3


def test_why_shortcuts_are_shifted():
    """MXNet writes the sum into the memory of the summand: what is signed there cuts an unsigned result at 127."""
    limits, signed = Range(255.0, False), Range(127.0, True)
    emitter = Int8Emitter({"layer": (np.full((1, 1, 1, 1), 127, np.int8), np.float32([1 / 127]))}, {})
    layer = Node("layer", "Convolution", {"kernel": "(1, 1)", "num_filter": "1", "no_bias": "True"}, [(1, 1, 1, 3)])
    integers = emitter.convolution(layer, emitter.quantize("x_codes", (variable("x", ()), 0), limits), limits, True,
                                   emitter.quantize("s_codes", (variable("s", ()), 0), signed))
    inputs = {"x": mx.nd.array([[[[100, 100, 100]]]]), "s": mx.nd.array([[[[50, 0, -50]]]])}
    assert codes_of(emitter, integers, {}, inputs).ravel().tolist() == [127, 100, 50]  # the first should be 150


@EMITTERS
@pytest.mark.parametrize("signed", [False, True])
@pytest.mark.parametrize("relu, fp32_output", [(True, False), (False, False), (False, True), (True, True)])
@pytest.mark.parametrize("shape, flatten", [((4, 48), True), ((4, 3, 4, 4), True), ((4, 7, 48), False),
                                            ((2, 2, 3, 48), False)])
def test_dense_layers(emitter_class, signed, relu, fp32_output, shape, flatten):
    rng = np.random.default_rng(3)
    limits = Range(SCALE_IN * (127 if signed else 255), signed)
    x, values = data(rng, shape, limits)
    weight = rng.integers(-128, 128, size=(10, 48)).astype(np.int8)
    weight[:, 0] = 127
    weight[::3] = -np.abs(weight[::3])
    weight[::3, 0] = -128
    scale = (np.exp(rng.normal(size=10)) / 400).astype(np.float32)
    shift = rng.normal(size=10).astype(np.float32)
    used, unit = codes_here(weight, scale, halved=False)
    unit = unit.astype(np.float64) * limits.scale
    rows = x.reshape(len(x), -1) if flatten else x
    real = (rows @ used.T.astype(np.int64) + np.rint(shift / unit)) * unit
    real = np.maximum(real, 0) if relu else real
    layer = Node("layer", "FullyConnected", {"num_hidden": "10", "no_bias": "False", "flatten": str(flatten)},
                 [real.shape],
                 inputs=[(Node("data", "null", {}, [shape]), 0)])
    emitter = emitter_for(emitter_class, layer, weight, scale, {"layer": shift})
    read = emitter.quantize("data_codes", (variable("data", ()), 0), limits)
    if fp32_output:
        head = emitter.dense(layer, read, None, relu)
        found = block_of([head], ["data"], emitter.values)(values).asnumpy()
        np.testing.assert_allclose(found, real, rtol=1e-5, atol=1e-5 * np.abs(real).max())
    else:
        limits_out = Range(float(np.abs(real).max()), not relu)
        found = codes_of(emitter, emitter.dense(layer, read, limits_out, relu), {}, {"data": values})
        assert np.abs(found - rounded(real, limits_out, relu)).max() <= 1
        assert (found != rounded(real, limits_out, relu)).mean() < 2e-3 * 10


@EMITTERS
@pytest.mark.parametrize("signed", [False, True])
@pytest.mark.parametrize("attributes", [
    {"pool_type": "max", "kernel": "(3, 3)", "stride": "(2, 2)", "pad": "(1, 1)"},
    {"pool_type": "max", "kernel": "(2, 2)", "stride": "(2, 2)", "pooling_convention": "full"},
    {"pool_type": "avg", "kernel": "(2, 2)", "stride": "(2, 2)"},
    {"pool_type": "avg", "kernel": "(3, 3)", "pad": "(1, 1)"},
    {"pool_type": "avg", "kernel": "(3, 3)", "pad": "(1, 1)", "count_include_pad": "False"}])
def test_pooling(emitter_class, signed, attributes):
    rng = np.random.default_rng(5)
    limits = Range(SCALE_IN * (127 if signed else 255), signed)
    x, values = data(rng, (2, 16, 9, 9), limits)
    emitter = emitter_class({}, {})
    pool = Node("pool", "Pooling", attributes, [()])
    found = codes_of(emitter, emitter.pooling(pool, emitter.quantize("q", (variable("data", ()), 0), limits)), {},
                     {"data": values})
    expected = mx.nd.Pooling(mx.nd.array(x, dtype="float32"), **{
        name: value if name in ("pool_type", "pooling_convention") else eval(value)
        for name, value in attributes.items()}).asnumpy()
    assert found.shape == expected.shape
    assert np.abs(found - expected).max() <= 0.5 + 1e-3  # rounded to a code


@EMITTERS
@pytest.mark.parametrize("signed", [False, True])
def test_concatenation_and_flattening(emitter_class, signed):
    rng = np.random.default_rng(6)
    limits = Range(SCALE_IN * (127 if signed else 255), signed)
    a, first = data(rng, (2, 16, 4, 4), limits)
    b, second = data(rng, (2, 3, 4, 4), limits)
    emitter = emitter_class({}, {})
    parts = [emitter.quantize(f"{name}_codes", (variable(name, ()), 0), limits) for name in "ab"]
    concat = Node("concat", "Concat", {"num_args": "2", "dim": "1"}, [()])
    integers = emitter.flatten(Node("flat", "Flatten", {}, [()]), emitter.concat(concat, parts))
    found = codes_of(emitter, integers, {}, {"a": first, "b": second})
    np.testing.assert_array_equal(found, np.concatenate([a, b], axis=1).reshape(2, -1))


@pytest.mark.parametrize("signed, high", [(True, 127), (False, 255)])
def test_ranges_of_kernels_are_a_half_code_wider(signed, high):
    """MXNet scales by 127.5 and 255.5: with threshold = max|x| a code would be worth less than max|x| / 127."""
    x = mx.nd.array(np.linspace(-1 if signed else 0, 1, 5001))
    naive = mx.nd.contrib.quantize_v2(x, out_type="auto", min_calib_range=-1.0 if signed else 0.0, max_calib_range=1.0)
    end = float(threshold_for(1 / high, signed))
    ours = mx.nd.contrib.quantize_v2(x, out_type="auto", min_calib_range=-end if signed else 0.0, max_calib_range=end)
    expected = np.rint(x.asnumpy().astype(np.float64) * high)
    assert (naive[0].asnumpy() != expected).mean() > 0.2
    assert (ours[0].asnumpy() != expected).mean() < 2e-3


@pytest.mark.parametrize("clip", ["max", "percentile", "mse"])
def test_weights_of_which_kernels_make_the_codes(clip):
    rng = np.random.default_rng(7)
    original = rng.normal(size=(300, 40)) * np.exp(rng.normal(scale=5, size=(300, 1)))
    original[::3] = -np.abs(original[::3])
    original[5] = 0
    codes, scale = weight_codes(original.astype(np.float32), clip=clip)
    assert ((codes == 127) | (codes == -128)).any(axis=1).sum() == 299 and (codes[::3] <= 0).all()
    inside = np.abs(original) < 127.5 * scale[:, None]
    assert (np.abs(codes * scale[:, None] - original)[inside] <= 0.5001 * np.broadcast_to(
        scale[:, None], original.shape)[inside]).all()
    weight = weight_for(codes, scale)
    assert weight.dtype == np.float32
    per_unit = np.float32(127.5) / np.abs(weight).max(axis=1, keepdims=True)  # as the kernel computes it
    zero = (codes == 0).all(axis=1)
    np.testing.assert_array_equal(np.clip(np.rint(weight * per_unit), -128, 127)[~zero], codes[~zero])
    np.testing.assert_allclose(1 / per_unit[~zero, 0], scale[~zero], rtol=1e-4)
    assert zero.sum() == 1 and np.abs(weight[zero]).max() < 1e-11


def test_graphs_are_written_as_they_were_read():
    a, b = variable("a", (2, 3)), variable("b", (2, 3))
    total = Node("sum", "elemwise_add", {}, [(2, 3)], inputs=[(a, 0), (b, 0)])
    twice = Node("twice", "elemwise_mul", {}, [(2, 3)], inputs=[(total, 0), (total, 0)])
    assert [node.name for node in in_order([(twice, 0), (total, 0)])] == ["a", "b", "sum", "twice"]
    nodes, outputs = nodes_of(symbol_of([(twice, 0), (total, 0)]))
    assert [node.name for node in nodes] == ["a", "b", "sum", "twice"]
    assert outputs == [(nodes[3], 0), (nodes[2], 0)] and nodes[3].inputs == [(nodes[2], 0), (nodes[2], 0)]
    values = {"a": mx.nd.array([[1, 2, 3]]), "b": mx.nd.array([[4, 5, 6]])}
    outputs = block_of([(twice, 0), (total, 0)], ["a", "b"], {})(*values.values())
    assert [output.asnumpy().tolist() for output in outputs] == [[[25, 49, 81]], [[5, 7, 9]]]
