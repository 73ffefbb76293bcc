"""A scheduler, a server and workers of MXNet's parameter server on this machine; what they train in the tests.

Run as a script by a launcher: ``clusters.py folder scenario ...``, one scenario after the other. Every
worker writes what it got into ``folder``.
"""
import os
import signal
import socket
import sys
import tempfile
from pathlib import Path

import gluon_compress as gc

import mxnet as mx  # noqa: I001
import numpy as np
import stock_mxnet
from gluon_compress.network import snapshot
from gluon_compress.pruning import GradualPruner, MaskedTrainer
from mxnet.gluon import Trainer, nn


MXNETS_OWN_SERVER = stock_mxnet.IMPORT  # which takes optimizers, as pickles


def start_cluster(start_python, code, arguments, server="import gluon_compress"):
    """A scheduler, a server and a worker for each list of arguments; all end with the test."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    cluster = {"DMLC_PS_ROOT_URI": "127.0.0.1", "DMLC_PS_ROOT_PORT": str(port), "DMLC_NUM_SERVER": "1",
               "DMLC_NUM_WORKER": str(len(arguments)), "DMLC_INTERFACE": "lo", "DMLC_NODE_HOST": "127.0.0.1",
               "OMP_NUM_THREADS": "1"}
    for role in ("scheduler", "server"):
        start_python(server, DMLC_ROLE=role, **cluster)
    return [start_python(code, *own, DMLC_ROLE="worker", **cluster) for own in arguments]


# ---- what is trained

EPOCHS = 4


def images(count=51, seed=0):
    """With batches of 24: two of them, and one of three, which two workers cannot share evenly."""
    random = np.random.RandomState(seed)
    return gc.datasets.ImageDataset(random.randint(0, 256, (count, 4, 4, 1)), random.randint(0, 3, count),
                                    mean=(0.5,), std=(0.25,))


def network(seed=0, units=8, normalized=False):
    mx.random.seed(seed)
    net = nn.HybridSequential()
    net.add(nn.Dense(units, in_units=16, activation="relu"))
    if normalized:
        net.add(nn.BatchNorm(in_channels=units))
    net.add(nn.Dense(3, in_units=units))
    net.initialize(mx.init.Xavier())
    return net


def shares(workers, count=51, batch_size=24, shuffle=True):
    return images(count).batches(batch_size, shuffle=shuffle, rank=workers.rank, workers=workers.num_workers)


class Alone:
    """What one process with the whole batches is told."""

    rank, num_workers, kvstore = 0, 1, "device"


class Data:
    """Batches during whose second batch of the given epoch, from 1, something happens."""

    def __init__(self, batches, epoch, happens):
        self.batches, self.epoch, self.happens, self.passes = batches, epoch, happens, 0

    def __len__(self):
        return len(self.batches)

    def __iter__(self):
        self.passes += 1
        for number, batch in enumerate(self.batches):
            if self.passes == self.epoch and number == 1:
                self.happens()
            yield batch


def with_validation(workers, kvstore, **arguments):
    """``fit`` with momentum; of the first worker alone the initial weights count."""
    net = network(seed=workers.rank)
    trainer = Trainer(net.collect_params(), "nag", {"learning_rate": 0.05, "momentum": 0.9}, kvstore=kvstore)
    data = arguments.pop("data", shares(workers))
    history = gc.training.fit(net, data, EPOCHS, trainer, seed=3, progress=False, **arguments,
                              validation_data=images(30, seed=1).batches(10))
    return net, history


def distilled(workers, kvstore, **arguments):
    """``distill`` with Adam, after another training in the same process."""
    student, teacher = network(seed=workers.rank + 5), network(seed=9, units=20)
    trainer = Trainer(student.collect_params(), "adam", {"learning_rate": 0.02}, kvstore=kvstore)
    return student, gc.distillation.distill(student, teacher, shares(workers), EPOCHS, trainer=trainer, progress=False,
                                            **arguments)


def distilled_with_a_hint(workers, kvstore):
    """With an adapter, which is a parameter of the trainer and not of the student."""
    return distilled(workers, kvstore, features=[gc.distillation.FeatureLoss("0", "0", "hint", 0.5)])


def distilled_from_a_cache(workers, kvstore):
    with tempfile.TemporaryDirectory() as folder:
        return distilled(workers, kvstore, cache=Path(folder, "logits"))


def masked(workers, kvstore):
    """A network pruned while it trains."""
    net = network(seed=7)
    pruner = GradualPruner(net, 0.6, steps=8, frequency=2, initial_sparsity=0.3)
    trainer = MaskedTrainer(net, pruner, "sgd", {"learning_rate": 0.05, "momentum": 0.9}, kvstore=kvstore)
    return net, gc.training.fit(net, shares(workers), EPOCHS, trainer, progress=False)


def standing_still(workers, kvstore):
    """BatchNorm's statistics of a network that does not learn, from shares of equal sizes."""
    net = network(seed=8, normalized=True)
    trainer = Trainer(net.collect_params(), "sgd", {"learning_rate": 0.0}, kvstore=kvstore)
    return net, gc.training.fit(net, shares(workers, count=48), EPOCHS, trainer, progress=False)


def under_set_np(workers, kvstore):
    """As :func:`masked`, in MXNet's NumPy interface."""
    mx.npx.set_np()
    try:
        return masked(workers, kvstore)
    finally:
        mx.npx.reset_np()


TRAININGS = (with_validation, distilled, distilled_with_a_hint, distilled_from_a_cache, masked, standing_still,
             under_set_np)


def write(folder, name, rank, net, history):
    means = {key: np.array([epoch[key] or 0 for epoch in history.epochs])
             for key in ("loss", "accuracy", "validation_accuracy")}
    np.savez(Path(folder, f"{name}-{rank}.npz"), **snapshot(net), **{f"history/{key}": a for key, a in means.items()})


def all_trainings(workers, folder):
    for training in TRAININGS:
        write(folder, training.__name__, workers.rank, *training(workers, "dist_sync"))


def drift(workers, folder):
    """Worker 1 rounds otherwise; and bytes of all kinds go from worker 0 to worker 1."""
    net = network()

    def happens():
        if workers.rank == 1:
            net[0].weight.data()[:] += 1e-3
    write(folder, "drift", workers.rank, net,
          gc.training.fit(net, Data(shares(workers), 1, happens), 1, progress=False))
    for content in (b"", b"\0", b"\x80", bytes(range(256)) * 3 + b"\xff", np.array([-0.0, np.nan, 1e-310]).tobytes()):
        assert workers.from_worker(0, content if workers.rank == 0 else b"other") == content


def leave(workers, folder):
    """Worker 1 leaves; worker 0 waits for it. Python's own functions are what they were."""
    assert sys.excepthook is sys.__excepthook__ and type(sys.exit) is type(len)
    if workers.rank == 1:
        raise SystemExit(3)
    workers.sum([0])


def rounded(workers, folder):
    """Servers that round float64, which others do by chance."""
    workers._store._send_command_to_servers(1, "")  # kSetMultiPrecision
    workers._store._barrier()
    array = mx.nd.array([1 / 3], dtype=np.float64)
    workers.pushpull("gradient", array)
    workers.wait()
    assert array.asscalar() != 2 / 3
    assert workers.sum([1 / 3, 2.0 ** 53, -1e-300]).tolist() == [2 / 3, 2.0 ** 54, -2e-300]
    content = bytes(range(256)) * 5 + b"!"
    assert workers.from_worker(0, content if workers.rank == 0 else b"") == content
    for kind in (np.float64, np.float16, np.float32):
        array = mx.nd.array([[1 / 3, 1e-5 + workers.rank]], dtype=kind)
        workers.broadcast(None, array, array)
        assert (array.asnumpy() == np.array([[1 / 3, 1e-5]], kind)).all()


def die(workers, folder):
    """Worker 1 dies in epoch 3, after the state of two epochs was written."""
    def happens():
        if workers.rank == 1:
            os.kill(os.getpid(), signal.SIGKILL)
    resume(workers, folder, Data(shares(workers), 3, happens))


def resume(workers, folder, data=None):
    data = Data(shares(workers), 0, None) if data is None else data
    trained = with_validation(workers, workers, data=data, state_path=Path(folder, "state") if workers.rank == 0
                             else "/proc/no/state")  # where nobody can write
    write(folder, f"after-{data.passes}-epochs", workers.rank, *trained)


def die_unwatched(workers, folder):
    """As without a launcher; what the other worker finds."""
    os.environ[gc.workers.waiting.TIMEOUT] = "5"

    def happens():
        if workers.rank == 1:
            os.kill(os.getpid(), signal.SIGKILL)
    net = network(seed=workers.rank)
    before = snapshot(net)
    try:
        gc.training.fit(net, Data(shares(workers), 2, happens), EPOCHS, progress=False)
    except gc.WorkerError as error:
        same = all((before[name] == value).all() for name, value in snapshot(net).items())
        print(f"error: {error}; as before: {same}", flush=True)


def other_networks(workers, folder):
    gc.training.fit(network(units=8 + workers.rank), shares(workers), 1, progress=False)


def other_batches(workers, folder):
    """Data without a length, of which the second worker has more."""
    batches = list(images(24 + 24 * workers.rank).batches(24))
    gc.training.fit(network(), Data(batches, 0, None).__iter__(), 1, progress=False)


if __name__ == "__main__":
    folder, *scenarios = sys.argv[1:]
    workers = gc.workers.connect()
    print(f"rank {workers.rank} of {workers.num_workers}", flush=True)
    for scenario in scenarios:
        globals()[scenario](workers, folder)
