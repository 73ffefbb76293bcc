"""CIFAR-10: what students learn from the shipped ResNet-18 beside the labels.

    python benchmarks/cifar_distillation.py                        # all runs: about three hours on two cores; resumable
    python benchmarks/cifar_distillation.py --student resnet --way distilled --seed 1

Two students, each trained alone, distilled, and distilled with a loss between features: four seeds. A copy of the
teacher with half of its MACs, fine-tuned with the labels and distilled: two seeds. The article's student at other
temperatures: one seed. The ways differ in the loss only: same images, augmentation, steps, schedule and seeds, all
fixed in advance. The teacher runs on integers (``quantization.quantize``), and the weights of the feature losses are
those of their papers. The test images choose nothing. Each run is a file in ``results/cifar_distillation/``; the tables
are ``results/cifar_distillation.txt``.
"""
import json
import time
from dataclasses import dataclass

import click

import gluon_compress as gc  # before mxnet: see gluon_compress/runtime
import mxnet as mx
import numpy as np
import recording
from gluon_compress.datasets import compose, random_crop, random_flip
from gluon_compress.distillation import FeatureLoss, distill
from gluon_compress.tables import format_table
from mxnet import gluon

RESULTS = recording.RESULTS / "cifar_distillation"
TEACHER = "resnet18_cifar10"
BATCH, MOMENTUM, WEIGHT_DECAY = 128, 0.9, 5e-4
AUGMENTATION = compose(random_crop(4), random_flip)
TEMPERATURE, HARD_WEIGHT = 4.0, 0.1
TEMPERATURES = (1.0, 2.0, 4.0, 8.0, 20.0)
WAYS = ("alone", "distilled", "features")
MACS, ROUND_TO = 0.5, 8  # of the pruned copy


@dataclass(frozen=True)
class Student:
    """How one is made and trained."""

    title: str
    build: callable
    epochs: int
    learning_rate: float
    ways: tuple
    seeds: tuple
    features: tuple = ()


def pruned_teacher(example):
    net = gc.params.load(TEACHER)
    gc.pruning.prune_channels(net, example, macs=MACS, scope="global", max_ratio=0.8, round_to=ROUND_TO)
    return net


def small_resnet(_):
    return gc.models.ResNet(18, classes=10, thumbnail=True, width=8)


STUDENTS = {
    "article": Student("the article's SmallConvNet", lambda _: gc.models.SmallConvNet(classes=10), 10, 0.02, WAYS,
                       (1, 2, 3, 4), (FeatureLoss("features.3", "features.4.1.body.3", "similarity", 3000.0),)),
    "resnet": Student("ResNet-18 of width 8", small_resnet, 10, 0.1, WAYS, (1, 2, 3, 4), tuple(
        FeatureLoss(f"features.{stage}", f"features.{stage}.1.body.3", "attention", 1000.0) for stage in (3, 4, 5))),
    "pruned": Student("the teacher, half its MACs", pruned_teacher, 2, 0.02, WAYS[:2], (1, 2))}


def run(name, way, seed, temperature=TEMPERATURE):
    """Train and measure one student; the file of a finished run is left alone."""
    path = RESULTS / f"{name}-{way}-{temperature:g}-{seed}.json"
    if path.exists():
        return
    RESULTS.mkdir(parents=True, exist_ok=True)
    student = STUDENTS[name]
    train_set, test_set = gc.datasets.cifar10()
    test = test_set.batches(500)
    example = next(iter(test))[0][:1]
    mx.random.seed(seed)
    net = student.build(example)
    if name != "pruned":
        net.initialize(mx.init.Xavier())
        net(example)
    net.hybridize(static_alloc=True, static_shape=True)
    data = train_set.batches(BATCH, shuffle=True, augment=AUGMENTATION)
    trainer = gluon.Trainer(net.collect_params(), "nag", {
        "learning_rate": student.learning_rate, "momentum": MOMENTUM, "wd": WEIGHT_DECAY})
    arguments = {"trainer": trainer, "schedule": gc.training.one_cycle, "seed": seed,
                 "state_path": path.with_suffix(".state")}
    started = time.time()
    if way == "alone":
        gc.training.fit(net, data, student.epochs, **arguments)
    else:
        teacher = gc.quantization.quantize(gc.params.load(TEACHER), train_set.subset(slice(0, 512)).batches(64),
                                           progress=False)
        features = list(student.features) if way == "features" else None
        distill(net, teacher, data, student.epochs, temperature, HARD_WEIGHT, features=features, **arguments)
    result = {"student": name, "way": way, "seed": seed, "temperature": temperature, "epochs": student.epochs,
              "accuracy": gc.training.evaluate(net, test), "macs": gc.report(net, example).macs,
              "seconds": round(time.time() - started)}
    recording.write_json(path, result)
    path.with_suffix(".state").unlink()
    click.echo(f"{result}\nMade: {path}")


def found(name, way, temperature=TEMPERATURE):
    """The results of all seeds."""
    return [json.loads(path.read_text()) for path in sorted(RESULTS.glob(f"{name}-{way}-{temperature:g}-*.json"))]


def tables():
    titles = {"alone": "labels alone", "distilled": f"distilled, T = {TEMPERATURE:g}", "features": "... and features"}
    rows = []
    for name, student in STUDENTS.items():
        alone = [100 * result["accuracy"] for result in found(name, "alone")]
        for way in student.ways:
            results = found(name, way)
            if results:
                values = [100 * result["accuracy"] for result in results]
                gain = f"{np.mean(values) - np.mean(alone):+.2f}" if alone and way != "alone" else ""
                rows.append((student.title, f"{results[0]['macs']:,}", titles[way], f"{np.mean(values):.2f}",
                             f"{max(values):.2f}", f"{min(values):.2f}", gain, str(len(values))))
    text = format_table(("student", "MACs", "trained with", "mean %", "best", "worst", "gain", "seeds"), rows)
    sweep = {temperature: found("article", "distilled", temperature)[:1] for temperature in TEMPERATURES}
    text += "\n\n" + format_table(("temperature, seed 1", *(f"{temperature:g}" for temperature in TEMPERATURES)), [
        (STUDENTS["article"].title, *(f"{100 * results[0]['accuracy']:.2f}" if results else "-"
                                      for results in sweep.values()))])
    schedule = ";\n".join(f"{student.title}: {student.epochs} epochs, learning rate {student.learning_rate}"
                          for student in STUDENTS.values())
    return (f"{text}\n(teacher {TEACHER}, {100 * gc.params.manifest()[TEACHER]['test_accuracy']:.2f} %, "
            f"share of the labels {HARD_WEIGHT};\n{schedule}.\nNAG, momentum {MOMENTUM}, one cycle, weight decay "
            f"{WEIGHT_DECAY}, batches of {BATCH}, crop and flip)\n")


@click.command(help=__doc__.split("\n")[0])
@click.option("--student", "students", type=click.Choice(tuple(STUDENTS)), multiple=True, default=tuple(STUDENTS))
@click.option("--way", "ways", type=click.Choice(WAYS), multiple=True, default=WAYS)
@click.option("--seed", "seeds", type=int, multiple=True, help="These seeds only.")
def main(students, ways, seeds):
    for name in students:
        for seed in seeds or STUDENTS[name].seeds:
            for way in ways:
                if way in STUDENTS[name].ways:
                    run(name, way, seed)
    if "article" in students and "distilled" in ways:
        for temperature in TEMPERATURES:
            run("article", "distilled", 1, temperature)
    text = tables()
    file = RESULTS.with_suffix(".txt")
    recording.write_text(file, text)
    click.echo(f"{text}Made: {file} and a file for each run in {RESULTS}")


if __name__ == "__main__":
    main()
