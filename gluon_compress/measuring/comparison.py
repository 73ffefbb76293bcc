"""Reports of several networks side by side: their layers by name, their quantities, the ratios between these."""
from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

if TYPE_CHECKING:
    from ..pruning import Sensitivity
    from .costs import LayerCost
    from .reports import Report


class LayerRow(NamedTuple):
    """A layer of several networks."""

    name: str
    costs: list[LayerCost | None]  # one per network; None where it has no layer of that name

    def values(self, attribute: str) -> list[Any]:
        """One per network, None where that has no such layer."""
        return [None if each is None else getattr(each, attribute) for each in self.costs]


def side_by_side(reports: Iterable[Report]) -> list[LayerRow]:
    """A row for each layer that any of the networks has, in the order of the networks' layers."""
    by_name = [{layer.name: layer for layer in each.layers} for each in reports]
    return [LayerRow(name, [layers.get(name) for layers in by_name]) for name in merged_names(by_name)]


def merged_names(lists: Iterable[Iterable[str]]) -> list[str]:
    """All names in one order: a name that earlier lists do not have follows the one that is before it in its list."""
    merged: list[str] = []
    for names in lists:
        place = 0
        for name in names:
            if name in merged:
                place = merged.index(name) + 1
            else:
                merged.insert(place, name)
                place += 1
    return merged


def ratios(before: Mapping[str, float | None], after: Mapping[str, float | None]) -> dict[str, dict]:
    """{what: {before, after, ratio}}, ratio = before / after, None for an accuracy; without what neither has."""
    found = {}
    for what, value in after.items():
        old = before.get(what)
        if old is not None or value is not None:
            ratio = old / value if old is not None and value and what != "accuracy" else None
            found[what] = {"before": old, "after": value, "ratio": ratio}
    return found


def are_accuracies(sensitivity: Sensitivity) -> bool:
    """Whether all that was measured lies in [0, 1], so that 1 minus it is an error; it may be another quantity."""
    values = [value for curve in sensitivity.curves.values() for value in curve.values()]
    return all(0 <= value <= 1 for value in (*values, sensitivity.baseline or 0))


def all_equal(values: Sequence[Any]) -> bool:
    """Whether all values, of which there is at least one, are the same."""
    return all(value == values[0] for value in values)
