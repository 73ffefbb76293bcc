"""The folder of a compression: what each stage and trial made, from which a killed run goes on."""
from __future__ import annotations

import glob
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from ...arguments import differences
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

    Raises ``CheckpointError`` where the folder holds the work of another run, or a damaged ``results.json``.
    """

    def __init__(self, path: Path, run: dict[str, Any]) -> None:
        self.path, self._run = path, json.loads(json.dumps(run))
        self._rows = self._read()

    def row(self, name: str) -> dict[str, Any] | None:
        """What is known of a stage or trial; None where it is not done, or its file is not as it was written."""
        row = self._rows.get(name)
        if row is not None and "sha256" in row:
            file = self.file(name)
            if not file.is_file() or sha256_of(file) != row["sha256"]:
                return None
        return row

    def remember(self, name: str, row: dict[str, Any]) -> dict[str, Any]:
        """Keep a row, and return it as a later run will read it."""
        self._rows[name] = json.loads(json.dumps(row))
        write_text(self.path / RESULTS, json.dumps({"run": self._run, "rows": self._rows}, indent=1))
        return self._rows[name]

    def file(self, name: str) -> Path:
        return self.path / f"{name}.gcz"

    def save(self, name: str, net: Any, kept: tuple[Record, ...], example: Any) -> dict[str, Any]:
        """Write a network; ``sha256`` and ``bytes`` of its row."""
        size = save(self.file(name), net, *kept, example=example)
        return {"sha256": sha256_of(self.file(name)), "bytes": size}

    def load(self, name: str, net: Any) -> tuple[Record, ...]:
        """Put what was saved into the network, and return its records."""
        load_compressed(self.file(name), net)
        return tuple(records(self.file(name)).values())

    def remove_trials(self, stage: str) -> None:
        """Remove the files that nothing will go on from once a stage is done."""
        for file in self.path.glob(f"{glob.escape(stage)}-*.gcz"):
            file.unlink(missing_ok=True)

    def _read(self) -> dict[str, dict[str, Any]]:
        file = self.path / RESULTS
        try:
            content = parse(file.read_text(encoding="utf-8", errors="replace"), RESULTS)
            CONTENT(content, RESULTS)
        except FileNotFoundError:
            return {}
        except Malformed as error:
            raise CheckpointError(f"{file} is damaged ({error}); accepted: what compress wrote there; remove "
                                  f"{self.path} to begin anew") from error
        self._check_same(content["run"])
        return content["rows"]

    def _check_same(self, run: Mapping[str, Any]) -> None:
        other = differences(run, self._run)
        if other:
            raise CheckpointError(f"folder {self.path} holds the work of another run: {other}; accepted: the network, "
                                  f"data and settings of that run, or another folder")
