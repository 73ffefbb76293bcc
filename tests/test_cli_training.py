"""``gluon-compress distill`` and ``compress``: what they make, say and record, and that killed runs go on."""
import json
import os
import re
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import gluon_compress as gc  # before mxnet
import mxnet as mx
import numpy as np
import pytest
import yaml
from command_line import started
from gluon_compress.cli import main, stages
from PIL import Image

FUNCTIONS = '''
import gluon_compress, mxnet as mx
from mxnet.gluon import nn

def net(width, seed):
    mx.random.seed(seed)
    made = nn.HybridSequential()
    made.add(nn.Conv2D(width, 3, padding=1, in_channels=3), nn.BatchNorm(), nn.Activation("relu"),
             nn.Conv2D(width, 3, padding=1, in_channels=width), nn.BatchNorm(), nn.Activation("relu"),
             nn.GlobalAvgPool2D(), nn.Dense(3, in_units=width))
    made.initialize(mx.init.Xavier())
    return made

def teacher(): return net(32, 0)
def student(): return net(8, 1)
def binary():
    made = nn.HybridSequential()
    made.add(nn.Conv2D(4, 3, in_channels=3), nn.GlobalAvgPool2D(), nn.Dense(2, in_units=4))
    made.initialize()
    return made
'''


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    """photos/ and test/, three classes that are told apart by their colour; a trained network as a checkpoint."""
    folder, random = tmp_path_factory.mktemp("place"), np.random.RandomState(0)
    for part, count in (("photos", 40), ("test", 20)):
        for number in range(3 * count):
            pixels = random.randint(0, 200, (12, 12, 3))
            pixels[..., number % 3] += 20
            file = folder / part / "rgb"[number % 3] / f"{number}.png"
            file.parent.mkdir(parents=True, exist_ok=True)
            Image.fromarray(pixels.astype(np.uint8)).save(file)
    (folder / "training_nets.py").write_text(FUNCTIONS)
    sys.path.insert(0, str(folder))
    import training_nets
    net, data = training_nets.teacher(), gc.datasets.image_folder(folder / "photos")
    trainer = mx.gluon.Trainer(net.collect_params(), "adam", {"learning_rate": 0.01})
    gc.training.fit(net, data.batches(40, shuffle=True), 15, trainer, progress=False)
    gc.export.write_checkpoint(net, folder / "model")
    yield folder
    sys.path.remove(str(folder))


@pytest.fixture
def work(place, tmp_path, monkeypatch):
    """A working directory of its own, in which the files of ``place`` are links."""
    for path in place.iterdir():
        (tmp_path / path.name).symlink_to(path)
    monkeypatch.chdir(tmp_path)
    return tmp_path


def call(*words):
    return main([str(word) for word in words], standalone_mode=False)


def result_of(capsys, *words):
    """What ``--json`` prints."""
    capsys.readouterr()
    code = call(*words, "--json")
    output, errors = capsys.readouterr()
    assert code == 0, errors
    return json.loads(output)


COMPRESS = ("compress", "model", "--data", "photos", "--output", "small.gcz", "--epochs", "1", "--macs", "0.5")
DISTILL = ("distill", "training_nets:student", "--teacher", "model", "--data", "photos", "--output", "student.gcz",
           "--epochs", "2")
MEASURED_ON = {"held out": {"data": "photos", "images": 12}, "test": {"data": "test", "images": 60}}


def accuracy(path, folder):
    return gc.training.evaluate(gc.load(path), gc.datasets.image_folder(folder).batches(30))


# ---- compress

def test_compress_makes_a_network_on_integers_of_half_the_macs_and_says_what_each_stage_did(work, capsys):
    result = result_of(capsys, *COMPRESS, "--test", "test")
    assert [stage["stage"] for stage in result["stages"]] == ["original", "pruned", "fine-tuned", "int8"]
    original, pruned, tuned, integers = result["stages"]
    small = gc.load("small.gcz")
    assert isinstance(small, gc.quantization.IntegerNetwork)
    example = mx.nd.ones((1, 3, 12, 12))
    assert integers["macs"] == gc.report(small, example).macs == pruned["macs"] <= 0.5 * original["macs"]
    assert original["macs"] == gc.report(gc.load("model", head="logits"), example).macs
    assert integers["bytes"] == Path("small.gcz").stat().st_size < 0.4 * original["bytes"]
    assert integers["test_accuracy"] == accuracy("small.gcz", "test") > 0.8
    assert original["test_accuracy"] == pytest.approx(accuracy("model", "test"))
    assert result["measured_on"] == MEASURED_ON
    assert not Path("small.gcz.state").exists()
    recipe = yaml.safe_load(Path("small.gcz.recipe.yaml").read_text())
    assert recipe["macs"] == 0.5 and recipe["data"] == "photos" and {"photos", "test"} <= recipe["run"]["inputs"].keys()


def test_the_table_is_what_a_terminal_shows_and_the_notes_say_how_far_it_is(work, capsys):
    assert call(*COMPRESS) == 0
    output, errors = capsys.readouterr()
    assert [line.split()[0] for line in output.splitlines()[2:6]] == ["original", "pruned", "fine-tuned", "int8"]
    assert re.search(r"^small.gcz: [\d,]+ -> [\d,]+ bytes$", output, re.MULTILINE)
    assert [line for line in errors.splitlines() if "stage 3 of 4, fine-tuned" in line]


def test_fewer_channels_go_when_more_accuracy_is_lost_than_may_be(work, capsys, monkeypatch):
    def forgetful(work, net):
        """Fine-tuning after which the network is useless, unless three quarters of it are still there."""
        if work.macs < 0.7:
            [bias] = [each for each in gc.network.parameters(net).values() if each.data().shape == (3,)]
            bias.set_data(mx.nd.array([100, 0, 0]))
        return net, []
    monkeypatch.setattr("gluon_compress.cli.pipeline.STAGES", [
        *stages.STAGES[:2], stages.Stage("fine-tuned", forgetful), stages.STAGES[3]])
    result = result_of(capsys, *COMPRESS, "--max-accuracy-drop", "0.5")
    assert result["macs_kept"] == 0.75
    assert any("50% of the multiply-accumulates, 0." in note and "more than 0.5" in note for note in result["notes"])


def test_a_network_that_no_layer_may_leave_stays_in_fp32_and_the_note_says_why(work, capsys, monkeypatch):
    """All accuracies are 0 but that of a network in fp32."""
    monkeypatch.setattr(stages.Work, "accuracy", lambda work, net, data=None: float(
        not isinstance(net, gc.quantization.IntegerNetwork)))
    result = result_of(capsys, *COMPRESS[:-4], "--macs", "1", "--epochs", "0", "--max-accuracy-drop", "0.1")
    assert not isinstance(gc.load("small.gcz"), gc.quantization.IntegerNetwork)
    assert any("the network stays in fp32: " in note and "not kept with any number" in note for note in result["notes"])


def test_with_all_channels_and_no_epochs_only_the_integers_come(work, capsys):
    result = result_of(capsys, *COMPRESS[:-4], "--macs", "1", "--epochs", "0")
    assert len({stage["macs"] for stage in result["stages"]}) == 1
    assert isinstance(gc.load("small.gcz"), gc.quantization.IntegerNetwork)


CODED = (*COMPRESS[:-4], "--macs", "1", "--epochs", "0", "--to", "coded")


def test_coded_weights_make_a_small_file_that_keeps_the_accuracy(work, capsys):
    result = result_of(capsys, *CODED, "--max-accuracy-drop", "0.1")
    original, *_, coded = result["stages"]
    assert coded["stage"] == "coded" and coded["bytes"] == Path("small.gcz").stat().st_size < original["bytes"] / 2
    assert original["accuracy"] - coded["accuracy"] <= 0.1 and coded["macs"] == original["macs"]
    assert any("weights are rounded: " in note for note in result["notes"])
    assert set(gc.checkpoint.records("small.gcz")) == {"scales"}


def test_a_larger_rate_makes_a_smaller_file(work, capsys):
    sizes = [result_of(capsys, *CODED, "--rate", rate, "--force")["stages"][-1]["bytes"] for rate in ("0.001", "0.3")]
    assert sizes[1] < sizes[0]


def test_a_rate_without_coding_is_refused(work, capsys):
    assert call(*COMPRESS, "--rate", "0.1") == 1
    assert "--rate is 0.1, and --to int8 has no use for it; accepted: --to coded" in capsys.readouterr().err


def test_test_images_change_nothing_but_their_own_numbers(work, capsys):
    with_test = result_of(capsys, *COMPRESS, "--test", "test")
    content = Path("small.gcz").read_bytes()
    without = result_of(capsys, *COMPRESS, "--force")
    assert Path("small.gcz").read_bytes() == content
    assert [stage.pop("test_accuracy") for stage in with_test["stages"]] and with_test["stages"] == without["stages"]


def interrupted(words, until, name):
    """Start the command line as a process, send it a signal when ``until()`` holds, and return (code, errors)."""
    process = started(*words, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE)
    end = time.monotonic() + 120
    while not until() and process.poll() is None and time.monotonic() < end:
        time.sleep(0.01)
    process.send_signal(name)
    _, errors = process.communicate(timeout=120)
    return process.returncode, errors


def test_a_killed_compress_goes_on_to_the_same_bytes(work, capsys):
    state = Path("small.gcz.state")
    words = [*COMPRESS, "--epochs", "4"]
    code, errors = interrupted(words, (state / "training-0.5000.state").exists, signal.SIGINT)
    assert code == 130, errors
    assert not Path("small.gcz").exists() and not Path("small.gcz.recipe.yaml").exists()
    assert "goes on from there" in errors and "Traceback" not in errors
    assert sorted(path.name for path in state.iterdir()) == [
        "0-original.gcz", "1-pruned-0.5000.gcz", "results.json", "training-0.5000.state"]
    resumed = result_of(capsys, *words)
    assert any("stage 2 of 4, pruned: done before" in note for note in resumed["notes"])
    content = Path("small.gcz").read_bytes()
    fresh = result_of(capsys, *words, "--force")
    assert Path("small.gcz").read_bytes() == content and fresh["stages"] == resumed["stages"]


def test_the_state_of_another_run_is_refused(work, capsys):
    assert call(*COMPRESS, "--state", "state") == 0
    Path("state").mkdir()
    shutil.copy("small.gcz", "state/0-original.gcz")
    for content, message in (('{"settings": {"macs": 0.4}, "results": {}}', "another run: macs is 0.4 there, 0.5 here"),
                             ("{", "results.json is damaged; remove state to begin anew")):
        (Path("state") / "results.json").write_text(content)
        capsys.readouterr()
        assert call(*COMPRESS, "--force", "--state", "state") == 1
        assert message in capsys.readouterr().err


def everything(folder):
    return {str(path.relative_to(folder)): path.read_bytes() for path in sorted(folder.rglob("*")) if path.is_file()}


@pytest.mark.parametrize("words, option", [(COMPRESS, "--state"), (CODED, "--state"), (CODED, "default"),
                                           (DISTILL, "default")], ids=lambda value: value if value == "default" else "")
def test_what_is_the_user_s_where_the_state_would_be_stays(work, capsys, words, option):
    """The state is removed when all is done, and when there is nothing to go on from."""
    folder = work / ("mine" if option == "--state" else f"{words[words.index('--output') + 1]}.state")
    shutil.copytree(work / "photos", folder)
    (folder / "results.json").write_text("{}")
    before = everything(folder)
    assert call(*words, *(["--state", "mine"] if option == "--state" else [])) == 1
    assert everything(folder) == before
    if words is not DISTILL:
        assert re.search(r"has files that are no state of compress: b, g, r; accepted as --state: a new folder",
                         capsys.readouterr().err)
    shutil.rmtree(folder)
    if words is not DISTILL:
        folder.write_text("mine")
        assert call(*words, *(["--state", "mine"] if option == "--state" else [])) in (1, 2)
        assert folder.read_text() == "mine"


def test_a_file_of_the_user_s_that_comes_into_the_state_meanwhile_stays(work, monkeypatch):
    def leave(work, net):
        (work.folder / "mine.txt").write_text("mine")
        return net, []
    monkeypatch.setattr("gluon_compress.cli.pipeline.STAGES", [*stages.STAGES[:2], stages.Stage("fine-tuned", leave),
                                                               stages.STAGES[3]])
    assert call(*COMPRESS, "--state", "state") == 0
    assert [path.name for path in Path("state").iterdir()] == ["mine.txt"]


@pytest.mark.parametrize("to", ["int8", "coded"])
def test_a_layer_that_is_excluded_stays_as_it_is_in_all_stages_and_its_name_is_checked(work, capsys, to):
    def dense(path):
        [weight] = [layer.value() for layer in gc.network.layers(gc.load(path)) if layer.kind == "Dense"]
        return weight
    words = [*COMPRESS[:-2], "--macs", "1", "--to", to]
    if to == "coded":
        assert call(*words, "--exclude", "Dense", "--max-accuracy-drop", "0.2") == 0
        assert np.array_equal(dense("small.gcz"), dense("model"))
        assert call(*words, "--exclude", "Dense", "--force", "--rate", "0.1") == 0
        assert np.array_equal(dense("small.gcz"), dense("model"))
    else:
        assert call(*words, "--exclude", "Dense") == 0
        assert "Dense, excluded" in gc.load("small.gcz").record.left_out.values()
    capsys.readouterr()
    assert call(*words, "--exclude", "nope", "--force") == 1
    assert "exclude names 'nope', but there is no such layer" in capsys.readouterr().err


NUMBERS = ("macs", "max-accuracy-drop", "rate", "held-out", "learning-rate", "weight-decay", "temperature",
           "hard-weight")


@pytest.mark.parametrize("number", ["nan", "inf"])
@pytest.mark.parametrize("option", NUMBERS)
def test_a_number_that_is_none_is_refused_at_once(work, capsys, option, number):
    words = [word for word in CODED if word not in ("--macs", "1")] if option == "macs" else CODED
    assert call(*words, f"--{option}", number) == 2
    assert re.search(f"'--{option}': {number} is (no finite number|not in the range)", capsys.readouterr().err)


def test_data_without_batches_are_named(work, capsys):
    (work / "nothing.py").write_text("def pair(): return [], []")
    assert call(*CODED[:3], "nothing:pair", *CODED[4:]) == 1
    assert "data has no batches; accepted: an iterable" in capsys.readouterr().err


def test_compress_and_distill_take_compressed_files_which_have_one_head_alone(work, capsys):
    gc.save("teacher.gcz", gc.load("model", head="logits"), example=mx.nd.ones((1, 3, 12, 12)))
    words = (*COMPRESS[2:], "--macs", "1", "--epochs", "0", "--to", "coded")
    ours, other = (result_of(capsys, "compress", network, *words, "--output", f"from_{network[:5]}.gcz")["stages"]
                   for network in ("teacher.gcz", "model"))
    assert ours[0]["accuracy"] == other[0]["accuracy"]
    assert call(*DISTILL, "--teacher", "teacher.gcz", "--epochs", "1") == 0
    assert call("distill", "student.gcz", *DISTILL[2:], "--output", "again.gcz", "--epochs", "1") == 0


def test_a_network_on_integers_is_refused_before_anything_is_done(work, capsys):
    integers = gc.quantization.quantize(gc.load("model"), [mx.nd.ones((2, 3, 12, 12))], progress=False)
    gc.save("int8.gcz", integers)
    assert call("compress", "int8.gcz", *COMPRESS[2:]) != 0
    errors = capsys.readouterr().err
    assert "the network is an IntegerNetwork" in errors and "stage 1" not in errors
    assert not Path("small.gcz.state").exists()


# ---- distill

def test_distill_trains_the_student_and_measures_both(work, capsys):
    result = result_of(capsys, *DISTILL, "--epochs", "12", "--learning-rate", "0.2", "--test", "test")
    assert len(result["history"]["epochs"]) == 12
    assert result["accuracy"]["student"]["test"] == accuracy("student.gcz", "test") > 0.6
    assert result["accuracy"]["teacher"]["test"] == accuracy("model", "test")
    assert result["measured_on"] == MEASURED_ON
    assert not Path("student.gcz.state").exists()


@pytest.mark.parametrize("option, value", [
    ("temperature", 2), ("hard_weight", 0.5), ("optimizer", "adam"), ("seed", 3), ("weight_decay", 0.1)])
def test_distill_takes_its_settings_and_says_which_epoch_is_kept(work, capsys, option, value):
    """The file is that of the same training in Python, and another one than without the option."""
    settings = {"temperature": 4, "hard_weight": 0.1, "optimizer": "nag", "seed": 0, "weight_decay": 5e-4}
    words = [*DISTILL, "--epochs", "1", "--augment", "none", "--batch-size", "18"]
    assert call(*words, f"--{option.replace('_', '-')}", value) == 0
    assert "kept: the parameters of epoch 1 of 1, the most accurate on the images" in capsys.readouterr().out
    found = values_of("student.gcz")
    assert all(map(np.array_equal, found, distilled(**{**settings, option: value})))
    assert call(*words, "--force") == 0
    assert not all(map(np.array_equal, found, values_of("student.gcz")))


def values_of(path):
    import training_nets
    net = gc.load(path, training_nets.student())
    return [value.data().asnumpy() for value in gc.network.parameters(net).values()]


def distilled(temperature, hard_weight, optimizer, seed, weight_decay):
    """The parameters of the student after the training of ``DISTILL``, in Python."""
    import training_nets
    student, data = training_nets.student(), gc.datasets.image_folder("photos", progress=False)
    training, held_out = data.split(12, seed=0)
    momentum = {} if optimizer == "adam" else {"momentum": 0.9}
    trainer = mx.gluon.Trainer(student.collect_params(), optimizer, {
        "learning_rate": 0.001 if momentum == {} else 0.05, "wd": weight_decay, **momentum})
    gc.distillation.distill(student, gc.load("model", head="logits"), training.batches(18, shuffle=True), 1,
                            temperature, hard_weight, trainer=trainer, schedule=gc.training.one_cycle,
                            validation_data=held_out.batches(18), seed=seed, progress=False)
    return [value.data().asnumpy() for value in gc.network.parameters(student).values()]


@pytest.mark.parametrize("words, message", [
    (("distill", "training_nets:binary", "--teacher", "model", "--data", "photos", "--output", "x.gcz"),
     r"training_nets:binary puts out \(1, 2\) and its teacher, model, \(1, 3\); accepted: networks with the same"),
    ((*COMPRESS, "--macs", "0.0001"), "macs"), ((*COMPRESS, "--exclude", "nope"), "exclude names 'nope'"),
    ((*COMPRESS, "--data", "arrays:none"), "cannot be imported"),
    ((*COMPRESS, "--held-out", "0.999999"), "too few to set aside")])
def test_what_cannot_be_done_is_said_in_a_line_and_leaves_nothing(work, capsys, words, message):
    assert call(*words) == 1
    output, errors = capsys.readouterr()
    said = [line for line in errors.splitlines() if "error:" in line]
    assert len(said) == 1 and re.search(message, said[0]) and output == ""
    assert not list(work.glob("*.gcz*"))


def test_a_dry_run_of_each_says_what_would_happen_and_writes_nothing(work, capsys):
    before = sorted(os.listdir())
    for words in (COMPRESS, DISTILL):
        assert call(*words, "--dry-run") == 0
        assert re.search(r"would .* photos, 108 images 12x12, colour", capsys.readouterr().out)
    assert sorted(os.listdir()) == before
