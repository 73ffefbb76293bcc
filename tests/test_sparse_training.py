"""Sparse training: the penalty's value by hand, its gradient by finite differences, its effect on a network."""
import gluon_compress  # noqa: F401

import mxnet as mx  # noqa: I001
import numpy as np
import pytest
from gluon_compress.errors import NetworkError
from gluon_compress.models import LeNet
from gluon_compress.pruning import ChannelPenalty, prune_channels
from mxnet import autograd
from mxnet.gluon import Trainer
from networks import Branches, NormNet, build, identical, values

KINDS = pytest.mark.parametrize("kind", ["bn_scale", "group_lasso"])


def without_loss(net, example):
    """A backward pass whose gradients are zero."""
    with autograd.record():
        loss = net(example).sum() * 0
    loss.backward()


@pytest.mark.parametrize(("network", "kind"), [(NormNet, "bn_scale"), (NormNet, "group_lasso"),
                                               (Branches, "group_lasso")])
def test_gradients_are_the_derivatives_of_the_value(network, kind):
    net, example = build(network)
    penalty = ChannelPenalty(net, example, 0.01, kind)
    without_loss(net, example)
    penalty.add_gradients(batch_size=4)
    checked = 0
    for parameter in net.collect_params().values():
        if parameter.grad_req == "null":
            continue
        weight, gradient = parameter.data().asnumpy(), parameter.grad().asnumpy()
        for index in list(np.ndindex(weight.shape))[::23]:
            step = 1e-2 * max(abs(weight[index]), 0.1)
            changed = []
            for sign in (1, -1):
                moved = weight.copy()
                moved[index] += sign * step
                parameter.set_data(mx.nd.array(moved))
                changed.append(penalty.value())
            parameter.set_data(mx.nd.array(weight))
            np.testing.assert_allclose(gradient[index], 4 * (changed[0] - changed[1]) / (2 * step),
                                       rtol=0.02, atol=2e-4)
            checked += gradient[index] != 0
    assert checked > 3


def test_the_value_of_bn_scale_by_hand():
    net, example = build(NormNet)
    total = sum(float(np.abs(value).sum()) for name, value in values(net).items() if name.endswith("gamma"))
    assert ChannelPenalty(net, example, 0.5).value() == pytest.approx(0.5 * total, rel=1e-6)


def test_the_value_of_the_group_lasso_by_hand():
    net, example = build(LeNet, (2, 1, 28, 28))
    w = values(net)
    pixels = w["dense.0.weight"].reshape(128, 50, -1)
    total = 0.0
    for c in range(20):
        total += np.sqrt((w["conv.0.weight"][c] ** 2).sum() + (w["conv.2.weight"][:, c] ** 2).sum())
    for c in range(50):
        total += np.sqrt((w["conv.2.weight"][c] ** 2).sum() + (pixels[:, c] ** 2).sum())
    for c in range(128):
        total += np.sqrt((w["dense.0.weight"][c] ** 2).sum() + (w["dense.1.weight"][:, c] ** 2).sum())
    assert ChannelPenalty(net, example, 2.0, "group_lasso").value() == pytest.approx(2 * total, rel=1e-5)


@KINDS
def test_training_with_it_makes_channels_smaller(kind):
    def trained(strength):
        net, example = build(NormNet)
        labels = mx.nd.arange(len(example)) % 5
        penalty = ChannelPenalty(net, example, strength, kind)
        trainer = Trainer(net.collect_params(), "sgd", {"learning_rate": 0.1})
        for _ in range(20):
            with autograd.record():
                loss = mx.gluon.loss.SoftmaxCrossEntropyLoss()(net(example), labels)
            loss.backward()
            penalty.add_gradients(len(example))
            trainer.step(len(example))
        return ChannelPenalty(net, example, 1.0, kind).value()

    assert trained(0.2) < 0.9 * trained(0)


def test_a_channel_of_zeros_is_left_alone():
    net, example = build(NormNet)
    gamma = net.features[1].gamma
    gamma.set_data(mx.nd.zeros_like(gamma.data()))
    penalty = ChannelPenalty(net, example, 0.1)
    without_loss(net, example)
    penalty.add_gradients(1)
    assert (gamma.grad().asnumpy() == 0).all()


def test_it_adds_to_the_gradient_and_works_on_two_devices():
    net, example = build(NormNet)
    net.collect_params().reset_ctx([mx.cpu(0), mx.cpu(1)])
    penalty = ChannelPenalty(net, example, 0.1)
    gamma = net.features[1].gamma
    for context in gamma.list_ctx():
        with autograd.record():
            loss = net(example.as_in_context(context)).sum()
        loss.backward()
    before = [gradient.asnumpy() for gradient in gamma.list_grad()]
    penalty.add_gradients(2)
    sign = np.sign(gamma.data(mx.cpu(0)).asnumpy())
    for old, new in zip(before, gamma.list_grad()):
        np.testing.assert_allclose(new.asnumpy(), old + 0.2 * sign, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize(("arguments", "error", "message"), [
    ({"strength": -1}, ValueError, "strength is -1"),
    ({"strength": "strong"}, TypeError, "strength is 'strong'"),
    ({"strength": 1, "kind": "l0"}, ValueError, "kind is 'l0'; accepted: 'bn_scale', 'group_lasso'"),
])
def test_bad_arguments(arguments, error, message):
    net, example = build(NormNet)
    before = values(net)
    with pytest.raises(error, match=message):
        ChannelPenalty(net, example, **arguments)
    assert identical(before, values(net))


def test_nothing_to_pull_and_frozen_parameters():
    net, example = build(LeNet, (2, 1, 28, 28))
    with pytest.raises(ValueError, match="no prunable channels with a BatchNorm after them"):
        ChannelPenalty(net, example, 0.1)
    net.conv[0].weight.grad_req = "null"
    with pytest.raises(NetworkError, match="conv.0.weight is frozen"):
        ChannelPenalty(net, example, 0.1, "group_lasso")


def test_the_shapes_after_pruning_need_a_new_penalty():
    net, example = build(NormNet)
    old = ChannelPenalty(net, example, 1.0)
    prune_channels(net, example, 0.5, round_to=1)
    gamma = net.features[1].gamma.data().asnumpy()
    for call in (old.value, lambda: old.add_gradients(4)):
        with pytest.raises(NetworkError, match=r"features.1.gamma has shape \(4,\) now, and had 8 .*: make a new one"):
            call()
    assert ChannelPenalty(net, example, 1.0).value() >= np.abs(gamma).sum()
