"""Networks on disk: compressed files and those of others, checked on loading, never executed."""
from .door import describe, load
from .file import coded_size, coded_sizes, records, save

__all__ = ["coded_size", "coded_sizes", "describe", "load", "records", "save"]
