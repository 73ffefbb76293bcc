"""A trainer under which weights that share a value go on sharing it."""
from __future__ import annotations

import hashlib
from dataclasses import dataclass
from typing import Any

import mxnet as mx
import numpy as np
from mxnet.gluon import HybridBlock, Parameter

from ...arguments import shown
from ...errors import NetworkError, RecordError
from ...network.hooked_trainer import has_dense_gradient
from ...network.interface import CLASSIC
from ...network.values import parameters, value_of, write_values
from ...pruning.weights.masked_trainer import MaskedTrainer
from ...pruning.weights.masks import Masks
from .codebooks import Codebooks


@dataclass
class _Shared:
    """A weight, the indices of those of its numbers that are not zero, and the cluster of each of these."""

    parameter: Parameter
    members: np.ndarray
    clusters: np.ndarray
    first: np.ndarray  # of each cluster, the index of one of its numbers

    @classmethod
    def of(cls, parameter: Parameter, codes: np.ndarray) -> _Shared:
        members = np.flatnonzero(codes)
        _, first, clusters = np.unique(codes.ravel()[members], return_index=True, return_inverse=True)
        return cls(parameter, members, clusters.ravel(), members[first])

    def sum_gradients(self) -> None:
        """Give each weight the sum of the gradients of its cluster: ``sum_ij dL/dW_ij 1(I_ij = k)``."""
        for gradient in self.parameter.list_grad() if has_dense_gradient(self.parameter) else ():
            own = gradient.asnumpy()
            sums = np.bincount(self.clusters, own.ravel()[self.members])  # in float64
            with np.errstate(over="ignore"):
                _write(gradient, self._spread(sums, own))

    def level_weights(self) -> None:
        """Make the weights of a cluster equal; processors may round the last of an array differently."""
        own = value_of(self.parameter)
        write_values(self.parameter, self._spread(own.ravel()[self.first], own))

    def _spread(self, values: np.ndarray, like: np.ndarray) -> np.ndarray:
        """The array in which each member has the value of its cluster, and all else is zero."""
        result = np.zeros_like(like)
        result.reshape(-1)[self.members] = values[self.clusters]
        return result


def _write(array: mx.nd.NDArray, values: np.ndarray) -> None:
    mx.nd.identity(mx.nd.array(values, array.context, array.dtype), out=CLASSIC.own(array))


class CentroidTrainer(MaskedTrainer):
    """A :class:`~gluon_compress.pruning.MaskedTrainer` that trains the centroids of shared weights.

    The gradient of a centroid is the sum of the gradients of its weights (Han, Mao & Dally, "Deep Compression", 2016,
    section 3.1). Each weight of a cluster is given this sum as its gradient, so that all of them make the same step,
    and after it they are made equal to the last bit. Which weights form a cluster does not change; zeros stay zero.
    All other parameters train as usual.

    The sum is far larger than a weight's own gradient: with SGD begin at a hundredth of the learning rate of the
    training before, or less. Adam's steps do not grow with it. Weight decay acts on a centroid once.

    Parameters
    ----------
    net : HybridBlock
        As :func:`share_weights` left it, on one or several devices.
    codebooks : Codebooks
    optimizer, optimizer_params, **trainer_arguments
        As for ``gluon.Trainer``. Optimizers that take norms over a layer (LARS, LAMB) count a centroid as often as it
        occurs.
    masks : Masks, optional
        Zeros that are to stay in further layers, whose weights are not shared.

    Attributes
    ----------
    codebooks : Codebooks
        Of the weights as they are now: what :func:`~gluon_compress.save` needs after the training.

    >>> trainer = CentroidTrainer(net, codebooks, "adam", {"learning_rate": 1e-4})

    Raises
    ------
    TypeError, ValueError
        As :class:`~gluon_compress.pruning.MaskedTrainer`.
    RecordError
        When the codebooks or masks do not fit the network.
    NetworkError
        For a layer with sparse gradients.
    """

    def __init__(self, net: HybridBlock, codebooks: Codebooks, optimizer: str | mx.optimizer.Optimizer,
                 optimizer_params: dict | None = None, masks: Masks | None = None, **trainer_arguments: Any) -> None:
        if not isinstance(codebooks, Codebooks):
            raise TypeError(f"codebooks is {shown(codebooks)}; accepted: the Codebooks that share_weights returned")
        if not isinstance(masks, (Masks, type(None))):
            raise TypeError(f"masks is {shown(masks)}; accepted: Masks, or None")
        self._codes, named = codebooks.codes(net), parameters(net)
        for name in self._codes:
            if named[name].grad_req != "null" and not has_dense_gradient(named[name]):
                raise NetworkError(f"parameter {name} has sparse gradients, which cannot be summed; accepted: a layer "
                                   f"with sparse_grad=False")
        self._codebooks, self._summed = codebooks, False
        self._zeros = Masks({name: codes != 0 for name, codes in self._codes.items()})
        super().__init__(net, Masks({}) if masks is None else masks, optimizer, optimizer_params, **trainer_arguments)

    @property
    def codebooks(self) -> Codebooks:
        return self._codebooks.updated(self._net)

    @property
    def start_digest(self) -> str:
        """SHA-256 of the masks, and of which weights form a cluster."""
        digest = hashlib.sha256(super().start_digest.encode())
        for name, codes in sorted(self._codes.items()):
            digest.update(name.encode() + codes.astype("<i4").tobytes())
        return digest.hexdigest()

    def _on_devices(self, masks: Any) -> tuple[Masks, list]:
        """What the base class makes of the masks, which never let a zero of a shared weight grow."""
        masks, masked = super()._on_devices(masks | self._zeros if isinstance(masks, Masks) else masks)
        named = parameters(self._net)
        self._shared = [_Shared.of(named[name], np.where(masks.kept[name], codes, 0))
                        for name, codes in self._codes.items()]
        return masks, masked

    def _allreduce_grads(self) -> None:
        self._summed = False
        super()._allreduce_grads()

    def _update(self, ignore_stale_grad: bool = False) -> None:
        try:
            super()._update(ignore_stale_grad)
        finally:
            self._summed = False

    def _before_update(self) -> None:
        super()._before_update()
        if not self._summed:  # it is called twice in a step, and the second time the sums of all devices are there
            for shared in self._shared:
                shared.sum_gradients()
        self._summed = True

    def _after_update(self) -> None:
        self._level_weights()
        super()._after_update()

    def _after_failed_update(self) -> None:
        self._level_weights()
        super()._after_failed_update()

    def _level_weights(self) -> None:
        for shared in self._shared:
            shared.level_weights()

    def _meet_workers(self) -> None:
        super()._meet_workers()
        if not self.as_worker_0(bytes.fromhex(self.start_digest)):
            raise RecordError(f"worker {self.rank} has other shared weights than worker 0: give all the same weights "
                              f"before share_weights (the same seed or file)")
