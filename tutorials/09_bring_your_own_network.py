# %% [markdown]
# # 9. Bring your own network
#
# - **You will be able to** make a network of your own one that MXNet can trace, that is, write down as a graph; open a
#   checkpoint whose code is lost, compress both with the techniques of tutorials 5 to 7, and give the result back to
#   `Module`, which trained networks in MXNet before Gluon.
# - **You need to know** how to train in Gluon, and what tutorials 5 to 7 do.
#   The articles do not cover this. Words, and Gluon beside PyTorch: [TERMINOLOGY.md](TERMINOLOGY.md).
# - **Time on two cores:** <!-- time.09: begin -->50 seconds; with `--long` 11 CPU minutes<!-- time.09: end -->
# - **Downloads:** Fashion-MNIST, about 31 MB, once.
#
# *What you will see:* two networks that were not written for this library. The first is written as in *Dive into Deep
# Learning* (d2l), with MXNet's NumPy interface. Of the second only the two files that `Module` wrote are left,
# `...-clothes-symbol.json` and `...-clothes-0002.params`; its code is lost. Both become smaller files, and the second
# goes back to `Module`.
#
# Run `python tutorials/09_bring_your_own_network.py`: both networks are trained here for two epochs on 5,000 images,
# and accuracies are on the first 2,000 test images. With `--long` there are four epochs on 15,000 images, two epochs of
# fine-tuning instead of one, all test images, and three seeds. Or open it as a notebook.

# %%
import re

from course import LONG, Results, show_training

import gluon_compress as gc
from gluon_compress.measuring.plots import plot_curves

import mxnet as mx
import numpy as np
from mxnet import autograd, gluon, npx
from mxnet.gluon import nn

train, test = gc.datasets.fashion_mnist()
train, validation = train.split(5000)
train = train.subset(slice(0, 15000 if LONG else 5000))
test = test if LONG else test.subset(slice(0, 2000))
results = Results("09_bring_your_own_network", test.batches(500))
EPOCHS, SEEDS = (4, range(3)) if LONG else (2, range(1))

# %% [markdown]
# ## A network as in the book
#
# Newer editions of d2l begin with `npx.set_np()`. Then arrays are `mx.np` arrays, and layers and losses accept only
# those. (If your edition has `from mxnet import nd`, leave out `set_np` and the `npx` below; all else holds.) The
# book's residual block is a `Block` with a method `forward`. MXNet runs such a block line by line and never sees it
# as a whole. Change its base class, its method and its calls to `npx`, and MXNet can trace it:
#
#     class Residual(nn.Block):                      class Residual(nn.HybridBlock):
#         def forward(self, X):                          def hybrid_forward(self, F, X):
#             Y = npx.relu(...)                              Y = F.npx.relu(...)
#             return npx.relu(Y + X)                         return F.npx.relu(Y + X)
#
#     nn.Sequential()                                nn.HybridSequential()
#
# `F` is the module of array functions when the block computes, and that of symbol functions when it is traced. A symbol
# has no numbers: it is a node of a graph that numbers will go through later. What looks at an array, such as `X.shape`
# or an `if` on its values, has no place in a block that is traced. Files that `save_parameters` wrote before the change
# still load. d2l says more of this in its section on compilers and interpreters. A layer is told only how many channels
# it puts out: Gluon finds those that go in at the first call.

# %%
npx.set_np()


class Residual(nn.HybridBlock):
    def __init__(self, channels, use_1x1conv=False, strides=1):
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
            Residual(32), Residual(64, use_1x1conv=True, strides=2), Residual(128, use_1x1conv=True, strides=2),
            nn.GlobalAvgPool2D(), nn.Dense(10))
    return net


# %% [markdown]
# Ordinary Gluon training follows. Nothing in it comes from this library. A Gluon loss is an array with a number for
# each image; `backward` takes the gradient of their sum, and `step(len(X))` divides it by the number of images.
# `static_alloc` keeps the memory of the graph, `static_shape` also what was prepared for this size of a batch.

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
results.add("d2l's residual network, as trained", mine)

# %% [markdown]
# ## What the graph says
#
# Call the network with a symbol instead of an array, and you get its graph (`as_np_ndarray` makes it a symbol of the
# NumPy interface). The layers are the operators that they
# are without `set_np`. Only the functions between them have names of the NumPy interface: `_npi_add` for the `+`,
# `_npx_relu` for the ReLU. The library knows both kinds, so it sees that channel 7 of a body and channel 7 of its
# shortcut have to go together (tutorial 6).

# %%
symbol = mine(mx.sym.var("data").as_np_ndarray())
operators = re.findall(r"Op:(\w+)", symbol.debug_str())
print("operators in the graph:", ", ".join(sorted(set(operators))))

# %% [markdown]
# ## Compress it
#
# The code is that of the other tutorials. You convert nothing: remove half of the channels, estimate BatchNorm's
# statistics again, fine-tune, go over to integers, save. What is printed at the end shows that the network still takes
# arrays of the NumPy interface, and gives them back.

# %%
def mine_again():
    net = small_resnet()
    net.load_parameters(str(results.path("-mine.params")))
    return net


def fine_tuned(title, net, seed):
    net.hybridize(static_alloc=True, static_shape=True)
    trainer = gluon.Trainer(net.collect_params(), "nag", {"learning_rate": 0.02, "momentum": 0.9, "wd": 1e-4})
    history = gc.training.fit(net, train.batches(100, shuffle=True), 2 if LONG else 1, trainer, seed=seed)
    show_training(f"{title}, seed {seed}", history)
    return net


def compressed(title, net, seed):
    example, calibration = next(iter(validation.batches(100)))[0], train.batches(100)
    plan = gc.pruning.prune_channels(net, example, ratio=0.5)
    gc.pruning.reestimate_batch_norm(net, calibration, batches=10)
    fine_tuned(f"{title}, pruned", net, seed)
    return net, plan, gc.quantization.quantize(net, calibration, batches=4)


of_first_seed = small, plan, integers = compressed("d2l's residual network", mine_again(), seed=0)
print(plan)
file = results.path("-mine.gcz")
gc.save(file, integers)
X = next(iter(validation.batches(100)))[0]
print(f"{file.stat().st_size:,} bytes; what goes in is a {type(X).__module__}.{type(X).__name__}, "
      f"what comes out is a {type(gc.load(file)(X)).__module__}.{type(gc.load(file)(X)).__name__}")

# %% [markdown]
# The original gets the same extra training, so that we compare like with like. What follows only fills the table at the
# end: it does the same for each seed that is left, and later for the second network.


# %%
def compare(title, again, of_first_seed=None):
    accuracies = {"unpruned": [], "pruned": [], "integers": []}
    for seed in SEEDS:
        original = fine_tuned(f"{title}, unpruned", again(), seed)
        small, plan, integers = of_first_seed if of_first_seed and not seed else compressed(title, again(), seed)
        for name, net in (("unpruned", original), ("pruned", small), ("integers", integers)):
            accuracies[name].append(gc.training.evaluate(net, results.test_data))
    results.add(f"{title}, unpruned, same extra training", original, accuracies=accuracies["unpruned"])
    results.add(f"{title}, half of the channels, fine-tuned", small, plan, accuracies=accuracies["pruned"])
    results.add(f"{title}, ... and on integers", integers, accuracies=accuracies["integers"])
    return small


small = compare("d2l's residual network", mine_again, of_first_seed)

# %% [markdown]
# ## A checkpoint of `Module`
#
# Before Gluon, networks were symbols, trained by `Module`. They are stored as `prefix-symbol.json` and
# `prefix-0003.params`, the pair of files that `HybridBlock.export` writes, too. Let us play the people who trained one
# years ago: we train it and keep only its two files. This is old code with MXNet's old arrays, so we switch the NumPy
# interface off. One process can hold networks of both kinds, and this library calls each in its own mode; to call
# `mine` in a loop of your own, switch it on again with `npx.set_np()`. (`fix_gamma=True`, the default of those days,
# holds BatchNorm's gamma at 1; the activation is a PReLU, whose slope below zero is trained. `bind` gives a Module the
# shapes of its inputs, so that it can get its memory.)

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
    # bind asks for labels, which predict then ignores
    data = mx.io.NDArrayIter(images, mx.nd.zeros(len(images)), len(images), label_name="softmax_label")
    module = mx.mod.Module.load(prefix, epoch)
    module.bind(data.provide_data, data.provide_label, for_training=False)
    return module.predict(data).asnumpy()


expected = answers_of_module(prefix, EPOCHS)

# %% [markdown]
# ## What stands in the way
#
# The checkpoint's last operator, `SoftmaxOutput`, is a loss and an output in one, and reads the labels. So Gluon takes
# the label for a parameter, and does not find it in the file:

# %%
files = f"{prefix}-symbol.json", f"{prefix}-{EPOCHS:04d}.params"
try:
    gluon.SymbolBlock.imports(files[0], ["data"], files[1])
except AssertionError as error:
    print(str(error).split(" in file")[0])

# %% [markdown]
# A common way around is to make the label an input, and to give the network zeros for it. Then it has an input too
# many, and its gradient is that of `SoftmaxOutput` with the zeros for labels, whatever loss you take: it cannot be
# trained. So we do it by hand: we cut the graph before the loss, at `fc1_output`, the logits (the output of an operator
# has its name with `_output`). `load` then fills in the parameters, in the types that they were saved in. The output of
# `SoftmaxOutput` is the softmax of these.

# %%
symbol, _, _ = mx.model.load_checkpoint(prefix, EPOCHS)
by_hand = gluon.SymbolBlock(symbol.get_internals()["fc1_output"], [mx.sym.var("data")])
by_hand.collect_params().load(files[1], ctx=mx.cpu(), cast_dtype=True, dtype_source="saved")
difference = np.abs(mx.nd.softmax(by_hand(images)).asnumpy() - expected).max()
print(f"largest difference from Module's answers: {difference:.1e}")
assert difference < 1e-5

# %% [markdown]
# ## With the library
#
# `gc.load` finds out what kind of file it is given and opens it: a checkpoint, a symbol file, a SageMaker archive, our
# own files. It does not trust files: it checks every operator, link and size in the graph before MXNet sees it.
# `describe` says what it finds; the last line says that a softmax is put in place of `SoftmaxOutput`. (It counts
# BatchNorm's running statistics with the parameters, the table at the end does not.) By default the network gives what
# `Module.predict` gives, probabilities. To train it we want the logits.

# %%
print(gc.checkpoint.describe(prefix))
np.testing.assert_allclose(gc.load(prefix, epoch=EPOCHS)(images).asnumpy(), expected, rtol=1e-4, atol=1e-6)


def clothes():
    return gc.load(prefix, epoch=EPOCHS, head="logits")


np.testing.assert_allclose(clothes()(images).asnumpy(), by_hand(images).asnumpy(), rtol=1e-4, atol=1e-5)
results.add("Module's network, as trained", clothes())
small = compare("Module's network", clothes)

# %% [markdown]
# ## And back to where it came from
#
# The server that runs it may still use `Module`. `write_checkpoint` writes the pruned network as a checkpoint and ends
# it in `SoftmaxOutput` again, and `Module` loads it like its own, as epoch 0. Take another prefix than that of the
# original: one symbol file serves all epochs of a prefix, and the original's parameters do not fit the new one.

# %%
gc.export.write_checkpoint(small, results.path("-clothes-small"), images, loss_head="SoftmaxOutput")
answers = answers_of_module(str(results.path("-clothes-small")), 0)
np.testing.assert_allclose(answers, mx.nd.softmax(small(images)).asnumpy(), rtol=1e-4, atol=1e-6)
before, after = (results.path(f"-clothes{rest}.params").stat().st_size for rest in (f"-{EPOCHS:04d}", "-small-0000"))
results.numbers["bytes of Module's parameters"] = {"before": before, "after": after}
print(f"Module loads the pruned network: {after:,} instead of {before:,} bytes of parameters")

# %% [markdown]
# ## Both networks
#
# **Figure:** a line for each network; from right to left the unpruned network, the pruned one, and the pruned one on
# integers. The first step costs accuracy, the second hardly any: that part of the line is nearly level.

# %%
curves = {title: [(row["bytes"] / 1000, row["accuracy"]) for row in results.rows
                  if row["network"].startswith(title) and "as trained" not in row["network"]]
          for title in ("d2l's residual network", "Module's network")}
plot_curves(curves, results.path(".png"), xlabel="size of the file, kB", ylabel="test accuracy",
            title="From right to left: unpruned, pruned, on integers")
results.finish()

# %% [markdown]
# ## What this shows
#
# - You need not rewrite a network that MXNet can trace. Pruning and quantization work with either kind of arrays, and
#   with networks of `Module` as with those of Gluon.
# - With half of its channels each network keeps about a quarter of its weights. It is at most five points behind the
#   original with the same extra training, which is short here; the more of it, the smaller the gap.
# - On integers each file is less than a tenth as long as that of the original, and the accuracy is that of the pruned
#   network within half a point.
# - The checkpoint that goes back to `Module` is about a quarter as long as the one that came.
#
# ## What to try next
#
# - Your own files: `gc.load("path/to/prefix", epoch=3)`, or a SageMaker `model.tar.gz`.
# - A network with attention: prune its heads and hidden units, and run its dense layers on integers.
# - `gc.pruning.measure_sensitivity` instead of the same half everywhere (tutorial 6).
