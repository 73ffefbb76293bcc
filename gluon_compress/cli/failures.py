"""What went wrong, as one line that a script can rely on, and as an exit code."""
from __future__ import annotations

import errno
import os
import re
import signal
import sys
import traceback
from collections.abc import Iterable
from typing import Any, TextIO

from ..starting import COMMAND

FAILED, USAGE, INTERRUPTED, CLOSED = 1, 2, 130, 141  # exit codes; 128 + the signal for the last two

ADVICE = {errno.ENOSPC: "make room there, or write to another place", errno.EDQUOT: "your quota there is used up",
          errno.EFBIG: "the file is longer than this system allows",
          errno.EACCES: "give yourself the right to it, or name another file",
          errno.EPERM: "give yourself the right to it, or name another file",
          errno.EROFS: "write to another place", errno.ENOENT: "look at the name", errno.ENOTDIR: "look at the name",
          errno.EISDIR: "name a file", errno.ENAMETOOLONG: "give it a shorter name"}


class Refusal(Exception):
    """What the command line itself cannot do; its text is the line that the user sees."""


def tell(line: str, stream: TextIO | None) -> None:
    """A line of ours on standard error."""
    if stream is not None:
        try:
            print(f"{COMMAND}: {line}", file=stream, flush=True)
        except OSError:
            pass  # nobody reads it


class Ended(KeyboardInterrupt):
    """A signal that ends this process, as an exception, so that it cleans up as after Ctrl-C."""

    def __init__(self, number: int) -> None:
        super().__init__(f"ended by {signal.Signals(number).name}")
        self.code = 128 + number


def code_of(error: BaseException) -> int:
    """The exit code for an exception."""
    if isinstance(error, Ended):
        return error.code
    if isinstance(error, KeyboardInterrupt):
        return INTERRUPTED
    if isinstance(error, BrokenPipeError):
        return CLOSED
    return FAILED


def report_failure(error: BaseException, stream: TextIO | None, debug: bool, log: str = "",
                   names: Iterable[str] = ()) -> int:
    """Say what went wrong and return the exit code; with ``debug`` the traceback, and what MXNet printed, too.

    ``names`` are those of the command's options, for :func:`in_options`.
    """
    code = code_of(error)
    if debug:
        if log:
            print(log.rstrip(), file=stream)
        print("".join(traceback.format_exception(error)).rstrip(), file=stream)
    if isinstance(error, KeyboardInterrupt):
        tell(str(error) or "interrupted", stream)
    elif code == FAILED:
        tell(f"error: {in_options(line_of(error), names)}", stream)
    return code


def line_of(error: BaseException) -> str:
    """What an exception says, in one line."""
    if isinstance(error, OSError) and error.errno is not None:
        return _line_of_system(error)
    from ..errors import GluonCompressError
    if isinstance(error, (Refusal, GluonCompressError, ValueError, TypeError, ImportError, OSError)) \
            and not _is_of_mxnet(error) and str(error):
        return one_line(str(error))
    if isinstance(error, MemoryError):
        return "there is not enough memory"
    said = one_line(str(error).partition("Stack trace")[0]) or "no reason given"
    return f"{type(error).__name__}: {said[:300]} (--debug shows where)"


def in_options(text: str, names: Iterable[str]) -> str:
    """What the library says of its arguments, said of options: ``round_to=1`` as ``--round-to 1``.

    Of the ``names`` of options those with an underscore are known alone, too; others might be words.
    """
    for name in names:
        option = f"--{name.replace('_', '-')}"
        text = re.sub(rf"(?<![\w./-]){name}=(['\"]?)([\w.:-]*\w)\1", rf"{option} \2", text)
        if "_" in name:
            text = re.sub(rf"(?<![\w./=-]){name}(?![\w./=:(-])", option, text)
    return text


def _line_of_system(error: OSError) -> str:
    place = "the output" if error.filename is None else os.fspath(error.filename)
    number = error.errno or 0
    said = error.strerror or os.strerror(number)
    advice = "" if said != os.strerror(number) else ADVICE.get(number, "")
    return one_line(f"{place}: {said}{f'; {advice}' if advice else ''}")


def _is_of_mxnet(error: BaseException) -> bool:
    mxnet: Any = sys.modules.get("mxnet")
    return mxnet is not None and isinstance(error, mxnet.MXNetError)


def one_line(text: str) -> str:
    """Several lines as one, without characters that a terminal obeys."""
    joined = " ".join(part for line in text.splitlines() if (part := line.strip()))
    return "".join(letter if letter.isprintable() else "?" for letter in joined)
