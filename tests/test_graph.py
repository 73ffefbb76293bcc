"""The one graph, and the one table of what operators mean."""
import ast
import re
import sys
import threading
from pathlib import Path

import gluon_compress as gc  # before mxnet

import mxnet as mx  # noqa: I001
import numpy as np
import pytest
from gluon_compress.network import layers
from gluon_compress.network.graph import Graph
from gluon_compress.network.nodes import edited, in_order, nodes_of, symbol_of
from gluon_compress.network.operators import OPERATORS, Operator
from gluon_compress.network.registry import description_of
from gluon_compress.pruning import Taylor, prune_channels, reestimate_batch_norm
from gluon_compress.pruning.channels.rules import RULES
from gluon_compress.quantization import quantize
from mxnet.gluon import nn
from networks import Branches, Net, NormNet, SharedWeights, assert_close, build, exported, values, zero_removed

ROOT = Path(gc.__file__).parent
IN_TABLE = {"moving_mean": "mean", "moving_var": "variance", "a": "data", "array": "data"}  # MXNet's name: the role


# The table, against what MXNet says of itself -----------------------------------------------------------------------

@pytest.mark.parametrize("name", [name for name, meaning in OPERATORS.items() if meaning.inputs
                                  and not name.startswith("_sg_")])  # which MXNet does not describe
def test_inputs_have_the_roles_that_mxnet_names(name):
    own, described = description_of(name)
    assert own == name  # no alias
    found = [IN_TABLE.get(argument, argument) for argument, kind in described.items() if "NDArray" in kind]
    if OPERATORS[name].inputs == ("data", "slope"):
        found = ["slope" if role == "gamma" else role for role in found]
    assert tuple(found) == OPERATORS[name].inputs


@pytest.mark.parametrize("name", [name for name, meaning in OPERATORS.items() if meaning.defaults])
def test_defaults_are_mxnets(name):
    _, described = description_of(name)
    for attribute, value in OPERATORS[name].defaults.items():
        written = re.search(r"default='?(.*?)'?$", described[attribute])[1]
        if isinstance(value, float):
            assert float(written) == pytest.approx(value, rel=1e-6)
        else:
            assert written in {str(value), str(int(value)) if isinstance(value, bool) else "",
                               "[]" if value == () else ""} - {""}


def deformable(channels=6):
    """A network with a layer that the house was never told of, and whose weight is its third input."""
    def f(net, F, x, **own):
        x = F.relu(net.first(x))
        x = F.contrib.DeformableConvolution(x, net.offsets(x), own["warp_weight"], own["warp_bias"], kernel=(3, 3),
                                            num_filter=channels, pad=(1, 1))
        return net.head(F.relu(x))
    return Net(f, {"warp_weight": (channels, 8, 3, 3), "warp_bias": (channels,)}, first=nn.Conv2D(8, 3, padding=1),
               offsets=nn.Conv2D(18, 3, padding=1), head=nn.Dense(4))


def warp_of(net):
    """Name and kind of that layer."""
    return next((layer.name, layer.kind) for layer in layers(net) if layer.name.endswith("warp"))


@pytest.fixture()
def taught(monkeypatch):
    """One entry in the table, and the rule of pruning: what CONTRIBUTING.md says that an operator takes."""
    monkeypatch.setitem(OPERATORS, "_contrib_DeformableConvolution", Operator(
        inputs=("data", "offset", "weight", "bias"), kind="DeformableConv{}D", macs_per="output",
        channel_axis=lambda node: 1, defaults={"num_group": 1},
        sizes=lambda shape, groups: {"num_filter": shape[0], "num_group": groups}))

    def rule(node, inputs, tracker):
        tracker.pin(inputs[1], "read as offsets")
        return RULES["Convolution"](node, [inputs[0]], tracker)
    monkeypatch.setitem(RULES, "_contrib_DeformableConvolution", rule)


def test_an_operator_without_an_entry_is_computed_and_counts_for_nothing(tmp_path):
    net, example = build(deformable, (2, 3, 6, 6))
    block = exported(net, example, tmp_path)
    name, kind = warp_of(block)
    assert kind == "SymbolBlock" and gc.report(block, example).not_counted["_contrib_DeformableConvolution"] == 1
    with pytest.raises(ValueError, match=f"{name}: .* no rule for this operator"):
        prune_channels(block, example, ratio=0.5, round_to=1)


def test_an_operator_is_taught_in_one_entry_and_a_rule(taught, tmp_path):
    """It is a layer then: known by kind, counted, left out of integers by name, and pruned with what it reads."""
    net, example = build(deformable, (2, 3, 6, 6))
    original, block = (exported(net, example, tmp_path) for _ in range(2))
    name, kind = warp_of(block)
    assert kind == "DeformableConv2D" and name in [node.layer for node in Graph(block, example).producers()]
    report = gc.report(block, example)
    assert report.not_counted == {"relu": 2}
    assert next(layer.macs for layer in report.layers if layer.name == name) == 6 * 36 * 8 * 9
    int8 = quantize(block, [example], simulate=True, progress=False)
    assert int8.record.left_out[name] == "DeformableConv2D: there is no integer kernel for it"
    plan = prune_channels(block, example, ratio=0.5, round_to=1)
    assert values(block)[f"{name}_weight"].shape == (3, 4, 3, 3)
    zero_removed(original, plan)
    assert_close(block(example), original(example))


# Graphs -------------------------------------------------------------------------------------------------------------

@pytest.mark.parametrize("network", [NormNet, Branches, SharedWeights])
def test_a_graph_that_is_written_and_read_again_is_the_same(network):
    graph = Graph(*build(network))
    nodes, outputs = nodes_of(symbol_of(graph.outputs))
    assert nodes == in_order(outputs) and len(outputs) == len(graph.outputs)
    for one, other in zip(graph.nodes, nodes, strict=True):
        assert (one.name, one.operator, one.attributes) == (other.name, other.operator, other.attributes)
        assert [(source.name, output) for source, output in one.inputs] == [
            (source.name, output) for source, output in other.inputs]


def test_threads_may_read_the_graph_of_one_network_at_once():
    """Gluon keeps the scope of the names that it gives in the network itself; two threads would leave it in turn."""
    net, _ = build(NormNet)

    def names():
        return Graph(net).symbol.get_internals().list_outputs()
    alone, found, interval = names(), [], sys.getswitchinterval()
    threads = [threading.Thread(target=lambda: found.extend(names() for _ in range(20))) for _ in range(4)]
    sys.setswitchinterval(1e-6)
    try:
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    finally:
        sys.setswitchinterval(interval)
    assert found == [alone] * 80


def test_bodies_of_loops_are_read_and_written():
    def double(data, states):
        return data + states[0], [data * 2]
    outputs, states = mx.sym.contrib.foreach(double, mx.sym.var("data"), [mx.sym.var("state")])
    symbol = mx.sym.Group([outputs, *states])
    nodes, entries = nodes_of(symbol)
    loop = next(node for node in nodes if node.meaning.has_body)
    assert {node.operator for node in in_order(loop.subgraphs[0])} == {"null", "elemwise_add", "_mul_scalar"}
    inputs = {"data": mx.nd.arange(6).reshape((3, 2)), "state": mx.nd.ones((2,))}
    expected, found = (each.eval(**inputs) for each in (symbol, symbol_of(entries)))
    for one, other in zip(expected, found, strict=True):
        assert np.array_equal(one.asnumpy(), other.asnumpy())


def test_an_edit_changes_what_it_says_and_nothing_else():
    net, example = build(NormNet)
    graph = Graph(net, example)

    def edit(node):
        if node.operator == "Dropout":
            node.attributes["p"] = "0.25"
    before, after = (nodes_of(symbol)[0] for symbol in (graph.symbol, edited(graph.symbol, edit)))
    different = [(one, other) for one, other in zip(before, after, strict=True) if one.attributes != other.attributes]
    assert [(one.operator, other.get("p")) for one, other in different] == [("Dropout", 0.25)]


def test_shapes_are_known_with_an_example_and_not_before():
    net, example = build(NormNet)
    graph = Graph(net)
    assert graph.input_shapes == {}
    graph.infer_shapes([(7, 3, 8, 8)])
    assert graph.input_shapes == {"data": (7, 3, 8, 8)}
    assert [node.shapes[output] for node, output in graph.outputs] == [(7, 5)]
    with pytest.raises(ValueError, match="does not fit the network"):
        Graph(net, example.reshape((4, 1, -1)))


# BatchNorm with a ReLU in it, which lists of names forgot -------------------------------------------------------------

def relu_norm():
    net = nn.HybridSequential()
    net.add(nn.Conv2D(6, 3, padding=1), nn.BatchNormReLU(), nn.Conv2D(4, 3), nn.BatchNorm(), nn.Dense(3))
    return net


def test_statistics_of_a_batch_norm_with_a_relu_are_estimated_anew():
    net, example = build(relu_norm, (8, 3, 8, 8))
    expected = net[0](example).asnumpy().mean(axis=(0, 2, 3))
    assert reestimate_batch_norm(net, [example], progress=False) == 2
    np.testing.assert_allclose(values(net)["1.running_mean"], expected, rtol=1e-4, atol=1e-5)


def test_taylor_takes_a_batch_norm_with_a_relu_as_inference_does():
    """As a BatchNorm and a ReLU of its own are taken: gradients go through running statistics."""
    def apart():
        net = nn.HybridSequential()
        net.add(nn.Conv2D(6, 3, padding=1), nn.BatchNorm(), nn.Activation("relu"), nn.Conv2D(4, 3), nn.BatchNorm(),
                nn.Dense(3))
        return net
    kept, outputs = [], []
    for network in (relu_norm, apart):
        net, example = build(network, (8, 3, 8, 8))
        outputs.append(net(example).asnumpy())
        labels = mx.nd.array(np.arange(8) % 3)
        plan = prune_channels(net, example, 0.5, criterion=Taylor([(example, labels)]), round_to=1)
        kept.append([cut["kept"] for cut in plan.slices])
    np.testing.assert_allclose(*outputs, rtol=1e-5, atol=1e-6)
    assert kept[0] == kept[1]


# Who may know what --------------------------------------------------------------------------------------------------

def sources():
    tutorials = ROOT.parent / "tutorials"
    return [path for path in (*ROOT.rglob("*.py"), *tutorials.glob("*.py"))]


def sources_outside_of(*rooms):
    return [path for path in sources() if not any(path.is_relative_to(ROOT / room) for room in rooms)]


def test_only_the_network_room_reads_the_json_of_symbols():
    """And the checks of strangers' graphs, which come before there is a graph."""
    wrong = []
    for path in sources_outside_of("network", "checkpoint/symbol_check.py", "checkpoint/other_formats"):
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.Subscript) and isinstance(node.slice, ast.Constant) and node.slice.value in (
                    "nodes", "heads", "arg_nodes", "node_row_ptr"):
                wrong.append(f"{path.name}:{node.lineno} {ast.unparse(node)}")
            if isinstance(node, ast.Call) and re.search(r"loads\b.*\btojson", ast.unparse(node)):
                wrong.append(f"{path.name}:{node.lineno} {ast.unparse(node)}")
    assert wrong == []


def test_only_the_table_and_the_rules_of_pruning_know_operators_by_name():
    """Whoever compares a node's operator with a name has an entry of the table in his own code.

    Losses, which are no part of a network, are known by name where they are taken off and put back. What operators are
    called in ONNX is a table of its own.
    """
    wrong = []
    for path in sources_outside_of("network", "pruning/channels/rules", "checkpoint/other_formats",
                                   "export/loss_head.py", "export/onnx"):
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.Compare) and ast.unparse(node.left).endswith(".operator"):
                names = [value.value for value in ast.walk(node) if isinstance(value, ast.Constant)]
                if not set(names) <= {"null", "_contrib_quantize_v2"}:  # which an emitter has written itself
                    wrong.append(f"{path.name}:{node.lineno} {ast.unparse(node)}")
    assert wrong == []
