"""Which layers take part in structured pruning, by ``ratio`` and ``ignore``."""
from collections.abc import Iterable


def checked_names(argument, names):
    """One name or several as a tuple; else ``TypeError``."""
    names = (names,) if isinstance(names, str) else tuple(names) if isinstance(names, Iterable) else names
    if not isinstance(names, tuple) or not all(isinstance(name, str) for name in names):
        raise TypeError(f"{argument} is {names!r}; accepted: a list of layer names")
    return names


def taking_part(groups, ratio, ignore, untouched, dependencies):
    """(the groups to prune, their ratio: a number, {group key: number}, or None), all checked.

    Why the others stay is written into ``untouched``.
    """
    for name in ignore:
        if name not in dependencies.channels and name not in untouched:
            raise ValueError(f"ignore names {name!r}, but there is no such layer; there are "
                             f"{', '.join(dependencies.channels)}")
    if isinstance(ratio, dict):
        return _named_groups(groups, ratio, ignore, untouched)
    chosen = []
    for group in groups:
        ignored = [name for name in group.layers if name in ignore]
        if ignored:
            untouched.update({name: "ignored" if name in ignored else f"its channels go with those of {ignored[0]}, "
                              f"which is ignored" for name in group.layers})
        else:
            chosen.append(group)
    if not chosen:
        raise ValueError(f"ignore={list(ignore)} leaves no layer to prune")
    return chosen, ratio


def _named_groups(groups, ratio, ignore, untouched):
    if not ratio or set(ratio) & set(ignore):
        raise ValueError(f"ratio is {ratio} and ignore {list(ignore)}; accepted: at least one layer in ratio, "
                         f"none in both")
    prunable = [name for group in groups for name in group.layers]
    for name in ratio:
        if name not in prunable:
            raise ValueError(f"ratio names {name!r}: {untouched.get(name, 'there is no such layer')}; "
                             f"accepted: {', '.join(dict.fromkeys(prunable))}")
    named, ratios = [], {}
    for group in groups:
        mine = {name: ratio[name] for name in group.layers if name in ratio}
        ignored = [name for name in group.layers if name in ignore]
        if not mine:
            untouched.update(dict.fromkeys(group.layers, "ignored" if ignored else "not in ratio"))
        elif ignored:
            raise ValueError(f"ratio names {next(iter(mine))!r}, whose channels go together with those of "
                             f"{ignored[0]!r}, which ignore names; accepted: both or neither to be pruned")
        elif len(set(mine.values())) > 1:
            raise ValueError(f"ratio is {mine} for layers whose channels go together; accepted: one ratio for all")
        else:
            named.append(group)
            ratios[group.key] = next(iter(mine.values()))
    return named, ratios


def check_leaves_channels(selection, ratio):
    """Raise ``ValueError`` naming a layer that ``ratio`` would leave without channels."""
    if selection.scope == "global" and not isinstance(ratio, dict):
        return  # one channel of each layer stays, whatever its rank
    for group in selection.groups:
        value = ratio[group.key] if isinstance(ratio, dict) else ratio
        count = selection.before[group.key]
        if round(value * count) == count:
            raise ValueError(f"ratio={value} would remove all {count} channels of layer {group.name}; accepted "
                             f"there: less than {(count - 0.5) / count:.3f}")
