"""Checks of arguments, each with the value and what is accepted in its message."""
import math
import numbers

import numpy as np


def check_number(name, value, minimum=None, maximum=None, above=None, below=None):
    """A finite real number within the bounds; ``TypeError`` or ``ValueError`` otherwise."""
    if isinstance(value, bool) or not isinstance(value, numbers.Real):
        raise TypeError(f"{name} is {value!r}; accepted: a number")
    finite = isinstance(value, numbers.Integral) or math.isfinite(value)  # isfinite overflows on huge integers
    fits = (finite and (minimum is None or value >= minimum) and (maximum is None or value <= maximum)
            and (above is None or value > above) and (below is None or value < below))
    if not fits:
        bounds = [f"{word} {bound}" for word, bound in
                  (("at least", minimum), ("more than", above), ("at most", maximum), ("less than", below))
                  if bound is not None]
        raise ValueError(f"{name} is {value}; accepted: a finite number {' and '.join(bounds)}".rstrip())


def check_integer(name, value, minimum=None, maximum=None):
    """An integer within the bounds; ``TypeError`` or ``ValueError`` otherwise."""
    if isinstance(value, bool) or not isinstance(value, numbers.Integral):
        raise TypeError(f"{name} is {value!r}; accepted: an integer")
    check_number(name, value, minimum, maximum)


def check_flag(name, value):
    """True or False, NumPy's too; ``TypeError`` otherwise: the text "no" would count as True."""
    if not isinstance(value, (bool, np.bool_)):
        raise TypeError(f"{name} is {value!r}; accepted: True or False")


def check_choice(name, value, choices):
    """One of ``choices``; ``ValueError`` otherwise."""
    if value not in choices or isinstance(value, bool):
        raise ValueError(f"{name} is {value!r}; accepted: {', '.join(map(repr, choices))}")
