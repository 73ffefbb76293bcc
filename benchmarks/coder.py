"""Our coder of integers beside nncodec's, gzip, bzip2, xz, zstd and brotli: the same weight codes of six networks.

    python3 -m venv /tmp/coders
    /tmp/coders/bin/pip install nncodec==2.1.3 zstandard brotli    # nncodec is built from source
    python benchmarks/coder.py --others /tmp/coders/bin/python     # about five minutes on one core
    python benchmarks/coder.py --keep --others /tmp/coders/bin/python   # ours and nncodec's times, two minutes; the
                                                                   # bytes of the others as they are in the results

The codes are those of all weights of the networks in ``params/``, without biases and BatchNorm:

    int8          |w| / step rounded, 127 steps to the largest weight of each filter
    step 1/128    one step for all layers
    step 1/64
    80 % zeros    the smaller 80 % of each layer are zero, the others at least one step of 1/64
    90 % zeros

    fp32          the weights themselves, as a file has them that must give back the same bits

Each tensor is coded by itself, and all bytes of ours count: the settings stand in front of the bits. Without
``--others`` the columns of nncodec, zstd and brotli are not there. Seconds are processor time of one thread, the least
of three calls; memory is what the process grows by at most in the first of them, of the tensor where that is most, its
codes in int32 not counted when they are coded, but when they are decoded. What is decoded is compared with what was
coded. Results: ``results/coder.json`` and ``.txt``.
"""
from __future__ import annotations

import json
import subprocess
import sys
import tempfile
from pathlib import Path

import click

import gluon_compress as gc  # before mxnet: see gluon_compress/runtime
import mxnet as mx
import numpy as np
from coder_others import measured
from gluon_compress.checkpoint import tensor_forms
from gluon_compress.coding import decode, encode
from gluon_compress.tables import format_table
from recording import RESULTS, describe_machine, write_result

OTHERS = Path(__file__).with_name("coder_others.py")
NETWORKS = {"SimpleCNN": "simple_cnn_mnist", "LeNet": "lenet_mnist", "LeNet-300-100": "lenet_300_100_mnist",
            "LeNet-5 Caffe": "lenet5_caffe_mnist", "ResNet-18": "resnet18_cifar10", "AlexNet": "alexnet_cifar10"}
KINDS = ("int8", "step 1/128", "step 1/64", "80 % zeros", "90 % zeros")
FP32 = "fp32"
WAYS = ("encoding", "decoding")
RATIO = "ours / nncodec, best"


def codes_of(weight: np.ndarray, kind: str) -> np.ndarray:
    """The integers of a weight, int32."""
    if kind == "int8":
        largest = np.abs(weight).reshape(len(weight), -1).max(1).reshape(-1, *[1] * (weight.ndim - 1))
        return np.rint(weight / np.maximum(largest, 1e-30) * 127).astype(np.int32)
    if kind.startswith("step"):
        return np.rint(weight * float(kind.partition("/")[2])).astype(np.int32)
    kept = np.abs(weight) > np.quantile(np.abs(weight), int(kind[:2]) / 100)
    return (kept * np.sign(weight) * np.maximum(np.rint(np.abs(weight) * 64), 1)).astype(np.int32)


def all_codes() -> dict[str, np.ndarray]:
    """{"network|kind|parameter": codes}, or weights where the kind is FP32"""
    found = {}
    for network, name in NETWORKS.items():
        for parameter, value in mx.nd.load(str(gc.params.path(name))).items():
            for kind in KINDS if value.ndim > 1 else ():
                found[f"{network}|{kind}|{parameter}"] = codes_of(value.asnumpy(), kind)
            if value.ndim > 1:
                found[f"{network}|{FP32}|{parameter}"] = value.asnumpy()
    return found


def by_ours(codes: np.ndarray) -> dict[str, float]:
    shape, kind = codes.shape, codes.dtype
    if kind.kind == "f":
        (lengths, parts), writing, to_write = measured(lambda: tensor_forms.smallest(codes))
        back, reading, to_read = measured(
            lambda: tensor_forms.read(parts, kind.name, shape, isinstance(lengths, list)))
        content = b"".join(parts)
    else:
        content, writing, to_write = measured(lambda: encode(codes))
        back, reading, to_read = measured(lambda: decode(content, shape, kind))
    assert back.tobytes() == codes.tobytes()
    return {"bytes": len(content), "encoding": writing, "decoding": reading, "MB to encode": to_write,
            "MB to decode": to_read}


def by_others(codes: dict[str, np.ndarray], python: str, *arguments: str) -> dict[str, dict[str, dict[str, float]]]:
    """{tensor: {coder: bytes, seconds, memory}} from the other process, of integers."""
    integers = {name: value for name, value in codes.items() if value.dtype.kind != "f"}
    with tempfile.TemporaryDirectory() as folder:
        np.savez(Path(folder, "codes.npz"), **integers)
        command = [python, str(OTHERS), str(Path(folder, "codes.npz")), *arguments]
        return json.loads(subprocess.run(command, check=True, capture_output=True, text=True).stdout)


def summed(tensors: dict[str, dict[str, dict[str, float]]], codes: dict[str, np.ndarray]) -> list[dict]:
    """One row for each network and kind: weights, bits a weight; bytes, speeds and memory of each coder."""
    rows = []
    for network in NETWORKS:
        for kind in (*KINDS, FP32):
            names = [name for name in codes if name.startswith(f"{network}|{kind}|")]
            count = sum(codes[name].size for name in names)
            rows.append({"network": network, "codes": kind, "weights": count,
                         "nonzero": sum(int((codes[name] != 0).sum()) for name in names) / count,
                         "coders": {coder: _of_network([tensors[name][coder] for name in names], count)
                                    for coder in tensors[names[0]]}})
    return rows


def _of_network(found: list[dict[str, float]], count: int) -> dict[str, float]:
    """Sums of bytes and seconds over its tensors, the most of memory, and what that is for each second and weight."""
    total = {key: (max if key.startswith("MB") else sum)(each[key] for each in found) for key in found[0]}
    for way in WAYS:
        if way in total:
            total[f"{way}, MB of fp32 a second"] = round(4 * count / total[way] / 1e6, 1)
    return total


def table_of_bytes(rows: list[dict]) -> str:
    rows = [row for row in rows if row["codes"] != FP32]
    coders = list(rows[0]["coders"])
    lines = []
    for row in rows:
        found = row["coders"]
        best = found.get("nncodec, best", {}).get("bytes")
        lines.append((row["network"], row["codes"], f"{100 * row['nonzero']:.0f} %",
                      f"{8 * found['ours']['bytes'] / row['weights']:.3f}",
                      *(f"{found[coder]['bytes']:,}" for coder in coders),
                      f"{found['ours']['bytes'] / best:.4f}" if best else ""))
    return format_table(("network", "codes", "nonzero", "bits/weight", *coders, RATIO), lines)


def table_of_speeds(rows: list[dict]) -> str:
    shown = [(coder, key, form) for key, form in (*((f"{way}, MB of fp32 a second", ".0f") for way in WAYS),
                                                  ("MB to encode", ".1f"), ("MB to decode", ".1f"))
             for coder in ("ours", "nncodec")]
    lines = [(row["network"], row["codes"], f"{row['weights']:,}", *(
        format(row["coders"][coder][key], form) if key in row["coders"].get(coder, {}) else ""
        for coder, key, form in shown)) for row in rows]
    heads = [f"{coder} {key.partition(',')[0]}{' MB/s' if key[0] in 'ed' else ''}" for coder, key, _ in shown]
    return format_table(("network", "codes", "weights", *heads), lines)


@click.command(help=__doc__.split("\n")[0])
@click.option("--others", default=sys.executable, help="A Python with nncodec, zstandard and brotli.")
@click.option("--keep", is_flag=True, help="Keep what the results file says of all but ours and nncodec's speed.")
def main(others: str, keep: bool) -> None:
    codes, machine = all_codes(), describe_machine()
    tensors = {name: {"ours": by_ours(value)} for name, value in codes.items()}
    for name, found in by_others(codes, others, *["--nncodec"] * keep).items():
        tensors[name].update(found)
    rows = summed(tensors, codes)
    if keep:
        before = {(row["network"], row["codes"]): row["coders"]
                  for row in json.loads((RESULTS / "coder.json").read_text())["rows"]}
        for row in rows:
            row["coders"] = {**before.get((row["network"], row["codes"]), {}), **row["coders"]}
    text = (f"{table_of_bytes(rows)}\n\n{table_of_speeds(rows)}\n\n(MB/s: of fp32 weights, in a second of one thread's "
            f"processor time; MB to encode, to decode: what the process grows by, of the largest tensor; "
            f"{machine['cpu']}, load before {machine['load before']})")
    write_result(RESULTS / "coder.json", {"machine": machine, "rows": rows}, text)
    click.echo(text)


if __name__ == "__main__":
    main()
