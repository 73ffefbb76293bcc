"""A network's own Symbol graph: its operators, its inputs, the parameters it reads, the shapes in between."""
import json
from dataclasses import dataclass

import mxnet as mx
import numpy as np
from mxnet.gluon import ParameterDict, SymbolBlock
from mxnet.gluon.block import _flatten
from mxnet.ndarray.ndarray import _DTYPE_NP_TO_MX

from ..errors import NetworkError
from .checks import check_ready
from .inputs import ExampleInputs, flat, map_arrays
from .misfits import misfit, reason_of, remedy_of_shapes, shorten
from .values import parameters


@dataclass(frozen=True)
class SymbolGraph:
    """What :func:`trace` found.

    Attributes
    ----------
    symbol : mx.sym.Symbol
        Every operator has a name of its own, also where the network calls one layer twice.
    inputs : list of str
        ``data``, or ``data0``, ``data1``, ... as ``HybridBlock.export`` names them; a SymbolBlock's own.
    parameters : dict
        {name in the graph: gluon.Parameter} of the parameters that the graph reads.
    """

    symbol: mx.sym.Symbol
    inputs: list
    parameters: dict

    def nodes(self):
        """The nodes, each after its inputs: dicts of ``op``, ``name``, ``attrs`` and ``inputs``."""
        return self.content()["nodes"]

    def content(self):
        """The symbol as MXNet writes it to JSON: ``nodes``, and as ``heads`` [node, output, ...] of each output."""
        return json.loads(self.symbol.tojson())

    def shapes(self, input_shapes):
        """{node name: [shape of each output]}; ``ValueError`` when these inputs do not fit the network."""
        internals = self.symbol.get_internals()
        shapes = {}
        for output, shape in zip(internals, self._infer(internals, input_shapes)):
            shapes.setdefault(output.name, []).append(shape)
        return shapes

    def output_shapes(self, input_shapes):
        """Shape of each output of the network; ``ValueError`` when these inputs do not fit it."""
        return self._infer(self.symbol, input_shapes)

    def check_types(self, inputs, what):
        """Raise ``ValueError`` for inputs of types that an operator does not take, such as raw pixels of 8 bits."""
        types = {name: parameter.list_data()[0].dtype for name, parameter in self.parameters.items()}
        types.update((name, value.dtype) for name, value in zip(self.inputs, inputs))
        known = set(self.symbol.list_inputs())
        try:
            self.symbol.infer_type_partial(**{name: types[name] for name in types if name in known})
        except mx.MXNetError as error:
            raise misfit(inputs, what, error) from None

    def block(self, symbol):
        """A SymbolBlock of ``symbol``, some other graph of the same inputs, on the network's own parameters."""
        shared = ParameterDict("")
        shared._params.update({parameter.name: parameter for parameter in self.parameters.values()})
        dtype = next((parameter.dtype for parameter in self.parameters.values()), np.float32)
        return SymbolBlock(symbol, [mx.sym.var(name, dtype=dtype) for name in self.inputs], shared)

    def values(self):
        """{name in the graph: NDArray on the CPU}, copies of the parameters."""
        return {name: parameter.list_data()[0].copyto(mx.cpu()) for name, parameter in self.parameters.items()}

    def _infer(self, symbol, input_shapes):
        shapes = {name: parameter.list_data()[0].shape for name, parameter in self.parameters.items()}
        shapes.update(zip(self.inputs, input_shapes))
        known = set(symbol.list_inputs())
        text = ", ".join(map(str, input_shapes))
        try:
            # the partial call, as infer_shape() prints all arguments before it raises
            _, outputs, _ = symbol.infer_shape_partial(**{name: shapes[name] for name in shapes if name in known})
        except mx.MXNetError as error:
            raise ValueError(f"an example of shape {text} does not fit the network{remedy_of_shapes(input_shapes)}: "
                             f"{shorten(error)}"[:450]) from None
        if outputs is None or any(not shape or 0 in shape for shape in outputs):
            raise ValueError(f"the shapes inside the network do not follow from an example of shape {text}")
        return outputs


def trace(net, inputs=1, further=None):
    """The :class:`SymbolGraph` of a ready network, which stays as it is.

    ``inputs`` says what it is called with: how many arrays, or an example of them, a tuple that may hold lists.
    ``further(output)``, when given, is called with the network's output, one Symbol for all of it, and gives the list
    of Symbols that the graph puts out behind it.

    Raises
    ------
    TypeError
        When ``net`` is not a HybridBlock.
    NetworkError
        When it is not initialized, or cannot be called with Symbols.
    """
    check_ready(net)
    arrays = inputs.nested if isinstance(inputs, ExampleInputs) else (None,) * inputs
    inputs = input_names(net, len(flat(arrays)))
    symbols = map(mx.sym.var, inputs)
    try:
        outputs, _ = _flatten(net(*map_arrays(lambda _: next(symbols), arrays)), "output")
    except Exception as error:  # whatever the user's hybrid_forward raises
        raise NetworkError(f"the network cannot be traced with {len(inputs)} symbolic input(s): {reason_of(error)} "
                           f"(a network of several inputs wants a tuple of examples)") from error
    symbol = outputs[0] if len(outputs) == 1 else mx.sym.Group(outputs)
    if further is not None:
        symbol = mx.sym.Group([symbol, *further(symbol)])
    known = {}
    for name, parameter in parameters(net).items():
        if known.setdefault(parameter.name, parameter) is not parameter:
            raise NetworkError(f"parameter {name} shares Gluon's name {parameter.name} with another one: "
                               f"make one of the two blocks with another prefix")
    used = {name: known[name] for name in symbol.list_inputs() if name in known}
    return SymbolGraph(_tidy(symbol, used), inputs, used)


def input_names(net, number):
    """Names of so many inputs of a network in its graph: a SymbolBlock's own, else "data", or "data0", "data1", ..."""
    if not isinstance(net, SymbolBlock):
        return ["data"] if number == 1 else [f"data{index}" for index in range(number)]
    names = [symbol.name for symbol in net._cached_graph[0]]
    if len(names) != number:
        raise ValueError(f"the SymbolBlock has {len(names)} inputs ({', '.join(names)}), the example {number}")
    return names


def _tidy(symbol, used):
    """Give every operator its own name, and every parameter the shape and type it has now.

    A layer that is called twice makes two operators of one name; a parameter that was pruned or cast may
    keep what it had in its first trace.
    """
    graph = json.loads(symbol.tojson())
    taken = {node["name"] for node in graph["nodes"] if node["op"] == "null"}
    for node in graph["nodes"]:
        if node["op"] == "null":
            if node["name"] in used:
                parameter = used[node["name"]]
                attributes = node.setdefault("attrs", {})
                attributes["__shape__"] = str(parameter.list_data()[0].shape)
                attributes["__dtype__"] = str(_DTYPE_NP_TO_MX[np.dtype(parameter.dtype).type])
            continue
        name, number = node["name"], 1
        while name in taken:
            name, number = f"{node['name']}_again{number}", number + 1
        taken.add(name)
        node["name"] = name
    return mx.sym.load_json(json.dumps(graph))
