"""Data sets, their sources and batches: complete, verified data, and what becomes of it in a batch."""
import errno
import gzip
import hashlib
import io
import json
import os
import shutil
import struct
import tarfile
from pathlib import Path

import numpy as np
import pytest
from gluon_compress import datasets
from gluon_compress.datasets import images, sources
from gluon_compress.errors import DownloadError
from full_disk import files_end_at
from hypothesis import given
from hypothesis import strategies as st
from processes import two_at_once

import mxnet as mx

FILES = {"images": bytes(range(256)) * 300, "labels": b"\x01\x02\x03" * 50}
CHECKSUMS = {name: hashlib.sha256(content).hexdigest() for name, content in FILES.items()}


# ---- the real data

@pytest.fixture(scope="module")
def real():
    return {name: getattr(datasets, name)() for name in ("mnist", "fashion_mnist", "cifar10")}


@pytest.mark.parametrize("name, train_count, shape", [
    ("mnist", 60000, (28, 28, 1)), ("fashion_mnist", 60000, (28, 28, 1)), ("cifar10", 50000, (32, 32, 3))])
def test_counts_shapes_and_statistics(real, name, train_count, shape):
    train, test = real[name]
    assert train.images.shape == (train_count, *shape) and test.images.shape == (10000, *shape)
    assert len(train) == train_count and len(test) == 10000
    pixels = train.images.reshape(-1, shape[2])
    histogram = np.stack([np.bincount(pixels[:, channel], minlength=256) for channel in range(shape[2])])
    values = np.arange(256) / 255
    mean = (histogram * values).sum(axis=1) / histogram.sum(axis=1)
    std = np.sqrt((histogram * values ** 2).sum(axis=1) / histogram.sum(axis=1) - mean ** 2)
    np.testing.assert_allclose(train.mean, mean, atol=6e-5)
    np.testing.assert_allclose(train.std, std, atol=6e-5)
    assert (test.mean, test.std) == (train.mean, train.std)


@pytest.mark.parametrize("name, train, test", [
    ("mnist", [5923, 6742, 5958, 6131, 5842, 5421, 5918, 6265, 5851, 5949],
     [980, 1135, 1032, 1010, 982, 892, 958, 1028, 974, 1009]),
    ("fashion_mnist", [6000] * 10, [1000] * 10),
    ("cifar10", [5000] * 10, [1000] * 10)])
def test_label_histograms(real, name, train, test):
    assert np.bincount(real[name][0].labels).tolist() == train
    assert np.bincount(real[name][1].labels).tolist() == test


def test_gluons_own_cifar10_reads_the_same_files(real):
    folder = Path(mx.base.data_dir(), "datasets", "cifar10")
    theirs = mx.gluon.data.vision.CIFAR10(root=str(folder), train=False)  # it checks their sha1, too
    np.testing.assert_array_equal(theirs._data.asnumpy(), real["cifar10"][1].images)
    np.testing.assert_array_equal(theirs._label, real["cifar10"][1].labels)


@pytest.mark.parametrize("name", ["mnist", "fashion_mnist"])
def test_idx_files_say_the_same_in_their_headers(real, name):
    folder = Path(mx.base.data_dir(), "datasets", name.replace("_", "-"))
    content = (folder / "t10k-images-idx3-ubyte").read_bytes()
    magic, count, height, width = struct.unpack(">4I", content[:16])
    assert (magic, count, height, width) == (0x803, 10000, 28, 28)
    for number in (0, 1234, 9999):
        image = real[name][1].images[number, :, :, 0]
        assert image.tobytes() == content[16 + number * 784:16 + (number + 1) * 784]
    content = (folder / "t10k-labels-idx1-ubyte").read_bytes()
    assert struct.unpack(">2I", content[:8]) == (0x801, 10000)
    assert content[8:] == real[name][1].labels.astype(np.uint8).tobytes()


def test_batches_are_arrays_of_the_interface_that_is_on(real):
    batches = real["mnist"][1].subset(slice(0, 6)).batches(4)
    classic = [[array.asnumpy() for array in batch] for batch in batches]
    with mx.util.np_shape(True), mx.util.np_array(True):
        own = list(batches)
    for batch, expected in zip(own, classic):
        assert all(type(array) is mx.np.ndarray for array in batch)
        for array, values in zip(batch, expected):
            np.testing.assert_array_equal(array.asnumpy(), values)


def test_it_is_a_gluon_dataset(real):
    test = real["mnist"][1]
    image, label = test[7]
    assert image.shape == (28, 28, 1) and image.dtype == np.uint8
    np.testing.assert_array_equal(image.asnumpy(), test.images[7])
    assert label == test.labels[7] and isinstance(label, np.int32)
    transformed = test.transform_first(mx.gluon.data.vision.transforms.ToTensor())
    assert transformed[7][0].shape == (1, 28, 28)


# ---- a folder completed from sources

def gzip_server(server, behaviour="ok", **other):
    for name, content in FILES.items():
        server.put(f"data/{name}.gz", gzip.compress(content), other.get(name, behaviour))
    return sources.GzipFiles(server.url + "data/")


def tar_bytes(files=None):
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w:gz") as tar:
        for name, content in (files or FILES).items():
            member = tarfile.TarInfo(f"some/folder/{name}")
            member.size = len(content)
            tar.addfile(member, io.BytesIO(content))
    return buffer.getvalue()


def complete(root, *candidates):
    return sources.complete("Toy", root, CHECKSUMS, candidates)


def assert_complete(root):
    assert {name: (root / name).read_bytes() for name in FILES} == FILES
    assert not (root / "downloads").exists()


def test_gzip_files(file_server, tmp_path):
    assert complete(tmp_path / "new", gzip_server(file_server)) == tmp_path / "new"
    assert_complete(tmp_path / "new")


def test_tar_archive(file_server, tmp_path):
    complete(tmp_path, sources.TarArchive(file_server.put("data.tar.gz", tar_bytes())))
    assert_complete(tmp_path)


def test_a_complete_folder_is_not_touched(file_server, tmp_path):
    for name, content in FILES.items():
        (tmp_path / name).write_bytes(content)
    complete(tmp_path, gzip_server(file_server))
    assert file_server.requests == [] and sorted(os.listdir(tmp_path)) == sorted(FILES)  # not even a lock


def test_only_the_missing_files_are_fetched(file_server, tmp_path):
    (tmp_path / "images").write_bytes(FILES["images"])
    complete(tmp_path, gzip_server(file_server))
    assert file_server.requests == [("data/labels.gz", None)]
    assert_complete(tmp_path)


def test_a_damaged_cached_file_is_replaced(file_server, tmp_path):
    for name, content in FILES.items():
        (tmp_path / name).write_bytes(content)
    (tmp_path / "images").write_bytes(FILES["images"][:-1] + b"!")
    complete(tmp_path, gzip_server(file_server))
    assert file_server.requests == [("data/images.gz", None)]
    assert_complete(tmp_path)


def test_gluons_gzip_cache_is_adopted(file_server, tmp_path):
    for name, content in FILES.items():
        (tmp_path / f"{name}.gz").write_bytes(gzip.compress(content))
    before = {name: (tmp_path / f"{name}.gz").read_bytes() for name in FILES}
    complete(tmp_path, gzip_server(file_server))
    assert file_server.requests == []
    assert_complete(tmp_path)
    assert {name: (tmp_path / f"{name}.gz").read_bytes() for name in FILES} == before


@given(data=st.data())
def test_a_damaged_gzip_cache_is_as_good_as_absent(tmp_path_factory, data):
    content = bytearray(gzip.compress(FILES["images"]))
    for position in data.draw(st.lists(st.integers(0, len(content) - 1), min_size=1, max_size=3)):
        content[position] ^= data.draw(st.integers(1, 255))
    root = tmp_path_factory.mktemp("root")
    (root / "images.gz").write_bytes(content[:data.draw(st.integers(0, len(content)))])
    sources._adopt_gzip(root, "images", CHECKSUMS["images"])  # raises nothing
    assert not (root / "images").exists() or (root / "images").read_bytes() == FILES["images"]


@pytest.mark.parametrize("behaviour", ["missing", "error", "corrupt", "truncated"])
def test_the_next_source_steps_in(file_server, tmp_path, behaviour):
    complete(tmp_path, gzip_server(file_server, behaviour),
             sources.TarArchive(file_server.put("data.tar.gz", tar_bytes())))
    assert_complete(tmp_path)


def test_what_one_source_delivered_is_not_asked_of_the_next(file_server, tmp_path):
    class Second:
        def deliver(self, names, folder):
            asked.extend(names)
            sources.GzipFiles(file_server.url + "data/").deliver(names, folder)
    asked = []
    file_server.put("second/labels.gz", gzip.compress(FILES["labels"]))
    first = gzip_server(file_server, labels="interrupted")
    complete(tmp_path, first, Second())
    assert asked == ["labels"]
    assert_complete(tmp_path)


def test_two_sources_with_other_archives_of_the_same_name_do_not_mix(file_server, tmp_path):
    # the second must not resume what the first left
    first, second = gzip_server(file_server, "truncated"), sources.GzipFiles(file_server.url + "other/")
    for name, content in FILES.items():
        file_server.put(f"other/{name}.gz", gzip.compress(content, compresslevel=0))
    complete(tmp_path, first, second)
    assert file_server.ranges("other/images.gz") == [None]
    assert_complete(tmp_path)


def test_an_interrupted_source_is_resumed_by_the_next_call(file_server, tmp_path):
    content = os.urandom(200_000)  # does not shrink
    checksums = {"noise": hashlib.sha256(content).hexdigest()}
    source = sources.TarArchive(file_server.put("data.tar.gz", tar_bytes({"noise": content}), "interrupted"))
    with pytest.raises(DownloadError):
        sources.complete("Toy", tmp_path, checksums, [source])
    sources.complete("Toy", tmp_path, checksums, [source])
    assert (tmp_path / "noise").read_bytes() == content
    assert file_server.ranges("data.tar.gz")[1].startswith("bytes=")


def test_archives_that_arrived_are_not_fetched_again(file_server, tmp_path):
    source = gzip_server(file_server, labels="missing")
    with pytest.raises(DownloadError):
        complete(tmp_path, source)
    gzip_server(file_server)
    complete(tmp_path, source)
    assert file_server.ranges("data/images.gz") == [None]
    assert_complete(tmp_path)


def test_wrong_content_is_never_put_in_place_and_fetched_anew(file_server, tmp_path):
    url = file_server.put("data.tar.gz", tar_bytes({**FILES, "labels": b"forged"}))
    with pytest.raises(DownloadError, match="content that differs from the original in labels"):
        complete(tmp_path, sources.TarArchive(url))
    assert (tmp_path / "images").exists() and not (tmp_path / "labels").exists()
    file_server.put("data.tar.gz", tar_bytes())
    complete(tmp_path, sources.TarArchive(url))
    assert_complete(tmp_path)


def test_when_all_fail_one_error_lists_everything(file_server, tmp_path):
    class Broken:
        def __str__(self):
            return "a broken source"

        def deliver(self, names, folder):
            raise KeyError("no such layout")
    (tmp_path / "labels").write_bytes(FILES["labels"])
    gone, lost = gzip_server(file_server, "missing"), sources.TarArchive(file_server.url + "lost.tar.gz")
    with pytest.raises(DownloadError) as error:
        complete(tmp_path, gone, lost, Broken())
    text = str(error.value)
    for part in ("Toy: no source delivered images.", f"{gone}:", f"{lost}:", "404", "a broken source:",
                 "no such layout", f"into {tmp_path} by hand"):
        assert part in text
    assert (tmp_path / "labels").read_bytes() == FILES["labels"] and not (tmp_path / "images").exists()


@pytest.mark.parametrize("bomb", ["gzip", "tar", "before the member"])
def test_archives_are_unpacked_within_bounds(file_server, tmp_path, monkeypatch, bomb):
    """A source whose archive holds more than any of the files falls out; the disk holds no more than the bound."""
    monkeypatch.setattr(sources, "FILE_BYTES", 100_000)
    monkeypatch.setattr(sources, "UNPACKED_BYTES", 150_000)
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w:gz") as tar:
        for name, size in [("images", 140_000)] if bomb == "tar" else [("other", 200_000), ("images", 1)]:
            member = tarfile.TarInfo(name)
            member.size = size
            tar.addfile(member, io.BytesIO(bytes(size)))
    if bomb == "gzip":
        file_server.put("images.gz", gzip.compress(bytes(1_000_000)))
        source = sources.GzipFiles(file_server.url)
    else:
        source = sources.TarArchive(file_server.put("data.tar.gz", buffer.getvalue()))
    with pytest.raises(DownloadError, match="unpacks to more than the 1.0,000 bytes that are expected at most"):
        complete(tmp_path, source)
    assert sum(path.stat().st_size for path in tmp_path.rglob("*") if path.is_file()) < 150_000


def test_a_package_of_another_content_is_not_unpacked(tmp_path, npm_package):
    if shutil.which("npm"):
        with pytest.raises(DownloadError, match="its content has sha256 [0-9a-f]{64}, expected 00"):
            complete(tmp_path / "root", sources.NpmPackage(str(npm_package), lambda *_: 1 / 0, "00"))


def test_a_planted_folder_for_downloads_is_not_written_through(file_server, tmp_path):
    (tmp_path / "victim").mkdir()
    (tmp_path / "root").mkdir()
    (tmp_path / "root" / "downloads").symlink_to(tmp_path / "victim")
    complete(tmp_path / "root", gzip_server(file_server))
    assert_complete(tmp_path / "root")
    assert not list((tmp_path / "victim").iterdir())


def test_what_the_disk_does_not_take_is_no_failure_of_a_source(file_server, tmp_path):
    asked = []

    class Full:
        def deliver(self, names, folder):
            asked.append(names)
            raise OSError(28, "No space left on device", str(folder / "images"))
    with pytest.raises(OSError, match="No space left"):
        complete(tmp_path, Full(), Full())
    assert len(asked) == 1


class Failing:
    """A program that only says that it failed."""

    def deliver(self, names, folder):
        raise DownloadError("'npm pack' failed")


@pytest.mark.parametrize("kind", ["gzip", "tar", "npm", "a program that fails", "a .gz that is there"])
def test_a_full_disk_is_an_os_error_that_names_the_path(file_server, tmp_path, npm_package, kind):
    source = {"gzip": lambda: gzip_server(file_server), "a program that fails": Failing,
              "tar": lambda: sources.TarArchive(file_server.put("data.tar.gz", tar_bytes())),
              "npm": lambda: sources.NpmPackage(str(npm_package), sources.copy_files), }.get(kind, Failing)()
    root = tmp_path / "root"
    if kind == "a .gz that is there":
        root.mkdir()
        (root / "images.gz").write_bytes(gzip.compress(FILES["images"]))
    if kind == "npm" and not shutil.which("npm"):
        source = Failing()
    with files_end_at(10_000), pytest.raises(OSError) as caught:
        complete(root, source, gzip_server(file_server, "missing"))
    assert caught.value.errno == errno.EFBIG and caught.value.filename.startswith(str(root))
    assert not list(root.glob("downloads/*/room"))


def test_two_processes_at_once(file_server, tmp_path, monkeypatch):
    source = gzip_server(file_server, "held")
    two_at_once(lambda: complete(tmp_path, source), file_server, monkeypatch)
    assert sorted(file_server.requests) == [("data/images.gz", None), ("data/labels.gz", None)]
    assert_complete(tmp_path)


# ---- packages

@pytest.fixture
def npm_package(tmp_path):
    """A package as a folder, which ``npm pack`` takes like a name."""
    folder = tmp_path / "npm"
    (folder / "deep").mkdir(parents=True)
    (folder / "package.json").write_text('{"name": "toy", "version": "1.0.0"}')
    (folder / "images").write_bytes(FILES["images"])
    (folder / "deep" / "labels.gz").write_bytes(gzip.compress(FILES["labels"]))
    return folder


def test_npm_package(tmp_path, npm_package):
    source = sources.NpmPackage(str(npm_package), sources.copy_files)
    if shutil.which("npm") is None:  # then that is what it must say
        with pytest.raises(DownloadError, match="npm is not installed"):
            complete(tmp_path / "root", source)
    else:
        complete(tmp_path / "root", source)
        assert_complete(tmp_path / "root")


def test_a_failing_npm_package_says_so(tmp_path):
    message = "npm package ./nothing: .*npm (pack ./nothing' failed|is not installed)"
    with pytest.raises(DownloadError, match=message):
        complete(tmp_path, sources.NpmPackage("./nothing", sources.copy_files))
    assert not any((tmp_path / name).exists() for name in FILES)


@pytest.mark.parametrize("source, command", [
    (sources.NpmPackage("toy", sources.copy_files), "npm"),
    (sources.DebianPackage("toy", sources.copy_files), "apt-get")])
def test_a_missing_command_says_so(tmp_path, monkeypatch, source, command):
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(DownloadError, match=f"{source}: {command} is not installed"):
        complete(tmp_path / "root", source)


def test_cifar_files_are_rebuilt_from_png_sheets(tmp_path):
    from PIL import Image
    package, folder = tmp_path / "package", tmp_path / "folder"
    package.mkdir()
    folder.mkdir()
    random = np.random.RandomState(0)
    sheets = {"data_batch_1": [1, 2, 3], "data_batch_2": [4, 5, 6], "test_batch": [7, 8, 9]}
    pixels = {stem: random.randint(0, 256, (3, 32 * 32, 3), dtype=np.uint8) for stem in sheets}
    for stem, sheet in pixels.items():
        Image.fromarray(sheet).save(package / f"{stem}.png")
    (package / "train_lables.json").write_text(json.dumps([1, 2, 3, 4, 5, 6]))
    (package / "test_lables.json").write_text(json.dumps([7, 8, 9]))
    images._rebuild_cifar_files(package, folder, [f"{stem}.bin" for stem in sheets])
    for stem, labels in sheets.items():
        expected = b""
        for label, image in zip(labels, pixels[stem], strict=True):
            expected += bytes([label]) + b"".join(image[:, channel].tobytes() for channel in range(3))
        assert (folder / f"{stem}.bin").read_bytes() == expected


def test_mnist_from_gluons_repository_variable(file_server, tmp_path, monkeypatch):
    # Gluon's own variable leads to another server; small stand-ins for the files, with their checksums
    files = {"train-images-idx3-ubyte": bytes(16) + bytes(range(196)) * 8,
             "train-labels-idx1-ubyte": bytes(8) + b"\1\2",
             "t10k-images-idx3-ubyte": bytes(16) + bytes(784),
             "t10k-labels-idx1-ubyte": bytes(8) + b"\3"}
    for name, content in files.items():
        file_server.put(f"gluon/dataset/mnist/{name}.gz", gzip.compress(content))
    monkeypatch.setenv("MXNET_GLUON_REPO", file_server.url)
    monkeypatch.setattr(images, "MNIST_SHA256", {name: hashlib.sha256(content).hexdigest()
                                                   for name, content in files.items()})
    train, test = datasets.mnist(root=tmp_path / "mnist")
    assert train.labels.tolist() == [1, 2] and test.labels.tolist() == [3]
    assert train.images.reshape(2, 784)[1].tolist() == list(range(196)) * 4
    assert len(file_server.requests) == 4
    assert {name: (tmp_path / "mnist" / name).read_bytes() for name in files} == files


# ---- ImageDataset

def toy(count=10, height=6, width=5, channels=3, seed=0):
    random = np.random.RandomState(seed)
    return datasets.ImageDataset(random.randint(0, 256, (count, height, width, channels), dtype=np.uint8),
                                 np.arange(count) % 4, (0.5, 0.4, 0.3)[:channels], (0.2, 0.3, 0.4)[:channels])


def test_subset_and_split():
    dataset = toy(20)
    part = dataset.subset(np.array([3, 1]))
    np.testing.assert_array_equal(part.images, dataset.images[[3, 1]])
    assert part.labels.tolist() == [3, 1] and (part.mean, part.std) == (dataset.mean, dataset.std)
    rest, held_out = dataset.split(5, seed=1)
    assert (len(rest), len(held_out)) == (15, 5)
    together = np.concatenate([rest.images, held_out.images]).reshape(20, -1)
    np.testing.assert_array_equal(np.sort(together, axis=0), np.sort(dataset.images.reshape(20, -1), axis=0))
    np.testing.assert_array_equal(dataset.split(5, seed=1)[1].images, held_out.images)
    assert not np.array_equal(dataset.split(5, seed=2)[1].images, held_out.images)


@pytest.mark.parametrize("held_out", [0, 20, -1, 2.5, True, "5"])
def test_split_refuses(held_out):
    accepted = "an integer( at least 1 and at most 19)?$"
    with pytest.raises((TypeError, ValueError), match=f"held_out is .*accepted: ({accepted})"):
        toy(20).split(held_out)


def test_images_and_labels_must_match():
    with pytest.raises(ValueError, match="labels"):
        datasets.ImageDataset(np.zeros((3, 2, 2, 1)), [1, 2], (0,), (1,))
    with pytest.raises(ValueError, match=r"images have shape \(3, 2, 2\)"):
        datasets.ImageDataset(np.zeros((3, 2, 2)), [1, 2, 3], (0,), (1,))


@pytest.mark.parametrize("changes, message", [
    ({"images": np.full((2, 3, 3, 1), 256)}, "values from 256 to 256; accepted: 0 to 255"),
    ({"images": np.full((2, 3, 3, 1), -1)}, "values from -1 to -1"),
    ({"images": np.full((2, 3, 3, 1), 0.5)}, "images are of type float64; accepted: integers from 0 to 255"),
    ({"labels": [0, 1.5]}, "labels are float64, not all of them integers"),
    ({"labels": ["a", "b"]}, "labels are <U1"),
    *(({"std": (value,)}, r"std\[0\] is .*; accepted: a finite number more than 0 and at most 1")
      for value in (0, -1, float("nan"), 255)),
    *(({"mean": (value,)}, r"mean\[0\] is .*; accepted: a finite number at least 0 and at most 1")
      for value in (-1, float("nan"), 127.5)),
    *(({"labels": [0, value]}, "accepted: integers from 0 to 2147483647") for value in (2 ** 40, -1, float("inf"))),
    ({"mean": (0, 0, 0), "std": (1, 1, 1)}, "accepted: 1 number")])
def test_nothing_is_wrapped_or_cut(changes, message):
    accepted = {"images": np.full((2, 3, 3, 1), 255), "labels": [0.0, 1.0], "mean": (0,), "std": (1,)}
    dataset = datasets.ImageDataset(**accepted)
    assert (dataset.images == 255).all() and dataset.labels.tolist() == [0, 1]
    with pytest.raises(ValueError, match=message):
        datasets.ImageDataset(**accepted | changes)


@pytest.mark.parametrize("name", ["mnist", "cifar10"])
def test_a_root_that_cannot_be_written_is_an_os_error_that_names_it(tmp_path, name):
    (tmp_path / "file").write_text("mine")
    for root in (tmp_path / "file", tmp_path / "file" / "below", "/proc/none"):  # where not even root can write
        with pytest.raises(OSError) as caught:
            getattr(datasets, name)(root=root)
        assert caught.value.filename == str(root) and caught.value.errno
    assert (tmp_path / "file").read_text() == "mine"


# ---- Batches

def test_batches_equal_gluons_transforms():
    dataset = toy(10)
    transforms = mx.gluon.data.vision.transforms
    transform = transforms.Compose([transforms.ToTensor(), transforms.Normalize(dataset.mean, dataset.std)])
    theirs = mx.gluon.data.DataLoader(dataset.transform_first(transform), batch_size=4)
    ours = dataset.batches(4)
    assert len(ours) == len(theirs) == 3
    for (inputs, labels), (their_inputs, their_labels) in zip(ours, theirs, strict=True):
        assert inputs.dtype == labels.dtype == np.float32
        np.testing.assert_allclose(inputs.asnumpy(), their_inputs.asnumpy(), rtol=1e-5, atol=1e-6)
        np.testing.assert_array_equal(labels.asnumpy(), their_labels.asnumpy())


def test_shuffle_goes_once_through_the_data_in_a_seeded_order():
    dataset = toy(50)
    dataset.labels[:] = np.arange(50)

    def order(seed):
        np.random.seed(seed)
        return [int(label) for _, labels in dataset.batches(8, shuffle=True) for label in labels.asnumpy()]
    assert sorted(order(0)) == list(range(50)) != order(0)
    assert order(0) == order(0) != order(1)


def test_shuffled_labels_stay_with_their_images():
    dataset = toy(16, channels=1)
    dataset.images[:] = np.arange(16).reshape(-1, 1, 1, 1)
    dataset.labels[:] = np.arange(16)
    for inputs, labels in dataset.batches(5, shuffle=True):
        values = (inputs.asnumpy() * 0.2 + 0.5) * 255
        expected = np.broadcast_to(labels.asnumpy()[:, None, None, None], values.shape)
        np.testing.assert_allclose(values, expected, atol=1e-3)


def test_size_is_bilinear_with_corners_aligned():
    dataset = toy(2, 6, 6)
    plain = next(iter(dataset.batches(2)))[0].asnumpy()
    resized = next(iter(dataset.batches(2, size=11)))[0].asnumpy()
    assert resized.shape == (2, 3, 11, 11)
    expected = np.empty_like(resized)
    for row in range(11):
        for column in range(11):
            y, x = row * 5 / 10, column * 5 / 10
            top, left = min(int(y), 4), min(int(x), 4)
            down, right = y - top, x - left
            expected[:, :, row, column] = (
                (1 - down) * ((1 - right) * plain[:, :, top, left] + right * plain[:, :, top, left + 1])
                + down * ((1 - right) * plain[:, :, top + 1, left] + right * plain[:, :, top + 1, left + 1]))
    np.testing.assert_allclose(resized, expected, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("arguments, message", [
    ({"batch_size": 0}, "batch_size is 0"), ({"batch_size": 2.0}, "batch_size is 2.0"),
    ({"batch_size": True}, "batch_size is True"), ({"size": 0}, "size is 0"),
    ({"size": "32"}, "size is '32'")])
def test_batches_refuses(arguments, message):
    with pytest.raises((TypeError, ValueError), match=message):
        toy().batches(**arguments)


def test_an_empty_dataset_is_refused():
    with pytest.raises(ValueError, match="empty"):
        datasets.Batches(toy().subset(slice(0, 0)), 4)


# ---- augmentations against loops

IMAGES = np.random.RandomState(3).randint(1, 256, (40, 7, 6, 2), dtype=np.uint8)  # no zeros


@pytest.mark.parametrize("padding", [0, 1, 3])
def test_random_crop_is_one_of_the_shifts(padding):
    np.random.seed(0)
    shifts = []
    for image, cropped in zip(IMAGES, datasets.random_crop(padding)(IMAGES), strict=True):
        found = []
        for down in range(-padding, padding + 1):
            for right in range(-padding, padding + 1):
                shifted = np.zeros_like(image)
                for row in range(7):
                    for column in range(6):
                        if 0 <= row + down < 7 and 0 <= column + right < 6:
                            shifted[row, column] = image[row + down, column + right]
                found += [(down, right)] * np.array_equal(shifted, cropped)
        assert len(found) == 1
        shifts += found
    assert padding == 0 or len(set(shifts)) > 5


def test_random_flip_mirrors_some():
    np.random.seed(0)
    flipped = 0
    for image, result in zip(IMAGES, datasets.random_flip(IMAGES), strict=True):
        mirrored = np.stack([[image[row, 5 - column] for column in range(6)] for row in range(7)])
        is_mirrored = np.array_equal(result, mirrored)
        assert is_mirrored or np.array_equal(result, image)
        flipped += is_mirrored
    assert 5 < flipped < 35


@pytest.mark.parametrize("side", [1, 2, 3, 4])
def test_cutout_removes_one_square(side):
    np.random.seed(0)
    full = 0
    for image, result in zip(IMAGES, datasets.cutout(side)(IMAGES), strict=True):
        gone = (result == 0).all(axis=-1)
        np.testing.assert_array_equal(result[~gone], image[~gone])
        rows, columns = np.flatnonzero(gone.any(axis=1)), np.flatnonzero(gone.any(axis=0))
        assert 1 <= len(rows) <= side and 1 <= len(columns) <= side
        assert gone.sum() == len(rows) * len(columns)
        assert (len(rows), len(columns)) == (np.ptp(rows) + 1, np.ptp(columns) + 1)
        # smaller only at an edge
        assert len(rows) == side or rows[0] == 0 or rows[-1] == 6
        assert len(columns) == side or columns[0] == 0 or columns[-1] == 5
        full += len(rows) == len(columns) == side
    assert full > 0


def test_augmentations_leave_their_input_alone_and_compose_in_order():
    before = IMAGES.copy()
    for augment in (datasets.random_crop(2), datasets.random_flip, datasets.cutout(3)):
        result = augment(IMAGES)
        assert result.shape == IMAGES.shape and result.dtype == np.uint8
        np.testing.assert_array_equal(IMAGES, before)
    both = datasets.compose(lambda images: images // 2, lambda images: images + 1)
    np.testing.assert_array_equal(both(IMAGES), IMAGES // 2 + 1)
