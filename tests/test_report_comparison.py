"""Reports beside each other: entropy, histograms, times per layer, accuracies, records, several networks, JSON."""
import json
import math
from collections import Counter

import gluon_compress as gc  # before mxnet

import mxnet as mx  # noqa: I001
import numpy as np
import pytest
from gluon_compress import RecordError
from gluon_compress.measuring import Report, report
from gluon_compress.measuring.comparison import merged_names
from gluon_compress.measuring.units import exact, percent, short, tick
from gluon_compress.measuring.weight_values import bits_of_codes, bits_of_numbers, histogram, together
from gluon_compress.network.graph import Graph
from gluon_compress.pruning import Sensitivity
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from networks import NormNet, build

SHAPE = (8, 3, 8, 8)
NUMBERS = arrays(np.float32, st.integers(1, 60), elements=st.floats(-9, 9, width=32))


@pytest.fixture(scope="module")
def net():
    mx.random.seed(3)
    return build(NormNet, SHAPE)[0]


@pytest.fixture
def example():
    return mx.nd.random.normal(shape=SHAPE)


@pytest.fixture
def data(example):
    return [(example, mx.nd.array(np.arange(8) % 5)), (example[:3], mx.nd.zeros(3))]


def entropy(values):
    """In bits per value, one after the other."""
    counts = Counter(values.ravel().tolist())
    return -sum(count / values.size * math.log2(count / values.size) for count in counts.values())


# ---- values

@given(arrays(np.int8, st.integers(1, 200), elements=st.integers(-4, 4)))
def test_bits_of_codes_are_their_entropy(codes):
    assert bits_of_codes(codes) == pytest.approx(codes.size * entropy(codes), abs=1e-6)


def test_bits_of_numbers_are_those_of_the_shorter_of_two_codes():
    generator = np.random.default_rng(0)
    dense = generator.normal(size=5000).astype(np.float32)
    assert bits_of_numbers(dense) == 32 * 5000  # all differ, none is zero: there is nothing to gain
    sparse = np.where(generator.random(5000) < 0.9, np.float32(0), dense)
    nonzeros = np.count_nonzero(sparse)
    assert bits_of_numbers(sparse) == pytest.approx(5000 * entropy(sparse == 0) + 32 * nonzeros)
    few = generator.integers(-3, 4, 5000).astype(np.float32) / 8
    assert bits_of_numbers(few) == pytest.approx(5000 * entropy(few) + 32 * 7)  # seven numbers in a table
    assert bits_of_numbers(np.zeros(100, np.float32)) == 0


@given(NUMBERS, NUMBERS)
def test_histograms_count_every_value_in_its_bin_and_add_up(one, other):
    for values in (one, other):
        found = histogram([values])
        assert found.total == values.size and found.zeros == np.count_nonzero(values == 0)
        edges = (found.first + np.arange(len(found.counts) + 1)) * found.width
        nonzero = values[values != 0].astype(np.float64)
        expected = np.array([np.count_nonzero((nonzero >= low) & (nonzero < high))
                             for low, high in zip(edges, edges[1:])])
        assert found.counts == expected.tolist() and sum(found.counts) == nonzero.size
        assert len(found.counts) <= 64
    both, whole = together([histogram([one]), histogram([other])]), histogram([one, other])
    widest = max(both.exponent, whole.exponent)
    assert both.coarser(widest) == whole.coarser(widest) and both.total == one.size + other.size


def test_values_that_are_not_finite_are_in_no_bin():
    assert histogram([np.array([1.0, math.nan, math.inf, 0.0])]).total == 2
    assert histogram([]) is None and together([]) is None


def test_the_entropy_of_a_report_is_that_of_the_codes(net, example):
    int8 = gc.quantization.quantize(net, [example], progress=False)
    found = report(int8, example)
    codes = sum(code.size * entropy(code) / 8 for code in int8.codes.values())
    scales = sum(4 * weight["scale"].size for weight in int8.scales.weights.values())
    rest = found.bytes - sum(code.size for code in int8.codes.values()) - scales
    assert codes + scales < found.entropy_bytes <= codes + scales + rest + 1e-6
    assert found.entropy_bytes < found.bytes


def test_weights_with_scales_count_as_codes(net, example):
    fp32 = report(net, example)
    rounded = build(NormNet, SHAPE)[0]
    scales = gc.quantization.quantize_weights(rounded, bits=4)
    without, found = report(rounded, example), report(rounded, example, records=scales)
    assert without.bytes == fp32.bytes
    counts = {name: gc.network.parameters(rounded)[name].data().size for name in scales.weights}
    saved = sum(4 * count - -(-count // 2) - 4 * scales.weights[name]["scale"].size for name, count in counts.items())
    assert found.bytes == fp32.bytes - saved
    assert found.entropy_bytes < found.bytes < without.entropy_bytes
    with pytest.raises(RecordError, match="call it again"):
        report(build(NormNet, SHAPE)[0], example, records=[scales])
    with pytest.raises(RecordError, match="another network"):
        report(gc.params.load("lenet_mnist"), mx.nd.zeros((1, 1, 28, 28)), records=[scales])


# ---- measurements

def test_times_per_layer_are_those_of_its_operators(net, example):
    found = report(net, example, layer_times=True, progress=False)
    operators = {node.operator for node in Graph(net, example).nodes if node.operator != "null"}
    kinds = {layer.kind for layer in found.layers}
    assert kinds | found.other_times.keys() == operators and not kinds & found.other_times.keys()
    assert all(layer.milliseconds > 0 for layer in found.layers)
    assert found.milliseconds == pytest.approx(
        sum(layer.milliseconds for layer in found.layers) + sum(found.other_times.values()))
    assert "batch 8" in found.times_measured and found.times_measured in str(found)
    int8 = gc.quantization.quantize(net, [example], progress=False)
    layers = report(int8, example, layer_times=True, progress=False).layers
    assert all(layer.milliseconds > 0 for layer in layers if layer.macs)
    assert report(net, example).milliseconds is None


def test_accuracy_is_that_of_evaluate_for_each_network(net, example, data):
    other = build(NormNet, SHAPE)[0]
    other.output.weight.set_data(-other.output.weight.data())
    found = report(net, example, compared_with=other, data=data)
    assert (found.accuracy, found.samples) == (gc.training.evaluate(net, data), 11)
    assert found.compared_with["before"].accuracy == gc.training.evaluate(other, data)
    assert "on 11 samples" in str(found) and "points" in str(found)
    assert found.comparison()["accuracy"]["ratio"] is None
    with pytest.raises(TypeError, match="used up"):
        report(net, example, compared_with=other, data=iter(data))
    assert report(net, example, data=iter(data)).samples == 11


# ---- networks beside each other

def pruned_by_half(example):
    small = build(NormNet, SHAPE)[0]
    return small, gc.pruning.prune_channels(small, example, ratio=0.5, round_to=1)


def test_layers_stand_beside_each_other(net, example):
    small, plan = pruned_by_half(example)
    found = report(small, example, compared_with=net, records=plan)
    lines = {line.split()[0]: line for line in str(found).splitlines() if line}
    assert " 8 →  4 " in lines["features.0"] and " 12 →  6 " in lines["features.4"]
    assert f"{short(found.compared_with['before'].macs)} → {short(found.macs)}" in lines["total"]
    assert "→" not in lines["output"].split("  ")[1]  # as many channels as before
    assert found.left_out == {name: f"ChannelPlan: {reason}" for name, reason in plan.left_out.items()}
    assert max(map(len, str(found).split("\n\n")[0].splitlines())) <= 100


def test_several_networks_have_a_row_each(net, example):
    small, _ = pruned_by_half(example)
    int8 = gc.quantization.quantize(small, [example], progress=False)
    earlier = report(net, example, compared_with=small)  # what it was compared with then does not matter now
    found = report(int8, example, compared_with={"fp32": earlier, "half": small}, name="half, int8")
    assert list(found.networks) == ["fp32", "half", "half, int8"]
    assert [each.name for each in found.networks.values()] == list(found.networks)
    assert found.compared_with["fp32"].compared_with == {}
    table = str(found).split("\n\n")[1].splitlines()
    assert [line.split("  ")[0].strip() for line in table[2:]] == ["fp32", "half", "half, int8"]
    assert found.comparison("half")["MACs per sample"]["ratio"] == 1
    assert found.comparison()["MACs per sample"]["before"] == earlier.macs
    assert found.quantization is int8.record
    with pytest.raises(ValueError, match="name is 'half', .*; accepted: another name"):
        report(int8, example, compared_with={"half": net}, name="half")
    with pytest.raises(ValueError, match="did you mean half"):
        found.comparison("hal")


def test_a_network_without_layers_is_told_as_one():
    net = mx.gluon.nn.HybridSequential()
    net.add(mx.gluon.nn.Flatten())
    assert "no layers, parameters and MACs are counted: none are known" in str(
        report(net, mx.nd.ones((1, 2, 3)))).splitlines()[-1]


def test_other_engines_stand_beside_the_network_with_what_is_known_of_them(net, example, data, tmp_path):
    gc.export.to_onnx(net, tmp_path / "net.onnx", example)
    engine = gc.export.engine(tmp_path / "net.onnx", threads=1)
    found = report(engine, example, compared_with={"MXNet": net}, data=data, latency=True, repeats=2, warmup=0,
                   layer_times=False, name="ONNX Runtime")
    assert found.file_bytes == (tmp_path / "net.onnx").stat().st_size
    assert found.accuracy == pytest.approx(gc.training.evaluate(net, data)) and found.timing.repeats == 2
    assert {what: value for what, value in found.quantities().items() if value is None}.keys() == {
        "parameters", "nonzeros", "MACs per sample", "bytes", "entropy bytes"}
    rows = [line.split("  ")[0] for line in str(found).splitlines()]
    assert "MXNet" in rows and "ONNX Runtime" in rows
    page = found.write_html(tmp_path / "page.html").read_text()
    assert "ONNX Runtime" in page and "features.0" in page
    beside = report(net, example, compared_with={"ONNX Runtime": engine}, data=data)
    assert beside.compared_with["ONNX Runtime"].layers == [] and beside.layers
    assert str(found).count(f"no layers, parameters and MACs are counted: {engine.engine} runs it as a whole") == 1
    curves = Sensitivity("channels", "l1", [0.5], {}, {})
    for argument, said in (({"layer_times": True}, "layer_times is"), ({"records": curves}, "records are")):
        with pytest.raises(ValueError, match=f"{said} given, but ONNX Runtime .* runs net.onnx as a whole"):
            report(engine, example, **argument)
    assert str(report(engine, example)) and Report.from_dict(found.to_dict()).quantities() == found.quantities()


def test_the_old_name_of_compared_with_still_works_and_warns_where_it_is_called(net, example):
    with pytest.warns(DeprecationWarning, match="compared_with") as caught:
        found = report(net, example, baseline=net)
    assert caught[0].filename == __file__
    assert found.comparison()["parameters"]["ratio"] == 1
    with pytest.warns(DeprecationWarning, match="compared_with") as caught:
        assert found.baseline is found.compared_with["before"]
    assert caught[0].filename == __file__
    with pytest.raises(TypeError, match="both given"):
        report(net, example, net, baseline=net)


def test_names_of_layers_keep_their_order_when_lists_are_merged():
    assert merged_names([["a", "b", "c"], ["a", "x", "c", "y"], ["z"]]) == ["z", "a", "x", "b", "c", "y"]
    assert merged_names([]) == []


# ---- JSON

def whole(net, example, data):
    curves = Sensitivity("weights", "l1", [0.5], {"output": ["output"]}, {"features.0": "no"}, 0.9,
                         {"output": {0.5: 0.8}})
    int8 = gc.quantization.quantize(net, [example], exclude=["output"], progress=False)
    return report(int8, example, compared_with={"fp32": net}, data=data, latency=True, repeats=1, warmup=0,
                  records=[curves], name="int8")


def test_a_report_comes_back_from_a_file_and_can_be_compared_with(net, example, data, tmp_path):
    found = whole(net, example, data)
    again = Report.read_json(found.write_json(tmp_path / "report.json"))
    assert json.loads(json.dumps(again.to_dict())) == json.loads(json.dumps(found.to_dict()))
    assert str(again) == str(found)
    assert report(net, example, compared_with=again).comparison()["bytes"]["before"] == found.bytes


@pytest.mark.parametrize("change", [
    {"layers": None}, {"layers": [{}]}, {"layers": [3]}, {"timing": {}}, {"timing": {"median": 1}}, {"accuracy": 2},
    {"file_bytes": -1}, {"quantization": {"layers": 1}}, {"sensitivities": [{}]}, {"compared_with": {"a": {}}},
    {"compared_with": {"a": 3}}, {"compared_with": {"a": {"compared_with": {"a": {}}}}}, {"nonsense": 1},
    {"not_counted": {"a": "b"}}, {"input_shapes": [["x"]]}])
def test_json_that_is_no_report_is_refused(net, example, data, change, tmp_path):
    record = {**report(net, example).to_dict(), **change}
    with pytest.raises(RecordError, match="not a (report|record)"):
        Report.from_dict(record)
    (tmp_path / "report.json").write_text(json.dumps(record))
    with pytest.raises(RecordError, match="not a (report|record)"):
        Report.read_json(tmp_path / "report.json")


@pytest.mark.parametrize("wrong", [None, -1, "1", [1], {}, math.nan, math.inf, 10**400, "x" * 5000])
def test_each_part_of_a_timing_is_checked(net, example, wrong):
    """What passes prints, and goes to a page and back to JSON."""
    record = report(net, example, latency=True, repeats=1, warmup=0).to_dict()
    for part in record["timing"]:
        changed = {**record, "timing": {**record["timing"], part: wrong}}
        try:
            found = Report.from_dict(changed)
        except RecordError:
            continue
        assert part in ("threads", "precision", "execution") and str(found)
        assert json.loads(json.dumps(found.to_dict(), allow_nan=False))["timing"] == changed["timing"]


def test_a_file_that_is_no_json_is_refused(tmp_path):
    (tmp_path / "a.json").write_bytes(b"\xff{")
    (tmp_path / "b.json").write_text("[")
    for name in ("a.json", "b.json"):
        with pytest.raises(RecordError, match="is not a report"):
            Report.read_json(tmp_path / name)


# ---- numbers as people read them

@pytest.mark.parametrize("value, text", [
    (0, "0 B"), (1, "1 B"), (999, "999 B"), (999.6, "1.00 kB"), (1000, "1.00 kB"), (36_864, "36.9 kB"),
    (999_999, "1.00 MB"), (139_299_328, "139 MB"), (2.5, "2.50 B"), (None, "-")])
def test_short_numbers_have_three_digits_and_a_prefix(value, text):
    assert short(value, "B") == text


def test_numbers_on_axes_end_in_no_zeros():
    assert [tick(value) for value in (0, 0.03, 1, 1000, 1500, 20e6, 100)] == ["0", "0.03", "1", "1 k", "1.5 k", "20 M",
                                                                            "100"]
    assert (exact(1234), exact(0.5), percent(0.125), percent(None)) == ("1,234", "0.500", "12.5%", "-")
