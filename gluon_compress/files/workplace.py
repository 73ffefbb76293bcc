"""Where a file is written before it moves to its place: a locked folder beside it; the leftovers of killed calls."""
from __future__ import annotations

import errno
import fcntl
import os
import re
import secrets
import stat
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from .paths import NAME_BYTES

SUFFIX = ".tmp"


@contextmanager
def workplace(target: Path) -> Iterator[tuple[Path, int]]:
    """A folder beside ``target`` for this call alone, and the mode of new files there.

    The call holds a lock on a file in that folder as long as it lives, so that no other call takes it for a leftover.
    """
    while True:
        folder = target.with_name(f"{prefix_of(target)}{secrets.token_hex(8)}{SUFFIX}")
        number = None
        try:
            os.mkdir(folder, 0o700)
            number = _lock_new(folder / "lock")
            if number is not None:
                yield folder, stat.S_IMODE(os.fstat(number).st_mode)
                return
        finally:
            try:
                _remove(folder)
            except BaseException:  # Ctrl-C usually comes only once
                _remove(folder)
                raise
            finally:
                if number is not None:
                    os.close(number)


def _lock_new(path: Path) -> int | None:
    """Make and lock a file; None when another call took the folder for a leftover meanwhile."""
    try:
        number = os.open(path, os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o666)
    except FileNotFoundError:
        return None
    if _try_lock(number) is not False and os.path.exists(path):
        return number
    os.close(number)
    return None


def _try_lock(number: int) -> bool | None:
    """Lock an open file; whether that worked, or None where files cannot be locked and every folder counts as used."""
    try:
        fcntl.flock(number, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    except OSError:
        return None
    return True


def prefix_of(target: Path) -> str:
    """The beginning of the names of the folders in which a file is written."""
    name = target.name
    while len(os.fsencode(name)) > NAME_BYTES:
        name = name[:-1]
    return f".{name}."


def remove_leftovers(target: Path) -> None:
    """Remove the folders of calls that were killed."""
    pattern = re.compile(re.escape(prefix_of(target)) + f"[0-9a-f]{{16}}{re.escape(SUFFIX)}")
    for name in filter(pattern.fullmatch, os.listdir(target.parent)):
        with suppress(OSError):  # another user's; or another call was faster
            _remove_leftover(target.parent / name)


def _remove_leftover(folder: Path) -> None:
    with _opened(folder) as directory:
        try:
            number = os.open("lock", os.O_RDWR | os.O_NOFOLLOW | os.O_CLOEXEC, dir_fd=directory)
        except FileNotFoundError:
            os.rmdir(folder)  # its call was killed, or is just about to make the lock: then it takes another folder
            return
    try:
        if _try_lock(number):
            _remove(folder)
    finally:
        os.close(number)


def _remove(folder: Path) -> None:
    """Remove a folder with its files, the lock last."""
    with suppress(FileNotFoundError, NotADirectoryError), _opened(folder) as directory:
        for name in sorted(os.listdir(directory), key="lock".__eq__):
            with suppress(FileNotFoundError):
                os.unlink(name, dir_fd=directory)
        os.rmdir(folder)


@contextmanager
def _opened(folder: Path) -> Iterator[int]:
    """The folder itself, by which its files are reached: never what a link of its name, planted meanwhile, leads to."""
    directory = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC)
    try:
        yield directory
    finally:
        os.close(directory)


def make_folder(folder: Path) -> None:
    """Make a folder and its missing parents, each flushed into the one that holds it."""
    if not os.path.isdir(folder):
        make_folder(folder.parent)
        with suppress(FileExistsError):  # another process was faster
            os.mkdir(folder)
        flush(folder.parent)


def flush(path: Path) -> None:
    """Have the system put a file, or the names in a folder, on the disk itself."""
    number = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    try:
        os.fsync(number)
    except OSError as error:
        if error.errno not in (errno.EINVAL, errno.ENOTSUP):  # file systems that cannot flush a folder
            raise
    finally:
        os.close(number)
