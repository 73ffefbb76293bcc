"""Feature losses against NumPy and finite differences; the matcher: same network, same training, adapters beside it."""
from gluon_compress import CheckpointError

import mxnet as mx  # noqa: I001
import numpy as np
import pytest
from gluon_compress.distillation import DistillationLoss, FeatureLoss, FeatureMatcher, distill
from gluon_compress.distillation.feature_losses import KINDS
from gluon_compress.errors import NetworkError
from gluon_compress.pruning import MaskedTrainer, prune_channels, prune_magnitude
from gluon_compress.quantization import prepare_qat, quantize
from hypothesis import given, settings
from hypothesis import strategies as st
from mxnet import autograd
from mxnet.gluon import Trainer, nn
from networks import Function, Net, NormNet, build, exported, fresh, identical, values

RNG = np.random.default_rng(0)
LABELS = mx.nd.array([0, 1, 2, 3, 4, 0])


def images(seed=0, batch=6):
    return mx.nd.array(np.random.default_rng(seed).normal(size=(batch, 3, 8, 8)))


def batches(number=3):
    return [(images(seed), LABELS) for seed in range(number)]


# The losses, one sample and one pair at a time, as the papers write them.

def numpy_hint(student, teacher):
    return [0.5 * ((ours - theirs) ** 2).sum() / ours.size for ours, theirs in zip(student, teacher)]


def numpy_attention(student, teacher):
    def normalized_map(sample):
        q = sum(channel ** 2 for channel in sample).ravel()
        return q / np.linalg.norm(q)
    return [np.linalg.norm(normalized_map(ours) - normalized_map(theirs)) ** 2 / ours[0].size
            for ours, theirs in zip(student, teacher)]


def numpy_similarity(student, teacher):
    def similarities(features):
        g = np.array([[np.dot(a.ravel(), b.ravel()) for b in features] for a in features])
        return np.array([row / np.linalg.norm(row) for row in g])
    difference = similarities(teacher) - similarities(student)
    return (difference ** 2).sum(axis=1) / len(student)


def numpy_relational(student, teacher):
    def potentials(features):
        distances = np.array([[np.linalg.norm((a - b).ravel()) for b in features] for a in features])
        return distances / distances[~np.eye(len(features), dtype=bool)].mean() if len(features) > 1 else distances

    def huber(x):
        return 0.5 * x ** 2 if abs(x) <= 1 else abs(x) - 0.5
    ours, theirs = potentials(student), potentials(teacher)
    return [np.mean([huber(theirs[i, j] - ours[i, j]) for j in range(len(ours))]) for i in range(len(ours))]


REFERENCES = {"hint": numpy_hint, "attention": numpy_attention, "similarity": numpy_similarity,
              "relational": numpy_relational}


def pair_of_features(kind, rng, batch=4, scale=1.0):
    """Features of a student and a teacher, of as different shapes as the loss takes."""
    ours, theirs = (3, 4, 2), {"hint": (3, 4, 2), "attention": (5, 4, 2)}.get(kind, (6,))
    return [(scale * rng.normal(loc=0.3, size=(batch, *shape))).astype(np.float32) for shape in (ours, theirs)]


@pytest.mark.parametrize("kind", KINDS)
@given(seed=st.integers(0, 2 ** 32 - 1), batch=st.integers(1, 6), scale=st.sampled_from([0.01, 1, 100]))
@settings(max_examples=15)
def test_losses_are_the_papers_formulas(kind, seed, batch, scale):
    student, teacher = pair_of_features(kind, np.random.default_rng(seed), batch, scale)
    losses = KINDS[kind](mx.nd, mx.nd.array(student), mx.nd.array(teacher)).asnumpy()
    assert losses.shape == (batch,)
    expected = REFERENCES[kind](student.astype(np.float64), teacher.astype(np.float64))
    np.testing.assert_allclose(losses, expected, rtol=1e-3, atol=1e-6)


@pytest.mark.parametrize("kind", KINDS)
def test_gradients_agree_with_finite_differences(kind):
    student, teacher = pair_of_features(kind, RNG)
    given_to_it = mx.nd.array(student)
    given_to_it.attach_grad()
    with autograd.record():
        losses = KINDS[kind](mx.nd, given_to_it, mx.nd.array(teacher))
    losses.backward()
    expected, step = np.zeros(student.shape), 1e-6
    for index in np.ndindex(*student.shape):
        up, down = student.astype(np.float64), student.astype(np.float64)
        up[index] += step
        down[index] -= step
        expected[index] = (np.sum(REFERENCES[kind](up, teacher.astype(np.float64)))
                           - np.sum(REFERENCES[kind](down, teacher.astype(np.float64)))) / (2 * step)
    np.testing.assert_allclose(given_to_it.grad.asnumpy(), expected, rtol=1e-3, atol=1e-5)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("case", ["same", "dead", "equal samples", "one sample", "dead sample"])
def test_degenerate_features_have_finite_losses_and_gradients(kind, case):
    student, teacher = pair_of_features(kind, np.random.default_rng(1))
    if case == "same":
        teacher = student.copy()
    elif case == "dead":
        student = np.zeros_like(student)
    elif case == "equal samples":
        student[:] = student[0]
    elif case == "dead sample":
        student[1] = 0
    else:
        student, teacher = student[:1], teacher[:1]
    given_to_it = mx.nd.array(student)
    given_to_it.attach_grad()
    with autograd.record():
        losses = KINDS[kind](mx.nd, given_to_it, mx.nd.array(teacher))
    losses.backward()
    assert np.isfinite(losses.asnumpy()).all()
    assert np.isfinite(given_to_it.grad.asnumpy()).all()
    if case == "same":
        np.testing.assert_allclose(losses.asnumpy(), 0, atol=1e-10)
        np.testing.assert_allclose(given_to_it.grad.asnumpy(), 0, atol=1e-5)


@pytest.mark.parametrize("kind", ["attention", "similarity", "relational"])
def test_losses_do_not_depend_on_the_size_of_features(kind):
    student, teacher = (mx.nd.array(features) for features in pair_of_features(kind, RNG))
    plain = KINDS[kind](mx.nd, student, teacher).asnumpy()
    np.testing.assert_allclose(KINDS[kind](mx.nd, 7 * student, teacher / 3).asnumpy(), plain, rtol=1e-3, atol=1e-6)


# The matcher.

def recorded(net, names, inputs):
    """The outputs of these blocks, by hooks on a network that is not hybridized."""
    found = {}
    handles = []
    for name in names:
        block = net
        for part in name.split("."):
            block = block._children[part]
        handles.append(block.register_forward_hook(
            lambda block, inputs, output, name=name: found.__setitem__(name, output.asnumpy())))
    net(inputs)
    for handle in handles:
        handle.detach()
    return [found[name] for name in names]


def test_features_are_the_layers_outputs():
    names = ["features.2", "features.4", "features.7", "features", "output", "features.4"]
    student, teacher, inputs = build(NormNet)[0], build(NormNet, seed=1)[0], images()
    features = [FeatureLoss(name, name, "similarity") for name in names]
    matcher = FeatureMatcher(student, teacher, features, inputs)
    for net, outputs in ((student, matcher.student_outputs), (teacher, matcher.teacher_outputs)):
        logits, found = outputs(inputs)
        np.testing.assert_allclose(logits.asnumpy(), net(inputs).asnumpy(), rtol=1e-4, atol=1e-5)
        for ours, expected in zip(found, recorded(net, names, inputs)):
            np.testing.assert_allclose(ours.asnumpy(), expected, rtol=1e-4, atol=1e-5)
    assert not any(block._forward_hooks for block in (student.output, *student.features, student.features))


def test_outputs_of_a_symbol_block_go_by_name(tmp_path):
    net, teacher, inputs = build(NormNet)[0], build(NormNet, seed=1)[0], images()
    expected = recorded(net, ["features.4"], inputs)[0]
    imported = exported(net, inputs, tmp_path)
    name = net.features[4].name + "_fwd"
    for given_name in (name, f"{name}_output"):
        matcher = FeatureMatcher(imported, teacher, [FeatureLoss(given_name, "features.4")], inputs)
        np.testing.assert_allclose(matcher.student_outputs(inputs)[1][0].asnumpy(), expected, rtol=1e-4, atol=1e-5)
    with pytest.raises(ValueError, match=f"features names the student's layer .*{name}"):
        FeatureMatcher(imported, teacher, [FeatureLoss(name + "x", "features.4")], inputs)


@pytest.mark.parametrize("hybridize", [False, True])
def test_with_weight_zero_the_student_trains_as_alone(hybridize):
    """Weights and BatchNorm's statistics; the last steps with another batch size."""
    data = [*batches(3), (images(5, 2), LABELS[:2])]
    results = []
    for matched in (False, True):
        student, teacher = build(NormNet)[0], build(NormNet, seed=1)[0]
        student.features[12]._rate = 0
        if hybridize:
            student.hybridize(static_alloc=True, static_shape=True)
        matcher = FeatureMatcher(student, teacher, [FeatureLoss("features.2", "features.4", weight=0)], images())
        trainer = Trainer(student.collect_params(), "sgd", {"learning_rate": 0.05, "momentum": 0.9})
        for inputs, labels in data:
            with autograd.record():
                if matched:
                    logits, _, feature_losses = matcher(inputs)
                else:
                    logits, feature_losses = student(inputs), 0
                losses = mx.gluon.loss.SoftmaxCrossEntropyLoss()(logits, labels) + feature_losses
            losses.backward()
            trainer.step(len(inputs))
        results.append(values(student))
    for name, value in results[0].items():
        np.testing.assert_allclose(results[1][name], value, rtol=1e-4, atol=1e-5, err_msg=name)


def test_dropout_works_in_training_mode_only():
    net = nn.HybridSequential()
    net.add(nn.Dense(64, in_units=6), nn.Dropout(0.5), nn.Dense(3, in_units=64))
    teacher = nn.HybridSequential()
    teacher.add(nn.Dense(64, in_units=6), nn.Dropout(0.5), nn.Dense(3, in_units=64))
    net.initialize()
    teacher.initialize()
    inputs = mx.nd.random.normal(shape=(8, 6))
    matcher = FeatureMatcher(net, teacher, [FeatureLoss("1", "1")], inputs)
    zeros = {mode: (matcher.student_outputs(inputs)[1][0].asnumpy() == 0).mean() for mode in ("inference",)}
    with autograd.train_mode():
        zeros["training"] = (matcher.student_outputs(inputs)[1][0].asnumpy() == 0).mean()
        zeros["teacher"] = (matcher.teacher_outputs(inputs)[1][0].asnumpy() == 0).mean()
    assert zeros["inference"] == zeros["teacher"] == 0
    assert 0.3 < zeros["training"] < 0.7


def test_the_loss_is_the_weighted_sum_and_only_the_student_has_gradients():
    student, teacher, inputs = build(NormNet)[0], build(NormNet, seed=1)[0], images()
    features = [FeatureLoss("features.2", "features.0", "attention", 1000), FeatureLoss("features.9", "features.9"),
                FeatureLoss("features.9", "features.7", "similarity", 3), FeatureLoss("output", "output", "relational")]
    matcher = FeatureMatcher(student, teacher, features, inputs)
    assert not matcher.adapters
    before = values(teacher)
    for parameter in teacher.collect_params().values():
        if parameter.grad_req != "null":
            parameter.zero_grad()
    with autograd.record(train_mode=False):
        logits, teacher_logits, losses = matcher(inputs)
    losses.backward()
    expected = np.zeros(len(inputs))
    for feature in features:
        ours, theirs = (recorded(net, [name], inputs)[0].astype(np.float64) for net, name in
                        ((student, feature.student_layer), (teacher, feature.teacher_layer)))
        if feature.kind == "attention":  # 8 x 8 and 8 x 8
            assert ours.shape[2:] == theirs.shape[2:]
        expected += feature.weight * np.array(REFERENCES[feature.kind](ours, theirs))
    np.testing.assert_allclose(losses.asnumpy(), expected, rtol=1e-3)
    np.testing.assert_allclose(teacher_logits.asnumpy(), teacher(inputs).asnumpy(), rtol=1e-4, atol=1e-5)
    assert identical(before, values(teacher))
    for parameter in teacher.collect_params().values():
        assert parameter.grad_req == "null" or not parameter.grad().asnumpy().any()
    assert student.features[0].weight.grad().asnumpy().any()


def pooled(features, height, width):
    """Adaptive average pooling, cell by cell: from floor(i * H / h) to ceil((i + 1) * H / h)."""
    *rest, rows, columns = features.shape
    result = np.empty((*rest, height, width))
    for i in range(height):
        for j in range(width):
            result[..., i, j] = features[..., i * rows // height:-(-(i + 1) * rows // height),
                                         j * columns // width:-(-(j + 1) * columns // width)].mean(axis=(-2, -1))
    return result


@pytest.mark.parametrize("kind", ["hint", "attention"])
@pytest.mark.parametrize(("ours", "theirs"), [("features.2", "features.4"), ("features.4", "features.2")])
def test_widths_and_sizes_that_differ(kind, ours, theirs):
    """8 channels of 8 x 8 beside 12 channels of 4 x 4, either way."""
    student, teacher, inputs = build(NormNet)[0], build(NormNet, seed=1)[0], images()
    matcher = FeatureMatcher(student, teacher, [FeatureLoss(ours, theirs, kind, 2)], inputs)
    of_student, of_teacher = (pooled(recorded(net, [name], inputs)[0].astype(np.float64), 4, 4)
                              for net, name in ((student, ours), (teacher, theirs)))
    if kind == "hint":
        weight, bias = (parameter.data().asnumpy() for parameter in matcher.adapters.values())
        bias = np.linspace(-1, 1, len(bias))
        list(matcher.adapters.values())[1].set_data(mx.nd.array(bias))
        of_student = np.einsum("oc,bcij->boij", weight[:, :, 0, 0], of_student) + bias[:, None, None]
    else:
        assert not matcher.adapters
    _, _, losses = matcher(inputs)
    np.testing.assert_allclose(losses.asnumpy(), 2 * np.array(REFERENCES[kind](of_student, of_teacher)), rtol=1e-3)


def test_pooled_features_of_another_size_than_the_example_are_refused():
    student, teacher = build(NormNet)[0].features[:9], build(NormNet, seed=1)[0].features[:9]
    matcher = FeatureMatcher(student, teacher, [FeatureLoss("2", "4", "attention")], images())
    with pytest.raises(ValueError, match=r"layer 2 of the student and layer 4 of the teacher put out heights and "
                                         r"widths \(\(16, 16\), \(8, 8\)\), and \(\(8, 8\), \(4, 4\)\) for the "):
        matcher(mx.nd.ones((6, 3, 16, 16)))
    assert np.isfinite(matcher(images(1, 4))[2].asnumpy()).all()  # another number of samples is fine


@pytest.mark.parametrize("kind", ["hint", "attention"])
def test_features_that_only_the_example_had_in_one_size(kind):
    """8 x 8 images give both 4 x 4; of 9 x 9 the student makes 5 x 5."""
    def net(kernel, padding):
        made = nn.HybridSequential()
        made.add(nn.Conv2D(4, kernel, 2, padding, in_channels=3), nn.GlobalAvgPool2D(), nn.Dense(5, in_units=4))
        made.initialize()
        return made
    matcher = FeatureMatcher(net(3, 1), net(2, 0), [FeatureLoss("0", "0", kind)], images())
    with pytest.raises(ValueError, match=r"\(\(5, 5\), \(4, 4\)\), and \(\(4, 4\), \(4, 4\)\) for the example"):
        matcher(mx.nd.ones((6, 3, 9, 9)))
    assert matcher(mx.nd.ones((6, 3, 16, 16)))[2].shape == (6,)  # of one size again


def test_networks_in_float64_have_adapters_too():
    student, teacher = build(NormNet, seed=1)[0], build(NormNet)[0]
    student.cast("float64")
    teacher.cast("float64")
    before = values(student)
    distilled(student, teacher, HINTS, data=[(inputs.astype("float64"), labels) for inputs, labels in batches()])
    assert not identical(before, values(student))


def test_a_dense_adapter():
    student, teacher, inputs = build(NormNet)[0], build(NormNet, seed=1)[0], images()
    matcher = FeatureMatcher(student, teacher, [FeatureLoss("features.9", "features.7")], inputs)
    weight, bias = (parameter.data().asnumpy() for parameter in matcher.adapters.values())
    of_student, of_teacher = (recorded(net, [name], inputs)[0].astype(np.float64)
                              for net, name in ((student, "features.9"), (teacher, "features.7")))
    expected = numpy_hint(of_student @ weight.T + bias, of_teacher)
    np.testing.assert_allclose(matcher(inputs)[2].asnumpy(), expected, rtol=1e-3)


def test_hints_alone_pull_the_student_s_layer_to_the_teacher_s():
    """Romero's first stage, in a loop of one's own."""
    student, teacher, inputs = build(NormNet)[0], build(NormNet, seed=1)[0], images()
    mx.random.seed(0)
    matcher = FeatureMatcher(student, teacher, [FeatureLoss("features.2", "features.4")], inputs)
    trainer = Trainer(matcher.collect_params(), "adam", {"learning_rate": 0.01})
    found = []
    for _ in range(60):
        with autograd.record():
            losses = matcher(inputs)[2]
        losses.backward()
        trainer.step(len(inputs), ignore_stale_grad=True)
        found.append(float(losses.mean().asscalar()))
    assert found[-1] < 0.5 * found[0]


# distill(features=...)

def distilled(student, teacher, features, state_path=None, epochs=2, trainer=None, data=None, **arguments):
    return distill(student, teacher, data or batches(), epochs, 3, 0.2, features=features, trainer=trainer,
                   state_path=state_path, progress=False, **arguments)


HINTS = [FeatureLoss("features.2", "features.4", "hint", 0.5), FeatureLoss("features.4", "features.2", "attention", 10)]


def test_distill_trains_student_and_adapters_as_by_hand():
    results = []
    for by_hand in (True, False):
        student, teacher = build(NormNet, seed=2)[0], build(NormNet)[0]
        student.features[12]._rate = 0
        trainer = Trainer(student.collect_params(), "sgd", {"learning_rate": 0.05, "momentum": 0.9})
        if by_hand:
            mx.random.seed(0)  # as distill does
            matcher = FeatureMatcher(student, teacher, HINTS, images())
            trainer = Trainer(matcher.collect_params(), "sgd", {"learning_rate": 0.05, "momentum": 0.9})
            loss = DistillationLoss(3, 0.2)
            for inputs, labels in batches() * 2:
                with autograd.record():
                    logits, teacher_logits, feature_losses = matcher(inputs)
                    losses = loss(logits, labels, teacher_logits) + feature_losses
                losses.backward()
                trainer.step(len(inputs))
        else:
            before = list(trainer._params)
            history = distilled(student, teacher, HINTS, trainer=trainer, schedule=lambda share: 1)
            assert len(history.epochs) == 2
            assert trainer._params == before
            assert set(trainer._optimizer.param_dict.values()) == set(before)
            assert len(trainer._updaters[0].states) == sum(each.grad_req != "null" for each in before)
        results.append(values(student))
    for name, value in results[0].items():
        np.testing.assert_allclose(results[1][name], value, rtol=1e-4, atol=1e-6, err_msg=name)


def test_a_trainer_goes_on_without_the_adapters(tmp_path):
    """Steps after a distillation change the student, and only it; their state can be saved."""
    student, teacher = build(NormNet, seed=2)[0], build(NormNet)[0]
    trainer = Trainer(student.collect_params(), "adam")
    names = list(values(student))
    distilled(student, teacher, HINTS, trainer=trainer)
    assert list(values(student)) == names
    before = values(student)
    distill(student, teacher, batches(), 1, trainer=trainer, state_path=tmp_path / "state", progress=False)
    assert not np.array_equal(before["output.weight"], values(student)["output.weight"])
    distilled(student, teacher, HINTS, trainer=trainer)


def test_a_fresh_student_and_a_masked_trainer():
    student = fresh(NormNet)
    history = distilled(student, build(NormNet)[0], HINTS)
    assert history.epochs[-1]["loss"] < history.epochs[0]["loss"]
    masks = prune_magnitude(student, 0.7)
    distilled(student, build(NormNet)[0], HINTS, trainer=MaskedTrainer(student, masks, "adam"))
    weight = student.features[4].weight.data().asnumpy()
    assert (weight == 0).mean() == pytest.approx(0.7, abs=0.01)


@pytest.mark.parametrize("given_trainer", [False, True])
def test_it_resumes_bit_for_bit(tmp_path, given_trainer):
    def run(state_path=None, stop=False):
        mx.random.seed(99 if stop else 1)  # what was drawn before does not matter
        student, teacher = build(NormNet, seed=2)[0], build(NormNet)[0]
        mx.nd.random.normal(shape=3)
        trainer = Trainer(student.collect_params(), "adam") if given_trainer else None
        data = Stopping(batches(), 7 if stop else 10 ** 6)
        try:
            distilled(student, teacher, HINTS, state_path, 4, trainer, data, seed=5, validation_data=batches(1))
        except KeyboardInterrupt:
            assert stop
        return values(student)
    whole = run()
    run(tmp_path / "state", stop=True)
    assert (tmp_path / "state").exists()
    assert identical(run(tmp_path / "state"), whole)


class Stopping:
    """Batches, and a Ctrl-C in front of the batch of this number."""

    def __init__(self, data, number):
        self.data, self.left = data, number

    def __len__(self):
        return len(self.data)

    def __iter__(self):
        for batch in self.data:
            if self.left == 0:
                raise KeyboardInterrupt
            self.left -= 1
            yield batch


def test_other_features_are_another_run(tmp_path):
    distilled(build(NormNet)[0], build(NormNet, seed=1)[0], HINTS, tmp_path / "state", 1)
    with pytest.raises(CheckpointError, match="'weight': 0.5.* there"):
        distilled(build(NormNet)[0], build(NormNet, seed=1)[0], HINTS[1:], tmp_path / "state", 1)


# Bad input.

TWICE = {"function": lambda net, F, x: net.head(net.act(net.act(x))), "act": nn.Activation("relu"),
         "head": nn.Dense(5, in_units=6)}
TWO_OUTPUTS = {"function": lambda net, F, x: net.head(net.both(x)[0]), "both": Function(lambda F, x: (x, 2 * x)),
               "head": nn.Dense(5, in_units=6)}


@pytest.mark.parametrize(("arguments", "error", "message"), [
    (("a", "b", "fsp"), ValueError, "kind is 'fsp'; accepted: 'hint', 'attention'"),
    (("a", "b", "hint", -1), ValueError, "weight is -1"),
    (("a", "b", "hint", "1"), TypeError, "weight is '1'"),
    ((3, "b"), TypeError, "student_layer is 3; accepted: the name of a layer"),
    (("a", None), TypeError, "teacher_layer is None"),
])
def test_bad_feature_losses(arguments, error, message):
    with pytest.raises(error, match=message):
        FeatureLoss(*arguments)


@pytest.mark.parametrize(("features", "error", "message"), [
    (FeatureLoss("features.2", "features.4"), TypeError, "accepted: a list of FeatureLoss"),
    (["features.2"], TypeError, "features has .features.2."),
    ([], ValueError, "features is empty"),
    ([FeatureLoss("features.22", "features.4")], ValueError,
     "features names the student's layer 'features.22', but there is no such layer; did you mean features.2"),
    ([FeatureLoss("features.2", "outptu")], ValueError, "features names the teacher's .*'outptu'.* did you mean out"),
    ([FeatureLoss("features.2", "features.9")], ValueError,
     r"hint between layer features.2 of the student, \(6, 8, 8, 8\), and layer features.9 of the teacher, \(6, 16\)"),
    ([FeatureLoss("features.9", "features.9", "attention")], ValueError, "attention between .*channels, height"),
])
def test_bad_features(features, error, message):
    student, teacher = build(NormNet)[0], build(NormNet, seed=1)[0]
    before = values(student)
    trainer = Trainer(student.collect_params(), "sgd")
    own = list(trainer._params)
    for call in (lambda: FeatureMatcher(student, teacher, features, images()),
                 lambda: distilled(student, teacher, features, trainer=trainer)):
        with pytest.raises(error, match=message):
            call()
    assert identical(before, values(student))
    assert trainer._params == own


def built(definition):
    net = Net(**definition)
    net.initialize()
    return net


def test_layers_without_one_output_are_refused():
    example = mx.nd.ones((2, 6))
    teacher = nn.Dense(5, in_units=6)
    teacher.initialize()
    with pytest.raises(ValueError, match="layer act of the student is called 2 times"):
        FeatureMatcher(built(TWICE), teacher, [FeatureLoss("act", "x")], example)
    with pytest.raises(ValueError, match="layer both of the student has several outputs"):
        FeatureMatcher(built(TWO_OUTPUTS), teacher, [FeatureLoss("both", "x")], example)


def test_networks_that_cannot_be_matched():
    student, teacher = build(NormNet)[0], build(NormNet, seed=1)[0]
    with pytest.raises(NetworkError, match="the teacher: parameter .* is not initialized"):
        FeatureMatcher(student, NormNet(), HINTS, images())
    with pytest.raises(NetworkError, match="parameter .* is not initialized"):
        FeatureMatcher(NormNet(), teacher, HINTS, images())
    with pytest.raises(ValueError, match="student and teacher are the same network"):
        FeatureMatcher(student, student, HINTS, images())
    with pytest.raises(TypeError, match=r"example is an ndarray of shape \(.*\); accepted: an NDArray"):
        FeatureMatcher(student, teacher, HINTS, images().asnumpy())
    with pytest.raises(TypeError, match="example is a tuple; accepted: an NDArray"):
        FeatureMatcher(student, teacher, HINTS, (images(), images()))
    teacher.features[4].weight.data()[:] = 3e38
    with pytest.raises(NetworkError, match="layer features.4 of the teacher puts out NaN"):
        FeatureMatcher(student, teacher, HINTS, images())


def test_features_of_an_int8_teacher_are_those_of_the_fp32_network():
    """But for rounding: of a convolution with the BatchNorm and the ReLU that run in it, and of the logits."""
    net = build(NormNet)[0]
    teacher = quantize(net, batches(), progress=False)
    features = [FeatureLoss("features.0", "features.0")]
    matcher = FeatureMatcher(build(NormNet, seed=1)[0], teacher, features, images())
    logits, (codes,) = matcher.teacher_outputs(images())
    with autograd.pause(train_mode=False):
        expected = net.features[2](net.features[1](net.features[0](images())))
        expected_logits = net(images())
    assert codes.dtype == np.float32
    assert len(np.unique(codes.asnumpy())) <= 256
    assert 0 < (codes - expected).norm().asscalar() < 0.03 * expected.norm().asscalar()
    assert (logits - expected_logits).norm().asscalar() < 0.05 * expected_logits.norm().asscalar()


def test_layers_that_give_codes_without_their_scale_are_refused():
    net, student = build(NormNet)[0], build(NormNet, seed=1)[0]
    simulated = quantize(net, batches(), simulate=True, progress=False)
    with pytest.raises(ValueError, match="layer features.0 of the teacher gives integers as floats"):
        FeatureMatcher(student, simulated, [FeatureLoss("features.0", "features.0")], images())
    qat = prepare_qat(student, batches(), progress=False)
    with pytest.raises(ValueError, match="layer features.0_output of the student gives integers as floats"):
        FeatureMatcher(qat, net, [FeatureLoss("features.0_output", "features.0")], images())


def test_combinations_that_distill_refuses(tmp_path):
    student, teacher = build(NormNet)[0], build(NormNet, seed=1)[0]
    with pytest.raises(ValueError, match="features are given together with several teachers or a cache"):
        distilled(student, [teacher, build(NormNet, seed=2)[0]], HINTS)
    with pytest.raises(ValueError, match="features are given together with several teachers or a cache"):
        distilled(student, teacher, HINTS, cache=tmp_path / "logits")
    with pytest.raises(TypeError, match="train_data is a generator"):
        distilled(student, teacher, HINTS, data=(batch for batch in batches()))
    with pytest.raises(ValueError, match="train_data has no batches"):
        distill(student, teacher, [], 1, features=HINTS, progress=False)
    with pytest.raises(ValueError, match="seed is -1"):
        distilled(student, teacher, HINTS, seed=-1)
    with pytest.raises(TypeError, match="trainer is 'sgd'"):
        distilled(student, teacher, HINTS, trainer="sgd")


def test_students_that_are_pruned_or_trained_as_integers():
    """A pruned copy of the teacher, and a QatNetwork of it, whose layers go by the names in its graph."""
    teacher, copy = (build(NormNet)[0] for _ in range(2))
    prune_channels(copy, images(), 0.5, round_to=1)
    history = distilled(copy, teacher, [FeatureLoss("features.2", "features.2"),
                                        FeatureLoss("features.6", "features.6", "similarity", 10)], epochs=4)
    assert history.epochs[-1]["loss"] < history.epochs[0]["loss"]
    qat = prepare_qat(build(NormNet, seed=1)[0], batches(1), progress=False)
    layer = next(name for name in qat(mx.sym.var("data")).get_internals().list_outputs() if "pool" in name)
    before = values(qat)
    trainer = Trainer(qat.collect_params(), "adam", {"learning_rate": 1e-3})
    history = distilled(qat, teacher, [FeatureLoss(layer, "features.3")], epochs=4, trainer=trainer)
    assert history.epochs[-1]["loss"] < history.epochs[0]["loss"]
    assert not np.array_equal(before["features.0.weight"], values(qat)["features.0.weight"])
