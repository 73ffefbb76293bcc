"""What ``data``, a batch of it and an ``example`` may be: one definition for every function that is given one.

**data** is an iterable of batches: a Gluon ``DataLoader``, a list, ``ImageDataset.batches``, or one of MXNet's own
iterators (``NDArrayIter``, ``ImageRecordIter``, ...), which is reset before each pass. A generator is used up after one
pass; functions that need several refuse it.

**A batch** is one of

- ``(input, label)``;
- ``(input, input, label)`` for a network of several inputs, or ``((input, input), label)``; the second form is needed
  where the network has optional inputs, and may hold lists: ``((input, [state, state]), label)`` for a recurrent one;
- an ``mx.io.DataBatch``, without the samples that fill up its last batch (``pad``);
- ``{name of an input: input, anything: label}``, by the names in the network's graph, or any for a single input.

Where no labels are needed they may be missing: ``input``, or ``(input, input)``.

**An input** is an NDArray, an ``mx.np`` array or a NumPy array, the batch on its first axis. NumPy arrays become
float32, except those of 8 bits: raw pixels must be scaled first. **Labels** are an NDArray, an ``mx.np`` array or
anything that NumPy turns into an array of numbers.
"""
from __future__ import annotations

import inspect
from collections.abc import Iterable, Iterator, Mapping
from typing import Any, Protocol, runtime_checkable

import mxnet as mx
import numpy as np
from mxnet.gluon import Block, HybridBlock, SymbolBlock
from mxnet.gluon.data import Dataset

from ..arguments import with_article
from .engine_network import EngineNetwork
from .graph import input_names
from .inputs import flat, map_arrays
from .values import interface_of

ITERABLE = "an iterable of (input, label) batches, such as a DataLoader or a list"
PAIR = "pairs (input, label), with ((input, input), label) for several inputs"


@runtime_checkable
class IndexedData(Protocol):
    """Data that number their samples, so that values computed for each sample can be used in passes of any order.

    ``ImageDataset.batches`` is one; an iterable of batches with these methods is one, too.
    """

    def __len__(self) -> int:
        """How many batches a pass has."""

    def fingerprint(self) -> str:
        """SHA-256 of all samples, in their order; ``ValueError`` where they differ from pass to pass."""

    def number_of_samples(self) -> int:
        """How many samples there are."""

    def in_order(self) -> Iterable:
        """The batches (input, label) of all samples, from the first to the last."""

    def indexed(self) -> Iterator[tuple[np.ndarray, Any, Any]]:
        """One pass: (indices, inputs, labels), with the numbers ``(batch,)`` of the samples from 0."""


def go_through(data: Any, name: str) -> Iterator[Any]:
    """The batches of ``data``; ``TypeError`` if it is not an iterable of batches, ``ValueError`` when it has none."""
    check_data(data, name)
    if isinstance(data, mx.io.DataIter):
        data.reset()
    empty = True
    for batch in data:
        empty = False
        yield batch
    if empty:
        raise no_batches(name)


def check_data(data: Any, name: str) -> None:
    """Raise ``TypeError`` unless ``data`` can be gone through batch by batch."""
    if isinstance(data, (str, bytes, mx.nd.NDArray, np.ndarray, Mapping, Block)) or not hasattr(data, "__iter__"):
        what = repr(data) if data is None or isinstance(data, (str, bytes, int, float)) else _article(data)
        hint = ": wrap it in a DataLoader" if isinstance(data, Dataset) else ""
        raise TypeError(f"{name} is {what[:80]}{hint}; accepted: {ITERABLE}")


def no_batches(name: str) -> ValueError:
    return ValueError(f"{name} has no batches; accepted: an iterable of (input, label) batches that can be gone "
                      f"through once per epoch or step (a generator is used up after the first)")


def number_of_batches(data: Any) -> int | None:
    """How many batches a pass has, or None where that is known only at its end."""
    if isinstance(data, mx.io.NDArrayIter):
        return -(-data.num_data // data.batch_size)
    return len(data) if hasattr(data, "__len__") else None


def check_repeatable(data: Any, name: str) -> None:
    """Raise ``TypeError`` for a generator, which is used up after one pass."""
    if isinstance(data, Iterator) and not isinstance(data, mx.io.DataIter):
        raise TypeError(f"{name} is a {type(data).__name__}, which is used up after one pass; accepted here: what can "
                        f"be gone through again, such as a list of batches or a DataLoader")


def inputs_and_label(batch: Any, name: str, net: HybridBlock | EngineNetwork,
                     context: mx.Context | None = None) -> tuple[tuple, mx.nd.NDArray]:
    """``(inputs, label)`` of a batch: a tuple of NDArrays, or of nested lists of them, and an NDArray.

    Both belong to the network's interface of MXNet. ``name`` is what errors call the data. With ``context`` both are on
    that device.
    """
    inputs, rest = _split(batch, name, net, has_label=True)
    if len(rest) != 1:
        raise ValueError(f"a batch of {name} is {_article(batch)} with {len(inputs)} input(s) and {len(rest)} "
                         f"label(s); accepted: {PAIR}")
    inputs, label = _converted(inputs, name, context), _label(rest[0], name, context)
    samples = len(flat(inputs)[0])
    if label.ndim == 0 or 0 in label.shape:
        raise ValueError(f"the labels of a batch of {name} have shape {label.shape} for {samples} samples; accepted: "
                         f"one label per sample")
    return interface_of(net).own((inputs, label))


def inputs_of(batch: Any, name: str, net: HybridBlock | EngineNetwork, context: mx.Context | None = None) -> tuple:
    """The inputs of a batch with or without labels: a tuple of NDArrays, or of nested lists of them."""
    return interface_of(net).own(_converted(_split(batch, name, net, has_label=False)[0], name, context))


def as_given(inputs: tuple) -> Any:
    """What a user's function gets: a single input by itself, several inputs as a tuple."""
    return inputs[0] if len(inputs) == 1 else inputs


def check_finite_inputs(inputs: Any, name: str) -> None:
    """Raise ``ValueError`` for NaN or infinity, which a ReLU would hide."""
    for number, array in enumerate(flat(inputs)):
        values = array.asnumpy()
        if values.dtype.kind == "f" and not np.isfinite(values.sum()) and not np.isfinite(values).all():
            which = f"input {number} of a batch" if len(flat(inputs)) > 1 else "a batch"
            raise ValueError(f"{which} of {name} has values that are NaN or infinite; accepted: finite numbers")


def _split(batch: Any, name: str, net: HybridBlock | EngineNetwork, has_label: bool) -> tuple[list, list]:
    """(inputs, what follows them), both lists."""
    needed, optional = input_counts(net)
    if isinstance(batch, mx.io.DataBatch):
        pad = batch.pad or 0
        return ([_without_last(array, pad) for array in batch.data or ()],
                [_without_last(array, pad) for array in batch.label or ()])
    if isinstance(batch, Mapping):
        return _by_name(batch, name, net, needed)
    if not isinstance(batch, (tuple, list)):
        if needed > 1 or has_label:
            raise ValueError(f"a batch of {name} is {_article(batch)}; accepted: "
                             f"{PAIR if has_label else f'a tuple of the {needed} inputs'}")
        return [batch], []
    if batch and isinstance(batch[0], (tuple, list)):  # the inputs, by themselves
        return list(batch[0]), list(batch[1:])
    if len(batch) < max(needed, 1) + has_label:
        raise ValueError(f"a batch of {name} is {_article(batch)} of {len(batch)} for a network of {needed} input(s); "
                         f"accepted: {PAIR}{'' if has_label else ', or the inputs alone'}")
    more = len(batch) - needed - 1  # beside one label
    if not has_label and needed > 1 and needed < len(batch) <= needed + len(optional):
        raise ValueError(f"a batch of {name} has {len(batch)} values for a network of {needed} inputs and the "
                         f"optional {', '.join(optional)}: the last may be an input or a label; "
                         f"accepted here: ((input, ...), label), or ((input, ...),)")
    count = needed + more if optional and 0 < more <= len(optional) else needed
    return list(batch[:count]), list(batch[count:])


def _by_name(batch: Any, name: str, net: HybridBlock | EngineNetwork, needed: int) -> tuple[list, list]:
    names = input_names(net, needed)
    given = dict(batch)
    if all(each in given for each in names):
        inputs = [given.pop(each) for each in names]
    elif needed == 1 and len(given) == 1:
        inputs = [given.popitem()[1]]
    else:
        raise ValueError(f"a batch of {name} is a dict of {', '.join(map(repr, batch))}; accepted: one by the names of "
                         f"the network's inputs, {', '.join(names)}")
    return inputs, list(given.values())


def input_counts(net: HybridBlock | EngineNetwork) -> tuple[int, list[str]]:
    """(how many inputs a network needs, the names of those that have a default value)."""
    if isinstance(net, EngineNetwork):
        return len(net.inputs), []
    if isinstance(net, SymbolBlock):
        return len(net._cached_graph[0]), []
    own = type(net).forward is not HybridBlock.forward
    arguments = list(inspect.signature(net.forward if own else net.hybrid_forward).parameters.values())
    arguments = arguments if own else arguments[1:]  # without F
    arguments = [each for each in arguments
                 if each.kind is each.POSITIONAL_OR_KEYWORD and each.name not in net._reg_params]
    needed = [each.name for each in arguments if each.default is each.empty]
    return max(len(needed), 1), [each.name for each in arguments if each.default is not each.empty]


def _converted(inputs: Any, name: str, context: mx.Context | None) -> tuple:
    inputs = map_arrays(lambda value: _as_ndarray(value, name, context), tuple(inputs))
    if not flat(inputs):
        raise ValueError(f"a batch of {name} has no input; accepted: {PAIR}")
    return inputs


def _as_ndarray(value: Any, name: str, context: mx.Context | None) -> mx.nd.NDArray:
    if isinstance(value, np.ndarray) and value.dtype.kind in "iuf":
        value = mx.nd.array(value, dtype=value.dtype if value.dtype.itemsize == 1 and value.dtype.kind in "iu" else
                            np.float32)
    if not isinstance(value, mx.nd.NDArray):
        raise TypeError(f"a batch of {name} holds {_article(value)}; accepted: NDArrays or NumPy arrays of numbers")
    if value.ndim == 0 or 0 in value.shape:
        raise ValueError(f"a batch of {name} has shape {value.shape}; accepted: at least one sample")
    return value if context is None else value.as_in_context(context)


def _label(value: Any, name: str, context: mx.Context | None) -> mx.nd.NDArray:
    if not isinstance(value, mx.nd.NDArray):
        try:
            value = mx.nd.array(np.asarray(value, dtype=np.float32))
        except (TypeError, ValueError):
            raise TypeError(f"the labels of a batch of {name} are {_article(value)}; accepted: an NDArray or NumPy "
                            f"array of numbers") from None
    return value if context is None else value.as_in_context(context)


def _without_last(array: Any, count: int) -> Any:
    return array[:len(array) - count] if count else array


def _kind(value: Any) -> str:
    return f"{value.dtype} array" if isinstance(value, np.ndarray) else type(value).__name__


def _article(value: Any) -> str:
    return with_article(_kind(value)) if value is not None else "None"


def check_labels(labels: Any, outputs: Any) -> np.ndarray:
    """Labels ``(batch,)`` or ``(batch, 1)`` as a NumPy integer array ``(batch,)``.

    Raises ``ValueError`` when they do not fit logits ``outputs`` of shape ``(batch, classes)``, naming a
    label that is not in [0, classes).
    """
    if not isinstance(outputs, mx.nd.NDArray) or outputs.ndim != 2:
        raise ValueError(f"the network's output is {getattr(outputs, 'shape', type(outputs).__name__)}; "
                         f"accepted: logits (batch, classes)")
    batch, classes = outputs.shape
    if classes < 2:
        raise ValueError(f"the network's output is {outputs.shape}, a single class, of which every answer is right; "
                         f"accepted: logits (batch, classes) of at least two classes")
    values = labels.asnumpy() if isinstance(labels, mx.nd.NDArray) else np.asarray(labels)
    if values.shape not in ((batch,), (batch, 1)):
        raise ValueError(f"labels have shape {values.shape} for a batch of {batch}; "
                         f"accepted: ({batch},) or ({batch}, 1)")
    values = values.reshape(batch)
    wrong = (values < 0) | (values >= classes) | (values != np.floor(values))
    if wrong.any():
        raise ValueError(f"a label is {values[wrong][0]}; accepted: integers from 0 to {classes - 1}, "
                         f"the classes of the network")
    return values.astype(np.int64)
