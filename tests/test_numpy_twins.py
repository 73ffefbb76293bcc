"""Networks of MXNet's NumPy interface beside the same of the classic one: techniques make the same bits of both."""
import gluon_compress  # noqa: F401

import pytest  # noqa: I001
from gluon_compress.pruning import prune_channels
from mxnet.base import MXNetError
from networks import identical, values
from numpy_twins import in_numpy, numpy_mode, take_values, twin_of
from test_groups import BLOCKS, IMAGE, Random, ready
from test_operators import CASES, PINNED, make, run

OPERATORS = {**CASES, **{name: (factory, shapes) for name, (factory, shapes, _) in PINNED.items()}}
# What the NumPy interface of MXNet 1.9.1 has no function for, and blocks of Gluon that fail in it.
WITHOUT_TWIN = {*(
    "softsign hard_sigmoid BlockGrad rsqrt rcbrt logical_not make_loss MakeLoss round nansum norm argmax argmin crop "
    "dot upsampling broadcast_like broadcast_axis broadcast_to depth_to_space space_to_depth slice_like div_sqrt_dim "
    "split ROIAlign size_array correlation lrn broadcast_logical_and broadcast_logical_or broadcast_logical_xor "
    "_maximum _equal _minimum _power _mod _hypot _not_equal _greater _greater_equal _lesser _lesser_equal "
    "_grad_add").split(), *(
    "x == 0.5, x != 0.5, x > 0.5, x >= 0.5, x < 0.5, x <= 0.5, div_sqrt_dim of pixels, batch norm with relu, resize "
    "like, l2 normalization of the pixels, l2 normalization of the channels, softmin of the pixels, adaptive pooling, "
    "crop like, bilinear resize, mean of all but, broadcast_like of one channel, slice_like of all, mean over all, "
    "custom operator, take by constant positions, slice_like with channels, a layer's one channel for many, batch_dot "
    "of four axes, position sensitive regions, upsampling of several, bilinear upsampling, broadcast_to a number, "
    "sync batch norm, instance norm, group norm, group norm of single channels, group norm of one group, reflection "
    "padding, pixel shuffle").split(", ")}
ROUNDED_OTHERWISE = {"add_n"}  # which adds three tensors at once; its twin one after the other


def bits(net, inputs):
    return [output.asnumpy().tobytes() for output in run(net, inputs)]


def assert_pruned_alike(net, inputs, make_twin):
    with numpy_mode():
        twin = take_values(twin_of(make_twin()), net)
        twin_inputs = in_numpy(inputs)
        before = bits(twin, twin_inputs)
        twin_plan = prune_channels(twin, twin_inputs, 0.5, round_to=1)
        after = bits(twin, twin_inputs)
    assert before == bits(net, inputs)
    plan = prune_channels(net, inputs, 0.5, round_to=1)
    assert twin_plan.layers == plan.layers and twin_plan.slices == plan.slices
    assert twin_plan.left_out.keys() == plan.left_out.keys()
    assert identical(values(twin), values(net))
    assert after == bits(net, inputs)


@pytest.mark.parametrize("name", [name for name in OPERATORS if name not in WITHOUT_TWIN | ROUNDED_OTHERWISE])
def test_channels_of_networks_of_each_operator_are_pruned_alike(name):
    factory, shapes = OPERATORS[name]
    assert_pruned_alike(*make(factory, shapes), factory)


@pytest.mark.parametrize("name", sorted(WITHOUT_TWIN))
def test_what_is_left_out_here_does_not_compute_in_the_numpy_interface(name):
    factory, shapes = OPERATORS[name]
    net, inputs = make(factory, shapes)
    with numpy_mode(), pytest.raises((AttributeError, TypeError, MXNetError)):
        bits(take_values(twin_of(factory()), net), in_numpy(inputs))


@pytest.mark.parametrize("names", [BLOCKS[:3], BLOCKS[3:6], BLOCKS[6:], ["residual"] * 3,
                                   ["concat", "grouped", "excite"]])
def test_channels_of_networks_of_several_blocks_are_pruned_alike(names):
    assert_pruned_alike(*ready(Random(names, 8), IMAGE), lambda: Random(names, 8))
