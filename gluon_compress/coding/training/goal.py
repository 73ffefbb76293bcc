"""A size to reach: the penalty is steered, so that nobody has to guess it."""
from __future__ import annotations

import math

from ...arguments import check_integer, check_number

__all__ = ["MOST_PENALTY", "SizeGoal"]

MOST_PENALTY = 10 ** 9
MOST_COUNT = 2 ** 62  # of bytes or updates
GAIN, FALL_GAIN, DAMPING = 0.3, 64.0, 5.0  # of a wrong size each time, and all together in a fall; of its change
MOST = 1.1  # by how much the penalty changes at most
LEAST = 1e-4  # of the first penalty: from less than that it would not come back in time


class SizeGoal:
    """For :class:`RateTrainer` in place of a penalty: what the coded weights shall take in the end.

    The size falls from where it is, each update by the same share, and stays at the goal after the last of
    ``updates``. Whenever the codes are counted, the penalty ``p`` follows ``e``, the logarithm of the size over the
    wanted one: ``ln p`` grows by ``g e + 5 (e - last e)``, by ln 1.1 at most; the second term keeps it from going
    past the goal, as the size answers late. ``g`` is 0.3, and in a short fall 64 over the number of times that the
    codes are counted in it: more than 0.3 for less than 4,300 updates. A fall of less than about 500, of which the
    codes are counted 25 times, may end above the goal, which the size reaches later.

    >>> trainer = RateTrainer(net, SizeGoal(5000, updates=10_000), "adam", {"learning_rate": 1e-3})

    Parameters
    ----------
    size : int
        Bytes of :meth:`RateTrainer.coded_bytes`, at least 1. A file has its header besides, some hundred bytes, and
        what is not coded.
    updates : int
        How many the fall takes, at least 1. Half of the training is a good deal.
    penalty : float
        The first one, more than 0. It never exceeds 1e9.

    Raises ``TypeError`` or ``ValueError`` for arguments out of range.
    """

    def __init__(self, size: int, updates: int, penalty: float = 0.1) -> None:
        check_integer("size", size, minimum=1, maximum=MOST_COUNT)
        check_integer("updates", updates, minimum=1, maximum=MOST_COUNT)
        check_number("penalty", penalty, above=0, maximum=MOST_PENALTY)
        self.size, self.updates, self.penalty = size, updates, float(penalty)

    def wanted(self, update: int, before: float) -> float:
        """The bytes to have after so many updates, ``before`` being those of the beginning."""
        left = max(0.0, 1 - update / self.updates)
        return self.size * max(before / self.size, 1.0) ** left

    def next_penalty(self, penalty: float, error: float, last_error: float, update: int, frequency: int) -> float:
        """The penalty after ``update`` updates, ``frequency`` of them after it was ``penalty``.

        ``error`` is ln(size / wanted size), ``last_error`` that at the last time.
        """
        falling = update < self.updates
        gain = max(GAIN, FALL_GAIN * frequency / self.updates) if falling else GAIN
        change = gain * error + DAMPING * (error - last_error)
        factor = math.exp(min(max(change, -math.log(MOST)), math.log(MOST)))
        return min(max(penalty * factor, LEAST * self.penalty), float(MOST_PENALTY))
