"""A process that mutates files and uses them, within limits of memory, and what keeps it, within one of time."""
import json
import os
import random
import resource
import select
import signal
import subprocess
import sys
import tempfile
import time
import warnings
from dataclasses import dataclass
from pathlib import Path

MEMORY = 1 << 30  # bytes that a load and a use may take
SECONDS = 30      # of processor time that they may take
ACCEPTED = ("CheckpointError", "loaded", "loaded, refused in use")
BENCHMARKS = Path(__file__).resolve().parent.parent


@dataclass(frozen=True)
class Outcome:
    """What came of a file, what was said, processor time in seconds and bytes of memory it took, the code's commit."""

    what: str
    said: str = ""
    seconds: float = 0.0
    bytes: int = 0
    commit: str = ""


class Worker:
    """A process that answers jobs ("forged" or "unforged", kind of file, number); another one when it died."""

    def __init__(self):
        self._folder = tempfile.TemporaryDirectory()
        self._start()

    def _start(self):
        environment = {**os.environ, "OMP_NUM_THREADS": "1", "OMP_WAIT_POLICY": "passive",
                       "PYTHONPATH": os.pathsep.join([str(BENCHMARKS.parent), str(BENCHMARKS)])}
        self._process = subprocess.Popen(
            [sys.executable, "-W", "ignore", "-m", "fuzzing.worker", self._folder.name], env=environment, bufsize=0,
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL)

    @property
    def file(self):
        """The file that the last job was about."""
        return Path(self._folder.name, "file")

    def outcome(self, job):
        """The :class:`Outcome` of a job."""
        self._process.stdin.write(f"{json.dumps(job)}\n".encode())
        begun = self._process.stdout.readline()  # the file is made: this may take its time
        ready = not begun or self._wait()
        if begun and ready and (answer := self._process.stdout.readline()):
            return Outcome(*json.loads(answer))
        if not ready:
            self._process.kill()
        code = self._process.wait()
        self._start()
        if not ready:
            return Outcome("hang")
        said = signal.Signals(-code).name if code < 0 else f"exit {code}"
        return Outcome("crash" if begun else "crash before the file was made", said)

    def _wait(self):
        """Whether there is an answer before it has computed for too long, or waited ten times as long.

        By the second, so that a time in which all is stopped counts as one.
        """
        end = _computed(self._process.pid) + SECONDS
        for _ in range(10 * SECONDS):
            if select.select([self._process.stdout], [], [], 1)[0]:
                return True
            if _computed(self._process.pid) > end:
                return False
        return False

    def stop(self):
        self._process.stdin.close()
        self._process.wait()
        self._folder.cleanup()


def _computed(process):
    """Seconds of processor time that it has had."""
    fields = Path(f"/proc/{process}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def work(folder):
    """Answer jobs, with two lines each, until there are no more."""
    answers = os.fdopen(os.dup(1), "w")
    sys.stdout = sys.stderr
    from fuzzing.kinds import kind
    from fuzzing.mutations import mutated
    warnings.simplefilter("ignore")
    path = Path(folder, "file")
    for line in sys.stdin:
        what, name, number = json.loads(line)
        content, use = kind(name)
        path.unlink(missing_ok=True)
        changed = mutated(content, what, random.Random(f"{name} {number} {what}"))
        path.write_bytes(changed)
        print("begun", file=answers, flush=True)
        result = _measured(use, path)
        if what == "unforged" and result[0] != "CheckpointError" and changed != content and _has_checksum(content):
            result = "damage not noticed", *result[1:]
        print(json.dumps(result), file=answers, flush=True)


def _has_checksum(content):
    """Whether any damage to a file must be noticed: all of ours but those of JSON alone."""
    from gluon_compress.checkpoint import packed_file
    return packed_file.begins(content) or content[8:9] == b"{"


def _measured(use, path):
    """(outcome, what was said, seconds of processor time, bytes)."""
    Path("/proc/self/clear_refs").write_text("5")  # the peak begins anew
    before, began = _status("VmRSS"), time.process_time()
    _limit_memory()
    outcome, said = _outcome(use, path)
    taken, grown = time.process_time() - began, _status("VmHWM") - before
    return "memory" if grown > MEMORY else outcome, said[:300], round(taken, 3), grown


def _limit_memory():
    limit = _status("VmSize") + 2 * MEMORY
    resource.setrlimit(resource.RLIMIT_AS, (limit, resource.RLIM_INFINITY))


def _status(name):
    """A number of bytes that Linux knows of this process."""
    return int(Path("/proc/self/status").read_text().partition(f"{name}:")[2].split()[0]) << 10


def _outcome(use, path):
    from fuzzing.kinds import HalfChanged, Refused
    from gluon_compress import CheckpointError
    try:
        return use(path), ""
    except CheckpointError as error:
        return "CheckpointError", str(error)
    except Refused as error:
        return "loaded, refused in use", str(error)
    except HalfChanged:
        return "half changed", ""
    except MemoryError as error:
        return "memory", repr(error)
    except BaseException as error:
        return "other exception", repr(error)


if __name__ == "__main__":
    work(sys.argv[1])
