"""Int8 networks: they agree with fp32, with their own simulation and with what was saved; bad input is refused."""

import gluon_compress as gc  # before mxnet

import mxnet as mx  # noqa: I001
import numpy as np
import pytest
from gluon_compress.errors import CheckpointError, NetworkError, RecordError
from gluon_compress.network.graph import Graph
from gluon_compress.network.nodes import Node, in_order, symbol_of, written
from gluon_compress.models import AlexNet, LeNet, ResNet
from gluon_compress.network import snapshot
from gluon_compress.quantization import IntegerNetwork, QuantizationRecord, prepare_qat, quantize
from gluon_compress.quantization.integers import onednn
from gluon_compress.network.blocks import block_of
from gluon_compress.quantization.folding import batch_norm_pairs
from gluon_compress.quantization.integers.fusions import find_fusions, is_grouped
from gluon_compress.quantization.integers.inference_graph import fold_scales, simplify
from gluon_compress.quantization.calibration.observing import input_batches
from mxnet.gluon import HybridBlock, SymbolBlock, nn, rnn
from mxnet.gluon.model_zoo import vision
from networks import Assorted, Branches, Net, NormNet, OwnWeight, SharedWeights, build, exported, identical, values


def inverted_residual():
    """As in MobileNet v2: depthwise, ReLU6, and a sum that no ReLU follows."""
    def f(net, F, x):
        x = F.clip(net.first_norm(net.first(x)), 0, 6)
        y = F.clip(net.expand_norm(net.expand(x)), 0, 6)
        y = F.clip(net.deep_norm(net.deep(y)), 0, 6)
        y = net.project_norm(net.project(y))
        z = net.narrow_norm(net.narrow(x)) + y
        return net.head(net.last(z) + z)
    norms = {f"{name}_norm": nn.BatchNorm() for name in ("first", "expand", "deep", "project", "narrow")}
    return Net(f, first=nn.Conv2D(8, 3, padding=1), expand=nn.Conv2D(24, 1),
               deep=nn.Conv2D(24, 3, padding=1, groups=24), project=nn.Conv2D(8, 1), narrow=nn.Conv2D(8, 1),
               last=nn.Conv2D(8, 3, padding=1), head=nn.Dense(4), **norms)


def fire():
    """As in SqueezeNet: convolutions side by side, max and average pooling on integers, a convolution at the end."""
    def f(net, F, x):
        x = F.relu(net.squeeze(net.pool(F.relu(net.stem(x)))))
        x = net.average(F.concat(F.relu(net.one(x)), F.relu(net.three(x)), dim=1))
        return F.flatten(F.relu(net.last(x)))
    return Net(f, stem=nn.Conv2D(8, 3), pool=nn.MaxPool2D(2), squeeze=nn.Conv2D(4, 1), one=nn.Conv2D(8, 1),
               three=nn.Conv2D(8, 3, padding=1), average=nn.AvgPool2D(2), last=nn.Conv2D(5, 1))


def aggregated():
    """As in ResNeXt: a convolution in groups between two 1x1 ones, and a leaky one, which takes nothing along."""
    def f(net, F, x):
        x = F.relu(net.stem(x))
        y = F.relu(net.groups_norm(net.groups(F.relu(net.down(x)))))
        return net.head(F.relu(net.up(y) + x) + F.LeakyReLU(net.leaky(x), slope=0.1))
    return Net(f, stem=nn.Conv2D(16, 3, padding=1), down=nn.Conv2D(16, 1), up=nn.Conv2D(16, 1), head=nn.Dense(4),
               groups=nn.Conv2D(16, 3, padding=1, groups=4, use_bias=False), groups_norm=nn.BatchNorm(),
               leaky=nn.Conv2D(16, 3, padding=1, groups=2))


NETWORKS = {
    "lenet": (LeNet, (16, 1, 28, 28)), "alexnet": (lambda: AlexNet(10, 32), (4, 3, 67, 67)),
    "resnet": (lambda: ResNet(18, 10, thumbnail=True, width=8), (8, 3, 16, 16)),
    "bottleneck": (lambda: ResNet(50, 10, thumbnail=True, width=4), (8, 3, 16, 16)),
    "norms": (NormNet, (16, 3, 8, 8)), "branches": (Branches, (16, 2, 12, 12)),
    "own weight": (OwnWeight, (16, 1, 8, 8)),
    "shared": (SharedWeights, (16, 6)), "inverted residual": (inverted_residual, (8, 3, 12, 12)),
    "fire": (fire, (8, 3, 13, 13)), "aggregated": (aggregated, (8, 3, 12, 12)),
    "resnet v2": (lambda: vision.ResNetV2(vision.BasicBlockV2, [2, 2, 2, 2], [8, 8, 16, 24, 32], classes=5),
                  (2, 3, 32, 32)),
    "densenet": (lambda: vision.DenseNet(8, 4, [2, 2], classes=5), (2, 3, 224, 224)),
    "mobilenet": (lambda: vision.mobilenet0_25(classes=5), (4, 3, 32, 32))}
ALL = pytest.mark.parametrize("name", NETWORKS)


def example_of(name):
    return build(*NETWORKS[name])


CLOSE = 0.12 if onednn.saturates() else 0.08  # random weights, of which large ones are neighbours


def relative_error(found, expected):
    return np.linalg.norm(found.asnumpy() - expected.asnumpy()) / np.linalg.norm(expected.asnumpy())


@ALL
def test_int8_networks_agree_with_fp32_and_with_their_simulation(name):
    net, example = example_of(name)
    expected = net(example)
    before = values(net)  # MXNet's BatchNorm sets a fixed gamma to 1 when it runs
    int8 = quantize(net, [example], method="minmax", progress=False)
    simulated = quantize(net, [example], method="minmax", simulate=True, progress=False)
    assert isinstance(int8, IntegerNetwork) and not int8.simulated and simulated.simulated
    assert relative_error(int8(example), expected) < CLOSE
    assert relative_error(int8(example), simulated(example)) < 0.03
    assert identical(before, values(net)) and np.array_equal(net(example).asnumpy(), expected.asnumpy())
    operators = [node.operator for node in Graph(int8, example).nodes]
    in_fp32 = [note for note in int8.record.processor.values() if "in fp32 here" in note]
    assert len(in_fp32) == onednn.saturates() * sum(map(is_grouped, int8.quantized.inference.layers.values()))
    assert sum(operators.count(name) for name in ("_sg_mkldnn_conv", "_sg_mkldnn_fully_connected")) >= len(
        int8.record.layers) - len(in_fp32) > 0
    assert all(parameter.grad_req == "null" for parameter in int8.collect_params().values())
    kinds = {layer for layer in int8.record.layers} | set(int8.record.left_out)
    assert {node.inputs[1][0].parameter.rpartition(".")[0].removesuffix("_weight") or "mix" for node in
            Graph(net, example).producers()} <= kinds | {"mix", ""}
    assert all(layer["snr"] > 10 for layer in int8.record.layers.values())


@ALL
def test_the_simplified_graph_computes_the_same(name):
    net, example = example_of(name)
    graph = Graph(net, example)
    inference = simplify(graph)
    parameters = fold_scales(inference, snapshot(net))
    same = block_of(inference.outputs, inference.inputs, parameters)
    np.testing.assert_allclose(same(example).asnumpy(), net(example).asnumpy(), rtol=1e-3, atol=1e-4)
    operators = [node.operator for node in in_order(inference.outputs)]
    pairs, reasons = batch_norm_pairs(graph)
    assert operators.count("BatchNorm") == len(reasons) and "Dropout" not in operators
    for norm in pairs:
        gamma, beta, mean, variance = (parameters[source.parameter] for source, _ in norm.inputs[1:])
        assert (gamma == 1).all() and (mean == 0).all() and len(np.unique(variance)) == 1


MOVES = {"Flatten", "squeeze", "expand_dims", "slice_axis", "zeros_like", "Concat"}


@pytest.mark.parametrize("name, integer, fp32", [
    ("resnet", {"_sg_mkldnn_conv": 20, "_sg_mkldnn_fully_connected": 1, "_contrib_quantize_v2": 2,
                "_contrib_dequantize": 1}, {"Pooling": 1, "Flatten": 1}),
    ("alexnet", {"_sg_mkldnn_conv": 5, "_contrib_quantized_pooling": 3, "_sg_mkldnn_fully_connected": 3,
                 "_contrib_quantize_v2": 1}, {}),
    ("fire", {"_sg_mkldnn_conv": 5, "_contrib_quantized_pooling": 2, "_contrib_quantized_concat": 1,
              "_contrib_quantize_v2": 1, "_contrib_dequantize": 1}, {"Flatten": 1}),
    ("inverted residual", {"_sg_mkldnn_conv": 6, "_sg_mkldnn_fully_connected": 1, "_contrib_quantize_v2": 1}, {})])
def test_nothing_else_runs_between_the_layers(name, integer, fp32):
    net, example = example_of(name)
    graph = Graph(quantize(net, [example], progress=False), example)
    operators = [node.operator for node in graph.nodes if node.operator != "null"]
    found = {operator: operators.count(operator) for operator in set(operators)}
    moves = found.keys() & {"_contrib_quantized_flatten", *(MOVES if onednn.saturates() else ())} - fp32.keys()
    assert {operator: count for operator, count in found.items() if operator not in moves} == {**integer, **fp32}


@pytest.mark.parametrize("batch", [1, 5])
def test_large_dense_layers_run_as_convolutions(batch):
    """The first reads an image, the second signed codes, with which a convolution halves weights; the third is fp32."""
    net, example = build(Net, (7, 4, 8, 8), function=lambda net, F, x: net.c(net.b(net.a(F.relu(net.conv(x))))),
                         conv=nn.Conv2D(9, 3, padding=1), a=nn.Dense(512), b=nn.Dense(520, activation="relu"),
                         c=nn.Dense(600))
    int8, simulated = (quantize(net, [example], simulate=simulate, progress=False) for simulate in (False, True))
    operators = [node.operator for node in Graph(int8, example).nodes]
    assert (operators.count("_sg_mkldnn_conv"), operators.count("_sg_mkldnn_fully_connected"),
            operators.count("transpose")) == ((2, 2, 2) if onednn.saturates() else (3, 1, 2))
    other = mx.nd.random.normal(shape=(batch, 4, 8, 8))
    assert relative_error(int8(other), net(other)) < CLOSE
    assert relative_error(int8(other), simulated(other)) < 1e-3


@pytest.mark.parametrize("bits", [4, 8])
def test_a_channel_of_zeros_keeps_its_bias(bits):
    net, example = build(Net, (16, 6), function=lambda net, F, x: net.layer(x), layer=nn.Dense(3))
    weight, bias = net.layer.weight.data(), net.layer.bias.data()
    weight[1], bias[1] = 0, 0.0123
    net.layer.weight.set_data(weight)
    net.layer.bias.set_data(bias)
    for simulate in {bits < 8, True}:
        found = quantize(net, [example], bits=bits, simulate=simulate, progress=False)(example).asnumpy()
        np.testing.assert_allclose(found[:, 1], 0.0123, rtol=1e-5)


def test_a_dense_layer_with_a_ceiling_and_fp32_output():
    net, example = build(Net, (16, 6), function=lambda net, F, x: F.clip(net.layer(x), 0, 0.5), layer=nn.Dense(8))
    expected = net(example)
    assert (expected.asnumpy() == 0.5).any()
    for simulate in (False, True):
        assert relative_error(quantize(net, [example], simulate=simulate, progress=False)(example), expected) < 0.02


@pytest.mark.parametrize("second", [lambda F, x: F.relu(x), lambda F, x: F.clip(x, 0, 0.3),
                                    lambda F, x: F.clip(x, 0, float("inf"))])
def test_a_relu_behind_a_relu(second):
    net, example = build(Net, (16, 6), function=lambda net, F, x: net.b(second(F, F.relu(net.a(x)))), a=nn.Dense(8),
                         b=nn.Dense(3))
    for simulate in (False, True):
        assert relative_error(quantize(net, [example], simulate=simulate, progress=False)(example), net(example)) < 0.03


class ComputedBias(HybridBlock):
    """Of the convolution twice a parameter, of the dense layer an input."""

    def __init__(self):
        super().__init__()
        with self.name_scope():
            self.conv_weight = self.params.get("conv_weight", shape=(8, 3, 3, 3))
            self.conv_bias = self.params.get("conv_bias", shape=(8,))
            self.dense_weight = self.params.get("dense_weight", shape=(4, 8 * 36))
            self.output = nn.Dense(3)

    def hybrid_forward(self, F, x, bias, conv_weight, conv_bias, dense_weight):
        x = F.relu(F.Convolution(x, conv_weight, conv_bias * 2, kernel=(3, 3), num_filter=8))
        return self.output(F.relu(F.FullyConnected(x, dense_weight, bias, num_hidden=4)))


def test_layers_whose_bias_is_computed_stay_fp32():
    net = ComputedBias()
    net.initialize(mx.init.Normal(0.3))
    example = mx.nd.random.normal(shape=(4, 3, 8, 8)), mx.nd.random.normal(3, 1, shape=(4,))
    expected = net(*example)
    net.conv_bias.set_data(mx.nd.random.normal(3, 1, shape=(8,)))
    assert relative_error(net(*example), expected) > 0.1
    int8 = quantize(net, [example], progress=False)
    assert list(int8.record.layers) == ["output"] and len(int8.record.left_out) == 2
    assert all("bias is not a parameter" in reason for reason in int8.record.left_out.values())
    assert relative_error(int8(*example), net(*example)) < 0.02


@pytest.mark.parametrize("pool", [nn.AvgPool2D(2, 2, ceil_mode=True),
                                  nn.AvgPool2D(3, 2, 1, count_include_pad=False)])
def test_averages_over_windows_beyond_the_border(pool):
    net, example = build(Net, (4, 3, 9, 9), function=lambda net, F, x: net.b(net.pool(net.a(x))), a=nn.Conv2D(6, 1),
                         pool=pool, b=nn.Conv2D(4, 1))
    int8 = quantize(net, [example], progress=False)
    for size in (9, 10):
        other = mx.nd.random.normal(shape=(2, 3, size, size))
        assert relative_error(int8(other), net(other)) < 0.03


def test_images_in_integers_are_refused():
    net, example = example_of("lenet")
    int8 = quantize(net, [example], progress=False)
    for dtype in ("uint8", "int8"):
        with pytest.raises(TypeError, match=f"type {dtype}; accepted"):
            int8(example.astype(dtype))


def test_a_bias_that_is_read_twice_is_not_corrected():
    class TwoReaders(HybridBlock):
        def __init__(self):
            super().__init__()
            with self.name_scope():
                for name in "ab":
                    setattr(self, name, self.params.get(f"{name}_weight", shape=(16, 10)))
                self.shift = self.params.get("shift_bias", shape=(16,))

        def hybrid_forward(self, F, x, a, b, shift):
            return (F.FullyConnected(x, a, shift, num_hidden=16),
                    F.FullyConnected(F.sigmoid(x), b, shift, num_hidden=16))
    net = TwoReaders()
    net.initialize(mx.init.Normal(1))
    example = mx.nd.random.normal(3, 1, shape=(256, 10))
    for bits in (4, 8):
        outputs = [quantize(net, [example], bits=bits, simulate=True, correct_bias=correct, progress=False)(example)
                   for correct in (False, True)]
        for plain, corrected in zip(*outputs):
            assert np.array_equal(plain.asnumpy(), corrected.asnumpy())


def test_additions_that_fit_one_batch_size_only():
    class Positions(HybridBlock):
        def __init__(self):
            super().__init__()
            with self.name_scope():
                self.a, self.b = nn.Conv2D(8, 3, padding=1), nn.Conv2D(8, 3)
                self.positions = self.params.get("positions", shape=(1, 8, 8, 8))

        def hybrid_forward(self, F, x, positions):
            return self.b(F.broadcast_add(self.a(x), positions))
    net, example = build(Positions, (1, 3, 8, 8))
    int8 = quantize(net, [example], progress=False)
    four = mx.nd.random.normal(shape=(4, 3, 8, 8))
    assert relative_error(int8(four), net(four)) < 0.1


def test_calibration_data_of_other_types():
    net, example = example_of("norms")
    expected = quantize(net, [example], progress=False)(example).asnumpy()
    iterator = mx.io.NDArrayIter(example, batch_size=len(example))
    for data in ([example.astype("float64")], [example.asnumpy()], iterator):
        np.testing.assert_array_equal(quantize(net, data, progress=False)(example).asnumpy(), expected)
    for arguments, message in (({"exclude": 3}, "exclude is 3"), ({"evaluate": 3, "max_accuracy_drop": 0.1},
                                                                      "evaluate is 3")):
        with pytest.raises(TypeError, match=message):
            quantize(net, [example], progress=False, **arguments)
    with pytest.raises(TypeError, match="a bool array; accepted"):
        quantize(net, [example.asnumpy() > 0], progress=False)


def test_names_that_meet():
    """Layers, parameters, operators and inputs may be called alike."""
    class Alike(HybridBlock):
        def __init__(self):
            super().__init__()
            with self.name_scope():
                self.data, self.tanh = nn.Dense(8), nn.Dense(3)
                self.data_0 = self.params.get("data", shape=(1, 8))

        def hybrid_forward(self, F, x, data_0):
            return self.tanh(F.tanh(F.broadcast_mul(self.data(x), data_0), name="tanh"))
    net, example = build(Alike, (8, 6))
    for equalize in (False, True):
        int8 = quantize(net, [example], equalize=equalize, progress=False)
        assert sorted(int8.record.layers) == ["data", "tanh"]
        assert relative_error(int8(example), net(example)) < CLOSE

    class DataParameter(HybridBlock):
        def __init__(self):
            super().__init__()
            with self.name_scope():
                self.dense = nn.Dense(3)
                self.data = self.params.get("data", shape=(1, 6))

        def hybrid_forward(self, F, x, data):
            return self.dense(F.broadcast_mul(x, data))
    net, example = build(DataParameter, (8, 6))
    assert relative_error(quantize(net, [example], progress=False)(example), net(example)) < CLOSE


def test_integer_constants_and_random_dropout():
    class Chosen(HybridBlock):
        def __init__(self):
            super().__init__()
            with self.name_scope():
                self.dense = nn.Dense(6)
                self.index = self.params.get_constant("index", mx.nd.array([2, 0], dtype="int32"))

        def hybrid_forward(self, F, x, index):
            return F.take(self.dense(F.Dropout(x, p=0.5, mode="always")), index, axis=1)
    net = Chosen()
    net.initialize(mx.init.Normal(1))
    example = mx.nd.random.normal(shape=(64, 50))
    net(example)
    int8 = quantize(net, [example], progress=False)
    assert int8(example).shape == (64, 2)
    assert relative_error(int8(example), int8(example)) > 0.1  # the Dropout is still there


def test_inputs_that_do_nothing_and_loops_are_refused():
    class HalfUsed(HybridBlock):
        def __init__(self):
            super().__init__()
            with self.name_scope():
                self.dense = nn.Dense(3)

        def hybrid_forward(self, F, x, y):
            return self.dense(x)
    net, example = HalfUsed(), mx.nd.random.normal(shape=(4, 6))
    net.initialize()
    net(example, example)
    with pytest.raises(NetworkError, match="do not depend on its input data1"):
        quantize(net, [(example, example)], progress=False)
    def summed(net, F, x):
        start = F.zeros_like(F.slice_axis(x, axis=0, begin=0, end=1)).reshape((-1,))
        return net.dense(F.contrib.foreach(lambda value, state: (value + state, value + state), x, start)[0])
    loop = Net(summed, dense=nn.Dense(3))
    loop.initialize()
    loop(example)
    with pytest.raises(NetworkError, match="_foreach, whose body cannot be quantized"):
        quantize(loop, [example], progress=False)


def test_shortcuts_under_a_relu_are_unsigned():
    net, example = example_of("resnet")
    inference = simplify(Graph(net, example))
    fusions = find_fusions(inference.outputs, set(inference.weights))
    shifted = [fusion.shifted.layer.name for fusion in fusions.values() if fusion.shifted]
    assert len(shifted) == 3 and sum(fusion.summand is not None for fusion in fusions.values()) == 8
    int8 = quantize(net, [example], progress=False)
    for node in Graph(int8, example).nodes:
        if node.name in shifted:
            assert float(node.attributes["min_calib_range"]) == 0
    assert all(int8.record.layers[name]["lowest"] < 0 for name in shifted)


def test_symbol_blocks_and_several_inputs(tmp_path):
    net, example = example_of("norms")
    block = exported(net, example, tmp_path)
    expected = quantize(net, [example], progress=False)(example)
    np.testing.assert_allclose(quantize(block, [example], progress=False)(example).asnumpy(), expected.asnumpy(),
                               rtol=1e-4, atol=1e-4)

    class Two(HybridBlock):
        def __init__(self):
            super().__init__()
            with self.name_scope():
                self.a, self.b, self.head = nn.Conv2D(6, 3), nn.Conv2D(6, 3), nn.Dense(3)

        def hybrid_forward(self, F, x, y):
            return self.head(F.relu(self.a(x) + self.b(y)))
    net = Two()
    net.initialize(mx.init.Normal(0.3))
    x, y = mx.nd.random.normal(shape=(4, 2, 6, 6)), mx.nd.random.normal(shape=(4, 3, 6, 6))
    expected = net(x, y)
    for batch in ((x, y), (x, y, mx.nd.zeros(4)), ((x, y), mx.nd.zeros(4)), {"data0": x, "data1": y}):
        assert relative_error(quantize(net, [batch], progress=False)(x, y), expected) < 0.05
    with pytest.raises(ValueError, match=r"\(batch 0\) is an NDArray; accepted: a tuple of the 2 inputs"):
        quantize(net, [x], progress=False)


def test_loaders_of_all_kinds():
    net, example = example_of("norms")
    labels = mx.nd.zeros(len(example))
    expected = quantize(net, [example], progress=False)(example).asnumpy()
    datasets = [mx.gluon.data.ArrayDataset(example), mx.gluon.data.ArrayDataset(example, labels)]
    for data in ([example.asnumpy()], [(example,)], [[example, labels]], [{"data": example}], [{"image": example}],
                 *(mx.gluon.data.DataLoader(dataset, 5) for dataset in datasets), (batch for batch in [example])):
        assert np.array_equal(quantize(net, data, method="minmax", progress=False)(example).asnumpy(),
                              quantize(net, [example], method="minmax", progress=False)(example).asnumpy())
    assert expected.shape == (16, 5)


@pytest.mark.parametrize("name", sorted(NETWORKS.keys() - {"alexnet"}))  # LeNet's kinds of layers, 3.7 million weights
def test_saved_networks_compute_the_same(name, tmp_path):
    net, example = example_of(name)
    int8 = quantize(net, [example], method="minmax", progress=False)
    size = gc.save(tmp_path / "net.gcz", int8)
    assert size == (tmp_path / "net.gcz").stat().st_size
    loaded = gc.load(tmp_path / "net.gcz")
    assert isinstance(loaded, IntegerNetwork)
    assert np.array_equal(loaded(example).asnumpy(), int8(example).asnumpy())
    assert loaded.record == int8.record
    assert all(np.array_equal(codes, int8.codes[weight]) for weight, codes in loaded.codes.items())
    simulated = gc.load(tmp_path / "net.gcz", simulate=True)
    assert relative_error(simulated(example), int8(example)) < 0.03
    fp32 = gc.load(tmp_path / "net.gcz", precision="fp32")
    fresh = build(*NETWORKS[name], seed=7)[0]
    assert gc.load(tmp_path / "net.gcz", fresh) is fresh
    np.testing.assert_allclose(fresh(example).asnumpy(), fp32(example).asnumpy(), rtol=1e-4, atol=1e-4)
    assert relative_error(fresh(example), net(example)) < CLOSE
    for weight, codes in int8.codes.items():
        scale = int8.scales.weights[weight]["scale"]
        np.testing.assert_array_equal(values(fresh)[weight], codes * scale.reshape(-1, *[1] * (codes.ndim - 1)))


@pytest.mark.parametrize("names", [("conv1", "conv2"), ("layer",), ("features", "features2")])
def test_names_that_begin_alike_are_saved_and_loaded(tmp_path, names):
    layers = {name: nn.Conv2D(4, 3, use_bias=len(names) > 1) for name in names}

    def f(net, F, x):
        for name in names:
            x = getattr(net, name)(x)
        return x
    net, example = build(Net, (2, 3, 8, 8), function=f, **layers)
    sequential = nn.HybridSequential()
    sequential.add(nn.Dense(3))
    sequential.initialize()
    sequential(example)
    for network in (net, sequential):
        int8 = quantize(network, [example], progress=False)
        gc.save(tmp_path / "net.gcz", int8)
        loaded = gc.load(tmp_path / "net.gcz")
        assert np.array_equal(loaded(example).asnumpy(), int8(example).asnumpy())
        assert loaded.record == int8.record and loaded.codes.keys() == int8.codes.keys()
        gc.save(tmp_path / "again.gcz", loaded)
        assert np.array_equal(gc.load(tmp_path / "again.gcz")(example).asnumpy(), int8(example).asnumpy())
    for arguments in ({"precision": "fp32"}, {"net": network}):
        with pytest.raises(ValueError, match="simulate=True needs a file that holds a network on integers"):
            gc.load(tmp_path / "net.gcz", simulate=True, **arguments)


def test_the_file_is_a_quarter(tmp_path):
    net, example = build(lambda: ResNet(18, 10, thumbnail=True, width=16), (1, 3, 16, 16))
    net.save_parameters(str(tmp_path / "net.params"))
    size = gc.save(tmp_path / "net.gcz", quantize(net, [example], method="minmax", progress=False))
    assert size < 0.2510 * (tmp_path / "net.params").stat().st_size


def test_damaged_int8_files(tmp_path):
    net, example = example_of("norms")
    path = tmp_path / "net.gcz"
    gc.save(path, quantize(net, [example], progress=False))
    content = path.read_bytes()
    for damaged in (content[:-1], content[:100], content[:-50] + b"x" + content[-49:]):
        path.write_bytes(damaged)
        with pytest.raises(CheckpointError):
            gc.load(path)


@pytest.mark.parametrize("exclude, left_out", [
    ("output", {"output"}), (["Dense"], {"features.9", "output"}), (nn.Dense, {"features.9", "output"}),
    (lambda layer: layer.weight.shape[0] < 6, {"output"}), (["Conv2D", "output"], {"features.0", "features.4",
                                                                                            "output"})])
def test_excluded_layers_stay_fp32(exclude, left_out):
    net, example = example_of("norms")
    int8 = quantize(net, [example], exclude=exclude, progress=False)
    assert set(int8.record.left_out) == left_out and not left_out & set(int8.record.layers)
    integer = {node.name for node in Graph(int8, example).nodes if node.operator.startswith("_sg_mkldnn")}
    assert integer == set(int8.record.layers)
    assert all(reason.endswith(", excluded") for reason in int8.record.left_out.values())


@pytest.mark.parametrize("bits", [8, 4])
def test_convolutions_in_groups_are_trained_with_the_scale_they_will_have(bits):
    net, example = example_of("aggregated")
    qat = prepare_qat(net, [example], bits=bits, progress=False)
    ptq = quantize(net, [example], bits=bits, correct_bias=False, simulate=True, progress=False)
    if not onednn.saturates():
        assert relative_error(ptq(example), qat(example)) < (0.02 if bits == 8 else 0.1)
    converted = qat.convert(simulate=True)
    assert relative_error(converted(example), qat(example)) < (0.1 if onednn.saturates() else 0.02)
    scales = converted.scales.weights
    assert len(np.unique(scales["groups.weight"]["scale"])) == (1 if bits == 8 else 16)
    assert len(np.unique(scales["up.weight"]["scale"])) == 16


@pytest.mark.parametrize("layer", [rnn.LSTM, rnn.GRU])
def test_recurrent_layers_stay_fp32_and_say_why(layer):
    net, example = build(Net, (5, 4, 6), function=lambda net, F, x: net.head(net.recurrent(x)), recurrent=layer(8),
                         head=nn.Dense(3, flatten=False))
    int8 = quantize(net, [example], progress=False)
    assert set(int8.record.layers) == {"head"}
    assert "integer kernel for LSTM alone" in int8.record.left_out["recurrent"]
    assert relative_error(int8(example), net(example)) < CLOSE


def test_why_lstms_stay_fp32():
    """MXNet's kernel has no gradient, without which no hybridized network is made, even for inference alone."""
    arrays = [mx.nd.array(np.arange(60).reshape(3, 2, 10), dtype="uint8"), mx.nd.ones((4 * 8 * (10 + 8) + 8 * 8,)),
              mx.nd.zeros((1, 2, 8)), mx.nd.zeros((1, 2, 8)), mx.nd.array([50.0]), mx.nd.array([100.0])]
    arguments = {"state_size": 8, "num_layers": 1, "mode": "lstm"}
    inputs = [(Node(f"input{number}", "null"), 0) for number in range(len(arrays))]
    node = written("_contrib_quantized_rnn", "lstm", *inputs, **arguments)
    network = SymbolBlock(symbol_of([(node, 0)]), [mx.sym.var(source.name) for source, _ in inputs])
    with pytest.raises(mx.MXNetError, match="non-differentiable"):
        network(*arrays)


def test_layers_without_integer_kernels_are_named():
    net, example = build(Assorted)
    record = quantize(net, [example], progress=False).record
    assert set(record.layers) == {"output"}
    assert "no integer kernel" in record.left_out["embedding"] and "no integer kernel" in record.left_out["up"]
    assert "in groups of 1 and 2 channels" in record.left_out["grouped"]
    assert "grouped" in str(record) and "fp32" in str(record)
    volume = Net(lambda net, F, x: net.up(net.conv(x)), conv=nn.Conv3D(4, 3), up=nn.Conv3DTranspose(3, 3))
    volume.initialize()
    example = mx.nd.ones((2, 1, 5, 5, 5))
    volume(example)
    with pytest.raises(ValueError, match="no layer of this network can run on integers: conv: .*; up: Conv3DTranspose"):
        quantize(volume, [example], progress=False)


def test_accuracy_bound_keeps_the_layer_that_hurts():
    """One layer's input has a huge outlier that minmax calibration bows to."""
    net, example = build(Net, (64, 12), function=lambda net, F, x: net.c(F.relu(net.b(F.relu(net.a(x))))),
                         a=nn.Dense(16), b=nn.Dense(16), c=nn.Dense(4))
    inputs = mx.nd.random.normal(shape=(256, 12))
    classes = net(inputs).asnumpy().argmax(axis=1)
    outlier = example.copy()
    outlier[0, 0] = 30000.0
    weight = net.a.weight.data()
    weight[:, 0] = mx.nd.zeros(16)  # the outlier does nothing but widen the range of a's input
    net.a.weight.set_data(weight)
    classes = net(inputs).asnumpy().argmax(axis=1)

    def evaluate(net):
        return float((net(inputs).asnumpy().argmax(axis=1) == classes).mean())
    hurt = quantize(net, [outlier], method="minmax", progress=False)
    assert evaluate(hurt) < 0.9
    kept = quantize(net, [outlier], method="minmax", evaluate=evaluate, max_accuracy_drop=0.05, progress=False)
    assert list(kept.record.left_out) == ["a"] and "changes the outputs by" in kept.record.left_out["a"]
    assert kept.record.baseline_accuracy == 1.0 and kept.record.accuracy == evaluate(kept) >= 0.95
    assert "accuracy 0.9" in str(kept.record) or "accuracy 1.0" in str(kept.record)
    unharmed = quantize(net, [inputs], evaluate=evaluate, max_accuracy_drop=0.1, progress=False)
    assert not unharmed.record.left_out
    with pytest.raises(ValueError, match="max_accuracy_drop=0 is not kept with any number"):
        quantize(net, [outlier], method="minmax", evaluate=lambda net: float(not isinstance(net, IntegerNetwork)),
                 max_accuracy_drop=0, progress=False)


def test_bias_correction_takes_the_mean_error_out():
    net, example = example_of("resnet")
    errors = []
    for correct_bias in (False, True):
        found = quantize(net, [example], bits=4, simulate=True, correct_bias=correct_bias, progress=False)
        errors.append(np.abs(found.fp32_values()["features.1.beta"] - snapshot(net)["features.1.beta"]).sum())
    assert errors[1] != errors[0]
    first = Net(lambda net, F, x: net.conv(x), conv=nn.Conv2D(6, 1))
    first.initialize(mx.init.Normal(1))
    x = mx.nd.random.uniform(1, 2, shape=(64, 5, 4, 4))
    first(x)
    weights_only = quantize(first, [x], bits=3, simulate=True, progress=False).fp32_values()
    again = Net(lambda net, F, x: net.conv(x), conv=nn.Conv2D(6, 1))
    again.initialize()
    again(x)
    again.conv.weight.set_data(mx.nd.array(weights_only["conv.weight"]))
    again.conv.bias.set_data(mx.nd.array(weights_only["conv.bias"]))
    channel_means = [net(x).mean(axis=(0, 2, 3)).asnumpy() for net in (first, again)]
    np.testing.assert_allclose(*channel_means, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("dtype", ["float16", "float64"])
def test_networks_of_other_types_become_the_integers_of_float32_and_nothing_is_printed(dtype, capfd):
    net = nn.HybridSequential()
    net.add(nn.Conv2D(8, 3, in_channels=3), nn.Activation("relu"), nn.Conv2D(8, 3, in_channels=8))
    net.initialize()
    example = mx.nd.random.uniform(shape=(2, 3, 8, 8)).astype("float16").astype("float32")
    net.cast("float16")  # so that the weights are the same in all types
    net.cast("float32")
    wanted = quantize(net, [example], progress=False)(example)
    net.cast(dtype)
    found = quantize(net, [example.astype(dtype)], progress=False)
    np.testing.assert_array_equal(found(example).asnumpy(), wanted.asnumpy())
    with pytest.raises(ValueError, match=r"float64, does not fit .*it rounds float32; accepted: .*astype\('float32'\)"):
        found(example.astype("float64"))
    assert capfd.readouterr().out == ""


@pytest.mark.filterwarnings("error:overflow")
def test_a_channel_of_weights_below_the_normal_numbers_counts_as_zero():
    net = nn.HybridSequential()
    net.add(nn.Dense(4, in_units=3))
    net.initialize(mx.init.One())
    net[0].weight.data()[1] = 1e-40
    example = mx.nd.array([[1, 2, 3], [-1, 0, 1]])
    found = quantize(net, [example], progress=False)(example).asnumpy()
    np.testing.assert_allclose(found, net(example).asnumpy(), atol=0.1)


def test_without_a_layer_to_quantize_the_network_is_told_and_no_argument_blamed():
    net = nn.HybridSequential()
    net.add(nn.BatchNorm(in_channels=3))
    net.initialize()
    with pytest.raises(ValueError, match="^there is no layer to change; the network has none that this takes"):
        quantize(net, [mx.nd.ones((2, 3))], progress=False)


def test_fewer_bits_are_simulated():
    net, example = example_of("resnet")
    noise = [min(layer["snr"] for layer in quantize(net, [example], bits=bits, simulate=True,
                                                    progress=False).record.layers.values()) for bits in (8, 6, 4)]
    assert noise[0] > noise[1] + 4 and noise[1] > noise[2] + 4
    with pytest.raises(NetworkError, match="8 bits only, not 4; simulate=True"):
        quantize(net, [example], bits=4, progress=False)


@pytest.mark.parametrize("change, error, message", [
    ({"data": []}, ValueError, "no batches"), ({"data": 5}, TypeError, "is 5; accepted: an iterable"),
    ({"data": ["text"]}, TypeError, "holds a str"), ({"data": [()]}, ValueError, "a tuple of 0 for a"),
    ({"data": [{"a": 1, "b": 2}]}, ValueError, "a dict of 'a', 'b'; accepted: .* inputs, data"),
    ({"data": mx.nd.ones((2, 3, 8, 8))}, TypeError, "is an NDArray; accepted: an iterable"),
    ({"data": [mx.nd.ones((2, 3, 8))]}, ValueError, r"shape \(2, 3, 8\) does not fit"),
    ({"data": [mx.nd.ones((2, 3, 8, 8)), mx.nd.ones((2, 4, 8, 8))]}, ValueError,
     r"batch 1 .*\(2, 4, 8, 8\), does not fit"),
    ({"data": [mx.nd.ones((2, 3, 8, 8)) * np.nan]}, ValueError, "batch 0 .* input data that are not finite"),
    ({"data": [mx.nd.ones((2, 3, 8, 8)) * np.inf]}, ValueError, "not finite"),
    ({"exclude": ["outputs"]}, ValueError, r"exclude names 'outputs', .* did you mean output"),
    ({"select": "Embedding"}, ValueError, "select names 'Embedding', but there is no such layer or kind of layer"),
    ({"exclude": 3}, TypeError, "exclude is 3; accepted: the name of a layer"),
    ({"exclude": ["Conv2D", "Dense"]}, ValueError, "leaves no layer"),
    ({"method": "max"}, ValueError, "method is 'max'; accepted: 'minmax'"), ({"clip": 3}, ValueError, "clip is 3"),
    ({"bits": 9}, ValueError, "bits is 9"), ({"bits": "8"}, TypeError, "bits is '8'"),
    ({"batches": 0}, ValueError, "batches is 0"), ({"evaluate": len}, TypeError, "max_accuracy_drop and evaluate"),
    ({"max_accuracy_drop": 0.1}, TypeError, "max_accuracy_drop and evaluate"),
    ({"evaluate": lambda net: "high", "max_accuracy_drop": 0.1}, TypeError,
     "evaluate.net. of the fp32 network is 'high'"),
    ({"evaluate": lambda net: 1.0, "max_accuracy_drop": -1}, ValueError, "max_accuracy_drop is -1")])
def test_bad_input(change, error, message):
    net, example = example_of("norms")
    before = values(net)
    arguments = {"data": [example], "progress": False, **change}
    with pytest.raises(error, match=message):
        quantize(net, arguments.pop("data"), **arguments)
    assert identical(before, values(net))


def test_networks_that_cannot_be_quantized():
    net, example = example_of("norms")
    int8 = quantize(net, [example], progress=False)
    with pytest.raises(NetworkError, match="quantized already"):
        quantize(int8, [example], progress=False)
    with pytest.raises(NetworkError, match="not initialized"):
        quantize(NormNet(), [example], progress=False)
    with pytest.raises(TypeError):
        quantize(mx.gluon.nn.Sequential(), [example], progress=False)
    net.output.weight.set_data(net.output.weight.data() * np.nan)
    with pytest.raises(NetworkError, match="output.weight is not finite"):
        quantize(net, [example], progress=False)


def test_where_there_are_no_kernels(monkeypatch):
    net, example = example_of("norms")
    monkeypatch.setattr("platform.machine", lambda: "aarch64")
    with pytest.raises(NetworkError, match="cannot run here: .* x86-64 .* aarch64; simulate=True"):
        quantize(net, [example], progress=False)
    assert relative_error(quantize(net, [example], simulate=True, progress=False)(example), net(example)) < 0.1


def test_records():
    net, example = example_of("resnet")
    record = quantize(net, [example], progress=False).record
    assert QuantizationRecord.from_dict(record.to_dict()) == record
    assert all(name in str(record) for name in record.layers) and "dB" in str(record)
    for damage in ({}, {**record.to_dict(), "layers": {"a": {}}}, {**record.to_dict(), "layers": {"a": {
            "input": [-1, True], "output": [1, True], "summand": None}}}):
        with pytest.raises(RecordError):
            QuantizationRecord.from_dict(damage)


def test_int8_networks_are_reported_and_timed():
    net, example = example_of("resnet")
    int8 = quantize(net, [example], progress=False)
    assert gc.report(int8, example).macs == gc.report(net, example).macs


def test_nothing_is_printed(run_python):
    code = """if True:
        import gluon_compress
        import mxnet as mx
        from gluon_compress.models import LeNet
        from gluon_compress.quantization import quantize
        net = LeNet()
        net.initialize()
        x = mx.nd.ones((4, 1, 28, 28))
        net(x)
        quantize(net, [x], progress=False)(x).wait_to_read()
    """
    assert run_python("import os; os.dup2(1, 2)\n" + code.replace("if True:", "if True:", 1)) == ""


def test_batches_are_named_when_they_are_wrong():
    net = nn.Dense(1)
    assert len(list(input_batches([(mx.nd.ones(1),), np.ones(2)], net))) == 2
    with pytest.raises(TypeError, match=r"\(batch 1\)"):
        list(input_batches([mx.nd.ones(1), object()], net))


@pytest.mark.parametrize("bits", [4, 8])
@pytest.mark.parametrize("change", [
    lambda net, example: gc.pruning.prune_magnitude(net, 0.5), lambda net, example: gc.pruning.prune_random(net, 0.5),
    lambda net, example: gc.pruning.prune_channels(net, example, 0.5),
    lambda net, example: gc.pruning.Masks({"0.weight": np.zeros((4, 3, 3, 3), bool)}).apply(net),
    lambda net, example: gc.pruning.measure_sensitivity(net, lambda net: 0.5, example, progress=False),
    lambda net, example: gc.quantization.quantize_weights(net),
    lambda net, example: gc.quantization.quantize_weights(net, rate=0.1, calibration_data=[example]),
    lambda net, example: gc.coding.share_weights(net, 2), lambda net, example: gc.coding.RateTrainer(net, 0.1, "sgd"),
    lambda net, example: gc.coding.compress(net, [(example, mx.nd.zeros(2))] * 2, 0.5, progress=False)])
def test_weights_of_a_network_on_integers_are_not_changed_and_the_order_is_said(change, bits):
    net = nn.HybridSequential()
    net.add(nn.Conv2D(4, 3, in_channels=3), nn.Dense(5))
    net.initialize()
    example = mx.nd.random.normal(shape=(2, 3, 6, 6))
    net(example)
    integers = quantize(net, [example], bits=bits, simulate=True, progress=False)
    before = integers(example).asnumpy()
    with pytest.raises(NetworkError, match="weights are integers; accepted: one of floats: prune.*quantize that "):
        change(integers, example)
    np.testing.assert_array_equal(integers(example).asnumpy(), before)
