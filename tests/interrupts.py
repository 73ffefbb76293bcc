"""Ctrl-C in front of any line of the package: what it leaves has to be whole wherever it comes."""
import signal
import sys
from contextlib import contextmanager

import gluon_compress

FOLDER = gluon_compress.__path__[0]


def press_ctrl_c():
    """What a SIGINT calls, without the signal, which has ended workers of xdist."""
    signal.getsignal(signal.SIGINT)(signal.SIGINT, sys._getframe(1))


@contextmanager
def ctrl_c_at_line(number):
    """Ctrl-C in front of the so many-th line of the package that runs in the ``with`` block; yields [lines so far]."""
    lines, before, handler = [0], sys.gettrace(), signal.signal(signal.SIGINT, signal.default_int_handler)

    def trace(frame, event, argument):
        if event == "line":
            lines[0] += 1
            if lines[0] == number:
                press_ctrl_c()
        return trace
    sys.settrace(lambda frame, *event: trace if frame.f_code.co_filename.startswith(FOLDER) else None)
    try:
        yield lines
    finally:
        sys.settrace(before)
        signal.signal(signal.SIGINT, handler)


def interrupted_at(call, lines):
    """Make the call with Ctrl-C in front of one line after the other of those ``lines``, until it comes too late."""
    for number in lines:
        heard = False
        try:
            with ctrl_c_at_line(number) as count:
                call()
        except KeyboardInterrupt:
            heard = True
        yield number
        if not heard and count[0] < number:
            return
    raise AssertionError(f"the call has more than {number} lines")
