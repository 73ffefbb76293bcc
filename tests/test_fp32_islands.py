"""What computes in fp32 between integer layers: that all of it is named, and nothing else; its share of the time."""
import gluon_compress as gc  # before mxnet

import mxnet as mx  # noqa: I001
import numpy as np
import pytest
from gluon_compress.errors import NetworkError
from gluon_compress.network.graph import Graph
from gluon_compress.measuring import measure_islands, operator_times
from gluon_compress.quantization import QuantizationRecord, quantize
from gluon_compress.quantization.integers.onednn import saturates
from mxnet.gluon import nn
from networks import Net, build
from test_integer_activations import MOVING, built, leaky_net
from test_quantize import NETWORKS

INTEGER = ("_sg_mkldnn_", "_contrib_quantized_")
CONVERSIONS = ("_contrib_quantize_v2", "_contrib_dequantize")


def swish_net():
    """A Swish, a max pooling behind it, an average over all, a ReLU that is read twice; a softmax at the end."""
    def f(net, F, x):
        x = net.first(x)
        x = net.pool(x * F.sigmoid(x))
        y = net.second(x)
        y = net.third(F.relu(y)) + F.relu(y)
        return F.softmax(net.head(net.mean(y)))
    return Net(f, first=nn.Conv2D(8, 3), pool=nn.MaxPool2D(2), second=nn.Conv2D(6, 3), third=nn.Conv2D(6, 1),
               mean=nn.GlobalAvgPool2D(), head=nn.Dense(4))


def between(net, example):
    """Names of the operators of an integer graph that are reached from integers, and reach integers, by paths."""
    nodes = Graph(net, example).nodes
    integer = {node.name for node in nodes if node.operator.startswith(INTEGER)}
    below = {}
    for node in nodes:
        below[node.name] = set().union(*({source.name} | below[source.name] for source, _ in node.inputs))
    return {node.name: node.operator for node in nodes if node.operator != "null" and below[node.name] & integer
            and node.name not in integer and any(node.name in below[name] for name in integer)}


@pytest.mark.parametrize("name", ["norms", "branches", "fire", "densenet", "mobilenet", "swish"])
def test_every_fp32_operator_between_integers_is_named(name):
    net, example = build(swish_net, (4, 3, 16, 16)) if name == "swish" else build(*NETWORKS[name])
    int8 = quantize(net, [example], progress=False)
    found = between(int8, example)
    apart = (*CONVERSIONS, *MOVING) if saturates() else CONVERSIONS
    assert {node: operator for node, operator in found.items() if operator not in apart or node in int8.record.islands
            } == {
        node: island["operator"] for node, island in int8.record.islands.items()}
    for node, island in int8.record.islands.items():
        assert island["reason"] and all(text in str(int8.record) for text in (node, *island.values()))
    assert ("nothing computes in fp32" in str(int8.record)) == (not int8.record.islands)
    simulated = quantize(net, [example], simulate=True, progress=False)
    assert simulated.record.islands == int8.record.islands


def test_layers_left_in_fp32_are_islands_with_their_reason():
    net, example = built(leaky_net)
    int8 = quantize(net, [example], exclude=["second"], progress=False)
    assert int8.record.islands["second"] == {"operator": "Convolution", "reason": "Conv2D, excluded"}
    reasons = [island["reason"] for island in int8.record.islands.values()]
    assert reasons.count("it follows no convolution of its own") == 1


def test_layers_that_a_bound_on_the_accuracy_leaves_in_fp32_are_islands_with_their_reason():
    net, example = built(leaky_net)

    def evaluate(network):
        return float(network is net or "last" not in network.record.layers)
    record = quantize(net, [example], evaluate=evaluate, max_accuracy_drop=0.5, progress=False).record
    assert record.left_out["last"].startswith("quantizing it alone changes the outputs by")
    assert record.islands["last"] == {"operator": "Convolution", "reason": record.left_out["last"]}


def test_a_shortcut_that_becomes_signed_is_named():
    """Unsigned codes, which a sum without a ReLU takes along: they go through fp32."""
    net, example = build(Net, (4, 3, 8, 8), function=lambda net, F, x: net.head(net.second(F.relu(net.first(x)))
                                                                                + F.relu(net.first(x))),
                         first=nn.Conv2D(5, 3, padding=1), second=nn.Conv2D(5, 3, padding=1), head=nn.Dense(3))
    record = quantize(net, [example], progress=False).record
    assert any("_contrib_dequantize" in island["operator"] for island in record.islands.values())


def test_a_maximum_of_fp32_values_is_taken_of_their_codes():
    """The same network with the pooling in fp32 computes the same, bit by bit."""
    net, example = build(swish_net, (4, 3, 16, 16))
    int8 = quantize(net, [example], progress=False)
    operators = [node.operator for node in Graph(int8, example).nodes]
    assert operators.count("_contrib_quantized_pooling") == 1
    x = mx.nd.random.normal(shape=(2, 3, 8, 8))
    limits = {"out_type": "auto", "min_calib_range": -2.0, "max_calib_range": 2.0}
    before, low, high = mx.nd.contrib.quantize_v2(x, **limits)
    window = {"kernel": (2, 2), "stride": (2, 2), "pool_type": "max"}
    codes = mx.nd.contrib.quantized_pooling(before, low, high, **window)[0]
    after = mx.nd.contrib.quantize_v2(mx.nd.Pooling(x, **window), **limits)[0]
    assert np.array_equal(codes.asnumpy(), after.asnumpy())


def test_the_share_of_the_time_is_measured_printed_and_saved(tmp_path):
    net, example = build(swish_net, (4, 3, 16, 16))
    int8 = quantize(net, [example], progress=False)
    assert int8.record.islands_share is None and " % of the time" not in str(int8.record)
    share = measure_islands(int8, example)
    record = int8.record
    assert 0 < sum(island["share"] for island in record.islands.values()) <= share == record.islands_share < 1
    assert f"{100 * share:.0f} % of the time" in str(record) and "4x3x16x16" in str(record)
    gc.save(tmp_path / "net.gcz", int8)
    assert gc.load(tmp_path / "net.gcz").record.to_dict() == record.to_dict()


def test_times_are_of_the_operators_in_their_order():
    net, example = build(swish_net, (4, 3, 16, 16))
    nodes = [node for node in Graph(net, example).nodes if node.operator != "null"]
    times = operator_times(net, example, repeats=2)
    assert [operator for _, operator, _ in times] == [node.operator for node in nodes]
    assert all(milliseconds >= 0 for *_, milliseconds in times) and sum(time for *_, time in times) > 0


def test_only_networks_on_integers_have_islands():
    net, example = build(swish_net, (4, 3, 16, 16))
    with pytest.raises(TypeError, match="accepted: an IntegerNetwork"):
        measure_islands(net, example)
    with pytest.raises(NetworkError, match="simulated"):
        measure_islands(quantize(net, [example], simulate=True, progress=False), example)


def test_records_of_older_files_have_no_islands():
    record = QuantizationRecord({}, {"conv": "excluded"})
    stored = {name: value for name, value in record.to_dict().items() if "islands" not in name}
    assert QuantizationRecord.from_dict(stored).islands == {}


def test_networks_say_what_they_are():
    net, example = build(swish_net, (4, 3, 16, 16))
    int8 = quantize(net, [example], exclude=["second"], progress=False)
    assert repr(int8).startswith("IntegerNetwork(3 layers on 8-bit integers; 1 layer in fp32; ")
    assert "calibration: mse, 4 samples" in str(int8)
    simulated = quantize(net, [example], bits=4, simulate=True, progress=False)
    assert "4-bit integers, simulated" in repr(simulated)
