"""Where a run that was killed has its state: what is ours there, how it is said, and how it goes away."""
from __future__ import annotations

import re
import shutil
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from ..arguments import listed
from .failures import Refusal
from .run import Run

RESULTS = "results.json"
SHARE = r"-\d\.\d{4}"  # of the multiply-accumulates, in names
LEFTOVER = r"\..+\.[0-9a-f]{16}\.tmp"  # of a file that was being written
OURS = re.compile(rf"{RESULTS}|\d-[a-z0-9-]+({SHARE})?\.gcz|training{SHARE}\.state|coding{SHARE}|{LEFTOVER}")


def state_of(run: Run, target: Path) -> Path:
    """Where the state of a run is: at ``--state``, or beside the file that it makes."""
    return Path(run.options["state"] or f"{target}.state")


def state_folder_of(run: Run, target: Path) -> Path:
    """The same of a state that is a folder; ``Refusal`` where it has files of the user's.

    They would be removed with the state, or overwritten.
    """
    folder = state_of(run, target)
    if folder.exists() and not folder.is_dir():
        raise Refusal(f"{folder} is a file; accepted as --state: a folder")
    foreign = [path.name for path in sorted(folder.glob("*")) if not OURS.fullmatch(path.name)]
    if foreign:
        raise Refusal(f"{folder} has files that are no state of {run.command}: {listed(foreign, 3)}; accepted as "
                      f"--state: a new folder, or that of an earlier run")
    return folder


@contextmanager
def state_file_kept(run: Run, file: Path) -> Iterator[None]:
    """Say, when what is done within fails, where its state is; remove it when all is done."""
    with _said(run, file, file):
        yield
    file.unlink(missing_ok=True)


@contextmanager
def state_folder_kept(run: Run, folder: Path) -> Iterator[None]:
    """The same of a folder, in which ``RESULTS`` tells that there is something to go on from."""
    try:
        with _said(run, folder, folder / RESULTS):
            yield
    except BaseException:  # Ctrl-C, too: a folder without anything to go on from must not stay behind
        if not (folder / RESULTS).is_file():
            _remove(folder)
        raise
    _remove(folder)


@contextmanager
def _said(run: Run, state: Path, marker: Path) -> Iterator[None]:
    try:
        yield
    except BaseException:  # Ctrl-C, too: whatever ends the run, the user must know that it can go on
        if marker.is_file():
            run.note(f"{state} holds what is done so far; the command that began it goes on from there")
        raise


def _remove(folder: Path) -> None:
    """Remove what is ours, and the folder where that was all."""
    for path in folder.glob("*"):
        if OURS.fullmatch(path.name) and path.is_dir() and not path.is_symlink():
            shutil.rmtree(path)
        elif OURS.fullmatch(path.name):
            path.unlink(missing_ok=True)
    with suppress(OSError):  # there are others; or there was none
        folder.rmdir()
