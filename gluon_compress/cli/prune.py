"""``gluon-compress prune``: remove channels, or set single weights to zero."""
from __future__ import annotations

import re
from typing import Any

import click

from .accuracies import note_loss, show_where
from .command import command
from .curves import read_curves
from .data_options import data_options, held_out_option
from .doubts import note_guessing
from .failures import Refusal
from .networks import Opened, example_of, open_network
from .options import (
    CRITERIA,
    Number,
    check_criterion_of_weights,
    chosen_layers,
    layer_options,
    network_argument,
    output_option,
    stacked,
)
from .run import Run
from .saving import save_network
from .tuning import Tuning, open_tuning, tuning_options

CHANNELS, WEIGHTS = ("ratio", "macs", "latency"), ("sparsity", "threshold", "n_m")
PATTERN = re.compile(r"([1-9]\d*):([1-9]\d*)")
BETWEEN = {"min_open": True, "max_open": True}


class PatternText(click.ParamType):
    """``2:4``."""

    name = "pattern"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> str:
        if not PATTERN.fullmatch(str(value)):
            self.fail(f"{str(value)!r} is no pattern such as 2:4.", param, ctx)
        return str(value)


amount_options = stacked(
    click.option("--ratio", type=Number(0, 1, **BETWEEN), metavar="SHARE",
                 help="Channels: the share that is removed, of each layer or of all together (--scope global)."),
    click.option("--macs", type=Number(0, 1, **BETWEEN), metavar="SHARE",
                 help="Channels: the share of the multiply-accumulates that is kept."),
    click.option("--latency", type=Number(0, min_open=True), metavar="MS",
                 help="Channels: the milliseconds that a batch of --shape may take."),
    click.option("--sparsity", type=Number(0, 1, **BETWEEN), metavar="SHARE",
                 help="Weights: the share that becomes zero."),
    click.option("--threshold", type=Number(0), metavar="W",
                 help="Weights: those with |w| <= W become zero."),
    click.option("--n-m", type=PatternText(), metavar="2:4",
                 help="Weights: of 4 consecutive ones, at most 2 stay different from zero."),
    click.option("--sensitivity", type=click.Path(dir_okay=False), metavar="FILE",
                 help="What gluon-compress sensitivity wrote: each layer loses as much as costs at most --max-drop."),
    click.option("--max-drop", type=Number(0), default=0.01, show_default=True, metavar="SHARE",
                 help="With --sensitivity: the accuracy that each layer alone may cost."))

choice_options = stacked(
    click.option("--criterion", type=click.Choice((*CRITERIA, "taylor")), default="l1", show_default=True,
                 help="How channels are ranked, or weights (l1, random); the lowest go. taylor needs --data."),
    click.option("--scope", type=click.Choice(["layer", "global"]), default="layer", show_default=True,
                 help="Whether each layer loses the same share, or all layers are ranked together."),
    click.option("--round-to", type=click.IntRange(1), metavar="N", help="Layers keep a multiple of N channels. "
                 "[default: what is fast on this processor]"),
    click.option("--steps", type=click.IntRange(1), default=1, show_default=True,
                 help="Remove channels in so many steps, with --epochs of training after each."),
    layer_options)


@command
@network_argument
@output_option("The smaller network.", ".gcz")
@amount_options
@choice_options
@data_options("Images to train on and to judge by", required=False)
@click.option("--reestimate/--no-reestimate", default=True, show_default=True,
              help="With --data: estimate BatchNorm's statistics anew after channels are removed.")
@tuning_options
@held_out_option
def prune(run: Run, output: str, **shared: Any) -> None:
    """Remove channels of NETWORK, which makes it smaller and faster, or set single weights to zero.

    Exactly one of --ratio, --macs, --latency (channels), --sparsity, --threshold, --n-m (weights) and --sensitivity
    says how much goes. With --data the accuracy on images that nothing was trained on is measured before and after.

    \b
    Examples:
      gluon-compress prune model --shape 1,1,28,28 --ratio 0.5 --output small.gcz
      gluon-compress prune model --macs 0.5 --scope global --data photos --epochs 1 --output small.gcz
      gluon-compress prune model --shape 1,1,28,28 --sparsity 0.8 --scope global --output sparse.gcz
      gluon-compress prune --recipe small.gcz.recipe.yaml --output again.gcz
    """
    amount = _amount(run)
    target = run.target(output)
    opened = open_network(run)
    tuning = open_tuning(run, opened)
    example = example_of(run, opened, data=tuning and tuning.rest.batches())
    channels = _removes_channels(run, amount)
    if run.would(f"{'remove channels of' if channels else 'set weights to zero in'} {opened.text} "
                 f"({_said(run, amount)})", target):
        return
    before = _measured(opened, example, tuning)
    if tuning and tuning.held_out:
        note_guessing(run, opened, tuning.held_out, before["accuracy"])
    record = (_prune_channels if channels else _prune_weights)(run, opened, example, amount, tuning)
    after = _measured(opened, example, tuning)
    save_network(run, opened, target, opened.net, [record], example)
    _show(run, before, after, record)
    if tuning and tuning.held_out:
        show_where(run, {"held out": tuning.held_out})
        note_loss(run, "pruning", before["accuracy"], after["accuracy"], tuning.held_out,
                  f"{_more_epochs(run.options['epochs'])}, or a smaller part to prune than {_said(run, amount)}")


def _more_epochs(epochs: int) -> str:
    return f"more training than --epochs {epochs}" if epochs else "training afterwards (--epochs 5)"


def _amount(run: Run) -> str:
    """The one option that says how much goes."""
    given = [name for name in (*CHANNELS, *WEIGHTS, "sensitivity") if run.options.get(name) is not None]
    if len(given) != 1:
        names = ", ".join(f"--{name.replace('_', '-')}" for name in (*CHANNELS, *WEIGHTS, "sensitivity"))
        said = " and ".join(f"--{name.replace('_', '-')}" for name in given)
        raise click.UsageError(f"{said or 'no amount'} given; accepted: exactly one of {names}",
                               click.get_current_context())
    return given[0]


def _removes_channels(run: Run, amount: str) -> bool:
    curves = read_curves(run, run.options["sensitivity"]) if amount == "sensitivity" else None
    channels = curves.kind == "channels" if curves else amount in CHANNELS
    given = run.options
    unused = (("round_to", None), ("steps", 1)) if not channels else ()
    for name, default in unused:
        if given[name] != default:
            raise Refusal(f"--{name.replace('_', '-')} is about channels, and --{amount} about weights")
    if not channels:
        check_criterion_of_weights(given["criterion"])
    return channels


def _said(run: Run, amount: str) -> str:
    return f"--{amount.replace('_', '-')} {run.options[amount]}"


def _ratios(run: Run) -> dict[str, float]:
    """{layer: what it loses} by the curves, without those that lose nothing."""
    ratios = read_curves(run, run.options["sensitivity"]).ratios(run.options["max_drop"])
    found = {name: ratio for name, ratio in ratios.items() if ratio > 0}
    if not found:
        raise Refusal(f"by {run.options['sensitivity']} each layer loses more than {run.options['max_drop']} of the "
                      f"accuracy, whatever goes; give a larger --max-drop, or measure smaller fractions")
    return found


def _prune_channels(run: Run, opened: Opened, example: Any, amount: str, tuning: Tuning | None) -> Any:
    import gluon_compress as gc

    options = run.options
    if amount == "sensitivity":
        quantity: dict[str, Any] = {"ratio": _ratios(run)}
    else:
        quantity = {amount: options[amount]}
    plan: Any = None
    for so_far in gc.pruning.prune_channels_in_steps(
            opened.net, example, steps=options["steps"], criterion=_criterion(run, opened, tuning),
            scope=options["scope"], round_to=options["round_to"], **chosen_layers(options), **quantity):
        plan = so_far
        if tuning and options["reestimate"]:
            tuning.reestimate(opened.net)
        if tuning:
            tuning.fine_tune(opened.net)
    return plan


def _criterion(run: Run, opened: Opened, tuning: Tuning | None) -> Any:
    import gluon_compress as gc

    name = run.options["criterion"]
    if name == "random":
        return gc.pruning.Random(run.options["seed"])
    if name != "taylor":
        return name
    if tuning is None:
        raise Refusal("--criterion taylor goes by the gradients of a loss; give --data")
    return gc.pruning.Taylor(tuning.rest.batches(), tuning.loss(opened.net))


def _prune_weights(run: Run, opened: Opened, example: Any, amount: str, tuning: Tuning | None) -> Any:
    import gluon_compress as gc

    options, net = run.options, opened.net
    which, criterion = chosen_layers(options), None
    if options["criterion"] == "random":
        criterion = gc.pruning.Random(options["seed"])
    if amount == "threshold":
        masks = gc.pruning.prune_threshold(net, options["threshold"], **which)
    elif amount == "n_m":
        n, m = map(int, options["n_m"].split(":"))
        masks = gc.pruning.prune_n_m(net, n, m, criterion=criterion, **which)
    else:
        sparsity = _ratios(run) if amount == "sensitivity" else options["sparsity"]
        masks = gc.pruning.prune_magnitude(net, sparsity, scope=options["scope"], criterion=criterion, **which)
    if tuning:
        tuning.fine_tune(net, masks)
    return masks


def _measured(opened: Opened, example: Any, tuning: Tuning | None) -> dict[str, Any]:
    """{quantity: number} of the network as it is."""
    import gluon_compress as gc

    report = gc.report(opened.net, example)
    found = {"parameters": report.parameters, "nonzeros": report.nonzeros, "macs": report.macs}
    return {**found, **({"accuracy": tuning.accuracy(opened.net)} if tuning and tuning.held_out else {})}


def _show(run: Run, before: dict[str, Any], after: dict[str, Any], record: Any) -> None:
    from ..tables import format_table

    names = {"parameters": "parameters", "nonzeros": "not zero", "macs": "MACs per sample",
             "accuracy": "accuracy, held out"}
    rows = [(names[name], _number(name, value), _number(name, after[name])) for name, value in before.items()]
    run.give(before=before, after=after)
    run.show(f"{record.summary()}\n\n{format_table(('', 'before', 'after'), rows)}")


def _number(name: str, value: float) -> str:
    from ..measuring.units import percent

    if name == "accuracy":
        return percent(value, 2)
    return f"{value:,}" if isinstance(value, int) else f"{value:,.1f}"
