"""Options that several commands share, and the types of their values; names are completed in the shell."""
from __future__ import annotations

import glob
import importlib.util
import json
import math
import re
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import click
from click.shell_completion import CompletionItem

from .failures import Refusal

TYPES = ("float32", "float16", "float64", "int8", "uint8", "int32", "int64")
CRITERIA = ("l1", "l2", "fpgm", "bn_scale", "random")  # by which channels are ranked without data
OF_WEIGHTS = ("l1", "random")  # by which single weights are
Decorated = Callable[..., Any]


class NetworkText(click.ParamType):
    """A network as ``gluon-compress --help`` lists them; opened by networks.py."""

    name = "network"

    def shell_complete(self, ctx: click.Context, param: click.Parameter, incomplete: str) -> list[CompletionItem]:
        source, colon, beginning = incomplete.partition(":")
        if not colon:
            sources = [f"{name}:" for name in ("params", "zoo") if incomplete and name.startswith(incomplete)]
            files = sorted(glob.glob(f"{glob.escape(incomplete)}*")) if sources else []  # bash takes names or files
            return [CompletionItem(name) for name in (*sources, *files)] or [CompletionItem(incomplete, type="file")]
        names = {"params": trained_names, "zoo": zoo_names}.get(source, list)()
        return [CompletionItem(f"{source}:{name}") for name in names if name.startswith(beginning)]


class Number(click.FloatRange):
    """A finite number within bounds; to click alone, "nan" is within all bounds."""

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> float:
        number = super().convert(value, param, ctx)
        if not math.isfinite(number):
            self.fail(f"{number} is no finite number.", param, ctx)
        return number


class Target(click.ParamType):
    """The path of a file that a command writes."""

    name = "path"

    def __init__(self, *endings: str) -> None:
        self.endings = endings

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> str:
        if self.endings and not str(value).endswith(self.endings):
            self.fail(f"{str(value)!r} does not end in {' or '.join(self.endings)}.", param, ctx)
        return str(value)

    def shell_complete(self, ctx: click.Context, param: click.Parameter, incomplete: str) -> list[CompletionItem]:
        return [CompletionItem(incomplete, type="file")]


class ShapeText(click.ParamType):
    """The shape of an input, ``1,3,224,224``, the batch first; with its name, ``data:1,3,224,224``, or without."""

    name = "shape"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> str:
        if not re.fullmatch(r"([^:]+:)?[1-9]\d{0,8}([,x][1-9]\d{0,8})*", str(value)):
            self.fail(f"{str(value)!r} is no shape such as 1,3,224,224 (or data:1,3,224,224), the batch first.",
                      param, ctx)
        return str(value)


def parse_shape(text: str) -> tuple[str | None, tuple[int, ...]]:
    """(name of the input or None, shape) of a text that :class:`ShapeText` took."""
    name, _, numbers = text.rpartition(":")
    return name or None, tuple(int(number) for number in re.split("[,x]", numbers))


def trained_names() -> list[str]:
    """The names of this package's trained networks, without an import of MXNet."""
    package = Path(__file__).resolve().parents[1]
    for file in (package.parent / "params" / "manifest.json", package / "params" / "manifest.json"):
        if file.is_file():
            return sorted(json.loads(file.read_text()))
    return []


def zoo_names() -> list[str]:
    """The names of Gluon's and gluoncv's networks with trained parameters, read off their files without an import."""
    names: set[str] = set()
    for package, folder in (("mxnet", "gluon/model_zoo"), ("gluoncv", "model_zoo")):
        spec = importlib.util.find_spec(package)
        for place in (spec.submodule_search_locations or ()) if spec else ():
            file = Path(place, folder, "model_store.py")
            if file.is_file():
                names |= set(re.findall(r"\('[0-9a-f]{40}', '([^']+)'\)", file.read_text()))
    return sorted(names)


def stacked(*options: Callable[[Decorated], Decorated]) -> Callable[[Decorated], Decorated]:
    """Several decorators as one, in the order in which ``--help`` shows them."""
    def decorate(function: Decorated) -> Decorated:
        for option in reversed(options):
            function = option(function)
        return function
    return decorate


shape_options = stacked(
    click.option("--shape", type=ShapeText(), multiple=True, metavar="1,3,224,224",
                 help="The shape of the input, batch first; again for each further one. Not needed where the file or "
                      "the data tell."),
    click.option("--dtype", type=click.Choice(TYPES), multiple=True, help="The type of the input, float32 by default."))

opening_options = stacked(
    click.option("--epoch", type=click.IntRange(0), help="Which parameters of a checkpoint; the last if not given."),
    click.option("--head", type=click.Choice(["softmax", "logits"]), default="softmax", show_default=True,
                 help="What a classifier of Module puts out: probabilities, or what is before them, to train on."))

network_argument = stacked(click.argument("network", type=NetworkText()), opening_options, shape_options)


exclude_option = click.option("--exclude", multiple=True, metavar="LAYER", help="Leave this layer as it is, or layers "
                              "of this kind; may be given again.")
layer_options = stacked(
    click.option("--select", multiple=True, metavar="LAYER", help="Change only this layer, or layers of this kind "
                 "(Conv2D, Dense); may be given again."),
    exclude_option)

calibration_option = click.option("--calibration-images", type=click.IntRange(1), default=512, show_default=True,
                                  help="How many images the ranges of the activations are found on.")


def chosen_layers(options: Mapping[str, Any]) -> dict[str, Any]:
    """``select`` and ``exclude`` of :data:`layer_options`, as the functions of the library take them."""
    return {"select": list(options["select"]) or None, "exclude": list(options["exclude"])}


def check_criterion_of_weights(criterion: str) -> None:
    """``Refusal`` for a criterion that ranks nothing but channels."""
    if criterion not in OF_WEIGHTS:
        raise Refusal(f"--criterion {criterion} ranks channels; accepted for weights: {', '.join(OF_WEIGHTS)}")


def output_option(what: str, *endings: str, required: bool = True) -> Callable[[Decorated], Decorated]:
    """``--output``: where the result goes, which ends in one of ``endings``."""
    return click.option("-o", "--output", type=Target(*endings), required=required, help=what)


def parse_pairs(text: str) -> tuple[str, dict[str, Any]]:
    """``name,key=value,...`` as (name, {key: value}), values as Python's numbers and truth values where they are such.

    Raises ``ValueError`` for a part that is no ``key=value``.
    """
    name, *parts = text.split(",")
    found: dict[str, Any] = {}
    for part in parts:
        key, equals, value = part.partition("=")
        if not equals or not key.isidentifier():
            raise ValueError(f"{text!r} has the part {part!r}; accepted: key=value")
        lowered = {"true": True, "false": False}.get(value.lower(), value)
        found[key] = int(value) if re.fullmatch(r"-?\d+", value) else lowered
    return name, found
