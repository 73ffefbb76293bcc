"""to_onnx: weights as codes, any number of samples, what a file says of itself, networks of others, bad input."""
import builtins
import json
import warnings

import gluon_compress as gc

import mxnet as mx  # noqa: I001
import numpy as np
import onnx
import pytest
from attention import encoder
from gluon_compress import models
from gluon_compress.errors import NetworkError, RecordError
from gluon_compress.export import to_onnx
from gluon_compress.export.onnx.model import checked_opset, write_model
from gluon_compress.network.nodes import Node, plain, written
from gluon_compress.pruning import prune_channels, prune_magnitude
from gluon_compress.quantization import quantize_weights
from mxnet.gluon import SymbolBlock, nn, rnn
from mxnet.gluon.model_zoo import vision
from networks import Function, Net, randomize
from test_onnx_operators import NEWEST, assert_same, listed, normal, run


def assert_agree(net, path, *inputs, tolerance=1e-5):
    found = run(path, [value.asnumpy() for value in inputs])
    for one, other in zip(found, listed(net(*inputs)), strict=True):
        other = other.asnumpy()
        assert one.shape == other.shape and np.abs(one - other).max() <= tolerance * max(1, np.abs(other).max())


def convolutional():
    net = nn.HybridSequential()
    net.add(nn.Conv2D(32, 3, in_channels=3), nn.BatchNorm(in_channels=32), nn.Activation("relu"),
            nn.Conv2DTranspose(32, 3, in_channels=32), nn.MaxPool2D(2), nn.Dense(40))
    mx.random.seed(2)
    net.initialize(mx.init.Xavier())
    net(mx.nd.zeros((1, 3, 8, 8)))
    randomize(net)
    return net


def operators(path):
    return [node.op_type for node in onnx.load(str(path)).graph.node]


def stored(path):
    return {each.name: onnx.numpy_helper.to_array(each) for each in onnx.load(str(path)).graph.initializer}


def said(path):
    return {entry.key: entry.value for entry in onnx.load(str(path)).metadata_props}


# Weights as codes ---------------------------------------------------------------------------------------------------

@pytest.mark.parametrize("per_channel", [True, False])
@pytest.mark.parametrize("bits, opset, dtype", [(8, 13, "int8"), (8, 21, "int8"), (4, 21, "int4"), (2, 23, "int4"),
                                                (4, 13, "int8"), (5, 21, "int8")])
def test_quantized_weights_leave_as_the_codes_that_they_are(bits, opset, dtype, per_channel, tmp_path):
    net, image = convolutional(), mx.nd.random.normal(shape=(2, 3, 8, 8))
    scales = quantize_weights(net, bits, per_channel)
    path = to_onnx(net, tmp_path / "net.onnx", image, opset=opset, weights=scales)
    assert_agree(net, path, image)
    codes = {name: value for name, value in stored(path).items() if name.endswith("_codes")}
    assert [value.dtype.name for value in codes.values()] == [dtype] * 3
    for value, expected in zip(codes.values(), scales.codes(net).values()):
        assert np.array_equal(value.astype(np.int8), expected)
    assert json.loads(said(path)["gluon_compress.weights"])["0.weight"] == {
        "bits": bits, "axis": 0 if per_channel else None}


def test_what_a_rate_trainer_rounds_leaves_with_batch_norm_as_numbers_and_weights_as_codes(tmp_path):
    net, image = nn.HybridSequential(), mx.nd.random.normal(shape=(4, 3, 8, 8))
    net.add(nn.Conv2D(6, 3, in_channels=3), nn.BatchNorm(in_channels=6), nn.Dense(5))
    net.initialize(mx.init.Xavier())
    net(image)
    trainer = gc.coding.RateTrainer(net, 0.1, "sgd", {"learning_rate": 0.01})
    with mx.autograd.record():
        loss = net(image).square().sum(axis=1)
    loss.backward()
    trainer.step(4)
    path = to_onnx(net, tmp_path / "net.onnx", image, weights=trainer.scales)
    assert_agree(net, path, image)
    assert {name for name in trainer.scales.weights if "weight" not in name} >= {"1.gamma", "1.beta", "2.bias"}
    assert sorted(json.loads(said(path)["gluon_compress.weights"])) == ["0.weight", "2.weight"]
    assert operators(path).count("DequantizeLinear") == 2


def test_codes_take_a_quarter_and_an_eighth_of_the_bytes(tmp_path):
    net, image = convolutional(), mx.nd.random.normal(shape=(1, 3, 8, 8))
    sizes = {weights: to_onnx(net, tmp_path / "net.onnx", image, weights=weights).stat().st_size
             for weights in (None, "int8", "int4")}
    assert 3.2 < sizes[None] / sizes["int8"] < 4 and 5.5 < sizes[None] / sizes["int4"] < 8


@pytest.mark.parametrize("weights, steps", [("int8", 127), ("int4", 7)])
def test_weights_can_be_rounded_in_the_file_alone(weights, steps, tmp_path):
    net, image = convolutional(), mx.nd.random.normal(shape=(2, 3, 8, 8))
    before = [parameter.data().asnumpy().tobytes() for parameter in net.collect_params().values()]
    path = to_onnx(net, tmp_path / "net.onnx", image, weights=weights)
    assert [parameter.data().asnumpy().tobytes() for parameter in net.collect_params().values()] == before
    found = stored(path)
    weight = net[0].weight.data().asnumpy()
    codes, scale = (next(value for name, value in found.items() if name.endswith(f"_{part}") and len(value) == 32)
                    for part in ("codes", "scale"))
    assert np.abs(codes.astype(float)).max() == steps
    assert np.abs(codes.astype(float) * scale.reshape(-1, 1, 1, 1) - weight).max() <= scale.max() * 0.5001


def test_the_records_of_a_file_say_which_weights_are_codes_and_the_metadata_tell_of_all(tmp_path):
    net, image = convolutional(), mx.nd.random.normal(shape=(1, 3, 8, 8))
    masks = prune_magnitude(net, 0.5)
    scales = quantize_weights(net, 8)
    gc.save(tmp_path / "net.gcz", net, masks, scales)
    records = gc.checkpoint.records(tmp_path / "net.gcz")
    path = to_onnx(net, tmp_path / "net.onnx", image, weights=records)
    assert_agree(net, path, image)
    assert operators(path).count("DequantizeLinear") == 3
    known = said(path)
    assert set(json.loads(known["gluon_compress.records"])) == {"masks", "scales"}
    assert known["gluon_compress.version"] == gc.__version__ and known["gluon_compress.opset"] == "21"
    assert int(known["gluon_compress.nonzeros"]) < 0.55 * int(known["gluon_compress.parameters"])
    assert path.stat().st_size == to_onnx(net, tmp_path / "b.onnx", image, weights=[scales, masks]).stat().st_size


def test_weights_that_changed_since_are_refused(tmp_path):
    net = convolutional()
    scales = quantize_weights(net, 8)
    net[0].weight.set_data(net[0].weight.data() * 1.01)
    with pytest.raises(RecordError, match="weights of 0.weight are not multiples"):
        to_onnx(net, tmp_path / "net.onnx", mx.nd.zeros((1, 3, 8, 8)), weights=scales)
    assert not list(tmp_path.iterdir())


def test_channels_that_were_removed_are_not_in_the_file(tmp_path):
    net, image = convolutional(), mx.nd.random.normal(shape=(1, 3, 8, 8))
    before = to_onnx(net, tmp_path / "a.onnx", image).stat().st_size
    prune_channels(net, image, ratio=0.5)
    after = to_onnx(net, tmp_path / "b.onnx", image)
    assert_agree(net, after, image)
    assert after.stat().st_size < 0.6 * before


def test_embeddings_and_dense_layers_over_steps_leave_as_codes(tmp_path):
    net, inputs = encoder()
    scales = quantize_weights(net, 8)
    path = to_onnx(net, tmp_path / "net.onnx", inputs, weights=scales)
    assert_agree(net, path, *inputs)
    assert operators(path).count("DequantizeLinear") == len(scales.weights)


# Any number of samples ----------------------------------------------------------------------------------------------

@pytest.mark.parametrize("interleaved, lengths", [(False, False), (False, True), (True, False)])
def test_a_bert_takes_any_number_of_sentences(interleaved, lengths, tmp_path):
    net, inputs = encoder(interleaved, lengths)
    path = to_onnx(net, tmp_path / "net.onnx", inputs)
    assert_agree(net, path, *inputs)
    assert_agree(net, path, *(value[:1] for value in inputs))
    assert_agree(net, path, *(mx.nd.concat(value, value, dim=0) for value in inputs))


def test_steps_before_samples_with_states_as_inputs(tmp_path):
    layer = rnn.GRU(5, 2, input_size=4)
    layer.initialize()
    net = Net(lambda net, F, x, h: net.gru(x, h), gru=layer)
    for steps, samples in ((3, 2), (3, 5), (3, 3)):
        inputs = mx.nd.random.normal(shape=(steps, samples, 4)), mx.nd.random.normal(shape=(2, samples, 5))
        if samples == 2:
            path = to_onnx(net, tmp_path / "net.onnx", inputs)
        found = run(path, [value.asnumpy() for value in inputs])
        expected, (state,) = net(*inputs)
        assert np.abs(found[0] - expected.asnumpy()).max() < 1e-5 and np.abs(found[1] - state.asnumpy()).max() < 1e-5
    shapes = [[length.dim_param or length.dim_value for length in value.type.tensor_type.shape.dim]
              for value in onnx.load(str(path)).graph.input]
    assert shapes == [[3, "batch", 4], [2, "batch", 5]]


@pytest.mark.parametrize("function", [
    lambda F, x: F.reshape(F.transpose(F.reshape(x, (0, -4, 2, -1, -2)), (0, 2, 1, 3, 4)), (-3, -2)).reshape(
        (-1, 6, 20)).sum(axis=1),
    lambda F, x: F.broadcast_like(F.mean(x, axis=0, keepdims=True), x), lambda F, x: F.reverse(F.repeat(
        x, 2, axis=0), axis=0).slice_like(x, axes=(0,)),
    lambda F, x: F.broadcast_add(F.flatten(x), F.expand_dims(F.contrib.arange_like(x, axis=0), axis=1)),
    lambda F, x: F.tile(F.mean(x, axis=(1, 2, 3)), (1,)) * 2, lambda F, x: F.zeros_like(x) + x])
def test_lengths_that_follow_the_batch(function, tmp_path):
    assert_same(function, [normal(2, 6, 5, 4)], tmp_path / "net.onnx", 17, batches=(1, 4))
    assert onnx.load(str(tmp_path / "net.onnx")).graph.output[0].type.tensor_type.shape.dim[0].dim_param == "batch"


@pytest.mark.parametrize("function", [lambda F, x: F.reshape(x, (2, -1)), lambda F, x: F.sum(x, axis=0),
                                      lambda F, x: F.sort(x, axis=0).reshape((6, 2, 20)),
                                      lambda F, x: F.broadcast_mul(x, F.reshape(F.arange(2), (2, 1, 1, 1)))])
def test_a_network_of_so_many_samples_stays_one(function, tmp_path):
    with pytest.warns(UserWarning, match=r"only takes input of shape \(2, 6, 5, 4\)"):
        path = to_onnx(Function(function), tmp_path / "net.onnx", mx.nd.array(normal(2, 6, 5, 4)))
    assert onnx.load(str(path)).graph.input[0].type.tensor_type.shape.dim[0].dim_value == 2


# Networks of others -------------------------------------------------------------------------------------------------

def published():
    """What networks with real weights have that MXNet's converter did not write."""
    data = mx.sym.var("data")

    def convolution(x, name):
        return mx.sym.LeakyReLU(mx.sym.Convolution(x, num_filter=4, kernel=(3, 3), name=name), act_type="prelu")
    body = convolution(data, "a")
    parts = mx.sym.SliceChannel(body, num_outputs=2, name="s")
    dense = mx.sym.FullyConnected(body, num_hidden=3, name="fc")
    return {
        "a dense layer over an image": dense, "SoftmaxActivation": mx.sym.SoftmaxActivation(body, mode="channel"),
        "an output that is read as well": mx.sym.Group([body, dense]), "two outputs": mx.sym.Group([*parts]),
        "one output of two": parts[1], "one output twice": mx.sym.Group([dense, dense]),
        "an input that is an output": mx.sym.Group([dense, data]),
        "Crop to another's size": mx.sym.Crop(mx.sym.UpSampling(body, scale=2, sample_type="nearest"), data,
                                               num_args=2),
        "scalars": mx.sym.FullyConnected(convolution((data - 127.5) * 0.0078125, "d"), num_hidden=3, name="fc"),
        "a loss at its end": mx.sym.SoftmaxOutput(dense, mx.sym.var("softmax_label"), name="softmax")}


@pytest.mark.parametrize("title", published())
def test_published_networks_leave(title, tmp_path):
    symbol = published()[title]
    inputs = [mx.sym.var(name) for name in symbol.list_inputs() if name in ("data", "softmax_label")]
    net = SymbolBlock(symbol, inputs)
    net.initialize(mx.init.Uniform(1))
    example = (mx.nd.random.uniform(shape=(2, 3, 8, 8)), mx.nd.array([0, 1]))[:len(inputs)]
    net(*example)
    assert_agree(net, to_onnx(net, tmp_path / "net.onnx", example), *example)


@pytest.mark.parametrize("name, size", [("mobilenet0.25", 32), ("mobilenetv2_0.25", 32)])
def test_zoo_networks_leave_in_every_opset(name, size, tmp_path):
    net = vision.get_model(name, classes=10)
    net.initialize(mx.init.Xavier())
    image = mx.nd.random.normal(shape=(2, 3, size, size))
    net(image)
    for opset in (13, NEWEST):
        assert_agree(net, to_onnx(net, tmp_path / "net.onnx", image, opset=opset), image)


# Checks -------------------------------------------------------------------------------------------------------------

def test_without_onnx_runtime_the_reference_implementation_checks(tmp_path, monkeypatch):
    net, image = models.SimpleCNN(), mx.nd.random.uniform(shape=(2, 1, 28, 28))
    net.initialize()
    net(image)
    find = builtins.__import__

    def without(name, *args, **kwargs):
        if name == "onnxruntime":
            raise ImportError(name)
        return find(name, *args, **kwargs)
    monkeypatch.setattr(builtins, "__import__", without)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        to_onnx(net, tmp_path / "net.onnx", image)
    large = nn.Dense(100, in_units=100, flatten=False)
    large.initialize()
    with pytest.warns(UserWarning, match="was not run: ONNX's reference implementation would take minutes"):
        to_onnx(large, tmp_path / "large.onnx", mx.nd.zeros((1, 400_000, 100)))


def test_a_file_that_computes_something_else_is_not_put_in_place(tmp_path, monkeypatch):
    from gluon_compress.export.onnx.table import TABLE
    monkeypatch.setitem(TABLE, "relu", lambda node, write: write("Abs", write.data(node)))
    net = Function(lambda F, x: F.relu(x))
    with pytest.raises(NetworkError, match="computes something else"):
        to_onnx(net, tmp_path / "net.onnx", mx.nd.array(normal(2, 3)))
    assert not list(tmp_path.iterdir())
    to_onnx(net, tmp_path / "net.onnx", mx.nd.array(normal(2, 3)), verify=False)


@pytest.mark.parametrize("arguments, error, message", [
    ({"opset": 12}, ValueError, "opset is 12; accepted: 13 to"), ({"opset": 99}, ValueError, "the newest that onnx"),
    ({"opset": "13"}, TypeError, "accepted: an integer from 13"), ({"opset": True}, TypeError, "opset is True"),
    ({"weights": "int3"}, ValueError, "weights is 'int3'; accepted: 'int8', 'int4'"),
    ({"weights": 8}, TypeError, "weights is 8; accepted: a record"),
    ({"weights": [1]}, TypeError, "accepted: a record"), ({"verify": "no"}, TypeError, "verify")])
def test_bad_arguments_leave_the_file(arguments, error, message, tmp_path):
    (tmp_path / "net.onnx").write_bytes(b"old")
    with pytest.raises(error, match=message):
        to_onnx(convolutional(), tmp_path / "net.onnx", mx.nd.zeros((1, 3, 8, 8)), **arguments)
    assert (tmp_path / "net.onnx").read_bytes() == b"old"


def test_types_that_do_not_fit_name_the_operator_of_the_network(tmp_path):
    net = convolutional()
    name = net[0].name
    for dtype in ("float16", "float64", "int32", "uint8"):
        with pytest.raises(ValueError, match=rf"^example, \(1, 3, 8, 8\) {dtype}, does not fit .*: Error in operator "
                                             rf"{name}_fwd: its weight is float32, what it reads {dtype}; accepted: "):
            to_onnx(net, tmp_path / "net.onnx", mx.nd.zeros((1, 3, 8, 8), dtype=dtype))
    net = Function(lambda F, x: F.exp(x, name="growth"))
    with pytest.raises(NetworkError, match="ONNX form of .*growth.*: ONNX's Exp does not take int32; cast to float32"):
        to_onnx(net, tmp_path / "net.onnx", mx.nd.zeros((1, 3), dtype="int32"))
    assert not list(tmp_path.iterdir())


def test_what_is_not_a_number_is_named_and_not_the_file_blamed(tmp_path):
    net = nn.HybridSequential()
    net.add(nn.Dense(4, in_units=3), nn.Activation("relu"), nn.Dense(2, in_units=4))
    net.initialize(mx.init.One())
    example = mx.nd.array(normal(2, 3))
    with pytest.raises(NetworkError, match="^example not finite; accepted: finite numbers"):
        to_onnx(net, tmp_path / "net.onnx", example * np.nan)
    net[0].weight.data()[2, 1] = np.nan
    with pytest.raises(NetworkError, match="^parameter 0.weight not finite; accepted: finite numbers"):
        to_onnx(net, tmp_path / "net.onnx", example)
    assert not list(tmp_path.iterdir())


def test_halves_and_their_neighbours_are_rounded_as_in_mxnet(tmp_path):
    halves = np.concatenate([np.arange(-9, 9) + 0.5, 2.0 ** np.arange(20, 25) + 1]).astype(np.float32)
    data = mx.nd.array(np.concatenate([halves, np.nextafter(halves, -99), np.nextafter(halves, 99)])[:, None])
    net = Function(lambda F, x: F.round(x))
    made = run(to_onnx(net, tmp_path / "net.onnx", data), [data.asnumpy()])[0]
    np.testing.assert_array_equal(made, net(data).asnumpy())


def test_weights_of_another_network_are_refused(tmp_path):
    scales = quantize_weights(convolutional(), 8)
    net = nn.Dense(3, in_units=4)
    net.initialize()
    with pytest.raises(RecordError, match="another network"):
        to_onnx(net, tmp_path / "net.onnx", mx.nd.zeros((1, 4)), weights=scales)


def test_more_than_two_gigabytes_are_refused_before_anything_is_written():
    data, weight = Node("data", "null"), Node("weight", "null")
    product = plain("sum", "broadcast_add", (data, 0))[0]
    product.inputs.append((weight, 0))
    huge = np.lib.stride_tricks.as_strided(np.zeros(1, np.float32), (2**29 + 1, 1), (0, 0))  # takes no memory here
    with pytest.raises(NetworkError, match="weights take 2,147,483,652 bytes"):
        write_model([(product, 0)], {"data": ((2**29 + 1, 1), np.float32)}, {"weight": huge}, batch_axes=[])


def test_graphs_of_nodes_with_codes():
    """What the emitter of int8 networks hands over; ONNX Runtime computes the codes that NumPy does."""
    values = {"scale": np.array([0.5], np.float32), "zero": np.array([3], np.uint8)}
    data, *parts = ((Node(name, "null"), 0) for name in ("data", "scale", "zero"))
    codes = written("QuantizeLinear", "codes", data, *parts), 0
    back = written("DequantizeLinear", "back", codes, *parts), 0
    model = write_model([codes, back], {"data": ((2, 3), np.float32)}, values, opset=13)
    x = normal(2, 3) * 10
    expected = np.clip(np.rint(x / 0.5) + 3, 0, 255)
    found = run_model(model, x)
    assert found[0].dtype == np.uint8 and np.array_equal(found[0], expected)
    assert np.array_equal(found[1], (expected - 3).astype(np.float32) * 0.5)


def run_model(model, array):
    import onnxruntime
    return onnxruntime.InferenceSession(model.SerializeToString(), providers=["CPUExecutionProvider"]).run(
        None, {"data": array})


def test_the_default_opset_is_one_that_the_installed_onnx_knows():
    assert 13 <= checked_opset(None) <= onnx.defs.onnx_opset_version()


def test_the_slopes_that_a_random_rectifier_drew_are_no_output_and_what_to_take_is_said(tmp_path):
    inputs = mx.nd.random.normal(shape=(2, 3))
    with pytest.raises(NetworkError, match=r"a LeakyReLU.*output 0, as in F.LeakyReLU\(...\)\[0\]"):
        to_onnx(Function(lambda F, x: F.LeakyReLU(x, act_type="rrelu")), tmp_path / "net.onnx", inputs)
    net = Function(lambda F, x: F.LeakyReLU(x, act_type="rrelu", lower_bound=0.1, upper_bound=0.5)[0])
    found, = run(to_onnx(net, tmp_path / "net.onnx", inputs), [inputs.asnumpy()])
    np.testing.assert_allclose(found, np.where(inputs.asnumpy() < 0, 0.3, 1) * inputs.asnumpy(), rtol=1e-6)
