"""export/onnx/operators/: each operator computes in ONNX Runtime what it does in MXNet, whatever its attributes."""
import gluon_compress as gc

import mxnet as mx  # noqa: I001
import numpy as np
import onnx
import onnxruntime
import pytest
from mxnet.gluon import nn, rnn
from networks import Function, Net

NEWEST = onnx.defs.onnx_opset_version()
RANDOM = np.random.default_rng(0)


def run(path, arrays):
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 3
    session = onnxruntime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
    return session.run(None, {known.name: array for known, array in zip(session.get_inputs(), arrays)})


def listed(outputs):
    return list(outputs) if isinstance(outputs, (list, tuple)) else [outputs]


def assert_same(function, arrays, path, opset, batches=(), tolerance=2e-6, axis=0):
    """The file gives the outputs of MXNet for the example and, if ``batches``, for other numbers of samples."""
    net = Function(function)
    gc.export.to_onnx(net, path, tuple(map(as_mxnet, arrays)), opset=opset, verify=False)
    dynamic = any(length.dim_param for value in onnx.load(str(path)).graph.input
                  for length in value.type.tensor_type.shape.dim)
    for size in (None, *batches) if dynamic else (None,):
        given = [array if size is None else np.take(array, np.arange(size) % array.shape[axis], axis)
                 for array in arrays]
        for expected, found in zip(listed(net(*map(as_mxnet, given))), run(path, given), strict=True):
            expected = expected.asnumpy()
            assert found.dtype == expected.dtype and found.shape == expected.shape
            assert np.abs(found - expected).max() <= tolerance * max(1, np.abs(expected).max())


def as_mxnet(array):
    return mx.nd.array(array, dtype=array.dtype)


def normal(*shape):
    return RANDOM.normal(size=shape).astype(np.float32)


def positive(*shape):
    return RANDOM.uniform(0.1, 0.9, size=shape).astype(np.float32)


def integers(high, *shape):
    return RANDOM.integers(0, high, size=shape).astype(np.float32)


IMAGE, ROWS, STEPS = (2, 4, 7, 6), (3, 5), (2, 6, 5)
CASES = {}


def family(name, cases, *shapes, make=normal):
    for index, case in enumerate(cases):
        CASES[f"{name} {index}"] = case, [make(*shape) for shape in shapes]


family("unary", [lambda F, x, name=name: getattr(F, name)(x) for name in """
    abs ceil cos cosh erf exp expm1 floor fix negative relu rint round sigmoid sign sin sinh softsign square tan
    tanh trunc cbrt degrees radians logical_not hard_sigmoid arctan arcsinh zeros_like ones_like smooth_l1""".split()],
       (3, 40))
family("unary of positive numbers", [lambda F, x, name=name: getattr(F, name)(x) for name in """
    arccos arcsin arctanh log log10 log1p log2 sqrt rsqrt rcbrt reciprocal""".split()], (3, 40), make=positive)
family("halves", [lambda F, x, name=name: getattr(F, name)(x / 2 - 2) for name in ("rint", "round", "fix")], (1, 9),
       make=lambda *shape: np.arange(9, dtype=np.float32).reshape(shape))
family("types", [lambda F, x: F.cast(x * 5, "int32"), lambda F, x: F.cast(F.cast(x, "float64") * 2, "float32"),
                 lambda F, x: F.contrib.quadratic(x, a=1, b=2, c=3), lambda F, x: F.contrib.div_sqrt_dim(x),
                 lambda F, x: F.clip(x, -0.5, 0.3), lambda F, x: F.clip(x, 0.3, -0.5),
                 lambda F, x: F.BlockGrad(x) + F.make_loss(x), lambda F, x: (F.shape_array(x), x + 1)], ROWS)
family("two tensors", [lambda F, x, y, name=name: getattr(F, name)(x, y) for name in """
    broadcast_add broadcast_sub broadcast_mul broadcast_div broadcast_maximum broadcast_minimum broadcast_hypot
    broadcast_mod broadcast_equal broadcast_greater broadcast_greater_equal broadcast_lesser broadcast_lesser_equal
    broadcast_not_equal broadcast_logical_and broadcast_logical_or broadcast_logical_xor""".split()], (3, 1), (3, 8))
family("powers", [lambda F, x, y: F.broadcast_power(x, y), lambda F, x, y: F.broadcast_add(x ** 3, 2 ** y)],
       (3, 1), (3, 8), make=positive)
family("numbers", [lambda F, x: x + 2, lambda F, x: 2 - x, lambda F, x: x * 3 - 1, lambda F, x: x / 4,
                   lambda F, x: 1 / (x + 9), lambda F, x: F.maximum(x, 0.2), lambda F, x: F.minimum(x, 0.2),
                   lambda F, x: x % 0.7, lambda F, x: x % -0.7, lambda F, x: x > 0.1, lambda F, x: x <= 0.1,
                   lambda F, x: x == 0, lambda F, x: x != 0, lambda F, x: F.add_n(x, x, 2 * x)], ROWS)
family("where", [lambda F, x, y: F.where(x > 0, x, y), lambda F, x, y: F.where(F.sum(x, axis=1) > 0, x, y)], ROWS, ROWS)
family("activations", [
    *(lambda F, x, kind=kind: F.Activation(x, act_type=kind) for kind in
      "relu sigmoid tanh softrelu softsign".split()),
    *(lambda F, x, kind=kind: F.LeakyReLU(x, act_type=kind, slope=0.3) for kind in "leaky elu selu gelu".split()),
    lambda F, x: F.LeakyReLU(x, act_type="rrelu")[0],
    lambda F, x: F.LeakyReLU(x, F.slice_axis(F.ones_like(x), axis=1, begin=0, end=1).reshape((-1,)).slice(
        begin=(0,), end=(1,)) * 0.2, act_type="prelu"),
    lambda F, x: F.softmax(x), lambda F, x: F.softmax(x, axis=1, temperature=3), lambda F, x: F.log_softmax(x, axis=1),
    lambda F, x: F.softmin(x, axis=2), lambda F, x: F.SoftmaxActivation(x), lambda F, x: F.SoftmaxActivation(
        x, mode="channel")], IMAGE)
family("pooling", [lambda F, x, a=a: F.Pooling(x, **a) for a in [
    *({"kernel": (3, 2), "stride": (2, 2), "pad": (1, 1), "pool_type": kind, "pooling_convention": convention}
      for kind in ("max", "avg", "sum") for convention in ("valid", "full")),
    {"kernel": (2, 2), "stride": (2, 2), "pad": (1, 1), "pool_type": "max", "pooling_convention": "full"},
    {"kernel": (3, 3), "stride": (3, 3), "pad": (2, 2), "pool_type": "avg", "pooling_convention": "full"},
    {"kernel": (3, 3), "pad": (1, 1), "pool_type": "avg", "count_include_pad": False},
    {"kernel": (3, 3), "stride": (2, 2), "pad": (1, 1), "pool_type": "avg", "count_include_pad": False,
     "pooling_convention": "full"},
    *({"kernel": (2, 2), "stride": (2, 2), "pool_type": "lp", "p_value": power} for power in (1, 2, 3)),
    *({"global_pool": True, "pool_type": kind, "kernel": (2, 2)} for kind in ("max", "avg", "sum")),
    *({"kernel": IMAGE[2:], "stride": (2, 3), "pool_type": kind, "p_value": 2} for kind in ("max", "avg", "sum", "lp")),
    {"kernel": (IMAGE[2], 2), "pool_type": "avg"}]], IMAGE,
       make=lambda *shape: np.abs(normal(*shape)))
family("pooling along one axis", [lambda F, x: F.Pooling(x, kernel=(3,), stride=(2,), pool_type="max"),
                                  lambda F, x: F.Pooling(x, kernel=(2,), stride=(2,), pool_type="avg",
                                                         pooling_convention="full")], (2, 3, 9))
family("normalizations", [
    lambda F, x: F.L2Normalization(x), lambda F, x: F.L2Normalization(x, mode="channel", eps=1e-3),
    lambda F, x: F.L2Normalization(x, mode="spatial"), lambda F, x: F.LRN(x, nsize=3, alpha=0.1),
    lambda F, x: F.LayerNorm(x, F.ones(6) * 2, F.ones(6)),
    lambda F, x: F.LayerNorm(x, F.ones(4) * 2, F.ones(4), axis=1),
    lambda F, x: F.InstanceNorm(x, F.ones(4) * 2, F.ones(4)),
    lambda F, x: F.GroupNorm(x, F.arange(1, 3), F.arange(2), num_groups=2)], IMAGE)
family("reductions", [lambda F, x, name=name, a=a: getattr(F, name)(x, **a)
                      for name in ("mean", "sum", "max", "min", "prod", "nansum", "norm")
                      for a in ({"axis": 1}, {"axis": (2, 3), "keepdims": True})], IMAGE)
family("further reductions", [
    lambda F, x: F.sum(x, axis=1, exclude=True), lambda F, x: F.norm(x, ord=1, axis=2),
    lambda F, x: F.moments(x, axes=(1, 2)), lambda F, x: F.moments(x, axes=(1,), keepdims=True)[1],
    lambda F, x: F.argmax(x, axis=1), lambda F, x: F.argmin(x, axis=2, keepdims=True),
    lambda F, x: F.argmax_channel(F.mean(x, axis=(2, 3))), lambda F, x: F.cumsum(x, axis=1)], IMAGE)
family("sorting", [
    lambda F, x: F.sort(x, axis=1), lambda F, x: F.sort(x, is_ascend=False), lambda F, x: F.argsort(x),
    lambda F, x: F.topk(x, k=3), lambda F, x: F.topk(x, k=2, ret_typ="value", is_ascend=True),
    lambda F, x: F.topk(x, k=2, ret_typ="both", dtype="int32"), lambda F, x: F.topk(x, k=2, ret_typ="mask")], ROWS)
family("indices", [
    lambda F, x, y: F.pick(x, F.slice_axis(y, axis=1, begin=0, end=1).reshape((-1,))),
    lambda F, x, y: F.pick(x, F.slice_axis(y, axis=1, begin=0, end=1), keepdims=True),
    lambda F, x, y: F.one_hot(x + y, depth=4, on_value=2, off_value=-1), lambda F, x, y: x + F.take(F.arange(6) * 2, y),
    lambda F, x, y: x + F.take(F.arange(3), y, mode="wrap"), lambda F, x, y: x - F.take(F.arange(3), y),
    lambda F, x, y: F.batch_take(x, F.slice_axis(y, axis=1, begin=1, end=2).reshape((-1,)).astype("int32")),
    lambda F, x, y: F.Embedding(x - y, F.reshape(F.arange(12), (6, 2)), input_dim=6, output_dim=2),
    lambda F, x, y: F.gather_nd(x, F.stack(F.slice_axis(y, axis=1, begin=0, end=1).reshape((-1,)) * 0,
                                           F.slice_axis(y, axis=1, begin=1, end=2).reshape((-1,)) * 0, axis=0))],
       ROWS, ROWS, make=lambda *shape: integers(5, *shape))
family("shapes", [
    lambda F, x: F.flatten(x), lambda F, x: F.reshape(x, (0, -3, -1)), lambda F, x: F.reshape(x, (0, -4, 2, -1, -2)),
    lambda F, x: F.reshape(x, (-1, 0), reverse=True).reshape((-1, 168)), lambda F, x: F.expand_dims(x, axis=-1),
    lambda F, x: F.squeeze(F.expand_dims(x, axis=1), axis=1),
    lambda F, x: F.transpose(x, (0, 2, 3, 1)), lambda F, x: F.SwapAxis(x, 1, 3), lambda F, x: F.concat(x, x, dim=2),
    lambda F, x: F.stack(x, x, axis=1), lambda F, x: F.stack(x, x, axis=-1), lambda F, x: F.split(x, 2, axis=1),
    lambda F, x: F.split(x, 4, axis=1, squeeze_axis=True), lambda F, x: F.split_v2(x, (1, 3), axis=1),
    lambda F, x: F.slice(x, begin=(None, 1, None, 5), end=(None, 3, None, 0), step=(1, 1, 2, -2)),
    lambda F, x: F.slice_axis(x, axis=2, begin=-3, end=None), lambda F, x: F.reverse(x, axis=(1, 3)),
    lambda F, x: F.slice_like(x, F.slice_axis(x, axis=2, begin=0, end=3), axes=(2,)),
    lambda F, x: F.tile(x, (1, 2, 1, 2)), lambda F, x: F.repeat(x, 2, axis=2),
    lambda F, x: F.broadcast_axis(F.mean(x, axis=1, keepdims=True), axis=1, size=3),
    lambda F, x: F.broadcast_like(F.mean(x, axis=(2, 3), keepdims=True), x),
    lambda F, x: F.broadcast_to(F.mean(x, axis=1, keepdims=True), (0, 3, 0, 0)),
    lambda F, x: F.reshape_like(F.flatten(x), x), lambda F, x: F.depth_to_space(x, 2),
    lambda F, x: F.space_to_depth(F.slice_axis(x, axis=2, begin=0, end=6), 2),
    *(lambda F, x, mode=mode: F.pad(x, mode=mode, pad_width=(0, 0, 0, 0, 1, 2, 3, 1), constant_value=2)
      for mode in ("constant", "edge", "reflect")),
    lambda F, x: F.Crop(x, h_w=(3, 4), offset=(2, 1), num_args=1),
    lambda F, x: F.Crop(x, F.slice_axis(x, axis=2, begin=0, end=3), num_args=2, center_crop=True),
    lambda F, x: F.broadcast_add(x, F.contrib.arange_like(x, axis=3, start=2, step=3)),
    lambda F, x: F.contrib.arange_like(x, axis=0) + 1, lambda F, x: F.broadcast_mul(x, F.arange(6))], IMAGE)
family("images", [
    lambda F, x: F.UpSampling(x, scale=2, sample_type="nearest"),
    lambda F, x: F.UpSampling(x, F.UpSampling(x, scale=1, sample_type="nearest"), scale=3, sample_type="nearest",
                              num_args=2),
    lambda F, x: F.UpSampling(x, x * 2, scale=2, sample_type="nearest", num_args=2, multi_input_mode="sum"),
    lambda F, x: F.contrib.BilinearResize2D(x, height=13, width=4),
    lambda F, x: F.contrib.BilinearResize2D(x, height=3, width=11, align_corners=False),
    lambda F, x: F.contrib.BilinearResize2D(x, height=1, width=11, align_corners=False),
    lambda F, x: F.contrib.BilinearResize2D(x, scale_height=2, scale_width=1.5, mode="odd_scale"),
    lambda F, x: F.contrib.BilinearResize2D(x, F.tile(x, (1, 1, 2, 2)), mode="like"),
    *(lambda F, x, size=size: F.contrib.AdaptiveAvgPooling2D(x, output_size=size)
      for size in (1, (7, 2), (3, 4), (5, 9)))], IMAGE)
family("products", [lambda F, x: F.batch_dot(x, x, transpose_b=True), lambda F, x: F.batch_dot(x, x, transpose_a=True),
                    lambda F, x: F.dot(x, F.reshape(F.arange(10), (5, 2))), lambda F, x: F.linalg_gemm2(
                        x, x, transpose_b=True, alpha=2), lambda F, x: F.linalg_syrk(x, alpha=3)], STEPS)
family("lengths", [
    lambda F, x, n: F.softmax(x, F.cast(F.broadcast_add(F.zeros_like(F.mean(x, axis=1)), F.mean(
        n, axis=1, keepdims=True)), "int32"), axis=1, use_length=True),
    lambda F, x, n: F.SequenceMask(x, F.mean(n, axis=1), use_sequence_length=True, axis=1, value=-2),
    lambda F, x, n: F.broadcast_add(F.SequenceMask(x, axis=1), F.expand_dims(n, 1)),
    lambda F, x, n: F.SequenceLast(x, F.mean(n, axis=1), use_sequence_length=True, axis=1),
    lambda F, x, n: F.broadcast_add(F.SequenceLast(x, axis=1), n)],
       STEPS, (2, 1), make=lambda *shape: integers(5, *shape) + 1)
family("regions", [
    lambda F, x, y: F.contrib.ROIAlign(x, F.concat(y * 0, F.concat(y, y + 3, dim=1), F.concat(y, y, dim=1) + 2, dim=1)
                                       .slice_axis(axis=1, begin=0, end=5), pooled_size=(2, 3), spatial_scale=0.7,
                                       sample_ratio=2)],
       (1, 3, 8, 9), (1, 1), make=positive)


@pytest.mark.parametrize("opset", [13, 17, 21, NEWEST])
@pytest.mark.parametrize("name", CASES)
def test_it_computes_the_same(name, opset, tmp_path):
    function, arrays = CASES[name]
    if "regions" in name and opset == NEWEST:
        opset = 21  # ONNX Runtime has no RoiAlign of the newest
    assert_same(function, arrays, tmp_path / "net.onnx", opset, batches=(1, 5))


# With weights -------------------------------------------------------------------------------------------------------

def assert_same_layer(layer, shape, path, opset=21, batches=(1, 5), tolerance=3e-6, axis=0):
    """As :func:`assert_same`, of a layer with random parameters."""
    layer.initialize(mx.init.Normal(0.5))
    layer(mx.nd.zeros(shape))
    for parameter in layer.collect_params().values():
        low = 0.5 if parameter.name.endswith(("gamma", "running_var")) else -1
        parameter.set_data(mx.nd.random.uniform(low, 1.5, parameter.shape))
    example = normal(*shape)
    gc.export.to_onnx(layer, path, as_mxnet(example), opset=opset, verify=False)
    for size in (shape[axis], *batches):
        given = np.take(example, np.arange(size) % shape[axis], axis)
        expected, = listed(layer(as_mxnet(given)))
        found, = run(path, [given])
        assert found.shape == expected.shape
        assert np.abs(found - expected.asnumpy()).max() <= tolerance * max(1, np.abs(expected.asnumpy()).max())


def drawn(choose, number, seed):
    generator = np.random.default_rng(seed)
    return [choose(lambda *options: options[generator.integers(len(options))]) for _ in range(number)]


@pytest.mark.parametrize("settings", drawn(lambda one_of: {
    "axes": (axes := one_of(1, 2, 3)), "channels": 4, "kernel_size": tuple(one_of(1, 2, 3) for _ in range(axes)),
    "strides": tuple(one_of(1, 2) for _ in range(axes)), "padding": tuple(one_of(0, 1) for _ in range(axes)),
    "dilation": tuple(one_of(1, 2) for _ in range(axes)), "groups": one_of(1, 2), "use_bias": one_of(True, False)},
    24, 1), ids=str)
@pytest.mark.parametrize("transposed", [False, True])
def test_convolutions(transposed, settings, tmp_path):
    settings = dict(settings)
    axes = settings.pop("axes")
    if transposed:
        settings["dilation"] = (1,) * axes if axes == 3 else settings["dilation"]  # MXNet has no other
        settings["output_padding"] = tuple(int(step > 1) for step in settings["strides"])
    layer = getattr(nn, f"Conv{axes}D{'Transpose' if transposed else ''}")(in_channels=6, **settings)
    assert_same_layer(layer, (2, 6, 9, 8, 7)[:axes + 2], tmp_path / "net.onnx", opset=13)


@pytest.mark.parametrize("scale", [0.3, 3])  # of the offsets, which reach over the borders
@pytest.mark.parametrize("settings", [{}, {"stride": (2, 1), "dilate": (1, 2), "pad": (0, 2)},
                                      {"num_group": 2, "num_deformable_group": 2, "pad": (1, 1)}], ids=str)
@pytest.mark.parametrize("with_mask", [False, True])
def test_deformable_convolutions_also_beyond_the_borders(with_mask, settings, scale, tmp_path):
    settings = {"kernel": (3, 2), "num_filter": 6, "no_bias": True, "pad": (1, 0), **settings}
    groups = settings.get("num_deformable_group", 1)
    weight = normal(6, 4 // settings.get("num_group", 1), 3, 2)
    data, plain = normal(2, 4, 9, 8), {key: value for key, value in settings.items() if "group" not in key}
    places = mx.nd.Convolution(mx.nd.array(data), mx.nd.zeros((6, 4, 3, 2)), **plain).shape[2:]
    offsets, mask = scale * normal(2, 12 * groups, *places), normal(2, 6 * groups, *places)
    if with_mask:
        assert_same(lambda F, *arrays: F.contrib.ModulatedDeformableConvolution(*arrays, **settings),
                    [data, offsets, mask, weight], tmp_path / "net.onnx", 21)
    else:
        assert_same(lambda F, *arrays: F.contrib.DeformableConvolution(*arrays, **settings),
                    [data, offsets, weight], tmp_path / "net.onnx", 21)


@pytest.mark.parametrize("layer, shape", [
    (nn.AvgPool2D((7, 6)), IMAGE), (nn.AvgPool2D((7, 6), layout="NHWC"), (2, 7, 6, 4)),
    (nn.MaxPool2D((7, 6), 1), IMAGE)])
def test_a_window_over_the_whole_plane_is_written_as_global_pooling(layer, shape, tmp_path):
    gc.export.to_onnx(layer, tmp_path / "net.onnx", mx.nd.array(normal(*shape)))
    names = {node.op_type for node in onnx.load(str(tmp_path / "net.onnx")).graph.node}
    assert names <= {"GlobalAveragePool", "GlobalMaxPool", "Transpose"} and names - {"Transpose"}


@pytest.mark.parametrize("target", [(14, 12), (15, 13)])
def test_a_transposed_convolution_to_a_size(target, tmp_path):
    assert_same(lambda F, x: F.Deconvolution(x, F.reshape(F.arange(4 * 3 * 4 * 4), (4, 3, 4, 4)) / 100, kernel=(4, 4),
                                             stride=(2, 2), pad=(1, 1), num_filter=3, target_shape=target),
                [normal(2, 4, 7, 6)], tmp_path / "net.onnx", 21)


@pytest.mark.parametrize("layer, shape", [
    (lambda: nn.Dense(3), (2, 4, 5)), (lambda: nn.Dense(3, flatten=False), (2, 4, 5)),
    (lambda: nn.Dense(3, use_bias=False), (2, 5)), (lambda: nn.Dense(3, use_bias=False, flatten=False), (2, 4, 5)),
    (lambda: nn.BatchNorm(), (2, 4, 5, 6)), (lambda: nn.BatchNorm(axis=-1), (2, 4, 5)),
    (lambda: nn.BatchNorm(axis=2, scale=False), (2, 4, 5, 6)), (lambda: nn.BatchNorm(), (2, 7)),
    (lambda: nn.BatchNormReLU(), (2, 4, 5, 6)), (lambda: nn.PReLU(in_channels=4), (2, 4, 5, 6)),
    (lambda: nn.PReLU(), (2, 7)), (lambda: nn.LayerNorm(axis=1), (2, 4, 5)), (lambda: nn.InstanceNorm(), (2, 4, 5, 6)),
    (lambda: nn.GroupNorm(2), (2, 4, 5, 6)), (lambda: nn.ReflectionPad2D(2), (2, 4, 5, 6))])
@pytest.mark.parametrize("opset", [13, NEWEST])
def test_layers(layer, shape, opset, tmp_path):
    assert_same_layer(layer(), shape, tmp_path / "net.onnx", opset)


@pytest.mark.parametrize("layout", ["TNC", "NTC"])
@pytest.mark.parametrize("layers, both", [(1, False), (2, True)])
@pytest.mark.parametrize("kind", [rnn.LSTM, rnn.GRU, rnn.RNN, lambda *a, **k: rnn.RNN(*a, activation="tanh", **k)])
def test_recurrent_layers_take_any_number_of_samples_in_both_layouts(kind, layers, both, layout, tmp_path):
    layer = kind(5, layers, layout=layout, bidirectional=both, input_size=4)
    assert_same_layer(layer, (3, 2, 4) if layout == "TNC" else (2, 3, 4), tmp_path / "net.onnx", 14,
                      axis=layout.index("N"))


def test_recurrent_layers_give_their_states(tmp_path):
    layer = rnn.LSTM(5, 2, input_size=4)
    layer.initialize(mx.init.Uniform(1))
    net = Net(lambda net, F, x, h, c: net.lstm(x, [h, c]), lstm=layer)
    arrays = [mx.nd.array(normal(*shape)) for shape in ((3, 2, 4), (2, 2, 5), (2, 2, 5))]
    found = run(gc.export.to_onnx(net, tmp_path / "net.onnx", tuple(arrays)), [array.asnumpy() for array in arrays])
    output, states = net(*arrays)
    for one, other in zip(found, [output, *states], strict=True):
        assert np.abs(one - other.asnumpy()).max() < 1e-5


@pytest.mark.parametrize("name, widths", [
    ("selfatt_qk", [3]), ("selfatt_valatt", [3, None]), ("encdec_qk", [1, 2]), ("encdec_valatt", [2, None])])
def test_interleaved_attention(name, widths, tmp_path):
    steps, samples, heads, size = 5, 2, 3, 4
    arrays = [normal(samples * heads, steps, steps) if width is None else
              normal(steps, samples, heads * width * size) for width in widths]
    operator = f"interleaved_matmul_{name}"
    assert_same(lambda F, *inputs: getattr(F.contrib, operator)(*inputs, heads=heads), arrays, tmp_path / "net.onnx",
                17)
