"""Top-1 accuracy."""
import numpy as np
from mxnet import autograd

from ..errors import NetworkError
from ..network.checks import check_net, context_of, undone_on_error
from ..network.data import check_finite_inputs, check_labels, go_through, inputs_and_label
from ..network.misfits import call


def evaluate(net, data):
    """Top-1 accuracy of ``net`` on ``data``, in [0, 1].

    ``data`` is an iterable of (input, label) batches, see :mod:`gluon_compress.network.data`; inputs are moved
    to the network's device.

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


def count_correct(outputs, classes):
    """How many of the logits ``(batch, classes)`` are largest at the sample's class.

    Raises ``NetworkError`` for NaN and infinity.
    """
    scores = outputs.asnumpy()
    if np.isnan(scores).any() or np.isposinf(scores).any():  # -inf is the logit of what cannot be
        raise NetworkError("the network's output is NaN or infinite: look for NaN in its weights and in the data")
    return int((scores.argmax(axis=-1) == classes).sum())
