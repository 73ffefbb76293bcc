"""Error messages for inputs that do not fit a network, instead of MXNet's C++ stack."""
from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from typing import Any

import mxnet as mx
import numpy as np
from mxnet.gluon import Block

from .inputs import flat
from .values import interface_of

CLEARER = (  # what MXNet's operators say of types, and the same in plain words
    (re.compile(r"Check failed: \S+ == dtype \(\S+ vs\. \S+\) : This layer requires uniform type\. "
                r"Expected '(\w+)' v\.s\. given '(\w+)' at '(\w+)'"),
     r"its \3 is \2, what it reads \1; accepted: one type for both, as of x.astype('\2')"),
    (re.compile(r"Check failed: in_attrs->at\(0\) == mshadow::kFloat32 \|\|.*"),
     "it rounds float32; accepted: that type, as of x.astype('float32')"),
    (re.compile(r"FP16 gemm on cpu not implemented!?"),
     "MXNet has no dense layer or convolution in float16 on the CPU; accepted: float32, as of net.cast('float32')"),
)


def called(net: Callable, inputs: Sequence[Any]) -> Any:
    """``net(*inputs)`` in the interface of MXNet that the network belongs to; the inputs may belong to either.

    A function of arrays that is no Block is called as it is.
    """
    if not isinstance(net, Block):
        return net(*inputs)
    interface = interface_of(net)
    with interface.active():
        return net(*interface.own(inputs))


def call(net: Callable, inputs: Sequence[Any], what: str) -> Any:
    """:func:`called`; raises a ``ValueError`` that says what does not fit, where MXNet would print its C++ stack."""
    try:
        outputs = called(net, inputs)
        if any(getattr(value, "dtype", None) == np.float16 for value in flat(inputs)):
            mx.nd.waitall()  # what MXNet cannot compute in float16 on a CPU shows no sooner
        return outputs
    except (mx.MXNetError, AssertionError) as error:
        raise misfit(inputs, what, error) from None
    except (TypeError, AttributeError) as error:  # too many or too few inputs; Symbols where arrays were expected
        raise misfit(inputs, what, error) from error


def misfit(inputs: Any, what: str, error: BaseException) -> ValueError:
    """The ``ValueError`` for inputs that a network cannot take, with the usual remedy."""
    arrays = flat(inputs)
    text = ", ".join(f"{value.shape} {np.dtype(value.dtype)}" for value in arrays)
    return ValueError(f"{what}, {text}, does not fit the network{remedy(arrays)}: {reason_of(error)}"[:450])


def remedy(arrays: Sequence[Any]) -> str:
    """What is usually wrong with arrays like these, as text to add after a sentence; or ""."""
    if any(np.dtype(value.dtype) in (np.uint8, np.int8) for value in arrays):
        return (" (raw pixels? scale them to float32: x.astype('float32') / 255, and normalize; Gluon's ToTensor() "
                "does that, and puts channels first)")
    return remedy_of_shapes([value.shape for value in arrays])


def remedy_of_shapes(shapes: Sequence[tuple[int, ...]]) -> str:
    """As :func:`remedy`, for shapes."""
    for shape in shapes:
        if len(shape) == 4 and shape[3] in (1, 3, 4) and shape[1] not in (1, 3, 4):
            return " (channels last? MXNet wants (batch, channels, height, width): x.transpose((0, 3, 1, 2)))"
        if len(shape) == 3 and (shape[0] in (1, 3) or shape[2] in (1, 3)):
            return " (a single image? MXNet wants (batch, channels, height, width))"
    return ""


def reason_of(error: BaseException) -> str:
    """What a user's ``hybrid_forward`` raised, on one line, with the remedy for the usual mistakes."""
    text = shorten(error)[:250]
    return f"{text}: {remedy_of_error(error)}" if remedy_of_error(error) else text


def remedy_of_error(error: BaseException) -> str:
    """What to write instead in a ``hybrid_forward`` that raised ``error``; "" where that is not known."""
    text = shorten(error)[:250]
    if isinstance(error, AttributeError) and "onvolution'" in text:
        return ("a convolution was made under npx.set_np() and initialized without it, or the other way "
                "round; make and initialize it in one mode")
    if isinstance(error, (AttributeError, TypeError)) and "Symbol" in text and "shape" in text:
        return ("it uses x.shape, which a graph does not know before it runs; write F.flatten(x), or "
                "F.reshape(x, shape=(0, -1)), where 0 keeps a length and -1 is what follows (F.npx.reshape with -2 and "
                "-1 under npx.set_np())")
    if isinstance(error, (AssertionError, TypeError)) and "Symbol" in text and re.search("NDArray|ndarray", text):
        return ("a function of arrays is called with a Symbol; in a HybridBlock write hybrid_forward(self, F, x) "
                "instead of forward(self, x), F.relu instead of nd.relu, F.npx.relu and F.np.mean instead of npx.relu "
                "and np.mean")
    return ""


def shorten(error: BaseException) -> str:
    """The sentence in an MXNet error, without source line, time and stack trace."""
    lines = str(error).strip().splitlines() or [type(error).__name__]
    message = next((line for line in lines if re.search(r"MXNetError|Error in operator|Check failed", line)), lines[0])
    message = re.sub(r"^\S*Error: ", "", message.strip())
    message = re.sub(r"\[\d\d:\d\d:\d\d\] \S+:\d+: ", "", message).strip(" :")
    for told, better in CLEARER:
        message = told.sub(better, message)
    return message
