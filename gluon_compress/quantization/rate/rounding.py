"""One layer's weights as integers: what costs least in error and bits, each error handed on to the weights after it.

    step^2 = 6 coarse^2 price / (ln 2  cost of the row  mean cost of an input)

With ``coarse`` = 1 that is where uniform rounding gains as much error as it saves bits (Gish & Pierce, 1968). Where all
rows share the step of their mean cost, those that cost less are rounded finer than they need, which takes

    1/2 log2(mean cost of a row / geometric mean of the rows' costs)

bits a weight more: with steps of their own they take less, if there are more weights than the scales take room for. The
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
SMALLEST_ROW = 1e-6  # of the largest weight: what a row's counts as at least
MOST_GAIN = 2.0
SIGNIFICANT = 8  # bits of a scale


def rounded(weight: np.ndarray, curvature: Curvature, factors: tuple[Factor, Factor], price: float, coarse: float,
            per_row: bool) -> tuple[np.ndarray, np.ndarray, int]:
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
    per_row : bool
        Whether the scale is one of each row, (outputs,), or one of all, ().
    """
    of_rows, of_inputs = factors
    largest = np.abs(weight.reshape(len(weight), -1)).max(axis=1, initial=0)
    largest = np.maximum(largest, max(SMALLEST_ROW * largest.max(), np.finfo(np.float32).tiny * LARGEST))
    cost = of_rows.cost
    if not per_row:
        largest, cost = (np.full(len(array), value) for array, value in ((largest, largest.max()), (cost, cost.mean())))
    steps = significant(np.clip(best_steps(cost, of_inputs, price, coarse), largest / LARGEST, ALL_ZERO * largest))
    along_rows = steps.reshape(-1, *[1] * (weight.ndim - 1))
    in_bits = Factor(of_rows.cost / price, of_rows.feedback).in_units(steps)
    codes, size = round_and_code(weight / along_rows, in_bits, of_inputs, LARGEST)
    scale = significant(steps * _gain(weight, codes * along_rows, curvature)).astype(np.float32)
    return codes.astype(np.int8), scale if per_row else scale[0], size


def best_steps(cost: np.ndarray, of_inputs: Factor, price: float, coarse: float) -> np.ndarray:
    """The steps of the formula above, of rows that cost so much (outputs,); infinite where the outputs do not see them.
    """
    with np.errstate(divide="ignore"):
        return coarse * np.sqrt(6 / np.log(2) * price / (cost * of_inputs.cost.mean(dtype=np.float64)))


def saved_by_own_steps(weight: np.ndarray, factors: tuple[Factor, Factor], price: float, coarse: float) -> float:
    """How many bits fewer the rows take with steps of their own: those of weights that would not be zero."""
    of_rows, of_inputs = factors
    cost = np.maximum(of_rows.cost.astype(np.float64), np.finfo(np.float32).tiny)
    half = best_steps(cost, of_inputs, price, coarse)[:, None] / 2
    kept = np.count_nonzero(np.abs(weight.reshape(len(weight), -1)) > half, axis=1)
    if not kept.any():
        return 0.0
    return float((kept * (np.log2(np.average(cost, weights=kept)) - np.log2(cost))).sum() / 2)


def significant(values: np.ndarray, bits: int = SIGNIFICANT) -> np.ndarray:
    """Rounded to so many bits each: half of a scale's bytes are zero then, and codes lose far more than that."""
    mantissa, exponent = np.frexp(values)
    return np.ldexp(np.rint(mantissa * 2 ** bits) / 2 ** bits, exponent)


def best_shift(error: np.ndarray, curvature: Curvature) -> np.ndarray:
    """What to add to the bias where the weights lost ``error`` (outputs, ...)."""
    moments = curvature.moments
    return error.reshape(len(error), -1) @ moments[:-1, -1] / max(moments[-1, -1], np.finfo(float).tiny)


def factors_of(curvature: Curvature) -> tuple[Factor, Factor]:
    """Of the rows and of the inputs of a layer."""
    of_inputs = factor_of(curvature.moments, INPUT_DAMPING)  # the bias comes last and takes over what it can
    return (factor_of(curvature.of_outputs, OUTPUT_DAMPING),
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
    along = curvature.of_outputs @ rows @ curvature.moments_with_best_bias
    wanted, had = (float((along * array).sum()) for array in (rows, found))
    return wanted / had if 0 < wanted < MOST_GAIN * had else 1.0  # of few samples they may be rounding errors
