"""Numbers in a graph that count channels, such as that of attention's heads, and become smaller with them."""
from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from ...network.nodes import Node
from ...network.numbers import Origin, Origins, Place

if TYPE_CHECKING:
    from .tracking import Tracker


class Counting:
    """What the numbers in the attributes of a graph count, and where they can be changed.

    Attributes
    ----------
    counts : dict
        {number in the graph: labels of the positions that it counts}.
    sizes : dict
        {where such a number can be changed: as many labels as it says}, after :meth:`settle`.
    """

    def __init__(self, origins: Origins, tracker: Tracker) -> None:
        self._origins, self._tracker = origins, tracker
        self.counts: dict[Place, np.ndarray] = {}
        self.sizes: dict[Origin, np.ndarray] = {}

    def can_count(self, place: Place) -> bool:
        """Whether that number can be changed."""
        return self._origins.of(place) is not None

    def count(self, node: Node, place: Place, ids: np.ndarray) -> None:
        """That number in an attribute of ``node`` counts these channels; they stay where it cannot be changed."""
        if not self.can_count(place):
            self._tracker.pin_ids(ids, f"read by {node.operator} ({node.name}), whose {place.attribute} has their "
                                       f"number, which is no attribute of a block")
            return
        known = self.counts.setdefault(place, ids)
        self._tracker.same(known, ids, f"the {place.attribute} of {node.name} also counts channels that stay")

    def settle(self) -> None:
        """Let all numbers with one origin change by the same factor; called after all rules.

        Where other numbers with that origin have to stay, so do the channels. Where several count other channels, or
        one counts them several times (the units of four gates), each unit must have the same share in all of them.
        """
        by_origin: dict[Origin, list[np.ndarray]] = {}
        for place, ids in self.counts.items():
            origin, _ = self._found(place)
            by_origin.setdefault(origin, []).append(ids)
        for origin, all_ids in by_origin.items():
            for place in self._origins.places(origin):
                if place not in self.counts:
                    for ids in all_ids:
                        self._tracker.pin_ids(ids, f"{_told(origin)} is also the {place.attribute} of {place.node}, "
                                                   f"which stays")
        values = {self._found(place)[0]: self._found(place)[1] for place in self.counts}
        while any([self._tie(all_ids, values[origin], origin) for origin, all_ids in by_origin.items()]):
            pass
        roots = self._tracker.roots()
        for origin, all_ids in by_origin.items():
            units, counts = _shares(roots[all_ids[0]], values[origin])
            tied = counts.sum() < values[origin]  # row by row, where some stay
            self.sizes[origin] = roots[all_ids[0][:values[origin]]] if tied else np.repeat(units, counts)

    def _tie(self, all_ids: list[np.ndarray], value: int, origin: Origin) -> bool:
        """Whether units were tied so that they have the same shares in all of these."""
        roots = self._tracker.roots()
        shares = [_shares(roots[ids], value) for ids in all_ids]
        if all(shares[0][0].tobytes() == units.tobytes() and shares[0][1].tobytes() == counts.tobytes()
               for units, counts in shares) and all(counts.sum() == value for _, counts in shares):
            return False
        first = all_ids[0][:value]
        for ids in all_ids:
            for row in ids.reshape(-1, value):
                self._tracker.same(first, row, f"{_told(origin)} also counts channels that stay")
        return not np.array_equal(roots, self._tracker.roots())

    def _found(self, place: Place) -> tuple[Origin, int]:
        found = self._origins.of(place)
        assert found is not None, f"{place} cannot be changed"
        return found


def _shares(units: np.ndarray, value: int) -> tuple[np.ndarray, np.ndarray]:
    """(units, how often each counts) where all of them together count as often as ``value`` says."""
    found, counts = np.unique(units, return_counts=True)
    return found, counts // (len(units) // value)


def _told(origin: Origin) -> str:
    return f"{origin.attribute} of {origin.block or 'the network'}"
