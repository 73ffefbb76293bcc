"""What nncodec makes of a network's parameters, in an environment that has it.

    /tmp/coders/bin/python benchmarks/rate_nncodec.py parameters.npz decoded.npz -28 -24    # rate.py calls it

It prints a line of JSON for each quantization parameter, and goes on when a line comes in.

``nncodec`` is the reference software of ISO/IEC 15938-17. All settings but the quantization parameter are its
defaults, dependent quantization among them. Seconds are processor time of one thread, the least of ``REPEATS`` calls;
``memory`` is by how many bytes the process grew.
"""
from __future__ import annotations

import contextlib
import json
import os
import resource
import sys
import time
from collections.abc import Callable
from functools import partial
from typing import Any

import numpy as np

REPEATS = 3


def measured(function: Callable[[], Any]) -> tuple[Any, float, int]:
    """What the function returns, the least processor time that it takes, the growth of the process."""
    seconds, before = [], _peak()
    for _ in range(REPEATS):
        begin = time.process_time()
        result = function()
        seconds.append(time.process_time() - begin)
    return result, min(seconds), _peak() - before


def _peak() -> int:
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss << 10


def main() -> None:
    os.environ["OMP_NUM_THREADS"] = "1"
    import torch
    from nncodec.nn import decode, encode
    torch.set_num_threads(1)
    with np.load(sys.argv[1]) as arrays:
        parameters = {name: arrays[name] for name in arrays.files}
    for step in map(int, sys.argv[3:]):
        settings = {"qp": step, "verbose": False}
        with contextlib.redirect_stdout(sys.stderr):
            content, writing, written = measured(partial(encode, dict(parameters), settings))
            back, reading, read = measured(partial(decode, content, settings))
        np.savez(sys.argv[2], **{name: np.asarray(value, np.float32) for name, value in back.items()})
        print(json.dumps({"setting": step, "bytes": len(content), "encoding": writing, "decoding": reading,
                          "encoding memory": written, "decoding memory": read}), flush=True)
        sys.stdin.readline()  # the decoded parameters have been read


if __name__ == "__main__":
    main()
