"""Calibration: the ranges of a network's tensors, from a few hundred of its inputs."""
from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Iterator
from typing import TYPE_CHECKING, Any

import mxnet as mx
import numpy as np
from mxnet.gluon import HybridBlock

from ...network.blocks import block_of, tensors_of
from ...network.data import go_through, inputs_of
from ...network.graph import Graph
from ...network.inputs import example_inputs
from ...network.interface import CLASSIC
from ...network.misfits import shorten
from ...network.nodes import Entry, Node, in_order, symbol_of
from ...tables import progress_bar

if TYPE_CHECKING:
    from ..integers.inference_graph import InferenceGraph

Key = tuple[str, int]  # name of a node, which of its outputs

MOST_BYTES = 2 ** 26  # of tensors that are observed at once


def input_batches(data: Iterable[Any], net: HybridBlock) -> Iterator[tuple[mx.nd.NDArray, ...]]:
    """The inputs in each batch of ``data``, as tuples of NDArrays; see :mod:`gluon_compress.network.data`.

    They belong to MXNet's classic interface, as graphs do, whichever the network belongs to. Integers of 32 and 64 bits
    keep their type; all other numbers become float32.

    Raises
    ------
    TypeError
        For batches of another kind.
    ValueError
        When there are no batches, too few values in one, or raw pixels for a network that computes with floats.
    """
    for number, batch in enumerate(go_through(data, "the calibration data")):
        name = f"the calibration data (batch {number})"
        inputs = example_inputs(inputs_of(batch, name, net, mx.cpu()))
        if any(value.dtype in (np.uint8, np.int8) for value in inputs):
            Graph(net, inputs).check_types(inputs, f"a batch of {name}")
        yield tuple(map(_as_floats, CLASSIC.own(tuple(inputs))))


def _as_floats(value: mx.nd.NDArray) -> mx.nd.NDArray:
    return value.astype("float32") if value.dtype in (np.float16, np.float64, np.uint8, np.int8) else value


class Observation:
    """What calibration saw.

    Attributes
    ----------
    observers : dict
        {(node name, output): RangeObserver}.
    means : dict
        {layer name: float64 array}: the mean of each channel of a convolution's input, or of each feature of a dense
        layer's input.
    samples : int
    """

    def __init__(self) -> None:
        self.observers: dict[Key, Any] = {}
        self.means: dict[str, Any] = {}
        self.samples = 0

    def add(self, layers: list[Node], tensors: dict[Key, np.ndarray], samples: int) -> None:
        """Take in the tensors, {key: array}, of so many samples."""
        for name, value in tensors.items():
            self.observers[name].observe(value)
        for layer in layers:
            mean = _feature_means(layer, tensors[key(layer.inputs[0])])
            self.means[layer.name] += (mean - self.means[layer.name]) * samples / (self.samples + samples)
        self.samples += samples

    def threshold(self, entry: Entry, signed: bool) -> float:
        """The threshold of the tensor ``entry``, a (Node, int)."""
        return self.observers[key(entry)].threshold(signed)


def key(entry: Entry) -> Key:
    """What names a tensor in any copy of the graph."""
    return entry[0].name, entry[1]


def observe(graph: InferenceGraph, values: dict[str, np.ndarray], layers: list[Node], entries: list[Entry],
            batches: list[Any], new_observer: Callable[[], Any], progress: bool) -> Observation:
    """Run the fp32 network and return the :class:`Observation` of its tensors.

    Parameters
    ----------
    graph : InferenceGraph
    values : dict
        {structural name: array} of its parameters.
    layers : list of Node
        The layers whose inputs are averaged.
    entries : list of (Node, int)
    batches : list of tuple of NDArray
    new_observer : callable
        Makes a :class:`RangeObserver`.
    progress : bool

    Raises ``ValueError`` for inputs that do not fit, or are not finite, naming the batch.
    """
    seen = Observation()
    seen.observers = {key(entry): new_observer() for entry in entries}
    seen.means = {layer.name: 0.0 for layer in layers}
    net = block_of(entries, graph.inputs, values)
    for number, inputs in enumerate(progress_bar(batches, progress, desc="calibration", unit="batch")):
        for part in parts(inputs, entries, graph.inputs):
            seen.add(layers, dict(zip(map(key, entries), run(net, part, graph.inputs, number))), len(part[0]))
    return seen


def parts(inputs: tuple[Any, ...], entries: list[Entry], names: list[str]) -> list[tuple[Any, ...]]:
    """The batch in pieces whose tensors fit into MOST_BYTES; whole where its first axis does not count samples.

    ``names`` are those of the inputs in the graph of ``entries``.
    """
    each = 4 * sum(math.prod(node.shapes[output][1:]) for node, output in entries)  # bytes for one sample
    most = max(1, MOST_BYTES // each)
    if most >= len(inputs[0]) or len({len(value) for value in inputs}) > 1 or not _of_samples(inputs, entries, names):
        return [inputs]
    return [tuple(value[start:start + most] for value in inputs) for start in range(0, len(inputs[0]), most)]


def _of_samples(inputs: tuple[Any, ...], entries: list[Entry], names: list[str]) -> bool:
    """Whether axis 0 of the inputs counts samples, each of which is computed alone, not the places of a sequence.

    One more sample is one more everywhere, or changes nothing. With one more place the scores of an attention, which
    compares all places, would grow twice; and a recurrent layer goes through them on axis 0.
    """
    now, longer = (_shapes(inputs, entries, names, more) for more in (0, 1))
    if not longer:
        return False
    size = len(inputs[0])
    grows = [shape for name, shape in now.items() if shape != longer[name]
             and size * math.prod(longer[name]) != (size + 1) * math.prod(shape)]
    stepped = [key(node.read("data")) for node in in_order(entries) if node.meaning.recurrent]
    return not grows and all(now[name][0] == longer[name][0] for name in stepped)


def _shapes(inputs: tuple[Any, ...], entries: list[Entry], names: list[str], more: int) -> dict[Key, tuple[int, ...]]:
    """{key of a tensor: its shape} of a graph with so many more samples; empty where these do not fit it."""
    order = in_order(entries)
    known = {node.name: node.shapes[0] for node in order if node.operator == "null"}
    known.update((name, (len(value) + more, *value.shape[1:])) for name, value in zip(names, inputs) if name in known)
    all_entries = [(node, output) for node in order for output in range(len(node.shapes))]
    try:
        _, shapes, _ = symbol_of(all_entries).infer_shape_partial(**known)
    except mx.MXNetError:
        return {}
    return dict(zip(map(key, all_entries), shapes))


def run(net: HybridBlock, inputs: tuple[Any, ...], names: list[str], number: int) -> list[np.ndarray]:
    """The outputs for batch ``number``; ``ValueError`` where it does not fit, or is not finite."""
    for name, value in zip(names, inputs):
        if not np.isfinite(value.asnumpy()).all():
            raise ValueError(f"batch {number} of the calibration data has values of input {name} that are not finite")
    try:
        return tensors_of(net, inputs)
    except mx.MXNetError as error:
        shapes = ", ".join(str(value.shape) for value in inputs)
        raise ValueError(f"batch {number} of the calibration data, of shape {shapes}, does not fit the network: "
                         f"{shorten(error)}") from error


def _feature_means(layer: Node, value: np.ndarray) -> np.ndarray:
    if layer.get("flatten"):
        value = value.reshape(len(value), -1)
    others = tuple(axis for axis in range(value.ndim) if axis != layer.channel_axis)
    return value.mean(axis=others, dtype=np.float64)
