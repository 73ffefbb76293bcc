"""What MXNet's integer kernels do with the numbers they are given, measured on MXNet 1.9.1.

A kernel gets fp32 ranges and weights and makes codes of them itself. Its scales are not quite the usual ones:

    signed    code = round(x * 127.5 / threshold)     in [-128, 127]
    unsigned  code = round(x * 255.5 / threshold)     in [0, 255]
    weights   code = round(w * 127.5 / max|w|)        per output channel

so that with ``threshold = max|x|`` a code is worth 1 / 127.5 of it, not 1 / 127. What follows gives them thresholds and
weights from which they recover exactly the codes and the scales that are meant.

Without VNNI (or AMX) a kernel adds two products of 8 bits in 16, where sums beyond 32767 are cut: see narrow.py.
"""
from __future__ import annotations

import functools
import platform
import sys
from typing import Any

import mxnet as mx
import numpy as np

from ...errors import NetworkError
from ..arithmetic.arrays import largest_code, quantize_array

SIGNED_LOW, SIGNED_HIGH, UNSIGNED_HIGH = -128, 127, 255
SIGNED_LEVELS, UNSIGNED_LEVELS = 127.5, 255.5
OUTWARD = 1 + 1e-6  # the threshold of a weight is 127.5 steps, or in float32 just below: its code must be 127 or -128
NEARLY_ZERO = np.float32(1e-12)
ZERO_SCALE = NEARLY_ZERO / np.float32(SIGNED_LEVELS)  # of a channel of zeros: so small that its bias is not rounded


def missing() -> str | None:
    """Why int8 networks cannot run here, or None."""
    if platform.machine() not in ("x86_64", "AMD64"):
        return f"the integer kernels need an x86-64 processor, this is {platform.machine()}"
    if sys.platform == "win32":
        return "MXNet's Windows build has no integer kernels"
    if not mx.runtime.Features().is_enabled("MKLDNN"):
        return "this build of MXNet has no oneDNN"
    return None


def check_available(bits: int = 8) -> None:
    """Raise ``NetworkError`` where networks of so many bits cannot run on the integer kernels."""
    reason = missing() or (None if bits == 8 else f"the integer kernels know 8 bits only, not {bits}")
    if reason:
        raise NetworkError(f"the integer network cannot run here: {reason}; simulate=True runs the same arithmetic in "
                           f"fp32")


@functools.cache
def saturates() -> bool:
    """Whether kernels add two products in 16 bits here, by trying one. False where there are none."""
    if missing():
        return False
    return not _multiplies(np.full((1, 64, 1, 1), UNSIGNED_HIGH), np.full((64, 64, 1, 1), SIGNED_HIGH))


@functools.cache
def loses_five() -> bool:
    """Whether 1x1 convolutions over five places give something else, as those of oneDNN 2.4.4 do with AVX-512 alone.

    Signed and unsigned ones of 128 channels and more that move by one place, on images with and without a depth.
    """
    numbers = np.arange(256 * 256)
    return not missing() and not _multiplies(numbers[:1280].reshape(1, 256, 5, 1) * 7 % 256,
                                             (numbers * 11 % 129 - 64).reshape(256, 256, 1, 1))


def _multiplies(data: np.ndarray, weight: np.ndarray) -> bool:
    """Whether a 1x1 convolution of these codes gives the sums of their products."""
    low, high = mx.nd.array([-1.0]), mx.nd.array([1.0])
    sums, *_ = mx.nd.contrib.quantized_conv(mx.nd.array(data, dtype="uint8"), mx.nd.array(weight, dtype="int8"), low,
                                            high, low, high, kernel=(1, 1), num_filter=len(weight), no_bias=True)
    return np.array_equal(sums.asnumpy()[0, :, :, 0], weight[:, :, 0, 0] @ data[0, :, :, 0])


def threshold_for(scale: Any, signed: bool) -> Any:
    """The end of a range for which a code is worth ``scale``."""
    return scale * (SIGNED_LEVELS if signed else UNSIGNED_LEVELS)


def codes_per_unit(scale: Any, signed: bool) -> Any:
    """1 / ``scale`` as a kernel computes it, in float32."""
    return np.float32(SIGNED_LEVELS if signed else UNSIGNED_LEVELS) / np.float32(threshold_for(scale, signed))


def weight_grid(bits: int) -> tuple[float, int, int]:
    """``(steps from 0 to the threshold, lowest code, highest code)`` of weights."""
    return (SIGNED_LEVELS, SIGNED_LOW, SIGNED_HIGH) if bits == 8 else (largest_code(bits), -largest_code(bits),
                                                                       largest_code(bits))


def weight_codes(weight: np.ndarray, bits: int = 8, clip: str = "max",
                 one_scale: bool = False) -> tuple[np.ndarray, np.ndarray]:
    """Codes and scales of each output channel, of 8 bits on the grid that the kernels have for weights.

        scale = threshold / 127.5        code = round(w / scale) in [-128, 127]

    Parameters
    ----------
    weight : array (channels, ...)
    bits : int
        With fewer than 8, which no kernel knows, codes and scales are those of :func:`quantize_array`.
    clip : str
        How thresholds are chosen, as for :func:`quantize_array`.
    one_scale : bool
        Whether all channels have the same scale, with 8 bits.

    Returns
    -------
    codes : int8 array of the weight's shape
        The largest of each channel, or of all where they have one scale, is 127 or -128, or all are 0.
    scale : float32 array (channels,)
        ZERO_SCALE where all are 0.
    """
    if one_scale and bits == 8:
        codes, scale = weight_codes(weight.reshape(1, -1), bits, clip)
        return codes.reshape(weight.shape), scale.repeat(len(weight))
    codes, scale = quantize_array(weight, bits, 0, clip)
    if bits == 8:
        scale = scale * np.float32(SIGNED_HIGH / SIGNED_LEVELS)
        steps = weight.astype(np.float64) / scale.reshape(-1, *[1] * (weight.ndim - 1))
        codes = np.clip(np.rint(steps * OUTWARD), SIGNED_LOW, SIGNED_HIGH).astype(np.int8)
    used = codes.reshape(len(codes), -1).any(axis=1)
    return codes, np.where(used, scale, ZERO_SCALE)


def weight_for(codes: np.ndarray, scale: np.ndarray) -> np.ndarray:
    """An fp32 weight from which a kernel makes these codes and scales; both of :func:`weight_codes`."""
    rows = codes.reshape(len(codes), -1)
    weight = rows.astype(np.float32) * scale[:, None]
    for row, row_codes, ends in zip(weight, rows, scale * np.float32(SIGNED_LEVELS)):
        end = _rounds_up(ends)
        row[row_codes == SIGNED_HIGH] = end  # to 128, which is cut to 127
        row[row_codes == SIGNED_LOW] = -end
        if not row.any():
            row[0] = NEARLY_ZERO  # a kernel divides by the largest
    return weight.reshape(codes.shape)


def _rounds_up(end: np.float32) -> np.float32:
    """The first number from ``end`` on that a kernel's float32 scales to no less than 127.5."""
    levels = np.float32(SIGNED_LEVELS)
    with np.errstate(over="ignore"):  # of ends below float32's normal numbers, whose scale is infinite
        while end * (levels / end) < levels:
            end = np.nextafter(end, np.float32(np.inf))
    return end
