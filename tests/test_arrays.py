"""The arithmetic of symmetric quantization against exact fractions."""
import math
from fractions import Fraction

import gluon_compress  # noqa: F401

import mxnet as mx  # noqa: I001
import numpy as np
import pytest
from gluon_compress.quantization import dequantize_array, quantize_array
from gluon_compress.quantization.arithmetic.arrays import largest_code
from gluon_compress.quantization.arithmetic.clipping import CLIPS, best_fractions, percentile_rank
from hypothesis import example, given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

BITS = st.integers(2, 8)
FLOAT32_MAX = float(np.finfo(np.float32).max)
DTYPES = st.sampled_from([np.float16, np.float32, np.float64, np.int8, np.uint8, np.int64, np.uint64])
SHAPES = hnp.array_shapes(min_dims=0, max_dims=4, min_side=1, max_side=4)


@st.composite
def arrays(draw, dtype=None, shape=SHAPES):
    dtype = np.dtype(draw(DTYPES) if dtype is None else dtype)
    elements = None
    if dtype.kind == "f":
        limit = min(FLOAT32_MAX, float(np.finfo(dtype).max))
        width = dtype.itemsize * 8
        elements = st.one_of(st.floats(-limit, limit, width=width), st.just(0.0),
                             st.floats(-1, 1, width=width))
    return draw(hnp.arrays(dtype, shape, elements=elements))


@st.composite
def arrays_with_axis(draw):
    x = draw(arrays())
    return x, draw(st.sampled_from([None, *range(-x.ndim, x.ndim)]))


def slices(x, axis):
    return [x] if axis is None else list(np.moveaxis(x, axis, 0))


def check_exactly(values, codes, scale, bits):
    """Compare with the definition, in exact fractions."""
    q_max, scale = 2 ** (bits - 1) - 1, Fraction(float(scale))
    values = [Fraction(value) for value in values.ravel().tolist()]
    largest = max(map(abs, values))
    assert scale > 0
    if largest == 0:
        assert scale == 1
    tiny = Fraction(float(np.finfo(np.float32).smallest_subnormal))
    assert largest == 0 or abs(scale - largest / q_max) <= max(largest / q_max / 2 ** 22, tiny)
    for value, code in zip(values, codes.ravel().tolist()):
        assert -q_max <= code <= q_max
        assert abs(value - code * scale) <= scale / 2
        if abs(value / scale - round(value / scale)) < Fraction(49, 100):  # no tie, also after rounding to doubles
            assert code == max(-q_max, min(q_max, round(value / scale)))


@given(arrays_with_axis(), BITS)
@example((np.float32([FLOAT32_MAX, -1]), None), 8)
@example((np.float32([1e-45, -1e-45, 0]), 0), 8)
@example((np.float32([190 * 1.4e-45]), None), 8)  # the scale, 1.5 of float32's smallest number, must not be 1
@example((np.float64([5e-324, 0]), None), 2)
@example((np.zeros((2, 3)), 1), 4)
@example((np.int64([-2 ** 63, 2 ** 63 - 1]), None), 8)
@example((np.array(3.0), None), 8)
def test_codes_and_scale_are_those_of_the_definition(x_and_axis, bits):
    x, axis = x_and_axis
    before = x.copy()
    codes, scale = quantize_array(x, bits, axis)
    np.testing.assert_array_equal(x, before)
    assert codes.dtype == np.int8
    assert codes.shape == x.shape
    assert scale.dtype == np.float32
    assert scale.shape == (() if axis is None else (x.shape[axis],))
    for values, some_codes, its_scale in zip(slices(x, axis), slices(codes, axis), np.atleast_1d(scale)):
        check_exactly(values, some_codes, its_scale, bits)


@given(arrays_with_axis(), BITS)
@example((np.float32([math.ldexp(8388672 + 2 ** 22, -40)]) * 127, None), 8)
@example((np.float32([FLOAT32_MAX]), None), 8)
def test_quantizing_again_changes_nothing(x_and_axis, bits):
    x, axis = x_and_axis
    codes, scale = quantize_array(x, bits, axis)
    rounded = dequantize_array(codes, scale, axis)
    assert np.isfinite(rounded).all()
    codes_again, scale_again = quantize_array(rounded, bits, axis)
    np.testing.assert_array_equal(codes_again, codes)
    assert dequantize_array(codes_again, scale_again, axis).tobytes() == rounded.tobytes()


@pytest.mark.parametrize("bits", range(2, 9))
def test_quantizing_again_changes_nothing_for_any_mantissa(bits):
    """Scales of all kinds: one step of the mantissa after the other would be 8 million, so random ones."""
    x = np.random.default_rng(bits).uniform(1, 2, size=(100_000, 1)).astype(np.float32)
    codes, scale = quantize_array(x, bits, axis=0)
    rounded = dequantize_array(codes, scale, axis=0)
    assert (quantize_array(rounded, bits, axis=0)[1] == scale).all()


@given(arrays(np.float32), BITS)
def test_negated_numbers_have_negated_codes(x, bits):
    codes, scale = quantize_array(x, bits)
    negated, same = quantize_array(-x, bits)
    np.testing.assert_array_equal(negated, -codes)
    assert same == scale


@given(arrays(np.float32, hnp.array_shapes(min_dims=1, max_dims=4, max_side=4)), BITS, st.data())
def test_each_index_of_the_axis_is_quantized_by_itself(x, bits, data):
    axis = data.draw(st.integers(-x.ndim, x.ndim - 1))
    codes, scale = quantize_array(x, bits, axis)
    for index, part in enumerate(slices(x, axis)):
        alone, its_scale = quantize_array(part, bits)
        np.testing.assert_array_equal(slices(codes, axis)[index], alone)
        assert scale[index] == its_scale


def test_the_docstring_s_numbers():
    codes, scale = quantize_array(np.array([-1.0, 0.5, 0.0]))
    assert codes.tolist() == [-127, 64, 0]
    assert scale == np.float32(1 / 127)
    np.testing.assert_array_equal(dequantize_array(codes, scale), np.float32([-127, 64, 0]) * scale)


def test_largest_code():
    assert [largest_code(bits) for bits in range(2, 9)] == [1, 3, 7, 15, 31, 63, 127]


def test_two_bits_are_a_ternary_network():
    assert quantize_array([-3.0, -1.4, 0, 1.6, 3], bits=2)[0].tolist() == [-1, 0, 0, 1, 1]


def test_lists_and_ndarrays_are_arrays():
    assert quantize_array([1, -2])[0].tolist() == quantize_array(mx.nd.array([1, -2]))[0].tolist() == [64, -127]


@pytest.mark.parametrize(("x", "error", "message"), [
    ([1, np.nan], ValueError, "x holds nan; accepted: finite"),
    ([-np.inf, 1], ValueError, "x holds -inf"),
    ([], ValueError, "x is empty"),
    (np.zeros((3, 0)), ValueError, "x is empty"),
    ([1j], TypeError, "complex128; accepted: real numbers"),
    ([True, False], TypeError, "bool; accepted: real numbers"),
    (["a"], TypeError, "accepted: real numbers"),
    ([None], TypeError, "object; accepted: real numbers"),
    (None, TypeError, "object; accepted: real numbers"),
    ([1e39, 0], ValueError, r"x holds numbers up to 1e\+39; accepted: up to 3.4"),
])
def test_other_content_is_refused(x, error, message):
    with pytest.raises(error, match=message):
        quantize_array(x)


@pytest.mark.parametrize(("arguments", "error", "message"), [
    ({"bits": 1}, ValueError, "bits is 1; accepted: .*at least 2 and at most 8"),
    ({"bits": 9}, ValueError, "bits is 9"),
    ({"bits": 8.0}, TypeError, "bits is 8.0; accepted: an integer"),
    ({"bits": True}, TypeError, "bits is True"),
    ({"axis": 2}, ValueError, "axis is 2; accepted: .*at least -2 and at most 1"),
    ({"axis": -3}, ValueError, "axis is -3"),
    ({"axis": 0.0}, TypeError, "axis is 0.0"),
    ({"axis": (0, 1)}, TypeError, r"axis is \(0, 1\)"),
    ({"clip": "kl"}, ValueError, "clip is 'kl'; accepted: 'max', 'percentile', 'mse'"),
    ({"clip": None}, ValueError, "clip is None"),
    ({"percentile": 0}, ValueError, "percentile is 0; accepted: .*more than 0 and at most 100"),
    ({"percentile": 100.5}, ValueError, "percentile is 100.5"),
    ({"percentile": True}, TypeError, "percentile is True"),
    ({"percentile": np.nan}, ValueError, "percentile is nan"),
])
def test_other_arguments_are_refused(arguments, error, message):
    with pytest.raises(error, match=message):
        quantize_array(np.ones((2, 3)), **arguments)


@pytest.mark.parametrize(("codes", "scale", "axis", "error", "message"), [
    (np.ones((2, 3), np.int8), [1.0, 2.0], None, ValueError, r"scale has shape \(2,\); accepted: \(\)"),
    (np.ones((2, 3), np.int8), 1.0, 0, ValueError, r"scale has shape \(\); accepted: \(2,\)"),
    (np.ones((2, 3), np.int8), [1.0, 2.0], 1, ValueError, r"accepted: \(3,\).*axis=1"),
    (np.ones((2, 3), np.int8), [1.0, 2.0], 2, ValueError, "axis is 2"),
    (np.ones((2, 3)), 1.0, None, TypeError, "codes have dtype float64; accepted: integers"),
])
def test_dequantize_checks_its_arguments(codes, scale, axis, error, message):
    with pytest.raises(error, match=message):
        dequantize_array(codes, scale, axis)


def test_dequantize_multiplies():
    codes = np.int8([[1, -2], [3, 127]])
    np.testing.assert_array_equal(dequantize_array(codes, 0.5), [[0.5, -1], [1.5, 63.5]])
    np.testing.assert_array_equal(dequantize_array(codes, [0.5, 2], axis=-1), [[0.5, -4], [1.5, 254]])
    np.testing.assert_array_equal(dequantize_array(codes, [0.5, 2], axis=0), [[0.5, -1], [6, 254]])
    assert dequantize_array(codes, 0.5).dtype == np.float32


def squared_error(x, codes, scale, axis):
    """Sum of the squared errors of each scale, in doubles."""
    error = np.square(dequantize_array(codes, scale, axis) - np.asarray(x, np.float64))
    return np.array([part.sum() for part in slices(error, axis)])


@given(arrays_with_axis(), BITS, st.sampled_from(["percentile", "mse"]), st.sampled_from([1, 50, 75.5, 99.9, 100]))
@example((np.float32([FLOAT32_MAX, 1, 1, 1, 1]), None), 2, "mse", 99.9)
@example((np.float32([1e-45, -1e-45, 0, 3e-45]), 0), 8, "percentile", 50)
@example((np.float64([5e-324, 0]), None), 2, "mse", 99.9)
@example((np.zeros((2, 3)), -1), 4, "mse", 99.9)
@example((np.zeros((2, 3)), None), 4, "percentile", 99.9)
@example((np.array(-3.0), None), 8, "percentile", 1)
@example((np.int64([-2 ** 63, 2 ** 63 - 1, 0, 5]), None), 8, "mse", 99.9)
def test_clipped_codes_are_those_of_the_definition(x_and_axis, bits, clip, percentile):
    x, axis = x_and_axis
    before, q_max = x.copy(), largest_code(bits)
    codes, scale = quantize_array(x, bits, axis, clip, percentile)
    np.testing.assert_array_equal(x, before)
    assert (codes.dtype, codes.shape, scale.dtype) == (np.int8, x.shape, np.float32)
    assert scale.shape == (() if axis is None else (x.shape[axis],))
    for values, some_codes, its_scale in zip(slices(x, axis), slices(codes, axis), np.atleast_1d(scale)):
        values, its_scale = values.ravel().tolist(), Fraction(float(its_scale))
        for value, code in zip(values, some_codes.ravel().tolist()):
            ratio = Fraction(value) / its_scale
            assert abs(code) <= q_max
            assert abs(code - max(-q_max, min(q_max, ratio))) <= Fraction(50001, 100000)
        if max(map(abs, values)) > 1e-36:
            assert np.abs(some_codes).max() == q_max
        if not any(values):
            assert its_scale == 1


@given(arrays_with_axis(), BITS, st.sampled_from(CLIPS), st.sampled_from([1, 50, 99.9, 100]))
@example((np.float32([190 * 1.4e-45, 1e-45]), None), 8, "percentile", 50)
def test_quantizing_what_was_clipped_again_changes_nothing(x_and_axis, bits, clip, percentile):
    """Neither in the same way, nor with "max": integer kernels find the scale from the largest weight."""
    x, axis = x_and_axis
    codes, scale = quantize_array(x, bits, axis, clip, percentile)
    rounded = dequantize_array(codes, scale, axis)
    assert np.isfinite(rounded).all()
    for arguments in ({}, {"clip": clip, "percentile": percentile}):
        codes_again, scale_again = quantize_array(rounded, bits, axis, **arguments)
        assert dequantize_array(codes_again, scale_again, axis).tobytes() == rounded.tobytes()
        for largest, ours, theirs in zip(map(np.max, slices(np.abs(rounded), axis)), np.atleast_1d(scale),
                                         np.atleast_1d(scale_again)):
            assert ours == theirs or largest < 1e-36 or not largest


@given(arrays_with_axis(), BITS)
@example((np.float32([1, 0.49, 0.49, 0.49]), None), 2)
def test_mse_is_never_worse_than_max(x_and_axis, bits):
    x, axis = x_and_axis
    clipped, plain = (squared_error(x, *quantize_array(x, bits, axis, clip), axis) for clip in ("mse", "max"))
    assert (clipped <= plain * (1 + 1e-12)).all()


@pytest.mark.parametrize("bits", range(2, 9))
@pytest.mark.parametrize("kind", ["normal", "laplace", "heavy", "uniform", "outlier", "sparse", "few"])
def test_mse_is_as_good_as_the_best_of_a_fine_grid(kind, bits):
    rng = np.random.default_rng(0)
    x = {"normal": rng.normal(size=(3, 2000)), "laplace": rng.laplace(size=(3, 2000)),
         "heavy": rng.standard_t(2, size=(3, 2000)), "uniform": rng.uniform(-1, 1, (3, 2000)),
         "outlier": np.append(rng.normal(size=(3, 1999)), [[1000]] * 3, axis=1),
         "sparse": rng.normal(size=(3, 2000)) * (rng.random((3, 2000)) < 0.01), "few": rng.normal(size=(3, 9))}[kind]
    ours = squared_error(x, *quantize_array(x, bits, 0, "mse"), 0)
    q_max = largest_code(bits)
    for row, error in zip(x, ours):
        largest = np.abs(row).max()
        best = np.inf
        for threshold in np.append(np.linspace(0, largest, 2000)[1:], np.geomspace(largest / 2000, largest, 200)):
            scale = threshold / q_max
            codes = np.clip(np.rint(row / scale), -q_max, q_max)
            best = min(best, np.square(codes * scale - row).sum())
        assert error <= best * (1.1 if kind in ("few", "sparse") else 1.02)


@pytest.mark.parametrize("percentile", [0.1, 10, 50, 90, 99, 99.9, 100, Fraction(200, 3)])
@pytest.mark.parametrize("size", [1, 2, 3, 9, 10, 999, 1000, 1001])
def test_percentile_clips_as_many_as_it_says(size, percentile):
    x = np.random.default_rng(size).permutation(np.arange(1, size + 1)) * np.where(np.arange(size) % 2, 1, -1)
    exact = Fraction(str(percentile)) * size / 100
    threshold = next(value for value in range(1, size + 1) if value >= exact)  # as many numbers are at most that
    _, scale = quantize_array(x, clip="percentile", percentile=percentile)
    np.testing.assert_allclose(scale * 127, threshold, rtol=1e-6)


def test_percentile_of_each_channel_by_itself():
    x = np.random.default_rng(0).normal(size=(4, 500, 3))
    for axis in range(-3, 3):
        codes, scale = quantize_array(x, 5, axis, "percentile", 95)
        for index, part in enumerate(slices(x, axis)):
            alone, its_scale = quantize_array(part, 5, clip="percentile", percentile=95)
            np.testing.assert_array_equal(slices(codes, axis)[index], alone)
            assert scale[index] == its_scale
            threshold = np.quantile(np.abs(part), 0.95, method="inverted_cdf")
            np.testing.assert_allclose(its_scale, threshold / 15, rtol=1e-6)


def test_a_percentile_of_zero_is_no_threshold():
    x = np.zeros(10_000)
    x[:3] = 5, -2, 1
    codes, scale = quantize_array(x, clip="percentile", percentile=99.9)
    assert codes[:3].tolist() == [127, -51, 25]
    assert scale == np.float32(5 / 127)


def test_rank_is_exact():
    ranks = [percentile_rank(*each) for each in ((1000, 99.9), (999, 99.9), (10 ** 12, 99.99), (1, 0.001))]
    assert ranks == [999, 999, 9999 * 10 ** 8, 1]


def test_mse_of_large_arrays_is_that_of_their_parts():
    """More columns than are worked on at a time."""
    x = np.random.default_rng(0).normal(size=(2, 300_000)).astype(np.float32)
    counts = np.random.default_rng(1).integers(0, 3, 300_000)
    together = best_fractions(np.abs(x) / 6, 7, counts)
    for row, fraction in zip(x, together):
        assert best_fractions(np.repeat(np.abs(row) / 6, counts)[None], 7) == pytest.approx(fraction, rel=1e-2)
