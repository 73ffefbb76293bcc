"""The file of curves that ``gluon-compress sensitivity`` writes, and what layers may lose by it."""
from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

from .failures import Refusal
from .run import Run, plain

CURVES_BYTES = 64 << 20


def read_curves(run: Run, path: str) -> Any:
    """The Sensitivity in a file; ``Refusal`` where it holds none."""
    import gluon_compress as gc

    if os.path.isfile(path) and os.path.getsize(path) > CURVES_BYTES:
        raise Refusal(f"{path} is longer than {CURVES_BYTES:,} bytes; accepted: what gluon-compress sensitivity wrote")
    run.uses(path)
    try:
        return gc.pruning.Sensitivity.from_dict(json.loads(Path(path).read_text(encoding="utf-8")))
    except (ValueError, RecursionError, gc.RecordError) as error:
        raise Refusal(f"{path} holds no curves; accepted: what gluon-compress sensitivity wrote ({error})") from error


def write_curves(record: Any, path: str) -> None:
    """Write a Sensitivity as JSON."""
    from ..files.writing import write_text

    write_text(path, json.dumps(plain(record.to_dict()), indent=1))
