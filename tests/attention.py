"""Small BERTs for tests; the code is that of ``benchmarks/bert.py``."""
import mxnet as mx
import numpy as np
from bert import Encoder


def encoder(interleaved=False, lengths=False, batch=6, places=10, seed=0):
    """``(net, inputs)``: with random weights, int32 tokens and, if wanted, float32 lengths."""
    mx.random.seed(seed)
    rng = np.random.default_rng(seed)
    net = Encoder(32, 64, 4, 2, places, 50, classes=3, interleaved=interleaved)
    net.initialize(mx.init.Normal(0.2))
    inputs = [mx.nd.array(rng.integers(0, 50, (batch, places)), dtype="int32")]
    if lengths:
        inputs.append(mx.nd.array(rng.integers(2, places + 1, batch)))
    net(*inputs)
    return net, tuple(inputs)
