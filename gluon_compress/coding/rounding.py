"""Real numbers to integers that cost least in error and bits, under the statistics that the coder has at each.

Rows are rounded one after the other, and each number of a row as the coder comes to it: ``coder.c`` asks itself what
the nearest integer, the next towards zero and zero would take. What a number loses goes on to those after it in its
row, as ``feedback`` says; one that is zero stays zero, as a pruned weight must, and passes on all that came to it.
Without a C compiler the nearest integer is taken, which costs some bits.
"""
from __future__ import annotations

import numpy as np

from . import native
from .arrays import GROUPED, encode
from .arrays import _chosen as chosen
from .arrays import _geometry as geometry_of
from .arrays import _settings as settings_of

__all__ = ["round_and_code"]

COSTS = np.log2(4096 / (np.arange(4097) + 0.5)).clip(0).astype(np.float32)  # bits of an answer of probability p / 4096


def round_and_code(values: np.ndarray, importance: np.ndarray, stiffness: np.ndarray, feedback: np.ndarray | None,
                   largest: int) -> tuple[np.ndarray, int]:
    """``(codes, bytes)``: int32 codes that minimize ``importance stiffness error^2 + bits``, one after the other.

    Parameters
    ----------
    values : array (rows, ...)
        In steps.
    importance : array (rows,)
    stiffness : array (inputs,)
        Of the values of a row.
    feedback : float32 array (inputs, inputs) or None
        What of an error each later value of the row is increased by.
    largest : int
        Magnitude of a code.
    """
    codes = np.rint(values).clip(-largest, largest).astype(np.int32)
    if not codes.any():
        return codes, 0
    rows = np.array(values, np.float32, order="C").reshape(len(values), -1)
    stiffness = np.ascontiguousarray(stiffness, np.float32)
    if feedback is not None:
        feedback = np.ascontiguousarray(feedback, np.float32)
    if not native.library():
        codes = _nearest(rows, feedback, largest).reshape(values.shape)
        return codes, len(encode(codes))
    kind, side, mean = chosen(codes)
    pruned = np.ascontiguousarray(rows == 0, np.uint8)
    content = native.round_values(
        codes, rows, geometry_of(values.shape, side), settings_of(kind % GROUPED, mean),
        np.ascontiguousarray(importance, np.float32), stiffness, feedback, pruned, COSTS, largest)
    return codes, len(content)


def _nearest(rows: np.ndarray, feedback: np.ndarray | None, largest: int) -> np.ndarray:
    codes = np.rint(rows).clip(-largest, largest).astype(np.int32)
    if feedback is None:
        return codes
    kept = rows != 0
    for place in range(rows.shape[1]):
        codes[:, place] = np.rint(rows[:, place]).clip(-largest, largest) * kept[:, place]
        rows[:, place + 1:] += np.outer(rows[:, place] - codes[:, place], feedback[place, place + 1:])
    return codes
