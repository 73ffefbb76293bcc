"""The operators of MXNet's NumPy interface in classic form.

Under ``npx.set_np()`` layers are traced to the classic operators (``Convolution``, ``Pooling``), and what lies between
them to operators of that interface (``_npi_add``, ``_npx_reshape``), most of which compute, bit by bit, what a classic
one does. In that one's form a graph is understood by all that knows the classic operators: the table of operators, the
rules of pruning, the kernels on integers, the writer of ONNX, and whoever reads our files outside of this mode.

The interfaces differ for numbers that are not floating-point ones (in NumPy's, 1 / 2 is 0.5, and a comparison gives
truth values) and for arrays of shape ``()``, which the classic one does not have. There an operator stays as it is, and
so does one without a classic form; pruning has rules for those in ``pruning/channels/rules/numpy_interface.py``.
"""
from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from .nodes import Node

Form = tuple[str, dict[str, Any]]  # an operator and its attributes
FORMS: dict[str, Callable[[Node], Form | None]] = {}


def classic_form(node: Node, types: Sequence[Any]) -> Form | None:
    """``(operator, attributes)`` that compute the same, or None where ``node`` stays as it is.

    Its shapes must be known, those of a batch of several samples; ``types`` are those of what it reads and makes, None
    where one is not known.
    """
    form = FORMS.get(node.operator)
    shapes = [node.input_shape(index) for index in range(len(node.inputs))] + node.shapes
    if form is None or () in shapes or len(set(types)) != 1 or types[0] is None or np.dtype(types[0]).kind != "f":
        return None
    return form(node)


def _form_of(*operators: str) -> Callable[[Callable[[Node], Form | None]], Callable[[Node], Form | None]]:
    def register(form: Callable[[Node], Form | None]) -> Callable[[Node], Form | None]:
        FORMS.update(dict.fromkeys(operators, form))
        return form
    return register


# Element by element -----------------------------------------------------------------------------------------------

def _renamed(operator: str) -> Callable[[Node], Form]:
    """The form of an operator of the same attributes."""
    return lambda node: (operator, node.settings)


FORMS.update({f"_npi_{name}": _renamed(name) for name in (
    "negative reciprocal sign rint ceil floor trunc fix exp expm1 log log10 log2 log1p sqrt cbrt square sin cos tan "
    "arcsin arccos arctan sinh cosh tanh arcsinh arccosh arctanh degrees radians").split()})
FORMS.update({"_npi_absolute": _renamed("abs"), "_np_copy": _renamed("_copy"), "_npx_relu": _renamed("relu"),
              "_npx_sigmoid": _renamed("sigmoid")})
FORMS.update({f"_npi_{name}_scalar": _renamed(f"_{classic}_scalar") for name, classic in {
    "add": "plus", "subtract": "minus", "rsubtract": "rminus", "multiply": "mul", "true_divide": "div",
    "rtrue_divide": "rdiv", "mod": "mod", "rmod": "rmod", "power": "power", "rpower": "rpower"}.items()})
FORMS.update({f"_npi_{name}": _renamed(f"broadcast_{classic}") for name, classic in {
    "add": "add", "subtract": "sub", "multiply": "mul", "true_divide": "div", "mod": "mod", "power": "power",
    "hypot": "hypot"}.items()})


@_form_of("_npi_full_like")
def _full_like(node: Node) -> Form | None:
    classic = {0: "zeros_like", 1: "ones_like"}.get(node.get("fill_value"))
    return None if classic is None else (classic, {})


# Elements that only move ------------------------------------------------------------------------------------------

CLASSIC_ATTRIBUTES = {"newshape": "shape"}
OF_RESHAPE = {-1: -1, -2: 0, -4: -2, -5: -3, -6: -4}  # {what npx.reshape calls it: what classic Reshape calls it}


@_form_of("_np_reshape")
def _reshape(node: Node) -> Form | None:
    return "Reshape", {"shape": _tuple(node.get("newshape"))}


@_form_of("_npx_reshape")
def _npx_reshape(node: Node) -> Form | None:
    codes = _tuple(node.get("newshape"))
    if set(codes) <= {-2, -3} or set(codes[:-1]) <= {-2, -3} and codes[-1:] == (-4,):
        dropped = tuple(axis for axis, code in enumerate(codes) if code == -3)
        return ("squeeze", {"axis": dropped}) if dropped else ("_copy", {})
    if not all(code > 0 or code in OF_RESHAPE for code in codes):
        return None
    return "Reshape", {"shape": tuple(OF_RESHAPE.get(code, code) for code in codes),
                       "reverse": node.get("reverse", False)}


@_form_of("_np_transpose")
def _transpose(node: Node) -> Form | None:
    return "transpose", {"axes": _tuple(node.get("axes"))}


@_form_of("_np_moveaxis")
def _moveaxis(node: Node) -> Form | None:
    dimensions = len(node.input_shape(0))
    source, destination = ([axis % dimensions for axis in _tuple(node.get(name))] for name in ("source", "destination"))
    axes = [axis for axis in range(dimensions) if axis not in source]
    for target, axis in sorted(zip(destination, source)):
        axes.insert(target, axis)
    return "transpose", {"axes": tuple(axes)}


@_form_of("_np_squeeze")
def _squeeze(node: Node) -> Form | None:
    return "squeeze", {} if node.get("axis") is None else {"axis": node.get("axis")}


@_form_of("_npi_flip")
def _flip(node: Node) -> Form | None:
    return None if node.get("axis") is None else ("reverse", {"axis": node.get("axis")})


@_form_of("_npi_broadcast_to")
def _broadcast_to(node: Node) -> Form | None:
    before, after = node.input_shape(0), node.shapes[0]
    if len(before) != len(after):
        return None
    return "broadcast_to", {"shape": tuple(0 if old == new else new for old, new in zip(before, after))}


@_form_of("_npi_pad")
def _pad(node: Node) -> Form | None:
    """MXNet's ``Pad`` is for the pixels of images and volumes."""
    width = node.get("pad_width")
    if len(width) not in (4, 5) or any(map(any, width[:2])) or node.get("mode") not in ("constant", "edge", "reflect") \
            or node.get("reflect_type", "even") != "even":
        return None
    return "Pad", {"mode": node.get("mode"), "pad_width": tuple(np.ravel(width).tolist()),
                   "constant_value": node.get("constant_value", 0)}


@_form_of("_split_v2")
def _split(node: Node) -> Form | None:
    """Equal parts."""
    parts = node.get("sections", 0)
    settings = {"axis": node.get("axis", 1), "num_outputs": parts, "squeeze_axis": node.get("squeeze_axis", False)}
    return ("SliceChannel", settings) if parts else None


@_form_of("_npi_stack")
def _stack(node: Node) -> Form | None:
    return "stack", node.settings


@_form_of("_npi_concatenate", "_npi_vstack", "_npi_column_stack")  # of hstack and dstack MXNet infers no shapes
def _concatenate(node: Node) -> Form | None:
    shape = node.input_shape(0)
    axis = {"_npi_vstack": 0, "_npi_column_stack": 1}.get(node.operator, node.get("axis", 0))
    if axis is None or not -len(shape) <= axis < len(shape):  # of flattened tensors, or of some that get a new axis
        return None
    return "Concat", {"dim": axis % len(shape), "num_args": len(node.inputs)}


# Reductions and products ------------------------------------------------------------------------------------------

REDUCTIONS = {"_npi_mean": "mean", "_np_sum": "sum", "_np_prod": "prod", "_np_max": "max", "_np_min": "min"}


@_form_of(*REDUCTIONS)
def _reduction(node: Node) -> Form | None:
    if node.get("initial") is not None:
        return None
    axis = {} if node.get("axis") is None else {"axis": node.get("axis")}
    return REDUCTIONS[node.operator], {**axis, "keepdims": node.get("keepdims", False)}


@_form_of("_npi_matmul")
def _matmul(node: Node) -> Form | None:
    first, second = node.input_shape(0), node.input_shape(1)
    if first[:-2] != second[:-2] or min(len(first), len(second)) < 2:
        return None
    return {2: "dot", 3: "batch_dot"}.get(len(first), "_linalg_gemm2"), {}


@_form_of("_np_dot")
def _dot(node: Node) -> Form | None:
    return ("dot", {}) if len(node.input_shape(0)) >= 2 == len(node.input_shape(1)) else None


def _tuple(value: Any) -> tuple[int, ...]:
    """The numbers of an attribute that is one number, several, or None."""
    return () if value is None else (value,) if isinstance(value, int) else tuple(value)
