"""Networks as the book "Dive into Deep Learning" teaches them, for MXNet's NumPy interface: few channels, small images.

They are written anew, with its style: ``npx.set_np()``, blocks that call ``F.np`` and ``F.npx``. ``NETWORKS`` has for
each name its factory, the shape of a batch of its input, and the number of different words where that is text.
"""
import math

import numpy as np
from mxnet.gluon import HybridBlock, nn
from networks import stacked

CLASSES = 5


def lenet():
    return stacked(nn.Conv2D(6, kernel_size=5, padding=2, activation="sigmoid"), nn.AvgPool2D(pool_size=2, strides=2),
                   nn.Conv2D(8, kernel_size=5, activation="sigmoid"), nn.AvgPool2D(pool_size=2, strides=2),
                   nn.Dense(24, activation="sigmoid"), nn.Dense(16, activation="sigmoid"), nn.Dense(CLASSES))


def alexnet():
    return stacked(nn.Conv2D(8, kernel_size=5, strides=2, activation="relu"), nn.MaxPool2D(pool_size=3, strides=2),
                   nn.Conv2D(12, kernel_size=5, padding=2, activation="relu"), nn.MaxPool2D(pool_size=3, strides=2),
                   nn.Conv2D(16, kernel_size=3, padding=1, activation="relu"),
                   nn.Conv2D(16, kernel_size=3, padding=1, activation="relu"),
                   nn.Conv2D(12, kernel_size=3, padding=1, activation="relu"), nn.MaxPool2D(pool_size=3, strides=2),
                   nn.Dense(32, activation="relu"), nn.Dropout(0.5), nn.Dense(32, activation="relu"), nn.Dropout(0.5),
                   nn.Dense(CLASSES))


def vgg(architecture=((1, 8), (1, 12), (2, 16))):
    net = nn.HybridSequential()
    for convolutions, channels in architecture:
        for _ in range(convolutions):
            net.add(nn.Conv2D(channels, kernel_size=3, padding=1, activation="relu"))
        net.add(nn.MaxPool2D(pool_size=2, strides=2))
    net.add(nn.Dense(24, activation="relu"), nn.Dropout(0.5), nn.Dense(CLASSES))
    return net


def nin():
    def block(channels, kernel_size, padding):
        return stacked(nn.Conv2D(channels, kernel_size, padding=padding, activation="relu"),
                       nn.Conv2D(channels, kernel_size=1, activation="relu"),
                       nn.Conv2D(channels, kernel_size=1, activation="relu"))
    return stacked(block(8, 5, 0), nn.MaxPool2D(pool_size=3, strides=2), block(12, 3, 1), nn.Dropout(0.5),
                   block(CLASSES, 3, 1), nn.GlobalAvgPool2D(), nn.Flatten())


class Inception(HybridBlock):
    """Four paths side by side."""

    def __init__(self, c1, c2, c3, c4):
        super().__init__()
        self.p1_1 = nn.Conv2D(c1, kernel_size=1, activation="relu")
        self.p2_1 = nn.Conv2D(c2[0], kernel_size=1, activation="relu")
        self.p2_2 = nn.Conv2D(c2[1], kernel_size=3, padding=1, activation="relu")
        self.p3_1 = nn.Conv2D(c3[0], kernel_size=1, activation="relu")
        self.p3_2 = nn.Conv2D(c3[1], kernel_size=5, padding=2, activation="relu")
        self.p4_1 = nn.MaxPool2D(pool_size=3, strides=1, padding=1)
        self.p4_2 = nn.Conv2D(c4, kernel_size=1, activation="relu")

    def hybrid_forward(self, F, x):
        return F.np.concatenate((self.p1_1(x), self.p2_2(self.p2_1(x)), self.p3_2(self.p3_1(x)),
                                 self.p4_2(self.p4_1(x))), axis=1)


def googlenet():
    return stacked(nn.Conv2D(8, kernel_size=3, padding=1, activation="relu"),
                   nn.MaxPool2D(pool_size=3, strides=2, padding=1), nn.Conv2D(8, kernel_size=1, activation="relu"),
                   Inception(6, (4, 8), (2, 4), 4), Inception(8, (6, 8), (4, 6), 4),
                   nn.MaxPool2D(pool_size=3, strides=2, padding=1), Inception(8, (6, 10), (4, 6), 4),
                   nn.GlobalAvgPool2D(), nn.Dense(CLASSES))


class Residual(HybridBlock):
    """Two convolutions beside a shortcut, which may be a convolution of 1x1 pixel."""

    def __init__(self, channels, use_1x1conv=False, strides=1):
        super().__init__()
        self.conv1 = nn.Conv2D(channels, kernel_size=3, padding=1, strides=strides)
        self.conv2 = nn.Conv2D(channels, kernel_size=3, padding=1)
        self.conv3 = nn.Conv2D(channels, kernel_size=1, strides=strides) if use_1x1conv else None
        self.bn1 = nn.BatchNorm()
        self.bn2 = nn.BatchNorm()

    def hybrid_forward(self, F, x):
        y = self.bn2(self.conv2(F.npx.relu(self.bn1(self.conv1(x)))))
        return F.npx.relu(y + (self.conv3(x) if self.conv3 else x))


def resnet18():
    net = stacked(nn.Conv2D(8, kernel_size=3, padding=1), nn.BatchNorm(), nn.Activation("relu"),
                  nn.MaxPool2D(pool_size=3, strides=2, padding=1))
    for stage, channels in enumerate((8, 12, 16, 20)):
        for number in range(2):
            first = stage > 0 and number == 0
            net.add(Residual(channels, use_1x1conv=first, strides=2 if first else 1))
    net.add(nn.GlobalAvgPool2D(), nn.Dense(CLASSES))
    return net


class DenseBlock(HybridBlock):
    """Each layer reads what all before it made."""

    def __init__(self, layers, growth):
        super().__init__()
        self.net = stacked(*(stacked(nn.BatchNorm(), nn.Activation("relu"), nn.Conv2D(growth, kernel_size=3, padding=1))
                             for _ in range(layers)))

    def hybrid_forward(self, F, x):
        for layer in self.net:
            x = F.np.concatenate((x, layer(x)), axis=1)
        return x


def densenet():
    net = stacked(nn.Conv2D(8, kernel_size=3, padding=1), nn.BatchNorm(), nn.Activation("relu"),
                  nn.MaxPool2D(pool_size=3, strides=2, padding=1))
    for channels in (10, 12, None):
        net.add(DenseBlock(2, 6))
        if channels is not None:
            net.add(nn.BatchNorm(), nn.Activation("relu"), nn.Conv2D(channels, kernel_size=1),
                    nn.AvgPool2D(pool_size=2, strides=2))
    net.add(nn.BatchNorm(), nn.Activation("relu"), nn.GlobalAvgPool2D(), nn.Dense(CLASSES))
    return net


class ResidualMlp(HybridBlock):
    """Dense layers with a shortcut around each two of them."""

    def __init__(self, units=16, hidden=24, blocks=3):
        super().__init__()
        self.input = nn.Dense(units)
        self.blocks = stacked(*(stacked(nn.Dense(hidden, activation="relu"), nn.Dropout(0.1), nn.Dense(units))
                                for _ in range(blocks)))
        self.output = nn.Dense(CLASSES)

    def hybrid_forward(self, F, x):
        x = self.input(x)
        for block in self.blocks:
            x = F.npx.relu(x + block(x))
        return self.output(x)


class MultiHeadAttention(HybridBlock):
    """Each head attends by itself; batch and heads share an axis meanwhile."""

    def __init__(self, units, num_heads, dropout):
        super().__init__()
        self.num_heads, self.scale = num_heads, 1 / math.sqrt(units // num_heads)
        self.W_q = nn.Dense(units, use_bias=False, flatten=False)
        self.W_k = nn.Dense(units, use_bias=False, flatten=False)
        self.W_v = nn.Dense(units, use_bias=False, flatten=False)
        self.W_o = nn.Dense(units, use_bias=False, flatten=False)
        self.dropout = nn.Dropout(dropout)

    def split(self, F, x):
        """(batch, steps, units) to (batch * heads, steps, units / heads)."""
        x = F.npx.reshape(x, (-2, -2, self.num_heads, -1))
        return F.npx.reshape(F.np.transpose(x, (0, 2, 1, 3)), (-5, -2, -2))

    def hybrid_forward(self, F, queries, keys, values, lengths=None):
        queries, keys, values = (self.split(F, x) for x in (self.W_q(queries), self.W_k(keys), self.W_v(values)))
        scores = F.npx.batch_dot(queries, keys, transpose_b=True) * self.scale
        if lengths is not None:
            lengths = F.np.repeat(lengths, self.num_heads, axis=0)
            masked = F.npx.sequence_mask(F.np.transpose(scores, (2, 0, 1)), lengths, use_sequence_length=True,
                                         value=-1e6, axis=0)
            scores = F.np.transpose(masked, (1, 2, 0))
        found = F.npx.batch_dot(self.dropout(F.npx.softmax(scores, axis=-1)), values)
        found = F.np.transpose(F.npx.reshape(found, (-6, -1, self.num_heads, -2, -2)), (0, 2, 1, 3))
        return self.W_o(F.npx.reshape(found, (-2, -2, -1)))


class EncoderBlock(HybridBlock):
    """Self-attention and a network for each position, with a shortcut and a LayerNorm behind both."""

    def __init__(self, units, hidden, num_heads, dropout):
        super().__init__()
        self.attention = MultiHeadAttention(units, num_heads, dropout)
        self.norm1, self.norm2 = nn.LayerNorm(), nn.LayerNorm()
        self.ffn = stacked(nn.Dense(hidden, flatten=False, activation="relu"), nn.Dense(units, flatten=False))
        self.dropout = nn.Dropout(dropout)

    def hybrid_forward(self, F, x, *lengths):
        x = self.norm1(x + self.dropout(self.attention(x, x, x, *lengths)))
        return self.norm2(x + self.dropout(self.ffn(x)))


class TransformerEncoder(HybridBlock):
    """Words of a sentence to its class; sentences may have lengths of their own."""

    def __init__(self, words=20, steps=7, units=16, hidden=24, num_heads=4, blocks=2, dropout=0.1):
        super().__init__()
        self.scale = math.sqrt(units)
        self.embedding = nn.Embedding(words, units)
        angles = np.arange(steps)[:, None] / np.power(10000, np.arange(0, units, 2) / units)
        positions = np.stack([np.sin(angles), np.cos(angles)], axis=-1).reshape(1, steps, units).astype(np.float32)
        self.positions = self.params.get_constant("positions", positions)
        self.dropout = nn.Dropout(dropout)
        self.blocks = stacked(*(EncoderBlock(units, hidden, num_heads, dropout) for _ in range(blocks)))
        self.output = nn.Dense(CLASSES)

    def hybrid_forward(self, F, words, *lengths, positions):
        x = self.dropout(self.embedding(words) * self.scale + positions)
        for block in self.blocks:
            x = block(x, *lengths)
        return self.output(x.mean(axis=1))


NETWORKS = {"lenet": (lenet, (8, 1, 28, 28), None), "alexnet": (alexnet, (8, 1, 45, 45), None),
            "vgg": (vgg, (8, 1, 24, 24), None), "nin": (nin, (8, 1, 24, 24), None),
            "googlenet": (googlenet, (8, 1, 20, 20), None), "resnet18": (resnet18, (8, 1, 24, 24), None),
            "densenet": (densenet, (8, 1, 20, 20), None), "residual mlp": (ResidualMlp, (8, 12), None),
            "transformer": (TransformerEncoder, (8, 7), 20)}
