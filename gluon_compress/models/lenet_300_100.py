"""LeNet-300-100: the fully connected network of the published MNIST pruning tables."""
from __future__ import annotations

from typing import Any

from mxnet.gluon import HybridBlock, nn

from ..arguments import check_integer


class LeNet300100(HybridBlock):
    """784 -> 300 -> 100 -> ``classes``: 266,610 parameters for ten classes.

    Input ``(batch, 1, 28, 28)`` or ``(batch, 784)``, output logits ``(batch, classes)``.

    LeCun et al., "Gradient-Based Learning Applied to Document Recognition", 1998; Han et al., "Deep
    Compression", 2016, table 2.
    """

    def __init__(self, classes: int = 10, **kwargs: Any) -> None:
        check_integer("classes", classes, minimum=1)
        super().__init__(**kwargs)
        with self.name_scope():
            self.features = nn.HybridSequential()
            self.features.add(
                nn.Flatten(),
                nn.Dense(300, activation="relu", in_units=784),
                nn.Dense(100, activation="relu", in_units=300))
            self.output = nn.Dense(classes, in_units=100)

    def hybrid_forward(self, F: Any, x: Any) -> Any:
        return self.output(self.features(x))
