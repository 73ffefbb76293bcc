"""Small networks whose files are mutated: between them they have most of the operators that networks have.

Each function returns ``(net, shape of its input)``; :func:`ready` initializes what one returns.
"""
import gluon_compress  # before mxnet: see gluon_compress/runtime  # noqa: F401
import mxnet as mx
from gluon_compress import network
from mxnet.gluon import HybridBlock, nn, rnn


def plain_net():
    net = nn.HybridSequential(prefix="plain_")
    with net.name_scope():
        net.add(nn.Conv2D(6, 3, in_channels=2, use_bias=False), nn.BatchNorm(in_channels=6), nn.Activation("relu"),
                nn.Conv2D(8, 3, in_channels=6, activation="relu"), nn.MaxPool2D(2), nn.Flatten(),
                nn.Dense(7, in_units=32, activation="relu"), nn.Dense(5, in_units=7))
    return net, (2, 2, 8, 8)


def _of_function(compute, shape, *layers):
    """A network of these layers, computed by ``compute(F, x, *layers)``."""
    class Network(HybridBlock):
        def __init__(self):
            super().__init__(prefix="net_")
            with self.name_scope():
                self.own = [layer() for layer in layers]
                for layer in self.own:
                    self.register_child(layer)

        def hybrid_forward(self, F, x):
            return compute(F, x, *self.own)
    return Network(), shape


def wide_net():
    """Tensors of so many bytes that a file codes them in its fastest forms."""
    net = nn.HybridSequential(prefix="wide_")
    with net.name_scope():
        net.add(nn.Dense(160, in_units=128, activation="relu"), nn.Dense(110, in_units=160))
    return net, (2, 128)


def branches():
    def compute(F, x, first, left, right, transposed, group, prelu, dense):
        x = prelu(first(x))
        x = F.concat(left(x), F.LeakyReLU(right(x), slope=0.1), dim=1) + F.broadcast_mul(x, F.sigmoid(x))
        x = group(F.UpSampling(transposed(x), scale=2, sample_type="nearest"))
        x = F.Pooling(x, kernel=(2, 2), stride=(2, 2), pool_type="avg", pooling_convention="full")
        return F.softmax(dense(F.contrib.AdaptiveAvgPooling2D(x, output_size=2)), axis=-1)
    return _of_function(compute, (2, 3, 8, 8), lambda: nn.Conv2D(8, 3, padding=1, in_channels=3),
                        lambda: nn.Conv2D(4, 1, in_channels=8),
                        lambda: nn.Conv2D(4, 3, padding=1, groups=2, in_channels=8),
                        lambda: nn.Conv2DTranspose(6, 2, strides=2, in_channels=8),
                        lambda: nn.GroupNorm(3), nn.PReLU, lambda: nn.Dense(5, in_units=24))


def many_operators():
    def compute(F, x):
        x = F.pad(x, mode="edge", pad_width=(0, 0, 0, 0, 1, 1, 1, 1))
        x = F.L2Normalization(F.LRN(x, nsize=3), mode="channel")
        left, right = F.split(x, num_outputs=2, axis=1)
        x = F.transpose(F.tile(left, reps=(1, 2, 1, 1)), axes=(0, 2, 3, 1)).swapaxes(1, 2)
        x = F.slice_axis(F.repeat(x, repeats=2, axis=3), axis=3, begin=1, end=7)
        x = F.reshape(F.depth_to_space(F.transpose(F.slice(x, begin=(0, 0, 0, 0), end=(2, 4, 4, 4)), axes=(0, 3, 1, 2)),
                                       block_size=2), shape=(0, -1, 4))
        x = F.broadcast_add(F.batch_dot(x, x, transpose_b=True),
                            F.expand_dims(F.mean(right, axis=(1, 2, 3)), 1).reshape((0, 1, 1)))
        best = F.topk(x, k=3, axis=-1, ret_typ="indices")
        picked = F.take(F.arange(0, 16, 1), best).clip(0, 9)
        hot = F.one_hot(picked, depth=10).sum(axis=2)
        return F.where(hot > 0, F.exp(-hot), F.zeros_like(hot)), F.cast(F.argmax(x, axis=1), "float32"), \
            F.reverse(F.squeeze(F.stack(F.max(x, axis=1), F.norm(x, axis=1))), axis=0)
    return _of_function(compute, (2, 4, 6, 6))


def recurrent():
    def compute(F, x, embedding, lstm, norm, dense):
        x = embedding(F.broadcast_mod(F.abs(x.round()), F.ones_like(x) * 11))
        x = norm(lstm(F.swapaxes(x, 0, 1)))
        x = F.SequenceLast(x)
        return F.log_softmax(F.Dropout(dense(x), p=0.3))
    return _of_function(compute, (3, 5), lambda: nn.Embedding(11, 4), lambda: rnn.LSTM(6, num_layers=2, input_size=4,
                        bidirectional=True), lambda: nn.LayerNorm(in_channels=12), lambda: nn.Dense(5, in_units=12))


def ready(make):
    """``(net, example)``: the network of ``make``, with weights."""
    net, shape = make()
    net.initialize(mx.init.Xavier())
    example = mx.nd.random.uniform(shape=shape)
    net(example)
    return net, example


def fresh(make):
    """``(net, its parameters)`` of another one."""
    net, _ = ready(make)
    return net, network.snapshot(net)
