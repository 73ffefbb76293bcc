"""The criteria by which channels are ranked: each against loops, finite differences or hand arithmetic."""
from functools import partial

import gluon_compress  # noqa: F401

import mxnet as mx  # noqa: I001
import numpy as np
import pytest
from gluon_compress.errors import NetworkError
from gluon_compress.models import LeNet, ResNet
from gluon_compress.network.graph import Graph
from gluon_compress.pruning import (
    BatchNormScale, Random, Taylor, WeightCriterion, prune_channels, prune_channels_in_steps, prune_magnitude,
    prune_n_m, prune_random)
from gluon_compress.pruning import measure_sensitivity as sensitivity
from gluon_compress.pruning.channels.groups import Dependencies
from gluon_compress.pruning.criteria import FORMULAS, NAMED, channel_criterion
from mxnet.gluon import SymbolBlock, nn
from mxnet.gluon.loss import SoftmaxCrossEntropyLoss
from networks import Branches, Net, NormNet, build, exported, identical, randomize, values


def importance_of(net, example, criterion):
    """({first layer of a group: importance of its units}, {first layer: why it has none})."""
    dependencies = Dependencies(Graph(net, example), net)
    return [{key[0]: value for key, value in ranking.items()}
            for ranking in channel_criterion(criterion).of_channels(net, dependencies)]


def batches(example, classes, count=2):
    mx.random.seed(3)
    return [(mx.nd.random.normal(shape=example.shape), mx.nd.arange(len(example)) % classes) for _ in range(count)]


def loops(criterion, weight):
    rows = weight.reshape(len(weight), -1).astype(float).tolist()
    if criterion == "l1":
        return [sum(abs(value) for value in row) for row in rows]
    if criterion == "l2":
        return [sum(value * value for value in row) ** 0.5 for row in rows]
    return [sum(sum((a - b) ** 2 for a, b in zip(row, other)) ** 0.5 for other in rows) for row in rows]


@pytest.mark.parametrize("criterion", FORMULAS)
def test_weight_criteria_are_their_formulas(criterion):
    weight = np.random.default_rng(0).normal(size=(7, 3, 2, 2)).astype(np.float32)
    np.testing.assert_allclose(FORMULAS[criterion](weight), loops(criterion, weight), rtol=1e-6)


def test_the_geometric_median_of_equal_channels_goes_first():
    weight = np.zeros((5, 4), np.float32)
    weight[0, 0], weight[1, 1] = 3, -3  # far from the three that are equal
    assert FORMULAS["fpgm"](weight).argsort(kind="stable").tolist()[:3] == [2, 3, 4]


@pytest.mark.parametrize("criterion", FORMULAS)
def test_channels_that_go_together_get_the_mean_over_their_layers(criterion):
    net, example = build(Branches)
    weights = values(net)
    found, missing = importance_of(net, example, criterion)
    assert not missing
    left, right = (np.array(loops(criterion, weights[f"{name}.weight"])) for name in ("left", "right"))
    np.testing.assert_allclose(found["left"], (left / left.mean() + right / right.mean()) / 2, rtol=1e-5)
    first, _ = importance_of(net, example, WeightCriterion(criterion, "first"))
    np.testing.assert_allclose(first["left"], left / left.mean(), rtol=1e-5)


def test_bn_scale_is_the_gamma_behind():
    net, example = build(NormNet)
    net.features[1].gamma.set_data(mx.nd.array([5, -1, 2, -7, 3, 4, 8, 6]))
    plan = prune_channels(net, example, {"features.0": 0.5}, "bn_scale", round_to=1)
    assert plan.layers["features.0"]["kept"] == [0, 3, 6, 7]


def test_layers_without_a_scale_are_named_by_bn_scale():
    net, example = build(LeNet, (2, 1, 28, 28))
    before = values(net)
    with pytest.raises(ValueError, match="ranks no layer.*conv.0: no BatchNorm with a scale after it"):
        prune_channels(net, example, 0.5, "bn_scale", round_to=1)
    assert identical(before, values(net))


def mean_loss(net, inputs, labels):
    return float(SoftmaxCrossEntropyLoss()(net(inputs), labels).mean().asscalar())


@pytest.mark.parametrize(("network", "shape", "name"), [(NormNet, None, "features.0"), (NormNet, None, "features.9"),
                                                        (Branches, None, "left")])
def test_taylor_is_the_derivative_of_the_loss_by_the_unit_s_weights(network, shape, name):
    net, example = build(network, shape)
    data = batches(example, 4)
    found, _ = importance_of(net, example, Taylor(data))
    layers = {"left": ["left", "right"]}.get(name, [name])
    named = net._collect_params_with_prefix()
    expected = []
    for channel in range(len(found[name])):
        squares = 0
        for inputs, labels in data:
            losses = []
            for scale in (1.01, 0.99):
                originals = []
                for layer in layers:
                    parameter = named[f"{layer}.weight"]
                    originals.append((parameter, parameter.data().copy()))
                    moved = parameter.data().asnumpy()
                    moved[channel] *= scale
                    parameter.set_data(mx.nd.array(moved))
                losses.append(mean_loss(net, inputs, labels))
                for parameter, original in originals:
                    parameter.set_data(original)
            squares += ((losses[0] - losses[1]) / 0.02) ** 2  # d loss / d scale = sum g * w
        expected.append(squares / len(data))
    expected = np.array(expected) / np.mean(expected)
    np.testing.assert_allclose(found[name], expected, rtol=0.05, atol=0.02)


def products(net, inputs, labels, names):
    """{name: ``(sum g * w)**2`` of each row of the weight, divided by their mean}, by Gluon's own gradients."""
    with mx.autograd.record():
        loss = SoftmaxCrossEntropyLoss()(net(*inputs), labels).mean()
    loss.backward()
    found = {}
    for name in names:
        weight = net._collect_params_with_prefix()[f"{name}.weight"]
        gradient, axes = weight.grad().asnumpy(), tuple(range(1, weight.data().ndim))
        squares = (gradient * weight.data().asnumpy()).sum(axis=axes) ** 2
        found[name] = squares / squares.mean()
    return found


def several_inputs():
    mx.random.seed(2)
    net, (first, second) = Net(lambda net, F, x, y: net.output(F.relu(net.a(x) + net.b(y))), a=nn.Dense(6),
                               b=nn.Dense(6), output=nn.Dense(3)), (mx.nd.random.normal(shape=(4, n)) for n in (5, 7))
    net.initialize(mx.init.Normal(0.3))
    net(first, second)
    return net, (first, second)


@pytest.mark.parametrize("as_numpy", [False, True])
@pytest.mark.parametrize("symbol_block", [False, True])
def test_taylor_with_several_inputs(symbol_block, as_numpy, tmp_path):
    net, inputs = several_inputs()
    labels = mx.nd.array([0, 1, 2, 0])
    expected = products(net, inputs, labels, ["a"])["a"]
    if symbol_block:
        net = exported(net, inputs, tmp_path)
    batch = (tuple(array.asnumpy() for array in inputs), labels.asnumpy()) if as_numpy else (inputs, labels)
    (found,) = importance_of(net, inputs, Taylor([batch], over="first"))[0].values()
    np.testing.assert_allclose(found, expected, rtol=1e-3, atol=1e-4)


def test_taylor_with_sparse_gradients_of_an_embedding():
    def function(net, F, x):
        return net.output(F.relu(net.hidden(net.table(x))))
    found = {}
    for sparse in (False, True):
        net, example = build(Net, (6,), function=function, table=nn.Embedding(10, 8, sparse_grad=sparse),
                             hidden=nn.Dense(7), output=nn.Dense(3))
        found[sparse], _ = importance_of(net, example, Taylor([(example, mx.nd.array([0, 1, 2, 0, 1, 2]))]))
        assert net.table.weight.grad().stype == ("row_sparse" if sparse else "default")
    assert found[True].keys() == found[False].keys() >= {"table", "hidden"}
    for name, importance in found[True].items():
        np.testing.assert_array_equal(importance, found[False][name])


def test_taylor_with_a_batch_norm_that_has_no_attributes():
    mx.random.seed(0)
    x = mx.sym.var("data")
    y = mx.sym.BatchNorm(mx.sym.FullyConnected(x, num_hidden=6, name="hidden"), name="norm")
    block = SymbolBlock(mx.sym.FullyConnected(mx.sym.relu(y), num_hidden=3, name="output"), [x])
    block.initialize(mx.init.Normal(0.3))
    example = mx.nd.random.normal(shape=(4, 5))
    block(example)
    randomize(block)  # a variance must not be negative
    found, _ = importance_of(block, example, Taylor(batches(example, 3)))
    assert found["hidden"].shape == (6,) and found["hidden"].mean() == pytest.approx(1)


def test_taylor_leaves_gradients_statistics_and_settings_alone():
    net, example = build(NormNet)
    net.features[0].weight.grad_req = "add"
    net.features[4].weight.grad_req = "null"
    def backward():
        mx.random.seed(4)  # the same dropout
        with mx.autograd.record():
            loss = net(example).sum()
        loss.backward()

    backward()
    before = values(net)
    gradients = {name: parameter.grad().asnumpy() for name, parameter in net.collect_params().items()
                 if parameter.grad_req != "null"}
    importance_of(net, example, Taylor(batches(example, 5)))
    assert identical(before, values(net))
    for name, parameter in net.collect_params().items():
        if name in gradients:
            assert (parameter.grad().asnumpy() == gradients[name]).all()
    backward()  # the user's own gradients again: "add" adds, "write" overwrites
    np.testing.assert_allclose(net.features[0].weight.grad().asnumpy(),
                               2 * gradients[net.features[0].weight.name], rtol=1e-3, atol=1e-4)
    assert net.features[4].weight.grad_req == "null"


def test_random_is_reproducible_and_not_constant():
    nets = [build(NormNet) for _ in range(3)]
    plans = [prune_channels(*net, 0.5, Random(seed), round_to=1) for net, seed in zip(nets, (1, 1, 2))]
    assert plans[0].layers == plans[1].layers != plans[2].layers


def test_a_criterion_of_your_own():
    net, example = build(LeNet, (2, 1, 28, 28))
    seen = []

    def last_first(weight):
        seen.append(weight.shape)
        return -np.arange(len(weight))

    plan = prune_channels(net, example, {"conv.2": 0.2}, last_first, round_to=1)
    assert plan.layers["conv.2"]["kept"] == list(range(40))
    assert (50, 20, 3, 3) in seen


@pytest.mark.parametrize("wrong", [lambda w: np.ones(3), lambda w: np.full(len(w), np.nan)])
def test_a_criterion_that_returns_something_else(wrong):
    net, example = build(LeNet, (2, 1, 28, 28))
    before = values(net)
    with pytest.raises(ValueError, match="criterion gives .* for layer .*one per output channel"):
        prune_channels(net, example, 0.5, wrong, round_to=1)
    assert identical(before, values(net))


def test_transposed_convolutions_have_their_output_channels_on_the_second_axis():
    net = nn.HybridSequential()
    net.add(nn.Conv2DTranspose(6, 3), nn.Activation("relu"), nn.Conv2D(2, 1))
    net.initialize(mx.init.Normal(1))
    example = mx.nd.ones((1, 4, 5, 5))
    net(example)
    weight = net[0].weight.data().asnumpy()
    norms = np.abs(weight).sum(axis=(0, 2, 3))
    plan = prune_channels(net, example, 0.5, round_to=1)
    assert plan.layers["0"]["kept"] == sorted(norms.argsort()[3:].tolist())
    np.testing.assert_array_equal(net[0].weight.data().asnumpy(), weight[:, plan.layers["0"]["kept"]])


@pytest.mark.parametrize("criterion", [*NAMED, "taylor"])
def test_weights_that_are_not_finite_are_named(criterion):
    net, example = build(ResNet, (2, 3, 16, 16), depth=18, classes=4, thumbnail=True, width=4)
    name = "features.1.gamma" if criterion == "bn_scale" else "features.0.weight"
    parameter = net._collect_params_with_prefix()[name]
    broken = parameter.data().asnumpy()
    broken.flat[1] = np.nan
    parameter.set_data(mx.nd.array(broken))
    before = values(net)
    if criterion == "random":
        assert prune_channels(net, example, 0.5, criterion, round_to=1).layers
        return
    criterion = Taylor(batches(example, 4, 1)) if criterion == "taylor" else criterion
    with pytest.raises(NetworkError, match="layer features.[01].*not finite"):
        prune_channels(net, example, 0.5, criterion, round_to=1)
    assert identical(before, values(net))


BATCH = mx.nd.ones((4, 3, 8, 8))


@pytest.mark.parametrize(("criterion", "error", "message"), [
    (lambda: "taylor", ValueError, r"criterion is 'taylor', which needs data; accepted: Taylor\(data, loss\)"),
    (lambda: Taylor([]), ValueError, "data has no batches"),
    (lambda: Taylor(5), TypeError, "data is 5; accepted: an iterable of"),
    (lambda: Taylor(None), TypeError, "data is None; accepted: an iterable of"),
    (lambda: Taylor([(BATCH,)]), ValueError,
     "a batch of data is a tuple of 1 for a network of 1 input.*; accepted: pairs"),
    (lambda: Taylor([BATCH]), ValueError, "a batch of data is an NDArray; accepted: pairs"),
    (lambda: Taylor([(mx.nd.ones((2, 7)), mx.nd.ones(2))]), ValueError, r"\(2, 7\) does not fit"),
    (lambda: Taylor([(BATCH, mx.nd.ones(3))]), ValueError, r"labels have shape \(3,\) for a batch of 4"),
    (lambda: Taylor([(BATCH, mx.nd.ones(4))], "ce"), TypeError, "loss is 'ce'; accepted: a f"),
    (lambda: Taylor([(BATCH, mx.nd.ones(4))], lambda output, label: 1), TypeError,
     "the loss gives 1; accepted: an NDArray"),
    (lambda: Taylor, TypeError, "criterion is the class Taylor; accepted: an object of it"),
    (lambda: "l0", ValueError, r"criterion is 'l0'; accepted: 'l1', 'l2', 'fpgm', 'bn_scale', 'random', Taylor\(data"),
    (lambda: 3, ValueError, "criterion is 3; accepted: 'l1'"),
    (lambda: WeightCriterion("l0"), ValueError, "formula is 'l0'; accepted: 'l1', 'l2', 'fpgm'"),
    (lambda: WeightCriterion("l1", "all"), ValueError, "over is 'all'; accepted: 'group', 'first'"),
    (lambda: BatchNormScale("all"), ValueError, "over is 'all'; accepted: 'group', 'first'"),
    (lambda: Random(-1), ValueError, "seed is -1"),
])
def test_bad_criteria(criterion, error, message):
    net, example = build(NormNet)
    before = values(net)
    with pytest.raises(error, match=message):
        prune_channels(net, example, 0.5, criterion(), round_to=1)
    assert identical(before, values(net))


@pytest.mark.parametrize("criterion", ["bn_scale", "fpgm", "taylor", WeightCriterion(np.sum), BatchNormScale(),
                                       Taylor([(BATCH, mx.nd.ones(4))])])
def test_criteria_that_rank_channels_only(criterion):
    net, _ = build(NormNet)
    before = values(net)
    for call in (partial(prune_magnitude, net, 0.5), partial(prune_n_m, net, 1, 1),
                 partial(sensitivity, net, lambda net: 1.0)):
        with pytest.raises(ValueError, match="criterion is .*(accepted for single weights: 'l1'|which needs data)"):
            call(criterion=criterion)
    assert identical(before, values(net))


@pytest.mark.parametrize("criterion", ["l1", "l2", None])
def test_single_weights_by_a_named_norm_are_those_by_magnitude(criterion):
    nets = [build(NormNet)[0] for _ in range(2)]
    expected = prune_magnitude(nets[0], 0.7)
    assert prune_magnitude(nets[1], 0.7, criterion=criterion).digest == expected.digest


def test_a_seed_prunes_the_same_single_weights_by_either_name():
    masks = [prune_random(build(NormNet)[0], 0.3, seed=5),
             prune_magnitude(build(NormNet)[0], amount=0.3, criterion=Random(5)),
             prune_magnitude(build(NormNet)[0], amount=0.3, criterion="random")]
    assert masks[0].digest == masks[1].digest != masks[2].digest


def test_a_generator_is_refused_where_it_would_be_used_up():
    net, example = build(NormNet)
    data, before = batches(example, 5), values(net)
    with pytest.raises(TypeError, match="data is a list_iterator, which is used up after one pass"):
        prune_channels_in_steps(net, example, 0.5, steps=2, criterion=Taylor(iter(data)), round_to=1)
    with pytest.raises(TypeError, match="data is a generator, which is used up after one pass"):
        sensitivity(net, lambda net: 1.0, example, "channels", criterion=Taylor(batch for batch in data))
    assert identical(before, values(net))
    plan = prune_channels(net, example, 0.5, Taylor(iter(data)), round_to=1)  # one pass is all that this takes
    assert plan.layers == prune_channels(build(NormNet)[0], example, 0.5, Taylor(data), round_to=1).layers


def test_why_taylor_does_not_use_mxnet_s_inference_mode():
    net, example = build(Branches)
    labels, weight = mx.nd.arange(len(example)) % 4, net.stem.weight

    def change(train_mode):
        with mx.autograd.record(train_mode=train_mode):
            loss = SoftmaxCrossEntropyLoss()(net(example), labels).mean()
        loss.backward(train_mode=train_mode)
        return float((weight.grad() * weight.data()).sum().asscalar())

    original, losses = weight.data().copy(), []
    for scale in (1.001, 0.999):
        weight.set_data(original * scale)
        losses.append(mean_loss(net, example, labels))
    weight.set_data(original)
    expected = (losses[0] - losses[1]) / 0.002
    assert change(True) == pytest.approx(expected, rel=0.02)  # no dropout, no BatchNorm: the modes should agree
    assert change(False) != pytest.approx(expected, rel=0.2)  # max pooling keeps no record of its maxima
