"""Whatever holds a network can be opened: files that MXNet itself wrote compute what MXNet computes of them."""
import contextlib
import json
import logging
import re
import tarfile
import warnings
import zipfile
from pathlib import Path

import gluon_compress as gc

import mxnet as mx  # noqa: I001
import numpy as np
import pytest
from gluon_compress import CheckpointError
from gluon_compress.checkpoint import describe
from gluon_compress.checkpoint.other_formats.params_file import read_params
from modules import IMAGES, detector, face_network, lenet, predicted, sym, trained, two_inputs
from mxnet.gluon import nn
from numpy_twins import numpy_mode

NEAR = {"rtol": 1e-5, "atol": 1e-6}


@pytest.fixture(scope="module")
def saved(tmp_path_factory):
    """``saved(make, ...)``: ``(prefix, inputs, outputs)`` of a checkpoint of epoch 3 that Module wrote; made once."""
    made = {}

    def save(make, *arguments, **options):
        key = make.__name__, repr(arguments), repr(options)
        if key not in made:
            prefix = str(tmp_path_factory.mktemp("checkpoint") / "net")
            module, inputs = trained(make(*arguments), **options)
            module.save_checkpoint(prefix, 3)
            labels = options.get("labels", ("softmax_label",))
            made[key] = prefix, inputs, predicted(prefix, 3, options.get("shapes", IMAGES), inputs, labels)
        return made[key]
    return save


def outputs(net, inputs):
    given = net(*inputs)
    return [output.asnumpy() for output in (given if isinstance(given, (list, tuple)) else [given])]


def all_close(found, expected):
    assert len(found) == len(expected) > 0
    for one, other in zip(found, expected):
        np.testing.assert_allclose(one, other, **NEAR)


# ---- checkpoints of Module

@pytest.mark.parametrize("make", [lenet, face_network])
def test_a_checkpoint_computes_what_module_predicts(saved, make):
    prefix, inputs, expected = saved(make)
    for path in (prefix, f"{prefix}-symbol.json", f"{prefix}-0003.params"):
        all_close(outputs(gc.load(path), inputs), expected)


def test_a_checkpoint_of_two_inputs_takes_both_in_the_order_of_the_graph(saved):
    prefix, inputs, expected = saved(two_inputs, shapes={"image": (8, 3, 8, 8), "vector": (8, 4)}, label_shape=(8, 2),
                                     labels=("lro_label",))
    all_close(outputs(gc.load(prefix), inputs), expected)
    assert describe(prefix).inputs == ("image", "vector")
    turned = gc.load(prefix, inputs=["vector", "image"])
    all_close(outputs(turned, inputs[::-1]), expected)


def test_the_last_epoch_is_opened_unless_another_is_asked_for(tmp_path):
    module, inputs = trained(lenet())
    prefix, expected = str(tmp_path / "net"), {}
    for epoch in (1, 2, 11):
        module.set_params({name: value * 0.5 for name, value in module.get_params()[0].items()}, {})
        module.save_checkpoint(prefix, epoch)
        expected[epoch] = predicted(prefix, epoch, IMAGES, inputs)
    for epoch in (1, 2, 11, None):
        all_close(outputs(gc.load(prefix, epoch=epoch), inputs), expected[epoch or 11])
    assert describe(prefix).epochs == (1, 2, 11)
    with pytest.raises(CheckpointError, match="epoch 5; accepted: 1, 2, 11"):
        gc.load(prefix, epoch=5)


def test_logits_are_what_softmax_is_taken_of(saved):
    prefix, inputs, expected = saved(lenet)
    logits = gc.load(prefix, head="logits")(*inputs)
    np.testing.assert_allclose(mx.nd.softmax(logits).asnumpy(), expected[0], **NEAR)
    assert np.abs(logits.asnumpy().sum(axis=1) - 1).min() > 1e-3
    np.testing.assert_array_equal(gc.load(prefix, outputs=["fc2_output"])(*inputs).asnumpy(), logits.asnumpy())


def test_an_inner_output_is_that_of_mxnet(saved):
    prefix, inputs, _ = saved(face_network)
    symbol, *parameters = mx.model.load_checkpoint(prefix, 3)
    inner = mx.mod.Module(symbol.get_internals()["fc1_output"], label_names=None)
    inner.bind([("data", inputs[0].shape)], for_training=False)
    inner.set_params(*parameters, allow_extra=True)
    inner.forward(mx.io.DataBatch(inputs))
    net = gc.load(prefix, outputs=["fc1"])
    all_close(outputs(net, inputs), [inner.get_outputs()[0].asnumpy()])


def test_what_was_found_is_logged_and_shown(saved, caplog):
    prefix, _, _ = saved(face_network)
    with caplog.at_level(logging.INFO, "gluon_compress"):
        net = gc.load(prefix)
    assert caplog.messages == [f"{prefix}: {describe(prefix).line()}"]
    for text in (repr(net), net.found.summary()):
        assert all(word in text for word in ("checkpoint of MXNet", "net-0003.params", "epoch", "softmax_output"))
    assert json.loads(json.dumps(net.found.to_dict()))["replaced"] == {"softmax": "softmax instead of SoftmaxOutput"}
    count = sum(np.prod(value.shape) for value in mx.nd.load(f"{prefix}-0003.params").values())
    assert net.found.parameters == count


# ---- heads: what stands for each loss

def network_ending_in(head, **attributes):
    """Features of an image, and a loss at the end; ``head`` is an operator's name."""
    body = sym.Convolution(sym.var("data"), num_filter=4, kernel=(3, 3), stride=(3, 3), name="conv")
    return getattr(sym, head)(body, name="head", **attributes)


def written(symbol, prefix, shape=(2, 3, 12, 12)):
    """A checkpoint of epoch 0 with random parameters; returns a batch of inputs."""
    chance = np.random.RandomState(1)
    known = {name: each for name, each in zip(symbol.list_arguments(), symbol.infer_shape(data=shape)[0])}
    values = {name: mx.nd.array(chance.randn(*each)) for name, each in known.items()
              if name not in ("data", "label") and not name.endswith("_label")}
    states = {name: mx.nd.ones(each) for name, each in zip(symbol.list_auxiliary_states(),
                                                           symbol.infer_shape(data=shape)[2])}
    mx.model.save_checkpoint(prefix, 0, symbol, values, states)
    return mx.nd.array(chance.randn(*shape))


def softmax(values, axis):
    powers = np.exp(values - values.max(axis=axis, keepdims=True))
    return powers / powers.sum(axis=axis, keepdims=True)


HEADS = {
    "over the channels": ("SoftmaxOutput", {"multi_output": True}, lambda data: softmax(data, 1)),
    "over the last axis": ("SoftmaxOutput", {"preserve_shape": True}, lambda data: softmax(data, 3)),
    "over all but the batch": ("SoftmaxOutput", {}, lambda data: softmax(data.reshape(2, -1), 1).reshape(data.shape)),
    "logistic": ("LogisticRegressionOutput", {}, lambda data: 1 / (1 + np.exp(-data))),
    "linear": ("LinearRegressionOutput", {}, lambda data: data),
    "absolute": ("MAERegressionOutput", {}, lambda data: data),
    "of a support vector machine": ("SVMOutput", {"margin": 0.5}, lambda data: data),
    "made": ("MakeLoss", {"grad_scale": 2.0}, lambda data: data),
}


@pytest.mark.parametrize("which", HEADS)
def test_a_loss_becomes_what_it_computes_in_inference(tmp_path, which):
    """As NumPy computes it of the data that the loss reads; and with ``head="logits"`` these data."""
    operator, attributes, expected = HEADS[which]
    data = written(network_ending_in(operator, **attributes), str(tmp_path / "net"))
    reads = mx.sym.load(str(tmp_path / "net-symbol.json")).get_internals()["conv_output"]
    body = mx.gluon.SymbolBlock(reads, [mx.sym.var("data", dtype="float32")])
    body.load_parameters(str(tmp_path / "net-0000.params"), cast_dtype=True, dtype_source="saved")
    features = body(data).asnumpy()
    net = gc.load(tmp_path / "net")
    np.testing.assert_allclose(net(data).asnumpy(), expected(features), **NEAR)
    np.testing.assert_allclose(gc.load(tmp_path / "net", head="logits")(data).asnumpy(), features, **NEAR)
    assert net.found.inputs == ("data",) and list(net.found.replaced) == ["head"]


def test_logits_are_taken_of_a_plain_softmax_too(tmp_path):
    """As of a network that Gluon exported; an output that is none stays as it is."""
    logits = sym.FullyConnected(sym.var("data"), num_hidden=3, name="fc")
    data = written(sym.Group([sym.softmax(logits, name="probability"), sym.relu(logits, name="other")]),
                   str(tmp_path / "net"), (2, 4))
    probability, other = gc.load(tmp_path / "net")(data)
    found, same = gc.load(tmp_path / "net", head="logits")(data)
    np.testing.assert_allclose(mx.nd.softmax(found).asnumpy(), probability.asnumpy(), **NEAR)
    np.testing.assert_array_equal(same.asnumpy(), other.asnumpy())
    np.testing.assert_array_equal(mx.nd.relu(found).asnumpy(), other.asnumpy())


@pytest.mark.parametrize("copy", [sym.BlockGrad, sym.identity, lambda x: sym.cast(x, "float32")])
def test_logits_are_taken_of_a_copy_of_a_softmax_too(tmp_path, copy):
    """As a loss of one's own has it: MakeLoss of the cross entropy, BlockGrad of the probabilities."""
    logits = sym.FullyConnected(sym.var("data"), num_hidden=3, name="fc")
    data = written(copy(sym.softmax(logits)), str(tmp_path / "net"), (2, 4))
    probability, found = gc.load(tmp_path / "net")(data), gc.load(tmp_path / "net", head="logits")(data)
    assert abs(found.sum(axis=1) - 1).max().asscalar() > 0.01
    np.testing.assert_allclose(mx.nd.softmax(found).asnumpy(), probability.asnumpy(), **NEAR)


def test_training_the_output_of_a_softmax_as_logits_is_warned_of(tmp_path):
    classifier = sym.SoftmaxOutput(sym.FullyConnected(sym.var("data"), num_hidden=3), name="softmax")
    data = written(classifier, str(tmp_path / "net"), (2, 4))
    labels = mx.nd.array([0, 1])
    teacher = gc.load(tmp_path / "net", head="logits")
    for train in (lambda net: gc.training.fit(net, [(data, labels)], 1, progress=False),
                  lambda net: gc.distillation.distill(net, teacher, [(data, labels)], 1, progress=False)):
        with pytest.warns(UserWarning, match="the loss takes logits; load it with head='logits'"):
            train(gc.load(tmp_path / "net"))
        with warnings.catch_warnings():
            warnings.simplefilter("error", UserWarning)
            train(gc.load(tmp_path / "net", head="logits"))


@pytest.mark.parametrize("net, message", [
    (3, "net is 3; accepted: a gluon.HybridBlock or None; for an epoch write load(path, epoch=3)"),
    ("net-0000.params", "load finds the parameters beside a symbol file")])
def test_the_second_argument_of_other_loaders_is_told_what_to_write(tmp_path, net, message):
    written(network_ending_in("SoftmaxOutput"), str(tmp_path / "net"))
    with pytest.raises(TypeError, match=re.escape(message)):
        gc.load(tmp_path / "net", net)


def test_softmax_has_its_old_name_in_old_graphs(saved, tmp_path):
    prefix, inputs, expected = saved(lenet)
    graph = Path(f"{prefix}-symbol.json").read_text().replace('"op": "SoftmaxOutput"', '"op": "Softmax"')
    assert '"Softmax"' in graph
    (tmp_path / "net-symbol.json").write_text(graph)
    (tmp_path / "net-0000.params").write_bytes(Path(f"{prefix}-0003.params").read_bytes())
    all_close(outputs(gc.load(tmp_path / "net"), inputs), expected)


@pytest.mark.parametrize("attributes", [{}, {"multi_output": True}, {"preserve_shape": True}])
def test_softmax_is_over_the_axes_that_module_takes(tmp_path, attributes):
    """Of three dimensions: of four, oneDNN takes the last axis in inference alone, and not what was trained."""
    body = sym.Convolution(sym.var("data"), num_filter=4, kernel=(3,), name="conv")
    data = written(sym.SoftmaxOutput(body, name="head", **attributes), str(tmp_path / "net"), (2, 3, 8))
    expected = predicted(str(tmp_path / "net"), 0, {"data": data.shape}, [data], ("head_label",))
    all_close(outputs(gc.load(tmp_path / "net"), [data]), expected)


def test_outputs_that_depend_on_a_label_are_left_out_and_named(tmp_path):
    """As people write losses of their own: the prediction beside the loss, which stops gradients."""
    out = sym.FullyConnected(sym.var("data"), num_hidden=2, name="fc")
    loss = sym.MakeLoss(sym.mean(sym.square(out - sym.var("my_label"))), name="loss")
    data = written(sym.Group([sym.BlockGrad(out, name="prediction"), loss]), str(tmp_path / "net"), (4, 3))
    net = gc.load(tmp_path / "net")
    values = mx.nd.load(str(tmp_path / "net-0000.params"))
    expected = data.asnumpy() @ values["arg:fc_weight"].asnumpy().T + values["arg:fc_bias"].asnumpy()
    np.testing.assert_allclose(net(data).asnumpy(), expected, **NEAR)
    assert net.found.left_out == {"loss_output": "it depends on the label my_label"}


def test_a_training_graph_of_a_detector_detects_what_the_graph_for_deployment_does(tmp_path):
    shape = (2, 3, 16, 16)
    data = written(detector(train=False), str(tmp_path / "deploy"), shape)
    (tmp_path / "train-0000.params").write_bytes((tmp_path / "deploy-0000.params").read_bytes())
    detector().save(str(tmp_path / "train-symbol.json"))
    net = gc.load(tmp_path / "train")
    expected = predicted(str(tmp_path / "deploy"), 0, {"data": shape}, [data], ())
    all_close(outputs(net, [data]), expected)
    assert (expected[0][:, :, 0] >= 0).any(), "something is detected"
    assert net.found.inputs == ("data",) and net.found.outputs == ("detection_output",)
    assert net.found.left_out.keys() == {"cls_prob_output", "loc_loss_output", "cls_label_output"}
    assert net.found.replaced == {"det_out": "what MakeLoss reads"}
    assert gc.checkpoint.describe(tmp_path / "train", head="logits").outputs == ("detection_output",)


def language_model(fused):
    """An LSTM over words, unrolled or in one operator; the label is reshaped before the loss reads it."""
    words = sym.Embedding(sym.var("data"), input_dim=9, output_dim=4, name="embed")
    cell = mx.rnn.FusedRNNCell(6, num_layers=2, mode="lstm", prefix="lstm_") if fused else \
        mx.rnn.LSTMCell(6, prefix="lstm_")
    states, _ = cell.unroll(3, inputs=words, layout="NTC", merge_outputs=True)
    predictions = sym.FullyConnected(sym.Reshape(states, shape=(-1, 6)), num_hidden=9, name="pred")
    return sym.SoftmaxOutput(predictions, sym.Reshape(sym.var("softmax_label"), shape=(-1,)), name="softmax")


@pytest.mark.parametrize("fused", [False, True])
def test_recurrent_networks_predict_what_module_does(tmp_path, fused):
    prefix = str(tmp_path / "net")
    module, inputs = trained(language_model(fused), {"data": (2, 3)}, (2, 3))
    module.save_checkpoint(prefix, 0)
    expected = predicted(prefix, 0, {"data": (2, 3)}, inputs, label_shape=(2, 3))
    all_close(outputs(gc.load(prefix), inputs), expected)
    assert describe(prefix).inputs == ("data",)


def test_a_network_that_reads_sequences_is_opened_without_its_ctc_loss(tmp_path):
    """Whose operator no file may use: it is gone before the graph is checked."""
    scores = sym.FullyConnected(sym.var("data"), num_hidden=6, flatten=False, name="fc")
    loss = sym.MakeLoss(sym.ctc_loss(sym.transpose(scores, axes=(1, 0, 2)), sym.var("label")), name="loss")
    prefix, shapes = str(tmp_path / "net"), {"data": (2, 5, 3)}
    module, inputs = trained(sym.Group([sym.BlockGrad(sym.softmax(scores, axis=2), name="pred"), loss]), shapes, (2, 2),
                             ("label",))
    module.save_checkpoint(prefix, 0)
    expected = predicted(prefix, 0, shapes, inputs, ("label",), (2, 2))[:1]
    all_close(outputs(gc.load(prefix), inputs), expected)


# ---- what MXNet wrote over the years

def in_dialect(content, since):
    """A graph's JSON as MXNet of another version wrote it: "0.8", "0.9" or "1.0"."""
    graph = json.loads(content)
    for node in graph["nodes"]:
        attributes = node.pop("attrs", {})
        if since == "0.8":
            node["param"], node["backward_source_id"] = ({} if node["op"] == "null" else attributes), -1
            if node["op"] == "null":
                node["attr"] = {"ctx_group": "stage1", "lr_mult": "0.2", "weight_lr_mult": "1.2"}
            node["inputs"] = [link[:2] for link in node["inputs"]]
        elif attributes:
            node["attr" if since == "0.9" else "attrs"] = attributes
    if since == "0.8":
        _leave_statistics_out(graph)
        del graph["node_row_ptr"], graph["attrs"]
        graph["heads"] = [link[:2] for link in graph["heads"]]
    else:
        graph["attrs"]["mxnet_version"] = ["int", {"0.9": 905, "1.0": 10000}[since]]
    return json.dumps(graph, indent=2)


def _leave_statistics_out(graph):
    """Before 0.9, a graph did not hold what operators change."""
    gone = {link[0] for node in graph["nodes"] if node["op"] == "BatchNorm" for link in node["inputs"][3:]}
    new = {old: number for number, old in enumerate(old for old in range(len(graph["nodes"])) if old not in gone)}
    for node in graph["nodes"]:
        node["inputs"] = [[new[link[0]], *link[1:]] for link in node["inputs"] if link[0] not in gone]
    graph["nodes"] = [node for number, node in enumerate(graph["nodes"]) if number not in gone]
    graph["heads"] = [[new[link[0]], *link[1:]] for link in graph["heads"]]
    graph["arg_nodes"] = [new[number] for number in graph["arg_nodes"] if number not in gone]


@pytest.mark.parametrize("since", ["0.8", "0.9", "1.0"])
@pytest.mark.parametrize("make", [lenet, face_network])
def test_graphs_of_every_version_compute_the_same(saved, tmp_path, since, make):
    prefix, inputs, expected = saved(make)
    with open(f"{prefix}-symbol.json") as file:
        (tmp_path / "net-symbol.json").write_text(in_dialect(file.read(), since))
    (tmp_path / "net-0003.params").write_bytes(open(f"{prefix}-0003.params", "rb").read())
    net = gc.load(tmp_path / "net")
    all_close(outputs(net, inputs), expected)
    if since == "0.8":
        assert {parameter.lr_mult for parameter in net.collect_params(".*weight").values()} == {0.2}


def _array_of_first_form(value):
    """A float32 array as MXNet before 0.11 wrote it; the magic number came later."""
    return np.array([value.ndim, *value.shape], np.uint32).tobytes() + np.array([1, 0, 0], np.int32).tobytes() + \
        value.tobytes()


def _array_of_second_form(value):
    return np.array([0xF993FAC8, value.ndim], np.uint32).tobytes() + np.array(value.shape, np.int64).tobytes() + \
        np.array([1, 0, 0], np.int32).tobytes() + value.tobytes()


@pytest.mark.parametrize("form", [_array_of_first_form, _array_of_second_form])
def test_parameters_of_every_version_are_read_as_mxnet_reads_them(saved, tmp_path, form):
    prefix, inputs, expected = saved(lenet)
    arrays = {name: value.asnumpy() for name, value in mx.nd.load(f"{prefix}-0003.params").items()}
    path = tmp_path / "net-0000.params"
    path.write_bytes(np.array([0x112, 0, len(arrays)], np.uint64).tobytes() + b"".join(map(form, arrays.values()))
                     + np.array([len(arrays)], np.uint64).tobytes()
                     + b"".join(np.array([len(name)], np.uint64).tobytes() + name.encode() for name in arrays))
    assert all(np.array_equal(value.asnumpy(), arrays[name]) for name, value in mx.nd.load(str(path)).items())
    (tmp_path / "net-symbol.json").write_bytes(open(f"{prefix}-symbol.json", "rb").read())
    all_close(outputs(gc.load(path), inputs), expected)


def test_parameters_of_all_types_are_read_as_mxnet_reads_them(tmp_path):
    chance = np.random.RandomState(0)
    arrays = {kind: mx.nd.array(chance.randint(-5 if kind != "uint8" else 0, 5, (2, 1, 3)), dtype=kind)
              for kind in ("float16", "float32", "float64", "int8", "uint8", "int32", "int64")}
    mx.nd.save(str(tmp_path / "all.params"), arrays)
    found = read_params(tmp_path / "all.params")
    assert found.keys() == arrays.keys()
    for name, value in arrays.items():
        assert found[name].dtype == value.asnumpy().dtype and np.array_equal(found[name], value.asnumpy())
    np.savez(tmp_path / "all.npz", **{name: value.asnumpy() for name, value in arrays.items()})
    packed = read_params(tmp_path / "all.npz")
    assert all(np.array_equal(packed[name], found[name]) and packed[name].dtype == found[name].dtype for name in found)


@pytest.mark.parametrize("prefixes", ["arg:", "", "aux: as arg:"])
def test_parameters_may_have_prefixes_or_none(saved, tmp_path, prefixes):
    prefix, inputs, expected = saved(face_network)
    values = {name.partition(":")[2]: value for name, value in mx.nd.load(f"{prefix}-0003.params").items()}
    mx.nd.save(str(tmp_path / "net-0000.params"),
               {("arg:" if prefixes else "") + name: value for name, value in values.items()})
    (tmp_path / "net-symbol.json").write_bytes(open(f"{prefix}-symbol.json", "rb").read())
    all_close(outputs(gc.load(tmp_path / "net"), inputs), expected)


def test_parameters_stored_as_float16_are_computed_with_as_the_graph_says(saved, tmp_path):
    """A graph of float32 computes in float32 with them, in Module and here."""
    prefix, inputs, _ = saved(face_network)
    mx.nd.save(str(tmp_path / "net-0003.params"), {name: value.astype("float16") for name, value in
                                                   mx.nd.load(f"{prefix}-0003.params").items()})
    (tmp_path / "net-symbol.json").write_bytes(open(f"{prefix}-symbol.json", "rb").read())
    net = gc.load(tmp_path / "net")
    assert {parameter.dtype for parameter in net.collect_params().values()} == {np.float32}
    all_close(outputs(net, inputs), predicted(str(tmp_path / "net"), 3, IMAGES, inputs))


def test_a_network_of_float16_computes_in_float32_on_the_cpu(tmp_path):
    """As Gluon exports a network that was cast; MXNet itself has no kernels for it."""
    net = nn.HybridSequential()
    net.add(nn.Conv2D(4, 3, in_channels=3), nn.BatchNorm(in_channels=4), nn.Dense(2, in_units=4 * 36))
    net.initialize()
    net.cast("float16")
    net(mx.sym.var("data")).save(str(tmp_path / "net-symbol.json"))
    mx.nd.save(str(tmp_path / "net-0000.params"), {
        name: parameter.data() for name, parameter in net.collect_params().items()})
    data = mx.nd.random.normal(shape=(2, 3, 8, 8))
    found = gc.load(tmp_path / "net")
    assert found(data).dtype == np.float32
    net.cast("float32")
    np.testing.assert_allclose(found(data).asnumpy(), net(data).asnumpy(), **NEAR)


def test_a_graph_that_casts_to_float16_inside_computes_in_float32_on_the_cpu(tmp_path):
    """As the example of image classification, and SageMaker's algorithm, train with float16."""
    body = sym.Cast(sym.var("data"), dtype="float16")
    body = sym.FullyConnected(body, num_hidden=3, name="fc")
    symbol = sym.SoftmaxOutput(sym.Cast(body, dtype="float32"), name="softmax")
    values = {"fc_weight": mx.nd.ones((3, 4), dtype="float16") * 0.25, "fc_bias": mx.nd.arange(3, dtype="float16")}
    mx.model.save_checkpoint(str(tmp_path / "net"), 0, symbol, values, {})
    data = mx.nd.random.normal(shape=(2, 4))
    expected = softmax((data.asnumpy() * 0.25).sum(axis=1, keepdims=True) + np.arange(3), 1)
    np.testing.assert_allclose(gc.load(tmp_path / "net")(data).asnumpy(), expected, **NEAR)


# ---- parameters for a network that the user has

class Small(nn.HybridSequential):
    def __init__(self, classes=3):
        super().__init__()
        with self.name_scope():
            self.add(nn.Conv2D(4, 3, in_channels=3), nn.BatchNorm(in_channels=4), nn.PReLU(),
                     nn.Dense(classes, in_units=4 * 36))


def initialized(net):
    net.initialize(mx.init.Normal(1), force_reinit=True)
    return net


SAVED_BY_GLUON = {
    "structural names": lambda net, path: net.save_parameters(path),
    "full names": lambda net, path: net.collect_params().save(path),
    "without the network's prefix": lambda net, path: net.collect_params().save(path, strip_prefix=net.prefix),
    "as an export": lambda net, path: mx.nd.save(path, {f"arg:{name}": parameter.data() for name, parameter in
                                                        net.collect_params().items()}),
    "as float16": lambda net, path: mx.nd.save(path, {
        name: parameter.data().astype("float16") for name, parameter in
        net._collect_params_with_prefix().items()})}


@pytest.mark.parametrize("how", SAVED_BY_GLUON)
@pytest.mark.parametrize("given", ["class", "instance", "initialized"])
def test_parameters_that_gluon_saved_go_into_a_network_or_its_class(tmp_path, how, given):
    net, data = initialized(Small()), mx.nd.random.normal(shape=(2, 3, 8, 8))
    if how == "as float16":
        for parameter in net.collect_params().values():
            parameter.set_data(parameter.data().astype("float16").astype("float32"))
    SAVED_BY_GLUON[how](net, str(tmp_path / "net.params"))
    other = {"class": lambda: Small, "instance": Small, "initialized": lambda: initialized(Small())}[given]()
    found = gc.load(tmp_path / "net.params", other)
    assert isinstance(found, Small) and (found is other or given == "class")
    np.testing.assert_array_equal(found(data).asnumpy(), net(data).asnumpy())


def test_shared_parameters_are_read_once_or_twice(tmp_path):
    def tied():
        net = nn.HybridSequential()
        net.add(nn.Dense(4, in_units=4))
        net.add(nn.Dense(4, in_units=4, params=net[0].params))
        return net
    net = initialized(tied())
    for deduplicate in (False, True):
        net.save_parameters(str(tmp_path / "net.params"), deduplicate=deduplicate)
        other = gc.load(tmp_path / "net.params", tied())
        np.testing.assert_array_equal(other[1].weight.data().asnumpy(), net[0].weight.data().asnumpy())


def test_one_error_names_all_parameters_that_do_not_fit(tmp_path):
    initialized(Small(5)).save_parameters(str(tmp_path / "net.params"))
    values = mx.nd.load(str(tmp_path / "net.params"))
    values["9.weight"] = values.pop("1.gamma")
    mx.nd.save(str(tmp_path / "net.params"), values)
    net = initialized(Small())
    before = {name: parameter.data().asnumpy() for name, parameter in net.collect_params().items()}
    with pytest.raises(CheckpointError) as raised:
        gc.load(tmp_path / "net.params", net)
    for word in ("the file has, and the network not: 9.weight", "the network has, and the file not: 1.gamma",
                 "3.weight of shape (5, 144) and type float32, in the network (3, 144)", "3.bias of shape (5,)"):
        assert word in str(raised.value)
    assert all(np.array_equal(parameter.data().asnumpy(), before[name])
               for name, parameter in net.collect_params().items())


# ---- folders and archives

def packed(folder, path):
    """A .tar.gz of all that lies in a folder, as SageMaker packs it; or a .zip."""
    if str(path).endswith(".tar.gz"):
        with tarfile.open(path, "w:gz") as archive:
            for each in sorted(folder.iterdir()):
                archive.add(each, each.name)
    else:
        with zipfile.ZipFile(path, "w") as archive:
            for each in sorted(folder.iterdir()):
                archive.write(each, each.name)
    return path


def left_behind(folder, prefix, name, epoch=0, **settings):
    """A folder with a checkpoint under another name, and JSON files beside it."""
    folder.mkdir()
    source = Path(prefix)
    (folder / f"{name}-symbol.json").write_bytes(Path(f"{prefix}-symbol.json").read_bytes())
    parameters = next(source.parent.glob(f"{source.name}-*.params"))
    (folder / f"{name}-{epoch:04d}.params").write_bytes(parameters.read_bytes())
    for file, content in settings.items():
        (folder / f"{file.replace('_', '-')}.json").write_text(json.dumps(content))
    return folder


def test_sagemaker_image_classification(saved, tmp_path):
    prefix, inputs, expected = saved(lenet)
    shapes = [{"name": "data", "shape": [8, 3, 12, 12]}]
    folder = left_behind(tmp_path / "model", prefix, "image-classification", 10, model_shapes=shapes)
    for path in (folder, packed(folder, tmp_path / "model.tar.gz")):
        net = gc.load(path)
        all_close(outputs(net, inputs), expected)
        assert net.found.kind == "SageMaker image classification" and net.found.epoch == 10
        assert net.found.settings["model-shapes.json"] == shapes


def test_sagemaker_object_detection(tmp_path):
    data = written(detector(train=False), str(tmp_path / "deploy"), (1, 3, 16, 16))
    expected = predicted(str(tmp_path / "deploy"), 0, {"data": data.shape}, [data], ())
    detector().save(str(tmp_path / "deploy-symbol.json"))
    folder = left_behind(tmp_path / "model", tmp_path / "deploy", "model_algo_1")
    (folder / "hyperparams.json").write_text(json.dumps({"num_classes": "2", "image_shape": "16"}))
    net = gc.load(packed(folder, tmp_path / "model.tar.gz"))
    all_close(outputs(net, [data]), expected)
    assert net.found.kind == "SageMaker object detection"
    assert net.found.settings["hyperparams.json"]["num_classes"] == "2"


def test_sagemaker_linear_learner(tmp_path):
    """A .zip without ending in the .tar.gz; its graph multiplies by ``dot``, and learns the bias ten times as fast."""
    body = sym.dot(sym.var("data"), sym.var("fc0_weight", shape=(6, 1)))
    body = sym.broadcast_add(body, sym.var("fc0_bias", shape=(1, 1), lr_mult=10))
    data = written(sym.LogisticRegressionOutput(body, sym.var("out_label"), name="out"), str(tmp_path / "net"), (4, 6))
    expected = predicted(str(tmp_path / "net"), 0, {"data": (4, 6)}, [data], ("out_label",))
    inner = left_behind(tmp_path / "inner", tmp_path / "net", "mx-mod", additional_params={
        "threshold": 0.5, "predictor_type": "binary_classifier"})
    (inner / "manifest.json").write_text('{"additional-params.json": "json", "mx-mod": "mxnet_module", "version": 1}')
    folder = tmp_path / "model"
    folder.mkdir()
    packed(inner, tmp_path / "zip").rename(folder / "model_algo-1")
    for path in (inner, folder, folder / "model_algo-1", packed(folder, tmp_path / "model.tar.gz")):
        net = gc.load(path)
        all_close(outputs(net, [data]), expected)
        assert net.found.kind == "SageMaker linear learner" and net.params["fc0_bias"].lr_mult == 10
        assert net.found.settings["additional-params.json"]["threshold"] == 0.5


def test_a_zip_of_symbol_and_params_without_names(tmp_path):
    """As SageMaker's factorization machines leave them."""
    data = written(sym.FullyConnected(sym.var("data"), num_hidden=1, name="fc0"), str(tmp_path / "net"), (4, 6))
    with zipfile.ZipFile(tmp_path / "model_algo-1", "w") as archive:
        archive.write(tmp_path / "net-symbol.json", "symbol.json")
        archive.write(tmp_path / "net-0000.params", "params")
        archive.writestr("meta.json", "{}")
    all_close(outputs(gc.load(tmp_path / "model_algo-1"), [data]), outputs(gc.load(tmp_path / "net"), [data]))


@pytest.mark.parametrize("auxiliary", [False, True])
def test_sagemaker_semantic_segmentation(tmp_path, auxiliary):
    from gluoncv.model_zoo import FCN
    net = FCN(nclass=3, backbone="resnet50", aux=auxiliary, pretrained_base=False, crop_size=32)
    net.initialize()
    data = mx.nd.random.normal(shape=(1, 3, 32, 32))
    net(data)
    net.save_parameters(str(tmp_path / "model_algo-1"))
    (tmp_path / "hyperparams.json").write_text(json.dumps(
        {"algorithm": "fcn", "backbone": "resnet-50", "num_classes": "3", "crop_size": "32"}))
    found = gc.load(tmp_path)
    for one, other in zip(found(data), net(data)):
        np.testing.assert_array_equal(one.asnumpy(), other.asnumpy())


def test_a_predictor_of_gluonts_that_was_saved_as_a_graph(tmp_path):
    """The files that SymbolBlockPredictor.serialize writes; the inputs in the order of their numbers."""
    class Forecast(nn.HybridBlock):
        def __init__(self):
            super().__init__()
            self.mlp = nn.Dense(4, in_units=6)

        def hybrid_forward(self, F, *pasts):
            scales = [F.mean(F.abs(past), axis=1, keepdims=True) for past in pasts[1:]]
            return F.broadcast_add(F.broadcast_mul(self.mlp(pasts[0]), scales[0]), F.add_n(*scales[1:]) * 0.25)
    net = initialized(Forecast())
    net.hybridize()
    inputs = [mx.nd.random.normal(shape=(2, 6)) for _ in range(12)]
    expected = net(*inputs).asnumpy()
    net.export(str(tmp_path / "prediction_net"))
    (tmp_path / "parameters.json").write_text(json.dumps(
        {"batch_size": 32, "prediction_length": 4, "freq": "H", "input_names": [f"past_{n}" for n in range(12)]}))
    (tmp_path / "prediction_net-in_out_format.json").write_text("{}")
    (tmp_path / "type.txt").write_text("gluonts.mx.model.predictor.SymbolBlockPredictor")
    found = gc.load(tmp_path)
    all_close(outputs(found, inputs), [expected])
    assert found.found.kind == "GluonTS predictor" and found.found.settings["prediction_length"] == 4
    assert found.found.inputs == tuple(f"data{number}" for number in range(12))


def test_a_predictor_of_gluonts_that_was_saved_as_classes_needs_its_network(tmp_path):
    net = initialized(Small())
    net.save_parameters(str(tmp_path / "prediction_net-0000.params"))
    (tmp_path / "prediction_net-network.json").write_text('{"__kind__": "instance", "class": "os.system"}')
    with pytest.raises(CheckpointError, match="saved as Python classes .*as_symbol_block_predictor"):
        gc.load(tmp_path)
    data = mx.nd.random.normal(shape=(2, 3, 8, 8))
    np.testing.assert_array_equal(gc.load(tmp_path, Small)(data).asnumpy(), net(data).asnumpy())


# ---- in MXNet's NumPy interface

@pytest.mark.parametrize("reads", ["NumPy interface", "classic"])
@pytest.mark.parametrize("wrote", ["NumPy interface", "classic"])
def test_files_of_either_interface_open_in_either(tmp_path, wrote, reads):
    """An export, and parameters alone: the same bits come out, as arrays of the interface that is on."""
    def interface(name):
        return contextlib.nullcontext() if name == "classic" else numpy_mode()
    values = np.random.RandomState(0).randn(2, 3, 8, 8).astype(np.float32)
    with interface(wrote):
        net = initialized(Small())
        net.hybridize()
        expected = net((mx.np if wrote != "classic" else mx.nd).array(values)).asnumpy()
        net.export(str(tmp_path / "net"))
        net.save_parameters(str(tmp_path / "net.params"))
    with interface(reads):
        data = (mx.np if reads != "classic" else mx.nd).array(values)
        for found in (gc.load(tmp_path / "net"), gc.load(tmp_path / "net.params", Small)):
            assert type(found(data)) is type(data)
            np.testing.assert_array_equal(found(data).asnumpy(), expected)
