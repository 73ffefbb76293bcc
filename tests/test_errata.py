"""The errata of the course, entry by entry: what the articles' code does, beside what ours does.

Each test belongs to one entry of tutorials/ERRATA.md and asserts the numbers given there. The articles'
code is in articles.py.
"""
import inspect
import json
import re
from collections import Counter
from pathlib import Path

import articles
import mxnet as mx
import numpy as np
import pytest
from articles import as_printed, l1_unstructured
from mxnet import autograd, gluon, nd
from mxnet.gluon import nn
from mxnet.gluon.model_zoo import vision

import gluon_compress as gc
from gluon_compress.measuring.costs import layer_costs
from gluon_compress.network.nodes import Node, variable
from gluon_compress.network import parameters, restore_snapshot, snapshot
from gluon_compress.network.blocks import block_of
from gluon_compress.network.graph import Graph
from gluon_compress.quantization.calibration.range_observer import divergences
from gluon_compress.quantization.integers.emitter import half_to_even
from gluon_compress.quantization.integers.onednn import threshold_for
from gluon_compress.quantization.integers import onednn_emitter
from gluon_compress.quantization.integers.onednn_emitter import Int8Emitter
from gluon_compress.quantization.arithmetic.ranges import Range
from gluon_compress.quantization.integers.simulated_emitter import SimulatedEmitter

ERRATA = Path(__file__).resolve().parent.parent / "tutorials" / "ERRATA.md"
RESULTS = ERRATA.parent.parent / "benchmarks" / "results"
TORCH = Path(__file__).resolve().parent / "data" / "torch_prune_state.json"
DIGIT = nd.zeros((1, 1, 28, 28))   # an example, for the shapes
PICTURE = nd.zeros((1, 3, 224, 224))


# ---------------------------------------------------------------- helpers

@pytest.fixture(scope="module")
def mnist():
    """1,000 test images and 2,000 training images of MNIST, in batches."""
    train, test = gc.datasets.mnist()
    return {"train": list(train.subset(slice(0, 2000)).batches(100)),
            "test": list(test.subset(slice(0, 1000)).batches(500))}


@pytest.fixture(scope="module")
def torch_state():
    """What PyTorch itself did with the second article's lines: see benchmarks/torch_prune_state.py."""
    return json.loads(TORCH.read_text())


def articles_lenet():
    """The article's LeNet with our trained parameters: their names and shapes fit."""
    model = articles.LeNet()
    model.load_parameters(str(gc.params.path("lenet_mnist")))
    return model


def accuracy(model, data):
    """Of any Block; ``training.evaluate`` accepts HybridBlocks only."""
    correct = [(model(inputs).argmax(axis=1) == labels).mean().asscalar() for inputs, labels in data]
    return float(np.mean(correct))


def value(net, name):
    """The parameter with that structural name, as an array."""
    return parameters(net)[name].data().asnumpy()


def zeros(model):
    return sum(int((parameter.data() == 0).sum().asscalar()) for parameter in model.collect_params().values())


def saved_bytes(model, path):
    model.save_parameters(str(path))
    return path.stat().st_size


def macs(net, example):
    return sum(layer.macs for layer in layer_costs(net, example)[0])


def trained_parameters(net):
    """How many numbers the network learns."""
    return sum(int(np.prod(parameter.shape)) for parameter in net.collect_params().values()
               if parameter.grad_req != "null")


class SmallNet(gluon.HybridBlock):
    """A convolution, BatchNorm and a dense layer, with statistics such as a trained network has."""

    def __init__(self, classes=10, **kwargs):
        super().__init__(**kwargs)
        with self.name_scope():
            self.conv = nn.Conv2D(4, 3, in_channels=1)
            self.norm = nn.BatchNorm(in_channels=4)
            self.output = nn.Dense(classes, in_units=4 * 6 * 6)

    def hybrid_forward(self, F, x):
        return self.output(F.relu(self.norm(self.conv(x))))


def small_net(seed=0):
    mx.random.seed(seed)
    net = SmallNet()
    net.initialize(mx.init.Xavier())
    net.norm.running_mean.set_data(nd.array([0.5, -2.0, 0.0005, 4.0]))
    net.norm.running_var.set_data(nd.array([0.0009, 1.0, 9.0, 0.25]))
    net.norm.beta.set_data(nd.array([0.0004, 0.3, -0.2, 0.1]))
    return net


def patches(count=32):
    return nd.array(np.random.RandomState(0).randn(count, 1, 8, 8))


def gradient(loss, logits):
    """d mean(loss(logits)) / d logits, as an array (batch, classes)."""
    logits = nd.array(logits)
    logits.attach_grad()
    with autograd.record():
        mean = loss(logits).mean()
    mean.backward()
    return logits.grad.asnumpy()


def recorded_rows(name):
    """The rows of a tutorial's long version, by the names of the networks."""
    return {row["network"]: row for row in json.loads((RESULTS / f"{name}.json").read_text())["rows"]}


TEACHER = np.array([[4.0, 1.0, 0.0, -2.0], [0.5, 3.0, -1.0, 1.0]])   # logits (batch, classes)
STUDENT = np.array([[1.0, 2.0, -0.5, 0.0], [2.0, 0.0, 0.5, -1.0]])


# ---------------------------------------------------------------- both articles: does it run?

def test_printed_code_has_no_indentation():
    for code in (articles.LeNet, articles.parameter_pruning, articles.AlexNet, articles.quantization,
                 articles.ResNet, articles.knowledge_distillation):
        with pytest.raises(IndentationError):
            compile(as_printed(code), "article 1", "exec")
        compile(inspect.getsource(code), "ours", "exec")  # the same statements, indented
    with pytest.raises(IndentationError):
        compile(articles.PYTORCH_STRUCTURED, "article 2", "exec")


def test_prose_stands_between_the_code_lines():
    lines = articles.PYTORCH_STRUCTURED.splitlines()
    prose = [line for line in lines if line == "python" or re.search("[\u4e00-\u9fff]", line)]
    assert len(prose) == 5 and prose.count("python") == 1
    for line in prose:
        with pytest.raises(NameError):   # Chinese characters make a valid name, so it is no SyntaxError
            exec(line, {})  # noqa: S102
        exec(f"# {line}", {})  # noqa: S102


def test_parameter_files_are_nowhere(tmp_path, monkeypatch, mnist):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(mx.MXNetError, match="No such file"):
        articles.LeNet().load_parameters("lenet.params")
    # ... and the files of published networks of these names do not fit:
    lenet = gc.models.LeNet5Caffe()
    lenet.initialize()
    lenet.save_parameters("lenet.params")
    with pytest.raises(AssertionError, match="missing in file"):
        articles.LeNet().load_parameters("lenet.params")
    for theirs, published in ((articles.AlexNet(), vision.alexnet()),
                              (articles.ResNet(), vision.resnet18_v1())):
        assert set(theirs._collect_params_with_prefix()) != set(published._collect_params_with_prefix())
    # ours: shipped, verified by SHA-256
    assert gc.training.evaluate(gc.params.load("lenet_mnist"), mnist["test"]) > 0.98


def test_block_cannot_be_exported(tmp_path):
    model = articles_lenet()
    with pytest.raises(AttributeError):
        model.export(str(tmp_path / "lenet"))
    with pytest.raises(TypeError, match="accepted: a gluon.HybridBlock"):   # ours say so at once
        gc.pruning.prune_threshold(model, 0.001)
    net = gc.params.load("lenet_mnist")
    output = net(DIGIT)
    path = str(tmp_path / "lenet")
    net.export(path)
    again = gluon.SymbolBlock.imports(f"{path}-symbol.json", ["data"], f"{path}-0000.params")
    assert np.allclose(again(DIGIT).asnumpy(), output.asnumpy(), atol=1e-5)


# ---------------------------------------------------------------- article 1, section 1: pruning

def test_frozen_layers_do_not_train(mnist):
    data, threshold = mnist["train"][:5], 0.1

    def one_pass(model, trainer):
        for inputs, labels in data:
            with autograd.record():
                loss = gluon.loss.SoftmaxCrossEntropyLoss()(model(inputs), labels)
            loss.backward()
            trainer.step(len(inputs))

    model = articles_lenet()
    articles.parameter_pruning(model, threshold)
    conv = model.conv[2].weight
    pruned, before = conv.data().asnumpy() == 0, conv.data().asnumpy()
    bias, dense = model.conv[2].bias.data().asnumpy(), model.dense[0].weight.data().asnumpy()
    assert pruned.mean() > 0.5
    one_pass(model, gluon.Trainer(model.collect_params(), "sgd", {"learning_rate": 0.01, "momentum": 0.9}))
    assert np.array_equal(conv.data().asnumpy(), before)             # the survivors stand still
    assert np.array_equal(model.conv[2].bias.data().asnumpy(), bias)  # and the bias
    assert (model.dense[0].weight.data().asnumpy() != dense).any()   # the dense layers train
    model.collect_params().setattr("grad_req", "write")              # ... and without that line
    one_pass(model, gluon.Trainer(model.collect_params(), "sgd", {"learning_rate": 0.01, "momentum": 0.9}))
    assert np.count_nonzero(conv.data().asnumpy()[pruned]) > 500     # zeros grow back

    net = gc.params.load("lenet_mnist")
    masks = gc.pruning.prune_threshold(net, threshold)
    weight, before = net.conv[2].weight, net.conv[2].weight.data().asnumpy()
    one_pass(net, gc.pruning.MaskedTrainer(net, masks, "sgd", {"learning_rate": 0.01, "momentum": 0.9}))
    after = weight.data().asnumpy()
    assert not after[pruned].any()                                   # zeros stay
    assert (after[~pruned] != before[~pruned]).mean() > 0.2          # survivors learn


def test_layers_are_chosen_by_a_substring():
    # A convolution in a network whose name contains "dense" is skipped:
    class DenseBlockNet(SmallNet):
        pass

    def initialized(net):
        net.initialize(mx.init.Uniform(0.1))
        return net

    densenet = initialized(DenseBlockNet())
    articles.parameter_pruning(densenet, 0.05)
    assert zeros(densenet.conv) == 4   # the bias, which was zero before
    assert all("dense" in name for name in vision.densenet121().collect_params())
    masks = gc.pruning.prune_threshold(densenet, 0.05)
    assert list(masks.kept) == ["conv.weight"] and zeros(densenet.conv) > 4
    # A dense layer called otherwise is pruned:
    classifier = initialized(nn.Dense(10, in_units=20, prefix="classifier_"))
    articles.parameter_pruning(classifier, 0.05)
    assert (classifier.weight.data() == 0).sum().asscalar() > 50
    with pytest.raises(ValueError, match="there is no layer to change"):
        gc.pruning.prune_threshold(initialized(nn.Dense(10, in_units=20, prefix="classifier_")), 0.05)


def test_biases_and_batchnorm_are_thresholded():
    before, theirs, ours = small_net(), small_net(), small_net()
    articles.parameter_pruning(theirs, 0.001)
    assert theirs.norm.running_var.data()[0].asscalar() == 0     # 0.0009 -> 0
    assert theirs.norm.running_mean.data()[2].asscalar() == 0
    assert theirs.norm.beta.data()[0].asscalar() == 0
    gc.pruning.prune_threshold(ours, 0.001)
    for name in ("norm.running_var", "norm.running_mean", "norm.beta", "conv.bias"):
        assert np.array_equal(value(ours, name), value(before, name))

    def channel_0(net):
        return (net.norm(net.conv(patches())) - net.norm.beta.data().reshape((1, -1, 1, 1)))[:, 0].asnumpy()
    # (x - mean) / sqrt(var + 1e-5), with var = 0 instead of 0.0009: sqrt(0.00091 / 0.00001) = 9.5 times
    assert np.std(channel_0(theirs)) / np.std(channel_0(before)) == pytest.approx(9.54, rel=0.02)
    assert np.std(channel_0(ours)) / np.std(channel_0(before)) == pytest.approx(1, rel=0.02)


def test_the_text_compares_signed_weights():
    weight = gc.params.load("lenet_mnist").conv[2].weight.data().asnumpy()
    literally = weight < 0.001            # "参数权重小于阈值"
    meant = np.abs(weight) <= 0.001       # what both codes do
    assert literally.mean() == pytest.approx(0.83, abs=0.01) and weight[literally].min() == weight.min()
    assert meant.mean() == pytest.approx(0.008, abs=0.001)


def test_the_threshold_prunes_hardly_anything_or_everything(mnist):
    model = articles_lenet()
    articles.parameter_pruning(model, threshold=0.001)
    assert zeros(model) == 82                                # of 170,988: 0.05 %
    articles.parameter_pruning(model, threshold=1.0)
    assert zeros(model.conv) == 9570                         # all of both convolutions
    assert accuracy(model, mnist["test"]) < 0.2              # and not a word
    net = gc.params.load("lenet_mnist")
    assert round(gc.pruning.prune_magnitude(net, sparsity=0.8, scope="global").sparsity, 3) == 0.8
    assert gc.training.evaluate(net, mnist["test"]) > 0.985  # before any fine-tuning
    with pytest.raises(ValueError, match="without weights"):
        gc.pruning.prune_threshold(net, 1.0)


def test_the_convolutions_hold_few_of_the_parameters():
    shares = {}
    for name, file in (("LeNet", "lenet_mnist"), ("SimpleCNN", "simple_cnn_mnist")):
        net, sizes = gc.params.load(file), Counter()
        for key, parameter in parameters(net).items():
            sizes["conv" if key.startswith("conv") else "dense"] += parameter.data().size
        shares[name] = sizes["conv"] / sum(sizes.values())
    assert shares == pytest.approx({"LeNet": 0.056, "SimpleCNN": 0.242}, abs=0.001)  # the most that can go
    net = gc.params.load("lenet_mnist")
    gc.pruning.prune_magnitude(net, 0.9)                     # convolutions and dense layers
    assert zeros(net) / trained_parameters(net) > 0.89


def test_the_pruned_file_is_as_large_as_before(tmp_path):
    model = articles_lenet()
    before = saved_bytes(model, tmp_path / "before.params")
    articles.parameter_pruning(model, threshold=0.1)
    assert saved_bytes(model, tmp_path / "after.params") == before
    net = gc.params.load("lenet_mnist")
    masks = gc.pruning.prune_magnitude(net, sparsity=0.9)
    assert gc.save(tmp_path / "small.gcz", net, masks) < 0.1 * before


def test_zeros_save_no_computation():
    net = gc.params.load("simple_cnn_mnist")
    before = macs(net, DIGIT)
    gc.pruning.prune_magnitude(net, sparsity=0.9)            # what masks do, in either article
    assert macs(net, DIGIT) == before == 480_500              # dense kernels multiply the zeros
    gc.pruning.prune_channels(net, DIGIT, 0.5)
    assert round(macs(net, DIGIT) / before, 2) == 0.29


# ---------------------------------------------------------------- article 1, section 2: quantization

def test_nd_is_not_imported():
    names = {}
    exec(articles.QUANTIZATION_IMPORTS + inspect.getsource(articles.quantization), names)  # noqa: S102
    with pytest.raises(NameError, match="'nd'"):
        names["quantization"](small_net())
    gc.quantization.quantize_weights(small_net())


def test_the_scale_is_lost(mnist):
    images, _ = mnist["test"][0]
    error, spread = {"theirs": [], "ours": []}, {"theirs": [], "ours": []}
    for name in ("lenet_mnist", "simple_cnn_mnist"):
        before, theirs, ours = (gc.params.load(name) for _ in range(3))
        articles.quantization(theirs)
        gc.quantization.quantize_weights(ours)
        assert all(np.abs(array).max() == 1 for array in snapshot(theirs).values())
        expected = before(images).asnumpy()
        for key, net in (("theirs", theirs), ("ours", ours)):
            output = net(images).asnumpy()
            error[key].append(np.abs(output - expected).max() / np.abs(expected).max())
            spread[key].append(output.std() / expected.std())
            # the largest logit is mostly the same, so the accuracy hides it:
            assert (output.argmax(1) == expected.argmax(1)).mean() > 0.97
    assert spread["theirs"] == pytest.approx([1.38, 0.34], abs=0.02) and min(error["theirs"]) > 0.3
    assert spread["ours"] == pytest.approx([1, 1], abs=0.02) and max(error["ours"]) < 0.03


def test_eight_bits_are_nine():
    layer = nn.Dense(1, in_units=2001)
    layer.initialize()
    values = np.linspace(-1, 1, 2001)[None]
    layer.weight.set_data(nd.array(values))
    layer.bias.set_data(nd.ones(1))
    articles.quantization(layer, num_bits=8)
    levels = np.unique(np.rint(layer.weight.data().asnumpy() * 255))
    assert (levels.min(), levels.max(), len(levels)) == (-255, 255, 511)   # 8 bits hold 256
    codes, _ = gc.quantization.quantize_array(values, bits=8)
    assert (codes.min(), codes.max(), len(np.unique(codes)), codes.dtype) == (-127, 127, 255, np.int8)


def test_an_all_zero_tensor_becomes_nan():
    layer = nn.Dense(3, in_units=4)
    layer.initialize()                                       # biases start at zero
    articles.quantization(layer)
    assert np.isnan(layer.bias.data().asnumpy()).all()
    assert np.isnan(layer(nd.ones((1, 4))).asnumpy()).all()
    codes, scale = gc.quantization.quantize_array(np.zeros(3))
    assert not codes.any() and scale == 1


def test_biases_and_batchnorm_are_quantized():
    before, theirs, ours = small_net(), small_net(), small_net()
    for net in (before, theirs, ours):
        net.conv.bias.set_data(nd.array([0.1, -0.2, 0.3, -0.4]))
        net.output.bias.set_data(nd.ones(10))
    articles.quantization(theirs)
    gc.quantization.quantize_weights(ours)
    statistics = {name for name in parameters(before) if not name.endswith("weight")}
    changed = {name: not np.allclose(value(theirs, name), value(before, name)) for name in statistics}
    assert changed == {"conv.bias": True, "norm.gamma": False, "norm.beta": True, "norm.running_mean": True,
                       "norm.running_var": True, "output.bias": False}   # all ones stay all ones
    assert theirs.norm.running_var.data()[0].asscalar() == 0             # 0.0009 of at most 9
    for name in statistics:
        assert np.array_equal(value(ours, name), value(before, name))
    inputs = patches(200)

    def agreement(net):
        return (net(inputs).argmax(axis=1) == before(inputs).argmax(axis=1)).mean().asscalar()
    assert agreement(theirs) < 0.6 and agreement(ours) > 0.98


def test_the_quantized_network_stays_fp32_and_its_file_as_large(tmp_path):
    model = articles_lenet()
    before = saved_bytes(model, tmp_path / "before.params")
    articles.quantization(model)
    assert {parameter.data().dtype for parameter in model.collect_params().values()} == {np.float32}
    assert saved_bytes(model, tmp_path / "after.params") == before
    net = gc.params.load("lenet_mnist")
    scales = gc.quantization.quantize_weights(net)
    assert {codes.dtype for codes in scales.codes(net).values()} == {np.dtype(np.int8)}
    assert gc.save(tmp_path / "small.gcz", net, scales) < 0.28 * before


def test_by_a_quarter_or_to_a_quarter():
    weight = gc.params.load("lenet_mnist").dense[0].weight.data().asnumpy()
    codes, scale = gc.quantization.quantize_array(weight, bits=8, axis=0)
    left = (codes.nbytes + scale.nbytes) / weight.nbytes
    assert left == pytest.approx(1 / 4, abs=0.001)           # "by a quarter" would leave 3 / 4


# ---------------------------------------------------------------- article 1, section 3: distillation

def test_block_has_no_softmax():
    with pytest.raises(AttributeError, match="softmax"):
        articles.knowledge_distillation(articles_lenet(), articles_lenet())
    probabilities = nd.softmax(gc.params.load("lenet_mnist")(DIGIT))   # it is a function of the logits
    assert probabilities.sum().asscalar() == pytest.approx(1)


def test_optimizer_batch_size_data_and_loop_are_missing():
    function = articles.knowledge_distillation
    used = set(function.__code__.co_names)
    assert {"optimizer", "batch_size"} <= used and not {"optimizer", "batch_size"} & set(vars(articles))
    assert list(inspect.signature(function).parameters) == ["large_model", "small_model", "temperature"]
    assert not hasattr(mx.optimizer.SGD(), "step")           # a gluon.Trainer has it
    assert not re.search(r"\bfor\b", as_printed(function))
    ours = list(inspect.signature(gc.distillation.distill).parameters)
    assert ours[:4] == ["student", "teacher", "train_data", "epochs"]


def test_the_student_is_not_initialized():
    student = articles.build_small_model()
    with pytest.raises(RuntimeError, match="has not been initialized"):
        student(nd.zeros((1, 3, 8, 8)))
    with pytest.raises(gc.errors.NetworkError, match="not initialized: call net.initialize"):
        gc.distillation.distill(gc.models.SmallConvNet(), small_net(), [(patches(2), nd.zeros(2))], epochs=1)


def test_both_networks_run_outside_the_tape():
    soft_targets = nd.softmax(nd.array(np.random.RandomState(1).randn(32, 10)))
    student = small_net()
    probabilities = student(patches()).softmax()             # as in the article: before record()
    with autograd.record():
        output = articles.distillation_loss(soft_targets, probabilities)
    with pytest.raises(mx.MXNetError, match="not in a computational graph"):
        output.backward()
    with autograd.record():
        output = articles.distillation_loss(soft_targets, student(patches()).softmax())
    output.backward()
    assert np.abs(student.conv.weight.grad().asnumpy()).max() > 0


def test_recording_the_teacher_changes_it():
    teacher, student = small_net(), small_net(seed=1)
    before = snapshot(teacher)
    with autograd.record():                                  # the repair that suggests itself
        output = articles.distillation_loss(teacher(patches()).softmax(), student(patches()).softmax())
    output.backward()
    changed = {name for name, value in snapshot(teacher).items() if not np.array_equal(value, before[name])}
    assert changed == {"norm.running_mean", "norm.running_var"}
    assert np.abs(teacher.conv.weight.grad().asnumpy()).max() > 0   # work for nothing

    teacher = small_net()
    gc.distillation.distill(student, teacher, [(patches(), nd.zeros(32))], epochs=1, progress=False)
    assert all(np.array_equal(value, before[name]) for name, value in snapshot(teacher).items())
    assert not np.abs(teacher.conv.weight.grad().asnumpy()).any()


def test_the_temperature_is_only_a_factor_of_the_learning_rate():
    p, q = nd.softmax(nd.array(TEACHER)), nd.softmax(nd.array(STUDENT))
    assert (q * 3).sum(axis=1).asnumpy() == pytest.approx([3, 3])     # no probabilities

    def article(temperature):
        return gradient(lambda s: articles.distillation_loss(p, nd.softmax(s), temperature), STUDENT)
    assert article(3) == pytest.approx(3 * article(1), rel=1e-4)      # the same direction at any temperature

    def ours(temperature):
        loss = gc.distillation.DistillationLoss(temperature, hard_weight=0)
        return gradient(lambda s: loss(s, nd.zeros(2), nd.array(TEACHER)), STUDENT).ravel()
    cosine = ours(3) @ ours(1) / np.linalg.norm(ours(3)) / np.linalg.norm(ours(1))
    assert cosine < 0.97                                     # another direction
    assert nd.softmax(nd.array(TEACHER) / 3)[0, 0].asscalar() < p[0, 0].asscalar()   # softer


def test_the_kl_divergence_gets_its_arguments_swapped():
    p = nd.softmax(nd.array(TEACHER))

    def article(s):
        return articles.distillation_loss(p, nd.softmax(s))

    def ours(s):
        return gc.distillation.DistillationLoss(3, hard_weight=0)(s, nd.zeros(2), nd.array(TEACHER))
    assert article(nd.array(STUDENT)).asnumpy().min() < -0.4          # a KL divergence is never negative
    assert np.abs(gradient(article, TEACHER)).max() > 0.01            # a perfect student is pushed away
    assert np.abs(gradient(ours, TEACHER)).max() < 1e-6
    # sum q (log q - p) is smallest at q = softmax(p), p being probabilities: nearly uniform
    assert np.abs(gradient(article, p.asnumpy())).max() < 1e-6
    assert p[0, 0].asscalar() > 0.9 and nd.softmax(p)[0, 0].asscalar() < 0.5


def test_without_t_squared_the_gradient_vanishes():
    def without(temperature):
        log_p = nd.log_softmax(nd.array(TEACHER) / temperature)

        def loss(s):
            return (log_p.exp() * (log_p - nd.log_softmax(s / temperature))).sum(axis=1)
        return np.linalg.norm(gradient(loss, STUDENT))

    def ours(temperature):
        loss = gc.distillation.DistillationLoss(temperature, hard_weight=0)
        return np.linalg.norm(gradient(lambda s: loss(s, nd.zeros(2), nd.array(TEACHER)), STUDENT))
    assert without(10) / without(20) == pytest.approx(4, rel=0.1)
    assert ours(10) / ours(20) == pytest.approx(1, rel=0.1)


def test_the_labels_are_not_used():
    assert "label" not in as_printed(articles.knowledge_distillation)
    labels = nd.array([2, 3])             # the teacher is wrong about both

    def step(hard_weight):
        loss = gc.distillation.DistillationLoss(4, hard_weight)
        return -gradient(lambda s: loss(s, labels, nd.array(TEACHER)), TEACHER)
    assert np.abs(step(hard_weight=0)).max() < 1e-5                   # the student repeats the mistakes
    assert min(step(hard_weight=0.1)[0, 2], step(hard_weight=0.1)[1, 3]) > 0.01


def test_the_resnet_has_no_layers():
    theirs = articles.ResNet()
    theirs.features.initialize()
    features = theirs.features(PICTURE)
    assert features.shape == (1, 64, 55, 55)
    assert sum(isinstance(layer, nn.Conv2D) for layer in theirs.features) == 1
    assert int(np.prod(features.shape)) * 1000 + 1000 == 193_601_000  # weights and biases of its Dense(1000)
    ours = gc.models.ResNet(depth=18)
    ours.initialize()
    ours(PICTURE)
    rows = layer_costs(ours, PICTURE)[0]
    assert sum(row.parameters for row in rows) == 11_689_512
    assert sum(row.kind == "Convolution" for row in rows) == 20


def test_the_stems_pooling_is_not_padded():
    theirs, ours = articles.ResNet(), gc.models.ResNet(depth=18)
    for features, size in ((theirs.features, 55), (ours.features, 56)):   # 56 in table 1 of the paper
        features.initialize()
        x = PICTURE
        for layer in list(features)[:4]:
            x = layer(x)
        assert x.shape == (1, 64, size, size)


def test_the_small_model_is_larger_than_the_large_one():
    student, teacher = list(articles.build_small_model()), articles.ResNet().features
    x = PICTURE
    for layer in student[:-1]:
        layer.initialize()
        x = layer(x)
    teacher.initialize()
    students = x.shape[1] * 1000 + 1000
    teachers = int(np.prod(teacher(PICTURE).shape)) * 1000 + 1000
    assert students == 401_409_000 > 2 * teachers
    assert students / 11_689_512 == pytest.approx(34.3, abs=0.1)      # of a real ResNet-18
    small, large = gc.models.SmallConvNet(classes=10), gc.models.ResNet(depth=18, classes=10, thumbnail=True)
    for net in (small, large):
        net.initialize()
        net(nd.zeros((1, 3, 32, 32)))
    assert trained_parameters(small) == 82_890 < trained_parameters(large) / 100


# ---------------------------------------------------------------- article 2

def test_the_amount_is_missing(torch_state):
    assert torch_state["without an amount"].startswith("TypeError") and "'amount'" in torch_state["without an amount"]
    signature = inspect.signature(l1_unstructured).parameters
    assert torch_state["without a default"] == ["module", "name", "amount"] == list(signature)[:3]
    assert "prune.l1_unstructured(net.conv1, 'weight')" in articles.PYTORCH_STRUCTURED.splitlines()
    conv1 = {"weight": np.ones((10, 1, 5, 5), np.float32)}
    with pytest.raises(TypeError, match="amount"):
        l1_unstructured(conv1, "weight")
    assert list(conv1) == ["weight"] and conv1["weight"].all()        # nothing was pruned
    with pytest.raises(TypeError, match="sparsity"):
        gc.pruning.prune_magnitude(gc.params.load("simple_cnn_mnist"))
    with pytest.raises(TypeError, match="ratio"):
        gc.pruning.prune_channels(gc.params.load("simple_cnn_mnist"), DIGIT, round_to=1)


def test_the_structured_example_is_unstructured(torch_state):
    assert torch_state["pruned"]["channels without weights"] == 0
    assert torch_state["ln_structured"]["channels without weights"] == 10
    assert torch_state["ln_structured"]["state"]["weight_orig"] == torch_state["as built"]["state"]["weight"]
    net = gc.params.load("simple_cnn_mnist")
    conv2 = {"weight": net.conv2.weight.data().asnumpy()}
    l1_unstructured(conv2, "weight", amount=0.5)
    assert 1 - conv2["weight_mask"].mean() == 0.5
    assert conv2["weight_mask"].any(axis=(1, 2, 3)).all()             # no channel is gone
    assert conv2["weight_orig"].shape == (20, 10, 5, 5)
    rounded = gc.params.load("simple_cnn_mnist")
    gc.pruning.prune_channels(net, DIGIT, 0.5, round_to=1)
    gc.pruning.prune_channels(rounded, DIGIT, 0.5)
    assert net.conv1.weight.shape == (5, 1, 5, 5) and net.conv2.weight.shape == (10, 5, 5, 5)
    assert rounded.conv1.weight.shape == (5, 1, 5, 5) and rounded.conv2.weight.shape == (8, 5, 5, 5)


def test_both_examples_are_the_same():
    structured = articles.PYTORCH_STRUCTURED.splitlines()
    unstructured = articles.PYTORCH_UNSTRUCTURED.splitlines()
    different = [pair for pair in zip(structured, unstructured) if pair[0] != pair[1]]
    assert len(structured) == len(unstructured)
    assert different == [("对卷积层进行结构化剪枝", "对卷积层进行非结构化剪枝")]      # the comment
    pruned, narrowed = gc.params.load("simple_cnn_mnist"), gc.params.load("simple_cnn_mnist")
    gc.pruning.prune_magnitude(pruned, 0.5)
    gc.pruning.prune_channels(narrowed, DIGIT, 0.5, round_to=1)
    assert (pruned.conv1.weight.shape[0], narrowed.conv1.weight.shape[0]) == (10, 5)


def test_the_train_loader_is_undefined(mnist):
    assert articles.PYTORCH_STRUCTURED.count("train_loader") == 1
    with pytest.raises(NameError, match="train_loader"):
        articles.pytorch_fine_tuning(net=None, optimizer=None, criterion=None)
    net = gc.params.load("simple_cnn_mnist")
    history = gc.training.fit(net, mnist["train"][:2], epochs=1, progress=False)
    assert history.epochs[0]["accuracy"] > 0.9


def test_a_mask_makes_the_state_larger(tmp_path, torch_state):
    built, masked, removed = ({name: shape for name, shape in torch_state[when]["state"].items() if name != "bias"}
                              for when in ("as built", "pruned", "removed"))
    assert masked == {"weight_orig": built["weight"], "weight_mask": built["weight"]} and removed == built
    net = gc.params.load("simple_cnn_mnist")
    conv2 = {"weight": net.conv2.weight.data().asnumpy()}
    before = sum(array.nbytes for array in conv2.values())
    l1_unstructured(conv2, "weight", amount=0.9)
    assert sum(array.nbytes for array in conv2.values()) == 2 * before   # weight_orig and weight_mask
    full = saved_bytes(net, tmp_path / "full.params")
    masks = gc.pruning.prune_magnitude(net, sparsity=0.9)
    ratio = gc.save(tmp_path / "small.gcz", net, masks) / full
    assert ratio < 0.2


def test_removing_connections_is_not_structured():
    net = gc.params.load("simple_cnn_mnist")
    before = {name: parameter.shape for name, parameter in parameters(net).items()}
    gc.pruning.prune_magnitude(net, 0.5)                     # connections go: same shapes, zeros
    assert {name: parameter.shape for name, parameter in parameters(net).items()} == before
    gc.pruning.prune_channels(net, DIGIT, 0.5, round_to=1)               # neurons go: smaller layers
    assert sum(np.prod(parameter.shape) for parameter in parameters(net).values()) < 0.4 * trained_parameters(
        gc.params.load("simple_cnn_mnist"))


def test_structured_pruning_is_the_harder_one():
    net = gc.params.load("simple_cnn_mnist")
    weight = net.conv1.weight.data().asnumpy()
    by_hand = weight * (np.abs(weight) > np.median(np.abs(weight)))   # unstructured: one line
    gc.pruning.prune_magnitude(net, 0.5, select="conv1")
    assert np.array_equal(net.conv1.weight.data().asnumpy(), by_hand)

    net = gc.params.load("simple_cnn_mnist")
    plan = gc.pruning.prune_channels(net, DIGIT, {"conv1": 0.5}, round_to=1)      # structured: follow the graph
    assert [cut["parameter"] for cut in plan.slices] == ["conv1.weight", "conv1.bias", "conv2.weight"]
    alone = gc.pruning.ChannelPlan(plan.layers, plan.slices[:2], {})
    with pytest.raises(mx.MXNetError):                       # removing the channels from conv1 alone
        alone.apply(gc.params.load("simple_cnn_mnist"))(DIGIT).wait_to_read()
    assert net(DIGIT).shape == (1, 10)


def test_l1_and_l2_agree_on_single_weights():
    one, two = gc.params.load("simple_cnn_mnist"), gc.params.load("simple_cnn_mnist")
    masks = gc.pruning.prune_magnitude(one, 0.5, norm=1), gc.pruning.prune_magnitude(two, 0.5, norm=2)
    assert all(np.array_equal(masks[0].kept[name], masks[1].kept[name]) for name in masks[0].kept)
    channels = {"flat": [0.5] * 4, "peaked": [0.0, 0.0, 0.0, 1.5]}    # over several weights they differ
    l1 = {name: np.abs(values).sum() for name, values in channels.items()}
    l2 = {name: np.linalg.norm(values) for name, values in channels.items()}
    assert min(l1, key=l1.get) == "peaked" and min(l2, key=l2.get) == "flat"
    plans = [gc.pruning.prune_channels(gc.params.load("simple_cnn_mnist"), DIGIT, 0.5, criterion, round_to=1).layers
             for criterion in ("l1", "l2")]
    assert plans[0] != plans[1]


def test_an_untrained_network_is_pruned(mnist):
    lines = articles.PYTORCH_STRUCTURED.splitlines()
    made = lines.index("net = SimpleCNN()")
    assert lines[made + 2] == "prune.l1_unstructured(net.conv1, 'weight')"   # nothing but a comment between
    random = gc.models.SimpleCNN()
    random.initialize(mx.init.Xavier())
    trained = gc.params.load("simple_cnn_mnist")
    for net in (random, trained):
        gc.pruning.prune_magnitude(net, 0.5, scope="global")
    assert gc.training.evaluate(random, mnist["test"]) < 0.3
    assert gc.training.evaluate(trained, mnist["test"]) > 0.95


def test_fine_tuning_is_compared_with_nothing(mnist):
    mx.random.seed(0)
    plain, pruned = gc.models.SimpleCNN(), gc.models.SimpleCNN()
    for net in (plain, pruned):
        net.initialize(mx.init.Xavier())
        net.hybridize()
    gc.training.fit(plain, mnist["train"], epochs=1, progress=False)
    restore_snapshot(pruned, snapshot(plain))
    before = gc.training.evaluate(plain, mnist["test"])
    masks = gc.pruning.prune_magnitude(pruned, 0.5)
    optimizer = "nag", {"learning_rate": 0.01, "momentum": 0.9}
    for net, trainer in ((pruned, gc.pruning.MaskedTrainer(pruned, masks, *optimizer)),
                         (plain, gluon.Trainer(plain.collect_params(), *optimizer))):
        gc.training.fit(net, mnist["train"], epochs=2, trainer=trainer, progress=False)
    pruned, plain = gc.training.evaluate(pruned, mnist["test"]), gc.training.evaluate(plain, mnist["test"])
    assert (before, pruned, plain) == pytest.approx((0.46, 0.72, 0.84), abs=0.08)
    assert pruned > before + 0.1                             # "pruning has made it better"?
    assert plain > pruned + 0.02                             # no: the two epochs have
    for code in (articles.PYTORCH_STRUCTURED, articles.parameter_pruning, articles.quantization,
                 articles.knowledge_distillation):
        assert not re.search("accuracy|eval|test", as_printed(code))     # neither article measures anything


def test_step_three_reconstructs_nothing(torch_state):
    assert torch_state["pruned"]["state"]["weight_orig"] == [20, 10, 5, 5]
    net = gc.params.load("simple_cnn_mnist")
    weight = {"weight": net.conv2.weight.data().asnumpy()}
    l1_unstructured(weight, "weight", amount=0.5)
    assert weight["weight_orig"].shape == weight["weight_mask"].shape == net.conv2.weight.shape   # as before
    gc.pruning.prune_channels(net, DIGIT, 0.5, round_to=1)
    assert (net.conv1._channels, net.conv2._channels, net.fc1._in_units) == (5, 10, 160)   # 10, 20, 320
    assert net(DIGIT).shape == (1, 10)


# ---------------------------------------------------------------- MXNet 1.9.1's integers

def integer_layer(emitter_class, weight, scale, x, **attributes):
    """What a convolution with these codes makes of ``x``, whose values are codes: signed if some are negative."""
    attributes = {"kernel": "(1, 1)", "num_filter": str(len(weight)), "no_bias": "True", **attributes}
    layer = Node("layer", "Convolution", attributes, [(len(x), len(weight), *x.shape[2:])])
    emitter = emitter_class({"layer": (weight, scale)}, {})
    signed = bool((x < 0).sum() > 0)
    codes = emitter.quantize("codes", (variable("x", ()), 0), Range(127.0 if signed else 255.0, signed))
    limits = Range(float(127 * np.abs(x.asnumpy()).max() * scale.max() * weight.shape[1]), True)
    return block_of([emitter.dequantize("out", emitter.convolution(layer, codes, limits))], ["x"], emitter.values)(x)


def test_a_code_is_not_a_127th_of_the_threshold():
    for high, low in (127, -1.0), (255, 0.0):
        x = nd.array(np.linspace(low, 1, 5001))
        expected = np.rint(x.asnumpy().astype(np.float64) * high)
        theirs = nd.contrib.quantize_v2(x, out_type="auto", min_calib_range=low, max_calib_range=1.0)[0]
        assert (theirs.asnumpy() != expected).mean() > 0.2
        end = float(threshold_for(1 / high, low < 0))
        ours = nd.contrib.quantize_v2(x, out_type="auto", min_calib_range=low * end, max_calib_range=end)[0]
        assert (ours.asnumpy() != expected).mean() < 0.002


def test_entropy_takes_the_background_for_everything(mnist):
    images = np.concatenate([inputs.asnumpy() for inputs, _ in mnist["train"][:5]])
    assert np.mean(images == images.min()) > 0.8 and -0.43 < images.min() < -0.42
    edges = np.linspace(0, 4, 8193)
    counts = np.histogram(np.abs(images), edges)[0]
    candidates = np.arange(128, np.flatnonzero(counts)[-1] + 2)
    threshold = edges[candidates[np.argmin(divergences(counts, 128, candidates))]]
    assert threshold < 0.43 and np.abs(images).max() > 2.8

    net = gc.params.load("lenet_mnist")
    data = [inputs for inputs, _ in mnist["train"][:5]]
    assert accuracy(lambda x: net(x.clip(-threshold, threshold)), mnist["test"]) < 0.9 < accuracy(net, mnist["test"])
    for method in ("entropy", "mse"):
        int8 = gc.quantization.quantize(net, data, method=method, progress=False)
        assert accuracy(int8, mnist["test"]) > 0.98


def test_a_signed_shortcut_cuts_the_sum():
    one = np.full((1, 1, 1, 1), 127, np.int8), np.float32([1 / 127])
    layer = Node("layer", "Convolution", {"kernel": "(1, 1)", "num_filter": "1", "no_bias": "True"}, [(1, 1, 1, 3)])
    x, shortcut = nd.array([[[[100, 100, 100]]]]), nd.array([[[[50, 0, -50]]]])

    def total(shortcut, kind, bias=()):
        emitter = Int8Emitter({"layer": one}, dict(bias))
        output = Range(255.0, False)
        codes = [emitter.quantize(name, (variable(name[0], ()), 0), limits)
                 for name, limits in (("x codes", output), ("s codes", kind))]
        entry = emitter.dequantize("out", emitter.convolution(layer, codes[0], output, True, codes[1]))
        return block_of([entry], ["x", "s"], emitter.values)(x, shortcut).asnumpy().ravel()
    np.testing.assert_allclose(total(shortcut, Range(127.0, True)), [127, 100, 50], rtol=1e-4)
    ours = total(shortcut + 50, Range(255.0, False), {"layer": np.float32([-50])})
    np.testing.assert_allclose(ours, [150, 100, 50], rtol=1e-4)


def test_grouped_convolutions_are_wrong_on_integers(monkeypatch):
    rng = np.random.default_rng(0)
    weight = rng.integers(-64, 65, size=(8, 4, 1, 1)).astype(np.int8)  # no two products need more than 16 bits
    weight[:, 0], weight[:, 1] = 127, -np.abs(weight[:, 1])
    scale = np.linspace(0.005, 0.02, 8, dtype=np.float32)
    x = nd.array(rng.integers(0, 256, size=(2, 8, 3, 3)))
    monkeypatch.setattr(onednn_emitter, "is_grouped", lambda layer: False)  # as any other convolution
    theirs, exact = (integer_layer(emitter, weight, scale, x, num_group="2").asnumpy()
                     for emitter in (Int8Emitter, SimulatedEmitter))
    assert np.abs(theirs - exact).max() > 0.2 * np.abs(exact).max()
    one_scale = np.full(8, 0.01, np.float32)
    np.testing.assert_array_equal(integer_layer(Int8Emitter, weight, one_scale, x, num_group="2").asnumpy(),
                                  integer_layer(SimulatedEmitter, weight, one_scale, x, num_group="2").asnumpy())

    monkeypatch.undo()
    net = nn.HybridSequential()
    net.add(nn.Conv2D(8, 1, groups=2, in_channels=8), nn.Conv2D(4, 1, in_channels=8))
    net.initialize(mx.init.Normal(0.3))
    int8 = gc.quantization.quantize(net, [x], progress=False)
    assert "0" in int8.record.layers
    expected = net(x).asnumpy()
    assert np.abs(int8(x).asnumpy() - expected).max() < 0.04 * np.abs(expected).max()


def test_rint_is_not_what_the_kernels_do():
    halves = nd.array([0.5, 1.5, 2.5, 3.5, -0.5, -1.5])
    assert nd.rint(halves).asnumpy().tolist() != np.rint(halves.asnumpy()).tolist()
    end = float(threshold_for(1.0, True))
    kernels = nd.contrib.quantize_v2(halves, out_type="auto", min_calib_range=-end, max_calib_range=end)[0]
    assert kernels.asnumpy().tolist() == np.rint(halves.asnumpy()).tolist()
    ours = block_of([half_to_even("codes", (variable("x", ()), 0))], ["x"], {})(halves)
    assert ours.asnumpy().tolist() == np.rint(halves.asnumpy()).tolist()


# ---------------------------------------------------------------- both articles, read a second time

def test_compression_does_not_raise_the_accuracy(mnist, tmp_path):
    net = gc.params.load("lenet_mnist")
    before, size = gc.training.evaluate(net, mnist["test"]), saved_bytes(net, tmp_path / "before.params")
    masks = gc.pruning.prune_magnitude(net, 0.9, scope="global")
    after = gc.training.evaluate(net, mnist["test"])
    assert (1000 * before, 1000 * after) == pytest.approx((993, 990), abs=1.5) and after < before
    assert gc.save(tmp_path / "small.gcz", net, masks) < size / 8


def test_the_lenet_is_not_lenet():
    published = gc.models.LeNet5Caffe()
    published.initialize()
    published(DIGIT)
    theirs = articles_lenet()
    assert (trained_parameters(theirs), trained_parameters(published)) == (170_988, 431_080)
    assert theirs.conv[2].weight.shape[2:] == (3, 3) and theirs.dense[0].weight.shape[0] == 128
    assert value(published, "features.2.weight").shape[2:] == (5, 5)
    assert value(published, "features.5.weight").shape[0] == 500
    assert "not LeCun's network: the second kernel is 3x3" in gc.models.LeNet.__doc__


def test_the_alexnet_leaves_five_pixels_instead_of_six():
    theirs = articles.AlexNet()
    theirs.features.initialize()
    first, rest = theirs.features[0], list(theirs.features)[1:]
    wider = nn.Conv2D(96, 11, strides=4, padding=2, in_channels=3)
    wider.initialize()
    for stem, pixels, left in ((first, 224, 5), (first, 227, 6), (wider, 224, 6)):
        x = stem(nd.zeros((1, 3, pixels, pixels)))
        for layer in rest:
            x = layer(x)
        assert x.shape == (1, 256, left, left)
    assert (5 * 5 * 256, 6 * 6 * 256) == (6_400, 9_216)
    assert vision.alexnet().features[0]._kwargs["pad"] == (2, 2)
    assert not any(isinstance(layer, nn.Dropout) for part in (theirs.features, theirs.dense) for layer in part)


class WithTheArticlesLine(gluon.HybridBlock):
    """A HybridBlock in which the article's line stands, or what replaces it."""

    def __init__(self, flatten):
        super().__init__()
        self.flatten, self.dense = flatten, nn.Dense(10)

    def hybrid_forward(self, F, conv):
        return self.dense(self.flatten(F, conv))


def test_a_shape_in_forward_stops_tracing():
    x = nd.ones((2, 3, 4, 4))
    for flatten, traced in ((lambda F, conv: conv.reshape(conv.shape[0], -1), False),
                            (lambda F, conv: F.flatten(conv), True), (lambda F, conv: conv, True)):
        net = WithTheArticlesLine(flatten)
        net.initialize()
        assert net(x).shape == (2, 10)
        net.hybridize()
        if traced:
            assert net(x).shape == (2, 10)
        else:
            with pytest.raises(AttributeError, match="'Symbol' object has no attribute 'shape'"):
                net(x)


def test_names_count_on_through_the_session(tmp_path):
    def names(net):
        return [name.removeprefix(net.prefix) for name in net.collect_params()]
    first, second = articles.LeNet(), articles.LeNet()
    assert names(first) != names(second)
    assert names(articles.build_small_model()) == names(articles.build_small_model())   # with name_scope()
    assert names(gc.models.LeNet()) == names(gc.models.LeNet())
    model = articles_lenet()
    model.collect_params().save(str(tmp_path / "by_name.params"))
    with pytest.raises(AssertionError, match="missing in file"):
        second.collect_params().load(str(tmp_path / "by_name.params"), ctx=mx.cpu())
    masks = gc.pruning.prune_threshold(gc.params.load("lenet_mnist"), 0.1)
    assert list(masks.kept) == ["conv.0.weight", "conv.2.weight"]


def test_quantized_weights_save_no_computation(mnist):
    def operators(net):
        return [node.operator for node in Graph(net).nodes if node.operator != "null"]
    net = gc.params.load("lenet_mnist")
    before, work = operators(net), macs(net, DIGIT)
    articles.quantization(net)
    assert operators(net) == before and macs(net, DIGIT) == work and net(DIGIT).dtype == np.float32
    int8 = gc.quantization.quantize(gc.params.load("lenet_mnist"), [mnist["train"][0][0]], progress=False)
    layers = sum(operator in ("Convolution", "FullyConnected") for operator in before)
    assert sum(operator.startswith("_sg_mkldnn_") for operator in operators(int8)) == layers == 4
    assert not {"Convolution", "FullyConnected"} & set(operators(int8))


def test_one_scale_for_a_whole_tensor():
    def error(weight, axis, **how):
        codes, scale = gc.quantization.quantize_array(weight, 4, axis=axis, **how)
        shape = (-1,) + (1,) * (weight.ndim - 1) if axis == 0 else ()
        return float(np.square(codes * np.reshape(scale, shape) - weight).sum())
    ratios = []
    for name in ("lenet_mnist", "simple_cnn_mnist"):
        for key, weight in snapshot(gc.params.load(name)).items():
            if key.endswith("weight"):
                whole, channels = error(weight, None), error(weight, 0)
                ratios.append(whole / channels)
                assert error(weight, 0, clip="mse") <= channels
    assert (min(ratios), max(ratios)) == pytest.approx((2.4, 7.5), abs=0.1)
    theirs, ours = gc.params.load("simple_cnn_mnist"), gc.params.load("simple_cnn_mnist")
    articles.quantization(theirs)
    largest = np.abs(value(theirs, "conv2.weight")).reshape(20, -1).max(axis=1)
    assert largest.max() == 1 and largest.min() < 0.6      # of the grid its channels do not use all
    scales = gc.quantization.quantize_weights(ours)
    assert np.abs(scales.codes(ours)["conv2.weight"]).reshape(20, -1).max(axis=1).tolist() == [127] * 20


def test_biases_before_batchnorm_change_nothing():
    for net in (articles.ResNet().features, articles.build_small_model()):
        conv, norm = net[0], net[1]
        assert isinstance(norm, nn.BatchNorm) and conv.bias is not None
        conv.initialize()
        norm.initialize()
        x = nd.array(np.random.RandomState(0).randn(4, 3, 16, 16))

        def trained(conv=conv, norm=norm, x=x):
            with autograd.record():
                return norm(conv(x)).asnumpy()
        before = trained()
        conv.bias.set_data(nd.array(np.random.RandomState(1).randn(*conv.bias.shape)))
        np.testing.assert_allclose(trained(), before, atol=1e-4)
    assert gc.models.ResNet(depth=18).features[0].bias is None


def test_frozen_parameters_stay_frozen():
    model = articles_lenet()
    articles.parameter_pruning(model, 0.1)
    model.load_parameters(str(gc.params.path("lenet_mnist")))       # the original values
    weight = model.conv[2].weight
    assert weight.data().asnumpy().all() and weight.grad_req == "null"
    net = gc.params.load("lenet_mnist")
    masks = gc.pruning.prune_threshold(net, 0.1)
    gc.pruning.MaskedTrainer(net, masks, "sgd", {"learning_rate": 0.01})
    assert {parameter.grad_req for parameter in net.collect_params().values()} == {"write"}
    masks.freeze(net).collect_params().setattr("grad_req", "write")
    assert net.conv[2].weight.grad_req == "write"


def test_a_view_of_fixed_width_regroups_the_batch(torch_state):
    maps = {"as in the article": (64, 20, 4, 4), "10 channels removed": (64, 10, 4, 4), "32x32 images": (64, 20, 5, 5)}
    rows = {name: np.zeros(shape).reshape(-1, 320).shape[0] for name, shape in maps.items()}
    assert rows == torch_state["rows of view(-1, 320)"] == {
        "as in the article": 64, "10 channels removed": 32, "32x32 images": 100}
    fc1 = nn.Dense(50, in_units=320)
    fc1.initialize()
    with pytest.raises(mx.MXNetError):                       # flattened by image it does not fit, and says so
        fc1(nd.flatten(nd.zeros(maps["10 channels removed"]))).wait_to_read()
    net = gc.params.load("simple_cnn_mnist")
    gc.pruning.prune_channels(net, DIGIT, {"conv2": 0.5}, round_to=1)
    assert net(nd.zeros((64, 1, 28, 28))).shape == (64, 10)


def test_the_masks_are_never_removed(torch_state, tmp_path):
    assert "prune.remove" not in articles.PYTORCH_STRUCTURED
    pruned, removed = torch_state["pruned"], torch_state["removed"]
    assert "weight" not in pruned["parameters"] and pruned["hooks before the forward pass"] == 1
    assert torch_state["loading the pruned state"].startswith("RuntimeError: Error(s) in loading state_dict")
    assert removed["parameters"] == torch_state["as built"]["parameters"]
    assert removed["hooks before the forward pass"] == 0 and removed["zeros"] == 2500
    net, fresh = gc.params.load("simple_cnn_mnist"), gc.models.SimpleCNN()
    before = [node.operator for node in Graph(net).nodes]
    gc.pruning.prune_magnitude(net, 0.5)
    assert [node.operator for node in Graph(net).nodes] == before
    saved_bytes(net, tmp_path / "pruned.params")
    fresh.load_parameters(str(tmp_path / "pruned.params"))
    assert np.array_equal(fresh(DIGIT).asnumpy(), net(DIGIT).asnumpy())


def test_there_are_more_than_two_kinds():
    net = gc.params.load("simple_cnn_mnist")
    shape = net.fc1.weight.shape
    gc.pruning.prune_n_m(net, n=2, m=4)
    weight = value(net, "fc1.weight")
    assert weight.shape == shape and weight.any(axis=1).all()                      # not structured: no unit goes
    assert (np.count_nonzero(weight.reshape(-1, 4), axis=1) <= 2).all()            # and yet regular
    gc.pruning.prune_magnitude(other := gc.params.load("simple_cnn_mnist"), 0.5)
    assert (np.count_nonzero(value(other, "fc1.weight").reshape(-1, 4), axis=1) > 2).any()


def test_pruning_does_not_make_training_cheaper():
    assert "for epoch in range(10):" in articles.PYTORCH_STRUCTURED
    assert gc.params.manifest()["simple_cnn_mnist"]["epochs"] == 30
    net = gc.params.load("simple_cnn_mnist")
    before = macs(net, DIGIT)
    gc.pruning.prune_magnitude(net, 0.5)
    assert macs(net, DIGIT) == before and trained_parameters(net) == 21_840        # of each step, as before
    gc.pruning.prune_channels(net, DIGIT, 0.5)
    assert macs(net, DIGIT) < before / 2


def test_no_channel_is_ranked():
    weight = gc.params.load("simple_cnn_mnist").conv2.weight.data().asnumpy()
    mask = l1_unstructured({"weight": weight}, "weight", amount=0.5)["weight_mask"]
    kept = mask.mean(axis=(1, 2, 3))
    assert (kept.min(), kept.max()) == pytest.approx((0.16, 0.92), abs=0.005)
    net = gc.params.load("simple_cnn_mnist")
    gc.pruning.prune_channels(net, DIGIT, {"conv2": 0.5}, criterion="l1", round_to=1)
    largest = np.sort(np.argsort(np.abs(weight).sum(axis=(1, 2, 3)))[10:])
    assert np.array_equal(value(net, "conv2.weight"), weight[largest])


def test_influence_depends_on_how_much_goes(mnist):
    def accuracy_without(prune, *arguments, **how):
        net = gc.params.load("simple_cnn_mnist")
        prune(net, *arguments, **how)
        return gc.training.evaluate(net, mnist["test"])
    whole = accuracy_without(lambda net: None)
    channels = {ratio: accuracy_without(gc.pruning.prune_channels, DIGIT, ratio, "l2", round_to=1)
                for ratio in (0.1, 0.5)}
    weights = {sparsity: accuracy_without(gc.pruning.prune_magnitude, sparsity, scope="global")
               for sparsity in (0.5, 0.9)}
    assert whole - channels[0.1] < 0.02 and whole - weights[0.9] > 0.25
    assert channels[0.5] < weights[0.5] - 0.4
    single = recorded_rows("04_unstructured_pruning_simple_cnn")["80 % pruned, fine-tuned"]
    whole_channels = recorded_rows("05_structured_pruning_simple_cnn")["40 % of the channels, fine-tuned"]
    assert (round(100 * single["accuracy"], 2), single["nonzeros"]) == (98.80, 4_440)
    assert (round(100 * whole_channels["accuracy"], 2), whole_channels["nonzeros"]) == (98.08, 8_068)
    assert whole_channels["milliseconds"] < 0.8 * single["milliseconds"]


def test_the_example_is_no_large_model():
    net = gc.params.load("simple_cnn_mnist")
    assert trained_parameters(net) == 21_840
    operators = Counter(node.operator for node in Graph(net).nodes)
    assert operators["Convolution"] == 2 and not {"BatchNorm", "elemwise_add", "broadcast_add"} & set(operators)
    tutorial = {node.operator for node in Graph(gc.params.load("resnet18_cifar10")).nodes}
    assert {"BatchNorm", "elemwise_add"} <= tutorial


def test_retraining_is_not_fine_tuning():
    for folder, ratios in ((RESULTS, [0.2, 0.4, 0.6, 0.8]), (RESULTS / "quick", [0.2, 0.4, 0.8])):
        numbers = json.loads((folder / "05_structured_pruning_simple_cnn.json").read_text())["numbers"]
        curves = numbers["held-out accuracy by fraction of channels removed"]
        tuned, scratch = (dict(map(tuple, curves[way])) for way in ("L1, fine-tuned", "from scratch"))
        assert list(tuned) == list(scratch) == ratios
        assert all(0.01 <= tuned[ratio] - scratch[ratio] <= 0.04 for ratio in tuned)


def test_distillation_makes_nothing_smaller():
    rows = recorded_rows("03_distillation_resnet")
    alone, taught = rows["SmallConvNet, labels alone"], rows["SmallConvNet, distilled"]
    assert alone["bytes"] == taught["bytes"] == 332_332 and alone["macs"] == taught["macs"]
    assert (round(100 * alone["accuracy"], 2), round(100 * taught["accuracy"], 2)) == (53.12, 56.86)
    student, teacher = small_net(seed=1), small_net()
    before = trained_parameters(student), trained_parameters(teacher)
    gc.distillation.distill(student, teacher, [(patches(), nd.zeros(32))], epochs=1, progress=False)
    assert (trained_parameters(student), trained_parameters(teacher)) == before


def test_a_masked_channel_still_puts_out_its_bias(torch_state, mnist):
    assert "bias" in torch_state["ln_structured"]["state"]          # neither masked nor gone
    images = mnist["test"][0][0][:16]
    pruned, weights_zero, both_zero = (gc.params.load("simple_cnn_mnist") for _ in range(3))
    plan = gc.pruning.prune_channels(pruned, DIGIT, {"fc1": 0.5}, round_to=1)
    gone = np.setdiff1d(np.arange(50), next(cut["kept"] for cut in plan.slices if cut["parameter"] == "fc1.bias"))
    for net, names in ((weights_zero, ["weight"]), (both_zero, ["weight", "bias"])):
        for name in names:
            array = value(net, f"fc1.{name}")
            array[gone] = 0
            getattr(net.fc1, name).set_data(nd.array(array))
    bias = value(weights_zero, "fc1.bias")[gone]
    still = weights_zero.fc1(nd.array(np.random.RandomState(0).randn(3, 320))).asnumpy()[:, gone]
    np.testing.assert_allclose(still, np.broadcast_to(bias, still.shape), atol=1e-6)      # whatever goes in
    assert (len(gone), (bias > 0).sum()) == (25, 11)
    expected = both_zero(images).asnumpy()
    assert np.abs(weights_zero(images).asnumpy() - expected).max() > 0.1
    np.testing.assert_allclose(pruned(images).asnumpy(), expected, rtol=1e-4, atol=1e-4)
    conv2 = gc.params.load("simple_cnn_mnist").conv2
    least = np.argsort(np.abs(conv2.weight.data().asnumpy()).sum(axis=(1, 2, 3)))[:10]
    assert (conv2.bias.data().asnumpy()[least] < 0).all()


def test_no_training_follows():
    assert not re.search("Trainer|record|loss|backward|step", as_printed(articles.parameter_pruning))
    rows = recorded_rows("01_threshold_pruning_lenet")
    pruned, trained = (rows[name] for name in (
        "all layers, threshold 0.07, not fine-tuned", "... survivors trained (MaskedTrainer)"))
    assert pruned["nonzeros"] == trained["nonzeros"] < 170_988 / 10
    assert (round(100 * pruned["accuracy"], 2), round(100 * trained["accuracy"], 2)) == (98.79, 99.22)


def test_each_layer_is_judged_by_itself(mnist):
    def left(scope, sparsity):
        net = gc.params.load("simple_cnn_mnist")
        gc.pruning.prune_magnitude(net, sparsity, scope=scope)
        return round(100 * gc.training.evaluate(net, mnist["test"]), 1)
    assert articles.PYTORCH_UNSTRUCTURED.count("prune.l1_unstructured(net.") == 2   # a call for each layer
    assert round(100 * gc.training.evaluate(gc.params.load("simple_cnn_mnist"), mnist["test"]), 1) == 98.3
    assert (left("layer", 0.5), left("layer", 0.8)) == (95.0, 34.5)
    assert (left("global", 0.5), left("global", 0.8)) == (98.5, 96.3)


def test_a_norm_is_not_a_contribution(mnist):
    plain, scaled = (gc.params.load("simple_cnn_mnist") for _ in range(2))
    norms = np.abs(value(plain, "conv2.weight")).sum(axis=(1, 2, 3))
    least = int(np.argmin(norms))
    for name, factor, index in (("conv2.weight", 100, least), ("conv2.bias", 100, least),
                                ("fc1.weight", 0.01, np.s_[:, 16 * least:16 * least + 16])):
        array = value(scaled, name)
        array[index] *= np.float32(factor)
        parameters(scaled)[name].set_data(nd.array(array))
    images = mnist["test"][0][0][:16]
    np.testing.assert_allclose(scaled(images).asnumpy(), plain(images).asnumpy(), rtol=1e-4, atol=1e-3)
    assert np.argmax(np.abs(value(scaled, "conv2.weight")).sum(axis=(1, 2, 3))) == least

    def kept(net, criterion):
        copy = gc.models.SimpleCNN()
        copy.initialize()
        copy(DIGIT)
        restore_snapshot(copy, snapshot(net))
        return gc.pruning.prune_channels(copy, DIGIT, {"conv2": 0.5}, criterion, round_to=1).layers["conv2"]["kept"]
    assert least not in kept(plain, "l1") and least in kept(scaled, "l1")
    data = mnist["train"][:5]
    assert kept(plain, gc.pruning.Taylor(data)) == kept(scaled, gc.pruning.Taylor(data))


# ---------------------------------------------------------------- the page itself

def test_every_entry_has_its_test_and_every_test_its_entry():
    entries = re.split(r"^### ", ERRATA.read_text(encoding="utf-8"), flags=re.MULTILINE)[1:]
    assert [int(entry.split(".")[0]) for entry in entries] == list(range(1, len(entries) + 1))
    named = []
    for entry in entries:
        for part in ("Where", "Says", "Does", "Correct", "Test"):
            assert len(re.findall(rf"^- \*\*{part}:\*\* \S", entry, flags=re.MULTILINE)) == 1, (part, entry)
        named += re.findall(r"`tests/test_errata\.py::(test_\w+)`", entry)
    assert len(named) == len(entries)
    tests = [name for name, thing in globals().items() if name.startswith("test_") and callable(thing)]
    assert named == tests[:-1]                               # all but this one, in the order of the page
