"""One layer's weights as integers: what costs least in error and bits, each error fed back to the weights after it.

    step^2 = 6 coarse^2 price / (ln 2  mean of g  mean of s)

With ``coarse`` = 1 that is where uniform rounding gains as much error as it saves bits (Gish & Pierce, 1968). The
weights of a row are rounded in the order in which they are coded; s_i is what the error of weight i costs once the
later ones have taken over what they can (Frantar et al., "GPTQ", 2023; with the coder's bits: Conzelmann and Bamler,
2025).
"""
from __future__ import annotations

import numpy as np

from ...coding.rounding import round_and_code
from .curvature import Curvature

DAMPING = 0.03  # of the mean of the diagonal, added to it
LARGEST = 127
ALL_ZERO = 4.0  # times the largest weight: no step has to be longer
MOST_GAIN = 2.0


def rounded(weight: np.ndarray, curvature: Curvature, found: tuple[np.ndarray, np.ndarray], price: float,
            coarse: float) -> tuple[np.ndarray, np.float32, int]:
    """``(codes, scale, bytes)``: int8 codes of the weight's shape, what a code is worth, and how many bytes they take.

    Parameters
    ----------
    weight : array (outputs, ...)
    curvature : Curvature
    found : tuple
        :func:`factors` of it.
    price : float
        What a bit is worth, in the unit of the curvature.
    coarse : float
        By how much steps are larger than uniform rounding of independent weights would have them.
    """
    feedback, stiffness = found
    largest = max(float(np.abs(weight).max()), np.finfo(np.float32).tiny * LARGEST)
    paid = float(curvature.shares.mean() * stiffness.mean())  # nothing where the outputs do not see the layer
    step = coarse * np.sqrt(6 / np.log(2) * price / paid) if paid else np.inf
    step = float(np.clip(step, largest / LARGEST, ALL_ZERO * largest))
    importance = curvature.shares / price * step ** 2
    codes, size = round_and_code(weight / step, importance, stiffness, feedback, LARGEST)
    return codes.astype(np.int8), np.float32(step * _gain(weight, codes * step, curvature)), size


def best_shift(error: np.ndarray, curvature: Curvature) -> np.ndarray:
    """What to add to the bias where the weights lost ``error`` (outputs, ...)."""
    moments = curvature.moments
    return error.reshape(len(error), -1) @ moments[:-1, -1] / max(moments[-1, -1], np.finfo(float).tiny)


def factors(moments: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """What of an error each later weight takes over (inputs, inputs), and what is left of it to pay (inputs,)."""
    mean = np.trace(moments[:-1, :-1]) / (len(moments) - 1)
    damped = moments + np.eye(len(moments)) * (DAMPING * mean + np.finfo(np.float32).tiny)
    inverse = np.linalg.inv(damped)
    factor = np.linalg.cholesky((inverse + inverse.T) / 2).T
    diagonal = np.diag(factor)
    return (-factor / diagonal[:, None])[:-1, :-1].astype(np.float32), (diagonal[:-1] ** -2).astype(np.float32)


def _gain(weight: np.ndarray, found: np.ndarray, curvature: Curvature) -> float:
    """By how much the outputs are too small all together."""
    moments, bias = curvature.moments[:-1, :-1], curvature.moments[:-1, -1]
    moments = moments - np.outer(bias, bias) / max(curvature.moments[-1, -1], np.finfo(float).tiny)
    rows, found = (array.reshape(len(array), -1).astype(np.float64) for array in (weight, found))
    along = rows @ moments
    wanted, had = (curvature.shares @ (along * array).sum(axis=1) for array in (rows, found))
    return float(wanted / had) if 0 < wanted < MOST_GAIN * had else 1.0  # of few samples they may be rounding errors
