"""What the networks that teach have in common: checks, digests, inference mode."""
from __future__ import annotations

from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np
from mxnet import autograd
from mxnet.gluon import HybridBlock
from mxnet.ndarray import NDArray

from ..errors import NetworkError
from ..network.checks import check_finite_parameters, check_ready
from ..network.digest import digest_of
from ..network.inputs import flat, map_arrays
from ..network.interface import interface_of_array
from ..network.misfits import call
from ..network.values import parameters, walk


def as_teachers(teacher: Any) -> dict[str, HybridBlock]:
    """A HybridBlock or a list of them as {its name in errors: HybridBlock}, each checked."""
    if not isinstance(teacher, (list, tuple)):
        check_teacher(teacher)
        return {"the teacher": teacher}
    if not teacher:
        raise ValueError("teacher is an empty list; accepted: a HybridBlock, or a list of at least one")
    teachers = {f"teacher[{index}]": each for index, each in enumerate(teacher)}
    for title, each in teachers.items():
        check_teacher(each, title)
    return teachers


def check_teacher(teacher: Any, title: str = "the teacher") -> None:
    """Raise ``TypeError`` or ``NetworkError`` unless it is a HybridBlock that can be called at once, and finite."""
    with naming(title):
        check_ready(teacher)
        check_finite_parameters(teacher)


@contextmanager
def naming(title: str) -> Iterator[None]:
    """Put the teacher's title before what a ``TypeError`` or ``NetworkError`` says."""
    try:
        yield
    except (TypeError, NetworkError) as error:
        raise type(error)(f"{title}: {error}") from error


def check_no_shared(student: HybridBlock, teacher: HybridBlock, title: str = "the teacher") -> None:
    """Raise ``ValueError`` when training the student would change the teacher."""
    if student is teacher:
        raise ValueError(f"student and {title.removeprefix('the ')} are the same network")
    teachers_own = {id(parameter) for parameter in parameters(teacher).values()}
    for name, parameter in parameters(student).items():
        if id(parameter) in teachers_own:
            raise ValueError(f"student and {title.removeprefix('the ')} share the parameter {name}: training would "
                             f"change the teacher")


def digests_of(teachers: dict[str, HybridBlock]) -> list[str]:
    """The SHA-256 of what each teacher computes; errors name the teacher."""
    digests = []
    for title, teacher in teachers.items():
        with naming(title), autograd.pause(train_mode=False):
            digests.append(digest_of(teacher))
    return digests


def logits_of(teachers: dict[str, HybridBlock], inputs: Any) -> list[NDArray]:
    """The logits of each teacher ``(batch, classes)``, in inference mode and off the tape.

    ``teachers`` as :func:`as_teachers` gives them, on any device; ``inputs`` an array, or a tuple of several. Raises
    ``ValueError`` for outputs of other shapes. Whether they are finite is left to :func:`check_finite`, which has to
    wait for them.
    """
    with autograd.pause(train_mode=False):
        of_teachers = [_on_its_device(title, teacher, inputs if isinstance(inputs, tuple) else (inputs,))
                       for title, teacher in teachers.items()]
    for title, logits in zip(teachers, of_teachers):
        check_shape(title, logits)
    return of_teachers


def _on_its_device(title: str, teacher: HybridBlock, inputs: tuple) -> Any:
    """A teacher's outputs for inputs: computed on the teacher's device, returned on that of the inputs."""
    device_of_inputs = flat(inputs)[0].context
    device = next((parameter.list_ctx()[0] for _, parameter, _ in walk(teacher)), device_of_inputs)
    outputs = call(teacher, map_arrays(lambda array: array.as_in_context(device), inputs), f"what {title} is given")
    outputs = interface_of_array(flat(inputs)[0]).own(outputs)
    return outputs.as_in_context(device_of_inputs) if isinstance(outputs, NDArray) else outputs


def check_shape(title: str, logits: Any) -> None:
    """Raise ``ValueError`` for outputs other than ``(batch, classes)``."""
    if not isinstance(logits, NDArray) or logits.ndim != 2:
        raise ValueError(f"{title}'s output is {getattr(logits, 'shape', type(logits).__name__)}; "
                         f"accepted: logits (batch, classes)")


def check_finite(titles: Iterable[str], of_teachers: Iterable[NDArray]) -> None:
    """Raise ``NetworkError`` when logits are NaN or infinite, naming the teacher."""
    for title, logits in zip(titles, of_teachers):
        if not np.isfinite(logits.asnumpy()).all():
            raise NetworkError(f"{title}'s logits are NaN or infinite; look for NaN in its weights and in the data")
