"""The group of commands, which are imported when they are asked for; errors of the words on the command line."""
from __future__ import annotations

import importlib
import sys
from collections.abc import Sequence
from typing import Any

import click

from ..starting import COMMAND
from .completion import register
from .failures import INTERRUPTED, USAGE, tell

COMMANDS = ("inspect", "prune", "sensitivity", "quantize", "distill", "compress", "export", "evaluate", "bench",
            "params", "runtime")  # in the order in which they are used
SETTINGS = {"help_option_names": ["-h", "--help"], "max_content_width": 100}


class Group(click.Group):
    """Commands that are imported when they are asked for."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        return list(COMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        if cmd_name not in COMMANDS:
            return None
        return getattr(importlib.import_module(f".{cmd_name}", __package__), cmd_name)

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """Each with the whole first sentence of its page, of which click would show the beginning."""
        pages = {name: self.get_command(ctx, name) for name in self.list_commands(ctx)}
        with formatter.section("Commands"):
            formatter.write_dl([(name, page.get_short_help_str(limit=1000)) for name, page in pages.items() if page])

    def main(self, args: Sequence[str] | None = None, prog_name: str | None = None,  # type: ignore[override]
             standalone_mode: bool = True, **further: Any) -> Any:
        register()
        try:
            code = super().main(args, prog_name or COMMAND, standalone_mode=False, **further)
        except click.UsageError as error:
            place = error.ctx.command_path if error.ctx else COMMAND
            tell(f"error: {error.format_message()} (see {place} --help)", sys.stderr)
            code = USAGE
        except click.Abort:
            code = INTERRUPTED
        if standalone_mode:
            sys.exit(code if isinstance(code, int) else 0)
        return code


def show_version(ctx: click.Context, parameter: click.Parameter, value: bool) -> None:
    if value:
        import gluon_compress as gc

        click.echo(f"{COMMAND} {gc.__version__}")
        ctx.exit()


@click.group(cls=Group, context_settings=SETTINGS, no_args_is_help=False)
@click.option("--version", is_flag=True, is_eager=True, expose_value=False, callback=show_version,
              help="Show the version and exit.")
def main() -> None:
    """Make networks of Apache MXNet / Gluon smaller and faster, and bring them out of MXNet.

    \b
    A network is written as
      model                    a checkpoint: model-symbol.json with model-0000.params
      model-0003.params        ... of this epoch; also model-symbol.json
      graph.json+net.params    a graph and parameters whose names do not belong together
      small.gcz                a file of this package
      model.tar.gz             an archive of SageMaker, or a folder or archive that holds one checkpoint
      zoo:resnet50_v1          Gluon's or gluoncv's, with ImageNet's parameters (zoo:resnet50_v1,pretrained=false)
      params:lenet_mnist       one of the trained networks of this package: gluon-compress params
      package.module:function  what your function returns, called without arguments (+net.params: with parameters)
      small.onnx               in ONNX Runtime or OpenVINO: evaluate and bench (openvino:small.onnx)

    \b
    Examples:
      gluon-compress inspect model --shape 1,1,28,28
      gluon-compress prune model --shape 1,1,28,28 --ratio 0.5 --output small.gcz
      gluon-compress export small.gcz --shape 1,1,28,28 --output small.onnx

    Exit codes: 0 done; 1 it could not be done; 2 the command line or the recipe is wrong; 130 Ctrl-C; 141 the
    reader of the output has closed it. Errors are one line on standard error: "gluon-compress: error: ...".

    \b
    Completion of commands, options and names (zsh, fish: zsh_source, fish_source):
      eval "$(_GLUON_COMPRESS_COMPLETE=bash_source gluon-compress)"
    """
