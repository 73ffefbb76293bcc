"""JSON with one place in it changed."""

# What takes the place of a value.
EXTREME = (None, True, False, 0, 1, -1, 2, 3, 7, 127, 255, 2**31 - 1, 2**31, -2**31, 2**63, 10**30, 0.0, -0.5, 1e-45,
           1e38, 1e308, float("nan"), float("inf"), -float("inf"), "", "x", "None", "0", "-1", "(0, 0)", "(-1, -1)",
           "(1000000, 1000000)", "1e30", "nan", "\0", "float32", "int8", "a" * 5000, [], [0], [[]], {}, {"x": 1},
           [2**31 - 1, 2**31 - 1], [1000000, 1000], [-1])


def changed_json(value, chance):
    """A copy of JSON with one place in it changed."""
    if isinstance(value, dict) and value and chance.random() < 0.93:
        name = chance.choice(sorted(value))
        kind = chance.randrange(12)
        copy = dict(value)
        if kind == 0:
            del copy[name]
        elif kind == 1:
            copy[chance.choice(("x", "", name + "2", *sorted(value)))] = copy.pop(name)
        elif kind == 2:
            copy[name] = value[chance.choice(sorted(value))]
        else:
            copy[name] = changed_json(value[name], chance)
        return copy
    if isinstance(value, list) and value and chance.random() < 0.93:
        at, kind, copy = chance.randrange(len(value)), chance.randrange(12), list(value)
        if kind == 0:
            del copy[at]
        elif kind == 1:
            copy.insert(at, chance.choice(value))
        elif kind == 2:
            copy[at] = chance.choice(value)
        else:
            copy[at] = changed_json(value[at], chance)
        return copy
    if isinstance(value, (int, float)) and not isinstance(value, bool) and chance.random() < 0.5:
        return value + chance.choice((-1, 1)) if chance.random() < 0.7 else -value
    return chance.choice(EXTREME)
