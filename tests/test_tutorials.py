"""The tutorials run as they are, what their text concludes is what they measure, and they open as notebooks.

Each conclusion is checked on the quick version as it runs here, and on both versions as benchmarks/results has them.
"""
import importlib.util
import json
import os
import re
import subprocess
import sys
from pathlib import Path

import gluon_compress as gc

import jupytext  # noqa: I001
import mxnet as mx
import pytest
from filelock import FileLock

ROOT = Path(__file__).resolve().parent.parent
TUTORIALS = ROOT / "tutorials"
NAMES = sorted(path.stem for path in TUTORIALS.glob("[0-9][0-9]_*.py"))
RESULTS = ROOT / "benchmarks" / "results"
RECORDED = {"quick, recorded": RESULTS / "quick", "long, recorded": RESULTS}


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    """Run the quick version of a tutorial once; return its results and what it printed.

    Several processes may test the conclusions of one tutorial (see conftest.py): one runs it, the others wait for that.
    """
    folder = tmp_path_factory.getbasetemp()
    if "PYTEST_XDIST_WORKER" in os.environ:
        folder = folder.parent  # which they share

    def run_once(name):
        file = folder / f"{name}.json"
        with FileLock(f"{file}.lock"):
            if not file.exists():
                done = subprocess.run([sys.executable, f"{name}.py"], cwd=TUTORIALS, capture_output=True, text=True,
                                      env={**os.environ, "COURSE_ROUNDS": "1"})
                file.write_text(json.dumps([done.returncode, done.stdout, done.stderr[-3000:]]))
        code, printed, errors = json.loads(file.read_text())
        assert code == 0, errors
        return json.loads((TUTORIALS / "output" / f"{name}.json").read_text()), printed
    return run_once


@pytest.fixture
def found(request, run):
    """The :class:`Measured` of a tutorial in one version; see ``on_results_of``."""
    name, version = request.param
    return Measured(name, recorded(version, name) if version in RECORDED else run(name)[0])


def recorded(version, name):
    """The result of a tutorial in benchmarks/results."""
    return json.loads((RECORDED[version] / f"{name}.json").read_text())


def on_results_of(name):
    """Check a tutorial's conclusions on the quick version as it runs here and on what is recorded of both."""
    versions = ["quick, run here", *RECORDED]
    return pytest.mark.parametrize("found", [(name, version) for version in versions], ids=versions, indirect=True)


class Measured:
    """The rows and numbers of one tutorial beside its text."""

    def __init__(self, name, result):
        self.long, self.rows, self.numbers = result["long"], result["rows"], result["numbers"]
        text = (TUTORIALS / f"{name}.py").read_text()
        self.text = re.sub(r"\s+", " ", re.sub(r"^# ?", "", text, flags=re.MULTILINE))

    def says(self, sentence):
        """The sentence that the assertions below it are about."""
        assert sentence in self.text, f"the tutorial no longer says: {sentence}"

    def row(self, start):
        """The row whose description begins with ``start``."""
        return next(row for row in self.rows if row["network"].startswith(start))

    def accuracy(self, start):
        return self.row(start)["accuracy"]


@pytest.mark.parametrize("name", NAMES)
def test_runs_and_makes_what_it_says(run, name):
    result, printed = run(name)
    assert (TUTORIALS / "output" / f"{name}.png").read_bytes().startswith(b"\x89PNG")
    for row in result["rows"]:
        assert row["network"] in printed
        assert (TUTORIALS / "output" / row["file"]).stat().st_size == row["bytes"]
        assert row["quartiles"][0] <= row["milliseconds"] <= row["quartiles"][1]
    assert "\r" not in printed                                       # no state of a bar
    assert printed.rstrip().splitlines()[-1].startswith("Made in ")  # at the end: what was made, and where


@pytest.mark.parametrize("name", NAMES)
def test_opens_as_a_notebook(name):
    notebook = jupytext.read(TUTORIALS / f"{name}.py")
    kinds = [cell.cell_type for cell in notebook.cells]
    assert kinds.count("markdown") >= 5 and kinds.count("code") >= 4
    assert notebook.cells[0].source.startswith("# ")


@pytest.mark.parametrize("name", [name for name in NAMES if name[:2] != "10"])
def test_each_figure_has_a_caption_that_says_what_to_see(name):
    """In both languages, in the text before the cell that draws it. (Tutorial 10 says it in its sentences.)"""
    draws = re.compile(r"results\.path\(\"[\w-]*\.png\"\)")
    kinds = [cell.cell_type for cell in jupytext.read(TUTORIALS / f"{name}.py").cells
             if "**Figure:** " in cell.source or draws.search(cell.source)]
    assert kinds and kinds == ["markdown", "code"] * (len(kinds) // 2)
    assert (TUTORIALS / f"{name}.zh.md").read_text().count("**图：** ") == len(kinds) // 2


def test_what_a_version_keeps_for_its_next_run_is_not_the_others():
    """Curves and logits of the quick version's images would be refused by the long one, which has more."""
    for name in NAMES:
        text = (TUTORIALS / f"{name}.py").read_text()
        for kept in re.findall(r"(?:state_path=|\"cache\": )(.*)", text):
            assert re.search(r"\{len\(\w+\)\}", kept), (name, kept)


def test_rows_of_several_seeds_have_all_of_them():
    """What is measured of one seed does not stand beside the mean of three."""
    for name in NAMES:
        for row in recorded("long, recorded", name)["rows"]:
            if "8-bit weights" in row["network"]:
                assert len(row["accuracies"]) > 1, (name, row["network"])


def test_all_of_them_in_one_command(tmp_path, monkeypatch, capsys):
    """Off a terminal: lines without bars; the one that fails is named, the others run."""
    (tmp_path / "output").mkdir()
    row = {"network": "tiny", "accuracy": 0.5, "accuracies": [0.5], "bytes": 8, "milliseconds": 1, "quartiles": [1, 1]}
    (tmp_path / "output" / "02_runs.json").write_text(json.dumps({"rows": [row]}))
    (tmp_path / "01_fails.py").write_text("import sys; sys.exit('out of order')")
    (tmp_path / "02_runs.py").write_text("print('a line of the tutorial')")
    monkeypatch.syspath_prepend(str(TUTORIALS))
    spec = importlib.util.spec_from_file_location("run_all", TUTORIALS / "run_all.py")
    run_all = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(run_all)
    monkeypatch.setattr(run_all, "FOLDER", tmp_path)
    monkeypatch.setattr(run_all, "OUTPUT", tmp_path / "output")
    monkeypatch.setattr(sys, "argv", ["run_all.py"])
    assert run_all.main() == 1
    output, errors = capsys.readouterr()
    assert "out of order" in output and "a line of the tutorial" in output and errors == "" and "\r" not in output
    assert "1 of 2 tutorials ran" in output and "failed: 01_fails.py" in output and "tiny" in output


@on_results_of("01_threshold_pruning_lenet")
def test_threshold_pruning(found):
    original, article = found.row("LeNet, as trained"), found.row("article's threshold")
    found.says("The article's threshold removes under 1 % of the convolutions' weights.")
    assert 0 < original["nonzeros"] - article["nonzeros"] < 0.01 * 9500
    found.says("with momentum from before the pruning nearly all of them move. A mask on the weights does.")
    found.says("assert grown == 0 if hold == \"weights\" else grown > 0.9 * pruned")  # so the run has shown it
    found.says("Freezing the convolutions costs little: at most three tenths of a point")
    for threshold in ("0.10", "0.15"):
        loop, masked = (found.row(f"convolutions, threshold {threshold}, {how}")
                        for how in ("the article's loop", "MaskedTrainer"))
        assert masked["accuracy"] - loop["accuracy"] <= 0.003
        assert abs(masked["nonzeros"] - loop["nonzeros"]) < 100  # the article prunes biases, too
    pruned, frozen, trained = (found.accuracy(start) for start in (
        "all layers, threshold", "... pruned layers frozen", "... survivors trained"))
    found.says("Freezing the dense layers as well takes away most of what fine-tuning wins.")
    assert frozen - pruned < (trained - pruned) / 2
    found.says("nine of ten weights go; training the survivors brings the accuracy back to within three tenths of a "
               "point")
    assert found.row("... survivors trained")["nonzeros"] < 0.1 * original["nonzeros"]
    assert found.accuracy("LeNet, unpruned") - trained <= 0.003
    assert found.row("survivors trained, and 8-bit")["bytes"] < 0.1 * original["bytes"]


@on_results_of("02_quantization_alexnet")
def test_quantization(found):
    original, eight_bits = found.row("AlexNet, as trained"), found.row("AlexNet, 8 bits, a scale")
    found.says("With the scale kept, 8 bits cost nothing: the file is less than a quarter as long, the accuracy the "
               "same.")
    assert abs(eight_bits["accuracy"] - original["accuracy"]) <= 0.003
    assert 0.2 < eight_bits["bytes"] / original["bytes"] < 0.24
    found.says("With BatchNorm, whose running statistics are mangled as well, nothing is left.")
    assert found.accuracy("AlexNet, the article's formula") < original["accuracy"] - 0.01
    resnet = {how: found.numbers[f"ResNet-18, {how}"] for how in (
        "as trained", "8 bits with our formula", "8 bits with the article's formula")}
    assert abs(resnet["8 bits with our formula"] - resnet["as trained"]) <= 0.003
    assert resnet["8 bits with the article's formula"] < 0.2
    found.says("A scale per channel costs four bytes per channel and pays off below five bits.")
    curves = found.numbers["held-out accuracy by bits"]
    channel, layer = (dict(map(tuple, curves[f"a scale per {what}"])) for what in ("channel", "layer"))
    assert all(abs(channel[bits] - layer[bits]) < 0.01 for bits in channel if bits >= 5)
    assert channel[4] > layer[4] + 0.02 and channel[3] > layer[3] + 0.2
    found.says("At 3 bits half of the weights become zero.")
    assert 0.45 < found.row("AlexNet, 3 bits, a scale")["nonzeros"] / original["nonzeros"] < 0.55


@on_results_of("02_quantization_alexnet")
def test_training_for_three_bits(found):
    original, weights = found.accuracy("AlexNet, as trained"), found.accuracy("AlexNet, 3 bits, a scale")
    found.says("Trained biases win back little of what is lost.")
    assert found.accuracy("AlexNet, 3 bits, and biases") - weights < 0.25 * (original - weights)
    rounded, trained = found.accuracy("AlexNet, 3 bits, activations"), found.accuracy("AlexNet, 3 bits, trained")
    found.says("win back more: a part of the loss after the quick version's one epoch, half of it after the long "
               "version's two.")
    won_back = (trained - rounded) / (original - rounded)
    assert 0.4 < won_back < 0.6 if found.long else won_back > 0.1
    found.says("on integers")
    assert abs(found.accuracy("AlexNet, 8 bits, on integers") - original) <= 0.01
    assert found.numbers["agreement of int8 and fp32"] > 0.98


@on_results_of("03_distillation_resnet")
def test_distillation(found):
    students = ("SmallConvNet", "ResNet-18, width 8") if found.long else ("SmallConvNet",)
    found.says("the difference is what the teacher is worth: some points for either student here")
    for student in students:
        alone, distilled = found.accuracy(f"{student}, labels alone"), found.accuracy(f"{student}, distilled")
        assert 0.01 < distilled - alone < 0.1
    found.says("After the long version's four epochs both students are about as good.")
    assert abs(found.accuracy(f"{students[0]}, distilled") - found.accuracy(f"{students[-1]}, distilled")) < 0.04
    found.says("A teacher on integers teaches as well as one in fp32")
    assert abs(found.accuracy("SmallConvNet, distilled")
               - found.accuracy("SmallConvNet, distilled, by the fp32 teacher")) < 0.03
    assert found.numbers["same first choice of both teachers"] > 0.97
    found.says("A pruned copy of the teacher is the best student of all")
    pruned, labels, distilled = (found.accuracy(f"half of the teacher, {way}")
                                 for way in ("as pruned", "labels alone", "distilled"))
    found.says("it guesses at first")
    assert pruned < 0.2
    assert pruned < min(labels, distilled) and distilled > found.accuracy("ResNet-18, the teacher") - 0.1
    assert distilled > max(found.accuracy(f"{student}, distilled, and features") for student in students)
    assert found.row("half of the teacher, distilled")["macs"] < 0.52 * found.row("ResNet-18, the teacher")["macs"]


def test_ten_epochs_of_distillation_are_those_of_the_table():
    text = Measured("03_distillation_resnet", {"long": True, "rows": [], "numbers": {}})
    text.says("the article's network reaches 66 %, the small ResNet 83 % without a teacher and 85 % with one, and the "
              "article's network gains nothing from it")
    table = (ROOT / "benchmarks" / "results" / "cifar_distillation.txt").read_text()
    ways = ("alone", "T = 4", "and features")
    means = {(line.split("  ")[0], way): float(found[1]) for line in table.splitlines() for way in ways
             if (found := re.search(rf"{way} +(\d\d\.\d\d) ", line))}
    article, resnet = "the article's SmallConvNet", "ResNet-18 of width 8"
    assert [round(means[student, way]) for student in (article, resnet)
            for way in ways[:2]] == [66, 66, 83, 85]
    text.says("with features, too, the small ResNet reaches 86 %")
    assert round(means[resnet, "and features"]) == 86


@on_results_of("04_unstructured_pruning_simple_cnn")
def test_unstructured_pruning(found):
    curves = {title: dict(map(tuple, points))
              for title, points in found.numbers["held-out accuracy by sparsity"].items()}
    alike, together = curves["each layer alike"], curves["all layers together"]
    found.says("With one threshold for all layers half of the weights can go for a quarter of a point, without "
               "training.")
    assert together[0.5] > together[0.0] - 0.004
    found.says("Half of *each* layer, the default of `prune_magnitude`, costs four points")
    assert 0.03 < alike[0.0] - alike[0.5] < 0.05
    found.says("With nine tenths of each layer gone the network only guesses.")
    assert alike[0.9] < 0.12
    found.says("With fine-tuning four fifths can go for a few tenths of a point.")
    assert found.accuracy("SimpleCNN, unpruned") - found.accuracy("80 % pruned, fine-tuned") < 0.005
    before, after = found.row("80 % pruned, not fine-tuned"), found.row("80 % pruned, fine-tuned")
    assert after["accuracy"] > before["accuracy"]
    assert after["nonzeros"] <= before["nonzeros"] and after["macs"] == before["macs"]
    assert after["bytes"] < 0.3 * found.row("SimpleCNN, as trained")["bytes"]


@on_results_of("05_structured_pruning_simple_cnn")
def test_structured_pruning(found):
    original, before, after = (found.row(start) for start in (
        "SimpleCNN, as trained", "40 % of the channels, not fine-tuned", "40 % of the channels, fine-tuned"))
    found.says("Removing 40 % of the channels removes more than half of the multiplications and of the parameters")
    assert all(after[what] < 0.5 * original[what] for what in ("macs", "nonzeros", "bytes"))
    found.says("Before fine-tuning the accuracy drops far, by L1 farther than by L2; after it most of the drop is "
               "gone.")
    assert before["accuracy"] < original["accuracy"] - 0.2
    assert after["accuracy"] - before["accuracy"] > (original["accuracy"] - before["accuracy"]) / 2
    curves = found.numbers["held-out accuracy by fraction of channels removed"]
    l1, l2, tuned, scratch = (dict(map(tuple, curves[title]))
                              for title in ("L1", "L2", "L1, fine-tuned", "from scratch"))
    assert all(l1[ratio] < l2[ratio] for ratio in l1)
    found.says("fine-tuned networks are one to four points better than networks of the same shape")
    assert all(0.01 <= tuned[ratio] - scratch[ratio] <= 0.04 for ratio in tuned)


@on_results_of("05_structured_pruning_simple_cnn")
def test_channels_that_go_by_themselves(found):
    penalty, by_l1 = found.row("channels at zero by a penalty"), found.row("as many channels by L1")
    assert penalty["macs"] == by_l1["macs"]
    for seed in found.numbers["penalty"]:
        found.says("A penalty finds how many channels each layer can spare, and which.")
        assert len(set(seed["gone"].values())) == 3 and seed["gone"]["conv2"] > 0.5
        found.says("Removing those that got to zero costs nothing; removing as many from the network as trained costs "
                   "half of its accuracy or more.")
        assert abs(seed["after"] - seed["before"]) <= 0.002 and seed["after, by L1"] < 0.55
    found.says("after more training the network is within a point or so of the one that lost as many by L1.")
    assert abs(by_l1["accuracy"] - penalty["accuracy"]) < 0.013


@on_results_of("06_prune_a_resnet")
def test_pruning_a_residual_network(found):
    curves = found.numbers["held-out accuracy by fraction of channels removed"]
    three_quarters = {name: curve["0.75"] for name, curve in curves.items()}
    found.says("Take most of a set away, and one on a residual path loses more than one inside the blocks of its "
               "stage.")
    for path, stage in (("features.0", 3), *((f"features.{stage}.0.body.3", stage) for stage in (4, 5, 6))):
        inside = [f"features.{stage}.{block}.body.0" for block in (0, 1)]
        assert three_quarters[path] < min(three_quarters[name] for name in inside)
    found.says("At the right edge the red lines end above the blue ones.")
    inside = [name for name in curves if name.endswith("body.0")]
    assert max(three_quarters[name] for name in curves if name not in inside) < min(map(three_quarters.get, inside))
    found.says("the path of the last stage (`features.6.0.body.3`) is better off than some sets inside blocks.")
    assert curves["features.6.0.body.3"]["0.5"] > min(curves[name]["0.5"] for name in inside)
    found.says("the first blocks of `features.4` and `features.5` lose many points, too")
    baseline = found.numbers["held-out accuracy as trained"]
    assert all(baseline - three_quarters[f"features.{stage}.0.body.0"] > 0.08 for stage in (4, 5))
    found.says("the path of the last stage can spare more than that of the first")
    assert curves["features.6.0.body.3"]["0.5"] > curves["features.0"]["0.5"] + 0.2


@on_results_of("06_prune_a_resnet")
def test_a_residual_network_recovers(found):
    original, pruned, again, tuned = (found.row(start) for start in (
        "ResNet-18, as trained", "pruned by the curves, not fine-tuned", "... BatchNorm's statistics",
        "... and fine-tuned"))
    found.says("a network takes that needs little more than a third of the multiplications")
    assert pruned["macs"] == again["macs"] == tuned["macs"] and 1 / 3 < tuned["macs"] / original["macs"] < 0.42
    found.says("Removing channels ruins the accuracy mainly through BatchNorm's statistics")
    assert again["accuracy"] - pruned["accuracy"] > (original["accuracy"] - pruned["accuracy"]) / 2
    assert tuned["accuracy"] > again["accuracy"] + 0.01 and tuned["bytes"] < 0.5 * original["bytes"]
    found.says("So short a training on a part of the images does not help the unpruned network; in the long version it "
               "loses half a point by it.")
    loss = original["accuracy"] - found.accuracy("ResNet-18, unpruned")
    assert 0.003 < loss < 0.008 if found.long else -0.005 < loss < 0.02


@pytest.mark.parametrize("version", RECORDED)
def test_a_third_of_the_multiplications_takes_half_of_the_time(version):
    """Of the times that are recorded."""
    found = Measured("06_prune_a_resnet", recorded(version, "06_prune_a_resnet"))
    found.says("Here little more than a third of them takes about half of the time")
    original, tuned = found.row("ResNet-18, as trained"), found.row("... and fine-tuned")
    assert 0.4 < tuned["milliseconds"] / original["milliseconds"] < 0.6


def test_names_at_the_ends_of_lines_do_not_lie_on_each_other(monkeypatch):
    """They keep their order, and one that is far from the others stands where its line ends."""
    monkeypatch.syspath_prepend(str(TUTORIALS))
    from figures import label_ends
    from matplotlib.figure import Figure
    from matplotlib.text import Text
    figure = Figure(figsize=(8, 4.5), layout="constrained")
    axes = figure.subplots()
    axes.set(xlim=(0, 0.95), ylim=(0.01, 1), yscale="log")
    ends = {"a": (0.75, 0.1), "b": (0.75, 0.1), "c": (0.75, 0.101), "d": (0.75, 0.099), "alone": (0.75, 0.6)}
    label_ends(axes, ends)
    figure.draw_without_rendering()
    boxes = {text.get_text(): Text.get_window_extent(text) for text in axes.texts}  # without the line to the end
    assert list(boxes) == ["d", "a", "b", "c", "alone"]
    assert all(lower.y1 <= upper.y0 for lower, upper in zip(boxes.values(), list(boxes.values())[1:]))
    middle = (boxes["alone"].y0 + boxes["alone"].y1) / 2
    assert abs(middle - axes.transData.transform(ends["alone"])[1]) < 3  # pixels


def test_layers_that_go_along_are_named(run):
    assert "went along: features.3.0.body.3, features.3.1.body.3" in run("06_prune_a_resnet")[1]


@on_results_of("07_int8_inference")
def test_int8_inference(found):
    fp32, int8 = found.row("ResNet-18, fp32"), found.row("... on integers")
    found.says("Eight bits are enough for weights and activations")
    assert abs(int8["accuracy"] - fp32["accuracy"]) <= 0.006
    found.says("its file is a fifth as long")
    assert 0.18 < int8["bytes"] / fp32["bytes"] < 0.22 and int8["macs"] == fp32["macs"]
    found.says("It agrees with the fp32 network on more than 99 % of the images.")
    assert found.numbers["agreement of int8 and fp32"] > 0.99
    assert found.numbers["agreement of int8 and its simulation"] > 0.99
    by_bits = found.numbers["accuracy by bits"]
    found.says("With 6 bits the network loses less than a point, with 4 bits four to five")
    assert fp32["accuracy"] - by_bits["6"] < 0.01 and 0.035 < fp32["accuracy"] - by_bits["4"] < 0.055


@on_results_of("08_deep_compression_lenet")
def test_deep_compression(found):
    original, pruned, shared = (found.row(start) for start in (
        "LeNet, as trained", "LeNet, 90 % pruned, fine-tuned", "LeNet, 16 values a layer, trained"))
    rounded, searched = found.row("LeNet, rounded by rate 0.1"), found.row("LeNet, compress() without training")
    found.says("the article's LeNet, 684,468 bytes, in less than a hundredth of them")
    assert original["bytes"] == 684468 > 100 * searched["bytes"]
    for title in ("shared", "rounded by rate"):
        sizes = found.numbers[f"bytes of dense.0, {title}"]
        found.says("An arithmetic coder writes integers in as many bits as their entropy says, to a percent; asking "
                   "the neighbours makes it a good deal less than that.")
        assert abs(sizes["shuffled"] - sizes["entropy"]) < 0.015 * sizes["entropy"]
        assert sizes["in place"] < 0.7 * sizes["entropy"]
    by_hand, library = found.numbers["k-means error, by hand and the library's"]
    assert abs(by_hand - library) < 0.01 * library
    found.says("Fewer bits and a smaller error.")
    (plain_bits, plain_error), (bits, error) = found.numbers["rounding by hand: bits, error"].values()
    assert bits < plain_bits and error < plain_error
    found.says("for nineteen of twenty weights of the largest layer")
    assert 0.94 < found.numbers["bytes of dense.0, rounded by rate"]["zeros"] < 0.965
    found.says("Coded, five bits a weight are worth as much as pruning nine tenths of the weights: a tenth of the "
               "file. Three bits cost points.")
    found.says("Pruning and then sharing sixteen values makes the tenth a quarter of that or less.")
    curve = found.numbers["bytes and held-out accuracy"]["8 to 3 bits"]
    (whole, best), (three_bits, worst) = curve[0], curve[-1]
    five_bits, accuracy = next(point for point in curve if point[0] < 0.11 * original["bytes"])
    assert 0.08 < pruned["bytes"] / original["bytes"] < 0.11 and 0.08 < five_bits / original["bytes"]
    assert accuracy > best - 0.002 and worst < best - 0.03 and three_bits < five_bits < whole
    assert shared["bytes"] < 0.25 * pruned["bytes"]
    found.says("makes a smaller file than pruning, sharing and training in turn")
    assert rounded["bytes"] < shared["bytes"] and rounded["accuracy"] > shared["accuracy"] - 0.002
    assert searched["bytes"] < rounded["bytes"]
    found.says("a hundredth of the file for a few tenths of a point")
    assert original["accuracy"] - searched["accuracy"] < 0.005
    found.says("The network still computes in fp32, with as many multiplications")
    assert searched["macs"] == original["macs"]


@on_results_of("09_bring_your_own_network")
def test_bring_your_own_network(found):
    for network in ("d2l's residual network", "Module's network"):
        whole, pruned, integers = (found.row(f"{network}, {how}") for how in (
            "unpruned, same extra training", "half of the channels", "... and on integers"))
        found.says("With half of its channels each network keeps about a quarter of its weights")
        assert 0.2 < pruned["nonzeros"] / whole["nonzeros"] < 0.3
        found.says("It is at most five points behind the original with the same extra training")
        assert whole["accuracy"] - 0.05 <= pruned["accuracy"] <= whole["accuracy"]
        found.says("On integers each file is less than a tenth as long as that of the original")
        assert integers["bytes"] < 0.1 * whole["bytes"]
        found.says("the accuracy is that of the pruned network within half a point")
        assert abs(integers["accuracy"] - pruned["accuracy"]) <= 0.005
    found.says("a quarter as long as the one that came")
    sizes = found.numbers["bytes of Module's parameters"]
    assert sizes["after"] < 0.3 * sizes["before"]


def test_the_figure_of_all_techniques_shows_what_its_caption_says(monkeypatch):
    monkeypatch.syspath_prepend(str(ROOT / "benchmarks"))
    import course_figure
    page = " ".join((ROOT / "benchmarks" / "README.md").read_text().split())
    assert ("Pruned single weights make the file smaller and leave the time where it was; channels and integers make "
            "both smaller.") in page
    for _, technique, bytes_left, time_left, _ in course_figure.changes():
        if technique == "single weights pruned":
            assert bytes_left < 0.3 and 0.9 < time_left < 1.1
        elif technique in ("channels pruned", "all on integers"):
            assert bytes_left < 0.7 and time_left < 0.7


@on_results_of("10_the_way_out")
def test_the_way_out(found):
    found.says("The file has the network's own integers: the codes, scales and zero points that you computed by hand.")
    weights, outputs = found.numbers["codes of the weights"], found.numbers["codes by hand"]
    assert weights["not as by hand"] <= 0.001 * weights["all"]
    found.says("By hand at least 99.9 % of its codes are those of the file, and the others are next to them")
    assert outputs["same"] >= 0.999 and outputs["most steps apart"] <= 1
    mxnet = {"fp32": found.row("a quarter of the multiplications removed"), "int8": found.row("... and on integers")}
    for engine in ("ONNX Runtime", "OpenVINO"):
        rows = {precision: found.row(f"{engine}, {precision}") for precision in mxnet}
        agreement = {precision: found.numbers["agreement with MXNet"][f"{engine}, {precision}"] for precision in mxnet}
        found.says("Both engines give the same answer as MXNet's integers for at least 98 % of the images, and the "
                   "accuracy is the same within a point.")
        assert agreement["int8"] >= 0.98 and abs(rows["int8"]["accuracy"] - mxnet["int8"]["accuracy"]) <= 0.01
        found.says("In fp32 they give the same answer for all but one in a thousand.")
        assert agreement["fp32"] >= 0.999
        found.says("The file on integers is about a quarter as long as that of the same network in fp32.")
        assert 0.25 <= rows["int8"]["bytes"] / rows["fp32"]["bytes"] < 0.27
    found.says("What costs accuracy is the pruning without training.")
    assert found.accuracy("ResNet-18, as trained") - mxnet["fp32"]["accuracy"] > 0.03
    assert abs(mxnet["fp32"]["accuracy"] - mxnet["int8"]["accuracy"]) <= 0.01


@pytest.mark.parametrize("version", RECORDED)
def test_integers_are_faster_than_fp32_in_every_engine(version):
    """Of the times that are recorded."""
    found = Measured("10_the_way_out", recorded(version, "10_the_way_out"))
    found.says("the integers are far below fp32 in each engine.")
    for fp32, int8 in (("a quarter of the multiplications", "... and on integers"),
                       ("ONNX Runtime, fp32", "ONNX Runtime, int8"), ("OpenVINO, fp32", "OpenVINO, int8")):
        assert found.row(int8)["milliseconds"] < 0.6 * found.row(fp32)["milliseconds"]
    found.says("MXNet takes as long for the pruned network in fp32 as for the original, or longer")
    pruned, original = found.row("a quarter of the multiplications"), found.row("ResNet-18, as trained")
    assert 0.9 < pruned["milliseconds"] / original["milliseconds"] < 1.3


@pytest.mark.parametrize("name", [name for name in NAMES if name[:2] in ("01", "04")])
def test_masks_do_not_change_the_time(name):
    """Of the times that are recorded; here nothing is timed."""
    found = Measured(name, recorded("long, recorded", name))
    assert re.search("takes as long as before|time per batch stays what it was", found.text)
    times = [row["milliseconds"] for row in found.rows]
    assert min(times) > 0.7 * max(times)


@pytest.mark.parametrize("version", RECORDED)
def test_fewer_channels_take_less_time_but_more_than_their_share_of_the_multiplications(version):
    """Of the times that are recorded."""
    found = Measured("05_structured_pruning_simple_cnn", recorded(version, "05_structured_pruning_simple_cnn"))
    found.says("The forward pass takes less time with the ordinary kernels. It does not fall as fast as the")
    before, after = found.row("SimpleCNN, as trained"), found.row("40 % of the channels, fine-tuned")
    assert after["macs"] / before["macs"] < after["milliseconds"] / before["milliseconds"] < 0.8


@pytest.mark.parametrize("version", RECORDED)
def test_integers_are_as_fast_as_the_text_says(version):
    """Of the times that are recorded, on a processor with VNNI."""
    found = Measured("07_int8_inference", recorded(version, "07_int8_inference"))
    found.says("On a processor with VNNI instructions it is four to five times as fast")
    times = found.row("ResNet-18, fp32")["milliseconds"] / found.row("... on integers")["milliseconds"]
    assert round(times) in (4, 5)


def test_the_sizes_of_the_alexnet_are_those_of_the_text():
    Measured("02_quantization_alexnet", {"long": False, "rows": [], "numbers": {}}).says(
        "hidden layers of 1,024 units instead of the article's 4,096, and the images are enlarged from 32 to 67 "
        "pixels, of which its last pooling leaves one.")
    net = gc.params.load("alexnet_cifar10")
    size = gc.params.manifest()["alexnet_cifar10"]["input_shape"][-1]
    assert size == 67 and net.features(mx.nd.zeros((1, 3, size, size))).shape[2:] == (1, 1)
    assert net.dense[0].weight.shape[0] == 1024


@pytest.mark.parametrize("version", RECORDED)
def test_simulated_integers_take_longer_than_fp32(version):
    """Of the times that are recorded."""
    found = Measured("02_quantization_alexnet", recorded(version, "02_quantization_alexnet"))
    found.says("these networks are simulated in fp32, which takes longer than fp32 alone")
    fp32, integers, *simulated = (found.row(start)["milliseconds"] for start in (
        "AlexNet, as trained", "AlexNet, 8 bits, on integers", "AlexNet, 3 bits, activations",
        "AlexNet, 3 bits, trained"))
    assert integers < 0.5 * fp32 and min(simulated) > 1.2 * fp32
