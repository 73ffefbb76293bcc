"""The table of operators, by family: how each of MXNet's is written as ONNX."""
from . import (
    activations,
    arithmetic,
    attention,
    codes,
    detection,
    elementwise,
    images,
    layers,
    normalizations,
    pooling,
    recurrent,
    reductions,
    shapes,
)

__all__ = ["activations", "arithmetic", "attention", "codes", "detection", "elementwise", "images", "layers",
           "normalizations", "pooling", "recurrent", "reductions", "shapes"]
