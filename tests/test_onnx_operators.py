"""export/onnx/operators/: each operator computes in ONNX Runtime what it does in MXNet, whatever its attributes."""
import gluon_compress as gc

import mxnet as mx  # noqa: I001
import numpy as np
import onnx
import onnxruntime
import pytest
from gluon_compress.export.onnx.table import TABLE
from networks import Function

NEWEST = onnx.defs.onnx_opset_version()
RANDOM = np.random.default_rng(0)


def run(path, arrays):
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 3
    session = onnxruntime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
    return session.run(None, {known.name: array for known, array in zip(session.get_inputs(), arrays)})


def listed(outputs):
    return list(outputs) if isinstance(outputs, (list, tuple)) else [outputs]


def compare(function, arrays, path, opset, batches=(), tolerance=2e-6, axis=0):
    """The file gives the outputs of MXNet for the example and, if ``batches``, for other numbers of samples."""
    net = Function(function)
    gc.export.to_onnx(net, path, tuple(map(as_mxnet, arrays)), opset=opset, verify=False)
    dynamic = any(length.dim_param for value in onnx.load(str(path)).graph.input
                  for length in value.type.tensor_type.shape.dim)
    for size in (None, *batches) if dynamic else (None,):
        given = [array if size is None else np.resize(array.swapaxes(0, axis), (size, *array.swapaxes(0, axis).shape[1:]))
                 .swapaxes(0, axis) for array in arrays]
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
    abs ceil cos cosh erf exp expm1 floor fix negative relu rint round sigmoid sign sin sinh softsign square tan tanh trunc
    cbrt degrees radians logical_not hard_sigmoid arctan arcsinh zeros_like ones_like smooth_l1""".split()], (3, 40))
family("unary of positive numbers", [lambda F, x, name=name: getattr(F, name)(x) for name in """
    arccos arcsin arctanh log log10 log1p log2 sqrt rsqrt rcbrt reciprocal""".split()], (3, 40), make=positive)
family("halves", [lambda F, x, name=name: getattr(F, name)(x / 2 - 2) for name in ("rint", "round", "fix")], (1, 9),
       make=lambda *shape: np.arange(9, dtype=np.float32).reshape(shape))
family("types", [lambda F, x: F.cast(x * 5, "int32"), lambda F, x: F.cast(F.cast(x, "float64") * 2, "float32"),
                 lambda F, x: F.contrib.quadratic(x, a=1, b=2, c=3), lambda F, x: F.contrib.div_sqrt_dim(x),
                 lambda F, x: F.clip(x, -0.5, 0.3), lambda F, x: F.BlockGrad(x) + F.make_loss(x),
                 lambda F, x: (F.shape_array(x), x + 1)], ROWS)
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
    *({"global_pool": True, "pool_type": kind, "kernel": (2, 2)} for kind in ("max", "avg", "sum"))]], IMAGE,
       make=lambda *shape: np.abs(normal(*shape)))
family("pooling along one axis", [lambda F, x: F.Pooling(x, kernel=(3,), stride=(2,), pool_type="max"),
                                  lambda F, x: F.Pooling(x, kernel=(2,), stride=(2,), pool_type="avg",
                                                         pooling_convention="full")], (2, 3, 9))
family("normalizations", [
    lambda F, x: F.L2Normalization(x), lambda F, x: F.L2Normalization(x, mode="channel", eps=1e-3),
    lambda F, x: F.L2Normalization(x, mode="spatial"), lambda F, x: F.LRN(x, nsize=3, alpha=0.1),
    lambda F, x: F.LayerNorm(x, F.ones(6) * 2, F.ones(6)), lambda F, x: F.LayerNorm(x, F.ones(4) * 2, F.ones(4), axis=1),
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
    *(lambda F, x, size=size: F.contrib.AdaptiveAvgPooling2D(x, output_size=size) for size in (1, (7, 2), (3, 4), (5, 9)))],
       IMAGE)
family("products", [lambda F, x: F.batch_dot(x, x, transpose_b=True), lambda F, x: F.batch_dot(x, x, transpose_a=True),
                    lambda F, x: F.dot(x, F.reshape(F.arange(10), (5, 2))), lambda F, x: F.linalg_gemm2(
                        x, x, transpose_b=True, alpha=2), lambda F, x: F.linalg_syrk(x, alpha=3)], STEPS)
family("lengths", [
    lambda F, x, n: F.softmax(
        x, F.cast(F.broadcast_add(F.zeros_like(F.mean(x, axis=1)), F.mean(n, axis=1, keepdims=True)), "int32"), axis=1,
        use_length=True),
    lambda F, x, n: F.SequenceMask(x, F.mean(n, axis=1), use_sequence_length=True, axis=1, value=-2),
    lambda F, x, n: F.broadcast_add(F.SequenceMask(x, axis=1), F.expand_dims(n, 1)), lambda F, x, n: F.SequenceLast(
        x, F.mean(n, axis=1), use_sequence_length=True, axis=1), lambda F, x, n: F.broadcast_add(F.SequenceLast(x, axis=1), n)],
       STEPS, (2, 1), make=lambda *shape: integers(5, *shape) + 1)


@pytest.mark.parametrize("opset", [13, 17, 21, NEWEST])
@pytest.mark.parametrize("name", CASES)
def test_it_computes_the_same(name, opset, tmp_path):
    function, arrays = CASES[name]
    compare(function, arrays, tmp_path / "net.onnx", opset, batches=(1, 5))
