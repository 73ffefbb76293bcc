"""The distillation loss of Hinton, Vinyals & Dean, "Distilling the Knowledge in a Neural Network", 2015."""
from __future__ import annotations

from typing import Any

import mxnet as mx
import numpy as np
from mxnet.gluon.loss import Loss

from ..arguments import check_flag, check_number, mxnet_scalar, shown
from ..network.interface import in_classic

LOWEST = -1e30  # of log-probabilities: far below what exp() tells from -infinity, and finite when multiplied by T**2


class DistillationLoss(Loss):
    """Match the softened probabilities of one or several teachers, and the labels.

    With student logits ``s``, teacher logits ``t``, label probabilities ``y`` and temperature ``T``::

        loss = hard_weight * CE(y, softmax(s))
             + (1 - hard_weight) * T**2 * KL(softmax(t / T) || softmax(s / T))

    The temperature divides the logits of both sides. The gradient of the second term shrinks as 1/T**2;
    the factor T**2 keeps the balance of the two terms when T changes (section 2 of the paper). The softened
    probabilities of several teachers are averaged: ``p = sum_k w_k * softmax(t_k / T)`` (as for the ensemble of
    section 4).

    Parameters
    ----------
    temperature : float
        From 1e-6 to 1000; larger is softer. T**2 multiplies the rounding of the divergence, too: at T = 20 the value
        of a loss is off by up to 1e-4, at 1000 by up to 0.4. Gradients are not.
    hard_weight : float
        Share of the label loss, in [0, 1].
    label_smoothing : float
        ``e`` in [0, 1): the labels become ``(1 - e) * y + e / classes`` (Szegedy et al. 2016, section 7).
    sparse_label : bool
        True: labels are integers. False: they are probabilities of the classes.
    teacher_weights : list of float, optional
        One number above 0 per teacher, in proportion to its share; by default all have the same.

    Inputs: student logits ``(batch, classes)``; labels, integers ``(batch,)`` or ``(batch, 1)``, or with
    ``sparse_label=False`` probabilities ``(batch, classes)``; teacher logits ``(batch, classes)``, for several teachers
    a list of such or one array ``(teachers, batch, classes)``; optionally weights per sample ``(batch,)`` or
    ``(batch, 1)``. Output: one loss per sample ``(batch,)``; float64 for student logits of float64, and float32
    otherwise. Softened log-probabilities count as -1e30 where they are less. Hybridized, an instance stays with the
    number of teachers and of inputs that it was first called with, as Gluon's blocks do.

    >>> loss = DistillationLoss(temperature=4, hard_weight=0.1)
    >>> with autograd.record():
    ...     losses = loss(student(x), labels, teacher_logits)

    Raises ``TypeError`` and ``ValueError`` for other settings; when called, ``TypeError`` for what is no NDArray, and
    ``ValueError`` for logits and labels of shapes that do not go together, and labels that are no classes or no
    probabilities.
    """

    def __init__(self, temperature: float = 4.0, hard_weight: float = 0.1, label_smoothing: float = 0.0,
                 sparse_label: bool = True, teacher_weights: list[float] | None = None, **kwargs: Any) -> None:
        check_number("temperature", temperature, minimum=1e-6, maximum=1e3)  # beyond, T**2 * rounding hides the loss
        check_number("hard_weight", hard_weight, minimum=0, maximum=1)
        check_number("label_smoothing", label_smoothing, minimum=0, below=1)
        check_flag("sparse_label", sparse_label)
        super().__init__(weight=None, batch_axis=0, **kwargs)
        self.temperature, self.hard_weight = float(temperature), mxnet_scalar(hard_weight)
        self.label_smoothing, self.sparse_label = mxnet_scalar(label_smoothing), sparse_label
        self.teacher_weights = _shares(teacher_weights)

    def __call__(self, *args: Any) -> Any:
        return in_classic(super().__call__, args)

    def forward(self, student_logits: Any, labels: Any, teacher_logits: Any, sample_weight: Any = None) -> Any:
        teachers = _as_list(teacher_logits)
        if self.teacher_weights is not None and len(self.teacher_weights) != len(teachers):
            raise ValueError(f"there are {len(self.teacher_weights)} teacher_weights for the logits of "
                             f"{len(teachers)} teacher(s)")
        if not isinstance(student_logits, mx.sym.Symbol):
            _check_logits(student_logits, teachers)
            _check_arrays(labels, sample_weight, len(student_logits))
            (_check_classes if self.sparse_label else _check_probabilities)(labels, student_logits.shape)
            # of one type, and float32 at least: T**2 and LOWEST are beyond float16
            precision = np.promote_types(student_logits.dtype, np.float32)
            student_logits, labels, sample_weight, *teachers = (
                array if array is None else array.astype(precision, copy=False)
                for array in (student_logits, labels, sample_weight, *teachers))
        return super().forward(student_logits, labels, teachers, sample_weight)

    def hybrid_forward(self, F: Any, student_logits: Any, labels: Any, teachers: list,
                       sample_weight: Any = None) -> Any:
        T = self.temperature
        hard = self._hard(F, F.log_softmax(student_logits, axis=-1, temperature=1.0), labels)  # (B,)
        # KL(p || q) = sum p * (log p - log q)
        log_p = self._mean(F, [_log_softened(F, logits, T) for logits in teachers])           # (B, classes)
        log_q = _log_softened(F, student_logits, T)                                           # (B, classes)
        soft = F.sum(F.exp(log_p) * (log_p - log_q), axis=-1)                                 # (B,)
        loss = self.hard_weight * hard + (1 - self.hard_weight) * T ** 2 * soft
        return loss if sample_weight is None else loss * sample_weight.reshape((-1,))

    def _hard(self, F: Any, log_probabilities: Any, labels: Any) -> Any:
        """CE(y, softmax(s)) = -sum y * log softmax(s), with y = (1 - e) * label + e / classes."""
        of_label = (F.pick(log_probabilities, labels, axis=-1) if self.sparse_label
                    else F.sum(log_probabilities * labels, axis=-1))
        if self.label_smoothing == 0:
            return -of_label
        return -(1 - self.label_smoothing) * of_label - self.label_smoothing * F.mean(log_probabilities, axis=-1)

    def _mean(self, F: Any, log_probabilities: list) -> Any:
        """log sum_k w_k * p_k from the teachers' log p_k, without leaving the logarithms' range."""
        if len(log_probabilities) == 1:
            return log_probabilities[0]
        weights = self.teacher_weights or [1 / len(log_probabilities)] * len(log_probabilities)
        largest = log_probabilities[0]
        for others in log_probabilities[1:]:
            largest = F.maximum(largest, others)
        total = sum(weight * F.exp(each - largest) for weight, each in zip(weights, log_probabilities))
        return largest + F.log(total)


def _log_softened(F: Any, logits: Any, T: float) -> Any:
    """log softmax(logits / T), finite also where logits / T is not.

    With a temperature, even 1, MXNet itself computes this. Without one oneDNN does, whose error near 0 is ten times as
    large.
    """
    return F.clip(F.log_softmax(logits, axis=-1, temperature=T), LOWEST, 0)


def _shares(weights: Any) -> list[float] | None:
    """The weights as fractions of their sum, or None."""
    if weights is None:
        return None
    if not isinstance(weights, (list, tuple)) or not weights:
        raise TypeError(f"teacher_weights is {shown(weights)}; accepted: a list of one number per teacher, or None")
    for index, weight in enumerate(weights):
        check_number(f"teacher_weights[{index}]", weight, above=0)
    return [mxnet_scalar(float(weight) / sum(weights)) for weight in weights]


def _as_list(teacher_logits: Any) -> list:
    """The logits of each teacher; those of (teachers, batch, classes) are taken apart."""
    if isinstance(teacher_logits, (list, tuple)):
        if not teacher_logits:
            raise ValueError("the list of the teachers' logits is empty")
        return list(teacher_logits)
    if isinstance(teacher_logits, mx.nd.NDArray) and teacher_logits.ndim == 3:
        return [teacher_logits[index] for index in range(len(teacher_logits))]
    return [teacher_logits]


def _check_logits(student_logits: Any, teachers: list) -> None:
    for array in (student_logits, *teachers):
        if not isinstance(array, mx.nd.NDArray):
            raise TypeError(f"logits are {shown(array)}; accepted: NDArrays")
    if student_logits.ndim != 2:
        raise ValueError(f"the student's logits have shape {student_logits.shape}; accepted: (batch, classes)")
    if student_logits.shape[1] < 2:
        raise ValueError(f"the student's logits have shape {student_logits.shape}, a single class, for which "
                         f"every answer is right; accepted: (batch, classes) of at least two classes")
    for index, logits in enumerate(teachers):
        if logits.shape != student_logits.shape:
            owner = "the teacher's" if len(teachers) == 1 else f"those of teacher[{index}]"
            raise ValueError(f"the student's logits have shape {student_logits.shape}, {owner} "
                             f"{logits.shape}; accepted: the same number of samples and classes (the order is "
                             f"loss(student_logits, labels, teacher_logits))")


def _check_arrays(labels: Any, sample_weight: Any, batch: int) -> None:
    for name, array in (("labels", labels), ("sample_weight", sample_weight)):
        absent = name == "sample_weight" and array is None
        if not absent and not isinstance(array, mx.nd.NDArray):
            raise TypeError(f"{name} is {shown(array)}; accepted: an NDArray")
    if sample_weight is not None and sample_weight.shape not in ((batch,), (batch, 1)):
        raise ValueError(f"sample_weight has shape {sample_weight.shape} for a batch of {batch}; accepted: ({batch},) "
                         f"or ({batch}, 1)")


def _check_classes(labels: mx.nd.NDArray, shape: tuple[int, int]) -> None:
    batch, classes = shape
    if labels.shape not in ((batch,), (batch, 1)):
        raise ValueError(f"labels have shape {labels.shape} for logits {shape}; accepted: integers ({batch},) or "
                         f"({batch}, 1), or probabilities {shape} with sparse_label=False")
    values = labels.asnumpy().reshape(-1)
    wrong = ~((values >= 0) & (values < classes) & (values == np.floor(values)))
    if wrong.any():  # F.pick would take the nearest class
        raise ValueError(f"a label is {values[wrong][0]}; accepted: integers from 0 to {classes - 1}")


def _check_probabilities(labels: mx.nd.NDArray, shape: tuple[int, int]) -> None:
    if labels.shape != shape:
        raise ValueError(f"labels have shape {labels.shape} for logits {shape} and sparse_label=False; accepted: "
                         f"probabilities {shape}")
    values = labels.asnumpy().astype(np.float64)
    wrong = ~((values >= 0).all(axis=1) & (np.abs(values.sum(axis=1) - 1) < 1e-3))
    if wrong.any():
        raise ValueError(f"the labels of a sample are {values[wrong][0]}; accepted: probabilities, at least 0 and "
                         f"with a sum of 1")
