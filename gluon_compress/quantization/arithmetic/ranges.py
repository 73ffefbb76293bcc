"""The values that a tensor of integers can hold."""
from __future__ import annotations

from dataclasses import dataclass

from ..integers.onednn import codes_per_unit


@dataclass(frozen=True)
class Range:
    """The values that a tensor of integers can hold: [-threshold, threshold], or [0, threshold] without a sign."""

    threshold: float
    signed: bool
    bits: int = 8

    @property
    def codes(self) -> tuple[int, int]:
        """The lowest and the highest code."""
        return (-2 ** (self.bits - 1), 2 ** (self.bits - 1) - 1) if self.signed else (0, 2 ** self.bits - 1)

    @property
    def scale(self) -> float:
        """What one step stands for, in units of the values."""
        return self.threshold / self.codes[1]

    @property
    def per_unit(self) -> float:
        """Codes per unit of the values: 1 / scale, with the kernels' rounding."""
        return codes_per_unit(self.scale, self.signed)
