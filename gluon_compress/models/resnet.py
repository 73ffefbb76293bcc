"""The first article's ResNet, with the layers it left out.

He et al., "Deep Residual Learning for Image Recognition", 2015, section 3.3 and table 1: version 1,
that is convolution - batch normalization - ReLU, with the ReLU after the addition.
"""
from __future__ import annotations

from typing import Any

from mxnet.gluon import HybridBlock, nn

from ..arguments import check_choice, check_flag, check_integer
from ..network.interface import in_both_interfaces

# depth: (blocks per stage, whether the blocks are bottlenecks)
BOTTLENECK_EXPANSION = 4
STAGES = {18: ((2, 2, 2, 2), False), 34: ((3, 4, 6, 3), False), 50: ((3, 4, 6, 3), True)}


class Residual(HybridBlock):
    """``relu(body(x) + shortcut(x))``; the shortcut is the identity when it is None."""

    def __init__(self, body: HybridBlock, shortcut: HybridBlock | None, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.body = body
        self.shortcut = shortcut

    @in_both_interfaces
    def hybrid_forward(self, F: Any, x: Any) -> Any:
        return F.relu(self.body(x) + (x if self.shortcut is None else self.shortcut(x)))


def _basic_block(channels: int, strides: int, in_channels: int) -> Residual:
    """Two 3x3 convolutions, ``channels`` wide."""
    body = nn.HybridSequential()
    body.add(
        nn.Conv2D(channels, 3, strides, padding=1, use_bias=False, in_channels=in_channels),
        nn.BatchNorm(),
        nn.Activation("relu"),
        nn.Conv2D(channels, 3, padding=1, use_bias=False, in_channels=channels),
        nn.BatchNorm())
    return Residual(body, _projection(channels, strides, in_channels))


def _bottleneck_block(channels: int, strides: int, in_channels: int) -> Residual:
    """1x1, 3x3 and 1x1 convolutions, ``channels / 4`` wide inside."""
    middle = channels // BOTTLENECK_EXPANSION
    body = nn.HybridSequential()
    body.add(
        nn.Conv2D(middle, 1, strides, use_bias=False, in_channels=in_channels),
        nn.BatchNorm(),
        nn.Activation("relu"),
        nn.Conv2D(middle, 3, padding=1, use_bias=False, in_channels=middle),
        nn.BatchNorm(),
        nn.Activation("relu"),
        nn.Conv2D(channels, 1, use_bias=False, in_channels=middle),
        nn.BatchNorm())
    return Residual(body, _projection(channels, strides, in_channels))


def _projection(channels: int, strides: int, in_channels: int) -> HybridBlock | None:
    """The 1x1 convolution of a shortcut whose ends differ in shape (option B of the paper), or None."""
    if strides == 1 and channels == in_channels:
        return None
    projection = nn.HybridSequential()
    projection.add(
        nn.Conv2D(channels, 1, strides, use_bias=False, in_channels=in_channels),
        nn.BatchNorm())
    return projection


class ResNet(HybridBlock):
    """ResNet-18, 34 or 50 (v1).

    Parameters
    ----------
    depth : 18, 34 or 50
    classes : int
    thumbnail : bool
        False: the paper's stem for 224x224 images, a 7x7 convolution with stride 2 and a max pooling.
        True: one 3x3 convolution with stride 1, for 32x32 images.
    width : int
        Channels of the first stage; each further stage doubles them. 64 in the paper.

    Input ``(batch, 3, height, width)``, output logits ``(batch, classes)``. With ``depth=18`` and 1000
    classes there are 11,689,512 trained parameters, with 34 21,797,672 and with 50 25,557,032.
    """

    def __init__(self, depth: int = 18, classes: int = 1000, thumbnail: bool = False, width: int = 64,
                 **kwargs: Any) -> None:
        check_flag("thumbnail", thumbnail)
        check_choice("depth", depth, sorted(STAGES))
        for name, value in (("classes", classes), ("width", width)):
            check_integer(name, value, minimum=1)
        super().__init__(**kwargs)
        blocks_per_stage, bottleneck = STAGES[depth]
        block = _bottleneck_block if bottleneck else _basic_block
        expansion = BOTTLENECK_EXPANSION if bottleneck else 1
        with self.name_scope():
            self.features = nn.HybridSequential()
            self.features.add(*_stem(width, thumbnail))
            in_channels = width
            for stage, blocks in enumerate(blocks_per_stage):
                channels = width * 2 ** stage * expansion
                layers = nn.HybridSequential()
                for index in range(blocks):
                    strides = 2 if stage > 0 and index == 0 else 1
                    layers.add(block(channels, strides, in_channels))
                    in_channels = channels
                self.features.add(layers)
            self.features.add(nn.GlobalAvgPool2D(), nn.Flatten())
            self.output = nn.Dense(classes, in_units=in_channels)

    def hybrid_forward(self, F: Any, x: Any) -> Any:
        return self.output(self.features(x))


def _stem(width: int, thumbnail: bool) -> tuple[HybridBlock, ...]:
    if thumbnail:
        return (nn.Conv2D(width, 3, padding=1, use_bias=False, in_channels=3),
                nn.BatchNorm(),
                nn.Activation("relu"))
    return (nn.Conv2D(width, 7, strides=2, padding=3, use_bias=False, in_channels=3),
            nn.BatchNorm(),
            nn.Activation("relu"),
            nn.MaxPool2D(3, strides=2, padding=1))
