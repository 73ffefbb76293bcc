"""How the outputs of a network change when the weights of a layer do: from inputs alone, without labels.

The outputs' square error is, for small changes D of a layer's weights (outputs x inputs), with a random direction v
of what counts of the outputs, and Gamma = d(v . outputs) / dW of one sample,

    E (v . change)^2 = E <Gamma, D>^2  ~  tr(G D M D^T)
    with M = E Gamma^T Gamma, G = E Gamma Gamma^T / E |Gamma|^2

the Kronecker factors of Gupta et al., "Shampoo", 2018, as Tseng et al., "YAQA", 2025, round with. With the bias as one
more input M tells also which bias makes up best for an error. Convolutions add the gradients of all their places
before they are squared, so that errors that agree from place to place count for what they do.
"""
from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import mxnet as mx
import numpy as np
from mxnet import autograd

from ...errors import NetworkError
from ...network.blocks import block_of
from ...network.nodes import Entry, Node, in_order, written
from ...tables import progress_bar
from ..calibration.observing import run
from ..integers.inference_graph import InferenceGraph

OUTPUTS = ("logits", "values")
SIGNS = np.array([-1, 1], np.float32)
PER_INPUT = 24  # gradients of a row, of random sums of rows, for each input of a layer at least
PROBES = 8  # random sums of columns


@dataclass
class Curvature:
    """Of one layer with ``outputs x inputs`` weights.

    Attributes
    ----------
    moments : float64 array (inputs + 1, inputs + 1)
        M, the last row and column of the bias.
    of_outputs : float64 array (outputs, outputs)
        G, of trace 1 until channels are rescaled.
    """

    moments: np.ndarray
    of_outputs: np.ndarray

    def error(self, lost: np.ndarray) -> float:
        """The outputs' mean square error of a layer's weights that lost this (outputs, ...), with the best bias."""
        rows = lost.reshape(len(lost), -1)
        return float(((self.of_outputs @ rows) * (rows @ self.moments_with_best_bias)).sum())

    @cached_property
    def moments_with_best_bias(self) -> np.ndarray:
        bias = self.moments[:-1, -1]
        return self.moments[:-1, :-1] - np.outer(bias, bias) / max(self.moments[-1, -1], np.finfo(float).tiny)


def curvatures(inference: InferenceGraph, values: dict[str, np.ndarray], names: list[str], batches: list[Any],
               seed: int, progress: bool, outputs: str) -> tuple[dict[str, Curvature], float]:
    """``({layer: Curvature}, mean square of the outputs)`` of the layers ``names`` of an inference graph.

    ``outputs`` is one of OUTPUTS, see :func:`what_counts`.
    """
    rng, count = np.random.default_rng(seed), sum(len(inputs[0]) for inputs in batches)
    layers = [inference.layers[name] for name in names]
    entries, changes = with_changes(inference, layers)
    changed = block_of(entries, [*inference.inputs, *changes], dict(values))
    plain = block_of([layer.inputs[0] for layer in layers], inference.inputs, dict(values))
    sums: dict[str, list[Any]] = {name: [0, 0] for name in names}
    energy = 0.0
    for number, inputs in enumerate(progress_bar(batches, progress, desc="gradients", unit="batch")):
        read = run(plain, inputs, inference.inputs, number)
        gradients, square = _gradients(changed, inputs, layers, rng, outputs)
        energy += square
        for name, layer, data, gradient in zip(names, layers, read, gradients):
            for place, part in enumerate(_of_batch(unfolded(layer, data), gradient, count, rng)):
                _check_products(name, data, gradient, part)
                sums[name][place] += part
    found = {name: Curvature(moments / count, of_outputs / max(np.trace(of_outputs), np.finfo(float).tiny))
             for name, (moments, of_outputs) in sums.items()}
    return found, energy / count


def with_changes(inference: InferenceGraph, layers: list[Node]) -> tuple[list[Entry], list[str]]:
    """The outputs of a copy of the graph in which something is added to what each layer puts out, and its names."""
    copies: dict[Entry, Entry] = {}
    changes: dict[Node, str] = {layer: f"change of {layer.name}" for layer in layers}
    for node in in_order(inference.outputs):
        copy = Node(node.name, node.operator, {**node.attributes, **node.meaning.as_in_inference}, node.shapes,
                    node.parameter, node.constant, [copies[source] for source in node.inputs], node.subgraphs)
        copies.update(((node, output), (copy, output)) for output in range(len(node.shapes)))
        if node in changes:
            change = Node(changes[node], "null")
            copies[node, 0] = written("elemwise_add", f"{node.name} and its change", (copy, 0), (change, 0)), 0
    return [copies[output] for output in inference.outputs], list(changes.values())


def unfolded(layer: Node, data: np.ndarray) -> np.ndarray:
    """What a layer multiplies its weights with: (samples, inputs, places)."""
    if layer.kind == "Dense":
        return data.reshape(len(data), -1, 1)
    settings = {name: layer.get(name) or default for name, default in (("stride", (1, 1)), ("dilate", (1, 1)),
                                                                      ("pad", (0, 0)))}
    return mx.nd.im2col(mx.nd.array(data), kernel=layer.get("kernel"), **settings).asnumpy()


def _gradients(net: Any, inputs: tuple[Any, ...], layers: list[Node], rng: np.random.Generator,
               outputs: str) -> tuple[Iterator[np.ndarray], float]:
    """Of a random direction of what counts: (samples, outputs, places) for each layer; and the square of it."""
    changes = [mx.nd.zeros((len(inputs[0]), *layer.shapes[0][1:])) for layer in layers]
    for change in changes:
        change.attach_grad()
    square, total = 0.0, mx.nd.zeros(1)
    with autograd.record():
        found = net(*inputs, *changes)
        for output in found if isinstance(found, (list, tuple)) else [found]:
            direction = what_counts(rng.normal(size=output.shape), outputs)
            square += float(np.square(what_counts(output.detach().asnumpy().astype(np.float64), outputs)).sum())
            total = (output * mx.nd.array(direction)).sum() + total
    total.backward()
    return (change.grad.asnumpy().reshape(len(change), change.shape[1], -1) for change in changes), square


def what_counts(output: np.ndarray, outputs: str) -> np.ndarray:
    """Of "logits" (samples, classes) what softmax sees, each sample's less their mean; of everything else, all."""
    if outputs == "logits" and output.ndim == 2 and output.shape[1] > 1:
        return output - output.mean(axis=1, keepdims=True)
    return output


def _check_products(name: str, data: np.ndarray, gradient: np.ndarray, products: np.ndarray) -> None:
    """``NetworkError`` where squares and products of what a layer reads and of gradients leave single precision."""
    if not np.isfinite(np.diag(products)).all():  # none of the others is larger
        raise NetworkError(
            f"layer {name!r} reads values up to {np.abs(data).max():.3g} on the calibration data, and an output "
            f"changes by up to {np.abs(gradient).max():.3g} times what one of its outputs does; accepted: a product "
            f"of the two up to about 1e15, as its square has to fit into float32")


def _of_batch(data: np.ndarray, gradient: np.ndarray, count: int,
              rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
    """Sums over a batch: Gamma^T Gamma by random sums of its rows, and Gamma Gamma^T by random sums of its columns."""
    inputs, outputs = data.shape[1], gradient.shape[1]
    data = np.concatenate([data, np.ones((len(data), 1, data.shape[2]), np.float32)], axis=1)
    sums = min(-(-PER_INPUT * inputs // count), outputs)
    signs = rng.choice(SIGNS, (sums, outputs))
    probes = rng.choice(SIGNS, (PROBES, inputs))
    with np.errstate(over="ignore", invalid="ignore"):  # see _check_products
        rows = np.matmul(np.matmul(signs, gradient), data.transpose(0, 2, 1)).reshape(-1, inputs + 1)
        columns = np.matmul(np.matmul(probes, data[:, :-1]), gradient.transpose(0, 2, 1)).reshape(-1, outputs)
        return (rows.T @ rows).astype(np.float64) / sums, (columns.T @ columns).astype(np.float64) / PROBES
