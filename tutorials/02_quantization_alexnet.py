# %% [markdown]
# # 2. Quantization: AlexNet on CIFAR-10
#
# - **You will be able to** write weights as 8-bit integers times a scale, choose the scale, save the integers, run the
#   network on integers, and train it for so few bits that rounding alone would ruin it.
# - **You need to know** what weights and activations are, and how a Gluon network is trained. Words:
#   [TERMINOLOGY.md](TERMINOLOGY.md).
# - **Time on two cores:** <!-- time.02: begin -->60 seconds; with `--long` 11 CPU minutes<!-- time.02: end -->
# - **Downloads:** CIFAR-10, about 170 MB, once.
#
# *What you will see:* what the first article's formula does to two networks, the formula that does no harm, an AlexNet
# whose file is less than a quarter as long and whose accuracy is the same, and a network that is trained for three
# bits.
#
# Run `python tutorials/02_quantization_alexnet.py`: accuracies are on the first 1,000 test images, and one epoch on
# 3,000 images is all the training. With `--long` there are all test images, all bit widths, 10,000 training images and
# two epochs of the whole network. Or open it as a notebook. This AlexNet has hidden layers of 1,024 units instead of
# the article's 4,096, and the images are enlarged from 32 to 67 pixels, of which its last pooling leaves one.

# %%
from course import LONG, Results, errors, show_training

import gluon_compress as gc
from gluon_compress.datasets import compose, random_crop, random_flip
from gluon_compress.network import layers, parameters
from gluon_compress.measuring.plots import plot_curves

import mxnet as mx
import numpy as np
from matplotlib.figure import Figure
from mxnet.gluon import nn

SIZE = gc.params.manifest()["alexnet_cifar10"]["input_shape"][-1]  # the 32x32 images are enlarged to this
train, test = gc.datasets.cifar10()
# Held out of the fine-tuning. The shipped network saw these images when it was trained, so accuracies on them are
# too high; what counts is the difference between them.
train, validation = train.split(5000)
if not LONG:
    validation, test = validation.subset(slice(0, 600)), test.subset(slice(0, 1000))
train = train.subset(slice(0, 10000 if LONG else 3000))
validation_data = validation.batches(100, size=SIZE)
results = Results("02_quantization_alexnet", test.batches(100, size=SIZE))

# %% [markdown]
# ## What the article says
#
# > Turning 32-bit floating-point parameters into 8-bit integers can reduce the model size by a quarter.
#
# ```python
# def quantization(model, num_bits=8):
#     parameters = model.collect_params()
#     for param_name, param_value in parameters.items():
#         param_value.set_data(mx.nd.round(param_value.data() * ((2**num_bits-1) /
#             mx.nd.max(nd.abs(param_value.data())))) / (2**num_bits-1))
# ```
#
# ## What is wrong with it
#
# 1. It divides by `2**num_bits - 1` but never multiplies by `max|w|` again: the scale is lost, and every
#    tensor ends in [-1, 1].
# 2. `2**num_bits - 1` levels on *each* side of zero are 511 levels: nine bits, not eight.
# 3. A tensor of zeros, such as a fresh bias, gives 0/0: NaN.
# 4. It rounds biases and the running statistics of BatchNorm as well.
# 5. The result is still float32, in memory and in the file.
# 6. And 8 of 32 bits is a reduction *to* a quarter.
#
# [ERRATA.md](ERRATA.md) has these and the others, each with a test.
#
# ## From scratch
#
# Symmetric quantization with `b` bits, sign included:
#
#     q_max = 2**(b - 1) - 1            127 for 8 bits
#     scale = max|w| / q_max
#     code  = round(w / scale)          an integer in [-q_max, q_max]
#     w     ~ code * scale              off by at most scale / 2
#
# **Figure:** the staircase of 3 bits: seven steps, each as wide as it is high. The line is the weight itself; the
# distance between both is the error. Behind it, on a log axis, how many weights of the layer fall on each step: nearly
# all on zero, because the largest weight of the layer says how wide the steps are.

# %%
net = gc.params.load("alexnet_cifar10")
results.add("AlexNet, as trained", net)

weight = net.features[2].weight.data().asnumpy()
scale = np.abs(weight).max() / 127
codes = np.rint(weight / scale).astype(np.int8)
print(f"features.2: codes from {codes.min()} to {codes.max()}, scale {scale:.6f}, "
      f"largest error {np.abs(weight - codes * scale).max() / scale:.3f} of a scale")

stairs = np.abs(weight).max() / 3
line = np.linspace(-1, 1, 1001) * np.abs(weight).max()
figure = Figure(figsize=(6.4, 3.6), layout="constrained")
axes = figure.subplots()
axes.plot(line, np.rint(line / stairs) * stairs, color="C0", label="code * scale, 3 bits")
axes.plot(line, line, color="black", linewidth=0.8, label="weight")
axes.set(xlabel="weight of features.2", ylabel="what it becomes")
axes.legend(loc="upper left")
behind = axes.twinx()
behind.hist(weight.ravel(), bins=(np.arange(-3, 5) - 0.5) * stairs, color="C1", alpha=0.3)
behind.set(ylabel="number of weights", yscale="log")
figure.savefig(results.path("-staircase.png"), dpi=120)

# %% [markdown]
# Now the article's formula. In a network of nothing but convolutions, ReLUs and pooling, the lost scales of the
# weights would only scale the output; but the biases lose other scales, so the sums come out wrong. With BatchNorm,
# whose running statistics are mangled as well, nothing is left.

# %%


def article_quantization(net, num_bits=8):
    for parameter in parameters(net).values():
        value = parameter.data()
        levels = 2 ** num_bits - 1
        parameter.set_data(mx.nd.round(value * (levels / mx.nd.max(mx.nd.abs(value)))) / levels)
    return net


results.add("AlexNet, the article's formula", article_quantization(gc.params.load("alexnet_cifar10")))

resnet_data = (test if LONG else test.subset(slice(0, 500))).batches(100)
for title, quantize in (("as trained", lambda net: None), ("8 bits with our formula", gc.quantization.quantize_weights),
                        ("8 bits with the article's formula", article_quantization)):
    resnet = gc.params.load("resnet18_cifar10")
    quantize(resnet)
    resnet.hybridize()
    results.numbers[f"ResNet-18, {title}"] = accuracy = gc.training.evaluate(resnet, resnet_data)
    print(f"ResNet-18, {title}: {accuracy:.4f}")

# %% [markdown]
# ## With the library
#
# `quantize_weights` does this for each layer, with one scale per output channel: a channel with small
# weights doesn't have to use the scale of the largest. It returns `Scales`, and `gc.save` stores integer codes, the
# frequent ones in fewer bits than the others. By hand the scales are one more axis:

# %%
of_channel = (np.abs(weight).max(axis=(1, 2, 3), keepdims=True) / 127).astype(np.float32)
codes = np.rint(weight.astype(np.float64) / of_channel).astype(np.int8)

scales = gc.quantization.quantize_weights(net, bits=8)
print(scales)
assert (scales.codes(net)["features.2.weight"] == codes).all(), "the library has other codes than we have"
results.add("AlexNet, 8 bits, a scale per channel", net, scales)

again = gc.load(results.path(f"-{len(results.rows) - 1}.gcz"), gc.models.AlexNet(classes=10, hidden_units=1024))
assert all((again_layer.value() == layer.value()).all() for again_layer, layer in zip(layers(again), layers(net))), \
    "the file holds other weights than the network"

# %% [markdown]
# ## How few bits?
#
# **Figure:** the error, one minus the accuracy, on a log axis, by bits. From right to left: nothing happens for a
# while; then the network with one scale per layer fails first, and the one with a scale per channel a bit later.

# %%
bit_widths = (8, 7, 6, 5, 4, 3, 2) if LONG else (8, 5, 4, 3)
curves = {"a scale per channel": [], "a scale per layer": []}
for bits in bit_widths:
    for title, per_channel in (("a scale per channel", True), ("a scale per layer", False)):
        candidate = gc.params.load("alexnet_cifar10")
        gc.quantization.quantize_weights(candidate, bits, per_channel)
        candidate.hybridize(static_alloc=True, static_shape=True)
        curves[title].append((bits, gc.training.evaluate(candidate, validation_data)))
    print(f"{bits} bits:", ", ".join(f"{title} {points[-1][1]:.4f}" for title, points in curves.items()))
results.numbers["held-out accuracy by bits"] = curves
plot_curves({title: errors(points) for title, points in curves.items()}, results.path(".png"),
            xlabel="bits per weight", ylabel="error on held-out images", log=True,
            title="AlexNet on CIFAR-10, weights quantized")

# %% [markdown]
# ## Fine-tuning around fixed codes
#
# At 3 bits a weight has one of seven values. Half of the weights are rounded to zero (compare the nonzero parameters in
# the table at the end), and accuracy is lost. The quantized weights must stay multiples of their scales, so
# we freeze them and train what is still float32, the biases: a thousandth of the parameters. The original
# gets the same extra training, in the same parameters.

# %%


def tune_biases(title, net):
    for layer in layers(net):
        layer.weight.grad_req = "null"
    trainer = mx.gluon.Trainer(net.collect_params(), "nag", {"learning_rate": 0.001, "momentum": 0.9})
    net.hybridize(static_alloc=True, static_shape=True)
    some = train if LONG else train.subset(slice(0, 1500))
    show_training(title, gc.training.fit(net, some.batches(64, shuffle=True, size=SIZE), 1, trainer))


net = gc.params.load("alexnet_cifar10")
scales = gc.quantization.quantize_weights(net, bits=3)
results.add("AlexNet, 3 bits, a scale per channel", net, scales)
tune_biases("biases around 3-bit weights", net)
results.add("AlexNet, 3 bits, and biases fine-tuned", net, scales)
original = gc.params.load("alexnet_cifar10")
tune_biases("biases of the original", original)
results.add("AlexNet, same extra training of the biases", original)

# %% [markdown]
# ## On integers
#
# So far only the file is smaller: the arithmetic is still fp32. To compute with integers, what flows between the
# layers must become integers, too, and its ranges have to be seen first, on a few hundred training images. `quantize`
# does that and returns a network on the processor's integer instructions. [Tutorial 7](07_int8_inference.py) says how.

# %%
calibration = train.subset(slice(0, 512)).batches(64, size=SIZE)
net = gc.params.load("alexnet_cifar10")
int8 = gc.quantization.quantize(net, calibration)
print(int8.record)
results.add("AlexNet, 8 bits, on integers", int8)

# %% [markdown]
# Equal accuracies can hide that two networks err on different images. The sharper measure is on how many they agree:

# %%
held_out = [(net(images), int8(images)) for images, _ in validation_data]
agreement = np.mean([(a.argmax(axis=1) == b.argmax(axis=1)).asnumpy() for a, b in held_out])
results.numbers["agreement of int8 and fp32"] = float(agreement)
print(f"int8 and fp32 agree on {agreement:.2%} of the held-out images")

# %% [markdown]
# ## Gradients through a staircase, by hand
#
# At 3 bits for weights *and* activations rounding costs accuracy again, and biases alone don't bring it back. So let
# everything train, and round in every forward pass. But a staircase is flat: its gradient is zero nearly everywhere,
# and nothing would be learned. The *straight-through estimator* rounds on the way forward, and on the way back acts as
# if it had not:
#
#     rounded(w) = w + constant(code * scale - w)          d rounded(w) / dw = 1
#
# `BlockGrad` is MXNet's word for "take this as a constant".

# %%


def rounded(w, scale, lowest=-3, highest=3):
    codes = mx.nd.clip(mx.nd.round(w / scale), lowest, highest)
    return w + mx.nd.BlockGrad(codes * scale - w)


w = mx.nd.array([0.3, -1.2, 0.8])
w.attach_grad()
for title, function in (("the staircase", lambda w: mx.nd.round(w / 0.5) * 0.5), ("straight through",
                                                                               lambda w: rounded(w, 0.5))):
    with mx.autograd.record():
        values = function(w)
    values.backward()
    print(f"{title}: values {values.asnumpy().round(3).tolist()}, gradients {w.grad.asnumpy().tolist()}")

# %% [markdown]
# `prepare_qat` makes a network that does this with every weight and every activation: it computes what the integers
# will, and learns the thresholds as well. For one dense layer, outputs and gradients of the weights are ours. (Three
# bits with a sign go from -4 to 3. The inputs use all of that, the weights stay between -3 and 3.)

# %%
dense = nn.HybridSequential()
dense.add(nn.Dense(4, in_units=8))
dense.initialize(mx.init.Normal(1))
inputs = mx.nd.random.normal(shape=(16, 8))
qat = gc.quantization.prepare_qat(dense, [inputs], bits=3)
ours = dense[0].weight.data().copy()
ours.attach_grad()
with mx.autograd.record():
    theirs_out = qat(inputs)
theirs_out.backward()
threshold = qat.collect_params()["0.input_threshold"].data().asscalar()
with mx.autograd.record():
    out = mx.nd.dot(rounded(inputs, threshold / 3, lowest=-4),
                    rounded(ours, mx.nd.abs(ours).max(axis=1, keepdims=True) / 3), transpose_b=True)
out.backward()
np.testing.assert_allclose(out.asnumpy(), theirs_out.asnumpy(), rtol=1e-4, atol=1e-4)
np.testing.assert_allclose(ours.grad.asnumpy(), qat.collect_params()["0.weight"].grad().asnumpy(), rtol=1e-4, atol=1e-4)

# %% [markdown]
# ## Trained with the rounding
#
# Any training loop will do. These networks saw all training images already, so we take small steps, and
# shift and mirror the images. `convert` makes integers of it.

# %%


def train_all(title, net):
    trainer = mx.gluon.Trainer(net.collect_params(), "adam", {"learning_rate": 1e-4})
    net.hybridize(static_alloc=True, static_shape=True)
    augment = compose(random_crop(4), random_flip)
    data = train.batches(64, shuffle=True, augment=augment, size=SIZE)
    show_training(title, gc.training.fit(net, data, 2 if LONG else 1, trainer))


results.add("AlexNet, 3 bits, activations as well",
            gc.quantization.quantize(net, calibration, bits=3, simulate=True, progress=False))
qat = gc.quantization.prepare_qat(net, calibration, bits=3)
train_all("with the rounding", qat)
results.add("AlexNet, 3 bits, trained with the rounding", qat.convert(simulate=True))
train_all("the original, all of it", net)
results.add("AlexNet, same extra training", net)
results.finish()

# %% [markdown]
# ## What this shows
#
# - With the scale kept, 8 bits cost nothing: the file is less than a quarter as long, the accuracy the
#   same.
# - A scale per channel costs four bytes per channel and pays off below five bits.
# - At 3 bits half of the weights become zero. Trained biases win back little of what is lost. Weights that are trained
#   with the rounding, activations included, win back more: a part of the loss after the quick version's one epoch, half
#   of it after the long version's two.
# - A forward pass takes as long as before while the arithmetic is fp32, and a fraction of it on integers. With
#   fewer than 8 bits there is no kernel: these networks are simulated in fp32, which takes longer than fp32 alone,
#   and what they save is the file.
#
# ## What to try next
#
# - `select=nn.Dense` for `quantize_weights`, `exclude=["Dense"]` for `quantize`: which layers bear fewer bits?
# - Prune first (`prune_magnitude`), then quantize: `gc.save(path, net, masks, scales)` takes both records.
