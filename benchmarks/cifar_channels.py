"""CIFAR-10: the shipped ResNet-18 at 2.1 times fewer MACs, four criteria side by side.

    python benchmarks/cifar_channels.py                     # all runs: about two hours on two cores; resumable
    python benchmarks/cifar_channels.py --criterion l1 --seed 1
    python benchmarks/cifar_channels.py --criterion unpruned --criterion l1 --epochs 15   # does longer help?

Each network is pruned once, in one shot, all layers together, to multiples of 16 channels (with odd counts a
training step is as slow as before), and fine-tuned with the schedule below, fixed in advance;
the unpruned network gets the same extra training. The test images are looked at before and after
and choose nothing. Each run is a file in ``results/cifar_channels/``; the table of
them all, with means over the seeds, is ``results/cifar_channels.txt``.
"""
import json
import time

import click

import gluon_compress as gc  # before mxnet: see gluon_compress/runtime
import numpy as np
import recording
from gluon_compress.datasets import compose, cutout, random_crop, random_flip
from gluon_compress.tables import format_table
from mxnet import gluon

RESULTS = recording.RESULTS / "cifar_channels"
NETWORK = "resnet18_cifar10"
CRITERIA = ("unpruned", "l1", "bn_scale", "fpgm", "taylor")
SEEDS = (1, 2)
SPEED_UP = 2.1                       # MACs before over MACs after
EPOCHS, LEARNING_RATE, WEIGHT_DECAY, BATCH = 5, 0.05, 5e-4, 128
LONG = 15                            # epochs of the second table
AUGMENTATION = compose(random_crop(4), random_flip, cutout(8))


def run(criterion, seed, epochs):
    """Prune, fine-tune and measure one network; the file of a finished run is left alone."""
    path = RESULTS / f"{criterion}-{epochs}epochs-{seed}.json"
    if path.exists():
        return
    RESULTS.mkdir(parents=True, exist_ok=True)
    train_set, test_set = gc.datasets.cifar10()
    test = test_set.batches(500)
    net = gc.params.load(NETWORK)
    example = next(iter(test))[0][:1]
    started = time.time()
    if criterion != "unpruned":
        some = train_set.subset(slice(0, 2560)).batches(128)
        ranking = gc.pruning.Taylor(some) if criterion == "taylor" else criterion
        gc.pruning.prune_channels(net, example, macs=1 / SPEED_UP, scope="global", criterion=ranking, max_ratio=0.8,
                                  round_to=16)
    net.hybridize(static_alloc=True, static_shape=True)
    before = gc.training.evaluate(net, test)
    gc.pruning.reestimate_batch_norm(net, train_set.batches(BATCH, shuffle=True), batches=40)
    reestimated = gc.training.evaluate(net, test)
    trainer = gluon.Trainer(net.collect_params(), "nag", {
        "learning_rate": LEARNING_RATE, "momentum": 0.9, "wd": WEIGHT_DECAY})
    gc.training.fit(net, train_set.batches(BATCH, shuffle=True, augment=AUGMENTATION), epochs, trainer,
                    gc.training.one_cycle, seed=seed, state_path=path.with_suffix(".state"))
    report = gc.report(net, example)
    result = {"criterion": criterion, "seed": seed, "before": before, "before_reestimated": reestimated,
              "after": gc.training.evaluate(net, test),
              "macs": report.macs, "parameters": report.parameters, "epochs": epochs,
              "learning_rate": LEARNING_RATE, "seconds": round(time.time() - started)}
    recording.write_json(path, result)
    path.with_suffix(".state").unlink()
    click.echo(f"{result}\nMade: {path}")


def table(epochs):
    """Means over the seeds that are finished, lowest and highest in brackets."""
    rows = []
    for criterion in CRITERIA:
        runs = [json.loads(path.read_text()) for path in sorted(RESULTS.glob(f"{criterion}-{epochs}epochs-*.json"))]
        if runs:
            unpruned = criterion == "unpruned"
            macs = json.loads((RESULTS / f"unpruned-{EPOCHS}epochs-1.json").read_text())["macs"] / runs[0]["macs"]
            rows.append((criterion, f"{macs:.2f}", *(
                "" if unpruned and key == "before_reestimated" else spread([run[key] for run in runs])
                for key in ("before", "before_reestimated", "after"))))
    return format_table(("criterion", "fewer MACs", "before fine-tuning", "BatchNorm re-estimated",
                         f"after {epochs} epochs"), rows)


def spread(accuracies):
    values = [100 * value for value in accuracies]
    seeds = f"{len(values)} seed{'s' * (len(values) > 1)}"
    return f"{np.mean(values):.2f} % ({min(values):.2f} to {max(values):.2f}, {seeds})"


@click.command(help=__doc__.split("\n")[0])
@click.option("--criterion", type=click.Choice(CRITERIA), multiple=True, default=CRITERIA)
@click.option("--seed", type=int, multiple=True, default=SEEDS)
@click.option("--epochs", type=click.Choice((str(EPOCHS), str(LONG))), default=str(EPOCHS))
def main(criterion, seed, epochs):
    for number in seed:
        for name in criterion:
            run(name, number, int(epochs))
    tables = "\n".join(table(number) for number in (EPOCHS, LONG))
    text = (f"{NETWORK}, as trained: {100 * gc.params.manifest()[NETWORK]['test_accuracy']:.2f} %\n{tables}\n"
            f"(one shot, all layers together, multiples of 16 channels; NAG, learning rate "
            f"{LEARNING_RATE} one cycle, weight decay {WEIGHT_DECAY}, batch {BATCH}, crop, flip and cutout)\n")
    file = RESULTS.with_suffix(".txt")
    recording.write_text(file, text)
    click.echo(f"{text}Made: {file}")


if __name__ == "__main__":
    main()
