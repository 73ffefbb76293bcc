"""What lies at a path: a graph, parameters, a folder or an archive of such, or the prefix of a checkpoint."""
from __future__ import annotations

import errno
import os
from pathlib import Path

from ...errors import CheckpointError
from ...files.schema import Malformed, parse
from ...files.tensorfile import content_of
from .dialects import is_graph
from .module_checkpoint import GRAPH_BYTES, NAME, Opened, Wanted, at_prefix, epochs_of, open_graph
from .params_file import LIST_MAGIC, read_params

KIND = "checkpoint of MXNet"
GRAPH_END = "-symbol.json"


class ParametersAlone(CheckpointError):
    """Parameters without a graph, which need a network."""


def is_parameters(path: Path) -> bool:
    """Whether a file begins as MXNet's parameters do."""
    with open(path, "rb") as file:
        return file.read(16) == LIST_MAGIC.to_bytes(8, "little") + bytes(8)


def open_prefix(prefix: Path, wanted: Wanted, epoch: int | None, kind: str = KIND, **about: object) -> Opened:
    """The checkpoint ``prefix-symbol.json`` with its parameters of an epoch."""
    graph, parameters, epochs = at_prefix(prefix, epoch)
    chosen = next(number for number, path in epochs.items() if path == parameters)
    return open_pair(graph, parameters, wanted, kind=kind, epoch=chosen, epochs=tuple(epochs), **about)


def open_pair(graph: Path, parameters: Path, wanted: Wanted, kind: str = KIND, **about: object) -> Opened:
    """A graph and its parameters; what is wrong with their content is a ``CheckpointError`` that names the file."""
    with content_of(parameters, "file of MXNet's parameters"):
        values = read_params(parameters)
    with content_of(graph, kind):
        return open_graph(graph, parameters, values, wanted, kind=kind, **about)


def open_beside(path: Path, wanted: Wanted, epoch: int | None) -> Opened:
    """The checkpoint that one of its two files belongs to."""
    if is_parameters(path):
        return _open_parameters(path, wanted, epoch)
    if not _holds_graph(path):
        raise CheckpointError(f"{path} is damaged, or nothing that holds a network: it begins neither as a compressed "
                              f"file nor as a graph, parameters or an archive of MXNet's")
    if path.name.endswith(GRAPH_END) and epochs_of(prefix := _prefix_of(path)):
        return open_prefix(prefix, wanted, epoch)
    check_epoch(path, epoch)
    stem = path.name.removesuffix(GRAPH_END).removesuffix(".json")
    parameters = path.with_name(f"{stem}.params")
    if not parameters.is_file():
        raise CheckpointError(f"{path} has no parameters beside it; accepted: {stem}-0000.params (of any epoch) or "
                              f"{stem}.params")
    return open_pair(path, parameters, wanted)


def _holds_graph(path: Path) -> bool:
    if path.stat().st_size > GRAPH_BYTES:
        return False
    try:
        return is_graph(parse(path.read_bytes(), "it"))
    except Malformed:
        return False


def _open_parameters(path: Path, wanted: Wanted, epoch: int | None) -> Opened:
    number, match = check_epoch(path, epoch), NAME.fullmatch(path.name)
    if match:
        graph = path.with_name(match["prefix"] + GRAPH_END)
        if graph.is_file():
            return open_pair(graph, path, wanted, epoch=number, epochs=tuple(epochs_of(_prefix_of(graph))))
    for graph in (path.with_name(path.name.removesuffix(".params") + end) for end in (GRAPH_END, ".json")):
        if graph.is_file():
            return open_pair(graph, path, wanted)
    raise ParametersAlone(f"{path} holds parameters and there is no graph beside it; give load the network that they "
                          f"belong to: load(path, net)")


def check_epoch(path: Path, epoch: int | None) -> int | None:
    """The epoch in a file's name, or None; ``CheckpointError`` where the user wants another one."""
    match = NAME.fullmatch(path.name)
    number = int(match["epoch"]) if match else None
    if epoch not in (None, number):
        raise CheckpointError(f"{path} is {f'of epoch {number}' if match else 'of no epoch'}; accepted: {number}, or "
                              f"the prefix of a checkpoint as path")
    return number


def _prefix_of(graph: Path) -> Path:
    return graph.with_name(graph.name.removesuffix(GRAPH_END))


def missing(path: Path) -> FileNotFoundError:
    """The error for a path where nothing is: neither a file, nor a checkpoint that begins so."""
    near = sorted(other.name.removesuffix(GRAPH_END) for other in path.parent.glob(f"*{GRAPH_END}"))[:10] \
        if path.parent.is_dir() else []
    said = f"neither a file, nor a checkpoint {path.name}{GRAPH_END} is there" + \
        (f"; checkpoints there: {', '.join(near)}" if near else "")
    return FileNotFoundError(errno.ENOENT, said, os.fspath(path))
