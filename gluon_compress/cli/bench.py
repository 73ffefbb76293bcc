"""``gluon-compress bench``: how long networks take, side by side, in turns."""
from __future__ import annotations

from typing import Any

import click

from .command import command
from .networks import Opened, example_of, open_network
from .options import NetworkText, opening_options, shape_options
from .run import Run

WARMUP = 5  # passes before the first round: kernels are chosen, weights laid out


@command
@click.argument("networks", type=NetworkText(), nargs=-1, required=True)
@shape_options
@opening_options
@click.option("--batch", type=click.IntRange(1), metavar="N", help="Samples in a batch. [default: as in --shape, or 1]")
@click.option("--threads", type=click.IntRange(1), metavar="N", help="How many threads compute. [default: one for each "
              "core that this process may use]")
@click.option("--rounds", type=click.IntRange(1), default=10, show_default=True,
              help="How often the networks take turns, so that a busy moment of the machine meets all of them.")
@click.option("--repeats", type=click.IntRange(1), default=5, show_default=True,
              help="Passes of each network in a round.")
def bench(run: Run, networks: tuple[str, ...], batch: int | None, rounds: int, repeats: int, **shared: Any) -> None:
    """Time the forward pass of NETWORKS, also of ONNX files in ONNX Runtime and OpenVINO; they take turns.

    Shown are the median of the rounds' medians, and those of the fastest and the slowest round.

    \b
    Examples:
      gluon-compress bench model --shape 8,1,28,28
      gluon-compress bench params:lenet_mnist params:lenet5_caffe_mnist --batch 8 --threads 1 --json
      gluon-compress bench model model.onnx openvino:model.onnx --shape 1,1,28,28 --rounds 3
    """
    opened = [open_network(run, text) for text in networks]
    _share_shapes(opened)
    examples = [example_of(run, one, batch) for one in opened]
    timings = _in_turns(run, opened, examples, rounds, repeats)
    results = [_result(one, times) for one, times in zip(opened, timings)]
    run.give(results=results, rounds=rounds, repeats=repeats)
    _show(run, results)


def _share_shapes(opened: list[Opened]) -> None:
    """Where the file of one network tells the input's shape, it is that of those whose files do not, too."""
    known = next((one.shapes for one in opened if one.shapes), [])
    for one in opened:
        one.shapes = one.shapes or known


def _in_turns(run: Run, opened: list[Opened], examples: list[Any], rounds: int, repeats: int) -> list[list[Any]]:
    """For each network, the Timing of each round."""
    import gluon_compress as gc

    from ..tables import progress_bar
    timings: list[list[Any]] = [[] for _ in opened]
    for number in progress_bar(range(rounds), not run.quiet, desc="bench", unit="round"):
        for one, example, times in zip(opened, examples, timings):
            times.append(gc.measure_latency(one.net, example, repeats, 1 if number else WARMUP))
    return timings


def _result(opened: Opened, timings: list[Any]) -> dict[str, Any]:
    from statistics import median

    medians = [timing.median for timing in timings]
    middle, last = median(medians), timings[-1]
    return {"network": opened.text, "kind": opened.kind, "median_ms": middle, "fastest_ms": min(medians),
            "slowest_ms": max(medians), "per_second": 1000 * last.batch / middle, "batch": last.batch,
            "threads": last.threads, "precision": last.precision, "execution": last.execution, "bytes": opened.bytes}


def _show(run: Run, results: list[dict[str, Any]]) -> None:
    from ..tables import format_table

    first = results[0]["median_ms"]
    rows = [(each["network"], f"{each['median_ms']:.3f}", f"{each['fastest_ms']:.3f}", f"{each['slowest_ms']:.3f}",
             f"{each['per_second']:,.0f}", f"{first / each['median_ms']:.2f}x", each["batch"],
             each["threads"] or "default", each["precision"], each["execution"]) for each in results]
    run.show(format_table(("network", "ms", "fastest", "slowest", "samples/s", "speed", "batch", "threads", "precision",
                           "execution"), rows))
