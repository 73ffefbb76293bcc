"""The process in which one submission is graded; ``grade.py`` starts it and reads what it says.

    grade_child.py FD functions NOTEBOOK LAB LANGUAGE GIGABYTES TASK ...
    grade_child.py FD file FILE HELD_OUT GIGABYTES

On the pipe FD it writes a line of JSON when a task begins and one when it ends. What students print goes elsewhere.
"""
import json
import os
import resource
import sys
from pathlib import Path

import gluon_compress  # before mxnet  # noqa: F401

import mxnet as mx  # noqa: I001
import numpy as np

import fence
import submissions
from checking import Verdict, sentence, tasks_of, verdict


def say(channel, **what):
    os.write(channel, (json.dumps(what) + "\n").encode())


def graded(number, name, namespace, faults, language):
    """The :class:`Verdict` on one task of a loaded submission."""
    if name not in namespace:
        fault = faults.get(name, submissions.Fault("missing", {"name": name}))
        return Verdict(False, fault.sentence, sentence(fault.sentence, language, **{"name": name, **fault.values}))
    np.random.seed(0)
    mx.random.seed(0)
    fence.tried.clear()
    try:
        found = verdict(number, namespace[name], language)
    except BaseException as error:  # SystemExit, KeyboardInterrupt
        found = Verdict(False, "ended", sentence("ended", language, status=type(error).__name__))
    if fence.tried:
        return Verdict(False, "forbidden", sentence("forbidden", language, what=fence.tried[0]))
    return found


def functions(channel, notebook, lab, language, gigabytes, *numbers):
    """Check the tasks of a submission one after the other."""
    tasks = tasks_of(int(lab))
    fence.close(float(gigabytes))
    namespace, faults = submissions.load(Path(notebook))
    for number in numbers:
        say(channel, begins=number)
        found = graded(number, tasks[number].name, namespace, faults, language)
        say(channel, ends=number, **found._asdict())


def file(channel, path, held_out, gigabytes):
    """Measure the file of a submission on the held-out images, and for the teacher on the test images."""
    import gluon_compress as gc
    import lab
    _, rest, test = lab.images(int(held_out))
    limit = int(float(gigabytes) * 2 ** 30) + 4 * 2 ** 30
    resource.setrlimit(resource.RLIMIT_AS, (limit, limit))
    say(channel, begins="file")
    try:
        size, accuracy, bits = lab.measured(path, rest.batches(500))
        on_test = gc.training.evaluate(lab.loaded(path), test.subset(slice(0, int(held_out))).batches(500))
    except Exception as error:
        say(channel, ends="file", error=type(error).__name__, message=(str(error).splitlines() or [""])[0][:300])
    else:
        say(channel, ends="file", bytes=size, accuracy=accuracy, bits=bits, test_accuracy=on_test)


if __name__ == "__main__":
    {"functions": functions, "file": file}[sys.argv[2]](int(sys.argv[1]), *sys.argv[3:])
