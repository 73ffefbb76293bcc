"""The table of operators, by family: how each of MXNet's is written as ONNX."""
from . import codes, elementwise, layers, normalizations, pooling, shapes

__all__ = ["codes", "elementwise", "layers", "normalizations", "pooling", "shapes"]
