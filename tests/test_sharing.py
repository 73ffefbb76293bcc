"""Weight sharing: k-means against the exact optimum, centroids against a network that has them as parameters, files."""
import json

import gluon_compress as gc
import mxnet as mx
import numpy as np
import pytest
from forging import put_together, taken_apart
from gluon_compress import checkpoint
from gluon_compress.coding import CentroidTrainer, Codebooks, share_weights
from gluon_compress.coding.sharing.clustering import INITIALIZATIONS, clustered
from gluon_compress.errors import CheckpointError, NetworkError, RecordError
from gluon_compress.measuring.plots import plot_codebooks
from gluon_compress.pruning import Masks, prune_channels, prune_magnitude
from gluon_compress.quantization import fold_batch_norm, quantize_weights
from gluon_compress.training import fit
from interrupts import interrupted_at
from mxnet import autograd
from mxnet.gluon import HybridBlock, Trainer, nn
from networks import (Assorted, NormNet, OwnWeight, SharedWeights, assert_close, build, exported, identical,
                      laid_out_anew, values)
from test_numpy_interface import array, fresh, mode

WEIGHTS = {"features.0.weight", "features.4.weight", "features.9.weight", "output.weight"}
OPTIMIZERS = [("sgd", {"learning_rate": 0.01}), ("sgd", {"learning_rate": 0.01, "momentum": 0.9, "wd": 0.1}),
              ("adam", {"learning_rate": 0.01, "wd": 0.1})]


# ---- k-means

def error_of(values, counts, centroids, labels):
    return (counts * (values - centroids[labels]) ** 2).sum()


def least_error(values, counts, clusters):
    """Of all clusterings of numbers on a line, whose clusters are intervals: by dynamic programming over all cuts."""
    n = len(values)
    cost = np.full((n, n + 1), np.inf)
    for begin in range(n):
        for end in range(begin + 1, n + 1):
            some, often = values[begin:end], counts[begin:end]
            cost[begin, end] = (often * (some - np.average(some, weights=often)) ** 2).sum()
    best = np.full((clusters + 1, n + 1), np.inf)
    best[0, 0] = 0
    for number in range(1, clusters + 1):
        for end in range(1, n + 1):
            best[number, end] = (best[number - 1, :end] + cost[:end, end]).min()
    return best[clusters, n]


def numbers(seed, size, kind):
    draw = np.random.RandomState(seed)
    found = {"normal": draw.normal(size=size), "heavy tails": draw.standard_cauchy(size=size),
             "two lumps": np.concatenate((draw.normal(-5, 0.1, size // 2), draw.normal(5, 0.1, size - size // 2))),
             "few values": draw.randint(-9, 10, size) / 4}[kind].astype(np.float32)
    return np.unique(found, return_counts=True)


@pytest.mark.parametrize("kind", ["normal", "heavy tails", "two lumps", "few values"])
@pytest.mark.parametrize("init", INITIALIZATIONS)
def test_each_number_is_with_its_nearest_centroid_and_each_centroid_is_a_mean(kind, init):
    for seed, clusters in enumerate((2, 3, 8, 17)):
        values, counts = numbers(seed, 300, kind)
        clusters = min(clusters, len(values))
        centroids, labels = clustered(values, counts, clusters, init, np.random.default_rng(seed))
        assert (np.diff(centroids) > 0).all() and len(centroids) == clusters
        assert set(labels) == set(range(clusters)), "a cluster is empty"
        distances = np.abs(values[:, None].astype(float) - centroids)
        np.testing.assert_allclose(distances[np.arange(len(values)), labels], distances.min(axis=1), atol=1e-9)
        for cluster, centroid in enumerate(centroids):
            members = np.repeat(values[labels == cluster].astype(float), counts[labels == cluster])
            np.testing.assert_allclose(centroid, members.mean(), rtol=1e-9, atol=1e-12)


@pytest.mark.parametrize("kind", ["normal", "heavy tails", "few values"])
def test_the_optimal_clustering_has_the_least_error_and_no_other_one_less(kind):
    for seed, clusters in enumerate((2, 3, 5, 9)):
        values, counts = numbers(seed, 40, kind)
        least = least_error(values.astype(float), counts, clusters)
        errors = {init: error_of(values, counts, *clustered(values, counts, clusters, init, np.random.default_rng(0)))
                  for init in INITIALIZATIONS}
        np.testing.assert_allclose(errors["optimal"], least, rtol=1e-9)
        assert min(errors.values()) >= least * (1 - 1e-9)


@pytest.mark.parametrize("kind", ["normal", "heavy tails"])
def test_of_many_numbers_the_optimal_clustering_is_still_the_best(kind):
    values, counts = numbers(0, 20_000, kind)
    errors = {init: error_of(values.astype(float), counts,
                             *clustered(values, counts, 32, init, np.random.default_rng(0)))
              for init in INITIALIZATIONS}
    assert min(errors, key=errors.get) == "optimal"


@pytest.mark.parametrize("init", INITIALIZATIONS)
def test_as_many_clusters_as_values_are_the_values(init):
    values, counts = numbers(0, 60, "heavy tails")
    centroids, _ = clustered(values, counts, len(values), init, np.random.default_rng(0))
    np.testing.assert_array_equal(centroids, values.astype(np.float64))


def test_two_lumps_far_apart_are_split_where_they_are():
    values, counts = numbers(3, 50, "two lumps")
    for init in ("linear", "density", "optimal"):
        centroids, labels = clustered(values, counts, 2, init, np.random.default_rng(0))
        np.testing.assert_array_equal(labels, values > 0)
        np.testing.assert_allclose(error_of(values, counts, centroids, labels), least_error(values.astype(float),
                                                                                           counts, 2))


# ---- networks

@pytest.mark.parametrize("init", INITIALIZATIONS)
@pytest.mark.parametrize("given", [{"clusters": 5}, {"bits": 3}])
def test_weights_take_as_many_values_as_asked_for_and_pruned_ones_stay_zero(init, given):
    net, example = build(NormNet)
    masks = prune_magnitude(net, 0.6)
    before = values(net)
    books = share_weights(net, init=init, **given)
    after = values(net)
    assert books.centroids.keys() == WEIGHTS
    for name, centroids in books.centroids.items():
        assert len(centroids) == given.get("clusters", 8) == len(np.unique(after[name][after[name] != 0]))
        assert masks.kept[name].tobytes() == (after[name] != 0).tobytes()
        kept, shared = before[name][masks.kept[name]], after[name][masks.kept[name]]
        nearest = np.abs(kept[:, None] - centroids).argmin(axis=1)
        np.testing.assert_allclose(np.abs(kept - shared), np.abs(kept - centroids[nearest]), atol=1e-6)
        np.testing.assert_allclose(shared.mean(), kept.mean(), rtol=1e-3, atol=1e-5)
    others = before.keys() - WEIGHTS
    assert identical({name: before[name] for name in others}, {name: after[name] for name in others})
    assert np.isfinite(net(example).asnumpy()).all()


def test_codes_are_in_the_order_of_the_values_and_zero_is_zero():
    net, _ = build(NormNet)
    prune_magnitude(net, 0.5)
    books = share_weights(net, bits=4)
    for name, codes in books.codes(net).items():
        weight = values(net)[name]
        assert sorted(set(codes.ravel())) == sorted({0, *codes.ravel()}) and len(set(codes.ravel())) == 17
        order = np.argsort(weight, axis=None)
        assert (np.diff(codes.ravel()[order]) >= 0).all()
        np.testing.assert_array_equal(np.sign(codes), np.sign(weight))
        assert np.ptp(codes) == 16


def test_numbers_for_single_layers_share_these_alone():
    net, _ = build(NormNet)
    before = values(net)
    books = share_weights(net, {"features.0": 3, "output.weight": 7}, exclude="features.4")
    assert {name: len(centroids) for name, centroids in books.centroids.items()} == {
        "features.0.weight": 3, "output.weight": 7}
    assert books.left_out == {"features.4": "Conv2D, excluded", "features.9": "Dense, not in clusters"}
    assert identical(*({name: each[name] for name in before.keys() - books.centroids.keys()}
                       for each in (before, values(net))))
    assert len(share_weights(net, bits={"features.9": 1}).centroids["features.9.weight"]) == 2


def test_a_layer_that_is_named_by_a_number_is_unknown():
    net, _ = build(NormNet)
    before = values(net)
    with pytest.raises(ValueError, match="bits names 0, but there is no such layer or parameter; accepted: features.0"):
        share_weights(net, bits={0: 4})
    assert identical(before, values(net))


def test_a_centroid_is_never_zero():
    net, _ = build(nn.Dense, (2, 4), units=2)
    net.weight.set_data(mx.nd.array([[1, -1, 2, -2], [9, 0, 9, 9]]))
    books = share_weights(net, 2)
    np.testing.assert_array_equal(values(net)["weight"], [[-1, -1, -1, -1], [9, 0, 9, 9]])
    np.testing.assert_array_equal(books.centroids["weight"], [-1, 9])


def test_the_seed_draws_the_beginning():
    books = [share_weights(build(NormNet)[0], 8, init="random", seed=seed).centroids for seed in (0, 0, 1)]
    assert identical(books[0], books[1]) and not identical(books[0], books[2])


@pytest.mark.parametrize("dtype", ["float16", "float64"])
def test_other_precisions(dtype, tmp_path):
    net, _ = build(nn.Dense, (2, 30), units=20)
    net.cast(dtype)
    books = share_weights(net, 6)
    assert books.centroids["weight"].dtype == dtype
    gc.save(tmp_path / "net", net, books)
    again = nn.Dense(20, in_units=30)
    again.cast(dtype)
    assert identical(values(gc.load(tmp_path / "net", again)), values(net))


@pytest.mark.parametrize("network", [Assorted, SharedWeights, OwnWeight])
def test_all_kinds_of_layers(network, tmp_path):
    net, example = build(network)
    books = share_weights(net, 4)
    gc.save(tmp_path / "net", net, books)
    assert identical(values(gc.load(tmp_path / "net", build(network, seed=1)[0])), values(net))


@pytest.mark.parametrize("dimensions", [1, 3])
def test_weights_that_onednn_laid_out_anew_are_shared_and_trained(dimensions):
    net, example = laid_out_anew(dimensions)
    books = share_weights(net, 8)
    trainer = CentroidTrainer(net, books, "sgd", {"learning_rate": 1e-5})
    train(net, example, trainer)
    assert all(len(centroids) == 8 for centroids in trainer.codebooks.centroids.values())


def test_a_symbol_block_is_shared_and_trained_like_its_original(tmp_path):
    net, example = build(NormNet)
    net.features[12]._rate = 0
    block = exported(net, example, tmp_path)
    for each in (net, block):
        train(each, example, CentroidTrainer(each, share_weights(each, 8), "sgd", {"learning_rate": 0.01}))
    assert_close(block(example), net(example))


# ---- training

def train(net, examples, trainer, steps=3):
    examples = examples if isinstance(examples, list) else [examples]
    for _ in range(steps):
        with autograd.record():
            losses = [(net(example) ** 2).sum() for example in examples]
        autograd.backward(losses)
        trainer.step(sum(map(len, examples)))


class Lookup(HybridBlock):
    """Two dense layers whose weights are looked up in a table of centroids, which is a parameter: autograd sums."""

    def __init__(self, codes, tables, biases):
        super().__init__()
        self.codes = codes
        with self.name_scope():
            for number, (table, bias) in enumerate(zip(tables, biases)):
                for kind, value in (("table", table), ("bias", bias)):
                    setattr(self, f"{kind}{number}", self.params.get(f"{kind}{number}", shape=value.shape,
                                                                     init=mx.init.Constant(mx.nd.array(value))))

    def hybrid_forward(self, F, x, table0, bias0, table1, bias1):
        for codes, table, bias in zip(self.codes, (table0, table1), (bias0, bias1)):
            kept = mx.nd.array(codes >= 0, x.context)
            weight = F.take(table, mx.nd.array(codes.clip(0), x.context)) * kept
            x = F.tanh(F.FullyConnected(x, weight, bias, num_hidden=len(codes)))
        return x


def two_layers():
    """A network of two dense layers with shared weights, some of them pruned; its codebooks."""
    def make():
        net = nn.HybridSequential()
        net.add(nn.Dense(12, in_units=6, activation="tanh"), nn.Dense(5, in_units=12, activation="tanh"))
        return net
    net, example = build(make, (8, 6))
    prune_magnitude(net, 0.4)
    return net, example, share_weights(net, 5)


def by_lookup(net, books):
    """The same as a :class:`Lookup`."""
    named, tables = values(net), list(books.centroids.values())
    codes = [np.where(named[name] == 0, -1, np.searchsorted(table, named[name]))
             for name, table in books.centroids.items()]
    other = Lookup(codes, tables, [named["0.bias"], named["1.bias"]])
    other.initialize()
    return other


@pytest.mark.parametrize(("optimizer", "settings"), OPTIMIZERS)
def test_centroids_train_as_the_parameters_of_a_network_that_looks_its_weights_up(optimizer, settings):
    net, example, books = two_layers()
    other = by_lookup(net, books)
    np.testing.assert_allclose(net(example).asnumpy(), other(example).asnumpy(), rtol=1e-5, atol=1e-6)
    trainer = CentroidTrainer(net, books, optimizer, settings)
    train(net, example, trainer, 5)
    train(other, example, Trainer(other.collect_params(), optimizer, settings), 5)
    trained = values(other)
    for number, centroids in enumerate(trainer.codebooks.centroids.values()):
        np.testing.assert_allclose(centroids, np.sort(trained[f"table{number}"]), rtol=1e-4, atol=1e-6)
        np.testing.assert_allclose(values(net)[f"{number}.bias"], trained[f"bias{number}"], rtol=1e-4, atol=1e-6)


def test_a_step_goes_against_the_finite_differences_of_the_loss():
    net, example = build(nn.Dense, (6, 10), units=4, activation="sigmoid")
    net.cast("float64")
    example = example.astype("float64")
    prune_magnitude(net, 0.3)
    books = share_weights(net, 4)
    before, rate, delta = values(net)["weight"], 1e-3, 1e-5

    def loss_with(weight):
        net.weight.set_data(mx.nd.array(weight, dtype="float64"))
        return float((net(example) ** 2).sum().asscalar())
    slopes = np.array([(loss_with(before + delta * (before == centroid)) - loss_with(before - delta *
                                                                                     (before == centroid)))
                       / (2 * delta) for centroid in books.centroids["weight"]])
    net.weight.set_data(mx.nd.array(before, dtype="float64"))
    trainer = CentroidTrainer(net, books, "sgd", {"learning_rate": rate})
    with autograd.record():
        loss = (net(example) ** 2).sum()
    loss.backward()
    trainer.step(1)
    moved = trainer.codebooks.centroids["weight"] - books.centroids["weight"]
    np.testing.assert_allclose(moved, -rate * slopes, rtol=1e-6)


@pytest.mark.parametrize("optimizer", sorted(set(mx.optimizer.Optimizer.opt_registry) - {"groupadagrad", "test"}))
def test_clusters_stay_equal_to_the_bit_and_zeros_zero_under_every_optimizer(optimizer):
    net, example = build(NormNet)
    masks = prune_magnitude(net, 0.5)
    books = share_weights(net, 6, exclude="features.4")
    codes = books.codes(net)
    trainer = CentroidTrainer(net, books, optimizer, {"learning_rate": 1e-3, "wd": 0.01}, masks=masks)
    train(net, example, trainer, 2)
    after = values(net)
    for name, numbers in codes.items():
        for code in np.unique(numbers):
            assert len(np.unique(after[name][numbers == code])) == 1, (name, code)
    for name, kept in masks.kept.items():
        assert not after[name][~kept].any(), name
    assert len(np.unique(after["features.4.weight"])) > 100  # not shared: it trains as usual
    assert not identical(trainer.codebooks.centroids, books.centroids)
    assert len(np.unique(trainer.codebooks.codes(net)["output.weight"])) == 7


def test_clusters_stay_equal_and_zeros_zero_after_ctrl_c_anywhere_in_a_step():
    net, example, books = two_layers()
    trainer, codes = CentroidTrainer(net, books, "sgld", {"learning_rate": 1e-4}), books.codes(net)  # adds noise
    for line in interrupted_at(lambda: train(net, example, trainer, 1), range(1, 9999, 5)):
        for name, numbers in codes.items():
            for code in np.unique(numbers):
                assert len(np.unique(values(net)[name][numbers == code])) == 1, (line, name, code)


@pytest.mark.parametrize("update_on_kvstore", [True, False])
def test_two_devices_train_as_one_with_all_the_samples(update_on_kvstore):
    results = []
    for contexts in ([mx.cpu(0), mx.cpu(1)], [mx.cpu(0)]):
        net, example, books = two_layers()
        net.collect_params().reset_ctx(contexts)
        trainer = CentroidTrainer(net, books, "sgd", OPTIMIZERS[1][1],
                                  update_on_kvstore=update_on_kvstore if len(contexts) == 2 else None)
        train(net, [example[:4].as_in_context(contexts[0]), example[4:].as_in_context(contexts[-1])], trainer)
        results.append({name: [copy.asnumpy() for copy in parameter.list_data()]
                        for name, parameter in net._collect_params_with_prefix().items()})
    for name, (first, second) in results[0].items():
        np.testing.assert_array_equal(first, second)
        np.testing.assert_allclose(first, results[1][name][0], rtol=1e-4, atol=1e-6)


def test_gradients_that_the_user_reduces_are_summed_once():
    results = []
    for by_hand in (True, False):
        net, example, books = two_layers()
        trainer = CentroidTrainer(net, books, "adam", {"learning_rate": 0.01}, update_on_kvstore=False)
        for _ in range(3):
            with autograd.record():
                loss = (net(example) ** 2).sum()
            loss.backward()
            if by_hand:
                trainer.allreduce_grads()
                trainer.update(len(example))
            else:
                trainer.step(len(example))
        results.append(values(net))
    assert identical(*results)


def test_layers_that_the_user_froze_stay_as_they_are():
    net, example, books = two_layers()
    net[0].weight.grad_req = "null"
    before = values(net)
    train(net, example, CentroidTrainer(net, books, "sgd", {"learning_rate": 0.01}))
    after = values(net)
    assert np.array_equal(before["0.weight"], after["0.weight"])
    assert not np.array_equal(before["1.weight"], after["1.weight"])


def test_what_is_pruned_while_centroids_train_leaves_its_cluster():
    net, example, books = two_layers()
    trainer = CentroidTrainer(net, books, "sgd", {"learning_rate": 0.01})
    kept = {"0.weight": values(net)["0.weight"] > 0}
    trainer.replace_masks(Masks(kept))
    train(net, example, trainer)
    assert not values(net)["0.weight"][~kept["0.weight"]].any()
    assert len(trainer.codebooks.centroids["1.weight"]) == 5
    assert len(trainer.codebooks.centroids["0.weight"]) == (books.centroids["0.weight"] > 0).sum()
    assert trainer.masks.kept["1.weight"].sum() == (values(net)["1.weight"] != 0).sum()


def test_a_killed_training_goes_on_to_the_same_bits(tmp_path):
    results = []
    for epochs_at_once in (True, False):
        net, example, books = two_layers()
        data = [(example, mx.nd.array(np.arange(8) % 5))] * 3

        def stop(inputs, labels, calls=[0], limit=None if epochs_at_once else 4):  # noqa: B006
            calls[0] += 1
            if limit and calls[0] > limit:
                raise KeyboardInterrupt
            return (labels,)
        state = tmp_path / f"state{epochs_at_once}"
        for attempt in range(1 if epochs_at_once else 2):
            if attempt:
                net, example, books = two_layers()
            trainer = CentroidTrainer(net, books, "adam", {"learning_rate": 0.01})
            try:
                fit(net, data, 2, trainer, targets=stop, state_path=state, progress=False)
            except KeyboardInterrupt:
                stop.__defaults__ = ([0], None)
        results.append(values(net))
    assert identical(*results)


def test_a_state_of_other_clusters_is_refused(tmp_path):
    net, example, books = two_layers()
    data = [(example, mx.nd.array(np.arange(8) % 5))]
    for init in ("linear", "density"):
        net, _ = build(nn.Dense, (8, 6), units=5)
        trainer = CentroidTrainer(net, share_weights(net, 4, init=init), "sgd")
        if init == "linear":
            fit(net, data, 1, trainer, state_path=tmp_path / "state", progress=False)
    with pytest.raises(CheckpointError, match="masks_digest"):
        fit(net, data, 1, trainer, state_path=tmp_path / "state", progress=False)


def test_networks_of_the_numpy_interface_train_to_the_same_centroids():
    images, labels = np.random.RandomState(0).normal(size=(8, 2, 8, 8)).astype(np.float32), np.arange(8) % 5
    results = []
    for numpy in (False, True):
        net = fresh(numpy)
        net[7]._rate = 0
        trainer = CentroidTrainer(net, share_weights(net, 4), "sgd", {"learning_rate": 0.01})
        with mode(numpy):
            fit(net, [(array(images, numpy), array(labels.astype(np.float32), numpy))], 2, trainer, progress=False)
        results.append(trainer.codebooks.centroids)
    assert identical(*results)


# ---- files

def techniques(net, example):
    """{what is done besides sharing: records}"""
    return {"nothing": lambda: [share_weights(net, 16)],
            "pruned": lambda: [prune_magnitude(net, 0.6), share_weights(net, 16)],
            "pruned, masks not saved": lambda: [prune_magnitude(net, 0.6) and share_weights(net, 16)],
            "pruned after": lambda: [share_weights(net, 16), prune_magnitude(net, 0.6)],
            "channels removed": lambda: [prune_channels(net, example, 0.5, round_to=1), share_weights(net, 16)],
            "norms folded": lambda: [fold_batch_norm(net, example) and share_weights(net, 16)],
            "some quantized": lambda: [share_weights(net, 16, select="Conv2D"),
                                       quantize_weights(net, 4, select="Dense")]}


@pytest.mark.parametrize("name", list(techniques(None, None)))
def test_files_give_back_every_bit_and_the_codebooks(name, tmp_path):
    net, example = build(NormNet)
    records = techniques(net, example)[name]()
    size = gc.save(tmp_path / "net", net, *records)
    assert size < 0.8 * gc.save(tmp_path / "plain", net)
    assert identical(values(gc.load(tmp_path / "net", NormNet())), values(net))
    assert_close(gc.load(tmp_path / "net")(example), net(example))
    books = next(record for record in records if isinstance(record, Codebooks))
    found = checkpoint.records(tmp_path / "net")["codebooks"]
    assert identical(found.centroids, books.centroids) and found.left_out == books.left_out


def test_indices_are_stored_in_few_more_bits_than_their_entropy(tmp_path):
    net, _ = build(nn.Dense, (2, 400), units=100)
    prune_magnitude(net, 0.8)
    books = share_weights(net, 16)
    codes = books.codes(net)["weight"]
    shares = np.unique(codes, return_counts=True)[1] / codes.size
    entropy = -(shares * np.log2(shares)).sum() * codes.size / 8
    assert entropy < gc.save(tmp_path / "net", net, books) < 1.05 * entropy + 4 * 16 + 4 * 100 + 600  # bias, header


def test_trained_centroids_are_saved(tmp_path):
    net, example, books = two_layers()
    trainer = CentroidTrainer(net, books, "adam", {"learning_rate": 0.1})
    train(net, example, trainer, 8)
    with pytest.raises(RecordError, match="weights of 0.weight are not in its codebook .* save its codebooks"):
        gc.save(tmp_path / "net", net, books)
    gc.save(tmp_path / "net", net, trainer.codebooks)
    assert identical(values(gc.load(tmp_path / "net", two_layers()[0])), values(net))


def test_a_network_from_a_file_trains_on(tmp_path):
    net, example, books = two_layers()
    gc.save(tmp_path / "net", net, books, example=example)
    again = gc.load(tmp_path / "net")
    trainer = CentroidTrainer(again, checkpoint.records(tmp_path / "net")["codebooks"], "sgd", {"learning_rate": 0.01})
    for each, training in ((again, trainer), (net, CentroidTrainer(net, books, "sgd", {"learning_rate": 0.01}))):
        train(each, example, training)
    assert_close(again(example), net(example))


def _index_too_large(tensors):
    tensors["0.weight/value"].flat[3] = 6


def _index_far_below(tensors):
    tensors["0.weight/value"].flat[3] = -2**31


def _other_type(tensors):
    tensors["0.weight/value"] = tensors["0.weight/value"].astype(np.float32)


def _fewer(tensors):
    tensors["0.weight/value"] = tensors["0.weight/value"][:-1]


def book(change):
    def forge(tensors):
        tensors["0.weight/codebook"] = np.array(change(tensors["0.weight/codebook"].tolist()), np.float32)
    return forge


FORGED = {"index too large": (_index_too_large, "index 6 in a codebook of -"),
          "index far below": (_index_far_below, "index -2147483648 in a codebook of -"),
          "other type": (_other_type, "float32; accepted: int32"), "fewer": (_fewer, "66 stored values"),
          "empty": (book(lambda old: []), "ascending, each once"),
          "not ascending": (book(lambda old: old[::-1]), "ascending"),
          "twice": (book(lambda old: [old[0], *old]), "each once"),
          "with zero": (book(lambda old: sorted([0.0, *old])), "other than 0"),
          "NaN": (book(lambda old: [*old[:-1], np.nan]), "finite"),
          "infinite": (book(lambda old: [*old[:-1], np.inf]), "finite"),
          "a matrix": (book(lambda old: [old]), "shape"),
          "too many": (book(lambda old: list(range(1, 258))), "256"),
          "no codebook": (lambda tensors: tensors.pop("0.weight/codebook"), "int32|codes|only some"),
          "of other precision": (lambda tensors: tensors.update({
              "0.weight/codebook": tensors["0.weight/codebook"].astype(np.float64)}), "of type float64")}


@pytest.mark.parametrize("name", FORGED)
def test_a_forged_codebook_is_an_error_and_the_network_stays(name, tmp_path):
    net, example, books = two_layers()
    gc.save(tmp_path / "net", net, books, example=example)
    kind, header, tensors = taken_apart((tmp_path / "net").read_bytes())
    change, message = FORGED[name]
    change(tensors)
    (tmp_path / "net").write_bytes(put_together(kind, header, tensors))
    other = two_layers()[0]
    other[0].weight.data()[:] += 1
    before = values(other)
    for target in (None, other):
        with pytest.raises(CheckpointError, match=message):
            gc.load(tmp_path / "net", target)
    assert identical(values(other), before)


# ---- the figure

def test_the_figure_shows_values_and_counts_but_no_zeros(tmp_path):
    net, example, books = two_layers()
    before = values(net)["0.weight"]
    train(net, example, CentroidTrainer(net, books, "sgd", {"learning_rate": 0.01}))
    after = values(net)["0.weight"]

    def picture(stages, **options):
        return plot_codebooks(stages, tmp_path / "figure.png", **options).read_bytes()
    both = picture({"before": before, "after": after})
    assert both == picture({"before": np.append(before, np.zeros(99)), "after": mx.nd.array(after)})
    others = [picture({"before": before, "after": before}), picture({"before": np.append(before, before)}),
              picture({"before": before}), picture({"before": before}, original=np.random.RandomState(0).rand(99))]
    assert len({both, *others}) == 5


# ---- bad input

MISTAKES = [
    ({}, TypeError, "clusters is None and bits is None; accepted: exactly one"),
    ({"clusters": 4, "bits": 2}, TypeError, "clusters is 4 and bits is 2; accepted: exactly one"),
    ({"clusters": 1}, ValueError, "clusters is 1; accepted: .*at least 2 and at most 256"),
    ({"clusters": 257}, ValueError, "clusters is 257; accepted"), ({"clusters": 3.0}, TypeError, "clusters is 3.0"),
    ({"bits": 0}, ValueError, "bits is 0; accepted: .*at least 1 and at most 8"),
    ({"bits": 9}, ValueError, "bits is 9"),
    ({"clusters": 200}, ValueError, "layer output has 80 different weights other than zero, for 200 clusters; accept"),
    ({"clusters": {}}, ValueError, "clusters is an empty dict"),
    ({"bits": {"nope": 3}}, ValueError, "bits names 'nope'"),
    ({"clusters": {"output": 1}}, ValueError, r"clusters\['output'\] is 1"),
    ({"clusters": {"output": 4}, "select": "Dense"}, TypeError, "a number for each layer, beside select='Dense'"),
    ({"clusters": {"output": 4}, "exclude": "Dense"}, ValueError, "clusters and exclude both name output"),
    ({"clusters": 4, "init": "zero"}, ValueError, "init is 'zero'; accepted: 'linear', 'density', 'random', 'optimal'"),
    ({"clusters": 4, "seed": -1}, ValueError, "seed is -1")]


@pytest.mark.parametrize(("arguments", "kind", "message"), MISTAKES)
def test_bad_arguments_change_nothing(arguments, kind, message):
    net, _ = build(NormNet)
    before = values(net)
    with pytest.raises(kind, match=message):
        share_weights(net, **arguments)
    assert identical(before, values(net))


def test_weights_that_are_not_finite_or_all_zero_change_nothing():
    for value, kind, message in ((np.nan, NetworkError, "layer output: 80 of 80 weights are not finite"),
                                 (0, ValueError, "layer output has 0 different weights other than zero")):
        net, _ = build(NormNet)
        net.output.weight.set_data(mx.nd.full((5, 16), value))
        before = values(net)
        with pytest.raises(kind, match=message):
            share_weights(net, 4)
        assert identical(before, values(net))


def test_a_network_without_weights_is_refused():
    net, _ = build(nn.BatchNorm, (2, 3))
    with pytest.raises(ValueError, match="no layer to change"):
        share_weights(net, 4)


def test_codebooks_of_another_network_are_refused():
    net, _, books = two_layers()
    other, _ = build(NormNet)
    for call in (lambda: books.codes(other), lambda: CentroidTrainer(other, books, "sgd"),
                 lambda: gc.save("nowhere", other, books)):
        with pytest.raises(RecordError, match="another network: there is no parameter 0.weight"):
            call()
    net.cast("float64")
    with pytest.raises(RecordError, match="0.weight is of type float64, its centroids are float32"):
        books.codes(net)


def test_weights_that_are_no_longer_shared_have_no_codebooks():
    net, example, books = two_layers()
    net[0].weight.data()[0, 0] = np.inf
    with pytest.raises(NetworkError, match="parameter 0.weight is not finite: lower the learning rate"):
        books.updated(net)
    net, _ = build(nn.Dense, (2, 30), units=20)
    books = share_weights(net, 4)
    net.weight.set_data(mx.nd.random.normal(shape=(20, 30)))
    with pytest.raises(RecordError, match="weight has 600 different values other than 0; accepted: 1 to 256"):
        books.updated(net)


def test_centroids_that_are_no_dict_are_refused():
    with pytest.raises(TypeError, match="centroids is .*; accepted: a dict"):
        Codebooks([1])


def test_a_trainer_refuses_what_it_cannot_train():
    net, _, books = two_layers()
    for arguments, message in (((net, None, "sgd"), "codebooks is None; accepted: the Codebooks"),
                               ((net, books, "sgd", None, "x"), "masks is 'x'; accepted: Masks, or None")):
        with pytest.raises(TypeError, match=message):
            CentroidTrainer(*arguments)
    net[0].weight.data()[0, 0] = 3
    with pytest.raises(RecordError, match="1 weights of 0.weight are not in its codebook"):
        CentroidTrainer(net, books, "sgd")
    embedding, _ = build(nn.Embedding, (4,), input_dim=9, output_dim=4, sparse_grad=True)
    with pytest.raises(NetworkError, match="weight has sparse gradients"):
        CentroidTrainer(embedding, share_weights(embedding, 4), "sgd")


@pytest.mark.parametrize("centroids", [[], [1.0, 1.0], [2.0, 1.0], [0.0, 1.0], [np.nan], [np.inf], [[1.0]], ["x"],
                                       [1, 2], np.arange(1, 300, dtype=np.float32)])
def test_a_record_of_anything_but_codebooks_is_refused(centroids):
    with pytest.raises(ValueError, match="the centroids of output.weight are .*; accepted: floats, 1 to 256"):
        Codebooks({"output.weight": centroids})


def test_later_codebooks_win_and_json_keeps_every_bit():
    net, _ = build(NormNet)
    first = share_weights(net, 8, select="Conv2D")
    both = first | share_weights(net, 4, exclude="features.0")
    assert {name: len(centroids) for name, centroids in both.centroids.items()} == {
        "features.0.weight": 8, "features.4.weight": 4, "features.9.weight": 4, "output.weight": 4}
    assert both.left_out == {} and both.codes(net).keys() == WEIGHTS
    again = Codebooks.from_dict(json.loads(json.dumps(both.to_dict())))
    assert identical(again.centroids, both.centroids)
    stored = both.to_dict()
    stored["centroids"]["output.weight"]["values"][0] = -1e39  # infinite in float32
    with pytest.raises(RecordError, match="finite"):
        Codebooks.from_dict(stored)
