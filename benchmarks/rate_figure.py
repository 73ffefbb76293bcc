"""The picture of rate.py: accuracy against size of six networks, ours beside nncodec's, and what others published.

    python benchmarks/rate.py --table-only      # draws it

Published points are the sources' own claims, of networks of the same name; all of them were trained for their size,
which neither curve was. Where the data set is another one, the point stands at the change that the source names, from
the accuracy of the network here. A rate without an accuracy is a line.
"""
from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import Any

from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter, LogLocator, NullFormatter

LOWEST = {"mnist": 1.6, "cifar10": 3.0}  # points below the original
# network: (source, times smaller, test accuracy in percent; "change", in points; or None)
PUBLISHED: dict[str, list[tuple[str, float, Any]]] = {
    "lenet_300_100_mnist": [("Han 2016", 40, 98.42), ("EPR 2020", 124, 98.1)],
    "lenet5_caffe_mnist": [("Han 2016", 39, 99.26), ("EPR 2020", 606, 99.0), ("MIRACLE 2019", 555, 99.31),
                           ("MIRACLE 2019", 1110, 99.04), ("Bayesian Compression 2017", 771, 99.0),
                           ("DeepCABAC 2020, sparse", 115, None)],
    "alexnet_cifar10": [("Han 2016, ImageNet", 35, ("change", 0.0))],
    "resnet18_cifar10": [("EPR 2020, ImageNet", 24, ("change", 0.0)), ("LilNetX 2023, ImageNet", 46, ("change", -1.2)),
                         ("CERWU 2025, 0.5 bits a weight", 64, None)]}
MARKERS = "sD^vP*X"


def draw(measurements: list[Any], titles: dict[str, str], path: Path) -> None:
    """``measurements`` as rate.py has them, each with ``found``, ``points(coder)`` and ``chosen(coder)``."""
    figure = Figure(figsize=(14, 8.5), layout="constrained")
    for axes, measurement in zip(figure.subplots(2, 3).flat, measurements):
        original = measurement.found["original"]
        accuracy = 100 * original["test accuracy"]
        axes.axhline(accuracy, color="grey", linewidth=0.8)
        for coder, colour in (("ours", "C0"), ("nncodec", "C1")):
            _curve(axes, original["bytes"], measurement.points(coder), measurement.chosen(coder), coder, colour)
        _published(axes, PUBLISHED.get(measurement.name, ()), accuracy)
        axes.set_xscale("log")
        axes.xaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
        axes.xaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
        axes.xaxis.set_minor_formatter(NullFormatter())
        axes.set_ylim(accuracy - LOWEST[measurement.name.rpartition("_")[2]], accuracy + 0.4)
        axes.set_title(titles[measurement.name])
        axes.set_xlabel("times smaller than .params")
        axes.set_ylabel("test accuracy, %")
        axes.legend(loc="lower left", fontsize=8)
    figure.suptitle("Without training: ours and nncodec's, circled what was chosen without test images. "
                    "Others' points, as published, were trained for their size.", fontsize=11)
    figure.savefig(path, dpi=110)


def _curve(axes: Any, size: int, points: list[dict[str, Any]], chosen: dict[str, Any] | None, label: str,
           colour: str) -> None:
    axes.plot([size / point["bytes"] for point in points], [100 * point["test accuracy"] for point in points], "o-",
              markersize=4, color=colour, label=label)
    if chosen:
        axes.plot(size / chosen["bytes"], 100 * chosen["test accuracy"], "o", markersize=11, fillstyle="none",
                  color=colour)


def _published(axes: Any, points: Iterable[tuple[str, float, Any]], original: float) -> None:
    for (source, times, accuracy), marker in zip(points, MARKERS):
        if accuracy is None:
            axes.axvline(times, color="grey", linestyle=":", label=f"{source}: {times:g}x")
            continue
        at = original + accuracy[1] if isinstance(accuracy, tuple) else accuracy
        axes.plot(times, at, marker, color="dimgrey", markersize=6, label=f"{source}: {times:g}x")
