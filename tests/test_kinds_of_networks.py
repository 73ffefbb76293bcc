"""Structured pruning of the kinds of networks that people have: detectors, faces, segmentation, text, sequences.

Each is small and written as its authors do. The pruned network must be smaller and compute what the original does when
all that was removed is zero there, as a HybridBlock and as a SymbolBlock, and its plan must fit a fresh copy.
"""
import json
import math

import gluon_compress

import mxnet as mx  # noqa: I001
import numpy as np
import pytest
from gluon_compress.network.inputs import flat
from gluon_compress.network.values import parameters
from gluon_compress.errors import RecordError
from gluon_compress.pruning import ChannelPlan, prune_channels, prune_channels_in_steps
from mxnet.gluon import HybridBlock, SymbolBlock, contrib, nn, rnn
from networks import Net, assert_close, exported, number_of_parameters, randomize, zero_removed


def conv(channels, kernel=3, stride=1, norm=True, **arguments):
    layers = nn.HybridSequential()
    layers.add(nn.Conv2D(channels, kernel, stride, kernel // 2, use_bias=not norm, **arguments))
    if norm:
        layers.add(nn.BatchNorm(), nn.Activation("relu"))
    return layers


# Detection, segmentation, faces -------------------------------------------------------------------------------------

def ssd():
    """Two scales; the first one normalized over its channels as in the original; anchors and boxes in the graph."""
    def forward(net, F, x, scale):
        first = net.body(x)
        normalized = F.broadcast_mul(F.L2Normalization(first, mode="channel"), scale)
        classes, boxes, anchors = [], [], []
        for number, features in enumerate((normalized, net.further(first))):
            def rows(x):
                return F.flatten(F.transpose(x, axes=(0, 2, 3, 1)))
            classes.append(rows(getattr(net, f"classes{number}")(features)))
            boxes.append(rows(getattr(net, f"boxes{number}")(features)))
            anchors.append(F.contrib.MultiBoxPrior(features, sizes=(0.2 + 0.3 * number, 0.4), ratios=(1, 2)))
        scores = F.softmax(F.transpose(F.reshape(F.concat(*classes, dim=1), (0, -1, 4)), axes=(0, 2, 1)), axis=1)
        return F.contrib.MultiBoxDetection(scores, F.concat(*boxes, dim=1), F.concat(*anchors, dim=1), threshold=0.1)
    body = nn.HybridSequential()
    body.add(conv(8), nn.MaxPool2D(2), conv(16), nn.MaxPool2D(2))
    return Net(forward, {"scale": (1, 16, 1, 1)}, body=body, further=conv(16, stride=2),
               **{f"{name}{number}": nn.Conv2D(3 * size, 3, padding=1) for number in (0, 1)
                  for name, size in (("classes", 4), ("boxes", 4))})


def face():
    """insightface's LResNet-E-IR with one unit: PReLU, BatchNorm before the convolutions, fix_gamma at the end."""
    def forward(net, F, x):
        x = net.start(F.BlockGrad((F.identity(x) - 127.5) * 0.0078125))
        y = net.unit(x)
        x = F.broadcast_mul(y, net.gate(y)) + net.shortcut(x)
        return net.end(F.Dropout(net.norm(x), p=0.4))
    stem, unit, gate, shortcut, end = (nn.HybridSequential() for _ in range(5))
    stem.add(nn.Conv2D(8, 3, padding=1, use_bias=False), nn.BatchNorm(), nn.PReLU(in_channels=8))
    unit.add(nn.BatchNorm(), nn.Conv2D(12, 3, padding=1, use_bias=False), nn.BatchNorm(), nn.PReLU(in_channels=12),
             nn.Conv2D(16, 3, strides=2, padding=1, use_bias=False), nn.BatchNorm())
    gate.add(nn.GlobalAvgPool2D(), nn.Conv2D(4, 1), nn.PReLU(in_channels=4), nn.Conv2D(16, 1), nn.Activation("sigmoid"))
    shortcut.add(nn.Conv2D(16, 1, strides=2, use_bias=False), nn.BatchNorm())
    end.add(nn.Dense(10), nn.BatchNorm(scale=False))  # fix_gamma=True
    return Net(forward, start=stem, unit=unit, gate=gate, shortcut=shortcut, norm=nn.BatchNorm(), end=end)


def pyramid():
    """FPN: the top-down path is enlarged, cropped to the size of the lateral one, and added."""
    def forward(net, F, x):
        fine = net.fine(x)
        coarse = net.coarse(fine)
        top = net.lateral(coarse)
        down = F.Crop(F.UpSampling(top, scale=2, sample_type="nearest"), fine, num_args=2)
        merged = net.smooth(down + net.beside(fine))
        return net.head(F.contrib.BilinearResize2D(top, merged, mode="like") + merged)
    return Net(forward, fine=conv(8), coarse=conv(16, stride=2), lateral=nn.Conv2D(12, 1), beside=nn.Conv2D(12, 1),
               smooth=conv(12), head=nn.Conv2D(3, 1))


def u_net():
    def forward(net, F, x):
        fine = net.down(x)
        coarse = net.bottom(net.pool(fine))
        up = F.Crop(net.up(coarse), fine, num_args=2, center_crop=True)
        return net.head(net.merge(F.concat(up, fine, dim=1)))
    return Net(forward, down=conv(8), pool=nn.MaxPool2D(2), bottom=conv(16), up=nn.Conv2DTranspose(8, 2, strides=2),
               merge=conv(8), head=nn.Conv2D(2, 1))


def maxout():
    """LightCNN: the larger of two halves of the channels; the head as Module trains it."""
    def forward(net, F, x):
        for layer in (net.first, net.second):
            x = F.Pooling(F.maximum(*F.SliceChannel(layer(x), num_outputs=2, axis=1)), kernel=(2, 2), stride=(2, 2),
                          pool_type="max")
        return F.SoftmaxActivation(net.head(net.hidden(F.Flatten(x))))
    return Net(forward, first=nn.Conv2D(16, 3, padding=1), second=nn.Conv2D(24, 3, padding=1), hidden=nn.Dense(12),
               head=nn.Dense(5))


# Text and sequences -------------------------------------------------------------------------------------------------

class Attention(HybridBlock):
    """Multi-head attention as gluonnlp 0.10 writes it, with a mask."""

    def __init__(self, units, heads, **arguments):
        super().__init__(**arguments)
        self._num_heads = heads
        with self.name_scope():
            for name in ("query", "key", "value", "output"):
                setattr(self, name, nn.Dense(units, flatten=False, in_units=units, prefix=f"{name}_"))

    def _heads(self, F, x):  # (N, T, heads * C) -> (N * heads, T, C)
        x = F.transpose(F.reshape(x, (0, 0, self._num_heads, -1)), axes=(0, 2, 1, 3))
        return F.reshape(x, (-1, 0, 0), reverse=True)

    def hybrid_forward(self, F, x, mask):  # (N, T, C), (N, T, T)
        mask = F.broadcast_axis(F.expand_dims(mask, axis=1), axis=1, size=self._num_heads)
        mask = F.reshape(mask, (-1, 0, 0), reverse=True)
        query = F.contrib.div_sqrt_dim(self._heads(F, self.query(x)))
        scores = F.batch_dot(query, self._heads(F, self.key(x)), transpose_b=True)
        weights = F.softmax(F.where(mask, scores, -1e18 * F.ones_like(scores))) * mask
        x = F.batch_dot(weights, self._heads(F, self.value(x)))
        x = F.transpose(F.reshape(x, (-1, self._num_heads, 0, 0), reverse=True), axes=(0, 2, 1, 3))
        return self.output(F.reshape(x, (0, 0, -1)))


class LengthAttention(HybridBlock):
    """As d2l writes it, with the lengths of the sentences repeated for each head."""

    def __init__(self, units, heads, **arguments):
        super().__init__(**arguments)
        self.num_heads, self.scale = heads, math.sqrt(units // heads)
        with self.name_scope():
            for name in ("W_q", "W_k", "W_v", "W_o"):
                setattr(self, name, nn.Dense(units, flatten=False, use_bias=False, in_units=units))

    def transpose_qkv(self, F, x):
        return F.reshape(F.transpose(F.reshape(x, (0, 0, self.num_heads, -1)), axes=(0, 2, 1, 3)), (-3, 0, 0))

    def hybrid_forward(self, F, x, lengths):
        lengths = F.repeat(lengths, self.num_heads, axis=0)
        scores = F.batch_dot(self.transpose_qkv(F, self.W_q(x)), self.transpose_qkv(F, self.W_k(x)),
                             transpose_b=True) / self.scale
        lengths = F.broadcast_like(F.expand_dims(lengths, 1), scores, lhs_axes=(1,), rhs_axes=(1,))
        weights = F.softmax(scores, F.cast(lengths, "int32"), use_length=True)
        x = F.batch_dot(weights, self.transpose_qkv(F, self.W_v(x)))
        x = F.transpose(F.reshape(x, (-4, -1, self.num_heads, 0, 0)), axes=(0, 2, 1, 3))
        return self.W_o(F.reshape(x, (0, 0, -3)))


class InterleavedAttention(HybridBlock):
    """As gluonnlp's BERT since 0.10: one dense layer for queries, keys and values, MXNet's operators; (T, N, C)."""

    def __init__(self, units, heads, **arguments):
        super().__init__(**arguments)
        self._num_heads = heads
        with self.name_scope():
            self.both, self.output = nn.Dense(3 * units, flatten=False), nn.Dense(units, flatten=False)

    def hybrid_forward(self, F, x, mask):
        both = self.both(F.transpose(x, axes=(1, 0, 2)))
        mask = F.reshape(F.broadcast_axis(F.expand_dims(mask, axis=1), axis=1, size=self._num_heads), (-3, 0, 0))
        scores = F.contrib.interleaved_matmul_selfatt_qk(both, heads=self._num_heads)
        weights = F.softmax(F.where(mask, scores, -1e18 * F.ones_like(scores)))
        x = F.contrib.interleaved_matmul_selfatt_valatt(both, weights, heads=self._num_heads)
        return F.transpose(self.output(x), axes=(1, 0, 2))


class SeparateWeights(HybridBlock):
    """As gluonnlp's BERT: its interleaved weight is put together from those of queries, keys and values."""

    def __init__(self, units, heads, **arguments):
        super().__init__(**arguments)
        self.units, self._num_heads = units, heads
        with self.name_scope():
            for name in ("query", "key", "value"):
                setattr(self, f"{name}_weight", self.params.get(f"{name}_weight", shape=(units, units)))
                setattr(self, f"{name}_bias", self.params.get(f"{name}_bias", shape=(units,), init="zeros"))
            self.output = nn.Dense(units, flatten=False)

    def hybrid_forward(self, F, x, mask, **own):
        def rows_of_heads(name):
            return F.reshape(own[f"{name}_weight"], (self._num_heads, -1, 0), reverse=True)
        weight = F.reshape(F.concat(*map(rows_of_heads, ("query", "key", "value")), dim=-2), (-1, 0), reverse=True)
        bias = F.stack(*(F.reshape(own[f"{name}_bias"], (self._num_heads, -1), reverse=True)
                         for name in ("query", "key", "value")), axis=1).reshape(-1)
        both = F.FullyConnected(F.transpose(x, axes=(1, 0, 2)), weight, bias, num_hidden=self.units * 3, flatten=False)
        weights = F.softmax(F.contrib.interleaved_matmul_selfatt_qk(both, heads=self._num_heads))
        x = F.contrib.interleaved_matmul_selfatt_valatt(both, weights, heads=self._num_heads)
        return F.broadcast_mul(F.transpose(self.output(x), axes=(1, 0, 2)), F.slice_axis(mask, axis=2, begin=0, end=1))


class SlicedAttention(HybridBlock):
    """As in many a GPT: one dense layer, whose output is cut into queries, keys and values by numbers."""

    def __init__(self, units, heads, **arguments):
        super().__init__(**arguments)
        self.heads, self.inner = heads, units
        with self.name_scope():
            self.all = nn.Dense(3 * units, flatten=False)
            self.output = nn.Dense(units, flatten=False)

    def hybrid_forward(self, F, x, mask):
        def part(number):  # (N, T, C) -> (N * heads, T, C / heads)
            x = F.slice_axis(everything, axis=2, begin=number * self.inner, end=(number + 1) * self.inner)
            return F.reshape(F.transpose(F.reshape(x, (0, 0, self.heads, -1)), axes=(0, 2, 1, 3)), (-3, 0, 0))
        everything = self.all(x)
        weights = F.softmax(F.batch_dot(part(0), part(1), transpose_b=True))
        x = F.reshape(F.batch_dot(weights, part(2)), (-4, -1, self.heads, 0, 0))
        x = self.output(F.reshape(F.transpose(x, axes=(0, 2, 1, 3)), (0, 0, -1)))
        return F.broadcast_mul(x, F.slice_axis(mask, axis=2, begin=0, end=1))


class Encoder(HybridBlock):
    """Two layers of a Transformer; what it masks follows from the numbers of the words."""

    def __init__(self, attention, units=16, heads=4, hidden=24):
        super().__init__()
        self.attend_to = "lengths" if attention is LengthAttention else "mask"
        with self.name_scope():
            self.words, self.place = nn.Embedding(20, units), self.params.get("place", shape=(1, 7, units))
            self.layers = nn.HybridSequential()
            for _ in range(2):
                cell = nn.HybridSequential()
                cell.add(attention(units, heads), nn.LayerNorm(), nn.Dense(hidden, flatten=False), nn.GELU(),
                         nn.Dense(units, flatten=False), nn.LayerNorm())
                self.layers.add(cell)
            self.head = nn.Dense(5)

    def hybrid_forward(self, F, words, place):
        known = words < 15
        if self.attend_to == "lengths":
            rule = F.maximum(F.sum(known, axis=1), 1)
        else:
            rule = F.broadcast_add(F.expand_dims(known, 1), F.zeros_like(F.expand_dims(words, 2)))
        x = F.broadcast_add(self.words(words), place)
        for attention, norm, first, activation, second, last in self.layers:
            x = norm(x + attention(x, rule))
            x = last(x + second(activation(first(x))))
        return self.head(F.mean(x, axis=1))


def language_model(tied=False):
    words = nn.Embedding(20, 12)
    head = nn.Dense(20, flatten=False, in_units=12, params=words.params) if tied else nn.Dense(20, flatten=False)
    return Net(lambda net, F, x: net.head(net.layer(net.words(x))), words=words, head=head,
               layer=rnn.LSTM(12, 2, layout="NTC"))


def recurrent(layer):
    return Net(lambda net, F, x: net.head(F.mean(net.layer(net.words(x)), axis=1)), words=nn.Embedding(20, 12),
               layer=layer, head=nn.Dense(5))


def unrolled(cell):
    return Net(lambda net, F, x: net.head(F.concat(*net.layer.unroll(7, net.words(x), layout="NTC")[0])),
               words=nn.Embedding(20, 12), layer=cell, head=nn.Dense(5))


def stacked():
    cells = rnn.HybridSequentialRNNCell()
    for cell in (rnn.BidirectionalCell(rnn.GRUCell(8), rnn.GRUCell(6)), rnn.DropoutCell(0.3), rnn.LSTMCell(10)):
        cells.add(cell)
    return cells


IMAGES, WORDS = (2, 3, 16, 16), (3, 7)
KINDS = {
    "SSD": (ssd, IMAGES, {"classes0", "boxes0", "classes1", "boxes1"}),
    "face": (face, IMAGES, {"end.0"}), "pyramid": (pyramid, IMAGES, {"head"}), "U-Net": (u_net, IMAGES, {"head"}),
    "maxout": (maxout, IMAGES, {"head"}),
    **{kind.__name__: (lambda kind=kind: Encoder(kind), WORDS,
                       {"words", "head", *(f"layers.{layer}.{name}" for layer in (0, 1) for name in (output, "4"))})
       for kind, output in ((Attention, "0.output"), (LengthAttention, "0.W_o"), (InterleavedAttention, "0.output"),
                            (SeparateWeights, "0.output"), (SlicedAttention, "0.output"))},
    "LSTM language model": (language_model, WORDS, {"head"}),
    "tied language model": (lambda: language_model(tied=True), WORDS, set()),
    "two layers of GRU, both directions": (lambda: recurrent(rnn.GRU(8, 2, layout="NTC", bidirectional=True)), WORDS,
                                           {"head"}),
    "LSTM and GRU": (lambda: recurrent(in_a_row(rnn.LSTM(8, layout="NTC"), rnn.GRU(6, layout="NTC"))), WORDS, {"head"}),
    "unrolled LSTM": (lambda: unrolled(rnn.LSTMCell(10)), WORDS, {"head"}),
    "unrolled convolutions": (lambda: Net(lambda net, F, x: net.head(net.layer.unroll(
        2, [x, F.reverse(x, axis=2)])[0][1]),
        layer=contrib.rnn.Conv2DLSTMCell((3, 16, 16), 8, 3, 3, i2h_pad=1), head=nn.Conv2D(2, 1)), IMAGES, {"head"}),
    "unrolled stack": (lambda: unrolled(stacked()), WORDS, {"head"}),
}


def in_a_row(*layers):
    both = nn.HybridSequential()
    both.add(*layers)
    return both


def ready(factory, shape):
    mx.random.seed(0)
    net = factory()
    net.initialize(mx.init.Normal(0.3))
    random = np.random.RandomState(0)
    x = mx.nd.array(random.randint(0, 20, shape) if shape is WORDS else random.randn(*shape))
    net(x)
    randomize(net)
    return net, x


@pytest.mark.parametrize("kind", KINDS)
def test_it_becomes_smaller_and_computes_what_is_left(kind, tmp_path):
    factory, shape, stay = KINDS[kind]
    net, x = ready(factory, shape)
    original, _ = ready(factory, shape)
    before = number_of_parameters(net)
    plan = prune_channels(net, x, 0.5, round_to=1)
    assert set(plan.left_out) == stay
    assert number_of_parameters(net) < 0.75 * before
    zero_removed(original, plan)
    assert_close(net(x), original(x))
    copy, _ = ready(factory, shape)
    ChannelPlan.from_dict(json.loads(json.dumps(plan.to_dict()))).apply(copy)
    copy.hybridize()
    assert_close(copy(x), net(x))
    gluon_compress.save(tmp_path / "small.gcz", net, plan)
    fresh = factory()  # not even initialized
    assert_close(gluon_compress.load(tmp_path / "small.gcz", fresh)(x), net(x))


@pytest.mark.parametrize("kind", KINDS)
def test_so_does_the_same_network_from_a_file(kind, tmp_path):
    factory, shape, stay = KINDS[kind]
    net, x = ready(factory, shape)
    block = exported(net, x, tmp_path)

    def fresh():
        return SymbolBlock.imports(str(tmp_path / "net-symbol.json"), ["data"], str(tmp_path / "net-0000.params"))
    original, copy = fresh(), fresh()
    plan = prune_channels(block, x, 0.5, round_to=1)
    assert len(plan.left_out) == len(stay)
    zero_removed(original, plan)
    assert_close(block(x), original(x))
    gluon_compress.save(tmp_path / "small.gcz", block, plan)
    assert_close(gluon_compress.load(tmp_path / "small.gcz", copy)(x), block(x))


def faster_rcnn():
    """gluoncv's, with a smaller network in front and fewer proposals."""
    from gluoncv.model_zoo.rcnn.faster_rcnn import FasterRCNN
    from gluoncv.model_zoo.resnetv1b import resnet18_v1b
    base = resnet18_v1b(pretrained=False, use_global_stats=True)
    features, top = nn.HybridSequential(), nn.HybridSequential()
    features.add(base.conv1, base.bn1, base.relu, base.maxpool, base.layer1, base.layer2, base.layer3)
    top.add(base.layer4)
    return FasterRCNN(features, top, ["a", "b", "c"], rpn_channel=32, scales=(2, 4), rpn_test_pre_nms=40,
                      rpn_test_post_nms=6, rpn_min_size=1, max_num_gt=5, alloc_size=(16, 16), roi_size=(4, 4))


@pytest.mark.parametrize(("network", "size", "heads"), [
    ("ssd_512_mobilenet1.0_voc", 128, 12), ("yolo3_mobilenet1.0_voc", 64, 3), ("center_net_resnet18_v1b_voc", 64, 3),
    ("simple_pose_resnet18_v1b", 64, 1), ("fcn_resnet50_voc", 64, 2), (faster_rcnn, 64, 4)])
def test_gluoncvs_lose_half_of_all_channels_but_those_of_their_heads(network, size, heads):
    from gluoncv import model_zoo
    mx.random.seed(0)
    net, original = (network() if callable(network) else model_zoo.get_model(
        network, pretrained=False, pretrained_base=False) for _ in range(2))
    x = mx.nd.random.normal(shape=(1, 3, size, size))
    for each in (net, original):
        each.initialize()
        each(x)
    for ours, theirs in zip(parameters(original).values(), parameters(net).values()):
        ours.set_data(theirs.data())
    before = number_of_parameters(net)
    plan = prune_channels(net, x, 0.5, round_to=1)
    assert len(plan.left_out) == heads
    assert number_of_parameters(net) < 0.35 * before
    zero_removed(original, plan)
    assert_close(flat(net(x)), flat(original(x)))


def literal_heads(scaled):
    """Attention whose four heads are written in its code."""
    def forward(net, F, x):
        def heads(x):
            return F.reshape(F.transpose(F.reshape(x, (0, 0, 4, -1)), axes=(0, 2, 1, 3)), (-3, 0, 0))
        x = net.words(x)
        query = heads(net.query(x))
        weights = F.softmax(F.batch_dot(F.contrib.div_sqrt_dim(query) if scaled else query / 2, heads(net.key(x)),
                                        transpose_b=True))
        x = F.reshape(F.batch_dot(weights, heads(net.value(x))), (-4, -1, 4, 0, 0))
        return net.head(F.reshape(F.transpose(x, axes=(0, 2, 1, 3)), (0, 0, -1)))
    return Net(forward, words=nn.Embedding(20, 12), head=nn.Dense(5),
               **{name: nn.Dense(16, flatten=False) for name in ("query", "key", "value")})


@pytest.mark.parametrize("scaled", [False, True])
def test_where_the_number_of_heads_is_fixed_each_head_loses_the_same_channels(scaled):
    """But not those of queries and keys where their number is divided by: it would be another one."""
    net, x = ready(lambda: literal_heads(scaled), WORDS)
    original, _ = ready(lambda: literal_heads(scaled), WORDS)
    plan = prune_channels(net, x, 0.5, round_to=1)
    for name in ("value",) if scaled else ("query", "key", "value"):
        kept = np.array(plan.layers[name]["kept"]).reshape(4, 2)
        np.testing.assert_array_equal(kept - 4 * np.arange(4)[:, None], kept[[0] * 4])
    if scaled:
        assert "divides by the number of channels" in plan.left_out["query"]
    zero_removed(original, plan)
    assert_close(net(x), original(x))


@pytest.mark.parametrize(("kind", "change"), [
    (InterleavedAttention, {"before": 5}), (InterleavedAttention, {"after": 5}), (InterleavedAttention, {"after": 0}),
    (InterleavedAttention, {"block": "layers.7.0"}), (InterleavedAttention, {"attribute": "_heads"}),
    (InterleavedAttention, {"attribute": "_children"}), (InterleavedAttention, {"position": 0}),
    (InterleavedAttention, {"node": "reshape0"}), (InterleavedAttention, {"attribute": 3}),
    (InterleavedAttention, {"after": "2"}), (InterleavedAttention, {"value": 2})])
def test_a_plan_with_damaged_numbers_changes_nothing(kind, change):
    net, x = ready(lambda: Encoder(kind), WORDS)
    record = json.loads(json.dumps(prune_channels(net, x, 0.5, round_to=1).to_dict()))
    record["sizes"][0].update(change)
    copy, _ = ready(lambda: Encoder(kind), WORDS)
    before = copy(x)
    with pytest.raises(RecordError):
        ChannelPlan.from_dict(record).apply(copy)
    assert [cell[0]._num_heads for cell in copy.layers] == [4, 4]
    assert_close(copy(x), before)


@pytest.mark.parametrize("kind", ["Attention", "LSTM language model"])
def test_several_steps_leave_what_one_plan_of_all_of_them_leaves(kind):
    factory, shape, _ = KINDS[kind]
    net, x = ready(factory, shape)
    steps = list(prune_channels_in_steps(net, x, 0.5, steps=2, round_to=1))
    copy, _ = ready(factory, shape)
    original, _ = ready(factory, shape)
    steps[-1].apply(copy)
    zero_removed(original, steps[-1])
    assert_close(copy(x), net(x))
    assert_close(net(x), original(x))
    assert integers(copy) == integers(net)


@pytest.mark.parametrize("kind", ["Attention", "InterleavedAttention", "tied language model", "unrolled LSTM"])
def test_a_failure_gives_heads_and_hidden_units_back(kind, monkeypatch):
    factory, shape, _ = KINDS[kind]
    net, x = ready(factory, shape)
    before, numbers = net(x), integers(net)
    clear = mx.gluon.HybridBlock._clear_cached_op

    def fail(block):
        monkeypatch.setattr(mx.gluon.HybridBlock, "_clear_cached_op", clear)
        raise MemoryError
    monkeypatch.setattr(mx.gluon.HybridBlock, "_clear_cached_op", fail)
    with pytest.raises(MemoryError):
        prune_channels(net, x, 0.5, round_to=1)
    assert integers(net) == numbers
    assert_close(net(x), before)
    prune_channels(net, x, latency=1e6)  # measured with channels removed, and put back
    assert integers(net) == numbers
    assert_close(net(x), before)


def integers(net):
    """The integers in the attributes of all blocks."""
    found = []
    net.apply(lambda block: found.append({name: value for name, value in vars(block).items() if type(value) is int}))
    return found


@pytest.mark.parametrize("kind", ["LSTM language model", "two layers of GRU, both directions", "SeparateWeights"])
def test_a_share_of_the_multiply_accumulates_is_kept_as_the_report_counts_them(kind):
    factory, shape, _ = KINDS[kind]
    net, x = ready(factory, shape)
    before = gluon_compress.report(net, x).macs
    prune_channels(net, x, macs=0.7, round_to=1)
    assert 0.55 * before < gluon_compress.report(net, x).macs <= 0.7 * before


def test_the_multiply_accumulates_of_a_recurrent_layer_by_hand():
    """Two layers of 10 units, both directions, four gates each, 7 steps of 12 numbers."""
    net = rnn.LSTM(10, 2, layout="NTC", bidirectional=True, input_size=12)
    net.initialize()
    assert gluon_compress.report(net, mx.nd.ones((3, 7, 12))).macs == 7 * 2 * 40 * ((12 + 10) + (20 + 10))
