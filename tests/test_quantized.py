"""What quantization made of a network is made once, and read by all that comes after it."""
import inspect
import sys

import gluon_compress as gc  # before mxnet

import mxnet as mx  # noqa: I001
import numpy as np
import pytest
from gluon_compress.errors import RecordError
from gluon_compress.models import LeNet
from gluon_compress.quantization import prepare_qat, quantize
from gluon_compress.quantization.folding import batch_norm_pairs
from gluon_compress.quantization.integers.emitter import Emitter
from gluon_compress.quantization.integers.fusions import find_fusions
from gluon_compress.quantization.integers.inference_graph import simplify
from gluon_compress.quantization.integers.lowering import Lowering
from gluon_compress.quantization.integers.narrow import NarrowSimulatedEmitter
from gluon_compress.quantization.integers.narrow_emitter import NarrowInt8Emitter
from gluon_compress.quantization.integers.onednn_emitter import Int8Emitter
from gluon_compress.quantization.quantized import Quantized
from gluon_compress.quantization.quantizer import Quantizer
from gluon_compress.quantization.integers.simulated_emitter import SimulatedEmitter
from gluon_compress.quantization.integers.training_emitter import TrainingEmitter
from mxnet.gluon import nn
from networks import Net, NormNet, build, identical

STEPS = {"pairs": batch_norm_pairs, "simplify": simplify, "find_fusions": find_fusions, "lower": Lowering.__init__}
ONCE = dict.fromkeys(STEPS, 1)
QUIET = {"progress": False}


def counted(function, *arguments, steps=STEPS, **named):
    """``(result, {step: how often it ran})`` of a call."""
    names = {step.__code__: name for name, step in steps.items()}
    found = dict.fromkeys(steps, 0)

    def note(frame, event, _):
        if event == "call" and frame.f_code in names:
            found[names[frame.f_code]] += 1
    sys.setprofile(note)
    try:
        return function(*arguments, **named), found
    finally:
        sys.setprofile(None)


def lenet():
    return build(LeNet, (8, 1, 28, 28))


@pytest.mark.parametrize("network", [LeNet, NormNet])
@pytest.mark.parametrize("options", [{}, {"simulate": True}, {"simulate": True, "bits": 4}, {"correct_bias": False},
                                     {"method": "entropy"}, {"equalize": False}])
def test_quantize_runs_each_step_once(network, options):
    net, example = lenet() if network is LeNet else build(network)
    assert counted(quantize, net, [example], **options, **QUIET)[1] == ONCE


def test_what_is_observed_and_what_runs_differ_with_excluded_layers():
    """Ranges are observed for all layers, those that are excluded too; the others are fused by themselves."""
    net, example = lenet()
    assert counted(quantize, net, [example], exclude=["Dense"], **QUIET)[1] == {**ONCE, "find_fusions": 2}


def test_with_equalization_only_the_two_candidates_are_lowered():
    """The network as it is and that with channels rescaled: values differ, graphs do not."""
    net, example = lenet()
    int8, found = counted(quantize, net, [example], equalize=True, **QUIET)
    assert any("equaliz" in note for note in int8.record.notes) and found == {**ONCE, "lower": 2}


def test_the_network_that_equalization_chose_is_the_first_whose_accuracy_is_looked_at():
    net, example = lenet()
    int8, found = counted(quantize, net, [example], equalize=True, evaluate=lambda net: 1.0, max_accuracy_drop=0.5,
                          **QUIET)
    assert int8.record.accuracy == 1 and found == {**ONCE, "lower": 2}


def test_with_a_bound_of_accuracy_each_network_that_is_tried_is_lowered_once():
    """And fusions are looked for once for each set of layers; the whole set was looked at in calibration."""
    net, example = lenet()
    expected = net(example).asnumpy()

    def closeness(other):
        return -float(np.abs(other(example).asnumpy() - expected).mean())
    bound = -closeness(quantize(net, [example], **QUIET)) / 2
    int8, found = counted(quantize, net, [example], evaluate=closeness, max_accuracy_drop=bound, **QUIET,
                          steps={**STEPS, "tried": Quantizer.quantized})
    assert int8.record.left_out and found["simplify"] == found["pairs"] == 1
    assert len(int8.record.layers) < found["find_fusions"] <= found["lower"] == found["tried"]


@pytest.mark.parametrize("bits", [8, 4])
def test_training_and_conversion_lower_once_each_and_look_for_nothing_again(bits):
    net, example = build(NormNet)
    qat, found = counted(prepare_qat, net, [example], bits=bits, **QUIET)
    assert found == ONCE
    _, found = counted(qat.convert, simulate=True)
    assert found == {**dict.fromkeys(STEPS, 0), "lower": 1}


@pytest.mark.parametrize("simulate", [False, True])
def test_saving_derives_nothing_and_loading_each_step_once(simulate, tmp_path):
    net, example = lenet()
    int8 = quantize(net, [example], simulate=simulate, **QUIET)
    nothing = dict.fromkeys(STEPS, 0)
    assert counted(gc.save, tmp_path / "net.gcz", int8)[1] == nothing
    again, found = counted(gc.load, tmp_path / "net.gcz", simulate=simulate)
    assert found == ONCE
    assert np.array_equal(again(example).asnumpy(), int8(example).asnumpy())
    assert counted(gc.load, tmp_path / "net.gcz", precision="fp32")[1] == nothing
    assert counted(gc.report, again, example)[1] == nothing


def test_conversion_leaves_what_was_prepared_as_it_was():
    net, example = build(NormNet)
    qat = prepare_qat(net, [example], **QUIET)
    first, second = (qat.convert(simulate=True) for _ in range(2))
    assert np.array_equal(first(example).asnumpy(), second(example).asnumpy())
    assert first.record == second.record and first.record is not qat.record
    assert identical(first.fp32_values(), second.fp32_values())


def called_on_rows_and_on_a_sequence():
    """One dense layer, on a matrix and on the last of three axes."""
    def f(net, F, x):
        rows = F.relu(net.twice(F.reshape(x, (0, -1, 6)).mean(axis=1)))
        sequence = F.relu(net.twice(F.reshape(x, (0, -1, 6)))).mean(axis=1)
        return net.head(rows + sequence)
    return Net(f, twice=nn.Dense(16, flatten=False), head=nn.Dense(4))


@pytest.mark.parametrize("simulate", [False, True])
def test_of_a_layer_that_is_called_twice_one_call_may_stay_fp32(simulate, tmp_path):
    net, example = build(called_on_rows_and_on_a_sequence, (16, 30))
    expected = net(example).asnumpy()

    def one_is_left_out(network):
        return float(network is net or len({"twice", "twice_again1"} & network.record.layers.keys()) == 1)
    int8 = quantize(net, [example], simulate=simulate, evaluate=one_is_left_out, max_accuracy_drop=0, **QUIET)
    assert one_is_left_out(int8)
    gc.save(tmp_path / "net.gcz", int8)
    for network in (int8, gc.load(tmp_path / "net.gcz", simulate=simulate)):
        assert np.linalg.norm(network(example).asnumpy() - expected) < 0.03 * np.linalg.norm(expected)


@pytest.mark.parametrize("simulate", [False, True])
def test_a_bias_that_something_else_reads_stays_what_it_is_there(simulate):
    """A layer on integers has a bias in units of its codes, under the same name."""
    def f(net, F, x, **own):
        weight, bias = own["layer.weight"], own["layer.bias"]
        return F.broadcast_mul(F.FullyConnected(x, weight, bias, num_hidden=5), F.sigmoid(F.reshape(bias, (1, -1))))
    net, example = build(Net, (16, 12), function=f, shapes={"layer.weight": (5, 12), "layer.bias": (5,)})
    expected = net(example).asnumpy()
    found = quantize(net, [example], simulate=simulate, **QUIET)(example).asnumpy()
    assert np.linalg.norm(found - expected) < 0.03 * np.linalg.norm(expected)


def test_values_whose_batch_norm_is_not_folded_are_refused():
    """A file may say anything: the integer network would leave that scale out."""
    net, example = build(NormNet)
    int8 = quantize(net, [example], simulate=True, **QUIET)
    for changed in ("features.1.gamma", "features.1.running_mean", "features.4.bias"):
        tensors = {name: value + (name == changed) for name, value in int8.quantized.tensors().items()}
        with pytest.raises(RecordError, match="a BatchNorm's scale is not in the weights"):
            Quantized.from_tensors(int8.graph, tensors, {"quantization": int8.record, "scales": int8.scales})


def test_each_network_of_one_quantization_has_a_record_of_its_own():
    """What differs on this processor, and what was measured, is of one network."""
    net, example = build(NormNet)
    int8 = quantize(net, [example], **QUIET)
    int8.record.processor, islands = {"features.0": "narrower here"}, dict(int8.record.islands)
    other = int8.quantized.network(simulate=True)
    other.record.islands_share, other.record.accuracy = 0.5, 0.9
    assert int8.record.processor == {"features.0": "narrower here"} and int8.record.islands == islands
    assert int8.record.islands_share is int8.record.accuracy is None


def test_integer_constants_are_saved_and_loaded(tmp_path):
    def f(net, F, x, order):
        return net.head(F.take(net.dense(x), order, axis=1))
    net = Net(f, dense=nn.Dense(6), head=nn.Dense(3))
    net.order = net.params.get_constant("order", mx.nd.array([3, 0, 2, 2], dtype="int32"))
    net.initialize(mx.init.Normal(1))
    example = mx.nd.random.normal(shape=(16, 10))
    net(example)
    int8 = quantize(net, [example], **QUIET)
    gc.save(tmp_path / "net.gcz", int8)
    again = gc.load(tmp_path / "net.gcz")
    assert again.rest["order"].dtype == np.int32 and identical(again.rest, int8.rest)
    assert np.array_equal(again(example).asnumpy(), int8(example).asnumpy())


@pytest.mark.parametrize("emitter_class", [Int8Emitter, NarrowInt8Emitter, SimulatedEmitter, NarrowSimulatedEmitter,
                                           TrainingEmitter])
def test_every_emitter_takes_what_the_interface_declares(emitter_class):
    """By position and by name, with the same defaults; and is no kind of another one that it would have to override."""
    declared = {name: inspect.signature(getattr(Emitter, name)) for name in Emitter.__abstractmethods__}
    assert declared and not emitter_class.__abstractmethods__
    for name, signature in declared.items():
        own = inspect.signature(getattr(emitter_class, name))
        own.bind(*signature.parameters)
        _, *given = signature.parameters
        own.bind(None, **dict.fromkeys(given))
        for parameter in own.parameters.keys() & signature.parameters.keys():
            assert own.parameters[parameter].default == signature.parameters[parameter].default
    assert not issubclass(TrainingEmitter, SimulatedEmitter)
