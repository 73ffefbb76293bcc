"""``gluon-compress sensitivity``: how much each layer can lose."""
from __future__ import annotations

from typing import Any

import click

from .accuracies import show_where
from .command import command
from .curves import write_curves
from .data import open_data
from .data_options import data_options
from .networks import example_of, open_network
from .options import (
    CRITERIA,
    Target,
    check_criterion_of_weights,
    chosen_layers,
    layer_options,
    network_argument,
    output_option,
)
from .run import Run


class FractionsText(click.ParamType):
    """``0.25,0.5,0.75``."""

    name = "fractions"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> str:
        try:
            good = all(0 < fraction < 1 for fraction in parse_fractions(str(value)))
        except ValueError:
            good = False
        if not good:
            self.fail(f"{str(value)!r} is no list of numbers between 0 and 1, such as 0.25,0.5,0.75.", param, ctx)
        return str(value)


def parse_fractions(text: str) -> list[float]:
    """The numbers of a text that :class:`FractionsText` took."""
    return [float(part) for part in text.split(",")]


@command
@network_argument
@data_options("Images on which the accuracy is measured; no test images")
@output_option("The curves as JSON, for prune --sensitivity.", ".json", required=False)
@click.option("--plot", type=Target(".png"), help="The curves as a picture.")
@click.option("--kind", type=click.Choice(["channels", "weights"]), default="channels", show_default=True,
              help="What a layer loses.")
@click.option("--fractions", type=FractionsText(), default="0.25,0.5,0.75", show_default=True,
              help="How much it loses, one after the other.")
@click.option("--criterion", type=click.Choice(CRITERIA), default="l1", show_default=True,
              help="How channels are ranked, or weights (l1, random); the lowest go.")
@layer_options
@click.option("--state", type=click.Path(dir_okay=False), metavar="FILE",
              help="Keep the measurements here; a killed run, called again, goes on from there.")
def sensitivity(run: Run, output: str | None, plot: str | None, kind: str, **shared: Any) -> None:
    """Measure how the accuracy of NETWORK falls when single layers lose channels or weights, without training.

    \b
    Examples:
      gluon-compress sensitivity model --data photos --output curves.json --plot curves.png
      gluon-compress sensitivity model --data photos --kind weights --fractions 0.5,0.9
      gluon-compress prune model --data photos --sensitivity curves.json --max-drop 0.02 --output small.gcz
    """
    import gluon_compress as gc

    targets = [run.target(path) for path in (output, plot) if path]
    opened = open_network(run)
    data = open_data(run, opened)
    example = example_of(run, opened, data=data.batches())
    if run.would(f"measure the sensitivity of {opened.text} on {data}", *targets):
        return
    options = run.options
    if kind == "weights":
        check_criterion_of_weights(options["criterion"])
    record = gc.pruning.measure_sensitivity(
        opened.net, lambda net: gc.training.evaluate(net, data.batches()), example, kind,
        parse_fractions(options["fractions"]), criterion=options["criterion"], state_path=options["state"],
        progress=not run.quiet, **chosen_layers(options))
    run.show(record.summary())
    show_where(run, {"": data}, sensitivity=record.to_dict())
    _write(run, record, output, plot)


def _write(run: Run, record: Any, output: str | None, plot: str | None) -> None:
    import gluon_compress as gc

    if output:
        write_curves(record, output)
        run.made(output)
    if plot:
        gc.measuring.plots.plot_sensitivity(record, plot)
        run.made(plot)
