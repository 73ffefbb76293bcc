"""Whatever happens to a command while it runs: signals, full disks, closed pipes, files that are there."""
import json
import os
import re
import subprocess
import sys
from pathlib import Path

import gluon_compress as gc  # before mxnet
import mxnet as mx
import pytest
from command_line import ROOT, started, without_notes
from full_disk import files_end_at
from gluon_compress.cli import main

MODULE = '''
import os, signal
import gluon_compress, mxnet as mx, numpy as np
from mxnet.gluon import nn

def net():
    made = nn.HybridSequential()
    made.add(nn.Conv2D(16, 3, padding=1, in_channels=3), nn.BatchNorm(), nn.Activation("relu"),
             nn.Conv2D(16, 3, padding=1, in_channels=16), nn.Activation("relu"), nn.GlobalAvgPool2D(),
             nn.Dense(3, in_units=16))
    made.initialize(mx.init.Xavier())
    return made

class Batches:
    """Four batches; before the given one, counted over all passes, this process gets a signal."""
    def __init__(self, name, when):
        self.name, self.left = name, when
    def __len__(self):
        return 4
    def __iter__(self):
        for number in range(4):
            self.left -= 1
            if self.left == 0:
                os.kill(os.getpid(), getattr(signal, self.name))
            random = np.random.RandomState(number)
            yield mx.nd.array(random.rand(6, 3, 8, 8)), mx.nd.array(random.randint(0, 3, 6))

def quiet(): return Batches("SIGINT", 0), Batches("SIGINT", 0)
''' + "".join(f'def {name.lower()}_{when}(): return Batches("{name}", {when}), Batches("{name}", {when})\n'
              for name in ("SIGINT", "SIGTERM", "SIGHUP") for when in (1, 3, 7))
# {command: (words before the data, words after); what is made}, with robust_module:... as the data
WITH_DATA = {
    "prune": (("prune", "model", "--ratio", "0.5", "--epochs", "3"), "out.gcz"),
    "quantize": (("quantize", "model", "--max-accuracy-drop", "0.5"), "out.gcz"),
    "sensitivity": (("sensitivity", "model"), "out.json"),
    "distill": (("distill", "robust_module:net", "--teacher", "model", "--epochs", "3"), "out.gcz"),
    "compress": (("compress", "model", "--epochs", "3"), "out.gcz"),
    "evaluate": (("evaluate", "model"), None)}


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    folder = tmp_path_factory.mktemp("robust")
    (folder / "robust_module.py").write_text(MODULE)
    sys.path.insert(0, str(folder))
    import robust_module
    net = robust_module.net()
    net(mx.nd.ones((1, 3, 8, 8)))
    gc.export.write_checkpoint(net, folder / "model")
    gc.save(folder / "out.gcz", net, example=mx.nd.ones((1, 3, 8, 8)))
    yield folder
    sys.path.remove(str(folder))


def link_files(place, folder):
    for name in ("model-symbol.json", "model-0000.params", "robust_module.py"):
        (folder / name).symlink_to(place / name)


@pytest.fixture
def work(place, tmp_path, monkeypatch):
    link_files(place, tmp_path)
    monkeypatch.chdir(tmp_path)
    return tmp_path


def words_of(command, data, made=True):
    words, output = WITH_DATA[command]
    return [*words, "--data", f"robust_module:{data}", *(["--output", output] if output and made else [])]


def call(*words):
    return main(list(words), standalone_mode=False)


SIGNALS = {"SIGINT": (130, "interrupted"), "SIGTERM": (143, "ended by SIGTERM"), "SIGHUP": (129, "ended by SIGHUP")}
WHEN = {(command, name): (1, 7) if command in ("distill", "compress") and name != "SIGHUP" else (3,)
        for command in WITH_DATA for name in SIGNALS}  # before which batch the signal comes
# Runs of commands one after the other in a process that they send signals to; what came of each, as JSON.
SIGNALLED = """
import contextlib, io, json, os, signal, sys
signal.signal(signal.SIGINT, signal.default_int_handler)  # which a shell's background jobs ignore
from gluon_compress.cli import main
found = []
for folder, words in json.loads(sys.argv[1]):
    os.chdir(folder)
    before, output, errors = sorted(os.listdir()), io.StringIO(), io.StringIO()
    with contextlib.redirect_stdout(output), contextlib.redirect_stderr(errors):
        code = main(words, standalone_mode=False)
    left = [each for each in sorted(os.listdir())
            if each not in (*before, "__pycache__") and not each.endswith(".state")]
    found.append([code, output.getvalue(), errors.getvalue(), left])
print(json.dumps(found))
"""


@pytest.fixture(scope="module")
def signalled(place, tmp_path_factory):
    """{(command, signal): what came of each run}, of a process of their own: a signal might end a worker of xdist."""
    keys, runs = [], []
    for (command, name), times in WHEN.items():
        folder = tmp_path_factory.mktemp(f"{command}_{name}")
        link_files(place, folder)
        for when in times:
            keys.append((command, name))
            runs.append((str(folder), words_of(command, f"{name.lower()}_{when}")))
    done = subprocess.run([sys.executable, "-c", SIGNALLED, json.dumps(runs)], text=True, capture_output=True,
                          env={**os.environ, "PYTHONPATH": os.pathsep.join((str(ROOT), str(place)))})
    assert done.returncode == 0, done.stderr
    found = {key: [] for key in keys}
    for key, result in zip(keys, json.loads(done.stdout)):
        found[key].append(result)
    return found


@pytest.mark.parametrize("name", SIGNALS)
@pytest.mark.parametrize("command", WITH_DATA)
def test_a_signal_ends_a_command_at_once_and_leaves_nothing_half_done(signalled, command, name):
    expected, said = SIGNALS[name]
    for code, output, errors, left in signalled[command, name]:
        assert (code, output, left) == (expected, "", []), errors
        assert without_notes(errors) == [f"gluon-compress: {said}"]


@pytest.mark.parametrize("command", [name for name in WITH_DATA if WITH_DATA[name][1]])
def test_a_full_disk_is_said_in_a_line_that_names_the_file_and_the_old_file_stays(work, capsys, command):
    output = Path(WITH_DATA[command][1])
    output.write_text("an older file")
    with files_end_at(100):
        assert call(*words_of(command, "quiet"), "--force") == 1
    [said] = without_notes(capsys.readouterr().err)
    assert re.fullmatch(rf"gluon-compress: error: .*{output}.*: File too large; .*", said), said
    assert output.read_text() == "an older file" and not list(work.glob(".*")) and not list(work.glob("*.yaml"))


@pytest.mark.parametrize("command", [name for name in WITH_DATA if WITH_DATA[name][1]])
def test_nothing_is_overwritten_without_force(work, capsys, command):
    output = Path(WITH_DATA[command][1])
    for file in (output, Path(f"{output}.recipe.yaml")):
        file.write_text("mine")
        assert call(*words_of(command, "quiet")) == 1
        [said] = without_notes(capsys.readouterr().err)
        assert said == f"gluon-compress: error: {file} is there already; nothing is overwritten without --force"
        assert file.read_text() == "mine"
        file.unlink()


@pytest.mark.parametrize("output", ["/proc/none/out.gcz", "model-0000.params/out.gcz", "/dev/null/out.gcz", "x" * 300])
@pytest.mark.parametrize("command", ["prune", "compress", "export"])
def test_a_target_that_cannot_be_written_is_said_before_the_work(work, capsys, command, output):
    words = words_of(command, "quiet", made=False) if command in WITH_DATA else [command, "model", "--shape", "1,3,8,8"]
    ending = "" if "/" in output else ".gcz"
    assert call(*words, "--output", output + ending) == 1
    [said] = without_notes(capsys.readouterr().err)
    reasons = "No such file|Not a directory|File name too long|Permission denied"
    assert re.match(rf"gluon-compress: error: .*({reasons})", said)


def test_an_output_that_nobody_reads_or_that_is_full_ends_the_command_quietly_or_in_a_line(work):
    reading, writing = os.pipe()
    os.close(reading)
    process = started("inspect", "model", "--shape", "1,3,8,8", stdout=writing, stderr=subprocess.PIPE)
    os.close(writing)
    with open("/dev/full", "w") as full:
        other = started("inspect", "model", "--shape", "1,3,8,8", stdout=full, stderr=subprocess.PIPE)
    _, errors = process.communicate(timeout=100)
    assert (process.returncode, errors) == (141, "")
    _, errors = other.communicate(timeout=100)
    assert other.returncode == 1 and re.fullmatch(r"gluon-compress: error: .*No space left on device; .*\n", errors)


def test_messages_that_nobody_reads_do_not_stop_the_work(work):
    reading, writing = os.pipe()
    os.close(reading)
    process = started(*words_of("compress", "quiet"), stdout=subprocess.PIPE, stderr=writing)
    os.close(writing)
    output, _ = process.communicate(timeout=100)
    assert process.returncode == 0 and "out.gcz: " in output and Path("out.gcz").exists()
