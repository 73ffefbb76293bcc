"""What a layer's weights should be where the layers before it are rounded: those that give the old outputs.

With ``x`` what a layer reads, a row for each place of each sample and a last column of ones for the bias, and ``y``
what it reads once the layers before it are rounded, the change ``D`` of its weights and bias ``W`` minimizes

    |(W + D) y^T - W x^T|^2 + |D damping^(1/2)|^2,    so that    D (y^T y + damping) = W (x - y)^T y

with damping = DAMPING diag(y^T y) + LEAST mean(diag(y^T y)). It is rounded after that (asymmetric calibration: Li et
al., "GPTAQ", 2025), still by what the outputs make of ``x``. The equations are solved by conjugate gradients (Hestenes
and Stiefel, 1952), in which a pruned weight simply stays zero.
"""
from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np

from ...network.blocks import block_of
from ...network.nodes import in_order
from ..calibration.observing import run
from ..integers.inference_graph import InferenceGraph
from .curvature import unfolded

__all__ = ["reconstructed", "solved"]

DAMPING, LEAST = 0.1, 1e-3  # few samples tell little of directions in which inputs hardly vary
FEWEST_ROWS, ROWS = 2, 12  # for each input of a layer: with fewer it stays as it is; and no more than needed
FEWEST = 128  # samples that the rows come from at least, however many rows each has
TOGETHER = 4096  # rows, at least, that are multiplied at once
STEPS = 30  # of the conjugate gradients
LEAST_OCTAVE = -60  # of what a layer reads, as 2^60 is a number in single precision


def reconstructed(inference: InferenceGraph, name: str, values: dict[str, np.ndarray], rounded: dict[str, np.ndarray],
                  batches: list[Any]) -> dict[str, np.ndarray]:
    """{parameter: float32 array} of a layer's weight, and its bias if it has one; nothing where samples are too few.

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
    weight, shift = inference.weights[name], inference.shifts.get(name)
    matrix = values[weight].reshape(len(values[weight]), -1)
    free = matrix != 0
    if shift is not None:
        matrix = np.concatenate([matrix, values[shift][:, None]], axis=1)
        free = np.concatenate([free, np.ones((len(free), 1), bool)], axis=1)
    squares, wanted, rows, unit = np.zeros((matrix.shape[1],) * 2), np.zeros(matrix.shape), 0, LEAST_OCTAVE
    for before, now in _pairs_of_rows(inference, name, values, rounded, batches):
        octave = int(np.frexp(np.abs(now).max())[1])
        if octave > unit:  # the sums are of what was divided by 2^unit, as single precision has no squares of 1e20
            squares, wanted, unit = squares * 4.0 ** (unit - octave), wanted * 4.0 ** (unit - octave), octave
        before, now = (rows_of * np.float32(2.0 ** -unit) for rows_of in (before, now))
        squares += now.T @ now
        wanted += ((before - now) @ matrix.T).T @ now
        rows += len(now)
    if rows < FEWEST_ROWS * matrix.shape[1]:
        return {}
    mean = max(np.diag(squares).mean(), np.finfo(float).tiny)  # so that single precision does for the solution
    squares, wanted = squares / mean, wanted / mean
    damping = DAMPING * np.diag(squares) + LEAST
    found = (matrix + solved(squares + np.diag(damping), wanted, free)).astype(np.float32)
    if shift is None:
        return {weight: found.reshape(values[weight].shape)}
    return {weight: found[:, :-1].reshape(values[weight].shape), shift: found[:, -1]}


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


def _pairs_of_rows(inference: InferenceGraph, name: str, values: dict[str, np.ndarray],
                   rounded: dict[str, np.ndarray], batches: list[Any]) -> Iterator[tuple[np.ndarray, ...]]:
    """What a layer reads in both networks, some rows of each at a time, until there are as many as it needs."""
    layer, with_ones = inference.layers[name], name in inference.shifts
    read = {node.name for node in in_order([layer.inputs[0]])}
    places = [place for place, each in enumerate(inference.inputs) if each in read]
    names = [inference.inputs[place] for place in places]
    networks = [block_of([layer.inputs[0]], names, dict(each)) for each in (values, rounded)]
    samples, rows, waiting = 0, 0, []
    for number, inputs in enumerate(batches):
        own = tuple(inputs[place] for place in places)
        pair = [_rows(unfolded(layer, run(net, own, names, number)[0]), with_ones) for net in networks]
        waiting.append(pair)
        samples, rows = samples + len(inputs[0]), rows + len(pair[0])
        enough = samples >= FEWEST and rows >= ROWS * pair[0].shape[1]
        if enough or sum(len(before) for before, _ in waiting) >= TOGETHER:
            yield tuple(map(np.concatenate, zip(*waiting)))
            waiting = []
        if enough:
            return
    if waiting:
        yield tuple(map(np.concatenate, zip(*waiting)))


def _rows(unfolded_inputs: np.ndarray, with_ones: bool) -> np.ndarray:
    """(samples, inputs, places) as (samples x places, inputs), with a column of ones for a bias."""
    rows = unfolded_inputs.transpose(0, 2, 1).reshape(-1, unfolded_inputs.shape[1])
    return np.concatenate([rows, np.ones((len(rows), 1), np.float32)], axis=1) if with_ones else rows
