"""A file, and the engine that is to compute it."""
from __future__ import annotations

import mmap
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from ... import runtime as mxnet_runtime
from ...arguments import check_choice, check_integer
from ...errors import CheckpointError
from ...files.paths import check_path
from ...network.engine_network import EngineNetwork, Session, Tensor
from ...network.misfits import shorten
from .onnx_runtime import OnnxRuntimeSession
from .openvino import OpenVinoSession

SESSIONS: dict[str, Callable[[Path, int], Session]] = {"onnxruntime": OnnxRuntimeSession, "openvino": OpenVinoSession}
ENDINGS = {"onnxruntime": (".onnx",), "openvino": (".onnx", ".xml")}  # .xml is OpenVINO's own form, as of NNCF
# An operator that gives integers, in the two kinds of file: field 4 of a node (its operator) of that many letters
INTEGER_OPERATORS = tuple(b"\x22" + bytes([len(name)]) + name for name in (
    b"QuantizeLinear", b"DynamicQuantizeLinear", b"QLinearConv", b"QLinearMatMul", b"ConvInteger", b"MatMulInteger"))
INTEGER_LAYERS = (b'type="FakeQuantize"',)
PRECISIONS = {"float16": "fp16", "float32": "fp32", "float64": "fp64"}


def engine(path: str | os.PathLike, runtime: str = "onnxruntime", threads: int | None = None) -> EngineNetwork:
    """A network that runs an ONNX file in another engine, called as the original is.

    :func:`gluon_compress.training.evaluate`, :func:`gluon_compress.measure_latency` and
    :func:`gluon_compress.report` take it, so that engines can be compared. It computes on the CPU, and float32 as
    float32 also where OpenVINO would choose bfloat16. The first pass of a shape takes longer.

    Parameters
    ----------
    path : str or Path
        An ONNX file, as of :func:`gluon_compress.export.to_onnx`. OpenVINO's own ``.xml``, with its ``.bin`` beside
        it, for that engine.
    runtime : "onnxruntime" or "openvino"
        They are packages of their own: ``pip install 'gluon-compress[engines]'``.
    threads : int, optional
        How many compute, from 1 to the number of the machine's processors. By default as many as MXNet has in this
        process (``gluon_compress.runtime.status().threads``), so that the two compare.

    Returns
    -------
    EngineNetwork
        Takes one NDArray per input and returns an NDArray, or a list where the file has several outputs; ``mx.np``
        arrays for such. Lengths that the file leaves open, as that of the batch, may differ from call to call.

    Raises
    ------
    ImportError
        When the engine is not installed.
    FileNotFoundError
        When there is no such file.
    CheckpointError
        When the engine cannot read it, or has no such operator.
    TypeError, ValueError
        For other arguments; and, in a call, for inputs that the file does not take.

    >>> net = gc.export.engine("resnet18.onnx", "openvino")
    >>> gc.training.evaluate(net, test_data)
    """
    check_path("path", path)
    check_choice("runtime", runtime, SESSIONS)
    threads = _checked_threads(threads)
    path = Path(path)
    if path.suffix not in ENDINGS[runtime]:
        raise ValueError(f"path is {str(path)!r}; accepted for {runtime}: a file that ends in "
                         f"{' or '.join(ENDINGS[runtime])}")
    with open(path, "rb"):
        pass  # missing or unreadable: said by the system, with the path
    try:
        session = SESSIONS[runtime](path, threads)
    except (ImportError, CheckpointError):
        raise
    except Exception as error:  # each engine has its own; they have no base but this in common
        raise CheckpointError(f"{path} cannot be read by {runtime}: {_reason(error)}") from error
    if not session.inputs or not session.outputs:
        raise CheckpointError(f"{path} has {len(session.inputs)} inputs and {len(session.outputs)} outputs; accepted: "
                              f"at least one of each")
    return EngineNetwork(session, path, runtime, threads, precision_of(path, session.inputs))


def precision_of(path: Path, inputs: list[Tensor]) -> str:
    """"int8" for a file with operators that give integers, else after the types of the inputs."""
    marks = INTEGER_LAYERS if path.suffix == ".xml" else INTEGER_OPERATORS
    with open(path, "rb") as file, mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as content:
        if any(content.find(mark) >= 0 for mark in marks):
            return "int8"
    types = sorted({PRECISIONS[tensor.dtype.name] for tensor in inputs if tensor.dtype.name in PRECISIONS})
    return "+".join(types) or "fp32"


def _checked_threads(threads: Any) -> int:
    processors = os.cpu_count() or 1
    if threads is None:
        return mxnet_runtime.status().threads or mxnet_runtime.usable_cores()
    if isinstance(threads, (int, np.integer)) and threads > processors:
        raise ValueError(f"threads is {threads}; accepted: 1 to {processors}, the processors of this machine")
    check_integer("threads", threads, minimum=1)
    return int(threads)


def _reason(error: Exception) -> str:
    """What an engine says, on one line: OpenVINO begins with where in its source it was found."""
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    told = [line.rstrip(":") for line in lines if not line.startswith(("Exception from", "Check '"))]
    return (": ".join(told[:2]) if told else shorten(error))[:300]  # its first line may be a heading of the second
