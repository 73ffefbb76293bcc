"""Small codes: integers by context modelling and arithmetic coding, weights that share few values, whole networks."""
from importlib import import_module
from typing import TYPE_CHECKING, Any

from .arrays import decode, encode
from .sharing import CentroidTrainer, Codebooks, share_weights
from .training import RateTrainer, SizeGoal

if TYPE_CHECKING:
    from .pipeline import Compression, Pruning, Rounding, compress

__all__ = ["CentroidTrainer", "Codebooks", "Compression", "Pruning", "RateTrainer", "Rounding", "SizeGoal",
           "compress", "decode", "encode", "share_weights"]


def __getattr__(name: str) -> Any:
    """What stands on files, which themselves stand on the coder, is imported when it is asked for."""
    if name in __all__:
        return getattr(import_module(".pipeline", __name__), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
