"""``gluon-compress quantize``: a network on integers, or integer weights alone."""
from __future__ import annotations

from typing import Any

import click

from .accuracies import LOSS_SAID, note_loss, show_where
from .command import command
from .data import open_data
from .data_options import data_options, held_out_option
from .doubts import note_guessing
from .failures import Refusal
from .networks import Opened, example_of, open_network
from .options import Number, calibration_option, chosen_layers, layer_options, network_argument, output_option
from .run import Run
from .saving import save_network
from .tuning import Tuning

METHODS = ("mse", "minmax", "percentile", "entropy")
FOR_INTEGERS = {"method": "mse", "equalize": None, "max_accuracy_drop": None, "simulate": False}  # with the defaults


@command
@network_argument
@output_option("The quantized network.", ".gcz")
@data_options("Images to find the ranges of activations on", required=False)
@click.option("--weights-only", is_flag=True, help="Round the weights only, which needs no images: the file is "
              "smaller, and the network computes in fp32.")
@click.option("--bits", type=click.IntRange(2, 8), default=8, show_default=True, help="Bits of weights and "
              "activations. The kernels have 8; fewer need --weights-only or --simulate.")
@click.option("--method", type=click.Choice(METHODS), default="mse", show_default=True,
              help="How the range of an activation is chosen.")
@click.option("--clip", type=click.Choice(["max", "percentile", "mse"]),
              help="How the scale of a weight is chosen. [default: max]")
@click.option("--equalize/--no-equalize", default=None, help="Bring channels to like ranges first. [default: for "
              "networks with depthwise convolutions, where it helps]")
@click.option("--max-accuracy-drop", type=Number(0, 1), metavar="SHARE", help="Keep as few layers in fp32 as "
              "are needed to lose at most this on images held out: 0.01 for one point of a hundred.")
@calibration_option
@click.option("--simulate", is_flag=True, help="For fewer than 8 bits: the same integers, computed in fp32.")
@click.option("--fold/--no-fold", default=True, show_default=True, help="With --weights-only: multiply the weights by "
              "the BatchNorm after them first.")
@layer_options
@held_out_option
def quantize(run: Run, output: str, weights_only: bool, **shared: Any) -> None:
    """Bring NETWORK onto integers of 8 bits, which is smaller and faster, or round its weights alone.

    A part of --data gives the ranges of the activations; on the rest the accuracy is measured, before and after.

    \b
    Examples:
      gluon-compress quantize model --data photos --output int8.gcz
      gluon-compress quantize model --data photos --max-accuracy-drop 0.01 --output safe.gcz
      gluon-compress quantize model --shape 1,1,28,28 --weights-only --bits 4 --clip mse --output four.gcz
    """
    from ..measuring.units import percent

    _check_options(run, weights_only)
    target = run.target(output)
    opened = open_network(run)
    tuning = _tuning(run, opened)
    example = example_of(run, opened, data=tuning and tuning.rest.batches())
    what = f"round the weights of {opened.text} to {run.options['bits']} bits" if weights_only else \
        f"bring {opened.text} onto integers, with ranges found on {tuning and tuning.rest}"
    if run.would(what, target):
        return
    before = tuning.accuracy(opened.net) if tuning else None
    if tuning and tuning.held_out:
        note_guessing(run, opened, tuning.held_out, before)
    net, records = _weights(run, opened, example) if weights_only else _integers(run, opened, tuning)
    after = tuning.accuracy(net) if tuning else None
    save_network(run, opened, target, net, records, example)
    for record in records or [net.record]:
        run.show(record.summary())
    if tuning and tuning.held_out and before is not None and after is not None:
        run.show(f"\naccuracy: {percent(before, 2)} -> {percent(after, 2)}")
        show_where(run, {"held out": tuning.held_out})
        note_loss(run, "rounding", before, after, tuning.held_out, _remedy(run, tuning, weights_only))
    run.give(accuracy_before=before, accuracy=after, **({} if records else {"record": net.record.to_dict()}))


def _remedy(run: Run, tuning: Tuning, weights_only: bool) -> str:
    """What may win back accuracy that integers cost."""
    bits = "more --bits, " if run.options["bits"] < 8 else ""
    if weights_only:
        return f"{bits}--clip mse, or --exclude for the layers that lose most"
    seen = min(run.options["calibration_images"], tuning.rest.count())
    return (f"{bits}--max-accuracy-drop {LOSS_SAID}, which keeps layers in fp32, another --method, or more "
            f"--calibration-images than {seen}")


def _check_options(run: Run, weights_only: bool) -> None:
    options = run.options
    if not weights_only and not options["data"]:
        raise Refusal("the ranges of activations are found on images; give --data, or --weights-only")
    if not weights_only and options["bits"] < 8 and not options["simulate"]:
        raise Refusal(f"--bits {options['bits']}: the integer kernels have 8 bits; accepted with --weights-only or "
                      f"--simulate")
    given = [name for name, default in FOR_INTEGERS.items() if options[name] != default] if weights_only else []
    if given:
        raise Refusal(f"--{given[0].replace('_', '-')} is about activations; accepted: without --weights-only")


def _tuning(run: Run, opened: Opened) -> Tuning | None:
    """The calibration images, and those on which the accuracy is measured, where the data can be split."""
    if not run.options["data"]:
        return None
    data = open_data(run, opened)
    if data.dataset is None and data.held_out is None and run.options["max_accuracy_drop"] is None:
        return Tuning(run, data, None)
    return Tuning(run, *data.split(run.options["held_out"]))


def _integers(run: Run, opened: Opened, tuning: Tuning | None) -> tuple[Any, list[Any]]:
    import gluon_compress as gc

    assert tuning is not None
    options = run.options
    bound = options["max_accuracy_drop"]
    further = {} if bound is None else {"evaluate": tuning.accuracy, "max_accuracy_drop": bound}
    batches = -(-options["calibration_images"] // tuning.rest.batch_size)
    net = gc.quantization.quantize(
        opened.net, tuning.rest.batches(), options["method"], bits=options["bits"], clip=options["clip"],
        batches=batches, equalize=options["equalize"], simulate=options["simulate"], progress=not run.quiet,
        **chosen_layers(options), **further)
    return net, []


def _weights(run: Run, opened: Opened, example: Any) -> tuple[Any, list[Any]]:
    import gluon_compress as gc

    options = run.options
    records: list[Any] = []
    if options["fold"]:
        folded = gc.quantization.fold_batch_norm(opened.net, example)
        run.give(folded=folded.to_dict())
    records.append(gc.quantization.quantize_weights(
        opened.net, options["bits"], clip=options["clip"] or "max", **chosen_layers(options)))
    return opened.net, records
