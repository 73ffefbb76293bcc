"""``compress``: all stages, one after the other, each in a file from which a killed run goes on."""
from __future__ import annotations

import random
import sys
import warnings
from collections.abc import Iterable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from functools import partial
from os import PathLike
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import mxnet as mx
import numpy as np
from mxnet.gluon import HybridBlock
from tqdm import tqdm

from ...arguments import check_flag, check_integer, check_number, check_text, shown
from ...files.paths import check_folder, check_target
from ...network import digest
from ...network.checks import check_net, context_of
from ...network.ctrl_c import undisturbed
from ...network.data import (
    as_given,
    check_data,
    check_finite_inputs,
    check_labels,
    check_repeatable,
    go_through,
    inputs_and_label,
    inputs_of,
)
from ...network.hybridizing import hybridized
from ...network.inputs import flat
from ...network.misfits import call
from ...network.resizing import capture, put_back
from ...network.values import restore_snapshot, snapshot
from .judging import DIGITS, EverySecond, Judge, digest_of_inputs, digest_of_training_data
from .record import Compression
from .stages import Pruning, Rounding
from .task import ORIGINAL, Stage, Task, name_of
from .work_folder import RESULTS, WorkFolder, names_a_file

CALIBRATION_SAMPLES = 1024  # that are taken of the training data


def compress(net: HybridBlock, data: Iterable[Any], max_accuracy_drop: float = 0.001,
             training_data: Iterable[Any] | None = None, calibration_data: Iterable[Any] | None = None,
             stages: Sequence[Stage] | None = None, folder: str | PathLike[str] | None = None, seed: int = 0,
             progress: bool = True) -> Compression:
    """Make the file of a network as small as its accuracy allows: prune, train, round, code.

    >>> result = compress(net, held_out, 0.001, training_data, folder="work")  # with training
    >>> result = compress(net, held_out, 0.001)                                # without
    >>> gc.save("small.gcz", net, *result.records)        # net, plan, *result.records: after prune_channels

    The network still computes in fp32; with fewer different weights, most of them zero, which the file holds in one or
    two bits each. Which other ways there are: ``docs/how_to/small_files.md``.

    Parameters
    ----------
    net : HybridBlock
        Changed in place; any classifier.
    data : iterable of (input, label) batches
        What chooses: each trial is compared with the original on these samples, which the network should not have been
        trained on. The same batches in each pass. Never the test set: a search finds what suits its data.
    max_accuracy_drop : float
        How much of the accuracy on ``data`` may be lost, in [0, 1]: 0.001 is a tenth of a point.
    training_data : iterable of (input, label) batches, optional
        What the network is trained on after pruning. Without it nothing is trained. Where pruning makes the file no
        smaller, the original is rounded instead, so that at worst the time is lost.
    calibration_data : iterable of batches, optional
        Inputs on which the error of rounding is measured, labels are not looked at; by default the first
        1,024 samples of ``training_data``. Where there is neither, every second batch of ``data`` calibrates, and the
        others choose.
    stages : list of stages, optional
        By default ``[Pruning(), Rounding()]``, without training data ``[Rounding()]``. One alone will do; each has its
        settings.
    folder : str or Path, optional
        Where the file of each stage is kept. The same call after a crash goes on from there, after the last it returns
        at once. Work of another network, data or settings is refused. Training data that are shuffled or augmented are
        known by their number alone.
    seed : int
        At least 0. MXNet's generator is seeded in any case, Python's and NumPy's where something is trained.
    progress : bool
        Print a line per stage, and show bars, on standard error.

    Returns
    -------
    Compression
        A row per stage, and ``records`` for :func:`gluon_compress.save`.

    Whatever is raised, also after Ctrl-C, the network is then as it was.

    Raises
    ------
    TypeError, ValueError
        For arguments out of range, data that do not fit the network or differ from pass to pass.
    NetworkError
        For a network without weights, or with such as are not finite.
    CheckpointError
        When ``folder`` holds the work of another run, or is damaged.
    OSError
        When nothing can be written there.

    Han et al., "Deep Compression", 2016, with the rounding of ``quantization/rate``.
    """
    _check_arguments(net, max_accuracy_drop, folder, seed, progress)
    data, *calibration = _split(data, training_data, calibration_data)
    chosen = _checked_stages(stages, net, training_data)
    with ExitStack() as stack:
        place = Path(stack.enter_context(TemporaryDirectory()) if folder is None else folder)
        stack.enter_context(hybridized([net]))
        stack.enter_context(_put_back_on_error(net))
        task = _new_task(net, data, max_accuracy_drop, training_data, calibration, chosen, place, seed, progress)
        result = _run(net, chosen, task)
        _warn_of_noise(result)  # which raises where warnings are errors
    return result


def _check_arguments(net: Any, max_accuracy_drop: Any, folder: Any, seed: Any, progress: Any) -> None:
    check_net(net)
    check_number("max_accuracy_drop", max_accuracy_drop, minimum=0, maximum=1)
    check_integer("seed", seed, minimum=0)
    check_flag("progress", progress)
    if folder is not None:
        check_folder("folder", folder)
        check_target(f"{RESULTS} of folder", Path(folder) / RESULTS)


def _checked_stages(stages: Any, net: HybridBlock, training_data: Any) -> list[Stage]:
    if stages is None:
        stages = [Rounding()] if training_data is None else [Pruning(), Rounding()]
    if not isinstance(stages, (list, tuple)) or not stages:
        raise TypeError(f"stages is {shown(stages)}; accepted: a list of stages, such as [Pruning(), Rounding()]")
    for stage in stages:
        if isinstance(stage, type) or not all(hasattr(stage, name) for name in ("name", "check", "description", "run")):
            raise TypeError(f"stages has {shown(stage)}; accepted: objects such as Pruning() and Rounding()")
        check_text("the name of a stage", stage.name)
        if not 1 <= len(stage.name) <= 50 or not names_a_file(stage.name):
            raise ValueError(f"the name of a stage is {shown(stage.name)}; accepted: 1 to 50 printable characters "
                             f"without '/', as files have it")
        stage.check(net, training_data)
    return list(stages)


def _split(data: Any, training_data: Any, calibration_data: Any) -> tuple[Any, Any, int | None]:
    """``(what chooses, what calibrates, how many samples of that at most)``."""
    for name, value in (("data", data), ("training_data", training_data)):
        if value is not None or name == "data":
            check_data(value, name)
            check_repeatable(value, name)
    if calibration_data is not None:
        check_data(calibration_data, "calibration_data")
        return data, calibration_data, None
    if training_data is not None:
        return data, training_data, CALIBRATION_SAMPLES
    return EverySecond(data, 1), EverySecond(data, 0), None


def _calibration_inputs(net: HybridBlock, data: Iterable[Any], most: int | None) -> list[Any]:
    """Batches of about so many samples, or all; of data that this process shuffles or augments always the same ones."""
    states = random.getstate(), np.random.get_state()
    random.seed(0)
    np.random.seed(0)
    mx.random.seed(0)  # its state cannot be read to be put back; augmentation draws from it
    try:
        batches: list[Any] = []
        for batch in go_through(data, "calibration_data"):
            inputs = inputs_of(batch, "calibration_data", net, context_of(net))
            check_finite_inputs(inputs, "calibration_data")
            call(net, inputs, "a batch of calibration_data")
            batches.append(inputs)
            if most is not None and sum(len(flat(each)[0]) for each in batches) >= most:
                break
        return batches
    finally:
        random.setstate(states[0])
        np.random.set_state(states[1])


def _new_task(net: HybridBlock, data: Any, max_drop: float, training_data: Any, calibration: list[Any],
              stages: list[Stage], place: Path, seed: int, progress: bool) -> Task:
    """Everything is looked at before anything is changed."""
    judge = Judge(net, data, max_drop)
    if training_data is not None:
        inputs, labels = inputs_and_label(next(go_through(training_data, "training_data")), "training_data", net,
                                          context_of(net))
        check_labels(labels, call(net, inputs, "a batch of training_data"))
    calibration_data, most = calibration  # samples of training data are known as these are
    batches = _calibration_inputs(net, calibration_data, most)
    run = {"network": digest.digest_of(net)[:DIGITS], "data": judge.digest, "max_accuracy_drop": float(max_drop),
           "training_data": None if training_data is None else digest_of_training_data(training_data),
           "calibration_data": digest_of_inputs(batches) if most is None else "of training_data", "seed": int(seed),
           "stages": [{"stage": stage.name, **stage.description(net)} for stage in stages]}
    folder = WorkFolder(place, run, [ORIGINAL, *map(name_of, range(1, len(stages) + 1), stages)])
    return Task(judge, training_data, batches, folder, as_given(batches[0]), seed, progress)


@contextmanager
def _put_back_on_error(net: HybridBlock) -> Iterator[None]:
    state, values = capture(net), snapshot(net)
    try:
        yield
    except BaseException:  # after Ctrl-C, too, the network is as it was
        with undisturbed():
            put_back(net, state)
            restore_snapshot(net, values)
        raise


def _run(net: HybridBlock, stages: list[Stage], task: Task) -> Compression:
    records: tuple[Any, ...] = ()
    task.stage = ORIGINAL
    row = task.kept(task.stage, net, lambda: ((), {}))
    result = Compression([{"stage": "original", **row}], task.judge.samples, task.judge.max_drop)
    _tell(result, task.progress)
    for number, stage in enumerate(stages, 1):
        task.stage = name_of(number, stage)
        row = task.kept(task.stage, net, partial(stage.run, net, records, task))
        records = task.folder.load(task.stage, net)
        task.folder.remove_trials(task.stage)
        result = Compression([*result.rows, {"stage": stage.name, **row}], result.samples, result.max_accuracy_drop,
                             records)
        _tell(result, task.progress)
    return result


def _tell(result: Compression, show: bool) -> None:
    """A line on standard error, above the bars."""
    row = result.rows[-1]
    if show:
        _, size, smaller, accuracy, lost, error, note = result.line(row)
        tqdm.write(f"{row['stage']}: {size} bytes ({smaller}), accuracy {accuracy}, {lost} +- {error} points lost"
                   f"{', ' + note if note else ''}, {row['seconds']:.0f} s", file=sys.stderr)


def _warn_of_noise(result: Compression) -> None:
    """Warn the caller of :func:`compress` where the drop that is allowed is smaller than chance makes one."""
    row, allowed = result.rows[-1], result.max_accuracy_drop
    if row["standard_error"] > allowed:
        warnings.warn(f"max_accuracy_drop is {allowed}, {allowed * result.samples:.1f} of the {result.samples} samples "
                      f"of data, and the drop that was measured, {row['drop']:.4f}, has a standard error of "
                      f"{row['standard_error']:.4f}: with so few samples the accuracy on others may differ by more "
                      f"than is allowed; give more of them", stacklevel=3)
