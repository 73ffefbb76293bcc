import json

import gluon_compress  # before mxnet  # noqa: F401

import mxnet as mx
import numpy as np
from gluon_compress.datasets import cifar10


def symbol_block(path):
    """The network of a file of depthwise_networks.py, for images of 0 to 255."""
    content = np.load(path)
    values, entries = {}, []

    def parameter(name, array):
        values[name] = mx.nd.array(array)
        return mx.sym.var(name, shape=array.shape)

    for position, operator in enumerate(json.loads(str(content["operators"]))):
        arrays = {name.partition(".")[2]: content[name] for name in content.files if name.startswith(f"{position}.")}
        inputs = [entries[source] if source >= 0 else mx.sym.var("data") for source in operator["inputs"]]
        entries.append(OPERATORS[operator["op"]](f"{operator['op']}{position}", inputs, operator, arrays, parameter))
    net = mx.gluon.SymbolBlock(entries[-1], [mx.sym.var("data")])
    for name, p in net.collect_params().items():
        p._load_init(values[name], mx.cpu())
    net.hybridize(static_alloc=True, static_shape=True)
    return net


def _convolution(name, inputs, operator, arrays, parameter):
    settings = {"kernel": operator["kernel"], "stride": (operator["stride"],) * 2, "pad": (operator["pad"],) * 2,
                "num_filter": operator["filters"], "num_group": operator["groups"], "no_bias": "bias" not in arrays}
    return mx.sym.Convolution(inputs[0], *(parameter(f"{name}_{what}", array) for what, array in arrays.items()),
                              name=name, **settings)


def _batch_norm(name, inputs, operator, arrays, parameter):
    names = {"weight": "gamma", "bias": "beta", "running_mean": "moving_mean", "running_var": "moving_var"}
    return mx.sym.BatchNorm(inputs[0], *(parameter(f"{name}_{names[what]}", array) for what, array in arrays.items()),
                            name=name, eps=1e-5, fix_gamma=False, use_global_stats=True)


def _standardize(name, inputs, operator, arrays, parameter):
    mean, deviation = (parameter(f"{name}_{what}", arrays[what].reshape(1, 3, 1, 1)) for what in ("mean", "deviation"))
    return mx.sym.broadcast_div(mx.sym.broadcast_sub(inputs[0], mean), deviation)


OPERATORS = {
    "convolution": _convolution, "batch_norm": _batch_norm, "standardize": _standardize,
    "scale": lambda name, inputs, operator, *_: (inputs[0] - operator["minus"]) * operator["times"],
    "prelu": lambda name, inputs, operator, arrays, parameter: mx.sym.LeakyReLU(
        inputs[0], parameter(f"{name}_gamma", arrays["slope"]), act_type="prelu", name=name),
    "relu6": lambda name, inputs, *_: mx.sym.clip(inputs[0], 0, 6, name=name),
    "add": lambda name, inputs, *_: mx.sym.elemwise_add(*inputs, name=name),
    "mean": lambda name, inputs, *_: mx.sym.Pooling(inputs[0], global_pool=True, pool_type="avg", kernel=(1, 1),
                                                    name=name),
    "flatten": lambda name, inputs, *_: mx.sym.Flatten(inputs[0], name=name),
    "dense": lambda name, inputs, operator, arrays, parameter: mx.sym.FullyConnected(
        inputs[0], parameter(f"{name}_weight", arrays["weight"]), parameter(f"{name}_bias", arrays["bias"]),
        num_hidden=operator["units"], name=name)}


def images(size, count, train):
    """CIFAR-10 images of 0 to 255, enlarged; (count, 3, size, size) float32."""
    data = cifar10()[0 if train else 1]
    found = [mx.image.imresize(data[index][0], size, size, interp=2).asnumpy() for index in range(count)]
    return np.stack(found).transpose(0, 3, 1, 2).astype(np.float32)
