"""Arithmetic and comparisons of two tensors, or of a tensor and a number."""
from __future__ import annotations

import numpy as np

from ....network.nodes import Node
from ..table import writes
from ..writer import Writer

ARITHMETIC = {"add": "Add", "sub": "Sub", "mul": "Mul", "div": "Div", "power": "Pow", "maximum": "Max",
              "minimum": "Min"}
COMPARISONS = {"equal": "Equal", "greater": "Greater", "greater_equal": "GreaterOrEqual", "lesser": "Less",
               "lesser_equal": "LessOrEqual", "not_equal": "not equal", "logical_and": "And", "logical_or": "Or",
               "logical_xor": "Xor"}
NUMPY_NAMES = {"add": "add", "sub": "subtract", "mul": "multiply", "div": "true_divide", "power": "power",
               "maximum": "maximum", "minimum": "minimum", "mod": "mod", "hypot": "hypot", "equal": "equal",
               "greater": "greater", "greater_equal": "greater_equal", "lesser": "less", "lesser_equal": "less_equal",
               "not_equal": "not_equal"}
SCALARS = {"plus": "add", "minus": "sub", "mul": "mul", "div": "div", "power": "power", "maximum": "maximum",
           "minimum": "minimum", "mod": "mod", "hypot": "hypot", **{name: name for name in COMPARISONS}}
REVERSED = {"rminus": "sub", "rdiv": "div", "rpower": "power", "rmod": "mod"}
REVERSED_IN_NUMPY = {"rsubtract": "sub", "rtrue_divide": "div", "rpower": "power", "rmod": "mod"}

# {operator: what it computes} of those of two tensors, and of those of a tensor and a number, and whether reversed
OF_TENSORS = {f"{prefix}_{name}": name for prefix in ("elemwise", "broadcast") for name in
              (*ARITHMETIC, *COMPARISONS, "mod", "hypot")}
OF_TENSORS.update({f"_{name}": name for name in (*COMPARISONS, "maximum", "minimum", "mod", "power", "hypot")},
                  _grad_add="add")
OF_TENSORS.update({f"_npi_{numpy}": name for name, numpy in NUMPY_NAMES.items()})
OF_NUMBERS = {f"_{scalar}_scalar": (name, False) for scalar, name in SCALARS.items()}
OF_NUMBERS.update({f"_{scalar}_scalar": (name, True) for scalar, name in REVERSED.items()})
OF_NUMBERS.update({f"_npi_{numpy}_scalar": (name, False) for name, numpy in NUMPY_NAMES.items()})
OF_NUMBERS.update({f"_npi_{numpy}_scalar": (name, True) for numpy, name in REVERSED_IN_NUMPY.items()})


@writes(*OF_TENSORS)
def of_tensors(node: Node, write: Writer) -> str:
    first, second = write.inputs(node)
    types = write.tensor(node, 0).dtype, write.tensor(node, 1).dtype
    if types[0] != types[1]:  # as the NumPy interface allows
        common = np.result_type(*types)
        first, second = (name if dtype == common else write.cast(name, common)
                         for name, dtype in zip((first, second), types))
    return _computed(OF_TENSORS[node.operator], node, write, first, second)


@writes(*OF_NUMBERS)
def of_numbers(node: Node, write: Writer) -> str:
    name, is_reversed = OF_NUMBERS[node.operator]
    data, dtype = write.data(node), write.tensor(node).dtype
    if name in ARITHMETIC and dtype != write.made(node).dtype:
        data, dtype = write.cast(data, write.made(node).dtype), write.made(node).dtype
    number = write.constant(node.get("scalar"), dtype)
    first, second = (number, data) if is_reversed else (data, number)
    return _computed(name, node, write, first, second)


def _computed(name: str, node: Node, write: Writer, first: str, second: str) -> str:
    if name in ARITHMETIC:
        return write(ARITHMETIC[name], first, second)
    if name == "hypot":
        return write("Sqrt", write("Add", write("Mul", first, first), write("Mul", second, second)))
    if name == "mod":
        return _modulo(node, write, first, second)
    if name.startswith("logical"):
        first, second = write.nonzero(first), write.nonzero(second)
    found = write("Not", write("Equal", first, second)) if name == "not_equal" else \
        write(COMPARISONS[name], first, second)
    dtype = write.made(node).dtype
    return found if dtype == np.bool_ else write.cast(found, dtype)


def _modulo(node: Node, write: Writer, first: str, second: str) -> str:
    """With the sign of the divisor, ONNX's with that of the dividend; 0 for a divisor of 0."""
    zero = write.constant(0, write.made(node).dtype)
    rest = write("Mod", first, second, fmod=1)
    crosses = write("Less", write("Mul", rest, second), zero)
    found = write("Where", crosses, write("Add", rest, second), rest)
    return write("Where", write("Equal", second, zero), zero, found)


@writes("add_n")
def add_n(node: Node, write: Writer) -> str:
    return write("Sum", *write.inputs(node))


@writes("where")
def where(node: Node, write: Writer) -> str:
    """A condition of one axis picks samples."""
    condition = write.nonzero(write.data(node))
    before, axes = len(write.tensor(node).lengths), len(write.made(node).lengths)
    if before < axes:
        condition = write.unsqueeze(condition, *range(before, axes))
    return write("Where", condition, *write.inputs(node)[1:])


@writes("_npi_where")
def numpy_where(node: Node, write: Writer) -> str:
    return write("Where", write.nonzero(write.data(node)), *write.inputs(node)[1:])


@writes("_npi_where_lscalar", "_npi_where_rscalar", "_npi_where_scalar2")
def where_number(node: Node, write: Writer) -> str:
    condition, *arrays = write.inputs(node)

    def number(name: str) -> str:
        return write.like(node, node.get(name))
    if node.operator == "_npi_where_scalar2":
        chosen = [number("x"), number("y")]
    else:
        left = node.operator == "_npi_where_lscalar"
        chosen = [number("scalar"), *arrays] if left else [*arrays, number("scalar")]
    return write("Where", write.nonzero(condition), *chosen)
