"""Weight quantization of networks."""
import json

import gluon_compress as gc

import mxnet as mx  # noqa: I001
import numpy as np
import pytest
from gluon_compress.errors import RecordError
from gluon_compress.models import LeNet, SimpleCNN
from gluon_compress.pruning import prune_magnitude
from gluon_compress.quantization import Scales, dequantize_array, quantize_array, quantize_weights
from mxnet.gluon import nn
from networks import Assorted, NormNet, OwnWeight, SharedWeights, build, exported, identical, laid_out_anew, values

LENET = (2, 1, 28, 28)
WEIGHTS = {"features.0.weight", "features.4.weight", "features.9.weight", "output.weight"}


def rows(weight, axis):
    return [weight] if axis is None else np.moveaxis(weight, axis, 0)


@pytest.mark.parametrize("bits", range(2, 9))
@pytest.mark.parametrize("per_channel", [True, False])
def test_weights_become_the_nearest_multiples_of_their_scale(bits, per_channel):
    net, example = build(NormNet)
    before = values(net)
    scales = quantize_weights(net, bits, per_channel)
    after = values(net)
    assert scales.weights.keys() == WEIGHTS
    q_max = 2 ** (bits - 1) - 1
    for name in WEIGHTS:
        axis = 0 if per_channel else None
        assert (scales.weights[name]["bits"], scales.weights[name]["axis"]) == (bits, axis)
        for original, rounded, scale in zip(rows(before[name], axis), rows(after[name], axis),
                                            np.atleast_1d(scales.weights[name]["scale"])):
            np.testing.assert_allclose(scale, np.abs(original).max() / q_max, rtol=1e-6)
            levels = np.arange(-q_max, q_max + 1) * np.float64(scale)
            nearest = np.abs(original[..., None] - levels).argmin(axis=-1)
            np.testing.assert_allclose(rounded, levels[nearest], rtol=1e-6)
            assert len(np.unique(rounded)) <= 2 * q_max + 1
    others = before.keys() - WEIGHTS
    assert identical({name: before[name] for name in others}, {name: after[name] for name in others})
    assert np.isfinite(net(example).asnumpy()).all()


@pytest.mark.parametrize("dimensions", [1, 3])
def test_weights_that_onednn_laid_out_anew_are_quantized(dimensions):
    net, example = laid_out_anew(dimensions)
    before = values(net)
    scales = quantize_weights(net, per_channel=False)
    after = values(net)
    for name, layer in scales.weights.items():
        np.testing.assert_allclose(after[name], np.round(before[name] / layer["scale"]) * layer["scale"], rtol=1e-5)
    assert np.isfinite(net(example).asnumpy()).all()


def test_one_scale_per_output_channel_of_every_kind_of_layer():
    net, _ = build(Assorted)
    scales = quantize_weights(net)
    assert {name: (layer["axis"], layer["scale"].shape) for name, layer in scales.weights.items()} == {
        "embedding.weight": (0, (11,)), "up.weight": (1, (5,)), "grouped.weight": (0, (10,)),
        "output.weight": (0, (3,))}


@pytest.mark.parametrize("network", [nn.Conv1DTranspose, nn.Conv2DTranspose, nn.Conv3DTranspose])
def test_a_transposed_convolution_s_output_channels_are_on_axis_1(network, tmp_path):
    dimensions = int(network.__name__[4])
    net, example = build(network, (2, 3, *[4] * dimensions), channels=5, kernel_size=2)
    weight = np.ones(net.weight.shape, np.float32) * np.arange(1, 6).reshape([1, 5] + [1] * dimensions)
    net.weight.set_data(mx.nd.array(weight))
    block = exported(net, example, tmp_path)
    for each in (net, block):
        (layer,) = quantize_weights(each).weights.values()
        np.testing.assert_allclose(layer["scale"], np.arange(1, 6) / 127, rtol=1e-6)


@pytest.mark.parametrize("network", [NormNet, Assorted, SharedWeights])
@pytest.mark.parametrize("bits", [2, 5, 8])
@pytest.mark.parametrize("per_channel", [True, False])
def test_quantizing_again_changes_nothing(network, bits, per_channel):
    net, _ = build(network)
    first = quantize_weights(net, bits, per_channel)
    before, codes = values(net), first.codes(net)
    second = quantize_weights(net, bits, per_channel)
    assert identical(before, values(net))
    assert identical(codes, second.codes(net))


def test_codes_times_scales_are_the_weights_exactly():
    net, _ = build(NormNet)
    scales = quantize_weights(net, bits=6)
    for name, codes in scales.codes(net).items():
        assert codes.dtype == np.int8
        assert np.abs(codes).max() == 31
        scale = scales.weights[name]["scale"].reshape([-1] + [1] * (codes.ndim - 1))
        np.testing.assert_array_equal(codes.astype(np.float32) * scale, values(net)[name])


def test_scales_do_not_fit_weights_that_were_trained_since():
    net, _ = build(NormNet)
    scales = quantize_weights(net)
    scales.check(net)
    net.output.weight.set_data(net.output.weight.data() * 1.01)
    with pytest.raises(RecordError, match="output.weight are not multiples of their scale"):
        scales.check(net)


def test_a_layer_of_zeros_stays_one():
    net, _ = build(LeNet, LENET)
    net.conv[2].weight.set_data(mx.nd.zeros((50, 20, 3, 3)))
    scales = quantize_weights(net)
    assert not values(net)["conv.2.weight"].any()
    assert (scales.weights["conv.2.weight"]["scale"] == 1).all()


def test_pruned_weights_stay_zero():
    net, _ = build(LeNet, LENET)
    masks = prune_magnitude(net, 0.9)
    quantize_weights(net, bits=3)
    assert masks.fitted_masks(net) is masks.kept


@pytest.mark.parametrize(("select", "expected"), [
    (nn.Dense, {"features.9.weight", "output.weight"}),
    ("output", {"output.weight"}),
    (lambda layer: layer.kind == "Conv2D", {"features.0.weight", "features.4.weight"}),
])
def test_selected_layers_alone_are_quantized(select, expected):
    net, _ = build(NormNet)
    before = values(net)
    scales = quantize_weights(net, 4, select=select)
    assert scales.weights.keys() == expected
    assert {f"{name}.weight" for name in scales.left_out} == WEIGHTS - expected
    others = before.keys() - expected
    assert identical({name: before[name] for name in others}, {name: values(net)[name] for name in others})


def test_weights_of_a_block_of_yours_are_left_out_or_named():
    net, _ = build(OwnWeight)
    assert set(quantize_weights(net).left_out) == {"mix", "positions"}
    scales = quantize_weights(net, select=["mix"])
    assert set(scales.weights) == {"mix_weight"} and set(scales.layers) == {"mix"}


def test_a_symbol_block_is_quantized_like_its_original(tmp_path):
    net, example = build(NormNet)
    block = exported(net, example, tmp_path)
    ours, theirs = quantize_weights(net, 5), quantize_weights(block, 5)
    for one, other in zip(ours.weights.values(), theirs.weights.values()):
        np.testing.assert_array_equal(one["scale"], other["scale"])
    np.testing.assert_array_equal(net(example).asnumpy(), block(example).asnumpy())


@pytest.mark.parametrize("dtype", ["float16", "float64"])
def test_other_precisions(dtype):
    net, _ = build(nn.Dense, (2, 30), units=20)
    net.cast(dtype)
    scales = quantize_weights(net)
    assert values(net)["weight"].dtype == dtype
    assert np.abs(scales.codes(net)["weight"]).max() == 127


def test_changed_weights_have_no_codes():
    net, _ = build(NormNet)
    scales = quantize_weights(net)
    weight = net.output.weight.data()
    weight[0, 0] = weight[0, 0] * 1.001 + 1e-6
    with pytest.raises(RecordError, match=r"weights of output.weight are not multiples.*call it again"):
        scales.codes(net)
    assert quantize_weights(net).codes(net)


def test_scales_survive_json():
    net, _ = build(NormNet)
    for per_channel in (True, False):
        scales = quantize_weights(net, 7, per_channel, select=[nn.Dense])
        again = Scales.from_dict(json.loads(json.dumps(scales.to_dict())))
        assert identical(scales.codes(net), again.codes(net))
        assert str(again) == str(scales)
        assert again.left_out == scales.left_out
        for name, layer in scales.weights.items():
            assert layer["scale"].tobytes() == again.weights[name]["scale"].tobytes()


def test_summary_shows_every_layer():
    net, _ = build(NormNet)
    lines = quantize_weights(net, 4, select="output").summary().splitlines()
    assert lines[2].split()[:5] == ["output.weight", "4", "axis", "0", "5"]
    assert all("left out" in line for line in lines[3:])
    assert len(lines) == 6


@pytest.mark.parametrize(("other", "message"), [
    (SimpleCNN, "there is no parameter conv.0.weight"),
    (lambda: LeNet(classes=7), r"dense.1.weight has shape \(7, 128\), its scale \(10,\)"),
])
def test_scales_of_another_network_are_refused(other, message):
    net, _ = build(LeNet, LENET)
    scales = quantize_weights(net)
    copy, _ = build(other, LENET)
    if other is not SimpleCNN:
        for name, parameter in copy._collect_params_with_prefix().items():
            if parameter.shape == net._collect_params_with_prefix()[name].shape:
                parameter.set_data(net._collect_params_with_prefix()[name].data())
    with pytest.raises(RecordError, match=f"to another network.*{message}"):
        scales.codes(copy)


@pytest.mark.parametrize(("arguments", "error", "message"), [
    ({"bits": 1}, ValueError, "bits is 1"),
    ({"bits": 16}, ValueError, "bits is 16"),
    ({"bits": "8"}, TypeError, "bits is '8'"),
    ({"select": "dense.9"}, ValueError, "did you mean"),
    ({"clip": "entropy"}, ValueError, "clip is 'entropy'; accepted: 'max', 'percentile', 'mse'"),
    ({"clip": "percentile", "percentile": 0}, ValueError, "percentile is 0"),
])
def test_a_failure_changes_nothing(arguments, error, message):
    net, _ = build(LeNet, LENET)
    before = values(net)
    with pytest.raises(error, match=message):
        quantize_weights(net, **arguments)
    assert identical(before, values(net))


def test_scales_that_are_no_dict_are_refused():
    with pytest.raises(TypeError, match="weights is .*; accepted: a dict"):
        gc.quantization.Scales([1])


def channels(name, weight):
    """The weights of each output channel, by the layout that each kind of layer has."""
    return np.moveaxis(weight, 1 if name == "up.weight" else 0, 0)


@pytest.mark.parametrize("clip", ["max", "percentile", "mse"])
@pytest.mark.parametrize("bits", [2, 4, 8])
def test_every_channel_is_clipped_by_itself_and_uses_the_largest_code(clip, bits):
    net, _ = build(Assorted)
    before = values(net)
    scales = quantize_weights(net, bits, clip=clip, percentile=80)
    assert scales.weights.keys() == {"embedding.weight", "up.weight", "grouped.weight", "output.weight"}
    for name, codes in scales.codes(net).items():
        for original, its_codes, scale in zip(channels(name, before[name]), channels(name, codes),
                                              scales.weights[name]["scale"]):
            alone, its_scale = quantize_array(original, bits, clip=clip, percentile=80)
            np.testing.assert_array_equal(its_codes, alone)
            assert scale == its_scale
            assert np.abs(its_codes).max() == 2 ** (bits - 1) - 1


@pytest.mark.parametrize("clip", ["percentile", "mse"])
@pytest.mark.parametrize("per_channel", [True, False])
def test_clipped_weights_go_through_the_file_and_json(clip, per_channel, tmp_path):
    net, example = build(NormNet)
    scales = quantize_weights(net, 4, per_channel, clip=clip, percentile=90)
    codes, expected = scales.codes(net), net(example).asnumpy()
    assert identical(codes, Scales.from_dict(json.loads(json.dumps(scales.to_dict()))).codes(net))
    gc.save(tmp_path / "net.gcz", net, scales)
    loaded = NormNet()
    gc.load(tmp_path / "net.gcz", loaded)
    np.testing.assert_array_equal(loaded(example).asnumpy(), expected)
    again = gc.checkpoint.records(tmp_path / "net.gcz")["scales"]
    assert identical(codes, again.codes(loaded))
    for name, layer in again.weights.items():
        assert identical({name: values(loaded)[name]}, {name: dequantize_array(codes[name], layer["scale"],
                                                                               layer["axis"])})


@pytest.mark.parametrize("per_channel", [True, False])
@pytest.mark.parametrize("bits", range(2, 9))
def test_mse_changes_no_layer_more_than_max(bits, per_channel):
    errors = {}
    for clip in ("mse", "max"):
        net, _ = build(NormNet)
        before = values(net)
        quantize_weights(net, bits, per_channel, clip=clip)
        errors[clip] = {name: np.square(values(net)[name] - before[name].astype(np.float64)).sum() for name in WEIGHTS}
    assert all(errors["mse"][name] <= errors["max"][name] for name in WEIGHTS)
    assert sum(errors["mse"].values()) < sum(errors["max"].values())


@pytest.mark.parametrize("layer", [nn.Conv1D, nn.Conv2D, nn.Conv3D, nn.Conv1DTranspose, nn.Conv2DTranspose,
                                   nn.Conv3DTranspose])
@pytest.mark.parametrize("hybridized", [False, True])
def test_weights_that_inference_has_laid_out_anew(layer, hybridized):
    """oneDNN does that with those of 1D and 3D convolutions, and set_data alone cannot write them then."""
    net, example = build(layer, (2, 3, *[9] * int(layer.__name__[4])), channels=16, kernel_size=3)
    if hybridized:
        net.hybridize(static_alloc=True, static_shape=True)
    for _ in range(2):
        net(example).wait_to_read()
    weight = values(net)["weight"]
    codes = quantize_weights(net, 3).codes(net)["weight"]
    expected, scale = quantize_array(weight, 3, 1 if "Transpose" in layer.__name__ else 0)
    np.testing.assert_array_equal(codes, expected)
    copy = layer(channels=16, kernel_size=3, in_channels=3)
    copy.initialize()
    for name, value in values(net).items():
        getattr(copy, name).set_data(mx.nd.array(value))  # before oneDNN sees it
    np.testing.assert_allclose(net(example).asnumpy(), copy(example).asnumpy(), rtol=1e-5, atol=1e-5)
