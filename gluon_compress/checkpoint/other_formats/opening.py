"""Which format a path is of, and what opens it."""
from __future__ import annotations

import os
from os import PathLike
from pathlib import Path

import numpy as np

from ...files.tensorfile import check_regular, content_of
from .folders import open_folder
from .found import Found
from .module_checkpoint import Opened, Wanted, at_prefix
from .params_file import read_params
from .places import GRAPH_END, missing, open_beside, open_prefix

BEGINNING = 512  # bytes that tell what a file is


def is_ours(path: str | PathLike[str]) -> bool:
    """Whether a file begins as compressed networks do, those that ``save`` writes: 8 bytes of length, then JSON."""
    if not os.path.exists(path) or os.path.isdir(path):
        return False
    check_regular(path)
    with open(path, "rb") as file:
        return file.read(9)[8:] == b"{"


def open_other(path: str | PathLike[str], wanted: Wanted, epoch: int | None) -> Opened:
    """Read and check what others saved at ``path``; ``CheckpointError`` with the reason when that is not possible."""
    place = Path(path)
    if place.is_dir():
        return open_folder(place, wanted, epoch)
    if not place.exists():
        if place.with_name(place.name + GRAPH_END).is_file():
            return open_prefix(place, wanted, epoch)
        raise missing(place)
    return open_beside(place, wanted, epoch)


def read_parameters(path: str | PathLike[str], epoch: int | None) -> tuple[Found, dict[str, np.ndarray]]:
    """``(what was found, {name: array})`` of the parameters at a path, for a network that the user has."""
    place = Path(path)
    if not place.exists():
        _, place, _ = at_prefix(place, epoch)
    with content_of(place, "file of MXNet's parameters"):
        arrays = read_params(place)
    return Found("parameters of MXNet", (place.name,), parameters=sum(value.size for value in arrays.values())), arrays
