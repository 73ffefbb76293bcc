"""What is not ours stays out of the terminal: the lines of MXNet's C++, Python's warnings, prints of users' modules.

While a command runs, the file descriptors 1 and 2 lead into memory, where ``--debug`` finds what was printed; our own
lines go to what these were before. With ``--verbose`` all of it goes to standard error.
"""
from __future__ import annotations

import logging
import os
import signal
import sys
import threading
import time
import warnings
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any, TextIO

from .failures import Ended, tell

SECONDS_TO_LEAVE = 0.05  # until what cannot raise is done
SECONDS_BETWEEN_LINES = 30  # of progress, where there is no terminal
OUR_FILES = str(Path(__file__).resolve().parents[1]) + os.sep


class Streams:
    """Where a command's own output and messages go, and what others printed meanwhile."""

    def __init__(self, output: TextIO, messages: TextIO, log: int) -> None:
        self.output, self.messages, self._log = output, messages, log

    def log(self) -> str:
        """What was printed to the file descriptors so far."""
        sys.stdout.flush()
        size = os.lseek(self._log, 0, os.SEEK_END)
        return os.pread(self._log, size, 0).decode(errors="replace")


class Quiet:
    """A stream on which no progress bar is drawn."""

    def __init__(self, stream: TextIO) -> None:
        self.stream = stream

    def isatty(self) -> bool:
        return False

    def __getattr__(self, name: str) -> Any:
        return getattr(self.stream, name)


class Announcing(Quiet):
    """A pipe or file: instead of a bar, a line now and then, so that nobody takes long work for a hanging process."""

    def __init__(self, stream: TextIO) -> None:
        super().__init__(stream)
        self._last = time.monotonic()

    def announce(self, line: str) -> None:
        """Print a line of progress, if the last one is ``SECONDS_BETWEEN_LINES`` old."""
        if time.monotonic() - self._last >= SECONDS_BETWEEN_LINES:
            self._last = time.monotonic()
            tell(f"note: {line}", self.stream)


@contextmanager
def surroundings(verbose: bool, quiet: bool, note: Callable[[str], None]) -> Iterator[Streams]:
    """The :class:`Streams` of a command; ``note`` gets the warnings of this package, each once."""
    with ExitStack() as stack:
        log = os.memfd_create("gluon-compress")
        stack.callback(os.close, log)
        output, messages = (stack.enter_context(_kept(stream, number))
                            for stream, number in ((sys.stdout, 1), (sys.stderr, 2)))
        stack.enter_context(_leading_to(1, 2 if verbose else log))
        if not verbose:
            stack.enter_context(_leading_to(2, log))
        others = stack.enter_context(open(1, "w", encoding="utf-8", errors="replace", buffering=1, closefd=False))
        stack.enter_context(_replaced(others, _with_progress(messages, quiet)))
        stack.enter_context(_warnings(verbose, note))
        stack.enter_context(_logging(verbose))
        stack.enter_context(_signals())
        stack.enter_context(_ignored_errors(verbose))
        yield Streams(output, messages, log)


def _with_progress(messages: TextIO, quiet: bool) -> Any:
    """The stream with progress as it suits its reader: none, bars, or lines."""
    if quiet:
        return Quiet(messages)
    return messages if messages.isatty() else Announcing(messages)


@contextmanager
def _kept(stream: TextIO | None, number: int) -> Iterator[TextIO]:
    """A stream to where ``stream``, on the file descriptor ``number``, leads now; of another stream, itself."""
    if stream is None:  # closed by whoever started this process
        with open(os.devnull, "w") as nowhere:
            yield nowhere
        return
    try:
        its_own = stream.fileno() == number
    except (OSError, ValueError, AttributeError):
        its_own = False
    if not its_own:
        yield stream
        return
    stream.flush()
    kept = open(os.dup(number), "w", encoding=stream.encoding, errors="backslashreplace", buffering=1)
    try:
        yield kept
    finally:
        _close(kept)


def _close(stream: TextIO) -> None:
    try:
        stream.close()
    except OSError:
        pass  # a closed pipe or a full disk, which was said already when it was written to


@contextmanager
def _leading_to(number: int, target: int) -> Iterator[None]:
    """The file descriptor ``number`` leads where ``target`` does."""
    try:
        before: int | None = os.dup(number)
    except OSError:
        before = None  # it was closed
    os.dup2(target, number)
    try:
        yield
    finally:
        if before is None:
            os.close(number)
        else:
            os.dup2(before, number)
            os.close(before)


@contextmanager
def _replaced(output: Any, messages: Any) -> Iterator[None]:
    before = sys.stdout, sys.stderr
    sys.stdout, sys.stderr = output, messages
    try:
        yield
    finally:
        sys.stdout, sys.stderr = before


@contextmanager
def _warnings(verbose: bool, note: Callable[[str], None]) -> Iterator[None]:
    """Warnings that point at this package become notes; others are shown with ``verbose``."""
    told = set()

    def show(message: Warning | str, category: type[Warning], filename: str, lineno: int,
             file: TextIO | None = None, line: str | None = None) -> None:
        if verbose:
            print(warnings.formatwarning(message, category, filename, lineno), end="", file=sys.stderr)
        elif filename.startswith(OUR_FILES) and str(message) not in told:
            told.add(str(message))
            note(str(message))
    with warnings.catch_warnings():
        if not verbose:
            warnings.simplefilter("ignore")
            warnings.filterwarnings("always", category=UserWarning)
        warnings.showwarning = show
        yield


@contextmanager
def _signals() -> Iterator[None]:
    """What ends a process is an exception, so that no half of a file stays; where nobody else listens to it."""
    def end(number: int, frame: Any) -> None:
        raise Ended(number)

    mine = [number for number in (signal.SIGTERM, signal.SIGHUP) if signal.getsignal(number) == signal.SIG_DFL
            and threading.current_thread() is threading.main_thread()]
    for number in mine:
        signal.signal(number, end)
    try:
        yield
    finally:
        for number in mine:
            signal.signal(number, signal.SIG_DFL)


@contextmanager
def _ignored_errors(verbose: bool) -> Iterator[None]:
    """Errors where Python can raise none, as in ``__del__``: Ctrl-C comes again; others show with ``verbose``."""
    before = sys.unraisablehook

    def hear(ignored: Any) -> None:
        if issubclass(ignored.exc_type, KeyboardInterrupt):
            number = ignored.exc_value.code - 128 if isinstance(ignored.exc_value, Ended) else signal.SIGINT
            again = threading.Timer(SECONDS_TO_LEAVE, os.kill, (os.getpid(), number))
            again.daemon = True
            again.start()
        elif verbose:
            before(ignored)
    sys.unraisablehook = hear
    try:
        yield
    finally:
        sys.unraisablehook = before


@contextmanager
def _logging(verbose: bool) -> Iterator[None]:
    """Log lines are shown with ``verbose`` only."""
    root = logging.getLogger()
    handler: logging.Handler = logging.StreamHandler(sys.stderr) if verbose else logging.NullHandler()
    level, before = root.level, list(root.handlers)
    root.handlers[:] = [handler]
    if verbose:
        root.setLevel(logging.INFO)
    try:
        yield
    finally:
        root.handlers[:] = before
        root.setLevel(level)
