"""Whole batches of images without a Python call per image."""
from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator
from typing import TYPE_CHECKING

import mxnet as mx
import numpy as np

from ..arguments import check_function, check_integer, shown
from ..files.digests import add_array
from ..network.interface import active_interface
from .augmentation import AUGMENTATION, Augmentation, augmented
from .shard import Shard

if TYPE_CHECKING:
    from .images import ImageDataset  # which makes Batches


class Batches:
    """Normalized float32 batches ``(batch, channels, height, width)`` with float32 labels ``(batch,)``.

    Under ``npx.set_np()`` they are ``mx.np`` arrays, otherwise NDArrays.

    Each iteration goes once through the data, in an order drawn from NumPy's global generator when
    ``shuffle`` is set; the last batch may be smaller. With several workers, these are one worker's shares of the
    batches, see :class:`Shard`.

    Parameters
    ----------
    dataset : ImageDataset
    batch_size : int
    shuffle : bool
    augment : callable, optional
        From a uint8 array ``(batch, height, width, channels)`` to another; see :func:`random_crop`,
        :func:`random_flip` and :func:`cutout`.
    size : int, optional
        Height and width the images are resized to, bilinearly, after augmentation.
    rank, workers : int
        The number of this worker, from 0, and how many there are.
    """

    def __init__(self, dataset: ImageDataset, batch_size: int, shuffle: bool = False,
                 augment: Augmentation | None = None, size: int | None = None, rank: int = 0,
                 workers: int = 1) -> None:
        check_integer("batch_size", batch_size, minimum=1)
        if not all(hasattr(dataset, name) for name in ("images", "labels", "mean", "std")):
            raise TypeError(f"dataset is {shown(dataset)}; accepted: an ImageDataset")
        if augment is not None:
            check_function("augment", augment, AUGMENTATION)
        if len(dataset) == 0:
            raise ValueError("the dataset is empty")
        if size is not None:
            check_integer("size", size, minimum=1)
        self.dataset, self.batch_size, self.shuffle = dataset, batch_size, shuffle
        self.augment, self.size = augment, size
        self.rank, self.workers = rank, workers
        self._shard()  # checks them

    def _shard(self) -> Shard:
        return Shard(len(self.dataset), self.batch_size, self.shuffle, self.rank, self.workers)

    def __len__(self) -> int:
        return len(self._shard())

    def __iter__(self) -> Iterator[tuple[mx.nd.NDArray, mx.nd.NDArray]]:
        for _, inputs, labels in self.indexed():
            yield inputs, labels

    # These make it gluon_compress.network.data.IndexedData.

    def number_of_samples(self) -> int:
        """The samples of the dataset, of which this worker may have a share."""
        return len(self.dataset)

    def fingerprint(self) -> str:
        """SHA-256 of the dataset's images and labels, and of how they are normalized and resized.

        Raises ``ValueError`` with ``augment``, which gives other images each time.
        """
        if self.augment is not None:
            raise ValueError("the data have augment, so that their images differ from pass to pass; accepted here: "
                             "batches(..., augment=None)")
        dataset = self.dataset
        digest = hashlib.sha256(json.dumps([dataset.mean, dataset.std, self.size]).encode())
        add_array(digest, "images", dataset.images)
        add_array(digest, "labels", dataset.labels)
        return digest.hexdigest()

    def in_order(self) -> Batches:
        """The batches of the whole dataset, from the first sample to the last, without ``augment``."""
        return Batches(self.dataset, self.batch_size, size=self.size)

    def indexed(self) -> Iterator[tuple[np.ndarray, mx.nd.NDArray, mx.nd.NDArray]]:
        """One pass, as an iteration makes it: ``(indices, inputs, labels)``.

        ``indices`` is a NumPy array ``(batch,)`` of where the samples stand in the dataset.
        """
        for indices in map(np.array, self._shard()):
            images = self.dataset.images[indices]
            if self.augment is not None:
                images = augmented(self.augment, images)
            own = active_interface().own
            yield indices, own(self._normalize(images)), own(mx.nd.array(self.dataset.labels[indices]))

    def _normalize(self, images: np.ndarray) -> mx.nd.NDArray:
        # (x / 255 - mean) / std, the arithmetic of Gluon's ToTensor and Normalize
        channels = mx.nd.array(images, dtype=np.uint8).astype(np.float32).transpose((0, 3, 1, 2)) / 255
        mean = mx.nd.array(self.dataset.mean).reshape((1, -1, 1, 1))
        std = mx.nd.array(self.dataset.std).reshape((1, -1, 1, 1))
        inputs = (channels - mean) / std
        if self.size is not None:
            inputs = mx.nd.contrib.BilinearResize2D(inputs, height=self.size, width=self.size)
        return inputs
