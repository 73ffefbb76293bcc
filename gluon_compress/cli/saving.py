"""Compressed files: what a technique did, together with what earlier commands did to the same network."""
from __future__ import annotations

from pathlib import Path
from typing import Any

from .networks import Opened
from .run import Run

OUR_FILE = "compressed network"  # the kind of Opened


def earlier_records(opened: Opened) -> dict[str, Any]:
    """{name: record} of the file that a network comes from; {} where that is no file of ours."""
    import gluon_compress as gc

    if opened.found is None or opened.found.kind != OUR_FILE:
        return {}
    return {name: record for name, record in gc.checkpoint.records(opened.text).items() if name != "quantization"}


def save_network(run: Run, opened: Opened, target: Path, net: Any, records: list[Any], example: Any) -> None:
    """Write a compressed file with these records, and those of the network's own file that still hold."""
    import gluon_compress as gc

    from ..records import record_of_network
    kept = [] if record_of_network(net) is not None else _still_true(run, opened, net, records)
    gc.save(target, net, *records, *kept, example=example)
    run.give(records={type(record).__name__: record.to_dict() for record in records})
    run.made(target, before=opened.bytes)


def _still_true(run: Run, opened: Opened, net: Any, records: list[Any]) -> list[Any]:
    """The records of the file that the network came from, but for those that what was done has made untrue."""
    from ..errors import RecordError
    kept = []
    for record in earlier_records(opened).values():
        if record.resizes or any(type(record) is type(new) for new in records):
            continue  # the file is read without the network as it was once; new masks hold the old zeros, too
        try:
            record.check(net)
            kept.append(record)
        except RecordError as error:
            run.note(f"{record.title} of {opened.text} no longer holds and is not in the new file: {error}")
    return kept
