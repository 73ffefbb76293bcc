"""The largest number that fits, where what is larger fits less."""
from __future__ import annotations

from collections.abc import Callable


def largest_that_fits(fits: Callable[[float], bool], start: float, step: float, lowest: float, highest: float,
                      bisections: int) -> float | None:
    """The largest number tried that fits; None where not even ``lowest`` does.

    From ``start`` up by ``step`` while that fits, or down until it does; then ``bisections`` times the middle between
    the largest that fits and the smallest that does not.
    """
    good: float | None = None
    bad: float | None = None
    value = start
    while good is None or bad is None:
        if fits(value):
            good = value
            if value >= highest:
                break
            value = min(value + step, highest)
        else:
            bad = value
            if value <= lowest:
                break
            value = max(value - step, lowest)
    for _ in range(bisections):
        if good is None or bad is None:
            break
        middle = (good + bad) / 2
        if fits(middle):
            good = middle
        else:
            bad = middle
    return good
