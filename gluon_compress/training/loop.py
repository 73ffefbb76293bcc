"""The training loop."""
from __future__ import annotations

import math
import random
import time
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

import mxnet as mx
import numpy as np
from mxnet import autograd
from mxnet.gluon import HybridBlock, Trainer
from mxnet.gluon.loss import SoftmaxCrossEntropyLoss

from ..arguments import shown
from ..errors import NetworkError
from ..files.paths import check_writable
from ..network.checks import context_of, undone_on_error
from ..network.data import (
    as_given,
    check_data,
    check_finite_inputs,
    check_labels,
    go_through,
    inputs_and_label,
    number_of_batches,
)
from ..network.inputs import map_arrays
from ..network.interface import CLASSIC
from ..network.misfits import call, shorten
from ..network.trainer import accept_both_interfaces, optimizer_of
from ..network.values import interface_of, restore_snapshot, snapshot
from ..tables import progress_bar
from ..workers.connection import in_cluster, of_trainer
from . import state as training_state
from .checks import check_arguments, check_finite, check_losses, check_trainer, warn_of_probabilities
from .evaluation import accuracy_of, count_correct
from .history import History
from .learning_rates import cosine
from .run import Run


def fit(net: HybridBlock, train_data: Iterable, epochs: int, trainer: Trainer | None = None,
        schedule: Callable[[float], float] | None = None, loss: Callable[..., Any] | None = None,
        targets: Callable[[Any, Any], tuple] | None = None, validation_data: Iterable | None = None, seed: int = 0,
        state_path: str | Path | None = None, progress: bool = True, run_details: dict | None = None) -> History:
    """Train ``net`` in place and return a :class:`History`.

    Parameters
    ----------
    net : HybridBlock
        Initialized, on one device.
    train_data : iterable of (input, label) batches
        Gone through once per epoch, for instance a Gluon ``DataLoader`` or an ``mx.io.NDArrayIter``; see
        :mod:`gluon_compress.network.data` for what a batch may be, also of several inputs.
    epochs : int
        At least 1.
    trainer : gluon.Trainer, optional
        By default Nesterov SGD with learning rate 0.01, momentum 0.9 and weight decay 0.0005. A
        :class:`~gluon_compress.pruning.MaskedTrainer` keeps pruned weights at zero. With
        ``kvstore="dist_sync"`` (the default trainer has it where this process is a worker of a cluster), several
        workers train one network together; see below.
    schedule : callable, optional
        From the share of the steps done, in [0, 1), to a factor for the trainer's learning rate; by
        default :func:`cosine`. A trainer whose optimizer has an ``lr_scheduler`` follows that instead.
    loss : callable, optional
        ``loss(output, *targets)`` gives one value per sample, ``(batch,)``; by default the cross entropy
        of logits.
    targets : callable, optional
        ``targets(input, label)`` gives the tuple of the loss's further arguments, computed outside the tape and in
        inference mode; by default ``(label,)``. ``input`` is a tuple for a network of several inputs.
    validation_data : iterable of (input, label) batches, optional
        Gone through once per epoch. When given, the network ends with the parameters of the epoch that did best on it.
    seed : int
        At least 0. Python's, NumPy's and MXNet's generators are seeded from it before each epoch, so that
        the run can be repeated, and resumed to the same result.
    state_path : str or Path, optional
        The state of the run is kept here after each epoch. A killed run, called again with the same
        arguments, goes on from there; a finished one returns at once. The file of a run with another number
        of epochs or batches, seed, optimizer, loss (by name), masks, ... is refused.
    progress : bool
        Show a progress bar on standard error.
    run_details : dict, optional
        What else tells this run from others, for the file at ``state_path``: anything that JSON can hold,
        such as the settings of your own loss.

    Whatever error is raised, the network then has the parameters that it had before; a state file stays for the
    next attempt. The trainer's momenta and step counts are not put back: make a new trainer for that.
    After Ctrl-C the network keeps what it has learnt so far.

    Several workers
    ---------------
    Each calls ``fit`` with the same arguments and its own share of the training data
    (:class:`~gluon_compress.datasets.Shard`); all begin with worker 0's parameters, make the steps of one process with
    the whole batches, and end with the same network. The history counts all workers' samples, in validation too: give
    each a share, or all of them everything. Only worker 0 shows progress, and reads and writes ``state_path``; it
    passes the state on to the others. BatchNorm normalizes each share by itself, and the feature losses that compare
    samples do so within a share. After each epoch BatchNorm's running statistics are averaged and all take worker 0's
    parameters, which differ only where processors round differently. Runs of two workers repeat, and resume, to the
    bit; the gradients of more are added as they arrive, so that theirs do up to rounding.
    Whatever is raised, the workers have to be started again for more; ``state_path`` lets them go on.

    Raises
    ------
    TypeError
        When an argument is of a kind other than those above.
    ValueError
        For empty data, batches that do not fit the network or are not finite, labels out of range, a schedule that
        gives no factor, and arguments that do not fit together, such as a trainer of another network.
    NetworkError
        For a network that is not initialized, not finite, on several devices or has nothing to train, and when
        the loss is no longer finite, or a parameter is not finite after an epoch.
    CheckpointError
        When the file at ``state_path`` is damaged or of another run.
    OSError
        When a state is to be saved and no file can be made at ``state_path``.
    WorkerError
        When another worker no longer answers, trains another network, or has other arguments.
    """
    check_arguments(net, epochs, trainer, schedule, loss, targets, seed, state_path, progress)
    check_data(train_data, "train_data")
    if validation_data is not None:
        check_data(validation_data, "validation_data")
    if loss is None:
        warn_of_probabilities("net", net)
    if trainer is None:
        trainer = Trainer(net.collect_params(), "nag", {"learning_rate": 0.01, "momentum": 0.9, "wd": 5e-4},
                          kvstore="dist_sync" if in_cluster() else "device")
        check_trainer(trainer, net)
    accept_both_interfaces(trainer)
    run = Run(net, train_data, int(epochs), trainer, cosine if schedule is None else schedule,
              SoftmaxCrossEntropyLoss() if loss is None else loss, _labels_alone if targets is None else targets,
              validation_data, int(seed), None if state_path is None else Path(state_path), progress, run_details,
              workers=of_trainer(trainer), base_rate=trainer.learning_rate)
    run.workers.check_network(net)
    if state_path is not None:
        training_state.check_savable(trainer)
    before = snapshot(net)
    try:
        run.workers.begin(net, trainer, run.description)
        with undone_on_error(net):
            history, best_parameters = _train(run)
    except BaseException as error:
        run.workers.failed = True  # they are no longer at the same step
        if isinstance(error, Exception):
            restore_snapshot(net, before)
        raise
    finally:
        _set_learning_rate(trainer, run.base_rate)
    if best_parameters is not None:
        restore_snapshot(net, best_parameters)
    return history


def _labels_alone(inputs: Any, labels: Any) -> tuple:
    """``targets`` by default. Saved states have its name."""
    return (labels,)


def _train(run: Run) -> tuple[History, dict[str, np.ndarray] | None]:
    """The epochs, from the saved state on; return the history and the best parameters."""
    history, best_parameters = _saved(run)
    state_path = run.state_path if run.workers.rank == 0 else None
    if state_path is not None and len(history.epochs) < run.epochs:
        check_writable(state_path)
    for epoch in range(len(history.epochs), run.epochs):
        _seed_everything(run.seed, epoch, run.workers.rank)
        started = time.perf_counter()
        result = _train_epoch(run, epoch)
        check_finite(run.net, epoch)
        run.workers.meet(run.net)
        accuracy = (None if run.validation_data is None else
                    accuracy_of(run.net, run.validation_data, "validation_data", run.workers))
        previous_best = history.best
        history.epochs.append({"epoch": epoch + 1, **result, "validation_accuracy": accuracy,
                               "learning_rate": run.trainer.learning_rate, "seconds": time.perf_counter() - started})
        if history.best is not previous_best:
            best_parameters = snapshot(run.net)
        if state_path is not None:
            training_state.save(state_path, run.net, run.trainer, run.identity, history.epochs, best_parameters)
    return history, best_parameters


def _saved(run: Run) -> tuple[History, dict[str, np.ndarray] | None]:
    """Put the saved state back, on all workers; return the history and the best parameters so far."""
    if run.state_path is None:
        return History(), None
    with run.workers.file_of_first(run.state_path) as path:
        if path is None:
            return History(), None
        epochs, best_parameters = training_state.restore(path, run.net, run.trainer, run.identity)
    return History(epochs), best_parameters


def _set_learning_rate(trainer: Trainer, rate: float) -> None:
    """Set it, unless the optimizer has a scheduler of its own."""
    if optimizer_of(trainer).lr_scheduler is None:
        trainer.set_learning_rate(rate)


def _seed_everything(seed: int, epoch: int, rank: int = 0) -> None:
    """Seed all generators; neighbouring seeds and epochs share no stream.

    All workers draw the same order of the samples from Python's or NumPy's, and other Dropout from MXNet's.
    """
    def mixed(*numbers: int) -> int:
        return int(np.random.SeedSequence(numbers).generate_state(1)[0]) >> 1  # MXNet wants 31 bits
    random.seed(mixed(seed, epoch))
    np.random.seed(mixed(seed, epoch))
    mx.random.seed(mixed(seed, epoch, rank) if rank else mixed(seed, epoch))


def _train_epoch(run: Run, epoch: int) -> dict[str, float]:
    """One pass over the data; return its mean loss and accuracy."""
    context, length, title = context_of(run.net), number_of_batches(run.data), f"epoch {epoch + 1}/{run.epochs}"
    totals = np.zeros(3)  # loss, correct, samples
    shown = run.progress and run.workers.rank == 0
    with progress_bar(go_through(run.data, "train_data"), shown, desc=title, total=length, unit="batch") as bar:
        for step, batch in enumerate(bar):
            _set_learning_rate(run.trainer, run.learning_rate(epoch, step / length if length else 0))
            with interface_of(run.net).active():
                outputs, classes, losses = _losses_of(run, batch, context)
                batch_loss = losses.sum()
                losses.backward()  # MXNet computes it while this process looks at the numbers below
            batch_loss = float(batch_loss.asscalar())
            correct = count_correct(outputs, classes) if math.isfinite(batch_loss) else 0
            batch_totals = run.workers.sum_of_batch(batch_loss, correct, len(classes))
            if not math.isfinite(batch_totals[0]):
                raise NetworkError(f"the loss is {batch_totals[0]} at {title}, batch {step + 1}: "
                                   f"lower the learning rate, or look for NaN in data and weights")
            run.workers.step(run.trainer, int(batch_totals[2]))
            totals += batch_totals
            bar.set_postfix(loss=f"{totals[0] / totals[2]:.4f}", accuracy=f"{totals[1] / totals[2]:.4f}", refresh=False)
    run.workers.end_epoch()
    return {"loss": float(totals[0] / totals[2]), "accuracy": float(totals[1] / totals[2])}


def _losses_of(run: Run, batch: Any, context: mx.Context) -> tuple[mx.nd.NDArray, np.ndarray, mx.nd.NDArray]:
    """(outputs, labels as a NumPy array, losses) of a batch, recorded."""
    inputs, labels = inputs_and_label(batch, "train_data", run.net, context)
    check_finite_inputs(inputs, "train_data")
    # arrays of our own, on the same memory: recording writes into an array, on which other threads may train, too
    interface = interface_of(run.net)
    inputs, labels = interface.own((map_arrays(lambda array: array.detach(), inputs), labels.detach()))
    further = run.targets(as_given(inputs), labels)
    if not isinstance(further, (tuple, list)):
        raise TypeError(f"targets(input, label) gives {shown(further)}; accepted: a tuple of the loss's "
                        f"further arguments, such as (label,)")
    with autograd.record():
        outputs = call(run.net, inputs, "a batch of train_data")
        classes = check_labels(labels, outputs)
        try:
            losses = run.loss(outputs, *further)
        except mx.MXNetError as error:
            shapes = ", ".join(str(getattr(each, "shape", type(each).__name__)) for each in (outputs, *further))
            raise ValueError(f"the loss cannot be computed of the output and targets of shapes {shapes} (a loss for "
                             f"numbers, with labels that are classes?): {shorten(error)[:200]}") from None
    check_losses(losses, len(classes))
    return outputs, classes, CLASSIC.own(losses)
