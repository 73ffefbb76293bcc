"""What an int8 network computes with the instructions that this process may use; run by test_instruction_levels.py.

    DNNL_MAX_CPU_ISA=AVX2 python tests/instruction_levels.py <folder> <name>,<name> [tests]

The folder holds ``<name>.gcz`` of shipped networks, quantized elsewhere, and ``<name>.npz`` with images and their
outputs in fp32. Runs the files of tests that are named, then prints a line of JSON: how they ended (pytest's number),
whether sums saturate, and for each network what the tests compare.
"""
import json
import sys
import warnings
from pathlib import Path

import gluon_compress as gc  # before mxnet

import mxnet as mx  # noqa: I001
import numpy as np
import pytest
from gluon_compress.quantization.integers import onednn


def decibels(expected, found):
    noise = np.square(expected - found).sum()
    return 200.0 if noise == 0 else float(10 * np.log10(np.square(expected).sum() / noise))


def measured(path):
    arrays = np.load(path.with_suffix(".npz"))
    images = mx.nd.array(arrays["images"])
    int8 = gc.load(path)
    narrowed = len(int8.record.processor)
    found, expected = int8(images).asnumpy(), int8.quantized.network(simulate=True)(images).asnumpy()
    return {"agreement": float((found.argmax(axis=1) == arrays["outputs"].argmax(axis=1)).mean()),
            "kernels to fp32": decibels(arrays["outputs"], found),
            "simulation to fp32": decibels(arrays["outputs"], expected), "narrowed": narrowed,
            **(saved_again(path.with_suffix(".again"), int8) if path.stem == "lenet_mnist" else {})}  # the smallest


def saved_again(path, int8):
    gc.save(path, int8)
    again = gc.load(path, simulate=True)
    return {"written as read": again.record == int8.record and again.codes.keys() == int8.codes.keys() and all(
                np.array_equal(codes, int8.codes[name]) for name, codes in again.codes.items()),
            "largest code": min(int(np.abs(codes.astype(int)).max()) for codes in again.codes.values())}


if __name__ == "__main__":
    folder, names, *tests = sys.argv[1:]
    kernels = pytest.main(["-q", "-p", "no:cacheprovider", *tests]) if tests else None
    with warnings.catch_warnings():
        warnings.simplefilter("error", UserWarning)
        networks = {name: measured(Path(folder, f"{name}.gcz")) for name in names.split(",")}
    print(json.dumps({"kernels": kernels, "saturates": onednn.saturates(), "networks": networks}))
