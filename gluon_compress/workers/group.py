"""The processes that train one network: what a training loop asks of them, and the process that trains alone."""
from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path

import numpy as np
from mxnet.gluon import HybridBlock, Trainer

from ..errors import WorkerError


class TrainingGroup(ABC):
    """The processes that train one network, as :func:`~gluon_compress.training.fit` asks them.

    There are two kinds: :class:`Alone`, and the :class:`~gluon_compress.workers.Workers` of a cluster. A loop that
    makes these calls trains with either, and has no branch for one process.

    Attributes
    ----------
    rank : int
        The number of this process, from 0.
    num_workers : int
        How many there are.
    failed : bool
        Whether this process can no longer train with the others.
    """

    rank: int
    num_workers: int
    failed: bool

    @abstractmethod
    def check_network(self, net: HybridBlock) -> None:
        """Raise ``NetworkError`` for a network with which no training can begin."""

    @abstractmethod
    def begin(self, net: HybridBlock, trainer: Trainer, description: dict) -> None:
        """Make sure that all train the same, as a JSON dict describes it, and give all worker 0's parameters."""

    @abstractmethod
    def step(self, trainer: Trainer, samples: int) -> None:
        """A step of the trainer with the gradients of all workers' samples; ``samples`` is their number."""

    @abstractmethod
    def meet(self, net: HybridBlock) -> None:
        """After an epoch, make the networks of all workers equal."""

    @abstractmethod
    def sum(self, numbers: Sequence[float] | np.ndarray) -> np.ndarray:
        """The sum of all workers' ``numbers``, a NumPy array of float64."""

    def sum_of_batch(self, loss: float, correct: int, samples: int) -> np.ndarray:
        """:meth:`sum` of what a batch adds up to; ``WorkerError`` when another worker has had its last batch."""
        return self._sum_in_step(1, [loss, correct, samples])

    def end_epoch(self) -> None:
        """Raise ``WorkerError`` unless all workers have had their last batch."""
        self._sum_in_step(0, [0, 0, 0])

    def _sum_in_step(self, batches: int, numbers: Sequence[float]) -> np.ndarray:
        """The sums of numbers that each worker gives for as many ``batches``, 1 or 0."""
        sums = self.sum([batches, *numbers])
        if sums[0] != batches * self.num_workers:
            raise WorkerError("the workers have different numbers of batches: give each its datasets.Shard of one data "
                              "set")
        return sums[1:]

    @abstractmethod
    def file_of_first(self, path: Path) -> AbstractContextManager[Path | None]:
        """Worker 0's file at ``path``, for reading by all; None when it has none."""


class Alone(TrainingGroup):
    """One process that trains by itself: nobody to agree with, to wait for or to add to."""

    def __init__(self) -> None:
        self.rank, self.num_workers, self.failed = 0, 1, False

    def check_network(self, net: HybridBlock) -> None:
        """Nothing: Gluon initializes what is missing at the first pass."""

    def begin(self, net: HybridBlock, trainer: Trainer, description: dict) -> None:
        """Nothing: Gluon makes its key-value store, where it needs one, at the first step."""

    def step(self, trainer: Trainer, samples: int) -> None:
        trainer.step(samples)

    def meet(self, net: HybridBlock) -> None:
        """Nothing."""

    def sum(self, numbers: Sequence[float] | np.ndarray) -> np.ndarray:
        return np.array(numbers, np.float64)

    @contextmanager
    def file_of_first(self, path: Path) -> Iterator[Path | None]:
        yield path if path.exists() else None
