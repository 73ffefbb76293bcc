"""How many channels int8 kernels like: four equal convolutions in OpenVINO, fp32 and int8, of 32 to 256 channels.

    python benchmarks/int8_channels.py          # two quiet minutes; needs openvino

Each network is a chain of convolutions with ReLU, as in the middle of a residual network; int8 by OpenVINO's own
FakeQuantize at the inputs and the weights. All of them compute in turn, batch 8, two threads; medians over all passes.
``prune_channels`` leaves multiples: this is what its default and ``round_to=16`` follow. Results:
``results/int8_channels.json`` and ``.txt``.
"""
import time

import click

import gluon_compress as gc  # noqa: F401 - before mxnet, which recording needs
import numpy as np
import openvino as ov
from gluon_compress.tables import format_table
from openvino import opset13 as ops
from recording import RESULTS, cpu_name, write_result

CHANNELS = {(3, 28): (32, 40, 48, 56, 64, 72, 80, 88, 96), (3, 14): (96, 104, 112, 120, 128, 136, 144, 152, 160),
            (1, 14): (128, 136, 144, 152, 160, 176, 192, 224, 256)}  # {(kernel, image): numbers of channels}
DEPTH, BATCH, THREADS = 4, 8, 2
ROUNDS, SECONDS = 8, 0.05


def chain(channels, kernel, size, precision):
    """A pass of the network."""
    rng = np.random.default_rng(0)
    x = data = ops.parameter([BATCH, channels, size, size], np.float32, name="data")
    for _ in range(DEPTH):
        weight = rng.normal(0, (2 / (channels * kernel ** 2)) ** 0.5, (channels, channels, kernel, kernel))
        weight = ops.constant(weight.astype(np.float32))
        if precision == "int8":
            x, weight = rounded(x, 0, 4, 256), rounded(weight, -0.5, 0.5, 255)
        pads = [kernel // 2] * 2
        x = ops.relu(ops.convolution(x, weight, [1, 1], pads, pads, [1, 1]))
    compiled = ov.compile_model(ov.Model([x], [data], "chain"), "CPU", {
        "PERFORMANCE_HINT": "LATENCY", "NUM_STREAMS": 1, "INFERENCE_NUM_THREADS": THREADS,
        "INFERENCE_PRECISION_HINT": "f32"})
    request, images = compiled.create_infer_request(), rng.random((BATCH, channels, size, size)).astype(np.float32)
    return lambda: request.infer([images])


def rounded(value, low, high, levels):
    ends = [ops.constant(np.float32(end)) for end in (low, high)]
    return ops.fake_quantize(value, *ends, *ends, levels)


def measure(kernel, size, precision):
    """{channels: thousand million multiply-accumulates in a second}."""
    passes = {channels: chain(channels, kernel, size, precision) for channels in CHANNELS[kernel, size]}
    times = {channels: [] for channels in passes}
    for _ in range(ROUNDS):
        for channels, run in passes.items():
            run()
            end = time.perf_counter() + SECONDS
            while time.perf_counter() < end:
                started = time.perf_counter()
                run()
                times[channels].append(time.perf_counter() - started)
    return {channels: DEPTH * BATCH * (channels * kernel * size) ** 2 / np.median(seconds) / 1e9
            for channels, seconds in times.items()}


@click.command(help=__doc__.split("\n")[0])
def main():
    found = {(place, precision): measure(*place, precision) for place in CHANNELS for precision in ("fp32", "int8")}
    tables = []
    for place in CHANNELS:
        title = f"{place[0]}x{place[0]}, images {place[1]}x{place[1]}"
        tables.append(format_table((title, *CHANNELS[place]), [
            (precision, *(f"{rate:.0f}" for rate in found[place, precision].values()))
            for precision in ("fp32", "int8")]))
    text = "\n\n".join(tables) + (f"\n(channels; 10^9 multiply-accumulates in a second; OpenVINO {ov.__version__[:8]}, "
                                  f"batch {BATCH}, {THREADS} threads, {cpu_name()})\n")
    file = RESULTS / "int8_channels.json"
    write_result(file, {"cpu": cpu_name(), "openvino": ov.__version__, "batch": BATCH, "threads": THREADS, "rates": {
        f"{kernel}x{kernel}, {size}x{size}, {precision}": rates
        for ((kernel, size), precision), rates in found.items()}}, text)
    click.echo(f"{text}Made: {file} and {file.with_suffix('.txt').name}")


if __name__ == "__main__":
    main()
