"""A disk that is full, by the limit of a file's size, which fails in the same places."""
import resource
from contextlib import contextmanager


@contextmanager
def files_end_at(size):
    """No file can be longer than so many bytes."""
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
