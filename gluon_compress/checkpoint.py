"""Compressed networks on disk: small, checked on loading, never executed.

What is in the file, tensor by tensor:

- a quantized weight: its integer codes, ``bits`` bits each, and its scales;
- a parameter with one value throughout, such as a folded BatchNorm's: that value, in the header;
- a masked weight: one bit per weight for the mask, deflated, and the values of the kept ones;
- anything else as it is.

The records (masks, scales, channel plan) and the network's graph lie beside them, so that a file can be
loaded into a fresh copy of the original network, or with no network at all.
"""
import json
import math
import warnings
import zlib
from contextlib import contextmanager
from pathlib import Path

import mxnet as mx
import numpy as np
from mxnet.gluon import SymbolBlock

from . import tensorfile
from .arguments import check_flag
from .errors import CheckpointError, NetworkError
from .files import check_target
from .graph import Graph
from .network import check_context, check_hybrid, check_ready, known_shape, parameters, set_values
from .pruning import ChannelPlan, Masks
from .quantization import Int8Network, QuantizationRecord, Scales, dequantize_array
from .quantization.arrays import largest_code
from .symbol_graph import example_inputs, trace

KIND = "compressed network"
SMALL = "scales and rest"  # of an int8 network
RECORDS = {"masks": Masks, "scales": Scales, "plan": ChannelPlan}


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
    if isinstance(net, Int8Network):
        return _save_int8(path, net, records)
    check_ready(net)
    given = _by_kind(records)
    if "plan" in given:
        given["plan"].check_applied(net)
    masks = given["masks"].fitted_masks(net) if "masks" in given else {}
    codes = given["scales"].codes(net) if "scales" in given else {}
    tensors, layout = {}, {}
    for name, parameter in parameters(net).items():
        value = codes.get(name, parameter.data().asnumpy())
        layout[name] = {"shape": list(value.shape), "dtype": np.dtype(parameter.dtype).name}
        if name in masks:
            tensors[f"{name}/mask"] = _compress(np.packbits(masks[name]))
            value = value[masks[name]]
        if name in codes:
            record = given["scales"].layers[name]
            layout[name].update(bits=record["bits"], axis=record["axis"])
            tensors[f"{name}/scale"] = record["scale"]
            value = _pack(value, record["bits"])
        _store(name, value, layout, tensors)
    stored = {kind: record.to_dict() if kind == "plan" else {"left_out": record.left_out}
              for kind, record in given.items()}  # masks and scales themselves are tensors
    tensorfile.write(path, KIND, tensors, {"layout": layout, "records": stored, "graph": _graph(net, example)})
    return Path(path).stat().st_size


def _save_int8(path, net, records):
    if records:
        raise TypeError(f"records are given ({', '.join(type(record).__name__ for record in records)}); accepted: "
                        f"none, as an int8 network has its own")
    tensors, layout = {}, {}
    for name, value in {**net.rest, **net.codes}.items():
        layout[name] = {"shape": list(value.shape), "dtype": "float32"}
        if name in net.codes:
            record = net.scales.layers[name]
            layout[name].update(bits=record["bits"], axis=record["axis"])
            value = _pack(value, record["bits"])
        _store(name, value, layout, tensors)
    # one tensor for all that is small: 100 bytes of header for each would be more than many of them
    small = [name for name in sorted(layout) if f"{name}/value" in tensors and name not in net.codes]
    tensors[SMALL] = np.concatenate([*(net.scales.layers[name]["scale"] for name in sorted(net.codes)),
                                     *(tensors.pop(f"{name}/value").ravel() for name in small)])
    graph = {"symbol": _slim(net.graph.symbol, net.graph.parameter_names), "inputs": list(net.graph.input_shapes),
             "dtype": "float32", "shapes": net.graph.input_shapes}
    stored = {"scales": {"left_out": net.scales.left_out}, "quantization": net.record.to_dict()}
    tensorfile.write(path, KIND, tensors, {"layout": layout, "records": stored, "graph": graph})
    return Path(path).stat().st_size


def _slim(symbol, names):
    """The symbol's JSON with structural names, and without the parameters' shapes, which are in the layout."""
    content = json.loads(symbol.tojson())
    for node in content["nodes"]:
        if node["op"] == "null":
            node.pop("attrs", None)
            node["name"] = names.get(node["name"], node["name"])
    return json.dumps(content)


def _take_small_apart(tensors, layout):
    """Put back the scales and values that :func:`_save_int8` put into one tensor."""
    small, position = tensors.pop(SMALL), 0
    quantized = [name for name in sorted(layout) if "bits" in layout[name]]
    whole = [name for name in sorted(layout) if "bits" not in layout[name] and "fill" not in layout[name]]
    for name, shape in (*((f"{name}/scale", layout[name]["shape"][:1]) for name in quantized),
                        *((f"{name}/value", layout[name]["shape"]) for name in whole)):
        tensors[name] = small[position:position + math.prod(shape)].reshape(shape)
        position += math.prod(shape)


def _store(name, value, layout, tensors):
    """Put an array into the file, or into its header when all its values are the same."""
    if value.size > 1 and value.dtype.kind == "f" and (value == value.flat[0]).all() and np.isfinite(value.flat[0]):
        layout[name]["fill"] = float(value.flat[0])
    else:
        tensors[f"{name}/value"] = value


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
        ``net``, the ``SymbolBlock``, or the ``Int8Network``.

    Raises
    ------
    CheckpointError
        For a damaged, truncated or foreign file, or one of another network. ``net`` is then unchanged.
    """
    check_context(ctx)
    check_flag("simulate", simulate)
    if precision not in (None, "fp32"):
        raise ValueError(f"precision is {precision!r}; accepted: 'fp32' or None")
    if net is not None:
        check_hybrid(net)
        if isinstance(net, Int8Network):
            raise TypeError("net is an Int8Network; accepted: a fresh copy of the original network, or None")
    tensors, header = _read(path)
    as_integers = net is None and precision is None and "quantization" in header["records"]
    if simulate and not as_integers:
        raise ValueError("simulate=True is for int8 networks that are loaded as such: without net, without precision, "
                         "from a file that holds one")
    if as_integers:
        return _load_int8(path, tensors, header, simulate)
    with _content_of(path):
        values = {name: _decode(name, layout, tensors) for name, layout in header["layout"].items()}
        if net is None:
            return _symbol_block(path, header["graph"], values, ctx or mx.cpu())
    with _content_of(path):
        plan = header["records"].get("plan")
        if not _check_fits(path, net, values, plan):
            ChannelPlan.from_dict(plan).apply(net)
    for name, parameter in parameters(net).items():
        used = parameter._data is not None or parameter._deferred_init
        if used and ctx is not None:
            parameter.reset_ctx(ctx)
        if parameter._data is not None:
            set_values(parameter, values[name])
        else:
            parameter._load_init(mx.nd.array(values[name], dtype=parameter.dtype), None if used else ctx or mx.cpu())
    return net


def records(path):
    """The records in a file, as far as it has them.

    {"masks": Masks, "scales": Scales, "plan": ChannelPlan, "quantization": QuantizationRecord}.

    With these, a loaded network can be trained further: ``MaskedTrainer(net, records(path)["masks"], ...)``.
    """
    tensors, header = _read(path)
    with _content_of(path):
        return _read_records(tensors, header)


def _read(path):
    """``(tensors, header)``, with a tensor for each parameter."""
    tensors, header = tensorfile.read(path, KIND)
    if SMALL in tensors:
        with _content_of(path):
            _take_small_apart(tensors, header["layout"])
    return tensors, header


def _load_int8(path, tensors, header, simulate):
    with _content_of(path):
        found, layouts, graph = _read_records(tensors, header), header["layout"], header["graph"]
        codes = {name: _unpack(tensors[f"{name}/value"], layout["bits"], math.prod(layout["shape"])).reshape(
            layout["shape"]) for name, layout in layouts.items() if "bits" in layout}
        rest = {name: _decode(name, layout, tensors) for name, layout in layouts.items() if "bits" not in layout}
        values = {**rest, **{name: _decode(name, layouts[name], tensors) for name in codes}}
        block = _symbol_block(path, graph, values, mx.cpu())
        example = tuple(mx.nd.zeros(graph["shapes"][name]) for name in graph["inputs"])
        # not structural names: a SymbolBlock's lack what all of its parameters' names begin with
        graph = Graph(block, example, dict(block.collect_params().items()))
        return Int8Network(graph, codes, found["scales"], rest, found["quantization"], simulate)


def _read_records(tensors, header):
    stored, layouts, found = header["records"], header["layout"], {}
    if "masks" in stored:
        kept = {name: _mask(name, layout, tensors) for name, layout in layouts.items() if f"{name}/mask" in tensors}
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


@contextmanager
def _content_of(path):
    """Turn what a forged file, whose checksum is right, can lead to into a ``CheckpointError``."""
    try:
        yield
    except (KeyError, IndexError, ValueError, TypeError, OverflowError, AttributeError, zlib.error) as error:
        raise CheckpointError(f"{path} does not hold what a compressed network consists of: {error!r}") from error


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


def _pack(codes, bits):
    """Codes as int8, or as a stream of ``bits`` bits each when there are fewer than 8."""
    if bits == 8:
        return codes
    shifted = (codes.ravel() + largest_code(bits)).astype(np.uint8)  # 0 ... 2 * q_max
    return np.packbits(np.unpackbits(shifted[:, None], axis=1, count=bits, bitorder="little"))


def _unpack(packed, bits, count):
    if bits == 8:
        return packed
    stream = np.unpackbits(packed, count=count * bits).reshape(count, bits)
    shifted = np.packbits(stream, axis=1, bitorder="little").ravel()
    return shifted.astype(np.int8) - np.int8(largest_code(bits))


def _compress(array):
    """An array's bytes, deflated: of a sparse mask a third is left."""
    return np.frombuffer(zlib.compress(array.tobytes(), 9), np.uint8)


def _mask(name, layout, tensors):
    bits = np.frombuffer(zlib.decompress(tensors[f"{name}/mask"].tobytes()), np.uint8)
    return np.unpackbits(bits, count=math.prod(layout["shape"])).astype(bool).reshape(layout["shape"])


def _decode(name, layout, tensors):
    """The float array of a parameter."""
    if "fill" in layout:
        return np.full(layout["shape"], layout["fill"], layout["dtype"])
    value = tensors[f"{name}/value"]
    mask = _mask(name, layout, tensors) if f"{name}/mask" in tensors else None
    if "bits" in layout:
        value = _unpack(value, layout["bits"], math.prod(layout["shape"]) if mask is None else int(mask.sum()))
    if mask is not None:
        scattered = np.zeros(mask.shape, value.dtype)
        scattered[mask] = value
        value = scattered
    if "bits" in layout:
        value = dequantize_array(value.reshape(layout["shape"]), tensors[f"{name}/scale"], layout["axis"])
    return value.reshape(layout["shape"]).astype(layout["dtype"])


def _check_fits(path, net, values, plan):
    """True when the values fit ``net`` as it is, False when they do after ``plan``; else CheckpointError."""
    named = parameters(net)
    for name in sorted(named.keys() ^ values.keys()):
        raise CheckpointError(f"{path} is of another network: parameter {name} is only in the "
                              f"{'file' if name in values else 'network'}")
    shapes = {name: known_shape(parameter) for name, parameter in named.items()}
    misfits = [name for name in named if not _fits(shapes[name], values[name].shape)]
    if not misfits:
        return True
    planned = {name: list(shape or ()) for name, shape in shapes.items()}
    for cut in (plan or {"slices": ()})["slices"]:
        if planned[cut["parameter"]][cut["axis"]] == cut["before"]:
            planned[cut["parameter"]][cut["axis"]] = len(cut["kept"])
    for name in misfits:
        if not _fits(planned[name], values[name].shape):
            raise CheckpointError(f"{path} is of another network: parameter {name} has shape "
                                  f"{values[name].shape} there, {shapes[name]} here (or it was saved without "
                                  f"its ChannelPlan: load it without a network then)")
    return False


def _fits(shape, other):
    """Whether two shapes agree where the first is known (0 and -1 stand for unknown sizes)."""
    return shape is None or len(shape) == len(other) and all(a in (0, -1, b) for a, b in zip(shape, other))


def _graph(net, example):
    """The network's symbol and its parameters' names in it, or why there is none."""
    if example is not None:
        number_of_inputs = len(example_inputs(example))
    else:
        number_of_inputs = len(net._cached_graph[0]) if isinstance(net, SymbolBlock) else 1
    try:
        graph = trace(net, number_of_inputs)
    except (NetworkError, ValueError) as error:
        warnings.warn(f"the file holds no graph, so that load will need the network: {error}", stacklevel=3)
        return {"missing": str(error)}
    structural = {id(parameter): name for name, parameter in parameters(net).items()}
    return {"symbol": graph.symbol.tojson(), "inputs": graph.inputs,
            "dtype": next((np.dtype(parameter.dtype).name for parameter in graph.parameters.values()), "float32"),
            "names": {name: structural[id(parameter)] for name, parameter in graph.parameters.items()}}


def _symbol_block(path, graph, values, ctx):
    """A SymbolBlock of the graph in the file."""
    if "missing" in graph:
        raise CheckpointError(f"{path} holds no graph ({graph['missing']}); give load the network")
    try:
        inputs = [mx.sym.var(name, dtype=graph["dtype"]) for name in graph["inputs"]]
        net = SymbolBlock(mx.sym.load_json(graph["symbol"]), inputs)
    except mx.MXNetError as error:
        raise CheckpointError(f"the graph in {path} cannot be built: {error}") from error
    for name, parameter in net.collect_params().items():
        value = values[graph["names"][name] if "names" in graph else name]
        parameter._load_init(mx.nd.array(value, dtype=value.dtype), ctx, cast_dtype=True, dtype_source="saved")
    return net
