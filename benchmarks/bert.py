"""BERT in Gluon, of any size: attention of several heads by batch_dot or by MXNet's interleaved products, GELU."""
import math

from mxnet.gluon import HybridBlock, nn


class EncoderLayer(HybridBlock):
    """Attention and two dense layers, each added to what it reads and normalized; data (batch, places, units)."""

    def __init__(self, units, hidden, heads):
        super().__init__()
        self.units, self.heads = units, heads
        with self.name_scope():
            self.query, self.key, self.value, self.proj, self.ffn2 = (
                nn.Dense(units, flatten=False, in_units=hidden if last else units) for last in (0, 0, 0, 0, 1))
            self.ffn1, self.gelu = nn.Dense(hidden, flatten=False, in_units=units), nn.GELU()
            self.norm1, self.norm2 = nn.LayerNorm(in_channels=units), nn.LayerNorm(in_channels=units)

    def hybrid_forward(self, F, x, mask=None):
        x = self.norm1(x + self.proj(self.attend(F, x, mask)))
        return self.norm2(x + self.ffn2(self.gelu(self.ffn1(x))))

    def attend(self, F, x, mask):
        def heads(y):  # (batch, places, units) -> (batch * heads, places, units / heads)
            return F.reshape(F.transpose(F.reshape(y, (0, 0, self.heads, -1)), (0, 2, 1, 3)), (-3, 0, 0))
        query = heads(self.query(x)) / math.sqrt(self.units / self.heads)
        scores = F.batch_dot(query, heads(self.key(x)), transpose_b=True)
        if mask is not None:
            scores = F.broadcast_add(F.reshape(scores, (-4, -1, self.heads, 0, 0)), mask).reshape((-3, 0, 0))
        mixed = F.batch_dot(F.softmax(scores), heads(self.value(x)))
        return F.reshape(F.transpose(F.reshape(mixed, (-4, -1, self.heads, 0, 0)), (0, 2, 1, 3)), (0, 0, -3))


class InterleavedLayer(EncoderLayer):
    """The same with one dense layer for queries, keys and values, head by head; data (places, batch, units)."""

    def __init__(self, units, hidden, heads):
        super().__init__(units, hidden, heads)
        del self.query, self.key, self.value
        with self.name_scope():
            self.qkv = nn.Dense(3 * units, flatten=False, in_units=units)

    def attend(self, F, x, mask):
        qkv = self.qkv(x)
        scores = F.softmax(F.contrib.interleaved_matmul_selfatt_qk(qkv, heads=self.heads))
        return F.contrib.interleaved_matmul_selfatt_valatt(qkv, scores, heads=self.heads)


class Encoder(HybridBlock):
    """Of tokens (batch, places), and lengths (batch,) if any, the classes of the first place, or its units without."""

    def __init__(self, units=768, hidden=3072, heads=12, layers=12, places=128, words=30522, classes=None,
                 interleaved=False):
        super().__init__()
        self.interleaved = interleaved
        layer = InterleavedLayer if interleaved else EncoderLayer
        with self.name_scope():
            self.words, self.norm = nn.Embedding(words, units), nn.LayerNorm(in_channels=units)
            self.positions = self.params.get("positions", shape=(1, places, units))
            self.layers = nn.HybridSequential()
            self.layers.add(*(layer(units, hidden, heads) for _ in range(layers)))
            self.pooler = nn.Dense(units, activation="tanh", in_units=units)
            self.head = nn.Dense(classes, in_units=units) if classes else None

    def hybrid_forward(self, F, tokens, lengths=None, positions=None):
        x = self.norm(F.broadcast_add(self.words(tokens), positions))
        arguments = ()
        if lengths is not None:
            counts = F.expand_dims(F.contrib.arange_like(F.cast(tokens, "float32"), axis=1), 0)
            beyond = F.broadcast_greater_equal(counts, F.expand_dims(lengths, 1))
            arguments = (F.reshape(beyond * -1e4, (0, 1, 1, -1)),)
        x = F.transpose(x, (1, 0, 2)) if self.interleaved else x
        for layer in self.layers:
            x = layer(x, *arguments)
        first = F.slice_axis(x, axis=0, begin=0, end=1) if self.interleaved else F.slice_axis(x, axis=1, begin=0, end=1)
        pooled = self.pooler(F.reshape(first, (-3, 0)))
        return pooled if self.head is None else self.head(pooled)
