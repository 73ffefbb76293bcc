"""Half of the channels of every network of two model zoos: which can be pruned, what is left, does it still agree?

    python benchmarks/zoo_channels.py                       # all: about two hours on one core; resumable
    python benchmarks/zoo_channels.py --only "gluon/*"      # those
    python benchmarks/zoo_channels.py --only "*/se_*" --again   # measure them once more

The 34 networks of mxnet.gluon.model_zoo.vision, and gluoncv's classification, segmentation and detection networks,
with random weights: nothing is downloaded. Each is measured in a process of its own, which may fail or crash: then
its row says so. Rows are added to ``results/zoo_channels.json`` as they are measured; ``.txt`` is the table.

Agreement is that of the pruned network with the original in which everything that was removed is set to zero: the
largest difference of an output, relative to that output's largest value. SSD and YOLO are taken without their last
step, which suppresses overlapping boxes: it sorts, and scores that are equal but for rounding would change places.
"""
import re
import time
from collections import Counter

import gluon_compress as gc  # before mxnet: see gluon_compress/runtime
import mxnet as mx
import numpy as np
import recording
from gluon_compress.network import parameters, restore_snapshot, snapshot
from gluon_compress.network.graph import Graph
from gluon_compress.network.misfits import shorten
from gluon_compress.tables import format_table
from zoos import PROPOSALS, Survey, choose, command, image_size, make, run, task

RESULTS = recording.RESULTS / "zoo_channels.json"
RATIO = 0.5
TOLERANCE = 1e-4
TIME_LIMIT = 3600  # seconds for one network


# One network, in a process of its own -----------------------------------------------------------------------------

def measure(key):
    """The row of one network; ``error`` says at which step it failed."""
    row = {"size": image_size(key), "task": task(key)}
    step = "building"
    try:
        net, example = made(key)
        original = snapshot(net)
        before = run(net, example)
        step = "tracing"
        Graph(net)
        step = "counting"
        report = gc.report(net, example)
        row.update(parameters_before=report.parameters, macs_before=report.macs,
                   uncounted=[operator for operator in report.not_counted if "Convolution" in operator])
        step = "pruning"
        started = time.perf_counter()
        plan = gc.pruning.prune_channels(net, example, RATIO, round_to=1)
        row.update(seconds=round(time.perf_counter() - started, 2), **describe(plan))
        step = "counting what is left"
        report = gc.report(net, example)
        row.update(parameters_after=report.parameters, macs_after=report.macs)
        step = "running the pruned network"
        after = run(net, example)
        step = "comparing"
        other, _ = made(key)
        restore_snapshot(other, original)
        zero_removed(other, plan)
        row.update(compare(other, example, before, after))
    except Exception as error:  # a row of the table, whatever it is
        row["error"] = f"{step}: {type(error).__name__}: {shorten(error)[:300]}"
    return row


def made(key):
    """``make(key)`` with Gluon's counters at 0: names of a SymbolBlock's parameters have them in."""
    with mx.name.NameManager():
        return make(key)


def describe(plan):
    reasons = Counter(re.sub(r" \([^()]*\)", "", reason) for name, reason in plan.left_out.items()
                      if name not in plan.layers)
    return {"pruned": len(plan.layers), "partly": sum(name in plan.layers for name in plan.left_out),
            "untouched": sum(reasons.values()), "reasons": dict(reasons.most_common())}


def zero_removed(net, plan):
    """Zero all that the plan removes: what makes the channels, and what reads them."""
    named = parameters(net)
    for cut in plan.slices:
        value = named[cut["parameter"]].data().asnumpy()
        removed = np.setdiff1d(np.arange(cut["before"]), cut["kept"])
        value[(slice(None),) * cut["axis"] + (removed,)] = 0
        named[cut["parameter"]].set_data(mx.nd.array(value))


def compare(zeroed, example, before, after):
    """Agreement of the two networks; ``changed`` is how far pruning moved the outputs, to see that it shows."""
    expected = run(zeroed, example)
    found = difference(after, expected)
    return {"agrees": found < TOLERANCE, "difference": f"{found:.1e}", "changed": f"{difference(before, expected):.1e}"}


def difference(actual, expected):
    """The largest, relative to the largest value of its output."""
    return max(float(np.abs(a - b).max() / max(np.abs(b).max(), 1e-30)) for a, b in zip(actual, expected))


# The table --------------------------------------------------------------------------------------------------------

HEADER = ("network", "image", "parameters", "after", "ratio", "MACs", "after", "ratio", "pruned", "untouched", "agrees",
          "s", "note")


def table(rows, chosen, left_out):
    lines = []
    for zoo, name in (("gluon", "mxnet.gluon.model_zoo.vision"), ("gluoncv", "gluoncv.model_zoo")):
        for kind in ("classification", "segmentation", "detection"):
            found = [key for key in chosen if key.startswith(f"{zoo}/") and key in rows and task(key) == kind]
            if found:
                good = sum(rows[key].get("agrees", False) for key in found)
                lines += [f"{name}, {kind}: {good} of {len(found)} pruned and in agreement", "",
                          format_table(HEADER, [cells(key, rows[key], chosen[key]) for key in found]), ""]
    reasons = Counter()
    for row in rows.values():
        reasons.update(row.get("reasons", {}))
    missing = [key for key in chosen if key not in rows]
    notes = [
        f"prune_channels(net, example, {RATIO}) by L1 norm, random weights, batch 1. MACs for the image size given; "
        f"pruned, untouched: numbers of layers; detectors with later stages look at {PROPOSALS} regions.",
        "agrees: largest difference from the original with what was removed set to zero, relative to the output's "
        "largest value. SSD and YOLO without the suppression of overlapping boxes; "
        "feature pyramids with regions from the finest level only.",
        "s: seconds of planning and pruning, one thread, beside other work on the machine.",
        "Why layers stay, in all networks: " + "; ".join(f"{reason} ({count})" for reason, count
                                                         in reasons.most_common()),
        f"Not measured: {len(left_out)} networks of gluoncv: " + "; ".join(
            f"{reason} ({count})" for reason, count in Counter(left_out.values()).most_common()) + ".",
        "Networks that differ in their data set only are one row, which names the others."]
    if missing:
        notes.append(f"Still to be measured: {len(missing)} networks.")
    return "\n".join([*lines, *notes, ""])


def cells(key, row, others):
    notes = [row["error"]] if "error" in row else []
    if row.get("partly"):
        notes.append(f"{row['partly']} in part")
    if "reasons" in row:
        notes += [f"{count}x {reason}" for reason, count in row["reasons"].items()
                  if reason != "its channels are the network's output"]
    if row.get("uncounted"):
        notes.append(f"MACs without {', '.join(row['uncounted'])}")
    if others:
        notes.append(f"stands for {', '.join(others)} too")
    agreement = "-"
    if "agrees" in row:
        agreement = f"{'yes' if row['agrees'] else 'NO'} {row['difference']}"
    return (key.split("/")[1], row.get("size", "-"), *before_after(row, "parameters"), *before_after(row, "macs"),
            row.get("pruned", "-"), row.get("untouched", "-"), agreement, row.get("seconds", "-"), "; ".join(notes))


def before_after(row, what):
    before, after = row.get(f"{what}_before"), row.get(f"{what}_after")
    if after is None:
        return (before is None and "-" or f"{before:,.0f}"), "-", "-"
    return f"{before:,.0f}", f"{after:,.0f}", f"{before / after:.2f}x" if after else "-"


def content(rows, chosen, left_out):
    names = {reason: [name for name in left_out if left_out[name] == reason] for reason in left_out.values()}
    return {"ratio": RATIO, "proposals": PROPOSALS, "left_out": names,
            "same_network": {key: others for key, others in chosen.items() if others}}


def good(row):
    return bool(row.get("agrees"))


SURVEY = Survey(RESULTS, choose, measure, TIME_LIMIT, good, content, table)

if __name__ == "__main__":
    command(SURVEY, __doc__)()
