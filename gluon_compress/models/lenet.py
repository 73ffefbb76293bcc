"""The first article's LeNet, for 28x28 grey images."""
from __future__ import annotations

from typing import Any

from mxnet.gluon import HybridBlock, nn

from ..arguments import check_integer
from ..network.interface import in_both_interfaces


class LeNet(HybridBlock):
    """Two convolutions and two dense layers, with the article's widths 20, 50 and 128.

    It is not LeCun's network: the second kernel is 3x3. On 28x28 input it has 170,988 parameters.
    Input ``(batch, 1, 28, 28)``, output logits ``(batch, classes)``.
    """

    def __init__(self, classes: int = 10, **kwargs: Any) -> None:
        check_integer("classes", classes, minimum=1)
        super().__init__(**kwargs)
        with self.name_scope():
            self.conv = nn.HybridSequential()
            self.conv.add(
                nn.Conv2D(channels=20, kernel_size=5, activation="relu"),  # 28 -> 24
                nn.MaxPool2D(pool_size=2, strides=2),                      # -> 12
                nn.Conv2D(channels=50, kernel_size=3, activation="relu"),  # -> 10
                nn.MaxPool2D(pool_size=2, strides=2))                      # -> 5
            self.dense = nn.HybridSequential()
            self.dense.add(
                nn.Dense(128, activation="relu"),
                nn.Dense(classes))

    @in_both_interfaces
    def hybrid_forward(self, F: Any, x: Any) -> Any:
        return self.dense(F.flatten(self.conv(x)))
