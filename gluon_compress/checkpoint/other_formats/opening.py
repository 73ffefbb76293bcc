"""Which format a path is of, and what opens it."""
from __future__ import annotations

import os
from os import PathLike
from pathlib import Path

import numpy as np

from ...errors import CheckpointError
from ...files.tensorfile import check_regular, content_of
from .. import packed_file
from .archives import is_archive, unpacked
from .folders import open_archive, open_folder
from .found import Found
from .module_checkpoint import NAME, Opened, OpenedBlock, Wanted, at_prefix, epochs_of
from .params_file import is_arrays, read_params
from .places import GRAPH_END, check_epoch, is_parameters, missing, open_beside, open_prefix
from .signatures import foreign, foreign_archive


def is_ours(path: str | PathLike[str]) -> bool:
    """Whether a file begins as compressed networks do, those that ``save`` writes, or wrote in its version 2."""
    if not os.path.exists(path) or os.path.isdir(path):
        return False
    check_regular(path)
    with open(path, "rb") as file:
        start = file.read(16)
    return packed_file.begins(start) or start[8:9] == b"{"  # 8 bytes of length, then JSON


def open_other(path: str | PathLike[str], wanted: Wanted, epoch: int | None) -> Opened | OpenedBlock:
    """Read and check what others saved at ``path``; ``CheckpointError`` with the reason when that is not possible."""
    place = Path(path)
    if place.name and not place.is_file() and place.with_name(place.name + GRAPH_END).is_file():
        return open_prefix(place, wanted, epoch)  # also beside a folder of that name
    if place.is_dir():
        return open_folder(place, wanted, epoch)
    if not place.exists():
        raise missing(place)
    _refuse_foreign(place)
    if is_archive(place) and not is_arrays(place):
        return open_archive(place, wanted, epoch)
    return open_beside(place, wanted, epoch)


def read_parameters(path: str | PathLike[str], epoch: int | None) -> tuple[Found, dict[str, np.ndarray]]:
    """``(what was found, {name: array})`` of the parameters at a path, for a network that the user has.

    In a folder or an archive it is the last epoch that is there, unless ``epoch`` names another.
    """
    place = Path(path)
    if place.is_dir():
        place = _parameters_in(place, epoch)
    elif not place.exists():
        if not epochs_of(place):
            raise missing(place)
        _, place, _ = at_prefix(place, epoch)
    else:
        _refuse_foreign(place)
        if is_archive(place) and not is_arrays(place):
            with unpacked(place) as folder:
                return read_parameters(folder, epoch)
        check_epoch(place, epoch)
    with content_of(place, "file of MXNet's parameters"):
        arrays = read_params(place)
    return Found("parameters of MXNet", (place.name,), parameters=sum(value.size for value in arrays.values())), arrays


def _parameters_in(folder: Path, epoch: int | None) -> Path:
    files = [path for path in sorted(folder.iterdir()) if path.is_file() and is_parameters(path)]
    prefixes = {match["prefix"] for path in files if (match := NAME.fullmatch(path.name))}
    if len(prefixes) == 1 and all(map(NAME.fullmatch, (path.name for path in files))):
        return at_prefix(folder / prefixes.pop(), epoch)[1]
    if len(files) != 1:
        names = ", ".join(path.name for path in files[:10]) or "no parameters"
        raise CheckpointError(f"{folder} holds {names}; accepted: one file of parameters")
    return files[0]


def _refuse_foreign(path: Path) -> None:
    what = foreign(path) or foreign_archive(path)
    if what:
        raise CheckpointError(f"{path} is {what}; accepted: compressed networks of this package, and networks and "
                              f"parameters of MXNet")
