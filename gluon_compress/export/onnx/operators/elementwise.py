"""Functions of one tensor, element by element; what changes types; what depends on shapes alone."""
from __future__ import annotations

import math

import numpy as np

from ....network.nodes import Node
from ..table import Unsupported, writes
from ..writer import Writer

ONNX_NAMES = {
    "abs": "Abs", "arccos": "Acos", "arccosh": "Acosh", "arcsin": "Asin", "arcsinh": "Asinh", "arctan": "Atan",
    "arctanh": "Atanh", "ceil": "Ceil", "cos": "Cos", "cosh": "Cosh", "erf": "Erf", "exp": "Exp", "floor": "Floor",
    "log": "Log", "negative": "Neg", "reciprocal": "Reciprocal", "relu": "Relu", "sigmoid": "Sigmoid", "sign": "Sign",
    "sin": "Sin", "sinh": "Sinh", "softsign": "Softsign", "sqrt": "Sqrt", "tan": "Tan", "tanh": "Tanh"}
FACTORS = {"degrees": 180 / math.pi, "radians": math.pi / 180}
LOGARITHMS = {"log2": 2, "log10": 10}
AS_IT_IS = ("MakeLoss", "make_loss", "_identity_with_attr_like_rhs", "_contrib_gradientmultiplier",
            "LinearRegressionOutput", "MAERegressionOutput", "SVMOutput", "BlockGrad", "_copy")


@writes(*ONNX_NAMES)
def same_function(node: Node, write: Writer) -> str:
    return write(ONNX_NAMES[node.operator], write.data(node))


@writes(*AS_IT_IS)
def as_it_is(node: Node, write: Writer) -> str:
    return write.data(node)


@writes("LogisticRegressionOutput")
def logistic(node: Node, write: Writer) -> str:
    return write("Sigmoid", write.data(node))


@writes(*FACTORS)
def factor(node: Node, write: Writer) -> str:
    return write("Mul", write.data(node), write.like(node, FACTORS[node.operator]))


@writes(*LOGARITHMS)
def logarithm(node: Node, write: Writer) -> str:
    return write("Mul", write("Log", write.data(node)), write.like(node, 1 / math.log(LOGARITHMS[node.operator])))


@writes("log1p")
def log1p(node: Node, write: Writer) -> str:
    return write("Log", write("Add", write.data(node), write.like(node, 1)))


@writes("expm1")
def expm1(node: Node, write: Writer) -> str:
    return write("Sub", write("Exp", write.data(node)), write.like(node, 1))


@writes("square")
def square(node: Node, write: Writer) -> str:
    return write("Mul", write.data(node), write.data(node))


@writes("rsqrt")
def rsqrt(node: Node, write: Writer) -> str:
    return write("Reciprocal", write("Sqrt", write.data(node)))


@writes("cbrt", "rcbrt")
def cube_root(node: Node, write: Writer) -> str:
    """sign(x) |x|^(1/3), and one over it."""
    data = write.data(node)
    root = write("Pow", write("Abs", data), write.like(node, 1 / 3))
    signed = write("Mul", write("Sign", data), root)
    return signed if node.operator == "cbrt" else write("Reciprocal", signed)


@writes("rint")
def rint(node: Node, write: Writer) -> str:
    """ceil(x - 0.5): halves go down, in ONNX's Round to the even number."""
    return write("Ceil", write("Sub", write.data(node), write.like(node, 0.5)))


@writes("round", "_contrib_round_ste")
def round_away(node: Node, write: Writer) -> str:
    """Halves go away from zero: sign(x) floor(|x| + h), h being the number before 0.5, lest the sum is rounded up."""
    data, dtype = write.data(node), write.made(node).dtype
    half = np.nextafter(np.asarray(0.5, dtype), np.asarray(0, dtype)) if dtype.kind == "f" else 0
    return write("Mul", write("Sign", data), write("Floor", write("Add", write("Abs", data), write.like(node, half))))


@writes("fix", "trunc")
def truncated(node: Node, write: Writer) -> str:
    """Towards zero: sign(x) floor(|x|)."""
    data = write.data(node)
    return write("Mul", write("Sign", data), write("Floor", write("Abs", data)))


@writes("_contrib_sign_ste")
def sign(node: Node, write: Writer) -> str:
    return write("Sign", write.data(node))


@writes("logical_not")
def logical_not(node: Node, write: Writer) -> str:
    return write.cast(write("Equal", write.data(node), write.like(node, 0)), write.made(node).dtype)


@writes("Cast", "amp_cast", "_npi_cast")
def cast(node: Node, write: Writer) -> str:
    return write.cast(write.data(node), write.made(node).dtype)


@writes("amp_multicast")
def multicast(node: Node, write: Writer) -> list[str]:
    return [write.cast(name, write.made(node, index).dtype) for index, name in enumerate(write.inputs(node))]


@writes("clip", "_npi_clip")
def clip(node: Node, write: Writer) -> str:
    dtype = write.made(node).dtype
    limits = [node.get("a_min"), node.get("a_max")]
    names = ["" if limit is None else write.constant(float(limit), dtype) for limit in limits]
    if None not in limits and float(limits[0]) > float(limits[1]):  # of ONNX's Clip all values would be a_max
        return write("Where", write("Greater", write.data(node), names[1]), names[1], names[0])
    return write("Clip", write.data(node), *names)


@writes("hard_sigmoid")
def hard_sigmoid(node: Node, write: Writer) -> str:
    return write("HardSigmoid", write.data(node), alpha=float(node.get("alpha", 0.2)),
                 beta=float(node.get("beta", 0.5)))


@writes("smooth_l1")
def smooth_l1(node: Node, write: Writer) -> str:
    """(s x)^2 / 2 where |x| < 1 / s^2, else |x| - 1 / (2 s^2)."""
    data, square = write.data(node), float(node.get("scalar", 1)) ** 2
    size = write("Abs", data)
    bent = write("Mul", write("Mul", data, data), write.like(node, square / 2))
    return write("Where", write("Less", size, write.like(node, 1 / square)), bent,
                 write("Sub", size, write.like(node, 0.5 / square)))


@writes("_contrib_quadratic")
def quadratic(node: Node, write: Writer) -> str:
    """(a x + b) x + c."""
    data = write.data(node)
    a, b, c = (write.like(node, node.get(name, 0)) for name in "abc")
    return write("Add", write("Mul", write("Add", write("Mul", data, a), b), data), c)


@writes("_contrib_div_sqrt_dim")
def div_sqrt_dim(node: Node, write: Writer) -> str:
    return write("Div", write.data(node), write.like(node, math.sqrt(write.tensor(node).shape[-1])))


FILLED = {"_zeros": 0, "zeros_like": 0, "_ones": 1, "ones_like": 1, "_npi_zeros": 0, "_npi_ones": 1}


@writes("_full", "_npi_full", "_npi_full_like", *FILLED)
def filled(node: Node, write: Writer) -> str:
    value = FILLED.get(node.operator, node.get("value", node.get("fill_value", 0)))
    return write.filled(write.made(node), float(value))


@writes("shape_array", "size_array")
def shape_array(node: Node, write: Writer) -> str:
    found = write.lengths(write.tensor(node).lengths)
    return found if node.operator == "shape_array" else write.reduce("Prod", found, [0])


@writes("_npi_isnan", "_npi_isinf", "_npi_isfinite")
def is_something(node: Node, write: Writer) -> str:
    data, kind = write.data(node), node.operator
    found = [write(name, data) for name in ("IsNaN", "IsInf") if kind in (f"_npi_{name.lower()}", "_npi_isfinite")]
    made = found[0] if len(found) == 1 else write("Not", write("Or", *found))
    return made if write.made(node).dtype == np.bool_ else write.cast(made, write.made(node).dtype)


@writes("erfinv", "gamma", "gammaln")
def no_function(node: Node, write: Writer) -> str:
    raise Unsupported("as ONNX has no such function")
