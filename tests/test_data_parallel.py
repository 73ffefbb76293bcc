"""Several workers: fit and distill train as one process with the whole batches, of which each has its Shard."""
import sys
from collections import Counter
from pathlib import Path

import clusters
import gluon_compress as gc
import numpy as np
import pytest
from clusters import TRAININGS, Alone
from gluon_compress.workers import launch
from gluon_compress.datasets import Shard
from gluon_compress.network import snapshot
from hypothesis import given
from hypothesis import strategies as st

import mxnet as mx
from mxnet.gluon import Trainer
from mxnet.gluon.data import ArrayDataset, DataLoader


@pytest.fixture(scope="module")
def python_path():
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("PYTHONPATH", str(Path(__file__).resolve().parent.parent))
        yield


@pytest.fixture
def run(python_path, tmp_path, capfd):
    """``run(*scenarios)``: two workers in a cluster; its status and what it printed."""
    def run(*scenarios):
        command = [clusters.__file__, str(tmp_path), *scenarios]
        status = launch.run(launch.cluster(2, 1, [], None, sys.executable, command))
        return status, "".join(capfd.readouterr())
    return run


def read(folder, name):
    """What both workers wrote."""
    return [dict(np.load(Path(folder, f"{name}-{rank}.npz"))) for rank in range(2)]


def test_two_workers_train_as_one_with_the_whole_batches_and_resume(run, tmp_path):
    """Then, in the same cluster: what must be exact is, also where a worker or the servers round; a leaver ends all."""
    status, output = run("die")
    assert status == 1 and "[launch] worker 1 was ended by SIGKILL: ending the others" in output
    assert (tmp_path / "state").exists()
    status, output = run("resume", "all_trainings", "drift", "rounded", "leave")
    assert status == 1 and "[launch] worker 1 ended with status 3: ending the others" in output, output
    assert "Traceback" not in output
    assert "[worker 0] rank 0 of 2\n" in output and "[worker 1] rank 1 of 2\n" in output
    for training in TRAININGS:
        first, second = read(tmp_path, training.__name__)
        for name in first:
            np.testing.assert_array_equal(first[name], second[name], err_msg=name)
        clusters.write(tmp_path, "alone", 0, *training(Alone, Alone.kvstore))
        alone = dict(np.load(tmp_path / "alone-0.npz"))
        normalized = training is clusters.standing_still  # by each share's own mean and variance
        for name, expected in alone.items():
            if not (normalized and (name.endswith("running_var") or name.startswith("history"))):
                np.testing.assert_allclose(first[name], expected, rtol=2e-4, atol=2e-6,
                                           err_msg=f"{training.__name__} {name}")
    sparsity = [(value == 0).mean() for name, value in read(tmp_path, "masked")[0].items() if name.endswith("weight")]
    assert min(sparsity) > 0.55
    statistics = read(tmp_path, "standing_still")[0]["1.running_mean"]
    assert np.abs(statistics).min() > 0.001  # moved from zero, so that the comparison above says something

    uninterrupted = read(tmp_path, "with_validation")[0]
    for resumed in read(tmp_path, "after-2-epochs"):  # two of four
        assert uninterrupted.keys() == resumed.keys()
        for name, value in uninterrupted.items():
            np.testing.assert_array_equal(resumed[name], value, err_msg=name)

    first, second = read(tmp_path, "drift")
    for name in first:
        np.testing.assert_array_equal(first[name], second[name], err_msg=name)


def test_a_worker_that_dies_is_reported_without_a_launcher_too(start_python, tmp_path):
    code = f"import runpy, sys; sys.path.insert(0, {str(Path(clusters.__file__).parent)!r}); sys.argv[0] = 'worker'\n" \
           f"runpy.run_path({clusters.__file__!r}, run_name='__main__')"
    workers = clusters.start_cluster(start_python, code, 2 * [(tmp_path, "die_unwatched")])
    told = [worker.communicate(timeout=300) for worker in workers]
    assert sorted(worker.returncode for worker in workers) == [-9, 1], told
    output = "".join(output for output, _ in told)
    assert "the other workers or the servers have not answered for 5 seconds" in output
    assert "as before: True" in output


@pytest.mark.parametrize("scenario, messages", [
    ("other_networks", ["worker 1 trains something else than worker 0: parameter 0.weight is '(8, 16) float32' there, "
                        "'(9, 16) float32' here"]),
    ("other_batches", ["the workers have different numbers of batches"])])
def test_workers_that_do_not_fit_together_are_refused(run, scenario, messages):
    status, output = run(scenario)
    assert status == 1
    assert "ended with status 1: ending the others" in output
    for message in messages:
        assert f"WorkerError: {message}" in output


# ---- one process

@given(st.integers(1, 60), st.integers(1, 25), st.integers(1, 6), st.booleans())
def test_the_shares_of_all_workers_are_the_batches_of_one(count, batch_size, workers, shuffle):
    if workers > min(count, batch_size):
        with pytest.raises(ValueError, match=f"accepted: an integer at least {workers}"):
            Shard(count, batch_size, shuffle, 0, workers)
        return
    passes = []
    for rank in range(workers):
        np.random.seed(5)  # what fit does before each epoch
        shard = Shard(count, batch_size, shuffle, rank, workers)
        passes.append(list(shard))
        assert len(passes[-1]) == len(shard)
    np.random.seed(5)
    order = list(np.random.permutation(count)) if shuffle else list(range(count))
    position = 0
    assert len({len(own) for own in passes}) == 1
    for shares in zip(*passes):
        size = sum(map(len, shares))
        assert Counter(sum(shares, [])) == Counter(order[position:position + size])
        assert min(map(len, shares)) >= 1 and max(map(len, shares)) - min(map(len, shares)) <= 1
        position += size
        assert size == batch_size or position == count
    assert position == count


@pytest.mark.parametrize("stops", [False, True])
def test_shares_go_together_in_later_passes_too(stops):
    """Seeded once; also when a pass is given up."""
    passes = []
    for rank in range(3):
        np.random.seed(5)
        shard = Shard(37, 8, True, rank, 3)
        first = next(iter(shard)) if stops else sum(shard, [])
        passes.append((first, sum(shard, []), sum(shard, [])))
        assert passes[-1][1] != passes[-1][2]
    for shares in list(zip(*passes))[1:]:
        assert sorted(sum(shares, [])) == list(range(37))


def test_shares_of_batches_and_of_a_loader_hold_the_same_samples():
    dataset = clusters.images()
    for rank in range(2):
        batches = [labels.asnumpy().tolist() for _, labels in dataset.batches(24, rank=rank, workers=2)]
        loader = DataLoader(ArrayDataset(dataset.labels), batch_sampler=Shard(51, 24, False, rank, 2))
        assert batches == [labels.asnumpy().tolist() for labels in loader]
        assert batches == [dataset.labels[start:start + 24][rank::2].tolist() for start in (0, 24, 48)]


def test_workers_shuffle_alike_and_augment_differently():
    drawn, seen = [], []
    dataset = clusters.images(48)
    for rank in range(2):
        np.random.seed(1)
        seen.append([labels.asnumpy() for _, labels in dataset.batches(
            24, True, lambda images: drawn.append(np.random.rand()) or images, rank=rank, workers=2)])
    assert len(set(drawn)) == 4
    np.random.seed(1)
    whole = [labels.asnumpy() for _, labels in dataset.batches(24, True)]
    for first, second, both in zip(*seen, whole):
        np.testing.assert_array_equal(np.stack([first, second], axis=1).ravel(), both)


def test_a_script_for_several_workers_runs_in_one_process(run_python, tmp_path):
    """The same result as without a word of workers."""
    run_python("import runpy, sys; sys.path.insert(0, sys.argv[3]); runpy.run_path(sys.argv.pop(3) + '/clusters.py', "
               "run_name='__main__')", tmp_path, "resume", Path(clusters.__file__).parent, DMLC_ROLE=None)
    net, _ = clusters.with_validation(Alone, Alone.kvstore)
    found = dict(np.load(tmp_path / "after-4-epochs-0.npz"))
    for name, value in snapshot(net).items():
        np.testing.assert_array_equal(found[name], value, err_msg=name)


@pytest.mark.parametrize("kvstore", [None, "device", "local"])
def test_a_trainer_without_others_makes_its_store_when_gluon_would(kvstore):
    stepped = []
    for by_gluon in (False, True):
        net = clusters.network()
        trainer = Trainer(net.collect_params(), "adam", {"learning_rate": 0.1}, kvstore=kvstore)
        group = gc.workers.of_trainer(trainer)
        group.check_network(net)
        group.begin(net, trainer, {})
        group.meet(net)
        assert (group.rank, group.num_workers) == (0, 1) and group.sum([0.5, 3]).tolist() == [0.5, 3]
        assert not trainer._kv_initialized
        with mx.autograd.record():
            loss = net(mx.nd.ones((4, 16))).sum()
        loss.backward()
        (trainer if by_gluon else group).step(*([4] if by_gluon else [trainer, 4]))
        assert trainer._kv_initialized
        stepped.append(snapshot(net))
    assert all((stepped[0][name] == value).all() for name, value in stepped[1].items())


@pytest.mark.parametrize("kvstore, arguments, message", [
    ("dist_sync", {}, "this process is no worker of a cluster: start the script with python -m gluon_compress.workers"),
    ("dist_device_sync", {"update_on_kvstore": True}, "no worker of a cluster")])
def test_a_distributed_trainer_outside_of_a_cluster_is_refused(monkeypatch, kvstore, arguments, message):
    monkeypatch.delenv("DMLC_ROLE", raising=False)
    net = clusters.network()
    before = snapshot(net)
    trainer = Trainer(net.collect_params(), "sgd", kvstore=kvstore, **arguments)
    with pytest.raises(ValueError, match=message):
        gc.training.fit(net, [(mx.nd.ones((2, 16)), mx.nd.zeros(2))], 1, trainer, progress=False)
    assert all((before[name] == value).all() for name, value in snapshot(net).items())


@pytest.mark.parametrize("kvstore, arguments, message", [
    ("dist_async", {}, "servers that update the weights follow no schedule.*accepted: 'dist_sync'"),
    ("dist_sync", {"update_on_kvstore": True}, "update_on_kvstore=True: servers that update the weights"),
    ("dist_sync", {"compression_params": {"type": "2bit"}}, "compression_params {'type': '2bit'}; accepted: none")])
def test_trainers_whose_workers_could_not_stay_equal_are_refused(monkeypatch, kvstore, arguments, message):
    monkeypatch.setenv("DMLC_ROLE", "worker")  # refused before anything is connected
    net = clusters.network()
    trainer = Trainer(net.collect_params(), "sgd", kvstore=kvstore, **arguments)
    with pytest.raises(ValueError, match=message):
        gc.training.fit(net, [(mx.nd.ones((2, 16)), mx.nd.zeros(2))], 1, trainer, progress=False)
