"""Top-1 accuracy."""
from __future__ import annotations

from collections.abc import Iterable, Iterator

import numpy as np
from mxnet import autograd
from mxnet.gluon import HybridBlock
from mxnet.ndarray import NDArray

from ..arguments import check_flag
from ..errors import NetworkError
from ..network.checks import check_net, context_of, undone_on_error
from ..network.data import check_finite_inputs, check_labels, go_through, inputs_and_label, number_of_batches
from ..network.engine_network import EngineNetwork
from ..network.misfits import call
from ..tables import progress_bar
from ..workers.group import TrainingGroup


def evaluate(net: HybridBlock | EngineNetwork, data: Iterable, progress: bool = False) -> float:
    """Top-1 accuracy of ``net`` on ``data``, in [0, 1].

    ``data`` is an iterable of (input, label) batches, see :mod:`gluon_compress.network.data`; inputs are moved
    to the network's device. ``net`` may be a network of :func:`gluon_compress.export.engine`. ``progress`` shows a bar
    on standard error.

    Raises
    ------
    TypeError
        When ``data`` is no iterable of batches, or a batch holds something else than arrays.
    ValueError
        When there is no sample, a batch is no pair, does not fit the network or is not finite, or a label is not a
        class of the network.
    NetworkError
        When the network is not initialized, has no parameters or such as are not finite, or puts out NaN.
    """
    check_flag("progress", progress)
    if not isinstance(net, EngineNetwork):
        check_net(net)
    correct, samples = correct_and_all(net, data, "data", progress)
    return float(correct / samples)


def accuracy_of(net: HybridBlock | EngineNetwork, data: Iterable, name: str, workers: TrainingGroup) -> float:
    """As :func:`evaluate`, over the data of all ``workers``; errors call the data ``name``."""
    correct, samples = workers.sum(correct_and_all(net, data, name))
    return float(correct / samples)


def correct_and_all(net: HybridBlock | EngineNetwork, data: Iterable, name: str, progress: bool = False) -> list[int]:
    """``[samples whose class is right, all samples]``, in one pass over the data."""
    correct = samples = 0
    for right, _ in _answers(net, data, name, progress):
        correct += int(right.sum())
        samples += len(right)
    return [correct, samples]


def right_answers(net: HybridBlock | EngineNetwork, data: Iterable, name: str) -> tuple[np.ndarray, np.ndarray]:
    """``(right, labels)`` of all samples, ``(samples,)`` each, in one pass over the data: flags and integers."""
    right, labels = zip(*_answers(net, data, name, False))
    return np.concatenate(right), np.concatenate(labels)


def _answers(net: HybridBlock | EngineNetwork, data: Iterable, name: str,
             progress: bool) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """Of each batch: whether the largest logit is at the sample's class, and the classes."""
    with undone_on_error(net):
        for batch in progress_bar(go_through(data, name), progress, desc="accuracy", total=number_of_batches(data),
                                  unit="batch"):
            inputs, labels = inputs_and_label(batch, name, net, context_of(net))
            check_finite_inputs(inputs, name)
            with autograd.pause(train_mode=False):
                outputs = call(net, inputs, f"a batch of {name}")
            classes = check_labels(labels, outputs)
            yield are_right(outputs, classes), classes


def count_correct(outputs: NDArray, classes: np.ndarray) -> int:
    """How many of the logits ``(batch, classes)`` are largest at the sample's class.

    Raises ``NetworkError`` for NaN and infinity.
    """
    return int(are_right(outputs, classes).sum())


def are_right(outputs: NDArray, classes: np.ndarray) -> np.ndarray:
    """Which of the logits ``(batch, classes)`` are largest at the sample's class, ``(batch,)``; as above."""
    scores = outputs.asnumpy()
    if np.isnan(scores).any() or np.isposinf(scores).any():  # -inf is the logit of what cannot be
        raise NetworkError("the network's output is NaN or infinite: look for NaN in its weights and in the data")
    return scores.argmax(axis=-1) == classes
