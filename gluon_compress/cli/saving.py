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
    kept = records if record_of_network(net) is not None else _with_earlier(run, opened, net, records)
    gc.save(target, net, *kept, example=example)
    run.give(records={type(record).__name__: record.to_dict() for record in kept})
    run.made(target, before=opened.bytes)


def _with_earlier(run: Run, opened: Opened, net: Any, records: list[Any]) -> list[Any]:
    """The new records, and those of the file that the network came from, but for what is no longer true."""
    from ..errors import RecordError
    kept = {type(record): record for record in records}
    for name, record in earlier_records(opened).items():
        new = kept.get(type(record))
        try:
            if new is None:
                record.check(net)
                kept[type(record)] = record
            elif record.resizes:
                kept[type(record)] = record | new
        except RecordError:
            if again := _made_anew(name, net):
                kept[type(again)] = again
            else:
                run.note(f"the {name} in {opened.text} is no longer that of this network, and not in the new file")
    return list(kept.values())


def _made_anew(name: str, net: Any) -> Any:
    """Masks of the zeros that are there, where others were for other shapes; None for another kind of record."""
    import gluon_compress as gc
    return gc.pruning.prune_magnitude(net, amount=0) if name == "masks" else None
