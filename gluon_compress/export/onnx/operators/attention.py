"""Products of matrices, those of attention among them."""
from __future__ import annotations

import math
from collections.abc import Sequence

from ....network.nodes import Node
from ..lengths import Length, Samples
from ..table import Unsupported, writes
from ..writer import Writer


def _swapped(write: Writer, data: str, axes: int) -> str:
    """The last two axes in the other order."""
    return write.transpose(data, *range(axes - 2), axes - 1, axes - 2)


@writes("batch_dot")
def batch_dot(node: Node, write: Writer) -> str:
    first, second = write.inputs(node)
    first = _swapped(write, first, 3) if node.get("transpose_a") else first
    second = _swapped(write, second, 3) if node.get("transpose_b") else second
    return write("MatMul", first, second)


@writes("_npi_matmul")
def matmul(node: Node, write: Writer) -> str:
    return write("MatMul", *write.inputs(node))


@writes("dot", "_np_dot")
def dot(node: Node, write: Writer) -> str:
    """Over the last axis of the first and the first axis of the second tensor."""
    first, second = write.inputs(node)
    axes = [len(write.tensor(node, index).lengths) for index in (0, 1)]
    if axes == [2, 2]:
        first = _swapped(write, first, 2) if node.get("transpose_a") else first
        second = _swapped(write, second, 2) if node.get("transpose_b") else second
        return write("MatMul", first, second)
    if node.get("transpose_a") or node.get("transpose_b"):
        raise Unsupported(f"of {axes[0]} and {axes[1]} axes with one of them transposed")
    if axes[1] <= 2:
        made = write("MatMul", first, second)
        return write.unsqueeze(made, 0) if axes == [1, 1] and len(write.made(node).lengths) == 1 else made
    length = write.tensor(node, 1).lengths[0]
    rows = write("Reshape", second, write.lengths([length, -1]))
    return write("Reshape", write("MatMul", first, rows), write.lengths(write.made(node).lengths))


@writes("_linalg_gemm2", "_linalg_gemm")
def gemm(node: Node, write: Writer) -> str:
    """alpha A B + beta C, with A and B transposed where they say so."""
    first, second, *added = write.inputs(node)
    axes = len(write.tensor(node).lengths)
    if node.get("axis", -2) not in (-2, axes - 2):
        raise Unsupported("along another axis")
    first = _swapped(write, first, axes) if node.get("transpose_a") else first
    second = _swapped(write, second, axes) if node.get("transpose_b") else second
    dtype = write.made(node).dtype
    made = write.affine(write("MatMul", first, second), float(node.get("alpha", 1)), 0, dtype)
    return write("Add", made, write.affine(added[0], float(node.get("beta", 1)), 0, dtype)) if added else made


@writes("_linalg_syrk")
def syrk(node: Node, write: Writer) -> str:
    """alpha A A^T, or alpha A^T A."""
    data, axes = write.data(node), len(write.tensor(node).lengths)
    other = _swapped(write, data, axes)
    pair = (other, data) if node.get("transpose") else (data, other)
    return write.affine(write("MatMul", *pair), float(node.get("alpha", 1)), 0, write.made(node).dtype)


# Attention whose queries, keys and values lie interleaved: (steps, samples, heads * parts * size) ------------------

def _parts(node: Node, write: Writer, index: int, parts: int) -> tuple[list[str], Sequence[Length], int]:
    """Each part as (samples * heads, steps, size), with those lengths, and size."""
    steps, samples, width = write.tensor(node, index).lengths
    heads = node.get("heads")
    if not isinstance(width, int) or isinstance(steps, Samples) and isinstance(samples, Samples):
        raise Unsupported("along the batch")
    size = width // heads // parts
    rows = _times(samples, heads)
    apart = [steps, rows, parts, size]
    data = write.reshape(write.name(node.inputs[index]), (steps, samples, width), apart)
    data = write.transpose(data, 2, 1, 0, 3)
    return [write.at(data, 0, part) for part in range(parts)], (rows, steps, size), size


def _times(length: Length, factor: int) -> Length:
    return Samples(length.factor * factor, length.offset * factor) if isinstance(length, Samples) else length * factor


def _scores(node: Node, write: Writer, queries: str, keys: str, size: int) -> str:
    scaled = write("Div", queries, write.like(node, math.sqrt(size)))
    return write("MatMul", scaled, _swapped(write, keys, 3))


def _found(node: Node, write: Writer, values: str, attention: str, rows: Length, size: int) -> str:
    """attention values, as (steps, samples, heads * size)."""
    product = write("MatMul", attention, values)
    steps, samples, width = write.made(node).lengths
    swapped = write.transpose(product, 1, 0, 2)
    return write.reshape(swapped, (steps, rows, size), (steps, samples, width))


@writes("_contrib_interleaved_matmul_selfatt_qk")
def self_attention_scores(node: Node, write: Writer) -> str:
    (queries, keys, _), _, size = _parts(node, write, 0, 3)
    return _scores(node, write, queries, keys, size)


@writes("_contrib_interleaved_matmul_selfatt_valatt")
def self_attention_values(node: Node, write: Writer) -> str:
    parts, (rows, _, _), size = _parts(node, write, 0, 3)
    return _found(node, write, parts[2], write.name(node.inputs[1]), rows, size)


@writes("_contrib_interleaved_matmul_encdec_qk")
def attention_scores(node: Node, write: Writer) -> str:
    (queries,), _, size = _parts(node, write, 0, 1)
    (keys, _), _, _ = _parts(node, write, 1, 2)
    return _scores(node, write, queries, keys, size)


@writes("_contrib_interleaved_matmul_encdec_valatt")
def attention_values(node: Node, write: Writer) -> str:
    (_, values), (rows, _, _), size = _parts(node, write, 0, 2)
    return _found(node, write, values, write.name(node.inputs[1]), rows, size)
