"""Bytes coded by how often each occurs, without contexts, which is more than ten times as fast.

Range asymmetric numeral systems (Duda, "Asymmetric numeral systems: entropy coding combining speed of Huffman coding
with compression rate of arithmetic coding", 2013), interleaved as in Giesen, "Interleaved entropy coders", 2014: value
``i`` belongs to lane ``i % LANES``, and all lanes take words of 16 bits from one stream.

    content    the table of each BLOCK values: the first byte and the last one that has a frequency, then the
               frequencies from the first to the last, 16 bits each, UNIT in sum; or (1, 0): the table before
    ...        the states of the lanes, 32 bits each
    ...        the words in the order of decoding

Numbers are little endian. Decoding ends in the states that encoding began with, or the content is damaged.
"""
from __future__ import annotations

import numpy as np

from . import native

__all__ = ["decode", "encode"]

BLOCK, LANES = 1 << 16, 32
PRECISION = 12
UNIT = 1 << PRECISION
LOWEST = 1 << 16  # states are from here to 2^32 - 1
SAME = bytes((1, 0))
FRACTION = 65536  # of a bit, in costs


def encode(values: np.ndarray) -> bytes:
    """The content of uint8 ``values`` (count,), at least one."""
    tables, said = _tables(values)
    if native.library():
        states, words = native.encode_bytes(values, tables)
    else:
        states, words = _encoded(values, tables)
    return said + states.astype("<u4").tobytes() + words.astype("<u2").tobytes()


def decode(content: bytes, count: int) -> np.ndarray | None:
    """The uint8 values (count,), or None when the content is damaged, too short or too long."""
    found = _read_tables(content, -(-count // BLOCK))
    if found is None:
        return None
    tables, begin = found
    end = begin + 4 * LANES
    if end > len(content) or (len(content) - end) % 2:
        return None
    states = np.frombuffer(content[begin:end], "<u4").astype(np.uint32)
    words = np.frombuffer(content, "<u2", offset=end).astype(np.uint16)
    return (native.decode_bytes if native.library() else _decoded)(states, words, tables, count)


# ---- tables of frequencies

def _tables(values: np.ndarray) -> tuple[np.ndarray, bytes]:
    """The frequencies (blocks, 256) of uint16, and how the content says them; the table before where it costs less."""
    tables, said = list[np.ndarray](), list[bytes]()
    for begin in range(0, len(values), BLOCK):
        counts = np.bincount(values[begin:begin + BLOCK], minlength=256)
        table = _frequencies(counts)
        text = _said(table)
        if tables and not (tables[-1][counts > 0] == 0).any() \
                and _cost(counts, tables[-1]) <= _cost(counts, table) + 8 * FRACTION * (len(text) - len(SAME)):
            table, text = tables[-1], SAME
        tables.append(table)
        said.append(text)
    return np.stack(tables), b"".join(said)


def _frequencies(counts: np.ndarray) -> np.ndarray:
    """Of bytes that occur so often: at least 1 for those that do, UNIT in sum."""
    shares = np.maximum(counts * UNIT // counts.sum(), counts > 0)
    while missing := UNIT - int(shares.sum()):
        shares[shares.argmax()] += missing if missing > 0 else -1
    return shares.astype(np.uint16)


def _cost(counts: np.ndarray, table: np.ndarray) -> int:
    """Bits under a table that has all of the bytes, in 1 / FRACTION."""
    there = counts > 0
    costs = np.rint(FRACTION * (PRECISION - np.log2(table[there].astype(np.float64)))).astype(np.int64)
    return int((counts[there] * costs).sum())


def _said(table: np.ndarray) -> bytes:
    there = np.flatnonzero(table)
    first, last = int(there[0]), int(there[-1])
    return bytes((first, last)) + table[first:last + 1].astype("<u2").tobytes()


def _read_tables(content: bytes, blocks: int) -> tuple[np.ndarray, int] | None:
    """The tables, and where they end; None for what are none."""
    tables, place = np.zeros((blocks, 256), np.uint16), 0
    for block in range(blocks):
        if content[place:place + 2] == SAME and block:
            tables[block] = tables[block - 1]
            place += 2
            continue
        first, last = content[place:place + 2].ljust(2, b"\0")
        end = place + 2 + 2 * (last + 1 - first)
        if first > last or end > len(content):
            return None
        tables[block, first:last + 1] = np.frombuffer(content[place + 2:end], "<u2")
        if tables[block].sum(dtype=np.int64) != UNIT:
            return None
        place = end
    return tables, place


# ---- the same as in byte_counts.h, a step of all lanes at a time

def _steps(count: int) -> list[tuple[int, int]]:
    return [(begin, min(begin + LANES, count)) for begin in range(0, count, LANES)]


def _encoded(values: np.ndarray, tables: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """States and words: values are put onto the states from the last to the first."""
    states, words = np.full(LANES, LOWEST, np.uint64), list[np.ndarray]()
    starts = np.cumsum(tables, axis=1, dtype=np.uint64) - tables
    for begin, end in reversed(_steps(len(values))):
        table, now = begin // BLOCK, states[:end - begin]
        frequency = tables[table, values[begin:end]].astype(np.uint64)
        full = now >= frequency << np.uint64(32 - PRECISION)
        words.append((now[full] & np.uint64(0xffff)).astype(np.uint16))
        now[full] >>= np.uint64(16)
        now[:] = (now // frequency << np.uint64(PRECISION)) + now % frequency + starts[table, values[begin:end]]
    return states.astype(np.uint32), np.concatenate(words[::-1])


def _decoded(states: np.ndarray, words: np.ndarray, tables: np.ndarray, count: int) -> np.ndarray | None:
    values, place, states = np.empty(count, np.uint8), 0, states.astype(np.uint64)
    words = np.concatenate([words, np.zeros(LANES, np.uint16)])
    starts = np.cumsum(tables, axis=1, dtype=np.uint64) - tables
    for begin, end in _steps(count):
        if begin % BLOCK == 0:
            table = begin // BLOCK
            bytes_of_slots = np.repeat(np.arange(256, dtype=np.uint8), tables[table])
        now = states[:end - begin]
        slots = now & np.uint64(UNIT - 1)
        found = values[begin:end] = bytes_of_slots[slots]
        now[:] = tables[table, found] * (now >> np.uint64(PRECISION)) + slots - starts[table, found]
        low = np.flatnonzero(now < LOWEST)
        if place + len(low) > len(words) - LANES:
            return None
        now[low] = now[low] << np.uint64(16) | words[place:place + len(low)]
        place += len(low)
    return values if place == len(words) - LANES and (states == LOWEST).all() else None
