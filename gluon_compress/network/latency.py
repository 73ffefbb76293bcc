"""How long a forward pass takes, and under what conditions."""
from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

import mxnet as mx
import numpy as np
from mxnet import autograd
from mxnet.gluon import HybridBlock, SymbolBlock

from .. import runtime
from ..arguments import check_integer
from .checks import check_ready
from .engine_network import EngineNetwork
from .graph import Graph
from .inputs import ExampleInputs, example_inputs, map_arrays
from .misfits import call
from .nodes import nodes_of
from .values import parameters

PRECISIONS = {"float16": "fp16", "float32": "fp32", "float64": "fp64"}


@dataclass(frozen=True)
class Timing:
    """Forward times in milliseconds per batch, with what they depend on.

    Attributes
    ----------
    median, lower_quartile, upper_quartile : float
        Milliseconds for one batch.
    batch : int
        Samples per batch.
    threads : int or None
        OpenMP threads, as ``runtime.status()`` set them; None when that is switched off. Of another engine, its own.
    repeats : int
        Forward passes that were timed.
    precision : str
        ``fp32``, ``fp16``, ... according to the parameters; ``int8`` when there are quantized operators.
    execution : str
        ``imperative`` (not hybridized), ``hybridized``, or ``fused`` (hybridized, with oneDNN's
        fused operators); or the engine that runs a file, with its version.
    """

    median: float
    lower_quartile: float
    upper_quartile: float
    batch: int
    threads: int | None
    repeats: int
    precision: str
    execution: str

    def to_dict(self) -> dict:
        return asdict(self)

    def __str__(self) -> str:
        fusion = {"imperative": ", not fused: call net.hybridize() first for what a deployed network takes",
                  "hybridized": ", not fused"}.get(self.execution, "")
        threads = "default threads" if self.threads is None else f"{self.threads} thread(s)"
        return (f"median {self.median:.3f} ms, quartiles {self.lower_quartile:.3f} to {self.upper_quartile:.3f}, "
                f"{self.repeats} repeats, batch {self.batch}, {threads}, {self.precision}, {self.execution}{fusion}")


def measure_latency(net: HybridBlock | EngineNetwork, example: Any, repeats: int = 30, warmup: int = 5) -> Timing:
    """Time ``net(example)`` in inference mode and return a :class:`Timing`.

    The network runs as it is: hybridize it first if that is what you want to know.

    Parameters
    ----------
    net : HybridBlock, or a network of :func:`gluon_compress.export.engine`
    example : NDArray or tuple of NDArray
        A batch, moved to the network's device.
    repeats : int
        Timed passes, at least 1.
    warmup : int
        Untimed passes before those, at least 0; the first ones choose kernels and reorder weights.
    """
    check_integer("repeats", repeats, minimum=1)
    check_integer("warmup", warmup, minimum=0)
    inputs = _checked_inputs(net, example)
    context = next((parameter.list_ctx()[0] for parameter in parameters(net).values()), inputs[0].context)
    inputs = example_inputs(map_arrays(lambda value: value.as_in_context(context), inputs.nested))
    milliseconds = []
    with autograd.pause(train_mode=False):
        for _ in range(warmup + repeats):
            mx.nd.waitall()
            started = time.perf_counter()
            call(net, inputs.nested, "example")
            mx.nd.waitall()
            milliseconds.append(1e3 * (time.perf_counter() - started))
    lower, median, upper = np.percentile(milliseconds[warmup:], [25, 50, 75])
    return Timing(float(median), float(lower), float(upper), inputs[0].shape[0], _threads(net), repeats,
                  *_conditions(net, inputs))


def _checked_inputs(net: HybridBlock | EngineNetwork, example: Any) -> ExampleInputs:
    """The inputs, of a network that is ready for them."""
    if isinstance(net, EngineNetwork):  # it says itself what it takes
        return example_inputs(example)
    check_ready(net)
    inputs = example_inputs(example)
    Graph(net, inputs)  # does the example fit?
    return inputs


def _threads(net: HybridBlock | EngineNetwork) -> int | None:
    return net.threads if isinstance(net, EngineNetwork) else runtime.status().threads or None


def _conditions(net: HybridBlock | EngineNetwork, inputs: Sequence[mx.nd.NDArray]) -> tuple[str, str]:
    """(precision, execution) of the operators that ran."""
    if isinstance(net, EngineNetwork):
        return net.precision, net.engine
    compiled = net._active or isinstance(net, SymbolBlock)
    if compiled and net._cached_graph:
        nodes, _ = nodes_of(net._cached_graph[1])
    else:
        nodes = Graph(net, inputs).nodes
    quantized = any(node.computes_codes for node in nodes)
    fused = any(node.is_fused for node in nodes)
    types = sorted({np.dtype(parameter.dtype).name for parameter in parameters(net).values()})
    precision = "int8" if quantized else "+".join(PRECISIONS.get(name, name) for name in types)
    return precision or "fp32", "fused" if fused else "hybridized" if compiled else "imperative"
