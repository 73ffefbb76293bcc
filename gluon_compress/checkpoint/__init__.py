"""Networks on disk: compressed files and those of others, checked on loading, never executed."""
from .door import describe, load
from .file import records, save

__all__ = ["describe", "load", "records", "save"]
