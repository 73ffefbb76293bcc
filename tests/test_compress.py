"""``gc.coding.compress``: what its stages make and choose, that a killed run goes on, and what it refuses."""
import json
import os
import random
import signal
import warnings
from types import SimpleNamespace

import gluon_compress as gc
import mxnet as mx
import numpy as np
import pytest
from full_disk import files_end_at
from gluon_compress.coding import Compression, Pruning, Rounding, compress
from gluon_compress.coding.pipeline.judging import Judge
from gluon_compress.coding.pipeline.searching import largest_that_fits
from gluon_compress.coding.pipeline.work_folder import WorkFolder
from gluon_compress.errors import CheckpointError
from gluon_compress.network.values import snapshot
from interrupts import press_ctrl_c
from mxnet.gluon import nn
from networks import identical

QUIET = {"progress": False}
SHORT = (Pruning(epochs=1, bisections=0), Rounding(bisections=1))


def blobs(count, seed, noise=2.0):
    """Batches of images (1, 8, 8) of three classes: a pattern each, and noise."""
    patterns = np.random.default_rng(0).normal(size=(3, 1, 8, 8))
    rng = np.random.default_rng(seed)
    labels = rng.integers(0, 3, count)
    images = patterns[labels] + noise * rng.normal(size=(count, 1, 8, 8))
    return [(mx.nd.array(images[start:start + 50]), mx.nd.array(labels[start:start + 50]))
            for start in range(0, count, 50)]


def build():
    mx.random.seed(3)
    with mx.name.NameManager():  # so that files of several of them have the same names
        net = nn.HybridSequential()
        net.add(nn.Conv2D(6, 3, in_channels=1), nn.BatchNorm(in_channels=6), nn.Activation("relu"), nn.Flatten(),
                nn.Dense(20, in_units=216, activation="relu"), nn.Dense(3, in_units=20))
    net.initialize(mx.init.Xavier())
    return net


@pytest.fixture(scope="module")
def trained():
    net = build()
    gc.training.fit(net, blobs(600, 1), 3, progress=False)
    return snapshot(net)


@pytest.fixture
def net(trained):
    """The trained network, made anew."""
    fresh = build()
    gc.network.restore_snapshot(fresh, trained)
    return fresh


HELD_OUT, TRAINING, INPUTS = blobs(400, 2), blobs(600, 1), blobs(100, 4)


@pytest.fixture(scope="module")
def whole(trained, tmp_path_factory):
    """A compression in stages ``SHORT`` that nothing ends: its folder and files, its rows, the network, the passes."""
    folder, net = tmp_path_factory.mktemp("whole"), build()
    gc.network.restore_snapshot(net, trained)
    held_out, training = Counted(HELD_OUT), Counted(TRAINING)
    result = compress(net, held_out, 0.02, training, INPUTS, SHORT, folder, **QUIET)
    return SimpleNamespace(folder=folder, files=files_of(folder), rows=result.rows, values=snapshot(net),
                           held_out_passes=held_out.passes, training_passes=training.passes)


def files_of(folder):
    return {path.name: path.read_bytes() for path in folder.glob("*.gcz")}


def test_without_training_the_file_is_small_and_the_accuracy_is_kept(net, tmp_path):
    before = gc.training.evaluate(net, HELD_OUT)
    result = compress(net, HELD_OUT, 0.01, calibration_data=INPUTS, **QUIET)
    assert [row["stage"] for row in result.rows] == ["original", "rounded"]
    assert gc.training.evaluate(net, HELD_OUT) == result.rows[-1]["accuracy"] >= before - 0.01
    size = gc.save(tmp_path / "net.gcz", net, *result.records, example=HELD_OUT[0][0])
    assert size == result.rows[-1]["bytes"]
    assert result.rows[-1]["bytes"] < result.rows[0]["bytes"] / 10
    images = HELD_OUT[0][0]
    np.testing.assert_array_equal(gc.load(tmp_path / "net.gcz")(images).asnumpy(), net(images).asnumpy())


def test_with_training_weights_are_pruned_before_they_are_rounded(net, tmp_path):
    result = compress(net, HELD_OUT, 0.02, TRAINING, INPUTS, SHORT, tmp_path, **QUIET)
    assert [row["stage"] for row in result.rows] == ["original", "pruned", "rounded"]
    _, pruned, rounded = result.rows
    pruned_net = gc.load(tmp_path / "1-pruned.gcz")
    weights = [layer.value() for layer in gc.network.layers(pruned_net)]
    zeros = sum((weight == 0).sum() for weight in weights) / sum(weight.size for weight in weights)
    assert zeros == pytest.approx(pruned["settings"]["sparsity"], abs=1e-3) and zeros >= 0.5
    assert gc.training.evaluate(pruned_net, HELD_OUT) == pruned["accuracy"]
    assert pruned["drop"] <= 0.5 * 0.02 + 1e-9 and rounded["drop"] <= 0.02 + 1e-9 and rounded["bytes"] < pruned["bytes"]
    assert {file.name for file in tmp_path.iterdir()} == {
        "0-original.gcz", "1-pruned.gcz", "2-rounded.gcz", "results.json"}


def test_of_the_rates_that_fit_the_smallest_file_is_taken(net, tmp_path):
    result = compress(net, HELD_OUT, 0.01, calibration_data=INPUTS, folder=tmp_path, **QUIET)
    rows = json.loads((tmp_path / "results.json").read_text())["rows"]
    trials = [row for name, row in rows.items() if name.startswith("1-rounded-")]
    assert len(trials) >= 4 and any(not row["fits"] for row in trials)
    smallest = min((row for row in trials if row["fits"]), key=lambda row: row["bytes"])
    assert result.rows[-1]["settings"] == smallest["settings"]
    assert result.rows[-1]["bytes"] == smallest["bytes"]


def test_pruning_is_dropped_where_rounding_alone_makes_the_smaller_file(net, tmp_path):
    result = compress(net, HELD_OUT, 0.02, TRAINING, INPUTS, SHORT, tmp_path, **QUIET)
    rows = json.loads((tmp_path / "results.json").read_text())["rows"]
    trials = {name: row for name, row in rows.items() if name.startswith("2-rounded-") and row["fits"]}
    smallest = min(trials, key=lambda name: trials[name]["bytes"])
    alone = [name for name in trials if "unpruned" in name]
    assert alone and len(alone) < len(trials)
    assert result.rows[-1]["bytes"] == trials[smallest]["bytes"]
    assert ("of the original: pruned" in result.rows[-1]["note"]) == (smallest in alone)
    assert [type(each).__name__ for each in result.records] == ["Scales"]


def test_a_rate_that_is_given_is_taken_whatever_it_costs(net):
    with pytest.warns(UserWarning, match="standard error"):
        result = compress(net, HELD_OUT, 0.0, calibration_data=INPUTS, stages=[Rounding(rate=30.0)], **QUIET)
    assert result.rows[-1]["settings"] == {"rate": 30.0} and not result.rows[-1]["fits"]


def test_where_no_rate_keeps_the_accuracy_the_weights_are_left_or_have_8_bits(net):
    noise = np.random.default_rng(5).normal(size=(3000, 1, 8, 8))  # between the classes, where any change is seen
    data = [(mx.nd.array(noise), net(mx.nd.array(noise)).argmax(axis=1))]
    result = compress(net, data, 0.0, calibration_data=INPUTS, **QUIET)
    assert result.rows[-1]["fits"] and result.rows[-1]["drop"] == 0
    assert set(result.rows[-1]["settings"]) <= {"rate", "bits"}


def test_8_bits_are_for_the_layers_that_a_rate_is_for():
    """Weights that have 8 bits already lose nothing by them; at any rate the answers to some samples change."""
    mx.random.seed(3)
    net = nn.HybridSequential()
    net.add(nn.Conv1D(4, 3, in_channels=2), nn.Flatten(), nn.Dense(4, in_units=32))
    net.initialize(mx.init.Normal(0.3))
    gc.quantization.quantize_weights(net, 8, select="Dense")
    inputs = mx.nd.random.normal(shape=(5000, 2, 10))
    result = compress(net, [(inputs, net(inputs).argmax(axis=1))], 0.0, calibration_data=[inputs[:500]], **QUIET)
    assert "8 bits: no rate" in result.rows[-1]["note"] and set(result.records[0].weights) == {"2.weight"}


@pytest.mark.parametrize("rate", [None, 0.1])
def test_where_no_layer_can_be_rounded_by_rate_training_is_not_in_vain(tmp_path, rate):
    mx.random.seed(3)
    net = nn.HybridSequential()
    net.add(nn.Conv2D(4, 3, groups=2, in_channels=2), nn.Activation("relu"), nn.Conv2D(4, 6, groups=4, in_channels=4),
            nn.Flatten())
    net.initialize(mx.init.Normal(0.3))
    inputs = mx.nd.random.normal(shape=(200, 2, 8, 8))
    data = [(inputs, net(inputs).argmax(axis=1))]
    result = compress(net, data, 0.5, data, stages=[Pruning(epochs=1, bisections=0), Rounding(rate)], **QUIET)
    assert "8 bits: no layer can be rounded by rate (it has groups)" in result.rows[-1]["note"]
    assert set(result.records[-1].weights) == {"0.weight", "2.weight"}
    gc.save(tmp_path / "small.gcz", net, *result.records, example=inputs)
    assert gc.training.evaluate(gc.load(tmp_path / "small.gcz"), data) == result.rows[-1]["accuracy"]


def test_without_other_data_every_second_batch_chooses(net):
    result = compress(net, HELD_OUT, 0.02, stages=[Rounding(bisections=0)], **QUIET)
    assert result.samples == 200
    chosen = HELD_OUT[1::2]
    assert result.rows[-1]["accuracy"] == gc.training.evaluate(net, chosen)


def test_the_standard_error_is_that_of_the_same_samples_seen_twice(net):
    judge = Judge(net, HELD_OUT, 0.01)
    other = build()
    gc.training.fit(other, blobs(200, 7), 1, progress=False)
    row = judge.row(other)
    right = [np.concatenate([(each(images).argmax(axis=1) == labels).asnumpy() for images, labels in HELD_OUT])
             for each in (net, other)]
    lost = right[0] - right[1]
    assert row["drop"] == pytest.approx(lost.mean()) and row["accuracy"] == right[1].mean()
    assert row["standard_error"] == pytest.approx(lost.std() / np.sqrt(len(lost)))


def test_a_drop_that_chance_hides_is_warned_of_at_the_callers_line(net):
    with pytest.warns(UserWarning, match="max_accuracy_drop is 0.001, 0.1 of the 100 samples") as caught:
        compress(net, blobs(100, 8, noise=4.0), 0.001, calibration_data=INPUTS, stages=[Rounding(rate=3.0)], **QUIET)
    assert [each.filename for each in caught if each.category is UserWarning] == [__file__]


def test_a_warning_that_is_an_error_leaves_the_network_as_it_was(net, trained):
    with warnings.catch_warnings(), pytest.raises(UserWarning, match="standard error"):
        warnings.simplefilter("error", UserWarning)
        compress(net, blobs(100, 8, noise=4.0), 0.001, calibration_data=INPUTS, stages=[Rounding(rate=3.0)], **QUIET)
    assert identical(trained, snapshot(net))


@pytest.mark.parametrize("border", [-9.0, -3.3, 0.2, 1.7, 4.0, 99.0])
def test_the_search_ends_close_below_the_border(border):
    tried = []

    def fits(value):
        tried.append(value)
        return value <= border
    found = largest_that_fits(fits, 0.0, 1.0, -4.0, 6.0, bisections=3)
    assert found == max([value for value in tried if value <= border], default=None)
    assert found is None if border < -4 else min(border, 6) - 1 / 8 <= found <= border
    assert len(tried) == len(set(tried)) < 12


class Halved:
    """A stage of a user's own: channels go."""

    name = "halved"

    def check(self, net, training_data):
        pass

    def description(self, net):
        return {"ratio": 0.5}

    def run(self, net, records, task):
        return (gc.pruning.prune_channels(net, task.example, 0.5, round_to=1),), {"note": "half of the channels"}


def test_a_stage_of_ones_own_joins_the_others(net, tmp_path):
    result = compress(net, HELD_OUT, 1.0, calibration_data=INPUTS, stages=[Halved(), Rounding(rate=1e-2)], **QUIET)
    assert net[0].weight.shape == (3, 1, 3, 3) and [type(each).__name__ for each in result.records] == [
        "ChannelPlan", "Scales"]
    gc.save(tmp_path / "net.gcz", net, *result.records, example=HELD_OUT[0][0])
    fresh = gc.load(tmp_path / "net.gcz", build())
    assert gc.training.evaluate(fresh, HELD_OUT) == result.rows[-1]["accuracy"]


class Noting:
    """A stage that changes nothing."""

    def __init__(self, notes, name="noting"):
        self.notes, self.name = notes, name

    def check(self, net, training_data):
        pass

    def description(self, net):
        return {}

    def run(self, net, records, task):
        return records, self.notes


@pytest.mark.parametrize("notes", [{}, {"note": "x" * 10_000}, {"settings": {"a": np.float32(1), 5: [None, "b"]}}])
def test_what_a_stage_of_ones_own_notes_is_read_again(net, tmp_path, notes):
    arguments = {"calibration_data": INPUTS, "stages": [Noting(notes)], "folder": tmp_path, **QUIET}
    first = compress(net, HELD_OUT, 1.0, **arguments)
    assert compress(net, HELD_OUT, 1.0, **arguments).to_dict() == first.to_dict()
    assert Compression.from_dict(json.loads(json.dumps(first.to_dict()))).rows == first.rows


@pytest.mark.parametrize("notes", [{"note": "x" * 10_001}, {"what": 1}, {"bytes": 1}, {"note": 5}, {"settings": 1},
                                   None])
def test_what_no_row_takes_is_refused_of_a_stage_of_ones_own(net, tmp_path, notes):
    """At once: a later call would take it for damage."""
    refused(net, TypeError, "stage 1-noting: .*notes.*; accepted: ", max_accuracy_drop=1.0,
            stages=[Noting(notes)], folder=tmp_path)
    compress(net, HELD_OUT, 1.0, calibration_data=INPUTS, stages=[Noting({})], folder=tmp_path, **QUIET)


@pytest.mark.parametrize("made", [None, (), ({"note": "no records"},), (None, {}), (5, {})])
def test_a_stage_of_ones_own_returns_records_and_notes(net, made):
    class Returning(Noting):
        def run(self, net, records, task):
            return made
    refused(net, TypeError, r"stage 1-noting returned .*; accepted: \(records, notes\)", stages=[Returning({})])


@pytest.mark.parametrize(("name", "error"), [("a/b", ValueError), ("", ValueError), ("x" * 51, ValueError),
                                             ("a\n", ValueError), (5, TypeError)])
def test_names_of_stages_are_those_of_files(net, name, error):
    refused(net, error, "the name of a stage is .*; accepted: ", stages=[Noting({}, name)])


def test_the_record_goes_to_json_and_back(net):
    result = compress(net, HELD_OUT, 0.02, calibration_data=INPUTS, stages=[Rounding(bisections=0)], **QUIET)
    again = Compression.from_dict(json.loads(json.dumps(result.to_dict())))
    assert again.to_dict() == result.to_dict() and again.summary() == result.summary()
    assert f"{result.rows[-1]['bytes']:,}" in str(result) and result.ratio > 10


# ---- going on

class Stop(BaseException):
    pass


@pytest.fixture
def stopped(monkeypatch):
    """``stopped(**arguments)``: a compression that ends once it has kept something new; whether it came to that."""
    remember = WorkFolder.remember

    def remember_and_stop(*row):
        remember(*row)
        raise Stop

    def run(**arguments):
        with monkeypatch.context() as patch:
            patch.setattr(WorkFolder, "remember", remember_and_stop)
            try:
                compress(**arguments)
            except Stop:
                return True
            return False
    return run


def test_wherever_a_run_ends_it_goes_on_to_the_same_network(net, trained, whole, tmp_path, stopped):
    arguments = {"net": net, "data": HELD_OUT, "max_accuracy_drop": 0.02, "training_data": TRAINING, "stages": SHORT,
                 "calibration_data": INPUTS, **QUIET}
    times = 0
    while stopped(**arguments, folder=tmp_path / "pieces"):
        times += 1
        assert identical(trained, snapshot(net))
    assert times > 6
    for name in ("1-pruned", "2-rounded"):
        pieces, expected = (gc.load(folder / f"{name}.gcz", build()) for folder in (tmp_path / "pieces", whole.folder))
        assert identical(snapshot(pieces), snapshot(expected))
    gc.network.restore_snapshot(net, trained)
    again = compress(**arguments, folder=tmp_path / "pieces")
    assert [row["drop"] for row in again.rows] == [row["drop"] for row in whole.rows]


KILLED = """
import os, signal, sys
sys.path.insert(0, sys.argv[1])
import test_compress as t
from gluon_compress.coding.pipeline.work_folder import WorkFolder

remember = WorkFolder.remember
def remember_and_die(self, name, row):
    row = remember(self, name, row)
    if name == "1-pruned":
        os.kill(os.getpid(), signal.SIGKILL)
    return row
WorkFolder.remember = remember_and_die
net = t.build()
net.load_parameters(sys.argv[2])
t.compress(net, t.HELD_OUT, 0.02, t.TRAINING, t.INPUTS, t.SHORT, sys.argv[3], progress=False)
"""


def test_a_run_killed_between_stages_goes_on_without_training_again(net, tmp_path, start_python, monkeypatch):
    net.save_parameters(str(tmp_path / "net.params"))
    folder = tmp_path / "work"
    killed = start_python(KILLED, os.path.dirname(__file__), tmp_path / "net.params", folder)
    _, errors = killed.communicate(timeout=300)
    assert killed.returncode == -signal.SIGKILL, errors
    assert {file.name for file in folder.glob("?-*d.gcz")} == {"1-pruned.gcz"}
    monkeypatch.setattr("gluon_compress.coding.pipeline.stages.fit", None)  # must not be called
    result = compress(net, HELD_OUT, 0.02, TRAINING, INPUTS, SHORT, folder, **QUIET)
    assert (folder / "2-rounded.gcz").is_file() and result.rows[-1]["fits"]


def test_a_finished_run_returns_at_once_and_gives_the_network(net, trained, tmp_path, monkeypatch):
    arguments = {"calibration_data": INPUTS, "folder": tmp_path, "stages": [Rounding(bisections=0)], **QUIET}
    first = compress(net, HELD_OUT, 0.02, **arguments)
    after = snapshot(net)
    gc.network.restore_snapshot(net, trained)
    monkeypatch.setattr("gluon_compress.coding.pipeline.stages.RateRounding", None)  # must not be called
    again = compress(net, HELD_OUT, 0.02, **arguments)
    assert again.to_dict() == first.to_dict() and identical(after, snapshot(net))


def test_a_file_that_is_not_as_it_was_written_is_made_again(net, trained, tmp_path):
    arguments = {"calibration_data": INPUTS, "folder": tmp_path, "stages": [Rounding(bisections=0)], **QUIET}
    compress(net, HELD_OUT, 0.02, **arguments)
    after, content = snapshot(net), (tmp_path / "1-rounded.gcz").read_bytes()
    (tmp_path / "1-rounded.gcz").write_bytes(content[:-9])
    gc.network.restore_snapshot(net, trained)
    compress(net, HELD_OUT, 0.02, **arguments)
    assert identical(after, snapshot(net)) and identical(after, snapshot(gc.load(tmp_path / "1-rounded.gcz", build())))


@pytest.mark.parametrize("other, named", [
    ({"max_accuracy_drop": 0.03}, "max_accuracy_drop is 0.02 there, 0.03 here"), ({"seed": 1}, "seed is 0 there"),
    ({"data": blobs(400, 9)}, "data is"), ({"calibration_data": HELD_OUT}, "calibration_data is"),
    ({"training_data": TRAINING}, "training_data is None there"),
    ({"stages": [Rounding(rate=0.1, bisections=0)]}, r"run: stages\[0\].rate is None there, 0.1 here; accepted"),
    ({"stages": [Rounding()] * 2}, "stages is"),
    ({"net": build}, "network is")], ids=lambda value: next(iter(value)) if isinstance(value, dict) else "")
def test_the_work_of_another_run_is_refused(net, tmp_path, stopped, other, named):
    arguments = {"net": net, "data": HELD_OUT, "max_accuracy_drop": 0.02, "calibration_data": INPUTS,
                 "stages": [Rounding(bisections=0)], "folder": tmp_path, **QUIET}
    assert stopped(**arguments)
    changed = {**arguments, **other}
    changed["net"] = build() if changed["net"] is build else net
    before = snapshot(changed["net"])
    with pytest.raises(CheckpointError, match=named):
        compress(**changed)
    assert identical(before, snapshot(changed["net"]))


def test_what_is_the_user_s_in_a_folder_stays(net, tmp_path):
    arguments = {"calibration_data": INPUTS, "stages": [Pruning(epochs=1, bisections=0)], "folder": tmp_path / "work"}
    mine = tmp_path / "work" / "1-pruned-mine.gcz"
    mine.parent.mkdir()
    mine.write_text("mine")
    compress(net, HELD_OUT, 0.02, TRAINING, **arguments, **QUIET)
    assert mine.read_text() == "mine"
    for name in ("0-original.gcz", "1-pruned.gcz"):
        folder = tmp_path / name
        folder.mkdir()
        (folder / name).write_text("mine")
        with pytest.raises(CheckpointError, match=f"has a file {name} and no results.json: .*; accepted: another"):
            compress(net, HELD_OUT, 0.02, TRAINING, **{**arguments, "folder": folder}, **QUIET)
        assert [path.name for path in folder.iterdir()] == [name] and (folder / name).read_text() == "mine"


@pytest.mark.parametrize("lost", ["sha256", "seconds"])
def test_a_row_that_lacks_something_counts_as_not_done(net, tmp_path, lost):
    arguments = {"calibration_data": INPUTS, "folder": tmp_path, "stages": [Rounding(bisections=0)]}
    first = compress(net, HELD_OUT, 0.02, **arguments, **QUIET)
    content = json.loads((tmp_path / "results.json").read_text())
    for row in content["rows"].values():
        row.pop(lost, None)
    (tmp_path / "results.json").write_text(json.dumps(content))
    gc.network.restore_snapshot(net, snapshot(gc.load(tmp_path / "0-original.gcz", build())))
    again = compress(net, HELD_OUT, 0.02, **arguments)  # shown, too
    assert [row["bytes"] for row in again.rows] == [row["bytes"] for row in first.rows]


@pytest.mark.parametrize("content", [
    "", "{}", "[]", '{"run": {}, "rows": {"a": {"bytes": -1}}}', "\0" * 50,
    '{"run": {}, "rows": {"a": {"bytes": 0, "accuracy": 0, "drop": 0, "standard_error": 0, "fits": true}}}'])
def test_a_damaged_folder_is_refused(net, tmp_path, content):
    (tmp_path / "results.json").write_text(content)
    with pytest.raises(CheckpointError, match="results.json is damaged .*remove"):
        compress(net, HELD_OUT, 0.02, calibration_data=INPUTS, folder=tmp_path, **QUIET)


@pytest.mark.parametrize("name", ["1-rounded-/../../kept", "1-rounded-\0"])
def test_a_row_whose_name_is_no_file_of_the_folder_is_damage_and_no_file_is_removed(net, tmp_path, name):
    arguments = {"calibration_data": INPUTS, "folder": tmp_path / "work", "stages": [Rounding(bisections=0)]}
    before = snapshot(net)
    compress(net, HELD_OUT, 0.02, **arguments, **QUIET)
    file = tmp_path / "work" / "results.json"
    content = json.loads(file.read_text())
    content["rows"][name] = content["rows"]["1-rounded"]
    file.write_text(json.dumps(content))
    (tmp_path / "kept.gcz").write_bytes(b"of somebody else")
    (tmp_path / "work" / "1-rounded-").mkdir()
    gc.network.restore_snapshot(net, before)
    with pytest.raises(CheckpointError, match="results.json is damaged .*accepted: printable names without '/'"):
        compress(net, HELD_OUT, 0.02, **arguments, **QUIET)
    assert (tmp_path / "kept.gcz").is_file()


class Counted:
    """Batches; before those of pass number ``when`` comes Ctrl-C."""

    def __init__(self, batches, when=None):
        self.batches, self.when, self.passes = batches, when, 0

    def __len__(self):
        return len(self.batches)

    def __iter__(self):
        self.passes += 1
        if self.passes == self.when:
            press_ctrl_c()
        return iter(self.batches)


def test_after_ctrl_c_in_any_stage_the_network_is_as_it_was_and_the_same_files_come_of_going_on(
        net, trained, whole, tmp_path):
    def run(held_out, training, folder):
        gc.network.restore_snapshot(net, trained)
        compress(net, held_out, 0.02, training, INPUTS, SHORT, tmp_path / folder, **QUIET)
        return files_of(tmp_path / folder), snapshot(net)
    assert whole.held_out_passes > 8 and whole.training_passes > 4
    for number, (held_out_stop, training_stop) in enumerate([(3, None), (whole.held_out_passes - 1, None), (None, 4)]):
        with pytest.raises(KeyboardInterrupt):
            run(Counted(HELD_OUT, held_out_stop), Counted(TRAINING, training_stop), f"{number}")
        assert identical(trained, snapshot(net))
        for path in (tmp_path / f"{number}").glob("*.gcz"):
            gc.load(path, build())
        again, new = run(HELD_OUT, TRAINING, f"{number}")
        assert again == whole.files and identical(new, whole.values), (held_out_stop, training_stop)


def test_ctrl_c_again_while_the_network_is_put_back_is_heard_when_that_is_done(net, trained, monkeypatch):
    def press_again(*arguments):
        press_ctrl_c()
        gc.network.restore_snapshot(*arguments)
    monkeypatch.setattr("gluon_compress.coding.pipeline.compressing.restore_snapshot", press_again)
    with pytest.raises(KeyboardInterrupt):
        compress(net, Counted(HELD_OUT, 5), 0.02, TRAINING, INPUTS, SHORT, **QUIET)
    assert identical(trained, snapshot(net)) and signal.getsignal(signal.SIGINT) is signal.default_int_handler


def test_a_disk_that_is_full_is_named_and_going_on_with_more_room_makes_the_same(net, trained, whole, tmp_path):
    arguments = {"data": HELD_OUT, "max_accuracy_drop": 0.02, "training_data": TRAINING, "stages": SHORT,
                 "calibration_data": INPUTS, **QUIET}
    for size, name in ((5000, "0-original.gcz"), (17_000, "1-pruned-1.0000.state")):
        gc.network.restore_snapshot(net, trained)
        with files_end_at(size), pytest.raises(OSError, match=f"File too large: .*{name}"):
            compress(net, **arguments, folder=tmp_path / name)
        assert identical(trained, snapshot(net))
        assert {path.suffix for path in (tmp_path / name).iterdir()} <= {".json", ".gcz"}
        compress(net, **arguments, folder=tmp_path / name)
        assert files_of(tmp_path / name) == whole.files


# ---- networks of other kinds

@pytest.mark.parametrize("is_numpy", [False, True])
def test_networks_in_double_precision_and_of_the_numpy_interface_are_compressed_too(net, is_numpy, tmp_path):
    if is_numpy:
        values = snapshot(net)
        with mx.util.np_shape(True), mx.util.np_array(True):
            net = build()
        gc.network.restore_snapshot(net, values)
        held_out, training, inputs = HELD_OUT, TRAINING, INPUTS
    else:
        net.cast("float64")
        held_out, training, inputs = ([(images.astype("float64"), labels) for images, labels in batches]
                                      for batches in (HELD_OUT, TRAINING, INPUTS))
    kind = type(net[0].weight.data()), net[0].weight.data().dtype
    result = compress(net, held_out, 0.02, training, inputs, SHORT, **QUIET)
    assert (type(net[0].weight.data()), net[0].weight.data().dtype) == kind
    assert result.rows[-1]["fits"] and result.ratio > 15
    assert gc.save(tmp_path / "net.gcz", net, *result.records, example=held_out[0][0]) == result.rows[-1]["bytes"]
    assert gc.training.evaluate(gc.load(tmp_path / "net.gcz"), held_out) == result.rows[-1]["accuracy"]


# ---- bad input; more of it is in test_bad_input.py

def refused(net, kind, message, **arguments):
    before = snapshot(net)
    with pytest.raises(kind, match=message):
        compress(**{"net": net, "data": HELD_OUT, "calibration_data": INPUTS, **QUIET, **arguments})
    assert identical(before, snapshot(net))


def test_data_in_another_order_in_each_pass_are_refused(net):
    images, labels = (np.concatenate([batch[part].asnumpy() for batch in HELD_OUT]) for part in (0, 1))
    shuffled = mx.gluon.data.DataLoader(mx.gluon.data.ArrayDataset(images, labels), 50, shuffle=True)
    refused(net, ValueError, "in another order, in each pass; accepted: .* without shuffle", data=shuffled)


def test_a_folder_in_which_nothing_can_be_written_is_refused(net, tmp_path):
    (tmp_path / "file").write_text("here")
    refused(net, OSError, "file", folder=tmp_path / "file" / "work")


def test_training_data_of_another_shape_are_refused_before_anything_is_done(net, tmp_path):
    refused(net, ValueError, "a batch of training_data, .*, does not fit", folder=tmp_path / "work",
            training_data=[(mx.nd.ones((4, 1, 9, 9)), mx.nd.zeros(4))])
    refused(net, ValueError, "training_data has no batches", folder=tmp_path / "work", training_data=[])
    assert not (tmp_path / "work").exists()


def test_one_batch_cannot_both_calibrate_and_choose(net):
    refused(net, ValueError, "data has one batch, .*; accepted: two batches at least, or calibration_data",
            data=HELD_OUT[:1], calibration_data=None)


def test_one_batch_is_noticed_where_nothing_says_how_many_there_are(net):
    class Unsized:
        def __iter__(self):
            return iter(HELD_OUT[:1])
    refused(net, ValueError, "data has one batch, .*; accepted: two batches at least, or calibration_data",
            data=Unsized(), calibration_data=None)


def test_a_folder_in_place_of_the_results_is_refused_before_the_data_are_gone_through(net, tmp_path):
    (tmp_path / "results.json").mkdir()
    data = Counted(HELD_OUT)
    refused(net, ValueError, "results.json of folder is .*, a directory; accepted: the path of a file", data=data,
            folder=tmp_path)
    assert data.passes == 0


def test_shuffled_and_augmented_training_data_calibrate_with_the_same_inputs_each_time(net, trained):
    """MXNet's, NumPy's and Python's generators all have their part in them."""
    images, labels = (np.concatenate([batch[part].asnumpy() for batch in TRAINING]) for part in (0, 1))
    dataset = mx.gluon.data.ArrayDataset(images, labels).transform_first(
        lambda image: image + mx.nd.random.uniform(0, 0.1).asscalar() + np.random.rand() * 0.1 + random.random() * 0.1)
    shuffled, found = mx.gluon.data.DataLoader(dataset, 50, shuffle=True), []
    for _ in range(2):
        gc.network.restore_snapshot(net, trained)
        compress(net, HELD_OUT, 1.0, training_data=shuffled, stages=[Rounding(rate=0.1)], **QUIET)
        found.append(snapshot(net))
    assert identical(*found)


def test_training_data_that_are_others_in_each_pass_go_on_in_their_folder(net, trained, tmp_path):
    """As from the workers of a DataLoader, whose generators nobody outside can seed."""
    class Augmented(Counted):
        def __iter__(self):
            self.passes += 1
            return ((inputs + 0.01 * self.passes, label) for inputs, label in self.batches)
    arguments = {"training_data": Augmented(TRAINING), "stages": SHORT, "folder": tmp_path, **QUIET}
    with pytest.raises(KeyboardInterrupt):
        compress(net, Counted(HELD_OUT, 5), 0.02, **arguments)
    assert compress(net, HELD_OUT, 0.02, **arguments).rows[-1]["fits"]
    with pytest.raises(CheckpointError, match="calibration_data is"):
        gc.network.restore_snapshot(net, trained)
        compress(net, HELD_OUT, 0.02, **arguments, calibration_data=INPUTS)


def test_settings_may_be_numpy_s_numbers_and_those_that_no_file_holds_are_refused(net, tmp_path):
    pruning = Pruning(epochs=np.int64(1), share=np.float32(0.5), bisections=np.int32(0), optimizer="sgd",
                      optimizer_params={"learning_rate": np.float32(0.01)})
    arguments = {"training_data": TRAINING, "stages": [pruning, Rounding(rate=np.float64(0.1))], "folder": tmp_path}
    before = snapshot(net)
    first = compress(net, HELD_OUT, np.float32(1), **arguments, **QUIET)
    gc.network.restore_snapshot(net, before)
    assert compress(net, HELD_OUT, 1, **arguments, **QUIET).to_dict() == first.to_dict()
    gc.network.restore_snapshot(net, before)
    for name, value in (("lr_scheduler", mx.lr_scheduler.FactorScheduler(9)), ("param_dict", {})):
        refused(net, TypeError, f"optimizer_params has '{name}', .*; accepted here: numbers and text",
                training_data=TRAINING, stages=[Pruning(optimizer_params={name: value})])
    compress(net, HELD_OUT, 1, TRAINING, INPUTS, [Pruning(1, optimizer_params=None, bisections=0)], **QUIET)

    class Odd(Halved):
        def description(self, net):
            return {"ratio": object()}
    refused(net, TypeError, "a stage has an object in its description", stages=[Odd()])


def test_pruning_without_training_data_is_refused(net):
    refused(net, TypeError, "training_data is None, and Pruning trains", stages=[Pruning()])


def test_an_error_of_the_user_s_in_training_comes_out_whatever_it_says(net, trained):
    def loss(*_):
        raise ValueError("this loss cannot work without weights for the classes")
    refused(net, ValueError, "without weights for the classes", training_data=TRAINING, stages=[Pruning(loss=loss)])
    assert identical(trained, snapshot(net))


def test_pruning_ends_where_a_layer_would_lose_all_weights(net):
    """However much accuracy may be lost: the second half of the weights takes all of this layer's."""
    net[0].weight.set_data(net[0].weight.data() * 1e-4)
    result = compress(net, HELD_OUT, 1.0, TRAINING, INPUTS, [Pruning(epochs=1, bisections=0)], **QUIET)
    assert result.rows[-1]["settings"] == {"sparsity": 0.0} and net[0].weight.data().asnumpy().all()


def test_an_error_in_a_late_stage_puts_back_what_earlier_ones_did(net, trained):
    class Failing(Halved):
        name = "failing"

        def run(self, net, records, task):
            raise RuntimeError("out of luck")
    with pytest.raises(RuntimeError, match="out of luck"):
        compress(net, HELD_OUT, 0.5, calibration_data=INPUTS, stages=[Halved(), Failing()], **QUIET)
    assert identical(trained, snapshot(net)) and net[0].weight.shape == (6, 1, 3, 3)
    assert gc.training.evaluate(net, HELD_OUT) > 0.5
