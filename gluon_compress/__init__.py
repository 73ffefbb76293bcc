"""gluon_compress: pruning, quantization and distillation for Apache MXNet 1.9.1 / Gluon."""
from .starting import imports_all

if imports_all():  # in the command line only once a command runs
    from . import runtime  # first: it makes MXNet importable
    from . import (
        checkpoint,
        coding,
        datasets,
        distillation,
        export,
        measuring,
        models,
        network,
        params,
        pruning,
        quantization,
        training,
        workers,
    )
    from .checkpoint import load, save
    from .errors import (
        CheckpointError,
        DataError,
        DownloadError,
        GluonCompressError,
        NetworkError,
        RecordError,
        WorkerError,
    )
    from .measuring import measure_latency, report

__version__ = "0.1.0"
__all__ = ["CheckpointError", "DataError", "DownloadError", "GluonCompressError", "NetworkError", "RecordError",
           "WorkerError", "checkpoint", "coding", "datasets", "distillation", "export", "load", "measure_latency",
           "measuring", "models", "network", "params", "pruning", "quantization", "report", "runtime", "save",
           "training", "workers"]
