"""Folders that hold one network, whoever wrote them."""
from __future__ import annotations

from pathlib import Path

from ...errors import CheckpointError
from .module_checkpoint import Opened, Wanted
from .places import GRAPH_END, ParametersAlone, is_parameters, open_prefix

MOST_NAMED = 10


def open_folder(folder: Path, wanted: Wanted, epoch: int | None) -> Opened:
    """The checkpoint in a folder; ``CheckpointError`` where there is none, or more than one."""
    files = sorted(path for path in folder.iterdir() if path.is_file() and not path.name.startswith("."))
    graphs = [path for path in files if path.name.endswith(GRAPH_END)]
    if len(graphs) == 1:
        return open_prefix(graphs[0].with_name(graphs[0].name.removesuffix(GRAPH_END)), wanted, epoch)
    if graphs:
        raise CheckpointError(f"{folder} holds several graphs ({_listed(graphs)}); accepted: the path of one of them")
    if any(map(is_parameters, files)):
        raise ParametersAlone(f"{folder} holds parameters ({_listed([path for path in files if is_parameters(path)])}) "
                              f"and no graph; give load the network that they belong to: load(path, net)")
    raise CheckpointError(f"{folder} holds no network of MXNet ({_listed(files) or 'it is empty'})")


def _listed(paths: list[Path]) -> str:
    more = len(paths) - MOST_NAMED
    return ", ".join(path.name for path in paths[:MOST_NAMED]) + (f" and {more} more" if more > 0 else "")
