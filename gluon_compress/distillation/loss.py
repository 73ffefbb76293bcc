"""The distillation loss of Hinton, Vinyals & Dean, "Distilling the Knowledge in a Neural Network", 2015."""
import mxnet as mx
from mxnet.gluon.loss import Loss

from ..arguments import check_number


class DistillationLoss(Loss):
    """Match a teacher's softened probabilities and the labels.

    With student logits ``s``, teacher logits ``t``, labels ``y`` and temperature ``T``::

        loss = hard_weight * CE(y, softmax(s))
             + (1 - hard_weight) * T**2 * KL(softmax(t / T) || softmax(s / T))

    The temperature divides the logits of both sides. The gradient of the second term shrinks as 1/T**2;
    the factor T**2 keeps the balance of the two terms when T changes (section 2 of the paper).

    Parameters
    ----------
    temperature : float
        More than 0; larger is softer.
    hard_weight : float
        Share of the label loss, in [0, 1].

    Inputs: student logits ``(batch, classes)``, integer labels ``(batch,)``, teacher logits
    ``(batch, classes)``, optionally weights per sample ``(batch,)`` or ``(batch, 1)``. Output: one
    loss per sample ``(batch,)``.

    >>> loss = DistillationLoss(temperature=4, hard_weight=0.1)
    >>> with autograd.record():
    ...     losses = loss(student(x), labels, teacher_logits)
    """

    def __init__(self, temperature=4.0, hard_weight=0.1, **kwargs):
        check_number("temperature", temperature, above=0)
        check_number("hard_weight", hard_weight, minimum=0, maximum=1)
        super().__init__(weight=None, batch_axis=0, **kwargs)
        self.temperature, self.hard_weight = float(temperature), float(hard_weight)

    def forward(self, student_logits, labels, teacher_logits, sample_weight=None):
        shapes = getattr(student_logits, "shape", None), getattr(teacher_logits, "shape", None)
        if isinstance(student_logits, mx.nd.NDArray) and shapes[0] != shapes[1]:
            raise ValueError(f"the student's logits have shape {shapes[0]}, the teacher's {shapes[1]}; accepted: "
                             f"the same number of samples and classes")
        return super().forward(student_logits, labels, teacher_logits, sample_weight)

    def hybrid_forward(self, F, student_logits, labels, teacher_logits, sample_weight=None):
        T = self.temperature
        # CE(y, softmax(s)) = -log softmax(s)[y]
        hard = -F.pick(F.log_softmax(student_logits, axis=-1), labels, axis=-1)               # (B,)
        # KL(p || q) = sum p * (log p - log q)
        log_p = F.log_softmax(teacher_logits / T, axis=-1)                                    # (B, classes)
        log_q = F.log_softmax(student_logits / T, axis=-1)
        soft = F.sum(F.exp(log_p) * (log_p - log_q), axis=-1)                                 # (B,)
        loss = self.hard_weight * hard + (1 - self.hard_weight) * T ** 2 * soft
        return loss if sample_weight is None else loss * sample_weight.reshape((-1,))
