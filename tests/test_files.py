"""Files: old content or the whole new one, checksums, locks, and paths that are refused in time."""
import errno
import functools
import hashlib
import os
import signal
import stat
import sys
from contextlib import suppress
from pathlib import Path

import gluon_compress as gc
import numpy as np
import pytest
from full_disk import files_end_at
from gluon_compress.files import tensorfile, workplace
from gluon_compress.files.locks import CHUNK_BYTES, lock, sha256_of
from gluon_compress.files.paths import check_path, check_target, check_writable
from gluon_compress.files.writing import write_atomically
from hypothesis import given
from hypothesis import strategies as st
from processes import in_another_process

import mxnet as mx
from mxnet.gluon import nn


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


def test_the_lock_excludes_other_processes(tmp_path):
    path, (heard, say) = tmp_path / "folder" / "file", os.pipe()

    def take():
        sys.stderr = open(say, "w", buffering=1)
        with lock(path):
            sys.stderr.write("has it\n")
    with lock(path):
        number = in_another_process(take)
        heard = open(heard)
        assert heard.readline() == f"{path}: waiting for another process, which is bringing it\n"
    assert os.waitpid(number, 0)[1] == 0
    assert heard.readline() == "has it\n"  # and nothing else in between


def test_a_planted_lock_file_is_not_written_through(tmp_path):
    (tmp_path / "victim").write_text("precious")
    (tmp_path / "file.lock").symlink_to("victim")
    with lock(tmp_path / "file"):
        pass
    assert (tmp_path / "victim").read_text() == "precious"


@pytest.mark.parametrize("moment", ["before", "while it writes"])
def test_behind_a_planted_link_nothing_is_removed(tmp_path, moment):
    """One that looks like the folder of a call that was killed, or that takes the place of the folder of this call."""
    (tmp_path / "victim").mkdir()
    for name in ("lock", "precious"):
        (tmp_path / "victim" / name).write_text("precious")
    (tmp_path / "shared").mkdir()

    def write(temporary):
        temporary.write_text("new")
        if moment == "while it writes":
            temporary.parent.rename(tmp_path / "moved")
            temporary.parent.symlink_to(tmp_path / "victim")
    if moment == "before":
        (tmp_path / "shared" / ".file.0123456789abcdef.tmp").symlink_to(tmp_path / "victim")
    with suppress(OSError):
        write_atomically(tmp_path / "shared" / "file", write)
    assert sorted(os.listdir(tmp_path / "victim")) == ["lock", "precious"]


@pytest.mark.parametrize("path, error, message", [
    (None, TypeError, "here is None; accepted: the path of a file"), (5, TypeError, "here is 5; accepted"),
    ("", ValueError, "here is ''; accepted: the path of a file"), ("a/", ValueError, "here is 'a/'; accepted"),
    (b"file", TypeError, "here is b'file'; accepted"), ("a\0b", ValueError, "here is 'a.x00b'; accepted"),
    ("a\udcffb", ValueError, "no name in utf-8"), ("/dev/null", ValueError, "no regular file; accepted"),
    (Path(__file__).parent, ValueError, "here is '.*', a directory; accepted: the path of a file")])
def test_paths_that_are_none(path, error, message):
    with pytest.raises(error, match=message):
        check_path("here", path)


def test_what_can_be_written_is_left_as_it_is(tmp_path):
    (tmp_path / "file").write_text("old")
    check_target("here", tmp_path / "file")
    check_target("here", tmp_path / "new" / "deep" / "file")
    check_target("here", "file in the folder at hand")
    assert os.listdir(tmp_path) == ["file"] and (tmp_path / "file").read_text() == "old"


def places_that_cannot_be_written(folder):
    """{what is wrong: a path}; as for root, permissions say nothing."""
    (folder / "file").write_text("old")
    (folder / "loop").symlink_to("loop")
    return {"a file as folder": folder / "file" / "below" / "it", "a name that is too long": folder / ("n" * 256),
            "a folder's that is too long": folder / ("n" * 256) / "file", "links in a circle": folder / "loop",
            "a folder of the system": Path("/proc/no/file")}


def test_where_nothing_can_be_written_is_told_before_the_work(tmp_path):
    for path in places_that_cannot_be_written(tmp_path).values():
        for refuse in (check_writable, lambda path: write_atomically(path, lambda temporary: temporary.write_text(""))):
            with pytest.raises(OSError) as caught:
                refuse(path)
            assert caught.value.filename == str(path) and caught.value.errno
    assert sorted(os.listdir(tmp_path)) == ["file", "loop"]


@pytest.mark.parametrize("length", [200, 255])
def test_the_longest_names_are_written(tmp_path, length):
    path = tmp_path / ("é" * (length // 2) + "n" * (length % 2))
    check_target("here", path)
    write_atomically(path, lambda temporary: temporary.write_text("new"))
    assert path.read_text() == "new" and len(os.fsencode(path.name)) == length


# ---- mode, links, flushing

@pytest.mark.parametrize("umask, mode", [(0o022, 0o644), (0o002, 0o664), (0o077, 0o600)])
def test_new_files_have_the_mode_that_the_umask_leaves(tmp_path, umask, mode):
    before = os.umask(umask)
    try:
        tensorfile.write(tmp_path / "file", "test", {"x": np.zeros(3)}, {})
    finally:
        os.umask(before)
    assert stat.S_IMODE((tmp_path / "file").stat().st_mode) == mode


@pytest.mark.parametrize("mode", [0o600, 0o664, 0o444])
def test_a_replaced_file_keeps_its_mode(tmp_path, mode):
    (tmp_path / "file").write_text("old")
    (tmp_path / "file").chmod(mode)
    tensorfile.write(tmp_path / "file", "test", {"x": np.zeros(3)}, {})
    assert stat.S_IMODE((tmp_path / "file").stat().st_mode) == mode


@pytest.mark.parametrize("exists", [True, False])
def test_a_link_stays_and_what_it_names_is_replaced(tmp_path, exists):
    (tmp_path / "data").mkdir()
    real, link = tmp_path / "data" / "real", tmp_path / "link"
    if exists:
        real.write_text("old")
    link.symlink_to("second")
    (tmp_path / "second").symlink_to("data/real")
    check_target("here", link)
    write_atomically(link, lambda temporary: temporary.write_text("new"))
    assert link.is_symlink() and (tmp_path / "second").is_symlink()
    assert real.read_text() == "new" and os.listdir(tmp_path / "data") == ["real"]


def test_content_and_folder_are_flushed_around_the_rename(tmp_path, monkeypatch):
    """By their numbers of inodes: content, rename, folder; and a new folder in the one above it."""
    happened = []

    def fsync(number, real=os.fsync):
        happened.append(os.fstat(number).st_ino)
        real(number)

    def replace(source, target, real=os.replace):
        real(source, target)
        happened.append("rename")
    monkeypatch.setattr(os, "fsync", fsync)
    monkeypatch.setattr(os, "replace", replace)
    path = tmp_path / "new" / "file"
    write_atomically(path, lambda temporary: temporary.write_text("content"))
    assert happened == [tmp_path.stat().st_ino, path.stat().st_ino, "rename", path.parent.stat().st_ino]


# ---- kills, interrupts, writers at once

def die(*_):
    os.kill(os.getpid(), signal.SIGKILL)


@pytest.mark.parametrize("moment", ["while it writes", "before it has the lock", "before it writes"])
def test_what_a_kill_leaves_is_removed_by_the_next_call(tmp_path, monkeypatch, moment):
    def write(temporary):
        if moment == "while it writes":
            temporary.write_bytes(bytes(1000))
        die()
    with monkeypatch.context() as patch:
        if moment == "before it has the lock":
            patch.setattr(workplace, "_lock_new", die)
        number = in_another_process(lambda: write_atomically(tmp_path / "file", write))
    assert os.waitpid(number, 0)[1] == signal.SIGKILL
    assert len(os.listdir(tmp_path)) == 1
    (tmp_path / ".file.of.the.user.tmp").mkdir()
    (tmp_path / ".file.0123456789abcdef.tmp").write_text("no folder of ours")
    write_atomically(tmp_path / "file", lambda temporary: temporary.write_text("new"))
    assert sorted(os.listdir(tmp_path)) == [".file.0123456789abcdef.tmp", ".file.of.the.user.tmp", "file"]


def test_a_living_writer_is_left_alone(tmp_path):
    def outer(temporary):
        temporary.write_text("outer")
        write_atomically(tmp_path / "file", lambda inner: inner.write_text("inner"))
        assert (tmp_path / "file").read_text() == "inner"
    write_atomically(tmp_path / "file", outer)
    assert (tmp_path / "file").read_text() == "outer" and os.listdir(tmp_path) == ["file"]


def test_writers_at_once_do_not_disturb_each_other(tmp_path):
    def write(letter):
        for _ in range(100):
            write_atomically(tmp_path / "file", lambda temporary: temporary.write_text(letter * 1000))
    numbers = [in_another_process(lambda letter=letter: write(letter)) for letter in "ab"]
    assert [os.waitpid(number, 0)[1] for number in numbers] == [0, 0]
    assert (tmp_path / "file").read_text() in ("a" * 1000, "b" * 1000) and os.listdir(tmp_path) == ["file"]


def test_an_interrupt_comes_out_as_one_and_leaves_the_old_file_or_the_new(tmp_path, run_python):
    """At some sixty moments of a save, spread over its duration; in a process of its own, which the signal may end."""
    interrupted = run_python("""
import os, signal, sys, threading, time
import gluon_compress as gc
import mxnet as mx
from mxnet.gluon import nn

net = nn.HybridSequential()
net.add(nn.Dense(30, in_units=784), nn.Dense(10, in_units=30))
net.initialize()
folder = sys.argv[1]
path = os.path.join(folder, "file")
records, contents = [gc.pruning.prune_magnitude(net, ratio) for ratio in (0.3, 0.5)], []
for masks in records:
    started = time.perf_counter()
    gc.save(path, net, masks)
    duration = time.perf_counter() - started
    with open(path, "rb") as file:
        contents.append(file.read())
    gc.load(path)
assert contents[0] != contents[1]
signal.signal(signal.SIGINT, signal.default_int_handler)
interrupted = 0
for step in range(1, 60):
    # a signal to this thread: one to the process may reach a thread that waits for a core, and come too late
    timer = threading.Timer(duration * step / 50, signal.pthread_kill, (threading.get_ident(), signal.SIGINT))
    possible = contents
    try:
        timer.start()
        gc.save(path, net, records[step % 2])
        possible = [contents[step % 2]]
        timer.cancel()
        timer.join()
    except KeyboardInterrupt:
        interrupted += 1
    assert os.listdir(folder) == ["file"], os.listdir(folder)
    with open(path, "rb") as file:
        assert file.read() in possible
print(interrupted)
""", str(tmp_path))
    assert int(interrupted) > 0  # most of the time


# ---- full disks, by the limit of a file's size, which fails in the same places

def small_network():
    net = nn.HybridSequential()
    net.add(nn.Dense(30, activation="relu", in_units=784), nn.Dense(10, in_units=30))
    net.initialize()
    return net


@functools.cache
def writers():
    """{what: (a function of the prefix of a path, the ends of its files' names)}: all that write."""
    net, trained = small_network(), small_network()
    images, labels = mx.nd.random.normal(shape=(8, 784)), mx.nd.zeros(8)
    integers = gc.quantization.quantize(net, [images], method="minmax", progress=False)

    def fit(path):
        gc.training.fit(trained, [(images, labels)], 1, state_path=path, progress=False)
    return {
        "save": (lambda path: gc.save(path, net), [""]), "save int8": (lambda path: gc.save(path, integers), [""]),
        "fit": (fit, [""]),
        "cache_logits": (lambda path: gc.distillation.cache_logits(
            net, [(images, labels)] * 40, path, progress=False), [""]),
        "sensitivity": (lambda path: gc.pruning.measure_sensitivity(
            net, lambda net: 0.5, state_path=path, progress=False), [""]),
        "write_checkpoint": (lambda path: gc.export.write_checkpoint(net, path), ["-symbol.json", "-0000.params"]),
        "to_onnx": (lambda path: gc.export.to_onnx(net, f"{path}.onnx", images, verify=False), [".onnx"]),
        "plot": (lambda path: gc.measuring.plots.plot_before_after({"a": 1, "b": 2}, f"{path}.png"), [".png"]),
        "page": (lambda path: gc.report(net, images).write_html(path), [""]),
        "report": (lambda path: gc.report(net, images).write_json(path), [""])}


@pytest.mark.parametrize("what", writers())
def test_a_full_disk_is_an_os_error_that_names_the_path(tmp_path, what):
    write, ends = writers()[what]
    write(str(tmp_path / "whole"))
    sizes = [(tmp_path / f"whole{end}").stat().st_size for end in ends]
    if what not in ("fit", "cache_logits", "sensitivity"):  # which go on with what is there
        for end in ends:
            (tmp_path / f"file{end}").write_text("old")
    before = {path.name: path.read_bytes() for path in tmp_path.iterdir()}
    short = 100 if what == "fit" else 1  # the seconds of an epoch have more digits or fewer
    for size in {10, *(size // 2 for size in sizes), max(sizes) - short, max(sizes) - 100}:
        with files_end_at(size), pytest.raises(OSError) as caught:
            write(str(tmp_path / "file"))
        assert caught.value.errno == errno.EFBIG
        assert caught.value.filename in [str(tmp_path / f"file{end}") for end in ends]
        if what == "sensitivity":
            (tmp_path / "file").unlink(missing_ok=True)  # what it had measured until then
        assert {path.name: path.read_bytes() for path in tmp_path.iterdir()} == before


@pytest.mark.parametrize("what", writers())
def test_a_place_that_cannot_be_written_is_refused_by_all_that_write(tmp_path, what):
    write, ends = writers()[what]
    for reason, path in places_that_cannot_be_written(tmp_path).items():
        if reason != "links in a circle" or ends == [""]:  # with an end to its name it is another path
            with pytest.raises(OSError) as caught:
                write(str(path))
            assert caught.value.filename in [f"{path}{end}" for end in ends]
    assert sorted(os.listdir(tmp_path)) == ["file", "loop"]


def test_a_file_that_write_reads_keeps_its_name_in_the_error(tmp_path):
    with pytest.raises(FileNotFoundError) as caught:
        write_atomically(tmp_path / "file", lambda temporary: (tmp_path / "source").read_text())
    assert caught.value.filename == str(tmp_path / "source")


def test_errors_that_are_not_of_the_disk_stay_as_they_are(tmp_path):
    def write(temporary):
        temporary.write_text("half")
        raise RuntimeError("another reason")
    with pytest.raises(RuntimeError, match="another reason"):
        write_atomically(tmp_path / "file", write)
    assert os.listdir(tmp_path) == []


def test_names_beyond_ascii_where_python_takes_names_as_ascii(tmp_path, run_python):
    """With LC_ALL=C alone Python 3.7 and later take them as UTF-8."""
    code = """
import sys
import gluon_compress as gc
import mxnet as mx
net = gc.models.LeNet300100()
net.initialize()
net(mx.nd.zeros((1, 784)))
try:
    gc.save(sys.argv[1], net)
    gc.load(sys.argv[1])
    print("saved")
except ValueError as error:
    print(error)
"""
    path = tmp_path / "ü" / "é.gcz"
    assert run_python(code, path, LC_ALL="C").strip() == "saved"
    path.unlink()
    told = run_python(code, path, LC_ALL="C", PYTHONUTF8="0", PYTHONCOERCECLOCALE="0")
    assert "path is" in told and "set PYTHONUTF8=1" in told and not os.listdir(path.parent)
