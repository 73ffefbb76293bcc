"""Numbers in the attributes of a graph, such as that of the heads in a reshape: where they come from, and new ones.

In a SymbolBlock they are the graph's own. A HybridBlock's code writes them anew whenever it is called: only where it
takes them from an attribute of a block (``self._num_heads``) can they be changed. Which attribute that is shows when
the network is traced with another number in it.
"""
from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, replace
from functools import partial
from typing import TYPE_CHECKING, Any

from mxnet.gluon import Block, HybridBlock, SymbolBlock

from ..errors import NetworkError
from .nodes import Node, edited, nodes_of
from .numpy_operators import CLASSIC_ATTRIBUTES

if TYPE_CHECKING:
    from .graph import Graph

PRIMES = (3, 5, 7, 11, 13, 17, 19, 23, 29, 31, 37, 41, 43, 47, 53, 59, 61, 67, 71, 73, 79, 83, 89, 97)


@dataclass(frozen=True)
class Place:
    """A number in a graph: the name of a node, an attribute, and the position where that holds several."""

    node: str
    attribute: str
    position: int | None = None


@dataclass(frozen=True)
class Origin:
    """Where a number can be changed: an attribute of a block, or of a node in the graph of a SymbolBlock.

    ``block`` is its structural name, "" for the network itself; ``node`` is None for an attribute of the block;
    ``position`` is that in a tuple.
    """

    block: str
    node: str | None
    attribute: str
    position: int | None = None


class Origins:
    """Where the numbers in the graph of a network come from; found out when it is first asked."""

    def __init__(self, graph: Graph, net: HybridBlock) -> None:
        self._graph, self._net = graph, net
        self._known: dict[Place, tuple[Origin, int]] | None = None

    def of(self, place: Place) -> tuple[Origin, int] | None:
        """``(origin, its value)`` of a number, which is a multiple of the value; None where it cannot be changed."""
        return self._all.get(place)

    def places(self, origin: Origin) -> list[Place]:
        """All numbers that change with an origin."""
        return [place for place, (other, _) in self._all.items() if other == origin]

    @property
    def _all(self) -> dict[Place, tuple[Origin, int]]:
        if self._known is None:
            self._known = {}
            blocks = list(_blocks(self._net))
            for path, block in blocks:
                if isinstance(block, SymbolBlock):
                    self._known.update(_in_symbol(path, block, self._graph))
            self._trace_with_other_numbers(self._known, [each for each in blocks if _has_code(each[1])])
        return self._known

    def _trace_with_other_numbers(self, known: dict[Place, tuple[Origin, int]],
                                  blocks: list[tuple[str, Block]]) -> None:
        numbers = {place: value for node in self._graph.nodes for place, value in _numbers(node)
                   if place not in known}
        kinds: dict[tuple[type, str, int | None], list[Origin]] = {}
        for path, block in blocks:
            for attribute, value in vars(block).items():
                for position, number in _integers(value):
                    if number > 1 and any(other % number == 0 for other in numbers.values()):
                        kinds.setdefault((type(block), attribute, position), []).append(
                            Origin(path, None, attribute, position))
        named = dict(blocks)
        for alike in kinds.values():
            for start in range(0, len(alike), len(PRIMES)):
                some = alike[start:start + len(PRIMES)]
                for place, which in self._changed(some, named).items():
                    origin = some[which]
                    known.setdefault(place, (origin, _held(named[origin.block], origin)))

    def _changed(self, origins: list[Origin], named: dict[str, Block]) -> dict[Place, int]:
        """{number: which origin's it is a multiple of}; empty when anything else in the graph changes too."""
        before = [getattr(named[origin.block], origin.attribute) for origin in origins]
        try:
            for origin, prime in zip(origins, PRIMES):
                _hold(named[origin.block], origin, prime * _held(named[origin.block], origin))
            nodes, _ = nodes_of(self._graph.trace(self._net))
        except NetworkError:
            return {}
        finally:
            for origin, value in zip(origins, before):
                setattr(named[origin.block], origin.attribute, value)
        return _multiplied(self._graph.nodes_as_traced(), nodes)


def change_numbers(net: HybridBlock, changes: Mapping[Origin, int]) -> None:
    """Set the numbers at these origins, which must be there."""
    blocks = dict(_blocks(net))
    in_symbols: dict[str, dict[Place, int]] = {}
    for origin, value in changes.items():
        if origin.node is None:
            _hold(blocks[origin.block], origin, value)
        else:
            place = Place(origin.node, origin.attribute, origin.position)
            in_symbols.setdefault(origin.block, {})[place] = value
    for path, changed in in_symbols.items():
        inputs, symbol = blocks[path]._cached_graph
        blocks[path]._cached_graph = inputs, edited(symbol, partial(set_numbers, changed=changed), amp_casts=True)


def number_at(net: HybridBlock, origin: Origin) -> int | None:
    """The number at an origin; None where there is none in this network."""
    block = dict(_blocks(net)).get(origin.block)
    if origin.node is None:
        return dict(_integers(getattr(block, origin.attribute, None))).get(origin.position)
    if not isinstance(block, SymbolBlock):
        return None
    place = Place(origin.node, origin.attribute, origin.position)
    return next((value for node in nodes_of(block._cached_graph[1])[0] if node.name == origin.node
                 for found, value in _numbers(node) if found == place), None)


def set_numbers(node: Node, changed: Mapping[Place, int]) -> None:
    """Change the numbers in the attributes of a node."""
    for place, value in changed.items():
        if place.node == node.name:
            old = node.get(place.attribute)
            node.attributes[place.attribute] = str(_with(old, place.position, value))


def _blocks(block: Block, path: str = "") -> Iterator[tuple[str, Block]]:
    yield path, block
    for name, child in block._children.items():
        yield from _blocks(child, f"{path}.{name}" if path else name)


def _has_code(block: Block) -> bool:
    """Whether its code may write numbers that are not those of Gluon's own layers, which resizing.py changes."""
    return not isinstance(block, SymbolBlock) and not type(block).__module__.startswith("mxnet.gluon.nn.")


def positions(node: Node, attribute: str) -> list[tuple[int | None, int]]:
    """``(position, number)`` of the numbers in an attribute; of a single one, which has no position, (None, number)."""
    return _integers(node.get(attribute))


def _integers(value: Any) -> list[tuple[int | None, int]]:
    each: Iterable[tuple[int | None, Any]] = enumerate(value) if isinstance(value, tuple) else [(None, value)]
    return [(position, number) for position, number in each if type(number) is int]


def _with(value: Any, position: int | None, number: int) -> Any:
    """An integer, or a tuple of them, with another number."""
    return number if position is None else (*value[:position], number, *value[position + 1:])


def _held(block: Block, origin: Origin) -> int:
    return dict(_integers(getattr(block, origin.attribute)))[origin.position]


def _hold(block: Block, origin: Origin, number: int) -> None:
    setattr(block, origin.attribute, _with(getattr(block, origin.attribute), origin.position, number))


def _numbers(node: Node) -> Iterator[tuple[Place, int]]:
    """The numbers in the attributes of a node that may count channels."""
    for attribute in node.meaning.numbers:
        yield from ((Place(node.name, attribute, position), number)
                    for position, number in positions(node, attribute) if number > 1)


def _in_symbol(path: str, block: SymbolBlock, graph: Graph) -> dict[Place, tuple[Origin, int]]:
    """The numbers of a SymbolBlock's graph, except for operators that share a name."""
    nodes, _ = nodes_of(block._cached_graph[1])
    here, there = Counter(node.name for node in nodes), {node.name for node in graph.nodes}
    return {_in_graph(place): (Origin(path, place.node, place.attribute, place.position), number)
            for node in nodes if here[node.name] == 1 and f"{node.name}_again1" not in there
            for place, number in _numbers(node)}


def _in_graph(place: Place) -> Place:
    """Where the number is when an operator of MXNet's NumPy interface is written as a classic one."""
    return replace(place, attribute=CLASSIC_ATTRIBUTES.get(place.attribute, place.attribute))


def _multiplied(before: list[Node], after: list[Node]) -> dict[Place, int]:
    """{number: which prime it was multiplied with}; empty when the graphs differ in anything else."""
    found: dict[Place, int] = {}
    if [node.operator for node in before] != [node.operator for node in after]:
        return {}
    for old, new in zip(before, after):
        new_settings = new.settings
        numbers = dict(_numbers(old))
        changed = {place: value for place, value in _numbers(_renamed(new, old.name))
                   if numbers.get(place) != value}
        for place, value in changed.items():
            ratio, rest = divmod(value, numbers.get(place, value))
            if rest or ratio not in PRIMES:
                return {}
            found[_in_graph(place)] = PRIMES.index(ratio)
        set_back = Node(old.name, old.operator, dict(new_settings))
        set_numbers(set_back, {place: numbers[place] for place in changed})
        if any(set_back.get(name) != old.get(name) for name in {**new_settings, **old.settings}):
            return {}
    return found


def _renamed(node: Node, name: str) -> Node:
    return Node(name, node.operator, node.attributes)
