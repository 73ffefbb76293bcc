"""Checks of lab 3: distil, and put together."""
import gluon_compress  # before mxnet  # noqa: F401
import mxnet as mx
import numpy as np
from mxnet.gluon import nn

from checking import Wrong, as_array, close, task

LOGITS = np.array([[2.0, 0.0, -1.0], [1000.0, 990.0, 0.0]])


def softmax(logits):
    exponentials = np.exp(logits - logits.max(axis=1, keepdims=True))
    return exponentials / exponentials.sum(axis=1, keepdims=True)


@task("3.1")
def check_softened(softened):
    with np.errstate(all="ignore"):
        first = as_array(softened(LOGITS[:1].copy(), 4.0), (1, 3), "probabilities")
        large = softened(LOGITS.copy(), 4.0)
    for name, other in {"softened_multiplied": softmax(LOGITS[:1] * 4), "softened_not": softmax(LOGITS[:1]),
                        "softened_probabilities": softmax(LOGITS[:1]) / 4, "softened_axis": np.ones((1, 3))}.items():
        if close(first, other):
            raise Wrong(name)
    if not close(first, softmax(LOGITS[:1] / 4)):
        raise Wrong("softened_other", total=f"{first.sum():.3f}", found=f"{first[0, 0]:.3f}",
                    expected=f"{softmax(LOGITS[:1] / 4)[0, 0]:.3f}")
    if not np.isfinite(np.asarray(large, np.float64)).all():
        raise Wrong("softened_overflow")
    if not close(large, softmax(LOGITS / 4)):
        raise Wrong("softened_rows")


def loss_example():
    rng = np.random.RandomState(0)
    return 3 * rng.normal(size=(6, 5)), rng.randint(0, 5, 6), 3 * rng.normal(size=(6, 5))


def formula(student, labels, teacher, temperature, share, squared=True, turned=False):
    """The loss in NumPy, and its typical mistakes."""
    p, q = softmax(teacher / temperature), softmax(student / temperature)
    p, q = (q, p) if turned else (p, q)
    hard = -np.log(softmax(student)[np.arange(len(labels)), labels])
    return share * hard + (1 - share) * (temperature ** 2 if squared else 1) * np.sum(p * np.log(p / q), axis=1)


@task("3.2")
def check_distillation_loss(distillation_loss):
    student, labels, teacher = loss_example()
    arguments = 4.0, 0.25
    logits = mx.nd.array(student)
    logits.attach_grad()
    with mx.autograd.record():
        result = distillation_loss(logits, mx.nd.array(labels), mx.nd.array(teacher), *arguments)
        if not isinstance(result, mx.nd.NDArray):
            raise Wrong("nothing" if result is None or result is ... else "loss_no_ndarray", kind=type(result).__name__)
    if result.shape in ((1,), ()):
        raise Wrong("loss_mean", batch=len(labels))
    found, expected = as_array(result, (6,), "loss"), formula(student, labels, teacher, *arguments)
    if close(found, expected, 1e-4):
        result.backward()
        if not logits.grad.asnumpy().any():
            raise Wrong("loss_no_gradient")
        return
    hard = formula(student, labels, teacher, 4.0, 1.0)
    p, q = softmax(teacher / 4), softmax(student / 4)
    sharp = np.sum(softmax(teacher) * np.log(softmax(teacher) / q), axis=1)
    others = {"loss_no_square": formula(student, labels, teacher, *arguments, squared=False),
              "loss_turned": formula(student, labels, teacher, *arguments, turned=True),
              "loss_over_classes": 0.25 * hard + 0.75 * 16 * np.sum(p * np.log(p / q), axis=1) / 5,
              "loss_shares": formula(student, labels, teacher, 4.0, 0.75),
              "loss_teacher_sharp": 0.25 * hard + 0.75 * 16 * sharp,
              "loss_entropy": 0.25 * hard - 0.75 * 16 * np.sum(p * np.log(q), axis=1)}
    for name, other in others.items():
        if close(found, other, 1e-4):
            raise Wrong(name)
    raise Wrong("loss_other", found=f"{found[0]:.3f}", expected=f"{expected[0]:.3f}")


@task("3.3")
def check_soft_gradient(soft_gradient):
    student, _, teacher = loss_example()
    for temperature in (1.0, 5.0):
        found = as_array(soft_gradient(student.copy(), teacher.copy(), temperature), (6, 5), "gradient")
        p, q = softmax(teacher / temperature), softmax(student / temperature)
        if close(found, (q - p) / temperature):
            continue
        for name, other in {"gradient_sign": (p - q) / temperature, "gradient_no_chain": q - p,
                            "gradient_squared": (q - p) / temperature ** 2,
                            "gradient_with_square": (q - p) * temperature}.items():
            if close(found, other):
                raise Wrong(name, temperature=f"{temperature:g}")
        raise Wrong("gradient_other", found=f"{found[0, 0]:.4f}", expected=f"{(q - p)[0, 0] / temperature:.4f}")


def pair(seed=0):
    """A student and a teacher with BatchNorm, three batches, and the student's trainer."""
    rng = np.random.RandomState(seed)
    networks = []
    for _ in range(2):
        net = nn.HybridSequential()
        net.add(nn.Dense(6, in_units=4), nn.BatchNorm(in_channels=6), nn.Dense(3, in_units=6))
        net.initialize()
        for parameter in net.collect_params().values():
            if parameter.name.endswith("weight"):
                parameter.set_data(mx.nd.array(rng.normal(size=parameter.shape)))
        networks.append(net)
    batches = [(mx.nd.array(rng.normal(size=(8, 4))), mx.nd.array(rng.randint(0, 3, 8))) for _ in range(3)]
    return *networks, batches, mx.gluon.Trainer(networks[0].collect_params(), "sgd", {"learning_rate": 0.05})


def soft_cross_entropy(student, labels, teacher):
    """A loss for the checks: any will do."""
    return -(mx.nd.softmax(teacher) * mx.nd.log_softmax(student)).sum(axis=1)


def values(net):
    mx.nd.waitall()  # a pass that still runs may be laying weights out anew; asnumpy fails in the middle of that
    return [parameter.data().asnumpy() for parameter in net.collect_params().values()]


def weights(net):
    """What a trainer trains: without the running statistics."""
    mx.nd.waitall()
    return [parameter.data().asnumpy() for parameter in net.collect_params().values() if parameter.grad_req != "null"]


def trained_by_hand(teacher_trains=False, size=None):
    """The weights of the student after one epoch."""
    student, teacher, batches, trainer = pair()
    for images, labels in batches:
        with mx.autograd.train_mode() if teacher_trains else mx.autograd.predict_mode():
            targets = teacher(images)
        with mx.autograd.record():
            losses = soft_cross_entropy(student(images), labels, targets)
        losses.backward()
        trainer.step(size or len(images))
    return weights(student)


@task("3.5")
def check_distil_epoch(distil_epoch):
    student, teacher, batches, trainer = pair()
    before, of_teacher = weights(student), values(teacher)
    distil_epoch(student, teacher, batches, trainer, soft_cross_entropy)
    if not all(np.array_equal(*both) for both in zip(of_teacher, values(teacher))):
        raise Wrong("epoch_teacher_trains")
    found = weights(student)
    if all(np.array_equal(*both) for both in zip(before, found)):
        raise Wrong("epoch_no_step")
    for name, expected in ((None, trained_by_hand()), ("epoch_batch_size", trained_by_hand(size=1)),
                           ("epoch_teacher_mode", trained_by_hand(teacher_trains=True))):
        if all(close(*both, 1e-4) for both in zip(found, expected)):
            if name:
                raise Wrong(name, batch=8)
            return
    raise Wrong("epoch_other", batches=len(batches))


@task("3.7")
def check_estimated_bytes(estimated_bytes):
    for weights_, kept, bits, expected in ((8000, 4000, 8, 5000), (8000, 8000, 8, 8000), (1000, 500, 3, 313)):
        found = float(as_array(estimated_bytes(weights_, kept, bits), (), "bytes"))
        if expected - 1 <= found <= expected + 1:
            continue
        mask = 0 if kept == weights_ else weights_ / 8
        others = {"bytes_bits": weights_ * (kept < weights_) + kept * bits, "bytes_no_mask": kept * bits / 8,
                  "bytes_all": weights_ * bits / 8 + mask, "bytes_needless_mask": weights_ / 8 + kept * bits / 8,
                  "bytes_mask_bytes": weights_ + kept * bits / 8}
        for name, other in others.items():
            if abs(found - other) <= 1:
                raise Wrong(name, found=f"{found:,.0f}", expected=f"{expected:,}", weights=weights_, kept=kept,
                            bits=bits)
        raise Wrong("bytes_other", found=f"{found:,.0f}", expected=f"{expected:,}", weights=weights_, kept=kept,
                    bits=bits)


def two_models():
    """A teacher and a student, both of which can train, and images."""
    models, rng = [nn.Dense(5, in_units=3), nn.Dense(5, in_units=3)], np.random.RandomState(7)
    for model in models:
        model.initialize()
        model.weight.set_data(mx.nd.array(rng.normal(size=(5, 3))))
    return *models, mx.nd.array(rng.normal(size=(4, 3)))


@task("3.10")
def check_knowledge_distillation(knowledge_distillation):
    large, small, images = two_models()
    try:
        result = knowledge_distillation(large, small, images, 3.0)
    except mx.MXNetError as error:
        if "not in a computational graph" not in str(error):
            raise
        raise Wrong("repair_outside") from error
    found, kl = as_array(result, (4,), "loss"), divergences(large(images).asnumpy(), small(images).asnumpy(), 3.0)
    if not close(found, 9 * kl["right"]):
        for name, factor, other in (
                ("repair_square", 1, "right"), ("repair_mean", 9 / 5, "right"), ("repair_mean", 1 / 5, "right"),
                ("repair_temperature", 9, "not softened"), ("repair_temperature", 1, "not softened"),
                ("repair_swapped", 9, "swapped"), ("repair_swapped", 1, "swapped"),
                ("repair_logarithms", 9, "no logarithms"), ("repair_logarithms", 9 / 5, "no logarithms"),
                ("repair_logarithms", 1, "no logarithms"), ("repair_logarithms", 1 / 5, "no logarithms")):
            if close(found, factor * kl[other], 1e-4):
                raise Wrong(name)
        raise Wrong("repair_loss", found=f"{found[0]:.4f}", expected=f"{9 * kl['right'][0]:.4f}")
    if large.weight.grad().asnumpy().any():
        raise Wrong("repair_teacher")
    if not close(small.weight.grad().asnumpy(), student_gradient(large, small, images, 3.0), 1e-4):
        raise Wrong("repair_gradient" if small.weight.grad().asnumpy().any() else "repair_backward")


def divergences(teacher, student, temperature):
    """{what a student may have computed: of each image}, from logits; the sums over the classes."""
    p, q = softmax(teacher / temperature), softmax(student / temperature)
    hard_p, hard_q = softmax(teacher), softmax(student)
    found = {"right": p * np.log(p / q), "swapped": q * np.log(q / p), "not softened": hard_p * np.log(hard_p / hard_q),
             "no logarithms": p * (np.log(p) - q)}
    return {name: values.sum(axis=1) for name, values in found.items()}


def student_gradient(large, small, images, temperature):
    """Of the sum of the losses: T * (q - p) times the images."""
    p, q = (softmax(model(images).asnumpy() / temperature) for model in (large, small))
    return temperature * (q - p).T @ images.asnumpy()
