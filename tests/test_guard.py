"""The guard and the parameter server: what a stranger who reaches a port can no longer do."""
import os
import re
import socket
import subprocess
import sys
import threading
import time
from contextlib import suppress
from pathlib import Path

import pytest
import stock_mxnet
import strangers
from click.testing import CliRunner
from gluon_compress.workers import guard, launch

SECRET = b"the secret of a run"
NUMBER, OTHER = 123456789, 987654321


def free_port():
    with socket.create_server(("127.0.0.1", 0)) as server:
        return server.getsockname()[1]


def echo(path):
    """A socket that sends back what it gets."""
    server = socket.socket(socket.AF_UNIX)
    server.bind(str(path))
    server.listen()

    def serve():
        while True:
            try:
                connection, _ = server.accept()
            except OSError:
                return
            while content := connection.recv(1 << 16):
                connection.sendall(content)
            connection.close()
    threading.Thread(target=serve, daemon=True).start()
    return server


@pytest.fixture
def machines(tmp_path):
    """Two machines: a process with the socket NUMBER on the second, and a guard on both; ``(first, second)``."""
    folders = [tmp_path / "1", tmp_path / "2"]
    for folder in folders:
        folder.mkdir()
    process = echo(folders[1] / str(NUMBER))
    ports = free_port(), free_port()
    pair = [guard.Guard(SECRET, "127.0.0.1", ports[0], [OTHER], {NUMBER: ("127.0.0.1", ports[1])}, folders[0]),
            guard.Guard(SECRET, "127.0.0.1", ports[1], [NUMBER], {OTHER: ("127.0.0.1", ports[0])}, folders[1])]
    for one in pair:
        one.start()
    yield pair
    for one in pair:
        one.close()
    process.close()


def through(one, content):
    """What comes back of ``content`` that a process of this machine sends to the socket NUMBER."""
    with socket.socket(socket.AF_UNIX) as connection:
        connection.settimeout(20)
        connection.connect(str(one.folder / str(NUMBER)))
        threading.Thread(target=connection.sendall, args=(content,), daemon=True).start()
        received = bytearray()
        with suppress(ConnectionResetError):
            while len(received) < len(content) and (piece := connection.recv(1 << 16)):
                received += piece
        return bytes(received)


def test_what_a_process_sends_arrives_as_it_is(machines):
    for content in (b"x", os.urandom(5_000_001)):
        assert through(machines[0], content) == content


def replay(port):
    """What a guard said at another time."""
    with socket.create_connection(("127.0.0.1", port)) as connection:
        asked = connection.recv(32)
        said = bytes(32) + b"%010d" % NUMBER
        return said + guard.hmac.digest(SECRET, b"ask" + asked + said, "sha256")


@pytest.mark.parametrize("content", [
    strangers.GARBAGE, b"".join(strangers.command(0, b"x")), b"", b"x", b"\0" * 74,
    bytes(32) + b"%010d" % NUMBER + bytes(32), b"\xff" * 200_000, "replayed", "its own answer"])
def test_strangers_reach_nobody_and_end_nothing(machines, monkeypatch, capfd, content):
    monkeypatch.setattr(guard, "SECONDS", 0.5)
    port = machines[1].server.getsockname()[1]
    if content == "replayed":
        content = replay(port)
    with socket.create_connection(("127.0.0.1", port), timeout=20) as connection:
        asked = connection.recv(32)
        said = asked + b"%010d" % NUMBER
        try:
            connection.sendall(said + guard.hmac.digest(b"guessed", b"ask" + asked + said, "sha256")
                               if content == "its own answer" else content)
            assert connection.recv(1) == b""
        except ConnectionResetError:
            pass
    assert through(machines[0], b"still here") == b"still here"
    assert "refused a connection from 127.0.0.1, which does not know the secret" in capfd.readouterr().err


def test_guards_of_other_runs_do_not_let_each_other_in(machines, tmp_path):
    (tmp_path / "3").mkdir()
    other = guard.Guard(b"another", "127.0.0.1", 0, [], {NUMBER: machines[1].server.getsockname()}, tmp_path / "3")
    other.start()
    assert through(other, b"x") == b""
    other.close()
    assert os.listdir(tmp_path / "3") == []


def test_only_sockets_of_the_run_are_reached(machines, tmp_path):
    """Also by who knows the secret."""
    stranger = echo(tmp_path / "2" / str(NUMBER + 1))
    (tmp_path / "3").mkdir()
    other = guard.Guard(SECRET, "127.0.0.1", 0, [], {NUMBER + 1: machines[1].server.getsockname()}, tmp_path / "3")
    other.start()
    with socket.socket(socket.AF_UNIX) as connection:
        connection.connect(str(tmp_path / "3" / str(NUMBER + 1)))
        assert connection.recv(1) == b""
    other.close()
    stranger.close()


def test_many_silent_strangers_are_sent_away_in_time(machines, monkeypatch):
    monkeypatch.setattr(guard, "SECONDS", 1)
    place = machines[1].server.getsockname()
    silent = [socket.create_connection(place) for _ in range(3 * guard.STRANGERS)]
    give_up = time.monotonic() + 60
    while through(machines[0], b"x") != b"x":  # MXNet too tries again
        assert time.monotonic() < give_up
    for connection in silent:
        connection.close()


def test_a_process_that_is_on_this_machine_after_all_is_met_directly(tmp_path):
    process = echo(tmp_path / str(NUMBER))
    one = guard.Guard(SECRET, "127.0.0.1", 0, [], {NUMBER: ("127.0.0.1", 9)}, tmp_path)
    one.start()
    assert through(one, b"directly") == b"directly"
    one.close()
    process.close()


# ---- with MXNet's processes

WORKER = """
import sys
import gluon_compress as gc
workers = gc.workers.connect()
print(workers.sum([1.5]), flush=True)
sys.stdin.readline()
print(workers.sum([2.5]), flush=True)
"""


def test_a_server_runs_no_pickle_that_a_connection_sends(tmp_path):
    """Two servers, which listen on TCP: one of MXNet's own, which does, and ours; the training goes on."""
    ports = [free_port() for _ in range(4)]
    cluster = {**os.environ, "DMLC_PS_ROOT_URI": "127.0.0.1", "DMLC_PS_ROOT_PORT": str(ports[0]),
               "DMLC_NUM_SERVER": "2", "DMLC_NUM_WORKER": "1", "DMLC_NODE_HOST": "127.0.0.1", "OMP_NUM_THREADS": "1",
               "PYTHONPATH": str(Path(guard.__file__).parents[1])}
    pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True}
    started = [subprocess.Popen([sys.executable, "-c", code], env={**cluster, "DMLC_ROLE": role, "PORT": str(port)},
                                **pipes)
               for role, code, port in (("scheduler", "import gluon_compress", 0),
                                        ("server", stock_mxnet.IMPORT, ports[1]),
                                        ("server", "import gluon_compress", ports[2]), ("worker", WORKER, ports[3]))]
    worker = started[-1]
    try:
        assert worker.stdout.readline() == "[1.5]\n", worker.communicate()
        strangers.send_pickle(("127.0.0.1", ports[1]), tmp_path / "stock")
        strangers.send_pickle(("127.0.0.1", ports[2]), tmp_path / "ours")
        output, errors = worker.communicate("go on\n", timeout=60)
        assert output == "[2.5]\n", errors
        assert os.listdir(tmp_path) == ["stock"]
        told = started[2].communicate(timeout=60)[1]
        assert "refused command 0 with" in told and "take no optimizer and run nothing" in told
    finally:
        for process in started:
            process.kill()


LISTENING = """
import os, sys
from pathlib import Path
import gluon_compress as gc
workers = gc.workers.connect()
mine = f"DMLC_PS_ROOT_PORT={os.environ['DMLC_PS_ROOT_PORT']}".encode()
inodes, sockets = set(), set()
for process in Path("/proc").iterdir():
    try:
        variables = (process / "environ").read_bytes().split(b"\\0") if process.name.isdigit() else []
        if mine in variables:
            sockets |= {variable[5:].decode() for variable in variables if variable.startswith(b"PORT=")}
            inodes |= {os.readlink(name) for name in (process / "fd").iterdir()}
    except OSError:
        pass
lines = [line.split() for kind in ("tcp", "tcp6") for line in open(f"/proc/net/{kind}")]
print("listening:", [line[1] for line in lines if line[3] == "0A" and f"socket:[{line[9]}]" in inodes])
print("sockets:", *sockets)
if workers.rank == 0 and len(sys.argv) > 1:
    sys.path.insert(0, sys.argv[1])
    import strangers
    for address in ("127.0.0.1", "127.0.0.2"):
        strangers.wait_for((address, int(sys.argv[2])))
        strangers.say((address, int(sys.argv[2])), strangers.GARBAGE)
        strangers.send_pickle((address, int(sys.argv[2])), Path(sys.argv[3], "made"))
print(workers.sum([1]))
"""


@pytest.mark.parametrize("hosts", [[], ["127.0.0.1", "127.0.0.2"]], ids=["one machine", "hosts"])
def test_no_process_of_a_launched_cluster_listens_on_a_network(tmp_path, monkeypatch, hosts):
    """Only the guards of hosts do, and a stranger who talks to them reaches nothing and ends nothing."""
    (tmp_path / "train.py").write_text(LISTENING)
    (tmp_path / "ssh").write_text('#!/bin/sh\nexec sh -c "$2"\n')
    (tmp_path / "ssh").chmod(0o755)
    (tmp_path / "hosts").write_text("\n".join(hosts))
    monkeypatch.setenv("PYTHONPATH", str(Path(guard.__file__).parents[1]))
    port = str(free_port())
    asked = ["--hosts", str(tmp_path / "hosts"), "--ssh", str(tmp_path / "ssh"), "--port", port] if hosts else []
    result = CliRunner().invoke(launch.main, [*asked, str(tmp_path / "train.py"),
                                              *([str(Path(__file__).parent), port, str(tmp_path)] if hosts else [])])
    assert result.exit_code == 0, result.output
    assert result.output.count("listening: []\n") == 2 and result.output.count("] [2.]\n") == 2, result.output
    assert ("does not know the secret of this run" in result.output) == bool(hosts)
    assert not (tmp_path / "made").exists()
    sockets = set(re.findall(r"\b\d{9}\b", " ".join(re.findall("sockets: (.*)", result.output))))
    assert len(sockets) == 4 and not [name for number in sockets for name in guard.FOLDER.glob(f"{number}*")]
