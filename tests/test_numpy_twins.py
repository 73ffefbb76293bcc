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
from networks import build, identical, values
from numpy_twins import in_numpy, numpy_mode, take_values, twin_of
from test_groups import BLOCKS, IMAGE, Random, ready
from test_operators import CASES, PINNED, make, run

OPERATORS = {**CASES, **{name: (factory, shapes) for name, (factory, shapes, _) in PINNED.items()}}
WITHOUT_TWIN = {
    # the NumPy interface has no such function
    "softsign", "hard_sigmoid", "BlockGrad", "rsqrt", "rcbrt", "logical_not", "make_loss", "MakeLoss",
    "contrib.gradientmultiplier", "round", "contrib.round_ste", "contrib.sign_ste", "hypot of a number",
    "rmod of a number", "logical_and of a number", "logical_or of a number", "logical_xor of a number", "quadratic",
    "div_sqrt_dim of pixels", "batch norm with relu", "l2 normalization of the pixels",
    "l2 normalization of the channels", "softmax activation of the pixels", "softmin of the pixels", "adaptive pooling",
    "bilinear resize", "resize like", "upsampling", "upsampling of several", "upsampling of a sum",
    "bilinear upsampling", "crop like", "crop", "mean of all but", "nansum", "nanprod", "norm", "argmax", "argmin",
    "broadcast_logical_and", "broadcast_logical_or", "broadcast_logical_xor", "_maximum", "_minimum", "_power", "_mod",
    "_hypot", "_equal", "_not_equal", "_greater", "_greater_equal", "_lesser", "_lesser_equal", "_grad_add",
    "_logical_and", "_logical_or", "_logical_xor", "broadcast_like", "broadcast_like of one channel", "depth_to_space",
    "space_to_depth", "slice_like", "slice_like of all", "broadcast_axis", "SequenceLast", "SequenceReverse",
    "SequenceMask", "as many ones", "as many times as said", "sampled pixels", "transformed image",
    "interleaved attention", "ROIAlign", "mean over all", "take by constant positions", "slice_like with channels",
    "div_sqrt_dim", "size_array", "custom operator", "correlation", "lrn", "recurrent parameters in one vector",
    "softmax activation over channels", "softmax activation over all", "softmax with its loss",
    "LinearRegressionOutput", "LogisticRegressionOutput", "MAERegressionOutput", "boxes found", "boxes to find",
    "Proposal", "MultiProposal", "box_nms", "box_decode", "a layer's one channel for many", "dot",
    "places from channels", "position sensitive regions", "channels as sequences", "upsampling added to what stays",
    "bilinear upsampling by number",
    # Gluon's layer or our network calls what takes classic arrays alone
    "sync batch norm", "instance norm", "group norm", "group norm of single channels", "reflection padding", "split",
    "pixel shuffle", "RNNCell", "LSTMCell", "GRUCell", "group norm of one group",
    # truth values, shapes or arguments that the functions of the NumPy interface do not take
    "x == 0.5", "x != 0.5", "x > 0.5", "x >= 0.5", "x < 0.5", "x <= 0.5", "broadcast_to", "as wide as said",
    "products of images", "a choice by rows", "broadcast_to a number", "matrices along other axes"}
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


@pytest.mark.parametrize("name", [name for name in OPERATORS if name not in WITHOUT_TWIN | ROUNDED_OTHERWISE])
def test_channels_of_networks_of_each_operator_are_pruned_alike(name):
    factory, shapes = OPERATORS[name]
    net, inputs = make(factory, shapes)
    with numpy_mode():
        twin = take_values(twin_of(factory()), net)
    assert_pruned_alike(net, inputs, twin)


def test_networks_without_a_twin_are_among_the_others():
    assert WITHOUT_TWIN | ROUNDED_OTHERWISE < OPERATORS.keys()


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
