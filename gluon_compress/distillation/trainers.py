"""Parameters that a trainer updates for a while beside its own."""
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
