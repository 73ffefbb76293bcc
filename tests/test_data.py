"""What data may be: every function that is given batches takes the same kinds, and gives the same for each."""
import threading

import gluon_compress as gc
import mxnet as mx
import numpy as np
import pytest
from gluon_compress.distillation import cache_logits, distill
from gluon_compress.pruning import Taylor, prune_channels, reestimate_batch_norm
from gluon_compress.pruning import measure_sensitivity as sensitivity
from gluon_compress.quantization import prepare_qat, quantize
from gluon_compress.training import evaluate, fit
from mxnet.gluon import HybridBlock, nn, rnn
from mxnet.gluon.data import ArrayDataset, DataLoader
from networks import identical, values

GENERATOR = np.random.default_rng(3)
IMAGES = GENERATOR.standard_normal((12, 3, 6, 6)).astype(np.float32)
LABELS = (IMAGES.mean(axis=(1, 2, 3)) > 0).astype(np.float32)
PARTS = [slice(0, 4), slice(4, 8), slice(8, 12)]


class Images(HybridBlock):
    """Of one input, or of two that are halves of its channels."""

    def __init__(self):
        super().__init__()
        with self.name_scope():
            self.first = nn.Conv2D(8, 3, in_channels=3)
            self.norm = nn.BatchNorm(in_channels=8)
            self.head = nn.Dense(2, in_units=8 * 16)

    def hybrid_forward(self, F, x):
        return self.head(F.relu(self.norm(self.first(x))))


class TwoInputs(Images):
    def hybrid_forward(self, F, x, y):
        return super().hybrid_forward(F, F.concat(x, y, dim=1))


def build(kind):
    mx.random.seed(1)
    np.random.seed(1)
    net = kind()
    net.initialize(mx.init.Xavier())
    return net


def one_input():
    """Each kind of data with the same batches."""
    arrays = [(mx.nd.array(IMAGES[part]), mx.nd.array(LABELS[part])) for part in PARTS]
    return {"NDArrays": arrays, "lists": [list(pair) for pair in arrays],
            "NumPy": [(IMAGES[part], LABELS[part]) for part in PARTS],
            "float64": [(IMAGES[part].astype(np.float64), LABELS[part].tolist()) for part in PARTS],
            "a tuple of one": [((x,), y) for x, y in arrays], "dicts": [{"data": x, "label": y} for x, y in arrays],
            "DataLoader": DataLoader(ArrayDataset(IMAGES, LABELS), batch_size=4),
            "NDArrayIter": mx.io.NDArrayIter(IMAGES, LABELS, batch_size=4),
            "DataBatch": [mx.io.DataBatch([x], [y]) for x, y in arrays]}


def two_inputs():
    pairs = [(mx.nd.array(IMAGES[part, :1]), mx.nd.array(IMAGES[part, 1:]), mx.nd.array(LABELS[part]))
             for part in PARTS]
    return {"flat": pairs, "nested": [((x, y), label) for x, y, label in pairs],
            "NumPy": [([x.asnumpy(), y.asnumpy()], label.asnumpy()) for x, y, label in pairs],
            "dicts": [{"data0": x, "data1": y, "label": label} for x, y, label in pairs],
            "DataLoader": DataLoader(ArrayDataset(IMAGES[:, :1], IMAGES[:, 1:], LABELS), batch_size=4),
            "NDArrayIter": mx.io.NDArrayIter({"a": IMAGES[:, :1], "b": IMAGES[:, 1:]}, LABELS, batch_size=4),
            "DataBatch": [mx.io.DataBatch([x, y], [label]) for x, y, label in pairs]}


def trained(net, data):
    history = fit(net, data, 2, validation_data=data, progress=False)
    return [*values(net).values(), np.array([epoch["loss"] for epoch in history.epochs])]


def distilled(net, data):
    distill(net, build(type(net)), data, 2, progress=False)
    return list(values(net).values())


def calibrated(net, data):
    int8 = quantize(net, data, simulate=True, progress=False)
    return [np.array(layer["input"][0]) for layer in int8.record.layers.values()]


def prepared(net, data):
    return [value for value in prepare_qat(net, data, progress=False).collect_params().values()
            for value in [value.data().asnumpy()]]


def reestimated(net, data):
    reestimate_batch_norm(net, data)
    return list(values(net).values())


def pruned(net, data):
    example = tuple(mx.nd.ones((2, channels, 6, 6)) for channels in ([3] if type(net) is Images else [1, 2]))
    plan = prune_channels(net, example, 0.5, Taylor(data), round_to=1)
    return [np.array(layer["kept"]) for layer in plan.layers.values()]


USES = {"fit": trained, "evaluate": lambda net, data: [np.array(evaluate(net, data))], "distill": distilled,
        "quantize": calibrated, "prepare_qat": prepared, "reestimate_batch_norm": reestimated, "prune_channels": pruned}


@pytest.mark.parametrize("inputs", [one_input, two_inputs])
@pytest.mark.parametrize("use", USES)
def test_every_function_takes_every_kind_of_data_and_does_the_same_with_it(use, inputs):
    kind = Images if inputs is one_input else TwoInputs
    results = {name: USES[use](build(kind), data) for name, data in inputs().items()}
    first, *others = results
    for name in others:
        assert len(results[name]) == len(results[first]), name
        for here, there in zip(results[name], results[first]):
            np.testing.assert_array_equal(here, there, name)


@pytest.mark.parametrize("inputs", [one_input, two_inputs])
def test_logits_are_kept_of_every_kind_of_data(inputs, tmp_path):
    teacher = build(Images if inputs is one_input else TwoInputs)
    for name, data in inputs().items():
        found = [logits.asnumpy() for *_, logits in cache_logits(teacher, data, tmp_path / name, progress=False)]
        halves = [IMAGES] if inputs is one_input else [IMAGES[:, :1], IMAGES[:, 1:]]
        np.testing.assert_allclose(np.concatenate(found), teacher(*map(mx.nd.array, halves)).asnumpy(), rtol=1e-5)


@pytest.mark.parametrize("example", [IMAGES, (IMAGES,), [mx.nd.array(IMAGES)], mx.io.DataBatch([mx.nd.array(IMAGES)])])
def test_an_example_is_what_a_batch_without_label_is(example):
    for call in (lambda net: prune_channels(net, example, 0.5, round_to=1).layers["first"]["kept"],
                 lambda net: gc.report(net, example).to_dict(),
                 lambda net: gc.measure_latency(net, example, repeats=1).batch,
                 lambda net: sensitivity(net, lambda net: 1.0, example, "channels", [0.5], progress=False).to_dict()):
        assert call(build(Images)) == call(build(Images)) and call(build(Images))


def test_what_fills_up_the_last_batch_of_an_iterator_does_not_count():
    net = build(Images)
    iterator = mx.io.NDArrayIter(IMAGES[:10], LABELS[:10], batch_size=4)  # fills up with the first two
    assert evaluate(net, iterator) == evaluate(net, [(IMAGES[:10], LABELS[:10])])


class Recurrent(HybridBlock):
    """Its second input is a list of states."""

    def __init__(self):
        super().__init__()
        with self.name_scope():
            self.cell = rnn.LSTMCell(5, input_size=4)
            self.head = nn.Dense(2, in_units=5)

    def hybrid_forward(self, F, x, states):
        return self.head(self.cell(x, states)[0])


def test_inputs_may_be_lists_of_states():
    net = build(Recurrent)
    x, states = mx.nd.random.normal(shape=(4, 4)), [mx.nd.ones((4, 5)), mx.nd.zeros((4, 5))]
    labels = mx.nd.array([0, 1, 0, 1])
    expected = net(x, states).asnumpy()
    assert evaluate(net, [((x, states), labels)]) == (expected.argmax(axis=1) == labels.asnumpy()).mean()
    assert evaluate(net, [(x, states, labels)]) == evaluate(net, [((x, states), labels)])
    before = values(net)
    fit(net, [((x, states), labels)], 1, progress=False)
    assert not identical(before, values(net))
    teacher = build(Recurrent)
    distill(net, teacher, [((x, states), labels)], 1, progress=False)
    assert sum(layer.macs for layer in gc.report(net, (x, states)).layers) == 5 * 4 * (4 + 5) + 2 * 5
    assert gc.measure_latency(net, (x, states), repeats=1).batch == 4


class Masked(HybridBlock):
    """Two inputs and an optional third."""

    def __init__(self):
        super().__init__()
        with self.name_scope():
            self.dense = nn.Dense(6, in_units=4)

    def hybrid_forward(self, F, x, y, mask=None):
        both = self.dense(x + y)
        return both if mask is None else F.broadcast_mul(both, mask)


def test_optional_inputs_are_not_dropped_in_silence():
    net = build(Masked)
    x, y, mask, labels = mx.nd.ones((3, 4)), mx.nd.ones((3, 4)), mx.nd.array([[0], [1], [2]]), mx.nd.zeros(3)
    with pytest.raises(ValueError, match="optional mask: the last may be an input or a label"):
        quantize(net, [(x, y, mask)], progress=False)
    expected = net(x, y, mask).asnumpy()
    for batch in (((x, y, mask), labels), ((x, y, mask),), (x, y, mask, labels)):
        found = quantize(net, [batch], simulate=True, progress=False)(x, y, mask).asnumpy()
        np.testing.assert_allclose(found, expected, atol=0.02 * np.abs(expected).max())
    assert evaluate(net, [(x, y, mask, labels)]) == (expected.argmax(axis=1) == 0).mean()


def test_threads_train_on_one_array():
    """Recording writes into the arrays that it sees."""
    images, labels = mx.nd.array(IMAGES), mx.nd.array(LABELS)
    nets, errors = [build(Images) for _ in range(4)], []

    def train(net):
        try:
            fit(net, [(images, labels)] * 25, 2, progress=False)
        except Exception as error:  # shown by the assertion
            errors.append(error)
    threads = [threading.Thread(target=train, args=(net,)) for net in nets]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert errors == []
    alone = build(Images)
    fit(alone, [(images, labels)] * 25, 2, progress=False)
    for net in nets:
        assert all(np.allclose(values(net)[name], value, atol=1e-5) for name, value in values(alone).items())
