"""The numbers in the pages are the measured ones, the commands the ones that are run, the map is the tree."""
import importlib.util
import json
import re
import tarfile
from pathlib import Path
from types import SimpleNamespace

import gluon_compress as gc

import mxnet as mx  # noqa: I001
import publish
import pytest
import rate
from networks import NormNet, build, identical, values

ROOT = Path(__file__).resolve().parent.parent
README = (ROOT / "README.md").read_text()


@pytest.mark.parametrize("page", [
    "README.md", "README.zh.md", "CONTRIBUTING.md", "benchmarks/README.md",
    *sorted(str(path.relative_to(ROOT)) for path in ROOT.glob("tutorials/[0-9][0-9]_*.*"))])
def test_pages_show_the_results_and_the_modules_that_there_are(page):
    text = (ROOT / page).read_text()
    assert ROOT / page in publish.PAGES
    assert text.count(": begin -->") == text.count(": end -->") == len(publish.BETWEEN_MARKS.findall(text)) > 0
    assert publish.page_with_results(text) == text, "run python benchmarks/publish.py"


def test_the_chinese_readme_gets_its_numbers_from_the_same_results():
    for name in ("headlines", "times"):
        english, chinese = publish.TEXTS[name](), publish.TEXTS[f"{name}.zh"]()
        numbers = re.compile(r"\d+(?:[,.]\d+)*")
        assert sorted(numbers.findall(english)) == sorted(numbers.findall(chinese)) != []  # words change places
        words = set(re.findall(r"(?<![\w-])[a-z]{2,}\b", chinese.replace("ms", "")))  # names have a capital or a dash
        assert words <= {"long"}, f"{words}: put them into CHINESE of benchmarks/publish.py"


def test_every_result_that_is_printed_is_published():
    published = (ROOT / "benchmarks" / "README.md").read_text()
    for path in (ROOT / "benchmarks" / "results").glob("[!0-9]*.txt"):
        assert f"{path.name}: begin" in published or f"(results/{path.name})" in published, path.name


def test_the_table_of_chosen_files_says_where_none_was():
    point, original = {"setting": -28, "bytes": 50, "test accuracy": 0.9}, {"bytes": 100, "test accuracy": 0.92}
    network = SimpleNamespace(name="lenet_mnist", found={"original": original},
                              chosen=lambda coder, rule: point if coder == rate.NNCODEC else None)
    _, _, row = rate.table([network], "held-out loss").splitlines()
    assert re.split(r"\s{2,}", row.strip()) == ["LeNet", "100", "92.00", "qp -28", "50", "2.0", "90.00", "none"]


def test_the_readme_is_a_manual_that_a_terminal_shows():
    assert len(README.encode()) <= 15_000
    prose = [line for line in README.splitlines() if not line.startswith(("|", "python3 -m venv"))]
    assert [line for line in prose if len(line) > 100] == []


def test_results_are_of_the_long_tutorials():
    tutorials = sorted(path.stem for path in (ROOT / "tutorials").glob("[0-9][0-9]_*.py"))
    files = (ROOT / "benchmarks" / "results").glob("[0-9]*.json")
    results = {path.stem: json.loads(path.read_text()) for path in files}
    assert sorted(results) == tutorials
    assert all(result["long"] for result in results.values())


def test_what_a_tutorial_printed_stays_when_its_last_table_is_measured_again():
    module = importlib.util.spec_from_file_location("measuring_the_course", ROOT / "benchmarks" / "course.py")
    course = importlib.util.module_from_spec(module)
    module.loader.exec_module(course)
    printed = (ROOT / "benchmarks" / "results" / "10_the_way_out.txt").read_text()
    before, last = printed[:printed.rindex("\nnetwork  ") + 1], printed[printed.rindex("\nMade in "):]
    assert "\nnetwork  " in before and "$ gluon-compress export" in before  # a report's table, and the commands
    assert course.with_last_table(printed, "network  ms\n(2 threads)") == f"{before}network  ms\n(2 threads){last}"


def test_the_course_says_which_tutorial_was_measured_on_other_threads(monkeypatch):
    def result(tutorial, threads):
        return {"tutorial": tutorial, "threads": threads, "machine": {"load before": 4.3}}
    monkeypatch.setattr(publish, "recorded", lambda folder: [result("01_one", 2), result("02_two", 2)])
    assert publish.threads_text({"runtime": {"threads": 2}}) == "2 threads"
    monkeypatch.setattr(publish, "recorded", lambda folder: [result("01_one", 2), result("02_two", 1)])
    assert "02_two on 1, at a load of 4.3" in publish.threads_text({"runtime": {"threads": 2}})


def test_networks_reach_what_the_course_promises():
    wanted = {"lenet_mnist": 0.992, "simple_cnn_mnist": 0.990, "lenet_300_100_mnist": 0.984,
              "lenet5_caffe_mnist": 0.992, "alexnet_cifar10": 0.80, "resnet18_cifar10": 0.92}
    manifest = gc.params.manifest()
    assert set(manifest) == set(wanted)
    for name, accuracy in wanted.items():
        assert manifest[name]["test_accuracy"] >= accuracy, name
    assert manifest["alexnet_cifar10"]["bytes"] < 25e6


def test_ci_runs_the_readmes_test_command():
    command = re.search(r"^python3 -m venv.* -m pytest$", README, re.MULTILINE)
    assert command, "the README has no test command"
    assert "grep -m 1 -- '-m pytest' README.md" in (ROOT / ".ci" / "run").read_text()
    assert README.index("-m pytest") == command.start() + command.group().index("-m pytest")  # the first such line


def test_the_errata_are_counted():
    parts = re.split(r"\n## (?:MXNet 1\.9\.1's integers|Both articles, read a second time)\n",
                     (ROOT / "tutorials" / "ERRATA.md").read_text())
    first, integers, second = (len(re.findall(r"^### \d+\. ", part, re.MULTILINE)) for part in parts)
    counted = re.search(r"(\d+) errors of the articles and (\d+) of MXNet's integers", README)
    assert int(counted.group(1)) == first + second and int(counted.group(2)) == integers


@pytest.mark.parametrize("page", ["README.md", "README.zh.md", "CONTRIBUTING.md", "benchmarks/README.md",
                                  "tutorials/ERRATA.md",
                                  *(str(path.relative_to(ROOT)) for path in ROOT.glob("docs/**/*.md"))])
def test_links_lead_to_files_and_headings_that_exist(page):
    for link in re.findall(r"\]\(([^):]*)\)", (ROOT / page).read_text()):
        name, _, heading = link.partition("#")
        path = (ROOT / page).parent / name if name else ROOT / page
        assert path.exists(), link
        headings = re.findall(r"(?m)^#+ (.*)", path.read_text()) if heading else []
        assert not heading or heading in {re.sub(r"[^\w -]", "", line.lower()).replace(" ", "-") for line in headings}


def test_the_snippets_run(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    first, around, small, distillation, way_in = re.findall(r"```python\n(.*?)```", README, re.DOTALL)
    first = first.replace(".split(5000)", ".split(5000, seed=1)").replace(
        "train.batches(128)", "train.subset(slice(0, 16)).batches(8)")  # two small batches instead of all
    names = {}
    exec(first, names)
    assert names["plan"].layers and names["masks"].sparsity > 0.7 and names["scales"].layers
    assert (tmp_path / "small.gcz").stat().st_size > 0 and (tmp_path / "int8.onnx").stat().st_size > 0
    assert names["fast"](names["example"]).shape == names["int8"](names["example"]).shape
    assert names["int8"].record.layers and (tmp_path / "int8.gcz").stat().st_size > 0
    net, example = build(NormNet)
    labels = mx.nd.arange(len(example))
    with mx.autograd.record():
        loss = mx.gluon.loss.SoftmaxCrossEntropyLoss()(net(example), labels)
    loss.backward()
    names.update(net=net, example=example, validation=[(example, labels)], batch_size=len(labels))
    exec(around.replace("max_drop=0.02)", "max_drop=0.02), round_to=16"), names)  # leaves so small a network alone
    assert names["curves"].curves and names["penalty"].value() > 0
    names.update(data=names["validation"], teacher=build(NormNet)[0], another=build(NormNet, seed=1)[0],
                 student=build(NormNet, seed=2)[0])
    exec(small, names)
    assert names["result"].records and (tmp_path / "tiny.gcz").stat().st_size < (tmp_path / "int8.gcz").stat().st_size
    before = values(names["student"])
    exec(distillation, names)
    assert not identical(before, values(names["student"]))
    assert (tmp_path / "logits.safetensors").stat().st_size > 0
    net, _ = build(NormNet)
    gc.export.write_checkpoint(net, "model", epoch=3)
    net.save_parameters("net.params")
    with tarfile.open("model.tar.gz", "w:gz") as archive:
        archive.add("model-symbol.json")
        archive.add("model-0003.params")
    exec(way_in, {"gc": gc, "MyNetwork": NormNet})
    assert mx.mod.Module.load("small", 0).symbol.list_arguments()[-1] == "softmax_label"
