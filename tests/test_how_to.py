"""The how-to pages: their code runs as it stands, from the top of the page to its end, and then their commands."""
import re
from pathlib import Path

import gluon_compress as gc  # before mxnet

import mxnet as mx  # noqa: I001
import numpy as np
import pytest
import translations
import weave
from command_line import done
from mxnet.gluon import nn
from PIL import Image

ROOT = Path(__file__).resolve().parent.parent
PAGES = {source.stem: source for source in translations.how_to_sources()}
MADE = {"own_loop": ["small.gcz"], "symbol_file": ["small.gcz", "small-symbol.json", "pruned-0000.params"],
        "int8": ["int8.gcz", "weights.gcz", "integers.gcz"], "several_machines": ["trained.gcz", "training.state"],
        "small_files": ["tiny.gcz", "rounded.gcz", "trained.gcz", "shared.gcz", "coded.gcz"],
        "onnx": ["net.onnx", "int8.onnx", "narrow.onnx", "quarter.onnx", "report.html", "exported.onnx"]}


def network():
    """Wide enough to lose channels in groups that kernels like."""
    net = nn.HybridSequential()
    net.add(nn.Conv2D(32, 3, padding=1, use_bias=False, in_channels=3), nn.BatchNorm(), nn.Activation("relu"),
            nn.MaxPool2D(4), nn.Conv2D(32, 3, padding=1, in_channels=32), nn.Activation("relu"),
            nn.GlobalAvgPool2D(), nn.Flatten(), nn.Dense(5, in_units=32))
    net.initialize(mx.init.Xavier())
    net(mx.nd.zeros((1, 3, 16, 16)))
    return net


@pytest.fixture
def given(tmp_path, monkeypatch):
    """What the pages say that the reader has: {name: object}, and files in the current folder."""
    monkeypatch.chdir(tmp_path)
    random = np.random.RandomState(0)
    images, labels = random.randint(0, 256, (20, 16, 16, 3)).astype(np.uint8), np.arange(20) % 5
    for number, (image, label) in enumerate(zip(images, labels)):
        folder = tmp_path / "images" / str(label)
        folder.mkdir(parents=True, exist_ok=True)
        Image.fromarray(image).save(folder / f"{number}.png")
    train = gc.datasets.ImageDataset(images, labels, mean=(0, 0, 0), std=(1, 1, 1))
    batches, net = train.batches(10), network()
    gc.export.write_checkpoint(net, "model", epoch=3, loss_head="SoftmaxOutput")
    int8 = gc.quantization.quantize(net, batches, progress=False)
    gc.save("int8.gcz", int8)
    example = next(iter(batches))[0]
    return {"net": net, "student": network(), "teacher": network(), "int8": int8, "example": example, "train": train,
            "train_data": batches, "validation_data": batches, "calibration_data": batches}


def blocks(page, language):
    """The blocks of a page in one language, "" for commands."""
    return [text for found, text in re.findall(r"(?ms)^```(\w*)\n(.*?)^```$", page) if found == language]


@pytest.mark.parametrize("name", PAGES)
def test_what_a_page_says_runs(name, given):
    page, names = PAGES[name].read_text(), dict(given, gc=gc, mx=mx)
    if name == "int8":
        Path("int8.gcz").unlink()  # the page makes it
    for number, block in enumerate(blocks(page, "python")):
        block = block.replace("epochs=2", "epochs=2, progress=False")
        exec(compile(block, f"{name}, block {number}", "exec"), names)
    for line in "\n".join(blocks(page, "")).splitlines():
        if line.startswith("gluon-compress "):
            done(*line.split()[1:])
    assert [file for file in MADE[name] if not Path(file).stat().st_size] == []


def test_every_page_is_there_in_both_languages_with_the_same_code():
    assert PAGES.keys() == MADE.keys()
    assert [fault for source in PAGES.values() for fault in weave.faults(source)] == []


def test_the_smaller_networks_are_smaller(given):
    """What the pages promise of sizes: half of the multiplications, a quarter of the bytes."""
    names = dict(given)
    exec("".join(blocks(PAGES["own_loop"].read_text(), "python")[:2]), names)
    assert gc.report(names["net"], names["example"]).macs <= 0.5 * names["before"].macs
