"""Bytes and seconds of other coders for the integers of ``coder.py``, in an environment that has them.

    /tmp/coders/bin/python benchmarks/coder_others.py codes.npz              # prints JSON; coder.py calls it
    /tmp/coders/bin/python benchmarks/coder_others.py codes.npz --nncodec    # only nncodec's default settings

``nncodec`` is the reference software of ISO/IEC 15938-17. Its arithmetic coder is called for each tensor as its own
encoder does: without dependent quantization, which would be no coding of the same integers. ``nncodec`` is with the
settings that are its default (unary length 11, parameters optimized), ``nncodec, best`` the least of six settings for
each tensor: unary length 11, 3 or 20, with and without skipped rows.
"""
from __future__ import annotations

import bz2
import ctypes
import gzip
import json
import lzma
import sys
import time
from collections.abc import Callable
from itertools import product
from pathlib import Path
from typing import Any

import numpy as np

REPEATS = 3


def measured(function: Callable[[], Any]) -> tuple[Any, float, float]:
    """What the function returns, the least processor time that it takes, and the MB that the process grows by at most.

    The memory is that of the first call, from Linux's peak of the resident set, which is set back before.
    """
    before = _reset_peak()
    begin = time.thread_time()
    result = function()
    seconds, grown = [time.thread_time() - begin], _resident("VmHWM") - before
    for _ in range(REPEATS - 1):
        begin = time.thread_time()
        result = function()
        seconds.append(time.thread_time() - begin)
    return result, min(seconds), max(grown, 0) / 1e6


def _reset_peak() -> int:
    """The bytes that the process has now, which become its peak; free ones of the heap go back to the system first."""
    ctypes.CDLL(None).malloc_trim(0)
    Path("/proc/self/clear_refs").write_text("5")
    return _resident("VmRSS")


def _resident(name: str) -> int:
    line, = (line for line in Path("/proc/self/status").read_text().splitlines() if line.startswith(f"{name}:"))
    return int(line.split()[1]) * 1024


def general_coders() -> dict[str, tuple[Callable[[bytes], bytes], Callable[[bytes], bytes]]]:
    """{name: (compress, decompress)} of those that are here."""
    found = {"gzip -9": (lambda content: gzip.compress(content, 9), gzip.decompress),
             "bzip2 -9": (bz2.compress, bz2.decompress),
             "xz -9e": (lambda content: lzma.compress(content, preset=9 | lzma.PRESET_EXTREME), lzma.decompress)}
    try:
        import zstandard
        found["zstd -19"] = (zstandard.ZstdCompressor(19).compress, zstandard.ZstdDecompressor().decompress)
    except ImportError:
        pass
    try:
        import brotli
        found["brotli -11"] = (brotli.compress, brotli.decompress)
    except ImportError:
        pass
    return found


def by_nncodec(codes: np.ndarray) -> dict[str, dict[str, float]]:
    """{name: bytes and seconds} of its two columns."""
    least = min(len(nncodec_encode(codes, *choice)) for choice in product((11, 3, 20), (0, 1)))
    return {**by_default(codes), "nncodec, best": {"bytes": least}}


def by_default(codes: np.ndarray) -> dict[str, dict[str, float]]:
    """Its first column."""
    shape = codes.shape
    content, writing, to_write = measured(lambda: nncodec_encode(codes, 11, 0))
    back, reading, to_read = measured(lambda: nncodec_decode(content, shape, 11, 0))
    assert (back == codes).all()
    return {"nncodec": {"bytes": len(content), "encoding": writing, "decoding": reading, "MB to encode": to_write,
                        "MB to decode": to_read}}


def nncodec_encode(codes: np.ndarray, unary: int, skipping: int) -> bytes:
    from nncodec.extensions import HdspMode, deepCABAC
    encoder = deepCABAC.Encoder()
    encoder.initCtxModels(unary, 1)
    empty = np.array([not row.any() for row in codes], np.int32)
    encoder.encodeLayer(codes, 0, 0, skipping, 0, skipping, empty, HdspMode.AlwaysOff, np.zeros(2, np.int8), 0, 0)
    return encoder.finish().tobytes()


def nncodec_decode(content: bytes, shape: tuple[int, ...], unary: int, skipping: int) -> np.ndarray:
    from nncodec.extensions import HdspMode, deepCABAC
    decoder = deepCABAC.Decoder()
    decoder.setStream(np.frombuffer(content, np.uint8))
    decoder.initCtxModels(unary)
    codes = np.zeros(shape, np.int32)
    decoder.decodeLayer(codes, 0, 0, skipping, 0, HdspMode.AlwaysOff, np.zeros(2, np.int8), 0, 0)
    return codes


def in_general(codes: np.ndarray) -> dict[str, dict[str, float]]:
    """{name: bytes} of the integers as bytes, or as 16 bits where those are too few."""
    packed = codes.astype(np.int8 if np.abs(codes).max() < 128 else np.int16).tobytes()
    found = {}
    for name, (compress, decompress) in general_coders().items():
        content = compress(packed)
        assert decompress(content) == packed
        found[name] = {"bytes": len(content)}
    return found


def main() -> None:
    found = {}
    with np.load(sys.argv[1]) as arrays:
        for name in arrays.files:
            codes = np.ascontiguousarray(arrays[name], np.int32)
            if "--nncodec" in sys.argv:
                found[name] = by_default(codes)
                continue
            found[name] = in_general(codes)
            try:
                found[name].update(by_nncodec(codes))
            except ImportError:
                pass
    print(json.dumps(found))


if __name__ == "__main__":
    main()
