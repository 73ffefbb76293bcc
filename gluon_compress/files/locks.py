"""Checksums of files, and locks between processes."""
from __future__ import annotations

import hashlib
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from filelock import FileLock, Timeout
from tqdm import tqdm

from ..tables import progress_bar

CHUNK_BYTES = 1 << 20  # bytes read at a time
SECONDS_UNTOLD = 1     # a longer wait for a lock is reported


def sha256_of(path: str | Path) -> str:
    """Hexadecimal SHA-256 of a file's content."""
    digest = hashlib.sha256()
    with open(path, "rb") as file:
        for chunk in iter(lambda: file.read(CHUNK_BYTES), b""):
            digest.update(chunk)
    return digest.hexdigest()


@contextmanager
def lock(path: str | Path) -> Iterator[None]:
    """Hold an inter-process lock for writing ``path``; the lock file stands beside it. A long wait is reported."""
    Path(path).parent.mkdir(parents=True, exist_ok=True)
    place = Path(f"{path}.lock")
    if place.is_symlink():
        place.unlink()  # planted: a lock file is emptied when it is opened
    held = FileLock(place)
    try:
        held.acquire(timeout=SECONDS_UNTOLD)
    except Timeout:
        tqdm.write(f"{path}: waiting for another process, which is bringing it", file=sys.stderr)
        with progress_bar(desc=f"waiting for {Path(path).name}", bar_format="{desc}: {elapsed}") as bar:
            while not _acquired(held):
                bar.update()
    try:
        yield
    finally:
        held.release()


def _acquired(held: FileLock) -> bool:
    try:
        held.acquire(timeout=SECONDS_UNTOLD)
    except Timeout:
        return False
    return True
