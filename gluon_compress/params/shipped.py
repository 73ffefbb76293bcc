"""The trained parameters of our own networks, listed in ``params/manifest.json``.

    net = params.load("lenet_mnist")           # trained, hybridized
    net = params.pretrained("resnet18_v1")     # Gluon's own, trained on ImageNet

A file of ours is taken from the checkout's ``params`` folder, else from the cache
(``$MXNET_HOME/gluon_compress``, by default ``~/.mxnet/gluon_compress``), else downloaded into the cache
from the address in the environment variable ``GLUON_COMPRESS_PARAMS_URL``. Wherever it comes from, it
must have the SHA-256 of the manifest.
"""
from __future__ import annotations

import json
import os
import warnings
from pathlib import Path

import mxnet as mx
from mxnet.gluon import HybridBlock

from .. import models
from ..arguments import check_known, check_text
from ..errors import CheckpointError, DownloadError
from ..files.download import download
from ..files.locks import sha256_of
from ..network.checks import checked_contexts
from ..network.misfits import called

URL_VARIABLE = "GLUON_COMPRESS_PARAMS_URL"
SHIPPED = Path(__file__).resolve().parents[2] / "params"                     # in a checkout
INSTALLED_MANIFEST = Path(__file__).with_name("manifest.json")                # in an installed wheel: see setup.py


def manifest() -> dict[str, dict]:
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


def names() -> list[str]:
    """The names :func:`load` and :func:`path` know, sorted."""
    return sorted(manifest())


def path(name: str, base_url: str | None = None) -> Path:
    """The verified parameter file of ``name``; see above for where it is looked for.

    A damaged file in the ``params`` folder is left as it is, with a warning. A damaged file
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
    check_text("name", name)
    check_known("name is", name, sorted(entries), "network in the manifest of the parameters")
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


def _checked_address(base_url: str | None) -> str:
    """Where to download from: an address, or "" when there is none; ``TypeError`` or ``ValueError`` otherwise."""
    if base_url is None:
        return os.environ.get(URL_VARIABLE, "")
    check_text("base_url", base_url)
    if "://" not in base_url:
        raise ValueError(f"base_url is {base_url!r}; accepted: an address such as https://example.org/params, or None")
    return base_url


def load(name: str, ctx: mx.Context | list[mx.Context] | None = None, base_url: str | None = None) -> HybridBlock:
    """The trained network ``name``: an instance of a class of :mod:`gluon_compress.models`, hybridized.

    Parameters
    ----------
    name : str
        One of :func:`names`.
    ctx : mxnet.Context or list of them, optional
        By default the current context.
    base_url : str, optional
        As for :func:`path`.

    Raises
    ------
    TypeError, ValueError
        For an unknown name, or a ``ctx`` that is not a context or is a device that is not there.
    DownloadError
        When the right file is nowhere.
    CheckpointError
        When the file holds the parameters of a network other than the one in the manifest.
    """
    contexts = checked_contexts(ctx)
    file = path(name, base_url)
    entry = manifest()[name]
    net = getattr(models, entry["network"])(**entry["arguments"])
    try:
        net.load_parameters(str(file), ctx=contexts)
        net.hybridize()
        example = mx.nd.zeros((1, *entry["input_shape"]), ctx=contexts[0])
        called(net, [example]).wait_to_read()  # dense layers check their input here
    except (AssertionError, ValueError, mx.MXNetError) as error:
        arguments = ", ".join(f"{key}={value!r}" for key, value in entry["arguments"].items())
        raise CheckpointError(f"{file} does not hold the parameters of {entry['network']}({arguments}) for input of "
                              f"shape {tuple(entry['input_shape'])}: {error}") from error
    return net
