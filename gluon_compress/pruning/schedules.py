"""How fast pruning proceeds: from the share of the steps done to the share of the pruning done.

Every schedule is a plain function ``schedule(progress)`` from [0, 1] to [0, 1] that never falls and ends at 1, so
your own works as well as these. :class:`GradualPruner` uses them for single weights.
"""
from __future__ import annotations

from collections.abc import Callable

from ..arguments import check_number


def one_shot(progress: float) -> float:
    """All at the first step: 1."""
    check_number("progress", progress, minimum=0, maximum=1)
    return 1.0


def linear(progress: float) -> float:
    """The same at each step: ``progress``."""
    check_number("progress", progress, minimum=0, maximum=1)
    return float(progress)


def cubic(progress: float) -> float:
    """Fast at first, while much can be spared, and slow at the end: ``1 - (1 - progress)**3``.

    Between an initial sparsity ``s_i`` and a final one ``s_f``, ``s_i + (s_f - s_i) * cubic(progress)`` is equation 1
    of Zhu & Gupta, "To prune, or not to prune: exploring the efficacy of pruning for model compression", 2017,
    section 3, with ``progress = (t - t_0) / (n * Delta_t)``.
    """
    check_number("progress", progress, minimum=0, maximum=1)
    return 1 - (1 - progress) ** 3


def check_schedule(schedule: Callable[[float], float]) -> None:
    """Raise ``TypeError`` or ``ValueError`` unless ``schedule`` is a function of the kind above."""
    if not callable(schedule):
        raise TypeError(f"schedule is {schedule!r}; accepted: one_shot, linear, cubic, or a function of yours from "
                        f"[0, 1] to [0, 1]")
    values = [schedule(step / 10) for step in range(11)]
    for value in values:
        check_number("the schedule's value", value, minimum=0, maximum=1)
    if values[-1] != 1:
        raise ValueError(f"schedule(1) is {values[-1]}; accepted: a schedule that ends at 1")
    if values != sorted(values):
        raise ValueError(f"schedule goes down between 0 and 1: {values}; accepted: one that never falls")
