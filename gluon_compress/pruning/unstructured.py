"""Unstructured pruning: single weights set to zero, wherever they are.

The network keeps its shapes: it gets smaller on disk (see :func:`gluon_compress.save`), not faster.
"""
import numpy as np

from ..arguments import check_choice, check_number
from ..network import CONVOLUTIONS, select_layers
from .masks import Masks

PRUNABLE = (*CONVOLUTIONS, "Dense")


def prune_threshold(net, threshold, select=None):
    """Set the weights with ``|w| <= threshold`` to zero: the first article's technique, for weights only.

    Biases and BatchNorm parameters are never touched. Whether the survivors go on training is yours to
    choose: ``masks.freeze(net)`` stops the layers, :class:`MaskedTrainer` trains what is left of them.

    Parameters
    ----------
    net : HybridBlock
        Changed in place.
    threshold : float
        Absolute, in units of the weights; at least 0.
    select : layer class, name, function, or list of these
        Which layers; by default the convolutions, as in the article.

    Returns
    -------
    Masks

    Raises
    ------
    ValueError
        For a threshold that is negative or that would leave a layer without weights.
    """
    check_number("threshold", threshold, minimum=0)
    chosen, left_out = select_layers(net, select, default=CONVOLUTIONS)
    kept = {layer.parameter_name: np.abs(layer.value()) > threshold for layer in chosen}
    for layer in chosen:
        if not kept[layer.parameter_name].any():
            raise ValueError(f"threshold={threshold} would leave layer {layer.name} without weights: "
                             f"its largest is {np.abs(layer.value()).max():.6g}")
    return _prune(net, kept, left_out)


def prune_magnitude(net, sparsity, norm=1, scope="layer", select=None):
    """Set the smallest weights to zero, a given fraction of them.

    Weights that are zero already count, so calling this again with a higher sparsity prunes further.

    Parameters
    ----------
    net : HybridBlock
        Changed in place.
    sparsity : float
        Fraction of zeros wanted, in [0, 1); of each layer, or of all selected layers together.
    norm : 1 or 2
        ``|w|`` or ``w**2``. For single weights both give the same order, hence the same masks; norms
        differ only where they sum over several weights, as in :func:`prune_channels`.
    scope : "layer" or "global"
        "layer" makes every layer equally sparse; "global" compares the weights of all layers.
    select : layer class, name, function, or list of these
        Which layers; by default convolutions and dense layers.

    Returns
    -------
    Masks

    Raises
    ------
    ValueError
        For a sparsity out of range, or one that would leave a layer without weights.

    Han et al., "Learning both Weights and Connections for Efficient Neural Networks", 2015, section 3.
    """
    check_number("sparsity", sparsity, minimum=0, below=1)
    check_choice("norm", norm, (1, 2))
    check_choice("scope", scope, ("layer", "global"))
    chosen, left_out = select_layers(net, select, default=PRUNABLE)
    # whatever the norm: w**2 puts the weights in the same order, but for those it rounds to zero
    importance = {layer.parameter_name: np.abs(layer.value()) for layer in chosen}
    if scope == "layer":
        kept = {name: _keep_largest(values, sparsity) for name, values in importance.items()}
    else:
        together = _keep_largest(np.concatenate([values.ravel() for values in importance.values()]), sparsity)
        ends = np.cumsum([values.size for values in importance.values()])[:-1]
        kept = {name: mask.reshape(values.shape)
                for (name, values), mask in zip(importance.items(), np.split(together, ends))}
    for layer in chosen:
        if not kept[layer.parameter_name].any():
            raise ValueError(f"sparsity={sparsity} with scope={scope!r} would leave layer {layer.name} "
                             f"({layer.weight.shape}) without weights; lower it or leave the layer out")
    return _prune(net, kept, left_out)


def _keep_largest(importance, sparsity):
    """True for all but the ``round(sparsity * size)`` smallest values."""
    pruned = round(sparsity * importance.size)
    kept = np.ones(importance.size, dtype=bool)
    if pruned:
        kept[np.argpartition(importance, pruned - 1, axis=None)[:pruned]] = False
    return kept.reshape(importance.shape)


def _prune(net, kept, left_out):
    masks = Masks(kept, left_out)
    masks.apply(net)
    return masks
