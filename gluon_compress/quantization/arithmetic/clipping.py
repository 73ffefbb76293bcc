"""Where to clip numbers before they are rounded: the threshold T, which the largest code stands for.

    scale = T / q_max
    Q(x)  = clip(round(x / scale), -q_max, q_max) * scale

"max" clips nothing: T = max|x|. A few large numbers then make the steps wide for all the others.
"percentile" clips the largest 100 - p percent of the numbers. "mse" weighs clipping against rounding and takes
the T with the least sum of (x - Q(x))**2: Banner et al., "Post training 4-bit quantization of convolutional
networks for rapid-deployment", NeurIPS 2019, section 3.1, here on the numbers themselves instead of a
distribution fitted to them.
"""
from __future__ import annotations

import math
from fractions import Fraction

import numpy as np

CLIPS = ("max", "percentile", "mse")
STEP = 2 ** (1 / 8)  # ratio of neighbouring fractions of the first search
SMALLEST_FRACTION = 2.0 ** -12  # where it ends at the latest
ROUNDS, TRIALS = 2, 5  # how often the best is refined, and how many fractions are tried on either side of it
BLOCK = 2 ** 18  # numbers processed at a time, to stay in the processor's caches


def thresholds(magnitudes: np.ndarray, q_max: int, clip: str, percentile: float) -> np.ndarray:
    """T of each row of ``magnitudes``, the |x| of one scale; 0 for a row of zeros."""
    largest = magnitudes.max(axis=1)
    if clip == "percentile":
        position = percentile_rank(magnitudes.shape[1], percentile) - 1
        chosen = np.partition(magnitudes, position, axis=1)[:, position]
        return np.where(chosen > 0, chosen, largest)  # so few numbers are nonzero that none would be left
    if clip == "mse":
        # float32 is exact enough for the choice, at half the work; fractions neither overflow nor underflow
        fractions = (magnitudes / np.where(largest > 0, largest, 1)[:, None]).astype(np.float32)
        return largest * best_fractions(fractions, q_max)
    return largest


def percentile_rank(count: int, percentile: float) -> int:
    """How many of ``count`` numbers make up the lower ``percentile`` percent: rounded up, and at least 1."""
    return math.ceil(Fraction(str(percentile)) * count / 100)  # 99.9 as it is written, not its nearest double


def best_fractions(magnitudes: np.ndarray, q_max: int, counts: np.ndarray | int = 1) -> np.ndarray:
    """The T of each row with the least squared error, as a fraction of the row's largest number.

    Parameters
    ----------
    magnitudes : array (rows, numbers)
        In [0, 1], fractions of the row's largest number.
    q_max : int
    counts : array (numbers,), optional
        How often each number occurs.

    The error has many local minima, so this is a search, not a proof: all fractions 1, 1/STEP, 1/STEP**2, ...
    as far down as any row can still gain, then finer steps around the best.
    """
    best = np.ones(len(magnitudes))
    lowest, _ = squared_errors(magnitudes, best, q_max, counts)

    def attempt(fractions: np.ndarray) -> np.ndarray:
        nonlocal best, lowest
        errors, clipping = squared_errors(magnitudes, fractions, q_max, counts)
        best, lowest = np.where(errors < lowest, fractions, best), np.minimum(errors, lowest)
        return clipping

    fraction = 1 / STEP
    while fraction >= SMALLEST_FRACTION:
        clipping = attempt(np.full(len(magnitudes), fraction))
        if (clipping >= lowest).all():  # clipping alone costs more, and still more at smaller fractions
            break
        fraction /= STEP
    step = STEP
    for _ in range(ROUNDS):
        centre, step = best, step ** (1 / (TRIALS + 1))
        for trial in range(-TRIALS, TRIALS + 1):
            attempt(np.minimum(centre * step ** trial, 1))
    return best


def squared_errors(magnitudes: np.ndarray, fractions: np.ndarray, q_max: int,
                   counts: np.ndarray | int = 1) -> tuple[np.ndarray, np.ndarray]:
    """(sum of (x - Q(x))**2, the part of it caused by numbers beyond T) for each row, with its own T."""
    threshold = fractions.astype(magnitudes.dtype)[:, None]
    scale = threshold / magnitudes.dtype.type(q_max)
    counts = np.broadcast_to(counts, magnitudes.shape[1])
    errors, clipping = np.zeros(len(magnitudes)), np.zeros(len(magnitudes))
    columns = max(1, BLOCK // len(magnitudes))
    for start in range(0, magnitudes.shape[1], columns):
        part, weights = magnitudes[:, start:start + columns], counts[start:start + columns]
        codes = np.minimum(np.rint(part / scale), q_max)
        errors += (np.square(part - codes * scale) * weights).sum(axis=1)
        clipping += (np.square(np.maximum(part - threshold, 0)) * weights).sum(axis=1)
    return errors, clipping
