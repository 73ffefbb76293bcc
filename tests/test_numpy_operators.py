"""MXNet's NumPy operators in classic form: the same shapes, the same bits; and those that have none."""
import gluon_compress  # noqa: F401

import mxnet as mx  # noqa: I001
import numpy as np
import pytest
from gluon_compress.checkpoint.symbol_check import symbol_of_text
from gluon_compress.network.graph import Graph
from gluon_compress.pruning import prune_channels
from gluon_compress.pruning.channels.rules.numpy_interface import NUMPY_RULES
from mxnet import util
from mxnet.gluon import nn, rnn
from networks import Function, Net, assert_close, randomize, values, zero_removed
from numpy_twins import numpy_mode

SHAPES = [(4, 3, 2, 5), (4, 3, 2, 5)]

FLOAT_UNARY = ("negative reciprocal sign rint ceil floor trunc fix exp expm1 log log10 log2 log1p sqrt cbrt square "
               "sin cos tan arcsin arccos arctan sinh cosh tanh arcsinh arctanh degrees radians abs copy").split()
SCALAR = {"+": lambda x: x + 0.3, "-": lambda x: x - 0.3, "r-": lambda x: 0.3 - x, "*": lambda x: x * 0.3,
          "/": lambda x: x / 0.3, "r/": lambda x: 0.3 / x, "%": lambda x: x % 0.3, "r%": lambda x: 0.3 % x,
          "**": lambda x: x ** 0.3, "r**": lambda x: 0.3 ** x, "+ 1": lambda x: x + 1}
CLASSIC = {
    **{name: lambda F, x, y, name=name: getattr(F.np, name)(x) for name in FLOAT_UNARY},
    **{f"x {name}": lambda F, x, y, function=function: function(x) for name, function in SCALAR.items()},
    **{f"{name} {what}": lambda F, x, y, name=name, what=what: getattr(F.np, name)(
        x, y if what == "alike" else y.mean(axis=(0, 2, 3), keepdims=True))
       for name in "add subtract multiply true_divide mod power hypot".split() for what in ("alike", "broadcast")},
    "fewer axes": lambda F, x, y: x + y.mean(axis=(0, 1)),
    "arccosh": lambda F, x, y: F.np.arccosh(x + 1),
    "relu": lambda F, x, y: F.npx.relu(x - 0.5),
    "sigmoid": lambda F, x, y: F.npx.sigmoid(x),
    "zeros_like": lambda F, x, y: F.np.zeros_like(x) + y,
    "ones_like": lambda F, x, y: F.np.ones_like(x) + y,
    "np.reshape": lambda F, x, y: F.np.reshape(x, (4, -1)),
    "reshape to one axis": lambda F, x, y: x.reshape(-1),
    **{f"npx.reshape {codes}": lambda F, x, y, codes=codes: F.npx.reshape(x, codes) for codes in [
        -1, (-2, -1), (-2, -4), (-4,), (-5, -4), (-2, -5, -2), (-6, 2, 2, -4), (-6, -1, 2, -2, -5), (-2, -2, 10),
        (-2, -6, 3, -1, -4), (-1, -5)]},
    "npx.reshape from the right": lambda F, x, y: F.npx.reshape(x, (-1, -2, -2), reverse=True),
    "dropped axes": lambda F, x, y: F.npx.reshape(x[:, :1, :, 2:3], (-2, -3, -2, -3)),
    "transpose": lambda F, x, y: F.np.transpose(x, (0, 2, 3, 1)),
    "reversed axes": lambda F, x, y: F.np.transpose(x),
    "T": lambda F, x, y: x.T,
    "swapaxes": lambda F, x, y: F.np.swapaxes(x, 1, -1),
    **{f"moveaxis {source} {destination}": lambda F, x, y, moved=(source, destination): F.np.moveaxis(x, *moved)
       for source, destination in [(1, -1), (-1, 1), (0, 2), ((0, 1), (2, 3)), ((3, 1), (0, -1)), ((2, 0), (0, 1))]},
    "squeeze": lambda F, x, y: F.np.squeeze(x[:, 1:2], 1),
    "squeeze all": lambda F, x, y: F.np.squeeze(x[:, 1:2]),
    "expand_dims": lambda F, x, y: F.np.expand_dims(x, -1),
    "an index": lambda F, x, y: x[1],
    "a slice": lambda F, x, y: x[:, 1:],
    "slices with steps": lambda F, x, y: x[::2, :, :, 1:4:2],
    "flip": lambda F, x, y: F.np.flip(x, 1),
    "broadcast_to": lambda F, x, y: F.np.broadcast_to(x[:, :, :1], (4, 3, 6, 5)),
    **{f"{mode} pad": lambda F, x, y, mode=mode: F.np.pad(x, ((0, 0), (0, 0), (1, 0), (1, 2)), mode=mode)
       for mode in ("constant", "edge", "reflect")},
    "split": lambda F, x, y: F.np.split(x, 3, axis=1)[1],
    "stack": lambda F, x, y: F.np.stack([x, y], axis=-1),
    "concatenate": lambda F, x, y: F.np.concatenate([x, y], axis=-1),
    "vstack": lambda F, x, y: F.np.vstack([x, y]),
    "column_stack": lambda F, x, y: F.np.column_stack([x.mean(axis=(2, 3)), y.mean(axis=(2, 3))]),
    **{f"{name} {axis} {keep}": lambda F, x, y, name=name, axis=axis, keep=keep: getattr(x, name)(
        axis=axis, keepdims=keep)
       for name in ("mean", "sum", "prod", "max", "min") for axis in (1, (2, 3), (-1,)) for keep in (False, True)},
    "mean of all, kept": lambda F, x, y: x.mean(keepdims=True),
    "matmul of four axes": lambda F, x, y: F.np.matmul(x, F.np.swapaxes(y, 2, 3)),
    "matmul of three": lambda F, x, y: F.np.matmul(x.reshape(12, 2, 5), y.reshape(12, 5, 2)),
    "matmul of two": lambda F, x, y: F.np.matmul(x.reshape(12, 10), y.reshape(10, 12)),
    "dot": lambda F, x, y: F.np.dot(x, y.reshape(5, 24)),
}


def arrays(dtype="float32"):
    random = np.random.RandomState(0)
    return [mx.np.array(random.uniform(0.1, 0.9, shape), dtype=dtype) for shape in SHAPES]


def computed(function, inputs):
    """What a hybridized network of the function gives; not hybridized, MXNet forgets fractions times integers."""
    net = Function(function)
    net.hybridize()
    return net(*inputs)


def graph_of(function, inputs):
    net = Function(function)
    net.initialize()
    return Graph(net, tuple(inputs))


@pytest.fixture(autouse=True)
def in_numpy_mode():
    with numpy_mode():
        yield


@pytest.mark.parametrize("name", CLASSIC)
def test_the_classic_form_computes_the_same_shapes_and_bits_outside_of_numpy_mode(name):
    inputs = arrays()
    expected = computed(CLASSIC[name], inputs)
    graph = graph_of(CLASSIC[name], inputs)
    assert not [node.operator for node in graph.nodes if node.operator.startswith("_np")]
    with util.np_array(False), util.np_shape(False):
        read = {key: value.as_nd_ndarray() for key, value in zip(graph.inputs, inputs)
                if key in graph.symbol.list_inputs()}
        found = graph.symbol.bind(mx.cpu(), read).forward()[0]
    assert found.shape == expected.shape and found.asnumpy().tobytes() == expected.asnumpy().tobytes()


IMAGES, SEQUENCES = (2, 4, 8, 8), (3, 2, 5)
BLOCKS = {
    "dense": (lambda: nn.Dense(3, activation="tanh"), IMAGES),
    "convolution": (lambda: nn.Conv2D(4, 3, activation="relu"), IMAGES),
    "transposed": (lambda: nn.Conv2DTranspose(4, 3), IMAGES), "pooling": (lambda: nn.AvgPool2D(), IMAGES),
    "global pooling": (lambda: nn.GlobalMaxPool2D(), IMAGES), "batch norm": (lambda: nn.BatchNorm(), IMAGES),
    "layer norm": (lambda: nn.LayerNorm(), IMAGES), "embedding": (lambda: nn.Embedding(9, 3), (2, 3)),
    "flatten": (lambda: nn.Flatten(), IMAGES), "dropout": (lambda: nn.Dropout(0.5), IMAGES),
    "leaky relu": (lambda: nn.LeakyReLU(0.1), IMAGES), "prelu": (lambda: nn.PReLU(), IMAGES),
    "elu": (lambda: nn.ELU(), IMAGES), "selu": (lambda: nn.SELU(), IMAGES), "gelu": (lambda: nn.GELU(), IMAGES),
    "swish": (lambda: nn.Swish(), IMAGES), "softplus": (lambda: nn.Activation("softrelu"), IMAGES),
    "function": (lambda: nn.HybridLambda(lambda F, x: F.np.tanh(x)), IMAGES), "rnn": (lambda: rnn.RNN(4), SEQUENCES),
    "lstm": (lambda: rnn.LSTM(4, num_layers=2, layout="NTC"), SEQUENCES),
    "gru": (lambda: rnn.GRU(4, bidirectional=True), SEQUENCES)}


@pytest.mark.parametrize("name", BLOCKS)
def test_gluons_blocks_are_classic_graphs(name):
    make, shape = BLOCKS[name]
    block = make()
    block.initialize()
    x = mx.np.array(np.random.RandomState(0).uniform(0, 1, shape), dtype="float32")
    block(x)
    assert not [node.operator for node in Graph(block, x).nodes if node.operator.startswith("_np")]


STAYS = {
    "an array of shape ()": lambda F, x, y: x + y.mean(),
    "truth values": lambda F, x, y: (x > y) * x,
    "a choice": lambda F, x, y: F.np.where(x > 0.5, x, y),
    "an integer divided": lambda F, x, y: F.np.floor(x * 9).astype("int32") / 2,
    "an integer and a number with a fraction": lambda F, x, y: F.np.floor(x * 9).astype("int32") * 0.5,
    "positions of the largest": lambda F, x, y: F.np.argmax(x, axis=1) * 0.5,
    "flattened first": lambda F, x, y: F.np.concatenate([x, y], axis=None),
    "padded channels": lambda F, x, y: F.np.pad(x, ((0, 0), (1, 1), (0, 0), (0, 0))),
    "batches that broadcast": lambda F, x, y: F.np.matmul(x, y[:, :1].transpose(0, 1, 3, 2)),
    "a sum over indices": lambda F, x, y: F.np.einsum("bcij,bdij->bcd", x, y),
}


@pytest.mark.parametrize("name", STAYS)
def test_what_has_no_classic_form_stays_and_computes_the_same(name):
    inputs = arrays()
    expected = computed(STAYS[name], inputs)
    graph = graph_of(STAYS[name], inputs)
    assert [node.operator for node in graph.nodes if node.operator.startswith("_np")]
    found = graph.symbol.bind(mx.cpu(), {key: value.as_nd_ndarray() for key, value in zip(graph.inputs, inputs)
                                         if key in graph.symbol.list_inputs()}).forward()[0]
    assert found.shape == expected.shape and found.dtype == expected.dtype
    assert found.asnumpy().tobytes() == expected.asnumpy().tobytes()


def test_an_example_of_one_sample_is_one_of_many():
    """What all samples share has one row, as such an example has."""
    def forward(net, F, x, positions, mixing, scale):
        x = (x + positions) * scale
        return F.np.matmul(F.np.matmul(x, mixing), F.np.swapaxes(x, 1, 2)) + F.np.matmul(x, F.np.swapaxes(x, 1, 2))
    net = Net(forward, {"positions": (1, 5, 6), "mixing": (1, 6, 6), "scale": (1, 1, 6)})
    net.initialize(mx.init.Normal(1))
    one, many = (mx.np.random.normal(size=(batch, 5, 6)) for batch in (1, 4))
    graph = Graph(net, one)
    operators = [node.operator for node in graph.nodes]
    assert operators.count("batch_dot") == 2 and operators.count("_npi_matmul") == 1
    for x in (one, many):
        np.testing.assert_array_equal(graph.block(graph.symbol)(x).asnumpy(), net(x).asnumpy())


def test_files_may_hold_what_a_network_of_the_numpy_interface_is_traced_to():
    """Those that other programs write: ours hold classic operators."""
    def traced(block, inputs):
        return block(*(mx.sym.var(name).as_np_ndarray() for name in inputs)).tojson()
    functions = [Function(function) for function in {**CLASSIC, **STAYS}.values()]
    for content in (*(traced(block, ("x", "y")) for block in functions), *(
            traced(network(PASSES[name])[0], ("x",)) for name in PASSES if name != "_npi_norm")):
        assert symbol_of_text(content).list_outputs() == mx.sym.load_json(content).list_outputs()


# What stays, in structured pruning --------------------------------------------------------------------------------

def network(function):
    """stem -> first -> ``function`` -> head, and an input."""
    mx.random.seed(0)
    net = Net(lambda net, F, x: net.head(function(net, F, net.first(net.stem(x)))), stem=nn.Conv2D(4, 3, padding=1),
              first=nn.Conv2D(8, 3, padding=1), other=nn.Conv2D(8, 1, in_channels=8), head=nn.Dense(5))
    net.initialize(mx.init.Normal(0.3))
    x = mx.np.random.normal(size=(2, 3, 6, 6))
    net(x)
    net.other(mx.np.ones((1, 8, 6, 6)))
    randomize(net)
    return net, x


def whole(F, x):
    return F.np.floor(x * 9).astype("int32")


COMPARISONS = "equal not_equal greater greater_equal less less_equal".split()
PASSES = {
    **{f"_npi_{name}": lambda net, F, x, name=name: getattr(F.np, name)(x, net.other(x)) * x for name in COMPARISONS},
    **{f"_npi_{name}_scalar": lambda net, F, x, name=name: getattr(F.np, name)(x, 0.2) * x for name in COMPARISONS},
    **{f"_npi_{name}": lambda net, F, x, name=name: getattr(F.np, name)(x > 0, F.npx.sigmoid(net.other(x)))
       for name in "add multiply true_divide power".split()},
    "_npi_subtract": lambda net, F, x: whole(F, x) - net.other(x),
    "_npi_mod": lambda net, F, x: F.np.mod(whole(F, x), F.npx.sigmoid(net.other(x)) + 0.5),
    **{f"_npi_{name}": lambda net, F, x, name=name: getattr(F.np, name)(x, net.other(x)) for name in ("arctan2",
                                                                                                  "copysign")},
    "_npi_where": lambda net, F, x: F.np.where(x > 0.1, net.other(x), x),
    "_npi_where_lscalar": lambda net, F, x: F.np.where(x > 0.1, 0.5, net.other(x)),
    "_npi_where_rscalar": lambda net, F, x: F.np.where(x > 0.1, net.other(x), 0.5),
    "_npi_where_scalar2": lambda net, F, x: F.np.where(x > 0.1, 0.25, 0.5) * x,
    "_npi_logical_not": lambda net, F, x: F.np.logical_not(x > 0.1) * x,
    **{f"_npi_{name}": lambda net, F, x, name=name: getattr(F.np, name)(x) + x for name in ("isnan", "isinf",
                                                                                          "isfinite")},
    "_npi_nan_to_num": lambda net, F, x: F.np.nan_to_num(x),
    "_npi_around": lambda net, F, x: F.np.around(x, 1),
    "_npi_full_like": lambda net, F, x: F.np.full_like(x, 0.5) * x,
    **{f"_npi_{name}": lambda net, F, x, do=do: do(whole(F, x)).astype("float32") + x for name, do in {
        "add_scalar": lambda x: x + 1, "subtract_scalar": lambda x: x - 1, "rsubtract_scalar": lambda x: 1 - x,
        "multiply_scalar": lambda x: x * 3, "true_divide_scalar": lambda x: x / 3,
        "rtrue_divide_scalar": lambda x: 3 / (x * x + 1)}.items()},
    **{f"_npi_{name}": lambda net, F, x, name=name: getattr(F.np, name)(x, axis=(2, 3)) for name in ("average", "std",
                                                                                                "var")},
    "_npi_norm": lambda net, F, x: F.np.linalg.norm(x, axis=2),
    **{f"_npi_{name}": lambda net, F, x, name=name: getattr(F.np, name)(x, axis=2).astype("float32")
       for name in ("argmax", "argmin")},
    "_npi_pad": lambda net, F, x: F.np.pad(x, ((0, 0), (1, 2), (0, 0), (1, 1))),
}


@pytest.mark.parametrize("name", NUMPY_RULES)
def test_channels_pass_through_what_stays(name):
    """The smaller network computes what the original does with the removed channels set to zero."""
    net, x = network(PASSES[name])
    assert name in {node.operator for node in Graph(net, x).nodes}
    original, _ = network(PASSES[name])
    plan = prune_channels(net, x, 0.5, round_to=1)
    assert set(plan.layers) >= {"stem", "first"} and len(plan.layers["first"]["kept"]) == 4
    zero_removed(original, plan)
    assert_close(net(x), original(x))


@pytest.mark.parametrize("function", [
    lambda net, F, x: F.np.einsum("bcij,dc->bdij", x, F.np.eye(8)), lambda net, F, x: F.np.std(x, axis=1),
    lambda net, F, x: F.np.pad(x, ((0, 0), (1, 0), (0, 0), (0, 0)), mode="edge")])
def test_channels_stay_where_they_meet(function):
    net, x = network(function)
    before = values(net)
    plan = prune_channels(net, x, 0.5, round_to=1)
    assert "first" not in plan.layers and "first" in plan.left_out
    assert values(net)["first.bias"].tobytes() == before["first.bias"].tobytes()

