"""allowed_operators.py, symbol_check.py, shape_check.py: what the graph in a file may be before MXNet computes it."""
import ast
import itertools
import json

import gluon_compress as gc

import mxnet as mx  # noqa: I001
import numpy as np
import pytest
from forging import NETWORKS, forge, kind, network_of, taken_apart
from gluon_compress import CheckpointError
from gluon_compress.checkpoint import allowed_operators, symbol_check
from gluon_compress.network import registry
from gluon_compress.files.schema import Malformed
from mxnet.gluon import SymbolBlock, nn
from networks import Net

IMAGE = (2, 3, 8, 8)
FOREIGN = sorted(set(registry.all_names()) - allowed_operators.canonical_names().keys())


def lone(operator, *parameters, first=0, **attributes):
    """The bytes of a file of one operator, which reads an input and ``parameters``, the input at place ``first``."""
    values = {f"p{index}": np.ones(shape, np.float32) for index, shape in enumerate(parameters)}
    links = [[index, 0, 0] for index in range(1, 1 + len(values))]
    links.insert(first, [0, 0, 0])
    return network_of([{"op": operator, "name": "lone", "attrs": attributes, "inputs": links}], values)


def use(path, content):
    path.write_bytes(content)
    return gc.load(path)(mx.nd.random.normal(shape=IMAGE)).asnumpy()


def test_operators_that_are_not_listed_never_reach_mxnet():
    assert {"_Native", "_NDArray", "Custom", "_cvimread", "_cvimdecode", "SVMOutput", "_foreach"} <= set(FOREIGN)
    for operator in (*FOREIGN, "", "x", "\0", "Convolution\0"):
        graph = {"nodes": [{"op": "null", "name": "x", "inputs": []},
                           {"op": operator, "name": "y", "attrs": {"info": "0x1000"}, "inputs": [[0, 0, 0]]}],
                 "heads": [[1, 0, 0]]}
        with pytest.raises(Malformed, match="no file may use this operator"):
            symbol_check.symbol_of_text(json.dumps(graph))


@pytest.mark.parametrize("operator", ["_Native", "_NDArray", "Custom", "_cvimread", "SVMOutput"])
def test_a_file_that_names_such_an_operator_is_refused(tmp_path, operator):
    def change(header, tensors):
        symbol = json.loads(header["graph"]["symbol"])
        node = next(node for node in symbol["nodes"] if node["op"] == "Activation")
        node["op"], node["attrs"] = operator, {"info": "0x1000"}
        header["graph"]["symbol"] = json.dumps(symbol)
    with pytest.raises(CheckpointError, match=f"{operator} .*no file may use this operator"):
        gc.load(forge(tmp_path / "file", "masks and scales", change))


def _attributes():
    """(operator, attribute, MXNet's description of its kind) of all that a file may have."""
    for canonical in sorted(set(allowed_operators.canonical_names().values())):
        for name, kind_of_value in allowed_operators.declared_attributes(canonical).items():
            yield canonical, name, kind_of_value


@pytest.mark.parametrize("value", ["\0", "1; x", "{}", "a" * 20_000, "'", "../x"])
def test_no_attribute_takes_what_is_not_of_its_kind(value):
    for operator, name, _ in _attributes():
        with pytest.raises(Malformed, match=f"attribute {name} is "):
            allowed_operators.check_attributes(operator, {name: value}, operator)


@pytest.mark.parametrize("value", ["0x7f0000001000", str(10**30), str(-10**30), "1e9999x", "(1, 10000000000000)"])
def test_no_number_takes_an_address(value):
    for operator, name, kind_of_value in _attributes():
        number = kind_of_value.startswith(("float", "double", "real_t", "tuple of <float>", "tuple of <double>"))
        if not kind_of_value.startswith("string") and not (number and value.strip("-(").replace(", ", "")[:1] == "1"):
            with pytest.raises(Malformed, match=f"attribute {name} is "):
                allowed_operators.check_attributes(operator, {name: value}, operator)


def test_an_attribute_that_the_operator_has_not_is_refused():
    for canonical in sorted(set(allowed_operators.canonical_names().values())):
        with pytest.raises(Malformed, match="attribute address is unknown to operator"):
            allowed_operators.check_attributes(canonical, {"address": "1"}, canonical)


def _symbol_of(name):
    """The graph in a good file of a kind."""
    _, header, _ = taken_apart(kind(name)[0])
    return json.loads(header["graph"]["symbol"])


def _links(symbol):
    """All links of a graph, and its heads."""
    return [link for node in symbol["nodes"] for link in node["inputs"]] + symbol["heads"]


@pytest.mark.parametrize("name", ["masks and scales", "branches", "operators", "recurrent", "int8"])
def test_links_to_what_is_not_there_are_refused(tmp_path, name):
    for number in range(len(_links(_symbol_of(name)))):
        for position, value in ((1, 9), (0, 10**6), ((0, -1), (1, None), (0, 0.5), (1, 2**31 - 1))[number % 4]):
            def change(header, tensors, number=number, position=position, value=value):
                symbol = json.loads(header["graph"]["symbol"])
                _links(symbol)[number][position] = value
                header["graph"]["symbol"] = json.dumps(symbol)
            with pytest.raises(CheckpointError):
                gc.load(forge(tmp_path / "file", name, change), precision="fp32" if name == "int8" else None)


def test_a_node_reads_only_what_comes_before_it(tmp_path):
    nodes = _symbol_of("branches")["nodes"]
    for index, node in enumerate(nodes):
        for link in range(len(node["inputs"])):
            for other in (index, index + 1, len(nodes) - 1):
                def change(header, tensors, index=index, link=link, other=other):
                    symbol = json.loads(header["graph"]["symbol"])
                    symbol["nodes"][index]["inputs"][link] = [other, 0, 0]
                    header["graph"]["symbol"] = json.dumps(symbol)
                with pytest.raises(CheckpointError, match="does not come before it"):
                    gc.load(forge(tmp_path / "file", "branches", change))


# Of an input of shape (2, 3, 8, 8): what MXNet infers without a look and then reads or writes beyond its arrays, or
# what takes all memory or ends the process; beside it what is right.
BEYOND = {
    "fewer numbers": (lone("Reshape", shape="(8, 4)"), lone("Reshape", shape="(6, 64)")),
    "one number": (lone("Reshape", shape="1"), lone("Reshape", shape="-1")),
    "fewer numbers, NumPy": (lone("_np_reshape", newshape="(7,)"), lone("_np_reshape", newshape="(384,)")),
    "a condition of fewer rows": (lone("where", (1,), IMAGE, first=1), lone("where", (2,), IMAGE, first=1)),
    "a condition of two dimensions": (lone("where", (2, 3), IMAGE, first=1), lone("where", IMAGE, IMAGE, first=1)),
    "an empty condition's place": (lone("where", (1, 1, 1, 1), IMAGE, first=1), lone("where", IMAGE, IMAGE, first=2)),
    "scales of another length": (lone("BatchNorm", (3,), (2,), (3,), (3,)), lone("BatchNorm", *[(3,)] * 4)),
    "statistics of another length": (lone("BatchNorm", *[(2,)] * 4), lone("BatchNorm", *[(8,)] * 4, axis="3")),
    "scales of rows": (lone("LayerNorm", (8,), (4,)), lone("LayerNorm", (8,), (8,))),
    "scales of instances": (lone("InstanceNorm", (3,), (1,)), lone("InstanceNorm", (3,), (3,))),
    "an axis twice": (lone("transpose", axes="(1, 1, 1, 1)"), lone("transpose", axes="(1, 0, 3, 2)")),
    "an axis twice from behind": (lone("transpose", axes="(0, 1, 3, -1)"), lone("transpose", axes="(0, 1, 3, 2)")),
    "a variance of integers": (lone("_npi_var", dtype="int8"), lone("_npi_var", dtype="float64")),
    "integers by zero": (
        network_of([{"op": "Cast", "name": "cast", "attrs": {"dtype": "int32"}, "inputs": [[0, 0, 0]]},
                    {"op": "_div_scalar", "name": "lone", "attrs": {"scalar": "0"}, "inputs": [[1, 0, 0]]}], {}),
        lone("_div_scalar", scalar="2")),
    "a mean of bytes": (
        network_of([{"op": "Cast", "name": "cast", "attrs": {"dtype": "int8"}, "inputs": [[0, 0, 0]]},
                    {"op": "mean", "name": "lone", "attrs": {}, "inputs": [[1, 0, 0]]}], {}), lone("mean")),
    "as many samples as a box is large": (
        lone("_contrib_ROIAlign", (1, 5), pooled_size="(2, 2)", spatial_scale="1"),
        lone("_contrib_ROIAlign", (1, 5), pooled_size="(2, 2)", spatial_scale="1", sample_ratio="2")),
    "no parts": (lone("_split_v2", indices="()"), lone("_split_v2", indices="(0, 1)")),
    "parts of None": (lone("_npi_split", indices="None"), lone("_npi_split", indices="()", sections="2")),
    "a length that is None": (lone("softmax", use_length="None"), lone("softmax", use_length="False")),
    "more than all memory": (lone("tile", reps="(4096, 4096)"), lone("tile", reps="(2, 3)")),
    "more than all memory by padding": (lone("Pad", mode="constant", pad_width="(0,0,0,0,30000,30000,30000,30000)"),
                                        lone("Pad", mode="constant", pad_width="(0, 0, 0, 0, 1, 1, 1, 1)")),
    "more than all memory by itself": (lone("_full", shape="(60000, 60000)", value="1"), lone("relu")),
}


@pytest.mark.parametrize("what", BEYOND)
def test_what_mxnet_takes_on_trust_is_refused(tmp_path, what):
    wrong, right = BEYOND[what]
    with pytest.raises((CheckpointError, ValueError), match="do not fit the network|does not hold what"):
        use(tmp_path / "wrong", wrong)
    assert np.isfinite(use(tmp_path / "right", right)).all()


@pytest.mark.parametrize("content, expected", [
    (lone("Reshape", shape="(6, -1)"), lambda x: x.reshape(6, -1)),
    (lone("where", IMAGE, IMAGE, first=1), lambda x: x),
    (lone("tile", reps="(1, 1, 2, 1)"), lambda x: np.tile(x, (1, 1, 2, 1))),
    (lone("_split_v2", axis="1", indices="()", sections="3"), lambda x: np.split(x, 3, axis=1)[0])])
def test_what_goes_through_computes_what_numpy_does(tmp_path, content, expected):
    (tmp_path / "file").write_bytes(content)
    x = np.random.RandomState(1).rand(*IMAGE).astype(np.float32)
    np.testing.assert_array_equal(gc.load(tmp_path / "file")(mx.nd.array(x)).asnumpy(), expected(x))


def test_a_loaded_network_computes_on_inputs_of_other_shapes_still(tmp_path):
    """What a shape led to is inferred once for each; a later one is looked at again."""
    (tmp_path / "file").write_bytes(lone("Reshape", shape="(8, -1)"))
    net = gc.load(tmp_path / "file")
    for shape in ((2, 4), (4, 4, 4), (8,)):
        assert net(mx.nd.ones(shape)).shape == (8, np.prod(shape) // 8)
    with pytest.raises(ValueError, match=r"inputs of shape \(3, 3\) do not fit the network"):
        net(mx.nd.ones((3, 3)))
    assert net(mx.nd.ones((2, 4))).shape == (8, 1)


@pytest.mark.parametrize("fuse", [lambda net, x: net.optimize_for(x, backend="MKLDNN", static_alloc=True),
                                  lambda net, x: net.hybridize(backend="MKLDNN")], ids=["optimize_for", "hybridize"])
@pytest.mark.parametrize("pruned", [False, True])
def test_a_loaded_network_can_be_fused_and_still_looks_at_shapes(tmp_path, fuse, pruned):
    original, x = gc.params.load("lenet_mnist"), mx.nd.random.uniform(shape=(2, 1, 28, 28))
    gc.save(tmp_path / "file", original, example=x)
    net = gc.load(tmp_path / "file")
    if pruned:
        gc.pruning.prune_channels(net, x, 0.5)
    expected = net(x).asnumpy()
    fuse(net, x)
    for images in (x, mx.nd.concat(x, x, dim=0)):
        np.testing.assert_allclose(net(images).asnumpy()[:2], expected, rtol=1e-5, atol=1e-5)
    assert gc.measure_latency(net, x, repeats=1, warmup=0).execution == "fused"
    with pytest.raises(ValueError, match=r"inputs of shape \(2, 1, 20, 20\) do not fit the network"):
        net(mx.nd.ones((2, 1, 20, 20)))


@pytest.mark.parametrize("name", NETWORKS)
def test_a_good_file_of_each_kind_loads_and_computes(tmp_path, name):
    content, use = kind(name)
    (tmp_path / "file").write_bytes(content)
    assert isinstance(gc.load(tmp_path / "file", precision="fp32"), SymbolBlock)
    assert use(tmp_path / "file") == "loaded"


def image_of(filters, last):
    """``(x, weight, nodes, value)`` of a convolution of x, and of a pooling after it where that is the ``last``."""
    weight = np.random.RandomState(1).randn(filters, 3, 3, 3).astype(np.float32)
    nodes = [{"op": "Convolution", "name": "image", "inputs": [[0, 0, 0], [1, 0, 0]],
              "attrs": {"kernel": "(3, 3)", "num_filter": str(filters), "no_bias": "True"}}]
    x = mx.nd.random.normal(shape=IMAGE)
    value = mx.nd.Convolution(x, mx.nd.array(weight), kernel=(3, 3), num_filter=filters, no_bias=True)
    if last == "Pooling":
        nodes.append({"op": "Pooling", "name": "pool", "inputs": [[2, 0, 0]],
                      "attrs": {"kernel": "(2, 2)", "pool_type": "max"}})
        value = mx.nd.Pooling(value, kernel=(2, 2), pool_type="max")
    return x, weight, nodes, value.asnumpy()


@pytest.mark.parametrize("operator", ["softmax", "log_softmax"])
@pytest.mark.parametrize("before", ["Convolution", "Pooling"])
def test_a_softmax_over_the_width_of_an_image_computes(tmp_path, operator, before):
    """With oneDNN's kernel it would end the process where channels lie in blocks."""
    x, weight, nodes, image = image_of(16, before)
    nodes.append({"op": operator, "name": "lone", "inputs": [[1 + len(nodes), 0, 0]], "attrs": {"axis": "-1"}})
    (tmp_path / "file").write_bytes(network_of(nodes, {"weight": weight}))
    powers = np.exp(image)
    expected = powers / powers.sum(axis=-1, keepdims=True)
    found = gc.load(tmp_path / "file")(x).asnumpy()
    np.testing.assert_allclose(found, expected if operator == "softmax" else np.log(expected), rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("before", ["Convolution", "Pooling"])
@pytest.mark.parametrize("bounds", [
    {"begin": "(None, 0)", "end": "(None, 4)"}, {"begin": "(None, 0)", "end": "(None, 4)", "step": "(1, 1)"},
    {"begin": "(0, 3, 1)", "end": "(1, 7, 3)"}, {"begin": "(None, -4)", "end": "(None, None)"},
    {"begin": "(None, None, 1)", "end": "(None, None, 3)"},
    {"begin": "(None, 6)", "end": "(None, 1)", "step": "(1, -2)"}])
def test_a_slice_of_channels_that_are_no_whole_block_computes(tmp_path, bounds, before):
    """With oneDNN's kernel it would end the process, or fail."""
    x, weight, nodes, image = image_of(8, before)
    nodes.append({"op": "slice", "name": "part", "inputs": [[1 + len(nodes), 0, 0]], "attrs": bounds})
    nodes.append({"op": "relu", "name": "after", "inputs": [[1 + len(nodes), 0, 0]]})
    (tmp_path / "file").write_bytes(network_of(nodes, {"weight": weight}))
    begin, end, step = (ast.literal_eval(bounds.get(name, "(None, None)")) for name in ("begin", "end", "step"))
    parts = tuple(slice(*each) for each in itertools.zip_longest(begin, end, step))
    expected = np.maximum(image[parts], 0)
    np.testing.assert_allclose(gc.load(tmp_path / "file")(x).asnumpy(), expected, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("first", [
    lambda F, x, order: F.take(x, order, axis=1),
    lambda F, x, order: F.take(x, F.arange(3), axis=-3),
    lambda F, x, order: F.pad(x, mode="edge", pad_width=(0, 0, 0, 0, 1, 1, 1, 1)),
    lambda F, x, order: F.slice_axis(x, axis=2, begin=1, end=None),
    lambda F, x, order: F.expand_dims(x, axis=3).squeeze(axis=3),
    lambda F, x, order: F.SwapAxis(x, dim1=2, dim2=3)])
def test_operators_that_do_not_wait_for_the_shape_of_the_input_load_without_a_network(tmp_path, first):
    net = Net(lambda net, F, x, order: net.layer(first(F, x, order)), {"order": (3,)}, layer=nn.Conv2D(4, 3))
    net.initialize()
    image = mx.nd.random.normal(shape=IMAGE)
    net(image)
    net.order.set_data(mx.nd.array([2, 0, 1]))
    gc.save(tmp_path / "file", net)
    np.testing.assert_array_equal(gc.load(tmp_path / "file")(image).asnumpy(), net(image).asnumpy())
