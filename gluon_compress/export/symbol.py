"""MXNet's own form: symbol and parameters, read back and compared before they are put in place."""
from __future__ import annotations

import glob
import warnings
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import mxnet as mx
from mxnet.gluon import HybridBlock, SymbolBlock

from ..errors import NetworkError
from ..files.paths import followed, symbol_paths
from ..files.workplace import flush
from ..files.writing import write_atomically
from ..network.blocks import GraphBlock
from ..network.graph import Graph
from ..network.inputs import example_inputs
from ..network.nodes import symbol_of
from ..network.values import interface_of, value_of
from .comparing import check_close, check_inputs_used, run_block, run_graph
from .loss_head import check_loss_head, with_loss


def write_checkpoint(net: HybridBlock, path_prefix: str | Path, example: Any = None, epoch: int = 0,
                     loss_head: str | None = None) -> tuple[Path, Path]:
    """Write ``<path_prefix>-symbol.json`` and ``<path_prefix>-0000.params``; return both paths.

    The files are those of ``HybridBlock.export`` and of ``Module.save_checkpoint``: ``Module.load``,
    ``SymbolBlock.imports``, :func:`gluon_compress.load` (but for networks on integers: :func:`gluon_compress.save`
    those), MXNet's other languages and DJL read them. The network need not be hybridized and stays as it is.

    Files of the same prefix and epoch are replaced, as MXNet's own functions do, once the new ones are written, read
    back and compared. Two files cannot be replaced in one step: a process that is killed in between leaves the old
    pair, or the new one, or, where the graphs differ, a graph without parameters, never with those of the other.

    MXNet itself reads the files of a network of ``npx.set_np()`` in that mode only, as it does those of ``export``. For
    Module and DJL, :func:`gluon_compress.load` them out of that mode and write them again.

    Parameters
    ----------
    net : HybridBlock
    path_prefix : str or Path
        A folder and the beginning of the files' names; not a directory.
    example : NDArray or tuple of NDArray, optional
        When given, the outputs are compared too, on the CPU. A network of several inputs needs a tuple.
    epoch : int
        The number in the name of the parameters' file, in [0, 9999].
    loss_head : str, optional
        The loss with which Module trains the network on: "SoftmaxOutput" (in place of a softmax at the end, if there
        is one), "LogisticRegressionOutput" (of a sigmoid), "LinearRegressionOutput", "MAERegressionOutput" or
        "SVMOutput". Its label is ``softmax_label``, Module's default, or named after what it stands for. Without it,
        the graph has no label: ``Module.load(prefix, 0, label_names=[])``.

    Raises
    ------
    TypeError, NetworkError
        As for :func:`gluon_compress.report`, and when the files do not give the same network again, or the network has
        several outputs and is to have a loss.
    ValueError
        When ``path_prefix`` is a directory or ends in a slash, when parameters of other epochs lie there with the
        graph of another network, or ``loss_head`` is unknown.
    OSError
        When the files cannot be written there.
    """
    symbol_path, parameters_path = symbol_paths("path_prefix", path_prefix, epoch)
    check_loss_head(loss_head)
    inputs = None if example is None else example_inputs(example)
    graph, interface = Graph(net, 1 if inputs is None else inputs), interface_of(net)
    check_inputs_used(graph)
    written, body = graph.symbol, graph.symbol
    if loss_head is not None:
        loss, data = with_loss(graph.outputs, loss_head)
        written, body = symbol_of([loss]), symbol_of([data])

    _check_neighbours(symbol_path, parameters_path, written)

    def write(symbol_file: Path, parameters_file: Path) -> None:
        written.save(str(symbol_file))
        auxiliary = graph.auxiliary()
        with interface.active():
            mx.nd.save(str(parameters_file), {f"{'aux' if name in auxiliary else 'arg'}:{name}": value
                                              for name, value in graph.values().items()})
            _compare(graph, body, _read_back(graph, body, symbol_file, parameters_file), inputs)
        if _is_of_another(symbol_path, written):
            flush(symbol_file)  # nothing but a kill can keep both from being put in place now
            flush(parameters_file)
            followed(parameters_path).unlink(missing_ok=True)
    write_atomically(parameters_path, lambda parameters_file: write_atomically(
        symbol_path, lambda symbol_file: write(symbol_file, parameters_file)))
    return symbol_path, parameters_path


def _check_neighbours(symbol_path: Path, parameters_path: Path, symbol: mx.sym.Symbol) -> None:
    """``ValueError`` rather than to replace the graph of another network, of which parameters lie beside it."""
    prefix = symbol_path.name.removesuffix("-symbol.json")
    others = set(symbol_path.parent.glob(f"{glob.escape(prefix)}-[0-9][0-9][0-9][0-9].params")) - {parameters_path}
    if others and _is_of_another(symbol_path, symbol):
        names = ", ".join(sorted(path.name for path in others)[:5])
        raise ValueError(f"path_prefix is {str(symbol_path.with_name(prefix))!r}, where the graph of another network "
                         f"lies with its parameters, {names}; accepted: a prefix of its own")


def _is_of_another(symbol_path: Path, symbol: mx.sym.Symbol) -> bool:
    """Whether a file holds another graph."""
    return symbol_path.is_file() and symbol_path.read_text(errors="replace") != symbol.tojson()


def _read_back(graph: Graph, body: mx.sym.Symbol, symbol_file: Path, parameters_file: Path) -> SymbolBlock:
    """A network of what the files hold, up to the loss, if they have one."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # MXNet asks for the inputs' types, which are not known here
        if body is graph.symbol:
            return SymbolBlock.imports(str(symbol_file), graph.inputs, str(parameters_file))
        symbol = mx.sym.load(str(symbol_file)).get_internals()[body.list_outputs()[0]]
        imported = GraphBlock(symbol, [mx.sym.var(name) for name in graph.inputs])
    imported.collect_params().load(str(parameters_file), cast_dtype=True, dtype_source="saved")
    return imported


def _compare(graph: Graph, body: mx.sym.Symbol, imported: SymbolBlock,
             inputs: Sequence[mx.nd.NDArray] | None) -> None:
    """``NetworkError`` unless the files hold the graph, its parameters bit by bit, and its outputs."""
    read = {name: value_of(parameter) for name, parameter in imported.collect_params().items()}
    for name, value in graph.values().items():
        value = value.asnumpy()
        same = name in read and read[name].dtype == value.dtype and read[name].shape == value.shape
        if not same or read[name].tobytes() != value.tobytes():
            raise NetworkError(f"parameter {name} does not come back from the file as it was")
    if inputs is not None:
        for expected, found in zip(run_graph(graph, inputs, body), run_block(imported, inputs)):
            check_close(expected, found, "the exported network")
