"""The way out: MXNet's own symbol + parameters, and ONNX. Both are checked before they are put in place."""
import contextlib
import os
import re
import warnings
from pathlib import Path

import mxnet as mx
import numpy as np
from mxnet import autograd
from mxnet.gluon import SymbolBlock

from .arguments import check_flag, check_integer
from .errors import NetworkError
from .files import check_target, write_atomically
from .symbol_graph import example_inputs, shorten, trace

__all__ = ["to_onnx", "to_symbol"]

# MXNet 1.9.1 writes the operators' forms of opset 13, under whatever number the installed onnx is at. All
# of them mean the same in 14, where BatchNormalization has the inference form that MXNet writes.
ONNX_OPSET = 14
ONNX_IR_VERSION = 7  # of onnx 1.9, which brought opset 14


def to_symbol(net, path_prefix, example=None, epoch=0):
    """Write ``<path_prefix>-symbol.json`` and ``<path_prefix>-0000.params``; return both paths.

    The files are those of ``HybridBlock.export``, for ``SymbolBlock.imports`` and for MXNet's other
    languages, but the network need not be hybridized and stays as it is. They are read back and compared
    with the network, and only then replace older ones.

    Parameters
    ----------
    net : HybridBlock
    path_prefix : str or Path
        A folder and the beginning of the files' names; not a directory.
    example : NDArray or tuple of NDArray, optional
        When given, the outputs are compared too, on the CPU. A network of several inputs needs a tuple.
    epoch : int
        The number in the name of the parameters' file, in [0, 9999].

    Raises
    ------
    TypeError, NetworkError
        As for :func:`gluon_compress.report`, and when the files do not give the same network again.
    ValueError
        When ``path_prefix`` is a directory or ends in a slash.
    OSError
        When the files cannot be written there.
    """
    symbol_path, parameters_path = symbol_paths("path_prefix", path_prefix, epoch)
    inputs = None if example is None else example_inputs(example)
    graph = trace(net, 1 if inputs is None else inputs)
    _check_inputs_used(graph)
    if inputs is not None:
        graph.output_shapes([value.shape for value in inputs])

    def write(symbol_file, parameters_file):
        graph.symbol.save(str(symbol_file))
        auxiliary = set(graph.symbol.list_auxiliary_states())
        mx.nd.save(str(parameters_file), {f"{'aux' if name in auxiliary else 'arg'}:{name}": value
                                          for name, value in graph.values().items()})
        _compare_import(graph, symbol_file, parameters_file, inputs)
    write_atomically(parameters_path, lambda parameters_file: write_atomically(
        symbol_path, lambda symbol_file: write(symbol_file, parameters_file)))
    return symbol_path, parameters_path


def symbol_paths(name, path_prefix, epoch):
    """Where symbol and parameters go; raises for places where they cannot, ``name`` being that of the argument."""
    if not isinstance(path_prefix, (str, os.PathLike)):
        raise TypeError(f"{name} is {path_prefix!r}; accepted: the beginning of a file name")
    text, prefix = os.fspath(path_prefix), Path(path_prefix)
    if not prefix.name or text.endswith(os.sep) or os.path.isdir(text):
        raise ValueError(f"{name} is {text!r}, a directory; accepted: the beginning of a file name, such as "
                         f"{str(prefix / 'model')!r}")
    check_integer("epoch", epoch, minimum=0, maximum=9999)
    paths = prefix.with_name(f"{prefix.name}-symbol.json"), prefix.with_name(f"{prefix.name}-{epoch:04d}.params")
    for path in paths:
        check_target(f"{name} with its ending", path)
    return paths


def to_onnx(net, path, example, verify=True):
    """Write the network as ONNX (opset 14) and return the path.

    Pruned weights go out as the zeros they are, quantized ones as the float32 values they stand for. The
    batch axis is dynamic, named ``batch``, when the network's outputs follow it; otherwise it is fixed at
    the example's, and a warning says so. MXNet's converter is known to write some operators wrongly
    without a word, so the file is checked by ``onnx.checker`` and run once in ONNX's reference
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
        False leaves out the run in the reference implementation. It is slow for large networks, fails
        on an operator or two of its own, and float16 does not run on MXNet's CPU side.

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
    graph = trace(net, inputs)
    _check_inputs_used(graph)
    batch_is_dynamic = _outputs_follow_batch(graph, inputs)
    if not batch_is_dynamic:
        warnings.warn(f"the outputs do not follow the batch axis: {path.name} only takes input of shape "
                      f"{', '.join(str(value.shape) for value in inputs)}", stacklevel=2)
    _check_operators(graph, converter.get_operator_support())

    def write(temporary):
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


def _check_inputs_used(graph):
    unused = [name for name in graph.inputs if name not in graph.symbol.list_inputs()]
    if unused:
        raise NetworkError(f"input {', '.join(unused)} does not reach an output, so it cannot be exported")


def _compare_import(graph, symbol_file, parameters_file, inputs):
    """``NetworkError`` unless the files hold the graph, its parameters bit by bit, and its outputs."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # imports() asks for the input's type and has no argument for it
        imported = SymbolBlock.imports(str(symbol_file), graph.inputs, str(parameters_file))
    read = {name: parameter.data().asnumpy() for name, parameter in imported.collect_params().items()}
    for name, value in graph.values().items():
        value = value.asnumpy()
        same = name in read and read[name].dtype == value.dtype and read[name].shape == value.shape
        if not same or read[name].tobytes() != value.tobytes():
            raise NetworkError(f"parameter {name} does not come back from the file as it was")
    if inputs is not None:
        for expected, found in zip(_run(graph, inputs), _run_block(imported, inputs)):
            _check_close(expected, found, "the exported network")


def _outputs_follow_batch(graph, inputs):
    """True when one sample more in each input is one more in each output, and changes nothing else."""
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


def _check_operators(graph, supported):
    unknown = {}
    for node in graph.nodes():
        if node["op"] not in supported:
            unknown.setdefault(node["op"], node["name"])
    if unknown:
        listed = ", ".join(f"{operator} (in {name})" for operator, name in unknown.items())
        raise NetworkError(f"MXNet's ONNX converter does not know {listed}")


def _convert(graph, inputs, batch_is_dynamic, path):
    by_name = dict(zip(graph.inputs, inputs))
    ordered = [by_name[name] for name in graph.symbol.list_inputs() if name in by_name]  # as the converter goes
    dynamic = {"dynamic": True, "dynamic_input_shapes": [("batch", *value.shape[1:]) for value in ordered]}
    try:
        with _checker_at_opset(ONNX_OPSET):
            mx.onnx.export_model(graph.symbol, _effective_values(graph), [value.shape for value in ordered],
                                 [value.dtype for value in ordered], str(path),
                                 **(dynamic if batch_is_dynamic else {}))
    except Exception as error:  # AttributeError, NotImplementedError, AssertionError, IndexError, ...
        raise NetworkError(f"MXNet's ONNX converter failed: {shorten(error)}") from error


@contextlib.contextmanager
def _checker_at_opset(opset):
    """The converter checks its opset 13 graph by the rules of the newest; let them be those of ``opset``."""
    from onnx import checker
    context = checker.DEFAULT_CONTEXT
    before = context.opset_imports
    context.opset_imports = {"": opset}
    try:
        yield
    finally:
        context.opset_imports = before


def _effective_values(graph):
    """The parameters as they work: a BatchNorm with ``fix_gamma`` takes gamma for one, ONNX's does not."""
    values = graph.values()
    nodes = graph.nodes()
    for node in nodes:
        if node["op"] == "BatchNorm" and node.get("attrs", {}).get("fix_gamma", "True") in ("True", "1"):
            name = nodes[node["inputs"][1][0]]["name"]
            values[name] = mx.nd.ones_like(values[name])
    return values


def _tidy(model, graph, inputs, batch_is_dynamic):
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


def _compare_onnx(graph, model, inputs, batch_is_dynamic):
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
        expected = _run(graph, batch)
        for reference, value in zip(expected, found):
            _check_close(reference, value, "the ONNX file")


def _check_close(expected, found, what):
    """Within a thousandth of the largest output: rounding differs, and single values may be near zero."""
    tolerance = 1e-2 if expected.dtype == np.float16 else 1e-3
    if expected.shape != found.shape:
        raise NetworkError(f"{what} gives an output of shape {found.shape}, the network {expected.shape}")
    if not np.isfinite(expected).all():
        raise NetworkError("an output of the network is not finite on this example, so the file cannot be checked; "
                           "look for NaN in the example and the weights")
    scale = np.abs(expected).max()
    difference = np.abs(expected.astype(np.float64) - found).max()
    if not difference <= tolerance * scale + 1e-6:  # also when it is NaN
        raise NetworkError(f"{what} computes something else than the network: an output differs by "
                           f"{difference:.3g}, where the largest is {scale:.3g}")


def _run(graph, inputs):
    """Outputs of the graph as NumPy arrays, computed apart from the network and its compiled form."""
    block = SymbolBlock(graph.symbol, [mx.sym.var(name, dtype=value.dtype)
                                       for name, value in zip(graph.inputs, inputs)])
    for name, value in graph.values().items():
        parameter = block.params[name]
        parameter.shape = value.shape
        parameter.dtype = value.dtype
        parameter.initialize(ctx=mx.cpu())
        parameter.set_data(value)
    return _run_block(block, inputs)


def _run_block(block, inputs):
    try:
        with autograd.pause(train_mode=False):
            outputs = block(*[value.as_in_context(mx.cpu()) for value in inputs])
        return [output.asnumpy() for output in (outputs if isinstance(outputs, (list, tuple)) else [outputs])]
    except mx.MXNetError as error:
        raise NetworkError(f"the network cannot be run on the CPU, so the file cannot be checked: "
                           f"{shorten(error)}") from error
