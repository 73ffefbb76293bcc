"""What a BatchNorm does to its channels in inference: y = alpha x + shift.

    alpha = gamma / sqrt(variance + eps)        shift = beta - alpha mean
"""
from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from .nodes import Node

SUFFIXES = (".gamma", "_gamma")


def scale_and_shift(norm: Node, values: Mapping[str, np.ndarray]) -> tuple[np.ndarray, np.ndarray]:
    """``(alpha, beta - alpha * mean)`` of a BatchNorm in inference, in double precision."""
    gamma, beta, mean, variance = (values[norm.parameters[role]] for role in ("gamma", "beta", "mean", "variance"))
    scale = 1 if norm.get("fix_gamma") else gamma.astype(np.float64)
    with np.errstate(all="ignore"):
        # var + eps in float32, as BatchNorm computes it: 1 - eps gives 1, so folding again changes nothing
        deviation = np.sqrt((variance.astype(np.float32) + np.float32(norm.get("eps"))).astype(np.float64))
        alpha = scale / deviation
        return alpha, beta - alpha * mean


def norm_name(norm: Node) -> str:
    """Structural name of a BatchNorm's block."""
    name = norm.parameters.get("gamma", norm.name)
    return next((name.removesuffix(suffix) for suffix in SUFFIXES if name.endswith(suffix)), name)
