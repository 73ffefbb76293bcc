"""Gradients of a loss over batches of data, in inference, with the user's own gradients left as they are."""
from __future__ import annotations

from collections.abc import Callable, Generator, Iterable, Iterator
from contextlib import contextmanager
from typing import Any

import mxnet as mx
from mxnet import autograd
from mxnet.gluon import HybridBlock, Parameter
from mxnet.gluon.loss import SoftmaxCrossEntropyLoss

from ...arguments import shown
from ...network.data import check_finite_inputs, check_labels, go_through, inputs_and_label
from ...network.graph import Graph
from ...network.inputs import example_inputs
from ...network.interface import CLASSIC, interface_of_array
from ...network.misfits import call, shorten
from ...network.nodes import Node, edited
from ...network.values import interface_of, parameters


def gradients_of_batches(net: HybridBlock, wanted: list[Parameter], data: Iterable[Any],
                         loss: Callable[..., Any] | None) -> Generator[list[mx.nd.NDArray], None, None]:
    """The gradients of the parameters ``wanted``, batch after batch; close it to give the user's gradients back.

    ``loss(output, label)`` is by default the cross entropy of logits. The arrays are the same for all batches.
    """
    context, inference = wanted[0].list_ctx()[0], None
    with _own_gradients(net, wanted) as gradients:
        for batch in go_through(data, "data"):
            inputs, labels = inputs_and_label(batch, "data", net, context)
            inputs = example_inputs(inputs)
            check_finite_inputs(inputs, "data")
            if inference is None:
                graph = Graph(net, inputs)
                inference = _differentiable(graph)
            graph.output_shapes([array.shape for array in inputs])  # fails when they do not fit
            with interface_of(net).active():
                _backward(inference, _cross_entropy if loss is None else loss, inputs, labels)
            yield gradients


def _differentiable(graph: Graph) -> HybridBlock:
    """The network of ``graph`` in inference mode, for gradients, none of them sparse.

    MXNet's own inference mode will not do: max pooling keeps no record of its maxima there, and its gradient is
    then silently wrong. So this runs in training mode, with what differs there switched off.
    """
    def edit(node: Node) -> None:
        node.attributes.update(node.meaning.as_in_inference)
    return graph.block(edited(graph.symbol, edit))


def _backward(net: HybridBlock, loss: Callable[..., Any], inputs: Any, labels: mx.nd.NDArray) -> None:
    with autograd.record():
        outputs = interface_of_array(labels).own(call(net, inputs, "a batch of data"))
        try:
            value = loss(outputs, labels)
        except mx.MXNetError as error:
            raise ValueError(f"the loss cannot be computed from the network's output and labels of shape "
                             f"{labels.shape}: {shorten(error)[:200]}") from None
        if not isinstance(value, mx.nd.NDArray):
            raise TypeError(f"the loss gives {shown(value)}; accepted: an NDArray")
        CLASSIC.own(value).mean().backward()


def _cross_entropy(outputs: mx.nd.NDArray, labels: mx.nd.NDArray) -> mx.nd.NDArray:
    check_labels(labels, outputs)  # it would take the nearest class
    return SoftmaxCrossEntropyLoss()(outputs, labels)


@contextmanager
def _own_gradients(net: HybridBlock, wanted: list[Parameter]) -> Iterator[list[mx.nd.NDArray]]:
    """New gradient arrays for the parameters ``wanted``, on their first device.

    No other gradient is computed meanwhile, and the user's come back as they were.
    """
    everything = list(parameters(net).values())
    arrays = [parameter.list_data()[0] for parameter in everything]
    gradients = {id(parameter): mx.nd.zeros_like(CLASSIC.own(array)) for parameter, array in zip(everything, arrays)
                 if any(parameter is other for other in wanted)}
    nothing = mx.nd.zeros(1)
    try:
        for parameter, array in zip(everything, arrays):
            request = "write" if id(parameter) in gradients else "null"
            autograd.mark_variables([array], [gradients.get(id(parameter), nothing)], request)
        yield [gradients[id(parameter)] for parameter in wanted]
    finally:
        for parameter, array in zip(everything, arrays):
            if parameter.grad_req == "null":
                autograd.mark_variables([array], [nothing], "null")
            else:
                autograd.mark_variables(parameter.list_data(), parameter.list_grad(), parameter.grad_req)
