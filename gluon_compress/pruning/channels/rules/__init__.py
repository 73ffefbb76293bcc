"""What each MXNet operator does to the channels that pass through it: one rule per kind of operator."""
from . import (  # noqa: F401, they register their rules
    attention,
    combining,
    heads,
    layers,
    moving,
    numpy_interface,
    per_channel,
    recurrent,
)
from .table import RULES, unknown_operator

__all__ = ["RULES", "unknown_operator"]
