"""Symmetric linear quantization of NumPy arrays: the arithmetic everything else uses.

    scale = max|x| / q_max        with q_max = 2**(bits - 1) - 1, that is 127 for 8 bits
    code  = round(x / scale)      an integer in [-q_max, q_max]
    x     ~ code * scale          off by at most scale / 2

Krishnamoorthi, "Quantizing deep convolutional networks for efficient inference", 2018, section 2.2,
with the restricted range of section 3.1.1 that leaves out -128.
"""
import numpy as np

from ..arguments import check_integer


def largest_code(bits):
    """``2**(bits - 1) - 1``: one bit is the sign, and both sides have as many levels."""
    return 2 ** (bits - 1) - 1


def quantize_array(x, bits=8, axis=None):
    """Integer codes and their scale.

    Parameters
    ----------
    x : array of real numbers, not empty
        NumPy's, an NDArray, or a list.
    bits : int
        2 to 8, the sign counted.
    axis : int, optional
        One scale for each index along this axis; by default one for the whole array.

    Returns
    -------
    codes : int8 array of the shape of ``x``
        In [-q_max, q_max].
    scale : float32, or a float32 array ``(x.shape[axis],)``
        Positive; 1 where all values are zero.

    Raises
    ------
    ValueError
        For NaN or infinity, numbers beyond float32's largest, an empty array, bits or axis out of range.

    >>> quantize_array(np.array([-1.0, 0.5, 0.0]))
    (array([-127,   64,    0], dtype=int8), 0.007874016)
    """
    check_integer("bits", bits, 2, 8)
    x = _as_numpy(x)
    if x.dtype.kind not in "fiu":
        raise TypeError(f"x has dtype {x.dtype}; accepted: real numbers")
    if x.size == 0:
        raise ValueError("x is empty")
    if not np.isfinite(x).all():
        raise ValueError(f"x holds {x[~np.isfinite(x)][0]}; accepted: finite numbers")
    axis = _check_axis(axis, x.ndim)
    q_max = largest_code(bits)
    if np.abs(x.astype(np.float64)).max() > np.finfo(np.float32).max:
        raise ValueError(f"x holds numbers up to {np.abs(x).max()}; accepted: up to {np.finfo(np.float32).max}, "
                         f"float32's largest")
    x = x.astype(np.float64)  # so that neither denormals nor float32's largest numbers are lost below
    others = None if axis is None else tuple(i for i in range(x.ndim) if i != axis)
    scale = _usable_scale(np.abs(x).max(axis=others) / q_max, q_max)
    codes = np.rint(x / along(scale, axis, x.ndim).astype(np.float64))
    return np.clip(codes, -q_max, q_max).astype(np.int8), scale


def dequantize_array(codes, scale, axis=None):
    """``codes * scale`` in float32, the inverse of :func:`quantize_array` up to ``scale / 2``."""
    codes, scale = _as_numpy(codes), _as_numpy(scale)
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


def _as_numpy(array):
    return array.asnumpy() if hasattr(array, "asnumpy") else np.asarray(array)  # NumPy cannot read an NDArray


def _check_axis(axis, dimensions):
    if axis is None:
        return None
    check_integer("axis", axis, -dimensions, dimensions - 1)
    return axis % dimensions


def along(scale, axis, dimensions):
    """``scale`` shaped to broadcast along ``axis``."""
    return scale if axis is None else scale.reshape([-1 if i == axis else 1 for i in range(dimensions)])


def _usable_scale(scale, q_max):
    """As float32: positive, ``q_max * scale`` finite, and the same again for numbers quantized with it."""
    rounded = np.asarray(scale).astype(np.float32)
    smallest = np.float32(np.finfo(np.float32).smallest_subnormal)
    too_low = rounded.astype(np.float64) * (q_max + 0.5) < scale * q_max  # rounded down to a subnormal, or zero
    rounded = np.where(too_low, rounded + smallest, rounded)
    rounded = np.where(scale == 0, np.float32(1), rounded)  # all zeros
    with np.errstate(over="ignore"):
        overflows = np.isinf(rounded * np.float32(q_max))
    rounded = np.where(overflows, np.nextafter(rounded, np.float32(0)), rounded)
    largest = rounded * np.float32(q_max)  # what dequantize_array makes of the largest code
    return (largest.astype(np.float64) / q_max).astype(np.float32)[()]
