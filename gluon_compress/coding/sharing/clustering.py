"""k-means of numbers, by Lloyd's algorithm on their sorted values, until no number changes its cluster.

On a line each cluster is an interval of the sorted numbers. A step then takes ``k log n`` operations: the boundaries
are half-way between neighbouring centroids, and the sum of an interval is a difference of two cumulative sums. That is
why the algorithm may run to its end here, where it usually stops early, and takes a second for millions of weights.

What it ends in is a local optimum. The best one can be computed, in ``k n log n`` operations with the whole of
``n``, but training moves the centroids afterwards, and which optimum they begin in matters by where it leaves the few
large weights (section 3.2 of the paper): hence "linear".
"""
from __future__ import annotations

import numpy as np

__all__ = ["INITIALIZATIONS", "clustered"]

INITIALIZATIONS = ("linear", "density", "random")
MOST_STEPS = 100_000  # some thousands are needed for 256 clusters of a million numbers


def clustered(values: np.ndarray, counts: np.ndarray, clusters: int, init: str,
              generator: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
    """``(centroids, labels)``: the means of the clusters, in float64 and ascending, and the cluster of each value.

    No cluster is empty: one that would be takes the number that is farthest from its centroid.

    Parameters
    ----------
    values : array (n,)
        Ascending, each once.
    counts : array (n,)
        How often each occurs.
    clusters : int
        At most n.
    init : "linear", "density" or "random"
        Where the centroids begin: evenly from the smallest value to the largest; so that as many numbers lie between
        any two neighbours; at numbers drawn by chance.
    """
    values = values.astype(np.float64)
    totals, sums = _cumulative(counts), _cumulative(counts * values)
    centroids, before = _initial(values, counts, clusters, init, generator), None
    for _ in range(MOST_STEPS):
        bounds = _bounds(values, centroids)
        if not np.diff(bounds).all():
            centroids = _one_empty_filled(values, centroids, bounds)
            continue
        if before is not None and np.array_equal(bounds, before):
            break
        before = bounds
        means = np.diff(sums[bounds]) / np.diff(totals[bounds])
        centroids = np.clip(means, values[bounds[:-1]], values[bounds[1:] - 1])  # differences of large sums lose digits
    return centroids, np.repeat(np.arange(clusters), np.diff(bounds))


def _cumulative(numbers: np.ndarray) -> np.ndarray:
    return np.concatenate(([0], np.cumsum(numbers, dtype=np.float64)))


def _initial(values: np.ndarray, counts: np.ndarray, clusters: int, init: str,
             generator: np.random.Generator) -> np.ndarray:
    if init == "linear":
        return np.linspace(values[0], values[-1], clusters)
    if init == "density":
        shares = (np.arange(clusters) + 0.5) / clusters
        return values[np.searchsorted(np.cumsum(counts) / counts.sum(), shares)]
    return np.sort(generator.choice(values, clusters, replace=False, p=counts / counts.sum()))


def _bounds(values: np.ndarray, centroids: np.ndarray) -> np.ndarray:
    """Where each cluster begins among the values, and the last one ends: each value is with its nearest centroid."""
    halves = (centroids[1:] + centroids[:-1]) / 2
    return np.concatenate(([0], np.searchsorted(values, halves, side="right"), [len(values)]))


def _one_empty_filled(values: np.ndarray, centroids: np.ndarray, bounds: np.ndarray) -> np.ndarray:
    """The centroids, of which one without numbers is now the number that is farthest from its own."""
    sizes = np.diff(bounds)
    used = np.flatnonzero(sizes)
    ends = np.concatenate((values[bounds[used]], values[bounds[used + 1] - 1]))  # the farthest are at the ends
    distances = np.abs(ends - np.tile(centroids[used], 2))
    moved = centroids.copy()
    moved[np.argmin(sizes)] = ends[np.argmax(distances)]
    return np.sort(moved)
