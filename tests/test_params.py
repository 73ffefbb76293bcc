"""Trained parameters: the manifest, where a file comes from, what is refused; the zoos' ImageNet networks."""
import errno
import functools
import hashlib
import io
import json
import os
import shutil
import subprocess
import sys
import tempfile
import zipfile
from pathlib import Path

import mxnet as mx
import numpy as np
import pytest
from full_disk import files_end_at

from gluon_compress import datasets, models, params, training
from gluon_compress.params import shipped as shipped_module
from gluon_compress.params import zoo as zoo_module
from gluon_compress.params.zoo import ZOOS
from gluon_compress.files.download import download
from gluon_compress.errors import CheckpointError, DownloadError
from processes import two_at_once

ROOT = Path(__file__).resolve().parent.parent
FILE = "tiny.params"
ZOO_NETWORK = "mobilenet0.25"


def entry_of(content, **changes):
    return {"network": "SimpleCNN", "arguments": {"classes": 3}, "input_shape": [1, 28, 28],
            "sha256": hashlib.sha256(content).hexdigest(), "bytes": len(content), **changes}


@pytest.fixture
def home(tmp_path, monkeypatch):
    """An empty cache, and no address to download from."""
    monkeypatch.setenv("MXNET_HOME", str(tmp_path / "home"))
    monkeypatch.delenv(shipped_module.URL_VARIABLE, raising=False)
    return tmp_path / "home"


@pytest.fixture
def network():
    net = models.SimpleCNN(classes=3)
    net.initialize(mx.init.Xavier())
    return net


@pytest.fixture
def shipped(tmp_path, monkeypatch):
    """A params folder of our own; ``write(entries)`` its manifest."""
    folder = tmp_path / "params"
    folder.mkdir()
    monkeypatch.setattr(shipped_module, "SHIPPED", folder)
    return folder


@pytest.fixture
def content(home, shipped, network, tmp_path):
    """The bytes of the network's file, which the manifest lists as "tiny" and which is nowhere yet."""
    network.save_parameters(str(tmp_path / "saved"))
    content = (tmp_path / "saved").read_bytes()
    write_manifest(shipped, tiny=entry_of(content))
    return content


@pytest.fixture
def cached(home):
    """Where the cache keeps the file of "tiny"; the folder exists."""
    (home / "gluon_compress").mkdir(parents=True)
    return home / "gluon_compress" / FILE


def write_manifest(folder, **entries):
    (folder / "manifest.json").write_text(json.dumps(entries))


def damaged(content):
    return content[:-1] + bytes([content[-1] ^ 1])


# The real manifest

@pytest.mark.parametrize("name", params.names())
def test_shipped_file_is_the_manifests(name):
    entry, content = params.manifest()[name], (ROOT / "params" / f"{name}.params").read_bytes()
    assert len(content) == entry["bytes"]
    assert hashlib.sha256(content).hexdigest() == entry["sha256"]
    assert params.path(name) == ROOT / "params" / f"{name}.params"


@pytest.mark.parametrize("name", params.names())
def test_shipped_network_is_as_accurate_as_stated(name):
    entry = params.manifest()[name]
    net = params.load(name)
    test_set = getattr(datasets, entry["dataset"])()[1].subset(slice(1000))
    side = entry["input_shape"][-1]
    batches = test_set.batches(100, size=None if side == test_set.images.shape[1] else side)
    images, _ = next(iter(batches))
    assert images.shape[1:] == tuple(entry["input_shape"]) and net(images[:2]).shape == (2, 10)
    assert abs(training.evaluate(net, batches) - entry["test_accuracy"]) <= 0.015


def test_names_are_sorted_and_complete():
    listed = json.loads((ROOT / "params" / "manifest.json").read_text())
    assert params.names() == sorted(listed) and listed == params.manifest()


# Where a file comes from

def test_load_gives_the_saved_network(content, shipped, network):
    (shipped / FILE).write_bytes(content)
    inputs = mx.nd.random.normal(shape=(4, 1, 28, 28))
    net = params.load("tiny")
    assert isinstance(net, models.SimpleCNN) and net._active  # hybridized
    np.testing.assert_allclose(net(inputs).asnumpy(), network(inputs).asnumpy(), rtol=1e-5, atol=1e-6)


def test_shipped_before_cache_before_download(content, shipped, cached, file_server, monkeypatch):
    file_server.put(FILE, content)
    monkeypatch.setenv(shipped_module.URL_VARIABLE, file_server.url)
    assert params.path("tiny") == cached and len(file_server.requests) == 1
    assert params.path("tiny") == cached and len(file_server.requests) == 1
    (shipped / FILE).write_bytes(content)
    assert params.path("tiny") == shipped / FILE and len(file_server.requests) == 1


@pytest.mark.parametrize("end", ["", "/"])
def test_address_given_wins_over_the_variable(content, cached, file_server, monkeypatch, end):
    file_server.put(f"mine/{FILE}", content)
    monkeypatch.setenv(shipped_module.URL_VARIABLE, file_server.url + "other")
    assert params.path("tiny", base_url=f"{file_server.url}mine{end}").read_bytes() == content
    assert params.load("tiny", base_url=f"{file_server.url}mine{end}")(mx.nd.ones((1, 1, 28, 28))).shape == (1, 3)
    assert [name for name, _ in file_server.requests] == [f"mine/{FILE}"]


def test_damaged_shipped_file_is_passed_over_and_left(content, shipped, cached, file_server):
    file_server.put(FILE, content)
    (shipped / FILE).write_bytes(damaged(content))
    with pytest.warns(UserWarning, match="tiny.params is damaged"):
        assert params.path("tiny", file_server.url) == cached
    assert cached.read_bytes() == content
    assert (shipped / FILE).read_bytes() == damaged(content)


def test_damaged_cached_file_is_replaced_by_a_verified_one(content, cached, file_server):
    cached.write_bytes(damaged(content))
    file_server.put(FILE, content, "corrupt")
    with pytest.warns(UserWarning, match="tiny.params is damaged"), pytest.raises(DownloadError):
        params.path("tiny", file_server.url)
    assert cached.read_bytes() == damaged(content)
    file_server.put(FILE, content)
    with pytest.warns(UserWarning, match="tiny.params is damaged"):
        assert params.path("tiny", file_server.url).read_bytes() == content


def test_error_without_address_says_what_to_do(content, shipped, home):
    (shipped / FILE).write_bytes(damaged(content))
    with pytest.warns(UserWarning), pytest.raises(DownloadError) as caught:
        params.path("tiny")
    message = str(caught.value)
    assert f"{shipped / FILE}: its content has sha256" in message
    assert f"{shipped_module.URL_VARIABLE} is not set" in message
    assert f"put the file at\n{home / 'gluon_compress' / FILE} by hand" in message
    (home / "gluon_compress").mkdir(parents=True)
    (home / "gluon_compress" / FILE).write_bytes(content)  # following the advice helps
    with pytest.warns(UserWarning):
        assert params.path("tiny").read_bytes() == content


@pytest.mark.parametrize("behaviour, reason", [
    ("missing", "404"), ("error", "503"), ("corrupt", "sha256"), ("truncated", "tiny.params"),
    ("slow", "tiny.params")])
def test_failed_download_leaves_nothing_that_looks_right(content, cached, file_server, monkeypatch, behaviour,
                                                         reason):
    monkeypatch.setattr(shipped_module, "download", functools.partial(download, timeout=0.5))  # "slow" is soon given up
    file_server.put(FILE, content, behaviour)
    with pytest.raises(DownloadError) as caught:
        params.path("tiny", file_server.url)
    assert file_server.url + FILE in str(caught.value) and reason in str(caught.value)
    assert str(cached) in str(caught.value)
    assert not cached.exists()
    file_server.put(FILE, content)
    assert params.path("tiny", file_server.url).read_bytes() == content


def test_interrupted_download_is_resumed(content, cached, file_server):
    file_server.put(FILE, content, "interrupted")
    with pytest.raises(DownloadError):
        params.path("tiny", file_server.url)
    assert params.path("tiny", file_server.url).read_bytes() == content
    (first, second) = file_server.ranges(FILE)
    start = int(second.removeprefix("bytes=").removesuffix("-"))
    assert first is None and 0 < start <= len(content) // 2  # what came before the interruption is kept


def test_two_processes_download_once(content, cached, file_server, monkeypatch):
    file_server.put(FILE, content, "held")

    def fetched():
        assert params.path("tiny", file_server.url) == cached
    two_at_once(fetched, file_server, monkeypatch)
    assert cached.read_bytes() == content and len(file_server.requests) == 1


# What is refused

def test_unknown_name_lists_close_ones(shipped, home):
    write_manifest(shipped, lenet_mnist={}, resnet18_cifar10={})
    for call in (params.path, params.load):
        with pytest.raises(ValueError, match="name is 'lenet_mist', but there is no.* did you mean lenet_mnist\\?$"):
            call("lenet_mist")
        with pytest.raises(ValueError, match="accepted: lenet_mnist, resnet18_cifar10$"):
            call("?")
        with pytest.raises(TypeError, match="name is 3; accepted: text"):
            call(3)


@pytest.mark.parametrize("ctx, error, message", [
    ("cpu", TypeError, "ctx is 'cpu'; accepted: an mx.Context"), ([], TypeError, r"ctx is \[\]"),
    ([mx.cpu(), 0], TypeError, "ctx is 0"), ([None], TypeError, "ctx is"),
    (mx.gpu(99), ValueError, r"ctx is gpu\(99\), a device that cannot be used")])
def test_context_that_is_none(content, shipped, ctx, error, message):
    (shipped / FILE).write_bytes(content)
    with pytest.raises(error, match=message):
        params.load("tiny", ctx)
    contexts = [mx.cpu(0), mx.cpu(1)]
    assert params.load("tiny", contexts).fc2.weight.list_ctx() == contexts


@pytest.mark.parametrize("changes", [
    {"network": "LeNet5Caffe"},                                  # other names
    {"arguments": {"classes": 4}},                               # the same names, another shape
    {"input_shape": [1, 32, 32]}])                               # only the forward pass can tell
def test_file_of_another_network(content, shipped, changes):
    (shipped / FILE).write_bytes(content)
    write_manifest(shipped, tiny=entry_of(content, **changes))
    with pytest.raises(CheckpointError, match="tiny.params does not hold the parameters of "):
        params.load("tiny")


@pytest.mark.parametrize("text", [None, "", "{"])
def test_manifest_absent_or_damaged(shipped, text):
    if text is not None:
        (shipped / "manifest.json").write_text(text)
    with pytest.raises(CheckpointError, match="manifest.json"):
        params.names()


# The installed package

def test_wheel_has_manifest_and_all_modules(home, tmp_path, file_server, run_python):
    tree, wheels, site = tmp_path / "tree", tmp_path / "wheels", tmp_path / "site"
    shutil.copytree(ROOT, tree, ignore=shutil.ignore_patterns(
        ".*", "*.params", "*.state", "__pycache__", "*.egg-info", "build", "dist", "output"))
    subprocess.run([sys.executable, "-m", "pip", "wheel", "--quiet", "--no-deps", "--no-build-isolation",
                    "--disable-pip-version-check", "--wheel-dir", wheels, tree], check=True,
                   env={**os.environ, "CC": "false"})  # the coder has tests of its own (test_coding.py)
    with zipfile.ZipFile(next(wheels.glob("gluon_compress-*.whl"))) as wheel:
        wheel.extractall(site)
    modules = {file.relative_to(tree).as_posix() for file in (tree / "gluon_compress").rglob("*.py")}
    installed = {file.relative_to(site).as_posix() for file in site.rglob("*.py")}
    assert installed == modules and "gluon_compress/models/lenet.py" in modules
    assert (site / "gluon_compress" / "py.typed").is_file()  # type checkers look at the annotations only with it
    listed = json.loads((tree / "params" / "manifest.json").read_text())
    name = min(listed)
    file_server.put(f"{name}.params", (ROOT / "params" / f"{name}.params").read_bytes())
    output = run_python(
        "import sys; sys.path.remove('')\n"  # the current folder, which may be the checkout
        "import json\n"
        "from gluon_compress import params\n"
        "params.load(sys.argv[1])\n"
        "print(json.dumps([params.__file__, params.manifest(), str(params.path(sys.argv[1]))]))",
        name, PYTHONPATH=str(site), MXNET_HOME=str(home), **{shipped_module.URL_VARIABLE: file_server.url})
    assert json.loads(output) == [str(site / "gluon_compress" / "params" / "__init__.py"), listed,
                                  str(home / "gluon_compress" / f"{name}.params")]


# The zoos

@functools.cache
def zoo_network(source):
    """``(the zoo's table of checksums, bytes of a file of its network, inputs, outputs)``, parameters at random."""
    if source == "gluon":
        from mxnet.gluon.model_zoo import model_store, vision
        get_model = vision.get_model
    else:
        from gluoncv.model_zoo import get_model, model_store
    net = get_model(ZOO_NETWORK)
    net.initialize(mx.init.Xavier())
    inputs = mx.nd.random.normal(shape=(2, 3, 32, 32))
    outputs = net(inputs).asnumpy()
    with tempfile.TemporaryDirectory() as folder:
        net.save_parameters(f"{folder}/zoo")
        return model_store._model_sha1, Path(folder, "zoo").read_bytes(), inputs, outputs


@pytest.fixture(params=ZOOS)
def zoo(request, home, file_server, monkeypatch):
    """A zoo whose server is ours and whose "mobilenet0.25" has parameters drawn at random.

    The real ones cannot be had, so the zoo's table of checksums gets the checksum of these.
    """
    checksums, content, inputs, outputs = zoo_network(request.param)
    sha1 = hashlib.sha1(content).hexdigest()
    monkeypatch.setitem(checksums, ZOO_NETWORK, sha1)
    monkeypatch.setenv("MXNET_GLUON_REPO", file_server.url)
    stem = f"{ZOO_NETWORK}-{sha1[:8]}"
    return {"source": request.param, "content": content, "inputs": inputs, "outputs": outputs,
            "url": f"gluon/models/{stem}.zip", "file": home / "models" / f"{stem}.params"}


def zipped(name, content):
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr(name, content)
    return buffer.getvalue()


def check_pretrained(zoo):
    net = params.pretrained(ZOO_NETWORK, zoo["source"], ctx=mx.cpu())
    np.testing.assert_allclose(net(zoo["inputs"]).asnumpy(), zoo["outputs"], rtol=1e-4, atol=1e-5)


def test_pretrained_comes_from_the_mirror_once(zoo, file_server):
    file_server.put(zoo["url"], zipped(zoo["file"].name, zoo["content"]))
    check_pretrained(zoo)
    check_pretrained(zoo)
    assert file_server.requests == [(zoo["url"], None)]
    assert not list(zoo["file"].parent.glob("*.zip"))


def test_pretrained_uses_the_file_put_there_by_hand(zoo, file_server):
    zoo["file"].parent.mkdir(parents=True)
    zoo["file"].write_bytes(zoo["content"])
    check_pretrained(zoo)
    assert file_server.requests == []


def odd_archives(name, content):
    """Whatever zipfile cannot read, each with another exception: RuntimeError, NotImplementedError, LZMAError, ..."""
    whole = bytearray(zipped(name, content))
    directory = whole.rindex(b"PK\x01\x02")
    encrypted, unknown, lzma = bytearray(whole), bytearray(whole), bytearray(whole)
    encrypted[6] |= 1
    encrypted[directory + 8] |= 1
    unknown[8] = unknown[directory + 10] = 97
    lzma[8] = lzma[directory + 10] = 14
    return {"encrypted": bytes(encrypted), "unknown compression": bytes(unknown), "no LZMA": bytes(lzma)}


@pytest.mark.parametrize("damage", ["missing", "truncated", "no zip", "no such file", "other content", "encrypted",
                                    "unknown compression", "no LZMA", "too large"])
def test_pretrained_failure_says_what_to_do(zoo, file_server, monkeypatch, damage):
    archive = {"no zip": b"<html>moved</html>", "no such file": zipped("README", b""),
               "other content": zipped(zoo["file"].name, damaged(zoo["content"])),
               **odd_archives(zoo["file"].name, zoo["content"])}
    if damage == "too large":
        monkeypatch.setattr(zoo_module, "ZOO_FILE_BYTES", len(zoo["content"]) - 1)
    behaviour = damage if damage in ("missing", "truncated") else "ok"
    file_server.put(zoo["url"], archive.get(damage, zipped(zoo["file"].name, zoo["content"])), behaviour)
    zoo["file"].parent.mkdir(parents=True)
    zoo["file"].write_bytes(b"was here before")
    with pytest.raises(DownloadError) as caught:
        params.pretrained(ZOO_NETWORK, zoo["source"])
    for part in (file_server.url + zoo["url"], zoo["file"].name, str(zoo["file"].parent), "servers may be gone",
                 "MXNET_GLUON_REPO"):
        assert part in str(caught.value)
    assert zoo["file"].read_bytes() == b"was here before"
    assert not list(zoo["file"].parent.glob("*.zip"))
    monkeypatch.setattr(zoo_module, "ZOO_FILE_BYTES", len(zoo["content"]))
    file_server.put(zoo["url"], zipped(zoo["file"].name, zoo["content"]))
    check_pretrained(zoo)


@pytest.mark.parametrize("what", ["the download", "what it unpacks to"])
def test_pretrained_on_a_full_disk_is_an_os_error_that_names_the_path(zoo, file_server, what):
    archive = zipped(zoo["file"].name, zoo["content"])
    file_server.put(zoo["url"], archive)
    size = len(archive) // 2 if what == "the download" else (len(archive) + len(zoo["content"])) // 2
    with files_end_at(size), pytest.raises(OSError) as caught:
        params.pretrained(ZOO_NETWORK, zoo["source"])
    assert caught.value.errno == errno.EFBIG and Path(caught.value.filename).parent == zoo["file"].parent
    assert not zoo["file"].exists()


@pytest.mark.parametrize("source, name, close", [
    ("gluon", "resnet18_v3", "resnet18_v1"),
    ("gluoncv", "resnet50_v1z", "resnet50_v1d"),
    ("gluoncv", "shufflenet_v1", "did you mean")])  # gluoncv would return it untrained, without a word
def test_pretrained_unknown_names(home, source, name, close):
    with pytest.raises(ValueError, match=f"{name}.* no such network with trained parameters in {source}; .*{close}"):
        params.pretrained(name, source)


@pytest.mark.parametrize("name, stem", [("hrnet_w18_c", "hrnet_w18_cls-9c946e56"),
                                        ("resnet50_v1d_0.11", "resnet50_v1d_8.8x-6a25eece")])
def test_pretrained_finds_files_with_other_names(home, file_server, monkeypatch, name, stem):
    monkeypatch.setenv("MXNET_GLUON_REPO", file_server.url)
    with pytest.raises(DownloadError, match=stem):
        params.pretrained(name, "gluoncv")
    assert file_server.requests == [(f"gluon/models/{stem}.zip", None)]


def test_pretrained_wrong_arguments(home):
    with pytest.raises(ValueError, match="source is 'torch'; accepted: 'gluon', 'gluoncv'"):
        params.pretrained("resnet18_v1", "torch")
    for argument in ("root", "pretrained"):
        with pytest.raises(TypeError, match=f"'{argument}' is set here"):
            params.pretrained("resnet18_v1", **{argument: "x"})


def test_pretrained_without_gluoncv(monkeypatch):
    monkeypatch.setitem(sys.modules, "gluoncv", None)  # what Python does for a package that is not there
    with pytest.raises(ImportError, match=r"gluon-compress\[zoo\]"):
        params.pretrained("resnet18_v1", "gluoncv")
