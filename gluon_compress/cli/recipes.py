"""Recipes: YAML files that hold what the options say, and what was read and made when they were written."""
from __future__ import annotations

import hashlib
import os
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import click

from ..starting import COMMAND

RECIPE_END = ".recipe.yaml"
NOT_KEPT = ("recipe", "json", "quiet", "verbose", "debug", "force", "dry_run", "help")  # of a run, not of its result
MADE = "run"  # the key of what was read and made
RECIPE_BYTES = 1 << 20
_CHECK_NAME = "gluon_compress.recipe"  # in click's context


def use_recipe(ctx: click.Context, parameter: click.Parameter, path: str | None) -> str | None:
    """Let the options of a recipe stand for those that the command line does not give."""
    if path:
        recipe = read_recipe(path, ctx)
        ctx.meta[_CHECK_NAME] = path, recipe.pop(MADE, None)
        ctx.default_map = {**(ctx.default_map or {}), **recipe}
    return path


def read_recipe(path: str, ctx: click.Context) -> dict[str, Any]:
    """{parameter: value} of a recipe for the command of ``ctx``, checked; ``UsageError`` naming the key otherwise."""
    recipe = _mapping(path)
    command = recipe.pop("command", ctx.command.name)
    if command != ctx.command.name:
        raise click.UsageError(f"{path} is a recipe for {command!r}; accepted: one for {ctx.command.name!r}", ctx)
    known = {parameter.name: parameter for parameter in ctx.command.params if parameter.name not in NOT_KEPT}
    found: dict[str, Any] = {}
    for key, value in recipe.items():
        name = str(key).replace("-", "_")
        if name == MADE:
            found[name] = value
        elif name not in known:
            from ..arguments import nearest
            accepted = [str(each).replace("_", "-") for each in known]
            raise click.UsageError(f"{path} has the key {key!r}, which {ctx.command.name} does not know; "
                                   f"{nearest(str(key), accepted, most=40)}", ctx)
        elif value is not None:
            found[name] = _checked(path, str(key), value, known[name], ctx)
    return found


def _mapping(path: str) -> dict[str, Any]:
    import yaml

    try:
        with open(path, encoding="utf-8") as file:
            text = file.read(RECIPE_BYTES + 1)
        if len(text) > RECIPE_BYTES:
            raise click.UsageError(f"{path} is longer than {RECIPE_BYTES:,} characters; accepted: a recipe")
        recipe = yaml.safe_load(text)
    except OSError as error:
        raise click.UsageError(f"{path}: {error.strerror}; accepted: a recipe in YAML") from error
    except (yaml.YAMLError, UnicodeDecodeError, RecursionError) as error:
        mark = getattr(error, "problem_mark", None)
        place = f", line {mark.line + 1}: {getattr(error, 'problem', '')}" if mark else f" ({type(error).__name__})"
        raise click.UsageError(f"{path} is no YAML{place}; accepted: lines such as 'ratio: 0.5'") from error
    if not isinstance(recipe, dict):
        raise click.UsageError(f"{path} holds a {type(recipe).__name__}; accepted: lines such as 'ratio: 0.5'")
    return recipe


def _checked(path: str, key: str, value: Any, parameter: click.Parameter, ctx: click.Context) -> Any:
    """The value of a key, if the option takes it."""
    def wrong(reason: str) -> click.UsageError:
        return click.UsageError(f"{path}: {key} is {value!r}; {reason}", ctx)
    several = parameter.multiple or parameter.nargs != 1
    flag = getattr(parameter, "is_flag", False)
    values = value if isinstance(value, list) else [value]
    if isinstance(value, list) and not several:
        raise wrong("accepted: one value, not a list")
    if any(isinstance(each, (dict, list)) for each in values):
        raise wrong("accepted: a number, a text or true and false, as on the command line")
    if not flag and any(isinstance(each, bool) for each in values):
        raise wrong("accepted: what the command line takes (put yes, no, on, off in quotes)")
    if flag and not isinstance(value, bool):
        raise wrong("accepted: true or false")
    given = [str(each) if isinstance(each, (int, float)) and not flag else each for each in values]
    try:
        parameter.type_cast_value(ctx, given if several else given[0])
    except click.BadParameter as error:
        raise wrong(f"accepted: {_accepted(parameter)} ({error.message})") from error
    return given if several else given[0]


def _accepted(parameter: click.Parameter) -> str:
    kind = parameter.type
    if isinstance(kind, click.Choice):
        return ", ".join(map(str, kind.choices))
    return {"integer": "an integer", "float": "a number", "integer range": "an integer", "float range": "a number"
            }.get(kind.name, f"a {kind.name}")


def changed_inputs(ctx: click.Context, read: Mapping[str, str]) -> list[str]:
    """The files among ``read``, {path: SHA-256}, that are not those with which the recipe was written."""
    _, made = ctx.meta.get(_CHECK_NAME, (None, None))
    before = made.get("inputs") if isinstance(made, dict) else None
    if not isinstance(before, dict):
        return []
    return [path for path, digest in read.items() if before.get(path, digest) != digest]


def write_recipe(path: Path, command: str, options: Mapping[str, Any], made: Mapping[str, Any]) -> None:
    """Write a recipe that repeats a run."""
    import yaml

    from ..files.writing import write_text
    kept = {name.replace("_", "-"): list(value) if isinstance(value, tuple) else value
            for name, value in options.items() if name not in NOT_KEPT and value is not None and value != ()}
    recipe = {"command": command, **kept, MADE: dict(made)}
    targets = "".join(f" --{name} ANOTHER" for name in ("output", "html", "plot") if options.get(name))
    text = (f"# repeat with: {COMMAND} {command} --recipe {path.name}{targets}\n" +
            yaml.safe_dump(recipe, sort_keys=False, allow_unicode=True, width=120))
    write_text(path, text)


def versions() -> dict[str, str]:
    """{package: version} of what a result may depend on."""
    import mxnet
    import numpy

    import gluon_compress as gc

    return {"gluon_compress": gc.__version__, "mxnet": mxnet.__version__, "numpy": numpy.__version__,
            "python": sys.version.split()[0]}


def digest_of(path: str | os.PathLike[str]) -> str:
    """The SHA-256 of a file; of a folder, that of the names and the SHA-256 of all files in it."""
    from ..files.locks import sha256_of

    place = Path(path)
    if not place.is_dir():
        return sha256_of(place)
    digest = hashlib.sha256()
    for file in sorted(each for each in place.rglob("*") if each.is_file()):
        digest.update(f"{file.relative_to(place).as_posix()}\0{sha256_of(file)}\n".encode("utf-8", "surrogateescape"))
    return digest.hexdigest()
