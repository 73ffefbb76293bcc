"""The folder of a compression: what each stage and trial made, from which a killed run goes on."""
from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import numpy as np

from ...arguments import differences, shown
from ...checkpoint.file import load_compressed, records, save
from ...errors import CheckpointError
from ...files.locks import sha256_of
from ...files.schema import Malformed, anything, fields, mapping, parse
from ...files.writing import write_text
from ...records import Record
from .record import ROW

RESULTS = "results.json"
CONTENT = fields({"run": mapping(anything), "rows": mapping(ROW)})


class WorkFolder:
    """Files and rows by name; what is read was written by the same run, for the same network, data and settings.

    ``results.json`` is written before any other file, so that a folder without it holds none of ours.

    Raises ``CheckpointError`` where the folder holds the work of another run, a damaged ``results.json``, or a file of
    somebody else's where one of ours would be written.
    """

    def __init__(self, path: Path, run: dict[str, Any], stages: Iterable[str]) -> None:
        self.path, self._run = path, as_json(run)
        self._rows = self._read(stages)

    def row(self, name: str) -> dict[str, Any] | None:
        """What is known of a trial; None where it is not done."""
        return self._rows.get(name)

    def row_of_file(self, name: str) -> dict[str, Any] | None:
        """What is known of a stage or trial that has a file; None also where that is not as it was written."""
        row, file = self._rows.get(name, {}), self.file(name)
        as_written = {"sha256", "seconds"} <= row.keys() and file.is_file() and sha256_of(file) == row["sha256"]
        return row if as_written else None

    def remember(self, name: str, row: dict[str, Any]) -> dict[str, Any]:
        """Keep a row, and return it as a later run will read it."""
        self._rows[name] = as_json(row)
        self._write()
        return self._rows[name]

    def file(self, name: str) -> Path:
        return self.path / f"{name}.gcz"

    def save(self, name: str, net: Any, kept: tuple[Record, ...], example: Any) -> dict[str, Any]:
        """Write a network; ``sha256`` and ``bytes`` of its row."""
        if not self._rows:
            self._write()
        size = save(self.file(name), net, *kept, example=example)
        return {"sha256": sha256_of(self.file(name)), "bytes": size}

    def load(self, name: str, net: Any) -> tuple[Record, ...]:
        """Put what was saved into the network, and return its records."""
        load_compressed(self.file(name), net)
        return tuple(records(self.file(name)).values())

    def remove_trials(self, stage: str) -> None:
        """Remove the files that nothing will go on from once a stage is done."""
        for name, row in self._rows.items():
            if name.startswith(f"{stage}-") and "sha256" in row:
                self.file(name).unlink(missing_ok=True)

    def _write(self) -> None:
        write_text(self.path / RESULTS, json.dumps({"run": self._run, "rows": self._rows}, indent=1))

    def _read(self, stages: Iterable[str]) -> dict[str, dict[str, Any]]:
        file = self.path / RESULTS
        try:
            content = parse(file.read_text(encoding="utf-8", errors="replace"), RESULTS)
            CONTENT(content, RESULTS)
            _check_names(content["rows"])
        except FileNotFoundError:
            self._check_free(stages)
            return {}
        except Malformed as error:
            raise CheckpointError(f"{file} is damaged ({error}); accepted: what compress wrote there; "
                                  f"remove it with its files, or name another folder, to begin anew") from error
        self._check_same(content["run"])
        return content["rows"]

    def _check_free(self, stages: Iterable[str]) -> None:
        foreign = next((file for file in map(self.file, stages) if file.exists()), None)
        if foreign is not None:
            raise CheckpointError(f"folder {self.path} has a file {foreign.name} and no {RESULTS}: it is not the work "
                                  f"of compress, which would write over it; accepted: another folder")

    def _check_same(self, run: Mapping[str, Any]) -> None:
        other = differences(run, self._run)
        if other:
            raise CheckpointError(f"folder {self.path} holds the work of another run: {other}; accepted: the network "
                                  f"as it was when that run began, its data and settings, or another folder")


def names_a_file(name: str) -> bool:
    """Whether a file in a folder may be called so."""
    return "/" not in name and name.isprintable()


def _check_names(rows: Iterable[str]) -> None:
    """Raise ``Malformed`` for a name of no file in the folder: files of trials are removed by name."""
    for name in rows:
        if not names_a_file(name):
            raise Malformed(f"{RESULTS}.rows has {shown(name)}; accepted: printable names without '/'")


def as_json(value: Any) -> Any:
    """A value as a file gives it back: with Python's numbers in place of NumPy's."""
    def plain(each: Any) -> Any:
        if not isinstance(each, np.generic):
            raise TypeError(f"a stage has {shown(each)} in its description, or in what it notes; accepted: what JSON "
                            f"can hold")
        return each.item()
    return json.loads(json.dumps(value, default=plain))
