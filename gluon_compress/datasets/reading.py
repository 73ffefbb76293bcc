"""Encoded images, wherever they are stored, read into one array: all of them, or an error that names the bad ones."""
from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any

import numpy as np

from ..arguments import check_flag, check_integer, listed
from ..errors import DataError
from ..runtime import usable_cores
from ..runtime.memory import available_memory
from ..tables import progress_bar
from .decoding import FORMATS, Preparation, decode, quiet_pillow
from .images import ImageDataset

# Of ImageNet's training images, scaled to [0, 1]: what Gluon's and gluoncv's model zoos are trained with.
IMAGENET_MEAN, IMAGENET_STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
AT_ONCE = 64  # images that are decoded and not yet in their place
NAMED = 5     # bad files in a message


@dataclass(frozen=True)
class Stored:
    """An encoded image in a file: what messages call it, its label, and a function that reads it."""

    name: str
    label: int
    read: Callable[[], bytes]


@dataclass(frozen=True)
class Request:
    """What the functions that read data sets have in common; see :func:`image_folder`."""

    preparation: Preparation
    mean: Any = None
    std: Any = None
    limit: int | None = None
    seed: int = 0
    skip_bad: bool = False
    progress: bool = True

    def __post_init__(self) -> None:
        if self.limit is not None:
            check_integer("limit", self.limit, minimum=1)
        check_integer("seed", self.seed, minimum=0, maximum=2 ** 32 - 1)
        check_flag("skip_bad", self.skip_bad)
        check_flag("progress", self.progress)

    def chosen(self, count: int) -> np.ndarray:
        """Which of ``count`` samples are read, in ascending order."""
        if self.limit is None or self.limit >= count:
            return np.arange(count)
        return np.sort(np.random.RandomState(self.seed).permutation(count)[:self.limit])

    def dataset(self, images: np.ndarray, labels: Any, classes: Sequence[str] = (),
                skipped: dict[str, str] | None = None) -> ImageDataset:
        """The data set, normalized as asked for, or else as ImageNet."""
        colour = images.shape[3] == 3
        mean = self.mean if self.mean is not None else IMAGENET_MEAN if colour else (0.0,) * images.shape[3]
        std = self.std if self.std is not None else IMAGENET_STD if colour else (1.0,) * images.shape[3]
        return ImageDataset(images, labels, mean, std, classes=classes, skipped=skipped)


def read_dataset(source: str, stored: Sequence[Stored], bad: dict[str, str], request: Request,
                 classes: Sequence[str] = ()) -> ImageDataset:
    """The data set of the ``stored`` images. ``bad`` are files known to be none: {name: reason}.

    Raises ``DataError`` when there are bad ones and ``skip_bad`` is not set, when no image is left, when the images
    have different sizes, and when they need more memory than there is.
    """
    if not stored and not bad:
        raise DataError(f"{source} holds no images")
    bad, names, images = dict(bad), [], _Images(source)
    labels, chosen = [], [stored[index] for index in request.chosen(len(stored))]
    for each, image in _decoded(chosen, request):
        if isinstance(image, str):
            bad[each.name] = image
            continue
        images.add(each.name, image, len(chosen))
        names.append(each.name)
        labels.append(each.label)
    if bad and not request.skip_bad:
        raise DataError(f"{_counted(bad, len(bad) + len(names), source)}; accepted: {', '.join(FORMATS)}; remove the "
                        f"others, or leave them out by skip_bad")
    if not names:
        raise DataError(f"{source} holds no image that can be read: {_counted(bad, len(bad), source)}")
    return request.dataset(images.array(), labels, classes, bad)


def _counted(bad: dict[str, str], count: int, source: str) -> str:
    reasons = [f"{name} ({reason})" for name, reason in sorted(bad.items())]
    return f"{len(bad)} of {count} files of {source} cannot be read as images: {listed(reasons, NAMED)}"


def _decoded(stored: Sequence[Stored], request: Request) -> Iterator[tuple[Stored, np.ndarray | str]]:
    """Each image in its new size, or why there is none. Pillow decodes in threads, which cost no copy of MXNet."""
    def attempt(each: Stored) -> np.ndarray | str:
        try:
            return decode(each.read(), request.preparation.grey)
        except OSError as error:
            return error.strerror or str(error)
        except ValueError as error:
            return str(error)

    remaining = iter(stored)
    with quiet_pillow(), ThreadPoolExecutor(usable_cores()) as pool, \
            progress_bar(total=len(stored), show=request.progress, desc="reading images", unit="images") as bar:
        while some := list(itertools.islice(remaining, AT_ONCE)):
            for each, image in zip(some, pool.map(attempt, some)):
                yield each, image if isinstance(image, str) else request.preparation(image)
                bar.update()


class _Images:
    """An array that is filled image by image, and allocated when the first one says how large they are."""

    def __init__(self, source: str) -> None:
        self._source, self._first, self._count = source, "", 0
        self._array: np.ndarray | None = None

    def add(self, name: str, image: np.ndarray, most: int) -> None:
        if self._array is None:
            check_memory(f"the {most:,} images of {self._source} at {_size(image)}", most * image.size)
            self._first, self._array = name, np.empty((most, *image.shape), np.uint8)
        if image.shape != self._array.shape[1:]:
            raise DataError(f"the images of {self._source} have different sizes: {self._first} is "
                            f"{_size(self._array[0])}, {name} {_size(image)} (height x width); give the size that the "
                            f"network takes, such as resize=256, crop=224")
        self._array[self._count] = image
        self._count += 1

    def array(self) -> np.ndarray:
        assert self._array is not None
        return self._array[:self._count]


def check_memory(what: str, needed: int) -> None:
    """Raise ``DataError`` when so many bytes do not fit into memory."""
    free = available_memory()
    if free is not None and needed > free:
        raise DataError(f"{what} take {needed / 1e9:.1f} GB, and {free / 1e9:.1f} GB of memory are free; read fewer by "
                        f"limit, or make them smaller by resize and crop")


def _size(image: np.ndarray) -> str:
    return f"{image.shape[0]}x{image.shape[1]}"
