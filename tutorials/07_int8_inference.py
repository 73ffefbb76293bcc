# %% [markdown]
# # 7. Int8 inference: a network on integer kernels
#
# - **You will be able to** take a trained network to 8-bit integers, choose thresholds by calibration, write down what
#   an integer layer computes, see which kernels ran, and bound the loss of accuracy.
# - **You need to know** scales and rounding of weights, [tutorial 2](02_quantization_alexnet.py). The article stops
#   there: its network still computes in fp32.
# - **Time on two cores:** <!-- time.07: begin -->50 seconds; with `--long` 10 CPU minutes<!-- time.07: end -->
# - **Downloads:** CIFAR-10, about 170 MB, once.
#
# *What you will see:* a trained ResNet that computes with 8-bit integers. On a processor with VNNI instructions it is
# four to five times as fast, on one with AVX2 alone two to three times; its file is a quarter as long. It agrees with
# the fp32 network on more than 99 % of the images. You see what each part of that costs and why it works, and a network
# of MXNet's model zoo taken the same way.
#
# Run `python tutorials/07_int8_inference.py`: accuracies are on the first 1,000 test images. With `--long` there are
# all test images and a table of bit widths. Or open it as a notebook.

# %%
from course import LONG, Results

import gluon_compress as gc
from gluon_compress import measure_latency

import mxnet as mx
import numpy as np
from mxnet.gluon.model_zoo import vision

train, test = gc.datasets.cifar10()
results = Results("07_int8_inference", (test if LONG else test.subset(slice(0, 1000))).batches(100))
calibration = train.subset(slice(0, 256)).batches(64)

# %% [markdown]
# ## One call
#
# Weights have been known since training; what flows between the layers has to be looked at. `quantize` runs a few
# hundred images through the network (*calibration*) and gives each tensor a threshold: beyond it values are cut,
# below it they are rounded to 255 steps. The network you give it is not changed. The figure shows how strong each
# layer's output is beside the error of the rounding, the signal-to-noise ratio in decibels: 10 dB more mean a tenth
# of the noise's power.

# %%
net = gc.params.load("resnet18_cifar10")
results.add("ResNet-18, fp32", net)
int8 = gc.quantization.quantize(net, calibration)
results.add("... on integers", int8)
print(int8.record)
gc.measuring.plots.plot_quantization(
    int8.record, results.path(".png"), title="ResNet-18 on CIFAR-10 in 8 bits: signal to noise")

# %% [markdown]
# Accuracy alone hides much: two networks can be equally often wrong on different images. So count the images on which
# both say the same.

# %%


def classes(net):
    return np.concatenate([net(images).asnumpy().argmax(axis=1) for images, _ in results.test_data])


fp32_classes = classes(net)
results.numbers["agreement of int8 and fp32"] = float((classes(int8) == fp32_classes).mean())
print(f"int8 and fp32 agree on {results.numbers['agreement of int8 and fp32']:.2%} of the test images")

# %% [markdown]
# ## What runs where
#
# A layer multiplies codes and adds them up in 32 bits, and rounds once:
#
#     code_out = round((sum(code_w * code_x) + round(bias / (s_w * s_x))) * s_w * s_x / s_out)
#
# BatchNorm is inside the weights and the bias; ReLU and the addition of the shortcut are done before the rounding. So
# between two layers there is nothing but integers:

# %%
operators = [node.operator for node in gc.network.graph.Graph(int8).nodes if node.operator != "null"]
for operator in dict.fromkeys(operators):
    print(f"{operators.count(operator):4d} x {operator}")

# %% [markdown]
# The processor has several instructions for that; oneDNN, which does the work, picks the best. The table says what
# it picked, with the types of input, weight and output (`u8` is an unsigned 8-bit integer) and the time in each:

# %%
print(gc.measuring.kernels_of(int8, results.example))

# %% [markdown]
# ## The same arithmetic without the kernels
#
# `simulate=True` computes the same codes in fp32, where integers below 2**24 are exact: all but values half-way between
# two codes come out the same. It runs anywhere, and knows any number of bits. (Processors without VNNI add pairs of
# products in 16 bits. There weights are a little narrower where such sums would be cut, and the record says so.)

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
# The file holds the integer codes, their scales and the thresholds: no images are needed again, and what was measured
# is what runs, bit for bit. The same file loads into the original network, with rounded weights, or as plain fp32.

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
# finds and leaves those in fp32, and says which. Take images that are not the test images. Here nothing has to stay:

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
# the weights here are random, which is enough to measure time and size.

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
# - `exclude=["features.0", "Dense"]`: the first layer and the dense ones in fp32. What is it worth?
# - Prune channels first (tutorial 6), then quantize: do the gains multiply?
