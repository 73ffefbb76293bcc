"""Grading: whatever is handed in is a row, with the same points each time."""
import json
from pathlib import Path
from types import SimpleNamespace

import checking
import gluon_compress as gc
import grade
import lab
import mxnet as mx
import nbformat
import pytest
import submissions
import weave
from click.testing import CliRunner

ROOT = Path(__file__).resolve().parent.parent
LABS = ROOT / "tutorials" / "labs"
STRANGE = '''
# %%
import time
def magnitude_mask(weight, sparsity):
    while True:
        time.sleep(1)

# %%
import os
import mxnet as mx
def global_masks(weights, sparsity):
    os._exit(3)

# %%
answer_1_3 = "a"
training = fit_for_an_hour()

# %%
def masked_step(net, trainer, loss_function, images, labels, masks):
    for write in (lambda: open({path!r}, "w").write("mine"), lambda: mx.nd.save({path!r}, images)):
        try:
            write()
        except OSError:
            pass

# %%
def channel_importance(weight):
    print("garbage" * 10000)
    os.write(1, b'{{"ends": "1.5", "right": true}}')
    return abs(weight).sum(axis=(1, 2, 3))

# %%
def remove_channels(conv_weight, conv_bias, dense_weight, kept)
    return conv_weight

# %%
answer_1_7 = "b"
'''


@pytest.fixture(scope="module")
def graded(tmp_path_factory):
    """Submissions for lab 1, graded by the command; the rows by name, the folders, and what was printed.

    The good one has the usual time, on whatever machine; those with the one that never ends have little.
    """
    good, folder = tmp_path_factory.mktemp("solved") / "good", tmp_path_factory.mktemp("submissions")
    for path in (good, *(folder / name for name in ("strange", "empty", "damaged"))):
        path.mkdir()
    solved = weave.notebook_of(LABS / "lab1_prune.py", "en", folder, weave.solved)
    nbformat.write(solved, good / "lab1_prune.ipynb")
    net = gc.params.load("simple_cnn_mnist")
    masks = gc.pruning.prune_magnitude(net, 0.85, scope="global")
    gc.save(good / "lab1.gcz", net, masks, example=mx.nd.zeros((1, 1, 28, 28)))
    (folder / "strange" / "lab1.py").write_text(STRANGE.format(path=str(folder / "stolen")))
    (folder / "damaged" / "lab1.ipynb").write_text("{")
    (folder / "damaged" / "lab1.gcz").write_bytes((good / "lab1.gcz").read_bytes()[:5000])
    rows = {}
    for submissions_of, limits in ((good.parent, []), (folder, ["--seconds", "3"])):
        done = CliRunner().invoke(grade.main, ["1", str(submissions_of), "--json", str(submissions_of / "grades.json"),
                                               *limits, "--images", "500", "--sentences"])
        assert done.exit_code == 0, done.output
        grades = json.loads((submissions_of / "grades.json").read_text())["submissions"]
        rows.update({one["submission"]: one for one in grades})
    return SimpleNamespace(rows=rows, folder=folder, good=good, printed=done.output)


def test_a_solved_lab_gets_all_points_for_its_tasks(graded):
    good = graded.rows["good"]
    assert all(row["points"] == row["of"] for row in good["tasks"].values())
    assert good["bar"]["bytes"] == (graded.good / "lab1.gcz").stat().st_size


def test_the_file_is_measured_on_the_held_out_images(graded):
    bar = graded.rows["good"]["bar"]
    _, held_out, _ = lab.images(500)
    net = gc.load(graded.good / "lab1.gcz")
    assert bar["accuracy"] == gc.training.evaluate(net, held_out.batches(500))
    assert bar["right"] == (bar["bytes"] <= lab.BARS[1].bytes and bar["accuracy"] >= lab.BARS[1].accuracy)


def test_loops_exits_garbage_and_missing_tasks_are_rows(graded):
    strange = graded.rows["strange"]["tasks"]
    assert {number: row["name"] for number, row in strange.items()} == {
        "1.1": "timeout", "1.2": "ended", "1.3": "choice_a", "1.4": "forbidden", "1.5": "right", "1.6": "syntax",
        "1.7": "choice_b", "1.8": "missing", "1.10": "missing", "1.11": "missing"}
    assert graded.rows["strange"]["points"] == checking.TASK_POINTS + checking.QUESTION_POINTS
    assert "after 3 seconds" in strange["1.1"]["sentence"] and "status 3" in strange["1.2"]["sentence"]
    assert graded.rows["strange"]["bar"]["name"] == "no_file"


def test_nothing_is_written_elsewhere(graded):
    assert not (graded.folder / "stolen").exists()
    assert f"write {graded.folder / 'stolen'}" in graded.rows["strange"]["tasks"]["1.4"]["sentence"]


def test_empty_and_damaged_submissions_are_rows(graded):
    assert graded.rows["empty"]["points"] == graded.rows["damaged"]["points"] == 0
    assert {row["name"] for row in graded.rows["empty"]["tasks"].values()} == {"no_notebook"}
    assert {row["name"] for row in graded.rows["damaged"]["tasks"].values()} == {"unreadable"}
    assert graded.rows["damaged"]["bar"]["name"] == "bad_file"


def test_the_table_has_a_row_for_each_and_the_sentences_follow(graded):
    lines = graded.printed.splitlines()
    assert [line.split()[0] for line in lines[2:5]] == ["damaged", "empty", "strange"]
    assert any(line.startswith("strange 1.3: No: ") for line in lines)


@pytest.mark.parametrize("option", ["--seconds", "--memory"])
@pytest.mark.parametrize("value", ["nan", "inf", "0"])
def test_limits_that_are_none_are_refused(tmp_path, option, value):
    (tmp_path / "student").mkdir()
    done = CliRunner().invoke(grade.main, ["1", str(tmp_path), option, value])
    assert done.exit_code == 2 and option in done.output and value in done.output


def test_the_same_submission_gets_the_same_points(graded):
    again = grade.verdicts(1, graded.good / "lab1_prune.ipynb", "en", grade.LIMITS)
    assert again == {number: {key: row[key] for key in ("right", "name", "sentence")}
                     for number, row in graded.rows["good"]["tasks"].items()}


def test_only_definitions_of_a_submission_are_executed(tmp_path):
    path = tmp_path / "lab.py"
    path.write_text("# %%\nimport math\nQ = 2 ** 7 - 1\nx = open('made', 'w')\nprint('no')\n"
                    "def half(x):\n    return x / 2\n# %%\n%matplotlib inline\nmath.sin?\n?math\nanswer = 'b'\n# %%\n"
                    "def half(x):\n    return x / Q\nlength = lambda x: len(x)\n# %%\n"
                    "def broken(:\n    pass\nlate = 3\n# %%\nimport no_such_module\n")
    namespace, faults = submissions.load(path)
    assert namespace["Q"] == 127 and namespace["answer"] == "b" and namespace["half"](254) == 2
    assert namespace["length"]("abc") == 3
    assert "x" not in namespace and not Path("made").exists()
    assert {name: fault.sentence for name, fault in faults.items()} == {
        "broken": "syntax", "late": "syntax", "no_such_module": "not_loaded"}


@pytest.mark.parametrize("size, accuracy, minutes, name", [
    (27000, 0.975, 4.0, "bar_reached"), (27001, 0.99, 1.0, "bar_bytes"), (9, 0.9749, 1.0, "bar_accuracy"),
    (9, 0.99, 4.1, "bar_minutes"), (9, 0.99, None, "bar_reached")])
def test_the_bar_is_what_the_lab_says(size, accuracy, minutes, name):
    assert lab.bar_verdict(1, size, accuracy, minutes=minutes).name == name
    text = (LABS / "lab1_prune.py").read_text()
    assert "**at most 27,000 bytes**" in text and "**at least 97.5 %**" in text


def test_the_bar_of_lab_2_is_for_weights_and_activations_of_3_bits_in_every_layer(tmp_path):
    """Rounding weights, or 4 bits, reaches its bytes and its accuracy without what the lab is about."""
    train, held_out, _ = lab.images(500)
    example = mx.nd.zeros((1, 1, 28, 28))

    def integers(**arguments):
        net, data = gc.params.load("simple_cnn_mnist"), train.subset(slice(0, 64)).batches(64)
        return gc.quantization.quantize(net, data, simulate=True, progress=False, **arguments),

    weights, path = gc.params.load("simple_cnn_mnist"), tmp_path / "lab2.gcz"
    scales = gc.quantization.quantize_weights(weights, 4)
    for arguments, bits in (((weights, scales), 32), (integers(bits=4), 4), (integers(bits=3), 3),
                            (integers(bits=3, exclude=["conv1", "fc2"]), 32)):
        gc.save(path, *arguments, example=example if arguments[0] is weights else None)
        size, accuracy, found = lab.measured(path, held_out.batches(500))
        assert found == bits and size <= lab.BARS[2].bytes
        assert (accuracy >= lab.BARS[2].accuracy) == (bits != 3)
        assert lab.bar_verdict(2, size, accuracy, found).name == ("bar_accuracy" if bits == 3 else "bar_bits")
    assert "**at most 3 bits**" in (LABS / "lab2_quantize.py").read_text() and lab.BARS[2].bits == 3


def test_a_network_without_a_list_is_handed_in_and_nothing_is_said_to_be_missing(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    at_the_bar = lab.Lab(1)
    at_the_bar.hand_in(lambda: None)
    assert "your function returns nothing" in capsys.readouterr().out and not Path("lab1.gcz").exists()
    at_the_bar.hand_in(lambda: gc.params.load("simple_cnn_mnist"))
    assert capsys.readouterr().out.startswith("lab1.gcz: the file has ") and Path("lab1.gcz").exists()


@pytest.mark.parametrize("number, script", list(enumerate(sorted(LABS.glob("lab?_*.py")), start=1)))
def test_the_text_of_a_lab_has_the_numbers_of_its_bar(number, script):
    bar, text = lab.BARS[number], script.read_text()
    assert f"at most {bar.bytes:,} bytes" in text and f"at least {100 * bar.accuracy:g} %" in text
    assert f"at most {'zero one two three four five six'.split()[int(bar.minutes)]} minutes" in text
