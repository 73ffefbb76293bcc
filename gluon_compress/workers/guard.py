"""Lets the processes of a training on several machines reach each other, and nobody else reach them.

MXNet's parameter server trusts whoever connects, and a few unexpected bytes end it. So its processes listen on no
network: they meet through sockets that are files of one user (``DMLC_LOCAL``). On each machine one guard carries those
connections to the guards of the others, which take them only from a guard that knows the secret of the run:

    guard that asks                      guard that is asked
                        <- 32 random bytes
    32 random bytes, the socket's number,
    HMAC-SHA256 over all of it ->
                        <- HMAC-SHA256 over the same, for the other direction
    then what MXNet sends, as it is

What follows is not encrypted: whoever can listen to the network sees it, and whoever can change packets can change it.
"""
from __future__ import annotations

import hmac
import json
import os
import secrets
import signal
import socket
import sys
import threading
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

SECRET = "GLUON_COMPRESS_GUARD_SECRET"
FOLDER = Path("/tmp")  # where MXNet's ps-lite puts its sockets
RANDOM_BYTES = 32
TARGET_BYTES = 10      # the number of a socket, in decimal
SECONDS = 10           # how long a stranger may take to prove that it knows the secret
STRANGERS = 64         # how many at once, and how many refusals are told
PIECE_BYTES = 1 << 20


class Guard:
    """``own``: numbers of the sockets of this machine; ``others``: {number: (address, port) of its guard}."""

    def __init__(self, secret: bytes, address: str, port: int, own: Iterable[int], others: dict[int, tuple[str, int]],
                 folder: Path = FOLDER) -> None:
        self.secret, self.own, self.others, self.folder = secret, set(own), others, folder
        self.strangers = threading.Semaphore(STRANGERS)
        self.told = 0
        self.server = socket.create_server((address, port))
        self.doors = {number: door for number in others if (door := self._open_door(number))}

    def start(self) -> None:
        """Begin to carry connections, in threads."""
        _in_thread(self._accept, self.server, self._let_in)
        for number, door in self.doors.items():
            _in_thread(self._accept, door, self._go_out, number)

    def close(self) -> None:
        """Stop listening, and remove the files."""
        self.server.close()
        for number, door in self.doors.items():
            door.close()
            if self._path(number).is_symlink():
                self._path(number).unlink(missing_ok=True)
            self._path(number, ".guard").unlink(missing_ok=True)

    def _path(self, number: int, end: str = "") -> Path:
        return self.folder / f"{number}{end}"

    def _open_door(self, number: int) -> socket.socket | None:
        """A socket in place of that of a process elsewhere; None when that process, or a guard, is on this machine."""
        door, path = socket.socket(socket.AF_UNIX), self._path(number, ".guard")
        try:
            door.bind(str(path))
        except OSError:
            door.close()
            return None
        try:
            door.listen()
            self._path(number).symlink_to(path.name)
        except OSError:
            path.unlink()
            door.close()
            return None
        return door

    def _accept(self, listener: socket.socket, handle: Callable[..., object], *arguments: Any) -> None:
        while True:
            try:
                connection, peer = listener.accept()
            except OSError:
                return  # closed
            if handle == self._let_in and not self.strangers.acquire(blocking=False):
                connection.close()
                continue
            _in_thread(handle, connection, peer, *arguments)

    def _let_in(self, connection: socket.socket, peer: Any) -> None:
        """Carry a connection from another guard to the socket it asks for."""
        try:
            number = self._identify(connection)
        finally:
            self.strangers.release()
        path = self._path(number) if number is not None else None
        if path is None:
            self._tell(peer)
        if path is None or number not in self.own or path.is_symlink():
            return connection.close()
        inside = socket.socket(socket.AF_UNIX)
        try:
            inside.connect(str(path))
        except OSError:  # not there yet: the other side tries again
            inside.close()
            return connection.close()
        _carry(connection, inside)

    def _identify(self, connection: socket.socket) -> int | None:
        """The number of the socket that another guard asks for; None for a stranger."""
        try:
            connection.settimeout(SECONDS)
            asked = secrets.token_bytes(RANDOM_BYTES)
            connection.sendall(asked)
            said = _receive(connection, RANDOM_BYTES + TARGET_BYTES)
            if not hmac.compare_digest(_receive(connection, RANDOM_BYTES), self._sign(b"ask", asked + said)):
                return None
            connection.sendall(self._sign(b"answer", asked + said))
            connection.settimeout(None)
            return int(said[RANDOM_BYTES:])
        except (OSError, ValueError):
            return None

    def _go_out(self, connection: socket.socket, _: Any, number: int) -> None:
        """Carry a connection of a process here to the guard of the one that it is meant for."""
        try:
            outside = socket.create_connection(self.others[number], timeout=SECONDS)
        except OSError:  # not there yet: MXNet tries again
            return connection.close()
        try:
            asked = _receive(outside, RANDOM_BYTES)
            said = secrets.token_bytes(RANDOM_BYTES) + b"%0*d" % (TARGET_BYTES, number)
            outside.sendall(said + self._sign(b"ask", asked + said))
            if hmac.compare_digest(_receive(outside, RANDOM_BYTES), self._sign(b"answer", asked + said)):
                outside.settimeout(None)
                return _carry(connection, outside)
        except OSError:
            pass
        outside.close()
        connection.close()

    def _sign(self, direction: bytes, content: bytes) -> bytes:
        return hmac.digest(self.secret, direction + content, "sha256")

    def _tell(self, peer: Any) -> None:
        self.told += 1
        if self.told <= STRANGERS:
            print(f"refused a connection from {peer[0]}, which does not know the secret of this run", file=sys.stderr,
                  flush=True)


def _in_thread(function: Callable[..., object], *arguments: Any) -> None:
    threading.Thread(target=function, args=arguments, daemon=True).start()


def _receive(connection: socket.socket, count: int) -> bytes:
    """Exactly ``count`` bytes; ``ConnectionError`` when fewer come."""
    content = bytearray()
    while len(content) < count:
        piece = connection.recv(count - len(content))
        if not piece:
            raise ConnectionError("closed")
        content += piece
    return bytes(content)


def _carry(first: socket.socket, second: socket.socket) -> None:
    """Carry what each side sends to the other, until one closes."""
    for connection in (first, second):
        if connection.family == socket.AF_INET:
            connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    _in_thread(_carry_one_way, first, second)
    _carry_one_way(second, first)


def _carry_one_way(source: socket.socket, target: socket.socket) -> None:
    buffer = memoryview(bytearray(PIECE_BYTES))
    try:
        while count := source.recv_into(buffer):
            target.sendall(buffer[:count])
    except OSError:
        pass
    for connection in (source, target):
        try:
            connection.shutdown(socket.SHUT_RDWR)
        except OSError:
            pass  # closed by the other direction


def main() -> None:
    """The process of a guard: ``python -m gluon_compress.workers.guard JSON``, the secret in the environment."""
    asked = json.loads(sys.argv[1])
    os.umask(0o077)
    signal.signal(signal.SIGTERM, lambda *_: sys.exit())
    others = {int(number): tuple(place) for number, place in asked["others"].items()}
    try:
        guard = Guard(os.environ.pop(SECRET).encode(), asked["address"], asked["port"], asked["own"], others)
    except OSError as error:
        sys.exit(f"port {asked['port']} of {asked['address']} cannot be listened on: {os.strerror(error.errno or 0)}; "
                 f"accepted: a free port of all hosts (--port), and hosts by the addresses that they have themselves")
    try:
        guard.start()
        threading.Event().wait()
    finally:
        guard.close()


if __name__ == "__main__":
    main()
