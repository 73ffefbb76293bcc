"""What each MXNet operator does to the channels that pass through it: one rule per kind of operator."""
from . import combining, layers, moving, unary  # noqa: F401, they register their rules
from .rules import RULES, unknown_operator

__all__ = ["RULES", "unknown_operator"]
