"""Unstructured pruning: single weights set to zero, wherever they are.

The network keeps its shapes: it gets smaller on disk (see :func:`gluon_compress.save`), not faster.
"""
from __future__ import annotations

from collections.abc import Mapping
from numbers import Integral
from typing import Any

import numpy as np
from mxnet.gluon import HybridBlock

from ...arguments import check_choice, check_integer, check_number
from ...network.layer import CONVOLUTIONS, Layer, Which, layer_name, layers, select_layers
from ...network.values import parameters
from ..criteria import Random
from .given import by_parameter_name, finite_array, of_single_layers
from .importance import weight_criterion
from .masks import Masks

PRUNABLE = (*CONVOLUTIONS, "Dense")


class LayerEmptied(ValueError):
    """A layer would be left without weights."""


def prune_threshold(net: HybridBlock, threshold: float, select: Which = None, exclude: Which = ()) -> Masks:
    """Set the weights with ``|w| <= threshold`` to zero: the first article's technique, for weights only.

    Biases and BatchNorm parameters are never touched. Whether the survivors go on training is yours to
    choose: ``masks.freeze(net)`` stops the layers, :class:`MaskedTrainer` trains what is left of them.

    Parameters
    ----------
    net : HybridBlock
        Changed in place.
    threshold : float
        Absolute, in units of the weights; at least 0.
    select, exclude : name, kind, class or function of layers, or several of these
        Which layers to prune, and which not; see :func:`~gluon_compress.network.select_layers`. By default the
        convolutions, as in the article.

    Returns
    -------
    Masks

    Raises
    ------
    ValueError
        For a threshold that is negative or that would leave a layer without weights.
    NetworkError
        For weights that are not finite.
    """
    check_number("threshold", threshold, minimum=0)
    chosen, left_out = select_layers(net, select, exclude, CONVOLUTIONS)
    kept = {layer.parameter_name: np.abs(layer.value()) > threshold for layer in chosen}
    for layer in chosen:
        if not kept[layer.parameter_name].any():
            raise LayerEmptied(f"threshold={threshold} would leave layer {layer.name} without weights: "
                               f"its largest is {np.abs(layer.value()).max():.6g}")
    return _applied(Masks(kept, left_out), net)


def prune_magnitude(net: HybridBlock, sparsity: float | Mapping[str, float] | None = None, norm: int = 1,
                    scope: str = "layer", select: Which = None, exclude: Which = (), amount: float | None = None,
                    masks: Masks | None = None, criterion: Any = None) -> Masks:
    """Set the smallest weights to zero: down to a sparsity, or an amount of those that remain.

    Pruning again prunes further. ``sparsity`` says how many weights are zero in the end, including those that
    were before; ``amount`` says how many more go, of those that remain. On the same weights, the masks equal those
    of ``torch.nn.utils.prune.l1_unstructured`` and ``global_unstructured`` with the same ``amount``.

    >>> masks = prune_magnitude(net, 0.8)                          # 80 % zeros in each layer
    >>> masks = prune_magnitude(net, amount=0.2)                   # a fifth of the other 20 %: 84 % zeros
    >>> masks = prune_magnitude(net, {"conv.0": 0.5, "output": 0.9})  # these layers only
    >>> masks = prune_magnitude(net, amount=10, scope="global")    # ten weights more

    Parameters
    ----------
    net : HybridBlock
        Changed in place.
    sparsity : float or dict
        Fraction of zeros wanted, in [0, 1); of each layer, or of all selected layers together. Or {layer or
        parameter name: fraction}, for instance the ``ratios`` of :func:`measure_sensitivity`; it selects the layers
        itself.
        Either this or ``amount``.
    norm : 1 or 2
        ``|w|`` or ``w**2``. For single weights both give the same order, hence the same masks; norms
        differ only where they sum over several weights, as in :func:`prune_channels`.
    scope : "layer" or "global"
        "layer" makes every layer equally sparse; "global" compares the weights of all layers.
    select, exclude : name, kind, class or function of layers, or several of these
        Which layers to prune, and which not; see :func:`~gluon_compress.network.select_layers`. By default
        convolutions and dense layers.
    amount : int or float
        How many of the remaining weights to prune, of each layer or of all together: an integer is a number of
        weights, a float in [0, 1] a fraction. ``1`` is one weight, ``1.0`` all of them.
    masks : Masks
        What was pruned earlier; it stays pruned, and is part of the result. Without it, the weights that are
        zero are the pruned ones; with it, a weight that is zero by chance remains (as in PyTorch).
    criterion : str, dict, function or criterion, optional
        What to go by instead of ``|w|``: ``{layer or parameter name: array of the weight's shape}`` with an
        entry for each selected layer; ``criterion(layer)`` giving such an array, for instance
        ``lambda layer: (layer.weight.data() * layer.weight.grad()).abs()``; or :class:`Random(seed) <Random>`. The
        lowest go first, those pruned before first of all; ``norm`` is not used. (PyTorch goes by the absolute value
        of given importances: the same unless one is negative.)

    Of weights with equal importance, the first in the array go first.

    Returns
    -------
    Masks

    Raises
    ------
    TypeError, ValueError
        For a quantity out of range or larger than what remains, one that would leave a layer without weights, an
        importance that is missing, of another shape or not finite.
    NetworkError
        For weights that are not finite.
    RecordError
        For ``masks`` of another network.

    Han et al., "Learning both Weights and Connections for Efficient Neural Networks", 2015, section 3.
    """
    return _applied(magnitude_masks(net, sparsity, norm, scope, select, exclude, amount, masks, criterion), net)


def magnitude_masks(net: HybridBlock, sparsity: float | Mapping[str, float] | None = None, norm: int = 1,
                    scope: str = "layer", select: Which = None, exclude: Which = (), amount: float | None = None,
                    masks: Masks | None = None, criterion: Any = None) -> Masks:
    """The masks of :func:`prune_magnitude`, with ``net`` unchanged."""
    _check_quantity(sparsity, amount)
    check_choice("norm", norm, (1, 2))
    if isinstance(sparsity, Mapping):
        sparsity, chosen, left_out = _of_single_layers(net, sparsity, scope, select, exclude)
    else:
        chosen, left_out = select_layers(net, select, exclude, PRUNABLE)
    # whatever the norm: w**2 puts the weights in the same order, but for those it rounds to zero
    importance = weight_criterion(criterion).of_weights(net, chosen)
    return _least_important(net, chosen, left_out, importance, scope, masks, sparsity, amount)


def prune_random(net: HybridBlock, amount: float, seed: int = 0, scope: str = "layer", select: Which = None,
                 exclude: Which = (), masks: Masks | None = None) -> Masks:
    """Set random weights to zero: the baseline that any criterion must beat.

    Counts as ``torch.nn.utils.prune.random_unstructured`` does.

    Parameters
    ----------
    net : HybridBlock
        Changed in place.
    amount, scope, select, exclude, masks
        As for :func:`prune_magnitude`.
    seed : int
        At least 0. The same seed prunes the same weights of a network with the same layers.

    Returns
    -------
    Masks

    Raises
    ------
    TypeError, ValueError, RecordError
        As :func:`prune_magnitude`.
    """
    _check_quantity(None, amount)
    criterion = Random(seed)
    chosen, left_out = select_layers(net, select, exclude, PRUNABLE)
    chance = criterion.of_weights(net, chosen)
    return _applied(_least_important(net, chosen, left_out, chance, scope, masks, None, amount), net)


def prune_custom(net: HybridBlock, kept: Mapping[str, Any]) -> Masks:
    """Prune by masks of your own.

    >>> masks = prune_custom(net, {"conv.0": np.abs(weight) > np.abs(weight).mean(axis=0)})

    Parameters
    ----------
    net : HybridBlock
        Changed in place.
    kept : dict
        {layer or parameter name: array of the parameter's shape}; False or 0 where a weight is to go, True or 1
        where it stays. A layer name stands for its weight; any parameter can be named.

    Returns
    -------
    Masks
        ``earlier | prune_custom(...)`` prunes what either does.

    Raises
    ------
    TypeError, ValueError
        For a name that matches nothing, a mask of another shape or with other values, or one that would leave a
        layer without weights.
    NetworkError
        For weights that are not finite.
    """
    if not isinstance(kept, Mapping) or not kept:
        raise TypeError(f"kept is {kept!r}; accepted: a dict {{layer or parameter name: array of True and False}}")
    candidates, named = layers(net), parameters(net)
    given = by_parameter_name("kept", kept, candidates, named)
    for name, mask in given.items():
        value = Layer(layer_name(name), "", name, named[name], None).value()
        given[name] = finite_array("kept", name, mask, value.shape)
        if not np.isin(given[name], (0, 1)).all():
            raise ValueError(f"kept[{name!r}] has values other than 0 and 1; accepted: True where a weight stays, "
                             f"False where it goes")
    masks = Masks(given, {layer.name: f"{layer.kind}, no mask given" for layer in candidates
                          if layer.parameter_name not in given})
    check_none_emptied([layer for layer in candidates if layer.parameter_name in given], masks.kept, "its mask")
    return _applied(masks, net)


def check_none_emptied(chosen: list[Layer], kept: Mapping[str, np.ndarray], what: str) -> None:
    """Raise :class:`LayerEmptied` naming a layer of which ``kept`` keeps nothing."""
    for layer in chosen:
        mask = kept[layer.parameter_name]
        if not mask.any():
            raise LayerEmptied(f"{what} would leave layer {layer.name} {mask.shape} without weights; "
                               f"lower it or leave the layer out")


def _check_quantity(sparsity: Any, amount: Any) -> None:
    if (sparsity is None) == (amount is None):
        raise TypeError(f"sparsity is {sparsity} and amount is {amount}; accepted: exactly one of them")
    if isinstance(sparsity, Mapping):
        for name, fraction in sparsity.items():
            check_number(f"sparsity[{name!r}]", fraction, minimum=0, below=1)
    elif amount is None:
        check_number("sparsity", sparsity, minimum=0, below=1)
    elif isinstance(amount, Integral):
        check_integer("amount", amount, minimum=0)
    else:
        check_number("amount", amount, minimum=0, maximum=1)


def _of_single_layers(net: HybridBlock, sparsity: Mapping[str, float], scope: str, select: Which,
                      exclude: Which) -> tuple[dict[str, float], list[Layer], dict[str, str]]:
    """``({parameter name: fraction}, chosen, left_out)`` of a sparsity given layer by layer."""
    if select is not None or scope != "layer":
        raise TypeError(f"sparsity has a fraction for each layer, beside select={select!r} and scope={scope!r}; "
                        f"accepted: select=None and scope='layer'")
    return of_single_layers("sparsity", sparsity, net, exclude)


def _least_important(net: HybridBlock, chosen: list[Layer], left_out: dict[str, str],
                     importance: dict[str, np.ndarray], scope: str, masks: Masks | None, sparsity: Any,
                     amount: Any) -> Masks:
    """The masks that prune the least important weights, the earlier pruned ones first."""
    check_choice("scope", scope, ("layer", "global"))
    earlier = _pruned_earlier(net, chosen, masks)
    groups = [[layer] for layer in chosen] if scope == "layer" else [chosen]
    kept = {}
    for group in groups:
        names = [layer.parameter_name for layer in group]
        scores = [np.where(earlier[name], -np.inf, importance[name]).ravel() for name in names]
        pruned_already = sum(int(np.count_nonzero(earlier[name])) for name in names)
        together = np.concatenate(scores)
        wanted = sparsity[names[0]] if isinstance(sparsity, Mapping) else sparsity
        pruned = _pruned_in_total(together.size, pruned_already, wanted, amount, group)
        parts = np.split(_all_but_lowest(together, pruned), np.cumsum([score.size for score in scores])[:-1])
        kept.update({name: part.reshape(earlier[name].shape) for name, part in zip(names, parts)})
    result = Masks(kept, left_out)
    if masks is not None:
        result = masks | result
    asked = f"amount={amount}" if sparsity is None else f"sparsity={sparsity}"
    check_none_emptied(chosen, result.kept, f"{asked} with scope={scope!r}")
    return result


def _pruned_earlier(net: HybridBlock, chosen: list[Layer], masks: Masks | None) -> dict[str, np.ndarray]:
    """{parameter name: bool array}, True where a weight was pruned earlier."""
    if masks is None:
        return {layer.parameter_name: layer.value() == 0 for layer in chosen}
    if not isinstance(masks, Masks):
        raise TypeError(f"masks is {masks!r}; accepted: the Masks of an earlier pruning, or None")
    masks.fitted(net)
    return {layer.parameter_name: ~masks.kept.get(layer.parameter_name, np.ones(layer.value().shape, dtype=bool))
            for layer in chosen}


def _pruned_in_total(size: int, already: int, sparsity: Any, amount: Any, group: list[Layer]) -> int:
    """How many of ``size`` weights are to be pruned in the end, of which ``already`` are."""
    if sparsity is not None:
        return round(float(sparsity) * size)
    remaining = size - already
    more = int(amount) if isinstance(amount, Integral) else round(float(amount) * remaining)
    if more > remaining:
        raise ValueError(f"amount={amount}, but {remaining} weights remain in "
                         f"{', '.join(f'layer {layer.name}' for layer in group)}; accepted: at most as many")
    return already + more


def _all_but_lowest(scores: np.ndarray, count: int) -> np.ndarray:
    """False for the ``count`` lowest of ``scores`` (1-D); of equal ones the first."""
    kept = np.ones(scores.size, dtype=bool)
    if count:
        highest = np.partition(scores, count - 1)[count - 1]  # of those that go
        kept[scores < highest] = False
        equal = np.flatnonzero(scores == highest)
        kept[equal[:count - np.count_nonzero(~kept)]] = False
    return kept


def _applied(masks: Masks, net: HybridBlock) -> Masks:
    masks.apply(net)
    return masks
