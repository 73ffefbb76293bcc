"""What a piece of JSON may look like: checks of what a stranger may have written, before anything relies on it.

A check is a function ``check(value, where)`` that raises :class:`Malformed`, with the place and what is accepted, or
returns nothing. The functions here make checks:

    LAYOUT = fields({"shape": list_of(integer(0, 2**31 - 1), most=32), "dtype": choice("float32", "float16")},
                    optional={"fill": number()})
    LAYOUT(json.loads(text), "layout")
"""
from __future__ import annotations

import json
import math
from collections.abc import Callable
from typing import Any, NoReturn

Check = Callable[[Any, str], None]

LONGEST_NAME = 1000  # the name of a parameter, a layer or an attribute
MOST_ITEMS = 1_000_000


class Malformed(ValueError):
    """Something in a file is not what its format says."""


def parse(text: str | bytes, where: str) -> Any:
    """The content of JSON text; :class:`Malformed` when it is not JSON, or is nested too deeply for Python."""
    try:
        return json.loads(text)
    except (ValueError, RecursionError) as error:
        raise Malformed(f"{where} is no JSON: {error}") from error


def integer(minimum: int, maximum: int) -> Check:
    def check(value: Any, where: str) -> None:
        if type(value) is not int or not minimum <= value <= maximum:
            _refuse(value, where, f"an integer from {minimum} to {maximum}")
    return check


def number(minimum: float = -math.inf, maximum: float = math.inf, above: float = -math.inf) -> Check:
    """A finite number of float64, or an integer that one can hold."""
    def check(value: Any, where: str) -> None:
        fits = type(value) is float or type(value) is int and abs(value) < 1 << 1023
        if not fits or not math.isfinite(value) or not minimum <= value <= maximum or not value > above:
            bounds = [f"{word} {bound}" for word, bound in (("at least", minimum), ("at most", maximum),
                                                            ("above", above)) if math.isfinite(bound)]
            _refuse(value, where, " ".join(["a finite number", *bounds]))
    return check


def text(longest: int = LONGEST_NAME) -> Check:
    def check(value: Any, where: str) -> None:
        if not isinstance(value, str) or len(value) > longest:
            _refuse(value, where, f"a text of at most {longest} characters")
    return check


def boolean(value: Any, where: str) -> None:
    if not isinstance(value, bool):
        _refuse(value, where, "true or false")


def choice(*accepted: Any) -> Check:
    def check(value: Any, where: str) -> None:
        if not any(type(value) is type(each) and value == each for each in accepted):
            _refuse(value, where, ", ".join(map(repr, accepted)))
    return check


def maybe(kind: Check) -> Check:
    """null, or what ``kind`` accepts."""
    def check(value: Any, where: str) -> None:
        if value is not None:
            kind(value, where)
    return check


def list_of(kind: Check, least: int = 0, most: int = MOST_ITEMS) -> Check:
    def check(value: Any, where: str) -> None:
        if not isinstance(value, list) or not least <= len(value) <= most:
            _refuse(value, where, f"a list of {least} to {most} items")
        for index, item in enumerate(value):
            kind(item, f"{where}[{index}]")
    return check


def pair(first: Check, second: Check) -> Check:
    """A list of two."""
    def check(value: Any, where: str) -> None:
        if not isinstance(value, list) or len(value) != 2:
            _refuse(value, where, "a list of two")
        first(value[0], f"{where}[0]")
        second(value[1], f"{where}[1]")
    return check


def mapping(kind: Check, most: int = MOST_ITEMS) -> Check:
    """An object of any names, each with what ``kind`` accepts."""
    def check(value: Any, where: str) -> None:
        if not isinstance(value, dict) or len(value) > most:
            _refuse(value, where, f"an object of at most {most} entries")
        for name, item in value.items():
            if len(name) > LONGEST_NAME:
                _refuse(name, f"a name in {where}", f"at most {LONGEST_NAME} characters")
            kind(item, f"{where}[{name!r}]")
    return check


def fields(required: dict[str, Check], optional: dict[str, Check] | None = None) -> Check:
    """An object of these names and no others: {name: check}."""
    known = {**required, **(optional or {})}

    def check(value: Any, where: str) -> None:
        if not isinstance(value, dict):
            _refuse(value, where, f"an object of {', '.join(known)}")
        for name in value:
            if name not in known:
                _refuse(name, f"a name in {where}", ", ".join(known))
        for name in required:
            if name not in value:
                raise Malformed(f"{where} has no {name!r}")
        for name, item in value.items():
            known[name](item, f"{where}.{name}")
    return check


def either(*kinds: Check) -> Check:
    """What one of ``kinds`` accepts; the message is that of the last."""
    def check(value: Any, where: str) -> None:
        for kind in kinds[:-1]:
            try:
                return kind(value, where)
            except Malformed:
                pass
        return kinds[-1](value, where)
    return check


def anything(value: Any, where: str) -> None:
    """JSON that is only ever compared."""


SHAPE = list_of(integer(0, 2**31 - 1), most=32)  # the shape of an array; NumPy and MXNet have at most 32 dimensions
REASONS = mapping(text(10_000))                  # {layer name: why it was left out}


def _refuse(value: Any, where: str, accepted: str) -> NoReturn:
    shown = repr(value)
    raise Malformed(f"{where} is {shown if len(shown) <= 100 else shown[:100] + '...'}; accepted: {accepted}")
