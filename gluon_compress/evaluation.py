"""Top-1 accuracy, and the checks of networks, outputs and labels that it shares with training."""
import mxnet as mx
import numpy as np
from mxnet import autograd

from .data import check_finite_inputs, go_through, inputs_and_label
from .errors import NetworkError
from .network import check_finite_parameters, check_hybrid, check_initialized, parameters, undone_on_error
from .symbol_graph import call


def evaluate(net, data):
    """Top-1 accuracy of ``net`` on ``data``, in [0, 1].

    ``data`` is an iterable of (input, label) batches, see :mod:`gluon_compress.data`; inputs are moved to the network's
    device.

    Raises
    ------
    TypeError
        When ``data`` is no iterable of batches, or a batch holds something else than arrays.
    ValueError
        When there is no sample, a batch is no pair, does not fit the network or is not finite, or a label is not a
        class of the network.
    NetworkError
        When the network is not initialized, has no parameters or such as are not finite, or puts out NaN.
    """
    check_net(net)
    return accuracy_of(net, data, "data")


def accuracy_of(net, data, name, others=None):
    """As :func:`evaluate`; errors call the data ``name``. With ``others``, the :class:`Workers`, of all samples."""
    correct = samples = 0
    with undone_on_error(net):
        for batch in go_through(data, name):
            inputs, labels = inputs_and_label(batch, name, net, context_of(net))
            check_finite_inputs(inputs, name)
            with autograd.pause(train_mode=False):
                outputs = call(net, inputs, f"a batch of {name}")
            classes = check_labels(labels, outputs)
            correct += count_correct(outputs, classes)
            samples += len(classes)
    if others is not None:
        correct, samples = others.sum([correct, samples])
    return float(correct / samples)


def check_labels(labels, outputs):
    """Labels ``(batch,)`` or ``(batch, 1)`` as a NumPy integer array ``(batch,)``.

    Raises ``ValueError`` when they do not fit logits ``outputs`` of shape ``(batch, classes)``, naming a
    label that is not in [0, classes).
    """
    if not isinstance(outputs, mx.nd.NDArray) or outputs.ndim != 2:
        raise ValueError(f"the network's output is {getattr(outputs, 'shape', type(outputs).__name__)}; "
                         f"accepted: logits (batch, classes)")
    batch, classes = outputs.shape
    if classes < 2:
        raise ValueError(f"the network's output is {outputs.shape}, a single class, of which every answer is right; "
                         f"accepted: logits (batch, classes) of at least two classes")
    values = labels.asnumpy() if isinstance(labels, mx.nd.NDArray) else np.asarray(labels)
    if values.shape not in ((batch,), (batch, 1)):
        raise ValueError(f"labels have shape {values.shape} for a batch of {batch}; "
                         f"accepted: ({batch},) or ({batch}, 1)")
    values = values.reshape(batch)
    wrong = (values < 0) | (values >= classes) | (values != np.floor(values))
    if wrong.any():
        raise ValueError(f"a label is {values[wrong][0]}; accepted: integers from 0 to {classes - 1}, "
                         f"the classes of the network")
    return values.astype(np.int64)


def check_net(net):
    """Raise ``TypeError`` or ``NetworkError`` unless it is an initialized HybridBlock with finite parameters."""
    check_hybrid(net)
    check_initialized(net)
    if not parameters(net):
        raise NetworkError("the network has no parameters; accepted: a network with layers that have weights")
    check_finite_parameters(net)


def count_correct(outputs, classes):
    """How many of the logits ``(batch, classes)`` are largest at the sample's class.

    Raises ``NetworkError`` for NaN and infinity.
    """
    scores = outputs.asnumpy()
    if np.isnan(scores).any() or np.isposinf(scores).any():  # -inf is the logit of what cannot be
        raise NetworkError("the network's output is NaN or infinite: look for NaN in its weights and in the data")
    return int((scores.argmax(axis=-1) == classes).sum())


def context_of(net):
    """The device of the network, which has parameters and is on one."""
    return next(iter(net.collect_params().values())).list_ctx()[0]
