"""Fetch a file over HTTP: resumed after an interruption, verified, and put in place in one step."""
import os
from pathlib import Path

import requests
from tqdm import tqdm

from .arguments import check_flag
from .errors import DownloadError
from .files import lock, sha256_of

CHUNK_BYTES = 1 << 14  # small: an interrupted download keeps whole chunks only


def download(url, path, sha256=None, timeout=10, progress=True):
    """Fetch ``url`` to ``path`` and return ``path``.

    What an interrupted call left in ``<path>.part`` is resumed where the server allows it. Two processes
    may call this for the same path: the second waits, and finds the file. A file that is there already
    with the right checksum is kept; one with another is replaced only by a verified download.

    Parameters
    ----------
    url : str
    path : str or Path
    sha256 : str, optional
        Hexadecimal digest the content must have.
    timeout : float
        Seconds to wait for the connection and between two pieces of the answer.
    progress : bool
        Show a progress bar on standard error.

    Raises
    ------
    DownloadError
        When the server cannot be reached, answers with an error, stops early or delivers other bytes.
        ``path`` is then as it was.
    """
    check_flag("progress", progress)
    path = Path(path)
    with lock(path):
        if path.exists() and sha256 is not None and sha256_of(path) == sha256:
            return path
        part = path.with_name(path.name + ".part")
        try:
            resumed = _fetch(url, part, timeout, progress)
            if resumed and sha256 is not None and sha256_of(part) != sha256:
                part.unlink()  # the beginning may have been another file's: once more from the start
                _fetch(url, part, timeout, progress)
        except (requests.RequestException, OSError) as error:
            raise DownloadError(f"{url}: {error}") from error
        if sha256 is not None and (found := sha256_of(part)) != sha256:
            part.unlink()
            raise DownloadError(f"{url}: its content has sha256 {found}, expected {sha256}")
        os.replace(part, path)
    return path


def _fetch(url, part, timeout, progress):
    """Append to ``part`` what is missing of ``url``; start over where the server does not resume.

    Return whether bytes of an earlier call are in ``part``.
    """
    start = part.stat().st_size if part.exists() else 0
    headers = {"Accept-Encoding": "identity"}  # lengths below are of the bytes as they are stored
    if start:
        headers["Range"] = f"bytes={start}-"
    with requests.get(url, headers=headers, stream=True, timeout=timeout) as answer:
        if answer.status_code == requests.codes.requested_range_not_satisfiable:
            if answer.headers.get("Content-Range") == f"bytes */{start}":
                return True  # the part file was complete
            part.unlink()
            return _fetch(url, part, timeout, progress)
        answer.raise_for_status()
        resumed = answer.status_code == requests.codes.partial_content
        if resumed and start and not answer.headers.get("Content-Range", "").startswith(f"bytes {start}-"):
            part.unlink()  # other bytes than those asked for
            return _fetch(url, part, timeout, progress)
        if not resumed:
            start = 0
        length = answer.headers.get("Content-Length")
        total = start + int(length) if length is not None else None
        with open(part, "ab" if resumed else "wb") as file, \
                tqdm(total=total, initial=start, unit="B", unit_scale=True, desc=part.stem,
                     disable=not progress) as bar:
            for chunk in answer.iter_content(CHUNK_BYTES):
                file.write(chunk)
                bar.update(len(chunk))
    if total is not None and part.stat().st_size < total:
        raise OSError(f"connection closed after {part.stat().st_size:,} of {total:,} bytes")
    return resumed
