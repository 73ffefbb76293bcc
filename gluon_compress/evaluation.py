"""Top-1 accuracy, and the checks of networks, outputs and labels that it shares with training."""
import mxnet as mx
import numpy as np
from mxnet import autograd

from .batches import no_batches, pair, to_device
from .errors import NetworkError
from .network import check_hybrid, check_initialized, parameters


def evaluate(net, data):
    """Top-1 accuracy of ``net`` on ``data``, in [0, 1].

    ``data`` is an iterable of (input, label) batches; inputs are moved to the network's device.

    Raises
    ------
    ValueError
        When there is no sample, a batch is no pair, or a label is not a class of the network.
    NetworkError
        When the network is not initialized, has no parameters, or puts out NaN.
    """
    check_net(net)
    return accuracy_of(net, data, "data")


def accuracy_of(net, data, name, others=None):
    """As :func:`evaluate`; errors call the data ``name``. With ``others``, the :class:`Workers`, of all samples."""
    correct = samples = 0
    for batch in data:
        inputs, labels = pair(batch, name)
        with autograd.pause(train_mode=False):
            outputs = net(to_device(inputs, context_of(net)))
        classes = check_labels(labels, outputs)
        correct += count_correct(outputs, classes)
        samples += len(classes)
    if samples == 0:
        raise no_batches(name)
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
    """Raise ``TypeError`` or ``NetworkError`` unless it is an initialized HybridBlock with parameters."""
    check_hybrid(net)
    check_initialized(net)
    if not parameters(net):
        raise NetworkError("the network has no parameters; accepted: a network with layers that have weights")


def count_correct(outputs, classes):
    """How many of the logits ``(batch, classes)`` are largest at the sample's class; NaN raises ``NetworkError``."""
    scores = outputs.asnumpy()
    if np.isnan(scores).any():
        raise NetworkError("the network's output is NaN: look for NaN in its weights and in the data")
    return int((scores.argmax(axis=-1) == classes).sum())


def context_of(net):
    """The device of the network, which has parameters and is on one."""
    return next(iter(net.collect_params().values())).list_ctx()[0]
