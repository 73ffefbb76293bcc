"""A disk that is full, by the limit of a file's size, which fails in the same places."""
import resource
import sys
from contextlib import contextmanager


@contextmanager
def files_end_at(size):
    """No file can be longer than so many bytes."""
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    cached, sys.dont_write_bytecode = sys.dont_write_bytecode, True  # Python would keep half of a module's
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
        sys.dont_write_bytecode = cached
