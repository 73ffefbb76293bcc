"""One layer's weights as integers: what costs least in error and bits, each error handed on to the weights after it.

    step^2 = 6 coarse^2 price / (ln 2  mean cost of a row  mean cost of an input)

With ``coarse`` = 1 that is where uniform rounding gains as much error as it saves bits (Gish & Pierce, 1968). The
weights of a row are rounded in the order in which they are coded; costs are what is left of an error once the later
weights, and then the later rows, have taken over what they can (Frantar et al., "GPTQ", 2023, for one factor; Tseng et
al., "YAQA", 2025, for both; with the coder's bits: Conzelmann and Bamler, 2025).
"""
from __future__ import annotations

import numpy as np

from ...coding.rounding import Factor, round_and_code
from .curvature import Curvature

# Shares of the diagonal that are added to it. Of the outputs few directions reach the network's, and that the others
# are free holds for small changes only. (A share of each entry, not of their mean: what is dead costs nothing.)
INPUT_DAMPING, OUTPUT_DAMPING = 0.03, 1.0
LEAST = 1e-3  # of the mean of the diagonal, that is added as well
LARGEST = 127
ALL_ZERO = 4.0  # times the largest weight: no step has to be longer
MOST_GAIN = 2.0


def rounded(weight: np.ndarray, curvature: Curvature, factors: tuple[Factor, Factor], price: float,
            coarse: float) -> tuple[np.ndarray, np.float32, int]:
    """``(codes, scale, bytes)``: int8 codes of the weight's shape, what a code is worth, and how many bytes they take.

    Parameters
    ----------
    weight : array (outputs, ...)
    curvature : Curvature
    factors : tuple of Factor
        :func:`factors_of` it.
    price : float
        What a bit is worth, in the unit of the curvature.
    coarse : float
        By how much steps are larger than uniform rounding of independent weights would have them.
    """
    of_rows, of_inputs = factors
    largest = max(float(np.abs(weight).max()), np.finfo(np.float32).tiny * LARGEST)
    paid = float(of_rows.cost.mean() * of_inputs.cost.mean())  # nothing where the outputs do not see the layer
    step = coarse * np.sqrt(6 / np.log(2) * price / paid) if paid else np.inf
    step = float(np.clip(step, largest / LARGEST, ALL_ZERO * largest))
    in_bits = Factor(of_rows.cost / price * step ** 2, of_rows.feedback)
    codes, size = round_and_code(weight / step, in_bits, of_inputs, LARGEST)
    return codes.astype(np.int8), np.float32(step * _gain(weight, codes * step, curvature)), size


def best_shift(error: np.ndarray, curvature: Curvature) -> np.ndarray:
    """What to add to the bias where the weights lost ``error`` (outputs, ...)."""
    moments = curvature.moments
    return error.reshape(len(error), -1) @ moments[:-1, -1] / max(moments[-1, -1], np.finfo(float).tiny)


def factors_of(curvature: Curvature) -> tuple[Factor, Factor]:
    """Of the rows and of the inputs of a layer."""
    of_inputs = factor_of(curvature.moments, INPUT_DAMPING)  # the bias comes last and takes over what it can
    return (factor_of(curvature.outputs, OUTPUT_DAMPING),
            Factor(of_inputs.cost[:-1], of_inputs.feedback[:-1, :-1]))  # type: ignore[index]


def factor_of(curvature: np.ndarray, damping: float) -> Factor:
    """Of a symmetric matrix C, where errors e cost e C e^T; the share ``damping`` of its diagonal is added to that."""
    diagonal = np.diag(curvature)
    damped = curvature + np.diag(damping * diagonal + LEAST * diagonal.mean() + np.finfo(np.float32).tiny)
    inverse = np.linalg.inv(damped)
    root = np.linalg.cholesky((inverse + inverse.T) / 2).T
    scale = np.diag(root)
    return Factor((scale ** -2).astype(np.float32), (-root / scale[:, None]).astype(np.float32))


def _gain(weight: np.ndarray, found: np.ndarray, curvature: Curvature) -> float:
    """By how much the outputs are too small all together."""
    rows, found = (array.reshape(len(array), -1).astype(np.float64) for array in (weight, found))
    along = curvature.outputs @ rows @ curvature.moments_with_best_bias
    wanted, had = (float((along * array).sum()) for array in (rows, found))
    return wanted / had if 0 < wanted < MOST_GAIN * had else 1.0  # of few samples they may be rounding errors
