"""How this process was started: as the command line, which answers ``--help`` before MXNet is imported, or not."""
from __future__ import annotations

import importlib
import os
import sys

COMMAND = "gluon-compress"
PACKAGE = __name__.partition(".")[0]
_imports_all = True  # what ``import gluon_compress`` does


def _is_command() -> bool:
    if os.path.basename(sys.argv[0] if sys.argv else "") == COMMAND:
        return True
    given = sys.orig_argv
    return "-m" in given and given[given.index("-m") + 1:][:1] == [PACKAGE]


def imports_all() -> bool:
    """Whether ``import gluon_compress`` imports everything: not in the command line's own process, at its start."""
    return _imports_all


def import_all() -> None:
    """Import what the command line has put off: MXNet, and all that this package shows."""
    global _imports_all
    if not _imports_all:
        _imports_all = True
        importlib.reload(sys.modules[PACKAGE])


if _is_command():
    _imports_all = False
