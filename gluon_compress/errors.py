"""The errors that are ours. Wrong arguments raise ``TypeError`` and ``ValueError`` as usual."""


class GluonCompressError(Exception):
    """Base of every error that is about networks, files and data rather than arguments."""


class NetworkError(GluonCompressError):
    """The network is not in a state in which the call can work (uninitialized, NaN weights, ...)."""


class RecordError(GluonCompressError):
    """A record (masks, scales, channel plan) does not belong to this network."""


class CheckpointError(GluonCompressError):
    """A compressed file, a training state or cached logits are damaged, truncated or of another kind."""


class DataError(GluonCompressError):
    """Images or labels in files cannot be used: unreadable, of different sizes, without a class."""


class DownloadError(GluonCompressError):
    """No source delivered the expected bytes."""


class WorkerError(GluonCompressError):
    """Another worker of a training over several processes has died, hangs, or trains something else."""


def not_importable(what: str, package: str, extra: str, error: ImportError) -> ImportError:
    """The error of what needs a package that is not installed, or broken; ``extra`` of setup.cfg brings it."""
    return ImportError(f"{what} needs {package}, which cannot be imported ({error}); accepted: {to_install(extra)}")


def to_install(extra: str) -> str:
    """The command that installs an extra of setup.cfg."""
    return f"pip install 'gluon-compress[{extra}]'"
