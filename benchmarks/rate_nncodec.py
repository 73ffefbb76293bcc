"""What nncodec makes of a network's parameters, in an environment that has it.

    /tmp/coders/bin/python benchmarks/rate_nncodec.py parameters.npz -28 decoded.npz    # prints JSON; rate.py calls it

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
    settings = {"qp": int(sys.argv[2]), "verbose": False}
    with contextlib.redirect_stdout(sys.stderr):
        content, writing, written = measured(lambda: encode(dict(parameters), settings))
        back, reading, read = measured(lambda: decode(content, settings))
    np.savez(sys.argv[3], **{name: np.asarray(value, np.float32) for name, value in back.items()})
    print(json.dumps({"bytes": len(content), "encoding": writing, "decoding": reading,
                      "encoding memory": written, "decoding memory": read}))


if __name__ == "__main__":
    main()
