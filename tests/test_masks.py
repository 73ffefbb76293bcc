"""Masks hold under every optimizer, freeze, travel as JSON, and refuse other networks."""
import json

import gluon_compress  # noqa: F401

import mxnet as mx  # noqa: I001
import numpy as np
import pytest
from gluon_compress.errors import NetworkError, RecordError
from gluon_compress.models import LeNet, SimpleCNN
from gluon_compress.pruning import MaskedTrainer, Masks, prune_magnitude
from mxnet import autograd
from mxnet.gluon import Trainer, nn
from networks import NormNet, SharedWeights, build, exported, fresh, identical, values

LENET = (2, 1, 28, 28)
# All that MXNet registers, but "test", which it has for its own tests; GroupAdaGrad takes matrices only.
OPTIMIZERS = sorted(set(mx.optimizer.Optimizer.opt_registry) - {"test", "groupadagrad"})
MOMENTUM = {"learning_rate": 0.05, "momentum": 0.9, "wd": 0.01}


def train(net, example, trainer, steps=4, mask_gradients=None):
    for _ in range(steps):
        with autograd.record():
            loss = (net(example) ** 2).sum()
        loss.backward()
        if mask_gradients is not None:
            for name, parameter in net._collect_params_with_prefix().items():
                if name in mask_gradients.kept:
                    parameter.grad()[:] *= mx.nd.array(mask_gradients.kept[name])
        trainer.step(len(example))


def moved_zeros(net, masks):
    return sum(np.count_nonzero(values(net)[name][~kept]) for name, kept in masks.kept.items())


@pytest.mark.parametrize("optimizer", OPTIMIZERS)
def test_zeros_stay_exactly_zero_and_survivors_move(optimizer):
    net, example = build(NormNet)
    masks = prune_magnitude(net, 0.7)
    before = values(net)
    parameters = {"learning_rate": 0.01, "wd": 0.01}
    if optimizer in ("sgd", "nag", "signum", "lars", "lbsgd"):  # dcasgd with momentum fails
        parameters["momentum"] = 0.9
    train(net, example, MaskedTrainer(net, masks, optimizer, parameters))
    after = values(net)
    for name, kept in masks.kept.items():
        np.testing.assert_array_equal(after[name][~kept], 0)
        assert np.isfinite(after[name]).all()
        assert np.mean(after[name][kept] != before[name][kept]) > 0.8, name
    assert not np.array_equal(after["output.bias"], before["output.bias"])


def test_zeros_stay_under_group_adagrad():
    net, example = build(nn.Dense, (4, 6), units=5, use_bias=False)
    masks = prune_magnitude(net, 0.5)
    before = values(net)["weight"]
    train(net, example, MaskedTrainer(net, masks, "groupadagrad", {"learning_rate": 0.01, "wd": 0}))
    after = values(net)["weight"]
    np.testing.assert_array_equal(after[~masks.kept["weight"]], 0)
    assert (after != before)[masks.kept["weight"]].all()


def test_zeros_stay_where_adamax_divides_zero_by_zero():
    """Weights of an input that is always zero have no gradient."""
    net, example = build(nn.Dense, (4, 6), units=5)
    net.weight.data()[:, 2] = 0
    example[:, 2] = 0
    masks = prune_magnitude(net, 0.5)
    assert not masks.kept["weight"][:, 2].any()
    train(net, example, MaskedTrainer(net, masks, "adamax", {"learning_rate": 0.01}))
    np.testing.assert_array_equal(values(net)["weight"][~masks.kept["weight"]], 0)


@pytest.mark.parametrize("optimizer", ["sgd", "adam"])
def test_a_plain_trainer_moves_the_zeros(optimizer):
    net, example = build(NormNet)
    masks = prune_magnitude(net, 0.7)
    train(net, example, Trainer(net.collect_params(), optimizer))
    assert moved_zeros(net, masks) > 100


def test_masking_the_gradients_is_not_enough_after_a_dense_start():
    """Momentum gathered before pruning moves pruned weights whose gradient is zero."""
    net, example = build(NormNet)
    trainer = Trainer(net.collect_params(), "sgd", MOMENTUM)
    train(net, example, trainer)
    masks = prune_magnitude(net, 0.7)
    train(net, example, trainer, mask_gradients=masks)
    assert moved_zeros(net, masks) > 100


def test_a_masked_trainer_continues_the_states_of_a_dense_start(tmp_path):
    net, example = build(NormNet)
    dense = Trainer(net.collect_params(), "sgd", MOMENTUM)
    train(net, example, dense)
    dense.save_states(str(tmp_path / "states"))
    masks = prune_magnitude(net, 0.7)
    trainer = MaskedTrainer(net, masks, "sgd", MOMENTUM)
    trainer.load_states(str(tmp_path / "states"))
    train(net, example, trainer)
    assert moved_zeros(net, masks) == 0


def test_survivors_train_as_under_a_plain_trainer_whose_zeros_are_put_back():
    results = []
    for masked in (True, False):
        net, example = build(NormNet)
        net.features[12]._rate = 0
        masks = prune_magnitude(net, 0.5)
        trainer = (MaskedTrainer(net, masks, "adam", {"learning_rate": 0.01}) if masked else
                   Trainer(net.collect_params(), "adam", {"learning_rate": 0.01}))
        for _ in range(3):
            train(net, example, trainer, steps=1)
            masks.apply(net)
        results.append(values(net))
    assert identical(*results)


def test_update_without_a_reduction_holds_the_zeros_too():
    net, example = build(NormNet)
    masks = prune_magnitude(net, 0.7)
    trainer = MaskedTrainer(net, masks, "adam", {"learning_rate": 0.01}, update_on_kvstore=False)
    before = values(net)
    for _ in range(3):
        with autograd.record():
            loss = (net(example) ** 2).sum()
        loss.backward()
        trainer.allreduce_grads()
        trainer.update(len(example))
    assert moved_zeros(net, masks) == 0
    assert not np.array_equal(values(net)["output.weight"], before["output.weight"])


@pytest.mark.parametrize("hybridize", [{}, {"static_alloc": True, "static_shape": True}])
def test_zeros_stay_in_a_hybridized_network(hybridize):
    net, example = build(NormNet)
    net.hybridize(**hybridize)
    masks = prune_magnitude(net, 0.7)
    train(net, example, MaskedTrainer(net, masks, "sgd", MOMENTUM))
    assert moved_zeros(net, masks) == 0


def test_zeros_stay_on_two_devices():
    net, example = build(NormNet)
    net.collect_params().reset_ctx([mx.cpu(0), mx.cpu(1)])
    masks = prune_magnitude(net, 0.7)
    trainer = MaskedTrainer(net, masks, "sgd", MOMENTUM)
    for _ in range(3):
        with autograd.record():
            losses = [(net(example.as_in_context(mx.cpu(i))) ** 2).sum() for i in range(2)]
        autograd.backward(losses)
        trainer.step(2 * len(example))
    for name, kept in masks.kept.items():
        for copy in net._collect_params_with_prefix()[name].list_data():
            np.testing.assert_array_equal(copy.asnumpy()[~kept], 0)


def test_zeros_stay_in_double_precision():
    net, example = build(nn.Dense, (4, 6), units=5)
    net.cast("float64")
    masks = prune_magnitude(net, 0.5)
    train(net, example.astype("float64"), MaskedTrainer(net, masks, "sgd", MOMENTUM))
    assert moved_zeros(net, masks) == 0


def test_zeros_stay_in_a_symbol_block(tmp_path):
    block = exported(*build(NormNet), tmp_path)
    example = build(NormNet)[1]
    masks = prune_magnitude(block, 0.7)
    train(block, example, MaskedTrainer(block, masks, "sgd", MOMENTUM))
    assert moved_zeros(block, masks) == 0


def test_freeze_stops_the_masked_parameters_and_no_other():
    net, example = build(NormNet)
    masks = prune_magnitude(net, 0.7, select=nn.Conv2D)
    assert masks.freeze(net) is net
    assert {name for name, p in net._collect_params_with_prefix().items() if p.grad_req == "null"} == {
        *masks.kept, *(f"features.{i}.running_{s}" for i in (1, 5, 8, 10) for s in ("mean", "var"))}
    before = values(net)
    train(net, example, Trainer(net.collect_params(), "sgd", MOMENTUM))
    after = values(net)
    for name in masks.kept:
        assert after[name].tobytes() == before[name].tobytes()
    for name in ("features.4.bias", "features.1.gamma", "output.weight"):
        assert not np.array_equal(after[name], before[name])


def test_masks_survive_json():
    net, _ = build(NormNet)
    masks = prune_magnitude(net, 0.37)
    again = Masks.from_dict(json.loads(json.dumps(masks.to_dict())))
    assert again.kept.keys() == masks.kept.keys()
    for name, kept in masks.kept.items():
        np.testing.assert_array_equal(again.kept[name], kept)
    assert (again.left_out, again.sparsity, str(again)) == (masks.left_out, masks.sparsity, str(masks))


def test_masks_prune_a_copy():
    net, _ = build(NormNet)
    original, _ = build(NormNet)
    masks = prune_magnitude(net, 0.6)
    assert masks.apply(original) is original
    assert identical(values(net), values(original))


def test_parameters_stay_the_same_objects():
    net, _ = build(NormNet)
    before = {name: (parameter, parameter.data()) for name, parameter in net.collect_params().items()}
    prune_magnitude(net, 0.6)
    for name, parameter in net.collect_params().items():
        assert parameter is before[name][0]
        assert parameter.data() is before[name][1]


def test_sparsity_is_zeros_by_weights():
    masks = Masks({"a": [[True, False], [False, False]], "b": np.ones(6)})
    assert masks.sparsity == 0.3
    assert Masks({}).sparsity == 0


def test_summary_shows_every_layer():
    net, _ = build(NormNet)
    lines = prune_magnitude(net, 0.5, select=["features.0", "output"]).summary().splitlines()
    assert lines[2].split() == ["features.0.weight", "216", "108", "0.5000"]
    assert lines[3].split() == ["output.weight", "80", "40", "0.5000"]
    assert lines[4].split() == ["all", "masked", "296", "148", "0.5000"]
    assert "features.4" in lines[5]
    assert "untouched: Conv2D, not selected" in lines[5]
    assert len(lines) == 7


@pytest.mark.parametrize("call", [Masks.apply, Masks.freeze, Masks.fitted_masks,
                                  lambda masks, net: MaskedTrainer(net, masks, "sgd")])
@pytest.mark.parametrize(("other", "shape", "message"), [
    (SimpleCNN, LENET, "there is no parameter conv.0.weight here"),
    (lambda: LeNet(classes=7), LENET, r"dense.1.weight has shape \(7, 128\), its mask \(10, 128\)"),
])
def test_masks_of_another_network_are_refused(call, other, shape, message):
    masks = prune_magnitude(build(LeNet, LENET)[0], 0.5)
    net, _ = build(other, shape)
    before, requests = values(net), [p.grad_req for p in net.collect_params().values()]
    with pytest.raises(RecordError, match=f"of another network.*{message}"):
        call(masks, net)
    assert identical(before, values(net))
    assert [p.grad_req for p in net.collect_params().values()] == requests


def test_masks_need_a_ready_network():
    masks = prune_magnitude(build(NormNet)[0], 0.5)
    with pytest.raises(NetworkError, match="has no data yet"):
        masks.apply(fresh(NormNet))
    with pytest.raises(TypeError, match="net is a dict"):
        masks.apply({})


def test_regrown_weights_are_counted():
    net, _ = build(SharedWeights)
    masks = prune_magnitude(net, 0.5)
    assert masks.fitted_masks(net) is masks.kept
    weight = net.second.weight.data()
    weight[:] = weight + 1
    with pytest.raises(RecordError, match=r"18 pruned weights of second.weight are no longer zero.*MaskedTrainer"):
        masks.fitted_masks(net)
