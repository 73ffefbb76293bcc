"""report.py, costs.py, latency.py, plots.py: counts against hand arithmetic and brute force; nothing changed."""
import json
from itertools import product

import mxnet as mx
import numpy as np
import pytest
from gluon_compress import models
from gluon_compress.errors import NetworkError
from gluon_compress import measure_latency
from gluon_compress.measuring.plots import plot_before_after, plot_curves
from gluon_compress.measuring import Report, report
from hypothesis import given, settings
from hypothesis import strategies as st
from matplotlib import image
from mxnet import autograd
from mxnet.gluon import Block, HybridBlock, SymbolBlock, nn
from networks import Function, stacked

IMAGES = (2, 1, 28, 28)
LENET = {  # name: (parameters, MACs per sample), by hand
    "conv.0": (20 * 1 * 5 * 5 + 20, 24 * 24 * 20 * 1 * 5 * 5),
    "conv.2": (50 * 20 * 3 * 3 + 50, 10 * 10 * 50 * 20 * 3 * 3),
    "dense.0": (1250 * 128 + 128, 1250 * 128),
    "dense.1": (128 * 10 + 10, 128 * 10),
}


def ready(net, shape):
    net.initialize(mx.init.Normal(0.1))
    net(mx.nd.zeros(shape))
    return net


@pytest.fixture
def lenet():
    return ready(models.LeNet(), IMAGES)


def test_lenet_by_hand(lenet):
    found = report(lenet, mx.nd.zeros(IMAGES))
    assert {layer.name: (layer.parameters, layer.macs) for layer in found.layers} == LENET
    assert [layer.output_shape for layer in found.layers] == [(2, 20, 24, 24), (2, 50, 10, 10), (2, 128), (2, 10)]
    assert found.parameters == 170_988
    assert found.macs == 288_000 + 900_000 + 160_000 + 1_280 == 1_349_280
    assert found.fp32_bytes == 4 * 170_988
    assert found.not_counted == {"Activation": 3, "Flatten": 1, "Pooling": 2}


def test_resnet18_has_the_published_cost():
    net = ready(models.ResNet(18, 1000), (1, 3, 32, 32))
    found = report(net, mx.nd.zeros((1, 3, 224, 224)))
    stem = 112 * 112 * 64 * 3 * 7 * 7
    block = 56 * 56 * 64 * 64 * 9  # of every 3x3 convolution but the first of a stage, which has half of it
    projection = 28 * 28 * 128 * 64
    assert found.macs == stem + 4 * block + 3 * (block // 2 + 3 * block + projection) + 512 * 1000 == 1_814_073_344
    assert found.parameters == 11_689_512
    statistics = sum(value.size for name, value in net.collect_params().items() if "running" in name
                     for value in [value.data()])
    assert found.fp32_bytes == 4 * (11_689_512 + statistics)
    assert f"{statistics:,} running statistics" in str(found)


def convolve(inputs, weight, stride, dilation, padding, groups):
    """Convolution by loops: (output, number of products)."""
    padded = np.pad(inputs, ((0, 0), (0, 0), (padding, padding), (padding, padding)))
    channels, in_channels, kernel, _ = weight.shape
    size = (padded.shape[2] - dilation * (kernel - 1) - 1) // stride + 1
    output, products = np.zeros((len(inputs), channels, size, size)), 0
    for n, c, y, x in np.ndindex(*output.shape):
        first = c // (channels // groups) * in_channels
        for i, ky, kx in product(range(in_channels), range(kernel), range(kernel)):
            value = padded[n, first + i, y * stride + ky * dilation, x * stride + kx * dilation]
            output[n, c, y, x] += value * weight[c, i, ky, kx]
            products += 1
    return output, products


def deconvolve(inputs, weight, stride, dilation, padding, groups):
    """Transposed convolution by loops: every input is spread over a kernel's patch."""
    batch, in_channels, size, _ = inputs.shape
    _, channels, kernel, _ = weight.shape
    whole = (size - 1) * stride + dilation * (kernel - 1) + 1
    output, products = np.zeros((batch, channels * groups, whole, whole)), 0
    for n, i, y, x in np.ndindex(*inputs.shape):
        first = i // (in_channels // groups) * channels
        for c, ky, kx in product(range(channels), range(kernel), range(kernel)):
            output[n, first + c, y * stride + ky * dilation, x * stride + kx * dilation] += \
                inputs[n, i, y, x] * weight[i, c, ky, kx]
            products += 1
    return output[:, :, padding:whole - padding, padding:whole - padding], products


@settings(max_examples=12)
@given(transposed=st.booleans(), groups=st.integers(1, 3), fan_in=st.integers(1, 2), fan_out=st.integers(1, 2),
       kernel=st.integers(1, 3), stride=st.integers(1, 2), dilation=st.integers(1, 2), padding=st.integers(0, 1),
       batch=st.integers(1, 2))
def test_convolutions_by_brute_force(transposed, groups, fan_in, fan_out, kernel, stride, dilation, padding, batch):
    layer = nn.Conv2DTranspose if transposed else nn.Conv2D
    size = 5
    padding = min(padding, dilation * (kernel - 1))  # keeps the output from being empty
    net = layer(groups * fan_out, kernel, stride, padding, dilation=dilation, groups=groups, use_bias=False,
                in_channels=groups * fan_in)
    inputs = mx.nd.random.normal(shape=(batch, groups * fan_in, size, size))
    net.initialize(mx.init.Normal(1))
    computed = net(inputs).asnumpy()
    loops = deconvolve if transposed else convolve
    expected, products = loops(inputs.asnumpy(), net.weight.data().asnumpy(), stride, dilation, padding, groups)
    np.testing.assert_allclose(computed, expected, rtol=1e-3, atol=1e-4)  # the loops are the operator
    found = report(net, inputs)
    assert found.macs * batch == products
    assert found.parameters == net.weight.data().size


@pytest.mark.parametrize("batch", [1, 3, 7])
def test_macs_are_per_image(lenet, batch):
    assert report(lenet, mx.nd.zeros((batch, 1, 28, 28))).macs == 1_349_280


def test_dense_over_a_sequence():
    net = ready(nn.Dense(3, flatten=False), (2, 7, 5))
    layer, = report(net, mx.nd.zeros((2, 7, 5))).layers
    assert (layer.macs, layer.output_shape, layer.parameters) == (7 * 5 * 3, (2, 7, 3), 5 * 3 + 3)
    assert layer.name == "(net)"


def test_a_layer_called_twice_counts_its_weights_once():
    shared = nn.Dense(6)
    net = ready(stacked(shared, nn.Activation("relu"), shared, nn.Dense(2)), (4, 6))
    first, last = report(net, mx.nd.zeros((4, 6))).layers
    assert (first.name, first.kind, first.parameters, first.macs) == ("0", "FullyConnected x2", 6 * 6 + 6, 2 * 36)
    assert (last.name, last.macs) == ("3", 12)


def test_two_layers_that_share_a_weight_count_at_their_own_sizes():
    one = nn.Conv2D(3, 3, in_channels=3)
    two = nn.Conv2D(3, 3, in_channels=3, params=one.params)
    net = ready(stacked(one, two), (1, 3, 9, 9))
    layer, = report(net, mx.nd.zeros((1, 3, 9, 9))).layers
    assert layer.macs == (7 * 7 + 5 * 5) * 3 * 3 * 9
    assert layer.output_shape == (1, 3, 7, 7)
    assert layer.parameters == 3 * 3 * 9 + 3


def test_two_inputs():
    class Sum(HybridBlock):
        def __init__(self):
            super().__init__()
            self.left, self.right = nn.Dense(3), nn.Dense(3)

        def hybrid_forward(self, F, x, y):
            return self.right(y) + self.left(x)

    net = Sum()
    net.initialize()
    example = mx.nd.zeros((2, 4)), mx.nd.zeros((2, 5))
    net(*example)
    assert {layer.name: layer.macs for layer in report(net, example).layers} == {"left": 12, "right": 15}
    with pytest.raises(NetworkError, match="tuple of examples"):
        report(net, example[0])


def test_a_convolution_of_the_second_output_of_a_split():
    class Half(HybridBlock):
        def __init__(self):
            super().__init__()
            self.up = nn.Conv2DTranspose(2, 2, strides=2, in_channels=3)

        def hybrid_forward(self, F, x):
            return self.up(F.split_v2(x, (1,), axis=1)[1])  # of 1 and 3 channels

    net = ready(Half(), (1, 4, 5, 5))
    assert report(net, mx.nd.zeros((1, 4, 5, 5))).macs == 3 * 5 * 5 * 2 * 2 * 2


def test_a_weight_that_is_computed_belongs_to_its_layer():
    class Rounded(nn.Conv2D):
        def hybrid_forward(self, F, x, weight, bias=None):
            return super().hybrid_forward(F, x, F.round(weight * 8) / 8, bias)

    net = ready(stacked(Rounded(4, 3, in_channels=2)), (1, 2, 6, 6))
    layer, = report(net, mx.nd.zeros((1, 2, 6, 6))).layers
    assert (layer.name, layer.macs, layer.output_shape) == ("0", 16 * 4 * 2 * 9, (1, 4, 4, 4))
    assert "Convolution" in layer.kind


def test_unused_parameters_and_constants_are_shown():
    class Odd(HybridBlock):
        def __init__(self):
            super().__init__()
            self.used, self.idle = nn.Dense(2, in_units=3), nn.Dense(5, in_units=4)
            self.table = self.params.get_constant("table", np.ones((2, 3)))

        def hybrid_forward(self, F, x, table):
            return self.used(F.broadcast_mul(x, F.sum(table)))

    found = report(ready(Odd(), (1, 3)), mx.nd.zeros((1, 3)))
    by_name = {layer.name: layer for layer in found.layers}
    assert (by_name["idle"].kind, by_name["idle"].parameters, by_name["idle"].macs) == ("unused", 25, 0)
    assert (by_name["(net)"].parameters, by_name["(net)"].fp32_bytes) == (0, 24)
    assert found.parameters == 25 + 8


def test_zeros_are_counted(lenet):
    weight = lenet.conv[2].weight
    values = weight.data().asnumpy()
    values[:45] = 0
    weight.set_data(mx.nd.array(values))
    for parameter in lenet.collect_params(".*bias").values():
        parameter.set_data(mx.nd.ones(parameter.shape))
    before, after = LENET["conv.2"][0], LENET["conv.2"][0] - 45 * 20 * 9
    layer = report(lenet, mx.nd.zeros(IMAGES)).layers[1]
    assert (layer.parameters, layer.nonzeros) == (before, after)
    assert layer.sparsity == pytest.approx(1 - after / before)
    assert layer.macs == LENET["conv.2"][1]  # dense kernels multiply zeros too


def test_symbol_block(lenet, tmp_path):
    lenet.hybridize()
    lenet(mx.nd.zeros(IMAGES))
    lenet.export(str(tmp_path / "net"))
    block = SymbolBlock.imports(str(tmp_path / "net-symbol.json"), ["data"], str(tmp_path / "net-0000.params"))
    found = report(block, mx.nd.zeros(IMAGES))
    assert [(layer.parameters, layer.macs) for layer in found.layers] == list(LENET.values())
    assert [layer.name for layer in found.layers] == ["conv0", "conv1", "dense0", "dense1"]


def test_a_rewritten_layer_is_counted_as_it_is_now(lenet):
    report(lenet, mx.nd.zeros(IMAGES))  # leaves the old shapes in Gluon's variables
    first, second = lenet.dense[0], lenet.dense[1]
    for layer, parameter, slices in ((first, first.weight, np.s_[:100]), (first, first.bias, np.s_[:100]),
                                     (second, second.weight, np.s_[:, :100])):
        values = parameter.data().asnumpy()[slices]
        parameter._shape = values.shape
        parameter._init_impl(mx.nd.array(values), [mx.cpu()])
        layer._units = 100 if layer is first else 10
    found = report(lenet, mx.nd.zeros(IMAGES))
    assert [layer.macs for layer in found.layers[2:]] == [1250 * 100, 100 * 10]


def test_before_and_after(lenet, tmp_path):
    example = mx.nd.zeros(IMAGES)
    small = ready(models.SimpleCNN(), IMAGES)
    big_file, small_file = tmp_path / "big.bin", tmp_path / "small.bin"
    big_file.write_bytes(b"x" * 12_345)
    small_file.write_bytes(b"x" * 1_000)
    found = report(small, example, compared_with=report(lenet, example, path=big_file), path=small_file)
    assert found.comparison()["parameters"] == {"before": 170_988, "after": 21_840, "ratio": 170_988 / 21_840}
    assert found.comparison()["MACs per sample"]["before"] == 1_349_280
    assert found.comparison()["file bytes"] == {"before": 12_345, "after": 1_000, "ratio": 12.345}
    assert "median ms" not in found.comparison()
    assert "12.35x" in str(found) or "12.34x" in str(found)
    assert report(small, example, compared_with=lenet).comparison()["parameters"]["ratio"] == 170_988 / 21_840


def test_the_forms_of_a_report_agree(lenet):
    found = report(lenet, mx.nd.zeros(IMAGES), compared_with=lenet, latency=True, repeats=2, warmup=0)
    read = json.loads(json.dumps(found.to_dict()))
    assert read == found.to_dict()
    assert read["total"]["parameters"] == 170_988
    assert read["compared_with"]["before"]["total"]["MACs per sample"] == 1_349_280
    assert json.loads(json.dumps(Report.from_dict(read).to_dict())) == read
    alone = report(lenet, mx.nd.zeros(IMAGES))
    for each in (found, alone):
        table, *_ = str(each).split("\n\n")
        assert len({len(line) for line in table.splitlines()}) == 1  # one right edge
        assert max(map(len, table.splitlines())) <= 100
    assert str(alone).split("\n\n")[0].splitlines()[-1].split() == [
        "total", "170,988", f"{100 * found.sparsity:.1f}%", "1.35", "M", "684", "kB",
        f"{found.entropy_bytes / 1000:.0f}", "kB"]
    markdown = [line for line in alone.to_markdown().splitlines() if line.startswith("| conv.0")]
    assert [cell.strip() for cell in markdown[0].strip("|").split("|")][:4] == ["conv.0", "Convolution",
                                                                                "20x24x24", "520"]


@pytest.mark.parametrize("hybridize", [False, True])
def test_the_network_stays_as_it_is(lenet, hybridize):
    example = mx.nd.random.normal(shape=IMAGES)
    lenet.hybridize(hybridize)
    lenet(example)
    before = {name: parameter.data().asnumpy() for name, parameter in lenet.collect_params().items()}
    state = lenet._active, lenet._cached_op, lenet._cached_graph
    report(lenet, mx.nd.zeros((5, 1, 28, 28)))
    assert (lenet._active, lenet._cached_op, lenet._cached_graph) == state
    for name, parameter in lenet.collect_params().items():
        np.testing.assert_array_equal(parameter.data().asnumpy(), before[name])


def test_networks_that_cannot_be_reported():
    example = mx.nd.zeros(IMAGES)
    net = models.LeNet()
    with pytest.raises(NetworkError, match="conv.0.weight is not initialized"):
        report(net, example)
    net.initialize()
    with pytest.raises(NetworkError, match=r"run net\(example\) once"):
        report(net, example)
    assert net.conv[0].weight._data is None  # still to be inferred

    class Plain(Block):
        def forward(self, x):
            return x
    for wrong in (Plain(), None, "net"):
        with pytest.raises(TypeError, match="HybridBlock"):
            report(wrong, example)
    with pytest.raises(NetworkError, match="cannot be traced"):
        report(Function(lambda F, x: x.reshape((x.shape[0], -1))), example)
    with pytest.raises(NetworkError, match=r"hybrid_forward\(self, F, x\) instead of forward") as caught:
        report(Function(lambda F, x: mx.nd.relu(x)), example)
    assert "several inputs" not in str(caught.value)


@pytest.mark.parametrize("shape, reason", [
    ((2, 1, 32, 32), r"Provided = \[128,1250\]"), ((2, 3, 28, 28), r"inferred shape=\(20,3,5,5\)"),
    ((2, 28), "should be 4D"), ((2, 1, 3, 3), "kernel size exceed input")])
def test_an_example_of_the_wrong_shape(lenet, shape, reason, capfd):
    with pytest.raises(ValueError, match=reason) as raised:
        report(lenet, mx.nd.zeros(shape))
    assert str(shape) in str(raised.value) and "fwd" in str(raised.value)
    assert ".cc:" not in str(raised.value) and "\n" not in str(raised.value)
    assert capfd.readouterr().out == ""  # MXNet's own listing of all arguments


def test_other_wrong_arguments(lenet, tmp_path):
    example = mx.nd.zeros(IMAGES)
    for wrong in (np.full(IMAGES, "x"), None, (), (example, "x"), [1]):
        with pytest.raises(TypeError, match="example"):
            report(lenet, wrong)
    with pytest.raises(ValueError, match="at least one sample"):
        report(lenet, mx.nd.zeros((2, 1, 28, 28))[0:0])
    with pytest.raises(FileNotFoundError):
        report(lenet, example, path=tmp_path / "none")
    with pytest.raises(ValueError, match="directory"):
        report(lenet, example, path=tmp_path)
    with pytest.raises(ValueError, match=r"net.html', a page; accepted: .*write_html\('.*net.html'\) writes a page"):
        report(lenet, example, path=tmp_path / "net.html")
    with pytest.raises(TypeError, match="HybridBlock"):
        report(lenet, example, compared_with="before")
    for wrong in ({"repeats": -5}, {"repeats": 0}, {"warmup": -1}):  # without latency too
        with pytest.raises(ValueError, match="accepted: an integer at least"):
            report(lenet, example, **wrong)


def test_latency_runs_the_network_as_often_as_it_says(lenet):
    training = []

    def note(block, inputs, output):
        if isinstance(inputs[0], mx.nd.NDArray):  # and not the Symbol of a trace
            training.append(autograd.is_training())
    lenet.register_forward_hook(note)
    with autograd.record():
        timing = measure_latency(lenet, mx.nd.zeros(IMAGES), repeats=4, warmup=3)
    assert training == [False] * 7
    assert 0 < timing.lower_quartile <= timing.median <= timing.upper_quartile
    assert (timing.repeats, timing.batch, timing.precision, timing.execution) == (4, 2, "fp32", "imperative")
    assert json.loads(json.dumps(timing.to_dict()))["batch"] == 2


def test_latency_says_what_ran():
    net = ready(models.SmallConvNet(4), (2, 3, 8, 8))
    example = mx.nd.zeros((2, 3, 8, 8))

    def conditions():
        return str(measure_latency(net, example, repeats=1, warmup=0))
    assert conditions().endswith("fp32, imperative, not fused: call net.hybridize() first for what a deployed network "
                                 "takes")
    net.hybridize()
    assert conditions().endswith("fp32, hybridized, not fused")
    net.hybridize(backend="MKLDNN")
    assert conditions().endswith("fp32, fused")
    assert "batch 2" in conditions()


def test_latency_of_an_int8_network():
    from mxnet.contrib.quantization import quantize_net_v2
    net = ready(stacked(nn.Conv2D(8, 3), nn.Activation("relu")), (2, 4, 8, 8))
    net.hybridize()
    example = mx.nd.random.uniform(shape=(2, 4, 8, 8))
    batches = mx.gluon.data.DataLoader(mx.gluon.data.ArrayDataset(example, mx.nd.zeros(2)), batch_size=2)
    int8 = quantize_net_v2(net, quantized_dtype="auto", calib_mode="naive", calib_data=batches,
                           num_calib_examples=2)
    assert measure_latency(int8, example, repeats=1, warmup=1).precision == "int8"


@pytest.mark.parametrize("repeats, warmup, error", [(0, 0, ValueError), (1, -1, ValueError), (1.5, 0, TypeError),
                                                    (True, 0, TypeError)])
def test_latency_refuses(lenet, repeats, warmup, error):
    with pytest.raises(error, match="accepted"):
        measure_latency(lenet, mx.nd.zeros(IMAGES), repeats, warmup)


def test_latency_of_a_wrong_example(lenet):
    with pytest.raises(ValueError, match="does not fit"):
        measure_latency(lenet, mx.nd.zeros((2, 1, 32, 32)))


def test_plots_are_pictures(lenet, tmp_path):
    example = mx.nd.zeros(IMAGES)
    reports = {"before": report(lenet, example), "after": report(ready(models.SimpleCNN(), IMAGES), example)}
    numbers = {"before": 0.99, "after": 0.5}
    curves = {"L1": [(0, 0.99), (0.9, 0.98)], "L2": [(0, 0.99), (0.9, 0.97)]}
    wide = image.imread(plot_before_after(reports, tmp_path / "a.png"))
    narrow = image.imread(plot_before_after(numbers, tmp_path / "b.png", ylabel="accuracy", title="t"))
    lines = image.imread(plot_curves(curves, tmp_path / "c.png", "sparsity", "accuracy"))
    assert wide.shape[1] == pytest.approx(5 * narrow.shape[1], rel=0.05)  # one chart per quantity of a report
    blue = np.array([0x1F, 0x77, 0xB4]) / 255  # matplotlib's first colour, of the first bar
    is_blue = np.abs(narrow[..., :3] - blue).max(axis=-1) < 0.01
    orange = np.array([0xFF, 0x7F, 0x0E]) / 255
    is_orange = np.abs(narrow[..., :3] - orange).max(axis=-1) < 0.01
    assert is_orange.any(axis=1).sum() / is_blue.any(axis=1).sum() == pytest.approx(0.5 / 0.99, abs=0.02)
    assert len(np.unique(lines.reshape(-1, lines.shape[-1]), axis=0)) > 10


def test_plots_leave_matplotlib_alone(run_python, tmp_path):
    code = ("import sys; from gluon_compress.measuring.plots import plot_curves\n"
            "assert 'matplotlib' not in sys.modules; "
            "plot_curves({'a': [(0, 1)]}, sys.argv[1], 'x', 'y'); assert 'matplotlib.pyplot' not in sys.modules")
    run_python(code, tmp_path / "a.png", MPLBACKEND="QtAgg", DISPLAY=None)
    assert (tmp_path / "a.png").stat().st_size > 0


def test_plots_refuse(tmp_path, monkeypatch):
    path = tmp_path / "a.png"
    path.write_bytes(b"old")
    for wrong, error in (({}, ValueError), ({"a": float("nan")}, ValueError), ({"a": "1"}, TypeError),
                         ({"a": 1, "b": Report([], {}, [])}, TypeError)):
        with pytest.raises(error, match="accepted"):
            plot_before_after(wrong, path)
    for wrong in ({}, {"a": []}, {"a": [(0, float("inf"))]}):
        with pytest.raises(ValueError):
            plot_curves(wrong, path, "x", "y")
    with pytest.raises(ValueError, match=r"\.png"):
        plot_before_after({"a": 1}, tmp_path / "a.jpg")
    monkeypatch.setitem(__import__("sys").modules, "matplotlib.figure", None)
    with pytest.raises(ImportError, match=r"needs matplotlib, .*\[plots\]"):
        plot_before_after({"a": 1}, path)
    assert path.read_bytes() == b"old" and list(tmp_path.iterdir()) == [path]
