"""Does a network with fewer multiply-accumulates take less time? Four networks at 224x224, batch 1 and 8.

    python benchmarks/channel_latency.py                # all: about fifteen minutes on two quiet cores
    python benchmarks/channel_latency.py vgg16          # one

Each network, with random weights, is pruned to 1.5, 2 and 4 times fewer MACs, once with any number of channels and
once with multiples of 16 (round_to). Before and after are timed in turn, so that both see the same
machine; hybridized with static memory, fp32, not fused. Results: ``results/channel_latency.json`` and ``.txt``.
"""
import json
from pathlib import Path

import click

import gluon_compress as gc  # before mxnet: see gluon_compress/runtime.py
import mxnet as mx
import numpy as np
from gluon_compress.download import write_atomically
from gluon_compress.latency import measure_latency
from gluon_compress.tables import format_table
from mxnet.gluon.model_zoo import vision

RESULTS = Path(__file__).resolve().parent / "results"
NETWORKS = {"resnet18": "resnet18_v1", "resnet50": "resnet50_v1", "mobilenet": "mobilenet1.0", "vgg16": "vgg16"}
SPEED_UPS, BATCHES, MULTIPLES = (1.5, 2, 4), (1, 8), (1, 16)
ROUNDS, REPEATS = 5, 4  # five rounds of four passes before and four after


def network(name):
    mx.random.seed(0)
    net = vision.get_model(NETWORKS[name])
    net.initialize(mx.init.Xavier())
    net(mx.nd.zeros((1, 3, 224, 224)))
    return net


def compare(original, pruned, example):
    """(milliseconds before, milliseconds after): medians over rounds in which both are timed."""
    times = [[measure_latency(net, example, repeats=REPEATS, warmup=2).median for net in (original, pruned)]
             for _ in range(ROUNDS)]
    return np.median(times, axis=0).tolist()


def measure(name):
    original = network(name)
    original.hybridize(static_alloc=True, static_shape=True)
    example = mx.nd.random.normal(shape=(1, 3, 224, 224))
    before = gc.report(original, example).macs
    rows = []
    for speed_up in SPEED_UPS:
        for multiple in MULTIPLES:
            pruned = network(name)
            gc.pruning.prune_channels(pruned, example, macs=1 / speed_up, round_to=multiple)
            pruned.hybridize(static_alloc=True, static_shape=True)
            macs_ratio = before / gc.report(pruned, example).macs
            for batch in BATCHES:
                inputs = mx.nd.random.normal(shape=(batch, 3, 224, 224))
                was, now = compare(original, pruned, inputs)
                rows.append({"network": name, "wanted": speed_up, "round_to": multiple, "batch": batch,
                             "macs_ratio": macs_ratio, "before_ms": was, "after_ms": now, "time_ratio": was / now,
                             "share": was / now / macs_ratio})
                click.echo(f"{name} {macs_ratio:.2f}x fewer MACs, multiples of {multiple}, batch {batch}: "
                           f"{was:.1f} -> {now:.1f} ms, {was / now:.2f}x")
    return rows


def table(rows):
    return format_table(
        ("network", "batch", "round_to", "MACs ratio", "ms before", "ms after", "time ratio", "time / MACs ratio"),
        [(row["network"], row["batch"], row["round_to"], f"{row['macs_ratio']:.2f}", f"{row['before_ms']:.1f}",
          f"{row['after_ms']:.1f}", f"{row['time_ratio']:.2f}", f"{row['share']:.2f}") for row in rows])


@click.command(help=__doc__.split("\n")[0])
@click.argument("names", nargs=-1, type=click.Choice(sorted(NETWORKS)))
def main(names):
    file = RESULTS / "channel_latency.json"
    result = json.loads(file.read_text()) if file.exists() else {}
    for name in names or NETWORKS:
        result[name] = {"threads": gc.runtime.status().threads, "rows": measure(name)}
        write_atomically(file, lambda path: path.write_text(json.dumps(result, indent=2) + "\n"))
    text = table([row for name in NETWORKS if name in result for row in result[name]["rows"]])
    threads = sorted({entry["threads"] for entry in result.values()})
    text += f"\n(fp32, hybridized, static memory, not fused, 224x224, threads: {threads}, random weights)\n"
    write_atomically(file.with_suffix(".txt"), lambda path: path.write_text(text))
    click.echo(f"{text}Made: {file} and {file.with_suffix('.txt').name}")


if __name__ == "__main__":
    main()
