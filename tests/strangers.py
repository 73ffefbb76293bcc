"""Somebody who can reach a port and speaks the protocol of MXNet's parameter server, without any credentials."""
import os
import pickle
import socket
import time

GREETING = b"\xff" + bytes(8) + b"\x7f" + b"\x03\x00" + b"NULL".ljust(20, b"\0") + bytes(32)  # of ZMTP 3.0
GARBAGE = b"\x0c\x00something" * 20  # which the server takes for messages of ZMTP 1.0


class Trap:
    """Unpickled, it makes a folder."""

    def __init__(self, path):
        self.path = str(path)

    def __reduce__(self):
        return os.mkdir, (self.path,)


def command(number, body):
    """What to say to give a server this command, as if from worker 0: identity ``ps09``, which is read as ``ps9``."""
    properties = b"".join(bytes([len(name)]) + name + len(value).to_bytes(4, "big") + value
                          for name, value in ((b"Socket-Type", b"DEALER"), (b"Identity", b"ps09")))
    ready = b"\x05READY" + properties
    # ps-lite's PBMeta: head 1, body 2, request 4, simple_app 6, app_id 7, timestamp 8, customer_id 10
    meta = bytes([0x08, number, 0x12, *_varint(len(body)), *body, 0x20, 1, 0x30, 1, 0x38, 0, 0x40, 0, 0x50, 0])
    return GREETING, bytes([4, len(ready)]) + ready, b"\x02" + len(meta).to_bytes(8, "big") + meta


def _varint(number):
    while number > 127:
        yield number & 127 | 128
        number >>= 7
    yield number


def send_pickle(place, path):
    """Send command 0 with a pickle that makes a folder at ``path``; in protocol 0, as a body ends at a zero byte."""
    say(place, *command(0, pickle.dumps(Trap(path), 0)))


def wait_for(place, seconds=60):
    """Until somebody listens there: the guards of hosts that are one machine may come after its processes have met."""
    end = time.monotonic() + seconds
    while True:
        try:
            return socket.create_connection(place, timeout=0.5).close()
        except ConnectionRefusedError:
            if time.monotonic() > end:
                raise
            time.sleep(0.1)


def say(place, *words):
    """Connect and say this, listening after each word until the other side is silent or closes."""
    with socket.create_connection(place, timeout=0.5) as connection:
        for word in words:
            try:
                connection.sendall(word)
                while connection.recv(4096):
                    pass
            except OSError:
                pass
