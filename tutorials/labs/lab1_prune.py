# %% [markdown]
# # Lab 1. Prune
#
# **90 minutes.** *You will be able to:* make a mask by hand and keep it through training; remove channels together with
# everything that hangs on them; say in advance what that does to bytes, multiplications and time.
#
# *You need:* NumPy, and a training loop in Gluon (`record`, `backward`, `step`). Tutorials
# [1](../01_threshold_pruning_lenet.py) and [5](../05_structured_pruning_simple_cnn.py) are on the same matter.
# *Computing:* about a minute on two cores. *Download:* MNIST, 11 MB, once.
#
# `python tutorials/weave.py` makes the notebook, `lab1_prune.ipynb` in `tutorials/woven/en/labs`; run it there.
# Replace each `...` by code of yours and run the cell: its last line checks what you wrote and says what is wrong.
# Check as often as you like. Use in a function its arguments, imports and other functions of yours: what a cell has
# computed is not there when the notebook is graded. Answer a question, with a letter such as `"a"`, before you run the
# cells below it; each wrong choice is explained. Hand in this notebook and the file `lab1.gcz` that task 1.9 makes
# in the same folder.
#
# `lab` has the images: `lab.train.batches(128, shuffle=True)` gives the training images in batches `(images, labels)`,
# `lab.example` is one batch of held-out images, and `lab.accuracy(net)` the accuracy on all held-out ones. (SimpleCNN
# was trained on these, too, so it is a little too high; what counts is the difference.)

# %%
from lab import Lab, curves

import gluon_compress as gc
import mxnet as mx
import numpy as np
from gluon_compress.network import layers
from mxnet import autograd

lab = Lab(1)
net = gc.params.load("simple_cnn_mnist")
for layer in layers(net):
    print(f"{layer.name}: weight {layer.weight.shape}, {layer.weight.data().size:,} numbers")
print(f"held-out accuracy as trained: {lab.accuracy(net):.4f}")

# %% [markdown]
# ## 1.1 A mask (10 minutes)
#
# A mask has the shape of the weight: 1 keeps a weight, 0 prunes it. Keep those of the largest magnitude:
#
#     kept = size - round(sparsity * size)
#
# Exactly so many, also where several weights are equally large (`np.argsort` ranks them).

# %%
def magnitude_mask(weight, sparsity):
    """A float32 array of 0 and 1 with the shape of ``weight``, a NumPy array."""
    # solution
    mask = np.zeros(weight.size, np.float32)
    kept = weight.size - round(sparsity * weight.size)
    mask[np.argsort(np.abs(weight), axis=None)[weight.size - kept:]] = 1
    return mask.reshape(weight.shape)
    # end of solution


lab.check(1, magnitude_mask)

# %% [markdown]
# The library's call, and that both prune the same weights:

# %%
weight = net.fc1.weight.data().asnumpy()
masks = gc.pruning.prune_magnitude(net, 0.8, select=["fc1"])
print(masks)
print("the same weights:", (net.fc1.weight.data().asnumpy() == weight * magnitude_mask(weight, 0.8)).all())

# %% [markdown]
# ## 1.2 One threshold for all layers (10 minutes)
#
# Layers differ in how large their weights are. With one ranking for all of them the layers with many small weights lose
# more.

# %%
def global_masks(weights, sparsity):
    """{name: mask} for {name: weight}: of all weights together, keep those of the largest magnitude."""
    # solution
    together = np.concatenate([weight.ravel() for weight in weights.values()])
    mask = magnitude_mask(together, sparsity)
    ends = np.cumsum([weight.size for weight in weights.values()])
    parts = np.split(mask, ends[:-1])
    return {name: part.reshape(weight.shape) for (name, weight), part in zip(weights.items(), parts)}
    # end of solution


lab.check(2, global_masks)

# %%
for scope in ("layer", "global"):
    net = gc.params.load("simple_cnn_mnist")
    gc.pruning.prune_magnitude(net, 0.8, scope=scope)
    shares = [f"{layer.name} {np.mean(layer.weight.data().asnumpy() == 0):.0%}" for layer in layers(net)]
    print(f"scope={scope!r}: zeros {', '.join(shares)}; held-out accuracy {lab.accuracy(net):.4f}")

# %% [markdown]
# ## 1.3 Predict: bytes and time (5 minutes)
#
# With 80 % of the weights at zero, what happens to the file that Gluon's `save_parameters` writes, and to the time of a
# forward pass?
#
# - **a** Both fall to about a fifth.
# - **b** Neither changes.
# - **c** The file stays as it is, the time falls: multiplying by zero is quick.

# %%
# solution
answer_1_3 = "b"
# end of solution
lab.check(3, answer_1_3)

# %%
original = gc.params.load("simple_cnn_mnist")
for title, network in (("as trained", original), ("80 % zeros", net)):
    network.save_parameters("lab1.params")
    with open("lab1.params", "rb") as file:
        size = len(file.read())
    network.hybridize(static_alloc=True, static_shape=True)
    milliseconds = gc.measure_latency(network, lab.example, repeats=5).median
    print(f"{title}: {size:,} bytes, {milliseconds:.1f} ms")

# %% [markdown]
# ## 1.4 A masked step (15 minutes)
#
# After pruning, the network trains on, and the pruned weights must stay at zero. A gradient of zero is not enough:
# momentum from earlier steps, or weight decay, still moves a weight. So apply the masks after the step:
# `parameter.data()` reads a parameter, `parameter.set_data(...)` writes it.

# %%
def masked_step(net, trainer, loss_function, images, labels, masks):
    """One step of training on a batch; ``masks`` is {Gluon parameter: NDArray of 0 and 1}. Returns the mean loss."""
    # solution
    with autograd.record():
        losses = loss_function(net(images), labels)
    losses.backward()
    trainer.step(len(images))
    for parameter, mask in masks.items():
        parameter.set_data(parameter.data() * mask)
    return losses.mean().asscalar()
    # end of solution


lab.check(4, masked_step)

# %% [markdown]
# Your step in a loop, and the library's `MaskedTrainer` in the same loop. From the same weights and batches both get to
# the same network:

# %%
optimizer = "sgd", {"learning_rate": 0.02, "momentum": 0.9}
loss_function = mx.gluon.loss.SoftmaxCrossEntropyLoss()
batches = list(lab.train.batches(128))

own = gc.params.load("simple_cnn_mnist")
weights = {layer.name: layer.weight.data().asnumpy() for layer in layers(own)}
own_masks = {layer.weight: mx.nd.array(mask)
             for layer, mask in zip(layers(own), global_masks(weights, 0.9).values())}
for parameter, mask in own_masks.items():
    parameter.set_data(parameter.data() * mask)
print(f"90 % pruned: {lab.accuracy(own):.4f}")
trainer = mx.gluon.Trainer(own.collect_params(), *optimizer)
for images, labels in batches:
    masked_step(own, trainer, loss_function, images, labels, own_masks)

librarys = gc.params.load("simple_cnn_mnist")
masks = gc.pruning.prune_magnitude(librarys, 0.9, scope="global")
trainer = gc.pruning.MaskedTrainer(librarys, masks, *optimizer)
for images, labels in batches:
    with autograd.record():
        losses = loss_function(librarys(images), labels)
    losses.backward()
    trainer.step(len(images))

difference = np.abs(own(lab.example).asnumpy() - librarys(lab.example).asnumpy()).max()
print(f"after one epoch: {lab.accuracy(own):.4f}, the library's {lab.accuracy(librarys):.4f}; "
      f"largest difference of the outputs {difference:.1e}")

# %% [markdown]
# ## 1.5 Which channels? (5 minutes)
#
# To be faster with ordinary kernels, a network must lose whole channels. Rank the output channels of a convolution by
# the L1 norm of their weights, the sum of the magnitudes.

# %%
def channel_importance(weight):
    """The L1 norm of each output channel; ``weight`` is (outputs, inputs, height, width)."""
    # solution
    return np.abs(weight).sum(axis=(1, 2, 3))
    # end of solution


lab.check(5, channel_importance)

# %% [markdown]
# ## 1.6 Remove them, and what hangs on them (15 minutes)
#
# A channel takes its bias with it, and what reads it. Between `conv2` and `fc1` are only ReLU, pooling and flattening.
# Flattening lays out one channel after the other: with p pixels per channel, channel c is columns `c * p` to
# `c * p + p - 1` of the dense layer.

# %%
def remove_channels(conv_weight, conv_bias, dense_weight, kept):
    """The convolution's weight and bias and the dense layer's weight with the channels ``kept`` (indices) only."""
    # solution
    pixels = dense_weight.shape[1] // len(conv_bias)
    columns = (kept[:, None] * pixels + np.arange(pixels)).ravel()
    return conv_weight[kept], conv_bias[kept], dense_weight[:, columns]
    # end of solution


lab.check(6, remove_channels)

# %%
net = gc.params.load("simple_cnn_mnist")
arrays = [parameter.data().asnumpy() for parameter in (net.conv2.weight, net.conv2.bias, net.fc1.weight)]
kept = np.sort(np.argsort(channel_importance(arrays[0]))[10:])
small = remove_channels(*arrays, kept)
plan = gc.pruning.prune_channels(net, lab.example, ratio={"conv2": 0.5}, round_to=1)
librarys = [parameter.data().asnumpy() for parameter in (net.conv2.weight, net.conv2.bias, net.fc1.weight)]
print(plan)
print("the same arrays:", all(np.array_equal(mine, theirs) for mine, theirs in zip(small, librarys)))

# %% [markdown]
# ## 1.7 Predict: multiplications (5 minutes)
#
# Every layer loses 30 % of its channels. What is left of the multiplications (MACs) of a convolution in the middle of
# the network?
#
# - **a** 70 %
# - **b** 49 %
# - **c** 30 %

# %%
# solution
answer_1_7 = "b"
# end of solution
lab.check(7, answer_1_7)

# %%
before = gc.report(gc.params.load("simple_cnn_mnist"), lab.example).macs
net = gc.params.load("simple_cnn_mnist")
gc.pruning.prune_channels(net, lab.example, ratio=0.3, round_to=1)
print(f"all of SimpleCNN: {gc.report(net, lab.example).macs / before:.0%} of the MACs; "
      f"its first layer reads the image, which loses nothing")

# %% [markdown]
# ## 1.8 Predict: milliseconds (10 minutes)
#
# A convolution of 48 channels to 48 has about half of the multiplications of one of 64 to 64. One of 45 to 45 has fewer
# still. What about the time?
#
# - **a** It falls like the multiplications: 45 channels are the fastest of the three.
# - **b** It does not fall at all: time does not depend on the number of channels.
# - **c** It falls for 48 channels; 45 take as long as 48 or longer.

# %%
# solution
answer_1_8 = "c"
# end of solution
lab.check(8, answer_1_8)

# %%
curve = curves()["convolution"]
largest = curve["milliseconds"][-1]
for channels, milliseconds in zip(curve["channels"], curve["milliseconds"]):
    print(f"{channels} channels: {(channels / 64) ** 2:4.0%} of the MACs, {milliseconds / largest:4.0%} of the time  "
          f"{'#' * round(40 * milliseconds / largest)}")

# %% [markdown]
# These times were measured once, by `measure_curves.py`; yours may differ, and no points depend on them. In your own
# programs leave `round_to` out: wide layers then keep a multiple of 8 or 16 channels.
#
# ## 1.9 The bar (15 minutes)
#
# SimpleCNN's parameters take 88 kB. Make a file of **at most 27,000 bytes** that recognizes **at least 97.5 %** of the
# held-out images, in at most four minutes. Remove channels, train, prune the rest with masks, train again. The held-out
# images decide; do not train on them. `gc.training.fit(net, lab.train.batches(128, shuffle=True), 2, trainer)` is the
# training loop, here for 2 epochs; make a new trainer after each pruning. Everything above may be used here, and at the
# end stands `return net, [plan, masks]`.

# %%
def compress():
    """A network and the list of its records, in the order in which they were made."""
    # solution
    net = gc.params.load("simple_cnn_mnist")
    optimizer = "nag", {"learning_rate": 0.02, "momentum": 0.9, "wd": 1e-4}
    plan = gc.pruning.prune_channels(net, lab.example, ratio=0.3, round_to=1)
    trainer = mx.gluon.Trainer(net.collect_params(), *optimizer)
    gc.training.fit(net, lab.train.batches(128, shuffle=True), 2, trainer, seed=0)
    masks = gc.pruning.prune_magnitude(net, 0.5, scope="global")
    trainer = gc.pruning.MaskedTrainer(net, masks, *optimizer)
    gc.training.fit(net, lab.train.batches(128, shuffle=True), 2, trainer, seed=0)
    return net, [plan, masks]
    # end of solution


lab.hand_in(compress)

# %% [markdown]
# ## 1.10 At home: repair the article's pruning
#
# This is how the first article prunes. It runs without an error, and there is more than one thing wrong with it
# (`ERRATA.md` has it in entries 5 to 7; look for yourself first). Mend it: set to zero the weights of all `Conv2D`
# layers, whatever they are called, whose magnitude is at most `threshold`, and touch nothing else; let all that is
# left train on; and return {Gluon parameter: mask}, without which 1.4 could not hold the zeros.

# %%
def parameter_pruning(model, threshold):
    """Set weights of convolutions to zero whose magnitude is at most ``threshold``; return {Gluon parameter: mask}."""
    # article
    # parameters = model.collect_params()
    # for param_name, param_value in parameters.items():
    #     if 'dense' not in param_name:
    #         mask = mx.nd.abs(param_value.data()) > threshold
    #         param_value.set_data(param_value.data() * mask)
    #         param_value.grad_req = 'null'
    # solution
    masks = {}
    for layer in layers(model):
        if layer.kind == "Conv2D":
            mask = mx.nd.abs(layer.weight.data()) > threshold
            layer.weight.set_data(layer.weight.data() * mask)
            masks[layer.weight] = mask
    return masks
    # end of solution


lab.check(10, parameter_pruning)

# %% [markdown]
# ## 1.11 At home: repair the article's flattening
#
# The network of the second article flattens for the dense layer, which reads 320 numbers, by `x.view(-1, 320)`. That is
# right as long as 20 channels of 4x4, 320 numbers, are left of each image. With half of the channels this line still
# raises no error. How many rows does it make of 64 images? Mend it, so that each image stays one row (`ERRATA.md`,
# entry 57).

# %%
def flattened(x):
    """A row for each image; ``x`` is an NDArray (images, channels, height, width)."""
    # article
    # x = x.reshape((-1, 320))
    # return x
    # solution
    return x.reshape((x.shape[0], -1))
    # end of solution


lab.check(11, flattened)

# %% [markdown]
# ## To take home
#
# - A mask alone makes a network neither smaller nor faster; a file that knows the mask is smaller, and fewer channels
#   are faster.
# - Prune, then train: the accuracy comes back in the training, and the masks must hold in it.
# - Multiplications are a prediction, milliseconds a measurement.
