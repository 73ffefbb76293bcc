# %% [markdown]
# # 3. Knowledge distillation: from a ResNet to a small network, on CIFAR-10
#
# - **You will be able to** write Hinton's distillation loss and two losses between features, train a small network
#   with them in a loop of your own or with `distill`, and say what the teacher was worth.
# - **You need to know** softmax, cross-entropy, and how a Gluon network is trained (`autograd.record`, `backward`).
#   Words, and Gluon beside PyTorch: [TERMINOLOGY.md](TERMINOLOGY.md).
# - **Time on two cores:** <!-- time.03: begin -->60 seconds; with `--long` 32 CPU minutes<!-- time.03: end -->
# - **Downloads:** CIFAR-10, about 170 MB, once.
#
# *What you will see:* why the first article's distillation cannot run and would not teach anything if it did, what two
# small networks learn from a ResNet beside the labels, and how a pruned network learns from the original.
#
# Run `python tutorials/03_distillation_resnet.py`: 2,500 training images, one seed, only the first of the two students,
# accuracies on the first 1,000 test images. With `--long` there are 10,000 training images, three seeds, both students
# and all test images, and the article's network learns from all of CIFAR-10 (in the section before the conclusions). Or
# open it as a notebook.

# %%
import subprocess
import sys

from course import LONG, OUTPUT, Results, show_training

import gluon_compress as gc
from gluon_compress.distillation import FeatureLoss, distill
from gluon_compress import measure_latency
from gluon_compress.measuring.plots import plot_curves

import mxnet as mx
import numpy as np
from matplotlib.figure import Figure

train, test = gc.datasets.cifar10()
train, validation = train.split(2000)
if not LONG:
    validation, test = validation.subset(slice(0, 1000)), test.subset(slice(0, 1000))
train = train.subset(slice(0, 10000 if LONG else 1600))
validation_data = validation.batches(100)
results = Results("03_distillation_resnet", test.batches(100))

# %% [markdown]
# ## What the article says
#
# > A small model learns the knowledge of a large, trained one: soft targets and a temperature let it
# > learn more from the large one's output probabilities.
#
# ```python
# def knowledge_distillation(large_model, small_model, temperature=3):
#     large_model_probabilities = large_model.softmax()
#     small_model_probabilities = small_model.softmax()
#     loss = mx.gluon.loss.KLDivLoss()
#     with mx.autograd.record():
#         output = loss(large_model_probabilities, small_model_probabilities * temperature)
#     output.backward()
#     optimizer.step(batch_size)
# ```
#
# ## What is wrong with it
#
# 1. A Gluon `Block` has no `softmax()`, no data goes in, and `optimizer` and `batch_size` don't exist.
# 2. The student's probabilities are computed outside `record()`: there is nothing to differentiate.
# 3. The temperature *multiplies* one side's *probabilities*. It has to divide the logits of both sides.
# 4. `KLDivLoss` wants the student's log-probabilities first, then the teacher's probabilities.
# 5. The gradient of the softened loss is about 1/T² as large, and without a factor T² so are the steps; and there is no
#    label loss.
# 6. The ResNet has no residual block: "other layers omitted".
#
# [ERRATA.md](ERRATA.md) has these and others in its entries 20 to 31, 55 and 65, each with a test.
#
# ## From scratch
#
# Student logits s, teacher logits t, labels y, temperature T, and the labels' share h (`hard_weight`). CE is the
# cross-entropy, and KL the KL divergence, which says how much two distributions differ:
#
#     loss = h * CE(y, softmax(s)) + (1 - h) * T² * KL(softmax(t / T) || softmax(s / T))
#
# T = 4 and h = 0.1 are what the library takes by default, and usual values to begin with. The teacher is our trained
# ResNet-18 for 32x32 images. It is of width 32 instead of 64, so it has about a quarter of the usual parameters. The
# code prints the probability that it gives to its first choice, on average.
#
# **Figure:** what the teacher says of one image, a bar for each class. At T = 1 (blue) one bar is nearly all there is.
# At T = 4 (orange) the others rise, the likely mistakes higher than the absurd ones.

# %%
TEMPERATURE, HARD_WEIGHT = 4.0, 0.1


def softmax(logits):
    exponentials = np.exp(logits - logits.max(axis=1, keepdims=True))
    return exponentials / exponentials.sum(axis=1, keepdims=True)


def distillation_loss(s, labels, t, T, h):
    p, q = softmax(t / T), softmax(s / T)
    hard = -np.log(softmax(s)[np.arange(len(s)), labels])
    soft = np.sum(p * np.log(p / q), axis=1)
    return h * hard + (1 - h) * T ** 2 * soft


teacher = gc.params.load("resnet18_cifar10")
results.add("ResNet-18, the teacher", teacher)

inputs, labels = next(iter(validation_data))
teacher_logits = teacher(inputs)
for T in (1, TEMPERATURE):
    print(f"T = {T}: the teacher gives its first choice {softmax(teacher_logits.asnumpy() / T).max(axis=1).mean():.3f} "
          f"on average")

image = int(np.argsort(softmax(teacher_logits.asnumpy()).max(axis=1))[len(labels) // 2])  # of middling certainty
figure = Figure(figsize=(6.4, 3), layout="constrained")
axes = figure.subplots()
for index, T in enumerate((1, TEMPERATURE)):
    axes.bar(np.arange(10) + 0.4 * index - 0.2, softmax(teacher_logits[image:image + 1].asnumpy() / T)[0], 0.4,
             label=f"T = {T:g}")
names = "airplane automobile bird cat deer dog frog horse ship truck".split()
axes.set(title=f"labelled {names[int(labels[image].asscalar())]}", ylabel="probability")
axes.set_xticks(range(10), names, rotation=20)
axes.legend()
figure.savefig(results.path("-softened.png"), dpi=120)

# %% [markdown]
# At T = 1 the teacher is so sure of itself that its probabilities say little more than the label. Softened, they
# also say which wrong classes are nearly right, and that is what the student can learn from. (Here we look at held-out
# images: no student trains on them. The teacher saw them when it was trained, so it is surer of them than of new ones.)
#
# ## With the library
#
# `DistillationLoss` is this formula for Gluon, and `distill` a training loop with it: the teacher runs in
# inference mode and outside the tape. In a loop of your own you need only the loss. It takes the student's logits, the
# labels and the teacher's logits, in this order, and gives one value for each image.

# %%
loss = gc.distillation.DistillationLoss(TEMPERATURE, HARD_WEIGHT)
random_logits = mx.nd.random.normal(shape=teacher_logits.shape)
ours = loss(random_logits, labels, teacher_logits).asnumpy()
expected = distillation_loss(random_logits.asnumpy(), labels.asnumpy().astype(int), teacher_logits.asnumpy(),
                             TEMPERATURE, HARD_WEIGHT)
assert np.allclose(ours, expected, rtol=1e-4), "the library's loss differs from the formula"

# %% [markdown]
# The loop, too, is short. The teacher runs before `record()`: it is not on the tape, gets no gradients, and its
# BatchNorm uses the running statistics. The student runs on the tape. Five steps of our loop give the student that five
# steps of `distill` give, with the same batches and a learning rate that stays: `schedule` turns the share of the steps
# done into a factor for it, which falls along a cosine by default.
#
# If you know PyTorch: `backward` adds up the gradients of all values in `losses`, and `step` divides by the number of
# images. `backward` overwrites old gradients, so nothing has to be set to zero.

# %%
def fresh_student():
    student = gc.models.SmallConvNet(classes=10)
    mx.random.seed(0)
    student.initialize(mx.init.Xavier())
    student(inputs)  # now it knows the sizes of its layers
    return student


five = train.subset(slice(0, 320)).batches(64)
by_hand, with_library = fresh_student(), fresh_student()
trainer = mx.gluon.Trainer(by_hand.collect_params(), "sgd", {"learning_rate": 0.01})
for images, their_labels in five:
    of_teacher = teacher(images)
    with mx.autograd.record():
        losses = loss(by_hand(images), their_labels, of_teacher)
    losses.backward()
    trainer.step(len(images))
trainer = mx.gluon.Trainer(with_library.collect_params(), "sgd", {"learning_rate": 0.01})
distill(with_library, teacher, five, 1, TEMPERATURE, HARD_WEIGHT, trainer=trainer, schedule=lambda share: 1.0)
for ours, theirs in zip(by_hand.collect_params().values(), with_library.collect_params().values()):
    np.testing.assert_allclose(ours.data().asnumpy(), theirs.data().asnumpy(), rtol=1e-3, atol=1e-5)

# %% [markdown]
# ## Losses between features, from scratch
#
# A teacher can also say what it computes inside. Two ways are used below. *Similarities* (Tung & Mori 2019): which
# images of the batch look alike to a layer? With the layer's outputs as rows Q, one row per image, compare
#
#     G = Q Qᵀ             then each row of G is divided by its L2 norm
#     loss = mean((G_teacher - G_student)²)
#
# *Attention* (Zagoruyko & Komodakis 2017; not the attention of transformers): where in the image does a layer react?
#
#     A = sum_c x_c²       over the channels c; divided by its L2 norm
#     loss = mean((A_teacher - A_student)²)
#
# Neither needs layers of the same width: G has a number for each pair of images, A one for each place, and divided by
# their norms they compare. Names such as `features.4` are those of the blocks; `print(net)` shows them. In this ResNet
# `features.0` to `features.2` are a convolution, its BatchNorm and a ReLU, and `features.3` to `features.6` the four
# stages. `FeatureMatcher` gives the student's logits, the teacher's, and the loss between features for each image:

# %%
def unit_rows(x):
    return x / np.linalg.norm(x, axis=1, keepdims=True)


def similarity_loss(s, t):
    g_student, g_teacher = (unit_rows(x.reshape(len(x), -1) @ x.reshape(len(x), -1).T) for x in (s, t))
    return np.mean((g_teacher - g_student) ** 2)


def attention_loss(s, t):
    a_student, a_teacher = (unit_rows(np.square(x).sum(axis=1).reshape(len(x), -1)) for x in (s, t))
    return np.mean((a_teacher - a_student) ** 2)


narrow = gc.models.ResNet(18, classes=10, thumbnail=True, width=8)
mx.random.seed(0)
narrow.initialize(mx.init.Xavier())
some_images = inputs[:16]
of_both = [net.features[:5](some_images).asnumpy() for net in (narrow, teacher)]
for kind, by_hand in (("similarity", similarity_loss), ("attention", attention_loss)):
    features = [FeatureLoss("features.4", "features.4", kind)]
    _, _, losses = gc.distillation.FeatureMatcher(narrow, teacher, features, some_images)(some_images)
    print(f"{kind} of features.4, {of_both[0].shape} and {of_both[1].shape}: {by_hand(*of_both):.5f}")
    assert np.isclose(losses.mean().asscalar(), by_hand(*of_both), rtol=1e-3), "the library's loss differs"

# %% [markdown]
# ## The teacher on integers
#
# The teacher is not trained, it only answers. On 8-bit integers (tutorial 2) it does so in a fraction of the time, and
# gives nearly the same answers; the code prints for how many images the first choice is the same. What a student learns
# from either is in the table at the end.

# %%
teacher.hybridize(static_alloc=True, static_shape=True)
int8_teacher = gc.quantization.quantize(teacher, train.subset(slice(0, 512)).batches(64))
same = (int8_teacher(inputs).argmax(axis=1) == teacher_logits.argmax(axis=1)).mean().asscalar()
results.numbers["same first choice of both teachers"] = float(same)
print(f"{len(inputs)} images: {measure_latency(teacher, inputs, repeats=5).median:.0f} ms in fp32, "
      f"{measure_latency(int8_teacher, inputs, repeats=5).median:.0f} ms on integers; "
      f"the same first choice for {same:.1%}")

# %% [markdown]
# ## Two students
#
# The article's small network, here `SmallConvNet`, and (in the long version, as it needs more training) a ResNet-18 of
# a quarter of the teacher's width. Each is trained three ways: same images, same number of steps, same seed, same
# schedule. Each training ends with the parameters of the epoch that did best on the held-out images.
#
# - *labels alone*.
# - *distilled*, by the teacher on integers. The images stay the same from epoch to epoch, so that the teacher needs to
#   see them only once: `cache=` keeps its logits in a file. (A file of another teacher or other images is refused, so
#   each teacher has its own.) The article's network also learns from the teacher in fp32, for comparison.
# - *and features*: also what happens inside. For the article's network the similarities between the images of a batch
#   (Tung & Mori 2019), after the pooling behind its one convolution (`features.3`) and after the teacher's second
#   stage; for the ResNet the attention maps of three stages (Zagoruyko & Komodakis 2017). The weights, 3000 and 1000,
#   are those of the two papers. Layers of the int8 teacher go by the names of the convolutions, which
#   `print(int8_teacher.record)` lists. The last one of a block also adds the shortcut and applies the ReLU: the output
#   of `features.4.1.body.3` is that of the second stage.
#
# Compare the accuracies, not the losses that are printed: with a teacher a loss has the factor T², here 16, and more
# terms.
#
# **Figure:** accuracy on held-out images after each epoch. Look at the last epoch: the lowest line is the student that
# saw labels alone. The teacher would be far above the figure's upper edge.

# %%
EPOCHS = 4
seeds = range(3) if LONG else range(1)
students = {
    "SmallConvNet": (lambda: gc.models.SmallConvNet(classes=10), [
        FeatureLoss("features.3", "features.4.1.body.3", "similarity", 3000)]),
    "ResNet-18, width 8": (lambda: gc.models.ResNet(18, classes=10, thumbnail=True, width=8), [
        FeatureLoss(f"features.{stage}", f"features.{stage}.1.body.3", "attention", 1000) for stage in (3, 4, 5)])}


def cached_logits(of):
    return {"cache": OUTPUT / f"03_logits_{of}_{len(train)}.safetensors"}


def train_student(title, way, seed):
    """A student with fresh weights, trained that way; return it and the history."""
    build, features = students[title]
    student = build()
    mx.random.seed(seed)
    student.initialize(mx.init.Xavier())
    student.hybridize(static_alloc=True, static_shape=True)
    student(inputs)
    data = train.batches(64, shuffle=True)
    arguments = {"trainer": mx.gluon.Trainer(student.collect_params(), "adam", {"learning_rate": 0.002}),
                 "validation_data": validation_data, "seed": seed}
    if way == "labels alone":
        history = gc.training.fit(student, data, EPOCHS, **arguments)
    else:
        from_whom = teacher if way.endswith("fp32 teacher") else int8_teacher
        how = {"features": features} if way.endswith("features") else cached_logits(type(from_whom).__name__)
        history = distill(student, from_whom, data, EPOCHS, TEMPERATURE, HARD_WEIGHT, **how, **arguments)
    show_training(f"{title}, {way}, seed {seed}", history)
    return student, history


ways = ("labels alone", "distilled", "distilled, by the fp32 teacher", "distilled, and features")
curves = {}
for title in list(students) if LONG else ["SmallConvNet"]:
    for way in ways if title == "SmallConvNet" else ways[:2] + ways[3:]:
        trained = [train_student(title, way, seed) for seed in seeds]
        curves[f"{title}, {way}"] = [(epoch["epoch"], epoch["validation_accuracy"]) for epoch in trained[-1][1].epochs]
        results.add(f"{title}, {way}", trained[-1][0],
                    accuracies=[gc.training.evaluate(student, results.test_data) for student, _ in trained])
plot_curves(curves, results.path(".png"), xlabel="epoch", ylabel="accuracy on held-out images",
            title="Students of a CIFAR-10 ResNet-18, last seed")

# %% [markdown]
# ## A pruned copy of the teacher
#
# Distillation is a way to fine-tune, too: half of the teacher's arithmetic is pruned away (tutorial 6), and the rest
# learns from the whole teacher. We train it once through 2,000 images (960 in the quick version), first with the
# labels alone, then with the teacher. `prune_channels` traces the network with an example, `inputs[:1]`, and leaves
# half of the multiplications (`macs=0.5`). It compares the channels of all layers (`scope="global"`), takes at most
# 80 % of those of a layer, and leaves multiples of 16, which compute fast:

# %%
some = train.subset(slice(0, 2000 if LONG else 960)).batches(64 if LONG else 32, shuffle=True)
for way in ("as pruned", "labels alone", "distilled"):
    pruned = gc.params.load("resnet18_cifar10")
    gc.pruning.prune_channels(pruned, inputs[:1], macs=0.5, scope="global", max_ratio=0.8, round_to=16)
    pruned.hybridize(static_alloc=True, static_shape=True)
    trainer = mx.gluon.Trainer(pruned.collect_params(), "nag", {"learning_rate": 0.005, "momentum": 0.9})
    if way == "labels alone":
        show_training("half of the teacher, labels alone", gc.training.fit(pruned, some, 1, trainer))
    elif way == "distilled":
        show_training("half of the teacher, distilled",
                      distill(pruned, int8_teacher, some, 1, TEMPERATURE, HARD_WEIGHT, trainer=trainer))
    results.add(f"half of the teacher, {way}", pruned)

# %% [markdown]
# ## Small on disk as well
#
# The students that were trained last get 8-bit weights. Weights below half a step of their scale become zero, so the
# table counts fewer nonzero parameters. The file is smaller; the network still computes in fp32, in the same time:

# %%
accuracies = []
for student, _ in trained:
    scales = gc.quantization.quantize_weights(student, bits=8)
    accuracies.append(gc.training.evaluate(student, results.test_data))
results.add(f"{title}, distilled, and features, and 8-bit weights", student, scales, accuracies=accuracies)
results.finish()

# %% [markdown]
# ## All of CIFAR-10
#
# Some thousand images and four epochs show the direction only. `benchmarks/cifar_distillation.py` takes all images
# and four seeds for the table in benchmarks/README.md. A run whose result is in
# `benchmarks/results/cifar_distillation` is not repeated: delete the files `article-*.json` there to train the
# article's network again, which takes an hour.

# %%
if LONG:
    benchmark = OUTPUT.parent.parent / "benchmarks" / "cifar_distillation.py"
    subprocess.run([sys.executable, str(benchmark), "--student", "article"], check=True)

# %% [markdown]
# ## What this shows
#
# - The ways differ only in the loss, so the difference is what the teacher is worth: some points for either student
#   here (the quick version trains the first one only). With one seed it may be chance; the long version's results stand
#   in benchmarks/README.md.
# - After the long version's four epochs both students are about as good. Which student it is shows later: with ten
#   epochs of all images the article's network reaches 66 %, the small ResNet 83 % without a teacher and 85 % with one,
#   and the article's network gains nothing from it (table in benchmarks/README.md; with features, too, the small ResNet
#   reaches 86 %). With few images a teacher tells even the article's network something new; with all of them its one
#   convolution is the limit. Choose a student that can learn the task.
# - A pruned copy of the teacher is the best student of all: it guesses at first, but its weights are the teacher's,
#   and a short training is enough.
# - A teacher on integers teaches as well as one in fp32, in a fraction of the time. Once its logits are on disk it
#   takes no time at all: then a step costs about what it costs with labels alone.
#
# ## What to try next
#
# - By hand, in NumPy: the gradient of the softened loss with and without T². How large is it at T = 1, 4 and 20?
# - Train with T = 1, with T = 20, and with `hard_weight` 0.5: the best values depend on student and teacher.
# - Let a student train with the rounding (quantization-aware training, tutorial 2): `prepare_qat(net, data, bits=4)`,
#   then `distill`.
# - Augment the images (`gluon_compress.datasets.random_flip`), with the teacher answering for each that comes out. They
#   change from epoch to epoch, so leave out `cache=`.
