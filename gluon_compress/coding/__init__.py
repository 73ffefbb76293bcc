"""Small codes: integers by context modelling and arithmetic coding, and weights that share few values."""
from .arrays import decode, encode
from .rounding import round_and_code
from .sharing import CentroidTrainer, Codebooks, share_weights
from .training import RateTrainer, SizeGoal

__all__ = ["CentroidTrainer", "Codebooks", "RateTrainer", "SizeGoal", "decode", "encode", "round_and_code",
           "share_weights"]
