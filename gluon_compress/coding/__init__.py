"""Small codes: integers by context modelling and arithmetic coding, and weights that share few values."""
from .arrays import decode, encode
from .sharing import CentroidTrainer, Codebooks, share_weights

__all__ = ["CentroidTrainer", "Codebooks", "decode", "encode", "share_weights"]
