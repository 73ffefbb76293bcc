"""How many channels go, and which: ratios, all layers together, multiples, targets of MACs and latency, steps."""
from types import SimpleNamespace

import gluon_compress as gc

import mxnet as mx  # noqa: I001
import numpy as np
import pytest
from gluon_compress.errors import RecordError
from gluon_compress.models import LeNet, ResNet
from gluon_compress.network import parameters
from gluon_compress.pruning import ChannelPlan, Taylor, WeightCriterion, prune_channels, prune_channels_in_steps
from gluon_compress.pruning.channels import amount, selection
from gluon_compress.pruning.schedules import cubic
from mxnet.gluon import HybridBlock, nn
from networks import Branches, Net, NormNet, assert_close, build, identical, values, zero_removed

RESNET = {"depth": 18, "classes": 4, "thumbnail": True, "width": 8}


def resnet():
    return build(ResNet, (2, 3, 16, 16), **RESNET)


def l1_by_mean(net, name):
    weight = values(net)[f"{name}.weight"]
    norms = np.abs(weight.reshape(len(weight), -1)).sum(axis=1)
    return norms / norms.mean()


def test_global_ranks_all_layers_together():
    net, example = build(LeNet, (2, 1, 28, 28))
    names = ("conv.0", "conv.2", "dense.0")
    for index, name in enumerate(names):  # layers with different spreads lose different fractions
        weight = net._collect_params_with_prefix()[f"{name}.weight"]
        weight.set_data(weight.data() * mx.nd.random.uniform(1 - 0.3 * index, 1, shape=(weight.shape[0],)).reshape(
            (-1,) + (1,) * (weight.data().ndim - 1)))
    ranked = sorted((value, name, channel) for name in names for channel, value in enumerate(l1_by_mean(net, name)))
    gone = {(name, channel) for _, name, channel in ranked[:round(0.3 * len(ranked))]}
    plan = prune_channels(net, example, 0.3, scope="global", round_to=1)
    for name in names:
        layout = plan.layers[name]
        assert set(layout["kept"]) == {c for c in range(layout["before"]) if (name, c) not in gone}
    fractions = [1 - len(plan.layers[name]["kept"]) / plan.layers[name]["before"] for name in names]
    assert max(fractions) > min(fractions) + 0.1


def test_no_layer_loses_more_than_max_ratio():
    net, example = build(LeNet, (2, 1, 28, 28))
    net.conv[0].weight.set_data(mx.nd.random.uniform(0, 1, shape=(20, 1, 5, 5)) ** 8)
    plan = prune_channels(net, example, 0.6, scope="global", max_ratio=0.5, round_to=1)
    for layout in plan.layers.values():
        assert len(layout["kept"]) >= layout["before"] / 2
    net, example = build(LeNet, (2, 1, 28, 28))
    plan = prune_channels(net, example, 0.9, max_ratio=0.25, round_to=1)
    assert [len(layout["kept"]) for layout in plan.layers.values()] == [15, 38, 96]


def test_one_channel_of_each_layer_stays_whatever_its_rank():
    net, example = build(LeNet, (2, 1, 28, 28))
    plan = prune_channels(net, example, 0.999, scope="global", round_to=1)
    assert min(len(layout["kept"]) for layout in plan.layers.values()) >= 1
    assert net(example).shape == (2, 10)


@pytest.mark.parametrize(("ratio", "round_to", "expected"), [
    (0.5, 8, [8, 24, 64]), (0.3, 16, [16, 32, 96]), (0.9, 8, [8, 8, 16]), (0.1, 64, [20, 50, 128]),
    (0.5, 1, [10, 25, 64])])
def test_layers_keep_the_nearest_multiple(ratio, round_to, expected):
    plan = prune_channels(*build(LeNet, (2, 1, 28, 28)), ratio, round_to=round_to)
    assert [len(layout["kept"]) for layout in plan.layers.values()] == expected


@pytest.mark.parametrize(("arguments", "note"), [
    ({"ratio": 0.3, "round_to": 1000}, "round_to=1000 rounds to all of them"),
    ({"ratio": 0.3, "round_to": 1000, "scope": "global"}, "round_to=1000 rounds to all of them"),
    ({"ratio": 0.3, "max_ratio": 0.001}, "max_ratio=0.001 is less than the least that can go")])
def test_layers_that_lose_nothing_by_a_limit_are_named(arguments, note):
    net, example = build(LeNet, (2, 1, 28, 28))
    before = values(net)
    for plan in (prune_channels(net, example, **{"round_to": 1, **arguments}),
                 list(prune_channels_in_steps(net, example, steps=2, **{"round_to": 1, **arguments}))[-1]):
        assert [plan.left_out[name] for name in ("conv.0", "conv.2", "dense.0")] == [note] * 3
        assert f"all stay: {note}" in plan.summary()
    assert identical(before, values(net))


def test_layers_that_lose_nothing_as_asked_are_not_named():
    plan = prune_channels(*build(LeNet, (2, 1, 28, 28)), {"conv.0": 0.0, "conv.2": 0.5}, round_to=8)
    assert plan.left_out.keys() == {"dense.0", "dense.1"}
    net, example = build(LeNet, (2, 1, 28, 28))
    plans = prune_channels_in_steps(net, example, 0.2, steps=2, round_to=12)  # 20 channels: 18 are nearer to 24
    assert [("conv.0" in plan.left_out, len(plan.layers["conv.0"]["kept"])) for plan in plans] == [
        (True, 20), (False, 12)]


@pytest.mark.parametrize(("channels", "groups", "round_to", "kept"), [
    (32, 2, 16, 16), (24, 4, 4, 12), (24, 4, 9, 24), (24, 12, 4, 12), (24, 12, 8, 16)])
def test_multiples_are_of_channels_where_several_go_together(channels, groups, round_to, kept):
    net, example = build(Net, (2, 3, 6, 6), first=nn.Conv2D(channels, 3), output=nn.Dense(3),
                         grouped=nn.Conv2D(channels, 3, groups=groups),
                         function=lambda net, F, x: net.output(F.relu(net.grouped(net.first(x)))))
    plan = prune_channels(net, example, 0.5, round_to=round_to)
    assert len(plan.layers["first"]["kept"]) == len(plan.layers["grouped"]["kept"]) == kept
    assert ("grouped" in plan.left_out) == (kept == channels)


def test_a_multiple_is_one_of_each_layer():
    net, example = build(Net, (2, 3, 6, 6), first=nn.Conv2D(8, 3), output=nn.Dense(3),
                         grouped=nn.Conv2D(24, 3, groups=8),
                         function=lambda net, F, x: net.output(F.relu(net.grouped(net.first(x)))))
    plan = prune_channels(net, example, 0.5, round_to=2)
    assert [len(plan.layers[name]["kept"]) for name in ("first", "grouped")] == [4, 12]


def test_channels_that_must_stay_come_on_top_of_a_multiple():
    def function(net, F, x):
        return net.output(F.relu(net.all(x) + F.concat(net.some(x), x, dim=1)))
    net, example = build(Net, (2, 4, 6, 6), function=function, all=nn.Conv2D(24, 1), some=nn.Conv2D(20, 1),
                         output=nn.Dense(3))
    plan = prune_channels(net, example, 0.5, round_to=16)
    assert [len(plan.layers[name]["kept"]) for name in ("all", "some")] == [20, 16]
    assert "all" in plan.left_out and "some" not in plan.left_out
    for plan in prune_channels_in_steps(net, example, 0.5, steps=2, round_to=1):
        assert "all" in plan.left_out and "some" not in plan.left_out


@pytest.mark.parametrize("scope", ["layer", "global"])
@pytest.mark.parametrize(("macs", "round_to"), [(0.75, 1), (0.5, 1), (0.25, 1), (0.5, 4)])
def test_a_macs_target_is_met_and_hardly_undercut(scope, macs, round_to):
    net, example = resnet()
    before = gc.report(net, example).macs
    plan = prune_channels(net, example, macs=macs, scope=scope, round_to=round_to)
    after = gc.report(net, example).macs  # counted from the smaller network itself
    assert macs * before * (0.85 if round_to == 1 else 0.6) <= after <= macs * before
    assert all(len(layout["kept"]) % round_to == 0 or len(layout["kept"]) == layout["before"]
               for layout in plan.layers.values())


def test_a_macs_target_out_of_reach_is_refused():
    net, example = resnet()
    before = values(net)
    with pytest.raises(ValueError, match=r"macs is 0.001; accepted: at least 0\.\d+"):
        prune_channels(net, example, macs=0.001, max_ratio=0.5, round_to=1)
    assert identical(before, values(net))


def test_a_latency_that_is_met_already_removes_nothing():
    net, example = build(NormNet)
    before = values(net)
    plan = prune_channels(net, example, latency=1e6, round_to=1)
    assert all(len(layout["kept"]) == layout["before"] for layout in plan.layers.values())
    assert identical(before, values(net))


def test_a_latency_out_of_reach_is_refused():
    net, example = build(NormNet)
    net.hybridize()
    before, output = values(net), net(example).asnumpy()
    with pytest.raises(ValueError, match="latency is 1e-06 ms; that is not reached even when"):
        prune_channels(net, example, latency=1e-6, round_to=1)
    assert identical(before, values(net))
    assert (net(example).asnumpy() == output).all()


class Slow(HybridBlock):
    """A convolution whose channels are nearly all of the time."""

    def __init__(self, **kwargs):
        super().__init__(**kwargs)
        with self.name_scope():
            self.first = nn.Conv2D(256, 3, padding=1)
            self.second = nn.Conv2D(256, 3, padding=1)
            self.output = nn.Conv2D(1, 1)

    def hybrid_forward(self, F, x):
        return self.output(self.second(self.first(x)))


@pytest.fixture
def steady_clock(monkeypatch):
    """Milliseconds that grow with the multiplications of ``Slow`` and with nothing else: what a machine without
    other jobs would measure.
    """
    def measure(net, example, **_):
        sizes = [parameter.shape for name, parameter in parameters(net).items() if name.endswith("weight")]
        return SimpleNamespace(median=sum(float(np.prod(shape)) for shape in sizes) / 1e5)
    monkeypatch.setattr(amount, "measure_latency", measure)
    return measure


@pytest.mark.parametrize("share", [0.1, 0.3, 0.6, 0.9])
def test_a_latency_in_between_removes_what_it_takes_and_no_more(steady_clock, share):
    net, example = build(Slow, (1, 8, 32, 32))
    wanted = share * steady_clock(net, example).median
    plan = prune_channels(net, example, latency=wanted, max_ratio=0.95, round_to=1)
    kept = len(plan.layers["first"]["kept"])
    assert net.first.weight.shape[0] == kept < 256
    assert 0.9 * wanted < steady_clock(net, example).median <= wanted


def test_a_latency_is_measured_on_the_smaller_networks_themselves(monkeypatch):
    """By passes on the clock, here as often as it asks; what the clock says is noise."""
    net, example = build(Slow, (1, 8, 32, 32))
    net.hybridize(static_alloc=True, static_shape=True)
    measured = []

    def measure(net, example, **arguments):
        assert gc.measure_latency(net, example, **arguments).median > 0
        measured.append(net.first.weight.shape[0])
        return SimpleNamespace(median=float(measured[-1]))
    monkeypatch.setattr(amount, "measure_latency", measure)
    plan = prune_channels(net, example, latency=0.3 * 256, max_ratio=0.95, round_to=1)
    assert len(set(measured)) > 4 and max(measured) == 256 and min(measured) < 0.3 * 256
    assert net.first.weight.shape[0] == len(plan.layers["first"]["kept"]) <= 0.3 * 256
    assert net(example).shape == (1, 1, 32, 32)


def test_steps_end_where_one_shot_ends_and_their_plans_fit_the_original():
    one_shot, example = resnet()
    whole = prune_channels(one_shot, example, 0.5, round_to=1)
    net, _ = resnet()
    counts = []
    for plan in prune_channels_in_steps(net, example, 0.5, steps=3, schedule=cubic, round_to=1):
        counts.append(sum(len(layout["kept"]) for layout in plan.layers.values()))
        copy, _ = resnet()
        assert identical(values(ChannelPlan.from_dict(plan.to_dict()).apply(copy)), values(net))
    assert counts == sorted(counts, reverse=True) and len(set(counts)) == 3
    assert {name: len(layout["kept"]) for name, layout in plan.layers.items()} == {
        name: len(layout["kept"]) for name, layout in whole.layers.items()}
    total = sum(layout["before"] for layout in plan.layers.values())
    assert counts[0] == pytest.approx(total * (1 - 0.5 * (1 - (2 / 3) ** 3)), rel=0.03)


def grouped(residual=False, transposed=False):
    """A convolution with four groups of four channels that another one makes, and adds its own to if ``residual``."""
    def function(net, F, x):
        y = F.relu(net.first(x))
        return net.output(F.relu(net.grouped(y) + y if residual else net.grouped(y)))
    layer = nn.Conv2DTranspose if transposed else nn.Conv2D
    return build(Net, (2, 4, 8, 8), function=function, first=nn.Conv2D(16, 3, padding=1),
                 grouped=layer(16, 3, padding=1, groups=4, in_channels=16), output=nn.Dense(3))


@pytest.mark.parametrize("residual", [False, True])
@pytest.mark.parametrize("transposed", [False, True])
@pytest.mark.parametrize("arguments", [{"ratio": 0.5}, {"macs": 0.5}])
def test_steps_take_of_a_grouped_convolution_what_one_shot_takes(residual, transposed, arguments):
    one_shot, example = grouped(residual, transposed)
    whole = prune_channels(one_shot, example, **{"round_to": 1, **arguments})
    net, _ = grouped(residual, transposed)
    for plan in prune_channels_in_steps(net, example, steps=5, **{"round_to": 1, **arguments}):
        copy, _ = grouped(residual, transposed)
        zero_removed(copy, plan)
        assert_close(net(example), copy(example))
    assert {name: value.shape for name, value in values(net).items()} == {
        name: value.shape for name, value in values(one_shot).items()}
    assert plan.groups == whole.groups and plan.layers.keys() == whole.layers.keys()


@pytest.mark.parametrize("criterion", ["l2", "taylor"])
def test_steps_go_on_where_a_grouped_convolution_has_lost_all_groups_but_one(criterion):
    def function(net, F, x):
        return net.output(F.relu(net.grouped(F.relu(net.first(x)))))
    net, example = build(Net, (2, 4, 8, 8), function=function, first=nn.Conv2D(8, 3), output=nn.Dense(3),
                         grouped=nn.Conv2DTranspose(24, 3, groups=8, in_channels=8))
    criterion = Taylor([(example, mx.nd.array([0, 1]))]) if criterion == "taylor" else criterion
    counts = [[len(plan.layers[name]["kept"]) for name in ("first", "grouped")] for plan in prune_channels_in_steps(
        net, example, {"first": 0.875}, steps=7, criterion=criterion, round_to=1)]
    assert counts == [[kept, 3 * kept] for kept in range(7, 0, -1)]
    assert net.grouped._kwargs["num_group"] == 1 and net(example).shape == (2, 3)


def test_channels_removed_otherwise_between_two_steps_are_noticed():
    net, example = build(LeNet, (2, 1, 28, 28))
    plans = prune_channels_in_steps(net, example, 0.5, steps=2, round_to=1)
    next(plans)
    prune_channels(net, example, {"conv.2": 0.5}, round_to=1)
    before = values(net)
    with pytest.raises(RecordError, match="channels were removed again since"):
        next(plans)
    assert identical(before, values(net))


def two_convolutions(first, second):
    return build(Net, (2, 4, 8, 8), function=lambda net, F, x: net.output(net.b(F.relu(net.a(x)))),
                 a=nn.Conv2D(first, 3, padding=1), b=nn.Conv2D(second, 3, padding=1), output=nn.Dense(3))


@pytest.mark.parametrize(("sizes", "ratio", "kept"), [
    ((4, 16), {"a": 0.7, "b": 0.5}, (1, 8)), ((4, 4), 0.7, (1, 1)), ((4, 4), {"a": 0.7}, (1, None))])
def test_steps_go_on_when_a_layer_has_one_channel_left(sizes, ratio, kept):
    net, example = two_convolutions(*sizes)
    plans = list(prune_channels_in_steps(net, example, ratio, steps=5, schedule=cubic, round_to=1))
    assert len(plans) == 5
    assert tuple(len(plans[-1].layers[name]["kept"]) if name in plans[-1].layers else None for name in "ab") == kept
    copy, _ = two_convolutions(*sizes)
    assert identical(values(plans[-1].apply(copy)), values(net))


@pytest.mark.parametrize(("arguments", "message"), [
    ({"macs": 0.001}, r"macs is 0.001; accepted: at least 0\.\d+"),
    ({"ratio": 0.9}, "ratio=0.9 would remove all 4 channels of layer a"),
    ({"ratio": {"b": 0.98}}, "ratio=0.98 would remove all 16 channels of layer b"),
    ({"latency": 1e-6}, "latency is 1e-06 ms; that is not reached even when")])
def test_steps_that_cannot_end_do_not_begin(arguments, message):
    net, example = two_convolutions(4, 16)
    before = values(net)
    for steps in (1, 3):
        with pytest.raises(ValueError, match=message):
            next(prune_channels_in_steps(net, example, steps=steps, **{"round_to": 1, **arguments}))
        assert identical(before, values(net))


@pytest.mark.parametrize("arguments", [{"ratio": 0.4, "scope": "global"}, {"macs": 0.5}, {"macs": 0.5, "round_to": 2},
                                       {"ratio": {"features.3.0.body.0": 0.5}}])
def test_steps_of_every_kind(arguments):
    net, example = resnet()
    before = gc.report(net, example).macs
    plans = list(prune_channels_in_steps(net, example, steps=4, **{"round_to": 1, **arguments}))
    copy, _ = resnet()
    assert identical(values(plans[-1].apply(copy)), values(net))
    if "macs" in arguments:
        assert 0.3 * before < gc.report(net, example).macs <= 0.5 * before
    elif isinstance(arguments["ratio"], dict):
        assert [len(plan.layers["features.3.0.body.0"]["kept"]) for plan in plans] == [7, 6, 5, 4]
    else:
        counts = [sum(len(layout["kept"]) for layout in plan.layers.values()) for plan in plans]
        assert counts == sorted(counts, reverse=True)


def test_channels_ranked_anew_after_each_step():
    net, example = build(LeNet, (2, 1, 28, 28))
    ranks = []

    def by_position(weight):
        ranks.append(len(weight))
        return np.arange(len(weight), 0, -1)  # the last go first

    for _ in prune_channels_in_steps(net, example, {"conv.2": 0.4}, steps=2, criterion=by_position, round_to=1):
        pass
    assert ranks.count(50) == 1 and ranks.count(40) == 1


class Overlapping(HybridBlock):
    """``total(x) + concat(left(x), right(x))``: two groups whose first layer is the same."""

    def __init__(self, **kwargs):
        super().__init__(**kwargs)
        with self.name_scope():
            self.total = nn.Conv2D(10, 1)
            self.left, self.right = nn.Conv2D(4, 1), nn.Conv2D(6, 1)
            self.output = nn.Conv2D(2, 1)

    def hybrid_forward(self, F, x):
        total = self.total(x)
        return self.output(F.relu(total + F.concat(self.left(x), self.right(x), dim=1)))


def test_two_groups_with_the_same_first_layer_are_ranked_apart():
    net, example = build(Overlapping, (1, 3, 4, 4))
    weights = values(net)
    left, right = slice(0, 4), slice(4, 10)
    plan = prune_channels(net, example, 0.5, WeightCriterion("l1", over="first"), round_to=1)
    norms = np.abs(weights["total.weight"]).sum(axis=(1, 2, 3))
    for part, offset, name in ((left, 0, "left"), (right, 4, "right")):
        kept = np.sort(norms[part].argsort(kind="stable")[len(norms[part]) // 2:])
        assert plan.layers[name]["kept"] == kept.tolist()
        assert [c for c in plan.layers["total"]["kept"] if part.start <= c < part.stop] == (kept + offset).tolist()


def test_layers_whose_channels_go_together():
    net, example = build(Branches)
    plan = prune_channels(net, example, {"right": 0.5}, round_to=1)  # any of their names will do
    assert list(plan.layers) == ["left", "right"]
    assert plan.layers["left"] == plan.layers["right"]
    net, example = build(Branches)
    plan = prune_channels(net, example, 0.5, exclude=["right"], round_to=1)
    assert plan.left_out["left"] == "its channels go with those of right, which is excluded"
    with pytest.raises(ValueError, match="ratio names 'left', whose channels go together with those of 'right', which"):
        prune_channels(*build(Branches), {"left": 0.5}, exclude=["right"], round_to=1)
    with pytest.raises(ValueError, match="for layers whose channels go together; accepted: one ratio for all"):
        prune_channels(*build(Branches), {"left": 0.5, "right": 0.25}, round_to=1)


@pytest.mark.parametrize(("arguments", "error", "message"), [
    ({}, TypeError, "nothing given; accepted: one of ratio, macs and latency"),
    ({"ratio": 0.5, "macs": 0.5}, TypeError, "ratio and macs given; accepted: one of"),
    ({"macs": 1}, ValueError, "macs is 1; accepted"),
    ({"macs": "half"}, TypeError, "macs is 'half'"),
    ({"latency": -1}, ValueError, "latency is -1"),
    ({"ratio": 0.5, "scope": "net"}, ValueError, "scope is 'net'; accepted: 'layer', 'global'"),
    ({"ratio": 0.5, "max_ratio": 1.5}, ValueError, "max_ratio is 1.5"),
    ({"ratio": 0.5, "max_ratio": 0}, ValueError, "max_ratio is 0; accepted: a finite number more than 0"),
    ({"macs": 0}, ValueError, "macs is 0; accepted: a finite number more than 0"),
    ({"latency": 0}, ValueError, "latency is 0; accepted: a finite number more than 0"),
    ({"ratio": {"left": 0.5}, "scope": "global"}, TypeError, "scope='global'; accepted: select=None and scope="),
    ({"ratio": 0.5, "exclude": [["left"]]}, TypeError, r"exclude names \['left'\]; accepted: the name of a layer"),
    ({"ratio": 0.5, "exclude": 3}, TypeError, "exclude is 3; accepted: the name of a layer, .* or a list of these"),
    ({"ratio": 0.5, "round_to": 0}, ValueError, "round_to is 0"),
    ({"ratio": 0.5, "round_to": 2.5}, TypeError, "round_to is 2.5"),
    ({"ratio": {"left": 2}}, ValueError, "ratio of left is 2"),
    ({"ratio": 0.5, "exclude": ["stem", "left", "side", "head"]}, ValueError, "leave no layer that can lose channels"),
])
@pytest.mark.parametrize("steps", [None, 2])
def test_bad_arguments_change_nothing(arguments, error, message, steps):
    net, example = build(Branches)
    before = values(net)
    with pytest.raises(error, match=message):
        if steps is None:
            prune_channels(net, example, **arguments)
        else:
            next(prune_channels_in_steps(net, example, steps=steps, **arguments))
    assert identical(before, values(net))


@pytest.mark.parametrize(("arguments", "error", "message"), [
    ({"steps": 0}, ValueError, "steps is 0"),
    ({"schedule": "slow"}, TypeError, "schedule is 'slow'"),
    ({"schedule": lambda progress: 2 * progress}, ValueError, "the schedule's value is"),
])
def test_bad_steps_are_refused_before_the_first(arguments, error, message):
    net, example = build(Branches)
    with pytest.raises(error, match=message):
        prune_channels_in_steps(net, example, 0.5, **arguments)


@pytest.mark.parametrize("block", [8, 16])
def test_by_default_wide_layers_keep_whole_blocks_and_narrow_ones_the_ratio(monkeypatch, block):
    monkeypatch.setattr(selection, "channel_block", lambda: block)
    for channels, expected in ((12, {8}), (24, {16}), (40, {24, 32}), (64, {48}), (200, {144, 136})):
        net = nn.HybridSequential()
        net.add(nn.Conv2D(channels, 3, in_channels=2), nn.Conv2D(3, 1, in_channels=channels))
        net.initialize()
        kept = len(prune_channels(net, mx.nd.ones((1, 2, 6, 6)), 0.3).layers["0"]["kept"])
        assert kept in expected and (channels < 64 or kept % block == 0)


@pytest.mark.parametrize("ratio", [0.02, 0.1, 0.5, 0.9])
def test_by_default_no_layer_that_should_lose_something_keeps_all(ratio):
    net = nn.HybridSequential()
    net.add(nn.Conv2D(64, 3, in_channels=2), nn.Conv2D(24, 1, in_channels=64), nn.Dense(3, in_units=24 * 16))
    net.initialize()
    plan = prune_channels(net, mx.nd.ones((1, 2, 6, 6)), ratio)
    for layer in plan.layers.values():
        assert len(layer["kept"]) < layer["before"] or round(ratio * layer["before"]) == 0
    assert "round_to=1 keeps the ratio exactly" in str(plan)


def test_a_latency_that_leaves_little_is_said_with_the_batch_that_it_is_for(steady_clock):
    net, example = build(Slow, (2, 8, 32, 32))
    wanted = 0.04 * steady_clock(net, example).median
    with pytest.warns(UserWarning, match="of 512 channels: it is meant for the whole example, a batch of 2") as warned:
        prune_channels(net, example, latency=wanted)
    assert any(warning.filename == __file__ for warning in warned)
