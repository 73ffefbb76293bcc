"""The first article's distillation student."""
from __future__ import annotations

from typing import Any

from mxnet.gluon import HybridBlock, nn

from ..arguments import check_integer


class SmallConvNet(HybridBlock):
    """One convolution of 32 channels, batch normalization, pooling and one dense layer.

    Input ``(batch, 3, height, width)``, output logits ``(batch, classes)``. On 32x32 images with ten
    classes it has 82,890 trained parameters, nearly all in the dense layer.
    """

    def __init__(self, classes: int = 1000, **kwargs: Any) -> None:
        check_integer("classes", classes, minimum=1)
        super().__init__(**kwargs)
        with self.name_scope():
            self.features = nn.HybridSequential()
            self.features.add(
                nn.Conv2D(channels=32, kernel_size=3, strides=1, padding=1),
                nn.BatchNorm(),
                nn.Activation("relu"),
                nn.MaxPool2D(pool_size=2, strides=2),
                nn.Flatten())
            self.output = nn.Dense(classes)

    def hybrid_forward(self, F: Any, x: Any) -> Any:
        return self.output(self.features(x))
