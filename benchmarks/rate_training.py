"""Networks trained for the size of their files."""
import json
import time
from dataclasses import asdict, dataclass, field
from pathlib import Path

import click

import gluon_compress as gc  # before mxnet: see gluon_compress/runtime
import mxnet as mx
import numpy as np
import recording
from gluon_compress.training import state as training_state
from mxnet import autograd

HELD_OUT, HELD_OUT_SEED = 5000, 0
SHIFTS = [(down, right) for down in (0, 1, 2) for right in (0, 1, 2)]  # of a window in images padded by a pixel


@dataclass(frozen=True)
class Setting:
    """How a network is trained. Fixed before the training begins."""

    penalty: float
    epochs: int
    removed: dict = field(default_factory=dict)  # share of channels that go first, by layer
    learning_rate: float = 2e-3
    warmup: float = 0.3  # share of the training over which the penalty rises
    batch: int = 128
    temperature: float = 4
    hard_weight: float = 0.3
    step_rate: float = 0.02


REMOVED = {
    "lenet5_caffe_mnist": {"features.0": 0.5, "features.2": 0.5, "features.5": 0.8},
    "lenet_300_100_mnist": {"features.1": 0.5, "features.2": 0.5},
    "lenet_mnist": {"conv.0": 0.5, "conv.2": 0.5, "dense.0": 0.5},
    "simple_cnn_mnist": {},
}


class Pool:
    """MNIST in memory: images padded by a pixel, and what the teacher says of each shift, computed once."""

    def __init__(self, name, dataset, work):
        mean, std = dataset.mean[0], dataset.std[0]
        padded = np.pad(dataset.images[..., 0], ((0, 0), (1, 1), (1, 1)))
        self.images = mx.nd.array((padded[:, None] / 255.0 - mean) / std)
        self.labels = mx.nd.array(dataset.labels)
        self.path = work / f"{name}-{len(dataset)}-logits.npy"
        if not self.path.exists():
            teacher = gc.params.load(name)
            np.save(self.path, np.stack([self._answers(teacher, shift) for shift in SHIFTS]))
        self.answers = [mx.nd.array(each) for each in np.load(self.path)]

    def window(self, images, shift):
        down, right = shift
        return images[:, :, down:down + 28, right:right + 28]

    def _answers(self, teacher, shift):
        return np.concatenate([teacher(self.window(self.images[begin:begin + 1000], shift)).asnumpy()
                               for begin in range(0, len(self.labels), 1000)])

    def batches(self, size):
        """(inputs, labels, the teacher's logits) once through the data; a shift for each batch."""
        order = np.random.permutation(len(self.labels))
        for begin in range(0, len(order) - size + 1, size):
            number = np.random.randint(len(SHIFTS))
            chosen = mx.nd.array(order[begin:begin + size], dtype="int32")
            yield (self.window(mx.nd.take(self.images, chosen), SHIFTS[number]), mx.nd.take(self.labels, chosen),
                   mx.nd.take(self.answers[number], chosen))

    def length(self, size):
        return len(self.labels) // size


def train(name, setting, seed, work, everything, stem):
    """Train; write the compressed file; return the result."""
    entry = gc.params.manifest()[name]
    full, test = getattr(gc.datasets, entry["dataset"])()
    rest, held = full.split(HELD_OUT, HELD_OUT_SEED)
    held, test = held.batches(500), test.batches(500)
    pool = Pool(name, full if everything else rest, work)
    net = gc.params.load(name)
    if setting.removed:
        gc.pruning.prune_channels(net, mx.nd.zeros((1, *entry["input_shape"])), setting.removed, round_to=1)
    net.hybridize(static_alloc=True, static_shape=True)
    steps = pool.length(setting.batch)
    trainer = gc.coding.RateTrainer(net, setting.penalty, "adam", {"learning_rate": setting.learning_rate},
                                    warmup=int(setting.warmup * setting.epochs * steps), step_rate=setting.step_rate)
    loss = gc.distillation.DistillationLoss(setting.temperature, setting.hard_weight)
    loss.hybridize(static_alloc=True, static_shape=True)
    identity = {"name": name, "seed": seed, "everything": everything, **asdict(setting)}
    state, epochs = work / f"{stem}.state", []
    if state.exists():
        epochs, _ = training_state.restore(state, net, trainer, identity)
    for epoch in range(len(epochs), setting.epochs):
        np.random.seed(1000 * seed + epoch)
        mx.random.seed(1000 * seed + epoch)
        started, total = time.perf_counter(), 0
        for step, (inputs, labels, answers) in enumerate(pool.batches(setting.batch)):
            trainer.set_learning_rate(setting.learning_rate * gc.training.cosine(
                (epoch + step / steps) / setting.epochs))
            with autograd.record():
                losses = loss(net(inputs), labels, answers)
            losses.backward()
            trainer.step(setting.batch)
            if step % 50 == 49:
                total += float(losses.mean().asscalar())
        accuracy = gc.training.evaluate(net, held)
        epochs.append({"epoch": epoch + 1, "loss": total / max(steps // 50, 1), "accuracy": accuracy,
                       "learning_rate": trainer.learning_rate, "validation_accuracy": accuracy,
                       "seconds": time.perf_counter() - started})
        training_state.save(state, net, trainer, identity, epochs, None)
        left = [f"{np.count_nonzero(codes)} to {np.abs(codes).max()}" for codes in trainer.codes().values()]
        click.echo(f"{epoch + 1}: {epochs[-1]['seconds']:.0f} s, loss {epochs[-1]['loss']:.4f}, held-out error "
                   f"{100 * (1 - accuracy):.2f} %, {trainer.coded_bytes()} bytes ({trainer.bits / 8:.0f} estimated); "
                   f"{', '.join(left)}")
    path = work / f"{stem}.gcz"
    size = gc.save(path, net, trainer.scales)
    result = {**identity, "bytes": size, "coded": trainer.coded_bytes(), "ratio": entry["bytes"] / size,
              "held_out_error": 1 - gc.training.evaluate(gc.load(path), held)}
    if everything:
        result["test_error"] = 1 - gc.training.evaluate(gc.load(path), test)
    recording.write_json(work / f"{stem}.json", result)
    click.echo(json.dumps(result))
    return result


@click.command(help=__doc__.split("\n")[0])
@click.argument("name", type=click.Choice(sorted(REMOVED)))
@click.option("--set", "settings", multiple=True, help="name=value of Setting")
@click.option("--seed", type=int, default=1)
@click.option("--everything", is_flag=True, help="Train on held-out images too; measure on the test set.")
@click.option("--work", type=click.Path(path_type=Path), default=Path("rate_training"))
@click.option("--tag", default="")
def main(name, settings, seed, everything, work, tag):
    work.mkdir(parents=True, exist_ok=True)
    chosen = {key: json.loads(value) for key, value in (each.split("=", 1) for each in settings)}
    setting = Setting(**{"removed": REMOVED[name], **chosen})
    stem = f"{name}-{setting.penalty:g}-{setting.epochs}-{seed}{'-all' if everything else ''}{tag}"
    train(name, setting, seed, work, everything, stem)


if __name__ == "__main__":
    main()
