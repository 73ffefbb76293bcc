"""Images of another size, and samples of them."""
from __future__ import annotations

import math
from typing import Any

import numpy as np

from ....network.nodes import Node
from ..lengths import Samples
from ..table import Unsupported, writes
from ..writer import Writer

AXES_OF_RESIZE_FROM = 18
GRID_SAMPLE_FROM, LINEAR_SINCE, ALIGNED_FROM, DEFORMABLE_FROM = 16, 20, 16, 19


@writes("UpSampling")
def upsampling(node: Node, write: Writer) -> str:
    """Each pixel several times; of several inputs, all to the size of the first one's result."""
    if node.get("sample_type") == "bilinear":
        return _by_deconvolution(node, write)
    height = write.made(node).shape[2]
    parts = []
    for index, name in enumerate(write.inputs(node)):
        scale = height // write.tensor(node, index).shape[2]
        parts.append(write("Resize", name, "", write.constant([1, 1, scale, scale], np.float32), mode="nearest",
                           coordinate_transformation_mode="asymmetric", nearest_mode="floor"))
    if len(parts) == 1:
        return parts[0]
    return write("Sum", *parts) if node.get("multi_input_mode") == "sum" else write("Concat", *parts, axis=1)


def _by_deconvolution(node: Node, write: Writer) -> str:
    scale = node.get("scale")
    kernel, pad = 2 * scale - scale % 2, math.ceil((scale - 1) / 2)
    return write("ConvTranspose", *write.inputs(node), kernel_shape=(kernel,) * 2, strides=(scale,) * 2,
                 pads=(pad,) * 4, group=node.get("num_filter"))


@writes("_contrib_BilinearResize2D")
def bilinear_resize(node: Node, write: Writer) -> str:
    """To the size that MXNet infers, with the corners on each other, or with the pixels' areas."""
    data, tensor, made = write.data(node), write.tensor(node), write.made(node)
    aligned = node.get("align_corners", True)
    for axis in (2, 3):
        if made.lengths[axis] == 1 and not aligned and tensor.lengths[axis] != 1:
            data = write.slice(data, axis, 0, 1)  # a single pixel is the first one in MXNet, the middle in ONNX
    mode = "align_corners" if aligned else "half_pixel"
    if write.opset >= AXES_OF_RESIZE_FROM:
        size, axes = write.lengths(made.lengths[2:]), (2, 3)
    else:
        size, axes = write.lengths(made.lengths), None
    return write("Resize", data, "", "", size, mode="linear", coordinate_transformation_mode=mode, axes=axes)


@writes("_contrib_AdaptiveAvgPooling2D")
def adaptive_pooling(node: Node, write: Writer) -> str:
    """Means of windows from floor(i length / size) to ceil((i + 1) length / size)."""
    data, before, after = write.data(node), write.tensor(node).lengths[2:], write.made(node).shape[2:]
    if after == (1, 1):
        return write("GlobalAveragePool", data)
    if any(isinstance(length, Samples) for length in before):
        raise Unsupported("along the batch")
    if all(length % size == 0 for length, size in zip(before, after)):  # type: ignore[operator]
        window = [length // size for length, size in zip(before, after)]  # type: ignore[operator]
        return write("AveragePool", data, kernel_shape=window, strides=window)
    down, across = (_means(length, size) for length, size in zip(before, after))  # type: ignore[arg-type]
    dtype = write.made(node).dtype
    return write("MatMul", write.constant(down, dtype), write("MatMul", data, write.constant(across.T, dtype)))


def _means(length: int, size: int) -> np.ndarray:
    """(size, length): what each window takes of each place."""
    weights = np.zeros((size, length))
    for index in range(size):
        begin, end = index * length // size, -(-(index + 1) * length // size)
        weights[index, begin:end] = 1 / (end - begin)
    return weights


@writes("_contrib_ROIAlign")
def roi_align(node: Node, write: Writer) -> str:
    """Regions are (sample, left, top, right, bottom)."""
    if node.get("position_sensitive"):
        raise Unsupported("with position_sensitive")
    height, width = node.get("pooled_size")
    aligned = bool(node.get("aligned"))
    if aligned and write.opset < ALIGNED_FROM:
        raise Unsupported(f"with aligned, which needs opset {ALIGNED_FROM}")
    mode = "half_pixel" if aligned else "output_half_pixel"
    regions = write.name(node.inputs[1])
    samples = write.indices(write.at(regions, 1, 0))
    return write("RoiAlign", write.data(node), write.slice(regions, 1, 1), samples, output_height=height,
                 output_width=width, spatial_scale=float(node.get("spatial_scale")),
                 sampling_ratio=max(0, node.get("sample_ratio", -1)),
                 coordinate_transformation_mode=mode if write.opset >= ALIGNED_FROM else None)


@writes("ROIPooling")
def roi_pooling(node: Node, write: Writer) -> str:
    return write("MaxRoiPool", *write.inputs(node), pooled_shape=node.get("pooled_size"),
                 spatial_scale=float(node.get("spatial_scale")))


@writes("BilinearSampler")
def bilinear_sampler(node: Node, write: Writer) -> str:
    return _sampled(write, write.data(node), write.name(node.inputs[1]))


def _sampled(write: Writer, data: str, grid: str) -> str:
    """At places (x, y) from -1 to 1, which are the middles of the corners; zero outside."""
    if write.opset < GRID_SAMPLE_FROM:
        raise Unsupported(f"which needs opset {GRID_SAMPLE_FROM}")
    return write("GridSample", data, write.transpose(grid, 0, 2, 3, 1), align_corners=1, padding_mode="zeros",
                 mode="linear" if write.opset >= LINEAR_SINCE else "bilinear")


@writes("GridGenerator")
def grid_generator(node: Node, write: Writer) -> str:
    if node.get("transform_type") != "affine":
        raise Unsupported(f"of type {node.get('transform_type')}")
    return _grid(node, write, write.data(node), node.get("target_shape"))


def _grid(node: Node, write: Writer, matrices: str, target: tuple[int, int]) -> str:
    """(2, 3) matrices times (x, y, 1) of each place, from -1 to 1."""
    height, width = target
    y, x = np.meshgrid(np.linspace(-1, 1, height), np.linspace(-1, 1, width), indexing="ij")
    places = np.stack([x.ravel(), y.ravel(), np.ones(height * width)])
    rows = write("Reshape", matrices, write.integers(-1, 2, 3))
    found = write("MatMul", rows, write.constant(places, write.made(node).dtype))
    return write("Reshape", found, write.integers(-1, 2, height, width))


@writes("SpatialTransformer")
def spatial_transformer(node: Node, write: Writer) -> str:
    grid = _grid(node, write, write.name(node.inputs[1]), node.get("target_shape"))
    return _sampled(write, write.data(node), grid)


@writes("_contrib_ModulatedDeformableConvolution", "_contrib_DeformableConvolution")
def deformable_convolution(node: Node, write: Writer) -> str:
    """A convolution whose weights meet pixels beside their places, by offsets (y, x), and times a mask."""
    if write.opset < DEFORMABLE_FROM:
        raise Unsupported(f"which needs opset {DEFORMABLE_FROM}")
    modulated = node.operator == "_contrib_ModulatedDeformableConvolution"
    data, offset, *further = write.inputs(node)
    if modulated:
        mask = further.pop(0)
    else:
        offset, mask = _within_the_image(node, write, offset)
    weight, bias = further[0], further[1] if len(further) > 1 else ""
    return write("DeformConv", data, weight, offset, bias, mask, kernel_shape=node.get("kernel"),
                 group=node.get("num_group", 1), offset_group=node.get("num_deformable_group", 1),
                 **_windows(node))


def _windows(node: Node) -> dict[str, Any]:
    return {"strides": node.get("stride") or (1, 1), "pads": (node.get("pad") or (0, 0)) * 2,
            "dilations": node.get("dilate") or (1, 1)}


def _within_the_image(node: Node, write: Writer, offset: str) -> tuple[str, str]:
    """Offsets and a mask with which ONNX's operator treats borders as MXNet's without a mask does.

    A pixel at p = place + offset counts whole where 0 <= p < length, up to a pixel past the last one's middle, and
    not at all elsewhere; ONNX's (and MXNet's with a mask) lets it fade over the pixel before and after the image:

        mask = 0 <= p < length, in both directions;    offset' = min(max(p, 0), length - 1) - place
    """
    places = _places(node, write)
    lengths = np.array(write.tensor(node).shape[2:] * (places.shape[1] // 2), np.float32).reshape(1, -1, 1, 1)
    start, first = write.constant(places), write.constant(0, np.float32)
    found = write("Add", offset, start)
    inside = write("And", write("GreaterOrEqual", found, first), write("Less", found, write.constant(lengths)))
    pairs = write("Reshape", write("Cast", inside, to=write.type(np.float32)),
                  write.integers(0, places.shape[1] // 2, 2, *places.shape[2:]))
    mask = write.reduce("Min", pairs, [2], keepdims=False)
    nearest = write("Min", write("Max", found, first), write.constant(lengths - 1))
    return write("Sub", nearest, start), mask


def _places(node: Node, write: Writer) -> np.ndarray:
    """float32 array (1, 2 * groups * kernel, height, width): (y, x) of where each weight meets the image."""
    kernel, windows = node.get("kernel"), _windows(node)
    along = [np.arange(length)[None, :] * stride - pad + np.arange(size)[:, None] * dilation
             for length, stride, pad, size, dilation in zip(write.made(node).shape[2:], windows["strides"],
                                                            windows["pads"], kernel, windows["dilations"])]
    shape = (*kernel, *write.made(node).shape[2:])
    y = np.broadcast_to(along[0][:, None, :, None], shape)
    x = np.broadcast_to(along[1][None, :, None, :], shape)
    one_group = np.stack([y, x], axis=2).reshape(1, -1, *shape[2:])
    return np.tile(one_group, (1, node.get("num_deformable_group", 1), 1, 1)).astype(np.float32)
