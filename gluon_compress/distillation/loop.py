"""The distillation loop: :func:`gluon_compress.training.fit` with a teacher."""
from __future__ import annotations

from collections.abc import Iterable, Iterator
from contextlib import AbstractContextManager, nullcontext
from dataclasses import asdict
from pathlib import Path
from typing import Any

import mxnet as mx
from mxnet import autograd
from mxnet.gluon import HybridBlock, Trainer

from ..network.checks import check_hybrid, context_of
from ..network.data import as_given, check_data, check_repeatable, go_through, inputs_and_label
from ..network.hybridizing import hybridized
from ..network.trainer import training_also
from ..training.checks import check_arguments, warn_of_probabilities
from ..training.history import History
from ..training.loop import fit
from .cache import cache_logits
from .features import FeatureLoss, FeatureMatcher, check_features
from .loss import DistillationLoss
from .teachers import as_teachers, check_finite, check_no_shared, check_shape, digests_of, logits_of


def distill(student: HybridBlock, teacher: HybridBlock | list[HybridBlock], train_data: Iterable, epochs: int,
            temperature: float = 4.0, hard_weight: float = 0.1, *, label_smoothing: float = 0.0,
            teacher_weights: list[float] | None = None, features: list[FeatureLoss] | None = None,
            cache: str | Path | None = None, **fit_arguments: Any) -> History:
    """Train ``student`` in place on the labels and on its teachers' outputs.

    Teachers get the student's inputs, in the same type, in inference mode and outside the tape: their BatchNorm uses
    the running statistics, they get no gradients, and their parameters do not change. They are hybridized meanwhile.

    >>> distill(student, teacher, data, epochs=10, temperature=4)
    >>> distill(student, [first, second], data, epochs=10)
    >>> distill(student, teacher, data, epochs=10, features=[FeatureLoss("layer3", "layer4", "attention", 1000)])
    >>> distill(student, teacher, data, epochs=10, cache="logits.safetensors")      # the teacher runs once

    Parameters
    ----------
    student : HybridBlock
    teacher : HybridBlock, or list of HybridBlock
        Initialized, with the student's number of classes; the int8 network of ``quantization.quantize`` is one too.
        The softened probabilities of several teachers are averaged.
    train_data : iterable of (input, label) batches
    epochs : int
    temperature, hard_weight, label_smoothing, teacher_weights
        As in :class:`DistillationLoss`.
    features : list of FeatureLoss, optional
        Further losses, between layers of the student and of its only teacher. The trainer trains their adapters (see
        :class:`FeatureMatcher`) with the student; they are dropped at the end.
    cache : str or Path, optional
        File of the teachers' logits, see :func:`cache_logits`: they are computed once, before the training, so the data
        must not be augmented. A file made with other data or teachers is refused, and so is ``features`` beside a
        cache. Several workers share the file of an ``ImageDataset``; with a ``DataLoader`` of its share, each worker
        needs its own path.
    **fit_arguments
        ``trainer``, ``schedule``, ``validation_data``, ``seed``, ``state_path`` and ``progress`` of
        :func:`gluon_compress.training.fit`. It also says how several workers train; each has its own copy of the
        teacher.

    Returns
    -------
    training.History

    Raises
    ------
    TypeError
        For ``loss``, ``targets`` or ``run_details`` among the further arguments, which this function sets itself, for a
        ``cache`` that is not a path, and as ``fit`` does.
    ValueError
        For networks that share a parameter, a teacher whose output is not ``(batch, classes)``, different
        numbers of classes, layer names that match nothing, and whatever ``fit`` raises it for.
    NetworkError
        For a teacher that is not initialized, cannot be traced or whose logits are not finite, naming it.
    CheckpointError
        When the file at ``cache`` is damaged, or was made with another teacher or other data; and as ``fit`` does.
    OSError
        When there is no file at ``cache`` and none can be made; and as ``fit`` does.
    """
    for name in ("loss", "targets", "run_details"):
        if name in fit_arguments:
            raise TypeError(f"distill sets {name} itself: use temperature and hard_weight, or training.fit with "
                            f"a loss and targets of yours")
    check_hybrid(student)
    check_data(train_data, "train_data")
    teachers = as_teachers(teacher)
    for title, each in teachers.items():
        check_no_shared(student, each, title)
    loss = DistillationLoss(temperature, hard_weight, label_smoothing, teacher_weights=teacher_weights)
    loss.hybridize(static_alloc=True, static_shape=True)  # half the time of its operators one by one
    if teacher_weights is not None and len(teacher_weights) != len(teachers):
        raise ValueError(f"there are {len(teacher_weights)} teacher_weights for {len(teachers)} teacher(s)")
    check_arguments(student, epochs, **fit_arguments)
    for title, each in {"student": student, **teachers}.items():
        warn_of_probabilities(title, each)
    if features is not None:
        features = check_features(features)
        if len(teachers) > 1 or cache is not None:
            raise ValueError("features are given together with several teachers or a cache; accepted: one teacher, "
                             "which runs at each step")
        teaching = _BesideFeatures(student, teachers, train_data, loss, features, fit_arguments.get("seed", 0))
    elif cache is not None:
        teaching = _FromCache(student, teacher, train_data, loss, cache, fit_arguments.get("progress", True))
    else:
        teaching = _AtEachStep(student, teachers, train_data, loss)
    fit_arguments["run_details"] = {  # what a resumed run and other workers must agree on
        "temperature": loss.temperature, "hard_weight": loss.hard_weight, "label_smoothing": loss.label_smoothing,
        "teachers": teaching.digests, "teacher_weights": loss.teacher_weights,
        "cached": cache is not None,
        "features": None if features is None else [asdict(each) for each in features]}
    with teaching.ready(fit_arguments.get("trainer")):
        return fit(teaching.net, teaching.data, epochs, loss=teaching.loss, targets=teaching.targets, **fit_arguments)


class _AtEachStep:
    """What ``fit`` is given when the teachers look at each batch.

    Whether their logits are finite is seen after the loss: looking means waiting for them, and by then MXNet has the
    student's pass to compute meanwhile.
    """

    def __init__(self, student: HybridBlock, teachers: dict[str, HybridBlock], data: Iterable,
                 loss: DistillationLoss) -> None:
        self.net, self.data, self._teachers, self._loss = student, data, teachers, loss
        self.digests = digests_of(teachers)

    def ready(self, trainer: Trainer | None) -> AbstractContextManager:
        return hybridized(self._teachers.values())

    def targets(self, inputs: Any, labels: mx.nd.NDArray) -> tuple:
        return labels, logits_of(self._teachers, inputs)

    def loss(self, logits: mx.nd.NDArray, labels: mx.nd.NDArray, of_teachers: list[mx.nd.NDArray]) -> mx.nd.NDArray:
        losses = self._loss(logits, labels, of_teachers)
        check_finite(self._teachers, of_teachers)
        return losses


class _FromCache:
    """What ``fit`` is given when the teachers have looked before."""

    def __init__(self, student: HybridBlock, teacher: HybridBlock | list[HybridBlock], data: Iterable,
                 loss: DistillationLoss, path: str | Path, progress: bool) -> None:
        self.net, self.data, self.loss = student, self, loss
        self._cached = cache_logits(teacher, data, path, progress)
        self._logits: list[mx.nd.NDArray] = []
        self.digests = self._cached.digests

    def ready(self, trainer: Trainer | None) -> AbstractContextManager:
        return nullcontext()

    def __len__(self) -> int:
        return len(self._cached)

    def __iter__(self) -> Iterator[tuple]:
        """Batches (input, label); the logits are kept for the targets, which ``fit`` asks for next."""
        for inputs, labels, logits in self._cached:
            self._logits = logits if isinstance(logits, list) else [logits]
            yield inputs, labels

    def targets(self, inputs: Any, labels: mx.nd.NDArray) -> tuple:
        return labels, [logits.as_in_context(labels.context) for logits in self._logits]


class _BesideFeatures:
    """What ``fit`` is given when layers are compared, too: as :class:`_AtEachStep`."""

    def __init__(self, student: HybridBlock, teachers: dict[str, HybridBlock], data: Iterable, loss: DistillationLoss,
                 features: list[FeatureLoss], seed: int) -> None:
        [teacher] = teachers.values()
        mx.random.seed(seed % 2 ** 31)  # for the shapes of a student that has none yet, and for the adapters
        self._matcher = FeatureMatcher(student, teacher, features, _first_input(data, student))
        self.net, self.data, self._loss = _StudentWithFeatures(self._matcher), data, loss
        self.digests = digests_of(teachers)

    def ready(self, trainer: Trainer | None) -> AbstractContextManager:
        return training_also(trainer, self._matcher.adapters.values())

    def targets(self, inputs: Any, labels: mx.nd.NDArray) -> tuple:
        logits, features = self._matcher.teacher_outputs(inputs)
        check_shape("the teacher", logits)
        return labels, logits, features

    def loss(self, logits: mx.nd.NDArray, labels: mx.nd.NDArray, teacher_logits: mx.nd.NDArray,
             teacher_features: list[mx.nd.NDArray]) -> mx.nd.NDArray:
        losses = self._loss(logits, labels, teacher_logits)
        of_features = self._matcher.compare(self.net.features, teacher_features)
        check_finite(["the teacher"], [teacher_logits])
        return losses + of_features.astype(losses.dtype, copy=False)


class _StudentWithFeatures(HybridBlock):
    """The student and the adapters. It gives logits, and keeps the features for the loss."""

    def __init__(self, matcher: FeatureMatcher) -> None:
        super().__init__()
        self.matcher = matcher
        self.features: list[mx.nd.NDArray] = []

    def forward(self, inputs: mx.nd.NDArray) -> mx.nd.NDArray:
        if not autograd.is_recording():
            return self.matcher.student(inputs)
        logits, self.features = self.matcher.student_outputs(inputs)
        return logits


def _first_input(data: Iterable, student: HybridBlock) -> mx.nd.NDArray:
    check_repeatable(data, "train_data")
    inputs, _ = inputs_and_label(next(go_through(data, "train_data")), "train_data", student,
                                 context_of(student))
    if len(inputs) > 1:
        raise ValueError(f"features are for networks of one input, a batch of train_data has {len(inputs)}")
    return as_given(inputs)
