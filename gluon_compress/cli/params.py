"""``gluon-compress params``: the trained networks of this package."""
from __future__ import annotations

import click

from .command import command
from .options import trained_names
from .run import Run

TEST_IMAGES = 10_000  # of each data set on which they were trained


class TrainedName(click.ParamType):
    """The name of a trained network."""

    name = "name"

    def shell_complete(self, ctx: click.Context, param: click.Parameter,
                       incomplete: str) -> list[click.shell_completion.CompletionItem]:
        return [click.shell_completion.CompletionItem(name) for name in trained_names() if name.startswith(incomplete)]


@command
@click.argument("names", nargs=-1, type=TrainedName())
def params(run: Run, names: tuple[str, ...]) -> None:
    """List the trained networks of this package, or fetch the files of NAMES, verified by SHA-256.

    A file that is neither in a checkout nor in the cache is downloaded from $GLUON_COMPRESS_PARAMS_URL.

    \b
    Examples:
      gluon-compress params
      gluon-compress params lenet_mnist
      gluon-compress prune params:lenet_mnist --ratio 0.5 --output small.gcz
    """
    import gluon_compress as gc

    entries = gc.params.manifest()
    if names:
        paths = {name: str(gc.params.path(name)) for name in names}
        run.give(paths=paths)
        for name, path in paths.items():
            run.show(f"{path}: {entries[name]['bytes']:,} bytes, verified")
        return
    from ..measuring.units import dimensions, percent
    from ..tables import format_table
    rows = [(name, entry["network"], dimensions(entry["input_shape"]), f"{entry['bytes']:,}",
             percent(entry["test_accuracy"], 2), f"{TEST_IMAGES:,} images of {entry['dataset']}:test")
            for name, entry in sorted(entries.items())]
    run.give(networks={name: {**entry, "test_images": TEST_IMAGES} for name, entry in entries.items()})
    run.show(format_table(("name", "network", "input", "bytes", "test accuracy", "on"), rows))
    run.show("\nAs a network: params:NAME")
