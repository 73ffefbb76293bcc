"""Compressed files: exact, as small as they should be, checked, and never executed."""
import ast
import itertools
import re
from pathlib import Path

import gluon_compress as gc

import mxnet as mx  # noqa: I001
import numpy as np
import pytest
from gluon_compress import checkpoint
from gluon_compress.checkpoint import file as checkpoint_file
from gluon_compress.checkpoint import packed_file
from gluon_compress.files import tensorfile
from gluon_compress.errors import CheckpointError, RecordError
from gluon_compress.models import AlexNet, LeNet, SimpleCNN
from gluon_compress.pruning import ChannelPlan, MaskedTrainer, Masks, prune_channels, prune_magnitude
from gluon_compress.quantization import quantize, quantize_weights
from hypothesis import given, settings
from hypothesis import strategies as st
from mxnet import autograd
from mxnet.gluon import SymbolBlock, Trainer, nn
from networks import (
    Assorted,
    Branches,
    NormNet,
    OwnWeight,
    SharedWeights,
    build,
    exported,
    fresh,
    identical,
    laid_out_anew,
    values,
)

LENET = (2, 1, 28, 28)
PACKAGE = Path(gc.__file__).parent


def compress(net, example, bits=None, sparsity=None, ratio=None, per_channel=True):
    """The records of the techniques whose argument is given."""
    records = []
    if ratio is not None:
        records.append(prune_channels(net, example, ratio, round_to=1))
    if sparsity is not None:
        records.append(prune_magnitude(net, sparsity))
    if bits is not None:
        records.append(quantize_weights(net, bits, per_channel))
    return records


def same_values(net, other):
    """As ``identical``, but for the sign of zeros."""
    ours, theirs = values(net), values(other)
    return ours.keys() == theirs.keys() and all(np.array_equal(ours[name], theirs[name]) for name in ours)


COMBINATIONS = [dict(zip(("bits", "sparsity", "ratio"), choice))
                for choice in itertools.product((None, 8), (None, 0.8), (None, 0.5))]
COMBINATIONS += [{"bits": bits, "sparsity": sparsity, "per_channel": bits % 2 == 0}
                 for bits in range(2, 8) for sparsity in (None, 0.7)]


@pytest.mark.parametrize("network", [NormNet, Branches])
@pytest.mark.parametrize("arguments", COMBINATIONS, ids=str)
def test_round_trip_is_exact(network, arguments, tmp_path):
    net, example = build(network)
    records = compress(net, example, **arguments)
    size = gc.save(tmp_path / "net.gcz", net, *records)
    assert size == (tmp_path / "net.gcz").stat().st_size
    pruned, _ = build(network, seed=1)
    if arguments.get("ratio"):
        records[0].apply(pruned)
    expected = net(example).asnumpy()
    for target in (network(), fresh(network), build(network, seed=1)[0], pruned):
        assert gc.load(tmp_path / "net.gcz", target) is target
        assert same_values(net, target)
        np.testing.assert_array_equal(target(example).asnumpy(), expected)
    block = gc.load(tmp_path / "net.gcz")
    assert isinstance(block, SymbolBlock)
    np.testing.assert_allclose(block(example).asnumpy(), expected, rtol=1e-5, atol=1e-5 * np.abs(expected).max())
    assert sorted(value.tobytes() for value in values(block).values()) == sorted(
        value.tobytes() for value in values(target).values())


@pytest.mark.parametrize("network", [OwnWeight, SharedWeights, Assorted])
def test_other_networks_make_the_round_trip(network, tmp_path):
    net, example = build(network)
    records = compress(net, example, 5, 0.5)
    gc.save(tmp_path / "net.gcz", net, *records)
    for target in (network(), build(network, seed=1)[0], gc.load(tmp_path / "net.gcz")):
        if not isinstance(target, SymbolBlock):
            gc.load(tmp_path / "net.gcz", target)
        np.testing.assert_allclose(target(example).asnumpy(), net(example).asnumpy(), rtol=1e-5, atol=1e-6)


def test_a_symbol_block_makes_the_round_trip(tmp_path):
    net, example = build(NormNet)
    block = exported(net, example, tmp_path)
    records = compress(block, example, 4, 0.5)
    gc.save(tmp_path / "net.gcz", block, *records)
    again = gc.load(tmp_path / "net.gcz")
    np.testing.assert_array_equal(again(example).asnumpy(), block(example).asnumpy())
    other = exported(build(NormNet, seed=1)[0], example, tmp_path)
    gc.load(tmp_path / "net.gcz", other)
    assert same_values(other, block)


def test_a_network_of_two_inputs_needs_the_network(tmp_path):
    class Sum(nn.HybridSequential):
        def hybrid_forward(self, F, x, y):
            return self[0](x + y)

        def forward(self, x, y):
            return self[0](x + y)
    net = Sum()
    net.add(nn.Dense(3))
    net.initialize()
    net(mx.nd.ones((2, 4)), mx.nd.ones((2, 4)))
    gc.save(tmp_path / "net.gcz", net)
    with pytest.raises(CheckpointError, match=r"holds no graph \(.*give load the network"):
        gc.load(tmp_path / "net.gcz")
    copy = Sum()
    copy.add(nn.Dense(3))
    assert same_values(gc.load(tmp_path / "net.gcz", copy), net)


@pytest.mark.parametrize("dtype", ["float64", "float16"])
def test_other_precisions_make_the_round_trip(dtype, tmp_path):
    def network():
        net = nn.Dense(20)
        net.cast(dtype)
        return net
    net = network()
    net.initialize(mx.init.Normal(0.3))
    net.weight.shape = (20, 30)
    net.weight._finish_deferred_init()
    records = compress(net, None, 8, 0.5)
    gc.save(tmp_path / "net.gcz", net, *records)
    copy = gc.load(tmp_path / "net.gcz", network())
    assert same_values(net, copy)
    assert values(copy)["weight"].dtype == dtype


def test_loading_into_another_precision_casts(tmp_path):
    net, _ = build(nn.Dense, (2, 30), units=20)
    gc.save(tmp_path / "net.gcz", net)
    double = nn.Dense(20)
    double.cast("float64")
    double.initialize()
    gc.load(tmp_path / "net.gcz", double)
    np.testing.assert_array_equal(values(double)["weight"], values(net)["weight"])
    assert values(double)["weight"].dtype == np.float64


@pytest.mark.parametrize("state", ["not", "deferred", "with data"])
def test_the_device_can_be_chosen(state, tmp_path):
    net, example = build(NormNet)
    gc.save(tmp_path / "net.gcz", net)
    target = {"not": NormNet, "deferred": lambda: fresh(NormNet), "with data": lambda: build(NormNet)[0]}[state]()
    gc.load(tmp_path / "net.gcz", target, ctx=mx.cpu(1))
    for loaded in (target, gc.load(tmp_path / "net.gcz", ctx=mx.cpu(1))):
        assert {context for p in loaded.collect_params().values() for context in p.list_ctx()} == {mx.cpu(1)}
    np.testing.assert_array_equal(target(example.as_in_context(mx.cpu(1))).asnumpy(), net(example).asnumpy())


def entropy(array):
    """Bytes that an array takes when each value costs its share's logarithm; of floats sign, exponent, and 23 bits."""
    values = np.frexp(array.ravel())[1] if array.dtype.kind == "f" else array.ravel()
    shares = np.unique(values, return_counts=True)[1] / array.size
    return (-(shares * np.log2(shares)).sum() + 24 * (array.dtype.kind == "f")) * array.size / 8


@pytest.mark.parametrize(("network", "shape", "arguments", "share"), [
    (LeNet, LENET, {}, 0.2505), (AlexNet, (1, 3, 67, 67), {"classes": 10, "hidden_units": 1024}, 0.2500)])
def test_a_quantized_file_is_a_quarter_of_gluon_s(network, shape, arguments, share, tmp_path):
    net, _ = build(network, shape, **arguments)
    net.save_parameters(str(tmp_path / "net.params"))
    scales = quantize_weights(net)
    size = gc.save(tmp_path / "net.gcz", net, scales)
    assert size / (tmp_path / "net.params").stat().st_size < share
    assert size > 0.98 * sum(entropy(codes) for codes in scales.codes(net).values())  # random: not far below


@pytest.mark.parametrize("bits", [None, *range(2, 9)])
@pytest.mark.parametrize("sparsity", [None, 0.9])
def test_tensors_take_the_bytes_they_should(bits, sparsity, tmp_path):
    """Of random weights, which no context tells anything about: their entropy."""
    net, example = build(LeNet, LENET)
    records = compress(net, example, bits, sparsity)
    size = gc.save(tmp_path / "net.gcz", net, *records)
    tensors, _ = packed_file.read(tmp_path / "net.gcz", checkpoint_file.KIND)
    masks = [tensor for name, tensor in tensors.items() if name.endswith("/mask")]
    assert len(masks) == (0 if sparsity is None else 4) and all(mask.dtype == bool for mask in masks)
    taken = checkpoint.coded_sizes(net, *records)
    overhead, expected = taken.pop("header"), sum(map(entropy, tensors.values()))
    assert 0.97 < sum(taken.values()) / (expected + 200) < 1.02  # 200: what the model learns from, at most
    assert 0 < overhead < 500 and abs(size - overhead - sum(taken.values())) < 9  # the graph, the names, the checksum


@pytest.mark.parametrize("arguments", COMBINATIONS[::3], ids=str)
def test_what_a_file_would_take_is_known_without_writing_it(arguments, tmp_path):
    net, example = build(NormNet)
    records = compress(net, example, **arguments)
    sizes = checkpoint.coded_sizes(net, *records)
    size = gc.save(tmp_path / "net.gcz", net, *records)
    assert size == sum(sizes.values()) == checkpoint.coded_size(net, *records)
    assert sizes.keys() == {"header", *values(net)}


@pytest.mark.parametrize("network", [NormNet, Branches, Assorted, SharedWeights])
def test_files_of_one_network_are_alike_however_often_it_was_traced(network, tmp_path):
    """MXNet counts in a graph how often a BatchNorm has changed its statistics, in all traces that there were."""
    net, _ = build(network)
    contents = set()
    for number in range(12):
        gc.save(tmp_path / f"{number}.gcz", net)
        contents.add((tmp_path / f"{number}.gcz").read_bytes())
    assert len(contents) == 1


def test_what_the_file_of_a_network_on_integers_would_take_is_known(tmp_path):
    net, example = build(NormNet)
    integers = quantize(net, [example], progress=False)
    assert gc.save(tmp_path / "net.gcz", integers) == checkpoint.coded_size(integers)


def test_records_are_in_the_file(tmp_path):
    net, example = build(NormNet)
    plan, masks, scales = compress(net, example, 5, 0.6, 0.5)
    gc.save(tmp_path / "net.gcz", net, scales, plan, masks)
    found = checkpoint.records(tmp_path / "net.gcz")
    assert set(found) == {"masks", "scales", "plan"}
    for record in (plan, masks, scales):
        assert found[record.in_files].to_dict() == record.to_dict()
        assert str(found[record.in_files]) == str(record)
    gc.save(tmp_path / "plain.gcz", net)
    assert checkpoint.records(tmp_path / "plain.gcz") == {}


def test_the_records_of_a_file_fit_its_network_also_without_its_class(tmp_path):
    """By the names of the network that was saved, whatever those in its graph are, also when it is saved once more."""
    net, example = build(NormNet)
    records = prune_magnitude(net, 0.6), quantize_weights(net, bits=4)
    gc.save(tmp_path / "net.gcz", net, *records)
    loaded, found = gc.load(tmp_path / "net.gcz"), checkpoint.records(tmp_path / "net.gcz")
    assert values(loaded).keys() == values(net).keys()
    for record in found.values():
        record.check(loaded)
    assert gc.report(loaded, example, records=found.values()).bytes == gc.report(net, example, records=records).bytes
    gc.save(tmp_path / "again.gcz", loaded, *found.values())
    before, after = checkpoint.coded_sizes(net, *records), checkpoint.coded_sizes(loaded, *found.values())
    assert after == {**before, "header": after["header"]}
    assert same_values(net, gc.load(tmp_path / "again.gcz", NormNet()))
    path = gc.export.to_onnx(loaded, tmp_path / "net.onnx", example, weights=found)
    assert path.stat().st_size == gc.export.to_onnx(net, tmp_path / "b.onnx", example, weights=records).stat().st_size


def test_a_loaded_network_trains_on_under_its_masks(tmp_path):
    net, example = build(NormNet)
    gc.save(tmp_path / "net.gcz", net, prune_magnitude(net, 0.6))
    again, masks = gc.load(tmp_path / "net.gcz", NormNet()), checkpoint.records(tmp_path / "net.gcz")["masks"]
    before = values(again)
    trainer = MaskedTrainer(again, masks, "sgd", {"learning_rate": 0.01, "momentum": 0.9})
    for _ in range(3):
        with autograd.record():
            loss = (again(example) ** 2).sum()
        loss.backward()
        trainer.step(4)
    assert masks.fitted_masks(again)
    assert not np.array_equal(values(again)["output.weight"], before["output.weight"])


def test_masks_that_keep_nothing_make_the_round_trip(tmp_path):
    net, _ = build(NormNet)
    masks = Masks({"output.weight": np.zeros((5, 16), bool)})
    masks.apply(net)
    gc.save(tmp_path / "net.gcz", net, masks)
    assert same_values(gc.load(tmp_path / "net.gcz", NormNet()), net)


def _train(net, example, _):
    trainer = Trainer(net.collect_params(), "sgd", {"learning_rate": 0.01})
    with autograd.record():
        loss = (net(example) ** 2).sum()
    loss.backward()
    trainer.step(4)


MISFITS = [
    ({"bits": 8}, _train, r"weights of features.0.weight are not multiples of their scale.*call it again"),
    ({"sparsity": 0.5}, _train, r"pruned weights of features.0.weight are no longer zero.*MaskedTrainer"),
    ({"ratio": 0.5}, lambda net, example, _: prune_channels(net, example, 0.5, round_to=1),
     "channels were removed again"),
    ({"bits": 8}, lambda net, example, _: quantize_weights(net, 3), "not multiples of their scale"),
]


@pytest.mark.parametrize(("arguments", "change", "message"), MISFITS)
@pytest.mark.parametrize("older", [True, False])
def test_records_that_no_longer_fit_write_nothing(arguments, change, message, older, tmp_path):
    net, example = build(NormNet)
    records = compress(net, example, **arguments)
    path = tmp_path / "net.gcz"
    if older:
        gc.save(path, net, *records)
        content = path.read_bytes()
    change(net, example, records)
    with pytest.raises(RecordError, match=message):
        gc.save(path, net, *records)
    assert [file.name for file in tmp_path.iterdir()] == (["net.gcz"] if older else [])
    assert not older or path.read_bytes() == content


@pytest.mark.parametrize("arguments", [{"bits": 8}, {"sparsity": 0.5}, {"ratio": 0.5}])
def test_records_of_another_network_write_nothing(arguments, tmp_path):
    records = compress(*build(LeNet, LENET), **arguments)
    for other in (SimpleCNN, lambda: LeNet(classes=7), LeNet):
        with pytest.raises(RecordError):
            gc.save(tmp_path / "net.gcz", build(other, LENET, seed=1)[0], *records)
    assert not list(tmp_path.iterdir())


def test_other_arguments_write_nothing(tmp_path):
    net, _ = build(LeNet, LENET)
    scales = quantize_weights(net)
    with pytest.raises(TypeError, match="'masks' is not a record .*; accepted: ChannelPlan.*, Masks.*, Scales"):
        gc.save(tmp_path / "net.gcz", net, "masks")
    with pytest.raises(ValueError, match="two records of class Scales are given"):
        gc.save(tmp_path / "net.gcz", net, scales, scales)
    with pytest.raises(TypeError, match="net is a str"):
        gc.save(tmp_path / "net.gcz", "net")
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(("other", "message"), [
    (SimpleCNN, "belongs to another network: parameter .* is only in the"),
    (lambda: LeNet(classes=7), r"parameter dense.1.\w+ has shape \(10,.* there, \(7,.* here"),
])
@pytest.mark.parametrize("ratio", [None, 0.5])
def test_another_network_is_refused_and_unchanged(other, message, ratio, tmp_path):
    net, example = build(LeNet, LENET)
    gc.save(tmp_path / "net.gcz", net, *compress(net, example, 8, 0.5, ratio))
    target, example = build(other, LENET)
    before = values(target)
    with pytest.raises(CheckpointError, match=message):
        gc.load(tmp_path / "net.gcz", target)
    assert identical(before, values(target))
    assert target(example).shape[0] == 2


def test_another_symbol_block_is_refused_and_unchanged(tmp_path):
    net, example = build(LeNet, LENET)
    gc.save(tmp_path / "net.gcz", exported(net, example, tmp_path))
    other = exported(build(lambda: LeNet(7), LENET)[0], example, tmp_path)
    before = values(other)
    with pytest.raises(CheckpointError, match="belongs to another network"):
        gc.load(tmp_path / "net.gcz", other)
    assert identical(before, values(other))


@pytest.fixture(scope="module")
def small_file(tmp_path_factory):
    """(path to write to, content of a file with all records, values of its network)."""
    path = tmp_path_factory.mktemp("damaged") / "net.gcz"
    net, example = build(NormNet)
    gc.save(path, net, *compress(net, example, 3, 0.5, 0.5))
    return path, path.read_bytes(), values(net)


@given(st.data())
@settings(max_examples=40)
def test_a_damaged_file_fails_or_is_still_the_same(small_file, data):
    path, content, expected = small_file
    damaged = bytearray(content)
    for _ in range(data.draw(st.integers(1, 3))):
        position = data.draw(st.one_of(st.integers(0, len(content) - 1), st.integers(0, 400)))
        damaged[position] = data.draw(st.integers(0, 255))
    path.write_bytes(damaged)
    target, _ = build(NormNet, seed=1)
    before = values(target)
    try:
        gc.load(path, target)
    except CheckpointError:
        assert identical(before, values(target))
    else:
        assert all(np.array_equal(value, expected[name]) for name, value in values(target).items())


@given(st.data())
@settings(max_examples=20)
def test_a_truncated_or_extended_file_fails(small_file, data):
    path, content, _ = small_file
    if data.draw(st.booleans()):
        path.write_bytes(content[:data.draw(st.integers(0, len(content) - 1))])
    else:
        path.write_bytes(content + data.draw(st.binary(min_size=1, max_size=9)))
    for call in (lambda: gc.load(path), lambda: gc.load(path, NormNet()), lambda: checkpoint.records(path)):
        with pytest.raises(CheckpointError):
            call()


def _without_scale(tensors, header):
    del tensors["output.weight/scale"]


def _with_layout(**changes):
    def change(tensors, header):
        header["layout"]["output.weight"].update(changes)
    return change


def _with_slice(**changes):
    def change(tensors, header):
        header["records"]["plan"]["slices"][0].update(changes)
    return change


@pytest.mark.parametrize("forge", [
    _without_scale, _with_layout(shape=[5, 9]), _with_layout(bits=2), _with_layout(bits="x"), _with_layout(axis=5),
    _with_layout(shape="abc"), _with_slice(kept=[99]), _with_slice(parameter="x"),
    _with_slice(axis=7), lambda tensors, header: header.pop("layout"), lambda tensors, header: header.pop("records"),
])
def test_a_forged_file_with_a_right_checksum_fails_too(forge, small_file, tmp_path):
    path, content, _ = small_file
    path.write_bytes(content)
    tensors, header = packed_file.read(path, checkpoint_file.KIND)
    forge(tensors, header)
    packed_file.write(tmp_path / "forged.gcz", tensors, header)
    target, _ = build(NormNet, seed=1)
    before = values(target)
    with pytest.raises((CheckpointError, RecordError)):
        gc.load(tmp_path / "forged.gcz", target)
    assert identical(before, values(target))


def test_files_of_other_kinds_are_refused(tmp_path):
    net, _ = build(LeNet, LENET)
    net.save_parameters(str(tmp_path / "net.params"))
    (tmp_path / "empty").write_bytes(b"")
    tensorfile.write(tmp_path / "other", "training state", {"a": np.ones(3)}, {})
    for name in ("net.params", "empty", "other"):
        with pytest.raises(CheckpointError):
            gc.load(tmp_path / name)
    with pytest.raises(FileNotFoundError):
        gc.load(tmp_path / "missing.gcz")


def test_a_plan_from_a_file_prunes_a_copy(tmp_path):
    net, example = build(NormNet)
    gc.save(tmp_path / "net.gcz", net, prune_channels(net, example, 0.5, round_to=1))
    plan = checkpoint.records(tmp_path / "net.gcz")["plan"]
    assert isinstance(plan, ChannelPlan)
    copy, _ = build(NormNet)
    plan.apply(copy)
    assert identical(values(net), values(copy))
    assert net(example).shape == copy(example).shape


def test_the_package_imports_nothing_that_executes_files():
    """But for the launcher's script.py, which runs the script that the user names."""
    found = []
    for path in PACKAGE.rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text())):
            names = [alias.name for alias in node.names] if isinstance(node, ast.Import) else [
                node.module or ""] if isinstance(node, ast.ImportFrom) else []
            found += [(path.name, name) for name in names
                      if re.fullmatch(r"(c?pickle|dill|cloudpickle|joblib|shelve|marshal)(\..*)?", name.lower())]
            if isinstance(node, ast.Call) and getattr(node.func, "id", "") in ("eval", "exec"):
                found.append((path.name, node.func.id))
            if any(keyword.arg == "allow_pickle" and ast.unparse(keyword.value) != "False"
                   for keyword in getattr(node, "keywords", [])):
                found.append((path.name, "allow_pickle"))
    assert found == [("script.py", "exec")]


# ---- several records of one kind

def test_two_prunings_of_channels_load_into_a_fresh_network(tmp_path):
    net, example = build(NormNet)
    plan = prune_channels(net, example, 0.25, round_to=1) | prune_channels(net, example, 0.5, round_to=1)
    gc.save(tmp_path / "net.gcz", net, plan)
    other, _ = build(NormNet, seed=1)
    assert same_values(gc.load(tmp_path / "net.gcz", other), net)
    once, _ = build(NormNet)
    assert same_values(plan.apply(once), net)
    assert ChannelPlan.from_dict(plan.to_dict()).layers == plan.layers


def test_plans_in_the_wrong_order_are_refused():
    net, example = build(NormNet)
    first, second = prune_channels(net, example, 0.25, round_to=1), prune_channels(net, example, 0.5, round_to=1)
    with pytest.raises(RecordError, match="was not made on the network that the first one left"):
        second | first


def test_masks_and_scales_of_several_layers_are_combined(tmp_path):
    net, example = build(NormNet)
    masks = prune_magnitude(net, 0.5, select=nn.Conv2D) | prune_magnitude(net, 0.9, select=nn.Dense)
    scales = quantize_weights(net, 4, select=nn.Conv2D) | quantize_weights(net, 8, select=nn.Dense)
    assert not masks.left_out and not scales.left_out
    gc.save(tmp_path / "net.gcz", net, masks, scales)
    other, _ = build(NormNet, seed=1)
    assert same_values(gc.load(tmp_path / "net.gcz", other), net)
    found = checkpoint.records(tmp_path / "net.gcz")
    assert {layer["bits"] for layer in found["scales"].layers.values()} == {4, 8}
    assert found["masks"].sparsity == masks.sparsity


def test_masks_of_the_same_layer_prune_what_either_prunes():
    net, _ = build(NormNet)
    first = prune_magnitude(net, 0.3)
    second = prune_magnitude(net, 0.6)
    name = next(iter(first.kept))
    assert np.array_equal((first | second).kept[name], first.kept[name] & second.kept[name])


def test_two_records_of_a_kind_say_how_to_combine_them(tmp_path):
    net, _ = build(NormNet)
    masks = prune_magnitude(net, 0.3)
    with pytest.raises(ValueError, match=r"combine them: first \| second"):
        gc.save(tmp_path / "net.gcz", net, masks, masks)
    with pytest.raises(TypeError, match="accepted: the Masks"):
        MaskedTrainer(net, [masks], "sgd")


# ---- devices, types, inputs

@pytest.mark.parametrize("ctx", ["cpu", 0, True, [], mx.gpu(99)])
def test_a_wrong_device_changes_nothing(tmp_path, ctx):
    net, example = build(NormNet)
    gc.save(tmp_path / "net.gcz", net, prune_channels(net, example, 0.5, round_to=1))
    other, _ = build(NormNet, seed=1)
    before = values(other)
    for network in (other, None):
        with pytest.raises((TypeError, ValueError), match="ctx is"):
            gc.load(tmp_path / "net.gcz", network, ctx=ctx)
    assert all(np.array_equal(before[name], value) for name, value in values(other).items())


def test_a_float64_network_loads_without_a_network(tmp_path):
    net, example = build(NormNet)
    net.cast("float64")
    example = example.astype("float64")
    expected = net(example).asnumpy()
    gc.save(tmp_path / "net.gcz", net)
    output = gc.load(tmp_path / "net.gcz")(example)
    assert output.dtype == np.float64
    np.testing.assert_array_equal(output.asnumpy(), expected)


class TwoInputs(gc.models.SimpleCNN):
    def hybrid_forward(self, F, x, y):
        return super().hybrid_forward(F, x + y)


def test_the_graph_of_several_inputs_is_stored_with_an_example(tmp_path):
    net = TwoInputs()
    net.initialize()
    inputs = mx.nd.ones(LENET), mx.nd.random.normal(shape=LENET)
    expected = net(*inputs).asnumpy()
    gc.save(tmp_path / "net.gcz", net, example=inputs)
    np.testing.assert_allclose(gc.load(tmp_path / "net.gcz")(*inputs).asnumpy(), expected, rtol=1e-5)
    with pytest.warns(UserWarning, match="holds no graph"):
        gc.save(tmp_path / "net.gcz", net)
    with pytest.raises(CheckpointError, match="holds no graph"):
        gc.load(tmp_path / "net.gcz")


def test_a_forgotten_plan_is_mentioned(tmp_path):
    net, example = build(NormNet)
    prune_channels(net, example, 0.5, round_to=1)
    gc.save(tmp_path / "net.gcz", net)
    with pytest.raises(CheckpointError, match="saved without its ChannelPlan"):
        gc.load(tmp_path / "net.gcz", build(NormNet, seed=1)[0])
    assert gc.load(tmp_path / "net.gcz")(example).shape == net(example).shape


@pytest.mark.parametrize("dimensions", [1, 3])
def test_a_file_is_loaded_into_a_network_that_has_run(dimensions, tmp_path):
    net, _ = laid_out_anew(dimensions)
    gc.save(tmp_path / "net.gcz", net)
    other, example = laid_out_anew(dimensions, seed=1)
    assert not identical(values(net), values(other))
    gc.load(tmp_path / "net.gcz", other)
    assert identical(values(net), values(other))
    assert np.array_equal(net(example).asnumpy(), other(example).asnumpy())
