"""Files of tensors: what is read is what was written, or there is a CheckpointError."""
import itertools
import json
import os
import signal
import struct
import tracemalloc

import numpy as np
import pytest
from gluon_compress.files import tensorfile
from gluon_compress.errors import CheckpointError
from hypothesis import given
from hypothesis import strategies as st
from processes import in_another_process
from safetensors.numpy import save_file

TENSORS = {"a": np.arange(6, dtype=np.float32).reshape(2, 3), "b.codes": np.arange(-3, 4, dtype=np.int8),
           "scalar": np.float64(0.1), "empty": np.zeros((0, 3), np.float16), "mask": np.array([True, False])}
HEADER = {"epochs": [{"loss": 0.1, "validation_accuracy": None}], "name": "été"}


@pytest.fixture(scope="module")
def original(tmp_path_factory):
    path = tmp_path_factory.mktemp("original") / "file"
    tensorfile.write(path, "test", TENSORS, HEADER)
    return path.read_bytes()


def assert_same(read, header):
    assert header == HEADER and read.keys() == TENSORS.keys()
    for name, tensor in TENSORS.items():
        assert read[name].dtype == tensor.dtype and read[name].shape == tensor.shape
        np.testing.assert_array_equal(read[name], tensor)


def test_round_trip(tmp_path):
    tensorfile.write(tmp_path / "new folder" / "file", "test", TENSORS, HEADER)
    assert_same(*tensorfile.read(tmp_path / "new folder" / "file", "test"))
    assert os.listdir(tmp_path / "new folder") == ["file"]


@pytest.mark.parametrize("array", [
    np.arange(6, dtype=">f4").reshape(2, 3), np.arange(6.0).reshape(2, 3).T, np.arange(10)[::3]],
    ids=["big endian", "transposed", "strided"])
def test_arrays_of_any_layout(tmp_path, array):
    tensorfile.write(tmp_path / "file", "test", {"x": array}, {})
    np.testing.assert_array_equal(tensorfile.read(tmp_path / "file", "test")[0]["x"], array)


def test_the_same_content_gives_the_same_bytes(tmp_path, original):
    # whatever the order of the dicts; safetensors orders its metadata by chance, so the bytes are sorted
    reordered = dict(reversed(TENSORS.items())), dict(reversed(HEADER.items()))
    tensorfile.write(tmp_path / "file", "test", *reordered)
    assert_same(*tensorfile.read(tmp_path / "file", "test"))
    assert sorted((tmp_path / "file").read_bytes()) == sorted(original)


@given(data=st.data())
def test_changed_bytes_are_noticed(tmp_path_factory, original, data):
    damaged = bytearray(original)
    positions = st.lists(st.integers(0, len(original) - 1), min_size=1, max_size=4, unique=True)
    for position in data.draw(positions):
        damaged[position] ^= data.draw(st.integers(1, 255))
    check_refused_or_equal(tmp_path_factory, bytes(damaged))


@pytest.mark.parametrize("bit", [1, 16, 128])
def test_each_single_byte_is_noticed(tmp_path_factory, original, bit):
    for position in range(len(original)):
        check_refused_or_equal(tmp_path_factory, original[:position] + bytes([original[position] ^ bit])
                               + original[position + 1:])


def check_refused_or_equal(tmp_path_factory, content):
    path = tmp_path_factory.getbasetemp() / "damaged"
    path.write_bytes(content)
    try:
        read, header = tensorfile.read(path, "test")
    except CheckpointError as error:
        assert str(path) in str(error)
    else:
        assert_same(read, header)  # blanks in safetensors' own header may change


def test_truncation_anywhere_is_noticed(tmp_path, original):
    for length in range(len(original)):
        (tmp_path / "file").write_bytes(original[:length])
        with pytest.raises(CheckpointError, match="damaged"):
            tensorfile.read(tmp_path / "file", "test")


def test_appended_bytes_are_noticed(tmp_path, original):
    (tmp_path / "file").write_bytes(original + b"\0")
    with pytest.raises(CheckpointError, match="damaged"):
        tensorfile.read(tmp_path / "file", "test")


def test_wrong_kind(tmp_path, original):
    (tmp_path / "file").write_bytes(original)
    with pytest.raises(CheckpointError, match="holds a 'test', not a 'training state'"):
        tensorfile.read(tmp_path / "file", "training state")


def test_foreign_files(tmp_path):
    save_file({"x": np.zeros(3)}, str(tmp_path / "foreign"))
    with pytest.raises(CheckpointError, match="not of gluon_compress"):
        tensorfile.read(tmp_path / "foreign", "test")
    save_file({"x": np.zeros(3)}, str(tmp_path / "newer"),
              {"format": "gluon_compress", "version": "3", "kind": "test", "header": "{}", "sha256": ""})
    with pytest.raises(CheckpointError, match="version 3; this code reads 2"):
        tensorfile.read(tmp_path / "newer", "test")
    header = "{not JSON"
    save_file({}, str(tmp_path / "crafted"), {
        "format": "gluon_compress", "version": "2", "kind": "test", "header": header,
        "sha256": tensorfile._digest("test", {}, header)})
    with pytest.raises(CheckpointError, match="the header is no base64"):
        tensorfile.read(tmp_path / "crafted", "test")
    huge = json.dumps({"x": {"dtype": "F32", "shape": [2 ** 40], "data_offsets": [0, 2 ** 42]}}).encode()
    (tmp_path / "huge").write_bytes(struct.pack("<Q", len(huge)) + huge)
    with pytest.raises(CheckpointError, match="damaged"):
        tensorfile.read(tmp_path / "huge", "test")


def write_raw(path, dtype, size, metadata):
    """A safetensors file with one tensor of ``size`` bytes, which are zeros, of any type."""
    item = {"F8_E4M3": 1, "F8_E5M2": 1, "F8_E8M0": 1, "BF16": 2, "F32": 4}[dtype]
    header = json.dumps({"__metadata__": metadata, "x": {"dtype": dtype, "shape": [size // item],
                                                         "data_offsets": [0, size]}}).encode()
    with open(path, "wb") as file:
        file.write(struct.pack("<Q", len(header)) + header)
        file.truncate(file.tell() + size)


@pytest.mark.parametrize("dtype", ["F8_E4M3", "F8_E5M2", "F8_E8M0", "BF16"])
def test_types_that_numpy_does_not_have(tmp_path, dtype):
    write_raw(tmp_path / "foreign", dtype, 4, {})
    with pytest.raises(CheckpointError, match="not of gluon_compress"):
        tensorfile.read(tmp_path / "foreign", "test")
    write_raw(tmp_path / "forged", dtype, 4, {"format": "gluon_compress", "version": "2", "kind": "test"})
    with pytest.raises(CheckpointError, match="forged is damaged"):
        tensorfile.read(tmp_path / "forged", "test")


def test_foreign_files_are_refused_before_their_tensors_are_read(tmp_path):
    write_raw(tmp_path / "foreign", "F32", 64 << 20, {"format": "pt"})
    tracemalloc.start()
    try:
        with pytest.raises(CheckpointError, match="not of gluon_compress"):
            tensorfile.read(tmp_path / "foreign", "test")
        assert tracemalloc.get_traced_memory()[1] < 4 << 20
    finally:
        tracemalloc.stop()


def test_no_file(tmp_path):
    with pytest.raises(FileNotFoundError):
        tensorfile.read(tmp_path / "nothing", "test")


@pytest.mark.parametrize("tensors, header, message", [
    ({"x": np.array(["a", "b"], dtype=object)}, {}, "tensor 'x' is of type object"),
    ({"y": np.zeros(2, np.complex128)}, {}, "tensor 'y' is of type complex128"),
    ({"z": np.zeros(2, np.longdouble)}, {}, "tensor 'z'"),
    ({"x": np.zeros(2)}, {"not JSON": object()}, "not JSON serializable")])
def test_a_failed_write_leaves_the_old_file(tmp_path, original, tensors, header, message):
    (tmp_path / "file").write_bytes(original)
    with pytest.raises(TypeError, match=message):
        tensorfile.write(tmp_path / "file", "test", tensors, header)
    assert (tmp_path / "file").read_bytes() == original
    assert os.listdir(tmp_path) == ["file"]


def test_a_killed_write_leaves_the_old_file(tmp_path, original):
    path, (heard, say) = tmp_path / "file", os.pipe()
    path.write_bytes(original)

    def write():
        for count in itertools.count(1):
            tensorfile.write(path, "test", {"x": np.full(5_000_000, count, np.float32)}, {"count": count})
            os.write(say, b".")
    number = in_another_process(write)
    os.close(say)
    assert os.read(heard, 1) + os.read(heard, 1) == b".."
    os.kill(number, signal.SIGKILL)
    os.close(heard)
    assert os.waitpid(number, 0)[1] == signal.SIGKILL
    tensors, header = tensorfile.read(path, "test")
    assert header["count"] >= 2
    np.testing.assert_array_equal(tensors["x"], np.full(5_000_000, header["count"], np.float32))
