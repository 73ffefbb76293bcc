"""Checks of arguments, each with the value and what is accepted in its message."""
from __future__ import annotations

import difflib
import math
import numbers
import sys
from collections.abc import Collection, Iterable, Mapping
from typing import Any

import numpy as np


def shown(value: Any) -> str:
    """How a message shows a value: arrays by their shape, and nothing at length."""
    if hasattr(value, "shape") and not isinstance(value, np.generic):
        return f"{_kind(value)} of shape {value.shape}"
    text = plain(value)
    return text if len(text) <= 80 and "\n" not in text and " at 0x" not in text else _kind(value)


def _kind(value: Any) -> str:
    return with_article(type(value).__name__)


def with_article(name: str) -> str:
    """The name of a type behind "an" or "a": an NDArray, an int64 array, a uint8 array."""
    spoken_as_vowel = name[0] in "AEIOaeio" or name[:2].lower() == "nd"
    return f"{'an' if spoken_as_vowel else 'a'} {name}"


def plain(value: Any) -> str:
    """The repr of a list or dict with NumPy's numbers as numbers: NumPy 2 writes ``np.float64(0.5)`` for 0.5."""
    with np.printoptions(legacy="1.21"):
        return repr(value)


def check_number(name: str, value: Any, minimum: float | None = None, maximum: float | None = None,
                 above: float | None = None, below: float | None = None) -> None:
    """A finite real number within the bounds; ``TypeError`` or ``ValueError`` otherwise."""
    if isinstance(value, bool) or not isinstance(value, numbers.Real):
        raise TypeError(f"{name} is {shown(value)}; accepted: a number")
    number: Any = value  # numbers.Real has no type that checkers compare
    finite = isinstance(number, numbers.Integral) or math.isfinite(number)  # isfinite overflows on huge integers
    fits = (finite and (minimum is None or number >= minimum) and (maximum is None or number <= maximum)
            and (above is None or number > above) and (below is None or number < below))
    if not fits:
        bounds = _bounds(minimum, above, maximum, below)
        raise ValueError(f"{name} is {value}; accepted: a finite number {bounds}".rstrip())


def _bounds(minimum: float | None, above: float | None, maximum: float | None, below: float | None) -> str:
    words = (("at least", minimum), ("more than", above), ("at most", maximum), ("less than", below))
    return " and ".join(f"{word} {bound}" for word, bound in words if bound is not None)


def mxnet_scalar(value: float) -> float:
    """A float that MXNet's operators accept: 0.0 in place of values not normal in float64, which they refuse."""
    return float(value) if abs(value) >= sys.float_info.min else 0.0


def check_integer(name: str, value: Any, minimum: int | None = None, maximum: int | None = None) -> None:
    """An integer within the bounds; ``TypeError`` or ``ValueError`` otherwise."""
    if isinstance(value, bool) or not isinstance(value, numbers.Integral):
        raise TypeError(f"{name} is {shown(value)}; accepted: an integer")
    number = int(value)
    if (minimum is not None and number < minimum) or (maximum is not None and number > maximum):
        raise ValueError(f"{name} is {value}; accepted: an integer {_bounds(minimum, None, maximum, None)}")


def check_flag(name: str, value: Any) -> None:
    """True or False, NumPy's too; ``TypeError`` otherwise: the text "no" would count as True."""
    if not isinstance(value, (bool, np.bool_)):
        raise TypeError(f"{name} is {shown(value)}; accepted: True or False")


def check_text(name: str, value: Any) -> None:
    """A string; ``TypeError`` otherwise."""
    if not isinstance(value, str):
        raise TypeError(f"{name} is {shown(value)}; accepted: text")


def check_names(name: str, value: Any) -> None:
    """A list or tuple of strings; ``TypeError`` otherwise."""
    if not isinstance(value, (list, tuple)) or not all(isinstance(each, str) for each in value):
        raise TypeError(f"{name} is {shown(value)}; accepted: a list of names")


def check_function(name: str, value: Any, what: str) -> None:
    """Something that can be called, ``what`` being its description; ``TypeError`` otherwise."""
    if not callable(value):
        raise TypeError(f"{name} is {shown(value)}; accepted: {what}")


def check_choice(name: str, value: Any, choices: Collection[Any]) -> None:
    """One of ``choices``; ``ValueError`` otherwise."""
    if isinstance(value, bool) or not isinstance(value, (str, numbers.Number)) or value not in choices:
        raise ValueError(f"{name} is {shown(value)}; accepted: {', '.join(map(repr, choices))}")


def check_known(beginning: str, name: str, known: Collection[str], what: str) -> None:
    """One of the names in ``known``; ``ValueError`` otherwise, see :func:`unknown`."""
    if name not in known:
        raise unknown(beginning, name, known, what)


def unknown(beginning: str, name: Any, known: Collection[str], what: str, hint: str = "") -> ValueError:
    """The ``ValueError`` for a name that matches nothing, a sentence with this beginning: "select names".

    It ends with ``hint``, or else with the names that are close or accepted.
    """
    return ValueError(f"{beginning} {name!r}, but there is no such {what}; {hint or nearest(name, known)}")


def nearest(name: Any, known: Collection[str], most: int = 12) -> str:
    """The end of a message about an unknown name: the names that are close to it, or else those that are accepted."""
    close = difflib.get_close_matches(str(name), known)
    if close:
        return f"did you mean {' or '.join(close)}?"
    return f"accepted: {listed(known, most)}" if known else "there are none here"


def listed(names: Iterable[str], most: int = 12) -> str:
    """Names with commas, at most so many of them, and how many more there are."""
    names = list(names)
    return ", ".join(map(printable, names[:most])) + (f" and {len(names) - most} more" if len(names) > most else "")


def printable(text: Any, longest: int = 200) -> str:
    """A name from a file, as a terminal can show it: short, and without control characters."""
    text = "".join(letter if letter.isprintable() else "?" for letter in str(text)[:longest + 1])
    return text if len(text) <= longest else f"{text[:longest]}..."


class _Missing:
    def __repr__(self) -> str:
        return "missing"


_MISSING = _Missing()  # stands for a key that a dict does not have, which differs from None


def differences(saved: Mapping[str, Any], current: Mapping[str, Any], prefix: str = "") -> str:
    """What differs between two JSON dicts, for messages: "seed is 0 there, 1 here, ..."; "" when nothing does.

    Lists of as many dicts are gone into, too: "stages[0].rate is 0.1 there, ...".
    """
    parts = []
    for name in [*current, *sorted(saved.keys() - current.keys())]:
        old, new = saved.get(name, _MISSING), current.get(name, _MISSING)
        if isinstance(old, dict) and isinstance(new, dict):
            parts.append(differences(old, new, f"{prefix}{name}."))
        elif _are_dicts(old) and _are_dicts(new) and len(old) == len(new):
            parts.extend(differences(*pair, f"{prefix}{name}[{index}].") for index, pair in enumerate(zip(old, new)))
        elif old != new:
            parts.append(f"{prefix}{name} is {old!r} there, {new!r} here")
    return ", ".join(filter(None, parts))


def _are_dicts(value: Any) -> bool:
    return isinstance(value, list) and all(isinstance(each, dict) for each in value)
