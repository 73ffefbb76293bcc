"""OpenVINO, on the CPU."""
from __future__ import annotations

import threading
from collections import OrderedDict
from pathlib import Path
from typing import Any

import numpy as np

from ...errors import CheckpointError, not_importable
from ...network.engine_network import Tensor

TYPES = {"f16": "float16", "f32": "float32", "f64": "float64", "boolean": "bool", "i8": "int8", "u8": "uint8",
         "i32": "int32", "i64": "int64"}  # what MXNet has
SHAPES_KEPT = 2  # those of the batch, and of the smaller last one; each has the weights once more


class OpenVinoSession:
    """See :class:`~gluon_compress.network.engine_network.Session`. Compiled for each shape, which is faster."""

    def __init__(self, path: Path, threads: int) -> None:
        try:
            import openvino
        except ImportError as error:
            raise not_importable("runtime='openvino'", "openvino", "engines", error) from error
        self.engine = f"OpenVINO {openvino.__version__.partition('-')[0]}"
        self._core, self._lock = openvino.Core(), threading.Lock()
        self._settings = {"PERFORMANCE_HINT": "LATENCY", "NUM_STREAMS": 1, "INFERENCE_NUM_THREADS": threads,
                          "INFERENCE_PRECISION_HINT": "f32"}
        self._model = _read(self._core, path)
        self.inputs = [_tensor(port, f"input{index}", path) for index, port in enumerate(self._model.inputs)]
        self.outputs = [_tensor(port, f"output{index}", path) for index, port in enumerate(self._model.outputs)]
        self.metadata = _metadata(self._model)
        self._requests: OrderedDict[tuple, Any] = OrderedDict()  # {shapes of the inputs: request}, the newest last

    def run(self, arrays: list[np.ndarray]) -> list[np.ndarray]:
        with self._lock:
            request = self._request_for(tuple(array.shape for array in arrays))
            request.infer(dict(enumerate(arrays)), share_inputs=True)
            return [np.array(request.get_output_tensor(index).data) for index in range(len(self.outputs))]

    def _request_for(self, shapes: tuple) -> Any:
        if shapes not in self._requests:
            while len(self._requests) >= SHAPES_KEPT:
                self._requests.popitem(last=False)
            model = self._model.clone()
            model.reshape({index: list(shape) for index, shape in enumerate(shapes)})
            self._requests[shapes] = self._core.compile_model(model, "CPU", self._settings).create_infer_request()
        self._requests.move_to_end(shapes)
        return self._requests[shapes]


def _read(core: Any, path: Path) -> Any:
    """The model. A damaged ONNX file would be given to each reader in turn, and TensorFlow's prints what it thinks."""
    if path.suffix == ".xml":
        return core.read_model(str(path))
    from openvino.frontend import FrontEndManager
    reader = FrontEndManager().load_by_framework("onnx")
    return reader.convert(reader.load(str(path)))


def _metadata(model: Any) -> dict[str, str]:
    """What an ONNX file says of itself, which OpenVINO keeps under "framework"."""
    kept = dict(model.get_rt_info()).get("framework")
    return {str(name): str(text.value) for name, text in kept.items()} if isinstance(kept, dict) else {}


def _tensor(port: Any, name: str, path: Path) -> Tensor:
    name, kind = min(port.names, default=name), port.element_type.get_type_name()
    if kind not in TYPES:
        raise CheckpointError(f"{path} has {name}, which is {kind}; accepted: {', '.join(TYPES)}, which MXNet has too")
    shape = port.partial_shape
    lengths = None if shape.rank.is_dynamic else tuple(
        length.get_length() if length.is_static else None for length in shape)
    return Tensor(name, lengths, np.dtype(TYPES[kind]))
