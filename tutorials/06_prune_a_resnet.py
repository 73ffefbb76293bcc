# %% [markdown]
# # 6. Pruning a residual network, from curves to a smaller file
#
# - **You will be able to** find out which layers of a residual network can spare channels, remove them where several
#   layers have to lose the same ones, estimate BatchNorm's statistics again, and fine-tune.
# - **You need to know** what a shortcut and a BatchNorm do; [tutorial 5](05_structured_pruning_simple_cnn.py) comes
#   before. The articles prune no residual network. Words, and Gluon beside PyTorch:
#   [TERMINOLOGY.md](TERMINOLOGY.md).
# - **Time on two cores:** <!-- time.06: begin -->80 seconds; with `--long` 15 CPU minutes<!-- time.06: end -->
# - **Downloads:** CIFAR-10, about 170 MB, once.
#
# *What you will see:* why channels of different layers have to go together, how much time a network takes that needs
# little more than a third of the multiplications, and how the accuracy comes back: most of it without any training.
#
# Run `python tutorials/06_prune_a_resnet.py`: accuracies are on the first 1,000 test images, sensitivity on 200
# held-out ones, and 2,000 images are the training. With `--long` there are all test images, sensitivity on 1,000
# images, two epochs of 10,000 training images and two seeds. Or open it as a notebook.

# %%
from course import LONG, Results, errors, show_training
from figures import label_ends

import gluon_compress as gc
from gluon_compress.datasets import compose, random_crop, random_flip
from gluon_compress.network import parameters

import mxnet as mx
import numpy as np
from matplotlib.figure import Figure

train, test = gc.datasets.cifar10()
# Held out of the fine-tuning. The shipped network saw these images when it was trained, so accuracies on them are
# too high; what counts is the difference between them.
train, validation = train.split(2000)
held_out = validation.subset(slice(0, 1000 if LONG else 200))
validation_data = held_out.batches(100)
train = train.subset(slice(0, 10000 if LONG else 2000))
results = Results("06_prune_a_resnet", (test if LONG else test.subset(slice(0, 1000))).batches(100))
example = results.example
BATCHES = 10 if LONG else 5  # to estimate BatchNorm's statistics on

# %% [markdown]
# ## What hangs together
#
# The network begins with a convolution, its BatchNorm and a ReLU (`features.0` to `features.2`). Then come four stages
# of two blocks, `features.3` to `features.6`. A block computes `relu(body(x) + shortcut(x))`; its `body` is a
# convolution (0), BatchNorm (1), ReLU (2), convolution (3) and BatchNorm (4). So `features.3.0.body.3` is the second
# convolution of the first block of the first stage. A `shortcut` that changes the shape is a convolution, `shortcut.0`,
# with a BatchNorm.
#
# In a block channel 7 of the body is added to channel 7 of the shortcut. Remove one and the other has to go, and with
# it channel 7 of every block of the stage, because each adds to the one before: these channels are the stage's residual
# path. `prune_channels` reads that off the network's graph, which it traces with the batch `example`. Ask for half of
# one layer, exactly half (`round_to=1`), and see which layers go along:

# %%
net = gc.params.load("resnet18_cifar10")
results.add("ResNet-18, as trained", net)
plan = gc.pruning.prune_channels(net, example, ratio={"features.0": 0.5}, round_to=1)
print("asked for features.0, went along:", ", ".join(name for name in plan.layers if name != "features.0"))

# %% [markdown]
# ## The same from scratch
#
# Three convolutions make the channels of the first stage: the stem, and the last one of each block. So a channel is
# ranked by the L1 norms of its weights in all three (the default criterion), each divided by the mean of its layer,
# since the weights of one layer are larger than those of another. The shape of a weight is (output channels, input
# channels, height, width). What makes a channel loses output channels, the BatchNorm after it as many numbers, and what
# reads it input channels: the first convolution of each block, and in the next stage that of the block and that of the
# shortcut.

# %%
values = {name: parameter.data().asnumpy() for name, parameter in
          parameters(gc.params.load("resnet18_cifar10")).items()}
makers = {"features.0": "features.1", "features.3.0.body.3": "features.3.0.body.4",
          "features.3.1.body.3": "features.3.1.body.4"}  # convolution: its BatchNorm
readers = ["features.3.0.body.0", "features.3.1.body.0", "features.4.0.body.0", "features.4.0.shortcut.0"]
norms = [np.abs(values[f"{name}.weight"]).sum(axis=(1, 2, 3)) for name in makers]      # L1 norm of each channel
importance = sum(norm / norm.mean() for norm in norms)
kept = np.sort(np.argsort(importance, kind="stable")[16:])
for convolution, norm in makers.items():
    values[f"{convolution}.weight"] = values[f"{convolution}.weight"][kept]
    for part in ("gamma", "beta", "running_mean", "running_var"):
        values[f"{norm}.{part}"] = values[f"{norm}.{part}"][kept]
for name in readers:
    values[f"{name}.weight"] = values[f"{name}.weight"][:, kept]

for name, parameter in parameters(net).items():
    assert np.array_equal(values[name], parameter.data().asnumpy()), f"the library leaves something else of {name}"
print("all", len(values), "parameters are those that prune_channels left")

# %% [markdown]
# ## Sensitivity: what each layer can spare
#
# For each set of layers that go together: remove a fraction of the channels, measure, put them back. Nothing is
# trained, and BatchNorm's statistics stay (see below), so most sets lose more here than they will with new ones: what
# counts is which sets lose more than others. The images are not the test images. (The shipped network was trained on
# them, so the accuracies are too high; what counts is the difference.) The state is kept in a file, so that a long
# measurement can be interrupted; with other images the file is refused.
#
# **Figure:** the error, one minus the accuracy, on a log axis; the dotted line is the network as it is. Solid red lines
# are sets on a residual path, dashed blue ones those inside a block. At the right edge the red lines end above the blue
# ones. In the middle, with half of the channels gone, the path of the last stage (`features.6.0.body.3`) is better off
# than some sets inside blocks. Points below the dotted line are chance: one of the quick
# version's 200 images is half a point.

# %%
net = gc.params.load("resnet18_cifar10")
net.hybridize(static_alloc=True, static_shape=True)
curves = gc.pruning.measure_sensitivity(
    net, lambda net: gc.training.evaluate(net, validation_data), example, kind="channels",
    fractions=(0.25, 0.5, 0.75), state_path=results.path(f"-sensitivity-{len(held_out)}.json"))
print(curves)
results.numbers["held-out accuracy by fraction of channels removed"] = curves.curves
results.numbers["held-out accuracy as trained"] = curves.baseline
figure = Figure(figsize=(8, 4.5), layout="constrained")
axes = figure.subplots()
axes.axhline(1 - curves.baseline, color="black", linestyle=":")
axes.plot([], [], "C3-", label="on a residual path")
axes.plot([], [], "C0--", label="inside a block")
ends = {}
for name, curve in curves.curves.items():
    points = errors([(0.0, curves.baseline), *sorted(curve.items())])
    axes.plot(*zip(*points), "C0--" if name.endswith("body.0") else "C3-", marker="o", markersize=3)
    ends[name] = points[-1]
axes.set(xlabel="fraction of the channels removed from one set", ylabel="error on held-out images", yscale="log",
         xlim=(0, 0.95), title="ResNet-18 on CIFAR-10")
axes.legend(loc="upper left")
label_ends(axes, ends)
figure.savefig(results.path(".png"), dpi=120)

# %% [markdown]
# Read the table stage by stage. With three quarters of the channels gone, those that run through a whole stage
# (`features.0`, `features.4.0.body.3`, ...) lose more than those inside its blocks: everything in the stage is added to
# them. But inside a block is not free: the first blocks of `features.4` and `features.5` lose many points, too, and the
# path of the last stage can spare more than that of the first. `ratios` takes, for each set, the largest fraction
# within a budget, here six points. All sets together lose more than each alone; training has to make up for that.

# %%
ratios = curves.ratios(max_drop=0.06)
for name, ratio in ratios.items():
    print(f"{name:32s} {ratio:.0%}")

# %% [markdown]
# ## Remove them
#
# `round_to=16`: convolutions on CPUs work on 8 or 16 channels at a time. 17 channels can take as long as 32, and a
# *training* step with odd counts as long as before the pruning. It moves the ratios to the nearest multiple, and leaves
# no layer without channels: three quarters of 32 channels become half of them, so that 16 stay, not 8. We compare it
# with a network that has as many multiplications left and lost the same fraction everywhere.
#
# A BatchNorm subtracts the mean and divides by the deviation that the *unpruned* network's activations had. A
# convolution that reads fewer channels adds up fewer products, so both are different. Estimating them again on a few
# batches is no training, and brings back most of what was lost. By hand: normalize each batch with its own mean and
# variance, and take the means of both over the batches. For the first two BatchNorms, one behind the other:

# %%
def with_own_statistics(values, norm, seen):
    """What a BatchNorm does in training, in NumPy; ``seen`` gets the mean and the variance of the batch."""
    mean, variance = values.mean(axis=(0, 2, 3)), values.var(axis=(0, 2, 3))
    seen.append((mean, variance))
    gamma, beta, mean, variance = (each.reshape(1, -1, 1, 1) for each in (
        norm.gamma.data().asnumpy(), norm.beta.data().asnumpy(), mean, variance))
    return gamma * (values - mean) / np.sqrt(variance + 1e-5) + beta


net = gc.params.load("resnet18_cifar10")
gc.pruning.prune_channels(net, example, ratio=0.5, round_to=16)
# in seen, for each of the two BatchNorms: mean and variance of every batch
few, block, seen = train.subset(slice(0, 512)).batches(128), net.features[3][0].body, ([], [])
for images, _ in few:
    x = np.maximum(with_own_statistics(net.features[0](images).asnumpy(), net.features[1], seen[0]), 0)  # and a ReLU
    with_own_statistics(block[0](mx.nd.array(x)).asnumpy(), block[1], seen[1])
gc.pruning.reestimate_batch_norm(net, few)
for batches, norm in zip(seen, (net.features[1], block[1])):
    for ours, theirs in zip(np.mean(batches, axis=0), (norm.running_mean, norm.running_var)):
        np.testing.assert_allclose(theirs.data().asnumpy(), ours, rtol=1e-3, atol=1e-4)

# %% [markdown]
# Now the whole network: its accuracy on held-out images before and after that, and beside it the network that lost the
# same fraction everywhere. With as many multiplications the one pruned by the curves keeps more.

# %%
def pruned(**how):
    net = gc.params.load("resnet18_cifar10")
    return net, gc.pruning.prune_channels(net, example, round_to=16, **how)


def held_out_accuracies(net):
    """Before and after BatchNorm's statistics are estimated again."""
    net.hybridize(static_alloc=True, static_shape=True)
    before = gc.training.evaluate(net, validation_data)
    gc.pruning.reestimate_batch_norm(net, train.batches(128), batches=BATCHES)
    return before, gc.training.evaluate(net, validation_data)


whole = gc.report(gc.params.load("resnet18_cifar10"), example).macs
chosen, plan = pruned(ratio=ratios)
share = gc.report(chosen, example).macs / whole
uniform, _ = pruned(macs=share)
print(f"MACs left: {share:.0%}")
for title, network in (("by the curves", chosen), ("the same fraction everywhere", uniform)):
    print("{}: {:.4f}, and with new statistics {:.4f}".format(title, *held_out_accuracies(network)))
print(plan)

# %% [markdown]
# ## Fine-tune
#
# Make a new Trainer after pruning: the old one has momenta of the old shapes. The unpruned network gets the same
# extra training.

# %%
augment = compose(random_crop(4), random_flip)


def fine_tuned(title, net, seed):
    trainer = mx.gluon.Trainer(net.collect_params(), "nag", {"learning_rate": 0.02, "momentum": 0.9, "wd": 5e-4})
    net.hybridize(static_alloc=True, static_shape=True)
    data = train.batches(128 if LONG else 64, shuffle=True, augment=augment)
    show_training(f"{title}, seed {seed}", gc.training.fit(net, data, 2 if LONG else 1, trainer, seed=seed))
    return net


accuracies, tuned = {"unpruned": [], "pruned": [], "8 bits": []}, []
for seed in range(2) if LONG else range(1):
    original = fine_tuned("unpruned", gc.params.load("resnet18_cifar10"), seed)
    accuracies["unpruned"].append(gc.training.evaluate(original, results.test_data))
    net, plan = pruned(ratio=ratios)
    gc.pruning.reestimate_batch_norm(net, train.batches(128), batches=BATCHES)
    fine_tuned("pruned", net, seed)
    tuned.append((net, plan))
    accuracies["pruned"].append(gc.training.evaluate(net, results.test_data))

results.add("ResNet-18, unpruned, same extra training", original, accuracies=accuracies["unpruned"])
results.add("pruned by the curves, not fine-tuned", *pruned(ratio=ratios))
results.add("... BatchNorm's statistics estimated again", chosen)
results.add("... and fine-tuned", net, plan, accuracies=accuracies["pruned"])

# %% [markdown]
# ## Save, and load without the code that pruned it
#
# In the table below, a row that begins with three dots goes on from the row above. Rows of a network without its plan
# are plain `.params` files, with four bytes for each parameter; the others are compressed `.gcz`: file bytes compare
# within each kind.
#
# The plan is in the file: a fresh `ResNet` of the original size loses the same channels on loading. Without a network
# a `SymbolBlock` is built.

# %%
for net, _ in tuned:
    scales = gc.quantization.quantize_weights(net, bits=8)
    accuracies["8 bits"].append(gc.training.evaluate(net, results.test_data))
results.add("... and 8-bit weights", net, plan, scales, accuracies=accuracies["8 bits"])
file = results.path(f"-{len(results.rows) - 1}.gcz")
fresh = gc.models.ResNet(18, classes=10, thumbnail=True, width=32)
for again in (gc.load(file, fresh), gc.load(file)):
    np.testing.assert_allclose(again(example).asnumpy(), net(example).asnumpy(), rtol=1e-4, atol=1e-4)
results.finish()

# %% [markdown]
# ## What this shows
#
# - Channels of a residual network come in sets. Take most of a set away, and one on a residual path loses more than
#   one inside the blocks of its stage. Measure which sets are cheap: no rule holds for all stages.
# - Removing channels ruins the accuracy mainly through BatchNorm's statistics; estimate them again before you judge a
#   pruned network, or fine-tune it.
# - So short a training on a part of the images does not help the unpruned network; in the long version it loses half a
#   point by it. (The learning rate goes up again, so the accuracy goes down at first.) So compare the last rows with
#   the row "same extra training", not with the network as trained.
# - Channel counts that the kernels like turn fewer multiplications into less time. Here little more than a third of
#   them takes about half of the time: a convolution's multiplications fall with the channels that it reads times those
#   that it makes, but BatchNorm, ReLU and additions only with the channels.
#
# ## What to try next
#
# - Prune by `criterion="fpgm"`, `criterion=gc.pruning.Taylor(data)`, or with `scope="global"`: how do the curves
#   change?
# - Say how many milliseconds instead of a ratio: `prune_channels(net, example, latency=...)`.
# - Prune in five steps with training in between: `prune_channels_in_steps(net, example, ratio=0.5, steps=5)`.
# - Let the unpruned network be the teacher of the pruned one (tutorial 3).
