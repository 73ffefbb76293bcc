"""The measurements of a run in a file, from which a killed run goes on."""
from __future__ import annotations

import json
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

from ...arguments import differences
from ...errors import CheckpointError
from ...files.schema import Malformed, anything, fields, mapping, number, parse
from ...files.tensorfile import check_regular
from ...files.writing import write_text
from ..criteria import Criterion
from .curves import CURVES, ROUNDING, Sensitivity

MOST_BYTES = 16 << 20
LEFT_TO_DEFAULT = {"over": "group", "loss": None, "seed": 0}  # what the first version's files do not say
_STATE = fields({"run": mapping(anything), "baseline": number(), "curves": CURVES})


@dataclass(frozen=True)
class State:
    """The file of one run.

    Attributes
    ----------
    path : Path
    run : dict
        What distinguishes the run from others, as JSON.
    """

    path: Path
    run: dict[str, Any]

    def restore(self, record: Sensitivity, measurements: list[tuple[str, float]]) -> None:
        """Take over what was measured before, if anything was.

        Raises ``CheckpointError`` when the file is damaged or of another run; ``measurements`` are the (name, fraction)
        that this run makes.
        """
        if not self.path.exists():
            return
        content = self._content()
        curves = {name: dict(pairs) for name, pairs in content["curves"].items()}
        left_to_default = {name: value for name, value in LEFT_TO_DEFAULT.items() if name in self.run}
        if differing := differences({**left_to_default, **content["run"]}, self.run):
            raise CheckpointError(f"{self.path} is of another run: {differing}; delete it or choose another path")
        unknown = {(name, fraction) for name, curve in curves.items() for fraction in curve} - set(measurements)
        if unknown or curves.keys() != record.curves.keys():
            raise CheckpointError(f"{self.path} is damaged: its curves are not those of its layers and fractions; "
                                  f"delete it or choose another path")
        record.baseline, record.curves = content["baseline"], {name: curves[name] for name in record.curves}

    def check_same_baseline(self, saved: float | None, measured: float) -> None:
        """Raise ``CheckpointError`` when ``evaluate``, which no file can hold, differs from when it was saved."""
        if saved is not None and abs(saved - measured) > ROUNDING:
            raise CheckpointError(f"{self.path} was measured with another evaluate: the accuracy of the whole network "
                                  f"is {saved} there, {measured} here; delete it or choose another path")

    def save(self, record: Sensitivity) -> None:
        """Write what has been measured so far."""
        content = {"run": self.run, "baseline": record.baseline, "curves": record.curves_as_pairs()}
        write_text(self.path, json.dumps(content, indent=1))

    def _content(self) -> dict[str, Any]:
        check_regular(self.path)
        try:
            if self.path.stat().st_size > MOST_BYTES:
                raise Malformed(f"it has more than {MOST_BYTES} bytes")
            content = parse(self.path.read_bytes(), "it")
            _STATE(content, "it")
            return content
        except Malformed as error:
            raise CheckpointError(f"{self.path} is no state of a sensitivity measurement, or is damaged ({error}); "
                                  f"delete it or choose another path") from error


def check_functions_have_names(criterion: Criterion) -> None:
    """Raise ``TypeError`` for a function of the criterion that a file could not tell from another one."""
    for argument, function in criterion.functions().items():
        if isinstance(function, partial) or getattr(function, "__name__", "") == "<lambda>":
            raise TypeError(f"{argument} is {function!r}, by whose name the file at state_path could not tell it from "
                            f"another one; accepted beside state_path: a function made with def")
