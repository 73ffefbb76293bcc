"""Folders that hold one network, whoever wrote them."""
from __future__ import annotations

from pathlib import Path

from ...arguments import listed
from ...errors import CheckpointError
from . import gluonts, sagemaker
from .archives import is_archive, unpacked
from .module_checkpoint import Opened, OpenedBlock, Wanted
from .places import GRAPH_END, ParametersAlone, is_parameters, open_pair, open_prefix
from .signatures import foreign, foreign_archive

DEEPEST = 3  # archives and folders in one another
CODE = "code"  # scripts of SageMaker's containers
PLAIN_GRAPH, PLAIN_PARAMETERS = "symbol.json", "params"


def open_archive(path: Path, wanted: Wanted, epoch: int | None, depth: int = 0) -> Opened | OpenedBlock:
    """The network in an archive."""
    with unpacked(path) as folder:
        return open_folder(folder, wanted, epoch, depth + 1)


def open_folder(folder: Path, wanted: Wanted, epoch: int | None, depth: int = 0) -> Opened | OpenedBlock:
    """The network in a folder; ``CheckpointError`` where there is none, or more than one."""
    files = [path for path in sorted(folder.iterdir()) if path.is_file() and not path.name.startswith(".")]
    names = {path.name for path in files}
    if gluonts.is_predictor(names):
        return gluonts.open_predictor(folder, wanted, epoch)
    if sagemaker.is_segmentation(folder, names):
        return sagemaker.open_segmentation(folder)
    opened = _open_graph(folder, files, wanted, epoch) or _open_inner(folder, files, wanted, epoch, depth)
    if opened is None:
        raise _nothing(folder, files)
    kind = sagemaker.kind_of(names)
    return sagemaker.named(opened, kind, folder) if kind and isinstance(opened, Opened) else opened


def _open_graph(folder: Path, files: list[Path], wanted: Wanted, epoch: int | None) -> Opened | None:
    graphs = [path for path in files if path.name.endswith(GRAPH_END)]
    if len(graphs) > 1:
        raise CheckpointError(f"{folder} holds several graphs ({_listed(graphs)}); accepted: the path of one of them")
    if graphs:
        return open_prefix(graphs[0].with_name(graphs[0].name.removesuffix(GRAPH_END)), wanted, epoch)
    plain = folder / PLAIN_GRAPH, folder / PLAIN_PARAMETERS
    return open_pair(*plain, wanted) if all(path in files for path in plain) else None


def _open_inner(folder: Path, files: list[Path], wanted: Wanted, epoch: int | None,
                depth: int) -> Opened | OpenedBlock | None:
    """What lies in the only archive in a folder, or in its only folder."""
    archives = [path for path in files if is_archive(path) and not foreign_archive(path)]
    folders = [path for path in sorted(folder.iterdir())
               if path.is_dir() and path.name != CODE and not path.name.startswith(".")]
    if depth >= DEEPEST or any(map(is_parameters, files)):
        return None
    if len(archives) == 1:
        return open_archive(archives[0], wanted, epoch, depth)
    if not archives and len(folders) == 1:
        return open_folder(folders[0], wanted, epoch, depth + 1)
    return None


def _nothing(folder: Path, files: list[Path]) -> CheckpointError:
    parameters = [path for path in files if is_parameters(path)]
    if parameters:
        return ParametersAlone(f"{folder} holds parameters ({_listed(parameters)}) and no graph; give load the network "
                               f"that they belong to: load(path, net)")
    for path in files:
        if what := foreign_archive(path) or foreign(path):
            return CheckpointError(f"{folder} holds no network of MXNet: {path.name} is {what}")
    return CheckpointError(f"{folder} holds no network of MXNet ({_listed(files) or 'it is empty'})")


def _listed(paths: list[Path]) -> str:
    return listed(path.name for path in paths)
