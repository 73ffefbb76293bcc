"""Layers with a weight: convolutions, dense layers, embeddings."""
from __future__ import annotations

import numpy as np

from ....network.nodes import Node
from ..table import Unsupported, writes
from ..writer import Writer
from .reductions import limited


@writes("Convolution")
def convolution(node: Node, write: Writer) -> str:
    _check_layout(node)
    dimensions = len(node.get("kernel"))
    return write("Conv", *write.inputs(node), kernel_shape=node.get("kernel"), group=node.groups,
                 strides=node.get("stride") or (1,) * dimensions, pads=(node.get("pad") or (0,) * dimensions) * 2,
                 dilations=node.get("dilate") or (1,) * dimensions)


@writes("Deconvolution")
def deconvolution(node: Node, write: Writer) -> str:
    """length = stride (length before - 1) + dilate (kernel - 1) + 1 - 2 pad + adj."""
    _check_layout(node)
    kernel = node.get("kernel")
    ones, zeros = (1,) * len(kernel), (0,) * len(kernel)
    stride, dilate = node.get("stride") or ones, node.get("dilate") or ones
    pad, adjustment = node.get("pad") or zeros, node.get("adj") or zeros
    target = node.get("target_shape") or zeros
    if any(target):  # MXNet takes what is too much from both ends, the smaller half from the end
        lengths = write.tensor(node).shape[2:]
        surplus = [step * (length - 1) + spread * (window - 1) + 1 - wanted for step, length, spread, window, wanted
                   in zip(stride, lengths, dilate, kernel, target)]
        pad, adjustment = tuple((each + 1) // 2 for each in surplus), tuple(each % 2 for each in surplus)
    return write("ConvTranspose", *write.inputs(node), kernel_shape=kernel, group=node.groups, strides=stride,
                 dilations=dilate, pads=pad * 2, output_padding=adjustment)


def _check_layout(node: Node) -> None:
    if not (node.get("layout") or "NC").startswith("NC"):
        raise Unsupported(f"of layout {node.get('layout')}")


@writes("FullyConnected")
def dense(node: Node, write: Writer) -> str:
    """data weight^T + bias, over all axes but the first where it flattens, else over the last."""
    data, lengths = write.data(node), write.tensor(node).lengths
    weight, *bias = (write.name(entry) for entry in node.inputs[1:])
    if len(lengths) == 2 or node.get("flatten"):
        rows = data if len(lengths) == 2 else write("Flatten", data, axis=1)
        return write("Gemm", rows, weight, *bias, transB=1)
    if _weight_alone_has_codes(node):
        rows = write("Reshape", data, write.integers(-1, write.tensor(node).shape[-1]))
        made = write("Gemm", rows, weight, *bias, transB=1)
        return write("Reshape", made, write.lengths(write.made(node).lengths))
    product = write("MatMul", data, transposed_weight(node, write))
    return write("Add", product, *bias) if bias else product


def _weight_alone_has_codes(node: Node) -> bool:
    """ONNX Runtime takes a MatMul with such a weight for permission to round the data to 8 bits, too, a Gemm not."""
    return node.inputs[1][0].operator == "DequantizeLinear" != node.inputs[0][0].operator


def transposed_weight(node: Node, write: Writer) -> str:
    """Name of a dense layer's weight as (in, out); of codes, their DequantizeLinear stays the last operator."""
    value = write.value(node, 1)
    if value is not None:
        return write.constant(np.ascontiguousarray(value.T))
    source = node.inputs[1][0]
    codes = write.value(source, 0) if source.operator == "DequantizeLinear" else None
    if codes is None:
        return write("Transpose", write.name(node.inputs[1]), perm=(1, 0))
    further = [write.known(source, index) for index in range(1, len(source.inputs))]
    axis = source.get("axis")
    names = [write.constant(value if axis is not None else value.reshape(())) for value in further]
    return write("DequantizeLinear", write.constant(np.ascontiguousarray(codes.T)), *names,
                 axis=None if axis is None else 1 - axis % 2)


@writes("Embedding")
def embedding(node: Node, write: Writer) -> str:
    """Rows of the weight; an index out of range counts as the nearest one in it."""
    indices = limited(node, write, write.data(node), write.tensor(node, 1).shape[0], "clip", write.value(node, 0))
    return write("Gather", write.name(node.inputs[1]), indices, axis=0)
