"""The tables of the model, in integer arithmetic alone, so that they are the same on every machine.

Logistic mixing (Mahoney, "Adaptive weighing of context models for lossless data compression", 2005) adds up predictions
in the domain of ``stretch(p) = ln(p / (1 - p))`` and comes back by ``squash(x) = 1 / (1 + e^-x)``.
"""
from __future__ import annotations

from array import array

__all__ = ["MIXED", "RECIPROCAL", "SQUASH", "STRETCH"]

UNIT = 128  # steps of the stretched domain per nat
MIXED = 1536  # stretched predictions are within -MIXED ... MIXED - 1: 12 nats
LEAST = 16  # of 65536: no prediction is surer, so that a byte can stand for 22,707 answers at most
FRACTION = 80  # bits after the point of the fixed-point numbers below


def _exponentials(count: int) -> list[int]:
    """``e^(x / UNIT)`` for x = 0 ... count - 1, in fixed point: products of ``e^(1 / UNIT)``, a Taylor series."""
    one = 1 << FRACTION
    step, term, order = 0, one, 0
    while term:
        step, order = step + term, order + 1
        term //= UNIT * order
    values = [one]
    while len(values) < count:
        values.append(values[-1] * step >> FRACTION)
    return values


def _squash() -> array[int]:
    """``65536 / (1 + e^-x)`` for x = -MIXED ... MIXED - 1, in units of 1 / UNIT; within LEAST ... 65536 - LEAST."""
    one, grown = 1 << FRACTION, _exponentials(MIXED + 1)
    upper = [(grown[x] << 16) // (one + grown[x]) for x in range(MIXED)]  # x >= 0
    lower = [(one << 16) // (one + grown[-x]) for x in range(-MIXED, 0)]  # x < 0: e^x = 1 / e^-x
    return array("H", [min(max(p, LEAST), (1 << 16) - LEAST) for p in lower + upper])


def _stretch() -> array[int]:
    """``UNIT ln(p / (1 - p))`` for p = (index + 1/2) / 4096, rounded towards zero.

    The largest x whose ``e^(x / UNIT)`` is not above ``p / (1 - p)``, found by walking, as both grow.
    """
    grown, half, x = _exponentials(MIXED + 1), list[int](), 0
    for index in range(2048, 4096):
        odds, rest = 2 * index + 1, 8192 - (2 * index + 1)
        while grown[x + 1] * rest <= odds << FRACTION:
            x += 1
        half.append(x)
    return array("h", [-x for x in reversed(half)] + half)


SQUASH = _squash()
STRETCH = _stretch()
# 65536 / (n + 3/2): the rate of the n-th adaptation, so that a running mean begins as the mean of what it saw.
RECIPROCAL = array("H", [(2 * 65536 + n + 1) // (2 * n + 3) for n in range(256)])
