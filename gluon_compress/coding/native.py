"""The coder in C: built when the package is installed, or once by this machine's compiler, or not there at all.

It makes the same bytes as ``model.py``, which runs, hundreds of times slower, where there is no C compiler. C rather
than numba: numba with LLVM is 208 MB more to install, and compiles anew in each environment too.
"""
import ctypes
import functools
import hashlib
import os
import platform
import shutil
import subprocess
import tempfile
import warnings
from pathlib import Path

import numpy as np

from ..files.writing import write_atomically
from .tables import RECIPROCAL, SQUASH, STRETCH

__all__ = ["decode", "encode", "library"]

SOURCE = Path(__file__).with_name("coder.c")
FLAGS = ("-O3", "-std=c99", "-fPIC", "-shared")
SECONDS = 120  # for the compiler
NO_ROOM, DAMAGED = -1, -2


class _Tables(ctypes.Structure):
    _fields_ = [(name, ctypes.c_void_p) for name in ("squash", "stretch", "reciprocal")]


TABLES = _Tables(*(table.buffer_info()[0] for table in (SQUASH, STRETCH, RECIPROCAL)))


@functools.cache
def library():
    """The functions of ``coder.c``, or None where it is not built and cannot be; that is told once."""
    for path in (*Path(__file__).parent.glob("_coder*.so"), _cached_path()):
        found = _load(path)
        if found:
            return found
    try:
        return _compiled()
    except (OSError, subprocess.SubprocessError) as error:
        warnings.warn(f"no C compiler makes the coder ({error}): it runs in Python, which takes hundreds of times as "
                      f"long; install gcc or clang", RuntimeWarning, stacklevel=5)
        return None


def _compiled():
    """The library, compiled into the user's cache; only for this process when that cannot be written."""
    try:
        _cached_path().parent.mkdir(parents=True, exist_ok=True)
        write_atomically(_cached_path(), _compile)
        return _load(_cached_path())
    except OSError:
        with tempfile.TemporaryDirectory() as folder:
            path = Path(folder, "coder.so")
            _compile(path)
            return _load(path)


def _cached_path():
    """Where the library of this source and kind of machine is kept."""
    folder = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache", "gluon_compress")
    name = hashlib.sha256(" ".join((*FLAGS, platform.machine(), platform.libc_ver()[1])).encode() + SOURCE.read_bytes())
    return folder / f"coder-{name.hexdigest()[:16]}.so"


def _compile(path):
    compiler = next(filter(None, map(shutil.which, ("cc", "gcc", "clang"))), None)
    if compiler is None:
        raise FileNotFoundError("neither cc nor gcc nor clang is here")
    subprocess.run([compiler, *FLAGS, "-o", path, SOURCE], check=True, capture_output=True, timeout=SECONDS)


def _load(path):
    """The library at ``path``, its functions declared; None when there is none."""
    try:
        found = ctypes.CDLL(os.fspath(path))
        arguments = [ctypes.c_void_p] * 5 + [ctypes.c_int64]
        for function in (found.encode_values, found.decode_values):
            function.argtypes, function.restype = arguments, ctypes.c_int64
        return found
    except (OSError, AttributeError):
        return None


def _numbers(kind, numbers):
    return (kind * len(numbers))(*numbers)


def encode(values, geometry, settings):
    """As ``model.encode`` of a C-contiguous int32 array."""
    room = 6 * values.size + 64  # a value takes 33 bits and what its questions cost that surely expect another one
    while True:
        content = np.empty(room, np.uint8)
        length = library().encode_values(
            values.ctypes.data, _numbers(ctypes.c_int64, geometry), _numbers(ctypes.c_int32, settings),
            ctypes.addressof(TABLES), content.ctypes.data, room)
        if length >= 0:
            return content[:length].tobytes()
        if length != NO_ROOM:
            raise MemoryError(f"no memory to code {values.size} integers")
        room *= 4


def decode(content, geometry, settings):
    """As ``model.decode``, an int32 array."""
    filters, channels, positions, _ = geometry
    values = np.zeros(filters * channels * positions, np.int32)
    result = library().decode_values(
        values.ctypes.data, _numbers(ctypes.c_int64, geometry), _numbers(ctypes.c_int32, settings),
        ctypes.addressof(TABLES), content, len(content))
    if result not in (0, DAMAGED):
        raise MemoryError(f"no memory to decode {values.size} integers")
    return None if result else values
