"""Unstructured pruning against sorting with NumPy, and against the masks that PyTorch made."""
import json
from pathlib import Path

import gluon_compress  # noqa: F401

import mxnet as mx  # noqa: I001
import numpy as np
import pytest
from gluon_compress.errors import NetworkError, RecordError
from gluon_compress.models import LeNet, LeNet300100
from gluon_compress.pruning import Masks, prune_custom, prune_magnitude, prune_n_m, prune_random, prune_threshold
from mxnet.gluon import SymbolBlock, nn
from networks import Assorted, NormNet, OwnWeight, SharedWeights, build, exported, fresh, identical, values
from safetensors import safe_open

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


def test_a_sparsity_of_its_own_for_each_layer():
    net, _ = build(NormNet)
    before = values(net)
    wanted = {"features.4": 0.25, "output.weight": 0.7}  # a layer, a parameter
    masks = prune_magnitude(net, wanted)
    after = values(net)
    assert set(masks.kept) == {"features.4.weight", "output.weight"}
    for name, fraction in (("features.4.weight", 0.25), ("output.weight", 0.7)):
        np.testing.assert_array_equal(after[name], brute_force(before[name], fraction))
    assert untouched(before, after, masks.kept)
    assert masks.left_out == {name: f"{kind}, not in sparsity" for name, kind in (
        ("features.0", "Conv2D"), ("features.9", "Dense"))}


@pytest.mark.parametrize("sparsity, more, error, message", [
    ({"features.0": 0.5, "feature.4": 0.5}, {}, ValueError, "sparsity names 'feature.4', .* did you mean features.4"),
    ({"features.0": 0.5, "features.0.weight": 0.5}, {}, ValueError, "names features.0.weight twice"),
    ({"features.0.bias": 0.5}, {}, ValueError, "sparsity names 'features.0.bias'"),
    ({"features.0": 1.0}, {}, ValueError, r"sparsity\['features.0'\] is 1.0"),
    ({"features.0": -0.1}, {}, ValueError, r"sparsity\['features.0'\] is -0.1"),
    ({"features.0": "half"}, {}, TypeError, r"sparsity\['features.0'\] is 'half'"),
    ({"features.4": 0.1, "features.0": 0.9999}, {}, ValueError, "would leave layer features.0"),
    ({}, {}, ValueError, "sparsity is an empty dict"),
    ({"features.0": 0.5}, {"scope": "global"}, TypeError, "scope='global'"),
    ({"features.0": 0.5}, {"select": "features.0"}, TypeError, "select='features.0'"),
    ({"features.0": 0.5}, {"amount": 3}, TypeError, "exactly one of them")])
def test_bad_sparsities_of_single_layers(sparsity, more, error, message):
    net, _ = build(NormNet)
    before = values(net)
    with pytest.raises(error, match=message):
        prune_magnitude(net, sparsity, **more)
    assert identical(before, values(net))


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


@pytest.mark.parametrize("layer, shape", [
    (lambda: nn.Conv1D(16, 3), (1, 16, 9)), (lambda: nn.Conv2D(16, 3), (1, 16, 9, 9)),
    (lambda: nn.Conv3D(8, 3), (1, 8, 5, 5, 5)), (lambda: nn.Conv2DTranspose(16, 3), (1, 16, 9, 9))])
def test_weights_that_onednn_has_laid_out_anew_are_pruned(layer, shape):
    """Inference does that to them; set_data fails then on those of Conv1D and Conv3D."""
    net, example = build(layer, shape)
    for _ in range(3):
        net(example)
    before = values(net)
    prune_magnitude(net, 0.5)
    np.testing.assert_array_equal(values(net)["weight"], brute_force(before["weight"], 0.5))
    other = fresh(layer)
    for name, value in values(net).items():
        getattr(other, name).set_data(mx.nd.array(value))
    np.testing.assert_allclose(net(example).asnumpy(), other(example).asnumpy(), rtol=1e-5, atol=1e-5)


def test_double_precision_survives():
    net, example = build(nn.Dense, (2, 30), units=20)
    net.cast("float64")
    weights = np.random.default_rng(0).normal(size=(20, 30))
    net.weight.set_data(mx.nd.array(weights, dtype="float64"))
    prune_magnitude(net, 0.5)
    np.testing.assert_array_equal(values(net)["weight"], brute_force(weights, 0.5))
    assert net(example.astype("float64")).dtype == np.float64


# ---- amounts, as in torch.nn.utils.prune

TORCH = safe_open(str(Path(__file__).parent / "data" / "torch_prune_masks.safetensors"), framework="numpy")
CASES = json.loads(TORCH.metadata()["record"])["cases"]


def torch_net():
    """The two layers of benchmarks/torch_prune_masks.py, with their weights."""
    net = nn.HybridSequential()
    net.add(nn.Conv2D(6, 3, in_channels=4), nn.Dense(10, in_units=24))
    net.initialize()
    net[0].weight.set_data(mx.nd.array(TORCH.get_tensor("weights/conv")))
    net[1].weight.set_data(mx.nd.array(TORCH.get_tensor("weights/dense")))
    return net


def torch_masks(case, rounds):
    return {f"{number}.weight": np.unpackbits(TORCH.get_tensor(f"{case}/{rounds}/{layer}"), count=np.prod(shape))
            .reshape(shape).astype(bool)
            for number, (layer, shape) in enumerate((("conv", (6, 4, 3, 3)), ("dense", (10, 24))))}


@pytest.mark.parametrize("explicit", [False, True], ids=["zeros are gone", "masks"])
@pytest.mark.parametrize("case", [name for name in CASES if not name.startswith("random")])
def test_the_masks_are_those_of_pytorch(case, explicit):
    net = torch_net()
    before = values(net)
    importance = None
    if "importance" in case:
        importance = {"0": TORCH.get_tensor("importance/conv"), "1.weight": TORCH.get_tensor("importance/dense")}
    masks = None
    for rounds, amount in enumerate(CASES[case]):
        masks = prune_magnitude(net, amount=amount, scope=case.split("_")[0], criterion=importance,
                                masks=masks if explicit else None)
        expected = torch_masks(case, rounds)
        assert masks.kept.keys() == expected.keys()
        for name, kept in expected.items():
            np.testing.assert_array_equal(masks.kept[name], kept)
            np.testing.assert_array_equal(values(net)[name], np.where(kept, before[name], 0))


@pytest.mark.parametrize("case", [name for name in CASES if name.startswith("random")])
def test_as_many_random_weights_go_as_in_pytorch(case):
    net = torch_net()
    for rounds, amount in enumerate(CASES[case]):
        masks = prune_random(net, amount, seed=rounds)
        for name, kept in torch_masks(case, rounds).items():
            assert masks.kept[name].sum() == kept.sum() == np.count_nonzero(values(net)[name])


def test_the_cases_of_pytorch_have_integers_floats_and_repetitions():
    amounts = [amount for case in CASES.values() for amount in case]
    assert {type(amount) for amount in amounts} == {int, float}
    assert any(len(case) >= 5 for case in CASES.values())
    assert {name.rsplit("_", 1)[0] for name in CASES} == {"layer", "global", "layer_importance", "global_importance",
                                                         "random"}


@pytest.mark.parametrize("amount", [1, np.int64(1), np.int32(1)])
def test_one_is_one_weight_of_each_layer_or_of_all(amount):
    assert [(~mask).sum() for mask in prune_magnitude(torch_net(), amount=amount).kept.values()] == [1, 1]
    assert sum((~mask).sum() for mask in prune_magnitude(torch_net(), amount=amount, scope="global").kept.values()) == 1


def test_without_masks_zeros_are_gone_and_with_masks_they_remain():
    net, _ = build(nn.Dense, (1, 5), units=2)
    net.weight.set_data(mx.nd.array([[0, 1, -2, 3, 4], [0, 6, 7, -8, 9]]))
    again, _ = build(nn.Dense, (1, 5), units=2)
    again.weight.set_data(net.weight.data())
    assert prune_magnitude(net, amount=2).kept["weight"].tolist() == [[0, 0, 0, 1, 1], [0, 1, 1, 1, 1]]
    first = prune_magnitude(again, amount=1, masks=Masks({}))
    assert first.kept["weight"].tolist() == [[0, 1, 1, 1, 1], [1] * 5]  # a zero, and the other one remains
    second = prune_magnitude(again, amount=0.25, masks=first)
    assert second.kept["weight"].tolist() == [[0, 0, 1, 1, 1], [0, 1, 1, 1, 1]]


def test_earlier_masks_stay_whatever_the_weights_became():
    net, _ = build(LeNet, LENET)
    first = prune_magnitude(net, 0.5, select="conv.2")
    for parameter in net.collect_params(".*weight").values():
        parameter.set_data(parameter.data() + 5)
    second = prune_magnitude(net, amount=0.5, select=["conv.2", "dense.1"], masks=first)
    assert set(second.kept) == {"conv.2.weight", "dense.1.weight"}
    assert not (second.kept["conv.2.weight"] & ~first.kept["conv.2.weight"]).any()
    assert 1 - second.kept["conv.2.weight"].mean() == 0.75
    assert 1 - second.kept["dense.1.weight"].mean() == 0.5
    np.testing.assert_array_equal(values(net)["conv.2.weight"] != 0, second.kept["conv.2.weight"])
    third = prune_magnitude(net, 0.1, masks=second)  # sparser already
    np.testing.assert_array_equal(third.kept["conv.2.weight"], second.kept["conv.2.weight"])
    assert 1 - third.kept["conv.0.weight"].mean() == pytest.approx(0.1, abs=1e-2)


def test_of_equal_weights_the_first_go():
    net, _ = build(nn.Dense, (1, 4), units=2)
    net.weight.set_data(mx.nd.array([[3, 1, -1, 3], [1, 2, 1, -1]]))
    assert prune_magnitude(net, amount=4).kept["weight"].tolist() == [[1, 0, 0, 1], [0, 1, 0, 1]]


@pytest.mark.parametrize("scope", ["layer", "global"])
@pytest.mark.parametrize("quantity", [{"sparsity": 0.6}, {"amount": 0.6}, {"amount": 40}])
def test_importance_decides(scope, quantity):
    net, _ = build(NormNet)
    scores = {name: np.random.default_rng(1).normal(size=value.shape) for name, value in values(net).items()}
    before = values(net)
    masks = prune_magnitude(net, scope=scope, **quantity,
                            criterion=lambda layer: mx.nd.array(scores[layer.parameter_name]))
    groups = [[name] for name in masks.kept] if scope == "layer" else [list(masks.kept)]
    for group in groups:
        ranked = sorted((np.float32(score), name, index) for name in group
                        for index, score in enumerate(scores[name].ravel()))
        pruned = quantity.get("amount", 0.6)
        pruned = pruned if isinstance(pruned, int) else round(pruned * len(ranked))
        gone = {(name, index) for _, name, index in ranked[:pruned]}
        for name in group:
            expected = np.array([(name, index) not in gone for index in range(scores[name].size)])
            np.testing.assert_array_equal(masks.kept[name].ravel(), expected)
            np.testing.assert_array_equal(values(net)[name], np.where(masks.kept[name], before[name], 0))


def test_what_was_pruned_goes_before_the_least_important():
    net, _ = build(nn.Dense, (1, 4), units=1)
    net.weight.set_data(mx.nd.array([[0, 1, 2, 3]]))
    masks = prune_magnitude(net, 0.5, criterion={"weight": [[9, 3, 2, 1]]})
    assert masks.kept["weight"].tolist() == [[False, True, True, False]]


# ---- at random

def test_random_pruning_repeats_by_its_seed_and_treats_all_alike():
    counts = np.zeros(60)
    for seed in range(200):
        net, _ = build(nn.Dense, (1, 12), units=5)
        counts += prune_random(net, 0.3, seed).kept["weight"].ravel()
    assert counts.sum() == 200 * 42
    assert abs(counts - 140).max() < 5 * np.sqrt(200 * 0.3 * 0.7)  # of a binomial distribution
    first, again, other = (prune_random(build(LeNet, LENET)[0], 0.5, seed) for seed in (7, 7, 8))
    assert first.digest == again.digest != other.digest


def test_random_pruning_goes_on_with_what_remains():
    net, _ = build(LeNet, LENET)
    first = prune_random(net, 0.5, seed=0, scope="global")
    second = prune_random(net, 0.5, seed=0, scope="global")
    assert all(not (second.kept[name] & ~kept).any() for name, kept in first.kept.items())
    assert second.sparsity == pytest.approx(0.75, abs=1e-4)


# ---- N:M

def n_m_by_loops(weight, axis, n, m):
    """Keeps the n largest of m, group by group."""
    result = weight.copy()
    for index in np.ndindex(*(size for number, size in enumerate(weight.shape) if number != axis)):
        line = (*index[:axis], slice(None), *index[axis:])
        for start in range(0, weight.shape[axis], m):
            group = list(weight[line][start:start + m])
            for position in sorted(range(m), key=lambda i: (abs(group[i]), i))[:m - n]:
                group[position] = 0
            changed = result[line].copy()
            changed[start:start + m] = group
            result[line] = changed
    return result


@pytest.mark.parametrize("n, m", [(2, 4), (1, 4), (1, 2), (4, 8), (8, 8), (3, 4)])
@pytest.mark.parametrize("layer, shape, axis", [
    (lambda: nn.Dense(5), (1, 16), 1),
    (lambda: nn.Conv2D(6, (3, 2)), (1, 8, 5, 5), 1),
    (lambda: nn.Conv2D(6, 3, groups=2), (1, 16, 5, 5), 1),
    (lambda: nn.Conv1D(3, 2), (1, 8, 5), 1),
    (lambda: nn.Conv2DTranspose(3, 2), (1, 8, 4, 4), 0),
], ids=["dense", "convolution", "grouped", "1-D", "transposed"])
def test_of_every_m_weights_n_stay(layer, shape, axis, n, m):
    net, _ = build(layer, shape)
    before = values(net)
    masks = prune_n_m(net, n, m)
    expected = n_m_by_loops(before["weight"], axis, n, m)
    np.testing.assert_array_equal(values(net)["weight"], expected)
    np.testing.assert_array_equal(masks.kept["weight"], expected != 0)
    assert masks.sparsity == 1 - n / m
    assert untouched(before, values(net), {"weight"})


def test_the_input_axis_follows_the_layout():
    net = nn.Conv2D(4, 3, layout="NHWC", in_channels=8)  # runs on GPUs only
    net.initialize()
    before = values(net)["weight"]
    prune_n_m(net, 2, 4)
    assert before.shape == (4, 3, 3, 8)
    np.testing.assert_array_equal(values(net)["weight"], n_m_by_loops(before, 3, 2, 4))


def test_the_input_axis_follows_the_layout_in_a_graph():
    x = mx.sym.var("data")
    nhwc = mx.sym.Convolution(x, kernel=(3, 3), num_filter=4, layout="NHWC", no_bias=True, name="conv")
    net = SymbolBlock(nhwc, [x])
    net.params["conv_weight"].shape = (4, 3, 3, 8)
    net.initialize()
    (before,) = values(net).values()
    prune_n_m(net, 2, 4)
    np.testing.assert_array_equal(*values(net).values(), n_m_by_loops(before, 3, 2, 4))


def test_layers_without_a_multiple_of_m_inputs_are_left_out_or_an_error():
    net, _ = build(NormNet)
    masks = prune_n_m(net)
    assert set(masks.kept) == {"features.4.weight", "features.9.weight", "output.weight"}
    assert masks.left_out == {"features.0": "its 3 inputs are not a multiple of 4"}
    net, _ = build(OwnWeight)
    before = values(net)
    with pytest.raises(ValueError, match="mix cannot be 2:4 sparse: OwnWeight, whose input axis is not known"):
        prune_n_m(net, select="mix")
    assert identical(before, values(net))


def test_zeros_stay_pruned_in_a_pattern():
    net, _ = build(nn.Dense, (1, 4), units=2)
    net.weight.set_data(mx.nd.array([[0, 0, 0, 5], [1, 2, 3, 4]]))
    assert prune_n_m(net, 2, 4).kept["weight"].tolist() == [[0, 0, 0, 1], [0, 0, 1, 1]]


def test_a_pattern_by_importance_and_of_equals_the_first_go():
    net, _ = build(nn.Dense, (1, 4), units=2)
    masks = prune_n_m(net, 2, 4, criterion={"weight": [[4, 3, 2, 1], [1, 1, 1, 1]]})
    assert masks.kept["weight"].tolist() == [[1, 1, 0, 0], [0, 0, 1, 1]]


# ---- masks of your own

def test_custom_masks_are_taken_as_they_are():
    net, _ = build(NormNet)
    before = values(net)
    generator = np.random.default_rng(0)
    conv = generator.random(before["features.0.weight"].shape) < 0.4
    bias = generator.random(before["output.bias"].shape) < 0.5
    masks = prune_custom(net, {"features.0": mx.nd.array(conv), "output.bias": bias.astype(int).tolist()})
    assert set(masks.kept) == {"features.0.weight", "output.bias"}
    assert set(masks.left_out) == {"features.4", "features.9", "output"}
    after = values(net)
    np.testing.assert_array_equal(after["features.0.weight"], np.where(conv, before["features.0.weight"], 0))
    np.testing.assert_array_equal(after["output.bias"], np.where(bias, before["output.bias"], 0))
    assert untouched(before, after, masks.kept)


FAILURES = [
    (lambda net: prune_threshold(net, -0.1), ValueError, "threshold is -0.1; accepted: .*at least 0"),
    (lambda net: prune_threshold(net, float("nan")), ValueError, "threshold is nan"),
    (lambda net: prune_threshold(net, "0.1"), TypeError, "threshold is '0.1'"),
    (lambda net: prune_threshold(net, 1.0, select=["conv.0", "conv.2"]), ValueError,
     r"threshold=1.0 would leave layer conv.2 without weights: its largest is 0.5"),
    (lambda net: prune_magnitude(net, 1), ValueError, "sparsity is 1; accepted: .*less than 1"),
    (lambda net: prune_magnitude(net, -0.5), ValueError, "sparsity is -0.5"),
    (lambda net: prune_magnitude(net, True), TypeError, "sparsity is True"),
    (lambda net: prune_magnitude(net, None), TypeError, "sparsity is None and amount is None; .*exactly one"),
    (lambda net: prune_magnitude(net, 0.5, amount=0.5), TypeError, "exactly one"),
    (lambda net: prune_magnitude(net, amount=-1), ValueError, "amount is -1"),
    (lambda net: prune_magnitude(net, amount=-0.1), ValueError, "amount is -0.1"),
    (lambda net: prune_magnitude(net, amount=1.1), ValueError, "amount is 1.1"),
    (lambda net: prune_magnitude(net, amount=float("nan")), ValueError, "amount is nan"),
    (lambda net: prune_magnitude(net, amount=True), TypeError, "amount is True"),
    (lambda net: prune_magnitude(net, amount="10%"), TypeError, "amount is '10%'"),
    (lambda net: prune_magnitude(net, amount=1000), ValueError, "amount=1000, but .* remain in layer conv.0;"),
    (lambda net: prune_magnitude(net, amount=10**7, scope="global"), ValueError,
     "remain in layer conv.0, layer conv.2, layer dense.0, layer dense.1"),
    (lambda net: prune_magnitude(net, amount=1.0), ValueError, "amount=1.0 .* would leave layer conv.0"),
    (lambda net: prune_magnitude(net, 0.5, masks={"conv.0.weight": 1}), TypeError, "masks is {'conv.0.weight': 1}"),
    (lambda net: prune_magnitude(net, 0.5, masks=Masks({"conv.9.weight": [1]})), RecordError, "no parameter conv.9"),
    (lambda net: prune_magnitude(net, 0.5, masks=Masks({"conv.0.weight": [1]})), RecordError,
     "conv.0.weight has shape"),
    (lambda net: prune_magnitude(net, 0.5, criterion=3), TypeError, "criterion is 3"),
    (lambda net: prune_magnitude(net, 0.5, criterion={"conv.7": 1}), ValueError, "names 'conv.7'.*did you mean"),
    (lambda net: prune_magnitude(net, 0.5, criterion={}), ValueError, "criterion has no entry for layer conv.0"),
    (lambda net: prune_magnitude(net, 0.5, select="dense.1", criterion={"dense.1": [[1, 2]]}), ValueError,
     r"criterion\['dense.1.weight'\] has shape \(1, 2\); accepted: \(10, 128\)"),
    (lambda net: prune_magnitude(net, 0.5, select="dense.1", criterion={"dense.1": 1, "dense.1.weight": 2}),
     ValueError, "names dense.1.weight twice"),
    (lambda net: prune_magnitude(net, 0.5, criterion=lambda layer: layer.value() * np.nan), ValueError,
     "criterion.*conv.0.weight.* not finite: nan"),
    (lambda net: prune_magnitude(net, 0.5, criterion=lambda layer: "high"), TypeError, "is 'high'"),
    (lambda net: prune_random(net, 2.0), ValueError, "amount is 2.0"),
    (lambda net: prune_random(net, None), TypeError, "amount is None"),
    (lambda net: prune_random(net, 0.5, seed=-1), ValueError, "seed is -1"),
    (lambda net: prune_random(net, 0.5, scope="all"), ValueError, "scope is 'all'"),
    (lambda net: prune_random(net, 0.5, select="conv.1"), ValueError, "there is no such layer"),
    (lambda net: prune_n_m(net, 5, 4), ValueError, "n is 5; accepted: .*at most 4"),
    (lambda net: prune_n_m(net, 0, 4), ValueError, "n is 0"),
    (lambda net: prune_n_m(net, 2, 4.0), TypeError, "m is 4.0"),
    (lambda net: prune_n_m(net, True, 4), TypeError, "n is True"),
    (lambda net: prune_n_m(net, select=nn.Conv2D), ValueError, "layer conv.0 cannot be 2:4 sparse: its 1 inputs"),
    (lambda net: prune_n_m(net, 1, 999), ValueError, "layer dense.1 cannot be 1:999 sparse"),
    (lambda net: prune_custom(net, {}), TypeError, "kept is {}"),
    (lambda net: prune_custom(net, [1]), TypeError, r"kept is \[1\]"),
    (lambda net: prune_custom(net, {"conv.2": np.ones(3)}), ValueError, r"kept\['conv.2.weight'\] has shape \(3,\)"),
    (lambda net: prune_custom(net, {"conv": np.ones(3)}), ValueError, "names 'conv', but there is no such"),
    (lambda net: prune_custom(net, {"dense.1": np.full((10, 128), 0.5)}), ValueError, "other than 0 and 1"),
    (lambda net: prune_custom(net, {"dense.1": np.zeros((10, 128))}), ValueError, "its mask would leave layer dense.1"),
    (lambda net: prune_custom(net, {"dense.1.bias": np.zeros(10), "conv.0.bias": np.zeros(9)}), ValueError,
     r"kept\['conv.0.bias'\] has shape \(9,\)"),
    (lambda net: prune_magnitude(net, 0.5, norm=3), ValueError, "norm is 3; accepted: 1, 2"),
    (lambda net: prune_magnitude(net, 0.5, norm="l1"), ValueError, "norm is 'l1'"),
    (lambda net: prune_magnitude(net, 0.5, scope="both"), ValueError, "scope is 'both'; accepted: 'layer', 'global'"),
    (lambda net: prune_magnitude(net, 0.5, select="dense"), ValueError, "a block with 2 layers in it"),
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


@pytest.mark.parametrize("call", [
    lambda net: prune_threshold(net, 0.1, select=nn.Dense), lambda net: prune_magnitude(net, 0.5),
    lambda net: prune_magnitude(net, amount=3, criterion=lambda layer: layer.weight.data() * 0),
    lambda net: prune_random(net, 5), lambda net: prune_n_m(net),
    lambda net: prune_custom(net, {"conv.2": values(net)["conv.2.weight"] > 0, "dense.1": np.ones((10, 128))})])
@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_weights_that_are_not_finite_are_named(call, value):
    net, _ = build(LeNet, LENET)
    net.dense[1].weight.data()[3, 4] = value
    before = values(net)
    with pytest.raises(NetworkError, match="dense.1.*: 1 of 1280 weights are not finite"):
        call(net)
    assert identical(before, values(net))
