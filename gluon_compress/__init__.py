"""gluon_compress: pruning, quantization and distillation for Apache MXNet 1.9.1 / Gluon.

Smaller and faster networks, small files, and the way out of MXNet. A network is any ``HybridBlock``, or what
``load`` opens: MXNet's and SageMaker's files, too. Most techniques change it in place and return a record of what they
did, which prints well and goes into a file.

>>> print(gc.report(net, example))                          # layers, bytes, multiply-accumulates; write_html: a page
>>> plan = gc.pruning.prune_channels(net, example, 0.5)     # layers that are really smaller
>>> gc.distillation.distill(net, original, data, epochs=5)  # trained with the original as its teacher
>>> int8 = gc.quantization.quantize(net, calibration_data)  # a new network, which runs on integers
>>> gc.save("fast.gcz", int8)
>>> gc.export.to_onnx(int8, "fast.onnx", example)           # for ONNX Runtime and OpenVINO: gc.export.engine
>>> small = gc.coding.compress(net, held_out, max_accuracy_drop=0.01)  # weights of the smallest file
>>> gc.save("small.gcz", net, plan, *small.records)

``python -m gluon_compress --help`` shows the command line, which does the same without a program.
"""
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
