"""One process that the launcher starts, here or on another host; it ends when the launcher does."""
from __future__ import annotations

import os
import queue
import shlex
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import IO, Any, TextIO

from . import guard
from .waiting import GOES_ON, WAITS

SECONDS_TO_END = 10  # the shell below takes 5 of them

# Runs a command until it ends or standard input does: also when the launcher or the connection dies, nothing stays.
# setsid: a group of its own, which ends whole. (A shell gives commands in the background an empty standard input.)
UNTIL_INPUT_ENDS = """\
exec 3<&0
IFS= read -r {secret} <&3 && export {secret}
setsid {command} </dev/null 3<&- &
process=$!
(cat <&3; kill -TERM -$process; sleep 5; kill -KILL -$process) >/dev/null 2>&1 &
exec 3<&-
wait $process
status=$?
kill $! 2>/dev/null
{clean}
exit $status
"""


@dataclass
class Process:
    """One process of the cluster: ``name`` ('worker 0'), ``host`` (None here), and what it was started with.

    ``secret`` goes to it through a pipe, as others on its machine can read commands; ``waits``: for the other workers.
    """

    name: str
    host: str | None
    environment: dict[str, Any]
    command: list[str]
    secret: str = ""
    waits: bool = False
    handle: Any = None  # subprocess.Popen, once it is started
    readers: list[threading.Thread] = field(default_factory=list)

    def start(self, ssh: Sequence[str], ended: queue.Queue) -> None:
        """Start it; its end is put into the queue ``ended``."""
        variables = [f"{name}={value}" for name, value in self.environment.items()]
        socket_file = guard.FOLDER / str(self.environment["PORT"]) if "PORT" in self.environment else None
        script = UNTIL_INPUT_ENDS.format(command=shlex.join(["env", *variables, *self.command]), secret=guard.SECRET,
                                         clean=f"rm -f {socket_file}" if socket_file else ":")
        if self.host is None:
            command = ["sh", "-c", script]
        else:
            command = [*ssh, self.host, shlex.join(["sh", "-c", f"cd {shlex.quote(os.getcwd())} || exit\n{script}"])]
        self.handle = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE,
                                       stderr=subprocess.PIPE, start_new_session=True)  # Ctrl-C is ours
        try:
            self.handle.stdin.write(f"{self.secret}\n".encode())
            self.handle.stdin.flush()
        except BrokenPipeError:
            pass  # its end is told soon
        self.readers = [threading.Thread(target=self._forward, args=streams, daemon=True) for streams in
                        ((self.handle.stdout, sys.stdout), (self.handle.stderr, sys.stderr))]
        for reader in self.readers:
            reader.start()
        threading.Thread(target=lambda: ended.put((self, self.handle.wait())), daemon=True).start()

    def _forward(self, source: IO[bytes], target: TextIO) -> None:
        for line in source:
            text = line.decode(errors="replace").rstrip("\r\n").split("\r")[-1]  # of a progress bar, how it ends
            if text in (WAITS, GOES_ON):
                self.waits = text == WAITS
            elif text.strip():
                target.write(f"[{self.name}] {text}\n")  # in one piece
                target.flush()

    def end(self) -> None:
        """Ask it to end."""
        try:
            self.handle.stdin.close()
        except BrokenPipeError:
            pass

    def wait(self, until: float) -> None:
        """Wait for its end, and force it from the time ``until`` on; then wait for the rest of what it printed."""
        try:
            self.handle.wait(max(0.1, until - time.monotonic()))
        except subprocess.TimeoutExpired:
            os.killpg(self.handle.pid, signal.SIGKILL)
            self.handle.wait()
        for reader in self.readers:
            reader.join(1)
