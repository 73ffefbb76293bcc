"""The tutorials run as they are, show what their text says, and open as notebooks."""
import json
import re
import subprocess
import sys
from pathlib import Path

import jupytext
import pytest

TUTORIALS = Path(__file__).resolve().parent.parent / "tutorials"
NAMES = sorted(path.stem for path in TUTORIALS.glob("[0-9][0-9]_*.py"))


@pytest.fixture(scope="module")
def run():
    """Run a tutorial once; return its rows by the network's description, and its figure."""
    done = {}

    def run_once(name):
        if name not in done:
            finished = subprocess.run([sys.executable, f"{name}.py"], cwd=TUTORIALS, capture_output=True, text=True)
            assert finished.returncode == 0, finished.stderr[-3000:]
            result = json.loads((TUTORIALS / "output" / f"{name}.json").read_text())
            done[name] = {row["network"]: row for row in result["rows"]}, finished.stdout
        return done[name]
    return run_once


def row(rows, start):
    """The row whose description begins with ``start``."""
    return next(row for network, row in rows.items() if network.startswith(start))


@pytest.mark.parametrize("name", NAMES)
def test_runs_and_makes_what_it_says(run, name):
    rows, printed = run(name)
    assert (TUTORIALS / "output" / f"{name}.png").read_bytes().startswith(b"\x89PNG")
    for network, measured in rows.items():
        assert network in printed
        assert (TUTORIALS / "output" / measured["file"]).stat().st_size == measured["bytes"]


@pytest.mark.parametrize("name", NAMES)
def test_opens_as_a_notebook(name):
    notebook = jupytext.read(TUTORIALS / f"{name}.py")
    kinds = [cell.cell_type for cell in notebook.cells]
    assert kinds.count("markdown") >= 5 and kinds.count("code") >= 4
    assert notebook.cells[0].source.startswith("# ")


def test_threshold_pruning(run):
    rows, _ = run("01_threshold_pruning_lenet")
    original, article = row(rows, "LeNet, as trained"), row(rows, "article's threshold")
    assert article["nonzeros"] > 0.99 * original["nonzeros"]  # it prunes next to nothing
    frozen, trained = row(rows, "... whole parameters frozen"), row(rows, "... survivors trained")
    assert trained["nonzeros"] == frozen["nonzeros"] < 0.25 * original["nonzeros"]
    assert trained["accuracy"] > frozen["accuracy"]
    assert row(rows, "survivors trained, and 8-bit")["bytes"] < 0.1 * original["bytes"]


def test_quantization(run):
    rows, printed = run("02_quantization_alexnet")
    original, ours = row(rows, "AlexNet, as trained"), row(rows, "AlexNet, 8 bits")
    assert abs(ours["accuracy"] - original["accuracy"]) <= 0.003
    assert row(rows, "AlexNet, the article's formula")["accuracy"] < original["accuracy"] - 0.01
    assert ours["bytes"] < 0.2525 * original["bytes"]
    trained, eight_bits, article = (float(value) for value in re.findall(r"^ResNet-18.*: (0\.\d+)$", printed, re.M))
    assert abs(eight_bits - trained) <= 0.003
    assert article < 0.3


def test_distillation(run):
    rows, printed = run("03_distillation_resnet")
    teacher = row(rows, "ResNet-18, the teacher")
    for student in ("SmallConvNet", "ResNet-18, width 8"):
        alone, distilled = row(rows, f"{student}, labels alone"), row(rows, f"{student}, distilled")
        assert 0.2 < alone["accuracy"] < teacher["accuracy"] and distilled["accuracy"] > 0.2
        assert alone["nonzeros"] < teacher["nonzeros"] / 10
        assert row(rows, f"{student}, distilled, and features")["accuracy"] > 0.2
    pruned, labels, distilled = (row(rows, f"half of the teacher, {way}")["accuracy"]
                                 for way in ("as pruned", "labels alone", "distilled"))
    assert pruned < min(labels, distilled) and distilled > teacher["accuracy"] - 0.1
    assert float(re.search(r"on integers; the same first choice for (\d+\.\d)%", printed)[1]) > 95


def test_unstructured_pruning(run):
    rows, _ = run("04_unstructured_pruning_simple_cnn")
    before, after = row(rows, "80 % pruned, not fine-tuned"), row(rows, "80 % pruned, fine-tuned")
    assert after["accuracy"] > before["accuracy"]
    assert after["nonzeros"] <= before["nonzeros"] and after["macs"] == before["macs"]
    assert after["bytes"] < 0.3 * row(rows, "SimpleCNN, as trained")["bytes"]


def test_structured_pruning(run):
    rows, _ = run("05_structured_pruning_simple_cnn")
    before, after = row(rows, "40 % of the channels, not fine-tuned"), row(rows, "40 % of the channels, fine-tuned")
    original = row(rows, "SimpleCNN, as trained")
    assert after["accuracy"] > before["accuracy"] + 0.1
    assert after["macs"] < 0.5 * original["macs"] and after["bytes"] < 0.5 * original["bytes"]


def test_pruning_a_residual_network(run):
    rows, printed = run("06_prune_a_resnet")
    assert "went along: features.3.0.body.3, features.3.1.body.3" in printed
    original, pruned = row(rows, "ResNet-18, as trained"), row(rows, "pruned by the curves, not fine-tuned")
    again, tuned = row(rows, "... BatchNorm's statistics estimated again"), row(rows, "... and fine-tuned")
    assert pruned["macs"] == again["macs"] == tuned["macs"] < 0.7 * original["macs"]
    assert again["accuracy"] > pruned["accuracy"] + 0.1
    assert tuned["accuracy"] > again["accuracy"] + 0.01
    assert tuned["bytes"] < 0.7 * original["bytes"]


def test_int8_inference(run):
    rows, printed = run("07_int8_inference")
    fp32, int8 = row(rows, "ResNet-18, fp32"), row(rows, "... on integers")
    assert abs(int8["accuracy"] - fp32["accuracy"]) <= 0.01
    assert int8["bytes"] < 0.2525 * fp32["bytes"] and int8["macs"] == fp32["macs"]
    agreement, simulated = (float(value) for value in re.findall(r"agree on (\d+\.\d+)%", printed))
    assert agreement > 98.5 and simulated > 99.5
    eight, four = (float(value) for value in re.findall(r"in [64] bits: (0\.\d+)", printed))
    assert eight > four
