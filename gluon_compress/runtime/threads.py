"""How many threads MXNet computes with, and how they wait for work."""
from __future__ import annotations

import ctypes
import math
import os
from collections.abc import MutableMapping

from .cgroups import cpu_quota

WAITING_SWITCH = "GLUON_COMPRESS_WAITING"
THREAD_VARIABLES = ("OMP_NUM_THREADS", "MXNET_OMP_MAX_THREADS")
WAITING = {"OMP_WAIT_POLICY": "active", "GOMP_SPINCOUNT": "100000"}  # some 0.1 ms of looking for work


def usable_cores() -> int:
    """Cores this process may use: its CPU affinity, capped by the CPU quota of its container."""
    try:
        cores = len(os.sched_getaffinity(0))
    except AttributeError:  # macOS, Windows
        cores = os.cpu_count() or 1
    quota = cpu_quota()
    return cores if quota is None else max(1, min(cores, math.ceil(quota)))


def set_threads(environment: MutableMapping[str, str], library_loaded: bool, cores: int) -> tuple[int, str]:
    """Choose the number of OpenMP threads; return (threads, reason).

    ``library_loaded``: MXNet's C++ library is in this process and has read ``OMP_NUM_THREADS``.
    """
    for name in THREAD_VARIABLES:
        if name in environment:
            threads = environment[name].split(",")[0]
            return (int(threads) if threads.isdigit() else cores), f"{name} was set by the user"
    if not library_loaded:
        environment["OMP_NUM_THREADS"] = str(cores)
        return cores, "OMP_NUM_THREADS set before MXNet's import"
    import mxnet
    mxnet.base.check_call(mxnet.base._LIB.MXSetNumOMPThreads(ctypes.c_int(cores)))
    return cores, "MXNet was imported first: MXSetNumOMPThreads, which OpenBLAS does not follow"


def set_waiting(environment: MutableMapping[str, str], library_loaded: bool, threads: int) -> str:
    """Let threads wait actively if the user asks for it; return how they wait and why."""
    asked = environment.get(WAITING_SWITCH)
    if asked not in (None, "", "active"):
        raise ValueError(f"the environment variable {WAITING_SWITCH} is {asked!r}; accepted: 'active', or unset to "
                         f"wait as OpenMP does")
    if asked != "active":
        return f"as OpenMP does ({WAITING_SWITCH}=active was not asked for)"
    chosen = next((name for name in WAITING if name in environment), None)
    if chosen:
        return f"as OpenMP does ({chosen} was set by the user)"
    if library_loaded or threads < 2:
        return f"as OpenMP does ({'MXNet was imported first' if library_loaded else 'one thread'})"
    environment.update(WAITING)
    return f"active ({', '.join(f'{name}={value}' for name, value in WAITING.items())} set before MXNet's import)"
