"""The networks of "Dive into Deep Learning" under ``npx.set_np()``: each goes through every technique."""
import gluon_compress as gc  # before mxnet

import mxnet as mx  # noqa: I001
import numpy as np
import onnxruntime
import pytest
from d2l_networks import CLASSES, NETWORKS, TransformerEncoder
from gluon_compress.distillation import distill
from gluon_compress.pruning import MaskedTrainer, prune_channels, prune_magnitude
from gluon_compress.quantization import prepare_qat, quantize, quantize_weights
from gluon_compress.training import evaluate, fit
from mxnet import autograd, gluon
from networks import assert_close, identical, randomize, values, zero_removed
from numpy_twins import numpy_mode

EACH = pytest.mark.parametrize("name", NETWORKS)


@pytest.fixture(autouse=True)
def under_set_np():
    with numpy_mode():
        yield


def inputs_of(name, seed=0):
    _, shape, words = NETWORKS[name]
    random = np.random.RandomState(seed)
    return mx.np.array(random.randint(words, size=shape) if words else random.normal(size=shape), dtype="float32")


def built(name, seed=0):
    """``(net, x)``: random weights, biases and BatchNorm statistics."""
    mx.random.seed(seed)
    net = NETWORKS[name][0]()
    net.initialize(mx.init.Xavier())
    x = inputs_of(name)
    net(x)
    randomize(net)
    return net, x


def batches(name, count=2):
    random = np.random.RandomState(1)
    return [(inputs_of(name, seed), mx.np.array(random.randint(CLASSES, size=8), dtype="float32"))
            for seed in range(count)]


def relative(found, expected):
    return float(np.linalg.norm(found.asnumpy() - expected.asnumpy()) / np.linalg.norm(expected.asnumpy()))


@EACH
def test_the_report_counts_what_each_layer_multiplies(name):
    net, x = built(name)
    macs = []

    def count(layer, inputs, output):
        if isinstance(layer, (gluon.nn.Conv2D, gluon.nn.Dense)):
            macs.append(output.size // len(x) * layer.weight.data()[0].size)
    hooks = []
    net.apply(lambda block: hooks.append(block.register_forward_hook(count)))
    net(x)
    for hook in hooks:
        hook.detach()
    assert gc.report(net, x).macs == sum(macs)


@EACH
def test_weights_that_are_pruned_stay_zero_in_training(name):
    net, x = built(name)
    masks = prune_magnitude(net, 0.6)
    assert masks.sparsity == pytest.approx(0.6, abs=0.02)
    trainer = MaskedTrainer(net, masks, "sgd", {"learning_rate": 0.1, "momentum": 0.9})
    before = values(net)
    loss = gluon.loss.SoftmaxCrossEntropyLoss()
    for data, label in batches(name):
        with autograd.record():
            losses = loss(net(data), label)
        losses.backward()
        trainer.step(8)
    after = values(net)
    for parameter, mask in masks.kept.items():
        assert (after[parameter][~mask] == 0).all() and (after[parameter] != before[parameter]).any()


@EACH
def test_without_channels_it_computes_what_it_did_with_these_set_to_zero(name):
    net, x = built(name)
    original, _ = built(name)
    before = gc.report(net, x)
    plan = prune_channels(net, x, 0.5, round_to=1)
    after = gc.report(net, x)
    assert after.parameters < 0.75 * before.parameters and after.macs < 0.75 * before.macs
    zero_removed(original, plan)
    assert_close(net(x), original(x))
    net.hybridize()
    assert_close(net(x[:3]), original(x[:3]))


@EACH
def test_quantized_weights_are_multiples_of_their_scales(name):
    net, _ = built(name)
    scales = quantize_weights(net, bits=8)
    assert scales.layers
    for parameter, codes in scales.codes(net).items():
        scale, weight = scales.weights[parameter]["scale"], values(net)[parameter]
        assert np.abs(codes).max() <= 127
        products = codes * scale.reshape(-1, *[1] * (codes.ndim - 1)) if scale.size == len(codes) else codes * scale
        np.testing.assert_allclose(weight, products, rtol=1e-6)


@EACH
def test_on_integers_it_agrees_with_fp32(name):
    net, x = built(name)
    expected = net(x)
    quantized = quantize(net, [x[number:number + 1] for number in range(8)], progress=False)
    assert quantized.record.layers and type(quantized(x)) is mx.np.ndarray
    assert relative(quantized(x), expected) < 0.1


@EACH
def test_quantization_aware_training_learns_and_converts(name):
    net, x = built(name)
    qat = prepare_qat(net, [x], progress=False)
    trainer = gluon.Trainer(qat.collect_params(), "adam", {"learning_rate": 1e-3})
    target, losses = mx.np.array(np.random.RandomState(2).normal(size=(8, CLASSES)), dtype="float32"), []
    for _ in range(4):
        with autograd.record():
            loss = ((qat(x) - target) ** 2).mean()
        loss.backward()
        trainer.step(1)
        losses.append(float(loss))
    assert losses[-1] < losses[0]
    assert relative(qat.convert()(x), qat(x)) < 0.05


@EACH
def test_it_is_trained_and_distilled_and_evaluated(name):
    net, x = built(name)
    student, _ = built(name, seed=1)
    data = batches(name)
    history = fit(net, data, 5, gluon.Trainer(net.collect_params(), "adam", {"learning_rate": 3e-3}), progress=False)
    assert history.epochs[-1]["loss"] < history.epochs[0]["loss"]
    accuracy = np.mean([(net(x).asnumpy().argmax(axis=1) == y.asnumpy()).mean() for x, y in data])
    assert evaluate(net, data) == pytest.approx(accuracy)
    history = distill(student, net, data, 5, trainer=gluon.Trainer(student.collect_params(), "adam", {
        "learning_rate": 3e-3}), progress=False)
    assert history.epochs[-1]["loss"] < history.epochs[0]["loss"]


@EACH
def test_it_comes_back_from_a_file(name, tmp_path):
    net, x = built(name)
    plan = prune_channels(net, x, 0.3, round_to=1)
    masks = prune_magnitude(net, 0.5)
    gc.save(tmp_path / "net", net, plan, masks, example=x)
    assert identical(values(gc.load(tmp_path / "net", NETWORKS[name][0]())), values(net))
    loaded = gc.load(tmp_path / "net")
    assert type(loaded(x)) is mx.np.ndarray and loaded(x).asnumpy().tobytes() == net(x).asnumpy().tobytes()
    quantized = quantize(net, [x], progress=False)
    gc.save(tmp_path / "int8", quantized)
    assert gc.load(tmp_path / "int8")(x).asnumpy().tobytes() == quantized(x).asnumpy().tobytes()


@EACH
def test_it_leaves_as_a_symbol_and_as_onnx(name, tmp_path):
    net, x = built(name)
    symbol, parameters = gc.export.write_checkpoint(net, tmp_path / "net", x)
    assert '"op": "_np' not in symbol.read_text()  # so that readers without the NumPy interface know all of it
    assert_close(gluon.SymbolBlock.imports(str(symbol), ["data"], str(parameters))(x), net(x))
    path = gc.export.to_onnx(net, tmp_path / "net.onnx", x[:1])
    session = onnxruntime.InferenceSession(str(path), providers=["CPUExecutionProvider"])
    found, = session.run(None, {"data": x.asnumpy()})
    assert_close([mx.np.array(found)], [net(x)], rtol=1e-3, atol=1e-4)


@EACH
@pytest.mark.parametrize("mode", ["classic", "numpy"])
def test_gluons_own_export_of_it_opens_in_both_interfaces(name, mode, tmp_path):
    net, x = built(name)
    expected = net(x).asnumpy()
    net.hybridize()
    net(x)
    net.export(str(tmp_path / "net"))
    with mx.util.np_array(mode == "numpy"), mx.util.np_shape(mode == "numpy"):
        x = x if mode == "numpy" else x.as_nd_ndarray()
        loaded = gc.load(tmp_path / "net", epoch=0)
        assert type(loaded(x)) is type(x) and np.array_equal(loaded(x).asnumpy(), expected)
        before = gc.report(loaded, x)
        prune_channels(loaded, x, 0.5, round_to=1)
        assert gc.report(loaded, x).macs < 0.75 * before.macs


def test_a_transformer_with_sentences_of_their_own_lengths_goes_through_as_well():
    words = inputs_of("transformer")
    lengths = mx.np.array([7, 3, 1, 5, 2, 7, 6, 4], dtype="float32")

    def network():
        mx.random.seed(0)
        net = TransformerEncoder()
        net.initialize(mx.init.Xavier())
        net(words, lengths)
        randomize(net)
        return net
    net, original = network(), network()
    quantized = quantize(net, [((words, lengths), words)], progress=False)
    assert relative(quantized(words, lengths), net(words, lengths)) < 0.1
    plan = prune_channels(net, (words, lengths), 0.5, round_to=1)
    zero_removed(original, plan)
    assert_close(net(words, lengths), original(words, lengths))
