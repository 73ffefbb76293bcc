"""BatchNorm's statistics, estimated anew: against NumPy, and on a pruned network."""
import gluon_compress as gc

import mxnet as mx  # noqa: I001
import numpy as np
import pytest
from gluon_compress.errors import NetworkError
from gluon_compress.models import LeNet
from gluon_compress.pruning import prune_channels, reestimate_batch_norm
from mxnet import autograd
from mxnet.gluon import nn
from networks import Net, NormNet, build, exported, identical, values


def random_batches(count, shape=(6, 3, 8, 8)):
    return [(mx.nd.random.normal(loc=1, scale=2, shape=shape), None) for _ in range(count)]


def two_norms(momentum=0.7, scale=False):
    mx.random.seed(0)
    net = nn.HybridSequential()
    net.add(nn.Conv2D(4, 3, use_bias=False), nn.BatchNorm(momentum=momentum), nn.Activation("relu"),
            nn.Conv2D(5, 3), nn.BatchNorm(axis=1, scale=scale), nn.Flatten(), nn.Dense(3))
    net.initialize(mx.init.Xavier())
    net(mx.nd.zeros((1, 3, 8, 8)))
    return net


@pytest.mark.parametrize("hybridized", [False, True])
def test_they_are_the_means_over_batches_of_what_numpy_finds(hybridized):
    net, data = two_norms(), random_batches(4)
    if hybridized:
        net.hybridize(static_alloc=True, static_shape=True)
    assert reestimate_batch_norm(net, data) == 2
    means, variances = [[], []], [[], []]
    for inputs, _ in data:
        for index, convolution in enumerate((net[0], net[3])):
            x = convolution(inputs).asnumpy().astype(np.float64)
            mean, variance = x.mean(axis=(0, 2, 3)), x.var(axis=(0, 2, 3))
            means[index].append(mean)
            variances[index].append(variance)
            if index == 0:  # the second convolution reads what the first BatchNorm makes in training
                norm = net[1]
                scaled = (x - mean[:, None, None]) / np.sqrt(variance + 1e-5)[:, None, None]
                scaled = scaled * norm.gamma.data().asnumpy()[:, None, None] + norm.beta.data().asnumpy()[:, None, None]
                inputs = mx.nd.array(np.maximum(scaled, 0))
    for index, norm in enumerate((net[1], net[4])):
        np.testing.assert_allclose(norm.running_mean.data().asnumpy(), np.mean(means[index], 0), rtol=1e-4, atol=1e-5)
        np.testing.assert_allclose(norm.running_var.data().asnumpy(), np.mean(variances[index], 0), rtol=1e-4)


def test_outputs_are_kept_and_training_computes_them_too():
    """Of a network whose BatchNorms were folded: in training they would normalize what is no longer normalized."""
    net, data = two_norms(scale=True), random_batches(1, (64, 3, 8, 8))
    inputs = data[0][0]
    for norm in (net[1], net[4]):
        norm.gamma.set_data(mx.nd.random.uniform(0.3, 3, norm.gamma.shape))
        norm.beta.set_data(mx.nd.random.normal(shape=norm.beta.shape))
    reestimate_batch_norm(net, data)
    gc.quantization.fold_batch_norm(net, inputs)
    folded, weights = net(inputs).asnumpy(), [net[index].weight.data().asnumpy() for index in (0, 3)]
    with autograd.train_mode():
        assert np.abs(net(inputs).asnumpy() - folded).max() > 0.1
    assert reestimate_batch_norm(net, data, keep_outputs=True) == 2
    np.testing.assert_allclose(net(inputs).asnumpy(), folded, rtol=1e-4, atol=1e-5)
    with autograd.train_mode():  # of one batch, whose statistics these are
        np.testing.assert_allclose(net(inputs).asnumpy(), folded, rtol=1e-3, atol=1e-4)
    for index, weight in zip((0, 3), weights):
        assert np.array_equal(net[index].weight.data().asnumpy(), weight)
    read = net[0](inputs).asnumpy().astype(np.float64)
    np.testing.assert_allclose(net[1].running_var.data().asnumpy(), read.var(axis=(0, 2, 3)), rtol=1e-4)


def test_while_mxnet_records_the_same_is_done():
    net, again, data = two_norms(), two_norms(), random_batches(2)
    reestimate_batch_norm(net, data)
    with autograd.record():
        reestimate_batch_norm(again, data)
    assert identical(values(net), values(again))


def test_a_fixed_gamma_cannot_keep_the_outputs():
    net, data = two_norms(), random_batches(2)
    before = values(net)
    with pytest.raises(ValueError, match="gamma of 4 is fixed"):
        reestimate_batch_norm(net, data, keep_outputs=True)
    assert identical(before, values(net))
    with pytest.raises(TypeError, match="keep_outputs"):
        reestimate_batch_norm(net, data, keep_outputs=1)


def gamma_of(F, norm):
    return norm.gamma.var() if F is mx.sym else norm.gamma.data()


def shared_norm(**arguments):
    norm = nn.BatchNorm(in_channels=3)
    return {"first": norm, "second": nn.BatchNorm(in_channels=3, params=norm.params, **arguments)}


@pytest.mark.parametrize("what, message, function, layers", [
    ("another eps", "_beta|first.beta is read by", lambda net, F, x: net.second(net.first(x) + 1),
     lambda: shared_norm(epsilon=0.5)),
    ("a layer", "norm.gamma is read by", lambda net, F, x: F.broadcast_mul(
        net.norm(x), F.reshape(gamma_of(F, net.norm), (1, -1, 1, 1))), lambda: {"norm": nn.BatchNorm(in_channels=3)}),
    ("made anew", "gamma of .* no parameter", lambda net, F, x, beta, running_mean, running_var: F.BatchNorm(
        x, F.mean(x, axis=(0, 2, 3)), beta, running_mean, running_var, fix_gamma=False), dict),
    ("read mean", "reads the mean or variance", lambda net, F, x, gamma, beta, running_mean, running_var: F.BatchNorm(
        x, gamma, beta, running_mean, running_var, fix_gamma=False, output_mean_var=True)[1], dict),
])
def test_where_something_else_makes_or_reads_what_changes_outputs_cannot_be_kept(what, message, function, layers):
    own = {"made anew": ("beta", "running_mean", "running_var"),
           "read mean": ("gamma", "beta", "running_mean", "running_var")}.get(what, ())
    net = Net(function, dict.fromkeys(own, (3,)), **layers())
    net.initialize(mx.init.One())
    data = random_batches(2)
    net(data[0][0])
    before = values(net)
    with pytest.raises(ValueError, match=message):
        reestimate_batch_norm(net, data, keep_outputs=True)
    assert identical(before, values(net))


@pytest.mark.parametrize("arguments", [{}, {"use_global_stats": True}])
def test_norms_that_share_all_parameters_keep_the_outputs(arguments):
    net, data = Net(lambda net, F, x: net.second(net.first(x) * 3 + 2), **shared_norm(**arguments)), random_batches(2)
    net.initialize()
    before = net(data[0][0]).asnumpy()
    assert reestimate_batch_norm(net, data, keep_outputs=True) == 1
    np.testing.assert_allclose(net(data[0][0]).asnumpy(), before, rtol=1e-4, atol=1e-4)


def test_nothing_else_changes_and_the_number_of_batches_is_kept_to():
    net, data = two_norms(), random_batches(5)
    before = values(net)
    reestimate_batch_norm(net, data, batches=2)
    after = values(net)
    changed = {name for name in before if not np.array_equal(before[name], after[name])}
    assert changed == {"1.running_mean", "1.running_var", "4.running_mean", "4.running_var"}
    again = two_norms()
    reestimate_batch_norm(again, data[:2])
    assert identical(after, values(again))


def test_numpy_arrays_are_batches_too():
    net, again, data = two_norms(), two_norms(), random_batches(2)
    reestimate_batch_norm(net, data)
    reestimate_batch_norm(again, [inputs.asnumpy() for inputs, _ in data])
    assert identical(values(net), values(again))


def test_a_layer_that_is_called_twice_gets_the_mean_of_both_calls():
    net = Net(lambda net, F, x: net.norm(net.norm(x) * 3 + 2), norm=nn.BatchNorm(momentum=0.5))
    net.initialize()
    data = random_batches(3, (6, 2, 4, 4))
    net(data[0][0])
    assert reestimate_batch_norm(net, data) == 1
    first = np.array([(x.asnumpy().mean(axis=(0, 2, 3)), x.asnumpy().var(axis=(0, 2, 3))) for x, _ in data])
    # the second call reads 3 * (x - mean) / sqrt(variance + 1e-5) + 2
    second = np.array([(np.full(2, 2), 9 * variance / (variance + 1e-5)) for _, variance in first])
    mean, variance = (first.mean(axis=0) + second.mean(axis=0)) / 2
    np.testing.assert_allclose(net.norm.running_mean.data().asnumpy(), mean, rtol=1e-4)
    np.testing.assert_allclose(net.norm.running_var.data().asnumpy(), variance, rtol=1e-4)


@pytest.mark.parametrize(("number", "error"), [(0, ValueError), (-1, ValueError), ("3", TypeError), (2.5, TypeError),
                                               (True, TypeError)])
def test_a_wrong_number_of_batches_is_refused(number, error):
    net = two_norms()
    before = values(net)
    with pytest.raises(error, match=f"batches is {number!r}; accepted"):
        reestimate_batch_norm(net, random_batches(2), batches=number)
    assert identical(before, values(net))


def test_layers_with_fixed_statistics_are_left_alone():
    net = two_norms()
    net[1]._kwargs["use_global_stats"] = True
    before = net[1].running_mean.data().asnumpy()
    assert reestimate_batch_norm(net, random_batches(1)) == 1
    assert (net[1].running_mean.data().asnumpy() == before).all()


def test_symbol_blocks_and_bare_inputs(tmp_path):
    net, example = build(NormNet)
    block = exported(net, example, tmp_path)
    inputs = [mx.nd.random.normal(shape=example.shape) for _ in range(2)]
    reestimate_batch_norm(net, inputs)
    reestimate_batch_norm(block, [(value, None) for value in inputs])
    np.testing.assert_allclose(block(example).asnumpy(), net(example).asnumpy(), rtol=1e-5, atol=1e-6)


def test_it_gives_back_accuracy_to_a_pruned_network():
    train, test = gc.datasets.cifar10()
    net = gc.params.load("resnet18_cifar10")
    data = test.subset(slice(0, 200)).batches(200)
    prune_channels(net, next(iter(data))[0], 0.3, round_to=1)
    before = gc.training.evaluate(net, data)
    reestimate_batch_norm(net, train.subset(slice(0, 256)).batches(128))
    assert gc.training.evaluate(net, data) > before + 0.1


@pytest.mark.parametrize(("data", "error", "message"), [
    ([], ValueError, "data has no batches"),
    ([(mx.nd.ones((1, 3, 8, 8)) * np.nan, None)], ValueError, "a batch of data has values that are NaN"),
    ([(mx.nd.ones((1, 3, 8, 8)) * 3e38, None)], NetworkError, "would not be finite"),
    ([(None, None)], TypeError, "a batch of data holds None"),
    (5, TypeError, "data is 5; accepted: an iterable of"),
    ([5], TypeError, "a batch of data holds an int"),
    ([()], ValueError, "a batch of data is a tuple of 0 for"),
    ([mx.nd.ones((1, 3, 8))], ValueError, r"an example of shape \(1, 3, 8\) does not fit the network"),
    ([mx.nd.ones((2, 3, 8, 8)), mx.nd.ones((2, 4, 8, 8))], ValueError, r"\(2, 4, 8, 8\) does not fit the network"),
    ([(mx.nd.ones((2, 3, 8, 8)), mx.nd.ones(2)), ((), 1)], ValueError, "a batch of data has no input"),
])
def test_bad_data_changes_nothing(data, error, message):
    net = two_norms()
    before = values(net)
    with pytest.raises(error, match=message):
        reestimate_batch_norm(net, data)
    assert identical(before, values(net))


def test_a_network_without_batch_norm_is_refused():
    net, example = build(LeNet, (2, 1, 28, 28))
    with pytest.raises(ValueError, match="no BatchNorm"):
        reestimate_batch_norm(net, [example])
