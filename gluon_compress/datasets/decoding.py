"""From the bytes of an image file to pixels, and from pixels of any size to those of the size that a network takes."""
from __future__ import annotations

import io
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import mxnet as mx
import numpy as np
from PIL import Image, ImageFile, ImageOps

from ..arguments import check_flag, check_integer, shown
from ..network.interface import CLASSIC

FORMATS = ("BMP", "GIF", "JPEG", "PNG", "PPM", "TIFF", "WEBP")  # Pillow knows more, some of which start programs
BILINEAR = 1

Side = int | tuple[int, int]


def decode(content: bytes, grey: bool = False) -> np.ndarray:
    """The uint8 pixels ``(height, width, channels)`` of an image file: 3 channels in RGB, or 1 with ``grey``.

    They are those of ``mx.image.imdecode``, but turned as the file's EXIF data say. Grey images, palettes and CMYK
    become RGB, transparency is dropped, of 16 bits the upper 8 are taken, and of several frames the first.

    Raises ``ValueError`` for what is no whole image of one of the ``FORMATS``, and for very large ones.
    """
    try:
        with Image.open(io.BytesIO(content), formats=FORMATS) as file:
            file.load()
            image = ImageOps.exif_transpose(file)
            if image.mode.startswith("I;16"):
                image = Image.fromarray((np.asarray(image) >> 8).astype(np.uint8))
            elif image.mode in ("I", "F"):
                raise ValueError(f"its pixels are of the type {image.mode!r}; accepted: 8 or 16 bits")
            pixels = np.array(image.convert("L" if grey else "RGB"))
    except Image.UnidentifiedImageError:
        raise ValueError("no image") from None
    except Exception as error:  # Pillow's readers raise what comes up while they read: SyntaxError, struct.error, ...
        raise ValueError(str(error) or type(error).__name__) from error
    return pixels[:, :, None] if grey else pixels


@contextmanager
def quiet_pillow() -> Iterator[None]:
    """Pillow warns of nothing within the ``with`` block, and takes very large images and half ones for errors.

    An import of ``gluoncv.data`` lets Pillow fill up half images in the whole process.
    """
    filled_up = ImageFile.LOAD_TRUNCATED_IMAGES
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", module="PIL")
        warnings.simplefilter("error", Image.DecompressionBombWarning)
        ImageFile.LOAD_TRUNCATED_IMAGES = False
        try:
            yield
        finally:
            ImageFile.LOAD_TRUNCATED_IMAGES = filled_up


@dataclass(frozen=True)
class Preparation:
    """What becomes of an image before a network gets it, by the operators of Gluon's ``transforms``.

    Attributes
    ----------
    resize : int or (height, width), optional
        An integer is the length of the shorter side, ``transforms.Resize(resize, keep_ratio=True)``.
    crop : int or (height, width), optional
        The middle of the image, ``transforms.CenterCrop(crop)``, which enlarges a smaller image.
    grey : bool
    """

    resize: Side | None = None
    crop: Side | None = None
    grey: bool = False

    def __post_init__(self) -> None:
        for name in ("resize", "crop"):
            _check_side(name, getattr(self, name))
        check_flag("grey", self.grey)

    def __call__(self, image: np.ndarray) -> np.ndarray:
        """The uint8 image ``(height, width, channels)`` in its new size."""
        if self.resize is None and self.crop is None:
            return image
        with CLASSIC.active():
            result = mx.nd.array(image, dtype=np.uint8)
            if self.resize is not None:
                result = mx.nd.image.resize(result, size=_width_and_height(self.resize), interp=BILINEAR,
                                            keep_ratio=isinstance(self.resize, int))
            if self.crop is not None:
                size = _width_and_height(self.crop)
                result = mx.image.center_crop(result, size if isinstance(size, tuple) else (size, size), BILINEAR)[0]
            return result.asnumpy()


def _width_and_height(side: Side) -> Side:
    """A size in MXNet's order."""
    return side if isinstance(side, int) else (side[1], side[0])


def _check_side(name: str, value: Side | None) -> None:
    if value is None:
        return
    if isinstance(value, (tuple, list)):
        if len(value) != 2:
            raise ValueError(f"{name} is {shown(value)}; accepted: an integer, or (height, width)")
        for number in value:
            check_integer(f"{name}[...]", number, minimum=1, maximum=10_000)
        return
    check_integer(name, value, minimum=1, maximum=10_000)
