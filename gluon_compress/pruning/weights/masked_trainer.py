"""A trainer under which pruned weights stay exactly zero."""
from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import mxnet as mx
from mxnet.gluon import HybridBlock, Parameter

from ...arguments import check_number
from ...errors import RecordError
from ...files.schema import Malformed, anything, fields, integer, maybe
from ...network.checks import check_parameters
from ...network.hooked_trainer import HookedTrainer, has_dense_gradient
from .gradual import GradualPruner
from .masks import Masks, on_devices, zero_where_pruned

_STATE = fields({"masks": anything, "step": maybe(integer(0, 2**63 - 1))})


class MaskedTrainer(HookedTrainer):
    """A ``gluon.Trainer`` under which pruned weights stay exactly zero.

    Masking the gradients would not be enough: momentum, or Adam's moments, from before the pruning move a weight
    whose gradient is zero. Masking the weights would not be either: LARS and LAMB take norms over a layer, to which
    pruned weights must not add. So the gradients are masked before each update, and the weights after it: the
    others train as in a network that never had the pruned ones. (The optimizer's momenta of weights that are pruned
    during training remain and fade.)

    Parameters
    ----------
    net : HybridBlock
        On one or several devices. Its pruned weights are zero from here on.
    masks : Masks or GradualPruner
        A pruner prunes further after each update that its schedule names.
    optimizer, optimizer_params, **trainer_arguments
        As for ``gluon.Trainer``.

    >>> trainer = MaskedTrainer(net, masks, "adam", {"learning_rate": 1e-3})

    Every optimizer, every ``kvstore`` and both ways of ``update_on_kvstore`` work. With several workers, all must
    have the same masks, which the first step checks. Where servers update the weights (``"dist_sync"`` without
    ``update_on_kvstore=False``), their copy cannot be masked: what is pruned later, by a pruner or
    :meth:`replace_masks`, is zero on every worker but lives on in that copy, where the norms of LARS, LBSGD and
    LAMB count it. Choose ``update_on_kvstore=False`` for these; :func:`~gluon_compress.training.fit` always does, and
    servers that import gluon_compress, such as those of its launcher, allow nothing else.

    ``save_states`` and ``load_states`` are Gluon's: a pickle of the optimizer without the masks.

    Raises
    ------
    TypeError, ValueError
        For an optimizer that MXNet does not have, and settings that it does not take or that are not numbers.
    RecordError
        When the masks are of another network; by the first step, when they differ between workers; by any step after
        channels were removed.
    """

    def __init__(self, net: HybridBlock, masks: Masks | GradualPruner, optimizer: str | mx.optimizer.Optimizer,
                 optimizer_params: dict | None = None, **trainer_arguments: Any) -> None:
        self._pruner = masks if isinstance(masks, GradualPruner) else None
        if self._pruner is not None and self._pruner.net is not net:
            raise ValueError("the GradualPruner was made for another network: make one for this net")
        check_optimizer(optimizer, optimizer_params)
        self._net = net
        self._masks, self._masked = self._on_devices(masks if self._pruner is None else self._pruner.masks)
        check_parameters(net)
        super().__init__(net.collect_params(), optimizer, optimizer_params, **trainer_arguments)
        self._mask_weights()

    @property
    def masks(self) -> Masks:
        """The :class:`Masks` that hold now."""
        return self._masks

    def replace_masks(self, masks: Masks) -> None:
        """Hold other masks from now on; what they prune is zero at once, and the rest may grow.

        Raises ``RecordError`` when they are of another network, ``ValueError`` when a GradualPruner makes the masks.
        """
        if self._pruner is not None:
            raise ValueError("the masks of this trainer come from its GradualPruner; make a new MaskedTrainer")
        self._hold(masks)

    @property
    def start_digest(self) -> str:
        """SHA-256 of the masks and the pruner, by which a saved training state knows them again."""
        return self._masks.digest if self._pruner is None else self._pruner.describe()

    def extra_state(self) -> dict:
        """What :meth:`restore_extra_state` needs to go on from here, as JSON."""
        return {"masks": self._masks.to_dict(), "step": None if self._pruner is None else self._pruner.step}

    def restore_extra_state(self, state: dict) -> None:
        """Hold the masks of :meth:`extra_state`; a pruner goes on from its step.

        Raises ``RecordError``, with nothing changed, when they are of another network or another kind of trainer.
        """
        try:
            _STATE(state, "state")
        except Malformed as error:
            raise RecordError(f"this is no extra_state: {error}") from error
        if (state["step"] is None) != (self._pruner is None):
            raise RecordError("the saved state is of a MaskedTrainer with a GradualPruner and this one has none, or "
                              "the other way round")
        masks = Masks.from_dict(state["masks"])
        self._hold(masks)
        if self._pruner is not None:
            self._pruner.masks, self._pruner.step = masks, state["step"]

    def _hold(self, masks: Masks) -> None:
        self._masks, self._masked = self._on_devices(masks)
        self._mask_weights()
        if self.has_met_workers:
            self._meet_workers()

    def _on_devices(self, masks: Any) -> tuple[Masks, list]:
        """The masks, and [(Parameter, its mask on each of its devices)]."""
        if not isinstance(masks, Masks):
            raise TypeError(f"masks is {masks!r}; accepted: the Masks of a pruning function, several as "
                            f"first | second, or a GradualPruner")
        return masks, [(parameter, on_devices(parameter, mask)) for parameter, mask in masks.fitted(self._net)]

    def _before_update(self) -> None:
        for parameter, masks in self._masked:
            shape = parameter.list_data()[0].shape
            if shape != masks[0].shape:
                raise RecordError(f"parameter {parameter.name} has shape {shape} now, its mask {masks[0].shape}: after "
                                  f"channels were removed make new masks and a new MaskedTrainer")
            if has_dense_gradient(parameter):
                zero_where_pruned(parameter.list_grad(), masks)

    def _before_stored_update(self, parameter: Parameter, weight: mx.nd.NDArray) -> None:
        for masked, masks in self._masked:
            if masked is parameter:
                zero_where_pruned([weight], [masks[0].as_in_context(weight.context)])

    def _after_update(self) -> None:
        self._mask_weights()
        if self._pruner is not None:
            self._pruner.advance()
            if self._pruner.masks is not self._masks:
                self._hold(self._pruner.masks)

    def _after_failed_update(self) -> None:
        self._mask_weights()

    def _meet_workers(self) -> None:
        """Raise ``RecordError`` where the masks are not those of worker 0."""
        if not self.as_worker_0(bytes.fromhex(self._masks.digest)):
            raise RecordError(f"worker {self.rank} has other masks than worker 0: give all the same weights before "
                              f"pruning (the same seed or file), or send them the masks")

    def _mask_weights(self) -> None:
        for parameter, masks in self._masked:
            zero_where_pruned(parameter.list_data(), masks)


NUMBERS = ("learning_rate", "lr", "wd", "momentum", "beta1", "beta2", "epsilon", "gamma1", "gamma2", "rho", "eps",
           "clip_gradient", "rescale_grad", "eta", "lamda1", "beta", "schedule_decay", "lower_bound", "upper_bound")


def check_optimizer(optimizer: Any, settings: Any) -> None:
    """Raise ``TypeError`` or ``ValueError`` for what MXNet accepts unchecked, or refuses in an assertion."""
    if settings is not None and not isinstance(settings, Mapping):
        raise TypeError(f"optimizer_params is {settings!r}; accepted: a dict such as {{'learning_rate': 0.1}}, or None")
    for name, value in (settings or {}).items():
        if name in NUMBERS and value is not None:
            check_number(name, value, **({"minimum": 0} if name in ("learning_rate", "lr", "wd") else {}))
    if isinstance(optimizer, mx.optimizer.Optimizer):
        if settings:
            raise TypeError(f"optimizer_params is {settings!r} beside an optimizer that has its settings; accepted: "
                            f"None")
        return
    known = mx.optimizer.Optimizer.opt_registry
    if not isinstance(optimizer, str):
        raise TypeError(f"optimizer is {optimizer!r}; accepted: a name such as 'sgd', or an mx.optimizer.Optimizer")
    if optimizer.lower() not in known:
        raise ValueError(f"optimizer is {optimizer!r}; accepted: {', '.join(map(repr, sorted(known)))}")
    try:
        known[optimizer.lower()](**(settings or {}))
    except (TypeError, ValueError, AssertionError) as error:
        raise TypeError(f"optimizer_params is {settings!r}, which {optimizer} does not take: {error}") from None
