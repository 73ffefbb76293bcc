"""The labs: every solution is right, typical mistakes are told what they are, both languages say the same."""
import ast
import inspect
import json
import os
import re
import string
import subprocess
import sys
import textwrap
from pathlib import Path

import gluon_compress  # noqa: F401

import articles  # noqa: I001
import checking
import nbformat
import outputs
import pytest
import submissions
import translations
import weave
import wording
from lab_mistakes import MISTAKES

ROOT = Path(__file__).resolve().parent.parent
LABS = ROOT / "tutorials" / "labs"
SCRIPTS = [source for source in translations.lab_sources() if source.suffix == ".py"]
TASKS = {number: task for lab in checking.LABS for number, task in checking.tasks_of(lab).items()}
QUESTIONS = checking.MESSAGES["questions"]
OF_THE_ARTICLES = ("repair_frozen", "repair_rows", "repair_nan", "repair_outside")  # what their code is told first


def by_name(source):
    return source.stem


@pytest.fixture(scope="module")
def solutions():
    """{task: what the lab's own solution is}."""
    found = {}
    for lab, script in enumerate(SCRIPTS, start=1):
        namespace, faults = submissions.load(script)
        assert faults == {}
        found.update((number, namespace[task.name]) for number, task in checking.tasks_of(lab).items())
    return found


@pytest.mark.parametrize("number", TASKS)
def test_the_solution_of_every_task_is_right(solutions, number):
    found = checking.verdict(number, solutions[number])
    assert found.right, found.sentence


@pytest.mark.parametrize("number, mistake", [(number, mistake) for number in MISTAKES for mistake in MISTAKES[number]],
                         ids=lambda value: value if isinstance(value, str) else value[1])
def test_a_typical_mistake_is_told_what_it_is(number, mistake):
    function, name, words = mistake
    found = checking.verdict(number, function)
    assert (found.right, found.name) == (False, name), found.sentence
    assert words in found.sentence


def test_every_function_has_typical_mistakes():
    assert MISTAKES.keys() == {number for number, task in TASKS.items() if task.check}
    assert all(len(mistakes) >= 3 for mistakes in MISTAKES.values())


@pytest.mark.parametrize("number", QUESTIONS)
def test_every_choice_of_a_question_is_explained(number):
    question = QUESTIONS[number]
    for language in checking.LANGUAGES:
        said = {choice: checking.verdict(number, choice, language) for choice in question["choices"]}
        assert [choice for choice, found in said.items() if found.right] == [question["right"]]
        assert len({found.sentence for found in said.values()}) == 3
    assert checking.verdict(number, f" {question['right'].upper()} ").right
    for given in (..., None, "d", 2, "ab"):
        assert not checking.verdict(number, given).right


def test_what_a_student_has_not_filled_in_is_said_to_be_missing(tmp_path):
    """The student's notebooks, untouched."""
    for lab, script in enumerate(SCRIPTS, start=1):
        path = tmp_path / f"lab{lab}.ipynb"
        nbformat.write(weave.notebook_of(script, "en", tmp_path, weave.to_fill_in), path)
        namespace, faults = submissions.load(path)
        assert faults == {}
        for number, task in checking.tasks_of(lab).items():
            found = checking.verdict(number, namespace[task.name])
            assert not found.right
            assert found.name in ("nothing", "unanswered", "step_none", "epoch_no_step", *OF_THE_ARTICLES), (
                number, found)


def test_both_languages_have_the_same_sentences():
    def fields(text):
        return sorted(name for _, name, _, _ in string.Formatter().parse(text) if name)
    for name, texts in checking.MESSAGES["sentences"].items():
        assert texts.keys() == set(checking.LANGUAGES), name
        assert fields(texts["en"]) == fields(texts["zh"]), name
        assert wording.CHINESE.search(texts["zh"]) and not wording.CHINESE.search(texts["en"])
        assert wording.wrong_words(texts["zh"]) == [], name
    for question in QUESTIONS.values():
        for texts in question["choices"].values():
            assert wording.wrong_words(texts["zh"]) == [] and wording.CHINESE.search(texts["zh"])


def test_every_sentence_of_the_checks_is_in_the_list_and_none_is_left_over():
    code = "".join(path.read_text() for path in LABS.glob("*.py"))
    named = set(re.findall(r'"([a-z]+(?:_\w+)?)"', code))
    assert set(checking.MESSAGES["sentences"]) <= named | {"yes", "no"}


@pytest.mark.parametrize("path", sorted(LABS.glob("tasks*.py")), ids=by_name)
def test_what_a_sentence_leaves_open_is_filled_in(path):
    """Also in the sentences that no mistake in this folder leads to."""
    sentences = checking.MESSAGES["sentences"]
    for call in ast.walk(ast.parse(path.read_text())):
        if isinstance(call, ast.Call) and ast.unparse(call.func) == "Wrong":
            names = [node.value for node in ast.walk(call.args[0]) if isinstance(node, ast.Constant)]
            fields = set(re.findall(r"{(\w+)}", "".join(sentences[name]["en"] for name in names if name in sentences)))
            assert fields <= {keyword.arg for keyword in call.keywords}, ast.unparse(call)


def test_the_sentences_are_in_the_language_of_the_notebook(monkeypatch, capsys):
    for language, word in (("en", "not yet: "), ("zh", "还不对：")):
        monkeypatch.setenv("LAB_LANGUAGE", language)
        checking.check("1.1", lambda weight, sparsity: None)
        assert capsys.readouterr().out.startswith(f"1.1 {word}")


@pytest.mark.parametrize("given, name", [(3, "no_function"), (..., "unfinished"), (lambda: 1 / 0, "crashed"),
                                         (lambda weight, sparsity: "mask", "no_numbers"),
                                         (lambda weight, sparsity: weight[0], "shape"),
                                         (lambda weight, sparsity: weight / 0, "not_finite")])
@pytest.mark.filterwarnings("ignore::RuntimeWarning")
def test_no_answer_makes_a_check_fail(given, name):
    assert checking.verdict("1.1", given)[:2] == (False, name)


@pytest.mark.parametrize("source", translations.lab_sources(), ids=by_name)
def test_the_labs_have_their_chinese(source):
    assert weave.faults(source) == []


@pytest.mark.parametrize("script", SCRIPTS, ids=by_name)
def test_a_students_notebook_has_no_solution_and_the_solved_one_no_gap(script, tmp_path):
    for language in checking.LANGUAGES:
        texts = {}
        for code_of in (weave.to_fill_in, weave.solved):
            notebook = weave.notebook_of(script, language, tmp_path, code_of, weave.in_lab(language))
            nbformat.validate(notebook)
            texts[code_of] = [cell.source for cell in notebook.cells if cell.cell_type == "code"]
            assert f'os.environ["LAB_LANGUAGE"] = \'{language}\'' in texts[code_of][0]
        everything = "".join(texts[weave.to_fill_in] + texts[weave.solved])
        assert "# solution" not in everything and "# article" not in everything
        gaps = [cell for cell in texts[weave.to_fill_in] if re.search(r"(?m)^\s*(\w+ = )?\.\.\.$", cell)]
        solved = [cell for cell in texts[weave.solved] if re.search(r"(?m)^\s*(\w+ = )?\.\.\.$", cell)]
        articles = script.read_text().count("# article\n")  # there stands what is to be mended
        assert len(gaps) == len(checking.tasks_of(int(script.stem[3]))) - articles + 1 and solved == []  # + the bar
        assert sum(a != b for a, b in zip(*texts.values())) == len(gaps) + articles > len(gaps)


def test_the_code_to_be_repaired_is_that_of_the_articles():
    """But for where it writes nd for mx.nd, and for what it calls its own names."""
    def code_of(function):
        return re.sub(r"\s*#.*|\bmx\.|\s", "", ast.unparse(ast.parse(textwrap.dedent(inspect.getsource(function)))))
    mended = {name: code for script in SCRIPTS for name, code in re.findall(
        r"(?s)def (\w+)\([^\n]*\n(?:(?!\ndef ).)*?# article\n(.*?)    # solution", script.read_text())}
    for function in (articles.parameter_pruning, articles.quantization):
        lines = ast.unparse(ast.parse(textwrap.dedent(re.sub(r"(?m)^    # ?", "", mended[function.__name__]))))
        assert re.sub(r"\bmx\.|\s", "", lines) in code_of(function)
    assert "loss(large_model_probabilities, small_model_probabilities * temperature)" in mended[
        "knowledge_distillation"]
    assert "(-1, 320)" in mended["flattened"] and "x.view(-1, 320)" in articles.PYTORCH_STRUCTURED


def printed_by_script(script, folder):
    done = subprocess.run([sys.executable, str(script), "--quick"], cwd=folder, capture_output=True, text=True,
                          encoding="utf-8", env={**os.environ, "PYTHONUTF8": "1"})
    assert done.returncode == 0, done.stderr[-3000:]
    return done.stdout


def printed_by_notebook(script, language, folder):
    """What the cells of the solved notebook that lies in ``folder`` print in a Jupyter kernel."""
    notebook = weave.notebook_of(script, language, folder, weave.solved, weave.in_lab(language))
    return "\n".join(outputs.text_of(cell) for cell in outputs.run(notebook, folder))


@pytest.mark.parametrize("script, language", [*zip(SCRIPTS, ("en", "zh", "zh"))], ids=["lab 1", "lab 2", "lab 3"])
def test_a_whole_lab_runs_with_its_solutions(script, language, tmp_path, monkeypatch):
    """On a few hundred images; with all of them the bars are higher. The Chinese ones are notebooks in Jupyter."""
    monkeypatch.setenv("LAB_QUICK", "1")
    printed = printed_by_script(script, tmp_path) if language == "en" else printed_by_notebook(
        script, language, tmp_path)
    lab = int(script.stem[3])
    said = re.findall(r"(?m)^(\d\.\d+) (.*)", printed)
    assert [number for number, _ in said] == list(checking.tasks_of(lab))
    right, reached = (checking.MESSAGES["sentences"][key][language].split("{")[0] for key in ("yes", "bar_reached"))
    assert all(text.startswith(right) for _, text in said)
    assert re.search(rf"(?m)^lab{lab}.gcz: {reached}", printed)
    agreements = re.findall(r"(?:the same|equal to).*: (True|False)$", printed, re.MULTILINE)
    differences = re.findall(r"largest difference.* ([\d.]+e[-+]\d+)", printed)
    assert "False" not in agreements and len(agreements + differences) == {1: 3, 2: 3, 3: 2}[lab]
    assert all(float(difference) < 1e-3 for difference in differences)


def test_the_curves_are_those_that_the_lab_speaks_of():
    curve = json.loads((LABS / "curves.json").read_text())["convolution"]
    time = dict(zip(curve["channels"], curve["milliseconds"]))
    assert time[48] < time[64] and time[45] >= 0.95 * time[48]
