"""What a compression made, stage by stage: plain data."""
from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from ...files.schema import Malformed, anything, boolean, fields, integer, list_of, mapping, number, text
from ...records import KINDS, Record
from ...tables import format_table

NOTES = {"note": text(10_000), "settings": mapping(anything)}
ROW = fields({"bytes": integer(1, 2 ** 62), "accuracy": number(0, 1), "drop": number(-1, 1),
              "standard_error": number(0, 1), "fits": boolean},
             {"stage": text(), "sha256": text(), "seconds": number(0), **NOTES})
PERCENT = 100


class Compression(Record):
    """What :func:`compress` made.

    Attributes
    ----------
    rows : list of dict
        A row per stage, the original first: ``stage``, ``bytes`` of its whole file, ``accuracy`` on the data that
        chose, ``drop`` of it, the ``standard_error`` of that drop, whether it ``fits``, ``seconds``, and where there
        are any a ``note`` and ``settings`` that were found, such as the sparsity and the rate.
    samples : int
        On how many samples accuracies were measured.
    max_accuracy_drop : float
    records : tuple of records
        For ``gc.save(path, net, *records)``.
    """

    title = "record of a compression"
    schema = fields({"rows": list_of(ROW, least=1), "samples": integer(1, 2 ** 62),
                     "max_accuracy_drop": number(0, 1), "records": mapping(anything)})

    def __init__(self, rows: Sequence[Mapping[str, Any]], samples: int, max_accuracy_drop: float,
                 records: Sequence[Record] = ()) -> None:
        self.rows = [dict(row) for row in rows]
        self.samples, self.max_accuracy_drop, self.records = samples, max_accuracy_drop, tuple(records)

    @property
    def left_out(self) -> dict[str, str]:  # type: ignore[override]
        """{layer name: why it was left alone}, by the last technique that has one."""
        return dict(self.records[-1].left_out) if self.records else {}

    @property
    def ratio(self) -> float:
        """How many times smaller the file is than the original's."""
        return self.rows[0]["bytes"] / self.rows[-1]["bytes"]

    def summary(self) -> str:
        """A table with a row per stage."""
        return format_table(("stage", "bytes", "smaller", "accuracy", "points lost", "+-", "note"),
                            [self.line(row) for row in self.rows])

    def line(self, row: Mapping[str, Any]) -> tuple[str, ...]:
        """What the table says of a row; ``+-`` is one standard error, in points."""
        return (row["stage"], f"{row['bytes']:,}", f"{self.rows[0]['bytes'] / row['bytes']:.1f}x",
                f"{row['accuracy']:.4f}", f"{PERCENT * row['drop']:.2f}", f"{PERCENT * row['standard_error']:.2f}",
                row.get("note", ""))

    def to_dict(self) -> dict[str, Any]:
        """JSON-serializable."""
        return {"rows": self.rows, "samples": self.samples, "max_accuracy_drop": self.max_accuracy_drop,
                "records": {record.in_files: record.to_dict() for record in self.records}}

    @classmethod
    def of_checked(cls, record: dict[str, Any]) -> Compression:
        unknown = sorted(record["records"].keys() - KINDS.keys())
        if unknown:
            raise Malformed(f"records has {unknown[0]!r}; accepted: {', '.join(sorted(KINDS))}")
        records = [KINDS[name].from_dict(each) for name, each in record["records"].items()]
        return cls(record["rows"], record["samples"], record["max_accuracy_drop"], records)
