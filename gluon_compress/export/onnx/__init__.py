"""ONNX, written from the package's one graph and one table of operators."""
