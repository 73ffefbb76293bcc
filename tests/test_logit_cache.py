"""Cached logits: those of the teacher, whatever the order; refused when they are of anything else."""
import gluon_compress as gc

import mxnet as mx  # noqa: I001
import numpy as np
import pytest
from gluon_compress import CheckpointError, NetworkError
from gluon_compress.datasets import random_flip
from gluon_compress.datasets import ImageDataset
from gluon_compress.distillation import DistillationLoss, cache_logits, distill
from gluon_compress.network.digest import digest_of
from gluon_compress.training import fit
from mxnet import autograd
from mxnet.gluon import Trainer, nn
from mxnet.gluon.data import ArrayDataset, DataLoader
from networks import Branches, NormNet, build, identical, values

COUNT, CLASSES = 22, 5


def dataset(seed=0, count=COUNT):
    rng = np.random.default_rng(seed)
    return ImageDataset(rng.integers(0, 256, size=(count, 8, 8, 3)).astype(np.uint8),
                        rng.integers(0, CLASSES, size=count), mean=(0.5, 0.5, 0.4), std=(0.3, 0.2, 0.3))


def fixed_batches(seed=0):
    return list(dataset(seed).batches(8))


def teacher_net(seed=0):
    return build(NormNet, seed=seed)[0]


class Counting(NormNet):
    """Counts the images it sees."""

    seen = 0

    def forward(self, x):
        if isinstance(x, mx.nd.NDArray):
            self.seen += len(x)
        return super().forward(x)


def check_triples(cached, teacher, expected_samples=COUNT):
    samples = 0
    for inputs, labels, logits in cached:
        assert logits.shape == (len(inputs), CLASSES)
        assert labels.shape == (len(inputs),)
        np.testing.assert_allclose(logits.asnumpy(), teacher(inputs).asnumpy(), rtol=1e-4, atol=1e-5)
        samples += len(inputs)
    assert samples == expected_samples


@pytest.mark.parametrize("shuffle", [False, True])
@pytest.mark.parametrize("size", [None, 12])
def test_logits_of_a_dataset_follow_its_samples(tmp_path, shuffle, size):
    teacher = nn.HybridSequential()
    teacher.add(nn.Conv2D(4, 3), nn.BatchNorm(), nn.GlobalAvgPool2D(), nn.Dense(CLASSES))
    teacher.initialize(mx.init.Normal(1))
    teacher(mx.nd.ones((1, 3, 8, 8)))
    cached = cache_logits(teacher, dataset().batches(8, shuffle, size=size), tmp_path / "logits", progress=False)
    assert len(cached) == 3
    for _ in range(2):  # in another order each
        check_triples(cached, teacher)


def test_the_order_is_that_of_the_data_without_a_cache(tmp_path):
    cached = cache_logits(teacher_net(), dataset().batches(8, shuffle=True), tmp_path / "logits", progress=False)
    passes = []
    for data in (cached, dataset().batches(8, shuffle=True)):
        np.random.seed(5)
        passes.append([(batch[0].asnumpy(), batch[1].asnumpy()) for batch in data])
    for (inputs, labels), (other_inputs, other_labels) in zip(*passes):
        np.testing.assert_array_equal(inputs, other_inputs)
        np.testing.assert_array_equal(labels, other_labels)


@pytest.mark.parametrize("loader", [False, True])
def test_logits_of_fixed_batches(tmp_path, loader):
    data = fixed_batches()
    if loader:
        inputs, labels = (np.concatenate([part.asnumpy() for part in parts]) for parts in zip(*data))
        data = DataLoader(ArrayDataset(inputs, labels.astype(np.int32)), 8)
    teacher = teacher_net()
    for _ in range(2):  # made, and read
        cached = cache_logits(teacher, data, tmp_path / "logits", progress=False)
        assert len(cached) == 3
        for _ in range(2):
            check_triples(cached, teacher)


@pytest.mark.parametrize("data", [fixed_batches(), dataset().batches(8, shuffle=True)], ids=["batches", "dataset"])
def test_the_teacher_runs_once(tmp_path, data):
    teacher, _ = build(Counting, (4, 3, 8, 8))
    student = teacher_net(1)
    teacher.seen = 0
    before = values(teacher)
    distill(student, teacher, data, 3, cache=tmp_path / "logits", progress=False)
    assert teacher.seen == COUNT
    distill(student, teacher, data, 1, cache=tmp_path / "logits", progress=False)
    assert teacher.seen == COUNT
    assert identical(before, values(teacher))
    assert not teacher._active


def test_another_batch_size_of_a_dataset_reads_the_same_file(tmp_path):
    teacher = teacher_net()
    cache_logits(teacher, dataset().batches(8), tmp_path / "logits", progress=False)
    content = (tmp_path / "logits").read_bytes()
    check_triples(cache_logits(teacher, dataset().batches(5, shuffle=True), tmp_path / "logits"), teacher)
    assert (tmp_path / "logits").read_bytes() == content


class Numbered:
    """Data of a user's own, which tell the numbers of their samples: in another order in each pass."""

    def __init__(self, seed=0):
        self.batches, self.passes = fixed_batches(seed), 0
        self.inputs, self.labels = (mx.nd.concat(*parts, dim=0) for parts in zip(*self.batches))

    def __len__(self):
        return 2

    def fingerprint(self):
        return str(self.inputs.sum().asscalar())

    def number_of_samples(self):
        return COUNT

    def in_order(self):
        return self.batches

    def indexed(self):
        self.passes += 1
        for indices in np.array_split(np.roll(np.arange(COUNT), self.passes), 2):
            yield indices, self.inputs[indices], self.labels[indices]

    def __iter__(self):
        for _, inputs, labels in self.indexed():
            yield inputs, labels


def test_logits_follow_the_samples_of_any_data_that_number_them(tmp_path):
    teacher, data = teacher_net(), Numbered()
    cached = cache_logits(teacher, data, tmp_path / "logits", progress=False)
    for _ in range(2):
        check_triples(cached, teacher)
    assert data.passes == 2  # the teacher saw the samples in order, and once
    with pytest.raises(CheckpointError, match="logits of other data"):
        cache_logits(teacher, Numbered(seed=1), tmp_path / "logits", progress=False)


@pytest.mark.parametrize("shuffle", [False, True])
def test_a_student_learns_what_it_would_learn_without_the_cache(tmp_path, shuffle):
    results = []
    for cache in (None, tmp_path / "logits"):
        student = teacher_net(1)
        distill(student, teacher_net(), dataset().batches(8, shuffle), 3, 2, 0.3, cache=cache, progress=False)
        results.append(values(student))
    for name, value in results[0].items():
        np.testing.assert_allclose(results[1][name], value, rtol=1e-3, atol=1e-5, err_msg=name)


def test_several_teachers(tmp_path):
    teachers = [teacher_net(), teacher_net(1)]
    results = []
    for cache in (None, tmp_path / "logits"):
        student = teacher_net(2)
        distill(student, teachers, dataset().batches(8, shuffle=True), 2, teacher_weights=[1, 3], cache=cache,
                progress=False)
        results.append(values(student))
    for name, value in results[0].items():
        np.testing.assert_allclose(results[1][name], value, rtol=1e-3, atol=1e-5, err_msg=name)
    for inputs, _, logits in cache_logits(teachers, dataset().batches(8), tmp_path / "logits"):
        for ours, teacher in zip(logits, teachers):
            np.testing.assert_allclose(ours.asnumpy(), teacher(inputs).asnumpy(), rtol=1e-4, atol=1e-5)
    for others in (teachers[::-1], teachers[:1], teachers[0]):
        with pytest.raises(CheckpointError, match="logits of (another network than teacher.0|2 teacher)"):
            cache_logits(others, dataset().batches(8), tmp_path / "logits")


def test_in_a_loop_of_one_s_own(tmp_path):
    student, by_distill, teacher = teacher_net(1), teacher_net(1), teacher_net()
    for net in (student, by_distill):
        net.features[12]._rate = 0
    trainer = Trainer(student.collect_params(), "sgd", {"learning_rate": 0.05})
    loss = DistillationLoss(3, 0.2)
    for inputs, labels, logits in cache_logits(teacher, fixed_batches(), tmp_path / "logits", progress=False):
        with autograd.record():
            losses = loss(student(inputs), labels, logits)
        losses.backward()
        trainer.step(len(inputs))
    trainer = Trainer(by_distill.collect_params(), "sgd", {"learning_rate": 0.05})
    distill(by_distill, teacher, fixed_batches(), 1, 3, 0.2, cache=tmp_path / "logits", trainer=trainer,
            schedule=lambda share: 1, progress=False)
    assert identical(values(student), values(by_distill))


@pytest.mark.parametrize("shuffle", [False, True])
def test_it_resumes_bit_for_bit(tmp_path, shuffle):
    def run(directory, stop=None):
        student = teacher_net(1)
        try:
            distill(student, teacher_net(), dataset().batches(8, shuffle), 4, cache=directory / "logits",
                    state_path=directory / "state", validation_data=Stopping(fixed_batches(), stop), progress=False)
        except KeyboardInterrupt:
            assert stop
        return values(student)
    (tmp_path / "whole").mkdir()
    (tmp_path / "killed").mkdir()
    whole = run(tmp_path / "whole")
    run(tmp_path / "killed", stop=2)
    assert identical(run(tmp_path / "killed"), whole)


class Stopping:
    """Batches that can be gone through ``times`` times, then Ctrl-C."""

    def __init__(self, data, times):
        self.data, self.left = data, times

    def __iter__(self):
        if self.left == 0:
            raise KeyboardInterrupt
        self.left = None if self.left is None else self.left - 1
        return iter(self.data)


def test_a_process_killed_while_the_teacher_runs_leaves_no_file(tmp_path, start_python):
    code = """
import os, signal, sys
import gluon_compress as gc
import mxnet as mx
import numpy as np

class Data(list):
    def __iter__(self):
        for number, batch in enumerate(super().__iter__()):
            if number == 2:
                os.kill(os.getpid(), signal.SIGKILL)
            yield batch

net = mx.gluon.nn.Dense(3, in_units=4)
net.initialize()
gc.distillation.cache_logits(net, Data([(mx.nd.ones((2, 4)), mx.nd.zeros(2))] * 3), sys.argv[1], progress=False)
"""
    process = start_python(code, tmp_path / "logits")
    process.communicate(timeout=120)
    assert process.returncode == -9
    assert list(tmp_path.iterdir()) == []


# What is refused.

def damaged(path):
    content = bytearray(path.read_bytes())
    content[-5] ^= 1
    path.write_bytes(content)


@pytest.mark.parametrize("shuffle", [False, True])
def test_a_file_that_is_damaged_or_no_cache_is_refused(tmp_path, shuffle):
    path, teacher, data = tmp_path / "logits", teacher_net(), dataset().batches(8, shuffle)
    student = teacher_net(1)
    before = values(student)
    cache_logits(teacher, data, path, progress=False)
    whole = path.read_bytes()
    damaged(path)
    with pytest.raises(CheckpointError, match="damaged"):
        distill(student, teacher, data, 1, cache=path, progress=False)
    path.write_bytes(whole[:-100])
    with pytest.raises(CheckpointError, match="damaged"):
        distill(student, teacher, data, 1, cache=path, progress=False)
    gc.save(path, teacher)
    with pytest.raises(CheckpointError, match="holds a 'compressed network', not a 'teacher logits'"):
        distill(student, teacher, data, 1, cache=path, progress=False)
    assert identical(before, values(student))


@pytest.mark.parametrize("data", [fixed_batches(), dataset().batches(8, shuffle=True)], ids=["batches", "dataset"])
def test_logits_of_another_teacher_are_refused(tmp_path, data):
    teacher = teacher_net()
    cache_logits(teacher, data, tmp_path / "logits", progress=False)
    content = (tmp_path / "logits").read_bytes()
    teacher.features[1].running_mean.data()[0] += 1e-3  # a statistic of a BatchNorm is enough
    for other in (teacher, teacher_net(1), build(NormNet, classes=7)[0]):
        with pytest.raises(CheckpointError, match="logits of another network than the teacher, or of other parameters"):
            cache_logits(other, data, tmp_path / "logits")
    assert (tmp_path / "logits").read_bytes() == content
    teacher.features[1].running_mean.data()[0] -= 1e-3


def permuted(data, order):
    return ImageDataset(data.images[order], data.labels[order], data.mean, data.std)


def changed(data, **attributes):
    copy = permuted(data, slice(None))
    for name, value in attributes.items():
        setattr(copy, name, value)
    return copy


OTHER_DATA = {"others": dataset(1), "another order": permuted(dataset(), slice(None, None, -1)),
              "fewer": dataset().subset(slice(0, 20)),
              "other labels": changed(dataset(), labels=dataset().labels[::-1]),
              "another mean": changed(dataset(), mean=(0.5, 0.5, 0.5)),
              "another std": changed(dataset(), std=(0.5, 0.2, 0.3))}


@pytest.mark.parametrize("what", OTHER_DATA)
def test_logits_of_other_data_are_refused(tmp_path, what):
    teacher = teacher_net()
    cache_logits(teacher, dataset().batches(8), tmp_path / "dataset", progress=False)
    with pytest.raises(CheckpointError, match="logits of other data, or of these in another order"):
        cache_logits(teacher, OTHER_DATA[what].batches(8), tmp_path / "dataset")
    cache_logits(teacher, list(dataset().batches(8)), tmp_path / "batches", progress=False)
    with pytest.raises(CheckpointError, match="batch [13] of the data is not the one"):
        list(cache_logits(teacher, list(OTHER_DATA[what].batches(8)), tmp_path / "batches"))


def test_a_dataset_resized_or_kept_in_another_way_is_refused(tmp_path):
    teacher = nn.HybridSequential()
    teacher.add(nn.GlobalAvgPool2D(), nn.Dense(CLASSES, in_units=3))
    teacher.initialize()
    cache_logits(teacher, dataset().batches(8), tmp_path / "dataset", progress=False)
    cache_logits(teacher, fixed_batches(), tmp_path / "batches", progress=False)
    with pytest.raises(CheckpointError, match="logits of other data"):
        cache_logits(teacher, dataset().batches(8, size=12), tmp_path / "dataset")
    with pytest.raises(CheckpointError, match="batch 1 of the data is not the one"):
        cache_logits(teacher, fixed_batches(), tmp_path / "dataset")
    with pytest.raises(CheckpointError, match="logits of other data"):
        cache_logits(teacher, dataset().batches(8), tmp_path / "batches")


@pytest.mark.parametrize("path, error, message", [
    (5, TypeError, "the path of cached logits is 5; accepted: the path of a file"),
    ("", ValueError, "a directory; accepted: the path of a file"),
    ("file/logits", OSError, "file")])
def test_a_path_that_cannot_be_written_is_refused_before_the_teacher_runs(tmp_path, path, error, message):
    (tmp_path / "file").write_text("")
    teacher = Counting()
    teacher.initialize()
    teacher(next(iter(dataset().batches(8)))[0])
    teacher.seen = 0
    with pytest.raises(error, match=message):
        cache_logits(teacher, dataset().batches(8), path if path == 5 else tmp_path / path, progress=False)
    assert teacher.seen == 0


def test_a_cache_that_is_there_is_only_read(tmp_path):
    """Its folder may be read-only."""
    teacher, path = teacher_net(), tmp_path / "folder" / "logits"
    cache_logits(teacher, dataset().batches(8), path, progress=False)
    before = {file.name: file.stat().st_mtime_ns for file in path.parent.iterdir()}
    folder_before = path.parent.stat().st_mtime_ns
    check_triples(cache_logits(teacher, dataset().batches(8), path, progress=False), teacher)
    assert {file.name: file.stat().st_mtime_ns for file in path.parent.iterdir()} == before
    assert path.parent.stat().st_mtime_ns == folder_before  # nothing was made in it for a moment


@pytest.mark.parametrize("arguments, error, message", [
    ({"epochs": 0}, ValueError, "epochs is 0"), ({"trainer": "sgd"}, TypeError, "trainer is 'sgd'"),
    ({"state_path": 5}, TypeError, "state_path is 5"), ({"seed": -1}, ValueError, "seed is -1")])
def test_arguments_are_refused_before_the_teacher_runs(tmp_path, arguments, error, message):
    with pytest.raises(error, match=message):
        distill(teacher_net(1), teacher_net(), dataset().batches(8), cache=tmp_path / "logits", progress=False,
                **{"epochs": 1, **arguments})
    assert not list(tmp_path.iterdir())


def test_a_float64_student_learns_from_cached_logits(tmp_path):
    student, teacher = teacher_net(1), teacher_net()
    before = values(student)
    student.cast("float64")
    teacher.cast("float64")
    data = [(inputs.astype("float64"), labels) for inputs, labels in fixed_batches()]
    distill(student, teacher, data, 1, cache=tmp_path / "logits", progress=False)
    assert not identical(before, values(student))


def test_batches_in_another_order_are_refused_when_they_come(tmp_path):
    teacher, data, student = teacher_net(), fixed_batches(), teacher_net(1)
    cache_logits(teacher, data, tmp_path / "logits", progress=False)
    before = values(student)
    longer = [*data, data[0]]
    for other, message in (([data[0], data[2], data[1]], "batch 2 of the data is not the one"),
                           (data[::-1], "batch 1 of the data"), (longer, "batch 4 of the data"),
                           (data[:2], "has the logits of 3 batches, the data have 2"),
                           (list(dataset().batches(4)), "batch 1 of the data")):
        with pytest.raises(CheckpointError, match=message):
            distill(student, teacher, other, 1, cache=tmp_path / "logits", progress=False)
        assert identical(before, values(student))


def test_data_that_change_are_refused_and_leave_no_file(tmp_path):
    inputs, labels = (np.concatenate([part.asnumpy() for part in parts]) for parts in zip(*fixed_batches()))
    loader = DataLoader(ArrayDataset(inputs, labels.astype(np.int32)), 8, shuffle=True)
    cases = [(loader, ValueError, "the data differ on a second pass"),
             (dataset().batches(8, augment=random_flip), ValueError, "the data have augment"),
             ((batch for batch in fixed_batches()), TypeError, "data is a generator"),
             ([], ValueError, "data has no batches"),
             (DataLoader(ArrayDataset(inputs, labels), 32, last_batch="discard"), ValueError, "data has no batches"),
             ([inputs], ValueError, r"accepted: pairs \(input, label\)")]
    student = teacher_net(1)
    before = values(student)
    np.random.seed(0)
    for data, error, message in cases:
        with pytest.raises(error, match=message):
            distill(student, teacher_net(), data, 1, cache=tmp_path / "logits", progress=False)
    assert identical(before, values(student))
    assert list(tmp_path.iterdir()) == []


def test_teachers_without_logits_are_refused_and_leave_no_file(tmp_path):
    broken = teacher_net()
    broken.output.bias.data()[2] = np.nan
    images = nn.HybridSequential()
    images.add(nn.Conv2D(3, 3, in_channels=3))
    images.initialize()
    cases = [(broken, NetworkError, "the teacher: parameter output.bias has values that are NaN or infinite"),
             (images, ValueError, r"the teacher's output is \(8, 3, 6, 6\); accepted: logits"),
             (NormNet(), NetworkError, "the teacher: parameter .* is not initialized"),
             ([teacher_net(), lambda x: x], TypeError, r"teacher\[1\]: net is a function")]
    for teacher, error, message in cases:
        with pytest.raises(error, match=message):
            cache_logits(teacher, fixed_batches(), tmp_path / "logits", progress=False)
    assert list(tmp_path.iterdir()) == []


def test_a_cached_run_is_another_run(tmp_path):
    distill(teacher_net(1), teacher_net(), fixed_batches(), 1, state_path=tmp_path / "state", progress=False)
    with pytest.raises(CheckpointError, match="run_details.cached is False there, True here"):
        distill(teacher_net(1), teacher_net(), fixed_batches(), 1, state_path=tmp_path / "state",
                cache=tmp_path / "logits", progress=False)


# The teacher's digest.

def test_the_digest_is_the_same_for_an_equal_network():
    first, second = teacher_net(), teacher_net()  # other Gluon names
    assert first.prefix != second.prefix
    example = fixed_batches()[0][0]
    digest = digest_of(first)
    second.hybridize()
    second(example)
    fit(second, fixed_batches(), 1, trainer=Trainer(second.collect_params(), "sgd", {"learning_rate": 0}),
        progress=False)  # it has seen training, which counts in MXNet's graph
    for name, parameter in second._collect_params_with_prefix().items():
        parameter.set_data(first._collect_params_with_prefix()[name].data())
    assert digest_of(second) == digest


def test_the_digest_tells_networks_apart():
    def net(activation="relu", swap=False, rate=0.5):
        mx.random.seed(0)
        layers = [nn.Dense(4, in_units=4), nn.Activation(activation)]
        block = nn.HybridSequential()
        block.add(*(layers[::-1] if swap else layers), nn.LeakyReLU(rate))
        block.initialize(mx.init.One())
        return block
    nets = [net(), net("tanh"), net(swap=True), net(rate=0.25), build(Branches)[0]]
    nets.append(net())
    nets[-1][0].bias.data()[0] = 1e-30
    assert len({digest_of(each) for each in nets}) == len(nets)
