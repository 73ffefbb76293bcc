"""Which axes of the inputs may be those of the samples."""
from __future__ import annotations

import itertools
from collections.abc import Mapping, Sequence
from typing import Any

from ...network.nodes import Node
from .lengths import Axes, Shape, steps_first

MOST = 32  # combinations that are tried


def batch_axes(nodes: Sequence[Node], inputs: Mapping[str, tuple[Shape, Any]]) -> list[Axes]:
    """Candidates, the likeliest first: axis 0 of all inputs; axis 1 where an operator has steps before samples.

    Inputs have the same number of samples; one that has no such axis has none.
    """
    shapes = {name: shape for name, (shape, _) in inputs.items()}
    first = next(iter(shapes.values()))
    candidates: list[Axes] = []
    for axis in (0, 1) if any(map(steps_first, nodes)) else (0,):
        if axis < len(first):
            options = [_options(shape, first[axis], axis) for shape in shapes.values()]
            options[0] = [axis]
            candidates += [dict(zip(shapes, chosen)) for chosen in itertools.islice(itertools.product(*options), MOST)]
    return candidates


def _options(shape: Shape, batch: int, likely: int) -> list[int | None]:
    axes = [axis for axis, length in enumerate(shape) if length == batch]
    return [*sorted(axes, key=lambda axis: axis != likely), None]
