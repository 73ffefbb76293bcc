"""The file of a compressed network: the same bits come back, damage is noticed, and lies about sizes are refused."""
import hashlib

import gluon_compress as gc
import numpy as np
import pytest
from gluon_compress.checkpoint import header_packing, levels, packed_file, tensor_forms
from gluon_compress.coding import arrays, choosing, encode
from gluon_compress.errors import CheckpointError
from gluon_compress.models import LeNet
from gluon_compress.quantization.integers.onednn import weight_codes
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from networks import build

LENET = (1, 1, 28, 28)
ARRAYS = st.sampled_from(packed_file.TYPES).flatmap(
    lambda dtype: hnp.arrays(dtype, hnp.array_shapes(min_dims=0, max_dims=4, min_side=0, max_side=5)))


@settings(max_examples=60, deadline=None)
@given(st.dictionaries(st.text(min_size=1, max_size=9).filter(str.isprintable), ARRAYS, max_size=4))
def test_all_tensors_come_back_with_the_same_bits(tensors):
    said, content = packed_file.packed(tensors, {"a": [1, "x"]})
    found, header = packed_file._content(packed_file.assembled(said, content), lambda value, where: None)
    assert header == {"a": [1, "x"]} and list(found) == list(tensors)
    for name, tensor in tensors.items():
        assert found[name].dtype == tensor.dtype and found[name].shape == tensor.shape
        assert found[name].tobytes() == tensor.tobytes()


@settings(max_examples=60, deadline=None)
@given(st.sampled_from(("float16", "float32", "float64")), st.integers(-14, 9), st.data())
def test_floats_that_are_multiples_of_a_power_of_two_take_what_the_integers_do(dtype, exponent, data):
    integers = data.draw(hnp.arrays(np.int32, st.integers(2, 90), elements=st.integers(-60, 60)))
    tensor = np.ldexp(integers.astype(np.float64), exponent).astype(dtype)
    lengths, contents = tensor_forms.smallest(tensor)
    assert len(b"".join(contents)) <= min(tensor_forms.EXPONENT + len(encode(integers)), tensor.nbytes)
    assert tensor_forms.read(contents, dtype, tensor.shape, isinstance(lengths, list)).tobytes() == tensor.tobytes()


@pytest.mark.parametrize("dtype", ["float16", "float32", "float64"])
def test_all_kinds_of_floats_come_back(dtype):
    """NaN with its payload, infinities, zeros with signs, numbers below the normal ones."""
    chosen = np.array([0.0, -0.0, np.inf, -np.inf, np.nan, 1, -1], dtype)
    bits = np.random.default_rng(0).integers(0, 256, 5000 * chosen.itemsize, np.uint8).view(dtype)
    for tensor in (chosen, bits, np.concatenate([bits, np.zeros(20_000, dtype)]), np.zeros(9, dtype), chosen[:2]):
        lengths, contents = tensor_forms.smallest(tensor)
        found = tensor_forms.read(contents, dtype, tensor.shape, isinstance(lengths, list))
        assert found.dtype == tensor.dtype and found.tobytes() == tensor.tobytes()


@settings(max_examples=60, deadline=None)
@given(st.integers(1, 60), st.integers(0, 2**32 - 1))
def test_codes_of_few_levels_take_what_the_levels_do(most, seed):
    """Those that a kernel makes of weights with one scale, each channel stretched to its own largest."""
    chance = np.random.default_rng(seed)
    k = np.rint(chance.laplace(0, most / 6, (12, 40))).clip(-most, most).astype(np.int8)
    codes, _ = weight_codes(k * np.float32(chance.uniform(1e-3, 1)), 8, "max")
    lengths, contents = tensor_forms.smallest(codes)
    assert sum(map(len, contents)) <= min(len(encode(codes)), len(encode(k)) + 60)
    np.testing.assert_array_equal(tensor_forms.read(contents, "int8", codes.shape, isinstance(lengths, list)), codes)


@settings(max_examples=60, deadline=None)
@given(hnp.arrays(np.int8, st.tuples(st.integers(1, 6), st.integers(1, 60))))
def test_any_codes_come_back_from_levels(codes):
    found = levels.unstretched(codes)
    if found is not None:
        np.testing.assert_array_equal(levels.stretched(*found), codes)


@pytest.mark.parametrize(("k", "most"), [([[2, 0]], [1]), ([[-128, 0]], [100]), ([[1, 0]], [101])])
def test_forged_levels_are_refused(tmp_path, k, most):
    contents = [encode(np.array(k, np.int8)), encode(np.array(most, np.uint8))]
    rows = [["a", "int8", [1, 2], [len(part) for part in contents]]]
    with pytest.raises(CheckpointError, match="levels of"):
        packed_file.read(forged(tmp_path, rows, b"".join(contents)), "network")


@pytest.fixture(scope="module")
def file(tmp_path_factory):
    net, _ = build(LeNet, LENET)
    path = tmp_path_factory.mktemp("files") / "net.gcz"
    gc.save(path, net, gc.pruning.prune_magnitude(net, 0.95), gc.quantization.quantize_weights(net, bits=4))
    return path.read_bytes()


@settings(max_examples=150, deadline=None)
@given(data=st.data())
def test_every_damage_is_noticed(file, tmp_path_factory, data):
    content = bytearray(file)
    kind = data.draw(st.sampled_from(("flipped", "cut", "extended")))
    if kind == "flipped":
        content[data.draw(st.integers(0, len(content) - 1))] ^= data.draw(st.integers(1, 255))
    elif kind == "cut":
        del content[data.draw(st.integers(0, len(content) - 1)):]
    else:
        content += data.draw(st.binary(min_size=1, max_size=9))
    path = tmp_path_factory.getbasetemp() / "damaged.gcz"
    path.write_bytes(content)
    with pytest.raises(CheckpointError):
        gc.load(path)


def forged(tmp_path, rows, tensors=b"", header=None, version=packed_file.VERSION):
    said = header_packing.pack({"header": header, "tensors": rows})
    content = packed_file.assembled(said, tensors)
    start = content[:8] + bytes([version])
    path = tmp_path / "forged"
    path.write_bytes(start + hashlib.sha256(start + content[41:]).digest() + content[41:])
    return path


@pytest.mark.parametrize(("rows", "tensors", "message"), [
    ([["a", "int8", [1 << 20, 1 << 20], [0]]], b"", "too much to accept"),
    ([["a", "float64", [1 << 30], [0] * 8]], b"", "too much to accept"),
    ([["a", "int8", [3], 2]], b"abc", "3 bytes where there should be 2"),
    ([["a", "int8", [3], 2]], b"ab", "shape"),
    ([["a", "int8", [3], [2]]], b"ab", "shape"),
    ([["a", "float32", [3], [0, 0]]], b"", "2 parts"),
    ([["a", "float32", [3], [1]]], b"x", "has 1 bytes"),
    ([["a", "int8", [3], [0, 0]]], b"", "no rows"),
    ([["a", "int16", [3], [0, 0]]], b"", "accepted"),
    ([["a", "int32", [3, 3], [0, 0]]], b"", "2 parts"),
    ([["a", "complex64", [3], 24]], bytes(24), "accepted"),
    ([["a", "int8", [-3], 0]], b"", "accepted"),
    ([["a", "int8", [1], 1], ["a", "int8", [1], 1]], b"ab", "one name"),
    ([["a", "int8", [1]]], b"a", "accepted"),
    ({}, b"", "accepted"),
])
def test_forged_descriptions_of_tensors_are_refused(tmp_path, rows, tensors, message):
    with pytest.raises(CheckpointError, match=message):
        packed_file.read(forged(tmp_path, rows, tensors), "network")


def test_a_newer_version_says_so(tmp_path):
    with pytest.raises(CheckpointError, match="version 4; this code reads 2 and 3"):
        packed_file.read(forged(tmp_path, [], version=4), "network")


@pytest.mark.parametrize("dtype", ["float16", "float32", "float64"])
@pytest.mark.parametrize("count", [20_000, 3000])
def test_zeros_of_floats_take_what_a_mask_does(dtype, count):
    chance = np.random.default_rng(0)
    values = chance.normal(size=(count // 100, 100)).astype(dtype) * (chance.random((count // 100, 100)) < 0.3)
    values[3:9] = -0.0
    kept = values[(values != 0) | np.signbit(values)]
    lengths, contents = tensor_forms.smallest(values)
    alone = sum(map(len, tensor_forms.smallest(kept)[1]))
    assert sum(map(len, contents)) <= len(encode(values.view(f"u{values.itemsize}") != 0)) + alone
    assert tensor_forms.read(contents, dtype, values.shape, isinstance(lengths, list)).tobytes() == values.tobytes()


def test_a_form_for_some_zeros_of_a_tensor_that_is_all_zeros_is_refused(tmp_path):
    with pytest.raises(CheckpointError, match="is all zeros"):
        packed_file.read(forged(tmp_path, [["a", "float32", [3], [0] * 5]]), "network")


def test_large_tensors_are_read_as_older_code_wrote_them_with_contexts_for_all():
    def mixed(array):
        values = array.astype(np.int32)
        return choosing.encoded(values, *choosing.chosen_by_mixing(values))
    floats = np.random.default_rng(0).normal(size=(200, 100)).astype(np.float32)
    planes = tensor_forms._planes(tensor_forms._words(floats), floats.dtype)
    contents = [*(plane.tobytes() for plane in planes[:-1]), mixed(planes[-1])]
    assert tensor_forms.read(contents, "float32", floats.shape, True).tobytes() == floats.tobytes()
    codes = np.rint(40 * floats).clip(-128, 127).astype(np.int8)
    assert tensor_forms.read([mixed(codes)], "int8", codes.shape, True).tobytes() == codes.tobytes()


def test_large_float_tensors_are_coded_without_contexts_unless_these_make_them_much_smaller():
    """What follows its neighbours is for contexts; of independent values the counts say all."""
    chance = np.random.default_rng(0)
    same = chance.normal(size=(200, 400)).astype(np.float32)
    different = np.exp2(np.repeat(np.arange(200) % 2 * 12, 400).reshape(200, 400)).astype(np.float32) * same
    for values, fast in ((same, True), (different, False)):
        lengths, contents = tensor_forms.smallest(values)
        assert (contents[-1][0] == arrays.BYTES) == fast
        assert tensor_forms.read(contents, "float32", values.shape, True).tobytes() == values.tobytes()


def test_codes_near_zero_take_their_entropy_in_a_file(tmp_path):
    net, _ = build(LeNet, LENET)
    scales = gc.quantization.quantize_weights(net, bits=3)
    codes = np.concatenate([codes.ravel() for codes in scales.codes(net).values()])
    share = np.unique(codes, return_counts=True)[1] / codes.size
    entropy = -(share * np.log2(share)).sum() * codes.size / 8
    size = gc.save(tmp_path / "net.gcz", net, scales)
    assert size < 1.02 * entropy + 6000  # biases, scales and the graph


def test_bytes_of_floats_that_coding_does_not_shorten_stand_as_they_are(tmp_path):
    values = np.random.default_rng(0).normal(size=(300, 400)).astype(np.float32)
    [[_, _, _, lengths]], _ = packed_file.coded({"w": values})
    assert lengths[:2] == [values.size] * 2 and lengths[-1] < values.size / 2  # mantissas; exponents
    packed_file.write(tmp_path / "net.gcz", {"w": values}, {})
    tensors, _ = packed_file.read(tmp_path / "net.gcz", "file")
    assert tensors["w"].tobytes() == values.tobytes()
