"""The command line: every help page's examples run, what commands print, write and refuse."""
import json
import re
from collections import Counter

import click
import gluon_compress as gc  # before mxnet
import mxnet as mx
import numpy as np
import pytest
import yaml
from command_line import commands, done, examples, files, refused, run
from gluon_compress.cli import main, surroundings

PAGES = commands()
ALL = [words for page in PAGES.values() for words in examples(page)]


# ---- help

def output_of(words):
    return next((words[index + 1] for index, word in enumerate(words) if word in ("--output", "--html")), None)


def prepare(words, folder):
    """Make the files that an example reads and another one, of any page, makes."""
    for word in words:
        wanted = word.partition(":")[2] if word.startswith("openvino:") else word.removesuffix(".recipe.yaml")
        maker = next((other for other in ALL if output_of(other) == wanted), None)
        if maker and wanted != output_of(words) and not (folder / wanted).exists():
            prepare(maker, folder)
            done(*maker)


@pytest.mark.parametrize("name", PAGES)
def test_a_page_has_examples_and_each_runs_and_a_dry_run_writes_nothing(name, place):
    assert examples(PAGES[name])
    for words in examples(PAGES[name]):
        output = output_of(words)
        prepare(words, place)
        before = files(place)
        if output:
            result = done(*words, "--dry-run", "--force")
            assert f"would write {output}" in result.stdout and files(place) == before
            printed = done(*words, "--force").stdout
            assert (place / output).exists() or (place / f"{output}-symbol.json").exists()
        else:
            printed = done(*words).stdout
            assert files(place) == before
        if "accuracy" in printed or "held out" in printed:
            assert re.search(r' [\d,]+ (images|samples) of \S|"images": \d', printed), printed


@pytest.mark.parametrize("name", PAGES)
def test_the_page_of_a_command_says_what_it_does_and_what_each_option_means(name):
    page = done(name, "--help").stdout
    without = [option.opts for option in PAGES[name].params if isinstance(option, click.Option) and not option.help]
    assert "Examples:" in page and without == []


def test_the_first_page_has_the_whole_first_sentence_of_each_command():
    shown = " ".join(done("--help").stdout.split())
    for name, page in PAGES.items():
        first = re.split(r"\.(?:\s|$)", page.help)[0]
        assert f"{name} {' '.join(first.split())}" in shown


def test_help_comes_without_an_import_of_mxnet(run_python):
    run_python("import sys\n"
               "sys.argv[0] = '/usr/bin/gluon-compress'\n"
               "from gluon_compress.cli import main\n"
               "for words in (['--help'], ['prune', '--help'], ['prune', '--ratio', 'x']):\n"
               "    try: main(words)\n"
               "    except SystemExit: pass\n"
               "assert 'mxnet' not in sys.modules\n"
               "try: main(['runtime'])\n"
               "except SystemExit as error: assert not error.code\n"
               "assert 'mxnet' in sys.modules and sys.modules['gluon_compress'].load\n")


@pytest.mark.parametrize("words, number, expected", [
    ("pru", 1, "prune"), ("inspect pa", 2, "params:"), ("inspect params : lenet_m", 4, "lenet_mnist"),
    ("inspect params :", 3, "lenet_mnist"), ("bench zoo : resnet18_v", 4, "resnet18_v1"), ("params simple", 2,
                                                                                          "simple_cnn_mnist"),
    ("prune model --scope g", 4, "global"), ("prune model --ro", 3, "--round-to")])
def test_bash_completes_commands_options_and_names(words, number, expected, monkeypatch):
    monkeypatch.setenv("COMP_WORDS", f"gluon-compress {words}")
    monkeypatch.setenv("COMP_CWORD", str(number))
    monkeypatch.setenv("_GLUON_COMPRESS_COMPLETE", "bash_complete")
    assert f"plain,{expected}" in run().stdout.splitlines()


# ---- what commands print

@pytest.mark.parametrize("words", [
    "inspect model --shape 1,1,28,28", "params", "runtime", "bench model --shape 1,1,28,28 --rounds 1 --repeats 1",
    "evaluate model --data photos", "prune model --shape 1,1,28,28 --ratio 0.5 --output small.gcz",
    "prune model --shape 1,1,28,28 --ratio 0.5 --output small.gcz --dry-run"])
def test_json_is_all_of_the_output_and_says_what_was_made(words, place):
    result = json.loads(done(f"{words} --json").stdout)
    assert result["command"] == words.split()[0]
    for file in result["files"]:
        assert file["bytes"] == (place / file["path"]).stat().st_size
    assert len(result["files"]) == ("--output" in words and "--dry-run" not in words)


def test_the_numbers_of_inspect_are_those_of_the_network(place):
    given = json.loads(done("inspect", "model", "--shape", "1,1,28,28", "--json").stdout)
    arrays = mx.nd.load("model-0000.params").items()
    assert given["report"]["total"]["parameters"] == sum(
        value.size for name, value in arrays if not name.startswith("aux:"))
    macs = 12 * 12 * 16 * 25 + 4 * 4 * 16 * 16 * 9 + 16 * 4 * 4 * 10
    assert given["report"]["total"]["MACs per sample"] == macs
    assert given["bytes"] == sum((place / name).stat().st_size for name in ("model-symbol.json", "model-0000.params"))


def test_what_others_print_stays_away_unless_asked_for(place, capfd):
    words = ["inspect", "my.nets:noisy", "--shape", "1,1,28,28", "--json"]
    assert main(words, standalone_mode=False) == 0
    output, errors = capfd.readouterr()
    assert errors == "" and json.loads(output)["kind"].startswith("HybridSequential")
    assert main([*words, "--verbose"], standalone_mode=False) == 0
    output, errors = capfd.readouterr()
    json.loads(output)
    for line in ("printed by the module", "written to 1", "written to 2", "a warning of somebody else"):
        assert line in errors


def test_warnings_of_the_library_are_notes_of_one_line(place):
    result = done("export model --shape 2,1,28,28 --format mxnet --output copy --loss SoftmaxOutput")
    assert result.stderr == ""
    words = "prune model --shape 64,1,28,28 --latency 0.001 --output tiny.gcz"
    lines = run(words).stderr.splitlines()
    assert lines and all(line.startswith("gluon-compress: ") for line in lines)
    assert run(f"{words} --quiet --force").stderr.count("note:") == 0


def test_debug_shows_the_traceback_and_what_was_printed_and_then_the_line(place):
    result = run("inspect my.nets:fails --debug")
    assert "Traceback" in result.stderr and 'raise KeyError("lost' in result.stderr
    assert result.stderr.splitlines()[-1].startswith("gluon-compress: error: my.nets:fails raised KeyError")
    assert result.exit_code == 1


# ---- what commands make

def test_pruned_channels_are_gone_from_the_file_and_the_plan_is_in_it(place):
    done("prune model --shape 1,1,28,28 --ratio 0.5 --round-to 1 --output small.gcz")
    net = gc.load("small.gcz")
    assert sorted(value.data().shape for name, value in net.collect_params().items() if name.endswith("weight")) == [
        (8, 1, 5, 5), (8, 8, 3, 3), (10, 8 * 16)]
    assert net(mx.nd.zeros((2, 1, 28, 28))).shape == (2, 10)
    assert gc.checkpoint.records("small.gcz")["plan"].layers


def test_weights_pruned_in_a_pruned_network_stay_zero_through_training(place):
    done("prune model --shape 1,1,28,28 --ratio 0.5 --output small.gcz")
    done("prune small.gcz --sparsity 0.75 --data photos --epochs 2 --batch-size 20 --output sparse.gcz")
    weights = [value.data().asnumpy() for name, value in gc.load("sparse.gcz").collect_params().items()
               if name.endswith("weight")]
    assert [round(float((weight == 0).mean()), 2) for weight in weights] == [0.75] * 3
    before = gc.load("small.gcz").collect_params()
    after = gc.load("sparse.gcz").collect_params()
    assert any((before[name].data() != value.data()).asnumpy()[value.data().asnumpy() != 0].any()
               for name, value in after.items() if name.endswith("weight"))  # the others were trained


@pytest.mark.parametrize("amount, zeros", [("--n-m 2:4", 0.5), ("--threshold 1000", None), ("--sparsity 0.5", 0.5)])
def test_amounts_of_weights(amount, zeros, place):
    words = f"prune model --shape 1,1,28,28 {amount} --select {second_convolution()} --output sparse.gcz"
    if zeros is None:
        assert "without weights" in refused(words)
        return
    done(words)
    weight = gc.load("sparse.gcz").collect_params()[f"{second_convolution()}_weight"].data().asnumpy()
    assert (weight == 0).mean() == zeros


def second_convolution():
    return gc.network.layers(gc.load("model"))[1].name


def test_a_loss_is_noted_with_what_helps_and_lines_take_the_place_of_bars_where_nobody_watches(place, monkeypatch):
    words = "prune model --data photos --sparsity 0.97 --epochs 2 --learning-rate 0.0001 --output bad.gcz"
    result = done(f"{words} --json")
    [said] = [note for note in json.loads(result.stdout)["notes"] if "points of accuracy" in note]
    assert "pruning lost" in said and "more training than --epochs 2" in said
    assert "epoch 1/2" not in result.stderr  # which is over before anybody could wonder
    monkeypatch.setattr(surroundings, "SECONDS_BETWEEN_LINES", 0)
    lines = done(f"{words} --force").stderr.splitlines()
    for line in ("epoch 1/2: 0%", "epoch 2/2: 0%", "accuracy: 0%"):
        assert f"gluon-compress: note: {line}" in lines
    assert not [line for line in lines if "\r" in line or not line.startswith("gluon-compress: ")]
    assert "epoch" not in done(f"{words} --force --quiet").stderr


def test_what_a_network_was_trained_on_travels_in_the_onnx_file(place):
    done("prune model --data photos --ratio 0.5 --epochs 1 --output small.gcz")
    [data] = json.loads(done("export small.gcz --output small.onnx --json").stdout)["trained_on"]
    assert data == "photos"
    (place / "small.onnx").rename(place / "alone.onnx")  # without the recipe beside it
    for name in ("alone.onnx", "openvino:alone.onnx"):
        said = done("evaluate", name, "--data", "photos").stderr
        assert "was trained on photos (see the metadata of alone.onnx)" in said


def test_without_a_shape_inspect_shows_what_the_file_tells_and_how_the_shape_is_given(place):
    found = json.loads(done("inspect model --json").stdout)
    report = json.loads(done("inspect model --shape 1,1,28,28 --json").stdout)["report"]
    for key in ("name", "kind", "parameters"):
        assert [each[key] for each in found["layers"]] == [each[key] for each in report["layers"]]
    assert sum(each["bytes"] for each in found["layers"]) == report["total"]["bytes"]
    nodes = json.loads((place / "model-symbol.json").read_text())["nodes"]
    assert found["operators"] == Counter(node["op"] for node in nodes if node["op"] != "null")
    assert "give --shape 1,1,HEIGHT,WIDTH, or --data" in done("inspect model").stdout
    assert "give --shape" in done("inspect my.nets:dense").stdout
    assert "give --shape" in refused("inspect model --latency")


def test_curves_lead_to_a_smaller_network(place):
    done("sensitivity model --data photos --fractions 0.25,0.5 --output curves.json --plot curves.png")
    curves = gc.pruning.Sensitivity.from_dict(json.loads((place / "curves.json").read_text()))
    done("prune model --data photos --sensitivity curves.json --max-drop 1 --output small.gcz --round-to 1")
    plan = gc.checkpoint.records("small.gcz")["plan"]
    for name, ratio in curves.ratios(1).items():
        assert ratio == 0.5 and len(plan.layers[name]["kept"]) == 8
    (place / "curves.json").write_text(json.dumps({**curves.to_dict(), "baseline": 2.0}))
    assert "each layer loses more" in refused("prune model --data photos --sensitivity curves.json --output none.gcz")
    assert (place / "curves.png").read_bytes()[:4] == b"\x89PNG"


def test_a_network_on_integers_agrees_with_the_command_s_accuracy(place):
    given = json.loads(done("quantize model --data photos --output int8.gcz --json").stdout)
    other = json.loads(done("evaluate int8.gcz model --data photos --json").stdout)["results"]
    assert abs(other[0]["accuracy"] - other[1]["accuracy"]) < 0.1
    assert given["measured_on"] == {"held out": {"data": "photos", "images": 6}}
    assert given["record"]["layers"] and given["files"][0]["bytes"] < given["files"][0]["bytes_before"]
    assert isinstance(gc.load("int8.gcz"), gc.quantization.IntegerNetwork)


def test_integer_weights_leave_as_integers(place):
    done("quantize model --shape 1,1,28,28 --weights-only --bits 4 --output four.gcz")
    scales = gc.checkpoint.records("four.gcz")["scales"]
    assert all(entry["bits"] == 4 for entry in scales.weights.values())
    done("export four.gcz --output four.onnx")  # its shape is in the recipe
    done("export four.gcz --weights float --output float.onnx")
    assert (place / "four.onnx").stat().st_size < (place / "float.onnx").stat().st_size / 2


@pytest.mark.parametrize("name", ["scales", "codebooks"])
def test_what_an_earlier_command_made_of_weights_is_kept_while_it_is_true(name, place):
    net = gc.load("model")
    record = (gc.quantization.quantize_weights if name == "scales" else gc.coding.share_weights)(net, bits=4)
    gc.save("first.gcz", net, record, example=mx.nd.zeros((1, 1, 28, 28)))
    done("prune first.gcz --shape 1,1,28,28 --sparsity 0.5 --output pruned.gcz")
    assert gc.checkpoint.records("pruned.gcz").keys() == {name, "masks"}
    trained = done("prune first.gcz --sparsity 0.5 --data photos --epochs 1 --batch-size 20 --output trained.gcz")
    assert f"the {name} in first.gcz is no longer that of this network" in trained.stderr
    assert gc.checkpoint.records("trained.gcz").keys() == {"masks"}


def test_engines_and_mxnet_stand_in_one_table_and_agree(place):
    done("export model --shape 1,1,28,28 --output model.onnx")
    names = ["model", "model.onnx", "openvino:model.onnx"]
    results = json.loads(done("evaluate", *names, "--data", "photos", "--json").stdout)["results"]
    assert [each["network"] for each in results] == names and len({each["accuracy"] for each in results}) == 1
    results = json.loads(done("bench", *names, "--rounds", "2", "--repeats", "1", "--batch", "3",
                              "--json").stdout)["results"]
    assert [each["batch"] for each in results] == [3, 3, 3] and len({each["execution"] for each in results}) == 3


def test_what_mxnet_gets_back_is_the_network(place):
    done("export model --shape 1,1,28,28 --format mxnet --loss SoftmaxOutput --output copy")
    module = mx.mod.Module.load("copy", 0)
    module.bind([("data", (1, 1, 28, 28))], for_training=False)
    inputs = mx.nd.random.uniform(shape=(1, 1, 28, 28))
    found = module.predict(mx.io.NDArrayIter(inputs, batch_size=1)).asnumpy()
    np.testing.assert_allclose(found, gc.load("model")(inputs).softmax().asnumpy(), rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize("text, layers", [
    ("model", 3), ("model-symbol.json", 3), ("model-0000.params", 3), ("other.json+weights.params", 3),
    ("my.nets:dense", 1), ("my.nets:dense+dense.params", 1), ("params:lenet_mnist", 4),
    ("zoo:mobilenet0.25,pretrained=false,classes=10", 28), ("zoo:cifar_resnet20_v1,pretrained=false", 20)])
def test_networks_are_opened_by_what_their_names_say(text, layers, place):
    (place / "other.json").write_bytes((place / "model-symbol.json").read_bytes())
    (place / "weights.params").write_bytes((place / "model-0000.params").read_bytes())
    net = mx.gluon.nn.Dense(3, in_units=4)
    net.initialize()
    net.save_parameters("dense.params")
    shape = {"my": "1,4", "zo": "1,3,32,32"}.get(text[:2], "1,1,28,28")
    given = json.loads(done("inspect", text, "--shape", shape, "--json").stdout)
    assert len([layer for layer in given["report"]["layers"]
                if layer["kind"].startswith(("Conv", "Fully"))]) >= layers


def test_networks_of_several_inputs_take_shapes_by_name_in_any_order(place):
    left, right = mx.sym.var("left"), mx.sym.var("right")
    dense = mx.sym.FullyConnected(left, num_hidden=3, no_bias=True, name="fc") + right
    dense.save("two-symbol.json")
    mx.nd.save("two-0000.params", {"arg:fc_weight": mx.nd.ones((3, 5))})
    for shapes in (["left:2,5", "right:2,3"], ["right:2,3", "left:2,5"], ["2,5", "2,3"]):
        words = [word for shape in shapes for word in ("--shape", shape)]
        given = json.loads(done("inspect", "two", *words, "--json").stdout)
        assert given["report"]["total"]["MACs per sample"] == 15
    assert "there is no such input" in refused("inspect two --shape lft:2,5 --shape right:2,3")


def test_a_network_of_probabilities_is_trained_on_and_still_puts_out_probabilities(place):
    done("export model --shape 1,1,28,28 --format mxnet --loss SoftmaxOutput --output module")
    before = json.loads(done("prune module --ratio 0.5 --data photos --epochs 0 --output a.gcz --json").stdout)
    after = json.loads(done("prune module --ratio 0.5 --data photos --epochs 30 --learning-rate 0.05 --batch-size 20 "
                            "--augment none --output b.gcz --json").stdout)
    outputs = gc.load("b.gcz")(mx.nd.random.uniform(shape=(4, 1, 28, 28))).asnumpy()
    np.testing.assert_allclose(outputs.sum(axis=1), 1, rtol=1e-5)
    assert after["after"]["accuracy"] >= before["after"]["accuracy"]


# ---- recipes

@pytest.mark.parametrize("words, ending", [
    ("prune model --macs 0.6 --scope global --steps 2 --data photos --epochs 1 --criterion taylor", ".gcz"),
    ("prune model --ratio 0.5 --data photos --batch-size 2", ".gcz"),  # 40 of 54 images set BatchNorm's statistics
    ("prune model --shape 1,1,28,28 --sparsity 0.5 --criterion random --seed 3", ".gcz"),
    ("quantize model --data photos", ".gcz"), ("sensitivity model --data photos --fractions 0.5", ".json"),
    ("quantize model --shape 1,1,28,28 --weights-only --bits 3 --clip mse", ".gcz"),
    ("export model --shape 1,1,28,28", ".onnx")])
def test_a_recipe_repeats_its_run_byte_for_byte(words, ending, place):
    done(f"{words} --output first{ending}")
    recipe = yaml.safe_load((place / f"first{ending}.recipe.yaml").read_text())
    assert recipe["command"] == words.split()[0] and recipe["run"]["versions"]["mxnet"] == mx.__version__
    assert set(recipe["run"]["inputs"]) >= {"model-symbol.json", "model-0000.params"}
    if "--data photos" in words and ending == ".gcz":
        assert "accuracy" in str(recipe["run"]["results"])
    first_line = (place / f"first{ending}.recipe.yaml").read_text().splitlines()[0]
    told = first_line.partition("repeat with: gluon-compress ")[2]
    result = done(told.replace("ANOTHER", f"second{ending}"))
    assert result.stderr.count("is another file") == 0
    assert (place / f"first{ending}").read_bytes() == (place / f"second{ending}").read_bytes()


def test_the_recipe_of_a_page_says_how_to_make_another(place):
    done("inspect model --shape 1,1,28,28 --html first.html")
    told = (place / "first.html.recipe.yaml").read_text().splitlines()[0].partition("repeat with: gluon-compress ")[2]
    done(told.replace("ANOTHER", "second.html"))
    assert (place / "second.html").exists()


def test_what_the_command_line_says_wins_over_the_recipe(place):
    (place / "mine.yaml").write_text("network: model\nshape: 1,1,28,28\nratio: 0.5\nround-to: 1\noutput: x.gcz\n")
    done("prune --recipe mine.yaml --ratio 0.25 --output y.gcz")
    kept = {len(layer["kept"]) for layer in gc.checkpoint.records("y.gcz")["plan"].layers.values()}
    assert kept == {12} and not (place / "x.gcz").exists()


def test_another_input_than_that_of_the_recipe_is_noted(place):
    done("prune model --shape 1,1,28,28 --ratio 0.5 --output small.gcz")
    arrays = mx.nd.load("model-0000.params")
    mx.nd.save("model-0000.params", {name: 2 * value for name, value in arrays.items()})
    result = done("prune --recipe small.gcz.recipe.yaml --output again.gcz")
    assert "note: model-0000.params is another file than the one" in result.stderr


@pytest.mark.parametrize("content, message", [
    ("rati: 0.5", "has the key 'rati', which prune does not know; did you mean ratio"),
    ("ratio: much", "ratio is 'much'; accepted: a number"), ("ratio: 2", "ratio is 2; accepted: a number"),
    ("ratio: true", "ratio is True; accepted"), ("ratio: [0.5]", "ratio is [0.5]; accepted: one value"),
    ("scope: everywhere", "scope is 'everywhere'; accepted: layer, global"), ("skip-bad: 1", "accepted: true or false"),
    ("select: {a: 1}", "accepted: a number, a text"), ("command: export", "is a recipe for 'export'; accepted"),
    ("- ratio", "holds a list; accepted"), ("ratio: [", "is no YAML, line 1"), ("", "holds a NoneType"),
    ("a: &a [*a, *a]", "a"), ("!!python/object/apply:os.system [ls]", "is no YAML"), ("\x00", "is no YAML")])
def test_recipes_that_are_wrong_name_the_key_and_what_is_accepted(content, message, place):
    (place / "mine.yaml").write_text(content)
    said = refused("prune model --recipe mine.yaml --output x.gcz", code=2)
    assert said.startswith("mine.yaml") and message in said
