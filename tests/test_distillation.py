"""The distillation loss against NumPy, finite differences and gluoncv; the loop with a teacher that stays as it was."""
import gluon_compress  # noqa: F401

import mxnet as mx  # noqa: I001
import numpy as np
import pytest
from gluon_compress.distillation import DistillationLoss, distill
from gluon_compress.errors import CheckpointError, NetworkError
from gluon_compress.training import fit
from hypothesis import given, settings
from hypothesis import strategies as st
from mxnet import autograd
from mxnet.gluon import HybridBlock, Trainer, nn
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
    shape = rng.integers(1, 9, size=2)
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
    np.testing.assert_allclose(ours[0], gluons[0], rtol=1e-6)
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
    ({"temperature": 0}, ValueError, "temperature is 0; accepted: .*more than 0"),
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
    assert teacher.modes == [(False, False)] * 2
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
    with pytest.raises(NetworkError, match="teacher's logits are NaN or infinite"):
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
    with pytest.raises(CheckpointError, match="'temperature': 4.0.* there, .*'temperature': 5.0.* here"):
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
