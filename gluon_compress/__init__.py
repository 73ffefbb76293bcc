"""gluon_compress: pruning, quantization and distillation for Apache MXNet 1.9.1 / Gluon."""
from . import runtime  # first: it makes MXNet importable  # noqa: I001
from . import datasets, models, training
