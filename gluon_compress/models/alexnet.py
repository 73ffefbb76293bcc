"""The first article's AlexNet."""
from __future__ import annotations

from typing import Any

from mxnet.gluon import HybridBlock, nn

from ..arguments import check_integer
from ..network.interface import in_both_interfaces


class AlexNet(HybridBlock):
    """Convolutions of 96, 256, 384, 384 and 256 channels, two hidden dense layers, no dropout.

    Input ``(batch, 3, size, size)``, output logits ``(batch, classes)``. ``size`` is 224 in the paper
    and at least 67 with these strides. ``hidden_units`` is the article's 4096, which is where nine
    tenths of the parameters are; smaller images do well with fewer.

    Krizhevsky et al., "ImageNet Classification with Deep Convolutional Neural Networks", 2012, section 3.
    """

    def __init__(self, classes: int = 1000, hidden_units: int = 4096, **kwargs: Any) -> None:
        check_integer("classes", classes, minimum=1)
        check_integer("hidden_units", hidden_units, minimum=1)
        super().__init__(**kwargs)
        with self.name_scope():
            self.features = nn.HybridSequential()
            self.features.add(                                                               # 67 or 224
                nn.Conv2D(channels=96, kernel_size=11, strides=4, activation="relu"),        # 15 or 54
                nn.MaxPool2D(pool_size=3, strides=2),                                        # 7 or 26
                nn.Conv2D(channels=256, kernel_size=5, padding=2, activation="relu"),
                nn.MaxPool2D(pool_size=3, strides=2),                                        # 3 or 12
                nn.Conv2D(channels=384, kernel_size=3, padding=1, activation="relu"),
                nn.Conv2D(channels=384, kernel_size=3, padding=1, activation="relu"),
                nn.Conv2D(channels=256, kernel_size=3, padding=1, activation="relu"),
                nn.MaxPool2D(pool_size=3, strides=2))                                        # 1 or 5
            self.dense = nn.HybridSequential()
            self.dense.add(
                nn.Dense(hidden_units, activation="relu"),
                nn.Dense(hidden_units, activation="relu"),
                nn.Dense(classes))

    @in_both_interfaces
    def hybrid_forward(self, F: Any, x: Any) -> Any:
        return self.dense(F.flatten(self.features(x)))
