"""Unstructured pruning against sorting with NumPy."""
import gluon_compress  # noqa: F401

import mxnet as mx  # noqa: I001
import numpy as np
import pytest
from gluon_compress.models import LeNet, LeNet300100
from gluon_compress.pruning import prune_magnitude, prune_threshold
from mxnet.gluon import nn
from networks import Assorted, NormNet, OwnWeight, SharedWeights, build, exported, identical, values

LENET = (2, 1, 28, 28)
SPARSITIES = [0, 0.1, 1 / 3, 0.5, 0.9, 0.99]


def brute_force(weights, sparsity):
    """The weights with the ``round(sparsity * n)`` smallest set to zero, one by one."""
    flat = weights.ravel().copy()
    for index in sorted(range(flat.size), key=lambda i: abs(flat[i]))[:round(sparsity * flat.size)]:
        flat[index] = 0
    return flat.reshape(weights.shape)


def untouched(before, after, touched):
    return identical({name: before[name] for name in before.keys() - touched},
                     {name: after[name] for name in after.keys() - touched})


@pytest.mark.parametrize("sparsity", SPARSITIES)
@pytest.mark.parametrize("norm", [1, 2])
def test_each_layer_loses_its_smallest_weights(sparsity, norm):
    net, _ = build(NormNet)
    before = values(net)
    masks = prune_magnitude(net, sparsity, norm=norm)
    after = values(net)
    names = {"features.0.weight", "features.4.weight", "features.9.weight", "output.weight"}
    assert set(masks.kept) == names
    for name in names:
        np.testing.assert_array_equal(after[name], brute_force(before[name], sparsity))
        assert np.count_nonzero(after[name] == 0) == round(sparsity * after[name].size)
        np.testing.assert_array_equal(masks.kept[name], after[name] != 0)
    assert untouched(before, after, names)  # biases, BatchNorm's scales, shifts and statistics


@pytest.mark.parametrize("sparsity", SPARSITIES[:-1])
@pytest.mark.parametrize("norm", [1, 2])
def test_global_scope_compares_all_layers(sparsity, norm):
    net, _ = build(NormNet)
    before = values(net)
    masks = prune_magnitude(net, sparsity, norm=norm, scope="global")
    together = brute_force(np.concatenate([before[name].ravel() for name in masks.kept]), sparsity)
    after = values(net)
    np.testing.assert_array_equal(np.concatenate([after[name].ravel() for name in masks.kept]), together)
    zeros = [np.mean(after[name] == 0) for name in masks.kept]
    assert sparsity == 0 or np.ptp(zeros) > 0.01  # the layers are not equally sparse
    assert untouched(before, after, masks.kept)


@pytest.mark.parametrize("scope", ["layer", "global"])
def test_both_norms_give_the_same_masks_even_where_squares_underflow(scope):
    networks = [build(LeNet300100, LENET)[0] for _ in range(2)]
    for net in networks:
        for parameter in net.collect_params(".*weight").values():
            parameter.set_data(parameter.data() * 1e-30)
    first, second = (prune_magnitude(net, 0.7, norm, scope) for net, norm in zip(networks, (1, 2)))
    for name, mask in first.kept.items():
        np.testing.assert_array_equal(mask, second.kept[name])
    assert first.sparsity == second.sparsity == pytest.approx(0.7, abs=1e-4)


@pytest.mark.parametrize("scope", ["layer", "global"])
def test_pruning_further_keeps_the_old_zeros(scope):
    net, _ = build(LeNet, LENET)
    earlier = prune_magnitude(net, 0.4, scope=scope)
    later = prune_magnitude(net, 0.8, scope=scope)
    for name, kept in earlier.kept.items():
        assert not (later.kept[name] & ~kept).any()
    assert later.sparsity == pytest.approx(0.8, abs=1e-4)


def test_pruning_again_to_the_same_sparsity_changes_nothing():
    net, _ = build(LeNet, LENET)
    earlier = prune_magnitude(net, 0.6)
    before = values(net)
    later = prune_magnitude(net, 0.6)
    assert identical(before, values(net))
    for name, kept in earlier.kept.items():
        np.testing.assert_array_equal(later.kept[name], kept)


@pytest.mark.parametrize("sparsity", [0.25, 0.5, 0.999])
def test_of_equal_weights_exactly_as_many_go(sparsity):
    net, _ = build(nn.Dense, (1, 40), units=25)
    net.weight.set_data(mx.nd.ones((25, 40)))
    prune_magnitude(net, sparsity)
    assert np.count_nonzero(values(net)["weight"]) == 1000 - round(1000 * sparsity)


def test_a_layer_of_zeros_stays_one_and_counts():
    net, _ = build(LeNet, LENET)
    net.dense[1].weight.set_data(mx.nd.zeros((10, 128)))
    masks = prune_magnitude(net, 0.5)
    assert not values(net)["dense.1.weight"].any()
    assert masks.kept["dense.1.weight"].sum() == 640


def test_threshold_is_where_pruning_ends():
    net, _ = build(nn.Conv2D, (1, 1, 3, 3), channels=1, kernel_size=3)
    weights = np.float32([[-0.3, -0.1, 0.1], [np.nextafter(np.float32(0.1), np.float32(1)), 0, 0.09], [1, -2, -0.0]])
    net.weight.set_data(mx.nd.array(weights.reshape(1, 1, 3, 3)))
    masks = prune_threshold(net, np.float32(0.1))
    expected = np.where(np.abs(weights) > np.float32(0.1), weights, 0)
    np.testing.assert_array_equal(values(net)["weight"][0, 0], expected)
    np.testing.assert_array_equal(masks.kept["weight"][0, 0], expected != 0)


def test_threshold_takes_convolutions_unless_told_otherwise():
    net, _ = build(NormNet)
    before = values(net)
    masks = prune_threshold(net, 0.2)
    assert set(masks.kept) == {"features.0.weight", "features.4.weight"}
    assert untouched(before, values(net), masks.kept)
    assert set(masks.left_out) == {"features.9", "output"}
    assert set(prune_threshold(net, 0.2, select=[nn.Conv2D, "output"]).kept) == {*masks.kept, "output.weight"}


def test_threshold_zero_changes_nothing():
    net, _ = build(LeNet, LENET)
    before = values(net)
    assert prune_threshold(net, 0).sparsity == 0
    assert identical(before, values(net))


@pytest.mark.parametrize(("select", "expected"), [
    (nn.Dense, {"dense.0.weight", "dense.1.weight"}),
    ("conv.2", {"conv.2.weight"}),
    (["conv.2", nn.Dense], {"conv.2.weight", "dense.0.weight", "dense.1.weight"}),
    (lambda layer: layer.weight.shape[0] > 20, {"conv.2.weight", "dense.0.weight"}),
])
def test_selected_layers_alone_are_pruned(select, expected):
    net, _ = build(LeNet, LENET)
    before = values(net)
    masks = prune_magnitude(net, 0.5, select=select)
    assert set(masks.kept) == expected
    assert untouched(before, values(net), expected)
    assert {f"{name}.weight" for name in masks.left_out} == {n for n in before if n.endswith("weight")} - expected


def test_weights_of_a_block_of_yours_are_left_out_with_a_reason_or_named():
    net, _ = build(OwnWeight)
    masks = prune_magnitude(net, 0.5)
    assert set(masks.left_out) == {"mix", "positions"}
    assert "OwnWeight" in masks.left_out["mix"]
    assert set(prune_magnitude(net, 0.5, select="mix").kept) == {"mix_weight"}
    assert np.mean(values(net)["mix_weight"] == 0) == pytest.approx(0.5, abs=1e-3)


def test_shared_weights_are_pruned_once():
    net, _ = build(SharedWeights)
    masks = prune_magnitude(net, 0.5)
    assert [mask.size for mask in masks.kept.values()] == [36, 36, 18]
    assert net.third.weight.data().asnumpy().tobytes() == net.second.weight.data().asnumpy().tobytes()


def test_embeddings_stay_and_transposed_convolutions_go():
    net, _ = build(Assorted)
    masks = prune_magnitude(net, 0.5)
    assert set(masks.kept) == {"up.weight", "grouped.weight", "output.weight"}
    assert set(masks.left_out) == {"embedding"}


def test_a_symbol_block_is_pruned_like_its_original(tmp_path):
    net, example = build(NormNet)
    block = exported(net, example, tmp_path)
    ours, theirs = prune_magnitude(net, 0.8), prune_magnitude(block, 0.8)
    assert ours.sparsity == theirs.sparsity
    np.testing.assert_array_equal(net(example).asnumpy(), block(example).asnumpy())


def test_double_precision_survives():
    net, example = build(nn.Dense, (2, 30), units=20)
    net.cast("float64")
    weights = np.random.default_rng(0).normal(size=(20, 30))
    net.weight.set_data(mx.nd.array(weights, dtype="float64"))
    prune_magnitude(net, 0.5)
    np.testing.assert_array_equal(values(net)["weight"], brute_force(weights, 0.5))
    assert net(example.astype("float64")).dtype == np.float64


FAILURES = [
    (lambda net: prune_threshold(net, -0.1), ValueError, "threshold is -0.1; accepted: .*at least 0"),
    (lambda net: prune_threshold(net, float("nan")), ValueError, "threshold is nan"),
    (lambda net: prune_threshold(net, "0.1"), TypeError, "threshold is '0.1'"),
    (lambda net: prune_threshold(net, 1.0, select=["conv.0", "conv.2"]), ValueError,
     r"threshold=1.0 would leave layer conv.2 without weights: its largest is 0.5"),
    (lambda net: prune_magnitude(net, 1), ValueError, "sparsity is 1; accepted: .*less than 1"),
    (lambda net: prune_magnitude(net, -0.5), ValueError, "sparsity is -0.5"),
    (lambda net: prune_magnitude(net, True), TypeError, "sparsity is True"),
    (lambda net: prune_magnitude(net, None), TypeError, "sparsity is None"),
    (lambda net: prune_magnitude(net, 0.5, norm=3), ValueError, "norm is 3; accepted: 1, 2"),
    (lambda net: prune_magnitude(net, 0.5, norm="l1"), ValueError, "norm is 'l1'"),
    (lambda net: prune_magnitude(net, 0.5, scope="both"), ValueError, "scope is 'both'; accepted: 'layer', 'global'"),
    (lambda net: prune_magnitude(net, 0.5, select="dense"), ValueError, "did you mean"),
    (lambda net: prune_magnitude(net, 0.9999, select=["dense.0", "conv.0"]), ValueError,
     "sparsity=0.9999 with scope='layer' would leave layer conv.0"),
    (lambda net: prune_magnitude(net, 0.99, scope="global"), ValueError,
     "scope='global' would leave layer conv.2 .* without weights"),
]


@pytest.mark.parametrize(("call", "error", "message"), FAILURES)
def test_a_failure_changes_nothing(call, error, message):
    net, _ = build(LeNet, LENET)
    net.conv[0].weight.set_data(net.conv[0].weight.data() + 3)       # survives a threshold that conv.2 does not
    net.conv[2].weight.set_data(mx.nd.random.uniform(-1e-3, 1e-3, shape=net.conv[2].weight.shape))
    net.conv[2].weight.data()[0, 0, 0, 0] = 0.5 if "0.5" in message else 1e-3
    before = values(net)
    with pytest.raises(error, match=message):
        call(net)
    assert identical(before, values(net))
