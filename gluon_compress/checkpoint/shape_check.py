"""The shapes and types of a file's graph: inferred within bounds before anything is computed.

MXNet's inference trusts what some operators claim: a reshape to a different number of elements, scales whose length
is not the number of channels, a condition shaped differently from what it chooses from. The operator then reads and
writes beyond its tensors. Those operators are checked here.
"""
from __future__ import annotations

import functools
import math
import re
from collections.abc import Mapping
from typing import Any

import mxnet as mx
import numpy as np

from ..files.schema import Malformed
from ..network.interface import classic_graph, has_numpy_operators, has_numpy_shapes
from ..network.nodes import Entry, Node, nodes_of
from ..network.operators import OPERATORS
from .allowed_operators import canonical_names
from .symbol_check import first_line, lone_symbol, settings_of

Shape = tuple[int, ...]
MOST_NUMBERS = 1 << 31  # in all tensors between the operators together
BATCH_NORMS = ("_npx_batch_norm", *(name for name, operator in OPERATORS.items() if operator.keeps_statistics))
NORMS = (*BATCH_NORMS, *(name for name, operator in OPERATORS.items() if operator.normalizes))
SIZE_KEEPING = ("Reshape", "reshape_like", "_np_reshape", "_npx_reshape", "Flatten", "expand_dims", "squeeze",
                "_np_squeeze", "_npi_expand_dims")
FLOATING_POINT = ("Activation", "BatchNorm", "Convolution", "Deconvolution", "FullyConnected", "InstanceNorm",
                  "LayerNorm", "LRN", "LeakyReLU", "Pooling", "RNN", "softmax", "log_softmax", "elemwise_div",
                  "broadcast_div", "_div_scalar", "_rdiv_scalar", "mean", "moments", "_npi_mean", "_npi_std",
                  "_npi_var", "_npi_average")  # on integers these end the process, the last ten by dividing by zero


def check_shapes(symbol: mx.sym.Symbol, shapes: Mapping[str, Any], most: int = MOST_NUMBERS) -> None:
    """Raise :class:`Malformed` when tensors of these ``shapes``, {name: shape}, do not go together in ``symbol``.

    Also when the tensors between its operators, as far as their shapes are known, hold more than ``most`` numbers.
    """
    with classic_graph(has_numpy_operators(symbol)):
        _check_inferred(symbol, shapes, most)


def _check_inferred(symbol: mx.sym.Symbol, shapes: Mapping[str, Any], most: int) -> None:
    internals = symbol.get_internals()
    known = set(internals.list_inputs())
    try:
        arguments, outputs, auxiliary = internals.infer_shape_partial(
            **{name: tuple(shape) for name, shape in shapes.items() if name in known})
    except (mx.MXNetError, ValueError, TypeError) as error:
        if known - shapes.keys() and _read_unknown(internals, error, shapes):
            return  # a network's first call, when all are known, checks them
        raise Malformed(f"the shapes do not go together: {first_line(error)}") from error
    inferred = {**dict(zip(internals.list_arguments(), arguments or ())),
                **dict(zip(internals.list_auxiliary_states(), auxiliary or ()))}
    for name, shape in shapes.items():
        if name in inferred and inferred[name] and tuple(inferred[name]) != tuple(shape):
            raise Malformed(f"the graph reads {name} as {tuple(inferred[name])}, it has shape {tuple(shape)}")
    _check_nodes(internals, outputs or ())
    total = sum(math.prod(shape) for shape in outputs or () if shape and min(shape) > 0)
    if total > most:
        raise Malformed(f"the tensors between the operators have {total} numbers; accepted: at most {most}")


def _read_unknown(internals: mx.sym.Symbol, error: Exception, shapes: Mapping[str, Any]) -> bool:
    """Whether the operator that raised reads a tensor of unknown shape: ``Pad`` and ``take`` do not wait for it."""
    (nodes, entries), named = nodes_of(internals), re.search(r"Error in operator ([^\s:]+):", str(error))
    node = next((node for node in nodes if named and node.operator != "null" and node.name == named[1]), None)
    positions = {entry: position for position, entry in enumerate(entries)}
    read = [positions.get(entry) for entry in node.inputs] if node is not None else []
    return any(position is not None and _is_unknown(internals[position], shapes) for position in read)


def _is_unknown(tensor: mx.sym.Symbol, shapes: Mapping[str, Any]) -> bool:
    known = set(tensor.list_inputs())
    try:
        _, (shape,), _ = tensor.infer_shape_partial(
            **{name: tuple(shape) for name, shape in shapes.items() if name in known})
    except mx.MXNetError:
        return False  # what comes before it does not go together either
    return not shape or min(shape) <= 0


def _check_nodes(internals: mx.sym.Symbol, shapes: Any) -> None:
    """Each operator by itself. A shape is None here when it is not known, as it depends on the network's input."""
    nodes, entries = nodes_of(internals)
    found = {entry: tuple(shape) if shape and min(shape) > 0 else None for entry, shape in zip(entries, shapes)}
    for node in nodes:
        if node.operator == "null":
            continue
        read = [found.get(entry) for entry in node.inputs]
        if all(read):
            _check_alone(node, read, found)
        operator = canonical_names().get(node.operator)
        if operator in SIZE_KEEPING:
            _check_size_kept(node.name, read[0], found.get((node, 0)))
        elif operator in NORMS:
            _check_norm(node, operator, *read)
        elif operator == "where":
            _check_condition(node.name, *read)
        elif operator in ("transpose", "_np_transpose") and read[0]:
            _check_permutation(node, len(read[0]))


def _check_alone(node: Node, read: list[Shape | None], found: Mapping[Entry, Shape | None]) -> None:
    """MXNet infers forward and backward, and does not notice when the two disagree: ask for each node alone."""
    settings = settings_of(node.attributes)
    for output, shape in enumerate(_shapes_alone(node.operator, settings, tuple(read), has_numpy_shapes())):
        as_read = found.get((node, output))
        if shape and min(shape) > 0 and as_read not in (None, tuple(shape)):
            raise Malformed(f"{node.name} makes {tuple(shape)} of {', '.join(map(str, read))}, read as {as_read}")


@functools.lru_cache(10_000)
def _shapes_alone(operator: str, attributes: tuple[tuple[str, str], ...], shapes: tuple[Shape, ...],
                  numpy_shapes: bool) -> Any:
    """The shapes of the outputs of an operator that reads tensors of these shapes, with or without NumPy's."""
    symbol = lone_symbol(operator, attributes)
    try:
        _, outputs, _ = symbol.infer_shape_partial(**dict(zip(symbol.list_inputs(), shapes)))
    except mx.MXNetError as error:
        raise Malformed(f"{operator} cannot read {', '.join(map(str, shapes))}: {first_line(error)}") from error
    return outputs or []


def _check_size_kept(name: str, before: Shape | None, after: Shape | None) -> None:
    """MXNet infers any shape that is asked for, and then writes beyond the smaller of the two."""
    if before and after and math.prod(before) != math.prod(after):
        raise Malformed(f"{name} makes {after} of {before}, which has a different number of elements")


def _check_norm(node: Node, operator: str, data: Shape | None, *statistics: Shape | None) -> None:
    """MXNet reads one number of scale, shift and statistics for each channel, without checking that they are there."""
    known = {shape for shape in statistics if shape}
    axis = int(node.attributes.get("axis", 1))
    if operator in BATCH_NORMS and data and -len(data) <= axis < len(data):
        known.add((data[axis],))
    if len(known) > 1 or any(len(shape) != 1 for shape in known):
        raise Malformed(f"{node.name} has scale, shift and statistics of shapes {', '.join(map(str, known))}")


def _check_condition(name: str, condition: Shape | None, chosen: Shape | None, other: Shape | None) -> None:
    """MXNet checks a condition of one dimension or of as many as its data; with another number it reads beyond it."""
    shape = chosen or other
    if condition and shape and condition not in (chosen, other, shape[:1]):
        raise Malformed(f"{name} chooses from {shape} by a condition of shape {condition}")


def _check_permutation(node: Node, dimensions: int) -> None:
    """MXNet reads beyond the array when an axis appears twice."""
    axes = [int(axis) for axis in re.findall(r"-?\d+", node.attributes.get("axes", ""))]
    if axes and sorted(axis % dimensions for axis in axes) != list(range(dimensions)):
        raise Malformed(f"{node.name} has the axes {axes}; accepted: each of {dimensions} once")


def check_types(symbol: mx.sym.Symbol, types: Mapping[str, str]) -> None:
    """Raise :class:`Malformed` when tensors of these ``types``, {name: NumPy's name}, do not go together in ``symbol``.

    Also when a layer would compute with integers: MXNet then uses its integer kernels, which end the process.
    """
    internals = symbol.get_internals()
    known = set(internals.list_inputs())
    try:
        _, outputs, _ = internals.infer_type_partial(**{name: kind for name, kind in types.items() if name in known})
    except (mx.MXNetError, ValueError, TypeError) as error:
        raise Malformed(f"the types do not go together: {first_line(error)}") from error
    operators = {node.name: canonical_names().get(node.operator) for node in nodes_of(symbol)[0]}
    for output, kind in zip(internals, outputs or ()):
        if operators.get(output.name) in FLOATING_POINT and kind is not None and np.dtype(kind).kind != "f":
            raise Malformed(f"{output.name} is a {operators[output.name]} of type {np.dtype(kind)}; accepted: floats")
