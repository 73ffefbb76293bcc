# %% [markdown]
# # 9. Bring your own network
#
# *What you will see:* two networks that were not written for this library, and what it takes to compress them. The
# first is in the style of the book from which most people learn Gluon, with MXNet's NumPy interface. Nobody has the
# code of the second any more, only the two files that `Module` wrote, `clothes-symbol.json` and
# `clothes-0002.params`. Both become smaller files, and the second goes back to `Module`.
#
# Run `python tutorials/09_bring_your_own_network.py` (about a minute on two cores): both networks are trained here
# for two epochs on 6,000 images, and accuracies are on the first 2,000 test images. With `--long` there are four
# epochs on 15,000 images, two epochs of fine-tuning instead of one, all test images, and three seeds. Or open it as a
# notebook. The articles have nothing of this; the techniques are those of the tutorials before.

# %%
import json

from course import LONG, Results, show_training

import gluon_compress as gc
from gluon_compress.measuring.plots import plot_curves

import mxnet as mx
import numpy as np
from mxnet import autograd, gluon, npx
from mxnet.gluon import nn

train, test = gc.datasets.fashion_mnist()
train, validation = train.split(5000)
train = train.subset(slice(0, 15000 if LONG else 6000))
test = test if LONG else test.subset(slice(0, 2000))
results = Results("09_bring_your_own_network", test.batches(500))
EPOCHS, SEEDS = (4, range(3)) if LONG else (2, range(1))

# %% [markdown]
# ## A network in the style of the book
#
# *Dive into Deep Learning* begins with `npx.set_np()`. From then on the arrays are `mx.np` arrays, and layers and
# losses want no others. Its residual block is a `Block` with a method `forward`. MXNet runs such a block line by
# line and never sees it as a whole. Two lines change, and it can be traced:
#
#     class Residual(nn.Block):                      class Residual(nn.HybridBlock):
#         def forward(self, X):                          def hybrid_forward(self, F, X):
#             ... npx.relu(Y + X)                            ... F.npx.relu(Y + X)
#
# `F` stands for arrays when the block computes, and for symbols when it is traced.

# %%
npx.set_np()


class Residual(nn.HybridBlock):
    def __init__(self, channels, strides=1, use_1x1conv=False):
        super().__init__()
        self.conv1 = nn.Conv2D(channels, kernel_size=3, strides=strides, padding=1)
        self.conv2 = nn.Conv2D(channels, kernel_size=3, padding=1)
        self.conv3 = nn.Conv2D(channels, kernel_size=1, strides=strides) if use_1x1conv else None
        self.bn1, self.bn2 = nn.BatchNorm(), nn.BatchNorm()

    def hybrid_forward(self, F, X):
        Y = F.npx.relu(self.bn1(self.conv1(X)))
        Y = self.bn2(self.conv2(Y))
        return F.npx.relu(Y + (X if self.conv3 is None else self.conv3(X)))


def small_resnet():
    net = nn.HybridSequential()
    net.add(nn.Conv2D(32, kernel_size=5, strides=2, padding=2), nn.BatchNorm(), nn.Activation("relu"),
            Residual(32), Residual(64, strides=2, use_1x1conv=True), Residual(128, strides=2, use_1x1conv=True),
            nn.GlobalAvgPool2D(), nn.Dense(10))
    return net


# %% [markdown]
# This is the training that you have already; nothing in it is of this library.

# %%
def train_as_in_the_book(net, data, epochs):
    loss = gluon.loss.SoftmaxCrossEntropyLoss()
    trainer = gluon.Trainer(net.collect_params(), "sgd", {"learning_rate": 0.05, "momentum": 0.9, "wd": 1e-4})
    for epoch in range(epochs):
        total = 0.0
        for X, y in data:
            with autograd.record():
                losses = loss(net(X), y)
            losses.backward()
            trainer.step(len(X))
            total += float(losses.mean())
        print(f"epoch {epoch + 1}: loss {total / len(data):.4f}", flush=True)


mx.random.seed(0)
np.random.seed(0)
mine = small_resnet()
mine.initialize(mx.init.Xavier())
mine.hybridize(static_alloc=True, static_shape=True)
train_as_in_the_book(mine, train.batches(100, shuffle=True), EPOCHS)
mine.save_parameters(str(results.path("-mine.params")))
results.add("the book's ResNet, as trained", mine)

# %% [markdown]
# ## What the graph says
#
# A symbol instead of an array traces the network. Its layers are the same operators as ever; only what stands
# between them has the names of the NumPy interface: `_npi_add` for the `+`, `_npx_relu` for the ReLU. The library
# knows both names, and so it sees that channel 7 of a body and channel 7 of its shortcut have to go together.

# %%
symbol = mine(mx.sym.var("data").as_np_ndarray())
operators = [node["op"] for node in json.loads(symbol.tojson())["nodes"] if node["op"] != "null"]
print("operators in the graph:", ", ".join(sorted(set(operators))))

# %% [markdown]
# ## Compress it
#
# Nothing here differs from the other tutorials, and nothing has to be converted. What comes out is an `mx.np`
# array, because what goes in is one. The unpruned network gets the same extra training.

# %%
example = next(iter(validation.batches(100)))[0]


def mine_again():
    net = small_resnet()
    net.load_parameters(str(results.path("-mine.params")))
    return net


def fine_tuned(title, net, seed):
    net.hybridize(static_alloc=True, static_shape=True)
    trainer = gluon.Trainer(net.collect_params(), "nag", {"learning_rate": 0.02, "momentum": 0.9, "wd": 1e-4})
    history = gc.training.fit(net, train.batches(100, shuffle=True), 2 if LONG else 1, trainer, seed=seed)
    show_training(f"{title}, seed {seed}", history)
    return gc.training.evaluate(net, results.test_data)


def compress(title, again):
    """Half of the channels, a little training, integers; what the unpruned network gains by the same training."""
    accuracies = {"unpruned": [], "pruned": [], "integers": []}
    for seed in SEEDS:
        original, net = again(), again()
        accuracies["unpruned"].append(fine_tuned(f"{title}, unpruned", original, seed))
        plan = gc.pruning.prune_channels(net, example, ratio=0.5)
        gc.pruning.reestimate_batch_norm(net, train.batches(100), batches=10)
        accuracies["pruned"].append(fine_tuned(f"{title}, pruned", net, seed))
        integers = gc.quantization.quantize(net, train.batches(100), batches=4)
        accuracies["integers"].append(gc.training.evaluate(integers, results.test_data))
    results.add(f"{title}, unpruned, same extra training", original, accuracies=accuracies["unpruned"])
    results.add(f"{title}, half of the channels, fine-tuned", net, plan, accuracies=accuracies["pruned"])
    results.add(f"{title}, ... and on integers", integers, accuracies=accuracies["integers"])
    return net, plan


_, plan = compress("the book's ResNet", mine_again)
print(plan)
integers = gc.load(results.path(f"-{len(results.rows) - 1}.gcz"))
X = mx.np.array(example.asnumpy())
print(f"{type(X).__module__}.{type(X).__name__} in, {type(integers(X)).__module__}.{type(integers(X)).__name__} out")

# %% [markdown]
# ## A checkpoint of `Module`
#
# Before Gluon, networks were symbols, trained by `Module`. Most MXNet networks that are in service still lie about
# as `prefix-symbol.json` and `prefix-0003.params`. Let us be the people who trained one, years ago, and left two
# files. (With the NumPy interface off, which `Module` does not know. One process can hold networks of both kinds.)

# %%
npx.reset_np()


def unit(x, channels, stride, name):
    x = mx.sym.Convolution(x, kernel=(3, 3), stride=(stride, stride), pad=(1, 1), num_filter=channels, no_bias=True,
                           name=f"{name}_conv")
    x = mx.sym.BatchNorm(x, fix_gamma=True, name=f"{name}_bn")
    return mx.sym.LeakyReLU(x, act_type="prelu", name=f"{name}_relu")


def years_ago(prefix):
    x = unit(mx.sym.var("data"), 32, 2, "stage1")
    x = unit(unit(x, 32, 1, "stage2a"), 32, 1, "stage2b") + x
    x = unit(unit(x, 64, 2, "stage3"), 128, 2, "stage4")
    x = mx.sym.Pooling(x, global_pool=True, kernel=(1, 1), pool_type="avg")
    x = mx.sym.FullyConnected(mx.sym.Flatten(x), num_hidden=10, name="fc1")
    module = mx.mod.Module(mx.sym.SoftmaxOutput(x, name="softmax"))
    images, labels = next(iter(train.batches(len(train))))
    module.fit(mx.io.NDArrayIter(images, labels, 100, shuffle=True), num_epoch=EPOCHS, optimizer="sgd",
               optimizer_params={"learning_rate": 0.05, "momentum": 0.9, "wd": 1e-4}, initializer=mx.init.Xavier())
    module.save_checkpoint(prefix, EPOCHS)


prefix = str(results.path("-clothes"))
mx.random.seed(0)
np.random.seed(0)
years_ago(prefix)
images = next(iter(results.test_data))[0]


def answers_of_module(prefix, epoch):
    data = mx.io.NDArrayIter(images, mx.nd.zeros(len(images)), len(images), label_name="softmax_label")
    module = mx.mod.Module.load(prefix, epoch)
    module.bind(data.provide_data, data.provide_label, for_training=False)
    return module.predict(data).asnumpy()


expected = answers_of_module(prefix, EPOCHS)

# %% [markdown]
# ## What stands in the way
#
# Its last operator, `SoftmaxOutput`, is a loss and an output in one, and reads the labels. So whoever opens the
# files as a Gluon network is asked for a parameter that no file has:

# %%
files = f"{prefix}-symbol.json", f"{prefix}-{EPOCHS:04d}.params"
try:
    gluon.SymbolBlock.imports(files[0], ["data"], files[1])
except AssertionError as error:
    print(str(error)[:60], "...")

# %% [markdown]
# By hand: leave out the loss, and take the graph up to the tensor that it reads, the logits of `fc1`. What
# `SoftmaxOutput` puts out is their softmax.

# %%
symbol, arguments, statistics = mx.model.load_checkpoint(prefix, EPOCHS)
by_hand = gluon.SymbolBlock(symbol.get_internals()["fc1_output"], [mx.sym.var("data")])
for name, parameter in by_hand.collect_params().items():
    value = {**arguments, **statistics}[name]
    parameter.shape = value.shape
    parameter.initialize()
    parameter.set_data(value)
np.testing.assert_allclose(mx.nd.softmax(by_hand(images)).asnumpy(), expected, rtol=1e-4, atol=1e-6)

# %% [markdown]
# ## With the library
#
# `gc.load` opens whatever holds a network, by what it finds: a checkpoint, a symbol file, a SageMaker archive, our
# own files. It reads the files of strangers with care: every operator, link and size in the graph is checked before
# MXNet sees it. By default a network gives what `Module.predict` gives; for training we want the logits,
# `head="logits"`.

# %%
np.testing.assert_allclose(gc.load(prefix, epoch=EPOCHS)(images).asnumpy(), expected, rtol=1e-4, atol=1e-6)


def clothes():
    return gc.load(prefix, epoch=EPOCHS, head="logits")


np.testing.assert_allclose(clothes()(images).asnumpy(), by_hand(images).asnumpy(), rtol=1e-4, atol=1e-5)
results.add("Module's network, as trained", clothes())
small, _ = compress("Module's network", clothes)

# %% [markdown]
# ## And back to where it came from
#
# The server that runs it may be older than this course. `write_checkpoint` writes one of the pruned network, with
# the `SoftmaxOutput` put back, and `Module` loads it as it loads its own.

# %%
gc.export.write_checkpoint(small, results.path("-clothes-small"), images, loss_head="SoftmaxOutput")
answers = answers_of_module(str(results.path("-clothes-small")), 0)
np.testing.assert_allclose(answers, mx.nd.softmax(small(images)).asnumpy(), rtol=1e-4, atol=1e-6)
before, after = (results.path(f"-clothes{rest}.params").stat().st_size for rest in (f"-{EPOCHS:04d}", "-small-0000"))
results.numbers["bytes of Module's parameters"] = {"before": before, "after": after}
print(f"Module loads the pruned network: {after:,} instead of {before:,} bytes of parameters")

curves = {title: [(row["bytes"] / 1000, row["accuracy"]) for row in results.rows
                  if row["network"].startswith(title) and "as trained" not in row["network"]]
          for title in ("the book's ResNet", "Module's network")}
plot_curves(curves, results.path(".png"), xlabel="size of the file, kB", ylabel="test accuracy",
            title="From right to left: unpruned, pruned, on integers")
results.finish()

# %% [markdown]
# ## What this shows
#
# - A network need not be rewritten for a compressor, if MXNet can trace it. Neither the interface of its arrays nor
#   the API that trained it matters to what can be pruned and rounded.
# - With half of its channels each network keeps about a quarter of its weights, and loses at most two points against
#   the original with the same extra training.
# - On integers each file is less than a tenth as long as at the start, and the accuracy is that of the pruned network
#   within half a point.
#
# ## What to try next
#
# - Your own files: `gc.load("path/to/prefix", epoch=3)`, or a SageMaker `model.tar.gz`.
# - A network with attention: prune its heads and hidden units, and run its dense layers on integers.
# - `gc.pruning.measure_sensitivity` instead of the same half everywhere (tutorial 6).
