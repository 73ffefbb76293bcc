"""Training for the rate: lengths by a loop, gradients by finite differences, records read off the weights, resuming."""
import json

import gluon_compress as gc

import mxnet as mx  # noqa: I001
import numpy as np
import pytest
from gluon_compress.coding import RateTrainer, SizeGoal, encode
from gluon_compress.coding.training.code_lengths import PRIOR, code_lengths
from gluon_compress.coding.training.steps import LARGEST, StepOptimizer, scale_of, step_of
from gluon_compress.errors import NetworkError, RecordError
from gluon_compress.models import LeNet300100
from interrupts import interrupted_at
from mxnet import autograd, gluon
from networks import NormNet, build, identical, values

SHAPE = (8, 4, 8, 8)
SOME = np.random.RandomState(0)


def sparse_codes(*shape):
    return SOME.geometric(0.6, shape) * SOME.choice([-1, 0, 0, 0, 1], shape)


def trained(trainer, net, example, updates=1, factor=1.0):
    """Updates with a loss whose gradient is known to be there."""
    labels = mx.nd.arange(len(example)) % 5
    for _ in range(updates):
        with autograd.record():
            loss = factor * gluon.loss.SoftmaxCrossEntropyLoss()(net(example), labels)
        loss.backward()
        trainer.step(len(example))


# ---- how many bits

@pytest.mark.parametrize("shape", [(6, 5), (5, 4, 3, 3), (40,)])
def test_lengths_are_those_of_the_formula_weight_by_weight(shape):
    codes = sparse_codes(*shape)
    lengths, rows = code_lengths(codes), codes.reshape(len(codes), -1)
    whole = (np.count_nonzero(codes) + 0.5) / (codes.size + 1)
    total, count = np.abs(codes).sum(), np.count_nonzero(codes)
    further = (total - count + 0.5) / (total + 1)

    def odds(share):
        return share / (1 - share)

    for index in np.ndindex(shape):
        chance = odds(whole)
        if len(shape) > 1:
            channel = codes[:, index[1]]
            place = codes[(slice(None), *index[1:])]
            of_row = (np.count_nonzero(rows[index[0]]) + PRIOR * whole) / (rows.shape[1] + PRIOR)
            of_channel = (np.count_nonzero(channel) + PRIOR * whole) / (channel.size + PRIOR)
            of_place = (np.count_nonzero(place) + PRIOR * of_channel) / (place.size + PRIOR)
            chance = odds(of_row) * odds(of_place) / odds(whole)
        p = chance / (1 + chance)
        assert lengths.zero[index] == pytest.approx(-np.log2(1 - p), rel=1e-4)
        one = -np.log2(p) + np.log2(1 - p) + 1 - np.log2(1 - further)
        assert lengths.first[index] == pytest.approx(np.clip(one, 1, 16), rel=1e-4)
    assert lengths.more == pytest.approx(np.clip(-np.log2(further), 0.1, 4), rel=1e-5)


def test_bits_are_the_mean_of_those_of_random_unbiased_rounding():
    lengths = code_lengths(sparse_codes(1, 4))
    magnitudes = np.array([[0.3, 1.0, 1.7, 2.2]])
    rounded = np.floor(magnitudes + SOME.rand(20000, 4)[:, None])
    assert lengths.bits(magnitudes) == pytest.approx(np.mean([lengths.bits(each) for each in rounded]), rel=0.02)


def test_estimated_bits_are_close_to_those_of_the_coder():
    codes = np.zeros((100, 300), np.int64)
    codes[:, ::10] = sparse_codes(100, 30)
    codes[::3] = 0
    estimate = code_lengths(codes).bits(np.abs(codes)) / 8
    assert 0.8 * len(encode(codes)) < estimate < 1.25 * len(encode(codes))


def test_weights_in_rows_and_places_that_are_used_are_cheaper():
    codes = np.zeros((40, 40), int)
    codes[3, ::4] = codes[::4, 4] = 1
    first = code_lengths(codes).first
    assert first[3, 4] < first[3, 5] < first[2, 5] and first[3, 4] < first[2, 4] < first[2, 5]


# ---- gradients

def test_the_penalty_added_to_the_gradients_is_the_derivative_of_its_bits():
    net, example = build(NormNet, SHAPE)
    trainer = RateTrainer(net, 2.0, "sgd", {"learning_rate": 0}, step_rate=0)
    steps = trainer.steps
    latents = {name: trainer.state_tensors()[name] for name in steps}
    lengths = {name: code_lengths(np.rint(values(net)[name] / step)) for name, step in steps.items()}
    trained(trainer, net, example, factor=0)
    count, checked = sum(latent.size for latent in latents.values()), 0
    for name, parameter in net._collect_params_with_prefix().items():
        if name not in latents:
            continue
        gradient = parameter.grad().asnumpy()
        for index in list(np.ndindex(gradient.shape))[::31]:
            width = 1e-3 * steps[name]
            sides = []
            for sign in (1, -1):
                moved = latents[name].astype(np.float64)
                moved[index] += sign * width
                sides.append(lengths[name].bits(np.abs(moved) / steps[name]))
            expected = len(example) * 2.0 / count * (sides[0] - sides[1]) / (2 * width)
            assert gradient[index] == pytest.approx(expected, rel=2e-3, abs=1e-7)
            checked += 1
    assert checked > 20


def test_steps_move_against_the_derivative_of_loss_and_bits():
    """The bits of v / step fall as the step grows; where only they count, steps grow, and by the rate that was set."""
    net, example = build(NormNet, SHAPE)
    trainer = RateTrainer(net, 1.0, "sgd", {"learning_rate": 0.0}, frequency=1, step_rate=0.25)
    before = np.log2(list(trainer.steps.values()))
    trained(trainer, net, example, factor=0)
    np.testing.assert_allclose(np.log2(list(trainer.steps.values())), before + 0.25, atol=1e-6)


def test_the_derivative_by_the_logarithm_of_a_step_is_that_of_straight_through_rounding():
    """d loss / d ln step = sum of gradient (w - v): by hand, with a loss that is linear in the weights."""
    net = gluon.nn.Dense(1, in_units=3, use_bias=False)
    net.initialize()
    net.weight.set_data(mx.nd.array([[0.9, -0.5, 0.2]]))
    trainer = RateTrainer(net, 0.0, "sgd", {"learning_rate": 0.0}, frequency=1, step_rate=0.5)
    step, latent = next(iter(trainer.steps.values())), np.array([0.9, -0.5, 0.2])
    inputs = mx.nd.array([[1, 2, -3]])
    slope = (inputs.asnumpy()[0] * (np.rint(latent / step) * step - latent)).sum()
    with autograd.record():
        loss = net(inputs)
    loss.backward()
    trainer.step(1)
    assert np.log2(next(iter(trainer.steps.values())) / step) == pytest.approx(-0.5 * np.sign(slope), abs=1e-6)


def test_after_a_warm_up_steps_move_no_further_than_without_one():
    """A rate of 1e-6 at first and 1e-3 later would be a thousand times the rate of the steps, and all weights zero."""
    moved = {}
    for first in (0, 1e-6, 1e-3):
        net, example = build(NormNet, SHAPE)
        schedule = mx.lr_scheduler.CosineScheduler(99, 1e-3, warmup_steps=4, warmup_begin_lr=first)
        trainer = RateTrainer(net, 0.1, "adam", {"lr_scheduler": schedule}, frequency=2)
        before = np.log2(list(trainer.steps.values()))
        trained(trainer, net, example, updates=20)
        moved[first] = np.abs(np.log2(list(trainer.steps.values())) - before).max()
        assert trainer.coded_bytes() > 100
        state, tensors = json.loads(json.dumps(trainer.extra_state())), trainer.state_tensors()
        again = RateTrainer(net, 0.1, "adam", {"lr_scheduler": schedule}, frequency=2)
        again.restore_extra_state(state)
        again.restore_state_tensors(tensors)
        assert again.extra_state() == state
    assert max(moved.values()) <= moved[1e-3] + 0.1


def test_a_layer_that_is_not_called_keeps_its_weights_steps_and_gradient():
    """With ignore_stale_grad: its old gradient would move its step again and again, and take up each penalty."""
    net, other = gluon.nn.Dense(3, in_units=4), gluon.nn.Dense(3, in_units=4)
    both = gluon.nn.HybridSequential()
    both.add(net, other)
    both.initialize()
    example = mx.nd.ones((2, 4))
    trainer = RateTrainer(both, 1.0, "adam", {"learning_rate": 1e-2}, frequency=1)

    def once(layer):
        with autograd.record():
            loss = (layer(example) ** 2).sum()
        loss.backward()
        trainer.step(2, ignore_stale_grad=True)

    def state():
        return {"gradient": other.weight.grad().asnumpy(), "weight": other.weight.data().asnumpy(),
                "step": np.array(trainer.steps["1.weight"])}

    before = state()
    for _ in range(3):
        once(net)
    assert identical(state(), before)
    once(other)
    assert not np.array_equal(state()["gradient"], before["gradient"])


def test_the_optimizer_of_steps_is_adam():
    gradients = SOME.randn(5, 2)
    found = StepOptimizer(np.zeros(2), 0.1)
    for gradient in gradients:
        found.move(gradient)
    mean, square, log2 = np.zeros(2), np.zeros(2), np.zeros(2)
    for count, gradient in enumerate(gradients, 1):
        mean, square = 0.9 * mean + 0.1 * gradient, 0.99 * square + 0.01 * gradient ** 2
        log2 -= 0.1 * mean / (1 - 0.9 ** count) / np.sqrt(square / (1 - 0.99 ** count))
    np.testing.assert_allclose(found.log2, log2)


# ---- what the network holds, and its record

def test_the_network_holds_whole_steps_after_every_update_and_saves_to_the_same_bits(tmp_path):
    net, example = build(NormNet, SHAPE)
    trainer = RateTrainer(net, 3.0, "adam", {"learning_rate": 0.01}, frequency=2)
    for _ in range(3):
        trained(trainer, net, example)
        steps = trainer.steps
        for name, codes in trainer.codes().items():
            ratio = values(net)[name] / steps[name]
            np.testing.assert_allclose(ratio, np.rint(ratio), atol=1e-4)
            assert np.abs(codes).max() <= LARGEST
    gc.save(tmp_path / "small.gcz", net, trainer.scales)
    back, before = gc.load(tmp_path / "small.gcz"), values(net)
    assert (back(example).asnumpy() == net(example).asnumpy()).all()
    fresh, _ = build(NormNet, SHAPE, seed=9)
    gc.load(tmp_path / "small.gcz", fresh)
    assert identical(before, values(fresh))


@pytest.mark.parametrize("log2", [-20.3, -3.1, 0.0, 5.7])
def test_a_scale_is_read_off_weights_alone(log2):
    step = step_of(log2)
    assert abs(np.log2(step) - log2) <= 1 / 32 + 1e-6
    for codes in ([0, 1, -3, 7], [LARGEST, 2, 1], [0, -1, 0], [LARGEST, -LARGEST + 1]):
        weights = np.array(codes, np.float32) * step
        found = scale_of(weights)
        assert (np.rint(weights / found).astype(np.float32) * found == weights).all() and found >= step
    assert scale_of(np.array([0.1, 0.23, 0.37], np.float32)) is None
    assert scale_of(np.zeros(3, np.float32)) == 1


def test_weights_changed_from_elsewhere_have_no_record():
    net, example = build(NormNet, SHAPE)
    trainer = RateTrainer(net, 1.0, "sgd")
    net.output.weight.set_data(net.output.weight.data() + mx.nd.random.uniform(shape=net.output.weight.shape))
    with pytest.raises(RecordError, match="values of output.weight are not whole numbers of a step"):
        trainer.codes()


def test_a_larger_penalty_makes_fewer_bytes_and_the_loss_still_falls():
    found = {}
    for penalty in (0.0, 5.0):
        net, example = build(NormNet, SHAPE)
        trainer = RateTrainer(net, penalty, "adam", {"learning_rate": 0.02}, warmup=5)
        labels = mx.nd.arange(len(example)) % 5
        before = gluon.loss.SoftmaxCrossEntropyLoss()(net(example), labels).mean().asscalar()
        trained(trainer, net, example, updates=25)
        after = gluon.loss.SoftmaxCrossEntropyLoss()(net(example), labels).mean().asscalar()
        found[penalty] = trainer.coded_bytes()
        assert after < before
    assert found[5.0] < 0.5 * found[0.0]


def test_a_step_that_fails_leaves_whole_steps():
    net, example = build(NormNet, SHAPE)
    trainer = RateTrainer(net, 1.0, "sgd", {"learning_rate": 0.1})
    trained(trainer, net, example)
    before = values(net)
    with pytest.raises(UserWarning, match="has not been updated by backward"):
        trainer.step(len(example))
    assert identical(before, values(net))


@pytest.mark.parametrize("name", ["features.0.weight", "output.bias"])
def test_a_parameter_that_is_frozen_later_is_named_and_nothing_changes(name):
    net, example = build(NormNet, SHAPE)
    trainer = RateTrainer(net, 1.0, "sgd", {"learning_rate": 0.1})
    trained(trainer, net, example)
    before, latents = values(net), trainer.state_tensors()
    parameter = gc.network.parameters(net)[name]
    parameter.grad_req = "null"
    with pytest.raises(NetworkError, match=f"{name} was frozen after the trainer was made, .*accepted: a new Rate"):
        trainer.step(len(example))
    assert identical(before, values(net)) and identical(latents, trainer.state_tensors())
    parameter.grad_req = "write"
    trained(trainer, net, example)  # goes on


def test_after_ctrl_c_anywhere_in_a_step_the_network_holds_whole_steps_and_the_trainer_what_they_are_of():
    net, example = build(NormNet, SHAPE)
    trainer = RateTrainer(net, 1.0, "sgd", {"learning_rate": 0}, frequency=1, step_rate=0.3)
    latents = {name: trainer.state_tensors()[name] for name in trainer.steps}
    lines = 0
    for lines in interrupted_at(lambda: trained(trainer, net, example), range(1, 9999, 17)):
        assert identical(latents, {name: trainer.state_tensors()[name] for name in latents}), lines
        for name in trainer.codes():
            expected = np.clip(np.rint(latents[name] / trainer.steps[name]), -LARGEST, LARGEST)
            np.testing.assert_array_equal(values(net)[name], expected * trainer.steps[name] + 0, str(lines))
    assert lines > 300


@pytest.mark.parametrize("penalty", ["x", None, -1, np.nan, True, 1e10, 10**400])
def test_a_penalty_that_is_none_cannot_be_set(penalty):
    net, _ = build(NormNet, SHAPE)
    trainer = RateTrainer(net, 0.1, "sgd")
    with pytest.raises((TypeError, ValueError), match="penalty is .*; accepted: a "):
        trainer.penalty = penalty
    assert trainer.penalty == 0.1


@pytest.mark.parametrize("batch_size", [0, -1, np.nan, np.inf, "x", None])
@pytest.mark.parametrize("call", ["step", "update"])
def test_a_batch_size_that_is_none_changes_nothing(call, batch_size):
    net, example = build(NormNet, SHAPE)
    trainer = RateTrainer(net, 0.1, "sgd")
    trained(trainer, net, example)
    before = values(net)
    with pytest.raises((TypeError, ValueError), match="batch_size is .*; accepted: a "):
        getattr(trainer, call)(batch_size)
    assert identical(before, values(net))


@pytest.mark.parametrize("factor", [np.nan, np.inf])
def test_gradients_that_are_not_finite_end_the_training_and_name_a_parameter(factor):
    net, example = build(NormNet, SHAPE)
    trainer = RateTrainer(net, 0.1, "sgd", {"learning_rate": 0.01}, frequency=1)
    with pytest.raises(NetworkError, match="of .*(weight|bias|gamma|beta) are not finite: lower the learning rate"):
        trained(trainer, net, example, factor=factor)


def test_weights_that_are_not_finite_have_no_scales():
    net, example = build(NormNet, SHAPE)
    trainer = RateTrainer(net, 0.1, "sgd", {"learning_rate": 0.01})
    trained(trainer, net, example, factor=np.nan)
    for told in (lambda: trainer.scales, trainer.codes, trainer.coded_bytes):
        with pytest.raises(NetworkError, match="values of features.0.weight are not finite: lower the learning rate"):
            told()


@pytest.mark.parametrize("penalty", [1e-308, 5e-324])
def test_a_penalty_may_become_as_small_as_one_likes(penalty):
    """MXNet refuses numbers that are not normal."""
    net, example = build(NormNet, SHAPE)
    without, _ = build(NormNet, SHAPE)
    for each, first in ((net, penalty), (without, 0.0)):
        mx.random.seed(2)  # of Dropout
        trained(RateTrainer(each, first, "sgd", {"learning_rate": 0.01}), each, example, 2)
    assert identical(values(net), values(without))


@pytest.mark.parametrize(("factor", "arguments"), [
    (1e-38, {}), (1e-45, {}), (1e32, {}), (1.0, {"frequency": 1, "step_rate": 100}),
    (1.0, {"penalty": 1e9}), (1.0, {"penalty": SizeGoal(1, 1, 1e9), "frequency": 1})])
def test_a_trainer_takes_the_states_that_it_gives(factor, arguments):
    net, example = build(NormNet, SHAPE)
    for parameter in net.collect_params(".*weight").values():
        parameter.set_data(parameter.data() * factor)
    trainer = RateTrainer(**{"net": net, "penalty": 0.1, "optimizer": "sgd", "optimizer_params": {"learning_rate": 0},
                             **arguments})
    for _ in range(3 if factor <= 1 else 0):
        trained(trainer, net, example)
    state, tensors = trainer.extra_state(), trainer.state_tensors()
    trainer.restore_extra_state(json.loads(json.dumps(state)))
    trainer.restore_state_tensors(tensors)
    assert trainer.extra_state() == state and identical(trainer.state_tensors(), tensors)


def test_a_loop_of_ones_own_goes_on_to_the_same_bits_as_the_docstring_says(tmp_path):
    def begun():
        net, example = build(NormNet, SHAPE)
        return net, example, RateTrainer(net, SizeGoal(900, 8), "adam", {"learning_rate": 0.01}, frequency=3)

    net, example, trainer = begun()
    trained(trainer, net, example, updates=4)
    net.save_parameters(str(tmp_path / "net.params"))
    trainer.save_states(str(tmp_path / "optimizer"))
    state, tensors = json.loads(json.dumps(trainer.extra_state())), trainer.state_tensors()
    mx.random.seed(7)  # of the dropout
    trained(trainer, net, example, updates=6)
    other, _, again = begun()
    other.load_parameters(str(tmp_path / "net.params"))
    again.load_states(str(tmp_path / "optimizer"))
    again.restore_extra_state(state)
    again.restore_state_tensors(tensors)
    mx.random.seed(7)  # of the dropout
    trained(again, other, example, updates=6)
    assert identical(values(net), values(other)) and again.extra_state() == trainer.extra_state()


def test_states_whose_values_are_not_finite_change_nothing():
    net, _ = build(NormNet, SHAPE)
    trainer, before = RateTrainer(net, 0.1, "sgd"), values(net)
    tensors = trainer.state_tensors()
    tensors["output.weight"] = tensors["output.weight"] * np.nan
    with pytest.raises(RecordError, match="values of output.weight that are not finite"):
        trainer.restore_state_tensors(tensors)
    assert identical(before, values(net))


def test_the_size_falls_to_the_goal_and_stays_there():
    mx.random.seed(1)
    net = gluon.nn.HybridSequential()
    net.add(gluon.nn.Dense(64, activation="relu", in_units=64), gluon.nn.Dense(10, in_units=64))
    net.initialize(mx.init.Xavier())
    net.hybridize()
    inputs, labels = mx.nd.random.normal(shape=(256, 64)), mx.nd.arange(256) % 10
    trainer = RateTrainer(net, SizeGoal(900, updates=200), "adam", {"learning_rate": 3e-3}, frequency=2)
    sizes = [trainer.coded_bytes()]
    for update in range(300):
        with autograd.record():
            loss = gluon.loss.SoftmaxCrossEntropyLoss()(net(inputs), labels)
        loss.backward()
        trainer.step(len(labels))
        if update % 50 == 49:
            sizes.append(trainer.coded_bytes())
    assert sizes[0] > sizes[2] > sizes[4]
    assert all(700 < size < 1050 for size in sizes[4:])


def test_the_wanted_size_falls_by_the_same_share_each_update():
    goal = SizeGoal(100, updates=10)
    path = [goal.wanted(update, 1600) for update in range(12)]
    assert path[0] == pytest.approx(1600) and path[10:] == [100, 100]
    np.testing.assert_allclose(np.diff(np.log(path[:11])), np.log(1 / 16) / 10)
    assert goal.wanted(0, 50) == 100


@pytest.mark.parametrize(("error", "last_error", "expected"), [
    (0.2, 0.2, 2 * np.exp(0.06)), (0.2, 0.21, 2 * np.exp(0.06 - 0.05)), (9, 0, 2.2), (-9, 0, 2 / 1.1)])
def test_the_penalty_follows_the_size(error, last_error, expected):
    assert SizeGoal(100, updates=20_000).next_penalty(2, error, last_error, 100, 20) == pytest.approx(expected)


def test_a_short_fall_is_steered_more_strongly_until_it_is_over():
    goal = SizeGoal(100, updates=1280)
    assert goal.next_penalty(1, 0.05, 0.05, 1279, 20) == pytest.approx(np.exp(0.05))
    assert goal.next_penalty(1, 0.05, 0.05, 1280, 20) == pytest.approx(np.exp(0.3 * 0.05))


def test_a_goal_that_is_reached_by_itself_does_not_take_the_penalty_to_nothing():
    goal, penalty = SizeGoal(10**9, updates=1, penalty=0.5), 0.5
    for update in range(300):
        penalty = goal.next_penalty(penalty, -9, -9, update, 1)
    assert penalty == pytest.approx(0.5e-4)


def test_after_a_short_fall_the_size_stays_at_the_goal():
    mx.random.seed(0)
    rng, net = np.random.RandomState(0), gluon.nn.HybridSequential()
    net.add(gluon.nn.Dense(64, activation="relu", in_units=30), gluon.nn.Dense(64, activation="relu", in_units=64),
            gluon.nn.Dense(10, in_units=64))
    net.initialize(mx.init.Xavier())
    inputs = mx.nd.array(rng.normal(size=(256, 30)))
    labels = mx.nd.array((rng.normal(size=(30, 10)).T @ inputs.asnumpy().T).argmax(axis=0))
    trainer, sizes = RateTrainer(net, SizeGoal(1500, 300), "adam", {"learning_rate": 2e-3}), []
    for update in range(1500):
        with autograd.record():
            loss = gluon.loss.SoftmaxCrossEntropyLoss()(net(inputs), labels)
        loss.backward()
        trainer.step(len(labels))
        if update >= 1000 and update % 20 == 19:
            sizes.append(trainer.coded_bytes())
    assert 0.85 * 1500 < min(sizes) and max(sizes) < 1.15 * 1500, (min(sizes), max(sizes))


# ---- in loops

def data(count=4):
    generator = np.random.RandomState(1)
    return [(mx.nd.array(generator.randn(16, 1, 28, 28)), mx.nd.array(generator.randint(0, 10, 16)))
            for _ in range(count)]


def small():
    mx.random.seed(3)
    net = LeNet300100()
    net.initialize(mx.init.Xavier(), force_reinit=True)
    return net


def rate_trainer(net):
    """The codes are counted every third update, so that an epoch of four ends in between."""
    return RateTrainer(net, SizeGoal(9000, updates=20), "adam", {"learning_rate": 3e-3}, frequency=3, step_rate=0.1,
                       select=["features.2", "output"])


def test_fit_resumes_to_the_same_bits(tmp_path):
    whole = small()
    never_killed = rate_trainer(whole)
    gc.training.fit(whole, data(), 3, never_killed, seed=1, progress=False)

    class Killed(Exception):
        pass

    def killed_after(batches, count):
        for batch in batches:
            if count == 0:
                raise Killed
            count -= 1
            yield batch

    class Once:
        def __init__(self):
            self.passes = 0

        def __iter__(self):
            self.passes += 1
            return killed_after(data(), 2) if self.passes == 3 else iter(data())

        def __len__(self):
            return 4

    resumed = small()
    with pytest.raises(Killed):
        gc.training.fit(resumed, Once(), 3, rate_trainer(resumed), seed=1, progress=False, state_path=tmp_path / "s")
    resumed = small()
    trainer = rate_trainer(resumed)
    gc.training.fit(resumed, data(), 3, trainer, seed=1, progress=False, state_path=tmp_path / "s")
    assert identical(values(whole), values(resumed))
    assert identical(never_killed.state_tensors(), trainer.state_tensors())
    assert never_killed.extra_state() == trainer.extra_state()


def test_two_devices_train_as_one():
    one, example = build(NormNet, SHAPE)
    two, _ = build(NormNet, SHAPE)
    two.collect_params().reset_ctx([mx.cpu(0), mx.cpu(1)])
    for net, contexts in ((one, [mx.cpu(0)]), (two, [mx.cpu(0), mx.cpu(1)])):
        trainer = RateTrainer(net, 1.0, "sgd", {"learning_rate": 0.1}, select="Dense", vectors=False)
        for context in contexts:
            share = example.as_in_context(context)[:len(example) // len(contexts)]
            with autograd.record(train_mode=False):  # BatchNorm as in inference: it would normalize each share
                loss = (net(share) ** 2).sum() * (1 if len(contexts) == 2 else 1)
            loss.backward()
        trainer.step(len(example))
    assert [array.asnumpy().tolist() for array in two.output.weight.list_data()][0] == \
        two.output.weight.list_data()[1].asnumpy().tolist()


def test_what_is_excluded_is_not_rounded_and_named():
    net, example = build(NormNet, SHAPE)
    before = values(net)
    trainer = RateTrainer(net, 1.0, "sgd", vectors=False, exclude="output")
    assert trainer.left_out == {"output": "Dense, excluded"}
    changed = {name for name, value in values(net).items() if not np.array_equal(value, before[name])}
    assert changed == {"features.0.weight", "features.4.weight", "features.9.weight"} == set(trainer.codes())


# ---- bad input

@pytest.mark.parametrize(("arguments", "error", "message"), [
    ({"penalty": -1}, ValueError, "penalty is -1; accepted: a finite number at least 0"),
    ({"penalty": "much"}, TypeError, "penalty is 'much'"),
    ({"penalty": 1e10}, ValueError, "penalty is .*; accepted: a finite number at least 0 and at most 1000000000"),
    ({"step_rate": 101}, ValueError, "step_rate is 101; accepted: .* at most 100"),
    ({"warmup": -1}, ValueError, "warmup is -1"),
    ({"frequency": 0}, ValueError, "frequency is 0; accepted: an integer at least 1"),
    ({"step_rate": -0.1}, ValueError, "step_rate is -0.1"),
    ({"optimizer": mx.optimizer.SGD(), "optimizer_params": {"momentum": 0.9}}, TypeError,
     "optimizer_params is .* beside an optimizer that has its settings; accepted: None"),
    ({"vectors": "no"}, TypeError, "vectors is 'no'; accepted: True or False"),
    ({"update_on_kvstore": True}, ValueError, "update_on_kvstore is True; accepted: False"),
    ({"select": "conv9"}, ValueError, "select names 'conv9'"),
    ({"optimizer": "sgdd"}, ValueError, "optimizer is 'sgdd'; accepted: "),
])
def test_bad_arguments_leave_the_network_as_it_was(arguments, error, message):
    net, _ = build(NormNet, SHAPE)
    before = values(net)
    with pytest.raises(error, match=message):
        RateTrainer(**({"net": net, "penalty": 1.0, "optimizer": "sgd"} | arguments))
    assert identical(before, values(net))


def test_networks_without_weights_and_frozen_ones_are_refused():
    pool = gluon.nn.HybridSequential()
    pool.add(gluon.nn.MaxPool2D())
    with pytest.raises((NetworkError, ValueError), match="no parameters|no layer"):
        RateTrainer(pool, 1.0, "sgd")
    net, _ = build(NormNet, SHAPE)
    net.output.weight.grad_req = "null"
    with pytest.raises(NetworkError, match="output.weight is frozen"):
        RateTrainer(net, 1.0, "sgd")


@pytest.mark.parametrize("change", [
    lambda state: state["masks"].pop("steps"), lambda state: state["masks"].update(updates=-1),
    lambda state: state["masks"]["steps"]["log2"].append(0.0),
    lambda state: state["masks"]["steps"].update(log2=[float("nan")])])
def test_a_state_of_something_else_changes_nothing(change):
    net, example = build(NormNet, SHAPE)
    trainer = RateTrainer(net, 1.0, "sgd")
    state, before = trainer.extra_state(), trainer.extra_state()
    state = {"masks": {**state["masks"], "steps": {**state["masks"]["steps"]}}, "step": None}
    state["masks"]["steps"]["log2"] = list(state["masks"]["steps"]["log2"])
    change(state)
    with pytest.raises(RecordError, match="state"):
        trainer.restore_extra_state(state)
    assert trainer.extra_state() == before
    with pytest.raises(RecordError, match="other parameters"):
        trainer.restore_state_tensors({})


def test_zeros_of_a_pruned_network_do_not_make_its_first_steps_small():
    net = LeNet300100()
    net.initialize(mx.init.Xavier())
    gc.pruning.prune_magnitude(net, 0.95)
    steps = RateTrainer(net, 1.0, "adam").steps
    for layer in gc.network.layers(net):
        own = layer.value()
        left = own[own != 0].astype(np.float64)
        assert steps[layer.parameter_name] == pytest.approx(0.5 * np.sqrt((left ** 2).mean()), rel=0.03)


@pytest.mark.parametrize("smallest", [1, 2])
def test_a_network_that_was_rounded_before_begins_with_its_codes(smallest):
    """Or, where none of them is 1, with those of a longer step, which tell the same weights."""
    net = LeNet300100()
    net.initialize(mx.init.Xavier())
    codes = {}
    for number, layer in enumerate(gc.network.layers(net)):
        shape, step = layer.value().shape, np.float32(0.0123 * (number + 1))
        codes[layer.parameter_name] = smallest * SOME.choice([-3, -1, 0, 0, 0, 0, 0, 1, 2], shape)
        layer.weight.set_data(mx.nd.array(codes[layer.parameter_name] * step))
    trainer = RateTrainer(net, 1.0, "adam")
    for layer in gc.network.layers(net):
        found, step = trainer.codes()[layer.parameter_name], trainer.steps[layer.parameter_name]
        np.testing.assert_array_equal(found * smallest, codes[layer.parameter_name])
        assert np.abs(found * step - layer.value()).max() < 1e-6


@pytest.mark.parametrize("kinds", [[0, 2, -3, 5], [3, -4, 127], [0, 0, 0, 1, -68, 29], [60, -119, 127], [7], [-1]])
def test_codes_are_kept_whatever_they_and_their_step_are(kinds):
    """Steps are on a grid, and the codes decide: weights become the same multiples of the nearest step there."""
    largest = np.gcd.reduce(kinds)
    for step in (0.0123, 0.7, 1e-20, 1e20):
        net = gluon.nn.Dense(10, in_units=12, use_bias=False)
        net.initialize()
        codes = np.resize(kinds, (10, 12))
        net.weight.set_data(mx.nd.array(codes * np.float32(step)))
        trainer = RateTrainer(net, 1.0, "adam")
        np.testing.assert_array_equal(trainer.codes()["weight"] * largest, codes)
        assert trainer.steps["weight"] == pytest.approx(step * largest, rel=0.022)
        latent = trainer.state_tensors()["weight"] / trainer.steps["weight"]
        np.testing.assert_allclose(latent, codes / largest, rtol=1e-5)  # in the middle of what rounds to its code


@pytest.mark.parametrize("values", [[1.0, 2.0, 128.0], [1.0, 1.618], [0.5, 0.5001, 0.7], [1e-40, 1.0]])
def test_weights_that_are_no_codes_begin_with_half_of_their_mean(values):
    net = gluon.nn.Dense(10, in_units=12, use_bias=False)
    net.initialize()
    net.weight.set_data(mx.nd.array(np.resize(values, (10, 12))))
    mean = np.sqrt(np.square(net.weight.data().asnumpy().astype(np.float64)).mean())
    first = max(0.5 * mean, max(values) / LARGEST)
    assert RateTrainer(net, 1.0, "adam").steps["weight"] == pytest.approx(first, rel=0.022)


@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_another_trainer_begins_where_one_ended(dtype):
    """With biases, gamma and beta, too."""
    net, example = build(NormNet, SHAPE)
    net.cast(dtype)
    trainer = RateTrainer(net, 0.1, "adam", {"learning_rate": 1e-2})
    trained(trainer, net, example.astype(dtype), 30)
    before, codes = values(net), trainer.codes()
    another = RateTrainer(net, 0.1, "adam")
    assert identical(before, values(net))
    assert another.codes().keys() == codes.keys()
    gc.checkpoint.coded_size(net, another.scales)


def test_weights_of_half_precision_tell_their_scales_too():
    """A GPU trains them; the file gives them back as they are."""
    net = gluon.nn.Dense(20, in_units=30)
    net.initialize(mx.init.Normal(0.3))
    net.cast("float16")
    scales = RateTrainer(net, gc.coding.SizeGoal(100, updates=10), "sgd").scales
    told = scales.codes(net)["weight"] * scales.weights["weight"]["scale"]
    np.testing.assert_array_equal(net.weight.data().asnumpy(), told.astype(np.float16))
    gc.checkpoint.coded_size(net, scales)
