"""Processes that are forks of the test's own: they begin at once, with all that it has imported and changed.

For what uses files alone: MXNet may compute other bits in a fork, whose number of threads it chooses anew.
"""
import os
import select
import sys
import traceback

from gluon_compress.files import locks


def in_another_process(call):
    """Run ``call()`` in a fork of this process, which does nothing else; return its number."""
    number = os.fork()
    if number == 0:
        try:
            call()
            os._exit(0)
        except BaseException:  # KeyboardInterrupt, too: the fork must not go on with the tests of its parent
            traceback.print_exc()
            os._exit(1)
    return number


def two_at_once(call, server, monkeypatch):
    """Run ``call()`` in two processes; ``server``, which holds its answers, answers when one waits for the other."""
    monkeypatch.setattr(locks, "SECONDS_UNTOLD", 0.1)
    heard, say = os.pipe()

    def told():
        sys.stderr = open(say, "w", buffering=1)
        call()
    numbers = [in_another_process(told) for _ in range(2)]
    text = b""
    try:
        server.wait_for_request()
        while b"waiting for another process" not in text:
            assert select.select([heard], [], [], 60)[0], f"nobody waits: {text}"
            text += os.read(heard, 65536)
    finally:
        server.release()
        statuses = [os.waitpid(number, 0)[1] for number in numbers]
        os.close(say)
        with open(heard, "rb") as rest:
            text += rest.read()
    assert statuses == [0, 0], text.decode()
