"""Networks that Module trained go through every technique as Gluon's do, and back to Module."""
import functools
import tempfile

import gluon_compress as gc

import mxnet as mx  # noqa: I001
import numpy as np
import pytest
from gluon_compress.export import write_checkpoint
from gluon_compress.pruning import GradualPruner, MaskedTrainer, prune_channels, prune_magnitude
from gluon_compress.quantization import prepare_qat, quantize, quantize_weights
from modules import face_network, lenet, predicted, trained, two_inputs
from mxnet.gluon import Trainer
from mxnet.gluon.loss import SoftmaxCrossEntropyLoss

CLASSES = 5
SHAPES = {"lenet": {"data": (8, 3, 12, 12)}, "face": {"data": (8, 3, 12, 12)},
          "two inputs": {"image": (8, 3, 8, 8), "vector": (8, 4)}}
MAKE = {"lenet": lenet, "face": functools.partial(face_network, CLASSES), "two inputs": two_inputs}


@functools.cache
def prefix_of(name):
    """A checkpoint that Module trained and saved; made once."""
    label = {"label_shape": (8, 2), "labels": ("lro_label",)} if name == "two inputs" else {}
    prefix = f"{tempfile.mkdtemp()}/net"
    trained(MAKE[name](), SHAPES[name], **label)[0].save_checkpoint(prefix, 2)
    return prefix


def opened(name, **options):
    """``(network, tuple of a batch of its inputs)``."""
    chance = np.random.RandomState(3)
    return gc.load(prefix_of(name), **options), tuple(mx.nd.array(chance.randn(*shape))
                                                      for shape in SHAPES[name].values())


def batches(inputs):
    labels = mx.nd.array(np.arange(8) % CLASSES)
    return [(inputs[0] if len(inputs) == 1 else inputs, labels)] * 2


def close(one, other, rtol=1e-4):
    np.testing.assert_allclose(one.asnumpy(), other.asnumpy(), rtol=rtol, atol=1e-5)


NAMES = pytest.mark.parametrize("name", MAKE)
CLASSIFIERS = pytest.mark.parametrize("name", ["lenet", "face"])


@NAMES
def test_channels_are_removed_and_the_plan_fits_a_fresh_copy(name, tmp_path):
    net, inputs = opened(name)
    before = sum(parameter.data().size for parameter in gc.network.parameters(net).values())
    plan = prune_channels(net, inputs, 0.5, round_to=1)
    assert sum(parameter.data().size for parameter in gc.network.parameters(net).values()) < 0.8 * before
    copy, _ = opened(name)
    plan.apply(copy)
    close(copy(*inputs), net(*inputs))
    gc.save(tmp_path / "net.gcz", net, plan, example=inputs)
    close(gc.load(tmp_path / "net.gcz")(*inputs), net(*inputs))
    close(gc.load(tmp_path / "net.gcz", opened(name)[0])(*inputs), net(*inputs))


@NAMES
def test_masked_and_quantized_weights_are_saved_and_loaded(name, tmp_path):
    net, inputs = opened(name)
    masks, scales = prune_magnitude(net, 0.7), quantize_weights(net)
    gc.save(tmp_path / "net.gcz", net, masks, scales, example=inputs)
    other = gc.load(tmp_path / "net.gcz")
    close(other(*inputs), net(*inputs))
    for key, parameter in gc.network.parameters(other).items():
        assert np.array_equal(parameter.data().asnumpy(), gc.network.parameters(net)[key].data().asnumpy())


@CLASSIFIERS
def test_masks_stay_under_a_trainer(name):
    net, inputs = opened(name, head="logits")
    masks = prune_magnitude(net, 0.6)
    trainer = MaskedTrainer(net, masks, "sgd", {"learning_rate": 0.1, "momentum": 0.9, "wd": 1e-3})
    before = net(*inputs).asnumpy()
    gc.training.fit(net, batches(inputs), 2, trainer, progress=False)
    assert not np.allclose(net(*inputs).asnumpy(), before)
    for key, kept in masks.kept.items():
        assert not gc.network.parameters(net)[key].data().asnumpy()[~kept].any()


@CLASSIFIERS
def test_it_is_trained_on(name):
    net, inputs = opened(name, head="logits")
    loss = SoftmaxCrossEntropyLoss()
    before = loss(net(*inputs), batches(inputs)[0][1]).mean().asscalar()
    gc.training.fit(net, batches(inputs), 6, Trainer(net.collect_params(), "sgd", {"learning_rate": 0.02}),
                    progress=False)
    assert loss(net(*inputs), batches(inputs)[0][1]).mean().asscalar() < before


def test_it_is_a_teacher_and_a_student():
    teacher, inputs = opened("face", head="logits")
    student, _ = opened("lenet", head="logits")

    def apart():
        return np.square(mx.nd.softmax(student(*inputs)).asnumpy() - mx.nd.softmax(teacher(*inputs)).asnumpy()).mean()
    before = apart()
    gc.distillation.distill(student, teacher, batches(inputs), 8, hard_weight=0,
                            trainer=Trainer(student.collect_params(), "sgd", {"learning_rate": 0.05}), progress=False)
    assert apart() < before


@CLASSIFIERS
def test_gradual_pruning_reaches_its_share(name):
    net, inputs = opened(name, head="logits")
    pruner = GradualPruner(net, 0.8, steps=4)
    trainer = MaskedTrainer(net, pruner, "sgd", {"learning_rate": 0.01})
    gc.training.fit(net, batches(inputs), 2, trainer, progress=False)
    weights = [parameter.data().asnumpy() for key, parameter in gc.network.parameters(net).items()
               if key.endswith("weight")]
    assert sum((weight == 0).sum() for weight in weights) >= 0.75 * sum(weight.size for weight in weights)


@NAMES
def test_integers_compute_nearly_the_same(name, tmp_path):
    net, inputs = opened(name)
    data = [inputs[0]] if len(inputs) == 1 else [inputs]
    expected = net(*inputs).asnumpy()
    integers = quantize(net, data, simulate=True)
    error = np.abs(integers(*inputs).asnumpy() - expected).max()
    assert error < 0.1 * np.abs(expected).max(), error
    gc.save(tmp_path / "net.gcz", integers)
    close(gc.load(tmp_path / "net.gcz", simulate=True)(*inputs), integers(*inputs))


@CLASSIFIERS
def test_quantization_aware_training_ends_in_integers(name):
    net, inputs = opened(name, head="logits")
    qat = prepare_qat(net, [inputs[0]])
    gc.training.fit(qat, batches(inputs), 1, Trainer(qat.collect_params(), "sgd", {"learning_rate": 1e-3}),
                    progress=False)
    integers = qat.convert(simulate=True)
    assert integers(*inputs).shape == (8, CLASSES)


@NAMES
def test_reports_name_its_layers(name):
    net, inputs = opened(name)
    layers = {"lenet": ["conv1", "fc2"], "face": ["unit_conv2", "pre_fc1"], "two inputs": ["conv", "side"]}
    assert all(f"\n{layer} " in str(gc.report(net, inputs)) for layer in layers[name])


# ---- and back

@NAMES
def test_a_pruned_network_goes_back_to_module(name, tmp_path):
    net, inputs = opened(name)
    prune_channels(net, inputs, 0.5, round_to=1)
    prefix = str(tmp_path / "small")
    files = write_checkpoint(net, prefix, inputs, epoch=4)
    assert [path.name for path in files] == ["small-symbol.json", "small-0004.params"]
    found = predicted(prefix, 4, SHAPES[name], list(inputs), ())
    np.testing.assert_allclose(found[0], net(*inputs).asnumpy(), rtol=1e-4, atol=1e-5)
    assert {key[:4] for key in mx.nd.load(str(files[1]))} <= {"arg:", "aux:"}  # as DJL reads them
    close(gc.load(prefix)(*inputs), net(*inputs))


LOSSES = {"lenet": ("SoftmaxOutput", ("softmax_label",), (8,)), "face": ("SoftmaxOutput", ("softmax_label",), (8,)),
          "two inputs": ("LinearRegressionOutput", ("softmax_label",), (8, 2))}


@NAMES
@pytest.mark.parametrize("head", ["softmax", "logits"])
def test_module_trains_on_with_the_loss_put_back(name, head, tmp_path):
    net, inputs = opened(name, head=head)
    prune_channels(net, inputs, 0.5, round_to=1)
    loss, labels, shape = LOSSES[name]
    prefix = str(tmp_path / "small")
    write_checkpoint(net, prefix, inputs, loss_head=loss)
    module = mx.mod.Module.load(prefix, 0, data_names=list(SHAPES[name]), label_names=list(labels))
    module.bind(list(SHAPES[name].items()), [(labels[0], shape)])
    module.init_optimizer(optimizer_params={"learning_rate": 0.1})
    batch = mx.io.DataBatch(list(inputs), [mx.nd.zeros(shape)])
    module.forward(batch, is_train=False)
    first = module.get_outputs()[0].asnumpy()
    expected = net(*inputs)
    expected = expected if head == "softmax" or name == "two inputs" else mx.nd.softmax(expected)
    np.testing.assert_allclose(first, expected.asnumpy(), rtol=1e-4, atol=1e-5)
    for _ in range(5):
        module.forward_backward(batch)
        module.update()
    module.forward(batch, is_train=False)
    after = module.get_outputs()[0].asnumpy()
    assert (after[:, 0].mean() > first[:, 0].mean() if shape == (8,) else np.abs(after).mean() < np.abs(first).mean())
    close(gc.load(prefix, head=head)(*inputs), net(*inputs))


def test_a_network_of_gluon_goes_to_module_with_a_loss(tmp_path):
    net = gc.models.LeNet()
    net.initialize()
    data = mx.nd.random.normal(shape=(8, 1, 28, 28))
    expected = mx.nd.softmax(net(data)).asnumpy()
    write_checkpoint(net, tmp_path / "net", data, loss_head="SoftmaxOutput")
    np.testing.assert_allclose(predicted(str(tmp_path / "net"), 0, {"data": data.shape}, [data])[0], expected,
                               rtol=1e-4, atol=1e-6)


def test_a_loss_needs_one_output(tmp_path):
    symbol = mx.sym.Group([mx.sym.FullyConnected(mx.sym.var("data"), num_hidden=2, name=f"fc{n}") for n in range(2)])
    net = mx.gluon.SymbolBlock(symbol, mx.sym.var("data", dtype="float32"))
    net.initialize()
    net(mx.nd.ones((1, 3)))
    with pytest.raises(gc.NetworkError, match="2 outputs; accepted: one"):
        write_checkpoint(net, tmp_path / "net", loss_head="SoftmaxOutput")
    assert not list(tmp_path.iterdir())


def test_names_need_not_be_ascii(tmp_path):
    """MXNet reads UTF-8 in a graph, and none of JSON's escapes."""
    symbol = mx.sym.FullyConnected(mx.sym.var("图像"), num_hidden=4, name="第一层")
    symbol = mx.sym.FullyConnected(mx.sym.relu(symbol, name="激活"), num_hidden=3, name="слой")
    shapes = {"图像": (8, 5)}
    module, inputs = trained(mx.sym.SoftmaxOutput(symbol, name="softmax"), shapes)
    module.save_checkpoint(str(tmp_path / "net"), 0)
    net = gc.load(tmp_path / "net")
    expected = predicted(str(tmp_path / "net"), 0, shapes, inputs)
    np.testing.assert_allclose(net(*inputs).asnumpy(), expected[0], rtol=1e-5)
    plan = prune_channels(net, inputs[0], 0.5, round_to=1)
    gc.save(tmp_path / "net.gcz", net, plan)
    close(gc.load(tmp_path / "net.gcz")(*inputs), net(*inputs))
    write_checkpoint(net, tmp_path / "small", inputs[0])
    np.testing.assert_allclose(predicted(str(tmp_path / "small"), 0, shapes, inputs, ())[0], net(*inputs).asnumpy(),
                               rtol=1e-5)
