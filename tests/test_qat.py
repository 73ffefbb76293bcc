"""Quantization-aware training: gradients of the rounding, training, and conversion to integers."""
import gluon_compress as gc

import mxnet as mx  # noqa: I001
import numpy as np
import pytest
from gluon_compress.errors import NetworkError
from gluon_compress.models import ResNet
from gluon_compress.quantization import QatNetwork, prepare_qat, quantize
from gluon_compress.quantization.integers import onednn
from mxnet import autograd, gluon
from mxnet.gluon import nn
from networks import Branches, Function, Net, NormNet, OwnWeight, SharedWeights, build, exported, identical, values


class Small(Net):
    """A :class:`Net` that ``build`` can make."""

    layers = staticmethod(dict)

    def __init__(self):
        super().__init__(type(self).function, **self.layers())


class Concatenated(Small):
    """Two branches that meet before a convolution, pooled on the way."""

    @staticmethod
    def layers():
        return {"stem": nn.Conv2D(6, 3, activation="relu"), "left": nn.Conv2D(4, 1, activation="relu"),
                "right": nn.Conv2D(5, 1, activation="relu"), "mixed": nn.Conv2D(6, 3), "output": nn.Dense(4)}

    def function(self, F, x):
        x = F.Pooling(self.stem(x), kernel=(2, 2), stride=(2, 2), pool_type="avg")
        return self.output(F.relu(self.mixed(F.concat(self.left(x), self.right(x), dim=1))))


class Depthwise(Small):
    """MobileNet-v2's block: ReLU6, a depthwise convolution, and a sum without a ReLU."""

    @staticmethod
    def layers():
        return {"wide": nn.Conv2D(8, 1, use_bias=False), "wide_norm": nn.BatchNorm(),
                "depthwise": nn.Conv2D(8, 3, padding=1, groups=8, use_bias=False), "depthwise_norm": nn.BatchNorm(),
                "narrow": nn.Conv2D(3, 1), "output": nn.Dense(4)}

    def function(self, F, x):
        y = F.clip(self.wide_norm(self.wide(x)), 0, 6)
        y = F.clip(self.depthwise_norm(self.depthwise(y)), 0, 6)
        return self.output(self.narrow(y) + x)


class Mlp(Small):
    @staticmethod
    def layers():
        return {"hidden": nn.Dense(12, activation="relu"), "second": nn.Dense(8), "output": nn.Dense(4)}

    def function(self, F, x):
        return self.output(F.relu(self.second(self.hidden(x))))


def residual():
    return ResNet(18, 4, thumbnail=True, width=4)


NETWORKS = {NormNet: (16, 3, 8, 8), Branches: (16, 2, 12, 12), OwnWeight: (16, 1, 8, 8), SharedWeights: (16, 6),
            residual: (16, 3, 8, 8), Concatenated: (16, 2, 10, 10), Depthwise: (16, 3, 6, 6), Mlp: (16, 6)}


def prepared(network, bits=8, seed=0, **arguments):
    net, example = build(network, NETWORKS[network], seed)
    return prepare_qat(net, [example], bits=bits, progress=False, **arguments), net, example


def train(qat, inputs, targets, steps=8, rate=2e-3, optimizer="adam"):
    """Mean squared error on one batch; the losses."""
    trainer = gluon.Trainer(qat.collect_params(), optimizer, {"learning_rate": rate})
    losses = []
    for _ in range(steps):
        with autograd.record():
            loss = (qat(inputs) - targets).square().mean()
        loss.backward()
        trainer.step(1)
        losses.append(float(loss.asscalar()))
    return losses


def gradients(qat, inputs, head=None):
    """{name: gradient} of a sum of outputs, that of the first input as "input"."""
    inputs = inputs.copy()
    inputs.attach_grad()
    with autograd.record():
        outputs = qat(inputs)
    outputs.backward(mx.nd.ones_like(outputs) if head is None else head)
    found = {name: parameter.grad().asnumpy() for name, parameter in qat.collect_params().items()
             if parameter.grad_req != "null"}
    return {**found, "input": inputs.grad.asnumpy()}


def assert_same_outputs(found, expected, units=1e-5):
    """Up to ``units`` of the largest output; the same top-1 but for ties."""
    found, expected = found.asnumpy(), expected.asnumpy()
    largest = np.abs(expected).max()
    np.testing.assert_allclose(found, expected, rtol=0, atol=units * largest)
    ordered = np.sort(expected, axis=-1)
    clear = ordered[..., -1] - ordered[..., -2] > 2 * units * largest
    assert clear.any()
    np.testing.assert_array_equal(found.argmax(-1)[clear], expected.argmax(-1)[clear])


def simulated(make, *arguments, **settings):
    """``make(..., simulate=True)`` with 8 bits in full, which are what is trained, on whatever processor."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(onednn, "saturates", lambda: False)
        return make(*arguments, simulate=True, **settings)


# what it computes


@pytest.mark.parametrize("bits", [8, 3])
@pytest.mark.parametrize("network", NETWORKS)
def test_before_training_it_is_what_quantize_makes(network, bits):
    qat, net, example = prepared(network, bits)
    integer = simulated(quantize, net, [example], method="mse", bits=bits, correct_bias=False, equalize=False,
                        progress=False)
    assert_same_outputs(qat(example), integer(example), units=1e-4)  # scales computed in the graph and in NumPy


@pytest.mark.parametrize("bits", [8, 4, 2])
@pytest.mark.parametrize("network", NETWORKS)
def test_conversion_computes_what_was_trained(network, bits):
    qat, net, example = prepared(network, bits)
    before = qat(example)
    targets = mx.nd.random.normal(shape=before.shape) * before.abs().mean()
    losses = train(qat, example, targets, rate=0.003)
    trained = qat(example)
    assert min(losses[3:]) < losses[0]
    assert np.abs((trained - before).asnumpy()).max() > 0.01 * np.abs(before.asnumpy()).max()
    assert_same_outputs(simulated(qat.convert)(example), trained)


@pytest.mark.parametrize("network", NETWORKS)
def test_conversion_to_the_integer_kernels(network):
    qat, net, example = prepared(network)
    train(qat, example, net(example), steps=4)
    converted, trained = qat.convert(), qat(example).asnumpy()
    assert not converted.simulated
    found, expected = converted(example).asnumpy(), qat.convert(simulate=True)(example).asnumpy()
    error = np.abs(found - expected).reshape(len(found), -1).max(axis=1) / np.abs(expected).max()
    assert np.median(error) < 1e-5 and error.max() < 0.2  # where a sum lies between two codes, it may go either way
    assert (found.argmax(-1) == expected.argmax(-1)).mean() > 0.9
    exact = 0.1 if onednn.saturates() else 1e-3  # of 8 bits, a saturating processor uses fewer
    assert np.linalg.norm(expected - trained) < exact * np.linalg.norm(trained)


def test_forward_pass_by_hand():
    qat, net, example = prepared(Mlp, bits=3)
    parameters = {name: value.data().asnumpy().astype(np.float64) for name, value in qat.collect_params().items()}

    def rounded(x, threshold, low, high):
        scale = abs(parameters[threshold][0]) / high
        return np.clip(np.rint(x / scale), low, high) * scale, scale

    def layer(name, x, input_scale):
        weight = parameters[f"{name}.weight"]
        scale = np.abs(weight).max(axis=1, keepdims=True) * parameters[f"{name}.weight_clip"][:, None] / 3
        unit = scale[:, 0] * input_scale
        rounded_weight = np.clip(np.rint(weight / scale), -3, 3) * scale
        return x @ rounded_weight.T + np.rint(parameters[f"{name}.bias"] / unit) * unit
    x, scale = rounded(example.asnumpy(), "hidden.input_threshold", -4, 3)
    x, scale = rounded(layer("hidden", x, scale), "hidden.output_threshold", 0, 7)
    x, scale = rounded(layer("second", x, scale), "second.output_threshold", 0, 7)
    np.testing.assert_allclose(qat(example).asnumpy(), layer("output", x, scale), rtol=1e-4, atol=1e-5)


# gradients


def one_layer(bits=8, threshold=1.0, bias=0.0):
    """A dense layer without rounding at its end, and its input's threshold."""
    mx.random.seed(0)
    net = nn.Dense(3, in_units=5)
    net.initialize(mx.init.Normal(0.5))
    qat = prepare_qat(net, [mx.nd.array([[-1, 1, 0.5, 0.3, 0.1]])], bits=bits, progress=False)
    parameters = {name.split(".")[-1]: parameter for name, parameter in qat.collect_params().items()}
    (threshold_name,) = [name for name in parameters if "threshold" in name]
    parameters[threshold_name].set_data(mx.nd.array([threshold]))
    parameters["bias"].set_data(mx.nd.full(3, bias))
    if bits < 8:
        parameters["weight_clip"].set_data(mx.nd.ones(3))
    return qat, parameters, threshold_name


def quantized_rows(weight, bits):
    """8 bits on the kernels' grid of 127.5 steps, others on the symmetric one."""
    steps, low, high = (127.5, -128, 127) if bits == 8 else (
        2 ** (bits - 1) - 1, 1 - 2 ** (bits - 1), 2 ** (bits - 1) - 1)
    scale = np.abs(weight).max(axis=1, keepdims=True) / steps
    return np.clip(np.rint(weight / scale * (1 + 1e-6)), low, high) * scale


@pytest.mark.parametrize("bits", [8, 4, 2])
def test_inside_the_range_the_gradient_is_that_without_rounding(bits):
    qat, parameters, _ = one_layer(bits, threshold=2.0)
    x = mx.nd.random.uniform(-1.5, 1.5, shape=(7, 5))
    head = mx.nd.random.normal(shape=(7, 3))
    found = gradients(qat, x, head)
    high = 2 ** (bits - 1) - 1
    x_rounded = np.clip(np.rint(x.asnumpy() / 2 * high), -high - 1, high) * 2 / high
    weight = parameters["weight"].data().asnumpy()
    np.testing.assert_allclose(found["input"], head.asnumpy() @ quantized_rows(weight, bits), rtol=1e-4, atol=1e-5)
    np.testing.assert_allclose(found[parameters["weight"].name], head.asnumpy().T @ x_rounded, rtol=1e-4, atol=1e-5)
    np.testing.assert_allclose(found[parameters["bias"].name], head.asnumpy().sum(axis=0), rtol=1e-4)


@pytest.mark.parametrize("bits", [8, 4, 2])
@pytest.mark.parametrize("sign", [1, -1])
def test_outside_the_range_the_gradient_goes_to_the_threshold(bits, sign):
    qat, parameters, name = one_layer(bits, threshold=0.7)
    x = sign * mx.nd.random.uniform(2, 3, shape=(4, 5))
    found = gradients(qat, x)
    assert (found["input"] == 0).all()
    sums = []
    for threshold in (0.8, 0.6):  # linear in it: any step will do
        parameters[name].set_data(mx.nd.array([threshold]))
        sums.append(float(qat(x).sum().asscalar()))
    high = 2 ** (bits - 1) - 1
    scale = high ** 2 / np.sqrt(high * 5)  # of LSQ's gradients, see TrainingEmitter
    np.testing.assert_allclose(found[parameters[name].name], (sums[0] - sums[1]) / 0.2 * scale, rtol=1e-3)


def test_inside_the_range_the_threshold_learns_from_what_rounding_loses():
    qat, parameters, name = one_layer(bits=4, threshold=1.0)
    x = mx.nd.random.uniform(-0.9, 0.9, shape=(6, 5))
    found = gradients(qat, x)[parameters[name].name]
    codes = x.asnumpy() * 7
    of_value = (np.rint(codes) - codes) / 7
    weight = quantized_rows(parameters["weight"].data().asnumpy(), 4)
    np.testing.assert_allclose(found, (of_value @ weight.T).sum() * 49 / np.sqrt(7 * 5), rtol=1e-3)


def test_the_clip_of_a_weight_learns_as_a_step_size_does():
    """Esser et al., 2019, equation 3: round(c) - c inside, the end outside, where the weight itself learns nothing."""
    qat, parameters, _ = one_layer(bits=3, threshold=2.0)
    clip = np.float32([0.9, 0.6, 0.4])
    parameters["weight_clip"].set_data(mx.nd.array(clip))
    x, head = mx.nd.random.uniform(-1.5, 1.5, shape=(7, 5)), mx.nd.random.normal(shape=(7, 3))
    found = gradients(qat, x, head)
    weight = parameters["weight"].data().asnumpy()
    largest = np.abs(weight).max(axis=1)
    codes = weight / (clip * largest / 3)[:, None]
    inside = np.abs(codes) <= 3
    assert 0 < inside.sum() < inside.size
    of_rounded = head.asnumpy().T @ (np.clip(np.rint(x.asnumpy() / 2 * 3), -4, 3) * 2 / 3)  # dL / dw^
    of_step = np.where(inside, np.rint(codes) - codes, 3 * np.sign(codes))
    expected = (of_rounded * of_step).sum(axis=1) * largest / 3 / np.sqrt(5 * 3)
    np.testing.assert_allclose(found[parameters["weight_clip"].name], expected, rtol=1e-3, atol=1e-5)
    np.testing.assert_allclose(found[parameters["weight"].name], of_rounded * inside, rtol=1e-3, atol=1e-5)


def test_clips_begin_as_quantize_cuts():
    qat, net, example = prepared(Mlp, bits=2)
    weight = net.hidden.weight.data().asnumpy()
    _, scale = gc.quantization.quantize_array(weight, 2, 0, clip="mse")
    np.testing.assert_allclose(qat.collect_params()["hidden.weight_clip"].data().asnumpy(),
                               scale / np.abs(weight).max(axis=1), rtol=1e-5)
    qat, *_ = prepared(Mlp, bits=3)
    np.testing.assert_allclose(qat.collect_params()["hidden.weight_clip"].data().asnumpy(), 1, rtol=1e-6)
    assert not [name for name in prepared(Mlp)[0].collect_params() if name.endswith("clip")]


def cosine(one, other):
    return (one * other).sum() / np.linalg.norm(one) / np.linalg.norm(other)


def test_gradients_of_8_bits_are_nearly_those_of_fp32():
    """With 8 bits and no clipping, gradients are nearly those of the fp32 network."""
    qat, net, example = prepared(Concatenated, method="minmax")
    found = gradients(qat, example)
    example.attach_grad()
    with autograd.record():
        outputs = net(example)
    outputs.backward()
    expected = {name: parameter.grad().asnumpy() for name, parameter in net._collect_params_with_prefix().items()}
    for name, gradient in expected.items():
        assert cosine(found[name], gradient) > 0.97, name
        assert np.linalg.norm(found[name]) == pytest.approx(np.linalg.norm(gradient), rel=0.1), name


@pytest.mark.parametrize("network", NETWORKS)
def test_every_trained_parameter_has_a_gradient(network):
    qat, net, example = prepared(network, bits=4)
    found = gradients(qat, example, mx.nd.random.normal(shape=net(example).shape))
    assert len(found) > 3
    assert all(np.isfinite(gradient).all() for gradient in found.values())
    assert [name for name, gradient in found.items() if not gradient.any()] == []


def test_a_layer_called_twice_has_one_weight_and_gets_both_gradients():
    qat, net, example = prepared(SharedWeights)
    names = list(qat.collect_params())
    assert [name for name in names if name.endswith("weight")] == ["first.weight", "second.weight", "output.weight"]
    assert [name for name in names if name.endswith("bias")] == ["first.bias", "second.bias", "output.bias"]
    found = gradients(qat, example)["second.weight"]
    with autograd.record():
        outputs = net(example)
    outputs.backward()
    assert cosine(found, net.second.weight.grad().asnumpy()) > 0.97


def test_a_weight_that_an_embedding_shares_stays_one():
    embedding = nn.Embedding(11, 6)
    net = Net(lambda net, F, x: net.output(F.relu(net.hidden(net.embedding(x)))), embedding=embedding,
              hidden=nn.Dense(6), output=nn.Dense(11, in_units=6, params=embedding.params))
    net.initialize()
    tokens = mx.nd.array([[1, 2], [3, 10]])
    net(tokens)
    qat = prepare_qat(net, [tokens], progress=False)
    weights = [name for name in qat.collect_params() if name.endswith("weight")]
    assert sorted(weights) == ["embedding.weight", "hidden.weight"]
    assert qat.record.left_out == {"embedding": "Embedding reads its weight, too"}
    train(qat, tokens, mx.nd.ones((2, 11)))
    assert_same_outputs(simulated(qat.convert)(tokens), qat(tokens))


# thresholds


def thresholds(qat):
    return {name: float(parameter.data().asscalar()) for name, parameter in qat.collect_params().items()
            if name.endswith("threshold")}


def test_the_sign_of_a_threshold_means_nothing():
    qat, net, example = prepared(Concatenated)
    before = qat(example).asnumpy()
    for name, value in thresholds(qat).items():
        qat.collect_params()[name].set_data(mx.nd.array([-value]))
    np.testing.assert_array_equal(qat(example).asnumpy(), before)
    assert_same_outputs(simulated(qat.convert)(example), mx.nd.array(before))


def test_a_threshold_of_zero_still_trains_and_converts():
    qat, net, example = prepared(Mlp)
    qat.collect_params()["hidden.input_threshold"].set_data(mx.nd.zeros(1))
    assert all(np.isfinite(gradient).all() for gradient in gradients(qat, example).values())
    converted = qat.convert(simulate=True)
    assert np.isfinite(converted(example).asnumpy()).all()


def test_what_meets_in_a_concatenation_has_one_threshold():
    qat, net, example = prepared(Concatenated)
    found = thresholds(qat)
    assert ("left.output_threshold" in found) != ("right.output_threshold" in found)
    assert "mixed.input_threshold" not in found


def test_above_its_ceiling_a_threshold_has_no_effect():
    qat, net, example = prepared(Depthwise)
    name = "wide.output_threshold"
    outputs = []
    for value in (6.0, 9.0):
        qat.collect_params()[name].set_data(mx.nd.array([value]))
        outputs.append(qat(example * 20).asnumpy())
        assert_same_outputs(simulated(qat.convert)(example * 20), mx.nd.array(outputs[-1]))
    np.testing.assert_array_equal(*outputs)
    qat.collect_params()[name].set_data(mx.nd.array([3.0]))
    assert not np.array_equal(qat(example * 20).asnumpy(), outputs[0])


def test_shifted_shortcuts_keep_their_offset_and_have_no_negative_outputs():
    qat, net, example = prepared(residual)
    offsets = {name: parameter.data().asscalar() for name, parameter in qat.collect_params().items()
               if name.endswith("offset")}
    assert len(offsets) == 3 and all(value > 0 for value in offsets.values())
    train(qat, example, mx.nd.zeros((16, 4)))
    assert offsets == {name: qat.collect_params()[name].data().asscalar() for name in offsets}


def test_weight_decay_leaves_thresholds_alone():
    qat, net, example = prepared(Mlp)
    before = thresholds(qat)
    trainer = gluon.Trainer(qat.collect_params(), "sgd", {"learning_rate": 0.1, "wd": 0.5})
    weight = qat.collect_params()["hidden.weight"].data().asnumpy()
    with autograd.record():
        loss = qat(example).sum() * 0
    loss.backward()
    trainer.step(1)
    assert thresholds(qat) == before
    np.testing.assert_allclose(qat.collect_params()["hidden.weight"].data().asnumpy(), 0.95 * weight, rtol=1e-5)


# what is trained, and what stays


def test_the_network_stays_as_it_was_and_so_do_statistics_and_constants():
    layer = nn.Conv2D(4, 3)
    net = Net(lambda net, F, x, table: F.broadcast_mul(net.norm(net.conv(net.first(x))), table), first=nn.BatchNorm(),
              conv=layer, norm=nn.BatchNorm())
    net.table = net.params.get_constant("table", mx.nd.full((1,), 3))
    net.initialize()
    example = mx.nd.random.normal(shape=(8, 2, 6, 6))
    with autograd.record():
        net(example)
    before = values(net)
    qat = prepare_qat(net, [example], progress=False)
    fixed = {name: parameter.data().asnumpy() for name, parameter in qat.collect_params().items()
             if name.endswith(("mean", "var", "table"))}
    own = [f"scaling{channels}.running_{what}" for channels in (2, 4) for what in ("mean", "var")]
    assert sorted(fixed) == ["first.running_mean", "first.running_var", *own, "table"]
    train(qat, example, mx.nd.zeros((8, 4, 4, 4)))
    assert identical(before, values(net))
    for name, value in fixed.items():
        np.testing.assert_array_equal(qat.collect_params()[name].data().asnumpy(), value)
    np.testing.assert_allclose(simulated(qat.convert)(example).asnumpy(), qat(example).asnumpy(), atol=1e-5)


def test_training_mode_computes_what_inference_does():
    qat, net, example = prepared(NormNet)
    with autograd.record():
        in_training = qat(example)
    np.testing.assert_array_equal(in_training.asnumpy(), qat(example).asnumpy())


def test_a_bias_before_batch_norm_is_trained_in_its_beta():
    qat, net, example = prepared(NormNet)
    names = set(qat.collect_params())
    assert "features.4.bias" not in names and "features.5.beta" in names
    qat.collect_params()["features.5.beta"].set_data(mx.nd.full(12, 0.25))
    converted = qat.convert(simulate=True)
    assert (converted.fp32_values()["features.5.beta"] == 0.25).all()
    assert (converted.fp32_values()["features.4.bias"] == 0).all()


@pytest.mark.parametrize("exclude", [["stem"], ["Dense"], ["left", "head"], ["right"]])
def test_excluded_layers_are_trained_in_fp32(exclude):
    qat, net, example = prepared(Branches, bits=3, exclude=exclude)
    before = {name: parameter.data().asnumpy() for name, parameter in qat.collect_params().items()}
    train(qat, example, net(example) + 1)
    converted = qat.convert(simulate=True)
    assert_same_outputs(converted(example), qat(example))
    assert set(converted.record.left_out) == {name for name in ("stem", "left", "right", "side", "head")
                                              if name in exclude or "Dense" in exclude and name in ("side", "head")}
    for name in converted.record.left_out:
        trained = qat.collect_params()[f"{name}.weight"].data().asnumpy()
        assert not np.array_equal(trained, before[f"{name}.weight"])
        np.testing.assert_array_equal(converted.rest[f"{name}.weight"], trained)


def test_a_layer_without_integer_kernel_is_trained_in_fp32():
    net = nn.HybridSequential()
    net.add(nn.Conv2D(4, 3, activation="relu"), nn.Conv2DTranspose(4, 2, strides=2), nn.Dense(3))
    net.initialize()
    example = mx.nd.random.normal(shape=(8, 2, 6, 6))
    net(example)
    qat = prepare_qat(net, [example], bits=4, progress=False)
    losses = train(qat, example, mx.nd.ones((8, 3)))
    assert losses[-1] < losses[0]
    assert "1" in qat.convert(simulate=True).record.left_out
    assert_same_outputs(qat.convert(simulate=True)(example), qat(example))


def test_a_symbol_block(tmp_path):
    net, example = build(NormNet, NETWORKS[NormNet])
    block = exported(net, example, tmp_path)
    qat = prepare_qat(block, [example], bits=4, progress=False)
    losses = train(qat, example, mx.nd.ones((16, 5)))
    assert losses[-1] < losses[0]
    assert_same_outputs(qat.convert(simulate=True)(example), qat(example))


def test_hybridized_or_not():
    found = []
    for static in (None, False, True):
        qat, net, example = prepared(residual, bits=4)
        if static is not None:
            qat.hybridize(static_alloc=static, static_shape=static)
        losses = train(qat, example, mx.nd.zeros((16, 4)), steps=4)
        found.append((losses, qat(example).asnumpy()))
    for losses, outputs in found[1:]:
        np.testing.assert_allclose(losses, found[0][0], rtol=1e-5)
        np.testing.assert_allclose(outputs, found[0][1], rtol=1e-4, atol=1e-5)


def test_parameters_are_saved_and_loaded(tmp_path):
    qat, net, example = prepared(residual, bits=4)
    train(qat, example, mx.nd.zeros((16, 4)))
    qat.save_parameters(str(tmp_path / "qat.params"))
    other = prepare_qat(net, [example * 3], bits=4, progress=False)  # other thresholds and offsets
    assert not np.array_equal(other(example).asnumpy(), qat(example).asnumpy())
    other.load_parameters(str(tmp_path / "qat.params"))
    np.testing.assert_array_equal(other(example).asnumpy(), qat(example).asnumpy())
    assert_same_outputs(other.convert(simulate=True)(example), qat(example))


def bright_lines(seed):
    """Images of noise with a row and a column that are brighter or darker: four classes."""
    random = np.random.RandomState(seed)
    labels = random.randint(4, size=1200)
    images = random.normal(0, 0.65, (1200, 1, 8, 8)).astype(np.float32)
    for image, label in zip(images[:, 0], labels):
        image[random.randint(8), :] += 1 if label & 1 else -1
        image[:, random.randint(8)] += 1 if label & 2 else -1
    return mx.nd.array(images), mx.nd.array(labels)


def classify(net, images, labels, steps, rate):
    net.hybridize()
    trainer = gluon.Trainer(net.collect_params(), "adam", {"learning_rate": rate})
    for step in range(steps):
        batch = slice(step % 8 * 100, step % 8 * 100 + 100)
        with autograd.record():
            loss = gluon.loss.SoftmaxCrossEntropyLoss()(net(images[batch]), labels[batch])
        loss.backward()
        trainer.step(100)


def test_three_bits_gain_by_training():
    gains = []
    for seed in range(3):
        images, labels = bright_lines(seed)
        mx.random.seed(seed)
        net = nn.HybridSequential()
        for channels in (8, 12, 16):
            net.add(nn.Conv2D(channels, 3, padding=1, use_bias=False), nn.BatchNorm(), nn.Activation("relu"),
                    nn.MaxPool2D(2))
        net.add(nn.Dense(24, activation="relu"), nn.Dense(4))
        net.initialize(mx.init.Xavier())
        classify(net, images, labels, 120, 0.01)
        untrained = [quantize(net, [images[:800]], bits=3, method="mse", clip=clip, simulate=True, progress=False)
                     for clip in ("max", "mse")]
        qat = prepare_qat(net, [images[:800]], bits=3, progress=False)
        classify(qat, images, labels, 60, 0.005)

        def accuracy(net, images=images, labels=labels):
            return (net(images[800:]).asnumpy().argmax(axis=1) == labels[800:].asnumpy()).mean()
        gains.append(accuracy(qat.convert(simulate=True)) - max(map(accuracy, untrained)))
    assert min(gains) > 0.01 and np.mean(gains) > 0.04  # measured: 0.038, 0.104, 0.045


# what is refused


def test_wrong_arguments():
    net, example = build(Mlp, NETWORKS[Mlp])
    before = values(net)
    for arguments, error, message in [
            ({"bits": 1}, ValueError, "bits"), ({"bits": 9}, ValueError, "bits"), ({"bits": 2.5}, TypeError, "bits"),
            ({"method": "best"}, ValueError, "method"), ({"batches": 0}, ValueError, "batches"),
            ({"percentile": 0}, ValueError, "percentile"), ({"exclude": ["hiden"]}, ValueError, "hiden"),
            ({"exclude": 5}, TypeError, "exclude"), ({"exclude": ["Dense"]}, ValueError, "no layer")]:
        with pytest.raises(error, match=message):
            prepare_qat(net, [example], progress=False, **arguments)
    for data, error, message in [
            ([], ValueError, "no batches"), (example, TypeError, "calibration data"), ([object()], TypeError, "object"),
            ([mx.nd.full((2, 6), np.nan)], ValueError, "not finite"), (None, TypeError, "data is None")]:
        with pytest.raises(error, match=message):
            prepare_qat(net, data, progress=False)
    assert identical(before, values(net))


def test_wrong_networks():
    example = mx.nd.ones((2, 3))
    net = nn.Dense(2)
    with pytest.raises(NetworkError, match="initialized"):
        prepare_qat(net, [example], progress=False)
    with pytest.raises(TypeError, match="HybridBlock"):
        prepare_qat(nn.Sequential(), [example], progress=False)
    with pytest.raises(ValueError, match="no layer"):
        prepare_qat(Function(lambda F, x: F.relu(x)), [example], progress=False)
    net.initialize()
    net(example)
    qat = prepare_qat(net, [example], progress=False)
    for quantized in (qat, qat.convert(simulate=True)):
        with pytest.raises(NetworkError, match="already"):
            prepare_qat(quantized, [example], progress=False)
        with pytest.raises(NetworkError, match="already"):
            quantize(quantized, [example], simulate=True, progress=False)
    net.weight.set_data(mx.nd.full((2, 3), np.nan))
    with pytest.raises(NetworkError, match="finite"):
        prepare_qat(net, [example], progress=False)


def test_conversion_that_cannot_be():
    qat, net, example = prepared(Mlp, bits=4)
    with pytest.raises(NetworkError, match="8 bits only"):
        qat.convert()
    qat.collect_params()["second.bias"].set_data(mx.nd.full(8, np.inf))
    with pytest.raises(NetworkError, match="second.bias is not finite"):
        qat.convert(simulate=True)


def test_the_record():
    qat, net, example = prepared(Mlp, bits=4, exclude=["output"])
    assert isinstance(qat, QatNetwork)
    train(qat, example, mx.nd.ones((16, 4)), rate=0.05)
    record = qat.convert(simulate=True).record
    found = thresholds(qat)
    assert record.layers["hidden"]["input"][0] == pytest.approx(found["hidden.input_threshold"])
    assert record.layers["hidden"]["output"][0] == record.layers["second"]["input"][0]
    assert record.layers["hidden"]["output"] != qat.record.layers["hidden"]["output"]
    assert record.left_out == {"output": "Dense, excluded"} and "trained" in record.calibration
    assert "hidden" in qat.summary()
