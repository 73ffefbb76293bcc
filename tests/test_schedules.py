"""Schedules against their formulas, and gradual pruning inside loops, ``fit`` included."""
import gluon_compress  # noqa: F401

import mxnet as mx  # noqa: I001
import numpy as np
import pytest
from gluon_compress import training
from gluon_compress.errors import NetworkError, RecordError
from gluon_compress.pruning import GradualPruner, MaskedTrainer, Masks, cubic, linear, one_shot, prune_magnitude
from hypothesis import given
from hypothesis import strategies as st
from mxnet import autograd
from mxnet.gluon import nn
from networks import NormNet, SharedWeights, build, identical, values

SCHEDULES = [one_shot, linear, cubic]


@pytest.mark.parametrize("schedule", SCHEDULES)
@given(st.floats(0, 1), st.floats(0, 1))
def test_schedules_rise_from_zero_or_more_to_one(schedule, first, second):
    low, high = sorted((first, second))
    assert 0 <= schedule(low) <= schedule(high) <= schedule(1) == 1


def test_schedules_at_some_points():
    assert [one_shot(share) for share in (0, 0.5, 1)] == [1, 1, 1]
    assert [linear(share) for share in (0, 0.25, 1)] == [0, 0.25, 1]
    assert [cubic(share) for share in (0, 0.5, 1)] == [0, 0.875, 1]


@given(st.integers(0, 100), st.integers(1, 50), st.integers(1, 50), st.floats(0, 0.5), st.floats(0.5, 0.99))
def test_cubic_is_the_formula_of_zhu_and_gupta(begin, prunings, frequency, initial, final):
    # eq. 1: s_t = s_f + (s_i - s_f) * (1 - (t - t_0) / (n * Delta_t)) ** 3
    for t in range(begin, begin + prunings * frequency + 1, frequency):
        progress = (t - begin) / (prunings * frequency)
        expected = final + (initial - final) * (1 - (t - begin) / (prunings * frequency)) ** 3
        assert initial + (final - initial) * cubic(progress) == pytest.approx(expected, abs=1e-12)


@pytest.mark.parametrize("schedule", SCHEDULES)
@pytest.mark.parametrize(("progress", "error"), [(-0.1, ValueError), (1.1, ValueError), (float("nan"), ValueError),
                                                 ("half", TypeError), (True, TypeError), (None, TypeError)])
def test_progress_is_a_share(schedule, progress, error):
    with pytest.raises(error, match=f"progress is {progress!r}"):
        schedule(progress)


# ---- in a loop

def step(net, example, trainer):
    with autograd.record():
        loss = (net(example) ** 2).sum()
    loss.backward()
    trainer.step(len(example))


def zeros(net, names):
    now = values(net)
    return {name: now[name] == 0 for name in names}


@pytest.mark.parametrize("scope", ["layer", "global"])
@pytest.mark.parametrize("schedule", SCHEDULES)
def test_the_sparsity_follows_the_schedule_and_zeros_only_grow(schedule, scope):
    net, example = build(NormNet)
    pruner = GradualPruner(net, 0.6, steps=9, schedule=schedule, frequency=2, begin=3, initial_sparsity=0.2,
                           scope=scope)
    trainer = MaskedTrainer(net, pruner, "sgd", {"learning_rate": 0.05, "momentum": 0.9, "wd": 0.01})
    names = list(pruner.masks.kept)
    size = sum(mask.size for mask in pruner.masks.kept.values())
    before = zeros(net, names)
    sparsity = 0
    for update in range(1, 16):
        step(net, example, trainer)
        if update in (3, 5, 7, 9, 11, 12):  # begin, each frequency steps, and the end
            sparsity = 0.2 + 0.4 * {"one_shot": 1, "linear": (update - 3) / 9,
                                    "cubic": 1 - (1 - (update - 3) / 9) ** 3}[schedule.__name__]
        assert pruner.step == update
        assert pruner.sparsity == (None if update < 3 else pytest.approx(sparsity))
        now = zeros(net, names)
        counted = ([(now[name].sum(), now[name].size) for name in names] if scope == "layer" else
                   [(sum(zero.sum() for zero in now.values()), size)])
        assert [count for count, _ in counted] == [round(sparsity * total) for _, total in counted]
        for name in names:
            assert not (before[name] & ~now[name]).any()
            np.testing.assert_array_equal(trainer.masks.kept[name], ~now[name])
        before = now
    assert trainer.masks is pruner.masks
    assert pruner.masks.fitted_masks(net) is pruner.masks.kept


def test_each_pruning_takes_the_smallest_weights_of_that_moment():
    net, _ = build(nn.Dense, (1, 20), units=15)
    pruner = GradualPruner(net, 0.6, steps=4, schedule=linear, frequency=2)
    generator = np.random.default_rng(0)
    gone = np.zeros(300, dtype=bool)
    for update in range(1, 5):
        weights = generator.normal(size=300).astype(np.float32)
        net.weight.set_data(mx.nd.array(weights.reshape(15, 20)))
        assert pruner.advance() == (update % 2 == 0)
        if update % 2 == 0:
            lowest = sorted(range(300), key=lambda i: (not gone[i], abs(weights[i])))[:round(0.6 * update / 4 * 300)]
            gone[lowest] = True
        np.testing.assert_array_equal(pruner.masks.kept["weight"].ravel(), ~gone)


@pytest.mark.parametrize("frequency, prunings", [(None, 100), (1, 300), (7, 43), (300, 1)])
def test_the_frequency_counts(frequency, prunings):
    net, _ = build(nn.Dense, (1, 100), units=100)
    pruner = GradualPruner(net, 0.5, steps=300, frequency=frequency, schedule=linear)
    assert sum(pruner.advance() for _ in range(400)) == prunings
    assert pruner.masks.sparsity == 0.5


def test_one_shot_prunes_at_once():
    net, _ = build(NormNet)
    reference, _ = build(NormNet)
    pruner = GradualPruner(net, 0.7, steps=5, schedule=one_shot)
    assert pruner.masks.digest == prune_magnitude(reference, 0.7).digest
    assert identical(values(net), values(reference))


def test_what_was_pruned_before_stays():
    net, example = build(NormNet)
    masks = prune_magnitude(net, 0.5, select="output")
    net.output.weight.set_data(net.output.weight.data() + 1)  # to be zero again
    pruner = GradualPruner(net, 0.9, steps=2, frequency=1, select="features.4", masks=masks)
    trainer = MaskedTrainer(net, pruner, "sgd", {"learning_rate": 0.01})
    for _ in range(3):
        step(net, example, trainer)
    assert set(pruner.masks.kept) == {"output.weight", "features.4.weight"}
    np.testing.assert_array_equal(values(net)["output.weight"] == 0, ~masks.kept["output.weight"])
    assert set(pruner.masks.left_out) == {"features.0", "features.9"}


def test_the_selection_is_made_once():
    net, example = build(NormNet)
    pruner = GradualPruner(net, 0.5, steps=2, frequency=1, select=lambda layer: not (layer.value() == 0).any())
    trainer = MaskedTrainer(net, pruner, "sgd", {"learning_rate": 0.01})
    for _ in range(2):
        step(net, example, trainer)
    assert len(pruner.masks.kept) == 4 and pruner.masks.sparsity == pytest.approx(0.5, abs=1e-3)


# ---- with fit

class Interrupted(Exception):
    pass


def batches(interrupt_after=None):
    generator = np.random.default_rng(0)
    for number in range(6):
        if number == interrupt_after:
            raise Interrupted
        yield (mx.nd.array(generator.normal(size=(8, 6))), mx.nd.array(generator.integers(0, 3, 8)))


class Data:
    """Interrupts its second epoch."""

    def __init__(self, interrupt):
        self.interrupt, self.epochs = interrupt, 0

    def __len__(self):
        return 6

    def __iter__(self):
        self.epochs += 1
        return batches(3 if self.interrupt and self.epochs == 2 else None)


def fit(data, state_path=None):
    net, _ = build(SharedWeights)
    pruner = GradualPruner(net, 0.8, steps=12, frequency=3)
    trainer = MaskedTrainer(net, pruner, "adam", {"learning_rate": 0.01})
    training.fit(net, data, 3, trainer, state_path=state_path, progress=False)
    return net, pruner


def test_fit_prunes_and_resumes_to_the_same_bits(tmp_path):
    net, pruner = fit(Data(False))
    assert pruner.step == 18
    for name, kept in pruner.masks.kept.items():
        assert (~kept).sum() == round(0.8 * kept.size)
        np.testing.assert_array_equal(values(net)[name][~kept], 0)
    with pytest.raises(Interrupted):
        fit(Data(True), tmp_path / "state")
    again, resumed = fit(Data(False), tmp_path / "state")
    assert resumed.step == 18 and resumed.masks.digest == pruner.masks.digest
    assert identical(values(net), values(again))


# ---- bad input

GOOD = {"final_sparsity": 0.5, "steps": 10}
BAD = [
    ({"final_sparsity": 1}, ValueError, "final_sparsity is 1; accepted: .*less than 1"),
    ({"final_sparsity": -0.1}, ValueError, "final_sparsity is -0.1"),
    ({"final_sparsity": "0.5"}, TypeError, "final_sparsity is '0.5'"),
    ({"final_sparsity": 0.9999}, ValueError, "sparsity=0.9999 .* would leave layer features.0"),
    ({"steps": 0}, ValueError, "steps is 0"),
    ({"steps": 2.5}, TypeError, "steps is 2.5"),
    ({"frequency": 11}, ValueError, "frequency is 11; accepted: .*at most 10"),
    ({"frequency": 0}, ValueError, "frequency is 0"),
    ({"begin": -1}, ValueError, "begin is -1"),
    ({"initial_sparsity": 0.6}, ValueError, "initial_sparsity is 0.6; accepted: .*at most 0.5"),
    ({"scope": "both"}, ValueError, "scope is 'both'"),
    ({"select": "features.3"}, ValueError, "there is no such layer"),
    ({"schedule": "cubic"}, TypeError, "schedule is 'cubic'; accepted: one_shot, linear, cubic"),
    ({"schedule": lambda progress: progress / 2}, ValueError, r"schedule\(1\) is 0.5"),
    ({"schedule": lambda progress: 2 * progress}, ValueError, "the schedule's value is 1.2"),
    ({"schedule": lambda progress: abs(2 * progress - 1)}, ValueError, "schedule goes down"),
    ({"schedule": lambda progress: None}, TypeError, "the schedule's value is None"),
    ({"masks": Masks({"output.weight": np.ones(3)})}, RecordError, "output.weight has shape"),
    ({"masks": [1]}, TypeError, r"masks is \[1\]"),
]


@pytest.mark.parametrize(("arguments", "error", "message"), BAD)
def test_a_bad_argument_is_named_and_changes_nothing(arguments, error, message):
    net, _ = build(NormNet)
    before = values(net)
    with pytest.raises(error, match=message):
        GradualPruner(net, **(GOOD | arguments))
    assert identical(before, values(net))


def test_a_pruner_is_for_its_own_network_and_makes_its_own_masks():
    net, _ = build(NormNet)
    other, _ = build(NormNet)
    pruner = GradualPruner(net, **GOOD)
    with pytest.raises(ValueError, match="made for another network"):
        MaskedTrainer(other, pruner, "sgd")
    trainer = MaskedTrainer(net, pruner, "sgd")
    with pytest.raises(ValueError, match="come from its GradualPruner"):
        trainer.replace_masks(pruner.masks)


def test_weights_that_become_nan_are_named_and_the_pruner_stays_where_it_was():
    net, _ = build(NormNet)
    pruner = GradualPruner(net, **GOOD)
    net.output.weight.data()[0, 0] = np.nan
    masks = pruner.masks
    with pytest.raises(NetworkError, match="layer output: 1 of 80 weights are not finite"):
        pruner.advance()
    assert pruner.step == 0 and pruner.masks is masks
