"""ImageNet networks with their trained parameters, from Gluon's own model zoo and gluoncv's."""
from __future__ import annotations

import re
import zipfile
from collections.abc import Callable
from contextlib import nullcontext
from pathlib import Path
from typing import IO, Any

import mxnet as mx
from mxnet.gluon import HybridBlock
from mxnet.gluon.model_zoo import model_store, vision
from mxnet.gluon.utils import check_sha1

from ..arguments import check_known, check_text
from ..errors import DownloadError, not_importable
from ..files.download import download
from ..files.locks import lock
from ..files.unpacking import copy_out
from ..files.writing import write_atomically
from ..network.interface import CLASSIC
from ..network.repository import repository_url, zoo_checksums

ZOOS = ("gluon", "gluoncv")
ZOO_FILE_BYTES = 1 << 30  # the largest have some 600 million


def pretrained(name: str, source: str = "gluon", **arguments: Any) -> HybridBlock:
    """An ImageNet network with its trained parameters from Gluon's own model zoo or from gluoncv's.

    The file is fetched to where the zoo itself looks for it (``$MXNET_HOME/models``), with a time limit and a
    verification that leave nothing half done, and the zoo then builds and loads the network. MXNet is
    retired: when its servers no longer answer, put the file there by hand or name a mirror in
    ``MXNET_GLUON_REPO``; the error says which file.

    Parameters
    ----------
    name : str
        As in the zoo's ``get_model``, for instance ``"resnet18_v1"``.
    source : "gluon" or "gluoncv"
        ``mxnet.gluon.model_zoo.vision``, or gluoncv, which has more and better ones. Those of gluoncv are written for
        MXNet's classic interface and belong to it also under ``npx.set_np()``; the functions of this package then call
        them out of that mode.
    **arguments
        Passed to the zoo's ``get_model``, for instance ``ctx``.

    Raises
    ------
    ValueError
        For an unknown source or a name for which the zoo has no trained parameters.
    ImportError
        When gluoncv is asked for and not installed.
    DownloadError
        When the file is not there and cannot be obtained.
    """
    if taken := {"pretrained", "root"} & set(arguments):
        raise TypeError(f"{taken.pop()!r} is set here and cannot be given; files are in $MXNET_HOME/models")
    get_model, files = zoo_of(source)
    check_text("name", name)
    check_known("name is", name, sorted(files), f"network with trained parameters in {source}")
    stem, sha1 = files[name]
    folder = Path(mx.base.data_dir(), "models")
    _fetch_zoo_file(folder / f"{stem}-{sha1[:8]}.params", sha1)
    with CLASSIC.active() if source == "gluoncv" else nullcontext():
        return get_model(name, pretrained=True, root=str(folder), **arguments)


def zoo_of(source: str) -> tuple[Callable[..., HybridBlock], dict[str, tuple[str, str]]]:
    """``(get_model, {name: (stem of the file's name, SHA-1)})`` of a zoo, with the names that have parameters.

    Raises ``ValueError`` for an unknown ``source``, ``ImportError`` when gluoncv is asked for and not installed.
    """
    if source not in ZOOS:
        raise ValueError(f"source is {source!r}; accepted: {', '.join(map(repr, ZOOS))}")
    return _gluon_zoo() if source == "gluon" else _gluoncv_zoo()


def _gluon_zoo() -> tuple[Callable[..., HybridBlock], dict[str, tuple[str, str]]]:
    """As :func:`zoo_of`: Gluon's own zoo."""
    return vision.get_model, {name: (name, sha1) for name, sha1 in zoo_checksums(model_store).items()}


def _gluoncv_zoo() -> tuple[Callable[..., HybridBlock], dict[str, tuple[str, str]]]:
    """As :func:`zoo_of`. Where gluoncv has no parameters, its get_model may return an untrained network."""
    try:
        from gluoncv import model_zoo
    except ImportError as error:
        raise not_importable("source='gluoncv'", "gluoncv", "zoo", error) from error
    store = model_zoo.model_store
    files = {}
    for name, (stem, sha1) in zip(store.pretrained_model_list(), zoo_checksums(store).items()):
        name = re.sub("^(hrnet.*_c)ls$", r"\1", name)  # hrnet_w18_c is kept as hrnet_w18_cls
        if name in model_zoo.get_model_list():
            files[name] = stem, sha1
    return model_zoo.get_model, files


def _fetch_zoo_file(file: Path, sha1: str) -> None:
    """Bring a file of a zoo to ``file``, verified, unless it is there already."""
    if file.exists() and check_sha1(file, sha1):
        return
    url = repository_url("gluon/models", f"{file.stem}.zip")
    archive = file.with_suffix(".zip")
    try:
        with lock(file):
            if not (file.exists() and check_sha1(file, sha1)):  # another process may have brought it
                download(url, archive, resume=True)  # what is in it is verified
                try:
                    write_atomically(file, lambda temporary: _unpack(url, archive, file.name, temporary, sha1))
                finally:
                    archive.unlink()
    except DownloadError as error:
        raise DownloadError("\n".join([
            f"{file.stem}: the trained parameters are not at {file}, and this failed:",
            f"  {error}",
            f"MXNet is retired, and its servers may be gone. Put {file.name} (its sha1 is {sha1})",
            f"into {file.parent} by hand, or set MXNET_GLUON_REPO to a mirror that has gluon/models/{archive.name}."
        ])) from error


class _Member:
    """A file in a zip archive. The first ``read`` opens it, so that whatever is wrong with it comes up there."""

    def __init__(self, file: IO[bytes], name: str) -> None:
        self.file, self.name = file, name
        self.source: IO[bytes] | None = None

    def read(self, count: int) -> bytes:
        if self.source is None:
            self.source = zipfile.ZipFile(self.file).open(self.name)
        return self.source.read(count)


def _unpack(url: str, archive: Path, name: str, target: Path, sha1: str) -> None:
    with open(archive, "rb") as file:
        copy_out(_Member(file, name), target, ZOO_FILE_BYTES, url)
    if not check_sha1(target, sha1):
        raise DownloadError(f"{url}: the content of {name} does not have sha1 {sha1}")
