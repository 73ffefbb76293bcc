"""Paths that are going to be written, checked before the work is done."""
from __future__ import annotations

import errno
import os
import stat
import sys
import tempfile
from pathlib import Path
from typing import Any

from ..arguments import check_integer, shown

NAME_BYTES = 100  # bytes of a file's name in the name of the folder in which it is written


def check_path(name: str, path: Any) -> None:
    """Raise ``TypeError`` or ``ValueError`` unless ``path`` can be the path of a file."""
    text = _check_name(name, path, "the path of a file")
    if text.endswith(os.sep):
        raise ValueError(f"{name} is {text!r}; accepted: the path of a file")
    try:
        mode = os.stat(text).st_mode
    except OSError:
        return  # absent, or whoever opens it reports the obstacle
    if stat.S_ISDIR(mode):
        raise ValueError(f"{name} is {text!r}, a directory; accepted: the path of a file")
    if not stat.S_ISREG(mode):
        raise ValueError(f"{name} is {text!r}, which is no regular file; accepted: the path of a file")


def check_folder(name: str, path: Any) -> None:
    """Raise ``TypeError`` or ``ValueError`` unless ``path`` can be a folder's path; whether it is one shows later."""
    _check_name(name, path, "the path of a folder")


def _check_name(name: str, path: Any, accepted: str) -> str:
    """The path as text; ``TypeError`` or ``ValueError`` unless it can be a path of anything."""
    if not isinstance(path, (str, os.PathLike)) or not isinstance(os.fspath(path), str):
        raise TypeError(f"{name} is {shown(path)}; accepted: {accepted}")
    text = os.fspath(path)
    try:
        for encoding in (sys.getfilesystemencoding(), "utf-8"):  # MXNet and safetensors take the latter only
            text.encode(encoding, "strict" if encoding == "utf-8" else "surrogateescape")
    except UnicodeEncodeError as error:
        raise ValueError(f"{name} is {text!a}, which is no name in {error.encoding}: where that is not what files are "
                         f"named in, set PYTHONUTF8=1 or a locale such as C.UTF-8") from error
    if not text or "\0" in text:
        raise ValueError(f"{name} is {text!r}; accepted: {accepted}")
    return text


def check_writable(path: str | os.PathLike) -> None:
    """Raise ``OSError``, before the work is done, unless a file can be put at ``path``; changes nothing.

    Folders that are not there yet are made by :func:`write_atomically`.
    """
    try:
        target = followed(path)
        folder = target.parent
        while not os.path.lexists(folder):
            folder = folder.parent
        longest = os.pathconf(folder, "PC_NAME_MAX")
        if any(len(os.fsencode(part)) > longest for part in target.parts):
            raise OSError(errno.ENAMETOOLONG, os.strerror(errno.ENAMETOOLONG))
        with tempfile.TemporaryFile(dir=folder):
            pass
    except OSError as error:
        raise OSError(error.errno, error.strerror, os.fspath(path)) from error


def check_target(name: str, path: Any) -> None:
    """:func:`check_path` and :func:`check_writable`, for a file that is going to be written."""
    check_path(name, path)
    check_writable(path)


def followed(path: str | os.PathLike) -> Path:
    """Where the content of ``path`` belongs: ``path`` itself, or the file at the end of its links."""
    target = Path(path)
    if target.is_symlink():
        target = Path(os.path.realpath(target))
        if target.is_symlink():
            raise OSError(errno.ELOOP, os.strerror(errno.ELOOP), os.fspath(path))
    return target


def symbol_paths(name: str, path_prefix: Any, epoch: Any) -> tuple[Path, Path]:
    """Where symbol and parameters go; raises for places where they cannot. ``name`` is that of the argument."""
    if not isinstance(path_prefix, (str, os.PathLike)):
        raise TypeError(f"{name} is {shown(path_prefix)}; accepted: the beginning of a file name")
    text, prefix = os.fspath(path_prefix), Path(path_prefix)
    if not prefix.name or text.endswith(os.sep) or os.path.isdir(text):
        raise ValueError(f"{name} is {text!r}, a directory; accepted: the beginning of a file name, such as "
                         f"{str(prefix / 'model')!r}")
    check_integer("epoch", epoch, minimum=0, maximum=9999)
    paths = prefix.with_name(f"{prefix.name}-symbol.json"), prefix.with_name(f"{prefix.name}-{epoch:04d}.params")
    for path in paths:
        check_target(f"{name} with its ending", path)
    return paths
