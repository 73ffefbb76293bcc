"""Weight sharing in a network: the weights of each layer become the centroids of their clusters."""
from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
from mxnet.gluon import HybridBlock

from ...arguments import check_choice, check_integer
from ...network.layer import CONVOLUTIONS, Layer, Which, select_layers
from ...network.values import restore_snapshot
from ...pruning.weights.given import of_single_layers
from .clustering import INITIALIZATIONS, clustered
from .codebooks import MOST_CLUSTERS, Codebooks

SHARED = (*CONVOLUTIONS, "Dense", "Embedding")
MOST_BITS = 8


def share_weights(net: HybridBlock, clusters: int | Mapping[str, int] | None = None,
                  bits: int | Mapping[str, int] | None = None, init: str = "linear", seed: int = 0,
                  select: Which = None, exclude: Which = ()) -> Codebooks:
    """Let the weights of each layer share a few values: those of a cluster become its mean (k-means).

    Weights that are zero, as pruned ones are, stay exactly zero and count in no cluster; biases and BatchNorm
    parameters stay as they are. :func:`gluon_compress.save` stores the index of each weight's value; beside codebooks a
    file needs no masks. Training the centroids with :class:`CentroidTrainer` brings accuracy back. Han, Mao & Dally,
    "Deep Compression", 2016, section 3.

    >>> masks = prune_magnitude(net, 0.9)
    >>> codebooks = share_weights(net, bits=5)
    >>> trainer = CentroidTrainer(net, codebooks, "adam", {"learning_rate": 1e-4}, masks=masks)
    >>> fit(net, train_data, epochs=2, trainer=trainer)                 # or any loop of yours
    >>> save("small.gcz", net, trainer.codebooks)

    Parameters
    ----------
    net : HybridBlock
        Changed in place.
    clusters : int or dict
        How many values the weights of a layer take, from 2 to 256 and at most as many as they have now; or
        {layer or parameter name: number}, for these layers only.
    bits : int or dict
        The same as ``2**bits`` clusters: 1 to 8. Give one of ``clusters`` and ``bits``.
    init : "linear", "density", "random" or "optimal"
        Where the centroids begin. The paper's (section 3.2): evenly from the smallest weight to the largest, which
        keeps the large ones; where the weights are dense; at weights drawn by chance. And where the squared error is
        the least of all, which is computed (of more than 1024 different weights, nearly).
    seed : int
        At least 0; for ``init="random"``.
    select, exclude : name, kind, class or function of layers, or several of these
        Whose weights to share, and whose not; see :func:`~gluon_compress.network.select_layers`. By default
        convolutions, dense layers and embeddings.

    Returns
    -------
    Codebooks

    Raises
    ------
    TypeError, ValueError
        For arguments out of range, a selection that matches nothing, more clusters than a layer has different weights.
    NetworkError
        For weights that are not finite. The network is unchanged after any error.
    """
    check_choice("init", init, INITIALIZATIONS)
    check_integer("seed", seed, minimum=0)
    numbers, chosen, left_out = _clusters(net, clusters, bits, select, exclude)
    centroids, weights = {}, {}
    for index, layer in enumerate(chosen):
        generator = np.random.default_rng((seed, index))
        name = layer.parameter_name
        centroids[name], weights[name] = _shared(layer, numbers[name], init, generator)
    restore_snapshot(net, weights)
    return Codebooks(centroids, left_out)


def _clusters(net: HybridBlock, clusters: Any, bits: Any, select: Which,
              exclude: Which) -> tuple[dict[str, int], list[Layer], dict[str, str]]:
    """``({parameter name: number of clusters}, chosen, left_out)``."""
    if (clusters is None) == (bits is None):
        raise TypeError(f"clusters is {clusters} and bits is {bits}; accepted: exactly one of them")
    argument, given, least, most = (("bits", bits, 1, MOST_BITS) if clusters is None else
                                    ("clusters", clusters, 2, MOST_CLUSTERS))
    if isinstance(given, Mapping):
        for name, number in given.items():
            check_integer(f"{argument}[{name!r}]", number, least, most)
        if select is not None:
            raise TypeError(f"{argument} has a number for each layer, beside select={select!r}; accepted: select=None")
        numbers, chosen, left_out = of_single_layers(argument, given, net, exclude)
    else:
        check_integer(argument, given, least, most)
        chosen, left_out = select_layers(net, select, exclude, SHARED)
        numbers = {layer.parameter_name: given for layer in chosen}
    numbers = {name: int(number) if bits is None else 2 ** int(number) for name, number in numbers.items()}
    return numbers, chosen, left_out


def _shared(layer: Layer, clusters: int, init: str, generator: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
    """``(centroids, weight)`` of a layer, of the weight's type."""
    weight = layer.value()
    kept = weight != 0
    values, places, counts = np.unique(weight[kept], return_inverse=True, return_counts=True)
    if clusters > len(values):
        raise ValueError(f"layer {layer.name} has {len(values)} different weights other than zero, for {clusters} "
                         f"clusters; accepted: at most as many clusters, a number for each layer in a dict, or the "
                         f"layer in exclude")
    means, labels = clustered(values, counts, clusters, init, generator)
    centroids = means.astype(weight.dtype)
    for cluster in np.flatnonzero(centroids == 0):  # 0 is what pruned weights are
        members = values[labels == cluster]
        centroids[cluster] = members[np.abs(members).argmin()]
    shared = np.zeros_like(weight)
    shared[kept] = centroids[labels[places.ravel()]]
    return centroids, shared
