"""How many bits each weight takes when it is zero, one step away from zero, two, ...: from the codes of its tensor.

A weight is not zero with the odds of its row, times those of its place in a row, over those of the whole tensor, as if
row and place acted independently; magnitudes are geometric. That is close to what the coder's contexts learn, so that
zeros gather in rows and places, which are neurons, pixels and channels. With the magnitude ``m = |w| / step``,

    bits(m) - bits(0) = first m               for m <= 1
                        first + more (m - 1)  for m >= 1

This connects the lengths at whole m by straight lines: the mean length under rounding that is random and unbiased.
It is a penalty with a gradient, in the manner of Oktay et al., "Scalable model compression by entropy penalized
reparameterization", 2020, who learn the distribution instead.
"""
from __future__ import annotations

from dataclasses import dataclass

import numpy as np

__all__ = ["CodeLengths", "code_lengths"]

PRIOR = 4.0  # how many weights' worth of the whole a row or a place begins with
LEAST, MOST = 1.0, 16.0  # bits
LEAST_MORE, MOST_MORE = 0.1, 4.0


@dataclass(frozen=True)
class CodeLengths:
    """Of one tensor.

    Attributes
    ----------
    zero : float32 array of the tensor's shape
        The bits of a zero.
    first : float32 array of the tensor's shape
        How many more a weight takes that is one step away from zero.
    more : float
        How many more each further step takes.
    """

    zero: np.ndarray
    first: np.ndarray
    more: float

    def bits(self, magnitudes: np.ndarray) -> float:
        """The bits of all weights together, whose magnitudes are given in steps."""
        near = np.minimum(magnitudes, 1)
        return float((self.zero + self.first * near + self.more * (magnitudes - near)).sum(dtype=np.float64))


def code_lengths(codes: np.ndarray) -> CodeLengths:
    """The lengths that the integer ``codes`` of a tensor, ``(outputs, inputs, ...)`` or of one axis, suggest."""
    present = codes != 0
    odds = _odds(present)
    further = (np.abs(codes).sum() - present.sum() + 0.5) / (np.abs(codes).sum() + 1.0)  # of another step, given one
    more = float(np.clip(-np.log2(further), LEAST_MORE, MOST_MORE))
    first = 1 - np.log2(odds) - np.log2(1 - further)  # the sign, and that there is one, and no further one
    zero = np.log2(1 + odds)
    return CodeLengths(zero.astype(np.float32), np.clip(first, LEAST, MOST).astype(np.float32), more)


def _odds(present: np.ndarray) -> np.ndarray:
    """The odds that a weight is not zero."""
    whole = (present.sum() + 0.5) / (present.size + 1)
    if present.ndim < 2:
        return np.full(present.shape, whole / (1 - whole))
    rows = present.reshape(len(present), -1)
    channels = present.reshape(*present.shape[:2], -1)
    row = _smoothed(rows.sum(axis=1), rows.shape[1], whole)
    channel = _smoothed(channels.sum(axis=(0, 2)), len(present) * channels.shape[2], whole)
    place = _smoothed(channels.sum(axis=0), len(present), channel[:, None]).reshape(-1)
    odds = np.outer(row / (1 - row), place / (1 - place)) * (1 - whole) / whole
    return odds.reshape(present.shape)


def _smoothed(count: np.ndarray, size: int, prior: float | np.ndarray) -> np.ndarray:
    return (count + PRIOR * prior) / (size + PRIOR)
