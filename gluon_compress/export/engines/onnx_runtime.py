"""ONNX Runtime, on the CPU."""
from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from ...errors import CheckpointError, not_importable
from ...network.engine_network import Tensor

TYPES = {"float": "float32", "double": "float64", "float16": "float16", "bool": "bool",
         **{name: name for name in ("int8", "uint8", "int32", "int64")}}  # what MXNet has
ERRORS_ONLY = 3  # of what it prints


class OnnxRuntimeSession:
    """See :class:`~gluon_compress.network.engine_network.Session`."""

    def __init__(self, path: Path, threads: int) -> None:
        try:
            import onnxruntime
        except ImportError as error:
            raise not_importable("runtime='onnxruntime'", "onnxruntime", "engines", error) from error
        self.engine = f"ONNX Runtime {onnxruntime.__version__}"
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads, options.inter_op_num_threads = threads, 1
        options.log_severity_level = ERRORS_ONLY
        self._session = onnxruntime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
        self.inputs = [_tensor(value, path) for value in self._session.get_inputs()]
        self.outputs = [_tensor(value, path) for value in self._session.get_outputs()]
        self.metadata = dict(self._session.get_modelmeta().custom_metadata_map)

    def run(self, arrays: list[np.ndarray]) -> list[np.ndarray]:
        return self._session.run(None, {tensor.name: array for tensor, array in zip(self.inputs, arrays)})


def _tensor(value: Any, path: Path) -> Tensor:
    kind = value.type.removeprefix("tensor(").removesuffix(")")
    if kind not in TYPES:
        raise CheckpointError(f"{path} has {value.name}, which is {value.type}; accepted: tensors of "
                              f"{', '.join(TYPES)}, which MXNet has too")
    return Tensor(value.name, tuple(value.shape), np.dtype(TYPES[kind]))
