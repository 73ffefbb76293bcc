"""The file of a compressed network: JSON and named tensors, each in the smallest form that gives the same bits.

    8 bytes         MAGIC, which a transfer as text damages
    1 byte          VERSION
    32 bytes        SHA-256 of all other bytes
    4 bytes         length of the packed header, little endian
    ...             {"header": ..., "tensors": [[name, type, shape, lengths], ...]}, as header_packing.py packs it
    ...             the tensors, one after the other

``lengths`` is one number for a tensor as it is, or a list of them for one whose integers are coded; tensor_forms.py has
the forms. Files of version 2 are safetensors; see files/tensorfile.py, which reads them.
"""
from __future__ import annotations

import hashlib
import math
import os
from collections.abc import Iterator
from typing import Any

import numpy as np

from ..errors import CheckpointError
from ..files.schema import SHAPE, Check, Malformed, anything, choice, either, fields, integer, list_of, text
from ..files.tensorfile import COMPRESSED_NETWORK as MAGIC
from ..files.tensorfile import content_of, plain
from ..files.writing import write_atomically
from . import header_packing, tensor_forms
from .codec import TYPES, UNPACKED_BYTES, UNPACKED_TIMES, Tensors

__all__ = ["begins", "coded", "read", "size_of_header", "write"]

NAME = "compressed network"
VERSION = 3
DIGEST, BEFORE = 32, len(MAGIC) + 1 + 32 + 4  # bytes: of the checksum, before the header
HEADER_BYTES = 16 << 20  # unpacked; a graph of 10,000 operators has 3 MB
LEAST_BYTES = 4  # that decoding takes for an integer
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
    """The header, packed, and the bytes of all tensors."""
    rows, contents = coded(tensors)
    return header_packing.pack({"header": header, "tensors": rows}), b"".join(contents)


def coded(tensors: Tensors) -> tuple[list[Any], list[bytes]]:
    """What the header says of tensors, and their bytes in the file, one for each."""
    rows, contents = [], []
    for name, tensor in tensors.items():
        tensor = plain(name, tensor)
        lengths, pieces = tensor_forms.smallest(tensor)
        rows.append([name, tensor.dtype.name, list(tensor.shape), lengths])
        contents.append(b"".join(pieces))
    return rows, contents


def size_of_header(header: Any, rows: list[Any]) -> int:
    """How many bytes of a file are not those of its tensors, whose ``rows`` :func:`coded` gives."""
    return BEFORE + len(header_packing.pack({"header": header, "tensors": rows}))


def assembled(header: bytes, tensors: bytes) -> bytes:
    """The file of a packed header and the bytes of the tensors."""
    start, rest = MAGIC + bytes([VERSION]), len(header).to_bytes(4, "little") + header + tensors
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
    digest = hashlib.sha256(content[:start + 1])
    digest.update(memoryview(content)[start + 1 + DIGEST:])  # no copy of a large file
    if digest.digest() != content[start + 1:start + 1 + DIGEST]:
        raise CheckpointError(f"{path} is damaged: its content does not match its checksum")
    with content_of(path, kind):
        return _content(content, check)


def _content(content: bytes, check: Check) -> tuple[Tensors, Any]:
    end = BEFORE + int.from_bytes(content[BEFORE - 4:BEFORE], "little")
    if end > len(content):
        raise Malformed(f"the header ends at byte {end} of {len(content)}")
    said = header_packing.unpack(content[BEFORE:end], HEADER_BYTES + len(content) // 16)
    _CONTENT(said, "the header")
    check(said["header"], "the header")
    _check_rows(said["tensors"], len(content) - end, UNPACKED_BYTES + UNPACKED_TIMES * len(content))
    pieces = memoryview(content)[end:]
    tensors: Tensors = {}
    for name, dtype, shape, lengths in said["tensors"]:
        parts = list(_parts(pieces, lengths if isinstance(lengths, list) else [lengths]))
        pieces = pieces[sum(map(len, parts)):]
        tensors[name] = tensor_forms.read(parts, dtype, tuple(shape), isinstance(lengths, list))
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
    total = sum(math.prod(row[2]) * max(LEAST_BYTES, np.dtype(row[1]).itemsize) for row in rows)
    if total > most:
        raise Malformed(f"{stored} bytes of tensors stand for {total}: too much to accept")


def _parts(pieces: memoryview, lengths: list[int]) -> Iterator[memoryview]:
    begin = 0
    for length in lengths:
        yield pieces[begin:begin + length]
        begin += length
