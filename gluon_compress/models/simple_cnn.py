"""The second article's SimpleCNN, for 28x28 grey images."""
from __future__ import annotations

from typing import Any

from mxnet.gluon import HybridBlock, nn

from ..arguments import check_integer
from ..network.interface import in_both_interfaces


class SimpleCNN(HybridBlock):
    """10 and 20 channels of 5x5, then 320 -> 50 -> ``classes``: 21,840 parameters for ten classes.

    Input ``(batch, 1, 28, 28)``, output logits ``(batch, classes)``.
    """

    def __init__(self, classes: int = 10, **kwargs: Any) -> None:
        check_integer("classes", classes, minimum=1)
        super().__init__(**kwargs)
        with self.name_scope():
            self.conv1 = nn.Conv2D(10, kernel_size=5, in_channels=1)
            self.conv2 = nn.Conv2D(20, kernel_size=5, in_channels=10)
            self.fc1 = nn.Dense(50, in_units=320)
            self.fc2 = nn.Dense(classes, in_units=50)

    @in_both_interfaces
    def hybrid_forward(self, F: Any, x: Any) -> Any:
        x = F.relu(self.conv1(x))                                                  # (B, 10, 24, 24)
        x = F.Pooling(x, kernel=(2, 2), stride=(2, 2), pool_type="max")            # (B, 10, 12, 12)
        x = F.relu(self.conv2(x))                                                  # (B, 20, 8, 8)
        x = F.Pooling(x, kernel=(2, 2), stride=(2, 2), pool_type="max")            # (B, 20, 4, 4)
        x = F.flatten(x)                                                           # (B, 320)
        return self.fc2(F.relu(self.fc1(x)))
