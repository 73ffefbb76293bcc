"""From the units that go to the plan that removes them, and whether the network fits together without them."""
from __future__ import annotations

from collections.abc import Mapping

import mxnet as mx
from mxnet.gluon import HybridBlock

from ...errors import NetworkError
from ...network.graph import Graph
from ...network.nodes import edited
from ...network.numbers import Place, set_numbers
from ...network.resizing import resized_symbol
from ...network.values import parameters
from .groups import Dependencies, Group
from .plan import ChannelPlan

EMPTY: Mapping[str, str] = {}


def plan_of(dependencies: Dependencies, groups: list[Group], removed: list[int], left_out: Mapping[str, str] = EMPTY,
            held_back: Mapping[str, str] = EMPTY) -> ChannelPlan:
    """The plan that removes these units of the groups that take part; both reasons are {layer name: text}."""
    removed_units = set(removed)
    layers = {}
    for group in groups:
        for name in group.layers:
            units = dependencies.channels[name].tolist()
            kept = [channel for channel, unit in enumerate(units) if unit not in removed_units]
            layers[name] = {"before": len(units), "kept": kept}
    notes = dict(left_out)
    for reasons in (dependencies.partly, held_back):
        for name in layers.keys() & reasons.keys():
            notes[name] = f"{notes[name]}; {reasons[name]}" if name in notes else reasons[name]
    return ChannelPlan(layers, dependencies.slices(removed), notes, dependencies.group_counts(removed),
                       dependencies.new_positions(removed), dependencies.new_sizes(removed))


def check_shapes(graph: Graph, plan: ChannelPlan, net: HybridBlock, numbers: Mapping[Place, int]) -> None:
    """Infer the shapes of the smaller network, with such new numbers in its graph, before anything is changed."""
    named = parameters(net)
    in_graph = {structural: name for name, structural in graph.parameter_names.items()}
    shapes = {in_graph[name]: shape for name, shape in plan.shapes(named).items()}
    groups = {in_graph[name]: count for name, count in plan.groups.items()}
    known = {name: named[structural].list_data()[0].shape for name, structural in graph.parameter_names.items()}
    symbol = edited(resized_symbol(graph.symbol, shapes, groups), lambda node: set_numbers(node, numbers))
    expected = [node.shapes[output] for node, output in graph.outputs]
    try:
        _, outputs, _ = symbol.infer_shape_partial(**{**known, **graph.input_shapes, **shapes})
    except mx.MXNetError as error:
        outputs = str(error)
    if outputs != expected:
        raise NetworkError(f"this network cannot be pruned like that, and stays as it was: its outputs "
                           f"would be {outputs} instead of {expected}; please report it with the network's code")
