"""Whether a training can begin, and go on: what :func:`gluon_compress.training.fit` refuses."""
from __future__ import annotations

import warnings
from collections.abc import Iterable
from typing import Any

import numpy as np
from mxnet.gluon import HybridBlock, Trainer

from ..arguments import check_flag, check_integer, check_number
from ..errors import NetworkError
from ..files.paths import check_path
from ..network.blocks import ends_in_softmax
from ..network.checks import check_net, context_of
from ..network.trainer import check_shapes, optimizer_of, trained_parameters
from ..network.values import parameters, value_of


def check_arguments(net: Any, epochs: Any, trainer: Any = None, schedule: Any = None, loss: Any = None,
                    targets: Any = None, seed: Any = 0, state_path: Any = None, progress: Any = True, **_: Any) -> None:
    """Raise what ``fit`` raises for these arguments, before it looks at the data."""
    check_integer("epochs", epochs, minimum=1)
    check_integer("seed", seed, minimum=0)
    check_flag("progress", progress)
    check_net(net)
    _check_one_device(net)
    for name, value in (("schedule", schedule), ("loss", loss), ("targets", targets)):
        if value is not None and not callable(value):
            raise TypeError(f"{name} is {value!r}; accepted: a callable, or None")
    if state_path is not None:
        check_path("state_path", state_path)
    if trainer is not None:
        check_trainer(trainer, net)
        if schedule is not None and optimizer_of(trainer).lr_scheduler is not None:
            raise ValueError("the trainer's optimizer has an lr_scheduler and schedule is given: choose one")


def warn_of_probabilities(name: str, net: HybridBlock) -> None:
    """Warn the caller of our caller when a loss that takes logits is given the output of a softmax."""
    if ends_in_softmax(net):
        warnings.warn(f"{name} ends in a softmax, and the loss takes logits; load it with head='logits'", stacklevel=3)


def _check_one_device(net: HybridBlock) -> None:
    device = context_of(net)
    for name, parameter in parameters(net).items():
        if parameter.list_ctx() != [device]:
            devices = ", ".join(map(str, parameter.list_ctx()))
            raise NetworkError(f"parameter {name} is on {devices}; fit trains on one device, here {device}: "
                               f"write your own loop with MaskedTrainer for several")


def check_trainer(trainer: Any, net: HybridBlock) -> None:
    """A Trainer with something of ``net`` to train, whose optimizer's state is of today's shapes."""
    if not isinstance(trainer, Trainer):
        raise TypeError(f"trainer is {trainer!r}; accepted: a gluon.Trainer, or None")
    in_trainer = {id(parameter) for parameter in trained_parameters(trainer)}
    own = parameters(net)
    trained = {name: parameter for name, parameter in own.items() if id(parameter) in in_trainer}
    if not trained:
        raise ValueError(f"the trainer has none of the network's parameters ({_some(own)}): "
                         f"make it with gluon.Trainer(net.collect_params(), ...)")
    check_number("the trainer's learning rate", trainer.learning_rate, minimum=0)
    if all(parameter.grad_req == "null" for parameter in trained.values()):
        raise NetworkError(f"every parameter to train is frozen (grad_req is 'null'): {_some(trained)}")
    summed = [name for name, parameter in trained.items() if parameter.grad_req == "add"]
    if summed:
        raise ValueError(f"grad_req of {_some(summed)} is 'add': gradients of all batches would pile up; accepted: "
                         f"'write'")
    check_shapes(trainer)


def _some(names: Iterable[str]) -> str:
    """The first three of the names, and how many there are."""
    names = list(names)
    return ", ".join(names[:3]) + (f", ... ({len(names)} in all)" if len(names) > 3 else "")


def check_losses(losses: Any, samples: int) -> None:
    """Raise ``ValueError`` unless there is one loss per sample."""
    if getattr(losses, "shape", None) != (samples,):
        raise ValueError(f"the loss has shape {getattr(losses, 'shape', type(losses).__name__)} for a batch of "
                         f"{samples}; accepted: ({samples},), one value per sample")


def check_finite(net: HybridBlock, epoch: int) -> None:
    """Raise ``NetworkError`` for parameters that are not finite after an epoch, which is counted from 0.

    MXNet's ReLU makes 0 of NaN: after it, output and loss stay finite while NaN spreads through the weights.
    """
    for name, parameter in parameters(net).items():
        if not np.isfinite(value_of(parameter)).all():
            raise NetworkError(f"parameter {name} is NaN or infinite after epoch {epoch + 1}: lower the learning rate, "
                               f"or look for NaN in the data")
