"""What goes together in structured pruning: networks put together at random, shared parameters, odd uses, failures."""
import json

import gluon_compress  # noqa: F401

import mxnet as mx  # noqa: I001
import numpy as np
import pytest
from gluon_compress.measuring.costs import layer_costs
from gluon_compress.network import resizing as rewrite
from gluon_compress.network.nodes import nodes_of
from gluon_compress.pruning import BatchNormScale, ChannelPlan, WeightCriterion, prune_channels
from gluon_compress.pruning.criteria import FORMULAS, NAMED
from hypothesis import given, settings
from hypothesis import strategies as st
from mxnet import autograd
from mxnet.gluon import HybridBlock, Parameter, SymbolBlock, Trainer, nn
from networks import Net, assert_close, exported, identical, randomize, values, zero_removed


def ready(net, *shapes, seed=0):
    """(net, inputs): random parameters and inputs."""
    mx.random.seed(seed)
    net.initialize(mx.init.Normal(0.3))
    inputs = tuple(mx.nd.random.normal(shape=shape) for shape in shapes)
    net(*inputs)
    randomize(net)
    return net, inputs


def agrees(make, *shapes, ratio=0.5, batches=(1, 2, 8), **arguments):
    """The plan, when the pruned network computes what the original does with zeros, for batches of other sizes too."""
    net, inputs = ready(make(), *shapes)
    original, _ = ready(make(), *shapes)
    plan = prune_channels(net, inputs, ratio, **{"round_to": 1, **arguments})
    zero_removed(original, plan)
    for size in batches:
        batch = tuple(mx.nd.random.normal(shape=(size, *shape[1:])) for shape in shapes)
        assert_close(net(*batch), original(*batch))
    return plan


# Networks put together at random ----------------------------------------------------------------------------------

class Random(HybridBlock):
    """A convolution, the blocks of the names given, a dense layer."""

    def __init__(self, names, size):
        super().__init__()
        channels = size
        with self.name_scope():
            self.names = names
            self.layers = nn.HybridSequential()
            self.counts = []
            self.add(nn.Conv2D(channels, 3, padding=1), nn.BatchNorm(), nn.Activation("relu"))
            for name in names:
                channels = getattr(self, f"add_{name}")(channels)
            self.head = nn.Dense(3)

    def add(self, *layers):
        self.layers.add(*layers)
        self.counts.append(len(layers))

    def hybrid_forward(self, F, x):
        blocks, layers = [], list(self.layers)
        for count in self.counts:
            blocks.append(layers[:count])
            layers = layers[count:]
        for layer in blocks[0]:
            x = layer(x)
        for name, block in zip(self.names, blocks[1:]):
            x = getattr(self, f"run_{name}")(F, x, *block)
        return self.head(x)

    def add_chain(self, channels):
        self.add(nn.Conv2D(6, 3, padding=1, use_bias=False), nn.BatchNorm())
        return 6

    def run_chain(self, F, x, conv, norm):
        return F.relu(norm(conv(x)))

    def add_residual(self, channels):
        self.add(nn.Conv2D(4, 1), nn.BatchNorm(), nn.Conv2D(channels, 3, padding=1))
        return channels

    def run_residual(self, F, x, first, norm, second):
        return x + second(F.relu(norm(first(x))))

    def add_concat(self, channels):
        self.add(nn.BatchNorm(), nn.Conv2D(4, 3, padding=1))
        return channels + 4

    def run_concat(self, F, x, norm, conv):
        return F.concat(x, conv(F.relu(norm(x))), dim=1)

    def add_split(self, channels):
        self.add(nn.Conv2D(8, 1), nn.Conv2D(4, 3, padding=1))
        return 4

    def run_split(self, F, x, wide, conv):
        first, second = F.split(wide(x), 2, axis=1)
        return conv(first) * F.sigmoid(second)

    def add_excite(self, channels):
        self.add(nn.GlobalAvgPool2D(), nn.Conv2D(3, 1, activation="relu"), nn.Conv2D(channels, 1))
        return channels

    def run_excite(self, F, x, pool, squeeze, excite):
        return F.broadcast_mul(x, F.sigmoid(excite(squeeze(pool(x)))))

    def add_grouped(self, channels):
        self.add(nn.Conv2D(8, 1), nn.Conv2D(12, 3, padding=1, groups=4), nn.BatchNorm())
        return 12

    def run_grouped(self, F, x, first, second, norm):
        return norm(second(F.relu(first(x))))

    def add_depthwise(self, channels):
        self.add(nn.Conv2D(channels, 3, padding=1, groups=channels, use_bias=False), nn.BatchNorm(), nn.Conv2D(6, 1))
        return 6

    def run_depthwise(self, F, x, depthwise, norm, pointwise):
        return pointwise(F.relu(norm(depthwise(x))))

    def add_shuffle(self, channels):
        self.add(nn.Conv2D(8, 1), nn.Conv2D(8, 3, padding=1, groups=2))
        return 8

    def run_shuffle(self, F, x, first, second):
        x = F.reshape(first(x), (0, -4, 2, -1, -2))
        return second(F.reshape(F.swapaxes(x, 1, 2), (0, -3, -2)))

    def add_transposed(self, channels):
        self.add(nn.Conv2DTranspose(6, 3, padding=1), nn.PReLU(in_channels=6))
        return 6

    def run_transposed(self, F, x, conv, prelu):
        return prelu(conv(x))


BLOCKS = sorted(name.removeprefix("add_") for name in vars(Random) if name.startswith("add_"))
IMAGE = (2, 3, 4, 4)


@settings(max_examples=30)
@given(names=st.lists(st.sampled_from(BLOCKS), min_size=1, max_size=4), size=st.sampled_from([4, 6, 8]),
       ratio=st.floats(0, 0.7), criterion=st.sampled_from([*NAMED.values(), BatchNormScale("first"), *(
           WeightCriterion(name, "first") for name in FORMULAS)]),
       scope=st.sampled_from(["layer", "global"]), round_to=st.sampled_from([1, 2, 4]))
def test_random_networks(names, size, ratio, criterion, scope, round_to):
    net, (example,) = ready(Random(names, size), IMAGE)
    original, _ = ready(Random(names, size), IMAGE)
    copy, _ = ready(Random(names, size), IMAGE)
    plan = prune_channels(net, example, ratio, criterion, scope=scope, round_to=round_to)
    assert plan.left_out["head"] == "its channels are the network's output"
    assert identical(values(ChannelPlan.from_dict(json.loads(json.dumps(plan.to_dict()))).apply(copy)), values(net))
    zero_removed(original, plan)
    assert_close(net(example), original(example))


@settings(max_examples=15)
@given(names=st.lists(st.sampled_from(BLOCKS), min_size=1, max_size=4), macs=st.floats(0.4, 0.9))
def test_macs_of_random_networks(names, macs):
    """Those that the plan promises are those that the smaller network has."""
    def count(net):
        return sum(row.macs for row in layer_costs(net, example)[0])
    net, (example,) = ready(Random(names, 8), IMAGE)
    before = count(net)
    prune_channels(net, example, macs=macs, round_to=1)
    assert 0 < count(net) <= macs * before


# Parameters that are used twice -----------------------------------------------------------------------------------

def conv(channels, kernel=3, **arguments):
    return nn.Conv2D(channels, kernel, padding=kernel // 2, **arguments)


class Tied(HybridBlock):
    """The output layer of a language model has the embedding's weight; its outputs are read by another layer."""

    def __init__(self):
        super().__init__()
        with self.name_scope():
            self.embed = nn.Embedding(11, 8)
            self.hidden = nn.Dense(8, flatten=False)
            self.words = nn.Dense(11, flatten=False, in_units=8, use_bias=False, params=self.embed.params)
            self.head = nn.Dense(4)

    def hybrid_forward(self, F, x):
        return self.head(F.relu(self.words(F.relu(self.hidden(self.embed(F.abs(x) * 3))))))


def test_tied_embeddings_keep_their_words():
    plan = agrees(Tied, (2, 7))
    assert {name: len(layer["kept"]) for name, layer in plan.layers.items()} == {"embed": 4, "hidden": 4}
    assert all(cut["axis"] == 1 for cut in plan.slices if cut["parameter"] == "embed.weight")


SHARED_WITH_THE_INPUT = {
    "batch norm": (lambda: Net(lambda n, F, x: n.head(n.last(F.concat(n.shared(n.first(x)), n.shared(x), dim=1))),
                               first=conv(3), shared=nn.BatchNorm(), last=conv(4), head=nn.Dense(3)), "first"),
    "convolution": (lambda: Net(lambda n, F, x: n.head(n.last(n.shared(n.first(x)) + n.shared(x))), first=conv(3),
                                shared=conv(6), last=conv(4), head=nn.Dense(3)), "first"),
    "prelu": (lambda: Net(lambda n, F, x: n.head(n.last(F.concat(n.shared(n.first(x)), n.shared(x), dim=1))),
                          first=conv(3), shared=nn.PReLU(in_channels=3), last=conv(4), head=nn.Dense(3)), "first"),
    "own weight": (lambda: Net(lambda n, F, x, w: F.broadcast_mul(n.head(n.last(F.broadcast_mul(n.first(x), w))), F.sum(
        w, axis=(2, 3)).slice_axis(axis=1, begin=0, end=1)), {"w": (1, 6, 1, 1)}, first=conv(6), last=conv(4),
        head=nn.Dense(3)), "first"),
}


@pytest.mark.parametrize("name", SHARED_WITH_THE_INPUT)
def test_what_another_reader_needs_stays(name):
    make, layer = SHARED_WITH_THE_INPUT[name]
    plan = agrees(make, IMAGE)
    assert "last" in plan.layers
    assert layer not in plan.layers
    assert "is also read by" in plan.left_out[layer]


class OwnUnits(nn.Dense):
    """Sets its number of channels itself."""

    def hybrid_forward(self, F, x, weight, bias=None):
        return F.FullyConnected(x, weight, bias, num_hidden=8)


class Borrowed(HybridBlock):
    """Calls an operator with the weight of a child."""

    def __init__(self):
        super().__init__()
        with self.name_scope():
            self.first, self.head = conv(6, 1, in_channels=3, use_bias=False), nn.Dense(3)
            self.last = conv(4)
        self.weight = self.first.weight

    def hybrid_forward(self, F, x, weight):
        return self.head(self.last(F.Convolution(x, weight, kernel=(1, 1), num_filter=6, no_bias=True)))


@pytest.mark.parametrize(("make", "name"), [
    (lambda: Net(lambda n, F, x: n.head(n.own(n.last(x))), last=conv(4), own=OwnUnits(8), head=nn.Dense(3)), "own"),
    (Borrowed, "weight")])
def test_sizes_that_a_hybrid_forward_sets_stay(make, name):
    plan = agrees(make, IMAGE)
    assert list(plan.layers) == ["last"]
    assert "hybrid_forward" in plan.left_out[name]


class Scaled(HybridBlock):
    """Multiplied with a Constant."""

    def __init__(self):
        super().__init__()
        with self.name_scope():
            self.first, self.last, self.head = conv(8), conv(6), nn.Dense(3)
            self.scale = self.params.get_constant("scale", np.linspace(0.5, 1, 8).reshape((1, 8, 1, 1)))

    def hybrid_forward(self, F, x, scale):
        return self.head(F.relu(self.last(F.broadcast_mul(self.first(x), scale))))


def test_constants_stay(tmp_path):
    plan = agrees(Scaled, IMAGE)
    assert list(plan.layers) == ["last"]
    net, (example,) = ready(Scaled(), IMAGE)
    block, original = exported(net, example, tmp_path), exported(net, example, tmp_path)
    plan = prune_channels(block, example, 0.5, round_to=1)  # where it is a parameter as any other
    assert len(plan.layers) == 2
    zero_removed(original, plan)
    assert_close(block(example), original(example))


# Batches, outputs, inputs -----------------------------------------------------------------------------------------

RESHAPED = {
    "to rows": lambda n, F, x: F.reshape(x, (0, -1)),
    "rows to columns": lambda n, F, x: F.reshape(F.reshape(x, (-1, 16)) * 2, (-1, 8, 4, 4)),
    "channels to the batch": lambda n, F, x: F.reshape(F.reshape(x, (-3, -1)) * 2, (-4, -1, 8, 16)),
    "groups to the batch": lambda n, F, x: F.reshape(F.softmax(F.reshape(x, (-1, 4, 4, 4))), (-1, 8, 4, 4)),
    "the batch behind": lambda n, F, x: F.transpose(F.transpose(x, axes=(1, 2, 3, 0)) * 2, axes=(3, 0, 1, 2)),
    "stacked": lambda n, F, x: F.mean(F.stack(x, x * 2, axis=0), axis=0),
    "concatenated": lambda n, F, x: F.slice_axis(F.concat(x, x * 2, dim=0), axis=0, begin=0, end=1),
    "squares": lambda n, F, x: F.transpose(n.square(x), axes=(0, 2, 1, 3)),
    "squares added": lambda n, F, x: n.square(x) + F.transpose(n.square(x), axes=(0, 2, 3, 1)),
    "squares joined": lambda n, F, x: F.concat(n.square(x), F.transpose(n.square(x), axes=(0, 2, 1, 3)), dim=3),
    "squares multiplied": lambda n, F, x: F.batch_dot(F.reshape(n.square(x), (-3, -2)), F.reshape(
        n.square(x), (-3, -2))).reshape((-4, -1, 4, -2)),
    "squares like": lambda n, F, x: F.slice_like(n.square(x), F.transpose(n.square(x), axes=(0, 2, 3, 1))),
}


@pytest.mark.parametrize("batch", [1, 4, 8])
@pytest.mark.parametrize("name", RESHAPED)
def test_the_size_of_the_batch_does_not_matter(name, batch):
    """Neither does that of the example, even when it is a number of channels, nor as many channels as rows."""
    plan = agrees(lambda: Net(lambda n, F, x: n.head(RESHAPED[name](n, F, F.relu(n.first(n.stem(x))))), stem=conv(4),
                              first=conv(8), head=nn.Dense(3), **({"square": conv(4)} if "squares" in name else {})),
                  (batch, 3, 4, 4), batches=(1, 4, 8))
    assert "stem" in plan.layers


def test_inputs_that_nothing_reads():
    plan = agrees(lambda: Net(lambda n, F, x, unused: n.head(n.first(x)), first=conv(4), head=nn.Dense(3)), IMAGE, (2,
        5))
    assert list(plan.layers) == ["first"]


def test_parameters_and_inputs_as_outputs():
    plan = agrees(lambda: Net(lambda n, F, x, w: (n.head(n.last(F.broadcast_mul(n.first(x), w))), w, x),
                              {"w": (1, 4, 1, 1)}, first=conv(4), last=conv(6), head=nn.Dense(3)), IMAGE)
    assert plan.left_out["first"] == "it is an output of the network"
    assert list(plan.layers) == ["last"]


@pytest.mark.parametrize("function", [lambda n, F, x: F.relu(x), lambda n, F, x: n.head(x), lambda n, F, x: x])
def test_networks_without_a_layer_that_can_lose_channels(function):
    net, inputs = ready(Net(function, head=nn.Dense(3, in_units=48)), IMAGE)
    before = values(net)
    with pytest.raises(ValueError, match="no layer of this network can lose channels"):
        prune_channels(net, inputs, 0.5, round_to=1)
    assert identical(before, values(net))


# Devices, types, blocks in blocks ---------------------------------------------------------------------------------

def plain():
    return Net(lambda n, F, x: n.head(F.relu(n.norm(n.last(F.relu(n.first(x)))))), first=conv(8), last=conv(6,
        groups=2),
               norm=nn.BatchNorm(), head=nn.Dense(3))


@pytest.mark.parametrize("dtype", ["float16", "float64"])
def test_types_stay(dtype):
    net, inputs = ready(plain(), IMAGE)
    net.cast(dtype)
    before = values(net)
    plan = prune_channels(net, inputs, 0.5, round_to=1)
    assert plan.layers.keys() == {"first", "last"}
    for name, value in values(net).items():
        assert value.dtype == before[name].dtype
    for cut in (cut for cut in plan.slices if cut["parameter"] == "last.bias"):
        np.testing.assert_array_equal(values(net)["last.bias"], before["last.bias"][cut["kept"]])


def test_frozen_parameters_stay_frozen():
    net, inputs = ready(plain(), IMAGE)
    net.collect_params().setattr("grad_req", "null")
    net.first.weight.grad_req = "add"
    prune_channels(net, inputs, 0.5, round_to=1)
    assert net.last.weight.grad_req == "null"
    assert net.first.weight.grad().shape == (4, 3, 3, 3)


def test_sparse_gradients():
    net, inputs = ready(Net(lambda n, F, x: n.head(n.embed(F.abs(x) * 3)), head=nn.Dense(3),
                            embed=nn.Embedding(11, 8, sparse_grad=True)), (2, 7))
    prune_channels(net, inputs, 0.5, round_to=1)
    trainer = Trainer(net.collect_params(), "sgd")
    with autograd.record():
        loss = net(*inputs).sum()
    loss.backward()
    trainer.step(1)
    assert net.embed.weight.grad().stype == "row_sparse"
    assert net.embed.weight.grad().shape == (11, 4)


def test_a_symbol_block_in_a_network(tmp_path):
    inner, inputs = ready(plain(), IMAGE)
    nets = []
    for block in (exported(inner, *inputs, tmp_path), exported(inner, *inputs, tmp_path)):
        net = Net(lambda n, F, x: n.head(F.relu(n.inner(n.first(x)))), first=conv(3), inner=block, head=nn.Dense(3))
        mx.random.seed(1)
        net.first.initialize(mx.init.Normal(0.3))
        net.head.initialize(mx.init.Normal(0.3))
        net(*inputs)
        nets.append(net)
    net, original = nets
    net.hybridize()
    net(*inputs)
    plan = prune_channels(net, inputs, 0.5, round_to=1)
    assert len(plan.layers) == 4
    zero_removed(original, plan)
    assert_close(net(*inputs), original(*inputs))
    assert_close(exported(net, *inputs, tmp_path)(*inputs), original(*inputs))


def test_casts_of_mixed_precision_stay():
    data, weight = mx.sym.var("data"), mx.sym.var("conv_weight")
    x = mx.sym.Convolution(mx.sym.amp_cast(data, dtype="float32"), mx.sym.amp_cast(weight, dtype="float32"),
        name="conv",
                           kernel=(3, 3), num_filter=8, no_bias=True)
    net = SymbolBlock(mx.sym.FullyConnected(mx.sym.amp_cast(x, dtype="float32"), num_hidden=3, name="dense"), [data])
    net, inputs = ready(net, IMAGE)
    plan = prune_channels(net, inputs, 0.5, round_to=1)
    assert list(plan.layers) == ["conv"]
    assert net(*inputs).shape == (2, 3)
    operators = [node.operator for node in nodes_of(net._cached_graph[1], amp_casts=True)[0]]
    assert operators.count("amp_cast") == 3


# Failures half-way ------------------------------------------------------------------------------------------------

def sizes(net):
    """What the layers know of their sizes besides their parameters."""
    found = []
    net.apply(lambda block: found.append({name: dict(value) if name == "_kwargs" else value
                                          for name, value in vars(block).items() if name in rewrite.SIZES
                                          and name != "_cached_graph"}))
    return found


@pytest.mark.parametrize("hybridized", [False, True])
@pytest.mark.parametrize(("owner", "name", "call"), [
    *((Parameter, "_init_impl", call) for call in (1, 2, 5, 8)), *((HybridBlock, "_clear_cached_op",
        call) for call in (1, 4))])
def test_a_failure_half_way_changes_nothing(owner, name, call, hybridized, monkeypatch):
    net, inputs = ready(plain(), IMAGE)
    if hybridized:
        net.hybridize(static_alloc=True)
    expected = net(*inputs).asnumpy()
    before, drawing, known = values(net), repr(net), sizes(net)
    arrays = [id(parameter.data()) for parameter in net.collect_params().values()]
    work, calls = getattr(owner, name), []

    def fail(*arguments):
        calls.append(arguments)
        if len(calls) == call:
            raise MemoryError("no memory")
        return work(*arguments)
    with monkeypatch.context() as patch:
        patch.setattr(owner, name, fail)
        with pytest.raises(MemoryError):
            prune_channels(net, inputs, 0.5, round_to=1)
    mx.nd.waitall()
    assert identical(before, values(net))
    assert (repr(net), sizes(net)) == (drawing, known)
    assert [id(parameter.data()) for parameter in net.collect_params().values()] == arrays
    np.testing.assert_array_equal(net(*inputs).asnumpy(), expected)
    prune_channels(net, inputs, 0.5, round_to=1)  # which still works
    assert net(*inputs).shape == expected.shape
