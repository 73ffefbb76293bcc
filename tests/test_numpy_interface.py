"""Networks and data of MXNet's NumPy interface (``npx.set_np()``): what holds for classic ones, with the same bits."""
import contextlib
import tempfile

import gluon_compress as gc
import mxnet as mx
import numpy as np
import pytest
from mxnet import autograd, gluon
from mxnet.gluon import nn

from gluon_compress.distillation import DistillationLoss, FeatureLoss, FeatureMatcher, cache_logits, distill
from gluon_compress.network import parameters, restore_snapshot, snapshot
from gluon_compress.pruning import ChannelPenalty, GradualPruner, MaskedTrainer, Taylor
from gluon_compress.quantization import prepare_qat, quantize

IMAGES = np.random.RandomState(0).uniform(-1, 1, (24, 2, 8, 8)).astype(np.float32)
LABELS = (np.arange(24) % 5).astype(np.float32)


@contextlib.contextmanager
def mode(numpy):
    """MXNet in the mode of ``npx.set_np()``, or out of it."""
    before = mx.util.is_np_array()
    (mx.npx.set_np if numpy else mx.npx.reset_np)()
    try:
        yield
    finally:
        (mx.npx.set_np if before else mx.npx.reset_np)()


@pytest.fixture(autouse=True)
def classic_mode():
    """Each test begins and ends in the classic mode, in which the other tests run."""
    assert not mx.util.is_np_array() and not mx.util.is_np_shape()
    yield
    mx.npx.reset_np()


def fresh(numpy, width=8, hybridize=False, seed=0):
    """A network of one interface; those of both interfaces have the same weights."""
    def layers():
        net = nn.HybridSequential(prefix="net_")
        with net.name_scope():
            net.add(nn.Conv2D(width, 3, padding=1, use_bias=False), nn.BatchNorm(), nn.Activation("relu"),
                    nn.MaxPool2D(2), nn.Conv2D(width, 3, activation="relu"), nn.Flatten(),
                    nn.Dense(16, activation="relu"), nn.Dropout(0.5), nn.Dense(5))
        return net
    net = initialized(layers, numpy, seed)
    if hybridize:
        net.hybridize()
    return net


def initialized(make, numpy, seed=0):
    """The network that ``make`` gives in the mode of an interface, with weights from the seed."""
    with mode(numpy):
        net = make()
        net.initialize()
        net(array(IMAGES[:2], numpy))
        random = np.random.RandomState(seed)
        restore_snapshot(net, {name: value if "running" in name else random.normal(0, 0.2, value.shape).astype("f")
                               for name, value in snapshot(net).items()})
    return net


def array(values, numpy):
    return mx.np.array(values) if numpy else mx.nd.array(values)


def batches(kind):
    """Batches of NumPy arrays, or of MXNet's of one interface."""
    return [tuple(part if kind == "plain" else array(part, kind == "numpy") for part in (IMAGES[at:at + 8],
                                                                                         LABELS[at:at + 8]))
            for at in range(0, 24, 8)]


# What each function gives, as plain data: called with a network, whether it is a NumPy one, a batch and batches.

def _fit(net, numpy, example, data):
    return gc.training.fit(net, data, 2, validation_data=data, progress=False).epochs


def _with_masks(net, numpy, example, data):
    masks = gc.pruning.prune_magnitude(net, 0.5)
    trainer = MaskedTrainer(net, masks, "adam", {"learning_rate": 0.01})
    return gc.training.fit(net, data, 1, trainer, progress=False).epochs, masks.to_dict()


def _gradually(net, numpy, example, data):
    pruner = GradualPruner(net, 0.8, steps=4)
    gc.training.fit(net, data, 2, MaskedTrainer(net, pruner, "sgd", {"momentum": 0.9}), progress=False)
    return pruner.masks.to_dict()


def _penalty(net, numpy, example, data):
    penalty = ChannelPenalty(net, example, 0.1, "group_lasso")
    mx.random.seed(0)
    with mode(numpy), autograd.record():
        gluon.loss.SoftmaxCELoss()(net(array(IMAGES, numpy)), array(LABELS, numpy)).backward()
    penalty.add_gradients(8)
    return penalty.value(), {name: each.grad().asnumpy() for name, each in parameters(net).items()
                             if each.grad_req != "null"}


def _int8(net, numpy, example, data):
    int8 = quantize(net, data, simulate=True, equalize=True, progress=False, max_accuracy_drop=1,
                    evaluate=lambda net: gc.training.evaluate(net, data))
    return int8.record.to_dict(), int8(array(IMAGES, numpy)).asnumpy(), repr(gc.report(int8, example))


def _qat(net, numpy, example, data):
    qat = prepare_qat(net, data, bits=4, progress=False)
    gc.training.fit(qat, data, 1, progress=False)
    return qat(array(IMAGES, numpy)).asnumpy(), qat.convert(simulate=True)(array(IMAGES, numpy)).asnumpy()


def _distill(net, numpy, example, data):
    teacher = fresh(numpy, width=12, seed=1)
    features = [FeatureLoss("4", "4", kind) for kind in ("hint", "attention", "similarity", "relational")]
    mx.random.seed(0)
    return (distill(net, teacher, data, 1, progress=False).epochs,
            distill(net, [teacher, fresh(not numpy, seed=2)], data, 1, progress=False).epochs,
            distill(net, teacher, data, 1, features=features[1:], progress=False).epochs)


CALLS = {
    "report": lambda net, numpy, example, data: str(gc.report(net, example)),
    "evaluate": lambda net, numpy, example, data: gc.training.evaluate(net, data),
    "prune_magnitude": lambda net, numpy, example, data: gc.pruning.prune_magnitude(net, 0.5).to_dict(),
    "prune_random": lambda net, numpy, example, data: gc.pruning.prune_random(net, 0.5, seed=3).to_dict(),
    "prune_n_m": lambda net, numpy, example, data: gc.pruning.prune_n_m(net, 2, 4, select="Dense").to_dict(),
    "prune_channels": lambda net, numpy, example, data: gc.pruning.prune_channels(net, example, ratio=0.5).to_dict(),
    "taylor": lambda net, numpy, example, data:
        gc.pruning.prune_channels(net, example, ratio=0.5, criterion=Taylor(data)).to_dict(),
    "reestimate_batch_norm": lambda net, numpy, example, data:
        gc.pruning.reestimate_batch_norm(net, data, progress=False),
    "sensitivity": lambda net, numpy, example, data: gc.pruning.measure_sensitivity(
        net, lambda net: gc.training.evaluate(net, data), fractions=[0.3, 0.6], progress=False).to_dict(),
    "channel sensitivity": lambda net, numpy, example, data: gc.pruning.measure_sensitivity(
        net, lambda net: gc.training.evaluate(net, data), example, "channels", [0.5], progress=False).to_dict(),
    "quantize_weights": lambda net, numpy, example, data: gc.quantization.quantize_weights(net).to_dict(),
    "fold_batch_norm": lambda net, numpy, example, data: gc.quantization.fold_batch_norm(net, example).to_dict(),
    "fit": _fit, "MaskedTrainer": _with_masks, "GradualPruner": _gradually, "ChannelPenalty": _penalty,
    "quantize": _int8, "prepare_qat": _qat, "distill": _distill,
}

SITUATIONS = {  # the network's interface, the process's, the data's, whether the network is hybridized
    "all NumPy": (True, True, "numpy", False),
    "hybridized, plain data": (True, True, "plain", True),
    "NumPy in a classic process": (True, False, "classic", False),
    "classic in a NumPy process": (False, True, "numpy", False)}


@pytest.fixture(scope="module")
def expected():
    """What the classic network gives, and its parameters afterwards, by the name of the call."""
    found = {}

    def of(name):
        if name not in found:
            net = fresh(False)
            result = CALLS[name](net, False, array(IMAGES[:4], False), batches("classic"))
            found[name] = result, snapshot(net)
        return found[name]
    return of


@pytest.mark.parametrize("situation", SITUATIONS)
@pytest.mark.parametrize("name", CALLS)
def test_a_numpy_twin_gives_the_bits_of_the_classic_network(name, situation, expected):
    numpy, process, data, hybridize = SITUATIONS[situation]
    result, values = expected(name)
    net = fresh(numpy, hybridize=hybridize)
    with mode(process):
        found = CALLS[name](net, numpy, array(IMAGES[:4], data == "numpy"), batches(data))
        assert mx.util.is_np_array() == mx.util.is_np_shape() == process
    assert _without_times(found) == _without_times(result)
    assert _without_times(snapshot(net)) == _without_times(values)
    assert {type(parameter.data()) for parameter in parameters(net).values()} == {
        mx.np.ndarray if numpy else mx.nd.NDArray}


def _without_times(value):
    """Plain data that can be compared: arrays as bytes, without what says how long it took."""
    if isinstance(value, dict):
        return {key: _without_times(each) for key, each in value.items() if key != "seconds"}
    if isinstance(value, (list, tuple)):
        return [_without_times(each) for each in value]
    return (value.shape, value.dtype, value.tobytes()) if isinstance(value, np.ndarray) else value


class OwnOperators(gluon.HybridBlock):
    """Operators of the NumPy interface between the layers; some give scalars, of shape ()."""

    def __init__(self):
        super().__init__(prefix="own_")  # which reasons and records tell
        with self.name_scope():
            self.stem, self.norm = nn.Conv2D(8, 3, padding=1), nn.BatchNorm()
            self.conv = nn.Conv2D(8, 3, padding=1, activation="relu")
            self.hidden, self.output = nn.Dense(16, activation="relu"), nn.Dense(5)

    def hybrid_forward(self, F, x):
        x = F.npx.relu(self.norm(self.stem(x)))
        x = self.conv(x) + x
        x = F.np.concatenate([x - F.np.mean(x), F.np.maximum(x, 0.25)], axis=1)
        return self.output(self.hidden(F.np.mean(x, axis=(2, 3)))) / F.np.sqrt(4.0 + F.np.mean(x * x))


def _loaded(net, numpy, example, data):
    with tempfile.TemporaryDirectory() as folder:
        loaded = [_saved_and_loaded(f"{folder}/net.gcz", each, **arguments) for each, arguments in (
            (net, {}), (quantize(net, data, simulate=True, progress=False), {"simulate": True}))]
    return [each(array(IMAGES, kind)).asnumpy() for each in loaded for kind in (False, True)]


@pytest.mark.parametrize("name", [*(name for name in CALLS if name not in ("prune_n_m", "distill")), "save and load"])
def test_operators_of_the_numpy_interface_compute_in_both_modes(name):
    found = []
    for process, kind in ((True, "numpy"), (False, "plain")):
        net = initialized(OwnOperators, True)
        with mode(process):
            result = CALLS.get(name, _loaded)(net, True, array(IMAGES[:4], process), batches(kind))
            assert mx.util.is_np_array() == mx.util.is_np_shape() == process
        found.append(_without_times([result, snapshot(net)]))
    assert found[0] == found[1]


@pytest.mark.parametrize("name", [name for name in CALLS if name != "distill"])
def test_networks_of_imported_files_are_alike_too(name, tmp_path):
    found = []
    for numpy, process in ((False, False), (False, True), (True, True), (True, False)):
        files = gc.export.write_checkpoint(fresh(numpy), tmp_path / f"{numpy}")
        with mode(numpy):
            net = gluon.SymbolBlock.imports(str(files[0]), ["data"], str(files[1]))
        with mode(process):
            result = CALLS[name](net, numpy, array(IMAGES[:4], process), batches("plain"))
        with mode(numpy):
            assert type(net(array(IMAGES, numpy))) is type(array(IMAGES, numpy))
        found.append(_without_times([result, snapshot(net)]))
    assert found[0] == found[1] == found[2] == found[3]


# ---- what the networks and losses give

def _recorded(function, *inputs):
    """What a function gives while MXNet records, and the gradient of its sum by the first input."""
    inputs[0].attach_grad()
    with autograd.record():
        result = function(*inputs)
    result.backward()
    return result, inputs[0].grad


@pytest.mark.parametrize("hybridize", [False, True])
@pytest.mark.parametrize("numpy", [False, True])
@pytest.mark.parametrize("process", [False, True])
def test_losses_give_arrays_of_the_interface_of_the_logits(process, numpy, hybridize):
    random = np.random.RandomState(1)
    logits, of_teachers = random.normal(0, 3, (6, 5)), random.normal(0, 3, (2, 6, 5))
    weights, found = random.uniform(size=6), []
    for kind, active in ((False, False), (numpy, process)):
        with mode(active):
            loss = DistillationLoss(label_smoothing=0.1)
            if hybridize:
                loss.hybridize()
            own = [array(each.astype(np.float32), kind) for each in (logits, LABELS[:6], of_teachers, weights)]
            result, gradient = _recorded(loss, *own)
        assert type(result) is type(own[0])
        found.append([result.asnumpy().tobytes(), gradient.asnumpy().tobytes()])
    assert found[0] == found[1]


@pytest.mark.parametrize("make", [
    lambda net, path: prepare_qat(net, batches("plain"), progress=False),
    lambda net, path: quantize(net, batches("plain"), simulate=True, progress=False),
    lambda net, path: _saved_and_loaded(path, net),
    lambda net, path: _saved_and_loaded(path, quantize(net, batches("plain"), progress=False), simulate=True)],
    ids=["prepare_qat", "quantize", "load", "load of integers"])
@pytest.mark.parametrize("numpy", [False, True])
def test_networks_that_are_made_give_arrays_of_the_interface_of_their_input(numpy, make, tmp_path):
    with mode(numpy):
        made = make(fresh(numpy), tmp_path / "net.gcz")
        outputs = made(array(IMAGES, numpy))
        assert type(outputs) is type(array(IMAGES, numpy))
    for kind in (False, True):
        with mode(kind):
            other = made(array(IMAGES, kind))
        assert type(other) is type(array(IMAGES, kind))
        assert np.array_equal(other.asnumpy(), outputs.asnumpy())


def _saved_and_loaded(path, net, **arguments):
    gc.save(path, net)
    return gc.load(path, **arguments)


@pytest.mark.parametrize("make", [lambda net: prepare_qat(net, batches("plain"), progress=False),
                                  lambda net: _saved_and_loaded("/dev/null", net)], ids=["prepare_qat", "load"])
def test_networks_that_are_made_train_with_a_plain_trainer(make, tmp_path, monkeypatch):
    monkeypatch.setattr(gc, "save", lambda path, net, save=gc.save: save(tmp_path / "net.gcz", net))
    monkeypatch.setattr(gc, "load", lambda path, load=gc.load: load(tmp_path / "net.gcz"))
    trained = []
    for numpy in (False, True):
        with mode(numpy):
            net = make(fresh(numpy))
            trainer = gluon.Trainer(net.collect_params(), "adam")
            mx.random.seed(0)
            for _ in range(2):
                with autograd.record():
                    losses = gluon.loss.SoftmaxCELoss()(net(array(IMAGES, numpy)), array(LABELS, numpy))
                losses.backward()
                trainer.step(24)
            trained.append([value.tobytes() for value in snapshot(net).values()])
    assert trained[0] == trained[1]


@pytest.mark.parametrize("born", [False, True])
def test_files_are_the_same_bytes_and_fit_networks_of_both_interfaces(born, tmp_path):
    files = {}
    for numpy in (False, True):
        with mode(numpy):
            net = fresh(numpy)
            masks, scales = gc.pruning.prune_magnitude(net, 0.5), gc.quantization.quantize_weights(net)
            gc.save(tmp_path / f"{numpy}.gcz", net, masks, scales)
            files[numpy] = sorted(snapshot(net).items())
    for numpy in (False, True):
        with mode(not numpy):
            net = gc.load(tmp_path / f"{born}.gcz", fresh(numpy, seed=3))
        assert [(name, value.tobytes()) for name, value in sorted(snapshot(net).items())] == [
            (name, value.tobytes()) for name, value in files[born]]
        with mode(numpy):
            assert type(net(array(IMAGES, numpy))) is type(array(IMAGES, numpy))


@pytest.mark.parametrize("process", [False, True])
@pytest.mark.parametrize("numpy", [False, True])
def test_exported_files_give_the_network_in_its_interface(numpy, process, tmp_path):
    net, example = fresh(numpy), array(IMAGES[:2], process)
    with mode(process):
        symbol, values = map(str, gc.export.write_checkpoint(net, tmp_path / "net", example))
        gc.export.to_onnx(net, tmp_path / "net.onnx", example)  # which compares them
    with mode(numpy):
        own = array(IMAGES, numpy)
        assert np.array_equal(gluon.SymbolBlock.imports(symbol, ["data"], values)(own).asnumpy(), net(own).asnumpy())


def test_exported_files_reach_module_through_load(tmp_path):
    with mode(True):
        net = fresh(True)
        gc.export.write_checkpoint(net, tmp_path / "numpy", array(IMAGES[:2], True))
    gc.export.write_checkpoint(gc.load(tmp_path / "numpy", epoch=0), tmp_path / "again", array(IMAGES[:2], False))
    module = mx.mod.Module.load(str(tmp_path / "again"), 0, label_names=[])
    module.bind([("data", IMAGES.shape)], for_training=False)
    with mode(True):
        outputs = net(array(IMAGES, True)).asnumpy()
    np.testing.assert_allclose(module.predict(mx.io.NDArrayIter(IMAGES, batch_size=24)).asnumpy(), outputs, rtol=1e-5)


# ---- trainings and what they are given

def _log_loss(outputs, labels):
    """A loss in NumPy's style, which computes under ``npx.set_np()`` alone."""
    assert mx.util.is_np_array()
    return -mx.npx.pick(mx.npx.log_softmax(outputs), labels)


def test_a_loss_in_the_style_of_numpy_is_called_in_its_mode():
    histories = []
    for process, loss in ((False, _log_loss), (True, _log_loss), (False, gluon.loss.SoftmaxCELoss())):
        with mode(process):
            histories.append(gc.training.fit(fresh(True), batches("plain"), 1, loss=loss, progress=False).epochs)
            assert mx.util.is_np_array() == process
    assert histories[0][0]["loss"] == histories[1][0]["loss"] == pytest.approx(histories[2][0]["loss"], rel=1e-6)


def test_a_training_goes_on_in_a_network_of_the_other_interface(tmp_path):
    expected = gc.training.fit(fresh(False), batches("plain"), 3, progress=False).epochs
    for epochs, numpy in ((1, True), (3, False)):
        with mode(numpy):
            net = fresh(numpy)
            history = _fit_until(epochs, net, tmp_path / "state")
    assert _without_times(history.epochs) == _without_times(expected)


def _fit_until(epochs, net, path):
    """Train for 3 epochs, or stop after fewer as if killed."""
    stop = KeyboardInterrupt() if epochs < 3 else None

    class Data(list):
        passes = 0

        def __iter__(self):
            Data.passes += 1
            if stop is not None and Data.passes > epochs:
                raise stop
            return super().__iter__()
    with contextlib.suppress(KeyboardInterrupt):
        return gc.training.fit(net, Data(batches("plain")), 3, state_path=path, progress=False)


def test_logits_are_cached_for_students_of_both_interfaces(tmp_path):
    with mode(True):
        for _, _, logits in cache_logits(fresh(True), batches("numpy"), tmp_path / "logits", progress=False):
            assert type(logits) is mx.np.ndarray
    values = []
    for numpy in (False, True):
        with mode(numpy):
            student = fresh(numpy, seed=1)
            distill(student, fresh(False), batches("plain"), 1, cache=tmp_path / "logits", progress=False)
            values.append(_without_times(snapshot(student)))
    assert values[0] == values[1]


def test_features_with_adapters():
    values = []
    for numpy in (False, True):
        for process in (False, True):
            net, teacher = fresh(numpy), fresh(not numpy, width=12, seed=1)
            with mode(process):
                mx.random.seed(0)
                matcher = FeatureMatcher(net, teacher, [FeatureLoss("4", "4"), FeatureLoss("0", "4", "attention")],
                                         array(IMAGES, process))
                with autograd.record():
                    outputs = matcher(array(IMAGES, numpy))
                outputs[2].backward()
            assert {type(each) for each in outputs} == {type(array(IMAGES, numpy))}
            [adapter, _] = matcher.adapters.values()
            values.append(_without_times([each.asnumpy() for each in (*outputs, adapter.data(), adapter.grad())]))
    assert values[0] == values[1] == values[2] == values[3]


@pytest.mark.parametrize("data", [
    lambda: gluon.data.DataLoader(gluon.data.ArrayDataset(IMAGES, LABELS), 8),
    lambda: mx.io.NDArrayIter(IMAGES, LABELS, 8),
    lambda: [{"data": mx.nd.array(batch), "label": label} for batch, label in batches("plain")],
    lambda: [mx.io.DataBatch([mx.np.array(batch)], [mx.np.array(label)]) for batch, label in batches("plain")],
    lambda: [((mx.np.array(batch),), label.reshape(-1, 1)) for batch, label in batches("plain")],
    lambda: gc.datasets.images.ImageDataset((IMAGES.transpose(0, 2, 3, 1) * 100 + 100).astype("uint8"), LABELS,
                                            (0.5, 0.5), (0.5, 0.5)).batches(8)],
    ids=["DataLoader", "NDArrayIter", "dict", "DataBatch", "tuple", "ImageDataset"])
def test_data_of_all_kinds(data):
    found = set()
    for numpy in (False, True):
        for process in (False, True):
            with mode(process):
                net, given = fresh(numpy), data()
                accuracy = gc.training.evaluate(net, given)
                gc.pruning.reestimate_batch_norm(net, given, progress=False)
                found.add((accuracy, str(_without_times(snapshot(net)))))
    assert len(found) == 1


# ---- errors

@pytest.mark.parametrize("name", [name for name in CALLS if name not in (
    "prune_magnitude", "prune_random", "prune_n_m", "quantize_weights", "MaskedTrainer")])
@pytest.mark.parametrize("process", [False, True])
def test_an_error_leaves_the_mode_and_the_network_as_they_were(name, process):
    net = fresh(True)
    before = _without_times(snapshot(net))
    with mode(process), pytest.raises((ValueError, gc.NetworkError)):
        wrong = array(IMAGES[:4, :, :3], process)
        CALLS[name](net, True, wrong, [(wrong, array(LABELS[:4], process))])
        assert mx.util.is_np_array() == mx.util.is_np_shape() == process
    assert _without_times(snapshot(net)) == before


def test_a_network_of_two_interfaces_is_refused():
    net = nn.HybridSequential()
    net.add(*fresh(False)[:6], *fresh(True)[6:])
    for call in (lambda: gc.training.evaluate(net, batches("plain")), lambda: gc.report(net, array(IMAGES, False)),
                 lambda: gc.pruning.prune_magnitude(net, 0.5), lambda: quantize(net, batches("plain")),
                 lambda: distill(net, fresh(False), batches("plain"), 1)):
        with pytest.raises(gc.NetworkError, match="parameter 6.weight is an mx.np array and 0.weight an mx.nd"):
            call()


def test_convolutions_that_were_made_in_the_other_mode_are_told():
    for numpy in (False, True):
        with mode(numpy):
            net = nn.HybridSequential()
            net.add(nn.Conv2D(4, 3, in_channels=2))
        with mode(not numpy):
            net.initialize()
            with pytest.raises(gc.NetworkError, match="initialized without it, or the other way round"):
                gc.report(net, array(IMAGES, not numpy))


# ---- networks of the package

@pytest.mark.parametrize("name", ["LeNet", "SimpleCNN", "ResNet", "SmallConvNet", "AlexNet", "LeNet5Caffe",
                                  "LeNet300100"])
def test_the_package_s_networks_compute_in_both_modes(name):
    arguments = {"ResNet": {"thumbnail": True, "width": 4}, "AlexNet": {"hidden_units": 8}}.get(name, {})
    shape = {"ResNet": (1, 3, 32, 32), "SmallConvNet": (1, 3, 32, 32), "AlexNet": (1, 3, 67, 67)}
    values, outputs = None, []
    for numpy in (False, True):
        with mode(numpy):
            net = getattr(gc.models, name)(**arguments)
            net.initialize()
            image = array(np.random.RandomState(0).normal(size=shape.get(name, (1, 1, 28, 28))).astype("f"), numpy)
            net(image)
            values = values or snapshot(net)
            restore_snapshot(net, values)
            outputs.append(net(image).asnumpy())
            net.hybridize()
            outputs.append(net(image).asnumpy())
            gc.pruning.prune_channels(net, image, ratio=0.3)
            outputs.append(net(image).asnumpy())
    assert all(np.array_equal(outputs[index], outputs[index + 3]) for index in range(3))


def test_the_package_s_parameters_load_under_set_np():
    expected = gc.params.load("lenet_mnist")(mx.nd.ones((2, 1, 28, 28))).asnumpy()
    with mode(True):
        assert np.array_equal(gc.params.load("lenet_mnist")(mx.np.ones((2, 1, 28, 28))).asnumpy(), expected)
