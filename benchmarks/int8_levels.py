"""Accuracy of the shipped networks on integers with the instructions of each kind of processor, on all test images.

    python benchmarks/int8_levels.py            # about ten minutes on one core

One file for each network, quantized here with 512 training images, is loaded by a process for each level that
``DNNL_MAX_CPU_ISA`` can give this processor. No test image chose anything. Results: ``results/int8_levels.json`` and
``.txt``.
"""
import json
import os
import subprocess
import sys
import tempfile
from pathlib import Path

import click

import gluon_compress as gc  # before mxnet: see gluon_compress/runtime
import numpy as np
import recording
from gluon_compress.quantization import quantize
from gluon_compress.quantization.integers import onednn
from gluon_compress.tables import format_table
from int8_accuracy import NETWORKS, calibration_images, classes, labels, load

RESULTS = recording.RESULTS / "int8_levels.json"
LEVELS = ("SSE41", "AVX2", "AVX512_CORE", "AVX512_CORE_VNNI")


def measure(folder):
    """What one process prints: {network: [accuracy, layers with narrower weights]}."""
    found = {}
    for name in NETWORKS:
        _, _, test, _ = load(name)
        int8 = gc.load(folder / f"{name}.gcz")
        found[name] = [float(np.mean(classes(int8, test) == labels(test))), len(int8.record.processor)]
    return {"saturates": onednn.saturates(), "networks": found}


def write(rows):
    names = list(NETWORKS)
    table = format_table(("instructions", "sums of 16 bits", *names), [
        (level, "yes" if row["saturates"] else "no", *(f"{100 * row['networks'][name][0]:.2f} %" for name in names))
        for level, row in rows.items()])
    recording.write_result(RESULTS, rows, f"{table}\n\n(all 10,000 test images, one draw of 512 calibration images, "
                                          f"the same file for all levels)")
    return table


@click.command(help=__doc__.split("\n")[0])
@click.argument("folder", required=False, type=click.Path(path_type=Path))
def main(folder):
    if folder:
        click.echo(json.dumps(measure(folder)))
        return
    rows = {}
    with tempfile.TemporaryDirectory() as work:
        for name in NETWORKS:
            net, train, _, resized = load(name)
            gc.save(Path(work) / f"{name}.gcz", quantize(net, calibration_images(train, 0, resized), progress=False))
        for level in LEVELS:
            done = subprocess.run([sys.executable, "-W", "ignore", __file__, work], check=True, text=True,
                                  stdout=subprocess.PIPE, env={**os.environ, "DNNL_MAX_CPU_ISA": level})
            rows[level] = json.loads(done.stdout.splitlines()[-1])
            click.echo(f"{level}: {rows[level]}")
    click.echo(write(rows))


if __name__ == "__main__":
    main()
