"""Writing that leaves the old file or the whole new one, whatever happens."""
import errno
import fcntl
import os
import re
import secrets
import stat
from contextlib import contextmanager, suppress

from .locks import CHUNK_BYTES
from .paths import NAME_BYTES, followed

SUFFIX = ".tmp"


@contextmanager
def naming(path):
    """Let an ``OSError`` of an open file, which names none, name ``path``."""
    try:
        yield
    except OSError as error:
        if error.filename is not None or error.errno is None:
            raise
        raise OSError(error.errno, error.strerror, os.fspath(path)) from error


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
    target = followed(path)
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
