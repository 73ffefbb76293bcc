"""The distillation loop: :func:`gluon_compress.training.fit` with a teacher."""
import numpy as np
from mxnet import autograd
from mxnet.ndarray import NDArray

from ..errors import NetworkError
from ..network import check_hybrid, check_ready, parameters
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
    TypeError
        For ``loss`` or ``targets`` among the further arguments, which are this function's own.
    ValueError
        For networks that share a parameter, a teacher whose output is not ``(batch, classes)``, different
        numbers of classes, and whatever ``fit`` raises it for.
    """
    for name in ("loss", "targets", "run_details"):
        if name in fit_arguments:
            raise TypeError(f"distill sets {name} itself: use temperature and hard_weight, or training.fit with "
                            f"a loss and targets of yours")
    check_hybrid(student)
    check_ready(teacher)
    if student is teacher:
        raise ValueError("student and teacher are the same network")
    teachers_own = {id(parameter) for parameter in parameters(teacher).values()}
    for name, parameter in parameters(student).items():
        if id(parameter) in teachers_own:
            raise ValueError(f"student and teacher share the parameter {name}: training would change the teacher")
    loss = DistillationLoss(temperature, hard_weight)

    def targets(inputs, labels):
        with autograd.pause(train_mode=False):
            logits = teacher(inputs)
        if not isinstance(logits, NDArray) or logits.ndim != 2:
            raise ValueError(f"the teacher's output is {getattr(logits, 'shape', type(logits).__name__)}; "
                             f"accepted: logits (batch, classes)")
        if not np.isfinite(logits.asnumpy()).all():
            raise NetworkError("the teacher's logits are NaN or infinite; look for NaN in its weights and in the data")
        return labels, logits
    return fit(student, train_data, epochs, loss=loss, targets=targets,
               run_details={"temperature": loss.temperature, "hard_weight": loss.hard_weight}, **fit_arguments)
