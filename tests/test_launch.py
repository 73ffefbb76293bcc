"""The launcher: processes are started, heard, and all ended, here and through a stand-in for ssh."""
import json
import re
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path

import pytest
from click.testing import CliRunner
from gluon_compress.workers import launch, waiting

ROOT = Path(__file__).resolve().parent.parent
FOREVER = "import os, sys, time; os.write(1, b'%d\\n' % os.getpid()); time.sleep(600)"  # in one piece


def process(name, code, *arguments, **environment):
    """One that needs no MXNet."""
    return launch.Process(name, None, environment, [sys.executable, "-c", code, *arguments])


def runs(number):
    """Whether a process of this number is there and not only waited for."""
    try:
        return Path(f"/proc/{number}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except FileNotFoundError:
        return False


def wait_for_end(numbers):
    give_up = time.monotonic() + 60
    while any(map(runs, numbers)) and time.monotonic() < give_up:
        time.sleep(0.05)
    return not any(map(runs, numbers))


def test_what_they_print_has_their_names_in_front(capfd):
    code = "import os, sys; print('one', os.environ['WORD'], sys.argv[1]); sys.stderr.write('1 %\\r2 %\\n')"
    assert launch.run([process("worker 0", code, "a b'$", WORD="it's"), process("worker 1", "")]) == 0
    output, errors = capfd.readouterr()
    assert output == "[worker 0] one it's a b'$\n"
    assert errors == "[worker 0] 2 %\n"


@pytest.mark.parametrize("code, how, hears", [
    ("import sys; sys.exit(3)", "ended with status 3", "SIG_DFL"),
    ("import os; os.kill(os.getpid(), 9)", "was ended by SIGKILL", "SIG_IGN")])  # the launcher waits for five seconds
def test_one_that_fails_is_named_and_the_others_are_ended(tmp_path, capfd, code, how, hears):
    started = f"import os, sys; open(sys.argv[1] + '/' + str(os.getpid()), 'w'); {FOREVER}"
    deaf = f"import os, signal; signal.signal(signal.SIGTERM, signal.{hears}); os.fork(); {started}"
    waits = f"import os, sys, time\nwhile len(os.listdir(sys.argv[1])) < 3: time.sleep(0.05)\n{code}"
    assert launch.run([process("server 0", started, str(tmp_path)), process("worker 0", deaf, str(tmp_path)),
                       process("worker 1", waits, str(tmp_path))]) == 1
    assert f"[launch] worker 1 {how}: ending the others\n" in capfd.readouterr().err
    numbers = [int(path.name) for path in tmp_path.iterdir()]
    assert len(numbers) == 3  # a server, a worker that may not listen to SIGTERM, and its child
    assert wait_for_end(numbers)


@pytest.mark.parametrize("ending, status", [(signal.SIGINT, 130), (signal.SIGKILL, -9)])
def test_nothing_stays_after_the_launcher(start_python, ending, status):
    launcher = start_python(
        "import signal, sys; from gluon_compress.workers import launch\n"
        "signal.signal(signal.SIGINT, signal.default_int_handler)\n"  # which a shell's background jobs ignore
        f"sys.exit(launch.run([launch.Process(f'worker {{n}}', None, {{}}, [sys.executable, '-c', {FOREVER!r}]) "
        "for n in range(2)]))")
    numbers = [int(launcher.stdout.readline().split()[-1]) for _ in range(2)]
    assert all(map(runs, numbers))
    launcher.send_signal(ending)
    launcher.wait(timeout=60)
    assert launcher.returncode == status
    assert wait_for_end(numbers)


@pytest.mark.parametrize("command", ["folder/train.py", "folder", "-m train", "-m package"])
def test_a_worker_s_script_finds_what_python_gives_it(tmp_path, command):
    """The same names, arguments, paths and status as without the launcher's text around it."""
    told = "import json, sys; json.dump([__name__, __file__, sys.argv, sys.path], sys.stdout); sys.exit('the end')"
    (tmp_path / "folder").mkdir()
    (tmp_path / "package").mkdir()
    for name in ("folder/train.py", "folder/__main__.py", "train.py", "package/__init__.py", "package/__main__.py"):
        (tmp_path / name).write_text("" if name.endswith("__init__.py") else told)
    plain, watched = (subprocess.run([sys.executable, *text, *command.split(), "--epochs", "it's"], cwd=tmp_path,
                                     capture_output=True, text=True, check=False)
                      for text in ([], ["-c", launch.SCRIPT.read_text()]))
    assert json.loads(watched.stdout) == json.loads(plain.stdout)
    assert (watched.returncode, watched.stderr) == (plain.returncode, plain.stderr) == (1, "the end\n")


def test_a_cluster_through_ssh(tmp_path, monkeypatch):
    """A stand-in for ssh runs the command here, in another directory, and notes the host."""
    stand_in = tmp_path / "ssh"
    stand_in.write_text(f'#!/bin/sh\n[ "$1" = -q ] || exit 9\ncd /\necho "$2" >> {tmp_path}/asked\nexec sh -c "$3"\n')
    stand_in.chmod(0o755)
    hosts = tmp_path / "hosts"
    hosts.write_text("# two names of this machine\n127.0.0.1\nme@localhost  # again\n\n127.0.0.1\n")
    (tmp_path / "train.py").write_text(
        "import os, sys\nimport gluon_compress as gc\nworkers = gc.workers.connect()\n"
        "print(workers.sum([1, workers.rank, len(sys.argv)]), os.getcwd(), sys.argv[1:])\n")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("PYTHONPATH", str(ROOT))
    monkeypatch.setenv("MXNET_OF_A_TEST", "a 'word'")
    result = CliRunner().invoke(launch.main, ["--workers", "2", "--servers", "2", "--hosts", "hosts",
                                              "--ssh", f"{stand_in} -q", "train.py", "--workers", "it's"])
    assert result.exit_code == 0, result.output
    for number in range(2):
        assert f"[worker {number}] [2. 1. 6.] {tmp_path} ['--workers', \"it's\"]\n" in result.output
    asked = (tmp_path / "asked").read_text().split()
    assert sorted(asked) == 3 * ["127.0.0.1"] + 2 * ["me@localhost"]


def test_a_connection_that_fails_is_told(tmp_path):
    (tmp_path / "hosts").write_text("127.0.0.1")
    result = CliRunner().invoke(launch.main, ["--hosts", str(tmp_path / "hosts"), "--ssh", "false", "train.py"])
    assert result.exit_code == 1
    assert "on 127.0.0.1 ended with status 1: ending the others" in result.output


def test_the_processes_of_a_cluster(monkeypatch):
    monkeypatch.setattr(launch, "address", lambda host: {"a": "10.0.0.1", "b": "10.0.0.2"}[host])
    monkeypatch.setenv("DMLC_INTERFACE", "eth7")
    monkeypatch.setenv("OTHER", "stays")
    processes = launch.cluster(4, 2, ["a", "b"], 4444, "python3", ["train.py", "x"])
    guards, processes = processes[:2], processes[2:]
    assert [one.name for one in processes] == ["scheduler", "server 0", "server 1", *(f"worker {n}" for n in range(4))]
    assert [one.host for one in processes] == ["b", "b", "a", "b", "b", "a", "a"]
    numbers = [one.environment["PORT"] for one in processes]
    assert numbers == sorted(set(numbers)) and numbers[0] == processes[0].environment["DMLC_PS_ROOT_PORT"]
    for guard, host, number in zip(guards, "ab", ("10.0.0.1", "10.0.0.2")):
        told = json.loads(guard.command[-1])
        assert (guard.host, told["address"], told["port"]) == (host, number, 4444)
        assert told["own"] == [one.environment["PORT"] for one in processes if one.host == host]
        assert sorted([*told["own"], *map(int, told["others"])]) == numbers
    assert len(guards[0].secret) == 64 and guards[0].secret == guards[1].secret
    assert guards[0].secret not in str([(one.command, one.environment) for one in guards])
    for one in processes:
        assert one.environment["DMLC_ROLE"] == one.name.split()[0]
        assert one.environment["DMLC_NODE_HOST"] == {"a": "10.0.0.1", "b": "10.0.0.2"}[one.host]
        assert one.environment["DMLC_PS_ROOT_URI"] == "10.0.0.2" and one.environment["DMLC_LOCAL"] == 1
        assert (one.environment["DMLC_NUM_WORKER"], one.environment["DMLC_NUM_SERVER"]) == (4, 2)
        assert one.environment["DMLC_INTERFACE"] == "eth7" and "OTHER" not in one.environment
        assert one.command[-2:] == (["train.py", "x"] if one.name.startswith("worker") else
                                    ["-c", "import gluon_compress"])


@pytest.mark.parametrize("hosts, message", [
    ("# none\n", "names no host"),
    ("10.0.0.1\n-oProxyCommand=touch it@127.0.0.1\n", "has the line '-oProxyCommand=.*accepted: host or user@host"),
    ("-oProxyCommand=it@127.0.0.1\n", "has the line"), ("me@-v\n", "has the line"), ("a b\n", "has the line"),
    ("no-such-host.invalid\n", "no-such-host.invalid: .*accepted: names or addresses"),
    ("127.0.0.1\n10.0.0.1\n", "127.0.0.1 has the address 127.0.0.1, at which other machines do not find it")])
def test_hosts_that_cannot_be_used_are_refused(tmp_path, hosts, message):
    (tmp_path / "hosts").write_text(hosts)
    result = CliRunner().invoke(launch.main, ["--hosts", str(tmp_path / "hosts"), "train.py"])
    assert result.exit_code == 2
    assert re.search(message, " ".join(result.output.split()))


@pytest.mark.parametrize("arguments", [[], ["--workers", "0", "train.py"], ["--hosts", "/no/such/file", "train.py"]])
def test_arguments_that_cannot_be_used_are_refused(arguments):
    assert CliRunner().invoke(launch.main, arguments).exit_code == 2


def test_a_port_without_hosts_is_refused():
    result = CliRunner().invoke(launch.main, ["--port", "4444", "train.py"])
    assert result.exit_code == 2
    assert "nothing listens on a port; accepted: with --hosts only" in " ".join(result.output.split())


def test_a_port_that_is_taken_on_a_host_is_told_in_one_line(tmp_path):
    (tmp_path / "hosts").write_text("127.0.0.1\n127.0.0.2\n")
    (tmp_path / "train.py").write_text("import time; time.sleep(600)")
    (tmp_path / "ssh").write_text('#!/bin/sh\nexec sh -c "$2"\n')
    (tmp_path / "ssh").chmod(0o755)
    with socket.create_server(("127.0.0.2", 0)) as taken:
        port = taken.getsockname()[1]
        result = CliRunner().invoke(launch.main, ["--hosts", str(tmp_path / "hosts"), "--ssh", str(tmp_path / "ssh"),
                                                  "--port", str(port), "--servers", "1", str(tmp_path / "train.py")])
    assert result.exit_code == 1
    assert f"port {port} of 127.0.0.2 cannot be listened on: Address already in use; accepted: a free" in result.output
    assert "[launch] guard of 127.0.0.2 on 127.0.0.2 ended with status 1: ending the others\n" in result.output
    assert "Stack trace" not in result.output


@pytest.mark.parametrize("hanging, missing", [("1", "worker 1"), ("12", "worker 1, worker 2"), ("", "the servers")])
def test_who_hangs_is_named(capfd, hanging, missing):
    """By the launcher, which hears from the others that they wait."""
    code = f"import os, sys, time; sys.argv[1] in {hanging!r} or os.write(2, b'{waiting.WAITS}\\n'); " \
           "time.sleep(1 if sys.argv[1] == '0' else 600); sys.exit(1)"
    assert launch.run([process(f"worker {number}", code, str(number)) for number in range(3)]) == 1
    assert f"[launch] worker 0 ended with status 1, having waited in vain for {missing}: ending the others\n" in \
        capfd.readouterr().err
