"""What the test files share."""
import os
import subprocess
import sys
from pathlib import Path

import gluon_compress  # before mxnet  # noqa: F401

import pytest
from hypothesis import settings
from http_server import FileServer

ROOT = Path(__file__).resolve().parent.parent

# no verdict depends on the clock or on chance
settings.register_profile("gluon_compress", deadline=None, derandomize=True)
settings.load_profile("gluon_compress")


@pytest.fixture
def file_server(monkeypatch):
    """An HTTP server on 127.0.0.1 whose behaviour the test chooses; see :class:`http_server.FileServer`."""
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    server = FileServer()
    yield server
    server.close()


@pytest.fixture
def start_python():
    """``start_python(code, *arguments, **environment)``: a Python process that can import gluon_compress.

    A variable given as None is removed from the environment. What still runs at the end of the test is
    killed.
    """
    processes = []

    def start(code, *arguments, **environment):
        variables = {**os.environ, "PYTHONPATH": str(ROOT), "NO_PROXY": "127.0.0.1", **environment}
        processes.append(subprocess.Popen(
            [sys.executable, "-c", code, *map(str, arguments)], text=True,
            stdout=subprocess.PIPE, stderr=subprocess.PIPE,
            env={name: value for name, value in variables.items() if value is not None}))
        return processes[-1]

    yield start
    for process in processes:
        process.kill()
        process.communicate()


@pytest.fixture
def run_python(start_python):
    """As ``start_python``, but waits for success and returns what was printed."""
    def run(code, *arguments, **environment):
        process = start_python(code, *arguments, **environment)
        output, errors = process.communicate(timeout=300)
        assert process.returncode == 0, errors
        return output
    return run
