"""Arrays of integers to bytes and back: the settings of the model are chosen by trying, and stand in three bytes.

``content = kind, side, mean, then the bits``. The kind says what the expected magnitude is made of (``SHARES``), how
fast the mixer learns (``RATES``), and whether groups of zeros are coded as one. The side, when it is not 0, says that
the inputs of a dense layer are channels of ``side x side`` maps, as they are behind a convolution or an image: pixels
are neighbours to the model then.

``content = kind, side, mean, largest token, then whole symbols``, with kinds from SYMBOLS on, see symbols.py: what
large arrays have unless mixing makes them clearly smaller.

``content = BYTES, then what byte_counts.py says`` of bytes coded by how often each occurs: what :func:`encode_bytes`
makes.
"""
from __future__ import annotations

import math
from collections.abc import Iterable
from types import ModuleType
from typing import Any

import numpy as np

from ..errors import CheckpointError
from . import byte_counts, model, native, symbols
from .model import Geometry, Settings

__all__ = ["decode", "encode", "encode_bytes"]

# In 1/1024: the filter so far, channel and place in all filters so far, the last few weights, the map so far, the
# weights to the left and above, the mean of the array. For weights that resemble neighbours; dense layers; neither.
SHARES = ((338, 51, 287, 102, 205, 164, 154, 0), (512, 0, 307, 102, 0, 102, 0, 0), (102, 102, 102, 0, 0, 0, 0, 717))
RATES = (6, 2, 12)
SIDES = range(3, 65)
MEANS = 92  # levels of the mean magnitude, four an octave: up to LARGEST
HEADER = 3  # bytes
TRIED, TRIED_ALONE = 1 << 17, 1 << 13  # integers that settings are tried on; of a single row, which has less to learn
VALUES_PER_BYTE = 1 << 20  # that content can stand for: WHOLE_MAP * 8 / log2(65536 / (65536 - LEAST)) are 567,687
GROUPED = len(SHARES) * len(RATES)  # kinds from here on ask for groups
BYTES = 32  # the kind of what byte_counts.py makes
SYMBOLS = 40  # from here on one kind for each of SHARES, of whole symbols
MANY, SOME = 1 << 14, 1 << 16  # integers of a large array, of which settings are tried on so many; the two ways on more
WORTH_SYMBOLS = 1.0085  # bytes that whole symbols may take, on SOME, as they are two to four times as fast
SPARSE, WORTH = 0.1, 1.01  # share of nonzeros below which groups are tried; bytes they may take, as they are far faster
INT32 = np.iinfo(np.int32)


def encode(array: np.ndarray) -> bytes:
    """The bytes of an array of integers: weight codes, masks, indices. Its shape and type are not among them.

    They are few where most integers are near zero, and where magnitudes or signs resemble those of neighbours: on the
    axes after the second, in the same row, at the same place in other rows.

    Parameters
    ----------
    array : ndarray of integers or bool
        Of any shape, as weights have it: ``(outputs, inputs, height, width)``, ``(outputs, inputs)``.

    Raises ``ValueError`` for integers out of the range of int32.
    """
    if not isinstance(array, np.ndarray) or array.dtype.kind not in "iub":
        what = f"an array of {array.dtype}" if isinstance(array, np.ndarray) else f"a {type(array).__name__}"
        raise TypeError(f"array is {what}; accepted: an array of integers or bool")
    if array.size and not INT32.min <= array.min() <= array.max() <= INT32.max:
        raise ValueError(f"array holds {array.min()} to {array.max()}; accepted: {INT32.min} to {INT32.max}")
    values = np.ascontiguousarray(array, np.int32)
    if not values.any():
        return b""
    return _encoded(values, values.shape, *(_chosen(values) if values.size < MANY else _chosen_of_large(values)))


def estimated_size(array: np.ndarray) -> float:
    """About how many bytes :func:`encode` makes of an array, as a few of its rows say."""
    if array.size < MANY:
        return len(encode(array))
    values = _first(np.ascontiguousarray(array, np.int32), MANY)
    kind, side, mean = SYMBOLS, 0, _mean_level(values)
    return len(_encoded(values, array.shape, kind, side, mean)) * array.size / values.size if values.any() else 0


def encode_bytes(array: np.ndarray) -> bytes:
    """The bytes of an array of bytes, coded by how often each occurs: ten times as fast to decode, without contexts.

    Parameters
    ----------
    array : ndarray of int8, uint8 or bool
        Of any shape, with at least one element.
    """
    return bytes([BYTES]) + byte_counts.encode(np.ascontiguousarray(array).reshape(-1).view(np.uint8))


def decode(content: bytes, shape: Iterable[int], dtype: Any) -> np.ndarray:
    """The array of this shape and type that :func:`encode` or :func:`encode_bytes` made ``content`` of.

    Time and memory grow with the shape, which the caller has to bound: a thousand zeros may take no byte. Damage gives
    another array, or ``CheckpointError`` where it shows; only a checksum notices all of it.

    Parameters
    ----------
    content : bytes
    shape : tuple of int
    dtype : dtype
        Of integers or bool.

    Raises ``CheckpointError`` for what no array of the shape and type can have been coded as.
    """
    shape, dtype, content = tuple(shape), np.dtype(dtype), bytes(content)
    if dtype.kind not in "iub":
        raise TypeError(f"dtype is {dtype}; accepted: one of integers or bool")
    if not content:
        return np.zeros(shape, dtype)
    if not 0 < math.prod(shape) <= VALUES_PER_BYTE * (len(content) + HEADER):
        raise CheckpointError(f"{len(content)} bytes of codes are not of shape {shape}")
    values = _values(content, shape, dtype)
    if values is None:
        raise CheckpointError(f"{len(content)} bytes of codes of shape {shape} are damaged")
    least, most = (0, 1) if dtype.kind == "b" else (np.iinfo(dtype).min, np.iinfo(dtype).max)
    if values.min() < least or values.max() > most:
        raise CheckpointError(f"codes of {values.min()} to {values.max()} cannot be of type {dtype}")
    return values.astype(dtype, copy=False).reshape(shape)


def _values(content: bytes, shape: tuple[int, ...], dtype: np.dtype[Any]) -> np.ndarray | None:
    """The integers, in one row; None when they are damaged."""
    if content[0] == BYTES and dtype.itemsize == 1:
        found = byte_counts.decode(content[1:], math.prod(shape))
        return found if found is None or dtype.kind == "b" else found.view(dtype)
    geometry, settings = _read_header(content[:HEADER], shape)
    if content[0] < SYMBOLS:
        values = _coder().decode(content[HEADER:], geometry, settings)
    elif len(content) == HEADER or content[HEADER] >= symbols.TOKENS:
        values = None
    else:
        decoded = native.decode_symbols if native.library() else symbols.decode
        values = decoded(content[HEADER + 1:], geometry, settings, content[HEADER] + 1)
    return values if values is None else np.asarray(values, np.int32)


def _coder() -> ModuleType:
    return native if native.library() else model


def _geometry(shape: tuple[int, ...], side: int) -> Geometry:
    """(filters, channels, positions, width) of an array: with a side, or with one input a channel, of a matrix."""
    filters = shape[0] if len(shape) > 1 else 1
    inputs = math.prod(shape) // filters
    positions = math.prod(shape[2:])
    if side:
        return filters, inputs // (side * side), side * side, side
    if positions == 1 or len(shape) < 3:
        return filters, 1, inputs, inputs
    return filters, shape[1], positions, shape[-1]


def _possible_sides(shape: tuple[int, ...]) -> list[int]:
    """Sides of maps that the inputs of a matrix can be, 0 for none."""
    filters, channels, inputs, _ = _geometry(shape, 0)
    return [0] + [side for side in SIDES if channels == 1 and inputs % (side * side) == 0]


def _settings(kind: int, mean: int) -> Settings:
    """Those of the model, for a kind and a level of the mean magnitude."""
    grouped, kind = divmod(kind, GROUPED) if kind < SYMBOLS else (0, (kind - SYMBOLS) * len(RATES))
    share, rate = divmod(kind, len(RATES))
    return (mean if mean < 4 else 4 + (mean & 3) << (mean >> 2) - 1, RATES[rate], grouped, *SHARES[share])


def _mean_level(values: np.ndarray) -> int:
    magnitudes = np.abs(values).view(np.uint32)  # of int32; unsigned, as -2^31 has no other magnitude
    return model.level(int(np.minimum(magnitudes, model.LARGEST).sum(dtype=np.int64)) * 256 // values.size, 2)


def _encoded(values: np.ndarray, shape: tuple[int, ...], kind: int, side: int, mean: int) -> bytes:
    """The content of ``values``, the first filters or all of an array of ``shape``."""
    geometry = (len(values), *_geometry(shape, side)[1:]) if len(shape) > 1 else _geometry(shape, side)
    settings = _settings(kind, mean)
    if kind < SYMBOLS:
        numbers = values if _coder() is native else values.ravel().tolist()
        return bytes((kind, side, mean)) + _coder().encode(numbers, geometry, settings)
    last = symbols.token_of(max(int(values.max()), -int(values.min())))
    coded = native.encode_symbols(values, geometry, settings, last + 1) if _coder() is native \
        else symbols.encode(values.ravel().tolist(), geometry, settings, last + 1)
    return bytes((kind, side, mean, last)) + coded


def _chosen(values: np.ndarray) -> tuple[int, int, int]:
    """(kind, side, mean): side, shares, rate and groups one after the other, each the best on the first filters."""
    mean, shape = _mean_level(values), values.shape
    first = _first(values, TRIED if values.ndim > 1 else TRIED_ALONE)
    sides = _possible_sides(shape) if values.ndim > 1 or len(first) == len(values) else [0]
    shape = shape if values.ndim > 1 else first.shape

    def best(choices: list[tuple[int, int]]) -> tuple[int, int]:
        return min(choices, key=lambda choice: len(_encoded(first, shape, choice[0], choice[1], mean)))

    _, side = best([(0, side) for side in sides])
    kind, _ = best([(share * len(RATES), side) for share in range(len(SHARES))])
    kind, _ = best([(kind + rate, side) for rate in range(len(RATES))])
    if np.count_nonzero(values) <= SPARSE * values.size:
        grouped = len(_encoded(first, shape, kind + GROUPED, side, mean))
        if grouped <= WORTH * len(_encoded(first, shape, kind, side, mean)):
            kind += GROUPED
    return kind, side, mean


def _chosen_of_large(values: np.ndarray) -> tuple[int, int, int]:
    """(kind, side, mean): side and shares by whole symbols on the first MANY; these, or with mixing the best rate."""
    mean, shape = _mean_level(values), values.shape
    few, some = _first(values, MANY), _first(values, SOME)
    sides = _possible_sides(shape) if values.ndim > 1 else [0]

    def size(numbers: np.ndarray, kind: int, side: int) -> int:
        return len(_encoded(numbers, shape if values.ndim > 1 else numbers.shape, kind, side, mean))

    side = min(sides, key=lambda side: size(few, SYMBOLS, side))
    share = min(range(len(SHARES)), key=lambda share: size(few, SYMBOLS + share, side))
    kind = share * len(RATES)
    if size(some, SYMBOLS + share, side) <= WORTH_SYMBOLS * size(some, kind, side):
        return SYMBOLS + share, side, mean
    kind += min(range(len(RATES)), key=lambda rate: size(few, kind + rate, side))
    if np.count_nonzero(values) <= SPARSE * values.size \
            and size(few, kind + GROUPED, side) <= WORTH * size(few, kind, side):
        kind += GROUPED
    return kind, side, mean


def _first(values: np.ndarray, count: int) -> np.ndarray:
    """The first filters, of about so many integers, or of a single row so many."""
    return values[:max(1, count * len(values) // values.size)] if values.ndim > 1 else values[:count]


def _read_header(header: bytes, shape: tuple[int, ...]) -> tuple[Geometry, Settings]:
    """The geometry and settings of the model; ``CheckpointError`` when they are none."""
    if len(header) == HEADER:
        kind, side, mean = header
        known = kind < 2 * GROUPED or SYMBOLS <= kind < SYMBOLS + len(SHARES)
        if known and side in _possible_sides(shape) and mean < MEANS:
            return _geometry(shape, side), _settings(kind, mean)
    raise CheckpointError(f"codes of shape {shape} begin with {header!r}, which says nothing")
