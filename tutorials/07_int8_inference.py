# %% [markdown]
# # 7. Int8 inference: a network on integer kernels
#
# - **You will be able to** take a trained network to 8-bit integers, choose thresholds by calibration, write down what
#   an integer layer computes, see which kernels ran, and bound the loss of accuracy.
# - **You need to know** scales and rounding of weights, [tutorial 2](02_quantization_alexnet.py). The first article
#   stops there: its network still computes in fp32, floating-point numbers of 32 bits. Words:
#   [TERMINOLOGY.md](TERMINOLOGY.md).
# - **Time on two cores:** <!-- time.07: begin -->50 seconds; with `--long` 10 CPU minutes<!-- time.07: end -->
# - **Downloads:** CIFAR-10, about 170 MB, once.
#
# *What you will see:* a trained ResNet that computes with 8-bit integers. On a processor with VNNI instructions it is
# four to five times as fast as the same network in fp32, on one with AVX2 alone two to three times (VNNI are
# instructions for 8-bit integers, AVX2 older ones for numbers of all kinds); its file is a fifth as long. (The README
# says three to four times: it compares with an fp32 network that has its BatchNorms in its convolutions, which is
# faster.) It agrees with the fp32 network on more than 99 % of the images. You see what each part of that costs and why
# it works, and a network of MXNet's model zoo taken the same way.
#
# Run `python tutorials/07_int8_inference.py`: accuracies are on the first 1,000 test images. With `--long` there are
# all test images and a table of bit widths. Or open it as a notebook. (`course` and its `Results` are those of
# [tutorial 1](01_threshold_pruning_lenet.py): `results.add` measures a network and saves it.)

# %%
from course import LONG, Results

import gluon_compress as gc
from gluon_compress import measure_latency

import mxnet as mx
import numpy as np
from matplotlib.figure import Figure
from mxnet.gluon.model_zoo import vision

train, test = gc.datasets.cifar10()
results = Results("07_int8_inference", (test if LONG else test.subset(slice(0, 1000))).batches(100))
calibration = train.subset(slice(0, 256 if LONG else 128)).batches(64)

# %% [markdown]
# ## One call
#
# Weights have been known since training; what flows between the layers has to be looked at. `quantize` runs a few
# hundred images through the network (*calibration*) and gives each tensor a threshold: beyond it values are cut, within
# it they are rounded to integers of 8 bits. These go from 0 to 255 where no value is negative, as after a ReLU, else
# from -128 to 127. The network you give it is not changed.
#
# **Figure:** how strong each layer's output is beside the error of the rounding, the signal-to-noise ratio in decibels.
# 10 dB more mean a tenth of the noise's power. Look for a bar that is much shorter than the others: such a layer would
# be the first to keep in fp32. Here there is none.

# %%
net = gc.params.load("resnet18_cifar10")
results.add("ResNet-18, fp32", net)
int8 = gc.quantization.quantize(net, calibration)
results.add("... on integers", int8)
print(int8.record)
gc.measuring.plots.plot_quantization(
    int8.record, results.path(".png"), title="ResNet-18 on CIFAR-10 in 8 bits: signal to noise")

# %% [markdown]
# The printed table has a row for each layer: what it runs on, from where to where what it reads and puts out may go
# before it is cut, and its signal-to-noise ratio. `features.3` to `features.6` are the stages of the network,
# `features.3.0` is the first block of a stage, and `body.0` its first convolution. A range that begins at 0 means
# unsigned codes. Below is what stays in fp32, and why; `time` is empty until `measure_islands` measures it. The last
# line says how the thresholds were chosen, and on how many images.
#
# Accuracy alone hides much: two networks can be equally often wrong on different images. So count the images on which
# both say the same.

# %%


def classes(net):
    return np.concatenate([net(images).asnumpy().argmax(axis=1) for images, _ in results.test_data])


fp32_classes = classes(net)
results.numbers["agreement of int8 and fp32"] = float((classes(int8) == fp32_classes).mean())
print(f"int8 and fp32 agree on {results.numbers['agreement of int8 and fp32']:.2%} of the test images")

# %% [markdown]
# ## Calibration from scratch
#
# Take the first convolution inside a block, with its BatchNorm and its ReLU, as a network of its own
# (`correct_bias=False`: the bias stays what the formulas below say, without the library's correction for the mean error
# of the rounding). What goes in has just left a ReLU and is never negative, so its codes are unsigned, from 0 to 255.
# For a threshold T:
#
#     s = T / 255          code = round(min(x, T) / s)          error = mean((code * s - x)²)
#
# A large T makes the steps wide, a small T cuts many values. Try thresholds, and take the one with the least error. The
# library does the same on a histogram (`method="mse"`), so that it need not keep the values. It sees more images than
# we take here and tries other thresholds, so both are close, and not equal. In its record a layer has two entries,
# `input` and `output`, each with the threshold and whether there is a sign.
#
# **Figure:** on the left the values that go in; most are small, and a few lie beyond the dashed line,
# the threshold. On the right the error for each threshold: it has a minimum below the largest value.

# %%
layer = net.features[3][0].body[:3]  # a convolution, its BatchNorm and its ReLU
inputs = [net.features[:3](images) for images, _ in calibration]  # a slice is a network with the same parameters
alone = gc.quantization.quantize(layer, inputs, correct_bias=False)


def squared_error(values, threshold):
    codes = np.rint(np.minimum(values, threshold) / (threshold / 255))
    return np.mean((codes * (threshold / 255) - values) ** 2)


x = np.concatenate([each.asnumpy() for each in inputs])[:64]
thresholds = np.linspace(0.4, 1, 31) * x.max()
mse = [squared_error(x, threshold) for threshold in thresholds]
(name, limits), = alone.record.layers.items()
theirs = limits["input"][0]
print(f"threshold with the least error: {thresholds[np.argmin(mse)]:.3f}, of the library {theirs:.3f}, "
      f"largest value {x.max():.3f}")
assert squared_error(x, theirs) < 1.02 * min(mse), "the library's threshold is worse than ours"

figure = Figure(figsize=(9, 3), layout="constrained")
histogram, curve = figure.subplots(1, 2)
histogram.hist(x[x > 0], bins=100)
histogram.axvline(theirs, color="C1", linestyle="--")
histogram.set(xlabel="value that goes in (zeros left out)", ylabel="number of values", yscale="log")
curve.plot(thresholds, mse, marker="o", markersize=3)
curve.axvline(theirs, color="C1", linestyle="--", label="the library's threshold")
curve.set(xlabel="threshold", ylabel="mean squared error", yscale="log")
curve.legend()
figure.savefig(results.path("-calibration.png"), dpi=120)

# %% [markdown]
# ## An integer layer from scratch
#
# A BatchNorm in inference multiplies each channel by a number and adds another. Both go into the convolution, which has
# no bias of its own here:
#
#     a = gamma / sqrt(variance + epsilon)          w <- a * w          bias = beta - a * mean
#
# Then each output channel of the weights gets a scale. (8 bits hold the codes from -128 to 127. MXNet's kernels take
# the largest weight for 127.5 steps, so that the code -128, which tutorial 2 left unused, is used as well: where that
# weight is negative it becomes -128, where it is positive it is rounded to 128 and cut to 127. The factor `1 + 1e-6`
# below keeps float32 from falling just short of 127.5.) The layer multiplies 8-bit codes, adds the products up in 32
# bits, and rounds once, to the codes of the next layer:
#
#     code_out = round((sum(code_w * code_x) + round(bias / (s_w * s_x))) * s_w * s_x / s_out)
#
# ReLU costs nothing: unsigned codes end at 0, so what is negative becomes 0 by being cut. This is all of it, in NumPy;
# the `1e-5` is Gluon's epsilon. `alone` puts out fp32 numbers, its codes times `s_out`, so we divide by that to compare
# the codes:

# %%
convolution, norm = layer[0], layer[1]
gamma, beta, mean, variance = (parameter.data().asnumpy().astype(np.float64) for parameter in (
    norm.gamma, norm.beta, norm.running_mean, norm.running_var))
a = gamma / np.sqrt(variance + 1e-5)
w = convolution.weight.data().asnumpy() * a[:, None, None, None]
bias = beta - a * mean

s_x, s_out = limits["input"][0] / 255, limits["output"][0] / 255
s_w = np.abs(w).max(axis=(1, 2, 3)) / 127.5
code_w = np.clip(np.rint(w / s_w[:, None, None, None] * (1 + 1e-6)), -128, 127).astype(np.int8)
assert (code_w != alone.codes[f"{name}.weight"]).mean() < 1e-3, "the library has other codes of the weights"

images = inputs[0][:8]
code_x = np.clip(np.rint(images.asnumpy() / s_x), 0, 255).astype(np.uint8)
padded = np.pad(code_x, ((0, 0), (0, 0), (1, 1), (1, 1)))
windows = np.lib.stride_tricks.sliding_window_view(padded, (3, 3), axis=(2, 3))
sums = np.tensordot(windows.astype(np.int32), code_w.astype(np.int32), ([1, 4, 5], [1, 2, 3]))  # int32
sums += np.rint(bias / (s_x * s_w)).astype(np.int32)
code_out = np.clip(np.rint(sums * (s_x * s_w / s_out)), 0, 255).astype(np.uint8).transpose(0, 3, 1, 2)

of_kernel = np.rint(alone(images).asnumpy() / s_out)
apart = np.abs(code_out - of_kernel)
print(f"{sums.dtype} sums up to {np.abs(sums).max():,}; {np.mean(apart == 0):.3%} of the {apart.size:,} codes are "
      f"those of the kernel, none is more than {apart.max():.0f} away")
# without VNNI the kernel's weights are a little narrower, see below
assert apart.max() <= (2 if alone.record.processor else 1), "the kernel computes something else"

# %% [markdown]
# ## What runs where
#
# In the whole network the addition of the shortcut, too, is done before the rounding. So between two convolutions there
# is nothing but integers. In fp32 is what stands in the record above: the average at the end. An average over many
# values is much smaller than the largest of them, and with the scale of its input it would use only some of the codes.
# So it is computed in fp32 and gets a range of its own. Then its result is made integers again, for the dense layer:
# that is the second of the two `_contrib_quantize_v2` in the list. `_sg_mkldnn_conv` is a convolution with its
# BatchNorm, its addition and its ReLU in one operator (oneDNN was once called MKL-DNN); nodes without an operator,
# `"null"`, are inputs and parameters.

# %%
operators = [node.operator for node in gc.network.graph.Graph(int8).nodes if node.operator != "null"]
for operator in dict.fromkeys(operators):
    print(f"{operators.count(operator):4d} x {operator}")

# %% [markdown]
# The processor has several instructions for that; oneDNN, the library of kernels inside MXNet, picks the best. The
# table says what it picked, with the types of input, weight and output (`u8` is an unsigned 8-bit integer, `s8` one
# with a sign, `f32` is fp32), how many calls there were, and the time in all. The convolution that reads `s8` is the
# first one: images have values below zero. Elsewhere codes are unsigned, even where the record has a range with a sign,
# as before the addition of a shortcut that has a convolution: a constant is added to the one branch, and subtracted
# from the other. A `reorder` changes the type or the order of numbers in memory, `inner_product` is the dense layer:

# %%
print(gc.measuring.kernels_of(int8, results.example))

# %% [markdown]
# ## The same arithmetic without the kernels
#
# `simulate=True` computes the same codes in fp32, where integers below 2**24 are exact; the sums printed above are far
# from that. All but values half-way between two codes come out the same. It runs anywhere, and knows any number of
# bits. (Processors without VNNI add pairs of products in 16 bits. Where such sums would be cut, the codes of the
# weights are kept to a smaller range there, with a larger scale, and the record says so.) With 6 bits the network loses
# less than a point, with 4 bits four to five:

# %%
simulated = gc.quantization.quantize(net, calibration, simulate=True)
results.numbers["agreement of int8 and its simulation"] = float((classes(int8) == classes(simulated)).mean())
print(f"int8 and its simulation agree on {results.numbers['agreement of int8 and its simulation']:.2%}")
results.numbers["accuracy by bits"] = {}
for bits in (8, 7, 6, 5, 4) if LONG else (6, 4):
    fewer = gc.quantization.quantize(net, calibration, bits=bits, simulate=True)
    results.numbers["accuracy by bits"][bits] = accuracy = gc.training.evaluate(fewer, results.test_data)
    print(f"weights and activations in {bits} bits: {accuracy:.4f}")

# %% [markdown]
# ## Saved and loaded
#
# `results.add` has written the file already. It holds the integer codes, their scales and the thresholds: no images are
# needed again, and the network that was measured is the one that runs, bit for bit. The same file loads into the
# original network, whose weights are then the rounded ones. `gc.load(file, precision="fp32")` needs no network for
# that.

# %%
file = results.path("-1.gcz")
again = gc.load(file)
assert np.array_equal(again(results.example).asnumpy(), int8(results.example).asnumpy()), "the file computes otherwise"
fresh = gc.load(file, gc.models.ResNet(18, classes=10, thumbnail=True, width=32))
print(f"loaded into a fresh fp32 network: {gc.training.evaluate(fresh, results.test_data):.4f}")

# %% [markdown]
# ## A bound on the accuracy
#
# When a network loses too much, a few layers are usually to blame. With `evaluate` and `max_accuracy_drop`, `quantize`
# finds and leaves those in fp32, and says which. Take images that are not the test images. (The network was trained on
# those we take here, so both accuracies are too high; what counts is the difference.) Here nothing has to stay:

# %%
held_out = train.subset(slice(2000, 2500)).batches(100)
kept = gc.quantization.quantize(net, calibration, evaluate=lambda net: gc.training.evaluate(net, held_out),
                                max_accuracy_drop=0.01)
print(f"left in fp32: {list(kept.record.left_out) or 'nothing'}; accuracy {kept.record.accuracy:.4f}, "
      f"in fp32 {kept.record.baseline_accuracy:.4f}")

# %% [markdown]
# ## A network of the model zoo
#
# Any HybridBlock will do. With the weights of a download (`gc.params.pretrained`) you would calibrate on real images;
# the weights here are random (`MSRAPrelu` is He's initialization), which is enough to measure time and size. (Compare
# the two speeds with each other, not with those of another machine.) The first call of `zoo` tells Gluon the sizes of
# its layers. `method="minmax"` takes the largest values for thresholds: there is nothing to choose where images are
# random, too. In the table at the end the network on integers has fewer nonzero parameters, because small weights were
# rounded to zero.

# %%
zoo = vision.resnet50_v1()
zoo.initialize(mx.init.MSRAPrelu())
images = mx.nd.random.uniform(shape=(8, 3, 224, 224))
zoo(images)
zoo.hybridize(static_alloc=True, static_shape=True)
integers = gc.quantization.quantize(zoo, [images], method="minmax")
sizes = {"fp32": results.path("-resnet50.params"), "int8": results.path("-resnet50.gcz")}
zoo.save_parameters(str(sizes["fp32"]))
gc.save(sizes["int8"], integers)
for title, network in (("fp32", zoo), ("int8", integers)):
    timing = measure_latency(network, images, repeats=10 if LONG else 5, warmup=2)
    print(f"ResNet-50 {title}: {8000 / timing.median:.0f} images/s ({timing.threads} threads), "
          f"{sizes[title].stat().st_size:,} bytes")
results.finish()

# %% [markdown]
# ## What this shows
#
# - Eight bits are enough for weights and activations, if every output channel of a weight and every activation has a
#   scale of its own, and roundings are few.
# - Integers pay in time only when nothing between the layers leaves them.
# - Agreement with the fp32 network is the sharper measure; publish it beside the accuracy.
#
# ## What to try next
#
# - `method="minmax"`, `"percentile"`, `"entropy"` instead of `"mse"`, the default: how thresholds are chosen.
# - `exclude=["features.0", "Dense"]`: the first layer and the dense ones in fp32. How much accuracy does it win, and
#   what time does it cost?
# - Prune channels first (tutorial 6), then quantize: do the gains multiply?
