"""The distillation loop: :func:`gluon_compress.training.fit` with a teacher."""
import numpy as np
from mxnet import autograd

from ..errors import NetworkError
from ..network import check_hybrid, check_ready
from ..training import fit
from .loss import DistillationLoss


def distill(student, teacher, train_data, epochs, temperature=4.0, hard_weight=0.1, **fit_arguments):
    """Train ``student`` in place on the labels and on the teacher's logits.

    The teacher runs in inference mode and outside the tape: its BatchNorm uses the running statistics,
    it gets no gradients, and its parameters do not change.

    Parameters
    ----------
    student, teacher : HybridBlock
        Initialized, with the same number of classes.
    train_data : iterable of (input, label) batches
    epochs : int
    temperature, hard_weight : float
        As in :class:`DistillationLoss`.
    **fit_arguments
        ``trainer``, ``schedule``, ``validation_data``, ``seed``, ``state_path`` and ``progress`` of
        :func:`gluon_compress.training.fit`.

    Returns
    -------
    training.History

    Raises
    ------
    ValueError
        For different numbers of classes, and whatever ``fit`` raises it for.
    """
    check_hybrid(student)
    check_ready(teacher)
    if student is teacher:
        raise ValueError("student and teacher are the same network")
    loss = DistillationLoss(temperature, hard_weight)

    def targets(inputs, labels):
        with autograd.pause(train_mode=False):
            logits = teacher(inputs)
        if not np.isfinite(logits.asnumpy()).all():
            raise NetworkError("the teacher's logits are NaN or infinite; look for NaN in its weights and in the data")
        return labels, logits
    return fit(student, train_data, epochs, loss=loss, targets=targets, **fit_arguments)
