"""Networks on integers as ONNX: QuantizeLinear and DequantizeLinear with the scales that they have here."""
from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import mxnet as mx
import numpy as np

from ..arguments import check_choice
from ..errors import NetworkError
from ..network.interface import CLASSIC
from ..quantization.integers.integer_network import IntegerNetwork, lower_to_qdq
from .coded_weights import type_of_codes
from .comparing import check_inputs_used, run_block

if TYPE_CHECKING:
    import onnx

NARROW = "narrow"
MOST_DIFFERENT = 0.25  # share of the outputs' norm: a code that is rounded the other way changes others after it


def integer_model(net: IntegerNetwork, inputs: Sequence[mx.nd.NDArray], opset: int,
                  weights: str | None) -> onnx.ModelProto:
    """The ONNX model, for inputs such as these; ``weights`` is "narrow" or None, as :func:`to_onnx` has it."""
    from .onnx.batch import batch_axes
    from .onnx.model import write_model

    if weights is not None:
        check_choice("weights of a network on integers", weights, (NARROW,))
    check_inputs_used(net.graph)
    lowering = lower_to_qdq(net.quantized, type_of_codes(net.record.bits, opset), narrow=weights == NARROW)
    named = _shapes_and_types(net, inputs)
    return write_model(lowering.outputs, named, lowering.values(lowering.outputs), opset=opset,
                       batch_axes=batch_axes(net.graph.nodes, named), metadata={"quantization": net.record.to_dict()})


def _shapes_and_types(net: IntegerNetwork, inputs: Sequence[mx.nd.NDArray]) -> Mapping[str, tuple]:
    return {name: (value.shape, value.dtype) for name, value in zip(net.quantized.inference.inputs, inputs)}


def verify_integer_model(net: IntegerNetwork, model: onnx.ModelProto, path: Path,
                         inputs: Sequence[mx.nd.NDArray]) -> None:
    """``NetworkError`` unless the file computes what the network does, as far as roundings allow."""
    from .onnx.verifying import batches, runner

    run = runner(path, net.graph)
    if run is None:
        return
    for arrays in batches(model, [value.asnumpy() for value in inputs]):
        expected = run_block(net, [CLASSIC.array(array, dtype=array.dtype) for array in arrays])
        found = run({value.name: array for value, array in zip(model.graph.input, arrays)})
        for each, other in zip(expected, found):
            _check_near(each, other)


def _check_near(expected: np.ndarray, found: np.ndarray) -> None:
    if expected.shape != found.shape:
        raise NetworkError(f"the ONNX file gives an output of shape {found.shape}, the network {expected.shape}")
    difference = float(np.linalg.norm(found.astype(np.float64) - expected))
    norm = float(np.linalg.norm(expected.astype(np.float64)))
    if not difference <= MOST_DIFFERENT * norm + 1e-6:  # also when it is NaN
        raise NetworkError(f"the ONNX file computes something else than the network: an output differs by "
                           f"{100 * difference / max(norm, 1e-30):.3g} % of its norm (verify=False leaves this check "
                           f"out)")
