"""Checks of lab 2: quantize."""
import gluon_compress  # before mxnet  # noqa: F401
import mxnet as mx
import numpy as np
from mxnet.gluon import nn

from checking import Wrong, as_array, close, task, untouched

WEIGHT = np.array([[0.5, -1.27, 0.33], [0.1, 0.0, -0.66]])


def farthest(found, expected):
    """The index of the number that is farthest from right: a sentence has to name one that is wrong."""
    off = np.abs(np.asarray(found, np.float64) - expected)
    return tuple(int(i) for i in np.unravel_index(off.argmax(), off.shape))


@task("2.1")
def check_scale_of(scale_of):
    for bits, q_max in ((8, 127), (3, 3)):
        found = float(as_array(scale_of(WEIGHT.copy(), bits), (), "scale"))
        if close(found, 1.27 / q_max):
            continue
        for name, value in {"scale_unsigned": 1.27 / (2 ** bits - 1), "scale_no_abs": 0.5 / q_max,
                            "scale_128": 1.27 / 2 ** (bits - 1), "scale_inverse": q_max / 1.27}.items():
            if close(found, value):
                raise Wrong(name, bits=bits, q_max=q_max, levels=2 ** (bits + 1) - 1)
        raise Wrong("scale_other", found=f"{found:.5f}", expected=f"{1.27 / q_max:.5f}", bits=bits)
    with np.errstate(all="ignore"):
        zero = scale_of(np.zeros((2, 2)), 8)
    if zero is None:
        raise Wrong("scale_zero_nothing")
    if not np.isfinite(zero) or zero <= 0:
        raise Wrong("scale_zero", found=f"{float(zero):g}")


@task("2.2")
def check_codes_of(codes_of):
    values = np.array([0.0, 0.26, -0.26, 0.74, 1.0, -1.0, 40.0, -40.0])
    result = codes_of(values.copy(), 0.1, 8)
    if isinstance(result, np.ndarray) and result.dtype != np.int8:
        raise Wrong("codes_type", kind=str(result.dtype))
    found = as_array(result, values.shape, "codes")
    expected = np.clip(np.rint(values / 0.1), -127, 127)
    if np.array_equal(found, expected):
        return check_few_bits(codes_of)
    if np.array_equal(found[:6], (values[:6] / 0.1).astype(np.int8)):
        raise Wrong("codes_cut", found=int(found[1]))
    if np.array_equal(found[:6], np.floor(values[:6] / 0.1)):
        raise Wrong("codes_floor", found=int(found[2]))
    if np.array_equal(found[:6], expected[:6]):
        raise Wrong("codes_128" if found[7] == -128 and found[6] == 127 else "codes_wrap", found=int(found[6]))
    wrong = farthest(found, expected)
    raise Wrong("codes_other", value=f"{values[wrong]:g}", found=f"{found[wrong]:g}", expected=int(expected[wrong]))


def check_few_bits(codes_of):
    found = as_array(codes_of(np.array([0.9, -0.9]), 0.1, 3), (2,), "codes")
    if found.tolist() != [3, -3]:
        raise Wrong("codes_bits", found=found.tolist())


CONVOLUTION = np.array([1.0, 0.1, 0.02])[:, None, None, None] * np.random.RandomState(0).uniform(-1, 1, (3, 4, 2, 2))


@task("2.3")
def check_channel_scales(channel_scales):
    result, magnitudes = channel_scales(CONVOLUTION.copy(), 8), np.abs(CONVOLUTION)
    if result is None or result is ...:
        raise Wrong("nothing")
    if np.ndim(result) == 0 or np.shape(result) == (1,):
        raise Wrong("channels_one")
    if np.shape(result) == (4,):
        raise Wrong("channels_inputs", found=4, expected=3)
    found, expected = as_array(result, (3,), "scales"), magnitudes.max(axis=(1, 2, 3)) / 127
    if not close(found, expected, 1e-7):
        signed, wrong = close(found, CONVOLUTION.max(axis=(1, 2, 3)) / 127, 1e-7), farthest(found, expected)
        raise Wrong("channels_no_abs" if signed else "channels_other", channel=wrong[0], found=f"{found[wrong]:.6f}",
                    expected=f"{expected[wrong]:.6f}")
    check_few_bits_and_zeros(channel_scales)


def check_few_bits_and_zeros(channel_scales):
    weight = CONVOLUTION.copy()
    weight[1] = 0
    with np.errstate(all="ignore"):
        found = as_array(channel_scales(weight, 3), (3,), "scales")
    expected = np.abs(weight[0]).max() / 3
    if not close(found[0], expected):
        raise Wrong("channels_bits", found=f"{found[0]:.4f}", expected=f"{expected:.4f}")
    if found[1] <= 0:
        raise Wrong("channels_zero", found=f"{found[1]:g}")


def outliers():
    """10,000 values of a normal distribution, and three that are far out."""
    return np.append(np.random.RandomState(0).normal(size=10000), [9.0, 12.0, -15.0])


def quantization_error(values, threshold, q_max, clip=True):
    """The mean squared error of rounding to ``q_max`` steps up to the threshold, and of cutting what is beyond."""
    scale = threshold / q_max
    codes = np.rint(values / scale)
    return np.mean((values - (np.clip(codes, -q_max, q_max) if clip else codes) * scale) ** 2)


@task("2.5")
def check_mse_threshold(mse_threshold):
    values = outliers()
    largest = np.abs(values).max()
    found, best, times = compared(mse_threshold, values, 4)
    if not 0 < found <= largest * (1 + 1e-6):
        raise Wrong("mse_range", found=f"{found:.3f}", largest=f"{largest:.1f}")
    if times <= 1.02:
        found, _, times = compared(mse_threshold, values, 8)
        if not times <= 1.02:
            raise Wrong("mse_signed" if close(found, values.max(), 0.05) else "mse_bits", found=f"{found:.2f}",
                        times=f"{times:.1f}")
        return
    if close(found, largest):
        raise Wrong("mse_largest", times=f"{times:.1f}")
    if close(found, best, 0.02 * best):
        raise Wrong("mse_error", found=f"{found:.4f}")
    if quantization_error(values, 7 * found, 7) <= 1.02 * best:
        raise Wrong("mse_scale", found=f"{found:.3f}")
    if found <= largest / 50:
        raise Wrong("mse_no_clip", found=f"{found:.2f}", times=f"{times:.1f}")
    raise Wrong("mse_other", found=f"{found:.2f}", times=f"{times:.2f}")


def compared(mse_threshold, values, bits):
    """The threshold of a student's function, the least error of a hundred, and how many times that its error is."""
    found, q_max = float(as_array(mse_threshold(values.copy(), bits), (), "threshold")), 2 ** (bits - 1) - 1
    largest = np.abs(values).max()
    best = min(quantization_error(values, step * largest / 100, q_max) for step in range(1, 101))
    return found, best, quantization_error(values, found, q_max) / best if found > 0 else np.inf


def kernel_sums(x, weight):
    """What MXNet's own integer kernel computes. No pair of products leaves 16 bits: exact on every processor."""
    low, high = mx.nd.array([-127.0]), mx.nd.array([127.0])
    sums, *_ = mx.nd.contrib.quantized_conv(
        mx.nd.array(x, dtype="uint8"), mx.nd.array(weight, dtype="int8"), mx.nd.array([0.0]), mx.nd.array([255.0]), low,
        high, kernel=weight.shape[2:], num_filter=len(weight), no_bias=True)
    return sums.asnumpy()


def integer_example():
    """Codes of images (2, 3, 6, 5), unsigned as after a ReLU, and of a weight (4, 3, 3, 2)."""
    rng = np.random.RandomState(3)
    return rng.randint(0, 128, (2, 3, 6, 5)).astype(np.uint8), rng.randint(-127, 128, (4, 3, 3, 2)).astype(np.int8)


@task("2.6")
def check_integer_convolution(integer_convolution):
    x, weight = integer_example()
    given = x.copy()
    with np.errstate(all="ignore"):
        result = integer_convolution(given, weight.copy())
    untouched(x, given)
    sums = kernel_sums(x, weight)
    found = as_array(result, sums.shape, "sums")
    if np.array_equal(found, sums):
        if found.dtype.kind == "f":
            raise Wrong("convolution_float", kind=str(found.dtype))
        return check_large_codes(integer_convolution, x, weight, sums)
    wrong = farthest(found, sums)
    place, is_, should = list(wrong), int(found[wrong]), int(sums[wrong])
    if np.array_equal(found, kernel_sums(x, weight[:, :, ::-1, ::-1])):
        raise Wrong("convolution_turned")
    if (np.int64(sums) - np.int64(found)).any() and ((np.int64(sums) - np.int64(found)) % 256 == 0).all():
        raise Wrong("convolution_wraps", place=place, found=is_, expected=should)
    if np.array_equal(found, np.broadcast_to(kernel_sums(x[:1], weight), sums.shape)):
        raise Wrong("convolution_one_image")
    raise Wrong("convolution_other", place=place, found=is_, expected=should)


def check_large_codes(integer_convolution, x, weight, sums):
    """Codes from 128 to 255: 128 more in each product adds 128 times the sum of a channel's weights."""
    expected = sums + 128 * weight.sum(axis=(1, 2, 3), dtype=np.int32)[None, :, None, None]
    found = as_array(integer_convolution(x + np.uint8(128), weight.copy()), sums.shape, "sums")
    if not np.array_equal(found, expected):
        wrong = farthest(found, expected)
        in_16_bits = ((expected - found.astype(np.int64)) % 2 ** 16 == 0).all()
        raise Wrong("convolution_wraps" if in_16_bits else "convolution_signed", place=list(wrong),
                    found=int(found[wrong]), expected=int(expected[wrong]))


@task("2.7")
def check_requantized(requantized):
    sums = np.array([[[[0, 930, -1000]]], [[[100000, 260, 7]]]], np.int32).repeat(2, axis=1)
    scale_x, scale_w, scale_out = 0.02, np.array([0.01, 0.001]), 0.05
    real = sums * (scale_x * scale_w)[None, :, None, None]
    expected = np.clip(np.rint(np.maximum(real, 0) / scale_out), 0, 255)
    result = requantized(sums.copy(), scale_x, scale_w.copy(), scale_out)
    if isinstance(result, np.ndarray) and result.dtype != np.uint8 and result.shape == sums.shape:
        raise Wrong("requantized_type", kind=str(result.dtype))
    found = as_array(result, sums.shape, "codes")
    if np.array_equal(found, expected):
        return
    wrong = found != expected
    if (sums[wrong] < 0).any():
        raise Wrong("requantized_no_relu")
    if (expected[wrong] > 127).all() and (found[wrong] == 127).all():
        raise Wrong("requantized_127", found=127)
    if (expected[wrong] == 255).all():
        raise Wrong("requantized_wraps")
    for name, other in {
            "requantized_no_weight": np.clip(np.rint(np.maximum(sums * scale_x, 0) / scale_out), 0, 255),
            "requantized_cut": np.clip(np.maximum(real, 0) / scale_out, 0, 255).astype(np.uint8)}.items():
        if np.array_equal(found, other):
            raise Wrong(name)
    wrong = farthest(found, expected)
    raise Wrong("requantized_other", sum=int(sums[wrong]), channel=wrong[1], found=f"{found[wrong]:g}",
                expected=int(expected[wrong]))


@task("2.9")
def check_fake_quantize(fake_quantize):
    values, threshold = np.array([-2.0, -1.0, -0.6, 0.0, 0.2, 0.49, 0.9, 1.7], np.float32), 1.0
    x = mx.nd.array(values)
    x.attach_grad()
    with mx.autograd.record():
        result = fake_quantize(x, threshold, 3)
        if not isinstance(result, mx.nd.NDArray):
            raise Wrong("nothing" if result is None or result is ... else "fake_no_ndarray", kind=type(result).__name__)
        total = (result * 2).sum()
    total.backward()
    found = as_array(result, values.shape)
    expected = np.rint(np.clip(values, -1, 1) * 3) / 3
    if not close(found, expected):
        if close(found, np.rint(values * 3) / 3):
            raise Wrong("fake_no_clip", value=1.7, found=f"{found[-1]:.3f}")
        wrong = farthest(found, expected)
        raise Wrong("fake_not_rounded" if close(found, np.clip(values, -1, 1)) else "fake_values",
                    value=f"{values[wrong]:g}", found=f"{found[wrong]:.3f}", expected=f"{expected[wrong]:.3f}")
    gradient = x.grad.asnumpy() / 2
    if not gradient.any():
        raise Wrong("fake_no_gradient")
    if gradient[0] == gradient[-1] == 1:
        raise Wrong("fake_beyond", value=1.7)
    gradient[1] = 1  # at the threshold itself either is right
    expected = (np.abs(values) <= 1).astype(np.float32)
    if not close(gradient, expected):
        wrong = farthest(gradient, expected)
        raise Wrong("fake_gradient", found=f"{gradient[wrong]:g}", value=f"{values[wrong]:g}",
                    expected=int(expected[wrong]))
    check_other_arguments(fake_quantize, x)


def check_other_arguments(fake_quantize, x):
    values, threshold, bits = x.asnumpy(), 1.75, 4
    found, expected = as_array(fake_quantize(x, threshold, bits), values.shape), np.clip(np.rint(values * 4), -7, 7) / 4
    if not close(found, expected):
        wrong = farthest(found, expected)
        raise Wrong("fake_arguments", value=f"{values[wrong]:g}", threshold=threshold, bits=bits,
                    found=f"{found[wrong]:.3f}", expected=f"{expected[wrong]:.3f}")


def network_to_round():
    """A convolution, a BatchNorm, a dense layer and one whose weights are zero; the largest weight is 2.5."""
    net, rng = nn.HybridSequential(), np.random.RandomState(6)
    net.add(nn.Conv2D(3, 3, in_channels=2), nn.BatchNorm(in_channels=3), nn.Dense(4, in_units=3),
            nn.Dense(2, in_units=4))
    net.initialize()
    for parameter in net.collect_params().values():
        value = rng.uniform(0.2, 0.9, size=parameter.shape)
        parameter.set_data(mx.nd.array(value if value.ndim == 1 else value * 2.5 / value.max()))
    net[3].weight.set_data(mx.nd.zeros((2, 4)))
    return net


@task("2.11")
def check_quantization(quantization):
    for bits in (8, 3):
        net = network_to_round()
        before = {parameter: parameter.data().asnumpy() for parameter in net.collect_params().values()}
        quantization(net, bits)
        after = {parameter: parameter.data().asnumpy() for parameter in before}
        if np.isnan(after[net[3].weight]).any():
            raise Wrong("repair_nan", name=net[3].weight.name)
        for layer in (net[0], net[2]):
            check_rounded(layer.weight.name, before[layer.weight], after[layer.weight], bits)
        for parameter, value in before.items():
            if (value.ndim == 1 or not value.any()) and not np.array_equal(value, after[parameter]):
                raise Wrong("repair_rest", name=parameter.name)


def check_rounded(name, weight, found, bits):
    """That weights are rounded to ``q_max`` steps on each side of zero, and worth what they were."""
    largest, q_max = np.abs(weight).max(), 2 ** (bits - 1) - 1
    if np.array_equal(weight, found):
        raise Wrong("repair_unrounded", name=name)
    if close(found, np.rint(weight / largest * (2 ** bits - 1)) / (2 ** bits - 1)) or close(
            found, np.rint(weight / largest * q_max) / q_max):
        raise Wrong("repair_scale", name=name, before=f"{largest:.1f}", after=f"{np.abs(found).max():.1f}")
    if close(found, np.rint(weight / largest * (2 ** bits - 1)) / (2 ** bits - 1) * largest):
        raise Wrong("repair_levels", bits=bits, levels=2 ** (bits + 1) - 1, most=2 ** bits - 1)
    if not close(found, np.rint(weight / largest * q_max) / q_max * largest):
        wrong = farthest(found, np.rint(weight / largest * q_max) / q_max * largest)
        raise Wrong("repair_weight", name=name, value=f"{weight[wrong]:.4f}", found=f"{found[wrong]:.4f}", bits=bits)
