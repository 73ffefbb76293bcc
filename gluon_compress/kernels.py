"""Which kernels oneDNN runs in a forward pass: what a network really computes with, and where the time goes."""
import os
import re
import subprocess
import sys
import tempfile
from collections import Counter
from dataclasses import dataclass
from pathlib import Path

import mxnet as mx
import numpy as np

from .arguments import check_flag
from .checkpoint import load, save
from .errors import NetworkError
from .network import check_ready
from .progress import progress_bar
from .symbol_graph import example_inputs, trace
from .tables import format_table

MARK = "the pass begins"
TENSOR = re.compile(r"(src|wei|dst|data)_([a-z0-9]+):")


@dataclass(frozen=True)
class Kernel:
    """What oneDNN calls one of its implementations.

    Attributes
    ----------
    operator : str
        ``convolution``, ``inner_product``, ``pooling_v2``, ``reorder`` (a copy into another layout or type), ...
    implementation : str
        With the instructions it uses: ``brgconv:avx512_core_amx_int8``, ``jit:avx512_core_vnni``, ``jit:avx2``, ...
    types : str
        Of input, weight and output: ``u8 s8 -> u8``.
    """

    operator: str
    implementation: str
    types: str


@dataclass(frozen=True)
class KernelReport:
    """The kernels of one pass.

    Attributes
    ----------
    calls : dict
        {Kernel: how often it ran}.
    milliseconds : dict
        {Kernel: time in all of its calls}.
    """

    calls: dict
    milliseconds: dict

    def summary(self):
        """A table, the kernel that took longest first."""
        ranked = sorted(self.calls, key=self.milliseconds.get, reverse=True)
        return format_table(("operator", "kernel", "types", "calls", "ms"), [
            (kernel.operator, kernel.implementation, kernel.types, self.calls[kernel],
             f"{self.milliseconds[kernel]:.3f}") for kernel in ranked])

    __str__ = __repr__ = summary


def kernels_of(net, example, progress=True):
    """The :class:`KernelReport` of ``net(example)``, hybridized, in a process of its own.

    Operators that are not oneDNN's (slicing, most elementwise functions) are not in it.

    >>> print(kernels_of(int8, images))

    Parameters
    ----------
    net : HybridBlock
        An Int8Network is one.
    example : NDArray or tuple of NDArray
    progress : bool
        Show a progress bar on standard error.

    Raises ``NetworkError`` when the network cannot be traced, and where MXNet has no oneDNN.
    """
    check_ready(net)
    check_flag("progress", progress)
    inputs = example_inputs(example)
    trace(net, inputs).output_shapes([value.shape for value in inputs])  # does the example fit?
    with tempfile.TemporaryDirectory() as folder, progress_bar(
            show=progress, desc="kernels", total=2, unit="step") as bar:
        save(Path(folder) / "net.gcz", net, example=example)
        np.savez(Path(folder) / "inputs.npz", *(value.asnumpy() for value in inputs))
        command = [sys.executable, "-W", "ignore", "-c", "from gluon_compress import kernels; kernels.run()", folder,
                   *["simulated"] * getattr(net, "simulated", False)]
        bar.update()
        bar.set_postfix_str("a process of its own runs the network")
        environment = {**os.environ, "DNNL_VERBOSE": "1", "PYTHONPATH": os.pathsep.join(filter(None, sys.path))}
        process = subprocess.run(command, env=environment, capture_output=True, text=True)
    if process.returncode:
        raise NetworkError(f"the process that was to run the network ended with {process.returncode}: "
                           f"{process.stderr[-500:]}")
    return _report(process.stdout.rpartition(MARK)[2].splitlines())


def run():
    """What the other process does: a pass to choose kernels and lay out weights, and the one that counts."""
    folder = Path(sys.argv[1])
    net = load(folder / "net.gcz", **({"simulate": True} if "simulated" in sys.argv else {}))
    with np.load(folder / "inputs.npz") as file:
        inputs = [mx.nd.array(file[name], dtype=file[name].dtype) for name in file.files]
    for number in range(2):
        if number:
            os.write(1, f"{MARK}\n".encode())  # as oneDNN does, past Python's buffer
        net(*inputs)
        mx.nd.waitall()


def _report(lines):
    calls, milliseconds = Counter(), Counter()
    for line in lines:
        fields = line.split(",")
        if fields[:2] == ["dnnl_verbose", "exec"]:
            kernel = Kernel(fields[3], fields[4], _types(fields[6]))
            calls[kernel] += 1
            milliseconds[kernel] += float(fields[-1])
    if not calls:
        raise NetworkError("oneDNN reported no kernels: this build of MXNet has none, or no operator of the network is "
                           "one of its own")
    return KernelReport(dict(calls), dict(milliseconds))


def _types(tensors):
    """``u8 s8 -> u8`` of what oneDNN writes of them; elementwise operators have one type, ``data``."""
    types = dict(TENSOR.findall(tensors))
    if "dst" not in types:
        return types.get("data", "")
    return " ".join([*(types[name] for name in ("src", "wei") if name in types), "->", types["dst"]])
