"""Named tensors and JSON in one safetensors file: written atomically, checked by SHA-256 on reading.

Nothing in such a file is ever executed: a damaged or hostile one can only fail to load.
"""
from __future__ import annotations

import base64
import hashlib
import json
import lzma
import os
import stat
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
from mxnet import MXNetError
from safetensors import SafetensorError, safe_open
from safetensors.numpy import save_file

from ..arguments import shown
from ..errors import CheckpointError, RecordError
from .digests import add_array
from .schema import Check, Malformed, anything, parse
from .unpacking import unpack_lzma
from .writing import write_atomically

FORMAT = "gluon_compress"
VERSION = 2
HEADER_BYTES = 16 << 20  # unpacked; a graph of 10,000 operators has 3 MB
COMPRESSED_NETWORK = b"\x8bgcz\r\n\x1a\n"  # of version 3 on, see checkpoint/packed_file.py
GLUON_PARAMETERS = b"\x12\1" + bytes(14)  # the beginning of what save_parameters writes


def write(path: str | os.PathLike, kind: str, tensors: dict[str, np.ndarray], header: Any) -> None:
    """Write ``{name: NumPy array}`` and a JSON-serializable ``header``; an older file is replaced at once.

    ``kind`` says what the file is for; :func:`read` refuses another.
    """
    tensors = {name: plain(name, tensor) for name, tensor in tensors.items()}
    header = base64.b64encode(lzma.compress(json.dumps(header, sort_keys=True).encode())).decode()
    metadata = {"format": FORMAT, "version": str(VERSION), "kind": kind, "header": header,
                "sha256": _digest(kind, tensors, header)}

    def save(place: Path) -> None:
        save_file(tensors, str(place), metadata)
        _sort_metadata(place)
    write_atomically(path, save)


def _sort_metadata(path: Path) -> None:
    """Give the same content the same bytes: safetensors writes the metadata in an order that chance decides."""
    with open(path, "r+b") as file:
        length = int.from_bytes(file.read(8), "little")
        header = json.loads(file.read(length))
        header["__metadata__"] = dict(sorted(header["__metadata__"].items()))
        text = json.dumps(header, separators=(",", ":"), ensure_ascii=False).encode()
        if len(text) <= length:
            file.seek(8)
            file.write(text.ljust(length))


def read(path: str | os.PathLike, kind: str, check: Check = anything) -> tuple[dict[str, np.ndarray], Any]:
    """``(tensors, header)`` of a file of this ``kind``, the header once ``check`` of :mod:`.schema` accepts it.

    Raises
    ------
    FileNotFoundError, PermissionError, IsADirectoryError
        When there is no such file, or none that can be read.
    CheckpointError
        When it is damaged, truncated, of another format, of another kind or of a newer version, when its header is not
        what ``check`` accepts, or unpacks to more than its tensors justify.
    """
    check_regular(path)
    _check_format(path, kind)
    try:
        with safe_open(str(path), framework="numpy") as file:
            metadata = file.metadata() or {}
            _check_metadata(path, metadata, kind)  # before the tensors of foreign files, large or of strange types
            tensors = {name: file.get_tensor(name) for name in file.keys()}
    except (SafetensorError, ValueError, TypeError, KeyError, AttributeError, OSError) as error:
        raise CheckpointError(f"{path} is damaged or not a safetensors file: {error}") from error
    if metadata.get("sha256") != _digest(kind, tensors, metadata.get("header", "")):
        raise CheckpointError(f"{path} is damaged: its content does not match its checksum")
    with content_of(path, kind):
        return tensors, _header(metadata.get("header", ""), tensors, check)


@contextmanager
def content_of(path: str | os.PathLike, kind: str) -> Iterator[None]:
    """Turn the errors that a forged file with a right checksum can cause into a ``CheckpointError``."""
    try:
        yield
    except (ArithmeticError, AssertionError, AttributeError, LookupError, RecordError, RecursionError, TypeError,
            ValueError, MXNetError) as error:
        said = error if isinstance(error, (Malformed, RecordError)) else repr(error)
        raise CheckpointError(f"{path} does not hold what a {kind} consists of: {said}") from error


def check_regular(path: Any) -> None:
    """Raise ``OSError`` or ``CheckpointError`` unless ``path`` is a plain file: reading a pipe would wait for ever."""
    if not isinstance(path, (str, os.PathLike)) or not str(path):
        raise TypeError(f"path is {shown(path)}; accepted: the path of a file")
    mode = os.stat(path).st_mode
    if stat.S_ISREG(mode) or stat.S_ISDIR(mode):
        with open(path, "rb"):  # raises IsADirectoryError for a directory
            return
    raise CheckpointError(f"{path} is no plain file but a pipe, a socket or a device")


def _check_format(path: str | os.PathLike, kind: str) -> None:
    """Report other formats, MXNet's and ours, by name, and refuse a safetensors header of absurd size."""
    with open(path, "rb") as file:
        start, size = file.read(17), os.fstat(file.fileno()).st_size
    if start[:16] == GLUON_PARAMETERS or start[:4] == b"PK\3\4":
        raise CheckpointError(f"{path} is damaged or not a safetensors file: it looks like parameters that Gluon "
                              f"saved, which net.load_parameters({str(path)!r}) reads")
    if start.lstrip()[:1] in (b"{", b"["):
        raise CheckpointError(f"{path} is damaged or not a safetensors file: it looks like JSON; MXNet's graphs are "
                              f"read by gluon.SymbolBlock.imports(graph, inputs, parameters)")
    if start.startswith(COMPRESSED_NETWORK):
        raise CheckpointError(f"{path} holds a 'compressed network', not a {kind!r}")
    length = int.from_bytes(start[:8], "little")
    if len(start) >= 8 and not length <= min(size - 8, HEADER_BYTES + size // 8):
        raise CheckpointError(f"{path} is damaged or not a safetensors file: its header would have {length} bytes")


def _check_metadata(path: str | os.PathLike, metadata: dict[str, str], kind: str) -> None:
    """Report what a safetensors file says that it is, where that is something else."""
    if metadata.get("format") != FORMAT:
        raise CheckpointError(f"{path} is a safetensors file, but not of {FORMAT}")
    if metadata.get("version") != str(VERSION):
        raise CheckpointError(f"{path} has version {metadata.get('version')}; this code reads {VERSION}")
    if metadata.get("kind") != kind:
        raise CheckpointError(f"{path} holds a {metadata.get('kind')!r}, not a {kind!r}")


def _header(packed: str, tensors: dict[str, np.ndarray], check: Check) -> Any:
    """What the file says of its tensors. Its JSON may have ``HEADER_BYTES`` plus a sixteenth of the tensors' bytes."""
    most = HEADER_BYTES + sum(tensor.nbytes for tensor in tensors.values()) // 16
    try:
        packed = base64.b64decode(packed, validate=True)
    except ValueError as error:
        raise Malformed(f"the header is no base64: {error}") from error
    header = parse(unpack_lzma(packed, most, "the header"), "the header")
    check(header, "the header")
    return header


def plain(name: str, tensor: Any) -> np.ndarray:
    """The array, contiguous and in the machine's byte order; a scalar keeps its shape ()."""
    tensor = np.asarray(tensor)
    if tensor.dtype.kind not in "biuf" or tensor.dtype.itemsize > 8:
        raise TypeError(f"tensor {name!r} is of type {tensor.dtype}; accepted: booleans, integers, and "
                        f"floats of up to 64 bits")
    return np.require(tensor, tensor.dtype.newbyteorder("="), "C")


def _digest(kind: str, tensors: dict[str, np.ndarray], header: str) -> str:
    """SHA-256 over everything a reader uses."""
    digest = hashlib.sha256(f"{kind}\n{header}\n".encode())
    for name in sorted(tensors):
        add_array(digest, name, tensors[name])
    return digest.hexdigest()
