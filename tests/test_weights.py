"""Weight quantization of networks."""
import json

import gluon_compress  # noqa: F401

import mxnet as mx  # noqa: I001
import numpy as np
import pytest
from gluon_compress.errors import RecordError
from gluon_compress.models import LeNet, SimpleCNN
from gluon_compress.pruning import prune_magnitude
from gluon_compress.quantization import Scales, quantize_weights
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
    assert scales.layers.keys() == WEIGHTS
    q_max = 2 ** (bits - 1) - 1
    for name in WEIGHTS:
        axis = 0 if per_channel else None
        assert (scales.layers[name]["bits"], scales.layers[name]["axis"]) == (bits, axis)
        for original, rounded, scale in zip(rows(before[name], axis), rows(after[name], axis),
                                            np.atleast_1d(scales.layers[name]["scale"])):
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
    for name, layer in scales.layers.items():
        np.testing.assert_allclose(after[name], np.round(before[name] / layer["scale"]) * layer["scale"], rtol=1e-5)
    assert np.isfinite(net(example).asnumpy()).all()


def test_one_scale_per_output_channel_of_every_kind_of_layer():
    net, _ = build(Assorted)
    scales = quantize_weights(net)
    assert {name: (layer["axis"], layer["scale"].shape) for name, layer in scales.layers.items()} == {
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
        (layer,) = quantize_weights(each).layers.values()
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
        scale = scales.layers[name]["scale"].reshape([-1] + [1] * (codes.ndim - 1))
        np.testing.assert_array_equal(codes.astype(np.float32) * scale, values(net)[name])


def test_a_layer_of_zeros_stays_one():
    net, _ = build(LeNet, LENET)
    net.conv[2].weight.set_data(mx.nd.zeros((50, 20, 3, 3)))
    scales = quantize_weights(net)
    assert not values(net)["conv.2.weight"].any()
    assert (scales.layers["conv.2.weight"]["scale"] == 1).all()


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
    assert scales.layers.keys() == expected
    assert {f"{name}.weight" for name in scales.left_out} == WEIGHTS - expected
    others = before.keys() - expected
    assert identical({name: before[name] for name in others}, {name: values(net)[name] for name in others})


def test_weights_of_a_block_of_yours_are_left_out_or_named():
    net, _ = build(OwnWeight)
    assert set(quantize_weights(net).left_out) == {"mix", "positions"}
    assert set(quantize_weights(net, select=["mix"]).layers) == {"mix_weight"}


def test_a_symbol_block_is_quantized_like_its_original(tmp_path):
    net, example = build(NormNet)
    block = exported(net, example, tmp_path)
    ours, theirs = quantize_weights(net, 5), quantize_weights(block, 5)
    for one, other in zip(ours.layers.values(), theirs.layers.values()):
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
        for name, layer in scales.layers.items():
            assert layer["scale"].tobytes() == again.layers[name]["scale"].tobytes()


def test_summary_shows_every_layer():
    net, _ = build(NormNet)
    lines = quantize_weights(net, 4, select="output").summary().splitlines()
    assert lines[2].split()[:5] == ["output.weight", "4", "axis", "0", "5"]
    assert all("untouched" in line for line in lines[3:])
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
    with pytest.raises(RecordError, match=f"of another network.*{message}"):
        scales.codes(copy)


@pytest.mark.parametrize(("arguments", "error", "message"), [
    ({"bits": 1}, ValueError, "bits is 1"),
    ({"bits": 16}, ValueError, "bits is 16"),
    ({"bits": "8"}, TypeError, "bits is '8'"),
    ({"select": "dense.9"}, ValueError, "did you mean"),
])
def test_a_failure_changes_nothing(arguments, error, message):
    net, _ = build(LeNet, LENET)
    before = values(net)
    with pytest.raises(error, match=message):
        quantize_weights(net, **arguments)
    assert identical(before, values(net))
