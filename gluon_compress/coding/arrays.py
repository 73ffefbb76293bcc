"""Arrays of integers to bytes and back, coded as ``choosing.py`` found best, which the first bytes say.

``content = kind, side, mean, then the bits``, of the questions of questions.py.

``content = kind, side, mean, largest token, then whole symbols``, of the kinds from SYMBOLS on, see symbols.py: what
large arrays have unless mixing makes them clearly smaller.

``content = BYTES, then what byte_counts.py says`` of bytes coded by how often each occurs: what :func:`encode_bytes`
makes.
"""
from __future__ import annotations

import math
from collections.abc import Iterable
from typing import Any

import numpy as np

from ..arguments import check_integer, shown
from ..errors import CheckpointError
from . import byte_counts, native, symbols
from .choosing import BYTES, HEADER, MANY, SYMBOLS, chosen, coder, encoded, first, mean_level, of_symbols, read_header

__all__ = ["decode", "encode", "encode_bytes"]

VALUES_PER_BYTE = 1 << 20  # that content can stand for: WHOLE_MAP * 8 / log2(65536 / (65536 - LEAST)) are 567,687
INT32 = np.iinfo(np.int32)


def encode(array: np.ndarray) -> bytes:
    """The bytes of an array of integers: weight codes, masks, indices. Its shape and type are not among them.

    They are few where most integers are near zero, and where magnitudes or signs resemble those of neighbours: on the
    axes after the second, in the same row, at the same place in other rows.

    Parameters
    ----------
    array : ndarray of integers or bool
        Of any shape, as weights have it: ``(outputs, inputs, height, width)``, ``(outputs, inputs)``.

    Raises ``TypeError`` for anything else, ``ValueError`` for integers out of the range of int32.
    """
    if not isinstance(array, np.ndarray) or array.dtype.kind not in "iub":
        what = f"an array of {array.dtype}" if isinstance(array, np.ndarray) else f"a {type(array).__name__}"
        raise TypeError(f"array is {what}; accepted: an array of integers or bool")
    if array.size and not INT32.min <= array.min() <= array.max() <= INT32.max:
        raise ValueError(f"array holds {array.min()} to {array.max()}; accepted: {INT32.min} to {INT32.max}")
    values = np.ascontiguousarray(array, np.int32)
    if not values.any():
        return b""
    return encoded(values, *chosen(values))


def estimated_size(array: np.ndarray) -> float:
    """About how many bytes :func:`encode` makes of an array, as a few of its rows say."""
    if array.size < MANY:
        return len(encode(array))
    values = first(np.ascontiguousarray(array, np.int32), MANY)
    return len(encoded(values, SYMBOLS, 0, mean_level(values))) * array.size / values.size if values.any() else 0


def encode_bytes(array: np.ndarray) -> bytes:
    """The bytes of an array of bytes, coded by how often each occurs: ten times as fast to decode, without contexts.

    Parameters
    ----------
    array : ndarray of int8, uint8 or bool
        Of any shape.
    """
    if not array.size:
        return b""
    return bytes([BYTES]) + byte_counts.encode(np.ascontiguousarray(array).reshape(-1).view(np.uint8))


def decode(content: bytes, shape: Iterable[int], dtype: Any) -> np.ndarray:
    """The array of this shape and type that :func:`encode` or :func:`encode_bytes` made ``content`` of.

    Time and memory grow with the shape, which the caller has to bound: a thousand zeros may take no byte. Damage gives
    another array, or ``CheckpointError`` where it shows; only a checksum notices all of it.

    Parameters
    ----------
    content : bytes, bytearray or memoryview
    shape : tuple of int
    dtype : dtype
        Of integers or bool.

    Raises ``TypeError`` or ``ValueError`` for other arguments, ``CheckpointError`` for what no array of the shape and
    type can have been coded as.
    """
    if not isinstance(content, (bytes, bytearray, memoryview)):  # bytes(5) would be five zeros
        raise TypeError(f"content is {shown(content)}; accepted: bytes")
    shape, dtype, content = _checked_shape(shape), np.dtype(dtype), bytes(content)
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


def _checked_shape(shape: Any) -> tuple[int, ...]:
    """As a tuple; two negative numbers would pass for a size."""
    if not isinstance(shape, Iterable) or isinstance(shape, str):
        raise TypeError(f"shape is {shown(shape)}; accepted: a tuple of integers")
    shape = tuple(shape)
    for number, length in enumerate(shape):
        check_integer(f"shape[{number}]", length, minimum=0)
    return tuple(map(int, shape))


def _values(content: bytes, shape: tuple[int, ...], dtype: np.dtype[Any]) -> np.ndarray | None:
    """The integers, in one row; None when they are damaged."""
    if content[0] == BYTES and dtype.itemsize == 1:
        found = byte_counts.decode(content[1:], math.prod(shape))
        return found if found is None or dtype.kind == "b" else found.view(dtype)
    geometry, settings = read_header(content[:HEADER], shape)
    if not of_symbols(content[0]):
        values = coder().decode(content[HEADER:], geometry, settings)
    elif len(content) == HEADER or content[HEADER] >= symbols.TOKENS:
        values = None
    else:
        decoded = native.decode_symbols if native.library() else symbols.decode
        values = decoded(content[HEADER + 1:], geometry, settings, content[HEADER] + 1)
    return values if values is None else np.asarray(values, np.int32)
