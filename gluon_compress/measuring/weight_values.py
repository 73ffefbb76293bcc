"""What can be said of a layer's values: their histogram, and how few bytes an entropy coder could give them."""
from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np

HALF = 32  # bins on each side of zero, at most
SAMPLE = 1 << 14  # values by which it is decided whether a table of distinct values can pay off
CHUNK = 1 << 20


@dataclass(frozen=True)
class Histogram:
    """How many values lie where; zeros are counted apart.

    Bin ``i`` holds the values in ``[(first + i) * width, (first + i + 1) * width)`` with ``width = 2 ** exponent``, so
    that histograms of different ranges can be brought to the same bins.

    Attributes
    ----------
    exponent : int
    first : int
    counts : list of int
        Without the values that are exactly zero.
    zeros : int
    """

    exponent: int
    first: int
    counts: list[int]
    zeros: int

    @property
    def width(self) -> float:
        """Of a bin, in units of the values."""
        return 2.0 ** self.exponent

    @property
    def total(self) -> int:
        """How many values there are, zeros included."""
        return sum(self.counts) + self.zeros

    def coarser(self, exponent: int) -> Histogram:
        """The same values in bins of width ``2 ** exponent``, which is not less than that of the bins as they are."""
        merged = 1 << (exponent - self.exponent)
        first = self.first // merged
        counts = [0] * ((self.first + len(self.counts) - 1) // merged - first + 1 if self.counts else 0)
        for index, count in enumerate(self.counts, self.first):
            counts[index // merged - first] += count
        return Histogram(exponent, first, counts, self.zeros)


def histogram(arrays: Iterable[np.ndarray]) -> Histogram | None:
    """The :class:`Histogram` of all finite values of ``arrays`` together; None where there are none."""
    pieces = [piece for array in arrays for piece in _pieces(array)]
    largest = max((float(np.abs(piece).max()) for piece in pieces), default=0.0)
    if not pieces:
        return None
    exponent = math.frexp(largest / HALF)[1] if largest else 0  # the smallest with largest < HALF * 2**exponent
    counts, zeros = np.zeros(2 * HALF, np.int64), 0
    for piece in pieces:
        nonzero = piece[piece != 0].astype(np.float64)
        zeros += piece.size - nonzero.size
        places = np.floor(np.ldexp(nonzero, -exponent)).astype(np.int64) + HALF
        counts += np.bincount(places, minlength=2 * HALF)
    filled = np.flatnonzero(counts)
    if not filled.size:
        return Histogram(exponent, 0, [], zeros)
    return Histogram(exponent, int(filled[0]) - HALF, counts[filled[0]:filled[-1] + 1].tolist(), zeros)


def together(histograms: Sequence[Histogram]) -> Histogram | None:
    """One histogram of the values of several, in the widest of their bins; None of none."""
    if not histograms:
        return None
    alike = [each.coarser(max(other.exponent for other in histograms)) for each in histograms]
    filled = [each for each in alike if each.counts]
    first = min((each.first for each in filled), default=0)
    last = max((each.first + len(each.counts) for each in filled), default=0)
    counts = [0] * (last - first)
    for each in filled:
        for index, count in enumerate(each.counts, each.first - first):
            counts[index] += count
    return Histogram(alike[0].exponent, first, counts, sum(each.zeros for each in alike))


def bits_of_codes(codes: np.ndarray) -> float:
    """``n * H`` bits for ``n`` integer codes, ``H = -sum p log2 p`` being their entropy of order zero.

    ``p`` is the share of each code among all. No code that treats the codes as independent of each other is shorter
    (Shannon, "A Mathematical Theory of Communication", 1948); the shares themselves, a few bytes, are not in it.
    """
    return _bits(np.unique(codes, return_counts=True)[1])


def bits_of_numbers(values: np.ndarray) -> float:
    """How many bits an entropy coder of order zero needs for floating-point ``values``: the less of two codes.

    One codes which values are zero, ``n * H(zero or not)`` bits, and writes out all others, 32 bits each (the width of
    their type). The other codes all values, ``n * H`` bits as :func:`bits_of_codes`, and writes out a table of the
    distinct ones; it is only considered where values of a sample occur twice on average.
    """
    flat, width = values.ravel(), 8 * values.dtype.itemsize
    nonzeros = int(np.count_nonzero(flat))
    written_out = _bits(np.array([flat.size - nonzeros, nonzeros])) + width * nonzeros
    sample = flat[flat != 0][::max(1, nonzeros // SAMPLE)]
    if not sample.size or 2 * np.unique(sample).size > sample.size:
        return written_out
    counts = np.unique(flat, return_counts=True)[1]
    return min(written_out, _bits(counts) + width * counts.size)


def _bits(counts: np.ndarray) -> float:
    counts = counts[counts > 0]
    return float(-(counts * np.log2(counts / counts.sum())).sum()) + 0.0


def _pieces(array: np.ndarray) -> list[np.ndarray]:
    """The finite values of an array in pieces that are worked on one after the other."""
    flat = array.ravel()
    pieces = (flat[start:start + CHUNK] for start in range(0, flat.size, CHUNK))
    finite = (piece if np.isfinite(piece).all() else piece[np.isfinite(piece)] for piece in pieces)
    return [piece for piece in finite if piece.size]
