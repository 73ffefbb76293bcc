"""Files whose checksum is right and whose content is a stranger's; the code is that of ``benchmarks/fuzz_files.py``."""
import json

from fuzzing import worker  # noqa: F401
from fuzzing.container import packers, put_together, taken_apart  # noqa: F401
from fuzzing.kinds import KINDS, NETWORKS, STATES, HalfChanged, Refused, kind  # noqa: F401

COMPRESSED = "compressed network"


def forge(path, name, change=lambda header, tensors: None, packed=None):
    """Write a good file of the kind ``name`` after ``change``, which may return another header; return its path."""
    what, header, tensors = taken_apart(kind(name)[0])
    replaced = change(header, tensors)
    path.write_bytes(put_together(what, header if replaced is None else replaced, tensors, packed))
    return path


def network_of(nodes, parameters, inputs=("input0",), heads=None):
    """The bytes of a compressed network: ``nodes`` of its graph after inputs and parameters, {name: array}."""
    names = [*inputs, *parameters]
    graph = {"nodes": [*({"op": "null", "name": name, "inputs": []} for name in names), *nodes],
             "heads": heads or [[len(names) + len(nodes) - 1, 0]], "arg_nodes": list(range(len(names))),
             "attrs": {"mxnet_version": ["int", 10901]}}
    layout = {name: {"shape": list(value.shape), "dtype": value.dtype.name} for name, value in parameters.items()}
    content = {"symbol": json.dumps(graph), "inputs": list(inputs), "dtype": "float32",
               "names": {name: name for name in parameters}}
    return put_together(COMPRESSED, {"layout": layout, "records": {}, "graph": content},
                        {f"{name}/value": value for name, value in parameters.items()})


def places(value, place=()):
    """The ways to all values in JSON."""
    yield place
    items = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    for key, item in items:
        yield from places(item, (*place, key))


def put(value, place, other):
    """JSON with ``other`` at a place of it."""
    if not place:
        return other
    value = value.copy()
    value[place[0]] = put(value[place[0]], place[1:], other)
    return value
