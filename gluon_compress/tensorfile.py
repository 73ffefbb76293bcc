"""Named tensors and JSON in one safetensors file: written atomically, checked by SHA-256 on reading.

Nothing in such a file is ever executed: a damaged or hostile one can only fail to load.
"""
import base64
import hashlib
import json
import lzma

import numpy as np
from safetensors import SafetensorError, safe_open
from safetensors.numpy import save_file

from .errors import CheckpointError
from .files import write_atomically

FORMAT = "gluon_compress"
VERSION = 2


def write(path, kind, tensors, header):
    """Write ``{name: NumPy array}`` and a JSON-serializable ``header``; an older file is replaced at once.

    ``kind`` says what the file is for; :func:`read` refuses another.
    """
    tensors = {name: _plain(name, tensor) for name, tensor in tensors.items()}
    header = base64.b64encode(lzma.compress(json.dumps(header, sort_keys=True).encode())).decode()
    metadata = {"format": FORMAT, "version": str(VERSION), "kind": kind, "header": header,
                "sha256": _digest(kind, tensors, header)}
    write_atomically(path, lambda temporary: save_file(tensors, str(temporary), metadata))


def read(path, kind):
    """``(tensors, header)`` of a file of this ``kind``.

    Raises
    ------
    FileNotFoundError
        When there is no such file.
    CheckpointError
        When it is damaged, truncated, of another format, of another kind or of a newer version.
    """
    with open(path, "rb"):
        pass
    try:
        with safe_open(str(path), framework="numpy") as file:
            metadata = file.metadata() or {}
            tensors = {name: file.get_tensor(name) for name in file.keys()}
    except (SafetensorError, ValueError, TypeError, KeyError, OSError) as error:
        raise CheckpointError(f"{path} is damaged or not a safetensors file: {error}") from error
    if metadata.get("format") != FORMAT:
        raise CheckpointError(f"{path} is a safetensors file, but not of {FORMAT}")
    if metadata.get("version") != str(VERSION):
        raise CheckpointError(f"{path} has version {metadata.get('version')}; this code reads {VERSION}")
    if metadata.get("kind") != kind:
        raise CheckpointError(f"{path} holds a {metadata.get('kind')!r}, not a {kind!r}")
    if metadata.get("sha256") != _digest(kind, tensors, metadata.get("header", "")):
        raise CheckpointError(f"{path} is damaged: its content does not match its checksum")
    try:
        return tensors, json.loads(lzma.decompress(base64.b64decode(metadata["header"])))
    except (KeyError, ValueError, lzma.LZMAError) as error:
        raise CheckpointError(f"{path} has a header that is no compressed JSON: {error}") from error


def _plain(name, tensor):
    """The array, contiguous and in the machine's byte order; a scalar keeps its shape ()."""
    tensor = np.asarray(tensor)
    if tensor.dtype.kind not in "biuf" or tensor.dtype.itemsize > 8:
        raise TypeError(f"tensor {name!r} is of type {tensor.dtype}; accepted: booleans, integers, and "
                        f"floats of up to 64 bits")
    return np.require(tensor, tensor.dtype.newbyteorder("="), "C")


def _digest(kind, tensors, header):
    """SHA-256 over everything a reader uses."""
    digest = hashlib.sha256(f"{kind}\n{header}\n".encode())
    for name in sorted(tensors):
        tensor = tensors[name]
        digest.update(f"{name} {tensor.dtype.str} {tensor.shape}\n".encode())
        digest.update(tensor.tobytes())
    return digest.hexdigest()
