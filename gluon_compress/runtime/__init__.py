"""Make MXNet 1.9.1 import, and use the machine it runs on.

Importing this module, which ``import gluon_compress`` does first, does seven things:

1. **NumPy.** MXNet 1.9.1 and gluoncv read names that NumPy 1.24, 2.0 and 2.4 removed, ``numpy.bool`` first of them.
   Those that are missing are put back (``numpy_names.py``); what NumPy has is not touched.
2. **Python.** MXNet imports ``distutils``, which Python 3.12 removed; setuptools' copy takes its place.
3. **Threads.** MXNet's OpenMP default is half of the logical cores. ``OMP_NUM_THREADS`` is set to
   the number of cores this process may use.
4. **Waiting**, when it is asked for with ``GLUON_COMPRESS_WAITING=active``. Between two operators OpenMP's threads
   wait for work. GNU's library lets them sleep almost at once when a process has more of them than cores, as MXNet has;
   waking them takes as long as a small int8 layer. They are told to look for work a little longer
   (``OMP_WAIT_POLICY``, ``GOMP_SPINCOUNT``). On a machine of one's own, single images are then done sooner. Where other
   programs run, it takes their time and is slower itself: ``benchmarks/waiting.py`` measures both.
5. **AMX.** oneDNN 2.4.4 keeps its AMX int8 kernels opt-in, and Linux >= 5.16 wants to be asked for
   the tile registers first. We ask, and opt in only when the kernel grants them.
6. **oneDNN's cache of primitives** is off where the processor has AVX-512. The cache takes (N, C, 1, 1) images in
   channels-last order, which 1x1 convolutions write there, for those in plain order, as both lie alike in memory. It
   gives a primitive made for one to the other. MXNet's BatchNorm of a matrix (N, C), which needs the plain order, then
   ends the process (SIGSEGV). MXNet has a cache of its own. The cost is laying weights out anew in every training step:
   none could be measured for ResNet-18, AlexNet, LeNet and all inference, 5 % of MobileNet 1.0 and a fifth to a half of
   MobileNet 0.25 on 32x32 images. Where no such BatchNorm is used, ``DNNL_PRIMITIVE_CACHE_CAPACITY=1024`` brings it
   back.

7. **Time.** Where SciPy is installed, MXNet imports its statistics for one method of its quantization: a quarter of the
   import's time. They are imported when MXNet reads them, and Python looks for no garbage during the import
   (``late_imports.py``).

``OMP_NUM_THREADS``, ``MXNET_OMP_MAX_THREADS``, ``OMP_WAIT_POLICY``, ``GOMP_SPINCOUNT``, ``DNNL_MAX_CPU_ISA``,
``ONEDNN_MAX_CPU_ISA`` and ``DNNL_PRIMITIVE_CACHE_CAPACITY`` win when they are set already. ``GLUON_COMPRESS_RUNTIME=0``
switches 3 to 6 off.

The variables are inherited by child processes, the kernel's grant is not: a child that runs int8
networks must ``import gluon_compress`` as well.
"""
from __future__ import annotations

import importlib.util
import os
import sys
import textwrap
from dataclasses import asdict, dataclass

import numpy

from .late_imports import late_statistics, no_garbage_collected
from .numpy_names import restore_names
from .onednn import switch_primitive_cache_off, unlock_amx
from .parameter_server import import_mxnet
from .standard_library import restore_distutils
from .threads import set_threads, set_waiting, usable_cores

__all__ = ["RuntimeStatus", "status", "usable_cores"]

SWITCH = "GLUON_COMPRESS_RUNTIME"


@dataclass(frozen=True)
class RuntimeStatus:
    """What was done to MXNet's surroundings, and why. ``str()`` gives one line per item."""

    mxnet: str
    numpy: str
    numpy_names: tuple
    distutils: str
    cores: int
    threads: int
    threads_reason: str
    waiting: str
    amx: bool
    amx_reason: str
    primitive_cache: str

    def to_dict(self) -> dict:
        return asdict(self)

    def __str__(self) -> str:
        names = f"put back: {', '.join(self.numpy_names)}" if self.numpy_names else "untouched"
        return "\n".join([
            f"MXNet    {self.mxnet}",
            *textwrap.wrap(f"NumPy    {self.numpy} ({names})", width=100, subsequent_indent=" " * 9),
            f"Python   {sys.version.split()[0]} (distutils: {self.distutils})",
            f"threads  {self.threads} of {self.cores} usable cores ({self.threads_reason})",
            f"waiting  {self.waiting}",
            f"AMX      {'on' if self.amx else 'off'} ({self.amx_reason})",
            f"cache    {self.primitive_cache}",
        ])


def _check_mxnet_is_there() -> None:
    if importlib.util.find_spec("mxnet") is None:
        raise ImportError("gluon_compress works on MXNet 1.9.1, which is not installed; accepted: pip install "
                          "--no-deps mxnet==1.9.1 (without --no-deps pip replaces NumPy 2, which works)")


def _prepare() -> RuntimeStatus:
    _check_mxnet_is_there()
    names, distutils = restore_names(), restore_distutils()
    library_loaded = "mxnet.base" in sys.modules  # also after an import of MXNet that failed
    cores = usable_cores()
    if os.environ.get(SWITCH) == "0":
        reason = f"{SWITCH}=0"
        threads, threads_reason, waiting, amx, amx_reason, cache = 0, reason, reason, False, reason, reason
    else:
        threads, threads_reason = set_threads(os.environ, library_loaded, cores)
        waiting = set_waiting(os.environ, library_loaded, threads)
        amx, amx_reason = unlock_amx(os.environ)
        cache = switch_primitive_cache_off(os.environ)
    with late_statistics(), no_garbage_collected():
        mxnet = import_mxnet()
    return RuntimeStatus(mxnet.__version__, numpy.__version__, names, distutils, cores, threads, threads_reason,
                         waiting, amx, amx_reason, cache)


_status = _prepare()


def status() -> RuntimeStatus:
    """The :class:`RuntimeStatus` of this process."""
    return _status
