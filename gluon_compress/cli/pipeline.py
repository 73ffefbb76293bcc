"""Stages one after the other, each in a file from which a killed run goes on; another attempt when too much is lost."""
from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

from ..arguments import differences
from .data import Data
from .failures import Refusal
from .recipes import digest_of
from .stages import CODED, STAGES, TRAINED, Stage, Work
from .states import RESULTS


class Pipeline:
    """A run of the stages, whose results are in a folder.

    Attributes
    ----------
    work : Work
        Of the last attempt.
    results : list of dict
        What each stage of the last attempt made: ``stage``, ``file``, ``bytes``, ``macs``, ``accuracy`` of the held out
        images.
    """

    def __init__(self, work: Work, settings: dict[str, Any], max_drop: float | None) -> None:
        self.work, self._max_drop = work, max_drop
        self.results: list[dict[str, Any]] = []
        self._file = work.folder / RESULTS
        self._known: dict[str, dict[str, Any]] = _read(self._file, settings)
        self._settings = settings
        self._stages = [*STAGES[:-1], CODED] if work.run.options["to"] == "coded" else STAGES

    def go(self) -> Path:
        """Go through all stages; the path of the last one's file.

        When the network has lost more than it may after training, it is made anew with half as much removed, three
        times, and then with all its channels.
        """
        asked = self.work.macs
        attempts = [asked] if self._max_drop is None else [1 - (1 - asked) / 2 ** step for step in range(3)] + [1.0]
        for macs in attempts:
            self.work = replace(self.work, macs=macs)
            if self._attempt():
                break
        return self.work.folder / self.results[-1]["file"]

    def _attempt(self) -> bool:
        self.results = []
        for number, stage in enumerate(self._stages):
            self.results.append(self._result(number, stage))
            if stage.name == TRAINED and self._loses_too_much():
                return False
        return True

    def _loses_too_much(self) -> bool:
        if self._max_drop is None or self.work.macs >= 1:
            return False
        before, after = self.results[0]["accuracy"], self.results[-1]["accuracy"]
        if before - after > self._max_drop:
            self.work.run.note(f"with {self.work.macs:.0%} of the multiply-accumulates, {before - after:.4f} of the "
                               f"accuracy is lost, which is more than {self._max_drop}: fewer channels go")
            return True
        return False

    def _result(self, number: int, stage: Stage) -> dict[str, Any]:
        """What a stage made, now or in an earlier run."""
        name = f"{number}-{stage.name}{f'-{self.work.macs:.4f}' if number else ''}.gcz"
        path = self.work.folder / name
        if name in self._known and path.is_file() and digest_of(path) == self._known[name]["sha256"]:
            self.work.run.note(f"stage {number + 1} of {len(self._stages)}, {stage.name}: done before, in {path}")
            return self._known[name]
        self.work.run.note(f"stage {number + 1} of {len(self._stages)}, {stage.name} ...")
        result = self._make(stage, path)
        self._known[name] = result
        if number:  # wrong options fail in the second stage, and leave no state behind
            _write(self._file, self._settings, self._known)
        return result

    def _make(self, stage: Stage, path: Path) -> dict[str, Any]:
        import gluon_compress as gc

        net = gc.load(self.work.folder / self.results[-1]["file"]) if self.results else None
        if net is not None:
            net.hybridize(static_alloc=True)
        net, records = stage.make(self.work, net)
        size = gc.save(path, net, *records, example=self.work.example)
        return {"stage": stage.name, "file": path.name, "bytes": size, "sha256": digest_of(path),
                "macs": gc.report(net, self.work.example).macs, "accuracy": self.work.accuracy(net)}

    def measure(self, data: Data) -> None:
        """Add ``test_accuracy``, of data that chose nothing, to all results."""
        import gluon_compress as gc

        for result in self.results:
            result["test_accuracy"] = self.work.accuracy(gc.load(self.work.folder / result["file"]), data)


def _read(file: Path, settings: dict[str, Any]) -> dict[str, dict[str, Any]]:
    """{file: result} of an earlier run of the same settings; ``Refusal`` where it was another run."""
    try:
        content = json.loads(file.read_text(encoding="utf-8"))
        before, results = content["settings"], content["results"]
        wanted = {"stage", "file", "bytes", "sha256", "macs", "accuracy"}
        known = {name: result for name, result in results.items() if wanted <= set(result)}
    except FileNotFoundError:
        return {}
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise Refusal(f"{file} is damaged; remove {file.parent} to begin anew") from error
    differing = differences(before, json.loads(json.dumps(settings)))
    if differing:
        raise Refusal(f"{file.parent} holds the state of another run: {differing}; remove it to begin anew, or name "
                      f"another folder by --state")
    return known


def _write(file: Path, settings: dict[str, Any], results: dict[str, Any]) -> None:
    from ..files.writing import write_text

    write_text(file, json.dumps({"settings": settings, "results": results}, indent=1))


def settings_of(work: Work, names: tuple[str, ...]) -> dict[str, Any]:
    """What tells a run from others: options, and the digests of the network and of the training data."""
    from ..network import digest

    data = work.training
    fingerprint = str(data) if data.dataset is None else data.dataset.batches(size=data.size).fingerprint()
    return {**{name: work.run.options[name] for name in names}, "network": digest.digest_of(work.original.net),
            "data": fingerprint}
