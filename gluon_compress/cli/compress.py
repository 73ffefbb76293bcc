"""``gluon-compress compress``: the whole way from a network to a smaller one, on integers or in a small file."""
from __future__ import annotations

from typing import Any

import click

from .accuracies import LOSS_SAID, note_loss, show_where
from .command import command
from .data import Data, open_data, open_test_data
from .data_options import data_options, held_out_option, test_option
from .failures import Refusal
from .networks import example_of, open_network
from .options import CRITERIA, Number, calibration_option, exclude_option, network_argument, output_option
from .pipeline import Pipeline, settings_of
from .run import Run
from .stages import Work
from .states import state_folder_kept, state_folder_of
from .training import FINE_TUNING_RATE, remember_training, training_options

SETTINGS = ("macs", "criterion", "exclude", "epochs", "temperature", "hard_weight", "optimizer", "learning_rate",
            "weight_decay", "augment", "seed", "held_out", "max_accuracy_drop", "calibration_images", "to", "rate")

LAST_STEP = {"int8": "bring it onto integers", "coded": "round and code its weights"}

REMEDIES = {  # {stage: what helps where it loses much}
    "fine-tuned": "more --epochs, more training images, or a larger share of --macs",
    "int8": f"--max-accuracy-drop {LOSS_SAID}, which keeps layers in fp32, or more --calibration-images",
    "coded": f"a smaller --rate, or --max-accuracy-drop {LOSS_SAID} in its place"}


@command
@network_argument
@output_option("The smaller network.", ".gcz")
@data_options("Training images")
@test_option
@click.option("--macs", type=Number(0, 1, min_open=True), default=0.5, show_default=True, metavar="SHARE",
              help="The share of the multiply-accumulates that is kept.")
@click.option("--max-accuracy-drop", type=Number(0, 1), metavar="SHARE", help="The accuracy that may be lost "
              "on the held out images: 0.01 for one point of a hundred. When more is lost, fewer channels are removed, "
              "fewer layers run on integers, and weights are rounded less coarsely.")
@click.option("--to", type=click.Choice(["int8", "coded"]), default="int8", show_default=True,
              help="What the last stage makes: a network that runs on integers, or one in fp32 whose file is as small "
              "as can be.")
@click.option("--rate", type=Number(1e-9, 1e3), metavar="RATE", help="With --to coded: how coarsely "
              "weights are rounded, 0.0001 to 1. [default: as --max-accuracy-drop allows; without it 0.01]")
@click.option("--criterion", type=click.Choice(CRITERIA), default="l1", show_default=True,
              help="How channels are ranked; the lowest go.")
@exclude_option
@training_options(5, FINE_TUNING_RATE)
@calibration_option
@held_out_option
@click.option("--state", type=click.Path(file_okay=False), metavar="FOLDER", help="Where the result of each stage is "
              "kept, from which the same command goes on. [default: OUTPUT.state]")
def compress(run: Run, output: str, macs: float, max_accuracy_drop: float | None, to: str,
             rate: float | None, **shared: Any) -> None:
    """Prune channels of NETWORK, train it with the original as its teacher, and bring it onto integers or into a
    small file.

    Or, with --to coded, make its file as small as can be: weights are rounded to what costs least in accuracy and in
    bits, and coded. --macs 1 --epochs 0 does nothing else.

    After each stage the size of the file, the multiply-accumulates (MACs) and the accuracy on held out images are
    measured, and in the end those on --test images, which choose nothing. Networks of Module are opened with --head
    logits.

    \b
    Examples:
      gluon-compress compress model --data photos --macs 0.5 --epochs 10 --output small.gcz
      gluon-compress compress params:simple_cnn_mnist --data mnist --test mnist --limit 1000 --epochs 1 \\
          --max-accuracy-drop 0.02 --output small.gcz
      gluon-compress compress params:lenet_mnist --data mnist --limit 1000 --macs 1 --epochs 0 --to coded \\
          --rate 0.1 --output small.gcz
    """
    from ..network.checks import check_floats, check_hybrid

    if rate is not None and to != "coded":
        raise Refusal(f"--rate is {rate}, and --to {to} has no use for it; accepted: --to coded")
    target = run.target(output)
    folder = state_folder_of(run, target)
    opened = open_network(run, to_train=True)
    check_hybrid(opened.net)  # before hours of training
    check_floats(opened.net)
    data = open_data(run, opened)
    example = example_of(run, opened, batch=1, data=data.batches())
    training, held_out = data.split(run.options["held_out"])
    test = open_test_data(run, opened)
    if run.options["epochs"]:
        remember_training(run, opened, data)
    if run.would(f"keep {macs:.0%} of the multiply-accumulates of {opened.text}, train it for "
                 f"{run.options['epochs']} epochs on {training}, and {LAST_STEP[to]}", target):
        return
    with state_folder_kept(run, folder):
        work = Work(run, opened, example, training, held_out, folder, macs)
        pipeline = Pipeline(work, settings_of(work, SETTINGS), max_accuracy_drop)
        last = pipeline.go()
        if test is not None:
            pipeline.measure(test)
        _copy(last, target)
    run.give(stages=pipeline.results, macs_kept=pipeline.work.macs)
    run.show(_table(pipeline.results))
    show_where(run, {"held out": held_out, "test": test})
    _note_losses(run, pipeline.results, held_out)
    run.made(target, before=pipeline.results[0]["bytes"])


def _note_losses(run: Run, results: list[dict[str, Any]], held_out: Data) -> None:
    """Say of each stage that has lost much what would help; pruning is judged after the training that follows it."""
    before = results[0]["accuracy"]
    for result in results[1:]:
        if result["stage"] in REMEDIES:
            note_loss(run, f"stage {result['stage']}", before, result["accuracy"], held_out, REMEDIES[result["stage"]])
            before = result["accuracy"]


def _copy(source: Any, target: Any) -> None:
    import shutil

    from ..files.writing import write_atomically
    write_atomically(target, lambda place: shutil.copyfile(source, place))


def _table(results: list[dict[str, Any]]) -> str:
    from ..measuring.units import percent
    from ..tables import format_table

    tested = "test_accuracy" in results[0]
    rows = [(result["stage"], f"{result['bytes']:,}", f"{result['macs']:,}", percent(result["accuracy"], 2),
             *([percent(result["test_accuracy"], 2)] if tested else [])) for result in results]
    return format_table(("stage", "bytes", "MACs", "held out", *(["test"] if tested else [])), rows)
