"""Networks of MXNet's NumPy interface beside the same of the classic one: techniques make the same bits of both."""
from functools import partial

import gluon_compress  # noqa: F401

import pytest  # noqa: I001
import test_integer_activations
import test_qat
import test_quantize
from gluon_compress.pruning import prune_channels, prune_magnitude, prune_n_m
from gluon_compress.quantization import fold_batch_norm, prepare_qat, quantize, quantize_weights
from hypothesis import given, settings
from hypothesis import strategies as st
from mxnet import autograd
from mxnet.base import MXNetError
from networks import build, identical, values
from numpy_twins import NoTwin, in_numpy, numpy_mode, take_values, twin_of
from test_groups import BLOCKS, IMAGE, Random, ready
from test_operators import CASES, PINNED, make, run

OPERATORS = {**CASES, **{name: (factory, shapes) for name, (factory, shapes, _) in PINNED.items()}}
# What must not be missing from the networks that have a twin.
SURE = {
    "convolution", "grouped, whole groups", "depthwise", "transposed", "dense after dense",
    "dense over the last axis", "batch norm", "layer norm of the pixels", "prelu per channel", "max pooling",
    "global pooling", "residual", "relu", "mean of the pixels", "squeeze and excite", "concat", "dense net",
    "split of rows", "stack", "channel shuffle", "reshape to rows", "expand and squeeze", "slice of rows", "where",
    "padding", "batch_dot attention", "x * 0.5", "non-local block", "multi-head attention", "embedding", "option A",
    "broadcast_greater", "take in another order", "LSTM layers", "GRU layers", "MultiBoxPrior",
    "softmax over channels", "slice of channels", "mean over channels"}
ROUNDED_OTHERWISE = {"add_n"}  # which adds three tensors at once; its twin one after the other


def bits(net, inputs):
    return [output.asnumpy().tobytes() for output in run(net, inputs)]


def assert_pruned_alike(net, inputs, twin, ratio=0.5, criterion="l1"):
    with numpy_mode():
        twin_inputs = in_numpy(inputs)
        before = bits(twin, twin_inputs)
        twin_plan = prune_channels(twin, twin_inputs, ratio, criterion, round_to=1)
        after = bits(twin, twin_inputs)
    assert before == bits(net, inputs)
    plan = prune_channels(net, inputs, ratio, criterion, round_to=1)
    assert twin_plan.layers == plan.layers and twin_plan.slices == plan.slices
    assert twin_plan.left_out.keys() == plan.left_out.keys()
    assert identical(values(twin), values(net))
    assert after == bits(net, inputs)


def twin_or_none(net, inputs, make_twin):
    """A network's twin; None where MXNet 1.9.1 or Gluon's block has no such function in its NumPy interface."""
    with numpy_mode():
        twin = take_values(twin_of(make_twin()), net)
        try:
            run(twin, in_numpy(inputs))
        except (NoTwin, MXNetError, TypeError, AttributeError):
            return None
        return twin


@pytest.mark.parametrize("name", [name for name in OPERATORS if name not in ROUNDED_OTHERWISE])
def test_channels_of_networks_of_each_operator_are_pruned_alike(name):
    factory, shapes = OPERATORS[name]
    net, inputs = make(factory, shapes)
    twin = twin_or_none(net, inputs, factory)
    if twin is None:
        assert name not in SURE
    else:
        assert_pruned_alike(net, inputs, twin)


@settings(max_examples=15)
@given(names=st.lists(st.sampled_from(BLOCKS), min_size=1, max_size=4), size=st.sampled_from([4, 6, 8]),
       ratio=st.floats(0, 0.7), criterion=st.sampled_from(["l1", "l2", "fpgm"]))
def test_random_networks_are_pruned_alike(names, size, ratio, criterion):
    net, inputs = ready(Random(names, size), IMAGE)
    with numpy_mode():
        twin = take_values(twin_of(Random(names, size)), net)
    assert_pruned_alike(net, inputs, twin, ratio, criterion)


@pytest.mark.parametrize("technique", [
    partial(prune_magnitude, sparsity=0.7), partial(prune_magnitude, sparsity=0.7, scope="global", norm=2),
    partial(prune_n_m, n=2, m=4), partial(quantize_weights, bits=4), partial(quantize_weights, bits=8, clip="mse")])
def test_weights_are_pruned_and_quantized_alike(technique):
    net, _ = ready(Random(BLOCKS, 8), IMAGE)
    with numpy_mode():
        twin = take_values(twin_of(Random(BLOCKS, 8)), net)
        record = technique(twin)
    assert record.to_dict() == technique(net).to_dict()
    assert identical(values(twin), values(net))


QUANTIZED = {**{name: test_quantize.NETWORKS[name] for name in ("lenet", "inverted residual", "fire")},
             **{name: (make, (8, 3, 14, 14)) for name, make in test_integer_activations.NETWORKS.items()},
             **{network.__name__: (network, shape) for network, shape in test_qat.NETWORKS.items()}}


def with_twin(name):
    """``(net, x, twin, x for it)``."""
    make, shape = QUANTIZED[name]
    net, x = build(make, shape)
    with numpy_mode():
        return net, x, take_values(twin_of(make()), net), *in_numpy((x,))


@pytest.mark.parametrize("name", QUANTIZED)
def test_integer_networks_are_alike(name):
    net, x, twin, x_of_twin = with_twin(name)
    quantized = quantize(net, [x], progress=False)
    with numpy_mode():
        twin_quantized = quantize(twin, [x_of_twin], progress=False)
        found = bits(twin_quantized, [x_of_twin])
    record, twin_record = quantized.record.to_dict(), twin_quantized.record.to_dict()
    assert len(record.pop("islands")) == len(twin_record.pop("islands"))  # whose names are Gluon's
    assert twin_record == record and found == bits(quantized, [x])


def trained(net, x):
    """The outputs and the gradients of a network that is trained as integers."""
    qat = prepare_qat(net, [x], progress=False)
    with autograd.record():
        outputs = qat(x)
    outputs.backward()
    return outputs.asnumpy().tobytes(), [parameter.grad().asnumpy().tobytes() for _, parameter in sorted(
        qat._collect_params_with_prefix().items()) if parameter.grad_req != "null"]


@pytest.mark.parametrize("name", [network.__name__ for network in test_qat.NETWORKS])
def test_training_as_integers_is_alike(name):
    net, x, twin, x_of_twin = with_twin(name)
    with numpy_mode():
        found = trained(twin, x_of_twin)
    assert found == trained(net, x)


@pytest.mark.parametrize("name", ["NormNet", "residual", "inverted residual"])
def test_folding_is_alike(name):
    net, x, twin, x_of_twin = with_twin(name)
    with numpy_mode():
        folded = fold_batch_norm(twin, x_of_twin)
    assert folded.folded == fold_batch_norm(net, x).folded != {}
    assert identical(values(twin), values(net))
