"""Data parallel training over several processes or machines, on MXNet's own parameter server (ps-lite).

Every worker has the whole network and a share of each batch; gradients are summed over the workers, so that a step is
that of one process with the whole batch. ``python -m gluon_compress.workers`` starts the processes.

ps-lite waits forever for a worker that has died: heartbeats go to the scheduler alone, and workers can ask about no
other node. So every wait here is bounded, and a process that gave up waiting ends without waiting again.

Some of MXNet 1.9.1's servers round float64 to float32 by chance, as if they had been told to (``multi_precision``). So
whatever must be exact goes through them as float32.
"""
from __future__ import annotations

import atexit
import itertools
import json
import os
import sys
import tempfile
import warnings
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import mxnet as mx
import numpy as np
from mxnet.gluon import HybridBlock, Parameter, Trainer
from mxnet.kvstore import KVStoreBase

from ..arguments import differences, shown
from ..errors import WorkerError
from ..network.checks import check_ready
from ..network.interface import CLASSIC
from ..network.trainer import (
    asked_update_on_store,
    begin_with_store,
    compression_of,
    has_store,
    kind_of_store,
    store_of,
    trained_parameters,
    use_store,
)
from ..network.values import parameters, value_of
from .group import Alone, TrainingGroup
from .waiting import bounded

__all__ = ["Workers", "connect", "in_cluster", "of_trainer"]

# Keys of ours in the servers' store, which keeps what was put under a key: above the parameters' numbers, which are
# the keys of Gluon's own trainers.
FIRST_KEY = 1_000_000

_connection: Workers | None = None


def connect() -> Workers:
    """The :class:`Workers` that this process is one of; waits for all of them to start.

    One connection serves the whole process. A process that was not started as a worker (``DMLC_ROLE``) is alone, rank 0
    of 1: the same script then trains in one process.

    >>> workers = connect()
    >>> data = dataset.batches(256, shuffle=True, rank=workers.rank, workers=workers.num_workers)
    >>> trainer = gluon.Trainer(net.collect_params(), "nag", {"learning_rate": 0.05}, kvstore=workers)

    Raises
    ------
    WorkerError
        When not all processes have started in time.
    """
    if _connection is not None:
        return _connection
    before = os.umask(0o077)  # nobody else may connect to sockets that are files
    try:
        store = bounded(lambda: mx.kv.create("dist_sync" if in_cluster() else "device"))
    finally:
        os.umask(before)
    return _adopt(store)


def in_cluster() -> bool:
    """Whether this process was started as a worker of MXNet's parameter server."""
    return os.environ.get("DMLC_ROLE") == "worker"


def of_trainer(trainer: Trainer) -> TrainingGroup:
    """The :class:`Workers` that a trainer trains with; :class:`Alone` when it has no others, whatever its ``kvstore``.

    Raises ``ValueError`` for a distributed trainer with which the workers could not stay equal: one whose servers
    update the weights, as they would not hear of learning rates and cannot give back the optimizer's state.
    ``TypeError`` for what is no trainer.
    """
    if not isinstance(trainer, Trainer):
        raise TypeError(f"trainer is {shown(trainer)}; accepted: a gluon.Trainer")
    store, kind = store_of(trainer), kind_of_store(trainer)
    if "dist" not in kind:
        if in_cluster():
            warnings.warn(f"this process is a worker of a cluster, but the trainer has kvstore {kind!r}: it trains "
                          f"alone. With the others: kvstore=gluon_compress.workers.connect()", stacklevel=3)
        return Alone()
    _check_distributed(trainer, kind)
    if not isinstance(store, Workers):
        if has_store(trainer):
            raise ValueError(f"the trainer has made steps with kvstore {kind!r} before; make it with "
                             f"kvstore=gluon_compress.workers.connect(), which any loop can use")
        store = connect() if isinstance(store, str) else _adopt(store)
    use_store(trainer, store)
    return store if store.num_workers > 1 else Alone()


def _check_distributed(trainer: Trainer, kind: str) -> None:
    """Raise ``ValueError`` for a distributed trainer with which the workers could not stay equal."""
    if not in_cluster():
        raise ValueError(f"the trainer's kvstore is {kind!r}, but this process is no worker of a cluster: start the "
                         f"script with python -m gluon_compress.workers")
    if "async" in kind or asked_update_on_store(trainer):
        raise ValueError(f"the trainer has kvstore {kind!r} and update_on_kvstore={asked_update_on_store(trainer)}: "
                         f"servers that update the weights follow no schedule and keep the optimizer's state; "
                         f"accepted: 'dist_sync', without update_on_kvstore")
    if compression_of(trainer):
        raise ValueError(f"the trainer has compression_params {compression_of(trainer)}; accepted: none")


class Workers(KVStoreBase, TrainingGroup):
    """The processes that train one network together, as a ``kvstore`` for any ``gluon.Trainer``.

    It differs from MXNet's ``dist_sync`` in three ways: each worker updates the weights itself, not the servers; one
    process can have several trainers, one after the other; and a wait for the others ends with ``WorkerError`` after
    the seconds in ``GLUON_COMPRESS_WORKER_TIMEOUT``, 600 by default.

    Attributes
    ----------
    rank : int
        The number of this worker, from 0.
    num_workers : int
        How many there are.
    failed : bool
        Whether this worker can no longer train with the others. The process then ends with status 1, and at once, as
        it does after an error that nobody catches. After a good end it waits for the others. A script that
        ``python -m gluon_compress.workers`` did not start waits for them after ``sys.exit(1)``, too.
    """

    rank, num_workers, type = 0, 1, ""  # properties of KVStoreBase, which cannot be set

    def __init__(self, store: Any) -> None:
        self._store = store
        self._next_key = itertools.count(FIRST_KEY)
        self._sums: dict[tuple, int] = {}  # {what is summed: its key}
        self.failed, self.status = False, 1  # status: with which the process ends when it failed
        self.rank, self.num_workers, self.type = store.rank, store.num_workers, store.type

    @staticmethod
    def is_capable(capability: str) -> bool:
        return False  # such as updating the weights

    def broadcast(self, key: Any, value: Any, out: Any, priority: int = 0) -> None:
        """Put worker 0's ``value`` into ``out``; waits for it."""
        value = CLASSIC.own(value[0] if isinstance(value, (list, tuple)) else value)
        if value.dtype == np.float32:
            # A sum to which the others give zeros: the servers' own broadcast wants a new key each time, and keeps it.
            received = value.copy() if self.rank == 0 else mx.nd.zeros_like(value)
            self.pushpull("broadcast", received)
            self.wait()
        else:
            content = self.from_worker(0, value.asnumpy().tobytes())
            received = mx.nd.array(np.frombuffer(content, value.dtype).reshape(value.shape), dtype=value.dtype)
        for array in out if isinstance(out, (list, tuple)) else [out]:
            mx.nd.identity(received.as_in_context(array.context), out=CLASSIC.own(array))

    def pushpull(self, key: Any, value: Any, out: Any = None, priority: int = 0) -> None:
        """Have the sum of all workers' ``value`` put into ``out``; :meth:`wait` waits for it."""
        value, out = CLASSIC.own(value), CLASSIC.own(out)
        first = value[0] if isinstance(value, (list, tuple)) else value
        name = key, first.shape, np.dtype(first.dtype).name
        if name not in self._sums:
            self._sums[name] = next(self._next_key)
            self._wait_for(lambda: self._store.init(self._sums[name], mx.nd.zeros(first.shape, dtype=first.dtype)))
        self._store.pushpull(self._sums[name], value, out=value if out is None else out, priority=priority)

    def wait(self) -> None:
        """Wait for everything that MXNet was given to do."""
        self._wait_for(mx.nd.waitall)

    def sum(self, numbers: Sequence[float] | np.ndarray) -> np.ndarray:
        """The sum of all workers' ``numbers``, a NumPy array of float64; exact for each worker's share."""
        numbers = np.ascontiguousarray(numbers, np.float64)
        # each worker's bits in a row of its own, as integers that float32 holds
        rows = np.zeros((self.num_workers, 4 * numbers.size), np.float32)
        rows[self.rank] = numbers.ravel().view(np.uint16)
        received = mx.nd.array(rows)
        self.pushpull("sum", received)
        self.wait()
        return received.asnumpy().astype(np.uint16).view(np.float64).sum(axis=0).reshape(numbers.shape)

    def from_worker(self, rank: int, content: bytes) -> bytes:
        """The bytes that the worker with this rank gives; those of the others are ignored."""
        length = int(self.sum([len(content) if self.rank == rank else 0])[0])
        if length == 0:
            return b""
        numbers = np.zeros((length + 1) // 2, np.float32)  # 16 bits each; a sum to which the others give zeros
        if self.rank == rank:
            numbers[:] = np.frombuffer(content.ljust(length + length % 2, b"\0"), np.uint16)
        received = mx.nd.array(numbers)
        self.pushpull("bytes", received)
        self.wait()
        return received.asnumpy().astype(np.uint16).tobytes()[:length]

    @contextmanager
    def file_of_first(self, path: Path) -> Iterator[Path | None]:
        """A copy of worker 0's file at ``path``, which is removed afterwards; None when it has none."""
        content = self.from_worker(0, path.read_bytes() if self.rank == 0 and path.exists() else b"")
        if not content:
            yield None
            return
        with tempfile.TemporaryDirectory() as folder:
            copy = Path(folder, path.name)
            copy.write_bytes(content)
            yield copy

    def check_same(self, description: dict) -> None:
        """Raise ``WorkerError``, with the same message on every worker, unless all have the same ``description``.

        It is a JSON dict. Every worker says what differs, as the first one to end may be the only one to be heard.
        """
        own = json.loads(json.dumps(description))
        first = json.loads(self.from_worker(0, json.dumps(description).encode()))
        flags = np.zeros(self.num_workers)
        flags[self.rank] = first != own
        others = np.flatnonzero(self.sum(flags)).tolist()
        messages = [self.from_worker(rank, differences(first, own).encode()).decode() for rank in others]
        if messages:
            raise WorkerError("; ".join(f"worker {rank} trains something else than worker 0: {message}"
                                        for rank, message in zip(others, messages)))

    def check_network(self, net: HybridBlock) -> None:
        """Raise ``NetworkError`` for a parameter without data: worker 0 has no value to give the others."""
        check_ready(net)

    def begin(self, net: HybridBlock, trainer: Trainer, description: dict) -> None:
        """Make sure that all workers train the same, and give all worker 0's parameters."""
        named = parameters(net)
        self.check_same({
            **{f"parameter {name}": _shape_and_type(parameter) for name, parameter in named.items()}, **description,
            "parameters of the trainer": [_shape_and_type(parameter) for parameter in trained_parameters(trainer)]})
        begin_with_store(trainer)  # Gluon would give all worker 0's after the first pass, which moves BatchNorm's
        self.share(named.values())

    def step(self, trainer: Trainer, samples: int) -> None:
        """A step of the trainer with the gradients of all workers' samples; ``samples`` is their number."""
        trainer.allreduce_grads()
        self.wait()  # a bounded time, before the parameters depend on it
        trainer.update(samples)

    def meet(self, net: HybridBlock) -> None:
        """After an epoch, average BatchNorm's statistics, and give all what worker 0 has learnt.

        That is what the others have learnt too, up to the rounding of other processors.
        """
        named = parameters(net).values()
        self.average([parameter for parameter in named if parameter.grad_req == "null"])
        self.share(parameter for parameter in named if parameter.grad_req != "null")

    def share(self, parameters: Iterable[Parameter]) -> None:
        """Give these parameters the values that worker 0 has."""
        for parameter in parameters:
            self.broadcast(None, parameter.list_data()[0], parameter.list_data())

    def average(self, parameters: Sequence[Parameter]) -> None:
        """Set these parameters to their mean over the workers; those that are equal keep their bits."""
        values = [value_of(parameter) for parameter in parameters]
        if not values:
            return
        mean = self.sum(np.concatenate([value.ravel() for value in values])) / self.num_workers
        ends = np.cumsum([value.size for value in values])
        for parameter, value, part in zip(parameters, values, np.split(mean, ends[:-1])):
            for array in parameter.list_data():
                mx.nd.identity(mx.nd.array(part.reshape(value.shape), array.context, array.dtype),
                               out=CLASSIC.own(array))

    def _wait_for(self, action: Callable[[], Any]) -> None:
        if self.failed:
            raise WorkerError("this worker has failed before and the others have gone: start all of them again")
        try:
            bounded(action)
        except BaseException:
            self.failed = True
            raise

    def _leave(self) -> None:
        """At the end of the process: MXNet waits for the others' end here, unless there is no point in it."""
        if not self.failed and not _ends_with_error():
            try:
                self._wait_for(lambda: setattr(self, "_store", None))
                return
            except WorkerError as error:
                print(error, file=sys.stderr)
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(self.status)


def _adopt(store: Any) -> Workers:
    """The connection of this process, from its MXNet key-value store."""
    global _connection
    if _connection is not None and _connection._store is not store:
        raise ValueError("this process has another connection already: use gluon_compress.workers.connect() only")
    if _connection is None:
        _connection = Workers(store)
        if _connection.num_workers > 1:
            atexit.register(_connection._leave)
    return _connection


def end_badly(status: int) -> None:
    """Let this process end with a status other than 0, and without waiting for the others: they will be ended.

    The launcher's :mod:`~gluon_compress.workers.script` calls it, which sees how the main program ends.
    """
    if _connection is not None:
        _connection.failed, _connection.status = True, status


def _ends_with_error() -> bool:
    """Whether Python ends after an error that nobody caught: it keeps the last one. ``sys.exit`` leaves no trace."""
    return not hasattr(sys, "ps1") and getattr(sys, "last_value", None) is not None


def _shape_and_type(parameter: Parameter) -> str:
    return f"{parameter.shape} {np.dtype(parameter.dtype)}"
