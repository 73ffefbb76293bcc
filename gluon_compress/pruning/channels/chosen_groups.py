"""Which groups of channels take part in structured pruning, by ``select`` and ``exclude`` or by ``ratio``."""
from __future__ import annotations

from ...arguments import nearest, plain
from .groups import Group, Key
from .selection import Selection


def choose_groups(groups: list[Group], selected: set[str], excluded: set[str],
                  left_out: dict[str, str]) -> list[Group]:
    """The groups of which a layer is selected, and none excluded: no layer can lose channels without the others.

    Why the layers of the other groups keep their channels is written into ``left_out``, {layer name: reason}.
    """
    chosen = []
    for group in groups:
        if excluded & set(group.layers):
            left_out.update(reasons_of_excluded(group.layers, excluded))
        elif not selected & set(group.layers):
            left_out.update(dict.fromkeys(group.layers, "not selected"))
        else:
            chosen.append(group)
    if not chosen:
        reasons = "; ".join(f"{name}: {reason}" for name, reason in left_out.items() if name in selected)
        raise ValueError(f"select and exclude leave no layer that can lose channels: {reasons or 'none is selected'}")
    return chosen


def reasons_of_excluded(names: list[str], excluded: set[str]) -> dict[str, str]:
    """{layer name: why it keeps its channels} of layers that go together and of which some are excluded."""
    first = next(name for name in names if name in excluded)
    return {name: "excluded" if name in excluded else f"its channels go with those of {first}, which is excluded"
            for name in names}


def choose_by_ratio(groups: list[Group], ratio: dict[str, float], excluded: set[str],
                    left_out: dict[str, str]) -> tuple[list[Group], dict[Key, float]]:
    """``(groups, {group key: fraction})`` of a ``ratio`` that is {layer name: fraction}; see :func:`choose_groups`."""
    if not ratio or ratio.keys() & excluded:
        raise ValueError(f"ratio is {plain(ratio)} and exclude names {sorted(excluded)}; accepted: at least one layer "
                         f"in ratio, none in both")
    _check_can_lose(ratio, groups, left_out)
    chosen, ratios = [], {}
    for group in groups:
        fractions = {name: ratio[name] for name in group.layers if name in ratio}
        partners = [name for name in group.layers if name in excluded]
        if not fractions:
            left_out.update(dict.fromkeys(group.layers, "excluded" if partners else "not in ratio"))
        elif partners:
            raise ValueError(f"ratio names {next(iter(fractions))!r}, whose channels go together with those of "
                             f"{partners[0]!r}, which exclude names; accepted: both or neither to be pruned")
        elif len(set(fractions.values())) > 1:
            raise ValueError(f"ratio is {plain(fractions)} for layers whose channels go together; accepted: one ratio "
                             f"for all")
        else:
            chosen.append(group)
            ratios[group.key] = next(iter(fractions.values()))
    return chosen, ratios


def _check_can_lose(ratio: dict[str, float], groups: list[Group], left_out: dict[str, str]) -> None:
    """Raise ``ValueError`` for a name in ``ratio`` of a layer that keeps its channels, or of none."""
    able = list(dict.fromkeys(name for group in groups for name in group.layers))
    for name in ratio:
        if name not in able:
            raise ValueError(f"ratio names {name!r}, " + (
                f"but {left_out[name]}; accepted: {', '.join(able)}" if name in left_out else
                f"but there is no such layer; {nearest(name, able)}"))


def check_leaves_channels(selection: Selection, ratio: float | dict[Key, float]) -> None:
    """Raise ``ValueError`` naming a layer that ``ratio`` would leave without channels."""
    if selection.scope == "global" and not isinstance(ratio, dict):
        return  # one channel of each layer stays, whatever its rank
    for group in selection.groups:
        value = ratio[group.key] if isinstance(ratio, dict) else ratio
        count = selection.before[group.key]
        if round(value * count) == count:
            raise ValueError(f"ratio={value} would remove all {count} channels of layer {group.name}; accepted "
                             f"for this layer: less than {(count - 0.5) / count:.3f}")
