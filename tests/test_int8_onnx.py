"""Networks on integers as ONNX: the same codes and scales in standard operators, which engines run on integers."""
import json
from collections import Counter

import gluon_compress as gc
import mxnet as mx
import numpy as np
import onnx
import onnxruntime
import openvino
import pytest
from gluon_compress.quantization import prepare_qat, quantize
from gluon_compress.quantization.integers.fusions import is_convolution
from gluon_compress.quantization.integers.integer_network import lower
from mxnet.gluon import nn
from networks import Net, build
from onnx import numpy_helper
from onnx.reference import ReferenceEvaluator

FP32_LAYERS = {"Conv", "FusedConv", "Gemm", "MatMul", "FusedMatMul", "FusedGemm"}


def chain():
    """Pooling of both kinds, a depthwise convolution, flattening, dense layers."""
    net = nn.HybridSequential()
    net.add(nn.Conv2D(8, 3, padding=1, use_bias=False), nn.BatchNorm(), nn.Activation("relu"), nn.MaxPool2D(),
            nn.Conv2D(8, 3, padding=1, groups=8), nn.AvgPool2D(), nn.Conv2D(16, 1), nn.Activation("relu"),
            nn.Flatten(), nn.Dense(12, activation="relu"), nn.Dense(5))
    return net


def added():
    """A shortcut of codes without a sign, by which the layer's own output is rounded once more."""
    return Net(lambda net, F, x: F.relu(net.second(x) + F.relu(net.first(x))), first=nn.Conv2D(8, 3, padding=1),
               second=nn.Conv2D(8, 3, padding=1))


def added_shifted():
    """A shortcut by a strided 1x1 convolution, whose sign goes by a shift."""
    def f(net, F, x):
        x = F.relu(net.stem(x))
        return F.relu(net.shortcut(x) + net.second(x))
    return Net(f, stem=nn.Conv2D(8, 3, padding=1), shortcut=nn.Conv2D(8, 1, strides=2),
               second=nn.Conv2D(8, 3, strides=2, padding=1))


def added_signed():
    return Net(lambda net, F, x: net.last(net.second(x) + net.first(x)), first=nn.Conv2D(8, 3, padding=1),
               second=nn.Conv2D(8, 1), last=nn.Conv2D(5, 1))


def bottlenecks():
    """Both readers of a tensor are strided 1x1 convolutions, as in ResNet-50."""
    def f(net, F, x):
        x = F.relu(net.stem(x))
        return F.relu(net.shortcut(x) + net.second(F.relu(net.first(x))))
    return Net(f, stem=nn.Conv2D(8, 3, padding=1), first=nn.Conv2D(8, 1, strides=2),
               shortcut=nn.Conv2D(8, 1, strides=2), second=nn.Conv2D(8, 1))


def concatenated():
    """ReLU6, a concatenation of two ranges, an average over all places, which is fp32 with us."""
    def f(net, F, x):
        x = F.clip(net.stem(x), 0, 6)
        x = F.concat(F.relu(net.left(x)), F.relu(net.right(x)), dim=1)
        return net.head(F.Pooling(F.relu(net.last(x)), global_pool=True, pool_type="avg"))
    return Net(f, stem=nn.Conv2D(8, 3), left=nn.Conv2D(4, 1), right=nn.Conv2D(8, 3, padding=1), last=nn.Conv2D(8, 1),
               head=nn.Dense(5))


def grouped():
    net = nn.HybridSequential()
    net.add(nn.Conv2D(16, 3, activation="relu"), nn.Conv2D(32, 3, groups=2), nn.Activation("relu"), nn.Conv2D(5, 1))
    return net


def last_axis():
    net = nn.HybridSequential()
    net.add(nn.Dense(12, flatten=False, activation="relu"), nn.Dense(5, flatten=False))
    return net


def without_bias():
    """A dense layer without bias that reads another one's codes, as in the gates of SE-ResNets."""
    net = nn.HybridSequential()
    net.add(nn.GlobalAvgPool2D(), nn.Dense(8, use_bias=False, activation="relu"), nn.Dense(5, use_bias=False))
    return net


def leaky():
    """The layer's own output is rounded once more before the activation."""
    return Net(lambda net, F, x: F.LeakyReLU(net.layer(x), act_type="leaky", slope=0.1),
               layer=nn.Conv2D(8, 3, padding=1))


def prelu():
    net = nn.HybridSequential()
    net.add(nn.Conv2D(8, 3, padding=1), nn.PReLU(in_channels=8))
    return net


NETWORKS = {"leaky ReLU": leaky, "PReLU": prelu, "chain": chain, "sum": added,
            "shifted sum": added_shifted, "signed sum": added_signed,
            "bottleneck": bottlenecks, "concatenation": concatenated, "groups": grouped, "last axis": last_axis,
            "without bias": without_bias}


def example_of(make, batch=4, seed=1):
    shape = (batch, 3, 8) if make is last_axis else (batch, 3, 16, 16)
    return mx.nd.array(np.random.default_rng(seed).normal(size=shape))


def network_of(make):
    return build(make, example_of(make).shape)[0]


def quantized(make, **arguments):
    example = example_of(make)
    return quantize(network_of(make), [example], progress=False,
                    **{"simulate": True, "method": "minmax", **arguments}), example


def exported(net, example, folder, **arguments):
    return onnx.load(gc.export.to_onnx(net, folder / "net.onnx", example, **arguments))


def session_of(model, **settings):
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 3
    for name, value in settings.items():
        setattr(options, name, value)
    return onnxruntime.InferenceSession(model.SerializeToString(), options, providers=["CPUExecutionProvider"])


def outputs(model, *inputs):
    session = session_of(model)
    return session.run(None, {given.name: value.asnumpy() for given, value in zip(session.get_inputs(), inputs)})[0]


def reference(model, *inputs):
    given = {given.name: value.asnumpy() for given, value in zip(model.graph.input, inputs)}
    return ReferenceEvaluator(model).run(None, given)[0]


def operators(model, folder):
    """How often ONNX Runtime runs which operator."""
    session_of(model, optimized_model_filepath=str(folder / "optimized.onnx"))
    return Counter(node.op_type for node in onnx.load(folder / "optimized.onnx").graph.node)


def initial(model):
    return {tensor.name: numpy_helper.to_array(tensor) for tensor in model.graph.initializer}


def made_by(model):
    return {output: node for node in model.graph.node for output in node.output}


def step(net):
    """What one code is worth that the last layer puts out; of a dense one, what a code it reads makes."""
    [end] = net.quantized.inference.outputs
    name = net.quantized.fusions[end].layer.name
    if is_convolution(net.quantized.inference.layers[name]):
        return net.record.range(name, "output").scale
    weight = net.scales.weights[net.quantized.inference.weights[name]]["scale"]
    return net.record.range(name, "input").scale * 128 * float(weight.max())


@pytest.mark.parametrize("make", NETWORKS.values(), ids=NETWORKS)
def test_the_file_computes_what_the_simulated_network_does_to_within_a_step(make, tmp_path):
    net, example = quantized(make)
    model = exported(net, example, tmp_path)
    for data in (example[:1], example, mx.nd.concat(example, example[1:], dim=0)):
        difference = np.abs(outputs(model, data) - net(data).asnumpy()).max() / step(net)
        assert difference <= (2.001 if make is added_signed else 1.001)  # a layer more after the sum


@pytest.mark.parametrize("make", NETWORKS.values(), ids=NETWORKS)
def test_onnx_runtime_runs_every_layer_on_integers(make, tmp_path):
    net, example = quantized(make)
    model = exported(net, example, tmp_path)
    assert {node.domain for node in model.graph.node} == {""}
    found = operators(model, tmp_path)
    assert not FP32_LAYERS & found.keys(), found
    on_integers = sum(number for name, number in found.items() if name in (
        "QLinearConv", "QGemm", "MatMulIntegerToFloat", "QLinearMatMul"))
    assert on_integers == len(net.record.layers), found
    if make not in (concatenated, last_axis, prelu):
        assert found["QuantizeLinear"] == 1, found


@pytest.mark.parametrize("make", NETWORKS.values(), ids=NETWORKS)
def test_openvino_runs_every_layer_on_integers_and_to_within_a_step(make, tmp_path):
    net, example = quantized(make)
    path = gc.export.to_onnx(net, tmp_path / "net.onnx", example)
    found = gc.export.engine(path, "openvino")(example).asnumpy()
    assert np.abs(found - net(example).asnumpy()).max() <= 2.001 * step(net)
    model = openvino.compile_model(path, "CPU").get_runtime_model()
    told = [operator.get_rt_info() for operator in model.get_ordered_ops()]
    kinds = [tuple(each[name].astype(str) for name in ("layerType", "runtimePrecision")) for each in told]
    layers = [precision for kind, precision in kinds if kind in ("Convolution", "FullyConnected", "MatMul")]
    assert len(layers) == len(net.record.layers) and set(layers) <= {"u8", "i8"}, kinds


@pytest.mark.parametrize("opset", [13, 17, 19, 21, onnx.defs.onnx_opset_version()])
def test_every_opset_from_13_on_holds_the_same_network(opset, tmp_path):
    net, example = quantized(added_shifted)
    model = exported(net, example, tmp_path, opset=opset, verify=opset < 24)
    onnx.checker.check_model(model, full_check=True)
    assert [entry.version for entry in model.opset_import if entry.domain == ""] == [opset]
    run = outputs if opset < 24 else reference  # ONNX Runtime 1.32 does not know newer ones
    assert np.abs(run(model, example) - net(example).asnumpy()).max() <= 1.001 * step(net)


@pytest.mark.parametrize("make", NETWORKS.values(), ids=NETWORKS)
def test_codes_and_scales_are_those_of_the_network(make, tmp_path):
    net, example = quantized(make)
    model = exported(net, example, tmp_path)
    values, makers = initial(model), made_by(model)
    ranges = {fusion.layer.name: lower(net.quantized, simulate=True).integers[fusion.data].range
              for fusion in net.quantized.fusions.values()}
    for name in net.record.layers:
        weight = net.quantized.inference.weights[name]
        [layer] = [node for node in model.graph.node if node.op_type in ("Conv", "Gemm", "MatMul")
                   and node.name.startswith(f"{name}_")]
        data, codes, *bias = (makers[entry] for entry in layer.input)
        stored = [values[entry] for entry in codes.input]
        expected = net.codes[weight] if layer.op_type != "MatMul" else net.codes[weight].T
        assert stored[0].dtype == np.int8 and np.array_equal(stored[0], expected)
        assert np.array_equal(stored[1], net.scales.weights[weight]["scale"]) and not stored[2].any()
        limits = ranges[name]
        scale, zero = (values[entry] for entry in data.input[1:])
        assert scale == np.float32(limits.scale) and zero == (128 if limits.signed else 0) and zero.dtype == np.uint8
        for entry in bias:
            units = values[entry.input[1]]
            assert values[entry.input[0]].dtype == np.int32
            assert np.allclose(units, stored[1] * scale, rtol=1e-6)


def test_a_network_from_our_file_leaves_as_it_did_before(tmp_path):
    net, example = quantized(added_shifted)
    gc.save(tmp_path / "net.gcz", net)
    loaded = gc.load(tmp_path / "net.gcz", simulate=True)
    before, after = (exported(each, example, tmp_path) for each in (net, loaded))
    assert np.array_equal(outputs(before, example), outputs(after, example))
    assert Counter(node.op_type for node in before.graph.node) == Counter(node.op_type for node in after.graph.node)


def test_a_file_from_before_there_were_ranges_of_terms_leaves_too(tmp_path):
    net, example = quantized(added_shifted)
    for layer in net.record.layers.values():
        layer.pop("before", None)
    model = exported(net, example, tmp_path)
    assert np.abs(outputs(model, example) - net(example).asnumpy()).max() <= 2.001 * step(net)


@pytest.mark.parametrize("bits", [8, 4])
def test_a_network_after_training_of_its_codes_leaves(bits, tmp_path):
    example = example_of(added_shifted)
    qat = prepare_qat(network_of(added_shifted), [example], bits=bits, progress=False)
    trainer = mx.gluon.Trainer(qat.collect_params(), "sgd", {"learning_rate": 1e-3})
    for _ in range(2):
        with mx.autograd.record():
            loss = (qat(example) ** 2).mean()
        loss.backward()
        trainer.step(1)
    net = qat.convert(simulate=True)
    model = exported(net, example, tmp_path)
    assert np.abs(outputs(model, example) - net(example).asnumpy()).max() <= 2.001 * step(net)


@pytest.mark.parametrize("bits", [2, 4, 6])
@pytest.mark.parametrize("make", [chain, added], ids=["chain", "sum"])
def test_fewer_bits_are_codes_of_fewer_levels(make, bits, tmp_path):
    net, example = quantized(make, bits=bits)
    for opset in (13, 21):
        model = exported(net, example, tmp_path, opset=opset)
        assert np.abs(outputs(model, example) - net(example).asnumpy()).max() <= 1.001 * step(net)
        stored = {node.input[0] for node in model.graph.node if node.op_type == "DequantizeLinear"}
        types = {tensor.data_type for tensor in model.graph.initializer
                 if tensor.name in stored and tensor.data_type != onnx.TensorProto.INT32}
        assert types == {onnx.TensorProto.INT4 if bits <= 4 and opset == 21 else onnx.TensorProto.INT8}


def test_layers_in_fp32_stay_in_fp32_and_are_right(tmp_path):
    net, example = quantized(chain, exclude=["4"])
    model = exported(net, example, tmp_path)
    assert np.abs(outputs(model, example) - net(example).asnumpy()).max() <= 1.001 * step(net)
    [layer] = [node for node in model.graph.node if node.op_type == "Conv" and node.name.startswith("4")]
    weight = initial(model)[layer.input[1]]
    assert weight.dtype == np.float32 and np.array_equal(weight, net.rest["4.weight"])


def test_a_channel_of_zeros_keeps_its_bias(tmp_path):
    fp32, example = network_of(grouped), example_of(grouped)
    last = fp32[-1]
    last.weight.set_data(last.weight.data() * mx.nd.array([0, 1, 1, 1, 1]).reshape((5, 1, 1, 1)))
    last.bias.set_data(mx.nd.array([0.7, 0, 0.1, 0, 0]))
    net = quantize(fp32, [example], simulate=True, progress=False)
    found = outputs(exported(net, example, tmp_path), example)
    assert np.abs(found[:, 0] - 0.7).max() <= step(net)
    assert np.abs(found - net(example).asnumpy()).max() <= 1.001 * step(net)


def test_narrow_weights_do_not_saturate_sums_of_two_products(tmp_path):
    net, example = quantized(chain)
    model = exported(net, example, tmp_path, weights="narrow")
    [codes] = [value for name, value in initial(model).items() if name == "6.weight"]
    pairs = codes.astype(int).reshape(len(codes), -1, 2)
    assert np.abs(codes.astype(int)).max() <= 127 and (np.abs(pairs.sum(axis=2)) <= 128).all()
    assert np.abs(outputs(model, example) - net(example).asnumpy()).max() <= 0.1 * np.abs(net(example).asnumpy()).max()


def test_what_the_file_says_of_itself(tmp_path):
    net, example = quantized(chain)
    model = exported(net, example, tmp_path)
    [said] = [entry.value for entry in model.metadata_props if entry.key == "gluon_compress.quantization"]
    assert json.loads(said)["layers"] == net.record.layers


def test_weights_take_a_byte_each(tmp_path):
    net = quantize(build(lambda: nn.Dense(1024), (4, 512))[0], [mx.nd.ones((4, 512))], simulate=True, progress=False)
    exported(net, mx.nd.ones((4, 512)), tmp_path)
    assert (tmp_path / "net.onnx").stat().st_size < 1024 * 512 * 1.05


@pytest.mark.parametrize("arguments, said", [
    ({"opset": 12}, "opset is 12; accepted: 13 to"), ({"opset": "21"}, "opset is '21'; accepted: an integer"),
    ({"weights": "int3"}, "is 'int3'; accepted: 'narrow'"), ({"verify": "no"}, "verify is 'no'")])
def test_bad_arguments_are_refused_and_write_nothing(arguments, said, tmp_path):
    net, example = quantized(grouped)
    with pytest.raises((TypeError, ValueError), match=said):
        gc.export.to_onnx(net, tmp_path / "net.onnx", example, **arguments)
    assert not list(tmp_path.iterdir())
