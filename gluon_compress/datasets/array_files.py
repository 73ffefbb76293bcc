"""NumPy's ``.npz`` files of images and labels."""
from __future__ import annotations

import os
import zipfile
import zlib
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from ..arguments import listed
from ..errors import DataError
from ..files.paths import check_path
from .decoding import Preparation, Side
from .images import ImageDataset
from .reading import Request, check_memory

KEYS = ("images", "labels")


def array_file(path: str | os.PathLike[str], resize: Side | None = None, crop: Side | None = None, *,
               mean: Sequence[float] | None = None, std: Sequence[float] | None = None, limit: int | None = None,
               seed: int = 0) -> ImageDataset:
    """The arrays of an ``.npz`` file, as ``np.savez(path, images=..., labels=...)`` writes it.

    ``images`` are integers from 0 to 255, ``(count, height, width, channels)`` with 1 or 3 channels, or ``(count,
    height, width)`` for grey ones; ``labels`` are integers ``(count,)``. The other arguments are those of
    :func:`image_folder`.

    Raises
    ------
    DataError
        When the file is no ``.npz`` file, damaged, has other arrays, or is too large for the memory; naming the arrays.
    OSError
        When the file cannot be read.
    TypeError, ValueError
        For other arguments.
    """
    check_path("path", path)
    request = Request(Preparation(resize, crop), mean, std, limit, seed)
    path = Path(path).expanduser()
    images, labels = _read(path)
    if images.ndim == 3:
        images = images[..., None]
    if images.ndim != 4 or images.shape[3] not in (1, 3) or 0 in images.shape:
        raise DataError(f"{path}: images has shape {images.shape}; accepted: (count, height, width, channels) with 1 "
                        f"or 3 channels, or (count, height, width)")
    if labels.shape != images.shape[:1]:
        raise DataError(f"{path}: labels has shape {labels.shape} for {len(images)} images; accepted: "
                        f"({len(images)},)")
    chosen = request.chosen(len(images))
    try:
        whole = request.dataset(images[chosen], labels[chosen])
    except ValueError as error:
        if str(error).startswith(("mean", "std")):
            raise
        raise DataError(f"{path}: {error}") from error
    prepared = np.stack([request.preparation(image) for image in whole.images])
    return request.dataset(prepared, whole.labels)


def _read(path: Path) -> tuple[np.ndarray, np.ndarray]:
    """The two arrays; ``DataError`` unless they are there, and fit into memory."""
    try:
        with zipfile.ZipFile(path) as archive:
            lengths = {entry.filename.removesuffix(".npy"): entry.file_size for entry in archive.infolist()}
        missing = [name for name in KEYS if name not in lengths]
        if missing:
            raise DataError(f"{path} has no array {' and '.join(missing)}; it has {listed(lengths)}; accepted: what "
                            f"np.savez(path, images=..., labels=...) writes")
        check_memory(f"the arrays of {path}", sum(lengths[name] for name in KEYS))
        with np.load(path, allow_pickle=False) as file:
            images, labels = (file[name] for name in KEYS)
    # zipfile raises NotImplementedError for compression and encryption that it does not know
    except (zipfile.BadZipFile, ValueError, EOFError, NotImplementedError, MemoryError, zlib.error) as error:
        raise DataError(f"{path} is damaged or no .npz file: {error}") from error
    return images, labels
