"""Run a script as a worker's main program, and note how it ends: ``python -c "<this>" SCRIPT [ARGUMENTS]...``

No code that Python runs while it ends can tell ``sys.exit(1)`` from a good end, and a worker must know: it waits for
the others after a good end only. So the launcher starts its workers with this text. It needs nothing of gluon_compress,
which the script imports, after what the script puts into the environment.
"""
from __future__ import annotations

import io
import os
import runpy
import sys
from types import ModuleType


def run(script: str, arguments: list[str]) -> None:
    """Run a file, a folder with a ``__main__.py``, or the module after ``-m``, as Python does."""
    if sys.path[:1] == [""]:  # of -c
        del sys.path[0]
    if script == "-m":
        sys.path.insert(0, os.getcwd())
        sys.argv = arguments
        runpy.run_module(arguments[0], run_name="__main__", alter_sys=True)
    else:
        sys.argv = [script, *arguments]
        is_file = os.path.isfile(script)
        sys.path.insert(0, os.path.dirname(os.path.realpath(script)) if is_file else os.path.abspath(script))
        run_file(os.path.abspath(script if is_file else os.path.join(script, "__main__.py")))


def run_file(path: str) -> None:
    """Run a file as the module ``__main__``."""
    sys.modules["__main__"] = main = ModuleType("__main__")
    main.__file__ = path
    with io.open_code(path) as file:
        code = compile(file.read(), path, "exec")
    exec(code, vars(main))


def status_of(error: BaseException) -> int:
    """The status with which Python ends after an error: 0 after a ``sys.exit()`` without one."""
    code = error.code if isinstance(error, SystemExit) else 1
    return 0 if code is None else code if isinstance(code, int) else 1


def main() -> None:
    """Run what the arguments name; an error goes on to Python once the connection to the other workers knows it."""
    try:
        run(sys.argv[1], sys.argv[2:])
    except BaseException as error:
        connection = sys.modules.get("gluon_compress.workers.connection")
        if connection is not None and status_of(error):
            connection.end_badly(status_of(error))
        raise


if __name__ == "__main__":
    main()
