"""Fetch a file over HTTP: resumed after an interruption, verified, and put in place in one step."""
from __future__ import annotations

import hashlib
import os
import re
import stat
from pathlib import Path
from typing import IO, Any

from ..arguments import check_flag, check_integer, check_number, shown
from ..errors import DownloadError
from ..tables import progress_bar
from .locks import CHUNK_BYTES, lock, sha256_of
from .paths import check_path
from .transfer import WrongContent, check_address, fetch
from .writing import naming, write_atomically

LIMIT_BYTES = 1 << 30  # for a file of unknown size
LONGEST_SECONDS = 1e6  # the system's timers take no more


def download(url: str, path: str | Path, sha256: str | None = None, timeout: float = 10, progress: bool = True,
             limit: int = LIMIT_BYTES, resume: bool | None = None) -> Path:
    """Fetch ``url`` to ``path`` and return ``path``.

    What an interrupted call left in ``<path>.part`` is resumed where ``sha256`` is given and the server allows it. Two
    processes may call this for the same path: the second waits, and finds the file. A file that is there already with
    the right checksum is kept; one with a different checksum is replaced only by a verified download.

    Parameters
    ----------
    url : str
        Begins with https://; with http:// only where ``sha256`` is given, or on this machine.
    path : str or Path
    sha256 : str, optional
        Hexadecimal digest the content must have.
    timeout : float
        Seconds to wait for the connection and between two pieces of the answer. A server that sends less than 1,000
        bytes per second during this time is given up, too.
    progress : bool
        Show a progress bar on standard error.
    limit : int
        The most bytes that the file may have.
    resume : bool, optional
        Whether to go on from ``<path>.part``, by default where ``sha256`` tells that it was the beginning of this file.
        Without that, True is for callers that notice the beginning of another one themselves.

    Raises
    ------
    TypeError, ValueError
        For an invalid path, digest, time or limit.
    DownloadError
        When the server cannot be reached, answers with an error, stops early, is too slow or delivers other bytes or
        more than ``limit``. ``path`` is then as it was.
    OSError
        When the file cannot be written here.
    """
    check_flag("progress", progress)
    check_number("timeout", timeout, above=0, maximum=LONGEST_SECONDS)
    check_integer("limit", limit, minimum=1)
    if resume is not None:
        check_flag("resume", resume)
    check_address(url, sha256 is not None)
    check_path("path", path)
    path, sha256 = Path(path), _checked_digest(sha256)
    with lock(path):
        if path.exists() and sha256 is not None and sha256_of(path) == sha256:
            return path
        part = path.with_name(path.name + ".part")
        with naming(part), _open_part(part) as file:
            if not (sha256 is not None if resume is None else resume):
                file.truncate(0)
            _fetch_all(url, part, file, sha256, timeout, progress, limit)
        if path.is_symlink():
            path.unlink()  # the file that it names is not ours to replace
        write_atomically(path, lambda temporary: os.replace(part, temporary))
    return path


def _checked_digest(sha256: Any) -> str | None:
    """A SHA-256 in lower case; or None."""
    if sha256 is None:
        return None
    if not isinstance(sha256, str) or not re.fullmatch("[0-9a-fA-F]{64}", sha256):
        raise ValueError(f"sha256 is {shown(sha256)}; accepted: 64 hexadecimal digits, or None")
    return sha256.lower()


def _fetch_all(url: str, part: Path, file: IO[bytes], sha256: str | None, timeout: float, progress: bool,
               limit: int) -> None:
    """Complete and verify ``file``; remove ``part``, its path, where its bytes are of no use."""
    try:
        resumed = _fetch(url, file, part.stem, timeout, progress, limit, sha256 is not None)
        if resumed and sha256 is not None and _digest(file) != sha256:
            file.truncate(0)  # the beginning may have been another file's: once more from the start
            _fetch(url, file, part.stem, timeout, progress, limit, True)
        if sha256 is not None and (found := _digest(file)) != sha256:
            raise WrongContent(f"{url}: its content has sha256 {found}, expected {sha256}")
    except WrongContent as error:
        part.unlink(missing_ok=True)
        raise DownloadError(str(error)) from error


def _open_part(part: Path) -> IO[bytes]:
    """Open the file of an earlier call, if it is a plain file of this user's; or else a new one."""
    try:
        number = os.open(part, os.O_RDWR | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
        found = os.fstat(number)
        if stat.S_ISREG(found.st_mode) and found.st_uid == os.geteuid() and found.st_nlink == 1:
            return open(number, "r+b")
        os.close(number)
    except OSError:
        pass
    part.unlink(missing_ok=True)
    return open(os.open(part, os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600), "r+b")


def _digest(file: IO[bytes]) -> str:
    digest = hashlib.sha256()
    file.seek(0)
    for chunk in iter(lambda: file.read(CHUNK_BYTES), b""):
        digest.update(chunk)
    return digest.hexdigest()


def _fetch(url: str, file: IO[bytes], title: str, timeout: float, progress: bool, limit: int, verified: bool) -> bool:
    """Append the missing part of ``url`` to ``file``; start over where the server does not resume.

    Return whether bytes of an earlier call are in it.
    """
    start = file.seek(0, os.SEEK_END)
    answer = fetch(url, start, timeout, max(limit, start), verified)
    if answer.status == 416 and answer.content_range == f"bytes */{start}" and start <= limit:
        answer.pieces.close()
        return True  # it was complete
    if answer.status == 416 or answer.status == 206 and not answer.content_range.startswith(f"bytes {start}-"):
        answer.pieces.close()
        file.truncate(0)  # other bytes than those asked for
        return _fetch(url, file, title, timeout, progress, limit, verified)
    resumed = answer.status == 206
    if not resumed:
        file.truncate(0)
        start = file.seek(0)
    total = None if answer.length is None else start + answer.length
    with progress_bar(show=progress, total=total, initial=start, unit="B", unit_scale=True, desc=title) as bar:
        for piece in answer.pieces:
            file.write(piece)
            bar.update(len(piece))
    file.flush()
    if total is not None and file.tell() < total:
        raise DownloadError(f"{url}: connection closed after {file.tell():,} of {total:,} bytes")
    return resumed
