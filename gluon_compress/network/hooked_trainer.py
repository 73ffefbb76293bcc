"""A Gluon Trainer with hooks around its updates, which prune or round, and what a saved training keeps of them."""
from __future__ import annotations

from abc import ABC, abstractmethod
from typing import Any

import mxnet as mx
import numpy as np
from mxnet.gluon import Parameter, Trainer

from ..arguments import check_number
from ..errors import RecordError
from .ctrl_c import undisturbed
from .trainer import accept_both_interfaces


class HookedTrainer(Trainer, ABC):
    """A ``gluon.Trainer`` whose derived classes say what happens around each update of the weights."""

    _comparisons = 0  # with other workers, so far

    def __init__(self, *arguments: Any, **named_arguments: Any) -> None:
        super().__init__(*arguments, **named_arguments)
        accept_both_interfaces(self)

    def step(self, batch_size: float, ignore_stale_grad: bool = False) -> None:
        """As Gluon's, which divides by any ``batch_size``."""
        check_number("batch_size", batch_size, above=0)
        super().step(batch_size, ignore_stale_grad)

    def update(self, batch_size: float, ignore_stale_grad: bool = False) -> None:
        """As Gluon's, which divides by any ``batch_size``."""
        check_number("batch_size", batch_size, above=0)
        super().update(batch_size, ignore_stale_grad)

    # What a derived class says

    @abstractmethod
    def _before_update(self) -> None:
        """The gradients are computed, the weights are not updated yet. May be called twice in a step."""

    def _before_reduced_update(self) -> None:
        """The gradients are those of all devices and workers; called once in a step, unless a store updates."""

    @abstractmethod
    def _before_stored_update(self, parameter: Parameter, weight: mx.nd.NDArray) -> None:
        """As :meth:`_before_update`, for the copy of a parameter's values that a local key-value store updates."""

    @abstractmethod
    def _after_update(self) -> None:
        """The weights are updated."""

    def _after_failed_update(self) -> None:
        """The update of the weights has ended in an error or Ctrl-C: wherever, from the one before it to that after."""

    @abstractmethod
    def _meet_workers(self) -> None:
        """The key-value store is made, and the other workers can be reached through it."""

    @property
    @abstractmethod
    def start_digest(self) -> str:
        """What identifies the beginning of a training beside the weights: masks, or settings and steps."""

    @abstractmethod
    def extra_state(self) -> dict:
        """What :meth:`restore_extra_state` needs to continue from here, as JSON."""

    @abstractmethod
    def restore_extra_state(self, state: dict) -> None:
        """Continue from an :meth:`extra_state`; ``RecordError``, with nothing changed, when it does not fit."""

    def state_tensors(self) -> dict[str, np.ndarray]:
        """Arrays that belong to :meth:`extra_state`; none by default."""
        return {}

    def restore_state_tensors(self, tensors: dict[str, np.ndarray]) -> None:
        """Continue from :meth:`state_tensors`, after :meth:`restore_extra_state`; ``RecordError`` for others."""
        if tensors:
            raise RecordError(f"the state has arrays, such as {min(tensors)!r}, of another kind of trainer")

    # What it can ask

    @property
    def rank(self) -> int:
        """The number of this worker, from 0."""
        return self._kvstore.rank if self._kvstore is not None else 0

    @property
    def has_met_workers(self) -> bool:
        """Whether :meth:`_meet_workers` has been called."""
        return self._kv_initialized

    def as_worker_0(self, content: bytes) -> bool:
        """Whether this worker has the bytes that worker 0 has; all workers ask at the same step."""
        if self._kvstore is None or self._kvstore.num_workers == 1:
            return True
        own = np.frombuffer(content, np.uint8).astype(np.float32)
        first = mx.nd.array(own)
        key = len(self._params) + self._comparisons  # a store takes each key once; Gluon's are the parameters' numbers
        self._comparisons += 1
        self._kvstore.broadcast(key, first, first)
        return np.array_equal(first.asnumpy(), own)

    # Gluon's step() and update() go through these four.

    def _init_kvstore(self) -> None:
        super()._init_kvstore()
        if self._update_on_kvstore and not self._distributed:
            self._kvstore._set_updater(_HookedUpdater(self))
        self._meet_workers()

    def _init_params(self) -> None:
        super()._init_params()
        # Gluon goes on while worker 0's weights are still on their way to the others. Where a gradient of the same
        # number is reduced meanwhile, a late worker gets that for its weight: MXNet 1.9.1 loses this race at times.
        mx.nd.waitall()

    def _allreduce_grads(self) -> None:
        self._before_update()
        super()._allreduce_grads()

    def _update(self, ignore_stale_grad: bool = False) -> None:
        if not self._update_on_kvstore:
            self._before_update()  # update() may come without allreduce_grads()
        try:
            if not self._update_on_kvstore:
                self._before_reduced_update()
            super()._update(ignore_stale_grad)
            self._after_update()
        except BaseException:  # after Ctrl-C, too: no weights of half a step
            with undisturbed():
                self._after_failed_update()
            raise


class _HookedUpdater(mx.optimizer.Updater):
    """Updates the copy of the weights in a local key-value store, of which no trainer holds an array."""

    def __init__(self, trainer: HookedTrainer) -> None:
        super().__init__(trainer._optimizer)
        self._trainer = trainer

    def __call__(self, index: int, grad: Any, weight: mx.nd.NDArray) -> None:
        self._trainer._before_stored_update(self._trainer._params[index], weight)
        super().__call__(index, grad, weight)


def has_new_gradient(parameter: Parameter) -> bool:
    """Whether a backward pass came to it since its last update; ``ignore_stale_grad`` updates it only then."""
    return any(value._fresh_grad for value in parameter.list_data())


def has_dense_gradient(parameter: Parameter) -> bool:
    """Whether a parameter is trained, with a gradient of its full shape rather than of some rows only."""
    return parameter.grad_req != "null" and parameter._grad_stype == "default"
