"""Checks of arguments, each with the value and what is accepted in its message."""
import difflib
import math
import numbers
import sys

import numpy as np


def shown(value):
    """What a message says of a value: arrays by their shape, and nothing at length."""
    if hasattr(value, "shape") and not isinstance(value, np.generic):
        return f"a {type(value).__name__} of shape {value.shape}"
    text = plain(value)
    return text if len(text) <= 80 and "\n" not in text and " at 0x" not in text else f"a {type(value).__name__}"


def plain(value):
    """The repr of a list or dict with NumPy's numbers as numbers: NumPy 2 writes ``np.float64(0.5)`` for 0.5."""
    with np.printoptions(legacy="1.21"):
        return repr(value)


def check_number(name, value, minimum=None, maximum=None, above=None, below=None):
    """A finite real number within the bounds; ``TypeError`` or ``ValueError`` otherwise."""
    if isinstance(value, bool) or not isinstance(value, numbers.Real):
        raise TypeError(f"{name} is {shown(value)}; accepted: a number")
    finite = isinstance(value, numbers.Integral) or math.isfinite(value)  # isfinite overflows on huge integers
    fits = (finite and (minimum is None or value >= minimum) and (maximum is None or value <= maximum)
            and (above is None or value > above) and (below is None or value < below))
    if not fits:
        bounds = [f"{word} {bound}" for word, bound in
                  (("at least", minimum), ("more than", above), ("at most", maximum), ("less than", below))
                  if bound is not None]
        raise ValueError(f"{name} is {value}; accepted: a finite number {' and '.join(bounds)}".rstrip())


def mxnet_scalar(value):
    """A float as MXNet's operators take one: 0.0 for what is not normal in float64, which they refuse."""
    return float(value) if abs(value) >= sys.float_info.min else 0.0


def check_integer(name, value, minimum=None, maximum=None):
    """An integer within the bounds; ``TypeError`` or ``ValueError`` otherwise."""
    if isinstance(value, bool) or not isinstance(value, numbers.Integral):
        raise TypeError(f"{name} is {shown(value)}; accepted: an integer")
    check_number(name, value, minimum, maximum)


def check_flag(name, value):
    """True or False, NumPy's too; ``TypeError`` otherwise: the text "no" would count as True."""
    if not isinstance(value, (bool, np.bool_)):
        raise TypeError(f"{name} is {shown(value)}; accepted: True or False")


def check_text(name, value):
    """A string; ``TypeError`` otherwise."""
    if not isinstance(value, str):
        raise TypeError(f"{name} is {shown(value)}; accepted: text")


def check_function(name, value, what):
    """Something that can be called, ``what`` being its description; ``TypeError`` otherwise."""
    if not callable(value):
        raise TypeError(f"{name} is {shown(value)}; accepted: {what}")


def check_choice(name, value, choices):
    """One of ``choices``; ``ValueError`` otherwise."""
    if isinstance(value, bool) or not isinstance(value, (str, numbers.Number)) or value not in choices:
        raise ValueError(f"{name} is {shown(value)}; accepted: {', '.join(map(repr, choices))}")


def check_known(beginning, name, known, what):
    """One of the names in ``known``; ``ValueError`` otherwise, see :func:`unknown`."""
    if name not in known:
        raise unknown(beginning, name, known, what)


def unknown(beginning, name, known, what):
    """The ``ValueError`` for a name that matches nothing, a sentence with this beginning: "select names"."""
    return ValueError(f"{beginning} {name!r}, but there is no such {what}; {nearest(name, known)}")


def nearest(name, known, most=12):
    """How a message about an unknown name ends: with the names that are close to it, or with those that there are."""
    close = difflib.get_close_matches(str(name), known)
    if close:
        return f"did you mean {' or '.join(close)}?"
    names = list(known)
    more = f" and {len(names) - most} more" if len(names) > most else ""
    return f"accepted: {', '.join(names[:most])}{more}"


class _Missing:
    def __repr__(self):
        return "missing"


_MISSING = _Missing()  # a key that is not there, which differs from None


def differences(there, here, prefix=""):
    """What differs between two JSON dicts, for messages: "seed is 0 there, 1 here, ..."; "" when nothing does."""
    found = []
    for name in [*here, *sorted(there.keys() - here.keys())]:
        old, new = there.get(name, _MISSING), here.get(name, _MISSING)
        if isinstance(old, dict) and isinstance(new, dict):
            found.append(differences(old, new, f"{prefix}{name}."))
        elif old != new:
            found.append(f"{prefix}{name} is {old!r} there, {new!r} here")
    return ", ".join(filter(None, found))
