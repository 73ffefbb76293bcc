"""``gluon-compress inspect``: what a network is, and what it costs."""
from __future__ import annotations

from typing import Any

import click

from .command import command
from .networks import Opened, example_of, open_network
from .options import Target, network_argument
from .run import Run


@command
@network_argument
@click.option("--latency", is_flag=True, help="Time the forward pass, too.")
@click.option("--parameters", is_flag=True, help="Only the names and shapes of the parameters: needs no shape.")
@click.option("--html", type=Target(".html"), help="Write a page for a browser.")
def inspect(run: Run, latency: bool, parameters: bool, html: str | None, **shared: Any) -> None:
    """Show what is in NETWORK: its files, layers, parameters, bytes and multiply-accumulates (MACs).

    \b
    Examples:
      gluon-compress inspect params:lenet_mnist
      gluon-compress inspect model --shape 1,1,28,28 --latency
      gluon-compress inspect model --parameters --json
    """
    import gluon_compress as gc

    target = run.target(html) if html else None
    opened = open_network(run)
    show_found(run, opened)
    if parameters:
        show_parameters(run, opened)
        return
    example = example_of(run, opened)
    if target and run.would(f"write a page about {opened.text}", target):
        return
    report = gc.report(opened.net, example, latency=latency, path=opened.files[0] if len(opened.files) == 1 else None)
    run.show(f"\n{report}")
    run.give(report=report.to_dict())
    if target:
        report.write_html(target)
        run.made(target)


def show_found(run: Run, opened: Opened) -> None:
    """What is at the network's place: kind, files, inputs and outputs, records."""
    import gluon_compress as gc

    run.show(opened.found or f"kind: {opened.kind}")
    run.give(network=opened.text, kind=opened.kind, found=opened.found and opened.found.to_dict(),
             bytes=opened.bytes)
    if opened.found is not None and opened.found.kind == "compressed network":
        records = gc.checkpoint.records(opened.text)
        run.give(records={name: record.to_dict() for name, record in records.items()})
        for name, record in records.items():
            run.show(f"\n{name}:\n{record.summary()}")


def show_parameters(run: Run, opened: Opened) -> None:
    """The parameters' names, shapes and types."""
    import numpy as np

    from ..network.values import parameters
    from ..tables import format_table

    rows = [(name, "x".join(map(str, value.shape)) if value.shape else "-", np.dtype(value.dtype).name)
            for name, value in parameters(opened.net).items()]
    run.show(f"\n{format_table(('parameter', 'shape', 'type'), rows)}")
    run.give(parameters={name: {"shape": shape, "type": kind} for name, shape, kind in rows})
