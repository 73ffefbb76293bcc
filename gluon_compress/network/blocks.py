"""Networks of rewritten nodes, with parameters that are not trained."""
from __future__ import annotations

import copy
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import mxnet as mx
import numpy as np
from mxnet.gluon import HybridBlock, Parameter, ParameterDict, SymbolBlock

from .interface import CLASSIC, NUMPY, Interface, active_interface, has_numpy_operators, in_classic
from .misfits import called
from .nodes import Entry, Node, edited, nodes_of, symbol_of
from .values import interface_of


FLOATS = ("1", "2")  # float64 and float16 in MXNet's numbers of types


class GraphBlock(SymbolBlock):
    """A SymbolBlock that computes in either mode of MXNet, and gives arrays or Symbols of the interface it is given.

    Only the gradients of operators of the NumPy interface need the mode of ``npx.set_np()``.
    """

    def __init__(self, outputs: mx.sym.Symbol, inputs: list[mx.sym.Symbol],
                 params: ParameterDict | None = None) -> None:
        outputs = CLASSIC.own(outputs)
        super().__init__(outputs, inputs, params)
        self._numpy_shapes = has_numpy_operators(outputs)

    def __call__(self, *args: Any) -> Any:
        return in_classic(super().__call__, args, self._numpy_shapes)

    @property
    def interface(self) -> Interface:
        """The interface to which its parameters should belong: the active one, if it can be trained there."""
        return NUMPY if self._numpy_shapes else active_interface()

    def give_structural_names(self, names: Mapping[str, str]) -> None:
        """Let the parameters have other structural names than those in the graph: {name in the graph: structural}."""
        self._reg_params = {names[name]: parameter for name, parameter in self.collect_params().items()}

    def export(self, path: str, epoch: int = 0, remove_amp_cast: bool = True) -> Any:
        """Two files for the interface of MXNet to which the parameters belong; the other does not read them."""
        with interface_of(self).active():
            return super().export(path, epoch, remove_amp_cast)


def block_of(outputs: list[Entry], inputs: Iterable[str], values: Mapping[str, np.ndarray]) -> GraphBlock:
    """A network of rewritten nodes with these parameters, which take no gradients."""
    symbol = edited(symbol_of(outputs), _forget_floats)
    net = GraphBlock(symbol, [mx.sym.var(name, dtype="float32") for name in inputs])
    set_constants(net, dict(values))
    return net


def _forget_floats(node: Node) -> None:
    """Floating-point parameters become float32; of another type MXNet would print that they do not fit the input."""
    if node.attributes.get("__dtype__") in FLOATS:
        del node.attributes["__dtype__"]


def set_constants(net: GraphBlock, values: dict[str, np.ndarray]) -> None:
    """Give a network its parameters, without gradients; takes them out of ``values``, {name: array}."""
    for name, parameter in net.collect_params().items():
        parameter.grad_req = "null"
        value = values.pop(name)
        dtype = value.dtype if value.dtype.kind in "iu" else np.float32  # indices, say
        own = net.interface.array(value, dtype=dtype)
        parameter._load_init(own, mx.cpu(), cast_dtype=True, dtype_source="saved")


def tensors_of(net: HybridBlock, inputs: Sequence[Any]) -> list[np.ndarray]:
    """The outputs of a network for a tuple of inputs, as a list of arrays."""
    tensors = called(net, inputs)
    return [tensor.asnumpy() for tensor in (tensors if isinstance(tensors, (list, tuple)) else [tensors])]


def number_of_inputs(net: HybridBlock) -> int:
    """How many arrays a network is called with: a SymbolBlock says so itself, all others are taken to have one."""
    return len(inputs_and_symbol(net)[0]) if isinstance(net, SymbolBlock) else 1


def inputs_and_symbol(block: SymbolBlock) -> tuple[list[mx.sym.Symbol], mx.sym.Symbol]:
    """``(Symbols of the inputs, Symbol of the outputs)`` that a SymbolBlock was made of."""
    return block._cached_graph


def composed(block: SymbolBlock, symbols: Iterable[mx.sym.Symbol]) -> mx.sym.Symbol:
    """The outputs of a SymbolBlock that is called with these Symbols, of the classic interface as they are."""
    inputs, symbol = inputs_and_symbol(block)
    outputs = CLASSIC.own(copy.copy(symbol))
    outputs._compose(**{own.name: given for own, given in zip(inputs, symbols)})
    return outputs


def ends_in_softmax(net: HybridBlock) -> bool:
    """Whether a SymbolBlock puts out probabilities; False for other networks, whose graph is not at hand."""
    if not isinstance(net, SymbolBlock):
        return False
    return any(node.meaning.gives_probabilities for node, _ in nodes_of(inputs_and_symbol(net)[1])[1])


def give_values(parameter: Parameter, value: np.ndarray, context: mx.Context, trainable: bool = True) -> None:
    """Give a parameter that is not initialized an array of its own type; gradients take no memory unless needed."""
    gradients, parameter.grad_req = parameter.grad_req, "null"  # these come when the value is there only once
    parameter._load_init(active_interface().array(value), context, cast_dtype=True, dtype_source="saved")
    parameter.grad_req = gradients if trainable else "null"
