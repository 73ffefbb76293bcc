"""The distillation loss against NumPy, finite differences, gluoncv and PyTorch; the loop with teachers that stay so."""
import json
import os
import signal
from pathlib import Path

import gluon_compress  # noqa: F401

import mxnet as mx  # noqa: I001
import numpy as np
import pytest
from gluon_compress.distillation import DistillationLoss, FeatureLoss, distill
from gluon_compress.errors import CheckpointError, NetworkError
from gluon_compress.pruning import prune_channels
from gluon_compress.quantization import prepare_qat, quantize
from gluon_compress.training import fit
from hypothesis import given, settings
from hypothesis import strategies as st
from mxnet import autograd
from mxnet.gluon import HybridBlock, Trainer, nn
from mxnet.gluon.data import ArrayDataset, DataLoader
from mxnet.gluon.loss import SoftmaxCrossEntropyLoss
from networks import NormNet, build, fresh, identical, values

RNG = np.random.default_rng(0)
BATCH, CLASSES = 6, 5
STUDENT, TEACHER = RNG.normal(scale=3, size=(2, BATCH, CLASSES)).astype(np.float32)
LABELS = np.float32([0, 4, 2, 2, 1, 3])
SETTINGS = [(1, 0.0), (1, 0.5), (4, 0.1), (4, 1.0), (0.5, 0.3), (20, 0.9)]


def log_softmax(logits):
    shifted = logits.astype(np.float64) - logits.max(axis=-1, keepdims=True)
    return shifted - np.log(np.exp(shifted).sum(axis=-1, keepdims=True))


def reference(student, teacher, labels, temperature, hard_weight):
    """The formula of the docstring in float64."""
    hard = -log_softmax(student)[np.arange(len(labels)), labels.astype(int)]
    log_p, log_q = log_softmax(teacher / temperature), log_softmax(student / temperature)
    soft = (np.exp(log_p) * (log_p - log_q)).sum(axis=-1)
    return hard_weight * hard + (1 - hard_weight) * temperature ** 2 * soft


def check_losses(losses, expected, temperature):
    """T**2 multiplies float32's rounding of the divergence too."""
    np.testing.assert_allclose(losses, expected, rtol=1e-4, atol=1e-5 * max(1, temperature ** 2))


def loss_and_gradient(loss, student, *others):
    student = mx.nd.array(student)
    student.attach_grad()
    with autograd.record():
        losses = loss(student, *map(mx.nd.array, others))
    losses.backward()
    return losses.asnumpy(), student.grad.asnumpy()


@pytest.mark.parametrize(("temperature", "hard_weight"), SETTINGS)
@pytest.mark.parametrize("hybridize", [False, True])
def test_loss_is_the_formula(temperature, hard_weight, hybridize):
    loss = DistillationLoss(temperature, hard_weight)
    loss.hybridize(hybridize)
    losses, _ = loss_and_gradient(loss, STUDENT, LABELS, TEACHER)
    assert losses.shape == (BATCH,)
    check_losses(losses, reference(STUDENT, TEACHER, LABELS, temperature, hard_weight), temperature)


@given(st.integers(0, 2 ** 32 - 1), st.floats(0.25, 50), st.floats(0, 1))
@settings(max_examples=25)
def test_loss_is_the_formula_for_any_logits(seed, temperature, hard_weight):
    rng = np.random.default_rng(seed)
    shape = rng.integers((1, 2), 9)
    student, teacher = rng.normal(scale=5, size=(2, *shape)).astype(np.float32)
    labels = rng.integers(0, shape[1], size=shape[0]).astype(np.float32)
    losses, _ = loss_and_gradient(DistillationLoss(temperature, hard_weight), student, labels, teacher)
    expected = reference(student, teacher, labels, temperature, hard_weight)
    check_losses(losses, expected, temperature)


@pytest.mark.parametrize(("temperature", "hard_weight"), SETTINGS)
def test_gradient_is_the_slope_of_the_formula(temperature, hard_weight):
    _, gradient = loss_and_gradient(DistillationLoss(temperature, hard_weight), STUDENT, LABELS, TEACHER)
    step, expected = 1e-6, np.zeros(STUDENT.shape)
    for index in np.ndindex(*STUDENT.shape):
        up, down = STUDENT.astype(np.float64), STUDENT.astype(np.float64)
        up[index] += step
        down[index] -= step
        expected[index] = (reference(up, TEACHER, LABELS, temperature, hard_weight)
                           - reference(down, TEACHER, LABELS, temperature, hard_weight)).sum() / (2 * step)
    np.testing.assert_allclose(gradient, expected, rtol=1e-3, atol=1e-5)


@pytest.mark.parametrize("kind", ["float16", "float32", "float64"])
def test_students_of_other_types_than_the_teacher_s(kind):
    """Of halves the loss is in float32: T**2 is beyond their range."""
    temperature, student = 300, STUDENT.astype(kind)
    logits, weights = mx.nd.array(student, dtype=kind), mx.nd.array(np.arange(BATCH))
    logits.attach_grad()
    with autograd.record():
        losses = DistillationLoss(temperature, 0.3)(logits, mx.nd.array(LABELS), mx.nd.array(TEACHER), weights)
    losses.backward()
    assert losses.dtype == np.dtype("float64" if kind == "float64" else "float32")
    expected = reference(student.astype(np.float64), TEACHER, LABELS, temperature, 0.3) * np.arange(BATCH)
    np.testing.assert_allclose(losses.asnumpy(), expected, rtol=1e-3, atol=1e-6 * temperature ** 2)
    _, gradient = loss_and_gradient(DistillationLoss(temperature, 0.3), STUDENT, LABELS, TEACHER, np.arange(BATCH))
    assert logits.grad.dtype == np.dtype(kind)
    np.testing.assert_allclose(logits.grad.asnumpy(), gradient, rtol=2e-3, atol=2e-3)


def test_gradient_is_about_as_large_at_every_high_temperature():
    """Section 2 of the paper: without T**2 it would shrink as 1 / T**2, by 100 from 10 to 100."""
    norms = [np.linalg.norm(loss_and_gradient(DistillationLoss(temperature, 0), STUDENT, LABELS, TEACHER)[1])
             for temperature in (10, 30, 100)]
    assert max(norms) / min(norms) < 1.5
    # its limit, equation 4 of the paper: (s - t) / classes for logits of mean zero
    centred = [logits - logits.mean(axis=1, keepdims=True) for logits in (STUDENT, TEACHER)]
    assert norms[-1] == pytest.approx(np.linalg.norm(centred[0] - centred[1]) / CLASSES, rel=0.05)


@pytest.mark.parametrize("temperature", [1, 4, 20])
def test_with_hard_weight_one_it_is_the_cross_entropy(temperature):
    ours = loss_and_gradient(DistillationLoss(temperature, 1), STUDENT, LABELS, TEACHER)
    gluons = loss_and_gradient(SoftmaxCrossEntropyLoss(), STUDENT, LABELS)
    np.testing.assert_allclose(ours[0], gluons[0], rtol=2e-5)  # Gluon's is oneDNN's, which rounds more
    np.testing.assert_allclose(ours[1], gluons[1], rtol=1e-5, atol=1e-7)


@pytest.mark.parametrize("temperature", [0.5, 1, 4, 20])
def test_a_student_like_its_teacher_has_no_soft_loss(temperature):
    losses, gradient = loss_and_gradient(DistillationLoss(temperature, 0), TEACHER, LABELS, TEACHER)
    np.testing.assert_array_equal(losses, 0)
    np.testing.assert_allclose(gradient, 0, atol=1e-5 * temperature)


@pytest.mark.parametrize(("temperature", "hard_weight"), SETTINGS)
def test_gradient_agrees_with_gluoncv(temperature, hard_weight):
    """gluoncv's loss is the mean over the classes, and lacks the teacher's entropy: the same gradient times them."""
    from gluoncv.loss import DistillationSoftmaxCrossEntropyLoss
    theirs = DistillationSoftmaxCrossEntropyLoss(temperature=temperature, hard_weight=hard_weight)
    probabilities = np.exp(log_softmax(TEACHER / temperature))
    # theirs: hard * CE + (1 - hard) * T**2 * CE(softmax(t / T), softmax(s / T)), in the arguments' order s, y, p
    _, expected = loss_and_gradient(theirs, STUDENT, LABELS, probabilities)
    _, gradient = loss_and_gradient(DistillationLoss(temperature, hard_weight), STUDENT, LABELS, TEACHER)
    np.testing.assert_allclose(gradient, expected, rtol=1e-3, atol=1e-5)


@pytest.mark.parametrize("shape", [(BATCH,), (BATCH, 1)])
@pytest.mark.parametrize("hybridize", [False, True])
def test_sample_weights_multiply(shape, hybridize):
    weights = np.float32([0, 1, 2, 0.5, 1, 3])
    loss = DistillationLoss()
    plain, gradient = loss_and_gradient(loss, STUDENT, LABELS, TEACHER)
    loss.hybridize(hybridize)
    weighted, weighted_gradient = loss_and_gradient(loss, STUDENT, LABELS, TEACHER, weights.reshape(shape))
    np.testing.assert_allclose(weighted, plain * weights, rtol=1e-5)
    np.testing.assert_allclose(weighted_gradient, gradient * weights[:, None], rtol=1e-4, atol=1e-6)


def test_labels_may_stand_in_a_column():
    loss = DistillationLoss()
    np.testing.assert_array_equal(loss_and_gradient(loss, STUDENT, LABELS[:, None], TEACHER)[0],
                                  loss_and_gradient(loss, STUDENT, LABELS, TEACHER)[0])


@pytest.mark.parametrize("size", [1e3, 1e6, 1e30])
def test_huge_logits_have_finite_losses_and_gradients(size):
    losses, gradient = loss_and_gradient(DistillationLoss(2, 0.5), STUDENT * np.float32(size), LABELS,
                                         TEACHER * np.float32(size))
    assert np.isfinite(losses).all()
    assert np.isfinite(gradient).all()


@pytest.mark.parametrize(("arguments", "error", "message"), [
    ({"temperature": 0}, ValueError, "temperature is 0; accepted: .*at least 1e-06"),
    ({"temperature": -1}, ValueError, "temperature is -1"),
    ({"temperature": float("inf")}, ValueError, "temperature is inf"),
    ({"temperature": "4"}, TypeError, "temperature is '4'"),
    ({"hard_weight": -0.1}, ValueError, "hard_weight is -0.1"),
    ({"hard_weight": 1.1}, ValueError, "hard_weight is 1.1; accepted: .*at least 0 and at most 1"),
    ({"hard_weight": None}, TypeError, "hard_weight is None"),
])
def test_bad_arguments(arguments, error, message):
    with pytest.raises(error, match=message):
        DistillationLoss(**arguments)
    net, _ = build(NormNet)
    before = values(net)
    with pytest.raises(error, match=message):
        distill(net, build(NormNet)[0], batches(1), 1, **arguments)
    assert identical(before, values(net))


@pytest.mark.parametrize("teacher", [TEACHER[:, 1:], TEACHER[1:], LABELS])
@pytest.mark.parametrize("hybridize", [False, True])
def test_logits_of_other_shapes_are_refused(teacher, hybridize):
    loss = DistillationLoss()
    loss.hybridize(hybridize)
    with pytest.raises(ValueError, match=r"student's logits have shape \(6, 5\), the teacher's"):
        loss(mx.nd.array(STUDENT), mx.nd.array(LABELS), mx.nd.array(teacher))


def smoothed(labels, smoothing):
    return (1 - smoothing) * labels + smoothing / labels.shape[1]


def mixture_reference(student, teachers, weights, labels, temperature, hard_weight, smoothing):
    """The formula in float64, with probabilities (batch, classes) as labels and softened probabilities averaged."""
    hard = -(smoothed(labels, smoothing) * log_softmax(student)).sum(axis=-1)
    p = sum(weight * np.exp(log_softmax(logits / temperature)) for weight, logits in zip(weights, teachers))
    log_q = log_softmax(student / temperature)
    soft = (np.where(p > 0, p * np.log(np.maximum(p, 1e-300)), 0) - p * log_q).sum(axis=-1)
    return hard_weight * hard + (1 - hard_weight) * temperature ** 2 * soft


@given(st.integers(0, 2 ** 32 - 1), st.floats(0.25, 50), st.floats(0, 1), st.floats(0, 0.99), st.integers(1, 4))
@settings(max_examples=25)
def test_smoothed_and_dense_labels_and_several_teachers(seed, temperature, hard_weight, smoothing, number):
    rng = np.random.default_rng(seed)
    batch, classes = rng.integers((1, 2), 9)
    student = rng.normal(scale=5, size=(batch, classes)).astype(np.float32)
    teachers = rng.normal(scale=5, size=(number, batch, classes)).astype(np.float32)
    weights = rng.uniform(0.1, 5, size=number)
    dense = rng.dirichlet(np.ones(classes), size=batch).astype(np.float32)
    sparse = rng.integers(0, classes, size=batch)
    for labels, as_dense in ((dense, dense), (sparse, np.eye(classes)[sparse])):
        loss = DistillationLoss(temperature, hard_weight, smoothing, sparse_label=labels is sparse,
                                teacher_weights=weights.tolist())
        losses = loss(mx.nd.array(student), mx.nd.array(labels), mx.nd.array(teachers)).asnumpy()
        expected = mixture_reference(student, teachers, weights / weights.sum(), as_dense, temperature, hard_weight,
                                     smoothing)
        check_losses(losses, expected, temperature)


def test_gradient_of_all_together_agrees_with_finite_differences():
    teachers = RNG.normal(scale=3, size=(3, BATCH, CLASSES)).astype(np.float32)
    labels = RNG.dirichlet(np.ones(CLASSES), size=BATCH).astype(np.float32)
    loss = DistillationLoss(3, 0.4, 0.2, sparse_label=False, teacher_weights=[1, 2, 5])
    _, gradient = loss_and_gradient(loss, STUDENT, labels, teachers)
    step, expected = 1e-6, np.zeros(STUDENT.shape)
    for index in np.ndindex(*STUDENT.shape):
        shifted = [STUDENT.astype(np.float64) for _ in range(2)]
        shifted[0][index] += step
        shifted[1][index] -= step
        up, down = (mixture_reference(student, teachers, np.array([1, 2, 5]) / 8, labels, 3, 0.4, 0.2).sum()
                    for student in shifted)
        expected[index] = (up - down) / (2 * step)
    np.testing.assert_allclose(gradient, expected, rtol=1e-3, atol=1e-5)


@pytest.mark.parametrize("hybridize", [False, True])
def test_teachers_as_a_list_and_stacked_are_the_same(hybridize):
    teachers = RNG.normal(scale=3, size=(3, BATCH, CLASSES)).astype(np.float32)
    results = []
    for given_as in (mx.nd.array(teachers), [mx.nd.array(logits) for logits in teachers]):
        loss = DistillationLoss(2, 0.3, 0.1)
        loss.hybridize(hybridize)
        results.append(loss(mx.nd.array(STUDENT), mx.nd.array(LABELS), given_as).asnumpy())
    np.testing.assert_array_equal(*results)
    check_losses(results[0], mixture_reference(STUDENT, teachers, np.ones(3) / 3, np.eye(CLASSES)[LABELS.astype(int)],
                                               2, 0.3, 0.1), 2)


def test_copies_of_one_teacher_teach_what_it_does():
    alone = loss_and_gradient(DistillationLoss(2, 0.3), STUDENT, LABELS, TEACHER)
    copies = loss_and_gradient(DistillationLoss(2, 0.3, teacher_weights=[3, 1]), STUDENT, LABELS,
                               np.stack([TEACHER, TEACHER]))
    np.testing.assert_allclose(copies[0], alone[0], rtol=1e-5, atol=1e-6)
    np.testing.assert_allclose(copies[1], alone[1], rtol=1e-4, atol=1e-6)


TORCH = json.loads((Path(__file__).parent / "data" / "torch_kl_div.json").read_text())
TORCH_ARRAYS = {name: np.float32(array) for name, array in TORCH["arrays"].items()}


@pytest.mark.parametrize("temperature", [float(temperature) for temperature in TORCH["kl_div"]])
def test_the_soft_loss_is_pytorch_s_kl_div_loss(temperature):
    losses, gradient = loss_and_gradient(DistillationLoss(temperature, 0), TORCH_ARRAYS["student"],
                                         TORCH_ARRAYS["labels"], TORCH_ARRAYS["teacher"])
    theirs = TORCH["kl_div"][str(temperature)]
    assert losses.mean() == pytest.approx(temperature ** 2 * theirs["value"], rel=1e-4)
    np.testing.assert_allclose(gradient / len(losses), temperature ** 2 * np.array(theirs["gradient"]), rtol=1e-3,
                               atol=1e-5)


@pytest.mark.parametrize("case", sorted(TORCH["cross_entropy"]))
def test_the_label_loss_is_pytorch_s_cross_entropy(case):
    labels, smoothing = case.split()
    loss = DistillationLoss(3, 1, float(smoothing), sparse_label=labels == "labels")
    losses, gradient = loss_and_gradient(loss, TORCH_ARRAYS["student"], TORCH_ARRAYS[labels], TORCH_ARRAYS["teacher"])
    theirs = TORCH["cross_entropy"][case]
    assert losses.mean() == pytest.approx(theirs["value"], rel=1e-4)
    np.testing.assert_allclose(gradient / len(losses), theirs["gradient"], rtol=1e-3, atol=1e-6)


@pytest.mark.parametrize("temperature", [1e-6, 1e-3, 1])
@pytest.mark.parametrize("size", [1, 1e20, 1e37])
def test_logits_that_overflow_at_a_small_temperature_have_finite_losses(temperature, size):
    """1e37 / 1e-6 is infinite in float32, and infinity - infinity is NaN."""
    scaled = [logits / np.abs(logits).max() * np.float32(size) for logits in (STUDENT, TEACHER)]
    losses, gradient = loss_and_gradient(DistillationLoss(temperature, 0.5), scaled[0], LABELS, scaled[1])
    assert np.isfinite(losses).all()
    assert np.isfinite(gradient).all()
    # the limit T -> 0: T**2 * KL(.. / T) is T times what the student's own first class leads the teacher's by
    rows = np.arange(BATCH)
    lead = scaled[0].max(axis=1) - scaled[0][rows, scaled[1].argmax(axis=1)]
    hard = -log_softmax(scaled[0])[rows, LABELS.astype(int)]
    if size > 1 and size / temperature < 1e30:
        np.testing.assert_allclose(losses, 0.5 * hard + 0.5 * temperature * lead.astype(np.float64), rtol=1e-4)


@pytest.mark.parametrize(("arguments", "error", "message"), [
    ({"temperature": 1e-7}, ValueError, "temperature is 1e-07; accepted: .*at least 1e-06"),
    ({"temperature": 1e4}, ValueError, "temperature is 10000.*at most 1000"),
    ({"label_smoothing": 1}, ValueError, "label_smoothing is 1; accepted: .*at least 0 and less than 1"),
    ({"label_smoothing": -0.1}, ValueError, "label_smoothing is -0.1"),
    ({"sparse_label": 1}, TypeError, "sparse_label is 1; accepted: True or False"),
    ({"teacher_weights": 0.5}, TypeError, "teacher_weights is 0.5; accepted: a list"),
    ({"teacher_weights": []}, TypeError, r"teacher_weights is \[\]"),
    ({"teacher_weights": [1, 0]}, ValueError, r"teacher_weights\[1\] is 0; accepted: .*more than 0"),
    ({"teacher_weights": [1, None]}, TypeError, r"teacher_weights\[1\] is None"),
])
def test_bad_settings_of_the_loss(arguments, error, message):
    with pytest.raises(error, match=message):
        DistillationLoss(**arguments)


@pytest.mark.parametrize(("labels", "sparse", "message"), [
    ([0, 1, 2, 3, 4, 5], True, "a label is 5.0; accepted: integers from 0 to 4"),
    ([0, 1, 2, 3, 4, -1], True, "a label is -1.0"),
    ([0, 1, 2, 3, 4, 0.5], True, "a label is 0.5"),
    ([0, 1, 2, 3, 4, np.nan], True, "a label is nan"),
    ([0, 1], True, r"labels have shape \(2,\) for logits \(6, 5\)"),
    (np.full((BATCH, CLASSES), 0.2), True, r"labels have shape \(6, 5\) .* with sparse_label=False"),
    (LABELS, False, r"labels have shape \(6,\) .*sparse_label=False; accepted: probabilities \(6, 5\)"),
    (np.full((BATCH, CLASSES), 0.3), False, "the labels of a sample are .*; accepted: probabilities"),
    (np.tile([1.5, -0.5, 0, 0, 0], (BATCH, 1)), False, "the labels of a sample are"),
])
def test_labels_that_are_none_are_refused(labels, sparse, message):
    with pytest.raises(ValueError, match=message):
        DistillationLoss(sparse_label=sparse)(mx.nd.array(STUDENT), mx.nd.array(labels), mx.nd.array(TEACHER))


def test_logits_of_teachers_that_do_not_fit_are_refused():
    student, labels, good = (mx.nd.array(array) for array in (STUDENT, LABELS, TEACHER))
    with pytest.raises(ValueError, match=r"student's logits have shape \(6, 5\), those of teacher\[1\] \(6, 4\)"):
        DistillationLoss()(student, labels, [good, good[:, 1:]])
    with pytest.raises(ValueError, match=r"2 teacher_weights for the logits of 1 teacher"):
        DistillationLoss(teacher_weights=[1, 2])(student, labels, good)
    with pytest.raises(ValueError, match="teachers' logits is empty"):
        DistillationLoss()(student, labels, [])
    with pytest.raises(ValueError, match=r"student's logits have shape \(6, 5, 1\); accepted"):
        DistillationLoss()(student.expand_dims(2), labels, good)


def batches(number, seed=0):
    """Images (16, 3, 8, 8) whose class is the third of the rows that is the brightest."""
    rng = np.random.default_rng(seed)
    made = []
    for _ in range(number):
        labels = rng.integers(0, 3, size=16)
        images = rng.normal(scale=0.7, size=(16, 3, 8, 8))
        for image, label in zip(images, labels):
            image[:, 2 * label:2 * label + 3] += 0.6
        made.append((mx.nd.array(images), mx.nd.array(labels)))
    return made


def test_the_teacher_stays_as_it_was_bit_by_bit():
    teacher, _ = build(NormNet)
    student, _ = build(NormNet, seed=1)
    for parameter in teacher.collect_params().values():
        if parameter.grad_req != "null":
            parameter.zero_grad()
    before, student_before = values(teacher), values(student)
    distill(student, teacher, batches(3), 2, progress=False)
    assert identical(before, values(teacher))  # with BatchNorm's running statistics
    for name, parameter in teacher.collect_params().items():
        assert parameter.grad_req == "null" or not parameter.grad().asnumpy().any(), name
    after = values(student)
    assert all(not np.array_equal(after[name], student_before[name]) for name in after if "running" in name)


class Watched(HybridBlock):
    """Notes the modes in which it is called; training mode would give other logits."""

    def __init__(self, **kwargs):
        super().__init__(**kwargs)
        self.modes = []
        with self.name_scope():
            self.body = NormNet()

    def forward(self, x):
        self.modes.append((autograd.is_recording(), autograd.is_training()))
        return self.body(x)


def test_the_teacher_runs_in_inference_mode_and_the_student_in_training_mode():
    teacher, student = Watched(), Watched()
    teacher.initialize()
    student.initialize()
    teacher(batches(1)[0][0])
    teacher.modes.clear()
    with autograd.train_mode():  # even here
        distill(student, teacher, batches(2), 1, progress=False)
    assert teacher.modes == [(False, False)] * 3  # traced for its digest, and run on each batch
    assert student.modes == [(True, True)] * 2


def test_the_student_is_given_the_teacher_s_inference_logits():
    """A distillation by hand, with Dropout and BatchNorm in the teacher, ends in the same student."""
    teacher, _ = build(NormNet)
    data = batches(3)
    results = []
    for by_hand in (True, False):
        student, _ = build(NormNet, seed=1)
        student.features[12]._rate = 0
        trainer = Trainer(student.collect_params(), "sgd", {"learning_rate": 0.05})
        if by_hand:
            targets = [teacher(images) for images, _ in data]
            loss = DistillationLoss(3, 0.2)
            for (images, labels), logits in zip(data, targets):
                with autograd.record():
                    losses = loss(student(images), labels, logits)
                losses.backward()
                trainer.step(len(images))
        else:
            distill(student, teacher, data, 1, 3, 0.2, trainer=trainer, schedule=lambda share: 1, progress=False)
        results.append(values(student))
    assert identical(*results)


def small_net():
    net = nn.HybridSequential()
    net.add(nn.Dense(12, activation="relu"), nn.Dense(3))
    return net


def agreement(student, teacher, data):
    """Mean Kullback-Leibler divergence of the student's probabilities from the teacher's."""
    total = []
    for images, _ in data:
        log_p, log_q = (log_softmax(net(images).asnumpy()) for net in (teacher, student))
        total.append((np.exp(log_p) * (log_p - log_q)).sum(axis=1).mean())
    return np.mean(total)


def test_a_distilled_student_learns_and_is_closer_to_its_teacher():
    train, test = batches(12), batches(6, seed=1)
    teacher, _ = build(NormNet, classes=3)
    fit(teacher, train, 6, progress=False)
    students = []
    for method in (distill, fit):
        mx.random.seed(3)
        student = fresh(small_net)
        student(train[0][0])
        arguments = (teacher, train) if method is distill else (train,)
        trainer = Trainer(student.collect_params(), "adam", {"learning_rate": 0.005})
        history = method(student, *arguments, 6, trainer=trainer, progress=False)
        assert history.epochs[-1]["accuracy"] > 0.8
        assert history.epochs[-1]["loss"] < history.epochs[0]["loss"]
        students.append(student)
    distilled, alone = (agreement(student, teacher, test) for student in students)
    assert distilled < 0.8 * alone


@pytest.mark.parametrize("bad", [np.nan, np.inf])
def test_a_teacher_with_bad_logits_is_refused_and_the_student_restored(bad):
    teacher, _ = build(NormNet)
    teacher.output.bias.data()[2] = bad
    student, _ = build(NormNet, seed=1)
    before = values(student)
    with pytest.raises(NetworkError, match="the teacher: parameter output.bias has values that are NaN or infinite"):
        distill(student, teacher, batches(2), 1, progress=False)
    assert identical(before, values(student))


@pytest.mark.parametrize("name", ["loss", "targets"])
def test_loss_and_targets_are_its_own(name):
    with pytest.raises(TypeError, match=f"distill sets {name} itself: use temperature and hard_weight"):
        distill(build(NormNet)[0], build(NormNet, seed=1)[0], batches(1), 1, **{name: None})


def test_a_teacher_that_shares_a_parameter_is_refused():
    teacher = nn.HybridSequential()
    teacher.add(nn.Dense(4, in_units=6), nn.Dense(3, in_units=4))
    student = nn.HybridSequential()
    student.add(nn.Dense(4, in_units=6), nn.Dense(3, in_units=4, params=teacher[1].params))
    teacher.initialize()
    student.initialize()
    before = values(teacher)
    with pytest.raises(ValueError, match="student and teacher share the parameter 1.weight"):
        distill(student, teacher, [(mx.nd.ones((2, 6)), mx.nd.zeros(2))], 1, progress=False)
    assert identical(before, values(teacher))


@pytest.mark.parametrize("output", [lambda F, x: (x, x), lambda F, x: x.reshape((0, 0, 1))])
def test_a_teacher_without_logits_is_refused(output):
    teacher = nn.HybridSequential()
    teacher.add(nn.Dense(3, in_units=6), nn.HybridLambda(output))
    student = fresh(small_net)
    teacher.initialize()
    with pytest.raises(ValueError, match=r"teacher's output is .*; accepted: logits \(batch, classes\)"):
        distill(student, teacher, [(mx.nd.ones((2, 6)), mx.nd.zeros(2))], 1, progress=False)


def test_a_state_with_another_temperature_is_refused(tmp_path):
    for temperature in (4, 4.0):  # the same run
        distill(build(NormNet)[0], build(NormNet, seed=1)[0], batches(1), 1, temperature, progress=False,
                state_path=tmp_path / "state")
    with pytest.raises(CheckpointError, match="run_details.temperature is 4.0 there, 5.0 here"):
        distill(build(NormNet)[0], build(NormNet, seed=1)[0], batches(1), 1, 5, progress=False,
                state_path=tmp_path / "state")


def test_teachers_that_cannot_teach():
    student, _ = build(NormNet)
    before = values(student)
    with pytest.raises(ValueError, match="student and teacher are the same network"):
        distill(student, student, batches(1), 1)
    with pytest.raises(TypeError, match="net is a function"):
        distill(student, lambda x: x, batches(1), 1)
    with pytest.raises(NetworkError, match="not initialized"):
        distill(student, NormNet(), batches(1), 1)
    with pytest.raises(ValueError, match=r"student's logits have shape \(16, 5\), the teacher's \(16, 7\)"):
        distill(student, build(NormNet, classes=7)[0], batches(1), 1, progress=False)
    with pytest.raises(ValueError, match="no batches"):
        distill(student, build(NormNet)[0], [], 1, progress=False)
    assert identical(before, values(student))


def test_several_teachers_teach_the_mean_of_their_softened_probabilities():
    """A distillation by hand, with NumPy's mean as a single teacher's logits."""
    data, teachers = batches(3), [build(NormNet, seed=seed)[0] for seed in (0, 1)]
    results = []
    for by_hand in (True, False):
        student, _ = build(NormNet, seed=2)
        student.features[12]._rate = 0
        trainer = Trainer(student.collect_params(), "sgd", {"learning_rate": 0.05})
        if by_hand:
            loss = DistillationLoss(3, 0.2)
            for images, labels in data:
                first, second = (np.exp(log_softmax(teacher(images).asnumpy() / 3)) for teacher in teachers)
                logits = mx.nd.array(3 * np.log(0.25 * first + 0.75 * second))
                with autograd.record():
                    losses = loss(student(images), labels, logits)
                losses.backward()
                trainer.step(len(images))
        else:
            distill(student, teachers, data, 1, 3, 0.2, teacher_weights=[1, 3], trainer=trainer,
                    schedule=lambda share: 1, progress=False)
        results.append(values(student))
    for name, value in results[0].items():
        np.testing.assert_allclose(results[1][name], value, rtol=1e-3, atol=1e-5, err_msg=name)


def test_teachers_of_a_list_that_cannot_teach_are_named():
    good, data = build(NormNet)[0], batches(1)
    student = build(NormNet, seed=1)[0]
    before = values(student)
    cases = [([good, lambda x: x], TypeError, r"teacher\[1\]: net is a function"),
             ([NormNet(), good], NetworkError, r"teacher\[0\]: parameter .* is not initialized"),
             ([good, fresh(NormNet)], NetworkError, r"teacher\[1\]: parameter .* has no data yet"),
             ([good, build(NormNet, classes=7)[0]], ValueError, r"those of teacher\[1\] \(16, 7\)"),
             ([good, student], ValueError, r"student and teacher\[1\] are the same network"),
             ([], ValueError, "teacher is an empty list")]
    for teachers, error, message in cases:
        with pytest.raises(error, match=message):
            distill(student, teachers, data, 1, progress=False)
    with pytest.raises(ValueError, match=r"2 teacher_weights for 1 teacher"):
        distill(student, good, data, 1, teacher_weights=[1, 1], progress=False)
    broken = build(NormNet)[0]
    broken.output.bias.data()[2] = np.nan
    with pytest.raises(NetworkError, match=r"teacher\[1\]: parameter output.bias has values that are NaN"):
        distill(student, [good, broken], data, 1, progress=False)
    assert identical(before, values(student))


def modes(net):
    """Of each block in the network whether and how it is hybridized."""
    return [(block._active, block._flags) for block in every_block(net)]


def every_block(net):
    return [net, *(inner for child in net._children.values() for inner in every_block(child))]


class Noted(NormNet):
    """Notes whether it is hybridized when it is called."""

    def forward(self, x):
        if isinstance(x, mx.nd.NDArray):
            self.noted = self._active and self.features._active
        return super().forward(x)


@pytest.mark.parametrize("fails", [False, True])
def test_the_teacher_is_hybridized_meanwhile_and_left_as_it_was(fails):
    teacher, example = build(Noted, (4, 3, 8, 8))
    teacher.features[4].hybridize(static_alloc=True)
    before, logits = modes(teacher), teacher(example).asnumpy()
    assert not teacher.noted
    student, data = build(NormNet, seed=1)[0], batches(2)
    if fails:
        with pytest.raises(ValueError, match="a label is 9"):
            distill(student, teacher, [(data[0][0], mx.nd.full(16, 9))], 1, progress=False)
    else:
        distill(student, teacher, data, 1, progress=False)
    assert teacher.noted
    assert modes(teacher) == before
    np.testing.assert_array_equal(teacher(example).asnumpy(), logits)
    assert not teacher.noted


def test_a_hybridized_teacher_stays_hybridized():
    teacher, _ = build(NormNet)
    teacher.hybridize(static_alloc=True, static_shape=True)
    before = modes(teacher)
    distill(build(NormNet, seed=1)[0], teacher, batches(1), 1, progress=False)
    assert modes(teacher) == before


def test_an_int8_teacher():
    """Its student is that of a distillation from the int8 network's logits by hand."""
    net, _ = build(NormNet)
    data = batches(2)
    teacher = quantize(net, data, progress=False)
    logits = iter([teacher(images).copy() for images, _ in data])
    by_hand, student = (build(NormNet, seed=1)[0] for _ in range(2))
    fit(by_hand, data, 1, loss=DistillationLoss(), targets=lambda inputs, labels: (labels, next(logits)),
        progress=False)
    distill(student, teacher, data, 1, progress=False)
    assert identical(values(by_hand), values(student))


def test_label_smoothing_reaches_the_loss():
    students = []
    for method in ("distill", "fit"):
        student = build(NormNet, seed=1)[0]
        if method == "distill":
            distill(student, build(NormNet)[0], batches(2), 1, hard_weight=1, label_smoothing=0.2, progress=False)
        else:
            def smoothed_labels(inputs, labels):
                return (smoothed(mx.nd.one_hot(labels, 5), 0.2),)
            fit(student, batches(2), 1, loss=SoftmaxCrossEntropyLoss(sparse_label=False), targets=smoothed_labels,
                progress=False)
        students.append(values(student))
    for name, value in students[0].items():
        np.testing.assert_allclose(students[1][name], value, rtol=1e-4, atol=1e-6, err_msg=name)


def test_a_teacher_that_cannot_be_traced_is_named():
    class Teacher(HybridBlock):
        def forward(self, x):
            return mx.nd.array(x.asnumpy().reshape(len(x), -1)[:, :CLASSES])
    with pytest.raises(NetworkError, match=r"teacher\[1\]: the network cannot be traced"):
        distill(build(NormNet)[0], [build(NormNet, seed=1)[0], Teacher()], batches(1), 1, progress=False)


@pytest.mark.parametrize("labels, weight, error, message", [
    (LABELS, None, TypeError, r"labels is an ndarray of shape \(.*\); accepted: an NDArray"),
    ([0] * BATCH, None, TypeError, r"labels is \[0, 0"),
    (mx.nd.array(LABELS), [1.0] * BATCH, TypeError, r"sample_weight is \[1.0, 1.0"),
    (mx.nd.array(LABELS), np.ones(BATCH), TypeError, r"sample_weight is an ndarray of shape .*; accepted: an NDArray"),
    (mx.nd.array(LABELS), mx.nd.ones(1), ValueError, r"sample_weight has shape \(1,\) for a batch of 6"),
    (mx.nd.array(LABELS), mx.nd.ones((BATCH, CLASSES)), ValueError, r"sample_weight has shape \(6, 5\)")])
def test_labels_and_weights_that_do_not_fit(labels, weight, error, message):
    with pytest.raises(error, match=message):
        DistillationLoss()(mx.nd.array(STUDENT), labels, mx.nd.array(TEACHER), weight)


@pytest.mark.parametrize("student, teacher", [(STUDENT, mx.nd.array(TEACHER)), (mx.nd.array(STUDENT), TEACHER)])
def test_logits_that_are_no_ndarrays(student, teacher):
    with pytest.raises(TypeError, match=r"logits are an ndarray of shape \(.*\); accepted: NDArrays"):
        DistillationLoss()(student, mx.nd.array(LABELS), teacher)


def test_a_student_that_overflows_is_noticed():
    student, teacher = build(NormNet)[0], build(NormNet, seed=1)[0]
    student.output.bias.set_data(mx.nd.array([-3e38, 0, 0, 0, 3e38]))
    before = values(student)
    with pytest.raises(NetworkError, match="the loss is inf at epoch 1/2, batch 1"):
        distill(student, teacher, batches(2), 2, progress=False)
    assert identical(before, values(student))


def test_data_smaller_than_a_batch():
    """A DataLoader that discards the rest has no batch at all."""
    images, labels = batches(1)[0]
    loader = DataLoader(ArrayDataset(images, labels), 32, last_batch="discard")
    with pytest.raises(ValueError, match="train_data has no batches"):
        distill(build(NormNet)[0], build(NormNet, seed=1)[0], loader, 1, progress=False)


def test_a_run_goes_on_with_the_same_teachers_and_settings_only(tmp_path):
    arguments = {"progress": False, "state_path": tmp_path / "state"}
    distill(build(NormNet)[0], build(NormNet, seed=1)[0], batches(1), 1, **arguments)
    distill(build(NormNet)[0], build(NormNet, seed=1)[0], batches(1), 1, **arguments)
    with pytest.raises(CheckpointError, match="another run"):
        distill(build(NormNet)[0], build(NormNet, seed=2)[0], batches(1), 1, **arguments)
    with pytest.raises(CheckpointError, match="of another run: run_details.label_smoothing is 0.0 there, 0.1 here;"):
        distill(build(NormNet)[0], build(NormNet, seed=1)[0], batches(1), 1, label_smoothing=0.1, **arguments)
    with pytest.raises(CheckpointError, match="another run"):
        distill(build(NormNet)[0], [build(NormNet, seed=seed)[0] for seed in (1, 2)], batches(1), 1, **arguments)


# A distillation that is killed with SIGKILL in its third epoch.
KILLED = """
import os, signal, sys
sys.path.insert(0, sys.argv[1])
import test_distillation as t
t.train_for_resume(sys.argv[2], sys.argv[3], lambda: os.kill(os.getpid(), signal.SIGKILL))
"""


def train_for_resume(way, directory, happens=None):
    """Three epochs of three batches; ``happens`` is called in the second or third."""
    teacher = build(NormNet)[0]
    student = build(NormNet, seed=1)[0]
    further = {}
    if way == "cache":
        further["cache"] = Path(directory, "logits")
    elif way == "features of an int8 teacher":
        teacher = quantize(teacher, batches(2), progress=False)
        further["features"] = [FeatureLoss("features.4", "features.0", "hint")]  # with an adapter
    elif way == "a pruned copy":
        student = build(NormNet)[0]
        prune_channels(student, batches(1)[0][0], 0.5, round_to=1)
    elif way == "QAT":
        student = prepare_qat(student, batches(2), progress=False)
    trainer = Trainer(student.collect_params(), "adam", {"learning_rate": 0.01})
    distill(student, teacher, Happening(batches(3), happens), 3, trainer=trainer, seed=4, progress=False,
            state_path=Path(directory, "state"), validation_data=batches(1), **further)
    return values(student)


class Happening:
    """Batches, and something that happens before the ninth."""

    def __init__(self, data, happens):
        self.data, self.happens, self.position = data, happens, 0

    def __len__(self):
        return len(self.data)

    def __iter__(self):
        for batch in self.data:
            self.position += 1
            if self.happens is not None and self.position == 9:
                self.happens()
            yield batch


@pytest.mark.parametrize("way", ["cache", "features of an int8 teacher", "a pruned copy", "QAT"])
def test_a_run_that_ended_between_two_batches_ends_with_the_same_bits(way, tmp_path, start_python):
    """By SIGKILL in one way: between two writes it leaves what an interrupt leaves, and takes a process."""
    for name in ("whole", "ended"):
        (tmp_path / name).mkdir()
    whole = train_for_resume(way, tmp_path / "whole")
    if way == "cache":
        killed = start_python(KILLED, os.path.dirname(__file__), way, tmp_path / "ended")
        _, errors = killed.communicate(timeout=300)
        assert killed.returncode == -signal.SIGKILL, errors
    else:
        with pytest.raises(KeyboardInterrupt):
            train_for_resume(way, tmp_path / "ended", interrupt)
    assert (tmp_path / "ended" / "state").exists()
    assert identical(train_for_resume(way, tmp_path / "ended"), whole)


def interrupt():
    raise KeyboardInterrupt


def test_settings_too_small_for_mxnet_count_as_zero():
    """MXNet's operators refuse numbers that are subnormal in float64."""
    arrays = mx.nd.array([[1.0, 2.0]]), mx.nd.array([1.0]), mx.nd.array([[3.0, 1.0]])
    for name in ("hard_weight", "label_smoothing"):
        tiny, zero = (DistillationLoss(**{name: value})(*arrays).asscalar() for value in (1e-310, 0.0))
        assert tiny == zero
