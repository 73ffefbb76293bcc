"""Whether an ONNX file computes what its network does: both are run on the example and on another number of samples."""
from __future__ import annotations

import warnings
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import mxnet as mx
import numpy as np
import onnx

from ...errors import NetworkError, to_install
from ...network.graph import Graph
from ...network.interface import CLASSIC
from ...network.misfits import shorten
from ...runtime import usable_cores
from ..comparing import check_close, run_block, runnable
from .writer import BATCH

MOST_MACS = 3e9  # of a run in ONNX's reference implementation, which takes a minute for them
TOLERANCE, TOLERANCE_OF_HALF = 1e-3, 2e-2  # of the largest output


def verify_model(model: onnx.ModelProto, path: Path, graph: Graph, inputs: Sequence[mx.nd.NDArray],
                 values: Mapping[str, np.ndarray]) -> None:
    """``NetworkError`` unless the file computes what the network does, with ``values`` for parameters of those names.

    MXNet has no float16 on CPUs: it computes in float32 then.
    """
    run = runner(path, graph)
    if run is None:
        return
    half = any(value.dtype == np.float16 for value in [*inputs, *graph.values().values()])
    block = runnable(graph, inputs, values, np.float32 if half else None)
    for arrays in batches(model, [value.asnumpy() for value in inputs]):
        found = run(dict(zip(graph.inputs, arrays)))
        given = [CLASSIC.array(array, dtype=np.float32 if half and array.dtype == np.float16 else array.dtype)
                 for array in arrays]
        for expected, other in zip(run_block(block, given), found):
            check_close(expected, other, "the ONNX file", TOLERANCE_OF_HALF if half else TOLERANCE)


def batches(model: onnx.ModelProto, arrays: list[np.ndarray]) -> Iterator[list[np.ndarray]]:
    """The example, and one sample of it (two where it has one), if the batch is dynamic."""
    yield arrays
    axes = [next((axis for axis, length in enumerate(value.type.tensor_type.shape.dim) if length.dim_param == BATCH),
                 None) for value in model.graph.input]
    if any(axis is not None for axis in axes):
        yield [array if axis is None else np.take(array, [0] if array.shape[axis] > 1 else [0, 0], axis)
               for array, axis in zip(arrays, axes)]


def runner(path: Path, graph: Graph) -> Any:
    """``run({input: array}) -> outputs`` in ONNX Runtime, or else in ONNX's reference implementation."""
    try:
        import onnxruntime
    except ImportError:
        return _reference(path, graph)
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 3  # it warns of initializers that it does not need
    options.intra_op_num_threads = usable_cores()

    def run(arrays: Mapping[str, np.ndarray]) -> list[np.ndarray]:
        try:
            return session.run(None, dict(arrays))
        except Exception as error:  # it has no class of its own for them
            raise _cannot_run("ONNX Runtime", error) from error
    try:
        session = onnxruntime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
    except Exception as error:  # nor for files that it cannot open
        raise _cannot_run("ONNX Runtime", error) from error
    return run


def _reference(path: Path, graph: Graph) -> Any:
    from onnx.reference import ReferenceEvaluator
    macs = sum(node.macs or 0 for node in graph.nodes)
    if macs > MOST_MACS:
        warnings.warn(f"{path.name} was not run: ONNX's reference implementation would take minutes for "
                      f"{macs:.2g} multiply-accumulates; {to_install('onnx')} brings ONNX Runtime", stacklevel=6)
        return None

    def run(arrays: Mapping[str, np.ndarray]) -> list[np.ndarray]:
        try:
            return list(evaluator.run(None, dict(arrays)))
        except Exception as error:  # NumPy's and its own, whatever an operator meets
            raise _cannot_run("ONNX's reference implementation", error) from error
    evaluator = ReferenceEvaluator(str(path))
    return run


def _cannot_run(what: str, error: Exception) -> NetworkError:
    return NetworkError(f"{what} cannot run the file: {shorten(error)[:300]} (verify=False leaves this check out)")
