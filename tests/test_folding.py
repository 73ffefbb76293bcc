"""BatchNorm's scale in the weights: the same outputs, other numbers."""
import re

import gluon_compress as gc

import mxnet as mx  # noqa: I001
import numpy as np
import pytest
from gluon_compress import network
from gluon_compress.network import values as values_module
from gluon_compress.errors import NetworkError
from gluon_compress.quantization import fold_batch_norm, quantize_array, quantize_weights
from mxnet.gluon import nn
from mxnet.gluon.model_zoo import vision
from networks import Net, NormNet, assert_close, build, exported, identical, stacked, values

NORM_NET = {"features.1": "features.0", "features.5": "features.4", "features.10": "features.9"}


class DenseNet(nn.HybridSequential):
    """Every layer reads all before it; BatchNorm comes before the convolution, as in densenet121."""

    def __init__(self, layers=3, growth=4):
        super().__init__()
        with self.name_scope():
            self.add(nn.Conv2D(6, 3, padding=1, use_bias=False), nn.BatchNorm(), nn.Activation("relu"))
            for _ in range(layers):
                self.add(vision.densenet._make_dense_layer(growth, 2, 0))
            self.add(nn.BatchNorm(), nn.GlobalAvgPool2D(), nn.Flatten(), nn.Dense(3))


def check(net, example, folded, left_out=()):
    """Fold, and compare with what there was, with NumPy's alpha and with the record."""
    expected, before = net(example), values(net)
    record = fold_batch_norm(net, example)
    assert record.folded == dict(folded)
    assert record.left_out.keys() == set(left_out)
    assert_close(net(example), expected, rtol=1e-4, atol=2e-6)
    after = values(net)
    changed = {name for name in before if not np.array_equal(before[name], after[name])}
    for norm, layer in record.folded.items():
        separator = "." if f"{norm}.gamma" in after else "_"
        assert (after[f"{norm}{separator}gamma"] == 1).all()
        np.testing.assert_allclose(after[f"{norm}{separator}running_var"], 1, atol=0.02)  # 1 - eps
        assert np.array_equal(after[f"{norm}{separator}beta"], before[f"{norm}{separator}beta"])
        changed -= {f"{norm}{separator}{name}" for name in ("gamma", "running_var", "running_mean")}
        changed -= {f"{layer}{separator}{name}" for name in ("weight", "bias")}
    assert not changed
    assert {name: value.shape for name, value in before.items()} == {name: value.shape for name, value in after.items()}
    again = fold_batch_norm(net, example)
    assert identical(after, values(net))
    assert again == record
    return record


@pytest.mark.parametrize("hybridized", [False, True])
def test_the_outputs_stay(hybridized):
    net, example = build(NormNet)
    if hybridized:
        net.hybridize(static_alloc=True, static_shape=True)
        net(example)
    record = check(net, example, NORM_NET, ["features.8"])
    assert record.left_out["features.8"].startswith("it reads the Flatten")


def test_a_symbol_block_is_folded_like_its_original(tmp_path):
    net, example = build(NormNet)
    block = exported(net, example, tmp_path)
    norms, layers = ([name.removesuffix(suffix) for name in values(block) if name.endswith(suffix)]
                     for suffix in ("_gamma", "_weight"))
    check(block, example, {norms[0]: layers[0], norms[1]: layers[1], norms[3]: layers[2]}, [norms[2]])
    fold_batch_norm(net, example)
    np.testing.assert_array_equal(block(example).asnumpy(), net(example).asnumpy())


@pytest.mark.parametrize("axis", [1, -3])
@pytest.mark.parametrize("use_bias", [True, False])
@pytest.mark.parametrize("norm", [{}, {"scale": False}, {"center": False}, {"use_global_stats": True},
                                  {"epsilon": 1e-2}, {"scale": False, "center": False}])
def test_the_weights_are_multiplied_by_alpha(norm, use_bias, axis):
    net, example = build(lambda: stacked(nn.Conv2D(6, 3, use_bias=use_bias), nn.BatchNorm(axis=axis, **norm)),
                         (2, 3, 5, 5))
    before, (eps, fixed) = values(net), (norm.get("epsilon", 1e-5), norm.get("scale", True) is False)
    check(net, example, {"1": "0"})
    after = values(net)
    np.testing.assert_allclose(after["1.running_var"], 1 - eps, rtol=1e-7)
    for channel in range(6):
        gamma = 1 if fixed else float(before["1.gamma"][channel])
        alpha = gamma / (float(before["1.running_var"][channel]) + eps) ** 0.5
        for name in ["0.weight", "1.running_mean"] + ["0.bias"] * use_bias:
            np.testing.assert_allclose(after[name][channel], alpha * before[name][channel], rtol=3e-7)


@pytest.mark.parametrize("layer", [
    lambda: nn.Conv2D(6, 3, groups=3), lambda: nn.Conv2DTranspose(6, 3, groups=3),
    lambda: nn.Conv2DTranspose(6, 3, groups=1, use_bias=False), lambda: nn.Conv2DTranspose(3, 2, strides=2, groups=3),
    lambda: nn.Conv2D(3, 3, groups=3)])
def test_grouped_and_transposed_convolutions(layer):
    net, example = build(lambda: stacked(layer(), nn.BatchNorm(), nn.Activation("relu")), (2, 3, 6, 6))
    check(net, example, {"1": "0"})


@pytest.mark.parametrize("layer", [nn.Conv1D, nn.Conv3D, nn.Conv1DTranspose, nn.Conv3DTranspose])
def test_other_dimensions_also_after_inference(layer):
    """oneDNN has laid the weights of 1D and 3D convolutions out anew by then."""
    shape = (2, 3, *[5] * int(layer.__name__[4]))
    net, example = build(lambda: stacked(layer(16, 3), nn.BatchNorm(), nn.Activation("relu")), shape)
    net.hybridize(static_alloc=True)
    for _ in range(2):
        net(example).wait_to_read()
    check(net, example, {"1": "0"})


@pytest.mark.parametrize(("flatten", "axis", "folds"), [(True, 1, True), (True, -1, True), (False, 2, True),
                                                        (False, -1, True), (False, 1, False)])
def test_dense_layers_have_their_channels_last(flatten, axis, folds):
    net, example = build(lambda: stacked(nn.Dense(4, flatten=flatten), nn.BatchNorm(axis=axis)), (5, 4, 3))
    record = check(net, example, {"1": "0"} if folds else {}, [] if folds else ["1"])
    assert folds or record.left_out["1"].startswith("it normalizes axis 1, the channels of")


@pytest.mark.parametrize("norm", [nn.BatchNormReLU, lambda: mx.gluon.contrib.nn.SyncBatchNorm(num_devices=1)])
def test_other_batch_norms(norm):
    net, example = build(lambda: stacked(nn.Conv2D(6, 3), norm()), (2, 3, 5, 5))
    check(net, example, {"1": "0"})


def test_zero_and_negative_gamma_and_a_dead_channel():
    net, example = build(lambda: stacked(nn.Conv2D(4, 3), nn.BatchNorm()), (2, 3, 5, 5))
    net[1].gamma.set_data(mx.nd.array([0, -1.5, 1, 1]))
    net[1].running_var.set_data(mx.nd.array([1, 2, 0, 1e-38]))
    check(net, example, {"1": "0"})
    assert not values(net)["0.weight"][0].any()


def reused(net, F, x):
    return net.norm(net.conv(net.norm(net.conv(x))))


TWICE = [
    (reused, {}, "used more than once"),
    (lambda net, F, x: net.norm(net.conv(x)) + net.conv(x * 2), {}, "conv.weight is used more than once"),
    (lambda net, F, x: net.norm(net.conv(x)) + net.norm(net.other(x)), {"other": 3}, "norm.gamma is used more"),
    (lambda net, F, x: [net.norm(out) + F.tanh(out) for out in [net.conv(x)]][0], {}, "output of .* used elsewhere"),
    (lambda net, F, x: [F.Group([net.norm(out), out]) if F is mx.sym else [net.norm(out), out]
                        for out in [net.conv(x)]][0], {}, "output of .* is used elsewhere"),
    (lambda net, F, x: net.norm(F.relu(net.conv(x))), {}, "it reads the (relu|Activation)"),
    (lambda net, F, x: net.conv(net.norm(x)), {}, "it reads the variable data"),
]


@pytest.mark.parametrize(("function", "others", "reason"), TWICE)
def test_what_is_shared_or_has_no_layer_stays_with_the_reason(function, others, reason):
    others = {name: nn.Conv2D(channels, 3, padding=1) for name, channels in others.items()}
    net, example = build(lambda: Net(function, conv=nn.Conv2D(3, 3, padding=1), norm=nn.BatchNorm(), **others),
                         (2, 3, 5, 5))
    before = values(net)
    record = fold_batch_norm(net, example)
    assert record.folded == {}
    (why,) = record.left_out.values()
    assert re.search(reason, why), why
    assert identical(before, values(net))
    assert why in str(record)


def test_blocks_that_share_their_parameters_stay():
    first = nn.Conv2D(3, 3, padding=1)
    net, example = build(lambda: stacked(first, nn.BatchNorm(), nn.Conv2D(3, 3, padding=1, params=first.params),
                                         nn.BatchNorm()), (2, 3, 5, 5))
    record = check(net, example, {}, ["1", "3"])
    assert "0.weight is used more than once" in record.left_out["1"]
    assert "0.weight is used more than once" in record.left_out["3"]


def test_weights_that_are_computed_or_constant_stay():
    def normalized(net, F, x, weight):
        weight = F.L2Normalization(weight)
        return net.norm(F.Convolution(x, weight, num_filter=4, kernel=(3, 3), no_bias=True))

    net, example = build(lambda: Net(normalized, {"weight": (4, 3, 3, 3)}, norm=nn.BatchNorm()), (2, 3, 5, 5))
    assert "is not a parameter of the network" in check(net, example, {}, ["norm"]).left_out["norm"]

    class Fixed(mx.gluon.HybridBlock):
        def __init__(self):
            super().__init__()
            self.filters = self.params.get_constant("filters", np.random.default_rng(0).normal(size=(4, 3, 3, 3)))
            self.norm = nn.BatchNorm()

        def hybrid_forward(self, F, x, filters):
            return self.norm(F.Convolution(x, filters, num_filter=4, kernel=(3, 3), no_bias=True))

    net, example = build(Fixed, (2, 3, 5, 5))
    assert "filters is a gluon.Constant" in check(net, example, {}, ["norm"]).left_out["norm"]


def test_own_operators_and_several_inputs_and_outputs():
    def function(net, F, x, y, weight):
        x = net.norm(F.FullyConnected(x, weight, num_hidden=4, no_bias=True))
        return x, net.second(net.dense(y))

    net = Net(function, {"weight": (4, 6)}, norm=nn.BatchNorm(in_channels=4), dense=nn.Dense(5, in_units=3),
              second=nn.BatchNorm(in_channels=5))
    net.initialize(mx.init.Normal(0.5))
    inputs = mx.nd.random.normal(shape=(2, 6)), mx.nd.random.normal(shape=(2, 3))
    net.norm.running_var.set_data(mx.nd.array([1, 2, 3, 4]))
    expected = net(*inputs)
    record = fold_batch_norm(net, inputs)
    assert record.folded == {"norm": "weight", "second": "dense"}
    assert_close(net(*inputs), expected)


@pytest.mark.parametrize(("name", "folds", "stays"), [
    ("mobilenet0.25", 27, 0), ("resnet18_v1", 20, 0), ("resnet18_v2", 9, 10), ("mobilenetv2_0.25", 53, 0)])
def test_networks_of_the_zoo(name, folds, stays):
    net, example = build(lambda: vision.get_model(name, classes=10), (1, 3, 64, 64))
    for parameter in net.collect_params(".*running_var").values():
        parameter.set_data(parameter.data() * 3)
    expected = net(example)
    record = fold_batch_norm(net, example)
    assert (len(record.folded), len(record.left_out)) == (folds, stays)
    assert_close(net(example), expected, rtol=1e-3, atol=1e-4)


def test_a_dense_net():
    net, example = build(DenseNet, (2, 3, 8, 8))
    inner = {name.removesuffix(".gamma"): name.replace(".3.gamma", ".2")  # each second one reads a convolution
             for name in values(net) if name.endswith(".3.gamma")}
    others = {name.removesuffix(".gamma") for name in values(net) if name.endswith(".gamma")} - {"1", *inner}
    check(net, example, {"1": "0", **inner}, others)
    assert (len(inner), len(others)) == (3, 4)


def test_a_fused_network_stays_right():
    net, example = build(lambda: stacked(nn.Conv2D(8, 3), nn.BatchNorm(), nn.Activation("relu"), nn.Dense(3)),
                         (2, 3, 8, 8))
    net.hybridize(static_alloc=True, static_shape=True)
    net.optimize_for(example, backend="MKLDNN")
    expected = net(example)
    fold_batch_norm(net, example)
    assert_close(net(example), expected)


def test_every_device_gets_the_same():
    net = stacked(nn.Conv2D(4, 3, in_channels=3), nn.BatchNorm(in_channels=4))
    net.initialize(mx.init.Normal(1), ctx=[mx.cpu(0), mx.cpu(1)])
    net[1].running_var.set_data(mx.nd.array([1, 2, 3, 4]))
    example = mx.nd.random.normal(shape=(2, 3, 5, 5))
    expected = net(example)
    fold_batch_norm(net, example)
    for device in (mx.cpu(0), mx.cpu(1)):
        assert_close(net(example.as_in_context(device)), expected)


def test_one_scale_per_layer_gains_by_folding():
    """Channels whose BatchNorm scales differ a lot: the error is that of the product, as computed by hand."""
    errors = []
    for fold in (False, True):
        net, example = build(lambda: stacked(nn.Conv2D(8, 3, use_bias=False), nn.BatchNorm()), (4, 3, 9, 9))
        net[0].weight.set_data(net[0].weight.data() * mx.nd.array(10.0 ** np.arange(8) / 1e4).reshape((8, 1, 1, 1)))
        net[1].running_var.set_data(mx.nd.array(100.0 ** np.arange(8) / 1e8))
        net[1].running_mean.set_data(mx.nd.zeros(8))
        expected = net(example).asnumpy()
        if fold:
            fold_batch_norm(net, example)
            by_hand, _ = quantize_array(net[0].weight.data())
        scales = quantize_weights(net, per_channel=False)
        errors.append(np.square(net(example).asnumpy() - expected).mean())
    np.testing.assert_array_equal(scales.codes(net)["0.weight"], by_hand)
    assert errors[1] < errors[0] / 100


def test_it_goes_through_the_file(tmp_path):
    net, example = build(NormNet)
    fold_batch_norm(net, example)
    scales = quantize_weights(net, 4, clip="mse")
    expected = net(example).asnumpy()
    gc.save(tmp_path / "net.gcz", net, scales)
    loaded = NormNet()
    gc.load(tmp_path / "net.gcz", loaded)
    np.testing.assert_array_equal(loaded(example).asnumpy(), expected)


def test_a_network_without_batch_norm_has_nothing_to_fold():
    net, example = build(lambda: stacked(nn.Dense(3), nn.Dense(2)), (2, 4))
    before = values(net)
    record = fold_batch_norm(net, example)
    assert (record.folded, record.left_out) == ({}, {})
    assert identical(before, values(net))


@pytest.mark.parametrize(("parameter", "value"), [
    ("0.weight", np.nan), ("0.bias", np.inf), ("1.gamma", np.nan), ("1.running_var", -1), ("1.running_mean", -np.inf),
    ("1.running_var", np.nan)])
def test_values_that_are_not_finite_are_refused_with_nothing_changed(parameter, value):
    net, example = build(lambda: stacked(nn.Conv2D(4, 3), nn.BatchNorm(), nn.Conv2D(4, 3), nn.BatchNorm()),
                         (2, 3, 7, 7))
    index, name = parameter.replace("0", "2").replace("1", "3").split(".")  # the second pair, after a good one
    array = getattr(net[int(index)], name).data()
    array[1] = value
    before = values(net)
    with pytest.raises(NetworkError, match="not finite, or would not be with the scale of 3"):
        fold_batch_norm(net, example)
    assert identical(before, values(net))


def test_a_failure_in_the_middle_of_writing_is_undone(monkeypatch):
    net, example = build(NormNet)
    before = values(net)

    gamma, write = net.features[5].gamma, values_module.write_values

    def fail(parameter, value):
        if parameter is gamma and (value == 1).all():  # the new one, not the old one
            raise mx.MXNetError("no memory")
        write(parameter, value)
    monkeypatch.setattr(values_module, "write_values", fail)
    with pytest.raises(mx.MXNetError, match="no memory"):
        fold_batch_norm(net, example)
    assert identical(before, values(net))


@pytest.mark.parametrize(("example", "error", "message"), [
    (mx.nd.zeros((2, 3)), ValueError, "does not fit the network"),
    (np.zeros((2, 3, 8)), ValueError, "does not fit the network"),
    (None, TypeError, "example is None"),
    ((mx.nd.zeros((1, 3, 8, 8)),) * 2, NetworkError, "cannot be traced with 2"),
])
def test_a_bad_example_changes_nothing(example, error, message):
    net, _ = build(NormNet)
    before = values(net)
    with pytest.raises(error, match=message):
        fold_batch_norm(net, example)
    assert identical(before, values(net))


def test_an_eps_that_no_variance_can_complete():
    net, example = build(lambda: stacked(nn.Conv2D(4, 3), nn.BatchNorm(epsilon=1.5)), (2, 3, 5, 5))
    assert check(net, example, {}, ["1"]).left_out["1"].startswith("eps is 1.5")


@pytest.mark.parametrize("name", ["features.1.beta", "output.weight", "output.bias"])
def test_a_network_that_is_not_finite_is_refused_wherever_that_is(name):
    net, example = build(NormNet, (4, 3, 8, 8))
    parameter = network.parameters(net)[name]
    value = parameter.data()
    value[(0,) * value.ndim] = float("nan")
    parameter.set_data(value)
    before = values(net)
    with pytest.raises(NetworkError, match="NaN or infinite"):
        fold_batch_norm(net, example)
    assert identical(before, values(net))
