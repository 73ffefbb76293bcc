"""Mutations of a file's bytes.

An unforged one changes bytes at random. A forged one takes the file apart, changes what is in it (the JSON of its
header, the operators, attributes and links of its graph, its tensors), and gives it the checksum that belongs to it,
as a stranger would. Every mutation follows from ``chance``, a ``random.Random``.
"""
import json

import numpy as np

from .container import put_together, taken_apart
from .graphs import changed_graph, lone_operator
from .json_values import changed_json


def mutated(content, what, chance):
    """The bytes of a file of this content, or of one operator's when there is none; ``what``: unforged or forged."""
    if what == "forged":
        return forged(content, chance)
    return damaged(content or lone_operator(chance), chance)


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
    if content[:1] == b"{":  # a state of JSON, which has no checksum
        return json.dumps(changed_json(json.loads(content), chance)).encode()
    kind, header, tensors = taken_apart(content)
    for _ in range(chance.choice((1, 1, 1, 2, 3))):
        if tensors and chance.random() < 0.2:
            tensors = _changed_tensors(tensors, chance)
        elif (graph := _graph_in(header)) and chance.random() < 0.5:
            header = {**header, "graph": {**graph, "symbol": changed_graph(graph["symbol"], chance)}}
        else:
            header = changed_json(header, chance)
    return put_together(kind, header, tensors)


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
