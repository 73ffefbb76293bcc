"""Schedules of the learning rate: functions of the share of the steps done, in [0, 1], to a factor for it."""
import math

from ..arguments import check_number


def constant(progress: float) -> float:
    """Schedule: the trainer's learning rate throughout."""
    check_number("progress", progress, minimum=0, maximum=1)
    return 1.0


def cosine(progress: float) -> float:
    """Schedule: from the trainer's learning rate to zero along a half cosine (Loshchilov & Hutter 2017)."""
    check_number("progress", progress, minimum=0, maximum=1)
    return 0.5 * (1 + math.cos(math.pi * progress))


def one_cycle(progress: float, warmup: float = 0.2) -> float:
    """Schedule: linearly up to the trainer's learning rate, linearly down to zero (after Smith 2018).

    ``warmup`` is the share of the steps on the way up, in [0, 1).
    """
    check_number("progress", progress, minimum=0, maximum=1)
    check_number("warmup", warmup, minimum=0, below=1)
    return progress / warmup if progress < warmup else (1 - progress) / (1 - warmup)
