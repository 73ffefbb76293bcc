"""The way out: MXNet's own symbol + parameters, and ONNX. Both are checked before they are put in place."""
from .engines import engine
from .onnx_file import to_onnx
from .symbol import write_checkpoint

__all__ = ["engine", "to_onnx", "write_checkpoint"]
