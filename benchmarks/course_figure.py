"""One figure of all techniques of the course: what each does to the file, to the time and to the accuracy.

    python benchmarks/course_figure.py         # from the tutorials' long results; measures nothing

Every point is a row of a tutorial's table, beside the network that it is compared with there.
"""
import json
from pathlib import Path

import click

import gluon_compress  # noqa: F401  before mxnet, which files needs
from gluon_compress.files.writing import write_atomically
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter, LogLocator, NullFormatter

RESULTS = Path(__file__).resolve().parent / "results"
COLOURS = {"single weights pruned": "C0", "channels pruned": "C1", "weights as integers": "C2",
           "all on integers": "C3", "distilled": "C4"}
# the row that the others of a tutorial are compared with, and these: (how its name begins, technique)
POINTS = {
    "01": ("LeNet, unpruned", [("... survivors trained", "single weights pruned"),
                               ("survivors trained, and 8-bit", "weights as integers")]),
    "02": ("AlexNet, as trained", [("AlexNet, 8 bits, a scale", "weights as integers"),
                                   ("AlexNet, 8 bits, on integers", "all on integers"),
                                   ("AlexNet, 3 bits, trained", "weights as integers")]),
    "03": ("ResNet-18, the teacher", [("half of the teacher, distilled", "distilled"),
                                      ("SmallConvNet, distilled, and features", "distilled")]),
    "04": ("SimpleCNN, unpruned", [("80 % pruned, fine-tuned", "single weights pruned"),
                                   ("80 % pruned, fine-tuned, and 8-bit", "weights as integers")]),
    "05": ("SimpleCNN, unpruned", [("40 % of the channels, fine-tuned", "channels pruned"),
                                   ("40 % of the channels, fine-tuned, and 8-bit", "weights as integers")]),
    "06": ("ResNet-18, unpruned", [("... and fine-tuned", "channels pruned"),
                                   ("... and 8-bit weights", "weights as integers")]),
    "07": ("ResNet-18, fp32", [("... on integers", "all on integers")]),
    "09": ("Module's network, unpruned", [("Module's network, half", "channels pruned"),
                                          ("Module's network, ... and on integers", "all on integers")])}


def changes():
    """[(tutorial, technique, share of the bytes, of the time, points of accuracy)] beside the compared network."""
    found = []
    for tutorial, (compared, points) in POINTS.items():
        file, = RESULTS.glob(f"{tutorial}_*.json")
        rows = json.loads(file.read_text())["rows"]
        before = row_of(rows, compared)
        for start, technique in points:
            after = row_of(rows, start)
            found.append((tutorial, technique, after["bytes"] / before["bytes"],
                          after["milliseconds"] / before["milliseconds"],
                          100 * (after["accuracy"] - before["accuracy"])))
    return found


def row_of(rows, start):
    """The first row whose name begins with ``start``."""
    return next(row for row in rows if row["network"].startswith(start))


def draw(path):
    """Two panels, the share of the bytes and of the time to the right, and the points of accuracy upwards."""
    figure = Figure(figsize=(10, 4.4), layout="constrained")
    panels = figure.subplots(1, 2, sharey=True)
    for technique, colour in COLOURS.items():
        panels[0].scatter([], [], 40, color=colour, label=technique)
    for tutorial, technique, bytes_left, time_left, accuracy in changes():
        for axes, share in zip(panels, (bytes_left, time_left)):
            axes.scatter([share], [accuracy], 40, color=COLOURS[technique])
            axes.annotate(tutorial, (share, accuracy), xytext=(5, 3), textcoords="offset points", fontsize="x-small")
    for axes, what in zip(panels, ("bytes of the file", "time of a forward pass")):
        axes.set(xscale="log", xlabel=f"share of the {what}: further left is better")
        axes.set_yscale("symlog", linthresh=1)
        axes.set(yticks=[-20, -10, -5, -2, -1, -0.5, 0], ylim=(-50, 0.6))
        axes.axhline(0, color="black", linewidth=0.8, linestyle=":")
        axes.axvline(1, color="black", linewidth=0.8, linestyle=":")
        axes.xaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
        for axis in (axes.xaxis, axes.yaxis):
            axis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
            axis.set_minor_formatter(NullFormatter())
        axes.grid(alpha=0.3)
    panels[0].set_ylabel("points of accuracy beside the compared network")
    figure.legend(loc="outside lower center", ncols=len(COLOURS), fontsize="small")
    write_atomically(path, lambda temporary: figure.savefig(temporary, dpi=120, format="png"))


@click.command(help=__doc__.split("\n")[0])
def main():
    draw(RESULTS / "course.png")
    click.echo(f"Made: {RESULTS / 'course.png'}")


if __name__ == "__main__":
    main()
