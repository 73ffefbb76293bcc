"""Symmetric linear quantization of NumPy arrays: the arithmetic that everything else uses.

    scale = max|x| / q_max        with q_max = 2**(bits - 1) - 1, that is 127 for 8 bits
    code  = round(x / scale)      an integer in [-q_max, q_max]
    x     ~ code * scale          off by at most scale / 2

Krishnamoorthi, "Quantizing deep convolutional networks for efficient inference", 2018, section 2.2,
with the restricted range of section 3.1.1 that leaves out -128. A threshold below max|x| can take its place:
see clipping.py. The weights of networks on integers have 127.5 steps instead of 127: see integers/onednn.py.
"""
from __future__ import annotations

from typing import Any

import numpy as np

from ...arguments import check_choice, check_integer, check_number
from .clipping import CLIPS, thresholds

FLOAT32 = np.finfo(np.float32)


def largest_code(bits: int) -> int:
    """``2**(bits - 1) - 1``: one bit is the sign, and there are as many levels below zero as above."""
    return 2 ** (bits - 1) - 1


def quantize_array(x: Any, bits: int = 8, axis: int | None = None, clip: str = "max",
                   percentile: float = 99.9) -> tuple[np.ndarray, Any]:
    """Integer codes and their scale.

    Parameters
    ----------
    x : array of real numbers, not empty
        NumPy's, an NDArray, or a list.
    bits : int
        2 to 8, including the sign.
    axis : int, optional
        One scale for each index along this axis; by default one for the whole array.
    clip : "max", "percentile" or "mse"
        What the largest code stands for. "max": the largest |x|. "percentile": the smallest |x| that at least
        ``percentile`` percent of the numbers do not exceed; where that is 0, as in a sparse array, the largest. "mse":
        the threshold with the least mean squared error that a search finds; the error is never above that of "max".
        Numbers beyond the threshold get the largest code of their sign.
    percentile : float
        Above 0, at most 100; for ``clip="percentile"`` only.

    Returns
    -------
    codes : int8 array of the shape of ``x``
        In [-q_max, q_max]. For each scale, some code is q_max or -q_max, unless all its numbers are zero, or so small
        (below 1e-36) that the scale, a float32, has lost precision.
    scale : float32, or a float32 array ``(x.shape[axis],)``
        Positive; 1 where all values are zero.

    Raises
    ------
    ValueError
        For NaN or infinity, numbers beyond float32's largest, an empty array, arguments out of range.

    >>> quantize_array(np.array([-1.0, 0.5, 0.0]))
    (array([-127,   64,    0], dtype=int8), 0.007874016)
    """
    check_integer("bits", bits, 2, 8)
    check_choice("clip", clip, CLIPS)
    check_number("percentile", percentile, above=0, maximum=100)
    x = as_numbers("x", x)
    axis = _check_axis(axis, x.ndim)
    x = x.astype(np.float64)  # so that the arithmetic below loses neither denormals nor float32's largest numbers
    q_max = largest_code(bits)
    scale = _scale(x, q_max, axis, clip, percentile)
    if clip == "mse":  # the search is not exact, and this is
        unclipped = _scale(x, q_max, axis, "max", percentile)
        better = _squared_error(x, scale, q_max, axis) < _squared_error(x, unclipped, q_max, axis)
        scale = np.where(better, scale, unclipped)[()]
    return _codes(x, scale, q_max, axis), scale


def dequantize_array(codes: Any, scale: Any, axis: int | None = None) -> np.ndarray:
    """``codes * scale`` in float32, the inverse of :func:`quantize_array` up to ``scale / 2``."""
    codes, scale = _array("codes", codes), _array("scale", scale)
    if scale.dtype.kind not in "fiu" or not np.isfinite(scale).all():
        raise ValueError(f"scale is {scale}; accepted: finite numbers")
    scale = scale.astype(np.float32)
    if codes.dtype.kind not in "iu":
        raise TypeError(f"codes have dtype {codes.dtype}; accepted: integers")
    axis = _check_axis(axis, codes.ndim)
    expected = () if axis is None else (codes.shape[axis],)
    if scale.shape != expected:
        raise ValueError(f"scale has shape {scale.shape}; accepted: {expected} for codes of shape {codes.shape} "
                         f"and axis={axis}")
    return codes.astype(np.float32) * along(scale, axis, codes.ndim)


def as_numbers(name: str, array: Any) -> np.ndarray:
    """A NumPy array of real, finite numbers within float32's range; else ``TypeError`` or ``ValueError``."""
    array = _array(name, array)
    if array.dtype.kind not in "fiu":
        raise TypeError(f"{name} has dtype {array.dtype}; accepted: real numbers")
    if array.size == 0:
        raise ValueError(f"{name} is empty")
    smallest, largest = float(array.min()), float(array.max())  # NaN when there is one
    if not (np.isfinite(smallest) and np.isfinite(largest)):
        raise ValueError(f"{name} holds {array[~np.isfinite(array)][0]}; accepted: finite numbers")
    if max(-smallest, largest) > FLOAT32.max:
        raise ValueError(f"{name} holds numbers up to {max(-smallest, largest)}; accepted: up to {FLOAT32.max}, "
                         f"float32's largest")
    return array


def as_numpy(array: Any) -> np.ndarray:
    """A NumPy array made from an NDArray, which NumPy cannot read by itself, or from anything that NumPy can read."""
    return array.asnumpy() if hasattr(array, "asnumpy") else np.asarray(array)


def _array(name: str, array: Any) -> np.ndarray:
    """:func:`as_numpy`; ``ValueError`` that names the argument for lists of different lengths."""
    try:
        return as_numpy(array)
    except ValueError as error:
        raise ValueError(f"{name} is not an array: {error}; accepted: an array of numbers") from None


def _check_axis(axis: int | None, dimensions: int) -> int | None:
    if axis is None:
        return None
    check_integer("axis", axis, -dimensions, dimensions - 1)
    return axis % dimensions


def along(scale: np.ndarray, axis: int | None, dimensions: int) -> np.ndarray:
    """``scale`` shaped to broadcast along ``axis``."""
    return scale if axis is None else scale.reshape([-1 if i == axis else 1 for i in range(dimensions)])


def _scale(x: np.ndarray, q_max: int, axis: int | None, clip: str, percentile: float) -> np.ndarray:
    rows = np.abs(x).reshape(1, -1) if axis is None else np.moveaxis(np.abs(x), axis, 0).reshape(x.shape[axis], -1)
    scale = thresholds(rows, q_max, clip, percentile) / q_max
    return _usable_scale(scale[0] if axis is None else scale, q_max)


def _codes(x: np.ndarray, scale: np.ndarray, q_max: int, axis: int | None) -> np.ndarray:
    codes = np.rint(x / along(scale, axis, x.ndim).astype(np.float64))
    return np.clip(codes, -q_max, q_max).astype(np.int8)


def _squared_error(x: np.ndarray, scale: np.ndarray, q_max: int, axis: int | None) -> np.ndarray:
    """The sum of the squared changes that quantization makes, for each scale."""
    others = None if axis is None else tuple(i for i in range(x.ndim) if i != axis)
    return np.square(dequantize_array(_codes(x, scale, q_max, axis), scale, axis) - x).sum(axis=others)


def _usable_scale(scale: np.ndarray, q_max: int) -> np.ndarray:
    """As float32: positive, with ``q_max * scale`` finite, and the same scale again for numbers quantized with it."""
    rounded = np.asarray(scale).astype(np.float32)
    smallest = np.float32(FLOAT32.smallest_subnormal)
    too_low = rounded.astype(np.float64) * (q_max + 0.5) < scale * q_max  # rounded down to a subnormal, or zero
    rounded = np.where(too_low, rounded + smallest, rounded)
    rounded = np.where(scale == 0, np.float32(1), rounded)  # all zeros
    with np.errstate(over="ignore"):
        overflows = np.isinf(rounded * np.float32(q_max))
    rounded = np.where(overflows, np.nextafter(rounded, np.float32(0)), rounded)
    largest = rounded * np.float32(q_max)  # what dequantize_array makes of the largest code
    return (largest.astype(np.float64) / q_max).astype(np.float32)[()]
