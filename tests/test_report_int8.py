"""Reports and figures of integer networks: bytes as they are, layers and MACs as in the fp32 network."""
import gluon_compress as gc  # before mxnet

import mxnet as mx  # noqa: I001
import numpy as np
import pytest
from gluon_compress.measuring import plots
from gluon_compress.quantization import quantize
from gluon_compress.checkpoint.packed_file import read
from mxnet.gluon import nn
from networks import NormNet, SharedWeights, build
from test_integer_activations import built, prelu_net
from test_quantize import NETWORKS


@pytest.mark.parametrize(("name", "bits", "simulate"), [
    ("lenet", 8, True), *((name, bits, bits < 8) for bits in (8, 4) for name in (
        "lenet", "resnet", "norms", "branches", "own weight", "shared", "mobilenet"))])
def test_bytes_are_those_of_codes_scales_and_the_rest(name, bits, simulate):
    net, example = build(*NETWORKS[name])
    int8 = quantize(net, [example], bits=bits, simulate=simulate, progress=False)
    found, before = gc.report(int8, example), gc.report(net, example)
    assert found.macs == before.macs
    codes = sum(-(-code.size * bits // 8) for code in int8.codes.values())
    scales = sum(4 * layer["scale"].size for layer in int8.scales.weights.values())
    weights = sum(code.size for code in int8.codes.values())
    assert found.bytes == codes + scales + found.fp32_bytes - 4 * weights
    assert sum(layer.bytes for layer in found.layers) == found.bytes < 0.6 * before.bytes
    assert found.quantities()["bytes"] == found.bytes and "codes and scales" in str(found)
    assert found.nonzeros <= found.parameters <= before.parameters
    rows = {layer.name: layer for layer in found.layers}
    for layer in int8.record.layers:
        assert layer.partition("_again")[0] in rows


def test_a_prelu_that_runs_in_passes_counts_once():
    net, example = built(prelu_net)
    int8 = quantize(net, [example], progress=False)
    assert gc.report(int8, example).macs == gc.report(net, example).macs
    assert gc.report(int8, example).bytes < gc.report(net, example).bytes


def two_convolutions(channels):
    net = nn.HybridSequential()
    net.add(nn.Conv2D(channels, 3, activation="relu"), nn.Conv2D(64, 3, activation="relu"), nn.Dense(10))
    net.initialize(mx.init.Normal(0.1))
    example = mx.nd.random.normal(shape=(4, 3, 12, 12))
    net(example)
    return net, example


def test_layers_that_are_called_again_count_their_bytes_once():
    net, example = build(SharedWeights, (16, 6))
    int8 = quantize(net, [example], progress=False)
    found = gc.report(int8, example)
    assert found.parameters == gc.report(net, example).parameters
    assert any(" + " in layer.kind or " x2" in layer.kind for layer in found.layers)


def test_the_file_has_hardly_more(tmp_path):
    """Its tensors are what is counted, and BatchNorm's parameters of 1 and 0, which are in the codes."""
    net, example = two_convolutions(32)
    int8 = quantize(net, [example], progress=False)
    gc.save(tmp_path / "net.gcz", int8)
    tensors = read(tmp_path / "net.gcz", "compressed network")[0]
    assert sum(np.asarray(tensor).nbytes for tensor in tensors.values()) == gc.report(int8, example).bytes


def test_before_and_after_show_the_saving(tmp_path, monkeypatch):
    drawn = {}
    net, example = build(NormNet, (8, 3, 8, 8))
    reports = {"fp32": gc.report(net, example), "int8": gc.report(quantize(net, [example], progress=False), example)}
    original = plots._save

    def save(path, draw, size):
        def record(figure):
            draw(figure)
            for axes in figure.axes:
                drawn[axes.get_ylabel()] = [bar.get_height() for bar in axes.patches]
        return original(path, record, size)
    monkeypatch.setattr(plots, "_save", save)
    plots.plot_before_after(reports, tmp_path / "chart.png")
    assert drawn["bytes"] == [reports["fp32"].bytes, reports["int8"].bytes]
    assert drawn["bytes"][1] < 0.6 * drawn["bytes"][0] and drawn["MACs per sample"][0] == drawn["MACs per sample"][1]


def test_exported_parameters_are_of_fp32_size_and_saved_ones_a_quarter(tmp_path):
    net, example = two_convolutions(64)
    int8 = quantize(net, [example], progress=False)
    expected = int8(example).asnumpy()
    int8.export(str(tmp_path / "net"))
    gc.save(tmp_path / "net.gcz", int8)
    size = (tmp_path / "net-0000.params").stat().st_size
    assert size > 0.9 * gc.report(net, example).bytes > 3 * (tmp_path / "net.gcz").stat().st_size
    files = [str(tmp_path / name) for name in ("net-symbol.json", "net-0000.params")]
    loaded = mx.gluon.SymbolBlock.imports(files[0], ["data"], files[1])
    assert np.array_equal(loaded(example).asnumpy(), expected)
    assert "as many bytes" in " ".join(type(int8).export.__doc__.replace("\n", " ").split())
