"""The points that rate.py measured of a network, and which of them its rules choose."""
from __future__ import annotations

import json
from typing import Any

import click
from recording import RESULTS, describe_machine, write_json

FOLDER = RESULTS / "rate"
OURS, NNCODEC = "ours", "nncodec"
CALIBRATION, HELD_OUT = 10_000, {"mnist": 10_000, "cifar10": 5000}
FIRST = 2000  # where in the shuffled training images those that are held out begin
ALLOWED, SEED = 0.001, 0
RULES = {"held-out expected loss": "without labels", "held-out loss": "by labels"}
CONDITIONS = {"calibration images": CALIBRATION, "held-out training images": HELD_OUT, "allowed loss": ALLOWED,
              "seed": SEED, "nncodec": "2.1.3"}


class Measurement:
    """The points of one network, in its file."""

    def __init__(self, name: str) -> None:
        self.name, self.path = name, FOLDER / f"{name}.json"
        self.read()

    def read(self) -> None:
        self.found = json.loads(self.path.read_text()) if self.path.exists() else {"points": []}
        if self.found.get("conditions", CONDITIONS) != CONDITIONS:
            raise click.ClickException(f"{self.path} was measured under other conditions; remove it")
        self.found["conditions"] = CONDITIONS

    def points(self, coder: str) -> list[dict[str, Any]]:
        """From the largest file to the smallest."""
        found = [point for point in self.found["points"] if point["coder"] == coder]
        return sorted(found, key=lambda point: -point["bytes"])

    def has(self, coder: str, setting: float) -> bool:
        return any(point["setting"] == setting for point in self.points(coder))

    def add(self, point: dict[str, Any]) -> None:
        self.read()  # another process may measure the other coder
        self.found["points"].append(point)
        self.found["machine"] = describe_machine()
        write_json(self.path, self.found)

    def chosen(self, coder: str, rule: str = next(iter(RULES))) -> dict[str, Any] | None:
        """The smallest file before the first that loses too much on held-out images."""
        best = None
        for point in self.points(coder):
            if self.loss(point, rule) > ALLOWED:
                break
            best = point
        return best

    def loss(self, point: dict[str, Any], rule: str) -> float:
        if rule == "held-out loss":
            return self.found["original"]["held-out accuracy"] - point["held-out accuracy"]
        return point[rule]
