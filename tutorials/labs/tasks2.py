"""Checks of lab 2: quantize."""
import gluon_compress  # before mxnet  # noqa: F401
import mxnet as mx
import numpy as np

from checking import Wrong, as_array, close, task, untouched

WEIGHT = np.array([[0.5, -1.27, 0.33], [0.1, 0.0, -0.66]])


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
    raise Wrong("codes_other", value=0.26, found=int(found[1]), expected=3)


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
    found = as_array(result, (3,), "scales")
    if not close(found, magnitudes.max(axis=(1, 2, 3)) / 127, 1e-7):
        signed = close(found, CONVOLUTION.max(axis=(1, 2, 3)) / 127, 1e-7)
        raise Wrong("channels_no_abs" if signed else "channels_other", found=f"{found[0]:.6f}",
                    expected=f"{magnitudes[0].max() / 127:.6f}")


def outliers():
    """10,000 values of a normal distribution, and three that are far out."""
    return np.append(np.random.RandomState(0).normal(size=10000), [9.0, -12.0, 15.0])


def quantization_error(values, threshold, q_max, clip=True):
    """The mean squared error of rounding to ``q_max`` steps up to the threshold, and of cutting what is beyond."""
    scale = threshold / q_max
    codes = np.rint(values / scale)
    return np.mean((values - (np.clip(codes, -q_max, q_max) if clip else codes) * scale) ** 2)


@task("2.5")
def check_mse_threshold(mse_threshold):
    values, q_max = outliers(), 7
    found = float(as_array(mse_threshold(values.copy(), 4), (), "threshold"))
    largest = np.abs(values).max()
    if not 0 < found <= largest * (1 + 1e-6):
        raise Wrong("mse_range", found=f"{found:.3f}", largest=f"{largest:.1f}")
    best = min(quantization_error(values, step * largest / 100, q_max) for step in range(1, 101))
    times = quantization_error(values, found, q_max) / best
    if times <= 1.02:
        return
    if close(found, largest):
        raise Wrong("mse_largest", times=f"{times:.1f}")
    if found <= largest / 50:
        raise Wrong("mse_no_clip", found=f"{found:.2f}", times=f"{times:.1f}")
    raise Wrong("mse_signed" if close(found, 0.8 * largest, 0.25) else "mse_other", found=f"{found:.2f}",
                times=f"{times:.2f}")


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
        return
    if np.array_equal(found, kernel_sums(x, weight[:, :, ::-1, ::-1])):
        raise Wrong("convolution_turned")
    if (np.int64(sums) - np.int64(found)).any() and ((np.int64(sums) - np.int64(found)) % 256 == 0).all():
        raise Wrong("convolution_wraps", kind=str(found.dtype), found=int(found.flat[0]), expected=int(sums.flat[0]))
    if np.array_equal(found, np.broadcast_to(kernel_sums(x[:1], weight), sums.shape)):
        raise Wrong("convolution_one_image")
    raise Wrong("convolution_other", found=int(found.flat[0]), expected=int(sums.flat[0]))


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
    if (expected[wrong] == 255).all():
        raise Wrong("requantized_wraps")
    for name, other in {
            "requantized_no_weight": np.clip(np.rint(np.maximum(sums * scale_x, 0) / scale_out), 0, 255),
            "requantized_cut": np.clip(np.maximum(real, 0) / scale_out, 0, 255).astype(np.uint8)}.items():
        if np.array_equal(found, other):
            raise Wrong(name)
    raise Wrong("requantized_other", found=int(found[0, 0, 0, 1]), expected=int(expected[0, 0, 0, 1]))


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
        raise Wrong("fake_not_rounded" if close(found, np.clip(values, -1, 1)) else "fake_values", value=0.49,
                    found=f"{found[5]:.3f}", expected=f"{expected[5]:.3f}")
    gradient = x.grad.asnumpy() / 2
    if not gradient.any():
        raise Wrong("fake_no_gradient")
    if gradient[0] == gradient[-1] == 1:
        raise Wrong("fake_beyond", value=1.7)
    if not close(gradient[2:7], 1) or gradient[0] or gradient[-1]:
        raise Wrong("fake_gradient", found=f"{gradient[4]:g}", value=0.2)
