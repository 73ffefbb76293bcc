"""Folders of images: a directory for each class, the images in it."""
from __future__ import annotations

import mimetypes
import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from ..arguments import check_names, listed, printable
from ..errors import DataError
from ..files.paths import check_folder, check_path
from .decoding import Preparation, Side
from .images import ImageDataset
from .reading import Request, Stored, read_dataset

LABELS_BYTES = 10_000_000  # of a file with the names of classes


def image_folder(path: str | os.PathLike[str], resize: Side | None = None, crop: Side | None = None, *,
                 classes: Sequence[str] | str | os.PathLike[str] | None = None, grey: bool = False,
                 mean: Sequence[float] | None = None, std: Sequence[float] | None = None, limit: int | None = None,
                 seed: int = 0, skip_bad: bool = False, progress: bool = True) -> ImageDataset:
    """The images of a folder with a directory for each class: ``photos/cat/1.jpg``, ``photos/dog/2.png``.

    >>> data = image_folder("photos", resize=256, crop=224)         # for the networks of Gluon's zoo
    >>> train, held_out = data.split(len(data) // 10)

    The images are read into memory once, as uint8 of the size after ``resize`` and ``crop``. Labels are the positions
    of the directories in the order of their names. Every file in these directories must be an image (BMP, GIF, JPEG,
    PNG, PPM, TIFF or WebP, whatever its name), except hidden files, which do not count. Links are followed. See
    :func:`~gluon_compress.datasets.decoding.decode` for what becomes of grey images, palettes, CMYK, transparency
    and EXIF.

    Parameters
    ----------
    path : str or Path
    resize : int or (height, width), optional
        The shorter side, or both, as Gluon's ``transforms.Resize(resize, keep_ratio=True)`` makes it.
    crop : int or (height, width), optional
        Then the middle of the image, as ``transforms.CenterCrop(crop)`` takes it. Without ``resize`` and ``crop`` all
        images must have the same size.
    classes : list of str, or the path of a text file, optional
        The names of the directories in the order of the network's outputs. In the file each has a line, which may go
        on after the name ("n01440764 tench"). Some may have no directory, but no directory may be missing here.
    grey : bool
        One channel instead of three.
    mean, std : sequence of float, optional
        Per channel, for images scaled to [0, 1]: what the network was trained with. By default ImageNet's, as for the
        networks of the zoos; for grey images 0 and 1.
    limit : int, optional
        Read only so many images, chosen at random by ``seed``, always the same.
    skip_bad : bool
        Leave out files that cannot be read as images, and name them in ``skipped`` of the data set.
    progress : bool

    Raises
    ------
    DataError
        When files cannot be read as images, naming them; when a class has no image, when directories are not as above,
        when the images have different sizes, or do not fit into memory.
    OSError
        When the folder cannot be read.
    TypeError, ValueError
        For other arguments.
    """
    check_folder("path", path)
    request = Request(Preparation(resize, crop, grey), mean, std, limit, seed, skip_bad, progress)
    folder = Path(path).expanduser()
    directories = _class_directories(folder)
    names = directories if classes is None else _named(classes, directories, folder)
    stored, bad = _find(folder, directories, names)
    labels = {each.label for each in stored}
    empty = [name for name in directories if names.index(name) not in labels]
    if empty and not skip_bad:
        raise DataError(f"{folder} has no images of {len(empty)} of {len(directories)} classes: {listed(empty)}; "
                        f"remove these directories, or leave them out by skip_bad")
    return read_dataset(str(folder), stored, bad, request, names)


def _class_directories(folder: Path) -> list[str]:
    """The names of the directories in a folder, sorted; ``DataError`` when it holds none, or images beside them."""
    with os.scandir(folder) as entries:
        visible = sorted((entry for entry in entries if not entry.name.startswith(".")), key=lambda entry: entry.name)
    directories = [entry.name for entry in visible if entry.is_dir()]
    loose = [entry.name for entry in visible if not entry.is_dir() and _looks_like_image(entry.name)]
    if not directories:
        raise DataError(f"{folder} holds no directories, but {len(visible)} file(s); accepted: a directory for each "
                        f"class, such as {folder / 'cat' / '1.jpg'}")
    if loose:
        raise DataError(f"{folder} holds images beside the directories of the classes: {listed(loose)}; move them into "
                        f"the directory of their class")
    return directories


def _looks_like_image(name: str) -> bool:
    return (mimetypes.guess_type(name)[0] or "").startswith("image/")


def _find(folder: Path, directories: list[str], names: Sequence[str]) -> tuple[list[Stored], dict[str, str]]:
    """The files in the directories, in the order of their names, and {file: reason} of what cannot be an image."""
    stored, bad = [], {}
    for directory in directories:
        label = names.index(directory)
        for path in sorted((folder / directory).iterdir()):
            name = f"{directory}/{path.name}"
            if path.name.startswith("."):
                continue
            if path.is_dir():
                raise DataError(f"{folder / directory} holds a directory, {printable(path.name)}; accepted: images "
                                f"only. If {printable(directory)} is a part of the data, such as those for training, "
                                f"give {folder / directory}")
            if path.is_file():
                stored.append(Stored(name, label, path.read_bytes))
            else:
                bad[name] = "a link to nothing" if path.is_symlink() else "no regular file"
    return stored, bad


def _named(classes: Any, directories: list[str], folder: Path) -> list[str]:
    """The names of the classes in the order of the network's outputs; ``DataError`` unless all directories are there.

    A line of a file may go on after the name of the directory.
    """
    if isinstance(classes, (str, os.PathLike)):
        check_path("classes", classes)
        with open(classes, encoding="utf-8", errors="replace") as file:
            lines = [line.strip() for line in file.read(LABELS_BYTES).splitlines()]
        known = set(directories)
        names = [line if line in known else (line.split() or [""])[0] for line in lines]
        where = os.fspath(classes)
    else:
        check_names("classes", classes)
        names, where = list(classes), "classes"
    unknown = [name for name in directories if name not in names]
    if unknown:
        raise DataError(f"{len(unknown)} of the {len(directories)} directories in {folder} are not named in {where}: "
                        f"{listed(unknown)}")
    twice = sorted({name for name in directories if names.count(name) > 1})
    if twice:
        raise DataError(f"{where} names {listed(twice)} more than once")
    return names
