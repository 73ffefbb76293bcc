"""Whether a network can be worked with: hybrid, initialized, finite, on a device that exists."""
from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import mxnet as mx
import numpy as np
from mxnet.gluon import HybridBlock

from ..errors import NetworkError
from .engine_network import EngineNetwork
from .values import check_one_interface, parameters, value_of


def checked_contexts(ctx: Any) -> list[mx.Context]:
    """A list of contexts from one, a list of them or None."""
    contexts = list(ctx) if isinstance(ctx, (list, tuple)) else [mx.current_context() if ctx is None else ctx]
    if not contexts or None in contexts:
        raise TypeError(f"ctx is {ctx!r}; accepted: an mx.Context such as mx.cpu(), a list of them, or None")
    for context in contexts:
        check_context(context)
    return contexts


def check_net(net: Any) -> None:
    """Raise ``TypeError`` or ``NetworkError`` unless it is an initialized HybridBlock with finite parameters.

    All of them belong to one interface of MXNet.
    """
    check_hybrid(net)
    check_initialized(net)
    check_one_interface(net)
    check_parameters(net)
    check_finite_parameters(net)


def context_of(net: HybridBlock | EngineNetwork) -> mx.Context:
    """The device of a network, whose parameters are all on one; the current one without parameters.

    That of one that another engine computes is the CPU.
    """
    if isinstance(net, EngineNetwork):
        return mx.cpu()
    return next((parameter.list_ctx()[0] for parameter in net.collect_params().values()), mx.current_context())


def check_hybrid(net: Any) -> None:
    """Raise ``TypeError`` unless ``net`` is a HybridBlock (a SymbolBlock is one)."""
    if isinstance(net, EngineNetwork):
        raise TypeError("net is an EngineNetwork, a file that another engine runs; accepted: a gluon.HybridBlock, "
                        "whose layers and parameters are at hand")
    if not isinstance(net, HybridBlock):
        raise TypeError(f"net is a {type(net).__name__}; accepted: a gluon.HybridBlock "
                        f"(nn.HybridSequential instead of nn.Sequential, hybrid_forward instead of forward)")


def check_parameters(net: HybridBlock) -> None:
    """Raise ``NetworkError`` where there is none."""
    if not parameters(net):
        raise NetworkError("the network has no parameters; accepted: a network with layers that have weights")


def check_initialized(net: HybridBlock) -> None:
    """Raise ``NetworkError`` naming the first parameter that was never initialized."""
    for name, parameter in parameters(net).items():
        if parameter._data is None and not parameter._deferred_init:
            raise NetworkError(f"parameter {name} is not initialized: call net.initialize() "
                               f"or net.load_parameters(...) first")


def check_finite_parameters(net: HybridBlock) -> None:
    """Raise ``NetworkError`` naming the first parameter with NaN or infinity, which a ReLU after it would hide."""
    for name, parameter in parameters(net).items():
        if parameter._data is not None:
            value = value_of(parameter)
            if value.dtype.kind == "f" and not np.isfinite(value).all():
                raise NetworkError(f"parameter {name} has values that are NaN or infinite; train or load the network "
                                   f"again")


def check_floats(net: Any) -> None:
    """Raise ``NetworkError`` for a network on integers, whose file holds the codes that it was made with.

    Weights that were changed in it afterwards would be others than those it computes with once loaded.
    """
    if hasattr(type(net), "stored_as"):
        raise NetworkError(f"the network is an {type(net).__name__}, whose weights are integers; accepted: one of "
                           f"floats: prune, share or round the network that it was made from, and quantize that then")


@contextmanager
def undone_on_error(net: HybridBlock | EngineNetwork) -> Iterator[None]:
    """After an error, parameters that had no data before have none again: their shapes came from the wrong input."""
    before = [(parameter, parameter._shape, parameter._deferred_init) for parameter in parameters(net).values()
              if parameter._data is None]
    try:
        yield
    except Exception:
        for parameter, shape, deferred in before:
            parameter._shape, parameter._deferred_init = shape, deferred
            parameter._data = parameter._grad = parameter._var = None
        if before:
            net.apply(lambda block: block._clear_cached_op() if isinstance(block, HybridBlock) else None)
        raise


def check_context(ctx: Any) -> None:
    """None or an ``mx.Context`` of a device that exists; else ``TypeError`` or ``ValueError``."""
    if ctx is None:
        return
    if not isinstance(ctx, mx.Context):
        raise TypeError(f"ctx is {ctx!r}; accepted: an mx.Context such as mx.cpu(), or None")
    try:
        mx.nd.zeros(1, ctx).wait_to_read()
    except mx.MXNetError as error:
        raise ValueError(f"ctx is {ctx}, a device that cannot be used here") from error


def check_ready(net: Any) -> None:
    """A HybridBlock whose parameters all hold data, of one interface; else ``TypeError`` or ``NetworkError``."""
    mx.nd.waitall()  # oneDNN may be laying weights out anew inside a forward pass that still runs
    check_hybrid(net)
    check_initialized(net)
    for name, parameter in parameters(net).items():
        if parameter._data is None:
            raise NetworkError(f"parameter {name} has no data yet, its shape follows from the first input: "
                               f"run net(example) once")
    check_one_interface(net)
