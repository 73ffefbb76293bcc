"""Numbers as people read them: 36,864 bytes are 36.9 kB."""
from __future__ import annotations

import math
from collections.abc import Sequence

PREFIXES = ("", "k", "M", "G", "T")
NOTHING = "-"  # what is not known


def short(value: float | None, unit: str = "") -> str:
    """Three digits, a prefix of thousands and the unit: ``short(36_864, "B")`` is "36.9 kB"."""
    if value is None:
        return NOTHING
    digits = f"{value:.3g}" if value else "0"  # 999.6 is 1e+03
    power = min(max(0, math.floor(math.log10(abs(float(digits)))) // 3 if value else 0), len(PREFIXES) - 1)
    number = float(digits) / 1000 ** power
    whole = not power and float(value).is_integer()
    places = 0 if whole else max(0, 2 - math.floor(math.log10(abs(number))))
    return f"{number:,.{places}f} {PREFIXES[power]}{unit}".rstrip()


def tick(value: float, unit: str = "") -> str:
    """As :func:`short`, without zeros at the end: "1 MB" on an axis, not "1.00 MB"."""
    number, _, rest = short(value, unit).partition(" ")
    return f"{number.rstrip('0').rstrip('.') if '.' in number else number} {rest}".rstrip()


def exact(value: float | None) -> str:
    """All digits of an integer, three decimals of another number."""
    if value is None:
        return NOTHING
    return f"{value:,}" if isinstance(value, int) else f"{value:,.3f}"


def percent(share: float | None, places: int = 1) -> str:
    """``percent(0.5)`` is "50.0%"."""
    return NOTHING if share is None else f"{100 * share:.{places}f}%"


def milliseconds(value: float | None) -> str:
    """``milliseconds(1.2345)`` is "1.23", three digits without the unit."""
    return NOTHING if value is None else f"{value:.3g}" if value < 100 else f"{value:.0f}"


def times(ratio: float | None) -> str:
    """``times(4)`` is "4.00x"."""
    return NOTHING if ratio is None else f"{ratio:.2f}x"


def dimensions(shape: Sequence[int] | None) -> str:
    """``dimensions((8, 3))`` is "8x3"."""
    return NOTHING if shape is None else "x".join(map(str, shape))
