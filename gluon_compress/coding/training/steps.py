"""Step sizes: powers of two to the sixteenth, so that weights alone tell which step they are multiples of."""
from __future__ import annotations

import numpy as np

__all__ = ["LARGEST", "LARGEST_LOG2", "StepOptimizer", "scale_of", "step_of"]

LARGEST = 127  # code
PER_OCTAVE = 16
LARGEST_LOG2 = 100  # of a step, and of what it divides; float32 has 126 octaves on either side of 1


def step_of(log2: float) -> np.float32:
    """The step of the grid that is nearest to ``2 ** log2``."""
    return _on_grid(int(np.rint(log2 * PER_OCTAVE)))


def scale_of(values: np.ndarray) -> np.float32 | None:
    """The largest step of the grid that all ``values`` are multiples of, up to LARGEST; None without one.

    The multiples are float32, rounded to the values' own type. Where all are zero, the step is 1.
    """
    largest = np.abs(values).max(initial=0)
    if not largest:
        return np.float32(1)
    some = np.unique(np.abs(values))
    above = int(np.ceil(np.log2(float(largest)) * PER_OCTAVE))
    for number in range(above, above - PER_OCTAVE * 7 - 2, -1):  # LARGEST is just below seven octaves
        step = _on_grid(number)
        codes = np.rint(some.astype(np.float64) / step)
        if codes[-1] <= LARGEST and np.array_equal((codes.astype(np.float32) * step).astype(some.dtype), some):
            return step
    return None


def _on_grid(number: int) -> np.float32:
    return np.float32(2.0 ** (number / PER_OCTAVE))


def _within(log2: np.ndarray) -> np.ndarray:
    return np.clip(log2, -LARGEST_LOG2, LARGEST_LOG2)


class StepOptimizer:
    """Adam (Kingma & Ba, 2015) on the logarithms of the steps, which it moves by about ``rate`` octaves each time.

    They stay within LARGEST_LOG2.
    """

    def __init__(self, log2: np.ndarray, rate: float) -> None:
        self.log2, self.rate, self.count = _within(np.asarray(log2, np.float64)), rate, 0
        self.mean, self.square = np.zeros_like(self.log2), np.zeros_like(self.log2)

    def move(self, gradient: np.ndarray, factor: float = 1.0) -> None:
        """One update, against ``gradient``, that of the loss by each logarithm, at ``factor`` times the rate."""
        self.count += 1
        self.mean += (gradient - self.mean) * 0.1
        self.square += (gradient ** 2 - self.square) * 0.01
        mean, square = self.mean / (1 - 0.9 ** self.count), self.square / (1 - 0.99 ** self.count)
        self.log2 = _within(self.log2 - factor * self.rate * mean / (np.sqrt(square) + 1e-30))
