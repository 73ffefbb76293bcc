"""One run of a command: what it shows, notes, reads and writes."""
from __future__ import annotations

import json
import math
import os
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import click

from .failures import Refusal, in_options, one_line, tell
from .recipes import RECIPE_END, changed_inputs, digest_of, versions, write_recipe
from .surroundings import Streams


@dataclass
class Run:
    """What a command is given, beside its own options.

    Attributes
    ----------
    command : str
    options : dict
        What the user wrote, or a recipe, or the defaults: plain data.
    json, quiet, force, dry : bool
    streams : Streams or None
        Where output and messages go, while the command runs.
    names : tuple of str
        Of the command's options, as Python has them: what the library says of its arguments is said of options.
    """

    command: str
    options: dict[str, Any]
    json: bool = False
    quiet: bool = False
    force: bool = False
    dry: bool = False
    streams: Streams | None = None
    names: tuple[str, ...] = ()
    _text: list[str] = field(default_factory=list)
    _ends: list[str] = field(default_factory=list)  # what was made and where, after all else
    _given: dict[str, Any] = field(default_factory=dict)
    _notes: list[str] = field(default_factory=list)
    _read: dict[str, str] = field(default_factory=dict)
    _files: list[dict[str, Any]] = field(default_factory=list)
    _recipe: Path | None = None
    _known: dict[str, Any] = field(default_factory=dict)

    # ---- what the user sees

    def show(self, text: Any) -> None:
        """A result for people: printed at the end, when all is done, unless ``--json``."""
        self._text.append(in_options(str(text), self.names))

    def give(self, **values: Any) -> None:
        """The same result for programs: what ``--json`` prints."""
        self._given.update(values)

    def note(self, text: str) -> None:
        """What the user should know: one line on standard error, at once."""
        text = in_options(one_line(text), self.names)
        if text in self._notes:
            return
        self._notes.append(text)
        if not self.quiet and self.streams:
            tell(f"note: {text}", self.streams.messages)

    # ---- what is read

    def uses(self, *paths: str | os.PathLike[str]) -> None:
        """Files and folders that the result depends on: the recipe keeps their SHA-256."""
        for path in paths:
            self._read.setdefault(os.fspath(path), digest_of(path))

    def remember(self, **values: Any) -> None:
        """What was found out and not given: later commands read it in the recipe."""
        self._known.update(values)

    def remembered(self, name: str) -> Any:
        """What :meth:`remember` was told; None where it was not."""
        return self._known.get(name)

    def digest(self, path: str) -> str:
        """The SHA-256 of what was read; "" for what is no file or folder."""
        return self._read.get(path, "")

    # ---- what is written

    def target(self, path: str | os.PathLike[str], files: Iterable[str | os.PathLike[str]] = ()) -> Path:
        """The path of a file that is going to be written, checked now; ``files``, where it stands for others."""
        from ..files.paths import check_path, check_writable

        recipe = Path(f"{os.fspath(path)}{RECIPE_END}") if self._recipe is None else None
        for file in (*(list(files) or [path]), *([recipe] if recipe else [])):
            if os.path.lexists(file) and not self.force:
                raise Refusal(f"{os.fspath(file)} is there already; nothing is overwritten without --force")
            check_path("the output", file)
            check_writable(file)
        self._recipe = self._recipe or recipe
        return Path(path)

    def would(self, what: str, *targets: str | os.PathLike[str]) -> bool:
        """Whether this is a dry run, which says what would happen and is done with that."""
        if self.dry:
            writes = [os.fspath(path) for path in (*targets, *([self._recipe] if self._recipe else []))]
            self.show(f"would {what}")
            for path in writes:
                self.show(f"would write {path}")
            self.give(dry_run=True, would=what, writes=writes)
        return self.dry

    def made(self, path: str | os.PathLike[str], before: int | None = None,
             files: Iterable[str | os.PathLike[str]] = ()) -> None:
        """Say what was written, and how long it is; ``before``: how many bytes the original network has."""
        size = sum(os.path.getsize(file) for file in list(files) or [path])
        length = f"{before:,} -> {size:,} bytes" if before else f"{size:,} bytes"
        self._ends.append(f"{os.fspath(path)}: {length}")
        self._files.append({"path": os.fspath(path), "bytes": size, "bytes_before": before,
                            "sha256": {os.path.basename(file): digest_of(file) for file in list(files) or [path]}})

    # ---- at the end

    def finish(self, ctx: click.Context) -> None:
        """Write the recipe, where a file was made, and print all results."""
        for path in changed_inputs(ctx, self._read):
            self.note(f"{path} is another file than the one with which the recipe was written: results may differ")
        if self._files and self._recipe:
            results = {name: plain(value) for name, value in self._given.items()
                       if _is_brief(value) or (isinstance(value, dict) and all(map(_is_brief, value.values())))}
            write_recipe(self._recipe, self.command, self.options, {
                **plain(self._known), "versions": versions(), "inputs": self._read, "files": self._files,
                "results": results})
        if self.json:
            known = {name: value for name, value in self._known.items() if name == "trained_on"}
            result = {"command": self.command, **self._given, **known, "files": self._files, "notes": self._notes}
            self._print(json.dumps(plain(result), indent=2, ensure_ascii=False))
        elif self._text or self._ends:
            self._print("\n".join([*self._text, *self._ends]))

    def _print(self, text: str) -> None:
        assert self.streams is not None
        print(text, file=self.streams.output, flush=True)


def _is_brief(value: Any) -> bool:
    """Whether it is a number or text, which has a place in a recipe; records do not."""
    return isinstance(value, (int, float, str)) or hasattr(value, "item")


def plain(value: Any) -> Any:
    """A value as JSON holds it: NumPy's numbers and arrays as plain ones, what is not finite as null."""
    if isinstance(value, Mapping):
        return {str(name): plain(each) for name, each in value.items()}
    if isinstance(value, (list, tuple, set)):
        return [plain(each) for each in value]
    if hasattr(value, "tolist"):
        return plain(value.tolist())
    if isinstance(value, float) and not math.isfinite(value):
        return None
    return value if value is None or isinstance(value, (bool, int, float, str)) else str(value)


pass_run = click.make_pass_decorator(Run)
