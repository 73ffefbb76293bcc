"""Shapes and types inside a graph that is to leave, for any batch: which lengths follow that of the batch, and how."""
from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import mxnet as mx
import numpy as np

from ...errors import NetworkError
from ...network.interface import classic_graph, has_numpy_operators, is_known
from ...network.misfits import shorten
from ...network.nodes import Entry, Node, in_order, symbol_of

Shape = tuple[int, ...]
Axes = Mapping[str, int | None]  # {input: the axis along which its samples lie}
STEPS_FIRST = {f"_contrib_interleaved_matmul_{name}" for name in (
    "selfatt_qk", "selfatt_valatt", "encdec_qk", "encdec_valatt")}
SEQUENCES = ("SequenceMask", "SequenceLast", "SequenceReverse")
FURTHER_BATCHES = (1, 3)  # samples more than the example's with which lengths are found; three points of a line


@dataclass(frozen=True)
class Samples:
    """A length that is ``factor * batch + offset``."""

    factor: int
    offset: int = 0


Length = int | Samples


@dataclass(frozen=True)
class Tensor:
    """What the graph tells of one entry: its lengths, and its type in MXNet."""

    lengths: tuple[Length, ...]
    dtype: np.dtype
    shape: Shape  # of the example


class Graph:
    """Tensors of the nodes that ``outputs`` depend on.

    Attributes
    ----------
    nodes : list of Node
        Each after its inputs.
    axes : dict or None
        {input: axis of the batch}, None in it for an input without one; None where the outputs do not follow a batch.
    """

    def __init__(self, outputs: Sequence[Entry], inputs: Mapping[str, tuple[Shape, Any]],
                 values: Mapping[str, np.ndarray]) -> None:
        self.nodes = in_order(list(outputs))
        self.outputs, self._inputs = list(outputs), dict(inputs)
        self._shadow = _Shadow(self.nodes, values)
        self._shapes = self._shadow.shapes({name: shape for name, (shape, _) in inputs.items()})
        self._types = self._shadow.types({name: dtype for name, (_, dtype) in inputs.items()})
        self.axes: Axes | None = None
        self._lengths: dict[Entry, tuple[Length, ...]] = dict(self._shapes)

    def tensor(self, entry: Entry) -> Tensor:
        return Tensor(self._lengths[entry], self._types[entry], self._shapes[entry])

    def tensor_of_input(self, name: str) -> Tensor:
        """Lengths and type of an input, whether or not the graph reads it."""
        shape, dtype = self._inputs[name]
        axis = None if self.axes is None else self.axes.get(name)
        lengths: tuple[Length, ...] = shape
        if axis is not None:
            lengths = (*shape[:axis], Samples(1), *shape[axis + 1:])
        return Tensor(lengths, np.dtype(dtype), shape)

    def follow_batch(self, candidates: Sequence[Axes]) -> None:
        """Let the lengths follow the batch along the first of these axes with which each output does."""
        for axes in candidates:
            lengths = self._lengths_along(axes)
            if lengths is not None:
                self.axes, self._lengths = axes, lengths
                return

    def fix_batch(self) -> None:
        """Let all lengths be those of the example."""
        self.axes, self._lengths = None, dict(self._shapes)

    def _lengths_along(self, axes: Axes) -> dict[Entry, tuple[Length, ...]] | None:
        batches = {self._inputs[name][0][axis] for name, axis in axes.items() if axis is not None}
        if len(batches) != 1:
            return None
        batch, = batches
        found = []
        for more in FURTHER_BATCHES:
            try:
                found.append(self._shadow.shapes({
                    name: _longer(shape, axes.get(name), more) for name, (shape, _) in self._inputs.items()}))
            except NetworkError:
                return None
        try:
            lengths = {entry: _on_a_line(shape, [other[entry] for other in found], batch)
                       for entry, shape in self._shapes.items()}
        except ValueError:
            return None
        follows = all(_follows(lengths[entry]) for entry in self.outputs)
        return lengths if follows and _keeps_steps(self.nodes, lengths) else None


def _longer(shape: Shape, axis: int | None, more: int) -> Shape:
    return shape if axis is None else (*shape[:axis], shape[axis] + more, *shape[axis + 1:])


def _on_a_line(shape: Shape, others: Sequence[Shape], batch: int) -> tuple[Length, ...]:
    """The lengths as numbers of samples; ``ValueError`` where they are none."""
    if any(len(other) != len(shape) for other in others):
        raise ValueError("the number of axes changes")
    lengths: list[Length] = []
    for length, *longer in zip(shape, *others):
        factor = longer[0] - length
        if [length + factor * more for more in FURTHER_BATCHES] != longer:
            raise ValueError("a length is no multiple of that of the batch")
        lengths.append(Samples(factor, length - factor * batch) if factor else length)
    return tuple(lengths)


def _follows(lengths: Sequence[Length]) -> bool:
    """Whether there are as many as samples along one axis, or a multiple along the first, as of samples times heads."""
    found = [(axis, length) for axis, length in enumerate(lengths) if isinstance(length, Samples)]
    return len(found) == 1 and found[0][1].offset == 0 and (found[0][1].factor == 1 or found[0][0] == 0)


def _keeps_steps(nodes: Sequence[Node], lengths: Mapping[Entry, tuple[Length, ...]]) -> bool:
    """Whether operators that go through steps make as many, whatever the batch."""
    return all(isinstance(lengths[node.inputs[0]][0], int) for node in nodes if steps_first(node))


def steps_first(node: Node) -> bool:
    """Whether an operator reads (steps, samples, ...)."""
    return node.meaning.recurrent or node.operator in STEPS_FIRST or \
        node.operator in SEQUENCES and node.get("axis", 0) == 0


class _Shadow:
    """The graph for MXNet's inference of shapes and types: with plain names, and casts where we have codes."""

    def __init__(self, nodes: Sequence[Node], values: Mapping[str, np.ndarray]) -> None:
        self._entries: dict[str, list[Entry]] = {}
        copies: dict[int, Node] = {}
        self._parameters: dict[str, np.ndarray] = {}
        self._names: dict[str, str] = {}
        for index, node in enumerate(nodes):
            copy = copies[id(node)] = Node(f"n{index}", node.operator, dict(node.settings), subgraphs=node.subgraphs,
                                           inputs=[(copies[id(source)], output) for source, output in node.inputs])
            if node.operator == "null":
                copy.attributes = {}
                if node.name in values:
                    self._parameters[copy.name] = values[node.name]
                else:
                    self._names[node.name] = copy.name
            elif node.operator in CODES:
                copy.operator, copy.attributes = "Cast", {"dtype": CODES[node.operator](node, values)}
                del copy.inputs[1:]
        # without parameters that only codes read, such as a scale of shape (), which the classic interface has not
        self._symbol = symbol_of([(copies[id(node)], 0) for node in nodes if node.operator != "null"
                                  or node.name not in values]).get_internals()
        self._numpy_shapes = has_numpy_operators(self._symbol)
        self._read = set(self._symbol.list_inputs())
        self._outputs = [output.name for output in self._symbol]
        self._by_name = {f"n{index}": node for index, node in enumerate(nodes)}

    def shapes(self, inputs: Mapping[str, Shape]) -> dict[Entry, Shape]:
        known = {name: value.shape for name, value in self._parameters.items()}
        known.update((self._names[name], shape) for name, shape in inputs.items() if name in self._names)
        try:
            with classic_graph(self._numpy_shapes):
                _, found, _ = self._symbol.infer_shape_partial(**self._only_read(known))
                wrong = [] if found is None else [index for index, shape in enumerate(found) if not is_known(shape)]
        except mx.MXNetError as error:
            raise NetworkError(f"the inputs do not fit the graph: {self._told(error)}") from None
        if found is None or wrong:
            raise NetworkError("the shapes inside the network do not follow from those of its inputs")
        return {**self._of_parameters(lambda value: value.shape), **self._by_entry(found)}

    def types(self, inputs: Mapping[str, Any]) -> dict[Entry, np.dtype]:
        known = {name: _type_in_mxnet(value.dtype) for name, value in self._parameters.items()}
        known.update((self._names[name], np.dtype(dtype)) for name, dtype in inputs.items() if name in self._names)
        try:
            with classic_graph(self._numpy_shapes):
                _, found, _ = self._symbol.infer_type_partial(**self._only_read(known))
        except mx.MXNetError as error:
            raise NetworkError(f"the types of the inputs do not fit the graph: {self._told(error)}") from None
        inferred = {entry: np.dtype(dtype or np.float32) for entry, dtype in self._by_entry(found or []).items()}
        return {**inferred, **self._of_parameters(lambda value: value.dtype)}

    def _of_parameters(self, what: Callable[[np.ndarray], Any]) -> dict[Entry, Any]:
        return {(self._by_name[name], 0): what(value) for name, value in self._parameters.items()}

    def _told(self, error: mx.MXNetError) -> str:
        """What MXNet says, with the names that the nodes have in the network."""
        return re.sub(r"\b(Error in operator )(n\d+)\b",
                      lambda match: match[1] + self._by_name[match[2]].name, shorten(error))

    def _only_read(self, known: Mapping[str, Any]) -> dict[str, Any]:
        return {name: value for name, value in known.items() if name in self._read}

    def _by_entry(self, found: Sequence[Any]) -> dict[Entry, Any]:
        """{entry: what was found for it}; MXNet lists the outputs of the nodes in an order of its own."""
        entries: dict[Entry, Any] = {}
        count: dict[str, int] = {}
        for output, value in zip(self._outputs, found):
            number = count[output] = count.get(output, -1) + 1
            entries[self._by_name[output], number] = value
        return entries


def _type_in_mxnet(dtype: np.dtype) -> np.dtype:
    """Codes of 4 bits count as int8 here: MXNet has no narrower type."""
    return np.dtype(np.int8) if dtype.name in ("int4", "uint4", "int2", "uint2", "uint16", "int16") else dtype


def _codes_type(node: Node, values: Mapping[str, np.ndarray]) -> str:
    zero = values[node.inputs[2][0].name] if len(node.inputs) > 2 else np.zeros(1, np.uint8)
    return _type_in_mxnet(zero.dtype).name


# {operator of ours: the type that it makes, as MXNet calls it}
CODES = {"QuantizeLinear": _codes_type,
         "DequantizeLinear": lambda node, values: values[node.inputs[1][0].name].dtype.name}
