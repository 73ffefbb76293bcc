"""Our coder of integers beside nncodec's, gzip, bzip2, xz, zstd and brotli: the same weight codes of six networks.

    python3 -m venv /tmp/coders
    /tmp/coders/bin/pip install nncodec==2.1.3 zstandard brotli    # nncodec is built from source
    python benchmarks/coder.py --others /tmp/coders/bin/python     # about five minutes on one core
    python benchmarks/coder.py --keep                              # ours again, the others' numbers as they are

The codes are those of all weights of the networks in ``params/``, without biases and BatchNorm:

    int8          |w| / step rounded, 127 steps to the largest weight of each filter
    step 1/128    one step for all layers
    step 1/64
    80 % zeros    the smaller 80 % of each layer are zero, the others at least one step of 1/64
    90 % zeros

Each tensor is coded by itself, and all bytes of ours count: the settings stand in front of the bits. Without
``--others`` the columns of nncodec, zstd and brotli are not there. Seconds are processor time of one thread, the least
of three calls; what is decoded is compared with what was coded. Results: ``results/coder.json`` and ``.txt``.
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
from gluon_compress.coding import decode, encode
from gluon_compress.tables import format_table
from recording import RESULTS, describe_machine, write_result

OTHERS = Path(__file__).with_name("coder_others.py")
NETWORKS = {"SimpleCNN": "simple_cnn_mnist", "LeNet": "lenet_mnist", "LeNet-300-100": "lenet_300_100_mnist",
            "LeNet-5 Caffe": "lenet5_caffe_mnist", "ResNet-18": "resnet18_cifar10", "AlexNet": "alexnet_cifar10"}
KINDS = ("int8", "step 1/128", "step 1/64", "80 % zeros", "90 % zeros")
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
    """{"network|kind|parameter": codes}"""
    found = {}
    for network, name in NETWORKS.items():
        for parameter, value in mx.nd.load(str(gc.params.path(name))).items():
            for kind in KINDS if value.ndim > 1 else ():
                found[f"{network}|{kind}|{parameter}"] = codes_of(value.asnumpy(), kind)
    return found


def by_ours(codes: np.ndarray) -> dict[str, float]:
    content, writing = measured(lambda: encode(codes))
    back, reading = measured(lambda: decode(content, codes.shape, codes.dtype))
    assert (back == codes).all()
    return {"bytes": len(content), "encoding": writing, "decoding": reading}


def by_others(codes: dict[str, np.ndarray], python: str) -> dict[str, dict[str, dict[str, float]]]:
    """{tensor: {coder: bytes and seconds}} from the other process."""
    with tempfile.TemporaryDirectory() as folder:
        np.savez(Path(folder, "codes.npz"), **codes)
        command = [python, str(OTHERS), str(Path(folder, "codes.npz"))]
        return json.loads(subprocess.run(command, check=True, capture_output=True, text=True).stdout)


def summed(tensors: dict[str, dict[str, dict[str, float]]], codes: dict[str, np.ndarray]) -> list[dict]:
    """One row for each network and kind: weights, bits a weight, bytes and speeds of each coder."""
    rows = []
    for network in NETWORKS:
        for kind in KINDS:
            names = [name for name in codes if name.startswith(f"{network}|{kind}|")]
            count = sum(codes[name].size for name in names)
            row = {"network": network, "codes": kind, "weights": count,
                   "nonzero": sum(int((codes[name] != 0).sum()) for name in names) / count, "coders": {}}
            for coder in tensors[names[0]]:
                total = row["coders"][coder] = {
                    key: sum(tensors[name][coder][key] for name in names) for key in tensors[names[0]][coder]}
                for way in ("encoding", "decoding"):
                    if way in total:
                        total[f"{way}, MB of fp32 a second"] = round(4 * count / total[way] / 1e6, 1)
            rows.append(row)
    return rows


def table_of(rows: list[dict]) -> str:
    coders = list(rows[0]["coders"])
    lines = []
    for row in rows:
        found = row["coders"]
        best = found.get("nncodec, best", {}).get("bytes")
        lines.append((row["network"], row["codes"], f"{100 * row['nonzero']:.0f} %",
                      f"{8 * found['ours']['bytes'] / row['weights']:.3f}",
                      *(f"{found[coder]['bytes']:,}" for coder in coders),
                      f"{found['ours']['bytes'] / best:.4f}" if best else "",
                      *(f"{found[coder]['decoding, MB of fp32 a second']:.0f}" if coder in found else ""
                        for coder in ("ours", "nncodec"))))
    heads = ("network", "codes", "nonzero", "bits/weight", *coders, RATIO, "ours MB/s", "nncodec MB/s")
    return format_table(heads, lines)


@click.command(help=__doc__.split("\n")[0])
@click.option("--others", default=sys.executable, help="A Python with nncodec, zstandard and brotli.")
@click.option("--keep", is_flag=True, help="Keep what the results file says of the others.")
def main(others: str, keep: bool) -> None:
    codes, machine = all_codes(), describe_machine()
    tensors = {name: {"ours": by_ours(value)} for name, value in codes.items()}
    for name, found in ({} if keep else by_others(codes, others)).items():
        tensors[name].update(found)
    rows = summed(tensors, codes)
    if keep:
        for row, old in zip(rows, json.loads((RESULTS / "coder.json").read_text())["rows"]):
            row["coders"] = {**old["coders"], **row["coders"]}
    text = table_of(rows) + ("\n\n(bytes; MB/s: decoding, of fp32 weights in a second of one thread's processor time; "
                             f"{machine['cpu']})")
    write_result(RESULTS / "coder.json", {"machine": machine, "rows": rows}, text)
    click.echo(text)


if __name__ == "__main__":
    main()
