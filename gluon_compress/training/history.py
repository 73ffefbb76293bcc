"""What a training did, epoch by epoch."""
from __future__ import annotations

from dataclasses import asdict, dataclass, field


@dataclass
class History:
    """What a training did: one dict per epoch, and the best epoch when there was validation data.

    Keys of an epoch: ``epoch`` (from 1), ``loss`` and ``accuracy`` (means over the training batches as
    they were seen), ``validation_accuracy`` (or None), ``learning_rate`` (of the last step), ``seconds``.
    """

    epochs: list[dict] = field(default_factory=list)

    @property
    def best(self) -> dict | None:
        """The epoch with the highest validation accuracy, the first of equals; None without validation."""
        validated = [epoch for epoch in self.epochs if epoch["validation_accuracy"] is not None]
        return max(validated, key=lambda epoch: epoch["validation_accuracy"], default=None)

    def to_dict(self) -> dict:
        return asdict(self)

    def __str__(self) -> str:
        lines = ["epoch    loss  accuracy  validation  seconds"]
        for epoch in self.epochs:
            validation = epoch["validation_accuracy"]
            lines.append(f"{epoch['epoch']:5d}  {epoch['loss']:6.4f}  {epoch['accuracy']:8.4f}  "
                         f"{'' if validation is None else f'{validation:.4f}':>10}  {epoch['seconds']:7.1f}")
        return "\n".join(lines)
