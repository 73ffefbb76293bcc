"""An ONNX model of a graph of nodes."""
from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import onnx

from ...arguments import check_text, shown
from ...errors import NetworkError
from ...network.nodes import Entry, Node
from . import operators  # noqa: F401  they fill the table
from .lengths import Axes, Graph, Shape
from .table import TABLE, listed
from .writer import Writer, metadata_name, metadata_text

# The first opset with weights of 4 bits. ONNX Runtime takes it from version 1.18 (May 2024) on; the zoos' networks ran
# in it in ONNX Runtime 1.32 and OpenVINO 2026.4 (benchmarks/onnx_zoo.py).
DEFAULT_OPSET = 21
OLDEST_OPSET = 13  # the first with QuantizeLinear per channel


def write_model(outputs: Sequence[Entry], inputs: Mapping[str, tuple[Shape, Any]], values: Mapping[str, np.ndarray],
                *, opset: int | None = None, batch_axes: Sequence[Axes] | None = None,
                metadata: Mapping[str, Any] | None = None) -> onnx.ModelProto:
    """The ONNX model of a graph of nodes.

    Parameters
    ----------
    outputs : list of (Node, int)
        What the model puts out, in order. The table of operators has MXNet's, and ``QuantizeLinear`` and
        ``DequantizeLinear`` as ONNX defines them: they read data, scale and zero point (parameters), and have an
        attribute ``axis`` where there is a scale per channel.
    inputs : dict
        {name: (shape of the example, type)}, in the order in which the model takes them.
    values : dict
        {name of a parameter node: array} of any type, int8 and ``ml_dtypes.int4`` included.
    opset : int, optional
        From 13 to the newest that the installed onnx knows; 21 by default.
    batch_axes : list of dict, optional
        Each is {input: axis of its samples, or None}. The first with which each output follows the number of samples is
        taken, and these axes have the length ``batch`` in the model. By default, axis 0 of all inputs. None of them
        (``[]``, or where the outputs or an operator cannot follow): the lengths are those of the example.
    metadata : dict, optional
        What the model says of itself under the names ``gluon_compress.<name>``, beside ``version`` and ``opset``;
        values other than text are written as JSON.

    Raises
    ------
    NetworkError
        For operators that the table does not have, or that have no form in this opset: all of them at once. When
        the shapes of the inputs do not fit, or the weights are larger than a file can be.
    """
    import gluon_compress  # here, because it imports this module's room

    graph = Graph(outputs, inputs, values)
    graph.follow_batch([dict.fromkeys(inputs, 0)] if batch_axes is None else batch_axes)
    _check_operators(graph.nodes)
    opset = checked_opset(opset)
    writer = _written(graph, inputs, values, opset)
    if writer.obstacles and graph.axes is not None:  # perhaps an operator cannot follow the batch
        graph.fix_batch()
        writer = _written(graph, inputs, values, opset)
    writer.check_all_written()
    return writer.model({"version": gluon_compress.__version__, "opset": opset, **(metadata or {})})


def add_metadata(model: onnx.ModelProto, metadata: Mapping[str, Any] | None) -> None:
    """Let a model say further things of itself; ``TypeError`` or ``ValueError`` for what no file can hold."""
    if metadata is None:
        return
    if not isinstance(metadata, Mapping):
        raise TypeError(f"metadata is {shown(metadata)}; accepted: a dict of {{name: text or plain data}}")
    known = {entry.key for entry in model.metadata_props}
    for name, value in metadata.items():
        check_text("a name in metadata", name)
        if metadata_name(name) in known:
            raise ValueError(f"metadata has {name!r}, which the file says of itself; accepted: other names")
        try:
            model.metadata_props.add(key=metadata_name(name), value=metadata_text(value))
        except (TypeError, ValueError) as error:
            raise TypeError(f"metadata[{name!r}] is {shown(value)}; accepted: text, or plain data") from error


def _written(graph: Graph, inputs: Mapping[str, tuple[Shape, Any]], values: Mapping[str, np.ndarray],
             opset: int) -> Writer:
    writer = Writer(graph, inputs, values, opset)
    for node in graph.nodes:
        writer.write(node)
    return writer


def checked_opset(opset: int | None) -> int:
    """The opset, or the default for None; ``ValueError`` for one that cannot be written."""
    newest = onnx.defs.onnx_opset_version()
    if opset is None:
        return min(DEFAULT_OPSET, newest)
    if isinstance(opset, bool) or not isinstance(opset, (int, np.integer)):
        raise TypeError(f"opset is {opset!r}; accepted: an integer from {OLDEST_OPSET} to {newest}, or None")
    if not OLDEST_OPSET <= opset <= newest:
        raise ValueError(f"opset is {opset}; accepted: {OLDEST_OPSET} to {newest}, the newest that onnx "
                         f"{onnx.__version__} knows")
    return int(opset)


def _check_operators(nodes: Sequence[Node]) -> None:
    unknown: dict[str, list[str]] = {}
    for node in nodes:
        if node.operator != "null" and node.operator not in TABLE and not node.is_identity:
            unknown.setdefault(node.operator, []).append(node.name)
    if unknown:
        raise NetworkError(f"there is no ONNX form of {listed(unknown)}")
