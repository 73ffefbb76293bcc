# %% [markdown]
# # Lab 2. Quantize
#
# **90 minutes.** *You will be able to:* turn weights into integers and back; choose the threshold of an activation by
# the error it causes; compute a convolution on integers as the processor does; train a network through the rounding.
#
# *You need:* NumPy, and what a gradient is. Tutorials [2](../02_quantization_alexnet.py) and
# [7](../07_int8_inference.py) are on the same matter. *Computing:* about a minute on two cores. *Download:* MNIST, 11
# MB, once.
#
# Replace each `...` by code of yours and run the cell: its last line checks what you wrote and says what is wrong. Use
# in a function its arguments, imports and other functions of yours: what a cell has computed is not there when the
# notebook is graded. Answer a question, with a letter such as `"a"`, before you run the cells below it. Hand in this
# notebook and the file `lab2.gcz` that task 2.10 makes in the same folder. `lab` has the images:
# `lab.train.batches(128, shuffle=True)` gives batches `(images, labels)` to train on, `lab.example` is a batch of
# held-out images, `lab.accuracy(net)` the accuracy on all of them. `python tutorials/weave.py` makes this notebook, in
# `tutorials/woven/en/labs`.

# %%
from lab import Lab

import gluon_compress as gc
import mxnet as mx
import numpy as np

from tasks2 import integer_example, kernel_sums, quantization_error

lab = Lab(2)
net = gc.params.load("simple_cnn_mnist")
print(f"held-out accuracy as trained: {lab.accuracy(net):.4f}")

# %% [markdown]
# ## 2.1 The scale (5 minutes)
#
# With `bits` bits, sign included, codes go from `-q_max` to `q_max`:
#
#     q_max = 2**(bits - 1) - 1
#     scale = max|w| / q_max
#
# Weights that are all zero need some scale, too: return 1 for them.

# %%
def scale_of(weight, bits):
    """What one step is worth, a positive number."""
    # solution
    largest = np.abs(weight).max()
    return largest / (2 ** (bits - 1) - 1) if largest > 0 else 1.0
    # end of solution


lab.check(1, scale_of)

# %% [markdown]
# ## 2.2 The codes (5 minutes)
#
#     code = round(w / scale)     to the nearest integer, and cut at -q_max and q_max
#     w    ~ code * scale         off by at most scale / 2, where nothing was cut

# %%
def codes_of(weight, scale, bits):
    """int8 codes in [-q_max, q_max]."""
    # solution
    q_max = 2 ** (bits - 1) - 1
    return np.clip(np.rint(weight / scale), -q_max, q_max).astype(np.int8)
    # end of solution


lab.check(2, codes_of)

# %%
weight = net.conv2.weight.data().asnumpy()
scale = scale_of(weight, 8)
codes = codes_of(weight, scale, 8)
library_codes, library_scale = gc.quantization.quantize_array(weight, bits=8)
print(f"codes from {codes.min()} to {codes.max()}; largest error {np.abs(weight - codes * scale).max() / scale:.3f} "
      f"of a step; the library's codes are the same: {np.array_equal(codes, library_codes)}")

# %% [markdown]
# ## 2.3 A scale for each channel (5 minutes)
#
# A channel with small weights does not have to use the steps of the largest one. The price is small: the scale takes
# four bytes more per channel. A channel can be all zero, too.

# %%
def channel_scales(weight, bits):
    """One scale for each output channel, an array (outputs,); ``weight`` is (outputs, inputs, height, width)."""
    # solution
    return np.array([scale_of(channel, bits) for channel in weight])
    # end of solution


lab.check(3, channel_scales)

# %%
for bits in (8, 4, 3):
    accuracies = []
    for per_channel in (False, True):
        rounded = gc.params.load("simple_cnn_mnist")
        gc.quantization.quantize_weights(rounded, bits, per_channel)
        accuracies.append(lab.accuracy(rounded))
    print(f"{bits} bits: a scale per layer {accuracies[0]:.4f}, per channel {accuracies[1]:.4f}")
scales = channel_scales(weight, 3)
mine = np.stack([codes_of(channel, scale, 3) * scale for channel, scale in zip(weight, scales)])
print("the same 3-bit weights as the library's:", np.allclose(mine, rounded.conv2.weight.data().asnumpy(), atol=1e-6))

# %% [markdown]
# ## 2.4 Predict: how many values? (5 minutes)
#
# How many different values can a weight have that is quantized to 3 bits in this way, with one scale?
#
# - **a** 8
# - **b** 7
# - **c** 3

# %%
# solution
answer_2_4 = "b"
# end of solution
lab.check(4, answer_2_4)

# %%
print(np.unique(codes_of(weight, scale_of(weight, 3), 3), return_counts=True))

# %% [markdown]
# ## 2.5 Calibrate a layer (15 minutes)
#
# The range of an activation is not known before data were seen. A few values are far larger than the rest; a threshold
# T below them cuts them and gives all others finer steps. Choose T by the mean squared error over the values that were
# seen, with the `q_max` of 2.1:
#
#     scale = T / q_max
#     error = mean((x - clip(round(x / scale), -q_max, q_max) * scale)**2)
#
# Try a hundred thresholds, from a hundredth of the largest magnitude up to this magnitude itself, a hundredth apart.

# %%
def mse_threshold(values, bits):
    """The threshold with the least mean squared error, for signed codes."""
    # solution
    q_max, largest = 2 ** (bits - 1) - 1, np.abs(values).max()

    def error(threshold):
        scale = threshold / q_max
        return np.mean((values - np.clip(np.rint(values / scale), -q_max, q_max) * scale) ** 2)
    return min((step * largest / 100 for step in range(1, 101)), key=error)
    # end of solution


lab.check(5, mse_threshold)

# %%
activation = net.conv1(lab.example).asnumpy().ravel()[::50]
observer = gc.quantization.RangeObserver("mse", bits=4)
observer.observe(activation)
for title, threshold in (("largest magnitude", np.abs(activation).max()), ("yours", mse_threshold(activation, 4)),
                         ("the library's", observer.threshold())):
    print(f"{title}: threshold {threshold:.3f}, error {quantization_error(activation, threshold, 7):.5f}")

# %% [markdown]
# ## 2.6 A convolution on integers (15 minutes)
#
# Codes are multiplied and added up in 32 bits; scales come later. No padding, stride 1:
#
#     sums[n, o, i, j] = sum_{c, h, w} x[n, c, i + h, j + w] * weight[o, c, h, w]

# %%
def integer_convolution(x, weight):
    """int32 sums (n, outputs, ...) of uint8 codes (n, inputs, height, width) and int8 codes of the weight."""
    # solution
    height, width = weight.shape[2:]
    rows, columns = x.shape[2] - height + 1, x.shape[3] - width + 1
    sums = np.zeros((len(x), len(weight), rows, columns), np.int32)
    for h in range(height):
        for w in range(width):
            window = x[:, :, h:h + rows, w:w + columns].astype(np.int32)
            sums += np.einsum("ncij,oc->noij", window, weight[:, :, h, w].astype(np.int32))
    return sums
    # end of solution


lab.check(6, integer_convolution)

# %% [markdown]
# MXNet's own kernel on the same codes, which runs on the processor's integer instructions:

# %%
x, codes = integer_example()
print("equal to the kernel, code by code:", np.array_equal(integer_convolution(x, codes), kernel_sums(x, codes)))

# %% [markdown]
# ## 2.7 Back to codes (10 minutes)
#
# The next layer wants 8-bit codes again. A sum is worth `scale_x * scale_w` of its channel; the ReLU comes before the
# one rounding, so the codes are unsigned:
#
#     code_out = clip(round(relu(sum * scale_x * scale_w) / scale_out), 0, 255)

# %%
def requantized(sums, scale_x, scale_w, scale_out):
    """uint8 codes; ``scale_w`` is (outputs,), ``sums`` (n, outputs, height, width)."""
    # solution
    real = sums * (scale_x * scale_w)[None, :, None, None]
    return np.clip(np.rint(np.maximum(real, 0) / scale_out), 0, 255).astype(np.uint8)
    # end of solution


lab.check(7, requantized)

# %% [markdown]
# A whole layer, then: `conv2` of the network in fp32, and on integers with your functions.

# %%
inputs = mx.nd.Pooling(mx.nd.relu(net.conv1(lab.example[:20])), kernel=(2, 2), stride=(2, 2), pool_type="max").asnumpy()
weight = net.conv2.weight.data().asnumpy()
expected = np.maximum(net.conv2(mx.nd.array(inputs)).asnumpy(), 0)
scale_x, scale_w, scale_out = inputs.max() / 255, channel_scales(weight, 8), expected.max() / 255
weight_codes = np.stack([codes_of(channel, scale, 8) for channel, scale in zip(weight, scale_w)])
sums = integer_convolution(np.rint(inputs / scale_x).astype(np.uint8), weight_codes)
sums += np.rint(net.conv2.bias.data().asnumpy() / (scale_x * scale_w)).astype(np.int32)[None, :, None, None]
error = np.abs(requantized(sums, scale_x, scale_w, scale_out) * scale_out - expected)
print(f"largest output {expected.max():.2f}, largest error {error.max():.3f}, a step is {scale_out:.3f}")

# %% [markdown]
# ## 2.8 Predict: time (5 minutes)
#
# `quantize_weights(net, bits=8)` has rounded all weights. How long does a forward pass take?
#
# - **a** About a quarter as long: the weights are a quarter as long.
# - **b** A little longer: the weights are unpacked in each pass.
# - **c** As long as before.

# %%
# solution
answer_2_8 = "c"
# end of solution
lab.check(8, answer_2_8)

# %%
calibration = lab.train.subset(slice(0, 256)).batches(64)
rounded = gc.params.load("simple_cnn_mnist")
gc.quantization.quantize_weights(rounded, 8)
integers = gc.quantization.quantize(net, calibration, progress=False)
for title, network in (("fp32", net), ("weights rounded", rounded), ("weights and activations on integers", integers)):
    network.hybridize(static_alloc=True, static_shape=True)
    print(f"{title}: {gc.measure_latency(network, lab.example, repeats=5).median:.1f} ms, "
          f"held-out accuracy {lab.accuracy(network):.4f}")

# %% [markdown]
# ## 2.9 Straight through (10 minutes)
#
# Rounding is flat: its gradient is zero, and nothing trains. The straight-through estimator rounds in the forward pass
# and goes back as if nothing had been rounded (such a rounding is called *fake quantization*); beyond the threshold the
# output does not change, so the gradient is zero there. `mx.nd.BlockGrad` makes of an array a constant for autograd,
# `mx.nd.rint` rounds, and `mx.nd.clip` cuts.

# %%
def fake_quantize(x, threshold, bits):
    """An NDArray on multiples of threshold / q_max, within the threshold; gradient 1 within it and 0 beyond."""
    # solution
    scale = threshold / (2 ** (bits - 1) - 1)
    clipped = mx.nd.clip(x, -threshold, threshold)
    return clipped + mx.nd.BlockGrad(mx.nd.rint(clipped / scale) * scale - clipped)
    # end of solution


lab.check(9, fake_quantize)

# %% [markdown]
# One weight that is trained through the rounding: it is to be 0.6, and only -1, -2/3, ..., 1 are there. Without the
# estimator it would never move. With it the weight ends at the border between 1/3 and 2/3, and goes to and fro there:
# neither value is 0.6, and each pulls it to the other side.

# %%
weight = mx.nd.array([0.1])
weight.attach_grad()
for _ in range(20):
    with mx.autograd.record():
        loss = (fake_quantize(weight, 1.0, 3) - 0.6) ** 2
    loss.backward()
    weight -= 0.2 * weight.grad
print(f"weight {weight.asscalar():.3f}, rounded {fake_quantize(weight, 1.0, 3).asscalar():.3f}")

# %% [markdown]
# ## 2.10 The bar (10 minutes)
#
# A file of **at most 11,000 bytes** that recognizes **at least 97 %** of the held-out images, in at most four minutes,
# with weights and activations of **at most 3 bits** in every layer. With 4 bits `quantize` would do; with 3 rounding
# alone does not: `prepare_qat` makes a network that trains with the rounding, `convert` integers of it. No kernel knows
# 3 bits, so it takes `simulate=True`. The minutes are those of `compress`, and the last line of the cell writes the
# file. `help(gc.quantization.prepare_qat)` has an example.

# %%
def compress():
    """A network and the list of its records; a network on integers needs none."""
    # solution
    net = gc.params.load("simple_cnn_mnist")
    qat = gc.quantization.prepare_qat(net, lab.train.subset(slice(0, 256)).batches(64), bits=3)
    trainer = mx.gluon.Trainer(qat.collect_params(), "adam", {"learning_rate": 1e-3})
    gc.training.fit(qat, lab.train.batches(128, shuffle=True), 2, trainer, seed=0)
    return qat.convert(simulate=True), []
    # end of solution


lab.hand_in(compress)

# %% [markdown]
# ## 2.11 At home: repair the article's quantization
#
# This is how the first article quantizes. It runs without an error, and there are four things wrong with it
# (`ERRATA.md` has them in entries 14 to 17; look for yourself first). Mend it: all weights become multiples of a scale,
# one for each tensor, with `q_max` steps on each side of zero; weights that are all zero stay zero; biases and what
# belongs to a BatchNorm stay as they are. (Weights are the parameters with more than one axis.)

# %%
def quantization(model, num_bits):
    """Round the weights of all layers of a Gluon network to multiples of their scales."""
    # article
    # parameters = model.collect_params()
    # for param_name, param_value in parameters.items():
    #     param_value.set_data(mx.nd.round(param_value.data() * ((2**num_bits-1) /
    #     mx.nd.max(mx.nd.abs(param_value.data())))) / (2**num_bits-1))
    # solution
    q_max = 2 ** (num_bits - 1) - 1
    for parameter in model.collect_params().values():
        weight = parameter.data()
        if weight.ndim > 1:
            scale = mx.nd.max(mx.nd.abs(weight)).asscalar() / q_max or 1
            parameter.set_data(mx.nd.round(weight / scale) * scale)
    # end of solution


lab.check(11, quantization)

# %% [markdown]
# ## To take home
#
# - The scale must be kept, and kept per channel. Eight bits then cost nothing here.
# - A threshold is a compromise between the few values that are cut and the many that get finer steps.
# - Files shrink with the weights' bits; time shrinks only where the arithmetic is on integers.
