"""Compressed networks on disk: small, checked on loading, never executed."""
from .file import load, records, save

__all__ = ["load", "records", "save"]
