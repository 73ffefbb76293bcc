"""k-means of numbers, by Lloyd's algorithm on their sorted values, until no number changes its cluster.

On a line each cluster is an interval of the sorted numbers. A step then takes ``k log n`` operations: the boundaries
are half-way between neighbouring centroids, and the sum of an interval is a difference of two cumulative sums. That is
why the algorithm may run to its end here, where it usually stops early.

It ends in a local optimum, which depends on where the centroids begin. The best of all can be computed on a line, and
"optimal" begins there. Yet training moves the centroids afterwards, and the paper finds (section 3.2) that it matters
more to have some among the few large weights: "linear". benchmarks/weight_sharing.py compares them.
"""
from __future__ import annotations

import numpy as np

__all__ = ["INITIALIZATIONS", "clustered"]

INITIALIZATIONS = ("linear", "density", "random", "optimal")
MOST_GROUPS = 1024  # of the dynamic programming, whose time grows with their square
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
    init : "linear", "density", "random" or "optimal"
        Where the centroids begin: evenly from the smallest value to the largest; so that as many numbers lie between
        any two neighbours; at numbers drawn by chance; where the squared error is least, exactly so for up to 1024
        values.
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
    if init == "optimal":
        return _optimal(values, counts, clusters)
    if init == "density":
        shares = (np.arange(clusters) + 0.5) / clusters
        return values[np.searchsorted(np.cumsum(counts) / counts.sum(), shares)]
    return np.sort(generator.choice(values, clusters, replace=False, p=counts / counts.sum()))


def _optimal(values: np.ndarray, counts: np.ndarray, clusters: int) -> np.ndarray:
    """The centroids with the least squared error, by dynamic programming over groups of neighbouring values.

    With ``E_k(b)`` for the least error of the first ``b`` groups in ``k`` clusters,
    ``E_k(b) = min_a E_(k-1)(a) + error(a, b)``.
    """
    ends, centred = _groups(values), values - np.average(values, weights=counts)  # differences of squares lose digits
    totals, sums, squares = (_cumulative(counts * centred ** power)[ends] for power in (0, 1, 2))
    with np.errstate(divide="ignore", invalid="ignore"):
        error = squares - squares[:, None] - (sums - sums[:, None]) ** 2 / (totals - totals[:, None])
    error[np.tril_indices(len(ends))] = np.inf  # from group a, the row, to before group b
    least, cuts = error[0], []
    for _ in range(clusters - 1):
        through = least[:, None] + error
        cuts.append(through.argmin(axis=0))
        least = through.min(axis=0)
    bounds = [len(ends) - 1]
    for cut in reversed(cuts):
        bounds.append(cut[bounds[-1]])
    bounds = ends[[0, *reversed(bounds)]]
    return np.add.reduceat(counts * values, bounds[:-1]) / np.add.reduceat(counts, bounds[:-1])


def _groups(values: np.ndarray) -> np.ndarray:
    """Where groups of neighbouring values begin and end: each value by itself, if they are few enough."""
    if len(values) <= MOST_GROUPS:
        return np.arange(len(values) + 1)
    alike = np.linspace(0, len(values), MOST_GROUPS // 2, dtype=int)
    wide = np.searchsorted(values, np.linspace(values[0], values[-1], MOST_GROUPS // 2))
    return np.unique(np.concatenate((alike, wide)))


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
