"""Measure what the labs show of times: a convolution with 24 to 64 channels. Writes ``curves.json``.

    python tutorials/labs/measure_curves.py     # a minute on two quiet cores

A 3x3 convolution with as many outputs as inputs, images of 28x28, batch 8, fp32. The numbers of channels take turns;
given are medians in milliseconds.
"""
import json
from pathlib import Path

import gluon_compress as gc  # before mxnet
import mxnet as mx
import numpy as np
from gluon_compress.files.writing import write_atomically
from mxnet.gluon import nn

CHANNELS, ROUNDS = (24, 28, 31, 32, 33, 40, 44, 45, 47, 48, 49, 56, 60, 63, 64), 40


def convolution(channels):
    net = nn.Conv2D(channels, 3, padding=1, in_channels=channels)
    net.initialize()
    net.hybridize(static_alloc=True, static_shape=True)
    return net, mx.nd.random.normal(shape=(8, channels, 28, 28))


def main():
    networks = {channels: convolution(channels) for channels in CHANNELS}
    times = {channels: [] for channels in CHANNELS}
    for _ in range(ROUNDS):
        for channels, (net, example) in networks.items():
            times[channels].append(gc.measure_latency(net, example, repeats=1, warmup=1).median)
    found = {"channels": list(CHANNELS), "milliseconds": [round(float(np.median(times[c])), 4) for c in CHANNELS],
             "threads": gc.runtime.status().threads, "rounds": ROUNDS}
    path = Path(__file__).resolve().parent / "curves.json"
    write_atomically(path, lambda path: path.write_text(json.dumps({"convolution": found}, indent=1) + "\n"))
    print(json.dumps(found))


if __name__ == "__main__":
    main()
