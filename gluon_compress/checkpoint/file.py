"""Saving and loading a compressed network.

What is in the file, tensor by tensor:

- a quantized weight: its integer codes, ``bits`` bits each, and its scales;
- a parameter with one value throughout, such as a folded BatchNorm's: that value, in the header;
- a masked weight: one bit per weight for the mask, deflated, and the values of the kept ones;
- anything else as it is.

The records (masks, scales, channel plan) and the network's graph lie beside them, so that a file can be
loaded into a fresh copy of the original network, or with no network at all.
"""
import warnings
from pathlib import Path

import mxnet as mx
import numpy as np
from mxnet.gluon import SymbolBlock

from ..arguments import check_flag
from ..errors import CheckpointError, NetworkError
from ..files import tensorfile
from ..files.paths import check_path, check_target
from ..files.schema import REASONS, SHAPE, Malformed, anything, choice, either, fields, list_of, mapping, text
from ..files.tensorfile import content_of
from ..network.checks import check_context, check_hybrid, check_ready
from ..network.graph import Graph
from ..network.inputs import example_inputs
from ..network.nodes import edited_text
from ..network.resizing import capture, put_back
from ..network.values import known_shape, leave_store, parameters, set_values
from ..pruning import ChannelPlan, Masks
from ..quantization import IntegerNetwork, QuantizationRecord, Scales
from ..quantization.quantized import Quantized
from .codec import (
    LAYOUT,
    TYPES,
    check_stored,
    check_unpacked_size,
    codes_of,
    decode,
    encode,
    mask_of,
    put_together,
    take_apart,
)
from .loaded_network import LoadedNetwork
from .shape_check import check_shapes, check_types
from .symbol_check import LONGEST_SYMBOL, checked_content, symbol_of_text

KIND = "compressed network"
RECORDS = {"masks": Masks, "scales": Scales, "plan": ChannelPlan}
MOST_INPUTS = 1000

_LEFT_OUT = fields({"left_out": REASONS})
_GRAPH = fields({"symbol": text(LONGEST_SYMBOL), "inputs": list_of(text(), least=1, most=MOST_INPUTS),
                 "dtype": choice(*TYPES)},
                {"names": mapping(text()), "shapes": mapping(SHAPE)})
_HEADER = fields({
    "layout": mapping(LAYOUT), "graph": either(fields({"missing": text(1_000_000)}), _GRAPH),
    "records": fields({}, {"masks": _LEFT_OUT, "scales": _LEFT_OUT,
                           "plan": anything, "quantization": anything})})  # which check themselves


def save(path, net, *records, example=None):
    """Write a compressed network; an older file is replaced in one step.

    Parameters
    ----------
    path : str or Path
    net : HybridBlock
        As the techniques left it, or what :func:`~gluon_compress.quantization.quantize` returned: that needs no
        records.
    *records : Masks, Scales, ChannelPlan
        What the techniques returned, at most one of each; combine several with ``first | second``.
    example : NDArray or tuple of NDArray, optional
        A batch of the network's input. Only for a network of several inputs, so that its graph can be
        stored; without a graph, ``load`` needs the network.

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
        When no file can be written there; before anything is done, unless the disk is full.

    >>> masks = prune_magnitude(net, 0.9)
    >>> scales = quantize_weights(net)
    >>> save("small.gcz", net, masks, scales)
    """
    check_target("path", path)
    if isinstance(net, IntegerNetwork):
        return _save_int8(path, net, records)
    check_ready(net)
    given = _by_kind(records)
    if "plan" in given:
        given["plan"].check_applied(net)
    masks = given["masks"].fitted_masks(net) if "masks" in given else {}
    scales, codes = {}, {}
    if "scales" in given:
        scales, codes = given["scales"].layers, given["scales"].codes(net)
    tensors, layout = encode(((name, codes[name] if name in codes else parameter.data().asnumpy(), parameter.dtype)
                              for name, parameter in parameters(net).items()), scales, masks)
    stored = {kind: record.to_dict() if kind == "plan" else {"left_out": record.left_out}
              for kind, record in given.items()}  # masks and scales themselves are tensors
    return _write(path, tensors, {"layout": layout, "records": stored, "graph": _graph(net, example)})


def _save_int8(path, net, records):
    if records:
        raise TypeError(f"records are given ({', '.join(type(record).__name__ for record in records)}); accepted: "
                        f"none, as an int8 network has its own")
    made = net.quantized
    tensors, layout = encode(((name, value, np.float32 if name in made.codes else value.dtype)
                              for name, value in made.tensors().items()), made.scales.layers)
    put_together(tensors, layout)
    graph = {"symbol": _slim(made.graph.symbol, made.graph.parameter_names), "inputs": list(made.graph.input_shapes),
             "dtype": "float32", "shapes": made.graph.input_shapes}
    stored = {"scales": {"left_out": made.scales.left_out}, "quantization": made.record.to_dict()}
    return _write(path, tensors, {"layout": layout, "records": stored, "graph": graph})


def _write(path, tensors, header):
    tensorfile.write(path, KIND, tensors, header)
    return Path(path).stat().st_size


def _slim(symbol, names):
    """The symbol's JSON with structural names, and without the parameters' shapes, which are in the layout."""
    def edit(node):
        if node.operator == "null":
            node.attributes, node.name = {}, names.get(node.name, node.name)
    return edited_text(symbol, edit)


def load(path, net=None, ctx=None, precision=None, simulate=False):
    """Load a compressed network: an int8 network as one, others with quantized weights in floating point again.

    Parameters
    ----------
    path : str or Path
    net : HybridBlock, optional
        A fresh copy of the original network, initialized or not: its channels are removed as in the
        file, then its parameters set. Without it a ``SymbolBlock`` is built from the graph in the file.
    ctx : mx.Context, optional
        Where the parameters go; by default where those of ``net`` are, else the CPU.
    precision : "fp32", optional
        Of an int8 network: load it as an fp32 ``SymbolBlock`` with the rounded weights.
    simulate : bool
        Of an int8 network: run its arithmetic in fp32, anywhere.

    Returns
    -------
    HybridBlock
        ``net``, the ``SymbolBlock``, or the ``IntegerNetwork``.

    Raises
    ------
    CheckpointError
        For a damaged, truncated or foreign file, or one of another network. ``net`` is then unchanged.
    NetworkError
        For an int8 network of fewer than 8 bits without ``simulate``: there are no kernels for it.
    """
    check_path("path", path)
    check_context(ctx)
    check_flag("simulate", simulate)
    if precision not in (None, "fp32"):
        raise ValueError(f"precision is {precision!r}; accepted: 'fp32' or None")
    if net is not None:
        check_hybrid(net)
        if isinstance(net, IntegerNetwork):
            raise TypeError("net is an IntegerNetwork; accepted: a fresh copy of the original network, or None")
    tensors, header = _read(path)
    as_integers = net is None and precision is None and "quantization" in header["records"]
    if simulate and not as_integers:
        raise ValueError("simulate=True is for int8 networks that are loaded as such: without net, without precision, "
                         "from a file that holds one")
    if net is not None:
        return _load_into(path, net, tensors, header, ctx)
    if "missing" in header["graph"]:
        raise CheckpointError(f"{path} holds no graph ({header['graph']['missing']}); give load the network")
    with content_of(path, KIND):
        check_unpacked_size(header["layout"], tensors)
        if as_integers:
            return _load_int8(tensors, header, simulate)
        return _symbol_block(header["graph"], header["layout"], tensors, ctx or mx.cpu())


def _load_into(path, net, tensors, header, ctx):
    """Everything is checked and decoded before the first parameter changes."""
    layouts, named = header["layout"], parameters(net)
    with content_of(path, KIND):
        plan = ChannelPlan.from_dict(header["records"]["plan"]) if "plan" in header["records"] else None
        as_it_is = _check_fits(path, named, layouts, plan)
        values = _decode_all(layouts, tensors)
    for parameter in named.values():
        if parameter._data is not None:
            leave_store(parameter)
    before = capture(net)
    try:
        if not as_it_is:
            with content_of(path, KIND):
                plan.apply(net)
        for name, parameter in parameters(net).items():
            _set(parameter, values.pop(name), ctx)
    except BaseException:
        put_back(net, before)
        raise
    return net


def _decode_all(layouts, tensors):
    """{name: array}; each tensor is let go of once it is decoded."""
    values = {}
    for name, layout in layouts.items():
        values[name] = decode(name, layout, tensors)
        for part in ("value", "mask"):
            tensors.pop(f"{name}/{part}", None)
    return values


def _set(parameter, value, ctx):
    used = parameter._data is not None or parameter._deferred_init
    if used and ctx is not None:
        parameter.reset_ctx(ctx)
    if parameter._data is not None:
        set_values(parameter, value)
    else:
        parameter._load_init(mx.nd.array(value, dtype=parameter.dtype), None if used else ctx or mx.cpu())


def records(path):
    """The records in a file, as far as it has them.

    {"masks": Masks, "scales": Scales, "plan": ChannelPlan, "quantization": QuantizationRecord}.

    With these, a loaded network can be trained further: ``MaskedTrainer(net, records(path)["masks"], ...)``.
    Raises ``CheckpointError`` for a damaged or foreign file.
    """
    check_path("path", path)
    tensors, header = _read(path)
    with content_of(path, KIND):
        check_unpacked_size(header["layout"], tensors)
        return _read_records(tensors, header)


def _read(path):
    """``(tensors, header)``, with the tensors that each parameter needs."""
    tensors, header = tensorfile.read(path, KIND, _HEADER)
    with content_of(path, KIND):
        take_apart(tensors, header["layout"])
        check_stored(header["layout"], tensors)
    return tensors, header


def _load_int8(tensors, header, simulate):
    found, layouts, graph = _read_records(tensors, header), header["layout"], header["graph"]
    if "scales" not in found or graph.get("shapes", {}).keys() != set(graph["inputs"]):
        raise Malformed("an int8 network has no scales, or inputs without a shape")
    symbol = symbol_of_text(graph["symbol"])
    shapes = {**{name: layout["shape"] for name, layout in layouts.items()}, **graph["shapes"]}
    check_shapes(symbol, shapes)
    values = {name: (codes_of if "bits" in layout else decode)(name, layout, tensors)
              for name, layout in layouts.items()}
    graph = _graph_of_fp32(graph, layouts, tensors)
    tensors.clear()
    return IntegerNetwork(Quantized.from_tensors(graph, values, found["quantization"], found["scales"]), simulate)


def _graph_of_fp32(graph, layouts, tensors):
    """The :class:`Graph` of the original network, whose values are no longer in memory afterwards."""
    block = _symbol_block(graph, layouts, tensors, mx.cpu(), trainable=False)
    try:  # not structural names: a SymbolBlock's lack what all of its parameters' names begin with
        fp32 = Graph(block, len(graph["inputs"]), named=dict(block.collect_params().items()))
    except NetworkError as error:
        raise Malformed(str(error)) from error
    fp32.infer_shapes(tuple(graph["shapes"][name]) for name in graph["inputs"])
    return fp32


def _read_records(tensors, header):
    stored, layouts, found = header["records"], header["layout"], {}
    if "masks" in stored:
        kept = {name: mask_of(name, layout, tensors) for name, layout in layouts.items() if f"{name}/mask" in tensors}
        found["masks"] = Masks(kept, stored["masks"]["left_out"])
    if "scales" in stored:
        quantized = {name: {"bits": layout["bits"], "axis": layout["axis"], "scale": tensors[f"{name}/scale"]}
                     for name, layout in layouts.items() if "bits" in layout}
        found["scales"] = Scales(quantized, stored["scales"]["left_out"])
    if "plan" in stored:
        found["plan"] = ChannelPlan.from_dict(stored["plan"])
    if "quantization" in stored:
        found["quantization"] = QuantizationRecord.from_dict(stored["quantization"])
    return found


def _by_kind(records):
    """{"masks": ..., "scales": ..., "plan": ...} of the given records."""
    given = {}
    for record in records:
        kind = next((kind for kind, cls in RECORDS.items() if isinstance(record, cls)), None)
        if kind is None:
            raise TypeError(f"{record!r} is no record; accepted: {', '.join(c.__name__ for c in RECORDS.values())}")
        if kind in given:
            raise ValueError(f"two {type(record).__name__} are given; accepted: at most one of each; "
                             f"combine them: first | second")
        given[kind] = record
    return given


def _check_fits(path, named, layouts, plan):
    """True when the file's parameters fit the network's, ``named``, as they are, False when they do after ``plan``.

    Else CheckpointError.
    """
    for name in sorted(named.keys() ^ layouts.keys()):
        raise CheckpointError(f"{path} is of another network: parameter {name} is only in the "
                              f"{'file' if name in layouts else 'network'}")
    for name, parameter in named.items():
        if (np.dtype(parameter.dtype).kind == "f") != layouts[name]["dtype"].startswith("float"):
            raise CheckpointError(f"{path} is of another network: parameter {name} has type {layouts[name]['dtype']} "
                                  f"there, {np.dtype(parameter.dtype)} here")
    shapes = {name: known_shape(parameter) for name, parameter in named.items()}
    misfits = [name for name in named if not _fits(shapes[name], layouts[name]["shape"])]
    if not misfits:
        return True
    planned = {name: list(shape or ()) for name, shape in shapes.items()}
    for cut in plan.slices if plan is not None else ():
        if planned[cut["parameter"]][cut["axis"]] == cut["before"]:
            planned[cut["parameter"]][cut["axis"]] = len(cut["kept"])
    for name in misfits:
        if not _fits(planned[name], layouts[name]["shape"]):
            raise CheckpointError(f"{path} is of another network: parameter {name} has shape "
                                  f"{tuple(layouts[name]['shape'])} there, {shapes[name]} here (or it was saved "
                                  f"without its ChannelPlan, or with the last of several that were not combined by "
                                  f"first | second: load it without a network then)")
    return False


def _fits(shape, other):
    """Whether two shapes agree where the first is known (0 and -1 stand for unknown sizes)."""
    return shape is None or len(shape) == len(other) and all(a in (0, -1, b) for a, b in zip(shape, other))


def _graph(net, example):
    """The network's symbol and its parameters' names in it, or why there is none."""
    if example is not None:
        inputs = example_inputs(example)
    else:
        inputs = len(net._cached_graph[0]) if isinstance(net, SymbolBlock) else 1
    try:
        graph = Graph(net, inputs)
        checked_content(graph.symbol.tojson())  # or load would refuse it
    except (NetworkError, Malformed) as error:
        warnings.warn(f"the file holds no graph, so that load will need the network: {error}", stacklevel=3)
        return {"missing": str(error)}
    return {"symbol": graph.symbol.tojson(), "inputs": graph.inputs,
            "dtype": next((np.dtype(parameter.dtype).name for parameter in graph.parameters.values()), "float32"),
            "names": graph.parameter_names}


def _symbol_block(graph, layouts, tensors, ctx, trainable=True):
    """A SymbolBlock of the graph in the file, built once names, shapes and types of its parameters go together.

    It takes the parameters' values from ``tensors``.
    """
    symbol = symbol_of_text(graph["symbol"])
    names = {name: graph["names"].get(name) if "names" in graph else name
             for name in symbol.list_inputs() if name not in graph["inputs"]}
    for name, stored in names.items():
        if stored not in layouts:
            raise Malformed(f"the graph reads {name!r}, which is neither one of its inputs nor a parameter in the file")
    check_shapes(symbol, {**graph.get("shapes", {}),
                          **{name: layouts[stored]["shape"] for name, stored in names.items()}})
    check_types(symbol, {**dict.fromkeys(graph["inputs"], graph["dtype"]),
                         **{name: layouts[stored]["dtype"] for name, stored in names.items()}})
    net = LoadedNetwork(symbol, [mx.sym.var(name, dtype=graph["dtype"]) for name in graph["inputs"]])
    for name, parameter in net.collect_params().items():
        gradients, parameter.grad_req = parameter.grad_req, "null"  # which come when the value is there once only
        parameter._load_init(_taken(names[name], layouts, tensors), ctx, cast_dtype=True, dtype_source="saved")
        parameter.grad_req = gradients if trainable else "null"
    return net


def _taken(name, layouts, tensors):
    """A parameter as an NDArray; its tensors are let go of."""
    value = _decode_all({name: layouts[name]}, tensors)[name]
    return mx.nd.array(value, dtype=value.dtype)
