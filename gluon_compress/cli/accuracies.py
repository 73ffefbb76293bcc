"""Accuracies as commands say them: on how many images of which data, and whether a loss is more than chance."""
from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

from .data import Data
from .run import Run

LOSS_SAID = 0.01  # of the accuracy: less is the price of compression
CERTAIN = 2.0  # standard deviations


def accuracy_of(run: Run, net: Any, data: Data) -> float:
    """Top-1 in [0, 1], with a progress bar."""
    import gluon_compress as gc

    return gc.training.evaluate(net, data.batches(), progress=not run.quiet)


def show_where(run: Run, parts: Mapping[str, Data | None], **further: Any) -> None:
    """Say of each part, such as "held out", of which data and on how many images its accuracies were measured.

    ``further`` goes to programs beside it.
    """
    there = {name: data for name, data in parts.items() if data is not None}
    run.give(measured_on={name: {"data": data.text, "images": data.count()} for name, data in there.items()}, **further)
    for name, data in there.items():
        run.show(f"accuracy{f', {name}' if name else ''}: top-1 on {data.count():,} images of {data.text}")


def note_loss(run: Run, what: str, before: float, after: float, data: Data, advice: str) -> None:
    """Say it when a step has lost more accuracy than ``LOSS_SAID`` and chance explain, and what would help."""
    lost, images = before - after, data.count()
    by_chance = CERTAIN * math.sqrt((before * (1 - before) + after * (1 - after)) / images)
    if lost > max(LOSS_SAID, by_chance):
        run.note(f"{what} lost {100 * lost:.1f} points of accuracy ({100 * before:.1f}% -> {100 * after:.1f}% on "
                 f"{images:,} images held out); what helps: {advice}")
