"""Boxes: anchors, decoding, and suppression of those that overlap."""
from __future__ import annotations

import mxnet as mx
import numpy as np

from ....network.nodes import Node
from ..lengths import Length, Samples
from ..table import Unsupported, writes
from ..writer import Writer


@writes("_contrib_MultiBoxPrior")
def multi_box_prior(node: Node, write: Writer) -> str:
    """They depend on the size of the image alone, so MXNet computes them."""
    if any(isinstance(length, Samples) for length in write.made(node).lengths):
        raise Unsupported("along the batch")
    settings = {name: node.get(name) for name in ("sizes", "ratios", "clip", "steps", "offsets")
                if name in node.attributes}
    priors = mx.nd.contrib.MultiBoxPrior(mx.nd.zeros(write.tensor(node).shape), **settings)
    return write.constant(priors.asnumpy())


@writes("_contrib_box_decode")
def box_decode(node: Node, write: Writer) -> str:
    """(x, y, width, height) relative to anchors, as corners."""
    data, anchors = write.inputs(node)
    x, y, width, height = write.split(anchors, 2, 4, 4)
    if node.get("format", "center") == "corner":
        width, height = write("Sub", width, x), write("Sub", height, y)
        x, y = (write("Add", begin, write("Mul", size, write.like(node, 0.5)))
                for begin, size in ((x, width), (y, height)))
    factors = [float(node.get(f"std{index}", 1)) for index in range(4)]
    return _decoded(node, write, data, (x, y, width, height), factors, float(node.get("clip", -1)))


def _decoded(node: Node, write: Writer, data: str, anchors: tuple[str, ...], factors: list[float],
             limit: float = -1) -> str:
    """Middle = data factor size + middle of the anchor; size = exp(data factor) times that of the anchor."""
    dtype = write.made(node).dtype
    scaled = write("Mul", data, write.constant(factors, dtype))
    x, y, width, height = write.split(scaled, 2, 4, 4)
    if limit > 0:
        width, height = (write("Min", each, write.constant(limit, dtype)) for each in (width, height))
    middles = [write("Add", write("Mul", place, size), middle)
               for place, size, middle in ((x, anchors[2], anchors[0]), (y, anchors[3], anchors[1]))]
    halves = [write("Mul", write("Mul", write("Exp", each), size), write.constant(0.5, dtype))
              for each, size in ((width, anchors[2]), (height, anchors[3]))]
    corners = [write(operator, middle, half) for operator in ("Sub", "Add") for middle, half in zip(middles, halves)]
    return write("Concat", *corners, axis=2)


@writes("_contrib_box_nms")
def box_nms(node: Node, write: Writer) -> str:
    """Boxes by falling score without those that overlap a better one of their class; -1 in the rows that are left."""
    *outer, count, width = write.made(node).lengths
    if not isinstance(count, int) or not isinstance(width, int):
        raise Unsupported("along the batch")
    samples: Length = outer[0] if len(outer) == 1 else int(np.prod(write.made(node).shape[:-2]))
    if len(outer) > 1 and any(isinstance(length, Samples) for length in outer):
        raise Unsupported("of several axes that follow the batch")
    data = write.reshape(write.data(node), write.made(node).lengths, (samples, count, width))
    limit = node.get("topk", -1)
    kept = count if limit < 0 else min(limit, count)
    if kept < 1:
        return write.data(node)
    rows, valid = _best(node, write, data, kept)
    begin = node.get("coord_start", 2)
    boxes = write.slice(rows, 2, begin, begin + 4)
    if node.get("in_format", "corner") == "center":
        boxes = _corners(write, boxes, write.made(node).dtype)
    classes = node.get("id_index", -1)
    of_classes = classes >= 0 and not node.get("force_suppress")
    keep = suppressed(write, boxes, valid, write.slice(rows, 2, classes, classes + 1) if of_classes else None,
                      float(node.get("overlap_thresh", 0.5)), (samples, kept))
    rows = _gathered_first(write, rows, keep, kept)
    rows = _in_format(node, write, rows, begin)
    if kept < count:
        rows = write("Pad", rows, write.integers(0, 0, 0, 0, count - kept, 0), write.like(node, -1))
    return write.reshape(rows, (samples, count, width), write.made(node).lengths)


def _best(node: Node, write: Writer, data: str, kept: int) -> tuple[str, str]:
    """``(rows of the highest scores, truth values: which of them count)``."""
    lowest = write.like(node, float(np.finfo(write.made(node).dtype).min))
    score = node.get("score_index", 1)
    scores = write.at(data, 2, score)
    valid = write("Greater", scores, write.like(node, float(node.get("valid_thresh", 0))))
    if node.get("id_index", -1) >= 0:
        background = write("Equal", write.at(data, 2, node.get("id_index")),
                           write.like(node, float(node.get("background_id", -1))))
        valid = write("And", valid, write("Not", background))
    values, order = write("TopK", write("Where", valid, scores, lowest), write.integers(kept), outputs=2, axis=1)
    return _rows(write, data, order), write("Greater", values, lowest)


def _rows(write: Writer, data: str, order: str) -> str:
    """Rows of each sample in an order of its own."""
    return write("GatherND", data, write.unsqueeze(order, 2), batch_dims=1)


def suppressed(write: Writer, boxes: str, valid: str, classes: str | None, threshold: float,
               lengths: tuple[Length, int]) -> str:
    """Truth values: which of boxes in order of their scores stay.

    ONNX's operator looks at one class, so those of different classes are moved apart; and at scores, which are ranks.
    """
    count = lengths[1]
    if classes is not None:
        extent = write("Sub", write("ReduceMax", boxes, keepdims=1), write("ReduceMin", boxes, keepdims=1))
        apart = write("Add", extent, write.constant(1, np.float32))
        boxes = write("Add", boxes, write("Mul", classes, apart))
    ranks = write.constant(np.arange(count, 0, -1), np.float32)
    scores = write.unsqueeze(write("Where", valid, ranks, write.constant(0, np.float32)), 1)
    found = write("NonMaxSuppression", boxes, scores, write.integers(count), write.constant([threshold], np.float32),
                  write.constant([0.5], np.float32))
    places = write("Gather", found, write.integers(0, 2), axis=1)
    ones = write.expand(write.constant(1, np.float32), [1])
    number = write("Slice", write("Shape", places), write.integers(0), write.integers(1))
    zeros = write.expand(write.constant(0, np.float32), lengths)
    kept = write("ScatterND", zeros, places, write("Expand", ones, number))
    return write.nonzero(kept)


def _gathered_first(write: Writer, rows: str, keep: str, count: int) -> str:
    """Those that stay, in order, then rows of -1."""
    ranks = write("Where", keep, write.constant(np.arange(count, 0, -1), np.float32), write.constant(0, np.float32))
    values, order = write("TopK", ranks, write.integers(count), outputs=2, axis=1)
    stays = write.unsqueeze(write("Greater", values, write.constant(0, np.float32)), 2)
    return write("Where", stays, _rows(write, rows, order), write.constant(-1, np.float32))


def _corners(write: Writer, boxes: str, dtype: np.dtype) -> str:
    middle, size = write.split(boxes, 2, 2, 4)
    half = write("Mul", size, write.constant(0.5, dtype))
    return write("Concat", write("Sub", middle, half), write("Add", middle, half), axis=2)


def _in_format(node: Node, write: Writer, rows: str, begin: int) -> str:
    """The boxes as corners, or as middles and sizes; MXNet leaves those as they are that begin below zero."""
    wanted = node.get("out_format", "corner")
    if wanted == node.get("in_format", "corner"):
        return rows
    boxes, dtype = write.slice(rows, 2, begin, begin + 4), write.made(node).dtype
    if wanted == "corner":
        changed = _corners(write, boxes, dtype)
    else:
        low, high = write.split(boxes, 2, 2, 4)
        middle = write("Mul", write("Add", low, high), write.constant(0.5, dtype))
        changed = write("Concat", middle, write("Sub", high, low), axis=2)
    below = write("Less", write.slice(boxes, 2, 0, 1), write.constant(0, dtype))
    changed = write("Where", below, boxes, changed)
    before = [write.slice(rows, 2, 0, begin)] if begin else []
    width = write.tensor(node).shape[-1]
    behind = [write.slice(rows, 2, begin + 4)] if begin + 4 < width else []
    return write("Concat", *before, changed, *behind, axis=2)


@writes("_contrib_MultiBoxDetection")
def multi_box_detection(node: Node, write: Writer) -> str:
    """Rows (class, score, corners) by falling score; the class is -1 in rows that overlap a better one or say nothing.

    MXNet leaves score and corners in the rows that overlap a better one; so do we.
    """
    probabilities, locations, anchors = write.inputs(node)
    samples, classes, count = write.tensor(node).lengths
    threshold = float(node.get("nms_threshold", 0.5))
    if not isinstance(count, int) or not 0 < threshold <= 1 or node.get("background_id", 0) != 0 \
            or 0 < node.get("nms_topk", -1) < count:
        raise Unsupported("with nms_topk, another background than class 0, no suppression, or along the batch")
    foreground = write.slice(probabilities, 1, 1)
    score = write.reduce("Max", foreground, [1], keepdims=False)
    number = write("ArgMax", foreground, axis=1, keepdims=0)
    low, high = write.split(anchors, 2, 2, 4)
    size, half = write("Sub", high, low), write.like(node, 0.5)
    middle = write("Mul", write("Add", low, high), half)
    deltas = write.reshape(locations, write.tensor(node, 1).lengths, (samples, count, 4))
    variances = [float(each) for each in node.get("variances", (0.1, 0.1, 0.2, 0.2))]
    boxes = _decoded(node, write, deltas, (*write.split(middle, 2, 2, 2), *write.split(size, 2, 2, 2)), variances)
    if node.get("clip", True):
        boxes = write("Clip", boxes, write.like(node, 0), write.like(node, 1))
    says = write("Not", write("Less", score, write.like(node, float(node.get("threshold", 0.01)))))
    lowest = write.like(node, float(np.finfo(write.made(node).dtype).min))
    values, order = write("TopK", write("Where", says, score, lowest), write.integers(count), outputs=2, axis=1)
    valid = write("Greater", values, lowest)
    boxes, number = _rows(write, boxes, order), _rows(write, number, order)
    number = write.unsqueeze(write.cast(number, write.made(node).dtype), 2)
    keep = suppressed(write, boxes, valid, None if node.get("force_suppress") else number, threshold, (samples, count))
    number = write("Where", write.unsqueeze(keep, 2), number, write.like(node, -1))
    rows = write("Concat", number, write.unsqueeze(values, 2), boxes, axis=2)
    return write("Where", write.unsqueeze(valid, 2), rows, write.like(node, -1))
