"""Lossless coding of integer arrays by context modelling and arithmetic coding: weight codes, masks, indices."""
from .arrays import decode, encode

__all__ = ["decode", "encode"]
