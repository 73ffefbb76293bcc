"""Structured pruning: the smaller network computes what the original does without the removed channels."""
import json

import gluon_compress  # noqa: F401

import mxnet as mx  # noqa: I001
import numpy as np
import pytest
from gluon_compress.errors import NetworkError, RecordError
from gluon_compress.models import AlexNet, LeNet, LeNet300100, LeNet5Caffe, ResNet, SimpleCNN
from gluon_compress.pruning import ChannelPlan, prune_channels
from gluon_compress.pruning.criteria import FORMULAS
from mxnet import autograd
from mxnet.gluon import HybridBlock, Trainer, nn
from networks import (
    Assorted,
    Branches,
    NormNet,
    OwnWeight,
    SharedWeights,
    build,
    assert_close,
    exported,
    fresh,
    identical,
    number_of_parameters,
    values,
    zero_removed,
)

LENET = (3, 1, 28, 28)
NETWORKS = {
    "LeNet": (LeNet, LENET, {}),
    "SimpleCNN": (SimpleCNN, LENET, {}),
    "LeNet5Caffe": (LeNet5Caffe, LENET, {}),
    "LeNet300100": (LeNet300100, LENET, {}),
    "AlexNet": (AlexNet, (2, 3, 67, 67), {"classes": 10, "hidden_units": 32}),
    "ResNet": (ResNet, (2, 3, 16, 16), {"depth": 18, "classes": 10, "thumbnail": True, "width": 8}),
    "ResNet50": (ResNet, (2, 3, 16, 16), {"depth": 50, "classes": 10, "thumbnail": True, "width": 4}),
    "NormNet": (NormNet, None, {}),
    "Branches": (Branches, None, {}),
}
EVERY = pytest.mark.parametrize("name", NETWORKS)


def make(name):
    network, shape, arguments = NETWORKS[name]
    return build(network, shape, **arguments)


def copy_of(name):
    network, _, arguments = NETWORKS[name]
    return fresh(network, **arguments)


@EVERY
@pytest.mark.parametrize(("ratio", "criterion"), [(0.25, "l1"), (0.6, "l2")])
def test_output_is_the_original_s_without_the_removed_channels(name, ratio, criterion):
    net, example = make(name)
    original, _ = make(name)
    plan = prune_channels(net, example, ratio, criterion, round_to=1)
    assert number_of_parameters(net) < number_of_parameters(original)
    zero_removed(original, plan)
    assert_close(net(example), original(example))


@EVERY
def test_the_smaller_network_is_a_network(name, tmp_path):
    net, example = make(name)
    net.hybridize()
    net(example)
    prune_channels(net, example, 0.4, round_to=1)
    expected = net(example)
    net.hybridize(active=False)
    assert_close(net(example), expected)
    block = exported(net, example, tmp_path)
    assert_close(block(example), expected)
    net.hybridize(static_alloc=True, static_shape=True)
    assert_close(net(example), expected)
    before = values(net)
    trainer = Trainer(net.collect_params(), "adam", {"learning_rate": 1e-4})
    for _ in range(2):
        with autograd.record():
            loss = (net(example) ** 2).mean()
        loss.backward()
        trainer.step(1)
    after = values(net)
    weights = [key for key in after if key.endswith("weight")]
    assert all(np.isfinite(after[key]).all() for key in after)
    assert sum(not np.array_equal(after[key], before[key]) for key in weights) == len(weights)
    assert all(p.grad().shape == p.data().shape for p in net.collect_params().values() if p.grad_req != "null")


@EVERY
@pytest.mark.parametrize("initialized", ["not", "deferred", "with data"])
def test_the_plan_makes_the_same_shapes_in_a_copy(name, initialized, tmp_path):
    net, example = make(name)
    plan = ChannelPlan.from_dict(json.loads(json.dumps(prune_channels(net, example, 0.4, round_to=1).to_dict())))
    network, _, arguments = NETWORKS[name]
    copy = {"not": lambda: network(**arguments), "deferred": lambda: copy_of(name),
            "with data": lambda: make(name)[0]}[initialized]()
    assert plan.apply(copy) is copy
    if initialized == "with data":
        assert identical(values(net), values(copy))
    net.save_parameters(str(tmp_path / "small.params"))
    copy.load_parameters(str(tmp_path / "small.params"))
    assert_close(copy(example), net(example))
    with pytest.raises(RecordError, match="applied already"):
        plan.apply(copy)


@EVERY
def test_every_layer_is_in_the_plan(name):
    net, example = make(name)
    plan = prune_channels(net, example, 0.4, round_to=1)
    layers = {key.removesuffix(".weight") for key in values(net) if key.endswith("weight")}
    assert plan.layers.keys() | plan.left_out.keys() == layers
    assert not plan.layers.keys() & plan.left_out.keys()
    for layer, layout in plan.layers.items():
        assert len(layout["kept"]) == layout["before"] - round(0.4 * layout["before"])
        assert len(values(net)[f"{layer}.weight"]) == len(layout["kept"])
        assert layer in plan.summary()


def test_reasons_for_layers_left_out():
    net, example = make("LeNet")
    assert prune_channels(net, example, 0.5, exclude="conv.0", round_to=1).left_out == {
        "conv.0": "excluded", "dense.1": "its channels are the network's output"}
    net, example = make("LeNet")
    assert prune_channels(net, example, {"conv.2": 0.5}, round_to=1).left_out["dense.0"] == "not in ratio"


@pytest.mark.parametrize(("criterion", "order"), [("l1", 1), ("l2", 2)])
def test_the_least_important_channels_go(criterion, order):
    net, example = make("LeNet")
    weights = values(net)
    plan = prune_channels(net, example, 0.3, criterion, round_to=1)
    for name, layout in plan.layers.items():
        norms = []
        for channel in weights[f"{name}.weight"]:
            total = 0.0
            for weight in channel.ravel():
                total += abs(float(weight)) ** order
            norms.append(total ** (1 / order))
        removed = set(range(layout["before"])) - set(layout["kept"])
        assert max(norms[channel] for channel in removed) <= min(norms[channel] for channel in layout["kept"])
        np.testing.assert_allclose(FORMULAS[criterion](weights[f"{name}.weight"]), norms, rtol=1e-12)


def test_the_criteria_are_not_the_same():
    kept = [prune_channels(*make("LeNet"), 0.5, criterion, round_to=1).layers for criterion in ("l1", "l2")]
    assert kept[0] != kept[1]


def test_of_equal_channels_the_first_go():
    net, example = make("LeNet")
    net.conv[0].weight.set_data(mx.nd.ones((20, 1, 5, 5)))
    assert prune_channels(net, example, 0.25, round_to=1).layers["conv.0"]["kept"] == list(range(5, 20))


def test_ratios_per_layer():
    net, example = make("LeNet")
    prune_channels(net, example, {"conv.0": 0.5, "dense.0": 0.75}, round_to=1)
    shapes = {name: value.shape for name, value in values(net).items() if name.endswith("weight")}
    assert shapes == {"conv.0.weight": (10, 1, 5, 5), "conv.2.weight": (50, 10, 3, 3),
                      "dense.0.weight": (32, 1250), "dense.1.weight": (10, 32)}


def test_ratio_zero_changes_nothing():
    net, example = make("NormNet")
    before = values(net)
    prune_channels(net, example, 0, round_to=1)
    assert identical(before, values(net))


def test_pruning_goes_on_from_a_pruned_network():
    net, example = make("NormNet")
    prune_channels(net, example, 0.5, round_to=1)
    original, _ = make("NormNet")
    prune_channels(original, example, 0.5, round_to=1)
    plan = prune_channels(net, example, 0.5, round_to=1)
    assert plan.layers["features.0"]["before"] == 4
    zero_removed(original, plan)
    assert_close(net(example), original(example))


def test_parameters_stay_the_same_objects_with_their_settings():
    net, example = make("NormNet")
    net.features[0].weight.grad_req = "add"
    net.features[4].bias.grad_req = "null"
    net.features[9].weight.lr_mult = 0.25
    before = {name: (parameter, parameter.grad_req, parameter.lr_mult, parameter.name)
              for name, parameter in net._collect_params_with_prefix().items()}
    prune_channels(net, example, 0.5, round_to=1)
    for name, parameter in net._collect_params_with_prefix().items():
        assert before[name][0] is parameter
        assert before[name][1:] == (parameter.grad_req, parameter.lr_mult, parameter.name)
        assert parameter.shape == parameter.data().shape


def test_layers_print_their_new_size():
    net, example = make("LeNet")
    prune_channels(net, example, 0.5, round_to=1)
    assert "Conv2D(10 -> 25" in repr(net)
    assert "Dense(64 -> 10" in repr(net)


def test_a_network_on_two_devices():
    net, example = make("NormNet")
    net.collect_params().reset_ctx([mx.cpu(0), mx.cpu(1)])
    prune_channels(net, example, 0.5, round_to=1)
    assert_close(net(example.as_in_context(mx.cpu(1))), net(example))


def test_weights_of_a_block_of_yours_keep_their_rows_and_lose_columns():
    net, example = build(OwnWeight)
    original, _ = build(OwnWeight)
    plan = prune_channels(net, example, 0.5, round_to=1)
    assert list(plan.layers) == ["conv"]
    assert plan.left_out["mix"]
    zero_removed(original, plan)
    assert_close(net(example), original(example))


@pytest.mark.parametrize(("network", "pruned", "left_out"), [
    (SharedWeights, {"first": 3, "second": 3}, {"output": "its channels are the network's output"}),
    (Assorted, {"up": 3, "grouped": 6}, {"embedding": "fixed shape",
                                         "output": "its channels are the network's output"}),
    (Branches, {"stem": 4, "left": 3, "right": 3}, {name: "its channels are the network's output"
                                                    for name in ("side", "head")})])
def test_layers_of_all_kinds(network, pruned, left_out):
    net, example = build(network)
    original, _ = build(network)
    plan = prune_channels(net, example, 0.5, round_to=1)
    assert {name: len(layer["kept"]) for name, layer in plan.layers.items()} == pruned
    assert plan.left_out.keys() == left_out.keys()
    assert all(left_out[name] in reason for name, reason in plan.left_out.items())
    zero_removed(original, plan)
    assert_close(net(example), original(example))


class Sequences(HybridBlock):
    """A dense layer over the last axis of three, as many samples of time as units."""

    def __init__(self, **kwargs):
        super().__init__(**kwargs)
        with self.name_scope():
            self.first = nn.Dense(6, flatten=False, activation="relu")
            self.second = nn.Dense(5, activation="relu")
            self.output = nn.Dense(3)

    def hybrid_forward(self, F, x):
        return self.output(self.second(self.first(x)))


def test_dense_layers_over_the_last_axis_are_not_mistaken():
    net, example = build(Sequences, (2, 6, 4))
    original, _ = build(Sequences, (2, 6, 4))
    plan = prune_channels(net, example, 0.5, round_to=1)
    assert {name: layer["kept"] for name, layer in plan.layers.items()}.keys() == {"first", "second"}
    assert net.second.weight.shape == (3, 18)
    zero_removed(original, plan)
    assert_close(net(example), original(example))


class TwoOutputs(HybridBlock):
    def __init__(self, **kwargs):
        super().__init__(**kwargs)
        with self.name_scope():
            self.stem = nn.Dense(8, activation="relu")
            self.hidden = nn.Dense(6)
            self.output = nn.Dense(3)

    def hybrid_forward(self, F, x):
        hidden = self.hidden(self.stem(x))
        return self.output(hidden), hidden


def test_what_is_also_an_output_keeps_its_channels():
    net, example = build(TwoOutputs, (4, 5))
    original, _ = build(TwoOutputs, (4, 5))
    plan = prune_channels(net, example, 0.5, round_to=1)
    assert list(plan.layers) == ["stem"]
    zero_removed(original, plan)
    for ours, theirs in zip(net(example), original(example)):
        assert_close(ours, theirs)


FAILURES = [
    (1, {}, ValueError, "ratio is 1; accepted: .*less than 1"),
    (-0.1, {}, ValueError, "ratio is -0.1"),
    ("half", {}, TypeError, "ratio is 'half'"),
    (True, {}, TypeError, "ratio is True"),
    (None, {}, TypeError, "nothing given; accepted: one of ratio, macs and latency"),
    (0.99, {}, ValueError, r"ratio=0.99 would remove all \d+ channels of layer .*less than 0.9"),
    ({"conv.9": 0.5}, {}, ValueError, "ratio names 'conv.9', but .*; did you mean conv.2 or conv.0"),
    ({"dense.1": 0.5}, {}, ValueError, "ratio names 'dense.1', but its .* output; accepted: conv.0"),
    ({"conv.0": 1.5}, {}, ValueError, "ratio of conv.0 is 1.5"),
    (0.5, {"exclude": ["conv.1"]}, ValueError, "exclude names 'conv.1'.*is a MaxPool2D, which has no weight"),
    (0.5, {"exclude": "conv"}, ValueError, "exclude names 'conv'"),
    (0.5, {"select": "conv"}, ValueError, "select names 'conv'"),
    (0.5, {"select": "dense.1"}, ValueError, "leave no layer .*: dense.1: its channels are the network's output"),
    ({"conv.0": 0.5}, {"select": "conv.0"}, TypeError, "beside select='conv.0' .*; accepted: select=None"),
    (0.5, {"criterion": "l3"}, ValueError, "criterion is 'l3'; accepted: 'l1', 'l2'"),
    (0.5, {"example": mx.nd.zeros((1, 1, 3, 3))}, ValueError, "does not fit"),
    (0.5, {"example": mx.nd.zeros((1, 784))}, ValueError, "does not fit"),
    (0.5, {"example": None}, TypeError, "example is None"),
]


@pytest.mark.parametrize(("ratio", "arguments", "error", "message"), FAILURES)
def test_a_failure_changes_nothing(ratio, arguments, error, message):
    net, example = make("LeNet")
    before, drawing = values(net), repr(net)
    with pytest.raises(error, match=message):
        prune_channels(net, **{"example": example, "ratio": ratio, **{"round_to": 1, **arguments}})
    assert identical(before, values(net))
    assert repr(net) == drawing


def test_exclude_takes_any_iterable():
    net, example = make("LeNet")
    plan = prune_channels(net, example, 0.5, exclude=(name for name in ["conv.0", "dense.0"]), round_to=1)
    assert list(plan.layers) == ["conv.2"]
    assert plan.left_out["conv.0"] == plan.left_out["dense.0"] == "excluded"


@pytest.mark.parametrize("name", ["LeNet", "ResNet50", "NormNet"])
def test_symbol_blocks_lose_channels_too(name, tmp_path):
    net, example = make(name)
    block, copy = exported(net, example, tmp_path), exported(net, example, tmp_path)
    plan = prune_channels(block, example, 0.5, round_to=1)
    prune_channels(net, example, 0.5, round_to=1)
    assert_close(block(example), net(example))
    assert identical(values(plan.apply(copy)), values(block))
    assert_close(copy(example), net(example))
    assert_close(exported(block, example, tmp_path)(example), net(example))


def test_networks_that_are_not_ready_are_refused():
    with pytest.raises(NetworkError, match="not initialized"):
        prune_channels(LeNet(), mx.nd.zeros(LENET), 0.5, round_to=1)
    with pytest.raises(NetworkError, match="has no data yet"):
        prune_channels(fresh(LeNet), mx.nd.zeros(LENET), 0.5, round_to=1)
    with pytest.raises(TypeError, match="net is a list"):
        prune_channels([], mx.nd.zeros(LENET), 0.5, round_to=1)


def test_a_plan_of_another_network_is_refused():
    plan = prune_channels(*make("LeNet"), 0.5, round_to=1)
    for other in ("SimpleCNN", "AlexNet"):
        net, _ = make(other)
        before = values(net)
        with pytest.raises(RecordError, match="another network"):
            plan.apply(net)
        assert identical(before, values(net))


def test_a_plan_that_fits_half_way_changes_nothing():
    plan = prune_channels(*make("LeNet"), 0.5, round_to=1)
    net, example = build(LeNet, (2, 1, 32, 32))  # only the first dense layer differs
    before = values(net)
    with pytest.raises(RecordError, match="dense.0.weight"):
        plan.apply(net)
    assert identical(before, values(net))
    assert net(example).shape == (2, 10)


@pytest.mark.parametrize("kept", [[], [3, 2], [1, 1], [0, 20], [-1, 3]])
def test_a_damaged_plan_changes_nothing(kept):
    net, _ = make("LeNet")
    record = prune_channels(*make("LeNet"), 0.5, round_to=1).to_dict()
    record["slices"][-1]["kept"] = kept if kept != [0, 20] else [0, 10 ** 6]
    before = values(net)
    with pytest.raises(RecordError, match="the plan is damaged"):
        ChannelPlan.from_dict(record).apply(net)
    assert identical(before, values(net))


@pytest.mark.parametrize("name", ["conv.0.weight", "conv.2.bias"])
@pytest.mark.parametrize("initialized", [True, False])
def test_a_plan_without_what_a_layer_loses_itself_changes_nothing(name, initialized):
    record = prune_channels(*make("LeNet"), 0.5, round_to=1).to_dict()
    record["slices"] = [cut for cut in record["slices"] if cut["parameter"] != name]
    net = make("LeNet")[0] if initialized else LeNet()
    with pytest.raises(RecordError, match=f"damaged: layer {name[:6]} loses channels, and {name} would keep them"):
        ChannelPlan.from_dict(record).apply(net)
    if initialized:
        assert identical(values(make("LeNet")[0]), values(net))


SLICE = {"parameter": "conv.0.weight", "axis": 0, "before": 20, "kept": [0, 1]}


@pytest.mark.parametrize("changes", [
    {"slices": 5}, {"slices": [7]}, {"slices": [SLICE, SLICE]}, {"groups": 5}, {"groups": {"conv.9.weight": 2}},
    {"groups": {"conv.0.weight": 0}}, {"slices": [{**SLICE, "kept": ["a"]}]}, {"slices": [{**SLICE, "axis": -1}]},
    {"slices": [{**SLICE, "kept": [[0], [1, 2]]}]}, {"slices": [{**SLICE, "kept": [0.5]}]},
    {"slices": [{**SLICE, "parameter": ["conv"]}]}, {"slices": [{"parameter": "conv.0.weight"}]}, None])
def test_records_that_are_no_plan_change_nothing(changes):
    net, example = make("LeNet")
    before = values(net)
    record = None if changes is None else {"layers": {}, "slices": [], "left_out": {}, "groups": {}, **changes}
    with pytest.raises(RecordError, match="damaged|not a record of a channel plan"):
        ChannelPlan.from_dict(record).apply(net)
    assert identical(before, values(net))


@pytest.mark.parametrize("arguments, error", [
    ({"ratio": 0.5, "exclude": 3}, TypeError), ({"ratio": 0.5, "select": 3}, TypeError),
    ({"ratio": {}}, ValueError), ({"ratio": {"conv.0": 0.5}, "exclude": ["conv.0"]}, ValueError)])
def test_ratio_and_exclude_that_make_no_sense(arguments, error):
    net, example = make("LeNet")
    before = values(net)
    with pytest.raises(error, match="ratio is|exclude is|select is"):
        prune_channels(net, example, **{"round_to": 1, **arguments})
    assert identical(before, values(net))


def test_a_trainer_from_before_names_the_parameter_and_the_way_out():
    net, example = make("LeNet")
    trainer = mx.gluon.Trainer(net.collect_params(), "sgd", {"learning_rate": 0.1, "momentum": 0.9})

    def step():
        with mx.autograd.record():
            loss = (net(example) ** 2).mean()
        loss.backward()
        trainer.step(1)
    step()
    prune_channels(net, example, 0.5, round_to=1)
    with pytest.raises(NetworkError, match=r"state of shape \(20,.*conv0.*: make a new Trainer after prune_channels"):
        step()
