# %% [markdown]
# # 8. Deep compression: LeNet in a hundredth of its file
#
# - **You will be able to** take a network through pruning, weight sharing, rounding by rate and entropy coding, say how
#   many bytes each stage is worth and why, and let one call search for the smallest file that keeps the accuracy.
# - **You need to know** masks, from [tutorial 1](01_threshold_pruning_lenet.py), and integer codes with a scale, from
#   [tutorial 2](02_quantization_alexnet.py). The text comes to logarithms of probabilities; you need not have learned
#   information theory.
# - **Time on two cores:** <!-- time.08: begin -->50 seconds; with `--long` 2 CPU minutes<!-- time.08: end -->
# - **Downloads:** MNIST, about 12 MB, once.
#
# *What you will see:* the article's LeNet, 684,468 bytes, in less than a hundredth of them; how many bits a weight
# needs once it is an integer, and how an arithmetic coder reaches that number; what its neighbours tell about a
# weight; and why the nearest integer is not the best one.
#
# Run `python tutorials/08_deep_compression_lenet.py`, with `--long` for 30,000 images instead of 10,000 and more points
# on the curve; or open it as a notebook.

# %%
from fractions import Fraction

from course import LONG, Results, show_training

import gluon_compress as gc
from gluon_compress.coding import CentroidTrainer, compress, encode, share_weights
from gluon_compress.measuring.plots import plot_curves

import numpy as np

train, test = gc.datasets.mnist()
# Held out of the fine-tuning. The shipped network saw these images when it was trained, so accuracies on them are
# too high; what counts is the difference between them.
train, validation = train.split(5000)
calibration = train.subset(slice(0, 512)).batches(128)
train = train.subset(slice(0, 30000 if LONG else 10000)).batches(128, shuffle=True)
validation_data = validation.batches(500)
results = Results("08_deep_compression_lenet", test.batches(500))


def lenet():
    net = gc.params.load("lenet_mnist")
    net.hybridize()
    return net


# %% [markdown]
# ## Where the articles stop
#
# The first article prunes one network and quantizes another, and saves neither. But the techniques belong together:
# what pruning leaves is mostly zeros, what quantization leaves are few different integers, and both are worth bytes
# only once somebody writes the zeros and the integers down in few bits. Han, Mao and Dally's "Deep Compression" (2016)
# does it in three stages: prune and train, share weights and train, code. We go the same way, and then a better one.
#
# ## Stage 1: prune
#
# As in [tutorial 4](04_unstructured_pruning_simple_cnn.py): the smallest nine tenths of the weights, one threshold for
# all layers, and a short training of what is left. The file holds a mask and the weights that remain.

# %%


stages = []  # (bytes, accuracy on held-out images)


def add_stage(title, net, *records):
    results.add(title, net, *records)
    stages.append((results.rows[-1]["bytes"], gc.training.evaluate(net, validation_data)))


def fine_tune(title, net, trainer, epochs):
    show_training(title, gc.training.fit(net, train, epochs, trainer, gc.training.one_cycle))


net = lenet()
results.add("LeNet, as trained", net)
masks = gc.pruning.prune_magnitude(net, 0.9, scope="global")
fine_tune("around the zeros", net, gc.pruning.MaskedTrainer(
    net, masks, "nag", {"learning_rate": 0.02, "momentum": 0.9, "wd": 1e-4}), 2)
add_stage("LeNet, 90 % pruned, fine-tuned", net, masks)

# %% [markdown]
# ## Stage 2: share
#
# The weights that remain are all different, 32 bits each. Let those of a layer share sixteen values, a *codebook*:
# then a weight is an index of four bits. Which sixteen? Those that change the weights least:
#
#     min  sum_i (w_i - c[k_i])^2        each weight w_i goes to the nearest value c[k_i]
#
# Lloyd's algorithm (*k-means*) finds a minimum by two steps in turn: give each weight to its nearest value, then move
# each value to the mean of its weights. Neither step can make the sum larger. It begins with values evenly between
# the smallest weight and the largest, so that the few large weights, which count most, have values of their own; a
# value that no weight goes to becomes the weight with the largest error.

# %%
weight = net.dense[0].weight.data().asnumpy()
kept = weight[weight != 0]
codebook = np.linspace(kept.min(), kept.max(), 16)
errors = []
while len(errors) < 2 or errors[-1] < errors[-2]:
    nearest = np.abs(kept[:, None] - codebook).argmin(axis=1)           # (weights,): an index for each
    error = np.square(kept - codebook[nearest])
    errors.append(error.sum())
    for index in range(16):
        members = kept[nearest == index]
        codebook[index] = members.mean() if members.size else kept[error.argmax()]
print(f"dense.0: {kept.size:,} weights, error {errors[0]:.3f} at first, {errors[-1]:.3f} after {len(errors)} steps; "
      f"{np.sqrt(errors[-1] / np.square(kept).sum()):.1%} of their norm\n{np.sort(np.round(codebook, 3))}")

# %% [markdown]
# The library does the same in all layers, and its trainer moves the values: the gradient of a shared value is the
# sum of the gradients of its weights. Zeros stay zeros.

# %%
codebooks = share_weights(net, bits=4)
library = np.square(kept - net.dense[0].weight.data().asnumpy()[weight != 0]).sum()
results.numbers["k-means error, by hand and the library's"] = [float(errors[-1]), float(library)]
assert abs(library - errors[-1]) < 0.01 * errors[-1], "the library's codebook is another one than ours"
add_stage("LeNet, 16 values a layer", net, codebooks)
trainer = CentroidTrainer(net, codebooks, "adam", {"learning_rate": 1e-4})
fine_tune("the shared values", net, trainer, 1)
add_stage("LeNet, 16 values a layer, trained", net, trainer.codebooks)

# %% [markdown]
# ## Stage 3: code
#
# Now the numbers are small integers, and most of them are zero: 0 is a zero, 1 the smallest positive value of the
# codebook, -1 the negative one next to zero. How few bits can hold them? What is coded, here a code, is called a
# symbol. One that comes with probability p is worth `-log2 p` bits: a zero that nine of ten weights are is worth 0.15
# bits, a rare code many. The mean of that is the *entropy*, and no coder that knows nothing but these probabilities
# stays below it:
#
#     H = -sum_k p_k log2 p_k    bits a weight
#
# An *arithmetic coder* reaches it. It begins with the numbers from 0 to 1 and divides them in the proportion of the
# probabilities; the first symbol chooses its part, which is divided in the same way for the next one. What is left in
# the end is as wide as the product of all probabilities, and `-log2` of that width, rounded up to whole bits, is enough
# to name a number in it. Here it is in exact fractions, forth and back:

# %%
codes = trainer.codebooks.codes(net)["dense.0.weight"]                   # int32 (128, 1250): 0, 1, -1, 2, ...
symbols, counts = np.unique(codes, return_counts=True)
shares = {int(symbol): Fraction(int(count), codes.size) for symbol, count in zip(symbols, counts)}
begins = dict(zip(shares, [sum(list(shares.values())[:index], Fraction(0)) for index in range(len(shares))]))


def narrowed(message):
    """The interval of a message: where it begins, and its width."""
    low, width = Fraction(0), Fraction(1)
    for symbol in message:
        low, width = low + width * begins[symbol], width * shares[symbol]
    return low, width


def read(number, length):
    """The message of so many symbols in whose interval the number lies."""
    message = []
    for _ in range(length):
        symbol = max((symbol for symbol in begins if begins[symbol] <= number), key=begins.get)
        message.append(symbol)
        number = (number - begins[symbol]) / shares[symbol]
    return message


message = codes.ravel()[:500].tolist()
low, width = narrowed(message)
bits = 1
while Fraction(1, 2 ** bits) > width:
    bits += 1
number = Fraction(-(-low * 2 ** bits // 1), 2 ** bits)                  # the first multiple of 2^-bits from low on
assert low <= number < low + width and read(number, len(message)) == message, "the number says something else"
ideal = -sum(np.log2(float(shares[symbol])) for symbol in message)
print(f"{len(message)} codes, {len(message) - message.count(0)} of them not zero: sum -log2 p = {ideal:.1f} bits, "
      f"and a number of {bits} bits says them all")

# %% [markdown]
# Real coders do it with integers of fixed length, and learn the probabilities as they go. The library's coder also asks
# the *neighbours*: beside a weight that is zero zeros are likelier than elsewhere, and a row or column of small weights
# goes on with small ones. Shuffle the codes, and there are no neighbours to ask; then it needs what the entropy
# says, to a percent.

# %%


def entropy_bytes(codes):
    share = np.unique(codes, return_counts=True)[1] / codes.size
    return -codes.size * float((share * np.log2(share)).sum()) / 8


def coded(title, codes):
    """Print and keep how many bytes codes take: by their entropy, shuffled, and in their places."""
    shuffled = np.random.default_rng(0).permutation(codes.ravel()).reshape(codes.shape)
    found = {"zeros": float((codes == 0).mean()), "entropy": entropy_bytes(codes), "shuffled": len(encode(shuffled)),
             "in place": len(encode(codes))}
    print(f"{title}: {found['zeros']:.1%} zeros, entropy {8 * found['entropy'] / codes.size:.3f} bits a weight = "
          f"{found['entropy']:,.0f} bytes; coded {found['shuffled']:,} shuffled, {found['in place']:,} in place")
    results.numbers[f"bytes of dense.0, {title}"] = found


coded("shared", codes)

# %% [markdown]
# ## The nearest integer is not the best one
#
# Rounding to the nearest multiple of a step gives the smallest error. But the file doesn't pay for errors, it pays for
# bits, and a weight of 0.6 steps costs much as a 1 and nearly nothing as a 0. So let each weight take the integer that
# costs least in both together, with q the code, and lambda, `price` in the code below, what a bit costs:
#
#     min over q    (w / step - q)^2 + lambda * -log2 p(q)
#
# The probabilities follow from the choice, and the choice from the probabilities: a few turns, and they agree. By hand,
# on the largest layer of the network as trained, beside plain rounding with a larger step:

# %%
net = lenet()
weight = net.dense[0].weight.data().asnumpy().ravel()
deviation = weight.std()


def mean_error(codes, step):
    """The square error of a weight, as a share of the weights' variance."""
    return float(np.square(weight - codes * step).mean() / deviation ** 2)


def rounded_by_cost(step, price, turns=6):
    nearest = np.rint(weight / step).astype(int)
    candidates = np.stack([nearest, nearest - np.sign(nearest), 0 * nearest])    # (3, weights)
    codes = nearest
    for _ in range(turns):
        counts = np.bincount(codes - nearest.min(), minlength=np.ptp(nearest) + 1)
        bits = -np.log2(np.maximum(counts, 0.5) / weight.size)                   # of each code, from the smallest on
        costs = np.square(weight / step - candidates) + price * bits[candidates - nearest.min()]
        codes = np.take_along_axis(candidates, costs.argmin(axis=0)[None], axis=0)[0]
    return codes


by_hand = {}
for title, step, codes in (("to the nearest", 3 * deviation, np.rint(weight / (3 * deviation)).astype(int)),
                           ("by what it costs", 2 * deviation, rounded_by_cost(2 * deviation, price=0.15))):
    by_hand[title] = 8 * entropy_bytes(codes) / codes.size, mean_error(codes, step)
    print(f"{title}: {by_hand[title][0]:.3f} bits a weight, error {by_hand[title][1]:.3f}")
results.numbers["rounding by hand: bits, error"] = by_hand

# %% [markdown]
# Fewer bits and a smaller error. The library's `quantize_weights(net, rate=...)` goes on from here: an error counts by
# what it does to the network's *outputs*, seen on a few hundred images without labels; what one weight loses, those
# after it make up for, and what one layer loses, the layers after it; and the bits are those of the coder itself,
# neighbours included. `rate` is what a bit of each weight is worth, in the square error of the outputs: the larger it
# is, the dearer are bits, and the smaller is the file. Nothing is trained.

# %%
rates = (0.001, 0.003, 0.01, 0.03, 0.1, 0.2, 0.4) if LONG else (0.01, 0.1, 0.4)
rounding = gc.quantization.RateRounding(net, calibration, progress=False)  # what all rates have in common
curve = []
for rate in rates:
    scales = rounding.round(rate)
    curve.append((gc.checkpoint.coded_size(net, scales), gc.training.evaluate(net, validation_data)))
    print(f"rate {rate}: {curve[-1][0]:,} bytes, held out {curve[-1][1]:.4f}")
    if rate == 0.1:
        results.add("LeNet, rounded by rate 0.1", net, scales)
        codes = scales.codes(net)["dense.0.weight"]

# %% [markdown]
# This one number replaces the first two stages: at a rate of 0.1 the error that a nonzero weight saves is not worth its
# bits for nineteen of twenty weights of the largest layer, so they are zero, and no threshold was chosen. Here is what
# is left of that layer, and what the coder makes of it.
#
# **Figure:** how many weights have each code, without the zeros: each of the first steps away from zero has a fraction
# of those before, and costs bits accordingly; codes far from zero are rare.

# %%
values, counts = np.unique(codes, return_counts=True)
for value, count in zip(values, counts):
    print(f"{value:+d}: {count:7,} weights, {-np.log2(count / codes.size):5.2f} bits each "
          f"{'#' * int(np.ceil(60 * count / codes.size))}")
gc.measuring.plots.plot_before_after(
    {f"{value:+d}": int(count) for value, count in zip(values, counts) if value}, results.path("-codes.png"),
    ylabel="weights", title=f"Codes of dense.0; {(codes == 0).mean():.1%} of the {codes.size:,} weights are 0")
coded("rounded by rate", codes)

# %% [markdown]
# ## In one call
#
# `compress` searches for us: it tries some rates, closer and closer to the largest that loses no more accuracy on
# held-out images than we allow, here two tenths of a point, and takes the smallest file of those that lose no more.
# With `folder=` it goes on there after it was killed. With `training_data=` it prunes and trains first. Beside
# `original` stands the file that `save` makes of the fp32 weights; coded, it is a sixth shorter than the `.params`.
# The `+-` is the standard error of what was lost: on 5,000 images a tenth of a point is five images, and chance alone
# moves that many. A search believes such numbers, so it must never see the test set.

# %%
net = lenet()
compression = compress(net, validation_data, 0.002, calibration_data=calibration, progress=False)
print(compression)
results.add("LeNet, compress() without training", net, *compression.records)
results.numbers["rows of compress()"] = compression.rows

# %% [markdown]
# And the file is a network: loaded without our code for LeNet, it gives the same outputs to the last bit.

# %%
again = gc.load(results.path(f"-{len(results.rows) - 1}.gcz"))
same = all((again(images).asnumpy() == net(images).asnumpy()).all() for images, _ in validation_data)
assert same, "the file holds another network"
size, original = (results.rows[index]["bytes"] for index in (-1, 0))
print(f"{size:,} bytes, {original / size:.0f} times less than {original:,}")

# %% [markdown]
# ## The curve
#
# How small a file is, and how often its network errs: the codes of tutorial 2, the three stages of "Deep
# Compression", and the rates. Errors are those on held-out images, sizes are of whole files. (The shipped
# network was trained on the held-out images, so the errors are too small; what counts is the difference.)
#
# **Figure:** to the right files get smaller, upwards networks err more often, on a log axis. Few bits alone go up
# steeply where rounding by rate is still level; the three stages end to the left of where that ends.

# %%
curves = {"8 to 3 bits": [], "prune, share, train": stages, "rounded by rate": curve}
for bits in (8, 6, 5, 4, 3) if LONG else (8, 5, 3):
    candidate = lenet()
    scales = gc.quantization.quantize_weights(candidate, bits)
    size = gc.checkpoint.coded_size(candidate, scales)
    curves["8 to 3 bits"].append((size, gc.training.evaluate(candidate, validation_data)))
results.numbers["bytes and held-out accuracy"] = curves
mistakes = {label: [(original / size, 1 - accuracy) for size, accuracy in points] for label, points in curves.items()}
plot_curves(mistakes, results.path(".png"), xlabel="times smaller", ylabel="error on held-out images",
            title="LeNet on MNIST: size against error", log=True)
results.finish()

# %% [markdown]
# ## What this shows
#
# - An arithmetic coder writes integers in as many bits as their entropy says, to a percent; asking the neighbours makes
#   it a good deal less than that.
# - Coded, five bits a weight are worth as much as pruning nine tenths of the weights: a tenth of the file. Three bits
#   cost points. Pruning and then sharing sixteen values makes the tenth a quarter of that or less.
# - Rounding by what it costs, without any training, makes a smaller file than pruning, sharing and training in turn,
#   at the same accuracy or a better one: a hundredth of the file for a few tenths of a point.
# - The network still computes in fp32, with as many multiplications: what is smaller is the file, not the time.
#
# ## What to try next
#
# - `compress(lenet(), validation_data, 0.002, training_data=train)`: does pruning before the rounding help?
# - `stages=[gc.coding.Rounding(select="Dense")]` for `compress`: what are the convolutions worth?
# - 10,000 images for `calibration` instead of 512: the README's LeNet was rounded with so many, shifted as in training.
# - On the command line: `gluon-compress compress params:lenet_mnist --data mnist --macs 1 --epochs 0 --to coded
#   --max-accuracy-drop 0.002 --output small.gcz`
# - Other networks, such as the ResNet-18 of [tutorial 6](06_prune_a_resnet.py): they take minutes instead of seconds.
