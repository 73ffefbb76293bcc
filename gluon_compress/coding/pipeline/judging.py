"""What chooses between networks: which samples of the data they are right on, and how sure that is."""
from __future__ import annotations

import hashlib
from collections.abc import Iterable, Iterator
from typing import Any

import numpy as np
from mxnet.gluon import HybridBlock

from ...files.digests import add_array
from ...network.data import IndexedData, go_through, inputs_and_label, number_of_batches
from ...network.inputs import flat
from ...training.evaluation import right_answers

DIGITS = 16  # of a digest, in messages


class Judge:
    """Compares networks with the original one, on the same samples.

    Attributes
    ----------
    data : iterable of batches
    samples : int
    accuracy : float
        Of the original.
    max_drop : float
        How much of it may be lost.
    digest : str
        By which the data are known again.

    Raises what :func:`~gluon_compress.training.evaluate` raises, and ``ValueError`` for data that are not the same, in
    the same order, in each pass.
    """

    def __init__(self, net: HybridBlock, data: Iterable[Any], max_drop: float) -> None:
        self.data, self.max_drop = data, max_drop
        self._right, self._labels = right_answers(net, data, "data")
        self.samples, self.accuracy = len(self._right), float(self._right.mean())
        digest, labels = hashlib.sha256(), []
        for batch in go_through(data, "data"):
            inputs, label = inputs_and_label(batch, "data", net)
            labels.append(label.asnumpy().reshape(-1))
            for array in (*flat(inputs), label):
                add_array(digest, "", array.asnumpy())
        self._check_order(np.concatenate(labels))
        self.digest = digest.hexdigest()[:DIGITS]

    def row(self, net: HybridBlock, share: float = 1.0) -> dict[str, Any]:
        """``accuracy``, ``drop``, its ``standard_error``, and whether it ``fits`` in that share of what is allowed.

        Both networks see the same samples, so only those count on which one is right and the other wrong:

            drop = (b - c) / n,    standard error = sqrt(b + c - (b - c)^2 / n) / n

        with b samples that the original alone has right, and c that the other alone has (McNemar, 1947).
        """
        right, labels = right_answers(net, self.data, "data")
        self._check_order(labels)
        b, c, n = int((self._right & ~right).sum()), int((right & ~self._right).sum()), self.samples
        return {"accuracy": float(right.mean()), "drop": (b - c) / n,
                "standard_error": float(np.sqrt(b + c - (b - c) ** 2 / n) / n),
                "fits": bool(b - c <= share * self.max_drop * n + 1e-9)}

    def _check_order(self, labels: np.ndarray) -> None:
        if not np.array_equal(labels, self._labels):
            raise ValueError("data has other labels, or the same in another order, in each pass; accepted: the same "
                             "batches each time, without shuffle")


class EverySecond:
    """Every second batch of data, from the first or from the second on; ``ValueError`` where there is only one."""

    def __init__(self, data: Iterable[Any], first: int) -> None:
        self._data, self._first = data, first

    def __iter__(self) -> Iterator[Any]:
        number = -1
        for number, batch in enumerate(go_through(self._data, "data")):
            if number % 2 == self._first:
                yield batch
        if not number:
            raise ValueError("data has one batch, and there is neither training_data nor calibration_data, so that "
                             "every second batch calibrates; accepted: two batches at least, or calibration_data")


def digest_of_training_data(data: Iterable[Any]) -> str:
    """By which training data are known again: their samples where they number them, else how many batches there are.

    They may be shuffled and augmented, and so be others in each pass.
    """
    if isinstance(data, IndexedData):
        try:
            return data.fingerprint()[:DIGITS]
        except ValueError:  # augmented
            return f"{data.number_of_samples()} samples in {len(data)} batches"
    return f"{number_of_batches(data) or 'unknown number of'} batches"


def digest_of_inputs(batches: Iterable[tuple[Any, ...]]) -> str:
    """By which calibration inputs are known again."""
    digest = hashlib.sha256()
    for inputs in batches:
        for array in flat(inputs):
            add_array(digest, "", array.asnumpy())
    return digest.hexdigest()[:DIGITS]
