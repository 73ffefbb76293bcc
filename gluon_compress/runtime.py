"""Make MXNet 1.9.1 import, and use the machine it runs on.

Importing this module, which ``import gluon_compress`` does first, does five things:

1. **NumPy.** MXNet 1.9.1 reads ``numpy.bool``, which NumPy 1.24 removed. It is put back when it is
   missing and MXNet is still to be imported; otherwise NumPy is not touched.
2. **Threads.** MXNet's OpenMP default is half of the logical cores. ``OMP_NUM_THREADS`` is set to
   the number of cores this process may use.
3. **Waiting**, when it is asked for with ``GLUON_COMPRESS_WAITING=active``. Between two operators OpenMP's threads
   wait for work. GNU's library lets them sleep almost at once when a process has more of them than cores, as MXNet has;
   waking them takes as long as a small int8 layer. They are told to look for work a little longer
   (``OMP_WAIT_POLICY``, ``GOMP_SPINCOUNT``). That serves single images sooner on a machine of one's own. Where other
   programs run it takes their time and is slower itself: ``benchmarks/waiting.py`` measures both.
4. **AMX.** oneDNN 2.4.4 keeps its AMX int8 kernels opt-in, and Linux >= 5.16 wants to be asked for
   the tile registers first. We ask, and opt in only when the kernel grants them.
5. **oneDNN's cache of primitives** is off where the processor has AVX-512. For it (N, C, 1, 1) images in channels-last
   order, which 1x1 convolutions write there, equal those in plain order, as both lie alike in memory; it gives what was
   made for one to the other, and MXNet's BatchNorm of a matrix (N, C), which needs the plain order, ends the process
   (SIGSEGV). MXNet has a cache of its own. What lays weights out anew in every step of a training pays: nothing could
   be measured of ResNet-18, AlexNet, LeNet and all inference, 5 % of MobileNet 1.0 and a fifth to a half of MobileNet
   0.25 on 32x32 images. Where no such BatchNorm is near, ``DNNL_PRIMITIVE_CACHE_CAPACITY=1024`` brings it back.

``OMP_NUM_THREADS``, ``MXNET_OMP_MAX_THREADS``, ``OMP_WAIT_POLICY``, ``GOMP_SPINCOUNT``, ``DNNL_MAX_CPU_ISA``,
``ONEDNN_MAX_CPU_ISA`` and ``DNNL_PRIMITIVE_CACHE_CAPACITY`` win when they are set already. ``GLUON_COMPRESS_RUNTIME=0``
switches 2 to 5 off.

The variables are inherited by child processes, the kernel's grant is not: a child that runs int8
networks must ``import gluon_compress`` as well.
"""
import ctypes
import math
import os
import platform
import sys
import warnings
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy

from .cgroups import cpu_quota
from .parameter_server import import_mxnet

__all__ = ["RuntimeStatus", "status", "usable_cores"]

SWITCH = "GLUON_COMPRESS_RUNTIME"
WAITING_SWITCH = "GLUON_COMPRESS_WAITING"
THREAD_VARIABLES = ("OMP_NUM_THREADS", "MXNET_OMP_MAX_THREADS")
WAITING = {"OMP_WAIT_POLICY": "active", "GOMP_SPINCOUNT": "100000"}  # some 0.1 ms of looking for work
ISA_VARIABLES = ("DNNL_MAX_CPU_ISA", "ONEDNN_MAX_CPU_ISA")  # oneDNN 2.4.4 reads the first only
AMX_ISA = "AVX512_CORE_AMX"
ISAS_WITHOUT_AVX512 = ("SSE41", "AVX", "AVX2", "AVX2_VNNI")
PRIMITIVE_CACHE = "DNNL_PRIMITIVE_CACHE_CAPACITY"

# arch_prctl on x86-64, its request for an extended CPU state, and the number of the AMX tile data
# (Linux: arch/x86/include/uapi/asm/prctl.h, arch/x86/include/asm/fpu/types.h).
SYS_ARCH_PRCTL = 158
ARCH_REQ_XCOMP_PERM = 0x1023
XFEATURE_XTILEDATA = 18


@dataclass(frozen=True)
class RuntimeStatus:
    """What was done to MXNet's surroundings, and why. ``str()`` gives one line per item."""

    mxnet: str
    numpy: str
    numpy_shim: bool
    cores: int
    threads: int
    threads_reason: str
    waiting: str
    amx: bool
    amx_reason: str
    primitive_cache: str

    def to_dict(self):
        return asdict(self)

    def __str__(self):
        shim = "numpy.bool put back" if self.numpy_shim else "untouched"
        return "\n".join([
            f"MXNet    {self.mxnet}",
            f"NumPy    {self.numpy} ({shim})",
            f"threads  {self.threads} of {self.cores} usable cores ({self.threads_reason})",
            f"waiting  {self.waiting}",
            f"AMX      {'on' if self.amx else 'off'} ({self.amx_reason})",
            f"cache    {self.primitive_cache}",
        ])


def check_numpy_version(version):
    """Raise ``ImportError`` for a NumPy that MXNet 1.9.1 cannot work with."""
    if int(version.split(".")[0]) >= 2:
        raise ImportError(
            f"MXNet 1.9.1 does not work with NumPy {version}: install the last NumPy 1 with "
            f"\"pip install 'numpy<2'\"")


def restore_numpy_bool(numpy_module, mxnet_imported):
    """Put ``numpy.bool`` back if MXNet, still to be imported, would miss it; say whether it was done.

    Python's own ``bool`` is what ``numpy.bool`` was until NumPy 1.24, but MXNet looks it up in tables of
    NumPy types, so it becomes ``numpy.bool_``.
    """
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # 1.20 to 1.23 still have the name, with a warning
        if mxnet_imported or hasattr(numpy_module, "bool"):
            return False
    numpy_module.bool = numpy_module.bool_
    return True


def usable_cores():
    """Cores this process may use: its CPU affinity, capped by the CPU quota of its container."""
    try:
        cores = len(os.sched_getaffinity(0))
    except AttributeError:  # macOS, Windows
        cores = os.cpu_count() or 1
    quota = cpu_quota()
    return cores if quota is None else max(1, min(cores, math.ceil(quota)))


def _set_threads(environment, library_loaded, cores):
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


def _set_waiting(environment, library_loaded, threads):
    """Let threads wait actively if the user asks for it; return how they wait, and why."""
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


def _request_amx_tiles():
    """Ask Linux for the AMX tile registers; 0 when granted."""
    libc = ctypes.CDLL(None, use_errno=True)
    result = libc.syscall(ctypes.c_long(SYS_ARCH_PRCTL), ctypes.c_long(ARCH_REQ_XCOMP_PERM),
                          ctypes.c_long(XFEATURE_XTILEDATA))
    return 0 if result == 0 else ctypes.get_errno() or -1


def _unlock_amx(environment, cpuinfo=Path("/proc/cpuinfo"), request_tiles=_request_amx_tiles):
    """Let oneDNN use AMX if CPU and kernel allow; return (on, reason).

    Without the kernel's grant a process that uses the tiles dies, so the variable is only set after it.
    """
    chosen = next((name for name in ISA_VARIABLES if name in environment), None)
    if chosen and environment.get("DNNL_MAX_CPU_ISA", "").upper() != AMX_ISA:
        return False, f"{chosen} was set by the user"
    obstacle = _amx_obstacle(cpuinfo, request_tiles)
    if chosen:  # perhaps inherited from a process that had the grant, which is not inherited
        return not obstacle, f"{chosen} was set by the user; {obstacle or 'granted by the kernel'}"
    if obstacle:
        return False, obstacle
    environment["DNNL_MAX_CPU_ISA"] = AMX_ISA
    return True, f"granted by the kernel, DNNL_MAX_CPU_ISA={AMX_ISA}"


def _amx_obstacle(cpuinfo, request_tiles):
    """Ask for the tile registers; return what stands in the way of AMX, or None when they are granted."""
    if sys.platform != "linux" or platform.machine() not in ("x86_64", "AMD64"):
        return f"needs Linux on x86-64, this is {sys.platform} on {platform.machine()}"
    flags = _cpu_flags(cpuinfo)
    if flags is None:
        return f"{cpuinfo} names no CPU flags"
    if not {"amx_tile", "amx_int8"} <= flags:
        return "this CPU has none"
    error = request_tiles()
    if error:
        return f"the kernel refused the tile registers: {os.strerror(error) if error > 0 else error}"
    return None


def _cpu_flags(cpuinfo):
    """The set of what the processor can do, or None where nothing says it."""
    try:
        return set(next(line for line in cpuinfo.read_text().splitlines() if line.startswith("flags")).split())
    except (OSError, StopIteration):
        return None


def _switch_primitive_cache_off(environment, cpuinfo=Path("/proc/cpuinfo")):
    """Keep MXNet's BatchNorm from ending the process, on processors where it can; return the cache's state, and why.

    oneDNN reads the variable with the first primitive, also when MXNet was imported long before.
    """
    if PRIMITIVE_CACHE in environment:
        return f"as {PRIMITIVE_CACHE} was set by the user"
    flags = _cpu_flags(cpuinfo)
    if flags is not None and "avx512f" not in flags:
        return "on (this CPU has no AVX-512)"
    if environment.get("DNNL_MAX_CPU_ISA", "").upper() in ISAS_WITHOUT_AVX512:
        return "on (DNNL_MAX_CPU_ISA hides AVX-512)"
    environment[PRIMITIVE_CACHE] = "0"
    return f"off ({PRIMITIVE_CACHE}=0), as BatchNorm can end the process when it is on"


def _prepare():
    check_numpy_version(numpy.__version__)
    shim = restore_numpy_bool(numpy, mxnet_imported="mxnet" in sys.modules)
    library_loaded = "mxnet.base" in sys.modules  # also after an import of MXNet that failed
    cores = usable_cores()
    if os.environ.get(SWITCH) == "0":
        reason = f"{SWITCH}=0"
        threads, threads_reason, waiting, amx, amx_reason, cache = 0, reason, reason, False, reason, reason
    else:
        threads, threads_reason = _set_threads(os.environ, library_loaded, cores)
        waiting = _set_waiting(os.environ, library_loaded, threads)
        amx, amx_reason = _unlock_amx(os.environ)
        cache = _switch_primitive_cache_off(os.environ)
    mxnet = import_mxnet()
    return RuntimeStatus(mxnet.__version__, numpy.__version__, shim, cores, threads, threads_reason, waiting,
                         amx, amx_reason, cache)


_status = _prepare()


def status():
    """The :class:`RuntimeStatus` of this process."""
    return _status
