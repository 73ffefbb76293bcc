"""Pruning little by little while a network trains, so that it can adapt after each step."""
from __future__ import annotations

import hashlib
import json
from collections.abc import Callable

from mxnet.gluon import HybridBlock

from ...arguments import check_integer, check_number
from ...network.layer import Which, select_layers
from ..schedules import check_schedule, cubic
from .magnitude import PRUNABLE, magnitude_masks
from .masks import Masks


class GradualPruner:
    """Raises the sparsity of a network from step to step of its training; zeros only grow.

    A :class:`MaskedTrainer` takes one in place of masks, and calls :meth:`advance` after each update:

    >>> pruner = GradualPruner(net, final_sparsity=0.9, steps=1000)
    >>> trainer = MaskedTrainer(net, pruner, "adam", {"learning_rate": 1e-3})

    The loop stays as it is, be it yours or :func:`~gluon_compress.training.fit`; afterwards ``pruner.masks`` says what
    was pruned. With ``s_i`` for ``initial_sparsity`` and ``s_f`` for ``final_sparsity``, the sparsity after update
    ``t`` is ``s_i + (s_f - s_i) * schedule((t - begin) / steps)`` for ``t = begin, begin + frequency, ...`` and
    ``t = begin + steps``, and stays so in between: with :func:`cubic`, equation 1 of Zhu & Gupta, "To prune, or
    not to prune", 2017.

    Parameters
    ----------
    net : HybridBlock
        Pruned at once when the sparsity begins above zero and ``begin`` is 0.
    final_sparsity : float
        Fraction of zeros at the end, in [0, 1); of each selected layer, or of all together. A layer that is
        sparser already stays as it is.
    steps : int
        How many updates the pruning takes, at least 1. Leave some for training after the last.
    schedule : function
        :func:`one_shot`, :func:`linear`, :func:`cubic`, or one of yours from [0, 1] to [0, 1] with
        ``schedule(1) == 1``.
    frequency : int, optional
        Updates from one pruning to the next, from 1 to ``steps``; by default a hundredth of ``steps``, at least 1.
    begin : int
        Updates before the first pruning, at least 0.
    initial_sparsity : float
        At ``begin``, from 0 to ``final_sparsity``.
    scope, select, exclude, masks
        As for :func:`prune_magnitude`.

    Attributes
    ----------
    masks : Masks
        What is pruned now.
    step : int
        Updates so far.
    sparsity : float
        That of the schedule now; None before ``begin``.

    Raises
    ------
    TypeError, ValueError
        For arguments out of range, and a final sparsity that would leave a layer without weights.
    NetworkError
        For weights that are not finite; by :meth:`advance` too.
    """

    def __init__(self, net: HybridBlock, final_sparsity: float, steps: int,
                 schedule: Callable[[float], float] = cubic, frequency: int | None = None, begin: int = 0,
                 initial_sparsity: float = 0, scope: str = "layer", select: Which = None, exclude: Which = (),
                 masks: Masks | None = None) -> None:
        check_integer("steps", steps, minimum=1)
        frequency = max(1, steps // 100) if frequency is None else frequency
        check_integer("frequency", frequency, minimum=1, maximum=steps)
        check_integer("begin", begin, minimum=0)
        check_number("final_sparsity", final_sparsity, minimum=0, below=1)
        check_number("initial_sparsity", initial_sparsity, minimum=0, maximum=final_sparsity)
        check_schedule(schedule)
        chosen, left_out = select_layers(net, select, exclude, PRUNABLE)
        names = [layer.name for layer in chosen]  # not to ask ``select`` again
        magnitude_masks(net, final_sparsity, scope=scope, select=names, masks=masks)  # fails now, not at the end
        self.net = net
        self.step = 0
        self._initial, self._final, self._schedule = initial_sparsity, final_sparsity, schedule
        self._begin, self._steps, self._frequency = begin, steps, frequency
        self._scope, self._names = scope, names
        kept = magnitude_masks(net, 0, scope=scope, select=names, masks=masks or Masks({})).kept
        nothing_yet = Masks(kept, left_out)
        self.masks = nothing_yet if masks is None else nothing_yet | masks
        self._prune_when_due()
        self.masks.apply(net)

    @property
    def sparsity(self) -> float | None:
        if self.step < self._begin:
            return None
        since = min(self.step - self._begin, self._steps)
        if since < self._steps:
            since -= since % self._frequency
        # s_t = s_i + (s_f - s_i) * schedule((t - t_0) / (n * Delta_t))
        share = self._schedule(since / self._steps)
        check_number("the schedule's value", share, minimum=0, maximum=1)
        return self._initial + (self._final - self._initial) * share

    def advance(self) -> bool:
        """Count an update; True when that changed ``masks``. Pruning the network is left to the caller."""
        self.step += 1
        try:
            return self._prune_when_due()
        except BaseException:  # Ctrl-C, too: the update that is due is not left out
            self.step -= 1
            raise

    def describe(self) -> str:
        """A digest of the settings, the step and the masks, by which a saved training state knows them again."""
        settings = (self._initial, self._final, getattr(self._schedule, "__qualname__", ""), self._begin, self._steps,
                    self._frequency, self._scope, self._names, self.step, self.masks.digest)
        return hashlib.sha256(json.dumps(settings).encode()).hexdigest()

    def _prune_when_due(self) -> bool:
        since = self.step - self._begin
        if not 0 <= since <= self._steps or (since % self._frequency and since != self._steps):
            return False
        masks = magnitude_masks(self.net, self.sparsity, scope=self._scope, select=self._names, masks=self.masks)
        if masks.digest == self.masks.digest:
            return False
        self.masks = Masks(masks.kept, self.masks.left_out)
        return True
