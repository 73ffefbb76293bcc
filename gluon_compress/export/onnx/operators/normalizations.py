"""Normalizations, in inference."""
from __future__ import annotations

import numpy as np

from ....network.nodes import Node
from ..table import Unsupported, writes
from ..writer import Writer


@writes("BatchNorm", "_contrib_SyncBatchNorm", "_contrib_BatchNormWithReLU")
def batch_norm(node: Node, write: Writer) -> str:
    """gamma (x - mean) / sqrt(variance + eps) + beta, with 1 for gamma where it is fixed."""
    if node.get("output_mean_var"):
        raise Unsupported("with output_mean_var, as ONNX has no mean and variance of a batch in inference")
    data, dtype = write.name(node.inputs[0]), write.tensor(node).dtype
    gamma, beta, mean, variance = (write.cast_value(node, index, dtype) for index in range(1, 5))
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
