"""Does a network with fewer multiply-accumulates take less time? Four networks at 224x224, batch 1 and 8.

    python benchmarks/channel_latency.py                # all: about fifteen minutes on two quiet cores
    python benchmarks/channel_latency.py vgg16          # one
    python benchmarks/channel_latency.py --execution fused

Each network, with random weights, is pruned to 1.5, 2 and 4 times fewer MACs: hybridized with any number of channels
and with multiples of 16 (round_to), and with oneDNN's fused operators (``optimize_for(backend="MKLDNN")``, which folds
BatchNorm and ReLU into the convolutions) with multiples of 16 and 32. Before and after, executed in the same way,
are timed in turn, so that both see the same machine; fp32, static memory. Results:
``results/channel_latency.json`` and ``.txt``; ``channel_latency_half.txt`` has half the MACs at batch 8.
"""
import json
from itertools import product

import click

import gluon_compress as gc  # before mxnet: see gluon_compress/runtime
import mxnet as mx
import numpy as np
from gluon_compress import measure_latency
from gluon_compress.tables import format_table
from mxnet.gluon.model_zoo import vision
from recording import RESULTS, write_json, write_text

NETWORKS = {"resnet18": "resnet18_v1", "resnet50": "resnet50_v1", "mobilenet": "mobilenet1.0", "vgg16": "vgg16"}
SPEED_UPS, BATCHES = (1.5, 2, 4), (1, 8)
MULTIPLES = {"hybridized": (1, 16), "fused": (16, 32)}
ROUNDS, REPEATS = 5, 4  # five rounds of four passes before and four after


def network(name):
    mx.random.seed(0)
    net = vision.get_model(NETWORKS[name])
    net.initialize(mx.init.Xavier())
    net(mx.nd.zeros((1, 3, 224, 224)))
    return net


def compile_for(net, inputs, execution):
    if execution == "fused":
        net.optimize_for(inputs, backend="MKLDNN", static_alloc=True, static_shape=True)
    else:
        net.hybridize(static_alloc=True, static_shape=True)


def compare(original, pruned, inputs, execution):
    """(milliseconds before, milliseconds after): medians over rounds in which both are timed."""
    for net in (original, pruned):
        compile_for(net, inputs, execution)
    times = [[measure_latency(net, inputs, repeats=REPEATS, warmup=2).median for net in (original, pruned)]
             for _ in range(ROUNDS)]
    return np.median(times, axis=0).tolist()


def measure(name, execution):
    rows = []
    example = mx.nd.random.normal(shape=(1, 3, 224, 224))
    for speed_up, multiple, batch in product(SPEED_UPS, MULTIPLES[execution], BATCHES):
        original, pruned = network(name), network(name)
        gc.pruning.prune_channels(pruned, example, macs=1 / speed_up, round_to=multiple)
        macs_ratio = gc.report(original, example).macs / gc.report(pruned, example).macs
        was, now = compare(original, pruned, mx.nd.random.normal(shape=(batch, 3, 224, 224)), execution)
        rows.append({"network": name, "wanted": speed_up, "round_to": multiple, "batch": batch,
                     "execution": execution, "macs_ratio": macs_ratio, "before_ms": was, "after_ms": now,
                     "time_ratio": was / now, "share": was / now / macs_ratio})
        click.echo(f"{name} {execution}, {macs_ratio:.2f}x fewer MACs, multiples of {multiple}, batch {batch}: "
                   f"{was:.1f} -> {now:.1f} ms, {was / now:.2f}x")
    return rows


def table(rows):
    return format_table(
        ("network", "execution", "batch", "round_to", "MACs ratio", "ms before", "ms after", "time ratio",
         "time / MACs ratio"),
        [(row["network"], row["execution"], row["batch"], row["round_to"], f"{row['macs_ratio']:.2f}",
          f"{row['before_ms']:.1f}", f"{row['after_ms']:.1f}", f"{row['time_ratio']:.2f}", f"{row['share']:.2f}")
         for row in rows])


@click.command(help=__doc__.split("\n")[0])
@click.argument("names", nargs=-1, type=click.Choice(sorted(NETWORKS)))
@click.option("--execution", type=click.Choice(sorted(MULTIPLES)), multiple=True, default=sorted(MULTIPLES))
def main(names, execution):
    file = RESULTS / "channel_latency.json"
    result = json.loads(file.read_text()) if file.exists() else {}
    for name, how in product(names or NETWORKS, execution):
        result[f"{name}, {how}"] = {"threads": gc.runtime.status().threads, "rows": measure(name, how)}
        write_json(file, result)
    text = write_tables(result, file)
    click.echo(f"{text}Made: {file}, {file.with_suffix('.txt').name} and channel_latency_half.txt")


def write_tables(result, file):
    """All rows, and beside them those of half the MACs at batch 8, which benchmarks/README.md shows."""
    found = [f"{name}, {how}" for name, how in product(NETWORKS, MULTIPLES) if f"{name}, {how}" in result]
    threads = sorted({result[key]["threads"] for key in found})
    rows = [row for key in found for row in result[key]["rows"]]
    conditions = f"(fp32, static memory, 224x224, threads: {threads}, random weights; before and after in turn)\n"
    half = f"{table([row for row in rows if row['wanted'] == 2 and row['batch'] == 8])}\n{conditions}"
    text = f"{table(rows)}\n{conditions}"
    write_text(file.with_suffix(".txt"), text)
    write_text(file.with_name("channel_latency_half.txt"), half)
    return text


if __name__ == "__main__":
    main()
