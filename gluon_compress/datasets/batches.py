"""Whole batches of images without a Python call per image."""
import mxnet as mx
import numpy as np

from ..arguments import check_function, check_integer, shown
from .augmentation import AUGMENTATION, augmented
from .shard import Shard


class Batches:
    """Normalized float32 batches ``(batch, channels, height, width)`` with float32 labels ``(batch,)``.

    Each iteration goes once through the data, in an order drawn from NumPy's global generator when
    ``shuffle`` is set; the last batch may be smaller. With several workers, these are one's shares of the batches, see
    :class:`Shard`.

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

    def __init__(self, dataset, batch_size, shuffle=False, augment=None, size=None, rank=0, workers=1):
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

    def _shard(self):
        return Shard(len(self.dataset), self.batch_size, self.shuffle, self.rank, self.workers)

    def __len__(self):
        return len(self._shard())

    def __iter__(self):
        for _, inputs, labels in self.indexed():
            yield inputs, labels

    def indexed(self):
        """One pass, as an iteration makes it: ``(indices, inputs, labels)``.

        ``indices`` is a NumPy array ``(batch,)`` of where the samples stand in the dataset.
        """
        for indices in map(np.array, self._shard()):
            images = self.dataset.images[indices]
            if self.augment is not None:
                images = augmented(self.augment, images)
            yield indices, self._normalize(images), mx.nd.array(self.dataset.labels[indices])

    def _normalize(self, images):
        # (x / 255 - mean) / std, the arithmetic of Gluon's ToTensor and Normalize
        channels = mx.nd.array(images, dtype=np.uint8).astype(np.float32).transpose((0, 3, 1, 2)) / 255
        mean = mx.nd.array(self.dataset.mean).reshape((1, -1, 1, 1))
        std = mx.nd.array(self.dataset.std).reshape((1, -1, 1, 1))
        inputs = (channels - mean) / std
        if self.size is not None:
            inputs = mx.nd.contrib.BilinearResize2D(inputs, height=self.size, width=self.size)
        return inputs
