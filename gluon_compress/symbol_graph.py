"""A network's own Symbol graph: its operators, its inputs, the parameters it reads, the shapes in between."""
import json
import re
from dataclasses import dataclass

import mxnet as mx
import numpy as np
from mxnet.gluon import ParameterDict, SymbolBlock
from mxnet.gluon.block import _flatten
from mxnet.ndarray.ndarray import _DTYPE_NP_TO_MX

from .errors import NetworkError
from .network import check_ready, parameters


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
        raise NetworkError(f"the network cannot be traced with {len(inputs)} symbolic input(s): {_reason(error)} "
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


class ExampleInputs(tuple):
    """The arrays of an example in a row; ``nested`` has them as the network is called with them."""

    def __new__(cls, nested):
        self = super().__new__(cls, flat(nested))
        self.nested = nested
        return self


def example_inputs(example):
    """``example`` as :class:`ExampleInputs`; else ``TypeError`` or ``ValueError``.

    It is an NDArray, a tuple of them for several inputs, lists in it for inputs that are lists, or an
    ``mx.io.DataBatch``. NumPy arrays become NDArrays.
    """
    if isinstance(example, mx.io.DataBatch):
        example = tuple(example.data)
    inputs = map_arrays(_as_array, tuple(example) if isinstance(example, (tuple, list)) else (example,))
    wrong = [value for value in flat(inputs) if not isinstance(value, mx.nd.NDArray)]
    if wrong or not flat(inputs):
        raise TypeError(f"example is {f'a {type(wrong[0]).__name__}' if wrong else 'empty'}; accepted: an NDArray "
                        f"batch of the network's input, or a tuple of them for several inputs")
    for value in flat(inputs):
        if value.ndim == 0 or 0 in value.shape:
            raise ValueError(f"example has shape {value.shape}; accepted: a batch of at least one sample")
    return ExampleInputs(inputs)


def _as_array(value):
    if isinstance(value, np.ndarray) and value.dtype.kind in "iuf":
        small = value.dtype.itemsize == 1 and value.dtype.kind in "iu"
        return mx.nd.array(value, dtype=value.dtype if small else np.float32)
    return value


def flat(inputs):
    """The arrays in nested lists and tuples, in a row."""
    if not isinstance(inputs, (tuple, list)):
        return [inputs]
    return [array for each in inputs for array in flat(each)]


def map_arrays(function, inputs):
    """The same nested lists and tuples of what ``function`` makes of each array."""
    if isinstance(inputs, (tuple, list)):
        return (list if isinstance(inputs, list) else tuple)(map_arrays(function, each) for each in inputs)
    return function(inputs)


def call(net, inputs, what):
    """``net(*inputs)``; a ``ValueError`` that says what does not fit where MXNet prints its C++ stack."""
    try:
        return net(*inputs)
    except (mx.MXNetError, AssertionError) as error:
        raise misfit(inputs, what, error) from None
    except (TypeError, AttributeError) as error:  # too many or too few inputs; Symbols where arrays were expected
        raise misfit(inputs, what, error) from error


def misfit(inputs, what, error):
    """The ``ValueError`` for inputs that a network cannot take, with the usual remedy."""
    arrays = flat(inputs)
    text = ", ".join(f"{value.shape} {np.dtype(value.dtype)}" for value in arrays)
    return ValueError(f"{what}, {text}, does not fit the network{remedy(arrays)}: {_reason(error)}"[:450])


def remedy(arrays):
    """What is mostly wrong with arrays like these, as text behind a sentence; or ""."""
    if any(np.dtype(value.dtype) in (np.uint8, np.int8) for value in arrays):
        return (" (raw pixels? scale them to float32: x.astype('float32') / 255, and normalize; Gluon's ToTensor() "
                "does that, and puts channels first)")
    return remedy_of_shapes([value.shape for value in arrays])


def remedy_of_shapes(shapes):
    """As :func:`remedy`, of shapes."""
    for shape in shapes:
        if len(shape) == 4 and shape[3] in (1, 3, 4) and shape[1] not in (1, 3, 4):
            return " (channels last? MXNet wants (batch, channels, height, width): x.transpose((0, 3, 1, 2)))"
        if len(shape) == 3 and (shape[0] in (1, 3) or shape[2] in (1, 3)):
            return " (a single image? MXNet wants (batch, channels, height, width))"
    return ""


def _reason(error):
    """What a user's ``hybrid_forward`` raised, in a line, with the remedy for the usual mistakes."""
    text = shorten(error)[:250]
    if isinstance(error, (AttributeError, TypeError)) and "Symbol" in text and "shape" in text:
        return (f"{text}: it uses x.shape, which a graph does not know before it runs; write F.flatten(x), or "
                f"F.reshape(x, shape=(0, -1)), where 0 keeps a length and -1 is what follows")
    return text


def shorten(error):
    """The sentence in an MXNet error, without its source line, time and stack trace."""
    lines = str(error).strip().splitlines() or [type(error).__name__]
    message = next((line for line in lines if re.search(r"MXNetError|Error in operator|Check failed", line)), lines[0])
    message = re.sub(r"^\S*Error: ", "", message.strip())
    return re.sub(r"\[\d\d:\d\d:\d\d\] \S+:\d+: ", "", message).strip(" :")


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
