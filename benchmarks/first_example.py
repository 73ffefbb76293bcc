"""Is a network with fewer channels faster? The README's first example, with its rounding and with none.

    python benchmarks/first_example.py          # about three minutes on two quiet cores

ResNet-18 of CIFAR-10 (``params.load("resnet18_cifar10")``) as it is; after ``prune_channels(net, example, ratio=0.3)``,
which keeps as many channels as this processor's kernels like; and with ``round_to=1``, just the ratio. fp32, static
memory, batches of 1, 8 and 128, which is the example's. The networks take turns, so that all see the same machine.
Results: ``results/first_example.json`` and ``.txt``.
"""
import os

import click

import gluon_compress as gc  # before mxnet: see gluon_compress/runtime
import mxnet as mx
import numpy as np
import recording
from gluon_compress import measure_latency
from gluon_compress.tables import format_table

WAYS = {"as it is": None, "ratio=0.3": {}, "ratio=0.3, round_to=1": {"round_to": 1}}
ROUNDS = {1: 60, 8: 40, 128: 8}  # {images of a batch: rounds of PASSES passes of each network}
PASSES = 3


def network(settings, example):
    """The network and what the plan says of its rounding."""
    net = gc.params.load("resnet18_cifar10")
    plan = None if settings is None else gc.pruning.prune_channels(net, example, ratio=0.3, **settings)
    net.hybridize(static_alloc=True, static_shape=True)
    return net, plan and plan.rounding


def take_turns(nets, inputs, rounds):
    """[milliseconds of each network's passes], a list per network."""
    times = [[] for _ in nets]
    for number in range(rounds):
        for net, found in zip(nets, times):
            found.append(measure_latency(net, inputs, repeats=PASSES, warmup=0 if number else 3).median)
    return times


def measure(example):
    """{way: what is in the table}."""
    made = {way: network(settings, example) for way, settings in WAYS.items()}
    found = {way: {"parameters": report.parameters, "macs": report.macs, "rounding": rounding, "times": {}}
             for way, (net, rounding) in made.items() for report in [gc.report(net, example)]}
    for batch, rounds in ROUNDS.items():
        inputs = mx.nd.random.normal(shape=(batch, *example.shape[1:]))
        for way, times in zip(made, take_turns([net for net, _ in made.values()], inputs, rounds)):
            found[way]["times"][batch] = np.percentile(times, [50, 25, 75]).tolist()
            click.echo(f"{way}, batch {batch}: {found[way]['times'][batch][0]:.2f} ms")
    return found


def table(found):
    header = ("network", "parameters", "million MACs", *(f"ms, batch {batch}" for batch in ROUNDS))
    lines = [format_table(header, [
        (way, f"{row['parameters']:,}", f"{row['macs'] / 1e6:.1f}",
         *("{:.2f} ({:.2f} to {:.2f})".format(*row["times"][batch]) for batch in ROUNDS))
        for way, row in found.items()])]
    return "\n".join([*lines, *(f"{way}: {row['rounding']}" for way, row in found.items() if row["rounding"])])


@click.command(help=__doc__.split("\n")[0])
def main():
    load = os.getloadavg()[0]
    mx.random.seed(0)
    found = measure(mx.nd.random.normal(shape=(128, 3, 32, 32)))
    cpu = recording.cpu_name()
    conditions = {"cpu": cpu, "threads": gc.runtime.status().threads, "mxnet": mx.__version__, "load before": load}
    text = (f"{table(found)}\n(median and quartiles; fp32, hybridized, static memory, {conditions['threads']} threads, "
            f"{cpu}, MXNet {mx.__version__}; the networks take turns; load before: {load:.1f})\n")
    file = recording.RESULTS / "first_example.json"
    recording.write_result(file, {"conditions": conditions, "networks": found}, text)
    click.echo(f"{text}Made: {file} and {file.with_suffix('.txt').name}")


if __name__ == "__main__":
    main()
