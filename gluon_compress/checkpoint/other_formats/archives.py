"""Archives from strangers (.tar, .tar.gz, .zip, .mar): unpacked within bounds into a folder that is removed."""
from __future__ import annotations

import gzip
import os
import stat
import tarfile
import tempfile
import zipfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path, PurePosixPath
from typing import IO, Any

from ...errors import CheckpointError, DownloadError
from ...files.locks import CHUNK_BYTES
from ...files.unpacking import copy_out, of_archive

MOST_MEMBERS = 1000
MOST_BYTES = 1 << 36          # of all members together,
TIMES, SMALL = 200, 64 << 20  # and so many times the length of the archive, or a small one's
LONGEST_READ = 16 << 20       # bytes at once: an entry's extra header is read whole
GZIP, ZIP, TAR = b"\x1f\x8b", (b"PK\x03\x04", b"PK\x05\x06"), (257, b"ustar")
MOST_FOLDERS = 8              # one in another
LONGEST_NAME = 255            # bytes, of a file or a folder


def is_archive(path: Path) -> bool:
    """Whether a file begins as an archive that :func:`unpacked` takes apart; NumPy's .npz is none."""
    with open(path, "rb") as file:
        beginning = file.read(512)
    place, word = TAR
    return beginning.startswith(GZIP) or beginning.startswith(ZIP) or beginning[place:place + len(word)] == word


@contextmanager
def unpacked(path: Path) -> Iterator[Path]:
    """A temporary folder with the content of an archive.

    Raises ``CheckpointError``, here and for errors of that kind inside, with the path of the archive: for archives that
    are damaged, or hold links, devices, places outside of the folder, the same name twice, too many members, or more
    bytes than :data:`TIMES` those of the archive.
    """
    with tempfile.TemporaryDirectory(prefix="gluon_compress-") as name:
        folder = Path(os.path.realpath(name))
        try:
            with open(path, "rb") as file:
                (_unpack_zip if file.read(2) == b"PK" else _unpack_tar)(path, folder)
            yield folder
        except (CheckpointError, DownloadError, FileNotFoundError) as error:
            kind = type(error) if isinstance(error, CheckpointError) else CheckpointError
            said = str(error)
            if isinstance(error, FileNotFoundError):
                if not str(error.filename or said).startswith(str(folder)):
                    raise
                said = f"{error.filename} is not there" if error.filename else said
            raise kind(said.replace(str(folder), str(path))) from error


def _most(path: Path) -> int:
    return min(MOST_BYTES, max(SMALL, TIMES * path.stat().st_size))


class _Budget:
    """What the members of an archive may take; and where each of them goes."""

    def __init__(self, path: Path, folder: Path) -> None:
        self.path, self.folder, self.left, self.names = path, folder, _most(path), set[str]()

    def place(self, name: str, size: int) -> Path:
        """Where a file goes, with its folders made; raises ``CheckpointError`` for what may not be there."""
        parts = [part for part in PurePosixPath(name).parts if part != "."]
        if (not parts or name.startswith("/") or ".." in parts or "\\" in name or "\0" in name or len(name) > 500
                or max(map(len, map(os.fsencode, parts))) > LONGEST_NAME):
            self.refuse(f"holds {name[:200]!r}", "files within it")
        if "/".join(parts) in self.names:
            self.refuse(f"holds {name!r} twice", "each file once")
        self.names.add("/".join(parts))
        if len(self.names) > MOST_MEMBERS or len(parts) > MOST_FOLDERS:
            self.refuse("holds more files, or folders in one another, than a network has",
                        f"at most {MOST_MEMBERS}, in {MOST_FOLDERS} folders")
        self.left -= size
        if size < 0 or self.left < 0:
            self.refuse(f"unpacks to more than {_most(self.path):,} bytes", f"{TIMES} times its length")
        place = self.folder.joinpath(*parts)
        try:
            place.parent.mkdir(parents=True, exist_ok=True)
        except (FileExistsError, NotADirectoryError):
            self.refuse(f"holds {name!r} in a file", "files in folders")
        return place

    def refuse(self, what: str, accepted: str) -> None:
        raise CheckpointError(f"{self.path} {what}; accepted: {accepted}")


# ---- .zip

def _unpack_zip(path: Path, folder: Path) -> None:
    budget, title = _Budget(path, folder), str(path)
    archive = of_archive(title, lambda: zipfile.ZipFile(path))
    with archive:
        for member in archive.infolist():
            kind = stat.S_IFMT(member.external_attr >> 16)
            if member.is_dir():
                continue
            if kind not in (0, stat.S_IFREG):
                budget.refuse(f"holds {member.filename[:200]!r}, a link or a device", "plain files")
            if member.flag_bits & 1:
                budget.refuse(f"is encrypted ({member.filename[:200]!r})", "an archive without password")
            place = budget.place(member.filename, member.file_size)
            with of_archive(title, partial(archive.open, member)) as source:
                copy_out(source, place, member.file_size, title)


# ---- .tar, .tar.gz

class _Bounded:
    """A stream of which no more is read than a bound allows, in all and at once."""

    def __init__(self, stream: Any, most: int, path: Path) -> None:
        self.stream, self.most, self.path = stream, most, path

    def read(self, count: int = -1) -> bytes:
        if not 0 <= count <= LONGEST_READ or self.stream.tell() + count > self.most:
            raise CheckpointError(f"{self.path} has an entry that is too large; accepted: {TIMES} times its length in "
                                  f"all")
        return self.stream.read(count)

    def seek(self, position: int, whence: int = 0) -> int:
        if whence or position > self.most:
            raise CheckpointError(f"{self.path} has an entry that is too large")
        return self.stream.seek(position)

    def tell(self) -> int:
        return self.stream.tell()


def _unpack_tar(path: Path, folder: Path) -> None:
    budget, title = _Budget(path, folder), str(path)
    with open(path, "rb") as file:
        packed = file.read(2) == GZIP
        file.seek(0)
        stream = gzip.GzipFile(fileobj=file, mode="rb") if packed else file
        bounded = _Bounded(stream, _most(path) + MOST_MEMBERS * 2048, path)  # with headers and padding
        archive = _read(title, lambda: tarfile.open(fileobj=bounded, mode="r:"))  # type: ignore[call-overload]
        while (member := _read(title, archive.next)) is not None:
            _unpack_member(archive, member, budget, title)
        if bounded.tell() == archive.offset:  # a block of zeros ends it
            raise CheckpointError(f"{path} is damaged: it ends too early")
        while _read(title, lambda: bounded.read(CHUNK_BYTES)):  # up to gzip's checksum
            pass


def _unpack_member(archive: tarfile.TarFile, member: tarfile.TarInfo, budget: _Budget, title: str) -> None:
    if member.isdir():
        return
    if not member.isreg() or member.issparse():
        budget.refuse(f"holds {member.name[:200]!r}, a link or a device", "plain files")
    place = budget.place(member.name, member.size)
    source = _read(title, lambda: archive.extractfile(member))
    copy_out(_Whole(source, member.size, title), place, member.size, title)


class _Whole:
    """A member of a tar archive, which otherwise just ends where the archive is truncated."""

    def __init__(self, source: IO[bytes], size: int, title: str) -> None:
        self.source, self.left, self.title = source, size, title

    def read(self, count: int) -> bytes:
        piece = self.source.read(count)
        self.left -= len(piece)
        if not piece and self.left:
            raise DownloadError(f"{self.title} is damaged: it ends too early")
        return piece


def _read(title: str, read: Callable[[], Any]) -> Any:
    """``read()`` of an archive; whatever goes wrong calls it damaged, but for what is refused."""
    try:
        return of_archive(title, read)
    except DownloadError as error:
        if isinstance(error.__cause__, CheckpointError):
            raise error.__cause__ from None
        raise
