"""Masks hold under every optimizer, device and worker, freeze, travel as JSON, and refuse other networks."""
import json
import os
import time

import gluon_compress  # noqa: F401

import mxnet as mx  # noqa: I001
import numpy as np
import pytest
from clusters import MXNETS_OWN_SERVER, start_cluster
from gluon_compress.training import state as training_state
from gluon_compress.errors import CheckpointError, NetworkError, RecordError
from gluon_compress.models import LeNet, SimpleCNN
from gluon_compress.network import parameters
from gluon_compress.pruning import GradualPruner, MaskedTrainer, Masks, prune_channels, prune_custom, prune_magnitude
from interrupts import interrupted_at
from mxnet import autograd
from mxnet.gluon import HybridBlock, Trainer, nn
from networks import NormNet, SharedWeights, build, exported, fresh, identical, values

LENET = (2, 1, 28, 28)
# All that MXNet registers; GroupAdaGrad takes matrices only and has its own test.
OPTIMIZERS = sorted(set(mx.optimizer.Optimizer.opt_registry) - {"groupadagrad"})
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


@pytest.mark.parametrize("gradual", [False, True])
def test_zeros_stay_after_ctrl_c_anywhere_in_a_step(gradual):
    """Momentum from before the pruning moves them within it; and a pruner that is interrupted prunes all the same."""
    net, example = build(NormNet)
    masks = GradualPruner(net, 0.7, 5, frequency=1, begin=2) if gradual else prune_magnitude(net, 0)
    trainer = MaskedTrainer(net, masks, "sgd", MOMENTUM)
    train(net, example, trainer, 1 if gradual else 2)
    if not gradual:
        trainer.replace_masks(prune_magnitude(net, 0.7))
    for line in interrupted_at(lambda: train(net, example, trainer, 1), range(1, 9999, 7)):
        assert moved_zeros(net, trainer.masks) == 0, line
    assert trainer.masks.sparsity == pytest.approx(0.7, abs=0.01)


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


def train_on_two_devices(net, example, trainer, steps=3):
    for _ in range(steps):
        with autograd.record():
            losses = [(net((i + 1) * example.as_in_context(mx.cpu(i))) ** 2).sum() for i in range(2)]
        autograd.backward(losses)
        trainer.step(2 * len(example))


def on_one_device():
    return build(SharedWeights)


def on_two_devices():
    net, example = build(SharedWeights)
    net.collect_params().reset_ctx([mx.cpu(0), mx.cpu(1)])
    return net, example


def copies(net):
    """The parameters of each device."""
    mx.nd.waitall()
    named = net._collect_params_with_prefix()
    return [{name: parameter.list_data()[device].asnumpy() for name, parameter in named.items()}
            for device in range(2)]


@pytest.mark.parametrize("update_on_kvstore", [True, False])
@pytest.mark.parametrize("optimizer, settings", [("sgd", MOMENTUM), ("adam", {"learning_rate": 0.01, "wd": 0.01}),
                                                 ("lamb", {"learning_rate": 0.01}), ("lars", MOMENTUM)])
def test_two_devices_train_as_one_with_all_the_samples(update_on_kvstore, optimizer, settings):
    net, example = on_two_devices()
    masks = prune_magnitude(net, 0.7)
    trainer = MaskedTrainer(net, masks, optimizer, settings, update_on_kvstore=update_on_kvstore)
    train_on_two_devices(net, example, trainer)
    first, second = copies(net)
    assert identical(first, second)
    single, example = build(SharedWeights)
    train(single, mx.nd.concat(example, 2 * example, dim=0),
          MaskedTrainer(single, prune_magnitude(single, 0.7), optimizer, settings), steps=3)
    for name, expected in values(single).items():
        np.testing.assert_allclose(first[name], expected, rtol=2e-4, atol=1e-6, err_msg=name)
    for name, kept in masks.kept.items():
        np.testing.assert_array_equal(first[name][~kept], 0)
    if update_on_kvstore:  # the store's copies
        for index, parameter in enumerate(trainer._params):
            stored = mx.nd.zeros(parameter.shape)
            trainer._kvstore.pull(index, stored)
            name = next(name for name, own in net._collect_params_with_prefix().items() if own is parameter)
            np.testing.assert_array_equal(stored.asnumpy(), first[name])


def test_pruning_between_steps_reaches_the_copy_in_a_store():
    net, example = on_two_devices()
    trainer = Trainer(net.collect_params(), "sgd", {"learning_rate": 0.0})  # takes the weights from the store
    train_on_two_devices(net, example, trainer)
    masks = prune_magnitude(net, 0.7)
    train_on_two_devices(net, example, trainer)
    for copy in copies(net):
        for name, kept in masks.kept.items():
            np.testing.assert_array_equal(copy[name] == 0, ~kept)


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


class Scaled(HybridBlock):
    """Its input times a matrix, number by number: dense layers have no half precision on CPUs."""

    def __init__(self):
        super().__init__()
        self.weight = self.params.get("weight", shape=(5, 6))

    def hybrid_forward(self, F, x, weight):
        return x * weight


def test_zeros_stay_in_half_precision_with_single_precision_masters():
    net, example = build(Scaled, (5, 6))
    net.cast("float16")
    masks = prune_custom(net, {"weight": np.arange(30).reshape(5, 6) % 2})
    before = values(net)["weight"]
    train(net, example.astype("float16"), MaskedTrainer(net, masks, "sgd", MOMENTUM | {"multi_precision": True}))
    after = values(net)["weight"]
    assert after.dtype == np.float16
    np.testing.assert_array_equal(after[~masks.kept["weight"]], 0)
    assert (after != before)[masks.kept["weight"]].all()


@pytest.mark.parametrize("optimizer", ["sgd", "adam", "lars", "lamb", "lbsgd"])
def test_the_others_train_as_where_the_pruned_weights_never_were(optimizer):
    """Whole inputs are pruned; beside it a layer without these inputs. Norms over the layer must not count them."""
    settings = {"learning_rate": 0.02, "wd": 0.01, **({"momentum": 0.9} if optimizer in ("sgd", "lars") else {})}
    net, example = build(nn.Dense, (4, 6), units=5)
    small = nn.Dense(5, in_units=4)
    small.initialize()
    small.weight.set_data(net.weight.data()[:, :4])
    small.bias.set_data(net.bias.data())
    kept = np.arange(6) < 4
    masks = Masks({"weight": np.tile(kept, (5, 1))})
    train(net, example, MaskedTrainer(net, masks, optimizer, settings), steps=6)
    train(small, example[:, :4], Trainer(small.collect_params(), optimizer, settings), steps=6)
    np.testing.assert_allclose(values(net)["weight"][:, :4], values(small)["weight"], rtol=1e-4, atol=1e-6)
    np.testing.assert_array_equal(values(net)["weight"][:, 4:], 0)


def test_masks_can_be_replaced_during_training():
    net, example = build(NormNet)
    first = prune_magnitude(net, 0.5)
    trainer = MaskedTrainer(net, first, "adam", {"learning_rate": 0.01})
    train(net, example, trainer)
    second = Masks({name: kept & (np.arange(kept.size).reshape(kept.shape) % 2 == 0)
                    for name, kept in first.kept.items()})
    trainer.replace_masks(second)
    assert trainer.masks is second
    assert moved_zeros(net, second) == 0  # at once
    train(net, example, trainer)
    assert moved_zeros(net, second) == 0  # Adam's moments from before notwithstanding
    trainer.replace_masks(first)
    train(net, example, trainer)
    assert moved_zeros(net, first) == 0 and moved_zeros(net, second) > 100


@pytest.mark.parametrize("masks, error, message", [
    (lambda masks: Masks({"other.weight": np.ones(3)}), RecordError, "no parameter other.weight"),
    (lambda masks: Masks({"features.0.weight": np.ones(3)}), RecordError, "features.0.weight has shape"),
    (lambda masks: masks.kept, TypeError, "masks is {'features"),
])
def test_a_bad_replacement_changes_nothing(masks, error, message):
    net, example = build(NormNet)
    first = prune_magnitude(net, 0.5)
    trainer = MaskedTrainer(net, first, "adam", {"learning_rate": 0.01})
    train(net, example, trainer)
    before = values(net)
    with pytest.raises(error, match=message):
        trainer.replace_masks(masks(first))
    assert trainer.masks is first and identical(before, values(net))
    train(net, example, trainer)
    assert moved_zeros(net, first) == 0


# ---- saved and restored

RUN = {"run": "of a test"}


@pytest.mark.parametrize("update_on_kvstore", [None, False])
@pytest.mark.parametrize("devices", [1, 2])
@pytest.mark.parametrize("optimizer", ["sgd", "adam", "nadam", "ftml", "lamb"])
def test_a_restored_trainer_goes_on_to_the_same_bits(tmp_path, optimizer, devices, update_on_kvstore):
    if optimizer == "nadam" and devices == 2:
        update_on_kvstore = True  # MXNet's Nadam counts the steps of all devices as one: they drift apart
    prepare, go_on = (on_two_devices, train_on_two_devices) if devices == 2 else (on_one_device, train)
    settings = {"learning_rate": 0.02, "wd": 0.01, **({"momentum": 0.9} if optimizer == "sgd" else {})}

    def new_trainer(net):
        pruner = GradualPruner(net, 0.8, steps=4, frequency=2, initial_sparsity=0.3)
        return MaskedTrainer(net, pruner, optimizer, settings, update_on_kvstore=update_on_kvstore), pruner

    net, example = prepare()
    trainer, pruner = new_trainer(net)
    go_on(net, example, trainer, steps=3)
    training_state.save(tmp_path / "state", net, trainer, RUN, [], None)
    then = trainer.masks
    go_on(net, example, trainer, steps=3)

    again, example = prepare()
    trainer_again, pruner_again = new_trainer(again)
    assert training_state.restore(tmp_path / "state", again, trainer_again, RUN) == ([], None)
    assert trainer_again.masks.digest == pruner_again.masks.digest == then.digest != pruner.masks.digest
    assert pruner_again.step == 3
    go_on(again, example, trainer_again, steps=3)
    assert trainer_again.masks.digest == trainer.masks.digest
    for number in range(devices):
        first, second = (copies(one)[number] if devices == 2 else values(one) for one in (net, again))
        assert identical(first, second)


def test_a_state_of_another_network_or_trainer_is_refused(tmp_path):
    net, example = build(SharedWeights)
    masks = prune_magnitude(net, 0.5)
    trainer = MaskedTrainer(net, masks, "adam")
    train(net, example, trainer)
    training_state.save(tmp_path / "state", net, trainer, RUN, [], None)
    other, _ = build(NormNet)
    plain, _ = build(SharedWeights)
    gradual, _ = build(SharedWeights)
    pruner = GradualPruner(gradual, 0.5, 10)
    for refusing, refused, message in (
            (other, MaskedTrainer(other, prune_magnitude(other, 0.5), "adam"), "belongs to another network: parameter"),
            (plain, Trainer(plain.collect_params(), "adam"), "was written with a MaskedTrainer"),
            (gradual, MaskedTrainer(gradual, pruner, "adam"), "masks that do not fit.*GradualPruner")):
        before = values(refusing)
        with pytest.raises(CheckpointError, match=message):
            training_state.restore(tmp_path / "state", refusing, refused, RUN)
        assert identical(before, values(refusing))


# ---- several workers

WORKER = """
import os, sys
sys.path.insert(0, sys.argv[1])
import numpy as np
import gluon_compress
import mxnet as mx
from gluon_compress.errors import RecordError
from test_masks import distributed_net, distributed_run

number, seed, update_on_kvstore, result = int(sys.argv[2]), int(sys.argv[3]), sys.argv[4] == "True", sys.argv[5]
try:
    np.savez(result, **distributed_run(*distributed_net(seed), [number], "dist_sync", update_on_kvstore))
except RecordError as error:
    print(error, flush=True)
    os._exit(7)  # without waiting for the others, who wait for this one
"""


def distributed_net(seed=0):
    return build(SharedWeights, seed=seed)


def distributed_run(net, example, numbers, kvstore, update_on_kvstore):
    """Four steps on the samples of these workers, pruning on; the parameters, and those that the store holds."""
    first = prune_magnitude(net, 0.5)
    pruner = GradualPruner(net, 0.8, steps=3, frequency=2, masks=first)
    trainer = MaskedTrainer(net, pruner, "adam", {"learning_rate": 0.01, "wd": 0.01}, kvstore=kvstore,
                            update_on_kvstore=update_on_kvstore)
    for step in range(4):
        with autograd.record():
            loss = sum(((net(example * (1 + number + step))) ** 2).sum() for number in numbers)
        loss.backward()
        trainer.step(2 * len(example))
    found = {**values(net), **{f"first/{name}": kept for name, kept in first.kept.items()},
             **{f"last/{name}": kept for name, kept in pruner.masks.kept.items()}}
    if update_on_kvstore:
        names = {id(parameter): name for name, parameter in parameters(net).items()}
        for index, parameter in enumerate(trainer._params):
            stored = mx.nd.zeros(parameter.shape)
            trainer._kvstore.pull(index, stored)
            found[f"stored/{names[id(parameter)]}"] = stored.asnumpy()
    return found


def start_workers(start_python, arguments):
    return start_cluster(start_python, WORKER, [(os.path.dirname(__file__), *own) for own in arguments],
                         server=MXNETS_OWN_SERVER)


@pytest.mark.parametrize("update_on_kvstore", [True, False])
def test_two_workers_train_as_one_with_all_the_samples(tmp_path, start_python, update_on_kvstore):
    workers = start_workers(start_python, [(number, 0, update_on_kvstore, tmp_path / f"{number}.npz")
                                           for number in range(2)])
    told = [worker.communicate(timeout=300) for worker in workers]
    assert [worker.returncode for worker in workers] == [0, 0], told
    first, second = (dict(np.load(tmp_path / f"{number}.npz")) for number in range(2))
    assert identical(first, second)
    alone = distributed_run(*distributed_net(), [0, 1], "device", False)
    for name, expected in alone.items():
        np.testing.assert_allclose(first[name], expected, rtol=2e-4, atol=1e-6, err_msg=name)
    for name in [name.removeprefix("last/") for name in first if name.startswith("last/")]:
        kept = first[f"last/{name}"]
        assert 1 - kept.mean() == pytest.approx(0.8, abs=0.03)
        np.testing.assert_array_equal(first[name][~kept], 0)
        if update_on_kvstore:  # zero in the server's copy as well, unless pruned since
            np.testing.assert_array_equal(first[f"stored/{name}"][~first[f"first/{name}"]], 0)
            np.testing.assert_array_equal(first[f"stored/{name}"][kept], first[name][kept])


def test_workers_with_other_masks_are_told(tmp_path, start_python):
    workers = start_workers(start_python, [(number, number, False, tmp_path / f"{number}.npz")
                                           for number in range(2)])
    give_up = time.monotonic() + 300
    while time.monotonic() < give_up and all(worker.poll() is None for worker in workers):
        time.sleep(0.1)
    ended = [worker for worker in workers if worker.poll() is not None]
    assert [worker.returncode for worker in ended] == [7]  # the other one, number 0 to MXNet, waits for it
    assert "worker 1 has other masks than worker 0" in ended[0].communicate()[0]


# ---- the record

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
    assert "left out: Conv2D, not selected" in lines[5]
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
    with pytest.raises(RecordError, match=f"to another network.*{message}"):
        call(masks, net)
    assert identical(before, values(net))
    assert [p.grad_req for p in net.collect_params().values()] == requests


def test_a_trainer_of_the_shapes_before_channels_were_removed_is_refused():
    net, example = build(NormNet)
    trainer = MaskedTrainer(net, prune_magnitude(net, 0.5), "sgd", MOMENTUM)
    train(net, example, trainer, steps=1)
    prune_channels(net, example, 0.5, round_to=1)
    before = values(net)
    with pytest.raises(RecordError, match=r"\(4, 3, 3, 3\) now, its mask \(8, 3, 3, 3\): .*new MaskedTrainer"):
        trainer.step(len(example))
    assert identical(before, values(net))


@pytest.mark.parametrize("optimizer", ["sgd", "lamb", "lars"])
def test_an_update_without_an_exchange_masks_the_gradients_too(optimizer):
    trained = []
    for by_hand in (False, True):
        net, example = build(NormNet)
        masks = prune_magnitude(net, 0.6)
        trainer = MaskedTrainer(net, masks, optimizer, {"learning_rate": 0.01}, update_on_kvstore=False)
        for _ in range(3):
            mx.random.seed(5)  # the same dropout
            with autograd.record():
                loss = (net(example) ** 2).sum()
            loss.backward()
            trainer.update(len(example)) if by_hand else trainer.step(len(example))
            for name, kept in masks.kept.items():
                assert not parameters(net)[name].grad().asnumpy()[~kept].any()
        trained.append(values(net))
    assert identical(*trained)


@pytest.mark.parametrize("spoil", [
    lambda record: {}, lambda record: None, lambda record: {"kept": 5, "left_out": {}},
    lambda record: {"kept": record["kept"]},
    lambda record: {**record, "kept": {"a": {"shape": [2, 9], "bits": record["kept"]["output.weight"]["bits"][:2]}}},
    lambda record: {**record, "kept": {"a": {"shape": [2, 9], "bits": ""}}},
    lambda record: {**record, "kept": {"a": {"shape": [2, 9], "bits": "/////w=="}}},
    lambda record: {**record, "kept": {"a": {"shape": [2, 9], "bits": "????"}}},
    lambda record: {**record, "kept": {"a": {"shape": ["2"], "bits": "/w=="}}}])
def test_what_is_no_record_of_masks_is_refused(spoil):
    record = prune_magnitude(build(NormNet)[0], 0.5).to_dict()
    with pytest.raises(RecordError, match="this is not a record of masks"):
        Masks.from_dict(spoil(record))


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
