"""Figures: a network drawn as its channels, names at the ends of lines, and figures in notebooks, where they stand
below the cell that wrote them.
"""
import sys

import numpy as np
from matplotlib.collections import LineCollection

_registered = []  # [(event, function)]: a cell that is run again starts anew


def draw_network(axes, channels, kept=()):
    """A column of marks for each layer of {name: channels}, a line from each channel to each of the next layer's.

    ``kept`` is {name: indices} for layers that have lost channels: these are drawn empty and without lines.
    """
    axes.axis("off")
    places = {name: np.linspace(0, 1, count + 2)[1:-1] for name, count in channels.items()}
    kept = {name: np.arange(count) for name, count in channels.items()} | dict(kept)
    names = list(channels)
    for x, (name, after) in enumerate(zip(names, names[1:])):
        lines = [[(x, start), (x + 1, end)] for start in places[name][kept[name]] for end in places[after][kept[after]]]
        axes.add_collection(LineCollection(lines, color="black", linewidth=0.2, alpha=0.3, zorder=1))
    for x, name in enumerate(names):
        full = np.isin(np.arange(channels[name]), kept[name])
        size = min(40, 1500 / channels[name])
        axes.scatter(np.full(full.sum(), x), places[name][full], size, color="C0", zorder=2)
        axes.scatter(np.full((~full).sum(), x), places[name][~full], size, facecolor="white", edgecolor="C3", zorder=2)
        axes.text(x, -0.05, f"{name}\n{full.sum()}", ha="center", va="top")


def label_ends(axes, ends, gap=0.034):
    """Write names beside the ends of lines, {name: (x, y)}, moved apart where they would lie on each other.

    Call it when limits and scales of the axes are set. ``gap`` is the least distance, as a fraction of their height.
    """
    names = sorted(ends, key=lambda name: ends[name][1])
    to_fractions = axes.transData + axes.transAxes.inverted()
    x, heights = to_fractions.transform([ends[name] for name in names]).T
    for _ in range(100):  # neighbours that are too near push each other away
        missing = np.clip(gap - np.diff(heights), 0, None) / 2
        heights[:-1] -= missing
        heights[1:] += missing
    for name, left, height in zip(names, x, heights):
        axes.annotate(name, ends[name], (left + 0.04, height), textcoords="axes fraction", fontsize="x-small",
                      va="center", arrowprops={"arrowstyle": "-", "linewidth": 0.4, "color": "gray"})


def show_in_notebook(folder, pattern="*.png"):
    """Whenever a cell has run, display the figures that it wrote.

    These are the files in ``folder`` whose names match ``pattern`` and that are new or were written anew; another
    tutorial may run at the same time, and write others.
    """
    shell = sys.modules["IPython"].get_ipython() if "IPython" in sys.modules else None
    if shell is None:
        return
    before = {}

    def times():
        return {file: file.stat().st_mtime_ns for file in folder.glob(pattern)}

    def remember(_):
        before.clear()
        before.update(times())

    def show(_):
        from IPython.display import Image, display
        for file in sorted((file for file, time in times().items() if before.get(file) != time), key=times().get):
            display(Image(filename=str(file)))
    remember(None)
    # a cell that ends in plot_curves(...) shows the figure alone, not where it is
    shell.display_formatter.formatters["text/plain"].for_type(
        type(folder), lambda path, printer, _: printer.text("" if path.parent == folder else repr(path)))
    while _registered:
        shell.events.unregister(*_registered.pop())
    _registered.extend([("pre_run_cell", remember), ("post_run_cell", show)])
    for event, function in _registered:
        shell.events.register(event, function)
