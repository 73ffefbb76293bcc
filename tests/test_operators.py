"""Structured pruning, operator by operator: what passes through, what must stay, and why.

Each case is a network ``stem -> first -> (the operators in question) -> head``. The pruned network must compute what
the original does when all that was removed is zero there.
"""
import json
import operator
import re
from operator import attrgetter

import gluon_compress  # noqa: F401

import mxnet as mx  # noqa: I001
import numpy as np
import pytest
from gluon_compress.errors import RecordError
from gluon_compress.pruning import ChannelPlan, prune_channels, prune_channels_in_steps
from gluon_compress.network.graph import Graph
from gluon_compress.pruning.channels.rules import RULES
from gluon_compress.pruning.channels.rules.numpy_interface import NUMPY_RULES
from mxnet import autograd
from mxnet.gluon import HybridBlock, Trainer, contrib, nn, rnn
from networks import Net, assert_close, exported, identical, randomize, values, zero_removed

IMAGES = (2, 3, 6, 6)


def between(function, first=None, head=None, shapes=None, **layers):
    """Factory of a network whose ``first`` layer makes the channels that ``function(net, F, x, **own)`` carries on."""
    def forward(net, F, x, *others, **own):
        return net.head(function(net, F, net.first(net.stem(x)), *others, **own))

    def network():
        return Net(forward, shapes, stem=nn.Conv2D(4, 3, padding=1), first=first() if first else nn.Conv2D(8, 3,
            padding=1),
                   head=head() if head else nn.Dense(5), **{name: make() for name, make in layers.items()})
    return network


def whole(function, shapes=None, **layers):
    """Factory of a network that ``function`` describes wholly."""
    return lambda: Net(function, shapes, **{name: make() for name, make in layers.items()})


def conv(channels, kernel=3, **arguments):
    return lambda: nn.Conv2D(channels, kernel, padding=arguments.pop("padding", kernel // 2), **arguments)


def up(channels, **arguments):
    return lambda: nn.Conv2DTranspose(channels, 2, strides=2, **arguments)


def dense(units, **arguments):
    return lambda: nn.Dense(units, **arguments)


def make(factory, shapes=IMAGES, seed=0):
    """(net, inputs): random parameters, random inputs; integers below the number where a shape ends with a string."""
    mx.random.seed(seed)
    net = factory()
    net.initialize(mx.init.Normal(0.3))
    inputs = examples(shapes)
    net(*inputs)
    randomize(net)
    return net, inputs


def examples(shapes, batch=None):
    shapes = shapes if isinstance(shapes[0], tuple) else (shapes,)
    return tuple(mx.nd.random.normal(shape=(batch or shape[0], *shape[1:])) for shape in shapes)


def run(net, inputs):
    outputs = net(*inputs)
    return list(outputs) if isinstance(outputs, (list, tuple)) else [outputs]


# What passes through ----------------------------------------------------------------------------------------------

def positive(net, F, x):
    """Between 0.25 and 0.75, also where a channel is zero, so that logarithms and the like are finite."""
    return F.sigmoid(x) * 0.5 + 0.25


def rows_of(F, x):
    """(pixels, N, channels)."""
    return F.transpose(F.reshape(x, (0, 0, -1)), axes=(2, 0, 1))


CONSTANT = {"sign", "logical_not", "zeros_like", "ones_like", "x == 0.5", "x != 0.5", "x > 0.5", "x >= 0.5", "x < 0.5",
            "x <= 0.5",
            "broadcast_equal", "_equal", "broadcast_logical_xor", "_logical_xor"}  # may be the same for all inputs
UNARY = ("relu sigmoid tanh softsign hard_sigmoid identity BlockGrad abs sign negative exp expm1 log log1p log2 log10 "
         "sqrt rsqrt cbrt rcbrt square reciprocal erf erfinv sin cos tan arcsin arccos arctan sinh cosh arcsinh "
         "arctanh degrees radians gamma gammaln logical_not zeros_like ones_like make_loss MakeLoss smooth_l1 "
         "Dropout contrib.gradientmultiplier").split()
ROUNDING = "floor ceil round rint fix trunc contrib.round_ste contrib.sign_ste".split()
SCALAR = {"+": operator.add, "-": operator.sub, "*": operator.mul, "/": operator.truediv, "**": operator.pow,
          "%": operator.mod, "==": operator.eq, "!=": operator.ne, ">": operator.gt, ">=": operator.ge,
          "<": operator.lt, "<=": operator.le}
BINARY = "add sub mul div".split()
BROADCAST = ("add sub mul div mod power maximum minimum hypot equal not_equal greater greater_equal lesser "
             "lesser_equal logical_and logical_or logical_xor").split()

PASSES = {
    **{name: between(lambda net, F, x, name=name: attrgetter(name)(F)(positive(net, F, x))) for name in UNARY},
    **{name: between(lambda net, F, x, name=name: attrgetter(name)(F)(x * 3 + 0.2)) for name in ROUNDING},
    **{f"x {symbol} 0.5": between(lambda net, F, x, function=function: function(positive(net, F, x), 0.5))
       for symbol, function in SCALAR.items()},
    "0.5 - x": between(lambda net, F, x: 0.5 - x),
    "0.5 / x": between(lambda net, F, x: 0.5 / positive(net, F, x)),
    "0.5 ** x": between(lambda net, F, x: 0.5 ** x),
    "maximum(x, 0.5)": between(lambda net, F, x: F.maximum(x, 0.5)),
    "minimum(x, 0.5)": between(lambda net, F, x: F.minimum(x, 0.5)),
    **{f"{name} of a number": between(lambda net, F, x, name=name: getattr(F._internal, f"_{name}_scalar")(
        positive(net, F, x) if name == "rmod" else F.relu(x), scalar=0.5))
       for name in ("hypot", "rmod", "logical_and", "logical_or", "logical_xor")},
    "quadratic": between(lambda net, F, x: F.contrib.quadratic(x, a=1, b=2, c=3)),
    "arccosh": between(lambda net, F, x: F.arccosh(positive(net, F, x) + 1)),
    "Cast": between(lambda net, F, x: F.cast(F.cast(x, "float64"), "float32")),
    "clip": between(lambda net, F, x: F.clip(x, -0.5, 0.5)),
    "Activation": between(lambda net, F, x: F.Activation(x, act_type="softrelu")),
    "LeakyReLU": between(lambda net, F, x: F.LeakyReLU(x, act_type="elu")),
    "div_sqrt_dim of pixels": between(lambda net, F, x: F.contrib.div_sqrt_dim(x)),

    "convolution": between(lambda net, F, x: net.layer(F.relu(x)), layer=conv(6)),
    "convolution without bias": between(lambda net, F, x: net.layer(F.relu(x)), layer=conv(6, use_bias=False)),
    "convolution, strides and dilation": between(lambda net, F, x: net.layer(x), layer=conv(6, strides=2, dilation=2)),
    "grouped, whole groups": between(lambda net, F, x: net.layer(F.relu(x)), layer=conv(16, groups=4)),
    "grouped, the same of each": between(lambda net, F, x: net.layer(F.relu(x)), layer=conv(12, groups=2)),
    "depthwise": between(lambda net, F, x: net.layer(F.relu(x)), layer=conv(8, groups=8)),
    "depthwise with multiplier": between(lambda net, F, x: net.layer(F.relu(x)), layer=conv(24, groups=8)),
    "grouped, then grouped": between(lambda net, F, x: net.two(F.relu(net.one(F.relu(x)))),
                                     one=conv(16, groups=4), two=conv(8, groups=2)),
    "grouped, then depthwise": between(lambda net, F, x: net.two(F.relu(net.one(x))),
                                       one=conv(12, groups=2), two=conv(12, groups=12, use_bias=False)),
    "transposed": between(lambda net, F, x: net.layer(F.relu(x)), layer=up(6)),
    "transposed, whole groups": between(lambda net, F, x: net.layer(F.relu(x)), layer=up(8, groups=4, in_channels=8)),
    "transposed, the same of each": between(lambda net, F, x: net.layer(F.relu(x)), layer=up(6, groups=2,
        in_channels=8)),
    "transposed depthwise with multiplier": between(lambda net, F, x: net.layer(x), layer=up(16, groups=8,
        in_channels=8)),
    "transposed, then grouped": between(lambda net, F, x: net.two(net.one(x)), one=up(6), two=conv(9, groups=3)),
    "dense after a convolution": between(lambda net, F, x: net.layer(F.relu(x)), layer=dense(7)),
    "dense without bias": between(lambda net, F, x: net.layer(F.relu(x)), layer=dense(7, use_bias=False)),
    "dense over the last axis": between(lambda net, F, x: net.layer(F.transpose(x, axes=(0, 2, 3, 1))),
                                        layer=dense(7, flatten=False)),
    "dense after channels in the middle": between(lambda net, F, x: net.layer(F.transpose(x, axes=(0, 2, 1, 3))),
                                                  layer=dense(7)),
    "dense after dense": between(lambda net, F, x: net.two(F.relu(net.one(x))), one=dense(9), two=dense(7)),
    "flatten": between(lambda net, F, x: net.layer(F.flatten(x)), layer=dense(7)),

    "batch norm": between(lambda net, F, x: F.relu(net.layer(x)), layer=nn.BatchNorm),
    "batch norm without scale": between(lambda net, F, x: net.layer(x), layer=lambda: nn.BatchNorm(scale=False)),
    "batch norm after flatten": between(lambda net, F, x: net.layer(F.flatten(x)), layer=nn.BatchNorm),
    "batch norm of the last axis": between(lambda net, F, x: net.layer(F.transpose(x, axes=(0, 2, 3, 1))),
                                           layer=lambda: nn.BatchNorm(axis=-1)),
    "batch norm with relu": between(lambda net, F, x, gamma, beta, mean, var: F.contrib.BatchNormWithReLU(
        x, gamma, beta, mean, var, fix_gamma=False), shapes=dict.fromkeys(("gamma", "beta", "mean", "var"), (8,))),
    "sync batch norm": between(lambda net, F, x: net.layer(x), layer=lambda: contrib.nn.SyncBatchNorm(num_devices=1)),
    "instance norm": between(lambda net, F, x: net.layer(x), layer=nn.InstanceNorm),
    "layer norm of the pixels": between(lambda net, F, x: net.layer(x), layer=nn.LayerNorm),
    "group norm": between(lambda net, F, x: net.layer(x), layer=lambda: nn.GroupNorm(4)),
    "group norm of single channels": between(lambda net, F, x: net.layer(x), layer=lambda: nn.GroupNorm(8)),
    "prelu": between(lambda net, F, x: net.layer(x), layer=nn.PReLU),
    "prelu per channel": between(lambda net, F, x: net.layer(x), layer=lambda: nn.PReLU(in_channels=8)),
    "l2 normalization of the pixels": between(lambda net, F, x: F.L2Normalization(x, mode="spatial")),
    "l2 normalization of the channels": between(lambda net, F, x: F.L2Normalization(F.relu(net.norm(x)),
        mode="channel"),
                                                norm=nn.BatchNorm),
    "softmax activation of the pixels": between(
        lambda net, F, x: F.SoftmaxActivation(F.transpose(x, axes=(0, 2, 3, 1)), mode="channel")),
    "softmax of the pixels": between(lambda net, F, x: F.softmax(F.relu(x), axis=-1)),
    "log_softmax of the pixels": between(lambda net, F, x: F.log_softmax(F.relu(x), axis=3)),
    "softmin of the pixels": between(lambda net, F, x: F.softmin(x, axis=2)),

    **{f"{kind} pooling": between(lambda net, F, x, kind=kind: F.Pooling(
        F.relu(x), kernel=(2, 2), stride=(2, 2), pool_type=kind, p_value=2)) for kind in ("max", "avg", "sum", "lp")},
    "full pooling": between(lambda net, F, x: net.layer(x), layer=lambda: nn.AvgPool2D(4, 3, ceil_mode=True)),
    "global pooling": between(lambda net, F, x: net.layer(x), layer=nn.GlobalAvgPool2D),
    "adaptive pooling": between(lambda net, F, x: F.contrib.AdaptiveAvgPooling2D(x, output_size=3)),
    "bilinear resize": between(lambda net, F, x: F.contrib.BilinearResize2D(x, height=9, width=4)),
    "resize like": between(lambda net, F, x: F.contrib.BilinearResize2D(net.pool(x), net.other(x), mode="like"),
                           pool=nn.MaxPool2D, other=conv(6)),
    "upsampling": between(lambda net, F, x: F.UpSampling(x, scale=2, sample_type="nearest")),
    "upsampling of several": between(lambda net, F, x: F.UpSampling(x, net.layer(x), scale=2, num_args=2,
                                                                    sample_type="nearest"), layer=conv(6)),
    "upsampling of a sum": between(lambda net, F, x: F.UpSampling(
        x, net.layer(x), scale=2, num_args=2, sample_type="nearest", multi_input_mode="sum"), layer=conv(8)),
    "bilinear upsampling": between(lambda net, F, x, w: F.UpSampling(
        x, w, scale=2, sample_type="bilinear", num_filter=net.width), shapes={"w": (8, 1, 4, 4)}, width=lambda: 8),
    "crop like": between(lambda net, F, x: F.Crop(x, net.pool(net.other(x)), center_crop=True),
                         pool=nn.MaxPool2D, other=conv(6)),
    "crop": between(lambda net, F, x: F.Crop(x, h_w=(4, 3), offset=(1, 2))),
    "padding": between(lambda net, F, x: F.pad(x, mode="edge", pad_width=(0, 0, 0, 0, 1, 2, 2, 1))),
    "reflection padding": between(lambda net, F, x: net.layer(x), layer=lambda: nn.ReflectionPad2D(1)),

    "mean of the pixels": between(lambda net, F, x: F.mean(x, axis=(2, 3))),
    "mean, keepdims": between(lambda net, F, x: F.mean(x, axis=(2, 3), keepdims=True)),
    "mean of all but": between(lambda net, F, x: F.mean(x, axis=(0, 1), exclude=True)),
    **{name: between(lambda net, F, x, name=name: getattr(F, name)(x, axis=2))
       for name in ("max", "min", "prod", "nansum", "nanprod", "norm", "argmax", "argmin")},
    "sum of the channels": between(lambda net, F, x: F.sum(F.relu(net.norm(x)), axis=1), norm=nn.BatchNorm),
    "reduction over the front": between(lambda net, F, x: F.mean(F.transpose(x, axes=(0, 2, 3, 1)), axis=1)),

    "residual": between(lambda net, F, x: x + net.layer(F.relu(x)), layer=conv(8)),
    **{f"elemwise_{name}": between(lambda net, F, x, name=name: getattr(F, f"elemwise_{name}")(
        x, positive(net, F, net.layer(x))), layer=conv(8)) for name in BINARY},
    **{f"broadcast_{name}": between(lambda net, F, x, name=name: getattr(F, f"broadcast_{name}")(
        positive(net, F, x), positive(net, F, net.layer(x))), layer=conv(8)) for name in BROADCAST},
    **{f"_{name}": between(lambda net, F, x, name=name: getattr(F._internal, f"_{name}")(
        positive(net, F, x), positive(net, F, net.layer(x))), layer=conv(8))
       for name in ("maximum minimum power mod hypot equal not_equal greater greater_equal lesser lesser_equal "
                    "grad_add logical_and logical_or logical_xor").split()},
    "add_n": between(lambda net, F, x: F.add_n(x, net.one(x), net.two(x)), one=conv(8), two=conv(8)),
    "where": between(lambda net, F, x: F.where(x > 0, net.one(x), x), one=conv(8)),
    "broadcast_like": between(lambda net, F, x: F.broadcast_like(net.pool(x), x), pool=nn.GlobalAvgPool2D),
    "broadcast_like of one channel": between(lambda net, F, x: F.broadcast_like(net.one(x), x), one=conv(1)),
    "squeeze and excite": between(lambda net, F, x: F.broadcast_mul(x, F.expand_dims(F.expand_dims(F.sigmoid(
        net.two(F.relu(net.one(net.pool(x))))), 2), 3)), pool=nn.GlobalAvgPool2D, one=dense(4), two=dense(8)),
    "convolutional squeeze and excite": between(lambda net, F, x: F.broadcast_mul(F.sigmoid(
        net.two(F.relu(net.one(net.pool(x))))), x), pool=nn.GlobalAvgPool2D, one=conv(4, 1), two=conv(8, 1)),
    "attention map": between(lambda net, F, x: F.broadcast_mul(x, F.sigmoid(net.map(x))), map=conv(1, 1)),
    "layer scale": between(lambda net, F, x, scale: F.broadcast_mul(x, scale), shapes={"scale": (1, 8, 1, 1)}),
    "take in another order": between(lambda net, F, x, order: F.take(F.relu(x), order, axis=1), shapes={"order": (8,)}),
    "take of some": between(lambda net, F, x, order: F.concat(net.layer(F.take(x, order, axis=-3)), x, dim=1),
                            shapes={"order": (5,)}, layer=conv(6)),
    "take, then grouped": between(lambda net, F, x, order: net.layer(F.take(F.relu(x), order, axis=1)),
                                  shapes={"order": (8,)}, layer=conv(16, groups=4)),
    "take twice": between(lambda net, F, x, order: F.take(x, order, axis=1) + net.layer(F.take(net.one(x), order,
        axis=1)), shapes={"order": (8,)}, one=conv(8), layer=conv(8)),
    "take of rows": between(lambda net, F, x, order: F.take(x, order, axis=2), shapes={"order": (6,)}),
    "positions": between(lambda net, F, x, positions: net.layer(F.broadcast_add(
        F.transpose(F.reshape(x, (0, 0, -1)), axes=(0, 2, 1)), positions)), layer=dense(6, flatten=False),
        shapes={"positions": (1, 36, 8)}),
    "one value for all": between(lambda net, F, x, scale: F.broadcast_mul(x, scale), shapes={"scale": (1, 1, 1, 1)}),
    "layer scale of the last axis": between(lambda net, F, x, scale: F.broadcast_mul(F.transpose(
        x, axes=(0, 2, 3, 1)), scale), shapes={"scale": (8,)}),
    "fewer axes": between(lambda net, F, x: F.broadcast_mul(F.mean(net.layer(x), axis=0), x), layer=conv(8)),
    "channels as many as rows": between(lambda net, F, x: F.broadcast_mul(x, F.mean(net.layer(x), axis=1,
        keepdims=True)),
                                        first=conv(6), layer=conv(6)),

    "concat": between(lambda net, F, x: net.last(F.relu(F.concat(x, net.one(x), x, dim=1))), one=conv(6), last=conv(5)),
    "concat of rows": between(lambda net, F, x: F.concat(x, net.one(x), dim=2), one=conv(8)),
    "concat of flat": between(lambda net, F, x: F.concat(F.flatten(x), F.flatten(net.one(x))), one=conv(6)),
    "concat with zeros": between(lambda net, F, x: net.one(x) + F.concat(x, F.zeros_like(x), dim=1), one=conv(16)),
    "dense net": between(lambda net, F, x: net.two(F.concat(x, net.one(net.norm(x)), dim=1)),
                         norm=nn.BatchNorm, one=conv(3), two=conv(5)),
    "stack": between(lambda net, F, x: F.mean(F.stack(x, net.one(x), axis=1), axis=1), one=conv(8)),
    "stack behind": between(lambda net, F, x: F.stack(x, net.one(x), axis=4), one=conv(8)),
    "split": between(lambda net, F, x: net.one(x.split(2, axis=1)[0]) * x.split(2, axis=1)[1], one=conv(4)),
    "split of rows": between(lambda net, F, x: F.concat(*F.split(x, 3, axis=2), dim=3)),
    "split that drops the axis": between(lambda net, F, x: F.concat(*F.split(x, 6, axis=3, squeeze_axis=True), dim=2)),
    "split, then concat": between(lambda net, F, x: F.concat(*reversed(list(F.split(x, 4, axis=1))), dim=1)),
    "channel shuffle": between(lambda net, F, x: net.one(F.reshape(F.swapaxes(F.reshape(
        x, (0, -4, 4, -1, -2)), 1, 2), (0, -3, -2))), one=conv(6)),
    "channel shuffle by transpose": between(lambda net, F, x: net.one(F.reshape(F.transpose(F.reshape(
        x, (0, -4, 2, -1, -2)), axes=(0, 2, 1, 3, 4)), (0, -3, -2))), one=conv(6)),
    "shuffled groups": between(lambda net, F, x: net.two(F.reshape(F.swapaxes(F.reshape(
        net.one(x), (0, -4, 2, -1, -2)), 1, 2), (0, -3, -2))), one=conv(8, groups=2), two=conv(8, groups=8)),
    "pixel shuffle": between(lambda net, F, x: net.layer(x), layer=lambda: contrib.nn.PixelShuffle2D(2)),
    "depth_to_space": between(lambda net, F, x: net.one(F.depth_to_space(x, block_size=2)), one=conv(5)),
    "space_to_depth": between(lambda net, F, x: net.one(F.space_to_depth(x, block_size=2)), one=conv(5)),
    "reshape to rows": between(lambda net, F, x: F.reshape(x, (0, 0, -1))),
    "reshape_like": between(lambda net, F, x: F.reshape_like(F.reshape(x, (0, 0, -1)), net.one(x)), one=conv(8)),
    "transpose all": between(lambda net, F, x: F.transpose(F.transpose(x))),
    "expand and squeeze": between(lambda net, F, x: F.squeeze(F.expand_dims(F.expand_dims(x, 1), -1), axis=(1, 5))),
    "slice_axis of rows": between(lambda net, F, x: F.slice_axis(x, axis=2, begin=1, end=4)),
    "slice_axis of all": between(lambda net, F, x: F.slice_axis(x, axis=1, begin=0, end=None)),
    "slice of rows": between(lambda net, F, x: F.slice(x, begin=(None, None, 1, 5), end=(None, None, 6, 0),
                                                       step=(None, None, 2, -1))),
    "arange_like": between(lambda net, F, x: F.broadcast_mul(x, F.contrib.arange_like(x, axis=3))),
    "MultiBoxPrior": between(lambda net, F, x: F.broadcast_mul(x, F.sum(F.contrib.MultiBoxPrior(x)))),
    "slice_like": between(lambda net, F, x: F.slice_like(x, net.pool(net.one(x)), axes=(2, 3)),
                          pool=nn.MaxPool2D, one=conv(6)),
    "slice_like of all": between(lambda net, F, x: F.slice_like(x, net.pool(net.one(x))), pool=nn.MaxPool2D,
        one=conv(8)),
    "broadcast_axis": between(lambda net, F, x: F.broadcast_axis(net.pool(x), axis=(2, 3), size=(2, 3)),
                              pool=nn.GlobalAvgPool2D),
    "broadcast_to": between(lambda net, F, x: F.broadcast_to(net.pool(x), (0, 0, 2, 3)), pool=nn.GlobalAvgPool2D),
    "tile": between(lambda net, F, x: F.tile(x, (1, 2, 1, 3))),
    "tile with a new axis": between(lambda net, F, x: F.sum(F.tile(x, (2, 1, 1, 1, 1)), axis=0)),
    "repeat": between(lambda net, F, x: F.repeat(x, 2, axis=1)),
    "repeat rows": between(lambda net, F, x: F.repeat(x, 2, axis=-1)),
    "reverse": between(lambda net, F, x: F.reverse(F.reverse(x, axis=1), axis=2) + net.one(x), one=conv(8)),

    "lengths of rows": between(lambda net, F, x: F.softmax(F.relu(F.mean(x, axis=3)), F.cast(
        F.ceil(F.sigmoid(F.mean(x, axis=(2, 3)))) * 4, "int32"), use_length=True)),
    "SequenceLast": between(lambda net, F, x: F.SequenceLast(rows_of(F, x), axis=0)),
    "SequenceReverse": between(lambda net, F, x: F.swapaxes(F.SequenceReverse(rows_of(F, x), axis=0), 0, 1)),
    "SequenceMask": between(lambda net, F, x: F.SequenceMask(
        F.transpose(F.mean(x, axis=3), axes=(0, 2, 1)), F.sum(F.zeros_like(x), axis=(1, 2, 3)) + 4,
        use_sequence_length=True, axis=1)),
    "as many ones": between(lambda net, F, x: F.broadcast_mul(x, F.ones((1, net.width, 1, 1)) * 2), width=lambda: 8),
    "as wide as said": between(lambda net, F, x: F.broadcast_to(net.pool(x), (0, net.width, 2, 2)),
                               pool=nn.GlobalAvgPool2D, width=lambda: 8),
    "as many times as said": between(lambda net, F, x: F.concat(x, F.broadcast_add(x, F.reshape(F.repeat(
        F.ones((1,)), net.width, axis=0), (1, -1, 1, 1))), dim=2), width=lambda: 8),
    **{f"{kind} layers": between(lambda net, F, x: F.swapaxes(net.layer(rows_of(F, x)), 0, 1), layer=layer)
       for kind, layer in {"LSTM": lambda: rnn.LSTM(8, 2), "GRU": lambda: rnn.GRU(8),
                           "both directions of GRU": lambda: rnn.GRU(8, 2, bidirectional=True),
                           "simple recurrent": lambda: rnn.RNN(8, 2, dropout=0.1)}.items()},
    **{cell.__name__: between(lambda net, F, x: net.layer.unroll(
        36, F.transpose(F.reshape(x, (0, 0, -1)), axes=(0, 2, 1)), merge_outputs=True)[0],
        layer=lambda cell=cell: cell(8)) for cell in (rnn.RNNCell, rnn.LSTMCell, rnn.GRUCell)},

    "products of images": between(lambda net, F, x: F.linalg.gemm2(x, net.layer(x), transpose_b=True, alpha=0.5),
                                  layer=conv(8)),
    "sampled pixels": between(lambda net, F, x: F.BilinearSampler(x, F.tanh(net.layer(x))), layer=conv(2)),
    "transformed image": between(lambda net, F, x: F.SpatialTransformer(
        x, F.tanh(net.layer(x)), target_shape=(5, 4), transform_type="affine", sampler_type="bilinear"),
        layer=dense(6)),
    "batch_dot attention": between(lambda net, F, x: F.batch_dot(
        F.softmax(F.batch_dot(F.reshape(net.query(x), (0, 0, -1)), F.reshape(net.key(x), (0, 0, -1)),
            transpose_a=True)),
        F.reshape(net.value(x), (0, 0, -1)), transpose_b=True),
        query=conv(4, 1, use_bias=False), key=conv(4, 1, use_bias=False), value=conv(6, 1)),
    "batch_dot by weights": between(lambda net, F, x: F.batch_dot(F.reshape(net.rows(x), (0, 0, -1)), F.reshape(
        net.pixels(x), (0, 0, -1)), transpose_b=True), rows=conv(1, 1), pixels=conv(6, 1)),
    "non-local block": between(lambda net, F, x: x + net.out(F.reshape_like(F.batch_dot(
        F.reshape(net.g(x), (0, 0, -1)), F.softmax(F.batch_dot(F.reshape(net.theta(x), (0, 0, -1)), F.reshape(
            net.phi(x), (0, 0, -1)), transpose_a=True)), transpose_b=True), net.g(x))),
        theta=conv(4, 1), phi=conv(4, 1), g=conv(4, 1), out=conv(8, 1)),
}


def twice(net, F, x):
    x = net.layer(F.relu(net.layer(F.relu(net.first(x)))))
    return net.head(x)


def shared_weights(first, second):
    """Factory of a network in which ``second`` is made with the parameters of ``first``."""
    def network():
        layer = first()
        return Net(lambda net, F, x: net.head(net.again(F.relu(net.layer(F.relu(net.first(x)))))),
                   first=nn.Conv2D(8, 3, padding=1), layer=layer, again=second(layer.params), head=nn.Dense(5))
    return network


def two_in_two_out(net, F, x, y):
    joined = F.relu(net.left(x) + net.right(y))
    return net.one(joined), net.two(F.concat(joined, net.right(y), dim=1))


def heads(net, F, x):
    """Self-attention: (N, T, heads * D) to (N * heads, T, D) and back."""
    def split(x):
        return F.reshape(F.transpose(F.reshape(x, (0, 0, net.heads, -1)), axes=(0, 2, 1, 3)), (-3, -2))
    x = net.embed(x)
    scores = F.batch_dot(split(net.query(x)), split(net.key(x)), transpose_b=True) * 0.5
    context = F.reshape(F.batch_dot(F.softmax(scores), split(net.value(x))), (-4, -1, net.heads, -2))
    x = x + net.out(F.reshape(F.transpose(context, axes=(0, 2, 1, 3)), (0, 0, -1)))
    return net.head(x)


def heads_beside_batches(net, F, x):
    """Self-attention: (N, T, heads * D) to (N, heads, T, D) and back."""
    def split(x):
        return F.transpose(F.reshape(x, (0, 0, net.heads, -1)), axes=(0, 2, 1, 3))
    x = net.embed(x)
    weights = F.softmax(F.linalg.gemm2(split(net.query(x)), split(net.key(x)), transpose_b=True))
    context = F.transpose(F.linalg.gemm2(weights, split(net.value(x))), axes=(0, 2, 1, 3))
    return net.head(x + net.out(F.reshape(context, (0, 0, -1))))


def interleaved(net, F, x, y):
    """Self-attention of ``x``, and attention to ``y``, (T, N, C), in MXNet's operators."""
    weights = F.softmax(F.contrib.interleaved_matmul_selfatt_qk(net.both(x), heads=net.heads))
    x = net.out(F.contrib.interleaved_matmul_selfatt_valatt(net.both(x), weights, heads=net.heads))
    weights = F.softmax(F.contrib.interleaved_matmul_encdec_qk(net.query(x), net.pair(y), heads=net.others))
    return net.head(F.contrib.interleaved_matmul_encdec_valatt(net.pair(y), weights, heads=net.others))


def option_a(net, F, x):
    """The shortcut of a CIFAR ResNet without parameters: every other pixel, and zeros for the new channels."""
    x = F.relu(net.first(x))
    shortcut = F.slice(x, begin=(None, None, None, None), end=(None, None, None, None), step=(None, None, 2, 2))
    shortcut = F.concat(shortcut, F.zeros_like(shortcut), dim=1)
    return net.head(F.relu(shortcut + net.two(F.relu(net.one(x)))))


def regions(kind, F, x, corners):
    """Pooled over rectangles of the first image."""
    low = F.abs(F.slice_axis(corners, axis=1, begin=0, end=2))
    high = low + 2 + F.abs(F.slice_axis(corners, axis=1, begin=2, end=4))
    rectangles = F.concat(F.zeros_like(F.slice_axis(corners, axis=1, begin=0, end=1)), low, high, dim=1)
    return (F.ROIPooling if kind == "ROIPooling" else F.contrib.ROIAlign)(
        x, rectangles, pooled_size=(2, 2), spatial_scale=1.0)


WHOLE = {
    **{f"1D, {name}": (whole(lambda net, F, x: net.head(net.layer(F.relu(net.first(x)))), layer=layer,
                             first=lambda: nn.Conv1D(8, 3), head=dense(3)), (2, 3, 9))
       for name, layer in {"grouped": lambda: nn.Conv1D(8, 3, groups=4), "transposed": lambda: nn.Conv1DTranspose(6, 3),
                           "pooling": lambda: nn.MaxPool1D(2)}.items()},
    **{f"3D, {name}": (whole(lambda net, F, x: net.head(net.layer(F.relu(net.first(x)))), layer=layer,
                             first=lambda: nn.Conv3D(8, 3, padding=1), head=dense(3)), (2, 3, 5, 6, 4))
       for name, layer in {"grouped": lambda: nn.Conv3D(8, 3, groups=2), "transposed": lambda: nn.Conv3DTranspose(6, 2),
                           "pooling": lambda: nn.MaxPool3D(2)}.items()},
    "a layer called twice": (whole(twice, first=conv(8), layer=conv(8), head=dense(5)), IMAGES),
    "layers with the same parameters": (shared_weights(
        lambda: nn.Conv2D(8, 3, in_channels=8), lambda params: nn.Conv2D(8, 3, in_channels=8, params=params)), IMAGES),
    "a convolution and its transpose": (shared_weights(
        lambda: nn.Conv2D(6, 3, in_channels=8, use_bias=False),
        lambda params: nn.Conv2DTranspose(8, 3, in_channels=6, use_bias=False, params=params)), IMAGES),
    "two inputs, two outputs": (whole(two_in_two_out, left=conv(8), right=conv(8), one=dense(5), two=conv(3)),
                                ((2, 3, 6, 6), (2, 4, 6, 6))),
    "embedding": (whole(lambda net, F, x: net.head(F.relu(net.embed(F.abs(x) * 3))),
                        embed=lambda: nn.Embedding(11, 8), head=dense(5)), (2, 7)),
    "embedding as image": (whole(lambda net, F, x: net.head(net.conv(F.transpose(net.embed(F.abs(x) * 3), axes=(0, 2,
        1)))),
                                 embed=lambda: nn.Embedding(11, 8), conv=lambda: nn.Conv1D(6, 3), head=dense(5)), (2,
                                     7)),
    "multi-head attention": (whole(heads, embed=dense(12, flatten=False), query=dense(8, flatten=False),
                                   key=dense(8, flatten=False), value=dense(8, flatten=False),
                                   out=dense(12, flatten=False), head=dense(5), heads=lambda: 4), (2, 7, 5)),
    "heads beside batches": (whole(heads_beside_batches, embed=dense(12, flatten=False), query=dense(8, flatten=False),
                                   key=dense(8, flatten=False), value=dense(8, flatten=False),
                                   out=dense(12, flatten=False), head=dense(5), heads=lambda: 4), (2, 7, 5)),
    "interleaved attention": (whole(interleaved, both=dense(24, flatten=False), out=dense(6, flatten=False),
                                    query=dense(12, flatten=False), pair=dense(24, flatten=False),
                                    head=dense(5, flatten=False), heads=lambda: 4, others=lambda: 4),
                              ((7, 2, 5), (6, 2, 4))),
    "option A": (whole(option_a, first=conv(8), one=conv(8, strides=2), two=conv(16), head=dense(5)), IMAGES),
    **{kind: (whole(lambda net, F, x, y, kind=kind: net.head(net.conv(regions(kind, F, F.relu(net.first(x)), y))),
                    first=conv(8), conv=conv(6), head=dense(5)), (IMAGES, (3, 4))) for kind in ("ROIPooling",
                        "ROIAlign")},
}


# What stays -------------------------------------------------------------------------------------------------------

def stays(function, why, shapes=IMAGES, own=None, **layers):
    return between(function, shapes=own, **layers), shapes, why


class Doubled(mx.operator.CustomOp):
    def forward(self, is_train, req, in_data, out_data, aux):
        self.assign(out_data[0], req[0], 2 * in_data[0])


@mx.operator.register("doubled_by_gluon_compress_tests")
class DoubledProp(mx.operator.CustomOpProp):
    def infer_shape(self, shapes):
        return shapes, shapes, []

    def create_operator(self, ctx, shapes, types):
        return Doubled()


PINNED = {
    "softmax over channels": stays(lambda net, F, x: F.softmax(x, axis=1), "softmax .*normalizes over the channels"),
    "softmax of the last axis": stays(lambda net, F, x: F.softmax(F.flatten(net.pool(x))),
        "normalizes over the channels",
                                      pool=nn.GlobalAvgPool2D),
    "mean over channels": stays(lambda net, F, x: F.mean(x, axis=1), "mean .*reduces over the channels"),
    "mean over all": stays(lambda net, F, x: F.mean(x, axis=0, exclude=True, keepdims=True),
        "reduces over the channels"),
    "max over channels": stays(lambda net, F, x: F.max(x, axis=-3, keepdims=True), "max .*reduces over the channels"),
    "slice_axis of channels": stays(lambda net, F, x: F.slice_axis(x, axis=1, begin=0, end=4),
        "slice_axis.*by their number"),
    "slice_axis of all by number": stays(lambda net, F, x: F.slice_axis(x, axis=1, begin=0, end=8), "by their number"),
    "take by constant positions": stays(lambda net, F, x: F.take(x, F.arange(8), axis=1), "take .*by their number"),
    "take by computed positions": stays(lambda net, F, x: F.take(x, F.mean(x, axis=(0, 2, 3)) * 0, axis=1),
                                        "take .*by computed positions"),
    "take by what are no positions": stays(lambda net, F, x, shift: F.take(x, shift, axis=1), "that are no positions",
                                           own={"shift": (8,)}),
    "slice of channels": stays(lambda net, F, x: F.slice(F.relu(x), begin=(None, 4), end=(None, 8)),
        "slice .*by their number"),
    "slice of all by number": stays(lambda net, F, x: F.slice(x, begin=(None, 0), end=(None, 8)), "by their number"),
    "slice backwards": stays(lambda net, F, x: net.layer(x) * F.slice(x, begin=(None, None), end=(None, None), step=(
        None, -1)), "slice .*by their number", layer=conv(8)),
    "slice_like with channels": stays(lambda net, F, x: F.slice_like(x, net.layer(x), axes=(1,)),
                                      "as many channels as another", layer=conv(6)),
    "reshape to a fixed size": stays(lambda net, F, x: F.reshape(x, (-1, 8, 36)), "Reshape .*fixed shape"),
    "reshape to a size of the batch": stays(lambda net, F, x: F.reshape(x, (-1, 4)), "Reshape .*fixed shape|axis 0"),
    "div_sqrt_dim": stays(lambda net, F, x: F.contrib.div_sqrt_dim(F.transpose(x, axes=(0, 2, 3, 1))),
                          "divides by the number of channels"),
    "squeeze of any axis": stays(lambda net, F, x: F.squeeze(net.pool(x)), "drops all axes of length one",
                                 pool=nn.GlobalAvgPool2D),
    "shape_array": stays(lambda net, F, x: F.broadcast_mul(x, F.reshape(F.sum(F.cast(F.shape_array(x), "float32"),
        axis=0), (
        1, 1, 1, 1))), "shape_array .*number of channels"),
    "size_array": stays(lambda net, F, x: F.broadcast_mul(x, F.reshape(F.cast(F.size_array(x), "float32"), (1, 1, 1,
        1))),
                        "size_array .*number of channels"),
    "custom operator": stays(lambda net, F, x: F.Custom(F.relu(x), op_type="doubled_by_gluon_compress_tests"),
                             "Custom .*no rule for this operator"),
    "correlation": stays(lambda net, F, x: F.Correlation(x, net.layer(x), pad_size=2, max_displacement=2),
                         "Correlation .*no rule", layer=conv(8)),
    "lrn": stays(lambda net, F, x: F.LRN(x, nsize=3), "LRN .*no rule"),
    "recurrent parameters in one vector": stays(lambda net, F, x, own: F.RNN(
        rows_of(F, x), own, F.zeros((1, 2, 4)), state_size=4, num_layers=1, mode="rnn_relu").swapaxes(0, 1),
        "one vector", own={"own": (8 * 4 + 4 * 4 + 4 + 4,)}),
    "layer norm": stays(lambda net, F, x: net.norm(F.transpose(x, axes=(0, 2, 3, 1))),
                        "LayerNorm .*mean and variance over the channels", norm=nn.LayerNorm),
    "softmax activation over channels": stays(lambda net, F, x: F.SoftmaxActivation(x, mode="channel"),
                                              "normalizes over the channels"),
    "softmax activation over all": stays(lambda net, F, x: F.SoftmaxActivation(F.flatten(x)),
                                         "normalizes over the channels"),
    "softmax with its loss": stays(lambda net, F, x, y: F.SoftmaxOutput(x, y, multi_output=True), "label",
                                   shapes=(IMAGES, (2, 6, 6))),
    **{name: stays(lambda net, F, x, y, name=name: getattr(F, name)(x, y), "label", shapes=(IMAGES, (2, 8, 6, 6)))
       for name in ("LinearRegressionOutput", "LogisticRegressionOutput", "MAERegressionOutput")},
    "boxes found": stays(lambda net, F, x, y: F.contrib.MultiBoxDetection(
        F.reshape(x, (0, 0, -1)), y, F.contrib.MultiBoxPrior(x)), "scores and coordinates", shapes=(IMAGES, (2, 144))),
    "boxes to find": stays(lambda net, F, x, y: F.contrib.MultiBoxTarget(
        F.contrib.MultiBoxPrior(x), y, F.reshape(x, (0, 0, -1)))[2], "scores and coordinates",
                           shapes=(IMAGES, (2, 1, 5))),
    **{name: stays(lambda net, F, x, y, z, name=name: getattr(F.contrib, name)(
        x, y, z, scales=(1, 2), ratios=(1, 2), rpn_pre_nms_top_n=12, rpn_post_nms_top_n=6, rpn_min_size=1),
        "scores and coordinates", shapes=((1, 3, 6, 6), (1, 16, 6, 6), (1, 3)))
       for name in ("Proposal", "MultiProposal")},
    "box_nms": stays(lambda net, F, x: F.contrib.box_nms(F.transpose(F.reshape(x, (0, 0, -1)), axes=(0, 2, 1))),
                     "scores and coordinates"),
    "box_decode": (between(lambda net, F, x: F.contrib.box_decode(F.transpose(F.reshape(x, (0, 0, -1)), axes=(0, 2, 1)),
                                                                  F.contrib.MultiBoxPrior(x)), first=conv(4)), IMAGES,
                   "scores and coordinates"),
    "an input of that many channels": stays(lambda net, F, x, y: F.broadcast_add(x, y),
        "broadcast_add .*channels that stay",
                                            shapes=(IMAGES, (2, 8, 1, 1))),
    "an input of that many channels and fewer axes": stays(lambda net, F, x, y: F.broadcast_add(F.transpose(
        x, axes=(0, 2, 3, 1)), y), "broadcast_add .*channels that stay", shapes=(IMAGES, (8,))),
    "a choice by rows": stays(lambda net, F, x, y: F.where(y, x, -x), "condition has fewer axes",
                             shapes=(IMAGES, (2,))),
    "a layer's one channel for many": stays(lambda net, F, x: F.broadcast_axis(net.one(x), axis=1, size=8) + x,
                                            "channels that stay", one=conv(1)),
    "group norm of one group": stays(lambda net, F, x: net.layer(x), "have to go together",
        layer=lambda: nn.GroupNorm(1)),
    "all in one group": stays(lambda net, F, x: net.layer(F.concat(x, F.slice_axis(x, axis=1, begin=0, end=8), dim=1)),
                              "by their number", layer=conv(4, groups=2)),
    "dot": stays(lambda net, F, x: F.dot(x, F.transpose(x)), "dot .*no rule|dot"),
    "repeat of everything": stays(lambda net, F, x: F.repeat(x, 2).reshape((2, -1)), "repeat .*flattened"),
    "broadcast_to a number": stays(lambda net, F, x: F.broadcast_to(net.pool(x), (0, 8, 2, 2)),
        "broadcast_to .*fixed shape",
                                   pool=nn.GlobalAvgPool2D),
    "matrices along other axes": stays(lambda net, F, x: F.linalg.gemm2(x, x, transpose_b=True, axis=1),
                                       "gemm2 .*along other axes"),
    "products of heads with the input": stays(lambda net, F, x, y: F.linalg.gemm2(x, y), "gemm2 .*no such channels",
                                              shapes=(IMAGES, (2, 8, 6, 6))),
    "places from channels": stays(lambda net, F, x: F.BilinearSampler(x, F.tanh(F.slice_axis(x, axis=1, begin=0,
                                                                                         end=2))), "by their number"),
    "batch_dot with the input": stays(lambda net, F, x, y: F.batch_dot(F.reshape(x, (0, 0, -1)), y, transpose_a=True),
                                      "batch_dot .*no such channels", shapes=(IMAGES, (2, 8, 3))),
    "position sensitive regions": stays(lambda net, F, x, y: F.contrib.ROIAlign(
        x, F.concat(F.zeros_like(F.slice_axis(y, axis=1, begin=0, end=1)), F.abs(y), dim=1), pooled_size=(2, 2),
        spatial_scale=1.0, position_sensitive=True), "reads other channels", shapes=(IMAGES, (3, 4))),
    "channels first for a dense layer": stays(lambda net, F, x: net.layer(x), "with its channels on axis 1",
                                              layer=dense(5, flatten=False)),
    "batch norm of another axis": stays(lambda net, F, x: net.layer(x), "BatchNorm .*channels on axis 1",
                                        layer=lambda: nn.BatchNorm(axis=2)),
    "softmax lengths": stays(lambda net, F, x: F.softmax(F.mean(x, axis=(1, 2)), F.cast(F.mean(x, axis=(1, 2, 3)),
        "int32"),
                                                         use_length=True), "reduces"),
    "lengths from outside": stays(lambda net, F, x, y: F.softmax(F.mean(x, axis=3), F.cast(F.abs(y) * 2, "int32"),
                                                                 use_length=True), "lengths", shapes=(IMAGES, (2, 8))),
    "channels as sequences": stays(lambda net, F, x, y: F.SequenceMask(F.mean(x, axis=3), F.abs(y) * 3, axis=1,
                                                                       use_sequence_length=True), "over the channels",
                                   shapes=(IMAGES, (2,))),
    "upsampling added to what stays": stays(lambda net, F, x, y: F.UpSampling(
        x, y, scale=2, num_args=2, sample_type="nearest", multi_input_mode="sum"), "UpSampling .*channels that stay",
        shapes=(IMAGES, (2, 8, 6, 6))),
    "bilinear upsampling by number": stays(lambda net, F, x, w: F.UpSampling(
        x, w, scale=2, sample_type="bilinear", num_filter=8), "num_filter has their number, which is no attribute",
        own={"w": (8, 1, 4, 4)}),
    "weights from data": stays(lambda net, F, x, y: F.Convolution(x, y, kernel=(1, 1), num_filter=6, no_bias=True),
                               "computed or constant", shapes=(IMAGES, (6, 8, 1, 1))),
    "grouped weights from data": stays(lambda net, F, x, y: F.Convolution(x, y, kernel=(1, 1), num_filter=6,
        no_bias=True,
                                       num_group=2), "weight is computed", shapes=(IMAGES, (6, 4, 1, 1))),
    "square root of a weight": stays(lambda net, F, x, w: F.Convolution(x, F.sqrt(F.abs(w)), kernel=(1, 1),
        num_filter=6,
                                     no_bias=True), "computed or constant", own={"w": (6, 8, 1, 1)}),
}


CASES = {**{name: (factory, IMAGES) for name, factory in PASSES.items()}, **WHOLE}
LEFT_OUT = {  # of the others the head alone
    "one value for all": {"scale", "head"}, "two inputs, two outputs": {"one", "two"},
    **dict.fromkeys(("channels as many as rows", "sampled pixels", "transformed image"), {"layer", "head"}),
    "attention map": {"map", "head"}, "batch_dot by weights": {"rows", "head"},
    "broadcast_like of one channel": {"one", "head"}}
PLAIN = {"batch norm with relu", *UNARY, *ROUNDING, *(name for name in PASSES if name.startswith(("x ", "broadcast_",
    "_", "elemwise"))), *(name for name in PASSES if name.endswith("of a number"))}


@pytest.fixture(autouse=True)
def labels_fit(monkeypatch):
    """Each rule gives a tensor as many labels as it has positions on that axis."""
    def checked(rule):
        def check(node, inputs, tracker):
            outputs = rule(node, inputs, tracker)
            for labels, shape in zip(outputs, node.shapes):
                assert labels is None or (labels.ids.ndim == 1 and len(labels.ids) == shape[labels.axis]), node
            return outputs
        return check
    for name, rule in list(RULES.items()):
        monkeypatch.setitem(RULES, name, checked(rule))


@pytest.mark.parametrize(("name", "ratio"), [(name, ratio) for name in CASES
                                             for ratio in ((0.5,) if name in PLAIN else (0.25, 0.5))])
def test_channels_pass_through(name, ratio):
    factory, shapes = CASES[name]
    net, inputs = make(factory, shapes)
    original, _ = make(factory, shapes)
    before = run(original, inputs)
    plan = prune_channels(net, inputs, ratio, round_to=1)
    assert set(plan.left_out) == LEFT_OUT.get(name, {"head"})
    zero_removed(original, plan)
    more = examples(shapes, batch=3)  # not the batch that the channels were followed with
    for batch in (inputs, more):
        assert_close(run(net, batch), run(original, batch))
    assert name in CONSTANT or any(not np.allclose(a.asnumpy(), b.asnumpy()) for a, b in zip(before, run(net, inputs)))


@pytest.mark.parametrize("name", [name for name in CASES if name not in PLAIN])
def test_the_smaller_network_can_be_used(name, tmp_path):
    factory, shapes = CASES[name]
    net, inputs = make(factory, shapes)
    block = exported(make(factory, shapes)[0], inputs, tmp_path)  # the original, for later
    net.hybridize(static_alloc=True)
    net(*inputs)
    plan = ChannelPlan.from_dict(json.loads(json.dumps(prune_channels(net, inputs, 0.5, round_to=1).to_dict())))
    expected = run(net, inputs)
    net.hybridize(active=False)
    assert_close(run(net, inputs), expected)
    copy, _ = make(factory, shapes)
    run(copy, inputs)
    mx.nd.waitall()  # a forward pass sets the gammas of BatchNorm(scale=False) to one, without saying so
    assert identical(values(plan.apply(copy)), values(net))
    assert_close(run(exported(net, inputs, tmp_path), inputs), expected)
    prune_channels(block, inputs, 0.5, round_to=1)
    assert_close(run(block, inputs), expected)
    if name != "a convolution and its transpose":  # MXNet 1.9.1 cannot train these, pruned or not
        step(net, inputs)


def step(net, inputs):
    """One step of a Trainer: w - 0.001 g."""
    trainer = Trainer(net.collect_params(), "sgd", {"learning_rate": 1e-3})
    before = values(net)
    with autograd.record():
        loss = sum((output ** 2).mean() for output in run(net, inputs))
    loss.backward()
    trainer.step(1)
    after = values(net)
    for name, parameter in net._collect_params_with_prefix().items():
        assert np.isfinite(after[name]).all(), name
        if parameter.grad_req != "null":
            gradient = parameter.grad().asnumpy()
            np.testing.assert_allclose(after[name], before[name] - 1e-3 * gradient, rtol=1e-5, atol=1e-6)
    assert sum(not np.array_equal(before[name], after[name]) for name in before) >= 2


def test_every_rule_has_a_case():
    used = set()
    for factory, shapes in [*CASES.values(), *((factory, shapes) for factory, shapes, _ in PINNED.values())]:
        used |= {node.operator for node in Graph(*make(factory, shapes)).nodes}
    assert set(RULES) - set(NUMPY_RULES) <= used  # for those, see test_numpy_operators.py


def test_sums_over_channels_are_those_of_the_kept_ones():
    """Of sigmoids too, which are not zero where a weight is."""
    net, (x,) = make(between(lambda net, F, x: F.sum(F.sigmoid(x), axis=1)))
    original = values(net)
    convolved = net.first(net.stem(x)).asnumpy()
    kept = prune_channels(net, x, {"first": 0.5}, round_to=1).layers["first"]["kept"]
    sums = (1 / (1 + np.exp(-convolved[:, kept]))).sum(axis=1).reshape(2, -1)
    assert_close(net(x), mx.nd.array(sums @ original["head.weight"].T + original["head.bias"]))


def removed_from(function, shapes, ratio=0.5, **layers):
    """{layer: channels kept} and {layer: why it stays} of such a network, which computes what it did without them."""
    net, inputs = make(whole(function, **layers), shapes)
    original, _ = make(whole(function, **layers), shapes)
    plan = prune_channels(net, inputs, ratio, round_to=1)
    zero_removed(original, plan)
    assert_close(run(net, inputs), run(original, inputs))
    return {name: len(layer["kept"]) for name, layer in plan.layers.items()}, plan.left_out


SEQUENCES = (5, 2, 3)


def test_hidden_units_stay_when_the_first_state_comes_from_outside():
    kept, left_out = removed_from(lambda net, F, x, y: net.head(net.layer(net.first(x), [y])[0]),
                                  (SEQUENCES, (1, 2, 4)), first=dense(8, flatten=False),
                                  layer=lambda: rnn.GRU(4), head=dense(3, flatten=False))
    assert kept == {"first": 4}
    assert all("begins with (data1) stays" in left_out[name] for name in ("layer.l0_i2h", "layer.l0_h2h"))


def test_a_state_that_a_layer_makes_loses_the_same_units():
    kept, _ = removed_from(lambda net, F, x, y: net.head(net.layer(x, [F.expand_dims(net.state(y), 0)])[0]),
                           (SEQUENCES, (2, 5)), layer=lambda: rnn.GRU(4), state=dense(4), head=dense(3, flatten=False))
    assert kept == {"state": 2, "layer.l0_i2h": 6, "layer.l0_h2h": 6}


def test_a_state_that_is_a_parameter_becomes_smaller():
    net, inputs = make(whole(lambda net, F, x, begin: net.head(net.layer(x, [begin])[0]), {"begin": (1, 2, 4)},
                             layer=lambda: rnn.GRU(4), head=dense(3, flatten=False)), SEQUENCES)
    prune_channels(net, inputs, 0.5, round_to=1)
    assert net.begin.shape == (1, 2, 2)
    run(net, inputs)


@pytest.mark.parametrize("outputs", [1, 2])
def test_states_that_the_network_puts_out_stay(outputs):
    def forward(net, F, x):
        made, states = net.layer(x, net.layer.begin_state(0, func=mx.sym.zeros) if F is mx.sym
                                 else net.layer.begin_state(2))
        return [net.head(made), *states][:outputs]
    net, inputs = make(whole(forward, layer=lambda: rnn.LSTM(4), head=dense(3, flatten=False)), SEQUENCES)
    if outputs == 1:
        assert prune_channels(net, inputs, 0.5, round_to=1).layers.keys() == {"layer.l0_i2h", "layer.l0_h2h"}
    else:
        with pytest.raises(ValueError, match="layer.l0_i2h: its channels are the network's output"):
            prune_channels(net, inputs, 0.5, round_to=1)


class Projected(HybridBlock):
    """A layer of three operators whose numbers ``write`` says."""

    def __init__(self, write, **numbers):
        super().__init__()
        self.write = write
        for name, number in numbers.items():
            setattr(self, name, number)
        with self.name_scope():
            self.first, self.head = nn.Dense(8, flatten=False, in_units=5), nn.Dense(3, flatten=False, in_units=8)

    def hybrid_forward(self, F, x):
        return self.head(self.write(self, F, self.first(x)))


@pytest.mark.parametrize(("write", "numbers", "kept"), [
    (lambda net, F, x: F.reshape(F.reshape(x, (0, 0, net.heads, 2)), (0, 0, -1)), {"heads": 4}, 4),
    (lambda net, F, x: F.reshape(F.reshape(x, (0, 0, 4, net.each)), (0, 0, -1)), {"each": 2}, 4),
    (lambda net, F, x: F.reshape(x, (-1, 7, net.units)), {"units": 8}, 4),
    (lambda net, F, x: F.reshape(x, (-1, 7, 2 * net.half)), {"half": 4}, 4),
    (lambda net, F, x: F.reshape(x, net.shape), {"shape": (-1, 7, 8)}, 4),
    (lambda net, F, x: F.reshape(x, (-1, 7, 8)), {}, "fixed shape"),  # no attribute has it
    (lambda net, F, x: F.reshape(x, (-1, 7, net.units)) * net.units, {"units": 8}, "fixed shape"),  # changes more
    (lambda net, F, x: F.reshape(x, (-1, 7, net.units + 1)), {"units": 7}, "fixed shape"),
    (lambda net, F, x: F.reshape(x, (-1, 7, {8: 8}[net.units])), {"units": 8}, "fixed shape"),  # fails with another
    (lambda net, F, x: F.broadcast_mul(F.reshape(x, (-1, 7, net.units)), F.reshape(F.sum(F.reshape(
        F.arange(8), (net.units,))), (1, 1, 1))), {"units": 8}, "also the shape of")])
def test_numbers_in_code_change_where_an_attribute_of_a_block_has_them_and_nothing_else(write, numbers, kept):
    net, other = Projected(write, **numbers), Projected(write, **numbers)
    for each in (net, other):
        mx.random.seed(0)
        each.initialize(mx.init.Normal(0.3))
    x = mx.nd.random.normal(shape=(2, 7, 5))
    before = {name: value for name, value in vars(net).items() if type(value) is int}
    if isinstance(kept, str):
        with pytest.raises(ValueError, match=f"first: .*{kept}"):
            prune_channels(net, x, 0.5, round_to=1)
        assert {name: value for name, value in vars(net).items() if type(value) is int} == before
        return
    plan = prune_channels(net, x, 0.5, round_to=1)
    assert len(plan.layers["first"]["kept"]) == kept
    zero_removed(other, plan)
    assert_close(net(x), other(x))


def test_channels_counted_beside_constants_by_the_same_attribute_lose_as_many():
    def forward(net, F, x):
        beside = F.concat(net.two(x), F.ones((2, 7, 2)), dim=2)
        return [head(F.reshape(each, (-1, 7, net.units)))
                for head, each in ((net.head, net.one(x)), (net.other, beside))]
    kept, left_out = removed_from(forward, (2, 7, 5), one=dense(8, flatten=False), two=dense(6, flatten=False),
                                  head=dense(3, flatten=False), other=dense(3, flatten=False), units=lambda: 8)
    assert kept == {"one": 5, "two": 3}
    assert left_out["one"] == "units of the network also counts channels that stay"


@pytest.mark.parametrize("name", PINNED)
def test_channels_that_stay(name):
    factory, shapes, why = PINNED[name]
    net, inputs = make(factory, shapes)
    original, _ = make(factory, shapes)
    plan = prune_channels(net, inputs, 0.5, round_to=1)
    assert list(plan.layers)[0] == "stem"
    assert "first" not in plan.layers
    assert re.search(why, plan.left_out["first"]), plan.left_out["first"]
    zero_removed(original, plan)
    assert_close(run(net, inputs), run(original, inputs))


@pytest.mark.parametrize(("layer", "shape", "groups"), [
    (conv(16, groups=4), (8, 2, 3, 3), 2), (conv(12, groups=2), (6, 2, 3, 3), 2),
    (conv(24, groups=8), (12, 1, 3, 3), 4),
    (up(8, groups=4, in_channels=8), (4, 2, 2, 2), 2), (up(6, groups=2, in_channels=8), (4, 1, 2, 2), 2)])
def test_grouped_convolutions_lose_groups_or_the_same_channels_of_each(layer, shape, groups):
    """Whichever is the finer choice."""
    net, inputs = make(between(lambda net, F, x: net.layer(x), layer=layer))
    plan = prune_channels(net, inputs, {"first": 0.5, "layer": 0.5}, round_to=1)
    assert net.layer.weight.shape == shape
    assert net.layer._kwargs["num_group"] == groups
    assert plan.groups == ({} if layer()._kwargs["num_group"] == groups else {"layer.weight": groups})


@pytest.mark.parametrize("reader", [
    lambda F, x: F.contrib.MultiBoxPrior(x, sizes=(0.5, 0.25), ratios=(1, 2)),
    lambda F, x: F.contrib.arange_like(x, axis=2), lambda F, x: F.contrib.arange_like(x, axis=-1),
    lambda F, x: F.broadcast_like(F.ones((1, 1)), x, lhs_axes=(0, 1), rhs_axes=(2, 3))])
def test_what_reads_a_height_and_width_alone_leaves_the_channels_free(reader):
    net = Net(lambda net, F, x: [net.last(net.first(x)), reader(F, net.first(x))], first=nn.Conv2D(8, 3, in_channels=3),
              last=nn.Conv2D(4, 1, in_channels=8))
    net.initialize()
    x = mx.nd.random.normal(shape=(2, 3, 7, 6))
    before = net(x)[1].asnumpy()
    plan = prune_channels(net, x, 0.5, round_to=1)
    assert len(plan.layers["first"]["kept"]) == 4
    np.testing.assert_array_equal(net(x)[1].asnumpy(), before)


@pytest.mark.parametrize("reader", [
    lambda F, x: F.contrib.arange_like(x, axis=1), lambda F, x: F.contrib.arange_like(x), lambda F, x: F.shape_array(x),
    lambda F, x: F.broadcast_like(F.ones((1, 1)), x, lhs_axes=(0, 1), rhs_axes=(1, 2))])
def test_what_reads_the_number_of_channels_keeps_them(reader):
    net = Net(lambda net, F, x: [net.last(net.middle(net.first(x))), reader(F, net.first(x))],
              first=nn.Conv2D(8, 3, in_channels=3), middle=nn.Conv2D(8, 1, in_channels=8),
              last=nn.Conv2D(4, 1, in_channels=8))
    net.initialize()
    plan = prune_channels(net, mx.nd.ones((2, 3, 7, 6)), 0.5, round_to=1)
    assert "first" not in plan.layers and "first" in plan.left_out and len(plan.layers["middle"]["kept"]) == 4


@pytest.mark.parametrize("length", [8, 5])
def test_positions_count_the_channels_that_are_left(length, tmp_path):
    """Also after several steps, in a copy that knows no positions yet, and from a file."""
    def factory():
        return between(lambda net, F, x, order: net.last(net.layer(F.take(F.relu(x), order, axis=1))),
                       shapes={"order": (length,)}, layer=conv(6), last=conv(4))()
    net, inputs = make(factory)
    original = values(net)["order"].astype(int)
    for plan in prune_channels_in_steps(net, inputs, {"first": 0.5, "layer": 0.5}, steps=3, round_to=1):
        kept = plan.layers["first"]["kept"]
        expected = [kept.index(position) for position in original if position in kept]
        assert values(net)["order"].tolist() == expected
    again, _ = make(factory)
    for name, value in values(again).items():
        again._collect_params_with_prefix()[name].set_data(mx.nd.zeros(value.shape))
    ChannelPlan.from_dict(json.loads(json.dumps(plan.to_dict()))).apply(again)
    assert values(again)["order"].tolist() == values(net)["order"].tolist()
    gluon_compress.save(tmp_path / "file", net, plan)
    assert identical(values(gluon_compress.load(tmp_path / "file", make(factory)[0])), values(net))
    record = plan.to_dict()
    record["positions"]["order"].append(0)
    copy, _ = make(factory)
    before = values(copy)
    with pytest.raises(RecordError, match="gives order .* positions"):
        ChannelPlan.from_dict(record).apply(copy)
    assert identical(values(copy), before)
