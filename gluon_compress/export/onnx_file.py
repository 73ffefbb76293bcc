"""ONNX, as MXNet's converter writes it, mended and compared with the network before it is put in place."""
from __future__ import annotations

import contextlib
import re
import warnings
from collections.abc import Collection, Iterator, Sequence
from pathlib import Path
from typing import Any

import mxnet as mx
import numpy as np
from mxnet.gluon import HybridBlock

from ..arguments import check_flag
from ..errors import NetworkError
from ..files.paths import check_target
from ..files.writing import write_atomically
from ..network.graph import Graph
from ..network.inputs import example_inputs
from ..network.misfits import shorten
from ..network.nodes import Node, edited
from ..network.numbers import positions
from .comparing import check_close, check_inputs_used, run_graph

# MXNet 1.9.1 writes the operators' forms of opset 13, under whatever number the installed onnx is at. All
# of them mean the same in 14, where BatchNormalization has the inference form that MXNet writes.
ONNX_OPSET = 14
ONNX_IR_VERSION = 7  # of onnx 1.9, which brought opset 14


def to_onnx(net: HybridBlock, path: str | Path, example: Any, verify: bool = True) -> Path:
    """Write the network as ONNX (opset 14) and return the path.

    Pruned weights are written as zeros, quantized ones as the float32 values they stand for. The
    batch axis is dynamic, named ``batch``, when the network's outputs follow it; otherwise it is fixed at
    the example's, and a warning says so. MXNet's converter is known to write some operators wrongly
    without warning. The file is therefore checked by ``onnx.checker`` and run once in ONNX's reference
    implementation before it is put in place.

    Parameters
    ----------
    net : HybridBlock
        Stays as it is, its hybridization included.
    path : str or Path
        Ends in ``.onnx``.
    example : NDArray or tuple of NDArray
        A batch of the input; its shape and type are those of the file.
    verify : bool
        False skips the run in the reference implementation. It is slow for large networks, fails
        on one or two of its own operators, and float16 does not run on MXNet's CPU side.

    Raises
    ------
    ImportError
        When onnx is not installed.
    TypeError, ValueError
        As for :func:`gluon_compress.report`.
    NetworkError
        When MXNet's converter does not know an operator, or what it wrote computes something else.
    """
    try:
        import onnx
        from mxnet import onnx as converter
        from onnx import mapping  # noqa: F401  MXNet's converter uses it, later versions of onnx do without
    except ImportError as error:
        raise ImportError("to_onnx needs the package onnx, in a version that MXNet 1.9.1 can use: "
                          "pip install 'onnx==1.16.2'") from error
    check_flag("verify", verify)
    check_target("path", path)
    path = Path(path)
    if path.suffix != ".onnx":
        raise ValueError(f"path is {str(path)!r}; accepted: a name that ends in .onnx")
    inputs = example_inputs(example)
    graph = Graph(net, inputs)
    check_inputs_used(graph)
    batch_is_dynamic = _outputs_follow_batch(graph, inputs)
    if not batch_is_dynamic:
        warnings.warn(f"the outputs do not follow the batch axis: {path.name} only takes input of shape "
                      f"{', '.join(str(value.shape) for value in inputs)}", stacklevel=2)
    _check_operators(graph, converter.get_operator_support())

    def write(temporary: Path) -> None:
        _convert(graph, inputs, batch_is_dynamic, temporary)
        model = _tidy(onnx.load(str(temporary)), graph, inputs, batch_is_dynamic)
        try:
            onnx.checker.check_model(model, full_check=True)
        except (onnx.checker.ValidationError, onnx.shape_inference.InferenceError) as error:
            raise NetworkError(f"MXNet's ONNX converter wrote a file that ONNX does not accept: {error}") from error
        if verify:
            _compare_onnx(graph, model, inputs, batch_is_dynamic)
        onnx.save(model, str(temporary))
    write_atomically(path, write)
    return path


def _outputs_follow_batch(graph: Graph, inputs: Sequence[mx.nd.NDArray]) -> bool:
    """True when one more sample in each input gives one more in each output and changes nothing else."""
    shapes = [value.shape for value in inputs]
    outputs = graph.output_shapes(shapes)
    batch = shapes[0][0]
    if any(shape[0] != batch for shape in (*shapes, *outputs)):
        return False
    try:
        larger = graph.output_shapes([(batch + 1, *shape[1:]) for shape in shapes])
    except ValueError:
        return False
    return larger == [(batch + 1, *shape[1:]) for shape in outputs]


def _check_operators(graph: Graph, supported: Collection[str]) -> None:
    unknown: dict[str, str] = {}
    for node in graph.nodes:
        if node.operator not in supported:
            unknown.setdefault(node.operator, node.name)
    if unknown:
        listed = ", ".join(f"{operator} (in {name})" for operator, name in unknown.items())
        raise NetworkError(f"MXNet's ONNX converter does not know {listed}")


def _convert(graph: Graph, inputs: Sequence[mx.nd.NDArray], batch_is_dynamic: bool, path: Path) -> None:
    symbol = _spelled_out(graph, inputs, batch_is_dynamic)
    by_name = dict(zip(graph.inputs, inputs))
    ordered = [by_name[name] for name in graph.symbol.list_inputs() if name in by_name]  # as the converter goes
    dynamic = {"dynamic": True, "dynamic_input_shapes": [("batch", *value.shape[1:]) for value in ordered]}
    try:
        with _checker_at_opset(ONNX_OPSET):
            mx.onnx.export_model(symbol, _effective_values(graph), [value.shape for value in ordered],
                                 [value.dtype for value in ordered], str(path),
                                 **(dynamic if batch_is_dynamic else {}))
    except Exception as error:  # AttributeError, NotImplementedError, AssertionError, IndexError, ...
        raise NetworkError(f"MXNet's ONNX converter failed: {shorten(error)}") from error


def _spelled_out(graph: Graph, inputs: Sequence[mx.nd.NDArray], batch_is_dynamic: bool) -> mx.sym.Symbol:
    """The graph with what the converter does not know: defaults, and the codes of a reshape that only MXNet has.

    Lengths and one -1 take the place of -2, -3 and -4, and of codes that count from the right.
    """
    shapes = [value.shape for value in inputs]
    before = {node.name: node.shapes[0] for node in graph.nodes}
    graph.infer_shapes([(shape[0] + batch_is_dynamic, *shape[1:]) for shape in shapes])
    after = {node.name: node.shapes[0] for node in graph.nodes}
    graph.infer_shapes(shapes)

    def edit(node: Node) -> None:
        for name, value in node.meaning.defaults.items():
            if value not in (None, ()):
                node.attributes.setdefault(name, str(value))
        codes = [number for _, number in positions(node, "shape")] if node.meaning.reshapes else []
        if any(code < -1 for code in codes) or codes and node.get("reverse"):
            lengths = [length if length == other else -1 for length, other in zip(before[node.name], after[node.name])]
            if lengths.count(-1) <= 1:
                node.attributes.update(shape=str(tuple(lengths)), reverse="False")
    return edited(graph.symbol, edit)


@contextlib.contextmanager
def _checker_at_opset(opset: int) -> Iterator[None]:
    """The converter checks its opset 13 graph by the rules of the newest; let them be those of ``opset``."""
    from onnx import checker
    context = checker.DEFAULT_CONTEXT
    before = context.opset_imports
    context.opset_imports = {"": opset}
    try:
        yield
    finally:
        context.opset_imports = before


def _effective_values(graph: Graph) -> dict[str, mx.nd.NDArray]:
    """The parameters as they take effect: a BatchNorm with ``fix_gamma`` uses 1 as gamma, ONNX's does not."""
    values = graph.values()
    for node in graph.nodes:
        if node.gamma is not None and node.meaning.keeps_statistics and node.get("fix_gamma"):
            values[node.gamma.name] = mx.nd.ones_like(values[node.gamma.name])
    return values


def _tidy(model: Any, graph: Graph, inputs: Sequence[mx.nd.NDArray], batch_is_dynamic: bool) -> Any:
    """Name the opset the operators are written in; list the inputs and outputs of the network, in its order.

    The converter lists parameters as inputs too, which keeps a runtime from folding them, gives the
    outputs in the order of the graph, and leaves their shapes out when the batch is dynamic.
    """
    from onnx import helper
    del model.opset_import[:]
    model.opset_import.append(helper.make_opsetid("", ONNX_OPSET))
    model.ir_version = ONNX_IR_VERSION
    found = {value.name: value for value in model.graph.input}
    del model.graph.input[:]
    model.graph.input.extend([found[name] for name in graph.inputs])
    shapes = graph.output_shapes([value.shape for value in inputs])
    # the converter's names: softmax0_output becomes softmax0, split0_output1 becomes split01
    names = [re.sub(r"_output(\d?)$", r"\1", name) for name in graph.symbol.list_outputs()]
    found = {value.name: value.type.tensor_type.elem_type for value in model.graph.output}
    if set(names) != set(found):
        raise NetworkError(f"the network has the outputs {names}, what MXNet's ONNX converter wrote {list(found)}")
    del model.graph.output[:]
    model.graph.output.extend([
        helper.make_tensor_value_info(name, found[name], ("batch", *shape[1:]) if batch_is_dynamic else shape)
        for name, shape in zip(names, shapes)])
    return model


def _compare_onnx(graph: Graph, model: Any, inputs: Sequence[mx.nd.NDArray], batch_is_dynamic: bool) -> None:
    """``NetworkError`` unless ONNX's reference implementation computes what the network does."""
    from onnx.reference import ReferenceEvaluator
    evaluator = ReferenceEvaluator(model)
    for size in (1, 3) if batch_is_dynamic else (inputs[0].shape[0],):
        batch = [mx.nd.array(np.resize(value.asnumpy(), (size, *value.shape[1:])), dtype=value.dtype)
                 if batch_is_dynamic else value for value in inputs]
        try:
            found = evaluator.run(None, {name: value.asnumpy() for name, value in zip(graph.inputs, batch)})
        except Exception as error:  # NumPy's and its own, whatever an operator meets
            raise NetworkError(f"ONNX's reference implementation cannot run the file at batch {size}: {error} "
                               f"(verify=False leaves this check out)") from error
        expected = run_graph(graph, batch)
        for reference, value in zip(expected, found):
            check_close(reference, value, "the ONNX file")
