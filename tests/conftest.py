"""What the test files share."""
import os
import random
import shutil
import signal
import subprocess
import sys
import zlib
from pathlib import Path

# Processes that test beside each other compute with their share of the cores; MXNet reads this when it is imported.
if "PYTEST_XDIST_WORKER_COUNT" in os.environ:
    share = len(os.sched_getaffinity(0)) // int(os.environ["PYTEST_XDIST_WORKER_COUNT"])
    os.environ["OMP_NUM_THREADS"] = str(max(1, share))  # inherited is the number for one process alone

import gluon_compress  # before mxnet  # noqa: F401

import mxnet as mx  # noqa: I001
import numpy as np
import pytest
from hypothesis import settings
from http_server import FileServer

INSTALL = "apt-get install chromium chromium-driver"
ROOT = Path(__file__).resolve().parent.parent

# no verdict depends on the clock or on chance
settings.register_profile("gluon_compress", deadline=None, derandomize=True)
settings.load_profile("gluon_compress")

# Its tests are handed out one by one, those that run a tutorial before all others, and those that look at what the
# tutorials found after all others: one process would be at it when the others have long finished.
APART, RUNS = "test_tutorials.py", "test_runs_and_makes_what_it_says"
LONGEST = ("test_data_parallel.py", "test_instruction_levels.py", "test_strangers_files.py", "test_zoo.py",
           "test_quantize.py", "test_way_out.py", "test_params.py", "test_bad_input.py", "test_guard.py")

REFUSALS = "test_bad_input.py"  # thousands of calls that are refused before they draw; MXNet's seed takes a millisecond


def seed(number):
    """Let all generators that have a state of their own begin anew."""
    mx.random.seed(number)
    np.random.seed(number)
    random.seed(number)


@pytest.fixture(autouse=True)
def seeded(request):
    """What a test draws does not depend on the tests before it, which are others in each process and each selection."""
    if request.path.name != REFUSALS:
        seed(0)


@pytest.hookimpl(tryfirst=True)
def pytest_fixture_setup(fixturedef):
    """Nor does what several tests share: each such fixture begins with numbers of its own."""
    if fixturedef.scope != "function":
        seed(zlib.crc32(fixturedef.argname.encode()) >> 1)  # MXNet takes 31 bits


def pytest_configure():
    """Take the signals that tests send: a shell's job in the background ignores them, as do processes it starts."""
    signal.signal(signal.SIGINT, signal.default_int_handler)
    signal.signal(signal.SIGHUP, signal.SIG_DFL)


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_auto_num_workers(config):
    """One process for chosen tests, which so begin at once; otherwise what xdist does with None: a process per core."""
    return None if config.args == config.getini("testpaths") else 0


def pytest_collection_modifyitems(items):
    """The longest first, so that all processes end at about the same time."""
    def place(item):
        if item.path.name == APART:
            return -1 if item.name.startswith(RUNS) else len(LONGEST) + 1
        return LONGEST.index(item.path.name) if item.path.name in LONGEST else len(LONGEST)
    items.sort(key=place)


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_make_scheduler(config, log):
    """A file at a time for each process, but of ``APART`` a test at a time."""
    if config.getvalue("dist") != "loadfile":
        return None
    from xdist.scheduler import LoadFileScheduling

    class ByFile(LoadFileScheduling):
        def _split_scope(self, nodeid):
            file = super()._split_scope(nodeid)
            return nodeid if Path(file).name == APART else file
    return ByFile(config, log)


@pytest.fixture
def file_server(monkeypatch):
    """An HTTP server on 127.0.0.1 whose behaviour the test chooses; see :class:`http_server.FileServer`."""
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    server = FileServer()
    yield server
    server.close()


@pytest.fixture(scope="session")
def users_folder(tmp_path_factory):
    """What a user of the command line has, see ``make_place`` of command_line.py; tests write in copies of it."""
    from command_line import make_place
    folder = tmp_path_factory.mktemp("user")
    make_place(folder)
    return folder


@pytest.fixture
def place(users_folder, tmp_path, monkeypatch):
    """The working directory: a fresh copy of what a user of the command line has."""
    from command_line import copy_of, modules_of
    monkeypatch.chdir(copy_of(users_folder, tmp_path))
    with modules_of(tmp_path):
        yield tmp_path


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


@pytest.fixture(scope="module")
def browser():
    """Chromium without a window, by way of Selenium; what pages ask for is in its log "performance"."""
    programs = [shutil.which(name) for name in ("chromium", "chromedriver")]
    if None in programs:
        # pip cannot install a browser, and the README's test command must pass without one; CI installs it
        (pytest.fail if os.environ.get("CI") == "true" else pytest.skip)(f"there is no Chromium: {INSTALL}")
    from selenium import webdriver
    from selenium.webdriver.chrome.service import Service
    options = webdriver.ChromeOptions()
    options.binary_location = programs[0]
    for argument in ("--headless=new", "--no-sandbox", "--disable-dev-shm-usage", "--disable-gpu"):
        options.add_argument(argument)
    options.set_capability("goog:loggingPrefs", {"browser": "ALL", "performance": "ALL"})
    driver = webdriver.Chrome(options=options, service=Service(programs[1]))
    yield driver
    driver.quit()
