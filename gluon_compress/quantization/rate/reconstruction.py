"""What a layer's weights should be where the layers before it are rounded: those that give the old outputs.

With ``x`` what a layer reads, a row for each place of each sample and a last column of ones for the bias, and ``y``
what it reads once the layers before it are rounded, the change ``D`` of its weights and bias ``W`` minimizes

    |(W + D) y^T - W x^T|^2 + DAMPING D diag(y^T y) D^T,    so that    D (y^T y + damping) = W (x - y)^T y

It is rounded after that (asymmetric calibration: Li et al., "GPTAQ", 2025). The equations are solved by conjugate
gradients (Hestenes and Stiefel, 1952), in which a pruned weight simply stays zero.
"""
from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np

from ...network.blocks import block_of
from ...network.nodes import Node
from ..calibration.observing import run
from ..integers.inference_graph import InferenceGraph
from .curvature import unfolded

__all__ = ["reconstructed", "solved"]

DAMPING = 0.1  # a share of the diagonal: few samples tell little of directions in which inputs hardly vary
LEAST = 1e-3  # of the mean of the diagonal, which is added as well
PER_INPUT = 12  # rows for each input of a layer
FEWEST = 128  # samples, of which the rows are
TOGETHER = 4096  # rows, at least, that are multiplied at once
STEPS = 30  # of the conjugate gradients


def reconstructed(inference: InferenceGraph, name: str, values: dict[str, np.ndarray], rounded: dict[str, np.ndarray],
                  batches: list[Any]) -> dict[str, np.ndarray]:
    """{parameter: float32 array} of a layer's weight, and of its bias if it has one.

    Parameters
    ----------
    inference : InferenceGraph
        Its layer ``name`` is a convolution without groups or a dense layer.
    values : dict
        Of all parameters, before rounding.
    rounded : dict
        As ``values``, with the layers before this one rounded.
    batches : list
        Inputs of the network. Only the first are run, as many as the layer needs.
    """
    layer, weight, shift = inference.layers[name], inference.weights[name], inference.shifts.get(name)
    matrix = values[weight].reshape(len(values[weight]), -1)
    free = matrix != 0
    if shift is not None:
        matrix = np.concatenate([matrix, values[shift][:, None]], axis=1)
        free = np.concatenate([free, np.ones((len(free), 1), bool)], axis=1)
    squares, wanted = np.zeros((matrix.shape[1],) * 2), np.zeros(matrix.shape)
    networks = [block_of([layer.inputs[0]], inference.inputs, dict(each)) for each in (values, rounded)]
    for before, now in _pairs_of_rows(networks, inference, layer, shift is not None, batches):
        squares += now.T @ now
        wanted += ((before - now) @ matrix.T).T @ now
    unit = max(np.diag(squares).mean(), np.finfo(float).tiny)
    squares, wanted = squares / unit, wanted / unit
    damping = DAMPING * np.diag(squares) + LEAST
    found = matrix + solved(squares + np.diag(damping), wanted, free)
    made = {weight: found[:, :free.shape[1] - (shift is not None)].reshape(values[weight].shape)}
    if shift is not None:
        made[shift] = found[:, -1]
    return {key: value.astype(np.float32) for key, value in made.items()}


def solved(squares: np.ndarray, wanted: np.ndarray, free: np.ndarray) -> np.ndarray:
    """``D`` with ``D squares = wanted`` where entries are ``free``, and zero elsewhere.

    Parameters
    ----------
    squares : array (inputs, inputs)
        Symmetric and positive definite.
    wanted : array (rows, inputs)
    free : bool array (rows, inputs)

    By conjugate gradients, one for each row, all in step; with the diagonal as the preconditioner.
    """
    squares, scale = squares.astype(np.float32), 1 / np.diag(squares).astype(np.float32)
    found, left = np.zeros(wanted.shape, np.float32), np.where(free, wanted, 0).astype(np.float32)
    direction, size = left * scale, _products(left, left * scale)
    for _ in range(STEPS):
        image = np.where(free, direction @ squares, 0)
        length = size / np.maximum(_products(direction, image), np.finfo(np.float32).tiny)
        found += length * direction
        left -= length * image
        before, size = size, _products(left, left * scale)
        direction = left * scale + size / np.maximum(before, np.finfo(np.float32).tiny) * direction
    return found


def _products(first: np.ndarray, second: np.ndarray) -> np.ndarray:
    """Of each row, as a column."""
    return (first * second).sum(axis=1, keepdims=True)


def _pairs_of_rows(networks: list[Any], inference: InferenceGraph, layer: Node, with_ones: bool,
                   batches: list[Any]) -> Iterator[tuple[np.ndarray, ...]]:
    """What a layer reads in two networks, some rows of each at a time, until there are as many as it needs."""
    samples, rows, waiting = 0, 0, []
    for number, inputs in enumerate(batches):
        pair = [_rows(unfolded(layer, run(net, inputs, inference.inputs, number)[0]), with_ones) for net in networks]
        waiting.append(pair)
        samples, rows = samples + len(inputs[0]), rows + len(pair[0])
        enough = samples >= FEWEST and rows >= PER_INPUT * pair[0].shape[1]
        if enough or inputs is batches[-1] or sum(len(before) for before, _ in waiting) >= TOGETHER:
            yield tuple(map(np.concatenate, zip(*waiting)))
            waiting = []
        if enough:
            return


def _rows(unfolded_inputs: np.ndarray, with_ones: bool) -> np.ndarray:
    """(samples, inputs, places) as (samples x places, inputs), with a column of ones for a bias."""
    rows = unfolded_inputs.transpose(0, 2, 1).reshape(-1, unfolded_inputs.shape[1])
    return np.concatenate([rows, np.ones((len(rows), 1), np.float32)], axis=1) if with_ones else rows
