"""Augmentations of the training scripts: functions of whole batches of images."""
from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from ..arguments import check_function, check_integer, shown

# from uint8 images (batch, height, width, channels) to as many such images
Augmentation = Callable[[np.ndarray], np.ndarray]

AUGMENTATION = "a function of uint8 images (batch, height, width, channels) that gives such images"


def augmented(augment: Augmentation, images: np.ndarray) -> np.ndarray:
    """The result of an augmentation; ``TypeError`` or ``ValueError`` unless it has the same number of images."""
    result = augment(images)
    if not isinstance(result, np.ndarray) or result.ndim != 4 or len(result) != len(images):
        raise TypeError(f"augment gives {shown(result)} for {shown(images)}; accepted: as many images (batch, height, "
                        f"width, channels)")
    check_pixels("what augment gives", result)
    return result


def check_pixels(name: str, images: np.ndarray) -> None:
    """Raise ``ValueError`` for images that are not integers from 0 to 255."""
    if images.dtype == np.uint8:
        return
    if images.dtype.kind not in "iu":
        raise ValueError(f"{name} are of type {images.dtype}; accepted: integers from 0 to 255, best as uint8")
    if images.size and (images.min() < 0 or images.max() > 255):
        raise ValueError(f"{name} have values from {images.min()} to {images.max()}; accepted: 0 to 255")


def _check_images(images: Any) -> None:
    """Raise ``TypeError`` or ``ValueError`` unless an augmentation can take these."""
    if not isinstance(images, np.ndarray) or images.ndim != 4:
        raise TypeError(f"images are {shown(images)}; accepted: a uint8 array (batch, height, width, channels)")
    check_pixels("images", images)


def random_crop(padding: int) -> Augmentation:
    """Augmentation: shift by up to ``padding`` pixels each way, filling with zeros."""
    check_integer("padding", padding, minimum=0)

    windows_of: Any = np.lib.stride_tricks.sliding_window_view  # whose types know no pair of axes

    def augment(images: np.ndarray) -> np.ndarray:
        _check_images(images)
        count, height, width, _ = images.shape
        padded = np.pad(images, ((0, 0), (padding, padding), (padding, padding), (0, 0)))
        windows = windows_of(padded, (height, width), axis=(1, 2))
        top, left = np.random.randint(0, 2 * padding + 1, size=(2, count))
        return windows[np.arange(count), top, left].transpose(0, 2, 3, 1)  # (B, C, H, W) -> (B, H, W, C)
    return augment


def random_flip(images: np.ndarray) -> np.ndarray:
    """Augmentation: mirror half of the images left to right."""
    _check_images(images)
    flipped = np.random.rand(len(images)) < 0.5
    return np.where(flipped[:, None, None, None], images[:, :, ::-1], images)


def cutout(side: int) -> Augmentation:
    """Augmentation: a square of ``side`` pixels, centred anywhere, set to zero (DeVries & Taylor 2017)."""
    check_integer("side", side, minimum=1)

    def augment(images: np.ndarray) -> np.ndarray:
        _check_images(images)
        count, height, width, _ = images.shape
        centre_y, centre_x = np.random.randint(0, (height, width), size=(count, 2)).T
        rows = _covered(height, centre_y - side // 2, side)
        columns = _covered(width, centre_x - side // 2, side)
        return images * ~(rows[:, :, None] & columns[:, None, :])[..., None]
    return augment


def _covered(length: int, start: np.ndarray, side: int) -> np.ndarray:
    """(B, length) booleans: which positions are in [start, start + side)."""
    offsets = np.arange(length) - start[:, None]
    return (offsets >= 0) & (offsets < side)


def compose(*augmentations: Augmentation) -> Augmentation:
    """One augmentation that applies the given ones in turn."""
    for augmentation in augmentations:
        check_function("an augmentation", augmentation, AUGMENTATION)

    def augment(images: np.ndarray) -> np.ndarray:
        for augmentation in augmentations:
            images = augmentation(images)
        return images
    return augment
