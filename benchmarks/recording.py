"""What every benchmark does at its end: say on which machine it ran, and keep its numbers and what it printed.

A result is two files beside each other in ``results``: ``<name>.json`` with all numbers and conditions, and
``<name>.txt`` with the table that ``publish.py`` puts into the pages.
"""
from __future__ import annotations

import json
import os
import platform
from pathlib import Path
from typing import Any

import gluon_compress as gc  # before mxnet: see gluon_compress/runtime
import mxnet as mx
import numpy as np
from gluon_compress.files.writing import write_atomically

RESULTS = Path(__file__).resolve().parent / "results"
INSTRUCTIONS = ("amx_int8", "avx512_vnni", "avx_vnni", "avx2")  # for integers, the widest first


def write_result(path: Path, content: Any, text: str) -> Path:
    """Keep numbers as the JSON file at ``path`` and what was printed as the ``.txt`` beside it; return the latter."""
    write_json(path, content)
    return write_text(path.with_suffix(".txt"), text)


def write_json(path: Path, content: Any) -> Path:
    """Keep numbers and their conditions as a JSON file; return its path."""
    return write_text(path, json.dumps(content, indent=1))


def write_text(path: Path, text: str) -> Path:
    """Keep what was printed, with one newline at its end; return the path."""
    path.parent.mkdir(parents=True, exist_ok=True)
    write_atomically(path, lambda temporary: temporary.write_text(text.rstrip("\n") + "\n"))
    return path


def describe_machine() -> dict[str, Any]:
    """The conditions of a measurement: processor, load, system, versions, what our runtime set."""
    return {"cpu": cpu_name(), "cores": os.cpu_count(), "load before": round(os.getloadavg()[2], 1),
            "system": platform.platform(), "python": platform.python_version(), "mxnet": mx.__version__,
            "numpy": np.__version__, "runtime": gc.runtime.status().to_dict()}


def cpu_name() -> str:
    """The model of the processor, and the widest instructions for integers that it has."""
    flags = cpu_flags()
    widest = [flag for flag in INSTRUCTIONS if flag in flags][:1]
    return f"{_cpu_line('model name') or platform.processor()} ({', '.join(widest)})"


def cpu_flags() -> list[str]:
    """What the processor can do, as Linux calls it: ``avx2``, ``avx512_vnni``, ..."""
    return _cpu_line("flags").split()


def _cpu_line(start: str) -> str:
    """The value of the first line of ``/proc/cpuinfo`` that begins so; "" where there is none."""
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        return ""
    return next((line.partition(":")[2].strip() for line in lines if line.startswith(start)), "")
