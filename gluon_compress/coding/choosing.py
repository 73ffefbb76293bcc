"""What the coder is told of an array before its first integer: settings chosen by trying, which stand in three bytes.

``kind, side, mean``: the kind says what the expected magnitude is made of (``SHARES``), how fast the mixer learns
(``RATES``), whether groups of zeros are coded as one, whether few contexts are asked, and whether mixed answers are
coded or whole symbols. The side, when it is not 0, says that the inputs of a dense layer are channels of
``side x side`` maps, as they are behind a convolution or an image: pixels are neighbours to the model then. The mean is
a level of the mean magnitude.
"""
from __future__ import annotations

import functools
import itertools
import math
from collections.abc import Callable
from types import ModuleType
from typing import NamedTuple

import numpy as np

from ..errors import CheckpointError
from . import native, questions, symbols
from .model import LARGEST, Geometry, Settings, least_of_level, level

# In 1/1024: the filter so far, channel and place in all filters so far, the last few weights, the map so far, the
# weights to the left and above, the mean of the array. For weights that resemble neighbours; dense layers; neither.
SHARES = ((338, 51, 287, 102, 205, 164, 154, 0), (512, 0, 307, 102, 0, 102, 0, 0), (102, 102, 102, 0, 0, 0, 0, 717))
RATES = (6, 2, 12)
SIDES = range(3, 65)
MEANS = 92  # levels of the mean magnitude, four an octave: up to LARGEST
HEADER = 3  # bytes
TRIED, TRIED_ALONE = 1 << 17, 1 << 13  # integers that settings are tried on; of a single row, which has less to learn
# Kinds: one for each of SHARES and RATES, the same with groups of zeros, the same with few contexts.
GROUPED = len(SHARES) * len(RATES)
BYTES = 32  # what byte_counts.py makes
SYMBOLS = 40  # from here on one kind for each of SHARES, of whole symbols
FEW = SYMBOLS + len(SHARES)
MANY, SOME = 1 << 14, 1 << 16  # integers of a large array, of which settings are tried on so many; the two ways on more
WORTH_SYMBOLS = 1.0085  # bytes that whole symbols may take, on SOME, as they are two to four times as fast
WORTH_FEW = 1.01  # bytes that few contexts may take, as they are faster
SPARSE = 0.1  # share of nonzeros below which groups are tried
WORTH_GROUPS = 1.01  # bytes they may take, as they are far faster


def coder() -> ModuleType:
    return native if native.library() else questions


def geometry_of(shape: tuple[int, ...], side: int) -> Geometry:
    """How an array is seen: with a side, or with one input a channel, of a matrix."""
    filters = shape[0] if len(shape) > 1 else 1
    inputs = math.prod(shape) // filters
    positions = math.prod(shape[2:])
    if side:
        return Geometry(filters, inputs // (side * side), side * side, side)
    if positions == 1 or len(shape) < 3:
        return Geometry(filters, 1, inputs, inputs)
    return Geometry(filters, shape[1], positions, shape[-1])


def possible_sides(shape: tuple[int, ...]) -> list[int]:
    """Sides of maps that the inputs of a matrix can be, 0 for none."""
    filters, channels, inputs, _ = geometry_of(shape, 0)
    return [0] + [side for side in SIDES if channels == 1 and inputs % (side * side) == 0]


class Kind(NamedTuple):
    """What the number of a kind stands for. Whole symbols have no use for the rate."""

    shares: tuple[int, ...]
    rate: int
    grouped: bool = False
    few: bool = False


def _kinds() -> dict[int, Kind]:
    mixed = list(itertools.product(SHARES, RATES))
    return {**{number: Kind(*each) for number, each in enumerate(mixed)},
            **{number: Kind(*each, grouped=True) for number, each in enumerate(mixed, GROUPED)},
            **{number: Kind(shares, RATES[0]) for number, shares in enumerate(SHARES, SYMBOLS)},
            **{number: Kind(*each, few=True) for number, each in enumerate(mixed, FEW)}}


KINDS = _kinds()


def of_symbols(kind: int) -> bool:
    return SYMBOLS <= kind < FEW


def settings_of(kind: int, mean: int) -> Settings:
    """Those of the model, for a kind and a level of the mean magnitude."""
    shares, rate, grouped, few = KINDS[kind]
    return Settings(least_of_level(mean, 2), rate, grouped, few, shares)


def mean_level(values: np.ndarray) -> int:
    magnitudes = np.abs(values).view(np.uint32)  # of int32; unsigned, as -2^31 has no other magnitude
    return level(int(np.minimum(magnitudes, LARGEST).sum(dtype=np.int64)) * 256 // values.size, 2)


def encoded(values: np.ndarray, kind: int, side: int, mean: int) -> bytes:
    """The content of an array of int32."""
    geometry, settings = geometry_of(values.shape, side), settings_of(kind, mean)
    if not of_symbols(kind):
        numbers = values if coder() is native else values.ravel().tolist()
        return bytes((kind, side, mean)) + coder().encode(numbers, geometry, settings)
    last = symbols.token_of(max(int(values.max()), -int(values.min())))
    coded = native.encode_symbols(values, geometry, settings, last + 1) if coder() is native \
        else symbols.encode(values.ravel().tolist(), geometry, settings, last + 1)
    return bytes((kind, side, mean, last)) + coded


def chosen(values: np.ndarray) -> tuple[int, int, int]:
    """(kind, side, mean) of the smallest content, or of a faster one that is hardly larger."""
    return chosen_by_mixing(values) if values.size < MANY else chosen_of_large(values)


def chosen_by_mixing(values: np.ndarray) -> tuple[int, int, int]:
    """(kind, side, mean): side, shares, rate and groups one after the other, each the best on the first filters."""
    mean, count = mean_level(values), TRIED if values.ndim > 1 else TRIED_ALONE
    sides = possible_sides(values.shape) if values.ndim > 1 or len(values) <= count else [0]
    size = sizes(values, mean)
    side = min(sides, key=lambda side: size(count, 0, side))
    kind = min(range(0, GROUPED, len(RATES)), key=lambda kind: size(count, kind, side))
    kind = min(range(kind, kind + len(RATES)), key=lambda kind: size(count, kind, side))
    if np.count_nonzero(values) <= SPARSE * values.size \
            and size(count, kind + GROUPED, side) <= WORTH_GROUPS * size(count, kind, side):
        kind += GROUPED
    return kind, side, mean


def chosen_of_large(values: np.ndarray) -> tuple[int, int, int]:
    """(kind, side, mean): side and shares by whole symbols on the first MANY; these, or with mixing the best rate.

    Then groups of zeros or few contexts, where either costs hardly more: both are faster.
    """
    mean, sides = mean_level(values), possible_sides(values.shape) if values.ndim > 1 else [0]
    size = sizes(values, mean)
    side = min(sides, key=lambda side: size(MANY, SYMBOLS, side))
    share = min(range(len(SHARES)), key=lambda share: size(MANY, SYMBOLS + share, side))
    kind = share * len(RATES)
    if size(SOME, SYMBOLS + share, side) <= WORTH_SYMBOLS * size(SOME, kind, side):
        return SYMBOLS + share, side, mean
    kind += min(range(len(RATES)), key=lambda rate: size(MANY, kind + rate, side))
    if np.count_nonzero(values) <= SPARSE * values.size \
            and size(MANY, kind + GROUPED, side) <= WORTH_GROUPS * size(MANY, kind, side):
        kind += GROUPED
    elif size(SOME, kind + FEW, side) <= WORTH_FEW * size(SOME, kind, side):
        kind += FEW
    return kind, side, mean


def sizes(values: np.ndarray, mean: int) -> Callable[[int, int, int], int]:
    """A function of a count, a kind and a side: the bytes of about the first so many integers, coded once for each."""
    @functools.cache
    def size(count: int, kind: int, side: int) -> int:
        return len(encoded(first(values, count), kind, side, mean))
    return size


def first(values: np.ndarray, count: int) -> np.ndarray:
    """The first filters, of about so many integers, or of a single row so many."""
    return values[:max(1, count * len(values) // values.size)] if values.ndim > 1 else values[:count]


def read_header(header: bytes, shape: tuple[int, ...]) -> tuple[Geometry, Settings]:
    """The geometry and settings of the model; ``CheckpointError`` when they are none."""
    if len(header) == HEADER:
        kind, side, mean = header
        if kind in KINDS and side in possible_sides(shape) and mean < MEANS:
            return geometry_of(shape, side), settings_of(kind, mean)
    raise CheckpointError(f"codes of shape {shape} begin with {header!r}, which says nothing")
