# %% [markdown]
# # 4. Unstructured pruning: SimpleCNN on MNIST
#
# - **You will be able to** prune a given share of the weights by magnitude, in each layer or over all layers together,
#   fine-tune what is left, and predict what the file and the time will do.
# - **You need to know** how a Gluon network is trained; [tutorial 1](01_threshold_pruning_lenet.py) shows masks. Words,
#   and Gluon beside PyTorch: [TERMINOLOGY.md](TERMINOLOGY.md).
# - **Time on two cores:** <!-- time.04: begin -->30 seconds; with `--long` 3 CPU minutes<!-- time.04: end -->
# - **Downloads:** MNIST, about 12 MB, once.
#
# *What you will see:* the second article's example made to run, how many of SimpleCNN's weights can go with and without
# fine-tuning, and why a file gets smaller while the forward pass does not get faster.
#
# Run `python tutorials/04_unstructured_pruning_simple_cnn.py`, with `--long` for 20,000 images instead of 7,000 and
# three seeds; or open it as a notebook.

# %%
from course import LONG, Results, errors, show_training

import gluon_compress as gc
from gluon_compress.measuring.plots import plot_curves
from gluon_compress.network import layers

import mxnet as mx
import numpy as np

train, test = gc.datasets.mnist()
# Held out of the fine-tuning. The shipped network saw these images when it was trained, so accuracies on them are
# too high; what counts is the difference between them.
train, validation = train.split(5000)
train = train.subset(slice(0, 20000 if LONG else 7000))
validation_data = validation.batches(500)
results = Results("04_unstructured_pruning_simple_cnn", test.batches(500))

# %% [markdown]
# ## What the article says
#
# > Unstructured pruning removes the weights of some connections, not whole neurons or connections. It
# > affects the accuracy less, but is more complex to implement.
#
# ```python
# net = SimpleCNN()
# prune.l1_unstructured(net.conv1, 'weight')
# prune.l1_unstructured(net.conv2, 'weight')
# for epoch in range(10):
#     for data, target in train_loader:
#         ...
# ```
#
# ## What is wrong with it
#
# 1. `l1_unstructured` has a third argument, `amount`; without it the call is a `TypeError`.
# 2. `train_loader` is never made, and the network is pruned before it has learned anything.
# 3. The layers pruned hold 5,250 of 21,750 weights; 16,000 are in `fc1`, which is left alone. (The table at the end
#    also counts 90 biases.)
# 4. It is the other way round: unstructured pruning is the *simple* one to implement, one comparison
#    per weight. What is hard is to gain speed from it.
# 5. "L1 or L2" makes no difference here: for a single weight both norms order by |w|.
#
# [ERRATA.md](ERRATA.md) has these and others in its entries 10, 12, 32, 35, 38 to 41, 58, 59 and 68, each with a test.
#
# ## From scratch
#
# Sort the magnitudes, find the one below which the wanted fraction lies, keep what is above. The two magnitudes printed
# are neighbours in that order, on either side of the cut: they differ only after the fourth digit.

# %%
net = gc.params.load("simple_cnn_mnist")
results.add("SimpleCNN, as trained", net)

weight = net.conv2.weight.data().asnumpy()
order = np.argsort(np.abs(weight), axis=None)
mask = np.ones(weight.size, dtype=bool)
mask[order[:weight.size // 2]] = False
print(f"conv2: {np.mean(~mask):.0%} of the weights pruned, the largest of them is "
      f"{np.abs(weight.ravel()[~mask]).max():.4f}, the smallest kept {np.abs(weight.ravel()[mask]).min():.4f}")

# %% [markdown]
# ## With the library
#
# `prune_magnitude` does that for every convolution and dense layer by itself, and returns `Masks`, whose `kept` has a
# Boolean array for the name of each parameter: True where a weight stays. With `scope="global"` there is one threshold
# for all layers: by hand, sort the magnitudes of all layers together. `layers(net)` lists the convolutions and dense
# layers. Printed is which share of each layer lies below that threshold: `fc1` loses the most.

# %%
magnitudes = {layer.parameter_name: np.abs(layer.weight.data().asnumpy()) for layer in layers(net)}
everything = np.concatenate([values.ravel() for values in magnitudes.values()])
threshold = np.sort(everything)[len(everything) // 2 - 1]
of_all_layers = gc.pruning.prune_magnitude(gc.params.load("simple_cnn_mnist"), sparsity=0.5, scope="global")
for name, values in magnitudes.items():
    assert (of_all_layers.kept[name] == (values > threshold)).all(), "the library has another threshold than we have"
    print(f"one threshold for all layers, {threshold:.4f}: {np.mean(values <= threshold):.0%} of {name}")

masks = gc.pruning.prune_magnitude(net, sparsity=0.5)
assert (masks.kept["conv2.weight"].ravel() == mask).all(), "the library prunes other weights than we did"
print(masks)

# %% [markdown]
# ## How far can it go?
#
# Three ways, on held-out images (the shipped network was trained on them, so its accuracies are too high; what counts
# is the difference): the same sparsity in each layer; one threshold for all layers, which lets
# the large layers give up more; and the latter fine-tuned, with zeros that stay zero (`MaskedTrainer`,
# [tutorial 1](01_threshold_pruning_lenet.py)).
#
# **Figure:** the error, one minus the accuracy, on a log axis, where tenths of a point can be seen. The level line is
# the network as trained. With each layer alike (the upper curve) the error leaves it at once; fine-tuned, it stays
# close up to four fifths.

# %%
sparsities = (0.5, 0.7, 0.8, 0.9, 0.95) if LONG else (0.5, 0.8, 0.9, 0.95)
seeds = range(3) if LONG else range(1)
optimizer = ("nag", {"learning_rate": 0.02, "momentum": 0.9, "wd": 1e-4})


def pruned(sparsity, scope):
    net = gc.params.load("simple_cnn_mnist")
    return net, gc.pruning.prune_magnitude(net, sparsity, scope=scope)


def fine_tuned(sparsity, seed):
    net, masks = pruned(sparsity, "global")
    trainer = gc.pruning.MaskedTrainer(net, masks, *optimizer)
    history = gc.training.fit(net, train.batches(128, shuffle=True), 2, trainer, seed=seed)
    show_training(f"{sparsity:.0%} pruned, seed {seed}", history)
    return net, masks


as_trained = gc.training.evaluate(gc.params.load("simple_cnn_mnist"), validation_data)
curves = {title: [(0.0, as_trained)]
          for title in ("each layer alike", "all layers together", "all layers together, fine-tuned")}
tuned = {}  # {sparsity: [(network, masks) of each seed]}
for sparsity in sparsities:
    for title, scope in (("each layer alike", "layer"), ("all layers together", "global")):
        accuracy = gc.training.evaluate(pruned(sparsity, scope)[0], validation_data)
        curves[title].append((sparsity, accuracy))
    tuned[sparsity] = [fine_tuned(sparsity, seed) for seed in seeds]
    accuracy = np.mean([gc.training.evaluate(net, validation_data) for net, _ in tuned[sparsity]])
    curves["all layers together, fine-tuned"].append((sparsity, accuracy))
    print(f"sparsity {sparsity:.0%}:", ", ".join(f"{title} {points[-1][1]:.4f}" for title, points in curves.items()))
print(f"as trained: {as_trained:.4f}")
results.numbers["held-out accuracy by sparsity"] = curves
plot_curves({title: errors(points) for title, points in {
    **curves, "as trained": [(0.0, as_trained), (sparsities[-1], as_trained)]}.items()},
    results.path(".png"), xlabel="sparsity", ylabel="error on held-out images", title="SimpleCNN on MNIST", log=True)

# %% [markdown]
# ## A pattern, and a schedule
#
# Some hardware, as the sparse tensor cores of GPUs, is fast with zeros, if they are regular: of every four weights
# along the input at most two stay (*2:4*). By hand, sort each group of four, and keep the upper half. `prune_n_m` does
# it in layers whose number of input channels is a multiple of 4: here `fc1` with 320, not `conv1`, `conv2` and `fc2`
# with 1, 10 and 50. The pattern has its price: a group of four large weights has to give up two of them, too.
#
# And zeros need not come at once. Let the sparsity rise to `final` while the network trains, fast at first, while much
# can be spared, and slowly at the end (Zhu & Gupta 2017, who take the third power), for step t of n:
#
#     sparsity(t) = final * (1 - (1 - t / n)³)
#
# `GradualPruner` does that inside of a `MaskedTrainer`, which calls its `advance` after each step: here the sparsity
# rises during the first epoch, and stays during the second. At 90 % compare its accuracy with the one above, which was
# pruned at once. The difference is small here, and may go either way: with two epochs there is no time for small steps.

# %%
net = gc.params.load("simple_cnn_mnist")
groups = np.abs(net.fc1.weight.data().asnumpy()).reshape(50, 80, 4)
places = groups.argsort(axis=2, kind="stable").argsort(axis=2)  # 0 is the smallest of its group
two_of_four = gc.pruning.prune_n_m(net, n=2, m=4)
assert (two_of_four.kept["fc1.weight"] == (places >= 2).reshape(50, 320)).all(), "the library keeps other weights"
print(f"2:4 in fc1, not fine-tuned: {gc.training.evaluate(net, validation_data):.4f}")

steps = 100
pruner = gc.pruning.GradualPruner(gc.params.load("simple_cnn_mnist"), final_sparsity=0.9, steps=steps, scope="global")
for t in range(1, steps + 1):
    pruner.advance()
    by_formula = 0.9 * (1 - (1 - t / steps) ** 3)
    assert abs(pruner.masks.sparsity - by_formula) < 1e-3, "the library has another schedule"
    if t in (1, 10, 50, 100):
        print(f"sparsity after {t} steps: {pruner.masks.sparsity:.3f}")

net, data = gc.params.load("simple_cnn_mnist"), train.batches(128, shuffle=True)
pruner = gc.pruning.GradualPruner(net, final_sparsity=0.9, steps=len(data), scope="global")  # one of 2 epochs
gc.training.fit(net, data, 2, gc.pruning.MaskedTrainer(net, pruner, *optimizer), seed=0)
print(f"90 % little by little, and trained: {gc.training.evaluate(net, validation_data):.4f}; at once, and trained: "
      f"{dict(curves['all layers together, fine-tuned'])[0.9]:.4f}")

# %% [markdown]
# ## Beside the original with the same extra training
#
# Training on changes a network that was not pruned, too, for better or worse. So that is what we compare with.

# %%
accuracies = {"unpruned": [], "pruned": [], "8 bits": []}
for seed, (net, _) in zip(seeds, tuned[0.8]):
    original = gc.params.load("simple_cnn_mnist")
    trainer = mx.gluon.Trainer(original.collect_params(), *optimizer)
    history = gc.training.fit(original, train.batches(128, shuffle=True), 2, trainer, seed=seed)
    show_training(f"unpruned, seed {seed}", history)
    accuracies["unpruned"].append(gc.training.evaluate(original, results.test_data))
    accuracies["pruned"].append(gc.training.evaluate(net, results.test_data))

results.add("SimpleCNN, unpruned, same extra training", original, accuracies=accuracies["unpruned"])
results.add("80 % pruned, not fine-tuned", *pruned(0.8, "global"))
net, masks = tuned[0.8][-1]
results.add("80 % pruned, fine-tuned", net, masks, accuracies=accuracies["pruned"])
for net, _ in tuned[0.8]:
    scales = gc.quantization.quantize_weights(net, bits=8)
    accuracies["8 bits"].append(gc.training.evaluate(net, results.test_data))
results.add("80 % pruned, fine-tuned, and 8-bit weights", net, masks, scales, accuracies=accuracies["8 bits"])
results.finish()

# %% [markdown]
# ## What this shows
#
# - With one threshold for all layers half of the weights can go for a quarter of a point, without training. Half of
#   *each* layer, the default of `prune_magnitude`, costs four points: the small convolutions cannot spare what
#   `fc1` can. With nine tenths of each layer gone the network only guesses. So try `scope="global"`.
# - With fine-tuning four fifths can go for a few tenths of a point.
# - The file shrinks with the zeros, because `gc.save` stores where they are (a mask, at most about one bit for each
#   weight) and then the other values alone. `save_parameters` writes four bytes for each zero.
# - The time per batch stays what it was: the kernels do not skip zeros.
#
# ## What to try next
#
# - Prune in steps, 50 % then 80 % then 90 %, fine-tuning in between (Han et al. 2015).
# - Prune `fc1` alone (`select="fc1"`), where three quarters of the weights are.
# - Take half of `fc1` freely, with `prune_magnitude(net, {"fc1": 0.5})`: what does the 2:4 pattern cost beside it?
# - Train with the same masks from fresh weights. By the lottery ticket hypothesis (Frankle & Carbin 2019) it should be
#   those that the network itself began with.
