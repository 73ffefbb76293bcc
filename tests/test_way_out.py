"""The way out: whoever has only a checkpoint and a folder of images leaves MXNet with the README's five commands."""
import json
import os
import re
import subprocess
import sys
from pathlib import Path

import gluon_compress as gc  # before mxnet
import numpy as np
import onnxruntime
import pytest
from five_commands import NAMES, commands_of_readme  # which measures the same commands
from gluon_compress.datasets.reading import IMAGENET_MEAN, IMAGENET_STD
from PIL import Image

ROOT = Path(__file__).resolve().parent.parent
COMMANDS = commands_of_readme()


def option(words, *names):
    return next(value for name, value in zip(words, words[1:]) if name in names)


PRUNED, INT8, PAGE, ONNX = (option(words, "-o", "--output", "--html") for words in COMMANDS[:4])
IMAGES, SEEN = (option(COMMANDS[number], "--data") for number in (0, 4))  # to train on, to evaluate on


def write_images(folder, dataset, count):
    """Files of images as people have them: PNG and JPEG, a directory per class."""
    for number in range(count):
        file = folder / NAMES[dataset.labels[number]] / f"{number}.{'jpg' if number % 7 == 0 else 'png'}"
        file.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(dataset.images[number]).save(file, **({"quality": 95} if file.suffix == ".jpg" else {}))


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    """What the user has, and nothing else: MXNet's own export of a network, and folders of images."""
    folder = tmp_path_factory.mktemp("way_out")
    train, test = gc.datasets.cifar10()
    write_images(folder / "test", test, 100)
    write_images(folder / IMAGES, train, 200)
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


def outputs_of(net, data):
    return np.concatenate([net(inputs).asnumpy() for inputs, _ in data.batches(100)])


def classes_of(net, data):
    return outputs_of(net, data).argmax(axis=1)


def test_there_are_five_commands():
    assert [words[:2] for words in COMMANDS] == [["gluon-compress", name] for name in
                                                 ("prune", "quantize", "inspect", "export", "evaluate")]


def test_the_network_is_pruned(place, outputs):
    original, small = gc.load(place / "model"), gc.load(place / PRUNED)
    example = next(iter(gc.datasets.image_folder(place / IMAGES, progress=False).batches(1)))[0]
    before, after = (gc.report(net, example) for net in (original, small))
    assert after.macs <= float(option(COMMANDS[0], "--macs")) * before.macs and after.parameters < before.parameters
    assert outputs[0]["after"]["macs"] == after.macs


def test_the_network_is_on_integers_and_a_fifth_as_large(place, outputs):
    assert isinstance(gc.load(place / INT8), gc.quantization.IntegerNetwork)
    assert (place / INT8).stat().st_size < 0.2 * (place / "model-0000.params").stat().st_size


def test_the_report_is_a_page_that_names_the_layers(place, outputs):
    page = (place / PAGE).read_text()
    assert re.search(r"<html.*</html>", page, re.DOTALL)
    assert all(layer in page for layer in outputs[1]["record"]["layers"])
    assert not re.search(r"(src|href)=.?https?:", page)


def test_the_onnx_file_gives_the_same_classes_in_onnx_runtime_and_most_of_the_accuracy_of_the_original(place, outputs):
    unseen = gc.datasets.image_folder(place / "test", mean=IMAGENET_MEAN, std=IMAGENET_STD, progress=False)
    session = onnxruntime.InferenceSession(place / ONNX, providers=["CPUExecutionProvider"])
    [name] = [each.name for each in session.get_inputs()]
    in_runtime = np.concatenate([session.run(None, {name: inputs.asnumpy()})[0].argmax(axis=1)
                                 for inputs, _ in unseen.batches(100)])
    original, int8 = classes_of(gc.load(place / "model"), unseen), outputs_of(gc.load(place / INT8), unseen)
    second, first = np.sort(int8, axis=1)[:, -2:].T
    clear = first - second > 0.1 * np.median(first - second)  # roundings may decide where two classes are nearly equal
    assert np.array_equal(int8.argmax(axis=1)[clear], in_runtime[clear]) and np.mean(clear) >= 0.9
    # half of the network was taken away, and 200 images trained what is left: benchmarks/five_commands.py has 50,000
    assert np.mean(in_runtime == unseen.labels) > 0.75 * np.mean(original == unseen.labels) > 0.6


def test_the_accuracies_said_are_those_of_the_networks(place, outputs):
    data = gc.datasets.image_folder(place / SEEN, progress=False)
    said = {result["network"]: result["accuracy"] for result in outputs[4]["results"]}
    for file in ("model", INT8):
        assert said[file] == pytest.approx(np.mean(classes_of(gc.load(place / file), data) == data.labels))
    assert said[ONNX] == pytest.approx(said[INT8], abs=0.025)  # roundings may decide of 2 images


def test_each_file_has_the_recipe_that_made_it(place, outputs):
    for name, words in zip((PRUNED, INT8, PAGE, ONNX), COMMANDS):
        assert f"command: {words[1]}\n" in (place / f"{name}.recipe.yaml").read_text()
