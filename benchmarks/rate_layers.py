"""Layer by layer what is in the files that rate.py chose, as Han et al. have it; and the same codes by gzip and others.

    python benchmarks/rate_layers.py --others /tmp/coders/bin/python    # see coder_others.py; after rate.py

The networks are rounded again, at the rate that was chosen, which gives the same codes. For each layer: weights, those
that are not zero, bits for a weight and for one that is kept, bytes, the largest code. The rest is biases, BatchNorms,
scales, the graph and the names. The other coders get the codes of each layer as bytes; nncodec's arithmetic coder gets
them as integers. Results: ``results/rate_layers.json`` and ``.txt``.
"""
from __future__ import annotations

import json
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

import click

import gluon_compress as gc  # before mxnet: see gluon_compress/runtime
import mxnet as mx
import numpy as np
from gluon_compress.checkpoint import coded_sizes
from gluon_compress.coding import encode
from gluon_compress.quantization import RateRounding
from gluon_compress.tables import format_table
from rate import NETWORKS, Images
from rate_points import FOLDER, OURS, Measurement
from recording import RESULTS, write_result

SAME = 1e-2  # of the bytes; floats and headers are packed in other ways from version to version
OTHERS = Path(__file__).with_name("coder_others.py")


def layers_of(name: str, rate: float) -> tuple[dict[str, Any], dict[str, np.ndarray]]:
    """``({"layers": {layer: numbers}, ...}, {layer: codes})`` of the file at a rate."""
    net = gc.params.load(name)
    scales = RateRounding(net, Images(name).calibration, progress=False).round(rate)
    example = mx.nd.zeros((1, *gc.params.manifest()[name]["input_shape"]))
    sizes, codes = coded_sizes(net, scales, example=example), scales.codes(net)
    size = sum(sizes.values())
    found = {parameter: {"weights": value.size, "kept": int(np.count_nonzero(value)), "bytes": sizes.pop(parameter),
                         "largest code": int(np.abs(value).max())} for parameter, value in codes.items()}
    return {"layers": found, "rest": sum(sizes.values()), "file": size}, codes


def by_all(codes: dict[str, np.ndarray], python: str) -> dict[str, int]:
    """{coder: bytes of all layers}"""
    with tempfile.TemporaryDirectory() as folder:
        np.savez(Path(folder, "codes.npz"), **codes)
        said = subprocess.run([python, str(OTHERS), str(Path(folder, "codes.npz"))], check=True, capture_output=True,
                              text=True).stdout
    sizes = {"ours": sum(len(encode(value)) for value in codes.values())}
    for found in json.loads(said).values():
        for coder, numbers in found.items():
            sizes[coder] = sizes.get(coder, 0) + int(numbers["bytes"])
    return sizes


def table_of_layers(title: str, found: dict[str, Any]) -> str:
    rows = [_row(parameter.removesuffix(".weight"), numbers) for parameter, numbers in found["layers"].items()]
    total = {key: sum(numbers[key] for numbers in found["layers"].values()) for key in ("weights", "kept", "bytes")}
    rows += [_row("all weights", {**total, "largest code": ""}),
             ("biases, scales, graph", "", "", "", "", f"{found['rest']:,}", "")]
    return f"{title}: {found['file']:,} bytes\n" + format_table(
        ("layer", "weights", "kept", "bits a weight", "bits a kept one", "bytes", "largest code"), rows)


def _row(name: str, numbers: dict[str, Any]) -> tuple[Any, ...]:
    bits = 8 * numbers["bytes"]
    return (name, f"{numbers['weights']:,}", f"{100 * numbers['kept'] / numbers['weights']:.1f} %",
            f"{bits / numbers['weights']:.3f}", f"{bits / numbers['kept']:.2f}" if numbers["kept"] else "",
            f"{numbers['bytes']:,}", numbers["largest code"])


@click.command(help=__doc__.split("\n")[0])
@click.option("--others", default=sys.executable, help="A Python with nncodec, zstandard and brotli.")
def main(others: str) -> None:
    results: dict[str, Any] = {}
    for name in NETWORKS:
        chosen = Measurement(name).chosen(OURS) if (FOLDER / f"{name}.json").exists() else None
        if chosen is None:
            continue
        found, codes = layers_of(name, chosen["setting"])
        if abs(found["file"] - chosen["bytes"]) > SAME * chosen["bytes"]:
            raise click.ClickException(f"{name} takes {found['file']} bytes, not {chosen['bytes']}: run rate.py again")
        results[name] = {"rate": chosen["setting"], **found, "coders": by_all(codes, others)}
    tables = [table_of_layers(f"{NETWORKS[name]}, rate {found['rate']}", found) for name, found in results.items()]
    coders = list(next(iter(results.values()))["coders"])
    sizes = format_table(("network", *coders), [(NETWORKS[name], *(f"{found['coders'][coder]:,}" for coder in coders))
                                                for name, found in results.items()])
    text = "\n\n".join([f"{sizes}\n\n(bytes of the codes alone)", *tables])
    write_result(RESULTS / "rate_layers.json", results, text)
    click.echo(text)


if __name__ == "__main__":
    main()
