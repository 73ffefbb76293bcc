"""One training: what :func:`gluon_compress.training.fit` was asked for."""
from __future__ import annotations

import json
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from mxnet.gluon import HybridBlock, Trainer

from ..arguments import check_number
from ..network.data import number_of_batches
from ..workers.group import TrainingGroup
from .state import describe


@dataclass
class Run:
    """What a training was asked for, with its defaults; ``workers`` are the processes that train together.

    ``identity`` is a JSON dict of what a saved state, and the other workers, must agree with. It is of the beginning,
    as ``base_rate``, the trainer's learning rate, is: the trainer's rate and scheduler change later.
    """

    net: HybridBlock
    data: Iterable
    epochs: int
    trainer: Trainer
    schedule: Callable[[float], float]
    loss: Callable[..., Any]
    targets: Callable[[Any, Any], Any]
    validation_data: Iterable | None
    seed: int
    state_path: Path | None
    progress: bool
    details: Any
    workers: TrainingGroup
    base_rate: float
    identity: dict[str, Any] = field(init=False)

    def __post_init__(self) -> None:
        self.identity = {"epochs": self.epochs, "seed": self.seed, "batches": number_of_batches(self.data),
                         "schedule": _name(self.schedule), "loss": _name(self.loss), "targets": _name(self.targets),
                         **describe(self.trainer), "run_details": _as_json(self.details)}

    @property
    def description(self) -> dict[str, Any]:
        """``identity``, and what else the workers must have alike."""
        return {**self.identity, "state_path": None if self.state_path is None else "a path",
                "validation_data": None if self.validation_data is None else "data"}

    def learning_rate(self, epoch: int, share: float) -> float:
        """The learning rate where this share of the epoch's steps is done."""
        progress = (epoch + share) / self.epochs
        factor = self.schedule(progress)
        check_number(f"schedule({progress:.4g})", factor, minimum=0)
        return float(self.base_rate * factor)  # MXNet writes it in a text, in which NumPy's have a name before them


def _name(function: Any) -> str:
    """The name of a function, or of the class of an object that can be called."""
    return getattr(function, "__qualname__", type(function).__qualname__)


def _as_json(details: Any) -> Any:
    """A copy of ``run_details`` as it comes back from a file, to compare with."""
    try:
        return json.loads(json.dumps(details))
    except (TypeError, ValueError) as error:
        raise TypeError(f"run_details is {details!r}; accepted: what JSON can write ({error})") from error
