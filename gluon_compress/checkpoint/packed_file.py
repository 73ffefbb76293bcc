"""The file of a compressed network: JSON and named tensors, each in the smallest form that gives the same bits.

    8 bytes         MAGIC, which a transfer as text damages
    1 byte          VERSION
    32 bytes        SHA-256 of all other bytes
    4 bytes         length of the packed JSON, little endian
    ...             {"header": ..., "tensors": [[name, type, shape, lengths], ...]}, by LZMA
    ...             the tensors, one after the other

``lengths`` is one number for a tensor as it is, or a list of them: of integers that are coded (see coding/), or of the
bytes of each float, the first of all values and so on, coded as integers. Files of version 2 are safetensors; see
files/tensorfile.py, which reads them.
"""
from __future__ import annotations

import hashlib
import json
import lzma
import math
import os
from collections.abc import Iterator
from typing import Any

import numpy as np

from .. import coding
from ..errors import CheckpointError
from ..files.schema import SHAPE, Check, Malformed, anything, choice, either, fields, integer, list_of, parse, text
from ..files.tensorfile import content_of, plain
from ..files.unpacking import LZMA_FILTERS, unpack_lzma
from ..files.writing import write_atomically
from .codec import TYPES, Tensors

__all__ = ["begins", "read", "write"]

NAME = "compressed network"
MAGIC, VERSION = b"\x8bgcz\r\n\x1a\n", 3
DIGEST, BEFORE = 32, len(MAGIC) + 1 + 32 + 4  # bytes: of the checksum, before the JSON
JSON_BYTES, JSON_TIMES = 16 << 20, 64  # the JSON may unpack to this, and this many times the file
# What tensors may decode to: this, and this many times the file. A zero takes 1/5000 of a bit in long arrays.
DECODED_BYTES, DECODED_TIMES = 64 << 20, 1024
MOST = 2 ** 48
ROW_KEYS = 4

_CONTENT = fields({"header": anything, "tensors": list_of(list_of(anything, least=ROW_KEYS, most=ROW_KEYS))})
_ROW: tuple[Check, ...] = (text(), choice(*TYPES), SHAPE, either(integer(0, MOST), list_of(integer(0, MOST), least=1,
                                                                                            most=8)))


def begins(start: bytes) -> bool:
    """Whether a file that begins like this is one of ours, of any version from 3 on."""
    return start.startswith(MAGIC)


def write(path: str | os.PathLike[str], tensors: Tensors, header: Any) -> None:
    """Write ``{name: NumPy array}`` and a JSON-serializable ``header``; an older file is replaced at once."""
    content = assembled(*packed(tensors, header))
    write_atomically(path, lambda temporary: temporary.write_bytes(content))


def packed(tensors: Tensors, header: Any) -> tuple[bytes, bytes]:
    """The JSON, packed, and the bytes of all tensors."""
    rows, contents = [], []
    for name, tensor in tensors.items():
        tensor = plain(name, tensor)
        lengths, pieces = _smallest(tensor)
        rows.append([name, tensor.dtype.name, list(tensor.shape), lengths])
        contents += pieces
    said = json.dumps({"header": header, "tensors": rows}, sort_keys=True, separators=(",", ":")).encode()
    return lzma.compress(said, lzma.FORMAT_RAW, filters=LZMA_FILTERS), b"".join(contents)


def assembled(said: bytes, tensors: bytes) -> bytes:
    """The file of a packed JSON and the bytes of the tensors."""
    start, rest = MAGIC + bytes([VERSION]), len(said).to_bytes(4, "little") + said + tensors
    return start + hashlib.sha256(start + rest).digest() + rest


def read(path: str | os.PathLike[str], kind: str, check: Check = anything) -> tuple[Tensors, Any]:
    """``(tensors, header)`` of a file, the header once ``check`` accepts it; ``kind`` says in errors what it is.

    Raises ``CheckpointError`` when the file is damaged, truncated or of a newer version, or stands for more than its
    size justifies.
    """
    with open(path, "rb") as file:
        content = file.read()
    start = len(MAGIC)
    if len(content) < BEFORE:
        raise CheckpointError(f"{path} is damaged: it has {len(content)} bytes")
    if content[start] != VERSION:
        raise CheckpointError(f"{path} has version {content[start]}; this code reads 2 and {VERSION}")
    digest = content[start + 1:start + 1 + DIGEST]
    if hashlib.sha256(content[:start + 1] + content[start + 1 + DIGEST:]).digest() != digest:
        raise CheckpointError(f"{path} is damaged: its content does not match its checksum")
    with content_of(path, kind):
        return _content(content, check)


def _content(content: bytes, check: Check) -> tuple[Tensors, Any]:
    end = BEFORE + int.from_bytes(content[BEFORE - 4:BEFORE], "little")
    if end > len(content):
        raise Malformed(f"the JSON ends at byte {end} of {len(content)}")
    said = parse(unpack_lzma(content[BEFORE:end], JSON_BYTES + JSON_TIMES * len(content), "the JSON", raw=True),
                 "the JSON")
    _CONTENT(said, "the JSON")
    check(said["header"], "the header")
    _check_rows(said["tensors"], len(content) - end, DECODED_BYTES + DECODED_TIMES * len(content))
    pieces = memoryview(content)[end:]
    tensors: Tensors = {}
    for name, dtype, shape, lengths in said["tensors"]:
        parts = list(_parts(pieces, lengths if isinstance(lengths, list) else [lengths]))
        pieces = pieces[sum(map(len, parts)):]
        tensors[name] = _tensor(parts, dtype, tuple(shape), isinstance(lengths, list))
    return tensors, said["header"]


def _check_rows(rows: list[Any], stored: int, most: int) -> None:
    """Raise ``Malformed`` unless the rows describe tensors of ``stored`` bytes that decode to ``most`` at most."""
    for row in rows:
        for value, check, what in zip(row, _ROW, ("name", "type", "shape", "lengths")):
            check(value, f"the {what} of a tensor")
    if len({row[0] for row in rows}) < len(rows):
        raise Malformed("two tensors have one name")
    lengths = sum(sum(row[3]) if isinstance(row[3], list) else row[3] for row in rows)
    if lengths != stored:
        raise Malformed(f"the tensors have {stored} bytes where there should be {lengths}")
    total = sum(math.prod(row[2]) * np.dtype(row[1]).itemsize for row in rows)
    if total > most:
        raise Malformed(f"a file of {stored} bytes of tensors stands for {total}: too much to accept")


def _parts(pieces: memoryview, lengths: list[int]) -> Iterator[bytes]:
    begin = 0
    for length in lengths:
        yield bytes(pieces[begin:begin + length])
        begin += length


# ---- one tensor

def _smallest(tensor: np.ndarray) -> tuple[int | list[int], list[bytes]]:
    """``(lengths, contents)`` of a tensor."""
    content = tensor.tobytes()
    if tensor.dtype.kind == "f":
        coded = [coding.encode(plane) for plane in _planes(tensor)]
    elif tensor.dtype.itemsize <= 4:
        coded = [coding.encode(tensor)]
    else:
        return len(content), [content]
    lengths = [len(part) for part in coded]
    return (lengths, coded) if sum(lengths) < len(content) else (len(content), [content])


def _planes(tensor: np.ndarray) -> np.ndarray:
    """The bytes of floats (bytes of one, ...), the first those with the lowest bits."""
    flat = tensor.reshape(-1).astype(tensor.dtype.newbyteorder("<"), copy=False)
    return np.ascontiguousarray(flat.view(np.uint8).reshape(tensor.size, tensor.dtype.itemsize).T)


def _tensor(parts: list[bytes], dtype: str, shape: tuple[int, ...], coded: bool) -> np.ndarray:
    kind, count = np.dtype(dtype), math.prod(shape)
    if not coded:
        if len(parts[0]) != count * kind.itemsize:
            raise Malformed(f"a tensor of {dtype} and shape {shape} has {len(parts[0])} bytes")
        return np.frombuffer(bytearray(parts[0]), kind.newbyteorder("<")).astype(kind, copy=False).reshape(shape)
    if len(parts) != (kind.itemsize if kind.kind == "f" else 1):
        raise Malformed(f"a tensor of {dtype} is coded in {len(parts)} parts")
    if kind.kind != "f":
        return _decoded(parts[0], shape, kind)
    planes = np.stack([_decoded(part, (count,), np.dtype(np.uint8)) for part in parts], axis=1)
    return np.ascontiguousarray(planes).view(kind.newbyteorder("<")).astype(kind, copy=False).reshape(shape)


def _decoded(content: bytes, shape: tuple[int, ...], dtype: np.dtype[Any]) -> np.ndarray:
    try:
        return coding.decode(content, shape, dtype)
    except CheckpointError as error:
        raise Malformed(str(error)) from error
