"""How much a channel matters: the criteria by which structured pruning ranks channels.

Each criterion gives every output channel of a layer a number from the layer's weight, here with the output
channels first, ``w`` of shape (channels, ...). Channels that go together (see groups.py) get the mean over
their layers, each layer's numbers being divided by their mean first, or the first layer's.
"""
from contextlib import contextmanager

import mxnet as mx
import numpy as np
from mxnet import autograd
from mxnet.gluon.loss import SoftmaxCrossEntropyLoss

from ...errors import NetworkError
from ...network.data import check_finite_inputs, check_labels, go_through, inputs_and_label
from ...network.graph import Graph
from ...network.inputs import example_inputs
from ...network.misfits import call, shorten
from ...network.nodes import edited
from ...network.values import parameters


def l1(w):
    """``sum |w|``: Li et al., "Pruning Filters for Efficient ConvNets", 2017, section 3.1."""
    return np.abs(w.reshape(len(w), -1)).sum(axis=1, dtype=np.float64)


def l2(w):
    """``sqrt(sum w**2)``."""
    return np.sqrt((_rows(w) ** 2).sum(axis=1))


def fpgm(w):
    """``sum_j ||w_c - w_j||``, small near the geometric median: He et al., "FPGM", CVPR 2019, section 3.3, eq. 6."""
    rows = _rows(w)
    squares = (rows ** 2).sum(axis=1)
    distances = squares[:, None] + squares[None, :] - 2 * rows @ rows.T  # ||a||^2 + ||b||^2 - 2 a.b
    np.fill_diagonal(distances, 0)
    return np.sqrt(np.maximum(distances, 0)).sum(axis=1)


WEIGHT_CRITERIA = {"l1": l1, "l2": l2, "fpgm": fpgm}
CRITERIA = (*WEIGHT_CRITERIA, "bn_scale", "taylor", "random")


def _rows(w):
    return w.reshape(len(w), -1).astype(np.float64)


def unit_importance(net, dependencies, criterion, over, data=None, loss=None, seed=0):
    """``({group key: importance of each unit}, {group key: why it has none})``.

    ``criterion`` is one of ``CRITERIA`` or a function from a weight, output channels first, to one number per
    channel; ``over`` is "group" or "first". Raises ``NetworkError`` for weights that are not finite.
    """
    if criterion == "bn_scale":
        return _by_scale(net, dependencies, over)
    if criterion == "random":
        random = np.random.default_rng(seed)
        return {group.key: random.random(len(group.units)) for group in dependencies.groups}, {}
    if criterion == "taylor":
        return _taylor(net, dependencies, over, data, loss), {}
    function = WEIGHT_CRITERIA[criterion] if isinstance(criterion, str) else criterion
    named, of_layer = parameters(net), {}
    for layer in sorted({layer for group in dependencies.groups for layer in _ranked_by(group, over)}):
        producer = dependencies.producers[layer]
        of_layer[layer] = _checked(layer, function, _channels_first(producer, _finite(layer, named[producer.weight]),
                                                                    len(dependencies.channels[layer])))
    return {group.key: _mean_over([_per_unit(of_layer[layer], dependencies.channels[layer], group.units)
                                    for layer in _ranked_by(group, over)]) for group in dependencies.groups}, {}


def _ranked_by(group, over):
    return group.layers if over == "group" else group.layers[:1]


def _by_scale(net, dependencies, over):
    """``|gamma|`` of the BatchNorms behind: Liu et al., "Network Slimming", ICCV 2017, section 3."""
    named = parameters(net)
    found, missing = {}, {}
    for group in dependencies.groups:
        scales = [_per_unit(np.abs(_finite(name, named[name]).astype(np.float64)), units, group.units)
                  for name, units in dependencies.scales if np.isin(group.units, units).all()]
        if scales:
            found[group.key] = _mean_over(scales[:None if over == "group" else 1])
        else:
            missing[group.key] = "no BatchNorm with a scale behind it"
    return found, missing


def _taylor(net, dependencies, over, data, loss):
    """``(sum g * w)**2``, averaged over batches, ``g`` being the gradient of the loss.

    What the loss changes by, to first order, when the weights that make the unit become zero, in all its
    layers together: Molchanov et al., "Importance Estimation for Neural Network Pruning", CVPR 2019, eq. 8.
    The network computes as in inference. Each group's numbers are divided by their mean.
    """
    loss = _cross_entropy if loss is None else loss
    named, inference = parameters(net), None
    layers = sorted({layer for group in dependencies.groups for layer in _ranked_by(group, over)})
    weights = {layer: named[dependencies.producers[layer].weight] for layer in layers}
    context = next(iter(weights.values())).list_ctx()[0]
    totals = {group.key: 0.0 for group in dependencies.groups}
    with _own_gradients(net, list(weights.values())) as gradients:
        for batch in go_through(data, "data"):
            inputs, labels = inputs_and_label(batch, "data", net, context)
            inputs = example_inputs(inputs)
            check_finite_inputs(inputs, "data")
            if inference is None:
                graph = Graph(net, inputs)
                inference = _differentiable(graph)
            graph.output_shapes([array.shape for array in inputs])  # fails when they do not fit
            _backward(inference, loss, inputs, labels)
            changes = {layer: _change(layer, dependencies, weight, gradient)
                       for (layer, weight), gradient in zip(weights.items(), gradients)}
            for group in dependencies.groups:
                totals[group.key] += sum(_per_unit(changes[layer], dependencies.channels[layer], group.units)
                                          for layer in _ranked_by(group, over)) ** 2
    return {name: _mean_over([total]) for name, total in totals.items()}


def _differentiable(graph):
    """The network of ``graph`` in inference mode, for gradients, none of them sparse.

    MXNet's own inference mode will not do: max pooling keeps no record of its maxima there, and its gradient is
    then wrong without a word. So this runs in training mode, with what differs there switched off.
    """
    def edit(node):
        node.attributes.update(node.meaning.as_in_inference)
    return graph.block(edited(graph.symbol, edit))


def _backward(net, loss, inputs, labels):
    with autograd.record():
        outputs = call(net, inputs, "a batch of data")
        try:
            value = loss(outputs, labels)
        except mx.MXNetError as error:
            raise ValueError(f"the loss cannot be computed from the network's output and labels of shape "
                             f"{labels.shape}: {shorten(error)[:200]}") from None
        if not isinstance(value, mx.nd.NDArray):
            raise TypeError(f"the loss gives a {type(value).__name__}; accepted: an NDArray")
        value = value.mean()
    value.backward()


def _cross_entropy(outputs, labels):
    check_labels(labels, outputs)  # it would take the nearest class
    return SoftmaxCrossEntropyLoss()(outputs, labels)


def _change(layer, dependencies, weight, gradient):
    """``sum g * w`` of each output channel."""
    product = gradient.asnumpy() * _finite(layer, weight)
    channels = len(dependencies.channels[layer])
    change = _rows(_channels_first(dependencies.producers[layer], product, channels)).sum(axis=1)
    if not np.isfinite(change).all():
        raise NetworkError(f"layer {layer}: the gradients are not finite; look for NaN in weights and data")
    return change


@contextmanager
def _own_gradients(net, wanted):
    """Gradient arrays of ours for the parameters ``wanted``, on their first device.

    No other gradient is computed meanwhile, and the user's come back as they were.
    """
    every = list(parameters(net).values())
    arrays = [parameter.list_data()[0] for parameter in every]
    gradients = {id(parameter): mx.nd.zeros_like(array) for parameter, array in zip(every, arrays)
                 if any(parameter is other for other in wanted)}
    nothing = mx.nd.zeros(1)
    try:
        for parameter, array in zip(every, arrays):
            mine = id(parameter) in gradients
            autograd.mark_variables([array], [gradients.get(id(parameter), nothing)], "write" if mine else "null")
        yield [gradients[id(parameter)] for parameter in wanted]
    finally:
        for parameter, array in zip(every, arrays):
            if parameter.grad_req == "null":
                autograd.mark_variables([array], [nothing], "null")
            else:
                autograd.mark_variables(parameter.list_data(), parameter.list_grad(), parameter.grad_req)


def _finite(layer, parameter):
    value = parameter.list_data()[0].asnumpy()
    if not np.isfinite(value.sum()) and not np.isfinite(value).all():  # the sum is finite almost always, and faster
        raise NetworkError(f"layer {layer} has weights that are not finite; train or load the network again")
    return value


def _channels_first(producer, weight, channels):
    """The weight of a layer with its output channels, of which it has so many, on axis 0."""
    if producer.node.meaning.weight_channels == 0:
        return weight
    groups = channels // weight.shape[1]  # (groups * in, out, ...) -> (groups * out, in, ...)
    split = weight.reshape(groups, -1, *weight.shape[1:]).swapaxes(1, 2)
    return split.reshape(-1, *split.shape[2:])


def _checked(layer, function, weight):
    values = np.asarray(function(weight), np.float64)
    if values.shape != (len(weight),) or not np.isfinite(values).all():
        what = "numbers that are not finite" if values.shape == (len(weight),) else f"shape {values.shape}"
        raise ValueError(f"criterion gives {what} for layer {layer}; accepted: {len(weight)} finite numbers, "
                         f"one per output channel")
    return values


def _per_unit(values, channels, units):
    """Mean of ``values`` over the channels of each unit."""
    order = np.argsort(units)
    position = order[np.searchsorted(units, channels, sorter=order).clip(max=len(units) - 1)]
    mine = units[position] == channels
    count = np.bincount(position[mine], minlength=len(units))
    return np.bincount(position[mine], weights=values[mine], minlength=len(units)) / count


def _mean_over(rows):
    """Mean of rows that are divided by the mean of their own magnitudes first."""
    return np.mean([row / (np.abs(row).mean() or 1.0) for row in rows], axis=0)
