"""A teacher's logits, computed once and kept on disk; of data that do not change from epoch to epoch.

Of an ImageDataset's batches the logits are kept by sample, so that each epoch may have another order. Any other data
have to come in the same batches each time, which is checked batch by batch.
"""
import hashlib
import json
from pathlib import Path

import mxnet as mx
import numpy as np
from mxnet import autograd

from ..arguments import check_flag
from ..datasets.batches import Batches
from ..errors import CheckpointError, NetworkError
from ..files import tensorfile
from ..files.paths import check_path, check_writable
from ..files.schema import Malformed, either, fields, integer, list_of, text
from ..files.schema import pair as pair_of
from ..network.data import (
    as_given,
    check_data,
    check_repeatable,
    go_through,
    input_counts,
    inputs_and_label,
    number_of_batches,
)
from ..network.graph import Graph
from ..network.inputs import flat
from ..network.nodes import in_order
from ..network.values import parameters
from ..tables import progress_bar
from .teachers import as_teachers, check_finite, hybridized, logits_of, naming

KIND = "teacher logits"
_HEADER = fields({"teachers": list_of(text(), least=1, most=10_000),
                  "data": either(text(), list_of(pair_of(text(), integer(1, 2**31 - 1)), least=1))})


def cache_logits(teacher, data, path, progress=True):
    """``data`` with the teacher's logits: an iterable of ``(input, label, logits)`` batches.

    >>> for inputs, labels, logits in cache_logits(teacher, train.batches(128, shuffle=True), "logits.safetensors"):
    ...     with autograd.record():
    ...         losses = loss(student(inputs), labels, logits)

    Parameters
    ----------
    teacher : HybridBlock, or list of HybridBlock
        Initialized, with one input. Called in inference mode when the file is not there yet; otherwise only compared.
    data : iterable of (input, label) batches
        ``ImageDataset.batches``, shuffled or not, without ``augment``; or anything that gives the same batches each
        time, such as a list of them or a ``DataLoader`` with ``shuffle=False``.
    path : str or Path
        Where the logits are, as float32; made when there is no such file. They are held in memory as a whole.
    progress : bool
        Show a progress bar on standard error while the teacher runs.

    Returns
    -------
    CachedLogits

    Raises
    ------
    TypeError
        For a generator, which cannot be gone through again, a teacher that is no HybridBlock, and a path that is none.
    ValueError
        For data that are augmented, empty or in another order when gone through again, and a teacher whose output is
        not ``(batch, classes)``.
    NetworkError
        For a teacher that is not initialized, cannot be traced, or has logits that are not finite.
    CheckpointError
        When the file is damaged, or has the logits of another teacher or other data; while the result is gone
        through, when a batch is not the one whose logits these are.
    OSError
        When there is no file at ``path`` and none can be made.
    """
    teachers = as_teachers(teacher)
    check_flag("progress", progress)
    source = _DatasetSource(data) if isinstance(data, Batches) else _FixedSource(data, next(iter(teachers.values())))
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

    ``logits`` is an NDArray ``(batch, classes)``; of a list of teachers, a list of such. ``digests`` are the teachers'
    SHA-256, as :func:`digest_of` gives them.
    """

    def __init__(self, source, path, header, logits):
        self.digests = header["teachers"]
        self._source, self._path, self._description, self._logits = source, path, header["data"], logits

    def __len__(self):
        return self._source.length(self._description)

    def __iter__(self):
        for indices, inputs, labels in self._source.indexed(self._path, self._description):
            logits = [mx.nd.array(each[indices], flat(inputs)[0].context) for each in self._logits]
            yield inputs, labels, logits[0] if len(logits) == 1 else logits


def digests_of(teachers):
    """:func:`digest_of` each; errors name the teacher."""
    found = []
    for title, teacher in teachers.items():
        with naming(title), autograd.pause(train_mode=False):
            found.append(digest_of(teacher))
    return found


def digest_of(net):
    """SHA-256 of what a network computes: its operators, how they are joined, and its parameters.

    Names are not part of it, which Gluon counts up from network to network. Raises ``NetworkError`` for a network that
    is not initialized or cannot be traced.
    """
    number, _ = input_counts(net)
    try:
        graph = Graph(net, number)
    except NetworkError:
        if number == 1:
            raise
        return _digest_without_graph(net)  # an input may be a list, of a length that only a batch tells
    digest = hashlib.sha256(json.dumps(_description(graph.nodes, graph.outputs), sort_keys=True).encode())
    for name, parameter in sorted((graph.parameter_names[name], parameter)
                                  for name, parameter in graph.parameters.items()):
        _add_array(digest, name, parameter.list_data()[0].asnumpy())
    return digest.hexdigest()


def _digest_without_graph(net):
    digest = hashlib.sha256(repr(net).encode())
    for name, parameter in sorted(parameters(net).items()):
        _add_array(digest, name, parameter.list_data()[0].asnumpy())
    return digest.hexdigest()


def _description(nodes, outputs):
    """A graph as JSON: what each node computes of which others, and which are put out; the same for the body of a loop.

    Names of operators are not in it.
    """
    index = {node: number for number, node in enumerate(nodes)}

    def numbered(entries):
        return [[index[node], output] for node, output in entries]
    return [[[node.operator, node.parameter, numbered(node.inputs), node.settings,
              [_description(in_order(inner), inner) for inner in node.subgraphs] or None] for node in nodes],
            numbered(outputs)]


def _add_array(digest, name, array):
    digest.update(f"{name} {array.dtype.str} {array.shape}\n".encode())
    digest.update(np.ascontiguousarray(array))


def _check_teachers(path, there, here):
    if len(there) != len(here):
        raise CheckpointError(f"{path} has the logits of {len(there)} teacher(s), {len(here)} are given: delete it or "
                              f"choose another path")
    for index, (old, new) in enumerate(zip(there, here)):
        if old != new:
            which = "the teacher" if len(here) == 1 else f"teacher[{index}]"
            raise CheckpointError(f"{path} has the logits of another network than {which}, or of other parameters: "
                                  f"delete it or choose another path")


def _check_logits(tensors, teachers, samples):
    """Raise :class:`Malformed` unless there are finite logits of each teacher for so many samples."""
    names = {f"logits/{index}" for index in range(teachers)}
    if tensors.keys() != names:
        raise Malformed(f"its tensors are {', '.join(sorted(tensors))}; accepted: {', '.join(sorted(names))}")
    for name, logits in tensors.items():
        if logits.dtype != np.float32 or logits.ndim != 2 or len(logits) != samples or not np.isfinite(logits).all():
            raise Malformed(f"{name} has type {logits.dtype} and shape {logits.shape}; accepted: finite numbers of "
                            f"float32 for {samples} samples")


def _compute(teachers, batches, total, progress):
    """{name: logits (samples, classes)} of all (input, label) batches."""
    found = [[] for _ in teachers]
    with hybridized(teachers.values()):
        for inputs, _ in progress_bar(batches, progress, desc="teacher's logits", total=total, unit="batch"):
            every = logits_of(teachers, inputs)
            check_finite(teachers, every)
            for parts, logits in zip(found, every):
                parts.append(logits.asnumpy().astype(np.float32))
    return {f"logits/{index}": np.concatenate(parts) for index, parts in enumerate(found)}


class _DatasetSource:
    """The samples of an ImageDataset, by index."""

    def __init__(self, data):
        if data.augment is not None:
            raise ValueError("the data have augment, but the logits are of images that stay as they are; accepted: "
                             "batches(..., augment=None), or no cache")
        self.data = data

    def compute(self, teachers, progress):
        ordered = Batches(self.data.dataset, self.data.batch_size, size=self.data.size)
        return _compute(teachers, ordered, len(ordered), progress), self._digest()

    def check(self, path, description):
        if description != self._digest():
            raise CheckpointError(f"{path} has the logits of other data, or of these in another order: delete it or "
                                  f"choose another path")

    def length(self, description):
        return len(self.data)

    def samples(self, description):
        return len(self.data.dataset)

    def indexed(self, path, description):
        return self.data.indexed()

    def _digest(self):
        dataset = self.data.dataset
        digest = hashlib.sha256(json.dumps([dataset.mean, dataset.std, self.data.size]).encode())
        _add_array(digest, "images", dataset.images)
        _add_array(digest, "labels", dataset.labels)
        return digest.hexdigest()


class _FixedSource:
    """Batches that are the same each time; the description is the SHA-256 and the number of samples of each."""

    def __init__(self, data, net):
        check_data(data, "data")
        check_repeatable(data, "data")
        self.data, self._net = data, net

    def compute(self, teachers, progress):
        description = []

        def batches():
            for batch in go_through(self.data, "data"):
                inputs, labels = self._as_arrays(batch)
                description.append([_digest_of_batch(inputs, labels), len(flat(inputs)[0])])
                yield inputs, labels
        tensors = _compute(teachers, batches(), number_of_batches(self.data), progress)
        if self._first_digest() != description[0][0]:
            raise ValueError("the data are not the same when gone through again; accepted for cached logits: the same "
                             "batches each time, without shuffle and augmentation, or the batches of an ImageDataset")
        return tensors, description

    def check(self, path, description):
        if isinstance(description, str) or self._first_digest() != description[0][0]:
            raise self._refusal(path, 1)

    def length(self, description):
        return len(description)

    def samples(self, description):
        return sum(count for _, count in description)

    def indexed(self, path, description):
        start = count = 0
        for batch in go_through(self.data, "data"):
            inputs, labels = self._as_arrays(batch)
            samples = len(flat(inputs)[0])
            if count == len(description) or [_digest_of_batch(inputs, labels), samples] != description[count]:
                raise self._refusal(path, count + 1)
            yield np.arange(start, start + samples), inputs, labels
            start, count = start + samples, count + 1
        if count != len(description):
            raise CheckpointError(f"{path} has the logits of {len(description)} batches, the data have {count}: delete "
                                  f"it or choose another path")

    def _first_digest(self):
        return _digest_of_batch(*self._as_arrays(next(go_through(self.data, "data"))))

    def _as_arrays(self, batch):
        inputs, labels = inputs_and_label(batch, "data", self._net, mx.cpu())
        return as_given(inputs), labels

    def _refusal(self, path, number):
        return CheckpointError(f"batch {number} of the data is not the one whose logits are in {path}: other data, "
                               f"another order or batch size, or augmentation. Give the same batches each time, or "
                               f"delete the file")


def _digest_of_batch(inputs, labels):
    digest = hashlib.sha256()
    for array in flat(inputs):
        _add_array(digest, "inputs", array.asnumpy())
    _add_array(digest, "labels", labels.asnumpy())
    return digest.hexdigest()
