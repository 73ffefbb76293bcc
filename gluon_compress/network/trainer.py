"""Gluon's Trainer from inside: its optimizer, the optimizer's state, its key-value store, more parameters to train."""
from __future__ import annotations

from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from typing import Any

from mxnet.gluon import Parameter, Trainer
from mxnet.optimizer import Optimizer, Updater

from .interface import CLASSIC

# Parameters

def trained_parameters(trainer: Trainer) -> list[Parameter]:
    """The parameters that a trainer was given, in the order of their numbers in the optimizer and the store."""
    return trainer._params


@contextmanager
def training_also(trainer: Trainer | None, parameters: Iterable[Parameter]) -> Iterator[None]:
    """Let a ``gluon.Trainer`` (or None) update further parameters; it and its optimizer forget them afterwards.

    Raises ``ValueError`` for a trainer that has made a key-value store, which knows its parameters for good.
    """
    parameters = list(parameters)
    if not isinstance(trainer, Trainer) or not parameters:  # fit refuses what is neither a Trainer nor None
        yield
        return
    if trainer._kvstore is not None:
        raise ValueError("the trainer has made a step with a key-value store, which takes no further parameters: make "
                         "a new Trainer for a distillation with adapters")
    own = len(trainer._params)
    for index, parameter in enumerate(parameters, start=own):
        trainer._params.append(parameter)
        trainer._params_to_init.append(parameter)
        trainer._param2idx[parameter.name] = index
        trainer._optimizer.param_dict[index] = parameter
        parameter._set_trainer(trainer)
    try:
        yield
    finally:
        _forget(trainer, own)


def _forget(trainer: Trainer, own: int) -> None:
    """Remove all parameters but the trainer's ``own`` first ones."""
    further = list(enumerate(trainer._params))[own:]
    del trainer._params[own:]
    trainer._params_to_init = [each for each in trainer._params_to_init if each in trainer._params]
    for index, parameter in further:
        del trainer._param2idx[parameter.name], trainer._optimizer.param_dict[index]
        for counts in trainer._optimizer._all_index_update_counts.values():
            counts.pop(index, None)
        for updater in trainer._updaters:
            updater.states.pop(index, None)
            updater.states_synced.pop(index, None)


# The optimizer and its state

def optimizer_of(trainer: Trainer) -> Optimizer:
    """The optimizer, with its settings and its learning rate scheduler."""
    return trainer._optimizer


def accept_both_interfaces(trainer: Trainer) -> None:
    """Let a trainer that was made in MXNet's classic mode update ``mx.np`` arrays, too."""
    trainer._optimizer.allow_np_array = True


def gradient_scale(trainer: Trainer) -> float:
    """The factor on gradients, apart from the division by the batch size: the ``rescale_grad`` asked for."""
    return trainer._scale


def optimizer_states(trainer: Trainer) -> dict[int, Any]:
    """{number of a parameter: the optimizer's state of it}; from the first device, as the others have equal ones."""
    return _updaters(trainer)[0].states


def restore_optimizer_states(trainer: Trainer, states: dict[int, Any]) -> None:
    """Put back what :func:`optimizer_states` gave, on each device."""
    for updater in _updaters(trainer):
        updater.states.update({number: _copied(state) for number, state in states.items()})
        updater.states_synced.update(dict.fromkeys(states, False))  # the updater puts them on its device


def _copied(state: Any) -> Any:
    """A copy of an optimizer state in new arrays, into which the optimizer can write."""
    if isinstance(state, (tuple, list)):
        return tuple(map(_copied, state))
    return None if state is None else state.copy()


def new_state(trainer: Trainer, number: int, weight: Any) -> Any:
    """The state that the optimizer would make for the parameter of this number, with these values."""
    return trainer._optimizer.create_state_multi_precision(number, CLASSIC.own(weight))


def update_counts(trainer: Trainer) -> dict[int, int]:
    """{number of a parameter: how often it was updated}."""
    return trainer._optimizer._index_update_count


def restore_update_counts(trainer: Trainer, total: int, counts: dict[int, int]) -> None:
    """The number of updates in all, and for each parameter; each device has its own counts."""
    trainer._optimizer.num_update = total
    for device in {0, *(context.device_id for context in trainer._contexts)}:
        trainer._optimizer._all_index_update_counts.setdefault(device, {}).clear()
        trainer._optimizer._all_index_update_counts[device].update(counts)


def check_shapes(trainer: Trainer) -> None:
    """Raise ``ValueError`` naming a parameter whose shape has changed since the optimizer made its state."""
    if not trainer._kv_initialized:
        return
    for index, state in optimizer_states(trainer).items():
        parameter = trainer._params[index]
        made, needed = _shapes(state), _shapes(new_state(trainer, index, parameter.list_data()[0]))
        if made != needed:
            raise ValueError(f"the trainer's optimizer has a state of shape {made} for parameter {parameter.name}, "
                             f"which needs {needed} now: make a new Trainer after prune_channels")


def _updaters(trainer: Trainer) -> list[Updater]:
    """The objects that hold the optimizer's state, with equal content: one per device, or one for all in the store."""
    if not trainer._kv_initialized:
        trainer._init_kvstore()
    return [trainer._kvstore._updater] if trainer._kvstore and trainer._update_on_kvstore else trainer._updaters


def _shapes(state: Any) -> Any:
    """The shapes of the arrays of an optimizer state, nested as the state is."""
    if isinstance(state, (tuple, list)):
        return [_shapes(part) for part in state]
    return getattr(state, "shape", None)


# The key-value store

def has_store(trainer: Trainer) -> bool:
    """Whether the trainer has made its key-value store, or found that it needs none; its first step does so."""
    return trainer._kv_initialized


def store_of(trainer: Trainer) -> Any:
    """The key-value store that a trainer has made; before that, its ``kvstore`` argument: a name, a store or None."""
    return trainer._kvstore if trainer._kv_initialized else trainer._kvstore_params["kvstore"]


def kind_of_store(trainer: Trainer) -> str:
    """The kind of :func:`store_of`, such as "device" or "dist_sync"; "" for none."""
    store = store_of(trainer)
    return store if isinstance(store, str) else getattr(store, "type", "")


def asked_update_on_store(trainer: Trainer) -> bool | None:
    """The ``update_on_kvstore`` that a trainer was given."""
    return trainer._kvstore_params["update_on_kvstore"]


def compression_of(trainer: Trainer) -> dict | None:
    """The ``compression_params`` that a trainer was given."""
    return trainer._compression_params


def use_store(trainer: Trainer, store: Any) -> None:
    """Let a trainer that has made none yet use this key-value store, for gradients only."""
    trainer._kvstore_params.update(kvstore=store, update_on_kvstore=False)


def begin_with_store(trainer: Trainer) -> None:
    """Make the key-value store and put the parameters into it, which Gluon does after the first pass."""
    if not trainer._kv_initialized:
        trainer._init_kvstore()
    trainer._init_params()


def on_servers(trainer: Trainer) -> bool:
    """Whether the servers of a distributed key-value store update the weights."""
    if trainer._kv_initialized:
        return trainer._distributed and trainer._update_on_kvstore
    return "dist" in kind_of_store(trainer) and asked_update_on_store(trainer) is not False
