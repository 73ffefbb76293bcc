"""A teacher's logits, computed once and kept on disk, for data that do not change from epoch to epoch.

For :class:`~gluon_compress.network.data.IndexedData`, such as an ImageDataset's batches, the logits are kept by sample,
so that each epoch may have another order. Any other data have to come in the same batches each time, which is checked
batch by batch.
"""
from __future__ import annotations

import hashlib
from abc import ABC, abstractmethod
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

import mxnet as mx
import numpy as np
from mxnet.gluon import HybridBlock

from ..arguments import check_flag
from ..errors import CheckpointError
from ..files import tensorfile
from ..files.digests import add_array
from ..files.paths import check_path, check_writable
from ..files.schema import Malformed, either, fields, integer, list_of, text
from ..files.schema import pair as pair_of
from ..network.data import (
    IndexedData,
    as_given,
    check_data,
    check_repeatable,
    go_through,
    inputs_and_label,
    number_of_batches,
)
from ..network.hybridizing import hybridized
from ..network.inputs import flat
from ..network.interface import interface_of_array
from ..tables import progress_bar
from .teachers import as_teachers, check_finite, digests_of, logits_of

KIND = "teacher logits"
_HEADER = fields({"teachers": list_of(text(), least=1, most=10_000),
                  "data": either(text(), list_of(pair_of(text(), integer(1, 2**31 - 1)), least=1))})

# What a file says of its data: a fingerprint of all samples, or [SHA-256, number of samples] of each batch.
Description = str | list[Any]
# (numbers of the samples from 0, inputs, labels) of a batch
IndexedBatch = tuple[np.ndarray, Any, mx.nd.NDArray]


def cache_logits(teacher: HybridBlock | list[HybridBlock], data: Iterable, path: str | Path,
                 progress: bool = True) -> CachedLogits:
    """``data`` with the teacher's logits: an iterable of ``(input, label, logits)`` batches.

    >>> for inputs, labels, logits in cache_logits(teacher, train.batches(128, shuffle=True), "logits.safetensors"):
    ...     with autograd.record():
    ...         losses = loss(student(inputs), labels, logits)

    Parameters
    ----------
    teacher : HybridBlock, or list of HybridBlock
        Initialized, with one input. Called in inference mode when the file is not there yet; otherwise only compared.
    data : iterable of (input, label) batches
        ``ImageDataset.batches``, shuffled or not, without ``augment``, or data of yours that are
        :class:`~gluon_compress.network.data.IndexedData`; or anything that gives the same batches each time, such as a
        list of them or a ``DataLoader`` with ``shuffle=False``.
    path : str or Path
        Where the logits are kept, as float32; the file is made if there is none. They are held in memory as a whole.
    progress : bool
        Show a progress bar on standard error while the teacher runs.

    Returns
    -------
    CachedLogits

    Raises
    ------
    TypeError
        For a generator (it gives its batches only once), a teacher that is not a HybridBlock, or a ``path`` that is
        not a path.
    ValueError
        For data that are augmented, empty or in another order on the second pass, and a teacher whose output is
        not ``(batch, classes)``.
    NetworkError
        For a teacher that is not initialized, cannot be traced, or has logits that are not finite.
    CheckpointError
        When the file is damaged, or has the logits of another teacher or other data; during iteration, when a batch is
        not the one whose logits these are.
    OSError
        When there is no file at ``path`` and none can be made.
    """
    teachers = as_teachers(teacher)
    check_flag("progress", progress)
    source = _BySample(data) if isinstance(data, IndexedData) else _ByBatch(data, next(iter(teachers.values())))
    check_path("the path of cached logits", path)
    digests = digests_of(teachers)
    if Path(path).exists():
        tensors, header = tensorfile.read(path, KIND, _HEADER)
        _check_teachers(path, header["teachers"], digests)
        source.check(path, header["data"])
        with tensorfile.content_of(path, KIND):
            _check_logits(tensors, len(digests), source.samples(header["data"]))
    else:
        check_writable(path)
        tensors, description = source.compute(teachers, progress)
        header = {"teachers": digests, "data": description}
        tensorfile.write(path, KIND, tensors, header)
    logits = [tensors[f"logits/{index}"] for index in range(len(digests))]
    return CachedLogits(source, path, header, logits)


class CachedLogits:
    """Batches ``(input, label, logits)``: what :func:`cache_logits` returns.

    ``logits`` is an NDArray ``(batch, classes)``; for a list of teachers, a list of such. ``digests`` are the teachers'
    SHA-256, as :func:`~gluon_compress.network.digest.digest_of` gives them.
    """

    def __init__(self, source: _Source, path: str | Path, header: dict, logits: list[np.ndarray]) -> None:
        self.digests: list[str] = header["teachers"]
        self._source, self._path, self._description, self._logits = source, path, header["data"], logits

    def __len__(self) -> int:
        return self._source.length(self._description)

    def __iter__(self) -> Iterator[tuple]:
        for indices, inputs, labels in self._source.indexed(self._path, self._description):
            interface, context = interface_of_array(flat(inputs)[0]), flat(inputs)[0].context
            logits = [interface.array(each[indices], context) for each in self._logits]
            yield inputs, labels, logits[0] if len(logits) == 1 else logits


def _check_teachers(path: str | Path, saved: list[str], given: list[str]) -> None:
    """Raise ``CheckpointError`` unless the teachers' digests in the file are those of the teachers given."""
    if len(saved) != len(given):
        raise CheckpointError(f"{path} has the logits of {len(saved)} teacher(s), {len(given)} are given: delete it or "
                              f"choose another path")
    for index, (old, new) in enumerate(zip(saved, given)):
        if old != new:
            which = "the teacher" if len(given) == 1 else f"teacher[{index}]"
            raise CheckpointError(f"{path} has the logits of another network than {which}, or of other parameters: "
                                  f"delete it or choose another path")


def _check_logits(tensors: dict[str, np.ndarray], teachers: int, samples: int) -> None:
    """Raise :class:`Malformed` unless there are finite logits of each teacher for this number of samples."""
    names = {f"logits/{index}" for index in range(teachers)}
    if tensors.keys() != names:
        raise Malformed(f"its tensors are {', '.join(sorted(tensors))}; accepted: {', '.join(sorted(names))}")
    for name, logits in tensors.items():
        if logits.dtype != np.float32 or logits.ndim != 2 or len(logits) != samples or not np.isfinite(logits).all():
            raise Malformed(f"{name} has type {logits.dtype} and shape {logits.shape}; accepted: finite numbers of "
                            f"float32 for {samples} samples")


def _compute(teachers: dict[str, HybridBlock], batches: Iterable, total: int | None,
             progress: bool) -> dict[str, np.ndarray]:
    """{name: logits (samples, classes)} of all (input, label) batches."""
    parts: list[list[np.ndarray]] = [[] for _ in teachers]
    with hybridized(teachers.values()):
        for inputs, _ in progress_bar(batches, progress, desc="teacher's logits", total=total, unit="batch"):
            of_teachers = logits_of(teachers, inputs)
            check_finite(teachers, of_teachers)
            for own_parts, logits in zip(parts, of_teachers):
                own_parts.append(logits.asnumpy().astype(np.float32))
    return {f"logits/{index}": np.concatenate(own_parts) for index, own_parts in enumerate(parts)}


class _Source(ABC):
    """The source of the samples whose logits are kept; the file's ``description`` says which samples they are."""

    @abstractmethod
    def compute(self, teachers: dict[str, HybridBlock],
                progress: bool) -> tuple[dict[str, np.ndarray], Description]:
        """{name: logits} of all samples, and their description."""

    @abstractmethod
    def check(self, path: str | Path, description: Description) -> None:
        """Raise ``CheckpointError`` when the description in the file at ``path`` is of other data."""

    @abstractmethod
    def length(self, description: Description) -> int:
        """How many batches a pass has."""

    @abstractmethod
    def samples(self, description: Description) -> int:
        """How many samples there are."""

    @abstractmethod
    def indexed(self, path: str | Path, description: Description) -> Iterator[IndexedBatch]:
        """One pass over the data; ``CheckpointError`` where they are not the ones described."""


class _BySample(_Source):
    """Samples in any order, by their numbers."""

    def __init__(self, data: IndexedData) -> None:
        self._data, self._fingerprint = data, data.fingerprint()

    def compute(self, teachers: dict[str, HybridBlock],
                progress: bool) -> tuple[dict[str, np.ndarray], Description]:
        in_order = self._data.in_order()
        return _compute(teachers, in_order, number_of_batches(in_order), progress), self._fingerprint

    def check(self, path: str | Path, description: Description) -> None:
        if description != self._fingerprint:
            raise CheckpointError(f"{path} has the logits of other data, or of these in another order: delete it or "
                                  f"choose another path")

    def length(self, description: Description) -> int:
        return len(self._data)

    def samples(self, description: Description) -> int:
        return self._data.number_of_samples()

    def indexed(self, path: str | Path, description: Description) -> Iterator[IndexedBatch]:
        return self._data.indexed()


class _ByBatch(_Source):
    """Batches that are the same each time."""

    def __init__(self, data: Iterable, net: HybridBlock) -> None:
        check_data(data, "data")
        check_repeatable(data, "data")
        self._data, self._net = data, net

    def compute(self, teachers: dict[str, HybridBlock],
                progress: bool) -> tuple[dict[str, np.ndarray], Description]:
        description: list[list] = []

        def batches() -> Iterator[tuple]:
            for batch in go_through(self._data, "data"):
                inputs, labels = self._as_arrays(batch)
                description.append(_describe(inputs, labels))
                yield inputs, labels
        tensors = _compute(teachers, batches(), number_of_batches(self._data), progress)
        if self._first() != description[0]:
            raise ValueError("the data differ on a second pass; accepted for cached logits: the same "
                             "batches each time, without shuffle and augmentation, or the batches of an ImageDataset")
        return tensors, description

    def check(self, path: str | Path, description: Description) -> None:
        if isinstance(description, str) or self._first()[0] != description[0][0]:
            raise self._refusal(path, 1)

    def length(self, description: Description) -> int:
        return len(description)

    def samples(self, description: Description) -> int:
        return sum(int(batch[1]) for batch in description)

    def indexed(self, path: str | Path, description: Description) -> Iterator[IndexedBatch]:
        start = count = 0
        for batch in go_through(self._data, "data"):
            inputs, labels = self._as_arrays(batch)
            if count == len(description) or _describe(inputs, labels) != description[count]:
                raise self._refusal(path, count + 1)
            samples = len(flat(inputs)[0])
            yield np.arange(start, start + samples), inputs, labels
            start, count = start + samples, count + 1
        if count != len(description):
            raise CheckpointError(f"{path} has the logits of {len(description)} batches, the data have {count}: delete "
                                  f"it or choose another path")

    def _first(self) -> list:
        return _describe(*self._as_arrays(next(go_through(self._data, "data"))))

    def _as_arrays(self, batch: Any) -> tuple[Any, mx.nd.NDArray]:
        inputs, labels = inputs_and_label(batch, "data", self._net, mx.cpu())
        return as_given(inputs), labels

    def _refusal(self, path: str | Path, number: int) -> CheckpointError:
        return CheckpointError(f"batch {number} of the data is not the one whose logits are in {path}: other data, "
                               f"another order or batch size, or augmentation. Give the same batches each time, or "
                               f"delete the file")


def _describe(inputs: Any, labels: mx.nd.NDArray) -> list:
    """[SHA-256, number of samples] of a batch."""
    digest = hashlib.sha256()
    for array in flat(inputs):
        add_array(digest, "inputs", array.asnumpy())
    add_array(digest, "labels", labels.asnumpy())
    return [digest.hexdigest(), len(flat(inputs)[0])]
