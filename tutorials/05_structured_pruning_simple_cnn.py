# %% [markdown]
# # 5. Structured pruning: SimpleCNN on MNIST
#
# - **You will be able to** remove whole channels by hand and with `prune_channels`, carry the change into the next
#   layer, fine-tune, tell what the inherited weights are worth, and train so that channels go by themselves.
# - **You need to know** the shapes of a convolution's and a dense layer's weights; [tutorial
#   4](04_unstructured_pruning_simple_cnn.py) comes before. Words:
#   [TERMINOLOGY.md](TERMINOLOGY.md).
# - **Time on two cores:** <!-- time.05: begin -->50 seconds; with `--long` 4 CPU minutes<!-- time.05: end -->
# - **Downloads:** MNIST, about 12 MB, once.
#
# *What you will see:* channels that are really removed, so that the network has fewer parameters, fewer multiplications
# and a shorter forward pass with no special kernel or file format.
#
# Run `python tutorials/05_structured_pruning_simple_cnn.py`, with `--long` for 20,000 images instead of 10,000 and
# three seeds; or open it as a notebook.

# %%
from course import LONG, Results, errors, show_training
from figures import draw_network

import gluon_compress as gc
from gluon_compress import measure_latency
from gluon_compress.measuring.plots import plot_curves

import mxnet as mx
import numpy as np
from matplotlib.figure import Figure

train, test = gc.datasets.mnist()
# Held out of the fine-tuning. The shipped network saw these images when it was trained, so accuracies on them are
# too high; what counts is the difference between them.
train, validation = train.split(5000)
train = train.subset(slice(0, 20000 if LONG else 10000))
validation_data = validation.batches(500)
results = Results("05_structured_pruning_simple_cnn", test.batches(500))

# %% [markdown]
# ## What the article says
#
# > Structured pruning directly removes whole neurons or connections. It is simple and intuitive, but may
# > affect the accuracy more.
#
# ```python
# prune.l1_unstructured(net.conv1, 'weight')
# prune.l1_unstructured(net.conv2, 'weight')
# ```
#
# ## What is wrong with it
#
# 1. That is the *unstructured* function. The article's two programs are the same, line by line.
# 2. Removing single connections is unstructured by definition; structured pruning removes whole
#    channels, neurons or layers.
# 3. PyTorch's `prune` only multiplies by masks. Even `ln_structured` removes nothing: no shape gets smaller, no
#    time is saved, and the file becomes larger, since the masks are saved with it.
# 4. Structured pruning is not the simple one. With a channel go its bias, its numbers in a BatchNorm after it, and
#    the part of the next layer's weight that read it, which after a flattening is a block of columns.
#
# [ERRATA.md](ERRATA.md) has these and the others, each with a test.
#
# ## From scratch
#
# Half of `conv2`'s 20 channels, by the L1 norm of their weights. `conv2` makes 20 maps of 4x4 pixels
# after pooling, which `flatten` lays out channel by channel: channel c is columns 16c ... 16c + 15 of `fc1`.

# %%
net = gc.params.load("simple_cnn_mnist")
results.add("SimpleCNN, as trained", net)

weight = net.conv2.weight.data().asnumpy()                          # (20, 10, 5, 5)
importance = np.abs(weight).sum(axis=(1, 2, 3))                     # L1 norm of each output channel
kept = np.sort(np.argsort(importance)[10:])
columns = (kept[:, None] * 16 + np.arange(16)).ravel()
small_conv2 = weight[kept]                                          # (10, 10, 5, 5)
small_bias = net.conv2.bias.data().asnumpy()[kept]                  # a channel's bias goes with it
small_fc1 = net.fc1.weight.data().asnumpy()[:, columns]             # (50, 160) instead of (50, 320)
print("channels kept:", kept.tolist(), "conv2", small_conv2.shape, "fc1", small_fc1.shape)

# %% [markdown]
# ## With the library
#
# `prune_channels` finds what hangs together in the network's own graph, and rewrites the layers. It ranks channels by
# their L1 norm, as we did, unless `criterion` names another way; by L2 one channel of the ten would be another. The
# `ChannelPlan` it returns is plain data that prunes a fresh copy the same way, which is how a pruned network is loaded
# again. `round_to=1` takes exactly the share that is asked for, as our own code above did. Without it wide layers keep
# a multiple of 8 or 16 channels, which kernels like better: leave it out in your own programs.

# %%
example = results.example
plan = gc.pruning.prune_channels(net, example, ratio={"conv2": 0.5}, round_to=1)
kept_by_l2 = np.argsort((weight ** 2).sum(axis=(1, 2, 3)))[10:]
assert plan.layers["conv2"]["kept"] == kept.tolist(), "the library does not rank channels by L1"
assert len(set(kept) - set(kept_by_l2)) == 1, "L1 and L2 do not keep what the text says"
assert (net.conv2.weight.data().asnumpy() == small_conv2).all(), "the library removes other channels than we did"
assert (net.conv2.bias.data().asnumpy() == small_bias).all(), "the library removes other biases than we did"
assert (net.fc1.weight.data().asnumpy() == small_fc1).all(), "the library removes other columns than we did"
print(plan)

# %% [markdown]
# **Figure:** the network before and after. Each mark is a channel or a unit, each line the weights that lead from one
# to the next: a kernel of 5x5, or after the flattening 16 weights, one for each pixel. The empty marks are the
# channels that went, and their lines are missing on *both* sides. `conv1` and `fc1` keep all of theirs; but `fc1`
# reads half as much, and it is that layer that has most of the parameters.

# %%
figure = Figure(figsize=(10, 4.2), layout="constrained")
channels = {"image": 1, "conv1": 10, "conv2": 20, "fc1": 50, "fc2": 10}
for axes, title, staying in zip(figure.subplots(1, 2), ("before", "half of conv2 removed"), ({}, {"conv2": kept})):
    draw_network(axes, channels, staying)
    axes.set_title(title)
figure.savefig(results.path("-network.png"), dpi=120)

# %% [markdown]
# ## How far can it go?
#
# We remove the same fraction from both convolutions and from `fc1`, by L1 and by L2 norm. The networks that were
# pruned by L1 are fine-tuned, too. A network of the small shape trained from scratch, for as many epochs as the
# fine-tuning, shows what the inherited weights are worth.
#
# **Figure:** the error, one minus the accuracy, on a log axis; the level line is the unpruned network. Compare the
# fine-tuned network with the one from scratch: the distance between these two is what was inherited.

# %%
ratios = (0.2, 0.4, 0.6, 0.8) if LONG else (0.2, 0.4, 0.8)
seeds = range(3) if LONG else range(1)
optimizer = ("nag", {"learning_rate": 0.02, "momentum": 0.9, "wd": 1e-4})


def pruned(ratio, criterion="l1"):
    net = gc.params.load("simple_cnn_mnist")
    return net, gc.pruning.prune_channels(net, example, ratio, criterion, round_to=1)  # exactly this fraction


def trained(title, net, seed, epochs=2):
    trainer = mx.gluon.Trainer(net.collect_params(), *optimizer)  # made after pruning: it knows the new shapes
    history = gc.training.fit(net, train.batches(128, shuffle=True), epochs, trainer, seed=seed)
    show_training(f"{title}, seed {seed}", history)
    return net


def from_scratch(ratio, seed):
    net, _ = pruned(ratio)
    mx.random.seed(seed)
    net.initialize(mx.init.Xavier(), force_reinit=True)
    return trained(f"{ratio:.0%} of the channels removed, from scratch", net, seed)


def fine_tuned(ratio, seed):
    net, plan = pruned(ratio)
    return trained(f"{ratio:.0%} of the channels removed, fine-tuned", net, seed), plan


curves = {"L1": [], "L2": [], "L1, fine-tuned": [], "from scratch": []}
tuned = {}  # {ratio: [(network, plan) of each seed]}
for ratio in ratios:
    tuned[ratio] = [fine_tuned(ratio, seed) for seed in seeds]
    for title, networks in (("L1", [pruned(ratio, "l1")[0]]),
                            ("L2", [pruned(ratio, "l2")[0]]),
                            ("L1, fine-tuned", [net for net, _ in tuned[ratio]]),
                            ("from scratch", [from_scratch(ratio, seed) for seed in seeds])):
        accuracy = np.mean([gc.training.evaluate(network, validation_data) for network in networks])
        curves[title].append((ratio, accuracy))
    print(f"ratio {ratio:.0%}:", ", ".join(f"{title} {points[-1][1]:.4f}" for title, points in curves.items()))
results.numbers["held-out accuracy by fraction of channels removed"] = curves
as_trained = gc.training.evaluate(gc.params.load("simple_cnn_mnist"), validation_data)
plot_curves({title: errors(points) for title, points in {
    **curves, "unpruned": [(0.0, as_trained), (ratios[-1], as_trained)]}.items()}, results.path(".png"),
    xlabel="fraction of channels removed", ylabel="error on held-out images", title="SimpleCNN on MNIST", log=True)

# %% [markdown]
# ## Channels that go by themselves
#
# So far we said how many channels go, and trained afterwards. It can be done the other way round: add a *penalty* to
# the loss that pulls whole channels to zero while the network trains, and then remove those that got there. The *group
# lasso* adds up norms. `v_u` are all weights that belong to channel u, those that make it and those that read it:
#
#     penalty = strength * sum_u ||v_u||          d ||v_u|| / d v_u = v_u / ||v_u||
#
# The gradient of a weight is `strength` times the sum of the latter over the channels that it belongs to.
#
# The norm is not squared, and that makes the difference. Weight decay is the squared norm: its pull becomes weaker as
# a channel becomes smaller, and no channel gets to zero. This pull has the same length for a small channel as for
# a large one. So a channel that the labels do not need goes all the way, with all of its weights at once.
#
# By hand: each weight of `conv2` belongs to two channels, the one that it makes and the one that it reads.

# %%
def channel_norms(net):
    """{layer: the norms of its channels}, over the weights that make them and those that read them."""
    conv1, conv2, fc1, fc2 = (layer.weight.data().asnumpy() for layer in (net.conv1, net.conv2, net.fc1, net.fc2))
    columns = fc1.reshape(len(fc1), len(conv2), -1)                 # (unit of fc1, channel of conv2, pixel)
    squares = {"conv1": (conv1 ** 2).sum(axis=(1, 2, 3)) + (conv2 ** 2).sum(axis=(0, 2, 3)),
               "conv2": (conv2 ** 2).sum(axis=(1, 2, 3)) + (columns ** 2).sum(axis=(0, 2)),
               "fc1": (fc1 ** 2).sum(axis=1) + (fc2 ** 2).sum(axis=0)}
    return {name: np.sqrt(square) for name, square in squares.items()}


STRENGTH = 0.07 if LONG else 0.14  # in half as many steps channels must be pulled twice as hard
net = gc.params.load("simple_cnn_mnist")
norms = channel_norms(net)
gradient = STRENGTH * (weight / norms["conv2"][:, None, None, None] + weight / norms["conv1"][None, :, None, None])

penalty = gc.pruning.ChannelPenalty(net, example, STRENGTH, kind="group_lasso")
penalty.add_gradients(batch_size=1)  # there was no backward pass: nothing else is in the gradients
np.testing.assert_allclose(penalty.value(), STRENGTH * sum(norm.sum() for norm in norms.values()), rtol=1e-5)
np.testing.assert_allclose(net.conv2.weight.grad().asnumpy(), gradient, rtol=1e-4, atol=1e-7)

# %% [markdown]
# In a training loop, `add_gradients` stands between `backward` and `step`. `fit` calls the trainer's `step`, so we put
# it there. After two epochs we count in each layer the channels whose norm is below a twentieth of the largest:
# these got to zero. `prune_channels` removes as many, the smallest by L1, and we train for two more without the
# penalty. Beside it: a network that loses as many channels by their L1 norm, and is
# trained for four epochs.
#
# **Figure:** the norms of the channels of `conv2`, from the smallest to the largest, on a log axis. As trained, they
# differ little: there is no place for a cut. With the penalty there is a cliff, and the level line, a twentieth of the
# largest, meets it.

# %%
class PenaltyTrainer(mx.gluon.Trainer):
    """Adds the gradients of a penalty before each step."""

    def step(self, batch_size, *arguments):
        self.penalty.add_gradients(batch_size)
        super().step(batch_size, *arguments)


def with_penalty(seed):
    net = gc.params.load("simple_cnn_mnist")
    trainer = PenaltyTrainer(net.collect_params(), *optimizer)
    trainer.penalty = gc.pruning.ChannelPenalty(net, example, STRENGTH, kind="group_lasso")
    show_training(f"with a penalty, seed {seed}",
                  gc.training.fit(net, train.batches(128, shuffle=True), 2, trainer, seed=seed))
    return net


of_penalty, of_l1, results.numbers["penalty"] = [], [], []
for seed in seeds:
    net = with_penalty(seed)
    norms, before = channel_norms(net), gc.training.evaluate(net, validation_data)
    gone = {name: float(np.mean(norm < norm.max() / 20)) for name, norm in norms.items()}
    ranked = np.argsort(np.abs(net.conv2.weight.data().asnumpy()).sum(axis=(1, 2, 3)))  # by L1, the smallest first
    plan = gc.pruning.prune_channels(net, example, ratio=gone, round_to=1)
    assert plan.layers["conv2"]["kept"] == sorted(ranked[round(20 * gone["conv2"]):]), "others than the smallest went"
    by_l1 = gc.params.load("simple_cnn_mnist")
    gc.pruning.prune_channels(by_l1, example, ratio=gone, round_to=1)
    numbers = {"gone": gone, "before": before, "after": gc.training.evaluate(net, validation_data),
               "after, by L1": gc.training.evaluate(by_l1, validation_data)}
    print("got to zero:", ", ".join(f"{share:.0%} of {name}" for name, share in gone.items()))
    print("held-out accuracy before they are removed {before:.4f}, after it {after:.4f}; "
          "as many removed by L1 {after, by L1:.4f}".format(**numbers))
    results.numbers["penalty"].append(numbers)
    of_penalty.append(gc.training.evaluate(trained("... on without it", net, seed), results.test_data))
    of_l1.append(gc.training.evaluate(trained("as many channels, by L1", by_l1, seed, epochs=4), results.test_data))
results.add("channels at zero by a penalty, trained on", net, plan, accuracies=of_penalty)
results.add("as many channels by L1, trained as long", by_l1, accuracies=of_l1)
plot_curves({title: list(enumerate(np.sort(np.maximum(norm, 1e-4)).tolist(), start=1)) for title, norm in {
    "as trained": channel_norms(gc.params.load("simple_cnn_mnist"))["conv2"], "with the penalty": norms["conv2"],
    "what goes": np.full(20, norms["conv2"].max() / 20)}.items()}, results.path("-penalty.png"),
    xlabel="channel of conv2", ylabel="norm of its weights", title="Norms before the removal", log=True)

# %% [markdown]
# ## Smaller, and faster
#
# A multiply-accumulate (MAC) is one product added to a sum; `gc.report` counts them from the shapes.
#
# **Figure:** what is left of the multiply-accumulates and of the time of a forward pass. The time falls, but less, and
# not at every step: kernels work on whole groups of channels, and not all time is spent on multiplying.

# %%
networks = {ratio: pruned(ratio)[0] if ratio else gc.params.load("simple_cnn_mnist") for ratio in (0.0, *ratios)}
macs = {ratio: gc.report(network, example).macs for ratio, network in networks.items()}
times = {ratio: [] for ratio in networks}
for network in networks.values():
    network.hybridize(static_alloc=True, static_shape=True)
for _ in range(7):  # in turns, so that each meets the same machine
    for ratio, network in networks.items():
        times[ratio].append(measure_latency(network, example, repeats=1, warmup=1).median)
plot_curves({"multiply-accumulates": [(ratio, macs[ratio] / macs[0.0]) for ratio in networks],
             "time of a forward pass": [(ratio, float(np.median(times[ratio]) / np.median(times[0.0])))
                                        for ratio in networks]},
            results.path("-time.png"), xlabel="fraction of channels removed", ylabel="share that is left")

accuracies = {"unpruned": [], "pruned": [], "8 bits": []}
for seed, (net, _) in zip(seeds, tuned[0.4]):
    original = trained("unpruned", gc.params.load("simple_cnn_mnist"), seed)
    accuracies["unpruned"].append(gc.training.evaluate(original, results.test_data))
    accuracies["pruned"].append(gc.training.evaluate(net, results.test_data))

results.add("SimpleCNN, unpruned, same extra training", original, accuracies=accuracies["unpruned"])
results.add("40 % of the channels, not fine-tuned", *pruned(0.4))
net, plan = tuned[0.4][-1]
results.add("40 % of the channels, fine-tuned", net, plan, accuracies=accuracies["pruned"])
for net, _ in tuned[0.4]:
    scales = gc.quantization.quantize_weights(net, bits=8)
    accuracies["8 bits"].append(gc.training.evaluate(net, results.test_data))
results.add("40 % of the channels, fine-tuned, and 8-bit weights", net, plan, scales, accuracies=accuracies["8 bits"])

again = gc.load(results.path(f"-{len(results.rows) - 1}.gcz"), gc.models.SimpleCNN())
assert (again(example).asnumpy() == net(example).asnumpy()).all(), "the loaded network computes something else"
results.finish()

# %% [markdown]
# ## What this shows
#
# - Removing 40 % of the channels removes more than half of the multiplications and of the parameters, because
#   `conv2` and `fc1` lose on both sides.
# - Before fine-tuning the accuracy drops far, by L1 farther than by L2; after it most of the drop is gone. The
#   article names both norms; only L1 is fine-tuned here. Which is better differs from network to network.
# - The inherited weights are worth something: fine-tuned networks are one to four points better than networks
#   of the same shape that were trained from scratch for as long, at every fraction.
# - A penalty finds how many channels each layer can spare, and which. Removing those that got to zero costs nothing;
#   removing as many from the network as trained costs half of its accuracy or more. The price was paid before: the
#   penalty makes what stays smaller, too, and costs several points, most of which come back: after more training the
#   network is within a point or so of the one that lost as many by L1.
# - The forward pass takes less time with the ordinary kernels. It does not fall as fast as the
#   multiplications: a network this small spends much of its time elsewhere.
#
# ## What to try next
#
# - `ratio={"conv1": 0.2, "conv2": 0.5, "fc1": 0.7}` in `pruned`: layers differ in what they can spare.
# - `pruned(0.4, "l2")` in the loop over the seeds: does what is better before fine-tuning stay better after it?
# - Distil from the unpruned network instead of fine-tuning on the labels alone (tutorial 3).
# - `masks = gc.pruning.prune_magnitude(net, 0.5)` before the 8-bit weights, and train on with `MaskedTrainer`: the
#   techniques compose. Pruning costs accuracy until the network is trained again; 8-bit weights cost next to none.
