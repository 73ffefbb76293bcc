"""What all commands have in common: their options, and how they run, succeed and fail."""
from __future__ import annotations

import os
from collections.abc import Callable
from typing import Any

import click

from .failures import code_of, report_failure
from .options import Target
from .recipes import use_recipe
from .run import Run, pass_run
from .surroundings import surroundings


def common_options(writes: bool) -> list[click.Option]:
    """The options that ``@command`` adds; some are only for commands that write."""
    recipe = click.Option(["--recipe"], type=click.Path(dir_okay=False), is_eager=True, callback=use_recipe,
                          metavar="FILE",
                          help="A YAML file with options and their values; those on the command line win.")
    writing = [
        click.Option(["--force"], is_flag=True, help="Overwrite files that are there."),
        click.Option(["--dry-run"], is_flag=True, help="Say what would happen, and write nothing.")]
    return [recipe, *(writing if writes else []),
            click.Option(["--json"], is_flag=True, help="The result as JSON, alone on standard output."),
            click.Option(["--quiet"], is_flag=True, help="No notes, no progress."),
            click.Option(["--verbose"], is_flag=True, help="Show what MXNet and Python print, and their warnings."),
            click.Option(["--debug"], is_flag=True,
                         help="When the command fails, show the traceback and what MXNet printed.")]


class Command(click.Command):
    """A command whose errors are one line, and whose output is nothing but its own."""

    def __init__(self, name: str | None, **attributes: Any) -> None:
        own = attributes.pop("params", None) or []
        writes = any(isinstance(parameter.type, Target) for parameter in own)
        super().__init__(name, params=[*own, *common_options(writes)], **attributes)

    def invoke(self, ctx: click.Context) -> Any:
        given = dict(ctx.params)
        taken = {name: ctx.params.pop(name, False) for name in ("json", "quiet", "force", "dry_run", "verbose",
                                                                "debug", "recipe")}
        names = tuple(option.name for option in self.params if isinstance(option, click.Option) and option.name)
        run = Run(self.name or "", given, taken["json"], taken["quiet"], taken["force"], taken["dry_run"], names=names)
        ctx.obj = run
        with surroundings(taken["verbose"], run.quiet, run.note) as run.streams:
            try:
                self._run(ctx, run)
                return 0
            except (Exception, KeyboardInterrupt) as error:  # whatever it is, the user gets one line and a code
                if isinstance(error, click.UsageError):
                    raise
                log = run.streams.log() if taken["debug"] and code_of(error) == 1 else ""
                return report_failure(error, run.streams.messages, taken["debug"], log, run.names)

    def _run(self, ctx: click.Context, run: Run) -> None:
        from ..starting import import_all

        if threads := ctx.params.get("threads"):
            os.environ["OMP_NUM_THREADS"] = str(threads)  # which MXNet reads when it is imported
        import_all()
        super().invoke(ctx)
        run.finish(ctx)


def command(function: Callable[..., None]) -> click.Command:
    """Make a command of a function; its first argument is the :class:`Run`."""
    return click.command(function.__name__, cls=Command)(pass_run(function))
