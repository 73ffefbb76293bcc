"""The header of a compressed file: JSON, packed by LZMA, or, where that is smaller, deflated after a made-up header.

    1 byte      0: raw LZMA2 of LZMA_FILTERS; 1: raw DEFLATE with WORDS as the dictionary
    ...         the stream

A small network's header says little else than WORDS do, and takes 300 bytes instead of 900. They belong to the format:
another text would be another version. The graph's own JSON is part of the header's, not a text in it.
"""
from __future__ import annotations

import json
import lzma
import zlib
from typing import Any

from ..files.schema import Malformed, parse
from ..files.unpacking import LZMA_FILTERS, unpack_lzma

__all__ = ["DEFLATED", "LZMA", "pack", "packed_text", "unpack"]

LZMA, DEFLATED = b"\0", b"\1"
WINDOW = -15  # a raw stream
LEAST_DICTIONARY = 4096  # bytes; LZMA's own limit


def pack(header: Any) -> bytes:
    """The bytes of ``{"header": {"graph": {"symbol": text, ...}, ...}, ...}``."""
    try:
        opened = _with_symbol(header, str, json.loads)
    except ValueError:  # no JSON, which the reader's checks say
        opened = header
    return packed_text(_as_text(opened))


def packed_text(header: bytes) -> bytes:
    """The smaller of the two."""
    deflater = zlib.compressobj(9, zlib.DEFLATED, WINDOW, 9, zlib.Z_DEFAULT_STRATEGY, WORDS)
    return min(DEFLATED + deflater.compress(header) + deflater.flush(),
               LZMA + lzma.compress(header, lzma.FORMAT_RAW, filters=_filters_for(header)), key=len)


def _filters_for(text: bytes) -> list[dict[str, int]]:
    """LZMA's, with no longer a dictionary than the text: to set up one of 16 MiB takes longer than a small header."""
    [whole] = LZMA_FILTERS
    return [{**whole, "dict_size": min(whole["dict_size"], max(LEAST_DICTIONARY, 1 << len(text).bit_length()))}]


def unpack(packed: bytes, most: int) -> Any:
    """The header, whose JSON may have ``most`` bytes; else, and where it is damaged, :class:`Malformed`."""
    kind, stream = packed[:1], packed[1:]
    if kind not in (LZMA, DEFLATED):
        raise Malformed(f"the header begins with {kind!r}; accepted: {LZMA!r} and {DEFLATED!r}")
    text = unpack_lzma(stream, most, "the header", raw=True) if kind == LZMA else _inflate(stream, most)
    return _with_symbol(parse(text, "the header"), dict, lambda symbol: _as_text(symbol).decode())


def _inflate(stream: bytes, most: int) -> bytes:
    inflater = zlib.decompressobj(WINDOW, WORDS)
    try:
        content = inflater.decompress(stream, most + 1)
    except zlib.error as error:
        raise Malformed(f"the header is damaged: {error}") from error
    if len(content) > most:
        raise Malformed(f"the header unpacks to more than {most} bytes")
    if not inflater.eof or inflater.unused_data:
        raise Malformed("the header ends too early or too late")
    return content


def _with_symbol(said: Any, kind: type, change: Any) -> Any:
    """``said`` with the symbol of its graph changed, if there is one of this kind."""
    header = said.get("header") if isinstance(said, dict) else None
    graph = header.get("graph") if isinstance(header, dict) else None
    if not isinstance(header, dict) or not isinstance(graph, dict) or not isinstance(graph.get("symbol"), kind):
        return said
    return {**said, "header": {**header, "graph": {**graph, "symbol": change(graph["symbol"])}}}


def _as_text(content: Any) -> bytes:
    return json.dumps(content, sort_keys=True, separators=(",", ":")).encode()


# ---- the made-up header

def _node(operator: str, name: str, inputs: list[int], **attributes: str) -> dict[str, Any]:
    attrs = {"attrs": attributes} if attributes else {}
    return {**attrs, "inputs": [[node, 0, 0] for node in inputs], "name": name, "op": operator}


def _variable(name: str, shape: str, **attributes: str) -> dict[str, Any]:
    return _node("null", name, [], __dtype__="0", __lr_mult__="1.0", __shape__=shape, __storage_type__="0",
                 __wd_mult__="1.0", **attributes)


def _pooling(name: str, node: int, side: int, everywhere: str, kind: str) -> dict[str, Any]:
    return _node("Pooling", name, [node], global_pool=everywhere, kernel=f"({side}, {side})", layout="NCHW",
                 pad="(0, 0)", pool_type=kind, pooling_convention="valid", stride=f"({side}, {side})")


def _batch_norm(at: int) -> list[dict[str, Any]]:
    parts = (("gamma", "ones"), ("beta", "zeros"), ("running_mean", "zeros"), ("running_var", "ones"))
    return [*(_variable(f"net0_batchnorm0_{part}", "(64,)", __init__=value) for part, value in parts),
            _node("BatchNorm", "net0_batchnorm0_fwd", [*range(at, at + 5)], axis="1", eps="1e-05", fix_gamma="False",
                  momentum="0.9", use_global_stats="False")]


def _convolution(number: int, at: int, shape: str, filters: int, side: int, pad: int) -> list[dict[str, Any]]:
    name = f"lenet1_conv{number}"
    return [_variable(f"{name}_weight", shape), _variable(f"{name}_bias", f"({filters},)", __init__="zeros"),
            _node("Convolution", f"{name}_fwd", [at, at + 1, at + 2], dilate="(1, 1)", kernel=f"({side}, {side})",
                  layout="NCHW", no_bias="False", num_filter=str(filters), num_group="1", pad=f"({pad}, {pad})",
                  stride="(1, 1)"),
            _node("Activation", f"{name}_relu_fwd", [at + 3], act_type="relu"),
            _pooling(f"lenet1_pool{number}_fwd", at + 4, 2, "False", "max")]


def _dense(number: int, at: int, shape: str, units: int) -> list[dict[str, Any]]:
    name = f"lenet1_dense{number}"
    return [_variable(f"{name}_weight", shape), _variable(f"{name}_bias", f"({units},)", __init__="zeros"),
            _node("FullyConnected", f"{name}_fwd", [at, at + 1, at + 2], flatten="True", no_bias="False",
                  num_hidden=str(units)),
            _node("Activation", f"{name}_relu_fwd", [at + 3], act_type="relu")]


def _made_up() -> Any:
    layers = {"conv.0": [20, 1, 5, 5], "dense.0": [500, 800], "features.1": [300, 784], "output": [10, 128]}
    names = {f"lenet1_{layer}0_{part}": f"{place}.{part}" for layer, place in (
        ("conv", "conv.0"), ("conv", "conv.2"), ("dense", "dense.0"), ("dense", "output"), ("batchnorm", "features.1"))
             for part in ("bias", "weight", "beta", "gamma", "running_mean", "running_var")}
    nodes = [_node("null", "data", []), *(_node(operator, f"net0_{operator.lower()}0", [1, 2]) for operator in (
        "Embedding", "LayerNorm", "Concat", "LeakyReLU", "SoftmaxOutput", "broadcast_mul", "mean", "Reshape",
        "elemwise_add", "_plus")),
             _node("Dropout", "net0_dropout0_fwd", [1], axes="()", cudnn_off="False", p="0.5"), *_batch_norm(2),
             _pooling("net0_pool0_fwd", 5, 1, "True", "avg"), *_convolution(0, 0, "(64, 1, 3, 3)", 64, 3, 1),
             *_convolution(1, 5, "(50, 20, 5, 5)", 50, 5, 0), _node("Flatten", "lenet1_flatten0_flatten0", [10]),
             *_dense(0, 11, "(500, 800)", 500), *_dense(1, 15, "(128, 300)", 128), *_dense(2, 19, "(10, 100)", 10)]
    layout = {f"{layer}.{part}": value for layer, shape in layers.items() for part, value in (
        ("bias", {"dtype": "float32", "shape": shape[:1]}),
        ("gamma", {"dtype": "float32", "fill": 0.0, "shape": shape[:1]}),
        ("weight", {"axis": None, "bits": 8, "dtype": "float32", "shape": shape}))}
    tensors = [row for layer, shape in layers.items() for row in (
        [f"{layer}.weight/mask", "bool", shape, [50]], [f"{layer}.weight/scale", "float32", [], 4],
        [f"{layer}.weight/value", "int8", shape, [321]], [f"{layer}.bias/value", "float32", shape[:1], [0, 8, 22, 20]])]
    symbol = {"arg_nodes": [*range(36)], "attrs": {"mxnet_version": ["int", 10901]}, "heads": [[18, 0, 0]],
              "node_row_ptr": [*range(36)], "nodes": nodes}
    records = {"masks": {"left_out": {}}, "plan": {"slices": [{"axis": 1, "kept": [*range(20)]}]},
               "scales": {"left_out": {}}}
    return {"header": {"graph": {"dtype": "float32", "inputs": ["data"], "names": names, "symbol": symbol},
                       "layout": layout, "records": records}, "tensors": tensors}


WORDS = _as_text(_made_up())
