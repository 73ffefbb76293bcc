"""What the tests of the command line share: a folder as a user has it, and runs of commands in this process."""
import os
import re
import shlex
import shutil
import subprocess
import sys
from contextlib import contextmanager
from pathlib import Path

import click
import gluon_compress as gc  # before mxnet
import mxnet as mx
import numpy as np
from click.testing import CliRunner
from gluon_compress.cli import main
from mxnet.gluon import nn
from PIL import Image

ROOT = Path(gc.__file__).resolve().parents[1]
FACTORIES = '''
import os
import sys
import warnings
import gluon_compress
import mxnet as mx
from mxnet.gluon import nn

def student():
    net = nn.HybridSequential()
    net.add(nn.Conv2D(4, 5, strides=4, in_channels=1), nn.Activation("relu"), nn.GlobalAvgPool2D(), nn.Dense(10))
    net.initialize()
    return net

def noisy():
    print("printed by the module")
    os.write(1, b"written to 1\\n")
    os.write(2, b"written to 2\\n")
    warnings.warn("a warning of somebody else")
    return student()

def started():
    open("started", "w").close()
    return student()

def dense():
    net = nn.Dense(3, in_units=4)
    net.initialize()
    return net

def untrained(): return nn.Dense(3, in_units=4)
def nothing(): return None
def fails(): raise KeyError("lost\\nand more")
'''


def make_place(folder):
    """``model-symbol.json``, ``model-0000.params`` of a small network, ``photos/`` of ten classes, ``my/nets.py``."""
    random = np.random.RandomState(0)
    for label in range(10):
        for number in range(6):
            pixels = random.randint(0, 40, (28, 28))
            pixels[2 * label:2 * label + 8, 4:24] += 200
            file = folder / "photos" / str(label) / f"{number}.png"
            file.parent.mkdir(parents=True, exist_ok=True)
            Image.fromarray(pixels.astype(np.uint8)).save(file)
    (folder / "my").mkdir()
    (folder / "my" / "nets.py").write_text(FACTORIES)
    net, data = small_network(), gc.datasets.image_folder(folder / "photos", grey=True)
    trainer = mx.gluon.Trainer(net.collect_params(), "adam", {"learning_rate": 0.01})
    gc.training.fit(net, data.batches(20, shuffle=True), 15, trainer, progress=False)
    gc.export.write_checkpoint(net, folder / "model", mx.nd.zeros((1, 1, 28, 28)))


def small_network():
    mx.random.seed(0)
    net = nn.HybridSequential()
    net.add(nn.Conv2D(16, 5, strides=2, in_channels=1), nn.BatchNorm(), nn.Activation("relu"), nn.MaxPool2D(2),
            nn.Conv2D(16, 3, in_channels=16), nn.Activation("relu"), nn.Flatten(),
            nn.Dense(10, in_units=16 * 4 * 4))
    net.initialize(mx.init.Xavier())
    net(mx.nd.zeros((1, 1, 28, 28)))
    return net


def run(*words):
    """The result of a command: ``exit_code``, ``stdout``, ``stderr``; what is no exit is raised."""
    words = shlex.split(words[0]) if len(words) == 1 else words
    result = CliRunner().invoke(main, list(map(str, words)), prog_name="gluon-compress")
    if result.exception is not None and not isinstance(result.exception, SystemExit):
        raise result.exception
    return result


def done(*words):
    """As :func:`run`, of a command that must succeed."""
    result = run(*words)
    assert result.exit_code == 0, result.stderr
    return result


def without_notes(errors):
    """The lines of standard error that are no notes."""
    return [line for line in errors.splitlines() if not line.startswith("gluon-compress: note: ")]


def refused(*words, code=1):
    """The one line of a command that must fail, without its beginning."""
    result = run(*words)
    lines = without_notes(result.stderr)
    assert result.exit_code == code and result.stdout == "", (result.exit_code, result.stdout, result.stderr)
    assert len(lines) == 1 and lines[0].startswith("gluon-compress: error: "), result.stderr
    return lines[0].removeprefix("gluon-compress: error: ")


def started(*words, **streams):
    """A command as a process of its own, which runs."""
    return subprocess.Popen([sys.executable, "-m", "gluon_compress", *words], text=True, **streams,
                            env={**os.environ, "PYTHONPATH": str(ROOT)})


@contextmanager
def modules_of(folder):
    """A folder whose modules, of the package ``my``, are forgotten afterwards: other tests have others."""
    yield folder
    for name in [name for name in sys.modules if name == "my" or name.startswith("my.")]:
        del sys.modules[name]
    sys.path[:] = [path for path in sys.path if path != str(folder)]


def files(folder):
    """{path: content} of all files in a folder but those of Python's own cache."""
    return {str(path.relative_to(folder)): path.read_bytes() for path in sorted(folder.rglob("*"))
            if path.is_file() and path.parent.name != "__pycache__"}


def commands():
    with click.Context(main) as ctx:
        return {name: main.get_command(ctx, name) for name in main.list_commands(ctx)}


def examples(command):
    """The examples on a help page, each as the list of its words after ``gluon-compress``."""
    text = command.help.replace("\\\n", " ")
    return [shlex.split(line)[1:] for line in re.findall(r"^ *(gluon-compress .*)$", text, re.MULTILINE)]


def copy_of(place, folder):
    """A copy of a place, in which a test may write."""
    shutil.copytree(place, folder, dirs_exist_ok=True)
    return folder
