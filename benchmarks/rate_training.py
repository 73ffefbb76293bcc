"""Networks trained for the size of their files, from the shipped ones, which are also their teachers.

    python benchmarks/rate_training.py lenet_300_100_mnist 130x --seed 1 --work ~/rate      # one
    python benchmarks/rate_training.py --all --work ~/rate                                  # all that are missing
    python benchmarks/rate_training_table.py --work ~/rate                                  # measure, publish

State is kept after each epoch: a killed run, started again, goes on to the same bits. 5,000 random training images are
held out; on them settings were chosen, with seed 1 (``--set epochs=60`` tries another). The last epoch counts. A
result is ``<network>-<aim>-<seed>.gcz``, the file, and ``.json``: setting, bytes, held-out error. (The shipped networks
were trained on the held-out images, too, so that the error there is lower than that of the test images, which only
``rate_training_table.py`` sees.)
"""
import json
import time
from dataclasses import asdict, dataclass, field, replace
from itertools import islice
from pathlib import Path

import click

import gluon_compress as gc  # before mxnet: see gluon_compress/runtime
import mxnet as mx
import numpy as np
import recording
from gluon_compress.datasets import compose, cutout, random_crop, random_flip
from gluon_compress.network.graph import Graph
from gluon_compress.network.norms import scale_and_shift
from gluon_compress.network.values import restore_snapshot, snapshot
from gluon_compress.pruning.channels.batch_norm import has_batch_norm
from gluon_compress.quantization.rate.rounding import significant
from gluon_compress.training import state as training_state
from mxnet import autograd

HELD_OUT, HELD_OUT_SEED = 5000, 0
SEEDS = (1, 2, 3)
SHIFTS = [(down, right) for down in (0, 1, 2) for right in (0, 1, 2)]  # of a window in images padded by a pixel
FALLING = 0.5  # share of the training over which the bytes fall to the goal
CALIBRATION = 512  # images, for a teacher on integers
SIGNIFICANT = 7  # bits of what BatchNorms multiply with and add
NORM_BATCHES = 20  # for rounding, and for the statistics of BatchNorm after channels went
LAST_NORM_BATCHES = 150  # for the statistics after the last update, which running means of few batches are far from
TOLD = 50  # batches between two losses that are added up: asking for one waits for it


@dataclass(frozen=True)
class Setting:
    """How a network is trained; fixed before the training begins. Adam, learning rate to zero along a cosine."""

    goal: int  # bytes of all codes at the end
    epochs: int
    # {layer: share of its channels} that go before the training, or {"macs": the share that all keep together}
    removed: dict = field(default_factory=dict)
    learning_rate: float = 2e-3
    batch: int = 128
    penalty: float = 0.1  # at the beginning
    temperature: float = 4
    hard_weight: float = 0.3
    step_rate: float = 0.02
    after: str | None = None  # the aim from whose last epoch the training goes on, with the same seed
    rounded: float | None = None  # the rate at which the network is rounded before the training


CAFFE = {"features.0": 0.5, "features.2": 0.5, "features.5": 0.8}
DENSE = {"features.1": 0.5, "features.2": 0.5}
ARTICLE = {"conv.0": 0.5, "conv.2": 0.5, "dense.0": 0.5}
# {network: {aim: Setting}}, in the order in which ``--all`` trains them
SETTINGS = {
    "lenet_300_100_mnist": {"130x": Setting(7650, 40, DENSE, 3e-3, 256), "60x": Setting(17000, 40, DENSE, 3e-3, 256)},
    "lenet5_caffe_mnist": {"300x": Setting(5000, 20, CAFFE),
                           "650x": Setting(1950, 30, {"features.0": 0.6, "features.2": 0.6, "features.5": 0.88})},
    "lenet_mnist": {"150x": Setting(4100, 20, ARTICLE)},
    "simple_cnn_mnist": {"40x": Setting(1735, 20)},
    "alexnet_cifar10": {"59x": Setting(354_000, 16, learning_rate=5e-4, penalty=0.5, rounded=0.02),
                        "60x": Setting(334_000, 2, learning_rate=1e-4, penalty=0.4, after="59x")},
    "resnet18_cifar10": {"60x": Setting(178_500, 8, learning_rate=5e-4, batch=64, penalty=1.0, rounded=0.1),
                         "100x": Setting(103_000, 5, learning_rate=5e-4, batch=64, penalty=0.5, after="60x")},
}
CIFAR = compose(random_crop(4), random_flip, cutout(8))


class Mnist:
    """MNIST in memory: images padded by a pixel, and what the teacher says of each shift, computed once."""

    def __init__(self, name, dataset, size, work):
        mean, std, self.size = dataset.mean[0], dataset.std[0], size
        padded = np.pad(dataset.images[..., 0], ((0, 0), (1, 1), (1, 1)))
        self.images = mx.nd.array((padded[:, None] / 255.0 - mean) / std)
        self.labels = mx.nd.array(dataset.labels)
        path = work / f"{name}-logits.npy"
        if not path.exists():
            teacher = gc.params.load(name)
            np.save(path, np.stack([self._answers(teacher, shift) for shift in SHIFTS]))
        self.answers = [mx.nd.array(each) for each in np.load(path)]

    def _answers(self, teacher, shift):
        return np.concatenate([teacher(window(self.images[begin:begin + 1000], shift)).asnumpy()
                               for begin in range(0, len(self.labels), 1000)])

    def __iter__(self):
        """(inputs, labels, the teacher's logits) once through the data; a shift for each batch."""
        order = np.random.permutation(len(self.labels))
        for begin in range(0, len(order) - self.size + 1, self.size):
            number = np.random.randint(len(SHIFTS))
            chosen = mx.nd.array(order[begin:begin + self.size], dtype="int32")
            yield (window(mx.nd.take(self.images, chosen), SHIFTS[number]), mx.nd.take(self.labels, chosen),
                   mx.nd.take(self.answers[number], chosen))

    def __len__(self):
        return len(self.labels) // self.size


def window(images, shift):
    down, right = shift
    return images[:, :, down:down + 28, right:right + 28]


class Cifar10:
    """CIFAR-10, augmented as for the shipped networks; the teacher, on integers for speed, sees each batch."""

    def __init__(self, name, dataset, size, work):
        some = list(dataset.subset(slice(0, CALIBRATION)).batches(size, size=resized(name)))
        self.teacher = gc.quantization.quantize(gc.params.load(name), some, progress=False)
        self.batches = dataset.batches(size, shuffle=True, augment=CIFAR, size=resized(name))

    def __iter__(self):
        for inputs, labels in self.batches:
            yield inputs, labels, self.teacher(inputs)

    def __len__(self):
        return len(self.batches)


def resized(name):
    """The size to which images are resized for a network, or None."""
    entry = gc.params.manifest()[name]
    side = entry["input_shape"][-1]
    return None if side == {"mnist": 28, "cifar10": 32}[entry["dataset"]] else side


def datasets_of(name):
    """(training data without what is held out, held-out batches, test batches)."""
    full, test = getattr(gc.datasets, gc.params.manifest()[name]["dataset"])()
    rest, held = full.split(HELD_OUT, HELD_OUT_SEED)
    return rest, held.batches(500, size=resized(name)), test.batches(500, size=resized(name))


def example_of(name):
    return mx.nd.zeros((1, *gc.params.manifest()[name]["input_shape"]))


def network_of(name, setting):
    """The shipped network without the channels that go before the training."""
    net, removed = gc.params.load(name), setting.removed
    if removed:
        example = example_of(name)
        if "macs" in removed:
            gc.pruning.prune_channels(net, example, macs=removed["macs"], scope="global", max_ratio=0.8, round_to=16)
        else:
            gc.pruning.prune_channels(net, example, removed, round_to=1)
    net.hybridize(static_alloc=True, static_shape=True)
    return net


def trainer_of(name, net, setting, updates):
    """A trainer of so many updates for an epoch."""
    vectors = not has_batch_norm(net, example_of(name))  # see shorten_norms
    goal = gc.coding.SizeGoal(setting.goal, int(FALLING * setting.epochs * updates), setting.penalty)
    return gc.coding.RateTrainer(net, goal, "adam", {"learning_rate": setting.learning_rate},
                                 step_rate=setting.step_rate, vectors=vectors)


def identity_of(name, setting, seed):
    """What tells a training from others."""
    return {"network": name, "seed": seed,
            **{key: value for key, value in asdict(setting).items() if value is not None}}


def begin(name, setting, seed, rest, stem):
    """A network and its trainer as they are before the training."""
    net, updates = network_of(name, setting), len(rest) // setting.batch
    if setting.after is not None:
        return net, go_on(trained_before(name, net, setting, seed, rest, stem), trainer_of(name, net, setting, updates))
    has_norms = has_batch_norm(net, example_of(name))
    np.random.seed(seed)
    some = list(islice(rest.batches(setting.batch, shuffle=True, size=resized(name)), NORM_BATCHES))
    if setting.removed and has_norms:
        gc.pruning.reestimate_batch_norm(net, some)
    if setting.rounded is not None:
        gc.quantization.quantize_weights(net, rate=setting.rounded, calibration_data=some, per_channel=False)
        if has_norms:
            gc.pruning.reestimate_batch_norm(net, some, keep_outputs=True)
    return net, trainer_of(name, net, setting, updates)


def trained_before(name, net, setting, seed, rest, stem):
    """The trainer of the training that this one goes on from; the network is as that left it."""
    earlier, state = SETTINGS[name][setting.after], stem_of(stem.parent, name, setting.after, seed)
    trainer = trainer_of(name, net, earlier, len(rest) // earlier.batch)
    training_state.restore(state.with_suffix(".state"), net, trainer, identity_of(name, earlier, seed))
    return trainer


def go_on(earlier, trainer):
    """The trainer, with the steps and the values before rounding that an earlier one ended with."""
    state, before = trainer.extra_state(), earlier.extra_state()
    state["masks"] |= {key: before["masks"][key] for key in ("steps", "per_bit")}
    trainer.restore_extra_state(state)
    trainer.restore_state_tensors(earlier.state_tensors())
    return trainer


def train(name, setting, seed, stem):
    """Train one network, on from its last epoch; write its file and its result."""
    rest, held, _ = datasets_of(name)
    data = {"mnist": Mnist, "cifar10": Cifar10}[gc.params.manifest()[name]["dataset"]](
        name, rest, setting.batch, stem.parent)
    state, epochs, identity = stem.with_suffix(".state"), [], identity_of(name, setting, seed)
    if state.exists():
        net = network_of(name, setting)
        trainer = trainer_of(name, net, setting, len(data))
        epochs, _ = training_state.restore(state, net, trainer, identity)
    else:
        net, trainer = begin(name, setting, seed, rest, stem)
    for epoch in range(len(epochs), setting.epochs):
        np.random.seed(1000 * seed + epoch)
        mx.random.seed(1000 * seed + epoch)
        epochs.append(train_epoch(net, data, trainer, setting, epoch) |
                      {"accuracy": gc.training.evaluate(net, held)})  # of what is held out
        training_state.save(state, net, trainer, identity, epochs, None)
        click.echo(f"{stem.name}, {told(trainer, epochs[-1])}")
    if has_batch_norm(net, example_of(name)):
        np.random.seed(seed)
        gc.pruning.reestimate_batch_norm(net, data.batches, LAST_NORM_BATCHES, progress=False)
    shorten_norms(net, example_of(name))
    size = gc.save(stem.with_suffix(".gcz"), net, trainer.scales)
    recording.write_json(stem.with_suffix(".json"), {
        **identity, "bytes": size, "ratio": gc.params.manifest()[name]["bytes"] / size,
        "held_out_error": 1 - gc.training.evaluate(net, held),
        "seconds": round(sum(each["seconds"] for each in epochs)), "machine": recording.cpu_name()})


def train_epoch(net, data, trainer, setting, epoch):
    """Once through the data, in a loop as a user would write it."""
    loss = gc.distillation.DistillationLoss(setting.temperature, setting.hard_weight)
    loss.hybridize(static_alloc=True, static_shape=True)
    started, losses_told = time.perf_counter(), []
    for step, (inputs, labels, answers) in enumerate(data):
        trainer.set_learning_rate(setting.learning_rate * gc.training.cosine(
            (epoch + step / len(data)) / setting.epochs))
        with autograd.record():
            losses = loss(net(inputs), labels, answers)
        losses.backward()
        trainer.step(len(labels))
        if step % TOLD == 0:
            losses_told.append(float(losses.mean().asscalar()))
    return {"epoch": epoch + 1, "loss": float(np.mean(losses_told)), "validation_accuracy": None,
            "learning_rate": trainer.learning_rate, "seconds": time.perf_counter() - started}


def told(trainer, epoch):
    left = [f"{np.count_nonzero(codes)} to {np.abs(codes).max()}" for codes in trainer.codes().values()]
    shown = left if len(left) <= 12 else [*left[:6], "...", *left[-6:]]
    return (f"epoch {epoch['epoch']}: {epoch['seconds']:.0f} s, loss {epoch['loss']:.4f}, held-out error "
            f"{100 * (1 - epoch['accuracy']):.2f} %, {trainer.coded_bytes()} bytes of codes "
            f"({trainer.bits / 8:.0f} estimated), penalty {trainer.penalty:.3g}; {', '.join(shown)}")


def shorten_norms(net, example):
    """Each BatchNorm becomes alpha x + shift, of few significant bits each, and its statistics take no room."""
    values, changed = snapshot(net), {}
    for norm in Graph(net, example).nodes:
        if norm.meaning.keeps_statistics:
            named, alpha_and_shift = norm.parameters, scale_and_shift(norm, values)
            changed |= {named[role]: significant(value, SIGNIFICANT).astype(np.float32)
                        for role, value in zip(("gamma", "beta"), alpha_and_shift)}
            changed[named["mean"]] = np.zeros_like(values[named["mean"]])
            changed[named["variance"]] = np.full_like(values[named["variance"]], 1 - norm.get("eps"))
    restore_snapshot(net, changed)


def stem_of(work, name, aim, seed, changes=()):
    return work / "-".join((name, aim, str(seed), *changes)).replace("=", "")


@click.command(help=__doc__.split("\n")[0])
@click.argument("name", type=click.Choice(list(SETTINGS)), required=False)
@click.argument("aim", required=False)
@click.option("--seed", type=click.IntRange(min=1), default=1)
@click.option("--set", "changes", multiple=True, metavar="NAME=VALUE", help="Another value of a setting, to try it.")
@click.option("--all", "every", is_flag=True, help="Train all networks of all seeds that are missing.")
@click.option("--work", type=click.Path(path_type=Path), required=True, help="Folder of states and results.")
def main(name, aim, seed, changes, every, work):
    work.mkdir(parents=True, exist_ok=True)
    if every:
        wanted = [(name, aim, seed) for name in SETTINGS for aim in SETTINGS[name] for seed in SEEDS]
    elif name is None or aim not in SETTINGS[name]:
        raise click.UsageError(f"accepted: --all, or one of {', '.join(SETTINGS)} and an aim of its SETTINGS")
    else:
        wanted = [(name, aim, seed)]
    for name, aim, seed in wanted:
        stem = stem_of(work, name, aim, seed, changes)
        if not stem.with_suffix(".json").exists():
            values = {key: json.loads(value) for key, _, value in (change.partition("=") for change in changes)}
            train(name, replace(SETTINGS[name][aim], **values), seed, stem)


if __name__ == "__main__":
    main()
