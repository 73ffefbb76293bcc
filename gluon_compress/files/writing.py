"""Writing that leaves either the old file or the whole new one, whatever happens."""
from __future__ import annotations

import os
import re
import stat
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from .locks import CHUNK_BYTES
from .paths import followed
from .workplace import flush, make_folder, prefix_of, remove_leftovers, workplace


@contextmanager
def naming(path: str | os.PathLike) -> Iterator[None]:
    """Let an ``OSError`` of an open file, which names no file, name ``path``."""
    try:
        yield
    except OSError as error:
        if error.filename is not None or error.errno is None:
            raise
        raise OSError(error.errno, error.strerror, os.fspath(path)) from error


def write_atomically(path: str | os.PathLike, write: Callable[[Path], Any]) -> None:
    """Call ``write(temporary_path)`` and put the result at ``path``, which a failure at any moment leaves as it was.

    Content and folder are flushed to the disk. The file has the mode of the one that it replaces, or what the umask
    leaves of 0666. A link is followed: what it names is replaced. Leftovers of killed calls are removed; several calls
    for one path may run at the same time.

    Raises
    ------
    OSError
        When the disk or the folder does not take the file, whatever kind of error ``write`` made of it; it names
        ``path``.
    """
    target = followed(path)
    try:
        make_folder(target.parent)
        remove_leftovers(target)
        with workplace(target) as (folder, mode):
            content = folder / f"content{target.suffix}"
            _call(write, content)
            _finish(content, target, mode)
            os.replace(content, target)
            flush(target.parent)
    except OSError as error:
        if not _concerns(error, target):
            raise
        raise OSError(error.errno, error.strerror or str(error), os.fspath(path)) from error


def write_text(path: str | os.PathLike, text: str) -> None:
    """Write a text in UTF-8, as :func:`write_atomically` does."""
    write_atomically(path, lambda temporary: temporary.write_text(text, encoding="utf-8"))


def _concerns(error: OSError, target: Path) -> bool:
    """Whether an ``OSError`` is about the writing of ``target``, and not about a file that ``write`` reads."""
    name = None if error.filename is None else str(error.filename)
    return name in (None, str(target), str(target.parent)) or name.startswith(str(target.with_name(prefix_of(target))))


def _call(write: Callable[[Path], Any], content: Path) -> None:
    """Call ``write``; where a full disk made it fail, raise the system's error instead of a library's."""
    try:
        write(content)
    except OSError:
        raise
    except Exception as error:
        cause = system_error(error, content)
        if cause is None:
            raise
        raise cause from error


def system_error(error: Exception, content: Path) -> OSError | None:
    """The ``OSError`` that caused an error of a library or a program, or None.

    It is the one that the message names, or the one that comes up when more is written to the file ``content``.
    """
    if told := re.search(r"\(os error (\d+)\)", str(error)):  # as Rust says it
        return OSError(int(told[1]), os.strerror(int(told[1])))
    try:
        with open(content, "ab") as file:
            file.write(bytes(CHUNK_BYTES))
            file.flush()
            os.fsync(file.fileno())
    except OSError as caught:
        return caught
    return None


def _finish(content: Path, target: Path, mode: int) -> None:
    """Give the content the mode and the owner of the file that it replaces, and flush it."""
    with suppress(FileNotFoundError):
        replaced = os.stat(target)
        mode = stat.S_IMODE(replaced.st_mode) & 0o777
        with suppress(PermissionError):
            os.chown(content, replaced.st_uid, replaced.st_gid)
    os.chmod(content, mode)
    flush(content)
