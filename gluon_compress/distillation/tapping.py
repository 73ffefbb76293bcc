"""Networks that give the outputs of their inner layers, too."""
from __future__ import annotations

from collections.abc import Collection, Iterable
from typing import Any

import mxnet as mx
from mxnet.gluon import HybridBlock, SymbolBlock

from ..arguments import check_known
from ..network.graph import Graph
from ..network.hybridizing import hybridize_like, named_blocks
from ..quantization import IntegerNetwork, QatNetwork


class TappedNetwork:
    """A network that gives the outputs of named layers with its own: ``output, features = tapped(inputs)``.

    It is a graph of the network on the network's own parameters. ``title`` is the network's name in errors.
    """

    def __init__(self, net: HybridBlock, title: str, layers: list[str]) -> None:
        self.title, self.layers = title, layers
        names = list(dict.fromkeys(layers))
        _check_no_codes(net, title, names)
        self._positions = [names.index(name) for name in layers]
        if isinstance(net, SymbolBlock):
            graph = Graph(net, 1, lambda output: _internals(output, title, names))
        else:
            graph = _traced(net, title, names)
        if len(graph.symbol) != 1 + len(names):
            raise ValueError(f"the {title} has {len(graph.symbol) - len(names)} outputs; accepted: one, the logits")
        self._block = graph.block(graph.symbol)
        hybridize_like(self._block, net)

    def __call__(self, inputs: Any) -> tuple[mx.nd.NDArray, list[mx.nd.NDArray]]:
        output, *features = self._block(inputs)
        return output, [features[position] for position in self._positions]


def _traced(net: HybridBlock, title: str, names: list[str]) -> Graph:
    """The graph of ``net`` with the outputs of the blocks with these names, which forward hooks capture."""
    blocks = dict(named_blocks(net))
    captured: dict[str, list] = {name: [] for name in names}
    handles = [blocks[_known(name, title, blocks)].register_forward_hook(
        lambda block, inputs, output, name=name: captured[name].append(output)) for name in names]
    try:
        return Graph(net, 1, lambda output: [_only(captured[name], name, title) for name in names])
    finally:
        for handle in handles:
            handle.detach()


def _only(outputs: list, name: str, title: str) -> mx.sym.Symbol:
    """The one Symbol that a block put out."""
    if len(outputs) != 1:
        raise ValueError(f"layer {name} of the {title} is called {len(outputs)} times; accepted: a layer that is "
                         f"called once, such as the block around it")
    if not isinstance(outputs[0], mx.sym.Symbol) or len(outputs[0].list_outputs()) != 1:
        raise ValueError(f"layer {name} of the {title} has several outputs; accepted: a layer with one")
    return outputs[0]


def _internals(output: mx.sym.Symbol, title: str, names: list[str]) -> list[mx.sym.Symbol]:
    """The outputs of these names inside a SymbolBlock's graph; ``_output`` at their ends may be left out."""
    internals = output.get_internals()
    inputs = set(output.list_inputs())
    known = [name for name in internals.list_outputs() if name not in inputs]
    full = [_known(f"{name}_output" if f"{name}_output" in known else name, title, known) for name in names]
    return [_as_floats(internals, name, known) for name in full]


def _check_no_codes(net: HybridBlock, title: str, names: Iterable[str]) -> None:
    """Raise ``ValueError`` for a layer that computes integers as floats, without their scale."""
    if not (isinstance(net, QatNetwork) or isinstance(net, IntegerNetwork) and net.simulated):
        return
    for name in names:
        if name.removesuffix("_output") in net.record.layers:
            raise ValueError(f"layer {name} of the {title} gives integers as floats, without their scale; accepted: "
                             f"outputs after it in its graph, layers that stay fp32, or another network: the fp32 one "
                             f"or that of quantize(..., simulate=False)")


def _as_floats(internals: mx.sym.Symbol, name: str, known: Collection[str]) -> mx.sym.Symbol:
    """An output; when it has integers, with their range as further outputs, the numbers that they stand for."""
    ends = f"{name}_min", f"{name}_max"
    if not set(ends) <= set(known):
        return internals[name]
    return mx.sym.contrib.dequantize(internals[name], *(internals[end] for end in ends))


def _known(name: str, title: str, names: Collection[str]) -> str:
    """The name; ``ValueError`` with those close to it when it is none of ``names``."""
    check_known(f"features names the {title}'s layer", name, names, "layer")
    return name
