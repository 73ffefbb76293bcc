"""Sensitivity: curves of single layers that a brute-force loop gives too, a network that stays as it was."""
import json
import sys
from contextlib import nullcontext
from functools import partial
from pathlib import Path

import gluon_compress  # noqa: F401

import mxnet as mx  # noqa: I001
import numpy as np
import pytest
from gluon_compress.errors import CheckpointError, NetworkError, RecordError
from gluon_compress.models import ResNet
from gluon_compress.network import layers
from gluon_compress.measuring.plots import plot_sensitivity
from gluon_compress.pruning import Random, Sensitivity, Taylor, WeightCriterion, prune_channels, prune_magnitude
from gluon_compress.pruning import measure_sensitivity as sensitivity
from hypothesis import given
from hypothesis import strategies as st
from matplotlib import image
from mxnet import autograd
from mxnet.gluon import HybridBlock, Trainer, nn
from networks import Branches, NormNet, OwnWeight, SharedWeights, build, exported, identical, laid_out_anew, values

KINDS = pytest.mark.parametrize("kind", ["weights", "channels"])
FEW = (0.3, 0.7)


class Perceptron(HybridBlock):
    def __init__(self, **kwargs):
        super().__init__(**kwargs)
        with self.name_scope():
            self.layers = nn.HybridSequential()
            self.layers.add(nn.Dense(16, activation="relu"), nn.Dense(12, activation="relu"), nn.Dense(4))

    def hybrid_forward(self, F, x):
        return self.layers(x)


class JoinedTwice(HybridBlock):
    """Some of the channels of ``sum`` go with ``left``, the others with ``right``."""

    def __init__(self, **kwargs):
        super().__init__(**kwargs)
        with self.name_scope():
            self.left = nn.Conv2D(4, 3)
            self.right = nn.Conv2D(6, 3)
            self.sum = nn.Conv2D(10, 3)
            self.output = nn.Dense(3)

    def hybrid_forward(self, F, x):
        return self.output(F.relu(F.concat(self.left(x), self.right(x), dim=1) + self.sum(x)))


class Agreement:
    """Share of random inputs on which the network still says what it said; counts its calls."""

    def __init__(self, net, shape, fail_at=None, error=None, seed=1):
        self.inputs = mx.nd.array(np.random.default_rng(seed).normal(size=shape))
        self.classes = net(self.inputs).asnumpy().argmax(axis=1)
        self.calls, self.fail_at, self.error = 0, fail_at, error

    def __call__(self, net):
        self.calls += 1
        if self.calls == self.fail_at:
            raise self.error
        return float((net(self.inputs).asnumpy().argmax(axis=1) == self.classes).mean())


def perceptron():
    net, example = build(Perceptron, (2, 6))
    return net, example, Agreement(net, (300, 6))


def values_on(net, device):
    return {name: parameter.data(device).asnumpy() for name, parameter in net._collect_params_with_prefix().items()}


def norm_net(**arguments):
    net, example = build(NormNet)
    return net, example, Agreement(net, (20, 3, 8, 8), **arguments)


def without(biggest_first, count):
    """Indices that stay when the ``count`` smallest go."""
    return np.sort(np.argsort(-biggest_first, kind="stable")[:len(biggest_first) - count])


def forward(weights, biases, x):
    for index, (weight, bias) in enumerate(zip(weights, biases)):
        x = x @ weight.T + bias
        x = np.maximum(x, 0) if index < len(weights) - 1 else x
    return x


@KINDS
@pytest.mark.parametrize("criterion", ["l1", "l2"])
def test_curves_are_those_of_a_brute_force_loop(kind, criterion):
    net, example, agreement = perceptron()
    record = sensitivity(net, agreement, example, kind=kind, criterion=criterion, progress=False)
    names = ["layers.0", "layers.1", "layers.2"]
    original = values(net)
    weights, biases = ([original[f"{name}.{what}"] for name in names] for what in ("weight", "bias"))
    assert list(record.curves) == (names if kind == "weights" else names[:2])
    for index, name in enumerate(record.curves):
        assert list(record.curves[name]) == record.fractions == [round(0.1 * i, 1) for i in range(1, 10)]
        for fraction, accuracy in record.curves[name].items():
            w, b = list(weights), list(biases)
            if kind == "weights":
                kept = without(np.abs(w[index]).ravel(), round(fraction * w[index].size))
                w[index] = np.where(np.isin(np.arange(w[index].size), kept).reshape(w[index].shape), w[index], 0)
            else:
                norms = np.abs(w[index]).sum(axis=1) if criterion == "l1" else (w[index] ** 2).sum(axis=1)
                kept = without(norms, round(fraction * len(norms)))
                w[index], b[index], w[index + 1] = w[index][kept], b[index][kept], w[index + 1][:, kept]
            classes = forward(w, b, agreement.inputs.asnumpy()).argmax(axis=1)
            assert accuracy == (classes == agreement.classes).mean(), (name, fraction)
    assert record.baseline == 1.0
    assert len({accuracy for curve in record.curves.values() for accuracy in curve.values()}) > 5


@KINDS
@pytest.mark.parametrize("error", [KeyError("evaluate"), KeyboardInterrupt()])
@pytest.mark.parametrize("hybridized", [True, False])
def test_network_is_as_it_was(kind, error, hybridized):
    net, example, agreement = norm_net()
    if hybridized:
        net.hybridize(static_alloc=True)
    before, output, text = values(net), net(example).asnumpy(), repr(net)
    arrays = [parameter.data() for parameter in net.collect_params().values()]
    sensitivity(net, agreement, example, kind, FEW, progress=False)
    assert identical(before, values(net))
    agreement.calls, agreement.fail_at, agreement.error = 0, 4, error
    with pytest.raises(type(error)):
        sensitivity(net, agreement, example, kind, FEW, progress=False)
    assert identical(before, values(net)) and repr(net) == text
    assert np.array_equal(net(example).asnumpy(), output)
    assert all(parameter.data() is array for parameter, array in zip(net.collect_params().values(), arrays))


@KINDS
def test_network_is_as_it_was_after_an_error_that_mxnet_reports_late(kind):
    net, example = build(NormNet)
    before = values(net)

    def evaluate(net):
        late = mx.nd.random.normal(0, -1, shape=(2, 2))  # a negative deviation: raises when it is read
        return float(net(example).sum().asscalar() + late.sum().asscalar())
    with pytest.raises(mx.MXNetError):
        sensitivity(net, evaluate, example, kind, FEW, progress=False)
    assert identical(before, values(net))


@KINDS
@pytest.mark.parametrize("dimensions", [1, 3])
def test_weights_that_onednn_laid_out_anew_are_put_back(kind, dimensions):
    net, example = laid_out_anew(dimensions)
    before = values(net)
    record = sensitivity(net, lambda net: float(net(example).sum().asscalar()), example, kind, FEW, progress=False)
    assert len(set(record.curves["0"].values())) == len(FEW)
    assert identical(before, values(net))


@KINDS
def test_a_measurement_between_steps_does_not_change_the_training(kind):
    def trained(measure):
        net, example, agreement = norm_net()
        devices = [mx.cpu(0), mx.cpu(1)]
        net.collect_params().reset_ctx(devices)
        trainer = Trainer(net.collect_params(), "sgd", {"learning_rate": 0.01, "momentum": 0.9})  # updates on a store
        for step in range(3):
            for device in devices:
                with autograd.record():
                    loss = (net(example.as_in_context(device)) ** 2).mean()
                loss.backward()
            trainer.step(2)
            if measure and step == 1:
                sensitivity(net, agreement, example, kind, FEW, progress=False)
        return values_on(net, devices[1])
    assert identical(trained(False), trained(True))


@KINDS
def test_what_evaluate_does_to_the_parameters_is_undone(kind):
    net, example, agreement = norm_net()
    before = values(net)
    expected = sensitivity(net, agreement, example, kind, FEW, progress=False)

    def spoils(net):
        accuracy = agreement(net)
        with autograd.record(train_mode=True):
            net(example + 5)  # moves the statistics of BatchNorm
        for parameter in net.collect_params().values():
            parameter.set_data(parameter.data() + 1)
        return accuracy
    assert sensitivity(net, spoils, example, kind, FEW, progress=False) == expected
    assert identical(before, values(net))


@KINDS
def test_symbol_block(kind, tmp_path):
    net, example, agreement = norm_net()
    expected = sensitivity(net, agreement, example, kind, FEW, progress=False)
    block = exported(net, example, tmp_path)
    before = values(block)
    record = sensitivity(block, agreement, example, kind, FEW, progress=False)
    assert list(record.curves.values()) == list(expected.curves.values())
    assert identical(before, values(block))


@KINDS
def test_an_interrupted_run_goes_on(kind, tmp_path):
    net, example, agreement = norm_net()
    path = tmp_path / "deep" / "state.json"
    expected = sensitivity(net, agreement, example, kind, FEW, progress=False)
    total, agreement.calls = agreement.calls, 0
    assert total == 1 + len(FEW) * len(expected.curves)
    finished = 0
    for fail_at in (1, 2, 4, None):  # the first call of each run is of the whole network
        agreement.calls, agreement.fail_at, agreement.error = 0, fail_at, OSError("the disk with the data")
        if fail_at:
            with pytest.raises(OSError, match="the data"):
                sensitivity(net, agreement, example, kind, FEW, state_path=path, progress=False)
            finished += max(0, fail_at - 2)
    record = sensitivity(net, agreement, example, kind, FEW, state_path=path, progress=False)
    assert agreement.calls == total - finished
    assert record == expected and record.summary() == expected.summary()
    agreement.calls = 0
    assert sensitivity(net, agreement, example, kind, FEW, state_path=path, progress=False) == expected
    assert agreement.calls == 1
    assert list(path.parent.iterdir()) == [path]


def test_a_killed_run_goes_on(start_python, tmp_path):
    code = """if True:
        import os, sys
        sys.path.insert(0, sys.argv[1])
        from test_sensitivity import perceptron, sensitivity
        net, example, agreement = perceptron()
        evaluate = lambda net: agreement(net) if agreement.calls < 3 else os._exit(9)
        sensitivity(net, evaluate, example, "channels", state_path=sys.argv[2])
    """
    process = start_python(code, Path(__file__).parent, tmp_path / "state")
    process.communicate(timeout=300)
    assert process.returncode == 9
    net, example, agreement = perceptron()
    record = sensitivity(net, agreement, example, "channels", state_path=tmp_path / "state", progress=False)
    assert agreement.calls == 1 + 2 * 9 - 2
    assert record == sensitivity(net, agreement, example, "channels", progress=False)


def test_a_state_of_another_run_is_refused(tmp_path):
    net, example, agreement = norm_net()
    path = tmp_path / "state.json"
    sensitivity(net, agreement, example, "channels", FEW, state_path=path, progress=False)
    content = path.read_bytes()
    for change, difference in (
            ({"fractions": (0.3, 0.6)}, r"fractions is \[0.3, 0.7\] there, \[0.3, 0.6\] here"),
            ({"kind": "weights"}, "kind is 'channels' there, 'weights' here"),
            ({"criterion": "l2"}, "criterion is 'l1' there, 'l2' here"),
            ({"criterion": WeightCriterion("l1", "first")}, "over is 'group' there, 'first' here"),
            ({"select": "features.0"}, "layers.features.4 is .* there, missing here")):
        with pytest.raises(CheckpointError, match=f"state.json is of another run: {difference}"):
            sensitivity(net, agreement, example, state_path=path, progress=False,
                        **{"kind": "channels", "fractions": FEW, **change})
    net.output.bias.set_data(net.output.bias.data() + 1e-3)
    before = values(net)
    with pytest.raises(CheckpointError, match="parameters_sha256"):
        sensitivity(net, agreement, example, "channels", FEW, state_path=path, progress=False)
    assert path.read_bytes() == content and identical(before, values(net))


@pytest.mark.parametrize("arguments", [
    {"criterion": lambda weight: np.arange(len(weight))},
    {"criterion": partial(np.linalg.norm, axis=1)},
    {"criterion": Taylor([], lambda output, label: output)}])
def test_functions_without_a_name_are_refused_beside_a_state(arguments, tmp_path):
    net, example, agreement = perceptron()
    name = "loss" if isinstance(arguments["criterion"], Taylor) else "criterion"
    with pytest.raises(TypeError, match=f"{name} is .*, by whose name the file at state_path could not tell it"):
        sensitivity(net, agreement, example, "channels", FEW, state_path=tmp_path / "s", progress=False, **arguments)
    assert agreement.calls == 0 and not any(tmp_path.iterdir())


def first_go(weight):
    return np.arange(len(weight))


def last_go(weight):
    return -np.arange(len(weight))


def test_functions_with_a_name_are_told_apart(tmp_path):
    net, example, agreement = perceptron()
    arguments = {"kind": "channels", "fractions": FEW, "state_path": tmp_path / "state", "progress": False}
    expected = sensitivity(net, agreement, example, criterion=first_go, **arguments)
    assert sensitivity(net, agreement, example, criterion=first_go, **arguments) == expected
    with pytest.raises(CheckpointError, match="criterion is 'first_go' there, 'last_go' here"):
        sensitivity(net, agreement, example, criterion=last_go, **arguments)


def test_a_state_path_that_is_no_file_is_refused(tmp_path):
    net, _, agreement = perceptron()
    with pytest.raises(ValueError, match="state_path is .*, a directory; accepted: the path of a file"):
        sensitivity(net, agreement, state_path=tmp_path, progress=False)
    with pytest.raises(TypeError, match="state_path is 5; accepted: the path of a file"):
        sensitivity(net, agreement, state_path=5, progress=False)
    assert agreement.calls == 0


@pytest.mark.parametrize("finished", [True, False])
def test_a_state_of_another_evaluate_is_refused(finished, tmp_path):
    net, example, agreement = norm_net(fail_at=None if finished else 4, error=KeyboardInterrupt())
    path = tmp_path / "state.json"
    with nullcontext() if finished else pytest.raises(KeyboardInterrupt):
        sensitivity(net, agreement, fractions=FEW, state_path=path, progress=False)
    content, before = path.read_bytes(), values(net)
    with pytest.raises(CheckpointError, match="state.json was measured with another evaluate: .* 1.0 there, 0.25 here"):
        sensitivity(net, lambda net: 0.25, fractions=FEW, state_path=path, progress=False)
    assert path.read_bytes() == content and identical(before, values(net))


def test_a_damaged_state_is_refused(tmp_path):
    net, example, agreement = perceptron()
    path = tmp_path / "state.json"
    sensitivity(net, agreement, kind="weights", fractions=FEW, state_path=path, progress=False)
    good = json.loads(path.read_text())
    curves = good["curves"]
    spoilt = [b"", b"\xff\xfe", b"[]", b"null", json.dumps(good)[:-9].encode()]
    spoilt += [json.dumps(content).encode() for content in (
        {**good, "run": 3}, {**good, "baseline": None}, {**good, "baseline": float("nan")}, {**good, "curves": []},
        {**good, "curves": {"layers.0": curves["layers.0"]}}, {"run": good["run"], "curves": curves},
        *({**good, "curves": {**curves, "layers.0": [point]}} for point in ([0.3, "1"], [0.4, 1.0], [[], 1.0], 0.3)))]
    for content in spoilt:
        path.write_bytes(content)
        with pytest.raises(CheckpointError, match="state.json is .*delete it"):
            sensitivity(net, agreement, kind="weights", fractions=FEW, state_path=path, progress=False)
        assert path.read_bytes() == content


@pytest.mark.parametrize("record", [{}, None, {"curves": {}}, {"curves": 5}, {"curves": {"a": [1]}, "kind": "weights"}])
def test_what_is_no_record_of_a_measurement_is_refused(record):
    with pytest.raises(RecordError, match="this is not a record of a sensitivity measurement"):
        Sensitivity.from_dict(record)


ACCURACIES = st.lists(st.integers(0, 100), min_size=5, max_size=5)


@given(st.lists(ACCURACIES, min_size=1, max_size=4), st.integers(0, 100), st.integers(0, 100))
def test_ratios_are_the_last_fraction_before_the_first_that_costs_too_much(curves, baseline, max_drop):
    fractions = [0.1, 0.3, 0.5, 0.7, 0.9]
    names = [f"conv{index}" for index in range(len(curves))]
    record = Sensitivity("channels", "l1", fractions, {name: [name, f"with_{name}"] for name in names}, {},
                         baseline / 100, {name: {f: a / 100 for f, a in zip(fractions, curve)}
                                          for name, curve in zip(names, curves)})
    ratios = record.ratios(max_drop / 100)
    assert set(ratios) == {*names, *(f"with_{name}" for name in names)}
    for name, curve in zip(names, curves):  # in whole percents, where nothing is rounded
        bearable = [f for i, f in enumerate(fractions) if all(baseline - a <= max_drop for a in curve[:i + 1])]
        assert ratios[name] == ratios[f"with_{name}"] == max(bearable, default=0.0)


def test_a_lucky_point_behind_a_valley_does_not_count():
    curve = {0.2: 0.89, 0.4: 0.1, 0.6: 0.9}
    record = Sensitivity("weights", "l1", [0.2, 0.4, 0.6], {"a": ["a"]}, {}, 0.9, {"a": curve})
    assert record.ratios(0.01) == {"a": 0.2}
    assert record.ratios(0.009) == {"a": 0.0}
    assert record.ratios(0.8) == {"a": 0.6}
    for wrong, error in ((-0.1, ValueError), (float("nan"), ValueError), ("1", TypeError)):
        with pytest.raises(error, match="max_drop"):
            record.ratios(wrong)


def test_channels_of_a_residual_network():
    net, example = build(ResNet, (2, 3, 16, 16), depth=18, classes=10, thumbnail=True, width=8)
    before = values(net)
    agreement = Agreement(net, (16, 3, 16, 16))
    record = sensitivity(net, agreement, example, "channels", (0.25, 0.75), progress=False)
    assert identical(before, values(net))
    everything = prune_channels(*build(ResNet, (2, 3, 16, 16), depth=18, classes=10, thumbnail=True, width=8), 0.5,
                                round_to=1)
    together = [layer for group in record.layers.values() for layer in group]
    assert sorted(together) == sorted(everything.layers) and record.left_out == everything.left_out
    for name in ("features.5.0.body.0", "features.6.0.body.3"):
        copy, _ = build(ResNet, (2, 3, 16, 16), depth=18, classes=10, thumbnail=True, width=8)
        plan = prune_channels(copy, example, {name: 0.75}, round_to=1)
        assert sorted(plan.layers) == sorted(record.layers[name])
        assert agreement(copy) == record.curves[name][0.75]
    assert len(record.layers["features.6.0.body.3"]) == 3
    ratios = record.ratios(0.25)
    assert set(ratios) == set(everything.layers) and len(set(ratios.values())) > 1
    plan = prune_channels(net, example, ratio=ratios, round_to=1)
    for name, layer in plan.layers.items():
        assert len(layer["kept"]) == layer["before"] * (1 - ratios[name])
    assert np.isfinite(net(example).asnumpy()).all()


def test_ratios_as_sparsities_of_masks():
    net, example, agreement = perceptron()
    ratios = sensitivity(net, agreement, progress=False).ratios(0.1)
    assert len(set(ratios.values())) > 1
    masks = prune_magnitude(net, ratios)
    for name, fraction in ratios.items():
        weight = values(net)[f"{name}.weight"]
        assert (weight == 0).sum() == (~masks.kept[f"{name}.weight"]).sum() == round(fraction * weight.size)


def test_layers_that_share_some_channels_each_are_one_curve():
    net, example = build(JoinedTwice, (2, 2, 8, 8))
    record = sensitivity(net, Agreement(net, (20, 2, 8, 8)), example, "channels", (0.5, 0.9), progress=False)
    assert record.layers == {"left": ["left", "sum", "right"]}
    assert list(record.curves["left"]) == [0.5]  # 0.9 of the four channels of left would be all
    plan = prune_channels(net, example, ratio=record.ratios(1.0), round_to=1)
    assert {name: len(layer["kept"]) for name, layer in plan.layers.items()} == {"sum": 5, "left": 2, "right": 3}


@KINDS
@pytest.mark.parametrize("network", [NormNet, Branches, OwnWeight, SharedWeights])
@pytest.mark.parametrize("select", [None, "the first", nn.Dense])
def test_no_layer_is_missing(kind, network, select):
    net, example = build(network)
    every = {layer.name: layer.kind for layer in layers(net)}
    select = next(iter(every)) if select == "the first" else select
    wanted = {name for name in every if select in (None, name) or (select is nn.Dense and every[name] == "Dense")}
    if kind == "weights":
        expected = {name for name in wanted if select or every[name] in ("Conv2D", "Dense")}
    else:
        expected = {layer for name in wanted for layer in removable_with(network, name)}
    if not expected:
        with pytest.raises(ValueError, match="no layer"):
            sensitivity(net, lambda net: 0.5, example, kind, (0.5,), select, progress=False)
        return
    record = sensitivity(net, lambda net: 0.5, example, kind, (0.5,), select, progress=False)
    measured = [layer for group in record.layers.values() for layer in group]
    assert sorted(measured) == sorted(expected) and sorted(record.left_out) == sorted(every.keys() - expected)
    assert record.curves == {name: {0.5: 0.5} for name in record.layers}
    assert all(name in record.summary() for name in every)


def removable_with(network, name):
    """Names of the layers that lose channels when ``name`` is asked to; none when it cannot."""
    net, example = build(network)
    try:
        return prune_channels(net, example, {name: 0.5}, round_to=1).layers
    except ValueError:
        return {}


def test_layers_without_the_criterion_are_named():
    net, example, agreement = norm_net()
    record = sensitivity(net, agreement, example, "channels", FEW, criterion="bn_scale", progress=False)
    assert list(record.curves) == ["features.0", "features.4", "features.9"]
    net, example, agreement = perceptron()
    with pytest.raises(ValueError, match="BatchNorm"):
        sensitivity(net, agreement, example, "channels", criterion="bn_scale", progress=False)
    assert agreement.calls == 0


def test_criteria_with_arguments():
    net, example, agreement = perceptron()
    batch = [(example, mx.nd.array([0, 1]))]
    before = values(net)
    for criterion in (Taylor(batch), Random(3), WeightCriterion(lambda weight: np.arange(len(weight)), "first")):
        record = sensitivity(net, agreement, example, "channels", (0.5,), criterion=criterion, progress=False)
        for name, curve in record.curves.items():
            copy, _, _ = perceptron()
            prune_channels(copy, example, {name: 0.5}, criterion, round_to=1)
            assert curve == {0.5: agreement(copy)}
    assert identical(before, values(net))


def test_fractions_that_would_empty_a_layer_are_left_out_there():
    class Narrow(HybridBlock):
        def __init__(self):
            super().__init__()
            with self.name_scope():
                self.first, self.second, self.third = nn.Dense(2), nn.Dense(20), nn.Dense(1)

        def hybrid_forward(self, F, x):
            return self.third(self.second(self.first(x)))

    net, example = build(Narrow, (2, 3))
    record = sensitivity(net, lambda net: 1.0, example, "channels", (0.7, 0.8), progress=False)
    assert record.curves == {"first": {0.7: 1.0}, "second": {0.7: 1.0, 0.8: 1.0}}
    assert record.summary().splitlines()[2].split() == ["first", "1.0000", "1.0000", "-"]
    record = sensitivity(net, lambda net: 1.0, example, "channels", (0.8,), progress=False)
    assert list(record.curves) == ["second"] and "none of its 2 channels" in record.left_out["first"]
    record = sensitivity(net, lambda net: 1.0, fractions=(0.5, 0.98), progress=False)
    assert record.curves == {"first": {0.5: 1.0}, "second": {0.5: 1.0, 0.98: 1.0}, "third": {0.5: 1.0}}
    with pytest.raises(ValueError, match="no layer can be measured: .*first: each fraction"):
        sensitivity(net, lambda net: 1.0, example, "channels", (0.98,), progress=False)


def test_record_is_plain_data():
    net, example, agreement = norm_net()
    record = sensitivity(net, agreement, example, "channels", FEW, select=["features.0"], progress=False)
    again = Sensitivity.from_dict(json.loads(json.dumps(record.to_dict())))
    assert again == record and str(again) == record.summary() and again.ratios(0.2) == record.ratios(0.2)
    curve = record.curves["features.0"]
    rows = record.summary().splitlines()
    assert rows[0].split() == ["layer", "0", "0.3", "0.7", "note"]
    assert rows[2].split() == ["features.0", "1.0000", f"{curve[0.3]:.4f}", f"{curve[0.7]:.4f}"]
    assert any(row.startswith("output") and "the network's output" in row for row in rows)


def test_plot(tmp_path):
    def record(count, last):
        names = [f"features.{index}.conv" for index in range(count)]
        return Sensitivity("weights", "l1", [0.5, 0.9], {name: [name] for name in names}, {}, 0.9,
                           {name: {0.5: 0.8, 0.9: last - 0.005 * index} for index, name in enumerate(names)})

    def colours(path):
        return len(np.unique((image.imread(path)[..., :3] * 255).astype(int).reshape(-1, 3), axis=0))
    few = plot_sensitivity(record(2, 0.7), tmp_path / "few.png")
    many = plot_sensitivity(record(40, 0.7), tmp_path / "many.png", title="forty layers")
    assert image.imread(many).shape[1] > image.imread(few).shape[1]  # the legend has two columns
    assert colours(many) > 2 * colours(few)
    other = plot_sensitivity(record(2, 0.3), tmp_path / "other.png")
    assert (image.imread(other) != image.imread(few)).any()
    with pytest.raises(ValueError, match="no curves"):
        plot_sensitivity(Sensitivity("weights", "l1", [0.5], {}, {}, 0.9), few)
    with pytest.raises(ValueError, match=r"\.png"):
        plot_sensitivity(record(2, 0.3), tmp_path / "few.jpg")


def test_progress_bar(capsys, monkeypatch):
    monkeypatch.setattr(sys.stderr, "isatty", lambda: True)
    net, _, agreement = perceptron()
    sensitivity(net, agreement, fractions=(0.5,), progress=False)
    assert capsys.readouterr() == ("", "")
    sensitivity(net, agreement, fractions=(0.5,))
    assert "/4 " in capsys.readouterr().err


@KINDS
@pytest.mark.parametrize(("value", "error"), [(float("nan"), ValueError), (float("inf"), ValueError), (None, TypeError),
                                              ("0.9", TypeError), (True, TypeError), (("accuracy", 0.9), TypeError)])
def test_an_accuracy_that_is_none(kind, value, error, tmp_path):
    net, example, _ = perceptron()
    before = values(net)
    answers = iter([0.9, 0.8, value])
    with pytest.raises(error, match=r"evaluate\(net\), layers.0 without 0.7, is"):
        sensitivity(net, lambda net: next(answers), example, kind, FEW, state_path=tmp_path / "state", progress=False)
    assert identical(before, values(net))
    assert json.loads((tmp_path / "state").read_text())["curves"]["layers.0"] == [[0.3, 0.8]]


def test_bad_arguments():
    net, example, agreement = perceptron()
    before = values(net)
    for arguments, error, message in (
            ({"evaluate": 0.9}, TypeError, "evaluate is 0.9"),
            ({"kind": "filters"}, ValueError, "kind is 'filters'"),
            ({"fractions": ()}, ValueError, "at least one"),
            ({"fractions": 0.5}, TypeError, "fractions is 0.5"),
            ({"fractions": (0.5, 1.0)}, ValueError, "fraction is 1.0"),
            ({"fractions": (0.0, 0.5)}, ValueError, "fraction is 0.0"),
            ({"fractions": ("0.5",)}, TypeError, "fraction is '0.5'"),
            ({"fractions": (0.5, 0.5)}, ValueError, "none of them twice"),
            ({"select": "layers.7"}, ValueError, "layers.7"),
            ({"select": []}, ValueError, "matches no layer"),
            ({"criterion": "bn_scale"}, ValueError, "criterion is BatchNormScale.*, which ranks channels"),
            ({"criterion": {}}, ValueError, "criterion has no entry for layer layers.0"),
            ({"criterion": 5}, TypeError, "criterion is 5; accepted: 'l1', 'l2', 'random'"),
            ({"kind": "channels"}, TypeError, "example is missing"),
            ({"kind": "channels", "example": mx.nd.ones((2, 7))}, ValueError, "does not fit"),
            ({"kind": "channels", "example": example, "criterion": "taylor"}, ValueError, "which needs data"),
            ({"kind": "channels", "example": example, "criterion": "l3"}, ValueError, "criterion is 'l3'"),
            ({"kind": "channels", "example": example, "select": "layers.8"}, ValueError, "layers.8"),
            ({"kind": "channels", "example": example, "select": "layers.2"}, ValueError, "the network's output")):
        with pytest.raises(error, match=message):
            sensitivity(net, **{"evaluate": agreement, "progress": False, **arguments})
    assert agreement.calls == 0 and identical(before, values(net))


@KINDS
def test_networks_that_cannot_be_measured(kind):
    net, example, agreement = perceptron()
    uninitialized = Perceptron()
    with pytest.raises(NetworkError, match="not initialized"):
        sensitivity(uninitialized, agreement, example, kind)
    with pytest.raises(TypeError, match="HybridBlock"):
        sensitivity(lambda x: x, agreement, example, kind)
    weight = net.layers[1].weight
    weight.set_data(weight.data() * float("nan"))
    with pytest.raises(NetworkError, match="layers.1"):
        sensitivity(net, agreement, example, kind)
    assert agreement.calls == 0
