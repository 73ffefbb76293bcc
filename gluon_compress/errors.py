"""The errors that are ours. Wrong arguments raise ``TypeError`` and ``ValueError`` as usual."""


class GluonCompressError(Exception):
    """Base of every error that is about networks, files and data rather than arguments."""


class NetworkError(GluonCompressError):
    """The network is not in a state in which the call can work (uninitialized, NaN weights, ...)."""


class RecordError(GluonCompressError):
    """A record (masks, scales, channel plan) does not belong to this network."""


class CheckpointError(GluonCompressError):
    """A compressed file, a training state or cached logits are damaged, truncated or of another kind."""


class DownloadError(GluonCompressError):
    """No source delivered the expected bytes."""


class WorkerError(GluonCompressError):
    """Another worker of a training over several processes has died, hangs, or trains something else."""


class _Missing:
    def __repr__(self):
        return "missing"


_MISSING = _Missing()  # a key that is not there, which differs from None


def differences(there, here, prefix=""):
    """What differs between two JSON dicts, for messages: "seed is 0 there, 1 here, ..."; "" when nothing does."""
    found = []
    for name in [*here, *sorted(there.keys() - here.keys())]:
        old, new = there.get(name, _MISSING), here.get(name, _MISSING)
        if isinstance(old, dict) and isinstance(new, dict):
            found.append(differences(old, new, f"{prefix}{name}."))
        elif old != new:
            found.append(f"{prefix}{name} is {old!r} there, {new!r} here")
    return ", ".join(filter(None, found))
