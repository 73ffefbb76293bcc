"""Symmetric integers: arrays, and the weights of networks."""
from .arrays import dequantize_array, quantize_array
from .weights import Scales, quantize_weights

__all__ = ["Scales", "dequantize_array", "quantize_array", "quantize_weights"]
