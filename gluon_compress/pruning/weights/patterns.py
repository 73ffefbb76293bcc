"""N:M patterns: at most N of every M consecutive weights are not zero, which some hardware can use."""
from __future__ import annotations

from typing import Any

import numpy as np
from mxnet.gluon import HybridBlock

from ...arguments import check_integer
from ...network.layer import CONVOLUTIONS, Layer, Which, select_layers
from .importance import weight_criterion
from .magnitude import PRUNABLE, check_none_emptied
from .masks import Masks


def prune_n_m(net: HybridBlock, n: int = 2, m: int = 4, select: Which = None, exclude: Which = (),
              criterion: Any = None) -> Masks:
    """Keep the ``n`` largest of every ``m`` consecutive weights along the input axis.

    The input axis is the one over which a layer sums to make an output: that of the input channels in a
    convolution ``(out, in, height, width)``, so that the ``m`` weights share a position in the kernel; axis
    0 in a transposed convolution ``(in, out, height, width)``; axis 1 in a dense layer ``(units, in)``. The first
    ``m`` weights start at index 0.

    Parameters
    ----------
    net : HybridBlock
        Changed in place.
    n, m : int
        1 <= n <= m.
    select, exclude : name, kind, class or function of layers, or several of these
        Which layers to prune, and which not; see :func:`~gluon_compress.network.select_layers`. By default those
        convolutions and dense layers whose input axis is a multiple of ``m``. The others are named in ``left_out``;
        one that was selected is an error.
    criterion : str, dict, function or criterion, optional
        As for :func:`prune_magnitude`.

    Weights that are zero count as pruned and stay so. Of weights with equal importance, the first go first.

    Returns
    -------
    Masks

    Raises
    ------
    TypeError, ValueError
        For numbers out of range, a selected layer that cannot have the pattern, when no layer can, and when one would
        be left without weights.
    NetworkError
        For weights that are not finite.

    Mishra et al., "Accelerating Sparse Deep Neural Networks", 2021, section 3 (2:4).
    """
    check_integer("m", m, minimum=1)
    check_integer("n", n, minimum=1, maximum=m)
    chosen, left_out = select_layers(net, select, exclude, PRUNABLE)
    obstacles = {layer.name: _obstacle(layer, m) for layer in chosen}
    obstacles = {name: reason for name, reason in obstacles.items() if reason}
    if obstacles and (select is not None or len(obstacles) == len(chosen)):
        raise ValueError("; ".join(f"layer {name} cannot be {n}:{m} sparse: {reason}"
                                   for name, reason in obstacles.items()))
    chosen = [layer for layer in chosen if layer.name not in obstacles]
    scores = weight_criterion(criterion).of_weights(net, chosen)
    kept = {layer.parameter_name: _largest_of_each(scores[layer.parameter_name], layer.value() == 0,
                                                   input_axis(layer), n, m) for layer in chosen}
    check_none_emptied(chosen, kept, f"the {n}:{m} pattern")
    masks = Masks(kept, {**left_out, **obstacles})
    masks.apply(net)
    return masks


def input_axis(layer: Layer) -> int | None:
    """Axis of the layer's weight over which it sums its inputs; None for a layer of unknown kind."""
    if layer.kind == "Dense":
        return 1
    if layer.kind not in CONVOLUTIONS:
        return None
    if layer.kind.endswith("Transpose"):
        return 0
    return -1 if (layer.layout or "NCHW").endswith("C") else 1


def _obstacle(layer: Layer, m: int) -> str | None:
    axis = input_axis(layer)
    if axis is None:
        return f"{layer.kind}, whose input axis is not known"
    inputs = layer.value().shape[axis]
    return f"its {inputs} inputs are not a multiple of {m}" if inputs % m else None


def _largest_of_each(scores: np.ndarray, pruned: np.ndarray, axis: Any, n: int, m: int) -> np.ndarray:
    """True for the ``n`` highest of every ``m`` scores along ``axis``, except those that were pruned before."""
    scores = np.moveaxis(np.where(pruned, -np.inf, scores), axis, -1)
    blocks = scores.reshape(-1, m)
    kept = np.ones(blocks.shape, dtype=bool)
    np.put_along_axis(kept, np.argsort(blocks, axis=1, kind="stable")[:, :m - n], False, axis=1)
    return np.moveaxis(kept.reshape(scores.shape), -1, axis) & ~pruned
