"""What oneDNN says that it ran."""
import gluon_compress as gc  # before mxnet

import mxnet as mx  # noqa: I001
import pytest
from gluon_compress.errors import NetworkError
from gluon_compress.measuring import kernels_of
from gluon_compress.models import LeNet
from gluon_compress.quantization import quantize
from mxnet.gluon import nn
from networks import Net, build


def calls(report, operator):
    """{types: how often} of an operator."""
    found = {}
    for kernel, number in report.calls.items():
        if kernel.operator == operator:
            found[kernel.types] = found.get(kernel.types, 0) + number
    return found


def test_an_int8_network_runs_integer_kernels_and_nothing_else():
    net, example = build(LeNet, (4, 1, 28, 28))
    fp32 = kernels_of(net, example)
    assert calls(fp32, "convolution") == {"f32 f32 -> f32": 2}
    assert calls(fp32, "inner_product") == {"f32 f32 -> f32": 2}
    int8 = kernels_of(quantize(net, [example], progress=False), example)
    assert calls(int8, "convolution") == {"s8 s8 -> u8": 1, "u8 s8 -> u8": 1}
    assert calls(int8, "inner_product") == {"u8 s8 -> u8": 1, "u8 s8 -> f32": 1}
    assert calls(int8, "pooling_v2") == {"u8 -> u8": 2}
    assert all(milliseconds >= 0 for milliseconds in int8.milliseconds.values())
    lines = str(int8).splitlines()
    assert lines[0].split() == ["operator", "kernel", "types", "calls", "ms"] and len(lines) == 2 + len(int8.calls)


def test_the_simulation_runs_in_fp32():
    net, example = build(LeNet, (4, 1, 28, 28))
    report = kernels_of(quantize(net, [example], simulate=True, progress=False), example)
    assert calls(report, "convolution") == {"f32 f32 -> f32": 2}


def test_instructions_are_named(monkeypatch):
    net, example = build(LeNet, (4, 1, 28, 28))
    monkeypatch.setenv("DNNL_MAX_CPU_ISA", "AVX2")
    report = kernels_of(net, example)
    assert all("avx512" not in kernel.implementation for kernel in report.calls)
    assert any("avx2" in kernel.implementation for kernel in report.calls)


def test_several_inputs_and_integers():
    net = Net(lambda net, F, x, y: net.dense(x) + net.table(y), dense=nn.Dense(3), table=nn.Embedding(5, 3))
    net.initialize()
    example = mx.nd.ones((4, 6)), mx.nd.array([0, 1, 2, 3], dtype="int32")
    net(*example)
    assert calls(kernels_of(net, example), "inner_product") == {"f32 f32 -> f32": 1}


def test_what_cannot_be_reported_is_refused():
    net = Net(lambda net, F, x: F.broadcast_mul(x, F.sin(x)))
    net.initialize()
    with pytest.raises(NetworkError, match="no kernels"):
        kernels_of(net, mx.nd.ones((2, 3)))
    with pytest.raises(ValueError, match="shape"):
        kernels_of(gc.params.load("lenet_mnist"), mx.nd.ones((2, 5, 28, 28)))
