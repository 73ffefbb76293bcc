"""Which kernels and operators run in a forward pass: what a network really computes with, where the time goes."""
from __future__ import annotations

import json
import os
import re
import subprocess
import sys
import tempfile
from collections import Counter, defaultdict
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import mxnet as mx
import numpy as np
from mxnet.gluon import HybridBlock

from ..arguments import check_flag, check_integer
from ..checkpoint import load, save
from ..errors import NetworkError
from ..network.checks import check_ready
from ..network.graph import Graph
from ..network.inputs import example_inputs
from ..network.misfits import shorten
from ..network.nodes import in_order
from ..quantization import IntegerNetwork
from ..quantization.integers.islands import between
from ..runtime import status
from ..tables import format_table, progress_bar

__all__ = ["Kernel", "KernelReport", "kernels_of", "measure_islands", "operator_times"]

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
        The types of input, weight and output: ``u8 s8 -> u8``.
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

    def summary(self) -> str:
        """A table, the kernel that took longest first."""
        ranked = sorted(self.calls, key=self.milliseconds.__getitem__, reverse=True)
        return format_table(("operator", "kernel", "types", "calls", "ms"), [
            (kernel.operator, kernel.implementation, kernel.types, self.calls[kernel],
             f"{self.milliseconds[kernel]:.3f}") for kernel in ranked])

    __str__ = __repr__ = summary


def kernels_of(net: HybridBlock, example: Any, progress: bool = True) -> KernelReport:
    """The :class:`KernelReport` of ``net(example)``, hybridized, in a process of its own.

    Operators that are not oneDNN's (slicing, most elementwise functions) are not in it.

    >>> print(kernels_of(int8, images))

    Parameters
    ----------
    net : HybridBlock
        An IntegerNetwork is one.
    example : NDArray or tuple of NDArray
    progress : bool
        Show a progress bar on standard error.

    Raises ``NetworkError`` when the network cannot be traced, and where MXNet has no oneDNN.
    """
    output = _in_process_of_its_own("run", net, example, progress, DNNL_VERBOSE="1")
    return _report(output.rpartition(MARK)[2].splitlines())


def operator_times(net: HybridBlock, example: Any, repeats: int = 10,
                   progress: bool = True) -> list[tuple[str, str, float]]:
    """[(name, operator, milliseconds)] of MXNet's operators in the median of so many forward passes, in their order.

    The passes run in a process of its own in which each operator of the graph runs alone, and is waited for before
    the next one begins. The arguments are as for :func:`kernels_of`.
    """
    check_integer("repeats", repeats, minimum=1)
    one_by_one = {"MXNET_ENGINE_TYPE": "NaiveEngine", "MXNET_EXEC_BULK_EXEC_INFERENCE": "0",
                  "MXNET_ELIMINATE_COMMON_EXPR": "0"}
    output = _in_process_of_its_own("time_operators", net, example, progress, str(repeats), **one_by_one)
    return [tuple(row) for row in json.loads(output.rpartition(MARK)[2])]


def measure_islands(net: HybridBlock, example: Any, progress: bool = True) -> float:
    """What share of a forward pass an :class:`IntegerNetwork` spends in fp32 between its integer layers, in [0, 1].

    Writes into ``net.record.islands`` the ``share`` of each operator that is named there; conversions to integers and
    back count in the sum, which is ``record.islands_share``, and belong to none. ``record.islands_measured`` says what
    for. The operators run one after the other: see :func:`operator_times`.

    >>> measure_islands(int8, images)
    0.21
    >>> print(int8.record)

    Raises ``TypeError`` for other networks, ``NetworkError`` for one that is simulated, and whose time says nothing.
    """
    check_flag("progress", progress)
    if not isinstance(net, IntegerNetwork):
        raise TypeError(f"net is a {type(net).__name__}; accepted: an IntegerNetwork")
    if net.simulated:
        raise NetworkError("the network is simulated in fp32; accepted: one on integer kernels")
    times = operator_times(net, example, progress=progress)
    total = sum(milliseconds for _, _, milliseconds in times)
    order = in_order(Graph(net, example).outputs)
    integer = {node for node in order if node.computes_codes}
    names = {node.name for node in between(order, integer) - integer}
    record = net.record
    for name, island in record.islands.items():
        island["share"] = round(sum(ms for node, _, ms in times if node == name) / total, 4)
    record.islands_share = round(sum(ms for node, _, ms in times if node in names) / total, 4)
    shapes = ", ".join("x".join(map(str, value.shape)) for value in example_inputs(example))
    record.islands_measured = f"of {total:.3g} ms for {shapes}, {status().threads or 'default'} thread(s)"
    return record.islands_share


def _in_process_of_its_own(function: str, net: HybridBlock, example: Any, progress: bool, *arguments: str,
                           **variables: str) -> str:
    """What a function of this module prints that runs ``net`` on ``example``."""
    check_ready(net)
    check_flag("progress", progress)
    inputs = example_inputs(example)
    Graph(net, inputs)  # does the example fit?
    with tempfile.TemporaryDirectory() as folder, progress_bar(
            show=progress, desc="kernels", total=2, unit="step") as bar:
        save(Path(folder) / "net.gcz", net, example=example)
        np.savez(Path(folder) / "inputs.npz", *(value.asnumpy() for value in inputs))
        bar.update()
        bar.set_postfix_str("a process of its own runs the network")
        command = [sys.executable, "-W", "ignore", "-c",
                   f"from gluon_compress.measuring import kernels; kernels.{function}()", folder,
                   "simulated" if getattr(net, "simulated", False) else "as saved", *arguments]
        environment = {**os.environ, **variables, "PYTHONPATH": os.pathsep.join(filter(None, sys.path))}
        process = subprocess.run(command, env=environment, capture_output=True, text=True)
    if process.returncode:
        raise NetworkError(f"the process that was to run the network ended with {process.returncode}: "
                           f"{_last_words(process.stderr)}")
    return process.stdout


def _last_words(text: str) -> str:
    """What a process that ended said of it, on one line."""
    lines = [line for line in text.splitlines() if line.strip()] or ["it said nothing"]
    errors = [line for line in lines if re.match(r"[\w.]*Error: (?!Traceback)", line)]
    return shorten(RuntimeError((errors or lines)[-1]))[:300]


def run() -> None:
    """What the other process does: a pass to choose kernels and lay out weights, and the one that counts."""
    net, inputs = _saved()
    for number in range(2):
        if number:
            os.write(1, f"{MARK}\n".encode())  # as oneDNN does, past Python's buffer
        net(*inputs)
        mx.nd.waitall()


def time_operators() -> None:
    """What the other process does for :func:`operator_times`."""
    net, inputs = _saved()
    net.hybridize(static_alloc=True, static_shape=True)
    net(*inputs)
    mx.nd.waitall()
    nodes = [node for node in Graph(net, len(inputs)).nodes if node.operator != "null"]
    folder, _, repeats = sys.argv[1:]
    path = Path(folder) / "profile.json"
    mx.profiler.set_config(profile_symbolic=True, filename=str(path))
    mx.profiler.set_state("run")
    for _ in range(int(repeats)):
        net(*inputs)
        mx.nd.waitall()
    mx.profiler.set_state("stop")
    mx.profiler.dump()
    times = _durations(json.loads(path.read_text())["traceEvents"], [node.operator for node in nodes] * int(repeats))
    medians = np.median(np.reshape(times, (int(repeats), len(nodes))), axis=0)
    rows = [(node.name, node.operator, time / 1000) for node, time in zip(nodes, medians)]
    os.write(1, f"{MARK}{json.dumps(rows)}".encode())


def _durations(events: list[dict], operators: list[str]) -> list[float]:
    """Microseconds of each of ``operators``, which ran in this order, from the events of MXNet's profiler.

    An operator has one event, or two of which the second contains the first. Each event is two entries, its begin
    ("B") and its end ("E").
    """
    wanted, begin = set(operators), 0.0
    found: list[tuple[str, float, float]] = []
    for event in events:
        if event.get("cat") != "operator" or event["name"] not in wanted:
            continue
        if event["ph"] == "B":
            begin = event["ts"]
        elif event["ph"] == "E":
            name, end = event["name"], event["ts"]
            if found and found[-1][0] == name and begin <= found[-1][1] and end >= found[-1][2]:
                found.pop()
            found.append((name, begin, end))
    if [name for name, _, _ in found] != operators:
        raise NetworkError("MXNet's profiler saw other operators than the network has")
    return [end - begin for _, begin, end in found]


def _saved() -> tuple[HybridBlock, list[mx.nd.NDArray]]:
    """The network and its inputs, in the other process."""
    folder = Path(sys.argv[1])
    simulated: dict[str, Any] = {"simulate": True} if sys.argv[2] == "simulated" else {}
    net = load(folder / "net.gcz", **simulated)
    with np.load(folder / "inputs.npz") as file:
        return net, [mx.nd.array(file[name], dtype=file[name].dtype) for name in file.files]


def _report(lines: list[str]) -> KernelReport:
    calls: Counter[Kernel] = Counter()
    milliseconds: dict[Kernel, float] = defaultdict(float)
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


def _types(tensors: str) -> str:
    """``u8 s8 -> u8`` of what oneDNN writes of them; elementwise operators have one type, ``data``."""
    types = dict(TENSOR.findall(tensors))
    if "dst" not in types:
        return types.get("data", "")
    return " ".join([*(types[name] for name in ("src", "wei") if name in types), "->", types["dst"]])
