"""MXNet's own form: symbol and parameters, read back and compared before they are put in place."""
from __future__ import annotations

import warnings
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import mxnet as mx
from mxnet.gluon import HybridBlock, SymbolBlock

from ..errors import NetworkError
from ..files.paths import symbol_paths
from ..files.writing import write_atomically
from ..network.graph import Graph
from ..network.inputs import example_inputs
from ..network.values import interface_of
from .comparing import check_close, check_inputs_used, run_block, run_graph


def to_symbol(net: HybridBlock, path_prefix: str | Path, example: Any = None, epoch: int = 0) -> tuple[Path, Path]:
    """Write ``<path_prefix>-symbol.json`` and ``<path_prefix>-0000.params``; return both paths.

    The files are those of ``HybridBlock.export``, for ``SymbolBlock.imports`` and for MXNet's other
    languages, but the network need not be hybridized and stays as it is. They are read back and compared
    with the network, and only then replace older ones. MXNet reads those of a network of ``npx.set_np()`` under
    ``npx.set_np()``, and all others without.

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
    graph, interface = Graph(net, 1 if inputs is None else inputs), interface_of(net)
    check_inputs_used(graph)

    def write(symbol_file: Path, parameters_file: Path) -> None:
        graph.symbol.save(str(symbol_file))
        auxiliary = graph.auxiliary()
        with interface.active():
            mx.nd.save(str(parameters_file), {f"{'aux' if name in auxiliary else 'arg'}:{name}": value
                                              for name, value in graph.values().items()})
            _compare_import(graph, symbol_file, parameters_file, inputs)
    write_atomically(parameters_path, lambda parameters_file: write_atomically(
        symbol_path, lambda symbol_file: write(symbol_file, parameters_file)))
    return symbol_path, parameters_path


def _compare_import(graph: Graph, symbol_file: Path, parameters_file: Path,
                    inputs: Sequence[mx.nd.NDArray] | None) -> None:
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
        for expected, found in zip(run_graph(graph, inputs), run_block(imported, inputs)):
            check_close(expected, found, "the exported network")
