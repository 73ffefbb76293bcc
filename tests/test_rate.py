"""Rate-aware rounding: the coder's own bits, error feedback, and whole networks from inputs alone."""
from fractions import Fraction
from functools import partial

import gluon_compress as gc
import mxnet as mx
import numpy as np
import pytest
from gluon_compress.coding import decode, encode, native
from gluon_compress.coding.rounding import Factor, round_and_code
from gluon_compress.errors import NetworkError
from gluon_compress.models import LeNet300100
from gluon_compress.network.values import restore_snapshot, snapshot
from gluon_compress.quantization import RateRounding, quantize, quantize_weights
from gluon_compress.quantization.rate import reconstruction
from gluon_compress.quantization.rate import rounder as rounder_module
from gluon_compress.quantization.rate import rounding as rate_rounding
from gluon_compress.quantization.rate.curvature import Curvature
from gluon_compress.quantization.rate.rounder import divided, samples_in
from gluon_compress.quantization.rate.reconstruction import reconstructed, solved
from gluon_compress.quantization.rate.rounding import LEAST, factor_of, factors_of, rounded, saved_by_own_steps
from mxnet import gluon
from networks import build, identical, values


def test_a_high_price_of_error_rounds_to_the_nearest_and_a_low_one_to_zero():
    values = np.random.default_rng(0).laplace(0, 2, (30, 40))
    dear, _ = round_and_code(values, Factor(np.full(30, 1e9)), Factor(np.ones(40)), 127)
    cheap, size = round_and_code(values, Factor(np.full(30, 1e-9)), Factor(np.ones(40)), 127)
    np.testing.assert_array_equal(dear, np.rint(values))
    assert not cheap.any() and size < 60


def test_between_them_error_and_bits_fall_and_rise():
    values = np.random.default_rng(1).laplace(0, 2, (60, 90))
    found = [round_and_code(values, Factor(np.full(60, price)), Factor(np.ones(90)), 127)
             for price in (0.1, 0.5, 2, 10, 100)]
    errors = [np.square(values - codes).sum() for codes, _ in found]
    assert errors == sorted(errors, reverse=True) and [size for _, size in found] == sorted(size for _, size in found)
    for price, (_, size), error in zip((0.5, 2), found[1:], errors[1:]):
        nearest = np.rint(values).astype(np.int32)
        assert price * error + 8 * size < price * np.square(values - nearest).sum() + 8 * len(encode(nearest))


def test_the_bytes_are_those_that_decode_to_the_codes():
    values = np.random.default_rng(2).laplace(0, 1, (20, 5, 3, 3))
    codes, size = round_and_code(values, Factor(np.full(20, 3.0)), Factor(np.ones(45)), 127)
    content = encode(codes)
    np.testing.assert_array_equal(decode(content, codes.shape, np.int32), codes)
    assert abs(len(content) - size) < 0.02 * size + 8


def correlated(rng, count):
    """The second moments of so many quantities of which each is a mixture of a few."""
    samples = rng.normal(size=(500, count // 5)) @ rng.normal(size=(count // 5, count)) + 0.3 * rng.normal(
        size=(500, count))
    return samples.T @ samples / 500


@pytest.mark.parametrize("compiled", [True, False])
def test_errors_handed_to_later_weights_and_rows_cost_less_in_the_outputs(compiled, monkeypatch):
    if not compiled:
        monkeypatch.setattr(native, "library", lambda: None)
    rng = np.random.default_rng(3)
    values, inputs, outputs = rng.normal(0, 1.5, (25, 40)), correlated(rng, 40), correlated(rng, 25)
    of_rows, of_inputs = factor_of(outputs, 0.03), factor_of(inputs, 0.03)
    dear = 1e6  # than any bit

    def error(rows, along):
        codes, _ = round_and_code(values, Factor(rows.cost * dear, rows.feedback), along, 127)
        return np.trace(outputs @ (values - codes) @ inputs @ (values - codes).T)

    plain, in_rows, in_both = (error(*factors) for factors in (
        (Factor(np.ones(25)), Factor(np.ones(40))), (Factor(np.ones(25)), of_inputs), (of_rows, of_inputs)))
    assert in_rows < 0.5 * plain and in_both < 0.5 * in_rows


def test_in_c_and_in_numpy_the_same_errors_are_handed_on(monkeypatch):
    """One goes row by row, the other column by column: both come to what is left of G x M, one number at a time."""
    rng = np.random.default_rng(5)
    values, inputs, outputs = rng.normal(0, 1.5, (9, 12)), correlated(rng, 12), correlated(rng, 9)
    of_rows, of_inputs = factor_of(outputs, 0.03), factor_of(inputs, 0.03)
    of_rows = Factor(of_rows.cost * 1e6, of_rows.feedback)
    compiled, _ = round_and_code(values, of_rows, of_inputs, 127)
    monkeypatch.setattr(native, "library", lambda: None)
    plain, _ = round_and_code(values, of_rows, of_inputs, 127)
    np.testing.assert_array_equal(compiled, plain)
    damped = [matrix + np.diag(0.03 * np.diag(matrix) + LEAST * np.diag(matrix).mean())
              for matrix in (outputs, inputs)]
    whole, wanted, expected = np.kron(*damped), values.ravel().copy(), np.zeros(values.size)
    for place in range(values.size):
        expected[place] = np.rint(wanted[place])
        rest = slice(place + 1, None)
        wanted[rest] += np.linalg.solve(whole[rest, rest], whole[rest, place]) * (expected[place] - wanted[place]) * -1
    np.testing.assert_array_equal(compiled.ravel(), expected)


@pytest.mark.parametrize("compiled", [True, False])
def test_zeros_stay_zero_though_errors_are_fed_to_them(compiled, monkeypatch):
    if not compiled:
        monkeypatch.setattr(native, "library", lambda: None)
    rng = np.random.default_rng(4)
    kept = rng.random((25, 40)) < 0.4
    values, feedback, across = (rng.normal(0, 1.5, (25, 40)) * kept, np.triu(rng.normal(0, 0.1, (40, 40)), 1),
                                np.triu(rng.normal(0, 0.1, (25, 25)), 1))
    codes, _ = round_and_code(values, Factor(np.full(25, 1e6), across), Factor(np.ones(40), feedback), 127)
    assert not codes[~kept].any() and codes[kept].any()
    rounded = values.copy()
    for row in range(25):  # what came to a zero goes on from it
        wanted = rounded[row].copy()
        for place in range(40):
            error = rounded[row, place] - codes[row, place]
            assert not kept[row, place] or abs(error) < 0.5 + 1e-3
            rounded[row] += error * feedback[place]
        rounded += np.outer(across[row], wanted - codes[row])


@pytest.fixture(scope="module")
def data():
    train, _ = gc.datasets.mnist()
    return train.subset(slice(0, 200)).batches(50)


def test_a_network_keeps_its_outputs_and_becomes_small(data, tmp_path):
    net = gc.params.load("lenet_300_100_mnist")
    images = next(iter(data))[0]
    before = net(images).asnumpy()
    scales = quantize_weights(net, rate=1e-2, calibration_data=data, progress=False)
    after = net(images).asnumpy()
    assert set(scales.weights) == {"features.1.weight", "features.2.weight", "output.weight"} and not scales.left_out
    assert np.square(after - before).sum() < 0.05 * np.square(before).sum()
    size = gc.save(tmp_path / "net.gcz", net, scales)
    assert size < 1_066_824 / 20
    np.testing.assert_array_equal(gc.load(tmp_path / "net.gcz")(images).asnumpy(), after)


def test_several_rates_one_after_the_other_give_what_each_gives_alone_and_a_lower_one_a_smaller_error(data):
    images, errors = next(iter(data))[0], []
    net = gc.params.load("lenet_300_100_mnist")
    before, rounding = net(images).asnumpy(), RateRounding(net, data, progress=False)
    np.testing.assert_array_equal(net(images).asnumpy(), before)
    for rate in (1e-1, 1e-3):
        rounding.round(rate)
        errors.append(np.square(net(images).asnumpy() - before).sum())
    assert errors[1] < 0.2 * errors[0]
    alone = gc.params.load("lenet_300_100_mnist")
    quantize_weights(alone, rate=1e-3, calibration_data=data, progress=False)
    np.testing.assert_array_equal(alone(images).asnumpy(), net(images).asnumpy())


def test_a_higher_rate_takes_fewer_bits(data):
    """Whatever one rounding costs more or less than the next one by chance."""
    rounder = RateRounding(gc.params.load("lenet_300_100_mnist"), data, progress=False).rounder
    bits = [rounder.best(rate).bits for rate in 0.002 * 1.25 ** np.arange(10)]
    assert all(more > fewer for more, fewer in zip(bits, bits[1:]))


@pytest.mark.parametrize("place", [-0.8, 0, 0.5])
def test_the_price_is_the_best_one_between_those_that_were_measured(place):
    """Of an error 2^p and -a p + b bits, error + rate bits is least where 2^p ln 2 = a rate."""
    around = {power: (2.0 ** power, -3.0 * power + 40) for power in (-9, -8, -7)}
    rate = 2.0 ** (-8 + place) * np.log(2) / 3
    assert rounder_module.least_between(around, rate) == pytest.approx(-8 + place, abs=0.5 / rounder_module.BETWEEN)


@pytest.mark.parametrize("around", [{-8: (0.0, 0.0)}, {-8: (0.0, 3.0), -7: (0.0, 2.0)}])
def test_a_price_is_found_where_few_were_measured_and_nothing_is_lost(around):
    assert rounder_module.least_between(around, 1e-3) == max(around)


@pytest.mark.parametrize("rate", [0, -1, float("nan"), "1"])
def test_a_rate_out_of_range_is_refused_and_the_network_stays(data, rate):
    net, _ = build(LeNet300100, (1, 1, 28, 28))
    before = snapshot(net)
    with pytest.raises((ValueError, TypeError), match="rate is"):
        quantize_weights(net, rate=rate, calibration_data=data, progress=False)
    after = snapshot(net)
    assert all(np.array_equal(before[name], after[name]) for name in before)


def test_calibration_data_of_another_shape_is_refused_and_the_network_stays():
    net, _ = build(LeNet300100, (1, 1, 28, 28))
    before = snapshot(net)
    with pytest.raises(Exception, match="shape|fit"):
        quantize_weights(net, rate=1e-2, calibration_data=[mx.nd.ones((2, 1, 20, 20))], progress=False)
    after = snapshot(net)
    assert all(np.array_equal(before[name], after[name]) for name in before)


def test_a_layer_that_the_outputs_do_not_see_becomes_zero():
    net = mx.gluon.nn.HybridSequential()
    net.add(mx.gluon.nn.Dense(6, activation="relu"), mx.gluon.nn.Dense(5), mx.gluon.nn.Dense(4))
    inputs = mx.nd.array(np.random.default_rng(0).normal(size=(20, 3)))
    net.initialize(mx.init.Uniform(1))
    net(inputs)
    net[0].bias.set_data(mx.nd.full(6, -100))  # what it puts out is zero
    net[2].bias.set_data(mx.nd.arange(4))
    before = net(inputs).asnumpy()
    quantize_weights(net, rate=1e-2, calibration_data=[inputs], progress=False)
    assert not net[0].weight.data().asnumpy().any() and not net[1].weight.data().asnumpy().any()
    np.testing.assert_allclose(net(inputs).asnumpy(), before, atol=0.1)


def test_the_file_of_a_network_on_integers_becomes_small_and_computes_the_same(data, tmp_path):
    net = gc.params.load("lenet_300_100_mnist")
    images = next(iter(data))[0]
    before, size = net(images).asnumpy(), gc.save(tmp_path / "plain.gcz", quantize(net, data, progress=False))
    integers = quantize(net, data, rate=1e-2, progress=False)
    np.testing.assert_array_equal(net(images).asnumpy(), before)
    assert gc.save(tmp_path / "net.gcz", integers) < size / 5
    after = integers(images).asnumpy()
    assert np.square(after - before).sum() < 0.05 * np.square(before).sum()
    np.testing.assert_array_equal(gc.load(tmp_path / "net.gcz")(images).asnumpy(), after)


@pytest.mark.parametrize("wrong", [{"bits": 4, "simulate": True}, {"equalize": True}, {"rate": 0.0}, {"rate": "1"}])
def test_what_does_not_go_with_a_rate_is_refused(data, wrong):
    with pytest.raises((TypeError, ValueError), match="rate"):
        quantize(gc.params.load("lenet_300_100_mnist"), data, **{"rate": 1e-2, "progress": False, **wrong})


def test_a_pruned_network_keeps_its_zeros_and_takes_its_masks_along(data, tmp_path):
    net = gc.params.load("lenet_300_100_mnist")
    masks = gc.pruning.prune_magnitude(net, 0.8)
    scales = quantize_weights(net, rate=1e-2, calibration_data=data, progress=False)
    sizes = [gc.save(tmp_path / "net.gcz", net, *records) for records in ((masks, scales), (scales,))]
    assert sizes[1] < sizes[0]
    found = gc.load(tmp_path / "net.gcz", LeNet300100())
    for name, kept in masks.kept.items():
        assert not values(found)[name][~kept].any() and values(found)[name][kept].any()


def dense(units, inputs, seed=0):
    net = gluon.nn.HybridSequential()
    net.add(gluon.nn.Dense(8, in_units=inputs, activation="relu"), gluon.nn.Dense(units, in_units=8))
    mx.random.seed(seed)
    net.initialize(mx.init.Normal(1))
    return net


def test_a_network_of_one_output_is_rounded():
    net, images = dense(1, 6), mx.nd.random.normal(shape=(64, 6))
    before = net(images).asnumpy()
    quantize_weights(net, rate=1e-3, calibration_data=[images], progress=False)
    after = net(images).asnumpy()
    assert 0 < np.square(after - before).sum() < 0.05 * np.square(before).sum()


@pytest.mark.parametrize("samples", [300, 2000])  # too few for layers to make up for others, and enough
def test_of_a_regression_what_all_outputs_have_in_common_counts(samples):
    """Of scores of classes it does not, and so it is where errors go: of twelve networks on average."""
    ratios = []
    for seed in range(12):
        common = {}
        for outputs in ("logits", "values"):
            net = dense(4, 30, seed=seed)
            images = mx.nd.random.normal(shape=(samples, 30))
            before = net(images).asnumpy()
            RateRounding(net, [images], progress=False, outputs=outputs).round(1e-2)
            lost = (net(images).asnumpy() - before).mean(axis=1)
            common[outputs] = np.square(lost).mean()
        ratios.append(common["values"] / common["logits"])
    assert np.exp(np.log(ratios).mean()) < 0.8


def test_maps_of_scores_count_as_they_are():
    """Along the last axis of (samples, classes, height, width) there are no classes."""
    net = gluon.nn.HybridSequential()
    net.add(gluon.nn.Conv2D(4, 3, padding=1, in_channels=3, activation="relu"), gluon.nn.Conv2D(3, 1, in_channels=4))
    images, found = mx.nd.random.normal(shape=(64, 3, 8, 8)), []
    for outputs in ("logits", "values"):
        mx.random.seed(2)
        net.initialize(mx.init.Normal(1), force_reinit=True)
        RateRounding(net, [images], progress=False, outputs=outputs).round(1e-2)
        found.append(snapshot(net))
    assert all(np.array_equal(found[0][name], found[1][name]) for name in found[0])


def test_a_network_that_lost_channels_since_is_refused_as_it_is():
    net, images = gc.params.load("simple_cnn_mnist"), mx.nd.random.uniform(shape=(4, 1, 28, 28))
    rounding = RateRounding(net, [images], progress=False)
    gc.pruning.prune_channels(net, images, 0.5)
    before = snapshot(net)
    with pytest.raises(NetworkError, match=r"conv1.weight has shape \(5, 1, 5, 5\), and had \(10, 1, 5, 5\) when this "
                                           "RateRounding was made"):
        rounding.round(1e-2)
    assert identical(snapshot(net), before)


@pytest.mark.parametrize("call", [RateRounding, partial(quantize_weights, rate=1e-2), partial(quantize, rate=1e-2)])
def test_other_kinds_of_outputs_are_refused(call):
    net = dense(3, 6)
    before = values(net)
    with pytest.raises(ValueError, match="outputs is 'scores'; accepted: 'logits', 'values'"):
        call(net, calibration_data=[mx.nd.ones((2, 6))], outputs="scores")
    assert all(np.array_equal(value, before[name]) for name, value in values(net).items())


@pytest.mark.parametrize("wrong", [{"outputs": "scores"}, {"seed": -1}, {"progress": 1}])
def test_what_is_for_a_rate_is_checked_without_one_too(wrong):
    net = dense(3, 6)
    before = values(net)
    with pytest.raises((TypeError, ValueError), match=next(iter(wrong))):
        quantize_weights(net, **wrong)
    assert all(np.array_equal(value, before[name]) for name, value in values(net).items())


@pytest.mark.parametrize("call", [RateRounding, partial(quantize, rate=1e-2)])
def test_outputs_that_are_all_alike_have_to_be_values(call):
    """Each sample's own number, for all classes; and an error says what is wrong with those that are all 0."""
    net, images = gluon.nn.Dense(3, in_units=6), [mx.nd.random.normal(shape=(64, 6))]
    net.initialize()
    net.weight.set_data(mx.nd.ones((3, 1)) * mx.nd.random.normal(shape=(1, 6)))
    with pytest.raises(NetworkError, match="do not differ from each other .* or outputs='values'"):
        call(net, calibration_data=images, progress=False)
    call(net, calibration_data=images, progress=False, outputs="values")
    net.weight.set_data(mx.nd.zeros((3, 6)))
    with pytest.raises(NetworkError, match="are all 0 .* accepted: 1e-30 to 1e.30$"):
        call(net, calibration_data=images, progress=False, outputs="values")


@pytest.mark.parametrize("seed", range(8))
def test_a_single_input_is_little_to_go_by_and_enough(seed):
    net = dense(3, 6, seed)
    image = mx.nd.random.normal(shape=(1, 6))
    quantize_weights(net, rate=1e-2, calibration_data=[image], progress=False)
    assert np.isfinite(net(image).asnumpy()).all()


def test_weights_that_are_not_finite_are_named():
    net = dense(3, 6)
    net[1].weight.set_data(mx.nd.full((3, 8), np.nan))
    with pytest.raises(NetworkError, match="layer 1: 24 of 24 weights are not finite"):
        quantize_weights(net, rate=1e-2, calibration_data=[mx.nd.ones((2, 6))], progress=False)


def test_a_bias_that_is_not_finite_is_named(recwarn):
    net = dense(3, 6)
    net[0].bias.data()[1] = np.inf
    with pytest.raises(NetworkError, match="parameter 0.bias has values that are NaN or infinite"):
        quantize_weights(net, rate=1e-2, calibration_data=[mx.nd.ones((2, 6))], progress=False)
    assert not len(recwarn)


def test_what_keeps_each_layer_from_being_rounded_is_said():
    net = gluon.nn.HybridSequential()
    net.add(gluon.nn.Conv2D(4, 3, groups=4, in_channels=4))
    net.initialize()
    images = mx.nd.random.normal(shape=(2, 4, 6, 6))
    for call in (quantize_weights, lambda net, rate, calibration_data, progress: quantize(
            net, calibration_data, rate=rate, progress=progress)):
        with pytest.raises(ValueError, match="can be rounded.*0: it has groups"):
            call(net, rate=0.1, calibration_data=[images], progress=False)


@pytest.mark.parametrize("power", [-90, 52])
def test_outputs_that_are_too_small_or_large_for_squares_in_single_precision_are_refused(power):
    net, images = dense(3, 6), mx.nd.random.normal(shape=(64, 6))
    net[1].weight.set_data(net[1].weight.data() * 2.0 ** power)
    before = snapshot(net)
    with pytest.raises(NetworkError, match="too large or too small, on the calibration data: their mean square is .*e"):
        quantize_weights(net, rate=1e-3, calibration_data=[images], progress=False)
    for name, value in snapshot(net).items():
        np.testing.assert_array_equal(value, before[name])


@pytest.mark.parametrize("power", [60, 100])
def test_activations_whose_squares_are_more_than_single_precision_holds_are_refused(power):
    """Though the outputs are of the usual size."""
    net, images = dense(3, 6), mx.nd.random.normal(shape=(64, 6))
    net[0].weight.set_data(net[0].weight.data() * 2.0 ** power)
    net[1].weight.set_data(net[1].weight.data() * 2.0 ** -power)
    before = snapshot(net)
    said = r"layer '\S+' reads values up to \S+e\+.* accepted: a product of the two up to about 1e15"
    with pytest.raises(NetworkError, match=said):
        quantize_weights(net, rate=1e-3, calibration_data=[images], progress=False)
    for name, value in snapshot(net).items():
        np.testing.assert_array_equal(value, before[name])


def test_a_layer_rounded_alone_costs_what_its_curvature_says_where_the_network_is_linear():
    net = gluon.nn.HybridSequential()
    net.add(gluon.nn.Dense(8, in_units=20), gluon.nn.Dense(5, in_units=8))
    mx.random.seed(0)
    net.initialize(mx.init.Normal(1))
    batches = [mx.nd.random.normal(shape=(512, 20)) for _ in range(16)]
    rounder = RateRounding(net, batches, progress=False).rounder
    for name, ratio in rounder.underestimated.items():
        assert 0.8 < ratio < 1.25, (name, ratio)


@pytest.mark.parametrize("bad", ["all", "first"])
def test_samples_that_all_have_the_same_outputs_are_refused_with_their_number(bad):
    """Errors are a share of the outputs of the first samples: of blank ones there is none."""
    net = dense(3, 6)
    for layer in net:
        layer.bias.set_data(mx.nd.zeros_like(layer.bias.data()))
    before, blank = snapshot(net), mx.nd.zeros((256, 6))
    data = [blank] if bad == "all" else [blank, mx.nd.random.normal(shape=(300, 6))]
    where = "the calibration data" if bad == "all" else "the first 256 calibration samples"
    with pytest.raises(NetworkError, match=f"do not differ from each other on {where}.*accepted: 1e-30 to 1e\\+30"):
        quantize_weights(net, rate=1e-2, calibration_data=data, progress=False)
    for name, value in snapshot(net).items():
        np.testing.assert_array_equal(value, before[name])


def test_a_rate_may_be_a_fraction():
    net, images = dense(3, 6), mx.nd.random.normal(shape=(64, 6))
    rounding = RateRounding(net, [images], progress=False)
    found = []
    for rate in (Fraction(1, 100), 0.01):
        rounding.round(rate)
        found.append(net(images).asnumpy())
    np.testing.assert_array_equal(*found)


# ---- steps of rows, and channels of like costs

def test_costs_in_other_units_are_those_of_the_matrix_in_these_units(monkeypatch):
    monkeypatch.setattr(rate_rounding, "LEAST", 0.0)
    rng = np.random.default_rng(6)
    matrix, units = correlated(rng, 30), np.exp2(rng.normal(0, 3, 30))
    found, expected = factor_of(matrix, 0.03).in_units(units), factor_of(matrix * np.outer(units, units), 0.03)
    np.testing.assert_allclose(found.cost, expected.cost, rtol=1e-3)
    ratio = units[:, None] / units
    np.testing.assert_allclose(found.feedback / ratio, expected.feedback / ratio, atol=1e-4)


def curvature_of(rng, outputs, inputs, spread):
    """A layer's of independent inputs and outputs, of which the outputs cost up to 2^spread times as much as others."""
    cost = np.exp2(rng.uniform(0, spread, outputs))
    return Curvature(np.diag(np.append(np.ones(inputs), 1.0)), np.diag(cost / cost.sum()))


@pytest.mark.parametrize("spread", [0, 3, 8])
def test_rows_that_cost_differently_take_fewer_bits_with_steps_of_their_own_as_many_as_expected(spread):
    rng = np.random.default_rng(7)
    weight, curvature = rng.normal(size=(60, 300)).astype(np.float32), curvature_of(rng, 60, 300, spread)
    factors, price = factors_of(curvature), 3e-5
    total = {}
    for per_row in (False, True):
        codes, scale, size = rounded(weight, curvature, factors, price, 1.0, per_row)
        assert scale.shape == ((60,) if per_row else ())
        lost = weight - codes * (scale[:, None] if per_row else scale)
        total[per_row] = 8 * size + curvature.error(lost) / price
    saved = saved_by_own_steps(weight, factors, price, 1.0)
    assert (spread == 0) == (saved < 1e-3 * weight.size)
    # long steps of cheap rows are chosen by what their bits cost where all steps are short, too, which saves some
    assert 0.3 * saved - 0.01 * total[False] < total[False] - total[True] < 1.2 * saved + 0.01 * total[False]


def test_scales_have_few_bits_and_rows_without_weights_or_costs_a_scale_as_well(recwarn):
    rng = np.random.default_rng(8)
    weight, curvature = rng.normal(size=(20, 40)).astype(np.float32), curvature_of(rng, 20, 40, 4)
    weight[3], weight[5] = 0, 1e-20 * weight[5]
    curvature.of_outputs[7, 7] = 0
    codes, scale, _ = rounded(weight, curvature, factors_of(curvature), 1e-6, 1.0, True)
    assert not codes[3].any() and codes[4].any() and scale.dtype == np.float32 and scale.shape == (20,)
    assert (scale > 0).all() and np.isfinite(scale).all()
    assert not (scale.view(np.uint32) & 0xFFFF).any()  # half of the bytes
    assert not [str(warning.message) for warning in recwarn]


def convolutional():
    """Layers with only what scaling a channel passes through between them, but between the last two."""
    net = gluon.nn.HybridSequential()
    net.add(gluon.nn.Conv2D(8, 3, in_channels=3, activation="relu"), gluon.nn.MaxPool2D(2),
            gluon.nn.Conv2D(10, 3, in_channels=8, use_bias=False), gluon.nn.BatchNorm(in_channels=10),
            gluon.nn.LeakyReLU(0.1), gluon.nn.Dense(12, in_units=90, activation="sigmoid"),
            gluon.nn.Dense(5, in_units=12))
    mx.random.seed(1)
    np.random.seed(1)
    net.initialize(mx.init.Normal(0.3))
    net[0].bias.set_data(mx.nd.random.normal(shape=8))
    net[3].gamma.set_data(mx.nd.random.uniform(0.1, 3, shape=10))
    net[3].running_mean.set_data(mx.nd.random.normal(shape=10))
    return net, [mx.nd.random.normal(shape=(64, 3, 12, 12)) for _ in range(4)]


def test_balanced_channels_cost_alike_and_the_network_computes_the_same(monkeypatch):
    monkeypatch.setattr(rounder_module, "WORTH", 0)
    monkeypatch.setattr(rate_rounding, "LEAST", 1e-9)  # of which costs of other units have another share
    net, batches = convolutional()
    expected, plain = net(batches[0]).asnumpy(), RateRounding(net, batches, progress=False, per_channel=False).rounder
    balanced = RateRounding(net, batches, progress=False).rounder
    assert not plain.of_own_steps and balanced.of_own_steps >= {"0", "2"}
    changed = {name for name, value in balanced.values.items() if not np.array_equal(value, plain.values[name])}
    assert changed == {"0.weight", "0.bias", "2.weight", "3.beta", "5.weight"}
    restore_snapshot(net, balanced.values)
    np.testing.assert_allclose(net(batches[0]).asnumpy(), expected, rtol=1e-4, atol=1e-4)
    for name, channels in (("2", 8), ("5", 10)):
        costs = np.log(balanced.factors[name][1].cost).reshape(channels, -1).mean(axis=1)
        before = np.log(plain.factors[name][1].cost).reshape(channels, -1).mean(axis=1)
        assert costs.std() < 0.02 * before.std() and abs(costs.mean() - before.mean()) < 0.01
    for name, found in balanced.factors.items():  # as of the network with these channels
        again = factors_of(balanced.curvatures[name])
        for part, expected_part in zip(found, again):
            np.testing.assert_allclose(part.cost, expected_part.cost, rtol=1e-3)


def test_one_scale_for_each_layer_where_it_is_asked_for_or_others_are_not_worth_their_bytes(data):
    net = gc.params.load("lenet_300_100_mnist")
    one = quantize_weights(net, rate=1e-1, calibration_data=data, progress=False, per_channel=False)
    assert all(weight["axis"] is None for weight in one.weights.values())
    net = gc.params.load("lenet_300_100_mnist")
    several = quantize_weights(net, rate=1e-1, calibration_data=data, progress=False)
    assert [len(several.weights[f"features.{number}.weight"]["scale"]) for number in (1, 2)] == [300, 100]
    net = gc.params.load("simple_cnn_mnist")
    few = quantize_weights(net, rate=1e-1, calibration_data=data, progress=False)
    assert all(weight["axis"] is None for weight in few.weights.values())


# ---- layers that make up for those before them

def test_the_equations_are_solved_for_each_row_where_it_is_free():
    rng = np.random.default_rng(0)
    squares, free = correlated(rng, 15) + 0.1 * np.eye(15), rng.random((6, 15)) < 0.5
    wanted = rng.normal(size=(6, 15)) @ squares
    found = solved(squares, wanted, free)
    assert not found[~free].any()
    for row, is_free in enumerate(free):
        exact = np.linalg.solve(squares[np.ix_(is_free, is_free)], wanted[row, is_free])
        np.testing.assert_allclose(found[row, is_free], exact, rtol=1e-2, atol=1e-2)


def two_layers(kind):
    """(layers, batches), with nothing between the layers that a change of the first could not be undone after."""
    net = gluon.nn.HybridSequential()
    if kind == "Dense":
        net.add(gluon.nn.Dense(12, in_units=12), gluon.nn.Dense(5, in_units=12))
    else:
        net.add(gluon.nn.Conv2D(12, 1, in_channels=12, use_bias=False), gluon.nn.Conv2D(5, 3, strides=2, padding=1,
                                                                                        in_channels=12))
    mx.random.seed(0)
    net.initialize(mx.init.Normal(0.5))
    return net, [mx.nd.random.normal(shape=(64, 12) if kind == "Dense" else (64, 12, 6, 6)) for _ in range(8)]


@pytest.mark.parametrize("kind", ["Dense", "Conv2D"])
def test_a_layer_makes_up_for_what_was_done_to_the_one_before_it(kind, monkeypatch):
    monkeypatch.setattr(reconstruction, "DAMPING", 1e-4)
    monkeypatch.setattr(reconstruction, "LEAST", 1e-6)
    net, batches = two_layers(kind)
    expected = [net(inputs).asnumpy() for inputs in batches]
    rounder = RateRounding(net, batches, progress=False).rounder
    first, second = rounder.names
    changed, rng = dict(rounder.values), np.random.default_rng(0)
    weight = changed[rounder.inference.weights[first]]
    mixing = np.eye(12) + 0.2 * rng.normal(size=(12, 12))
    changed[rounder.inference.weights[first]] = np.tensordot(mixing, weight, 1).astype(np.float32)
    made = reconstructed(rounder.inference, second, rounder.values, changed, rounder.rest)
    assert all(value.dtype == np.float32 and value.shape == changed[name].shape for name, value in made.items())
    errors = []
    for each in (changed, {**changed, **made}):
        restore_snapshot(net, each)
        errors.append(sum(np.square(net(inputs).asnumpy() - output).sum()
                          for inputs, output in zip(batches, expected)))
    assert errors[1] < 0.01 * errors[0]


def test_pruned_weights_stay_zero_where_a_layer_makes_up_for_others():
    net, batches = two_layers("Dense")
    masks = gc.pruning.prune_magnitude(net, 0.5)
    rounder = RateRounding(net, batches, progress=False).rounder
    first, weight = (rounder.inference.weights[name] for name in rounder.names)
    second, changed = rounder.names[1], {**rounder.values, first: 0.7 * rounder.values[first]}
    made = reconstructed(rounder.inference, second, rounder.values, changed, rounder.rest)[weight]
    pruned = rounder.values[weight] == 0
    assert np.array_equal(pruned, ~masks.kept["1.weight"]) and not made[pruned].any()
    assert (made[~pruned] != rounder.values[weight][~pruned]).all()


def test_a_layer_that_reads_large_values_makes_up_for_others_as_one_that_reads_small_ones():
    net, batches = two_layers("Dense")
    for layer in net:  # which large values would hide
        layer.bias.set_data(mx.nd.zeros_like(layer.bias.data()))
    rounder = RateRounding(net, batches, progress=False).rounder
    first, weight = (rounder.inference.weights[name] for name in rounder.names)
    found = []
    for factor in np.float32([1, 2.0 ** 70]):  # squares of 2^70 are more than single precision holds
        values = {**rounder.values, first: factor * rounder.values[first]}
        changed = {**values, first: np.float32(0.7) * values[first]}
        found.append(reconstructed(rounder.inference, rounder.names[1], values, changed, rounder.rest)[weight])
    np.testing.assert_allclose(found[1], found[0], rtol=0.01, atol=0.01 * np.abs(found[0]).max())
    assert not np.allclose(found[0], rounder.values[weight], rtol=0.1)


def test_a_layer_of_too_few_samples_stays_as_it_is():
    net, batches = two_layers("Dense")
    rounder = RateRounding(net, batches, progress=False).rounder
    arguments = rounder.inference, rounder.names[1], rounder.values, rounder.values
    inputs = 12 + 1  # with the bias
    few, enough = (mx.nd.random.normal(shape=(rows, 12)) for rows in (2 * inputs - 1, 2 * inputs))
    assert reconstructed(*arguments, [(few,)]) == {} and reconstructed(*arguments, [(enough,)])


@pytest.mark.parametrize(("sizes", "measured", "rest"), [
    ((64,) * 8, 256, 256), ((1000,), 256, 744), ((200, 200), 256, 144), ((50,) * 10, 300, 200), ((300,), 300, 0),
    ((64,) * 5, 256, 0), ((10,), 10, 0)])
def test_samples_are_for_measuring_first_and_for_making_up_where_enough_are_left(sizes, measured, rest):
    batches = [(mx.nd.ones((size, 2)), mx.nd.ones((size, 3))) for size in sizes]
    parts = divided(batches)
    assert [samples_in(part) for part in parts] == [measured, rest]
    assert all(len(first) == len(second) for part in parts for first, second in part)


def test_a_layer_that_reads_one_of_two_inputs_makes_up_without_a_word(capfd, recwarn):
    class Two(gluon.HybridBlock):
        def __init__(self):
            super().__init__()
            with self.name_scope():
                self.first, self.second = gluon.nn.Dense(6, in_units=4), gluon.nn.Dense(6, in_units=3)
                self.output = gluon.nn.Dense(5, in_units=12)

        def hybrid_forward(self, F, x, y):
            return self.output(F.concat(self.first(x), self.second(y), dim=1))

    net = Two()
    net.initialize(mx.init.Xavier())
    data = [((mx.nd.random.normal(shape=(64, 4)), mx.nd.random.normal(shape=(64, 3))), mx.nd.zeros(64))] * 8
    RateRounding(net, data, progress=False).round(1e-2)
    assert capfd.readouterr() == ("", "")
    assert not [str(warning.message) for warning in recwarn if "is not used" in str(warning.message)]


def test_layers_that_make_up_for_those_before_them_lose_less_on_other_samples():
    rng, net = np.random.default_rng(0), gluon.nn.HybridSequential()
    for _ in range(3):
        net.add(gluon.nn.Dense(40, activation="relu", in_units=40))
    net.add(gluon.nn.Dense(10, in_units=40))
    mx.random.seed(0)
    net.initialize(mx.init.Xavier())
    mixed = rng.normal(size=(20, 40))
    batches = [mx.nd.array(rng.normal(size=(128, 20)) @ mixed) for _ in range(24)]
    rounder = RateRounding(net, batches[:20], progress=False).rounder
    new, original = batches[20:], [net(inputs).asnumpy() for inputs in batches[20:]]
    lost = []
    for reconstruct in (False, True):
        restore_snapshot(net, rounder.at_price(1e-3 * rounder.unit, 2.0, reconstruct).values)
        lost.append(sum(np.square(net(inputs).asnumpy() - output).sum() for inputs, output in zip(new, original)))
    assert lost[1] < 0.8 * lost[0]
