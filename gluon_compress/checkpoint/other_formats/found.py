"""What was found in a file: plain data, which says where a network came from and what became of it."""
from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from typing import Any, ClassVar

from ...arguments import listed, printable


@dataclass(frozen=True)
class Found:
    """What lies at a path that :func:`~gluon_compress.load` opens.

    Attributes
    ----------
    kind : str
        Such as "checkpoint of MXNet" or "SageMaker image classification".
    files : tuple of str
        What was read: graph, then parameters.
    epoch : int or None
        That of the parameters, and ``epochs``, all that are there.
    inputs, outputs : tuple of str
        By their names in the graph.
    replaced : dict
        {name of a loss: what stands for it}.
    left_out : dict
        {name of an output, or of a parameter that nothing reads: why it is left out}.
    parameters : int
        How many numbers the parameters are that the network reads.
    settings : dict
        What else the files say: input shapes, hyperparameters.
    """

    UNREAD: ClassVar[str] = "nothing in the graph reads it"

    kind: str
    files: tuple[str, ...]
    epoch: int | None = None
    epochs: tuple[int, ...] = ()
    inputs: tuple[str, ...] = ()
    outputs: tuple[str, ...] = ()
    replaced: Mapping[str, str] = field(default_factory=dict)
    left_out: Mapping[str, str] = field(default_factory=dict)
    parameters: int = 0
    settings: Mapping[str, Any] = field(default_factory=dict)

    def __str__(self) -> str:
        return self.summary()

    def line(self) -> str:
        """One line: the kind, the files and what goes in and out."""
        epoch = "" if self.epoch is None else f", epoch {self.epoch}"
        flow = f": {listed(self.inputs)} -> {listed(self.outputs)}" if self.inputs else ""
        return f"{self.kind}, {self.files[-1]}{epoch}{flow}"

    def summary(self) -> str:
        """A few lines for a terminal."""
        rows = [("kind", self.kind), ("files", listed(self.files)),
                ("epoch", "" if self.epoch is None else f"{self.epoch} of {listed(map(str, self.epochs))}"),
                ("inputs", listed(self.inputs)), ("outputs", listed(self.outputs)),
                ("parameters", f"{self.parameters:,}" if self.parameters else ""),
                *self.replaced.items(),
                *((f"without {name}", reason) for name, reason in self.left_out.items()),
                *((name, str(value)) for name, value in self.settings.items())]
        return "\n".join(f"{printable(name)}: {printable(value, 1000)}" for name, value in rows if value)

    def to_dict(self) -> dict[str, Any]:
        """Plain data for JSON."""
        return asdict(self)
