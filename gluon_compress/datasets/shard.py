"""Each worker's share of the batches."""
from __future__ import annotations

from collections.abc import Iterator

import numpy as np
from mxnet.gluon.data import Sampler

from ..arguments import check_flag, check_integer


class Shard(Sampler):
    """One worker's share of each batch: lists of indices, once through ``count`` samples per iteration.

    All workers must draw the same order. It comes from NumPy's global generator, which
    :func:`~gluon_compress.training.fit` seeds alike on all of them before each epoch; in your own loop, seed it alike
    once. Sample ``i`` of a batch then belongs to worker ``i % workers``. Every sample is in the share of exactly one
    worker, all have the same number of batches, and together they make up the batches of one process. A last batch with
    fewer samples than workers joins the batch before it. During a pass each worker has a generator of its own, so that
    the shares are augmented differently; after it all have the same again.

    Parameters
    ----------
    count : int
        Samples of the data set, at least ``workers``.
    batch_size : int
        The size of all workers' shares together, at least ``workers``.
    shuffle : bool
    rank, workers : int
        The number of this worker, from 0, and how many there are.

    >>> loader = DataLoader(dataset, batch_sampler=Shard(len(dataset), 256, True, rank, workers))
    """

    def __init__(self, count: int, batch_size: int, shuffle: bool = False, rank: int = 0, workers: int = 1) -> None:
        check_integer("workers", workers, minimum=1)
        check_flag("shuffle", shuffle)
        check_integer("rank", rank, minimum=0, maximum=workers - 1)
        check_integer("batch_size", batch_size, minimum=workers)
        check_integer("count", count, minimum=workers)
        self._count, self._shuffle, self._rank, self._workers = count, shuffle, rank, workers
        self._starts = list(range(0, count, batch_size))
        if count - self._starts[-1] < workers:
            self._starts.pop()

    def __len__(self) -> int:
        return len(self._starts)

    def __iter__(self) -> Iterator[list[int]]:
        order = np.random.permutation(self._count) if self._shuffle else np.arange(self._count)
        following = np.random.randint(2 ** 31) if self._workers > 1 else None
        if following is not None and self._rank:
            np.random.seed(following + self._rank)
        try:
            for start, end in zip(self._starts, [*self._starts[1:], self._count]):
                yield order[start + self._rank:end:self._workers].tolist()
        finally:
            if following is not None:
                np.random.seed(following)
