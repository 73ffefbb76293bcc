"""Twins: networks written for MXNet's classic interface, run under its NumPy interface.

``with numpy_mode(): twin = twin_of(net)`` gives each block of the tests an ``F`` whose functions are written with
``F.np`` and ``F.npx``, as the author of such a network writes them. Gluon's own blocks, and ours, know both interfaces.
"""
import contextlib
import functools

import mxnet as mx
import numpy as np
from mxnet import util
from mxnet.gluon import HybridBlock

ALIKE_NP = (
    "tanh exp expm1 log log1p log2 log10 sqrt cbrt square reciprocal abs sign negative sin cos tan arcsin "
    "arccos arctan sinh cosh arcsinh arccosh arctanh degrees radians floor ceil rint fix trunc clip where "
    "zeros_like ones_like swapaxes tile repeat maximum minimum transpose expand_dims squeeze broadcast_to").split()
ALIKE_NPX = ("relu sigmoid softmax log_softmax batch_dot reshape_like gamma gammaln erf erfinv smooth_l1 arange_like "
             "shape_array").split()
LAYERS = {"Activation": "activation", "BatchNorm": "batch_norm", "Convolution": "convolution", "Dropout": "dropout",
          "FullyConnected": "fully_connected", "Embedding": "embedding", "LayerNorm": "layer_norm",
          "LeakyReLU": "leaky_relu", "Pooling": "pooling", "flatten": "batch_flatten", "Deconvolution": "deconvolution",
          "ROIPooling": "roi_pooling"}
BINARY = {"add": "add", "sub": "subtract", "mul": "multiply", "div": "true_divide", "mod": "mod", "power": "power",
          "maximum": "maximum", "minimum": "minimum", "hypot": "hypot"}
COMPARISONS = {"equal": "equal", "not_equal": "not_equal", "greater": "greater", "greater_equal": "greater_equal",
               "lesser": "less", "lesser_equal": "less_equal"}
REDUCTIONS = "mean sum prod max min".split()
CODES = {0: -2, -1: -1, -2: -4, -3: -5, -4: -6}  # {of classic reshape: of npx.reshape}


class NoTwin(AttributeError):
    """The NumPy interface has no such function."""


class NumpyF:
    """``F`` as a ``hybrid_forward`` of the classic interface uses it, written with ``F.np`` and ``F.npx``."""

    def __init__(self, F):
        self.np, self.npx, self.F = F.np, F.npx, F

    @property
    def contrib(self):
        return self

    def __getattr__(self, name):
        if name in ALIKE_NP:
            return getattr(self.np, name)
        if name in ALIKE_NPX:
            return getattr(self.npx, name)
        if name in LAYERS:
            return getattr(self.npx, LAYERS[name])
        kind, _, operation = name.partition("_")
        if kind in ("broadcast", "elemwise") and operation in BINARY:
            return getattr(self.np, BINARY[operation])
        if kind == "broadcast" and operation in COMPARISONS:  # which give truth values
            return lambda x, y: getattr(self.np, COMPARISONS[operation])(x, y).astype("float32")
        if name in REDUCTIONS:
            return functools.partial(self._reduced, name)
        raise NoTwin(name)

    def _reduced(self, name, x, axis=None, keepdims=False, exclude=False):
        if exclude:
            raise NoTwin("exclude")
        return getattr(self.np, name)(x, axis=axis, keepdims=keepdims)

    def take(self, x, indices, axis):
        return self.np.take(x, indices, axis=axis, mode="clip")

    def MultiBoxPrior(self, x):
        return self.npx.multibox_prior(x)

    @property
    def linalg(self):
        return self

    def gemm2(self, x, y, transpose_b=False):
        return self.np.matmul(x, self.np.swapaxes(y, 2, 3) if transpose_b else y)

    def identity(self, x):
        return self.np.copy(x)

    def cast(self, x, dtype):
        return x.astype(dtype)

    def concat(self, *parts, dim=1):
        return self.np.concatenate(parts, axis=dim)

    def stack(self, *parts, axis=0):
        return self.np.stack(parts, axis=axis)

    def add_n(self, *parts):
        return functools.reduce(lambda first, second: first + second, parts)

    def split(self, x, parts, axis=1, squeeze_axis=False):
        split = self.np.split(x, parts, axis=axis)
        return [self.np.squeeze(part, axis) for part in split] if squeeze_axis else split

    def reshape(self, x, shape, **arguments):
        return self.npx.reshape(x, tuple(CODES.get(code, code) for code in shape), **arguments)

    def reverse(self, x, axis):
        return self.np.flip(x, axis)

    def slice_axis(self, x, axis, begin, end):
        return (x * 1)[(slice(None),) * axis + (slice(begin, end),)]  # see below

    def slice(self, x, begin, end, step=None):
        # slicing what oneDNN has laid out in blocks ends the process in MXNet 1.9.1
        return (x * 1)[tuple(slice(*ends) for ends in zip(begin, end, step or (None,) * len(begin)))]

    def pad(self, x, mode, pad_width):
        return self.np.pad(x, tuple(zip(pad_width[::2], pad_width[1::2])), mode=mode)


@contextlib.contextmanager
def numpy_mode():
    with util.np_shape(True), util.np_array(True):
        yield


def twin_of(net):
    """``net``, a new network: from now on one of the NumPy interface."""
    def speak(block):
        if isinstance(block, HybridBlock) and not type(block).__module__.startswith(("mxnet.", "gluon_compress.")):
            forward = block.hybrid_forward
            block.hybrid_forward = lambda F, *inputs, **own: forward(NumpyF(F), *inputs, **own)
    return net.apply(speak)


def take_values(twin, net):
    """Give a twin that was never run the values of a network that was."""
    own = twin._collect_params_with_prefix()
    for name, parameter in net._collect_params_with_prefix().items():
        own[name].shape = parameter.list_data()[0].shape
    twin.initialize()
    mx.nd.waitall()  # a pass that still runs may be laying weights out anew
    for name, parameter in net._collect_params_with_prefix().items():
        own[name].set_data(mx.np.array(parameter.list_data()[0].asnumpy(), dtype=np.dtype(parameter.dtype)))
    return twin


def in_numpy(arrays):
    return tuple(mx.np.array(array.asnumpy(), dtype=array.dtype) for array in arrays)
