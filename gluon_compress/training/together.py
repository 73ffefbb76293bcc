"""What the workers of one training agree on and exchange, for :func:`gluon_compress.training.fit`.

``others`` are the :class:`~gluon_compress.workers.Workers`; None for a process that trains alone.
"""
import tempfile
from pathlib import Path

import numpy as np

from ..errors import WorkerError
from ..network.values import parameters
from . import state as training_state


def begin(run):
    """Make sure that all workers train the same, and give all worker 0's parameters."""
    named, trainer = parameters(run.net), run.trainer
    run.others.check_same({
        **{f"parameter {name}": _shape_and_type(parameter) for name, parameter in named.items()}, **run.identity,
        "parameters of the trainer": [_shape_and_type(parameter) for parameter in trainer._params],
        "state_path": "a path" if run.state_path is not None else None,
        "validation_data": "data" if run.validation_data is not None else None})
    if not trainer._kv_initialized:
        trainer._init_kvstore()
    trainer._init_params()  # Gluon would give all worker 0's after the first pass, which moves BatchNorm's
    run.others.share(named.values())


def meet(run):
    """After an epoch, average BatchNorm's statistics, and give all what worker 0 has learnt.

    That is what the others have learnt too, up to the rounding of other processors.
    """
    every = parameters(run.net).values()
    run.others.average([parameter for parameter in every if parameter.grad_req == "null"])
    run.others.share(parameter for parameter in every if parameter.grad_req != "null")


def _shape_and_type(parameter):
    return f"{parameter.shape} {np.dtype(parameter.dtype)}"


def restore(run):
    """What :func:`~gluon_compress.training.state.restore` gives; of worker 0's file where there are others. None without a file."""
    path = Path(run.state_path)
    if run.others is None:
        return training_state.restore(path, run.net, run.trainer, run.identity) if path.exists() else None
    content = run.others.from_worker(0, path.read_bytes() if run.rank == 0 and path.exists() else b"")
    if not content:
        return None
    with tempfile.TemporaryDirectory() as folder:
        copy = Path(folder, path.name)
        copy.write_bytes(content)
        return training_state.restore(copy, run.net, run.trainer, run.identity)


def sum_over_workers(others, *totals):
    """The sums over all workers of this one's loss, correct and samples; of nothing, when its epoch has ended.

    Raises ``WorkerError`` when some have ended and others have not.
    """
    if others is None:
        return np.array(totals)
    sums = others.sum([len(totals) > 0, *(totals or (0, 0, 0))])
    if sums[0] != (others.num_workers if totals else 0):
        raise WorkerError("the workers have different numbers of batches: give each its batches.Shard of one data set")
    return sums[1:]


def step(trainer, others, samples):
    """A step of the trainer with the gradients of all workers' samples."""
    if others is None:
        trainer.step(samples)
    else:
        trainer.allreduce_grads()
        others.wait()  # a bounded time, before the parameters depend on it
        trainer.update(samples)
