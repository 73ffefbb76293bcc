"""Saving and loading a compressed network.

A file holds the parameters, the records and the network's graph, so that it can be loaded into a fresh copy of the
original network, or without any network. A parameter is stored as it is, as one value throughout, or in the form
that a record gives it: a masked weight as the mask and the values that it keeps, a quantized one as codes and scales.
"""
from __future__ import annotations

import math
from collections.abc import Mapping
from os import PathLike
from pathlib import Path
from typing import Any

import mxnet as mx
import numpy as np
from mxnet.gluon import HybridBlock, Parameter

from ..arguments import shown
from ..errors import CheckpointError
from ..files import tensorfile
from ..files.paths import check_path, check_target
from ..files.schema import fields, mapping
from ..files.tensorfile import check_regular, content_of
from ..network.checks import check_ready
from ..network.resizing import capture, put_back
from ..network.values import has_values, known_shape, leave_store, parameters, take_values, value_of
from ..records import KINDS, NetworkRecord, Record, record_of_network
from . import packed_file
from .codec import (
    Layout,
    Tensors,
    check_stored,
    check_unpacked_size,
    decode,
    encode,
    layout_check,
    put_together,
    read_forms,
    take_apart,
)
from .other_formats.found import Found
from .stored_graph import STORED_GRAPH, graph_of_network, graph_of_original, original_graph, symbol_block, take
from .symbol_check import symbol_of_text

KIND = packed_file.NAME


def save(path: str | PathLike[str], net: HybridBlock, *records: Record, example: Any = None) -> int:
    """Write a compressed network; an older file is replaced in one step.

    Parameters
    ----------
    path : str or Path
    net : HybridBlock
        As the techniques left it, or what :func:`~gluon_compress.quantization.quantize` returned, which needs no
        records.
    *records : Masks, Scales, ChannelPlan, or another Record that has a name in files
        What the techniques returned, at most one of each class; combine several with ``first | second``.
    example : NDArray or tuple of NDArray, optional
        A batch of the network's input. A network with several inputs needs it to have its graph stored; without
        a graph, ``load`` needs the network.

    Returns
    -------
    int
        Size of the file in bytes.

    Raises
    ------
    RecordError
        When a record does not fit the network, for instance because a masked weight is not zero or a
        quantized one no longer a multiple of its scale. Nothing is written then.
    OSError
        When no file can be written at ``path``; this is found out before any work is done, unless the disk is full.

    >>> masks = prune_magnitude(net, 0.9)
    >>> scales = quantize_weights(net)
    >>> save("small.gcz", net, masks, scales)
    """
    check_target("path", path)
    packed_file.write(path, *_content_of(net, records, example))
    return Path(path).stat().st_size


def coded_sizes(net: HybridBlock, *records: Record, example: Any = None) -> dict[str, int]:
    """How many bytes of a file :func:`save` would write for what, without writing it.

    {structural name of a parameter: bytes of its values, codes, mask and scales}, and for the graph, the names and
    the checksum ``"header"``. The file has the sum of all. Arguments and errors are those of ``save``. Of a network
    on integers, what its parameters share (``"scales and rest"``) is counted by itself.

    >>> sum(coded_sizes(net, masks, scales).values())
    """
    return _sizes(*_content_of(net, records, example))


def coded_size(net: HybridBlock, *records: Record, example: Any = None) -> int:
    """The bytes of the file that :func:`save` would write; see :func:`coded_sizes`."""
    return sum(_sizes(*_content_of(net, records, example)).values())


def _sizes(tensors: Tensors, header: dict[str, Any]) -> dict[str, int]:
    rows, contents = packed_file.coded(tensors)
    sizes = dict.fromkeys(header["layout"], 0)
    for name, content in zip(tensors, contents):
        owner = name.rpartition("/")[0] or name
        sizes[owner] = sizes.get(owner, 0) + len(content)
    return {"header": packed_file.size_of_header(header, rows), **sizes}


def _content_of(net: HybridBlock, records: tuple[Record, ...], example: Any) -> tuple[Tensors, dict[str, Any]]:
    """``(tensors, header)`` of a network's file."""
    whole = record_of_network(net)
    if whole is not None:
        if records:
            raise TypeError(f"records are given ({', '.join(type(record).__name__ for record in records)}); accepted: "
                            f"none, as an {type(net).__name__} has its own")
        tensors, layouts = _encode_whole(whole)
        graph, kept = graph_of_original(whole.graph), (whole, *whole.beside())
    else:
        check_ready(net)
        _check_records(records)
        for record in records:
            record.check(net)
        tensors, layouts = encode(((name, value_of(parameter), parameter.dtype)
                                   for name, parameter in parameters(net).items()), records)
        graph, kept = graph_of_network(net, example), records
    return tensors, {"layout": layouts, "graph": graph,
                     "records": {record.in_files: record.header() for record in kept}}


def _encode_whole(record: NetworkRecord) -> tuple[Tensors, dict[str, Layout]]:
    coded = {name for other in record.beside() for name, form in other.forms().items() if form.stores_codes}
    tensors, layouts = encode(((name, value, np.float32 if name in coded else value.dtype)
                               for name, value in record.tensors().items()), record.beside())
    put_together(tensors, layouts)
    return tensors, layouts


def _check_records(records: tuple[Record, ...]) -> None:
    accepted = sorted((cls for cls in KINDS.values() if not issubclass(cls, NetworkRecord)),
                      key=lambda cls: cls.__name__)
    seen = set()
    for record in records:
        if not isinstance(record, tuple(accepted)):
            raise TypeError(f"{shown(record)} is not a record that files hold; accepted: "
                            f"{', '.join(cls.__name__ for cls in accepted)}")
        if record.in_files in seen:
            raise ValueError(f"two records of class {type(record).__name__} are given; accepted: one of each class; "
                             f"combine them: first | second")
        seen.add(record.in_files)


def load_compressed(path: str | PathLike[str], net: HybridBlock | None = None, ctx: mx.Context | None = None,
                    precision: str | None = None, simulate: bool = False) -> HybridBlock:
    """The network of a file that :func:`save` wrote; :func:`~gluon_compress.load` describes arguments and errors."""
    tensors, header = _read(path)
    whole = _whole_network(header) if net is None and precision is None else None
    if simulate and whole is None:
        raise ValueError("simulate=True needs a file that holds a network on integers, and neither net nor precision")
    if net is not None:
        return _load_into(path, net, tensors, header, ctx)
    if "missing" in header["graph"]:
        raise CheckpointError(f"{path} holds no graph ({header['graph']['missing']}); give load the network")
    with content_of(path, KIND):
        check_unpacked_size(header["layout"], Path(path).stat().st_size)
        if whole is not None:
            return _load_whole(whole, tensors, header).network(simulate)
        return symbol_block(header["graph"], header["layout"], tensors, ctx or mx.cpu())


def found_in_compressed(path: str | PathLike[str]) -> Found:
    """What :func:`~gluon_compress.checkpoint.describe` says of a file that :func:`save` wrote."""
    _, header = _read(path)
    graph, layouts = header["graph"], header["layout"]
    outputs: tuple[str, ...] = ()
    if "symbol" in graph:
        with content_of(path, KIND):
            outputs = tuple(symbol_of_text(graph["symbol"]).list_outputs())
    return Found(KIND, (Path(path).name,), inputs=tuple(graph.get("inputs", ())), outputs=outputs,
                 parameters=sum(math.prod(layout["shape"]) for layout in layouts.values()),
                 settings={"records": ", ".join(sorted(header["records"])) or "none"})


def records(path: str | PathLike[str]) -> dict[str, Any]:
    """The records in a file, by their names in files.

    {"masks": Masks, "scales": Scales, "plan": ChannelPlan, "quantization": QuantizationRecord}, whichever the file
    has. With these, a loaded network can be trained further: ``MaskedTrainer(net, records(path)["masks"], ...)``.
    Raises ``CheckpointError`` for a damaged or foreign file.
    """
    check_path("path", path)
    tensors, header = _read(path)
    with content_of(path, KIND):
        check_unpacked_size(header["layout"], Path(path).stat().st_size)
        return _read_records(tensors, header)


# ---- reading

def _read(path: str | PathLike[str]) -> tuple[Tensors, dict[str, Any]]:
    """``(tensors, header)``, with the tensors that each parameter needs."""
    check = fields({"layout": mapping(layout_check()), "graph": STORED_GRAPH,
                    "records": fields({}, {name: record.header_schema for name, record in KINDS.items()})})
    check_regular(path)
    with open(path, "rb") as file:
        packed = packed_file.begins(file.read(16))
    tensors, header = packed_file.read(path, KIND, check) if packed else tensorfile.read(path, KIND, check)
    with content_of(path, KIND):
        take_apart(tensors, header["layout"])
        check_stored(header["layout"], tensors)
    return tensors, header


def _read_records(tensors: Tensors, header: dict[str, Any]) -> dict[str, Any]:
    found = {}
    for name, stored in header["records"].items():
        form = KINDS[name].form
        found[name] = KINDS[name].from_file(stored, read_forms(form, header["layout"], tensors) if form else {})
    return found


def _whole_network(header: dict[str, Any]) -> type[NetworkRecord] | None:
    """The class of the record that is a whole network, if the file holds one."""
    classes = [KINDS[name] for name in header["records"]]
    return next((cls for cls in classes if issubclass(cls, NetworkRecord)), None)


def _load_whole(whole: type[NetworkRecord], tensors: Tensors, header: dict[str, Any]) -> NetworkRecord:
    layouts, found = header["layout"], _read_records(tensors, header)
    values = {name: decode(name, layout, tensors, as_codes=True) for name, layout in layouts.items()}
    graph = original_graph(header["graph"], layouts, tensors)
    tensors.clear()
    return whole.from_tensors(graph, values, found)


# ---- into a network

def _load_into(path: str | PathLike[str], net: HybridBlock, tensors: Tensors, header: dict[str, Any],
               ctx: mx.Context | None) -> HybridBlock:
    """Everything is checked and decoded before the first parameter changes."""
    layouts, named = header["layout"], parameters(net)
    with content_of(path, KIND):
        resizing = [KINDS[name].from_file(stored, {}) for name, stored in header["records"].items()
                    if KINDS[name].resizes]
        as_it_is = _check_fits(path, named, layouts, resizing)
        values = {name: take(name, layouts, tensors) for name in layouts}
    for parameter in named.values():
        if has_values(parameter):
            leave_store(parameter)
    before = capture(net)
    try:
        if not as_it_is:
            with content_of(path, KIND):
                for record in resizing:
                    record.resize(net)
        for name, parameter in parameters(net).items():
            take_values(parameter, values.pop(name), ctx)
    except BaseException:
        put_back(net, before)
        raise
    return net


def _check_fits(path: str | PathLike[str], named: Mapping[str, Parameter], layouts: Mapping[str, Layout],
                resizing: list[Record]) -> bool:
    """Whether the file's parameters fit those of the network, ``named``, as they are; False: they fit once resized.

    Raises ``CheckpointError`` when neither holds.
    """
    for name in sorted(named.keys() ^ layouts.keys()):
        raise CheckpointError(f"{path} belongs to another network: parameter {name} is only in the "
                              f"{'file' if name in layouts else 'network'}")
    for name, parameter in named.items():
        if (np.dtype(parameter.dtype).kind == "f") != layouts[name]["dtype"].startswith("float"):
            raise CheckpointError(f"{path} belongs to another network: parameter {name} has type "
                                  f"{layouts[name]['dtype']} there, {np.dtype(parameter.dtype)} here")
    shapes = {name: known_shape(parameter) for name, parameter in named.items()}
    misfits = [name for name in named if not _fits(shapes[name], layouts[name]["shape"])]
    if not misfits:
        return True
    resized: dict[str, Any] = dict(shapes)
    for record in resizing:
        resized = record.new_shapes(resized)
    for name in misfits:
        if not _fits(resized[name], layouts[name]["shape"]):
            forgotten = " or ".join(sorted(cls.__name__ for cls in KINDS.values() if cls.resizes))
            raise CheckpointError(f"{path} belongs to another network: parameter {name} has shape "
                                  f"{tuple(layouts[name]['shape'])} there, {shapes[name]} here (or it was saved "
                                  f"without its {forgotten}, or with the last of several that were not combined by "
                                  f"first | second: load it without a network then)")
    return False


def _fits(shape: tuple[int, ...] | None, other: list[int]) -> bool:
    """Whether two shapes agree where the first is known (0 and -1 stand for unknown sizes)."""
    return shape is None or len(shape) == len(other) and all(a in (0, -1, b) for a, b in zip(shape, other))
