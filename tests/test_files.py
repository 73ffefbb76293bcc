"""files.py: old content or the whole new one, checksums, locks, and paths that are refused in time."""
import hashlib
import os
from pathlib import Path

import numpy as np
import pytest
from gluon_compress.files import CHUNK_BYTES, check_path, check_writable, lock, sha256_of, write_atomically
from hypothesis import given
from hypothesis import strategies as st


@given(content=st.binary(max_size=100))
def test_sha256_of_equals_hashlib(tmp_path_factory, content):
    path = tmp_path_factory.getbasetemp() / "hashed"
    path.write_bytes(content)
    assert sha256_of(path) == hashlib.sha256(content).hexdigest()


def test_sha256_of_more_than_a_chunk(tmp_path):
    content = np.random.RandomState(0).bytes(CHUNK_BYTES + 1)
    (tmp_path / "file").write_bytes(content)
    assert sha256_of(tmp_path / "file") == hashlib.sha256(content).hexdigest()


def test_write_atomically_replaces_at_once(tmp_path):
    path = tmp_path / "new" / "file"
    write_atomically(path, lambda temporary: Path(temporary).write_text("one"))
    seen = []

    def write(temporary):
        Path(temporary).write_text("two")
        seen.append(path.read_text())
    write_atomically(path, write)
    assert seen == ["one"] and path.read_text() == "two" and os.listdir(path.parent) == ["file"]


def test_write_atomically_leaves_nothing_of_a_failure(tmp_path):
    (tmp_path / "file").write_text("old")

    def write(temporary):
        Path(temporary).write_text("half")
        raise OSError("disk full")
    with pytest.raises(OSError, match="disk full"):
        write_atomically(tmp_path / "file", write)
    assert os.listdir(tmp_path) == ["file"] and (tmp_path / "file").read_text() == "old"


def test_the_lock_excludes_other_processes(tmp_path, run_python):
    code = """
import sys
from filelock import Timeout
from gluon_compress.files import lock
try:
    with lock(sys.argv[1]).acquire(timeout=0):
        print("free")
except Timeout:
    print("taken")
"""
    with lock(tmp_path / "folder" / "file"):
        assert run_python(code, tmp_path / "folder" / "file").strip() == "taken"
    assert run_python(code, tmp_path / "folder" / "file").strip() == "free"


@pytest.mark.parametrize("path, error, message", [
    (None, TypeError, "here is None; accepted: the path of a file"), (5, TypeError, "here is 5; accepted"),
    (Path("/"), ValueError, "here is '/', a directory; accepted: the path of a file")])
def test_paths_that_are_none(path, error, message):
    with pytest.raises(error, match=message):
        check_path("here", path)


def test_a_writable_path_is_left_as_it_is(tmp_path):
    (tmp_path / "file").write_text("old")
    check_path("here", tmp_path / "file")
    check_writable(tmp_path / "file")
    check_writable(tmp_path / "new" / "file")
    assert sorted(os.listdir(tmp_path)) == ["file", "new"] and not os.listdir(tmp_path / "new")
    assert (tmp_path / "file").read_text() == "old"
    with pytest.raises(OSError):
        check_writable(tmp_path / "file" / "below")
