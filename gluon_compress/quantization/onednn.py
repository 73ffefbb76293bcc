"""What MXNet's integer kernels do with the numbers they are given, measured on MXNet 1.9.1.

A kernel gets fp32 ranges and weights and makes codes of them by itself. Its scales are not quite the usual ones:

    signed    code = round(x * 127.5 / threshold)     in [-128, 127]
    unsigned  code = round(x * 255.5 / threshold)     in [0, 255]
    weights   code = round(w * 127.5 / max|w|)        per output channel

so that with ``threshold = max|x|`` a code is worth 1 / 127.5 of it, not 1 / 127. What follows gives them thresholds and
weights from which they recover exactly the codes and the scales that are meant.
"""
import platform
import sys

import mxnet as mx
import numpy as np

from ..errors import NetworkError

SIGNED_LOW, SIGNED_HIGH, UNSIGNED_HIGH = -128, 127, 255
SIGNED_LEVELS, UNSIGNED_LEVELS = 127.5, 255.5
NEARLY_ZERO = np.float32(1e-12)


def missing():
    """Why int8 networks cannot run here, or None."""
    if platform.machine() not in ("x86_64", "AMD64"):
        return f"the integer kernels need an x86-64 processor, this is {platform.machine()}"
    if sys.platform == "win32":
        return "MXNet's Windows build has no integer kernels"
    if not mx.runtime.Features().is_enabled("MKLDNN"):
        return "this build of MXNet has no oneDNN"
    return None


def check_available(bits=8):
    """Raise ``NetworkError`` where networks of so many bits cannot run on the integer kernels."""
    reason = missing() or (None if bits == 8 else f"the integer kernels know 8 bits only, not {bits}")
    if reason:
        raise NetworkError(f"the integer network cannot run here: {reason}; simulate=True runs the same arithmetic in "
                           f"fp32")


def threshold_for(scale, signed):
    """The end of a range for which a code is worth ``scale``."""
    return scale * (SIGNED_LEVELS if signed else UNSIGNED_LEVELS)


def codes_per_unit(scale, signed):
    """1 / ``scale`` as a kernel computes it, in float32."""
    return np.float32(SIGNED_LEVELS if signed else UNSIGNED_LEVELS) / np.float32(threshold_for(scale, signed))


def weight_for(codes, scale):
    """An fp32 weight of which a kernel makes these codes with these scales.

    Parameters
    ----------
    codes : int8 array (channels, ...)
        In [-127, 127], the largest of each channel being 127 or -127, or all 0.
    scale : float32 array (channels,)
    """
    rows = codes.reshape(len(codes), -1)
    weight = rows.astype(np.float32) * scale[:, None].astype(np.float32)
    for channel in range(len(rows)):
        row, largest = weight[channel], scale[channel] * np.float32(SIGNED_LEVELS)
        if (rows[channel] == SIGNED_HIGH).any():
            row[rows[channel] == SIGNED_HIGH] = largest  # rounds to 128, which is cut to 127
        elif (rows[channel] == -SIGNED_HIGH).any():
            row[rows[channel] == -SIGNED_HIGH] = -_below_half(largest)
        else:
            row[0] = NEARLY_ZERO  # a kernel divides by the largest
    return weight.reshape(codes.shape)


def _below_half(largest):
    """The nearest number at least as large as ``largest`` that a kernel's float32 scales to less than 127.5."""
    levels = np.float32(SIGNED_LEVELS)
    while not largest * (levels / largest) < levels:
        largest = np.nextafter(largest, np.float32(np.inf))
    return largest
