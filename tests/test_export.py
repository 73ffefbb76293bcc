"""export.py: ONNX Runtime and MXNet compute the same; files and network stay as they were on failure."""
import sys
import warnings

import mxnet as mx
import numpy as np
import onnx
import onnxruntime
import pytest
from gluon_compress import load, models
from gluon_compress.errors import CheckpointError, NetworkError
from gluon_compress.export import to_onnx, write_checkpoint
from gluon_compress.pruning import prune_channels
from mxnet.gluon import HybridBlock, SymbolBlock, nn
from networks import Function
from onnx import numpy_helper


class TwoInputs(HybridBlock):
    """Reads its second input first, and gives its outputs in another order than it computes them."""

    def __init__(self):
        super().__init__()
        self.left, self.right = nn.Dense(3, in_units=4), nn.Dense(3, in_units=5)

    def hybrid_forward(self, F, x, y):
        right = self.right(y)
        return F.relu(right) + 1, F.concat(self.left(x), right, dim=1), right


def ready(net, shape):
    """With weights, biases and running statistics that all matter."""
    mx.random.seed(1)
    net.initialize(mx.init.Xavier())
    net(mx.nd.zeros(shape))
    for name, parameter in net.collect_params().items():
        if name.endswith(("bias", "beta", "running_mean")):
            parameter.set_data(mx.nd.random.normal(0, 0.1, shape=parameter.shape))
        elif name.endswith(("gamma", "running_var")):
            parameter.set_data(mx.nd.random.uniform(0.5, 1.5, shape=parameter.shape))
    return net


def run_onnx(path, *inputs):
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 3
    session = onnxruntime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
    return session.run(None, {known.name: value.asnumpy() for known, value in zip(session.get_inputs(), inputs)})


def assert_close(found, expected):
    expected = expected.asnumpy()
    assert found.shape == expected.shape
    np.testing.assert_allclose(found, expected, rtol=0, atol=1e-5 * max(1, np.abs(expected).max()))


def state_of(net):
    return net._active, net._cached_op, net._cached_graph, {
        name: (parameter.grad_req, parameter.data().asnumpy().tobytes())
        for name, parameter in net.collect_params().items()}


NETWORKS = {
    "LeNet": (models.LeNet, (1, 28, 28)),
    "SimpleCNN": (models.SimpleCNN, (1, 28, 28)),
    "AlexNet": (lambda: models.AlexNet(10, 64), (3, 67, 67)),
    "ResNet": (lambda: models.ResNet(18, 10, thumbnail=True, width=8), (3, 32, 32)),
}


@pytest.mark.parametrize("name", NETWORKS)
@pytest.mark.parametrize("hybridize", [False, True])
def test_onnx_runtime_agrees(name, hybridize, tmp_path):
    make, shape = NETWORKS[name]
    net = ready(make(), (2, *shape))
    net.hybridize(hybridize)
    net(mx.nd.zeros((2, *shape)))
    before = state_of(net)
    path = to_onnx(net, tmp_path / "net.onnx", mx.nd.random.uniform(shape=(2, *shape)))
    assert state_of(net) == before
    for batch in (1, 2, 5):
        inputs = mx.nd.random.uniform(shape=(batch, *shape))
        found, = run_onnx(path, inputs)
        assert_close(found, net(inputs))
    model = onnx.load(str(path))
    assert [value.name for value in model.graph.input] == ["data"]
    dimensions, = [value.type.tensor_type.shape.dim for value in model.graph.output]
    assert (dimensions[0].dim_param, dimensions[1].dim_value) == ("batch", 10)
    assert [version.version for version in model.opset_import] == [21]
    assert list(tmp_path.iterdir()) == [path]


def test_zeros_stay_zeros(tmp_path):
    net = ready(models.SimpleCNN(), (1, 1, 28, 28))
    zeros = 0
    for layer in (net.conv1, net.conv2, net.fc1, net.fc2):
        values = layer.weight.data().asnumpy()
        values[np.abs(values) < np.quantile(np.abs(values), 0.9)] = 0
        zeros += (values == 0).sum()
        layer.weight.set_data(mx.nd.array(values))
    inputs = mx.nd.random.uniform(shape=(3, 1, 28, 28))
    path = to_onnx(net, tmp_path / "net.onnx", inputs)
    weights = [numpy_helper.to_array(value) for value in onnx.load(str(path)).graph.initializer]
    assert sum((value == 0).sum() for value in weights) == zeros > 0.89 * 21_750
    assert_close(run_onnx(path, inputs)[0], net(inputs))


@pytest.mark.parametrize("function", [
    lambda F, x: F.mean(x, axis=(2, 3)), lambda F, x: F.max(x, axis=1), lambda F, x: F.softmax(x),
    lambda F, x: F.clip(x, 0.2, 0.6), lambda F, x: F.LeakyReLU(x, act_type="leaky"), lambda F, x: F.Dropout(x) + 1,
    lambda F, x: F.Pooling(x, kernel=(3, 3), stride=(2, 2), pool_type="max", pooling_convention="full"),
    lambda F, x: F.Pooling(x, kernel=(3, 3), pad=(1, 1), stride=(2, 2), pool_type="avg")])
def test_operators(function, tmp_path):
    inputs = mx.nd.random.uniform(shape=(2, 4, 6, 6))
    net = Function(function)
    assert_close(run_onnx(to_onnx(net, tmp_path / "a.onnx", inputs), inputs)[0], net(inputs))


def test_several_inputs_and_outputs_keep_their_order(tmp_path):
    net = TwoInputs()
    net.initialize(mx.init.Normal(1))
    example = mx.nd.random.normal(shape=(2, 4)), mx.nd.random.normal(shape=(2, 5))
    path = to_onnx(net, tmp_path / "net.onnx", example)
    assert [value.name for value in onnx.load(str(path)).graph.input] == ["data0", "data1"]
    for found, expected in zip(run_onnx(path, *example), net(*example)):
        assert_close(found, expected)
    files = write_checkpoint(net, tmp_path / "net", example)
    block = SymbolBlock.imports(str(files[0]), ["data0", "data1"], str(files[1]))
    for found, expected in zip(block(*example), net(*example)):
        np.testing.assert_array_equal(found.asnumpy(), expected.asnumpy())


def test_a_layer_called_twice(tmp_path):
    shared = nn.Dense(6)
    net = nn.HybridSequential()
    net.add(shared, nn.Activation("tanh"), shared)
    inputs = mx.nd.random.normal(shape=(4, 6))
    ready(net, inputs.shape)
    assert_close(run_onnx(to_onnx(net, tmp_path / "net.onnx", inputs), inputs)[0], net(inputs))
    files = write_checkpoint(net, tmp_path / "net", inputs)
    assert_close(SymbolBlock.imports(str(files[0]), ["data"], str(files[1]))(inputs).asnumpy(), net(inputs))


def test_batch_normalization_without_scale(tmp_path):
    net = nn.HybridSequential()
    net.add(nn.BatchNorm(scale=False))
    inputs = mx.nd.random.normal(shape=(2, 3, 4, 4))
    ready(net, inputs.shape)  # its gamma is not one, but MXNet takes it for one
    assert np.abs(net[0].gamma.data().asnumpy() - 1).max() > 0.1
    assert_close(run_onnx(to_onnx(net, tmp_path / "net.onnx", inputs), inputs)[0], net(inputs))


def test_symbol_block_to_onnx(tmp_path):
    net = ready(models.ResNet(18, 10, thumbnail=True, width=8), (1, 3, 32, 32))
    files = write_checkpoint(net, tmp_path / "net")
    block = SymbolBlock.imports(str(files[0]), ["data"], str(files[1]))
    inputs = mx.nd.random.uniform(shape=(2, 3, 32, 32))
    assert_close(run_onnx(to_onnx(block, tmp_path / "net.onnx", inputs), inputs)[0], net(inputs))
    again = write_checkpoint(block, tmp_path / "again", inputs)
    assert mx.nd.load(str(again[1])).keys() == mx.nd.load(str(files[1])).keys()


@pytest.mark.parametrize("codes", [(-3, -2), (0, -4, 2, -1, -2), (0, -3, 4), (-4, -1, 1, -2)])
def test_codes_of_a_reshape_that_onnx_has_not_leave_as_lengths(codes, tmp_path):
    inputs = mx.nd.random.normal(shape=(2, 6, 5, 4))
    net = Function(lambda F, x: F.reshape(F.reshape(x, codes) * 2, (-1, 6, 20)))
    path = to_onnx(net, tmp_path / "net.onnx", inputs)
    for batch in (inputs, mx.nd.random.normal(shape=(3, 6, 5, 4))):
        assert_close(run_onnx(path, batch)[0], net(batch))


def test_codes_of_a_reshape_from_the_right_leave_as_lengths(tmp_path):
    inputs = mx.nd.random.normal(shape=(2, 6, 5, 4))
    net = Function(lambda F, x: F.reshape(F.reshape(x, (-1, 0), reverse=True), (-1, 120)))
    assert_close(run_onnx(to_onnx(net, tmp_path / "net.onnx", inputs), inputs)[0], net(inputs))


def test_a_dense_layer_that_does_not_say_flatten_flattens(tmp_path):
    data = mx.sym.var("data")
    net = SymbolBlock(mx.sym.FullyConnected(mx.sym.relu(data), num_hidden=3, name="dense"), [data])
    inputs = mx.nd.random.normal(shape=(2, 3, 4, 5))
    net.initialize(mx.init.Normal(0.5))
    net(inputs)
    assert_close(run_onnx(to_onnx(net, tmp_path / "net.onnx", inputs), inputs)[0], net(inputs))


def test_a_fixed_batch_is_announced(tmp_path):
    inputs = mx.nd.random.normal(shape=(2, 3, 4))
    net = Function(lambda F, x: F.reshape(x, (2, -1)))
    with pytest.warns(UserWarning, match=r"only takes input of shape \(2, 3, 4\)"):
        path = to_onnx(net, tmp_path / "net.onnx", inputs)
    assert [dimension.dim_value for dimension in onnx.load(str(path)).graph.input[0].type.tensor_type.shape.dim] \
        == [2, 3, 4]
    assert_close(run_onnx(path, inputs)[0], net(inputs))


@pytest.mark.parametrize("function, reason", [
    (lambda F, x: F.contrib.fft(F.contrib.ifft(F.contrib.fft(x))),
     r"no ONNX form of _contrib_fft \(in .*, .*\); _contrib_ifft \(in"),
    (lambda F, x: F.gamma(F.erfinv(x)), r"in opset 21, of erfinv as .* \(in .*\); gamma as"),
    (lambda F, x: F.log(x - 2), "not finite")])
def test_what_cannot_be_written_leaves_the_file(function, reason, tmp_path):
    path = tmp_path / "net.onnx"
    path.write_bytes(b"old")
    with pytest.raises(NetworkError, match=reason):
        to_onnx(Function(function), path, mx.nd.random.uniform(shape=(2, 4, 6, 6)))
    assert path.read_bytes() == b"old" and list(tmp_path.iterdir()) == [path]


def test_float16_is_compared_with_what_float32_computes(tmp_path):
    net = ready(models.SimpleCNN(), (1, 1, 28, 28))
    inputs = mx.nd.random.uniform(shape=(2, 1, 28, 28))
    expected = net(inputs).asnumpy()
    net.cast("float16")
    half = inputs.astype("float16")
    found, = run_onnx(to_onnx(net, tmp_path / "net.onnx", half), half)
    assert found.dtype == np.float16
    np.testing.assert_allclose(found, expected, atol=2e-2 * np.abs(expected).max())
    net.cast("float32")  # Gluon's variables still say float16
    symbol = mx.sym.load(str(write_checkpoint(net, tmp_path / "net", inputs)[0]))
    types = {name: attributes.get("__dtype__") for name, attributes in symbol.attr_dict().items()}
    assert {types[name] for name in net.collect_params()} == {"0"}


def test_onnx_is_an_extra(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "onnx", None)
    with pytest.raises(ImportError, match=r"to_onnx needs onnx, .*\[onnx\]"):
        to_onnx(ready(models.SimpleCNN(), (1, 1, 28, 28)), tmp_path / "net.onnx", mx.nd.zeros((1, 1, 28, 28)))
    assert not list(tmp_path.iterdir())


def test_bad_input(tmp_path):
    example = mx.nd.zeros((1, 1, 28, 28))
    net = models.LeNet()
    calls = [lambda net, example: to_onnx(net, tmp_path / "net.onnx", example),
             lambda net, example: write_checkpoint(net, tmp_path / "net", example)]
    for call in calls:
        with pytest.raises(TypeError, match="HybridBlock"):
            call(object(), example)
        with pytest.raises(NetworkError, match="not initialized"):
            call(net, example)
    net.initialize()
    for call in calls:
        with pytest.raises(NetworkError, match=r"run net\(example\) once"):
            call(net, example)
    net(example)
    for call in calls:
        with pytest.raises(TypeError, match="example"):
            call(net, [[0.0]])
        with pytest.raises(ValueError, match="does not fit"):
            call(net, mx.nd.zeros((1, 1, 32, 32)))
        with pytest.raises(NetworkError, match="data1 does not reach an output"):
            call(Function(lambda F, x, y: x + 1), (example, example))
    with pytest.raises(ValueError, match=r"\.onnx"):
        to_onnx(net, tmp_path / "net.bin", example)
    for epoch, error in ((-1, ValueError), (10_000, ValueError), (1.5, TypeError)):
        with pytest.raises(error, match="epoch"):
            write_checkpoint(net, tmp_path / "net", epoch=epoch)
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("batch_norm", [False, True])  # MXNet counts the changes of its statistics, trace by trace
def test_the_graph_that_other_epochs_belong_to_is_not_replaced_by_another(batch_norm, tmp_path):
    net, inputs = models.LeNet(), mx.nd.ones((1, 1, 28, 28))
    if batch_norm:
        net.conv.add(nn.BatchNorm())
    ready(net, (1, 1, 28, 28))
    write_checkpoint(net, tmp_path / "net", epoch=1)
    write_checkpoint(net, tmp_path / "net", epoch=2)  # of the same graph there may be many
    before = {path.name: path.read_bytes() for path in tmp_path.iterdir()}
    prune_channels(net, inputs, ratio=0.5)
    with pytest.raises(ValueError, match=r"lies with its parameters, net-0001.params, net-0002"):
        write_checkpoint(net, tmp_path / "net", epoch=3)
    assert {path.name: path.read_bytes() for path in tmp_path.iterdir()} == before
    write_checkpoint(net, tmp_path / "net2", epoch=3)


ENDS_AT_A_RENAME = """
import os, sys
import gluon_compress as gc
from mxnet.gluon import nn
net, left = nn.HybridSequential(), int(sys.argv[2])
net.add(nn.Dense(5, in_units=784))
net.initialize()
def end(event, arguments):
    global left
    if event == "os.rename" and str(arguments[1]).startswith(sys.argv[1]):
        left -= 1
        if left < 0:
            os._exit(9)
sys.addaudithook(end)
gc.export.write_checkpoint(net, sys.argv[1])
"""


@pytest.mark.parametrize("renames", [0, 1])
def test_a_process_that_ends_in_between_leaves_no_graph_with_the_parameters_of_another(tmp_path, renames, start_python):
    write_checkpoint(ready(models.LeNet300100(), (1, 1, 28, 28)), tmp_path / "net")
    process = start_python(ENDS_AT_A_RENAME, tmp_path / "net", renames)
    _, said = process.communicate()
    assert process.returncode == 9, said
    with pytest.raises(CheckpointError, match="net-symbol.json has no parameters beside it"):
        load(tmp_path / "net-symbol.json")
    write_checkpoint(ready(models.SimpleCNN(), (1, 1, 28, 28)), tmp_path / "net")
    assert load(tmp_path / "net")(mx.nd.ones((1, 1, 28, 28))).shape == (1, 10)


@pytest.mark.parametrize("hybridize", [False, True])
def test_symbol_files_are_those_of_gluon(hybridize, tmp_path):
    net = ready(models.ResNet(18, 10, thumbnail=True, width=8), (1, 3, 32, 32))
    inputs = mx.nd.random.uniform(shape=(2, 3, 32, 32))
    net.hybridize(hybridize)
    expected = net(inputs).asnumpy()
    before = state_of(net)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        files = write_checkpoint(net, tmp_path / "ours", inputs, epoch=7)
    assert state_of(net) == before
    assert [path.name for path in files] == ["ours-symbol.json", "ours-0007.params"]
    assert sorted(tmp_path.iterdir()) == sorted(files)
    block = SymbolBlock.imports(str(files[0]), ["data"], str(files[1]))
    np.testing.assert_array_equal(block(inputs).asnumpy(), expected)

    net.hybridize()
    net(inputs)
    net.export(str(tmp_path / "gluons"), epoch=7)
    ours, gluons = (mx.nd.load(str(tmp_path / f"{name}-0007.params")) for name in ("ours", "gluons"))
    assert ours.keys() == gluons.keys()
    for name, value in gluons.items():
        np.testing.assert_array_equal(ours[name].asnumpy(), value.asnumpy())
    symbols = [mx.sym.load(str(tmp_path / f"{name}-symbol.json")) for name in ("ours", "gluons")]
    assert symbols[0].list_arguments() == symbols[1].list_arguments()
    assert symbols[0].list_outputs() == symbols[1].list_outputs()


def test_a_directory_in_the_way_leaves_both_files(tmp_path):
    net = ready(models.SimpleCNN(), (1, 1, 28, 28))
    (tmp_path / "net-symbol.json").write_text("old")
    (tmp_path / "net-0000.params").mkdir()
    with pytest.raises(ValueError, match="0000.params., a directory; accepted: the path of a file"):
        write_checkpoint(net, tmp_path / "net")
    assert (tmp_path / "net-symbol.json").read_text() == "old"
    assert len(list(tmp_path.iterdir())) == 2


@pytest.mark.parametrize("end", ["", "/", "/new/"])
def test_a_prefix_that_is_a_directory(tmp_path, end):
    net = ready(models.SimpleCNN(), (1, 1, 28, 28))
    with pytest.raises(ValueError, match="path_prefix is '.*', a directory; accepted: the beginning of a file name"):
        write_checkpoint(net, f"{tmp_path}{end}")
    assert list(tmp_path.iterdir()) == []


def test_nan_weights_come_back_as_they_are(tmp_path):
    net = ready(models.SimpleCNN(), (1, 1, 28, 28))
    values = net.fc2.weight.data().asnumpy()
    values[0, :3] = np.nan, -np.inf, -0.0
    net.fc2.weight.set_data(mx.nd.array(values))
    files = write_checkpoint(net, tmp_path / "net")
    block = SymbolBlock.imports(str(files[0]), ["data"], str(files[1]))
    assert block.collect_params()[net.fc2.weight.name].data().asnumpy().tobytes() == values.tobytes()
    with pytest.raises(NetworkError, match="not finite"):
        to_onnx(net, tmp_path / "net.onnx", mx.nd.ones((1, 1, 28, 28)))
    assert sorted(tmp_path.iterdir()) == sorted(files)
