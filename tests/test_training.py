"""Training: it learns, repeats, resumes to the last bit, and fails cleanly."""
import os
import signal

import numpy as np
import pytest
from gluon_compress import runtime, training
from gluon_compress.errors import CheckpointError, NetworkError
from gluon_compress.network import snapshot
from gluon_compress.pruning import MaskedTrainer, prune_channels, prune_magnitude

import mxnet as mx
from mxnet.gluon import Trainer, nn
from mxnet.gluon.data import ArrayDataset, DataLoader

SIDE = np.random.RandomState(7).standard_normal((2, 3))


@pytest.fixture(autouse=True, scope="module")
def one_thread():
    """For arrays as small as these, a second thread is a thread to wait for."""
    mx.base._LIB.MXSetNumOMPThreads(1)
    yield
    mx.base._LIB.MXSetNumOMPThreads(runtime.status().threads or runtime.usable_cores())


def samples(count=120, seed=0):
    """Three classes that lines through the origin separate."""
    inputs = np.random.RandomState(seed).standard_normal((count, 2)).astype(np.float32)
    return inputs, (inputs @ SIDE).argmax(axis=1)


def batches(count=120, size=20, seed=0):
    inputs, labels = samples(count, seed)
    return [(mx.nd.array(inputs[start:start + size]), mx.nd.array(labels[start:start + size]))
            for start in range(0, count, size)]


def loader(count=120, shuffle=True):
    inputs, labels = samples(count)
    return DataLoader(ArrayDataset(inputs, labels.astype(np.float32)), batch_size=20, shuffle=shuffle)


def build(seed=0, units=8, deferred=False, dropout=0.0, normalized=False):
    mx.random.seed(seed)
    net = nn.HybridSequential()
    net.add(nn.Dense(units, activation="relu", in_units=0 if deferred else 2))
    if normalized:
        net.add(nn.BatchNorm(in_channels=units))
    if dropout:
        net.add(nn.Dropout(dropout))
    net.add(nn.Dense(3, in_units=0 if deferred else units))
    net.initialize(mx.init.Xavier())
    return net


def fit(net, data=None, epochs=3, **arguments):
    return training.fit(net, batches() if data is None else data, epochs, progress=False, **arguments)


def adam(net, **arguments):
    return Trainer(net.collect_params(), "adam", {"learning_rate": 0.02} | arguments)


def assert_same_parameters(first, second):
    assert first.keys() == second.keys()
    for name in first:
        np.testing.assert_array_equal(first[name], second[name], err_msg=name)


# ---- learning

@pytest.mark.parametrize("hybridized", [False, True])
def test_it_learns_a_separable_problem(hybridized):
    net = build()
    if hybridized:
        net.hybridize()
    history = fit(net, loader(), epochs=10, trainer=adam(net, learning_rate=0.1))
    assert training.evaluate(net, batches(seed=1)) > 0.9
    assert history.epochs[-1]["loss"] < history.epochs[0]["loss"] / 2
    assert [epoch["epoch"] for epoch in history.epochs] == list(range(1, 11))
    assert history.best is None


def test_one_step_of_sgd_is_the_textbook_step():
    net = nn.Dense(3, in_units=2)
    net.initialize(mx.init.Xavier())
    before = snapshot(net)
    inputs, labels = samples(20)
    fit(net, batches(20), epochs=1, trainer=Trainer(net.collect_params(), "sgd", {"learning_rate": 0.5}))
    logits = inputs @ before["weight"].T + before["bias"]
    softmax = np.exp(logits) / np.exp(logits).sum(axis=1, keepdims=True)
    error = (softmax - np.eye(3)[labels]) / 20
    after = snapshot(net)
    np.testing.assert_allclose(after["weight"], before["weight"] - 0.5 * error.T @ inputs, atol=1e-6)
    np.testing.assert_allclose(after["bias"], before["bias"] - 0.5 * error.sum(axis=0), atol=1e-6)


def test_evaluate_equals_numpy():
    net = build()
    inputs, labels = samples(50)
    expected = (net(mx.nd.array(inputs)).asnumpy().argmax(axis=1) == labels).mean()
    assert training.evaluate(net, batches(50, size=7)) == pytest.approx(expected)


def test_evaluate_is_in_inference_mode_even_inside_a_recording():
    net = build(dropout=0.9)
    expected = training.evaluate(net, batches())
    with mx.autograd.record():
        assert [training.evaluate(net, batches()) for _ in range(3)] == [expected] * 3


@pytest.mark.parametrize("convert", [
    lambda inputs, labels: (inputs.asnumpy(), labels.asnumpy()),
    lambda inputs, labels: (inputs, labels.reshape((-1, 1))),
    lambda inputs, labels: (inputs, labels.astype(np.int32)),
    lambda inputs, labels: (inputs, labels.asnumpy().astype(int).tolist())],
    ids=["numpy", "column", "int32", "list"])
def test_labels_and_inputs_of_other_kinds_give_the_same(convert):
    reference, net = build(), build()
    expected = fit(reference, batches())
    data = [convert(*batch) for batch in batches()]
    history = fit(net, data)
    assert [epoch["accuracy"] for epoch in history.epochs] == [epoch["accuracy"] for epoch in expected.epochs]
    assert_same_parameters(snapshot(net), snapshot(reference))
    assert training.evaluate(net, data) == training.evaluate(reference, batches())


def test_data_without_a_length():
    class Stream:
        def __iter__(self):
            return iter(batches())
    reference, net = build(), build()
    fit(reference, schedule=training.constant)
    fit(net, Stream(), schedule=training.constant)
    assert_same_parameters(snapshot(net), snapshot(reference))


def test_loss_and_targets_are_the_callers():
    seen = []

    def targets(inputs, labels):
        seen.append((mx.autograd.is_recording(), mx.autograd.is_training()))
        return labels, 2 * inputs

    def loss(output, labels, doubled):
        assert doubled.shape == (20, 2)
        return ((output - doubled.sum(axis=1, keepdims=True)) ** 2).mean(axis=1)
    history = fit(build(), epochs=5, loss=loss, targets=targets)
    assert history.epochs[-1]["loss"] < history.epochs[0]["loss"]
    assert set(seen) == {(False, False)}


# ---- learning rates

@pytest.mark.parametrize("schedule, expected", [
    (training.constant, {0: 1, 0.5: 1, 0.9: 1}),
    (training.cosine, {0: 1, 0.25: 0.853553, 0.5: 0.5, 1: 0}),
    (training.one_cycle, {0: 0, 0.1: 0.5, 0.2: 1, 0.6: 0.5, 1: 0})])
def test_schedules(schedule, expected):
    for progress, factor in expected.items():
        assert schedule(progress) == pytest.approx(factor, abs=1e-6)


def test_the_schedule_is_followed_step_by_step_and_the_rate_given_back():
    net, rates = build(), []
    trainer = Trainer(net.collect_params(), "sgd", {"learning_rate": 0.3})
    fit(net, epochs=2, trainer=trainer, schedule=lambda progress: rates.append(progress) or 1 - progress)
    np.testing.assert_allclose(rates, np.arange(12) / 12)
    assert trainer.learning_rate == 0.3


def test_numbers_may_be_numpy_s_in_a_run_that_is_saved_too(tmp_path):
    def run(file, integer, decimal):
        net = build()
        trainer = Trainer(net.collect_params(), "sgd", {"learning_rate": decimal(0.25)})
        fit(net, epochs=integer(2), trainer=trainer, schedule=lambda progress: decimal(1 - progress), seed=integer(3),
            state_path=tmp_path / file)
        return snapshot(net)
    expected = run("python", int, float)
    for decimal in (np.float32, np.float64):
        assert_same_parameters(run(decimal.__name__, np.int64, decimal), expected)
    assert_same_parameters(run("float32", int, float), expected)  # the state is that of the same run


def test_a_trainer_with_a_scheduler_of_its_own():
    def trainer(net):
        scheduler = mx.lr_scheduler.FactorScheduler(step=4, factor=0.5, base_lr=0.4)
        return Trainer(net.collect_params(), "sgd", {"learning_rate": 0.4, "lr_scheduler": scheduler})
    net, by_hand = build(), build()
    history = fit(net, epochs=2, trainer=trainer(net))
    own, loss = trainer(by_hand), mx.gluon.loss.SoftmaxCrossEntropyLoss()
    for inputs, labels in 2 * batches():
        with mx.autograd.record():
            value = loss(by_hand(inputs), labels)
        value.backward()
        own.step(len(inputs))
    assert_same_parameters(snapshot(net), snapshot(by_hand))
    assert history.epochs[-1]["learning_rate"] == own.learning_rate < 0.4
    with pytest.raises(ValueError, match="lr_scheduler and schedule is given"):
        fit(net, trainer=trainer(net), schedule=training.cosine)


# ---- repeating and resuming

@pytest.mark.parametrize("data", [batches, loader], ids=["list", "shuffled loader"])
def test_a_seeded_run_repeats_bit_for_bit(data):
    results = []
    for seed in (0, 0, 1):
        net = build(dropout=0.3, normalized=True)
        fit(net, data(), seed=seed)
        results.append(snapshot(net))
    assert_same_parameters(results[0], results[1])
    assert any((results[0][name] != results[2][name]).any() for name in results[0])


# A run that kills itself with SIGKILL after the given epoch: its state has just been written.
RUN = """
import os, signal, sys
sys.path.insert(0, sys.argv[1])
import test_training as t
from gluon_compress.training import state as training_state

state, kill_after = sys.argv[2:]
save = training_state.save
def save_and_die(*arguments):
    save(*arguments)
    if len(arguments[4]) == int(kill_after):
        os.kill(os.getpid(), signal.SIGKILL)
training_state.save = save_and_die
t.train_for_resume(state)
"""


def train_for_resume(state):
    net = build(dropout=0.3, normalized=True, deferred=True)
    trainer = Trainer(net.collect_params(), "adam", {"learning_rate": 0.05, "wd": 1e-3})
    training.fit(net, loader(), 5, trainer, seed=3, state_path=state, progress=False,
                 validation_data=batches(60, seed=2))
    return net


def test_a_killed_run_ends_with_the_same_bits(tmp_path, start_python):
    """Of the other optimizers see below: between two writes a kill leaves what an exception leaves."""
    state = tmp_path / "run.state"
    killed = start_python(RUN, os.path.dirname(__file__), state, 4)
    killed.communicate(timeout=300)
    assert killed.returncode == -signal.SIGKILL and state.exists()
    resumed = train_for_resume(state)
    expected = train_for_resume(tmp_path / "other.state")
    assert_same_parameters(snapshot(resumed), snapshot(expected))


OPTIMIZERS = ["sgd", "nag", "adam", "adamax", "nadam", "rmsprop", "adagrad", "adadelta", "ftrl", "ftml",
              "signum", "dcasgd", "lars", "lamb"]


class Stop(Exception):
    pass


class StoppingData:
    """Batches whose third pass stops at its beginning."""

    def __init__(self, stops):
        self.data, self.stops, self.passes = batches(60), stops, 0

    def __len__(self):
        return len(self.data)

    def __iter__(self):
        self.passes += 1
        if self.stops and self.passes == 3:
            raise Stop
        return iter(self.data)


def stopped_and_resumed(tmp_path, make_trainer):
    """Histories and parameters of four epochs: whole, and stopped after two and resumed."""
    def run(net, path, stops=False):
        return fit(net, StoppingData(stops), 4, trainer=make_trainer(net), state_path=path)
    nets = []
    for _ in range(3):
        with mx.name.NameManager():  # in the order of their names, dense99 behind dense100, Nadam's steps would differ
            nets.append(build())
    reference, stopped, resumed = nets
    whole = run(reference, None)
    with pytest.raises(Stop):
        run(stopped, tmp_path / "state", stops=True)
    return whole, reference, run(resumed, tmp_path / "state"), resumed


@pytest.mark.parametrize("optimizer", OPTIMIZERS)
def test_every_optimizer_resumes_to_the_same_bits(tmp_path, optimizer):
    _, reference, _, resumed = stopped_and_resumed(
        tmp_path, lambda net: Trainer(net.collect_params(), optimizer, {"learning_rate": 0.01}))
    assert_same_parameters(snapshot(resumed), snapshot(reference))


SCHEDULERS = {"factor": lambda: mx.lr_scheduler.FactorScheduler(2, 0.7, base_lr=0.1),
              "steps": lambda: mx.lr_scheduler.MultiFactorScheduler([2, 5, 9], 0.5, base_lr=0.1),
              "poly": lambda: mx.lr_scheduler.PolyScheduler(3, base_lr=0.1, final_lr=0.01),  # over before the stop
              "cosine": lambda: mx.lr_scheduler.CosineScheduler(3, base_lr=0.1, final_lr=0.01, warmup_steps=1)}


@pytest.mark.parametrize("scheduler", SCHEDULERS)
def test_every_learning_rate_scheduler_resumes(tmp_path, scheduler):
    whole, reference, history, resumed = stopped_and_resumed(tmp_path, lambda net: Trainer(
        net.collect_params(), "sgd", {"learning_rate": 0.1, "lr_scheduler": SCHEDULERS[scheduler]()}))
    assert [epoch["learning_rate"] for epoch in history.epochs] == [epoch["learning_rate"] for epoch in whole.epochs]
    assert_same_parameters(snapshot(resumed), snapshot(reference))


def test_a_setting_that_is_missing_is_not_one_that_is_none(tmp_path):
    fit(build(), state_path=tmp_path / "state", run_details={"weights": None})
    with pytest.raises(CheckpointError, match="of another run: run_details.weights is None there, missing here;"):
        fit(build(), state_path=tmp_path / "state", run_details={})


def test_a_finished_run_writes_nothing(tmp_path):
    """Its folder may be read-only."""
    path = tmp_path / "folder" / "state"
    fit(build(), state_path=path)
    before = path.parent.stat().st_mtime_ns
    fit(build(), state_path=path)
    assert path.parent.stat().st_mtime_ns == before


@pytest.mark.parametrize("path, error, message", [
    (5, TypeError, "state_path is 5; accepted: the path of a file"),
    ("", ValueError, "state_path is .*, a directory"), ("file/state", OSError, "file")])
def test_a_state_that_cannot_be_written_is_refused_before_training(tmp_path, path, error, message):
    (tmp_path / "file").write_text("")
    net = build()
    before = snapshot(net)
    with pytest.raises(error, match=message):
        fit(net, batches(), state_path=path if path == 5 else tmp_path / path)
    assert_same_parameters(before, snapshot(net))


def test_nan_that_only_the_weights_show_is_noticed():
    """MXNet's ReLU makes 0 of NaN: the loss stays finite."""
    net = build(normalized=False)
    relu = nn.HybridSequential()
    relu.add(nn.Dense(8, in_units=2), nn.BatchNorm(in_channels=8), nn.Activation("relu"), net[1])
    relu.initialize()
    data = batches()
    data[0][0][3] = 3e38  # finite, and infinite behind the first layer
    before = snapshot(relu)
    with pytest.raises(NetworkError, match="parameter .* is NaN or infinite after epoch 1: lower the learning"):
        fit(relu, data)
    assert_same_parameters(before, snapshot(relu))


def test_another_schedule_is_another_run(tmp_path):
    def run(factor):
        net = build()
        scheduler = mx.lr_scheduler.FactorScheduler(5, factor, base_lr=0.1)
        fit(net, state_path=tmp_path / "state",
            trainer=Trainer(net.collect_params(), "sgd", {"learning_rate": 0.1, "lr_scheduler": scheduler}))
    run(0.5)
    with pytest.raises(CheckpointError, match="lr_scheduler.factor is 0.5 there, 0.1 here"):
        run(0.1)


def test_gradients_that_pile_up_are_refused():
    net = build()
    net[0].weight.grad_req = "add"
    with pytest.raises(ValueError, match="grad_req of 0.weight is 'add'"):
        fit(net)


def test_an_optimizer_whose_state_cannot_be_saved_is_refused_at_once(tmp_path):
    net = build()
    before = snapshot(net)
    with pytest.raises(ValueError, match="state of optimizer LBSGD cannot be saved"):
        fit(net, trainer=Trainer(net.collect_params(), "lbsgd"), state_path=tmp_path / "state")
    assert_same_parameters(snapshot(net), before)


def test_a_finished_run_returns_at_once(tmp_path):
    first, again = build(), build(seed=1)
    history = fit(first, state_path=tmp_path / "state")

    class Untouchable:
        def __len__(self):
            return len(batches())

        def __iter__(self):
            raise AssertionError("the data were asked for")
    assert fit(again, Untouchable(), state_path=tmp_path / "state").epochs == history.epochs
    assert_same_parameters(snapshot(again), snapshot(first))


# ---- the best epoch

def test_the_best_epochs_parameters_are_kept():
    net, seen, accuracies = build(), [], []

    class Validation:
        def __iter__(self):
            seen.append(snapshot(net))
            accuracies.append(training_accuracy(seen[-1]))
            return iter(batches(seed=5))

    def training_accuracy(parameters):
        inputs, labels = samples(seed=5)
        hidden = np.maximum(inputs @ parameters["0.weight"].T + parameters["0.bias"], 0)
        return ((hidden @ parameters["1.weight"].T + parameters["1.bias"]).argmax(axis=1) == labels).mean()
    # a learning rate that only does harm in the later epochs
    trainer = Trainer(net.collect_params(), "sgd", {"learning_rate": 1.0})
    history = fit(net, epochs=6, trainer=trainer, schedule=lambda progress: 0.5 if progress < 0.5 else 30.0,
                  validation_data=Validation())
    assert [epoch["validation_accuracy"] for epoch in history.epochs] == pytest.approx(accuracies)
    best = int(np.argmax(accuracies))
    assert best < 5 and history.best["epoch"] == best + 1
    assert_same_parameters(snapshot(net), seen[best])


def test_history_prints_a_line_per_epoch():
    history = fit(build(), epochs=2, validation_data=batches(40, seed=1))
    lines = str(history).splitlines()
    assert lines[0].split() == ["epoch", "loss", "accuracy", "validation", "seconds"]
    assert [line.split()[0] for line in lines[1:]] == ["1", "2"]
    assert history.to_dict() == {"epochs": history.epochs}


def test_resumes_whatever_gluon_names_the_layers(tmp_path):
    """Gluon's trainer sorts by names that count instances: ten layers later, dense10 comes before dense9."""
    def build_named(first, second):
        net = nn.HybridSequential()
        net.add(nn.Dense(7, activation="relu", prefix=first), nn.Dense(3, prefix=second))
        mx.random.seed(3)
        net.initialize(mx.init.Xavier())
        net(batches()[0][0])
        return net

    def run(net, epochs_at_most):
        data = batches(60)
        visits = iter(range(epochs_at_most))

        class Data:
            def __iter__(self):
                next(visits)  # StopIteration after that many epochs
                return iter(data)
        trainer = Trainer(net.collect_params(), "sgd", {"learning_rate": 0.05, "momentum": 0.9})
        fit(net, Data(), 4, trainer=trainer, state_path=tmp_path / "state")
    with pytest.raises((StopIteration, RuntimeError)):
        run(build_named("dense9_", "dense10_"), 2)
    resumed = build_named("dense1_", "dense2_")
    run(resumed, 2)
    (tmp_path / "state").unlink()
    expected = build_named("dense1_", "dense2_")
    run(expected, 4)
    assert_same_parameters(snapshot(resumed), snapshot(expected))


# ---- what is refused, with the network as it was

@pytest.mark.parametrize("epochs", [0, -1, 2.0, "3", True, None])
def test_wrong_epochs(epochs):
    with pytest.raises((TypeError, ValueError), match="epochs is .*accepted: an integer( at least 1)?$"):
        fit(build(), epochs=epochs)


@pytest.mark.parametrize("net", [None, "net", lambda x: x])
def test_not_a_network(net):
    with pytest.raises(TypeError, match="net is a"):
        fit(net)
    with pytest.raises(TypeError, match="net is a"):
        training.evaluate(net, batches())


def test_uninitialized_network():
    net = nn.HybridSequential()
    net.add(nn.Dense(3, in_units=2))
    for call in (fit, lambda net: training.evaluate(net, batches())):
        with pytest.raises(NetworkError, match="parameter 0.weight is not initialized"):
            call(net)


def bad_batch(labels, inputs=None):
    return [*batches(), (mx.nd.ones((2, 2)) if inputs is None else inputs, mx.nd.array(labels))]


@pytest.mark.parametrize("data, error, message", [
    ([], ValueError, "no batches"),
    (bad_batch([0, 3]), ValueError, "a label is 3.0; accepted: integers from 0 to 2"),
    (bad_batch([0, -1]), ValueError, "a label is -1.0"),
    (bad_batch([0, 0.5]), ValueError, "a label is 0.5"),
    (bad_batch([0, np.nan]), ValueError, "a label is nan"),
    (bad_batch([0, 1], mx.nd.array([[1, np.nan], [0, 1]])), ValueError, "values that are NaN or infinite"),
    (bad_batch([0, 1, 2]), ValueError, r"labels have shape \(3,\) for a batch of 2"),
    (bad_batch([[0, 1], [1, 0]]), ValueError, r"labels have shape \(2, 2\) for a batch of 2"),
    ([*batches(), mx.nd.ones((2, 2))], ValueError, "is an NDArray; accepted: pairs"),
    ([*batches(), (mx.nd.ones((2, 2)),) * 3], ValueError, "1 input.* and 2 label.*; accepted: pairs")],
    ids=["empty", "too large", "negative", "fraction", "nan label", "nan input",
         "too many", "one-hot", "array", "triple"])
def test_bad_data_leave_the_network_as_it_was(data, error, message):
    net = build(normalized=True)
    before, trainer = snapshot(net), adam(net)
    with pytest.raises(error, match=message):
        fit(net, data, trainer=trainer)
    assert_same_parameters(snapshot(net), before)
    assert trainer.learning_rate == 0.02
    with pytest.raises(error, match=message):
        training.evaluate(net, data)


def test_nan_is_noticed():
    net = nn.Dense(3, in_units=2)
    net.initialize(mx.init.Constant(5))
    before = snapshot(net)
    data = bad_batch([0, 1], mx.nd.array([[1, 3e38], [0, 1]]))
    with pytest.raises(NetworkError, match="the loss is nan at epoch 1/3, batch 7"):
        fit(net, data)
    assert_same_parameters(snapshot(net), before)
    with pytest.raises(NetworkError, match="output is NaN or infinite"):
        training.evaluate(net, data)


def test_a_generator_that_is_used_up_is_noticed():
    net = build()
    before = snapshot(net)
    with pytest.raises(ValueError, match="train_data has no batches; .*can be gone through once per epoch"):
        fit(net, (batch for batch in batches()), epochs=2)
    with pytest.raises(ValueError, match="validation_data has no batches; .*can be gone through once per epoch"):
        fit(net, epochs=2, validation_data=(batch for batch in batches()))
    assert_same_parameters(snapshot(net), before)


def test_a_loss_that_is_not_finite_names_the_place():
    net = build()
    before = snapshot(net)
    with pytest.raises(NetworkError, match=r"the loss is (nan|inf) at epoch \d+/5, batch \d+: lower the"):
        fit(net, epochs=5, trainer=Trainer(net.collect_params(), "sgd", {"learning_rate": 1e30}))
    assert_same_parameters(snapshot(net), before)


def test_a_network_without_logits_is_refused():
    net = nn.HybridSequential()
    net.add(nn.Conv2D(3, 1, in_channels=1))
    net.initialize()
    data = [(mx.nd.ones((2, 1, 4, 4)), mx.nd.array([0, 1]))]
    with pytest.raises(ValueError, match=r"output is \(2, 3, 4, 4\); accepted: logits"):
        fit(net, data)


def test_a_network_on_several_devices_is_refused():
    net = build()
    net[1].collect_params().reset_ctx([mx.cpu(0), mx.cpu(1)])
    with pytest.raises(NetworkError, match=r"parameter 1.weight is on cpu\(0\), cpu\(1\); fit trains on one device"):
        fit(net)


def test_a_network_without_parameters_is_refused():
    net = nn.HybridSequential()
    for call in (fit, lambda net: training.evaluate(net, batches())):
        with pytest.raises(NetworkError, match="no parameters"):
            call(net)


@pytest.mark.parametrize("arguments, message", [
    ({"trainer": "sgd"}, "trainer is 'sgd'; accepted: a gluon.Trainer"), ({"trainer": []}, r"trainer is \[\]"),
    ({"schedule": 0.5}, "schedule is 0.5; accepted: a callable"), ({"loss": 0}, "loss is 0"),
    ({"targets": ()}, r"targets is \(\)"), ({"run_details": {1, 2}}, "accepted: what JSON can write")])
def test_arguments_of_another_kind(arguments, message):
    net = build()
    before = snapshot(net)
    with pytest.raises(TypeError, match=message):
        fit(net, **arguments)
    assert_same_parameters(snapshot(net), before)


def test_a_trainer_of_another_network_is_refused():
    with pytest.raises(ValueError, match="the trainer has none of the network's parameters .*0.weight"):
        fit(build(), trainer=adam(build()))


def test_nothing_to_train_is_refused():
    net = build()
    trainer = adam(net[1])
    net[1].collect_params().setattr("grad_req", "null")
    with pytest.raises(NetworkError, match=r"frozen \(grad_req is 'null'\): 1.weight, 1.bias"):
        fit(net, trainer=trainer)
    fit(net, epochs=1)  # the first layer still trains


@pytest.mark.parametrize("loss", [
    lambda output, labels: output.mean(), lambda output, labels: (output ** 2), lambda output, labels: 0.5],
    ids=["mean", "matrix", "number"])
def test_a_loss_that_is_not_one_value_per_sample_is_refused(loss):
    net = build()
    before = snapshot(net)
    with pytest.raises(ValueError, match=r"the loss has shape .* for a batch of 20; accepted: \(20,\)"):
        fit(net, loss=loss)
    assert_same_parameters(snapshot(net), before)


@pytest.mark.parametrize("optimizer, arguments", [("nag", {"momentum": 0.9}), ("adam", {}), ("nadam", {})])
def test_a_trainer_from_before_structured_pruning_is_refused(optimizer, arguments):
    net = build()
    trainer = Trainer(net.collect_params(), optimizer, {"learning_rate": 0.01, **arguments})
    fit(net, epochs=1, trainer=trainer)
    fit(net, epochs=1, trainer=trainer)  # the same shapes: accepted
    prune_channels(net, mx.nd.ones((2, 2)), 0.5, round_to=1)
    before = snapshot(net)
    with pytest.raises(ValueError, match="make a new Trainer after prune_channels"):
        fit(net, epochs=1, trainer=trainer)
    assert_same_parameters(snapshot(net), before)


# ---- states that do not fit

NAG = {"learning_rate": 0.01, "momentum": 0.9, "wd": 5e-4}  # the default


class OtherTrainer(Trainer):
    """Another class, as MaskedTrainer is."""


@pytest.mark.parametrize("change, message", [
    ({"seed": 1}, "of another run"), ({"epochs": 4}, "of another run"),
    ({"trainer": lambda net: Trainer(net.collect_params(), "nag", NAG | {"learning_rate": 0.5})},
     "learning_rate is 0.01 there, 0.5 here"),
    ({"trainer": lambda net: adam(net, learning_rate=0.01)},
     "optimizer is 'NAG' there, 'Adam' here"),
    ({"trainer": lambda net: Trainer(net.collect_params(), "nag", NAG | {"momentum": 0.5})},
     "optimizer.momentum is 0.9 there, 0.5 here"),
    ({"trainer": lambda net: Trainer(net.collect_params(), "nag", NAG | {"rescale_grad": 2.0})},
     "rescale_grad is 1.0 there, 2.0 here"),
    ({"trainer": lambda net: OtherTrainer(net.collect_params(), "nag", NAG)},
     "trainer is 'Trainer' there, 'OtherTrainer' here"),
    ({"schedule": training.constant}, "schedule is 'cosine' there, 'constant' here"),
    ({"loss": mx.gluon.loss.L2Loss()}, "loss is 'SoftmaxCrossEntropyLoss' there, 'L2Loss' here"),
    ({"data": batches(60)}, "batches is 6 there, 3 here"),
    ({"run_details": {"temperature": 4}}, r"run_details is None there, {'temperature': 4} here"),
    ({"run_details": {"weights": None}}, "run_details is None there, {'weights': None} here"),
    ({"trainer": lambda net: Trainer(net[1].collect_params(), "nag", NAG)}, "other parameters"),
    ({"net": {"units": 9}}, r"parameter 0.weight has shape \(8, 2\) there, \(9, 2\) here"),
    ({"net": {"normalized": True}}, "to another network: parameter 1"),
])
def test_a_state_of_another_run_is_refused(tmp_path, change, message):
    path = tmp_path / "state"
    fit(build(), state_path=path)
    net, content = build(seed=1, **change.pop("net", {})), path.read_bytes()
    before = snapshot(net)
    if "trainer" in change:
        change["trainer"] = change["trainer"](net)
    with pytest.raises(CheckpointError, match=message):
        fit(net, state_path=path, **change)
    assert_same_parameters(snapshot(net), before)
    assert path.read_bytes() == content


def test_a_state_with_other_masks_is_refused(tmp_path):
    def run(seed):
        net = build(seed)
        fit(net, trainer=MaskedTrainer(net, prune_magnitude(net, 0.5), "sgd"), state_path=tmp_path / "state")
        return snapshot(net)
    assert_same_parameters(run(0), run(0))
    with pytest.raises(CheckpointError, match="masks_digest is '"):
        run(1)


def test_a_state_of_another_number_type_is_refused(tmp_path):
    fit(build(), state_path=tmp_path / "state")
    net = build()
    net.cast("float64")
    with pytest.raises(CheckpointError, match="parameter 0.weight has type float32 there, float64 here"):
        fit(net, state_path=tmp_path / "state")


def test_a_damaged_state_is_refused(tmp_path):
    path = tmp_path / "state"
    fit(build(), state_path=path)
    original, net = path.read_bytes(), build(seed=1)
    before = snapshot(net)
    for position in np.random.RandomState(0).randint(0, len(original), 20):
        damaged = bytearray(original)
        damaged[position] ^= 0x55
        path.write_bytes(damaged)
        with pytest.raises(CheckpointError, match=str(path)):
            fit(net, state_path=path)
        assert_same_parameters(snapshot(net), before)
    path.write_bytes(original[:len(original) // 2])
    with pytest.raises(CheckpointError):
        fit(net, state_path=path)
    assert_same_parameters(snapshot(net), before)
