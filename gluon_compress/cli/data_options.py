"""The options that say which data, and what becomes of its images; and the types of their values."""
from __future__ import annotations

import math
import re
from collections.abc import Callable
from typing import Any

import click
from click.shell_completion import CompletionItem

from .options import Number, stacked

BUILT_IN = ("mnist", "fashion_mnist", "cifar10")
PARTS = ("train", "test")
NORMALIZATIONS = ("imagenet", *BUILT_IN, "0-1", "0-255")


class DataText(click.ParamType):
    """Data as the help of ``--data`` lists them; opened by data.py."""

    name = "data"

    def shell_complete(self, ctx: click.Context, param: click.Parameter, incomplete: str) -> list[CompletionItem]:
        names = [*BUILT_IN, *(f"{name}:{part}" for name in BUILT_IN for part in PARTS)]
        return [CompletionItem(incomplete, type="file"),
                *(CompletionItem(name) for name in names if incomplete and name.startswith(incomplete))]


class SizeText(click.ParamType):
    """``256``, or ``256x320``: height and width."""

    name = "size"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> str:
        if not re.fullmatch(r"[1-9]\d{0,3}(x[1-9]\d{0,3})?", str(value)):
            self.fail(f"{str(value)!r} is no size such as 256 or 256x320 (height x width).", param, ctx)
        return str(value)


def parse_size(text: str | None) -> int | tuple[int, int] | None:
    """The number, or (height, width), of a text that :class:`SizeText` took."""
    if text is None:
        return None
    height, cross, width = text.partition("x")
    return (int(height), int(width)) if cross else int(height)


class ChannelsText(click.ParamType):
    """``0.485,0.456,0.406``: a number for each channel."""

    name = "numbers"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> str:
        if parse_channels(str(value)) is None:
            self.fail(f"{str(value)!r} is no list of numbers from 0 to 1, one per channel, such as 0.485,0.456,0.406.",
                      param, ctx)
        return str(value)


def parse_channels(text: str | None) -> tuple[float, ...] | None:
    """The numbers of a text that :class:`ChannelsText` took; None for another text."""
    try:
        numbers = tuple(float(number) for number in str(text).split(","))
    except ValueError:
        return None
    return numbers if all(math.isfinite(number) and 0 <= number <= 1 for number in numbers) else None


def data_options(what: str, required: bool = True) -> Callable[[Callable[..., Any]], Callable[..., Any]]:
    """``--data``, of which ``what`` says what for, and what becomes of its images; see :func:`data.open_data`."""
    return stacked(
        click.option("--data", type=DataText(), required=required, metavar="DATA",
                     help=f"{what}: a folder with a directory of images for each class, images.rec (RecordIO), "
                          f"arrays.npz (images and labels), {', '.join(BUILT_IN)} (with :train or :test), or "
                          f"package.module:function, which returns batches (input, label), or a pair (training, held "
                          f"out) of them where some are held out."),
        click.option("--resize", type=SizeText(), metavar="256", help="Scale images so that the shorter side is this "
                     "long, as Gluon's Resize does; or 256x320, height and width."),
        click.option("--crop", type=SizeText(), metavar="224",
                     help="Then take the middle, as Gluon's CenterCrop does."),
        click.option("--normalize", type=click.Choice(NORMALIZATIONS), help="By what images are normalized: the mean "
                     "and standard deviation of a data set, or a range of pixels. [default: those of the file that an "
                     "earlier command wrote, or imagenet; 0-1 for grey images]"),
        click.option("--mean", type=ChannelsText(), metavar="R,G,B", help="The mean of images scaled to [0, 1]: a "
                     "number for each channel, in place of --normalize."),
        click.option("--std", type=ChannelsText(), metavar="R,G,B",
                     help="The standard deviation that goes with --mean."),
        click.option("--grey/--colour", default=None,
                     help="How many channels images get. [default: as many as the network takes]"),
        click.option("--labels", type=click.Path(dir_okay=False), metavar="FILE", help="The names of the directories "
                     "in the order of the network's outputs, a line each. [default: sorted]"),
        click.option("--skip-bad", is_flag=True, help="Leave out files that cannot be read as images."),
        click.option("--limit", type=click.IntRange(1), metavar="N", help="Take only so many images, at random "
                     "but always the same."),
        click.option("--batch-size", type=click.IntRange(1), metavar="N", help="Images in a batch. [default: 128 for "
                     "images up to 64x64, else 32]"))


held_out_option = click.option(
    "--held-out", type=Number(0, 1, min_open=True, max_open=True), default=0.1, show_default=True,
    help="The share of --data that is set aside: nothing is trained on it, and choices are made by it.")

test_option = click.option("--test", type=DataText(), metavar="DATA",
                           help="Further data, on which the results are measured at the end; they choose nothing.")
