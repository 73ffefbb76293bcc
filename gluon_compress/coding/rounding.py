"""Real numbers to integers that cost least in error and bits, under the statistics that the coder has at each.

Rows are rounded one after the other, and each number of a row as the coder comes to it: ``rounding.h`` asks itself what
the nearest integer, the next towards zero and zero would take. What a number loses goes on to those after it in its
row, and what a row loses to the rows after it, as their ``Factor`` says; a number that is zero stays zero, as a pruned
weight must, and passes on all that came to it. Without a C compiler the nearest integer is taken, which costs some
bits.
"""
from __future__ import annotations

from typing import NamedTuple

import numpy as np

from . import native
from .arrays import encode
from .choosing import GROUPED, chosen_by_mixing, geometry_of, settings_of

__all__ = ["Factor", "round_and_code"]

COSTS = np.log2(4096 / (np.arange(4097) + 0.5)).clip(0).astype(np.float32)  # bits of an answer of probability p / 4096


class Factor(NamedTuple):
    """What errors cost along one axis of a matrix.

    Attributes
    ----------
    cost : array (count,)
        Of a square error of each, once the later ones have taken over what they can.
    feedback : array (count, count) or None
        What of the error of one each later one is increased by.
    """

    cost: np.ndarray
    feedback: np.ndarray | None = None

    def in_units(self, units: np.ndarray) -> Factor:
        """Of errors that are counted in these ``units`` (count,)."""
        feedback = None if self.feedback is None else self.feedback * (units[:, None] / units)
        return Factor(self.cost * units ** 2, feedback)


def round_and_code(values: np.ndarray, of_rows: Factor, of_inputs: Factor, largest: int) -> tuple[np.ndarray, int]:
    """``(codes, bytes)``: int32 codes that minimize ``of_rows.cost of_inputs.cost error^2 + bits``, one by one.

    Parameters
    ----------
    values : array (rows, ...)
        In steps.
    of_rows, of_inputs : Factor
        Of the rows, and of the values of a row.
    largest : int
        Magnitude of a code.
    """
    codes = np.rint(values).clip(-largest, largest).astype(np.int32)
    if not codes.any():
        return codes, 0
    rows = np.array(values, np.float32, order="C").reshape(len(values), -1)
    of_rows, of_inputs = _contiguous(of_rows), _contiguous(of_inputs)
    if not native.library():
        codes = _nearest(rows, of_rows.feedback, of_inputs.feedback, largest).reshape(values.shape)
        return codes, len(encode(codes))
    kind, side, mean = chosen_by_mixing(codes)
    content = native.round_values(codes, rows, geometry_of(values.shape, side), settings_of(kind % GROUPED, mean),
                                  of_rows, of_inputs, np.ascontiguousarray(rows == 0, np.uint8), COSTS, largest)
    return codes, len(content)


def _contiguous(factor: Factor) -> Factor:
    feedback = None if factor.feedback is None else np.ascontiguousarray(factor.feedback, np.float32)
    return Factor(np.ascontiguousarray(factor.cost, np.float32), feedback)


def _nearest(rows: np.ndarray, across: np.ndarray | None, along: np.ndarray | None, largest: int) -> np.ndarray:
    """A column at a time, which comes to the same where no bits are asked for."""
    kept, codes = rows != 0, np.zeros(rows.shape, np.int32)
    for place in range(rows.shape[1]):
        wanted, column = rows[:, place].copy(), rows[:, place]
        for row, share in enumerate(() if across is None else across):
            code = np.rint(column[row]).clip(-largest, largest) * kept[row, place]
            column[row + 1:] += (column[row] - code) * share[row + 1:]
        codes[:, place] = np.rint(column).clip(-largest, largest) * kept[:, place]
        if along is not None:
            rows[:, place + 1:] += np.outer(wanted - codes[:, place], along[place, place + 1:])
    return codes
