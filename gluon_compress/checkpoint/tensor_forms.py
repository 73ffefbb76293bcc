"""The lossless forms of one tensor in a compressed file, of which the smallest is taken.

    as it is        little endian
    integers        coded, see coding/
    int8 codes      as levels of each row, and how many levels these are; see levels.py
    floats          as integers times a power of two, whose exponent stands first: rounded biases
    floats          each of their bytes as integers: of all values the lowest byte, and so on. The sign goes below the
                    mantissa first, and the highest byte is counted down from that of 1.0: exponents are near it.
                    Bytes that coding does not shorten, as those of most mantissas, stand as they are

All give back the same bits, the sign of zeros and NaN's payload too.
"""
from __future__ import annotations

import math
from typing import Any

import numpy as np

from .. import coding
from ..errors import CheckpointError
from ..files.schema import Malformed
from . import levels

__all__ = ["read", "smallest"]

EXPONENT = 2  # bytes
INTEGERS = 4  # bytes of the largest integers that are coded
LARGEST = 2 ** 20  # of the integers of a float tensor: with more bits its bytes are as short
RANDOM = 7.9  # bits a byte from which on coding is not tried: it takes a second for some million bytes


def smallest(tensor: np.ndarray) -> tuple[int | list[int], list[bytes]]:
    """``(lengths, contents)`` of a tensor."""
    content = tensor.astype(tensor.dtype.newbyteorder("<"), copy=False).tobytes()
    forms = [[coding.encode(tensor)]] if tensor.dtype.kind != "f" and tensor.dtype.itemsize <= INTEGERS else []
    if tensor.dtype == np.int8 and tensor.ndim > 1 and tensor.size and (found := levels.unstretched(tensor)):
        forms.append([coding.encode(part) for part in found])
    if tensor.dtype.kind == "f" and tensor.size > 1:
        forms = [[_shortest(plane) for plane in _planes(tensor)], *_as_integers(tensor)]
    coded = min(forms, key=lambda parts: sum(map(len, parts)), default=[content])
    lengths = [len(part) for part in coded]
    return (lengths, coded) if sum(lengths) < len(content) else (len(content), [content])


def read(parts: list[bytes], dtype: str, shape: tuple[int, ...], coded: bool) -> np.ndarray:
    """The tensor of such contents; :class:`Malformed` where there is none."""
    kind, count = np.dtype(dtype), math.prod(shape)
    if not coded:
        if len(parts[0]) != count * kind.itemsize:
            raise Malformed(f"a tensor of {dtype} and shape {shape} has {len(parts[0])} bytes")
        return np.frombuffer(bytearray(parts[0]), kind.newbyteorder("<")).astype(kind, copy=False).reshape(shape)
    accepted = {"float16": (1, 2), "float32": (1, 4), "float64": (1, 8), "int8": (1, 2)}.get(dtype, (1,))
    if len(parts) not in accepted:
        raise Malformed(f"a tensor of {dtype} is coded in {len(parts)} parts")
    if kind.kind != "f":
        return _decoded(parts[0], shape, kind) if len(parts) == 1 else _from_levels(parts, shape)
    if len(parts) == 1:
        return _from_integers(parts[0], shape, kind)
    return _from_planes(parts, count, kind).reshape(shape)


def _decoded(content: bytes, shape: tuple[int, ...], dtype: Any) -> np.ndarray:
    try:
        return coding.decode(content, shape, dtype)
    except CheckpointError as error:
        raise Malformed(str(error)) from error


def _from_levels(parts: list[bytes], shape: tuple[int, ...]) -> np.ndarray:
    if len(shape) < 2:
        raise Malformed(f"a tensor of shape {shape} has no rows of levels")
    found, most = _decoded(parts[0], shape, np.int8), _decoded(parts[1], shape[:1], np.uint8)
    try:
        return levels.stretched(found, most)
    except ValueError as error:
        raise Malformed(str(error)) from error


# ---- floats as integers

def _as_integers(tensor: np.ndarray) -> list[list[bytes]]:
    """The form in a list, where it gives back the same bits."""
    if not np.isfinite(tensor).all():
        return []
    values = tensor.astype(np.float64)
    exponent = _lowest_bit(values[values != 0])
    with np.errstate(over="ignore"):
        integers = np.ldexp(values, -exponent)
    if np.abs(integers).max() > LARGEST:
        return []
    integers = integers.astype(np.int32)
    if np.ldexp(integers.astype(np.float64), exponent).astype(tensor.dtype).tobytes() != tensor.tobytes():
        return []
    return [[exponent.to_bytes(EXPONENT, "little", signed=True) + coding.encode(integers)]]


def _lowest_bit(values: np.ndarray) -> int:
    """The exponent of the lowest bit in use; 0 without values."""
    fractions, exponents = np.frexp(values)
    mantissas = np.abs(np.ldexp(fractions, 53)).astype(np.int64)
    places = np.log2((mantissas & -mantissas).astype(np.float64)).astype(np.int64)
    return int((exponents - 53 + places).min()) if values.size else 0


def _from_integers(content: bytes, shape: tuple[int, ...], kind: np.dtype[Any]) -> np.ndarray:
    if len(content) < EXPONENT:
        raise Malformed(f"a tensor of {kind} as integers has {len(content)} bytes")
    exponent = int.from_bytes(content[:EXPONENT], "little", signed=True)
    integers = _decoded(content[EXPONENT:], shape, np.int32)
    with np.errstate(over="ignore"):  # infinite then, which is looked at with the layout
        return np.ldexp(integers.astype(np.float64), exponent).astype(kind)


# ---- the bytes of floats

def _planes(tensor: np.ndarray) -> list[np.ndarray]:
    """The bytes of all values, those with the lowest bits first; the highest ones as int8."""
    bits, count = _unsigned(tensor.dtype), 8 * tensor.dtype.itemsize
    words = np.ascontiguousarray(tensor).reshape(-1).view(bits)
    words = (words << bits.type(1) | words >> bits.type(count - 1)).astype(bits.newbyteorder("<"), copy=False)
    planes = words.view(np.uint8).reshape(tensor.size, -1)
    return [*planes.T[:-1], (_highest_of_one(tensor.dtype) - planes[:, -1]).view(np.int8)]


def _shortest(plane: np.ndarray) -> bytes:
    """The bytes coded, or as they are. A coded plane is shorter than its values, which tells one from the other."""
    counts = np.bincount(plane.view(np.uint8), minlength=256)
    shares = counts[counts > 0] / plane.size
    if -(shares * np.log2(shares)).sum() < RANDOM and len(coded := coding.encode(plane)) < plane.size:
        return coded
    return plane.tobytes()


def _from_planes(parts: list[bytes], count: int, kind: np.dtype[Any]) -> np.ndarray:
    planes = np.empty((count, kind.itemsize), np.uint8)
    for place, part in enumerate(parts[:-1]):
        planes[:, place] = _plane(part, count, np.uint8)
    planes[:, -1] = _highest_of_one(kind) - _plane(parts[-1], count, np.int8).view(np.uint8)
    bits = _unsigned(kind)
    words = planes.view(bits.newbyteorder("<")).astype(bits, copy=False).reshape(-1)
    return (words >> bits.type(1) | words << bits.type(8 * kind.itemsize - 1)).view(kind)


def _plane(part: bytes, count: int, kind: Any) -> np.ndarray:
    return np.frombuffer(part, kind) if len(part) == count else _decoded(part, (count,), kind)


def _unsigned(kind: np.dtype[Any]) -> np.dtype[Any]:
    return np.dtype(f"u{kind.itemsize}")


def _highest_of_one(kind: np.dtype[Any]) -> np.uint8:
    """Without the sign."""
    word = int(np.ones(1, kind).view(_unsigned(kind))[0]) << 1
    return np.uint8(word >> 8 * (kind.itemsize - 1))
