"""Trained parameters: our own networks', listed in ``params/manifest.json``, and the ImageNet ones of the zoos.

    net = params.load("lenet_mnist")           # trained, hybridized
    net = params.pretrained("resnet18_v1")     # Gluon's own, trained on ImageNet

A file of ours is taken from the checkout's ``params`` folder, else from the cache
(``$MXNET_HOME/gluon_compress``, by default ``~/.mxnet/gluon_compress``), else downloaded into the cache
from the address in the environment variable ``GLUON_COMPRESS_PARAMS_URL``. Wherever it comes from, it
must have the SHA-256 of the manifest.
"""
import difflib
import json
import os
import re
import warnings
import zipfile
from pathlib import Path

import mxnet as mx
from mxnet.gluon.model_zoo import model_store, vision
from mxnet.gluon.utils import _get_repo_file_url, check_sha1

from . import models
from .arguments import check_text
from .download import download
from .errors import CheckpointError, DownloadError
from .files import lock, sha256_of, write_atomically
from .network import check_context
from .sources import copy

URL_VARIABLE = "GLUON_COMPRESS_PARAMS_URL"
SHIPPED = Path(__file__).resolve().parent.parent / "params"                # in a checkout
INSTALLED_MANIFEST = Path(__file__).with_name("params_manifest.json")      # in an installed wheel: see setup.py
ZOOS = ("gluon", "gluoncv")
ZOO_FILE_BYTES = 1 << 30  # the largest have some 600 million


def manifest():
    """``{name: entry}``: how each file was trained, on what, how accurate it is, its size and SHA-256.

    Raises ``CheckpointError`` when the manifest is absent or damaged.
    """
    file = SHIPPED / "manifest.json"
    if not file.exists():
        file = INSTALLED_MANIFEST
    try:
        return json.loads(file.read_text())
    except (OSError, ValueError) as error:
        raise CheckpointError(f"the manifest of the parameters cannot be read: {file}: {error}") from error


def names():
    """The names :func:`load` and :func:`path` know, sorted."""
    return sorted(manifest())


def path(name, base_url=None):
    """The verified parameter file of ``name``; see above for where it is looked for.

    A damaged file in the ``params`` folder is passed over with a warning and left as it is. A damaged file
    in the cache is replaced, but only by a verified download.

    Parameters
    ----------
    name : str
        One of :func:`names`.
    base_url : str, optional
        Where to download from: ``<base_url>/<name>.params``. By default the environment variable
        ``GLUON_COMPRESS_PARAMS_URL``.

    Raises
    ------
    ValueError
        For an unknown name.
    DownloadError
        When the right file is nowhere; it says what was tried and where to put the file by hand.
    """
    base_url = _checked_address(base_url)
    entries = manifest()
    _check_known(name, entries, "name in the manifest of the parameters")
    sha256 = entries[name]["sha256"]
    shipped = SHIPPED / f"{name}.params"
    cached = Path(mx.base.data_dir(), "gluon_compress", f"{name}.params")
    failures = []
    for file in (shipped, cached):
        if not file.is_file():
            failures.append(f"  {file}: not there")
        elif (found := sha256_of(file)) == sha256:
            return file
        else:
            failures.append(f"  {file}: its content has sha256 {found}, expected {sha256}")
            warnings.warn(f"{file} is damaged and not used: its content does not match the manifest", stacklevel=2)
    if base_url:
        try:
            return download(f"{base_url.rstrip('/')}/{name}.params", cached, sha256, limit=entries[name]["bytes"])
        except DownloadError as error:
            failures.append(f"  {error}")
    else:
        failures.append(f"  a download: {URL_VARIABLE} is not set")
    raise DownloadError("\n".join([
        f"{name}: no file with the right content. Tried:", *failures,
        f"Set {URL_VARIABLE} to the address of a folder that has {name}.params, or put the file at",
        f"{cached} by hand; its content is checked by SHA-256."]))


def _checked_address(base_url):
    """Where to download from: an address, or "" when there is none; ``TypeError`` or ``ValueError`` otherwise."""
    if base_url is None:
        return os.environ.get(URL_VARIABLE, "")
    check_text("base_url", base_url)
    if "://" not in base_url:
        raise ValueError(f"base_url is {base_url!r}; accepted: an address such as https://example.org/params, or None")
    return base_url


def load(name, ctx=None, base_url=None):
    """The trained network ``name``: an instance of a class of :mod:`gluon_compress.models`, hybridized.

    Parameters
    ----------
    name : str
        One of :func:`names`.
    ctx : mxnet.Context or list of them, optional
        By default the current context.
    base_url : str, optional
        As of :func:`path`.

    Raises
    ------
    TypeError, ValueError
        For an unknown name, and a ``ctx`` that is no context or a device that is not there.
    DownloadError
        When the right file is nowhere.
    CheckpointError
        When the file holds the parameters of another network than the manifest says.
    """
    contexts = _checked_contexts(ctx)
    file = path(name, base_url)
    entry = manifest()[name]
    net = getattr(models, entry["network"])(**entry["arguments"])
    try:
        net.load_parameters(str(file), ctx=contexts)
        net.hybridize()
        example = mx.nd.zeros((1, *entry["input_shape"]), ctx=contexts[0])
        net(example).wait_to_read()  # dense layers check their input here
    except (AssertionError, ValueError, mx.MXNetError) as error:
        arguments = ", ".join(f"{key}={value!r}" for key, value in entry["arguments"].items())
        raise CheckpointError(f"{file} does not hold the parameters of {entry['network']}({arguments}) for input of "
                              f"shape {tuple(entry['input_shape'])}: {error}") from error
    return net


def _checked_contexts(ctx):
    """A list of contexts from one, a list of them or None."""
    contexts = list(ctx) if isinstance(ctx, (list, tuple)) else [mx.current_context() if ctx is None else ctx]
    if not contexts or None in contexts:
        raise TypeError(f"ctx is {ctx!r}; accepted: an mx.Context such as mx.cpu(), a list of them, or None")
    for context in contexts:
        check_context(context)
    return contexts


def pretrained(name, source="gluon", **arguments):
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
        ``mxnet.gluon.model_zoo.vision``, or gluoncv, which has more and better ones.
    **arguments
        Passed to the zoo's ``get_model``, for instance ``ctx``.

    Raises
    ------
    ValueError
        For an unknown source or a name for which the zoo has no trained parameters.
    ImportError
        When gluoncv is asked for and not installed.
    DownloadError
        When the file is not there and cannot be had.
    """
    if source not in ZOOS:
        raise ValueError(f"source is {source!r}; accepted: {', '.join(map(repr, ZOOS))}")
    if taken := {"pretrained", "root"} & set(arguments):
        raise TypeError(f"{taken.pop()!r} is set here and cannot be given; files are in $MXNET_HOME/models")
    get_model, files = _gluon_zoo() if source == "gluon" else _gluoncv_zoo()
    _check_known(name, files, f"{source} network with trained parameters")
    stem, sha1 = files[name]
    folder = Path(mx.base.data_dir(), "models")
    _fetch_zoo_file(folder / f"{stem}-{sha1[:8]}.params", sha1)
    return get_model(name, pretrained=True, root=str(folder), **arguments)


def _check_known(name, known, what):
    """Raise an error that lists the names close to ``name`` when ``known`` does not have it."""
    if not isinstance(name, str):
        raise TypeError(f"name is {name!r}; accepted: a string")
    if name not in known:
        close = difflib.get_close_matches(name, known)
        listed = f"close matches: {', '.join(close)}" if close else f"accepted: {_listed(sorted(known))}"
        raise ValueError(f"name is {name!r}, which is not a {what}; {listed}")


def _listed(names, most=12):
    return ", ".join(names[:most]) + (f" and {len(names) - most} more" if len(names) > most else "")


def _gluon_zoo():
    """``(get_model, {name: (stem of the file's name, SHA-1)})`` of Gluon's own zoo."""
    return vision.get_model, {name: (name, sha1) for name, sha1 in model_store._model_sha1.items()}


def _gluoncv_zoo():
    """As :func:`_gluon_zoo`. Where gluoncv has no parameters, its get_model may return an untrained network."""
    try:
        from gluoncv import model_zoo
    except ImportError as error:
        raise ImportError(f"source='gluoncv' needs gluoncv, which cannot be imported ({error}): "
                          f"install it with \"pip install 'gluon-compress[zoo]'\"") from error
    store = model_zoo.model_store
    files = {}
    for name, (stem, sha1) in zip(store.pretrained_model_list(), store._model_sha1.items()):
        name = re.sub("^(hrnet.*_c)ls$", r"\1", name)  # hrnet_w18_c is kept as hrnet_w18_cls
        if name in model_zoo.get_model_list():
            files[name] = stem, sha1
    return model_zoo.get_model, files


def _fetch_zoo_file(file, sha1):
    """Bring a file of a zoo to ``file``, unless it is there already; verified, else as it was."""
    if file.exists() and check_sha1(file, sha1):
        return
    url = _get_repo_file_url("gluon/models", f"{file.stem}.zip")
    archive = file.with_suffix(".zip")
    try:
        with lock(file):
            if not (file.exists() and check_sha1(file, sha1)):  # another process may have brought it
                download(url, archive)
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
    """A file in a zip archive, which is opened by the first ``read``: whatever is wrong with it is met there."""

    def __init__(self, file, name):
        self.file, self.name, self.source = file, name, None

    def read(self, count):
        if self.source is None:
            self.source = zipfile.ZipFile(self.file).open(self.name)
        return self.source.read(count)


def _unpack(url, archive, name, target, sha1):
    with open(archive, "rb") as file:
        copy(_Member(file, name), target, ZOO_FILE_BYTES, url)
    if not check_sha1(target, sha1):
        raise DownloadError(f"{url}: the content of {name} does not have sha1 {sha1}")
