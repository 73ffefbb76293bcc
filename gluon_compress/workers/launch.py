"""Start a script as several workers, with MXNet's parameter server, on this machine or on others by ssh.

    python -m gluon_compress.workers --workers 2 train.py --epochs 10
    python -m gluon_compress.workers --workers 8 --servers 4 --hosts hosts.txt train.py

Each line that a process prints has the process's name in front; a worker's number is the rank that the script sees. As
soon as one process fails, all others are ended, and the status is 1.

Who can be trusted: on one machine the processes meet through sockets that are files of yours, and nothing listens on a
network. With several hosts, each listens on one port of its address in the file, and takes only connections that prove
to know a secret of this run, which travels by ssh. What they send is not encrypted: nobody else may listen on the
network between the hosts or change packets there. Otherwise name the hosts by the addresses of a tunnel between them
(WireGuard, or ssh -w, whose ends have addresses).
"""
from __future__ import annotations

import ipaddress
import json
import os
import queue
import random
import re
import secrets
import shlex
import shutil
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import click

from ..runtime import status, usable_cores
from ..runtime.parameter_server import LAUNCHED
from .process import SECONDS_TO_END, Process

__all__ = ["main"]

SCRIPT = Path(__file__).with_name("script.py")  # what a worker's Python runs
FORWARDED = ("PYTHONPATH", "DMLC_", "PS_", "MXNET_", "GLUON_COMPRESS_", "OMP_")


def cluster(workers: int, servers: int, hosts: list[str], port: int | None, python: str,
            command: list[str]) -> list[Process]:
    """The :class:`Process` list of guards, a scheduler, servers and workers, on these hosts in turn.

    ``hosts`` is [] for this machine; ``port`` is the guards', None for any.
    """
    addresses: dict[Any, str] = {host: address(host) for host in hosts} or {None: "127.0.0.1"}
    check_reachable(addresses)
    # MXNet numbers its nodes by their addresses, as texts and from the last on, then by their ports
    places = sorted(addresses, key=addresses.__getitem__, reverse=True)
    numbers = socket_numbers(1 + workers + servers)
    common = {**forwarded_variables(), LAUNCHED: 1, "DMLC_LOCAL": 1, "DMLC_PS_ROOT_URI": addresses[places[0]],
              "DMLC_PS_ROOT_PORT": numbers[0], "DMLC_NUM_WORKER": workers, "DMLC_NUM_SERVER": servers}
    if not hosts and "OMP_NUM_THREADS" not in common:
        common["OMP_NUM_THREADS"] = max(1, usable_cores() // workers)

    def process(role: str, number: int | None, place: str | None, own_command: list[str]) -> Process:
        environment = {**common, "DMLC_ROLE": role, "DMLC_NODE_HOST": addresses[place], "PORT": numbers.pop(0)}
        return Process(role if number is None else f"{role} {number}", place, environment, own_command)
    serve = [python, "-c", "import gluon_compress"]  # which ends when the workers have
    other_options = command[0].startswith("-") and command[0] != "-m"  # of Python: -c, -W, ...
    work = [python, "-u", *([] if other_options else ["-c", SCRIPT.read_text()]), *command]
    processes = [process("scheduler", None, places[0], serve),
                 *(process("server", number, places[number % len(places)], serve) for number in range(servers)),
                 *(process("worker", number, places[number * len(places) // workers], work)
                 for number in range(workers))]
    return [*guards(processes, addresses, port, python), *processes]


def guards(processes: list[Process], addresses: dict[Any, str], port: int | None, python: str) -> list[Process]:
    """A guard on each machine, which lets these processes reach those on the others; none for a single machine."""
    places = {number: host for host, number in addresses.items() if any(one.host == host for one in processes)}
    if len(places) < 2:
        return []
    secret, port = secrets.token_hex(32), port or free_port()
    machine_of = {one.environment["PORT"]: addresses[one.host] for one in processes}
    environment = forwarded_variables()

    def arguments(machine: str) -> dict[str, Any]:
        return {"address": machine, "port": port, "own": [one for one in machine_of if machine_of[one] == machine],
                "others": {one: (other, port) for one, other in machine_of.items() if other != machine}}
    return [Process(f"guard of {machine}", host, environment,
                    [python, "-m", "gluon_compress.workers.guard", json.dumps(arguments(machine))], secret)
            for machine, host in places.items()]


def address(host: str) -> str:
    """The numeric address of ``host`` or ``user@host``."""
    try:
        return socket.gethostbyname(host.rpartition("@")[2])
    except OSError as error:
        raise click.BadParameter(f"{host}: {error}; accepted: names or addresses that this machine can find",
                                 param_hint="--hosts") from error


def check_reachable(addresses: dict[Any, str]) -> None:
    """Refuse a host whose address has a meaning only on that host itself, unless it is the only one."""
    local = [host for host, number in addresses.items() if ipaddress.ip_address(number).is_loopback]
    if 0 < len(local) < len(addresses):
        raise click.BadParameter(f"{local[0]} has the address {addresses[local[0]]}, at which other machines do not "
                                 f"find it: write the one of its network", param_hint="--hosts")


def read_hosts(path: str) -> list[str]:
    """The hosts in a file, one per line; what follows a # is a comment."""
    with open(path) as lines:
        hosts = [line.partition("#")[0].strip() for line in lines]
    hosts = list(dict.fromkeys(filter(None, hosts)))
    if not hosts:
        raise click.BadParameter(f"{path} names no host; accepted: one host per line", param_hint="--hosts")
    for host in hosts:
        if not re.fullmatch(r"([\w.][\w.-]*@)?[\w.][\w.-]*", host):  # ssh would take -o for an option
            raise click.BadParameter(f"{path} has the line {host!r}; accepted: host or user@host, of letters, digits, "
                                     f"'.', '-' and '_'", param_hint="--hosts")
    return hosts


def free_port() -> int:
    """A free port of this machine, which is probably free on others too."""
    with socket.create_server(("", 0)) as server:
        return server.getsockname()[1]


def socket_numbers(count: int) -> list[int]:
    """Numbers of MXNet's sockets, in ascending order: no ports but names of files, far from those of other runs."""
    return sorted(random.SystemRandom().sample(range(10**8, 10**9), count))


def forwarded_variables() -> dict[str, Any]:
    """What the others need from this process's environment; not the threads that our import of MXNet chose."""
    chosen = "set by the user" in status().threads_reason
    return {name: value for name, value in os.environ.items() if name.startswith(FORWARDED)
            and (chosen or not name.startswith("OMP_"))}


def run(processes: Sequence[Process], ssh: Sequence[str] = ()) -> int:
    """Start all, wait for the workers; return 0, or 1 when a process failed and the others were ended."""
    ended: queue.Queue = queue.Queue()
    running = []
    try:
        for process in processes:
            process.start(ssh, ended)
            running.append(process)
        working = [process for process in processes if process.name.startswith("worker")]
        while working:
            process, code = ended.get()
            if code != 0:
                place = f" on {process.host}" if process.host else ""
                tell(f"{process.name}{place} {how(code)}{waited_for(process, working)}: ending the others")
                return 1
            working = [other for other in working if other is not process]  # a server may end before
        until = time.monotonic() + SECONDS_TO_END
        for process in running:  # scheduler and servers, which end by themselves now
            if process.name.startswith("guard"):
                continue
            try:
                process.handle.wait(max(0.1, until - time.monotonic()))
            except subprocess.TimeoutExpired:
                tell(f"{process.name} has not ended by itself")
                return 1
        return 0
    except KeyboardInterrupt:
        tell("interrupted: ending all")
        return 128 + signal.SIGINT
    finally:
        for process in running:
            process.end()
        until = time.monotonic() + SECONDS_TO_END
        for process in running:
            process.wait(until)


def waited_for(process: Process, working: list[Process]) -> str:
    """Which processes were missing, when a worker ended because it had waited too long for the others."""
    if not process.waits:
        return ""
    missing = [other.name for other in working if not other.waits]
    return f", having waited in vain for {', '.join(missing) or 'the servers'}"


def how(code: int) -> str:
    """How a process ended, from its status; a shell says 128 + n for signal n."""
    number = -code if code < 0 else code - 128
    if number in set(signal.Signals):
        return f"was ended by {signal.Signals(number).name}"
    return f"ended with status {code}"


def tell(message: str) -> None:
    print(f"[launch] {message}", file=sys.stderr, flush=True)


def split_command(option: str, text: str) -> list[str]:
    """The words of a command, as a shell splits them."""
    try:
        words = shlex.split(text)
    except ValueError as error:
        raise click.BadParameter(f"{text!r}: {error}; accepted: a command as for a shell", param_hint=option) from error
    if not words or not words[0]:
        raise click.BadParameter(f"{text!r} is empty; accepted: a command", param_hint=option)
    return words


def check_command(option: str, name: str) -> None:
    if shutil.which(name) is None:
        raise click.BadParameter(f"there is no command {name!r}", param_hint=option)


def check_script(path: str) -> None:
    """Refuse a script that no worker would find; Python takes a folder with a __main__.py, and -m, too."""
    if not path.startswith("-") and not os.path.isfile(path) and not os.path.isfile(os.path.join(path, "__main__.py")):
        raise click.BadParameter(f"there is no file {path!r}; accepted: the path of a Python script",
                                 param_hint="SCRIPT")


@click.command(context_settings={"allow_interspersed_args": False},
               help=__doc__.replace("\n    python", "\n\n\b\n    python", 1))
@click.option("--workers", type=click.IntRange(1), default=2, show_default=True)
@click.option("--servers", type=click.IntRange(1), default=1, show_default=True,
              help="How many servers sum the gradients; on several machines about one per machine.")
@click.option("--hosts", type=click.Path(exists=True, dir_okay=False),
              help="A file with a host, or user@host, per line. This directory and Python must be on all of them.")
@click.option("--ssh", default="ssh -o BatchMode=yes -o ServerAliveInterval=15", show_default=True,
              help="The command that runs another on a host: it gets the host and that command.")
@click.option("--port", type=click.IntRange(1, 65535),
              help="The port on which each of the hosts listens. Default: one that is free here.")
@click.option("--python", default=sys.executable,
              help="The interpreter of all processes. Default: the one that runs this.")
@click.argument("command", nargs=-1, required=True, metavar="SCRIPT [ARGUMENTS]...")
def main(workers: int, servers: int, hosts: str | None, ssh: str, port: int | None, python: str,
         command: tuple[str, ...]) -> None:
    if port and not hosts:
        raise click.BadParameter("on one machine nothing listens on a port; accepted: with --hosts only",
                                 param_hint="--port")
    ssh = split_command("--ssh", ssh)
    if hosts:
        check_command("--ssh", ssh[0])
    else:  # on other hosts these may be elsewhere
        check_command("--python", python)
        check_script(command[0])
    processes = cluster(workers, servers, read_hosts(hosts) if hosts else [], port, python, list(command))
    sys.exit(run(processes, ssh))
