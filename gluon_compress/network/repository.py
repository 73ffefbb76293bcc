"""Where Gluon's repository keeps the files of data sets and of trained networks."""
from __future__ import annotations

from types import ModuleType

from mxnet.gluon.utils import _get_repo_file_url


def repository_url(folder: str, name: str) -> str:
    """The address of a file, in the mirror that ``MXNET_GLUON_REPO`` names or in the project's own place."""
    return _get_repo_file_url(folder, name)


def zoo_checksums(model_store: ModuleType) -> dict[str, str]:
    """{stem of a file's name: SHA-1} of the parameters in a zoo, from Gluon's ``model_store`` or gluoncv's."""
    return model_store._model_sha1
