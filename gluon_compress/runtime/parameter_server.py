"""The scheduler and the servers of MXNet's parameter server, which run nothing that comes over the network.

MXNet 1.9.1 serves while it is imported, in a process whose ``DMLC_ROLE`` says so, and unpickles what anyone sends as
command 0: an optimizer, or any program. It is first imported here without a role, and then serves with that command
refused. Nothing needs that command: the workers update the weights themselves.
"""
from __future__ import annotations

import os
import socket
import sys
from typing import Any

ROLES = ("scheduler", "server")
LAUNCHED = "GLUON_COMPRESS_LAUNCHED"  # set by gluon_compress.workers, whose servers are those below


def import_mxnet() -> Any:
    """Import MXNet; in a process that is to be a scheduler or a server, serve until the workers end, and exit."""
    role = os.environ.get("DMLC_ROLE")
    if role not in ROLES or "mxnet" in sys.modules:
        import mxnet
    else:
        _check_port(role)
        del os.environ["DMLC_ROLE"]
        import mxnet
        os.environ["DMLC_ROLE"] = role
        _serve(mxnet.kvstore)
    if role == "worker" and LAUNCHED in os.environ:
        mxnet.kvstore.KVStore.set_optimizer = _set_no_optimizer
    return mxnet


def _check_port(role: str) -> None:
    """Say so when the port is taken, where the scheduler would end in an MXNet stack trace."""
    place = os.environ.get("DMLC_NODE_HOST", ""), int(os.environ.get("DMLC_PS_ROOT_PORT", 0))
    if role == "scheduler" and os.environ.get("DMLC_LOCAL", "0") == "0":
        try:
            socket.create_server(place).close()
        except OSError as error:
            sys.exit(f"the scheduler cannot listen on port {place[1]} of {place[0] or 'this machine'}: "
                     f"{os.strerror(error.errno or 0)}; accepted: a free port in DMLC_PS_ROOT_PORT, and an address of "
                     f"this machine in DMLC_NODE_HOST")


def _serve(kvstore: Any) -> None:
    os.umask(0o077)  # nobody else may connect to sockets that are files
    server = kvstore.KVStoreServer(kvstore.create("dist"))
    server._controller = lambda: _refuse
    server.run()
    sys.exit()


def _refuse(command: int, body: Any, _: Any) -> None:
    """What MXNet's servers call with a command that they do not know themselves."""
    print(f"refused command {command} with {len(body or b'')} bytes: these servers take no optimizer and run nothing "
          f"that comes over the network. A trainer of a worker that sent it (update_on_kvstore) does not train: "
          f"kvstore=gluon_compress.workers.connect()", file=sys.stderr, flush=True)


def _set_no_optimizer(store: Any, optimizer: Any) -> None:
    raise ValueError(f"servers of gluon_compress.workers take no optimizer, and the trainer's "
                     f"{type(optimizer).__name__} would go to them; accepted: "
                     f"kvstore=gluon_compress.workers.connect(), or update_on_kvstore=False")
