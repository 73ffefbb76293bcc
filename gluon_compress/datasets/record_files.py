"""RecordIO files of images, as MXNet's ``im2rec`` packs them. Read here: MXNet's own reader trusts what they say."""
from __future__ import annotations

import os
import struct
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from ..errors import DataError
from ..files.paths import check_path
from .decoding import Preparation, Side
from .images import ImageDataset
from .reading import Request, Stored, read_dataset

MAGIC = 0xced7230a
HEADER = struct.Struct("<II")         # the magic number; which part of a record it is, and how long
IMAGE_HEADER = struct.Struct("<IfQQ")  # how many labels follow, the label if none does, two numbers
WHOLE, FIRST, MIDDLE, LAST = range(4)


@dataclass(frozen=True)
class Record:
    """Where a record is: the position of its header, and those of its parts, which the magic number joins."""

    position: int
    parts: tuple[tuple[int, int], ...]  # position and length


def record_file(path: str | os.PathLike[str], resize: Side | None = None, crop: Side | None = None, *,
                grey: bool = False, mean: Sequence[float] | None = None, std: Sequence[float] | None = None,
                limit: int | None = None, seed: int = 0, skip_bad: bool = False,
                progress: bool = True) -> ImageDataset:
    """The images of a RecordIO file, ``images.rec``, which MXNet's ``im2rec`` or ``mx.recordio.pack_img`` made.

    The order is that of the file. An index beside it (``images.idx``) is not needed, but must belong to it. The other
    arguments, and what is raised, are those of :func:`image_folder`; a record that is damaged, or has several labels,
    is a ``DataError``, too.
    """
    check_path("path", path)
    request = Request(Preparation(resize, crop, grey), mean, std, limit, seed, skip_bad, progress)
    path = Path(path).expanduser()
    with open(path, "rb") as file:
        number = file.fileno()
        records = _records(path, number, os.fstat(number).st_size)
        _check_index(path, records)
        stored, bad = [], {}
        for index in request.chosen(len(records)):
            name = f"record {index}"
            try:
                stored.append(_stored(name, number, records[index]))
            except ValueError as error:
                bad[name] = str(error)
        return read_dataset(str(path), stored, bad, request)


def _records(path: Path, file: int, size: int) -> list[Record]:
    """Where the records of an open file are; ``DataError`` unless they fill it."""
    records: list[Record] = []
    parts: list[tuple[int, int]] = []
    begin = position = 0
    while position < size:
        header = os.pread(file, HEADER.size, position)
        magic, kind_and_length = HEADER.unpack(header) if len(header) == HEADER.size else (0, 0)
        kind, length = kind_and_length >> 29, kind_and_length & (1 << 29) - 1
        data = position + HEADER.size
        expected = (MIDDLE, LAST) if parts else (WHOLE, FIRST)
        if magic != MAGIC or kind not in expected or data + length > size:
            raise DataError(f"{path} is damaged, truncated or no RecordIO file: at byte {position}, after "
                            f"{len(records)} records, there is no whole one")
        begin = begin if parts else position
        parts.append((data, length))
        if kind in (WHOLE, LAST):
            records.append(Record(begin, tuple(parts)))
            parts = []
        position = data + -(-length // 4) * 4
    if parts:
        raise DataError(f"{path} is truncated: its last record, after {len(records)}, has no end")
    return records


def _check_index(path: Path, records: list[Record]) -> None:
    """``DataError`` when the index beside the file names other positions than those of its records."""
    index = path.with_suffix(".idx")
    if not index.is_file():
        return
    try:
        positions = [int(line.split()[1]) for line in index.read_text().splitlines() if line.strip()]
    except (ValueError, IndexError) as error:
        raise DataError(f"{index} is no index of a RecordIO file, lines of a key and a position: {error}") from error
    if sorted(positions) != [record.position for record in records]:
        raise DataError(f"{index} has {len(positions)} records, {path} {len(records)}, and not all at the same "
                        f"positions: one of them is of another file; remove the index, which is not needed")


def _content(file: int, record: Record) -> bytes:
    return struct.pack("<I", MAGIC).join(os.pread(file, length, position) for position, length in record.parts)


def _stored(name: str, file: int, record: Record) -> Stored:
    """A record's image; ``ValueError`` unless it has one label, a class."""
    length = sum(length for _, length in record.parts)
    if length < IMAGE_HEADER.size:
        raise ValueError("no image: it is shorter than the header of one")
    content = _content(file, record) if len(record.parts) > 1 else os.pread(file, IMAGE_HEADER.size + 4,
                                                                              record.parts[0][0])
    labels, label, _, _ = IMAGE_HEADER.unpack_from(content)
    start = IMAGE_HEADER.size
    if labels == 1 and length >= start + 4:
        [label] = struct.unpack_from("<f", content, start)
        start += 4
    elif labels:
        raise ValueError(f"{labels} labels; accepted: one, the number of the class")
    if not (label >= 0 and label == np.floor(label) and label < 2 ** 24):  # also for NaN
        raise ValueError(f"the label is {label:g}; accepted: the number of the class, from 0")
    return Stored(name, int(label), lambda: _content(file, record)[start:])
