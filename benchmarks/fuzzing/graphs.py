"""Graphs of networks with one place in them changed, and graphs of one operator alone."""
import json

import mxnet as mx
import numpy as np
from gluon_compress.checkpoint import allowed_operators, symbol_check
from gluon_compress.network import registry

from .container import put_together
from .json_values import EXTREME, changed_json
from .kinds import SHAPES

TYPES = ("int8", "uint8", "int32", "int64", "float16", "float64", "bool")

def changed_graph(text, chance):
    """The JSON text of a graph with an operator, an attribute, a link or the order of nodes changed."""
    try:
        return json.dumps(_changed_content(json.loads(text), chance))
    except (LookupError, TypeError, ValueError, AttributeError):  # it was broken before
        return text[:-1]


def _changed_content(graph, chance):
    nodes = graph["nodes"]
    operators = [node for node in nodes if node["op"] != "null"]
    node, kind = chance.choice(operators), chance.randrange(9)
    if kind == 0:
        node["op"] = chance.choice(_all_operators())
    elif kind in (1, 2, 3):
        _change_attribute(node, nodes, chance)
    elif kind == 4:
        links = node["inputs"] if node["inputs"] and chance.random() < 0.8 else graph["heads"]
        link = chance.choice(links)
        link[chance.randrange(2)] = chance.choice((0, 1, 2, 5, 2**31, -1, chance.randrange(len(nodes))))
    elif kind == 5:
        operation = chance.randrange(3)
        if operation == 0 and node["inputs"]:
            node["inputs"].pop(chance.randrange(len(node["inputs"])))
        elif operation == 1:
            node["inputs"].append([chance.randrange(len(nodes)), 0, 0])
        else:
            chance.shuffle(node["inputs"])
    elif kind == 6:
        first, second = chance.randrange(len(nodes)), chance.randrange(len(nodes))
        nodes[first], nodes[second] = nodes[second], nodes[first]
    elif kind == 7:
        _put_in(graph, chance)
    else:
        return changed_json(graph, chance)
    return graph


def _change_attribute(node, nodes, chance):
    attributes = node.setdefault("attrs", {})
    known = sorted(attributes) or ["axis"]
    name = chance.choice(known)
    every = sorted({(name, value) for other in nodes for name, value in other.get("attrs", {}).items()}) or [("a", "1")]
    kind = chance.randrange(5)
    if kind == 0:
        attributes.pop(name, None)
    elif kind == 1:
        attributes.update([chance.choice(every)])
    elif kind == 2:
        attributes[name] = str(chance.choice(EXTREME))
    elif kind == 3:
        name, kind = chance.choice(_attributes_of(node["op"]) or [(name, "")])
        attributes[name] = _plausible(chance, kind)
    else:
        attributes[name] = _plausible(chance)


def _plausible(chance, kind=""):
    """An attribute that could be meant; mostly one of those that MXNet's description of its ``kind`` lists."""
    if kind.startswith("{") and chance.random() < 0.8:
        return chance.choice([word.strip(" '") for word in kind[1:kind.index("}")].split(",")])
    number = chance.choice((-2, -1, 0, 1, 1, 2, 3, 4, 8, 33, 255, 4096, 10**6))
    return str(chance.choice((number, (number, chance.randrange(-1, 5)), (number,) * 4, number / 3, bool(number % 2),
                              "NHWC", "max", "same", "null", "float16", "int32", "uint8", None)))


def _put_in(graph, chance):
    """Put an operator of any kind between two nodes, with inputs from before it and attributes from nowhere."""
    nodes = graph["nodes"]
    at = chance.randrange(1, len(nodes) + 1)
    operator, attributes, count = _an_operator(chance)
    inputs = [[chance.randrange(at), 0, 0] for _ in range(count)]
    for node in nodes:
        for link in node["inputs"]:
            link[0] += link[0] >= at
    for link in graph["heads"]:
        link[0] += link[0] >= at
    nodes.insert(at, {"op": operator, "name": "put_in", "attrs": attributes, "inputs": inputs})
    later = [node for node in nodes[at + 1:] if node["inputs"]]
    links = chance.choice(later)["inputs"] if later and chance.random() < 0.8 else graph["heads"]
    chance.choice(links)[0] = at


def _an_operator(chance):
    """(name, attributes, number of inputs) that mostly go together."""
    operator = chance.choice(_allowed_operators())
    for _ in range(10):
        known = [each for each in _attributes_of(operator) if chance.random() < 0.5]
        attributes = {name: _plausible(chance, kind) for name, kind in known}
        try:
            allowed_operators.check_attributes(allowed_operators.canonical_names()[operator], attributes, "here")
            count, _, _ = symbol_check._signature(operator, symbol_check.settings_of(attributes))
            return operator, attributes, count
        except symbol_check.Malformed:
            pass
    return operator, attributes, chance.choice((1, 1, 2, 3))


def _all_operators():
    return sorted(registry.all_names())


def _allowed_operators():
    return sorted(allowed_operators.canonical_names())


def _attributes_of(operator):
    """[(name, MXNet's description of its kind)]."""
    try:
        return sorted(allowed_operators.declared_attributes(operator).items())
    except Exception:  # an operator that a mutation has made up
        return []


def lone_operator(chance):
    """The bytes of a file whose graph is one operator, of attributes and parameters that mostly go together.

    It reads the network's input, sometimes made of another type, and parameters.
    """
    operator, attributes, count = _an_operator(chance)
    names = [f"input{index}" for index in range(count)]
    nodes = [{"op": "null", "name": name, "inputs": []} for name in names]
    links = [[index, 0] for index in range(count)]
    dtype = chance.choice(TYPES) if count and chance.random() < 0.3 else None
    if dtype:
        nodes.append({"op": "Cast", "name": "cast", "attrs": {"dtype": dtype}, "inputs": [[0, 0]]})
        links[0] = [count, 0]
    nodes.append({"op": operator, "name": "lone", "attrs": attributes, "inputs": links})
    graph = {"nodes": nodes, "heads": [[len(nodes) - 1, 0]], "arg_nodes": list(range(count)),
             "attrs": {"mxnet_version": ["int", 10901]}}
    tensors, layout = {}, {}
    for name, shape in list(zip(names, _shapes_for(graph, names, chance)))[1:]:
        value = _values(shape, chance) if int(np.prod(shape)) < 10**6 else np.zeros((2,), np.float32)
        with np.errstate(all="ignore"):
            value = value.astype(dtype or value.dtype)
        layout[name] = {"shape": list(value.shape), "dtype": value.dtype.name}
        tensors[f"{name}/value"] = value
    return put_together("compressed network", {
        "layout": layout, "records": {}, "graph": {
            "symbol": json.dumps(graph), "inputs": names[:1] or ["data"], "dtype": "float32",
            "names": {name: name for name in layout}}}, tensors)


def _shapes_for(graph, names, chance):
    """Shapes of the inputs: mostly those that MXNet infers from the first one's, otherwise any."""
    shapes = [chance.choice(SHAPES) for _ in names]
    if len(names) > 1 and chance.random() < 0.7:
        try:
            symbol = mx.sym.load_json(json.dumps(graph))
            arguments, _, others = symbol.infer_shape_partial(**{names[0]: shapes[0]})
            found = dict(zip(symbol.list_arguments() + symbol.list_auxiliary_states(), arguments + others))
            shapes = [found.get(name) or shape for name, shape in zip(names, shapes)]
        except mx.MXNetError:
            pass
    return [[size if size > 0 else 2 for size in shape] for shape in shapes]


def _values(shape, chance):
    generator = np.random.RandomState(chance.randrange(2**31))
    value = generator.randn(*shape)
    kind = chance.randrange(4)
    if kind == 1:
        value = np.floor(np.abs(value) * 3)
    elif kind == 2:
        value = value * 10.0 ** chance.choice((-30, 5, 10, 30))
    with np.errstate(all="ignore"):
        return value.astype(chance.choice(("float32",) * 6 + ("float64", "int32", "int64", "uint8", "float16")))
