"""Unpacking what a stranger may have packed: never more than asked for."""
from __future__ import annotations

import lzma
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import Any, Protocol

from ..errors import DownloadError
from .locks import CHUNK_BYTES
from .schema import Malformed
from .transfer import reason_of
from .writing import naming

LZMA_MEMORY = 100 << 20  # bytes; the strongest setting needs 65 MiB
LZMA_FILTERS = [{"id": lzma.FILTER_LZMA2, "preset": 9, "dict_size": 16 << 20, "lc": 4, "lp": 0, "pb": 0}]  # of text


class Readable(Protocol):
    """A file, or a member of an archive."""

    def read(self, count: int, /) -> bytes:
        """At most ``count`` bytes; b"" at the end."""


def inflate(packed: bytes, size: int, where: str) -> bytes:
    """The ``size`` bytes that were deflated; :class:`Malformed` when they are fewer or more, or damaged."""
    unpacker = zlib.decompressobj()
    try:
        content = unpacker.decompress(packed, size + 1)
    except zlib.error as error:
        raise Malformed(f"{where} is damaged: {error}") from error
    if len(content) != size or not unpacker.eof or unpacker.unused_data:
        raise Malformed(f"{where} does not unpack to {size} bytes")
    return content


def unpack_lzma(packed: bytes, most: int, where: str, raw: bool = False) -> bytes:
    """The content of an .xz stream, or a raw one of LZMA_FILTERS: at most ``most`` bytes, else :class:`Malformed`."""
    unpacker = (lzma.LZMADecompressor(lzma.FORMAT_RAW, filters=LZMA_FILTERS) if raw
                else lzma.LZMADecompressor(lzma.FORMAT_XZ, LZMA_MEMORY))
    try:
        content = unpacker.decompress(packed, most + 1)
    except (lzma.LZMAError, EOFError) as error:
        raise Malformed(f"{where} is damaged: {error}") from error
    if len(content) > most:
        raise Malformed(f"{where} unpacks to more than {most} bytes")
    if not unpacker.eof or unpacker.unused_data:
        raise Malformed(f"{where} ends too early or too late")
    return content


def copy_out(source: Readable, path: Path, limit: int, title: str) -> None:
    """Write what ``source.read`` gives, ``limit`` bytes at most, to a new file; errors in reading are the archive's."""
    path.unlink(missing_ok=True)
    total = 0
    with naming(path), open(path, "xb") as target:
        while piece := of_archive(title, lambda: source.read(CHUNK_BYTES)):
            total += len(piece)
            if total > limit:
                raise DownloadError(f"{title} unpacks to more than the {limit:,} bytes that are expected at most")
            target.write(piece)


def of_archive(title: str, read: Callable[[], Any]) -> Any:
    """``read()``; any error that it raises, of a dozen kinds, becomes one that calls the archive damaged."""
    try:
        return read()
    except DownloadError:
        raise
    except Exception as error:
        raise DownloadError(f"{title} is damaged: {reason_of(error)}") from error
