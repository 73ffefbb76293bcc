"""What the stages of a compression share, and how each tries something and keeps what it made."""
from __future__ import annotations

import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any, Protocol

from mxnet.gluon import HybridBlock

from ...arguments import shown
from ...checkpoint.file import coded_size
from ...files.schema import Malformed, fields
from ...records import Record
from .judging import Judge
from .record import NOTES
from .work_folder import WorkFolder, as_json

ORIGINAL = "0-original"  # the row and file of the network that a compression begins with
_NOTES = fields({}, NOTES)
Made = tuple[tuple[Record, ...], dict[str, Any]]  # records, and what is noted in the row


class Stage(Protocol):
    """A step from a network to a smaller one; :class:`Pruning` and :class:`Rounding` are two.

    ``name`` is what files and tables call it. Settings that JSON cannot hold stand in ``description`` as what they mean
    for the network.
    """

    @property
    def name(self) -> str: ...

    def check(self, net: HybridBlock, training_data: Any) -> None:
        """Raise what is wrong with the settings, before anything is computed; ``training_data`` may be None."""

    def description(self, net: HybridBlock) -> dict[str, Any]:
        """JSON by which a later call knows the settings again."""

    def run(self, net: HybridBlock, records: tuple[Record, ...], task: Task) -> Made:
        """Change the network; the records that its file needs now, and what is noted of it.

        That is a dict of ``note``, a text of at most 10,000 characters for the table, and ``settings``, a dict that
        JSON can hold; either may be missing.
        """


def name_of(number: int, stage: Stage) -> str:
    """The row and file of what a stage made; the first stage has number 1."""
    return f"{number}-{stage.name}"


@dataclass
class Task:
    """What a stage is given.

    Attributes
    ----------
    judge : Judge
        Of the data that choose.
    training_data : iterable of batches, or None
    calibration_data : list of tuples of NDArray
    folder : WorkFolder
    example : NDArray or tuple of NDArray
    seed : int
    progress : bool
    stage : str
        The name of the stage that runs, with its number.
    """

    judge: Judge
    training_data: Iterable[Any] | None
    calibration_data: list[Any]
    folder: WorkFolder
    example: Any
    seed: int
    progress: bool
    stage: str = ""

    def kept(self, name: str, net: HybridBlock, make: Callable[[], Made], share: float = 1.0) -> dict[str, Any]:
        """The row of a network that ``make`` makes of ``net``, or made in an earlier run; its file is in the folder."""
        row = self.folder.row_of_file(name)
        if row is None:
            started = time.perf_counter()
            records, notes = self._checked(make())
            row = self.folder.remember(name, {**self.folder.save(name, net, records, self.example),
                                              **self.judge.row(net, share), **notes,
                                              "seconds": time.perf_counter() - started})
        return row

    def measured(self, name: str, net: HybridBlock, make: Callable[[], Made], share: float = 1.0) -> dict[str, Any]:
        """As :meth:`kept`, without the file: for what is quickly made again."""
        row = self.folder.row(name)
        if row is None:
            records, notes = self._checked(make())
            row = self.folder.remember(name, {"bytes": coded_size(net, *records, example=self.example),
                                              **self.judge.row(net, share), **notes})
        return row

    def _checked(self, made: Any) -> Made:
        """What a stage made, with notes as they will be read again."""
        if not isinstance(made, tuple) or len(made) != 2 or not isinstance(made[0], (tuple, list)):
            raise TypeError(f"stage {self.stage} returned {shown(made)}; accepted: (records, notes), the first a tuple")
        notes = as_json(made[1])
        try:
            _NOTES(notes, "notes")
        except Malformed as error:
            raise TypeError(f"stage {self.stage}: {error}") from error
        return tuple(made[0]), notes
