"""Activations: rectifiers of all kinds, and softmax."""
from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np

from ....network.nodes import Node
from ..table import Unsupported, writes
from ..writer import Writer

ACTIVATIONS = {"relu": "Relu", "sigmoid": "Sigmoid", "tanh": "Tanh", "softrelu": "Softplus", "softsign": "Softsign"}
GELU_FROM = 20  # the opset that brought it


@writes("Activation")
def activation(node: Node, write: Writer) -> str:
    return write(ACTIVATIONS[node.get("act_type")], write.data(node))


@writes("LeakyReLU")
def leaky_relu(node: Node, write: Writer) -> str:
    kind, data = node.get("act_type"), write.data(node)
    slope = float(node.get("slope"))
    if kind == "leaky":
        return write("LeakyRelu", data, alpha=slope)
    if kind == "rrelu":  # in inference the mean of the slopes that training takes at random
        return write("LeakyRelu", data, alpha=(float(node.get("lower_bound", 0.125)) +
                                               float(node.get("upper_bound", 0.334))) / 2)
    if kind == "elu":
        return write("Elu", data, alpha=slope)
    if kind == "selu":
        return write("Selu", data)
    if kind == "gelu":
        return gelu(node, write, data)
    if kind == "prelu":
        return write("PRelu", data, _slopes(node, write))
    raise Unsupported(f"of act_type {kind}")


def gelu(node: Node, write: Writer, data: str) -> str:
    """x / 2 (1 + erf(x / sqrt(2)))."""
    if write.opset >= GELU_FROM:
        return write("Gelu", data)
    error = write("Erf", write("Div", data, write.like(node, math.sqrt(2))))
    return write("Mul", write("Mul", data, write("Add", error, write.like(node, 1))), write.like(node, 0.5))


def _slopes(node: Node, write: Writer) -> str:
    """One slope for all, or one for each channel, along axis 1 of what it reads."""
    axes = len(write.tensor(node).lengths)
    slopes = write.value(node, 1)
    shape = (-1, *(1,) * max(axes - 2, 0))
    if slopes is None:
        return write("Reshape", write.name(node.inputs[1]), write.integers(*shape))
    return write.constant(slopes.reshape(shape if slopes.ndim == 1 else slopes.shape))


@writes("softmax", "softmin", "log_softmax")
def softmax(node: Node, write: Writer) -> str:
    """exp(x / t) over its sum along an axis; numbers past the length of a row are 0 and do not count."""
    data, tensor = write.data(node), write.tensor(node)
    axis = (-1 if node.get("axis") is None else node.get("axis")) % len(tensor.lengths)
    temperature = node.get("temperature") or 1
    if temperature != 1:
        data = write("Div", data, write.constant(temperature, tensor.dtype))
    if node.operator == "softmin":
        data = write("Neg", data)
    kind = "LogSoftmax" if node.operator == "log_softmax" else "Softmax"
    if node.get("use_length"):
        return _softmax_of_lengths(node, write, data, axis, kind)
    made = write(kind, data, axis=axis)
    return made if write.made(node).dtype == tensor.dtype else write.cast(made, write.made(node).dtype)


def _softmax_of_lengths(node: Node, write: Writer, data: str, axis: int, kind: str) -> str:
    """A softmax of the numbers within the length of each row."""
    shape = write.tensor(node).shape
    places = write.constant(np.arange(shape[axis]).reshape((-1, *(1,) * (len(shape) - 1 - axis))), np.int64)
    lengths = write.unsqueeze(write.indices(write.name(node.inputs[1])), axis)
    counts = write("Less", places, lengths)
    lowest = write.like(node, float(np.finfo(write.made(node).dtype).min))
    made = write(kind, write("Where", counts, data, lowest), axis=axis)
    return write("Where", counts, made, write.like(node, 0))


@writes("SoftmaxActivation")
def softmax_activation(node: Node, write: Writer) -> str:
    """Over the channels, or, whatever its documentation says, over the last axis."""
    return write("Softmax", write.data(node), axis=1 if node.get("mode") == "channel" else -1)


@writes("SoftmaxOutput")
def softmax_output(node: Node, write: Writer) -> str:
    """What it gives in inference: a softmax over the channels, the last axis, or all numbers of a sample."""
    if node.get("multi_output"):
        return write("Softmax", write.data(node), axis=1)
    if node.get("preserve_shape"):
        return write("Softmax", write.data(node), axis=-1)
    return _softmax_of_samples(node, write)


def _softmax_of_samples(node: Node, write: Writer) -> str:
    lengths: Sequence = write.tensor(node).lengths
    rows = write("Flatten", write.data(node), axis=1) if len(lengths) > 2 else write.data(node)
    made = write("Softmax", rows, axis=-1)
    flat = (lengths[0], math.prod(write.tensor(node).shape[1:]))
    return write.reshape(made, flat, lengths) if len(lengths) > 2 else made
