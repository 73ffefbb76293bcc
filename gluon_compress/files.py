"""Files: checksums, locks, checks of paths, and writing that leaves the old file or the whole new one."""
import hashlib
import os
import tempfile
from pathlib import Path

from filelock import FileLock

CHUNK_BYTES = 1 << 20  # read at a time


def sha256_of(path):
    """Hexadecimal SHA-256 of a file's content."""
    digest = hashlib.sha256()
    with open(path, "rb") as file:
        for chunk in iter(lambda: file.read(CHUNK_BYTES), b""):
            digest.update(chunk)
    return digest.hexdigest()


def lock(path):
    """An inter-process lock for writing ``path``; the lock file stands beside it."""
    Path(path).parent.mkdir(parents=True, exist_ok=True)
    return FileLock(f"{path}.lock")


def write_atomically(path, write):
    """Call ``write(temporary_path)``, then rename the result to ``path``, which a failure leaves alone."""
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    try:
        write(temporary)
        os.replace(temporary, path)
    finally:
        temporary.unlink(missing_ok=True)


def check_path(name, path):
    """Raise ``TypeError`` or ``ValueError`` unless ``path`` can be the path of a file."""
    if not isinstance(path, (str, os.PathLike)):
        raise TypeError(f"{name} is {path!r}; accepted: the path of a file")
    if Path(path).is_dir():
        raise ValueError(f"{name} is {str(path)!r}, a directory; accepted: the path of a file")


def check_writable(path):
    """Make the folder of ``path``; raise ``OSError`` unless a file can be made there, before the work it is for."""
    folder = Path(path).parent
    folder.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryFile(dir=folder):
        pass
