"""What commands that train have in common: the optimizer, the learning rate, augmentation."""
from __future__ import annotations

from collections.abc import Callable
from typing import Any

import click

from .data import Data
from .failures import Refusal
from .networks import Opened
from .options import Decorated, Number, stacked
from .run import Run

OPTIMIZERS = ("nag", "sgd", "adam")
ADAM_RATE, FINE_TUNING_RATE = 0.001, 0.01  # the second is low enough for a few hundred images
AUGMENTATIONS = ("crop", "flip", "cutout")


class AugmentText(click.ParamType):
    """``crop,flip``: augmentations, one after the other; or ``none``."""

    name = "augmentations"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> str:
        if value != "none" and not set(str(value).split(",")) <= set(AUGMENTATIONS):
            self.fail(f"{str(value)!r} is none, nor some of {', '.join(AUGMENTATIONS)} with commas.", param, ctx)
        return str(value)


def optimizer_options(rate: float) -> Callable[[Decorated], Decorated]:
    """How a network is trained, at this learning rate where the user does not say."""
    return stacked(
        click.option("--optimizer", type=click.Choice(OPTIMIZERS), default="nag", show_default=True,
                     help="What changes the weights; nag is SGD with Nesterov's momentum."),
        click.option("--learning-rate", type=Number(0, min_open=True), metavar="RATE",
                     help=f"The highest; it rises for a fifth of the training, then falls to 0. "
                          f"[default: {rate}, for adam {ADAM_RATE}]"),
        click.option("--weight-decay", type=Number(0), default=5e-4, show_default=True,
                     help="How strongly weights are drawn to zero."),
        click.option("--augment", type=AugmentText(), metavar="crop,flip", help="Training images are shifted by up to "
                     "an eighth of their side (crop), mirrored (flip), or lose a square (cutout); or none. [default: "
                     "crop,flip for colour images, none for grey ones]"),
        click.option("--seed", type=click.IntRange(0, 2 ** 31 - 1), default=0, show_default=True,
                     help="Of all random numbers."))


def training_options(epochs: int, rate: float) -> Callable[[Decorated], Decorated]:
    """The options of a distillation, of so many epochs and at this learning rate where the user does not say."""
    return stacked(
        click.option("--epochs", type=click.IntRange(0 if epochs else 1), default=epochs, show_default=True,
                     help="How often to go through the data."),
        click.option("--temperature", type=Number(0, min_open=True), default=4.0, show_default=True,
                     help="Divides the logits that the teacher's and the student's probabilities are made of."),
        click.option("--hard-weight", type=Number(0, 1), default=0.1, show_default=True,
                     help="The share of the labels in the loss; the rest is the teacher's."),
        optimizer_options(rate))


def new_trainer(run: Run, net: Any, rate: float) -> Any:
    """The Gluon Trainer that the options ask for, with this learning rate where they do not say."""
    from mxnet import gluon

    name = run.options["optimizer"]
    rate = run.options["learning_rate"] or (ADAM_RATE if name == "adam" else rate)
    settings = {"learning_rate": rate, "wd": run.options["weight_decay"]}
    return gluon.Trainer(net.collect_params(), name, settings | ({} if name == "adam" else {"momentum": 0.9}))


def remember_training(run: Run, opened: Opened, data: Data) -> None:
    """Later commands read in the recipe what the network was trained on: its accuracy there is none on new images."""
    run.remember(trained_on={**opened.trained_on, data.text: run.digest(data.text)})


def training_batches(run: Run, data: Data) -> Any:
    """Shuffled batches, augmented as the options ask for."""
    return data.batches(shuffle=True, augment=_augmentation(run.options.get("augment"), data))


def _augmentation(text: str | None, data: Data) -> Any:
    from .. import datasets

    if data.dataset is None:
        if text not in (None, "none"):
            raise Refusal(f"--augment is {text}, but {data.text} returned batches; accepted: augment them there")
        return None
    text = text or ("crop,flip" if data.dataset.images.shape[3] == 3 else "none")
    eighth = max(1, max(data.dataset.images.shape[1:3]) // 8)
    known = {"crop": datasets.random_crop(eighth), "flip": datasets.random_flip, "cutout": datasets.cutout(2 * eighth)}
    chosen = [known[name] for name in text.split(",") if name != "none"]
    return datasets.compose(*chosen) if chosen else None
