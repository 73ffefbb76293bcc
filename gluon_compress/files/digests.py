"""SHA-256 of named arrays: names, types, shapes and values."""
from __future__ import annotations

import hashlib
from collections.abc import Mapping
from typing import Any

import numpy as np


def digest_of_arrays(arrays: Mapping[str, np.ndarray]) -> str:
    """The SHA-256 of arrays, whatever the order in which they are given."""
    digest = hashlib.sha256()
    for name, array in sorted(arrays.items()):
        add_array(digest, name, array)
    return digest.hexdigest()


def add_array(digest: Any, name: str, array: np.ndarray) -> None:
    """Add a named array to a ``hashlib`` digest."""
    digest.update(f"{name} {array.dtype.str} {array.shape}\n".encode())
    digest.update(np.ascontiguousarray(array).reshape(-1).view(np.uint8))
