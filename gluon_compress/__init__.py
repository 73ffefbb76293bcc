"""gluon_compress: pruning, quantization and distillation for Apache MXNet 1.9.1 / Gluon."""
from . import runtime  # first: it makes MXNet importable
from . import (
    batches,
    checkpoint,
    datasets,
    distillation,
    export,
    kernels,
    models,
    network,
    params,
    plots,
    pruning,
    quantization,
    training,
    workers,
)
from .checkpoint import load, save
from .errors import CheckpointError, DownloadError, GluonCompressError, NetworkError, RecordError, WorkerError
from .latency import measure_latency
from .report import report

__version__ = "0.1.0"
__all__ = ["CheckpointError", "DownloadError", "GluonCompressError", "NetworkError", "RecordError", "WorkerError",
           "batches", "checkpoint", "datasets", "distillation", "export", "kernels", "load", "measure_latency",
           "models", "network", "params", "plots", "pruning", "quantization", "report", "runtime", "save", "training",
           "workers"]
