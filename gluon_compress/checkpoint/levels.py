"""int8 codes of which each row is few levels, stretched until the largest is 127 or -128, as integer kernels have them:

    code = round(127.5 k / m), cut to [-128, 127],    k in [-m, m], one m for a row, or 0 where codes are k themselves

The k are small, and cost far less than the codes, where weights were rounded by rate.
"""
from __future__ import annotations

import functools

import numpy as np

__all__ = ["MOST", "stretched", "unstretched"]

MOST = 100  # levels on a side
LEVELS, OUTWARD = 127.5, 1 + 1e-6  # halves are rounded away from zero


def unstretched(codes: np.ndarray) -> tuple[np.ndarray, np.ndarray] | None:
    """``(k, m)`` of int8 codes ``(rows, ...)``, the least m of each row; None where no row has one."""
    rows = codes.reshape(len(codes), -1)
    present = np.zeros((len(rows), 256), np.float32)
    np.put_along_axis(present, rows.astype(np.int64) + 128, 1, axis=1)
    fits = present @ _absent().T == 0  # (rows, MOST)
    found = fits.any(axis=1) & rows.any(axis=1)
    if not found.any():
        return None
    most = np.where(found, fits.argmax(axis=1) + 1, 0).astype(np.uint8)
    levels = np.take_along_axis(_inverse()[most], rows.astype(np.int64) + 128, axis=1)
    return levels.reshape(codes.shape), most


def stretched(levels: np.ndarray, most: np.ndarray) -> np.ndarray:
    """The codes of int8 k and uint8 m; ``ValueError`` where a k is larger than its m, or an m than MOST."""
    rows = levels.reshape(len(levels), -1)
    if most.max(initial=0) > MOST or (np.abs(rows.astype(np.int16)).max(axis=1, initial=0) > most)[most > 0].any():
        raise ValueError(f"levels of {levels.min()} to {levels.max()} in rows of {most.min()} to {most.max()}")
    return np.take_along_axis(_codes()[most], rows.astype(np.int64) + 128, axis=1).reshape(levels.shape)


@functools.cache
def _codes() -> np.ndarray:
    """The code of each k + 128, for each m (MOST + 1, 256); rows of m = 0 are k."""
    k, m = np.arange(-128, 128), np.arange(1, MOST + 1)[:, None]
    codes = np.clip(np.rint(k * (LEVELS / m) * OUTWARD), -128, 127)
    return np.concatenate([k[None], codes]).astype(np.int8)


@functools.cache
def _inverse() -> np.ndarray:
    """The k of each code + 128, for each m."""
    found = np.zeros((MOST + 1, 256), np.int8)
    for m, codes in enumerate(_codes()):
        k = np.arange(-m, m + 1) if m else np.arange(-128, 128)
        found[m, codes[k + 128].astype(np.int64) + 128] = k
    return found


@functools.cache
def _absent() -> np.ndarray:
    """1 for each code + 128 that no k from -m to m has, for each m from 1 (MOST, 256)."""
    absent = np.ones((MOST, 256), np.float32)
    for m in range(1, MOST + 1):
        absent[m - 1, _codes()[m, 128 - m:129 + m].astype(np.int64) + 128] = 0
    return absent
