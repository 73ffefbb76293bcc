"""What ``prune`` and ``quantize`` do with data: fine-tune a network, and say how accurate it is on images held out."""
from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import click

from .accuracies import accuracy_of
from .data import Data, open_data
from .failures import Refusal
from .networks import Opened
from .options import stacked
from .run import Run
from .training import FINE_TUNING_RATE, new_trainer, optimizer_options, remember_training, training_batches

STATISTICS_BATCHES = 20  # by which BatchNorm's statistics are estimated anew
SMALLEST = 1e-12  # of a probability, whose logarithm is the loss

tuning_options = stacked(
    click.option("--epochs", type=click.IntRange(0), default=0, show_default=True,
                 help="How often to go through --data in training afterwards."),
    optimizer_options(FINE_TUNING_RATE))


@dataclass
class Tuning:
    """The data of a command, in two parts, and the training of the network on the first.

    Attributes
    ----------
    run : Run
    rest, held_out : Data
    """

    run: Run
    rest: Data
    held_out: Data | None

    def accuracy(self, net: Any) -> float | None:
        """Top-1, on the images held out; None where there are none."""
        return None if self.held_out is None else accuracy_of(self.run, net, self.held_out)

    def fine_tune(self, net: Any, masks: Any = None) -> None:
        """Train as the options say; with ``masks`` pruned weights stay zero."""
        import gluon_compress as gc

        run = self.run
        if not run.options["epochs"]:
            return
        trainer = new_trainer(run, net, FINE_TUNING_RATE)
        if masks is not None:
            trainer = gc.pruning.MaskedTrainer(net, masks, trainer.optimizer)
        validation = None if self.held_out is None else self.held_out.batches()
        gc.training.fit(net, training_batches(run, self.rest), run.options["epochs"], trainer,
                        schedule=gc.training.one_cycle, loss=self.loss(net), validation_data=validation,
                        seed=run.options["seed"], progress=not run.quiet)

    def reestimate(self, net: Any) -> None:
        """New running statistics for BatchNorm, where the network has any."""
        reestimate(net, self.rest, self.run.options["seed"], not self.run.quiet)

    def loss(self, net: Any) -> Callable[..., Any] | None:
        """The loss of a network that puts out probabilities; None, which stands for that of logits."""
        return loss_of_probabilities if _gives_probabilities(net, self.rest) else None


def reestimate(net: Any, data: Data, seed: int, progress: bool) -> None:
    """New running statistics for BatchNorm, where the network has any; by images that are always the same ones."""
    import gluon_compress as gc

    from ..pruning.channels.batch_norm import has_batch_norm
    if has_batch_norm(net, _first_inputs(net, data)):
        images = data.sample(STATISTICS_BATCHES * data.batch_size, seed)
        gc.pruning.reestimate_batch_norm(net, images.batches(), batches=STATISTICS_BATCHES, progress=progress)


def loss_of_probabilities(output: Any, label: Any) -> Any:
    """The cross entropy, ``-log p`` of the label's probability, per sample."""
    return -output.pick(label, axis=-1).clip(SMALLEST, 1).log()


def _gives_probabilities(net: Any, data: Data) -> bool:
    """Whether the outputs are in [0, 1] and sum up to 1."""
    import numpy as np

    from ..network.misfits import call
    output = call(net, _first_inputs(net, data), "a batch of data").asnumpy()
    return bool(output.min() >= 0 and np.allclose(output.sum(axis=-1), 1, atol=1e-3))


def _first_inputs(net: Any, data: Data) -> Any:
    """What a network gets of the first batch."""
    from ..network.checks import context_of
    from ..network.data import inputs_and_label
    inputs, _ = inputs_and_label(next(iter(data.batches()), None), "data", net, context_of(net))
    return inputs


def open_tuning(run: Run, opened: Opened) -> Tuning | None:
    """The :class:`Tuning` for ``--data``; None without data, ``Refusal`` where an option needs them."""
    if run.options.get("data"):
        data = open_data(run, opened)
        if run.options.get("epochs"):
            remember_training(run, opened, data)
        return Tuning(run, *data.split(run.options["held_out"]))
    if run.options.get("epochs"):
        raise Refusal(f"--epochs {run.options['epochs']} needs images to train on; give --data")
    return None
