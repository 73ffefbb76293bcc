"""Figures for tutorials and READMEs, written as PNG files. Nothing here touches matplotlib's global state."""
from __future__ import annotations

import math
import numbers
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from ..arguments import check_flag, check_text, shown
from ..errors import not_importable
from ..files.paths import check_target
from ..files.writing import write_atomically
from ..pruning import Sensitivity
from ..quantization import QuantizationRecord
from ..quantization.arithmetic.arrays import as_numpy
from .comparison import are_accuracies
from .reports import Report

LEGEND_ROWS = 30
MANY_CURVES = 3
MANY_VALUES = 1024  # lines that a figure can show


def plot_before_after(values: Mapping[str, Any], path: str | Path, ylabel: str | None = None,
                      title: str | None = None) -> Path:
    """Write a bar chart that compares networks, and return its path.

    Parameters
    ----------
    values : dict
        {name: number} gives one chart. {name: Report} gives a chart for each quantity that all the
        reports have: parameters, nonzeros, MACs, bytes, milliseconds.
    path : str or Path
        Ends in ``.png``; an older file is replaced only by a complete new one.
    ylabel, title : str, optional

    Raises
    ------
    ValueError
        When there are no values, for numbers that are not finite, and for another kind of file.
    TypeError
        For values that are neither all numbers nor all reports.
    ImportError
        When matplotlib is not installed.
    """
    _check_texts(ylabel=ylabel, title=title)
    _check_dict("values", values, "a dict of names and numbers, or of names and reports")
    if all(isinstance(value, Report) for value in values.values()):
        quantities = {name: report.quantities() for name, report in values.items()}
        charts = {what: {name: numbers[what] for name, numbers in quantities.items()}
                  for what in next(iter(quantities.values()))
                  if all(numbers[what] is not None for numbers in quantities.values())}
    else:
        charts = {ylabel: dict(values)}
    for bars in charts.values():
        for name, value in bars.items():
            _check_finite(f"values[{name!r}]", value)

    def draw(figure: Any) -> None:
        for axes, (what, bars) in zip(figure.subplots(1, len(charts), squeeze=False)[0], charts.items()):
            drawn = axes.bar(list(bars), list(bars.values()), color=[f"C{index % 10}" for index in range(len(bars))])
            axes.bar_label(drawn, [f"{value:,.4g}" if isinstance(value, float) else f"{value:,}"
                                   for value in bars.values()], fontsize="small")
            axes.set_ylabel(what or "")
            axes.margins(y=0.12)
            axes.tick_params(axis="x", labelrotation=20)
        if title:
            figure.suptitle(title)
    return _save(path, draw, size=(max(3.2, 0.9 * len(values) + 1.2) * len(charts), 3.6))


def plot_curves(curves: Mapping[str, Sequence], path: str | Path, xlabel: str, ylabel: str,
                title: str | None = None, log: bool = False) -> Path:
    """Write a line chart, and return its path.

    Parameters
    ----------
    curves : dict
        {label: [(x, y), ...]}, each drawn in the order given.
    path : str or Path
        As for :func:`plot_before_after`; so are the errors.
    xlabel, ylabel : str
    title : str, optional
    log : bool
        Put y on a log axis, which all y must then be above zero for: where curves lie close together near zero, as
        errors do.
    """
    _check_texts(title=title)
    check_flag("log", log)
    check_text("xlabel", xlabel)
    check_text("ylabel", ylabel)
    _check_dict("curves", curves, "a dict of labels and lists of (x, y)")
    for label, points in curves.items():
        _check_points(f"curves[{label!r}]", points)
        lowest = min(y for _, y in points)
        if log and lowest <= 0:
            raise ValueError(f"curves[{label!r}] has y = {lowest}; accepted with log=True: numbers above 0")

    def draw(figure: Any) -> None:
        axes = figure.subplots()
        for label, points in curves.items():
            axes.plot([x for x, _ in points], [y for _, y in points], marker="o", markersize=3, label=label)
        axes.set(xlabel=xlabel, ylabel=ylabel, title=title or "")
        if all(float(x).is_integer() for points in curves.values() for x, _ in points):  # epochs, bits
            axes.xaxis.get_major_locator().set_params(integer=True)
        if log:
            _log_axis(axes)
        axes.grid(alpha=0.3)
        if len(curves) > MANY_CURVES:  # inside, the legend would hide some
            figure.legend(loc="outside lower center", ncols=2, fontsize="small")
        else:
            axes.legend()
    return _save(path, draw, size=(6.4, 4 + 0.1 * max(0, len(curves) - MANY_CURVES)))


def plot_sensitivity(sensitivity: Sensitivity, path: str | Path, title: str | None = None) -> Path:
    """Write one curve per layer of a :class:`~gluon_compress.pruning.Sensitivity`, and return the chart's path.

    The error, 1 - accuracy, is on a log axis, so that small losses can be told apart beside large ones. Colours go from
    the first layer (blue) to the last (red); the legend stands beside the chart, so that networks of many layers stay
    legible. The dashed black line is the network as it is. What is no accuracy in [0, 1] is drawn as it was measured.

    Parameters
    ----------
    sensitivity : Sensitivity
    path : str or Path
        As for :func:`plot_before_after`; so are the errors.
    title : str, optional
    """
    _check_kind("sensitivity", sensitivity, Sensitivity)
    _check_texts(title=title)
    curves = sensitivity.curves
    if not curves:
        raise ValueError("the sensitivity has no curves")
    for name, curve in curves.items():
        for value in (sensitivity.baseline, *curve.values()):
            _check_finite(f"accuracy of {name}", value)
    columns = math.ceil(len(curves) / LEGEND_ROWS)
    heights, log = _heights(sensitivity), are_accuracies(sensitivity)
    what = "sparsity of the layer" if sensitivity.kind == "weights" else "fraction of the layer's channels removed"

    def draw(figure: Any) -> None:
        from matplotlib import colormaps
        axes = figure.subplots()
        axes.axhline(next(iter(heights.values()))[0], color="black", linewidth=0.8, linestyle="--")
        for index, (name, curve) in enumerate(curves.items()):
            axes.plot([0.0, *sorted(curve)], heights[name], label=name, markersize=3.5, marker="osD^v"[index % 5],
                      linewidth=1.2, linestyle=("-", "--", ":", "-.")[index % 4],
                      color=colormaps["turbo"](0.05 + 0.9 * index / max(len(curves) - 1, 1)))
        axes.set(xlabel=what, ylabel="error (1 - accuracy)" if log else "what was measured", title=title or "")
        if log:
            _log_axis(axes)
        axes.grid(alpha=0.3)
        axes.legend(fontsize="x-small", ncols=columns, loc="upper left", bbox_to_anchor=(1.01, 1))
    legend_width = columns * (0.6 + 0.07 * max(map(len, curves)))  # inches, for names in this font
    return _save(path, draw, size=(6.4 + legend_width, max(4, 0.18 * min(len(curves), LEGEND_ROWS))))


def _heights(sensitivity: Sensitivity) -> dict[str, list[float]]:
    """{name: y of a curve from the network as it is on}: errors above zero, or else what was measured."""
    found = {name: [sensitivity.baseline or 0.0, *(curve[fraction] for fraction in sorted(curve))]
             for name, curve in sensitivity.curves.items()}
    if not are_accuracies(sensitivity):
        return found
    # an error of zero has no place on a log axis: it stands at half of the smallest other one
    floor = min((1 - value for values in found.values() for value in values if value < 1), default=1.0) / 2
    return {name: [max(1 - value, floor) for value in values] for name, values in found.items()}


def plot_quantization(record: QuantizationRecord, path: str | Path, title: str | None = None) -> Path:
    """Write the signal-to-noise ratio of each layer of a ``QuantizationRecord`` as bars, and return the chart's path.

    Layers that stay in fp32 are named in grey, without a bar.

    Parameters
    ----------
    record : QuantizationRecord
    path : str or Path
        As for :func:`plot_before_after`; so are the errors.
    title : str, optional
    """
    _check_kind("record", record, QuantizationRecord)
    _check_texts(title=title)
    if not record.layers:
        raise ValueError("the record has no layers on integers")
    for name, layer in record.layers.items():
        _check_finite(f"SNR of {name}", layer["snr"])
    names = [*record.layers, *record.left_out]

    def draw(figure: Any) -> None:
        axes = figure.subplots()
        axes.barh(range(len(record.layers)), [layer["snr"] for layer in record.layers.values()], color="C0")
        for index, reason in enumerate(record.left_out.values(), len(record.layers)):
            axes.text(0.5, index, f"fp32: {reason}", va="center", fontsize="x-small", color="grey")
        axes.set_yticks(range(len(names)), names, fontsize="x-small")
        axes.invert_yaxis()
        axes.set(xlabel="signal-to-noise ratio of the layer's output, dB", title=title or "")
        axes.grid(axis="x", alpha=0.3)
    return _save(path, draw, size=(7, max(2.5, 0.17 * len(names) + 1)))


def plot_codebooks(stages: Mapping[str, Any], path: str | Path, original: Any = None, title: str | None = None) -> Path:
    """Write how many weights of a layer have each of the values that they share, and return the chart's path.

    Each stage, such as before and after the centroids were trained, is a row of lines, one for each value, as high as
    its weights are many; zeros are left out. Han, Mao & Dally, "Deep Compression", 2016, figures 5 and 6.

    Parameters
    ----------
    stages : dict
        {label: array of the layer's weights}, of at most 1024 different values.
    path : str or Path
        As for :func:`plot_before_after`; so are the errors.
    original : array, optional
        The weights before they were shared, drawn as a histogram in grey.
    title : str, optional
    """
    _check_texts(title=title)
    _check_dict("stages", stages, "a dict of labels and arrays of weights")
    found = {label: np.unique(_nonzero(f"stages[{label!r}]", weights), return_counts=True)
             for label, weights in stages.items()}
    for label, (values, _) in found.items():
        if len(values) > MANY_VALUES:
            raise ValueError(f"stages[{label!r}] has {len(values)} different values; accepted: {MANY_VALUES} at most, "
                             f"as shared weights have")
    background = None if original is None else _nonzero("original", original)

    def draw(figure: Any) -> None:
        axes = figure.subplots()
        if background is not None:
            shared = axes.twinx()  # its counts are of bins, not of values
            shared.hist(background, bins=120, color="0.8", zorder=0)
            shared.set(ylabel="weights before sharing, in each of 120 bins")
            axes.set_zorder(shared.get_zorder() + 1)
            axes.patch.set_visible(False)
        for index, (label, (values, counts)) in enumerate(found.items()):
            axes.vlines(values, 0, counts, color=f"C{index}", linewidth=1.2, alpha=0.6)
            axes.plot(values, counts, color=f"C{index}", linestyle="", marker="osD^v"[index % 5], markersize=4,
                      label=label)
        axes.set(xlabel="value of the weight", ylabel="weights that have it", title=title or "", ylim=(0, None))
        axes.grid(alpha=0.3)
        axes.legend()
    return _save(path, draw, size=(7, 4))


def _nonzero(name: str, weights: Any) -> np.ndarray:
    """The numbers of an array that are not zero; ``TypeError`` or ``ValueError`` for anything but finite numbers."""
    array = as_numpy(weights)
    if array.dtype.kind not in "fiu":
        raise TypeError(f"{name} is {shown(weights)}; accepted: an array of numbers")
    kept = array[array != 0]
    if not kept.size or not np.isfinite(kept).all():
        raise ValueError(f"{name} {'holds numbers that are not finite' if kept.size else 'is zero everywhere'}; "
                         f"accepted: finite numbers, not all zero")
    return kept


def _log_axis(axes: Any) -> None:
    """y on a log axis with plain numbers: powers of ten, and 2 and 5 times these."""
    from matplotlib.ticker import FuncFormatter, LogLocator, NullFormatter
    axes.set_yscale("log")
    axes.yaxis.set_major_locator(LogLocator(subs=(1, 2, 5), numticks=20))
    axes.yaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
    axes.yaxis.set_minor_locator(LogLocator(subs=range(1, 10), numticks=20))
    axes.yaxis.set_minor_formatter(NullFormatter())


def _save(path: str | Path, draw: Callable[[Any], None], size: tuple[float, float]) -> Path:
    """Draw on a new figure and put it at ``path`` in one step."""
    check_target("path", path)
    path = Path(path)
    if path.suffix != ".png":
        raise ValueError(f"path is {str(path)!r}; accepted: a name that ends in .png")
    try:
        from matplotlib.figure import Figure  # not pyplot, which keeps figures and chooses a window system
    except ImportError as error:
        raise not_importable("a plot", "matplotlib", "plots", error) from error
    figure = Figure(figsize=size, layout="constrained")
    draw(figure)
    write_atomically(path, lambda temporary: figure.savefig(temporary, format="png", dpi=120))
    return path


def _check_texts(**texts: Any) -> None:
    for name, value in texts.items():
        if value is not None:
            check_text(name, value)


def _check_kind(name: str, value: Any, kind: type) -> None:
    if not isinstance(value, kind):
        raise TypeError(f"{name} is {shown(value)}; accepted: a {kind.__name__}")


def _check_dict(name: str, value: Any, accepted: str) -> None:
    """Raise ``TypeError`` or ``ValueError`` unless it is a dict with texts for keys, and not empty."""
    if not isinstance(value, Mapping) or not all(isinstance(key, str) for key in value):
        raise TypeError(f"{name} is {shown(value)}; accepted: {accepted}")
    if not value:
        raise ValueError(f"{name} is empty; accepted: {accepted}")


def _check_points(name: str, points: Any) -> None:
    """Raise ``TypeError`` or ``ValueError`` unless these are pairs of finite numbers."""
    if not isinstance(points, (list, tuple, np.ndarray)) or not all(
            isinstance(point, (list, tuple, np.ndarray)) and len(point) == 2 for point in points):
        raise TypeError(f"{name} is {shown(points)}; accepted: a list of (x, y)")
    if len(points) == 0:
        raise ValueError(f"{name} has no points; accepted: a list of (x, y)")
    for point in points:
        for value in point:
            _check_finite(name, value)


def _check_finite(name: str, value: Any) -> None:
    if isinstance(value, (bool, np.bool_)) or not isinstance(value, numbers.Real):
        raise TypeError(f"{name} is {shown(value)}; accepted: numbers (or, for all values, reports)")
    if not math.isfinite(value):
        raise ValueError(f"{name} is {value}; accepted: finite numbers")
