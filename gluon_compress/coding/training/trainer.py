"""A trainer that lowers the coded size of a network while it trains."""
from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from typing import Any

import mxnet as mx
import numpy as np
from mxnet.gluon import HybridBlock, Parameter

from ...arguments import check_flag, check_integer, check_number, shown
from ...errors import RecordError
from ...files.schema import Malformed, fields, integer, list_of, maybe, number
from ...network.checks import check_net
from ...network.ctrl_c import undisturbed
from ...network.hooked_trainer import HookedTrainer, has_new_gradient
from ...network.layer import CONVOLUTIONS, Which, select_layers
from ...network.trainer import optimizer_of
from ...pruning.weights.masked_trainer import check_optimizer
from ...quantization.scales import Scales
from ..arrays import encode
from .goal import MOST_PENALTY, SizeGoal
from .steps import LARGEST_LOG2, StepOptimizer, scale_of, step_of
from .tensors import coded_tensors, not_finite

CODED = (*CONVOLUTIONS, "Dense", "Embedding")
CODED_EVERY = 10  # countings of the codes, where there is a SizeGoal: they are coded to know their true size
_LARGE = 1e30  # more than any loss has for a slope, and small enough to be squared
_NUMBERS = list_of(number(-_LARGE, _LARGE))
_COUNT = integer(0, 2**63 - 1)
_STEERING = {name: number(0, _LARGE) for name in ("penalty", "before", "per_bit")}
_STEPS = fields({"log2": list_of(number(-LARGEST_LOG2, LARGEST_LOG2)), "mean": _NUMBERS,
                 "square": list_of(number(0, _LARGE ** 2)), "count": _COUNT})
_STATE = fields({"step": maybe(_COUNT), "masks": fields({
    "updates": _COUNT, **_STEERING, "error": number(-_LARGE, _LARGE), "slopes": _NUMBERS, "steps": _STEPS},
    {"highest_rate": number(0, _LARGE)})})


class RateTrainer(HookedTrainer):
    """A ``gluon.Trainer`` under which all weights are whole numbers of steps, ever more of them zero.

    The loop stays as it is, be it yours or :func:`~gluon_compress.training.fit`:

    >>> trainer = RateTrainer(net, 1.0, "adam", {"learning_rate": 1e-3}, warmup=5000)
    >>> distill(net, original, data, epochs=50, trainer=trainer)
    >>> save("small.gcz", net, trainer.scales)

    The network holds ``w = step * round(v / step)`` at any time, so what is trained and evaluated is what is saved.
    The trainer keeps ``v``, and updates it as if nothing were rounded (Bengio et al., 2013); the steps are learned, too
    (Esser et al., "Learned Step Size Quantization", 2020). To the loss ``L`` of a sample it adds what the weights
    take,

        L + penalty * bits(v / step) / number of weights

    with the lengths of :mod:`.code_lengths`, counted anew every ``frequency`` updates (after Oktay et al., "Scalable
    Model Compression by Entropy Penalized Reparameterization", 2020). A weight that rounds to zero goes on getting
    gradients, and comes back where it is worth its bits.

    ``fit`` with ``state_path`` goes on after it was killed. In a loop of your own keep, beside the network's parameters
    and Gluon's ``save_states``, which knows the optimizer alone, :meth:`extra_state` (JSON) and :meth:`state_tensors`
    (arrays); in a new trainer ``load_states``, ``restore_extra_state`` and ``restore_state_tensors``, in this order.

    Parameters
    ----------
    net : HybridBlock
        On one or several devices. Its weights are rounded from here on, and each update begins with what the trainer
        keeps of them: after ``load_parameters`` make a new one. Those that were rounded before, with one scale
        for all (``per_channel=False``), keep their codes; as steps are on a grid, they are scaled by up to two percent.
    penalty : float or SizeGoal
        What a bit for each weight costs, in units of the loss, in [0, 1e9]: about 0.01 to 1. Or the size to reach, to
        which it is steered.
    optimizer, optimizer_params, **trainer_arguments
        As for ``gluon.Trainer``; ``update_on_kvstore`` is False. Adam suits, at about a tenth to all of the learning
        rate that the network is trained with.
    warmup : int
        Updates over which the penalty rises from 0.
    frequency : int
        Updates from one counting of the codes, and move of the steps, to the next.
    step_rate : float
        How far steps move each time, in octaves, in [0, 100], for the highest learning rate that the optimizer has had
        since the beginning; it falls with it.
    vectors : bool
        Whether parameters of one axis are coded, too: biases, and gamma and beta of a BatchNorm.
    select, exclude : name, kind, class or function of layers, or several of these
        Which layers' weights to code, by default those of convolutions, dense layers and embeddings.

    Attributes
    ----------
    penalty : float
        That of now; may be set at any time.
    left_out : dict
        {layer name: why its weight is not coded}.

    Raises
    ------
    TypeError, ValueError
        For arguments out of range, a selection that matches nothing, and ``update_on_kvstore=True``.
    NetworkError
        For a network whose weights are not finite, or are frozen; in ``step`` and what tells of the weights, once
        gradients or weights are not finite.
    """

    def __init__(self, net: HybridBlock, penalty: float | SizeGoal, optimizer: str | mx.optimizer.Optimizer,
                 optimizer_params: dict | None = None, *, warmup: int = 0, frequency: int = 20,
                 step_rate: float = 0.02, vectors: bool = True, select: Which = None, exclude: Which = (),
                 **trainer_arguments: Any) -> None:
        check_optimizer(optimizer, optimizer_params)
        self._goal = penalty if isinstance(penalty, SizeGoal) else None
        penalty = penalty.penalty if isinstance(penalty, SizeGoal) else penalty
        check_number("penalty", penalty, minimum=0, maximum=MOST_PENALTY)
        check_integer("warmup", warmup, minimum=0)
        check_integer("frequency", frequency, minimum=1)
        check_number("step_rate", step_rate, minimum=0, maximum=LARGEST_LOG2)
        check_flag("vectors", vectors)
        if trainer_arguments.setdefault("update_on_kvstore", False) not in (False, None):
            raise ValueError("update_on_kvstore is True; accepted: False, as the weights are rounded after each update")
        trainer_arguments["update_on_kvstore"] = False
        check_net(net)
        chosen, self.left_out = select_layers(net, select, exclude, CODED)
        tensors = coded_tensors(net, [layer.parameter_name for layer in chosen], vectors)
        super().__init__(net.collect_params(), optimizer, optimizer_params, **trainer_arguments)
        self._penalty, self._warmup, self._frequency, self._updates = float(penalty), warmup, frequency, 0
        self._net, self._tensors = net, tensors
        self._count = sum(tensor.counted.size for tensor in tensors)
        self._steps = StepOptimizer(np.log2([tensor.first_step() for tensor in tensors]), step_rate)
        self._slopes: list[Any] = [0.0] * len(tensors)  # of the loss, by the logarithm of each step
        self._unrounded = False  # whether the network holds the values before rounding, as within an update
        self._highest_rate = self.learning_rate  # so far: after a warm-up not that of the beginning
        self._round()
        self._count_codes()
        self._before, self._error = self.coded_bytes() if self._goal else 0, 0.0
        self._per_bit = self._bytes_per_bit()

    @property
    def penalty(self) -> float:
        return self._penalty

    @penalty.setter
    def penalty(self, value: float) -> None:
        check_number("penalty", value, minimum=0, maximum=MOST_PENALTY)
        self._penalty = float(value)

    @property
    def scales(self) -> Scales:
        """The :class:`Scales` of the weights that the network has now, which ``save`` takes.

        Raises ``NetworkError`` where they are not finite, ``RecordError`` where they are no whole numbers of a step, as
        after changes from elsewhere.
        """
        found = {}
        for tensor in self._tensors:
            values = tensor.values()[0].asnumpy()
            if not np.isfinite(values).all():
                raise not_finite(tensor.name)
            scale = scale_of(values)
            if scale is None:
                raise RecordError(f"the values of {tensor.name} are not whole numbers of a step: they were changed "
                                  f"after the last update; accepted: the network as the trainer left it")
            found[tensor.name] = {"bits": 8, "axis": None, "scale": scale}
        return Scales(found, self.left_out)

    @property
    def steps(self) -> dict[str, np.float32]:
        """{parameter name: step} now."""
        return dict(zip((tensor.name for tensor in self._tensors), self._current_steps()))

    @property
    def bits(self) -> float:
        """What the weights take now by the count of the codes, on which the penalty is."""
        return sum(tensor.bits(step) for tensor, step in zip(self._tensors, self._current_steps()))

    def coded_bytes(self) -> int:
        """What the weights take now, coded; the file has its header and the rest of the network beside them."""
        return sum(len(encode(codes)) for codes in self.codes().values())

    def codes(self) -> dict[str, np.ndarray]:
        """{parameter name: int8 codes} of the weights that the network has now."""
        return self.scales.codes(self._net)

    # ---- around each update

    def _before_update(self) -> None:
        """Nothing: gradients are complete only once they are reduced."""

    def _before_stored_update(self, parameter: Parameter, weight: mx.nd.NDArray) -> None:
        """Nothing is updated in a key-value store."""

    def _before_reduced_update(self) -> None:
        """The penalty's gradient is added, and what the optimizer updates are the values before rounding."""
        for tensor in self._tensors:
            tensor.check_trained()
        strength = self._strength() / optimizer_of(self).rescale_grad
        for index, (tensor, step) in enumerate(zip(self._tensors, self._current_steps())):
            if has_new_gradient(tensor.parameter):  # not so of a layer that was not called, with ignore_stale_grad
                self._slopes[index] = tensor.add_penalty(strength, step) + self._slopes[index]
        with undisturbed():
            self._unrounded = True
            for tensor in self._tensors:
                tensor.unround()

    def _after_failed_update(self) -> None:
        if self._unrounded:
            self._keep_latents()
            self._round()

    def _after_update(self) -> None:
        self._keep_latents()
        self._updates += 1
        if self._updates % self._frequency == 0:
            self._move_steps()
            self._round()
            self._count_codes()
            self._steer()
        else:
            self._round()

    def _keep_latents(self) -> None:
        with undisturbed():
            for tensor in self._tensors:
                tensor.keep()

    def _strength(self) -> float:
        """What a bit costs now."""
        return self.penalty * min(1.0, (self._updates + 1) / max(self._warmup, 1)) / self._count

    def _steer(self) -> None:
        """Change the penalty towards the goal, if there is one."""
        if self._goal is not None:
            if self._updates % (self._frequency * CODED_EVERY) == 0:
                self._per_bit = self._bytes_per_bit()
            wanted = self._goal.wanted(self._updates, self._before)
            error = float(np.log(max(self.bits * self._per_bit, 1.0) / wanted))
            self._penalty = self._goal.next_penalty(self._penalty, error, self._error, self._updates, self._frequency)
            self._error = error

    def _bytes_per_bit(self) -> float:
        """How many bytes of codes there are for each bit of the penalty's."""
        return self.coded_bytes() / max(self.bits, 1.0) if self._goal else 0.0

    def _current_steps(self) -> list[np.float32]:
        return [step_of(log2) for log2 in self._steps.log2]

    def _slope_numbers(self) -> list[float]:
        return [slope if isinstance(slope, float) else float(slope.asscalar()) for slope in self._slopes]

    def _move_steps(self) -> None:
        slopes = np.array(self._slope_numbers())
        if not np.isfinite(slopes).all():
            raise not_finite(self._tensors[int(np.isfinite(slopes).argmin())].name)
        self._slopes = [0.0] * len(self._tensors)
        self._highest_rate = max(self._highest_rate, self.learning_rate)
        factor = self.learning_rate / self._highest_rate if self._highest_rate else 1.0
        self._steps.move(slopes * optimizer_of(self).rescale_grad, factor)

    def _round(self) -> None:
        with undisturbed():
            for tensor, step in zip(self._tensors, self._current_steps()):
                tensor.round(step)
            self._unrounded = False

    def _count_codes(self) -> None:
        for tensor, step in zip(self._tensors, self._current_steps()):
            tensor.count(tensor.codes(step))

    # ---- several workers, saved states

    def _meet_workers(self) -> None:
        if not self.as_worker_0(bytes.fromhex(self.start_digest)):
            raise RecordError(f"worker {self.rank} has other settings or steps than worker 0: give all the same "
                              f"weights and arguments")

    @property
    def start_digest(self) -> str:
        """SHA-256 of the settings and the steps, by which a saved training state knows them again."""
        goal = self._goal and (self._goal.size, self._goal.updates, self._goal.penalty)
        settings = (goal, self._warmup, self._frequency, self._steps.rate, self._updates, self._steps.log2.tolist(),
                    [tensor.name for tensor in self._tensors])
        return hashlib.sha256(json.dumps(settings).encode()).hexdigest()

    def extra_state(self) -> dict:
        """What :meth:`restore_extra_state` needs to go on from here, as JSON."""
        steps = {name: getattr(self._steps, name).tolist() for name in ("log2", "mean", "square")}
        return {"step": None, "masks": {
            "updates": self._updates, "penalty": self.penalty, "before": self._before, "per_bit": self._per_bit,
            "error": self._error, "highest_rate": self._highest_rate,
            "slopes": self._slope_numbers(), "steps": {**steps, "count": self._steps.count}}}

    def restore_extra_state(self, state: dict) -> None:
        """Go on from :meth:`extra_state`; ``RecordError``, with nothing changed, when it is of another trainer."""
        try:
            _STATE(state, "state")
        except Malformed as error:
            raise RecordError(f"this is no state of a RateTrainer: {error}") from error
        found, steps = state["masks"], state["masks"]["steps"]
        if any(len(each) != len(self._tensors) for each in (
                found["slopes"], steps["log2"], steps["mean"], steps["square"])):
            raise RecordError(f"the state is of {len(steps['log2'])} coded parameters, this trainer has "
                              f"{len(self._tensors)}")
        self._updates, self._penalty, self._steps.count = found["updates"], float(found["penalty"]), steps["count"]
        self._before, self._per_bit, self._error = found["before"], found["per_bit"], found["error"]
        self._highest_rate = found.get("highest_rate", self._highest_rate)  # older states have none
        self._slopes = list(map(float, found["slopes"]))
        for name in ("log2", "mean", "square"):
            setattr(self._steps, name, np.array(steps[name], np.float64))

    def state_tensors(self) -> dict[str, np.ndarray]:
        """{parameter name: its values before rounding, "counted <name>": the codes that its lengths are of}."""
        return {**{tensor.name: tensor.latents[0].asnumpy() for tensor in self._tensors},
                **{f"counted {tensor.name}": tensor.counted for tensor in self._tensors}}

    def restore_state_tensors(self, tensors: dict[str, np.ndarray]) -> None:
        """Go on from :meth:`state_tensors`, after :meth:`restore_extra_state`."""
        own = self.state_tensors()
        if not isinstance(tensors, Mapping) or own.keys() != tensors.keys():
            raise RecordError("the state has values of other parameters than this trainer codes")
        for name, value in tensors.items():
            if not isinstance(value, np.ndarray) or (value.shape, value.dtype) != (own[name].shape, own[name].dtype):
                raise RecordError(f"the state has {shown(value)} as values of {name}; accepted: {own[name].dtype} of "
                                  f"shape {own[name].shape}")
            if not np.isfinite(value).all():
                raise RecordError(f"the state has values of {name} that are not finite; accepted: finite numbers")
        for tensor in self._tensors:
            for latent in tensor.latents:
                latent[:] = tensors[tensor.name]
            tensor.count(tensors[f"counted {tensor.name}"].astype(np.float32))
        self._round()
