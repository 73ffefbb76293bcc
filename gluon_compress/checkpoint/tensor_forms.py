"""The lossless forms of one tensor in a compressed file, of which the smallest is taken.

    as it is        little endian
    integers        coded, see coding/
    int8 codes      as levels of each row, and how many levels these are; see levels.py
    floats          as integers times a power of two, whose exponent stands first: rounded biases
    floats          each of their bytes as integers: of all values the lowest byte, and so on. The sign goes below the
                    mantissa first, and the highest byte is counted down from that of 1.0: exponents are near it.
                    Bytes that coding does not shorten, as those of most mantissas, stand as they are
    floats          where the zeros are, and the bytes of the others: pruned weights

Integers and bytes are coded with contexts, or by how often each byte occurs, which is ten times as fast: where many
bytes are coded, the latter is taken unless it makes the tensor larger by more than WORTH, as estimated on some of them.
All give back the same bits, the sign of zeros and NaN's payload too.
"""
from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np

from .. import coding
from ..coding.arrays import encode_bytes, estimated_size
from ..errors import CheckpointError
from ..files.schema import Malformed
from . import levels

__all__ = ["read", "smallest"]

Bytes = bytes | memoryview

EXPONENT = 2  # bytes
INTEGERS = 4  # bytes of the largest integers that are coded
LARGEST = 2 ** 20  # of the integers of a float tensor: with more bits its bytes are as short
SEEN_FIRST = 256  # values by which most float tensors show that they are no such integers
FEW_ZEROS = 0.98  # share of values that are not zero from which on zeros have no place of their own
WORTH = 0.004  # of a tensor's bytes, that it may take more for being decoded faster
CLEARLY = 1.02  # a form that is estimated to be so many times as large as another is not tried
MANY, CHUNKS = 1 << 14, 8  # bytes of a plane from which on it may, and in how many places they are looked at
RANDOM = 7.9  # bits a byte from which on coding is not tried: it takes a second for some million bytes


def smallest(tensor: np.ndarray) -> tuple[int | list[int], list[bytes]]:
    """``(lengths, contents)`` of a tensor."""
    if tensor.dtype.kind == "f":
        forms = _forms_of_floats(tensor) if tensor.size > 1 else []
    else:
        forms = _forms_of_integers(tensor) if tensor.dtype.itemsize <= INTEGERS else []
    if forms:
        coded = min(forms, key=lambda parts: sum(map(len, parts)))
        lengths = [len(part) for part in coded]
        if sum(lengths) < tensor.nbytes:
            return lengths, coded
    return tensor.nbytes, [tensor.astype(tensor.dtype.newbyteorder("<"), copy=False).tobytes()]


def _forms_of_integers(tensor: np.ndarray) -> list[list[bytes]]:
    """The integers, and the levels of int8 codes: both only where neither is clearly smaller."""
    found = levels.unstretched(tensor) if tensor.dtype == np.int8 and tensor.ndim > 1 and tensor.size else None
    if found is None:
        return [[coding.encode(tensor)]]
    ways: tuple[tuple[np.ndarray, ...], ...] = ((tensor,), found)
    if tensor.size >= MANY:
        sizes = [estimated_size(way[0]) for way in ways]
        ways = tuple(way for way, size in zip(ways, sizes) if size <= CLEARLY * min(sizes))
    return [[coding.encode(part) for part in way] for way in ways]


def read(parts: Sequence[Bytes], dtype: str, shape: tuple[int, ...], coded: bool) -> np.ndarray:
    """The tensor of such contents; :class:`Malformed` where there is none."""
    kind, count = np.dtype(dtype), math.prod(shape)
    if not coded:
        if len(parts[0]) != count * kind.itemsize:
            raise Malformed(f"a tensor of {dtype} and shape {shape} has {len(parts[0])} bytes")
        return np.frombuffer(bytearray(parts[0]), kind.newbyteorder("<")).astype(kind, copy=False).reshape(shape)
    accepted = (1, kind.itemsize, kind.itemsize + 1) if kind.kind == "f" else (1, 2) if dtype == "int8" else (1,)
    if len(parts) not in accepted:
        raise Malformed(f"a tensor of {dtype} is coded in {len(parts)} parts")
    if kind.kind != "f":
        return _decoded(parts[0], shape, kind) if len(parts) == 1 else _from_levels(parts, shape)
    if len(parts) == 1:
        return _from_integers(parts[0], shape, kind)
    if len(parts) == kind.itemsize:
        return _from_planes(parts, count, kind).reshape(shape)
    return _with_zeros(parts, kind, shape)


def _decoded(content: Bytes, shape: tuple[int, ...], dtype: Any) -> np.ndarray:
    try:
        return coding.decode(bytes(content), shape, dtype)
    except CheckpointError as error:
        raise Malformed(str(error)) from error


def _from_levels(parts: Sequence[Bytes], shape: tuple[int, ...]) -> np.ndarray:
    if len(shape) < 2:
        raise Malformed(f"a tensor of shape {shape} has no rows of levels")
    found, most = _decoded(parts[0], shape, np.int8), _decoded(parts[1], shape[:1], np.uint8)
    try:
        return levels.stretched(found, most)
    except ValueError as error:
        raise Malformed(str(error)) from error


def _forms_of_floats(tensor: np.ndarray) -> list[list[bytes]]:
    """The bytes, and the integers where there are any."""
    words = _words(tensor)
    there = words != 0
    if np.count_nonzero(there) > FEW_ZEROS * tensor.size:
        return [_coded_planes(words, tensor.dtype), *_as_integers(tensor)]
    apart = [[coding.encode(there.reshape(tensor.shape)), *_coded_planes(words[there], tensor.dtype)]] \
        if there.any() else []
    return [*apart, *_as_integers(tensor)]


# ---- floats as integers

def _as_integers(tensor: np.ndarray) -> list[list[bytes]]:
    """The form in a list, where it gives back the same bits."""
    some = tensor.reshape(-1)[:SEEN_FIRST]
    if not np.isfinite(tensor).all() or _steps(some.astype(np.float64)) > LARGEST:
        return []
    values = tensor.astype(np.float64)
    if _steps(values) > LARGEST:
        return []
    exponent = _lowest_bit(values[values != 0])
    integers = np.ldexp(values, -exponent).astype(np.int32)
    if np.ldexp(integers.astype(np.float64), exponent).astype(tensor.dtype).tobytes() != tensor.tobytes():
        return []
    return [[exponent.to_bytes(EXPONENT, "little", signed=True) + coding.encode(integers)]]


def _steps(values: np.ndarray) -> float:
    """The largest magnitude, in the lowest bit that is in use."""
    with np.errstate(over="ignore"):
        return float(np.ldexp(np.abs(values).max(), -_lowest_bit(values[values != 0])))


def _lowest_bit(values: np.ndarray) -> int:
    """The exponent of the lowest bit in use; 0 without values."""
    fractions, exponents = np.frexp(values)
    mantissas = np.abs(np.ldexp(fractions, 53)).astype(np.int64)
    places = np.log2((mantissas & -mantissas).astype(np.float64)).astype(np.int64)
    return int((exponents - 53 + places).min()) if values.size else 0


def _from_integers(content: Bytes, shape: tuple[int, ...], kind: np.dtype[Any]) -> np.ndarray:
    if len(content) < EXPONENT:
        raise Malformed(f"a tensor of {kind} as integers has {len(content)} bytes")
    exponent = int.from_bytes(content[:EXPONENT], "little", signed=True)
    integers = _decoded(content[EXPONENT:], shape, np.int32)
    with np.errstate(over="ignore"):  # infinite then, which is looked at with the layout
        return np.ldexp(integers.astype(np.float64), exponent).astype(kind)


# ---- the bytes of floats

def _words(tensor: np.ndarray) -> np.ndarray:
    """The bits of all values (count,), the sign lowest."""
    bits, count = _unsigned(tensor.dtype), 8 * tensor.dtype.itemsize
    words = np.ascontiguousarray(tensor).reshape(-1).view(bits)
    return words << bits.type(1) | words >> bits.type(count - 1)


def _planes(words: np.ndarray, kind: np.dtype[Any]) -> list[np.ndarray]:
    """The bytes of words, those with the lowest bits first; the highest ones as int8."""
    planes = words.astype(words.dtype.newbyteorder("<"), copy=False).view(np.uint8).reshape(len(words), -1)
    return [*planes.T[:-1], (_highest_of_one(kind) - planes[:, -1]).view(np.int8)]


def _coded_planes(words: np.ndarray, kind: np.dtype[Any]) -> list[bytes]:
    """Each plane coded, or as it is. A coded plane is shorter than its values, which tells one from the other."""
    planes = [np.ascontiguousarray(plane) for plane in _planes(words, kind)]
    worth = [_entropy(plane) < RANDOM for plane in planes]
    allowed = WORTH * words.nbytes / max(sum(worth), 1)
    parts = [_coded(plane, allowed) if coded else b"" for plane, coded in zip(planes, worth)]
    return [part if coded and len(part) < plane.size else plane.tobytes()
            for plane, part, coded in zip(planes, parts, worth)]


def _entropy(plane: np.ndarray) -> float:
    """Bits a byte."""
    counts = np.bincount(plane.view(np.uint8), minlength=256)
    shares = counts[counts > 0] / plane.size
    return float(-(shares * np.log2(shares)).sum())


def _coded(plane: np.ndarray, allowed: float) -> bytes:
    """By how often each byte occurs, if that takes at most ``allowed`` bytes more than contexts do."""
    if plane.size < MANY:
        return coding.encode(plane)
    fast, chunk = encode_bytes(plane), MANY // CHUNKS
    some = np.concatenate([plane[begin:begin + chunk] for begin in range(0, plane.size, plane.size // CHUNKS)])
    return fast if len(fast) - len(coding.encode(some)) * plane.size / some.size <= allowed else coding.encode(plane)


def _from_planes(parts: Sequence[Bytes], count: int, kind: np.dtype[Any]) -> np.ndarray:
    planes = np.empty((count, kind.itemsize), np.uint8)
    for place, part in enumerate(parts[:-1]):
        planes[:, place] = _plane(part, count, np.uint8)
    planes[:, -1] = _highest_of_one(kind) - _plane(parts[-1], count, np.int8).view(np.uint8)
    bits = _unsigned(kind)
    words = planes.view(bits.newbyteorder("<")).astype(bits, copy=False).reshape(-1)
    signs = words << bits.type(8 * kind.itemsize - 1)
    words >>= bits.type(1)
    words |= signs
    return words.view(kind)


def _with_zeros(parts: Sequence[Bytes], kind: np.dtype[Any], shape: tuple[int, ...]) -> np.ndarray:
    there = _decoded(parts[0], shape, np.bool_)
    if not there.any():
        raise Malformed(f"a tensor of {kind} and shape {shape} has a form for some zeros, and is all zeros")
    values = np.zeros(shape, kind)
    values[there] = _from_planes(parts[1:], int(np.count_nonzero(there)), kind)
    return values


def _plane(part: Bytes, count: int, kind: Any) -> np.ndarray:
    return np.frombuffer(part, kind) if len(part) == count else _decoded(part, (count,), kind)


def _unsigned(kind: np.dtype[Any]) -> np.dtype[Any]:
    return np.dtype(f"u{kind.itemsize}")


def _highest_of_one(kind: np.dtype[Any]) -> np.uint8:
    """Without the sign."""
    word = int(np.ones(1, kind).view(_unsigned(kind))[0]) << 1
    return np.uint8(word >> 8 * (kind.itemsize - 1))
