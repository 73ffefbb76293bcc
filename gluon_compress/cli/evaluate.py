"""``gluon-compress evaluate``: how accurate networks are, side by side."""
from __future__ import annotations

from typing import Any

import click

from .command import command
from .data import open_data
from .data_options import data_options
from .doubts import note_guessing, note_training_images
from .networks import Opened, open_network
from .options import NetworkText, opening_options
from .run import Run


@command
@click.argument("networks", type=NetworkText(), nargs=-1, required=True)
@data_options("Labelled images; of a built-in set those for testing")
@opening_options
def evaluate(run: Run, networks: tuple[str, ...], **shared: Any) -> None:
    """Measure the top-1 accuracy of NETWORKS, also of ONNX files in ONNX Runtime and OpenVINO, on the same images.

    \b
    Examples:
      gluon-compress evaluate model --data photos
      gluon-compress evaluate params:lenet_mnist params:lenet5_caffe_mnist --data mnist --limit 500 --json
      gluon-compress evaluate model model.onnx openvino:model.onnx --data photos
    """
    from ..measuring.units import percent
    from ..tables import format_table
    from ..training.evaluation import correct_and_all
    rows, results = [], []
    for text, opened in zip(networks, _alike([open_network(run, text) for text in networks])):
        data = open_data(run, opened, part="test")
        correct, images = correct_and_all(opened.net, data.batches(), "data", progress=not run.quiet)
        accuracy = correct / images
        note_training_images(run, opened, data)
        note_guessing(run, opened, data, accuracy)
        results.append({"network": text, "kind": opened.kind, "accuracy": accuracy, "images": images,
                        "bytes": opened.bytes, "data": str(data)})
        rows.append((text, opened.kind, percent(accuracy, 2), f"{images:,}",
                     "-" if opened.bytes is None else f"{opened.bytes:,}"))
    run.give(results=results)
    run.show(format_table(("network", "kind", "accuracy", "images", "bytes"), rows))
    run.show(f"accuracy: top-1 on {images:,} images of {data.text}")


def _alike(networks: list[Opened]) -> list[Opened]:
    """The networks; a file without recipe gets its images as the first one that has a recipe: it may be its original.

    Otherwise a table would compare networks on images that are normalized in different ways.
    """
    known = next((one for one in networks if one.images), None)
    for one in networks:
        if known and one.files and not one.images and not one.text.startswith("params:"):
            one.images, one.recipe = known.images, known.recipe
    return networks
