"""Waiting for other processes, for a bounded time, and telling the launcher of it."""
from __future__ import annotations

import os
import threading
from collections.abc import Callable
from typing import Any

from ..errors import WorkerError
from ..runtime.parameter_server import LAUNCHED

TIMEOUT = "GLUON_COMPRESS_WORKER_TIMEOUT"

# Lines for the launcher, which knows from them who waits and who hangs.
WAITS, GOES_ON = "\x1egluon_compress worker waits", "\x1egluon_compress worker goes on"
SECONDS_UNTOLD = 1  # shorter waits happen at every step


def bounded(action: Callable[[], Any]) -> Any:
    """The result of ``action()``, which cannot be interrupted: in a thread, left behind when it takes too long.

    Raises ``WorkerError`` after the seconds in ``GLUON_COMPRESS_WORKER_TIMEOUT``, 600 by default.
    """
    seconds, outcome = _timeout(), {}

    def run() -> None:
        try:
            outcome["result"] = action()
        except BaseException as error:
            outcome["error"] = error
    thread = threading.Thread(target=run, daemon=True)
    thread.start()
    untold = min(SECONDS_UNTOLD, seconds / 2)
    thread.join(untold)
    if thread.is_alive():
        _tell_launcher(WAITS)
        thread.join(seconds - untold)
        if not thread.is_alive():
            _tell_launcher(GOES_ON)
    if thread.is_alive():
        raise WorkerError(f"the other workers or the servers have not answered for {seconds:g} seconds: one has died "
                          f"or hangs. {TIMEOUT} sets the seconds to wait")
    if "error" in outcome:
        raise outcome["error"]
    return outcome["result"]


def _timeout() -> float:
    """Seconds to wait for the others."""
    seconds = os.environ.get(TIMEOUT, "600")
    try:
        if float(seconds) > 0:
            return min(float(seconds), threading.TIMEOUT_MAX)
    except ValueError:
        pass
    raise ValueError(f"{TIMEOUT} is {seconds!r}; accepted: a number of seconds above 0")


def _tell_launcher(line: str) -> None:
    if LAUNCHED in os.environ:
        os.write(2, f"{line}\n".encode())  # in one piece
