"""The stages of ``gluon-compress compress``: from a network to a smaller one, each on its own."""
from __future__ import annotations

import warnings
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from .data import Data
from .networks import Opened
from .run import Run
from .training import FINE_TUNING_RATE, new_trainer, training_batches
from .tuning import reestimate

RATE = 0.01  # where neither a rate is given nor an accuracy: hardly anything is lost


@dataclass
class Work:
    """What the stages share.

    Attributes
    ----------
    run : Run
    original : Opened
        The network as it was, which teaches the smaller one. It is not changed.
    example : NDArray
    training, held_out : Data
        What is trained on, and what choices are made by.
    folder : Path
        Of the files from which a killed run goes on.
    macs : float
        The share of the multiply-accumulates that is kept, in this attempt.
    """

    run: Run
    original: Opened
    example: Any
    training: Data
    held_out: Data
    folder: Path
    macs: float

    def accuracy(self, net: Any, data: Data | None = None) -> float:
        """Of the held out images, or of others."""
        import gluon_compress as gc
        return gc.training.evaluate(net, (data or self.held_out).batches())

    @property
    def progress(self) -> bool:
        return not self.run.quiet


@dataclass(frozen=True)
class Stage:
    """A step from a network, which it may change, to another one and its records for ``gc.save``."""

    name: str
    make: Callable[[Work, Any], tuple[Any, list[Any]]]


def keep(work: Work, net: Any) -> tuple[Any, list[Any]]:
    """The network as it was, in our file: what the others are compared with."""
    return work.original.net, []


def prune(work: Work, net: Any) -> tuple[Any, list[Any]]:
    """Channels go, and the statistics of BatchNorm are estimated anew."""
    import gluon_compress as gc

    from ..network.layer import matching_names
    matching_names("exclude", work.run.options["exclude"], gc.network.layers(net))  # raises, also where nothing goes
    if work.macs >= 1:
        return net, []
    plan = gc.pruning.prune_channels(net, work.example, macs=work.macs, scope="global", max_ratio=0.9,
                                     criterion=work.run.options["criterion"], exclude=work.run.options["exclude"])
    reestimate(net, work.training, work.run.options["seed"], work.progress)
    return net, [plan]


def fine_tune(work: Work, net: Any) -> tuple[Any, list[Any]]:
    """The smaller network is trained, with the original as its teacher."""
    import gluon_compress as gc

    options = work.run.options
    if options["epochs"] and work.macs < 1:
        gc.distillation.distill(
            net, work.original.net, training_batches(work.run, work.training), options["epochs"],
            options["temperature"], options["hard_weight"], trainer=new_trainer(work.run, net, FINE_TUNING_RATE),
            schedule=gc.training.one_cycle, validation_data=work.held_out.batches(), seed=options["seed"],
            progress=work.progress, state_path=work.folder / f"training-{work.macs:.4f}.state")
    return net, []


def quantize(work: Work, net: Any) -> tuple[Any, list[Any]]:
    """Layers run on integers: all, or as many as the accuracy allows."""
    import gluon_compress as gc

    from ..quantization.accuracy import NotKept
    options = work.run.options
    drop, arguments = options["max_accuracy_drop"], {}
    if drop is not None:
        lost = work.accuracy(work.original.net) - work.accuracy(net)
        arguments = {"evaluate": work.accuracy, "max_accuracy_drop": max(0.0, drop - lost)}
    images = work.training.sample(options["calibration_images"])
    try:
        return gc.quantization.quantize(net, images.batches(), exclude=options["exclude"], progress=work.progress,
                                        **arguments), []
    except NotKept as error:
        work.run.note(f"the network stays in fp32: {error}")
        return net, []


def code(work: Work, net: Any) -> tuple[Any, list[Any]]:
    """Weights are rounded for a small file: by the rate that was given, or as coarsely as the accuracy allows."""
    import gluon_compress as gc

    options = work.run.options
    drop, seed, exclude = options["max_accuracy_drop"], options["seed"], options["exclude"]
    images = work.training.sample(options["calibration_images"])
    if drop is None or options["rate"] is not None:
        rate = RATE if options["rate"] is None else options["rate"]
        return net, [gc.quantization.quantize_weights(net, rate=rate, calibration_data=images.batches(),
                                                      exclude=exclude, seed=seed, progress=work.progress)]
    lost = work.accuracy(work.original.net) - work.accuracy(net)
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always", UserWarning)
        result = gc.coding.compress(net, work.held_out.batches(), min(max(0.0, drop - lost), 1.0),
                                    calibration_data=images.batches(), stages=[gc.coding.Rounding(exclude=exclude)],
                                    seed=seed, folder=work.folder / f"coding-{work.macs:.4f}", progress=False)
    for warning in caught:
        if warning.category is UserWarning:
            work.run.note(str(warning.message))
    work.run.note(f"weights are rounded: {result.rows[-1].get('note', '')}")
    return net, list(result.records)


STAGES = [Stage("original", keep), Stage("pruned", prune), Stage("fine-tuned", fine_tune), Stage("int8", quantize)]
CODED = Stage("coded", code)  # instead of the last
TRAINED = "fine-tuned"  # the stage after which the accuracy shows whether so much may go
