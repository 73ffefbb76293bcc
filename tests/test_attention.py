"""Attention on integers: dense layers over the last axis, with what lies between them in fp32."""

import gluon_compress as gc  # before mxnet

import numpy as np  # noqa: I001
import pytest
from attention import encoder
from gluon_compress.network.graph import Graph
from gluon_compress.quantization import prepare_qat, quantize
from gluon_compress.quantization.calibration import observing
from gluon_compress.quantization.integers.onednn import saturates
from mxnet import autograd, gluon
from mxnet.gluon import nn, rnn
from networks import Net, build

KINDS = pytest.mark.parametrize("arguments", [{}, {"lengths": True}, {"interleaved": True}],
                                ids=["batch_dot", "lengths", "interleaved"])
CLOSE = 0.1 if saturates() else 0.06
QUIET = {"progress": False}


def calibration(inputs):
    return [(inputs, np.zeros(len(inputs[0])))]


def relative_error(found, expected):
    return np.linalg.norm(found - expected) / np.linalg.norm(expected)


@KINDS
def test_encoders_on_integers_are_near_fp32_and_their_simulation(arguments, tmp_path):
    net, inputs = encoder(**arguments)
    expected = net(*inputs).asnumpy()
    int8, simulated = (quantize(net, calibration(inputs), simulate=simulate, **QUIET) for simulate in (False, True))
    found = int8(*inputs).asnumpy()
    assert relative_error(found, expected) < CLOSE
    assert relative_error(simulated(*inputs).asnumpy(), found) < 1e-3
    assert int8.record.left_out.keys() == {"words"} and set(int8.record.layers) >= {"layers.1.ffn1", "pooler", "head"}
    assert all(layer["snr"] > 20 for layer in int8.record.layers.values())
    gc.save(tmp_path / "net.gcz", int8)
    assert np.array_equal(gc.load(tmp_path / "net.gcz")(*inputs).asnumpy(), found)
    fewer = tuple(value[:3] for value in inputs)
    assert relative_error(int8(*fewer).asnumpy(), found[:3]) < 1e-5


@KINDS
def test_each_tensor_becomes_integers_once_and_dense_layers_put_out_what_is_read(arguments):
    net, inputs = encoder(**arguments)
    int8 = quantize(net, calibration(inputs), **QUIET)
    operators = [node.operator for node in Graph(int8, inputs).nodes]
    layers = len(int8.record.layers)
    assert operators.count("_sg_mkldnn_fully_connected") == layers
    assert operators.count("_contrib_quantize_v2") == 4 * 2 + 2  # what attention, proj, ffn1, ffn2 read, and the ends
    assert "_contrib_dequantize" not in operators and "_sg_mkldnn_conv" not in operators
    assert {island["operator"] for island in int8.record.islands.values()} >= {"softmax", "LayerNorm"}


@pytest.mark.parametrize("bits", [8, 4])
def test_qat_of_layers_over_the_last_axis_begins_as_quantize_and_converts_to_what_it_learned(bits):
    net, inputs = encoder()
    qat = prepare_qat(net, calibration(inputs), bits=bits, **QUIET)
    ptq = quantize(net, calibration(inputs), bits=bits, correct_bias=False, simulate=True, **QUIET)
    before = qat(*inputs).asnumpy()
    if bits == 8 and not saturates():  # scales are computed in the graph and in NumPy
        assert relative_error(ptq(*inputs).asnumpy(), before) < 0.02
    trainer = gluon.Trainer(qat.collect_params(), "adam", {"learning_rate": 0.003})
    for _ in range(3):
        with autograd.record():
            loss = (qat(*inputs) - 1).square().mean()
        loss.backward()
        trainer.step(1)
    assert all(parameter.grad().asnumpy().any() for name, parameter in qat.collect_params().items()
               if name.endswith(("ffn1.weight", "ffn1.bias", "query.weight", "input_threshold")))
    trained = qat(*inputs).asnumpy()
    assert relative_error(trained, before) > 0.01
    assert relative_error(qat.convert(simulate=True)(*inputs).asnumpy(), trained) < (
        0.02 if bits == 8 and not saturates() else 0.1)


def places_first(attends):
    """Of a sequence (places, batch, units): attention or a recurrent layer, with dense layers."""
    if attends:
        def f(net, F, x):
            qkv = net.qkv(x)
            scores = F.softmax(F.contrib.interleaved_matmul_selfatt_qk(qkv, heads=2))
            return net.last(F.contrib.interleaved_matmul_selfatt_valatt(qkv, scores, heads=2))
        return Net(f, qkv=nn.Dense(24, flatten=False), last=nn.Dense(4, flatten=False))
    return Net(lambda net, F, x: net.last(net.recurrent(x)), recurrent=rnn.LSTM(8), last=nn.Dense(4, flatten=False))


@pytest.mark.parametrize("attends", [True, False])
def test_sequences_are_not_cut_into_pieces_for_calibration(attends, monkeypatch):
    """Samples may be observed one after the other; the places of a sequence belong together."""
    net, example = build(lambda: places_first(attends), (12, 3, 16))
    seen = []
    run = observing.tensors_of
    monkeypatch.setattr(observing, "tensors_of", lambda net, inputs: seen.append(inputs[0].shape) or run(net, inputs))
    monkeypatch.setattr(observing, "MOST_BYTES", 1024)
    quantize(net, [example], simulate=True, **QUIET)
    assert set(seen) == {example.shape}
    seen.clear()
    encoder_net, inputs = encoder(interleaved=True)
    quantize(encoder_net, calibration(inputs), simulate=True, **QUIET)
    assert set(seen) == {(1, 10)}


def test_layers_over_the_last_of_four_axes_and_relu():
    net, example = build(Net, (2, 3, 4, 6), function=lambda net, F, x: net.second(F.relu(net.first(x))),
                         first=nn.Dense(9, flatten=False), second=nn.Dense(5, flatten=False))
    int8, simulated = (quantize(net, [example], equalize=True, simulate=simulate, **QUIET)
                       for simulate in (False, True))
    found, expected = int8(example).asnumpy(), net(example).asnumpy()
    assert relative_error(found, expected) < CLOSE
    assert relative_error(simulated(example).asnumpy(), found) < 1e-3
    qat = prepare_qat(net, [example], **QUIET)
    assert relative_error(qat(example).asnumpy(), expected) < CLOSE
    operators = [node.operator for node in Graph(int8, example).nodes]
    assert operators.count("_sg_mkldnn_fully_connected") == 2 and operators.count("_contrib_quantize_v2") == 1
    assert not {"_contrib_dequantize", "Activation", "relu"} & set(operators)
