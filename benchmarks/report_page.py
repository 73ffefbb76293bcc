"""The page of a report, of a network that was pruned, trained, and put on integers, here and in other engines.

    python benchmarks/report_page.py                    # report.html: some three minutes on two cores
    python benchmarks/report_page.py --path page.html --epochs 0

ResNet-18 on CIFAR-10: sensitivity of its channels on 200 held-out images, channels removed by these curves, one epoch
of 10,000 training images, 8-bit integers; accuracies are on 1,000 test images, which choose nothing. ONNX Runtime and
OpenVINO stand beside it where they are installed. Nothing here is published: it shows what a report shows.
"""
import importlib.util
import tempfile
from pathlib import Path

import click

import gluon_compress as gc  # before mxnet: see gluon_compress/runtime
import mxnet as mx

ENGINES = {"onnxruntime": "ONNX Runtime", "openvino": "OpenVINO"}
NETWORK, FRACTIONS, DROP = "resnet18_cifar10", (0.25, 0.5, 0.75), 0.06


def pruned_by_curves(example, train, held_out):
    """(network, its plan, the curves)."""
    curves = gc.pruning.measure_sensitivity(
        loaded(), lambda net: gc.training.evaluate(net, held_out), example, kind="channels", fractions=FRACTIONS)
    net = loaded()
    plan = gc.pruning.prune_channels(net, example, ratio=curves.ratios(DROP), round_to=16)
    net.hybridize(static_alloc=True, static_shape=True)
    gc.pruning.reestimate_batch_norm(net, train, batches=10)
    return net, plan, curves


def loaded():
    net = gc.params.load(NETWORK)
    net.hybridize(static_alloc=True, static_shape=True)
    return net


def train_again(net, train, epochs):
    trainer = mx.gluon.Trainer(net.collect_params(), "nag", {"learning_rate": 0.02, "momentum": 0.9, "wd": 5e-4})
    gc.training.fit(net, train, epochs, trainer, seed=0)


def in_other_engines(networks, example, folder):
    """{name: network}: each of ``networks`` in each engine that is installed."""
    found = {}
    for name, net in networks.items():
        path = folder / f"{name}.onnx"
        gc.export.to_onnx(net, path, example)
        for engine, title in ENGINES.items():
            if importlib.util.find_spec(engine) is not None:
                found[f"{name} in {title}"] = gc.export.engine(path, engine)
    return found


@click.command(help=__doc__.split("\n")[0])
@click.option("--path", default="report.html", show_default=True, type=click.Path(dir_okay=False, path_type=Path))
@click.option("--epochs", default=1, show_default=True, help="Of training after the channels went.")
def main(path, epochs):
    train, test = gc.datasets.cifar10()
    train, held_out = train.split(2000)
    batches = train.subset(slice(0, 10_000)).batches(64, shuffle=True)
    data = test.subset(slice(0, 1000)).batches(100)
    example = next(iter(train.subset(slice(0, 32)).batches(32)))[0]
    net, plan, curves = pruned_by_curves(example, batches, held_out.subset(slice(0, 200)).batches(100))
    if epochs:
        train_again(net, batches, epochs)
    int8 = gc.quantization.quantize(net, train.subset(slice(0, 512)).batches(64))
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        before, middle = loaded(), net
        gc.save(folder / "fp32", before, example=example)
        gc.save(folder / "pruned", middle, example=example)
        gc.save(folder / "pruned, int8", int8)
        measuring = {"data": data, "latency": True, "layer_times": True}
        others = {"fp32": gc.report(before, example, path=folder / "fp32", records=curves, **measuring),
                  "pruned": gc.report(middle, example, path=folder / "pruned", records=plan, **measuring)}
        others.update(in_other_engines({"fp32": before, "pruned, int8": int8}, example, folder))
        report = gc.report(int8, example, others, path=folder / "pruned, int8", name="pruned, int8", **measuring)
    click.echo(str(report))
    click.echo(f"Made: {report.write_html(path, title='ResNet-18 on CIFAR-10: pruned, trained, on integers')}")


if __name__ == "__main__":
    main()
