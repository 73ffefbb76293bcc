"""Weight sharing on MNIST: whole files and test errors of LeNet-300-100 and LeNet-5 Caffe, beside uniform steps.

    python benchmarks/weight_sharing.py              # all: about ten minutes of one core; resumable
    python benchmarks/weight_sharing.py --table-only # only write the tables and the figure from what is measured

The networks are those of ``params/``, as they are, and pruned to 8 % of their weights (what Han, Mao & Dally, "Deep
Compression", 2016, keep of both) by a GradualPruner with one threshold for the network, from the same parameters.
Each layer then has ``2^bits - 1`` codes: shared weights (k-means), the zero of pruned ones among the codes, or one step
for the layer and its multiples, as ``quantize_weights(per_channel=False)`` makes them. The centroids are fine-tuned;
uniform steps are not, as that would be another technique. Also Han's own numbers of clusters; and the places where the
centroids may begin, without fine-tuning.

Pruning trains on the first 20,000 training images, the centroids on the first 5,000; the last 2,000 choose all that is
chosen: the learning rate of the centroids, the largest code of uniform steps ("max" or "mse"), and which numbers of
bits the last table has. (The shipped parameters were trained on all 60,000.) The test images choose nothing.

Results: ``results/weight_sharing.json`` (every cell, written after each, so that a killed run goes on), ``.txt`` and
``.png``. Networks lie in a folder of temporary files, ``--folder``.
"""
from __future__ import annotations

import json
import tempfile
import time
from itertools import product
from pathlib import Path
from typing import Any

import click

import gluon_compress as gc  # before mxnet: see gluon_compress/runtime
import numpy as np
import recording
from gluon_compress.measuring.plots import plot_codebooks
from gluon_compress.tables import format_table
from tqdm import tqdm

RESULTS = recording.RESULTS / "weight_sharing.json"
FOLDER = Path(tempfile.gettempdir()) / "gluon_compress_weight_sharing"
NETWORKS = {"lenet_300_100_mnist": "LeNet-300-100", "lenet5_caffe_mnist": "LeNet-5 Caffe"}
CLASSES = {"lenet_300_100_mnist": gc.models.LeNet300100, "lenet5_caffe_mnist": gc.models.LeNet5Caffe}
STARTS = ("as shipped", "pruned")
BITS = (2, 3, 4, 5, 8)
HAN = "Han's clusters"
OF_HAN = {"lenet_300_100_mnist": {"Dense": 64}, "lenet5_caffe_mnist": {"Conv2D": 256, "Dense": 32}}
PUBLISHED = {"lenet_300_100_mnist": (40, 1.58), "lenet5_caffe_mnist": (39, 0.74)}  # times smaller, error in percent
UNIFORM, BEFORE, AFTER = "uniform", "k-means", "fine-tuned"
INIT, INIT_BITS, INITS = "init", (2, 3, 4, 5), ("linear", "density", "random", "optimal")
SEEDS, RATES, RATE_BITS = (0, 1, 2), (3e-4, 1e-3, 3e-3), 3
HELD_OUT, IMAGES, BATCH, EPOCHS = 2_000, 5_000, 128, 2
SPARSITY, PRUNING_IMAGES = 0.92, 20_000
PRUNING_EPOCHS = {"lenet_300_100_mnist": 12, "lenet5_caffe_mnist": 4}
PRUNING = ("nag", {"learning_rate": 0.02, "momentum": 0.9, "wd": 1e-4})
CONDITIONS = {"bits": list(BITS), "seeds": list(SEEDS), "rates": list(RATES), "held_out": HELD_OUT, "images": IMAGES,
              "batch": BATCH, "epochs": EPOCHS, "sparsity": SPARSITY, "pruning_images": PRUNING_IMAGES,
              "pruning_epochs": PRUNING_EPOCHS, "pruning": list(PRUNING), "of_han": OF_HAN}
Cells = dict[tuple, dict[str, Any]]


# ---- what is measured

def every_cell():
    """All (network, start, way, bits, seed or None); the first ones choose the learning rates."""
    for network, start in product(NETWORKS, STARTS):
        yield from ((network, start, f"rate {rate}", RATE_BITS, 0) for rate in RATES)
        for bits in (*BITS, *([HAN] if start == "pruned" else [])):
            if bits != HAN:
                yield from ((network, start, f"{UNIFORM} {clip}", bits, None) for clip in ("max", "mse"))
            yield network, start, BEFORE, bits, None
            yield from ((network, start, AFTER, bits, seed) for seed in SEEDS)
    for network, bits, init in product(NETWORKS, INIT_BITS, INITS):
        yield network, "pruned", f"{INIT} {init}", bits, 0


class Images:
    """MNIST, as the docstring of this file divides it."""

    def __init__(self) -> None:
        train, self.test = gc.datasets.mnist()
        self.held_out = train.subset(slice(len(train) - HELD_OUT, len(train)))
        self.to_prune, self.few = train.subset(slice(0, PRUNING_IMAGES)), train.subset(slice(0, IMAGES))


def start_network(network: str, start: str, images: Images, folder: Path) -> Any:
    """The network as it is before its weights are shared; a pruned one is kept in the folder."""
    if start == "as shipped":
        return gc.params.load(network)
    path = folder / f"{network}.gcz"
    if not path.exists():
        net = gc.params.load(network)
        steps = -(-PRUNING_IMAGES // BATCH)
        pruner = gc.pruning.GradualPruner(net, SPARSITY, steps * PRUNING_EPOCHS[network] // 2, scope="global")
        trainer = gc.pruning.MaskedTrainer(net, pruner, *PRUNING)
        gc.training.fit(net, images.to_prune.batches(BATCH, shuffle=True), PRUNING_EPOCHS[network], trainer,
                        state_path=folder / f"{network}.state", progress=False)
        gc.save(path, net, pruner.masks)
    return gc.load(path, CLASSES[network]())


def clusters_of(net: Any, network: str, start: str, bits: Any) -> dict[str, int]:
    """{layer: clusters}: with the zero of pruned weights ``2^bits - 1`` codes, or Han's numbers."""
    asked = {layer.name: OF_HAN[network][layer.kind] if bits == HAN else 2 ** bits - 1 - (start == "pruned")
             for layer in gc.network.layers(net)}
    different = {layer.name: len(np.unique(layer.value()[layer.value() != 0])) for layer in gc.network.layers(net)}
    return {name: min(number, different[name]) for name, number in asked.items()}


def measure(cell: tuple, cells: Cells, images: Images, folder: Path) -> dict[str, Any]:
    """Held-out and test accuracy, and the file's bytes."""
    network, start, way, bits, seed = cell
    net = start_network(network, start, images, folder)
    if way.startswith(UNIFORM):
        record = gc.quantization.quantize_weights(net, bits, per_channel=False, clip=way.split()[1])
    else:
        before, init = gc.network.snapshot(net), way.split()[1] if way.startswith(INIT) else "linear"
        record = gc.coding.share_weights(net, clusters_of(net, network, start, bits), init=init)
        squared = sum(float(np.square(value - before[name]).sum()) for name, value in gc.network.snapshot(net).items())
    if way == AFTER or way.startswith("rate"):
        rate = float(way.split()[1]) if way.startswith("rate") else best_rate(cells, network, start)
        trainer = gc.coding.CentroidTrainer(net, record, "adam", {"learning_rate": rate})
        gc.training.fit(net, images.few.batches(BATCH, shuffle=True), EPOCHS, trainer, seed=seed, progress=False)
        record = trainer.codebooks
    found = {"held_out": gc.training.evaluate(net, images.held_out.batches(500))}
    if not way.startswith("rate"):
        found["test"] = gc.training.evaluate(net, images.test.batches(500))
        found["bytes"] = gc.save(file_of(cell, folder), net, record)
    return {**found, "squared_error": squared} if way.startswith(INIT) else found


def file_of(cell: tuple, folder: Path) -> Path:
    return folder / ("-".join(map(str, cell)).replace(" ", "_") + ".gcz")


def best_rate(cells: Cells, network: str, start: str) -> float:
    return max(RATES, key=lambda rate: cells[network, start, f"rate {rate}", RATE_BITS, 0]["held_out"])


# ---- results

def read_results() -> tuple[Cells, dict[str, Any]]:
    if not RESULTS.exists():
        return {}, {"conditions": conditions(), "machine": recording.describe_machine(), "cells": []}
    found = json.loads(RESULTS.read_text())
    if found["conditions"] != conditions():
        raise click.ClickException(f"{RESULTS} was measured under other conditions: move it away to measure anew")
    return {tuple(row["cell"]): row["found"] for row in found["cells"]}, found


def conditions() -> dict[str, Any]:
    manifest = gc.params.manifest()
    return json.loads(json.dumps({**CONDITIONS, "sha256": {name: manifest[name]["sha256"] for name in NETWORKS}}))


def error(found: dict[str, Any], which: str = "test") -> float:
    return 100 * (1 - found[which])


def of_seeds(cells: Cells, network: str, start: str, bits: Any) -> list[dict[str, Any]]:
    return [cells[network, start, AFTER, bits, seed] for seed in SEEDS]


def spread(numbers: list[float]) -> str:
    return f"{np.mean(numbers):.2f} ({min(numbers):.2f} to {max(numbers):.2f})"


def uniform_of(cells: Cells, network: str, start: str, bits: int) -> dict[str, Any]:
    """The better of the two largest codes, on the held-out images."""
    return max((cells[network, start, f"{UNIFORM} {clip}", bits, None] for clip in ("max", "mse")),
               key=lambda found: found["held_out"])


def rows_of(cells: Cells, network: str, start: str) -> list[tuple]:
    original, rows = gc.params.manifest()[network]["bytes"], []
    for bits in (*BITS, *([HAN] if start == "pruned" else [])):
        before, tuned = cells[network, start, BEFORE, bits, None], of_seeds(cells, network, start, bits)
        size = np.mean([found["bytes"] for found in tuned])
        uniform = None if bits == HAN else uniform_of(cells, network, start, bits)
        rows.append((bits, f"{before['bytes']:,}", f"{error(before):.2f}", f"{size:,.0f}", f"{original / size:.1f}x",
                     spread([error(found) for found in tuned]),
                     "" if uniform is None else f"{uniform['bytes']:,}", "" if uniform is None else
                     f"{error(uniform):.2f}"))
    return rows


def chosen(cells: Cells, network: str, start: str) -> Any:
    """The bits with the smallest file of those whose held-out error is within 0.1 points of the best of them."""
    errors = {bits: np.mean([error(found, "held_out") for found in of_seeds(cells, network, start, bits)])
              for bits in (*BITS, *([HAN] if start == "pruned" else []))}
    return min((bits for bits in errors if errors[bits] <= min(errors.values()) + 0.1),
               key=lambda bits: np.mean([found["bytes"] for found in of_seeds(cells, network, start, bits)]))


def headline(cells: Cells) -> list[tuple]:
    """What the held-out images choose for each network, beside what Han publishes."""
    rows = []
    for network, title in NETWORKS.items():
        original = gc.params.manifest()[network]["bytes"]
        for start in STARTS:
            bits = chosen(cells, network, start)
            tuned = of_seeds(cells, network, start, bits)
            size = np.mean([found["bytes"] for found in tuned])
            rows.append((title, f"{start}, {bits if bits == HAN else f'{bits} bits'}", f"{size:,.0f}",
                         f"{original / size:.1f}x", spread([error(found) for found in tuned])))
        times, published = PUBLISHED[network]
        rows.append((title, "Han 2016, published", "", f"{times}x", f"{published:.2f}"))
    return rows


def inits(cells: Cells) -> list[tuple]:
    """For each network and number of bits: squared error over the least, and test error, of each beginning."""
    rows = []
    for network, bits in product(NETWORKS, INIT_BITS):
        found = {init: cells[network, "pruned", f"{INIT} {init}", bits, 0] for init in INITS}
        least = found["optimal"]["squared_error"]
        rows.append((NETWORKS[network], bits, *(f"{each['squared_error'] / least:.3f}  {error(each):.2f} %"
                                                for each in found.values())))
    return rows


def table(cells: Cells, details: dict[str, Any]) -> str:
    manifest, lines = gc.params.manifest(), []
    for network, start in product(NETWORKS, STARTS):
        lines += [f"{NETWORKS[network]}, {start}: .params {manifest[network]['bytes']:,} bytes, "
                  f"{100 * (1 - manifest[network]['test_accuracy']):.2f} % as shipped"
                  + (f", {error(details['pruned'][network]):.2f} % pruned" if start == "pruned" else "")
                  + f"; rate {best_rate(cells, network, start):g}",
                  format_table(("bits", "bytes", "error %", "tuned: bytes", "smaller", "error %, mean (range)",
                                "uniform: bytes", "error %"), rows_of(cells, network, start)), ""]
    return "\n".join([
        *lines, "Chosen on held-out images: the smallest file within 0.1 points of the least held-out error",
        format_table(("network", "what", "bytes", "smaller", "test error %"), headline(cells)), "",
        "Where centroids begin, pruned networks, not fine-tuned: squared error over that of the optimum, test error",
        format_table(("network", "bits", *INITS), inits(cells)), "",
        "Bytes are those of whole files, with the graph. 2^bits - 1 codes a layer, of which one is the zero of pruned "
        f"weights; {HAN}: 64 a layer,",
        f"and 256 for convolutions, 32 for dense layers. Tuned: {EPOCHS} epochs on {IMAGES:,} images, Adam, batches of "
        f"{BATCH}, learning rate to zero along a cosine, seeds {', '.join(map(str, SEEDS))}.",
        f"Uniform: one step a layer, not fine-tuned. CPU time of all: {details['seconds'] / 60:.1f} minutes. The test "
        f"images chose nothing.", ""])


def draw(folder: Path) -> None:
    """The codes of LeNet-300-100's first layer, pruned, before and after its centroids were trained."""
    network, start, bits = "lenet_300_100_mnist", "pruned", 4
    stages = {title: gc.network.snapshot(gc.load(file_of((network, start, way, bits, seed), folder),
                                               CLASSES[network]()))["features.1.weight"]
              for title, way, seed in (("as k-means makes them", BEFORE, None), ("centroids trained", AFTER, SEEDS[0]))}
    plot_codebooks(stages, RESULTS.with_suffix(".png"),
                   title="LeNet-300-100, pruned: the first layer's shared weights")


@click.command(help=__doc__.split("\n")[0])
@click.option("--table-only", is_flag=True, help="Only write the tables and the figure from what is measured.")
@click.option("--folder", type=click.Path(path_type=Path), default=FOLDER, help="Where networks are kept.")
def main(table_only: bool, folder: Path) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    cells, details = read_results()
    missing = [cell for cell in every_cell() if cell not in cells]
    if missing and table_only:
        raise click.ClickException(f"{len(missing)} cells are missing in {RESULTS}")
    images = Images() if missing else None
    for cell in tqdm(missing, unit="network"):
        begun = time.process_time()
        pruned = details.setdefault("pruned", {})
        if cell[1] == "pruned" and cell[0] not in pruned:
            net = start_network(cell[0], "pruned", images, folder)
            pruned[cell[0]] = {"test": gc.training.evaluate(net, images.test.batches(500))}
        cells[cell] = measure(cell, cells, images, folder)
        details["cells"].append({"cell": cell, "found": cells[cell]})
        details["seconds"] = details.get("seconds", 0) + time.process_time() - begun
        recording.write_json(RESULTS, details)
    text = table(cells, details)
    recording.write_text(RESULTS.with_suffix(".txt"), text)
    draw(folder)
    click.echo(text)
    click.echo(f"Made: {RESULTS}, .txt and .png")


if __name__ == "__main__":
    main()
