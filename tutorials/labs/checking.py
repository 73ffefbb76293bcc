"""Checks of the labs: each says what is wrong with a student's function, not just that it is.

A lab's checks are in ``tasks1.py``, ``tasks2.py`` and ``tasks3.py``, one function per task. It calls the student's
function with small fixed arrays and raises :class:`Wrong` with the name of a sentence in ``messages.yaml``, where all
sentences are, in English and in Chinese. The questions, their choices and the explanation of each are there, too.

    check("1.1", magnitude_mask)        # in a notebook: prints one line
    verdict("1.1", magnitude_mask)      # in the grader and in the tests: returns it
"""
import importlib
import os
import traceback
from pathlib import Path
from typing import NamedTuple

import gluon_compress  # before mxnet  # noqa: F401

import mxnet as mx  # noqa: I001
import numpy as np
import yaml

FOLDER = Path(__file__).resolve().parent
MESSAGES = yaml.safe_load((FOLDER / "messages.yaml").read_text(encoding="utf-8"))
LANGUAGES = ("en", "zh")
LABS = (1, 2, 3)
TASK_POINTS, QUESTION_POINTS, BAR_POINTS = 10, 5, 20


class Wrong(Exception):
    """An answer that is not right: the name of its sentence in messages.yaml, and what is filled in."""

    def __init__(self, sentence, **values):
        super().__init__(sentence)
        self.sentence, self.values = sentence, values


class Verdict(NamedTuple):
    """Whether an answer is right, the name of the sentence, and the sentence."""

    right: bool
    name: str
    sentence: str


class Task(NamedTuple):
    """A task or a question: what its answer is called, and the function that checks it (None for questions)."""

    name: str
    check: object

    @property
    def points(self):
        return QUESTION_POINTS if self.check is None else TASK_POINTS


TASKS = {number: Task(f"answer_{number.replace('.', '_')}", None) for number in MESSAGES["questions"]}


def task(number):
    """A decorator for the check of a task; the check has the name of the student's function after ``check_``."""
    def register(function):
        TASKS[number] = Task(function.__name__.removeprefix("check_"), function)
        return function
    return register


def tasks_of(lab):
    """{number: Task} of one lab, in order."""
    importlib.import_module(f"tasks{lab}")
    numbers = sorted((number for number in TASKS if number.startswith(f"{lab}.")), key=lambda n: int(n.split(".")[1]))
    return {number: TASKS[number] for number in numbers}


def language():
    """The language of the sentences: of the notebook, which sets LAB_LANGUAGE; else English."""
    return os.environ.get("LAB_LANGUAGE", "en")


def sentence(key, in_language=None, /, **values):
    """A sentence of messages.yaml."""
    return MESSAGES["sentences"][key][in_language or language()].format(**values)


def verdict(number, given, in_language=None):
    """The :class:`Verdict` on an answer: a function, or a letter. Whatever the function does, it is no exception."""
    check_of = tasks_of(int(number.split(".")[0]))[number].check
    try:
        name, text = answer_to(number, given, in_language) if check_of is None else (
            "right", checked(check_of, given, in_language))
    except Wrong as wrong:
        return Verdict(False, wrong.sentence, wrong.values.get("text") or sentence(
            wrong.sentence, in_language, **wrong.values))
    return Verdict(True, name, text)


def checked(check_of, given, in_language):
    """The sentence for a right answer; :class:`Wrong` else, also where the student's code raises something."""
    if given is ... or given is None:
        raise Wrong("unfinished")
    if not callable(given):
        raise Wrong("no_function", kind=type(given).__name__)
    try:
        check_of(given)
    except Wrong:
        raise
    except MemoryError:
        raise Wrong("memory") from None
    except Exception as error:
        if "not in a computational graph" in str(error):
            raise Wrong("not_recorded", line=line_of(error)) from error
        message = (str(error).strip().splitlines() or [""])[-1]  # MXNet's begin with lines of C++
        raise Wrong("crashed", error=type(error).__name__, message=message[:300], line=line_of(error)) from error
    return sentence("right", in_language)


def line_of(error):
    """The last line of the student's own code that an error came through."""
    ours = (str(FOLDER), str(Path(gluon_compress.__file__).parent), str(Path(mx.__file__).parent), "site-packages")
    lines = [frame.line for frame in traceback.extract_tb(error.__traceback__)
             if not any(part in frame.filename for part in ours)]
    return lines[-1] if lines else "?"


def answer_to(number, given, in_language):
    """What is said to one of the choices of a question; :class:`Wrong` with the explanation for the others."""
    question = MESSAGES["questions"][number]
    if given is ... or given is None:
        raise Wrong("unanswered", choices=", ".join(question["choices"]))
    if not isinstance(given, str) or given.strip().lower() not in question["choices"]:
        raise Wrong("no_choice", given=repr(given)[:40], choices=", ".join(question["choices"]))
    choice = given.strip().lower()
    text = question["choices"][choice][in_language or language()]
    if choice != question["right"]:
        raise Wrong(f"choice_{choice}", text=text)
    return f"choice_{choice}", text


def check(number, given):
    """Print what is said to an answer."""
    found = verdict(number, given)
    print(f"{number} {sentence('yes' if found.right else 'no')}{'' if language() == 'zh' else ' '}{found.sentence}")


def as_array(result, shape, what="result"):
    """A float64 or integer NumPy array of what a student's function returned; :class:`Wrong` when it is none."""
    if result is None or result is ...:
        raise Wrong("nothing")
    if isinstance(result, mx.nd.NDArray):
        result = result.asnumpy()
    try:
        array = np.asarray(result)
    except ValueError:
        array = np.asarray(None)
    if array.dtype.kind not in "biuf":
        raise Wrong("no_numbers", what=what, kind=type(result).__name__)
    if shape == () and array.shape:
        raise Wrong("one_number", what=what, found=str(array.shape))
    if array.shape != tuple(shape):
        raise Wrong("shape", what=what, found=str(array.shape), expected=str(tuple(shape)))
    if array.dtype.kind == "f" and not np.isfinite(array).all():
        raise Wrong("not_finite", what=what)
    return array


def untouched(before, after):
    """:class:`Wrong` when a student's function has changed the array it was given."""
    if not np.array_equal(before, after):
        raise Wrong("changed_argument")


def close(found, expected, tolerance=1e-5):
    return np.allclose(np.asarray(found, np.float64), expected, rtol=tolerance, atol=tolerance)
