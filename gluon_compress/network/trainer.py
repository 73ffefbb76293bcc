"""Gluon's Trainer from inside: the optimizer's state, and parameters that are trained beside its own for a while."""
from contextlib import contextmanager

from mxnet.gluon import Trainer


@contextmanager
def training_also(trainer, parameters):
    """Let a ``gluon.Trainer``, or none, update further parameters; it and its optimizer forget them afterwards.

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
        del trainer._params[own:]
        trainer._params_to_init = [each for each in trainer._params_to_init if each in trainer._params]
        for index, parameter in enumerate(parameters, start=own):
            del trainer._param2idx[parameter.name], trainer._optimizer.param_dict[index]
            for counts in trainer._optimizer._all_index_update_counts.values():
                counts.pop(index, None)
            for updater in trainer._updaters:
                updater.states.pop(index, None)
                updater.states_synced.pop(index, None)


def check_shapes(trainer):
    """Raise ``ValueError`` naming a parameter whose shape has changed since the optimizer made its state."""
    if not trainer._kv_initialized:
        return
    for index, state in updaters(trainer)[0].states.items():
        parameter = trainer._params[index]
        data = parameter.list_data()[0]
        made, needed = state_shapes(state), state_shapes(trainer._optimizer.create_state_multi_precision(index, data))
        if made != needed:
            raise ValueError(f"the trainer's optimizer has a state of shape {made} for parameter {parameter.name}, "
                             f"which needs {needed} now: make a new Trainer after prune_channels")


def on_servers(trainer):
    """Whether the servers of a distributed key-value store update the weights."""
    if trainer._kv_initialized:
        return trainer._distributed and trainer._update_on_kvstore
    asked = trainer._kvstore_params
    kind = asked["kvstore"] if isinstance(asked["kvstore"], str) else getattr(asked["kvstore"], "type", "")
    return "dist" in kind and asked["update_on_kvstore"] is not False


def updaters(trainer):
    """The objects that hold the optimizer's state, with equal content: one per device, or one for all in the store."""
    if not trainer._kv_initialized:
        trainer._init_kvstore()
    return [trainer._kvstore._updater] if trainer._kvstore and trainer._update_on_kvstore else trainer._updaters


def state_shapes(state):
    """The shapes of the arrays of an optimizer state, as it is built."""
    if isinstance(state, (tuple, list)):
        return [state_shapes(part) for part in state]
    return getattr(state, "shape", None)
