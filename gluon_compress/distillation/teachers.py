"""What the networks that teach have in common: checks, inference mode, speed."""
from contextlib import ExitStack, contextmanager

import numpy as np
from mxnet import autograd
from mxnet.gluon import HybridBlock
from mxnet.ndarray import NDArray

from ..errors import NetworkError
from ..network.checks import check_finite_parameters, check_ready
from ..network.inputs import flat, map_arrays
from ..network.misfits import call
from ..network.values import parameters, walk


def as_teachers(teacher):
    """A HybridBlock or a list of them as {how errors call it: HybridBlock}, each checked."""
    if not isinstance(teacher, (list, tuple)):
        check_teacher(teacher)
        return {"the teacher": teacher}
    if not teacher:
        raise ValueError("teacher is an empty list; accepted: a HybridBlock, or a list of at least one")
    teachers = {f"teacher[{index}]": each for index, each in enumerate(teacher)}
    for title, each in teachers.items():
        check_teacher(each, title)
    return teachers


def check_teacher(teacher, title="the teacher"):
    """Raise ``TypeError`` or ``NetworkError`` unless it is a HybridBlock that can be called at once, and finite."""
    with naming(title):
        check_ready(teacher)
        check_finite_parameters(teacher)


@contextmanager
def naming(title):
    """Put the teacher's title before what a ``TypeError`` or ``NetworkError`` says."""
    try:
        yield
    except (TypeError, NetworkError) as error:
        raise type(error)(f"{title}: {error}") from error


def check_no_shared(student, teacher, title="the teacher"):
    """Raise ``ValueError`` when training the student would change the teacher."""
    if student is teacher:
        raise ValueError(f"student and {title.removeprefix('the ')} are the same network")
    teachers_own = {id(parameter) for parameter in parameters(teacher).values()}
    for name, parameter in parameters(student).items():
        if id(parameter) in teachers_own:
            raise ValueError(f"student and {title.removeprefix('the ')} share the parameter {name}: training would "
                             f"change the teacher")


def logits_of(teachers, inputs):
    """The logits of each teacher ``(batch, classes)``, in inference mode and off the tape.

    ``teachers`` as :func:`as_teachers` gives them, on any device; ``inputs`` an array, or a tuple of several. Raises
    ``ValueError`` for outputs of other shapes. Whether they are finite is left to :func:`check_finite`, which has to
    wait for them.
    """
    with autograd.pause(train_mode=False):
        every = [_on_its_device(title, teacher, inputs if isinstance(inputs, tuple) else (inputs,))
                 for title, teacher in teachers.items()]
    for title, logits in zip(teachers, every):
        check_shape(title, logits)
    return every


def _on_its_device(title, teacher, inputs):
    here = flat(inputs)[0].context
    context = next((parameter.list_ctx()[0] for _, parameter, _ in walk(teacher)), here)
    outputs = call(teacher, map_arrays(lambda array: array.as_in_context(context), inputs), f"what {title} is given")
    return outputs.as_in_context(here) if isinstance(outputs, NDArray) else outputs


def check_shape(title, logits):
    """Raise ``ValueError`` for other outputs than ``(batch, classes)``."""
    if not isinstance(logits, NDArray) or logits.ndim != 2:
        raise ValueError(f"{title}'s output is {getattr(logits, 'shape', type(logits).__name__)}; "
                         f"accepted: logits (batch, classes)")


def check_finite(titles, every):
    """Raise ``NetworkError`` when logits are NaN or infinite, naming the teacher."""
    for title, logits in zip(titles, every):
        if not np.isfinite(logits.asnumpy()).all():
            raise NetworkError(f"{title}'s logits are NaN or infinite; look for NaN in its weights and in the data")


@contextmanager
def hybridized(nets):
    """Hybridize the networks that are not, and leave them as they were afterwards."""
    with ExitStack() as stack:
        for net in nets:
            stack.enter_context(_hybridized(net))
        yield


@contextmanager
def _hybridized(net):
    if net._active:
        yield
        return
    blocks = list(_blocks(net))
    before = [(block._active, block._flags, block._backend) for block in blocks]
    net.hybridize()
    try:
        yield
    finally:
        for block, state in zip(blocks, before):
            block._active, block._flags, block._backend = state
            block._clear_cached_op()


def _blocks(net):
    """The HybridBlocks of a network, itself among them."""
    if isinstance(net, HybridBlock):
        yield net
    for child in net._children.values():
        yield from _blocks(child)
