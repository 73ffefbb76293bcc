"""What a distillation step costs beside the teacher's forward pass and the student's step alone.

    python benchmarks/distillation_cost.py            # some minutes on two quiet cores

Each way trains a copy of the same student on the same images through ``fit`` or ``distill``, in turn, several rounds of
several epochs; the fastest epoch counts, as whatever else runs on the machine only adds. "forward + alone" is the
teacher's pass over batches in memory plus the student's training on labels alone, each in a loop of its own; "both in
one loop" is the same work step by step, where the two networks displace each other from the caches. What is done once,
before the first epoch, stands apart: checks and digests of the teacher, with logits on disk those of the images and
reading the file.
Results: ``results/distillation_cost.json`` and ``.txt``.
"""
import tempfile
import time
from functools import partial
from pathlib import Path

import click

import gluon_compress as gc  # before mxnet: see gluon_compress/runtime
import mxnet as mx
import recording
from gluon_compress.distillation import FeatureLoss, distill
from gluon_compress.tables import format_table
from mxnet import gluon
from mxnet.gluon import nn

RESULTS = recording.RESULTS / "distillation_cost.json"
ROUNDS, EPOCHS, BATCH = 10, 3, 128
RATIOS = {  # title: (way, what its time is compared with)
    "distilled, over forward + alone": ("distilled", ("forward", "alone")),
    "... over both in one loop": ("distilled", ("both in one loop",)),
    "... by the teacher on integers, over forward + alone": ("int8", ("int8 forward", "alone")),
    "... and features, over forward + alone": ("features", ("forward", "alone")),
    "distilled from logits on disk, over alone": ("cached", ("alone",))}


def mlp(hidden):
    net = nn.HybridSequential()
    net.add(nn.Dense(hidden, activation="relu"), nn.Dense(hidden, activation="relu"), nn.Dense(10))
    return net


def mnist():
    """(batches, trained teacher, student, features) of Hinton's experiment; the weights don't matter here."""
    train, _ = gc.datasets.mnist()
    features = FeatureLoss("1", "1", "similarity", 1.0)
    return train, mlp(1200), lambda: mlp(800), features


def cifar10():
    train, _ = gc.datasets.cifar10()
    features = FeatureLoss("features.5", "features.5", "attention", 1000.0)
    return (train, gc.params.load("resnet18_cifar10"),
            lambda: gc.models.ResNet(18, classes=10, thumbnail=True, width=16), features)


SETTINGS = {"MNIST, MLP 1200-1200 and 800-800": (mnist, 50),
            "CIFAR-10, ResNet-18 of width 32 and 16": (cifar10, 5)}  # batches of an epoch


def ready(net, example):
    if any(parameter._data is None for parameter in net.collect_params().values()):
        net.initialize(mx.init.Xavier())
    net(example).wait_to_read()
    net.hybridize(static_alloc=True, static_shape=True)
    return net


def timed(work):
    mx.nd.waitall()
    started = time.perf_counter()
    result = work()
    mx.nd.waitall()
    return result, time.perf_counter() - started


def measure(setting, batches, folder):
    """{way: ratio of times}, {part: milliseconds of a step}, and {way: milliseconds before the first epoch}."""
    train, teacher, build, features = setting()
    data = train.subset(slice(0, batches * BATCH)).batches(BATCH)
    in_memory = [inputs for inputs, _ in data]
    example = in_memory[0]
    ready(teacher, example)
    int8 = gc.quantization.quantize(teacher, [example], progress=False)
    def beside(inputs, labels):
        teacher(inputs)
        return (labels,)

    trainings = {"alone": gc.training.fit, "both in one loop": partial(gc.training.fit, targets=beside),
                 "distilled": partial(distill, teacher=teacher), "int8": partial(distill, teacher=int8),
                 "features": partial(distill, teacher=teacher, features=[features]),
                 "cached": partial(distill, teacher=teacher, cache=folder / "logits")}
    students = {way: ready(build(), example) for way in trainings}

    def training(way):
        """(seconds of each epoch, seconds before the first)"""
        trainer = gluon.Trainer(students[way].collect_params(), "sgd", {"learning_rate": 1e-4})
        history, seconds = timed(lambda: trainings[way](students[way], train_data=data, epochs=EPOCHS, trainer=trainer,
                                                        progress=False))
        epochs = [epoch["seconds"] for epoch in history.epochs]
        return epochs, seconds - sum(epochs)

    def forward(net):
        """As :func:`training`, with nothing before."""
        return [timed(lambda: [net(inputs).wait_to_read() for inputs in in_memory])[1] for _ in range(EPOCHS)], 0.0

    works = {"forward": lambda: forward(teacher), "int8 forward": lambda: forward(int8),
             **{way: partial(training, way) for way in trainings}}
    for work in works.values():
        work()  # warms up, and fills the cache
    rounds = [{name: work() for name, work in works.items()} for _ in range(ROUNDS)]
    fastest = {name: min(second for round_ in rounds for second in round_[name][0]) for name in works}
    once = {name: min(round_[name][1] for round_ in rounds) for name in students}
    return {"ratios": {title: fastest[way] / sum(fastest[part] for part in parts)
                       for title, (way, parts) in RATIOS.items()},
            "milliseconds": {name: 1e3 * seconds / batches for name, seconds in fastest.items()},
            "milliseconds once": {name: 1e3 * seconds for name, seconds in once.items()}}


def text_of(results):
    ratios = [(title, *(f"{result['ratios'][title]:.3f}" for result in results.values())) for title in RATIOS]
    steps = [(name, *(f"{result['milliseconds'][name]:.1f}" for result in results.values()))
             for name in next(iter(results.values()))["milliseconds"]]
    once = [(name, *(f"{result['milliseconds once'][name]:.0f}" for result in results.values()))
            for name in next(iter(results.values()))["milliseconds once"]]
    batches = " and ".join(str(number) for _, number in SETTINGS.values())
    return "\n".join((format_table(("ratio of times", *results), ratios), "",
                      format_table(("ms per step", *results), steps), "",
                      format_table(("ms once, before the first epoch", *results), once),
                      f"(epochs of {batches} batches of {BATCH}, {gc.runtime.status().threads} threads; the fastest of "
                      f"{ROUNDS} rounds of {EPOCHS} epochs)", ""))


@click.command(help=__doc__.split("\n")[0])
def main():
    results = {}
    for name, (setting, batches) in SETTINGS.items():
        with tempfile.TemporaryDirectory() as folder:
            results[name] = measure(setting, batches, Path(folder))
    text = text_of(results)
    file = RESULTS.with_suffix(".txt")
    recording.write_result(RESULTS, results, text)
    click.echo(f"{text}Made: {RESULTS}, {file}")


if __name__ == "__main__":
    main()
