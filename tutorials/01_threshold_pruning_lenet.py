# %% [markdown]
# # 1. Threshold pruning: LeNet on MNIST
#
# - **You will be able to** prune a network by thresholds that you chose on held-out images, train what is left while
#   the pruned weights stay zero, and say why the first article's loop prunes next to nothing.
# - **You need to know** how a Gluon network is trained (if not: *Dive into Deep Learning*, in its MXNet edition, the
#   chapters on linear networks, multilayer perceptrons, deep learning computation and convolutional networks), and what
#   a convolution and a dense layer compute. Words, and Gluon beside PyTorch: [TERMINOLOGY.md](TERMINOLOGY.md).
# - **Time on two cores:** <!-- time.01: begin -->30 seconds; with `--long` 4 CPU minutes<!-- time.01: end -->
# - **Downloads:** MNIST, about 12 MB, once.
#
# *What you will see:* what the article's line `grad_req = 'null'` costs, and a LeNet with less than a tenth of the
# weights that loses about a tenth of a point of accuracy.
#
# Install as the README says. With the Python of that environment run
# `python tutorials/01_threshold_pruning_lenet.py`, with `--long` for 20,000 images instead of 3,500 and three seeds;
# or open it as a notebook (`pip install -e '.[notebooks]' jupyterlab`; `COURSE_LONG=1 jupyter lab` for its long
# version, as for the other tutorials). `python tutorials/weave.py` writes notebooks in English and in Chinese.
#
# Figures and files go to `tutorials/output`. `course` is a small module that the tutorials share; the table of its
# `Results`, printed at the end, has for each network the accuracy on the test images, the parameters that are not zero,
# the multiply-accumulates (MACs) for one image, the bytes of its file, and the time of a batch: the median, and the
# quartiles in brackets.

# %%
from itertools import islice

from course import LONG, Results, errors, show_training

import gluon_compress as gc
from gluon_compress.network import layers
from gluon_compress.measuring.plots import plot_curves

import mxnet as mx
import numpy as np
from matplotlib.figure import Figure
from mxnet.gluon import nn

train, test = gc.datasets.mnist()
# Choices are made on images held out of the fine-tuning, never on the test images. The shipped network saw them
# when it was trained, so accuracies on them are too high; what counts is the difference between them.
train, validation = train.split(5000)
train = train.subset(slice(0, 20000 if LONG else 3500))
validation_data = validation.subset(slice(0, 5000 if LONG else 2000)).batches(500)
results = Results("01_threshold_pruning_lenet", test.batches(500))

# %% [markdown]
# ## What the article says
#
# > Parameter pruning removes redundant parameters of low importance: set a threshold, and drop the
# > weights below it.
#
# ```python
# def parameter_pruning(model, threshold=0.001):
#     parameters = model.collect_params()
#     for param_name, param_value in parameters.items():
#         if 'dense' not in param_name:                    # only the convolutions
#             mask = nd.abs(param_value.data()) > threshold
#             param_value.set_data(param_value.data() * mask)
#             param_value.grad_req = 'null'                # no longer takes part in gradient computation
# ```
#
# ## What is wrong with it
#
# 1. The layers are chosen by a substring of a parameter's name. Put the network into a block called
#    `dense_features` and nothing is pruned.
# 2. Everything that isn't called "dense" is thresholded: biases too, and the running variance of a
#    BatchNorm, which must not be zero.
# 3. `grad_req = 'null'` freezes the *whole* parameter, the surviving weights included.
# 4. 0.001 is far below the weights of a trained network, and nothing says how to choose it.
# 5. The file that `save_parameters` writes afterwards is exactly as long as before.
#
# [ERRATA.md](ERRATA.md) has these and the others, each with a test.
#
# ## From scratch
#
# The technique itself is two lines:
#
#     mask = |w| > threshold            1 keeps a weight, 0 prunes it
#     w    = mask * w
#
# Here is how much of each layer the article's threshold would remove.
#
# **Figure:** on the left the weights of the second convolution. The article's threshold is the thin black line:
# few weights are inside. On the right the mask of a threshold of 0.05, a row for each output channel:
# black weights go, and they are spread over all channels.

# %%
net = gc.params.load("lenet_mnist")
print(net)
results.add("LeNet, as trained", net)

masks_by_hand = {}
for layer in layers(net):
    weight = layer.weight.data().asnumpy()
    mask = masks_by_hand[layer.parameter_name] = np.abs(weight) > 0.001
    print(f"{layer.name:8} {weight.size:7,} weights, {np.mean(~mask):6.2%} of them below 0.001")

weight = net.conv[2].weight.data().asnumpy()
figure = Figure(figsize=(9, 3), layout="constrained")
histogram, picture = figure.subplots(1, 2)
histogram.hist(weight.ravel(), bins=100, color="C0")
histogram.axvspan(-0.05, 0.05, color="C1", alpha=0.3, label="below 0.05")
histogram.axvspan(-0.001, 0.001, color="black", label="below 0.001")
histogram.set(xlabel="weight of conv.2", ylabel="number of weights")
histogram.legend()
picture.imshow((np.abs(weight) > 0.05).reshape(len(weight), -1), cmap="gray", aspect="auto", interpolation="nearest")
picture.set(xlabel="weights of the channel", ylabel="output channel", title="mask: white is kept, black goes")
figure.savefig(results.path("-mask.png"), dpi=120)

# %% [markdown]
# ## With the library
#
# `prune_threshold` changes the network in place and returns `Masks`: what was pruned, and what was left
# alone and why.

# %%
masks = gc.pruning.prune_threshold(net, 0.001)
print(masks)
results.add("article's threshold, convolutions", net, masks)
for name, kept in masks.kept.items():
    assert (kept == masks_by_hand[name]).all(), f"the library prunes other weights of {name} than we did"

# %% [markdown]
# ## Choosing the threshold
#
# Each layer has weights of its own size, so one threshold prunes the layers to very different degrees.
# We raise it, look at the accuracy on held-out images, and take the largest that costs at most one
# point. We do so for the convolutions, as in the article, and for all layers: 94 % of LeNet's weights are
# in the first dense layer.
#
# **Figure:** the error, one minus the accuracy, on a log axis. Follow a curve from the left: the error hardly changes,
# then rises steeply. What is chosen is where the curve meets the level line of one point lost. The article's 0.001
# would be at the very left, where nothing has happened yet.

# %%
thresholds = [round(0.01 * step, 2) for step in range(16)]
curves, chosen = {}, {}
for title, select in (("convolutions", nn.Conv2D), ("all layers", (nn.Conv2D, nn.Dense))):
    curves[title] = []
    for threshold in thresholds:
        candidate = gc.params.load("lenet_mnist")
        gc.pruning.prune_threshold(candidate, threshold, select=select)
        accuracy = gc.training.evaluate(candidate, validation_data)
        curves[title].append((threshold, accuracy))
        if accuracy >= curves[title][0][1] - 0.01:
            chosen[title] = threshold, candidate
shown = {**curves, "one point lost": [(x, curves["all layers"][0][1] - 0.01) for x in (thresholds[0], thresholds[-1])],
         "chosen": [(chosen["all layers"][0], dict(curves["all layers"])[chosen["all layers"][0]])]}
plot_curves({title: errors(points) for title, points in shown.items()}, results.path(".png"), xlabel="threshold",
            ylabel="error on held-out images", title="LeNet, one threshold, no fine-tuning", log=True)
for title, (threshold, candidate) in chosen.items():
    report = gc.report(candidate, results.example)
    print(f"{title}: the largest threshold that costs at most a point is {threshold:.2f}; "
          f"{1 - report.nonzeros / report.parameters:.1%} of the network's parameters are zero then")

# %% [markdown]
# ## Training around the zeros, by hand
#
# Train a pruned network, and its zeros move like all weights. They have to be held. Is it enough to multiply the
# *gradients* by the mask? No: the trainer keeps a momentum, the running sum of earlier gradients, and what it learned
# before the pruning goes on to move a weight whose gradient is zero. So multiply the *weights* after each step:
#
#     v <- momentum * v + gradient        w <- mask * (w - rate * v)
#
# (`nag`, Nesterov's variant of it, looks one step ahead.) Below is an ordinary training step in Gluon:
# `autograd.record()` keeps a *tape* of what is computed, `backward` goes back along it for the gradients, `step`
# updates.

# %%
cross_entropy = mx.gluon.loss.SoftmaxCrossEntropyLoss()
OPTIMIZER = "nag", {"learning_rate": 0.01, "momentum": 0.9, "wd": 5e-4}


def prune_by_hand(net, threshold):
    """Set small weights of the convolutions to zero; return [(weight, mask)]."""
    pairs = [(layer.weight, mx.nd.abs(layer.weight.data()) > threshold) for layer in layers(net)
             if layer.kind == "Conv2D"]
    for weight, mask in pairs:
        weight.set_data(mask * weight.data())
    return pairs


def training_step(net, trainer, images, labels, pairs=(), hold=None):
    with mx.autograd.record():
        losses = cross_entropy(net(images), labels)
    losses.backward()
    for weight, mask in pairs:
        if hold == "gradients":
            weight.grad()[:] *= mask
    trainer.step(len(images))
    for weight, mask in pairs:
        if hold == "weights":
            weight.set_data(mask * weight.data())


first, *batches = islice(train.batches(128), 11)
for hold in (None, "gradients", "weights"):
    net = gc.params.load("lenet_mnist")
    trainer = mx.gluon.Trainer(net.collect_params(), *OPTIMIZER)
    training_step(net, trainer, *first)                           # from here on there is momentum
    pairs = prune_by_hand(net, 0.1)
    for images, labels in batches:
        training_step(net, trainer, images, labels, pairs, hold)
    pruned = sum(int((1 - mask).sum().asscalar()) for _, mask in pairs)
    grown = sum(int(((1 - mask) * (weight.data() != 0)).sum().asscalar()) for weight, mask in pairs)
    print(f"mask on {hold}: {grown:,} of {pruned:,} pruned weights are no longer zero after ten steps")
    assert grown == 0 if hold == "weights" else grown > 0.9 * pruned

# %% [markdown]
# `MaskedTrainer` is such a trainer in one object, for every optimizer, and for several devices. (It masks the
# gradients, too, since some optimizers take norms over a whole layer.) Ten steps of it give the weights that ours give,
# to the last bit:

# %%
by_hand, with_library = gc.params.load("lenet_mnist"), gc.params.load("lenet_mnist")
pairs = prune_by_hand(by_hand, 0.1)
trainer = mx.gluon.Trainer(by_hand.collect_params(), *OPTIMIZER)
masks = gc.pruning.prune_threshold(with_library, 0.1)
masked_trainer = gc.pruning.MaskedTrainer(with_library, masks, *OPTIMIZER)
for images, labels in batches:
    training_step(by_hand, trainer, images, labels, pairs, hold="weights")
    training_step(with_library, masked_trainer, images, labels)
for ours, theirs in zip(by_hand.collect_params().values(), with_library.collect_params().values()):
    assert (ours.data() == theirs.data()).asnumpy().all(), f"MaskedTrainer trains {theirs.name} otherwise than we did"

# %% [markdown]
# ## What freezing costs
#
# After the article's loop the pruned weights stay zero because the whole parameter stops training.
# `MaskedTrainer` holds only the pruned weights at zero and trains the survivors.
#
# To compare them fairly we prune the same weights, of the convolutions only, by two thresholds: once with the
# article's loop, once with ours. `fit` is an ordinary training loop: forward pass, `backward`, a step of the
# trainer for each batch. Its learning rate falls along half a cosine from the trainer's to zero.

# %%
seeds = range(3) if LONG else range(1)


def article_pruning(net, threshold):
    """The article's loop. In this LeNet the names of the dense layers do contain "dense"."""
    for name, parameter in net.collect_params().items():
        if "dense" not in name:
            parameter.set_data(parameter.data() * (mx.nd.abs(parameter.data()) > threshold))
            parameter.grad_req = "null"


def trainer_of(net, masks=None):
    """A trainer of all parameters that are not frozen; with masks a MaskedTrainer."""
    if masks is None:
        return mx.gluon.Trainer(net.collect_params(), *OPTIMIZER)
    return gc.pruning.MaskedTrainer(net, masks, *OPTIMIZER)


def articles(threshold):
    net = gc.params.load("lenet_mnist")
    article_pruning(net, threshold)
    return net, None, trainer_of(net)


def masked(threshold, select=nn.Conv2D):
    net = gc.params.load("lenet_mnist")
    masks = gc.pruning.prune_threshold(net, threshold, select=select)
    return net, masks, trainer_of(net, masks)


def fine_tune(title, make, *arguments):
    """Fine-tune what ``make(*arguments)`` gives with each seed; add the mean to the results, return the networks."""
    networks, accuracies = [], []
    for seed in seeds:
        net, masks, trainer = make(*arguments)
        history = gc.training.fit(net, train.batches(128, shuffle=True), 2, trainer, seed=seed)
        show_training(f"{title}, seed {seed}", history)
        accuracies.append(gc.training.evaluate(net, results.test_data))
        networks.append((net, masks))
    results.add(title, net, *([] if masks is None else [masks]), accuracies=accuracies)
    return networks


for threshold in (0.10, 0.15):
    fine_tune(f"convolutions, threshold {threshold:.2f}, the article's loop", articles, threshold)
    fine_tune(f"convolutions, threshold {threshold:.2f}, MaskedTrainer", masked, threshold)

# %% [markdown]
# ## All layers
#
# Now the dense layers, too, with the threshold that was chosen above. `masks.freeze(net)` does to all pruned layers
# what the article's line does to its convolutions: nothing but the biases can train then.
#
# The unpruned network gets the same extra training, or we would credit pruning with it.

# %%
threshold, every = chosen["all layers"][0], (nn.Conv2D, nn.Dense)


def frozen():
    net, masks, _ = masked(threshold, every)
    return net, masks, trainer_of(masks.freeze(net))


def unpruned():
    net = gc.params.load("lenet_mnist")
    return net, None, trainer_of(net)


results.add(f"all layers, threshold {threshold:.2f}, not fine-tuned", *masked(threshold, every)[:2])
fine_tune("... pruned layers frozen, biases trained", frozen)
networks = fine_tune("... survivors trained (MaskedTrainer)", masked, threshold, every)
fine_tune("LeNet, unpruned, same extra training", unpruned)

# %% [markdown]
# ## Saving what is left
#
# `gc.save` stores the mask, coded in less than a bit for each weight, and the surviving weights; quantized to 8 bits,
# these take about a quarter of the space. The file loads into a fresh LeNet, or with no network at all.

# %%
accuracies = []
for net, _ in networks:
    scales = gc.quantization.quantize_weights(net, bits=8)
    accuracies.append(gc.training.evaluate(net, results.test_data))
results.add("survivors trained, and 8-bit weights", net, networks[-1][1], scales, accuracies=accuracies)
again = gc.load(results.path(f"-{len(results.rows) - 1}.gcz"), gc.models.LeNet())
example = results.example
assert (again(example).asnumpy() == net(example).asnumpy()).all(), "the loaded network computes something else"
results.finish()

# %% [markdown]
# ## What this shows
#
# - The article's threshold removes under 1 % of the convolutions' weights.
# - A mask on the gradients does not hold the zeros: with momentum from before the pruning nearly all of them move. A
#   mask on the weights does.
# - Freezing the convolutions costs little: at most three tenths of a point against the same zeros with
#   `MaskedTrainer`. The dense layers still train, and make up for it. Freezing the dense layers as well takes away
#   most of what fine-tuning wins.
# - With all layers and a chosen threshold nine of ten weights go; training the survivors brings the accuracy back to
#   within three tenths of a point of the unpruned network with the same extra training.
# - The forward pass takes as long as before: a dense kernel multiplies zeros too. Tutorial 5 makes the
#   network faster.
#
# ## What to try next
#
# - A threshold per layer, in units of the layer's standard deviation (Han et al. 2015).
# - `prune_magnitude(net, 0.95, scope="global")`, which finds one threshold for a given sparsity.
# - Fine-tune with another optimizer: the zeros stay zero under Adam as well.
