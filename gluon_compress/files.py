"""Files: checksums, locks, checks of paths, and writing that leaves the old file or the whole new one."""
import errno
import fcntl
import hashlib
import os
import re
import secrets
import stat
import sys
import tempfile
from contextlib import contextmanager, suppress
from pathlib import Path

from filelock import FileLock, Timeout
from tqdm import tqdm

from .progress import progress_bar

CHUNK_BYTES = 1 << 20  # read at a time
NAME_BYTES = 100       # of a file's name that are in the name of the folder it is written in
SUFFIX = ".tmp"
SECONDS_UNTOLD = 1     # of waiting for a lock


def sha256_of(path):
    """Hexadecimal SHA-256 of a file's content."""
    digest = hashlib.sha256()
    with open(path, "rb") as file:
        for chunk in iter(lambda: file.read(CHUNK_BYTES), b""):
            digest.update(chunk)
    return digest.hexdigest()


@contextmanager
def lock(path):
    """Hold an inter-process lock for writing ``path``; the lock file stands beside it. A longer wait is told."""
    Path(path).parent.mkdir(parents=True, exist_ok=True)
    place = Path(f"{path}.lock")
    if place.is_symlink():
        place.unlink()  # planted: a lock file is emptied when it is opened
    held = FileLock(place)
    try:
        held.acquire(timeout=SECONDS_UNTOLD)
    except Timeout:
        tqdm.write(f"{path}: waiting for another process, which is bringing it", file=sys.stderr)
        with progress_bar(desc=f"waiting for {Path(path).name}", bar_format="{desc}: {elapsed}") as bar:
            while not _acquired(held):
                bar.update()
    try:
        yield
    finally:
        held.release()


def _acquired(held):
    try:
        held.acquire(timeout=SECONDS_UNTOLD)
    except Timeout:
        return False
    return True


@contextmanager
def naming(path):
    """Let an ``OSError`` of an open file, which names none, name ``path``."""
    try:
        yield
    except OSError as error:
        if error.filename is not None or error.errno is None:
            raise
        raise OSError(error.errno, error.strerror, os.fspath(path)) from error


def check_path(name, path):
    """Raise ``TypeError`` or ``ValueError`` unless ``path`` can be the path of a file."""
    text = _check_name(name, path, "the path of a file")
    if text.endswith(os.sep):
        raise ValueError(f"{name} is {text!r}; accepted: the path of a file")
    try:
        mode = os.stat(text).st_mode
    except OSError:
        return  # absent, or what stands in its way is told by whoever opens it
    if stat.S_ISDIR(mode):
        raise ValueError(f"{name} is {text!r}, a directory; accepted: the path of a file")
    if not stat.S_ISREG(mode):
        raise ValueError(f"{name} is {text!r}, which is no regular file; accepted: the path of a file")


def check_folder(name, path):
    """Raise ``TypeError`` or ``ValueError`` unless ``path`` can be the path of a folder; whether it is shows later."""
    _check_name(name, path, "the path of a folder")


def _check_name(name, path, accepted):
    """The path as text; ``TypeError`` or ``ValueError`` unless it can be a path of anything."""
    if not isinstance(path, (str, os.PathLike)) or not isinstance(os.fspath(path), str):
        raise TypeError(f"{name} is {path!r}; accepted: {accepted}")
    text = os.fspath(path)
    try:
        for encoding in (sys.getfilesystemencoding(), "utf-8"):  # MXNet and safetensors take the latter only
            text.encode(encoding, "strict" if encoding == "utf-8" else "surrogateescape")
    except UnicodeEncodeError as error:
        raise ValueError(f"{name} is {text!a}, which is no name in {error.encoding}: where that is not what files are "
                         f"named in, set PYTHONUTF8=1 or a locale such as C.UTF-8") from error
    if not text or "\0" in text:
        raise ValueError(f"{name} is {text!r}; accepted: {accepted}")
    return text


def check_writable(path):
    """Raise ``OSError``, before the work it is for, unless a file can be put at ``path``; leaves everything as it is.

    Folders that are not there yet are made by :func:`write_atomically`.
    """
    try:
        target = _followed(path)
        folder = target.parent
        while not os.path.lexists(folder):
            folder = folder.parent
        longest = os.pathconf(folder, "PC_NAME_MAX")
        if any(len(os.fsencode(part)) > longest for part in target.parts):
            raise OSError(errno.ENAMETOOLONG, os.strerror(errno.ENAMETOOLONG))
        with tempfile.TemporaryFile(dir=folder):
            pass
    except OSError as error:
        raise OSError(error.errno, error.strerror, os.fspath(path)) from error


def check_target(name, path):
    """:func:`check_path` and :func:`check_writable`: for what is going to be written."""
    check_path(name, path)
    check_writable(path)


def write_atomically(path, write):
    """Call ``write(temporary_path)`` and put the result at ``path``, which a failure at any moment leaves as it was.

    Content and folder are flushed to the disk. The file has the mode of the one that it replaces, or what the umask
    leaves of 0666. A link is followed: what it names is replaced. What killed calls left behind is removed; calls for
    one path may run at the same time.

    Raises
    ------
    OSError
        When the disk or the folder does not take the file, whatever kind of error ``write`` made of it; it names
        ``path``.
    """
    target = _followed(path)
    try:
        make_folder(target.parent)
        _remove_leftovers(target)
        with _workplace(target) as (folder, mode):
            content = folder / f"content{target.suffix}"
            _call(write, content)
            _finish(content, target, mode)
            os.replace(content, target)
            flush(target.parent)
    except OSError as error:
        if not _concerns(error, target):
            raise
        raise OSError(error.errno, error.strerror or str(error), os.fspath(path)) from error


def _concerns(error, target):
    """Whether an ``OSError`` is about the writing of ``target``, and not about a file that ``write`` reads."""
    name = None if error.filename is None else str(error.filename)
    return name in (None, str(target), str(target.parent)) or name.startswith(str(target.with_name(_prefix(target))))


def make_folder(folder):
    """Make a folder and those above it, each flushed into the one that holds it."""
    if not os.path.isdir(folder):
        make_folder(folder.parent)
        with suppress(FileExistsError):  # another process was faster
            os.mkdir(folder)
        flush(folder.parent)


def flush(path):
    """Have the system put a file, or the names in a folder, on the disk itself."""
    number = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    try:
        os.fsync(number)
    except OSError as error:
        if error.errno not in (errno.EINVAL, errno.ENOTSUP):  # file systems that cannot flush a folder
            raise
    finally:
        os.close(number)


def _followed(path):
    """Where the content of ``path`` belongs: itself, or at the end of the links that it is."""
    target = Path(path)
    if target.is_symlink():
        target = Path(os.path.realpath(target))
        if target.is_symlink():
            raise OSError(errno.ELOOP, os.strerror(errno.ELOOP), os.fspath(path))
    return target


@contextmanager
def _workplace(target):
    """A folder beside ``target`` for this call alone, and the mode of new files there.

    As long as the call lives it holds the lock on a file in that folder, so that no other call takes it for a leftover.
    """
    while True:
        folder = target.with_name(f"{_prefix(target)}{secrets.token_hex(8)}{SUFFIX}")
        number = None
        try:
            os.mkdir(folder, 0o700)
            number = _lock_new(folder / "lock")
            if number is not None:
                yield folder, stat.S_IMODE(os.fstat(number).st_mode)
                return
        finally:
            try:
                _remove(folder)
            except BaseException:  # Ctrl-C comes once, mostly
                _remove(folder)
                raise
            finally:
                if number is not None:
                    os.close(number)


def _lock_new(path):
    """Make and lock a file; None when another call took the folder for a leftover meanwhile."""
    try:
        number = os.open(path, os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o666)
    except FileNotFoundError:
        return None
    if _try_lock(number) is not False and os.path.exists(path):
        return number
    os.close(number)
    return None


def _try_lock(number):
    """Lock an open file; whether that worked, or None where files cannot be locked and every folder counts as used."""
    try:
        fcntl.flock(number, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    except OSError:
        return None
    return True


def _prefix(target):
    """How the names of the folders begin in which a file is written."""
    name = target.name
    while len(os.fsencode(name)) > NAME_BYTES:
        name = name[:-1]
    return f".{name}."


def _remove_leftovers(target):
    """Remove the folders of calls that were killed."""
    pattern = re.compile(re.escape(_prefix(target)) + f"[0-9a-f]{{16}}{re.escape(SUFFIX)}")
    for name in filter(pattern.fullmatch, os.listdir(target.parent)):
        with suppress(OSError):  # another user's; or another call was faster
            _remove_leftover(target.parent / name)


def _remove_leftover(folder):
    try:
        number = os.open(folder / "lock", os.O_RDWR | os.O_NOFOLLOW | os.O_CLOEXEC)
    except FileNotFoundError:
        os.rmdir(folder)  # its call was killed, or is just about to make the lock: then it takes another folder
        return
    try:
        if _try_lock(number):
            _remove(folder)
    finally:
        os.close(number)


def _remove(folder):
    """Remove a folder with its files, the lock last."""
    with suppress(FileNotFoundError, NotADirectoryError):
        for name in sorted(os.listdir(folder), key="lock".__eq__):
            with suppress(FileNotFoundError):
                os.unlink(folder / name)
        os.rmdir(folder)


def _call(write, content):
    """Call ``write``; where a full disk made it fail, raise the system's error instead of a library's."""
    try:
        write(content)
    except OSError:
        raise
    except Exception as error:
        cause = system_error(error, content)
        if cause is None:
            raise
        raise cause from error


def system_error(error, content):
    """The ``OSError`` behind an error of a library or a program: the one it tells of, or what writing more meets.

    More is written to the file ``content``. None where there is no such error.
    """
    if told := re.search(r"\(os error (\d+)\)", str(error)):  # as Rust says it
        return OSError(int(told[1]), os.strerror(int(told[1])))
    try:
        with open(content, "ab") as file:
            file.write(bytes(CHUNK_BYTES))
            file.flush()
            os.fsync(file.fileno())
    except OSError as found:
        return found
    return None


def _finish(content, target, mode):
    """Give the content the mode and the owner of the file that it replaces, and flush it."""
    with suppress(FileNotFoundError):
        replaced = os.stat(target)
        mode = stat.S_IMODE(replaced.st_mode) & 0o777
        with suppress(PermissionError):
            os.chown(content, replaced.st_uid, replaced.st_gid)
    os.chmod(content, mode)
    flush(content)
