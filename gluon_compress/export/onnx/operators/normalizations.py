"""Normalizations, in inference."""
from __future__ import annotations

import numpy as np

from ....network.nodes import Node
from ..lengths import Samples
from ..table import Unsupported, writes
from ..writer import Writer

LAYER_NORM_FROM = 17  # the opset that brought LayerNormalization


@writes("BatchNorm", "_contrib_SyncBatchNorm", "_contrib_BatchNormWithReLU")
def batch_norm(node: Node, write: Writer) -> str:
    """gamma (x - mean) / sqrt(variance + eps) + beta, with 1 for gamma where it is fixed."""
    _check_outputs(node)
    data, dtype = write.data(node), write.tensor(node).dtype
    gamma, beta, mean, variance = (write.known(node, index).astype(dtype) for index in range(1, 5))
    if node.get("fix_gamma"):
        gamma = np.ones_like(gamma)
    axis, axes = node.channel_axis, len(write.tensor(node).lengths)
    if axis == 1:
        made = write("BatchNormalization", data, *map(write.constant, (gamma, beta, mean, variance)),
                     epsilon=float(node.get("eps")))
    else:
        scale = gamma.astype(np.float64) / np.sqrt(variance.astype(np.float64) + node.get("eps"))
        shape = (-1, *(1,) * (axes - 1 - axis))
        made = write("Add", write("Mul", data, write.constant(scale.reshape(shape), dtype)),
                     write.constant((beta - mean * scale).reshape(shape), dtype))
    return write("Relu", made) if node.meaning.ends_in_relu else made


def _check_outputs(node: Node) -> None:
    if node.get("output_mean_var"):
        raise Unsupported("with output_mean_var")


@writes("LayerNorm")
def layer_norm(node: Node, write: Writer) -> str:
    """gamma (x - mean) / sqrt(variance + eps) + beta, with mean and variance along one axis."""
    _check_outputs(node)
    data, gamma, beta = write.inputs(node)
    axis, axes, eps = node.channel_axis, len(write.tensor(node).lengths), float(node.get("eps", 1e-5))
    if axis == axes - 1 and write.opset >= LAYER_NORM_FROM:
        return write("LayerNormalization", data, gamma, beta, axis=-1, epsilon=eps)
    behind = range(1, axes - axis)
    distance = write("Sub", data, write.reduce("Mean", data, [axis]))
    variance = write.reduce("Mean", write("Mul", distance, distance), [axis])
    scaled = write("Div", distance, write("Sqrt", write("Add", variance, write.like(node, eps))))
    return write("Add", write("Mul", scaled, write.unsqueeze(gamma, *behind)), write.unsqueeze(beta, *behind))


@writes("InstanceNorm")
def instance_norm(node: Node, write: Writer) -> str:
    return write("InstanceNormalization", *write.inputs(node), epsilon=float(node.get("eps", 1e-3)))


@writes("GroupNorm")
def group_norm(node: Node, write: Writer) -> str:
    """As InstanceNorm of the groups, each of which has one gamma and one beta in MXNet."""
    _check_outputs(node)
    tensor, groups = write.tensor(node), node.get("num_groups")
    size = int(np.prod(tensor.shape[1:])) // groups
    grouped = (tensor.lengths[0], groups, size)
    if any(isinstance(length, Samples) for length in tensor.lengths[1:]):
        raise Unsupported("along the batch")
    data = write.reshape(write.data(node), tensor.lengths, grouped)
    made = write("InstanceNormalization", data, *write.inputs(node)[1:], epsilon=float(node.get("eps", 1e-5)))
    return write.reshape(made, grouped, tensor.lengths)


@writes("L2Normalization")
def l2_normalization(node: Node, write: Writer) -> str:
    """x / sqrt(sum of x^2 + eps): over each sample, over the channels, or over each image."""
    data, axes = write.data(node), len(write.tensor(node).lengths)
    over = {"channel": [1], "spatial": range(2, axes)}.get(node.get("mode", "instance"), range(1, axes))
    squares = write.sum(write("Mul", data, data), list(over))
    return write("Div", data, write("Sqrt", write("Add", squares, write.like(node, float(node.get("eps", 1e-10))))))


@writes("LRN")
def lrn(node: Node, write: Writer) -> str:
    """x / (knorm + alpha / nsize * sum of x^2 over neighbouring channels)^beta."""
    return write("LRN", write.data(node), size=node.get("nsize"), alpha=float(node.get("alpha", 1e-4)),
                 beta=float(node.get("beta", 0.75)), bias=float(node.get("knorm", 2)))
