"""Ranges of activations, from data that streams by once and is not kept.

    scale = T / q_max       with q_max = 2**(bits - 1) - 1 for signed codes, 2**bits - 1 for unsigned ones

The threshold T is to be found. :class:`RangeObserver` keeps the smallest and largest value and a histogram
of |x| of BINS bins over [0, 2**e), with the smallest e for which all values so far fit. When larger values come, e
grows and bins are merged, two (or four, ...) into one. As ranges are powers of two, whole bins always merge. So the
histogram, and with it the threshold, is bit for bit what one pass over all data in any order would have given. At least
half of the bins are below the largest value. A bin is at most 1/4096 of it wide, while a step of 8 bits is 1/255.

Zeros are counted separately: zero has its own code, so they are never in error, and after a ReLU there are so many
that "entropy" would see nothing else.
"""
from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import numpy as np

from ...arguments import check_choice, check_integer, check_number
from ..arithmetic.arrays import as_numbers
from ..arithmetic.clipping import best_fractions, percentile_rank

BINS = 8192
CANDIDATES = 1024  # thresholds that "entropy" compares
MOST_CLIPPED = 0.01  # of the values that are not 0, by "entropy"
FEWEST_BINS = 128  # below the smallest of them, as in the slides; with fewer, a level would hardly group any bins
CHUNK = 2 ** 16  # values that are put into the histogram at a time
ALL_ZERO = 1.0  # T where there were only zeros: any number would do, and this one surprises nobody
SMALLEST = 2.0 ** -118  # of T for other values: T / 255 is then a normal float32
TIE = 1e-9  # divergences that differ by less are equal but for rounding


class RangeObserver:
    """The range of one activation.

        observer = RangeObserver("entropy")
        for batch in batches:
            observer.observe(activation(batch))
        scale = observer.threshold() / (127 if observer.signed else 255)

    Parameters
    ----------
    method : "minmax", "percentile", "entropy" or "mse"
        What T is: the largest |x|; the |x| that ``percentile`` percent of the values do not exceed, to within a
        bin; the one whose clipped and quantized histogram has the least Kullback-Leibler divergence from the
        histogram itself; or the one with the least mean squared error of quantization, clipping included.
    percentile : float
        Above 0, at most 100; for ``method="percentile"`` only.
    bits : int
        2 to 8; including the sign where codes are signed.

    Attributes
    ----------
    minimum, maximum : float
        Of all values; inf and -inf before any are observed.
    count : int
        Number of values.
    signed : bool
        Whether there were negative values.

    "entropy" is Migacz, "8-bit inference with TensorRT", GTC 2017, but clips at most one in a hundred of the values
    that are not 0. Where most of these are nearly equal, as in a plain background, the divergence is least when nothing
    else is left; the shipped LeNet would then fall from 99.4 % to 24.8 % on integers. For the others see Wu et
    al., "Integer quantization for deep learning inference", 2020, section 3.3.
    """

    def __init__(self, method: str = "minmax", percentile: float = 99.99, bits: int = 8) -> None:
        check_choice("method", method, tuple(METHODS))
        check_number("percentile", percentile, above=0, maximum=100)
        check_integer("bits", bits, 2, 8)
        self.method, self.percentile, self.bits = method, percentile, bits
        self.minimum, self.maximum, self.count = math.inf, -math.inf, 0
        self._zeros = 0
        self._histogram = np.zeros(BINS, np.int64)  # of |x| where x is not 0
        self._exponent = _exponent(SMALLEST)  # e

    @property
    def signed(self) -> bool:
        return self.minimum < 0

    def observe(self, array: Any) -> None:
        """Take in the values of an array, NumPy's or an NDArray.

        Raises ``ValueError`` for NaN, infinity, numbers beyond float32's largest and an empty array, ``TypeError``
        for anything but real numbers; the array is then ignored.
        """
        array = as_numbers("the activation", array)
        self.minimum = min(self.minimum, float(array.min()))
        self.maximum = max(self.maximum, float(array.max()))
        self.count += array.size
        if self.method == "minmax":
            return
        self._make_room(_exponent(self._largest()))
        bins_per_unit = BINS / 2.0 ** self._exponent
        values = array.reshape(-1)
        for start in range(0, values.size, CHUNK):
            magnitudes = np.abs(values[start:start + CHUNK].astype(np.float64))
            zeros = magnitudes.size - np.count_nonzero(magnitudes)
            self._histogram += np.bincount((magnitudes * bins_per_unit).astype(np.int64), minlength=BINS)
            self._histogram[0] -= zeros
            self._zeros += zeros

    def threshold(self, signed: bool | None = None) -> float:
        """T, a positive number no larger than the largest |x|, for signed or unsigned codes.

        Parameters
        ----------
        signed : bool, optional
            By default whether there were negative values.

        It is 1 where all values were zero, and 2**-118, about 3e-36, where they were all tiny. Raises ``ValueError``
        when nothing was observed, and when unsigned codes are asked for despite negative values.
        """
        if not self.count:
            raise ValueError("nothing was observed; call observe(array) first")
        if signed is not None and not isinstance(signed, (bool, np.bool_)):
            raise TypeError(f"signed is {signed!r}; accepted: True, False or None")
        if signed is not None and not signed and self.signed:
            raise ValueError(f"signed is False, but there were values down to {self.minimum}; accepted: True or None")
        largest = self._largest()
        if largest <= SMALLEST:
            return SMALLEST if largest else ALL_ZERO
        q_max = 2 ** (self.bits - 1) - 1 if signed or self.signed else 2 ** self.bits - 1
        return float(max(min(METHODS[self.method](self, q_max), largest), SMALLEST))

    def _largest(self) -> float:
        return max(-self.minimum, self.maximum)

    def _make_room(self, exponent: int) -> None:
        """Widen the histogram to [0, 2**exponent)."""
        if exponent > self._exponent:
            merged = 2 ** min(exponent - self._exponent, int(math.log2(BINS)))
            self._histogram = np.pad(self._histogram.reshape(-1, merged).sum(axis=1), (0, BINS - BINS // merged))
            self._exponent = exponent

    def _width(self) -> float:
        return 2.0 ** self._exponent / BINS

    def _used(self) -> np.ndarray:
        """The histogram up to the largest value's bin."""
        return self._histogram[:np.flatnonzero(self._histogram)[-1] + 1]

    def _minmax(self, q_max: int) -> float:
        return self._largest()

    def _percentile(self, q_max: int) -> float:
        position = percentile_rank(self.count, self.percentile) - self._zeros  # among the values that are not zero
        if position <= 0:  # the percentile itself is 0, which is no threshold
            return self._largest()
        return float(np.searchsorted(np.cumsum(self._histogram), position) + 1) * self._width()  # the bin's upper end

    def _entropy(self, q_max: int) -> float:
        used, levels = self._used(), q_max + 1
        step = max(1, len(used) // CANDIDATES)
        kept = np.searchsorted(np.cumsum(used), (1 - MOST_CLIPPED) * used.sum()) + 1
        candidates = np.arange(len(used), max(levels, FEWEST_BINS, kept) - 1, -step)
        divergence = divergences(used, levels, candidates)
        best = np.flatnonzero(divergence <= divergence.min() + TIE)[0]  # among equals, the one that clips least
        return candidates[best] * self._width()

    def _mse(self, q_max: int) -> float:
        used = np.flatnonzero(self._histogram)
        centres = np.minimum((used + 0.5) * self._width(), self._largest())
        (fraction,) = best_fractions((centres / self._largest())[None], q_max, self._histogram[used])
        return fraction * self._largest()


# {method: the threshold that it finds for codes up to q_max, before it is limited to what was seen}
METHODS: dict[str, Callable[[RangeObserver, int], float]] = {
    "minmax": RangeObserver._minmax, "percentile": RangeObserver._percentile, "entropy": RangeObserver._entropy,
    "mse": RangeObserver._mse}


def divergences(counts: np.ndarray, levels: int, candidates: np.ndarray) -> np.ndarray:
    """Kullback-Leibler divergence, in nats, of clipping a histogram after i bins, for each i of ``candidates``.

        P = counts[:i], with all that is beyond added to P[i - 1]; then P / sum(P)
        Q = counts[:i] in ``levels`` groups of i / levels bins each, the sum of a group being spread evenly over
            those of its bins that are not empty; then Q / sum(Q)
        KL(P || Q) = sum of P * log(P / Q) = sum of P * log P - sum of P * log Q      over the bins where P > 0

    Q is constant within a group, so the second sum needs one term for each group, and sums over bins are
    differences of cumulative sums: no loop over bins, nor over candidates. Infinite where P[i - 1] > 0 = Q[i - 1].

    Parameters
    ----------
    counts : int array (bins,)
    levels : int
        At most the smallest candidate.
    candidates : int array
        In [1, bins].
    """
    total = counts.sum()
    inside = _before(counts)[candidates]  # sum(counts[:i])
    beyond = total - inside
    last = counts[candidates - 1]
    p_log_p = _before(_x_log_x(counts))[candidates] - _x_log_x(last) + _x_log_x(last + beyond)
    starts = -(-np.multiply.outer(candidates, np.arange(levels + 1)) // levels)  # bin j is in group j * levels // i
    groups = np.diff(_before(counts)[starts])
    not_empty = np.diff(_before(counts > 0)[starts])
    with np.errstate(divide="ignore", invalid="ignore"):
        log_q = np.where(groups > 0, np.log(groups / not_empty / inside[:, None]), 0)
    p_log_q = (groups * log_q).sum(axis=1) + beyond * log_q[:, -1]
    divergence = (p_log_p - p_log_q) / total - np.log(total)
    return np.where((beyond > 0) & (last == 0), np.inf, divergence)


def _before(values: np.ndarray) -> np.ndarray:
    """Sum of all values before each index, and last of all."""
    return np.concatenate([[0], np.cumsum(values)])


def _x_log_x(x: np.ndarray) -> np.ndarray:
    return x * np.log(np.maximum(x, 1))  # of counts: 0 at 0


def _exponent(value: float) -> int:
    """The smallest e with value < 2**e, but not so small that thresholds would be subnormal numbers."""
    return math.frexp(max(value, SMALLEST))[1]
