"""What the processor can do, and what oneDNN 2.4.4 is told about it: AMX, and its cache of primitives."""
from __future__ import annotations

import ctypes
import os
import platform
import sys
from collections.abc import Callable, MutableMapping
from pathlib import Path

ISA_VARIABLES = ("DNNL_MAX_CPU_ISA", "ONEDNN_MAX_CPU_ISA")  # oneDNN 2.4.4 reads the first only
AMX_ISA = "AVX512_CORE_AMX"
ISAS_WITHOUT_AVX512 = ("SSE41", "AVX", "AVX2", "AVX2_VNNI")
PRIMITIVE_CACHE = "DNNL_PRIMITIVE_CACHE_CAPACITY"

# arch_prctl on x86-64, its request for an extended CPU state, and the number of the AMX tile data
# (Linux: arch/x86/include/uapi/asm/prctl.h, arch/x86/include/asm/fpu/types.h).
SYS_ARCH_PRCTL = 158
ARCH_REQ_XCOMP_PERM = 0x1023
XFEATURE_XTILEDATA = 18


def request_amx_tiles() -> int:
    """Ask Linux for the AMX tile registers; 0 when granted."""
    libc = ctypes.CDLL(None, use_errno=True)
    result = libc.syscall(ctypes.c_long(SYS_ARCH_PRCTL), ctypes.c_long(ARCH_REQ_XCOMP_PERM),
                          ctypes.c_long(XFEATURE_XTILEDATA))
    return 0 if result == 0 else ctypes.get_errno() or -1


def unlock_amx(environment: MutableMapping[str, str], cpuinfo: Path = Path("/proc/cpuinfo"),
               request_tiles: Callable[[], int] = request_amx_tiles) -> tuple[bool, str]:
    """Let oneDNN use AMX if CPU and kernel allow; return (on, reason).

    Without the kernel's grant a process that uses the tiles dies, so the variable is set only after the grant.
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


def _amx_obstacle(cpuinfo: Path, request_tiles: Callable[[], int]) -> str | None:
    """Ask for the tile registers; return what stands in the way of AMX, or None when they are granted."""
    if sys.platform != "linux" or platform.machine() not in ("x86_64", "AMD64"):
        return f"needs Linux on x86-64, this is {sys.platform} on {platform.machine()}"
    flags = cpu_flags(cpuinfo)
    if flags is None:
        return f"{cpuinfo} names no CPU flags"
    if not {"amx_tile", "amx_int8"} <= flags:
        return "this CPU has none"
    error = request_tiles()
    if error:
        return f"the kernel refused the tile registers: {os.strerror(error) if error > 0 else error}"
    return None


def cpu_flags(cpuinfo: Path) -> set[str] | None:
    """The processor's features as a set, or None where the system does not list them."""
    try:
        return set(next(line for line in cpuinfo.read_text().splitlines() if line.startswith("flags")).split())
    except (OSError, StopIteration):
        return None


def switch_primitive_cache_off(environment: MutableMapping[str, str], cpuinfo: Path = Path("/proc/cpuinfo")) -> str:
    """Keep MXNet's BatchNorm from ending the process on processors where it can; return the cache's state and why.

    oneDNN reads the variable when it makes its first primitive, even if MXNet was imported long before.
    """
    if PRIMITIVE_CACHE in environment:
        return f"as {PRIMITIVE_CACHE} was set by the user"
    flags = cpu_flags(cpuinfo)
    if flags is not None and "avx512f" not in flags:
        return "on (this CPU has no AVX-512)"
    if environment.get("DNNL_MAX_CPU_ISA", "").upper() in ISAS_WITHOUT_AVX512:
        return "on (DNNL_MAX_CPU_ISA hides AVX-512)"
    environment[PRIMITIVE_CACHE] = "0"
    return f"off ({PRIMITIVE_CACHE}=0), as BatchNorm can end the process when it is on"
