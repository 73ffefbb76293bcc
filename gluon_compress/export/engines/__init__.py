"""ONNX files as networks that another engine computes, to compare engines and to see what a user of the file gets."""
from .opening import engine

__all__ = ["engine"]
