"""ONNX files in other engines: called like Gluon's networks, counted and timed like them, wrong calls told by name."""
import copy
import json
import pickle
import re
import sys

import gluon_compress as gc

import mxnet as mx  # noqa: I001
import numpy as np
import onnx
import pytest
from mxnet import npx
from onnx import numpy_helper

RUNTIMES = ("onnxruntime", "openvino")
VERSIONS = {"onnxruntime": "ONNX Runtime", "openvino": "OpenVINO"}
RNG = np.random.default_rng(0)
WEIGHT = RNG.normal(size=(5, 12)).astype(np.float32)
CLASSIFIER = """
    <ir_version: 8, opset_import: ["" : 13]>
    classifier (float[batch, 3, 2, 2] data) => (float[batch, 5] scores) {
        flat = Flatten (data)
        scores = Gemm <transB = 1> (flat, weight)
    }"""
TWO = """
    <ir_version: 8, opset_import: ["" : 13]>
    two (float[batch, 4] left, int32[batch, 4] right) => (float[batch, 4] sums, int32[batch] largest) {
        numbers = Cast <to = 1> (right)
        sums = Add (left, numbers)
        largest = ReduceMax <axes = [1], keepdims = 0> (right)
    }"""
FIXED = """
    <ir_version: 8, opset_import: ["" : 13]>
    fixed (float16[2, 3] data) => (float16[2, 3] result) { result = Relu (data) }"""
QUANTIZED = """
    <ir_version: 8, opset_import: ["" : 13]>
    quantized (float[batch, 3] data) => (float[batch, 3] result) {
        scale = Constant <value = float {0.5}> ()
        zero = Constant <value = int8 {0}> ()
        codes = QuantizeLinear (data, scale, zero)
        result = DequantizeLinear (codes, scale, zero)
    }"""
LABELS = """
    <ir_version: 8, opset_import: ["" : 13]>
    labels (float[batch, 2] data) => (string[2] names) { names = Constant <value_strings = ["a", "b"]> () }"""
UNKNOWN = """
    <ir_version: 8, opset_import: ["" : 13, "of.others" : 1]>
    unknown (float[batch, 2] data) => (float[batch, 2] result) { result = of.others.Guess (data) }"""


@pytest.fixture(params=RUNTIMES)
def runtime(request):
    return request.param


@pytest.fixture
def file_of(tmp_path):
    def write(text, **values):
        model = onnx.parser.parse_model(text)
        model.graph.initializer.extend(numpy_helper.from_array(value, name) for name, value in values.items())
        path = tmp_path / f"{model.graph.name}.onnx"
        onnx.save(model, path)
        return path
    return write


@pytest.fixture
def classifier(file_of, runtime):
    return gc.export.engine(file_of(CLASSIFIER, weight=WEIGHT), runtime, threads=1)


def test_a_file_is_called_as_a_gluon_network_is_at_any_batch(classifier):
    for batch in (1, 4, 2, 7, 4):
        data = RNG.normal(size=(batch, 3, 2, 2)).astype(np.float32)
        scores = classifier(mx.nd.array(data))
        assert type(scores) is mx.nd.NDArray and scores.dtype == np.float32
        np.testing.assert_allclose(scores.asnumpy(), data.reshape(batch, 12) @ WEIGHT.T, rtol=1e-5, atol=1e-5)
    assert isinstance(classifier, mx.gluon.Block) and not list(classifier.collect_params())


def test_outputs_of_a_call_stay_when_the_next_one_comes(classifier):
    first, second = mx.nd.ones((2, 3, 2, 2)), mx.nd.zeros((2, 3, 2, 2))
    kept = classifier(first)
    assert not classifier(second).asnumpy().any()
    np.testing.assert_allclose(kept.asnumpy(), np.tile(WEIGHT.sum(axis=1), (2, 1)), rtol=1e-5, atol=1e-5)


def test_several_inputs_and_outputs_have_the_types_of_the_file(file_of, runtime):
    net = gc.export.engine(file_of(TWO), runtime, threads=1)
    left, right = RNG.normal(size=(3, 4)).astype(np.float32), RNG.integers(-9, 9, (3, 4), dtype=np.int32)
    for sums, largest in (net(mx.nd.array(left), mx.nd.array(right, dtype="int32")),
                          net([mx.nd.array(left), (mx.nd.array(right, dtype="int32"),)])):
        np.testing.assert_allclose(sums.asnumpy(), left + right, rtol=1e-6)
        assert largest.dtype == np.int32
        np.testing.assert_array_equal(largest.asnumpy(), right.max(axis=1))


@pytest.mark.parametrize("number, dtype", [(6, "int32"), (7, "int64"), (3, "int8"), (2, "uint8"), (9, "bool"),
                                           (10, "float16"), (11, "float64")])
def test_outputs_of_each_type_that_mxnet_has(file_of, runtime, number, dtype):
    text = f"""
        <ir_version: 8, opset_import: ["" : 13]>
        cast (float[batch, 2] data) => ({"double" if dtype == "float64" else dtype}[batch, 2] result) {{
            result = Cast <to = {number}> (data)
        }}"""
    result = gc.export.engine(file_of(text), runtime, threads=1)(mx.nd.array([[0, 1], [3, 100]]))
    assert np.dtype(result.dtype) == dtype
    np.testing.assert_array_equal(result.asnumpy(), np.array([[0, 1], [3, 100]]).astype(dtype))


def test_mx_np_arrays_give_mx_np_arrays(classifier):
    data = RNG.normal(size=(2, 3, 2, 2)).astype(np.float32)
    npx.set_np()
    try:
        scores = classifier(mx.np.array(data))
        assert type(scores) is mx.np.ndarray
        accuracy = gc.training.evaluate(classifier, [(mx.np.array(data), scores.argmax(axis=1))])
    finally:
        npx.reset_np()
    np.testing.assert_allclose(scores.asnumpy(), data.reshape(2, 12) @ WEIGHT.T, rtol=1e-5, atol=1e-5)
    assert accuracy == 1


def test_evaluate_counts_what_numpy_counts(classifier):
    batches = [(RNG.normal(size=(size, 3, 2, 2)).astype(np.float32), RNG.integers(0, 5, size)) for size in (6, 6, 3)]
    right = sum((data.reshape(-1, 12) @ WEIGHT.T).argmax(axis=1) == label for data, label in batches
                for data, label in zip(data[:, None], label))
    assert gc.training.evaluate(classifier, [(mx.nd.array(data), label) for data, label in batches]) == right / 15
    assert gc.training.evaluate(classifier, [{"data": data, "label": label} for data, label in batches]) == right / 15


def test_a_time_says_which_engine_took_it(classifier, runtime):
    timing = gc.measure_latency(classifier, mx.nd.ones((4, 3, 2, 2)), repeats=3, warmup=1)
    assert (timing.batch, timing.threads, timing.repeats, timing.precision) == (4, 1, 3, "fp32")
    assert timing.execution == classifier.engine and 0 < timing.lower_quartile <= timing.median
    assert str(timing).endswith(f"batch 4, 1 thread(s), fp32, {classifier.engine}")
    assert re.fullmatch(rf"{VERSIONS[runtime]} \d+\.\d+\.\d+", classifier.engine)


def test_a_file_with_operators_on_integers_is_called_int8(file_of, runtime):
    net = gc.export.engine(file_of(QUANTIZED), runtime)
    assert net.precision == "int8"
    np.testing.assert_array_equal(net(mx.nd.array([[0.3, 0.9, -70]])).asnumpy(), [[0.5, 1.0, -64.0]])


def test_float16_is_float16(file_of, runtime):
    net = gc.export.engine(file_of(FIXED), runtime)
    result = net(mx.nd.array([[1, -2, 3], [-4, 5, -6]], dtype="float16"))
    assert result.dtype == np.float16 and net.precision == "fp16"
    np.testing.assert_array_equal(result.asnumpy(), [[1, 0, 3], [0, 5, 0]])


def test_openvinos_own_files_run_in_it(file_of, tmp_path):
    import openvino
    openvino.save_model(openvino.Core().read_model(file_of(CLASSIFIER, weight=WEIGHT)), tmp_path / "ir.xml",
                        compress_to_fp16=False)
    scores = gc.export.engine(tmp_path / "ir.xml", "openvino")(mx.nd.ones((2, 3, 2, 2)))
    np.testing.assert_allclose(scores.asnumpy(), np.tile(WEIGHT.sum(axis=1), (2, 1)), rtol=1e-5, atol=1e-5)
    with pytest.raises(ValueError, match=r"ir\.xml'; accepted for onnxruntime: a file that ends in \.onnx$"):
        gc.export.engine(tmp_path / "ir.xml")


def test_the_network_says_what_it_is(classifier, runtime):
    text = repr(classifier)
    assert text.startswith(f"EngineNetwork(classifier.onnx in {VERSIONS[runtime]} ")
    assert "1 thread, fp32: data (" in text
    assert text.endswith(", 5) float32)")
    assert (classifier.path.name, classifier.runtime, classifier.threads) == ("classifier.onnx", runtime, 1)


@pytest.mark.parametrize("copied", [copy.copy, copy.deepcopy, pickle.dumps])
def test_a_copy_is_refused_with_what_opens_the_file_once_more(classifier, copied):
    with pytest.raises(TypeError, match="cannot be copied or pickled; accepted: to open the file once more") as raised:
        copied(classifier)
    again = eval(str(raised.value).rpartition("more, ")[2], {"gluon_compress": gc})
    assert repr(again) == repr(classifier)


def test_an_engine_reads_what_the_file_says_of_itself(tmp_path, runtime):
    net = mx.gluon.nn.Dense(2, in_units=3)
    net.initialize()
    said = {"trained_on": {"mnist:train": ""}, "author": "me"}
    gc.export.to_onnx(net, tmp_path / "net.onnx", mx.nd.ones((2, 3)), metadata=said)
    found = gc.export.engine(tmp_path / "net.onnx", runtime, threads=1).metadata
    assert found["gluon_compress.version"] == gc.__version__ and found["gluon_compress.author"] == "me"
    assert json.loads(found["gluon_compress.trained_on"]) == said["trained_on"]


@pytest.mark.parametrize("metadata, error, message", [
    ("me", TypeError, "metadata is 'me'; accepted: a dict"), ({1: "me"}, TypeError, "a name in metadata is 1"),
    ({"version": "7"}, ValueError, "metadata has 'version', which the file says of itself"),
    ({"x": object()}, TypeError, r"metadata\['x'\] is .*; accepted: text, or plain data")])
def test_metadata_that_no_file_can_hold_are_refused(tmp_path, metadata, error, message):
    net = mx.gluon.nn.Dense(2, in_units=3)
    net.initialize()
    with pytest.raises(error, match=message):
        gc.export.to_onnx(net, tmp_path / "net.onnx", mx.nd.ones((2, 3)), metadata=metadata)
    assert not list(tmp_path.iterdir())


def test_without_threads_the_engine_has_as_many_as_mxnet(file_of, runtime):
    net = gc.export.engine(file_of(CLASSIFIER, weight=WEIGHT), runtime)
    assert net.threads == (gc.runtime.status().threads or gc.runtime.usable_cores())


@pytest.mark.parametrize("inputs, error, message", [
    ([], TypeError, r"0 input\(s\) given to two.onnx; accepted: 2, left \(.*, 4\) float32, right \(.*, 4\) int32"),
    ([np.zeros((1, 4), np.float32)] * 2, TypeError, r"input left is an ndarray of shape \(1, 4\); accepted"),
    ([mx.nd.ones((1, 4))] * 2, ValueError, r"input right is float32; accepted: int32, as two.onnx says"),
    ([mx.nd.ones((1, 4), dtype="uint8")] * 2, ValueError, r"input left is uint8 \(raw pixels\?.*accepted: float32"),
    ([mx.nd.ones((1, 5)), mx.nd.ones((1, 4), dtype="int32")], ValueError,
     r"input left has shape \(1, 5\); accepted: left \(.*, 4\) float32, as two.onnx says"),
    ([mx.nd.ones(4), mx.nd.ones((1, 4), dtype="int32")], ValueError, r"input left has shape \(4,\)"),
])
def test_wrong_inputs_are_told_by_name(file_of, runtime, inputs, error, message):
    net = gc.export.engine(file_of(TWO), runtime, threads=1)
    with pytest.raises(error, match=message) as raised:
        net(*inputs)
    assert "\n" not in str(raised.value)


def test_lengths_that_the_file_ties_must_agree(file_of):
    net = gc.export.engine(file_of(TWO), "onnxruntime")
    with pytest.raises(ValueError, match=r"input right has shape \(2, 4\); accepted: right \(batch, 4\) int32, with "
                                         r"batch = 3 as in input left"):
        net(mx.nd.ones((3, 4)), mx.nd.ones((2, 4), dtype="int32"))
    openvino = gc.export.engine(file_of(TWO), "openvino")  # which does not keep names
    with pytest.raises(gc.NetworkError, match=r"OpenVINO .* cannot compute two.onnx for left \(3, 4\), right \(2, 4\)"):
        openvino(mx.nd.ones((3, 4)), mx.nd.ones((2, 4), dtype="int32"))


def test_channels_last_are_recognized(classifier):
    with pytest.raises(ValueError, match=r"input data has shape \(1, 2, 2, 3\) \(channels last\?"):
        classifier(mx.nd.ones((1, 2, 2, 3)))


@pytest.mark.parametrize("threads, error, message", [
    (0, ValueError, "threads is 0; accepted: an integer at least 1"),
    (-2, ValueError, "threads is -2"), (True, TypeError, "threads is True; accepted: an integer"),
    (1.5, TypeError, "threads is 1.5"), ("2", TypeError, "threads is '2'"),
    (10 ** 6, ValueError, r"threads is 1000000; accepted: 1 to \d+, the processors of this machine")])
def test_bad_numbers_of_threads(file_of, runtime, threads, error, message):
    with pytest.raises(error, match=message):
        gc.export.engine(file_of(TWO), runtime, threads)


def test_bad_paths_and_engines(file_of, tmp_path, runtime):
    with pytest.raises(FileNotFoundError, match="absent.onnx"):
        gc.export.engine(tmp_path / "absent.onnx", runtime)
    with pytest.raises(ValueError, match="a directory; accepted: the path of a file"):
        gc.export.engine(tmp_path, runtime)
    with pytest.raises(TypeError, match="path is None"):
        gc.export.engine(None, runtime)
    with pytest.raises(ValueError, match="network.params'; accepted for"):
        gc.export.engine(tmp_path / "network.params", runtime)
    with pytest.raises(ValueError, match="runtime is 'tensorrt'; accepted: 'onnxruntime', 'openvino'"):
        gc.export.engine(file_of(TWO), "tensorrt")


@pytest.mark.parametrize("damage", ["empty", "cut", "text", "unknown operator", "text as output"])
def test_files_that_an_engine_cannot_run_are_checkpoint_errors_on_one_line(file_of, runtime, damage, capfd):
    path = file_of({"unknown operator": UNKNOWN, "text as output": LABELS}.get(damage, CLASSIFIER), weight=WEIGHT)
    content = {"empty": b"", "cut": path.read_bytes()[:-100], "text": b"not a model"}.get(damage, path.read_bytes())
    path.write_bytes(content)
    with pytest.raises(gc.CheckpointError, match=re.escape(str(path))) as raised:
        gc.export.engine(path, runtime)
    assert "\n" not in str(raised.value) and len(str(raised.value)) < 700
    assert capfd.readouterr().err == ""


@pytest.mark.parametrize("missing", RUNTIMES)
def test_an_engine_that_is_not_installed_is_one_line_with_the_command(file_of, missing, monkeypatch):
    monkeypatch.setitem(sys.modules, missing, None)  # what Python does for a package that is not there
    with pytest.raises(ImportError, match=f"runtime='{missing}' needs {missing}, which cannot be imported") as raised:
        gc.export.engine(file_of(TWO), missing)
    assert str(raised.value).endswith("; accepted: pip install 'gluon-compress[engines]'")


def test_a_network_that_was_exported_computes_in_an_engine_what_it_computes_in_mxnet(tmp_path, runtime):
    net, example = gc.params.load("lenet_mnist"), mx.nd.random.uniform(shape=(2, 1, 28, 28))
    gc.pruning.prune_channels(net, example, 0.5)
    net.hybridize()
    exported = gc.export.engine(gc.export.to_onnx(net, tmp_path / "lenet.onnx", example, verify=False), runtime)
    for batch in (1, 5):
        images = mx.nd.random.uniform(shape=(batch, 1, 28, 28))
        np.testing.assert_allclose(exported(images).asnumpy(), net(images).asnumpy(), rtol=1e-4, atol=1e-4)
    labels = net(images).argmax(axis=1)
    assert gc.training.evaluate(exported, [(images, labels)]) == 1


def test_what_needs_layers_refuses_the_network_of_an_engine(classifier, tmp_path):
    data = [(mx.nd.ones((2, 3, 2, 2)), mx.nd.zeros(2))]
    for call in (lambda: gc.pruning.prune_magnitude(classifier, 0.5), lambda: gc.training.fit(classifier, data, 1),
                 lambda: gc.save(tmp_path / "x.gcz", classifier)):
        with pytest.raises(TypeError, match="net is an EngineNetwork, a file that another engine runs; accepted: a "):
            call()
