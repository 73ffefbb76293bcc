"""The state of a training run on disk, without pickle: parameters, optimizer, masks, history.

``gluon.Trainer.save_states`` pickles the optimizer, so the same content is written as tensors here.
"""
from __future__ import annotations

from pathlib import Path
from typing import Any

import mxnet as mx
import numpy as np
from mxnet.gluon import HybridBlock, Parameter, Trainer
from mxnet.lr_scheduler import LRScheduler

from ..arguments import differences
from ..errors import CheckpointError, RecordError
from ..files import tensorfile
from ..files.schema import Malformed, anything, boolean, either, fields, integer, list_of, mapping, maybe, number, text
from ..network.hooked_trainer import HookedTrainer
from ..network.trainer import (
    gradient_scale,
    new_state,
    on_servers,
    optimizer_of,
    optimizer_states,
    restore_optimizer_states,
    restore_update_counts,
    trained_parameters,
    update_counts,
)
from ..network.values import parameters, set_values_and_shape, value_of

KIND = "training state"

# Numbers that an optimizer keeps beside its states (Nadam's product of momenta).
OPTIMIZER_NUMBERS = ("m_schedule",)
# Optimizers that keep arrays beside their states.
NOT_SAVABLE = ("LBSGD",)
EITHER_INTERFACE = "allow_np_array"  # set by fit; files from before it did so have it among the settings
# Attributes of optimizers that change while they train; every other plain one is a setting.
CHANGING = ("lr", "rescale_grad", "num_update", "begin_num_update", "last_lr", "cur_lr", EITHER_INTERFACE,
            *OPTIMIZER_NUMBERS)
# Attributes of MXNet's learning rate schedulers that change while they run.
COUNTED = ("base_lr", "count", "cur_step_ind")
MOST_MISSED = 1000  # steps that a scheduler may have to catch up with: it takes them one by one

_COUNT = integer(0, 1 << 40)
_STEPS = list_of(either(_COUNT, number()), most=100_000)
_SETTING = either(boolean, integer(-1 << 40, 1 << 40), number(), _STEPS, text())
_EPOCH = fields({"epoch": _COUNT, "loss": number(), "accuracy": number(0, 1), "learning_rate": number(),
                 "validation_accuracy": maybe(number()), "seconds": number(0)})
_HEADER = fields({
    "run": mapping(anything), "epochs": list_of(_EPOCH), "states": mapping(anything), "num_update": _COUNT,
    "update_counts": mapping(_COUNT), "optimizer_numbers": fields({}, dict.fromkeys(OPTIMIZER_NUMBERS, number())),
    "trained": list_of(text()), "lr_scheduler": maybe(mapping(_SETTING)),
    "pruning": maybe(fields({"masks": anything, "step": maybe(_COUNT)}))})  # the masks check themselves


def check_savable(trainer: Trainer) -> None:
    """Raise ``ValueError`` for a trainer whose whole state cannot be saved here."""
    name = type(optimizer_of(trainer)).__name__
    if name in NOT_SAVABLE:
        raise ValueError(f"state_path is given, but the state of optimizer {name} cannot be saved: "
                         f"choose another optimizer, or state_path=None")
    if on_servers(trainer):
        raise ValueError("state_path is given, but the optimizer's state is on the servers and cannot be saved: make "
                         "the trainer with update_on_kvstore=False, or state_path=None")


def describe(trainer: Trainer) -> dict:
    """A JSON dict of what identifies a trainer: its class, optimizer, settings and masks."""
    optimizer = optimizer_of(trainer)
    settings = {f"optimizer.{name}": value for name, value in vars(optimizer).items() if not name.startswith("_")
                and name not in CHANGING and isinstance(value, (bool, int, float, str))}
    scheduler = optimizer.lr_scheduler
    return {"trainer": type(trainer).__name__, "optimizer": type(optimizer).__name__, **settings,
            "learning_rate": float(trainer.learning_rate), "rescale_grad": gradient_scale(trainer),
            "lr_scheduler": None if scheduler is None else {"class": type(scheduler).__name__, **_plain(scheduler)},
            "masks_digest": trainer.start_digest if isinstance(trainer, HookedTrainer) else None}


def _plain(scheduler: LRScheduler) -> dict:
    """The plain attributes of a learning rate scheduler: its settings, and what it counts while it runs."""
    return {name: value for name, value in vars(scheduler).items()
            if isinstance(value, (bool, int, float, str)) or (isinstance(value, list) and name == "step")}


def save(path: Path, net: HybridBlock, trainer: Trainer, identity: dict, epochs: list[dict],
         best_parameters: dict[str, np.ndarray] | None) -> None:
    """Write the state after an epoch, atomically.

    ``identity`` tells this training from others (a JSON dict); ``best_parameters`` is a snapshot or None. When the
    network is on several devices, the values on the first are written.
    """
    check_savable(trainer)
    tensors = {f"net/{name}": value_of(parameter)
               for name, parameter in parameters(net).items()}
    for name, array in (best_parameters or {}).items():
        tensors[f"best/{name}"] = array
    if isinstance(trainer, HookedTrainer):
        tensors.update((f"trainer/{name}", array) for name, array in trainer.state_tensors().items())
    names = _trained_names(net, trainer)
    structure = {names[index]: _flatten(state, f"optimizer/{names[index]}", tensors)
                 for index, state in optimizer_states(trainer).items()}
    optimizer = optimizer_of(trainer)
    counts = {names[index]: count for index, count in update_counts(trainer).items()}
    numbers = {name: getattr(optimizer, name) for name in OPTIMIZER_NUMBERS if hasattr(optimizer, name)}
    header = {"run": identity, "epochs": epochs, "states": structure, "num_update": optimizer.num_update,
              "update_counts": counts, "optimizer_numbers": numbers, "trained": sorted(names),
              "lr_scheduler": None if optimizer.lr_scheduler is None else _plain(optimizer.lr_scheduler),
              "pruning": trainer.extra_state() if isinstance(trainer, HookedTrainer) else None}
    tensorfile.write(path, KIND, tensors, header)


def restore(path: Path, net: HybridBlock, trainer: Trainer,
            identity: dict) -> tuple[list[dict], dict[str, np.ndarray] | None]:
    """Put a saved state back; return ``(epochs, best_parameters)``.

    Raises
    ------
    CheckpointError
        When the file is damaged, or belongs to another run, network or optimizer. Nothing is changed then.
    """
    tensors, header = tensorfile.read(path, KIND, _HEADER)
    header["run"].pop(f"optimizer.{EITHER_INTERFACE}", None)
    if header["run"] != identity:
        raise CheckpointError(f"{path} is of another run: {differences(header['run'], identity)}; delete it or choose "
                              f"another path")
    check_savable(trainer)
    named, names = parameters(net), _trained_names(net, trainer)
    _check_same_network(path, named, tensors)
    if header["trained"] != sorted(names):
        raise CheckpointError(f"{path} was written with a trainer of other parameters")
    if (header["pruning"] is not None) != isinstance(trainer, HookedTrainer):
        raise CheckpointError(f"{path} was written with{'' if header['pruning'] else 'out'} a MaskedTrainer: "
                              f"make the same trainer again")
    with tensorfile.content_of(path, KIND):
        _check_content(header, tensors, trainer, names)
    if isinstance(trainer, HookedTrainer):
        try:
            trainer.restore_extra_state(header["pruning"])
            trainer.restore_state_tensors(_part(tensors, "trainer/"))
        except RecordError as error:
            raise CheckpointError(f"{path} has masks that do not fit: {error}") from error
    for name, parameter in named.items():
        set_values_and_shape(parameter, tensors[f"net/{name}"])
    index_of = {name: index for index, name in enumerate(names)}
    # after the values, which make a key-value store forget what it held
    restore_optimizer_states(trainer, {index_of[name]: _unflatten(structure, tensors)
                                       for name, structure in header["states"].items()})
    restore_update_counts(trainer, header["num_update"],
                          {index_of[name]: count for name, count in header["update_counts"].items()})
    _restore_counted(trainer, header)
    best = _part(tensors, "best/")
    return header["epochs"], best or None


def _restore_counted(trainer: Trainer, header: dict) -> None:
    """The further numbers that the optimizer, and its scheduler, have counted on."""
    optimizer = optimizer_of(trainer)
    for name, value in header["optimizer_numbers"].items():
        setattr(optimizer, name, value)
    for name, value in (header.get("lr_scheduler") or {}).items():
        setattr(optimizer.lr_scheduler, name, value)


def _check_content(header: dict, tensors: dict[str, np.ndarray], trainer: Trainer, names: list[str]) -> None:
    """Raise :class:`Malformed` unless all that :func:`restore` puts back fits the trainer."""
    _check_epochs(header, tensors)
    _check_arrays(header, tensors, trainer, names)
    for name, count in header["update_counts"].items():
        if name not in names or count > header["num_update"]:
            raise Malformed(f"parameter {name} was updated {count} times of {header['num_update']}")
    for name in header["optimizer_numbers"]:
        if not hasattr(optimizer_of(trainer), name):
            raise Malformed(f"the optimizer has no {name}")
    scheduler = optimizer_of(trainer).lr_scheduler
    if (scheduler is None) != (header["lr_scheduler"] is None):
        raise Malformed(f"it was written with{'out' if scheduler else ''} a learning rate scheduler")
    if scheduler is not None:
        _check_scheduler(header["lr_scheduler"], scheduler, header["num_update"])


def _check_epochs(header: dict, tensors: dict[str, np.ndarray]) -> None:
    """The history is whole, and the best epoch's parameters are there when one was validated."""
    epochs, best = header["epochs"], _part(tensors, "best/")
    if [epoch["epoch"] for epoch in epochs] != list(range(1, len(epochs) + 1)):
        raise Malformed("its epochs are not counted from 1")
    if len(epochs) > header["run"].get("epochs", len(epochs)):
        raise Malformed(f"it has {len(epochs)} epochs of {header['run']['epochs']}")
    if bool(best) != any(epoch["validation_accuracy"] is not None for epoch in epochs):
        raise Malformed("the parameters of the best epoch are missing, or there should be none")


def _check_arrays(header: dict, tensors: dict[str, np.ndarray], trainer: Trainer, names: list[str]) -> None:
    """Parameters are finite, the best epoch's are like the last's, and optimizer states are like those ours makes."""
    saved, best = _part(tensors, "net/"), _part(tensors, "best/")
    if best and {name: (array.shape, array.dtype) for name, array in best.items()} != {
            name: (array.shape, array.dtype) for name, array in saved.items()}:
        raise Malformed("the parameters of the best epoch are not those of the last")
    for name, array in (*saved.items(), *best.items()):
        if array.dtype.kind == "f" and not np.isfinite(array).all():
            raise Malformed(f"parameter {name} is not finite")
    used: set[str] = set()
    for name, structure in header["states"].items():
        if name not in names:
            raise Malformed(f"the optimizer has a state of {name}, which is not trained")
        index = names.index(name)
        weight = mx.nd.array(saved[name], dtype=saved[name].dtype) if name in saved else \
            trained_parameters(trainer)[index].list_data()[0]
        _check_state(structure, new_state(trainer, index, weight), f"optimizer/{name}", tensors, used)
    for name in tensors.keys() - used:
        if name.startswith("trainer/") and not np.isfinite(tensors[name]).all():
            raise Malformed(f"tensor {name!r} is not finite")
        if not name.startswith(("net/", "best/", "trainer/")):
            raise Malformed(f"tensor {name!r} belongs to nothing")


def _check_state(structure: Any, made: Any, name: str, tensors: dict[str, np.ndarray], used: set[str]) -> None:
    """Whether a saved optimizer state is like one that the optimizer has ``made``: MXNet's kernels do not check."""
    if isinstance(made, (tuple, list)):
        if not isinstance(structure, list) or len(structure) != len(made):
            raise Malformed(f"{name} is {structure!r}; accepted: a list of {len(made)}")
        for number, (part, other) in enumerate(zip(structure, made)):
            _check_state(part, other, f"{name}/{number}", tensors, used)
    elif made is None or structure is None:
        if made is not structure:
            raise Malformed(f"{name} is {structure!r}, the optimizer makes {made!r}")
    elif structure != name or name not in tensors:
        raise Malformed(f"{name} is {structure!r}, or has no tensor")
    elif tensors[name].shape != made.shape or tensors[name].dtype != np.dtype(made.dtype):
        raise Malformed(f"{name} has shape {tensors[name].shape} and type {tensors[name].dtype}; accepted: "
                        f"{made.shape} and {np.dtype(made.dtype)}")
    else:
        used.add(name)


def _check_scheduler(saved: dict, scheduler: LRScheduler, num_update: int) -> None:
    """What a scheduler counts may differ from ours; its settings may not."""
    own = _plain(scheduler)
    if type(scheduler).__module__ == "mxnet.lr_scheduler":
        settings = {name: value for name, value in own.items() if name not in COUNTED}
        if saved.keys() != own.keys() or {name: saved[name] for name in settings} != settings:
            raise Malformed(f"its learning rate scheduler has {saved}, ours {own}")
    for name, value in saved.items():
        if not name.isidentifier() or name.startswith("__") or callable(getattr(scheduler, name, None)):
            raise Malformed(f"its learning rate scheduler has {name!r}, which is no setting")
        if isinstance(value, str) != isinstance(own.get(name, value), str):
            raise Malformed(f"{name} of its learning rate scheduler is {value!r}; accepted: like {own[name]!r}")
    step = own.get("step")
    if "count" in saved and isinstance(step, int) and num_update - saved["count"] > MOST_MISSED * max(step, 1):
        raise Malformed(f"its learning rate scheduler has counted {saved['count']} of {num_update} updates")


def _trained_names(net: HybridBlock, trainer: Trainer) -> list[str]:
    """Names in ``net`` of the trainer's parameters, in its order; those of other blocks are numbered.

    The trainer sorts by Gluon's names, so that its order depends on how many layers were made before.
    """
    names = {id(parameter): name for name, parameter in parameters(net).items()}
    return [names.get(id(parameter), f"other/{index}") for index, parameter in enumerate(trained_parameters(trainer))]


def _check_same_network(path: Path, named: dict[str, Parameter], tensors: dict[str, np.ndarray]) -> None:
    saved = _part(tensors, "net/")
    for name in sorted(saved.keys() ^ named.keys()):
        raise CheckpointError(f"{path} belongs to another network: parameter {name} is only in "
                              f"{'the file' if name in saved else 'the network'}")
    for name, parameter in named.items():
        shape, saved_shape = parameter.shape, saved[name].shape  # 0: what a first forward pass will tell
        if shape is not None and (len(shape) != len(saved_shape) or
                                  any(known > 0 and known != size for known, size in zip(shape, saved_shape))):
            raise CheckpointError(f"{path} belongs to another network: parameter {name} has shape "
                                  f"{saved_shape} there, {shape} here")
        if saved[name].dtype != np.dtype(parameter.dtype):
            raise CheckpointError(f"{path} belongs to another network: parameter {name} has type "
                                  f"{saved[name].dtype} there, {np.dtype(parameter.dtype)} here")


def _part(tensors: dict[str, np.ndarray], prefix: str) -> dict[str, np.ndarray]:
    """The tensors whose names begin with ``prefix``, without it."""
    return {name.removeprefix(prefix): tensor for name, tensor in tensors.items() if name.startswith(prefix)}


def _flatten(state: Any, name: str, tensors: dict[str, np.ndarray]) -> Any:
    """Store the arrays of an optimizer state (None, an NDArray or a tuple of such); return its structure."""
    if state is None:
        return None
    if isinstance(state, (tuple, list)):
        return [_flatten(part, f"{name}/{number}", tensors) for number, part in enumerate(state)]
    if not isinstance(state, mx.nd.NDArray):
        raise CheckpointError(f"optimizer state {name} is a {type(state).__name__}; only arrays can be saved")
    tensors[name] = state.asnumpy()
    return name


def _unflatten(structure: Any, tensors: dict[str, np.ndarray]) -> Any:
    if structure is None:
        return None
    if isinstance(structure, list):
        return tuple(_unflatten(part, tensors) for part in structure)
    return mx.nd.array(tensors[structure], dtype=tensors[structure].dtype)
