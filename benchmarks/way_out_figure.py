"""The figure of way_out.py: where each system lies between slow and fast, accurate or not."""
from itertools import product

from gluon_compress.files.writing import write_atomically
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.ticker import FuncFormatter, LogLocator, NullFormatter

COLOURS = {"MXNet as installed": "#8a8a8a", "MXNet with gluon_compress": "#d1495b", "ONNX Runtime": "#2e7d4f",
           "OpenVINO": "#1f5fa8", "OpenVINO with NNCF": "#e08e0b"}
MARKERS = {"dense": ("o", False), "pruned": ("s", False), "dense int8": ("o", True), "pruned int8": ("s", True)}
LABELS = {"dense": "dense, fp32", "pruned": "pruned to half the MACs, fp32", "dense int8": "dense, int8",
          "pruned int8": "pruned and int8"}
COMPARED = ("OpenVINO with NNCF, dense int8", "OpenVINO, pruned int8")
BATCH = 8
SIZE = 46


def draw(results, titles, path):
    """One panel per network: milliseconds for a batch to the right, accuracy, or the runtimes, upwards."""
    names = [name for name in titles if name in results and str(BATCH) in results[name]["times"]]
    figure = Figure(figsize=(9, 1.6 + 3.4 * len(names)), facecolor="white", layout="constrained")
    for axes, name in zip(figure.subplots(len(names), 1, squeeze=False)[:, 0], names):
        measured = results[name].get("accuracy", {}).keys() >= results[name]["times"][str(BATCH)].keys()
        (accuracy_panel if measured else macs_panel)(axes, results[name])
        axes.set_title(titles[name], loc="left", fontweight="bold")
        time_axis(axes)
    legend(figure)
    write_atomically(path, lambda temporary: figure.savefig(temporary, dpi=130, format="png"))


def time_axis(axes):
    axes.set_xscale("log")
    axes.xaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
    axes.set_xlabel(f"milliseconds for a batch of {BATCH} (log scale): further left is faster")
    axes.xaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
    axes.xaxis.set_minor_formatter(NullFormatter())
    axes.grid(axis="x", color="#e6e6e6", linewidth=0.6)
    axes.set_axisbelow(True)
    for side in ("top", "right"):
        axes.spines[side].set_visible(False)


def point(axes, row, height, runtime, form):
    marker, filled = MARKERS[form]
    colour = COLOURS[runtime]
    low, middle, high = row["lower_quartile_ms"], row["median_ms"], row["upper_quartile_ms"]
    axes.plot([low, high], [height, height], color=colour, linewidth=1)
    axes.scatter([middle], [height], SIZE, marker=marker, facecolor=colour if filled else "white", edgecolor=colour,
                 linewidth=1.6, zorder=3)
    return middle


def accuracy_panel(axes, result):
    """Each system where its time and its accuracy are; fp32 and int8 of a network in one runtime are connected."""
    for runtime, start in product(COLOURS, ("dense", "pruned")):
        forms = [form for form in forms_of(result, runtime) if form.startswith(start)]
        heights = [100 * result["accuracy"][f"{runtime}, {form}"] for form in forms]
        times = [point(axes, time_of(result, runtime, form), height, runtime, form)
                 for form, height in zip(forms, heights)]
        axes.plot(times, heights, color=COLOURS[runtime], linewidth=0.8, alpha=0.35, zorder=1)
    theirs, ours = (100 * result["accuracy"][name] for name in COMPARED)
    compare(axes, result, theirs, ours)
    axes.set_ylabel("test accuracy, %")
    low, high = axes.get_ylim()
    axes.set_ylim(low - 0.1 * (high - low), high + 0.12 * (high - low))
    axes.grid(axis="y", color="#e6e6e6", linewidth=0.6)


def macs_panel(axes, result):
    """Two bands, the MACs of the dense and of the pruned form; in each a lane per runtime, from fp32 to int8."""
    ticks = []
    for base, form in ((len(COLOURS) + 1, "dense"), (0, "pruned")):
        for lane, runtime in enumerate(reversed(COLOURS)):
            forms = [each for each in forms_of(result, runtime) if each.startswith(form)]
            times = [point(axes, time_of(result, runtime, each), base + lane, runtime, each) for each in forms]
            axes.plot(times, [base + lane] * len(times), color=COLOURS[runtime], linewidth=0.8, alpha=0.35, zorder=1)
            axes.annotate(f"{min(times):.3g}", (min(times), base + lane), (0, 5), textcoords="offset points",
                          ha="center", va="bottom", fontsize=7, color=COLOURS[runtime])
        macs = result["macs"][form]
        ticks.append((base + (len(COLOURS) - 1) / 2, f"{form}\n{macs / 1e6:,.0f} million\nMACs"))
    compare(axes, result, len(COLOURS) + 1, 1)
    axes.set_yticks(*zip(*ticks))
    axes.tick_params(axis="y", length=0)
    axes.axhline(len(COLOURS), color="#bbbbbb", linewidth=0.8)


def compare(axes, result, theirs, ours):
    """An arrow from NNCF's dense int8 in OpenVINO, at the height ``theirs``, to our pruned int8 there."""
    start, end = (result["times"][str(BATCH)][name]["median_ms"] for name in COMPARED)
    axes.annotate("", (end, ours), (start, theirs), zorder=2, arrowprops={
        "arrowstyle": "-|>", "color": "#222222", "linewidth": 1.1, "shrinkA": 6, "shrinkB": 6})
    share = 0.12  # near the arrow's start there are no other labels
    place = start ** (1 - share) * end ** share, theirs + share * (ours - theirs)
    axes.annotate(f"{start / end:.2f} times as fast", place, (-8, 0), textcoords="offset points", ha="right",
                  va="center", fontsize=9, color="#222222")


def forms_of(result, runtime):
    return [form for form in MARKERS if f"{runtime}, {form}" in result["times"][str(BATCH)]]


def time_of(result, runtime, form):
    return result["times"][str(BATCH)][f"{runtime}, {form}"]


def legend(figure):
    """Colours are runtimes, shapes the forms."""
    colours = [Line2D([], [], color=colour, linewidth=4, label=runtime) for runtime, colour in COLOURS.items()]
    shapes = [Line2D([], [], linestyle="", marker=marker, color="#333333", markersize=7, label=LABELS[form],
                     markerfacecolor="#333333" if filled else "white") for form, (marker, filled) in MARKERS.items()]
    figure.legend(handles=colours, loc="outside upper left", ncols=1, frameon=False, title="colour: runtime")
    figure.legend(handles=shapes, loc="outside upper right", ncols=1, frameon=False, title="shape: network")
