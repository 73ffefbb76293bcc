"""``gluon-compress runtime``: what this machine computes with."""
from __future__ import annotations

import importlib.metadata
import os
import platform
from pathlib import Path

from ..errors import to_install
from .command import command
from .run import Run

EXTRAS = {"onnx": ("onnx",), "engines": ("onnxruntime", "openvino"), "zoo": ("gluoncv",),
          "plots": ("matplotlib",)}  # {extra: packages}


@command
def runtime(run: Run) -> None:
    """Show the processor, the kernels it can use, versions, threads, and which extras are installed.

    \b
    Examples:
      gluon-compress runtime
      gluon-compress runtime --json
    """
    import gluon_compress as gc

    status = gc.runtime.status()
    installed = {package: installed_version(package) for packages in EXTRAS.values() for package in packages}
    run.give(processor=processor(), kernels=kernels(), gluon_compress=gc.__version__, **status.to_dict(),
             packages=installed)
    run.show(f"CPU      {processor()}\nkernels  {', '.join(kernels()) or 'none of those that oneDNN knows'}")
    run.show(f"gluon_compress {gc.__version__}\n{status}")
    for extra, packages in EXTRAS.items():
        missing = [package for package in packages if installed[package] is None]
        said = ", ".join(f"{package} {installed[package] or 'missing'}" for package in packages)
        run.show(f"extra {extra}: {said}" + (f" ({to_install(extra)})" if missing else ""))


def processor() -> str:
    """The processor's name."""
    for line in Path("/proc/cpuinfo").read_text().splitlines() if os.path.exists("/proc/cpuinfo") else ():
        if line.startswith("model name"):
            return line.partition(":")[2].strip()
    return platform.processor() or platform.machine()


def kernels() -> list[str]:
    """The sets of instructions for which oneDNN has kernels and that this processor has."""
    from ..runtime.onednn import cpu_flags

    flags = cpu_flags(Path("/proc/cpuinfo")) or set()
    return [name for name, flag in (("AVX2", "avx2"), ("AVX-512", "avx512f"), ("VNNI", "avx512_vnni"),
                                    ("AVX-VNNI", "avx_vnni"), ("AMX int8", "amx_int8")) if flag in flags]


def installed_version(package: str) -> str | None:
    """Its version; None where it is not installed."""
    try:
        return importlib.metadata.version(package)
    except importlib.metadata.PackageNotFoundError:
        return None
