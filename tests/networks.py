"""Small networks for the tests of the techniques, and comparisons of their parameters."""
import mxnet as mx
import numpy as np
from gluon_compress.network.values import parameters
from mxnet.gluon import Constant, HybridBlock, SymbolBlock, nn


def stacked(*layers):
    """The layers, one after the other."""
    net = nn.HybridSequential()
    net.add(*layers)
    return net


class Function(HybridBlock):
    """A network of one function ``f(F, *inputs)``."""

    def __init__(self, function):
        super().__init__()
        self.function = function

    def hybrid_forward(self, F, *inputs):
        return self.function(F, *inputs)


class Net(HybridBlock):
    """Layers and own parameters by name, put together by ``function(net, F, *inputs, **own parameters)``."""

    def __init__(self, function, shapes=None, **layers):
        super().__init__()
        self.function = function
        with self.name_scope():
            for name, layer in layers.items():
                setattr(self, name, layer)
            for name, shape in (shapes or {}).items():
                setattr(self, name, self.params.get(name, shape=shape))

    def hybrid_forward(self, F, *inputs, **own):
        return self.function(self, F, *inputs, **own)


class NormNet(HybridBlock):
    """VGG-like: two convolutions with BatchNorm, dropout, a hidden dense layer with BatchNorm."""

    def __init__(self, classes=5, **kwargs):
        super().__init__(**kwargs)
        with self.name_scope():
            self.features = nn.HybridSequential()
            self.features.add(
                nn.Conv2D(8, 3, padding=1, use_bias=False), nn.BatchNorm(), nn.Activation("relu"),
                nn.MaxPool2D(2),
                nn.Conv2D(12, 3, padding=1), nn.BatchNorm(), nn.LeakyReLU(0.1), nn.Flatten(), nn.BatchNorm(),
                nn.Dense(16), nn.BatchNorm(), nn.Activation("sigmoid"), nn.Dropout(0.5))
            self.output = nn.Dense(classes)

    def hybrid_forward(self, F, x):
        return self.output(self.features(x))


class Branches(HybridBlock):
    """One convolution read by three layers; the branches are added, and one block is called twice."""

    def __init__(self, **kwargs):
        super().__init__(**kwargs)
        with self.name_scope():
            self.stem = nn.Conv2D(8, 3, activation="relu")
            self.left = nn.Conv2D(6, 3, activation="relu")
            self.right = nn.Conv2D(6, 3, activation="relu")
            self.side = nn.Dense(4)
            self.pool = nn.MaxPool2D(2)
            self.head = nn.Dense(4)

    def hybrid_forward(self, F, x):
        x = self.pool(self.stem(x))
        side = self.side(x)
        return side + self.head(self.pool(self.left(x) + self.right(x)))


class OwnWeight(HybridBlock):
    """Operators called with parameters of the block itself; a position table that is no layer at all."""

    def __init__(self, **kwargs):
        super().__init__(**kwargs)
        with self.name_scope():
            self.conv = nn.Conv2D(6, 3, activation="relu")
            self.mix_weight = self.params.get("mix_weight", shape=(7, 6 * 6 * 6))
            self.positions = self.params.get("positions", shape=(1, 7))
            self.output = nn.Dense(3)

    def hybrid_forward(self, F, x, mix_weight, positions):
        x = F.FullyConnected(F.flatten(self.conv(x)), mix_weight, num_hidden=7, no_bias=True)
        return self.output(F.broadcast_add(F.relu(x), positions))


class SharedWeights(HybridBlock):
    """The second and the third layer are two blocks with the same parameters."""

    def __init__(self, **kwargs):
        super().__init__(**kwargs)
        with self.name_scope():
            self.first = nn.Dense(6, in_units=6, activation="relu")
            self.second = nn.Dense(6, in_units=6, activation="relu")
            self.third = nn.Dense(6, in_units=6, activation="relu", params=self.second.params)
            self.output = nn.Dense(3, in_units=6)

    def hybrid_forward(self, F, x):
        return self.output(self.third(self.second(self.first(x))))


class Assorted(HybridBlock):
    """A transposed convolution with different numbers of channels, a grouped one, an embedding."""

    def __init__(self, **kwargs):
        super().__init__(**kwargs)
        with self.name_scope():
            self.embedding = nn.Embedding(11, 16)
            self.up = nn.Conv2DTranspose(5, 2, strides=2, in_channels=1)
            self.grouped = nn.Conv2D(10, 3, groups=5, in_channels=5)
            self.output = nn.Dense(3)

    def hybrid_forward(self, F, x):
        images = self.embedding(x).reshape((0, 1, 4, 4))
        return self.output(F.relu(self.grouped(self.up(images))))


EXAMPLES = {NormNet: (4, 3, 8, 8), Branches: (4, 2, 12, 12), OwnWeight: (4, 1, 8, 8), SharedWeights: (4, 6),
            Assorted: (4,)}


def build(network, shape=None, seed=0, **arguments):
    """``(net, example)``: initialized with random weights, biases and BatchNorm statistics, and run once."""
    mx.random.seed(seed)
    net = network(**arguments)
    net.initialize(mx.init.Normal(0.3))
    shape = shape or EXAMPLES[network]
    example = mx.nd.arange(shape[0]) if len(shape) == 1 else mx.nd.random.normal(shape=shape)
    net(example)
    randomize(net)
    return net, example


def randomize(net):
    """Random biases, scales and statistics instead of zeros and ones, and an ``order`` of channels; weights stay."""
    for name, parameter in net.collect_params().items():
        if name.endswith("order"):
            parameter.set_data(own(parameter, mx.nd.array(np.random.RandomState(0).permutation(len(parameter.data())))))
        elif parameter.data().ndim == 1 and not isinstance(parameter, Constant):
            low = 0.5 if name.endswith(("var", "gamma")) else -0.3
            parameter.set_data(own(parameter, mx.nd.random.uniform(low, 1.5 if low > 0 else 0.3,
                                                                   shape=parameter.data().shape)))


def own(parameter, array):
    """An NDArray in the parameter's own interface of MXNet."""
    return array.as_np_ndarray() if isinstance(parameter.list_data()[0], mx.np.ndarray) else array


def laid_out_anew(dimensions, seed=0):
    """``(net, example)`` with a convolution in one or three dimensions, whose weight has a layout of oneDNN's now."""
    net = nn.HybridSequential()
    net.add(nn.Conv1D(16, 3) if dimensions == 1 else nn.Conv3D(16, 3), nn.Activation("relu"), nn.Dense(3))
    mx.random.seed(seed)
    net.initialize(mx.init.Normal(0.3))
    example = mx.nd.random.normal(shape=(2, 4, *[32 if dimensions == 1 else 6] * dimensions))
    net(example).wait_to_read()
    return net, example


def fresh(network, **arguments):
    """A copy that was initialized, but has not seen an input yet."""
    net = network(**arguments)
    net.initialize()
    return net


def exported(net, example, directory):
    """``net`` as a SymbolBlock, through the files that ``export`` writes; ``example`` may be a tuple."""
    inputs = example if isinstance(example, tuple) else (example,)
    net.hybridize()
    net(*inputs)
    net.export(str(directory / "net"))
    names = ["data"] if len(inputs) == 1 else [f"data{index}" for index in range(len(inputs))]
    return SymbolBlock.imports(str(directory / "net-symbol.json"), names, str(directory / "net-0000.params"))


def zero_removed(net, plan):
    """Zero all that the plan removes, in the original: what makes the channels, and what reads them."""
    named = parameters(net)
    for cut in plan.slices:
        parameter = named[cut["parameter"]]
        value = parameter.list_data()[0].asnumpy()
        removed = sorted(set(range(cut["before"])) - set(cut["kept"]))
        value[(slice(None),) * cut["axis"] + (removed,)] = 0
        # not set_data(), which fails on weights of 1D and 3D convolutions that oneDNN has laid out anew
        zeroed = mx.init.Constant(own(parameter, mx.nd.array(value, dtype=value.dtype)))
        parameter.shape = value.shape  # a SymbolBlock does not know it
        parameter.initialize(zeroed, parameter.list_ctx(), force_reinit=True)


def assert_close(actual, expected, rtol=1e-4, atol=1e-5):
    """Equal to fp32 rounding, ``atol`` being relative to the largest value; NDArrays, or lists of them."""
    if isinstance(expected, mx.nd.NDArray):
        actual, expected = [actual], [expected]
    assert len(actual) == len(expected)
    for ours, theirs in zip(actual, expected):
        theirs = theirs.asnumpy()
        np.testing.assert_allclose(ours.asnumpy(), theirs, rtol=rtol, atol=atol * np.abs(theirs).max())


def number_of_parameters(net):
    return sum(value.size for value in values(net).values())


def values(net):
    """{structural name: NumPy array}, by Gluon's own walk."""
    mx.nd.waitall()  # a pass that still runs may be laying weights out anew; asnumpy fails in the middle of that
    return {name: parameter.data().asnumpy() for name, parameter in net._collect_params_with_prefix().items()}


def identical(before, after):
    """Same names, shapes, types and bits."""
    return before.keys() == after.keys() and all(
        before[name].dtype == after[name].dtype and before[name].shape == after[name].shape
        and before[name].tobytes() == after[name].tobytes() for name in before)
