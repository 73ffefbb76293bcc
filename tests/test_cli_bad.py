"""What goes wrong on the command line: one line that says what and what to do, an exit code, and no half of a file."""
import json
import os
import signal
import subprocess
import sys
import time

import gluon_compress as gc  # before mxnet
import mxnet as mx
import numpy as np
import pytest
from command_line import done, files, refused, run, started
from full_disk import files_end_at


@pytest.fixture
def place(place):
    """The working directory: a copy of what a user has, and what users have that is wrong."""
    (place / "empty").write_bytes(b"")
    (place / "text.gcz").write_text("hello")
    (place / "loop").symlink_to("loop")
    (place / "cut-symbol.json").write_bytes((place / "model-symbol.json").read_bytes()[:900])
    (place / "cut-0000.params").write_bytes((place / "model-0000.params").read_bytes()[:900])
    (place / "alone-symbol.json").write_bytes((place / "model-symbol.json").read_bytes())
    mx.nd.save("foreign-0000.params", {"arg:w": mx.nd.ones((3, 4))})
    (place / "foreign-symbol.json").write_bytes((place / "model-symbol.json").read_bytes())
    graph = json.loads((place / "model-symbol.json").read_text())
    graph["nodes"][-1]["op"] = "_Native"
    (place / "native-symbol.json").write_text(json.dumps(graph))
    (place / "native-0000.params").write_bytes((place / "model-0000.params").read_bytes())
    (place / "broken.onnx").write_bytes(b"\x08\x01garbage")
    return place


# ---- networks

@pytest.mark.parametrize("text, message", [
    ("nothing", "nothing: neither a file, nor a checkpoint nothing-symbol.json is there"),
    ("mode", "checkpoints there: alone, cut, foreign, model, native"), ("empty", "empty is an empty file"),
    ("text.gcz", "text.gcz is damaged"), ("loop", "loop"),
    ("empty/model", "empty/model: "), ("cut", "cut-0000.params"), ("cut-symbol.json", "cut-symbol.json is damaged"),
    ("alone", "alone-symbol.json has no parameters beside it"), ("foreign", "foreign"),
    ("native", "_Native"), ("photos", "photos holds"), ("photos/0/0.png", "0.png is "), ("broken.onnx", "broken.onnx"),
    ("nothing.onnx", "nothing.onnx: No such file or directory; look at the name"),
    ("params:lenet", "did you mean lenet_mnist"), ("zoo:resnet18", "did you mean resnet18"),
    ("zoo:resnet18_v1,layers", "accepted: key=value"), ("zoo:resnet18_v1,source=torch", "accepted: 'gluon', 'gluoncv'"),
    ("my.nets:studen", "did you mean student"), ("my.net:student", "cannot be imported: ModuleNotFoundError"),
    ("my.nets:nothing", "returned a NoneType; accepted: a gluon.HybridBlock"),
    ("my.nets:fails", "my.nets:fails raised KeyError: 'lost"), ("my.nets:untrained", "initialize"),
    ("my.nets:dense+nothing.params", "nothing.params"), ("other.json+weights.params", "weights.params: No such")])
def test_what_is_no_network_is_named(text, message, place):
    assert message in refused("inspect", text, "--shape", "1,1,28,28")


@pytest.mark.parametrize("words, message", [
    ("inspect model --latency", "the shape of the input of model is not known; give --shape"),
    ("inspect model --shape 1,3,28,28", "shape"), ("inspect model --epoch 3 --shape 1,1,28,28", "accepted: 0"),
    ("inspect model --shape 1,1,28,28 --dtype float32 --dtype int8", "accepted: once, or for each"),
    ("prune model --shape 1,1,28,28 --ratio 0.5 --criterion taylor -o x.gcz", "give --data"),
    ("prune model --shape 1,1,28,28 --ratio 0.5 --epochs 1 -o x.gcz", "give --data"),
    ("prune model --shape 1,1,28,28 --ratio 0.5 --select nope -o x.gcz", "'nope'"),
    ("prune model --shape 1,1,28,28 --sparsity 0.5 --round-to 8 -o x.gcz", "--round-to is about channels"),
    ("prune model --shape 1,1,28,28 --sparsity 0.5 --criterion fpgm -o x.gcz", "accepted for weights: l1, random"),
    ("prune model --shape 1,1,28,28 --sensitivity empty -o x.gcz", "empty holds no curves"),
    ("prune model --shape 1,1,28,28 --sensitivity none.json -o x.gcz", "none.json: No such file"),
    ("quantize model --shape 1,1,28,28 -o x.gcz", "give --data, or --weights-only"),
    ("quantize model --data photos --bits 4 -o x.gcz", "--weights-only or --simulate"),
    ("quantize model --shape 1,1,28,28 --weights-only --equalize -o x.gcz", "--equalize is about activations"),
    ("compress my.nets:untrained --data photos -o x.gcz", "parameter weight is not initialized: call net.initialize()"),
    ("export model --shape 1,1,28,28 --opset 13 -o copy", "--opset is for ONNX"),
    ("export model --shape 1,1,28,28 --loss SVMOutput -o m.onnx", "--loss is for files of MXNet"),
    ("export model --shape 1,1,28,28 --opset 99 -o m.onnx", "99"),
    ("evaluate model --data nowhere", "nowhere: there is no such file"), ("params lenet", "did you mean lenet_mnist"),
    ("sensitivity model --data photos --kind weights --criterion fpgm", "accepted for weights: l1, random")])
def test_what_options_ask_for_in_vain_is_named_and_nothing_is_written(words, message, place):
    before = files(place)
    assert message in refused(words)
    assert files(place) == before


@pytest.mark.parametrize("words, message", [
    ("", "Missing command"), ("inspct model", "No such command 'inspct'"), ("inspect", "Missing argument 'NETWORK'"),
    ("inspect model --shap 1", "No such option '--shap'"), ("inspect model --shape 1x", "no shape such as"),
    ("inspect model --shape 0,3", "no shape such as"), ("inspect model --html page", "does not end in .html"),
    ("prune model -o x.gcz", "no amount given; accepted: exactly one of"),
    ("prune model --ratio 0.5 --sparsity 0.5 -o x.gcz", "--ratio and --sparsity given; accepted: exactly one"),
    ("prune model --ratio 1.5 -o x.gcz", "1.5"), ("prune model --n-m 2-4 -o x.gcz", "no pattern such as 2:4"),
    ("prune model --ratio 0.5", "Missing option"), ("prune model --ratio 0.5 -o x.txt", "does not end in .gcz"),
    ("prune model --recipe none.yaml -o x.gcz", "none.yaml: No such file"),
    ("compress model --data photos --to coded --rate 1e9 -o x.gcz", "1e-09<=x<=1000"),
    ("sensitivity model --data photos --fractions 1.5", "numbers between 0 and 1")])
def test_words_that_are_wrong_end_with_2_and_the_page_that_helps(words, message, place):
    said = refused(*words.split(), code=2)
    assert "(see gluon-compress" in said and message in said


# ---- downloads, engines

def test_a_download_that_fails_is_one_line(place, file_server, monkeypatch, tmp_path):
    file_server.put("gluon/models/x", b"", "missing")
    monkeypatch.setenv("MXNET_GLUON_REPO", file_server.url)
    monkeypatch.setenv("MXNET_HOME", str(tmp_path / "home"))
    said = refused("inspect zoo:squeezenet1.0")
    assert said.startswith("squeezenet1.0") and "by hand" in said and "404" in said


@pytest.mark.parametrize("text, package", [("broken.onnx", "onnxruntime"), ("openvino:broken.onnx", "openvino")])
def test_an_engine_that_is_not_installed_is_named_with_what_installs_it(text, package, place, monkeypatch):
    for name in [name for name in sys.modules if name.partition(".")[0] == package]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.setitem(sys.modules, package, None)  # what Python does when it is not there
    assert "pip install" in refused("bench", text, "--shape", "1,1,28,28")


def test_an_engine_is_told_with_what_files_it_runs(place):
    done("prune model --shape 1,1,28,28 --ratio 0.5 --output small.gcz")
    assert "path is 'small.gcz'; accepted for openvino: a file that ends in .onnx or .xml" in refused(
        "bench openvino:small.gcz --shape 1,1,28,28")
    assert "head is 'logits', which a compressed file has no use for (small.gcz)" in refused(
        "bench model small.gcz --head logits --shape 1,1,28,28")


# ---- targets

def test_nothing_is_overwritten_without_force(place):
    words = "prune model --shape 1,1,28,28 --ratio 0.5 --output small.gcz"
    done(words)
    before = files(place)
    assert "small.gcz is there already; nothing is overwritten without --force" in refused(words)
    (place / "small.gcz").unlink()
    assert "small.gcz.recipe.yaml is there already" in refused(words)
    done(f"{words} --force")
    assert files(place) == before
    done("export model --shape 1,1,28,28 --format mxnet -o copy")
    assert "copy-symbol.json is there already" in refused("export model --shape 1,1,28,28 --format mxnet -o copy")


@pytest.mark.parametrize("target, message", [
    ("/proc/nothing/x.gcz", "/proc/"), ("empty/x.gcz", "empty/x.gcz: Not a directory"),
    ("folder.gcz", "folder.gcz is there already"), ("loop.gcz", "is there already"),
    ("/sys/x.gcz", "/sys/x.gcz: "), ("n" * 300 + ".gcz", "File name too long; give it a shorter name")])
def test_targets_that_cannot_be_written_are_refused_before_the_work(target, message, place):
    (place / "folder.gcz").mkdir()
    (place / "loop.gcz").symlink_to("loop.gcz")
    assert message in refused("prune", "nothing", "--ratio", "0.5", "--output", target)  # the network is not looked for


@pytest.mark.parametrize("words, target", [
    ("prune model --shape 1,1,28,28 --ratio 0.5", "x.gcz"), ("quantize model --data photos", "x.gcz"),
    ("export model --shape 1,1,28,28", "x.onnx"), ("export model --shape 1,1,28,28 --format mxnet", "x"),
    ("inspect model --shape 1,1,28,28 --html", "x.html")])
def test_a_full_disk_leaves_no_part_of_a_file(words, target, place):
    before = files(place)
    words = [*words.split(), *([] if "--html" in words else ["--output"]), target]
    with files_end_at(1000):
        said = refused(*words)
    assert said.startswith(target) and "File too large" in said
    assert files(place) == before


# ---- what happens to the process

def test_ctrl_c_leaves_no_part_of_a_file(place):
    before = files(place)
    process = started("prune", "my.nets:started", "--ratio", "0.5", "--data", "photos", "--epochs", "100000",
                      "--output", "x.gcz", stdout=subprocess.PIPE, stderr=subprocess.PIPE)
    while not (place / "started").exists() and process.poll() is None:
        time.sleep(0.1)
    time.sleep(1)  # wherever it is then: it never gets to the end
    (place / "started").unlink()
    process.send_signal(signal.SIGINT)
    output, errors = process.communicate(timeout=100)
    assert process.returncode == 130 and output == "" and errors == "gluon-compress: interrupted\n"
    assert {name: content for name, content in files(place).items() if "__pycache__" not in name} == before


def test_ctrl_c_where_python_can_raise_nothing_is_heard_a_moment_later(run_python):
    """In a process of its own: in this one the signal might end the tests."""
    assert run_python("""
import signal, time
from gluon_compress.cli.surroundings import surroundings

class Freed:
    def __del__(self):
        raise KeyboardInterrupt  # as it does when the signal comes here

signal.signal(signal.SIGINT, signal.default_int_handler)
try:
    with surroundings(False, False, print):
        Freed()
        time.sleep(60)
except KeyboardInterrupt:
    print("heard")
""") == "heard\n"


def test_a_reader_that_goes_away_ends_it_quietly(place):
    read, write = os.pipe()
    os.close(read)
    process = started("params", stdout=write, stderr=subprocess.PIPE)
    os.close(write)
    assert process.communicate(timeout=100)[1] == "" and process.returncode == 141


def test_an_output_that_takes_nothing_is_named():
    with open("/dev/full", "w") as full:
        process = started("params", stdout=full, stderr=subprocess.PIPE)
        errors = process.communicate(timeout=100)[1]
    assert process.returncode == 1
    assert errors == ("gluon-compress: error: the output: No space left on device; make room there, or write to "
                      "another place\n")


def test_an_error_nobody_foresaw_is_one_line_and_debug_shows_where(place, monkeypatch):
    def broken(*arguments, **further):
        raise RuntimeError("first line\nsecond \x1b[31m line")
    monkeypatch.setattr(gc, "report", broken)
    said = refused("inspect model --shape 1,1,28,28")
    assert said == "RuntimeError: first line second ?[31m line (--debug shows where)"
    assert "Traceback" in run("inspect model --shape 1,1,28,28 --debug").stderr


def test_a_network_that_computes_nan_is_refused(place):
    arrays = mx.nd.load("model-0000.params")
    mx.nd.save("model-0000.params", {name: value * np.nan for name, value in arrays.items()})
    assert "holds NaN" in refused("prune model --shape 1,1,28,28 --ratio 0.5 --output x.gcz")
