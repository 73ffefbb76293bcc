"""The coder in C: built when the package is installed, or once by this machine's compiler, or not there at all.

It makes the same bytes as the modules in Python, which run, hundreds of times slower, where there is no C compiler.
C rather than numba: numba with LLVM is 208 MB more to install, and compiles anew in each environment too.
"""
from __future__ import annotations

import ctypes
import functools
import hashlib
import os
import platform
import shutil
import subprocess
import sys
import tempfile
import warnings
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from ..files.writing import write_atomically
from .model import Geometry, Settings
from .symbols import priors
from .tables import RECIPROCAL, SQUASH, STRETCH

if TYPE_CHECKING:
    from .rounding import Factor

__all__ = ["decode", "encode", "library"]

SOURCE = Path(__file__).with_name("coder.c")
FLAGS = ("-O3", "-std=c99", "-fPIC", "-shared")
SECONDS = 120  # for the compiler
NO_ROOM, DAMAGED = -1, -2


class _Tables(ctypes.Structure):
    _fields_ = [(name, ctypes.c_void_p) for name in ("squash", "stretch", "reciprocal")]


class _Rounding(ctypes.Structure):
    _fields_ = [*((name, ctypes.c_void_p) for name in ("costs", "weights", "input_feedback", "row_feedback",
                                                       "input_cost", "row_cost", "pruned")),
                ("largest", ctypes.c_int32)]


TABLES = _Tables(*(table.buffer_info()[0] for table in (SQUASH, STRETCH, RECIPROCAL)))


@functools.cache
def library() -> Any:
    """The functions of ``coder.c`` (CDLL), or None where it is not built and cannot be; that is told once."""
    for path in (*SOURCE.parent.glob("_coder*.so"), _cached_path()):
        with suppress(OSError):
            return _loaded(path)
    try:
        return _compiled()
    except (OSError, subprocess.SubprocessError) as error:
        warnings.warn(f"no C compiler makes the coder ({error}): it runs in Python, which takes hundreds of times as "
                      f"long; install gcc or clang", RuntimeWarning, stacklevel=_level_of_caller())
        return None


def _level_of_caller() -> int:
    """For ``warnings.warn`` in :func:`library`: the level of the first frame outside of this package."""
    frame, level = sys._getframe(1), 1
    while frame.f_back and frame.f_globals["__name__"].partition(".")[0] == __name__.partition(".")[0]:
        frame, level = frame.f_back, level + 1
    return level


def _compiled() -> Any:
    """The library, compiled into the user's cache; only for this process when that cannot be written."""
    cached = _cached_path()
    with suppress(OSError):
        if cached is not None:
            cached.parent.mkdir(parents=True, exist_ok=True)
            write_atomically(cached, _compile)
            return _loaded(cached)
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, "coder.so")
        _compile(path)
        return _loaded(path)


def _cached_path() -> Path | None:
    """Where the library of this source and kind of machine is kept; None for a user without a home directory."""
    folder = os.environ.get("XDG_CACHE_HOME") or os.path.expanduser("~/.cache")
    name = hashlib.sha256(" ".join((*FLAGS, platform.machine(), platform.libc_ver()[1], _digest())).encode())
    return Path(folder, "gluon_compress", f"coder-{name.hexdigest()[:16]}.so") if os.path.isabs(folder) else None


@functools.cache
def _digest() -> str:
    """SHA-256 of the source and its headers."""
    sources = sorted([*SOURCE.parent.glob("*.c"), *SOURCE.parent.glob("*.h")])
    return hashlib.sha256(b"".join(path.read_bytes() for path in sources)).hexdigest()


def _compile(path: Path) -> None:
    compiler = next(filter(None, map(shutil.which, ("cc", "gcc", "clang"))), None)
    if compiler is None:
        raise FileNotFoundError("neither cc nor gcc nor clang is here")
    command = [compiler, *FLAGS, f'-DSOURCE_DIGEST="{_digest()}"', "-o", str(path), str(SOURCE)]
    done = subprocess.run(command, capture_output=True, timeout=SECONDS)
    if done.returncode:
        lines = done.stderr.decode(errors="replace").split("\n")
        reason = next((line for line in lines if "error" in line), " ".join(lines)).strip()[:300]
        raise subprocess.SubprocessError(f"{compiler} ends with {done.returncode}: {reason or 'it gives no reason'}")


def _loaded(path: Path | None) -> Any:
    """The library at ``path``, its functions declared; ``OSError`` when there is none, or one of another source.

    An editable install keeps what it built when ``coder.c`` or a header changes.
    """
    if path is None:
        raise FileNotFoundError("no home directory")
    found = ctypes.CDLL(os.fspath(path))
    try:
        source = (ctypes.c_char * 64).in_dll(found, "source_digest").raw
    except ValueError as error:
        raise OSError(str(error)) from error
    if source != _digest().encode():
        raise OSError(f"{path} is of another source")
    arguments = [ctypes.c_void_p] * 5 + [ctypes.c_int64]
    for function in (found.encode_values, found.decode_values):
        function.argtypes, function.restype = arguments, ctypes.c_int64
    for function in (found.encode_symbols, found.decode_symbols):
        function.argtypes, function.restype = [*arguments, ctypes.c_void_p, ctypes.c_int32], ctypes.c_int64
    found.round_values.argtypes = [*arguments, ctypes.c_void_p]
    found.round_values.restype = ctypes.c_int64
    found.encode_bytes.argtypes = [ctypes.c_void_p, ctypes.c_int64, *[ctypes.c_void_p] * 3]
    found.decode_bytes.argtypes = [*found.encode_bytes.argtypes, ctypes.c_int64]
    found.encode_bytes.restype = found.decode_bytes.restype = ctypes.c_int64
    return found


def _of_geometry(geometry: Geometry) -> Any:
    """As geometry_t of ``model.h``."""
    return (ctypes.c_int64 * 4)(*geometry)


def _of_settings(settings: Settings) -> Any:
    """As settings_t of ``model.h``."""
    mean, rate, grouped, few, shares = settings
    return (ctypes.c_int32 * 12)(mean, rate, grouped, few, *shares)


def encode(values: np.ndarray, geometry: Geometry, settings: Settings) -> bytes:
    """As ``questions.encode`` of a C-contiguous int32 array."""
    return _encoded("encode_values", values, geometry, settings)


def encode_symbols(values: np.ndarray, geometry: Geometry, settings: Settings, tokens: int) -> bytes:
    """As ``symbols.encode`` of a C-contiguous int32 array."""
    return _encoded("encode_symbols", values, geometry, settings, priors().buffer_info()[0], tokens)


def _encoded(function: str, values: np.ndarray, geometry: Geometry, settings: Settings, *more: int) -> bytes:
    room = 6 * values.size + 64  # a value takes 33 bits and what its questions cost that surely expect another one
    while True:
        content = np.empty(room, np.uint8)
        length = getattr(library(), function)(
            values.ctypes.data, _of_geometry(geometry), _of_settings(settings),
            ctypes.addressof(TABLES), content.ctypes.data, room, *more)
        if length >= 0:
            return content[:length].tobytes()
        if length != NO_ROOM:
            raise MemoryError(f"no memory to code {values.size} integers")
        room *= 4


def decode(content: bytes, geometry: Geometry, settings: Settings) -> np.ndarray | None:
    """As ``questions.decode``, an int32 array."""
    return _decoded("decode_values", content, geometry, settings)


def decode_symbols(content: bytes, geometry: Geometry, settings: Settings, tokens: int) -> np.ndarray | None:
    """As ``symbols.decode``, an int32 array."""
    return _decoded("decode_symbols", content, geometry, settings, priors().buffer_info()[0], tokens)


def _decoded(function: str, content: bytes, geometry: Geometry, settings: Settings, *more: int) -> np.ndarray | None:
    values = np.zeros(geometry.total, np.int32)
    result = getattr(library(), function)(
        values.ctypes.data, _of_geometry(geometry), _of_settings(settings),
        ctypes.addressof(TABLES), content, len(content), *more)
    if result not in (0, DAMAGED):
        raise MemoryError(f"no memory to decode {values.size} integers")
    return None if result else values


def encode_bytes(values: np.ndarray, tables: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """As ``byte_counts._encoded``."""
    values, tables = np.ascontiguousarray(values), np.ascontiguousarray(tables)
    states, words = np.empty(32, np.uint32), np.empty(values.size, np.uint16)
    count = library().encode_bytes(values.ctypes.data, values.size, tables.ctypes.data, states.ctypes.data,
                                   words.ctypes.data)
    return states, words[values.size - count:]


def decode_bytes(states: np.ndarray, words: np.ndarray, tables: np.ndarray, count: int) -> np.ndarray | None:
    """As ``byte_counts._decoded``; the states are changed."""
    values, padded = np.empty(count, np.uint8), np.concatenate([words, np.zeros(len(states), np.uint16)])
    result = library().decode_bytes(values.ctypes.data, count, tables.ctypes.data, states.ctypes.data,
                                    padded.ctypes.data, len(words))
    return None if result else values


def round_values(codes: np.ndarray, rows: np.ndarray, geometry: Geometry, settings: Settings, of_rows: Factor,
                 of_inputs: Factor, pruned: np.ndarray, costs: np.ndarray, largest: int) -> bytes:
    """Fill in ``codes`` (int32) with what rounding.py says, and return them coded; all arrays are C-contiguous."""
    room = 6 * codes.size + 64
    content = np.empty(room, np.uint8)
    rounding = _Rounding(*(None if array is None else array.ctypes.data for array in (
        costs, rows, of_inputs.feedback, of_rows.feedback, of_inputs.cost, of_rows.cost, pruned)), largest)
    length = library().round_values(
        codes.ctypes.data, _of_geometry(geometry), _of_settings(settings),
        ctypes.addressof(TABLES), content.ctypes.data, room, ctypes.addressof(rounding))
    if length < 0:
        raise MemoryError(f"no memory to round {codes.size} numbers")
    return content[:length].tobytes()
