"""ONNX, checked and compared with the network before it is put in place."""
from __future__ import annotations

import re
import warnings
from collections.abc import Callable, Collection, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from mxnet.gluon import HybridBlock

from ..arguments import check_flag, listed
from ..errors import NetworkError, not_importable
from ..files.paths import check_target
from ..files.writing import write_atomically
from ..network.graph import Graph
from ..network.inputs import ExampleInputs, example_inputs
from ..network.values import parameters, value_of
from ..quantization.integers.integer_network import IntegerNetwork
from ..records import Record
from .coded_weights import CodedWeights, coded_weights, records_of
from .comparing import check_inputs_used
from .integers import integer_model, verify_integer_model

if TYPE_CHECKING:
    import onnx

# how onnx.checker says that an operator, such as Exp, has no form for a type, such as int8
WRONG_TYPE = re.compile(r"op_type:(?P<operator>\w+), node name: (?P<node>.+?)\): .*"
                        r"has unsupported type: tensor\((?P<type>\w+)\)")
Verify = Callable[[Path], None]  # raises NetworkError unless the file at that path computes what the network does


def to_onnx(net: HybridBlock, path: str | Path, example: Any, *, opset: int | None = None,
            weights: str | Record | Collection[Record] | Mapping[str, Record] | None = None,
            verify: bool = True, metadata: Mapping[str, Any] | None = None) -> Path:
    """Write the network as ONNX and return the path.

    Layers that were pruned are as small in the file as they are in the network. The axis of the samples is dynamic,
    named ``batch``, when each output follows it; otherwise it has the example's length, and a warning says so. The file
    is checked by ``onnx.checker``, and run and compared with the network before it is put in place. Its metadata tell
    what was done (``gluon_compress.*``); :func:`gluon_compress.export.engine` reads them.

    An :class:`IntegerNetwork` leaves as ``QuantizeLinear`` and ``DequantizeLinear`` with its own codes and scales, so
    that ONNX Runtime and OpenVINO run it on integers. What comes out differs from the network by roundings: see
    quantization/integers/qdq_emitter.py.

    Parameters
    ----------
    net : HybridBlock
        Stays as it is, its hybridization included.
    path : str or Path
        Ends in ``.onnx``.
    example : NDArray or tuple of NDArray
        A batch of the input; its shape and type are those of the file.
    opset : int, optional
        The version of ONNX's operators: from 13 to the newest that the installed onnx knows, by default 21. That is the
        first with weights of 4 bits; ONNX Runtime takes it from 1.18 on, and OpenVINO 2026.4 does.
    weights : record, several of them, "int8" or "int4", optional
        By default all weights leave as the floating-point numbers that they are. With the :class:`Scales` of
        :func:`quantize_weights`, or what :func:`gluon_compress.checkpoint.records` finds in a file, they leave as
        integer codes and scales, from which ``DequantizeLinear`` makes the same numbers again: in a quarter of the
        bytes, or an eighth for codes of at most 4 bits from opset 21 on. Parameters of one axis, such as biases, leave
        as floating-point numbers in any case. "int8" and "int4" round the weights of the
        convolutions, dense layers and embeddings in the file alone, with a scale for each output channel. The codes of
        an IntegerNetwork leave anyway; "narrow" rounds them so that no sum of two products exceeds 16 bits, for
        processors without VNNI, where engines cut such sums: see quantization/integers/narrow.py.
    verify : bool
        False skips the run. It takes place in ONNX Runtime, if that is installed, else in ONNX's own reference
        implementation, at the example's number of samples and at another one.
    metadata : dict, optional
        {name: text, or plain data} of what else the file says of itself, such as what the network was trained on.

    Raises
    ------
    ImportError
        When onnx is not installed.
    TypeError, ValueError
        As for :func:`gluon_compress.report`; for an opset that cannot be written.
    RecordError
        When the weights are not those of their record.
    NetworkError
        When there is no ONNX form of an operator, which is named with all others; when the file computes something
        else than the network, or would be larger than 2 GB.
    OSError
        When the file cannot be written.
    """
    _check_onnx()
    from .onnx.model import add_metadata, checked_opset
    check_flag("verify", verify)
    check_target("path", path)
    path = Path(path)
    if path.suffix != ".onnx":
        raise ValueError(f"path is {str(path)!r}; accepted: a name that ends in .onnx")
    opset = checked_opset(opset)
    inputs = example_inputs(example)
    make = _from_integers if isinstance(net, IntegerNetwork) else _from_floats
    model, verify_file = make(net, inputs, opset, weights)
    add_metadata(model, metadata)
    if not _is_dynamic(model):
        warnings.warn(f"the number of samples is fixed: {path.name} only takes input of shape "
                      f"{', '.join(str(value.shape) for value in inputs)}", stacklevel=2)
    checked = _told(verify_file, net, inputs) if verify else None
    write_atomically(path, lambda temporary: _write(model, temporary, checked))
    return path


def _told(verify: Verify, net: HybridBlock, inputs: ExampleInputs) -> Verify:
    """``verify``, whose error says first which parameters and inputs are not finite, as they may be its cause."""
    def told(path: Path) -> None:
        try:
            verify(path)
        except NetworkError as error:
            arrays = {f"parameter {name}": value_of(parameter) for name, parameter in parameters(net).items()}
            arrays.update((f"example[{number}]" if len(inputs) > 1 else "example", value.asnumpy())
                          for number, value in enumerate(inputs))
            wrong = [name for name, array in arrays.items() if not np.isfinite(array).all()]
            if not wrong:
                raise
            raise NetworkError(f"{listed(wrong)} not finite; accepted: finite numbers (verify=False leaves out the "
                               f"check of the file: {error})") from error
    return told


def _from_floats(net: HybridBlock, inputs: ExampleInputs, opset: int, weights: Any) -> tuple[onnx.ModelProto, Verify]:
    """``(model, how its file is verified)``."""
    from .onnx.verifying import verify_model
    records = records_of(weights)
    graph = Graph(net, inputs)
    graph.check_types(inputs, "example")
    check_inputs_used(graph)
    coded = coded_weights(net, weights if isinstance(weights, str) else records)
    model = _model(graph, inputs, coded, opset, records)
    return model, lambda path: verify_model(model, path, graph, inputs, coded.decoded(graph))


def _from_integers(net: IntegerNetwork, inputs: ExampleInputs, opset: int,
                   weights: Any) -> tuple[onnx.ModelProto, Verify]:
    model = integer_model(net, inputs, opset, weights)
    return model, lambda path: verify_integer_model(net, model, path, inputs)


def _check_onnx() -> None:
    try:
        import onnx  # noqa: F401
    except ImportError as error:
        raise not_importable("to_onnx", "onnx", "onnx", error) from error


def _model(graph: Graph, inputs: ExampleInputs, coded: CodedWeights, opset: int,
           records: Sequence[Record]) -> onnx.ModelProto:
    from .onnx.batch import batch_axes
    from .onnx.model import write_model
    values = {name: value.asnumpy() for name, value in graph.values().items()}
    outputs = coded.in_graph(graph, values, opset)
    named = {name: (value.shape, value.dtype) for name, value in zip(graph.inputs, inputs)}
    return write_model(outputs, named, values, opset=opset, batch_axes=batch_axes(graph.nodes, named),
                       metadata=_metadata(graph, coded, records))


def _metadata(graph: Graph, coded: CodedWeights, records: Sequence[Record]) -> dict[str, Any]:
    arrays = [value.asnumpy() for value in graph.values().values()]
    found = {"parameters": sum(value.size for value in arrays),
             "nonzeros": int(sum(np.count_nonzero(value) for value in arrays)), "weights": coded.summary(),
             "records": {record.in_files or type(record).__name__: record.summary() for record in records}}
    return {name: value for name, value in found.items() if value != {}}


def _is_dynamic(model: onnx.ModelProto) -> bool:
    return any(length.dim_param for value in model.graph.input for length in value.type.tensor_type.shape.dim)


def _write(model: onnx.ModelProto, path: Path, verify: Verify | None) -> None:
    import onnx
    try:
        onnx.save(model, str(path))
        onnx.checker.check_model(str(path), full_check=True)
    except (onnx.checker.ValidationError, onnx.shape_inference.InferenceError) as error:
        wrong = WRONG_TYPE.search(str(error))
        if wrong is not None:
            raise NetworkError(f"there is no ONNX form of {wrong['node']}: ONNX's {wrong['operator']} does not take "
                               f"{wrong['type']}; cast to float32 before it") from error
        raise NetworkError(f"what was written is not ONNX, which is a mistake in this package: {error}") from error
    if verify is not None:
        verify(path)
