"""Ranges of activations: against direct computations on all data at once."""
import math

import gluon_compress  # noqa: F401

import mxnet as mx  # noqa: I001
import numpy as np
import pytest
from gluon_compress.quantization import RangeObserver
from gluon_compress.quantization.calibration.range_observer import BINS, METHODS, divergences
from hypothesis import example, given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

LARGEST = float(np.finfo(np.float32).max)
FLOATS = st.one_of(st.floats(-LARGEST, LARGEST, width=32), st.floats(-1, 1, width=32), st.just(0.0))
BATCHES = st.lists(hnp.arrays(np.float32, st.integers(1, 6), elements=FLOATS), min_size=1, max_size=6)


def observed(method, *arrays, **arguments):
    observer = RangeObserver(method, **arguments)
    for array in arrays:
        observer.observe(array)
    return observer


def samples(kind, count=20_000):
    rng = np.random.default_rng(0)
    return {"normal": rng.normal(size=count), "relu": np.maximum(rng.normal(size=count), 0),
            "heavy": rng.standard_t(2, size=count), "laplace": rng.laplace(size=count),
            "relu6": np.clip(rng.normal(3, 3, size=count), 0, 6)}[kind].astype(np.float32)


KINDS = ("normal", "relu", "heavy", "laplace", "relu6")


def quantized(x, threshold, signed, bits=8):
    """The definition: codes of ``bits`` bits, T being the largest."""
    largest = 2 ** (bits - 1) - 1 if signed else 2 ** bits - 1
    scale = threshold / largest
    return np.clip(np.rint(x / scale), -largest if signed else 0, largest) * scale


@given(BATCHES)
@example([np.zeros(3, np.float32), np.float32([-1e-45])])
def test_minimum_maximum_count_and_sign(batches):
    everything = np.concatenate(batches).astype(np.float64)
    for method in METHODS:
        observer = observed(method, *batches)
        assert (observer.minimum, observer.maximum) == (everything.min(), everything.max())
        assert observer.count == everything.size
        assert observer.signed is bool((everything < 0).any())
        largest = np.abs(everything).max()
        threshold = observer.threshold()
        assert type(threshold) is float
        assert threshold == 1 if largest == 0 else 0 < threshold <= max(largest, 2.0 ** -118)
        assert np.float32(threshold / 255) >= np.finfo(np.float32).tiny
        if method == "minmax":
            assert threshold == (max(largest, 2.0 ** -118) if largest else 1)


@given(BATCHES, st.randoms(use_true_random=False), st.sampled_from(list(METHODS)), st.integers(2, 8))
@example([np.float32([1, 0]), np.float32([2]), np.float32([4, 4.0001]), np.float32([1e-30, -3e38])], None, "mse", 8)
def test_neither_order_nor_size_of_the_batches_matters(batches, random, method, bits):
    shuffled = list(reversed(batches))
    if random is not None:
        random.shuffle(shuffled)
    expected = observed(method, *batches, bits=bits)
    for others in (shuffled, [np.concatenate(batches)], np.concatenate(shuffled)[:, None]):
        other = observed(method, *others, bits=bits)
        np.testing.assert_array_equal(other._histogram, expected._histogram)
        assert other.threshold() == expected.threshold()
        assert other.threshold(signed=True) == expected.threshold(signed=True)


@given(BATCHES)
@example([np.float32([1]), np.float32([2]), np.float32([2, 4, 8])])  # on the edges of bins
def test_the_histogram_is_numpys(batches):
    observer = observed("mse", *batches)
    magnitudes = np.abs(np.concatenate(batches).astype(np.float64))
    largest = magnitudes.max()
    if largest <= 2.0 ** -118:
        return
    top = 2.0 ** (math.floor(math.log2(largest)) + 1)
    expected, _ = np.histogram(magnitudes[magnitudes > 0], BINS, (0, top))
    np.testing.assert_array_equal(observer._histogram, expected)


@given(st.integers(2, 8), st.sampled_from(list(METHODS)), st.sampled_from(KINDS), st.integers(-60, 60))
def test_values_times_a_power_of_two_have_that_many_times_the_threshold(bits, method, kind, power):
    x = samples(kind, 500)
    expected = observed(method, x, bits=bits).threshold() * 2.0 ** power
    assert observed(method, x * np.float32(2.0 ** power), bits=bits).threshold() == pytest.approx(expected, rel=1e-12)


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("bits", range(2, 9))
def test_one_value_is_its_own_threshold(method, bits):
    for value in (1.0, 2.0, 3.7, 1e-30, -5.5, 3e38, LARGEST):
        assert observed(method, [value] * 3, [0], bits=bits).threshold() == pytest.approx(abs(value), rel=1e-6)


@pytest.mark.parametrize("percentile", [0.001, 10, 50, 99, 99.9, 99.99, 100])
@pytest.mark.parametrize("kind", KINDS)
def test_percentile_is_that_of_the_sorted_values_to_a_bin_s_width(kind, percentile):
    x = samples(kind, 10_000)
    magnitudes = np.sort(np.abs(x))
    exact = magnitudes[math.ceil(round(len(x) * percentile / 100, 6)) - 1]
    exact = exact or magnitudes[-1]  # the percentile of many zeros is no threshold
    threshold = observed("percentile", *np.split(x, 10), percentile=percentile).threshold()
    assert exact <= threshold <= exact + magnitudes[-1] / (BINS / 2)


def test_percentile_counts_exactly():
    """9999 of 10000 are 99.99 percent, although 99.99 / 100 * 10000 is not 9999 in doubles for every such number."""
    x = np.ones(10_000)
    x[0] = 100
    assert observed("percentile", x, percentile=99.99).threshold() < 1.02
    x[1] = 100
    assert observed("percentile", x, percentile=99.99).threshold() == 100


@pytest.mark.parametrize("bits", [2, 3, 4, 6, 8])
@pytest.mark.parametrize("kind", KINDS)
def test_mse_is_as_good_as_the_best_of_a_fine_grid(kind, bits):
    x = samples(kind, 5000).astype(np.float64)
    observer = observed("mse", *np.split(x, 5), bits=bits)

    def error(threshold):
        return np.square(quantized(x, threshold, observer.signed, bits) - x).mean()

    largest = np.abs(x).max()
    best = min(map(error, np.linspace(largest / 1000, largest, 1000)))
    ours = error(observer.threshold())
    assert ours <= 1.02 * best
    assert ours <= error(largest) * (1 + 1e-2)


def test_mse_gives_up_an_outlier_and_keeps_a_crowd():
    x = samples("normal")
    assert observed("mse", x, [40], bits=4).threshold() < 5
    assert observed("mse", x, [40] * 2000, bits=4).threshold() > 25


def slow_divergence(counts, levels, i):
    """Migacz's slides, word by word, in plain loops."""
    reference = [int(count) for count in counts[:i]]
    reference[i - 1] += int(sum(counts[i:]))  # outliers
    groups = [[] for _ in range(levels)]
    for j in range(i):
        groups[j * levels // i].append(j)
    quantized = [0.0] * i
    for group in groups:
        filled = [j for j in group if counts[j]]
        mass = sum(int(counts[j]) for j in group)
        for j in filled:
            quantized[j] = mass / len(filled)
    divergence, reference_mass, quantized_mass = 0.0, sum(reference), sum(quantized)
    for p, q in zip(reference, quantized):
        if p:
            if not q:
                return math.inf
            divergence += p / reference_mass * math.log(p / reference_mass / (q / quantized_mass))
    return divergence


@given(hnp.arrays(np.int64, st.integers(4, 40), elements=st.one_of(st.just(0), st.integers(0, 1000))),
       st.integers(2, 8))
@example(np.array([0, 0, 0, 5, 0, 0, 9]), 2)
@example(np.array([0, 0, 0, 0, 0, 0, 9]), 4)
@example(np.array([10 ** 12, 1, 0, 10 ** 12, 1, 0, 1]), 2)
def test_divergences_are_the_slides(counts, levels):
    counts[-1] += 1
    levels = min(levels, len(counts))
    candidates = np.arange(levels, len(counts) + 1)
    expected = [slow_divergence(counts, levels, i) for i in candidates]
    np.testing.assert_allclose(divergences(counts, levels, candidates), expected, rtol=1e-9, atol=1e-9)


@pytest.mark.parametrize("bits", [4, 8])
@pytest.mark.parametrize("kind", KINDS)
def test_entropy_is_the_least_divergence_of_all_thresholds(kind, bits):
    x = samples(kind, 3000)
    observer = observed("entropy", *np.split(x, 3), bits=bits)
    magnitudes = np.abs(x[x != 0].astype(np.float64))
    top = 2.0 ** (math.floor(math.log2(magnitudes.max())) + 1)
    counts, edges = np.histogram(magnitudes, BINS, (0, top))
    counts = counts[:np.flatnonzero(counts)[-1] + 1]
    levels = 2 ** (bits - 1) if observer.signed else 2 ** bits
    threshold = observer.threshold()
    chosen = len(counts) if threshold == magnitudes.max() else np.flatnonzero(edges == threshold)[0]
    lowest = slow_divergence(counts, levels, chosen)
    step = len(counts) // 1024  # that of the search
    candidates = np.arange(len(counts), max(128, levels) - 1, -step)
    for i in np.random.default_rng(1).choice(candidates, 30):
        assert lowest <= slow_divergence(counts, levels, int(i)) + 1e-8


def test_entropy_clips_a_tail_but_not_a_uniform_distribution():
    x = samples("normal", 200_000)
    assert observed("entropy", x, [30]).threshold() < 7
    uniform = np.random.default_rng(0).uniform(0, 5, 200_000)
    assert observed("entropy", uniform).threshold() > 4.9


def test_entropy_keeps_what_is_rarer_than_a_plain_background():
    rng = np.random.default_rng(0)
    x = np.where(rng.random(20_000) < 0.8, -0.42, rng.uniform(-0.42, 2.8, 20_000)).astype(np.float32)  # MNIST's images
    threshold = observed("entropy", x).threshold()
    assert np.mean(np.abs(x) > threshold) <= 0.01


def test_zeros_do_not_change_what_entropy_and_mse_choose():
    x = samples("relu")
    for method in ("entropy", "mse", "minmax"):
        assert observed(method, x, np.zeros(10 ** 6)).threshold() == observed(method, x[x > 0]).threshold()


def test_signed_codes_have_fewer_levels():
    observer = observed("mse", samples("relu"), bits=4)
    assert not observer.signed
    assert observer.threshold() == observer.threshold(signed=False)
    assert observer.threshold(signed=True) < observer.threshold(signed=False)
    assert observer.threshold(signed=True) == observed("mse", samples("relu"), bits=4).threshold(signed=np.True_)
    negated = observed("mse", -samples("relu"), bits=4)
    assert negated.threshold() == observer.threshold(signed=True)


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("dtype", [np.float16, np.float32, np.float64, np.uint8, np.int8, np.int64, "NDArray"])
def test_types_of_numbers(method, dtype):
    x = np.arange(0, 100).reshape(2, 5, 10)
    expected = observed(method, x.astype(np.float64)).threshold()
    array = mx.nd.array(x) if dtype == "NDArray" else x.astype(dtype)
    observer = observed(method, array, array[0], array[1])
    assert observer.count == 200
    assert observer.threshold() == expected
    transposed = array.T if dtype == "NDArray" else np.asfortranarray(array)[:, ::-1]
    assert observed(method, transposed).threshold() == expected


def test_memory_does_not_grow():
    observer = RangeObserver("mse")
    for power in range(-30, 30):
        observer.observe(np.full(100, 2.0 ** power))
        assert observer._histogram.shape == (BINS,)
    assert observer._histogram.sum() == observer.count == 6000
    assert not any(isinstance(value, np.ndarray) and value.size > BINS for value in vars(observer).values())


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize(("array", "error", "message"), [
    ([1, np.nan], ValueError, "the activation holds nan; accepted: finite"),
    ([np.inf, 1], ValueError, "holds inf"),
    ([-np.inf, np.inf], ValueError, "holds -inf"),
    (mx.nd.array([1, np.nan]), ValueError, "holds nan"),
    ([1e39], ValueError, r"holds numbers up to 1e\+39"),
    ([-1e39, 1], ValueError, r"holds numbers up to 1e\+39"),
    ([], ValueError, "is empty"),
    ([True], TypeError, "bool; accepted: real numbers"),
    ([1j], TypeError, "complex128"),
    (["a"], TypeError, "accepted: real numbers"),
    (None, TypeError, "accepted: real numbers"),
])
def test_a_refused_array_counts_for_nothing(method, array, error, message):
    observer = observed(method, [1.0, -2.0])
    before = {name: np.copy(value) for name, value in vars(observer).items()}
    with pytest.raises(error, match=message):
        observer.observe(array)
    assert all(np.array_equal(before[name], value) for name, value in vars(observer).items())
    assert observer.threshold() > 0


@pytest.mark.parametrize(("arguments", "error", "message"), [
    ({"method": "max"}, ValueError, "method is 'max'; accepted: 'minmax', 'percentile', 'entropy', 'mse'"),
    ({"method": None}, ValueError, "method is None"),
    ({"percentile": 0}, ValueError, "percentile is 0; accepted: .* more than 0"),
    ({"percentile": 100.1}, ValueError, "percentile is 100.1"),
    ({"percentile": "99"}, TypeError, "percentile is '99'"),
    ({"bits": 1}, ValueError, "bits is 1"),
    ({"bits": 9}, ValueError, "bits is 9"),
    ({"bits": 8.0}, TypeError, "bits is 8.0"),
])
def test_bad_arguments_are_refused(arguments, error, message):
    with pytest.raises(error, match=message):
        RangeObserver(**arguments)


@pytest.mark.parametrize("method", METHODS)
def test_a_threshold_needs_values_and_the_right_sign(method):
    with pytest.raises(ValueError, match="nothing was observed"):
        RangeObserver(method).threshold()
    observer = observed(method, [1, -3])
    with pytest.raises(ValueError, match="signed is False, but there were values down to -3"):
        observer.threshold(signed=False)
    with pytest.raises(TypeError, match="signed is 1"):
        observer.threshold(signed=1)
