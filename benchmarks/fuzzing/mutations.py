"""Mutations of a file's bytes.

An unforged one changes bytes at random. A forged one takes the file apart, changes what is in it (the JSON of its
header, the operators, attributes and links of its graph, its tensors, and the bytes that they are coded in), and gives
it the checksum that belongs to it, as a stranger would. A foreign one is a good file of another kind, or none of ours.
Every mutation follows from ``chance``, a ``random.Random``.
"""
import json

import numpy as np
from gluon_compress.checkpoint import packed_file

from .container import put_together, taken_apart
from .folders import changed_json_text, changed_members, kind_of_archive
from .graphs import changed_graph, lone_operator
from .json_values import changed_json
from .kinds import KINDS, kind
from .rows import with_changed_rows

NPY = b"\x93NUMPY"
PARAMETERS = b"\x12\1" + bytes(14)
NUMBERS = (0, 1, -1, 2, 7, 2**15, 2**31 - 1, -2**31, 2**32 - 1, 2**40, 2**62, 2**63 - 1, -2**63)
BEGINNINGS = (b"", b"\0", b"{", b"[]", b"{}", b"\x7fELF\2\1\1\0", b"\x89PNG\r\n\x1a\n", b"\x89HDF\r\n\x1a\n", b"GIF89a",
              b"\x80\4\x95", b"PK\3\4", b"PK\5\6", b"\x1f\x8b\x08\0", b"\x8bgcz\r\n\x1a\n", b"\x8bgcz\r\n\x1a\n\3",
              b"\x08\x07", b"TFL3", PARAMETERS, b"#!/bin/sh\n", b"BZh9", b"\xfd7zXZ\0", b"\x28\xb5\x2f\xfd",
              b"\xef\xbb\xbf{")


def mutated(content, what, chance):
    """The bytes of a file of this content, or of one operator's when there is none.

    ``what``: unforged, forged or foreign.
    """
    if what == "forged":
        return forged(content, chance)
    if what == "foreign":
        return foreign(content, chance)
    if kind_of_archive(content) == "tar":  # members of folders are damaged, not what carries them
        return changed_members(content, chance, lambda member: damaged(member, chance))
    return damaged(content or lone_operator(chance), chance)


def foreign(content, chance):
    """A file of another kind, or of none; in a folder, the files that a folder of another kind has."""
    if chance.random() < 0.5:
        other = kind(chance.choice(sorted(KINDS)))[0]
    else:
        other = chance.choice(BEGINNINGS) + chance.randbytes(chance.choice((0, 1, 7, 100, 4000)))
    if kind_of_archive(content) == "tar" and kind_of_archive(other) != "tar":
        return changed_members(content, chance, lambda member: other)
    return other


def damaged(content, chance):
    """The bytes with some of them changed, taken away, put in or moved."""
    content = bytearray(content)
    for _ in range(chance.choice((1, 1, 2, 4, 16))):
        end = len(content) if chance.random() < 0.5 else min(len(content), 600)
        at, length = chance.randrange(max(end, 1)), chance.choice((1, 1, 4, 64))
        kind = chance.randrange(6)
        if kind == 0:
            content[at:at + 1] = bytes([chance.randrange(256)])
        elif kind == 1:
            content[at:at + 1] = bytes([(content[at] if at < len(content) else 0) ^ 1 << chance.randrange(8)])
        elif kind == 2:
            del content[at:at + length]
        elif kind == 3:
            content[at:at] = chance.randbytes(length)
        elif kind == 4:
            content[at:at] = content[chance.randrange(max(end, 1)):][:length]
        else:
            del content[at:]
    return bytes(content)


def forged(content, chance):
    """The bytes of a file like this one, but for what a stranger has changed in it."""
    if not content:
        return lone_operator(chance)
    if kind_of_archive(content):
        return changed_members(content, chance, lambda member: forged(member, chance))
    if content[:1] == b"{":  # a state or a graph of JSON, which has no checksum
        text = content.decode()
        graph = "nodes" in json.loads(content)
        return (changed_graph(text, chance) if graph else changed_json_text(text, chance)).encode()
    if content.startswith(PARAMETERS):
        return _with_other_numbers(content, chance)
    if content.startswith(NPY):
        return damaged(content, chance)
    if packed_file.begins(content) and chance.random() < 0.4:
        return with_changed_rows(content, chance, damaged)
    kind, header, tensors = taken_apart(content)
    for _ in range(chance.choice((1, 1, 1, 2, 3))):
        if tensors and chance.random() < 0.2:
            tensors = _changed_tensors(tensors, chance)
        elif (graph := _graph_in(header)) and chance.random() < 0.5:
            header = {**header, "graph": {**graph, "symbol": changed_graph(graph["symbol"], chance)}}
        else:
            header = changed_json(header, chance)
    return put_together(kind, header, tensors)


def _with_other_numbers(content, chance):
    """The bytes of parameters of MXNet, which have no checksum, with a number of 32 or 64 bits in another place."""
    content, wide = bytearray(content), chance.choice((4, 8))
    at = 4 * chance.randrange(min(len(content), chance.choice((64, 400, len(content)))) // 4)
    content[at:at + wide] = (chance.choice(NUMBERS) % 2 ** (8 * wide)).to_bytes(wide, "little")
    return bytes(content)


def _graph_in(header):
    """What a header says of a graph, as long as it has one."""
    graph = header.get("graph") if isinstance(header, dict) else None
    return graph if isinstance(graph, dict) and isinstance(graph.get("symbol"), str) else None


def _changed_tensors(tensors, chance):
    tensors, name = dict(tensors), chance.choice(sorted(tensors))
    value, kind = tensors[name], chance.randrange(9)
    if kind == 0:
        del tensors[name]
    elif kind == 1:
        tensors[chance.choice(("x", name + "/mask", name.rpartition("/")[0] + "/mask", *sorted(tensors)))] = value
    elif kind == 2:
        tensors[name] = value.ravel()[:chance.choice((0, 1, max(value.size - 1, 0)))]
    elif kind == 3:
        tensors[name] = np.concatenate([value.ravel()] * chance.choice((2, 100)))
    elif kind == 4:
        tensors[name] = value.astype(chance.choice(("float16", "float32", "float64", "int8", "uint8", "int64", "bool")))
    elif kind == 5:
        tensors[name] = value.reshape(chance.choice(((-1,), (1, -1), (-1, 1), (*value.shape, 1))))
    elif kind == 6:
        tensors[name] = np.zeros(chance.choice(((), (0,), (3, 0, 2), (1,))), value.dtype)
    elif value.size:
        tensors[name] = value = value.copy()
        with np.errstate(all="ignore"):
            value.reshape(-1)[chance.randrange(value.size)] = np.float64(
                chance.choice((0, -1, 255, float("nan"), float("inf"), -1e38, 1e-45))).astype(value.dtype)
    return tensors
