"""The way out: whoever has only a checkpoint and a folder of images leaves MXNet with the README's five commands."""
import json
import os
import re
import shlex
import subprocess
import sys
from pathlib import Path

import gluon_compress as gc  # before mxnet
import numpy as np
import onnxruntime
import pytest
from PIL import Image

ROOT = Path(__file__).resolve().parent.parent
README = (ROOT / "README.md").read_text()
PROPOSED = """
gluon-compress prune model --data photos --normalize cifar10 --macs 0.6 --scope global \\
    --epochs 3 --output small.gcz
gluon-compress quantize small.gcz --data photos --output int8.gcz
gluon-compress inspect int8.gcz --compare-with model --data test --html report.html
gluon-compress export int8.gcz --output int8.onnx
gluon-compress evaluate model int8.gcz int8.onnx --data test
"""
BLOCKS = [block for block in re.findall(r"```\n(.*?)```", README, re.DOTALL) if "gluon-compress prune model" in block]
COMMANDS = [shlex.split(line) for line in (BLOCKS or [PROPOSED])[0].replace("\\\n", " ").splitlines()
            if line.startswith("gluon-compress ")]
NAMES = ("airplane", "automobile", "bird", "cat", "deer", "dog", "frog", "horse", "ship", "truck")


def write_images(folder, dataset, count):
    """Files of images as people have them: PNG and JPEG, a directory per class."""
    for number in range(count):
        file = folder / NAMES[dataset.labels[number]] / f"{number}.{'jpg' if number % 7 == 0 else 'png'}"
        file.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(dataset.images[number]).save(file, **({"quality": 95} if file.suffix == ".jpg" else {}))


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    """What the user has, and nothing else: MXNet's own export of a network, and two folders."""
    folder = tmp_path_factory.mktemp("way_out")
    train, test = gc.datasets.cifar10()
    write_images(folder / "photos", train, 220)
    write_images(folder / "test", test, 100)
    net = gc.params.load("resnet18_cifar10")
    net.hybridize()
    net(next(iter(test.batches(2)))[0])
    net.export(str(folder / "model"))  # Gluon's
    return folder


@pytest.fixture(scope="module")
def outputs(place):
    """What the five commands print, with --json; each is a process of its own."""
    printed = []
    for _, *words in COMMANDS:
        done = subprocess.run([sys.executable, "-m", "gluon_compress", *words, "--json"], cwd=place, text=True,
                              capture_output=True, env={**os.environ, "PYTHONPATH": str(ROOT)})
        assert done.returncode == 0, f"{words}\n{done.stderr}"
        assert all(each.startswith("gluon-compress: note: ") for each in done.stderr.splitlines()), done.stderr
        printed.append(json.loads(done.stdout))
    return printed


def test_there_are_five():
    assert [words[1] for words in COMMANDS] == ["prune", "quantize", "inspect", "export", "evaluate"]


def test_the_network_is_pruned(place, outputs):
    original, small = gc.load(place / "model"), gc.load(place / "small.gcz")
    example = next(iter(gc.datasets.image_folder(place / "test").batches(1)))[0]
    before, after = (gc.report(net, example) for net in (original, small))
    share = float(COMMANDS[0][COMMANDS[0].index("--macs") + 1])
    assert after.macs <= share * before.macs and after.parameters < before.parameters
    assert outputs[0]["after"]["macs"] == after.macs


def test_the_network_is_on_integers_and_a_fifth_as_large(place, outputs):
    assert isinstance(gc.load(place / "int8.gcz"), gc.quantization.IntegerNetwork)
    assert (place / "int8.gcz").stat().st_size < 0.2 * (place / "model-0000.params").stat().st_size


def test_the_report_is_a_page_that_names_the_layers(place, outputs):
    page = (place / "report.html").read_text()
    assert re.search(r"<html.*</html>", page, re.DOTALL)
    assert all(layer in page for layer in outputs[1]["record"]["layers"])
    assert not re.search(r"(src|href)=.?https?:", page)


def test_the_onnx_file_gives_the_same_classes_in_onnx_runtime_and_nearly_the_accuracy_of_the_original(place, outputs):
    data = gc.datasets.image_folder(place / "test", mean=(0.4914, 0.4822, 0.4465), std=(0.2470, 0.2435, 0.2616))
    session = onnxruntime.InferenceSession(place / "int8.onnx", providers=["CPUExecutionProvider"])
    [name] = [each.name for each in session.get_inputs()]
    original, int8 = gc.load(place / "model"), gc.load(place / "int8.gcz")
    classes = {"original": [], "int8": [], "onnx": []}
    for inputs, _ in data.batches(100):
        classes["original"] += original(inputs).asnumpy().argmax(axis=1).tolist()
        classes["int8"] += int8(inputs).asnumpy().argmax(axis=1).tolist()
        classes["onnx"] += session.run(None, {name: inputs.asnumpy()})[0].argmax(axis=1).tolist()
    accuracies = {each: float(np.mean(found == data.labels)) for each, found in classes.items()}
    assert np.mean(np.array(classes["int8"]) == classes["onnx"]) >= 0.99
    assert accuracies["onnx"] > accuracies["original"] - 0.1 > 0.7
    said = {result["network"]: result["accuracy"] for result in outputs[4]["results"]}
    assert said == pytest.approx({"model": accuracies["original"], "int8.gcz": accuracies["int8"],
                                  "int8.onnx": accuracies["onnx"]})


def test_each_file_has_the_recipe_that_made_it(place, outputs):
    for name, words in zip(("small.gcz", "int8.gcz", "report.html", "int8.onnx"), COMMANDS):
        assert f"command: {words[1]}\n" in (place / f"{name}.recipe.yaml").read_text()
