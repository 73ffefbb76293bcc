"""Which layers to keep in fp32 so that a quantized network loses at most so much accuracy."""
from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
from mxnet.gluon import HybridBlock

from ..arguments import check_number
from ..network.blocks import tensors_of
from ..tables import progress_bar
from .integers.integer_network import IntegerNetwork


class NotKept(ValueError):
    """No number of layers in fp32 keeps the accuracy that was asked for."""


def keep_accuracy(net: HybridBlock, result: IntegerNetwork, quantized: Callable[[dict[str, str]], IntegerNetwork],
                  inputs: tuple[Any, ...], evaluate: Callable[[HybridBlock], float], max_drop: float,
                  progress: bool) -> IntegerNetwork:
    """Of the quantized networks tried, the one with the fewest layers in fp32 that keeps the accuracy.

    Layers are ranked by how much quantizing each one alone changes the network's outputs. The worst one, two, four, ...
    go back to fp32 until the accuracy is kept; bisection then finds how many of them are needed.

    Parameters
    ----------
    net : HybridBlock
        fp32.
    result : IntegerNetwork
        The first network tried, with all layers on integers.
    quantized : callable
        ``quantized(in_fp32)`` returns the IntegerNetwork with these layers in fp32, {name: reason}.
    inputs : tuple of NDArray
        A batch to rank the layers on.
    evaluate, max_drop, progress
        As for :func:`quantize`.

    Raises :class:`NotKept` when the accuracy is not kept even with a single layer quantized.
    """
    baseline = _accuracy(evaluate, net, "the fp32 network")
    accuracy = _accuracy(evaluate, result, "the quantized network")
    if baseline - accuracy > max_drop:
        candidates = list(result.record.layers)
        damage = _damage(net, quantized, candidates, inputs, progress)
        ranked = sorted(candidates, key=damage.__getitem__, reverse=True)
        reasons = {name: f"quantizing it alone changes the outputs by {100 * damage[name]:.2g} % of their norm"
                   for name in ranked}
        accuracies: dict[int, float] = {}
        networks: dict[int, IntegerNetwork] = {}

        def fits(count: int) -> bool:
            networks[count] = quantized({name: reasons[name] for name in ranked[:count]})
            accuracies[count] = _accuracy(evaluate, networks[count], f"the network with {count} layers in fp32")
            return baseline - accuracies[count] <= max_drop
        count = _fewest(fits, len(ranked) - 1)
        if count is None:
            raise NotKept(f"max_accuracy_drop={max_drop} is not kept with any number of layers in fp32: "
                          f"{baseline:.4f} in fp32, {max(accuracies.values()):.4f} at best")
        result, accuracy = networks[count], accuracies[count]
    result.record.baseline_accuracy, result.record.accuracy = float(baseline), float(accuracy)
    return result


def _accuracy(evaluate: Callable[[HybridBlock], float], net: HybridBlock, what: str) -> float:
    accuracy = evaluate(net)
    check_number(f"evaluate(net) of {what}", accuracy)
    return accuracy


def _fewest(fits: Callable[[int], bool], most: int) -> int | None:
    """The smallest count in [1, most] found to fit, or None."""
    count, low = 1, 0
    while not fits(count):
        if count == most:
            return None
        low, count = count, min(2 * count, most)
    while count - low > 1:
        middle = (low + count) // 2
        if fits(middle):
            count = middle
        else:
            low = middle
    return count


def _damage(net: HybridBlock, quantized: Callable[[dict[str, str]], IntegerNetwork], candidates: list[str],
            inputs: tuple[Any, ...], progress: bool) -> dict[str, float]:
    """{layer: relative error of the outputs when it alone is quantized}."""
    expected = _outputs(net, inputs)
    norm = np.linalg.norm(expected)
    damage = {}
    for name in progress_bar(candidates, progress, desc="one layer at a time", unit="layer"):
        alone = quantized({other: f"only {name} is quantized" for other in candidates if other != name})
        damage[name] = float(np.linalg.norm(_outputs(alone, inputs) - expected) / norm) if norm else 0.0
    return damage


def _outputs(net: HybridBlock, inputs: tuple[Any, ...]) -> np.ndarray:
    return np.concatenate([tensor.ravel() for tensor in tensors_of(net, inputs)])
