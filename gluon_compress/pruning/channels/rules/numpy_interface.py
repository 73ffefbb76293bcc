"""Operators of MXNet's NumPy interface for which ``network/numpy_operators.py`` has no classic form.

They give truth values, take truth values or integers beside floating-point numbers, or compute what no classic operator
does. To channels they do what a classic operator of the same kind does.
"""
from . import combining, moving, per_channel  # noqa: F401, whose rules they share
from .table import RULES

LIKE_CLASSIC = {
    "broadcast_add": "add subtract multiply true_divide mod power arctan2 copysign equal not_equal greater "
                     "greater_equal less less_equal where where_lscalar where_rscalar",
    "relu": "logical_not isnan isinf isfinite nan_to_num around full_like add_scalar subtract_scalar rsubtract_scalar "
            "multiply_scalar true_divide_scalar rtrue_divide_scalar equal_scalar not_equal_scalar greater_scalar "
            "greater_equal_scalar less_scalar less_equal_scalar where_scalar2",
    "mean": "average std var norm argmax argmin",
    "Pad": "pad",
}
NUMPY_RULES = {f"_npi_{name}": RULES[classic] for classic, names in LIKE_CLASSIC.items() for name in names.split()}
RULES.update(NUMPY_RULES)
