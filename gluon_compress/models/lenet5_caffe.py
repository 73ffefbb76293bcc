"""LeNet-5 as Caffe ships it: the network of the published MNIST pruning tables."""
from __future__ import annotations

from typing import Any

from mxnet.gluon import HybridBlock, nn

from ..arguments import check_integer


class LeNet5Caffe(HybridBlock):
    """20 and 50 channels of 5x5, then 800 -> 500 -> ``classes``: 431,080 parameters for ten classes.

    Caffe puts no activation after the convolutions, only after the first dense layer.
    Input ``(batch, 1, 28, 28)``, output logits ``(batch, classes)``.

    Han et al., "Deep Compression", 2016, table 3.
    """

    def __init__(self, classes: int = 10, **kwargs: Any) -> None:
        check_integer("classes", classes, minimum=1)
        super().__init__(**kwargs)
        with self.name_scope():
            self.features = nn.HybridSequential()
            self.features.add(
                nn.Conv2D(20, kernel_size=5, in_channels=1),    # 28 -> 24
                nn.MaxPool2D(2, strides=2),                     # -> 12
                nn.Conv2D(50, kernel_size=5, in_channels=20),   # -> 8
                nn.MaxPool2D(2, strides=2),                     # -> 4
                nn.Flatten(),
                nn.Dense(500, activation="relu", in_units=800))
            self.output = nn.Dense(classes, in_units=500)

    def hybrid_forward(self, F: Any, x: Any) -> Any:
        return self.output(self.features(x))
