"""Whole batches of images without a Python call per image, and the augmentations of the training scripts."""
import mxnet as mx
import numpy as np
from mxnet.gluon.data import Sampler

from .arguments import check_flag, check_function, check_integer, shown

__all__ = ["Batches", "Shard", "compose", "cutout", "random_crop", "random_flip"]

AUGMENTATION = "a function of uint8 images (batch, height, width, channels) that gives such images"


class Shard(Sampler):
    """One worker's share of each batch: lists of indices, once through ``count`` samples per iteration.

    All workers must draw the same order: it comes from NumPy's global generator, which
    :func:`~gluon_compress.training.fit` seeds alike on all of them before each epoch; in a loop of your own seed it
    once. Sample ``i`` of a batch is then worker ``i % workers``'s. Every sample is in the share of exactly one worker,
    all have the same number of batches, and together they make up the batches of one process. A last batch with fewer
    samples than workers joins the batch before it. During a pass each worker has another generator, so that not all
    shares are augmented alike; after it all have the same again.

    Parameters
    ----------
    count : int
        Samples of the data set, at least ``workers``.
    batch_size : int
        Of all workers together, at least ``workers``.
    shuffle : bool
    rank, workers : int
        The number of this worker, from 0, and how many there are.

    >>> loader = DataLoader(dataset, batch_sampler=Shard(len(dataset), 256, True, rank, workers))
    """

    def __init__(self, count, batch_size, shuffle=False, rank=0, workers=1):
        check_integer("workers", workers, minimum=1)
        check_flag("shuffle", shuffle)
        check_integer("rank", rank, minimum=0, maximum=workers - 1)
        check_integer("batch_size", batch_size, minimum=workers)
        check_integer("count", count, minimum=workers)
        self._count, self._shuffle, self._rank, self._workers = count, shuffle, rank, workers
        self._starts = list(range(0, count, batch_size))
        if count - self._starts[-1] < workers:
            self._starts.pop()

    def __len__(self):
        return len(self._starts)

    def __iter__(self):
        order = np.random.permutation(self._count) if self._shuffle else np.arange(self._count)
        following = np.random.randint(2 ** 31) if self._workers > 1 else None
        if self._rank:
            np.random.seed(following + self._rank)
        try:
            for start, end in zip(self._starts, [*self._starts[1:], self._count]):
                yield order[start + self._rank:end:self._workers].tolist()
        finally:
            if following is not None:
                np.random.seed(following)


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
                images = _augmented(self.augment, images)
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


def _augmented(augment, images):
    """What an augmentation makes of images; ``TypeError`` or ``ValueError`` when those are none, or not as many."""
    found = augment(images)
    if not isinstance(found, np.ndarray) or found.ndim != 4 or len(found) != len(images):
        raise TypeError(f"augment gives {shown(found)} for {shown(images)}; accepted: as many images (batch, height, "
                        f"width, channels)")
    check_pixels("what augment gives", found)
    return found


def check_pixels(name, images):
    """Raise ``ValueError`` for images that are not integers from 0 to 255."""
    if images.dtype == np.uint8:
        return
    if images.dtype.kind not in "iu":
        raise ValueError(f"{name} are of type {images.dtype}; accepted: integers from 0 to 255, best as uint8")
    if images.size and (images.min() < 0 or images.max() > 255):
        raise ValueError(f"{name} have values from {images.min()} to {images.max()}; accepted: 0 to 255")


def _check_images(images):
    """Raise ``TypeError`` or ``ValueError`` unless an augmentation can take these."""
    if not isinstance(images, np.ndarray) or images.ndim != 4:
        raise TypeError(f"images are {shown(images)}; accepted: a uint8 array (batch, height, width, channels)")
    check_pixels("images", images)


def random_crop(padding):
    """Augmentation: shift by up to ``padding`` pixels each way, filling with zeros."""
    check_integer("padding", padding, minimum=0)

    def augment(images):
        _check_images(images)
        count, height, width, _ = images.shape
        padded = np.pad(images, ((0, 0), (padding, padding), (padding, padding), (0, 0)))
        windows = np.lib.stride_tricks.sliding_window_view(padded, (height, width), axis=(1, 2))
        top, left = np.random.randint(0, 2 * padding + 1, size=(2, count))
        return windows[np.arange(count), top, left].transpose(0, 2, 3, 1)  # (B, C, H, W) -> (B, H, W, C)
    return augment


def random_flip(images):
    """Augmentation: mirror half of the images left to right."""
    _check_images(images)
    flipped = np.random.rand(len(images)) < 0.5
    return np.where(flipped[:, None, None, None], images[:, :, ::-1], images)


def cutout(side):
    """Augmentation: a square of ``side`` pixels, centred anywhere, set to zero (DeVries & Taylor 2017)."""
    check_integer("side", side, minimum=1)

    def augment(images):
        _check_images(images)
        count, height, width, _ = images.shape
        centre_y, centre_x = np.random.randint(0, (height, width), size=(count, 2)).T
        rows = _covered(height, centre_y - side // 2, side)
        columns = _covered(width, centre_x - side // 2, side)
        return images * ~(rows[:, :, None] & columns[:, None, :])[..., None]
    return augment


def _covered(length, start, side):
    """(B, length) booleans: which positions are in [start, start + side)."""
    offsets = np.arange(length) - start[:, None]
    return (offsets >= 0) & (offsets < side)


def compose(*augmentations):
    """One augmentation that applies the given ones in turn."""
    for augmentation in augmentations:
        check_function("an augmentation", augmentation, AUGMENTATION)

    def augment(images):
        for augmentation in augmentations:
            images = augmentation(images)
        return images
    return augment
