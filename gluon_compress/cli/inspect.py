"""``gluon-compress inspect``: what a network is, and what it costs."""
from __future__ import annotations

import os
from typing import Any

import click

from .command import command
from .data import channels_of, open_data
from .data_options import data_options
from .doubts import note_guessing, note_training_images
from .networks import Opened, example_of, open_network, is_complete, tells_shapes
from .options import NetworkText, Target, network_argument
from .run import Run
from .saving import OUR_FILE, earlier_records

NEED_SHAPES = {"compare_with", "latency", "layer_times", "sensitivity", "html", "data"}  # options


@command
@network_argument
@click.option("--compare-with", type=NetworkText(), multiple=True, metavar="NETWORK",
              help="A network to show beside it, such as the one before, or an ONNX file; may be given again.")
@click.option("--latency", is_flag=True, help="Time the forward pass, too.")
@click.option("--layer-times", is_flag=True, help="Time each layer, too.")
@click.option("--parameters", is_flag=True, help="Only the names and shapes of the parameters: needs no --shape.")
@click.option("--sensitivity", type=click.Path(dir_okay=False), metavar="FILE",
              help="Show the curves of this file, too, which gluon-compress sensitivity wrote.")
@click.option("--html", type=Target(".html"), help="Write a page for a browser.")
@data_options("Labelled images, on which the accuracy is measured", required=False)
def inspect(run: Run, parameters: bool, html: str | None, **shared: Any) -> None:
    """Show what is in NETWORK: its files, layers, parameters, bytes and multiply-accumulates (MACs).

    \b
    Examples:
      gluon-compress inspect params:lenet_mnist
      gluon-compress inspect model --shape 1,1,28,28 --latency
      gluon-compress inspect model --parameters --json
      gluon-compress inspect model --compare-with model.onnx --data photos --html report.html
    """
    target = run.target(html) if html else None
    opened = open_network(run)
    show_found(run, opened)
    if parameters:
        show_parameters(run, opened)
        return
    if target and run.would(f"write a page about {opened.text}", target):
        return
    needing = NEED_SHAPES & {name for name, value in run.options.items() if value}
    if not needing and not tells_shapes(run, opened) and is_complete(opened.net):
        show_layers(run, opened)
        return
    report = _report(run, opened)
    run.show(f"\n{report}")
    run.give(report=report.to_dict())
    if target:
        report.write_html(target)
        run.made(target)


def _report(run: Run, opened: Opened) -> Any:
    """The report of the network, beside those with which it is compared."""
    from mxnet.gluon import HybridBlock

    import gluon_compress as gc
    options = run.options
    data = open_data(run, opened, part="test") if options["data"] else None
    example = example_of(run, opened, data=data and data.batches())
    others = [open_network(run, text) for text in options["compare_with"]]

    def of(one: Opened, records: list[Any], layer_times: bool, compared_with: Any = None) -> Any:
        given: dict[str, Any] = {} if data is None else {"data": data.batches(), "data_name": data.text}
        return gc.report(one.net, example, latency=options["latency"], layer_times=layer_times,
                         progress=not run.quiet, records=records, **given,
                         name=os.path.basename(one.text) or one.text,
                         path=one.files[-1] if len(one.files) == 1 else None, compared_with=compared_with)
    if data is not None:
        for one in (opened, *others):
            note_training_images(run, one, data)
    reports = {other.text: of(other, list(earlier_records(other).values()),
                              options["layer_times"] and isinstance(other.net, HybridBlock)) for other in others}
    report = of(opened, _records(run, opened), options["layer_times"], reports or None)
    if data is not None:
        note_guessing(run, opened, data, report.accuracy)
    return report


def _records(run: Run, opened: Opened) -> list[Any]:
    from .curves import read_curves
    path = run.options["sensitivity"]
    return [*earlier_records(opened).values(), *([read_curves(run, path)] if path else [])]


def show_found(run: Run, opened: Opened) -> None:
    """What is at the network's place: kind, files, inputs and outputs, records."""
    import gluon_compress as gc

    run.show(opened.found or f"kind: {opened.kind}")
    run.give(network=opened.text, kind=opened.kind, found=opened.found and opened.found.to_dict(),
             bytes=opened.bytes)
    if opened.found is not None and opened.found.kind == OUR_FILE:
        records = gc.checkpoint.records(opened.text)
        run.give(records={name: record.to_dict() for name, record in records.items()})
        for name, record in records.items():
            run.show(f"\n{name}:\n{record.summary()}")


def show_layers(run: Run, opened: Opened) -> None:
    """What is known of a network whose input's shape is not, and how the shape is given."""
    from ..measuring.costs import layer_sizes
    from ..tables import format_table

    rows, operators = layer_sizes(opened.net)
    total = ("total", "", f"{sum(row.parameters for row in rows):,}", f"{sum(row.bytes for row in rows):,}")
    run.show("\n" + format_table(("layer", "kind", "parameters", "bytes"), [
        *((row.name, row.kind, f"{row.parameters:,}", f"{row.bytes:,}") for row in rows), total]))
    run.show(f"\noperators: {', '.join(f'{name} {count}' for name, count in sorted(operators.items()))}")
    channels = channels_of(opened)
    run.show(f"MACs, shapes of outputs, times and accuracy need the shape of the input, which the file does not tell; "
             f"give --shape {f'1,{channels},HEIGHT,WIDTH' if channels else 'such as 1,3,224,224'}, or --data")
    run.give(layers=[vars(row) for row in rows], operators=operators, needs="shape")


def show_parameters(run: Run, opened: Opened) -> None:
    """The parameters' names, shapes and types."""
    import numpy as np

    from ..measuring.units import dimensions
    from ..network.values import parameters
    from ..tables import format_table

    rows = [(name, dimensions(value.shape) or "-", np.dtype(value.dtype).name)
            for name, value in parameters(opened.net).items()]
    run.show(f"\n{format_table(('parameter', 'shape', 'type'), rows)}")
    run.give(parameters={name: {"shape": shape, "type": kind} for name, shape, kind in rows})
